//! `daybook accounts`, `transfers`, `sagas`, `risk`: the ledger from the command line.
//!
//! A list follows the server's pages until it has as many rows as were asked for. What changes
//! something carries an Idempotency-Key: a new one, or `--key`, so that whoever heard no answer can
//! ask again and nothing is done twice.

pub mod accounts;
pub mod risk;
pub mod sagas;
pub mod transfers;

use anyhow::Context as _;
use clap::Args;
use daybook_model::{Entropy as _, SystemEntropy};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::remote::{Remote, accepted, percent_encode};
use super::report::{Json, escaped, facts, table};

/// Rows of a list unless the user says otherwise: a screen or two.
const ROWS_DEFAULT: usize = 50;
/// Rows of one page, as many as the server gives at once.
const PAGE_ROWS_MAX: usize = 1000;

/// How many rows of a list are wanted.
#[derive(Debug, Args)]
pub struct Rows {
    /// At most so many rows
    #[arg(long, short = 'n', value_name = "N", default_value_t = ROWS_DEFAULT)]
    limit: usize,
}

/// The name under which a change is known.
#[derive(Debug, Args)]
pub struct Key {
    /// The Idempotency-Key: say the same one to repeat a command whose answer was lost
    /// [default: a new one]
    #[arg(long, value_name = "UUID")]
    key: Option<Uuid>,
}

/// Who does something that is written down with a name.
#[derive(Debug, Args)]
pub struct By {
    /// Who says so; it is kept with the event
    #[arg(long, env = "USER", value_name = "NAME")]
    by: String,
}

/// The ledger of a server, and how it is shown.
struct Ledger<'a> {
    remote: &'a Remote,
    json: &'a Json,
}

/// A column: its heading, and the member that it shows.
type Column = (&'static str, &'static str);

impl Ledger<'_> {
    /// Shows the rows of `path` whose page has them as `member`.
    async fn list(
        &self,
        path: &str,
        filters: &[(&str, Option<&str>)],
        member: &str,
        columns: &[Column],
        rows: &Rows,
    ) -> anyhow::Result<()> {
        let mut found: Vec<Value> = Vec::new();
        let mut cursor: Option<String> = None;
        let mut more = false;
        while found.len() < rows.limit {
            let limit = (rows.limit - found.len()).min(PAGE_ROWS_MAX);
            let mut query = format!("{path}?limit={limit}");
            let filters = filters.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
            for (name, value) in filters.chain(cursor.as_deref().map(|next| ("cursor", next))) {
                query.push_str(&format!("&{name}={}", percent_encode(value)));
            }
            let mut page = self.remote.get(&query).await?;
            if let Value::Array(rows) = page[member].take() {
                found.extend(rows);
            }
            cursor = page["next"].as_str().map(str::to_owned);
            more = cursor.is_some();
            if !more {
                break;
            }
        }
        let mut shown = table(&columns.iter().map(|(head, _)| *head).collect::<Vec<_>>());
        for row in &found {
            shown.add_row(columns.iter().map(|(_, member)| text(&row[*member])));
        }
        let mut people =
            if found.is_empty() { format!("no {member}\n") } else { format!("{shown}\n") };
        if more {
            people.push_str(&format!("the first {}; -n shows more\n", found.len()));
        }
        self.json.answer(&json!({ member: found, "more": more }), &people)
    }

    /// Shows what is at `path`.
    async fn show(&self, path: &str) -> anyhow::Result<()> {
        self.tell(&self.remote.get(path).await?)
    }

    /// Changes something, and shows what the server says of it.
    async fn act(&self, method: &str, path: &str, key: &Key, body: &Value) -> anyhow::Result<()> {
        self.tell(&self.acted(method, path, key, body).await?)
    }

    /// Changes something; what the server says of it.
    async fn acted(
        &self,
        method: &str,
        path: &str,
        key: &Key,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let key = key.key.unwrap_or_else(new_id);
        let answered = self.remote.act(method, path, key, body).await;
        let (status, body) = answered.with_context(|| {
            format!("it is not known whether it was done; to be sure, repeat it with --key {key}")
        })?;
        accepted(status, &body)
    }

    fn tell(&self, value: &Value) -> anyhow::Result<()> {
        self.json.answer(value, &in_words(value))
    }
}

/// `value` for people: its members, then a table for each list in it.
fn in_words(value: &Value) -> String {
    let nothing = Map::new();
    let members = value.as_object().unwrap_or(&nothing);
    let mut plain: Vec<(&str, String)> = Vec::new();
    for (name, value) in members {
        match value {
            Value::Array(_) => {}
            // The account that changed, say: its members are what was asked for.
            Value::Object(inner) => {
                plain.extend(inner.iter().map(|(name, value)| (name.as_str(), text(value))));
            }
            value => plain.push((name, text(value))),
        }
    }
    let mut words = facts(&plain);
    for (name, value) in members {
        let rows = value.as_array().map(Vec::as_slice).unwrap_or_default();
        let Some(Value::Object(first)) = rows.first() else { continue };
        let heads: Vec<&str> = first.keys().map(String::as_str).collect();
        let mut shown = table(&heads);
        for row in rows {
            shown.add_row(heads.iter().map(|head| text(&row[*head])));
        }
        words.push_str(&format!("\n{name}\n{shown}\n"));
    }
    words
}

/// A value on one line.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => escaped(text),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| format!("{name} {}", text(value)))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    }
}

fn new_id() -> Uuid {
    uuid::Builder::from_random_bytes(SystemEntropy.bytes()).into_uuid()
}

/// The members that were given.
fn object(members: &[(&str, Option<&str>)]) -> Value {
    let given = members.iter().filter_map(|(name, value)| {
        value.map(|value| ((*name).to_owned(), Value::String(value.to_owned())))
    });
    Value::Object(given.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_in_words() {
        let value = json!({
            "state": "completed", "reason": null, "fx": { "to": { "rate": "2", "currency": "EUR" } },
            "steps": [{ "step": "debit\u{1b}[2J", "attempt": 1 }], "none": []
        });
        let words = in_words(&value);
        for part in ["completed", "currency EUR, rate 2", "steps", "debit\\u{1b}[2J"] {
            assert!(words.contains(part), "{part}: {words}");
        }
        assert!(!words.contains("none"), "{words}");
    }
}
