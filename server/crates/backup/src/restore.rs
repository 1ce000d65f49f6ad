//! Restores a store from a repository: all of a backup, or up to a position or a time.
//!
//! ```text
//!   plan      which backup, which segments, where the last one is cut: never in a commit
//!   verify    reads every object that is needed
//!   restore   reads them again, into the target
//! ```

use std::sync::Arc;

use daybook_log::backup::{Cut, Origin, OriginFile, put_back, refuse_unless_empty};
use daybook_log::disk::Disk;
use daybook_log::verify::Verified;
use daybook_log::{ChainValue, Sizes};
use daybook_model::{Entropy, Epoch, Position, Timestamp};

use crate::copy::time;
use crate::error::RepositoryError;
use crate::list;
use crate::manifest::{Manifest, SegmentCopy};
use crate::read::{CopyFile, Held, segment};
use crate::repository::{Name, Repository};

/// Nanoseconds that an append may take from its time to its place among what is durable: a backup
/// that is no older has all that was made at a time. Far more than any disk takes, but one that
/// hangs.
const SETTLED_NS: i64 = 10_000_000_000;

/// How much of the log is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// All that a backup holds.
    End,
    /// The commit that holds this position, and all before.
    Position(Position),
    /// The last commit that was made then or earlier, and all before.
    Time(Timestamp),
}

/// What would be restored.
pub struct Plan {
    repository: Arc<Repository>,
    /// The backup.
    pub name: Name,
    /// What it says.
    pub manifest: Manifest,
    /// The segments that are needed, oldest first.
    pub segments: Vec<SegmentCopy>,
    /// Bytes of the last of them that are.
    pub last_size: u64,
    /// How many events there would be.
    pub end: Position,
    /// The time of the last one, where it is known; of all of a backup it is.
    pub last_time: Timestamp,
    chain: ChainValue,
}

impl Plan {
    /// Finds the backup that comes nearest to `until`, or takes the one that is named (by the
    /// beginning of its name in the repository).
    ///
    /// # Errors
    /// [`RepositoryError::NoSuchBackup`] if none holds what is wanted.
    pub fn new(
        repository: &Arc<Repository>,
        until: Until,
        named: Option<&str>,
    ) -> Result<Plan, RepositoryError> {
        let (name, manifest) = found(repository, until, named)?;
        if !repository.can_read(&manifest) {
            let (object, location) = (name.key.clone(), repository.location().to_owned());
            let reason = "it is encrypted; give the key with --identity".to_owned();
            return Err(RepositoryError::Locked { object, location, reason });
        }
        let mut segments = repository.segments(&manifest)?;
        let end = match until {
            Until::End => manifest.end,
            Until::Position(position) => position.0.saturating_add(1),
            Until::Time(time) => {
                // The segment that holds the first event that is later, or the last segment.
                let later = segments.partition_point(|copy| copy.until <= time.0);
                segments.get(later).map_or(manifest.end, |copy| copy.end)
            }
        };
        let needed = segments.partition_point(|copy| copy.first < end).max(1);
        segments.truncate(needed);
        let mut plan = Plan {
            repository: repository.clone(),
            name,
            manifest,
            segments,
            last_size: 0,
            end: Position::FIRST,
            last_time: Timestamp(i64::MIN),
            chain: ChainValue::default(),
        };
        plan.cut(until)?;
        Ok(plan)
    }

    /// Finds where the last segment ends.
    fn cut(&mut self, until: Until) -> Result<(), RepositoryError> {
        loop {
            let last = self.segments.last().ok_or_else(|| {
                self.none("it was made later, or its first commit is the store's own")
            })?;
            let whole = match until {
                Until::End => true,
                Until::Position(position) => last.end <= position.0.saturating_add(1),
                Until::Time(time) => last.until <= time.0,
            };
            if whole {
                self.last_size = last.size;
                self.end = Position(last.end);
                self.last_time = Timestamp(last.until);
                let damaged = || self.repository.damaged(&last.name, "its chain is none");
                self.chain = last.chain_value().ok_or_else(damaged)?;
                return Ok(());
            }
            let file = segment(&self.repository, last)?;
            let mut cut = Cut::before(&file);
            let mut last_time = self.last_time;
            let below = match until {
                Until::Position(position) => Position(position.0 + 1),
                Until::End | Until::Time(_) => Position(last.end),
            };
            cut.advance(&file, below, &mut |commit| {
                let made = time(commit).unwrap_or(last_time);
                let wanted = !matches!(until, Until::Time(time) if made > time);
                if wanted {
                    last_time = made;
                }
                wanted
            })?;
            if cut.end > file.header.first {
                (self.last_size, self.end, self.chain) = (cut.size, cut.end, cut.chain);
                self.last_time = last_time;
                return Ok(());
            }
            // All of it is later.
            self.segments.pop();
        }
    }

