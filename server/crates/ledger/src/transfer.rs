//! The transfer: money from one account to another, as a saga of three steps.
//!
//! ```text
//!   step             action                                  compensation
//!   debit_sender     TransferDebited  on the sender          TransferRefunded on the sender
//!   check_risk       asks the risk service                   -
//!   credit_receiver  TransferCredited on the receiver        none is ever needed: it is the last
//! ```
//!
//! Between debit and credit the money stands in `clearing`; in a transfer that converts, both legs
//! go through `fx_position`, the debit in the sender's currency and the credit in the receiver's.
//!
//! The stream `ledger.transfer-<id>` of a transfer in which all goes well takes two commits:
//!
//! ```text
//!   1  sender's stream    TransferDebited
//!      transfer's stream  PaymentInitiated, SagaStepCompleted debit_sender
//!   2  receiver's stream  TransferCredited
//!      transfer's stream  SagaStepCompleted check_risk, SagaStepCompleted credit_receiver,
//!                         PaymentCompleted
//! ```
//!
//! A sender that refuses makes one: PaymentInitiated, SagaStepFailed, PaymentRejected. When risk
//! says no, the second is TransferRefunded with SagaStepFailed check_risk, SagaStepCompleted
//! debit_sender (compensation), PaymentRejected.
//!
//! A [`Transfer`] is the fold of its stream. A [`Draft`] is a transfer with events that are decided
//! but not yet written; they go with the next commit.
//!
//! INVARIANT: pure. The orchestrator moves; this says what each move means.

mod draft;
mod event;
mod request;
mod steps;

use std::sync::Arc;
use std::time::Duration;

use daybook_model::{StreamName, Timestamp};
use uuid::Uuid;

use crate::saga::{Definition, Direction, Effect, Progress, Record, Retry, Step};

pub use draft::Draft;
pub use event::{
    Fx, PaymentAbandoned, PaymentCompleted, PaymentEnded, PaymentInitiated, PaymentResumed,
    SagaStepCompleted, SagaStepFailed, TransferEvent, Velocity,
};
pub use request::parse_rate;
pub use request::{
    FxRequest, InvalidTransfer, RATE_MAX, RATE_SCALE_MAX, Rounding, TransferRequest,
};
pub use steps::refusal;

/// The category of all transfers' streams.
pub const TRANSFER_CATEGORY: &str = "ledger.transfer";
/// Bytes of a reason. What is longer is cut: a reason must never be why money is not given back.
pub const REASON_SIZE_MAX: usize = 200;
/// Entries of one transfer's timeline. A saga parked until its deadline makes some tens; of one
/// that is resumed again and again the first entry and the latest are kept.
pub const TIMELINE_LEN_MAX: usize = 256;

/// The place of `debit_sender` in the definition.
pub const DEBIT_SENDER: usize = 0;
/// The place of `check_risk` in the definition.
pub const CHECK_RISK: usize = 1;
/// The place of `credit_receiver` in the definition.
pub const CREDIT_RECEIVER: usize = 2;

/// The saga of a transfer.
pub static PAYMENT_TRANSFER: Definition = Definition {
    name: "payment_transfer",
    timeout: Duration::from_secs(300),
    steps: &[
        Step {
            name: "debit_sender",
            timeout: Duration::from_secs(30),
            // Most of all this is how long giving money back is tried: four to eight minutes.
            retry: Retry {
                attempts_max: 25,
                first: Duration::from_millis(100),
                longest: Duration::from_secs(30),
            },
            effect: Effect::Write,
        },
        Step {
            name: "check_risk",
            timeout: Duration::from_secs(10),
            // A parked transfer asks until its deadline.
            retry: Retry {
                attempts_max: u32::MAX,
                first: Duration::from_millis(200),
                longest: Duration::from_secs(15),
            },
            effect: Effect::Query,
        },
        Step {
            name: "credit_receiver",
            timeout: Duration::from_secs(30),
            retry: Retry {
                attempts_max: 12,
                first: Duration::from_millis(100),
                longest: Duration::from_secs(10),
            },
            effect: Effect::Write,
        },
    ],
};

/// The stream of one transfer.
#[must_use]
pub fn transfer_stream(id: Uuid) -> StreamName {
    StreamName::new(&format!("{TRANSFER_CATEGORY}-{id}")).expect("a valid name")
}

/// The transfer that a stream of [`TRANSFER_CATEGORY`] belongs to.
#[must_use]
pub fn transfer_of_stream(stream: &str) -> Option<Uuid> {
    stream.strip_prefix(TRANSFER_CATEGORY)?.strip_prefix('-')?.parse().ok()
}

