//! What is asked of a transfer, and which of it makes no sense whatever state the accounts are in.

use std::borrow::Cow;
use std::time::Duration;

use daybook_model::Timestamp;
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Fx, PAYMENT_TRANSFER, PaymentInitiated};
use crate::currency::Currency;
use crate::{money, saga};

/// Digits after the point of a rate: more than any market quotes.
pub const RATE_SCALE_MAX: u32 = 12;
/// The largest rate: what a unit of the dearest currency buys of the cheapest is far below it.
pub const RATE_MAX: i64 = 1_000_000_000;
/// Bytes of a rate's text: the digits of [`RATE_MAX`], a point, and [`RATE_SCALE_MAX`] digits.
const RATE_TEXT_SIZE_MAX: usize = 10 + 1 + RATE_SCALE_MAX as usize;
/// Bytes of a description.
pub const DESCRIPTION_SIZE_MAX: usize = 1_000;
/// The numbers that a decimal can hold, without sign and point.
const MANTISSA_MAX: u128 = (1 << 96) - 1;

/// How the receiver's amount is rounded to the minor unit of its currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// To the nearest; from the middle to the even digit.
    HalfEven,
    /// To the nearest; from the middle up.
    HalfUp,
    /// Towards zero.
    Down,
    /// Away from zero.
    Up,
}

impl Rounding {
    fn strategy(self) -> RoundingStrategy {
        match self {
            Rounding::HalfEven => RoundingStrategy::MidpointNearestEven,
            Rounding::HalfUp => RoundingStrategy::MidpointAwayFromZero,
            Rounding::Down => RoundingStrategy::ToZero,
            Rounding::Up => RoundingStrategy::AwayFromZero,
        }
    }
}

/// A conversion, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FxRequest {
    /// What one unit of the sender's currency is worth in the receiver's.
    pub rate: Decimal,
    /// The receiver's currency.
    pub currency: Currency,
    /// How to round.
    pub rounding: Rounding,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRequest {
    /// Chosen by whoever asks; the same id is the same transfer for ever.
    pub transfer_id: Uuid,
    /// Who pays.
    pub sender_account_id: Uuid,
    /// Who is paid.
    pub receiver_account_id: Uuid,
    /// What the sender pays.
    pub amount: Decimal,
    /// Of what.
    pub currency: Currency,
    /// What for; may be empty.
    pub description: String,
    /// How it converts, if it does.
    pub fx: Option<FxRequest>,
}

/// Why a request makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidTransfer {
    /// Which part of it.
    pub field: &'static str,
    /// What is wrong, and what to give instead.
    pub reason: String,
}

fn invalid(field: &'static str, reason: impl Into<String>) -> InvalidTransfer {
    InvalidTransfer { field, reason: reason.into() }
}

/// Reads a rate: digits, or digits, a point and digits.
///
/// # Errors
/// [`InvalidTransfer`] of the field `fx.rate`.
pub fn parse_rate(text: &str) -> Result<Decimal, InvalidTransfer> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if text.len() > RATE_TEXT_SIZE_MAX || !digits(whole) || !digits(fraction) {
        return Err(invalid(
            "fx.rate",
            format!(
                "write digits with an optional point, as 0.9213: no sign, no exponent, at most \
                 {RATE_SCALE_MAX} digits after the point"
            ),
        ));
    }
    let rate = text.parse().map_err(|e| invalid("fx.rate", format!("not a number: {e}")))?;
    check_rate(rate)?;
    Ok(rate)
}

fn check_rate(rate: Decimal) -> Result<(), InvalidTransfer> {
    if rate <= Decimal::ZERO {
        return Err(invalid("fx.rate", "must be above zero"));
    }
    if rate > Decimal::from(RATE_MAX) {
        return Err(invalid("fx.rate", format!("must be at most {RATE_MAX}")));
    }
    if rate.scale() > RATE_SCALE_MAX {
        let reason = format!("may have {RATE_SCALE_MAX} digits after the point");
        return Err(invalid("fx.rate", reason));
    }
    Ok(())
}

impl TransferRequest {
    /// The event with which the transfer begins at `now`, to be done within `timeout`.
    ///
    /// # Errors
    /// [`InvalidTransfer`] names what makes no sense.
    pub fn initiate(
        &self,
        now: Timestamp,
        timeout: Duration,
    ) -> Result<PaymentInitiated, InvalidTransfer> {
        if self.sender_account_id == self.receiver_account_id {
            return Err(invalid("receiver_account_id", "is the sender; name another account"));
        }
        let amount = positive("amount", self.amount, self.currency)?;
        let size = self.description.len();
        if size > DESCRIPTION_SIZE_MAX {
            let reason = format!("has {size} bytes; the limit is {DESCRIPTION_SIZE_MAX}");
            return Err(invalid("description", reason));
        }
        if let Some(c) = self.description.chars().find(|c| c.is_control()) {
            let reason = format!("has the control character U+{:04X}; leave it out", u32::from(c));
            return Err(invalid("description", reason));
        }
        let fx = self.fx.as_ref().map(|fx| convert(amount, self.currency, fx)).transpose()?;
        Ok(PaymentInitiated {
            transfer_id: self.transfer_id,
            saga: Cow::Borrowed(PAYMENT_TRANSFER.name),
            sender_account_id: self.sender_account_id,
            receiver_account_id: self.receiver_account_id,
            amount,
            currency: self.currency,
            description: self.description.clone(),
            fx,
            deadline: saga::after(now, timeout),
            occurred_at: now,
        })
    }
}

fn positive(
    field: &'static str,
    amount: Decimal,
    currency: Currency,
) -> Result<Decimal, InvalidTransfer> {
    let amount = money::exact(amount, currency).map_err(|e| invalid(field, e.to_string()))?;
    if amount.is_zero() {
        return Err(invalid(field, "must be above zero"));
    }
    Ok(amount)
}

/// What the receiver gets. Rounded once, from the exact product.
fn convert(
    amount: Decimal,
    currency: Currency,
    request: &FxRequest,
) -> Result<Fx, InvalidTransfer> {
    let FxRequest { rate, currency: target, rounding } = *request;
    if target == currency {
        let reason = format!("{currency} is the sender's currency; leave fx out");
        return Err(invalid("fx.currency", reason));
    }
    check_rate(rate)?;
    let exact = amount.mantissa().unsigned_abs().checked_mul(rate.mantissa().unsigned_abs());
    let product = exact.filter(|exact| *exact <= MANTISSA_MAX).and(amount.checked_mul(rate));
    let Some(product) = product else {
        let reason = format!(
            "{amount} × {rate} has more digits than can be reckoned exactly; give the rate with \
             fewer digits"
        );
        return Err(invalid("fx.rate", reason));
    };
    let mut rounded = product.round_dp_with_strategy(target.minor_units(), rounding.strategy());
    rounded.rescale(target.minor_units());
    let credited = money::exact(rounded, target)
        .map_err(|e| invalid("fx.rate", format!("the receiver would get {rounded}: {e}")))?;
    if credited.is_zero() {
        let reason = format!("the receiver would get nothing: {product} {target} rounds to zero");
        return Err(invalid("fx.rate", reason));
    }
    Ok(Fx { rate, currency: target, amount: credited, rounding })
}
