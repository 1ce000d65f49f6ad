//! Backup and restore of a whole log.
//!
//! A backup is a directory: the segments, the last one cut after the last frame that it shall
//! hold, and `manifest.json`, which is written last and names each file with its size and its
//! BLAKE3. It can be taken while a server runs: segments only grow, and the cut is a position
//! that is durable.
//!
//! This is what the server sends as a tar file. Repositories (the crate `daybook-backup`) hold the
//! same segments in pieces; they share how far a backup goes into a segment ([`Cut`]) and how a
//! log is put back ([`put_back`]).

mod cut;
mod restore;

use std::sync::Arc;

use daybook_model::{Epoch, Position};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::chain::ChainValue;
use crate::disk::{Disk, DiskError, DiskFile};
use crate::recovery::{self, OpenError, Recovery};
use crate::scan::{Found, Scanner};
use crate::segment::{FORMAT, FORMAT_REWRITTEN, SEGMENT_HEADER_SIZE, SEGMENT_SUFFIX, Segment};

pub use cut::{Commit, Cut};
pub use restore::{Origin, OriginFile, Restored, put_back, restore, unhex};

/// The file that makes a directory a backup.
pub const MANIFEST_NAME: &str = "manifest.json";
/// The version of the manifest that this code writes and reads.
pub const MANIFEST_VERSION: u32 = 1;
/// Bytes of a manifest; a larger one is not read. Enough for a million segments.
const MANIFEST_SIZE_MAX: u64 = 256 * 1024 * 1024;
/// Bytes copied at once.
const STEP: usize = 1024 * 1024;
/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// The newest format among its segments.
    pub format: u32,
    /// The store.
    pub store: Uuid,
    /// The epoch it was in.
    pub epoch: u32,
    /// How many events it holds: the position of the next one.
    pub end: u64,
    /// The chain at the end, in hexadecimal.
    pub chain: String,
    /// Its files, oldest first.
    pub files: Vec<ManifestFile>,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Their BLAKE3, in hexadecimal.
    pub blake3: String,
}

/// Why a backup could not be made, or not be restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log is not sound.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The directory is no backup, or not a complete one.
    #[error("{location} is not a complete backup: {reason}")]
    NotABackup {
        /// The directory.
        location: String,
        /// What is missing.
        reason: String,
    },
    /// A file of the backup is not what was written. Nothing was restored.
    #[error("{file} of the backup in {location} is damaged: {reason}; use another backup")]
    Damaged {
        /// The directory.
        location: String,
        /// The file.
        file: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The target has files already.
    #[error("{location} is not empty ({file}); give an empty directory")]
    NotEmpty {
        /// The directory.
        location: String,
        /// A file in it.
        file: String,
    },
    /// The target has less room than the backup takes.
    #[error("{location} has {free} bytes free, and the backup takes {needed}; make room")]
    NoRoom {
        /// The directory.
        location: String,
        /// What it has.
        free: u64,
        /// What is needed, at least.
        needed: u64,
    },
}

/// One segment of a backup.
#[derive(Clone, Debug)]
pub struct Part {
    segment: Arc<Segment>,
    /// Bytes from its beginning that belong to the backup.
    pub size: u64,
}

impl Part {
    /// Its file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.segment.name
    }

    fn format(&self) -> u32 {
        self.segment.header.format()
    }

    /// Reads some of its bytes.
    ///
    /// # Errors
    /// The disk's.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), DiskError> {
        self.segment.file.read_at(buffer, offset)
    }
}

/// The part of a log that is durable: what a backup may hold.
#[derive(Clone, Debug)]
pub struct Extent {
    /// All of its segments, oldest first.
    pub segments: Vec<Arc<Segment>>,
    /// Every position below is durable.
    pub committed: Position,
}

impl Extent {
    /// All of a stopped store's log.
    ///
    /// # Errors
    /// [`OpenError`] if the log is not sound; an append that was not durable may be torn.
    pub fn of_disk(disk: &dyn Disk) -> Result<Extent, OpenError> {
        let segments = recovery::load(disk, &mut Recovery::default())?;
        let mut committed = segments.last().map_or(Position::FIRST, |s| s.header.first);
        if let Some(last) = segments.last() {
            let mut scanner = Scanner::new(last);
            loop {
                match scanner.step()? {
                    Found::Frame { header, .. } => {
                        committed = Position(header.first.0 + u64::from(header.count));
                    }
                    Found::End { .. } => break,
                    Found::Bad { offset, reason } => {
                        if scanner.proves_durable(offset, committed)? {
                            let (file, position) = (last.name.clone(), committed);
                            return Err(OpenError::Damaged { file, offset, position, reason });
                        }
                        // An append that was never acknowledged.
                        break;
                    }
                }
            }
        }
        Ok(Extent { segments, committed })
    }

