//! The journal: appends batches at the end of the log, conditionally on where that is.
//!
//! ```text
//!   write(batch)   batch.first == end?  fits?  place, one write        nothing is durable yet
//!   sync()         one fdatasync                                       now it is
//!   watermark()    a frame that says so, when the log falls quiet
//! ```
//!
//! A batch lies in one segment. One that does not fit rolls to the next:
//!
//! ```text
//!   spare: header, sync  ->  active: seal frame, sync  ->  rename spare  ->  sync names  ->  write
//! ```
//!
//! so that only the last segment of a log can ever be torn, and a file that has a segment's name
//! has a durable header and durable zeros.
//!
//! INVARIANT: nothing is written before all that stands before it is durable; a failed write or
//! sync poisons the journal.

use std::sync::Arc;

use daybook_model::{Entropy, Epoch, Position};

use crate::chain::ChainValue;
use crate::disk::{Disk, DiskError};
use crate::frame::{self, Batch, Kind};
use crate::planted::{self, Bug};
use crate::segment::{SEGMENT_HEADER_SIZE, Segment, SegmentHeader};
use crate::spare::{SPARE_NAME, Spare, Spares};

/// Bytes a segment keeps free for its seal frame.
const SEAL_SIZE: u64 = frame::frame_size_of_seal() as u64;

/// How large segments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the first segment: small, so that a new store is made at once.
    pub first: u64,
    /// Bytes of later ones; each is four times as large as the one before, up to this.
    pub max: u64,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes { first: 4 * 1024 * 1024, max: 256 * 1024 * 1024 }
    }
}

impl Sizes {
    pub(crate) fn after(self, size: u64) -> u64 {
        size.saturating_mul(4).min(self.max).max(self.first)
    }
}

/// Where a written batch lies.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Its segment.
    pub segment: Arc<Segment>,
    /// The offset of the batch's first byte.
    pub offset: u64,
}

/// What is known of an append that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The log's end is elsewhere: the batch was built on something that is not there. Nothing was
    /// written.
    #[error("the log ends at {end}, not where the batch begins")]
    Conflict {
        /// Where it ends.
        end: Position,
    },
    /// There is no room for another segment, or the disk does not take one. Nothing was written.
    #[error("no room for another segment: {reason}")]
    Full {
        /// What the disk says.
        reason: String,
    },
    /// The batch may be on the disk, or not, or in part; the journal takes no more.
    #[error("{reason}")]
    Poisoned {
        /// What failed.
        reason: String,
    },
}

/// The end of the log, and the only way to move it.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
    sizes: Sizes,
    spares: Arc<Spares>,
    active: Arc<Segment>,
    /// Where the next frame goes.
    offset: u64,
    /// Whether the active segment has its seal frame: the next write must roll.
    sealed: bool,
    end: Position,
    /// Everything below is durable.
    durable: Position,
    /// Everything below is said to be durable by a durable frame.
    proven: Position,
    chain: ChainValue,
    epoch: Epoch,
    poisoned: Option<String>,
}

/// Where the journal stands when it is opened.
pub(crate) struct Tail {
    pub active: Arc<Segment>,
    pub offset: u64,
    pub sealed: bool,
    pub end: Position,
    pub proven: Position,
    pub chain: ChainValue,
}

