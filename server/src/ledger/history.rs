//! What an account was, and what became of it: read from its stream, by revision or by time.
//!
//! An account's times never go backwards, so that a moment is found among its events by halving.
//!
//! INVARIANT: holds no more of a stream than one page.

use std::ops::ControlFlow;

use daybook_ledger::account::{Account, AccountEvent};
use daybook_model::repository::LoadError;
use daybook_model::{Aggregate, EventStore, ReadFailed, Revision, StreamName, Timestamp};
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
    /// The account's balance after it.
    pub balance: Decimal,
}

impl Entry {
    /// What it did to the balance, with its sign; zero for what moves no money.
    #[must_use]
    pub fn change(&self) -> Decimal {
        self.event.legs().map_or(Decimal::ZERO, |[own, _]| own.amount)
    }
}

/// Reads the events of one account, in order, page by page.
#[derive(Debug)]
pub struct Walk {
    stream: StreamName,
    account: Account,
    /// The revision of the next event; one beyond `last` at the end.
    next: Revision,
    last: Revision,
}

impl Walk {
    /// The account's balance after what was read so far, before the first page: before it.
    #[must_use]
    pub fn balance(&self) -> Option<Decimal> {
        self.account.state().map(|state| state.balance)
    }

    /// The revision of the next event to be read; none at the end.
    #[must_use]
    pub fn next_revision(&self) -> Option<Revision> {
        (self.next <= self.last).then_some(self.next)
    }

    /// The same, with nothing more to read.
    #[must_use]
    pub fn ended(self) -> Walk {
        Walk { next: self.last.next(), ..self }
    }

    /// Up to `limit` more events; none at the end.
    ///
    /// # Errors
    /// [`LoadError`]: the store cannot read them, or one is not understood.
    pub async fn page(&mut self, ledger: &Ledger, limit: usize) -> Result<Vec<Entry>, LoadError> {
        let limit = limit.min(PAGE_LEN_MAX);
        let mut entries = Vec::new();
        if self.next > self.last || limit == 0 {
            return Ok(entries);
        }
        let (mut wrong, last) = (None, self.last);
        let account = &mut self.account;
        let each = |event: daybook_model::EventView<'_>| {
            let revision = event.revision;
            let event = match Account::decode(event) {
                Ok(event) => event,
                Err(reason) => {
                    wrong = Some((revision, reason));
                    return ControlFlow::Break(());
                }
            };
            account.evolve(&event);
            let balance = account.state().map_or(Decimal::ZERO, |state| state.balance);
            entries.push(Entry { revision, event, balance });
            match entries.len() < limit && revision < last {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        };
        ledger.store().replay(&self.stream, self.next, each).await?;
        if let Some((revision, reason)) = wrong {
            return Err(LoadError::Undecodable { stream: self.stream.clone(), revision, reason });
        }
        self.next = entries.last().map_or(self.last, |entry| entry.revision).next();
        Ok(entries)
    }
}

impl Ledger {
    /// Reads the events of the account in `stream` from revision `from` up to and with `last`.
    ///
    /// # Errors
    /// [`LoadError`]: what was before them cannot be read.
    pub async fn walk(
        &self,
        stream: StreamName,
        from: Revision,
        last: Revision,
    ) -> Result<Walk, LoadError> {
        let account = match from.0.checked_sub(1) {
            Some(before) => self.accounts().load_at(&stream, Revision(before)).await?,
            None => Account::default(),
        };
        Ok(Walk { stream, account, next: from, last })
    }

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

    async fn occurred_at(
        &self,
        stream: &StreamName,
        revision: Revision,
    ) -> Result<Timestamp, LoadError> {
        let failed = |reason: String| ReadFailed { what: stream.to_string(), reason };
        let page = self.store().store().read_event(stream, revision).await;
        let page = page.map_err(|error| failed(error.to_string()))?;
        let missing = || failed(format!("revision {revision} is missing"));
        let event = page.as_ref().and_then(|page| page.last()).ok_or_else(missing)?;
        let event = Account::decode(event).map_err(|reason| LoadError::Undecodable {
            stream: stream.clone(),
            revision,
            reason,
        })?;
        Ok(event.occurred_at())
    }
}
