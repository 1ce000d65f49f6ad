//! A program at work: it takes events one by one, in memory; what is to be written waits until it is
//! drafted.
//!
//! ```text
//!   step ─ an event ─> partition ─> its state, from memory or the log ─> handle ─> writes, result
//!     └ … up to a full draft, or the end                                             │
//!   draft ─ all that waits, and the states and the place that go with it <───────────┘
//! ```
//!
//! INVARIANT: waits for nothing but the disk, and writes nothing: it runs on a thread that may block.

use std::time::Duration;

use bytes::Bytes;
use daybook_model::limits::{APPEND_SIZE_MAX, EVENT_SIZE_MAX};
use daybook_model::{
    ContentType, InvalidEvent, InvalidStreamName, NewEvent, Position, RecordedEvent, Revision,
    StreamName,
};
use daybook_script::{Definition, Event, Partitioning, Said, Script, ScriptError, Write};
use daybook_store::ReadError;
use daybook_store::virtual_stream::is_virtual;
use serde_json::value::RawValue;
use tokio::runtime::Handle;

use super::error::ProjectionError;
use super::journal::{Draft, Effect, Journal, Saved};
use super::partitions::{CHANGED_SIZE_MAX, Partition, Partitions};
use super::place::Place;
use super::source::{Deletion, Input, Source};
use super::spec::{self, Mode, Spec};

/// Events of one step: who asks for a state waits no longer.
const STEP_EVENTS_MAX: usize = 512;
/// Time of one step, for the same reason.
const STEP_TIME_MAX: Duration = Duration::from_millis(100);
/// Events that may wait to be written. As in KurrentDB.
const WRITES_MAX: usize = 500;
/// Their bytes. A sixteenth of what an append may have.
const WRITES_SIZE_MAX: usize = 4 * 1024 * 1024;
/// Bytes of one state. A checkpoint may have two, and is one event.
const STATE_SIZE_MAX: usize = 7 * 1024 * 1024;
/// Lines that a program may log of one event; more are left out.
const LINES_MAX: usize = 20;

const _: () = assert!(2 * STATE_SIZE_MAX < EVENT_SIZE_MAX);
const _: () = assert!(
    CHANGED_SIZE_MAX + WRITES_SIZE_MAX + 2 * STATE_SIZE_MAX + EVENT_SIZE_MAX < APPEND_SIZE_MAX
);

/// What kind of thing stopped a projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its program, or what that asks for.
    Program,
    /// The engine's heap was full, perhaps of what can be let go of.
    Memory,
    /// The store, which may work again.
    Store,
    /// The store will never take what is to be written.
    Refused,
}

/// Why a projection stopped.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What kind of thing it was.
    pub kind: Kind,
    /// The event's position, if it has to do with one.
    pub at: Option<Position>,
    /// Why.
    pub reason: String,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more.
    More,
    /// It came to the end of what it follows.
    CaughtUp,
}

/// How many events a step has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// One.
    Singly,
    /// As many as there are.
    Freely,
}

/// A program at work.
pub struct Work {
    journal: Journal,
    spec: Spec,
    script: Script,
    source: Source,
    partitions: Partitions,
    effects: Vec<Effect>,
    effects_size: usize,
    /// The checkpoint that the next one follows, and whether its stream keeps only one.
    checkpoint: Option<Revision>,
    keeps_one: bool,
    /// Whether a step is one event.
    singly: bool,
    /// What was handled last.
    last: Option<(Revision, StreamName)>,
    /// Events handled since it was started, and since the last draft was saved.
    pub handled: u64,
    pub unsaved: u64,
    /// The place that was saved last.
    pub saved: Position,
    pub written: u64,
}

