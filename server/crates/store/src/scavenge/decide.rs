//! What of one stream goes: pure, from what is known of it as of one moment.

use daybook_log::planted::{self, Bug};
use daybook_model::{EventView, Position, StreamMetadata, StreamName, Timestamp};

use crate::open::STORE_STREAM;
use crate::virtual_stream;

/// What is known of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// How many events it has, or had.
    pub count: u64,
    /// Whether it ended for ever, or, of a metadata stream, the stream that it describes.
    pub ended: bool,
    pub metadata: StreamMetadata,
    /// Where the newest settings stand of the stream that it describes, if it is a metadata stream
    /// and that has not ended.
    pub settings: Option<Position>,
    pub now: Timestamp,
}

/// What goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Events of lower revision go, whatever their time.
    pub below: u64,
    /// Events that were committed earlier go, if they are below `count`.
    pub before: Option<Timestamp>,
    /// What came after the moment of the decision stays.
    pub count: u64,
    /// The event at this position stays.
    pub kept: Option<Position>,
}

impl Rule {
    /// What goes of `stream`; none if all of it stays.
    pub fn of(stream: &StreamName, facts: &Facts) -> Option<Rule> {
        if stays(stream) || facts.count == 0 {
            return None;
        }
        let count = facts.count;
        let kept = facts.settings.filter(|_| !planted::is(Bug::NewestSettingsRemoved));
        if facts.ended {
            return Some(Rule { below: count, before: None, count, kept });
        }
        let metadata = &facts.metadata;
        let max_count = metadata.max_count.or(stream.is_metastream().then_some(1));
        let by_count = max_count.map_or(0, |max| count.saturating_sub(max));
        let hidden = by_count.max(metadata.truncate_before.unwrap_or(0));
        let one_too_many = u64::from(planted::is(Bug::KeptEventRemoved) && hidden > 0);
        let below = (hidden + one_too_many).min(count);
        let before = metadata.max_age.map(|age| {
            let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
            Timestamp(facts.now.0.saturating_sub(age))
        });
        let any = below > 0 || before.is_some();
        any.then_some(Rule { below, before, count, kept })
    }

    /// Whether `event`, of this stream, goes.
    pub fn removes(&self, event: &EventView<'_>) -> bool {
        let revision = event.revision.0;
        let past = revision < self.below
            || (revision < self.count && self.before.is_some_and(|before| event.time < before));
        let last = event.tombstone && !planted::is(Bug::TombstoneRemoved);
        past && !last && self.kept != Some(event.position)
    }
}

/// Whether nothing of `stream` ever goes: the store's own first event names its format, and books
/// are kept whole. The events of a virtual stream are other streams'.
fn stays(stream: &StreamName) -> bool {
    let described = stream.described().unwrap_or(stream.as_str());
    stream.is_reserved()
        || described == STORE_STREAM
        || (!stream.is_metastream() && virtual_stream::is_virtual(stream))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use daybook_model::{ContentType, Revision};
    use uuid::Uuid;

    use super::*;

    const NOW: i64 = 100_000_000_000;

    fn facts(count: u64, metadata: StreamMetadata) -> Facts {
        Facts { count, ended: false, metadata, settings: None, now: Timestamp(NOW) }
    }

    /// Which of the events 0, 1, … of a stream go; event n was committed at second 10 n.
    fn goes(stream: &str, facts: &Facts, tombstone: Option<u64>, len: u64) -> Vec<u64> {
        let name = StreamName::new(stream).expect("a name");
        let Some(rule) = Rule::of(&name, facts) else { return Vec::new() };
        let event = |n: u64| EventView {
            position: Position(1000 + n),
            revision: Revision(n),
            time: Timestamp(10_000_000_000 * n as i64),
            id: Uuid::nil(),
            stream,
            event_type: "Paid",
            content_type: ContentType::Json,
            tombstone: tombstone == Some(n),
            metadata: b"",
            data: b"",
        };
        (0..len).filter(|n| rule.removes(&event(*n))).collect()
    }

    #[test]
    fn what_goes_and_what_stays() {
        let none = StreamMetadata::default();
        let max_count = StreamMetadata { max_count: Some(2), ..none };
        let truncated = StreamMetadata { truncate_before: Some(3), ..none };
        let deleted = StreamMetadata { truncate_before: Some(i64::MAX as u64), ..none };
        let aged = StreamMetadata { max_age: Some(Duration::from_secs(80)), ..none };
        let all = [0, 1, 2, 3, 4];
        let ended = |metadata| Facts { ended: true, ..facts(5, metadata) };
        let described = |settings: u64, metadata| Facts {
            settings: Some(Position(1000 + settings)),
            ..facts(5, metadata)
        };
        type Case<'a> = (&'a str, &'a str, Facts, Option<u64>, &'a [u64]);
        let cases: [Case<'_>; 21] = [
            ("no settings", "a-1", facts(5, none), None, &[]),
            ("max count", "a-1", facts(5, max_count), None, &[0, 1, 2]),
            ("fewer than max count", "a-1", facts(1, max_count), None, &[]),
            ("truncated", "a-1", facts(5, truncated), None, &[0, 1, 2]),
            ("truncated beyond", "a-1", facts(2, truncated), None, &[0, 1]),
            ("deleted", "a-1", facts(5, deleted), None, &all),
            ("deleted, then more", "a-1", facts(3, deleted), None, &[0, 1, 2]),
            ("aged", "a-1", facts(5, aged), None, &[0, 1]),
            ("aged, then more", "a-1", facts(1, aged), None, &[0]),
            ("ended", "a-1", ended(none), Some(4), &[0, 1, 2, 3]),
            ("ended, whatever it asked", "a-1", ended(max_count), Some(4), &[0, 1, 2, 3]),
            ("metadata", "$$a-1", described(4, none), None, &[0, 1, 2, 3]),
            ("metadata, newest not last", "$$a-1", described(3, none), None, &[0, 1, 2]),
            ("metadata that keeps two", "$$a-1", described(4, max_count), None, &[0, 1, 2]),
            ("metadata, deleted itself", "$$a-1", described(4, deleted), None, &[0, 1, 2, 3]),
            ("metadata of what ended", "$$a-1", ended(none), None, &all),
            (
                "metadata that ended before what it describes",
                "$$a-1",
                Facts { settings: Some(Position(1003)), ..ended(none) },
                Some(4),
                &[0, 1, 2],
            ),
            ("the ledger's", "ledger.account-1", ended(deleted), None, &[]),
            ("the ledger's metadata", "$$ledger.account-1", facts(5, none), None, &[]),
            ("the store's", "$store", facts(5, deleted), None, &[]),
            ("a virtual stream", "$ce-a", facts(5, deleted), None, &[]),
        ];
        for (name, stream, facts, tombstone, expected) in cases {
            assert_eq!(goes(stream, &facts, tombstone, 5), expected, "{name}");
        }
    }
}
