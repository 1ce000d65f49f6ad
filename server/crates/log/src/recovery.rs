//! Opens a log: finds its end, and decides what the bytes there are.
//!
//! Only the last segment can be torn, because the one before is sealed durably first. Its frames
//! are walked to the first place that is not a sound frame:
//!
//! ```text
//!   zeros to the end of the file           the log ends here
//!   bad, and a later sound frame says      damage: refuse, name file, offset, position
//!     that this position was durable
//!   bad, and nothing says so               never acknowledged: copy aside, zero, sync
//! ```
//!
//! Sound frames that nothing proves durable are rewritten in place and synced before anything is
//! served: after a failed sync the page cache may hold what the disk does not. They may have been
//! acknowledged, and a power cut can leave garbage where it met a write, so a durable copy is made
//! first (`.tail`), from which the next start puts them back. A mark (watermark, seal) at the very
//! end proves what stands before it, but not itself: it is rewritten, too.
//!
//! The window this leaves: if a sector of the very last batch is damaged *after* it was
//! acknowledged and before the next frame (at most a second later) proved it durable, it looks
//! like a torn tail.

mod generations;

use std::sync::Arc;

use daybook_model::{Entropy, Epoch, Position};
use uuid::Uuid;

use crate::chain::{CHAIN_START, ChainValue};
use crate::checksum::crc;
use crate::disk::{Disk, DiskError};
use crate::frame::{self, Kind};
use crate::journal::{Journal, Sizes, Tail, begin};
use crate::planted::{self, Bug};
use crate::scan::{Found, Scanner};
use crate::segment::{
    BadHeader, FORMAT_REWRITTEN, SEGMENT_HEADER_SIZE, SEGMENT_SUFFIX, Segment, SegmentHeader,
};
use crate::spare::{SPARE_NAME, Spares};

/// How the copy of a torn tail is named.
pub const TORN_SUFFIX: &str = ".torn";
/// How a generation of a segment is named that is not sound, while an older one is.
pub const SET_ASIDE_SUFFIX: &str = ".bad";
/// How the copy of a tail that is being rewritten is named.
const TAIL_SUFFIX: &str = ".tail";
/// Bytes before such a copy: the segment's salt, the tail's offset, its checksum.
const TAIL_HEADER_SIZE: usize = 28;
/// Bytes moved at once when a tail is copied, zeroed or rewritten.
const STEP: usize = 1024 * 1024;

/// An open log.
#[derive(Debug)]
pub struct Opened {
    /// Its end.
    pub journal: Journal,
    /// Its segments, oldest first; the last is the active one.
    pub segments: Vec<Arc<Segment>>,
    /// What was found and done.
    pub recovery: Recovery,
}

/// What opening a log found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Whether there was no log, so that one was made.
    pub created: bool,
    /// Bytes of a torn tail that were copied to a file, and cut.
    pub torn: Option<TornTail>,
    /// Bytes that were rewritten because nothing proved them durable.
    pub rewritten_bytes: u64,
    /// Newer generations of segments that were not sound, and were set aside: the older counts.
    pub set_aside: Vec<String>,
    /// Files that are neither the log's nor the index's; they are left alone.
    pub foreign_files: Vec<String>,
}

/// A tail that was cut: it was never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The segment it was cut from.
    pub segment: String,
    /// Its first byte there.
    pub offset: u64,
    /// Its bytes.
    pub size: u64,
    /// The file it was copied to.
    pub copy: String,
}

/// A record of the active segment, as recovery passes it.
#[derive(Clone, Copy, Debug)]
pub struct RecoveredRecord<'a> {
    /// Its position.
    pub position: Position,
    /// Its offset in the segment.
    pub offset: u64,
    /// Place and body.
    pub payload: &'a [u8],
    /// Bytes of the whole record.
    pub size: usize,
    /// Whether its event was removed: what stands after its place is what the index keeps of it.
    pub removed: bool,
}

