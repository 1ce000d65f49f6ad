//! What an account was, and what became of it: read from its stream, by revision or by time.
//!
//! An account's times never go backwards, so that a moment is found among its events by halving;
//! and events that move money say the balance after them, so that nothing before them is read.
//!
//! INVARIANT: holds no more of a stream than one page, and reads no more than it tells.

use std::ops::Range;

use daybook_ledger::account::{Account, AccountEvent};
use daybook_model::repository::LoadError;
use daybook_model::{Aggregate, EventView, ReadFailed, Revision, StreamName, Timestamp};
use daybook_store::{Direction, From, ReadError, ReadStream, StreamReader};
use rust_decimal::Decimal;

use super::Ledger;

/// Events of one step of a [`Walk`]: what is held in memory for each that is going on.
pub const PAGE_LEN_MAX: usize = 1000;

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

/// Reads some events of one account, in order, page by page.
#[derive(Debug)]
pub struct Walk {
    stream: StreamName,
    /// What is still to be read; all of it exists.
    left: Range<u64>,
}

impl Walk {
    /// Of the account in `stream`, the events from the first revision up to the second, which is
    /// not a part of it: at most one beyond the account's last.
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
    pub async fn page(&mut self, ledger: &Ledger, limit: usize) -> Result<Vec<Entry>, LoadError> {
        let mut entries = Vec::new();
        let (from, end) = (self.left.start, self.left.end);
        let count = end.saturating_sub(from).min(limit.min(PAGE_LEN_MAX) as u64);
        if count == 0 {
            return Ok(entries);
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
        Ok(entries)
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
    Account::decode(event).map_err(|reason| LoadError::Undecodable {
        stream: stream.clone(),
        revision,
        reason,
    })
}
