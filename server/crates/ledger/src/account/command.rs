//! What an account can be asked. Each command carries the id by which a repetition is recognised.

use daybook_model::Timestamp;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::{AccountId, AccountType, TransferId};
use crate::books::ContraAccount;
use crate::currency::Currency;

/// What an account can be asked. Amounts may have any scale; they are checked when it is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountCommand {
    /// Open it.
    Open(OpenAccount),
    /// Pay in cash.
    Deposit(MoveMoney),
    /// Pay out cash.
    Withdraw(MoveMoney),
    /// Take a fee. It needs available money, and does not count for the daily limit.
    ChargeFee(MoveMoney),
    /// Reserve money. It counts for the daily limit now, and not again when it is captured.
    PlaceHold(PlaceHold),
    /// Pay out reserved money.
    CaptureHold(CaptureHold),
    /// Give back what is still reserved.
    ReleaseHold(ReleaseHold),
    /// Let no money out.
    Freeze(FreezeAccount),
    /// Let money out again.
    Unfreeze(UnfreezeAccount),
    /// End it; it must be active, at zero, and without holds.
    Close(CloseAccount),
    /// Set limits.
    ChangeLimits(ChangeLimits),
    /// Mark it as suspect, or say anew why it is.
    Flag(FlagAccount),
    /// Take the mark away.
    Unflag(UnflagAccount),
    /// Let money leave for another account.
    DebitTransfer(MoveTransfer),
    /// Take in money from another account.
    CreditTransfer(MoveTransfer),
    /// Take back money that left for another account.
    RefundTransfer(RefundTransfer),
}

/// Open an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenAccount {
    /// The account.
    pub account_id: AccountId,
    /// What kind of account it shall be.
    pub account_type: AccountType,
    /// What all its amounts are counted in.
    pub currency: Currency,
    /// Whose it is.
    pub owner_id: Uuid,
    /// What is paid in at once; savings need it.
    pub initial_deposit: Option<Decimal>,
    /// How far the balance may go below zero, for checking accounts.
    pub overdraft_limit: Option<Decimal>,
    /// The same for credit accounts, which need it.
    pub credit_limit: Option<Decimal>,
    /// How much may leave it on one UTC day.
    pub daily_withdrawal_limit: Option<Decimal>,
    /// The command's id.
    pub transaction_id: Uuid,
}

/// Move money between the account and one of the ledger's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveMoney {
    /// How much.
    pub amount: Decimal,
    /// Of what.
    pub currency: Currency,
    /// What for; may be empty.
    pub description: String,
    /// The command's id.
    pub transaction_id: Uuid,
}

/// Reserve money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceHold {
    /// The hold.
    pub hold_id: Uuid,
    /// How much.
    pub amount: Decimal,
    /// Of what.
    pub currency: Currency,
    /// What for; may be empty.
    pub description: String,
    /// When it shall end by itself, if it shall.
    pub expires_at: Option<Timestamp>,
    /// The command's id.
    pub transaction_id: Uuid,
}

/// Pay out reserved money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureHold {
    /// The hold.
    pub hold_id: Uuid,
    /// How much; all that is held if absent. The rest stays held.
    pub amount: Option<Decimal>,
    /// What for; may be empty.
    pub description: String,
    /// The command's id.
    pub transaction_id: Uuid,
}

/// Give back reserved money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseHold {
    /// The hold.
    pub hold_id: Uuid,
    /// Why; may be empty.
    pub reason: String,
    /// The command's id.
    pub transaction_id: Uuid,
}

/// Let no money out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreezeAccount {
    /// Why.
    pub reason: String,
    /// By whom.
    pub frozen_by: String,
    /// The command's id.
    pub transaction_id: Uuid,
}

/// Let money out again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfreezeAccount {
    /// By whom.
    pub unfrozen_by: String,
    /// The command's id.
    pub transaction_id: Uuid,
}

/// End an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseAccount {
    /// Why; may be empty.
    pub reason: String,
    /// By whom.
    pub closed_by: String,
    /// The command's id.
    pub transaction_id: Uuid,
}

/// Set limits; what is absent stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeLimits {
    /// How far the balance may go below zero; of a credit account, its credit limit.
    pub overdraft_limit: Option<Decimal>,
    /// How much may leave it on one UTC day.
    pub daily_withdrawal_limit: Option<Decimal>,
    /// By whom.
    pub changed_by: String,
    /// Why.
    pub reason: String,
    /// The command's id.
    pub transaction_id: Uuid,
}

/// Mark an account as suspect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagAccount {
    /// Why.
    pub reason: String,
    /// By whom.
    pub flagged_by: String,
    /// The command's id.
    pub transaction_id: Uuid,
}

/// Mark an account as suspect no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnflagAccount {
    /// By whom.
    pub unflagged_by: String,
    /// The command's id.
    pub transaction_id: Uuid,
}

/// Do one half of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveTransfer {
    /// The transfer.
    pub transfer_id: TransferId,
    /// The account at its other end.
    pub counterparty_id: AccountId,
    /// How much.
    pub amount: Decimal,
    /// Of what.
    pub currency: Currency,
    /// The other leg.
    pub contra: ContraAccount,
    /// What for; may be empty.
    pub description: String,
    /// The step's id.
    pub transaction_id: Uuid,
}

/// Undo a transfer's debit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundTransfer {
    /// The transfer.
    pub transfer_id: TransferId,
    /// The account that the money did not reach.
    pub counterparty_id: AccountId,
    /// How much.
    pub amount: Decimal,
    /// Of what.
    pub currency: Currency,
    /// The other leg: the one of the debit.
    pub contra: ContraAccount,
    /// What for; may be empty.
    pub description: String,
    /// Why it comes back.
    pub reason: String,
    /// When it had left.
    pub debited_at: Timestamp,
    /// The step's id.
    pub transaction_id: Uuid,
}

impl AccountCommand {
    /// The id by which its repetition is recognised.
    #[must_use]
    pub fn transaction_id(&self) -> Uuid {
        match self {
            AccountCommand::Open(c) => c.transaction_id,
            AccountCommand::Deposit(c)
            | AccountCommand::Withdraw(c)
            | AccountCommand::ChargeFee(c) => c.transaction_id,
            AccountCommand::PlaceHold(c) => c.transaction_id,
            AccountCommand::CaptureHold(c) => c.transaction_id,
            AccountCommand::ReleaseHold(c) => c.transaction_id,
            AccountCommand::Freeze(c) => c.transaction_id,
            AccountCommand::Unfreeze(c) => c.transaction_id,
            AccountCommand::Close(c) => c.transaction_id,
            AccountCommand::ChangeLimits(c) => c.transaction_id,
            AccountCommand::Flag(c) => c.transaction_id,
            AccountCommand::Unflag(c) => c.transaction_id,
            AccountCommand::DebitTransfer(c) | AccountCommand::CreditTransfer(c) => {
                c.transaction_id
            }
            AccountCommand::RefundTransfer(c) => c.transaction_id,
        }
    }
}
