//! One transfer of each kind, cut at every change of the disk, and once more while it is resumed.

use daybook_ledger::orchestrator::Options;
use daybook_ledger::saga::State;
use daybook_log::disk::sim::CrashMode;
use daybook_store::Sizes;

use super::audit::Audit;
use super::bank::{Machine, Mood, request};

/// How a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It completes.
    Plain,
    /// It completes between currencies.
    Converting,
    /// Its sender has too little.
    Poor,
    /// Its receiver does not exist.
    NoReceiver,
    /// Risk refuses it.
    Refused,
}

/// All kinds.
pub const KINDS: [Kind; 5] =
    [Kind::Plain, Kind::Converting, Kind::Poor, Kind::NoReceiver, Kind::Refused];
const SIZES: Sizes = Sizes { first: 65_536, max: 65_536 };

/// Tries all ways to cut transfers of `kind`. Answers how many there were.
///
/// # Errors
/// Which promise was broken, and where it was cut.
pub fn run(kind: Kind) -> Result<u64, String> {
    let mut cuts = 0;
    for mode in CrashMode::CERTAIN {
        for change in 0.. {
            let at = |e: String| format!("{kind:?} cut at change {change} ({mode:?}): {e}");
            let Some((machine, audit)) = cut(kind, change).map_err(at)? else { break };
            cuts += 1 + resume(kind, machine, audit, mode).map_err(at)?;
        }
    }
    Ok(cuts)
}

/// A transfer, cut at the `change`-th change of the disk; none if it makes fewer.
fn cut(kind: Kind, change: u64) -> Result<Option<(Machine, Audit)>, String> {
    let machine = Machine::new(1, SIZES);
    let mut bank = machine.start(Options::default())?;
    bank.open_all();
    bank.settle(&machine.clock);
    let mut audit = Audit::default();
    bank.store.with(|engine| audit.read_on(engine))?;
    if kind == Kind::Refused {
        machine.risk.become_(Mood::Refuses);
    }
    machine.disk.crash_at_change(machine.disk.changes() + change);
    bank.pay(match kind {
        Kind::Plain | Kind::Refused => request(1, 1, 2, 10_000, false),
        Kind::Converting => request(1, 1, 5, 10_000, true),
        Kind::Poor => request(1, 1, 2, 1_000_000, false),
        Kind::NoReceiver => request(1, 1, 7, 10_000, false),
    });
    for _ in 0..1_000 {
        bank.poll_all();
        while bank.store.with(|engine| {
            engine.decide();
            engine.hand_over();
            engine.step().is_some()
        }) {
            if machine.disk.is_down() {
                // What readers saw was seen.
                return Ok(Some((machine, audit)));
            }
            bank.store.with(|engine| audit.read_on(engine))?;
        }
        if bank.tasks.is_empty() {
            break;
        }
    }
    let over = audit.all_over()?;
    if over == expected(kind) && bank.tasks.is_empty() {
        Ok(None)
    } else {
        Err(format!("{over:?}"))
    }
}

/// How many are completed and compensated when one of `kind` is over.
fn expected(kind: Kind) -> (u64, u64) {
    match kind {
        Kind::Plain | Kind::Converting => (1, 0),
        _ => (0, 1),
    }
}

/// Another process goes on from there; it is cut as well, everywhere, and a third one ends it.
fn resume(kind: Kind, machine: Machine, audit: Audit, mode: CrashMode) -> Result<u64, String> {
    machine.disk.crash(mode);
    let disk = machine.disk.restart();
    let again = |change: Option<u64>| -> Result<bool, String> {
        let mut second = Machine { disk: disk.fork(2), ..Machine::new(1, SIZES) };
        let mut audit = audit.clone();
        if kind == Kind::Refused {
            second.risk.become_(Mood::Refuses);
        }
        if let Some(change) = change {
            second.disk.crash_at_change(second.disk.changes() + change);
        }
        let went = go_on(&second, &mut audit);
        if !second.disk.is_down() {
            went?;
            over(kind, &audit)?;
            return Ok(false);
        }
        second.disk.crash(mode);
        second.disk = second.disk.restart();
        go_on(&second, &mut audit)?;
        over(kind, &audit)?;
        Ok(true)
    };
    again(None)?;
    let mut cuts = 0;
    while again(Some(cuts)).map_err(|e| format!("and at change {cuts} of the next: {e}"))? {
        cuts += 1;
    }
    Ok(cuts)
}

/// A process recovers, and drives what it finds.
fn go_on(machine: &Machine, audit: &mut Audit) -> Result<(), String> {
    let mut bank = machine.start(Options::default())?;
    bank.store.with(|engine| audit.read_on(engine))?;
    let found = bank.now(bank.orchestrator.recover()).ok_or("a recovery that waits")?;
    for id in found.map_err(|e| e.to_string())? {
        bank.drive(id);
    }
    for _ in 0..1_000 {
        if bank.tasks.is_empty() || machine.disk.is_down() {
            break;
        }
        bank.poll_all();
        bank.store.with(|engine| engine.run());
        if !machine.disk.is_down() {
            bank.store.with(|engine| audit.read_on(engine))?;
        }
    }
    Ok(())
}

/// It is over as it should be, or it never began.
fn over(kind: Kind, audit: &Audit) -> Result<(), String> {
    let found = audit.all_over()?;
    let listed = audit.transfers.values().next().map(|transfer| transfer.progress.state);
    let never_began = listed.is_none();
    if never_began || found == expected(kind) {
        return Ok(());
    }
    Err(format!("it is {}", listed.unwrap_or(State::Absent).as_str()))
}

/// Tries all kinds of which `mine` says so. Answers how many cuts there were.
///
/// # Errors
/// The first promise broken.
pub fn all(mine: impl Fn(usize) -> bool) -> Result<u64, String> {
    let mut cuts = 0;
    for (i, kind) in KINDS.iter().enumerate() {
        if mine(i) {
            super::guarded(|| {
                cuts += run(*kind)?;
                Ok(())
            })?;
        }
    }
    Ok(cuts)
}
