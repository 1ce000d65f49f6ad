//! Opens a store: the log first, then the index, which is believed only where it fits the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use daybook_log::disk::Disk;
use daybook_log::planted::{self, Bug};
use daybook_log::{Journal, Recovery, Segment, Sizes, recovery};
use daybook_model::append::Append;
use daybook_model::{ContentType, ExpectedRevision, NewEvent, Position, StreamName, Timestamp};

use crate::core::{Core, Parts};
use crate::index::directory::{self, DIRECTORY_SUFFIX, Run};
use crate::index::ids::{IdWindow, WINDOW_MIN};
use crate::index::memtable::Inner;
use crate::index::sealed::{self, Sealed};
use crate::index::table::{BlockCache, BlockWeight};
use crate::index::{KeyHasher, Memtable, View};
use crate::read::ReadError;
use crate::record;
use crate::store::{Environment, Memory, OpenError};
use crate::tail::Tail;

/// The stream of the store's own first event.
pub(crate) const STORE_STREAM: &str = "$store";
/// The type of the store's own first event.
pub(crate) const STORE_CREATED: &str = "$store-created";

/// A store's parts, before its threads.
pub(crate) struct OpenedStore {
    pub core: Arc<Core>,
    pub journal: Journal,
    pub recovery: Recovery,
    /// The time of the last event.
    pub last_time: Timestamp,
    /// Index files that had to be built.
    pub rebuilt: u64,
}

/// What scanning the active segment collects.
struct Active {
    hasher: Option<KeyHasher>,
    inner: Inner,
    /// Records met before the store's id, which the keys depend on, was known: none in practice.
    last_time: Timestamp,
    unknown: Option<(u64, Position)>,
}

/// Opens the store in `environment`. Where many index files are missing, several threads build them.
pub(crate) fn open(
    environment: Environment,
    sizes: Sizes,
    memory: Memory,
) -> Result<OpenedStore, OpenError> {
    let mut active = Active {
        hasher: store_hasher(&environment)?,
        inner: Inner::default(),
        last_time: Timestamp(i64::MIN),
        unknown: None,
    };
    let disk = environment.disk.clone();
    let opened = recovery::open(disk, environment.entropy.clone(), sizes, &mut |found| {
        // Nothing was removed from it: only sealed segments are rewritten.
        let event = record::view(found.position, found.payload).filter(|_| !found.removed);
        let (Some(event), Some(hasher)) = (event, &active.hasher) else {
            active.unknown = active.unknown.or(Some((found.offset, found.position)));
            return;
        };
        active.last_time = event.time;
        active.inner.add_view(hasher, &event, found.offset as u32, found.size as u32);
    })?;
    let recovery::Opened { journal, segments, recovery } = opened;
    if let Some((offset, position)) = active.unknown {
        return Err(OpenError::Log(recovery::OpenError::Damaged {
            file: journal.active().name.clone(),
            offset,
            position,
            reason: "the event is of a form this version does not know",
        }));
    }
    let hasher = KeyHasher::new(journal.active().header.store_id);
    let blocks = Arc::new(BlockCache::with_weighter(
        (memory.blocks / crate::index::table::BLOCK_SIZE as u64) as usize,
        memory.blocks,
        BlockWeight,
    ));
    let mut index = IndexOpener { environment: &environment, hasher, blocks, rebuilt: 0 };
    if memory.build_threads > 1 {
        index.build_missing(&segments, memory.build_threads)?;
    }
    let mut sealed = index.sealed(&segments)?;
    let runs = index.runs(&mut sealed)?;
    let ids = index.ids(&sealed, &active.inner)?;
    let rebuilt = index.rebuilt;
    let blocks = index.blocks;
    let memtable = Memtable::new(journal.active().clone());
    *memtable.inner.write() = active.inner;
    let core = Core::new(Parts {
        store_id: journal.active().header.store_id,
        store_salt: journal.store_salt(),
        committed: journal.end(),
        view: View::new(sealed, runs, vec![Arc::new(memtable)]),
        ids,
        epochs: epochs(&segments),
        blocks,
        tail: Tail::new(memory.tail),
        spares: journal.spares().clone(),
        environment,
    });
    let core = Arc::new(core);
    let last_time = last_time(&core, active.last_time)?;
    Ok(OpenedStore { core, journal, recovery, last_time, rebuilt })
}

/// The hasher of the store that is there already.
fn store_hasher(environment: &Environment) -> Result<Option<KeyHasher>, OpenError> {
    let segments = recovery::load(&*environment.disk, &mut Recovery::default())?;
    Ok(segments.last().map(|segment| KeyHasher::new(segment.header.store_id)))
}

fn epochs(segments: &[Arc<Segment>]) -> Vec<(Position, daybook_model::Epoch)> {
    let mut epochs: Vec<(Position, daybook_model::Epoch)> = Vec::new();
    for segment in segments {
        if epochs.last().is_none_or(|(_, epoch)| *epoch != segment.header.epoch) {
            epochs.push((segment.header.first, segment.header.epoch));
        }
    }
    epochs
}

