//! Looks up, before the queue, what an append depends on, as of a committed position. May read the
//! disk, so that the writer never does. Rejections and duplicates are answered here: what they rest
//! on is durable already.

use std::sync::Arc;

use daybook_log::planted::{self, Bug};
use daybook_model::append::{AppendError, Appended, Deletion, StreamCondition};
use daybook_model::limits::APPEND_SIZE_MAX;
use daybook_model::{ExpectedRevision, NewEvent, Position, Revision, StreamMetadata};
use smallvec::SmallVec;

use crate::core::Core;
use crate::decide::{Decision, StreamFacts, decide};
use crate::fetch::fetch;
use crate::index::{Access, Key, View};
use crate::page::{PAGE_EVENTS_MAX, Page};
use crate::prepare::{Prepared, PreparedStream};
use crate::read::ReadError;

/// Streams whose settings are kept in memory.
const SETTINGS_CACHE_LEN: usize = 65_536;

/// What the writer needs to know, as of `as_of`.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub as_of: Position,
    pub facts: SmallVec<[StreamFacts; 1]>,
}

/// What is known of an append before it is queued.
pub(crate) enum Resolution {
    /// It may be written, unless something it rests on changes first.
    Write(Resolved),
    /// It is decided.
    Answer(Result<Appended, AppendError>),
}

/// What the newest settings event of a stream says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub tombstoned: bool,
    pub metadata: StreamMetadata,
    /// Where the metadata stands as its client wrote it.
    pub position: Option<Position>,
    /// Whether there is any settings event.
    pub exists: bool,
}

/// Settings by stream, each with the number of settings events it was read from: it is right for
/// as long as that is their number.
pub(crate) struct SettingsCache {
    cache: quick_cache::sync::Cache<Key, (u64, Arc<Settings>)>,
}

impl SettingsCache {
    pub fn new() -> SettingsCache {
        SettingsCache { cache: quick_cache::sync::Cache::new(SETTINGS_CACHE_LEN) }
    }
}

/// The settings under `key`, as of `committed`.
pub(crate) fn settings(
    core: &Core,
    view: &View,
    key: Key,
    committed: Position,
    access: Access,
) -> Result<Arc<Settings>, ReadError> {
    let count = view.count(key, committed, access)?;
    if count == 0 {
        return Ok(Arc::default());
    }
    if let Some((at, settings)) = core.settings.cache.get(&key)
        && at == count
    {
        return Ok(settings);
    }
    let positions = view.positions(key, count - 1, 1, committed, access)?;
    let page = fetch(core, view, &positions, access)?;
    let event = page.last().ok_or(ReadError::Closed)?;
    // Metadata may have been written after the tombstone: that opens nothing.
    let ended = view.count(core.hasher.tombstone(key), committed, access)? > 0;
    let ended = if planted::is(Bug::MetadataAfterTombstone) { event.tombstone } else { ended };
    let settings = Arc::new(if ended {
        Settings { tombstoned: true, exists: true, ..Settings::default() }
    } else {
        let metadata = StreamMetadata::parse(event.data);
        Settings { tombstoned: false, metadata, position: Some(event.position), exists: true }
    });
    core.settings.cache.insert(key, (count, settings.clone()));
    Ok(settings)
}

