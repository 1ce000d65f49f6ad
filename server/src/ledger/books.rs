//! The books of the node: the sums of all legs, kept up with the log, and checked on demand.
//!
//! ```text
//!   ledger.account-*  ── in the order of the log ──> Books, position        on request, what is new
//!                     └─ account by account ───────> balances, legs         a check, from scratch
//! ```
//!
//! How each question is answered:
//! - *What do the sums name?* The position of the last account event that is in them. A transfer's
//!   two halves are two events, so that `clearing` holds what is on its way at that position.
//! - *Does a restart count all over?* No: the sums are put beside the store as a snapshot every
//!   `SNAPSHOT_EVERY` events, with the category's number they reach. It is disposable.
//! - *How independent is the check?* It reads every account's stream by itself and takes the
//!   customers' sums from the accounts' own states, not from legs; what it shares with the sums is
//!   the decoding of events.
//!
//! INVARIANT: no lock is held across an await; one catches up at a time, the others wait; one checks
//! at a time, the others are refused.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use daybook_ledger::account::{ACCOUNT_CATEGORY, Account};
use daybook_ledger::books::{AccountClass, Books, BooksError};
use daybook_ledger::currency::Currency;
use daybook_model::{
    Aggregate, CategoryStore, EventStore, EventView, Position, ReadFailed, Revision, Snapshot,
    StreamName,
};
use daybook_store::port::WithSnapshots;
use parking_lot::Mutex;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Account events after which the sums are put as a snapshot: a restart counts fewer than twice as
/// many, which takes some tens of milliseconds.
const SNAPSHOT_EVERY: u64 = 50_000;
/// Account events that are entered before the sums are kept: who gives up waiting for a long log's
/// sums has not waited for nothing, and who asks next goes on from there.
const STRETCH_LEN: u64 = 20_000;
/// The version of the snapshot's layout.
const SCHEMA: u32 = 1;
/// What the snapshot is called, and the name it is kept under. No stream has it.
const KIND: &str = "ledger.books";
/// Names of accounts that a check asks for at a time.
const NAMES_LEN: usize = 1000;

/// The sums at a position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summed {
    /// The sums.
    pub books: Books,
    /// The position of the last account event in them; none if there is none.
    pub position: Option<u64>,
    /// The number that the next account event will have in its category.
    next: u64,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Accounts it read.
    pub accounts: u64,
    /// Events it read.
    pub events: u64,
    /// Whether it came to the same sums.
    pub equal: bool,
}

