//! `daybook stats`: a store's numbers, from a running server or a stopped store.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use daybook_log::disk::os::{Access, OsDisk};
use daybook_model::{SystemClock, SystemEntropy};
use daybook_store::{Environment, Options, Store};
use serde_json::{Value, json};

use super::remote::Remote;
use super::report::{Json, facts};
use crate::http::about::stats_json;

/// Shows a store's numbers.
#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Ask a stopped store instead of a server; it is opened and closed as by a server's start
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

/// Shows them.
///
/// # Errors
/// If the server cannot be asked, or the store not be opened.
pub fn run(args: StatsArgs) -> anyhow::Result<ExitCode> {
    super::runtime(Some(1))?.block_on(async {
        let value = match &args.data {
            Some(data) => of_directory(data).await?,
            None => {
                let (info, stats) =
                    (args.remote.get("/info").await?, args.remote.get("/stats").await?);
                about(info["store"].clone(), info["epoch"].clone(), info["format"].clone(), stats)
            }
        };
        args.json.answer(&value, &to_text(&value))?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn of_directory(data: &Path) -> anyhow::Result<Value> {
    // First for reading: a directory that does not exist must not be made by asking.
    drop(OsDisk::open(data, Access::Read)?);
    let environment = Environment {
        disk: Arc::new(OsDisk::open(data, Access::Write)?),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
    };
    let store = Store::open(environment, Options::default())?;
    let (id, stats) = (store.about(), stats_json(&store.stats()));
    store.close().await;
    Ok(about(json!(id.store_id), json!(id.epoch.0), json!(id.format), stats))
}

fn about(store: Value, epoch: Value, format: Value, stats: Value) -> Value {
    let mut value = json!({ "store": store, "epoch": epoch, "format": format });
    if let (Some(value), Value::Object(stats)) = (value.as_object_mut(), stats) {
        value.extend(stats);
    }
    value
}

fn to_text(value: &Value) -> String {
    let mut rows = Vec::new();
    for (name, value) in value.as_object().into_iter().flatten() {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        rows.push((name.as_str(), text));
    }
    facts(&rows)
}
