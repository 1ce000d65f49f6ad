//! Reading old events: each is brought to the layout that today's program knows, one version at a
//! time, before it is decoded.
//!
//! ```text
//!   stored                    "$schemaVersion" absent = 1
//!     Opened 1 ──change──> Opened 2 ──change──> Opened 3 ──> decode, which knows 3 only
//!     Opened 2 ───────────────────────change──> Opened 3
//!     Opened 4   refused: it was written by a newer program
//! ```
//!
//! What is stored is never rewritten: a step is a pure function of an event's data, written once
//! when the layout changes and kept for ever. A type without steps has version 1, and its events
//! carry no version at all.
//!
//! ```
//! use daybook_model::upcast::{Change, Step, Upcasters};
//!
//! /// Version 2 splits the name; version 3 counts in cents.
//! const OPENED: Upcasters = Upcasters::new(&[
//!     Step { event_type: "Opened", from: 1, change: Change::Json(|data| {
//!         let name = data.remove("name").and_then(|name| name.as_str().map(str::to_owned));
//!         let name = name.ok_or("it has no name")?;
//!         let (first, last) = name.split_once(' ').unwrap_or(("", &name));
//!         data.insert("first".to_owned(), first.into());
//!         data.insert("last".to_owned(), last.into());
//!         Ok(())
//!     }) },
//!     Step { event_type: "Opened", from: 2, change: Change::Json(|data| {
//!         let euros = data.get("limit").and_then(serde_json::Value::as_u64).unwrap_or(0);
//!         data.insert("limit".to_owned(), (euros * 100).into());
//!         Ok(())
//!     }) },
//! ]);
//! assert_eq!(OPENED.version("Opened"), 3);
//! assert_eq!(OPENED.version("Closed"), 1);
//! ```
//!
//! INVARIANT: a chain has no gap; one that had would not compile.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value};

use crate::EventView;
use crate::aggregate::Undecodable;

/// The metadata key of the version of an event's layout: a number from 1 on; absent is 1.
pub const SCHEMA_VERSION_KEY: &str = "$schemaVersion";

/// One version of one event type to the next.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The type.
    pub event_type: &'static str,
    /// The version that it starts from; it leads to the one after.
    pub from: u32,
    /// What it does.
    pub change: Change,
}

/// What a step does with an event's data. An error is what is wrong with the event, for a person.
#[derive(Clone, Copy)]
pub enum Change {
    /// Changes a JSON object.
    Json(fn(&mut Map<String, Value>) -> Result<(), String>),
    /// Makes other bytes of bytes.
    Bytes(fn(&[u8]) -> Result<Vec<u8>, String>),
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Change::Json(_) => "Json",
            Change::Bytes(_) => "Bytes",
        })
    }
}

/// The steps of all event types that one reader knows.
#[derive(Clone, Copy, Debug)]
pub struct Upcasters {
    /// Of each type in order, from 1 on, without a gap.
    steps: &'static [Step],
}

impl Upcasters {
    /// Every event type still has its first layout.
    pub const NONE: Upcasters = Upcasters { steps: &[] };

    /// A reader that knows `steps`. Meant for a constant, where a mistake does not compile.
    ///
    /// # Panics
    /// If the steps of a type are not in order, or leave out a version.
    #[must_use]
    pub const fn new(steps: &'static [Step]) -> Upcasters {
        let mut at = 0;
        while at < steps.len() {
            let (mut before, mut version) = (0, 1);
            while before < at {
                if same(steps[before].event_type, steps[at].event_type) {
                    version += 1;
                }
                before += 1;
            }
            assert!(steps[at].from == version, "the steps of a type are 1, 2, 3 … in order");
            at += 1;
        }
        Upcasters { steps }
    }

    /// The version of `event_type` that this reader decodes, and its program writes.
    #[must_use]
    pub fn version(&self, event_type: &str) -> u32 {
        let steps = self.steps.iter().filter(|step| step.event_type == event_type);
        steps.map(|step| step.from + 1).max().unwrap_or(1)
    }

    /// The data of `event` in the layout of [`Upcasters::version`].
    ///
    /// # Errors
    /// [`Undecodable`] if a newer program wrote it, or a step finds it wanting.
    pub fn data<'a>(&self, event: &EventView<'a>) -> Result<Cow<'a, [u8]>, Undecodable> {
        let undecodable = |reason| Undecodable { event_type: event.event_type.to_owned(), reason };
        let stored = stored_version(event.metadata).map_err(undecodable)?;
        let known = self.version(event.event_type);
        if stored > u64::from(known) {
            return Err(undecodable(format!(
                "its schema has version {stored}, and this program knows {known} at most; run a \
                 newer one"
            )));
        }
        let mut data = Cow::Borrowed(event.data);
        let steps = self.steps.iter().filter(|step| step.event_type == event.event_type);
        for step in steps.filter(|step| u64::from(step.from) >= stored) {
            let changed = step.change.apply(&data).map_err(|reason| {
                undecodable(format!("version {} cannot be read: {reason}", step.from))
            })?;
            data = Cow::Owned(changed);
        }
        Ok(data)
    }
}

