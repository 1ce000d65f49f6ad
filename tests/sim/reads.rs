//! Reads of every kind, each held against the model.

use std::sync::Arc;

use daybook_log::disk::sim::Rng;
use daybook_model::{Filter, FilterTarget, Position, Revision, StreamName, Timestamp};
use daybook_store::{
    AllFrom, AllReader, Direction, Engine, From, IndexKey, LinkText, Page, ReadAll, ReadError,
    ReadStream, StreamReader, StreamState,
};

use super::model::{Fact, Model, Unreadable};

/// A filter, by prefix, written a second time.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// By event type; otherwise by stream name.
    pub by_type: bool,
    /// The prefix.
    pub prefix: String,
}

impl Wanted {
    /// One that fits some of the events of a simulation.
    pub fn random(rng: &mut Rng) -> Wanted {
        let by_type = rng.chance(1, 2);
        let types = ["Opened", "P", "$", "none"];
        let streams = ["acct-", "acct-1", "order", "$$", "none"];
        let prefix = if by_type { rng.pick(&types) } else { rng.pick(&streams) };
        Wanted { by_type, prefix: prefix.copied().unwrap_or_default().to_owned() }
    }

    /// The store's form of it.
    #[must_use]
    pub fn filter(&self) -> Arc<Filter> {
        let target = if self.by_type { FilterTarget::EventType } else { FilterTarget::StreamName };
        Arc::new(Filter::prefixes(target, vec![self.prefix.clone()]).expect("one prefix"))
    }

    /// Whether it wants `fact`.
    #[must_use]
    pub fn wants(&self, fact: &Fact) -> bool {
        let text = if self.by_type { &fact.kind } else { &fact.stream };
        text.starts_with(&self.prefix)
    }
}

/// How a check of the store ended, if no promise was broken.
#[derive(Debug)]
pub enum Bad {
    /// A promise was broken.
    Broken(String),
    /// The store said that it could not read.
    Failed(ReadError),
}

impl std::convert::From<ReadError> for Bad {
    fn from(e: ReadError) -> Bad {
        Bad::Failed(e)
    }
}

impl std::convert::From<String> for Bad {
    fn from(e: String) -> Bad {
        Bad::Broken(e)
    }
}

/// Whether what was read is what had to be: all of `expected`, or a beginning of it if `part`.
///
/// # Errors
/// The first difference.
pub fn same(
    what: &str,
    read: &[Fact],
    expected: &[u64],
    model: &Model,
    part: bool,
) -> Result<(), String> {
    for (i, fact) in read.iter().enumerate() {
        let Some(position) = expected.get(i) else {
            return Err(format!("{what}: {} is too much", fact.brief()));
        };
        let stored = &model.events[*position as usize];
        if **stored != *fact {
            let (got, must) = (fact.brief(), stored.brief());
            return Err(format!("{what}: {got} was read where {must} must be"));
        }
    }
    match expected.get(read.len()) {
        Some(position) if !part => {
            let brief = model.events[*position as usize].brief();
            Err(format!("{what}: {brief} was not read"))
        }
        _ => Ok(()),
    }
}

fn facts(page: &Page) -> impl Iterator<Item = Fact> + '_ {
    page.events().map(|event| Fact::of(&event))
}

/// All pages of a read of the log.
///
/// # Errors
/// The store's.
pub fn drain_all(mut reader: AllReader) -> Result<Vec<Fact>, ReadError> {
    let mut out = Vec::new();
    while let Some(page) = reader.next_page()? {
        out.extend(facts(&page));
    }
    Ok(out)
}

/// Everything from `from` on.
///
/// # Errors
/// The store's.
pub fn scan(engine: &Engine, from: u64) -> Result<Vec<Arc<Fact>>, ReadError> {
    let query = ReadAll {
        from: AllFrom::Position(Position(from)),
        direction: Direction::Forwards,
        count: u64::MAX,
        filter: None,
    };
    Ok(drain_all(engine.read_all(query))?.into_iter().map(Arc::new).collect())
}

fn direction(rng: &mut Rng) -> Direction {
    if rng.chance(1, 2) { Direction::Forwards } else { Direction::Backwards }
}

fn count(rng: &mut Rng) -> u64 {
    if rng.chance(1, 2) { u64::MAX } else { rng.below(12) }
}

/// What a read must bring: the first so many of these that were not removed.
#[derive(Clone, Debug)]
pub struct Expected {
    positions: Vec<u64>,
    count: u64,
}

impl Expected {
    /// What it must bring now.
    #[must_use]
    pub fn now(&self, model: &Model) -> Vec<u64> {
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        self.positions.iter().copied().filter(|p| model.is_there(*p)).take(count).collect()
    }
}

