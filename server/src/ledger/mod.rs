//! The ledger in this node: accounts and transfers over the node's store.
//!
//! ```text
//!   http/ledger ──> Ledger ──┬─ accounts    Repository<Account>, commands in tasks of their own
//!                            ├─ transfers   Orchestrator, a task for each that is under way
//!                            ├─ rules ──────> risk: built in, then the external service if any
//!                            ├─ history     an account as it was, and its events
//!                            └─ books       the sums of all legs, and their check
//! ```
//!
//! INVARIANTS: the only room that writes reserved streams. A command that was begun is finished,
//! also if its client hangs up: it runs in a task of its own. Knows nothing of HTTP, except as a
//! client of a risk service.

pub mod books;
pub mod history;
pub mod metrics;
pub mod risk;
pub mod transfers;

use std::sync::Arc;
use std::time::Duration;

use daybook_client::resilience::{Changes, Metrics, Wiring};
use daybook_ledger::account::{
    Account, AccountCommand, AccountId, AccountRejection, account_stream,
};
use daybook_ledger::orchestrator::{self, Orchestrator};
use daybook_ledger::risk::{OnUnreachable, RuleEngine, RulesState};
use daybook_ledger::transfer::PAYMENT_TRANSFER;
use daybook_model::append::AppendError;
use daybook_model::repository::{self, ExecuteError, Executed, LoadError, Task, Transaction};
use daybook_model::{
    Clock, Context, Entropy, Position, Repository, Revision, SystemTimer, Timer, Timestamp,
};
use daybook_store::observe::Histogram;
use daybook_store::port::WithSnapshots;
use tokio::sync::{Semaphore, watch};

use crate::telemetry::trace::Tracer;
use crate::telemetry::trace::current::inherited;
use books::BookKeeper;
use risk::{HttpRisk, RiskUrl, RulesThenService};

/// How the ledger is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who else is asked about a transfer, after the built-in rules let it through.
    pub risk: Option<RiskUrl>,
    /// Time that service has for an answer.
    pub risk_timeout: Duration,
    /// Where the numbers of calls to that service are counted; the node shows them.
    pub resilience: Metrics,
    /// What happens to a transfer if it gives none.
    pub on_unreachable: OnUnreachable,
    /// How long a transfer may take before it is undone.
    pub transfer_timeout: Duration,
    /// Events of an account after which a snapshot of it is put; 0 for never.
    pub snapshot_every: u64,
    /// Accounts whose state is kept in memory.
    pub accounts_kept: usize,
    /// Who makes spans of what it does; the node says so.
    pub tracer: Option<Tracer>,
}

impl Default for Options {
    fn default() -> Options {
        let on_unreachable = OnUnreachable::default();
        Options {
            risk: None,
            risk_timeout: risk::TIMEOUT_DEFAULT,
            resilience: Metrics::new(),
            on_unreachable,
            transfer_timeout: PAYMENT_TRANSFER.timeout,
            snapshot_every: repository::SNAPSHOT_EVERY_DEFAULT,
            accounts_kept: repository::CACHE_LEN_DEFAULT,
            tracer: None,
        }
    }
}

/// The ledger. A clone is another handle to the same.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    store: WithSnapshots,
    clock: Arc<dyn Clock>,
    accounts: Repository<Account, WithSnapshots>,
    rules: Repository<RulesState, WithSnapshots>,
    transfers: Orchestrator<WithSnapshots>,
    books: BookKeeper,
    durations: Histogram,
    /// Room for pages of histories.
    histories: Arc<Semaphore>,
    stopping: watch::Sender<bool>,
    tracer: Option<Tracer>,
}

/// A command that was done.
#[derive(Clone, Debug)]
pub struct Done {
    /// The account after it.
    pub account: Account,
    /// The revision of the command's last event.
    pub revision: Revision,
    /// Its position.
    pub position: Position,
    /// Whether it was done before, and this is the first answer.
    pub repeated: bool,
}

impl Ledger {
    /// The ledger in `store`. Takes up the transfers that were under way when it was last closed.
    ///
    /// # Errors
    /// [`LoadError`]: they cannot be read.
    pub async fn start(
        store: WithSnapshots,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        options: Options,
    ) -> Result<Ledger, LoadError> {
        let timer: Arc<dyn Timer> = Arc::new(SystemTimer);
        let seams = (clock.clone(), timer, entropy);
        let ledger = Ledger::new(store, seams, options);
        ledger.take_up().await?;
        Ok(ledger)
    }

