//! What the store promises, written a second time and simpler: a list of events, a map of streams,
//! and the rules of expected revisions and idempotency as a person would read them out of the
//! protocol. Shares no code with the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daybook_model::append::Deletion;
use daybook_model::{EventView, ExpectedRevision, Timestamp};

/// The value of `$tb` that marks a soft-deleted stream.
const SOFT_DELETED: u64 = i64::MAX as u64;

/// An event as it must be read, always, everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the event's field of that name")]
pub struct Fact {
    pub position: u64,
    pub revision: u64,
    pub time: i64,
    pub id: u128,
    pub stream: String,
    pub kind: String,
    pub json: bool,
    pub tombstone: bool,
    pub metadata: Vec<u8>,
    pub data: Vec<u8>,
}

impl Fact {
    /// What a reader was given.
    #[must_use]
    pub fn of(event: &EventView<'_>) -> Fact {
        Fact {
            position: event.position.0,
            revision: event.revision.0,
            time: event.time.0,
            id: event.id.as_u128(),
            stream: event.stream.to_owned(),
            kind: event.event_type.to_owned(),
            json: event.content_type == daybook_model::ContentType::Json,
            tombstone: event.tombstone,
            metadata: event.metadata.to_vec(),
            data: event.data.to_vec(),
        }
    }

    /// The category of its stream.
    #[must_use]
    pub fn category(&self) -> Option<&str> {
        category(&self.stream)
    }

    /// The stream that it deletes, softly or for ever.
    #[must_use]
    pub fn deletes(&self) -> Option<&str> {
        if self.tombstone {
            return Some(&self.stream);
        }
        let described = self.stream.strip_prefix("$$").filter(|_| self.kind == "$metadata")?;
        let value: serde_json::Value = serde_json::from_slice(&self.data).ok()?;
        (value.get("$tb")?.as_u64()? == SOFT_DELETED).then_some(described)
    }

    /// The category that lists it: its stream's, or that of the stream which it deletes.
    #[must_use]
    pub fn listed_in(&self) -> Option<&str> {
        category(self.deletes().unwrap_or(&self.stream))
    }

    /// Its correlation id.
    #[must_use]
    pub fn correlation(&self) -> Option<String> {
        let value: serde_json::Value = serde_json::from_slice(&self.metadata).ok()?;
        Some(value.as_object()?.get("$correlationId")?.as_str()?.to_owned())
    }

    /// A line of a trace.
    #[must_use]
    pub fn brief(&self) -> String {
        let (position, stream, revision, kind) =
            (self.position, &self.stream, self.revision, &self.kind);
        format!("#{position} {stream}@{revision} {kind} {:08x}", self.id as u32)
    }
}

fn category(stream: &str) -> Option<&str> {
    let dash = stream.find('-')?;
    (dash > 0 && !stream.starts_with('$')).then(|| &stream[..dash])
}

/// An event that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the event's field of that name")]
pub struct AskedEvent {
    pub stream: usize,
    pub id: u128,
    pub kind: String,
    pub json: bool,
    pub metadata: Vec<u8>,
    pub data: Vec<u8>,
}

/// An append that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its streams and what it expects of them.
    pub streams: Vec<(String, ExpectedRevision)>,
    /// Its events.
    pub events: Vec<AskedEvent>,
    /// How it deletes its first stream, if it does.
    pub deletes: Option<Deletion>,
}

/// An answer that says something about the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the answer's field of that name")]
pub enum Outcome {
    Done { revisions: Vec<Option<u64>>, position: Option<u64> },
    Wrong { index: usize, actual: Option<u64> },
    Deleted { index: usize, tombstoned: bool },
}

/// What the rules say about an append, given a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is to be written; and for each soft-deleted stream that it opens again, the metastream
    /// and the revision that its `$tb` must have, with what else its metadata must hold.
    Write(Vec<(String, serde_json::Value)>),
    /// It is answered without being written.
    Answer(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Append,
    Duplicate(u64),
    Wrong,
    Deleted,
}

/// One stream.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// The positions of its events, by revision.
    pub positions: Vec<u64>,
    settings: Option<u64>,
    tombstoned: bool,
}

/// What a stream's metadata asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the setting of that name")]
pub struct Settings {
    pub max_age: Option<u64>,
    pub max_count: Option<u64>,
    pub truncate_before: Option<u64>,
}

/// Why a stream cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Unreadable {
    NotFound,
    Deleted,
}