/// A read of the log, and what it must bring.
pub fn open_all(engine: &Engine, model: &Model, rng: &mut Rng) -> (String, AllReader, Expected) {
    let (direction, count) = (direction(rng), count(rng));
    let wanted = rng.chance(1, 2).then(|| Wanted::random(rng));
    let end = model.len();
    let position = rng.below(end + 2);
    let (from, at) = match rng.below(3) {
        0 => (AllFrom::Start, 0),
        1 => (AllFrom::End, end),
        _ => (AllFrom::Position(Position(position)), position.min(end)),
    };
    let range: Vec<u64> = match direction {
        Direction::Forwards => (at..end).collect(),
        Direction::Backwards => (0..at).rev().collect(),
    };
    let wants = |p: &u64| wanted.as_ref().is_none_or(|w| w.wants(&model.events[*p as usize]));
    let expected = Expected { positions: range.into_iter().filter(wants).collect(), count };
    let filter = wanted.as_ref().map(Wanted::filter);
    let what = format!("$all from {from:?} {direction:?} {wanted:?} max {count}");
    (what, engine.read_all(ReadAll { from, direction, count, filter }), expected)
}

/// A read of one stream, and what it must bring.
///
/// # Errors
/// A promise broken, or that it could not be read.
pub fn open_stream(
    engine: &Engine,
    model: &Model,
    rng: &mut Rng,
    name: &str,
    now: Timestamp,
) -> Result<Option<(String, StreamReader, Expected)>, Bad> {
    let (direction, count) = (direction(rng), count(rng));
    let head = model.head(name).unwrap_or(0);
    let revision = rng.below(head + 3);
    let from = match rng.below(3) {
        0 => From::Start,
        1 => From::End,
        _ => From::Revision(Revision(revision)),
    };
    let what = format!("{name} from {from:?} {direction:?} max {count}");
    let stream = StreamName::new(name).expect("a valid name");
    let opened = engine.read_stream(&ReadStream { stream, from, direction, count });
    let visible = match (model.readable(name, now), &opened) {
        (Ok(visible), Ok(_)) => visible,
        (Err(Unreadable::NotFound), Err(ReadError::StreamNotFound { .. })) => return Ok(None),
        (Err(Unreadable::Deleted), Err(ReadError::StreamDeleted { .. })) => return Ok(None),
        (_, Err(e @ (ReadError::Damaged { .. } | ReadError::Disk { .. }))) => {
            return Err(Bad::Failed(e.clone()));
        }
        (expected, _) => {
            let got = opened.map(|_| "a reader");
            return Err(Bad::Broken(format!("{what}: {got:?} where {expected:?} must be")));
        }
    };
    let reader = opened?;
    let revision_of = |p: u64| model.events[p as usize].revision;
    let low = |least: u64| -> Vec<u64> {
        visible.iter().copied().filter(|p| revision_of(*p) >= least).collect()
    };
    let high = |most: u64| -> Vec<u64> {
        visible.iter().rev().copied().filter(|p| revision_of(*p) <= most).collect()
    };
    let positions = match (from, direction) {
        (From::Start, Direction::Forwards) => low(0),
        (From::Start, Direction::Backwards) => high(0),
        (From::End, Direction::Forwards) => Vec::new(),
        (From::End, Direction::Backwards) => high(u64::MAX),
        (From::Revision(r), Direction::Forwards) => low(r.0),
        (From::Revision(r), Direction::Backwards) => high(r.0),
    };
    if reader.last_revision() != model.head(name).map(Revision) {
        return Err(Bad::Broken(format!("{what}: last revision {:?}", reader.last_revision())));
    }
    Ok(Some((what, reader, Expected { positions, count })))
}

/// Reads one stream.
///
/// # Errors
/// A promise broken, or that it could not be read.
pub fn stream(
    engine: &Engine,
    model: &Model,
    rng: &mut Rng,
    name: &str,
    now: Timestamp,
) -> Result<(), Bad> {
    if let Some((what, mut reader, expected)) = open_stream(engine, model, rng, name, now)? {
        let mut read = Vec::new();
        while let Some(page) = reader.next_page()? {
            read.extend(facts(&page));
        }
        same(&what, &read, &expected.now(model), model, false)?;
    }
    Ok(())
}

/// Reads the log.
///
/// # Errors
/// A promise broken, or that it could not be read.
pub fn all(engine: &Engine, model: &Model, rng: &mut Rng) -> Result<(), Bad> {
    let (what, reader, expected) = open_all(engine, model, rng);
    same(&what, &drain_all(reader)?, &expected.now(model), model, false)?;
    Ok(())
}

