//! Streams and places in them, as arguments.

use std::str::FromStr;

use anyhow::{Context as _, bail};
use daybook_client::{ExpectedRevision, Revision, StreamName};

/// What is read or followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One stream.
    Stream(StreamName),
    /// The whole log.
    All,
}

impl Subject {
    /// What STREAM and `--all` mean together; nothing means `otherwise`.
    ///
    /// # Errors
    /// If the name is not one, or both are given.
    pub fn of(
        stream: Option<&str>,
        all: bool,
        otherwise: Option<Subject>,
    ) -> anyhow::Result<Subject> {
        match (stream, all) {
            (None | Some("$all"), true) | (Some("$all"), false) => Ok(Subject::All),
            (Some(_), true) => bail!("name a stream or say --all, not both"),
            (Some(name), false) => {
                Ok(Subject::Stream(StreamName::new(name).context("STREAM cannot be used")?))
            }
            (None, false) => otherwise.context("name a stream, or say --all for the whole log"),
        }
    }
}

/// Where to begin: `start`, `end`, or a revision (of a stream) or position (of the log).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At the first event.
    Start,
    /// After the last event.
    End,
    /// At this event.
    Number(u64),
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Place, &'static str> {
        match text {
            "start" => Ok(Place::Start),
            "end" => Ok(Place::End),
            number => number
                .parse()
                .map(Place::Number)
                .map_err(|_| "give 'start', 'end', or a revision or position"),
        }
    }
}

/// Reads an expected revision.
///
/// # Errors
/// What to give instead.
pub fn expected_revision(text: &str) -> Result<ExpectedRevision, &'static str> {
    match text {
        "any" => Ok(ExpectedRevision::Any),
        "no_stream" => Ok(ExpectedRevision::NoStream),
        "stream_exists" => Ok(ExpectedRevision::StreamExists),
        number => number
            .parse()
            .map(|number| ExpectedRevision::Exact(Revision(number)))
            .map_err(|_| "give 'any', 'no_stream', 'stream_exists' or a revision"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_log_can_be_named_in_two_ways_but_not_beside_a_stream() {
        let of = |stream, all| Subject::of(stream, all, None).ok();
        assert_eq!(of(Some("$all"), false), Some(Subject::All));
        assert_eq!(of(None, true), Some(Subject::All));
        assert_eq!(of(Some("a"), true), None);
        assert_eq!(of(None, false), None);
        assert_eq!(of(Some("a"), false), StreamName::new("a").ok().map(Subject::Stream));
    }
}