/// Resolves `prepared`, and completes it with the metadata event that opens a soft-deleted stream
/// again.
pub(crate) fn resolve(
    core: &Core,
    prepared: &mut Prepared,
    access: Access,
) -> Result<Resolution, ReadError> {
    prepared.reset();
    let as_of = core.committed();
    let view = core.view.load();
    let mut facts: SmallVec<[StreamFacts; 1]> = SmallVec::new();
    let mut decisions: SmallVec<[Decision; 1]> = SmallVec::new();
    let mut reopened = Vec::new();
    for (index, stream) in prepared.streams.iter().enumerate() {
        let settings = settings(core, &view, stream.settings, as_of, access)?;
        let head = view.count(stream.key, as_of, access)?.checked_sub(1);
        let fact = StreamFacts {
            head,
            tombstoned: settings.tombstoned,
            soft_deleted: settings.metadata.is_soft_deleted(),
            has_metadata: settings.exists,
        };
        let known = known(core, &view, prepared, stream, &fact, as_of, access)?;
        let decision = match prepared.deletion {
            // It writes only beside the stream that it deletes, which the rules would let pass.
            Some(Deletion::Soft) if index == 0 && fact.tombstoned => Decision::Deleted,
            _ => decide(&fact, stream.condition.expected, &known),
        };
        let closes = prepared.deletion == Some(Deletion::Tombstone)
            && !planted::is(Bug::TombstoneOpensAgain);
        let opens = !stream.events.is_empty() && !closes;
        if fact.soft_deleted && opens && decision == Decision::Append {
            reopened.push((index, settings));
        }
        facts.push(fact);
        decisions.push(decision);
    }
    if let Some(answer) = answer(&view, prepared, &facts, &decisions, as_of, access)? {
        return Ok(Resolution::Answer(answer));
    }
    for (index, settings) in reopened {
        let page = fetch(core, &view, settings.position.as_slice(), access)?;
        let metadata = page.last().map(|event| event.data).unwrap_or_default();
        if let Err(e) = reopen(core, prepared, index, &facts, metadata) {
            return Ok(Resolution::Answer(Err(e)));
        }
    }
    let (size, limit) = (prepared.size(), APPEND_SIZE_MAX);
    if size > limit {
        return Ok(Resolution::Answer(Err(AppendError::TooLarge { size, limit })));
    }
    // The metastreams that were added: only written, so only their heads matter.
    for stream in &prepared.streams[facts.len()..] {
        let head = view.count(stream.key, as_of, access)?.checked_sub(1);
        facts.push(StreamFacts { head, ..StreamFacts::default() });
    }
    Ok(Resolution::Write(Resolved { as_of, facts }))
}

/// For each event of `stream` the revision at which its id stands there, as far as the rules ask.
fn known(
    core: &Core,
    view: &View,
    prepared: &Prepared,
    stream: &PreparedStream,
    facts: &StreamFacts,
    as_of: Position,
    access: Access,
) -> Result<SmallVec<[Option<u64>; 1]>, ReadError> {
    let mut known: SmallVec<[Option<u64>; 1]> = SmallVec::from_elem(None, stream.events.len());
    let first = match (stream.condition.expected, facts.head) {
        (_, None) => return Ok(known),
        (ExpectedRevision::Any | ExpectedRevision::StreamExists, _) => {
            known_lately(core, view, prepared, stream, as_of, access, &mut known)?;
            return Ok(known);
        }
        (ExpectedRevision::NoStream, Some(_)) => 0,
        (ExpectedRevision::Exact(n), Some(head)) if n.0 < head => n.0 + 1,
        (ExpectedRevision::Exact(_), _) => return Ok(known),
    };
    let mut at = 0;
    while at < stream.events.len() {
        let limit = (stream.events.len() - at).min(PAGE_EVENTS_MAX);
        let positions = view.positions(stream.key, first + at as u64, limit, as_of, access)?;
        if positions.is_empty() {
            break;
        }
        let page = fetch(core, view, &positions, access)?;
        for stored in page.events() {
            let asked = &prepared.events[stream.events[at] as usize];
            if stored.id == asked.id {
                known[at] = Some(stored.revision.0);
            }
            at += 1;
        }
        if page.is_empty() {
            break;
        }
    }
    Ok(known)
}

fn known_lately(
    core: &Core,
    view: &View,
    prepared: &Prepared,
    stream: &PreparedStream,
    as_of: Position,
    access: Access,
    known: &mut [Option<u64>],
) -> Result<(), ReadError> {
    for (i, event) in stream.events.iter().enumerate() {
        let event = &prepared.events[*event as usize];
        let hint = core.ids.read().get(event.id_key).filter(|position| *position < as_of);
        let Some(position) = hint else {
            // An unknown first id decides that all is new.
            if i == 0 {
                return Ok(());
            }
            continue;
        };
        let page: Page = fetch(core, view, &[position], access)?;
        if let Some(stored) = page.last()
            && stored.id == event.id
            && stored.stream == stream.condition.stream.as_str()
        {
            known[i] = Some(stored.revision.0);
        }
    }
    Ok(())
}

