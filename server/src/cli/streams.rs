//! `daybook streams`: the names of streams.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::remote::{Remote, percent_encode};
use super::report::{Json, escaped};

/// Names asked for at a time.
const PAGE_LENGTH: u64 = 1000;

/// Lists streams by name.
#[derive(Debug, Args)]
pub struct StreamsArgs {
    /// Only names that begin so
    #[arg(long, value_name = "PREFIX", default_value = "", hide_default_value = true)]
    prefix: String,

    /// Only names that come after this one
    #[arg(long, value_name = "NAME")]
    after: Option<String>,

    /// At most so many; 0 for all
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    count: u64,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

/// Lists.
///
/// # Errors
/// If the server cannot be asked.
pub fn run(args: StreamsArgs) -> anyhow::Result<ExitCode> {
    super::runtime(Some(1))?.block_on(async {
        let mut out = args.json.open()?;
        let mut after = args.after.clone();
        let mut left = if args.count == 0 { u64::MAX } else { args.count };
        while left > 0 {
            let limit = left.min(PAGE_LENGTH);
            let mut path = format!("/v1/streams?prefix={}", percent_encode(&args.prefix));
            if let Some(after) = &after {
                path.push_str(&format!("&after={}", percent_encode(after)));
            }
            path.push_str(&format!("&limit={limit}"));
            let page = args.remote.get(&path).await?;
            let names = page["streams"].as_array().context("the server lists no streams")?;
            for name in names.iter().filter_map(|name| name.as_str()) {
                let line = if args.json.wanted() {
                    json!({ "stream": name }).to_string()
                } else {
                    escaped(name)
                };
                writeln!(out, "{line}").context("cannot write the answer")?;
            }
            left -= limit;
            after = page["next"].as_str().map(str::to_owned);
            if after.is_none() {
                break;
            }
        }
        out.flush().context("cannot write the answer")?;
        Ok(ExitCode::SUCCESS)
    })
}
