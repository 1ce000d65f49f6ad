//! Servers as processes of their own, so that their processor time and memory can be told from
//! their load's.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

/// How long a server may take until it listens. A raw file is written full first.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is looked for.
const START_LOOK: Duration = Duration::from_millis(20);
/// Microseconds of one tick in `/proc/PID/stat`; Linux shows 100 a second to programs everywhere.
const TICK_US: u64 = 10_000;

/// A running server. Killed when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts a store's server on `data`.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn store(data: &Path) -> anyhow::Result<Server> {
        Server::start(|address| {
            let listen = address.to_string();
            vec!["serve".into(), "--data".into(), data.into(), "--listen".into(), listen.into()]
        })
        .await
    }

    /// As [`Server::store`], with these flags.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn with(data: &Path, flags: &[std::ffi::OsString]) -> anyhow::Result<Server> {
        Server::start(|address| {
            let listen = address.to_string();
            let own =
                ["serve".into(), "--data".into(), data.into(), "--listen".into(), listen.into()];
            own.into_iter().chain(flags.iter().cloned()).collect()
        })
        .await
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As [`Server::store`], with its log archived in `archive` every second.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn archiving(data: &Path, archive: &Path) -> anyhow::Result<Server> {
        Server::start(|address| {
            let listen = address.to_string();
            vec![
                "serve".into(),
                "--data".into(),
                data.into(),
                "--listen".into(),
                listen.into(),
                "--archive".into(),
                archive.into(),
                "--archive-every".into(),
                "1s".into(),
            ]
        })
        .await
    }

    /// Starts the ceiling's server on the raw file `file`.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn limit(file: &Path) -> anyhow::Result<Server> {
        Server::start(|address| {
            let listen = address.to_string();
            vec![
                "bench-limit".into(),
                "--file".into(),
                file.into(),
                "--listen".into(),
                listen.into(),
            ]
        })
        .await
    }

    async fn start(args: impl Fn(SocketAddr) -> Vec<std::ffi::OsString>) -> anyhow::Result<Server> {
        let address = free_address()?;
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let child = Command::new(program)
            .args(args(address))
            .env("DAYBOOK_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start a server")?;
        let mut server = Server { child, address };
        server.wait_until_it_listens().await?;
        Ok(server)
    }

    async fn wait_until_it_listens(&mut self) -> anyhow::Result<()> {
        let address = self.address;
        let look = async {
            while TcpStream::connect(address).await.is_err() {
                if let Some(status) = self.child.try_wait()? {
                    bail!("the server ended at once ({status})");
                }
                tokio::time::sleep(START_LOOK).await;
            }
            Ok(())
        };
        tokio::time::timeout(START_TIMEOUT, look).await.context("the server does not listen")?
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops it as it is, as a debugger or a frozen virtual machine would.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP).context("cannot stop the server")
    }

    /// Has it go on.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn go_on(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT).context("cannot have the server go on")
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Microseconds of processor time it has used so far.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn cpu_us(&self) -> anyhow::Result<u64> {
        cpu_us(&self.child.id().to_string())
    }

    /// Its memory now.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        memory(&self.child.id().to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Microseconds of processor time that process `id` (or "self") has used so far.
///
/// # Errors
/// If the system does not tell.
pub fn cpu_us(id: &str) -> anyhow::Result<u64> {
    #[expect(clippy::disallowed_methods, reason = "/proc is the system's, not the store's")]
    let stat = std::fs::read(format!("/proc/{id}/stat")).context("cannot read /proc")?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    // The program's name may hold spaces; what follows its closing bracket does not.
    let (_, rest) = stat.rsplit_once(") ").context("/proc/PID/stat has another form")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let (Some(user), Some(system)) = (ticks(11), ticks(12)) else {
        bail!("/proc/PID/stat has another form");
    };
    Ok((user + system) * TICK_US)
}

/// A process' resident memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes now.
    pub bytes: u64,
    /// The most it ever had.
    pub peak_bytes: u64,
}

/// The memory of process `id` (or "self").
///
/// # Errors
/// If the system does not tell.
pub fn memory(id: &str) -> anyhow::Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"));
    let status = status.context("cannot read /proc")?;
    let kib = |name: &str| {
        let rest = status.lines().find_map(|line| line.strip_prefix(name));
        let number = rest.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        number.context("/proc/PID/status has another form")
    };
    Ok(Memory { bytes: kib("VmRSS:")? * 1024, peak_bytes: kib("VmHWM:")? * 1024 })
}

/// An address of this machine that nobody listened on a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no free port")?;
    listener.local_addr().context("no free port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_processor_time_and_memory() {
        assert!(cpu_us("self").is_ok());
        let memory = memory("self").expect("the system tells");
        assert!(0 < memory.bytes && memory.bytes <= memory.peak_bytes);
    }
}
