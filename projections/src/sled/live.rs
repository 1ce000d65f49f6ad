//! One open sled: its catalog and its generations, and who may write them.
//!
//! INVARIANTS: every call into sled goes through [`guarded`]. A tree is used only under the lock of
//! its generation, and never after that is marked as gone. Who holds the lock of the list takes no
//! generation's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use daybook_cache::{Damage, Fault, Kept, guarded};
use daybook_client::Checkpoint;
use daybook_model::Position;
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use super::codec::{self, ENVELOPE, Entry, PLACE_KEY, Reach};
use super::progress::{Progress, Reached};
use crate::store::{Generation, Parked};
use crate::table::{Row, Table};

/// What the sled is opened for.
pub(super) struct Place {
    pub(super) store: Uuid,
    pub(super) progress: Progress,
    /// Bytes of its page cache.
    pub(super) cache: u64,
}

/// A sled of the store it was opened for.
#[derive(Debug)]
pub(super) struct Live {
    db: sled::Db,
    path: PathBuf,
    catalog: sled::Tree,
    progress: Progress,
    all: Mutex<Generations>,
}

/// By projection and number.
pub(super) type Generations = BTreeMap<(String, u32), Arc<Built>>;

/// One generation.
#[derive(Debug)]
pub(super) struct Built {
    pub(super) number: u32,
    pub(super) entry: Entry,
    pub(super) tree: sled::Tree,
    /// Whether queries see it: the newest of those that do.
    serving: AtomicBool,
    pub(super) now: RwLock<Now>,
    reached: Reached,
}

/// What of a generation moves. Who holds the lock to read it sees tables of that place.
#[derive(Debug)]
pub(super) struct Now {
    pub(super) reach: Reach,
    /// Its tree is no more.
    gone: bool,
    /// Who may write: whoever took over last.
    token: u64,
}

/// A generation, to the writer that took it over.
pub(super) struct TakenOver {
    pub(super) built: Arc<Built>,
    pub(super) token: u64,
    pub(super) reach: Reach,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Committed {
    Done,
    /// Somebody else took over.
    Fenced,
    /// The generation was removed.
    Gone,
}

impl Kept for Live {
    const WHAT: &'static str = "read models";
    type Place = Place;

    fn open(path: &Path, place: &Place) -> Result<Live, Fault> {
        let db = daybook_cache::open(path, place.cache)?;
        match super::opening::checked(&db, place) {
            Ok((catalog, all)) => {
                let all = Mutex::new(all);
                let (path, progress) = (path.to_owned(), place.progress.clone());
                Ok(Live { db, path, catalog, progress, all })
            }
            Err(fault) => {
                daybook_cache::close(db, path);
                Err(fault)
            }
        }
    }

    fn close(self) {
        let Live { db, path, catalog, all, .. } = self;
        for built in all.into_inner().into_values() {
            built.now.write().gone = true;
        }
        drop(catalog);
        daybook_cache::close(db, &path);
    }

    fn abandon(self) {
        for built in self.all.lock().values() {
            built.now.write().gone = true;
        }
        std::mem::forget(self);
    }
}

impl Live {
    /// The generations of a projection, ascending.
    pub(super) fn generations(&self, projection: &str) -> Result<Vec<Generation>, Fault> {
        let paused = self.paused(projection)?;
        let generation = |built: Arc<Built>| Generation {
            number: built.number,
            version: built.entry.version,
            serving: built.is_serving(),
            paused,
            checkpoint: built.now.read().reach.checkpoint.map(Checkpoint),
        };
        Ok(self.own(projection).into_iter().map(generation).collect())
    }