    /// The segments that hold events. An empty one holds nothing but the news of its epoch.
    #[must_use]
    pub fn filled(&self) -> &[Arc<Segment>] {
        let empty = |segment: &&Arc<Segment>| {
            segment.header.first >= self.committed && segment.header.previous.is_some()
        };
        &self.segments[..self.segments.len() - self.segments.iter().rev().take_while(empty).count()]
    }

    /// The epoch that the log is in.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.segments.last().map_or(Epoch(0), |segment| segment.header.epoch)
    }
}

fn no_segment() -> OpenError {
    OpenError::Damaged {
        file: "the log".to_owned(),
        offset: 0,
        position: Position::FIRST,
        reason: "it has no segment",
    }
}

/// A backup that is about to be taken: which bytes of which files.
#[derive(Clone, Debug)]
pub struct Backup {
    /// The segments, oldest first.
    pub parts: Vec<Part>,
    store: Uuid,
    epoch: Epoch,
    end: Position,
    chain: ChainValue,
}

impl Backup {
    /// A backup of all of `extent`.
    ///
    /// # Errors
    /// [`OpenError`] if the last segment is not sound up to there.
    pub fn new(extent: &Extent) -> Result<Backup, OpenError> {
        let mut parts: Vec<Part> = extent
            .filled()
            .iter()
            .map(|segment| Part { segment: segment.clone(), size: segment.header.size })
            .collect();
        let last = parts.last_mut().ok_or_else(no_segment)?;
        let mut cut = Cut::before(&last.segment);
        cut.advance(&last.segment, extent.committed, &mut |_| true)?;
        last.size = cut.size;
        let store = last.segment.header.store_id;
        let (epoch, end) = (extent.epoch(), extent.committed);
        Ok(Backup { store, epoch, end, chain: cut.chain, parts })
    }

    /// A backup of a stopped store.
    ///
    /// # Errors
    /// [`OpenError`] if the log is not sound.
    pub fn of_disk(disk: &dyn Disk) -> Result<Backup, OpenError> {
        Backup::new(&Extent::of_disk(disk)?)
    }

    /// Bytes in all.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.size).sum()
    }

    /// The manifest, when the files' hashes are known.
    #[must_use]
    pub fn manifest(&self, hashes: &[String]) -> Manifest {
        let files = self.parts.iter().zip(hashes).map(|(part, blake3)| ManifestFile {
            name: part.name().to_owned(),
            size: part.size,
            blake3: blake3.clone(),
        });
        Manifest {
            version: MANIFEST_VERSION,
            format: self.parts.iter().map(Part::format).max().unwrap_or(FORMAT),
            store: self.store,
            epoch: self.epoch.0,
            end: self.end.0,
            chain: hex(&self.chain),
            files: files.collect(),
        }
    }
}

