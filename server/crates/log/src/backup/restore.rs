//! Puts a log back into an empty directory.
//!
//! Everything is written under temporary names, and the names are given newest first: until the
//! oldest segment has its name, the directory is refused because of a gap, so that an interrupted
//! restore is never taken for a store. The last segment is sealed, and an empty one of the next
//! epoch follows it: whoever holds a position of the history that was rewound is told so.

use std::sync::Arc;

use daybook_model::{Entropy, Epoch, Position};

use super::{BackupError, MANIFEST_NAME, Manifest, check, copy, refuse_unless_empty, zeros};
use crate::chain::ChainValue;
use crate::disk::{Disk, DiskFile};
use crate::frame::{self, Kind};
use crate::journal::Sizes;
use crate::recovery::chain_of;
use crate::scan::{Found, Scanner};
use crate::segment::{SEGMENT_HEADER_SIZE, Segment, SegmentHeader};
use crate::verify::{Verified, verify};

/// The least and the number of steps by which a restore raises the epoch; fewer than the 256 that
/// clients can tell apart.
const EPOCH_STEP_MIN: u32 = 1;
const EPOCH_STEPS: u32 = 100;
/// How a file is named until a restore is complete.
const TEMPORARY: &str = ".restore.tmp";

/// A log as a backup has it.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The backup as an operator knows it, for messages.
    pub location: String,
    /// Its segments, oldest first.
    pub files: Vec<OriginFile>,
    /// The epoch it was in.
    pub epoch: Epoch,
    /// How many events it holds.
    pub end: Position,
    /// The chain at the end.
    pub chain: ChainValue,
}

/// One segment of it.
#[derive(Clone, Debug)]
pub struct OriginFile {
    /// Its name.
    pub name: String,
    /// Bytes of it that belong to the log, to the end of a frame.
    pub size: u64,
    /// What they are read from.
    pub file: Arc<dyn DiskFile>,
}

/// A store that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What was restored.
    pub manifest: Manifest,
    /// The epoch that follows.
    pub epoch: Epoch,
    /// The restored log, read once more.
    pub verified: Verified,
}

