//! What becomes of an event of the source.

use daybook_model::RecordedEvent;
use daybook_model::limits::{EVENT_SIZE_MAX, EVENT_TYPE_SIZE_MAX};
use daybook_model::metadata::TOMBSTONE_EVENT_TYPE;

use super::target::PROGRESS_STREAM;

/// What becomes of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is taken as it is.
    Taken,
    /// It ended its stream for ever, and does so here.
    Tombstone,
    /// It stays behind, for this reason.
    Left(&'static str),
}

/// How the names of streams begin whose events stay behind, and why. The first that fits counts.
const LEFT: [(&str, &str); 10] = [
    ("$ce-", LINKS),
    ("$et-", LINKS),
    ("$bc-", LINKS),
    ("$category-", LINKS),
    ("$streams", LINKS),
    ("$persistentsubscription-", "state of a persistent subscription: create the group again"),
    ("$persistentSubscriptionConfig", "state of a persistent subscription: create the group again"),
    ("$projections", "a projection's own: create it again"),
    ("$user", "users: create them again, with passwords of their own"),
    ("$", "the server's own: statistics, scavenges, settings, epochs"),
];

const LINKS: &str = "links of a system projection: served from the index here";

/// What becomes of `event`.
#[must_use]
pub fn fate(event: &RecordedEvent) -> Fate {
    // The metadata of a stream goes where the stream goes.
    let stream = event.stream.as_str();
    let subject = stream.strip_prefix("$$").unwrap_or(stream);
    if stream == PROGRESS_STREAM {
        return Fate::Left("the progress of an import");
    }
    if let Some((_, reason)) = LEFT.iter().find(|(prefix, _)| subject.starts_with(prefix)) {
        return Fate::Left(reason);
    }
    if event.tombstone || event.event_type == TOMBSTONE_EVENT_TYPE {
        return Fate::Tombstone;
    }
    if let Some(reason) = refused(event) {
        return Fate::Left(reason);
    }
    Fate::Taken
}

/// Why an event can stand in no store of ours. Its place stays.
fn refused(event: &RecordedEvent) -> Option<&'static str> {
    let event_type = &event.event_type;
    let size = event.data.len() + event.metadata.len();
    if event_type.is_empty() || event_type.chars().any(char::is_control) {
        Some("a type that is empty, or has control characters")
    } else if event_type.len() > EVENT_TYPE_SIZE_MAX {
        Some("a type that is longer than types may be")
    } else if size > EVENT_SIZE_MAX {
        Some("larger than an event may be")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use daybook_model::{ContentType, Position, Revision, StreamName, Timestamp};
    use uuid::Uuid;

    use super::*;

    fn event(stream: &str, event_type: &str) -> RecordedEvent {
        RecordedEvent {
            position: Position(0),
            revision: Revision(0),
            time: Timestamp(0),
            id: Uuid::nil(),
            stream: StreamName::new(stream).expect("a name"),
            event_type: event_type.to_owned(),
            content_type: ContentType::Json,
            tombstone: false,
            metadata: Bytes::new(),
            data: Bytes::new(),
        }
    }

    #[test]
    fn users_streams_go_and_the_servers_stay() {
        for (stream, event_type, taken) in [
            ("account-1", "Opened", true),
            ("$$account-1", "$metadata", true),
            ("ledger.account-1", "Opened", true),
            ("$ce-account", "$>", false),
            ("$$$ce-account", "$metadata", false),
            ("$et-$streamDeleted", "$>", false),
            ("$streams", "$>", false),
            ("$persistentsubscription-a::g-parked", "$>", false),
            ("$stats-127.0.0.1:2113", "$statsCollected", false),
            ("$user-ada", "$User", false),
            ("$store", "$store-created", false),
            (PROGRESS_STREAM, "$import-progress", false),
        ] {
            let fate = fate(&event(stream, event_type));
            assert_eq!(fate == Fate::Taken, taken, "{stream}: {fate:?}");
        }
        assert_eq!(fate(&event("a", "$streamDeleted")), Fate::Tombstone);
        for event_type in ["", "a\nb", &"x".repeat(EVENT_TYPE_SIZE_MAX + 1)] {
            assert!(matches!(fate(&event("a", event_type)), Fate::Left(_)), "{event_type:?}");
        }
    }
}
