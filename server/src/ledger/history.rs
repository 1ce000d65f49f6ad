//! What an account was, and what became of it: read from its stream, by revision or by time.
//!
//! An account's times never go backwards, so that a moment is found among its events by halving;
//! and events that move money say the balance after them, so that nothing before them is read.
//!
//! INVARIANT: holds no more of a stream than one page, and reads none of what is before it.

use std::ops::{Deref, Range};

use daybook_ledger::account::{Account, AccountEvent};
use daybook_model::repository::LoadError;
use daybook_model::{Aggregate, EventView, ReadFailed, Revision, StreamName, Timestamp};
use daybook_store::{Direction, From, ReadError, ReadStream, StreamReader};
use rust_decimal::Decimal;
use tokio::sync::OwnedSemaphorePermit;

use super::Ledger;

/// Events of one step of a [`Walk`]: what is held in memory for each that is going on.
pub const PAGE_LEN_MAX: usize = 1000;
/// Pages that are in memory at once, decoded, all requests together: some 2 MiB each. Who comes
/// when there are as many waits; two processors are not faster with more.
pub const PAGES_AT_ONCE_MAX: usize = 16;

/// One event of an account.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number in the account's stream.
    pub revision: Revision,
    /// What happened.
    pub event: AccountEvent,
}

impl Entry {
    /// What it did to the balance, with its sign; zero for what moves no money.
    #[must_use]
    pub fn change(&self) -> Decimal {
        self.event.legs().map_or(Decimal::ZERO, |[own, _]| own.amount)
    }
}

/// Some events of one account. One of [`PAGES_AT_ONCE_MAX`] until it is dropped: what is kept
/// longer, like an answer, is made of it first.
#[derive(Debug)]
pub struct Entries {
    entries: Vec<Entry>,
    _room: OwnedSemaphorePermit,
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        &self.entries
    }
}

/// Reads some events of one account, in order, page by page.
#[derive(Debug)]
pub struct Walk {
    stream: StreamName,
    /// What is still to be read; all of it exists.
    left: Range<u64>,
}

impl Walk {
    /// Of the account in `stream`, the events from revision `from` on that are before `end`, which
    /// is one beyond the account's last event at most.
    #[must_use]
    pub fn new(stream: StreamName, from: Revision, end: Revision) -> Walk {
        Walk { stream, left: from.0..end.0 }
    }

    /// The revision of the next event to be read; none at the end.
    #[must_use]
    pub fn next_revision(&self) -> Option<Revision> {
        (!self.left.is_empty()).then_some(Revision(self.left.start))
    }

    /// Up to `limit` more events; none at the end.
    ///
    /// # Errors
    /// [`LoadError`]: the store cannot read them, or one is not understood.
    pub async fn page(&mut self, ledger: &Ledger, limit: usize) -> Result<Entries, LoadError> {
        let room = ledger.inner.histories.clone().acquire_owned().await;
        let _room = room.expect("it is never closed");
        let mut entries = Vec::new();
        let (from, end) = (self.left.start, self.left.end);
        let count = end.saturating_sub(from).min(limit.min(PAGE_LEN_MAX) as u64);
        if count == 0 {
            return Ok(Entries { entries, _room });
        }
        let stream = &self.stream;
        let mut reader = ledger.read(stream, Revision(from), Direction::Forwards, count).await?;
        while let Some(page) = reader.next().await.map_err(|error| unreadable(stream, &error))? {
            for event in page.events() {
                let revision = event.revision;
                entries.push(Entry { revision, event: decode(stream, event)? });
            }
        }
        if entries.len() as u64 != count {
            return Err(missing(stream, Revision(from + entries.len() as u64)));
        }
        self.left.start += count;
        Ok(Entries { entries, _room })
    }
}

impl Ledger {
    /// The revision of the last event of the account in `stream` that had happened at `at`, given
    /// that of its very last event; none if `at` is before the first.
    ///
    /// # Errors
    /// [`LoadError`]: an event that had to be looked at cannot be read.
    pub async fn revision_at(
        &self,
        stream: &StreamName,
        at: Timestamp,
        last: Revision,
    ) -> Result<Option<Revision>, LoadError> {
        // Events below `low` had happened, those from `high` on had not.
        let (mut low, mut high) = (0, last.0 + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.occurred_at(stream, Revision(middle)).await? <= at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low.checked_sub(1).map(Revision))
    }

