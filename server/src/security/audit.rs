//! Who did what that changes the server, and what was denied to whom: the stream `$audit`.
//!
//! ```text
//!   $ActionBegun     before it is done; not done unless this is durable    who proof peer what id
//!   $ActionEnded     how it came out, and what it was about                the same, outcome, about
//!   $Denied          a route or a stream that a caller may not use         who proof peer what why
//!   $LoginRefused    credentials that are not believed; a lock-out         the same
//!   $DenialsLeftOut  how many more of these two there were in a minute     what count callers
//!                    than are kept, and of how many callers
//! ```
//!
//! An action that cannot be recorded is refused: an audit log that a full queue can silence proves
//! nothing. What rescues a server that can write nothing any more (a stop, the acceptance of its
//! clock) is done all the same, and logged. How an action came out and what was denied wait in a
//! bounded queue; what finds no room there, or cannot be written, is counted and logged. Of what was
//! refused only so much a minute is kept, and of each caller something: see [`quota`].
//!
//! The stream is written here alone: the doors refuse it. Its metadata is the administrators', who
//! set with it who else reads it (`$acl`) and how long it is kept (`$maxAge`), which the doors let
//! them do within bounds.
//!
//! INVARIANT: no password, no token and no body of a request gets here.

mod action;
pub mod quota;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use daybook_model::stream::AUDIT_STREAM;
use daybook_model::{Clock, Entropy, ExpectedRevision, NewEvent, StreamName};
use daybook_store::{Append, Store};
use parking_lot::Mutex;
use prometheus::IntCounter;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

pub use action::{Action, Subject};

use quota::{KEPT_PER_CALLER_MAX, LeftOut, Quota};

use super::caller::Caller;
use super::lockout::{Address, network};
use crate::telemetry::metrics::Metrics;
use crate::users::api_tokens::secret::redacted;

/// Records that wait to be written. A second's worth of the busiest administration.
pub const AUDIT_QUEUE_LEN: usize = 1024;
/// Records that are written at once.
const AUDIT_BATCH_LEN: usize = 256;
/// Callers of whom a denial is kept in a minute, by their logins. A bank has fewer at work at a time,
/// and whoever has an issuer that signs any name does not fill the disk.
pub const DENIED_CALLERS_MAX: usize = 1000;
/// Addresses of whom a refused login is kept in a minute, and likewise a lock-out: they are
/// strangers', who have more of them than there are callers.
pub const REFUSED_ADDRESSES_MAX: usize = 100;
/// Bytes of a path or a name that are kept of what was denied, and of what an action was about.
const TEXT_SIZE_MAX: usize = 2048;
/// Bytes of what an action did: some two thousand streams by name. What has more to say is refused,
/// so that nothing is done behind the end of its own record.
pub const ACTION_SIZE_MAX: usize = 64 * 1024;

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
    /// By logins; those without one are one.
    denials: Mutex<Quota<Option<String>>>,
    /// By addresses; lock-outs apart.
    refusals: Mutex<Quota<(Address, bool)>>,
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

/// Credentials that were refused.
#[derive(Clone, Debug)]
pub struct LoginRefused {
    /// Whose they were said to be, if that is a user.
    pub who: Option<String>,
    /// Of which kind they were.
    pub proof: &'static str,
    /// From where.
    pub peer: IpAddr,
    /// What was wrong with them.
    pub why: String,
}

/// A user and its groups, as what an action is about.
#[must_use]
pub fn user_in(login: &str, groups: &[String]) -> String {
    if groups.is_empty() {
        return format!("{login}: no groups");
    }
    format!("{login}: groups {}", groups.join(", "))
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
        let denials = Mutex::new(Quota::new(DENIED_CALLERS_MAX));
        let refusals = Mutex::new(Quota::new(REFUSED_ADDRESSES_MAX));
        let inner = Inner { store, entropy, clock, queue, denials, refusals, lost, denied };
        Audit { inner: Arc::new(inner) }
    }

    /// An action that is to be done.
    pub fn action<'a>(&'a self, asked: Asked<'a>) -> Action<'a> {
        Action::new(self, asked)
    }

    /// Records that something was denied, if not too much was in this minute.
    pub fn denied(&self, asked: Asked<'_>, why: &str) {
        self.inner.denied.inc();
        let now = self.inner.clock.monotonic();
        let caller = asked.caller.login().map(shortened);
        let kept = self.inner.denials.lock().take(caller, KEPT_PER_CALLER_MAX, now);
        self.left_out("denials", kept.left_out_before);
        if kept.keep {
            let end = asked.what.floor_char_boundary(TEXT_SIZE_MAX);
            let mut members = described(Asked { what: &asked.what[..end], ..asked });
            members.insert("why".to_owned(), why.into());
            self.queue("$Denied", members);
        }
    }

    /// Whether a login that is refused from `peer` now is to be recorded; of lock-outs, their first
    /// in a minute is.
    pub fn keeps_refusal(&self, peer: IpAddr, is_lock_out: bool) -> bool {
        let now = self.inner.clock.monotonic();
        let most = if is_lock_out { 1 } else { KEPT_PER_CALLER_MAX };
        let kept = self.inner.refusals.lock().take((network(peer), is_lock_out), most, now);
        self.left_out("refused logins", kept.left_out_before);
        kept.keep
    }

    /// Records that credentials were refused.
    pub fn login_refused(&self, refused: LoginRefused) {
        let LoginRefused { who, proof, peer, why } = refused;
        let mut members = Map::new();
        members.insert("who".to_owned(), who.as_deref().map(shortened).into());
        members.insert("proof".to_owned(), proof.into());
        members.insert("peer".to_owned(), peer.to_string().into());
        members.insert("what".to_owned(), "log in".into());
        members.insert("why".to_owned(), why.into());
        self.queue("$LoginRefused", members);
    }

    /// Records what was done and needed no leave.
    pub fn done(&self, asked: Asked<'_>) {
        let mut members = described(asked);
        members.insert("outcome".to_owned(), "done".into());
        self.queue("$ActionEnded", members);
    }

    fn left_out(&self, what: &str, left_out: Option<LeftOut>) {
        let Some(LeftOut { count, callers }) = left_out else { return };
        let mut members = Map::new();
        members.insert("what".to_owned(), what.into());
        members.insert("count".to_owned(), count.into());
        members.insert("callers".to_owned(), callers.into());
        self.queue("$DenialsLeftOut", members);
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
    members.insert("what".to_owned(), cut(asked.what, ACTION_SIZE_MAX).into());
    members
}

fn shortened(text: &str) -> String {
    cut(text, TEXT_SIZE_MAX)
}

/// `text` as far as it is kept: who asks for a path with a secret in it must not have it written
/// down for ever.
fn cut(text: &str, size_max: usize) -> String {
    let mut text = redacted(text);
    text.truncate(text.floor_char_boundary(size_max));
    text
}
