//! One open sled: its keys, its stamp, its limits. Knows nothing of directories set aside.
//!
//! INVARIANT: every call into sled goes through [`guarded`], so that neither an error nor a panic
//! of it leaves this file as anything but a [`Fault`]. After one it must be abandoned.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use daybook_cache::{Fault, Kept, guarded};
use daybook_model::{Epoch, Position, Revision, StreamName};
use parking_lot::Mutex;

use super::codec::{self, Record, Stamp, Turn};
use super::limits::{EVICT_BATCH_MAX, Limits};
use super::{Identity, Snapshot};

const STAMP_KEY: [u8; 1] = [0];
const RECORD_PREFIX: u8 = 1;
const TURN_PREFIX: u8 = 2;

/// A sled that reflects the log it was opened for.
#[derive(Debug)]
pub(super) struct Live {
    db: sled::Db,
    path: PathBuf,
    epoch: Epoch,
    limits: Limits,
    /// Held by whoever writes. Readers do not need it.
    stamp: Mutex<Stamp>,
}

/// What was found at or before a revision.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    pub(super) snapshot: Option<Snapshot>,
    /// Records skipped on the way because they were damaged.
    pub(super) damaged: u64,
}

impl Kept for Live {
    const WHAT: &'static str = "snapshots";
    type Place = (Identity, Limits);

    fn open(path: &Path, (identity, limits): &(Identity, Limits)) -> Result<Live, Fault> {
        let db = daybook_cache::open(path, limits.cache)?;
        match stamp_of(&db, *identity) {
            Ok(stamp) => Ok(Live {
                db,
                path: path.to_owned(),
                epoch: identity.epoch,
                limits: *limits,
                stamp: Mutex::new(stamp),
            }),
            Err(fault) => {
                daybook_cache::close(db, path);
                Err(fault)
            }
        }
    }

    fn close(self) {
        daybook_cache::close(self.db, &self.path);
    }

    fn abandon(self) {
        std::mem::forget(self.db);
    }
}

impl Live {
    /// Puts `snapshot`, and lets go what exceeds the limits by it. The log's end is `committed`.
    pub(super) fn put(
        &self,
        stream: &StreamName,
        snapshot: &Snapshot,
        committed: Position,
    ) -> Result<(), Fault> {
        let mut stamp = self.stamp.lock();
        let mut next = *stamp;
        let record = Record {
            stream: stream.as_str(),
            revision: snapshot.revision.0,
            epoch: self.epoch.0,
            position: committed.0,
            sequence: next.sequence,
            schema: snapshot.schema,
            kind: &snapshot.kind,
            data: &snapshot.data,
        };
        let key = record_key(stream, snapshot.revision);
        let value = sealed(&record)?;
        let size = value.len() as u64;
        let mut batch = sled::Batch::default();
        if !self.make_place(stream, snapshot.revision, &mut next, &mut batch)? {
            return Ok(());
        }
        batch.insert(turn_key(next.sequence).as_slice(), sealed(&Turn { key: &key, size })?);
        batch.insert(key, value);
        next.sequence += 1;
        next.entries += 1;
        next.bytes += size;
        next.position = next.position.max(committed.0);
        self.apply(batch, &mut stamp, next)?;
        self.evict(&mut stamp)
    }

    /// The newest snapshot of `stream` whose revision is at most `at_or_before`.
    pub(super) fn latest(
        &self,
        stream: &StreamName,
        at_or_before: Revision,
    ) -> Result<Lookup, Fault> {
        let range = record_key(stream, Revision::FIRST)..=record_key(stream, at_or_before);
        let mut lookup = Lookup::default();
        guarded("read", || {
            for entry in self.db.range(range).rev() {
                let (key, value) = entry?;
                lookup.snapshot = self.believed(stream, &key, &value);
                if lookup.snapshot.is_some() {
                    break;
                }
                lookup.damaged += 1;
                // Its turn to go stays in the totals until it comes.
                self.db.remove(key)?;
            }
            Ok(())
        })?;
        Ok(lookup)
    }

