//! Log lines: coloured and short on a terminal, one JSON object a line otherwise. Always on
//! standard error, so that what a command answers can be piped.

use std::io::IsTerminal;
use std::sync::OnceLock;

use parking_lot::Mutex;

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, format};
use tracing_subscriber::registry::LookupSpan;

use super::trace::current::ids;

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
    /// This process does not log.
    #[error("this process does not log; there is no filter to see or change")]
    Silent,
}

/// Takes another filter.
type Change = Box<dyn Fn(EnvFilter) -> Result<(), LoggingError> + Send + Sync>;

/// What this process logs, and how that is changed.
struct Logging {
    filter: Mutex<String>,
    set: Change,
}

/// One for the process, as the subscriber is.
static LOGGING: OnceLock<Logging> = OnceLock::new();

/// What is logged now.
///
/// # Errors
/// [`LoggingError::Silent`]
pub fn filter() -> Result<String, LoggingError> {
    Ok(LOGGING.get().ok_or(LoggingError::Silent)?.filter.lock().clone())
}

/// Logs what `filter` lets through from now on.
///
/// # Errors
/// [`LoggingError::BadFilter`]; [`LoggingError::Silent`]
pub fn change(filter: &str) -> Result<(), LoggingError> {
    let parsed = parse(filter)?;
    let logging = LOGGING.get().ok_or(LoggingError::Silent)?;
    let mut current = logging.filter.lock();
    (logging.set)(parsed)?;
    filter.clone_into(&mut current);
    Ok(())
}

fn parse(filter: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::try_new(filter)
        .map_err(|e| LoggingError::BadFilter { filter: filter.to_owned(), reason: e.to_string() })
}

/// Begins to log what `filter` lets through.
///
/// # Errors
/// [`LoggingError`] if the filter does not parse, or logging was begun before.
pub fn start(filter: &str) -> Result<(), LoggingError> {
    let lines = tracing_subscriber::fmt().with_env_filter(parse(filter)?);
    let lines = lines.with_writer(std::io::stderr);
    let (started, set): (_, Change) = if std::io::stderr().is_terminal() {
        let lines = lines.with_ansi(colours_wanted()).with_target(false).compact();
        let lines = lines.with_filter_reloading();
        let handle = lines.reload_handle();
        let set = move |filter| handle.reload(filter).map_err(|_| LoggingError::Silent);
        (lines.try_init(), Box::new(set))
    } else {
        let json = format().json().flatten_event(true);
        let json = json.with_current_span(false).with_span_list(false);
        let lines = lines.fmt_fields(JsonFields::new()).event_format(Traced(json));
        let lines = lines.with_filter_reloading();
        let handle = lines.reload_handle();
        let set = move |filter| handle.reload(filter).map_err(|_| LoggingError::Silent);
        (lines.try_init(), Box::new(set))
    };
    started.map_err(|_| LoggingError::Twice)?;
    let filter = Mutex::new(filter.to_owned());
    LOGGING.set(Logging { filter, set }).map_err(|_| LoggingError::Twice)
}

/// JSON lines, with the trace and the span of the request that they belong to.
struct Traced(Format<Json>);

impl<S, N> FormatEvent<S, N> for Traced
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let Some(ids) = ids() else { return self.0.format_event(context, writer, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writer.write_str(&with_ids(&line, ids))
    }
}

/// `line`, which is one JSON object, with two more members.
fn with_ids(line: &str, (trace, span): (u128, u64)) -> String {
    match line.trim_end().strip_suffix('}') {
        Some(open) => {
            format!("{open},\"trace_id\":\"{trace:032x}\",\"span_id\":\"{span:016x}\"}}\n")
        }
        None => line.to_owned(),
    }
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
    fn a_line_says_which_request_it_belongs_to() {
        let line = with_ids("{\"level\":\"INFO\",\"a\":{}}\n", (0xab, 0xcd));
        let json: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert!(line.ends_with("}\n"));
        assert_eq!(json["level"], "INFO");
        assert_eq!(json["trace_id"], "000000000000000000000000000000ab");
        assert_eq!(json["span_id"], "00000000000000cd");
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = start("daybook=loud=very").expect_err("not a filter");
        assert!(error.to_string().contains("daybook=loud=very"), "{error}");
    }
}
