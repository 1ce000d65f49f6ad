//! The least of what the machine has and what the process' control groups allow.
//!
//! ```text
//!   /proc/self/cgroup      0::/kubepods/pod7/daybook      4:memory:/docker/ab
//!   /proc/self/mountinfo   … /kubepods /sys/fs/cgroup … - cgroup2 …      root, where it is seen
//!   <seen>/pod7/daybook/memory.max, <seen>/pod7/memory.max, <seen>/memory.max
//! ```
//!
//! Version 1 has `memory.limit_in_bytes` in the hierarchy that `memory` is among the options of.
//!
//! INVARIANT: what cannot be read limits nothing: a server runs where there are no control groups.

use std::path::{Component, Path, PathBuf};

/// A limit of version 1 at or above this is none: it says so by a number near the largest.
const UNLIMITED_MIN: u64 = 1 << 62;

/// As much memory as a process may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// In bytes.
    pub bytes: u64,
    /// Who says so.
    pub by: By,
}

/// Who limits memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// It has no more.
    Machine,
    /// A control group, by this file.
    Group(PathBuf),
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            By::Machine => f.write_str("machine"),
            By::Group(file) => write!(f, "{}", file.display()),
        }
    }
}

/// What this process may take; none if nobody says.
pub(super) fn of_this_process() -> Option<Limit> {
    let info = rustix::system::sysinfo();
    // Not from /proc/meminfo, which a unit with `ProcSubset=pid` does not see.
    #[expect(clippy::useless_conversion, reason = "its width is the machine's")]
    let machine = u64::from(info.totalram).checked_mul(u64::from(info.mem_unit));
    read(Path::new("/"), machine.filter(|bytes| *bytes > 0))
}

/// The least that files below `root` say, and a machine of `machine` bytes.
fn read(root: &Path, machine: Option<u64>) -> Option<Limit> {
    let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let files = files(&text("proc/self/cgroup"), &text("proc/self/mountinfo"));
    let said = files.into_iter().filter_map(|file| {
        let inside = root.join(file.strip_prefix("/").unwrap_or(&file));
        let bytes = parse(&std::fs::read_to_string(inside).ok()?)?;
        Some(Limit { bytes, by: By::Group(file) })
    });
    let machine = machine.map(|bytes| Limit { bytes, by: By::Machine });
    // Of equal ones the first: the machine's, then the process' own group.
    machine.into_iter().chain(said).min_by_key(|limit| limit.bytes)
}

/// The bytes that such a file says, if it limits anything.
fn parse(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < UNLIMITED_MIN)
}

/// The files that may limit the memory of a process in the groups of `groups`
/// (`/proc/self/cgroup`), with `mounts` (`/proc/self/mountinfo`): its own group's first.
fn files(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for mount in mounts.lines().filter_map(Mount::parse) {
        let (of_group, name): (fn(&str) -> bool, _) = match mount.kind {
            Kind::Unified => (str::is_empty, "memory.max"),
            Kind::Memory => {
                (|list| list.split(',').any(|each| each == "memory"), "memory.limit_in_bytes")
            }
        };
        let group = groups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (list, path) = (parts.next()?, parts.next()?);
            of_group(list).then(|| Path::new(path))
        });
        let Some(group) = group else { continue };
        // Out of sight, in a namespace of its own, say: then what is seen is all that there is.
        let below = group.strip_prefix(&mount.root).unwrap_or(Path::new(""));
        let is_plain = below.components().all(|part| matches!(part, Component::Normal(_)));
        let below = if is_plain { below } else { Path::new("") };
        files.extend(below.ancestors().map(|each| mount.seen.join(each).join(name)));
    }
    files
}

/// A hierarchy of control groups, as it is mounted.
struct Mount {
    /// The group that is seen.
    root: PathBuf,
    /// Where.
    seen: PathBuf,
    kind: Kind,
}

enum Kind {
    /// Version 2.
    Unified,
    /// Version 1, of memory.
    Memory,
}

impl Mount {
    /// A line of `/proc/self/mountinfo`, if it is such a hierarchy:
    /// `32 31 0:35 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory`.
    fn parse(line: &str) -> Option<Mount> {
        let (mount, kind) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, seen) = (unescaped(mount.next()?), unescaped(mount.next()?));
        let mut kind = kind.split(' ');
        let (name, options) = (kind.next()?, kind.nth(1).unwrap_or_default());
        let kind = match name {
            "cgroup2" => Kind::Unified,
            "cgroup" if options.split(',').any(|each| each == "memory") => Kind::Memory,
            _ => return None,
        };
        Some(Mount { root: root.into(), seen: seen.into(), kind })
    }
}

