//! Applications that record their spans with `tracing-opentelemetry`: the client's calls are spans
//! among them, and the server's are parts of those.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use daybook::node::Config;
use daybook::telemetry::trace::{Ratio, Settings, Target};
use daybook_client::ExpectedRevision;
use opentelemetry::trace::{SpanKind, Status, TracerProvider as _};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tempfile::TempDir;
use tracing::Instrument as _;
use tracing::instrument::WithSubscriber as _;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;

use crate::support::events::{event, name};
use crate::support::node::Server;
use crate::support::traces::Collector;
use crate::support::until;

/// The method that appends.
const APPEND: &str = "event_store.client.streams.Streams/Append";

/// The spans that the application records.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().expect("no panic").extend(batch);
        Ok(())
    }
}

fn of_calls(spans: &[SpanData]) -> Vec<&SpanData> {
    spans.iter().filter(|span| span.name == APPEND).collect()
}

fn attribute<'a>(span: &'a SpanData, key: &str) -> Option<&'a Value> {
    let found = |of: &&KeyValue| of.key.as_str() == key;
    span.attributes.iter().find(found).map(|of| &of.value)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_a_span_of_the_application_and_the_servers_are_parts_of_it() {
    let (data, collector) = (TempDir::new().expect("a directory"), Collector::start().await);
    let traces = Settings {
        targets: vec![Target::otlp(&collector.otlp_grpc()).expect("a URL")],
        ratio: Ratio::new(0.0).expect("a ratio"),
        slow: Duration::from_secs(3600),
    };
    let config = Config { traces: Some(traces), ..Config::in_directory(data.path()) };
    let server = Server::start_with(config).await;
    let exporter = Kept::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    // Spans of connections, which libraries make at finer levels, outlive the call they began in.
    let levels = Targets::new().with_default(LevelFilter::INFO);
    let levels = levels.with_target("daybook_client::call", LevelFilter::DEBUG);
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("shop"));
    let layer = layer.with_filter(levels);
    let subscriber = tracing_subscriber::registry().with(layer);
    let client = server.client.clone();
    let stream = name("order-1");
    let port = i64::from(server.address().port());
    let shop = async {
        let append = client.append(&stream, ExpectedRevision::Any, vec![event(1)]);
        append.instrument(tracing::info_span!("checkout")).await.expect("appended");
        server.stop().await;
    };
    // `tracing` asks who is there whether they want a span when it is first made. While only one
    // subscriber is there, it asks the thread's own instead: a thread of another test, which has
    // none, would answer for all. This second one wants nothing, and so wakes no one before.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry().with(LevelFilter::OFF));
    shop.with_subscriber(subscriber).await;

    // A span ends when the last who was in it has let go of it: a task of the connection may be late.
    let recorded = || exporter.0.lock().expect("no panic").clone();
    until("the call's span ends", async || !of_calls(&recorded()).is_empty()).await;
    let spans = recorded();
    let calls = of_calls(&spans);
    let [done] = calls[..] else { panic!("one call: {calls:?}") };
    let checkout = spans.iter().find(|span| span.name == "checkout").expect("the application's");
    assert_eq!(done.span_kind, SpanKind::Client);
    assert_eq!(done.parent_span_id, checkout.span_context.span_id());
    for (key, value) in [
        ("rpc.system", Value::from("grpc")),
        ("rpc.service", "event_store.client.streams.Streams".into()),
        ("rpc.method", "Append".into()),
        ("server.address", "127.0.0.1".into()),
        ("server.port", port.into()),
    ] {
        assert_eq!(attribute(done, key), Some(&value), "{key}");
    }
    assert_eq!(done.status, Status::Unset);

    // The application records it: so does the server, which would not by itself.
    let told = collector.all();
    let served = told.iter().find(|span| span.name == APPEND).expect("the server's span");
    assert_eq!(served.parent, done.span_context.span_id().to_string());
    assert_eq!(served.trace, checkout.span_context.trace_id().to_string());
    assert_eq!(served.kind, "SERVER");
}
