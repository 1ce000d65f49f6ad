//! Amounts of money: decimal numbers at the scale of their currency.
//!
//! INVARIANT: nothing is ever rounded here. What is not exact in its currency's minor unit is
//! refused. Every amount that this crate stores has exactly the currency's digits after the
//! point, so that equal amounts are equal texts.

use rust_decimal::Decimal;

use crate::currency::Currency;

/// The largest amount of one event or limit, in major units: 10^15. Above the money supply of any
/// country in any currency but the most inflated, and a thousand of them make a balance.
pub const AMOUNT_MAX: i64 = 1_000_000_000_000_000;
/// The largest balance, in major units: 10^18. With four digits after the point it has 22 of the
/// 28 digits a [`Decimal`] holds, so that no sum of an account's figures can overflow, and a
/// currency's books can hold the largest balance of a million accounts.
pub const BALANCE_MAX: i64 = 1_000_000_000_000_000_000;
/// Bytes of an amount's text: the digits of [`AMOUNT_MAX`], a point, and minor units.
const TEXT_SIZE_MAX: usize = 16 + 1 + MINOR_UNITS_MAX as usize;

/// The most minor units of a currency: those of CLF and UYW.
const MINOR_UNITS_MAX: u32 = 4;

const _: () = assert!(
    BALANCE_MAX as i128 * 10i128.pow(MINOR_UNITS_MAX) * 1_000_000 < Decimal::MAX.mantissa()
);
const _: () = assert!(AMOUNT_MAX * 1_000 <= BALANCE_MAX);

/// Why a text or a number is no amount of its currency.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAmount {
    /// It is not written as digits, or digits, a point and digits.
    #[error(
        "'{text}' is not an amount; write digits with an optional point, as 10.50: no sign, no \
         exponent, no spaces, no leading zeros"
    )]
    NotANumber {
        /// The text, cut to what is worth showing.
        text: String,
    },
    /// It is below zero.
    #[error("the amount {amount} is negative; give one of at least zero")]
    Negative {
        /// The amount.
        amount: Decimal,
    },
    /// It has more digits after the point than the currency has minor units.
    #[error(
        "{currency} has {} digits after the point, '{text}' has more; amounts are never rounded, \
         give an exact one", currency.minor_units()
    )]
    TooPrecise {
        /// The amount as it was given, cut to what is worth showing.
        text: String,
        /// The currency.
        currency: Currency,
    },
    /// It is larger than [`AMOUNT_MAX`].
    #[error("the amount '{text}' is larger than {AMOUNT_MAX}, the largest allowed")]
    TooLarge {
        /// The amount as it was given, cut to what is worth showing.
        text: String,
    },
}

/// Reads an amount that is zero or more: a JSON number without sign or exponent, at most as many
/// digits after the point as `currency` has. The result has exactly as many.
///
/// # Errors
/// [`InvalidAmount`] says which rule the text breaks.
pub fn parse_amount(text: &str, currency: Currency) -> Result<Decimal, InvalidAmount> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    if !digits(whole) || !fraction.is_none_or(digits) || leading_zero {
        return Err(InvalidAmount::NotANumber { text: excerpt(text) });
    }
    let scale = currency.minor_units();
    if fraction.is_some_and(|fraction| fraction.len() > scale as usize) {
        return Err(InvalidAmount::TooPrecise { text: excerpt(text), currency });
    }
    if text.len() > TEXT_SIZE_MAX {
        return Err(InvalidAmount::TooLarge { text: excerpt(text) });
    }
    let number: Decimal =
        text.parse().map_err(|_| InvalidAmount::NotANumber { text: excerpt(text) })?;
    exact(number, currency)
}

/// The same amount at the scale of `currency`, if it is one: at least zero, at most
/// [`AMOUNT_MAX`], and exact.
///
/// # Errors
/// [`InvalidAmount`] says which rule the number breaks.
pub fn exact(amount: Decimal, currency: Currency) -> Result<Decimal, InvalidAmount> {
    if amount.is_sign_negative() && !amount.is_zero() {
        return Err(InvalidAmount::Negative { amount });
    }
    if amount > Decimal::from(AMOUNT_MAX) {
        return Err(InvalidAmount::TooLarge { text: excerpt(&amount.to_string()) });
    }
    let scale = currency.minor_units();
    if amount.scale() == scale {
        return Ok(amount);
    }
    let mut scaled = amount;
    scaled.rescale(scale);
    if scaled != amount {
        return Err(InvalidAmount::TooPrecise { text: excerpt(&amount.to_string()), currency });
    }
    Ok(scaled)
}