impl Work {
    /// Takes up the projection `spec` where it was saved.
    ///
    /// # Errors
    /// Why it cannot be run.
    pub fn open(journal: Journal, spec: Spec) -> Result<Work, ProjectionError> {
        let script = Script::compile(&spec.query)?;
        let saved = match spec.mode {
            Mode::Continuous => Handle::current().block_on(journal.saved(&spec))?,
            Mode::OneTime | Mode::Transient => Saved::default(),
        };
        let place = saved.place.clone().unwrap_or_default();
        let source = Source::new(journal.store(), script.definition(), place.clone());
        let mut work = Work {
            journal,
            spec,
            script,
            source,
            partitions: Partitions::default(),
            effects: Vec::new(),
            effects_size: 0,
            checkpoint: saved.checkpoint,
            keeps_one: saved.keeps_one,
            singly: false,
            last: None,
            handled: 0,
            unsaved: 0,
            saved: place.position(),
            written: 0,
        };
        let definition = work.script.definition().clone();
        if definition.bi_state {
            work.script.load_shared(saved.shared.as_deref())?;
        }
        if definition.partitioning == Partitioning::None {
            // A program that has not handled anything has its first state already.
            work.script.load("", saved.state.as_deref())?;
            let result = match saved.place {
                Some(_) => work.script.result("")?,
                None => None,
            };
            let root = Partition::new(saved.state.as_deref(), digest(result.as_deref()));
            work.partitions.take("", root);
        }
        Ok(work)
    }

    /// Stops before `position`: what comes there cannot be handled.
    pub fn stop_before(&mut self, position: Position) {
        self.source.stop_before(position);
    }

    /// Handles one event a step, or as many as there are.
    pub fn go(&mut self, pace: Pace) {
        self.singly = pace == Pace::Singly;
    }

    /// What it follows.
    pub fn source(&mut self) -> &mut Source {
        &mut self.source
    }

    /// How far it is.
    pub fn place(&self) -> &Place {
        self.source.place()
    }

    /// Partitions in memory.
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// Events that wait to be written.
    pub fn unwritten(&self) -> usize {
        self.effects.len()
    }

    /// Whether what waits must be drafted before there is more.
    pub fn is_full(&self) -> bool {
        self.effects.len() >= WRITES_MAX
            || self.effects_size >= WRITES_SIZE_MAX
            || self.partitions.are_full()
    }

    /// Handles some events.
    ///
    /// # Errors
    /// [`Fault`]
    pub fn step(&mut self) -> Result<Step, Fault> {
        let until = self.journal.clock().monotonic() + STEP_TIME_MAX;
        for _ in 0..STEP_EVENTS_MAX {
            if self.is_full() {
                break;
            }
            let Some(input) = self.source.next().map_err(|failed| unread(&failed))? else {
                self.source.at_end();
                return Ok(Step::CaughtUp);
            };
            let position = input.position;
            let seen =
                input.event.as_ref().or(input.deleted.as_ref().map(|deleted| &deleted.event));
            if let Some(event) = seen {
                self.last = Some((event.revision, event.stream.clone()));
            }
            let handled = self.handled;
            self.take(input).map_err(|failed| Fault {
                kind: failed.kind(),
                at: Some(position),
                reason: self.of_last(&failed.to_string()),
            })?;
            let enough = self.singly && self.handled > handled;
            if enough || self.journal.clock().monotonic() >= until {
                break;
            }
        }
        Ok(Step::More)
    }

    /// `reason`, with the event that was handled last.
    pub fn of_last(&self, reason: &str) -> String {
        match &self.last {
            Some((revision, stream)) => format!("event {revision}@{stream}: {reason}"),
            None => reason.to_owned(),
        }
    }

