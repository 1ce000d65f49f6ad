//! Log lines: coloured and short on a terminal, one JSON object a line otherwise. Always on
//! standard error, so that what a command answers can be piped.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is logged unless `--log` or `DAYBOOK_LOG` say otherwise.
pub const FILTER_DEFAULT: &str = "info";

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter does not parse.
    #[error(
        "the log filter '{filter}' is not valid: {reason}; give a level (error, warn, info, \
         debug, trace) or pairs such as 'info,daybook_store=debug'"
    )]
    BadFilter {
        /// What was given.
        filter: String,
        /// What the parser says.
        reason: String,
    },
    /// This process logs already.
    #[error("logging was already set up")]
    Twice,
}

/// Begins to log what `filter` lets through.
///
/// # Errors
/// [`LoggingError`] if the filter does not parse, or logging was begun before.
pub fn start(filter: &str) -> Result<(), LoggingError> {
    let parsed = EnvFilter::try_new(filter).map_err(|e| LoggingError::BadFilter {
        filter: filter.to_owned(),
        reason: e.to_string(),
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(std::io::stderr);
    let started = if std::io::stderr().is_terminal() {
        lines.with_ansi(colours_wanted()).with_target(false).compact().try_init()
    } else {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    };
    started.map_err(|_| LoggingError::Twice)
}

/// Whether the user lets us use colours; see no-color.org.
#[must_use]
pub fn colours_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named() {
        let error = start("daybook=loud=very").expect_err("not a filter");
        assert!(error.to_string().contains("daybook=loud=very"), "{error}");
    }
}
