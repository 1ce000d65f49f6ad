//! Verifies a stopped store: the log by itself, the revisions it holds, and the index against it.

use std::sync::Arc;

use daybook_log::disk::Disk;
use daybook_log::disk::sim::SimDisk;
use daybook_log::verify::{Verified, verify as verify_log};
use daybook_log::{OpenError, RecoveredRecord, Segment};
use daybook_model::{EventView, Position};

use crate::index::directory::{self, Holdings};
use crate::index::key::{IdentityState, KeyMap};
use crate::index::sealed::{self, IDS_SUFFIX, INDEX_SUFFIX, Sealed};
use crate::index::table::{BlockCache, BlockWeight};
use crate::index::{Access, Key, KeyHasher};
use crate::read::ReadError;
use crate::record;
use crate::scavenge::trace;

/// What a verified store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The log.
    pub log: Verified,
    /// Streams in it.
    pub streams: u64,
    /// Events that retention has removed: their places are there.
    pub removed: u64,
    /// Index files that were compared with what their segment says.
    pub index_files: u64,
    /// Index files that are missing or differ; the next start rebuilds those it finds damaged.
    pub bad_index_files: Vec<String>,
}

/// How far a verification has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The file that is being read.
    pub file: String,
    /// Bytes read so far.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Why a store is not sound.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log is not.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// A segment or an index file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An event does not have its stream's next revision.
    #[error("the event at position {position} has revision {found} of its stream, not {expected}")]
    Revision {
        /// The event.
        position: Position,
        /// Its revision.
        found: u64,
        /// What it should be.
        expected: u64,
    },
    /// An event is of a form this version does not know.
    #[error("the event at position {position} is of a form this version does not know")]
    Unknown {
        /// The event.
        position: Position,
    },
}

