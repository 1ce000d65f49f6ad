//! `daybook serve`: runs a node until it is told to stop.
//!
//! ```text
//!   SIGTERM, SIGINT, Operations.Shutdown
//!                     drain and exit 0        a second one    exit 1 at once, as after a crash
//!   SIGHUP            certificates, keys and lists are read again
//! ```

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use daybook_ledger::risk::OnUnreachable;
use daybook_ledger::transfer::{CHECK_RISK, PAYMENT_TRANSFER};
use daybook_model::repository::SNAPSHOT_EVERY_DEFAULT;
use daybook_store::scavenge::Schedule;
use owo_colors::OwoColorize;
use sd_notify::NotifyState;

use super::archive::ArchiveArgs;
use super::entrance::{EntranceArgs, bind};
use super::protection::{Protection, ProtectionArgs};
use super::scavenge::{RATE_DEFAULT, rate};
use super::secrets::Secrets;
use super::signals::Signals;
use super::traces::TraceArgs;
use crate::config::{DATA_DEFAULT, LISTEN_DEFAULT, Setting};
use crate::ledger::{self, risk::RiskUrl};
use crate::memory::Memory;
use crate::node::listener::{Bounds, CONNECTIONS_PER_ADDRESS_MAX};
use crate::node::{Config, Listeners, Node};
use crate::security::first_admin::FirstAdmin;
use crate::telemetry::logging::colours_wanted;

/// The settings of a server.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The data directory; made if it does not exist
    #[arg(long, env = "DAYBOOK_DATA", value_name = "DIR", default_value = DATA_DEFAULT)]
    data: PathBuf,

    /// Where to listen, for gRPC and HTTP alike; port 0 takes any free one
    #[arg(long, env = "DAYBOOK_LISTEN", value_name = "HOST:PORT", default_value = LISTEN_DEFAULT)]
    listen: String,

    /// Where to listen for operators: /admin, /metrics and all else that asks for a right over the
    /// server is answered there alone [default: where everything is]
    #[arg(long, env = "DAYBOOK_ADMIN_LISTEN", value_name = "HOST:PORT")]
    admin_listen: Option<String>,

    #[command(flatten)]
    entrance: EntranceArgs,

    #[command(flatten)]
    protection: ProtectionArgs,

    /// Connections that one address may have at a time; a network of IPv6 is one address. This
    /// machine's own are not counted
    #[arg(
        long,
        env = "DAYBOOK_CONNECTIONS_PER_ADDRESS",
        value_name = "N",
        default_value_t = CONNECTIONS_PER_ADDRESS_MAX
    )]
    connections_per_address: usize,

    /// A name by which the server may be called though it asks nobody who they are: addresses and
    /// localhost always are; may be given more than once
    #[arg(
        long = "host-name",
        env = "DAYBOOK_HOST_NAMES",
        value_name = "NAME",
        value_delimiter = ','
    )]
    host_names: Vec<String>,

    /// A service that is asked about each transfer that the built-in risk rules let through:
    /// https://HOST/PATH, or http://localhost:PORT/PATH on this machine
    #[arg(long, env = "DAYBOOK_RISK_URL", value_name = "URL")]
    risk_url: Option<RiskUrl>,

    /// How long that service may take to answer, up to 10s
    #[arg(
        long,
        env = "DAYBOOK_RISK_TIMEOUT",
        value_name = "DURATION",
        default_value = "2s",
        value_parser = risk_timeout
    )]
    risk_timeout: Duration,

    /// What happens to a transfer if that service gives no answer: it is undone at once, or asked
    /// about again until the transfer's deadline
    #[arg(
        long,
        env = "DAYBOOK_RISK_UNREACHABLE",
        value_name = "POLICY",
        value_enum,
        default_value_t = RiskUnreachable::Park
    )]
    risk_unreachable: RiskUnreachable,

    /// How long a transfer may take before it is undone
    #[arg(
        long,
        env = "DAYBOOK_TRANSFER_TIMEOUT",
        value_name = "DURATION",
        default_value = "5m",
        value_parser = transfer_timeout
    )]
    transfer_timeout: Duration,

    /// Events of an account after which a snapshot of it is kept; 0 for never
    #[arg(
        long,
        env = "DAYBOOK_SNAPSHOT_EVERY",
        value_name = "N",
        default_value_t = SNAPSHOT_EVERY_DEFAULT
    )]
    snapshot_every: u64,

    /// Where the read models are kept: sled (in the data directory), off, or a database as
    /// postgres://USER:PASSWORD@HOST:5432/DATABASE, which other processes can ask, too
    #[arg(
        long,
        env = "DAYBOOK_READ_MODELS",
        // It may hold a password.
        hide_env_values = true,
        value_name = "PLACE",
        default_value = "sled"
    )]
    // A text until it is used: a refused argument is shown, and it may hold a password.
    read_models: String,

    /// When the space of events that nobody may read any more is given back: by itself, or when
    /// `daybook scavenge` asks
    #[arg(
        long,
        env = "DAYBOOK_SCAVENGE",
        value_name = "WHEN",
        value_enum,
        default_value_t = ScavengeWhen::Auto
    )]
    scavenge: ScavengeWhen,

    /// How fast that is done, in MiB read and written a second
    #[arg(
        long,
        env = "DAYBOOK_SCAVENGE_RATE",
        value_name = "MIB",
        default_value = RATE_DEFAULT,
        value_parser = rate
    )]
    scavenge_rate: u64,

    #[command(flatten)]
    traces: TraceArgs,

    /// Relay events as this file says: to RabbitMQ, webhooks and files
    #[arg(long, env = "DAYBOOK_CONNECTORS", value_name = "FILE")]
    connectors: Option<PathBuf>,

    #[command(flatten)]
    archive: ArchiveArgs,
}