/// Reads one index key, and holds it against a scan of the whole log.
///
/// # Errors
/// A promise broken, or that it could not be read.
pub fn index(engine: &Engine, model: &Model, rng: &mut Rng, key: &IndexKey) -> Result<(), Bad> {
    let has = |fact: &Fact| match key {
        IndexKey::Category(name) => fact.listed_in() == Some(name),
        IndexKey::EventType(name) if name == "$deleted" => fact.deletes().is_some(),
        IndexKey::EventType(name) => fact.kind == *name,
        IndexKey::Correlation(id) => fact.correlation().as_deref() == Some(id),
    };
    let listed: Vec<u64> =
        model.events.iter().filter(|fact| has(fact)).map(|fact| fact.position).collect();
    let (direction, count) = (direction(rng), count(rng));
    let from = match rng.below(3) {
        0 => 0,
        1 => u64::MAX,
        _ => rng.below(listed.len() as u64 + 2),
    };
    let at = usize::try_from(from).unwrap_or(usize::MAX);
    let positions: Vec<u64> = match direction {
        Direction::Forwards => listed.iter().skip(at).copied().collect(),
        Direction::Backwards => {
            listed[..at.saturating_add(1).min(listed.len())].iter().rev().copied().collect()
        }
    };
    let expected = Expected { positions, count }.now(model);
    let what = format!("{key:?} from {from} {direction:?} max {count}");
    let mut reader = engine.read_index(key, from, direction, count);
    let mut read = Vec::new();
    while let Some(page) = reader.next_page()? {
        for (number, event) in page.numbered() {
            let position = event.position.0;
            if Some(position) != listed.get(number as usize).copied() {
                return Err(Bad::Broken(format!("{what}: {position} is not number {number}")));
            }
        }
        read.extend(facts(&page));
    }
    same(&what, &read, &expected, model, false)?;
    Ok(())
}

/// The links of a virtual stream, as a scan of the whole log gives them: position and data.
fn links_of(model: &Model, name: &str) -> Vec<(u64, String)> {
    let lists = |fact: &Fact| match name.split_once('-') {
        Some(("$ce", category)) => fact.listed_in() == Some(category),
        Some(("$et", "$deleted")) => fact.deletes().is_some(),
        Some(("$et", kind)) => fact.kind == kind,
        Some(("$bc", id)) => fact.correlation().as_deref() == Some(id),
        Some(("$category", category)) => fact.revision == 0 && fact.category() == Some(category),
        _ => fact.revision == 0,
    };
    let data = |fact: &Fact| {
        let revision = if fact.tombstone { i64::MAX as u64 } else { fact.revision };
        match name.split_once('-') {
            Some(("$category", _)) => fact.stream.clone(),
            Some((_, "$deleted")) => format!("{revision}@{}", fact.deletes().unwrap_or_default()),
            _ => format!("{revision}@{}", fact.stream),
        }
    };
    let listed = model.events.iter().filter(|fact| lists(fact));
    listed.map(|fact| (fact.position, data(fact))).collect()
}

/// Reads a virtual stream, and holds its links and what they hide against a scan of the whole log.
///
/// # Errors
/// A promise broken, or that it could not be read.
pub fn links(
    engine: &Engine,
    model: &Model,
    rng: &mut Rng,
    name: &str,
    now: Timestamp,
) -> Result<(), Bad> {
    let listed = links_of(model, name);
    let (direction, count) = (direction(rng), count(rng));
    let last = listed.len().saturating_sub(1);
    let at = rng.below(listed.len() as u64 + 2) as usize;
    let from = From::Revision(Revision(at as u64));
    let numbers: Vec<u64> = match direction {
        Direction::Forwards => (at..listed.len()).map(|n| n as u64).collect(),
        Direction::Backwards => (0..=at.min(last)).rev().map(|n| n as u64).collect(),
    };
    // A stream is listed for ever, whatever became of its first event.
    let streams = name == "$streams" || name.starts_with("$category-");
    let is_there = |p: u64| streams || model.is_there(p);
    let there = |n: &u64| listed.get(*n as usize).is_some_and(|(p, _)| is_there(*p));
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    let expected: Vec<u64> = numbers.into_iter().filter(there).take(limit).collect();
    let what = format!("{name} from {from:?} {direction:?} max {count}");
    let stream = StreamName::new(name).expect("a valid name");
    let opened = engine.read_stream(&ReadStream { stream, from, direction, count });
    let mut reader = match opened {
        Err(ReadError::StreamNotFound { .. }) if listed.is_empty() => return Ok(()),
        opened => opened?.following(),
    };
    let names_events = !name.starts_with("$category") && name != "$et-$deleted";
    let mut text = LinkText::default();
    let mut read = Vec::new();
    while let Some(page) = reader.next_page()? {
        let links = page.links().ok_or_else(|| Bad::Broken(format!("{what}: no links")))?;
        for target in page.targets() {
            let fact = Fact::of(&target.event);
            let seen = model.readable(&fact.stream, now).unwrap_or_default();
            let seen = seen.contains(&fact.position) && model.is_there(fact.position);
            let hidden = !names_events || !seen;
            let link = links.link(target.number, &target.event, &mut text);
            let data = String::from_utf8_lossy(link.data).into_owned();
            let must = &listed[target.number as usize];
            if (fact.position, data) != *must || target.hidden != hidden {
                return Err(Bad::Broken(format!("{what}: {target:?} where {must:?} must be")));
            }
            read.push(target.number);
        }
    }
    if read != expected {
        return Err(Bad::Broken(format!("{what}: {read:?} where {expected:?} must be")));
    }
    Ok(())
}

