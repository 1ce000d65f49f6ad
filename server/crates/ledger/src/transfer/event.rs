//! What happens to a transfer, and how it is stored: JSON with these fields.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use daybook_model::{EventView, Timestamp, Undecodable};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Rounding;
use crate::currency::Currency;
use crate::saga::Direction;
use crate::time::rfc3339;

/// Bytes that most events fit in.
const EVENT_SIZE: usize = 512;

/// What happened to a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferEvent {
    /// `PaymentInitiated`
    Initiated(Arc<PaymentInitiated>),
    /// `SagaStepCompleted`
    StepCompleted(SagaStepCompleted),
    /// `SagaStepFailed`
    StepFailed(SagaStepFailed),
    /// `PaymentCompleted`
    Completed(PaymentCompleted),
    /// `PaymentRejected`
    Rejected(PaymentEnded),
    /// `PaymentFailed`
    Failed(PaymentEnded),
    /// `PaymentResumed`
    Resumed(PaymentResumed),
    /// `PaymentAbandoned`
    Abandoned(PaymentAbandoned),
}

/// Somebody asked for a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentInitiated {
    /// The transfer.
    pub transfer_id: Uuid,
    /// The saga's definition.
    pub saga: Cow<'static, str>,
    /// Who pays.
    pub sender_account_id: Uuid,
    /// Who is paid.
    pub receiver_account_id: Uuid,
    /// What the sender pays.
    pub amount: Decimal,
    /// Of what; the sender's currency.
    pub currency: Currency,
    /// What for, in its user's words; may be empty.
    pub description: String,
    /// How it converts; null if it does not.
    pub fx: Option<Fx>,
    /// When it is undone unless it is done.
    #[serde(with = "rfc3339")]
    pub deadline: Timestamp,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// A conversion, as it was quoted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fx {
    /// What one unit of the sender's currency is worth in the receiver's.
    pub rate: Decimal,
    /// The receiver's currency.
    pub currency: Currency,
    /// What the receiver gets: amount × rate, rounded.
    pub amount: Decimal,
    /// How it was rounded.
    pub rounding: Rounding,
}

/// A step was taken, or taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SagaStepCompleted {
    /// The transfer.
    pub transfer_id: Uuid,
    /// The step.
    #[serde(with = "step_name")]
    pub step: usize,
    /// Taken or taken back.
    pub direction: Direction,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// Of the sender's debit: how many transfers it then had made lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub velocity: Option<Velocity>,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// How many transfers left an account lately, this one included, as it was debited. Recorded, so
/// that the answer of a rule does not hang on when the rule is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Velocity {
    /// In the UTC hour of the debit.
    pub hour: u32,
    /// On the UTC day of the debit.
    pub day: u32,
}

/// An attempt at a step failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SagaStepFailed {
    /// The transfer.
    pub transfer_id: Uuid,
    /// The step.
    #[serde(with = "step_name")]
    pub step: usize,
    /// Taking it or taking it back.
    pub direction: Direction,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// Why; begins with a stable word.
    pub reason: String,
    /// Whether no other attempt follows.
    pub is_final: bool,
    /// When the next attempt begins.
    #[serde(with = "rfc3339::option", default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// The receiver has the money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentCompleted {
    /// The transfer.
    pub transfer_id: Uuid,
    /// Who paid.
    pub sender_account_id: Uuid,
    /// Who was paid.
    pub receiver_account_id: Uuid,
    /// What the sender paid.
    pub amount: Decimal,
    /// Of what.
    pub currency: Currency,
    /// What the receiver got.
    pub credited_amount: Decimal,
    /// Of what.
    pub credited_currency: Currency,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// It ended otherwise: `PaymentRejected`, all is as it was; `PaymentFailed`, somebody must look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentEnded {
    /// The transfer.
    pub transfer_id: Uuid,
    /// Why; begins with a stable word.
    pub reason: String,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// A failed transfer is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentResumed {
    /// The transfer.
    pub transfer_id: Uuid,
    /// Who wants it.
    pub resumed_by: String,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// A failed transfer was ended by somebody, who has seen to the money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentAbandoned {
    /// The transfer.
    pub transfer_id: Uuid,
    /// Why, and what was done about the money.
    pub reason: String,
    /// By whom.
    pub abandoned_by: String,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