/// The time of the last event, which may be in a sealed segment.
fn last_time(core: &Core, active: Timestamp) -> Result<Timestamp, OpenError> {
    let end = core.committed();
    if active.0 != i64::MIN || end.0 == 0 {
        return Ok(active);
    }
    let view = core.view.load();
    let last = Position(end.0 - 1);
    let access = crate::index::Access::Disk;
    let page = match crate::fetch::fetch(core, &view, &[last], access) {
        Err(ReadError::IndexDamaged { .. }) => {
            crate::maintenance::repair_one(core)?;
            crate::fetch::fetch(core, &core.view.load(), &[last], access)?
        }
        other => other?,
    };
    Ok(page.last_time().unwrap_or(active))
}

struct IndexOpener<'a> {
    environment: &'a Environment,
    hasher: KeyHasher,
    blocks: Arc<BlockCache>,
    rebuilt: u64,
}

impl IndexOpener<'_> {
    /// The indexes of all segments but the last; built where they are missing or damaged.
    fn sealed(&mut self, segments: &[Arc<Segment>]) -> Result<Vec<Arc<Sealed>>, OpenError> {
        let disk = &self.environment.disk;
        let mut sealed = Vec::with_capacity(segments.len());
        for pair in segments.windows(2) {
            let (segment, end) = (pair[0].clone(), pair[1].header.first);
            let open = Sealed::open(&**disk, segment.clone(), end, self.blocks.clone());
            let found = match open? {
                Some(found) => found,
                None => self.rebuild(&segment, end)?,
            };
            sealed.push(Arc::new(found));
        }
        Ok(sealed)
    }

    /// Builds the index files of all sealed segments that have none, several at once. An error is
    /// left to [`IndexOpener::sealed`], which meets it again.
    fn build_missing(
        &mut self,
        segments: &[Arc<Segment>],
        threads: usize,
    ) -> Result<(), OpenError> {
        let disk = &self.environment.disk;
        let names = disk.list()?;
        let has_none = |segment: &Segment| {
            let name = sealed::beside(segment, sealed::INDEX_SUFFIX);
            names.binary_search(&name).is_err()
        };
        let missing: Vec<_> = segments.windows(2).filter(|pair| has_none(&pair[0])).collect();
        if missing.len() < 2 {
            return Ok(());
        }
        tracing::warn!(segments = missing.len(), threads, "building the index anew");
        let (next, built) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (hasher, blocks) = (&self.hasher, &self.blocks);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(missing.len()) {
                scope.spawn(|| {
                    while let Some(pair) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if !matches!(
                            build(disk, hasher, blocks, &pair[0], pair[1].header.first),
                            Ok(true)
                        ) {
                            return;
                        }
                        built.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        // A table of postings and a run of the directory each.
        self.rebuilt += 2 * built.into_inner() as u64;
        Ok(disk.sync_names()?)
    }

    /// Builds the index files of a segment that ends at `end`.
    fn rebuild(&mut self, segment: &Arc<Segment>, end: Position) -> Result<Sealed, OpenError> {
        tracing::warn!(segment = segment.name, "building a missing or damaged index");
        let disk = &self.environment.disk;
        let memtable = sealed::rebuild(segment, &self.hasher)?;
        if memtable.next() != end {
            return Err(OpenError::Log(recovery::OpenError::Damaged {
                file: segment.name.clone(),
                offset: 0,
                position: memtable.next(),
                reason: "the segment ends before the next one begins",
            }));
        }
        sealed::write(disk, &memtable)?;
        disk.sync_names()?;
        self.rebuilt += 1;
        let opened = Sealed::open(&**disk, segment.clone(), end, self.blocks.clone())?;
        opened.ok_or_else(|| {
            let reason = format!("cannot read back the index of {}", segment.name);
            OpenError::Read(ReadError::Disk { reason })
        })
    }

    /// Runs of the directory that together cover `sealed`: the largest that fit, new ones for the
    /// rest. Files that are not used are removed.
    fn runs(&mut self, sealed: &mut [Arc<Sealed>]) -> Result<Vec<Arc<Run>>, OpenError> {
        let disk = &self.environment.disk;
        let names = disk.list()?;
        let mut candidates: Vec<(Position, Position)> =
            names.iter().filter_map(|name| directory::parse_run_name(name)).collect();
        // The longest first at each beginning.
        candidates.sort_unstable_by_key(|(first, end)| (*first, std::cmp::Reverse(*end)));
        let mut runs: Vec<Arc<Run>> = Vec::new();
        let mut at = 0;
        while at < sealed.len() {
            let first = sealed[at].segment.header.first;
            let mut found = None;
            for (_, end) in candidates.iter().filter(|(start, _)| *start == first) {
                let Some(len) = sealed[at..].iter().position(|s| s.end == *end) else { continue };
                let covered = &sealed[at..=at + len];
                match Run::open(&**disk, covered, self.blocks.clone()) {
                    Ok(Some(run)) => {
                        found = Some((run, len + 1));
                        break;
                    }
                    Ok(None) | Err(ReadError::IndexDamaged { .. }) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            let (run, len) = match found {
                Some(found) => found,
                None => (self.first_run(&mut sealed[at])?, 1),
            };
            runs.push(Arc::new(run));
            at += len;
        }
        let used = |name: &String| runs.iter().any(|run| run.table.name == **name);
        for name in names.iter().filter(|n| n.ends_with(DIRECTORY_SUFFIX) && !used(n)) {
            disk.remove(name)?;
        }
        // Index files of generations that are no more.
        let tables = |name: &&String| {
            [sealed::INDEX_SUFFIX, sealed::IDS_SUFFIX].iter().any(|suffix| name.ends_with(suffix))
        };
        let beside = |suffix| sealed.iter().map(move |each| sealed::beside(&each.segment, suffix));
        let live: BTreeSet<String> =
            beside(sealed::INDEX_SUFFIX).chain(beside(sealed::IDS_SUFFIX)).collect();
        for name in names.iter().filter(tables).filter(|name| !live.contains(*name)) {
            disk.remove(name)?;
        }
        // Not those of the list above: a run that was just built has used one of them.
        let names = disk.list()?;
        for name in names.iter().filter(|n| n.ends_with(".tmp") && *n != "next.tmp") {
            disk.remove(name)?;
        }
        Ok(runs)
    }

    /// The run of one segment, built from its index, which is built anew if it is damaged.
    fn first_run(&mut self, sealed: &mut Arc<Sealed>) -> Result<Run, OpenError> {
        let disk = &self.environment.disk;
        match directory::write_first(disk, sealed) {
            Err(ReadError::IndexDamaged { .. }) => {
                *sealed = Arc::new(self.rebuild(&sealed.segment, sealed.end)?);
                directory::write_first(disk, sealed)?;
            }
            other => other?,
        }
        disk.sync_names()?;
        self.rebuilt += 1;
        let one = std::slice::from_ref(sealed);
        Run::open(&**disk, one, self.blocks.clone())?.ok_or_else(|| {
            let reason = "cannot read back a directory run just written".to_owned();
            OpenError::Read(ReadError::Disk { reason })
        })
    }

    /// The duplicate window: the newest ids of the sealed segments, and the active one's.
    fn ids(&mut self, sealed: &[Arc<Sealed>], active: &Inner) -> Result<IdWindow, OpenError> {
        let mut window = IdWindow::default();
        if planted::is(Bug::IdWindowLostOnRestart) {
            return Ok(window);
        }
        let disk = &*self.environment.disk;
        let mut wanted = WINDOW_MIN.saturating_sub(active.id_keys.len() as u64);
        let mut from = sealed.len();
        while from > 0 && wanted > 0 {
            from -= 1;
            let each = &sealed[from];
            wanted = wanted.saturating_sub(each.end.0 - each.segment.header.first.0);
        }
        for each in &sealed[from..] {
            let first = each.segment.header.first.0;
            let count = each.end.0 - first;
            let ids = match sealed::read_ids(disk, &each.segment, count)? {
                Some(ids) => ids,
                None => {
                    self.rebuilt += 1;
                    let memtable = sealed::rebuild(&each.segment, &self.hasher)?;
                    sealed::write(&self.environment.disk, &memtable)?;
                    memtable.inner.into_inner().id_keys
                }
            };
            for (i, id) in ids.into_iter().enumerate() {
                window.insert(id, Position(first + i as u64));
            }
        }
        let end = sealed.last().map_or(0, |each| each.end.0);
        for (i, id) in active.id_keys.iter().enumerate() {
            window.insert(*id, Position(end + i as u64));
        }
        Ok(window)
    }
}

/// Builds the index files and the directory run of a segment; false if its log is not as expected.
fn build(
    disk: &Arc<dyn Disk>,
    hasher: &KeyHasher,
    blocks: &Arc<BlockCache>,
    segment: &Arc<Segment>,
    end: Position,
) -> Result<bool, ReadError> {
    let memtable = sealed::rebuild(segment, hasher)?;
    if memtable.next() != end {
        return Ok(false);
    }
    sealed::write(disk, &memtable)?;
    drop(memtable);
    let Some(sealed) = Sealed::open(&**disk, segment.clone(), end, blocks.clone())? else {
        return Ok(false);
    };
    directory::write_first(disk, &Arc::new(sealed))?;
    Ok(true)
}

/// The append of the store's own first event.
pub(crate) fn first_append(core: &Core) -> Append {
    let data = serde_json::json!({
        "store": core.store_id,
        "format": daybook_log::segment::FORMAT,
        "epoch": 0,
    });
    let id = uuid::Builder::from_random_bytes(core.environment.entropy.bytes()).into_uuid();
    let event = NewEvent {
        id,
        event_type: STORE_CREATED.to_owned(),
        content_type: ContentType::Json,
        metadata: bytes::Bytes::new(),
        data: data.to_string().into_bytes().into(),
    };
    let stream = StreamName::new(STORE_STREAM).expect("a valid name");
    Append::to_stream(stream, ExpectedRevision::NoStream, [event])
}
