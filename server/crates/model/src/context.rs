//! What an event belongs to and what brought it about, carried in its metadata.
//!
//! ```text
//!   {"$correlationId": "…",      all that one request or process did; an index key of the store
//!    "$causationId":   "…",      the id of the event that this one is a reaction to
//!    "$by":            "…",      who had it happen, as the server that wrote it found out
//!    "traceparent":    "00-…",   the span that it was written under, for a tracing system
//!    "tracestate":     "…"}
//! ```
//!
//! The first two keys are those that KurrentDB's users and projections know; the others are the
//! W3C's. A chain of reactions shares one correlation id, and its causation ids say in which order
//! one thing led to the other.
//!
//! INVARIANT: a context is a value that whoever gives a command hands over. Nothing is ambient, because
//! commands of many callers are written in one append.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::event::InvalidEvent;
use crate::trace::{TRACEPARENT, TRACESTATE, TraceContext};
use crate::{Entropy, EventView, NewEvent};

/// The metadata key of what an event belongs to.
pub const CORRELATION_KEY: &str = "$correlationId";
/// The metadata key of the event that an event is a reaction to.
pub const CAUSATION_KEY: &str = "$causationId";

/// The metadata key of who had an event happen.
pub const ACTOR_KEY: &str = "$by";

/// What new events belong to, and what brings them about. The default says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// What they belong to: any text, a UUID by custom.
    pub correlation: Option<String>,
    /// The event that they are a reaction to.
    pub causation: Option<Uuid>,
    /// Who has them happen; nobody for what a reaction does by itself.
    pub actor: Option<String>,
    /// The span that they are written under.
    pub trace: Option<TraceContext>,
}

impl Context {
    /// Of events that belong to `id`, and are no reaction.
    #[must_use]
    pub fn correlated(id: Uuid) -> Context {
        Context { correlation: Some(id.to_string()), ..Context::default() }
    }

    /// What `metadata` says. What is not there, or not as it should be, is none.
    #[must_use]
    pub fn of(metadata: &[u8]) -> Context {
        let Ok(found) = serde_json::from_slice::<BTreeMap<&str, &RawValue>>(metadata) else {
            // Keys with escapes cannot be borrowed. Ours have none, but others may.
            let owned = serde_json::from_slice::<BTreeMap<String, &RawValue>>(metadata);
            return owned.map_or_else(|_| Context::default(), |found| Context::found(&found));
        };
        Context::found(&found)
    }

    fn found<K: Ord + std::borrow::Borrow<str>>(found: &BTreeMap<K, &RawValue>) -> Context {
        let text = |key: &str| {
            found.get(key).and_then(|value| serde_json::from_str::<String>(value.get()).ok())
        };
        let state = text(TRACESTATE);
        Context {
            correlation: text(CORRELATION_KEY),
            causation: text(CAUSATION_KEY).and_then(|id| Uuid::try_parse(&id).ok()),
            actor: text(ACTOR_KEY),
            trace: text(TRACEPARENT)
                .and_then(|parent| TraceContext::parse(&parent, state.as_deref()).ok()),
        }
    }

    /// Of events that are a reaction to `event`: they belong to what it belongs to (to itself, if it
    /// says nothing), are caused by it, and are written under a new span of its trace.
    #[must_use]
    pub fn after(event: &EventView<'_>, entropy: &dyn Entropy) -> Context {
        let said = Context::of(event.metadata);
        Context {
            correlation: Some(said.correlation.unwrap_or_else(|| event.id.to_string())),
            causation: Some(event.id),
            actor: None,
            trace: said.trace.map(|trace| trace.child(entropy)),
        }
    }

    /// It as the metadata of an event that says nothing else; empty if it says nothing.
    #[must_use]
    pub fn to_metadata(&self) -> Bytes {
        let mut members = String::new();
        self.write_members(&mut members);
        members.strip_suffix(',').map_or_else(Bytes::new, |ours| Bytes::from(format!("{{{ours}}}")))
    }

    /// Adds it to the metadata of `event`. What the event itself says stays.
    ///
    /// # Errors
    /// [`InvalidEvent::MetadataNotObject`] if there is something to add and nowhere to add it.
    pub fn add_to(&self, event: &mut NewEvent) -> Result<(), InvalidEvent> {
        let ours = self.to_metadata();
        if ours.is_empty() {
            return Ok(());
        }
        if event.metadata.is_empty() {
            event.metadata = ours;
            return Ok(());
        }
        let id = event.id;
        // Raw, so that no number of the event's own loses a digit.
        let mut all = object(&ours).ok_or(InvalidEvent::MetadataNotObject { id })?;
        all.extend(object(&event.metadata).ok_or(InvalidEvent::MetadataNotObject { id })?);
        let all = serde_json::to_vec(&all).map_err(|_| InvalidEvent::MetadataNotObject { id })?;
        event.metadata = Bytes::from(all);
        Ok(())
    }

