//! One process of the ledger, polled by hand, and what it is made of.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Waker};

use daybook_ledger::Currency;
use daybook_ledger::account::{
    Account, AccountCommand, AccountType, FlagAccount, FreezeAccount, OpenAccount, UnflagAccount,
    UnfreezeAccount, account_stream,
};
use daybook_ledger::orchestrator::{Options, Orchestrator};
use daybook_ledger::risk::{
    Assessing, Assessment, RiskRequest, RiskService, Rules, Unreachable, assess,
};
use daybook_ledger::transfer::{FxRequest, Rounding, TransferRequest};
use daybook_log::disk::sim::SimDisk;
use daybook_model::Repository;
use daybook_model::repository::{self, Task, Transaction};
use daybook_store::{Engine, Environment, Health, Sizes};
use uuid::Uuid;

use super::super::seams::{SimClock, SimEntropy};
use super::store::{SimStore, SimTimer, Snapshots};

/// Accounts 1 to 4 are in dollars, 5 and 6 in euros; 7 and 8 do not exist.
pub const ACCOUNTS: u128 = 8;
/// What each account is opened with.
const OPENED_WITH: &str = "2000";
/// What the four in dollars have together.
pub const DOLLARS: &str = "8000.00";

pub fn account(n: u128) -> Uuid {
    Uuid::from_u128(0xacc0_0000 + n)
}

pub fn currency(code: &str) -> Currency {
    Currency::from_code(code).expect("a currency")
}

pub fn currency_of(n: u128) -> Currency {
    currency(if n == 5 || n == 6 { "EUR" } else { "USD" })
}

/// Transfer `n` of so many cents; it converts if `converts`.
pub fn request(
    n: u64,
    sender: u128,
    receiver: u128,
    cents: u64,
    converts: bool,
) -> TransferRequest {
    let fx = converts.then(|| FxRequest {
        rate: "0.9213".parse().expect("a number"),
        currency: currency_of(receiver),
        rounding: Rounding::HalfEven,
    });
    TransferRequest {
        transfer_id: Uuid::from_u128(0x7fa5_0000 + u128::from(n)),
        sender_account_id: account(sender),
        receiver_account_id: account(receiver),
        amount: format!("{}.{:02}", cents / 100, cents % 100).parse().expect("a number"),
        currency: currency_of(sender),
        description: String::new(),
        fx,
    }
}

/// How the risk service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Rules,
    Away,
    Hangs,
    Refuses,
}

impl Mood {
    pub const ALL: [Mood; 4] = [Mood::Rules, Mood::Away, Mood::Hangs, Mood::Refuses];
}

/// A risk service with moods.
#[derive(Default)]
pub struct MoodyRisk(AtomicU8);

impl MoodyRisk {
    pub fn become_(&self, mood: Mood) {
        self.0.store(mood as u8, Ordering::Relaxed);
    }
}

impl RiskService for MoodyRisk {
    fn assess<'a>(&'a self, request: &'a RiskRequest) -> Assessing<'a> {
        let mood = Mood::ALL[usize::from(self.0.load(Ordering::Relaxed))];
        Box::pin(async move {
            match mood {
                Mood::Rules => Ok(assess(&Rules::default(), request)),
                Mood::Away => Err(Unreachable { reason: "away".to_owned() }),
                Mood::Hangs => std::future::pending().await,
                Mood::Refuses => {
                    let (rule, detail) = ("mood".to_owned(), "bad".to_owned());
                    Ok(Assessment::Rejected { rule, detail })
                }
            }
        })
    }
}

/// What outlives a process.
pub struct Machine {
    pub disk: SimDisk,
    pub clock: Arc<SimClock>,
    pub entropy: Arc<SimEntropy>,
    pub risk: Arc<MoodyRisk>,
    pub sizes: Sizes,
    pub snapshots: Snapshots,
}

impl Machine {
    pub fn new(seed: u64, sizes: Sizes) -> Machine {
        Machine {
            disk: SimDisk::new(seed),
            clock: Arc::default(),
            entropy: Arc::new(SimEntropy::new(seed)),
            risk: Arc::default(),
            sizes,
            snapshots: Snapshots::new(),
        }
    }

