//! A bank in memory: accounts, rules and an orchestrator over a store and a time that tests move.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use daybook_ledger::account::{
    Account, AccountCommand, AccountType, CloseAccount, FlagAccount, FreezeAccount, MoveMoney,
    OpenAccount, account_stream,
};
use daybook_ledger::orchestrator::{Known, Options, Orchestrator};
use daybook_ledger::risk::{RiskService, RuleEngine};
use daybook_ledger::transfer::TransferRequest;
use daybook_ledger::{Books, Currency};
use daybook_model::memory::{ManualTime, MemoryStore};
use daybook_model::repository::{Options as RepositoryOptions, Task, Transaction};
use daybook_model::{Repository, Timestamp};
use futures_util::FutureExt;
use rust_decimal::Decimal;
use uuid::Uuid;

/// 2023-11-14 22:13:20 UTC.
pub const START: Timestamp = Timestamp(1_700_000_000_000_000_000);

pub fn currency(code: &str) -> Currency {
    Currency::from_code(code).expect("a currency")
}

pub fn decimal(text: &str) -> Decimal {
    text.parse().expect("a number")
}

/// The account called `n`.
pub fn account(n: u128) -> Uuid {
    Uuid::from_u128(0xacc0_0000 + n)
}

/// The transfer called `n`.
pub fn transfer(n: u128) -> Uuid {
    Uuid::from_u128(0x7fa5_0000 + n)
}

/// Transfer `n` of some dollars.
pub fn dollars(n: u128, sender: u128, receiver: u128, amount: &str) -> TransferRequest {
    TransferRequest {
        transfer_id: transfer(n),
        sender_account_id: account(sender),
        receiver_account_id: account(receiver),
        amount: decimal(amount),
        currency: currency("USD"),
        description: format!("transfer {n}"),
        fx: None,
    }
}

/// One process: what is lost when it dies.
#[derive(Clone)]
pub struct Bank {
    pub time: ManualTime,
    pub store: MemoryStore,
    pub accounts: Repository<Account, MemoryStore>,
    pub engine: RuleEngine<MemoryStore>,
    pub orchestrator: Orchestrator<MemoryStore>,
}

impl Bank {
    pub fn new() -> Bank {
        let time = ManualTime::new(START, 7);
        let store = MemoryStore::new(Arc::new(time.clone()));
        Bank::over(time, store, None, Options::default())
    }

    /// A bank whose risk service is `risk`.
    pub fn with_risk(risk: Arc<dyn RiskService>, options: Options) -> Bank {
        let Bank { time, store, .. } = Bank::new();
        Bank::over(time, store, Some(risk), options)
    }

    /// A process that begins now, over what is stored.
    pub fn over(
        time: ManualTime,
        store: MemoryStore,
        risk: Option<Arc<dyn RiskService>>,
        options: Options,
    ) -> Bank {
        let seam = Arc::new(time.clone());
        let small = RepositoryOptions { cache_len: 64, snapshot_every: 10 };
        let accounts =
            Repository::new(store.clone(), seam.clone(), seam.clone(), seam.clone(), small);
        let rules = Repository::new(store.clone(), seam.clone(), seam.clone(), seam.clone(), small);
        let engine = RuleEngine::new(rules);
        let risk = risk.unwrap_or_else(|| Arc::new(engine.clone()));
        let orchestrator =
            Orchestrator::new(accounts.clone(), risk, (seam.clone(), seam.clone(), seam), options);
        Bank { time, store, accounts, engine, orchestrator }
    }

    /// The process dies, and another takes its place.
    pub fn restarted(&self) -> Bank {
        Bank::over(self.time.clone(), self.store.clone(), None, Options::default())
    }

