//! Times as texts and calendar days: RFC 3339 in UTC, with nine digits of a second, so that times
//! sort as texts. Rules by the day or the hour mean those of UTC.
//!
//! INVARIANT: nobody here asks what time it is.

use std::fmt;

use daybook_model::Timestamp;

/// Nanoseconds of an hour.
const HOUR_NS: i64 = 3600 * 1_000_000_000;
/// Nanoseconds of a day. UTC days of [`Timestamp`] have no leap seconds.
const DAY_NS: i64 = 24 * HOUR_NS;

/// Bytes of a time's text: nine digits of a second, an offset and the name of a zone fit.
const TEXT_SIZE_MAX: usize = 100;

/// Why a text is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time: {reason}; write it as 2026-01-31T12:00:00Z")]
pub struct InvalidTime {
    /// What is wrong with it.
    pub reason: String,
}

/// A time, shown as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339(pub Timestamp);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_nanosecond(i128::from(self.0.0))
            .expect("64 bits of nanoseconds end in the year 2262");
        write!(f, "{time:.9}")
    }
}

/// Reads a time in RFC 3339, with any offset.
///
/// # Errors
/// [`InvalidTime`] says what is wrong with the text.
pub fn parse(text: &str) -> Result<Timestamp, InvalidTime> {
    if text.len() > TEXT_SIZE_MAX {
        return Err(InvalidTime { reason: format!("it has more than {TEXT_SIZE_MAX} bytes") });
    }
    let time: jiff::Timestamp =
        text.parse().map_err(|e: jiff::Error| InvalidTime { reason: e.to_string() })?;
    i64::try_from(time.as_nanosecond()).map(Timestamp).map_err(|_| InvalidTime {
        reason: format!("{time} is before the year 1678 or after 2261"),
    })
}

/// The days since 1970-01-01 UTC.
#[must_use]
pub fn utc_day(time: Timestamp) -> i64 {
    time.0.div_euclid(DAY_NS)
}

/// The hours since 1970-01-01T00:00:00 UTC.
#[must_use]
pub fn utc_hour(time: Timestamp) -> i64 {
    time.0.div_euclid(HOUR_NS)
}

/// Times in JSON. For `#[serde(with = "…")]`.
pub mod rfc3339 {
    use daybook_model::Timestamp;
    use serde::{Deserializer, Serializer};

    use super::Rfc3339;

    /// Writes a time.
    ///
    /// # Errors
    /// What the serializer says.
    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Rfc3339(*time))
    }

    /// Reads a time.
    ///
    /// # Errors
    /// The text is no time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        deserializer.deserialize_str(super::Text)
    }

    /// Times that may be absent.
    pub mod option {
        use daybook_model::Timestamp;
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        #[derive(Serialize, Deserialize)]
        struct Present(#[serde(with = "super")] Timestamp);

        /// Writes a time, or null.
        ///
        /// # Errors
        /// What the serializer says.
        pub fn serialize<S: Serializer>(
            time: &Option<Timestamp>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            time.map(Present).serialize(serializer)
        }

        /// Reads a time, or null.
        ///
        /// # Errors
        /// The text is no time.
        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            Ok(Option::<Present>::deserialize(deserializer)?.map(|Present(time)| time))
        }
    }
}

struct Text;

impl serde::de::Visitor<'_> for Text {
    type Value = Timestamp;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time in RFC 3339")
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
        parse(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_texts_of_one_length_that_sort() {
        let cases = [
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (0, "1970-01-01T00:00:00.000000000Z"),
            (1_700_000_000_120_000_000, "2023-11-14T22:13:20.120000000Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
        ];
        for (nanos, text) in cases {
            assert_eq!(Rfc3339(Timestamp(nanos)).to_string(), text);
            assert_eq!(parse(text), Ok(Timestamp(nanos)), "{text}");
        }
        assert!(cases.is_sorted_by_key(|(_, text)| *text));
    }

    #[test]
    fn texts_that_are_no_times_are_refused() {
        assert_eq!(parse("1970-01-01T01:00:00+01:00"), Ok(Timestamp(0)));
        for text in [
            "",
            "now",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-02-30T00:00:00Z",
            "0",
            "9999-01-01T00:00:00Z",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn days_and_hours_are_those_of_utc_also_before_1970() {
        for (nanos, day, hour) in [
            (0, 0, 0),
            (HOUR_NS - 1, 0, 0),
            (HOUR_NS, 0, 1),
            (DAY_NS - 1, 0, 23),
            (DAY_NS, 1, 24),
            (-1, -1, -1),
        ] {
            assert_eq!((utc_day(Timestamp(nanos)), utc_hour(Timestamp(nanos))), (day, hour));
        }
    }
}