impl PaymentInitiated {
    /// What the receiver gets.
    #[must_use]
    pub fn credited(&self) -> (Decimal, Currency) {
        self.fx.as_ref().map_or((self.amount, self.currency), |fx| (fx.amount, fx.currency))
    }

    /// Whether `other` asks for the same, at whatever time.
    #[must_use]
    pub fn is_same_request(&self, other: &PaymentInitiated) -> bool {
        let PaymentInitiated { deadline, occurred_at, .. } = *other;
        *other == PaymentInitiated { deadline, occurred_at, ..self.clone() }
    }
}

impl TransferEvent {
    /// When it happened.
    #[must_use]
    pub fn occurred_at(&self) -> Timestamp {
        match self {
            TransferEvent::Initiated(e) => e.occurred_at,
            TransferEvent::StepCompleted(e) => e.occurred_at,
            TransferEvent::StepFailed(e) => e.occurred_at,
            TransferEvent::Completed(e) => e.occurred_at,
            TransferEvent::Rejected(e) | TransferEvent::Failed(e) => e.occurred_at,
            TransferEvent::Resumed(e) => e.occurred_at,
            TransferEvent::Abandoned(e) => e.occurred_at,
        }
    }

    /// Its type, as it is stored.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        match self {
            TransferEvent::Initiated(_) => "PaymentInitiated",
            TransferEvent::StepCompleted(_) => "SagaStepCompleted",
            TransferEvent::StepFailed(_) => "SagaStepFailed",
            TransferEvent::Completed(_) => "PaymentCompleted",
            TransferEvent::Rejected(_) => "PaymentRejected",
            TransferEvent::Failed(_) => "PaymentFailed",
            TransferEvent::Resumed(_) => "PaymentResumed",
            TransferEvent::Abandoned(_) => "PaymentAbandoned",
        }
    }

    /// Its data, as it is stored.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut data = Vec::with_capacity(EVENT_SIZE);
        let out = &mut data;
        let written = match self {
            TransferEvent::Initiated(e) => serde_json::to_writer(out, e.as_ref()),
            TransferEvent::StepCompleted(e) => serde_json::to_writer(out, e),
            TransferEvent::StepFailed(e) => serde_json::to_writer(out, e),
            TransferEvent::Completed(e) => serde_json::to_writer(out, e),
            TransferEvent::Rejected(e) | TransferEvent::Failed(e) => serde_json::to_writer(out, e),
            TransferEvent::Resumed(e) => serde_json::to_writer(out, e),
            TransferEvent::Abandoned(e) => serde_json::to_writer(out, e),
        };
        written.expect("numbers and texts are JSON");
        data.into()
    }

    /// An event from how it is stored.
    ///
    /// # Errors
    /// [`Undecodable`] says what is wrong with it.
    pub fn decode(event: EventView<'_>) -> Result<TransferEvent, Undecodable> {
        fn read<'a, T: Deserialize<'a>>(event: EventView<'a>) -> Result<T, Undecodable> {
            serde_json::from_slice(event.data).map_err(|e| Undecodable {
                event_type: event.event_type.to_owned(),
                reason: e.to_string(),
            })
        }
        Ok(match event.event_type {
            "PaymentInitiated" => TransferEvent::Initiated(Arc::new(read(event)?)),
            "SagaStepCompleted" => TransferEvent::StepCompleted(read(event)?),
            "SagaStepFailed" => TransferEvent::StepFailed(read(event)?),
            "PaymentCompleted" => TransferEvent::Completed(read(event)?),
            "PaymentRejected" => TransferEvent::Rejected(read(event)?),
            "PaymentFailed" => TransferEvent::Failed(read(event)?),
            "PaymentResumed" => TransferEvent::Resumed(read(event)?),
            "PaymentAbandoned" => TransferEvent::Abandoned(read(event)?),
            other => {
                let reason = "no transfer has events of this type".to_owned();
                return Err(Undecodable { event_type: other.to_owned(), reason });
            }
        })
    }
}

/// Steps by their names.
mod step_name {
    use std::borrow::Cow;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::transfer::PAYMENT_TRANSFER;

    pub fn serialize<S: Serializer>(step: &usize, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(PAYMENT_TRANSFER.steps[*step].name)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        let name = Cow::<'de, str>::deserialize(deserializer)?;
        let found = PAYMENT_TRANSFER.steps.iter().position(|step| step.name == name);
        found.ok_or_else(|| D::Error::custom(format!("a transfer has no step '{name}'")))
    }
}
