//! Payments at a glance: those that are not over, what became of the others day by day, and how
//! many are in which state.
//!
//! ```text
//!   PaymentInitiated ──> sagas: a row      daily: initiated      states: running
//!   steps            ──> sagas: its step
//!   PaymentCompleted ──> sagas: no row     daily: completed      states: completed
//!   PaymentRejected  ──> sagas: no row     daily: rejected       states: compensated
//!   PaymentFailed    ──> sagas: it stays   daily: failed         states: failed
//!   PaymentAbandoned ──> sagas: no row     daily: abandoned      states: abandoned
//! ```
//!
//! `daily` counts what happened on a UTC day: a payment that failed and was rejected after somebody
//! resumed it has both. Its sums are of what senders pay, in their currency.

use daybook_ledger::saga::{Direction, Effect, State};
use daybook_ledger::time::utc_day;
use daybook_ledger::transfer::{
    PAYMENT_TRANSFER, PaymentInitiated, SagaStepCompleted, SagaStepFailed, TRANSFER_CATEGORY,
    TransferEvent,
};
use daybook_model::{EventView, Timestamp};
use uuid::Uuid;

use super::{add, count, known, number, poison, read};
use crate::change::Changes;
use crate::feed::Interest;
use crate::projection::{ApplyError, Projection};
use crate::table::{Index, Row, Table, Value};

/// The view.
#[derive(Clone, Copy, Debug)]
pub struct Payments;

/// The columns of [`SAGAS`].
pub mod saga {
    columns! {
        /// The transfer; the key.
        TRANSFER_ID "transfer_id" Uuid;
        /// running, compensating or failed.
        STATE "state" Text;
        /// When it came to that state: the time of the commit.
        SINCE "since" Time;
        /// The step that is to be taken, or taken back; null if none is.
        STEP "step" Text;
        /// Which attempt at it is next.
        ATTEMPT "attempt" Integer;
        /// When that begins, if it is after a pause.
        RETRY_AT "retry_at" Time;
        /// Why it is being undone, or failed.
        REASON "reason" Text;
        /// Who pays.
        SENDER "sender_account_id" Uuid;
        /// Who is paid.
        RECEIVER "receiver_account_id" Uuid;
        /// What the sender pays.
        AMOUNT "amount" Decimal;
        /// Of what.
        CURRENCY "currency" Text;
        /// When it began: the time of the commit.
        INITIATED_AT "initiated_at" Time;
        /// When it is undone unless it is done.
        DEADLINE "deadline" Time;
        /// The position of its last event.
        POSITION "position" Integer;
    }
}

/// The columns of [`DAILY`].
pub mod daily {
    columns! {
        /// The first moment of the UTC day; of the key.
        DAY "day" Time;
        /// What senders pay in; of the key.
        CURRENCY "currency" Text;
        /// initiated, completed, rejected, failed or abandoned; of the key.
        OUTCOME "outcome" Text;
        /// How many.
        PAYMENTS "payments" Integer;
        /// How much all of them.
        AMOUNT "amount" Decimal;
    }
}

/// The columns of [`STATES`].
pub mod state {
    columns! {
        /// The state; the key.
        STATE "state" Text;
        /// Transfers that are in it now.
        TRANSFERS "transfers" Integer;
    }
}

/// Unfinished transfers by state, and by when they came to it.
pub static BY_STATE: Index = Index { name: "by_state", columns: &[saga::STATE, saga::SINCE] };

static TABLES: [Table; 3] = [
    Table { name: "sagas", columns: saga::COLUMNS, key_len: 1, indexes: &[BY_STATE] },
    Table { name: "daily", columns: daily::COLUMNS, key_len: 3, indexes: &[] },
    Table { name: "states", columns: state::COLUMNS, key_len: 1, indexes: &[] },
];

/// One row per transfer that is under way, or has failed.
pub static SAGAS: &Table = &TABLES[0];
/// What happened to payments, by day, currency and outcome.
pub static DAILY: &Table = &TABLES[1];
/// How many transfers are in which state.
pub static STATES: &Table = &TABLES[2];

/// Nanoseconds of a day.
const DAY_NS: i64 = 24 * 3600 * 1_000_000_000;

impl Projection for Payments {
    fn name(&self) -> &'static str {
        "payments"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [Table] {
        &TABLES
    }

    fn interest(&self) -> Interest {
        Interest { streams: vec![format!("{TRANSFER_CATEGORY}-")], types: Vec::new() }
    }

    fn apply(&self, event: EventView<'_>, changes: &mut Changes<'_>) -> Result<(), ApplyError> {
        let happened = TransferEvent::decode(event).map_err(poison)?;
        if let TransferEvent::Initiated(initiated) = &happened {
            let row = begun(initiated, event);
            tally(changes, "initiated", &row, initiated.occurred_at)?;
            move_state(changes, None, State::Running)?;
            return changes.put(SAGAS, row);
        }
        let mut row = known(changes, SAGAS, Value::Uuid(transfer_id(&happened)))?;
        let before = state_of(&row)?;
        let (after, outcome) = step(&mut row, &happened, before);
        if let Some(outcome) = outcome {
            tally(changes, outcome, &row, happened.occurred_at())?;
        }
        if after != before {
            move_state(changes, Some(before), after)?;
            row[saga::STATE] = after.as_str().into();
            row[saga::SINCE] = event.time.into();
        }
        if after.is_over() {
            return changes.delete(SAGAS, SAGAS.key(&row));
        }
        row[saga::POSITION] = number(event.position.0);
        changes.put(SAGAS, row)
    }
}

