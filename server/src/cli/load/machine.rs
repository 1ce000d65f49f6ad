//! The machine that carries the load: what it is, what this process used of it, how many
//! connections it may open. What the system does not tell is left out.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::report::Machine;
use crate::cli::bench::process;

/// Files that are open beside the connections: a terminal, a runtime's own, a report.
const FILES_RESERVE: u64 = 64;

/// Microseconds of processor time this process has used.
///
/// # Errors
/// If the system does not tell.
pub fn cpu_us() -> anyhow::Result<u64> {
    process::cpu_us("self")
}

/// Raises the number of files this process may have open, as far as it may, to `connections` and
/// some. A server started here raises its own.
pub fn make_room_for_connections(connections: u64) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = connections + FILES_RESERVE;
    let allowed = limit.maximum.map_or(wanted, |most| most.min(wanted));
    if limit.current.is_some_and(|now| now < allowed) {
        let raised = Rlimit { current: Some(allowed), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the limit on open files");
        }
    }
}

/// What the system says of the machine.
#[must_use]
pub fn describe() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let kib = field(&read("/proc/meminfo"), "MemTotal")
        .and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok());
    let kernel = ["ostype", "osrelease"].map(|name| read(&format!("/proc/sys/kernel/{name}")));
    Machine {
        processors: std::thread::available_parallelism().map_or(0, usize::from),
        model: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
        memory_bytes: kib.unwrap_or_default() * 1024,
        system: kernel.map(|part| part.trim().to_owned()).join(" "),
    }
}

/// The value of the first line `name: value`.
fn field(text: &str, name: &str) -> Option<String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim());
    values.next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_field_of_a_name_counts() {
        let text = "a: 1\nmodel name\t: X: 2 GHz\nmodel name : Y\n";
        assert_eq!(field(text, "model name").as_deref(), Some("X: 2 GHz"));
        assert_eq!(field(text, "b"), None);
    }
}
