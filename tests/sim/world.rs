//! One history: a store on a simulated disk, its clients, its faults, its restarts.

mod clients;
mod machine;
mod readers;
mod scavenge;

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
    AllReader, Append, AppendError, Appended, Deletion, Engine, Environment, Health, ReadError,
    Sizes, StreamCondition, StreamReader, SubscribeFrom,
};
use uuid::Uuid;

use super::checker::{Checker, Told};
use super::damage;
use super::feed::{Looked, Source, Watch};
use super::model::{Asked, AskedEvent, Fact, Outcome};
use super::payload::{self, Style};
use super::reads::{self, Bad, Expected, Wanted};
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
    Scavenge,
}

/// Each act's weight, before a history sways it.
const ACTS: [(Act, u64); 26] = [
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
    (Act::Scavenge, 24),
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
    /// The new generation of a segment is damaged.
    draft: bool,
}

enum Reader {
    All(AllReader),
    Stream(StreamReader),
}

/// A reader that is kept open while the world goes on.
struct Held {
    what: String,
    reader: Reader,
    expected: Expected,
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
            Act::Scavenge => self.scavenge(),
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
    let (old, new) = facts.split_at(facts.partition_point(|fact| fact.position < known));
    if new.len() as u64 != end - known {
        return Err(format!("{} of the events from {known} to {end} are read", new.len()).into());
    }
    if !engine.recovery().set_aside.is_empty() {
        // The generation before counts again.
        checker.model.removed.clear();
    }
    checker.model.found(old)?;
    checker.extend(new)?;
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
