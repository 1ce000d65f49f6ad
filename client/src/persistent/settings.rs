//! What a group is set up with, and what is known of it.

use std::time::Duration;

use daybook_model::{Revision, StreamName};
use daybook_wire::proto::persistent::all_options::{AllOption, FilterOption};
use daybook_wire::proto::persistent::create_req::options::StreamOption;
use daybook_wire::proto::persistent::settings::{CheckpointAfter, MessageTimeout};
use daybook_wire::proto::persistent::stream_options::RevisionOption;
use daybook_wire::proto::persistent::{self as proto, create_req};
use daybook_wire::proto::shared::Empty;
use daybook_wire::proto::streams::read_req::options::FilterOption as ReadFilter;
use daybook_wire::stream;

use super::{Group, GroupError, GroupSource};
use crate::error::CallError;
use crate::event::Checkpoint;
use crate::read::{EventFilter, filter_option};

/// How messages are spread over the consumers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// In turn.
    #[default]
    RoundRobin,
    /// To one as long as it has room.
    DispatchToSingle,
    /// Those of one stream to the same consumer, in order.
    Pinned,
    /// Those of one correlation to the same consumer, in order.
    PinnedByCorrelation,
}

impl Strategy {
    fn name(self) -> &'static str {
        match self {
            Strategy::RoundRobin => "RoundRobin",
            Strategy::DispatchToSingle => "DispatchToSingle",
            Strategy::Pinned => "Pinned",
            Strategy::PinnedByCorrelation => "PinnedByCorrelation",
        }
    }

    fn number(self) -> i32 {
        let number = match self {
            Strategy::DispatchToSingle => proto::ConsumerStrategy::DispatchToSingle,
            Strategy::RoundRobin => proto::ConsumerStrategy::RoundRobin,
            Strategy::Pinned | Strategy::PinnedByCorrelation => proto::ConsumerStrategy::Pinned,
        };
        number.into()
    }
}

/// Where a group begins that has no place yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupStart {
    /// With the first event.
    #[default]
    Start,
    /// With what is committed from now on.
    End,
    /// With this revision of its stream.
    Revision(Revision),
    /// With this place of `$all`.
    At(Checkpoint),
}

/// The settings of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// How messages are spread over the consumers.
    pub strategy: Strategy,
    /// Whether links are followed to the events that they name.
    pub resolve_links: bool,
    /// Whether the server measures how long consumers take.
    pub extra_statistics: bool,
    /// How long a consumer may have a message before others get it; for ever if none.
    pub message_timeout: Option<Duration>,
    /// How often a message is delivered again before it is parked.
    pub max_retry_count: u32,
    /// How long after the last checkpoint the next is written; none: by count alone.
    pub checkpoint_after: Option<Duration>,
    /// Messages after which a checkpoint is written for its age.
    pub min_checkpoint_count: u32,
    /// Messages after which one is written at once.
    pub max_checkpoint_count: u32,
    /// Consumers at a time; as many as the server allows if none.
    pub max_subscriber_count: Option<u32>,
    /// Messages the server holds ready for consumers when it has caught up.
    pub live_buffer_size: u32,
    /// Messages it reads at a time.
    pub read_batch_size: u32,
    /// Messages it holds ready while it catches up; more than it reads at a time.
    pub history_buffer_size: u32,
}

impl Default for GroupSettings {
    fn default() -> GroupSettings {
        GroupSettings {
            strategy: Strategy::RoundRobin,
            resolve_links: false,
            extra_statistics: false,
            message_timeout: Some(Duration::from_secs(30)),
            max_retry_count: 10,
            checkpoint_after: Some(Duration::from_secs(2)),
            min_checkpoint_count: 10,
            max_checkpoint_count: 1000,
            max_subscriber_count: None,
            live_buffer_size: 500,
            read_batch_size: 20,
            history_buffer_size: 500,
        }
    }
}

