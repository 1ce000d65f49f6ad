//! `daybook risk`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{By, Key, Ledger};
use crate::cli::remote::Remote;
use crate::cli::report::Json;

/// The rules by which transfers are let through, and accounts that are suspect.
#[derive(Debug, Args)]
#[command(
    mut_arg("url", |arg| arg.global(true)),
    mut_arg("json", |arg| arg.global(true)),
    after_help = "Example: daybook risk set --maximum USD=10000.00 --per-hour 20"
)]
pub struct RiskArgs {
    #[command(subcommand)]
    command: Option<RiskCommand>,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Subcommand)]
enum RiskCommand {
    /// Show the rules (what is done if nothing else is said)
    Rules,
    /// Change rules; what is not said stays
    Set(SetArgs),
    /// Flag an account as suspect
    Flag {
        /// The account
        account: Uuid,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        by: By,
        #[command(flatten)]
        key: Key,
    },
    /// Take an account's flag away
    Unflag {
        /// The account
        account: Uuid,
        #[command(flatten)]
        by: By,
        #[command(flatten)]
        key: Key,
    },
}

#[derive(Debug, Args)]
struct SetArgs {
    /// The largest transfer in a currency, or none: USD=10000.00, or USD=none; may be repeated
    #[arg(long, value_name = "CODE=AMOUNT", value_parser = maximum)]
    maximum: Vec<(String, Option<String>)>,
    /// Transfers that an account may make in an hour; 0 for any number
    #[arg(long, value_name = "N")]
    per_hour: Option<u32>,
    /// Transfers that an account may make on a day; 0 for any number
    #[arg(long, value_name = "N")]
    per_day: Option<u32>,
    /// Whether transfers from and to flagged accounts are rejected
    #[arg(long, value_name = "BOOL")]
    reject_flagged: Option<bool>,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    key: Key,
}

fn maximum(text: &str) -> Result<(String, Option<String>), String> {
    match text.split_once('=') {
        Some((currency, "none")) => Ok((currency.to_owned(), None)),
        Some((currency, amount)) => Ok((currency.to_owned(), Some(amount.to_owned()))),
        None => Err("give CODE=AMOUNT, for example USD=10000.00".to_owned()),
    }
}

/// Does it.
///
/// # Errors
/// If the server cannot be asked, or refuses.
pub fn run(args: RiskArgs) -> anyhow::Result<ExitCode> {
    let RiskArgs { command, remote, json } = args;
    let ledger = Ledger { remote: &remote, json: &json };
    crate::cli::runtime(Some(1))?.block_on(async {
        match command.unwrap_or(RiskCommand::Rules) {
            RiskCommand::Rules => ledger.show("/v1/risk/rules").await,
            RiskCommand::Set(args) => {
                let rules = changed(remote.get("/v1/risk/rules").await?, &args);
                ledger.act("PUT", "/v1/risk/rules", &args.key, &rules).await
            }
            RiskCommand::Flag { account, reason, by, key } => {
                let body = json!({ "reason": reason, "flagged_by": by.by });
                ledger.act("PUT", &flag_of(account), &key, &body).await
            }
            RiskCommand::Unflag { account, by, key } => {
                let body = json!({ "unflagged_by": by.by });
                ledger.act("DELETE", &flag_of(account), &key, &body).await
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

fn flag_of(account: Uuid) -> String {
    format!("/v1/risk/accounts/{account}/flag")
}

/// The rules that were there, with what `args` change.
fn changed(mut now: Value, args: &SetArgs) -> Value {
    let mut maximum = match now["maximum_amount"].take() {
        Value::Object(amounts) => amounts,
        _ => Map::new(),
    };
    for (currency, amount) in &args.maximum {
        match amount {
            Some(amount) => maximum.insert(currency.clone(), Value::String(amount.clone())),
            None => maximum.remove(currency),
        };
    }
    let mut rules = Map::from_iter([
        ("maximum_amount".to_owned(), Value::Object(maximum)),
        ("reject_flagged".to_owned(), now["reject_flagged"].take()),
        ("changed_by".to_owned(), Value::String(args.by.by.clone())),
    ]);
    let counts = [("transfers_per_hour", args.per_hour), ("transfers_per_day", args.per_day)];
    for (name, given) in counts {
        let count = given.map_or_else(|| now[name].take(), |count| json!(count));
        if count.as_u64().is_some_and(|count| count > 0) {
            rules.insert(name.to_owned(), count);
        }
    }
    if let Some(reject) = args.reject_flagged {
        rules.insert("reject_flagged".to_owned(), Value::Bool(reject));
    }
    Value::Object(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays() {
        let now = json!({
            "maximum_amount": { "USD": "1", "EUR": "2" }, "transfers_per_hour": 3,
            "transfers_per_day": 4, "reject_flagged": true, "changed_by": "a", "changed_at": "b",
        });
        let args = SetArgs {
            maximum: vec![("USD".to_owned(), None), ("JPY".to_owned(), Some("9".to_owned()))],
            per_hour: None,
            per_day: Some(0),
            reject_flagged: Some(false),
            by: By { by: "ada".to_owned() },
            key: Key { key: None },
        };
        let wanted = json!({
            "maximum_amount": { "EUR": "2", "JPY": "9" }, "transfers_per_hour": 3,
            "reject_flagged": false, "changed_by": "ada",
        });
        assert_eq!(changed(now, &args), wanted);
    }
}
