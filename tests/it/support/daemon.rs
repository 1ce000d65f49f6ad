//! The real binary as a process of its own.
//!
//! Which binary: `DAYBOOK_BIN` if it is set; else the one above this test's own directory, which
//! `cargo test --workspace` has just built. Where that is missing, or older than a source file
//! (as it may be if only this package is tested), it is built now.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::PATIENCE;

static BINARY: LazyLock<PathBuf> = LazyLock::new(find_binary);

fn find_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("DAYBOOK_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("this test has a path");
    // target/<profile>/deps/<test>-<hash>
    let profile = test.ancestors().nth(2).expect("a target directory");
    let binary = profile.join("daybook");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sources = ["server", "client", "projections"].map(|part| newest(&root.join(part)));
    if modified(&binary) < sources.into_iter().max().flatten() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "daybook", "--bin", "daybook"]);
        // The profile that `cargo test` uses too, so that little has to be compiled again.
        let like = if profile.ends_with("release") { "release" } else { "test" };
        build.args(["--profile", like]);
        build.current_dir(root);
        assert!(build.status().expect("cargo runs").success(), "cargo build failed");
    }
    assert!(binary.is_file(), "there is no {}; set DAYBOOK_BIN", binary.display());
    binary
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

/// When the newest file in or below `directory` was changed.
fn newest(directory: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(directory).ok()?.map_while(Result::ok);
    let of = |path: PathBuf| if path.is_dir() { newest(&path) } else { modified(&path) };
    entries.filter_map(|entry| of(entry.path())).max()
}

/// The command `daybook …`, with nothing of this process' settings.
pub fn daybook(arguments: &[&str]) -> Command {
    let mut command = plain(binary());
    command.args(arguments);
    command
}

/// Where the binary is.
pub fn binary() -> &'static Path {
    &BINARY
}

/// A command with nothing of this process' settings.
pub fn plain(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DAYBOOK_") {
            command.env_remove(name);
        }
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Runs `daybook …` to its end.
pub fn run(arguments: &[&str]) -> Output {
    daybook(arguments).output().expect("the binary runs")
}

/// What a run said on standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `daybook verify` of the stopped store in `data`: its report.
///
/// # Panics
/// If it is not sound.
pub fn verify(data: &Path) -> Value {
    let output = run(&["verify", "--json", "--data", &data.display().to_string()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", said(&output));
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["sound"], true, "{report}");
    report
}

/// What a process says on standard error, line by line.
#[derive(Clone, Debug, Default)]
struct Said {
    lines: Arc<(Mutex<Lines>, Condvar)>,
}

#[derive(Debug, Default)]
struct Lines {
    all: Vec<String>,
    ended: bool,
}

impl Said {
    fn by(child: &mut Child) -> Said {
        let said = Said::default();
        let (pipe, to) = (child.stderr.take().expect("a pipe"), said.clone());
        std::thread::spawn(move || {
            // Whatever breaks the pipe ends it.
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                to.lines.0.lock().expect("no panic").all.push(line);
                to.lines.1.notify_all();
            }
            to.lines.0.lock().expect("no panic").ended = true;
            to.lines.1.notify_all();
        });
        said
    }

    /// The first line with `word`; none if the process ends, or `patience` does, without one.
    fn wait_for(&self, word: &str, patience: Duration) -> Option<String> {
        let find = |lines: &Lines| lines.all.iter().find(|line| line.contains(word)).cloned();
        let lines = self.lines.0.lock().expect("no panic");
        let waits = |lines: &mut Lines| !lines.ended && find(lines).is_none();
        let (lines, _) = self.lines.1.wait_timeout_while(lines, patience, waits).expect("no panic");
        find(&lines)
    }

    /// All of it, once the process has ended.
    fn all(&self) -> String {
        let lines = self.lines.0.lock().expect("no panic");
        let waits = |lines: &mut Lines| !lines.ended;
        let (lines, _) = self.lines.1.wait_timeout_while(lines, PATIENCE, waits).expect("no panic");
        lines.all.join("\n")
    }
}

/// A running `daybook serve`. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    said: Said,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Daemon {
    /// A server on `data` at a free port.
    pub fn start(data: &Path) -> Daemon {
        Daemon::start_at(data, "127.0.0.1:0".parse().expect("an address"))
    }

    /// A server on `data` that listens at `listen`.
    pub fn start_at(data: &Path, listen: SocketAddr) -> Daemon {
        let mut command = daybook(&["serve", "--data"]);
        command.arg(data).args(["--listen", &listen.to_string()]);
        Daemon::spawn(command, PATIENCE).unwrap_or_else(|said| panic!("no server: {said}"))
    }

    /// A server, ready; or what it said until it ended or `patience` did, and then it is killed.
    pub fn spawn(mut command: Command, patience: Duration) -> Result<Daemon, String> {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let said = Said::by(&mut child);
        let address = "127.0.0.1:0".parse().expect("an address");
        let mut daemon = Daemon { child, said, address };
        let ready = daemon.said.wait_for("\"message\":\"ready\"", patience);
        let address = ready.and_then(|line| {
            let line: Value = serde_json::from_str(&line).ok()?;
            line["address"].as_str()?.parse().ok()
        });
        match address {
            Some(address) => daemon.address = address,
            None => {
                daemon.end();
                return Err(daemon.said.all());
            }
        }
        Ok(daemon)
    }

    /// The process' number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has said a line with `word`.
    pub fn wait_for(&self, word: &str) -> Option<String> {
        self.said.wait_for(word, PATIENCE)
    }

    /// SIGKILL. Answers with what it had said.
    pub fn kill(mut self) -> String {
        self.end();
        self.said.all()
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM: how it ended, and what it had said.
    pub fn terminate(self) -> (ExitStatus, String) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("a living process");
        self.wait()
    }

    /// Waits for its end, which somebody else brings about: how it ended, and what it had said.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("its end");
        (status, self.said.all())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}
