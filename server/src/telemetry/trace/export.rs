//! The way out: a queue and a task for each exporter, so that none waits for another.
//!
//! ```text
//!   Outlet::offer ─ try_send ─> queue ─> task: gather ─> send ── failed ─> pause, again
//!        └─ full: dropped, counted                        └─ given up: counted
//! ```
//!
//! INVARIANT: whoever offers a span never waits. A task that is told to stop sends what it has once
//! more, and is over after [`FLUSH_WAIT_MAX`] in any case.

use std::sync::Arc;
use std::time::Duration;

use daybook_client::Tls;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use prometheus::core::Collector;
use prometheus::{IntCounterVec, IntGaugeVec, Opts};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::metadata::MetadataMap;
use tonic::transport::Endpoint;

use super::settings::{Protocol, Target};
use super::zipkin::Zipkin;
use crate::security::wire::{Dialler, HTTP_1, HTTP_2, Secure};

/// Spans that may wait for one exporter: at about a kilobyte each, 8 MiB. More are dropped.
pub const QUEUE_SPANS_MAX: usize = 8192;
/// Spans that are sent at once.
pub const BATCH_SPANS_MAX: usize = 512;
/// How long a batch that is not full waits for more.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// How long one attempt to send may take.
const SEND_WAIT_MAX: Duration = Duration::from_secs(10);
/// Attempts to send one batch. With their pauses 15 seconds: a collector may restart meanwhile.
const ATTEMPTS_MAX: u32 = 5;
/// The pause after the first attempt; doubled after each further one.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
/// How long a stop waits for all exporters together.
pub const FLUSH_WAIT_MAX: Duration = Duration::from_secs(2);

/// Why exporters could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot send traces to {url}: {reason}")]
pub struct StartError {
    /// Where to.
    pub url: http::Uri,
    /// Why.
    pub reason: String,
}

/// What became of spans.
pub(super) struct SpanCounts {
    spans: IntCounterVec,
    waiting: IntGaugeVec,
}

impl SpanCounts {
    pub fn new() -> SpanCounts {
        let spans = Opts::new(
            "daybook_trace_spans_total",
            "Spans by exporter: sent, failed after several attempts, or dropped by a full queue.",
        );
        let waiting = Opts::new("daybook_trace_queue_depth", "Spans that wait for an exporter.");
        let ours = "names and labels are ours and valid";
        SpanCounts {
            spans: IntCounterVec::new(spans, &["exporter", "outcome"]).expect(ours),
            waiting: IntGaugeVec::new(waiting, &["exporter"]).expect(ours),
        }
    }

    pub fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![Box::new(self.spans.clone()), Box::new(self.waiting.clone())]
    }
}

/// Counts for one exporter.
#[derive(Clone)]
struct Counts {
    sent: prometheus::IntCounter,
    failed: prometheus::IntCounter,
    dropped: prometheus::IntCounter,
    waiting: prometheus::IntGauge,
}

impl Counts {
    fn of(all: &SpanCounts, exporter: &str) -> Counts {
        let spans = |outcome| all.spans.with_label_values(&[exporter, outcome]);
        Counts {
            sent: spans("sent"),
            failed: spans("failed"),
            dropped: spans("dropped"),
            waiting: all.waiting.with_label_values(&[exporter]),
        }
    }
}

/// Where spans are put for one exporter.
pub(super) struct Outlet {
    queue: mpsc::Sender<SpanData>,
    counts: Counts,
}

impl Outlet {
    /// Puts a span into the queue, or drops it if that is full.
    pub fn offer(&self, span: SpanData) {
        // Before it is there for the task, which takes it off again.
        self.counts.waiting.inc();
        if self.queue.try_send(span).is_err() {
            self.counts.waiting.dec();
            self.counts.dropped.inc();
        }
    }
}

/// The tasks that send.
#[derive(Default)]
pub(super) struct Exporters {
    stop: Option<watch::Sender<bool>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Exporters {
    /// Has each send what it has, and waits for that, but not for long.
    pub async fn stop(self) {
        let Some(stop) = self.stop else { return };
        stop.send_replace(true);
        let aborts: Vec<_> = self.tasks.iter().map(JoinHandle::abort_handle).collect();
        let all = futures_util::future::join_all(self.tasks);
        if tokio::time::timeout(FLUSH_WAIT_MAX, all).await.is_err() {
            tracing::warn!("an exporter of traces took too long; the last spans are lost");
            aborts.iter().for_each(tokio::task::AbortHandle::abort);
        }
    }
}

/// Starts a task for each target.
pub(super) fn start(
    targets: &[Target],
    resource: &Resource,
    counts: &SpanCounts,
) -> Result<(Exporters, Vec<Outlet>), StartError> {
    let (stop, stopping) = watch::channel(false);
    let mut exporters = Exporters { stop: Some(stop), tasks: Vec::new() };
    let mut outlets = Vec::new();
    for target in targets {
        let wire = Wire::open(target, resource)
            .map_err(|reason| StartError { url: target.url.clone(), reason })?;
        let (queue, waiting) = mpsc::channel(QUEUE_SPANS_MAX);
        let counts = Counts::of(counts, target.protocol.as_str());
        outlets.push(Outlet { queue, counts: counts.clone() });
        let url = Arc::from(target.url.to_string());
        let sending = Sending { wire, waiting, counts, stopping: stopping.clone(), url };
        exporters.tasks.push(tokio::spawn(sending.run()));
    }
    Ok((exporters, outlets))
}

/// How spans go to one target.
enum Wire {
    Otlp(Box<opentelemetry_otlp::SpanExporter>),
    Zipkin(Box<Zipkin>),
}

impl Wire {
    fn open(target: &Target, resource: &Resource) -> Result<Wire, String> {
        let (url, headers) = (target.url.to_string(), &target.headers.0);
        let otlp = opentelemetry_otlp::SpanExporter::builder();
        let built = match target.protocol {
            Protocol::Zipkin => {
                let dialler = dialler(target, HTTP_1)?;
                return Ok(Wire::Zipkin(Box::new(Zipkin::new(target, resource, dialler))));
            }
            Protocol::OtlpGrpc => {
                let headers = headers.iter().cloned().collect();
                let endpoint = Endpoint::from_shared(url).map_err(|error| error.to_string())?;
                let channel = endpoint.connect_with_connector_lazy(dialler(target, HTTP_2)?);
                otlp.with_tonic()
                    .with_channel(channel)
                    .with_timeout(SEND_WAIT_MAX)
                    .with_metadata(MetadataMap::from_headers(headers))
                    .build()
            }
            Protocol::OtlpHttp => {
                let pairs = headers.iter().map(|(name, value)| {
                    (name.to_string(), value.to_str().unwrap_or_default().to_owned())
                });
                let dialler = dialler(target, HTTP_1)?;
                otlp.with_http()
                    .with_http_client(HyperClient::new(dialler, SEND_WAIT_MAX, None))
                    .with_endpoint(url)
                    .with_timeout(SEND_WAIT_MAX)
                    .with_headers(pairs.collect())
                    .build()
            }
        };
        let mut exporter = built.map_err(|error| error.to_string())?;
        exporter.set_resource(resource);
        Ok(Wire::Otlp(Box::new(exporter)))
    }

