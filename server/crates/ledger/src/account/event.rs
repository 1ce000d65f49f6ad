//! What happens to an account. The names and fields are those of the stored JSON
//! (`docs/ledger-events.md`); a stored event means the same for ever.

mod about;
mod fields;

use daybook_model::Timestamp;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::AccountId;
use crate::books::{AccountClass, Leg};

pub use about::About;
pub use fields::{
    AccountClosed, AccountFlagged, AccountFrozen, AccountOpened, AccountUnflagged, AccountUnfrozen,
    HoldCaptured, HoldExpired, HoldPlaced, HoldReleased, LimitsChanged, MoneyMoved, TransferLeg,
    TransferRefunded,
};

/// What happened to an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountEvent {
    /// It was opened, perhaps with money paid in.
    AccountOpened(AccountOpened),
    /// Cash was paid in.
    MoneyDeposited(MoneyMoved),
    /// Cash was paid out.
    MoneyWithdrawn(MoneyMoved),
    /// A fee was taken.
    FeeCharged(MoneyMoved),
    /// Money left for another account.
    TransferDebited(TransferLeg),
    /// Money came from another account.
    TransferCredited(TransferLeg),
    /// Money that had left for another account came back.
    TransferRefunded(TransferRefunded),
    /// Money was reserved.
    HoldPlaced(HoldPlaced),
    /// Reserved money, or a part of it, was paid out.
    HoldCaptured(HoldCaptured),
    /// What was still reserved was given back.
    HoldReleased(HoldReleased),
    /// What was still reserved when its time had come was given back.
    HoldExpired(HoldExpired),
    /// From now on money goes in but not out.
    AccountFrozen(AccountFrozen),
    /// It is active again.
    AccountUnfrozen(AccountUnfrozen),
    /// It ended.
    AccountClosed(AccountClosed),
    /// Its limits were set.
    LimitsChanged(LimitsChanged),
    /// Its owner is suspected of something; what follows of it is for the risk rules to say.
    AccountFlagged(AccountFlagged),
    /// It is suspected no more.
    AccountUnflagged(AccountUnflagged),
}

/// Does the same to whichever event it is.
macro_rules! each {
    ($event:expr, $inner:ident => $result:expr) => {
        match $event {
            AccountEvent::AccountOpened($inner) => $result,
            AccountEvent::MoneyDeposited($inner) => $result,
            AccountEvent::MoneyWithdrawn($inner) => $result,
            AccountEvent::FeeCharged($inner) => $result,
            AccountEvent::TransferDebited($inner) => $result,
            AccountEvent::TransferCredited($inner) => $result,
            AccountEvent::TransferRefunded($inner) => $result,
            AccountEvent::HoldPlaced($inner) => $result,
            AccountEvent::HoldCaptured($inner) => $result,
            AccountEvent::HoldReleased($inner) => $result,
            AccountEvent::HoldExpired($inner) => $result,
            AccountEvent::AccountFrozen($inner) => $result,
            AccountEvent::AccountUnfrozen($inner) => $result,
            AccountEvent::AccountClosed($inner) => $result,
            AccountEvent::LimitsChanged($inner) => $result,
            AccountEvent::AccountFlagged($inner) => $result,
            AccountEvent::AccountUnflagged($inner) => $result,
        }
    };
}
pub(super) use each;

