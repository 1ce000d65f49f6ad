//! Frames as bytes, and batches of them.
//!
//! ```text
//!   frame   0 magic u16 | 2 kind u8 | 3 zero u8 | 4 len u32 | 8 first position u64
//!           | 16 durable position u64 | 24 count u32 | 28 crc32 of bytes 0..28
//!           32 body: len bytes | crc32 of the body | zeros up to the next multiple of 8
//!   commit  body: 16 random bytes | chain value 32 | count records
//!   thinned body: chain value 32 | count records           a commit of which events were removed
//!   record  len u32 | crc32 | head u8 | place | body       len counts from head on
//!           head bit 7: key 32 | place | body              stands in a thinned commit
//!           head bit 6: digest 32 | place | trace          removed: what the index keeps of it
//!   seal    body: chain value 32          watermark   body: empty
//! ```
//!
//! Little-endian. A frame's checksums are masked with the segment's salt and their own offset, a
//! record's with the store's salt and its position (see [`crate::checksum`]), so that a record can
//! be read and trusted alone. The six low bits of `head` are the length of `place`.
//!
//! A [`Batch`] is built by the writer while the batch before it is being synced: all that can be
//! summed is summed then. `Batch::place` fills in the rest when the place in the file is known.
//!
//! INVARIANT: no IO here; `segment` and `journal` move the bytes.

use daybook_model::Position;

use crate::chain::{ChainValue, DIGEST_SIZE, Link};
use crate::checksum::{crc, mask};
use crate::planted::{self, Bug};

/// Bytes of a frame's header.
pub const HEADER_SIZE: usize = 32;
/// Bytes of the checksum after a frame's body.
pub const TRAILER_SIZE: usize = 4;
/// Frames begin at multiples of this many bytes, so that a search for one has few places to look.
pub const ALIGNMENT: usize = 8;
/// Bytes of a commit's body before its first record.
pub const COMMIT_PRELUDE_SIZE: usize = 16 + DIGEST_SIZE;
/// Bytes of a record before its place.
pub const RECORD_HEADER_SIZE: usize = 9;
/// Longest `place`: two bits of the head byte say what stands before it.
pub const PLACE_SIZE_MAX: usize = 0x3f;
/// Bit of the head byte: the event was removed, its digest stands before its place.
pub(crate) const HEAD_REMOVED: u8 = 0x40;
/// Bit of the head byte: the key of the event's digest stands before its place.
pub(crate) const HEAD_KEYED: u8 = 0x80;
/// A larger body is damage, not data: it bounds what a damaged length can make us allocate. One
/// append of the largest size, and what encloses its events.
pub const BODY_SIZE_MAX: usize = 2 * daybook_model::limits::APPEND_SIZE_MAX;

const MAGIC: u16 = 0xdb0c;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One append's events.
    Commit,
    /// Nothing but the news that everything before it is durable.
    Watermark,
    /// The end of its segment.
    Seal,
    /// What is left of one append's events, of which some were removed: in rewritten segments only.
    Thinned,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Kind::Commit => 1,
            Kind::Watermark => 2,
            Kind::Seal => 3,
            Kind::Thinned => 4,
        }
    }

    /// Whether the frame takes positions.
    #[must_use]
    pub fn has_records(self) -> bool {
        matches!(self, Kind::Commit | Kind::Thinned)
    }

    /// Whether it is what a rewrite left of a commit.
    pub(crate) fn is_thinned(self) -> bool {
        self == Kind::Thinned
    }

    /// Where in such a frame's body the chain value stands.
    pub(crate) fn chain_at(self) -> usize {
        if self == Kind::Thinned { 0 } else { 16 }
    }

    /// Bytes of such a frame's body before its first record.
    pub(crate) fn prelude_size(self) -> usize {
        self.chain_at() + DIGEST_SIZE
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame holds.
    pub kind: Kind,
    /// Bytes of its body.
    pub len: u32,
    /// The position of its first event; for frames without events, of the next one.
    pub first: Position,
    /// Everything below was durable when the frame was written.
    pub durable: Position,
    /// How many positions it takes.
    pub count: u32,
}