    /// The balance of the account in `stream` after its event `revision`: what the last event up to
    /// there that can move money says.
    ///
    /// # Errors
    /// [`LoadError`]: an event that had to be looked at cannot be read.
    pub async fn balance_at(
        &self,
        stream: &StreamName,
        revision: Revision,
    ) -> Result<Decimal, LoadError> {
        let (mut from, mut count) = (revision, 1);
        // Mostly the first will do; where holds come and go, the steps back grow.
        loop {
            let mut reader = self.read(stream, from, Direction::Backwards, count).await?;
            let mut found = Err(missing(stream, from));
            while let Some(page) = reader.next().await.map_err(|e| unreadable(stream, &e))? {
                for event in page.events() {
                    found = Ok(event.revision);
                    if let Some(balance) = decode(stream, event)?.balance() {
                        return Ok(balance);
                    }
                }
            }
            // The first event of an account is its opening, which has a balance.
            let before = found?.0.checked_sub(1);
            from = Revision(before.ok_or_else(|| missing(stream, Revision::FIRST))?);
            count = (4 * count).min(PAGE_LEN_MAX as u64);
        }
    }

    async fn occurred_at(
        &self,
        stream: &StreamName,
        revision: Revision,
    ) -> Result<Timestamp, LoadError> {
        let page = self.store().store().read_event(stream, revision).await;
        let page = page.map_err(|error| unreadable(stream, &error))?;
        let event = page.as_ref().and_then(|page| page.last());
        let event = event.ok_or_else(|| missing(stream, revision))?;
        Ok(decode(stream, event)?.occurred_at())
    }

    async fn read(
        &self,
        stream: &StreamName,
        from: Revision,
        direction: Direction,
        count: u64,
    ) -> Result<StreamReader, LoadError> {
        let from = From::Revision(from);
        let query = ReadStream { stream: stream.clone(), from, direction, count };
        let reader = self.store().store().read_stream(query).await;
        reader.map_err(|error| unreadable(stream, &error))
    }
}

fn unreadable(stream: &StreamName, error: &ReadError) -> LoadError {
    ReadFailed { what: stream.to_string(), reason: error.to_string() }.into()
}

fn missing(stream: &StreamName, revision: Revision) -> LoadError {
    let reason = format!("revision {revision} is missing");
    ReadFailed { what: stream.to_string(), reason }.into()
}

