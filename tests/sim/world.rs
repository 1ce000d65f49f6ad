//! One history: a store on a simulated disk, its clients, its faults, its restarts.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use daybook_log::disk::Disk;
use daybook_log::disk::sim::{CrashMode, Fault, Operation, Repeat, Rng, SimDisk, rng};
use daybook_model::{
    Clock, ContentType, ExpectedRevision, NewEvent, Position, Revision, StreamName, Timestamp,
};
use daybook_store::engine::Ticket;
use daybook_store::verify::VerifyError;
use daybook_store::{
    AllReader, Append, AppendError, Appended, Engine, Environment, Health, ReadError, Sizes,
    StreamCondition, StreamReader, SubscribeFrom,
};
use uuid::Uuid;

use super::checker::{Checker, Told};
use super::damage;
use super::feed::{Looked, Source, Watch};
use super::model::{Asked, AskedEvent, Fact, Outcome};
use super::payload::{self, Style};
use super::reads::{self, Bad, Wanted};
use super::seams::{SimClock, SimEntropy};

/// Lines of a history that a failure prints.
pub static TRACE_LEN: AtomicUsize = AtomicUsize::new(60);
/// Appends that wait at once.
const WAITING_MAX: usize = 24;
/// Attempts to open a store, each of which may be cut off, before one is left alone.
const OPEN_CUTS_MAX: u64 = 3;
/// Streams that simulations write.
const STREAMS: [&str; 7] = ["acct-1", "acct-2", "order-7", "plain", "$sys", "ключ-1", "acct-10"];

/// What a history was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Counts {
    pub histories: u64,
    pub steps: u64,
    pub appends: u64,
    pub events: u64,
    pub crashes: u64,
    pub reads: u64,
}

impl Counts {
    /// Adds another's.
    pub fn add(&mut self, other: &Counts) {
        self.histories += other.histories;
        self.steps += other.steps;
        self.appends += other.appends;
        self.events += other.events;
        self.crashes += other.crashes;
        self.reads += other.reads;
    }
}

/// What a client, an operator, the machine or the store does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Append,
    AppendMany,
    Retry,
    Delete,
    Describe,
    Decide,
    HandOver,
    Step,
    Run,
    Poll,
    Read,
    Feed,
    Hold,
    Burst,
    Maintain,
    Watermark,
    Clock,
    Leap,
    Crash,
    CrashSoon,
    Fail,
    Fill,
    Future,
    Damage,
    Epoch,
}

/// Each act's weight, before a history sways it.
const ACTS: [(Act, u64); 25] = [
    (Act::Append, 120),
    (Act::AppendMany, 40),
    (Act::Retry, 40),
    (Act::Delete, 8),
    (Act::Describe, 12),
    (Act::Decide, 60),
    (Act::HandOver, 60),
    (Act::Step, 220),
    (Act::Run, 30),
    (Act::Poll, 80),
    (Act::Read, 60),
    (Act::Feed, 60),
    (Act::Hold, 15),
    (Act::Burst, 3),
    (Act::Maintain, 40),
    (Act::Watermark, 12),
    (Act::Clock, 30),
    (Act::Leap, 2),
    (Act::Crash, 7),
    (Act::CrashSoon, 7),
    (Act::Fail, 10),
    (Act::Fill, 5),
    (Act::Future, 12),
    (Act::Damage, 8),
    (Act::Epoch, 2),
];

/// What excuses an error.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    /// Operations of the disk fail.
    faults: bool,
    /// A sync of names may have failed: only a power cut ends that.
    names: bool,
    /// The disk is limited.
    full: bool,
    /// The clock leapt.
    leapt: bool,
    /// A batch was refused.
    refused: bool,
    /// Blocks of index files are damaged.
    index: bool,
}

enum Reader {
    All(AllReader),
    Stream(StreamReader),
}

/// A reader that is kept open while the world goes on.
struct Held {
    what: String,
    reader: Reader,
    expected: Vec<u64>,
}

/// A history.
pub struct World {
    rng: Rng,
    disk: SimDisk,
    clock: Arc<SimClock>,
    entropy: Arc<SimEntropy>,
    sizes: Sizes,
    style: Style,
    streams: Vec<&'static str>,
    weights: Vec<(Act, u64)>,
    engine: Option<Engine>,
    checker: Checker,
    tickets: BTreeMap<u64, Ticket>,
    asked: Vec<Arc<Asked>>,
    watches: Vec<Watch>,
    held: Vec<Held>,
    trouble: Trouble,
    next_id: u128,
    next_key: u64,
    epoch_doubt: Option<(u64, u32)>,
    old_files: Vec<(String, Vec<u8>)>,
    /// The last things that happened.
    pub trace: VecDeque<String>,
    hash: u64,
    /// What happened, in numbers.
    pub counts: Counts,
    /// How often what happened.
    pub sights: Sights,
}

/// How often what happened.
pub type Sights = BTreeMap<&'static str, u64>;

