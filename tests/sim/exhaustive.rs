//! All short histories, cut at every change of the disk, and once more during the recovery.

use std::sync::Arc;

use daybook_log::disk::Disk;
use daybook_log::disk::sim::{CrashMode, SimDisk};
use daybook_model::Clock;
use daybook_model::{ExpectedRevision, Revision};
use daybook_store::engine::Ticket;
use daybook_store::scavenge::{Step, Thoroughness};
use daybook_store::{AppendError, Engine, Environment, Sizes};

use super::checker::Checker;
use super::guarded;
use super::model::{Asked, AskedEvent};
use super::reads::Bad;
use super::seams::{SimClock, SimEntropy};
use super::world::{append_of, compare};

/// One step of a short history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// An append that fits the segment.
    Plain,
    /// An append that does not, so that the log rolls.
    Roll,
    /// An append, then all background work, and a watermark.
    Seal,
    /// An append, then the same once more.
    Retry,
    /// The stream is limited to its last event.
    Limit,
    /// A scavenge.
    Scavenge,
}

/// Those of which all histories are made.
pub const PARTS: [Part; 4] = [Part::Plain, Part::Roll, Part::Seal, Part::Retry];
const SIZES: Sizes = Sizes { first: 4096, max: 4096 };

/// Histories with scavenges: of one segment, of several, and of what was rewritten before.
const SCAVENGES: [&[Part]; 3] = {
    use Part::{Limit, Plain, Roll, Scavenge, Seal};
    [
        &[Limit, Plain, Roll, Seal, Scavenge],
        &[Plain, Limit, Roll, Plain, Roll, Seal, Scavenge, Plain],
        &[Limit, Plain, Plain, Roll, Seal, Scavenge, Roll, Seal, Scavenge],
    ]
};

/// What was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Histories.
    pub histories: u64,
    /// Ways in which they were cut.
    pub cuts: u64,
}

/// All histories of up to `length` parts.
#[must_use]
pub fn histories(length: u32) -> Vec<Vec<Part>> {
    let mut out = Vec::new();
    for len in 1..=length {
        for mut number in 0..4_usize.pow(len) {
            let mut parts = Vec::new();
            for _ in 0..len {
                parts.push(PARTS[number % 4]);
                number /= 4;
            }
            out.push(parts);
        }
    }
    out.extend(SCAVENGES.map(<[Part]>::to_vec));
    out
}

/// Runs `history`, cut everywhere.
///
/// # Errors
/// Which promise was broken, where.
pub fn run(history: &[Part]) -> Result<Tried, String> {
    let whole = Short::new(&SimDisk::new(1)).play(history)?;
    let mut tried = Tried { histories: 1, cuts: 0 };
    for change in 0..=whole.disk.changes() {
        let disk = SimDisk::new(1);
        disk.crash_at_change(change);
        let cut = |e: String| format!("{history:?} cut at change {change}: {e}");
        let short = Short::new(&disk).play(history).map_err(cut)?;
        for mode in CrashMode::CERTAIN {
            let cut = |e: String| format!("{history:?} cut at change {change} ({mode:?}): {e}");
            tried.cuts += short.recover(mode).map_err(cut)?;
        }
    }
    Ok(tried)
}

struct Short {
    disk: SimDisk,
    clock: Arc<SimClock>,
    entropy: Arc<SimEntropy>,
    checker: Checker,
}

impl Short {
    fn new(disk: &SimDisk) -> Short {
        let (clock, entropy) = (Arc::default(), Arc::new(SimEntropy::new(1)));
        Short { disk: disk.clone(), clock, entropy, checker: Checker::default() }
    }

    fn open(&self, disk: &SimDisk) -> Result<Engine, String> {
        let environment = Environment {
            disk: Arc::new(disk.clone()),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
        };
        Engine::open(environment, SIZES).map_err(|e| e.to_string())
    }

    /// Plays the history until its end, or until the process dies.
    fn play(mut self, history: &[Part]) -> Result<Short, String> {
        let mut engine = match self.open(&self.disk) {
            Ok(engine) if !self.disk.is_down() => engine,
            Err(e) if !self.disk.is_down() => return Err(e),
            _ => return Ok(self),
        };
        self.follow(&engine)?;
        for (i, part) in history.iter().enumerate() {
            let size = if *part == Part::Roll { 3600 } else { 100 };
            let id = i as u128 + 1;
            let expected = match self.checker.model.head("acct-1") {
                None => ExpectedRevision::NoStream,
                Some(head) => ExpectedRevision::Exact(Revision(head)),
            };
            let event = |stream, id| AskedEvent {
                stream,
                id,
                kind: "Paid".to_owned(),
                json: false,
                metadata: Vec::new(),
                data: vec![id as u8; size / 2],
            };
            let asked = Arc::new(Asked {
                streams: vec![("acct-1".into(), expected), ("b-1".into(), ExpectedRevision::Any)],
                events: vec![event(0, id), event(1, 100 + id)],
                deletes: None,
            });
            let asked = if *part == Part::Limit { Arc::new(limit(id)) } else { asked };
            if *part == Part::Scavenge {
                if !self.scavenge(&mut engine)? {
                    return Ok(self);
                }
                continue;
            }
            let times = if *part == Part::Retry { 2 } else { 1 };
            for time in 0..times {
                let key = 2 * i as u64 + time;
                if !self.append(&mut engine, key, &asked)? {
                    return Ok(self);
                }
            }
            if *part == Part::Seal {
                engine.watermark();
                while matches!(engine.maintain(), Ok(true)) {}
            }
        }
        Ok(self)
    }

