//! JSON as a tree that opens and closes, with its numbers and the order of its keys as they stand.

use std::fmt;

use maud::{Markup, html};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::ui::pieces::excerpt;

/// Values that a tree shows; what comes after them stands in the text below it.
const NODES_MAX: usize = 400;
/// Bytes of one value in it.
const VALUE_SIZE_MAX: usize = 400;
/// Levels that are open at first.
const OPEN_DEPTH: usize = 2;

/// Members of an object or elements of an array, unread.
struct Children<'a>(Vec<(Option<String>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Children<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Children<'a>, D::Error> {
        struct Both;
        impl<'de> Visitor<'de> for Both {
            type Value = Children<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or an array")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    found.push((Some(name), value));
                }
                Ok(Children(found))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut found = Vec::new();
                while let Some(value) = seq.next_element::<&RawValue>()? {
                    found.push((None, value));
                }
                Ok(Children(found))
            }
        }
        deserializer.deserialize_any(Both)
    }
}

/// The tree of a text of JSON.
#[must_use]
pub fn show(json: &str) -> Markup {
    let mut left = NODES_MAX;
    html! {
        div.tree { (node(None, json, 0, &mut left)) }
        @if left == 0 { p.muted { "The tree shows the first " (NODES_MAX) " values." } }
    }
}

fn node(name: Option<&str>, json: &str, depth: usize, left: &mut usize) -> Markup {
    if *left == 0 {
        return html! {};
    }
    *left -= 1;
    let label = html! { @if let Some(name) = name { span.key { (name) } ": " } };
    let parsed = match json.as_bytes().first() {
        Some(b'{' | b'[') => serde_json::from_str::<Children<'_>>(json).ok(),
        _ => None,
    };
    let Some(Children(children)) = parsed else {
        let shown = excerpt(json, VALUE_SIZE_MAX);
        return html! {
            div.leaf { (label) span.(kind(json)) { (shown) @if shown.len() < json.len() { "…" } } }
        };
    };
    let (open, close) = if json.starts_with('{') { ("{", "}") } else { ("[", "]") };
    if children.is_empty() {
        return html! { div.leaf { (label) span.muted { (open) (close) } } };
    }
    html! {
        details open[depth < OPEN_DEPTH] {
            summary { (label) span.muted { (open) " " (children.len()) " " (close) } }
            @for (i, (name, value)) in children.iter().enumerate() {
                @let index = i.to_string();
                (node(Some(name.as_deref().unwrap_or(&index)), value.get(), depth + 1, left))
            }
        }
    }
}

fn kind(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'"') => "string",
        Some(b't' | b'f' | b'n') => "word",
        _ => "number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_keeps_order_and_numbers_and_escapes() {
        let shown = show(r#"{"b":12345678901234567890.10,"a":["<x>",null],"e":{}}"#).into_string();
        let at = |text: &str| shown.find(text).unwrap_or_else(|| panic!("{text} in {shown}"));
        assert!(at("12345678901234567890.10") < at("&lt;x&gt;"));
        assert!(!shown.contains("<x>"));
        assert!(shown.contains("{}"));
    }

    #[test]
    fn a_tree_is_bounded() {
        let many = format!("[{}1]", "1,".repeat(10_000));
        let shown = show(&many).into_string();
        assert!(shown.len() < 64 * 1024, "{}", shown.len());
        assert!(shown.contains("first 400 values"));
        let deep = format!("{}{}", "[".repeat(120), "]".repeat(120));
        assert!(show(&deep).into_string().len() < 64 * 1024);
    }
}
