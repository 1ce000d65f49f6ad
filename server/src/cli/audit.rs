//! `daybook audit`: who did what, and what was denied to whom.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use daybook_model::{Clock as _, SystemClock, Timestamp};
use serde_json::{Value, json};

use super::remote::{Remote, percent_encode};
use super::report::{Json, escaped, table};
use crate::http::event::rfc3339;

/// Records of one request.
const PAGE_LEN: u64 = 1000;

/// Shows the audit log, the newest record first.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Only what this login did, or was denied
    #[arg(long, value_name = "LOGIN")]
    who: Option<String>,

    /// Only what has this text in what was done, or what it was about
    #[arg(long, value_name = "TEXT")]
    what: Option<String>,

    /// Only what came out so: 'denied', 'refused' (a login), 'begun', 'done', a status as '200',
    /// or how it begins
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,

    /// Not before this time: RFC 3339, or how long ago, as '24h'
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<String>,

    /// Before this time, likewise
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<String>,

    /// How many records at most
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u64,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

/// A time as the server takes it.
fn time(text: &str) -> Result<String, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let ago = i64::try_from(ago.as_nanos()).map_err(|_| "is longer ago than time is old")?;
        return Ok(rfc3339(Timestamp(SystemClock::new().now().0.saturating_sub(ago))));
    }
    daybook_ledger::time::parse(text).map(rfc3339).map_err(|error| error.to_string())
}

/// Asks the server.
///
/// # Errors
/// If it cannot be asked, or refuses.
pub fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    super::runtime(Some(1))?.block_on(async {
        let records = records(&args).await?;
        let mut rows = table(&["time", "who", "from", "outcome", "what", "about"]);
        for record in &records {
            let text = |name: &str| escaped(record[name].as_str().unwrap_or_default());
            let about = match record["why"].as_str() {
                Some(why) => escaped(why),
                None => text("about"),
            };
            let who = record["who"].as_str().map_or("–".to_owned(), escaped);
            let (from, outcome) = (text("peer"), text("outcome"));
            rows.add_row([text("time"), who, from, outcome, text("what"), about]);
        }
        args.json.answer(&Value::Array(records), &format!("{rows}\n"))?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn records(args: &AuditArgs) -> anyhow::Result<Vec<Value>> {
    let given = [
        ("who", &args.who),
        ("what", &args.what),
        ("outcome", &args.outcome),
        ("since", &args.since),
        ("until", &args.until),
    ];
    let given = given.iter().filter_map(|(name, value)| {
        value.as_ref().map(|value| format!("&{name}={}", percent_encode(value)))
    });
    let given: String = given.collect();
    let (mut records, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let left = args.limit.saturating_sub(records.len() as u64);
        if left == 0 {
            return Ok(records);
        }
        let limit = json!(left.min(PAGE_LEN));
        let after = cursor.as_str().map_or(String::new(), |cursor| format!("&cursor={cursor}"));
        let page = args.remote.get(&format!("/admin/audit?limit={limit}{given}{after}")).await?;
        let found = page["records"].as_array().context("the server shows no records")?;
        records.extend(found.iter().cloned());
        cursor = page["next"].clone();
        if cursor.is_null() {
            return Ok(records);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_moment_or_how_long_ago() {
        assert_eq!(time("2026-11-23T10:00:00Z").as_deref(), Ok("2026-11-23T10:00:00.000000000Z"));
        assert!(time("24h").is_ok_and(|time| time.ends_with('Z')));
        assert!(time("yesterday").is_err());
    }
}
