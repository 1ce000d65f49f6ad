//! A stream's metadata: the settings that the store acts on, and what its users keep beside them.
//!
//! It is the data of the newest event of the stream `$$<name>`: a JSON object with
//!
//! ```text
//!   $maxAge    whole seconds after which an event is not shown any more
//!   $maxCount  how many of the last events are shown
//!   $tb        "truncate before": the revision of the first event that is shown
//!   …          every other key: access rights ($acl), caching ($cacheControl), and your own
//! ```
//!
//! A write replaces all of it. So a change is: read it, change it, write it and expect what was
//! read; nothing that others wrote in between is lost, and a key that this client does not know is
//! kept as it is.

use std::time::Duration;

use daybook_model::metadata::METADATA_EVENT_TYPE;
use daybook_model::{
    Entropy as _, ExpectedRevision, NewEvent, StreamMetadata, StreamName, SystemEntropy,
};
use futures_util::TryStreamExt as _;
use serde_json::{Map, Value};

use crate::append::Appended;
use crate::connection::Client;
use crate::error::{AppendError, ReadError};
use crate::read::{Direction, ReadStream, StreamFrom};

const MAX_AGE: &str = "$maxAge";
const MAX_COUNT: &str = "$maxCount";
const TRUNCATE_BEFORE: &str = "$tb";

/// What a stream's metadata says. The default says nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// What the store acts on.
    pub settings: StreamMetadata,
    /// All other keys. The three of the settings have no effect here.
    pub other: Map<String, Value>,
}

/// A stream's metadata as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// What it says.
    pub metadata: Metadata,
    /// What a change of it has to expect, so that it is refused if somebody else was faster.
    pub expected: ExpectedRevision,
}

impl Metadata {
    /// Reads the data of a `$metadata` event. What is no JSON object says nothing, as for the store.
    #[must_use]
    pub fn parse(data: &[u8]) -> Metadata {
        let mut other: Map<String, Value> = serde_json::from_slice(data).unwrap_or_default();
        for key in [MAX_AGE, MAX_COUNT, TRUNCATE_BEFORE] {
            other.remove(key);
        }
        Metadata { settings: StreamMetadata::parse(data), other }
    }

    /// The data of the event that says it. An age is rounded up to whole seconds.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut all = self.other.clone();
        let StreamMetadata { max_age, max_count, truncate_before } = self.settings;
        let settings = [
            (MAX_AGE, max_age.map(whole_seconds)),
            (MAX_COUNT, max_count),
            (TRUNCATE_BEFORE, truncate_before),
        ];
        for (key, value) in settings {
            match value {
                Some(number) => all.insert(key.to_owned(), number.into()),
                None => all.remove(key),
            };
        }
        Value::Object(all).to_string()
    }
}

fn whole_seconds(age: Duration) -> u64 {
    age.as_secs().saturating_add(u64::from(age.subsec_nanos() > 0))
}

impl Client {
    /// What the metadata of `stream` says. A stream that has none says nothing.
    ///
    /// ```no_run
    /// # use daybook_client::{Client, StreamName};
    /// # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let stream = StreamName::new("visit-2024")?;
    /// let mut found = client.stream_metadata(&stream).await?;
    /// found.metadata.settings.max_count = Some(1_000);
    /// found.metadata.other.insert("owner".to_owned(), "web team".into());
    /// client.set_stream_metadata(&stream, found.expected, &found.metadata).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ReadError`]; one of them is that the stream has a tombstone.
    pub async fn stream_metadata(&self, stream: &StreamName) -> Result<Described, ReadError> {
        let query = ReadStream {
            from: StreamFrom::End,
            direction: Direction::Backwards,
            count: 1,
            ..ReadStream::new(stream.metastream())
        };
        let newest = match self.read_stream(query).await?.try_next().await {
            Ok(newest) => newest.and_then(|resolved| resolved.event),
            Err(ReadError::StreamNotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(match newest {
            Some(event) => Described {
                metadata: Metadata::parse(&event.data),
                expected: ExpectedRevision::Exact(event.revision),
            },
            None => {
                Described { metadata: Metadata::default(), expected: ExpectedRevision::NoStream }
            }
        })
    }

    /// Replaces the metadata of `stream` if it is as `expected`. The stream need not exist.
    ///
    /// # Errors
    /// [`AppendError`]. After [`AppendError::Unknown`] read it again: it says what became of it.
    pub async fn set_stream_metadata(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        metadata: &Metadata,
    ) -> Result<Appended, AppendError> {
        let id = uuid::Builder::from_random_bytes(SystemEntropy.bytes()).into_uuid();
        let event = NewEvent::json(id, METADATA_EVENT_TYPE, metadata.to_json());
        self.append(&stream.metastream(), expected, vec![event]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (data, age, count, before, others) in [
            ("{}", None, None, None, 0),
            (r#"{"$maxAge":60,"$maxCount":5,"$tb":7}"#, Some(60), Some(5), Some(7), 0),
            (r#"{"$acl":{"$r":"ops"},"$tb":0,"team":"web"}"#, None, None, Some(0), 2),
            // What asks for nothing is not written back.
            (r#"{"$maxAge":"x","$maxCount":0,"a":1}"#, None, None, None, 1),
            ("[]", None, None, None, 0),
            ("not json", None, None, None, 0),
        ] {
            let read = Metadata::parse(data.as_bytes());
            let settings = StreamMetadata {
                max_age: age.map(Duration::from_secs),
                max_count: count,
                truncate_before: before,
            };
            assert_eq!((read.settings, read.other.len()), (settings, others), "{data}");
            assert_eq!(Metadata::parse(read.to_json().as_bytes()), read, "{data}");
        }
        let mut odd = Metadata::default();
        odd.settings.max_age = Some(Duration::from_millis(1_001));
        odd.other.insert("$tb".to_owned(), 9.into());
        assert_eq!(odd.to_json(), r#"{"$maxAge":2}"#);
    }
}
