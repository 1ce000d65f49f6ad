//! Amounts as the API writes them, and as whole minor units, exactly.
//!
//! The check of what a server did must not rest on the server's own arithmetic: this is a few
//! lines of its own. INVARIANT: nothing is rounded; what is not an amount is no number.

use std::fmt::Write as _;

use super::plan::Currency;

/// Writes `minor` units to the end of `out`: `1234` USD as `12.34`.
pub fn write(minor: u64, currency: Currency, out: &mut String) {
    let digits = currency.digits();
    let unit = 10_u64.pow(digits);
    // Writing to a string cannot fail.
    let _ = match digits {
        0 => write!(out, "{minor}"),
        _ => write!(out, "{}.{:0width$}", minor / unit, minor % unit, width = digits as usize),
    };
}

/// `minor` units as text.
#[must_use]
pub fn text(minor: i128, currency: Currency) -> String {
    let mut text = String::new();
    if minor < 0 {
        text.push('-');
    }
    write(u64::try_from(minor.unsigned_abs()).unwrap_or(u64::MAX), currency, &mut text);
    text
}

/// Reads an amount with exactly `digits` digits after the point, as minor units.
#[must_use]
pub fn parse(text: &str, digits: u32) -> Option<i128> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part) = match text.split_once('.') {
        Some((whole, part)) if part.len() == digits as usize && digits > 0 => (whole, part),
        None if digits == 0 => (text, ""),
        _ => return None,
    };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(part) {
        return None;
    }
    let joined = [whole, part].concat();
    let minor: i128 = joined.parse().ok()?;
    Some(if negative { -minor } else { minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly_or_not_at_all() {
        for (text, digits, expected) in [
            ("12.34", 2, Some(1234)),
            ("-0.05", 2, Some(-5)),
            ("0.00", 2, Some(0)),
            ("1500", 0, Some(1500)),
            ("12.3", 2, None),
            ("12.345", 2, None),
            ("12", 2, None),
            ("15.0", 0, None),
            (".50", 2, None),
            ("1e3", 0, None),
            ("+1", 0, None),
            ("--1", 0, None),
            ("", 0, None),
            ("", 2, None),
        ] {
            assert_eq!(parse(text, digits), expected, "{text:?} with {digits} digits");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for currency in [Currency::Usd, Currency::Jpy] {
            for minor in [0, 5, 99, 100, 123_456] {
                let text = text(-minor, currency);
                assert_eq!(parse(&text, currency.digits()), Some(-minor), "{text}");
            }
        }
        assert_eq!(text(5, Currency::Usd), "0.05");
        assert_eq!(text(-1234, Currency::Eur), "-12.34");
    }
}
