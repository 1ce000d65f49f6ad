//! Appends at a steady pace: half of the users to a stream of their own, expecting exactly what
//! they left there, half to streams that they share, expecting nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use daybook_client::resilience::GuardError;
use daybook_client::{AppendError, CallError, Client};
use daybook_log::disk::sim::Rng;
use daybook_model::{ContentType, ExpectedRevision, NewEvent, Revision, StreamName};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::{APPEND_PACE, Site, pause_after};
use crate::check::STREAM_PREFIX;
use crate::journal::{Append, data_of};
use crate::measure::Kind;

/// Bytes of an event at most.
const EVENT_SIZE_MAX: u64 = 600;
/// Events of an append at most.
const EVENTS_MAX: u64 = 3;
/// Users of one shared stream.
const SHARED_BY: u32 = 4;
/// Bytes of an event that fills a disk.
const BALLAST_SIZE: usize = 128 * 1024;

struct Appender {
    site: Arc<Site>,
    client: Client,
    number: u32,
    stream: StreamName,
    expected: ExpectedRevision,
    events: u64,
    rng: Rng,
}

impl Appender {
    fn new(site: Arc<Site>, client: Client, number: u32) -> Appender {
        let is_alone = number.is_multiple_of(2);
        let name = match is_alone {
            true => format!("{STREAM_PREFIX}{number}"),
            false => format!("{STREAM_PREFIX}shared-{}", number / SHARED_BY),
        };
        let expected = if is_alone { ExpectedRevision::NoStream } else { ExpectedRevision::Any };
        let stream = StreamName::new(&name).expect("a valid name");
        let rng = Rng::new(site.seed ^ u64::from(number));
        Appender { site, client, number, stream, expected, events: 0, rng }
    }

    fn event(&mut self, size: usize) -> NewEvent {
        // The seed's upper half would do as well; this only has to be unlike all others.
        let id = u128::from(self.site.seed) << 64
            | u128::from(self.number) << 40
            | u128::from(self.events);
        let id = Uuid::from_u128(id);
        self.events += 1;
        NewEvent {
            id,
            event_type: "Happened".to_owned(),
            content_type: ContentType::Binary,
            metadata: bytes::Bytes::new(),
            data: data_of(id, size),
        }
    }

    fn events(&mut self) -> Vec<NewEvent> {
        let count = 1 + self.rng.below(EVENTS_MAX);
        let mut sizes = Vec::new();
        for _ in 0..count {
            sizes.push(1 + self.rng.below(EVENT_SIZE_MAX));
        }
        sizes.into_iter().map(|size| self.event(size as usize)).collect()
    }

    /// Appends `events`, with the same ids again and again until it is known to be done.
    async fn append(&mut self, events: Vec<NewEvent>) {
        let site = self.site.clone();
        let (user, stream) = (self.number, self.stream.as_str().to_owned());
        let append = Append { user, stream, events: events.clone(), told: None };
        let number = site.journal.appending(append);
        let begun = site.recorder.now();
        loop {
            let (client, stream, expected) = (&self.client, &self.stream, self.expected);
            let tried = site.appends.call(|| client.append(stream, expected, events.clone())).await;
            match tried {
                Ok(done) => {
                    let revision = done.revision.expect("it has events");
                    let position = done.checkpoint.expect("it has events").position().0;
                    site.journal.appended(number, revision.0, position);
                    if self.expected != ExpectedRevision::Any {
                        self.expected = ExpectedRevision::Exact(Revision(revision.0));
                    }
                    return site.recorder.done(Kind::Append, begun);
                }
                Err(error) => {
                    if let GuardError::Inner(error) = &error
                        && !daybook_client::resilience::classify::may_append_again(error)
                    {
                        // Nobody else writes what it expects, and a repetition is recognised.
                        return site.journal.odd(|| format!("append to {}: {error}", self.stream));
                    }
                    pause_after(&site, &error, name_of).await;
                }
            }
        }
    }
}

/// A kind of failure, for people.
fn name_of(error: &AppendError) -> &'static str {
    match error {
        AppendError::Unknown { .. } => "outcome unknown",
        AppendError::Call(CallError::Unreachable { .. }) => "unreachable",
        AppendError::Call(CallError::Overloaded { .. }) => "busy or not ready",
        AppendError::Call(CallError::DeadlineExceeded) => "no answer in time",
        AppendError::Call(_) => "call failed",
        _ => "refused",
    }
}

/// Appends until time is up.
pub async fn append(site: Arc<Site>, client: Client, number: u32) {
    let mut appender = Appender::new(site.clone(), client, number);
    let mut tick = tokio::time::interval(APPEND_PACE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !site.is_over() {
        tick.tick().await;
        let events = appender.events();
        appender.append(events).await;
    }
}

/// Appends large events, one after the other, while that is wanted.
pub async fn ballast(site: Arc<Site>, client: Client, number: u32) {
    let mut appender = Appender::new(site.clone(), client, number);
    let mut tick = tokio::time::interval(APPEND_PACE);
    while !site.is_over() {
        if site.ballast.load(Ordering::Relaxed) {
            let event = appender.event(BALLAST_SIZE);
            appender.append(vec![event]).await;
        } else {
            tick.tick().await;
        }
    }
}