impl Change {
    fn apply(self, data: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Change::Bytes(change) => change(data),
            Change::Json(change) => {
                let mut object = serde_json::from_slice(data)
                    .map_err(|error| format!("its data is no JSON object: {error}"))?;
                change(&mut object)?;
                serde_json::to_vec(&object).map_err(|error| error.to_string())
            }
        }
    }
}

/// The version that `metadata` names.
fn stored_version(metadata: &[u8]) -> Result<u64, String> {
    // Most events have none, and are not parsed.
    if !names_version(metadata) {
        return Ok(1);
    }
    #[derive(serde::Deserialize)]
    struct Metadata {
        #[serde(rename = "$schemaVersion")]
        version: Option<Value>,
    }
    let Ok(Metadata { version: Some(version) }) = serde_json::from_slice(metadata) else {
        return Ok(1);
    };
    let number = version.as_u64().filter(|number| *number > 0);
    number.ok_or_else(|| format!("'{version}' is no schema version; it is a number from 1 on"))
}

/// Whether the key stands anywhere in `metadata`. Asked for each event that is replayed.
fn names_version(metadata: &[u8]) -> bool {
    let mut rest = metadata;
    while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
        rest = &rest[at..];
        if rest.starts_with(SCHEMA_VERSION_KEY.as_bytes()) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Whether two texts are the same, for a constant.
const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut at = 0;
    while at < a.len() {
        if a[at] != b[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContentType, Position, Revision, Timestamp};
    use uuid::Uuid;

    const UPCASTERS: Upcasters = Upcasters::new(&[
        Step {
            event_type: "Opened",
            from: 1,
            change: Change::Json(|data| {
                let name = data.remove("name").ok_or("it has no name")?;
                data.insert("owner".to_owned(), name);
                Ok(())
            }),
        },
        Step {
            event_type: "Noted",
            from: 1,
            change: Change::Bytes(|data| Ok([b"> ", data].concat())),
        },
        Step {
            event_type: "Opened",
            from: 2,
            change: Change::Json(|data| {
                data.insert("limit".to_owned(), 0.into());
                Ok(())
            }),
        },
    ]);

    fn view<'a>(event_type: &'a str, metadata: &'a str, data: &'a str) -> EventView<'a> {
        EventView {
            position: Position(0),
            revision: Revision(0),
            time: Timestamp(0),
            id: Uuid::nil(),
            stream: "account-1",
            event_type,
            content_type: ContentType::Json,
            tombstone: false,
            metadata: metadata.as_bytes(),
            data: data.as_bytes(),
        }
    }

    #[test]
    fn an_old_event_is_brought_to_today_s_version() {
        let opened = r#"{"limit":0,"owner":"Ada"}"#;
        for (event_type, metadata, data, expected) in [
            ("Opened", "", r#"{"name":"Ada"}"#, opened),
            ("Opened", r#"{"$schemaVersion":1}"#, r#"{"name":"Ada"}"#, opened),
            ("Opened", r#"{"$schemaVersion":2}"#, r#"{"owner":"Ada"}"#, opened),
            ("Opened", r#"{"$schemaVersion":3}"#, r#"{"any":1}"#, r#"{"any":1}"#),
            ("Opened", r#"{"x":"$schemaVersion"}"#, r#"{"name":"Ada"}"#, opened),
            ("Opened", "$schemaVersion", r#"{"name":"Ada"}"#, opened),
            ("Noted", "", "hello", "> hello"),
            ("Closed", "", "as it is", "as it is"),
            ("Closed", r#"{"$schemaVersion":1}"#, "as it is", "as it is"),
        ] {
            let data = UPCASTERS.data(&view(event_type, metadata, data)).expect("readable");
            assert_eq!(String::from_utf8_lossy(&data), expected, "{event_type} {metadata}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (event_type, metadata, data, words) in [
            ("Opened", r#"{"$schemaVersion":4}"#, "{}", ["version 4", "knows 3", "newer"]),
            ("Closed", r#"{"$schemaVersion":2}"#, "{}", ["version 2", "knows 1", "newer"]),
            ("Opened", r#"{"$schemaVersion":0}"#, "{}", ["'0'", "number", "from 1"]),
            ("Opened", r#"{"$schemaVersion":"2"}"#, "{}", ["'\"2\"'", "number", "from 1"]),
            ("Opened", r#"{"$schemaVersion":99999999999}"#, "{}", ["99999999999", "knows", "3"]),
            ("Opened", "", "{}", ["Opened", "version 1", "no name"]),
            ("Opened", "", "[]", ["Opened", "version 1", "no JSON object"]),
        ] {
            let error = UPCASTERS.data(&view(event_type, metadata, data)).expect_err("refused");
            let error = error.to_string();
            for word in words {
                assert!(error.contains(word), "'{word}' is missing in: {error}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "in order")]
    fn a_chain_with_a_gap_is_refused() {
        let _ = Upcasters::new(&[Step {
            event_type: "Opened",
            from: 2,
            change: Change::Bytes(|data| Ok(data.to_vec())),
        }]);
    }
}