/// Verifies the store on `disk`, which no server uses. Holds a number for each stream in memory.
///
/// # Errors
/// [`VerifyError`] is the first thing that is wrong with the log. Index files that are wrong are
/// listed in the report instead: they can be rebuilt.
pub fn verify(
    disk: &Arc<dyn Disk>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, VerifyError> {
    verify_and_show(disk, progress, &mut |_| {})
}

/// As [`verify`], and shows each event that was not removed, in the order of the log.
///
/// # Errors
/// As there; what was shown before is not to be relied upon then.
pub fn verify_and_show(
    disk: &Arc<dyn Disk>,
    progress: &mut dyn FnMut(Progress),
    event: &mut dyn FnMut(EventView<'_>),
) -> Result<Report, VerifyError> {
    let segments = daybook_log::recovery::load(&**disk, &mut daybook_log::Recovery::default())?;
    let total: u64 = segments.iter().map(|segment| segment.header.size).sum();
    let hasher = segments.first().map(|s| KeyHasher::new(s.header.store_id));
    let mut done = 0;
    let mut revisions: KeyMap<Key, u64> = KeyMap::with_hasher(IdentityState);
    let (mut wrong, mut removed) = (None, 0);
    let log = verify_log(
        &**disk,
        &mut |segment| {
            progress(Progress { file: segment.name.clone(), done, total });
            done += segment.header.size;
        },
        &mut |found| {
            let position = found.position;
            let Some((key, revision)) = hasher.and_then(|hasher| place(&hasher, &found, event))
            else {
                wrong.get_or_insert(VerifyError::Unknown { position });
                return;
            };
            removed += u64::from(found.removed);
            let next = revisions.entry(key).or_default();
            if revision != *next {
                let (found, expected) = (revision, *next);
                wrong.get_or_insert(VerifyError::Revision { position, found, expected });
            }
            *next += 1;
        },
    )?;
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    let mut report = Report {
        log,
        streams: revisions.len() as u64,
        removed,
        index_files: 0,
        bad_index_files: Vec::new(),
    };
    drop(revisions);
    verify_index(disk, &segments, &mut report)?;
    Ok(report)
}

/// The stream of a stored event, and its revision there; none if it is of an unknown form. Shows
/// the event.
fn place(
    hasher: &KeyHasher,
    found: &RecoveredRecord<'_>,
    show: &mut dyn FnMut(EventView<'_>),
) -> Option<(Key, u64)> {
    if found.removed {
        let trace = trace::decode(found.position, found.payload)?;
        return Some((*trace.keys.first()?, trace.hole.revision.0));
    }
    let event = record::view(found.position, found.payload)?;
    show(event);
    Some((hasher.key(crate::index::KeyKind::Stream, event.stream), event.revision.0))
}

fn verify_index(
    disk: &Arc<dyn Disk>,
    segments: &[Arc<Segment>],
    report: &mut Report,
) -> Result<(), VerifyError> {
    let names = disk.list().map_err(ReadError::from)?;
    let cache = Arc::new(BlockCache::with_weighter(1024, 4 * 1024 * 1024, BlockWeight));
    let mut sealed = Vec::new();
    for pair in segments.windows(2) {
        let (segment, end) = (&pair[0], pair[1].header.first);
        let hasher = KeyHasher::new(segment.header.store_id);
        // Written once more, to a disk in memory: it must come out the same, byte for byte.
        let memory: Arc<dyn Disk> = Arc::new(SimDisk::new(0));
        sealed::write(&memory, &sealed::rebuild(segment, &hasher)?).map_err(ReadError::from)?;
        for suffix in [INDEX_SUFFIX, IDS_SUFFIX] {
            let name = sealed::beside(segment, suffix);
            let present = names.binary_search(&name).is_ok();
            if !present && suffix == IDS_SUFFIX {
                continue; // beyond the duplicate window
            }
            report.index_files += 1;
            let same = present && read(&**disk, &name)? == read(&*memory, &name)?;
            if !same {
                report.bad_index_files.push(name);
            }
        }
        let opened = Sealed::open(&*memory, segment.clone(), end, cache.clone());
        if let Some(each) = opened.map_err(ReadError::from)? {
            sealed.push(Arc::new(each));
        }
    }
    verify_directory(disk, &names, &sealed, cache, report)
}

/// Every key of every segment must be in the run that covers it, with its count.
fn verify_directory(
    disk: &Arc<dyn Disk>,
    names: &[String],
    sealed: &[Arc<Sealed>],
    cache: Arc<BlockCache>,
    report: &mut Report,
) -> Result<(), VerifyError> {
    for name in names {
        let Some((first, end)) = directory::parse_run_name(name) else { continue };
        report.index_files += 1;
        let within = |s: &&Arc<Sealed>| s.segment.header.first >= first && s.end <= end;
        let covered: Vec<Arc<Sealed>> = sealed.iter().filter(within).cloned().collect();
        let run = directory::Run::open(&**disk, &covered, cache.clone())?;
        let mut sound = run.as_ref().is_some_and(|run| run.table.name == *name);
        for each in &covered {
            let at = each.segment.header.first;
            let mut last: Option<(Key, u64)> = None;
            let mut check = |key: Key, count: u64| -> Result<(), ReadError> {
                let mut holdings = Holdings::new();
                if let Some(run) = &run {
                    run.holdings(key, Access::Disk, &mut holdings)?;
                }
                sound &= holdings.contains(&(at, count));
                Ok(())
            };
            let mut list = Vec::new();
            each.table.entries(&mut |key, number, value| {
                if key == Key::OFFSETS {
                    return Ok(());
                }
                list.clear();
                crate::index::posting::decode(value, &mut list);
                if let Some((before, count)) = last.filter(|(before, _)| *before != key) {
                    check(before, count)?;
                }
                last = Some((key, u64::from(number) + list.len() as u64));
                Ok(())
            })?;
            if let Some((key, count)) = last {
                check(key, count)?;
            }
        }
        if !sound {
            report.bad_index_files.push(name.clone());
        }
    }
    Ok(())
}

fn read(disk: &dyn Disk, name: &str) -> Result<Vec<u8>, ReadError> {
    let file = disk.open(name)?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes)
}