    fn new(
        store: WithSnapshots,
        seams: (Arc<dyn Clock>, Arc<dyn Timer>, Arc<dyn Entropy>),
        options: Options,
    ) -> Ledger {
        let (clock, timer, entropy) = seams.clone();
        let kept = repository::Options {
            snapshot_every: options.snapshot_every,
            cache_len: options.accounts_kept,
        };
        let accounts =
            Repository::new(store.clone(), clock.clone(), timer.clone(), entropy.clone(), kept);
        let rules =
            Repository::new(store.clone(), clock.clone(), timer.clone(), entropy.clone(), kept);
        let (metrics, changes) = (options.resilience, Changes::new());
        let wiring = Wiring { clock: clock.clone(), timer, entropy, metrics, changes };
        let service = options.risk.map(|url| HttpRisk::new(url, options.risk_timeout, wiring));
        let risk = Arc::new(RulesThenService::new(RuleEngine::new(rules.clone()), service));
        let moving = orchestrator::Options {
            on_unreachable: options.on_unreachable,
            timeout: options.transfer_timeout,
        };
        let transfers = Orchestrator::new(accounts.clone(), risk, seams, moving);
        let tracer = options.tracer;
        if let Some(tracer) = &tracer {
            transfers.follow_work(Arc::new(tracer.clone()));
        }
        let books = BookKeeper::new(store.clone());
        let durations = Histogram::default();
        let (stopping, _) = watch::channel(false);
        let histories = Arc::new(Semaphore::new(history::PAGES_AT_ONCE_MAX));
        let inner = Inner {
            store,
            clock,
            accounts,
            rules,
            transfers,
            books,
            durations,
            histories,
            stopping,
            tracer,
        };
        Ledger { inner: Arc::new(inner) }
    }

    /// Lets go of the transfers that are under way; the next start takes them up. Commands that
    /// are being written are not touched.
    pub fn stop(&self) {
        self.inner.stopping.send_replace(true);
    }

    /// The time that decisions are made at.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// The accounts.
    #[must_use]
    pub fn accounts(&self) -> &Repository<Account, WithSnapshots> {
        &self.inner.accounts
    }

    /// The rules by which transfers are let through.
    #[must_use]
    pub fn rules(&self) -> &Repository<RulesState, WithSnapshots> {
        &self.inner.rules
    }

    /// The books.
    #[must_use]
    pub fn books(&self) -> &BookKeeper {
        &self.inner.books
    }

    fn store(&self) -> &WithSnapshots {
        &self.inner.store
    }

    /// Has the account `id` do `command`, once; answers when it is durable. Goes on if the answer
    /// is not waited for. Its events say what `context` says: who has it done.
    ///
    /// # Errors
    /// [`ExecuteError`]: why it was not done, or that nobody knows.
    pub async fn execute(
        &self,
        id: AccountId,
        command: AccountCommand,
        transaction: Transaction,
        context: Option<Context>,
    ) -> Result<Done, ExecuteError<AccountRejection>> {
        let ledger = self.clone();
        let task = Task { command, transaction, context, record: None };
        finish(async move { ledger.run(id, task).await }).await
    }

    async fn run(
        &self,
        id: AccountId,
        task: Task<Account>,
    ) -> Result<Done, ExecuteError<AccountRejection>> {
        let stream = account_stream(id);
        let executed = self.inner.accounts.execute(&stream, task).await?;
        let Executed { state, revision, position, repeated } = executed;
        let missing = |reason: &str| {
            let reason = reason.to_owned();
            ExecuteError::Append(AppendError::Read { reason })
        };
        let revision = revision.ok_or_else(|| missing("an accepted command has an event"))?;
        let position = match position {
            Some(position) => position,
            // A repetition; its first answer named a position.
            None => {
                let page = self.store().store().read_event(&stream, revision).await;
                let page = page.map_err(|error| missing(&error.to_string()))?;
                let event = page.as_ref().and_then(|page| page.last());
                event.ok_or_else(|| missing("an event of the account is gone"))?.position
            }
        };
        Ok(Done { account: state, revision, position, repeated })
    }

    /// The account `id` now, with the revision of its last event; none if nobody opened it.
    ///
    /// # Errors
    /// [`LoadError`]: it cannot be read.
    pub async fn account(&self, id: AccountId) -> Result<Option<(Account, Revision)>, LoadError> {
        self.inner.accounts.load(&account_stream(id)).await
    }
}

/// Runs `work` to its end in a task of its own, whether or not the answer is waited for.
///
/// # Errors
/// Those of `work`; and that its outcome is unknown, if its task was ended.
pub async fn finish<T: Send + 'static, R: std::error::Error + Send + 'static>(
    work: impl Future<Output = Result<T, ExecuteError<R>>> + Send + 'static,
) -> Result<T, ExecuteError<R>> {
    tokio::spawn(inherited(work)).await.unwrap_or_else(|_| {
        let reason = "the task that did it ended".to_owned();
        Err(ExecuteError::Append(AppendError::Unknown { reason }))
    })
}
