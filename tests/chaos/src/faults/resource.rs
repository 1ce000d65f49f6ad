//! A limit of the running server that is lowered for a while: no new files, no new connections.
//!
//! Only the soft limit moves, so that nobody has to be root to raise it again.
//!
//! INVARIANT: as it was when it is dropped, if the process still lives.

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// A lowered limit.
#[derive(Debug)]
pub struct Lowered {
    process: Pid,
    resource: Resource,
    before: Rlimit,
}

/// Numbers that the process has open already are kept; no new one is below this.
const FILES: u64 = 3;

impl Lowered {
    /// No new file, no new connection.
    ///
    /// # Errors
    /// The system's words.
    pub fn files(process: u32) -> Result<Lowered, String> {
        Lowered::new(process, Resource::Nofile, FILES)
    }

    fn new(process: u32, resource: Resource, current: u64) -> Result<Lowered, String> {
        let number = i32::try_from(process).ok().and_then(Pid::from_raw);
        let process = number.ok_or("a process has a number")?;
        // A child has its parent's.
        let maximum = getrlimit(resource).maximum;
        let lowered = Rlimit { current: Some(current), maximum };
        let before = prlimit(Some(process), resource, lowered).map_err(|e| e.to_string())?;
        Ok(Lowered { process, resource, before })
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        // It may have ended.
        let _ = prlimit(Some(self.process), self.resource, self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_lowered_for_a_process_and_then_as_before() {
        let mut child =
            std::process::Command::new("sleep").arg("60").spawn().expect("sleep is there");
        let files = || {
            let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id()));
            let limits = limits.expect("it lives");
            limits.lines().find(|line| line.starts_with("Max open files")).map(str::to_owned)
        };
        let before = files();
        let lowered = Lowered::files(child.id()).expect("our own child");
        let while_lowered = files();
        drop(lowered);
        let after = files();
        child.kill().and_then(|()| child.wait()).expect("it ends");
        assert_ne!(before, while_lowered);
        assert_eq!(before, after);
    }
}
