//! What pages are made of: times, amounts, ids, badges, tables, pages of lists.

use std::time::Duration;

use daybook_model::Timestamp;
use maud::{Markup, html};
use serde_json::Value;

use super::api::segment;
use super::layout::token;
use super::visitor::Visitor;
use crate::http::event::rfc3339;

/// A moment, from RFC 3339: local where a script runs, UTC otherwise and in its title.
#[must_use]
pub fn time(text: &str) -> Markup {
    let shown = text.get(..19).map(|text| text.replace('T', " "));
    let shown = shown.unwrap_or_else(|| text.to_owned());
    html! { time datetime=(text) title=(format!("{text} (UTC)")) data-time { (shown) " UTC" } }
}

/// A moment of JSON; a dash if it is null.
#[must_use]
pub fn time_of(value: &Value) -> Markup {
    value.as_str().map_or_else(none, time)
}

/// A moment of ours.
#[must_use]
pub fn moment(at: Timestamp) -> Markup {
    time(&rfc3339(at))
}

/// What is not there.
#[must_use]
pub fn none() -> Markup {
    html! { span.muted { "–" } }
}

/// A text of JSON; a dash if it is null.
#[must_use]
pub fn text(value: &Value) -> Markup {
    match value {
        Value::Null => none(),
        Value::String(text) if text.is_empty() => none(),
        Value::String(text) => html! { (text) },
        other => html! { (other.to_string()) },
    }
}

/// An amount of money, for people: digits in groups, and the currency.
#[must_use]
pub fn amount(value: &Value, currency: &Value) -> Markup {
    let Some(text) = value.as_str() else { return none() };
    let below_zero = text.starts_with('-');
    html! {
        span.amount.negative[below_zero] { (grouped(text)) }
        @if let Some(currency) = currency.as_str() { " " span.currency { (currency) } }
    }
}

/// Digits before the point in groups of three, apart by a thin space that does not break.
#[must_use]
pub fn grouped(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("\u{2212}", digits));
    let (whole, rest) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut out = sign.to_owned();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out + rest
}

/// A whole number in groups.
#[must_use]
pub fn number(number: u64) -> String {
    grouped(&number.to_string())
}

/// A whole number of JSON.
#[must_use]
pub fn count(value: &Value) -> Markup {
    value.as_u64().map_or_else(none, |found| html! { (number(found)) })
}

/// Bytes, in the unit that people say them in.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

/// How far something is, in bytes.
#[must_use]
pub fn progress(done: u64, all: u64) -> Markup {
    html! {
        progress max=(all.max(1)) value=(done) aria-label="Progress" {}
        " " (bytes(done)) " of " (bytes(all))
    }
}

/// How long something takes, in the two largest units of it.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        _ if duration.is_zero() => "0 s".to_owned(),
        _ if duration < Duration::from_millis(1) => "under 1 ms".to_owned(),
        _ if duration < Duration::from_secs(1) => format!("{} ms", duration.as_millis()),
        (0, 0, 0) if seconds < 10 => format!("{:.2} s", duration.as_secs_f64()),
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => format!("{minutes} min {rest} s"),
        (0, ..) => format!("{hours} h {minutes} min"),
        (1, ..) => format!("1 day {hours} h"),
        (1..1_000, ..) => format!("{days} days"),
        _ => "years".to_owned(),
    }
}

/// Seconds of JSON, as a duration.
#[must_use]
pub fn seconds(value: &Value) -> Markup {
    let found = value.as_f64().and_then(|s| Duration::try_from_secs_f64(s).ok());
    found.map_or_else(none, |found| html! { (duration(found)) })
}

/// An id in full, with a button that copies it.
#[must_use]
pub fn id(id: &str) -> Markup {
    html! {
        span.id { code { (id) }
            button.copy type="button" hidden data-copy=(id) aria-label=(format!("Copy {id}")) {
                "copy"
            }
        }
    }
}

/// The first part of an id that is too long for a table, as a link.
#[must_use]
pub fn id_link(path: &str, id: &str) -> Markup {
    let short = id.get(..8).filter(|_| id.len() == 36).unwrap_or(id);
    html! { a.mono href=(path) title=(id) { (short) } }
}

/// The first part of an id that leads nowhere.
#[must_use]
pub fn short_id(id: &str) -> Markup {
    html! { code title=(id) { (id.get(..8).unwrap_or(id)) } }
}