    /// Runs `work` to its end; time passes only if it must.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        for _ in 0..1_000_000 {
            for _ in 0..3 {
                if let Some(done) = work.as_mut().now_or_never() {
                    return done;
                }
                tokio::task::yield_now().await;
            }
            self.time.advance(Duration::from_millis(100));
        }
        panic!("it never ends");
    }

    pub async fn command(&self, n: u128, command: AccountCommand) {
        let id = command.transaction_id();
        let transaction = Transaction { id, digest: *id.as_bytes() };
        let task = Task { command, transaction, context: None, record: None };
        self.accounts.execute(&account_stream(account(n)), task).await.expect("it is accepted");
    }

    /// Opens an account that may give out all it has.
    pub async fn open(&self, n: u128, money: &str, code: &str) {
        let open = OpenAccount {
            account_id: account(n),
            account_type: AccountType::Checking,
            currency: currency(code),
            owner_id: Uuid::from_u128(1),
            initial_deposit: Some(decimal(money)),
            overdraft_limit: Some(Decimal::ZERO),
            credit_limit: None,
            daily_withdrawal_limit: Some(Decimal::from(1_000_000)),
            transaction_id: account(n),
        };
        self.command(n, AccountCommand::Open(open)).await;
    }

    pub async fn flag(&self, n: u128, reason: &str) {
        let (reason, flagged_by) = (reason.to_owned(), "risk".to_owned());
        let transaction_id = Uuid::from_u128(0xf1a6_0000 + n);
        let flag = FlagAccount { reason, flagged_by, transaction_id };
        self.command(n, AccountCommand::Flag(flag)).await;
    }

    pub async fn freeze(&self, n: u128) {
        let (reason, frozen_by) = ("court order".to_owned(), "ops".to_owned());
        let transaction_id = Uuid::from_u128(0xf4ee_0000 + n);
        let freeze = FreezeAccount { reason, frozen_by, transaction_id };
        self.command(n, AccountCommand::Freeze(freeze)).await;
    }

    pub async fn close(&self, n: u128) {
        let (reason, closed_by) = (String::new(), "ops".to_owned());
        let transaction_id = Uuid::from_u128(0xc105_0000 + n);
        let close = CloseAccount { reason, closed_by, transaction_id };
        self.command(n, AccountCommand::Close(close)).await;
    }

    pub async fn withdraw(&self, n: u128, amount: &str) {
        let withdraw = MoveMoney {
            amount: decimal(amount),
            currency: currency("USD"),
            description: String::new(),
            transaction_id: Uuid::from_u128(0x317d_0000 + n),
        };
        self.command(n, AccountCommand::Withdraw(withdraw)).await;
    }

    /// What is in account `n`; empty if it does not exist.
    pub async fn balance(&self, n: u128) -> String {
        let loaded = self.accounts.load(&account_stream(account(n))).await.expect("readable");
        let state = loaded.as_ref().and_then(|(account, _)| account.state());
        state.map(|state| state.balance.to_string()).unwrap_or_default()
    }

    /// Starts a transfer and takes it to its end.
    pub async fn pay(&self, request: &TransferRequest) -> Known {
        let started = self.run(self.orchestrator.start(request)).await.expect("it starts");
        if started.known.state().is_active() {
            self.run(self.orchestrator.drive(request.transfer_id)).await;
        }
        self.known(request.transfer_id).await
    }

    /// The transfer as it is stored.
    pub async fn known(&self, id: Uuid) -> Known {
        self.orchestrator.transfer(id).await.expect("readable").expect("it exists")
    }

    /// Finds what is unfinished, and takes it to its end.
    pub async fn recover_and_drive(&self) {
        let ids = self.orchestrator.recover().await.expect("readable");
        for id in ids {
            self.run(self.orchestrator.drive(id)).await;
        }
    }

    /// Events of one stream as `Type`s, in order.
    pub fn types(&self, stream: &str) -> Vec<String> {
        let log = self.store.log();
        let own = log.iter().filter(|event| event.stream.as_str() == stream);
        own.map(|event| event.event_type.clone()).collect()
    }

    /// How often something of this type happened.
    pub fn count(&self, event_type: &str) -> usize {
        self.store.log().iter().filter(|event| event.event_type == event_type).count()
    }

    /// The books of the whole log; panics if they are not balanced after any event, or if a
    /// transfer was debited, credited or refunded more than once.
    pub fn audited(&self) -> Books {
        let mut books = Books::default();
        let mut legs = std::collections::BTreeSet::new();
        let log = self.store.log();
        let checked = log.iter().try_for_each(|event| {
            if event.stream.category() != Some("ledger.account") {
                return ControlFlow::Continue(());
            }
            if event.event_type.starts_with("Transfer") {
                let data: serde_json::Value =
                    serde_json::from_slice(&event.data).expect("an event is JSON");
                let leg = (data["transfer_id"].to_string(), event.event_type.clone());
                assert!(legs.insert(leg.clone()), "twice: {leg:?}");
            }
            books.apply(event.view()).expect("events can be entered");
            if books.is_balanced() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        assert!(checked.is_continue(), "money was made or lost: {books:?}");
        books
    }

    /// As [`Bank::audited`], and no money is between accounts.
    pub fn settled(&self) -> Books {
        let books = self.audited();
        for (currency, sums) in books.currencies() {
            assert!(sums.clearing.is_zero(), "{currency} {} in clearing", sums.clearing);
        }
        books
    }
}
