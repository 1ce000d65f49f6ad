//! What a stream's newest `$metadata` event asks of the store.

use std::time::Duration;

/// The settings of a stream that the store acts on. Other keys are the client's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamMetadata {
    /// `$maxAge`: older events are hidden.
    pub max_age: Option<Duration>,
    /// `$maxCount`: only so many of the last events are shown.
    pub max_count: Option<u64>,
    /// `$tb`, truncate before: events below this revision are hidden.
    pub truncate_before: Option<u64>,
}

/// The value of `$tb` that marks a soft-deleted stream.
pub const SOFT_DELETED: u64 = i64::MAX as u64;
/// The type of a metadata event.
pub const METADATA_EVENT_TYPE: &str = "$metadata";
/// The type of a tombstone.
pub const TOMBSTONE_EVENT_TYPE: &str = "$streamDeleted";

impl StreamMetadata {
    /// Reads the data of a `$metadata` event. What does not parse asks for nothing, as
    /// in KurrentDB.
    #[must_use]
    pub fn parse(data: &[u8]) -> StreamMetadata {
        let Ok(serde_json::Value::Object(map)) = serde_json::from_slice(data) else {
            return StreamMetadata::default();
        };
        let number = |key: &str| map.get(key).and_then(serde_json::Value::as_u64);
        StreamMetadata {
            max_age: number("$maxAge").filter(|s| *s > 0).map(Duration::from_secs),
            max_count: number("$maxCount").filter(|n| *n > 0),
            truncate_before: number("$tb"),
        }
    }

    /// Whether the stream was soft-deleted and not written since.
    #[must_use]
    pub fn is_soft_deleted(&self) -> bool {
        self.truncate_before == Some(SOFT_DELETED)
    }

    /// The data of the event that soft-deletes a stream: replaces all other settings.
    #[must_use]
    pub fn soft_delete_data() -> Vec<u8> {
        format!("{{\"$tb\":{SOFT_DELETED}}}").into_bytes()
    }

    /// The data of the event that opens a soft-deleted stream again: `data` with `$tb` set to
    /// `revision`, all else kept.
    #[must_use]
    pub fn reopen_data(data: &[u8], revision: u64) -> Vec<u8> {
        let mut map = match serde_json::from_slice(data) {
            Ok(serde_json::Value::Object(map)) => map,
            _ => serde_json::Map::new(),
        };
        map.insert("$tb".to_owned(), revision.into());
        serde_json::Value::Object(map).to_string().into_bytes()
    }
}
