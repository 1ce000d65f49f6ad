//! Reads every byte of a log and checks all that can be checked without knowing what it means:
//! headers, frames, records, positions, digests, chain, seals.

use std::sync::Arc;

use daybook_model::Position;

use crate::chain::{self, CHAIN_START, ChainValue, Link};
use crate::disk::Disk;
use crate::frame::Kind;
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
    let mut verified = Verified {
        segments: segments.len() as u64,
        events: 0,
        commits: 0,
        bytes: 0,
        chain: CHAIN_START,
        torn_tail: false,
    };
    for (i, each) in segments.iter().enumerate() {
        segment(each);
        let next = segments.get(i + 1);
        verify_segment(each, next, &mut verified, visit)?;
    }
    Ok(verified)
}

fn verify_segment(
    segment: &Segment,
    next: Option<&Arc<Segment>>,
    verified: &mut Verified,
    visit: &mut dyn FnMut(RecoveredRecord<'_>),
) -> Result<(), OpenError> {
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
        let (offset, header) = match scanner.step()? {
            Found::Frame { offset, header } => (offset, header),
            Found::End { .. } => break,
            Found::Bad { offset, reason } => {
                let last = next.is_none() && !sealed;
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
        if header.kind == Kind::Commit {
            let chain = verify_commit(&scanner, offset, &header, verified.chain, visit)
                .map_err(|(offset, reason)| damaged(offset, header.first, reason))?;
            verified.chain = chain;
            verified.events += u64::from(header.count);
            verified.commits += 1;
        }
        sealed = header.kind == Kind::Seal;
        verified.bytes += header.frame_size() as u64;
    }
    if next.is_some() && !sealed {
        let reason = "the segment is followed by another but not sealed";
        return Err(damaged(segment.header.size, end(verified), reason));
    }
    Ok(())
}

fn verify_commit(
    scanner: &Scanner<'_>,
    offset: u64,
    header: &crate::frame::Header,
    before: ChainValue,
    visit: &mut dyn FnMut(RecoveredRecord<'_>),
) -> Result<ChainValue, (u64, &'static str)> {
    let salt: [u8; 16] =
        scanner.body().first_chunk().copied().ok_or((offset, "the commit is too short"))?;
    let mut link = Link::new(&before, header.first);
    let mut index = 0;
    scanner
        .records(offset, header, &mut |position, offset, record| {
            link.event(record.place, &chain::digest(&salt, index, record.body));
            index += 1;
            let (payload, size) = (record.payload, record.size);
            visit(RecoveredRecord { position, offset, payload, size });
        })
        .map_err(|(offset, bad)| (offset, bad.reason()))?;
    let chain = link.finish();
    if chain != chain_of(scanner.body()) {
        return Err((offset, "the commit does not continue the hash chain"));
    }
    Ok(chain)
}