/// A path of `mountinfo`, where spaces and the like are written as `\040`.
fn unescaped(text: &str) -> String {
    let known = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    known.iter().fold(text.to_owned(), |text, (code, is)| text.replace(code, is))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw";
    const OLD: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        33 31 0:35 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory";

    #[test]
    fn the_files_that_limit_are_found_from_the_group_to_the_root() {
        let max = |below: &[&str]| -> Vec<PathBuf> {
            below.iter().map(|each| PathBuf::from(format!("/sys/fs/cgroup{each}"))).collect()
        };
        let seen_from_inside = "9 8 0:26 /kubepods/pod7 /sys/fs/cgroup ro - cgroup2 cgroup ro";
        let in_docker = "9 8 0:35 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup ro,memory";
        let spaced = r"9 8 0:26 / /run/my\040groups ro - cgroup2 cgroup ro";
        let limit = "memory.limit_in_bytes";
        for (groups, mounts, expected) in [
            ("", "", vec![]),
            ("0::/\n", UNIFIED, max(&["/memory.max"])),
            (
                "0::/system.slice/daybook.service\n",
                UNIFIED,
                max(&[
                    "/system.slice/daybook.service/memory.max",
                    "/system.slice/memory.max",
                    "/memory.max",
                ]),
            ),
            ("0::/kubepods/pod7/c1", seen_from_inside, max(&["/c1/memory.max", "/memory.max"])),
            // A namespace of its own: what is outside of it is not to be seen.
            ("0::/../other", UNIFIED, max(&["/memory.max"])),
            ("0::/elsewhere", seen_from_inside, max(&["/memory.max"])),
            (
                "5:cpu:/x\n4:memory:/process/7\n0::/",
                OLD,
                max(&[
                    &format!("/memory/process/7/{limit}"),
                    &format!("/memory/process/{limit}"),
                    &format!("/memory/{limit}"),
                ]),
            ),
            ("4:cpu,memory:/docker/ab", in_docker, max(&[&format!("/memory/{limit}")])),
            ("4:memory:/", UNIFIED, vec![]),
            ("0::/", spaced, vec![PathBuf::from("/run/my groups/memory.max")]),
            ("garbage\n:\n0:", "a - b\n - cgroup2\n1 2 3 4", vec![]),
        ] {
            assert_eq!(files(groups, mounts), expected, "{groups:?} {mounts:?}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "files of the test")]
    fn the_least_counts_and_what_cannot_be_read_does_not() {
        const GIB: u64 = 1 << 30;
        let unlimited = "9223372036854771712\n";
        let group = |bytes, file: &str| {
            let by = By::Group(PathBuf::from(format!("/sys/fs/cgroup/{file}")));
            Some(Limit { bytes, by })
        };
        let machine = |bytes| Some(Limit { bytes, by: By::Machine });
        let of_pod = "pod/memory.max";
        for (files, of_machine, expected) in [
            (vec![], None, None),
            (vec![], Some(8 * GIB), machine(8 * GIB)),
            (vec![(of_pod, "max\n")], Some(8 * GIB), machine(8 * GIB)),
            (vec![(of_pod, "1073741824\n")], Some(8 * GIB), group(GIB, of_pod)),
            (vec![(of_pod, "1073741824\n")], None, group(GIB, of_pod)),
            (vec![(of_pod, "17179869184\n")], Some(8 * GIB), machine(8 * GIB)),
            // One above it allows less.
            (
                vec![("pod/c/memory.max", "2147483648\n"), (of_pod, "1073741824\n")],
                Some(8 * GIB),
                group(GIB, of_pod),
            ),
            (vec![(of_pod, unlimited)], Some(8 * GIB), machine(8 * GIB)),
            (vec![(of_pod, "no number\n")], Some(8 * GIB), machine(8 * GIB)),
        ] {
            let root = tempfile::tempdir().expect("a directory");
            let write = |path: String, text: &str| {
                let path = root.path().join(path);
                std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
                std::fs::write(path, text).expect("a file");
            };
            write("proc/self/cgroup".to_owned(), "0::/pod/c\n");
            write("proc/self/mountinfo".to_owned(), UNIFIED);
            for (file, text) in &files {
                write(format!("sys/fs/cgroup/{file}"), text);
            }
            assert_eq!(read(root.path(), of_machine), expected, "{files:?}");
        }
    }
}
