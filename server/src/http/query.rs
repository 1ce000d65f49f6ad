//! What stands in a path or after the `?`, checked: a mistake names its field.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, Query};
use daybook_model::{ExpectedRevision, Filter, FilterTarget, Revision, StreamName};
use daybook_store::Direction;
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use super::problem::{Kind, Problem};

/// A query string as a `T`.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Params<T>, Problem> {
        match Query::<T>::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Params(params)),
            Err(rejected) => Err(not_understood(&rejected.body_text())),
        }
    }
}

/// A query string that was refused with `text`: "…: field: reason".
#[must_use]
pub fn not_understood(text: &str) -> Problem {
    let reason = text.split_once(": ").map_or(text, |(_, reason)| reason);
    match reason.split_once(": ") {
        Some((field, reason)) if !field.contains(' ') => Problem::field(field, reason),
        _ => Problem::new(Kind::InvalidRequest, reason),
    }
}

/// The stream named in the path.
pub struct Name(pub StreamName);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Name, Problem> {
        let name = Path::<String>::from_request_parts(parts, state).await;
        let Path(name) = name.map_err(|e| Problem::field("stream", e.body_text()))?;
        Ok(Name(StreamName::new(&name)?))
    }
}

/// Where a read begins: `start`, `end`, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At the first event.
    Start,
    /// After the last event.
    End,
    /// At this revision, position or index number.
    Number(u64),
}

/// Why a text is not what a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOneOf(&'static str);

impl fmt::Display for NotOneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "give {}", self.0)
    }
}

impl FromStr for From {
    type Err = NotOneOf;

    fn from_str(text: &str) -> Result<From, NotOneOf> {
        match text {
            "start" => Ok(From::Start),
            "end" => Ok(From::End),
            number => match number.parse() {
                Ok(number) => Ok(From::Number(number)),
                Err(_) => Err(NotOneOf("'start', 'end' or a number")),
            },
        }
    }
}

/// An [`ExpectedRevision`] as a parameter: `any`, `no_stream`, `stream_exists`, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected(pub ExpectedRevision);

impl FromStr for Expected {
    type Err = NotOneOf;

    fn from_str(text: &str) -> Result<Expected, NotOneOf> {
        Ok(Expected(match text {
            "any" => ExpectedRevision::Any,
            "no_stream" => ExpectedRevision::NoStream,
            "stream_exists" => ExpectedRevision::StreamExists,
            number => match number.parse() {
                Ok(number) => ExpectedRevision::Exact(Revision(number)),
                Err(_) => {
                    return Err(NotOneOf("'any', 'no_stream', 'stream_exists' or a revision"));
                }
            },
        }))
    }
}

/// A [`Direction`] as a parameter: `forwards` or `backwards`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way(pub Direction);

impl FromStr for Way {
    type Err = NotOneOf;

    fn from_str(text: &str) -> Result<Way, NotOneOf> {
        match text {
            "forwards" => Ok(Way(Direction::Forwards)),
            "backwards" => Ok(Way(Direction::Backwards)),
            _ => Err(NotOneOf("'forwards' or 'backwards'")),
        }
    }
}

/// For serde: a parameter that is parsed from its text.
///
/// # Errors
/// What the text should have been.
pub fn parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: fmt::Display,
{
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

/// The filter on `$all` that some of four parameters ask for; at most one may be given.
///
/// # Errors
/// [`Problem`] if several are given, or the one is not valid.
pub fn filter(
    stream_prefix: Option<&str>,
    type_prefix: Option<&str>,
    stream_regex: Option<&str>,
    type_regex: Option<&str>,
) -> Result<Option<Arc<Filter>>, Problem> {
    let given = [
        ("stream_prefix", FilterTarget::StreamName, false, stream_prefix),
        ("type_prefix", FilterTarget::EventType, false, type_prefix),
        ("stream_regex", FilterTarget::StreamName, true, stream_regex),
        ("type_regex", FilterTarget::EventType, true, type_regex),
    ];
    let mut given = given.into_iter().filter_map(|(name, target, is_regex, text)| {
        text.map(|text| (name, target, is_regex, text))
    });
    let Some((name, target, is_regex, text)) = given.next() else { return Ok(None) };
    if let Some((second, ..)) = given.next() {
        return Err(Problem::field(second, format!("cannot be given together with {name}")));
    }
    let filter = if is_regex {
        Filter::regex(target, text)
    } else {
        // Several prefixes are separated by commas, as in KurrentDB's own settings.
        Filter::prefixes(target, text.split(',').map(str::to_owned).collect())
    };
    filter.map(|filter| Some(Arc::new(filter))).map_err(|e| Problem::field(name, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_and_conditions_are_words_or_numbers() {
        for (text, from) in [
            ("start", Ok(From::Start)),
            ("end", Ok(From::End)),
            ("18446744073709551615", Ok(From::Number(u64::MAX))),
            ("-1", Err(NotOneOf("'start', 'end' or a number"))),
            ("", Err(NotOneOf("'start', 'end' or a number"))),
        ] {
            assert_eq!(text.parse::<From>(), from, "{text}");
        }
        for (text, expected) in [
            ("any", Some(ExpectedRevision::Any)),
            ("no_stream", Some(ExpectedRevision::NoStream)),
            ("stream_exists", Some(ExpectedRevision::StreamExists)),
            ("7", Some(ExpectedRevision::Exact(Revision(7)))),
            ("no-stream", None),
        ] {
            assert_eq!(text.parse::<Expected>().ok().map(|e| e.0), expected, "{text}");
        }
    }

    #[test]
    fn a_refused_query_names_its_field() {
        let named = not_understood("Failed to read: limit: invalid digit: found").to_json();
        assert!(named.contains(r#""field":"limit""#), "{named}");
        let unnamed = not_understood("Failed to read: missing field `revision`").to_json();
        assert!(unnamed.contains("missing field `revision`"), "{unnamed}");
    }

    #[test]
    fn at_most_one_filter() {
        assert_eq!(filter(None, None, None, None).map(|f| f.is_some()), Ok(false));
        assert_eq!(filter(Some("a,b"), None, None, None).map(|f| f.is_some()), Ok(true));
        let both = filter(Some("a"), None, None, Some("b")).expect_err("two");
        assert!(both.to_json().contains("\"field\":\"type_regex\""), "{}", both.to_json());
        let bad = filter(None, None, Some("("), None).expect_err("no expression");
        assert!(bad.to_json().contains("\"field\":\"stream_regex\""), "{}", bad.to_json());
    }
}
