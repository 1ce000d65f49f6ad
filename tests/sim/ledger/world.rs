//! One history: transfers and misfortunes, as a seed decides.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;

use daybook_ledger::orchestrator::Options;
use daybook_ledger::risk::OnUnreachable;
use daybook_ledger::transfer::TransferRequest;
use daybook_log::disk::sim::{CrashMode, Fault, Operation, Repeat, Rng};
use daybook_model::Aggregate;
use daybook_store::{Engine, Health, Sizes};
use uuid::Uuid;

use super::super::world::TRACE_LEN;
use super::audit::Audit;
use super::bank::{ACCOUNTS, Bank, DOLLARS, Machine, Mood, currency, request};

/// Tasks at once.
const TASKS_MAX: usize = 60;

/// What a history was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Run {
    pub histories: u64,
    pub transfers: u64,
    pub completed: u64,
    pub compensated: u64,
    pub crashes: u64,
    pub sights: BTreeMap<&'static str, u64>,
    /// A hash of all that became durable.
    pub hash: u64,
}

impl Run {
    /// Adds another's.
    pub fn add(&mut self, other: &Run) {
        self.histories += other.histories;
        self.transfers += other.transfers;
        self.completed += other.completed;
        self.compensated += other.compensated;
        self.crashes += other.crashes;
        for (what, times) in &other.sights {
            *self.sights.entry(what).or_default() += times;
        }
        self.hash ^= other.hash;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Pay,
    Again,
    Disturb,
    Poll,
    PollAll,
    Decide,
    Step,
    Run,
    GoAway,
    DriveTwice,
    Pass,
    Jump,
    Leap,
    Risk,
    Checkpoint,
    Maintain,
    Fail,
    Crash,
    CrashSoon,
}

/// Each act's weight, before a history sways it.
const ACTS: [(Act, u64); 19] = [
    (Act::Pay, 60),
    (Act::Again, 15),
    (Act::Disturb, 12),
    (Act::Poll, 150),
    (Act::PollAll, 60),
    (Act::Decide, 60),
    (Act::Step, 200),
    (Act::Run, 40),
    (Act::GoAway, 6),
    (Act::DriveTwice, 10),
    (Act::Pass, 30),
    (Act::Jump, 5),
    (Act::Leap, 1),
    (Act::Risk, 10),
    (Act::Checkpoint, 6),
    (Act::Maintain, 10),
    (Act::Fail, 4),
    (Act::Crash, 6),
    (Act::CrashSoon, 6),
];

/// A history.
pub struct World {
    rng: Rng,
    machine: Machine,
    options: Options,
    /// None while the machine is off.
    bank: Option<Bank>,
    audit: Audit,
    asked: Vec<TransferRequest>,
    weights: Vec<(Act, u64)>,
    /// The last things that happened.
    pub trace: VecDeque<String>,
    /// What happened, in numbers.
    pub counts: Run,
}

impl World {
    /// The world of `seed`, with its accounts open.
    ///
    /// # Errors
    /// The store does not open.
    pub fn new(seed: u64) -> Result<World, String> {
        let mut rng = Rng::new(seed);
        let first = *rng.pick(&[4096, 8192, 65_536]).expect("not empty");
        let sizes = Sizes { first, max: first };
        let machine = Machine::new(rng.next_u64(), sizes);
        let on_unreachable = match rng.chance(1, 3) {
            true => OnUnreachable::Reject,
            false => OnUnreachable::Park,
        };
        let options = Options { on_unreachable, ..Options::default() };
        let weights = ACTS.map(|(act, weight)| {
            let sway = *rng.pick(&[0, 1, 2, 2, 4, 4, 8]).expect("not empty");
            (act, weight * sway)
        });
        let mut bank = machine.start(options)?;
        bank.open_all();
        if !bank.settle(&machine.clock) {
            return Err("the accounts were never open".to_owned());
        }
        let mut audit = Audit::default();
        bank.store.with(|engine| audit.read_on(engine))?;
        Ok(World {
            rng,
            machine,
            options,
            bank: Some(bank),
            audit,
            asked: Vec::new(),
            weights: weights.to_vec(),
            trace: VecDeque::new(),
            counts: Run { histories: 1, ..Run::default() },
        })
    }

    fn note(&mut self, what: String) {
        while self.trace.len() >= TRACE_LEN.load(Ordering::Relaxed).max(1) {
            self.trace.pop_front();
        }
        self.trace.push_back(what);
    }

    fn saw(&mut self, what: &'static str) {
        *self.counts.sights.entry(what).or_default() += 1;
    }

    /// Does `steps` acts, and then lets all come to rest.
    ///
    /// # Errors
    /// The promise that was broken.
    pub fn run(&mut self, steps: u64) -> Result<(), String> {
        for _ in 0..steps {
            self.act()?;
            self.look()?;
        }
        self.rest()
    }