/// What names a step's command on its account: the same for every attempt, so that it happens once.
#[must_use]
pub fn step_transaction(transfer: Uuid, step: usize, direction: Direction) -> Uuid {
    let name = PAYMENT_TRANSFER.steps[step].name;
    Uuid::new_v5(&transfer, format!("{name}/{}", direction.as_str()).as_bytes())
}

/// A reason that fits: its stable word, and what else there is to say.
#[must_use]
pub fn reason(word: &str, detail: impl std::fmt::Display) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let mut text: String = format!("{word}: {detail}").chars().map(printable).collect();
    if text.len() > REASON_SIZE_MAX {
        let cut = text.floor_char_boundary(REASON_SIZE_MAX - '…'.len_utf8());
        text.truncate(cut);
        text.push('…');
    }
    text
}

/// One entry of a transfer's timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepOutcome {
    /// The step's name.
    pub step: &'static str,
    /// Taken or taken back.
    pub direction: Direction,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// Why it failed; none: it was done.
    pub failure: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// A transfer: the fold of its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    initiated: Arc<PaymentInitiated>,
    /// Where its saga stands.
    pub progress: Progress,
    /// Why it is, or will be, undone; or what else went wrong with it.
    pub reason: Option<String>,
    /// What was tried, oldest first.
    pub steps: Vec<StepOutcome>,
    /// When the sender was debited.
    pub debited_at: Option<Timestamp>,
    /// How many transfers it had made lately then.
    pub velocity: Velocity,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
}

impl Transfer {
    /// A transfer that has begun.
    #[must_use]
    pub fn begin(initiated: Arc<PaymentInitiated>) -> Transfer {
        let mut progress = Progress::default();
        let started = Record::Started { deadline: initiated.deadline };
        progress.apply(started, initiated.occurred_at);
        Transfer {
            initiated,
            progress,
            reason: None,
            steps: Vec::with_capacity(PAYMENT_TRANSFER.steps.len()),
            debited_at: None,
            velocity: Velocity::default(),
            ended_at: None,
        }
    }

    /// Takes in the next event of the stream; a stream begins with [`PaymentInitiated`].
    pub fn fold(transfer: &mut Option<Transfer>, event: &TransferEvent) {
        match (transfer, event) {
            (none @ None, TransferEvent::Initiated(initiated)) => {
                *none = Some(Transfer::begin(initiated.clone()));
            }
            (Some(transfer), event) => transfer.apply(event),
            (None, _) => {}
        }
    }

    /// What was asked for.
    #[must_use]
    pub fn initiated(&self) -> &PaymentInitiated {
        &self.initiated
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.initiated.transfer_id
    }

    /// Takes in what happened to it.
    pub fn apply(&mut self, event: &TransferEvent) {
        let at = event.occurred_at();
        match event {
            TransferEvent::Initiated(_) => {}
            TransferEvent::StepCompleted(e) => {
                let SagaStepCompleted { step, direction, attempt, velocity, .. } = *e;
                if (step, direction) == (DEBIT_SENDER, Direction::Action) {
                    self.debited_at = Some(at);
                    self.velocity = velocity.unwrap_or_default();
                }
                self.enter(step, direction, attempt, None, at);
                self.progress.apply(Record::StepCompleted { step, direction }, at);
            }
            TransferEvent::StepFailed(e) => {
                let SagaStepFailed { step, direction, attempt, is_final, .. } = *e;
                if is_final && direction == Direction::Action {
                    self.reason = Some(e.reason.clone());
                }
                self.enter(step, direction, attempt, Some(e.reason.clone()), at);
                let retry_at = e.retry_at.filter(|_| !is_final);
                self.progress.apply(Record::StepFailed { step, direction, retry_at }, at);
            }
            TransferEvent::Completed(_) => self.end(Record::Completed, at),
            TransferEvent::Rejected(e) => {
                self.reason = Some(e.reason.clone());
                self.end(Record::Rejected, at);
            }
            TransferEvent::Failed(e) => {
                self.reason = Some(e.reason.clone());
                self.progress.apply(Record::Failed, at);
            }
            TransferEvent::Resumed(_) => self.progress.apply(Record::Resumed, at),
            TransferEvent::Abandoned(e) => {
                self.reason = Some(e.reason.clone());
                self.end(Record::Abandoned, at);
            }
        }
    }

    fn end(&mut self, record: Record, at: Timestamp) {
        self.progress.apply(record, at);
        self.ended_at = Some(at);
    }

    fn enter(
        &mut self,
        step: usize,
        direction: Direction,
        attempt: u32,
        failure: Option<String>,
        at: Timestamp,
    ) {
        if self.steps.len() >= TIMELINE_LEN_MAX {
            self.steps.remove(1);
        }
        let step = PAYMENT_TRANSFER.steps[step].name;
        self.steps.push(StepOutcome { step, direction, attempt, failure, at });
    }
}

#[cfg(test)]
mod tests;
