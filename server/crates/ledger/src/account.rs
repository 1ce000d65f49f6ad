//! An account: what is in it, what may happen to it, and what did.
//!
//! ```text
//!              decide(state, command, now)                     evolve(state, event)
//!   Deposit 10.00 USD ──────────────────> MoneyDeposited 10.00 ──────────────────> balance + 10.00
//!                     └─> or a rejection: currency_mismatch      customers +10.00, cash -10.00
//!
//!   available = balance + overdraft limit - open holds       never below zero
//! ```
//!
//! Statuses: `active` takes and gives; `frozen` takes only (deposits, credits, refunds; holds may
//! be released); `closed` is the end. Who opens an account names its id, currency and owner, and
//! none of these change.
//!
//! Time is the account's own: the time of a decision is `now`, or that of its last event if `now`
//! is before it. Days and hours are UTC's and fixed, not sliding: at midnight the daily limit is
//! whole again, and what left on a day and came back on it (a refund, a release, an expiry) does
//! not count. A hold that has expired reserves nothing from that moment on; the event that says so
//! comes before the events of the next command that is accepted.
//!
//! INVARIANTS: knows no IO, no clock, no async; `decide` and `evolve` are total; `evolve` uses
//! only what stands in events, so that a replay gives what the live run gave; every command that
//! is accepted has one event of its own, and the balance never goes below -overdraft limit.

mod codec;
mod command;
mod decide;
mod event;
pub mod limits;
mod rejection;
mod state;

use bytes::Bytes;
use daybook_model::{Aggregate, EventView, StreamName, Timestamp, Undecodable};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use command::{
    AccountCommand, CaptureHold, ChangeLimits, CloseAccount, FlagAccount, FreezeAccount, MoveMoney,
    MoveTransfer, OpenAccount, PlaceHold, RefundTransfer, ReleaseHold, UnflagAccount,
    UnfreezeAccount,
};
pub use event::{
    About, AccountClosed, AccountEvent, AccountFlagged, AccountFrozen, AccountOpened,
    AccountUnflagged, AccountUnfrozen, HoldCaptured, HoldExpired, HoldPlaced, HoldReleased,
    LimitsChanged, MoneyMoved, TransferLeg, TransferRefunded,
};
pub use rejection::AccountRejection;
pub use state::{AccountState, Flag, Hold};

/// An account's id; its stream's name ends with it.
pub type AccountId = Uuid;
/// A transfer's id.
pub type TransferId = Uuid;

/// The category of all accounts' streams.
pub const ACCOUNT_CATEGORY: &str = "ledger.account";

/// The stream of the account `id`.
#[must_use]
pub fn account_stream(id: AccountId) -> StreamName {
    StreamName::new(&format!("{ACCOUNT_CATEGORY}-{id}")).expect("a short name of plain letters")
}

/// What kind of account it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountType {
    /// For every day; may be overdrawn, by 500 major units if nothing else is said.
    Checking,
    /// Opened with at least 100 major units; never overdrawn.
    Savings,
    /// Money lent, up to a credit limit.
    Credit,
}

/// Whether money may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountStatus {
    /// In and out.
    Active,
    /// In, not out.
    Frozen,
    /// Neither, for ever.
    Closed,
}

impl AccountType {
    /// Its name in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AccountType::Checking => "checking",
            AccountType::Savings => "savings",
            AccountType::Credit => "credit",
        }
    }
}

impl AccountStatus {
    /// Its name in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AccountStatus::Active => "active",
            AccountStatus::Frozen => "frozen",
            AccountStatus::Closed => "closed",
        }
    }
}

/// An account, or the place of one that nobody opened yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Account {
    state: Option<AccountState>,
}

impl Account {
    /// What it is like; none if nobody opened it.
    #[must_use]
    pub fn state(&self) -> Option<&AccountState> {
        self.state.as_ref()
    }
}

impl Aggregate for Account {
    const KIND: &'static str = "account";
    const SCHEMA: u32 = 1;

    type Command = AccountCommand;
    type Event = AccountEvent;
    type Rejection = AccountRejection;

    fn decide(
        &self,
        command: &AccountCommand,
        now: Timestamp,
    ) -> Result<Vec<AccountEvent>, AccountRejection> {
        decide::decide(self.state(), command, now)
    }

    fn evolve(&mut self, event: &AccountEvent) {
        match (&mut self.state, event) {
            (Some(state), event) => state.apply(event),
            (none, AccountEvent::AccountOpened(opened)) => *none = Some(AccountState::new(opened)),
            // `decide` lets nothing happen to an account before it is opened.
            (None, _) => {}
        }
    }

    fn encode(event: &AccountEvent) -> (&'static str, Bytes) {
        codec::encode(event)
    }

    fn decode(event: EventView<'_>) -> Result<AccountEvent, Undecodable> {
        codec::decode(event.event_type, event.data)
    }

    fn to_snapshot(&self) -> Bytes {
        codec::to_json(self)
    }

    fn from_snapshot(data: &[u8]) -> Option<Account> {
        serde_json::from_slice(data).ok()
    }
}
