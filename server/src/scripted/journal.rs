//! What projections write and read of their own; see `spec` for the streams.
//!
//! INVARIANT: the only place where this room writes to the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daybook_model::metadata::METADATA_EVENT_TYPE;
use daybook_model::{
    Clock, ContentType, Entropy, ExpectedRevision, NewEvent, RecordedEvent, Revision, StreamName,
};
use daybook_script::Definition;
use daybook_store::virtual_stream::LINK_EVENT_TYPE;
use daybook_store::{
    Append, AppendError, Deletion, Direction, From, ReadError, ReadStream, Store, StreamCondition,
    StreamState,
};
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use smallvec::SmallVec;
use uuid::Uuid;

use super::error::ProjectionError;
use super::place::Place;
use super::spec::{self, Spec};
use super::{Leavings, Run};
use crate::persistent::feed::owned;

const CREATED_EVENT_TYPE: &str = "$ProjectionCreated";
const DELETED_EVENT_TYPE: &str = "$ProjectionDeleted";
const SPEC_EVENT_TYPE: &str = "$ProjectionUpdated";
const CHECKPOINT_EVENT_TYPE: &str = "$ProjectionCheckpoint";
const STATE_EVENT_TYPE: &str = "$Checkpoint";
const TRACKED_EVENT_TYPE: &str = "$StreamTracked";
/// Names of streams that are remembered as tracked; beyond that one may be noted twice.
const TRACKED_MAX: usize = 100_000;
/// How often a draft is made anew because somebody else wrote to a stream of results.
const ATTEMPTS_MAX: usize = 5;

/// Writes and reads the projections' own streams. A clone is another handle.
#[derive(Clone)]
pub struct Journal {
    store: Store,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// By projection, the streams that are noted as written to.
    tracked: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
}

/// Something that is to be written.
#[derive(Clone, Debug)]
pub enum Effect {
    /// An event.
    Write {
        /// To where.
        stream: StreamName,
        /// It.
        event: NewEvent,
    },
    /// A partition's result, and a link to it.
    Result {
        /// To where.
        stream: StreamName,
        /// It.
        event: NewEvent,
        /// Where the link goes.
        link_from: StreamName,
        /// The link's id.
        link_id: Uuid,
    },
}

impl Effect {
    /// The event, without a link to it.
    pub fn event(&self) -> &NewEvent {
        match self {
            Effect::Write { event, .. } | Effect::Result { event, .. } => event,
        }
    }
}

/// What is to be written together.
#[derive(Clone, Debug)]
pub struct Draft {
    /// In order.
    pub effects: Vec<Effect>,
    /// Of partitions: the stream, whether it is there already, and the state.
    pub states: Vec<(StreamName, bool, String)>,
    /// Of a program without partitions.
    pub state: Option<String>,
    /// What partitions share.
    pub shared: Option<String>,
    /// How far the program had come.
    pub place: Place,
    /// The checkpoint that it follows.
    pub after: Option<Revision>,
    /// Whether the checkpoints' stream keeps only one of them.
    pub keeps_one: bool,
}

impl Draft {
    /// Bytes of the states.
    pub fn states_size(&self) -> usize {
        let root = self.state.iter().chain(&self.shared).map(String::len);
        root.chain(self.states.iter().map(|(_, _, state)| state.len())).sum()
    }
}

/// What was saved of a projection.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// Its last checkpoint, of whichever run.
    pub checkpoint: Option<Revision>,
    /// Whether only one is kept.
    pub keeps_one: bool,
    /// How far it had come; none if it is to begin.
    pub place: Option<Place>,
    /// Its state.
    pub state: Option<String>,
    /// What its partitions share.
    pub shared: Option<String>,
}

/// The data of a checkpoint.
#[derive(Serialize, Deserialize)]
struct Checkpoint {
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    state: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "there", skip_serializing_if = "Option::is_none")]
    shared: Option<Box<RawValue>>,
}

/// A field that is there, also if it is null: a state may be that.
fn there<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(field).map(Some)
}

/// The metadata of checkpoints and states.
#[derive(Serialize, Deserialize)]
struct Of {
    run: Run,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<Place>,
}

impl Journal {
    /// The journal in `store`.
    pub fn new(store: Store, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Journal {
        Journal { store, clock, entropy, tracked: Arc::default() }
    }

    /// The store, to read from.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The time.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// An id for an event, or a run.
    pub fn new_id(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.entropy.bytes()).into_uuid()
    }