/// How a group stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// Which group.
    pub group: Group,
    /// What it is doing, in the server's words.
    pub status: String,
    /// How messages are spread.
    pub strategy: String,
    /// Consumers that are connected.
    pub connections: usize,
    /// Messages that consumers have.
    pub in_flight: u64,
    /// Messages that are parked.
    pub parked: u64,
    /// Messages settled since the server has loaded the group.
    pub total: u64,
    /// The place of the last checkpoint, in the server's words.
    pub checkpoint: Option<String>,
    /// The last event of what it follows, in the server's words.
    pub last_known: Option<String>,
}

pub(super) fn options(
    group: &Group,
    settings: &GroupSettings,
    start: GroupStart,
    filter: Option<&EventFilter>,
) -> create_req::Options {
    let stream_option = Some(match &group.source {
        GroupSource::Stream(name) => StreamOption::Stream(proto::StreamOptions {
            stream_identifier: Some(stream::to_proto(name)),
            revision_option: Some(match start {
                GroupStart::Start => RevisionOption::Start(Empty {}),
                GroupStart::End => RevisionOption::End(Empty {}),
                GroupStart::Revision(revision) => RevisionOption::Revision(revision.0),
                GroupStart::At(place) => RevisionOption::Revision(place.0),
            }),
        }),
        GroupSource::All => StreamOption::All(proto::AllOptions {
            all_option: Some(match start {
                GroupStart::Start => AllOption::Start(Empty {}),
                GroupStart::End => AllOption::End(Empty {}),
                GroupStart::Revision(Revision(number)) | GroupStart::At(Checkpoint(number)) => {
                    AllOption::Position(proto::Position {
                        commit_position: number,
                        prepare_position: number,
                    })
                }
            }),
            filter_option: Some(match filter_option(filter, 1) {
                ReadFilter::Filter(filter) => FilterOption::Filter(filter),
                ReadFilter::NoFilter(_) => FilterOption::NoFilter(Empty {}),
            }),
        }),
    });
    let group_name = group.name.clone();
    let settings = Some(settings_of(settings));
    create_req::Options { stream_option, stream_identifier: None, group_name, settings }
}

fn settings_of(settings: &GroupSettings) -> proto::Settings {
    let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let ms = |time: Option<Duration>| {
        let ms = time.map_or(0, |time| time.as_millis().max(1));
        i32::try_from(ms).unwrap_or(i32::MAX)
    };
    proto::Settings {
        resolve_links: settings.resolve_links,
        revision: 0,
        extra_statistics: settings.extra_statistics,
        max_retry_count: count(settings.max_retry_count),
        min_checkpoint_count: count(settings.min_checkpoint_count),
        max_checkpoint_count: count(settings.max_checkpoint_count),
        max_subscriber_count: count(settings.max_subscriber_count.unwrap_or(0)),
        live_buffer_size: count(settings.live_buffer_size),
        read_batch_size: count(settings.read_batch_size),
        history_buffer_size: count(settings.history_buffer_size),
        named_consumer_strategy: settings.strategy.number(),
        message_timeout: Some(MessageTimeout::MessageTimeoutMs(ms(settings.message_timeout))),
        checkpoint_after: Some(CheckpointAfter::CheckpointAfterMs(ms(settings.checkpoint_after))),
        consumer_strategy: settings.strategy.name().to_owned(),
    }
}

pub(super) fn info(info: proto::SubscriptionInfo) -> Result<GroupInfo, GroupError> {
    let source = if info.event_source == "$all" {
        GroupSource::All
    } else {
        let stream = StreamName::new(&info.event_source);
        GroupSource::Stream(stream.map_err(|error| {
            GroupError::Call(CallError::BadAnswer { reason: error.to_string() })
        })?)
    };
    let count = |count: i64| u64::try_from(count).unwrap_or(0);
    let place = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(GroupInfo {
        group: Group { source, name: info.group_name },
        status: info.status,
        strategy: info.named_consumer_strategy,
        connections: info.connections.len(),
        in_flight: count(i64::from(info.total_in_flight_messages)),
        parked: count(info.parked_message_count),
        total: count(info.total_items),
        checkpoint: place(info.last_checkpointed_event_position),
        last_known: place(info.last_known_event_position),
    })
}
