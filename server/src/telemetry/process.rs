//! What the machine says of this process, under Prometheus' usual names.
//!
//! Read from `/proc/self`; where there is none (other systems than Linux) nothing is reported.

use prometheus::proto::MetricFamily;
use rustix::process::{Resource, getrlimit};

use super::families;

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Seconds of processor time used, in user and system mode.
    pub cpu_seconds: f64,
    /// Bytes of memory that are resident.
    pub resident_bytes: u64,
    /// Bytes of address space.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open files and sockets.
    pub open_files: u64,
    /// As many may be open; none if there is no limit.
    pub open_files_max: Option<u64>,
}

/// Reads the numbers of this process.
#[must_use]
pub fn read() -> Option<Process> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let ticks = rustix::param::clock_ticks_per_second();
    let mut process = parse(&stat, ticks, rustix::param::page_size() as u64)?;
    process.open_files = open_files();
    process.open_files_max = getrlimit(Resource::Nofile).current;
    Some(process)
}

/// The numbers of this process, as Prometheus names them.
#[must_use]
pub(super) fn families() -> Vec<MetricFamily> {
    let Some(process) = read() else { return Vec::new() };
    let Process { resident_bytes, virtual_bytes, threads, open_files, .. } = process;
    let mut families = vec![
        families::float_counter(
            "process_cpu_seconds_total",
            "Processor time used.",
            process.cpu_seconds,
        ),
        families::gauge("process_resident_memory_bytes", "Resident memory.", resident_bytes),
        families::gauge("process_virtual_memory_bytes", "Address space.", virtual_bytes),
        families::gauge("process_threads", "Threads.", threads),
        families::gauge("process_open_fds", "Open files and sockets.", open_files),
    ];
    if let Some(most) = process.open_files_max {
        let help = "Files and sockets that may be open.";
        families.push(families::gauge("process_max_fds", help, most));
    }
    families
}

/// Reads a line of `/proc/<id>/stat`. The second field is the command in parentheses and may hold
/// anything, so fields are counted from the last `)`: the first after it is number 3.
fn parse(stat: &str, ticks_per_second: u64, page_size: u64) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    #[expect(clippy::cast_precision_loss, reason = "ticks of a century fit into 52 bits")]
    let cpu_seconds = (field(14)? + field(15)?) as f64 / ticks_per_second.max(1) as f64;
    Some(Process {
        cpu_seconds,
        threads: field(20)?,
        virtual_bytes: field(23)?,
        resident_bytes: field(24)?.saturating_mul(page_size),
        ..Process::default()
    })
}

#[expect(clippy::disallowed_methods, reason = "/proc is not a disk, and this is the rim")]
fn open_files() -> u64 {
    // One of the entries is the directory being read.
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_the_last_parenthesis() {
        let stat = "17 (day) book) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0 12 0 99 8192 3 0";
        let process = parse(stat, 100, 4096).expect("a line of /proc");
        assert_eq!(process.cpu_seconds, 4.0);
        assert_eq!(process.threads, 12);
        assert_eq!((process.virtual_bytes, process.resident_bytes), (8192, 3 * 4096));
        assert_eq!(parse("", 100, 4096), None);
    }
}
