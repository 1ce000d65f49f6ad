//! Traces: what a request brought about, span by span, for Jaeger, Tempo, Zipkin and the like.
//!
//! ```text
//!   entrance ── Tracer::visit ──> Visit: ids, and whether the trace is recorded, decided once
//!                  │                └─ scope: the request's task carries a `Current`
//!                  v                                │
//!   store, ledger, views ── Watch (work) ──────────┴─> spans, if it is recorded; else nothing
//!                                                        │ try_send
//!   Visit::end ── recorded, failed or slow ─────────────┤
//!                                                        v
//!                                queue of each exporter ──> task: batch, send, try again
//! ```
//!
//! **The decision is made once**, at the entrance: what the request's `traceparent` says, else a
//! share of the traces that begin here, by the random part of their id. Only what is recorded makes
//! spans. Of what is not, the ids and the beginning are kept, so that its first span can still be
//! sent if the request fails by our fault, or is slow: `daybook.sampled` then says `error` or
//! `slow`.
//!
//! **The ambient.** [`current`] is what a task works for. It is set where a request comes in, handed
//! on where a task is spawned ([`current::inherited`]), and taken up from an event's metadata where
//! a transfer is taken up after a restart. Only this room knows it: the crates below ask a
//! [`daybook_model::watch::Watch`].
//!
//! INVARIANTS: no exporter is ever waited for, except at a stop and then for [`FLUSH_WAIT_MAX`]; a
//! queue that is full drops spans and counts them. A span's name comes from a fixed set of ours. No
//! event's data, no header and no credential is in a span.

pub mod current;
mod export;
mod ids;
pub mod settings;
mod span;
pub mod visit;
mod work;
mod zipkin;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use daybook_model::{Clock, Entropy, TraceContext};
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use parking_lot::Mutex;
use prometheus::core::Collector;
use uuid::Uuid;

pub use export::{BATCH_SPANS_MAX, FLUSH_WAIT_MAX, QUEUE_SPANS_MAX, StartError};
pub use settings::{Ratio, Settings, Target};

use export::{Exporters, SpanCounts};
use ids::Ids;

/// How far the two clocks may drift apart before spans follow the wall clock anew. Within it, a
/// span that is a part of another never seems to begin before it.
const DRIFT_NS_MAX: i64 = 10_000_000;

/// Who the spans are of.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The store.
    pub store: Uuid,
    /// This run of the node.
    pub instance: Uuid,
}

/// Makes spans, and has them sent. A clone is another handle to the same.
#[derive(Clone)]
pub struct Tracer {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    ids: Ids,
    ratio: Ratio,
    slow: Duration,
    /// What the wall clock is ahead of the monotonic one, in nanoseconds.
    ahead_ns: AtomicI64,
    exporters: Mutex<Exporters>,
    outlets: Vec<export::Outlet>,
    counts: SpanCounts,
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer").field("ratio", &self.inner.ratio).finish_non_exhaustive()
    }
}

impl Tracer {
    /// Begins to make spans as `settings` say. Must be called within the runtime. An exporter that
    /// is not there is no error: it is tried again.
    ///
    /// # Errors
    /// [`StartError`]: an exporter can never work as it was given.
    pub fn start(
        settings: &Settings,
        identity: Identity,
        (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>),
    ) -> Result<Tracer, StartError> {
        let resource = resource(identity);
        let counts = SpanCounts::new();
        let (exporters, outlets) = export::start(&settings.targets, &resource, &counts)?;
        let ahead_ns = AtomicI64::new(ahead(clock.as_ref()));
        let inner = Inner {
            clock,
            ids: Ids::new(entropy.as_ref()),
            ratio: settings.ratio,
            slow: settings.slow,
            ahead_ns,
            exporters: Mutex::new(exporters),
            outlets,
            counts,
        };
        Ok(Tracer { inner: Arc::new(inner) })
    }

    /// What became of spans, for metrics.
    #[must_use]
    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        self.inner.counts.collectors()
    }

    /// Sends what waits, as far as [`FLUSH_WAIT_MAX`] allows, and ends.
    pub async fn stop(&self) {
        let exporters = std::mem::take(&mut *self.inner.exporters.lock());
        exporters.stop().await;
    }

    fn now(&self) -> Duration {
        self.inner.clock.monotonic()
    }

    fn entropy(&self) -> &dyn Entropy {
        &self.inner.ids
    }

    /// A new trace, of which the share decides whether it is recorded.
    fn begin(&self) -> TraceContext {
        let context = TraceContext::begin(self.entropy());
        if self.inner.ratio.takes(&context.trace_id()) { context } else { context.unsampled() }
    }

    /// Hands a span over to be sent, to all who want it.
    fn send(&self, span: SpanData) {
        let Some((last, others)) = self.inner.outlets.split_last() else { return };
        for outlet in others {
            outlet.offer(span.clone());
        }
        last.offer(span);
    }

    /// What to add to a monotonic time for the wall clock's, in nanoseconds.
    fn ahead_ns(&self) -> i64 {
        let (now, known) =
            (ahead(self.inner.clock.as_ref()), self.inner.ahead_ns.load(Ordering::Relaxed));
        if now.abs_diff(known) <= DRIFT_NS_MAX.unsigned_abs() {
            return known;
        }
        self.inner.ahead_ns.store(now, Ordering::Relaxed);
        now
    }
}

fn ahead(clock: &dyn Clock) -> i64 {
    let monotonic = i64::try_from(clock.monotonic().as_nanos()).unwrap_or(i64::MAX);
    clock.now().0.saturating_sub(monotonic)
}

fn resource(identity: Identity) -> Resource {
    Resource::builder_empty()
        .with_service_name("daybook")
        .with_attributes([
            KeyValue::new("service.version", crate::VERSION),
            KeyValue::new("service.instance.id", identity.instance.to_string()),
            KeyValue::new("daybook.store.id", identity.store.to_string()),
        ])
        .build()
}