/// The log as it must be.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// All events, by position.
    pub events: Vec<Arc<Fact>>,
    /// All streams that were ever written or described.
    pub streams: BTreeMap<String, Stream>,
    /// Where each epoch began.
    pub epochs: Vec<(u64, u32)>,
    /// Events that a scavenge was allowed to remove when it looked.
    pub may_go: BTreeSet<u64>,
    /// Events that it has removed.
    pub removed: BTreeSet<u64>,
}

impl Model {
    /// How many events it has.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.events.len() as u64
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Adds the next event.
    ///
    /// # Errors
    /// What it breaks: gapless positions, gapless revisions, time.
    pub fn push(&mut self, fact: Arc<Fact>) -> Result<(), String> {
        if fact.position != self.len() {
            return Err(format!("position {} where {} is next", fact.position, self.len()));
        }
        if let Some(last) = self.events.last()
            && last.time > fact.time
        {
            return Err(format!("time goes backwards at {}", fact.brief()));
        }
        let stream = self.streams.entry(fact.stream.clone()).or_default();
        if stream.positions.len() as u64 != fact.revision {
            let next = stream.positions.len();
            return Err(format!("revision {next} is next, but {}", fact.brief()));
        }
        stream.positions.push(fact.position);
        if fact.tombstone {
            stream.tombstoned = true;
            stream.settings = Some(fact.position);
        } else if let Some(described) = fact.stream.strip_prefix("$$") {
            let described = described.to_owned();
            self.streams.entry(described).or_default().settings = Some(fact.position);
        }
        self.events.push(fact);
        Ok(())
    }

    /// The revision of a stream's last event.
    #[must_use]
    pub fn head(&self, name: &str) -> Option<u64> {
        self.streams.get(name).and_then(|s| (s.positions.len() as u64).checked_sub(1))
    }

    /// Whether a stream ended for ever.
    #[must_use]
    pub fn ended(&self, name: &str) -> bool {
        self.streams.get(name).is_some_and(|stream| stream.tombstoned)
    }

    /// Whether anything was decided about a stream.
    #[must_use]
    pub fn described(&self, name: &str) -> bool {
        self.streams.get(name).is_some_and(|stream| stream.settings.is_some())
    }

    fn raw_settings(&self, name: &str) -> Option<serde_json::Value> {
        let stream = self.streams.get(name)?;
        let fact = &self.events[stream.settings? as usize];
        let value: serde_json::Value = serde_json::from_slice(&fact.data).ok()?;
        (value.is_object() && !stream.tombstoned).then_some(value)
    }

    /// A stream's settings.
    #[must_use]
    pub fn settings(&self, name: &str) -> Settings {
        let Some(raw) = self.raw_settings(name) else { return Settings::default() };
        let number = |key: &str| raw.get(key).and_then(serde_json::Value::as_u64);
        Settings {
            max_age: number("$maxAge").filter(|age| *age > 0),
            max_count: number("$maxCount").filter(|count| *count > 0),
            truncate_before: number("$tb"),
        }
    }

    /// Whether a stream is soft-deleted.
    #[must_use]
    pub fn soft_deleted(&self, name: &str) -> bool {
        self.settings(name).truncate_before == Some(SOFT_DELETED)
    }

    /// The first revision that a stream's settings do not hide.
    #[must_use]
    pub fn first_visible(&self, name: &str) -> u64 {
        let settings = self.settings(name);
        let count = self.head(name).map_or(0, |head| head + 1);
        let max = settings.max_count.or(name.starts_with("$$").then_some(1));
        let by_count = max.map_or(0, |max| count.saturating_sub(max));
        by_count.max(settings.truncate_before.unwrap_or(0))
    }

    /// The positions of a stream's events that may be seen, ascending.
    #[must_use]
    pub fn visible(&self, name: &str, now: Timestamp) -> Vec<u64> {
        let first = self.first_visible(name);
        let Some(stream) = self.streams.get(name) else { return Vec::new() };
        let age = self.settings(name).max_age;
        let cutoff = age.map(|seconds| now.0 - (seconds as i64) * 1_000_000_000);
        stream
            .positions
            .iter()
            .skip(usize::try_from(first).unwrap_or(usize::MAX))
            .filter(|p| cutoff.is_none_or(|cutoff| self.events[**p as usize].time >= cutoff))
            .copied()
            .collect()
    }

    /// As [`Model::visible`], if the stream can be read at all.
    ///
    /// # Errors
    /// [`Unreadable`] says why not.
    pub fn readable(&self, name: &str, now: Timestamp) -> Result<Vec<u64>, Unreadable> {
        // The metadata of a stream that ended can be written, not read.
        if self.ended(name) || name.strip_prefix("$$").is_some_and(|name| self.ended(name)) {
            return Err(Unreadable::Deleted);
        }
        if self.head(name).is_none() || self.soft_deleted(name) {
            return Err(Unreadable::NotFound);
        }
        Ok(self.visible(name, now))
    }

