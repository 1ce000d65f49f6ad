//! What a fault needs of the machine, found out by trying it.
//!
//! INVARIANT: whatever is tried here is undone before the answer.

use std::path::Path;
use std::process::Command;

use crate::faults::limit::Group;
use crate::faults::namespace::Namespace;
use crate::faults::volume::Volume;

/// Something that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A tracer that may be attached to a running process.
    Strace,
    /// A file system of its own in a file.
    LoopDevice,
    /// A control group that limits processor time.
    ProcessorGroup,
    /// A network of its own.
    Namespace,
    /// Packets that are delayed and lost.
    Netem,
}

impl Need {
    /// Its name, for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Need::Strace => "strace",
            Need::LoopDevice => "a loop device",
            Need::ProcessorGroup => "a control group",
            Need::Namespace => "a network namespace",
            Need::Netem => "netem",
        }
    }

    /// Whether this machine has it.
    ///
    /// # Errors
    /// Why not.
    pub fn check(self) -> Result<(), String> {
        match self {
            Need::Strace => can_attach(),
            Need::LoopDevice => Volume::new(&std::env::temp_dir()).map(drop),
            Need::ProcessorGroup => Group::new("probe").map(drop),
            Need::Namespace => Namespace::new().map(drop),
            Need::Netem => Namespace::new()?.delay("1ms", "1ms", "1%"),
        }
    }
}

/// Runs a command to its end; what it said if it failed.
///
/// # Errors
/// Its words.
pub fn done(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program} does not run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(format!("{program} {}: {said}", arguments.join(" ")))
}

/// Whether only root's rights are missing.
///
/// # Errors
/// That they are.
pub fn is_root() -> Result<(), String> {
    match rustix::process::geteuid().is_root() {
        true => Ok(()),
        false => Err("only root may".to_owned()),
    }
}

fn can_attach() -> Result<(), String> {
    let mut sleeper = crate::server::tied(Path::new("/bin/sleep"))
        .arg("10")
        .spawn()
        .map_err(|error| format!("sleep does not run: {error}"))?;
    let id = sleeper.id().to_string();
    // It ends with the process it watches.
    let mut tracer = Command::new("timeout");
    tracer.args(["--signal=TERM", "0.3", "strace", "-f", "-qq", "-o", "/dev/null", "-p", &id]);
    let output = tracer.output();
    let _ = (sleeper.kill(), sleeper.wait());
    let output = output.map_err(|error| format!("timeout does not run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if said.is_empty() { Ok(()) } else { Err(said) }
}