    fn take(&mut self, input: Input) -> Result<(), Failed> {
        if let Some(deletion) = &input.deleted {
            self.tell_deleted(deletion)?;
        }
        let Some(event) = &input.event else { return Ok(()) };
        let (Ok(data), Ok(metadata)) =
            (std::str::from_utf8(&event.data), std::str::from_utf8(&event.metadata))
        else {
            // A program has no way to see bytes that are not text.
            return Ok(());
        };
        let is_json = event.content_type == ContentType::Json;
        if is_json && serde_json::from_str::<&RawValue>(data).is_err() {
            return Ok(());
        }
        let id = event.id.to_string();
        let link_metadata =
            input.link_metadata.as_deref().and_then(|m| std::str::from_utf8(m).ok());
        let category = self.script.definition().category.clone();
        let seen = Event {
            stream: event.stream.as_str(),
            revision: event.revision.0,
            event_type: &event.event_type,
            id: &id,
            is_json,
            data: Some(data),
            metadata: Some(metadata).filter(|text| !text.is_empty()),
            link_metadata: link_metadata.filter(|text| !text.is_empty()),
            category: category.as_deref(),
        };
        let Some(partition) = self.partition(&seen)? else { return Ok(()) };
        let is_new = self.load(&partition)?;
        if is_new && self.script.definition().partitioning != Partitioning::None {
            let said = self.script.created(&partition, &seen)?;
            self.note(said, event)?;
        }
        let said = self.script.handle(&partition, &seen)?;
        self.note(said, event)?;
        self.after(&partition, event)
    }

    fn tell_deleted(&mut self, deletion: &Deletion) -> Result<(), Failed> {
        let Deletion { stream, how, event } = deletion;
        self.load(stream)?;
        let said = self.script.deleted(stream, *how)?;
        self.note(said, event)?;
        self.after(stream, event)
    }

    fn partition(&mut self, event: &Event<'_>) -> Result<Option<String>, Failed> {
        Ok(match self.script.definition().partitioning {
            Partitioning::None => Some(String::new()),
            Partitioning::ByStream => {
                let stream = event.stream.strip_prefix("$$").unwrap_or(event.stream);
                Some(stream.to_owned())
            }
            Partitioning::ByFunction => self.script.partition(event)?.filter(|p| !p.is_empty()),
        })
    }

    /// Sees to it that the state of `partition` is in memory. Answers whether it is new.
    fn load(&mut self, partition: &str) -> Result<bool, Failed> {
        if self.partitions.used(partition).is_some() {
            return Ok(false);
        }
        // A name that cannot be a part of a stream's is told with the event that has it.
        spec::partition_stream(&self.spec.name, partition)?;
        let saved = match self.spec.mode {
            Mode::Continuous => {
                Handle::current().block_on(self.journal.state(&self.spec, partition))?
            }
            Mode::OneTime | Mode::Transient => None,
        };
        self.script.load(partition, saved.as_deref())?;
        let definition = self.script.definition();
        let result = if saved.is_some() && definition.output_state {
            self.script.result(partition)?
        } else {
            None
        };
        let loaded = Partition::new(saved.as_deref(), digest(result.as_deref()));
        self.partitions.take(partition, loaded);
        Ok(saved.is_none())
    }

    /// Takes up what the program says of `cause`.
    fn note(&mut self, said: Said, cause: &RecordedEvent) -> Result<(), Failed> {
        for line in said.lines.iter().take(LINES_MAX) {
            tracing::info!(projection = self.spec.name, "{line}");
        }
        if said.writes.is_empty() {
            return Ok(());
        }
        if !self.spec.emit_enabled {
            return Err(Failed::EmitDisabled);
        }
        for Write { stream, event_type, is_json, data, metadata } in said.writes {
            let stream = StreamName::new(&stream)?;
            let event = NewEvent {
                id: self.journal.new_id(),
                event_type,
                content_type: if is_json { ContentType::Json } else { ContentType::Binary },
                metadata: caused(metadata.as_deref(), cause),
                data: data.into(),
            };
            check(&stream, &event)?;
            self.effect(Effect::Write { stream, event });
        }
        Ok(())
    }