fn decode(stream: &StreamName, event: EventView<'_>) -> Result<AccountEvent, LoadError> {
    let revision = event.revision;
    Account::read(event).map_err(|reason| LoadError::Undecodable {
        stream: stream.clone(),
        revision,
        reason,
    })
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;

    use daybook_ledger::account::{
        AccountCommand, AccountType, FlagAccount, MoveMoney, OpenAccount, account_stream,
    };
    use daybook_ledger::currency::Currency;
    use daybook_log::disk::os::{Access, OsDisk};
    use daybook_model::append::Append;
    use daybook_model::repository::Transaction;
    use daybook_model::{ExpectedRevision, NewEvent, SystemClock, SystemEntropy};
    use daybook_store::port::WithSnapshots;
    use daybook_store::{Environment, Options, Store};
    use uuid::Uuid;

    use super::*;

    const OWNER: Uuid = Uuid::from_u128(7);

    async fn ledger(data: &tempfile::TempDir) -> Ledger {
        let disk = OsDisk::open(&data.path().join("log"), Access::Write).expect("a disk");
        let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
        let environment =
            Environment { disk: Arc::new(disk), clock: clock.clone(), entropy: entropy.clone() };
        let store = Store::open(environment, Options::default()).expect("a store");
        let store = WithSnapshots::new(store, None).expect("a thread");
        Ledger::start(store, clock, entropy, super::super::Options::default()).await.expect("reads")
    }

    /// The `n`-th thing that happens: mostly money moves, for a while in the middle none does.
    fn command(n: u128, transaction_id: Uuid) -> AccountCommand {
        let currency = Currency::from_code("USD").expect("a currency");
        let text = || n.to_string();
        let money = |cents: i64| MoveMoney {
            amount: Decimal::new(cents, 2),
            currency,
            description: text(),
            transaction_id,
        };
        match n {
            0 => AccountCommand::Open(OpenAccount {
                account_id: OWNER,
                account_type: AccountType::Checking,
                currency,
                owner_id: OWNER,
                initial_deposit: Some(Decimal::from(100)),
                overdraft_limit: None,
                credit_limit: None,
                daily_withdrawal_limit: None,
                transaction_id,
            }),
            40..70 | 81 | 95.. => AccountCommand::Flag(FlagAccount {
                reason: text(),
                flagged_by: text(),
                transaction_id,
            }),
            _ if n.is_multiple_of(3) => AccountCommand::Withdraw(money(1_250)),
            _ if n.is_multiple_of(5) => AccountCommand::ChargeFee(money(7)),
            _ => AccountCommand::Deposit(money(n as i64)),
        }
    }

    #[tokio::test]
    async fn pages_and_balances_are_those_of_a_fold_from_the_beginning() {
        const EVENTS: u64 = 100;
        let data = tempfile::TempDir::new().expect("a directory");
        let ledger = ledger(&data).await;
        let stream = account_stream(OWNER);
        let (mut account, mut folded) = (Account::default(), Vec::new());
        for n in 0..u128::from(EVENTS) {
            let id = Uuid::from_u128(1_000 + n);
            let transaction = Transaction { id, digest: n.to_le_bytes() };
            ledger.execute(OWNER, command(n, id), transaction, None).await.expect("accepted");
        }
        let whole = read(&ledger, &stream, 0, EVENTS, PAGE_LEN_MAX).await.expect("readable");
        for entry in &whole {
            account.evolve(&entry.event);
            let state = account.state().expect("open");
            folded.push((entry.event.clone(), state.balance, state.updated_at));
        }
        assert_eq!(folded.len() as u64, EVENTS);
        for (from, end, limit) in [(0, 100, 7), (35, 75, 1), (50, 51, 9), (60, 60, 9), (93, 100, 3)]
        {
            let read = read(&ledger, &stream, from, end, limit).await.expect("readable");
            assert_eq!(read.len() as u64, end - from);
            for (revision, entry) in (from..end).zip(read) {
                let (event, balance, _) = &folded[revision as usize];
                assert_eq!((entry.revision.0, &entry.event), (revision, event));
                assert!(entry.event.balance().is_none_or(|told| told == *balance), "{revision}");
            }
        }
        let last = Revision(EVENTS - 1);
        for (revision, (_, balance, at)) in (0..).map(Revision).zip(&folded) {
            let found = ledger.balance_at(&stream, revision).await.expect("readable");
            assert_eq!(found.to_string(), balance.to_string(), "{revision}");
            for at in [*at, Timestamp(at.0 - 1)] {
                let happened = folded.iter().filter(|(_, _, time)| *time <= at).count() as u64;
                let found = ledger.revision_at(&stream, at, last).await.expect("readable");
                assert_eq!(found, happened.checked_sub(1).map(Revision), "{revision}");
            }
        }
        ledger.store().store().close().await;
    }

    #[tokio::test]
    async fn what_is_before_a_page_is_not_read_and_what_is_missing_is_no_end() {
        let data = tempfile::TempDir::new().expect("a directory");
        let ledger = ledger(&data).await;
        let stream = account_stream(OWNER);
        let deposit = format!(
            r#"{{"account_id":"{OWNER}","amount":"1.00","currency":"USD","contra":"cash",
            "balance":"33.00","transaction_id":"{OWNER}","description":"",
            "occurred_at":"2026-01-31T12:00:00Z"}}"#
        );
        let events = [
            NewEvent::json(Uuid::from_u128(1), "Unreadable", "{}"),
            NewEvent::json(Uuid::from_u128(2), "MoneyDeposited", deposit),
        ];
        let append = Append::to_stream(stream.clone(), ExpectedRevision::NoStream, events);
        ledger.store().store().append(append).await.expect("room");
        let page = read(&ledger, &stream, 1, 2, 10).await.expect("readable");
        assert_eq!(page.len(), 1);
        let balance = ledger.balance_at(&stream, Revision(1)).await.expect("readable");
        assert_eq!(balance.to_string(), "33.00");
        for (from, end) in [(0, 2), (1, 3), (2, 3)] {
            let wrong = read(&ledger, &stream, from, end, 10).await.expect_err("not all is there");
            let reason = wrong.to_string();
            assert!(reason.contains("Unreadable") || reason.contains("revision 2 is"), "{reason}");
        }
        assert!(ledger.balance_at(&stream, Revision(0)).await.is_err());
        ledger.store().store().close().await;
    }

    #[tokio::test]
    async fn only_so_many_pages_are_in_memory_at_once() {
        let data = tempfile::tempdir().expect("a directory");
        let ledger = ledger(&data).await;
        let stream = account_stream(OWNER);
        let mut walk = Walk::new(stream, Revision(0), Revision(0));
        let mut held = Vec::new();
        for _ in 0..PAGES_AT_ONCE_MAX {
            held.push(walk.page(&ledger, 1).await.expect("nothing to read"));
        }
        let mut next = pin!(walk.page(&ledger, 1));
        assert!(futures_util::poll!(&mut next).is_pending());
        held.pop();
        assert!(next.await.expect("nothing to read").is_empty());
        ledger.store().store().close().await;
    }

    /// All entries of a walk in pages of `limit`.
    async fn read(
        ledger: &Ledger,
        stream: &StreamName,
        from: u64,
        end: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, LoadError> {
        let mut walk = Walk::new(stream.clone(), Revision(from), Revision(end));
        let mut all = Vec::new();
        while walk.next_revision().is_some() {
            let page = walk.page(ledger, limit).await?;
            assert!((1..=limit).contains(&page.len()));
            all.extend_from_slice(&page);
        }
        assert!(walk.page(ledger, limit).await?.is_empty());
        Ok(all)
    }
}
