//! A control group that gives a process a part of one processor: version 2, or the older one.
//!
//! INVARIANT: the process is back where it was, and the group is gone, when it is dropped.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Where version 2 is mounted, or the hierarchies of version 1 are.
const ROOT: &str = "/sys/fs/cgroup";
/// Microseconds of which a part is given.
const PERIOD_US: u32 = 100_000;

/// A control group.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    is_version_2: bool,
    /// Who is in it, and where it was before.
    member: Mutex<Option<(u32, PathBuf)>>,
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

impl Group {
    /// A new one with nobody in it.
    ///
    /// # Errors
    /// If this machine has none, or we may not.
    pub fn new(name: &str) -> Result<Group, String> {
        // What version 2 hands on to its groups; none of our business to change.
        let controllers = std::fs::read_to_string(format!("{ROOT}/cgroup.subtree_control"));
        let is_version_2 = controllers.is_ok();
        let root = match &controllers {
            Ok(controllers) if controllers.split_whitespace().any(|word| word == "cpu") => {
                PathBuf::from(ROOT)
            }
            Ok(_) => return Err("the root group does not hand 'cpu' on".to_owned()),
            Err(_) => PathBuf::from(format!("{ROOT}/cpu")),
        };
        let path = root.join(format!("daybook-chaos-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let group = Group { path, is_version_2, member: Mutex::default() };
        group.set(100)?;
        Ok(group)
    }

    fn set(&self, percent: u32) -> Result<(), String> {
        let quota_us = PERIOD_US / 100 * percent;
        match self.is_version_2 {
            true => write(&self.path.join("cpu.max"), &format!("{quota_us} {PERIOD_US}")),
            false => write(&self.path.join("cpu.cfs_quota_us"), &quota_us.to_string()),
        }
    }

    /// Puts a process in, and gives it `percent` of one processor.
    ///
    /// # Errors
    /// The kernel's words.
    pub fn limit(&self, percent: u32, process: u32) -> Result<(), String> {
        self.set(percent)?;
        let was_in = self.place_of(process)?;
        write(&self.path.join("cgroup.procs"), &process.to_string())?;
        *self.member.lock().expect("no panic") = Some((process, was_in));
        Ok(())
    }

    /// The group a process is in.
    fn place_of(&self, process: u32) -> Result<PathBuf, String> {
        let places = std::fs::read_to_string(format!("/proc/{process}/cgroup"));
        let places = places.map_err(|error| error.to_string())?;
        // "5:cpu:/path", or "0::/path" of version 2.
        let place = places.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            let is_it = match self.is_version_2 {
                true => controllers.is_empty(),
                false => controllers.split(',').any(|name| name == "cpu"),
            };
            is_it.then(|| path.trim_start_matches('/').to_owned())
        });
        let root = Path::new(ROOT).join(if self.is_version_2 { "" } else { "cpu" });
        place.map(|place| root.join(place)).ok_or_else(|| "it is in no group".to_owned())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let member = self.member.lock().map(|mut member| member.take());
        if let Ok(Some((process, place))) = member {
            // It may have ended.
            let _ = write(&place.join("cgroup.procs"), &process.to_string());
        }
        let _ = std::fs::remove_dir(&self.path);
    }
}