    /// All that are kept, by name; of one that cannot be read, why.
    ///
    /// # Errors
    /// [`ReadError`] if the names cannot be read.
    pub async fn specs(&self) -> Result<Vec<Result<Spec, (String, String)>>, ReadError> {
        let mut names = BTreeSet::new();
        self.each(&spec::list_stream(), |event| {
            let Ok(name) = String::from_utf8(event.data.to_vec()) else { return };
            match event.event_type.as_str() {
                CREATED_EVENT_TYPE => drop(names.insert(name)),
                DELETED_EVENT_TYPE => drop(names.remove(&name)),
                _ => {}
            }
        })
        .await?;
        let mut specs = Vec::new();
        for name in names {
            let read = match self.last(&spec::spec_stream(&name)).await {
                Ok(Some(event)) => serde_json::from_slice::<Spec>(&event.data)
                    .map_err(|error| format!("what is kept of it cannot be understood: {error}")),
                Ok(None) => Err("what is kept of it is gone".to_owned()),
                Err(failed) => Err(format!("what is kept of it cannot be read: {failed}")),
            };
            specs.push(match read {
                Ok(spec) => Ok(Spec { name, ..spec }),
                Err(reason) => Err((name, reason)),
            });
        }
        Ok(specs)
    }

    /// Notes that there is a projection.
    ///
    /// # Errors
    /// [`AppendError`]
    pub async fn create(&self, spec: &Spec) -> Result<(), AppendError> {
        let created = self.event(CREATED_EVENT_TYPE, ContentType::Binary, spec.name.clone());
        let append = Append::to_streams([
            (spec::list_stream(), ExpectedRevision::Any, vec![created]),
            (spec::spec_stream(&spec.name), ExpectedRevision::Any, vec![self.spec_event(spec)]),
        ]);
        self.store.append(append).await.map(drop)
    }

    /// Notes that a projection is another now.
    ///
    /// # Errors
    /// [`AppendError`]
    pub async fn put(&self, spec: &Spec) -> Result<(), AppendError> {
        let stream = spec::spec_stream(&spec.name);
        let append = Append::to_stream(stream, ExpectedRevision::Any, [self.spec_event(spec)]);
        self.store.append(append).await.map(drop)
    }

    fn spec_event(&self, spec: &Spec) -> NewEvent {
        let data = serde_json::to_string(spec).expect("plain fields are JSON");
        self.event(SPEC_EVENT_TYPE, ContentType::Json, data)
    }

    /// Deletes a projection, and what is to go with it.
    ///
    /// # Errors
    /// [`ProjectionError`]
    pub async fn delete(
        &self,
        spec: &Spec,
        definition: Option<&Definition>,
        leavings: Leavings,
    ) -> Result<(), ProjectionError> {
        let deleted = self.event(DELETED_EVENT_TYPE, ContentType::Binary, spec.name.clone());
        let append = Append::to_stream(spec::list_stream(), ExpectedRevision::Any, [deleted]);
        self.store.append(append).await?;
        let mut going = vec![spec::spec_stream(&spec.name)];
        if leavings.checkpoints {
            going.push(spec::checkpoint_stream(&spec.name));
        }
        if leavings.results {
            let results = definition.and_then(|of| spec::result_stream(&spec.name, of).ok());
            going.extend(results.filter(|stream| spec::may_have_results(&spec.name, stream)));
        }
        if leavings.emitted_streams {
            let emitted = spec::emitted_stream(&spec.name);
            self.each(&emitted, |event| {
                let name = std::str::from_utf8(&event.data).unwrap_or_default();
                going.extend(StreamName::new(name).ok().filter(|stream| stream.owner().is_none()));
            })
            .await?;
            going.push(emitted);
        }
        for stream in going {
            if self.store.stream_info(&stream).await?.state == StreamState::Live {
                self.store.delete(&stream, ExpectedRevision::Any, Deletion::Soft).await?;
            }
        }
        self.tracked.lock().remove(&spec.name);
        Ok(())
    }

    /// Where `spec` was saved last.
    ///
    /// # Errors
    /// [`ProjectionError::Invalid`] if that is no place in this log.
    pub async fn saved(&self, spec: &Spec) -> Result<Saved, ProjectionError> {
        let stream = spec::checkpoint_stream(&spec.name);
        let info = self.store.stream_info(&stream).await?;
        let (checkpoint, keeps_one) = (info.head, info.metadata.max_count.is_some());
        let begin = Saved { checkpoint, keeps_one, ..Saved::default() };
        let Some(event) = self.last(&stream).await? else { return Ok(begin) };
        let Some(of) = of_run(&event, spec.run) else { return Ok(begin) };
        let text = |raw: Option<Box<RawValue>>| raw.map(|raw| raw.get().to_owned());
        let saved: Checkpoint =
            serde_json::from_slice(&event.data).map_err(|error| ProjectionError::Invalid {
                reason: format!("'{stream}' holds no checkpoint: {error}; reset the projection"),
            })?;
        if let Some(place) = &of.place
            && place.position() > self.store.committed()
        {
            return Err(ProjectionError::Invalid {
                reason: format!(
                    "'{stream}' names position {}, which this log does not have; reset the \
                     projection",
                    place.position
                ),
            });
        }
        let (state, shared) = (text(saved.state), text(saved.shared));
        Ok(Saved { checkpoint, keeps_one, place: of.place, state, shared })
    }

