//! Filters on `$all`: by stream name or event type, by prefix or regular expression.

use std::sync::Arc;

use fancy_regex::{Regex, RegexBuilder};

use crate::EventView;
use crate::limits::{FILTER_BACKTRACK_MAX, FILTER_SIZE_MAX};
use crate::stream::{self, Owner};

/// What a filter looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterTarget {
    /// The name of the event's stream.
    StreamName,
    /// The event's type.
    EventType,
}

/// Which events of `$all` a reader wants.
#[derive(Clone, Debug)]
pub struct Filter {
    target: FilterTarget,
    matcher: Matcher,
}

#[derive(Clone, Debug)]
enum Matcher {
    Prefixes(Vec<String>),
    Regex(Box<Regex>),
    /// What the filter wants, or all, but for the streams that are administrators' alone.
    SparingSecrets(Option<Arc<Filter>>),
}

/// Why a filter cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// Neither an expression nor a prefix was given.
    #[error("the filter has neither a regular expression nor a prefix; give one")]
    Empty,
    /// Longer than [`FILTER_SIZE_MAX`].
    #[error("the filter has {size} bytes; the limit is {FILTER_SIZE_MAX}")]
    TooLarge {
        /// Its bytes.
        size: usize,
    },
    /// The expression does not parse.
    #[error("the filter's regular expression is not valid: {reason}")]
    BadRegex {
        /// What the parser says.
        reason: String,
    },
}

impl Filter {
    /// Wants what begins with one of `prefixes`.
    ///
    /// # Errors
    /// [`InvalidFilter`] if there is none, or they are too long.
    pub fn prefixes(target: FilterTarget, prefixes: Vec<String>) -> Result<Filter, InvalidFilter> {
        if prefixes.is_empty() {
            return Err(InvalidFilter::Empty);
        }
        let size = prefixes.iter().map(String::len).sum();
        if size > FILTER_SIZE_MAX {
            return Err(InvalidFilter::TooLarge { size });
        }
        Ok(Filter { target, matcher: Matcher::Prefixes(prefixes) })
    }

    /// Wants what `expression` matches anywhere (it is not anchored; look-around is understood,
    /// because the default filters of KurrentDB's Python client use it).
    ///
    /// # Errors
    /// [`InvalidFilter`] if it does not parse, or is too long.
    pub fn regex(target: FilterTarget, expression: &str) -> Result<Filter, InvalidFilter> {
        if expression.is_empty() {
            return Err(InvalidFilter::Empty);
        }
        if expression.len() > FILTER_SIZE_MAX {
            return Err(InvalidFilter::TooLarge { size: expression.len() });
        }
        let regex = RegexBuilder::new(expression)
            .backtrack_limit(FILTER_BACKTRACK_MAX)
            .build()
            .map_err(|e| InvalidFilter::BadRegex { reason: e.to_string() })?;
        Ok(Filter { target, matcher: Matcher::Regex(Box::new(regex)) })
    }

    /// What `wanted` wants, or all, but nothing of the streams that hold users and their passwords,
    /// and what was done and denied.
    #[must_use]
    pub fn sparing_secrets(wanted: Option<Arc<Filter>>) -> Filter {
        Filter { target: FilterTarget::StreamName, matcher: Matcher::SparingSecrets(wanted) }
    }

    /// Whether all that the filter can ever want are streams whose names begin with one of
    /// `prefixes`. Of an expression nobody can tell.
    #[must_use]
    pub fn lies_within(&self, prefixes: &[&str]) -> bool {
        let Matcher::Prefixes(own) = &self.matcher else { return false };
        let within = |own: &String| prefixes.iter().any(|prefix| own.starts_with(prefix));
        self.target == FilterTarget::StreamName && own.iter().all(within)
    }

    /// Whether the filter wants `event`. An expression that runs out of steps does not match.
    #[must_use]
    pub fn wants(&self, event: &EventView<'_>) -> bool {
        let text = match self.target {
            FilterTarget::StreamName => event.stream,
            FilterTarget::EventType => event.event_type,
        };
        match &self.matcher {
            Matcher::Prefixes(prefixes) => prefixes.iter().any(|p| text.starts_with(p.as_str())),
            Matcher::Regex(regex) => regex.is_match(text).unwrap_or(false),
            Matcher::SparingSecrets(wanted) => {
                !matches!(stream::owner_of(text), Some(Owner::Users | Owner::Audit))
                    && wanted.as_ref().is_none_or(|wanted| wanted.wants(event))
            }
        }
    }
}