impl Journal {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
        sizes: Sizes,
        tail: Tail,
    ) -> Journal {
        let wanted = sizes.after(tail.active.header.size);
        let spares = Arc::new(Spares::new(disk.clone(), wanted, sizes.after(wanted)));
        spares.note_fill(tail.offset, tail.active.header.size);
        let epoch = tail.active.header.epoch;
        Journal {
            disk,
            entropy,
            sizes,
            spares,
            active: tail.active,
            offset: tail.offset,
            sealed: tail.sealed,
            end: tail.end,
            durable: tail.end,
            proven: tail.proven,
            chain: tail.chain,
            epoch,
            poisoned: None,
        }
    }

    /// The position the next event will have.
    #[must_use]
    pub fn end(&self) -> Position {
        self.end
    }

    /// The chain at the end.
    #[must_use]
    pub fn chain(&self) -> ChainValue {
        self.chain
    }

    /// The epoch of what is appended.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The segment that is being written.
    #[must_use]
    pub fn active(&self) -> &Arc<Segment> {
        &self.active
    }

    /// The salt of its records, for [`Batch::new`].
    #[must_use]
    pub fn store_salt(&self) -> u64 {
        self.active.header.store_salt()
    }

    /// Where spares are prepared.
    #[must_use]
    pub fn spares(&self) -> &Arc<Spares> {
        &self.spares
    }

    /// Whether a watermark would say something new.
    #[must_use]
    pub fn needs_watermark(&self) -> bool {
        self.proven < self.durable && self.poisoned.is_none()
    }

    /// Writes `batch` at the end of the log. It is durable after the next [`Journal::sync`], which
    /// must come before the next write.
    ///
    /// # Errors
    /// [`WriteError`] says whether anything was written.
    pub fn write(&mut self, batch: &mut Batch) -> Result<Placed, WriteError> {
        self.check()?;
        if batch.first() != self.end {
            return Err(WriteError::Conflict { end: self.end });
        }
        assert!(self.durable == self.end, "the batch before is durable");
        let size = batch.bytes().len() as u64;
        if self.sealed || self.offset + size + SEAL_SIZE > self.active.header.size {
            self.roll(SEGMENT_HEADER_SIZE as u64 + size + SEAL_SIZE, self.epoch)?;
        }
        let salt = self.active.header.frame_salt();
        batch.place(salt, self.offset, self.durable);
        let placed = Placed { segment: self.active.clone(), offset: self.offset };
        let written = self.active.file.write_at(batch.bytes(), self.offset);
        self.poison_on_error(written)?;
        self.offset += size;
        self.end = batch.next();
        self.chain = batch.chain();
        self.proven = self.durable;
        self.spares.note_fill(self.offset, self.active.header.size);
        Ok(placed)
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// [`WriteError::Poisoned`]: it is not known what is durable.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        self.check()?;
        if !planted::is(Bug::SyncSkipped) {
            let synced = self.active.file.sync();
            if synced.is_err() && planted::is(Bug::FailedSyncRetried) {
                let again = self.active.file.sync();
                self.poison_on_error(again)?;
            } else {
                self.poison_on_error(synced)?;
            }
        }
        self.durable = self.end;
        Ok(())
    }

    /// Writes and syncs a frame that says that everything so far is durable, if none says so yet
    /// and there is room.
    ///
    /// # Errors
    /// [`WriteError::Poisoned`] as for any write.
    pub fn watermark(&mut self) -> Result<(), WriteError> {
        self.check()?;
        if !self.needs_watermark() || self.sealed {
            return Ok(());
        }
        let salt = self.active.header.frame_salt();
        let mark =
            frame::mark(Kind::Watermark, self.end, self.durable, &self.chain, salt, self.offset);
        if self.offset + mark.len() as u64 + SEAL_SIZE > self.active.header.size {
            return Ok(());
        }
        let written = self.active.file.write_at(&mark, self.offset);
        self.poison_on_error(written)?;
        self.offset += mark.len() as u64;
        let synced = self.active.file.sync();
        self.poison_on_error(synced)?;
        self.proven = self.durable;
        Ok(())
    }

    /// Ends the present epoch: what follows is written to a new segment under the next one.
    ///
    /// # Errors
    /// [`WriteError`] says whether anything was written.
    pub fn raise_epoch(&mut self) -> Result<Epoch, WriteError> {
        self.check()?;
        let epoch = Epoch(self.epoch.0 + 1);
        self.roll(0, epoch)?;
        Ok(epoch)
    }

    /// Moves to a new segment of at least `size` bytes.
    fn roll(&mut self, size: u64, epoch: Epoch) -> Result<(), WriteError> {
        let size = size.max(self.spares.wanted());
        let after = self.sizes.after(size);
        let full = |e: DiskError| WriteError::Full { reason: e.to_string() };
        // While the disk has no room for the spare after this one, this one stays in reserve.
        let spares = self.spares.clone();
        let mut claim = spares.claim();
        let spare = claim.take(size).map_err(full)?;
        let free = self.disk.free_space().map_err(full);
        // A segment without events (the process died between making and using it, or two epochs
        // ended at one place) has the new one's name: it is replaced.
        let active = self.active.header.first;
        let replaces = active == self.end && !planted::is(Bug::EmptySegmentNotReplaced);
        let header = SegmentHeader {
            store_id: self.active.header.store_id,
            epoch,
            generation: 0,
            first: self.end,
            previous: if replaces { self.active.header.previous } else { Some(active) },
            size: spare.size,
            salt: self.entropy.bytes(),
            chain: self.chain,
        };
        match free {
            Ok(free) if free >= after => {}
            Ok(free) => {
                claim.put_back(spare);
                let reason =
                    format!("{} has {free} bytes free and needs {after}", self.disk.location());
                return Err(WriteError::Full { reason });
            }
            Err(e) => {
                claim.put_back(spare);
                return Err(e);
            }
        }
        if let Err(e) = begin(&spare, &header) {
            claim.discard(spare);
            return Err(full(e));
        }
        if !replaces {
            self.seal()?;
        }
        let name = header.name();
        let named = self.disk.rename(SPARE_NAME, &name).and_then(|()| {
            if planted::is(Bug::NamesNotSynced) { Ok(()) } else { self.disk.sync_names() }
        });
        self.poison_on_error(named)?;
        self.active = Arc::new(Segment { header, name, file: spare.file });
        self.offset = SEGMENT_HEADER_SIZE as u64;
        self.sealed = false;
        self.epoch = epoch;
        self.spares.want(after, self.sizes.after(after));
        self.spares.note_fill(0, self.active.header.size);
        Ok(())
    }

    fn seal(&mut self) -> Result<(), WriteError> {
        if self.sealed || planted::is(Bug::SealSkipped) {
            return Ok(());
        }
        let salt = self.active.header.frame_salt();
        let seal = frame::mark(Kind::Seal, self.end, self.durable, &self.chain, salt, self.offset);
        let written = self.active.file.write_at(&seal, self.offset);
        self.poison_on_error(written)?;
        let synced = self.active.file.sync();
        self.poison_on_error(synced)?;
        self.sealed = true;
        self.proven = self.durable;
        Ok(())
    }

    fn check(&self) -> Result<(), WriteError> {
        match &self.poisoned {
            None => Ok(()),
            Some(reason) => Err(WriteError::Poisoned { reason: reason.clone() }),
        }
    }

    fn poison_on_error<T>(&mut self, result: Result<T, DiskError>) -> Result<T, WriteError> {
        result.map_err(|e| {
            let reason = e.to_string();
            self.poisoned = Some(reason.clone());
            WriteError::Poisoned { reason }
        })
    }
}

/// Gives a spare its header, durably.
pub(crate) fn begin(spare: &Spare, header: &SegmentHeader) -> Result<(), DiskError> {
    spare.file.write_at(&header.encode(), 0)?;
    if planted::is(Bug::SpareNotSynced) { Ok(()) } else { spare.file.sync() }
}