    /// Writes it as members of a JSON object, each with a comma after it.
    pub(crate) fn write_members(&self, text: &mut String) {
        // Writing to a string cannot fail.
        if let Some(correlation) = &self.correlation {
            let _ = write!(text, r#""{CORRELATION_KEY}":{},"#, quoted(correlation));
        }
        if let Some(causation) = self.causation {
            let _ = write!(text, r#""{CAUSATION_KEY}":"{causation}","#);
        }
        if let Some(actor) = &self.actor {
            let _ = write!(text, r#""{ACTOR_KEY}":{},"#, quoted(actor));
        }
        if let Some(trace) = &self.trace {
            let _ = write!(text, r#""{TRACEPARENT}":"{trace}","#);
            if let Some(state) = trace.tracestate() {
                let _ = write!(text, r#""{TRACESTATE}":{},"#, quoted(state));
            }
        }
    }
}

fn object(json: &[u8]) -> Option<BTreeMap<String, Box<RawValue>>> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Object(BTreeMap<String, Box<RawValue>>);
    serde_json::from_slice::<Object>(json).ok().map(|object| object.0)
}

/// `text` as JSON.
fn quoted(text: &str) -> serde_json::Value {
    serde_json::Value::String(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContentType, Position, Revision, SystemEntropy, Timestamp};

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn full() -> Context {
        Context {
            correlation: Some("order \"7\"".to_owned()),
            causation: Some(Uuid::from_u128(9)),
            actor: Some("ada \"the\" first".to_owned()),
            trace: Some(TraceContext::parse(PARENT, Some("a=\"1\"")).expect("valid")),
        }
    }

    fn event(metadata: &str) -> NewEvent {
        let metadata = Bytes::copy_from_slice(metadata.as_bytes());
        NewEvent { metadata, ..NewEvent::json(Uuid::from_u128(1), "Happened", "{}") }
    }

    #[test]
    fn what_is_added_is_found_again() {
        for context in [Context::default(), Context::correlated(Uuid::from_u128(3)), full()] {
            for metadata in ["", "{}", r#"{"a":{"b":1.10,"c":18446744073709551616}}"#] {
                let mut event = event(metadata);
                context.add_to(&mut event).expect("an object");
                assert_eq!(Context::of(&event.metadata), context, "{metadata}");
                let text = std::str::from_utf8(&event.metadata).expect("text");
                let own = metadata.trim_matches(['{', '}']);
                assert!(text.contains(own), "no digit is lost: {text}");
            }
        }
    }

    #[test]
    fn what_an_event_says_itself_stays() {
        let mut event = event(r#"{"$correlationId":"mine","x":1}"#);
        full().add_to(&mut event).expect("an object");
        let said = Context::of(&event.metadata);
        assert_eq!(said, Context { correlation: Some("mine".to_owned()), ..full() });
    }

    #[test]
    fn metadata_that_is_no_object_takes_nothing_and_needs_nothing() {
        for metadata in ["[]", "7", "not json", "{\"a\":1} x"] {
            let mut event = event(metadata);
            assert_eq!(Context::default().add_to(&mut event), Ok(()));
            let id = event.id;
            let refused = full().add_to(&mut event);
            assert_eq!(refused, Err(InvalidEvent::MetadataNotObject { id }), "{metadata}");
            assert_eq!(event.metadata, metadata);
            assert_eq!(Context::of(&event.metadata), Context::default());
        }
        let odd = r#"{"$correlationId":7,"$causationId":"x","traceparent":"00-","a\"b":1}"#;
        assert_eq!(Context::of(odd.as_bytes()), Context::default());
        let escaped = r#"{"a\"b":1,"$correlationId":"c"}"#;
        assert_eq!(Context::of(escaped.as_bytes()).correlation.as_deref(), Some("c"));
    }

    #[test]
    fn a_reaction_belongs_to_what_its_cause_belongs_to() {
        let view = |metadata| EventView {
            position: Position(0),
            revision: Revision(0),
            time: Timestamp(0),
            id: Uuid::from_u128(5),
            stream: "order-1",
            event_type: "Placed",
            content_type: ContentType::Json,
            tombstone: false,
            metadata,
            data: b"",
        };
        let first = Context::after(&view(b""), &SystemEntropy);
        assert_eq!(first.correlation, Some(Uuid::from_u128(5).to_string()), "it begins a chain");
        assert_eq!((first.causation, first.trace), (Some(Uuid::from_u128(5)), None));
        let mut cause = event("");
        full().add_to(&mut cause).expect("an object");
        let next = Context::after(&view(&cause.metadata), &SystemEntropy);
        assert_eq!((next.correlation, next.causation), (full().correlation, first.causation));
        assert_eq!(next.actor, None, "what reacts is nobody's doing");
        let (trace, parent) = (next.trace.expect("a trace"), full().trace.expect("a trace"));
        assert_eq!(trace.trace_id(), parent.trace_id());
        assert_ne!(trace.span_id(), parent.span_id());
    }
}
