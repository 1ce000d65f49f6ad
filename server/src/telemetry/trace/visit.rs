//! A request's first span, from the entrance to the end of its answer.

use std::time::Duration;

use daybook_model::TraceContext;
use daybook_model::trace::{TRACEPARENT, TRACESTATE};
use http::{HeaderMap, StatusCode};
use opentelemetry::KeyValue;
use opentelemetry::trace::{Link, SpanKind};

use super::Tracer;
use super::current::Current;
use super::span::{Place, Told, link};

/// gRPC statuses that are our fault, or nobody's: what an operator wants to see.
const GRPC_FAILURES: [&str; 5] =
    ["UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];

/// One request.
#[derive(Debug)]
pub struct Visit {
    current: Current,
    /// The caller's span, if it has one; else zeros.
    parent: [u8; 8],
    began: Duration,
    /// When the answer began.
    answered: Option<Duration>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// Over HTTP.
    Http {
        /// `http` or `https`.
        scheme: &'static str,
        /// The method, of a fixed set.
        method: &'static str,
        /// The pattern of the route; none if there is no such route.
        route: Option<&'a str>,
        /// None if it was not answered.
        status: Option<StatusCode>,
    },
    /// Over gRPC.
    Grpc {
        /// `package.Service/Method`; none if there is no such method.
        method: Option<&'a str>,
        /// The name of the status, and none if the client left before there was one.
        status: Option<&'static str>,
    },
}

/// As a line in the log says it.
impl std::fmt::Display for Ending<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ending::Http { method, route, status, .. } => {
                let status = status.as_ref().map_or("abandoned", StatusCode::as_str);
                write!(f, "{method} {}: {status}", route.unwrap_or("unmatched"))
            }
            Ending::Grpc { method, status } => {
                write!(f, "{}: {}", method.unwrap_or("unknown"), status.unwrap_or("CANCELLED"))
            }
        }
    }
}

impl Tracer {
    /// A request that begins. Its headers say whether it is recorded, unless its caller turns out to
    /// be [nobody who is known](super::current::doubt); if they say nothing, chance does.
    #[must_use]
    pub fn visit(&self, headers: &HeaderMap) -> Visit {
        let began = self.now();
        let (current, parent) = match carried(headers) {
            Some(around) => {
                let context = around.child(self.entropy());
                (Current::new(self.clone(), context, true), around.span_id())
            }
            None => (Current::new(self.clone(), self.begin(), false), [0; 8]),
        };
        Visit { current, parent, began, answered: None }
    }

    /// Why something is told even if it is not recorded, if there is a reason.
    fn late(&self, failed: bool, took: Option<Duration>) -> Option<&'static str> {
        let is_slow = || took.is_some_and(|took| took >= self.inner.slow);
        if failed { Some("error") } else { is_slow().then_some("slow") }
    }
}

/// The place that `headers` tell of.
fn carried(headers: &HeaderMap) -> Option<TraceContext> {
    let parent = headers.get(TRACEPARENT)?.to_str().ok()?;
    let mut states = headers.get_all(TRACESTATE).iter();
    // Several headers would have to be joined; what vendors add may be dropped instead.
    let state = states.next().filter(|_| states.next().is_none());
    TraceContext::parse(parent, state.and_then(|state| state.to_str().ok())).ok()
}

impl Visit {
    /// What the request's task works for.
    #[must_use]
    pub fn current(&self) -> Current {
        self.current.clone()
    }

    /// Does `work`, which is over at once, for the request.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        self.current.within(work)
    }

    /// The answer begins: how long a client takes to read it says nothing of us.
    pub fn answered(&mut self) {
        self.answered = Some(self.current.tracer.now());
    }

    /// The request is over. Tells of it if it is recorded, failed, or was slow.
    pub fn end(&self, ending: Ending<'_>) {
        let tracer = &self.current.tracer;
        let error = failure(&ending);
        let recording = self.current.recorded();
        let waited = self.answered.map(|answered| answered.saturating_sub(self.began));
        let late = tracer.late(error.is_some(), waited);
        if recording.is_none() && late.is_none() {
            return;
        }
        let (name, mut attributes) = described(&ending);
        attributes.extend(late.filter(|_| recording.is_none()).map(sampled));
        let told = Told {
            kind: SpanKind::Server,
            attributes,
            events: recording.map(|it| std::mem::take(&mut *it.events.lock())).unwrap_or_default(),
            error,
            ..Told::internal(name, (self.began, tracer.now()))
        };
        let context = self.current.context.clone();
        let is_remote = self.parent != [0; 8];
        tracer.tell(Place { context, parent: self.parent, is_remote }, told);
    }
}

