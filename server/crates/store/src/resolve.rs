//! Looks up, before the queue, what an append depends on, as of a committed position. May read the
//! disk, so that the writer never does. Rejections and duplicates are answered here: what they rest
//! on is durable already.

use std::sync::Arc;

use daybook_log::planted::{self, Bug};
use daybook_model::append::{
    AppendError, Appended, Deletion, EndedState, FailedCheck, StreamCondition,
};
use daybook_model::limits::APPEND_SIZE_MAX;
use daybook_model::{AccessList, ExpectedRevision, NewEvent, Position, Revision, StreamMetadata};
use smallvec::SmallVec;

use crate::core::Core;
use crate::decide::{Decision, StreamFacts, check_holds, decide, found};
use crate::fetch::fetch;
use crate::index::{Access, Key, View};
use crate::page::{PAGE_EVENTS_MAX, Page};
use crate::prepare::{Prepared, PreparedEvent, PreparedStream};
use crate::read::ReadError;
use crate::scavenge::trace::Hole;

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
    /// Who may use the stream, if the metadata says so.
    pub access: Option<Arc<AccessList>>,
    /// Where the metadata stands as its client wrote it.
    pub position: Option<Position>,
    /// Whether there is any settings event.
    pub exists: bool,
}

/// Those of a stream that ended.
const ENDED: Settings = Settings {
    tombstoned: true,
    metadata: StreamMetadata { max_age: None, max_count: None, truncate_before: None },
    access: None,
    position: None,
    exists: true,
};

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
    // Metadata may have been written after the tombstone: that opens nothing.
    let ended = view.count(core.hasher.tombstone(key), committed, access)? > 0;
    let Some(event) = page.last() else {
        if ended {
            return Ok(Arc::new(ENDED));
        }
        // It was removed, so that there is a newer one by now: as good an answer.
        let now = core.committed();
        if now <= committed {
            return Err(ReadError::Closed);
        }
        return settings(core, &core.view.load_full(), key, now, access);
    };
    let ended = if planted::is(Bug::MetadataAfterTombstone) { event.tombstone } else { ended };
    let settings = Arc::new(if ended {
        ENDED
    } else {
        let metadata = StreamMetadata::parse(event.data);
        let access = AccessList::of_metadata(event.data).map(Arc::new);
        let position = Some(event.position);
        Settings { tombstoned: false, metadata, access, position, exists: true }
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
    if prepared.carried {
        return carried(&view, prepared, as_of, access);
    }
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

/// Resolves what was decided elsewhere: only the places must fit.
fn carried(
    view: &View,
    prepared: &Prepared,
    as_of: Position,
    access: Access,
) -> Result<Resolution, ReadError> {
    let mut facts: SmallVec<[StreamFacts; 1]> = SmallVec::new();
    for (index, stream) in prepared.streams.iter().enumerate() {
        let head = view.count(stream.key, as_of, access)?.checked_sub(1);
        let fact = StreamFacts { head, ..StreamFacts::default() };
        let fits = match stream.condition.expected {
            ExpectedRevision::Exact(revision) => head == Some(revision.0),
            _ => head.is_none(),
        };
        if !fits {
            return Ok(Resolution::Answer(Err(wrong(index, &stream.condition, &fact))));
        }
        facts.push(fact);
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
        let (mut events, mut holes) = (page.events().peekable(), page.holes.iter().peekable());
        for position in &positions[..page.considered] {
            let asked = &prepared.events[stream.events[at] as usize];
            if let Some(stored) = events.next_if(|event| event.position == *position) {
                if stored.id == asked.id {
                    known[at] = Some(stored.revision.0);
                }
            } else if let Some(hole) = holes.next_if(|hole| hole.position == *position) {
                known[at] = removed_before(core, hole, stream.key, asked);
            }
            at += 1;
        }
        if page.considered == 0 {
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
        } else if let Some(hole) = page.holes.last() {
            known[i] = removed_before(core, hole, stream.key, event);
        }
    }
    Ok(())
}

/// The revision of the event that was removed and left `hole`, if it is the one that is asked for:
/// a retry is known for what it is, whatever became of what it wrote.
fn removed_before(core: &Core, hole: &Hole, stream: Key, asked: &PreparedEvent) -> Option<u64> {
    let same = hole.id == core.hasher.id_hash(stream, asked.id);
    (same && !planted::is(Bug::RemovedIdForgotten)).then_some(hole.revision.0)
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
    if let Some(ended) = prepared.checks.as_deref().filter(|_| !duplicate) {
        let failed = failed_checks(prepared, ended, facts, decisions);
        if !failed.is_empty() {
            return Ok(Some(Err(AppendError::ChecksFailed { failed })));
        }
    }
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

/// The conditions that do not hold, all of them. What is expected must be durable already: unlike a
/// single condition, none of them waits for what may be on its way.
fn failed_checks(
    prepared: &Prepared,
    ended: &[(u32, EndedState)],
    facts: &[StreamFacts],
    decisions: &[Decision],
) -> Vec<FailedCheck> {
    let mut failed = Vec::new();
    for (index, (facts, decision)) in facts.iter().zip(decisions).enumerate() {
        let stream = &prepared.streams[index];
        let at = ended.binary_search_by_key(&index, |(stream, _)| *stream as usize);
        let ended = at.ok().map(|at| ended[at].1);
        let check = (stream.condition.expected, ended);
        if !check_holds(facts, check, *decision, !stream.events.is_empty()) {
            let stream = stream.condition.stream.clone();
            failed.push(FailedCheck { index, stream, found: found(facts) });
        }
    }
    failed
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
    let beside = prepared.streams.iter().position(|other| other.condition.stream == stream);
    if beside.is_some_and(|at| !prepared.streams[at].events.is_empty()) {
        // The append writes the metadata itself.
        return Ok(());
    }
    let first = facts[index].head.map_or(0, |head| head + 1);
    let data = StreamMetadata::reopen_data(metadata, first);
    let id = uuid::Builder::from_random_bytes(core.environment.entropy.bytes()).into_uuid();
    let event = NewEvent::json(id, daybook_model::metadata::METADATA_EVENT_TYPE, data);
    match beside {
        Some(at) => prepared.add_to(&core.hasher, at as u32, &event),
        None => {
            let condition = StreamCondition { stream, expected: ExpectedRevision::Any };
            prepared.add(&core.hasher, condition, &event)
        }
    }
}
