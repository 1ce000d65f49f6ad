//! An append before it has a place: checked, encoded, digested and hashed by its caller, so that
//! the writer only copies.

use std::collections::BTreeMap;

use daybook_log::chain;
use daybook_model::append::{Append, AppendError, Deletion, EndedState, StreamCondition};
use daybook_model::limits::{APPEND_EVENTS_MAX, APPEND_SIZE_MAX, APPEND_STREAMS_MAX};
use daybook_model::watch::Steps;
use daybook_model::{
    EventView, ExpectedRevision, NewEvent, Position, Revision, StreamName, Timestamp,
};
use smallvec::SmallVec;

use crate::import::{self, Carried, What};
use crate::index::{EventKeys, Key, KeyHasher, KeyKind};
use crate::record::{self, Kind};
use crate::virtual_stream;

/// Bytes that enclose an event in the log, at most; for the size of an append.
pub(crate) const EVENT_OVERHEAD: usize = 64;

/// A stream of a prepared append.
#[derive(Clone, Debug)]
pub(crate) struct PreparedStream {
    pub condition: StreamCondition,
    pub key: Key,
    pub settings: Key,
    /// The indices of its events.
    pub events: SmallVec<[u32; 1]>,
}

/// An event of a prepared append.
#[derive(Clone, Debug)]
pub(crate) struct PreparedEvent {
    pub stream: u32,
    pub id: uuid::Uuid,
    pub id_key: u64,
    pub keys: EventKeys,
    /// The settings key it changes, which is among `keys`.
    pub settings: Option<Key>,
    /// When it was committed elsewhere, if it is taken in from there.
    pub time: Option<Timestamp>,
    pub digest: [u8; chain::DIGEST_SIZE],
    start: u32,
    len: u32,
}

/// An append, ready to be given its place.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub salt: [u8; 16],
    /// How it deletes its first stream, if it does.
    pub deletion: Option<Deletion>,
    /// If all conditions that fail are to be told: what is asked of how streams ended, by index,
    /// ascending.
    pub checks: Option<Box<[(u32, EndedState)]>>,
    /// Whether it was decided elsewhere and is only taken in.
    pub carried: bool,
    /// When it came how far, if somebody wants to know.
    pub steps: Option<Box<Steps>>,
    pub streams: SmallVec<[PreparedStream; 1]>,
    pub events: SmallVec<[PreparedEvent; 1]>,
    bytes: Vec<u8>,
    /// What the client asked for, without what [`Prepared::add`] added: streams, events, bytes.
    asked: (usize, usize, usize),
}