    /// The state of `partition`, if one was saved.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn state(&self, spec: &Spec, partition: &str) -> Result<Option<String>, ReadError> {
        let Ok(stream) = spec::partition_stream(&spec.name, partition) else { return Ok(None) };
        let event = self.last(&stream).await?;
        let event = event.filter(|event| of_run(event, spec.run).is_some());
        Ok(event.and_then(|event| String::from_utf8(event.data.to_vec()).ok()))
    }

    /// The state of `partition` as it was saved last; for none, that of the whole projection.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub async fn saved_state(
        &self,
        spec: &Spec,
        partition: &str,
    ) -> Result<Option<String>, ProjectionError> {
        if !partition.is_empty() {
            return Ok(self.state(spec, partition).await?);
        }
        let saved = self.saved(spec).await?;
        Ok(saved.state.or(saved.shared))
    }

    /// Writes a draft, whole or not at all. Answers the checkpoint's revision.
    ///
    /// # Errors
    /// [`AppendError`]
    pub async fn commit(&self, spec: &Spec, draft: &Draft) -> Result<Revision, AppendError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (append, checkpoint) = self.append_of(spec, draft).await?;
            let written = self.streams_of(draft);
            match self.store.append(append).await {
                Ok(appended) => {
                    self.remember(spec, written);
                    let revision = appended.revisions.get(checkpoint).copied().flatten();
                    return Ok(revision.unwrap_or(Revision(0)));
                }
                Err(AppendError::WrongExpectedRevision { stream, .. })
                    if stream != spec::checkpoint_stream(&spec.name) && attempts < ATTEMPTS_MAX => {
                }
                Err(failed) => return Err(failed),
            }
        }
    }

    /// `draft` as an append, and the index of the checkpoint's stream in it.
    async fn append_of(&self, spec: &Spec, draft: &Draft) -> Result<(Append, usize), AppendError> {
        let mut writing = Writing::new();
        for effect in &draft.effects {
            match effect {
                Effect::Write { stream, event } => writing.write(stream, event.clone()),
                Effect::Result { stream, event, link_from, link_id } => {
                    let next = match writing.next.get(stream).copied() {
                        Some(next) => next,
                        None => self.expect(stream, &mut writing).await?,
                    };
                    writing.write(stream, event.clone());
                    writing.write(
                        link_from,
                        NewEvent {
                            id: *link_id,
                            event_type: LINK_EVENT_TYPE.to_owned(),
                            content_type: ContentType::Binary,
                            metadata: event.metadata.clone(),
                            data: format!("{next}@{stream}").into(),
                        },
                    );
                }
            }
        }
        if spec.track_emitted_streams {
            let emitted = spec::emitted_stream(&spec.name);
            for stream in self.untracked(spec, draft).await? {
                let event = self.event(TRACKED_EVENT_TYPE, ContentType::Binary, stream);
                writing.write(&emitted, event);
            }
        }
        for (stream, is_there, state) in &draft.states {
            if !is_there {
                writing.write(&stream.metastream(), self.keep_one());
            }
            let mut event = self.event(STATE_EVENT_TYPE, ContentType::Json, state.clone());
            event.metadata = metadata(&Of { run: spec.run, place: None });
            writing.write(stream, event);
        }
        let stream = spec::checkpoint_stream(&spec.name);
        if !draft.keeps_one {
            writing.write(&stream.metastream(), self.keep_one());
        }
        let raw = |text: &Option<String>| {
            text.as_ref().and_then(|text| RawValue::from_string(text.clone()).ok())
        };
        let data = Checkpoint { state: raw(&draft.state), shared: raw(&draft.shared) };
        let data = serde_json::to_string(&data).expect("JSON in plain fields is JSON");
        let mut event = self.event(CHECKPOINT_EVENT_TYPE, ContentType::Json, data);
        event.metadata = metadata(&Of { run: spec.run, place: Some(draft.place.clone()) });
        let expected = draft.after.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
        let checkpoint = writing.stream(&stream);
        writing.append.streams[checkpoint].expected = expected;
        writing.write(&stream, event);
        Ok((writing.append, checkpoint))
    }

    /// The revision that the next event of `stream` will have, which the append then relies on.
    async fn expect(&self, stream: &StreamName, writing: &mut Writing) -> Result<u64, AppendError> {
        let info = self.store.stream_info(stream).await;
        let info = info.map_err(|failed| AppendError::Read { reason: failed.to_string() })?;
        let index = writing.stream(stream);
        let expected = info.head.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
        writing.append.streams[index].expected = expected;
        let before = writing.append.events.iter().filter(|(of, _)| *of as usize == index).count();
        let next = info.head.map_or(0, |head| head.0 + 1) + before as u64;
        writing.next.insert(stream.clone(), next);
        Ok(next)
    }

    fn streams_of(&self, draft: &Draft) -> BTreeSet<String> {
        let effects = draft.effects.iter();
        let names = effects.flat_map(|effect| match effect {
            Effect::Write { stream, .. } => [Some(stream), None],
            Effect::Result { stream, link_from, .. } => [Some(stream), Some(link_from)],
        });
        names.flatten().map(|stream| stream.as_str().to_owned()).collect()
    }

    /// The streams of `draft` that were not noted yet.
    async fn untracked(&self, spec: &Spec, draft: &Draft) -> Result<Vec<String>, AppendError> {
        if !self.tracked.lock().contains_key(&spec.name) {
            let mut known = BTreeSet::new();
            let stream = spec::emitted_stream(&spec.name);
            let read = self.each(&stream, |event| {
                if known.len() < TRACKED_MAX {
                    known.extend(String::from_utf8(event.data.to_vec()));
                }
            });
            let read = read.await;
            read.map_err(|failed| AppendError::Read { reason: failed.to_string() })?;
            self.tracked.lock().insert(spec.name.clone(), known);
        }
        let tracked = self.tracked.lock();
        let known = tracked.get(&spec.name);
        let mut streams = self.streams_of(draft);
        streams.retain(|stream| known.is_none_or(|known| !known.contains(stream)));
        Ok(streams.into_iter().collect())
    }

    fn remember(&self, spec: &Spec, written: BTreeSet<String>) {
        if let Some(known) = self.tracked.lock().get_mut(&spec.name)
            && known.len() < TRACKED_MAX
        {
            known.extend(written);
        }
    }

    fn keep_one(&self) -> NewEvent {
        self.event(METADATA_EVENT_TYPE, ContentType::Json, r#"{"$maxCount":1}"#.to_owned())
    }

    fn event(&self, event_type: &str, content_type: ContentType, data: String) -> NewEvent {
        NewEvent {
            id: self.new_id(),
            event_type: event_type.to_owned(),
            content_type,
            metadata: bytes::Bytes::new(),
            data: data.into(),
        }
    }

    async fn last(&self, stream: &StreamName) -> Result<Option<RecordedEvent>, ReadError> {
        let mut found = None;
        let query = ReadStream {
            stream: stream.clone(),
            from: From::End,
            direction: Direction::Backwards,
            count: 1,
        };
        self.read(query, |event| found = Some(event)).await?;
        Ok(found)
    }

    async fn each(
        &self,
        stream: &StreamName,
        see: impl FnMut(RecordedEvent),
    ) -> Result<(), ReadError> {
        let query = ReadStream {
            stream: stream.clone(),
            from: From::Start,
            direction: Direction::Forwards,
            count: u64::MAX,
        };
        self.read(query, see).await
    }

    async fn read(
        &self,
        query: ReadStream,
        mut see: impl FnMut(RecordedEvent),
    ) -> Result<(), ReadError> {
        let mut reader = match self.store.read_stream(query).await {
            Ok(reader) => reader,
            Err(ReadError::StreamNotFound { .. } | ReadError::StreamDeleted { .. }) => {
                return Ok(());
            }
            Err(failed) => return Err(failed),
        };
        while let Some(page) = reader.next().await? {
            page.events().for_each(|event| see(owned(&event)));
        }
        Ok(())
    }
}

