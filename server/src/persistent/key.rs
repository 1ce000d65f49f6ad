//! What names a group, and the system streams that are its own.

use std::fmt;

use daybook_model::StreamName;
use daybook_model::limits::STREAM_NAME_SIZE_MAX;

/// How the names of the streams begin in which groups keep what must survive.
pub const PREFIX: &str = "$persistentsubscription-";
/// How those streams' metadata streams begin.
const META_PREFIX: &str = "$$$persistentsubscription-";
/// The name under which clients see the whole log.
pub const ALL: &str = "$all";
/// Bytes of a group's name and its stream's together, so that its own streams can be named.
pub const NAMES_SIZE_MAX: usize =
    STREAM_NAME_SIZE_MAX - "$$".len() - PREFIX.len() - "::".len() - "-checkpoint".len();

/// What a group follows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The whole log.
    All,
    /// A stream, which need not exist.
    Stream(StreamName),
}

impl Source {
    /// The name under which clients know it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Source::All => ALL,
            Source::Stream(stream) => stream.as_str(),
        }
    }

    /// The source that clients call `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Source> {
        if name == ALL {
            return Some(Source::All);
        }
        StreamName::new(name).ok().map(Source::Stream)
    }
}

/// Names a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// What it follows.
    pub source: Source,
    /// Its name among those that follow the same.
    pub group: String,
}

impl GroupKey {
    /// Why it cannot name a group, if it cannot.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if self.group.is_empty() {
            return Some("the group's name is empty".to_owned());
        }
        if self.group.chars().any(char::is_control) {
            return Some("the group's name has control characters".to_owned());
        }
        let size = self.group.len() + self.source.name().len();
        (size > NAMES_SIZE_MAX).then(|| {
            format!("its name and its stream's have {size} bytes; the limit is {NAMES_SIZE_MAX}")
        })
    }

    /// Where its checkpoints are.
    #[must_use]
    pub fn checkpoint_stream(&self) -> StreamName {
        self.stream("checkpoint")
    }

    /// Where its parked messages are.
    #[must_use]
    pub fn parked_stream(&self) -> StreamName {
        self.stream("parked")
    }

    fn stream(&self, what: &str) -> StreamName {
        let name = format!("{PREFIX}{self}-{what}");
        StreamName::new(&name).expect("a key is checked before a group is made of it")
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.source.name(), self.group)
    }
}

/// Whether an event of `stream` is written by groups, and so must not be fed to one that follows the
/// log: it would feed itself for ever.
#[must_use]
pub fn is_own(stream: &str) -> bool {
    stream.starts_with(PREFIX) || stream.starts_with(META_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(source: &str, group: &str) -> GroupKey {
        GroupKey { source: Source::named(source).expect("a source"), group: group.to_owned() }
    }

    #[test]
    fn the_streams_have_the_names_that_clients_know() {
        let of_stream = key("orders", "g");
        assert_eq!(
            of_stream.checkpoint_stream().as_str(),
            "$persistentsubscription-orders::g-checkpoint"
        );
        let of_all = key("$all", "g");
        assert_eq!(of_all.parked_stream().as_str(), "$persistentsubscription-$all::g-parked");
        for stream in [of_stream.checkpoint_stream(), of_all.parked_stream()] {
            assert!(is_own(stream.as_str()) && is_own(stream.metastream().as_str()));
        }
        assert!(!is_own("$persistentSubscriptionConfig"));
    }

    #[test]
    fn a_name_that_its_streams_have_no_room_for_is_refused() {
        let most = "g".repeat(NAMES_SIZE_MAX - 1);
        assert_eq!(key("s", &most).problem(), None);
        assert_eq!(key("s", &most).checkpoint_stream().metastream().as_str().len(), 1024);
        assert!(key("s", &format!("{most}g")).problem().is_some());
        assert!(key("s", "").problem().is_some());
        assert!(key("s", "a\nb").problem().is_some());
    }
}