impl Prepared {
    /// Checks and encodes `append`. `salt` is 16 unguessable bytes.
    pub fn new(
        hasher: &KeyHasher,
        salt: [u8; 16],
        append: &Append,
        deletion: Option<Deletion>,
    ) -> Result<Prepared, AppendError> {
        check(append)?;
        let mut streams: SmallVec<[PreparedStream; 1]> = SmallVec::new();
        for condition in &append.streams {
            let name = condition.stream.as_str();
            let key = hasher.key(KeyKind::Stream, name);
            if streams.len() < 64 && streams.iter().any(|other| other.key == key) {
                return Err(AppendError::Malformed { reason: "it names a stream twice" });
            }
            let settings = hasher.key(KeyKind::Settings, name);
            let (condition, events) = (condition.clone(), SmallVec::new());
            streams.push(PreparedStream { condition, key, settings, events });
        }
        if streams.len() >= 64 {
            let mut keys: Vec<Key> = streams.iter().map(|stream| stream.key).collect();
            keys.sort_unstable();
            if keys.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(AppendError::Malformed { reason: "it names a stream twice" });
            }
        }
        let events = SmallVec::with_capacity(append.events.len());
        let bytes = Vec::with_capacity(size_of(append));
        let ends = deletion == Some(Deletion::Tombstone);
        let kind = if ends { Kind::Tombstone } else { Kind::Event };
        let mut prepared = Prepared {
            salt,
            deletion,
            checks: None,
            carried: false,
            steps: None,
            streams,
            events,
            bytes,
            asked: (0, 0, 0),
        };
        for (stream, event) in &append.events {
            prepared.push(hasher, *stream, event, kind)?;
        }
        prepared.asked = (prepared.streams.len(), prepared.events.len(), prepared.bytes.len());
        Ok(prepared)
    }

    /// Encodes events that were decided elsewhere. `salt` is 16 unguessable bytes.
    pub fn carried(
        hasher: &KeyHasher,
        salt: [u8; 16],
        events: &[Carried],
    ) -> Result<Prepared, AppendError> {
        let mut prepared = Prepared {
            salt,
            deletion: None,
            checks: None,
            carried: true,
            steps: None,
            streams: SmallVec::new(),
            events: SmallVec::with_capacity(events.len()),
            bytes: Vec::new(),
            asked: (0, 0, 0),
        };
        let gone = NewEvent::json(uuid::Uuid::nil(), "", "");
        let mut streams: BTreeMap<&StreamName, (u32, u64)> = BTreeMap::new();
        for carried in events {
            let revision = carried.revision.0;
            let next = streams.entry(&carried.stream).or_insert_with(|| {
                let expected = import::expected(carried.revision);
                prepared.stream(hasher, carried.stream.clone(), expected);
                (prepared.streams.len() as u32 - 1, revision)
            });
            if next.1 != revision {
                return Err(AppendError::Malformed { reason: "a stream's revisions have a gap" });
            }
            next.1 += 1;
            let (kind, event) = match &carried.what {
                What::Event(event) => (Kind::Event, event),
                What::Tombstone(event) => (Kind::Tombstone, event),
                What::Gone => (Kind::Gone, &gone),
            };
            if kind != Kind::Gone {
                event.check()?;
            }
            prepared.push(hasher, next.0, event, kind)?;
            if let Some(last) = prepared.events.last_mut() {
                last.time = Some(carried.time);
            }
        }
        let (size, limit) = (prepared.bytes.len(), APPEND_SIZE_MAX);
        if size > limit {
            return Err(AppendError::TooLarge { size, limit });
        }
        prepared.asked = (prepared.streams.len(), prepared.events.len(), prepared.bytes.len());
        Ok(prepared)
    }

    fn stream(&mut self, hasher: &KeyHasher, stream: StreamName, expected: ExpectedRevision) {
        let key = hasher.key(KeyKind::Stream, stream.as_str());
        let settings = hasher.key(KeyKind::Settings, stream.as_str());
        let (condition, events) = (StreamCondition { stream, expected }, SmallVec::new());
        self.streams.push(PreparedStream { condition, key, settings, events });
    }

    fn push(
        &mut self,
        hasher: &KeyHasher,
        stream: u32,
        event: &NewEvent,
        kind: Kind,
    ) -> Result<(), AppendError> {
        let index = self.events.len() as u32;
        let Some(target) = self.streams.get_mut(stream as usize) else {
            return Err(AppendError::Malformed { reason: "an event names no stream of it" });
        };
        target.events.push(index);
        let name: &StreamName = &target.condition.stream;
        let start = self.bytes.len();
        record::encode_body(&mut self.bytes, name.as_str(), event, kind);
        let body = &self.bytes[start..];
        let digest = chain::digest(&self.salt, index, body);
        let tombstone = kind == Kind::Tombstone;
        let keys = hasher.unplaced_keys(&view(name, event, tombstone));
        let id_key = hasher.id_key(target.key, event.id);
        let settings = match name.described() {
            _ if kind == Kind::Gone => None,
            _ if tombstone => Some(target.settings),
            Some(described) => Some(hasher.key(KeyKind::Settings, described)),
            None => None,
        };
        let id = event.id;
        let (start, len) = (start as u32, body.len() as u32);
        let time = None;
        let event = PreparedEvent { stream, id, id_key, keys, settings, time, digest, start, len };
        self.events.push(event);
        Ok(())
    }

    /// Adds a stream that is only written, whatever it holds, and an event of it.
    pub fn add(
        &mut self,
        hasher: &KeyHasher,
        condition: StreamCondition,
        event: &NewEvent,
    ) -> Result<(), AppendError> {
        let stream = self.streams.len() as u32;
        self.stream(hasher, condition.stream, condition.expected);
        self.push(hasher, stream, event, Kind::Event)
    }

    /// Adds an event of a stream that the client only checks.
    pub fn add_to(
        &mut self,
        hasher: &KeyHasher,
        stream: u32,
        event: &NewEvent,
    ) -> Result<(), AppendError> {
        self.push(hasher, stream, event, Kind::Event)
    }

    /// Takes back what was added.
    pub fn reset(&mut self) {
        let (streams, events, bytes) = self.asked;
        for stream in &mut self.streams {
            stream.events.retain(|event| (*event as usize) < events);
        }
        self.streams.truncate(streams);
        self.events.truncate(events);
        self.bytes.truncate(bytes);
    }

    /// How many streams the client named.
    pub fn asked_streams(&self) -> usize {
        self.asked.0
    }

    /// How many events the client gave.
    pub fn asked_events(&self) -> usize {
        self.asked.1
    }

    /// The encoded body of an event.
    pub fn body(&self, event: &PreparedEvent) -> &[u8] {
        &self.bytes[event.start as usize..][..event.len as usize]
    }

    /// Bytes of all bodies.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// The event as the index sees it, without a place.
fn view<'a>(stream: &'a StreamName, event: &'a NewEvent, tombstone: bool) -> EventView<'a> {
    EventView {
        position: Position(0),
        revision: Revision(0),
        time: Timestamp(0),
        id: event.id,
        stream: stream.as_str(),
        event_type: &event.event_type,
        content_type: event.content_type,
        tombstone,
        metadata: &event.metadata,
        data: &event.data,
    }
}

fn check(append: &Append) -> Result<(), AppendError> {
    let malformed = |reason| Err(AppendError::Malformed { reason });
    if append.streams.is_empty() {
        return malformed("it names no stream");
    }
    if append.streams.len() > APPEND_STREAMS_MAX {
        return malformed("it names more streams than an append may");
    }
    if append.events.len() > APPEND_EVENTS_MAX {
        return malformed("it has more events than an append may");
    }
    append.streams.iter().try_for_each(|part| virtual_stream::refuse(&part.stream))?;
    for (_, event) in &append.events {
        event.check()?;
    }
    let size = size_of(append);
    if size > APPEND_SIZE_MAX {
        return Err(AppendError::TooLarge { size, limit: APPEND_SIZE_MAX });
    }
    Ok(())
}

/// Bytes of an append as stored, at most.
fn size_of(append: &Append) -> usize {
    append
        .events
        .iter()
        .map(|(stream, event)| {
            let name = append.streams.get(*stream as usize).map_or(0, |s| s.stream.as_str().len());
            name + event.event_type.len() + event.metadata.len() + event.data.len() + EVENT_OVERHEAD
        })
        .sum()
}
