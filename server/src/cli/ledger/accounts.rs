//! `daybook accounts`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use uuid::Uuid;

use super::{By, Column, Key, Ledger, Rows, object};
use crate::cli::remote::{Remote, percent_encode};
use crate::cli::report::Json;

const COLUMNS: &[Column] = &[
    ("account", "account_id"),
    ("type", "account_type"),
    ("status", "status"),
    ("balance", "balance"),
    ("available", "available"),
    ("currency", "currency"),
    ("owner", "owner_id"),
];
const HISTORY: &[Column] = &[
    ("#", "revision"),
    ("at", "occurred_at"),
    ("what", "type"),
    ("amount", "amount"),
    ("currency", "currency"),
    ("balance", "balance"),
    ("description", "description"),
];

/// Accounts: balances, history, and what may be done with one.
#[derive(Debug, Args)]
#[command(
    mut_arg("url", |arg| arg.global(true)),
    mut_arg("json", |arg| arg.global(true)),
    after_help = "Example: daybook accounts open --type checking --currency USD --deposit 100"
)]
pub struct AccountsArgs {
    #[command(subcommand)]
    command: Option<AccountsCommand>,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Subcommand)]
enum AccountsCommand {
    /// List them (what is done if nothing else is said)
    List(ListArgs),
    /// Show one, now or as it was
    Show(ShowArgs),
    /// Show what moved on one
    History(HistoryArgs),
    /// Open one
    Open(OpenArgs),
    /// Pay into one
    Deposit(MoneyArgs),
    /// Pay out of one
    Withdraw(MoneyArgs),
    /// Let nothing leave one; it can still be paid into
    Freeze(ReasonArgs),
    /// Let money leave it again
    Unfreeze(PlainArgs),
    /// Close an empty one for ever
    Close(PlainArgs),
    /// Show what all together have, and whether nothing was made or lost; ends with 1 if it was
    TrialBalance {
        /// Count every account's stream by itself, too, and compare
        #[arg(long)]
        verify: bool,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Of this owner
    #[arg(long, value_name = "UUID")]
    owner: Option<Uuid>,
    /// In this state: active, frozen or closed
    #[arg(long)]
    status: Option<String>,
    /// In this currency
    #[arg(long, value_name = "CODE")]
    currency: Option<String>,
    #[command(flatten)]
    rows: Rows,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// The account
    account: Uuid,
    /// As it was at this time
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
}

#[derive(Debug, Args)]
struct HistoryArgs {
    /// The account
    account: Uuid,
    #[command(flatten)]
    rows: Rows,
}

#[derive(Debug, Args)]
struct OpenArgs {
    /// checking, savings or credit
    #[arg(long = "type", value_name = "TYPE")]
    account_type: String,
    /// Its currency
    #[arg(long, value_name = "CODE")]
    currency: String,
    /// Whose it is [default: a new id]
    #[arg(long, value_name = "UUID")]
    owner: Option<Uuid>,
    /// Paid in at once
    #[arg(long, value_name = "AMOUNT")]
    deposit: Option<String>,
    /// How far a checking account may go below zero
    #[arg(long, value_name = "AMOUNT")]
    overdraft: Option<String>,
    /// How far a credit account may
    #[arg(long, value_name = "AMOUNT")]
    credit: Option<String>,
    /// How much may leave it on one day
    #[arg(long, value_name = "AMOUNT")]
    daily_limit: Option<String>,
    #[command(flatten)]
    key: Key,
}

#[derive(Debug, Args)]
struct MoneyArgs {
    /// The account
    account: Uuid,
    /// How much
    amount: String,
    /// Of which currency
    currency: String,
    /// What for
    #[arg(long)]
    description: Option<String>,
    #[command(flatten)]
    key: Key,
}

#[derive(Debug, Args)]
struct ReasonArgs {
    /// The account
    account: Uuid,
    /// Why
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    key: Key,
}

#[derive(Debug, Args)]
struct PlainArgs {
    /// The account
    account: Uuid,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    key: Key,
}

/// Does it.
///
/// # Errors
/// If the server cannot be asked, or refuses.
pub fn run(args: AccountsArgs) -> anyhow::Result<ExitCode> {
    let AccountsArgs { command, remote, json } = args;
    let rows = Rows { limit: super::ROWS_DEFAULT };
    let list = ListArgs { owner: None, status: None, currency: None, rows };
    let command = command.unwrap_or(AccountsCommand::List(list));
    let ledger = Ledger { remote: &remote, json: &json };
    crate::cli::runtime(Some(1))?.block_on(act(&ledger, command))
}

async fn act(ledger: &Ledger<'_>, command: AccountsCommand) -> anyhow::Result<ExitCode> {
    match command {
        AccountsCommand::List(args) => {
            let owner = args.owner.map(|owner| owner.to_string());
            let filters = [
                ("owner", owner.as_deref()),
                ("status", args.status.as_deref()),
                ("currency", args.currency.as_deref()),
            ];
            ledger.list("/v1/accounts", &filters, "accounts", COLUMNS, &args.rows).await
        }
        AccountsCommand::Show(ShowArgs { account, at }) => {
            let at = at.map(|at| format!("?at={}", percent_encode(&at))).unwrap_or_default();
            ledger.show(&format!("{}{at}", of(account))).await
        }
        AccountsCommand::History(HistoryArgs { account, rows }) => {
            let path = format!("{}/transactions", of(account));
            ledger.list(&path, &[], "transactions", HISTORY, &rows).await
        }
        AccountsCommand::Open(args) => open(ledger, &args).await,
        AccountsCommand::Deposit(args) => money(ledger, "deposits", &args).await,
        AccountsCommand::Withdraw(args) => money(ledger, "withdrawals", &args).await,
        AccountsCommand::Freeze(ReasonArgs { account, reason, by, key }) => {
            let body = json!({ "reason": reason, "frozen_by": by.by });
            ledger.act("POST", &format!("{}/freeze", of(account)), &key, &body).await
        }
        AccountsCommand::Unfreeze(PlainArgs { account, by, key }) => {
            let body = json!({ "unfrozen_by": by.by });
            ledger.act("POST", &format!("{}/unfreeze", of(account)), &key, &body).await
        }
        AccountsCommand::Close(PlainArgs { account, by, key }) => {
            let body = json!({ "closed_by": by.by });
            ledger.act("POST", &format!("{}/close", of(account)), &key, &body).await
        }
        AccountsCommand::TrialBalance { verify } => return trial_balance(ledger, verify).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

async fn trial_balance(ledger: &Ledger<'_>, verify: bool) -> anyhow::Result<ExitCode> {
    let sums = ledger.remote.get(&format!("/v1/trial-balance?verify={verify}")).await?;
    ledger.tell(&sums)?;
    let equal = sums["verified"]["equal"].as_bool().unwrap_or(true);
    let holds = sums["balanced"].as_bool() == Some(true) && equal;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn open(ledger: &Ledger<'_>, args: &OpenArgs) -> anyhow::Result<()> {
    let owner = args.owner.unwrap_or_else(super::new_id).to_string();
    let body = object(&[
        ("account_type", Some(&args.account_type)),
        ("currency", Some(&args.currency)),
        ("owner_id", Some(&owner)),
        ("initial_deposit", args.deposit.as_deref()),
        ("overdraft_limit", args.overdraft.as_deref()),
        ("credit_limit", args.credit.as_deref()),
        ("daily_withdrawal_limit", args.daily_limit.as_deref()),
    ]);
    ledger.act("POST", "/v1/accounts", &args.key, &body).await
}

async fn money(ledger: &Ledger<'_>, what: &str, args: &MoneyArgs) -> anyhow::Result<()> {
    let body = object(&[
        ("amount", Some(&args.amount)),
        ("currency", Some(&args.currency)),
        ("description", args.description.as_deref()),
    ]);
    ledger.act("POST", &format!("{}/{what}", of(args.account)), &args.key, &body).await
}

fn of(account: Uuid) -> String {
    format!("/v1/accounts/{account}")
}
