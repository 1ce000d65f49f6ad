//! `daybook certs`: certificates to develop and test with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::report::{Json, table};
use crate::security::development::{self, DAYS, HOSTS_DEFAULT};
use crate::security::first_admin::FIRST_ADMIN;

/// Makes certificates.
#[derive(Debug, Args)]
pub struct CertsArgs {
    #[command(subcommand)]
    command: CertsCommand,
}

#[derive(Debug, Subcommand)]
enum CertsCommand {
    /// Make an authority, and certificates for a server and a client that it vouches for
    Dev(DevArgs),
}

#[derive(Debug, Args)]
struct DevArgs {
    /// Where to write them; made if it does not exist
    #[arg(long, value_name = "DIR", default_value = "./certs")]
    dir: PathBuf,

    /// A name or address of the server; may be given more than once
    #[arg(long = "host", value_name = "NAME", default_values = HOSTS_DEFAULT)]
    hosts: Vec<String>,

    /// The user whom the client's certificate is for
    #[arg(long, value_name = "LOGIN", default_value = FIRST_ADMIN)]
    user: String,

    #[command(flatten)]
    json: Json,
}

/// Makes them.
///
/// # Errors
/// If a file is there already, or cannot be written.
pub fn run(args: CertsArgs) -> anyhow::Result<ExitCode> {
    let CertsCommand::Dev(args) = args.command;
    let made = development::make(&args.dir, &args.hosts, &args.user)?;
    let hosts = args.hosts.join(", ");
    let client = format!("the user {}", args.user);
    let rows: [(&Path, String); 6] = [
        (&made.authority, "the authority: whom clients are to believe".to_owned()),
        (&made.authority_key, "its key: keep it to yourself, it makes certificates".to_owned()),
        (&made.server.certificate, format!("the server's, for {hosts}")),
        (&made.server.key, "its key".to_owned()),
        (&made.client.certificate, format!("a client's, for {client}")),
        (&made.client.key, "its key".to_owned()),
    ];
    let mut shown = table(&["file", "what it is"]);
    for (path, what) in &rows {
        shown.add_row([path.display().to_string(), what.clone()]);
    }
    let files: serde_json::Map<_, _> =
        rows.iter().map(|(path, what)| (path.display().to_string(), json!(what))).collect();
    let text = format!(
        "{shown}\n\nThey hold {DAYS} days. To develop and test with: whoever has ca.key can make \
         more.\n\n  daybook serve --tls-cert {certificate} --tls-key {key} --tls-client-ca {ca}\n  \
         daybook health --url https://localhost:2113 --ca {ca}\n  \
         kurrentdb://LOGIN:PASSWORD@localhost:2113?tls=true&tlsCaFile={ca}\n\n",
        certificate = made.server.certificate.display(),
        key = made.server.key.display(),
        ca = made.authority.display(),
    );
    args.json.answer(&json!({ "files": files, "days": DAYS }), &text)?;
    Ok(ExitCode::SUCCESS)
}