impl Header {
    /// Reads the header at `offset` of a segment with `salt`. None if these bytes are not one.
    #[must_use]
    pub fn decode(bytes: &[u8; HEADER_SIZE], salt: u64, offset: u64) -> Option<Header> {
        let (covered, sum) = bytes.split_at(HEADER_SIZE - 4);
        if u16::from_le_bytes([bytes[0], bytes[1]]) != MAGIC
            || le_u32(sum) != crc(covered) ^ mask(salt, offset)
        {
            return None;
        }
        let kind = match bytes[2] {
            1 => Kind::Commit,
            2 => Kind::Watermark,
            3 => Kind::Seal,
            4 => Kind::Thinned,
            _ => return None,
        };
        let header = Header {
            kind,
            len: le_u32(&bytes[4..8]),
            first: Position(le_u64(&bytes[8..16])),
            durable: Position(le_u64(&bytes[16..24])),
            count: le_u32(&bytes[24..28]),
        };
        let sane = header.len as usize <= BODY_SIZE_MAX && header.durable <= header.first;
        sane.then_some(header)
    }

    pub(crate) fn encode(&self, salt: u64, offset: u64) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[..2].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[2] = self.kind.code();
        bytes[4..8].copy_from_slice(&self.len.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.durable.0.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.count.to_le_bytes());
        let sum = crc(&bytes[..28]) ^ mask(salt, offset);
        bytes[28..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Bytes of the whole frame, padding included.
    #[must_use]
    pub fn frame_size(&self) -> usize {
        frame_size(self.len as usize)
    }
}

/// Bytes of a frame with a body of `len` bytes.
#[must_use]
pub const fn frame_size(len: usize) -> usize {
    (HEADER_SIZE + len + TRAILER_SIZE).next_multiple_of(ALIGNMENT)
}

/// Bytes of a seal frame.
#[must_use]
pub const fn frame_size_of_seal() -> usize {
    frame_size(DIGEST_SIZE)
}

/// Whether `body` and the checksum after it belong to the frame at `offset`.
#[must_use]
pub fn body_is_sound(body: &[u8], sum: [u8; TRAILER_SIZE], salt: u64, offset: u64) -> bool {
    u32::from_le_bytes(sum) == crc(body) ^ mask(salt, offset + HEADER_SIZE as u64)
}

/// What a record holds of its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'a> {
    /// All of it, as it was written.
    Whole,
    /// All of it, in a commit whose random bytes are gone: with the key of its digest.
    Keyed(&'a [u8; DIGEST_SIZE]),
    /// Its digest. The record's body is what the index keeps of it.
    Removed(&'a [u8; DIGEST_SIZE]),
}

/// One record, seen in the bytes it was read into.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What it holds of its event.
    pub form: Form<'a>,
    /// What the writer added when the event got its place.
    pub place: &'a [u8],
    /// What the digest covers; of a removed event what the index keeps.
    pub body: &'a [u8],
    /// Both, in one piece: the last bytes of the record.
    pub payload: &'a [u8],
    /// Bytes of the whole record.
    pub size: usize,
}

impl Record<'_> {
    /// Whether its event was removed.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        matches!(self.form, Form::Removed(_))
    }

    /// Where in the record its payload begins.
    #[must_use]
    pub fn payload_at(&self) -> usize {
        self.size - self.payload.len()
    }
}

/// Why bytes are not the record that should be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRecord {
    /// They end inside it.
    Short,
    /// They are not what was written, or were written for another position.
    Checksum,
    /// They are of a later format.
    Unknown,
}

impl BadRecord {
    /// The reason in words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            BadRecord::Short => "the record is cut short",
            BadRecord::Checksum => "the record's checksum does not match",
            BadRecord::Unknown => "the record is of a kind this version does not know",
        }
    }
}

