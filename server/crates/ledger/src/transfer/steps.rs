//! What each step asks of an account, and what an account's refusal means for the transfer.

use daybook_model::StreamName;

use super::{CREDIT_RECEIVER, DEBIT_SENDER, Transfer, reason, step_transaction};
use crate::account::{
    AccountCommand, AccountRejection, MoveTransfer, RefundTransfer, account_stream,
};
use crate::books::ContraAccount;
use crate::saga::Direction;

impl Transfer {
    /// The account and the command of a step that writes; none if there is nothing to write.
    #[must_use]
    pub fn command(
        &self,
        step: usize,
        direction: Direction,
    ) -> Option<(StreamName, AccountCommand)> {
        let initiated = self.initiated();
        let transfer_id = initiated.transfer_id;
        let (sender, receiver) = (initiated.sender_account_id, initiated.receiver_account_id);
        let contra = match initiated.fx {
            Some(_) => ContraAccount::FxPosition,
            None => ContraAccount::Clearing,
        };
        let description = initiated.description.clone();
        let transaction_id = step_transaction(transfer_id, step, direction);
        match (step, direction) {
            (DEBIT_SENDER, Direction::Action) => {
                let command = AccountCommand::DebitTransfer(MoveTransfer {
                    transfer_id,
                    counterparty_id: receiver,
                    amount: initiated.amount,
                    currency: initiated.currency,
                    contra,
                    description,
                    transaction_id,
                });
                Some((account_stream(sender), command))
            }
            (DEBIT_SENDER, Direction::Compensation) => {
                let command = AccountCommand::RefundTransfer(RefundTransfer {
                    transfer_id,
                    counterparty_id: receiver,
                    amount: initiated.amount,
                    currency: initiated.currency,
                    contra,
                    description,
                    reason: self.reason.clone().unwrap_or_default(),
                    debited_at: self.debited_at.unwrap_or(initiated.occurred_at),
                    transaction_id,
                });
                Some((account_stream(sender), command))
            }
            (CREDIT_RECEIVER, Direction::Action) => {
                let (amount, currency) = initiated.credited();
                let command = AccountCommand::CreditTransfer(MoveTransfer {
                    transfer_id,
                    counterparty_id: sender,
                    amount,
                    currency,
                    contra,
                    description,
                    transaction_id,
                });
                Some((account_stream(receiver), command))
            }
            _ => None,
        }
    }
}

/// Why a step was refused, for the record: the account's word, except that of an account that does
/// not exist it says which of the two it is.
#[must_use]
pub fn refusal(step: usize, rejection: &AccountRejection) -> String {
    let word = match (rejection, step) {
        (AccountRejection::AccountNotFound, CREDIT_RECEIVER) => "receiver_not_found",
        (AccountRejection::AccountNotFound, _) => "sender_not_found",
        (rejection, _) => rejection.word(),
    };
    reason(word, rejection)
}