/// What happens to a transfer that the risk service says nothing about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RiskUnreachable {
    /// It is undone.
    Reject,
    /// It waits, and the service is asked again.
    Park,
}

/// When a scavenge begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScavengeWhen {
    /// By itself, and when it is asked for.
    Auto,
    /// When it is asked for.
    OnDemand,
}

impl ServeArgs {
    fn scavenge(&self) -> Schedule {
        let automatic = self.scavenge == ScavengeWhen::Auto;
        Schedule { automatic, rate: self.scavenge_rate }
    }

    fn ledger(&self) -> ledger::Options {
        ledger::Options {
            risk: self.risk_url.clone(),
            risk_timeout: self.risk_timeout,
            on_unreachable: match self.risk_unreachable {
                RiskUnreachable::Reject => OnUnreachable::Reject,
                RiskUnreachable::Park => OnUnreachable::Park,
            },
            transfer_timeout: self.transfer_timeout,
            snapshot_every: self.snapshot_every,
            ..ledger::Options::default()
        }
    }
}

/// A time within which a step of a transfer is over in any case.
fn risk_timeout(text: &str) -> Result<Duration, String> {
    let longest = PAYMENT_TRANSFER.steps[CHECK_RISK].timeout;
    match humantime::parse_duration(text) {
        Ok(timeout) if (Duration::from_millis(1)..=longest).contains(&timeout) => Ok(timeout),
        Ok(_) => Err(format!("give 1ms to {}s", longest.as_secs())),
        Err(error) => Err(error.to_string()),
    }
}