    /// Reads what became durable, and starts what ended.
    fn look(&mut self) -> Result<(), String> {
        if self.machine.disk.is_down() {
            self.saw("the power went within an operation");
            return self.restart();
        }
        let Some(bank) = &self.bank else { return self.restart() };
        let audit = &mut self.audit;
        // A read that was to fail says nothing.
        let read = bank.store.with(|engine| audit.read_on(engine));
        let health = bank.store.with(|engine| engine.health());
        read?;
        match health {
            Health::Poisoned { .. } | Health::Closed if self.rng.chance(1, 10) => {
                self.saw("a poisoned store was restarted");
                self.restart()
            }
            Health::ClockLeapt { .. } if self.rng.chance(1, 10) => {
                bank.store.with(|engine| engine.accept_clock());
                self.saw("a leap of the clock was accepted");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn act(&mut self) -> Result<(), String> {
        let total: u64 = self.weights.iter().map(|(_, weight)| weight).sum();
        let mut drawn = self.rng.below(total.max(1));
        let chosen = self.weights.iter().find(|(_, weight)| {
            let found = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            found
        });
        let Some((act, _)) = chosen.copied() else { return Ok(()) };
        if !matches!(act, Act::Poll | Act::Step | Act::Decide | Act::PollAll) {
            self.note(format!("{act:?}"));
        }
        let seed = self.rng.next_u64();
        let Some(bank) = self.bank.as_mut() else { return Ok(()) };
        let mut rng = Rng::new(seed);
        let tasks = bank.tasks.len();
        match act {
            Act::Pay if tasks < TASKS_MAX => return self.pay(),
            Act::Again if tasks < TASKS_MAX => {
                if let Some(request) = rng.pick(&self.asked) {
                    bank.pay(request.clone());
                }
            }
            Act::Disturb if tasks < TASKS_MAX => {
                let (n, what) = (1 + u128::from(rng.below(6)), rng.below(4));
                bank.disturb(n, what, Uuid::from_u128(u128::from(rng.next_u64())));
            }
            Act::Poll if tasks > 0 => bank.poll(rng.below(tasks as u64) as usize),
            Act::PollAll => bank.poll_all(),
            Act::Decide => bank.store.with(|engine| {
                engine.decide();
                engine.hand_over();
            }),
            Act::Step => bank.store.with(|engine| {
                let _ = engine.step();
            }),
            Act::Run => bank.store.with(Engine::run),
            Act::GoAway if tasks > 0 => {
                drop(bank.tasks.swap_remove(rng.below(tasks as u64) as usize));
                self.saw("a caller went away");
            }
            Act::DriveTwice => {
                let unfinished = bank.orchestrator.unfinished();
                if let Some(known) = rng.pick(&unfinished) {
                    bank.drive(known.transfer.id());
                    self.saw("a transfer was driven twice");
                }
            }
            Act::Pass => {
                let most = *rng.pick(&[1_000_000, 1_000_000_000, 60_000_000_000]).expect("some");
                self.machine.clock.pass(rng.below(most));
            }
            Act::Jump => {
                let ns = rng.below(30_000_000_000).cast_signed();
                self.machine.clock.jump(if rng.chance(1, 2) { ns } else { -ns });
            }
            Act::Leap => self.machine.clock.jump(2 * 3_600_000_000_000),
            Act::Risk => self.machine.risk.become_(*rng.pick(&Mood::ALL).expect("not empty")),
            Act::Checkpoint => {
                let _ = bank.now(bank.orchestrator.checkpoint());
            }
            Act::Maintain => drop(bank.store.with(Engine::maintain)),
            Act::Fail => {
                let operation = *rng.pick(&[Operation::Write, Operation::Sync]).expect("not empty");
                let fault = *rng.pick(&[Fault::Eio, Fault::Enospc, Fault::Torn]).expect("some");
                let nth = rng.between(1, 4);
                self.machine.disk.fail_after(operation, Some(".log"), nth, fault, Repeat::Once);
            }
            Act::Crash => return self.restart(),
            Act::CrashSoon => {
                let changes = self.machine.disk.changes() + rng.below(12);
                self.machine.disk.crash_at_change(changes);
            }
            _ => {}
        }
        if let Some(bank) = self.bank.as_mut() {
            bank.find_lost();
        }
        Ok(())
    }

    fn pay(&mut self) -> Result<(), String> {
        let n = self.asked.len() as u64;
        let sender = 1 + u128::from(self.rng.below(6));
        let to = u128::from(self.rng.below(ACCOUNTS as u64 - 1));
        // Anybody but the sender.
        let receiver = 1 + (sender + to) % ACCOUNTS;
        let converts = (sender <= 4) != (receiver <= 4) && self.rng.chance(3, 4);
        let cents = 1 + self.rng.below(40_000);
        let request = request(n, sender, receiver, cents, converts);
        self.note(format!("transfer {n}: {sender} -> {receiver} {cents} {converts}"));
        self.asked.push(request.clone());
        if let Some(bank) = self.bank.as_mut() {
            bank.pay(request);
        }
        Ok(())
    }

    /// The process, or the machine, dies, and another begins.
    fn restart(&mut self) -> Result<(), String> {
        self.counts.crashes += 1;
        if let Some(bank) = self.bank.take() {
            self.machine.snapshots = bank.store.snapshots();
        }
        if self.rng.chance(1, 4) {
            self.machine.snapshots.clear();
        }
        let disk = &self.machine.disk;
        disk.clear_faults();
        match self.rng.below(3) {
            0 => disk.kill(),
            1 => disk.crash(CrashMode::Random),
            _ => disk.crash(*self.rng.pick(&CrashMode::CERTAIN).expect("not empty")),
        }
        self.machine.disk = disk.restart();
        self.machine.clock.pass(self.rng.below(90_000_000_000));
        let mut bank = self.machine.start(self.options)?;
        let audit = &mut self.audit;
        bank.store.with(|engine| audit.read_on(engine))?;
        let found = bank.now(bank.orchestrator.recover()).ok_or("a recovery that waits")?;
        let found = found.map_err(|e| e.to_string())?;
        self.recovered_all(&found)?;
        for id in found {
            bank.drive(id);
        }
        self.bank = Some(bank);
        Ok(())
    }

    /// What a recovery found is what is unfinished.
    fn recovered_all(&mut self, found: &[Uuid]) -> Result<(), String> {
        let transfers = self.audit.transfers.values();
        let active: Vec<Uuid> = transfers
            .filter(|transfer| transfer.progress.state.is_active())
            .map(daybook_ledger::transfer::Transfer::id)
            .collect();
        if !active.is_empty() {
            self.saw("transfers were under way at a restart");
        }
        let found = found.to_vec();
        if active == found {
            return Ok(());
        }
        Err(format!("a recovery found {found:?}, unfinished are {active:?}"))
    }

    /// All is well again, and all comes to an end.
    fn rest(&mut self) -> Result<(), String> {
        self.machine.disk.clear_faults();
        self.machine.disk.crash_at_change(u64::MAX);
        self.machine.risk.become_(Mood::Rules);
        self.note("all is well".to_owned());
        let poisoned = |bank: &Bank| bank.store.with(|e| e.health()) != Health::Writable;
        if self.machine.disk.is_down() || self.bank.as_ref().is_none_or(poisoned) {
            self.restart()?;
        }
        // What was left behind is found by this process, or by the next.
        if self.rng.chance(1, 2) {
            self.restart()?;
        }
        let clock = self.machine.clock.clone();
        let Some(bank) = self.bank.as_mut() else { return Err("no process".to_owned()) };
        if !bank.settle(&clock) {
            let left = bank.orchestrator.unfinished();
            return Err(format!("{} tasks never end; {left:?}", bank.tasks.len()));
        }
        let audit = &mut self.audit;
        bank.store.with(|engine| audit.read_on(engine))?;
        if !bank.orchestrator.unfinished().is_empty() {
            return Err(format!("listed for ever: {:?}", bank.orchestrator.unfinished()));
        }
        self.in_the_end()
    }

    fn in_the_end(&mut self) -> Result<(), String> {
        let (completed, compensated) = self.audit.all_over()?;
        self.counts.transfers += completed + compensated;
        self.counts.completed += completed;
        self.counts.compensated += compensated;
        let Some(bank) = self.bank.as_ref() else { return Err("no process".to_owned()) };
        for (name, expected) in &self.audit.accounts {
            let stream = daybook_model::StreamName::new(name).map_err(|e| e.to_string())?;
            let loaded = bank.now(bank.accounts.load(&stream)).ok_or("a load that waits")?;
            let (account, _) = loaded.map_err(|e| e.to_string())?.ok_or("an account is gone")?;
            if account != *expected {
                return Err(format!("{name} is {account:?}; its events say {expected:?}"));
            }
            self.counts.hash = self.counts.hash.rotate_left(9) ^ hash(&account.to_snapshot());
        }
        if !self.audit.transfers.values().any(|t| t.initiated().fx.is_some()) {
            let dollars = self.audit.customers(currency("USD"));
            if dollars != DOLLARS {
                return Err(format!("customers have {dollars} dollars of {DOLLARS}"));
            }
        }
        Ok(())
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mix = daybook_log::disk::sim::rng::mix;
    bytes.iter().fold(0, |hash, byte| mix(hash ^ u64::from(*byte)))
}