    /// Makes a generation with empty tables.
    pub(super) fn create(
        &self,
        projection: &str,
        version: u32,
        tables: &[Table],
    ) -> Result<u32, Fault> {
        let mut all = self.all.lock();
        let next_key = codec::next_key(projection);
        let stored = guarded("read", || self.catalog.get(&next_key))?;
        let stored = stored.map(|value| ENVELOPE.open::<u32>(&value)).transpose().map_err(fault)?;
        let highest = all.keys().filter(|(name, _)| name == projection).map(|(_, n)| n + 1).max();
        let number = stored.max(highest).unwrap_or(1);
        let mut own = all.iter().filter(|((name, _), _)| name == projection);
        let serving = !own.any(|(_, built)| built.is_serving());
        let layouts = tables.iter().map(|table| (table.name.to_owned(), table.layout())).collect();
        let entry = Entry { version, serving, layouts };
        let tree =
            guarded("open a tree of", || self.db.open_tree(codec::tree_name(projection, number)))?;
        let mut batch = sled::Batch::default();
        batch.insert(codec::catalog_key(projection, number), ENVELOPE.seal(&entry).map_err(fault)?);
        batch.insert(next_key, ENVELOPE.seal(&(number + 1)).map_err(fault)?);
        guarded("write to", || self.catalog.apply_batch(batch))?;
        let built =
            Built::new(number, entry, tree, Reach::default(), &self.progress.of(projection));
        if serving {
            built.reached.send_replace(None);
        }
        all.insert((projection.to_owned(), number), Arc::new(built));
        Ok(number)
    }

    /// Lets a new writer in, and the one before it out. None if there is no such generation.
    pub(super) fn take_over(
        &self,
        projection: &str,
        number: u32,
    ) -> Result<Option<TakenOver>, Fault> {
        let Some(built) = self.built(projection, number) else { return Ok(None) };
        let mut now = built.now.write();
        now.token += 1;
        let (token, reach) = (now.token, now.reach);
        drop(now);
        Ok(Some(TakenOver { built, token, reach }))
    }

    /// Lets queries see this generation and removes all older ones. False if there is none such.
    pub(super) fn serve(&self, projection: &str, number: u32) -> Result<bool, Fault> {
        let Some(built) = self.built(projection, number) else { return Ok(false) };
        let own = self.own(projection);
        let older: Vec<_> = own.into_iter().filter(|other| other.number < number).collect();
        let mut batch = sled::Batch::default();
        let entry = Entry { serving: true, ..built.entry.clone() };
        batch.insert(codec::catalog_key(projection, number), ENVELOPE.seal(&entry).map_err(fault)?);
        for other in &older {
            batch.remove(codec::catalog_key(projection, other.number));
        }
        guarded("write to", || self.catalog.apply_batch(batch))?;
        built.serving.store(true, Ordering::SeqCst);
        for other in older {
            self.forget(projection, other.number)?;
        }
        // Last, so that nobody older says anything after it.
        let now = built.now.read();
        built.reached.send_replace(now.reach.checkpoint.map(Checkpoint));
        Ok(true)
    }

    /// Removes a generation, if it is there.
    pub(super) fn remove(&self, projection: &str, number: u32) -> Result<(), Fault> {
        let key = codec::catalog_key(projection, number);
        guarded("write to", || self.catalog.remove(key))?;
        self.forget(projection, number)
    }

    /// Remembers whether a projection is to pause.
    pub(super) fn set_paused(&self, projection: &str, paused: bool) -> Result<(), Fault> {
        let key = codec::paused_key(projection);
        let value = if paused { Some(ENVELOPE.seal(&true).map_err(fault)?) } else { None };
        guarded("write to", || match value {
            Some(value) => self.catalog.insert(key, value),
            None => self.catalog.remove(key),
        })?;
        // A person said so: it does not wait for the next background write.
        guarded("flush", || self.db.flush())?;
        Ok(())
    }

    /// The row under `key`, as committed. None inside if there is none; none outside if the
    /// generation is gone.
    pub(super) fn row(
        &self,
        built: &Built,
        key: &[u8],
        columns: usize,
    ) -> Result<Option<Option<Row>>, Fault> {
        let now = built.now.read();
        if now.gone {
            return Ok(None);
        }
        let value = guarded("read", || built.tree.get(key))?;
        let row = value.map(|value| codec::open_row(&value, columns));
        row.transpose().map(Some).map_err(fault)
    }

    /// Applies `batch`, which leads to `reach`, if `token` still may.
    pub(super) fn commit(
        &self,
        built: &Built,
        token: u64,
        mut batch: sled::Batch,
        reach: Reach,
    ) -> Result<Committed, Fault> {
        batch.insert(&PLACE_KEY, ENVELOPE.seal(&reach).map_err(fault)?);
        let mut now = built.now.write();
        if now.gone {
            return Ok(Committed::Gone);
        }
        if now.token != token {
            return Ok(Committed::Fenced);
        }
        guarded("write to", || built.tree.apply_batch(batch))?;
        built.reach(&mut now, reach);
        Ok(Committed::Done)
    }

