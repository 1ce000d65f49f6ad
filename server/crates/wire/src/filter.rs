//! Filters on `$all`. Protocol sections 5.1 and 5.4.

use daybook_model::{Filter, FilterTarget};

use crate::error::InvalidRequest;
use crate::proto::streams::read_req::options::FilterOptions;
use crate::proto::streams::read_req::options::filter_options::{
    Expression, Filter as Choice, Window,
};

/// Events considered between two checkpoints, times the multiplier, where the client names none:
/// KurrentDB's default.
pub const WINDOW_DEFAULT: u32 = 32;

/// A filter, and how often a subscription with it wants a checkpoint.
#[derive(Clone, Debug)]
pub struct RequestedFilter {
    /// Which events it wants.
    pub filter: Filter,
    /// Events considered between two checkpoints; 0 if the client's multiplier is 0, which counts
    /// for subscriptions only and is refused there.
    pub checkpoint_interval: u64,
}

/// The filter a request asks for.
///
/// # Errors
/// [`InvalidRequest`] if the filter or its window is not set, or cannot be used.
pub fn from_proto(options: &FilterOptions) -> Result<RequestedFilter, InvalidRequest> {
    let (target, expression) = match options.filter.as_ref() {
        Some(Choice::StreamIdentifier(expression)) => (FilterTarget::StreamName, expression),
        Some(Choice::EventType(expression)) => (FilterTarget::EventType, expression),
        None => return Err(InvalidRequest::Missing { field: "filter" }),
    };
    let checkpoint_interval = checkpoint_interval(options)?;
    let filter = if expression.regex.is_empty() {
        Filter::prefixes(target, expression.prefix.clone())?
    } else {
        Filter::regex(target, &expression.regex)?
    };
    Ok(RequestedFilter { filter, checkpoint_interval })
}

/// Events considered between two checkpoints; 0 if the client's multiplier is 0.
///
/// # Errors
/// [`InvalidRequest`] if the filter's window is not set.
pub fn checkpoint_interval(options: &FilterOptions) -> Result<u64, InvalidRequest> {
    let window = match options.window {
        Some(Window::Max(max)) => max.max(1),
        Some(Window::Count(_)) => WINDOW_DEFAULT,
        None => return Err(InvalidRequest::Missing { field: "filter.window" }),
    };
    Ok(u64::from(window) * u64::from(options.checkpoint_interval_multiplier))
}

/// A secondary index that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondaryIndex<'a> {
    /// All events that are not the system's.
    All,
    /// Those of a category.
    Category(&'a str),
    /// Those of a type.
    EventType(&'a str),
}

/// The index called `name`, if there is such a one.
#[must_use]
pub fn secondary_index(name: &str) -> Option<SecondaryIndex<'_>> {
    let of = |prefix| name.strip_prefix(prefix).filter(|rest: &&str| !rest.is_empty());
    match name {
        "$idx-all" => Some(SecondaryIndex::All),
        _ => of("$idx-ce-")
            .map(SecondaryIndex::Category)
            .or_else(|| of("$idx-et-").map(SecondaryIndex::EventType)),
    }
}

/// The name of the secondary index that a filter asks for, if it does: one stream prefix that
/// begins with `$idx-`.
#[must_use]
pub fn index_name(options: &FilterOptions) -> Option<&str> {
    match options.filter.as_ref() {
        Some(Choice::StreamIdentifier(Expression { regex, prefix })) if regex.is_empty() => {
            let [only] = prefix.as_slice() else { return None };
            only.starts_with("$idx-").then_some(only)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use daybook_model::InvalidFilter;

    use super::*;
    use crate::event::tests::recorded;

    fn options(expression: Expression) -> FilterOptions {
        FilterOptions {
            filter: Some(Choice::StreamIdentifier(expression)),
            window: Some(Window::Max(10)),
            checkpoint_interval_multiplier: 3,
        }
    }

    #[test]
    fn a_regular_expression_wins_over_prefixes() {
        let both = Expression { regex: "^x".to_owned(), prefix: vec!["account".to_owned()] };
        let regex = from_proto(&options(both)).expect("a filter");
        assert!(!regex.filter.wants(&recorded().view()));
        assert_eq!(regex.checkpoint_interval, 30);
        let prefix = Expression { regex: String::new(), prefix: vec!["account".to_owned()] };
        let prefix = from_proto(&options(prefix)).expect("a filter");
        assert!(prefix.filter.wants(&recorded().view()));
    }

    #[test]
    fn what_is_not_set_is_refused() {
        let mut unset = options(Expression::default());
        assert!(matches!(from_proto(&unset), Err(InvalidRequest::Filter(InvalidFilter::Empty))));
        unset.window = None;
        assert!(matches!(from_proto(&unset), Err(InvalidRequest::Missing { .. })));
        unset.filter = None;
        assert!(matches!(from_proto(&unset), Err(InvalidRequest::Missing { field: "filter" })));
    }

    #[test]
    fn one_prefix_can_name_an_index() {
        let index = |prefix: &[&str]| {
            let prefix = prefix.iter().map(|p| (*p).to_owned()).collect();
            index_name(&options(Expression { regex: String::new(), prefix })).map(str::to_owned)
        };
        assert_eq!(index(&["$idx-ce-account"]).as_deref(), Some("$idx-ce-account"));
        assert_eq!(index(&["$idx-ce-account", "b"]), None);
        assert_eq!(index(&["account"]), None);
        for (name, expected) in [
            ("$idx-all", Some(SecondaryIndex::All)),
            ("$idx-ce-account", Some(SecondaryIndex::Category("account"))),
            ("$idx-et-$x", Some(SecondaryIndex::EventType("$x"))),
            ("$idx-ce-", None),
            ("$idx-user-x", None),
            ("$idx-allx", None),
        ] {
            assert_eq!(secondary_index(name), expected, "{name}");
        }
    }
}
