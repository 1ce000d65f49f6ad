//! Monitoring: the node's numbers, once a period. Protocol section 13.
//!
//! ```text
//!   es-…       the store        proc-…   this process        sys-…   its machine
//!   daybook-…  what other servers of this protocol have no name for
//! ```
//!
//! Names are those under which KurrentDB shows the same thing; what does not exist here is left
//! out. Numbers for alarms are at `/metrics`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use daybook_model::Position;
use daybook_wire::frame::put_message;
use daybook_wire::proto::monitoring::{StatsReq, StatsResp};
use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use futures_util::stream::try_unfold;
use parking_lot::Mutex;

use super::call::{self, ASKED_SIZE_MAX, Messages};
use super::status;
use super::streams::shown_position;
use crate::http::event::rfc3339;
use crate::node::{Context, Phase};
use crate::telemetry::process;

/// The shortest period: what is shown is read from the machine each time.
const PERIOD_MIN: Duration = Duration::from_millis(100);
/// The longest; also what no number at all means.
const PERIOD_MAX: Duration = Duration::from_secs(60 * 60);

/// The node's numbers, read at most once in `PERIOD_MIN` however many ask, and never on a thread
/// that serves calls. A clone is another handle.
#[derive(Clone)]
pub struct Monitor {
    context: Context,
    latest: Latest<Bytes>,
}

impl Monitor {
    /// The numbers of the node that `context` belongs to.
    #[must_use]
    pub fn new(context: Context) -> Monitor {
        Monitor { context, latest: Latest::default() }
    }

    /// The answer that shows the numbers as they are now, or were a moment ago.
    async fn message(&self) -> Bytes {
        let context = self.context.clone();
        let read = async move {
            let read = tokio::task::spawn_blocking(move || message(&context)).await;
            // Nothing to show if it panicked; the next reading is another one.
            read.unwrap_or_default()
        };
        self.latest.or(self.context.clock().monotonic(), read).await
    }
}

/// What was read last, or is being read: shared by all who ask within `PERIOD_MIN`.
struct Latest<T: Clone>(Arc<Mutex<Option<Begun<T>>>>);

/// One reading, for all who asked for it.
type Reading<T> = Shared<BoxFuture<'static, T>>;
/// When it was begun, and it.
type Begun<T> = (Duration, Reading<T>);

impl<T: Clone> Clone for Latest<T> {
    fn clone(&self) -> Latest<T> {
        Latest(self.0.clone())
    }
}

impl<T: Clone> Default for Latest<T> {
    fn default() -> Latest<T> {
        Latest(Arc::default())
    }
}

impl<T: Clone + Send + Sync + 'static> Latest<T> {
    /// What was read a moment ago, or what `read` comes to.
    fn or(&self, now: Duration, read: impl Future<Output = T> + Send + 'static) -> Reading<T> {
        let mut latest = self.0.lock();
        match &*latest {
            Some((began, reading)) if now.saturating_sub(*began) < PERIOD_MIN => reading.clone(),
            _ => {
                let reading = read.boxed().shared();
                *latest = Some((now, reading.clone()));
                reading
            }
        }
    }
}

/// Answers Stats.
pub async fn stats(State(monitor): State<Monitor>, request: Request<Body>) -> Response<Body> {
    let deadline = call::deadline(request.headers());
    let mut messages = Messages::up_to(ASKED_SIZE_MAX, request);
    let asked = call::within(deadline, async { call::decoded::<StatsReq>(messages.only().await?) });
    let period = match asked.await {
        Err(refused) => return call::refused(&refused),
        Ok(asked) => period(asked.refresh_time_period_in_ms),
    };
    let endless = monitor.context.endless();
    let numbers = try_unfold((monitor, Duration::ZERO), move |(monitor, wait)| {
        // Held for as long as the call lasts.
        let _ = &endless;
        async move {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = monitor.context.reached(Phase::Draining) => return Err(status::stopping()),
            }
            Ok(Some((monitor.message().await, (monitor, period))))
        }
    });
    call::streamed(deadline, numbers)
}

fn period(asked_ms: u64) -> Duration {
    match asked_ms {
        0 => PERIOD_MAX,
        asked => Duration::from_millis(asked).clamp(PERIOD_MIN, PERIOD_MAX),
    }
}

