//! Streams that nobody writes: what the index has under a key, read as a stream of links.
//!
//! ```text
//!   $ce-<category>        the events of its streams, and what deleted them
//!   $et-<type>            the events of that type; $et-$deleted: what deleted streams
//!   $bc-<correlation id>  the events that carry it
//!   $streams              the first event of each stream, in the order of their creation
//!   $category-<category>  a reference to each stream of the category, likewise
//!
//!   the n-th entry of the key  ──>  the link at revision n: `<revision>@<stream>`, at the
//!                                   position and time of the entry
//! ```
//!
//! These are the streams that KurrentDB's system projections write. Nothing of a link is stored: it
//! is made from the entry that it stands for, which is at hand whoever reads it. What is not of this
//! kind is as of any stream: metadata hides entries, a reader goes both ways, a subscription waits on
//! the key.
//!
//! INVARIANTS
//! - Nothing is appended to such a stream, and none is deleted; its metadata may be written.
//! - A link's revision and id never change. An event that was removed leaves a gap; the first one
//!   of a stream none where streams are listed: its link says no more what caused it.

use std::io::Write as _;

use daybook_model::append::AppendError;
use daybook_model::metadata::METADATA_EVENT_TYPE;
use daybook_model::{ContentType, EventView, Revision, StreamName};
use uuid::Uuid;

use crate::core::Core;
use crate::index::key::DELETED;
use crate::index::{Access, Key, KeyHasher, KeyKind};
use crate::page::Page;
use crate::read::{ReadError, Readable, Visible};

/// The type of an event that names another: `<revision>@<stream>`.
pub const LINK_EVENT_TYPE: &str = "$>";
/// The type of an event that names a stream.
pub const REFERENCE_EVENT_TYPE: &str = "$@";
/// The revision by which links name a tombstone: it has no other for clients.
const TOMBSTONE_REVISION: u64 = i64::MAX as u64;

const PREFIXES: [(&str, KeyKind); 4] = [
    ("$ce-", KeyKind::Category),
    ("$et-", KeyKind::EventType),
    ("$bc-", KeyKind::Correlation),
    ("$category-", KeyKind::CategoryStreams),
];

/// What a virtual stream lists: the kind of its key, and the key's name.
fn parse(name: &str) -> Option<(KeyKind, &str)> {
    if !name.starts_with('$') {
        return None;
    }
    if name == "$streams" {
        return Some((KeyKind::Streams, ""));
    }
    PREFIXES.iter().find_map(|(prefix, kind)| Some((*kind, name.strip_prefix(prefix)?)))
}

/// Whether the stream is read from the index, so that nobody writes it.
#[must_use]
pub fn is_virtual(stream: &StreamName) -> bool {
    parse(stream.as_str()).is_some()
}

/// Refuses what would write or delete `stream`, if it is virtual.
pub(crate) fn refuse(stream: &StreamName) -> Result<(), AppendError> {
    if is_virtual(stream) {
        return Err(AppendError::Reserved { stream: stream.clone() });
    }
    Ok(())
}

/// The key whose entries are the events of `stream`, virtual or not.
pub(crate) fn key(hasher: &KeyHasher, stream: &StreamName) -> Key {
    let (kind, name) = parse(stream.as_str()).unwrap_or((KeyKind::Stream, stream.as_str()));
    hasher.key(kind, name)
}

/// The virtual stream through which a page's events were read: each is the target of a link whose
/// revision is the event's number. Nothing of a link is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    /// The virtual stream.
    pub stream: StreamName,
    kind: KeyKind,
    /// Whether its entries are what deleted streams.
    deletions: bool,
    store_id: Uuid,
}

/// What a link says, written anew for each.
#[derive(Clone, Debug, Default)]
pub struct LinkText {
    data: Vec<u8>,
    metadata: Vec<u8>,
}

impl Links {
    /// The links of `stream`; none if its events are its own.
    pub(crate) fn of(stream: &StreamName, store_id: Uuid) -> Option<Links> {
        let (kind, name) = parse(stream.as_str())?;
        let deletions = kind == KeyKind::EventType && name == DELETED;
        Some(Links { stream: stream.clone(), kind, deletions, store_id })
    }

    /// The id of the link at revision `number`: always the same in this store, and in no other.
    #[must_use]
    pub fn id(&self, number: u64) -> Uuid {
        let name = format!("{number}@{}", self.stream.as_str());
        Uuid::new_v5(&self.store_id, name.as_bytes())
    }