/// Whether a stored amount is as this crate writes it: [`exact`], and at the currency's scale.
#[must_use]
pub(crate) fn is_exact(amount: Decimal, currency: Currency) -> bool {
    amount.scale() == currency.minor_units() && exact(amount, currency).is_ok()
}

/// So many major units of `currency`, at its scale. For the fixed sums of rules.
#[must_use]
pub fn major(units: u32, currency: Currency) -> Decimal {
    let mut amount = Decimal::from(units);
    amount.rescale(currency.minor_units());
    amount
}

/// The start of a text that may be anything, fit for a message.
fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 40;
    let mut shown: String = text.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn currency(code: &str) -> Currency {
        Currency::from_code(code).expect("a currency")
    }

    #[test]
    fn amounts_are_read_exactly_or_refused() {
        let cases: [(&str, &str, &str); 38] = [
            ("10.00", "USD", "10.00"),
            ("10", "USD", "10.00"),
            ("10.1", "USD", "10.10"),
            ("0", "USD", "0.00"),
            ("0.01", "USD", "0.01"),
            ("10.001", "USD", "too precise"),
            ("10.000", "USD", "too precise"),
            ("10.001", "KWD", "10.001"),
            ("1.0001", "CLF", "1.0001"),
            ("1", "JPY", "1"),
            ("1.5", "JPY", "too precise"),
            ("1.0", "JPY", "too precise"),
            ("1.", "JPY", "not a number"),
            ("1e3", "USD", "not a number"),
            ("1E3", "USD", "not a number"),
            (" 1", "USD", "not a number"),
            ("1 ", "USD", "not a number"),
            ("+1", "USD", "not a number"),
            ("-1", "USD", "not a number"),
            ("-0", "USD", "not a number"),
            ("", "USD", "not a number"),
            (".5", "USD", "not a number"),
            ("5.", "USD", "not a number"),
            (".", "USD", "not a number"),
            ("1.2.3", "USD", "not a number"),
            ("1,5", "USD", "not a number"),
            ("1_000", "USD", "not a number"),
            ("010", "USD", "not a number"),
            ("00", "USD", "not a number"),
            ("NaN", "USD", "not a number"),
            ("Infinity", "USD", "not a number"),
            ("0x10", "USD", "not a number"),
            ("١", "USD", "not a number"),
            ("1000000000000000", "USD", "1000000000000000.00"),
            ("1000000000000000.0000", "CLF", "1000000000000000.0000"),
            ("1000000000000000.01", "USD", "too large"),
            ("12345678901234567890123456789", "USD", "too large"),
            ("1000000000000001", "JPY", "too large"),
        ];
        for (text, code, expected) in cases {
            let found = match parse_amount(text, currency(code)) {
                Ok(amount) => amount.to_string(),
                Err(InvalidAmount::NotANumber { .. }) => "not a number".to_owned(),
                Err(InvalidAmount::Negative { .. }) => "negative".to_owned(),
                Err(InvalidAmount::TooPrecise { .. }) => "too precise".to_owned(),
                Err(InvalidAmount::TooLarge { .. }) => "too large".to_owned(),
            };
            assert_eq!(found, expected, "{text:?} {code}");
        }
    }

    #[test]
    fn numbers_are_scaled_only_without_loss() {
        for (number, code, expected) in [
            ("10", "USD", Some("10.00")),
            ("10.0000", "USD", Some("10.00")),
            ("10.0001", "USD", None),
            ("10.005", "USD", None),
            ("0.4", "JPY", None),
            ("-0.01", "USD", None),
            ("-0.00", "USD", Some("0.00")),
            ("1000000000000000.01", "USD", None),
        ] {
            let number: Decimal = number.parse().expect("a number");
            let found = exact(number, currency(code)).ok().map(|amount| amount.to_string());
            assert_eq!(found.as_deref(), expected, "{number} {code}");
        }
    }

    #[test]
    fn a_message_shows_no_more_than_the_start_of_a_text() {
        let text = "9\u{7}".repeat(100_000);
        let message = parse_amount(&text, currency("USD")).expect_err("no number").to_string();
        assert!(message.len() < 500, "{} bytes", message.len());
        assert!(!message.chars().any(char::is_control), "{message}");
    }
}