/// The transfer that an event is of.
pub(super) fn transfer_id(happened: &TransferEvent) -> Uuid {
    match happened {
        TransferEvent::Initiated(e) => e.transfer_id,
        TransferEvent::StepCompleted(e) => e.transfer_id,
        TransferEvent::StepFailed(e) => e.transfer_id,
        TransferEvent::Completed(e) => e.transfer_id,
        TransferEvent::Rejected(e) | TransferEvent::Failed(e) => e.transfer_id,
        TransferEvent::Resumed(e) => e.transfer_id,
        TransferEvent::Abandoned(e) => e.transfer_id,
    }
}

fn begun(initiated: &PaymentInitiated, event: EventView<'_>) -> Row {
    vec![
        initiated.transfer_id.into(),
        State::Running.as_str().into(),
        event.time.into(),
        step_name(0),
        Value::Integer(1),
        Value::Null,
        Value::Null,
        initiated.sender_account_id.into(),
        initiated.receiver_account_id.into(),
        initiated.amount.into(),
        initiated.currency.code().into(),
        event.time.into(),
        initiated.deadline.into(),
        number(event.position.0),
    ]
}

fn step_name(step: usize) -> Value {
    PAYMENT_TRANSFER.steps.get(step).map(|step| step.name).into()
}

/// The write that is to be undone first when all before `step` was done.
fn to_undo(step: usize) -> Value {
    let mut done = PAYMENT_TRANSFER.steps[..step].iter().rev();
    done.find(|step| step.effect == Effect::Write).map(|step| step.name).into()
}

/// Changes a saga's row by what happened. Its state from now on, and what `daily` counts.
fn step(row: &mut Row, happened: &TransferEvent, before: State) -> (State, Option<&'static str>) {
    match happened {
        TransferEvent::Initiated(_) => (before, None),
        TransferEvent::StepCompleted(SagaStepCompleted { step, direction, .. }) => {
            let next = match direction {
                Direction::Action => step_name(step + 1),
                Direction::Compensation => to_undo(*step),
            };
            turn_to(row, next);
            (before, None)
        }
        TransferEvent::StepFailed(failed) => (step_failed(row, failed, before), None),
        TransferEvent::Completed(_) => (State::Completed, Some("completed")),
        TransferEvent::Rejected(_) => (State::Compensated, Some("rejected")),
        TransferEvent::Failed(ended) => {
            row[saga::REASON] = ended.reason.as_str().into();
            (State::Failed, Some("failed"))
        }
        TransferEvent::Resumed(_) => {
            let step = row[saga::STEP].clone();
            turn_to(row, step);
            (State::Compensating, None)
        }
        TransferEvent::Abandoned(_) => (State::Abandoned, Some("abandoned")),
    }
}

fn step_failed(row: &mut Row, failed: &SagaStepFailed, before: State) -> State {
    let SagaStepFailed { step, direction, is_final, ref reason, retry_at, .. } = *failed;
    if !is_final {
        count(row, saga::ATTEMPT, 1);
        row[saga::RETRY_AT] = retry_at.into();
        return before;
    }
    row[saga::REASON] = reason.as_str().into();
    row[saga::RETRY_AT] = Value::Null;
    match direction {
        Direction::Action => {
            turn_to(row, to_undo(step));
            State::Compensating
        }
        // That it has failed is recorded as an event of its own.
        Direction::Compensation => before,
    }
}

/// The first attempt at `step` is next.
fn turn_to(row: &mut Row, step: Value) {
    row[saga::STEP] = step;
    row[saga::ATTEMPT] = Value::Integer(1);
    row[saga::RETRY_AT] = Value::Null;
}

fn state_of(row: &Row) -> Result<State, ApplyError> {
    let name = read::text(row, saga::STATE).unwrap_or_default();
    let open = [State::Running, State::Compensating, State::Failed];
    let found = open.into_iter().find(|state| state.as_str() == name);
    found.ok_or_else(|| poison(format!("'{name}' is no state of an unfinished transfer")))
}

/// One transfer is in another state.
fn move_state(changes: &mut Changes<'_>, from: Option<State>, to: State) -> Result<(), ApplyError> {
    for (state, by) in from.map(|from| (from, -1)).into_iter().chain([(to, 1)]) {
        let key = [Value::from(state.as_str())];
        let mut row = match changes.get(STATES, &key)? {
            Some(row) => row.clone(),
            None => vec![state.as_str().into(), Value::Integer(0)],
        };
        count(&mut row, state::TRANSFERS, by);
        changes.put(STATES, row)?;
    }
    Ok(())
}

/// Counts what became of the payment in `saga` at `at`.
fn tally(
    changes: &mut Changes<'_>,
    outcome: &str,
    saga: &Row,
    at: Timestamp,
) -> Result<(), ApplyError> {
    let day = Timestamp(utc_day(at).saturating_mul(DAY_NS));
    let currency = saga[saga::CURRENCY].clone();
    let key = [Value::Time(day), currency, Value::from(outcome)];
    let mut row = match changes.get(DAILY, &key)? {
        Some(row) => row.clone(),
        None => {
            let mut row = key.to_vec();
            row.extend([Value::Integer(0), Value::Null]);
            row
        }
    };
    count(&mut row, daily::PAYMENTS, 1);
    add(&mut row, daily::AMOUNT, read::decimal(saga, saga::AMOUNT).unwrap_or_default())?;
    changes.put(DAILY, row)
}
