//! Who did what that changes the server, and what was denied to whom: the stream `$audit`.
//!
//! ```text
//!   $ActionBegun     before it is done; not done unless this is durable    who proof peer what id
//!   $ActionEnded     how it came out, and what it was about                the same, outcome, about
//!   $Denied          a route or a stream that a caller may not use         who proof peer what why
//!   $DenialsLeftOut  how many more there were in a minute than are kept    count
//! ```
//!
//! An action that cannot be recorded is refused: an audit log that a full queue can silence proves
//! nothing. What rescues a server that can write nothing any more (a stop, the acceptance of its
//! clock) is done all the same, and logged. How an action came out and what was denied wait in a
//! bounded queue; what finds no room there, or cannot be written, is counted and logged. Of the
//! denials of one caller, and of all callers, only so many a minute are kept: nobody can fill the
//! disk by asking for what he may not have.
//!
//! The stream is written here alone: the doors refuse it. Its metadata is the administrators', who
//! set with it how long it is kept (`$maxAge`) and who else reads it (`$acl`).
//!
//! INVARIANT: no password, no token and no body of a request gets here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daybook_model::stream::AUDIT_STREAM;
use daybook_model::{Clock, Entropy, ExpectedRevision, NewEvent, StreamName};
use daybook_store::{Append, AppendError, Store};
use parking_lot::Mutex;
use prometheus::IntCounter;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::caller::Caller;
use crate::telemetry::metrics::Metrics;
use crate::users::api_tokens::secret::redacted;

/// Records that wait to be written. A second's worth of the busiest administration.
pub const AUDIT_QUEUE_LEN: usize = 1024;
/// Records that are written at once.
const AUDIT_BATCH_LEN: usize = 256;
/// Denials of one caller that are kept of one minute. Enough to see what it tries.
pub const DENIALS_PER_CALLER_MAX: u32 = 10;
/// Denials of all callers that are kept of one minute: 86,400 a day, some 30 MB.
pub const DENIALS_MAX: u32 = 60;
/// The minute.
const DENIAL_WINDOW: Duration = Duration::from_secs(60);
/// Bytes of a path or a name that are kept.
const TEXT_SIZE_MAX: usize = 2048;

/// Where records go. A clone is another handle.
#[derive(Clone)]
pub struct Audit {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
    queue: mpsc::Sender<Message>,
    denials: Mutex<Denials>,
    lost: IntCounter,
    denied: IntCounter,
}

enum Message {
    Record(NewEvent),
    /// Answered when all before it is written.
    Flush(oneshot::Sender<()>),
}

/// Who asked for what, from where.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who.
    pub caller: &'a Caller,
    /// From where, if that is known.
    pub peer: Option<SocketAddr>,
    /// What: a route, or an act and a stream.
    pub what: &'a str,
}

impl Audit {
    /// The audit log in `store`. Its records are written by a task, until it is dropped.
    #[must_use]
    pub fn start(
        store: Store,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        metrics: &Metrics,
    ) -> Audit {
        let counter = |name, help| {
            let counter = IntCounter::new(name, help).expect("the name is ours and valid");
            metrics.register(Box::new(counter.clone()));
            counter
        };
        let lost = counter(
            "daybook_audit_records_lost_total",
            "Records of the audit log that found no room or could not be written.",
        );
        let denied = counter(
            "daybook_access_denied_total",
            "Requests and acts on streams that were denied to their callers.",
        );
        let (queue, records) = mpsc::channel(AUDIT_QUEUE_LEN);
        tokio::spawn(write(store.clone(), records, lost.clone()));
        let denials = Mutex::default();
        let inner = Inner { store, entropy, clock, queue, denials, lost, denied };
        Audit { inner: Arc::new(inner) }
    }

    /// Records that an action is begun; answers with its id when that is durable.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn begun(&self, asked: Asked<'_>) -> Result<Uuid, AppendError> {
        let id = self.new_id();
        let mut members = described(asked);
        members.insert("id".to_owned(), id.to_string().into());
        let event = NewEvent::json(id, "$ActionBegun", Value::Object(members).to_string());
        self.inner.store.append(to_audit(vec![event])).await?;
        Ok(id)
    }

    /// Records how the action `id` came out, and what it was about, as far as it said so.
    pub fn ended(&self, id: Option<Uuid>, asked: Asked<'_>, outcome: &str, about: Option<&str>) {
        let mut members = described(asked);
        members.insert("id".to_owned(), id.map(|id| id.to_string()).into());
        members.insert("outcome".to_owned(), outcome.into());
        members.insert("about".to_owned(), about.map(shortened).into());
        self.queue("$ActionEnded", members);
    }

    /// Records that something was denied, if not too much was in this minute.
    pub fn denied(&self, asked: Asked<'_>, why: &str) {
        self.inner.denied.inc();
        let now = self.inner.clock.monotonic();
        let kept = self.inner.denials.lock().take(asked.caller.login(), now);
        if let Some(count) = kept.left_out_before {
            let mut members = Map::new();
            members.insert("count".to_owned(), count.into());
            self.queue("$DenialsLeftOut", members);
        }
        if kept.keep {
            let mut members = described(asked);
            members.insert("why".to_owned(), why.into());
            self.queue("$Denied", members);
        }
    }

    /// Resolves when all that was recorded so far is written, or given up.
    pub async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.inner.queue.send(Message::Flush(done)).await.is_ok() {
            // It fails only if the task that writes has gone: then nothing is left to wait for.
            let _ = written.await;
        }
    }

    fn queue(&self, event_type: &str, members: Map<String, Value>) {
        let event = NewEvent::json(self.new_id(), event_type, Value::Object(members).to_string());
        if self.inner.queue.try_send(Message::Record(event)).is_err() {
            self.inner.lost.inc();
            tracing::error!(event_type, "the audit log's queue is full: a record is lost");
        }
    }

    fn new_id(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.inner.entropy.bytes()).into_uuid()
    }
}

