//! Walks the commits of a segment, and copies what stays.

use daybook_model::Position;

use super::{Judge, Pace, Plan, RewriteError, bad_record, damaged};
use crate::chain::{self, ChainValue, DIGEST_SIZE};
use crate::checksum::{crc, mask};
use crate::disk::DiskError;
use crate::frame::{
    self, Form, HEAD_KEYED, HEAD_REMOVED, HEADER_SIZE, Header, Kind, RECORD_HEADER_SIZE, Record,
};
use crate::planted::{self, Bug};
use crate::recovery::{OpenError, chain_of};
use crate::scan::{Found, Scanner};
use crate::segment::{SEGMENT_HEADER_SIZE, Segment};

/// Bytes written and synced at once: a larger flush would stand in the way of the active segment's
/// syncs for longer than a few of them take.
const STEP: usize = 1024 * 1024;

/// Whether a walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Go {
    On,
    Stop,
}

/// A commit, whole or thinned.
pub(super) struct Commit<'a> {
    pub header: Header,
    pub body: &'a [u8],
    segment: &'a Segment,
    offset: u64,
}

impl<'a> Commit<'a> {
    /// Its records; an error names the one that is not sound.
    pub fn records(
        &self,
    ) -> impl Iterator<Item = (Position, Result<Record<'a>, OpenError>)> + use<'a> {
        let (segment, start) = (self.segment, self.offset + HEADER_SIZE as u64);
        let records = frame::records(self.body, &self.header, segment.header.store_salt());
        (self.header.first.0..).map(Position).zip(records).map(move |(position, (at, found))| {
            let offset = start + at as u64;
            (position, found.map_err(|bad| bad_record(segment, offset, position, bad)))
        })
    }

    /// The chain value after it.
    pub fn chain(&self) -> Option<ChainValue> {
        chain_of(self.header.kind, self.body)
    }
}

/// The next commit of a segment that is being walked; none at its end, which must be its seal.
pub(super) fn next_commit<'a>(
    segment: &'a Segment,
    scanner: &'a mut Scanner<'_>,
    end: Position,
) -> Result<Option<Commit<'a>>, OpenError> {
    let mut sealed = false;
    let (offset, header) = loop {
        match scanner.step()? {
            Found::Frame { offset, header } if header.first != end || sealed => {
                let reason = "the frame does not follow the one before";
                return Err(damaged(segment, offset, end, reason));
            }
            Found::Frame { offset, header } if header.kind.has_records() => break (offset, header),
            Found::Frame { header, .. } => sealed = header.kind == Kind::Seal,
            Found::End { .. } if sealed => return Ok(None),
            Found::End { offset } => {
                return Err(damaged(segment, offset, end, "the segment is not sealed"));
            }
            Found::Bad { offset, reason } => return Err(damaged(segment, offset, end, reason)),
        }
    };
    Ok(Some(Commit { header, body: scanner.body(), segment, offset }))
}