    /// Whether the event at `position` was not removed.
    #[must_use]
    pub fn is_there(&self, position: u64) -> bool {
        !self.removed.contains(&position)
    }

    /// What a scavenge may remove at this moment: what nobody may read in its own stream, except
    /// tombstones and the metadata that is in force.
    #[must_use]
    pub fn goers(&self, now: Timestamp) -> BTreeSet<u64> {
        let mut goers = BTreeSet::new();
        for (name, stream) in self.streams.iter().filter(|(name, _)| *name != "$store") {
            let described = name.strip_prefix("$$");
            let over = self.ended(name) || described.is_some_and(|name| self.ended(name));
            let shown = if over { Vec::new() } else { self.visible(name, now) };
            let force = described.filter(|name| !self.ended(name));
            let force = force.and_then(|name| self.streams.get(name)?.settings);
            goers.extend(stream.positions.iter().copied().filter(|position| {
                let last = self.events[*position as usize].tombstone;
                !last && !shown.contains(position) && force != Some(*position)
            }));
        }
        goers
    }

    /// Holds what was read of the log up to its known end against what was there before: events
    /// may be missing if a scavenge was allowed to remove them.
    ///
    /// # Errors
    /// What is not as it was.
    pub fn found(&mut self, facts: &[Arc<Fact>]) -> Result<(), String> {
        let mut facts = facts.iter().peekable();
        for before in &self.events {
            match facts.next_if(|fact| fact.position == before.position) {
                Some(fact) if self.removed.contains(&fact.position) => {
                    return Err(format!("{} was removed, and is there again", fact.brief()));
                }
                Some(fact) if fact != before => {
                    return Err(format!("{} was {} before", fact.brief(), before.brief()));
                }
                Some(_) => {}
                None if self.may_go.contains(&before.position) => {
                    self.removed.insert(before.position);
                }
                None => return Err(format!("{} is not there any more", before.brief())),
            }
        }
        match facts.next() {
            Some(fact) => Err(format!("{} is out of its place", fact.brief())),
            None => Ok(()),
        }
    }

    /// The epoch of a position.
    #[must_use]
    pub fn epoch_at(&self, position: u64) -> Option<u32> {
        if position >= self.len() {
            return None;
        }
        self.epochs.iter().rev().find(|(first, _)| *first <= position).map(|(_, epoch)| *epoch)
    }

    /// What the rules say about `asked`.
    #[must_use]
    pub fn judge(&self, asked: &Asked) -> Verdict {
        let ids = |index: usize| -> Vec<u128> {
            asked.events.iter().filter(|e| e.stream == index).map(|e| e.id).collect()
        };
        let writes = |index: usize| asked.events.iter().any(|e| e.stream == index);
        let decisions: Vec<Decision> = asked
            .streams
            .iter()
            .enumerate()
            .map(|(i, (name, expected))| match asked.deletes {
                Some(Deletion::Soft) if i == 0 && self.ended(name) => Decision::Deleted,
                _ => self.decide(name, *expected, &ids(i)),
            })
            .collect();
        let new = decisions.iter().enumerate().any(|(i, d)| *d == Decision::Append && writes(i));
        // A retry of what was written, whatever became of streams that it only checks.
        let written = |i: usize| matches!(decisions[i], Decision::Duplicate(_));
        let again = !asked.events.is_empty() && asked.events.iter().all(|e| written(e.stream));
        for (index, decision) in decisions.iter().enumerate() {
            let name = &asked.streams[index].0;
            match decision {
                _ if again => {}
                Decision::Wrong => return self.wrong(index, name),
                Decision::Duplicate(_) if new => return self.wrong(index, name),
                Decision::Deleted => {
                    let tombstoned = self.ended(name);
                    return Verdict::Answer(Outcome::Deleted { index, tombstoned });
                }
                Decision::Append | Decision::Duplicate(_) => {}
            }
        }
        if new {
            return Verdict::Write(self.reopened(asked, &decisions, &writes));
        }
        let last = |i: usize| match decisions[i] {
            Decision::Duplicate(last) => Some(last),
            _ => self.head(&asked.streams[i].0),
        };
        let revisions = (0..asked.streams.len()).map(last).collect();
        let position = asked.events.last().and_then(|event| {
            let stream = self.streams.get(&asked.streams[event.stream].0)?;
            stream.positions.get(last(event.stream)? as usize).copied()
        });
        Verdict::Answer(Outcome::Done { revisions, position })
    }

