//! The committer's half of the write path: one write, one sync, index, publish, answer.
//!
//! Each step is a call of its own, so that a simulation can crash or read between any two.

use std::sync::Arc;
use std::time::Duration;

use daybook_log::planted::{self, Bug};
use daybook_log::{Journal, Placed, WriteError};
use daybook_model::Position;
use daybook_model::append::AppendError;
use parking_lot::RwLockWriteGuard;

use crate::core::{Core, count};
use crate::index::{Entry, EventKeys, Memtable, View};
use crate::maintenance;
use crate::status::Health;
use crate::writer::{Group, Pending, Reply};

/// Sealed segments whose index may still be in memory only. When there are more, the committer
/// writes index files itself before it goes on: that is the back-pressure that bounds memory.
const MEMTABLES_MAX: usize = 3;

/// Events that are indexed before readers of the index are let in.
const INDEX_STEP: u64 = 256;

/// Lists of waiting appends that are kept for the next groups.
const FREE_LEN: usize = 4;

/// Moves the end of the log.
#[derive(Debug)]
pub(crate) struct Committer {
    core: Arc<Core>,
    journal: Journal,
}

impl Committer {
    pub fn new(core: Arc<Core>, journal: Journal) -> Committer {
        Committer { core, journal }
    }

    pub fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    /// Makes `group` durable and visible, and answers it. What could not be written is answered
    /// too; the decider must then be reset to the journal's end.
    pub fn commit(&mut self, mut group: Group) -> Result<(), WriteError> {
        let now = self.core.environment.clock.monotonic();
        for pending in &group.pending {
            self.core.times.wait.add(now.saturating_sub(pending.queued));
        }
        self.core.times.group.add_number(group.pending.len() as u64);
        group.note(|steps| steps.begun = now);
        let written = self.write(&mut group).and_then(|placed| {
            group.note(|steps| steps.written = self.now());
            if planted::is(Bug::AnswerBeforeSync) {
                self.index(&group, &placed);
                self.publish(&mut group);
            }
            self.sync().map(|()| placed)
        });
        group.note(|steps| steps.synced = self.now());
        match written {
            Ok(placed) => {
                let clock = self.core.environment.clock.clone();
                let started = clock.monotonic();
                if planted::is(Bug::PublishBeforeIndex) {
                    self.publish(&mut group);
                }
                self.index(&group, &placed);
                self.publish(&mut group);
                let published = clock.monotonic();
                self.core.times.index.add(published.saturating_sub(started));
                group.note(|steps| steps.published = published);
                self.finish(group);
                Ok(())
            }
            Err(e) => {
                self.refuse(group, &e);
                Err(e)
            }
        }
    }

    fn now(&self) -> Duration {
        self.core.environment.clock.monotonic()
    }

    /// Step one: the bytes go to the active segment. Nothing is durable.
    pub fn write(&mut self, group: &mut Group) -> Result<Placed, WriteError> {
        let clock = self.core.environment.clock.clone();
        let started = clock.monotonic();
        let active = self.journal.active().clone();
        let placed = self.journal.write(&mut group.batch)?;
        if !Arc::ptr_eq(&active, &placed.segment) {
            // There was room for a whole segment. An append that fits the one before says nothing.
            self.core.end_disk_full();
        }
        self.core.times.write.add(clock.monotonic().saturating_sub(started));
        Ok(placed)
    }