fn message(context: &Context) -> Bytes {
    let mut bytes = BytesMut::new();
    put_message(&StatsResp { stats: numbers(context) }, &mut bytes);
    bytes.freeze()
}

fn numbers(context: &Context) -> BTreeMap<String, String> {
    let store = context.works();
    let stats = store.stats();
    let last = Position(stats.committed.saturating_sub(1));
    let mut numbers = Numbers::default();
    numbers.put("es-checksum", shown_position(store, last));
    numbers.put("es-queue-StorageWriter-length", stats.queue_depth);
    numbers.put("es-queue-StorageWriter-totalItemsProcessed", stats.appends);
    numbers.put("sys-drive-data-availableBytes", stats.disk_free);
    numbers.put("daybook-events", stats.committed);
    numbers.put("daybook-appends", stats.appends);
    numbers.put("daybook-appends-duplicate", stats.duplicates);
    numbers.put("daybook-appends-rejected", stats.rejections);
    numbers.put("daybook-appends-overloaded", stats.overloads);
    numbers.put("daybook-batches", stats.batches);
    numbers.put("daybook-log-bytes", stats.log_bytes);
    numbers.put("daybook-index-bytes", stats.index_bytes);
    numbers.put("daybook-segments", stats.segments);
    numbers.put("daybook-subscriptions", stats.subscriptions);
    numbers.put("daybook-connections", context.metrics().connections.get());
    numbers.put("proc-id", std::process::id());
    numbers.put("proc-startTime", rfc3339(context.started()));
    if let Some(process) = process::read() {
        numbers.put("proc-mem", process.resident_bytes);
        numbers.put("proc-threadsCount", process.threads);
        numbers.put("proc-cpu-seconds", process.cpu_seconds);
        numbers.put("proc-files-open", process.open_files);
    }
    machine(&mut numbers);
    numbers.0
}

#[derive(Default)]
struct Numbers(BTreeMap<String, String>);

impl Numbers {
    fn put(&mut self, name: &str, value: impl ToString) {
        self.0.insert(name.to_owned(), value.to_string());
    }
}

/// What the machine says of itself, where it does.
fn machine(numbers: &mut Numbers) {
    if let Ok(load) = std::fs::read_to_string("/proc/loadavg") {
        for (name, value) in ["1m", "5m", "15m"].iter().zip(load.split_ascii_whitespace()) {
            numbers.put(&format!("sys-loadavg-{name}"), value);
        }
    }
    if let Ok(memory) = std::fs::read_to_string("/proc/meminfo") {
        for (field, name) in [("MemAvailable:", "sys-freeMem"), ("MemTotal:", "sys-totalMem")] {
            if let Some(bytes) = meminfo(&memory, field) {
                numbers.put(name, bytes);
            }
        }
    }
}

/// The bytes that a line of `/proc/meminfo` tells of.
fn meminfo(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_bounded() {
        for (asked, wanted) in [
            (0, PERIOD_MAX),
            (1, PERIOD_MIN),
            (2500, Duration::from_millis(2500)),
            (u64::MAX, PERIOD_MAX),
        ] {
            assert_eq!(period(asked), wanted, "{asked}");
        }
    }

    #[tokio::test]
    async fn whoever_asks_at_the_same_time_shares_a_reading() {
        let latest = Latest::default();
        let readings = Arc::new(Mutex::new(0));
        let ask = |at: Duration| {
            let readings = readings.clone();
            latest.or(at, async move {
                let mut count = readings.lock();
                *count += 1;
                *count
            })
        };
        // Asked before any of them was read.
        let (first, second) = (ask(Duration::ZERO), ask(PERIOD_MIN / 2));
        assert_eq!((second.await, first.await), (1, 1));
        assert_eq!(ask(PERIOD_MIN * 9 / 10).await, 1);
        assert_eq!(ask(PERIOD_MIN).await, 2);
        assert_eq!(*readings.lock(), 2);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let text = "MemTotal:       16384 kB\nMemAvailable:    1024 kB\n";
        assert_eq!(meminfo(text, "MemAvailable:"), Some(1024 * 1024));
        assert_eq!(meminfo(text, "MemTotal:"), Some(16384 * 1024));
        assert_eq!(meminfo("MemTotal: many", "MemTotal:"), None);
    }
}
