//! What a task works for: a place in a trace.
//!
//! INVARIANT: set for a future and while it is polled, never for a thread. A task that is spawned
//! has none unless it was handed one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use daybook_model::TraceContext;
use futures_util::future::Either;
use opentelemetry::trace::Event;
use parking_lot::Mutex;

use super::Tracer;

/// Spans of one task for one request. A transfer that is tried again for days must not fill the
/// store of traces; what is beyond is left out.
pub const SPANS_MAX: u32 = 256;
/// Events of one request's first span. A read of a million events has no more.
pub const EVENTS_MAX: usize = 64;

tokio::task_local! {
    static CURRENT: Current;
}

/// A place in a trace, and who makes its spans.
#[derive(Clone, Debug)]
pub struct Current {
    pub(super) tracer: Tracer,
    pub(super) context: TraceContext,
    /// None if nothing is recorded.
    pub(super) recording: Option<Arc<Recording>>,
}

/// A trace as one task takes part in it.
#[derive(Debug)]
pub(super) struct Recording {
    pub tracer: Tracer,
    /// The trace, and the span that the task began under.
    pub context: TraceContext,
    /// The span that is open: what begins now is a part of it.
    pub open: AtomicU64,
    /// How many more spans it may have.
    left: AtomicU32,
    /// Whether the request itself carried the trace, and said that it is recorded.
    pub asked: bool,
    /// What happened to the span that the task began under.
    pub events: Mutex<Vec<Event>>,
}

impl Recording {
    pub fn new(tracer: Tracer, context: TraceContext, asked: bool) -> Arc<Recording> {
        let open = AtomicU64::new(u64::from_be_bytes(context.span_id()));
        let left = AtomicU32::new(SPANS_MAX);
        let events = Mutex::default();
        Arc::new(Recording { tracer, context, open, left, asked, events })
    }

    /// Takes one of the spans that it may have; whether there was one.
    pub fn take_one(&self) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

impl Current {
    pub(super) fn new(tracer: Tracer, context: TraceContext, asked: bool) -> Current {
        let recording =
            context.is_sampled().then(|| Recording::new(tracer.clone(), context.clone(), asked));
        Current { tracer, context, recording }
    }

    /// The work of `context`, which an event tells of.
    #[must_use]
    pub fn of_event(tracer: Tracer, context: TraceContext) -> Current {
        Current::new(tracer, context, false)
    }

    /// What this task works for, if that is known.
    #[must_use]
    pub fn get() -> Option<Current> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// The recording of what this task works for, if it is recorded.
    pub(super) fn recording() -> Option<Arc<Recording>> {
        CURRENT.try_with(|current| current.recording.clone()).ok().flatten()
    }

    /// The same place for another task, which opens and ends spans of its own.
    fn fork(&self) -> Current {
        let recording = self.recording.as_ref().map(|recording| {
            let fork = Recording::new(self.tracer.clone(), self.context.clone(), recording.asked);
            fork.open.store(recording.open.load(Ordering::Relaxed), Ordering::Relaxed);
            fork
        });
        Current { recording, ..self.clone() }
    }

    /// Has `work` work for it.
    pub fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }

    /// Has `work` work for it, which is over at once.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.clone(), work)
    }
}

/// `work`, for a task of its own, for what this task works for.
pub fn inherited<F: Future>(work: F) -> impl Future<Output = F::Output> {
    scoped(Current::get().map(|current| current.fork()), work)
}

/// `work`, for `current` if there is one.
pub fn scoped<F: Future>(current: Option<Current>, work: F) -> impl Future<Output = F::Output> {
    match current {
        Some(current) => Either::Left(CURRENT.scope(current, work)),
        None => Either::Right(work),
    }
}

/// The trace and the span that this task works for, for a line in the log.
#[must_use]
pub fn ids() -> Option<(u128, u64)> {
    let ids = CURRENT.try_with(|current| {
        let own = u64::from_be_bytes(current.context.span_id());
        let open = current.recording.as_ref().map(|it| it.open.load(Ordering::Relaxed));
        (u128::from_be_bytes(current.context.trace_id()), open.unwrap_or(own))
    });
    ids.ok()
}

/// The place that a call to another service is to carry on.
#[must_use]
pub fn outgoing() -> Option<TraceContext> {
    let place = CURRENT.try_with(|current| match &current.recording {
        Some(recording) => {
            let open = recording.open.load(Ordering::Relaxed).to_be_bytes();
            recording.context.at(open)
        }
        None => current.context.clone(),
    });
    place.ok()
}

/// Does one of many things that a call without an end asks for, as if it were a request of its own:
/// its own share decides, unless the call itself carried a trace. `why` says what was wrong with
/// the outcome, if that was our fault.
pub async fn part<T>(
    name: &'static str,
    work: impl Future<Output = T>,
    why: impl FnOnce(&T) -> Option<String>,
) -> T {
    let Some(around) = Current::get() else { return work.await };
    if around.recording.as_ref().is_some_and(|recording| recording.asked) {
        return work.await;
    }
    let tracer = around.tracer;
    let began: Duration = tracer.now();
    let context = tracer.begin();
    let current = Current::new(tracer.clone(), context, false);
    let done = CURRENT.scope(current.clone(), work).await;
    super::visit::end_part(&current, (name, began), why(&done));
    done
}