impl AccountEvent {
    /// Its name in the store.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        match self {
            AccountEvent::AccountOpened(_) => "AccountOpened",
            AccountEvent::MoneyDeposited(_) => "MoneyDeposited",
            AccountEvent::MoneyWithdrawn(_) => "MoneyWithdrawn",
            AccountEvent::FeeCharged(_) => "FeeCharged",
            AccountEvent::TransferDebited(_) => "TransferDebited",
            AccountEvent::TransferCredited(_) => "TransferCredited",
            AccountEvent::TransferRefunded(_) => "TransferRefunded",
            AccountEvent::HoldPlaced(_) => "HoldPlaced",
            AccountEvent::HoldCaptured(_) => "HoldCaptured",
            AccountEvent::HoldReleased(_) => "HoldReleased",
            AccountEvent::HoldExpired(_) => "HoldExpired",
            AccountEvent::AccountFrozen(_) => "AccountFrozen",
            AccountEvent::AccountUnfrozen(_) => "AccountUnfrozen",
            AccountEvent::AccountClosed(_) => "AccountClosed",
            AccountEvent::LimitsChanged(_) => "LimitsChanged",
            AccountEvent::AccountFlagged(_) => "AccountFlagged",
            AccountEvent::AccountUnflagged(_) => "AccountUnflagged",
        }
    }

    /// The account it happened to.
    #[must_use]
    pub fn account_id(&self) -> AccountId {
        each!(self, event => event.account_id)
    }

    /// When it happened, by the clock that decided it.
    #[must_use]
    pub fn occurred_at(&self) -> Timestamp {
        each!(self, event => event.occurred_at)
    }

    /// The command it was decided for; none if it came along with another.
    #[must_use]
    pub fn transaction_id(&self) -> Option<Uuid> {
        match self {
            AccountEvent::HoldExpired(_) => None,
            AccountEvent::AccountOpened(e) => Some(e.transaction_id),
            AccountEvent::MoneyDeposited(e)
            | AccountEvent::MoneyWithdrawn(e)
            | AccountEvent::FeeCharged(e) => Some(e.transaction_id),
            AccountEvent::TransferDebited(e) | AccountEvent::TransferCredited(e) => {
                Some(e.transaction_id)
            }
            AccountEvent::TransferRefunded(e) => Some(e.transaction_id),
            AccountEvent::HoldPlaced(e) => Some(e.transaction_id),
            AccountEvent::HoldCaptured(e) => Some(e.transaction_id),
            AccountEvent::HoldReleased(e) => Some(e.transaction_id),
            AccountEvent::AccountFrozen(e) => Some(e.transaction_id),
            AccountEvent::AccountUnfrozen(e) => Some(e.transaction_id),
            AccountEvent::AccountClosed(e) => Some(e.transaction_id),
            AccountEvent::LimitsChanged(e) => Some(e.transaction_id),
            AccountEvent::AccountFlagged(e) => Some(e.transaction_id),
            AccountEvent::AccountUnflagged(e) => Some(e.transaction_id),
        }
    }

    /// The account's balance after it; none if it is of a kind that never moves money. It is for
    /// who reads a part of a history: the account's state is counted from the legs.
    #[must_use]
    pub fn balance(&self) -> Option<Decimal> {
        match self {
            AccountEvent::AccountOpened(e) => Some(e.initial_balance),
            AccountEvent::MoneyDeposited(e)
            | AccountEvent::MoneyWithdrawn(e)
            | AccountEvent::FeeCharged(e) => Some(e.balance),
            AccountEvent::TransferDebited(e) | AccountEvent::TransferCredited(e) => Some(e.balance),
            AccountEvent::TransferRefunded(e) => Some(e.balance),
            AccountEvent::HoldCaptured(e) => Some(e.balance),
            AccountEvent::HoldPlaced(_)
            | AccountEvent::HoldReleased(_)
            | AccountEvent::HoldExpired(_)
            | AccountEvent::AccountFrozen(_)
            | AccountEvent::AccountUnfrozen(_)
            | AccountEvent::AccountClosed(_)
            | AccountEvent::LimitsChanged(_)
            | AccountEvent::AccountFlagged(_)
            | AccountEvent::AccountUnflagged(_) => None,
        }
    }

    /// Its two legs, the customer's first; none if no money moved. They sum to zero.
    #[must_use]
    pub fn legs(&self) -> Option<[Leg; 2]> {
        let (amount, currency, contra) = match self {
            AccountEvent::AccountOpened(e) if e.initial_balance.is_zero() => return None,
            AccountEvent::AccountOpened(e) => (e.initial_balance, e.currency, e.contra),
            AccountEvent::MoneyDeposited(e) => (e.amount, e.currency, e.contra),
            AccountEvent::MoneyWithdrawn(e) | AccountEvent::FeeCharged(e) => {
                (-e.amount, e.currency, e.contra)
            }
            AccountEvent::TransferDebited(e) => (-e.amount, e.currency, e.contra),
            AccountEvent::TransferCredited(e) => (e.amount, e.currency, e.contra),
            AccountEvent::TransferRefunded(e) => (e.amount, e.currency, e.contra),
            AccountEvent::HoldCaptured(e) => (-e.amount, e.currency, e.contra),
            AccountEvent::HoldPlaced(_)
            | AccountEvent::HoldReleased(_)
            | AccountEvent::HoldExpired(_)
            | AccountEvent::AccountFrozen(_)
            | AccountEvent::AccountUnfrozen(_)
            | AccountEvent::AccountClosed(_)
            | AccountEvent::LimitsChanged(_)
            | AccountEvent::AccountFlagged(_)
            | AccountEvent::AccountUnflagged(_) => return None,
        };
        Some([
            Leg { class: AccountClass::Customers, currency, amount },
            Leg { class: contra.class(), currency, amount: -amount },
        ])
    }
}
