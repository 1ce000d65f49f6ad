//! `daybook sagas`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;
use uuid::Uuid;

use super::{By, Column, Key, Ledger, Rows};
use crate::cli::remote::Remote;
use crate::cli::report::Json;

const COLUMNS: &[Column] = &[
    ("transfer", "id"),
    ("state", "state"),
    ("step", "step"),
    ("attempt", "attempt"),
    ("since", "initiated_at"),
    ("deadline", "deadline"),
    ("reason", "reason"),
];

/// Sagas that are not over: under way, or failed and waiting for somebody.
#[derive(Debug, Args)]
#[command(
    mut_arg("url", |arg| arg.global(true)),
    mut_arg("json", |arg| arg.global(true)),
    after_help = "Example: daybook sagas --state failed"
)]
pub struct SagasArgs {
    #[command(subcommand)]
    command: Option<SagasCommand>,

    /// In this state: running, compensating or failed
    #[arg(long)]
    state: Option<String>,

    #[command(flatten)]
    rows: Rows,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Subcommand)]
enum SagasCommand {
    /// Show one, with its steps
    Show {
        /// The transfer that it makes
        transfer: Uuid,
    },
    /// Let a failed one try again
    Resume {
        /// The transfer that it makes
        transfer: Uuid,
        #[command(flatten)]
        by: By,
        #[command(flatten)]
        key: Key,
    },
    /// Give up a failed one: somebody settles it by hand
    Abandon {
        /// The transfer that it makes
        transfer: Uuid,
        /// Why
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        by: By,
        #[command(flatten)]
        key: Key,
    },
}

/// Does it.
///
/// # Errors
/// If the server cannot be asked, or refuses.
pub fn run(args: SagasArgs) -> anyhow::Result<ExitCode> {
    let SagasArgs { command, state, rows, remote, json } = args;
    let ledger = Ledger { remote: &remote, json: &json };
    crate::cli::runtime(Some(1))?.block_on(async {
        match command {
            Some(SagasCommand::Show { transfer }) => {
                ledger.show(&format!("/v1/sagas/{transfer}")).await
            }
            Some(SagasCommand::Resume { transfer, by, key }) => {
                let body = json!({ "resumed_by": by.by });
                ledger.act("POST", &format!("/v1/sagas/{transfer}/resume"), &key, &body).await
            }
            Some(SagasCommand::Abandon { transfer, reason, by, key }) => {
                let body = json!({ "abandoned_by": by.by, "reason": reason });
                ledger.act("POST", &format!("/v1/sagas/{transfer}/abandon"), &key, &body).await
            }
            None => {
                let filters = [("state", state.as_deref())];
                ledger.list("/v1/sagas", &filters, "sagas", COLUMNS, &rows).await
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