    /// After an event: the state is another, and perhaps the result.
    fn after(&mut self, partition: &str, cause: &RecordedEvent) -> Result<(), Failed> {
        self.handled += 1;
        self.unsaved += 1;
        // What is in memory alone is never drafted.
        if self.spec.mode == Mode::Continuous {
            self.partitions.change(partition);
        }
        if !self.script.definition().output_state || self.spec.mode != Mode::Continuous {
            return Ok(());
        }
        let result = self.script.result(partition)?;
        let digest = digest(result.as_deref());
        let loaded = self.partitions.used(partition).expect("it was loaded");
        if loaded.result == digest {
            return Ok(());
        }
        loaded.result = digest;
        let definition = self.script.definition();
        let (stream, link_from) = results(&self.spec.name, definition, partition)?;
        for written in std::iter::once(&stream).chain(&link_from) {
            if !spec::may_have_results(&self.spec.name, written) {
                return Err(Failed::Owned(written.clone()));
            }
        }
        let event_type = if result.is_some() { "Result" } else { "ResultRemoved" };
        let event = NewEvent {
            id: self.journal.new_id(),
            event_type: event_type.to_owned(),
            content_type: ContentType::Json,
            metadata: caused(None, cause),
            data: result.unwrap_or_default().into(),
        };
        event.check()?;
        self.effect(match link_from {
            None => Effect::Write { stream, event },
            Some(link_from) => {
                Effect::Result { stream, event, link_from, link_id: self.journal.new_id() }
            }
        });
        Ok(())
    }

    fn effect(&mut self, effect: Effect) {
        let event = effect.event();
        self.effects_size += event.data.len() + event.metadata.len();
        self.effects.push(effect);
    }

    /// What waits to be written, with the states and the place that go with it.
    ///
    /// # Errors
    /// [`Fault`] if a state cannot be written.
    pub fn draft(&mut self) -> Result<Draft, Fault> {
        let at = self.source.place().position();
        self.drafted().map_err(|failed| Fault {
            kind: if failed.kind() == Kind::Program { Kind::Refused } else { failed.kind() },
            at: Some(at),
            reason: self.of_last(&failed.to_string()),
        })
    }

    fn drafted(&mut self) -> Result<Draft, Failed> {
        let mut states = Vec::new();
        let mut state = None;
        let is_one = self.script.definition().partitioning == Partitioning::None;
        if is_one {
            state = Some(stated(&mut self.script, "")?);
        } else {
            for (name, is_there) in self.partitions.changed() {
                let stream = spec::partition_stream(&self.spec.name, name)?;
                states.push((stream, is_there, stated(&mut self.script, name)?));
            }
        }
        let shared = if self.script.definition().bi_state {
            Some(self.script.shared()?.unwrap_or_else(|| "null".to_owned()))
        } else {
            None
        };
        if shared.as_ref().is_some_and(|text| text.len() > STATE_SIZE_MAX) {
            return Err(Failed::LargeState("(shared)".to_owned()));
        }
        Ok(Draft {
            effects: std::mem::take(&mut self.effects),
            states,
            state,
            shared,
            place: self.source.place().clone(),
            after: self.checkpoint,
            keeps_one: self.keeps_one,
        })
    }

    /// Notes that `draft` was written, as checkpoint `revision`.
    ///
    /// # Errors
    /// [`Fault`]
    pub fn saved(&mut self, draft: &Draft, revision: Revision) -> Result<(), Fault> {
        self.checkpoint = Some(revision);
        self.keeps_one = true;
        self.saved = draft.place.position();
        self.written += draft.effects.len() as u64;
        self.effects_size = 0;
        self.unsaved = 0;
        let root = draft.state.iter().map(String::len);
        let sizes = root.chain(draft.states.iter().map(|(_, _, state)| state.len()));
        self.partitions.saved(&sizes.collect::<Vec<_>>());
        for name in self.partitions.evict() {
            let forgotten = self.script.forget(&name).map_err(Failed::from);
            forgotten.map_err(|failed| Fault {
                kind: failed.kind(),
                at: None,
                reason: failed.to_string(),
            })?;
        }
        Ok(())
    }