/// Reads the record of `position` at the start of `bytes`. Trusts nothing: they come from a disk.
///
/// # Errors
/// [`BadRecord`] says what is wrong with them.
#[inline]
pub fn record(bytes: &[u8], store_salt: u64, position: Position) -> Result<Record<'_>, BadRecord> {
    let (header, _) = bytes.split_first_chunk::<RECORD_HEADER_SIZE>().ok_or(BadRecord::Short)?;
    let len = le_u32(&header[..4]) as usize;
    let size = 8 + len;
    let payload = bytes.get(RECORD_HEADER_SIZE..size).ok_or(BadRecord::Short)?;
    let sum = record_crc(&header[..4], &bytes[8..size]) ^ mask(store_salt, position.0);
    if sum != le_u32(&header[4..8]) {
        return Err(BadRecord::Checksum);
    }
    let (form, payload) = match header[8] & !(PLACE_SIZE_MAX as u8) {
        0 => (Form::Whole, payload),
        bits @ (HEAD_KEYED | HEAD_REMOVED) => {
            let (before, payload) = payload.split_first_chunk().ok_or(BadRecord::Unknown)?;
            let keyed = bits == HEAD_KEYED;
            (if keyed { Form::Keyed(before) } else { Form::Removed(before) }, payload)
        }
        _ => return Err(BadRecord::Unknown),
    };
    let place = header[8] as usize & PLACE_SIZE_MAX;
    let (place, body) = payload.split_at_checked(place).ok_or(BadRecord::Unknown)?;
    Ok(Record { form, place, body, payload, size })
}

/// Reads the records in the `body` of a frame that has some, each with its offset there, up to the
/// first that is not sound.
pub(crate) fn records<'a>(
    body: &'a [u8],
    header: &Header,
    store_salt: u64,
) -> impl Iterator<Item = (usize, Result<Record<'a>, BadRecord>)> + use<'a> {
    let header = *header;
    let mut at = header.kind.prelude_size();
    let mut bad = false;
    (0..u64::from(header.count)).map_while(move |i| {
        if bad {
            return None;
        }
        let start = at;
        let bytes = body.get(at..).unwrap_or_default();
        let found = record(bytes, store_salt, Position(header.first.0 + i)).and_then(|record| {
            let fits = (record.form == Form::Whole) == (header.kind == Kind::Commit);
            if fits { Ok(record) } else { Err(BadRecord::Unknown) }
        });
        match &found {
            Ok(record) => at += record.size,
            Err(_) => bad = true,
        }
        Some((start, found))
    })
}

pub(crate) fn record_crc(len: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(len);
    hasher.update(rest);
    hasher.finalize()
}

/// Where in a batch one record stands.
#[derive(Clone, Copy, Debug)]
pub struct RecordSpan {
    /// Its first byte in the batch.
    pub start: usize,
    /// Bytes of the whole record.
    pub size: usize,
}

#[derive(Clone, Debug)]
struct FrameSpan {
    start: usize,
    header: Header,
    body_crc: u32,
}

/// Where the frames and records of a batch stand.
#[derive(Debug, Default)]
pub struct Spans {
    frames: Vec<FrameSpan>,
    records: Vec<RecordSpan>,
}

impl Spans {
    /// Where its records stand, in order of their positions.
    #[must_use]
    pub fn records(&self) -> &[RecordSpan] {
        &self.records
    }
}

/// Commits that become durable together.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    spans: Spans,
    store_salt: u64,
    first: Position,
    next: Position,
    chain: ChainValue,
}

impl Batch {
    /// An empty batch that begins at `first`, in a store with `store_salt` whose chain stands at
    /// `chain`.
    #[must_use]
    pub fn new(store_salt: u64, first: Position, chain: ChainValue) -> Batch {
        Batch::in_buffers(Vec::new(), Spans::default(), store_salt, first, chain)
    }

    /// As [`Batch::new`], in buffers that were used before.
    #[must_use]
    pub fn in_buffers(
        mut bytes: Vec<u8>,
        mut spans: Spans,
        store_salt: u64,
        first: Position,
        chain: ChainValue,
    ) -> Batch {
        bytes.clear();
        spans.frames.clear();
        spans.records.clear();
        Batch { bytes, spans, store_salt, first, next: first, chain }
    }

    /// The position of the batch's first event.
    #[must_use]
    pub fn first(&self) -> Position {
        self.first
    }

    /// The position after the batch's last event.
    #[must_use]
    pub fn next(&self) -> Position {
        self.next
    }

    /// The chain after the batch.
    #[must_use]
    pub fn chain(&self) -> ChainValue {
        self.chain
    }

