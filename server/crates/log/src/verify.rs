//! Reads every byte of a log and checks all that can be checked without knowing what it means:
//! headers, frames, records, positions, digests, chain, seals.

use std::sync::Arc;

use daybook_model::Position;

use crate::backup::Extent;
use crate::chain::{self, CHAIN_START, ChainValue, Link};
use crate::disk::Disk;
use crate::frame::{Form, Kind};
use crate::recovery::{self, OpenError, RecoveredRecord, Recovery, chain_of};
use crate::scan::{Found, Scanner};
use crate::segment::Segment;

/// What a verified log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its segments.
    pub segments: u64,
    /// Its events.
    pub events: u64,
    /// Its commits.
    pub commits: u64,
    /// Bytes of its frames.
    pub bytes: u64,
    /// The chain at its end.
    pub chain: ChainValue,
    /// Whether its last frames end in bytes that are neither frames nor zeros: a torn tail, which
    /// the next start cuts.
    pub torn_tail: bool,
}

impl Verified {
    /// Nothing yet, of a log of so many segments.
    fn nothing(segments: usize) -> Verified {
        Verified {
            segments: segments as u64,
            events: 0,
            commits: 0,
            bytes: 0,
            chain: CHAIN_START,
            torn_tail: false,
        }
    }
}

/// Verifies the log on `disk`. Calls `segment` before each segment, `visit` for each record.
///
/// # Errors
/// The first thing that is wrong, with its file, offset and position.
pub fn verify(
    disk: &dyn Disk,
    segment: &mut dyn FnMut(&Arc<Segment>),
    visit: &mut dyn FnMut(RecoveredRecord<'_>),
) -> Result<Verified, OpenError> {
    let segments = recovery::load(disk, &mut Recovery::default())?;
    let mut verified = Verified::nothing(segments.len());
    for (i, each) in segments.iter().enumerate() {
        segment(each);
        let place = if i + 1 < segments.len() { Place::Sealed } else { Place::Last };
        let mut watch = Watch { visit, go_on: &mut |_| true };
        verify_segment(each, place, &mut verified, &mut watch)?;
    }
    Ok(verified)
}

/// Verifies the durable part of a log that is being written. `go_on` is told of each frame's file
/// and bytes, and may wait. None if it says no.
///
/// # Errors
/// The first thing that is wrong, with its file, offset and position.
pub fn verify_extent(
    extent: &Extent,
    go_on: &mut dyn FnMut(&str, u64) -> bool,
) -> Result<Option<Verified>, OpenError> {
    let segments = extent.filled();
    let mut verified = Verified::nothing(segments.len());
    for (i, each) in segments.iter().enumerate() {
        let last = i + 1 == segments.len();
        let place = if last { Place::Growing(extent.committed) } else { Place::Sealed };
        let mut go_on = |bytes| go_on(&each.name, bytes);
        let mut watch = Watch { visit: &mut |_| {}, go_on: &mut go_on };
        if !verify_segment(each, place, &mut verified, &mut watch)? {
            return Ok(None);
        }
    }
    Ok(Some(verified))
}

/// Where in its log a segment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Before another: it must be sealed.
    Sealed,
    /// At the end: it may be torn.
    Last,
    /// At the end, and written to: what lies at this position and behind is not looked at.
    Growing(Position),
}

/// Checks a sealed segment alone, from what its header says of what comes before. Answers where it
/// ends, and the chain there.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn verify_sealed(segment: &Segment) -> Result<(Position, ChainValue), OpenError> {
    let verified = verify_sealed_while(segment, &mut |_| true)?;
    Ok(verified.expect("nobody stopped it"))
}

/// As [`verify_sealed`]; `go_on` is told of the bytes of each frame, and may wait. None if it says
/// no.
///
/// # Errors
/// What is wrong with the segment.
pub(crate) fn verify_sealed_while(
    segment: &Segment,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<(Position, ChainValue)>, OpenError> {
    let mut verified = Verified {
        segments: 1,
        events: segment.header.first.0,
        commits: 0,
        bytes: 0,
        chain: segment.header.chain,
        torn_tail: false,
    };
    let mut watch = Watch { visit: &mut |_| {}, go_on };
    let whole = verify_segment(segment, Place::Sealed, &mut verified, &mut watch)?;
    Ok(whole.then_some((Position(verified.events), verified.chain)))
}

/// Who looks on.
struct Watch<'a> {
    /// Shown each record.
    visit: &'a mut dyn FnMut(RecoveredRecord<'_>),
    /// Told of the bytes of each frame; answers whether to go on.
    go_on: &'a mut dyn FnMut(u64) -> bool,
}

