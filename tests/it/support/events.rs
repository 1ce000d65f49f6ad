//! Events and names.

use bytes::Bytes;
use daybook_model::{ContentType, NewEvent, StreamName};
use uuid::Uuid;

/// A stream's name.
pub fn name(text: &str) -> StreamName {
    StreamName::new(text).expect("a valid name")
}

/// A small event whose id is `id`.
pub fn event(id: u128) -> NewEvent {
    sized(id, 16)
}

/// An event of `size` bytes that `id` decides.
pub fn sized(id: u128, size: usize) -> NewEvent {
    let seed = id.to_le_bytes();
    let data: Vec<u8> = seed.iter().copied().cycle().take(size).collect();
    NewEvent {
        id: Uuid::from_u128(id),
        event_type: "Happened".to_owned(),
        content_type: ContentType::Binary,
        metadata: Bytes::new(),
        data: data.into(),
    }
}