    /// The state of `partition`.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub fn state(&mut self, partition: &str) -> Result<Option<String>, ProjectionError> {
        self.shown(partition, Script::state)
    }

    /// What the program makes of the state of `partition`.
    ///
    /// # Errors
    /// Why it cannot be told.
    pub fn result(&mut self, partition: &str) -> Result<Option<String>, ProjectionError> {
        self.shown(partition, Script::result)
    }

    fn shown(
        &mut self,
        partition: &str,
        show: impl FnOnce(&mut Script, &str) -> Result<Option<String>, ScriptError>,
    ) -> Result<Option<String>, ProjectionError> {
        if self.partitions.has(partition) {
            return Ok(show(&mut self.script, partition)?);
        }
        let definition = self.script.definition();
        if partition.is_empty() {
            // Of a program with partitions: what they share.
            return Ok(if definition.bi_state { self.script.shared()? } else { None });
        }
        if self.spec.mode != Mode::Continuous || definition.partitioning == Partitioning::None {
            return Ok(None);
        }
        let saved = Handle::current().block_on(self.journal.state(&self.spec, partition))?;
        let Some(saved) = saved else { return Ok(None) };
        self.script.load(partition, Some(&saved))?;
        let shown = show(&mut self.script, partition);
        self.script.forget(partition)?;
        Ok(shown?)
    }
}

/// Where the results of `partition` are, and where links to them are.
fn results(
    name: &str,
    definition: &Definition,
    partition: &str,
) -> Result<(StreamName, Option<StreamName>), InvalidStreamName> {
    let root = spec::result_stream(name, definition)?;
    if partition.is_empty() {
        return Ok((root, None));
    }
    let stream = spec::partition_result_stream(name, definition, partition)?;
    Ok((stream, Some(root)))
}

/// Checks what a program asks to be written.
fn check(stream: &StreamName, event: &NewEvent) -> Result<(), Failed> {
    if stream.owner().is_some() || is_virtual(stream) {
        return Err(Failed::Owned(stream.clone()));
    }
    event.check()?;
    Ok(())
}

/// The state of `partition`. One that was set to null is another than one that was never set.
fn stated(script: &mut Script, partition: &str) -> Result<String, Failed> {
    let text = script.state(partition)?.unwrap_or_else(|| "null".to_owned());
    if text.len() > STATE_SIZE_MAX {
        return Err(Failed::LargeState(partition.to_owned()));
    }
    Ok(text)
}

fn digest(result: Option<&str>) -> Option<blake3::Hash> {
    result.map(|text| blake3::hash(text.as_bytes()))
}

/// `metadata`, and what caused it.
fn caused(metadata: Option<&str>, cause: &RecordedEvent) -> Bytes {
    let parsed = metadata.and_then(|text| serde_json::from_str(text).ok());
    let mut metadata: serde_json::Map<String, serde_json::Value> = parsed.unwrap_or_default();
    let of_cause: Option<serde_json::Value> = serde_json::from_slice(&cause.metadata).ok();
    let correlation = of_cause.as_ref().and_then(|of| of.get("$correlationId"));
    if let Some(id) = correlation {
        metadata.entry("$correlationId").or_insert_with(|| id.clone());
    }
    metadata.entry("$causedBy").or_insert_with(|| cause.id.to_string().into());
    serde_json::to_vec(&metadata).expect("a JSON object is text").into()
}

/// Why an event could not be handled.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Script(#[from] ScriptError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Name(#[from] InvalidStreamName),
    #[error(transparent)]
    Event(#[from] InvalidEvent),
    #[error(
        "'emit' is not allowed by the projection/configuration/mode; enable emit and try again"
    )]
    EmitDisabled,
    #[error("stream '{0}' is written by another part of the server; write to a stream of your own")]
    Owned(StreamName),
    #[error("the state of partition '{0}' has more than {STATE_SIZE_MAX} bytes; keep less in it")]
    LargeState(String),
}

impl Failed {
    fn kind(&self) -> Kind {
        match self {
            Failed::Script(ScriptError::Memory { .. }) => Kind::Memory,
            Failed::Read(_) => Kind::Store,
            _ => Kind::Program,
        }
    }
}

/// What it follows cannot be read, now.
pub fn unread(failed: &ReadError) -> Fault {
    let reason = format!("cannot read what it follows: {failed}");
    Fault { kind: Kind::Store, at: None, reason }
}