/// The virtual streams that simulations fill, and some that they do not.
pub const VIRTUAL: [&str; 9] = [
    "$ce-acct",
    "$ce-order",
    "$ce-none",
    "$et-Opened",
    "$et-$deleted",
    "$et-$metadata",
    "$bc-c1",
    "$streams",
    "$category-acct",
];

/// Asks for the names of streams. Those beyond the committed end may be there.
///
/// # Errors
/// A promise broken, or that it could not be read.
pub fn names(engine: &Engine, model: &Model, rng: &mut Rng) -> Result<(), Bad> {
    let prefixes = ["", "acct-", "a", "order-", "$", "$$", "zz"];
    let prefix = rng.pick(&prefixes).copied().unwrap_or_default();
    let live = model.streams.iter().filter(|(_, stream)| !stream.positions.is_empty());
    let all: Vec<&String> = live.map(|(name, _)| name).collect();
    let after = rng.chance(1, 2).then(|| rng.pick(&all).map(|name| name.as_str())).flatten();
    let limit = if rng.chance(1, 2) { 1000 } else { rng.between(1, 4) as usize };
    let expected: Vec<&str> = all
        .iter()
        .map(|name| name.as_str())
        .filter(|name| name.starts_with(prefix) && after.is_none_or(|after| *name > after))
        .take(limit)
        .collect();
    let read = engine.streams(prefix, after, limit)?;
    let mut known = read.iter().map(String::as_str).filter(|name| model.head(name).is_some());
    let complete =
        read.len() >= limit || expected.iter().all(|name| read.iter().any(|r| r == name));
    let ordered = read.windows(2).all(|pair| pair[0] < pair[1]);
    if !complete || !ordered || read.len() > limit || !known.all(|name| expected.contains(&name)) {
        let what = format!("streams {prefix:?} after {after:?} limit {limit}");
        return Err(Bad::Broken(format!("{what}: {read:?} where {expected:?} must be")));
    }
    Ok(())
}

/// Asks what is known of a stream.
///
/// # Errors
/// A promise broken, or that it could not be read.
pub fn info(engine: &Engine, model: &Model, name: &str) -> Result<(), Bad> {
    let info = engine.stream_info(&StreamName::new(name).expect("a valid name"))?;
    let count = model.head(name).map_or(0, |head| head + 1);
    let state = if model.ended(name) {
        StreamState::Tombstoned
    } else if count == 0 {
        StreamState::Missing
    } else if model.soft_deleted(name) {
        StreamState::SoftDeleted
    } else {
        StreamState::Live
    };
    let first = model.first_visible(name).min(count);
    let good = info.state == state
        && info.head.map(|r| r.0) == model.head(name)
        && info.first.0 == first
        && info.has_metadata == model.described(name);
    if good { Ok(()) } else { Err(Bad::Broken(format!("{name}: {info:?}, not {state:?} {first}"))) }
}

/// Everything, in every way.
///
/// # Errors
/// A promise broken, or that it could not be read.
pub fn everything(
    engine: &Engine,
    model: &Model,
    rng: &mut Rng,
    now: Timestamp,
) -> Result<(), Bad> {
    let expected: Vec<u64> = (0..model.len()).filter(|p| model.is_there(*p)).collect();
    let read: Vec<Fact> = scan(engine, 0)?.iter().map(|fact| (**fact).clone()).collect();
    same("a scan of the log", &read, &expected, model, false)?;
    all(engine, model, rng)?;
    for name in model.streams.keys() {
        stream(engine, model, rng, name, now)?;
        info(engine, model, name)?;
    }
    for key in keys() {
        index(engine, model, rng, &key)?;
    }
    for name in VIRTUAL {
        links(engine, model, rng, name, now)?;
    }
    names(engine, model, rng)?;
    Ok(())
}

/// The index keys that simulations write, and some that they do not.
#[must_use]
pub fn keys() -> Vec<IndexKey> {
    let category = ["acct", "order", "plain", "none"].map(|n| IndexKey::Category(n.to_owned()));
    let kinds = ["Opened", "Paid", "$metadata", "$deleted"];
    let kinds = kinds.map(|n| IndexKey::EventType(n.to_owned()));
    let correlations = ["c0", "c1", "none"].map(|n| IndexKey::Correlation(n.to_owned()));
    category.into_iter().chain(kinds).chain(correlations).collect()
}
