//! What the store, the ledger and the views are asked to tell of their work.

use std::fmt;

use daybook_model::watch::{Found, SagaStep, Steps, Watch, Watched};
use daybook_model::{Context, Owner, Timestamp, TraceContext};
use daybook_store::Append;
use opentelemetry::KeyValue;
use opentelemetry::trace::{Event, Link, SpanKind};

use super::Tracer;
use super::current::{Current, EVENTS_MAX};
use super::span::{Open, Place, Told, link};

/// Traces of one batch that are told of it. A batch holds thousands of events; a view that catches
/// up must not fill the queue of spans.
const TRACES_PER_BATCH_MAX: usize = 32;
/// Links of one span to further events of its trace.
const LINKS_MAX: usize = 32;
/// Events older than this are history, as when a view is built anew: nobody follows their traces.
const HISTORY_NS: i64 = 5 * 60 * 1_000_000_000;
/// What metadata with a trace has somewhere. Nothing else of it is read if this is not there.
const MARK: &str = "\"traceparent\"";

impl Watch for Tracer {
    fn append(&self, append: &mut Append) -> Option<Box<dyn Watched>> {
        let recording = Current::recording()?;
        let asked = recording.asked;
        let mut open = Open::begin(recording, "append")?;
        let attributes = &mut open.told.attributes;
        attributes.push(number("daybook.append.events", append.events.len()));
        attributes.push(number("daybook.append.streams", append.streams.len()));
        if let Some(first) = append.streams.first() {
            attributes.push(KeyValue::new("daybook.stream", first.stream.as_str().to_owned()));
        }
        let context = Context { trace: Some(open.place.context.clone()), ..Context::default() };
        let streams = &append.streams;
        for (stream, event) in &mut append.events {
            let stream = streams.get(*stream as usize).map(|condition| &condition.stream);
            let owner = stream.and_then(|stream| stream.owner());
            // What clients append is theirs, byte for byte, unless they asked for a trace.
            if (asked && owner.is_none()) || owner == Some(Owner::Ledger) {
                // Metadata that is no object stays as it is.
                let _ = context.add_to(event);
            }
        }
        Some(Box::new(open))
    }

    fn step(&self, step: &SagaStep) -> Option<Box<dyn Watched>> {
        let name = match step.direction {
            "action" => format!("{} {}", step.saga, step.step),
            direction => format!("{} {} {direction}", step.saga, step.step),
        };
        let mut open = Open::begin(Current::recording()?, name)?.around();
        open.told.attributes.extend([
            KeyValue::new("daybook.saga", step.saga),
            KeyValue::new("daybook.saga.step", step.step),
            KeyValue::new("daybook.saga.direction", step.direction),
            KeyValue::new("daybook.saga.id", step.id.to_string()),
        ]);
        Some(Box::new(open))
    }

    fn page(&self, events: usize, found: Found) {
        let Some(recording) = Current::recording() else { return };
        let from = match found {
            Found::Memory => "memory",
            Found::Disk => "disk",
        };
        let mut all = recording.events.lock();
        if all.len() < EVENTS_MAX {
            let about = vec![
                number("daybook.page.events", events),
                KeyValue::new("daybook.page.from", from),
            ];
            all.push(Event::new("page", self.wall_now(), about, 0));
        }
    }

    fn batch(
        &self,
        taker: &str,
        events: &mut dyn Iterator<Item = (&[u8], Timestamp)>,
    ) -> Option<Box<dyn Watched>> {
        let oldest = self.inner.clock.now().0 - HISTORY_NS;
        let mut batch = BatchOpen {
            tracer: self.clone(),
            taker: taker.to_owned(),
            began: self.now(),
            events: 0,
            traces: Vec::new(),
            error: None,
        };
        for (metadata, time) in events {
            batch.events += 1;
            if time.0 >= oldest
                && let Some(context) = traced(metadata)
            {
                batch.add(context);
            }
        }
        (!batch.traces.is_empty()).then(|| Box::new(batch) as Box<dyn Watched>)
    }
}

/// The recorded trace that an event's metadata tells of.
fn traced(metadata: &[u8]) -> Option<TraceContext> {
    let text = std::str::from_utf8(metadata).ok()?;
    if !text.contains(MARK) {
        return None;
    }
    Context::of(metadata).trace.filter(TraceContext::is_sampled)
}

impl Watched for Open {
    fn failed(&mut self, why: &dyn fmt::Display) {
        self.told.error = Some(why.to_string());
    }

    fn stored(&mut self, steps: &Steps) {
        self.told.attributes.push(KeyValue::new(
            "daybook.append.batch",
            i64::try_from(steps.batch).unwrap_or(i64::MAX),
        ));
        for (name, from, to) in [
            ("resolve", self.told.began, steps.queued),
            ("queue and decide", steps.queued, steps.decided),
            ("wait for the batch before", steps.decided, steps.begun),
            ("write", steps.begun, steps.written),
            ("fdatasync", steps.written, steps.synced),
            ("index and publish", steps.synced, steps.published),
        ] {
            self.part(name, (from, to));
        }
    }
}

/// A batch of events that is being taken in. Told to each trace that an event of it is of.
struct BatchOpen {
    tracer: Tracer,
    taker: String,
    began: std::time::Duration,
    events: usize,
    /// The first event of each trace, and further ones.
    traces: Vec<(TraceContext, Vec<Link>)>,
    error: Option<String>,
}

impl BatchOpen {
    fn add(&mut self, context: TraceContext) {
        let known =
            |(first, _): &&mut (TraceContext, Vec<Link>)| first.trace_id() == context.trace_id();
        if let Some((_, links)) = self.traces.iter_mut().find(known) {
            if links.len() < LINKS_MAX {
                links.push(link(&context));
            }
        } else if self.traces.len() < TRACES_PER_BATCH_MAX {
            self.traces.push((context, Vec::new()));
        }
    }
}

impl Watched for BatchOpen {
    fn failed(&mut self, why: &dyn fmt::Display) {
        self.error = Some(why.to_string());
    }

    fn stored(&mut self, _: &Steps) {}
}

impl Drop for BatchOpen {
    fn drop(&mut self) {
        let times = (self.began, self.tracer.now());
        for (event, links) in std::mem::take(&mut self.traces) {
            let context = event.child(self.tracer.entropy());
            let attributes = vec![
                KeyValue::new("daybook.runner", self.taker.clone()),
                number("messaging.batch.message_count", self.events),
            ];
            let told = Told {
                kind: SpanKind::Consumer,
                attributes,
                links,
                error: self.error.clone(),
                ..Told::internal(format!("take in {}", self.taker), times)
            };
            let place = Place { context, parent: event.span_id(), is_remote: true };
            self.tracer.tell(place, told);
        }
    }
}

fn number(key: &'static str, count: usize) -> KeyValue {
    KeyValue::new(key, i64::try_from(count).unwrap_or(i64::MAX))
}
