//! Daybook's side: `daybook serve`, and its Rust client.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;
use daybook_client::{Client, ContentType, ExpectedRevision, NewEvent, Revision, StreamName};
use uuid::Uuid;

use crate::load::{self, How, Measured, Phase, Shape, WINDOW};
use crate::process::Server;

/// Measures a server of its own on the new directory `data`.
pub async fn measure(program: &Path, data: &Path, shape: Shape) -> anyhow::Result<Measured> {
    let server = Server::start(program, |listen| {
        vec!["serve".into(), "--data".into(), data.into(), "--listen".into(), listen.into()]
    })
    .await
    .context("cannot start Daybook; build it first: cargo build --release")?;
    let url = format!("http://{}", server.address());
    let clients: Vec<_> =
        (0..shape.scenario.connections).map(|_| Client::new(&url)).collect::<Result<_, _>>()?;
    let bytes = load::data(shape.size);
    let writer = |number: u64, phase| {
        let client = clients[number as usize % clients.len()].clone();
        let source = Source::new(number, shape.scenario.events, bytes.clone());
        write(client, source, shape.scenario.how, phase)
    };
    load::measure(shape, || server.cpu_us(), writer).await
}

async fn write(
    client: Client,
    mut source: Source,
    how: How,
    mut phase: Phase,
) -> anyhow::Result<Phase> {
    if how == How::Pipelined {
        return pipeline(&client, source, phase).await;
    }
    while !phase.is_over() {
        let (expected, events) = source.next();
        let sent = Instant::now();
        client.append(&source.stream, expected, events).await?;
        phase.answered(sent);
    }
    Ok(phase)
}

/// Keeps the window full. The revisions are known before the answers: nobody else writes here.
async fn pipeline(client: &Client, mut source: Source, mut phase: Phase) -> anyhow::Result<Phase> {
    let appender = client.appender(NonZeroU32::new(WINDOW).context("a window of none")?);
    let mut flying = VecDeque::new();
    loop {
        if !phase.is_over() && flying.len() < WINDOW as usize {
            let (expected, events) = source.next();
            let sent = Instant::now();
            let pending = appender.send(&source.stream, expected, events).await?;
            flying.push_back((sent, pending));
            continue;
        }
        let Some((sent, pending)) = flying.pop_front() else { return Ok(phase) };
        pending.await?;
        phase.answered(sent);
    }
}

/// What one writer appends.
struct Source {
    stream: StreamName,
    events: u64,
    data: Bytes,
    number: u64,
    next: u64,
}

impl Source {
    fn new(number: u64, events: u64, data: Bytes) -> Source {
        let stream = StreamName::new(&format!("bench-{number}")).expect("a name of digits");
        Source { stream, events, data, number, next: 0 }
    }

    fn next(&mut self) -> (ExpectedRevision, Vec<NewEvent>) {
        let expected = match self.next {
            0 => ExpectedRevision::NoStream,
            next => ExpectedRevision::Exact(Revision(next - 1)),
        };
        let event = |revision| NewEvent {
            id: Uuid::from_u64_pair(self.number, revision),
            event_type: "BenchEvent".to_owned(),
            content_type: ContentType::Json,
            metadata: Bytes::new(),
            data: self.data.clone(),
        };
        let events = (self.next..self.next + self.events).map(event).collect();
        self.next += self.events;
        (expected, events)
    }
}