impl World {
    /// The world of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let disk = SimDisk::new(rng.next_u64());
        let entropy = Arc::new(SimEntropy::new(rng.next_u64()));
        let first = *rng.pick(&[1024, 2048, 4096, 4096, 8192]).expect("not empty");
        let max = *rng.pick(&[1024, 2048, 4096, 8192, 16_384, 65_536]).expect("not empty");
        let fixed = rng.chance(1, 5).then(|| rng.between(8, 900) as usize);
        let (forged, large) = (rng.below(6), rng.below(8));
        let count = rng.between(1, STREAMS.len() as u64) as usize;
        let weights = ACTS.map(|(act, weight)| {
            let sway = *rng.pick(&[0, 1, 2, 2, 4, 4, 8]).expect("not empty");
            let least = u64::from(matches!(act, Act::Append | Act::Step | Act::Poll)) * 2;
            (act, weight * sway.max(least))
        });
        World {
            disk,
            clock: Arc::default(),
            entropy,
            sizes: Sizes { first, max: max.max(first) },
            style: Style { fixed, forged, large },
            streams: STREAMS[..count].to_vec(),
            weights: weights.to_vec(),
            engine: None,
            checker: Checker::default(),
            tickets: BTreeMap::new(),
            asked: Vec::new(),
            watches: Vec::new(),
            held: Vec::new(),
            trouble: Trouble::default(),
            next_id: u128::from(rng.next_u64()) << 64,
            next_key: 0,
            epoch_doubt: None,
            old_files: Vec::new(),
            trace: VecDeque::new(),
            hash: seed,
            counts: Counts { histories: 1, ..Counts::default() },
            sights: Sights::new(),
            rng,
        }
    }

    /// The disk, for what failed on it.
    #[must_use]
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// A hash of all that was done and answered. Equal for equal runs.
    #[must_use]
    pub fn hash(&self) -> u64 {
        rng::mix(self.hash ^ self.disk.trace_hash())
    }

    fn note(&mut self, line: String) {
        let sum = u64::from(daybook_log::checksum::crc(line.as_bytes()));
        self.hash = rng::mix(self.hash.rotate_left(7) ^ sum);
        if self.trace.len() >= TRACE_LEN.load(Ordering::Relaxed) {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>4} {line}", self.counts.steps));
    }

    /// Something happened that histories are made for.
    fn saw(&mut self, what: &'static str) {
        *self.sights.entry(what).or_default() += 1;
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn environment(&self, disk: &SimDisk) -> Environment {
        Environment {
            disk: Arc::new(disk.clone()),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
        }
    }

    fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().expect("a step begins with an open store")
    }

    /// Runs the history.
    ///
    /// # Errors
    /// Which promise was broken.
    pub fn run(&mut self, steps: u64) -> Result<(), String> {
        self.restart(None)?;
        let total: u64 = self.weights.iter().map(|(_, weight)| weight).sum();
        for step in 1..=steps {
            self.counts.steps = step;
            let mut at = self.rng.below(total);
            let act = self.weights.iter().find(|(_, weight)| {
                let here = at < *weight;
                at = at.saturating_sub(*weight);
                here
            });
            let act = act.map_or(Act::Step, |(act, _)| *act);
            self.act(act)?;
            if self.disk.is_down() {
                let power = self.trouble.names || self.rng.chance(3, 4);
                self.restart(Some(power))?;
            } else {
                self.absorb()?;
            }
            if self.engine().health() != Health::Writable && self.rng.chance(1, 8) {
                self.heal()?;
            }
        }
        self.finish()
    }

    fn act(&mut self, act: Act) -> Result<(), String> {
        match act {
            Act::Append => self.append(1),
            Act::AppendMany => {
                let streams = self.rng.between(2, 4) as usize;
                self.append(streams)
            }
            Act::Retry => self.retry(),
            Act::Delete => self.delete(),
            Act::Describe => self.describe(),
            Act::Decide => {
                self.engine().decide();
                self.note("decide".to_owned());
                Ok(())
            }
            Act::HandOver => {
                let done = self.engine().hand_over();
                self.note(format!("hand over: {done}"));
                Ok(())
            }
            Act::Step => self.step(),
            Act::Run => {
                self.engine().run();
                self.trouble.refused |= self.trouble.faults || self.trouble.full;
                self.note("run".to_owned());
                Ok(())
            }
            Act::Poll => self.poll(),
            Act::Read => self.read(),
            Act::Feed => self.feed(),
            Act::Hold => self.hold(),
            Act::Burst => self.burst(),
            Act::Maintain => self.maintain(),
            Act::Watermark => {
                self.engine().watermark();
                self.note("watermark".to_owned());
                Ok(())
            }
            Act::Clock => self.tick(),
            Act::Leap => self.leap(),
            Act::Crash => {
                let power = self.trouble.names || self.rng.chance(2, 3);
                self.restart(Some(power))
            }
            Act::CrashSoon => {
                let after = self.rng.below(12);
                self.disk.crash_at_change(self.disk.changes() + after);
                self.note(format!("will die after {after} changes"));
                Ok(())
            }
            Act::Fail => self.fail(),
            Act::Fill => self.fill(),
            Act::Future => self.future(),
            Act::Damage => self.damage(),
            Act::Epoch => self.raise_epoch(),
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let mut step = self.engine().step();
        if step.is_none() && self.rng.chance(3, 4) {
            self.engine().decide();
            self.engine().hand_over();
            step = self.engine().step();
        }
        if step == Some(daybook_store::engine::Step::Refused) {
            self.trouble.refused = true;
        }
        self.note(format!("step: {step:?}"));
        Ok(())
    }

    // What clients ask for.

    fn stream_name(&mut self) -> String {
        let name = self.rng.pick(&self.streams).copied().unwrap_or("plain");
        if self.rng.chance(1, 40) { format!("$${name}") } else { name.to_owned() }
    }

    fn expected(&mut self, name: &str) -> ExpectedRevision {
        let head = self.checker.model.head(name);
        match self.rng.below(12) {
            0..=2 => ExpectedRevision::Any,
            3 => ExpectedRevision::StreamExists,
            4 => ExpectedRevision::NoStream,
            5 => ExpectedRevision::Exact(Revision(self.rng.below(8))),
            6 => ExpectedRevision::Exact(Revision(head.map_or(0, |head| head + 1))),
            _ => head.map_or(ExpectedRevision::NoStream, |h| ExpectedRevision::Exact(Revision(h))),
        }
    }

    fn new_event(&mut self, stream: usize) -> AskedEvent {
        self.next_id += 1;
        let kinds = ["Opened", "Paid", "Paid", "Closed"];
        let kind = self.rng.pick(&kinds).copied().unwrap_or_default().to_owned();
        let metadata = match self.rng.below(6) {
            0 => b"{\"$correlationId\":\"c0\"}".to_vec(),
            1 => b"{\"a\":[1],\"$correlationId\":\"c1\"}".to_vec(),
            2 => b"not json $correlationId".to_vec(),
            _ => Vec::new(),
        };
        let end = self.checker.model.len();
        let data = payload::data(&mut self.rng, &self.style, &self.disk, end);
        let json = self.rng.chance(1, 2);
        AskedEvent { stream, id: self.next_id, kind, json, metadata, data }
    }

    fn append(&mut self, count: usize) -> Result<(), String> {
        let mut streams: Vec<(String, ExpectedRevision)> = Vec::new();
        for _ in 0..count {
            let name = self.stream_name();
            if streams.iter().all(|(other, _)| *other != name) {
                let expected = self.expected(&name);
                streams.push((name, expected));
            }
        }
        let mut events = Vec::new();
        let many = self.rng.between(1, 4);
        for _ in 0..self.rng.between(u64::from(count == 1), many) {
            let stream = self.rng.below(streams.len() as u64) as usize;
            events.push(self.new_event(stream));
        }
        self.submit(Arc::new(Asked { streams, events, tombstone: false }))
    }

    fn retry(&mut self) -> Result<(), String> {
        let recent = self.asked.len().saturating_sub(12);
        let from = if self.rng.chance(3, 4) { recent } else { 0 };
        let Some(asked) = self.rng.pick(&self.asked[from..]).cloned() else { return Ok(()) };
        if !self.rng.chance(1, 6) {
            return self.submit(asked);
        }
        // As another client would: the same ids under another condition, or in part.
        let mut other = (*asked).clone();
        let name = other.streams[0].0.clone();
        other.streams[0].1 = self.expected(&name);
        if self.rng.chance(1, 3) {
            let event = self.new_event(0);
            other.events.push(event);
        }
        self.submit(Arc::new(other))
    }

    fn describe(&mut self) -> Result<(), String> {
        let name = self.rng.pick(&self.streams).copied().unwrap_or("plain");
        let number = self.rng.below(6);
        let data = match self.rng.below(6) {
            0 | 1 => format!("{{\"$maxCount\":{number}}}"),
            2 => format!("{{\"$maxAge\":{}}}", number + 1),
            3 => format!("{{\"$tb\":{number},\"mine\":\"kept\"}}"),
            4 => "{}".to_owned(),
            _ => "not json".to_owned(),
        };
        self.next_id += 1;
        let event = AskedEvent {
            stream: 0,
            id: self.next_id,
            kind: "$metadata".to_owned(),
            json: true,
            metadata: Vec::new(),
            data: data.into_bytes(),
        };
        let streams = vec![(format!("$${name}"), ExpectedRevision::Any)];
        self.submit(Arc::new(Asked { streams, events: vec![event], tombstone: false }))
    }

    fn submit(&mut self, asked: Arc<Asked>) -> Result<(), String> {
        if self.tickets.len() >= WAITING_MAX || asked.tombstone {
            return self.poll();
        }
        let append = append_of(&asked);
        let key = self.begin(&asked);
        self.asked.push(Arc::clone(&asked));
        let ticket = self.engine().submit(&append);
        self.counts.appends += 1;
        let names: Vec<String> =
            asked.streams.iter().map(|(name, expected)| format!("{name}={expected}")).collect();
        let ids: Vec<String> =
            asked.events.iter().map(|e| format!("{:x}", e.id as u32)).collect();
        self.note(format!("append {key}: {} ids {}", names.join(" "), ids.join(" ")));
        self.tickets.insert(key, ticket);
        self.ask(key)
    }

    fn begin(&mut self, asked: &Arc<Asked>) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        self.checker.ask(key, Arc::clone(asked));
        key
    }

    /// Deletes a stream, softly or for ever.
    fn delete(&mut self) -> Result<(), String> {
        let name = self.rng.pick(&self.streams).copied().unwrap_or("plain");
        let expected = self.expected(name);
        let stream = StreamName::new(name).expect("a valid name");
        let id = u128::from_be_bytes(self.entropy.peek());
        let mut event = AskedEvent {
            stream: 0,
            id,
            kind: "$streamDeleted".to_owned(),
            json: true,
            metadata: Vec::new(),
            data: Vec::new(),
        };
        let mut streams = vec![(name.to_owned(), expected)];
        let tombstone = self.rng.chance(1, 4);
        if !tombstone {
            streams.push((format!("$${name}"), ExpectedRevision::Any));
            event.stream = 1;
            event.kind = "$metadata".to_owned();
            event.data = format!("{{\"$tb\":{}}}", i64::MAX).into_bytes();
        }
        let asked = Arc::new(Asked { streams, events: vec![event], tombstone });
        let key = self.begin(&asked);
        let engine = self.engine();
        let ticket = if tombstone {
            engine.tombstone(&stream, expected)
        } else {
            engine.soft_delete(&stream, expected)
        };
        self.note(format!("delete {key}: {name}={expected} for ever: {tombstone}"));
        self.tickets.insert(key, ticket);
        self.ask(key)
    }

    // What they are answered.

    fn poll(&mut self) -> Result<(), String> {
        let keys: Vec<u64> = self.tickets.keys().copied().collect();
        for key in keys {
            if !self.disk.is_down() {
                self.ask(key)?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, key: u64) -> Result<(), String> {
        let Some(ticket) = self.tickets.remove(&key) else { return Ok(()) };
        let (answer, ticket) = self.engine().poll(ticket);
        if self.disk.is_down() {
            // The process is dead: nobody hears what it says.
            self.tickets.extend(ticket.map(|ticket| (key, ticket)));
            return Ok(());
        }
        match (answer, ticket) {
            (Some(answer), _) => self.answered(key, answer),
            (None, Some(ticket)) => {
                self.tickets.insert(key, ticket);
                Ok(())
            }
            (None, None) => Err(format!("append {key} has neither an answer nor a ticket")),
        }
    }

    fn answered(
        &mut self,
        key: u64,
        answer: Result<Appended, AppendError>,
    ) -> Result<(), String> {
        // What an answer speaks of must be visible when it is given.
        self.absorb()?;
        let text = match &answer {
            Ok(appended) => format!("{appended:?}"),
            Err(e) => e.to_string(),
        };
        self.note(format!("answer {key}: {text}"));
        let outcome = match answer {
            Ok(appended) => Outcome::Done {
                revisions: appended.revisions.iter().map(|r| r.map(|r| r.0)).collect(),
                position: appended.position.map(|p| p.0),
            },
            Err(AppendError::WrongExpectedRevision { index, actual, .. }) => {
                Outcome::Wrong { index, actual: actual.map(|r| r.0) }
            }
            Err(AppendError::StreamDeleted { index, tombstoned, .. }) => {
                Outcome::Deleted { index, tombstoned }
            }
            Err(other) => return self.refused(key, &other),
        };
        let told = self.checker.answered(key, &outcome)?;
        self.saw(match (told, &outcome) {
            (Told::Written, _) => "an append was written",
            (Told::Known, Outcome::Done { position: Some(_), .. }) => "a retry was recognised",
            (Told::Known, Outcome::Done { .. }) => "conditions were checked without events",
            (Told::Known, Outcome::Wrong { .. }) => "a condition did not hold",
            (Told::Known, Outcome::Deleted { .. }) => "a stream was deleted",
        });
        Ok(())
    }

    /// An answer that says nothing about the log.
    fn refused(&mut self, key: u64, error: &AppendError) -> Result<(), String> {
        let trouble = self.trouble;
        let poisoned = matches!(self.engine().health(), Health::Poisoned { .. });
        let excused = match error {
            AppendError::Unknown { .. } => trouble.faults || trouble.full,
            AppendError::DiskFull { .. } => trouble.faults || trouble.full,
            AppendError::Overloaded { .. } => trouble.refused,
            AppendError::ClockLeapt { .. } => trouble.leapt,
            AppendError::Closed { .. } => poisoned,
            AppendError::Read { .. } => trouble.faults || trouble.index,
            _ => false,
        };
        if !excused {
            return Err(format!("append {key} was refused without a reason: {error}"));
        }
        self.saw(match error {
            AppendError::Unknown { .. } => "an outcome was unknown",
            AppendError::DiskFull { .. } => "the disk was full",
            AppendError::ClockLeapt { .. } => "the clock leapt",
            AppendError::Closed { .. } => "the store took no more appends",
            AppendError::Read { .. } => "an append could not be decided",
            _ => "an append was refused otherwise",
        });
        // Only an unknown one may still appear.
        self.checker.refused(key, matches!(error, AppendError::Unknown { .. }))
    }

    /// Takes into the model what has become visible.
    fn absorb(&mut self) -> Result<(), String> {
        let end = self.engine().committed().0;
        let known = self.checker.model.len();
        if end < known {
            return Err(format!("the log ends at {end}, but ended at {known} before"));
        }
        if end == known || self.disk.is_down() {
            return Ok(());
        }
        let mut read = reads::scan(self.engine(), known);
        if read.is_err() && self.trouble.faults {
            self.calm();
            read = reads::scan(self.engine(), known);
        }
        let facts = match read {
            Ok(facts) => facts,
            Err(e) => return self.failed(&e),
        };
        if facts.len() as u64 != end - known {
            return Err(format!("{} of the events from {known} to {end} are read", facts.len()));
        }
        self.counts.events += facts.len() as u64;
        self.checker.extend(&facts)
    }

    // What readers see.

    fn checked(&mut self, result: Result<(), Bad>) -> Result<(), String> {
        self.counts.reads += 1;
        match result {
            Ok(()) => Ok(()),
            Err(Bad::Broken(reason)) => Err(reason),
            Err(Bad::Failed(e)) => self.failed(&e),
        }
    }

    /// The store said that it could not read.
    fn failed(&mut self, error: &ReadError) -> Result<(), String> {
        self.saw("a read failed");
        self.note(format!("read failed: {error}"));
        if self.disk.is_down() {
            return Ok(());
        }
        match error {
            ReadError::Disk { .. } if self.trouble.faults => Ok(()),
            ReadError::IndexDamaged { .. } if self.trouble.index => {
                self.saw("a rotten index file was built anew");
                self.mend();
                Ok(())
            }
            other => Err(format!("a read failed without a reason: {other}")),
        }
    }

    /// Lets the store build anew what is damaged.
    fn mend(&mut self) {
        for _ in 0..100 {
            if !matches!(self.engine().maintain(), Ok(true)) {
                break;
            }
        }
    }

    fn read(&mut self) -> Result<(), String> {
        let now = self.now();
        let name = self.stream_name();
        let mut rng = self.rng.fork();
        let key = rng.pick(&reads::keys()).cloned().expect("not empty");
        let model = &self.checker.model;
        let engine = self.engine.as_ref().expect("open");
        let kind = rng.below(6);
        let result = match kind {
            0 => reads::all(engine, model, &mut rng),
            1 => reads::stream(engine, model, &mut rng, &name, now),
            2 => reads::index(engine, model, &mut rng, &key),
            3 => reads::names(engine, model, &mut rng),
            4 => reads::info(engine, model, &name),
            _ => return self.epochs(),
        };
        self.note(format!("read {kind} {name}"));
        self.checked(result)
    }

    fn epochs(&mut self) -> Result<(), String> {
        let position = self.rng.below(self.checker.model.len() + 2);
        let found = self.engine().epoch_at(Position(position)).map(|epoch| epoch.0);
        let known = self.checker.model.epoch_at(position);
        if found == known {
            return Ok(());
        }
        match self.epoch_doubt {
            Some((from, epoch)) if position >= from && found == Some(epoch) => {
                self.checker.model.epochs.push((from, epoch));
                self.epoch_doubt = None;
                Ok(())
            }
            _ => Err(format!("position {position} is of epoch {found:?}, not {known:?}")),
        }
    }

    fn hold(&mut self) -> Result<(), String> {
        let now = self.now();
        let mut rng = self.rng.fork();
        if self.held.len() < 4 && rng.chance(1, 2) {
            let name = self.stream_name();
            let model = &self.checker.model;
            let engine = self.engine.as_ref().expect("open");
            if rng.chance(1, 2) {
                let (what, reader, expected) = reads::open_all(engine, model, &mut rng);
                self.held.push(Held { what, reader: Reader::All(reader), expected });
                return Ok(());
            }
            return match reads::open_stream(engine, model, &mut rng, &name, now) {
                Ok(Some((what, reader, expected))) => {
                    self.held.push(Held { what, reader: Reader::Stream(reader), expected });
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(bad) => self.checked(Err(bad)),
            };
        }
        let Some(mut held) = self.held.pop() else { return Ok(()) };
        let mut read = Vec::new();
        let result = loop {
            let page = match &mut held.reader {
                Reader::All(reader) => reader.next_page(),
                Reader::Stream(reader) => reader.next_page(),
            };
            match page {
                Ok(Some(page)) => read.extend(page.events().map(|event| Fact::of(&event))),
                Ok(None) => break Ok(()),
                Err(e) => break Err(Bad::Failed(e)),
            }
        };
        self.saw("a reader was held while the store went on");
        let what = format!("held: {}", held.what);
        let result = result.and_then(|()| {
            reads::same(&what, &read, &held.expected, &self.checker.model, false)
                .map_err(Bad::Broken)
        });
        self.checked(result)
    }

    fn feed(&mut self) -> Result<(), String> {
        if self.watches.len() < 6 && self.rng.chance(1, 3) {
            self.subscribe();
            return Ok(());
        }
        if self.watches.is_empty() {
            return Ok(());
        }
        let now = self.now();
        let at = self.rng.below(self.watches.len() as u64) as usize;
        let count = self.rng.between(1, 4);
        let looked = self.watches[at].look(&self.checker.model, now, count)?;
        match looked {
            Looked::Fine(told) => {
                if told.contains("..") {
                    self.saw("a feed delivered events");
                }
                if told.contains("checkpoint") {
                    self.saw("a feed delivered a checkpoint");
                }
                self.note(format!("feed {at}:{told}"));
                if self.rng.chance(1, 30) {
                    self.watches.remove(at);
                }
                Ok(())
            }
            Looked::Ended => {
                self.saw("a feed ended with its stream");
                self.watches.remove(at);
                Ok(())
            }
            Looked::Failed(e) => self.failed(&e),
        }
    }

    fn subscribe(&mut self) {
        let model = &self.checker.model;
        let source = if self.rng.chance(1, 2) {
            let name = self.rng.pick(&self.streams).copied().unwrap_or("plain");
            Source::Stream(name.to_owned())
        } else {
            let wanted = self.rng.chance(1, 2).then(|| Wanted::random(&mut self.rng));
            Source::All(wanted, self.rng.between(1, 9))
        };
        let end = match &source {
            Source::Stream(name) => model.head(name).map_or(0, |head| head + 1),
            Source::All(..) => model.len(),
        };
        let after = self.rng.below(end + 1);
        let (from, next) = match self.rng.below(3) {
            0 => (SubscribeFrom::Start, 0),
            1 => (SubscribeFrom::End, end),
            _ if after == end => (SubscribeFrom::Start, 0),
            _ => (SubscribeFrom::After(after), after + 1),
        };
        self.note(format!("subscribe {source:?} {from:?}"));
        let watch = Watch::new(self.engine.as_ref().expect("open"), source, from, next);
        self.watches.push(watch);
    }

    /// Much at once, so that the log rolls often and runs of the directory are merged.
    fn burst(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.between(8, 24) {
            self.append(1)?;
            self.engine().run();
            if self.disk.is_down() {
                return Ok(());
            }
            self.absorb()?;
            self.poll()?;
            if self.rng.chance(1, 2) && !self.disk.is_down() {
                self.maintain()?;
            }
            if self.disk.is_down() {
                return Ok(());
            }
        }
        Ok(())
    }

    // What operators and the machine do.

    fn maintain(&mut self) -> Result<(), String> {
        let runs = |disk: &SimDisk| disk.names().iter().filter(|n| n.ends_with(".dir")).count();
        let before = runs(&self.disk);
        let result = self.engine().maintain();
        self.note(format!("maintain: {result:?}"));
        match runs(&self.disk).cmp(&before) {
            std::cmp::Ordering::Greater => self.saw("a segment's index was written"),
            std::cmp::Ordering::Less => self.saw("runs of the directory were merged"),
            std::cmp::Ordering::Equal => {}
        }
        match result {
            Ok(_) => Ok(()),
            Err(ReadError::Disk { .. }) if self.trouble.full => Ok(()),
            Err(e) => self.failed(&e),
        }
    }

    fn tick(&mut self) -> Result<(), String> {
        if self.rng.chance(1, 6) {
            let back = self.rng.below(4_000_000_000).cast_signed();
            self.clock.jump(-back);
            self.note(format!("clock back by {back}"));
        } else {
            let ns = self.rng.below(3_000_000_000);
            self.clock.pass(ns);
        }
        Ok(())
    }

    fn leap(&mut self) -> Result<(), String> {
        self.clock.jump(2 * 3_600_000_000_000);
        self.trouble.leapt = true;
        self.note("clock leaps".to_owned());
        // Whoever asks now must be refused, until someone accepts the time.
        let idle = self.tickets.is_empty() && self.engine().health() == Health::Writable;
        if idle {
            let name = self.streams[0].to_owned();
            let event = self.new_event(0);
            let before = self.checker.model.len();
            let streams = vec![(name, ExpectedRevision::Any)];
            self.submit(Arc::new(Asked { streams, events: vec![event], tombstone: false }))?;
            self.engine().run();
            self.poll()?;
            if !self.disk.is_down() && self.engine().committed().0 != before {
                return Err("the clock leapt, and an append was taken".to_owned());
            }
        }
        Ok(())
    }

    fn heal(&mut self) -> Result<(), String> {
        match self.engine().health() {
            Health::ClockLeapt { .. } => {
                self.engine().accept_clock();
                self.note("the clock is accepted".to_owned());
                Ok(())
            }
            Health::DiskFull => {
                self.calm();
                Ok(())
            }
            Health::Poisoned { .. } | Health::Closed => {
                let power = self.trouble.names || self.rng.chance(1, 2);
                self.restart(Some(power))
            }
            Health::Writable => Ok(()),
        }
    }

    /// The disk fails no more, and has room.
    fn calm(&mut self) {
        self.disk.clear_faults();
        self.disk.set_capacity(None);
        self.note("the disk is well".to_owned());
    }

    fn fail(&mut self) -> Result<(), String> {
        let operations = [
            Operation::Write,
            Operation::Write,
            Operation::Sync,
            Operation::Sync,
            Operation::Sync,
            Operation::Read,
            Operation::Create,
            Operation::Rename,
            Operation::SyncNames,
            Operation::Remove,
            Operation::FreeSpace,
            Operation::List,
        ];
        let operation = *self.rng.pick(&operations).expect("not empty");
        let files = [".log", ".log", "next.tmp", ".idx", ".ids", ".dir", ""];
        let file = *self.rng.pick(&files).expect("not empty");
        let fault = *self.rng.pick(&[Fault::Eio, Fault::Enospc, Fault::Torn]).expect("not empty");
        let repeat = if self.rng.chance(1, 6) { Repeat::Always } else { Repeat::Once };
        let directory =
            matches!(operation, Operation::SyncNames | Operation::List | Operation::FreeSpace);
        let name = (!directory && !file.is_empty()).then_some(file);
        let nth = self.rng.between(1, 4);
        self.disk.fail_after(operation, name, nth, fault, repeat);
        self.trouble.faults = true;
        self.trouble.names |= operation == Operation::SyncNames;
        self.note(format!("{operation:?} {name:?} will fail: {nth} {fault:?} {repeat:?}"));
        Ok(())
    }

    fn fill(&mut self) -> Result<(), String> {
        let used: u64 = self
            .disk
            .names()
            .iter()
            .filter_map(|name| self.disk.read_all(name).ok())
            .map(|bytes| bytes.len() as u64)
            .sum();
        let room = self.rng.below(40_000);
        self.disk.set_capacity(Some(used + room));
        self.trouble.full = true;
        self.note(format!("the disk has room for {room}"));
        Ok(())
    }

    fn raise_epoch(&mut self) -> Result<(), String> {
        let idle = self.tickets.is_empty() && self.engine().health() == Health::Writable;
        if !idle {
            return Ok(());
        }
        self.engine().run();
        self.absorb()?;
        let end = self.checker.model.len();
        let epoch = self.checker.model.epochs.last().map_or(0, |(_, epoch)| *epoch);
        let result = self.engine().raise_epoch();
        self.note(format!("raise the epoch at {end}: {result:?}"));
        match result {
            Ok(raised) => {
                self.epoch_doubt = None;
                self.saw("the epoch was raised");
                self.checker.model.epochs.push((end, raised.0));
                Ok(())
            }
            Err(_) if self.disk.is_down() || self.trouble.faults || self.trouble.full => {
                self.epoch_doubt = Some((end, epoch + 1));
                Ok(())
            }
            Err(e) => Err(format!("the epoch could not be raised: {e}")),
        }
    }

    // What the disk may hold.

    /// Cuts the power of a copy of the disk: what was visible must be there, and nothing else.
    fn future(&mut self) -> Result<(), String> {
        let modes = [CrashMode::DropAll, CrashMode::DropAll, CrashMode::Random];
        let mode = *self.rng.pick(&modes).expect("not empty");
        let disk = self.disk.fork(self.rng.next_u64());
        disk.clear_faults();
        disk.set_capacity(None);
        disk.crash(mode);
        let disk = disk.restart();
        self.note(format!("what if the power went now, {mode:?}"));
        self.counts.crashes += 1;
        self.saw("the power of a copy was cut");
        let mut rng = self.rng.fork();
        let environment = Environment {
            disk: Arc::new(disk.clone()),
            clock: Arc::new(self.clock.fork()),
            entropy: Arc::new(SimEntropy::new(rng.next_u64())),
        };
        let broken = |e: String| format!("after a power cut ({mode:?}): {e}");
        let engine = Engine::open(environment, self.sizes).map_err(|e| broken(e.to_string()))?;
        let mut checker = self.checker.clone();
        match compare(&engine, &mut checker) {
            Ok(()) => {}
            Err(Bad::Failed(_)) if self.trouble.index => return Ok(()),
            Err(Bad::Failed(e)) => return Err(broken(e.to_string())),
            Err(Bad::Broken(e)) => return Err(broken(e)),
        }
        drop(engine);
        let disk: Arc<dyn Disk> = Arc::new(disk.restart());
        let report = daybook_store::verify::verify(&disk, &mut |_| {});
        match report {
            Ok(_) => Ok(()),
            Err(_) if self.trouble.index => Ok(()),
            Err(e) => Err(broken(e.to_string())),
        }
    }

    /// Inverts a bit of a copy of the disk: nothing wrong may ever be read from it.
    fn damage(&mut self) -> Result<(), String> {
        if !self.tickets.is_empty() || self.trouble.index {
            return Ok(());
        }
        let disk = self.disk.fork(self.rng.next_u64());
        disk.clear_faults();
        disk.set_capacity(None);
        let mut rng = self.rng.fork();
        let clock = Arc::new(self.clock.fork());
        let entropy = Arc::new(SimEntropy::new(rng.next_u64()));
        let model = &self.checker.model;
        let told = damage::flip(&disk, &clock, &entropy, self.sizes, model, &mut rng)?;
        self.note(format!("what if a bit were wrong: {told}"));
        self.saw("a copy of the log was damaged");
        Ok(())
    }

    fn kill(&mut self) {
        self.watches.clear();
        self.held.clear();
        self.tickets.clear();
        self.checker.forget_waiting();
        self.engine = None;
        self.disk.kill();
    }

    /// Ends the process, perhaps by cutting the power, and starts the next one.
    fn restart(&mut self, power: Option<bool>) -> Result<(), String> {
        self.kill();
        if let Some(power) = power {
            self.counts.crashes += 1;
            self.crash(power);
        }
        self.tamper();
        self.disk.clear_faults();
        self.disk.set_capacity(None);
        self.trouble =
            Trouble { index: self.trouble.index, ..Trouble::default() };
        let mut cuts = if self.rng.chance(1, 4) { OPEN_CUTS_MAX } else { 0 };
        let engine = loop {
            self.disk = self.disk.restart();
            if cuts > 0 {
                let after = self.rng.below(10);
                self.disk.crash_at_change(self.disk.changes() + after);
            }
            let result = Engine::open(self.environment(&self.disk), self.sizes);
            if self.disk.is_down() {
                self.note("died while opening".to_owned());
                self.saw("a process died while it opened the store");
                cuts = cuts.saturating_sub(1);
                self.counts.crashes += 1;
                drop(result);
                let power = self.rng.chance(2, 3);
                self.crash(power);
                continue;
            }
            match result {
                Ok(engine) => break engine,
                Err(e) => return Err(format!("the store does not open: {e}")),
            }
        };
        self.disk.crash_at_change(u64::MAX);
        self.note(format!("opened at {}: {:?}", engine.committed(), engine.recovery()));
        let recovery = engine.recovery();
        if recovery.torn.is_some() {
            self.saw("a torn tail was cut");
        }
        if recovery.rewritten_bytes > 0 {
            self.saw("a tail was rewritten");
        }
        if engine.rebuilt() > 0 {
            self.saw("index files were built at the start");
        }
        let before = self.checker.model.len();
        self.engine = Some(engine);
        self.compare()?;
        if self.checker.model.len() > before && before > 0 {
            self.saw("an unknown append was there after all");
        }
        // What is not there now was never durable, and may not come back.
        self.checker.pending.clear();
        Ok(())
    }

    /// Holds the store that was just opened against what was visible before.
    fn compare(&mut self) -> Result<(), String> {
        // A rotten index file is found when it is read, and built anew then.
        for _ in 0..100 {
            let engine = self.engine.as_ref().expect("open");
            match compare(engine, &mut self.checker) {
                Ok(()) => return Ok(()),
                Err(Bad::Broken(reason)) => return Err(reason),
                Err(Bad::Failed(e)) => self.failed(&e)?,
            }
        }
        Err("an index file is damaged, and not built anew".to_owned())
    }

    fn crash(&mut self, power: bool) {
        let modes = [
            CrashMode::Random,
            CrashMode::Random,
            CrashMode::Random,
            CrashMode::DropAll,
            CrashMode::KeepAll,
            CrashMode::DataOnly,
            CrashMode::NamesOnly,
        ];
        if power {
            let mode = *self.rng.pick(&modes).expect("not empty");
            self.note(format!("the power goes: {mode:?}"));
            self.disk.crash(mode);
        } else {
            self.note("killed".to_owned());
            self.disk.kill();
        }
    }

    /// Index files go missing, grow old, come from elsewhere, rot.
    fn tamper(&mut self) {
        if !self.rng.chance(1, 3) {
            return;
        }
        let suffixes = [".idx", ".ids", ".dir"];
        let files: Vec<String> = self
            .disk
            .names()
            .into_iter()
            .filter(|name| suffixes.iter().any(|suffix| name.ends_with(suffix)))
            .collect();
        let Some(name) = self.rng.pick(&files).cloned() else { return };
        let Ok(bytes) = self.disk.read_all(&name) else { return };
        let suffix = &name[name.len() - 4..];
        let kind = self.rng.below(5);
        let done = match kind {
            0 => {
                let disk = self.disk.restart();
                let gone = disk.remove(&name).is_ok();
                disk.kill();
                gone
            }
            1 | 2 if !bytes.is_empty() => {
                let byte = self.rng.below(bytes.len() as u64);
                let bit = self.rng.below(8) as u32;
                self.trouble.index = true;
                self.disk.flip_bit(&name, byte, bit).is_ok()
            }
            3 => {
                let others: Vec<&String> =
                    files.iter().filter(|other| other.ends_with(suffix)).collect();
                let other = self.rng.pick(&others).map(|other| (*other).clone());
                let bytes = other.and_then(|other| self.disk.read_all(&other).ok());
                bytes.is_some_and(|bytes| self.disk.write_all(&name, &bytes).is_ok())
            }
            _ => {
                let foreign = damage::foreign_tables();
                let mut all = self.old_files.clone();
                all.extend(foreign.iter().cloned());
                let fit: Vec<_> = all.iter().filter(|(other, _)| other.ends_with(suffix)).collect();
                let bytes = self.rng.pick(&fit).map(|(_, bytes)| bytes.clone());
                bytes.is_some_and(|bytes| self.disk.write_all(&name, &bytes).is_ok())
            }
        };
        if self.old_files.len() < 16 {
            self.old_files.push((name.clone(), bytes));
        }
        self.note(format!("tampered with {name}: {kind} {done}"));
        self.saw("an index file was tampered with");
    }

    /// The end: everything is read in every way, and verified.
    fn finish(&mut self) -> Result<(), String> {
        self.calm();
        let power = self.trouble.names || self.rng.chance(1, 2);
        self.restart(Some(power))?;
        for _ in 0..4 {
            let mut rng = self.rng.fork();
            let now = self.now();
            let model = &self.checker.model;
            let engine = self.engine.as_mut().expect("open");
            let mut maintained = engine.maintain();
            while matches!(maintained, Ok(true)) {
                maintained = engine.maintain();
            }
            let read = maintained
                .map_err(Bad::Failed)
                .and_then(|_| reads::everything(engine, model, &mut rng, now));
            self.checked(read)?;
            engine_idle(self.engine())?;
            self.kill();
            let disk: Arc<dyn Disk> = Arc::new(self.disk.restart());
            let report = daybook_store::verify::verify(&disk, &mut |_| {});
            let bad: Vec<String> = match report {
                Ok(report) if report.log.events != self.checker.model.len() => {
                    return Err(format!("verify counts {} events", report.log.events));
                }
                Ok(report) => report.bad_index_files,
                Err(VerifyError::Read(ReadError::IndexDamaged { file, .. })) => vec![file],
                Err(e) => return Err(format!("verify: {e}")),
            };
            let forgiven = self.trouble.index && bad.iter().all(|name| !name.ends_with(".log"));
            match bad.as_slice() {
                [] => return Ok(()),
                _ if !forgiven => return Err(format!("verify: index files are wrong: {bad:?}")),
                _ => {}
            }
            // What nobody read yet was not found yet.
            for name in &bad {
                let _ = disk.remove(name);
            }
            self.restart(None)?;
        }
        Err("index files are wrong after they were removed and built anew".to_owned())
    }
}

fn engine_idle(engine: &mut Engine) -> Result<(), String> {
    match engine.step() {
        None => Ok(()),
        Some(step) => Err(format!("an idle store did {step:?}")),
    }
}

/// Holds a store that was just opened against what was visible before: all of it, and after it
/// only what was asked for.
///
/// # Errors
/// Which promise it breaks.
pub fn compare(engine: &Engine, checker: &mut Checker) -> Result<(), Bad> {
    let known = checker.model.len();
    let end = engine.committed().0;
    if end < known {
        return Err(format!("the log ends at {end}; {known} events were visible before").into());
    }
    let facts = reads::scan(engine, 0)?;
    if facts.len() as u64 != end {
        return Err(format!("{} of {end} events are read", facts.len()).into());
    }
    for (fact, before) in facts.iter().zip(&checker.model.events) {
        if fact != before {
            return Err(format!("{} was {} before", fact.brief(), before.brief()).into());
        }
    }
    checker.extend(&facts[known as usize..])?;
    Ok(())
}

/// The store's form of `asked`.
#[must_use]
pub fn append_of(asked: &Asked) -> Append {
    let condition = |(name, expected): &(String, ExpectedRevision)| StreamCondition {
        stream: StreamName::new(name).expect("a valid name"),
        expected: *expected,
    };
    let event = |event: &AskedEvent| {
        let new = NewEvent {
            id: Uuid::from_u128(event.id),
            event_type: event.kind.clone(),
            content_type: if event.json { ContentType::Json } else { ContentType::Binary },
            metadata: Bytes::from(event.metadata.clone()),
            data: Bytes::from(event.data.clone()),
        };
        (event.stream as u32, new)
    };
    Append {
        streams: asked.streams.iter().map(condition).collect(),
        events: asked.events.iter().map(event).collect(),
    }
}
