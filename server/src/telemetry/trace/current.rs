//! What a task works for: a place in a trace.
//!
//! INVARIANT: set for a future and while it is polled, never for a thread. A task that is spawned
//! has none unless it was handed one.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use daybook_model::TraceContext;
use daybook_model::trace::{TRACEPARENT, TRACESTATE};
use futures_util::FutureExt as _;
use futures_util::future::Either;
use http::HeaderMap;
use opentelemetry::trace::Event;
use parking_lot::Mutex;

use super::Tracer;
use super::visit::{end_part, end_untold};

/// Spans of one task for one request. A transfer that is tried again for days must not fill the
/// store of traces; what is beyond is left out.
pub const SPANS_MAX: u32 = 256;
/// Events of one request's first span. A read of a million events has no more.
pub const EVENTS_MAX: usize = 64;

tokio::task_local! {
    static CURRENT: Current;
}

/// A place in a trace, and who makes its spans. A clone is another handle to the same: it is made
/// whenever a task goes on, and counts where no other request does.
#[derive(Clone, Debug)]
pub struct Current(Arc<Standing>);

/// What a [`Current`] refers to.
#[derive(Debug)]
pub struct Standing {
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
    /// Whether nothing is told after all: a stranger asked for it.
    is_doubted: AtomicBool,
    /// What happened to the span that the task began under.
    pub events: Mutex<Vec<Event>>,
}

impl Recording {
    pub fn new(tracer: Tracer, context: TraceContext, asked: bool) -> Arc<Recording> {
        let open = AtomicU64::new(u64::from_be_bytes(context.span_id()));
        let left = AtomicU32::new(SPANS_MAX);
        let (is_doubted, events) = (AtomicBool::new(false), Mutex::default());
        Arc::new(Recording { tracer, context, open, left, asked, is_doubted, events })
    }

    /// Takes one of the spans that it may have; whether there was one.
    pub fn take_one(&self) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

impl Deref for Current {
    type Target = Standing;

    fn deref(&self) -> &Standing {
        &self.0
    }
}

impl Current {
    pub(super) fn new(tracer: Tracer, context: TraceContext, asked: bool) -> Current {
        let recording =
            context.is_sampled().then(|| Recording::new(tracer.clone(), context.clone(), asked));
        Current(Arc::new(Standing { tracer, context, recording }))
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
        CURRENT.try_with(|current| current.recorded().cloned()).ok().flatten()
    }

    /// Its recording, if there is one that counts.
    pub(super) fn recorded(&self) -> Option<&Arc<Recording>> {
        let is_doubted = |it: &Arc<Recording>| it.is_doubted.load(Ordering::Relaxed);
        self.recording.as_ref().filter(|recording| !is_doubted(recording))
    }

