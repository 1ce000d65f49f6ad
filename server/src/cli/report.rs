//! How commands answer: lines and tables for people, JSON for programs.
//!
//! Colours are for a terminal. Text that came out of the store is printed with its control
//! characters escaped: an event must not be able to move somebody's cursor.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use daybook_model::{ContentType, RecordedEvent};
use owo_colors::OwoColorize as _;
use serde_json::Value;

use crate::http::event::{self, rfc3339};
use crate::telemetry::logging::colours_wanted;

/// Where `--json` writes if no file is named.
const STANDARD_OUTPUT: &str = "-";

/// The option of every command that reports.
#[derive(Clone, Debug, Default, Args)]
pub struct Json {
    /// Answer in JSON, to standard output or to FILE
    #[arg(
        long,
        value_name = "FILE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = STANDARD_OUTPUT
    )]
    json: Option<PathBuf>,
}

impl Json {
    /// Whether it was given.
    #[must_use]
    pub fn wanted(&self) -> bool {
        self.json.is_some()
    }

    /// Whether standard output is free for people.
    #[must_use]
    pub fn leaves_output_to_people(&self) -> bool {
        self.json.as_deref() != Some(Path::new(STANDARD_OUTPUT))
    }

    /// Where JSON goes; standard output if the option was not given.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn open(&self) -> anyhow::Result<Box<dyn Write>> {
        match self.json.as_deref() {
            Some(path) if path != Path::new(STANDARD_OUTPUT) => {
                #[expect(clippy::disallowed_methods, reason = "a report is not the store's")]
                let file = std::fs::File::create(path)
                    .with_context(|| format!("cannot write {}", path.display()))?;
                Ok(Box::new(io::BufWriter::new(file)))
            }
            _ => Ok(Box::new(io::BufWriter::new(io::stdout()))),
        }
    }

    /// Writes one answer: `value` where JSON is wanted, `text` for people where it is not in the
    /// way.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn answer(&self, value: &Value, text: &str) -> anyhow::Result<()> {
        if self.wanted() {
            let mut out = self.open()?;
            serde_json::to_writer_pretty(&mut out, value)?;
            out.write_all(b"\n").and_then(|()| out.flush()).context("cannot write the answer")?;
        }
        if self.leaves_output_to_people() {
            print(text)?;
        }
        Ok(())
    }
}

/// Whether standard output is a terminal whose user lets us use colours.
#[must_use]
pub fn colours() -> bool {
    io::stdout().is_terminal() && colours_wanted()
}

/// Prints `text`, which ends its own lines, to standard output.
///
/// # Errors
/// If it cannot be written.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write the answer")
}

/// Whether a command failed only because whoever read its answer had enough, as `head` has.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
            || cause
                .downcast_ref::<serde_json::Error>()
                .is_some_and(|error| error.io_error_kind() == Some(io::ErrorKind::BrokenPipe))
    })
}

/// An empty table under `header`, as wide as the terminal.
#[must_use]
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    table
}

/// A table of names and values.
#[must_use]
pub fn facts(rows: &[(&str, String)]) -> String {
    let mut text = String::new();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in rows {
        let name = format!("{name:<width$}");
        let name = if colours() { name.dimmed().to_string() } else { name };
        let _ = writeln!(text, "{name}  {value}");
    }
    text
}

/// How events are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One JSON object a line.
    Json,
    /// For people, the colours as the terminal wants.
    People {
        /// Whether each line names its stream.
        stream: Column,
    },
}

/// Whether a column is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// It is.
    Shown,
    /// It would say the same on every line.
    Hidden,
}

/// Writes one event, with its line's end, in `style`.
///
/// # Errors
/// If it cannot be written.
pub fn write_event(out: &mut dyn Write, event: &RecordedEvent, style: Style) -> anyhow::Result<()> {
    let mut line = Vec::with_capacity(256 + event.data.len());
    match style {
        Style::Json => {
            event::write(&event.view(), &mut line);
            // Only between the parts of the JSON of somebody's data: one event is one line.
            line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|b| *b = b' ');
        }
        Style::People { stream } => line.extend(event_line(event, stream).into_bytes()),
    }
    line.push(b'\n');
    out.write_all(&line).context("cannot write the answer")
}

/// `#17  account-1@3  2026-11-22 10:15:30.123  AccountOpened  {"owner":"Ada"}`
fn event_line(event: &RecordedEvent, stream: Column) -> String {
    let position = format!("{:>8}", format!("#{}", event.position));
    let place = match stream {
        Column::Shown => format!("{}@{}", escaped(event.stream.as_str()), event.revision),
        Column::Hidden => format!("@{}", event.revision),
    };
    // To the millisecond: what a person compares.
    let time = rfc3339(event.time).replacen('T', " ", 1);
    let time = time.get(..23).unwrap_or(&time).to_owned();
    let event_type = escaped(&event.event_type);
    let data = payload(&event.data, event.content_type);
    if !colours() {
        return format!("{position}  {time}  {place}  {event_type}  {data}");
    }
    format!(
        "{}  {}  {}  {}  {data}",
        position.dimmed(),
        time.dimmed(),
        place.cyan(),
        event_type.yellow().bold()
    )
}

/// An event's data as text: as it is if that is what it is, else base64.
fn payload(data: &[u8], content_type: ContentType) -> String {
    match std::str::from_utf8(data) {
        Ok(text) if content_type == ContentType::Json || !text.contains(char::is_control) => {
            escaped(text)
        }
        _ => format!("base64:{}", BASE64_STANDARD.encode(data)),
    }
}

/// `text` on one line, without characters a terminal would obey.
#[must_use]
pub fn escaped(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => safe.push(' '),
            c if c.is_control() => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_never_told_what_to_do() {
        assert_eq!(escaped("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb c");
        assert_eq!(payload(b"{\"a\":1}", ContentType::Json), "{\"a\":1}");
        assert_eq!(payload(&[0, 255], ContentType::Binary), "base64:AP8=");
        assert_eq!(payload(b"plain", ContentType::Binary), "plain");
    }
}