    /// Whether it has no commit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.frames.is_empty()
    }

    /// Its bytes. Not yet fit for a file: see `Journal::write`.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes its bytes and where its records stand in them, when they have been written. What it
    /// says of positions stays true.
    #[must_use]
    pub fn take(&mut self) -> (Vec<u8>, Spans) {
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.spans))
    }

    /// Where its records stand, in order of their positions.
    #[must_use]
    pub fn records(&self) -> &[RecordSpan] {
        &self.spans.records
    }

    /// Makes room for a commit whose records' bodies have `size` bytes: growing in steps would hold a
    /// large one twice.
    pub fn reserve(&mut self, size: usize) {
        self.bytes.reserve(size + HEADER_SIZE + TRAILER_SIZE);
    }

    /// Begins a commit with its 16 random bytes, under which its events were digested.
    pub fn begin(&mut self, commit_salt: &[u8; 16]) -> Commit<'_> {
        let start = self.bytes.len();
        self.bytes.resize(start + HEADER_SIZE, 0);
        self.bytes.extend_from_slice(commit_salt);
        self.bytes.extend_from_slice(&[0; DIGEST_SIZE]);
        let unlinked = planted::is(Bug::ChainNotLinked);
        let previous = if unlinked { crate::chain::CHAIN_START } else { self.chain };
        let link = Link::new(&previous, self.next);
        let records = self.spans.records.len();
        Commit { batch: self, start, link, first_record: records }
    }

    /// Fills in what depends on the place: the batch goes to `offset` of a segment with `salt`, and
    /// everything below `durable` is durable.
    pub(crate) fn place(&mut self, salt: u64, offset: u64, durable: Position) {
        for frame in &mut self.spans.frames {
            let at = offset + frame.start as u64;
            frame.header.durable = durable;
            let header = frame.header.encode(salt, at);
            self.bytes[frame.start..frame.start + HEADER_SIZE].copy_from_slice(&header);
            let sum = frame.body_crc ^ mask(salt, at + HEADER_SIZE as u64);
            let trailer = frame.start + HEADER_SIZE + frame.header.len as usize;
            self.bytes[trailer..trailer + TRAILER_SIZE].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

/// A commit that is being added to a batch. Dropped without [`Commit::finish`], it leaves a batch
/// that must not be written.
pub struct Commit<'a> {
    batch: &'a mut Batch,
    start: usize,
    link: Link,
    first_record: usize,
}

impl Commit<'_> {
    /// The position the next record will have.
    #[must_use]
    pub fn next(&self) -> Position {
        Position(self.batch.next.0 + (self.batch.spans.records.len() - self.first_record) as u64)
    }

    /// Adds an event.
    pub fn record(&mut self, place: &[u8], body: &[u8], digest: &[u8; DIGEST_SIZE]) {
        assert!(place.len() <= PLACE_SIZE_MAX, "a place is a time and a revision");
        let position = self.next();
        let bytes = &mut self.batch.bytes;
        let start = bytes.len();
        let len = u32::try_from(1 + place.len() + body.len()).expect("bounded by the append size");
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.push(place.len() as u8);
        bytes.extend_from_slice(place);
        bytes.extend_from_slice(body);
        let sum = record_crc(&len.to_le_bytes(), &bytes[start + 8..])
            ^ mask(self.batch.store_salt, position.0);
        bytes[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
        let size = bytes.len() - start;
        self.batch.spans.records.push(RecordSpan { start, size });
        self.link.event(place, digest);
    }

    /// Completes the commit.
    pub fn finish(self) {
        let batch = self.batch;
        let count = batch.spans.records.len() - self.first_record;
        assert!(count > 0, "a commit has events");
        let chain = self.link.finish();
        let at = self.start + HEADER_SIZE + 16;
        batch.bytes[at..at + DIGEST_SIZE].copy_from_slice(&chain);
        let body = &batch.bytes[self.start + HEADER_SIZE..];
        assert!(body.len() <= BODY_SIZE_MAX, "an append is smaller than the largest frame");
        let header = Header {
            kind: Kind::Commit,
            len: u32::try_from(body.len()).expect("bounded by the append size"),
            first: batch.next,
            durable: Position(0),
            count: u32::try_from(count).expect("bounded by the append size"),
        };
        let body_crc = crc(body);
        batch.bytes.resize(self.start + header.frame_size(), 0);
        batch.spans.frames.push(FrameSpan { start: self.start, header, body_crc });
        batch.chain = chain;
        batch.next = Position(batch.next.0 + count as u64);
    }
}

/// The bytes of a frame without events, at `offset` of a segment with `salt`.
#[must_use]
pub fn mark(
    kind: Kind,
    end: Position,
    durable: Position,
    chain: &ChainValue,
    salt: u64,
    offset: u64,
) -> Vec<u8> {
    let body: &[u8] = if kind == Kind::Seal { chain } else { &[] };
    let len = body.len() as u32;
    let header = Header { kind, len, first: end, durable, count: 0 };
    let mut bytes = header.encode(salt, offset).to_vec();
    bytes.extend_from_slice(body);
    let sum = crc(body) ^ mask(salt, offset + HEADER_SIZE as u64);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes.resize(header.frame_size(), 0);
    bytes
}

fn le_u32(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

fn le_u64(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{CHAIN_START, digest};
    use proptest::prelude::*;

    fn batch_of(bodies: &[&[u8]]) -> Batch {
        let mut batch = Batch::new(7, Position(40), CHAIN_START);
        let salt = [9; 16];
        let mut commit = batch.begin(&salt);
        for (i, body) in bodies.iter().enumerate() {
            commit.record(b"place", body, &digest(&salt, i as u32, body));
        }
        commit.finish();
        batch
    }

    #[test]
    fn a_placed_frame_is_sound_at_its_offset_and_nowhere_else() {
        let mut batch = batch_of(&[b"one", b"two"]);
        batch.place(5, 128, Position(40));
        let bytes = batch.bytes();
        let header: &[u8; HEADER_SIZE] = bytes.first_chunk().expect("a header");
        let found = Header::decode(header, 5, 128).expect("sound");
        assert_eq!((found.kind, found.first, found.count), (Kind::Commit, Position(40), 2));
        assert_eq!(bytes.len(), found.frame_size());
        assert_eq!(Header::decode(header, 5, 136), None, "another offset");
        assert_eq!(Header::decode(header, 6, 128), None, "another segment");
        let body = &bytes[HEADER_SIZE..HEADER_SIZE + found.len as usize];
        let sum = bytes[HEADER_SIZE + body.len()..][..4].try_into().expect("four bytes");
        assert!(body_is_sound(body, sum, 5, 128));
        assert!(!body_is_sound(body, sum, 5, 136));
    }

    #[test]
    fn a_record_is_read_alone_and_only_at_its_position() {
        let batch = batch_of(&[b"one", b"two"]);
        let span = batch.records()[1];
        let found = record(&batch.bytes()[span.start..], 7, Position(41)).expect("sound");
        assert_eq!((found.place, found.body, found.size), (&b"place"[..], &b"two"[..], span.size));
        let elsewhere = record(&batch.bytes()[span.start..], 7, Position(40));
        assert_eq!(elsewhere.err(), Some(BadRecord::Checksum));
    }

    proptest! {
        #[test]
        fn every_flipped_bit_of_a_frame_is_noticed(
            body in proptest::collection::vec(any::<u8>(), 0..64), bit in any::<u32>()
        ) {
            let mut batch = batch_of(&[&body]);
            batch.place(5, 128, Position(3));
            let mut bytes = batch.take().0;
            let header: &[u8; HEADER_SIZE] = bytes.first_chunk().expect("a header");
            let len = Header::decode(header, 5, 128).expect("sound").len as usize;
            let covered = HEADER_SIZE + len + TRAILER_SIZE;
            let bit = bit as usize % (covered * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let header: &[u8; HEADER_SIZE] = bytes.first_chunk().expect("a header");
            let sound = Header::decode(header, 5, 128).is_some_and(|found| {
                let body = &bytes[HEADER_SIZE..HEADER_SIZE + len];
                let sum = bytes[HEADER_SIZE + len..covered].try_into().expect("four bytes");
                found.len as usize == len && body_is_sound(body, sum, 5, 128)
            });
            prop_assert!(!sound);
        }

        #[test]
        fn garbage_is_never_a_record(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(record(&bytes, 7, Position(1)).is_err());
            if let Some(header) = bytes.first_chunk() {
                prop_assert_eq!(Header::decode(header, 5, 128), None);
            }
        }
    }
}
