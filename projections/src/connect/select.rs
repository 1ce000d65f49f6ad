//! Which events a connector relays.
//!
//! INVARIANT: never an event of a connector's own streams.

use daybook_model::stream::category;
use daybook_model::{EventView, Filter, FilterTarget};

use super::section::{ConfigError, Section};
use crate::feed::Interest;

/// How the names of connectors' own streams begin.
pub const CONNECTOR_PREFIX: &str = "$connector-";

/// Which events are wanted: those that each of the conditions given wants.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Categories are among the prefixes, as `<category>-`.
    interest: Interest,
    stream_regex: Option<Filter>,
    type_regex: Option<Filter>,
}

impl Selection {
    /// Reads `[connector.select]`; all events of users' streams if it is empty.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(mut section: Section<'_>) -> Result<Selection, ConfigError> {
        let mut streams = section.texts("streams")?;
        for wanted in section.texts("categories")? {
            let prefix = format!("{wanted}-");
            if category(&prefix) != Some(wanted.as_str()) {
                let reason = "takes names of categories: what stands before a stream's first '-'";
                return Err(section.wrong("categories", reason));
            }
            streams.push(prefix);
        }
        let types = section.texts("types")?;
        let stream_regex = regex(&mut section, "stream_regex", FilterTarget::StreamName)?;
        let type_regex = regex(&mut section, "type_regex", FilterTarget::EventType)?;
        section.finish()?;
        Ok(Selection { interest: Interest { streams, types }, stream_regex, type_regex })
    }

    /// What the feed is asked for.
    #[must_use]
    pub fn interest(&self) -> Interest {
        self.interest.clone()
    }

    /// Whether `event` is wanted.
    #[must_use]
    pub fn wants(&self, event: &EventView<'_>) -> bool {
        let described = event.stream.strip_prefix("$$").unwrap_or(event.stream);
        if event.stream.starts_with(CONNECTOR_PREFIX) || described.starts_with(CONNECTOR_PREFIX) {
            return false;
        }
        let system = event.stream.starts_with('$');
        let asked_for = || {
            let mut prefixes =
                self.interest.streams.iter().filter(|prefix| prefix.starts_with('$'));
            prefixes.any(|prefix| event.stream.starts_with(prefix.as_str()))
        };
        (!system || asked_for())
            && self.interest.wants(event.stream, event.event_type)
            && self.stream_regex.as_ref().is_none_or(|filter| filter.wants(event))
            && self.type_regex.as_ref().is_none_or(|filter| filter.wants(event))
    }
}

fn regex(
    section: &mut Section<'_>,
    key: &'static str,
    target: FilterTarget,
) -> Result<Option<Filter>, ConfigError> {
    let Some(text) = section.text(key)? else { return Ok(None) };
    Filter::regex(target, &text).map(Some).map_err(|error| section.wrong(key, error))
}

#[cfg(test)]
mod tests {
    use daybook_model::{ContentType, Position, Revision, Timestamp};
    use uuid::Uuid;

    use super::*;

    fn wants(text: &str, stream: &str, event_type: &str) -> bool {
        let section = Section::of_file("test", text, &|_| None).expect("TOML");
        let selection = Selection::read(section).expect("a selection");
        selection.wants(&EventView {
            position: Position(0),
            revision: Revision(0),
            time: Timestamp(0),
            id: Uuid::nil(),
            stream,
            event_type,
            content_type: ContentType::Json,
            tombstone: false,
            metadata: b"",
            data: b"",
        })
    }

    #[test]
    fn every_condition_that_is_given_must_hold() {
        let both = "categories = ['account']\ntypes = ['Opened']";
        for (text, stream, event_type, wanted) in [
            ("", "account-1", "Opened", true),
            ("", "$settings", "Changed", false),
            ("", "$$account-1", "$metadata", false),
            ("streams = ['$settings']", "$settings", "Changed", true),
            ("streams = ['$']", "$connector-a", "$connector-place", false),
            ("streams = ['$']", "$connector-a-parked", "$connector-parked", false),
            ("streams = ['$']", "$$$connector-a", "$metadata", false),
            (both, "account-1", "Opened", true),
            (both, "account-1", "Closed", false),
            (both, "account", "Opened", false),
            (both, "accounting-1", "Opened", false),
            ("streams = ['a', 'b']", "b1", "T", true),
            ("streams = ['a', 'b']", "c1", "T", false),
            ("stream_regex = '-(1|2)$'", "account-2", "T", true),
            ("stream_regex = '-(1|2)$'", "account-3", "T", false),
            ("stream_regex = '.'", "$settings", "T", false),
            ("type_regex = '^Op'", "account-3", "Opened", true),
            ("type_regex = '^Op'", "account-3", "Closed", false),
        ] {
            assert_eq!(wants(text, stream, event_type), wanted, "{text} {stream} {event_type}");
        }
    }

    #[test]
    fn a_condition_that_cannot_be_is_named() {
        for (text, place) in [
            ("categories = ['a-b']", "categories"),
            ("categories = ['$a']", "categories"),
            ("stream_regex = '('", "stream_regex"),
            ("types = 'One'", "types"),
            ("type = ['One']", "type"),
        ] {
            let section = Section::of_file("test", text, &|_| None).expect("TOML");
            let error = Selection::read(section).expect_err("a mistake");
            assert_eq!(error.place, place, "{text}");
        }
    }
}