/// A time that a transfer may take: long enough for its steps, short enough to wait for.
fn transfer_timeout(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    match humantime::parse_duration(text) {
        Ok(timeout) if (SHORTEST..=LONGEST).contains(&timeout) => Ok(timeout),
        Ok(_) => Err("give 1s to 7days".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs a server, which was `told` all that its arguments say.
///
/// # Errors
/// If it cannot start: the address is refused or taken, the store cannot be opened.
pub fn run(args: ServeArgs, told: Vec<Setting>) -> anyhow::Result<ExitCode> {
    let connections_max = args.entrance.room();
    let runtime = super::runtime(args.entrance.threads)?;
    let ended = runtime.block_on(serve(args, connections_max, told));
    // What still runs was cut on purpose: nothing may hold up the exit now.
    runtime.shutdown_background();
    ended
}

async fn serve(
    args: ServeArgs,
    connections_max: usize,
    told: Vec<Setting>,
) -> anyhow::Result<ExitCode> {
    // Before anything is opened, so that no signal finds the default of dying half way.
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let memory = Memory::of_this_process();
    memory.holds_a_store()?;
    memory.say();
    let protection = args.protection.read(&args.data, args.entrance.exposure.of())?;
    let connectors = args.connectors.as_deref();
    let secrets = Secrets::named(&args.read_models, args.traces.headers(), connectors)?;
    let bucket = args.archive.keys()?;
    let mut wanted: Vec<_> = protection.sources().into_iter().chain(secrets.sources()).collect();
    wanted.extend(bucket.iter().flat_map(|keys| [&keys.id, &keys.secret]));
    let keeper = tokio::select! {
        keeper = args.protection.vault.start(&wanted) => keeper?,
        () = signals.next() => return Ok(ExitCode::FAILURE),
    };
    let admin = protection.admin_password()?;
    let clients = bind(&args.listen, protection.exposure).await?;
    let operators = match &args.admin_listen {
        Some(listen) => Some(bind(listen, protection.exposure).await.context("--admin-listen")?),
        None => None,
    };
    let listeners = Listeners { clients, operators };
    let ledger = args.ledger();
    let per_address = args.connections_per_address;
    let config = Config {
        connections_max,
        bounds: Bounds { per_address, ..Bounds::default() },
        host_names: args.host_names.clone(),
        memory,
        ledger,
        read_models: secrets.read_models(&args.read_models)?,
        connectors: secrets.connectors(connectors)?,
        scavenge: args.scavenge(),
        archive: args.archive.settings(bucket)?,
        security: protection.settings.clone(),
        first_admin: Some(FirstAdmin { password: admin.clone() }),
        traces: args.traces.settings(secrets.trace_headers())?,
        told,
        ..Config::in_directory(&args.data)
    };
    let mut node = tokio::select! {
        node = Node::start(config, listeners) => node?,
        () = signals.next() => {
            tracing::warn!("told to stop before the store was open");
            return Ok(ExitCode::FAILURE);
        }
    };
    protection.introduce(node.take_made_password(), admin);
    protection.stand_guard(&node, keeper)?;
    greet(&node, &args.data, &protection)?;
    tell_starter(NotifyState::Ready);
    tokio::select! {
        () = signals.next() => {}
        () = node.context().life().asked_to_stop() => {}
    }
    tell_starter(NotifyState::Stopping);
    tracing::info!(timeout = ?args.entrance.drain_timeout, "stopping: finishing what was begun");
    tokio::select! {
        stopped = node.stop(args.entrance.drain_timeout) => {
            tracing::info!(connections_cut = stopped.connections_cut, "stopped");
            Ok(ExitCode::SUCCESS)
        }
        () = signals.next() => {
            tracing::warn!("told twice: exiting at once; the next start recovers");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Tells systemd, if it started this process and waits to hear (`Type=notify`).
fn tell_starter(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot tell systemd of it: NOTIFY_SOCKET");
    }
}

/// Says where to look: to a person on a terminal, else as one log line.
fn greet(node: &Node, data: &Path, protection: &Protection) -> anyhow::Result<()> {
    let address = node.address();
    let about = node.context().about();
    let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let committed = node.store().committed();
    let security = protection.in_words(&address);
    let url = format!("{}://{address}", protection.scheme());
    let admin = node.admin_address().map(|admin| format!("{}://{admin}", protection.scheme()));
    let mut out = std::io::stdout();
    if !out.is_terminal() || !std::io::stderr().is_terminal() {
        tracing::info!(
            version = crate::VERSION,
            %address,
            url,
            data = %data.display(),
            store = %about.store_id,
            epoch = about.epoch.0,
            format = about.format,
            events = committed.0,
            opened_us = node.store().stats().open_us,
            security,
            admin,
            "ready"
        );
    }
    if !out.is_terminal() {
        return Ok(());
    }
    let mut security = security;
    if let Some(admin) = &admin {
        security.push_str(&format!("\n  operators  {admin}"));
    }
    let text = banner(&url, &address.to_string(), &data.display().to_string(), &security);
    let text = if colours_wanted() { text.replace(&url, &url.cyan().to_string()) } else { text };
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to the terminal")
}

fn banner(url: &str, address: &str, data: &str, security: &str) -> String {
    let version = crate::VERSION;
    let default = url.strip_prefix("http://") == Some(LISTEN_DEFAULT);
    let secured = url.starts_with("https://");
    let server = match (default, secured) {
        (true, _) => String::new(),
        (false, false) => format!(" --url {url}"),
        (false, true) => format!(" --url {url} --ca CA.crt --user LOGIN"),
    };
    let (grpc, curl) = if secured {
        (
            format!("kurrentdb://LOGIN:PASSWORD@{address}?tlsCaFile=CA.crt"),
            " --cacert CA.crt -u LOGIN",
        )
    } else {
        (format!("kurrentdb://{address}?tls=false"), "")
    };
    format!(
        "\nDaybook {version} is ready.

  HTTP       {url}            look: /info  /stats  /metrics  /openapi.json
  gRPC       {grpc}   for KurrentDB's clients
  data       {data}
  security   {security}

Try, in another terminal:

  daybook append{server} account-1 Opened '{{\"owner\":\"Ada\"}}'
  daybook read{server} account-1
  daybook tail{server}
  curl{curl} {url}/v1/streams/account-1

Ctrl-C stops it.

"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_shows_commands_that_reach_this_server() {
        let default = banner("http://127.0.0.1:2113", LISTEN_DEFAULT, "/data", "none");
        assert!(default.contains("daybook read account-1"), "{default}");
        let other = banner("http://127.0.0.1:9", "127.0.0.1:9", "/data", "none");
        assert!(other.contains("daybook read --url http://127.0.0.1:9 account-1"), "{other}");
        let secured = banner("https://127.0.0.1:2113", LISTEN_DEFAULT, "/data", "TLS");
        assert!(secured.contains("daybook read --url https://127.0.0.1:2113 --ca "), "{secured}");
    }
}