/// Calls `visit` for each commit of the sealed `segment`, until it says stop.
pub(super) fn each_commit(
    segment: &Segment,
    visit: &mut dyn FnMut(&Commit<'_>) -> Result<Go, RewriteError>,
) -> Result<Go, RewriteError> {
    let mut scanner = Scanner::new(segment);
    let mut end = segment.header.first;
    while let Some(commit) = next_commit(segment, &mut scanner, end)? {
        end = Position(end.0 + u64::from(commit.header.count));
        if visit(&commit)? == Go::Stop {
            return Ok(Go::Stop);
        }
    }
    Ok(Go::On)
}

/// Bytes of a record in a thinned commit with so many bytes of place and what follows it.
pub(super) fn thinned_size(payload: usize) -> u64 {
    (RECORD_HEADER_SIZE + DIGEST_SIZE + payload) as u64
}

/// Bytes of a thinned commit's frame with so many bytes of records.
pub(super) fn thinned_frame_size(records: u64) -> u64 {
    frame::frame_size(Kind::Thinned.prelude_size() + records as usize) as u64
}

/// Copies `from` to `to` as `plan` says, and syncs it.
pub(super) fn copy(
    from: &Segment,
    to: &Segment,
    plan: &Plan,
    judge: &mut dyn Judge,
    pace: &mut Pace<'_>,
) -> Result<(), RewriteError> {
    let mut out = Out { to, buffer: Vec::with_capacity(STEP), at: SEGMENT_HEADER_SIZE as u64 };
    let (mut chain, mut trace) = (from.header.chain, Vec::new());
    let mut end = from.header.first;
    let read = each_commit(from, &mut |commit| {
        let start = commit.header.first.0 - from.header.first.0;
        let touched = (start..start + u64::from(commit.header.count)).any(|i| plan.goes(i));
        if touched {
            thin(commit, plan, start, judge, &mut trace)
                .map(|body| out.frame(Kind::Thinned, commit.header.first, &body, commit))??;
        } else {
            out.frame(commit.header.kind, commit.header.first, commit.body, commit)?;
        }
        chain = commit.chain().unwrap_or(chain);
        end = Position(end.0 + u64::from(commit.header.count));
        Ok(if pace(2 * commit.header.frame_size() as u64) { Go::On } else { Go::Stop })
    })?;
    if read == Go::Stop {
        return Err(RewriteError::Stopped);
    }
    let salt = to.header.frame_salt();
    let offset = out.offset();
    let seal = frame::mark(Kind::Seal, end, end, &chain, salt, offset);
    out.buffer.extend_from_slice(&seal);
    out.flush()?;
    if out.at != plan.size_after {
        let (file, at, planned) = (to.name.clone(), out.at, plan.size_after);
        let reason = format!("it has {at} bytes where {planned} were planned");
        return Err(RewriteError::Unsound { file, reason });
    }
    // Last, so that a file that is not complete has no header.
    to.file.write_at(&to.header.encode(), 0)?;
    if !planted::is(Bug::RewriteNotSynced) {
        to.file.sync()?;
    }
    Ok(())
}

/// The body of `commit` without what goes.
fn thin(
    commit: &Commit<'_>,
    plan: &Plan,
    start: u64,
    judge: &mut dyn Judge,
    trace: &mut Vec<u8>,
) -> Result<Vec<u8>, RewriteError> {
    let store_salt = commit.segment.header.store_salt();
    let salt: [u8; 16] = commit.body.first_chunk().copied().unwrap_or_default();
    let chain = commit.chain().unwrap_or_default();
    let mut body = Vec::with_capacity(commit.body.len());
    body.extend_from_slice(&chain);
    for (index, (position, record)) in (0u32..).zip(commit.records()) {
        let record = record?;
        let key = match record.form {
            Form::Whole => Some(chain::key(&salt, index)),
            Form::Keyed(key) => Some(*key),
            Form::Removed(_) => None,
        };
        match (key, record.form) {
            (Some(key), _) if plan.goes(start + u64::from(index)) => {
                trace.clear();
                judge.trace(position, &record, trace);
                let digest = match planted::is(Bug::RewriteChainNotKept) {
                    true => [0; DIGEST_SIZE],
                    false => chain::keyed_digest(&key, record.body),
                };
                let parts = (HEAD_REMOVED, &digest, record.place, trace.as_slice());
                put_record(&mut body, store_salt, position, parts);
            }
            (Some(key), _) => {
                let parts = (HEAD_KEYED, &key, record.place, record.body);
                put_record(&mut body, store_salt, position, parts);
            }
            (None, Form::Removed(digest)) => {
                let parts = (HEAD_REMOVED, digest, record.place, record.body);
                put_record(&mut body, store_salt, position, parts);
            }
            (None, _) => {}
        }
    }
    Ok(body)
}

/// What a thinned record consists of: a bit of its head, digest or key, place, and what follows.
type Parts<'a> = (u8, &'a [u8; DIGEST_SIZE], &'a [u8], &'a [u8]);

fn put_record(out: &mut Vec<u8>, store_salt: u64, position: Position, parts: Parts<'_>) {
    let (bit, before, place, rest) = parts;
    let start = out.len();
    let len = (1 + DIGEST_SIZE + place.len() + rest.len()) as u32;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.push(bit | place.len() as u8);
    out.extend_from_slice(before);
    out.extend_from_slice(place);
    out.extend_from_slice(rest);
    let sum = frame::record_crc(&len.to_le_bytes(), &out[start + 8..]);
    let sum = sum ^ mask(store_salt, position.0);
    out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
}

/// The file that is being written.
struct Out<'a> {
    to: &'a Segment,
    buffer: Vec<u8>,
    /// The offset of the buffer's first byte.
    at: u64,
}

impl Out<'_> {
    fn offset(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    fn frame(
        &mut self,
        kind: Kind,
        first: Position,
        body: &[u8],
        commit: &Commit<'_>,
    ) -> Result<(), DiskError> {
        let (salt, offset) = (self.to.header.frame_salt(), self.offset());
        let len = body.len() as u32;
        let header = Header { kind, len, first, durable: first, count: commit.header.count };
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&header.encode(salt, offset));
        self.buffer.extend_from_slice(body);
        let sum = crc(body) ^ mask(salt, offset + HEADER_SIZE as u64);
        self.buffer.extend_from_slice(&sum.to_le_bytes());
        self.buffer.resize(start + header.frame_size(), 0);
        if self.buffer.len() >= STEP { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        for step in self.buffer.chunks(STEP) {
            self.to.file.write_at(step, self.at)?;
            if !planted::is(Bug::RewriteNotSynced) {
                self.to.file.sync()?;
            }
            self.at += step.len() as u64;
        }
        self.buffer.clear();
        Ok(())
    }
}
