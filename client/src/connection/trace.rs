//! The span of each call, for applications that record theirs with `tracing`.
//!
//! A span at level DEBUG, `daybook_client::call`, from the call to the beginning of its answer, with
//! the fields that OpenTelemetry's conventions name. With the feature `opentelemetry`, where a
//! `tracing-opentelemetry` layer records it, it goes with the call as its `traceparent`, so that the
//! server's span is a part of it; unless the call has one already, which [`crate::Within`] gives.

use http::HeaderMap;
use tonic::body::Body;
use tracing::Span;
use tracing::field::Empty;

use crate::settings::NodeAddress;

/// The span of `request`, which carries it from now on.
pub(super) fn begin(request: &mut http::Request<Body>) -> Span {
    let path = request.uri().path().trim_start_matches('/');
    let (service, method) = path.rsplit_once('/').unwrap_or(("", path));
    let span = tracing::debug_span!(
        target: "daybook_client::call",
        "call",
        otel.name = path,
        otel.kind = "client",
        otel.status_code = Empty,
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = Empty,
        server.address = Empty,
        server.port = Empty,
    );
    #[cfg(feature = "opentelemetry")]
    carry(&span, request.headers_mut());
    span
}

/// The call goes to `node`.
pub(super) fn sent_to(span: &Span, node: &NodeAddress) {
    span.record("server.address", node.host.as_str());
    span.record("server.port", i64::from(node.port));
}

/// The answer begins with `headers`; those of a call that failed say so.
pub(super) fn answered(span: &Span, headers: &HeaderMap) {
    let status = headers.get("grpc-status").and_then(|status| status.to_str().ok());
    let Some(status) = status.and_then(|status| status.parse::<i64>().ok()) else { return };
    span.record("rpc.grpc.status_code", status);
    if status != 0 {
        span.record("otel.status_code", "ERROR");
    }
}

/// There is no answer.
pub(super) fn failed(span: &Span) {
    span.record("otel.status_code", "ERROR");
}

/// Has a call carry its span, if that is recorded and the call carries none.
#[cfg(feature = "opentelemetry")]
fn carry(span: &Span, headers: &mut HeaderMap) {
    use daybook_model::trace::TRACEPARENT;
    use http::HeaderValue;
    use opentelemetry::trace::TraceContextExt as _;
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    if span.is_disabled() || headers.contains_key(TRACEPARENT) {
        return;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    if !context.is_valid() {
        return;
    }
    let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags());
    if let Ok(parent) = HeaderValue::try_from(format!("00-{trace}-{span}-{:02x}", flags.to_u8())) {
        headers.insert(TRACEPARENT, parent);
    }
}