/// Why there are no sums.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SumError {
    /// What is stored cannot be read.
    #[error(transparent)]
    Read(#[from] ReadFailed),
    /// An event cannot be entered.
    #[error("position {position}: {reason}")]
    Entry {
        /// The event.
        position: Position,
        /// Why.
        reason: BooksError,
    },
    /// Another check runs; each reads every account.
    #[error("the accounts are being counted already; try again when that is done")]
    Busy,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// Keeps the sums.
pub struct BookKeeper {
    store: WithSnapshots,
    summed: Mutex<Option<Summed>>,
    turn: Semaphore,
    checks: Semaphore,
}

impl BookKeeper {
    /// The book keeper of `store`. Reads nothing yet.
    #[must_use]
    pub fn new(store: WithSnapshots) -> BookKeeper {
        let (turn, checks) = (Semaphore::new(1), Semaphore::new(1));
        BookKeeper { store, summed: Mutex::new(None), turn, checks }
    }

    /// The sums of all that is durable now.
    ///
    /// # Errors
    /// [`SumError`] names the event, or what could not be read.
    pub async fn sum(&self) -> Result<Summed, SumError> {
        let _turn = wait(&self.turn).await?;
        let known = self.summed.lock().clone();
        let mut summed = match known {
            Some(summed) => summed,
            None => self.restored().await,
        };
        loop {
            let before = summed.next;
            self.enter(&mut summed).await?;
            if before / SNAPSHOT_EVERY != summed.next / SNAPSHOT_EVERY {
                self.put_snapshot(&summed);
            }
            *self.summed.lock() = Some(summed.clone());
            if summed.next < before + STRETCH_LEN {
                return Ok(summed);
            }
        }
    }

    /// Enters what is new, up to [`STRETCH_LEN`] events of it.
    async fn enter(&self, summed: &mut Summed) -> Result<(), SumError> {
        let first = summed.next;
        let mut wrong = None;
        let enter = |number: u64, event: EventView<'_>| {
            if let Err(reason) = summed.books.apply(event) {
                wrong = Some(SumError::Entry { position: event.position, reason });
                return ControlFlow::Break(());
            }
            summed.next = number + 1;
            summed.position = Some(event.position.0);
            if summed.next == first + STRETCH_LEN {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        self.store.replay_category(ACCOUNT_CATEGORY, first, enter).await?;
        wrong.map_or(Ok(()), Err)
    }

    /// Counts every account by itself up to the position of `summed`, and compares.
    ///
    /// # Errors
    /// [`SumError`] names the event, or what could not be read.
    pub async fn verify(&self, summed: &Summed) -> Result<Verified, SumError> {
        let _turn = self.checks.try_acquire().map_err(|_| SumError::Busy)?;
        let mut count = Count { until: summed.position, ..Count::default() };
        let prefix = format!("{ACCOUNT_CATEGORY}-");
        let mut after: Option<String> = None;
        loop {
            let names = self.store.store().streams(&prefix, after.as_deref(), NAMES_LEN).await;
            let failed = |e: daybook_store::ReadError| ReadFailed {
                what: ACCOUNT_CATEGORY.to_owned(),
                reason: e.to_string(),
            };
            let names = names.map_err(failed)?;
            for name in &names {
                let stream = StreamName::new(name).expect("a stored name is one");
                self.count_account(&stream, &mut count).await?;
            }
            match names.last() {
                Some(last) if names.len() == NAMES_LEN => after = Some(last.clone()),
                _ => break,
            }
        }
        let equal = count.equals(&summed.books);
        if !equal {
            tracing::error!(?count, ?summed, "the books differ from the accounts");
        }
        Ok(Verified { accounts: count.accounts, events: count.events, equal })
    }

    async fn count_account(&self, stream: &StreamName, count: &mut Count) -> Result<(), SumError> {
        let mut account = Account::default();
        let mut wrong = None;
        let before = count.events;
        let each = |event: EventView<'_>| {
            if Some(event.position.0) > count.until {
                return ControlFlow::Break(());
            }
            let position = event.position;
            match Account::read(event) {
                Ok(event) => {
                    account.evolve(&event);
                    count.events += 1;
                    let said = event.balance();
                    let is = account.state().map(|state| state.balance);
                    count.balances_differ |= said.is_some() && said != is;
                    if let Some([_, contra]) = event.legs() {
                        *count.sums.entry((contra.currency, rank(contra.class))).or_default() +=
                            contra.amount;
                    }
                    ControlFlow::Continue(())
                }
                Err(reason) => {
                    wrong = Some(SumError::Entry { position, reason: reason.into() });
                    ControlFlow::Break(())
                }
            }
        };
        self.store.replay(stream, Revision::FIRST, each).await?;
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        count.accounts += u64::from(count.events > before);
        if let Some(state) = account.state() {
            let customers = rank(AccountClass::Customers);
            *count.sums.entry((state.currency, customers)).or_default() += state.balance;
        }
        Ok(())
    }

    async fn restored(&self) -> Summed {
        let newest = Revision(u64::MAX);
        let found = self.store.snapshot(&snapshot_name(), newest).await;
        let known = found.filter(|found| found.schema == SCHEMA && found.kind == KIND);
        known.and_then(|found| serde_json::from_slice(&found.data).ok()).unwrap_or_default()
    }

    fn put_snapshot(&self, summed: &Summed) {
        let data = serde_json::to_vec(summed).expect("numbers and texts are JSON");
        let snapshot = Snapshot {
            revision: Revision(summed.next),
            schema: SCHEMA,
            kind: KIND.to_owned(),
            data: Bytes::from(data),
        };
        self.store.put_snapshot(&snapshot_name(), snapshot);
    }
}

fn snapshot_name() -> StreamName {
    StreamName::new(KIND).expect("a valid name")
}

async fn wait(turn: &Semaphore) -> Result<SemaphorePermit<'_>, SumError> {
    turn.acquire().await.map_err(|_| SumError::Stopping)
}

/// What a check has counted.
#[derive(Debug, Default)]
struct Count {
    until: Option<u64>,
    accounts: u64,
    events: u64,
    /// Whether an event says another balance than its account's events make.
    balances_differ: bool,
    sums: BTreeMap<(Currency, usize), Decimal>,
}

/// All classes, in the order in which they are counted.
const CLASSES: [AccountClass; 5] = [
    AccountClass::Customers,
    AccountClass::Cash,
    AccountClass::Clearing,
    AccountClass::Fees,
    AccountClass::FxPosition,
];

fn rank(class: AccountClass) -> usize {
    CLASSES.iter().position(|each| *each == class).expect("all classes are there")
}