    /// Removes all snapshots of `stream` and says how many there were.
    pub(super) fn delete(&self, stream: &StreamName) -> Result<u64, Fault> {
        let mut stamp = self.stamp.lock();
        let mut next = *stamp;
        let mut batch = sled::Batch::default();
        let found = self.records_of(stream)?;
        for (key, value) in &found {
            let_go(key, value, &mut next, &mut batch);
        }
        if !found.is_empty() {
            self.apply(batch, &mut stamp, next)?;
            // A deletion may be someone's right to be forgotten: it does not wait.
            guarded("flush", || self.db.flush())?;
        }
        Ok(found.len() as u64)
    }

    /// The stream and revision of each snapshot, in order.
    pub(super) fn list(&self) -> Result<Vec<(String, Revision)>, Fault> {
        guarded("read", || {
            let keys = self.db.scan_prefix([RECORD_PREFIX]).keys();
            keys.filter_map(|key| key.map(|key| place_of(&key)).transpose()).collect()
        })
    }

    /// Snapshots kept, and the bytes of their records.
    pub(super) fn totals(&self) -> (u64, u64) {
        let stamp = self.stamp.lock();
        (stamp.entries, stamp.bytes)
    }

    /// Batches the removal of what a snapshot at `revision` replaces or pushes out; false if it
    /// is itself too old to be kept.
    fn make_place(
        &self,
        stream: &StreamName,
        revision: Revision,
        next: &mut Stamp,
        batch: &mut sled::Batch,
    ) -> Result<bool, Fault> {
        let key = record_key(stream, revision);
        let mut kept = self.records_of(stream)?;
        if let Some(at) = kept.iter().position(|(k, _)| *k == key) {
            let (key, value) = kept.remove(at);
            let_go(&key, &value, next, batch);
        }
        let older = kept.iter().filter(|(k, _)| k.as_ref() < key.as_slice()).count();
        if kept.len() - older >= self.limits.per_stream {
            return Ok(false);
        }
        let surplus = (kept.len() + 1).saturating_sub(self.limits.per_stream);
        for (key, value) in kept.iter().take(surplus) {
            let_go(key, value, next, batch);
        }
        Ok(true)
    }

    /// Lets go the longest untouched until the limits hold.
    fn evict(&self, stamp: &mut Stamp) -> Result<(), Fault> {
        while stamp.entries > self.limits.entries || stamp.bytes > self.limits.bytes {
            let mut next = *stamp;
            let mut batch = sled::Batch::default();
            let turns = guarded("read", || {
                self.db
                    .scan_prefix([TURN_PREFIX])
                    .take(EVICT_BATCH_MAX)
                    .collect::<Result<Vec<_>, _>>()
            })?;
            if turns.is_empty() {
                return Err(Fault("it counts snapshots that it does not have".to_owned()));
            }
            for (turn_key, value) in turns {
                if next.entries <= self.limits.entries && next.bytes <= self.limits.bytes {
                    break;
                }
                let turn: Turn<'_> = codec::open(&value).map_err(|e| Fault(e.to_string()))?;
                next.entries = next.entries.saturating_sub(1);
                next.bytes = next.bytes.saturating_sub(turn.size);
                batch.remove(turn.key);
                batch.remove(turn_key);
            }
            self.apply(batch, stamp, next)?;
        }
        Ok(())
    }

    /// Applies `batch` and the stamp `next` in one.
    fn apply(&self, mut batch: sled::Batch, stamp: &mut Stamp, next: Stamp) -> Result<(), Fault> {
        batch.insert(&STAMP_KEY, sealed(&next)?);
        guarded("write to", || self.db.apply_batch(batch))?;
        *stamp = next;
        Ok(())
    }

    /// All records of `stream`, by revision. At most a few.
    fn records_of(&self, stream: &StreamName) -> Result<Vec<(sled::IVec, sled::IVec)>, Fault> {
        let range = record_key(stream, Revision::FIRST)..=record_key(stream, Revision(u64::MAX));
        guarded("read", || self.db.range(range).collect())
    }

    /// The snapshot in `value`, if it is whole and of this key and epoch and not ahead of the log.
    fn believed(&self, stream: &StreamName, key: &[u8], value: &[u8]) -> Option<Snapshot> {
        let record: Record<'_> = codec::open(value).ok()?;
        let revision = Revision(record.revision);
        if record.stream != stream.as_str()
            || record_key(stream, revision) != key
            || record.epoch != self.epoch.0
        {
            return None;
        }
        Some(Snapshot {
            revision,
            schema: record.schema,
            kind: record.kind.to_owned(),
            data: Bytes::copy_from_slice(record.data),
        })
    }
}

