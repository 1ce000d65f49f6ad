//! `daybook demo`: the ledger at work, told as a story in a dozen steps.
//!
//! ```text
//!   api     asks the server, and keeps who asked for what out of the story
//!   story   what happens, step by step; each step fails if it does not go as it is told
//!   stage   how it is told: lines, tables, colours; and the same as JSON
//! ```
//!
//! Without `--url` the server is one of its own on a directory that is removed at the end.
//!
//! INVARIANT: nothing is told that the server has not said.

pub mod api;
pub mod stage;
pub mod story;

use std::process::ExitCode;

use clap::Args;

use self::api::Api;
use self::stage::Stage;
use super::load::target::Target;
use super::remote::IdentityArgs;
use super::report::{Json, print};

/// Shows the ledger at work: accounts, transfers, one that is undone, and the books.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  daybook demo                                   on a server of its own, removed at the end
  daybook demo --url http://127.0.0.1:2113       on a server that runs, to look around afterwards
  daybook demo --url https://localhost:2113 --ca ca.crt --user admin   asks for the password")]
pub struct DemoArgs {
    /// A server that runs already: http://HOST:PORT [default: one started for the demo]
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    #[command(flatten)]
    identity: IdentityArgs,

    #[command(flatten)]
    json: Json,
}

/// Runs the demo.
///
/// # Errors
/// If the server does not start, cannot be asked, or does not do what the story tells.
pub fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    super::runtime(None)?.block_on(async {
        let target =
            Target::reach(args.url.as_deref(), &args.identity, &std::env::temp_dir()).await?;
        let mut stage = Stage::new(args.json.leaves_output_to_people());
        stage.open(&target.version().await?, target.url())?;
        let mut api = Api::new(target.address().clone());
        story::tell(&mut api, &mut stage).await?;
        if args.json.wanted() {
            args.json.answer(stage.told(), "")?;
        }
        if args.json.leaves_output_to_people() {
            print(&stage::goodbye(target.is_own()))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}
