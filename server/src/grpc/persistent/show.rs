//! Messages and figures as the protocol has them.

use bytes::BytesMut;
use daybook_wire::frame::put_message;
use daybook_wire::proto::persistent::read_resp::read_event::{Count, Position};
use daybook_wire::proto::persistent::read_resp::{Content, ReadEvent, SubscriptionConfirmation};
use daybook_wire::proto::persistent::subscription_info::{ConnectionInfo, Measurement};
use daybook_wire::proto::persistent::{ReadResp, SubscriptionInfo};
use daybook_wire::proto::streams::read_resp::read_event::RecordedEvent;
use daybook_wire::{UuidForm, event};

use crate::persistent::consumer::Delivered;
use crate::persistent::definition::milliseconds;
use crate::persistent::feed::Placed;
use crate::persistent::info::{ConsumerInfo, GroupInfo};
use crate::persistent::key::GroupKey;
use crate::persistent::place::start_text;

/// Adds the message that confirms a consumer.
pub fn put_confirmation(key: &GroupKey, buf: &mut BytesMut) {
    let confirmation = SubscriptionConfirmation { subscription_id: key.to_string() };
    let content = Some(Content::SubscriptionConfirmation(confirmation));
    put_message(&ReadResp { content }, buf);
}

/// Whether what a link leads to is shown to a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// It is, if it is there.
    Shown,
    /// It is not: the consumer may not read its stream. The link alone is delivered.
    Withheld,
}

/// Adds the message that shows what was delivered.
pub fn put_delivered(delivered: &Delivered, target: Target, form: UuidForm, buf: &mut BytesMut) {
    let item = &delivered.item;
    let recorded = |placed: &Placed| -> RecordedEvent {
        event::to_proto(&placed.event.view(), placed.position, form)
    };
    let original = item.link.as_ref().or(item.event.as_ref());
    let position = original.map(|placed| Position::CommitPosition(placed.position));
    let retries = i32::try_from(delivered.retries).unwrap_or(i32::MAX);
    let event = ReadEvent {
        event: item.event.as_ref().filter(|_| target == Target::Shown).map(recorded),
        link: item.link.as_ref().map(recorded),
        position,
        count: Some(Count::RetryCount(retries)),
    };
    put_message(&ReadResp { content: Some(Content::Event(event)) }, buf);
}

/// How a group stands.
#[must_use]
pub fn info(info: GroupInfo) -> SubscriptionInfo {
    let definition = &info.definition;
    let (key, settings) = (&definition.key, &definition.settings);
    let outstanding = info.in_flight + info.waiting_again + info.parking;
    SubscriptionInfo {
        event_source: key.source.name().to_owned(),
        group_name: key.group.clone(),
        status: info.status.words(),
        average_per_second: info.rated.average_per_second,
        total_items: large(info.counters.settled),
        count_since_last_measurement: info.rated.since_asked,
        last_checkpointed_event_position: info.checkpoint.unwrap_or_default(),
        last_known_event_position: info.last_known.unwrap_or_default(),
        resolve_link_tos: definition.resolve_links,
        start_from: start_text(&key.source, definition.start),
        message_timeout_milliseconds: milliseconds(settings.message_timeout),
        extra_statistics: definition.extra_statistics,
        max_retry_count: small(settings.max_retry_count as usize),
        live_buffer_size: small(settings.live_buffer_size as usize),
        buffer_size: small(settings.history_buffer_size as usize),
        read_batch_size: small(settings.read_batch_size as usize),
        check_point_after_milliseconds: milliseconds(settings.checkpoint_after),
        min_check_point_count: small(settings.min_checkpoint_count as usize),
        max_check_point_count: small(settings.max_checkpoint_count as usize),
        read_buffer_count: if info.status.live { 0 } else { small(info.waiting_new) },
        live_buffer_count: if info.status.live { large(info.waiting_new as u64) } else { 0 },
        retry_buffer_count: small(info.waiting_again),
        total_in_flight_messages: small(info.in_flight),
        outstanding_messages_count: small(outstanding),
        named_consumer_strategy: settings.strategy.name().to_owned(),
        max_subscriber_count: small(settings.max_subscriber_count.unwrap_or(0) as usize),
        parked_message_count: large(info.parked),
        connections: info.consumers.into_iter().map(connection).collect(),
    }
}

fn connection(info: ConsumerInfo) -> ConnectionInfo {
    let measurement = |(key, value): (&str, i64)| Measurement { key: key.to_owned(), value };
    ConnectionInfo {
        from: info.visitor.from,
        username: info.visitor.username,
        average_items_per_second: info.rated.average_per_second,
        total_items: large(info.total),
        count_since_last_measurement: info.rated.since_asked,
        observed_measurements: info.observed.into_iter().map(measurement).collect(),
        available_slots: small(info.free),
        in_flight_messages: small(info.in_flight),
        connection_name: info.visitor.connection,
    }
}

fn small(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn large(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
