//! An HTTP endpoint that is told of each event: a signed POST of JSON.
//!
//! ```text
//!   POST <url>
//!   Content-Type: application/json
//!   Daybook-Signature: t=1763800000,v1=5257a869…       HMAC-SHA256 of "<t>.<body>", in hex
//!   Idempotency-Key: <the event's id>                  of several: a UUID made of all their ids
//!
//!   {"id": …}      or, with batch > 1:   [{"id": …}, …]
//! ```
//!
//! How a receiver knows that it is us, in Python (`secret` and `body` are bytes):
//!
//! ```python
//! import hashlib, hmac, time
//!
//! def verify(header, body, secret, tolerance=300):
//!     fields = dict(part.split("=", 1) for part in header.split(","))
//!     signed = fields["t"].encode() + b"." + body
//!     expected = hmac.new(secret, signed, hashlib.sha256).hexdigest()
//!     if not hmac.compare_digest(expected, fields["v1"]):
//!         raise ValueError("not signed with our secret")
//!     if abs(time.time() - int(fields["t"])) > tolerance:
//!         raise ValueError("too old: somebody may be repeating it")
//! ```
//!
//! | Answer | What becomes of the message |
//! |---|---|
//! | 2xx | delivered |
//! | 408, 425, 429, 5xx, none in time | tried again; `Retry-After` (s) is obeyed, up to a minute |
//! | other 4xx, and redirects, which are never followed | refused |
//!
//! A batch that is refused is sent again one by one, so that one message does not hold up others.
//! Streams are spread over `concurrency` calls at a time; each stream keeps its order.
//!
//! INVARIANT: the secret and the URL's path stand in no log and no error.

use std::sync::Arc;

use bytes::Bytes;
use daybook_client::resilience::CircuitBreaker;
use daybook_model::{Clock, ContentType};
use futures_util::future::join_all;
use uuid::Uuid;

use self::http::{Answer, Poster};
use super::guard::{SinkGuard, failed};
use super::sink::{Message, Outcome, Sink, SinkStopped};

mod http;
mod settings;
mod signature;

pub use http::ANSWER_SIZE_MAX;
pub(super) use settings::is_loopback;
pub use settings::{BATCH_MAX, WebhookSettings, WebhookUrl};
pub use signature::{SIGNATURE_HEADER, sign};

/// The header by which a receiver knows a repeated POST.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";

/// Posts messages.
pub struct WebhookSink {
    settings: WebhookSettings,
    guard: SinkGuard,
    poster: Poster,
}

impl WebhookSink {
    /// Nothing is connected before the first message.
    ///
    /// # Errors
    /// [`SinkStopped`] if there are no certificates to trust.
    pub fn new(
        settings: WebhookSettings,
        guard: SinkGuard,
        clock: Arc<dyn Clock>,
    ) -> Result<WebhookSink, SinkStopped> {
        let poster = Poster::new(&settings, clock)?;
        Ok(WebhookSink { settings, guard, poster })
    }

    /// What its breaker does.
    #[must_use]
    pub fn breaker(&self) -> &CircuitBreaker {
        self.guard.breaker()
    }

    /// Delivers the messages of one lane, in order, up to the first that fails.
    async fn lane(&self, messages: Vec<&Message>) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(messages.len());
        for some in messages.chunks(self.settings.batch_max) {
            let outcome = self.post(some).await;
            if matches!(outcome, Outcome::Refused { .. }) && some.len() > 1 {
                if !self.one_by_one(some, &mut outcomes).await {
                    break;
                }
                continue;
            }
            let goes_on = matches!(outcome, Outcome::Confirmed | Outcome::Refused { .. });
            outcomes.extend(some.iter().map(|_| outcome.clone()));
            if !goes_on {
                break;
            }
        }
        let reason = "a message before it was not taken".to_owned();
        outcomes.resize(messages.len(), Outcome::NotTried { reason });
        outcomes
    }

    /// Whether all of them were taken or refused.
    async fn one_by_one(&self, messages: &[&Message], outcomes: &mut Vec<Outcome>) -> bool {
        for message in messages {
            let outcome = self.post(&[message]).await;
            let goes_on = matches!(outcome, Outcome::Confirmed | Outcome::Refused { .. });
            outcomes.push(outcome);
            if !goes_on {
                return false;
            }
        }
        true
    }

    async fn post(&self, messages: &[&Message]) -> Outcome {
        let Some((body, content_type)) = self.body(messages) else {
            return Outcome::refused("its data is not JSON and cannot be part of a batch");
        };
        let key = key(messages);
        // Each event says its own in its metadata; a batch has none.
        let trace = match messages {
            [message] => message.context.trace.as_ref(),
            _ => None,
        };
        match self.guard.call(|| self.poster.post(body.clone(), content_type, key, trace)).await {
            Ok(Answer::Taken) => Outcome::Confirmed,
            Ok(Answer::Refused(reason)) => Outcome::Refused { reason },
            Err(error) => failed(&error),
        }
    }

    /// One message, or an array of them if the configuration says that there may be several.
    fn body(&self, messages: &[&Message]) -> Option<(Bytes, ContentType)> {
        if let ([message], 1) = (messages, self.settings.batch_max) {
            return Some((message.body.clone(), message.content_type));
        }
        let mut body = Vec::from(b"[");
        for (number, message) in messages.iter().enumerate() {
            if message.content_type != ContentType::Json {
                return None;
            }
            if number > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&message.body);
        }
        body.push(b']');
        Some((Bytes::from(body), ContentType::Json))
    }
}

impl Sink for WebhookSink {
    async fn deliver(&mut self, messages: &[Message]) -> Result<Vec<Outcome>, SinkStopped> {
        let lanes = self.settings.concurrency.max(1) as usize;
        let mut numbers = vec![Vec::new(); lanes];
        for (number, message) in messages.iter().enumerate() {
            numbers[lane_of(message.stream.as_str(), lanes)].push(number);
        }
        let this = &*self;
        let delivering = numbers.iter().filter(|lane| !lane.is_empty()).map(|lane| async move {
            let own = lane.iter().map(|number| &messages[*number]).collect();
            (lane, this.lane(own).await)
        });
        let nothing = || Outcome::NotTried { reason: String::new() };
        let mut outcomes: Vec<Outcome> = messages.iter().map(|_| nothing()).collect();
        for (lane, own) in join_all(delivering).await {
            for (number, outcome) in lane.iter().zip(own) {
                outcomes[*number] = outcome;
            }
        }
        Ok(outcomes)
    }
}

/// The lane of a stream: always the same for the same name (FNV-1a).
fn lane_of(stream: &str, lanes: usize) -> usize {
    let hash = stream.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    usize::try_from(hash % lanes as u64).unwrap_or(0)
}

/// The same for the same messages.
fn key(messages: &[&Message]) -> Uuid {
    match messages {
        [message] => message.id,
        several => {
            let ids: Vec<u8> = several.iter().flat_map(|message| *message.id.as_bytes()).collect();
            Uuid::new_v5(&Uuid::NAMESPACE_OID, &ids)
        }
    }
}