/// The answer, if what is stored already decides.
fn answer(
    view: &View,
    prepared: &Prepared,
    facts: &[StreamFacts],
    decisions: &[Decision],
    as_of: Position,
    access: Access,
) -> Result<Option<Result<Appended, AppendError>>, ReadError> {
    let has_events = |index: usize| !prepared.streams[index].events.is_empty();
    let ahead = |index: usize| is_ahead(&prepared.streams[index].condition, &facts[index]);
    let any_new = decisions.iter().enumerate().any(|(i, decision)| {
        has_events(i)
            && (*decision == Decision::Append || (*decision == Decision::Wrong && ahead(i)))
    });
    // A retry of what was written is answered again, whatever became of streams it only checks.
    let duplicate = decisions
        .iter()
        .enumerate()
        .filter(|(i, _)| has_events(*i))
        .all(|(_, decision)| matches!(decision, Decision::Duplicate { .. }))
        && prepared.asked_events() > 0;
    for (index, decision) in decisions.iter().enumerate() {
        let condition = &prepared.streams[index].condition;
        match decision {
            _ if duplicate => {}
            // What it expects may be on its way: only the writer knows.
            Decision::Wrong if any_new && ahead(index) => {}
            Decision::Wrong => return Ok(Some(Err(wrong(index, condition, &facts[index])))),
            Decision::Duplicate { .. } if any_new => {
                return Ok(Some(Err(wrong(index, condition, &facts[index]))));
            }
            Decision::Deleted => {
                return Ok(Some(Err(AppendError::StreamDeleted {
                    index,
                    stream: condition.stream.clone(),
                    tombstoned: facts[index].tombstoned,
                })));
            }
            Decision::Append | Decision::Duplicate { .. } => {}
        }
    }
    if any_new {
        return Ok(None);
    }
    let revisions = decisions
        .iter()
        .zip(facts)
        .map(|(decision, facts)| match decision {
            Decision::Duplicate { last } => Some(Revision(*last)),
            _ => facts.head.map(Revision),
        })
        .collect();
    let mut position = None;
    if let Some(event) = prepared.events.last() {
        let index = event.stream as usize;
        if let Decision::Duplicate { last } = decisions[index] {
            let key = prepared.streams[index].key;
            position = view.positions(key, last, 1, as_of, access)?.first().copied();
        }
    }
    Ok(Some(Ok(Appended { revisions, position })))
}

/// Whether the condition expects a revision that the stream has not reached.
pub(crate) fn is_ahead(condition: &StreamCondition, facts: &StreamFacts) -> bool {
    let ExpectedRevision::Exact(expected) = condition.expected else { return false };
    facts.head.is_none_or(|head| expected.0 > head)
}

/// The answer to an append whose condition on one stream does not hold.
pub(crate) fn wrong(index: usize, condition: &StreamCondition, facts: &StreamFacts) -> AppendError {
    AppendError::WrongExpectedRevision {
        index,
        stream: condition.stream.clone(),
        expected: condition.expected,
        actual: facts.head.map(Revision),
    }
}

/// Adds the metadata event that opens a soft-deleted stream again: its old events stay hidden.
fn reopen(
    core: &Core,
    prepared: &mut Prepared,
    index: usize,
    facts: &[StreamFacts],
    metadata: &[u8],
) -> Result<(), AppendError> {
    let stream = prepared.streams[index].condition.stream.metastream();
    if prepared.streams.iter().any(|other| other.condition.stream == stream) {
        return Ok(());
    }
    let first = facts[index].head.map_or(0, |head| head + 1);
    let data = StreamMetadata::reopen_data(metadata, first);
    let id = uuid::Builder::from_random_bytes(core.environment.entropy.bytes()).into_uuid();
    let event = NewEvent::json(id, daybook_model::metadata::METADATA_EVENT_TYPE, data);
    let condition = StreamCondition { stream, expected: ExpectedRevision::Any };
    prepared.add(&core.hasher, condition, &event)
}
