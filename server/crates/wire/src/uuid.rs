//! UUIDs: two signed halves, or text. Protocol section 4.

use uuid::Uuid;

use crate::error::{InvalidAnswer, InvalidRequest};
use crate::proto::shared;
use crate::proto::shared::uuid::{Structured, Value};

/// The form in which a client wants ids back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UuidForm {
    /// Two signed 64-bit halves, big-endian.
    Structured,
    /// 36 characters.
    Text,
}

/// `id` in the form wanted.
#[must_use]
pub fn to_proto(id: Uuid, form: UuidForm) -> shared::Uuid {
    let value = match form {
        UuidForm::Text => Value::String(id.to_string()),
        UuidForm::Structured => {
            let (high, low) = id.as_u64_pair();
            Value::Structured(Structured {
                most_significant_bits: high.cast_signed(),
                least_significant_bits: low.cast_signed(),
            })
        }
    };
    shared::Uuid { value: Some(value) }
}

/// The id that a request's `field` holds, in either form.
///
/// # Errors
/// [`InvalidRequest`] if it is not set, or no UUID.
pub fn from_proto(id: Option<&shared::Uuid>, field: &'static str) -> Result<Uuid, InvalidRequest> {
    match id.and_then(|id| id.value.as_ref()) {
        None => Err(InvalidRequest::Missing { field }),
        Some(Value::Structured(halves)) => Ok(from_halves(halves)),
        Some(Value::String(text)) => {
            Uuid::try_parse(text).map_err(|e| InvalidRequest::Uuid { field, reason: e.to_string() })
        }
    }
}

/// The id that an answer's `field` holds, in either form.
///
/// # Errors
/// [`InvalidAnswer`] if it is not set, or no UUID.
pub fn from_answer(id: Option<&shared::Uuid>, field: &'static str) -> Result<Uuid, InvalidAnswer> {
    from_proto(id, field).map_err(|error| match error {
        InvalidRequest::Missing { field } => InvalidAnswer::Missing { field },
        other => InvalidAnswer::Impossible { field, reason: other.to_string() },
    })
}

fn from_halves(halves: &Structured) -> Uuid {
    Uuid::from_u64_pair(
        halves.most_significant_bits.cast_unsigned(),
        halves.least_significant_bits.cast_unsigned(),
    )
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn both_forms_come_back_as_the_same_id() {
        let id = Uuid::from_u128(0xfedc_ba98_7654_3210_0123_4567_89ab_cdef);
        for form in [UuidForm::Structured, UuidForm::Text] {
            assert_eq!(from_proto(Some(&to_proto(id, form)), "id"), Ok(id), "{form:?}");
        }
        assert!(matches!(from_proto(None, "id"), Err(InvalidRequest::Missing { field: "id" })));
        let text = shared::Uuid { value: Some(Value::String("not a uuid".to_owned())) };
        assert!(matches!(from_proto(Some(&text), "id"), Err(InvalidRequest::Uuid { .. })));
    }

    #[test]
    fn the_bytes_are_the_protocols() {
        let id = Uuid::from_u64_pair(1, 2);
        let structured = to_proto(id, UuidForm::Structured).encode_to_vec();
        assert_eq!(structured, [0x0a, 4, 0x08, 1, 0x10, 2]);
        let text = to_proto(id, UuidForm::Text).encode_to_vec();
        assert_eq!(text[..2], [0x12, 36]);
        assert_eq!(&text[2..], b"00000000-0000-0001-0000-000000000002");
    }
}
