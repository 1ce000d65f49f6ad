//! How a group is set up, as it is kept.

use std::time::Duration;

use daybook_model::{Filter, FilterTarget, InvalidFilter};
use daybook_store::persistent::Settings;

use super::key::GroupKey;

/// A group and its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Which group.
    pub key: GroupKey,
    /// How it works.
    pub settings: Settings,
    /// Whether links are followed.
    pub resolve_links: bool,
    /// Whether it is measured how long consumers take.
    pub extra_statistics: bool,
    /// Where it begins, in the words of who made it.
    pub start: Start,
    /// The number that is. Found out when the group is made: "the end" must stay where it was when
    /// the group is loaded again before its first checkpoint.
    pub begins_at: u64,
    /// Which events it wants; only of the whole log.
    pub filter: Option<FilterSpec>,
}

/// Where a group begins that has no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the first event.
    First,
    /// With what is committed from then on.
    End,
    /// With this revision of a stream, or with this place in the log as clients number it.
    At(u64),
}

/// A filter, in a form that can be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterSpec {
    /// What it looks at.
    pub target: FilterTarget,
    /// What that must be.
    pub pattern: Pattern,
}

/// What a filter wants to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// One of these at the beginning.
    Prefixes(Vec<String>),
    /// This anywhere.
    Regex(String),
}

impl FilterSpec {
    /// The filter.
    ///
    /// # Errors
    /// [`InvalidFilter`] says why it cannot be used.
    pub fn compile(&self) -> Result<Filter, InvalidFilter> {
        match &self.pattern {
            Pattern::Prefixes(prefixes) => Filter::prefixes(self.target, prefixes.clone()),
            Pattern::Regex(expression) => Filter::regex(self.target, expression),
        }
    }
}

/// A duration in whole milliseconds, as clients see it; 0 for none.
#[must_use]
pub fn milliseconds(duration: Option<Duration>) -> i32 {
    let ms = duration.map_or(0, |duration| duration.as_millis());
    i32::try_from(ms).unwrap_or(i32::MAX)
}

/// The duration that clients mean by so many milliseconds.
#[must_use]
pub fn duration(milliseconds: u64) -> Option<Duration> {
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds))
}