/// Takes `backup` into the empty directory `to`, then reads it back and compares. `progress` is
/// told the bytes done and all.
///
/// # Errors
/// [`BackupError`]; what was written is not a backup then, because it has no manifest.
pub fn save(
    backup: &Backup,
    to: &dyn Disk,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Manifest, BackupError> {
    refuse_unless_empty(to)?;
    let total = backup.size();
    let mut done = 0;
    let mut hashes = Vec::new();
    for part in &backup.parts {
        let file = to.create(part.name())?;
        let hash =
            copy(part.size, &mut |bytes, at| part.read_at(bytes, at), Some(&*file), &mut |n| {
                done += n;
                progress(done, total);
            })?;
        file.sync()?;
        hashes.push(hash);
    }
    let manifest = backup.manifest(&hashes);
    write_manifest(to, &manifest)?;
    check(to, &mut |_, _| {})?;
    Ok(manifest)
}

/// Writes the manifest, and with it makes the directory a backup.
///
/// # Errors
/// The disk's.
pub fn write_manifest(to: &dyn Disk, manifest: &Manifest) -> Result<(), BackupError> {
    let temporary = format!("{MANIFEST_NAME}.tmp");
    let text = serde_json::to_vec_pretty(manifest).expect("a manifest is plain data");
    let file = to.create(&temporary)?;
    file.write_at(&text, 0)?;
    file.sync()?;
    to.rename(&temporary, MANIFEST_NAME)?;
    to.sync_names()?;
    Ok(())
}

/// Checks that `from` is a complete backup and that each file is what was written.
///
/// # Errors
/// [`BackupError`] names the file.
pub fn check(from: &dyn Disk, progress: &mut dyn FnMut(u64, u64)) -> Result<Manifest, BackupError> {
    let location = from.location();
    let manifest = read_manifest(from)?;
    let total = manifest.files.iter().map(|file| file.size).sum();
    let mut done = 0;
    for expected in &manifest.files {
        let damaged = |reason| BackupError::Damaged {
            location: location.clone(),
            file: expected.name.clone(),
            reason,
        };
        let file = match from.open(&expected.name) {
            Ok(file) => file,
            Err(e) if e.is_not_found() => return Err(damaged("it is missing")),
            Err(e) => return Err(e.into()),
        };
        if file.len()? != expected.size {
            return Err(damaged("it does not have the size that the manifest names"));
        }
        let hash = copy(expected.size, &mut |bytes, at| file.read_at(bytes, at), None, &mut |n| {
            done += n;
            progress(done, total);
        })?;
        if hash != expected.blake3 {
            return Err(damaged("its bytes are not those that the manifest names"));
        }
    }
    Ok(manifest)
}

fn read_manifest(from: &dyn Disk) -> Result<Manifest, BackupError> {
    let location = from.location();
    let not = |reason: String| BackupError::NotABackup { location: location.clone(), reason };
    let file = match from.open(MANIFEST_NAME) {
        Ok(file) => file,
        Err(e) if e.is_not_found() => return Err(not(format!("it has no {MANIFEST_NAME}"))),
        Err(e) => return Err(e.into()),
    };
    let size = file.len()?;
    if size > MANIFEST_SIZE_MAX {
        return Err(not(format!("its manifest has {size} bytes")));
    }
    let mut bytes = vec![0; size as usize];
    file.read_at(&mut bytes, 0)?;
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|e| not(format!("its manifest cannot be read: {e}")))?;
    let known = (FORMAT..=FORMAT_REWRITTEN).contains(&manifest.format);
    if manifest.version != MANIFEST_VERSION || !known {
        let (version, format) = (manifest.version, manifest.format);
        return Err(not(format!("version {version} of format {format} is not known here")));
    }
    let safe = |file: &ManifestFile| {
        crate::segment::parse_name(&file.name, SEGMENT_SUFFIX).is_some()
            && file.size >= SEGMENT_HEADER_SIZE as u64
    };
    if manifest.files.is_empty() || !manifest.files.iter().all(safe) {
        return Err(not("its manifest names files that are not segments".to_owned()));
    }
    Ok(manifest)
}

/// Refuses a target that has files.
///
/// # Errors
/// [`BackupError::NotEmpty`] names one.
pub fn refuse_unless_empty(to: &dyn Disk) -> Result<(), BackupError> {
    match to.list()?.into_iter().next() {
        None => Ok(()),
        Some(file) => Err(BackupError::NotEmpty { location: to.location(), file }),
    }
}

/// Reads bytes at an offset.
type ReadAt<'a> = dyn FnMut(&mut [u8], u64) -> Result<(), DiskError> + 'a;

/// Reads `size` bytes step by step, writes them to `to`, and answers with their BLAKE3.
fn copy(
    size: u64,
    read: &mut ReadAt<'_>,
    to: Option<&dyn DiskFile>,
    done: &mut dyn FnMut(u64),
) -> Result<String, DiskError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; STEP];
    let mut at = 0;
    while at < size {
        let step = (STEP as u64).min(size - at) as usize;
        read(&mut buffer[..step], at)?;
        hasher.update(&buffer[..step]);
        if let Some(to) = to {
            to.write_at(&buffer[..step], at)?;
        }
        at += step as u64;
        done(step as u64);
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn zeros(file: &dyn DiskFile, from: u64, to: u64) -> Result<(), DiskError> {
    let zeros = vec![0; STEP];
    let mut at = from;
    while at < to {
        let step = (STEP as u64).min(to - at);
        file.write_at(&zeros[..step as usize], at)?;
        at += step;
    }
    Ok(())
}

/// `bytes` in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
