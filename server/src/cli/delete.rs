//! `daybook delete`: deletes a stream, softly or for ever.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use daybook_client::{ExpectedRevision, StreamName};
use serde_json::json;

use super::place::expected_revision;
use super::remote::Remote;
use super::report::{Json, escaped};

/// Deletes a stream: its events are hidden, and it may be written again.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The stream to delete
    stream: String,

    /// End the stream for ever: its name can never be used again
    #[arg(long)]
    hard: bool,

    /// What must hold of the stream: any, no_stream, stream_exists, or its last revision
    #[arg(long, value_name = "REVISION", default_value = "any", value_parser = expected_revision)]
    expected: ExpectedRevision,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

/// Deletes.
///
/// # Errors
/// Why it was not deleted.
pub fn run(args: DeleteArgs) -> anyhow::Result<ExitCode> {
    super::runtime(Some(1))?.block_on(async {
        let stream = StreamName::new(&args.stream).context("STREAM cannot be used")?;
        let client = args.remote.client()?;
        let checkpoint = if args.hard {
            client.tombstone(&stream, args.expected).await?
        } else {
            client.delete(&stream, args.expected).await?
        };
        let position = checkpoint.map(|checkpoint| checkpoint.position().0);
        let value = json!({ "stream": stream.as_str(), "hard": args.hard, "position": position });
        let name = escaped(stream.as_str());
        let text = if args.hard {
            format!("deleted {name} for ever\n")
        } else {
            format!("deleted {name}; an append opens it again\n")
        };
        args.json.answer(&value, &text)?;
        Ok(ExitCode::SUCCESS)
    })
}