    /// A whole scavenge. Answers whether the process lives on.
    fn scavenge(&mut self, engine: &mut Engine) -> Result<bool, String> {
        let model = &mut self.checker.model;
        let goers = model.goers(self.clock.now());
        model.may_go.extend(goers);
        loop {
            let step = engine.scavenge(Thoroughness::Everything);
            match step {
                _ if self.disk.is_down() => return Ok(false),
                Err(e) => return Err(e.to_string()),
                Ok(Step::GaveUp) => return Err("a scavenge gave a segment up".to_owned()),
                Ok(Step::Done) => break,
                Ok(Step::Swapped) => self.follow(engine)?,
                Ok(_) => {}
            }
        }
        Ok(true)
    }

    /// Whether the process lives on.
    fn append(
        &mut self,
        engine: &mut Engine,
        key: u64,
        asked: &Arc<Asked>,
    ) -> Result<bool, String> {
        self.checker.ask(key, Arc::clone(asked));
        let mut ticket: Option<Ticket> = Some(engine.submit(&append_of(asked)));
        engine.run();
        if self.disk.is_down() {
            // The answer was lost, but what readers saw was seen.
            return Ok(false);
        }
        self.follow(engine)?;
        while let Some(waiting) = ticket.take() {
            let (answer, again) = engine.poll(waiting);
            match answer {
                Some(Ok(_)) => {}
                Some(Err(AppendError::Unknown { .. })) => return Ok(false),
                Some(Err(e)) => return Err(format!("append {key}: {e}")),
                None => engine.run(),
            }
            ticket = again;
        }
        self.follow(engine)?;
        self.checker.pending.clear();
        Ok(true)
    }

    fn follow(&mut self, engine: &Engine) -> Result<(), String> {
        compare(engine, &mut self.checker).map_err(text)
    }

    /// Cuts the power, and then once more at each change of the recovery. Answers how often.
    fn recover(&self, mode: CrashMode) -> Result<u64, String> {
        let disk = self.disk.fork(2);
        disk.crash(mode);
        let disk = disk.restart();
        let before = disk.changes();
        let again = disk.fork(3);
        self.recovered(&disk)?;
        let changes = disk.changes() - before;
        for change in 0..changes {
            let disk = again.fork(4);
            disk.crash_at_change(disk.changes() + change);
            drop(self.open(&disk));
            disk.crash(mode);
            let disk = disk.restart();
            self.recovered(&disk)
                .map_err(|e| format!("and at change {change} of recovery: {e}"))?;
        }
        Ok(changes + 1)
    }

    fn recovered(&self, disk: &SimDisk) -> Result<(), String> {
        let engine = self.open(disk)?;
        let mut checker = self.checker.clone();
        compare(&engine, &mut checker).map_err(text)?;
        drop(engine);
        let reader: Arc<dyn Disk> = Arc::new(disk.clone());
        daybook_store::verify::verify(&reader, &mut |_| {}).map_err(|e| e.to_string())?;
        Ok(())
    }
}

/// What limits the stream to its last event.
fn limit(id: u128) -> Asked {
    let event = AskedEvent {
        stream: 0,
        id,
        kind: "$metadata".to_owned(),
        json: true,
        metadata: Vec::new(),
        data: b"{\"$maxCount\":1}".to_vec(),
    };
    let streams = vec![("$$acct-1".into(), ExpectedRevision::Any)];
    Asked { streams, events: vec![event], deletes: None }
}

fn text(bad: Bad) -> String {
    match bad {
        Bad::Broken(reason) => reason,
        Bad::Failed(e) => e.to_string(),
    }
}

/// Runs all histories of up to `length` parts of which `mine` says so.
///
/// # Errors
/// The first promise broken.
pub fn all(length: u32, mine: impl Fn(usize) -> bool) -> Result<Tried, String> {
    let mut tried = Tried::default();
    for (i, history) in histories(length).iter().enumerate() {
        if mine(i) {
            guarded(|| {
                let one = run(history)?;
                tried.histories += one.histories;
                tried.cuts += one.cuts;
                Ok(())
            })?;
        }
    }
    Ok(tried)
}