/// Answers whether all of it was read.
fn verify_segment(
    segment: &Segment,
    place: Place,
    verified: &mut Verified,
    watch: &mut Watch<'_>,
) -> Result<bool, OpenError> {
    let damaged = |offset, position, reason| OpenError::Damaged {
        file: segment.name.clone(),
        offset,
        position,
        reason,
    };
    let end = |verified: &Verified| Position(verified.events);
    if segment.header.chain != verified.chain || segment.header.first != end(verified) {
        return Err(damaged(0, end(verified), "the segment does not continue the one before"));
    }
    let mut scanner = Scanner::new(segment);
    let mut sealed = false;
    loop {
        if matches!(place, Place::Growing(committed) if end(verified) >= committed) {
            return Ok(true);
        }
        let (offset, header) = match scanner.step()? {
            Found::Frame { offset, header } => (offset, header),
            Found::End { offset } if matches!(place, Place::Growing(_)) => {
                let reason = "the log ends before its durable position";
                return Err(damaged(offset, end(verified), reason));
            }
            Found::End { .. } => break,
            Found::Bad { offset, reason } => {
                let last = place == Place::Last && !sealed;
                if last && !scanner.proves_durable(offset, end(verified))? {
                    verified.torn_tail = true;
                    break;
                }
                return Err(damaged(offset, end(verified), reason));
            }
        };
        if sealed || header.first != end(verified) {
            let reason = "the frame does not follow the one before";
            return Err(damaged(offset, end(verified), reason));
        }
        if header.kind.has_records() {
            let chain = verify_commit(&scanner, offset, &header, verified.chain, watch.visit)
                .map_err(|(offset, reason)| damaged(offset, header.first, reason))?;
            verified.chain = chain;
            verified.events += u64::from(header.count);
            verified.commits += 1;
        }
        sealed = header.kind == Kind::Seal;
        if sealed && scanner.body() != verified.chain {
            let reason = "the seal does not name the chain value of the segment's end";
            return Err(damaged(offset, end(verified), reason));
        }
        verified.bytes += header.frame_size() as u64;
        if !(watch.go_on)(header.frame_size() as u64) {
            return Ok(false);
        }
    }
    if place == Place::Sealed && !sealed {
        let reason = "the segment is followed by another but not sealed";
        return Err(damaged(segment.header.size, end(verified), reason));
    }
    Ok(true)
}

fn verify_commit(
    scanner: &Scanner<'_>,
    offset: u64,
    header: &crate::frame::Header,
    before: ChainValue,
    visit: &mut dyn FnMut(RecoveredRecord<'_>),
) -> Result<ChainValue, (u64, &'static str)> {
    if scanner.body().len() < header.kind.prelude_size() {
        return Err((offset, "the commit is too short"));
    }
    // Of a thinned commit these are not its random bytes, and no record asks for them.
    let salt: [u8; 16] = scanner.body().first_chunk().copied().expect("it is long enough");
    let mut link = Link::new(&before, header.first);
    let mut index = 0;
    scanner
        .records(offset, header, &mut |position, offset, record| {
            let digest = match record.form {
                Form::Whole => chain::digest(&salt, index, record.body),
                Form::Keyed(key) => chain::keyed_digest(key, record.body),
                Form::Removed(digest) => *digest,
            };
            link.event(record.place, &digest);
            index += 1;
            visit(RecoveredRecord::new(position, offset, record));
        })
        .map_err(|(offset, bad)| (offset, bad.reason()))?;
    let chain = link.finish();
    if Some(chain) != chain_of(header.kind, scanner.body()) {
        return Err((offset, "the commit does not continue the hash chain"));
    }
    Ok(chain)
}
