//! How a server of ours takes connections, whatever it serves: who may come, how many, and how long
//! a stop waits for them.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

use crate::config::{Exposure, listen_addresses};
use crate::node::listener;

/// Files and sockets the process wants to have open beside its connections: segments, index files,
/// the listener.
const FILES_RESERVE: u64 = 1024;

/// Who may come.
#[derive(Debug, Args)]
pub struct ExposureArgs {
    /// Let other machines connect, though connections are not encrypted, or nobody is asked who
    /// they are
    #[arg(long, env = "DAYBOOK_INSECURE")]
    insecure: bool,
}

/// How connections are taken.
#[derive(Debug, Args)]
pub struct EntranceArgs {
    #[command(flatten)]
    pub(super) exposure: ExposureArgs,

    /// How long a stop waits for what was begun before it cuts connections
    #[arg(
        long,
        env = "DAYBOOK_DRAIN_TIMEOUT",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = humantime::parse_duration
    )]
    pub(super) drain_timeout: Duration,

    /// Connections that may be open at a time; others wait
    #[arg(
        long,
        env = "DAYBOOK_CONNECTIONS_MAX",
        value_name = "N",
        default_value_t = listener::CONNECTIONS_MAX
    )]
    connections_max: usize,

    /// Threads that serve requests [default: one per processor]
    #[arg(long, env = "DAYBOOK_THREADS", value_name = "N")]
    pub(super) threads: Option<usize>,
}

impl ExposureArgs {
    /// Who may come.
    pub(super) fn of(&self) -> Exposure {
        if self.insecure { Exposure::Anyone } else { Exposure::ThisMachine }
    }
}

impl EntranceArgs {
    /// How many connections there is room for, of those that are wanted.
    pub(super) fn room(&self) -> usize {
        room_for_connections(self.connections_max)
    }
}

/// Listens on `listen`, which is a host and a port.
///
/// # Errors
/// If others could come who must not, or the address is taken.
pub async fn bind(listen: &str, exposure: Exposure) -> anyhow::Result<TcpListener> {
    let addresses = listen_addresses(listen, exposure)?;
    TcpListener::bind(addresses.as_slice())
        .await
        .with_context(|| format!("cannot listen on {listen} (is another server running there?)"))
}

/// Raises the number of files that may be open as far as this process may (each connection is one,
/// and many systems begin with 1,024), and says how many connections that leaves room for: however
/// many clients come, the store must be able to open its files.
fn room_for_connections(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let files = (wanted as u64).saturating_add(FILES_RESERVE);
    let allowed = limit.maximum.map_or(files, |most| most.min(files));
    if limit.current.is_some_and(|now| now < allowed) {
        let raised = Rlimit { current: Some(allowed), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the limit on open files");
        }
    }
    let room = connections_beside_files(getrlimit(Resource::Nofile).current, wanted);
    if room < wanted {
        tracing::warn!(
            wanted,
            room,
            "fewer connections than --connections-max: too few files may be open; raise the hard \
             limit (ulimit -Hn, LimitNOFILE=)"
        );
    }
    room
}

/// How many of the `wanted` connections there is room for if `allowed` files may be open.
fn connections_beside_files(allowed: Option<u64>, wanted: usize) -> usize {
    let Some(allowed) = allowed else { return wanted };
    let reserve = FILES_RESERVE.min(allowed / 2);
    usize::try_from(allowed - reserve).unwrap_or(usize::MAX).min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_cannot_take_the_stores_files() {
        for (allowed, wanted, room) in [
            (None, 4096, 4096),
            (Some(1_000_000), 4096, 4096),
            (Some(4096), 4096, 4096 - 1024),
            (Some(256), 4096, 128),
            (Some(1024), 10, 10),
        ] {
            assert_eq!(connections_beside_files(allowed, wanted), room, "{allowed:?} {wanted}");
        }
    }
}
