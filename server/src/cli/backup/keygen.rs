//! `daybook backup keygen`.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use daybook_backup::keys::generate;
use serde_json::json;

use crate::cli::report::{Json, facts};

/// Only its owner may read the key.
const FILE_MODE: u32 = 0o600;

/// Makes a key.
#[derive(Debug, Args)]
#[command(after_help = "A backup that is encrypted to a recipient can be read with that \
    recipient's key and with nothing else: keep copies of it, apart from the backups.")]
pub struct KeygenArgs {
    /// Where the key is written; the file must not be there
    #[arg(long, value_name = "FILE")]
    to: PathBuf,

    #[command(flatten)]
    json: Json,
}

/// Makes a key, and says whom backups are then encrypted to.
///
/// # Errors
/// If the file is there, or cannot be written.
pub fn run(args: &KeygenArgs) -> anyhow::Result<ExitCode> {
    let (text, recipient) = generate();
    let path = args.to.display();
    #[expect(clippy::disallowed_methods, reason = "a key is not the store's")]
    let file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&args.to);
    file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .with_context(|| format!("cannot write {path}"))?;
    let value = json!({ "key": args.to, "recipient": recipient });
    let rows = [("key", path.to_string()), ("recipient", recipient)];
    args.json.answer(&value, &facts(&rows))?;
    Ok(ExitCode::SUCCESS)
}
