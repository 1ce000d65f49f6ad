//! The real server as a process: started, stopped in every way, and its store verified.
//!
//! INVARIANT: a server ends when its [`Server`] is dropped, and with this process, however that
//! ends: `setpriv --pdeathsig` has the kernel see to it. For that it must be started on the main
//! thread, which lives as long as the process.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::sync::oneshot;

/// How long a server may take until it is ready: a debug build on a busy machine, recovering.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a stop may take: the server's own drain is 10 s.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Lines of the log that are kept to be shown.
const LINES_MAX: usize = 40;
/// How often it is asked whether a process has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub binary: PathBuf,
    /// Its data directory.
    pub data: PathBuf,
    /// What stands before it: `ip netns exec NAME`.
    pub wrapper: Vec<String>,
    /// The address it listens on, with any port.
    pub host: String,
}

/// The log's last lines.
type Said = Arc<Mutex<VecDeque<String>>>;

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    said: Said,
    address: SocketAddr,
}

/// `program` with none of this process' settings; it dies with this process where that can be had.
pub fn tied(program: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    let mut command = if setpriv.exists() {
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DAYBOOK_") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

impl Launch {
    fn command(&self) -> Command {
        let mut words = self.wrapper.iter().map(PathBuf::from).chain([self.binary.clone()]);
        let mut command = tied(&words.next().expect("a program at least"));
        command.args(words).arg("serve").arg("--data").arg(&self.data);
        command.args(["--listen", &format!("{}:0", self.host)]);
        if self.host != "127.0.0.1" {
            // Within a network of its own that nobody else reaches.
            command.arg("--insecure");
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Starts a server and waits until it is ready.
    ///
    /// # Errors
    /// If it does not start; with what it said.
    pub async fn start(&self) -> anyhow::Result<Server> {
        let mut child = self
            .command()
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        let (said, pipe) = (Said::default(), child.stderr.take().context("no pipe")?);
        let (tell, told) = oneshot::channel();
        let kept = said.clone();
        std::thread::spawn(move || listen(pipe, &kept, tell));
        let address = "127.0.0.1:0".parse()?;
        let mut server = Server { child, said, address };
        match tokio::time::timeout(START_TIMEOUT, told).await {
            Ok(Ok(address)) => server.address = address,
            _ => bail!("the server does not start: {}", server.said()),
        }
        Ok(server)
    }

    /// Has the stopped store verified. Answers with what is wrong, if anything is.
    ///
    /// # Errors
    /// If that cannot be done.
    pub async fn verify(&self) -> anyhow::Result<Option<String>> {
        let mut command = tied(&self.binary);
        command.args(["verify", "--json", "--data"]).arg(&self.data);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let clean = output.status.success()
            && report["sound"] == Value::Bool(true)
            && report["tornTail"] == Value::Bool(false);
        let said = || format!("{report} {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok((!clean).then(said))
    }
}

/// Keeps what is said, and tells the address once it is said to be ready.
fn listen(pipe: impl std::io::Read, kept: &Said, tell: oneshot::Sender<SocketAddr>) {
    let mut tell = Some(tell);
    // Whatever breaks the pipe ends it.
    for line in BufReader::new(pipe).lines().map_while(Result::ok) {
        if line.contains("\"message\":\"ready\"")
            && let Ok(value) = serde_json::from_str::<Value>(&line)
            && let Some(address) = value["address"].as_str().and_then(|text| text.parse().ok())
            && let Some(tell) = tell.take()
        {
            // Nobody waits any more: the start has failed otherwise.
            let _ = tell.send(address);
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LINES_MAX {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process' number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The last lines of its log.
    #[must_use]
    pub fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("the server has ended")
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(mut self) {
        self.end();
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// If it takes too long.
    pub async fn terminate(mut self) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait()? {
                    return anyhow::Ok(status);
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        match tokio::time::timeout(STOP_TIMEOUT, ended).await {
            Ok(status) => status,
            Err(_) => bail!("SIGTERM did not end it in {STOP_TIMEOUT:?}: {}", self.said()),
        }
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
