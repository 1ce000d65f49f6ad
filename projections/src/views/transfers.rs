//! All transfers, by state, by time and by account. Grows with the log: for PostgreSQL.

use daybook_ledger::saga::{Direction, State};
use daybook_ledger::transfer::{PaymentInitiated, TRANSFER_CATEGORY, TransferEvent};
use daybook_model::EventView;

use super::payments::transfer_id;
use super::{known, number, poison};
use crate::change::Changes;
use crate::feed::Interest;
use crate::projection::{ApplyError, Projection};
use crate::table::{Index, Row, Table, Value};

/// The view.
#[derive(Clone, Copy, Debug)]
pub struct Transfers;

/// The columns of [`TRANSFERS`].
pub mod transfer {
    columns! {
        /// The transfer; the key.
        TRANSFER_ID "transfer_id" Uuid;
        /// running, completed, compensating, compensated, failed or abandoned.
        STATE "state" Text;
        /// When it came to that state: the time of the commit.
        SINCE "since" Time;
        /// Why it is, or was, undone, or failed.
        REASON "reason" Text;
        /// Who pays.
        SENDER "sender_account_id" Uuid;
        /// Who is paid.
        RECEIVER "receiver_account_id" Uuid;
        /// What the sender pays.
        AMOUNT "amount" Decimal;
        /// Of what.
        CURRENCY "currency" Text;
        /// What the receiver gets.
        CREDITED_AMOUNT "credited_amount" Decimal;
        /// Of what.
        CREDITED_CURRENCY "credited_currency" Text;
        /// What for; may be empty.
        DESCRIPTION "description" Text;
        /// When it began: the time of the commit.
        INITIATED_AT "initiated_at" Time;
        /// The position of its first event.
        POSITION "position" Integer;
    }
}

/// Transfers by when they began.
pub static BY_TIME: Index = Index { name: "by_time", columns: &[transfer::INITIATED_AT] };
/// Transfers by state, and by when they came to it.
pub static BY_STATE: Index =
    Index { name: "by_state", columns: &[transfer::STATE, transfer::SINCE] };
/// Transfers by who pays, and by when they began.
pub static BY_SENDER: Index =
    Index { name: "by_sender", columns: &[transfer::SENDER, transfer::INITIATED_AT] };
/// Transfers by who is paid, and by when they began.
pub static BY_RECEIVER: Index =
    Index { name: "by_receiver", columns: &[transfer::RECEIVER, transfer::INITIATED_AT] };

static TABLES: [Table; 1] = [Table {
    name: "transfers",
    columns: transfer::COLUMNS,
    key_len: 1,
    indexes: &[BY_TIME, BY_STATE, BY_SENDER, BY_RECEIVER],
}];

/// One row per transfer.
pub static TRANSFERS: &Table = &TABLES[0];

impl Projection for Transfers {
    fn name(&self) -> &'static str {
        "transfers"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [Table] {
        &TABLES
    }

    fn interest(&self) -> Interest {
        // All but SagaStepCompleted: a step that was taken changes nothing here.
        let types = [
            "PaymentInitiated",
            "SagaStepFailed",
            "PaymentCompleted",
            "PaymentRejected",
            "PaymentFailed",
            "PaymentResumed",
            "PaymentAbandoned",
        ];
        let types = types.map(str::to_owned).to_vec();
        Interest { streams: vec![format!("{TRANSFER_CATEGORY}-")], types }
    }

    fn apply(&self, event: EventView<'_>, changes: &mut Changes<'_>) -> Result<(), ApplyError> {
        let happened = TransferEvent::decode(event).map_err(poison)?;
        let row = match happened {
            TransferEvent::Initiated(_) => None,
            _ => Some(known(changes, TRANSFERS, Value::Uuid(transfer_id(&happened)))?),
        };
        match after(row, &happened, event) {
            Some(row) => changes.put(TRANSFERS, row),
            None => Ok(()),
        }
    }
}

/// The row of one transfer, folded from its own stream: for who has no table of all. None of no
/// events.
///
/// # Errors
/// [`ApplyError::Poison`] if an event cannot be taken in.
pub fn take_in(row: Option<Row>, event: EventView<'_>) -> Result<Option<Row>, ApplyError> {
    Ok(after(row, &TransferEvent::decode(event).map_err(poison)?, event))
}

/// The row after what happened.
fn after(row: Option<Row>, happened: &TransferEvent, event: EventView<'_>) -> Option<Row> {
    let (state, reason) = match happened {
        TransferEvent::Initiated(initiated) => return Some(begun(initiated, event)),
        TransferEvent::StepFailed(e) if e.is_final && e.direction == Direction::Action => {
            (State::Compensating, Some(&e.reason))
        }
        TransferEvent::StepCompleted(_) | TransferEvent::StepFailed(_) => return row,
        TransferEvent::Completed(_) => (State::Completed, None),
        TransferEvent::Rejected(e) => (State::Compensated, Some(&e.reason)),
        TransferEvent::Failed(e) => (State::Failed, Some(&e.reason)),
        TransferEvent::Resumed(_) => (State::Compensating, None),
        TransferEvent::Abandoned(e) => (State::Abandoned, Some(&e.reason)),
    };
    let mut row = row?;
    row[transfer::STATE] = state.as_str().into();
    row[transfer::SINCE] = event.time.into();
    if let Some(reason) = reason {
        row[transfer::REASON] = reason.as_str().into();
    }
    Some(row)
}

fn begun(initiated: &PaymentInitiated, event: EventView<'_>) -> Row {
    let (credited_amount, credited_currency) = initiated.credited();
    vec![
        initiated.transfer_id.into(),
        State::Running.as_str().into(),
        event.time.into(),
        Value::Null,
        initiated.sender_account_id.into(),
        initiated.receiver_account_id.into(),
        initiated.amount.into(),
        initiated.currency.code().into(),
        credited_amount.into(),
        credited_currency.code().into(),
        initiated.description.as_str().into(),
        event.time.into(),
        number(event.position.0),
    ]
}
