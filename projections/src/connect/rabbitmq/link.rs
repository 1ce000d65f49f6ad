//! A connection with one channel that confirms what is published on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use daybook_model::trace::{TRACEPARENT, TRACESTATE};
use daybook_model::{ContentType, Position};
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::AMQPUserInfo;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
};
use parking_lot::Mutex;

use super::settings::RabbitMqSettings;
use super::{Declared, Window};
use crate::connect::guard::SendError;
use crate::connect::sink::{Message, Outcome};

/// The header that holds an event's position, by which a message is known when it comes back.
const POSITION_HEADER: &str = "daybook-position";
/// The delivery mode that keeps a message over a restart of the broker.
const PERSISTENT: u8 = 2;

/// The connection.
pub(super) struct Link {
    settings: Arc<RabbitMqSettings>,
    connection: Connection,
    channel: Channel,
    declared: Declared,
}

impl Link {
    pub(super) async fn open(settings: Arc<RabbitMqSettings>) -> Result<Link, SendError> {
        let failed = |action: &str, error: &lapin::Error| {
            let broker = settings.broker();
            SendError::new(format!("the broker {broker}: cannot {action}: {error}"))
        };
        let mut uri = settings.uri.clone();
        uri.authority.userinfo = AMQPUserInfo {
            username: settings.user.clone(),
            password: settings.password.reveal().to_owned(),
        };
        let name = ConnectionProperties::default().with_connection_name("daybook".into());
        let tls = OwnedTLSConfig { identity: None, cert_chain: settings.authority.clone() };
        let runtime = lapin::runtime::default_runtime();
        let runtime = runtime.map_err(|error| failed("connect", &error))?;
        let connection = Connection::connect_uri_with_config(uri, name, tls, runtime)
            .await
            .map_err(|error| failed("connect", &error))?;
        let channel = connection.create_channel().await;
        let channel = channel.map_err(|error| failed("open a channel", &error))?;
        let confirms = channel.confirm_select(ConfirmSelectOptions::default()).await;
        confirms.map_err(|error| failed("have messages confirmed", &error))?;
        tracing::info!(broker = settings.broker(), "connected");
        Ok(Link { settings, connection, channel, declared: Declared::default() })
    }

    pub(super) fn is_open(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Publishes `window` and waits for all confirmations. What became of its messages goes to
    /// `known` in order: if one is lost, up to it, and nothing at all if one before it may have
    /// been returned, which is known only at the end.
    pub(super) async fn publish(
        &mut self,
        window: &Window,
        known: &Mutex<Vec<Outcome>>,
    ) -> Result<(), SendError> {
        let mut confirmations = Vec::with_capacity(window.len());
        for (_, message) in window {
            let exchange = self.settings.exchange_of(message).map_err(SendError::new)?;
            self.declare(&exchange).await?;
            let options =
                BasicPublishOptions { mandatory: self.settings.mandatory, immediate: false };
            let published = self.channel.basic_publish(
                exchange.as_str().into(),
                message.event_type.as_str().into(),
                options,
                &message.body,
                properties(message),
            );
            let confirmation = published.await.map_err(|error| self.failed("publish", &error))?;
            confirmations.push(confirmation);
        }
        // A broker confirms several at once, and the library gives a returned message to any of
        // them: which one it is says only its header.
        let mut returned = BTreeMap::new();
        for confirmation in confirmations {
            let confirmed = confirmation.await;
            match confirmed.map_err(|error| self.failed("have a message confirmed", &error))? {
                Confirmation::Ack(None) if self.settings.mandatory => {}
                Confirmation::Ack(None) => known.lock().push(Outcome::Confirmed),
                Confirmation::Ack(Some(message)) => {
                    let (position, reason) = returned_by(&message)?;
                    returned.insert(position, reason);
                }
                Confirmation::Nack(_) | Confirmation::NotRequested => {
                    let broker = self.settings.broker();
                    return Err(SendError::new(format!("the broker {broker} lost a message")));
                }
            }
        }
        if self.settings.mandatory {
            known.lock().extend(window.iter().map(|(_, message)| {
                match returned.remove(&message.position) {
                    Some(reason) => Outcome::Refused { reason },
                    None => Outcome::Confirmed,
                }
            }));
        }
        Ok(())
    }

    async fn declare(&mut self, exchange: &str) -> Result<(), SendError> {
        if !self.settings.declare || self.declared.knows(exchange) {
            return Ok(());
        }
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let declared = self.channel.exchange_declare(
            exchange.into(),
            ExchangeKind::Topic,
            options,
            FieldTable::default(),
        );
        declared.await.map_err(|error| self.failed(&format!("declare {exchange}"), &error))?;
        self.declared.remember(exchange);
        Ok(())
    }

    fn failed(&self, action: &str, error: &lapin::Error) -> SendError {
        SendError::new(format!("the broker {}: cannot {action}: {error}", self.settings.broker()))
    }
}

/// The position of a message that came back, and why it did.
fn returned_by(message: &BasicReturnMessage) -> Result<(Position, String), SendError> {
    let delivery = &message.delivery;
    let headers = delivery.properties.headers().as_ref();
    let position = match headers.and_then(|headers| headers.inner().get(POSITION_HEADER)) {
        Some(AMQPValue::LongLongInt(position)) => u64::try_from(*position).ok(),
        _ => None,
    };
    let position = position.map(Position);
    let position = position
        .ok_or_else(|| SendError::new("the broker returned a message without its headers"))?;
    let reason = format!(
        "the broker returned it ({} {}): no queue is bound to exchange {} for {}; bind one, or set \
         mandatory = false",
        message.reply_code, message.reply_text, delivery.exchange, delivery.routing_key
    );
    Ok((position, reason))
}

fn properties(message: &Message) -> BasicProperties {
    let mut headers = FieldTable::default();
    let number = |number: u64| AMQPValue::LongLongInt(i64::try_from(number).unwrap_or(i64::MAX));
    let stream = AMQPValue::LongString(message.stream.as_str().into());
    headers.insert("daybook-stream".into(), stream);
    headers.insert("daybook-revision".into(), number(message.revision.0));
    headers.insert(POSITION_HEADER.into(), number(message.position.0));
    if let Some(trace) = &message.context.trace {
        let text = |text: &str| AMQPValue::LongString(text.into());
        headers.insert(TRACEPARENT.into(), text(&trace.to_string()));
        if let Some(state) = trace.tracestate() {
            headers.insert(TRACESTATE.into(), text(state));
        }
    }
    let seconds = message.time.0.div_euclid(1_000_000_000);
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(message.id.to_string().into())
        .with_type(message.event_type.as_str().into())
        .with_timestamp(u64::try_from(seconds).unwrap_or(0))
        .with_content_type(content_type(message.content_type))
        .with_app_id("daybook".into())
        .with_headers(headers);
    match &message.context.correlation {
        Some(id) if id.len() <= super::SHORT_TEXT_MAX => {
            properties.with_correlation_id(id.as_str().into())
        }
        _ => properties,
    }
}

fn content_type(content_type: ContentType) -> ShortString {
    content_type.as_str().into()
}
