//! What no caller may do with a stream, administrators and servers that ask nobody included.
//!
//! ```text
//!   a stream that has an owner            is written and deleted by that part of the server alone
//!   what describes $audit                 takes its lists, and how long it is kept: long enough
//!   $settings, what describes $ streams   are not deleted for ever
//! ```
//!
//! INVARIANT: pure, and without any cost for streams whose names do not begin with `$`.

use std::time::Duration;

use daybook_model::metadata::METADATA_EVENT_TYPE;
use daybook_model::stream::{AUDIT_STREAM, described_by};
use daybook_model::{Act, NewEvent, StreamName};
use daybook_store::{Append, AppendError, Deletion};
use serde_json::Value;

use crate::security::acl::SETTINGS_STREAM;

/// The least time for which the audit log is kept. What an administrator does today must be there
/// when others look; PCI DSS (10.5.1) wants three months at hand.
pub const AUDIT_AGE_MIN: Duration = Duration::from_secs(90 * 24 * 60 * 60);

const KEPT: &str = "its metadata takes $acl, and $maxAge of 7776000 (90 days) or more, and nothing \
                    else: nobody takes away what was recorded";
const NOT_SETTINGS: &str = "what holds of all streams is not deleted for ever; append {} to it for \
                            what is built in";
const NOT_METADATA: &str =
    "the metadata of a system stream is not deleted for ever; write {} to it";

const _: () = assert!(AUDIT_AGE_MIN.as_secs() == 7_776_000);

/// What is not done, of which stream, and why.
pub type Guarded<'a> = (Act, &'a str, &'static str);

/// Refuses a stream of the server's own.
///
/// # Errors
/// [`AppendError::Reserved`]
pub fn owned(stream: &StreamName) -> Result<(), AppendError> {
    if stream.owner().is_some() {
        return Err(AppendError::Reserved { stream: stream.clone() });
    }
    Ok(())
}

/// What of an append is not done.
pub fn append(append: &Append) -> Option<Guarded<'_>> {
    for (index, part) in (0u32..).zip(&append.streams) {
        let Some(described) = described_by(part.stream.as_str()) else { continue };
        if root(described) != AUDIT_STREAM {
            continue;
        }
        let mut events = append.events.iter().filter(|(of, _)| *of == index);
        if described != AUDIT_STREAM || !events.all(|(_, event)| keeps_audit(event)) {
            return Some((Act::WriteMetadata, described, KEPT));
        }
    }
    None
}

/// What of a deletion is not done.
pub fn delete(stream: &StreamName, how: Deletion) -> Option<Guarded<'_>> {
    let name = stream.as_str();
    if let Some(described) = described_by(name)
        && root(described) == AUDIT_STREAM
    {
        return Some((Act::WriteMetadata, described, KEPT));
    }
    if how == Deletion::Soft {
        return None;
    }
    match described_by(name) {
        Some(described) if described.starts_with('$') => Some((Act::Delete, name, NOT_METADATA)),
        _ => (name == SETTINGS_STREAM).then_some((Act::Delete, name, NOT_SETTINGS)),
    }
}

/// The stream at the end of what describes what describes it.
fn root(name: &str) -> &str {
    let mut name = name;
    while let Some(described) = described_by(name) {
        name = described;
    }
    name
}

/// Whether the audit log's metadata may be this.
fn keeps_audit(event: &NewEvent) -> bool {
    let Ok(Value::Object(members)) = serde_json::from_slice(&event.data) else { return false };
    event.event_type == METADATA_EVENT_TYPE
        && members.iter().all(|(name, value)| match name.as_str() {
            "$acl" => true,
            "$maxAge" => value.as_u64().is_some_and(|age| age >= AUDIT_AGE_MIN.as_secs()),
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use daybook_model::ExpectedRevision;
    use uuid::Uuid;

    use super::*;

    fn name(text: &str) -> StreamName {
        StreamName::new(text).expect("a name")
    }

    fn event(event_type: &str, data: &str) -> NewEvent {
        NewEvent::json(Uuid::from_u128(1), event_type, data.to_owned())
    }

    #[test]
    fn the_audit_log_takes_lists_and_a_long_age_and_nothing_else() {
        for (event_type, data, taken) in [
            ("$metadata", "{}", true),
            ("$metadata", r#"{"$acl":{"$r":"auditors"}}"#, true),
            ("$metadata", r#"{"$acl":{"$r":[]},"$maxAge":7776000}"#, true),
            ("$metadata", r#"{"$maxAge":7775999}"#, false),
            ("$metadata", r#"{"$maxAge":7775999.5}"#, false),
            ("$metadata", r#"{"$maxAge":0}"#, false),
            ("$metadata", r#"{"$maxAge":9999999,"$maxAge":1}"#, false),
            ("$metadata", r#"{"$maxCount":1000000}"#, false),
            ("$metadata", r#"{"$tb":1}"#, false),
            ("$metadata", r#"{"$acl":{},"$tb":0}"#, false),
            ("$metadata", "[]", false),
            ("$metadata", "", false),
            ("other", "{}", false),
        ] {
            let events = [event("$metadata", "{}"), event(event_type, data)];
            let decoy = (name("$$$decoy"), ExpectedRevision::Any, vec![event("$metadata", "{}")]);
            let of_log = (name("$$$audit"), ExpectedRevision::Any, events.to_vec());
            let asked = Append::to_streams([decoy, of_log]);
            assert_eq!(append(&asked).is_none(), taken, "{event_type} {data}");
        }
    }

    #[test]
    fn what_describes_the_audit_log_is_not_hidden_or_deleted() {
        for deep in ["$$$$$audit", "$$$$$$$audit"] {
            let asked =
                Append::to_stream(name(deep), ExpectedRevision::Any, [event("$metadata", "{}")]);
            assert!(append(&asked).is_some(), "{deep}");
        }
        for (stream, soft, for_ever) in [
            ("$$$audit", false, false),
            ("$$$$$audit", false, false),
            ("$settings", true, false),
            ("$$$settings", true, false),
            ("$$$all", true, false),
            ("$other", true, true),
            ("$$orders-1", true, true),
            ("orders-1", true, true),
        ] {
            let stream = name(stream);
            let found = [Deletion::Soft, Deletion::Tombstone].map(|how| delete(&stream, how));
            assert_eq!(found.map(|refused| refused.is_none()), [soft, for_ever], "{stream}");
        }
    }
}