/// Writes records until nobody can send any more.
async fn write(store: Store, mut records: mpsc::Receiver<Message>, lost: IntCounter) {
    let mut messages = Vec::with_capacity(AUDIT_BATCH_LEN);
    while records.recv_many(&mut messages, AUDIT_BATCH_LEN).await > 0 {
        let (mut events, mut waiting) = (Vec::new(), Vec::new());
        for message in messages.drain(..) {
            match message {
                Message::Record(event) => events.push(event),
                Message::Flush(done) => waiting.push(done),
            }
        }
        let count = events.len() as u64;
        if count > 0
            && let Err(error) = store.append(to_audit(events)).await
        {
            lost.inc_by(count);
            tracing::error!(%error, count, "records of the audit log could not be written");
        }
        for done in waiting {
            // Whoever waited may have gone.
            let _ = done.send(());
        }
    }
}

fn to_audit(events: Vec<NewEvent>) -> Append {
    let stream = StreamName::new(AUDIT_STREAM).expect("the name is valid");
    Append::to_stream(stream, ExpectedRevision::Any, events)
}

fn described(asked: Asked<'_>) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("who".to_owned(), asked.caller.login().map(shortened).into());
    members.insert("proof".to_owned(), asked.caller.proof().as_str().into());
    if let Some(token) = asked.caller.token() {
        members.insert("token".to_owned(), token.into());
    }
    members.insert("peer".to_owned(), asked.peer.map(|peer| peer.to_string()).into());
    members.insert("what".to_owned(), shortened(asked.what).into());
    members
}

/// `text` as far as it is kept: who asks for a path with a secret in it must not have it written
/// down for ever.
fn shortened(text: &str) -> String {
    let mut text = redacted(text);
    text.truncate(text.floor_char_boundary(TEXT_SIZE_MAX));
    text
}

/// How many denials were kept in this minute.
#[derive(Debug, Default)]
struct Denials {
    began: Duration,
    kept: u32,
    left_out: u64,
    /// By login; at most [`DENIALS_MAX`] of them. Those without one are one.
    callers: BTreeMap<Option<String>, u32>,
}

/// What becomes of a denial.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    keep: bool,
    /// How many were left out of the minute that is over, if any were.
    left_out_before: Option<u64>,
}

impl Denials {
    fn take(&mut self, login: Option<&str>, now: Duration) -> Kept {
        let mut left_out_before = None;
        if now.saturating_sub(self.began) >= DENIAL_WINDOW {
            left_out_before = Some(self.left_out).filter(|count| *count > 0);
            *self = Denials { began: now, ..Denials::default() };
        }
        let keep = self.kept < DENIALS_MAX && {
            let own = self.callers.entry(login.map(shortened)).or_default();
            *own += 1;
            *own <= DENIALS_PER_CALLER_MAX
        };
        if keep {
            self.kept += 1;
        } else {
            self.left_out += 1;
        }
        Kept { keep, left_out_before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_one_caller_nor_all_of_them_fill_the_log_with_denials() {
        let mut denials = Denials::default();
        let at = Duration::from_secs(1000);
        let mut keeps = |login: Option<&str>, now| denials.take(login, now);
        let kept = (0..50).filter(|_| keeps(Some("ada"), at).keep).count();
        assert_eq!(kept, DENIALS_PER_CALLER_MAX as usize);
        assert!(keeps(Some("bob"), at).keep, "others are kept still");
        let others = (0..1000).filter(|n| keeps(Some(&format!("user {n}")), at).keep).count();
        assert_eq!(kept + 1 + others, DENIALS_MAX as usize);
        assert!(!keeps(None, at).keep);
        let later = keeps(None, at + DENIAL_WINDOW);
        let left_out = 50 + 1 + 1000 + 1 - u64::from(DENIALS_MAX);
        assert_eq!(later, Kept { keep: true, left_out_before: Some(left_out) });
        let much_later = keeps(None, at + 3 * DENIAL_WINDOW);
        assert_eq!(much_later, Kept { keep: true, left_out_before: None });
        assert!(denials.callers.len() <= DENIALS_MAX as usize);
    }
}
