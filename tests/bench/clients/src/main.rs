//! One running Daybook under the same small programs, written with KurrentDB's official Rust client,
//! with its official Python client, and with ours.
//!
//! ```text
//!   daybook-bench-clients URI SECONDS [PYTHON]     PYTHON: an interpreter that has kurrentdbclient
//! ```
//!
//! Every append has events of 256 bytes, an exact revision, and is durable when it is answered. The
//! clients share the processors with the server. What bounds most figures is the client.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use comfy_table::Table;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use uuid::Uuid;

const EVENT_SIZE: usize = 256;
const BATCH: usize = 100;
const STREAM_LEN: usize = 10_000;
const WRITERS: [usize; 2] = [1, 16];

fn data() -> Bytes {
    Bytes::from_static(&[b'x'; EVENT_SIZE])
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, seconds, python @ ..] = arguments.as_slice() else {
        bail!("give URI and SECONDS, and an interpreter that has kurrentdbclient");
    };
    let duration = Duration::from_secs_f64(seconds.parse().context("SECONDS is a number")?);
    let mut all = vec![("ours, Rust", ours(uri, duration).await?)];
    all.push(("official, Rust", official(uri, duration).await?));
    if let Some(python) = python.first() {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/official.py");
        let output = tokio::process::Command::new(python).args([script, uri, seconds]).output();
        let output = output.await.context("cannot run Python")?;
        let figures = serde_json::from_slice(&output.stdout).with_context(|| {
            format!("Python failed: {}", String::from_utf8_lossy(&output.stderr))
        })?;
        all.push(("official, Python", figures));
    }
    let mut table = Table::new();
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    table.set_header([&["events a second (p50 / p99 in ms)"], names.as_slice()].concat());
    for (scenario, _) in &all[0].1 {
        let cells = all.iter().map(|(_, figures)| cell(&figures[scenario]));
        table.add_row(std::iter::once(scenario.clone()).chain(cells));
    }
    println!("{table}");
    let figures: Map<String, Value> =
        all.into_iter().map(|(name, figures)| (name.to_owned(), figures.into())).collect();
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

fn cell(figure: &Value) -> String {
    let Some(rate) = figure["per_second"].as_f64() else { return "-".to_owned() };
    match (figure["p50_ms"].as_f64(), figure["p99_ms"].as_f64()) {
        (Some(p50), Some(p99)) => format!("{rate:.0} ({p50:.2} / {p99:.2})"),
        _ => format!("{rate:.0}"),
    }
}

fn rate(took: &[Duration], seconds: Duration) -> anyhow::Result<Value> {
    let mut histogram = Histogram::<u64>::new(3)?;
    for each in took {
        histogram.record(each.as_nanos() as u64)?;
    }
    let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
    let per_second = took.len() as f64 / seconds.as_secs_f64();
    Ok(json!({ "per_second": per_second, "p50_ms": ms(0.5), "p99_ms": ms(0.99) }))
}

fn since(begun: Instant, events: usize) -> Value {
    json!({ "per_second": events as f64 / begun.elapsed().as_secs_f64() })
}

async fn ours(uri: &str, seconds: Duration) -> anyhow::Result<Map<String, Value>> {
    use daybook_client::{
        Client, ContentType, Delivery, ExpectedRevision, NewEvent, ReadStream, Revision, StreamName,
        SubscribeAll,
    };
    use futures_util::TryStreamExt as _;

    let event = || NewEvent {
        id: Uuid::new_v4(),
        event_type: "Measured".to_owned(),
        content_type: ContentType::Binary,
        metadata: Bytes::new(),
        data: data(),
    };
    let stream = || StreamName::new(&format!("ours-{}", Uuid::new_v4()));
    let expected = |count: usize| match count.checked_sub(1) {
        None => ExpectedRevision::NoStream,
        Some(last) => ExpectedRevision::Exact(Revision(last as u64)),
    };
    let client = Client::new(uri)?;
    let mut figures = Map::new();
    for writers in WRITERS {
        let write = |_| {
            let (client, stream) = (client.clone(), stream());
            tokio::spawn(async move {
                let (stream, mut took, end) = (stream?, Vec::new(), Instant::now() + seconds);
                while Instant::now() < end {
                    let begun = Instant::now();
                    client.append(&stream, expected(took.len()), vec![event()]).await?;
                    took.push(begun.elapsed());
                }
                anyhow::Ok(took)
            })
        };
        let tasks: Vec<_> = (0..writers).map(write).collect();
        let mut took = Vec::new();
        for task in tasks {
            took.extend(task.await??);
        }
        figures.insert(named(writers), rate(&took, seconds)?);
    }
    let (name, begun, mut count) = (stream()?, Instant::now(), 0);
    while begun.elapsed() < seconds {
        let events = (0..BATCH).map(|_| event()).collect();
        client.append(&name, expected(count), events).await?;
        count += BATCH;
    }
    figures.insert(format!("append of {BATCH} events"), since(begun, count));
    let name = stream()?;
    for first in (0..STREAM_LEN).step_by(1000) {
        let events = (0..1000).map(|_| event()).collect();
        client.append(&name, expected(first), events).await?;
    }
    let begun = Instant::now();
    let read: Vec<_> = client.read_stream(ReadStream::new(name)).await?.try_collect().await?;
    anyhow::ensure!(read.len() == STREAM_LEN, "read {}", read.len());
    figures.insert(format!("read a stream of {STREAM_LEN}"), since(begun, STREAM_LEN));
    let (begun, mut count) = (Instant::now(), 0);
    let mut subscription = client.subscribe_all(SubscribeAll::default()).await?;
    loop {
        match subscription.next().await? {
            Delivery::Event(_) => count += 1,
            Delivery::CaughtUp => break,
            _ => {}
        }
    }
    figures.insert("follow $all from its start".to_owned(), since(begun, count));
    Ok(figures)
}