    /// Step two: what was written is durable.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        let clock = self.core.environment.clock.clone();
        let started = clock.monotonic();
        self.journal.sync()?;
        self.core.times.sync.add(clock.monotonic().saturating_sub(started));
        Ok(())
    }

    /// Step three: the index knows it.
    pub fn index(&self, group: &Group, placed: &Placed) {
        let view = self.core.view.load();
        if !Arc::ptr_eq(&view.active().segment, &placed.segment) {
            self.begin_memtable(placed);
        }
        let view = self.core.view.load();
        let mut inner = view.active().inner.write();
        let mut ids = self.core.ids.write();
        let mut records = group.batch.records().iter();
        let mut position = group.batch.first();
        let mut locked_at = position;
        for pending in &group.pending {
            if position.0 - locked_at.0 >= INDEX_STEP {
                // Readers wait for these locks: let them in.
                RwLockWriteGuard::bump(&mut inner);
                RwLockWriteGuard::bump(&mut ids);
                locked_at = position;
            }
            let mut nexts = pending.firsts.clone();
            for event in &pending.prepared.events {
                let Some(span) = records.next() else { return };
                let stream = event.stream as usize;
                let born = (nexts[stream] == 0)
                    .then(|| pending.prepared.streams[stream].condition.stream.as_str());
                nexts[stream] += 1;
                let mut first_keys = EventKeys::new();
                if let Some(name) = born {
                    first_keys.extend_from_slice(&event.keys);
                    self.core.hasher.birth_keys(name, &mut first_keys);
                }
                inner.add(&Entry {
                    offset: (placed.offset + span.start as u64) as u32,
                    size: span.size as u32,
                    keys: if born.is_some() { &first_keys } else { &event.keys },
                    id_key: event.id_key,
                    born,
                });
                ids.insert(event.id_key, position);
                position = position.next();
            }
        }
    }

    fn begin_memtable(&self, placed: &Placed) {
        while self.core.view.load().memtables.len() >= MEMTABLES_MAX {
            if let Err(e) = maintenance::seal_oldest(&self.core) {
                tracing::error!(error = %e, "cannot write an index file; keeping it in memory");
                break;
            }
        }
        self.core.note_epoch(&placed.segment);
        let table = Arc::new(Memtable::new(placed.segment.clone()));
        self.core.view.rcu(|view| {
            let mut view = View::clone(view);
            // A segment without events was replaced by one of the same name.
            view.memtables.retain(|other| other.first() != table.first());
            view.memtables.push(table.clone());
            view
        });
        self.core.wake_maintenance();
    }

    /// Step four: readers and the feed see it, out of memory.
    pub fn publish(&self, group: &mut Group) {
        let (first, end) = (group.batch.first(), group.batch.next());
        let (bytes, spans) = group.batch.take();
        count(&self.core.counters.bytes, bytes.len() as u64);
        self.core.tail.push(first, bytes, spans);
        self.core.publish(end);
        self.wake(group);
    }

    /// Wakes who waits for a key that an event of `group` has.
    fn wake(&self, group: &Group) {
        let waiters = &self.core.waiters;
        if waiters.is_empty() {
            return;
        }
        let events = group.pending.iter().flat_map(|pending| pending.prepared.events.iter());
        waiters.wake(events.map(|event| &event.keys));
        let mut births = EventKeys::new();
        for pending in &group.pending {
            for (stream, next) in pending.prepared.streams.iter().zip(&pending.firsts) {
                if *next == 0 && !stream.events.is_empty() {
                    let name = stream.condition.stream.as_str();
                    self.core.hasher.birth_keys(name, &mut births);
                }
            }
        }
        waiters.wake(std::iter::once(&births));
    }

    /// Step five: those who wait are told.
    pub fn finish(&self, mut group: Group) {
        let counters = &self.core.counters;
        let events = group.batch.next().0 - group.batch.first().0;
        count(&counters.appends, group.pending.len() as u64);
        count(&counters.events, events);
        count(&counters.batches, 1);
        for Pending { prepared, appended, answer, .. } in group.pending.drain(..) {
            // A caller that has gone away needs no answer.
            let _ = answer.send(Reply::Written(appended, prepared));
        }
        let mut free = self.core.pending.lock();
        if free.len() < FREE_LEN {
            free.push(group.pending);
        }
        drop(free);
    }

    /// Answers a group that was not made durable.
    pub fn refuse(&self, group: Group, error: &WriteError) {
        let location = self.core.environment.disk.location();
        let error = match error {
            WriteError::Full { reason } => {
                tracing::warn!(reason, "appends are refused until the disk has room");
                self.core.set_health(Health::DiskFull { reason: reason.clone() });
                AppendError::DiskFull { location, reason: reason.clone() }
            }
            // The batch before it was refused, and nothing was written since.
            WriteError::Conflict { .. } => match &*self.core.health.lock() {
                Health::DiskFull { .. } => {
                    let reason = "an append before it was refused".to_owned();
                    AppendError::DiskFull { location, reason }
                }
                _ => AppendError::Overloaded { waiting: group.pending.len() },
            },
            WriteError::Poisoned { reason } => {
                tracing::error!(reason, "a write failed; no more appends in this process");
                self.core.poison(reason.clone());
                AppendError::Unknown { reason: reason.clone() }
            }
        };
        count(&self.core.counters.failures, group.pending.len() as u64);
        // Also for a group that was built on a refused one: appends may wait for its positions.
        self.core.refusals.send_modify(|count| *count += 1);
        for pending in group.pending {
            let _ = pending.answer.send(Reply::Done(Err(error.clone())));
        }
    }

    /// Says in the log that everything is durable, when it falls quiet.
    pub fn watermark(&mut self) {
        if self.journal.needs_watermark()
            && let Err(WriteError::Poisoned { reason }) = self.journal.watermark()
        {
            tracing::error!(reason, "a write failed; no more appends in this process");
            self.core.poison(reason);
        }
    }

    /// Where the log ends, for [`crate::writer::Decider::reset`].
    pub fn end(&self) -> (Position, daybook_log::ChainValue) {
        (self.journal.end(), self.journal.chain())
    }
}