    async fn send(&self, spans: Vec<SpanData>) -> Result<(), String> {
        match self {
            Wire::Otlp(exporter) => exporter.export(spans).await.map_err(|e| e.to_string()),
            Wire::Zipkin(zipkin) => zipkin.send(&spans).await,
        }
    }
}

/// What makes connections to a target, in which `protocol` is spoken.
fn dialler(target: &Target, protocol: &[u8]) -> Result<Dialler, String> {
    let url = &target.url;
    let host = url.host().unwrap_or_default();
    let port = url.port_u16().unwrap_or(if target.is_secure() { 443 } else { 80 });
    let tls = Tls { ca_file: target.authorities.clone(), ..Tls::default() };
    let secure = target.is_secure().then(|| Secure::new(&tls, host, protocol)).transpose();
    Ok(Dialler::new(host, port, secure.map_err(|error| error.to_string())?))
}

/// The task of one exporter.
struct Sending {
    wire: Wire,
    waiting: mpsc::Receiver<SpanData>,
    counts: Counts,
    stopping: watch::Receiver<bool>,
    url: Arc<str>,
}

impl Sending {
    async fn run(mut self) {
        let mut troubled = false;
        while let Some(batch) = self.gather().await {
            let count = batch.len();
            let sent = self.send(batch).await;
            let outcome = if sent.is_ok() { &self.counts.sent } else { &self.counts.failed };
            outcome.inc_by(count as u64);
            // A line when it begins, and one when it is over: not one a batch.
            match (sent, troubled) {
                (Err(reason), false) => {
                    let url = &self.url;
                    tracing::warn!(%url, reason, "traces cannot be sent; nothing else is held up");
                    troubled = true;
                }
                (Ok(()), true) => {
                    tracing::info!(url = %self.url, "traces are sent again");
                    troubled = false;
                }
                _ => {}
            }
        }
    }

    /// The next batch: full, or as old as it may be; none when it is over.
    async fn gather(&mut self) -> Option<Vec<SpanData>> {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            _ = self.waiting.recv_many(&mut batch, BATCH_SPANS_MAX) => {}
            () = stopped(&mut self.stopping) => self.take_what_is_there(&mut batch),
        }
        let wait = tokio::time::sleep(BATCH_WAIT);
        tokio::pin!(wait);
        while !batch.is_empty() && batch.len() < BATCH_SPANS_MAX {
            let room = BATCH_SPANS_MAX - batch.len();
            tokio::select! {
                biased;
                () = stopped(&mut self.stopping) => {
                    self.take_what_is_there(&mut batch);
                    break;
                }
                more = self.waiting.recv_many(&mut batch, room) => if more == 0 { break },
                () = &mut wait => break,
            }
        }
        self.counts.waiting.sub(i64::try_from(batch.len()).unwrap_or(i64::MAX));
        (!batch.is_empty()).then_some(batch)
    }

    fn take_what_is_there(&mut self, batch: &mut Vec<SpanData>) {
        while batch.len() < BATCH_SPANS_MAX
            && let Ok(span) = self.waiting.try_recv()
        {
            batch.push(span);
        }
    }

    /// Sends a batch, again and again for a while. Once it is stopping, one attempt must do.
    async fn send(&mut self, batch: Vec<SpanData>) -> Result<(), String> {
        let mut pause = PAUSE_FIRST;
        for attempt in 1.. {
            let sending = tokio::time::timeout(SEND_WAIT_MAX, self.wire.send(batch.clone()));
            let Err(reason) = sending.await.unwrap_or_else(|_| Err("no answer".to_owned())) else {
                return Ok(());
            };
            if attempt >= ATTEMPTS_MAX || *self.stopping.borrow() {
                return Err(reason);
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped(&mut self.stopping) => {}
            }
            pause *= 2;
        }
        Ok(())
    }
}

/// Resolves when it is to stop.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // A sender that is gone is a stop too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