    /// All answers that would be right for `asked`, if it is not to be written: of several
    /// conditions that fail any may be named.
    #[must_use]
    pub fn answers(&self, asked: &Asked) -> Vec<Outcome> {
        match self.judge(asked) {
            Verdict::Write(_) => Vec::new(),
            Verdict::Answer(done @ Outcome::Done { .. }) => vec![done],
            Verdict::Answer(first) => {
                let mut out = vec![first];
                for (index, (name, expected)) in asked.streams.iter().enumerate() {
                    let events = asked.events.iter().filter(|e| e.stream == index);
                    let ids: Vec<u128> = events.map(|e| e.id).collect();
                    let tombstoned = self.ended(name);
                    out.push(match self.decide(name, *expected, &ids) {
                        Decision::Append => continue,
                        Decision::Deleted => Outcome::Deleted { index, tombstoned },
                        _ => Outcome::Wrong { index, actual: self.head(name) },
                    });
                }
                out
            }
        }
    }

    fn wrong(&self, index: usize, name: &str) -> Verdict {
        Verdict::Answer(Outcome::Wrong { index, actual: self.head(name) })
    }

    fn reopened(
        &self,
        asked: &Asked,
        decisions: &[Decision],
        writes: &dyn Fn(usize) -> bool,
    ) -> Vec<(String, serde_json::Value)> {
        let mut out = Vec::new();
        for (i, (name, _)) in asked.streams.iter().enumerate() {
            let meta = format!("$${name}");
            if asked.deletes == Some(Deletion::Tombstone) {
                continue;
            }
            let other = asked.streams.iter().position(|(other, _)| *other == meta);
            let named = other.is_some_and(writes);
            if decisions[i] == Decision::Append && writes(i) && self.soft_deleted(name) && !named {
                let mut value = self.raw_settings(name).unwrap_or_default();
                value["$tb"] = self.head(name).map_or(0, |head| head + 1).into();
                out.push((meta, value));
            }
        }
        out
    }

    fn decide(&self, name: &str, expected: ExpectedRevision, ids: &[u128]) -> Decision {
        let writes = !ids.is_empty();
        let tombstoned = self.ended(name);
        if tombstoned && writes {
            return Decision::Deleted;
        }
        let soft = self.soft_deleted(name);
        let head = self.head(name);
        let count = ids.len() as u64;
        let stand_from = |first: u64| {
            let here = |i: usize, id: u128| self.id_at(name, first + i as u64) == Some(id);
            writes && ids.iter().enumerate().all(|(i, id)| here(i, *id))
        };
        let lately = || {
            let Some(first) = ids.first().and_then(|id| self.last_of(name, *id)) else {
                return Decision::Append;
            };
            let here = |i: usize, id: u128| self.last_of(name, id) == Some(first + i as u64);
            if ids.iter().enumerate().all(|(i, id)| here(i, *id)) {
                Decision::Duplicate(first + count - 1)
            } else {
                Decision::Wrong
            }
        };
        match (expected, head) {
            (ExpectedRevision::Any, _) => lately(),
            (ExpectedRevision::StreamExists, _) if soft || tombstoned => Decision::Deleted,
            (ExpectedRevision::StreamExists, None) if !self.described(name) => Decision::Wrong,
            (ExpectedRevision::StreamExists, _) => lately(),
            (ExpectedRevision::NoStream, None) => Decision::Append,
            (ExpectedRevision::NoStream, _) if tombstoned => Decision::Append,
            (ExpectedRevision::NoStream, _) if stand_from(0) => Decision::Duplicate(count - 1),
            (ExpectedRevision::NoStream, _) if soft => Decision::Append,
            (ExpectedRevision::NoStream, _) => Decision::Wrong,
            (ExpectedRevision::Exact(n), Some(head)) if n.0 == head => Decision::Append,
            (ExpectedRevision::Exact(n), Some(head)) if n.0 < head && stand_from(n.0 + 1) => {
                Decision::Duplicate(n.0 + count)
            }
            (ExpectedRevision::Exact(_), _) => Decision::Wrong,
        }
    }

    fn id_at(&self, name: &str, revision: u64) -> Option<u128> {
        let position = *self.streams.get(name)?.positions.get(revision as usize)?;
        Some(self.events[position as usize].id)
    }

    fn last_of(&self, name: &str, id: u128) -> Option<u64> {
        let positions = &self.streams.get(name)?.positions;
        positions.iter().rposition(|p| self.events[*p as usize].id == id).map(|r| r as u64)
    }
}