impl Count {
    /// Whether it came to the sums of `books`; what it did not count is zero.
    fn equals(&self, books: &Books) -> bool {
        let known = |(currency, _): &(Currency, usize)| books.sums(*currency).is_some();
        let none_more = self.sums.iter().all(|(key, sum)| sum.is_zero() || known(key));
        let same = |(currency, sums): (Currency, &daybook_ledger::books::Sums)| {
            CLASSES.iter().enumerate().all(|(rank, class)| {
                let counted = self.sums.get(&(currency, rank)).copied().unwrap_or_default();
                counted == sums.of(*class)
            })
        };
        none_more && !self.balances_differ && books.currencies().all(same)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use daybook_log::disk::os::{Access, OsDisk};
    use daybook_model::append::Append;
    use daybook_model::{ExpectedRevision, NewEvent, SystemClock, SystemEntropy};
    use daybook_store::snapshot::{Identity, SnapshotStore};
    use daybook_store::{Environment, Options, Store};
    use uuid::Uuid;

    use super::*;

    fn deposit(number: u128, amount: &str) -> Append {
        let account = Uuid::from_u128(number);
        let data = format!(
            r#"{{"account_id":"{account}","account_type":"checking","currency":"USD",
            "owner_id":"{account}","initial_balance":"{amount}","contra":"cash",
            "overdraft_limit":"0.00","daily_withdrawal_limit":"0.00","transaction_id":"{account}",
            "occurred_at":"2026-01-31T12:00:00Z"}}"#
        );
        let stream = daybook_ledger::account::account_stream(account);
        let event = NewEvent::json(account, "AccountOpened", data);
        Append::to_stream(stream, ExpectedRevision::NoStream, [event])
    }

    fn customers(summed: &Summed) -> String {
        summed.books.sums(usd()).expect("some USD").customers.to_string()
    }

    #[tokio::test]
    async fn a_restart_goes_on_from_the_sums_that_were_put() {
        let data = tempfile::TempDir::new().expect("a directory");
        let disk = OsDisk::open(&data.path().join("log"), Access::Write).expect("a disk");
        let environment = Environment {
            disk: Arc::new(disk),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
        };
        let store = Store::open(environment, Options::default()).expect("a store");
        let about = store.about();
        let identity =
            Identity { store_id: about.store_id, epoch: about.epoch, committed: Position(0) };
        let kept = Arc::new(SnapshotStore::open(&data.path().join("snapshots"), identity));
        let beside = WithSnapshots::new(store.clone(), Some(kept.clone())).expect("a thread");
        for (number, amount) in [(1, "1.00"), (2, "2.50")] {
            store.append(deposit(number, amount)).await.expect("room");
        }
        let before = BookKeeper::new(beside.clone());
        let summed = before.sum().await.expect("sums");
        assert_eq!((customers(&summed).as_str(), summed.position), ("3.50", Some(2)));
        before.put_snapshot(&summed);
        while kept.latest(&snapshot_name(), None).expect("snapshots").is_none() {
            tokio::task::yield_now().await;
        }
        let after = BookKeeper::new(beside);
        assert_eq!(after.restored().await, summed);
        store.append(deposit(3, "4.00")).await.expect("room");
        let summed = after.sum().await.expect("sums");
        assert_eq!((customers(&summed).as_str(), summed.position), ("7.50", Some(3)));
        let verified = after.verify(&summed).await.expect("a check");
        assert_eq!(verified, Verified { accounts: 3, events: 3, equal: true });
        // A check counts up to the sums' position, not up to now.
        store.append(deposit(4, "8.00")).await.expect("room");
        let verified = after.verify(&summed).await.expect("a check");
        assert_eq!(verified, Verified { accounts: 3, events: 3, equal: true });
        store.close().await;
    }

    fn usd() -> Currency {
        Currency::from_code("USD").expect("a currency")
    }

    #[test]
    fn a_check_that_comes_to_other_sums_says_so() {
        let json = r#"{"USD":{"customers":"5.00","cash":"-5.00","clearing":"0.00","fees":"0.00",
            "fx_position":"0.00"}}"#;
        let books: Books = serde_json::from_str(json).expect("books");
        let count = |customers: &str, cash: &str| Count {
            sums: BTreeMap::from([
                ((usd(), 0), customers.parse().expect("a number")),
                ((usd(), 1), cash.parse().expect("a number")),
            ]),
            ..Count::default()
        };
        assert!(count("5.00", "-5.00").equals(&books));
        assert!(!count("5.01", "-5.00").equals(&books), "more than is in the books");
        assert!(!count("5.00", "0").equals(&books), "a leg is missing");
        let differs = Count { balances_differ: true, ..count("5.00", "-5.00") };
        assert!(!differs.equals(&books), "an event says another balance");
        assert!(!Count::default().equals(&books), "nothing was counted");
        assert!(!count("5.00", "-5.00").equals(&Books::default()), "a currency is missing");
        assert!(Count::default().equals(&Books::default()));
    }
}