async fn official(uri: &str, seconds: Duration) -> anyhow::Result<Map<String, Value>> {
    use kurrentdb::{
        AppendToStreamOptions, Client, ClientSettings, EventData, ReadStreamOptions, StreamState,
        SubscribeToAllOptions, SubscriptionEvent,
    };

    let event = || EventData::binary("Measured", data()).id(Uuid::new_v4());
    let stream = || format!("official-{}", Uuid::new_v4());
    let expected = |count: usize| {
        AppendToStreamOptions::default().stream_state(match count.checked_sub(1) {
            None => StreamState::NoStream,
            Some(last) => StreamState::StreamRevision(last as u64),
        })
    };
    let settings: ClientSettings = uri.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let client = Client::new(settings).map_err(|error: eyre::Report| anyhow::anyhow!("{error}"))?;
    let mut figures = Map::new();
    for writers in WRITERS {
        let write = |_| {
            let (client, stream) = (client.clone(), stream());
            tokio::spawn(async move {
                let (mut took, end) = (Vec::new(), Instant::now() + seconds);
                while Instant::now() < end {
                    let begun = Instant::now();
                    client.append_to_stream(stream.as_str(), &expected(took.len()), event()).await?;
                    took.push(begun.elapsed());
                }
                anyhow::Ok(took)
            })
        };
        let tasks: Vec<_> = (0..writers).map(write).collect();
        let mut took = Vec::new();
        for task in tasks {
            took.extend(task.await??);
        }
        figures.insert(named(writers), rate(&took, seconds)?);
    }
    let (name, begun, mut count) = (stream(), Instant::now(), 0);
    while begun.elapsed() < seconds {
        let events: Vec<_> = (0..BATCH).map(|_| event()).collect();
        client.append_to_stream(name.as_str(), &expected(count), events).await?;
        count += BATCH;
    }
    figures.insert(format!("append of {BATCH} events"), since(begun, count));
    let name = stream();
    for first in (0..STREAM_LEN).step_by(1000) {
        let events: Vec<_> = (0..1000).map(|_| event()).collect();
        client.append_to_stream(name.as_str(), &expected(first), events).await?;
    }
    let begun = Instant::now();
    let mut events = client.read_stream(name.as_str(), &ReadStreamOptions::default()).await?;
    let mut read = 0;
    while events.next().await?.is_some() {
        read += 1;
    }
    anyhow::ensure!(read == STREAM_LEN, "read {read}");
    figures.insert(format!("read a stream of {STREAM_LEN}"), since(begun, STREAM_LEN));
    let (begun, mut count) = (Instant::now(), 0);
    let mut subscription = client.subscribe_to_all(&SubscribeToAllOptions::default()).await;
    loop {
        match subscription.next_subscription_event().await? {
            SubscriptionEvent::EventAppeared(_) => count += 1,
            SubscriptionEvent::CaughtUp(_) => break,
            _ => {}
        }
    }
    figures.insert("follow $all from its start".to_owned(), since(begun, count));
    Ok(figures)
}

fn named(writers: usize) -> String {
    format!("append, {writers} writer{}", if writers == 1 { "" } else { "s" })
}
