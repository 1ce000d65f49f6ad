//! What every user remembers of what it did and was told, to be compared with the log.
//!
//! INVARIANT: noted when it is known, by the one who knows it: an append or a transfer is in the
//! journal before it is sent, and is told only what an answer says.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use daybook_model::NewEvent;
use uuid::Uuid;

/// Findings of one kind that are told in words; all are counted.
const FINDINGS_MAX: usize = 10;

/// One append.
#[derive(Clone, Debug)]
pub struct Append {
    /// Who sends it: one user's appends go one after the other.
    pub user: u32,
    /// The stream.
    pub stream: String,
    /// The events.
    pub events: Vec<NewEvent>,
    /// The last event's revision and position, once it was acknowledged.
    pub told: Option<(u64, u64)>,
}

/// What a sender was told of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The money has arrived.
    Completed,
    /// It has not left, or come back.
    Compensated,
}

/// One transfer.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Its id.
    pub id: Uuid,
    /// Index of the sender's account.
    pub from: usize,
    /// Index of the receiver's account.
    pub to: usize,
    /// How much, in cents.
    pub cents: i64,
    /// Its final state, once it was told.
    pub told: Option<End>,
}

/// What one subscriber saw.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// Who.
    pub name: &'static str,
    /// The ids of the events, by position.
    pub ids: Vec<Uuid>,
    /// What should not have been.
    pub findings: Findings,
    /// How often it began again.
    pub begun: u64,
}

/// What is wrong: how many things, and the first of them in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many.
    pub count: u64,
    /// The first.
    pub texts: Vec<String>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.texts.len() < FINDINGS_MAX {
            self.texts.push(text());
        }
    }
}

/// Everything of one experiment.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Accounts, by index.
    pub accounts: Vec<Uuid>,
    /// What each was opened with, in cents.
    pub opened_cents: i64,
    /// Appends in the order in which they were begun.
    pub appends: Vec<Append>,
    /// Transfers, likewise.
    pub transfers: Vec<Transfer>,
    /// What users were told that can never be right.
    pub oddities: Findings,
}

/// The memory that all users share.
#[derive(Debug, Default)]
pub struct Journal {
    memory: Mutex<Memory>,
}

impl Journal {
    fn with<T>(&self, act: impl FnOnce(&mut Memory) -> T) -> T {
        act(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An account was opened; all are opened with the same.
    pub fn opened(&self, account: Uuid, cents: i64) {
        self.with(|memory| {
            memory.opened_cents = cents;
            memory.accounts.push(account);
        });
    }

    /// An append will be sent. Answers with its number.
    pub fn appending(&self, append: Append) -> usize {
        self.with(|memory| {
            memory.appends.push(append);
            memory.appends.len() - 1
        })
    }

    /// An append was acknowledged.
    pub fn appended(&self, number: usize, revision: u64, position: u64) {
        self.with(|memory| memory.appends[number].told = Some((revision, position)));
    }

    /// A transfer will be sent. Answers with its number.
    pub fn transferring(&self, transfer: Transfer) -> usize {
        self.with(|memory| {
            memory.transfers.push(transfer);
            memory.transfers.len() - 1
        })
    }

    /// A transfer came to its end.
    pub fn transferred(&self, number: usize, end: End) {
        self.with(|memory| memory.transfers[number].told = Some(end));
    }

    /// A user was told what can never be right.
    pub fn odd(&self, text: impl FnOnce() -> String) {
        self.with(|memory| memory.oddities.add(text));
    }

    /// All of it so far.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.with(|memory| memory.clone())
    }
}

/// The data of an event: `size` bytes that its id decides.
#[must_use]
pub fn data_of(id: Uuid, size: usize) -> Bytes {
    let seed = id.into_bytes();
    seed.iter().copied().cycle().take(size).collect::<Vec<u8>>().into()
}