/// Tells of one of many things that a call without an end asked for, as [`Visit::end`] does of a
/// request.
pub(super) fn end_part(current: &Current, part: (&'static str, Duration), error: Option<String>) {
    let is_recorded = current.recording.is_some();
    tell_part(&current.tracer, part, error, is_recorded, || (current.context.clone(), Vec::new()));
}

/// As [`end_part`], of one that had no place in a trace so far: it begins one, and points to its
/// call, under which lines in the log stand.
pub(super) fn end_untold(call: &Current, part: (&'static str, Duration), error: Option<String>) {
    let place = || (call.tracer.begin(), vec![link(&call.context)]);
    tell_part(&call.tracer, part, error, false, place);
}

fn tell_part(
    tracer: &Tracer,
    (name, began): (&'static str, Duration),
    error: Option<String>,
    is_recorded: bool,
    place: impl FnOnce() -> (TraceContext, Vec<Link>),
) {
    let ended = tracer.now();
    let late = tracer.late(error.is_some(), Some(ended.saturating_sub(began)));
    if !is_recorded && late.is_none() {
        return;
    }
    let attributes = late.filter(|_| !is_recorded).map(sampled).into_iter().collect();
    let (context, links) = place();
    let times = (began, ended);
    let told =
        Told { kind: SpanKind::Server, attributes, links, error, ..Told::internal(name, times) };
    tracer.tell(Place { context, parent: [0; 8], is_remote: false }, told);
}

/// Why what is not recorded is told.
fn sampled(why: &'static str) -> KeyValue {
    KeyValue::new("daybook.sampled", why)
}

/// What went wrong by our fault.
fn failure(ending: &Ending<'_>) -> Option<String> {
    match ending {
        Ending::Http { status, .. } => {
            status.filter(StatusCode::is_server_error).map(|status| status.to_string())
        }
        Ending::Grpc { status, .. } => {
            status.filter(|status| is_failure(status)).map(str::to_owned)
        }
    }
}

/// Whether a gRPC status of this name is our fault.
#[must_use]
pub fn is_failure(status: &str) -> bool {
    GRPC_FAILURES.contains(&status)
}

/// The name of the span, and what the conventions want to know of it.
fn described(ending: &Ending<'_>) -> (String, Vec<KeyValue>) {
    match *ending {
        Ending::Http { scheme, method, route, status } => {
            let route = route.unwrap_or("unmatched").to_owned();
            let mut attributes = vec![
                KeyValue::new("http.request.method", method),
                KeyValue::new("url.scheme", scheme),
                // The pattern here too: a path names streams and accounts.
                KeyValue::new("url.path", route.clone()),
                KeyValue::new("http.route", route.clone()),
            ];
            if let Some(status) = status {
                attributes
                    .push(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
                if status.is_server_error() {
                    attributes.push(KeyValue::new("error.type", status.as_str().to_owned()));
                }
            }
            (format!("{method} {route}"), attributes)
        }
        Ending::Grpc { method, status } => {
            let name = method.unwrap_or("unknown");
            let (service, method) = name.rsplit_once('/').unwrap_or(("unknown", name));
            let status = status.unwrap_or("CANCELLED");
            let mut attributes = vec![
                KeyValue::new("rpc.system", "grpc"),
                KeyValue::new("rpc.service", service.to_owned()),
                KeyValue::new("rpc.method", method.to_owned()),
                KeyValue::new("rpc.grpc.status_code", grpc_code(status)),
            ];
            if is_failure(status) {
                attributes.push(KeyValue::new("error.type", status));
            }
            (name.to_owned(), attributes)
        }
    }
}

fn grpc_code(name: &str) -> i64 {
    let names = crate::node::entrance::GRPC_STATUS;
    names.iter().position(|known| *known == name).and_then(|at| i64::try_from(at).ok()).unwrap_or(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_our_fault_is_a_failure() {
        let http = |code| Ending::Http {
            scheme: "http",
            method: "GET",
            route: None,
            status: StatusCode::from_u16(code).ok(),
        };
        for (code, fails) in [(200, false), (404, false), (429, false), (500, true), (503, true)] {
            assert_eq!(failure(&http(code)).is_some(), fails, "{code}");
        }
        for (status, fails) in [
            (Some("OK"), false),
            (Some("NOT_FOUND"), false),
            (Some("FAILED_PRECONDITION"), false),
            (Some("UNIMPLEMENTED"), false),
            (Some("INTERNAL"), true),
            (Some("DATA_LOSS"), true),
            (None, false),
        ] {
            assert_eq!(failure(&Ending::Grpc { method: None, status }).is_some(), fails);
        }
    }

    #[test]
    fn a_span_is_named_after_its_route_and_never_after_a_stream() {
        let http = Ending::Http {
            scheme: "https",
            method: "POST",
            route: Some("/v1/streams/{name}"),
            status: Some(StatusCode::CREATED),
        };
        let (name, attributes) = described(&http);
        assert_eq!(name, "POST /v1/streams/{name}");
        assert!(attributes.contains(&KeyValue::new("http.response.status_code", 201)));
        assert!(attributes.contains(&KeyValue::new("url.scheme", "https")));
        let method = Some("event_store.client.streams.Streams/Append");
        let (name, attributes) = described(&Ending::Grpc { method, status: Some("INTERNAL") });
        assert_eq!(name, "event_store.client.streams.Streams/Append");
        for (key, value) in [
            ("rpc.service", "event_store.client.streams.Streams"),
            ("rpc.method", "Append"),
            ("error.type", "INTERNAL"),
        ] {
            assert!(attributes.contains(&KeyValue::new(key, value)), "{key}: {attributes:?}");
        }
        assert!(attributes.contains(&KeyValue::new("rpc.grpc.status_code", 13)));
    }

    #[test]
    fn a_place_is_read_from_headers_and_a_broken_one_counts_as_none() {
        const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let read = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().expect("a value"));
            }
            carried(&headers).map(|it| (it.to_string(), it.tracestate().map(str::to_owned)))
        };
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[(TRACEPARENT, "00-x")]), None);
        assert_eq!(read(&[(TRACEPARENT, PARENT)]), Some((PARENT.to_owned(), None)));
        let state = [(TRACEPARENT, PARENT), (TRACESTATE, "a=1")];
        assert_eq!(read(&state), Some((PARENT.to_owned(), Some("a=1".to_owned()))));
        let two = [(TRACEPARENT, PARENT), (TRACESTATE, "a=1"), (TRACESTATE, "b=2")];
        assert_eq!(read(&two), Some((PARENT.to_owned(), None)));
    }
}