    /// The same place for another task, which opens and ends spans of its own.
    fn fork(&self) -> Current {
        let recording = self.recorded().map(|recording| {
            let fork = Recording::new(self.tracer.clone(), self.context.clone(), recording.asked);
            fork.open.store(recording.open.load(Ordering::Relaxed), Ordering::Relaxed);
            fork
        });
        let (tracer, context) = (self.tracer.clone(), self.context.clone());
        Current(Arc::new(Standing { tracer, context, recording }))
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

/// Who makes the request that this task works for proves nothing: that it carried a trace which is
/// recorded does not count. The share decides, as if it had carried none; by chance of our own,
/// because the trace's number is the stranger's choice.
pub fn doubt() {
    let _ = CURRENT.try_with(|current| {
        let asked = current.recording.as_ref().filter(|recording| recording.asked);
        if let Some(recording) = asked
            && !current.tracer.begin().is_sampled()
        {
            recording.is_doubted.store(true, Ordering::Relaxed);
        }
    });
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

/// Has a call to another service say which trace it belongs to, if that is known.
pub fn carry_on(headers: &mut HeaderMap) {
    let place = CURRENT.try_with(|current| match &current.recording {
        Some(recording) => {
            recording.context.at(recording.open.load(Ordering::Relaxed).to_be_bytes())
        }
        None => current.context.clone(),
    });
    let Ok(place) = place else { return };
    // Both are printable ASCII: a place that is not is never made.
    if let Ok(parent) = place.to_string().parse() {
        headers.insert(TRACEPARENT, parent);
    }
    if let Some(state) = place.tracestate().and_then(|state| state.parse().ok()) {
        headers.insert(TRACESTATE, state);
    }
}

/// How one of many things that a call asks for takes part in traces.
enum Part {
    /// As its call does.
    OfCall,
    /// For itself, in a trace of its own.
    Own(Current),
    /// Not at all, unless it turns out to have failed, or to be slow. That is most of them, so it
    /// costs no more than a look at the clock.
    Untold(Duration),
}

impl Part {
    fn of(call: &Current) -> Part {
        let recorded = call.recorded();
        if recorded.is_some_and(|recording| recording.asked) {
            return Part::OfCall;
        }
        let (tracer, context) = (&call.tracer, call.tracer.begin());
        if context.is_sampled() || recorded.is_some() {
            return Part::Own(Current::new(tracer.clone(), context, false));
        }
        Part::Untold(tracer.now())
    }
}

/// Does one of many things that a call without an end asks for, as if it were a request of its own:
/// its own share decides, unless the call itself carried a trace. `why` says what was wrong with
/// the outcome, if that was our fault.
pub fn part<T>(
    name: &'static str,
    work: impl Future<Output = T>,
    why: impl FnOnce(&T) -> Option<String>,
) -> impl Future<Output = T> {
    // Not an `async fn`: that would have room for `work` three times, and there are as many of
    // these as a call has appends in flight.
    match CURRENT.try_with(Part::of).unwrap_or(Part::OfCall) {
        Part::OfCall => work.left_future().left_future(),
        Part::Own(current) => {
            let (began, end) = (current.tracer.now(), current.clone());
            let work = CURRENT.scope(current, work);
            work.inspect(move |done| end_part(&end, (name, began), why(done)))
                .right_future()
                .left_future()
        }
        Part::Untold(began) => work
            .inspect(move |done| {
                // It ends within its call, as it began.
                let _ = CURRENT.try_with(|call| end_untold(call, (name, began), why(done)));
            })
            .right_future(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use daybook_model::{SystemClock, SystemEntropy};
    use uuid::Uuid;

    use super::super::span::Open;
    use super::super::{Identity, Ratio, Settings};
    use super::*;

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    /// A tracer that sends nothing anywhere.
    fn tracer() -> Tracer {
        tracer_of(0.0)
    }

    fn tracer_of(ratio: f64) -> Tracer {
        let ratio = Ratio::new(ratio).expect("a ratio");
        let settings = Settings { targets: Vec::new(), ratio, slow: Duration::MAX };
        let identity = Identity { store: Uuid::nil(), instance: Uuid::nil() };
        let seams = (Arc::new(SystemClock::new()) as _, Arc::new(SystemEntropy) as _);
        Tracer::start(&settings, identity, seams).expect("a tracer")
    }

    fn current(parent: &str) -> Current {
        let context = TraceContext::parse(parent, Some("a=1")).expect("a place");
        Current::new(tracer(), context, true)
    }

    fn carried() -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        carry_on(&mut headers);
        let text = |name| headers.get(name).map(|v| v.to_str().expect("ASCII").to_owned());
        text(TRACEPARENT).zip(text(TRACESTATE))
    }

    #[tokio::test]
    async fn a_spawned_task_works_for_what_it_was_handed_and_opens_spans_of_its_own() {
        assert_eq!((ids(), carried()), (None, None), "nothing is known outside of a request");
        let work = async {
            let known = ids().expect("a place");
            assert_eq!(tokio::spawn(async { ids() }).await.expect("no panic"), None);
            let other = tokio::spawn(inherited(async {
                let recording = Current::recording().expect("it is recorded");
                let _open = Open::begin(recording, "a step").expect("room").around();
                ids().expect("a place")
            }));
            let other = other.await.expect("no panic");
            assert_eq!(other.0, known.0, "the same trace");
            assert_ne!(other.1, known.1, "the step's span");
            assert_eq!(ids(), Some(known), "what another task opens is not open here");
        };
        current(SAMPLED).scope(work).await;
    }

    #[test]
    fn what_is_open_is_what_goes_along_and_is_closed_again() {
        let said = Some((SAMPLED.to_owned(), "a=1".to_owned()));
        current(SAMPLED).within(|| {
            assert_eq!(carried(), said);
            let open = Open::begin(Current::recording().expect("recorded"), "a step");
            let open = open.expect("room").around();
            let (inside, _) = carried().expect("a place");
            assert_eq!(inside[..36], SAMPLED[..36]);
            assert_ne!(inside, SAMPLED);
            drop(open);
            assert_eq!(carried(), said);
        });
        current(UNSAMPLED).within(|| {
            assert_eq!(carried(), Some((UNSAMPLED.to_owned(), "a=1".to_owned())));
            assert!(Current::recording().is_none());
        });
    }

    #[test]
    fn a_stranger_does_not_decide_what_is_recorded() {
        for (ratio, records) in [(0.0, false), (1.0, true)] {
            let context = TraceContext::parse(SAMPLED, None).expect("a place");
            Current::new(tracer_of(ratio), context, true).within(|| {
                assert!(Current::recording().is_some(), "it was asked for");
                doubt();
                assert_eq!(Current::recording().is_some(), records, "a share of {ratio}");
            });
        }
        // What chance took is recorded, whoever asks.
        let context = TraceContext::parse(SAMPLED, None).expect("a place");
        Current::new(tracer(), context, false).within(|| {
            doubt();
            assert!(Current::recording().is_some());
        });
    }

    #[test]
    fn a_task_has_no_end_of_spans() {
        current(SAMPLED).within(|| {
            let recording = Current::recording().expect("recorded");
            let made =
                (0..SPANS_MAX + 10).filter(|_| Open::begin(recording.clone(), "a").is_some());
            assert_eq!(made.count(), SPANS_MAX as usize);
        });
    }
}
