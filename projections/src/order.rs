//! Values as bytes whose order is the values' own.
//!
//! ```text
//!   null     00
//!   text     01 | its bytes, each 00 as 00 ff | 00 00
//!   integer  01 | 8 bytes, big-endian, the sign turned
//!   decimal  01 | 80                                   zero
//!            01 | 81 | exponent | 13 bytes             above it: 0.ddd… * 10^exponent,
//!            01 | 7f | the same, turned                with 29 digits as one number
//!   time     01 | as an integer
//!   uuid     01 | 16 bytes
//!   flag     01 | 00 or 01
//! ```
//!
//! No value's bytes are the beginning of another's of its kind: so the bytes of several values one
//! after the other are ordered like the list, and the first of them are a prefix of all that have
//! them. Decimals of one value are one, whatever their scale.
//!
//! INVARIANT: no IO here; nothing reads these bytes back, a row stands beside them.

use rust_decimal::Decimal;

use crate::table::Value;

/// What comes before every value that is not null.
const SOME: u8 = 1;
/// Decimal digits of a 96-bit number at most.
const DIGITS: u32 = 29;
/// Bytes of a number of so many digits.
const DIGITS_SIZE: usize = 13;
/// Added to a decimal's exponent, which is -27 to 29.
const EXPONENT_BIAS: u32 = 64;

/// The bytes of `values`.
#[must_use]
pub fn encoded(values: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * 20);
    encode(values, &mut bytes);
    bytes
}

/// Adds the bytes of `values` to `out`.
pub fn encode<'a>(values: impl IntoIterator<Item = &'a Value>, out: &mut Vec<u8>) {
    for value in values {
        if *value == Value::Null {
            out.push(0);
            continue;
        }
        out.push(SOME);
        match value {
            Value::Null => {}
            Value::Text(text) => encode_text(text, out),
            Value::Integer(number) => out.extend_from_slice(&turned(*number)),
            Value::Time(time) => out.extend_from_slice(&turned(time.0)),
            Value::Decimal(number) => encode_decimal(*number, out),
            Value::Uuid(id) => out.extend_from_slice(id.as_bytes()),
            Value::Flag(flag) => out.push(u8::from(*flag)),
        }
    }
}

/// The smallest bytes above all that begin with `prefix`; none if there are none.
#[must_use]
pub fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut after = prefix[..=last].to_vec();
    after[last] += 1;
    Some(after)
}

fn encode_text(text: &str, out: &mut Vec<u8>) {
    for part in text.as_bytes().split_inclusive(|byte| *byte == 0) {
        out.extend_from_slice(part);
        if part.ends_with(&[0]) {
            out.push(u8::MAX);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

fn turned(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

fn encode_decimal(number: Decimal, out: &mut Vec<u8>) {
    let mantissa = number.mantissa().unsigned_abs();
    if mantissa == 0 {
        return out.push(0x80);
    }
    let digits = mantissa.ilog10() + 1;
    let exponent = EXPONENT_BIAS + digits - number.scale();
    let padded = mantissa * 10u128.pow(DIGITS - digits);
    let [_, _, _, bytes @ ..] = padded.to_be_bytes();
    let bytes: [u8; DIGITS_SIZE] = bytes;
    let exponent = u8::try_from(exponent).expect("an exponent of a decimal is small");
    if number.is_sign_positive() {
        out.extend_from_slice(&[0x81, exponent]);
        out.extend_from_slice(&bytes);
    } else {
        out.extend_from_slice(&[0x7f, !exponent]);
        out.extend(bytes.iter().map(|byte| !byte));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daybook_model::Timestamp;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn decimals() -> impl Strategy<Value = Decimal> {
        let whole = prop_oneof![-1000i128..1000, -(1i128 << 95)..(1i128 << 95)];
        (whole, 0u32..=28).prop_map(|(n, scale)| Decimal::from_i128_with_scale(n, scale))
    }

    /// Values of one kind, nulls among them.
    fn of_one_kind() -> impl Strategy<Value = (Value, Value)> {
        fn pairs<S: Strategy<Value = Value> + Clone + 'static>(
            values: S,
        ) -> BoxedStrategy<(Value, Value)> {
            let values = prop_oneof![1 => Just(Value::Null), 9 => values];
            (values.clone(), values).boxed()
        }
        let texts = prop_oneof!["[ab\u{0}\u{1}\u{ff}]{0,4}", ".{0,8}"];
        prop_oneof![
            pairs(texts.prop_map(Value::Text).boxed()),
            pairs(prop_oneof![any::<i64>(), -2i64..2].prop_map(Value::Integer).boxed()),
            pairs(any::<i64>().prop_map(|n| Value::Time(Timestamp(n))).boxed()),
            pairs(decimals().prop_map(Value::Decimal).boxed()),
            pairs(any::<u128>().prop_map(|n| Value::Uuid(Uuid::from_u128(n))).boxed()),
            pairs(any::<bool>().prop_map(Value::Flag).boxed()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn bytes_are_ordered_like_the_values(pairs in prop::collection::vec(of_one_kind(), 1..4)) {
            let (left, right): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
            prop_assert_eq!(encoded(&left).cmp(&encoded(&right)), left.cmp(&right));
        }

        #[test]
        fn all_that_begin_with_a_prefix_come_before_what_is_after_it(
            prefix in prop::collection::vec(prop_oneof![Just(255u8), any::<u8>()], 0..4),
            rest in prop::collection::vec(any::<u8>(), 0..4),
            other in prop::collection::vec(any::<u8>(), 0..6),
        ) {
            let whole = [prefix.clone(), rest].concat();
            let after = after_prefix(&prefix);
            prop_assert!(after.as_ref().is_none_or(|after| whole < *after));
            let within = other >= prefix && after.is_none_or(|after| other < after);
            prop_assert_eq!(within, other.starts_with(&prefix));
        }
    }

    #[test]
    fn a_decimal_is_its_value_at_every_scale() {
        let numbers = ["-79228162514264337593543950335", "-10", "-1.01", "-1", "-0.001", "0"];
        let above = ["0.0000000000000000000000000001", "0.1", "1", "9.99", "10", "1e28"];
        let numbers = numbers.iter().chain(&above);
        let numbers: Vec<Decimal> = numbers
            .map(|n| n.parse().unwrap_or_else(|_| Decimal::from_scientific(n).unwrap()))
            .collect();
        let bytes: Vec<_> = numbers.iter().map(|n| encoded(&[Value::Decimal(*n)])).collect();
        assert!(bytes.is_sorted(), "{bytes:?}");
        for (text, other) in [("1", "1.000"), ("0", "-0.00"), ("-2.5", "-2.50")] {
            let [a, b] = [text, other].map(|n| encoded(&[Value::Decimal(n.parse().unwrap())]));
            assert_eq!(a, b, "{text} and {other}");
        }
    }
}
