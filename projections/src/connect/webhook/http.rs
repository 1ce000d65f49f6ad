//! One POST, and what its answer means.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daybook_model::trace::{TRACEPARENT, TRACESTATE};
use daybook_model::{Clock, ContentType, TraceContext};
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use uuid::Uuid;

use super::IDEMPOTENCY_HEADER;
use super::settings::WebhookSettings;
use super::signature::{SIGNATURE_HEADER, sign};
use crate::connect::guard::SendError;
use crate::connect::sink::SinkStopped;

/// Bytes of an answer that are read: an answer says yes or no, and why.
pub const ANSWER_SIZE_MAX: usize = 64 * 1024;
/// Characters of an answer that are kept as the reason of a refusal.
const REASON_SIZE_MAX: usize = 200;
/// Time after which a connection that is not used is closed.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// What an answer means for a message.
pub(super) enum Answer {
    Taken,
    Refused(String),
}

/// Posts to one endpoint, over connections that it keeps.
pub(super) struct Poster {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    settings: WebhookSettings,
    clock: Arc<dyn Clock>,
}

impl Poster {
    pub(super) fn new(
        settings: &WebhookSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Poster, SinkStopped> {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(aws_lc_rs::default_provider())
            .map_err(|error| SinkStopped {
                reason: format!("there are no certificates to trust for https: {error}"),
            })?;
        let connector = connector.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(settings.concurrency as usize)
            .build(connector);
        Ok(Poster { client, settings: settings.clone(), clock })
    }

    /// Posts `body`, as a part of `trace`. It is signed anew each time, so that its age is the call's.
    pub(super) async fn post(
        &self,
        body: Bytes,
        content_type: ContentType,
        key: Uuid,
        trace: Option<&TraceContext>,
    ) -> Result<Answer, SendError> {
        let url = &self.settings.url;
        let seconds = self.clock.now().0.div_euclid(1_000_000_000);
        let signature = sign(self.settings.secret.reveal().as_bytes(), seconds, &body);
        let mut request = Request::post(url.0.clone())
            .header(header::CONTENT_TYPE, content_type.as_str())
            .header(header::USER_AGENT, concat!("daybook/", env!("CARGO_PKG_VERSION")))
            .header(SIGNATURE_HEADER, signature)
            .header(IDEMPOTENCY_HEADER, key.to_string());
        if let Some(trace) = trace {
            request = request.header(TRACEPARENT, trace.to_string());
            if let Some(state) = trace.tracestate() {
                request = request.header(TRACESTATE, state);
            }
        }
        let request =
            request.body(Full::new(body)).map_err(|error| SendError::new(error.to_string()))?;
        let answer = self.client.request(request).await.map_err(|error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            SendError::new(format!("{url} cannot be asked: {error}{cause}"))
        })?;
        let (status, retry_after) = (answer.status(), retry_after(&answer));
        // Read to its end, so that the connection can be used again.
        let body = Limited::new(answer.into_body(), ANSWER_SIZE_MAX).collect().await;
        let said = body.map(|body| said(&body.to_bytes())).unwrap_or_default();
        let reason = || format!("{url} answers {status}{said}");
        if status.is_success() {
            return Ok(Answer::Taken);
        }
        if status.is_redirection() {
            let hint = "redirects are not followed; configure the new address";
            return Ok(Answer::Refused(format!("{}; {hint}", reason())));
        }
        if may_be_taken_later(status) {
            return Err(SendError { reason: reason(), retry_after });
        }
        Ok(Answer::Refused(reason()))
    }
}

fn may_be_taken_later(status: StatusCode) -> bool {
    let others =
        [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
    !status.is_client_error() || others.contains(&status)
}

/// What a receiver asks to be waited for, if it says so in seconds.
fn retry_after(answer: &Response<Incoming>) -> Option<Duration> {
    let value: Option<&HeaderValue> = answer.headers().get(header::RETRY_AFTER);
    value?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The beginning of an answer, on one line.
fn said(body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body)
        .chars()
        .take(REASON_SIZE_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.trim().is_empty() { String::new() } else { format!(": {}", text.trim()) }
}