/// Restores the backup in the directory `from` to the empty directory `to`, and begins the next
/// epoch there.
///
/// # Errors
/// [`BackupError`]; the target is as it was then, unless it is the target that failed.
pub fn restore(
    from: &dyn Disk,
    to: &dyn Disk,
    entropy: &dyn Entropy,
    sizes: Sizes,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Restored, BackupError> {
    refuse_unless_empty(to)?;
    let manifest = check(from, &mut |_, _| {})?;
    let mut files = Vec::with_capacity(manifest.files.len());
    for file in &manifest.files {
        let (name, size) = (file.name.clone(), file.size);
        files.push(OriginFile { file: from.open(&name)?, name, size });
    }
    let chain = unhex(&manifest.chain).ok_or_else(|| BackupError::Damaged {
        location: from.location(),
        file: MANIFEST_NAME.to_owned(),
        reason: "its chain is not a chain value",
    })?;
    let origin = Origin {
        location: from.location(),
        files,
        epoch: Epoch(manifest.epoch),
        end: Position(manifest.end),
        chain,
    };
    let (epoch, verified) = put_back(&origin, to, entropy, sizes, progress)?;
    Ok(Restored { manifest, epoch, verified })
}

/// Writes `origin` to the empty directory `to`, begins the next epoch there, and reads it all
/// again. Answers with that epoch, and what was read.
///
/// # Errors
/// [`BackupError`]; what was written is removed then, as far as the target lets it.
pub fn put_back(
    origin: &Origin,
    to: &dyn Disk,
    entropy: &dyn Entropy,
    sizes: Sizes,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Epoch, Verified), BackupError> {
    refuse_unless_empty(to)?;
    refuse_without_room(origin, to)?;
    let written =
        write(origin, to, progress).and_then(|last| begin_epoch(&last, origin, to, entropy, sizes));
    let next = match written {
        Ok(next) => next,
        Err(error) => {
            clear(to);
            return Err(error);
        }
    };
    let names = origin.files.iter().map(|file| file.name.clone()).chain([next.name()]);
    let names: Vec<String> = names.collect();
    let verified = name_all(&names, to).and_then(|()| read_again(origin, to));
    match verified {
        Ok(verified) => Ok((next.epoch, verified)),
        Err(error) => {
            take_back(&names, to);
            Err(error)
        }
    }
}

/// Gives the segments their names, newest first: see the essay above.
fn name_all(names: &[String], to: &dyn Disk) -> Result<(), BackupError> {
    for (i, name) in names.iter().enumerate().rev() {
        if i == 0 {
            // The oldest makes it a store: not before all others are named for good.
            to.sync_names()?;
        }
        to.rename(&format!("{name}{TEMPORARY}"), name)?;
    }
    Ok(to.sync_names()?)
}

/// Reads the restored log, and compares it with what it shall be.
fn read_again(origin: &Origin, to: &dyn Disk) -> Result<Verified, BackupError> {
    let verified = verify(to, &mut |_| {}, &mut |_| {})?;
    if verified.chain != origin.chain || verified.events != origin.end.0 {
        return Err(BackupError::Damaged {
            location: origin.location.clone(),
            file: MANIFEST_NAME.to_owned(),
            reason: "the restored log does not end where the manifest says",
        });
    }
    Ok(verified)
}

/// Removes a log that is not what was backed up. The oldest segment goes first, for good: what is
/// left is refused, and never taken for a store. If it cannot be removed, nothing is.
fn take_back(names: &[String], to: &dyn Disk) {
    let Some((oldest, others)) = names.split_first() else { return };
    match to.remove(oldest) {
        Err(error) if !error.is_not_found() => return,
        _ => {}
    }
    if to.sync_names().is_ok() {
        for name in others {
            let _ = to.remove(name);
        }
        clear(to);
    }
}

/// Writes all segments under temporary names. Answers with the last.
fn write(
    origin: &Origin,
    to: &dyn Disk,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Segment, BackupError> {
    let total = origin.files.iter().map(|file| file.size).sum();
    let mut done = 0;
    let mut last = None;
    for each in &origin.files {
        let damaged = |reason| BackupError::Damaged {
            location: origin.location.clone(),
            file: each.name.clone(),
            reason,
        };
        let header = Segment::read_header(&*each.file)?
            .map_err(|_| damaged("it has no segment's header that this version knows"))?;
        if header.name() != each.name || header.size < each.size {
            return Err(damaged("its header does not fit the manifest"));
        }
        let target = to.create(&format!("{}{TEMPORARY}", each.name))?;
        copy(each.size, &mut |b, at| each.file.read_at(b, at), Some(&*target), &mut |n| {
            done += n;
            progress(done, total);
        })?;
        zeros(&*target, each.size, header.size)?;
        target.sync()?;
        last = Some(Segment { header, name: each.name.clone(), file: target });
    }
    last.ok_or_else(|| BackupError::NotABackup {
        location: origin.location.clone(),
        reason: "it names no segment".to_owned(),
    })
}

/// Removes what an unfinished restore has written.
fn clear(to: &dyn Disk) {
    // Of an error: the files have names that nothing takes for a store's.
    for name in to.list().unwrap_or_default() {
        if name.ends_with(TEMPORARY) {
            let _ = to.remove(&name);
        }
    }
}

/// Better before an hour of copying than after it.
fn refuse_without_room(origin: &Origin, to: &dyn Disk) -> Result<(), BackupError> {
    let needed = origin.files.iter().map(|file| file.size).sum();
    let free = to.free_space()?;
    if free >= needed {
        return Ok(());
    }
    Err(BackupError::NoRoom { location: to.location(), free, needed })
}

/// Seals the last segment, and makes an empty one of the next epoch.
fn begin_epoch(
    last: &Segment,
    origin: &Origin,
    to: &dyn Disk,
    entropy: &dyn Entropy,
    sizes: Sizes,
) -> Result<SegmentHeader, BackupError> {
    let mut scanner = Scanner::new(last);
    let mut sealed = false;
    let mut chain = last.header.chain;
    let offset = loop {
        match scanner.step()? {
            Found::Frame { header, .. } => {
                sealed = header.kind == Kind::Seal;
                if header.kind.has_records() {
                    chain = chain_of(header.kind, scanner.body()).unwrap_or(chain);
                }
            }
            Found::End { offset } | Found::Bad { offset, .. } => break offset,
        }
    };
    let end = origin.end;
    if !sealed {
        let salt = last.header.frame_salt();
        let seal = frame::mark(Kind::Seal, end, end, &chain, salt, offset);
        last.file.write_at(&seal, offset)?;
        last.file.sync()?;
    }
    // Two restores of one backup are two histories: a step that is drawn tells them apart.
    let step = u32::from(entropy.bytes()[0]) % EPOCH_STEPS;
    let header = SegmentHeader {
        store_id: last.header.store_id,
        epoch: Epoch(origin.epoch.0 + EPOCH_STEP_MIN + step),
        generation: 0,
        first: end,
        previous: Some(last.header.first),
        size: sizes.after(last.header.size),
        salt: entropy.bytes(),
        chain,
    };
    let file = to.create(&format!("{}{TEMPORARY}", header.name()))?;
    file.write_at(&header.encode(), 0)?;
    zeros(&*file, SEGMENT_HEADER_SIZE as u64, header.size)?;
    file.sync()?;
    Ok(header)
}

/// The chain value that `text` spells in hexadecimal.
#[must_use]
pub fn unhex(text: &str) -> Option<ChainValue> {
    let mut value = ChainValue::default();
    let digits = text.is_ascii() && text.len() == 2 * value.len();
    for (byte, pair) in value.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    digits.then_some(value)
}
