//! Zipkin's JSON, version 2: an array of spans, posted.
//!
//! ```text
//!   {"traceId": "…", "id": "…", "parentId": "…", "kind": "SERVER", "name": "…",
//!    "timestamp": µs, "duration": µs, "localEndpoint": {"serviceName": "daybook"},
//!    "annotations": [{"timestamp": µs, "value": "…"}], "tags": {"…": "…"}}
//! ```
//!
//! What OpenTelemetry has and Zipkin has not stands where its specification says: a status in the
//! tags `otel.status_code` and `error`. Links are left out: there is no place for them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use serde::Serialize;

use super::settings::{Headers, Target};
use crate::security::wire::Dialler;

/// Bytes of an answer that are read, so that its connection can be used again.
const ANSWER_SIZE_MAX: usize = 64 * 1024;

/// A Zipkin server.
pub(super) struct Zipkin {
    client: Client<Dialler, Full<Bytes>>,
    url: http::Uri,
    headers: Headers,
    /// What each span says of who made it.
    about: Vec<(String, String)>,
}

impl Zipkin {
    pub fn new(target: &Target, resource: &Resource, dialler: Dialler) -> Zipkin {
        let client = Client::builder(TokioExecutor::new()).build(dialler);
        let about = resource
            .iter()
            .filter(|(key, _)| key.as_str() != "service.name")
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        Zipkin { client, url: target.url.clone(), headers: target.headers.clone(), about }
    }

    /// Sends spans, once.
    pub async fn send(&self, spans: &[SpanData]) -> Result<(), String> {
        let shown: Vec<Span<'_>> = spans.iter().map(|span| Span::of(span, &self.about)).collect();
        let body = serde_json::to_vec(&shown).map_err(|error| error.to_string())?;
        let mut request = Request::post(self.url.clone())
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in &self.headers.0 {
            headers.append(name, value.clone());
        }
        let answer = self.client.request(request).await.map_err(|error| whole(&error))?;
        let status = answer.status();
        let _ = Limited::new(answer.into_body(), ANSWER_SIZE_MAX).collect().await;
        if status.is_success() { Ok(()) } else { Err(format!("it answers {status}")) }
    }
}

/// An error with what is behind it.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span<'a> {
    trace_id: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    name: &'a str,
    timestamp: u64,
    duration: u64,
    local_endpoint: Endpoint,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Annotation<'a>>,
    tags: BTreeMap<&'a str, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    service_name: &'static str,
}

#[derive(Serialize)]
struct Annotation<'a> {
    timestamp: u64,
    value: &'a str,
}

impl<'a> Span<'a> {
    fn of(span: &'a SpanData, about: &'a [(String, String)]) -> Span<'a> {
        let mut tags: BTreeMap<&str, String> =
            about.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        tags.extend(span.attributes.iter().map(|it| (it.key.as_str(), it.value.to_string())));
        if let Status::Error { description } = &span.status {
            tags.insert("otel.status_code", "ERROR".to_owned());
            tags.insert("error", description.to_string());
        }
        let lasted = span.end_time.duration_since(span.start_time).unwrap_or_default();
        Span {
            trace_id: span.span_context.trace_id().to_string(),
            id: span.span_context.span_id().to_string(),
            parent_id: (span.parent_span_id != SpanId::INVALID)
                .then(|| span.parent_span_id.to_string()),
            kind: kind(&span.span_kind),
            name: &span.name,
            timestamp: since_1970(span.start_time),
            // Zero stands for unknown there.
            duration: micros(lasted).max(1),
            local_endpoint: Endpoint { service_name: "daybook" },
            annotations: span
                .events
                .iter()
                .map(|event| Annotation {
                    timestamp: since_1970(event.timestamp),
                    value: &event.name,
                })
                .collect(),
            tags,
        }
    }
}

fn kind(kind: &SpanKind) -> Option<&'static str> {
    match kind {
        SpanKind::Server => Some("SERVER"),
        SpanKind::Client => Some("CLIENT"),
        SpanKind::Producer => Some("PRODUCER"),
        SpanKind::Consumer => Some("CONSUMER"),
        SpanKind::Internal => None,
    }
}

fn since_1970(time: SystemTime) -> u64 {
    micros(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