    /// Bytes of segments that would be written.
    #[must_use]
    pub fn size(&self) -> u64 {
        let before = self.segments.len().saturating_sub(1);
        self.segments[..before].iter().map(|copy| copy.size).sum::<u64>() + self.last_size
    }

    /// Reads every object that is needed, and compares it with the manifest.
    ///
    /// # Errors
    /// [`RepositoryError`] names the first that is not what was written.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), RepositoryError> {
        let total = self.size();
        let mut done = 0;
        for (i, copy) in self.segments.iter().enumerate() {
            let size = if i + 1 < self.segments.len() { copy.size } else { self.last_size };
            for piece in copy.pieces.iter().take_while(|piece| piece.from < size) {
                self.repository.plain(piece)?;
                done += piece.size.min(size - piece.from);
                progress(done, total);
            }
        }
        Ok(())
    }

    /// Restores to the empty directory `to`. Call [`Plan::verify`] before.
    ///
    /// # Errors
    /// [`RepositoryError`]; the target is empty then, or is not a store and can be removed.
    pub fn restore(
        &self,
        to: &dyn Disk,
        entropy: &dyn Entropy,
        sizes: Sizes,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Epoch, Verified), RepositoryError> {
        refuse_unless_empty(to)?;
        let last = self.segments.len() - 1;
        let held = Held::default();
        let files = self.segments.iter().enumerate().map(|(i, copy)| OriginFile {
            name: copy.name.clone(),
            size: if i < last { copy.size } else { self.last_size },
            file: Arc::new(CopyFile::new(self.repository.clone(), copy.clone(), held.clone())),
        });
        let origin = Origin {
            location: format!("{} in {}", self.name.key, self.repository.location()),
            files: files.collect(),
            epoch: Epoch(self.manifest.epoch),
            end: self.end,
            chain: self.chain,
        };
        Ok(put_back(&origin, to, entropy, sizes, progress)?)
    }

    fn none(&self, reason: &str) -> RepositoryError {
        let location = self.repository.location().to_owned();
        RepositoryError::NoSuchBackup { location, reason: reason.to_owned() }
    }
}

/// The backup to restore from. Of several that hold what is wanted, in the history of the newest,
/// the one that was taken first: it is the nearest to what the store was then, before what later
/// scavenges removed.
fn choose(
    repository: &Repository,
    until: Until,
    named: Option<&str>,
) -> Result<Name, RepositoryError> {
    let none = |reason: String| {
        let location = repository.location().to_owned();
        RepositoryError::NoSuchBackup { location, reason }
    };
    let (names, newest) = list::named_so(repository, named)?;
    let holds = |name: &&Name| match until {
        Until::End => **name == newest,
        Until::Position(position) => name.end > position.0,
        Until::Time(time) => name.taken >= time.0.saturating_add(SETTLED_NS),
    };
    let found = names.iter().filter(|name| name.epoch == newest.epoch).find(holds);
    if let Some(name) = found {
        return Ok(name.clone());
    }
    match until {
        // Times never go back in a log: what follows one that is later is later.
        Until::Time(time) if repository.manifest(&newest)?.tail.until > time.0 => Ok(newest),
        Until::Time(_) => Err(none(
            "all were taken before that time, or less than 10 s after it, and what came after them \
             is not known; restore without --to-time, or to an earlier one"
                .to_owned(),
        )),
        _ => Err(none(format!("the newest ends before position {}", newest.end))),
    }
}

/// The backup to restore from, and what it says.
fn found(
    repository: &Repository,
    until: Until,
    named: Option<&str>,
) -> Result<(Name, Manifest), RepositoryError> {
    let (name, manifest) = list::chosen(repository, || choose(repository, until, named))?;
    Ok((name, manifest?))
}
