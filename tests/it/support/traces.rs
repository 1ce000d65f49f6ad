//! A collector of traces: takes OTLP over gRPC and HTTP, decoded by the official protos, and
//! Zipkin's JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1 as otlp;
use prost::Message as _;
use serde_json::Value;
use tokio::net::TcpListener;
use tonic::Status;

/// A span, whatever it came as.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// How it came: `grpc`, `http` or `zipkin`.
    pub by: &'static str,
    /// Its trace, in hex.
    pub trace: String,
    /// Its id, in hex.
    pub id: String,
    /// What it is a part of; empty if it is the first.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// `SERVER`, `INTERNAL`, `CONSUMER` and so on.
    pub kind: String,
    /// When it began and ended, in microseconds since 1970.
    pub times: (u64, u64),
    /// Its attributes, and who made it.
    pub attributes: BTreeMap<String, String>,
    /// The names of its events.
    pub events: Vec<String>,
    /// What went wrong.
    pub error: Option<String>,
}

/// What came in.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<(Vec<Span>, Vec<HeaderMap>)>>);

impl Kept {
    fn add(&self, spans: impl IntoIterator<Item = Span>, headers: HeaderMap) {
        let mut kept = self.0.lock().expect("no panic");
        kept.0.extend(spans);
        kept.1.push(headers);
    }
}

/// A collector that runs.
pub struct Collector {
    grpc: SocketAddr,
    http: SocketAddr,
    kept: Kept,
}

impl Collector {
    /// One at free ports.
    pub async fn start() -> Collector {
        let kept = Kept::default();
        let grpc = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let http = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let collector = Collector {
            grpc: grpc.local_addr().expect("an address"),
            http: http.local_addr().expect("an address"),
            kept: kept.clone(),
        };
        let service = TraceServiceServer::new(Service(kept.clone()));
        let incoming = tonic::transport::server::TcpIncoming::from(grpc);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(incoming));
        tokio::spawn(take_http(http, kept));
        collector
    }

    /// Where it listens: for gRPC, and for HTTP.
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.grpc, self.http)
    }

    /// Where it takes OTLP over gRPC.
    pub fn otlp_grpc(&self) -> String {
        format!("grpc://{}", self.grpc)
    }

    /// Where it takes OTLP over HTTP.
    pub fn otlp_http(&self) -> String {
        format!("http://{}", self.http)
    }

    /// Where it takes what Zipkin takes.
    pub fn zipkin(&self) -> String {
        format!("http://{}/api/v2/spans", self.http)
    }

    /// All that came, in order of arrival.
    pub fn all(&self) -> Vec<Span> {
        self.kept.0.lock().expect("no panic").0.clone()
    }

    /// What came by one of the ways.
    pub fn by(&self, way: &str) -> Vec<Span> {
        self.all().into_iter().filter(|span| span.by == way).collect()
    }

    /// The headers of each request.
    pub fn headers(&self) -> Vec<HeaderMap> {
        self.kept.0.lock().expect("no panic").1.clone()
    }
}

/// The names of spans.
pub fn names(spans: &[Span]) -> BTreeSet<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

struct Service(Kept);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        let headers = request.metadata().clone().into_headers();
        self.0.add(decoded("grpc", request.into_inner()), headers);
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn take_http(listener: TcpListener, kept: Kept) {
    while let Ok((stream, _)) = listener.accept().await {
        let kept = kept.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let kept = kept.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("a body").to_bytes();
                let kind = head.headers.get("content-type").and_then(|kind| kind.to_str().ok());
                let spans = match (head.uri.path(), kind) {
                    ("/v1/traces", Some("application/x-protobuf")) => {
                        let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
                        decoded("http", request)
                    }
                    ("/api/v2/spans", Some("application/json")) => {
                        let spans: Vec<Value> = serde_json::from_slice(&body).expect("JSON");
                        spans.iter().map(zipkin).collect()
                    }
                    other => panic!("nobody sends {other:?}"),
                };
                kept.add(spans, head.headers);
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
            }
        });
        tokio::spawn(async move {
            let io = TokioIo::new(stream);
            // Whoever hangs up has gone.
            let _ = Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
        });
    }
}

fn decoded(by: &'static str, request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut spans = Vec::new();
    for group in request.resource_spans {
        let about = group.resource.map(|resource| resource.attributes).unwrap_or_default();
        for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(of_otlp(by, &about, span));
        }
    }
    spans
}

fn of_otlp(by: &'static str, about: &[KeyValue], span: otlp::Span) -> Span {
    let kind = span.kind().as_str_name().trim_start_matches("SPAN_KIND_").to_owned();
    let status = span.status.unwrap_or_default();
    let failed = status.code() == otlp::status::StatusCode::Error;
    Span {
        by,
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
        kind,
        times: (span.start_time_unix_nano / 1000, span.end_time_unix_nano / 1000),
        attributes: about.iter().chain(&span.attributes).map(pair).collect(),
        events: span.events.into_iter().map(|event| event.name).collect(),
        error: failed.then_some(status.message),
    }
}

fn pair(attribute: &KeyValue) -> (String, String) {
    let value = match attribute.value.as_ref().and_then(|AnyValue { value }| value.as_ref()) {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    (attribute.key.clone(), value)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn zipkin(span: &Value) -> Span {
    let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| span[key].as_u64().expect("a number");
    let tags = span["tags"].as_object().expect("tags");
    let mut attributes: BTreeMap<_, _> = tags
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().expect("text").to_owned()))
        .collect();
    let service = span["localEndpoint"]["serviceName"].as_str().expect("a service").to_owned();
    attributes.insert("service.name".to_owned(), service);
    let annotations = span["annotations"].as_array().into_iter().flatten();
    let values = annotations.map(|it| it["value"].as_str().expect("text").to_owned());
    let failed = attributes.remove("otel.status_code").is_some();
    let error = attributes.remove("error").filter(|_| failed);
    Span {
        by: "zipkin",
        trace: text("traceId"),
        id: text("id"),
        parent: text("parentId"),
        name: text("name"),
        kind: span["kind"].as_str().unwrap_or("INTERNAL").to_owned(),
        times: (number("timestamp"), number("timestamp") + number("duration")),
        attributes,
        events: values.collect(),
        error,
    }
}