    /// Notes that the rows are as they are at `reach`, too, without writing it. False if it would
    /// have to wait, or `token` may not.
    pub(super) fn pass(built: &Built, token: u64, reach: Reach) -> bool {
        match built.now.try_write() {
            Some(mut now) if !now.gone && now.token == token => {
                built.reach(&mut now, reach);
                true
            }
            _ => false,
        }
    }

    /// How far the generation that serves is, or why none does.
    pub(super) fn reached(
        &self,
        projection: &str,
    ) -> Result<Result<Option<Checkpoint>, String>, Fault> {
        Ok(self.serving(projection).map(|built| built.now.read().reach.checkpoint.map(Checkpoint)))
    }

    /// Parked events of the generation that serves, or why none does.
    pub(super) fn parked(
        &self,
        projection: &str,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Result<Vec<Parked>, String>, Fault> {
        let built = match self.serving(projection) {
            Ok(built) => built,
            Err(reason) => return Ok(Err(reason)),
        };
        let now = built.now.read();
        if now.gone {
            return Ok(Err("it was just removed".to_owned()));
        }
        let from = match after {
            Some(after) => codec::parked_key(after.next()),
            None => codec::parked_prefix().to_vec(),
        };
        let entries = guarded("read", || {
            let range = built.tree.range(from..);
            range.take(limit).collect::<Result<Vec<_>, _>>()
        })?;
        let mut parked = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            parked.push(codec::open_parked(&key, &value).map_err(fault)?);
        }
        Ok(Ok(parked))
    }

    /// The generation that serves, or why none does.
    pub(super) fn serving(&self, projection: &str) -> Result<Arc<Built>, String> {
        let serving = self.own(projection).into_iter().rfind(|built| built.is_serving());
        serving.ok_or_else(|| "nothing of it is built yet".to_owned())
    }

    /// The newest generation, if it does not serve.
    pub(super) fn newest(&self, projection: &str) -> Option<Arc<Built>> {
        self.own(projection).pop().filter(|built| !built.is_serving())
    }

    fn built(&self, projection: &str, number: u32) -> Option<Arc<Built>> {
        self.all.lock().get(&(projection.to_owned(), number)).cloned()
    }

    /// The generations of a projection, ascending.
    fn own(&self, projection: &str) -> Vec<Arc<Built>> {
        let all = self.all.lock();
        let own = all.iter().filter(|((name, _), _)| name == projection);
        own.map(|(_, built)| built.clone()).collect()
    }

    fn paused(&self, projection: &str) -> Result<bool, Fault> {
        guarded("read", || self.catalog.contains_key(codec::paused_key(projection)))
    }

    /// Drops the tree of a generation that is no longer in the catalog.
    fn forget(&self, projection: &str, number: u32) -> Result<(), Fault> {
        let Some(built) = self.all.lock().remove(&(projection.to_owned(), number)) else {
            return Ok(());
        };
        let mut now = built.now.write();
        now.gone = true;
        if built.is_serving() && self.serving(projection).is_err() {
            built.reached.send_replace(None);
        }
        let name = codec::tree_name(projection, number);
        guarded("drop a tree of", || self.db.drop_tree(name))?;
        Ok(())
    }
}

impl Built {
    pub(super) fn new(
        number: u32,
        entry: Entry,
        tree: sled::Tree,
        reach: Reach,
        reached: &Reached,
    ) -> Built {
        let now = RwLock::new(Now { reach, gone: false, token: 0 });
        let serving = AtomicBool::new(entry.serving);
        Built { number, entry, tree, serving, now, reached: reached.clone() }
    }

    fn is_serving(&self) -> bool {
        self.serving.load(Ordering::SeqCst)
    }

    /// Says how far it is.
    fn reach(&self, now: &mut Now, reach: Reach) {
        now.reach = reach;
        if self.is_serving() {
            self.reached.send_replace(reach.checkpoint.map(Checkpoint));
        }
    }

    /// Whether its tree is no more.
    pub(super) fn is_gone(now: &Now) -> bool {
        now.gone
    }
}

/// A value that should be whole and is not.
pub(super) fn fault(damage: Damage) -> Fault {
    Fault(damage.to_string())
}
