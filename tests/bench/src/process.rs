//! Servers as processes of their own, so that their processor time can be told from their load's.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::TcpStream;

/// How long a server may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is looked for.
const START_LOOK: Duration = Duration::from_millis(20);
/// Microseconds of one tick in `/proc/PID/stat`; Linux shows 100 a second to programs everywhere.
const TICK_US: u64 = 10_000;

/// A running server. Killed when it is dropped.
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts `program` with the arguments for the address it is to listen on.
    pub async fn start(
        program: &Path,
        args: impl Fn(String) -> Vec<OsString>,
    ) -> anyhow::Result<Server> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no free port")?;
        let address = listener.local_addr()?;
        drop(listener);
        let child = Command::new(program)
            .args(args(address.to_string()))
            .env("DAYBOOK_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut server = Server { child, address };
        tokio::time::timeout(START_TIMEOUT, server.wait_until_it_listens())
            .await
            .context("the server does not listen")??;
        Ok(server)
    }

    async fn wait_until_it_listens(&mut self) -> anyhow::Result<()> {
        while TcpStream::connect(self.address).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended at once ({status})");
            }
            tokio::time::sleep(START_LOOK).await;
        }
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Microseconds of processor time it has used so far.
    pub fn cpu_us(&self) -> anyhow::Result<u64> {
        let stat = std::fs::read(format!("/proc/{}/stat", self.child.id()));
        let stat = String::from_utf8_lossy(&stat.context("cannot read /proc")?).into_owned();
        // The program's name may hold spaces; what follows its closing bracket does not.
        let (_, rest) = stat.rsplit_once(") ").context("/proc/PID/stat has another form")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let (Some(user), Some(system)) = (ticks(11), ticks(12)) else {
            bail!("/proc/PID/stat has another form");
        };
        Ok((user + system) * TICK_US)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