impl<'a> RecoveredRecord<'a> {
    pub(crate) fn new(
        position: Position,
        offset: u64,
        record: &frame::Record<'a>,
    ) -> RecoveredRecord<'a> {
        let (payload, size, removed) = (record.payload, record.size, record.is_removed());
        RecoveredRecord { position, offset, payload, size, removed }
    }
}

/// Why a log could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Stored bytes are not what was written, and they had been acknowledged.
    #[error(
        "{file} is damaged at offset {offset} (position {position}): {reason}. Nothing was \
         changed. Restore from a backup, or keep the directory and ask for help"
    )]
    Damaged {
        /// The file.
        file: String,
        /// The byte in it.
        offset: u64,
        /// The first event concerned.
        position: Position,
        /// What is wrong.
        reason: &'static str,
    },
    /// A segment is of a later format.
    #[error(
        "{file} has format {found}; this version of Daybook reads up to {FORMAT_REWRITTEN}. Nothing was \
         changed. Use the version that wrote it, or a newer one"
    )]
    UnknownFormat {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
    },
    /// A segment is encrypted.
    #[error("{file} is encrypted with key {key}; this version of Daybook has no keys")]
    Encrypted {
        /// The file.
        file: String,
        /// The key's number.
        key: u32,
    },
    /// A file has a segment's name but is none, or the directory of a new store is not empty.
    #[error("{location} holds the file {file}, which is not Daybook's: {advice}")]
    ForeignFile {
        /// The directory.
        location: String,
        /// The file.
        file: String,
        /// What to do.
        advice: &'static str,
    },
    /// A segment belongs to another store.
    #[error(
        "{file} belongs to store {found}, the other segments to {expected}: two stores' files are \
         in one directory. Move the ones that do not belong here away"
    )]
    AnotherStore {
        /// The file.
        file: String,
        /// The store it names.
        found: Uuid,
        /// The store the directory belongs to.
        expected: Uuid,
    },
    /// A segment is missing between others.
    #[error(
        "the log has a gap before {file}: the segment that begins at position {missing} is \
         missing. Put it back, or restore from a backup"
    )]
    Gap {
        /// The first file after the gap.
        file: String,
        /// Where the missing one begins.
        missing: Position,
    },
}