/// A stream, as a link to it.
#[must_use]
pub fn stream(name: &str) -> Markup {
    html! { a.mono href=(stream_path(name)) { (name) } }
}

/// Where a stream is shown.
#[must_use]
pub fn stream_path(name: &str) -> String {
    format!("/ui/streams/{}", segment(name))
}

/// A state, in its colour.
#[must_use]
pub fn state(word: &str) -> Markup {
    let mood = match word {
        "active" | "live" | "Live" | "Running" | "completed" | "ready" | "sound" | "running"
        | "closed" | "enabled" | "writable" | "balanced" | "ok" => "good",
        "frozen" | "paused" | "catching_up" | "starting" | "compensating" | "retrying"
        | "half_open" | "outdated" | "Behind" | "Stopped" | "warning" | "compensated"
        | "disabled" | "stopping" => "warn",
        "failed" | "stopped" | "Faulted" | "open" | "damaged" | "critical" | "poisoned"
        | "not ready" | "off" | "flagged" => "bad",
        _ => "plain",
    };
    html! { span.badge.(mood) { (word.replace('_', " ")) } }
}

/// A table in a box of its own, in which it is moved from side to side on narrow screens.
#[must_use]
pub fn table(caption: &str, columns: &[&str], rows: &[Markup]) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table {
                caption.unseen { (caption) }
                thead { tr { @for column in columns {
                    @let (name, right) =
                        column.strip_prefix('>').map_or((*column, false), |c| (c, true));
                    th scope="col" class=[right.then_some("right")] { (name) }
                } } }
                tbody { @for row in rows { (row) } }
            }
        }
    }
}

/// A list that has nothing in it, and what to do about it.
#[must_use]
pub fn empty(title: &str, hint: &Markup) -> Markup {
    html! { div.empty { p { strong { (title) } } p.muted { (hint) } } }
}

/// Facts by name.
#[must_use]
pub fn facts(facts: &[(&str, Markup)]) -> Markup {
    html! { dl.facts { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } } }
}

/// A button that does something at once; `confirm` is asked first where a script runs.
#[must_use]
pub fn action(visitor: &Visitor, path: &str, label: &str, confirm: Option<&str>) -> Markup {
    html! {
        form.inline method="post" action=(path) data-confirm=[confirm] {
            (token(visitor))
            button type="submit" class=[confirm.map(|_| "danger")] { (label) }
        }
    }
}

/// A field of a search, below its label.
#[must_use]
pub fn field(id: &str, label: &str, control: &Markup) -> Markup {
    html! { div.field { label for=(id) { (label) } (control) } }
}

/// A card with a title.
#[must_use]
pub fn card(title: &str, body: &Markup) -> Markup {
    html! { section.card { h2 { (title) } (body) } }
}

/// A card as wide as the page, with nothing beside it.
#[must_use]
pub fn wide(body: &Markup) -> Markup {
    html! { section.card.wide { (body) } }
}

/// As much of a text as `size` bytes.
#[must_use]
pub fn excerpt(text: &str, size: usize) -> &str {
    &text[..text.floor_char_boundary(size)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_said_as_people_read_them() {
        for (text, shown) in [
            ("0", "0"),
            ("999.50", "999.50"),
            ("1000", "1\u{202f}000"),
            ("-1234567.89", "\u{2212}1\u{202f}234\u{202f}567.89"),
        ] {
            assert_eq!(grouped(text), shown);
        }
        for (size, shown) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 40, "1.0 TiB")]
        {
            assert_eq!(bytes(size), shown);
        }
        for (millis, shown) in [
            (0, "0 s"),
            (5, "5 ms"),
            (1_250, "1.25 s"),
            (61_000, "1 min 1 s"),
            (7_260_000, "2 h 1 min"),
            (90_000_000, "1 day 1 h"),
            (864_000_000, "10 days"),
        ] {
            assert_eq!(duration(Duration::from_millis(millis)), shown);
        }
    }

    #[test]
    fn nothing_of_a_name_becomes_markup() {
        let shown = stream("<script>\"&").into_string();
        assert!(!shown.contains("<script>"), "{shown}");
        assert!(shown.contains("/ui/streams/%3Cscript%3E%22%26"), "{shown}");
    }
}
