//! What a connector delivers, where to, and what became of it.

use std::time::Duration;

use bytes::Bytes;
use daybook_client::resilience::{CircuitBreaker, Wiring};
use daybook_model::{ContentType, Context, Position, Revision, StreamName, Timestamp};
use uuid::Uuid;

use super::config::SinkSettings;
use super::file::FileSink;
use super::rabbitmq::RabbitMqSink;
use super::webhook::WebhookSink;

/// Messages that a sink is given at a time: what a pause waits for, and what may be sent again
/// after a crash beside those since the last checkpoint.
pub const DELIVERY_MESSAGES_MAX: usize = 256;

/// A message about one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The event's id: the same whenever the message is sent again.
    pub id: Uuid,
    /// The event's stream.
    pub stream: StreamName,
    /// Its number in its stream.
    pub revision: Revision,
    /// Its number in the store.
    pub position: Position,
    /// What happened.
    pub event_type: String,
    /// When it was committed.
    pub time: Timestamp,
    /// What it belongs to: its `$correlationId`, and its place in a trace.
    pub context: Context,
    /// What is sent. JSON is on one line.
    pub body: Bytes,
    /// How the body is to be read.
    pub content_type: ContentType,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it for sure.
    Confirmed,
    /// The receiver will not take it, now or ever.
    Refused {
        /// What it says.
        reason: String,
    },
    /// It may have it or not, and may take it later.
    Failed {
        /// What happened.
        reason: String,
        /// When to try again, if the receiver says so.
        retry_after: Option<Duration>,
    },
    /// It was not tried: another of its stream failed before it, or the breaker is open.
    NotTried {
        /// Why.
        reason: String,
    },
}

impl Outcome {
    /// A failure of which nobody said when to try again.
    #[must_use]
    pub fn failed(reason: impl Into<String>) -> Outcome {
        Outcome::Failed { reason: reason.into(), retry_after: None }
    }

    /// A refusal.
    #[must_use]
    pub fn refused(reason: impl Into<String>) -> Outcome {
        Outcome::Refused { reason: reason.into() }
    }
}

/// A receiver that cannot be used any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SinkStopped {
    /// Why, and what to do.
    pub reason: String,
}

/// Where messages go.
pub trait Sink: Send + 'static {
    /// Delivers `messages`, at most [`DELIVERY_MESSAGES_MAX`], those of one stream in order. An
    /// outcome for each: after one that is neither confirmed nor refused, none of the same stream
    /// is confirmed. Dropped half way, any part may have been delivered.
    ///
    /// # Errors
    /// [`SinkStopped`] if trying again does not help.
    fn deliver(
        &mut self,
        messages: &[Message],
    ) -> impl Future<Output = Result<Vec<Outcome>, SinkStopped>> + Send;
}

/// One of the sinks there are.
pub enum AnySink {
    /// See [`RabbitMqSink`].
    RabbitMq(Box<RabbitMqSink>),
    /// See [`WebhookSink`].
    Webhook(Box<WebhookSink>),
    /// See [`FileSink`].
    File(FileSink),
}

impl AnySink {
    /// The sink of the connector `name`.
    ///
    /// # Errors
    /// [`SinkStopped`] if it can never be used: no certificates to trust, for example.
    pub fn new(
        name: &str,
        settings: &SinkSettings,
        wiring: &Wiring,
    ) -> Result<AnySink, SinkStopped> {
        // Its breaker's name, among those of all that this process calls.
        let endpoint = format!("connector_{name}");
        Ok(match settings {
            SinkSettings::RabbitMq(settings) => {
                let guard = settings.guard.build(&endpoint, 1, wiring)?;
                AnySink::RabbitMq(Box::new(RabbitMqSink::new((**settings).clone(), guard)))
            }
            SinkSettings::Webhook(settings) => {
                let guard = settings.guard.build(&endpoint, settings.concurrency, wiring)?;
                let clock = wiring.clock.clone();
                let sink = WebhookSink::new((**settings).clone(), guard, clock)?;
                AnySink::Webhook(Box::new(sink))
            }
            SinkSettings::File(settings) => AnySink::File(FileSink::new(settings.clone())),
        })
    }

    /// What its breaker does; none if it needs none.
    #[must_use]
    pub fn breaker(&self) -> Option<CircuitBreaker> {
        match self {
            AnySink::RabbitMq(sink) => Some(sink.breaker().clone()),
            AnySink::Webhook(sink) => Some(sink.breaker().clone()),
            AnySink::File(_) => None,
        }
    }
}

impl Sink for AnySink {
    async fn deliver(&mut self, messages: &[Message]) -> Result<Vec<Outcome>, SinkStopped> {
        match self {
            AnySink::RabbitMq(sink) => sink.deliver(messages).await,
            AnySink::Webhook(sink) => sink.deliver(messages).await,
            AnySink::File(sink) => sink.deliver(messages).await,
        }
    }
}