/// The stamp of `db`, which is written if there is nothing in it yet.
fn stamp_of(db: &sled::Db, identity: Identity) -> Result<Stamp, Fault> {
    let Some(value) = guarded("read", || db.get(STAMP_KEY))? else {
        if !guarded("read", || Ok(db.is_empty()))? {
            return Err(Fault("it has no stamp".to_owned()));
        }
        let stamp = Stamp {
            store_id: *identity.store_id.as_bytes(),
            epoch: identity.epoch.0,
            position: 0,
            sequence: 0,
            entries: 0,
            bytes: 0,
        };
        let value = sealed(&stamp)?;
        guarded("write to", || db.insert(STAMP_KEY, value).and_then(|_| db.flush()))?;
        return Ok(stamp);
    };
    let stamp: Stamp = codec::open(&value).map_err(|e| Fault(format!("its stamp: {e}")))?;
    if stamp.store_id != *identity.store_id.as_bytes() {
        return Err(Fault(format!(
            "it is of the store {}, this is {}",
            uuid::Uuid::from_bytes(stamp.store_id),
            identity.store_id
        )));
    }
    if stamp.epoch != identity.epoch.0 {
        return Err(Fault(format!("it is of epoch {}, this is {}", stamp.epoch, identity.epoch)));
    }
    if stamp.position > identity.committed.0 {
        return Err(Fault(format!(
            "it reflects the log up to position {}, the log ends at {}",
            stamp.position, identity.committed
        )));
    }
    Ok(stamp)
}

/// Batches the removal of one record and its turn. A damaged record's turn is not known and stays
/// counted until it comes.
fn let_go(key: &[u8], value: &[u8], next: &mut Stamp, batch: &mut sled::Batch) {
    if let Ok(record) = codec::open::<Record<'_>>(value) {
        batch.remove(turn_key(record.sequence).as_slice());
        next.entries = next.entries.saturating_sub(1);
        next.bytes = next.bytes.saturating_sub(value.len() as u64);
    }
    batch.remove(key);
}

/// A stream name has no control characters, so the zero after it keeps `a` apart from `ab`.
pub(super) fn record_key(stream: &StreamName, revision: Revision) -> Vec<u8> {
    let name = stream.as_str().as_bytes();
    let mut key = Vec::with_capacity(1 + name.len() + 1 + 8);
    key.push(RECORD_PREFIX);
    key.extend_from_slice(name);
    key.push(0);
    key.extend_from_slice(&revision.0.to_be_bytes());
    key
}

/// The stream and revision of a [`record_key`]; none if it is no such key.
fn place_of(key: &[u8]) -> Option<(String, Revision)> {
    let (name, revision) = key.get(1..)?.split_last_chunk::<8>()?;
    let name = std::str::from_utf8(name.strip_suffix(&[0])?).ok()?;
    Some((name.to_owned(), Revision(u64::from_be_bytes(*revision))))
}

fn turn_key(sequence: u64) -> [u8; 9] {
    let [a, b, c, d, e, f, g, h] = sequence.to_be_bytes();
    [TURN_PREFIX, a, b, c, d, e, f, g, h]
}

fn sealed(value: &impl bincode::Encode) -> Result<Vec<u8>, Fault> {
    codec::seal(value).map_err(|e| Fault(format!("a value does not encode: {e}")))
}

/// A panic inside sled, for tests.
#[cfg(test)]
pub(super) fn guarded_panic() -> Result<(), Fault> {
    guarded("read", || panic!("planted"))
}

#[cfg(test)]
impl Live {
    /// Changes the bytes of one record, as damage would.
    pub(super) fn overwrite(
        &self,
        stream: &StreamName,
        revision: Revision,
        change: impl FnOnce(&mut Vec<u8>),
    ) {
        let key = record_key(stream, revision);
        let mut value = self.db.get(&key).unwrap().unwrap().to_vec();
        change(&mut value);
        self.db.insert(key, value).unwrap();
    }
}