    /// Whether its events name streams rather than events: there is nothing to follow.
    #[must_use]
    pub fn are_references(&self) -> bool {
        self.kind == KeyKind::CategoryStreams
    }

    /// Whether each of its events stands for a stream, by what that began with: it does so for ever,
    /// also when that event was removed.
    pub(crate) fn list_streams(&self) -> bool {
        matches!(self.kind, KeyKind::Streams | KeyKind::CategoryStreams)
    }

    /// Whether the link to `target` names what that names, as it is a link itself: a category names
    /// events, not links.
    #[must_use]
    pub fn lead_beyond(&self, target: &EventView<'_>) -> bool {
        self.kind == KeyKind::Category && target.event_type == LINK_EVENT_TYPE
    }

    /// The link at revision `number` to `target`, as an event. Its text is written to `text`.
    pub fn link<'a>(
        &'a self,
        number: u64,
        target: &EventView<'_>,
        text: &'a mut LinkText,
    ) -> EventView<'a> {
        self.write_data(target, &mut text.data);
        self.write_metadata(target, &mut text.metadata);
        EventView {
            position: target.position,
            revision: Revision(number),
            time: target.time,
            id: self.id(number),
            stream: self.stream.as_str(),
            event_type: if self.are_references() { REFERENCE_EVENT_TYPE } else { LINK_EVENT_TYPE },
            content_type: ContentType::Binary,
            tombstone: false,
            metadata: &text.metadata,
            data: &text.data,
        }
    }

    fn write_data(&self, target: &EventView<'_>, data: &mut Vec<u8>) {
        data.clear();
        if self.are_references() {
            data.extend_from_slice(target.stream.as_bytes());
            return;
        }
        if self.lead_beyond(target) {
            data.extend_from_slice(target.data);
            return;
        }
        let revision = if target.tombstone { TOMBSTONE_REVISION } else { target.revision.0 };
        // What deletes a stream softly stands in its metadata stream; it is the stream that is named.
        let described = target.stream.strip_prefix("$$").filter(|_| self.deletions);
        write!(data, "{revision}@{}", described.unwrap_or(target.stream))
            .expect("a vector takes all");
    }

    /// What made the link, as KurrentDB's projections say it.
    fn write_metadata(&self, target: &EventView<'_>, out: &mut Vec<u8>) {
        out.clear();
        if target.event_type.is_empty() {
            // It was removed, and its id with it.
            out.extend_from_slice(b"{}");
            return;
        }
        write!(out, "{{\"$causedBy\":\"{}\"", target.id.as_hyphenated())
            .expect("a vector takes all");
        let described = target.stream.strip_prefix("$$");
        if self.kind == KeyKind::Category {
            out.extend_from_slice(b",\"$o\":");
            let origin = described.unwrap_or(target.stream);
            serde_json::to_writer(&mut *out, origin).expect("a vector takes all");
        }
        let softly = described.is_some() && target.event_type == METADATA_EVENT_TYPE;
        let deletes = target.tombstone || (softly && self.kind == KeyKind::Category);
        if deletes || self.deletions {
            out.extend_from_slice(b",\"$deleted\":-1");
        }
        out.push(b'}');
    }
}

/// Marks the events of `page` that who comes through one of `links` may not see: those that cannot be
/// read in their own streams, and all if the links do not name them.
pub(crate) fn hide(
    core: &Core,
    links: &Links,
    page: &mut Page,
    access: Access,
) -> Result<(), ReadError> {
    if links.are_references() || links.deletions {
        return page.hide(|_| Ok(true));
    }
    let (committed, view) = (core.committed(), core.view.load());
    // Neighbours are often of one stream.
    let mut last: Option<(Key, Option<Visible>)> = None;
    page.hide(|event| {
        let key = core.hasher.key(KeyKind::Settings, event.stream);
        if let Some((of, visible)) = &last
            && *of == key
        {
            return Ok(visible.is_none_or(|visible| !visible.shows(event)));
        }
        let described = event.stream.strip_prefix("$$");
        // Most streams have no settings, and counting them is all it takes to know.
        if described.is_none() && view.count(key, committed, access)? == 0 {
            return Ok(false);
        }
        let stream = match described {
            Some(described) => StreamName::new(described).map(|stream| stream.metastream()),
            None => StreamName::new(event.stream),
        };
        let readable = match stream {
            Ok(stream) => Readable::of(core, &view, &stream, committed, access),
            Err(_) => return Ok(true),
        };
        let visible = match readable {
            Ok(readable) => Some(readable.visible),
            Err(ReadError::StreamNotFound { .. } | ReadError::StreamDeleted { .. }) => None,
            Err(failed) => return Err(failed),
        };
        last = Some((key, visible));
        Ok(visible.is_none_or(|visible| !visible.shows(event)))
    })
}

