//! A span as exporters take it.
//!
//! Spans are made whole when they end: of many, as the steps of an append, both ends are known
//! only then, and a request's first span may turn out to be wanted after it was not recorded. So
//! there is no provider and no sampler of the SDK here; its types are what exporters take.

use std::borrow::Cow;
use std::str::FromStr as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use daybook_model::TraceContext;
use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::Tracer;
use super::current::Recording;

/// What made the spans.
static SCOPE: LazyLock<InstrumentationScope> =
    LazyLock::new(|| InstrumentationScope::builder("daybook").with_version(crate::VERSION).build());

/// Where a span stands among others.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The span itself.
    pub context: TraceContext,
    /// What it is a part of; zeros if it is the first of its trace.
    pub parent: [u8; 8],
    /// Whether that is another process'.
    pub is_remote: bool,
}

/// What a span tells.
#[derive(Debug)]
pub(super) struct Told {
    pub name: Cow<'static, str>,
    pub kind: SpanKind,
    /// By the monotonic clock.
    pub began: Duration,
    /// By the monotonic clock.
    pub ended: Duration,
    pub attributes: Vec<KeyValue>,
    pub events: Vec<Event>,
    pub links: Vec<Link>,
    /// What went wrong, if anything did.
    pub error: Option<String>,
}

impl Told {
    /// Of something inside of this process.
    pub fn internal(
        name: impl Into<Cow<'static, str>>,
        (began, ended): (Duration, Duration),
    ) -> Told {
        Told {
            name: name.into(),
            kind: SpanKind::Internal,
            began,
            ended,
            attributes: Vec::new(),
            events: Vec::new(),
            links: Vec::new(),
            error: None,
        }
    }
}

impl Tracer {
    /// Has a span sent.
    pub(super) fn tell(&self, place: Place, told: Told) {
        let ahead = self.ahead_ns();
        let (mut events, mut links) = (SpanEvents::default(), SpanLinks::default());
        events.events = told.events;
        links.links = told.links;
        self.send(SpanData {
            span_context: span_context(&place.context, false),
            parent_span_id: SpanId::from_bytes(place.parent),
            parent_span_is_remote: place.is_remote,
            span_kind: told.kind,
            name: told.name,
            start_time: wall(told.began, ahead),
            // A clock that was read twice in one tick makes no span that ends before it began.
            end_time: wall(told.ended.max(told.began), ahead),
            attributes: told.attributes,
            dropped_attributes_count: 0,
            events,
            links,
            status: told.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: SCOPE.clone(),
        });
    }

    /// The wall clock's time of now.
    pub(super) fn wall_now(&self) -> SystemTime {
        wall(self.now(), self.ahead_ns())
    }
}

fn wall(monotonic: Duration, ahead_ns: i64) -> SystemTime {
    let since = i64::try_from(monotonic.as_nanos()).unwrap_or(i64::MAX).saturating_add(ahead_ns);
    SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(since).unwrap_or(0))
}

/// `context` as the SDK has it.
pub(super) fn span_context(context: &TraceContext, is_remote: bool) -> SpanContext {
    let state = context.tracestate().and_then(|state| TraceState::from_str(state).ok());
    SpanContext::new(
        TraceId::from_bytes(context.trace_id()),
        SpanId::from_bytes(context.span_id()),
        // What is told is recorded, also if that was decided late.
        TraceFlags::SAMPLED,
        is_remote,
        state.unwrap_or_default(),
    )
}

/// A link to `context`.
pub(super) fn link(context: &TraceContext) -> Link {
    Link::new(span_context(context, true), Vec::new(), 0)
}

/// A span that is open. Told when it is dropped.
pub(super) struct Open {
    pub recording: Arc<Recording>,
    pub place: Place,
    pub told: Told,
    /// The span to go back to, if what begins meanwhile is a part of this one.
    back: Option<u64>,
}

impl Open {
    /// Opens a span under the one that is open; none if there were too many.
    pub fn begin(recording: Arc<Recording>, name: impl Into<Cow<'static, str>>) -> Option<Open> {
        if !recording.take_one() {
            return None;
        }
        let parent = recording.open.load(Ordering::Relaxed).to_be_bytes();
        let tracer = &recording.tracer;
        let began = tracer.now();
        let context = recording.context.child(tracer.entropy());
        let place = Place { context, parent, is_remote: false };
        let told = Told::internal(name, (began, began));
        Some(Open { recording, place, told, back: None })
    }

    /// Lets what begins from now on be a part of it.
    pub fn around(mut self) -> Open {
        let own = u64::from_be_bytes(self.place.context.span_id());
        self.back = Some(self.recording.open.swap(own, Ordering::Relaxed));
        self
    }

    /// A part of it that is over already.
    pub fn part(&self, name: &'static str, times: (Duration, Duration)) {
        if !self.recording.take_one() {
            return;
        }
        let tracer = &self.recording.tracer;
        let context = self.place.context.child(tracer.entropy());
        let parent = self.place.context.span_id();
        tracer.tell(Place { context, parent, is_remote: false }, Told::internal(name, times));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(back) = self.back {
            self.recording.open.store(back, Ordering::Relaxed);
        }
        let tracer = &self.recording.tracer;
        let over = Told::internal("", (self.told.began, self.told.began));
        let mut told = std::mem::replace(&mut self.told, over);
        told.ended = tracer.now();
        tracer.tell(self.place.clone(), told);
    }
}