/// An append that is being put together.
struct Writing {
    append: Append,
    index: BTreeMap<StreamName, usize>,
    /// Of streams whose revisions are relied on, the next.
    next: BTreeMap<StreamName, u64>,
}

impl Writing {
    fn new() -> Writing {
        let append = Append { streams: SmallVec::new(), events: Vec::new() };
        Writing { append, index: BTreeMap::new(), next: BTreeMap::new() }
    }

    fn stream(&mut self, stream: &StreamName) -> usize {
        let streams = &mut self.append.streams;
        *self.index.entry(stream.clone()).or_insert_with(|| {
            let expected = ExpectedRevision::Any;
            streams.push(StreamCondition { stream: stream.clone(), expected });
            streams.len() - 1
        })
    }

    fn write(&mut self, stream: &StreamName, event: NewEvent) {
        let index = u32::try_from(self.stream(stream)).expect("a draft has few streams");
        if let Some(next) = self.next.get_mut(stream) {
            *next += 1;
        }
        self.append.events.push((index, event));
    }
}

fn metadata(of: &Of) -> bytes::Bytes {
    serde_json::to_vec(of).expect("plain fields are JSON").into()
}

fn of_run(event: &RecordedEvent, run: Run) -> Option<Of> {
    serde_json::from_slice::<Of>(&event.metadata).ok().filter(|of| of.run == run)
}