    /// Starts a process; it has recovered, but nobody drives what it found.
    pub fn start(&self, options: Options) -> Result<Bank, String> {
        let environment = Environment {
            disk: Arc::new(self.disk.clone()),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
        };
        let engine = Engine::open(environment, self.sizes).map_err(|e| e.to_string())?;
        let store = SimStore::new(engine, self.snapshots.clone());
        let timer = Arc::new(SimTimer(self.clock.clone()));
        let small = repository::Options { cache_len: 8, snapshot_every: 5 };
        let (clock, entropy) = (self.clock.clone(), self.entropy.clone());
        let accounts =
            Repository::new(store.clone(), clock.clone(), timer.clone(), entropy.clone(), small);
        let seams = (clock as _, timer as _, entropy as _);
        let orchestrator = Orchestrator::new(accounts.clone(), self.risk.clone(), seams, options);
        Ok(Bank { store, accounts, orchestrator, tasks: Vec::new() })
    }
}

type Work = Pin<Box<dyn Future<Output = ()>>>;

/// A process: all of it is lost when it ends.
pub struct Bank {
    pub store: SimStore,
    pub accounts: Repository<Account, SimStore>,
    pub orchestrator: Orchestrator<SimStore>,
    pub tasks: Vec<Work>,
}

/// Polls `work` once.
pub fn poll_once<T>(work: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    match work.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

impl Bank {
    /// Has `work` done, sooner or later.
    pub fn spawn(&mut self, work: impl Future<Output = ()> + 'static) {
        self.tasks.push(Box::pin(work));
    }

    /// Polls one task; it goes when it is done.
    pub fn poll(&mut self, at: usize) {
        if poll_once(self.tasks[at].as_mut()).is_some() {
            drop(self.tasks.swap_remove(at));
        }
    }

    /// Polls all tasks once.
    pub fn poll_all(&mut self) {
        for at in (0..self.tasks.len()).rev() {
            self.poll(at);
        }
    }

    /// Takes a transfer to its end.
    pub fn drive(&mut self, id: Uuid) {
        let work = self.orchestrator.drive(id);
        self.spawn(work);
    }

    /// Begins a transfer, and takes it to its end.
    pub fn pay(&mut self, request: TransferRequest) {
        let orchestrator = self.orchestrator.clone();
        self.spawn(async move {
            let started = orchestrator.start(&request).await;
            if started.is_ok_and(|started| started.first && started.known.state().is_active()) {
                orchestrator.drive(request.transfer_id).await;
            }
        });
    }

    /// The host drives what is lost.
    pub fn find_lost(&mut self) {
        while let Some(id) = self.now(self.orchestrator.next_lost()) {
            self.drive(id);
        }
    }

    /// Gives an account a command, whatever comes of it.
    pub fn command(&mut self, n: u128, command: AccountCommand) {
        let accounts = self.accounts.clone();
        self.spawn(async move {
            let id = command.transaction_id();
            let transaction = Transaction { id, digest: *id.as_bytes() };
            let task = Task { command, transaction, context: None, record: None };
            let _ = accounts.execute(&account_stream(account(n)), task).await;
        });
    }

    /// Opens all accounts that exist.
    pub fn open_all(&mut self) {
        for n in 1..=6 {
            let open = OpenAccount {
                account_id: account(n),
                account_type: AccountType::Checking,
                currency: currency_of(n),
                owner_id: account(n),
                initial_deposit: OPENED_WITH.parse().ok(),
                overdraft_limit: "50".parse().ok(),
                credit_limit: None,
                daily_withdrawal_limit: "1000000".parse().ok(),
                transaction_id: account(n),
            };
            self.command(n, AccountCommand::Open(open));
        }
    }

    /// Does something to an account that a transfer may meet.
    pub fn disturb(&mut self, n: u128, what: u64, transaction_id: Uuid) {
        let (reason, by) = ("sim".to_owned(), "sim".to_owned());
        let command = match what {
            0 => AccountCommand::Flag(FlagAccount { reason, flagged_by: by, transaction_id }),
            1 => AccountCommand::Unflag(UnflagAccount { unflagged_by: by, transaction_id }),
            2 => AccountCommand::Freeze(FreezeAccount { reason, frozen_by: by, transaction_id }),
            _ => AccountCommand::Unfreeze(UnfreezeAccount { unfrozen_by: by, transaction_id }),
        };
        self.command(n, command);
    }

    /// Runs until no task is left, as time passes. False if that never happens.
    pub fn settle(&mut self, clock: &SimClock) -> bool {
        for round in 0..20_000_u64 {
            self.find_lost();
            self.poll_all();
            self.store.with(|engine| {
                if matches!(engine.health(), Health::ClockLeapt { .. }) {
                    engine.accept_clock();
                }
                engine.run();
            });
            if self.tasks.is_empty() {
                return true;
            }
            if round % 4 == 3 {
                clock.pass(200_000_000);
            }
        }
        false
    }

    /// What `work` gives; it needs neither time nor the disk's answers.
    pub fn now<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        poll_once(std::pin::pin!(work))
    }
}