/// Opens the log on `disk`, or makes one there, and passes each record of the active segment to
/// `visit`.
///
/// # Errors
/// [`OpenError`] says what is wrong with it; nothing was changed then.
pub fn open(
    disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
    sizes: Sizes,
    visit: &mut dyn FnMut(RecoveredRecord<'_>),
) -> Result<Opened, OpenError> {
    let mut recovery = Recovery::default();
    generations::settle(&*disk, &mut recovery)?;
    let mut segments = load(&*disk, &mut recovery)?;
    if segments.is_empty() {
        segments.push(create(&disk, &*entropy, sizes)?);
        recovery.created = true;
    } else {
        // An unfinished spare is of no use, and its space may be what a full disk needs now.
        match disk.remove(SPARE_NAME) {
            Err(e) if !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
        // A process that was killed may have left a name that no power cut would leave.
        if !planted::is(Bug::NameNotSyncedAtStart) {
            disk.sync_names()?;
        }
    }
    let active = segments.last().expect("there is one").clone();
    put_back(&*disk, &active)?;
    let walk = walk(&active, visit)?;
    let mut scanner = Scanner::new(&active);
    if let Some((offset, reason)) = walk.bad {
        let damaged =
            || OpenError::Damaged { file: active.name.clone(), offset, position: walk.end, reason };
        if walk.sealed {
            return Err(damaged());
        }
        if !planted::is(Bug::DamageTakenForTornTail) && scanner.proves_durable(offset, walk.end)? {
            return Err(damaged());
        }
        recovery.torn = Some(cut(&*disk, &active, &mut scanner, offset)?);
    }
    let unproven = walk.unproven.filter(|_| !planted::is(Bug::UnprovenTailNotRewritten));
    if let Some(from) = unproven {
        let marks_only = walk.unproven_commits == 0 || planted::is(Bug::TailRewrittenWithoutCopy);
        let keep = if marks_only { None } else { Some(keep(&*disk, &active, from, walk.offset)?) };
        recovery.rewritten_bytes = rewrite(&active, from, walk.offset)?;
        if let Some(copy) = keep {
            disk.remove(&copy)?;
        }
    }
    let tail = Tail {
        active,
        offset: walk.offset,
        sealed: walk.sealed,
        end: walk.end,
        proven: walk.proven,
        chain: walk.chain,
    };
    let journal = Journal::new(disk, entropy, sizes, tail);
    Ok(Opened { journal, segments, recovery })
}

/// Opens the headers of all segments, oldest first, and checks that they follow one another.
///
/// # Errors
/// [`OpenError`] names the file.
pub fn load(disk: &dyn Disk, recovery: &mut Recovery) -> Result<Vec<Arc<Segment>>, OpenError> {
    let names = disk.list()?;
    let files = generations::files(&names, recovery);
    if files.is_empty() {
        let stray = names.into_iter().find(|name| name != SPARE_NAME);
        let advice = "give a new store an empty directory, or move the file away";
        return match stray {
            Some(file) => Err(OpenError::ForeignFile { location: disk.location(), file, advice }),
            None => Ok(Vec::new()),
        };
    }
    let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(files.len());
    for first in files.keys() {
        let (segment, _) = generations::choose(disk, &files, *first)?;
        follows(segments.last(), &segment)?;
        segments.push(Arc::new(segment));
    }
    Ok(segments)
}

fn open_segment(disk: &dyn Disk, name: String, first: Position) -> Result<Segment, OpenError> {
    let file = disk.open(&name)?;
    let damaged =
        |file: String, reason| OpenError::Damaged { file, offset: 0, position: first, reason };
    let header = match Segment::read_header(&*file)? {
        Ok(header) => header,
        Err(BadHeader::UnknownFormat(found)) => {
            return Err(OpenError::UnknownFormat { file: name, found });
        }
        Err(BadHeader::Encrypted(key)) => return Err(OpenError::Encrypted { file: name, key }),
        Err(BadHeader::Foreign) => {
            let location = disk.location();
            let advice = "it has a segment's name but not its contents; move it away";
            return Err(OpenError::ForeignFile { location, file: name, advice });
        }
        Err(BadHeader::Damaged) => return Err(damaged(name, "the segment's header is damaged")),
    };
    if header.name() != name {
        return Err(damaged(name, "the segment's header names another segment"));
    }
    if file.len()? != header.size {
        return Err(damaged(name, "the segment does not have the length it was made with"));
    }
    Ok(Segment { header, name, file })
}

fn follows(before: Option<&Arc<Segment>>, segment: &Segment) -> Result<(), OpenError> {
    let (expected_store, expected_previous) = match before {
        Some(before) => (before.header.store_id, Some(before.header.first)),
        None => (segment.header.store_id, None),
    };
    if segment.header.store_id != expected_store {
        return Err(OpenError::AnotherStore {
            file: segment.name.clone(),
            found: segment.header.store_id,
            expected: expected_store,
        });
    }
    if segment.header.previous != expected_previous {
        let missing = segment.header.previous.unwrap_or(Position::FIRST);
        return Err(OpenError::Gap { file: segment.name.clone(), missing });
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    [".idx", ".ids", ".dir", ".tmp", TORN_SUFFIX, TAIL_SUFFIX, SET_ASIDE_SUFFIX]
        .iter()
        .any(|suffix| name.ends_with(suffix))
}

fn create(
    disk: &Arc<dyn Disk>,
    entropy: &dyn Entropy,
    sizes: Sizes,
) -> Result<Arc<Segment>, OpenError> {
    let spare = Spares::new(disk.clone(), sizes.first, 0).claim().take(sizes.first)?;
    let header = SegmentHeader {
        store_id: uuid::Builder::from_random_bytes(entropy.bytes()).into_uuid(),
        epoch: Epoch(0),
        generation: 0,
        first: Position::FIRST,
        previous: None,
        size: spare.size,
        salt: entropy.bytes(),
        chain: CHAIN_START,
    };
    begin(&spare, &header)?;
    let name = header.name();
    disk.rename(SPARE_NAME, &name)?;
    disk.sync_names()?;
    Ok(Arc::new(Segment { header, name, file: spare.file }))
}

/// What walking the active segment found.
struct Walk {
    /// Where the sound frames end.
    offset: u64,
    end: Position,
    chain: ChainValue,
    sealed: bool,
    /// Below this, a frame says that everything is durable.
    proven: Position,
    /// The offset of the first frame of which nothing says so.
    unproven: Option<u64>,
    /// How many of those are commits.
    unproven_commits: usize,
    /// What stands behind the sound frames, if it is not zeros.
    bad: Option<(u64, &'static str)>,
}

fn walk(segment: &Segment, visit: &mut dyn FnMut(RecoveredRecord<'_>)) -> Result<Walk, OpenError> {
    let mut scanner = Scanner::new(segment);
    let first = segment.header.first;
    let mut walk = Walk {
        offset: SEGMENT_HEADER_SIZE as u64,
        end: first,
        chain: segment.header.chain,
        sealed: false,
        proven: first,
        unproven: None,
        unproven_commits: 0,
        bad: None,
    };
    // The frames that began after `proven`: offset and first position.
    let mut open: Vec<(u64, Position)> = Vec::new();
    // The last frame, if it is a mark: nothing was written after it was synced.
    let mut mark = None;
    loop {
        let (offset, header) = match scanner.step()? {
            Found::Frame { offset, header } => (offset, header),
            Found::End { .. } => break,
            Found::Bad { offset, reason } => {
                walk.bad = Some((offset, reason));
                break;
            }
        };
        if header.first != walk.end || walk.sealed {
            walk.bad = Some((offset, "the frame does not follow the one before"));
            break;
        }
        if header.durable > walk.proven {
            walk.proven = header.durable;
            open.retain(|(_, first)| *first >= header.durable);
        }
        if header.kind.has_records() {
            visit_commit(segment, &scanner, offset, &header, visit)?;
            walk.chain = chain_of(header.kind, scanner.body()).unwrap_or(CHAIN_START);
            walk.end = Position(walk.end.0 + u64::from(header.count));
            open.push((offset, header.first));
        }
        mark = (!header.kind.has_records()).then_some(offset);
        walk.sealed = header.kind == Kind::Seal;
        walk.offset = offset + header.frame_size() as u64;
    }
    let mark = mark.filter(|_| !planted::is(Bug::EndMarkNotRewritten));
    walk.unproven = open.first().map(|(offset, _)| *offset).or(mark);
    walk.unproven_commits = open.len();
    Ok(walk)
}

fn visit_commit(
    segment: &Segment,
    scanner: &Scanner<'_>,
    offset: u64,
    header: &frame::Header,
    visit: &mut dyn FnMut(RecoveredRecord<'_>),
) -> Result<(), OpenError> {
    scanner
        .records(offset, header, &mut |position, offset, record| {
            visit(RecoveredRecord::new(position, offset, record));
        })
        .map_err(|(offset, bad)| OpenError::Damaged {
            file: segment.name.clone(),
            offset,
            position: header.first,
            reason: bad.reason(),
        })
}

/// The chain value that the body of a commit carries, whole or thinned.
pub(crate) fn chain_of(kind: Kind, body: &[u8]) -> Option<ChainValue> {
    body.get(kind.chain_at()..kind.prelude_size())?.try_into().ok()
}

/// Copies what lies from `offset` on to a file of its own, and zeroes it.
fn cut(
    disk: &dyn Disk,
    segment: &Segment,
    scanner: &mut Scanner<'_>,
    offset: u64,
) -> Result<TornTail, OpenError> {
    let end = scanner.last_nonzero(offset)?;
    let stem = segment.name.trim_end_matches(SEGMENT_SUFFIX);
    let taken = disk.list()?;
    let copy = (0..)
        .map(|n| format!("{stem}-{offset}-{n}{TORN_SUFFIX}"))
        .find(|name| !taken.contains(name))
        .expect("numbers do not run out");
    let to = disk.create(&copy)?;
    in_steps(offset, end, &mut |at, size| {
        let mut bytes = vec![0; size];
        segment.file.read_at(&mut bytes, at)?;
        to.write_at(&bytes, at - offset)
    })?;
    to.sync()?;
    disk.sync_names()?;
    if !planted::is(Bug::TornTailNotZeroed) {
        in_steps(offset, end, &mut |at, size| segment.file.write_at(&vec![0; size], at))?;
        segment.file.sync()?;
    }
    Ok(TornTail { segment: segment.name.clone(), offset, size: end - offset, copy })
}

/// Copies what stands from `from` to `to` to a file of its own, durably, and names it.
fn keep(disk: &dyn Disk, segment: &Segment, from: u64, to: u64) -> Result<String, OpenError> {
    let stem = segment.name.trim_end_matches(SEGMENT_SUFFIX);
    let name = format!("{stem}-{from}{TAIL_SUFFIX}");
    let temporary = format!("{name}.tmp");
    // At most what one batch wrote: each one proves those before it.
    let mut bytes = vec![0; TAIL_HEADER_SIZE + (to - from) as usize];
    segment.file.read_at(&mut bytes[TAIL_HEADER_SIZE..], from)?;
    let header = tail_header(segment, from, &bytes[TAIL_HEADER_SIZE..]);
    bytes[..TAIL_HEADER_SIZE].copy_from_slice(&header);
    let file = disk.create(&temporary)?;
    file.write_at(&bytes, 0)?;
    file.sync()?;
    disk.rename(&temporary, &name)?;
    disk.sync_names()?;
    Ok(name)
}

fn tail_header(segment: &Segment, from: u64, bytes: &[u8]) -> [u8; TAIL_HEADER_SIZE] {
    let mut header = [0; TAIL_HEADER_SIZE];
    header[..16].copy_from_slice(&segment.header.salt);
    header[16..24].copy_from_slice(&from.to_le_bytes());
    header[24..].copy_from_slice(&crc(bytes).to_le_bytes());
    header
}

/// Puts back the tail of the active segment, if a start before this one was cut off while it was
/// rewriting it. What a log holds never changes, so an old copy does no harm.
fn put_back(disk: &dyn Disk, segment: &Segment) -> Result<(), OpenError> {
    let stem = segment.name.trim_end_matches(SEGMENT_SUFFIX);
    for name in disk.list()?.iter().filter(|name| name.ends_with(TAIL_SUFFIX)) {
        let from = name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-'));
        let from = from.and_then(|rest| rest.strip_suffix(TAIL_SUFFIX)?.parse::<u64>().ok());
        let file = disk.open(name)?;
        let mut copy = vec![0; file.len()? as usize];
        file.read_at(&mut copy, 0)?;
        if let Some(from) = from
            && let Some((header, bytes)) = copy.split_first_chunk::<TAIL_HEADER_SIZE>()
            && *header == tail_header(segment, from, bytes)
            && from.saturating_add(bytes.len() as u64) <= segment.header.size
        {
            // Also if it seems to be there: what is seen need not be durable.
            segment.file.write_at(bytes, from)?;
            segment.file.sync()?;
        }
        disk.remove(name)?;
    }
    Ok(())
}

/// Writes what stands from `from` to `to` once more, and syncs it.
fn rewrite(segment: &Segment, from: u64, to: u64) -> Result<u64, OpenError> {
    in_steps(from, to, &mut |at, size| {
        let mut bytes = vec![0; size];
        segment.file.read_at(&mut bytes, at)?;
        segment.file.write_at(&bytes, at)
    })?;
    segment.file.sync()?;
    Ok(to - from)
}

fn in_steps(
    from: u64,
    to: u64,
    step: &mut dyn FnMut(u64, usize) -> Result<(), DiskError>,
) -> Result<(), DiskError> {
    let mut at = from;
    while at < to {
        let size = STEP.min((to - at) as usize);
        step(at, size)?;
        at += size as u64;
    }
    Ok(())
}
