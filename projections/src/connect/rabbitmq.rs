//! A RabbitMQ broker: each message published, persistent, and confirmed.
//!
//! ```text
//!   exchange     <exchange_prefix><category>, durable, of type topic; or `exchange` for all
//!   routing key  the event's type
//!   properties   message_id the event's id, type, timestamp (s), content_type, correlation_id
//!   headers      daybook-stream, daybook-revision, daybook-position
//! ```
//!
//! Up to `window` messages are under way at a time on one channel, which keeps their order; the
//! next window begins when all of one are confirmed. When the broker loses one (a nack, a broken
//! connection), everything from it on is published again, in order: a consumer sees `… 7 8 9 7 8 9`
//! and skips ids that it has seen.
//!
//! `mandatory` (the default): a message that no queue is bound for comes back, and is refused.
//!
//! INVARIANTS: after any failure the connection is dropped, so no confirmation can be taken for
//! another message's. The password stands in no log and no error.

use std::collections::BTreeSet;
use std::sync::Arc;

use daybook_client::resilience::CircuitBreaker;
use parking_lot::Mutex;

use self::link::Link;
use super::guard::{SinkGuard, failed};
use super::sink::{Message, Outcome, Sink, SinkStopped};

mod link;
mod settings;

pub use settings::{RabbitMqSettings, WINDOW_MAX};

/// Bytes of a routing key, and of an exchange's name: the protocol's.
pub const SHORT_TEXT_MAX: usize = 255;

/// Publishes messages.
pub struct RabbitMqSink {
    settings: Arc<RabbitMqSettings>,
    guard: SinkGuard,
    link: Option<Link>,
}

/// What is published in one call: the messages that can be, by their numbers.
type Window = Vec<(usize, Message)>;

impl RabbitMqSink {
    /// Nothing is connected before the first message.
    #[must_use]
    pub fn new(settings: RabbitMqSettings, guard: SinkGuard) -> RabbitMqSink {
        RabbitMqSink { settings: Arc::new(settings), guard, link: None }
    }

    /// What its breaker does.
    #[must_use]
    pub fn breaker(&self) -> &CircuitBreaker {
        self.guard.breaker()
    }

    /// Publishes one window. The outcomes of a call that broke off are those that came before.
    async fn publish(&mut self, window: &Window, outcomes: &mut [Outcome]) -> bool {
        let known = Arc::new(Mutex::new(Vec::with_capacity(window.len())));
        let mut link = self.link.take();
        let called = self.guard.call(|| {
            let (link, settings, known) = (link.take(), self.settings.clone(), known.clone());
            async move {
                let mut link = match link {
                    Some(link) if link.is_open() => link,
                    _ => Link::open(settings).await?,
                };
                link.publish(window, &known).await?;
                Ok(link)
            }
        });
        let called = called.await;
        let known = std::mem::take(&mut *known.lock());
        let all = known.len();
        for ((number, _), outcome) in window.iter().zip(known) {
            outcomes[*number] = outcome;
        }
        match called {
            Ok(link) => {
                self.link = Some(link);
                true
            }
            Err(error) => {
                for (number, _) in window.iter().skip(all) {
                    outcomes[*number] = failed(&error);
                }
                false
            }
        }
    }
}

impl Sink for RabbitMqSink {
    async fn deliver(&mut self, messages: &[Message]) -> Result<Vec<Outcome>, SinkStopped> {
        let not_tried = Outcome::NotTried { reason: "one before it failed".to_owned() };
        let mut outcomes = vec![not_tried; messages.len()];
        let mut fit = Window::with_capacity(messages.len());
        for (number, message) in messages.iter().enumerate() {
            match self.settings.exchange_of(message) {
                Ok(_) => fit.push((number, message.clone())),
                Err(reason) => outcomes[number] = Outcome::Refused { reason },
            }
        }
        let size = self.settings.window;
        let mut rest = fit;
        while !rest.is_empty() {
            let later = rest.split_off(size.min(rest.len()));
            if !self.publish(&rest, &mut outcomes).await {
                break;
            }
            rest = later;
        }
        Ok(outcomes)
    }
}

/// Names that were declared, a bounded number of them: declaring again is harmless.
#[derive(Default)]
struct Declared(BTreeSet<String>);

impl Declared {
    /// Exchanges that are remembered.
    const MAX: usize = 1000;

    fn knows(&self, exchange: &str) -> bool {
        self.0.contains(exchange)
    }

    fn remember(&mut self, exchange: &str) {
        if self.0.len() >= Declared::MAX {
            self.0.clear();
        }
        self.0.insert(exchange.to_owned());
    }
}
