//! `daybook transfers`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::{Column, Key, Ledger, Rows, object};
use crate::cli::remote::Remote;
use crate::cli::report::Json;

const COLUMNS: &[Column] = &[
    ("transfer", "transfer_id"),
    ("state", "state"),
    ("amount", "amount"),
    ("currency", "currency"),
    ("from", "sender_account_id"),
    ("to", "receiver_account_id"),
    ("since", "since"),
    ("reason", "reason"),
];

/// Transfers: make one, and see how they went.
#[derive(Debug, Args)]
#[command(
    mut_arg("url", |arg| arg.global(true)),
    mut_arg("json", |arg| arg.global(true)),
    after_help = "Example: daybook transfers --state compensated"
)]
pub struct TransfersArgs {
    #[command(subcommand)]
    command: Option<TransfersCommand>,

    #[command(flatten)]
    list: ListArgs,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Subcommand)]
enum TransfersCommand {
    /// Show one, with its steps
    Show {
        /// The transfer
        transfer: Uuid,
    },
    /// Move money from one account to another
    Make(MakeArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    /// In this state: running, completed, compensating, compensated, failed or abandoned
    #[arg(long)]
    state: Option<String>,
    /// Of this account, whether it pays or is paid
    #[arg(long, value_name = "UUID")]
    account: Option<Uuid>,
    /// Begun at this time or later
    #[arg(long, value_name = "RFC3339")]
    from: Option<String>,
    /// Begun before this time
    #[arg(long, value_name = "RFC3339")]
    to: Option<String>,
    #[command(flatten)]
    rows: Rows,
}

#[derive(Debug, Args)]
struct MakeArgs {
    /// Who pays
    sender: Uuid,
    /// Who is paid
    receiver: Uuid,
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

/// Does it.
///
/// # Errors
/// If the server cannot be asked, or refuses.
pub fn run(args: TransfersArgs) -> anyhow::Result<ExitCode> {
    let TransfersArgs { command, list, remote, json } = args;
    let ledger = Ledger { remote: &remote, json: &json };
    crate::cli::runtime(Some(1))?.block_on(async {
        match command {
            Some(TransfersCommand::Show { transfer }) => {
                ledger.show(&format!("/v1/transfers/{transfer}")).await?;
            }
            Some(TransfersCommand::Make(args)) => return make(&ledger, &args).await,
            None => {
                let account = list.account.map(|account| account.to_string());
                let filters = [
                    ("state", list.state.as_deref()),
                    ("account", account.as_deref()),
                    ("from", list.from.as_deref()),
                    ("to", list.to.as_deref()),
                ];
                ledger.list("/v1/transfers", &filters, "transfers", COLUMNS, &list.rows).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Makes a transfer; ends with 1 if it has ended already and the money was not moved.
async fn make(ledger: &Ledger<'_>, args: &MakeArgs) -> anyhow::Result<ExitCode> {
    let (sender, receiver) = (args.sender.to_string(), args.receiver.to_string());
    let body = object(&[
        ("sender_account_id", Some(&sender)),
        ("receiver_account_id", Some(&receiver)),
        ("amount", Some(&args.amount)),
        ("currency", Some(&args.currency)),
        ("description", args.description.as_deref()),
    ]);
    let made = ledger.acted("POST", "/v1/transfers", &args.key, &body).await?;
    ledger.tell(&made)?;
    let moves = matches!(made["state"].as_str(), Some("running" | "completed"));
    Ok(if moves { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