#[cfg(test)]
mod tests {
    use daybook_model::{Position, Timestamp};

    use super::*;

    fn name(text: &str) -> StreamName {
        StreamName::new(text).expect("a name")
    }

    #[test]
    fn names_say_what_is_listed() {
        for (stream, expected) in [
            ("$ce-account", Some((KeyKind::Category, "account"))),
            ("$ce-a-b", Some((KeyKind::Category, "a-b"))),
            ("$et-$deleted", Some((KeyKind::EventType, "$deleted"))),
            ("$bc-7", Some((KeyKind::Correlation, "7"))),
            ("$category-account", Some((KeyKind::CategoryStreams, "account"))),
            ("$streams", Some((KeyKind::Streams, ""))),
            ("$streams-1", None),
            ("$$$ce-account", None),
            ("ce-account", None),
            ("$ce", None),
        ] {
            assert_eq!(parse(stream), expected, "{stream}");
            assert_eq!(is_virtual(&name(stream)), expected.is_some());
        }
    }

    fn target<'a>(stream: &'a str, event_type: &'a str, data: &'a [u8]) -> EventView<'a> {
        EventView {
            position: Position(40),
            revision: Revision(3),
            time: Timestamp(7),
            id: Uuid::from_u128(0xa1),
            stream,
            event_type,
            content_type: ContentType::Json,
            tombstone: event_type == "$streamDeleted",
            metadata: b"",
            data,
        }
    }

    #[test]
    fn a_link_says_which_event_and_why() {
        let id = Uuid::from_u128(0xa1);
        let by = format!("\"$causedBy\":\"{id}\"");
        let last = format!("{}@a-1", i64::MAX);
        for (of, stream, event_type, data, more) in [
            ("$ce-a", "a-1", "Opened", "3@a-1", ",\"$o\":\"a-1\""),
            ("$ce-a", "a-\"1", "Opened", "3@a-\"1", ",\"$o\":\"a-\\\"1\""),
            ("$ce-a", "a-1", "$>", "the target's", ",\"$o\":\"a-1\""),
            ("$ce-a", "$$a-1", "$metadata", "3@$$a-1", ",\"$o\":\"a-1\",\"$deleted\":-1"),
            ("$ce-a", "a-1", "$streamDeleted", &last, ",\"$o\":\"a-1\",\"$deleted\":-1"),
            ("$et-Opened", "a-1", "Opened", "3@a-1", ""),
            ("$et-$metadata", "$$a-1", "$metadata", "3@$$a-1", ""),
            ("$et-$deleted", "$$a-1", "$metadata", "3@a-1", ",\"$deleted\":-1"),
            ("$et-$deleted", "a-1", "$streamDeleted", &last, ",\"$deleted\":-1"),
            ("$bc-c", "a-1", "$>", "3@a-1", ""),
            ("$streams", "a-1", "Opened", "3@a-1", ""),
            ("$category-a", "a-1", "Opened", "a-1", ""),
        ] {
            let links = Links::of(&name(of), Uuid::from_u128(1)).expect("links");
            let mut text = LinkText::default();
            let link = links.link(9, &target(stream, event_type, b"the target's"), &mut text);
            assert_eq!(std::str::from_utf8(link.data), Ok(data), "{of} {stream} {event_type}");
            let metadata = format!("{{{by}{more}}}");
            assert_eq!(std::str::from_utf8(link.metadata), Ok(&*metadata), "{of} {event_type}");
            let kind = if of == "$category-a" { "$@" } else { "$>" };
            assert_eq!((link.event_type, link.stream), (kind, of));
            assert_eq!((link.revision.0, link.position.0, link.time.0), (9, 40, 7));
        }
    }

    #[test]
    fn a_link_has_one_id_for_ever_and_no_other_has_it() {
        let links =
            |store: u128, of: &str| Links::of(&name(of), Uuid::from_u128(store)).expect("links");
        let id = links(1, "$ce-a").id(0);
        assert_eq!(id.to_string(), "e3e65ff2-6ff9-57ea-93b2-b30a7572518b");
        for other in [links(1, "$ce-a").id(1), links(1, "$ce-b").id(0), links(2, "$ce-a").id(0)] {
            assert_ne!(other, id);
        }
    }
}
