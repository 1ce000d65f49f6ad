//! What requests ask of groups.

use std::time::Duration;

use daybook_model::FilterTarget;
use daybook_store::persistent::{Settings, Strategy};
use daybook_wire::proto::persistent::create_req::options::StreamOption;
use daybook_wire::proto::persistent::settings::{CheckpointAfter, MessageTimeout};
use daybook_wire::proto::persistent::{
    self as proto, all_options::AllOption, all_options::FilterOption, create_req,
    stream_options::RevisionOption,
};
use daybook_wire::proto::shared::StreamIdentifier;
use daybook_wire::proto::streams::read_req::options::FilterOptions;
use daybook_wire::proto::streams::read_req::options::filter_options::Filter as Choice;
use daybook_wire::{InvalidRequest, WirePosition, filter, position, stream};
use tonic::Status;

use crate::grpc::status;
use crate::persistent::definition::{Definition, FilterSpec, Pattern, Start};
use crate::persistent::error::GroupError;
use crate::persistent::key::{GroupKey, Source};

/// Milliseconds of a tick, of which clients send ten thousand for one.
const TICKS_PER_MS: i64 = 10_000;

/// The group that a Create or an Update wants.
///
/// # Errors
/// The status that the protocol has for what is wrong.
pub fn definition(options: Option<create_req::Options>) -> Result<Definition, Status> {
    let options = options.ok_or_else(status::handler_failed)?;
    let settings = options.settings.ok_or_else(status::handler_failed)?;
    let group = options.group_name;
    let (source, start, filter) = match (options.stream_option, options.stream_identifier) {
        (Some(StreamOption::Stream(target)), _) => {
            let source = source_of(target.stream_identifier.as_ref())?;
            let start = match target.revision_option.ok_or_else(status::handler_failed)? {
                RevisionOption::Start(_) => Start::First,
                RevisionOption::End(_) => Start::End,
                RevisionOption::Revision(revision) => from_revision(revision),
            };
            (source, start, None)
        }
        (Some(StreamOption::All(target)), _) => {
            let key = GroupKey { source: Source::All, group: group.clone() };
            let start = from_position(&target, &key)?;
            let filter = match &target.filter_option {
                Some(FilterOption::Filter(wanted)) => Some(filter_spec(wanted)?),
                Some(FilterOption::NoFilter(_)) | None => None,
            };
            (Source::All, start, filter)
        }
        (None, Some(identifier)) => {
            (source_of(Some(&identifier))?, from_revision(settings.revision), None)
        }
        (None, None) => return Err(status::handler_failed()),
    };
    let key = GroupKey { source, group };
    let (resolve_links, extra_statistics) = (settings.resolve_links, settings.extra_statistics);
    let settings = settings_of(&settings, &key)?;
    // Where it begins in numbers is found out when it is made.
    let begins_at = 0;
    Ok(Definition { key, settings, resolve_links, extra_statistics, start, begins_at, filter })
}

/// The source that a request names: a stream, or the whole log if it names none.
///
/// # Errors
/// INVALID_ARGUMENT if the name breaks a rule.
pub fn source_of(identifier: Option<&StreamIdentifier>) -> Result<Source, Status> {
    let name = stream::from_proto(identifier).map_err(|error| status::invalid(&error))?;
    Ok(Source::Stream(name))
}

fn from_revision(revision: u64) -> Start {
    match revision {
        0 => Start::First,
        u64::MAX => Start::End,
        revision => Start::At(revision),
    }
}

fn from_position(target: &proto::AllOptions, key: &GroupKey) -> Result<Start, Status> {
    match target.all_option.ok_or_else(status::handler_failed)? {
        AllOption::Start(_) => Ok(Start::First),
        AllOption::End(_) => Ok(Start::End),
        AllOption::Position(at) => {
            match position::from_request(at.commit_position, at.prepare_position) {
                WirePosition::Start => Ok(Start::First),
                WirePosition::End => Ok(Start::End),
                WirePosition::Event(..) => Ok(Start::At(at.commit_position)),
                WirePosition::Impossible => Err(failed(key, "there is no such position")),
            }
        }
    }
}

fn filter_spec(wanted: &FilterOptions) -> Result<FilterSpec, Status> {
    if let Some(name) = filter::index_name(wanted) {
        return Err(status::index_not_found(name));
    }
    filter::from_proto(wanted).map_err(|error| status::invalid(&error))?;
    let (target, expression) = match &wanted.filter {
        Some(Choice::StreamIdentifier(expression)) => (FilterTarget::StreamName, expression),
        Some(Choice::EventType(expression)) => (FilterTarget::EventType, expression),
        None => return Err(status::invalid(&InvalidRequest::Missing { field: "filter" })),
    };
    let pattern = if expression.regex.is_empty() {
        Pattern::Prefixes(expression.prefix.clone())
    } else {
        Pattern::Regex(expression.regex.clone())
    };
    Ok(FilterSpec { target, pattern })
}

fn settings_of(wanted: &proto::Settings, key: &GroupKey) -> Result<Settings, Status> {
    let count = |field: &str, value: i32| {
        u32::try_from(value).map_err(|_| failed(key, &format!("{field} is negative: {value}")))
    };
    let timeout = match wanted.message_timeout {
        Some(MessageTimeout::MessageTimeoutTicks(ticks)) => ticks / TICKS_PER_MS,
        Some(MessageTimeout::MessageTimeoutMs(ms)) => i64::from(ms),
        None => 0,
    };
    let after = match wanted.checkpoint_after {
        Some(CheckpointAfter::CheckpointAfterTicks(ticks)) => ticks / TICKS_PER_MS,
        Some(CheckpointAfter::CheckpointAfterMs(ms)) => i64::from(ms),
        None => 0,
    };
    let time = |field: &str, ms: i64| {
        let ms =
            u64::try_from(ms).map_err(|_| failed(key, &format!("{field} is negative: {ms} ms")))?;
        Ok::<_, Status>((ms > 0).then(|| Duration::from_millis(ms)))
    };
    let subscribers = count("max_subscriber_count", wanted.max_subscriber_count)?;
    Ok(Settings {
        strategy: strategy(wanted, key)?,
        message_timeout: time("message_timeout", timeout)?,
        max_retry_count: count("max_retry_count", wanted.max_retry_count)?,
        checkpoint_after: time("checkpoint_after", after)?,
        min_checkpoint_count: count("min_checkpoint_count", wanted.min_checkpoint_count)?,
        max_checkpoint_count: count("max_checkpoint_count", wanted.max_checkpoint_count)?,
        max_subscriber_count: Some(subscribers).filter(|count| *count > 0),
        live_buffer_size: count("live_buffer_size", wanted.live_buffer_size)?,
        read_batch_size: count("read_batch_size", wanted.read_batch_size)?,
        history_buffer_size: count("history_buffer_size", wanted.history_buffer_size)?,
    })
}

fn strategy(wanted: &proto::Settings, key: &GroupKey) -> Result<Strategy, Status> {
    use proto::ConsumerStrategy as Number;
    let missing = |name: &str| failed(key, &format!("Consumer strategy {name} does not exist."));
    if !wanted.consumer_strategy.is_empty() {
        let name = wanted.consumer_strategy.as_str();
        return Strategy::of_name(name).ok_or_else(|| missing(name));
    }
    match Number::try_from(wanted.named_consumer_strategy) {
        Ok(Number::DispatchToSingle) => Ok(Strategy::DispatchToSingle),
        Ok(Number::RoundRobin) => Ok(Strategy::RoundRobin),
        Ok(Number::Pinned) => Ok(Strategy::Pinned),
        Err(_) => Err(missing(&wanted.named_consumer_strategy.to_string())),
    }
}

fn failed(key: &GroupKey, reason: &str) -> Status {
    status::group(&GroupError::failed(key, reason))
}

#[cfg(test)]
mod tests {
    use daybook_wire::proto::shared::Empty;
    use tonic::Code;

    use super::*;

    fn good() -> create_req::Options {
        let stream_identifier = Some(StreamIdentifier { stream_name: "s".into() });
        let revision_option = Some(RevisionOption::Start(Empty {}));
        create_req::Options {
            stream_option: Some(StreamOption::Stream(proto::StreamOptions {
                stream_identifier,
                revision_option,
            })),
            stream_identifier: None,
            group_name: "g".to_owned(),
            settings: Some(proto::Settings {
                message_timeout: Some(MessageTimeout::MessageTimeoutTicks(300_000_000)),
                checkpoint_after: Some(CheckpointAfter::CheckpointAfterMs(2000)),
                max_retry_count: 10,
                min_checkpoint_count: 10,
                max_checkpoint_count: 1000,
                live_buffer_size: 500,
                read_batch_size: 20,
                history_buffer_size: 500,
                named_consumer_strategy: 1,
                ..proto::Settings::default()
            }),
        }
    }

    #[test]
    fn settings_are_understood_in_both_of_their_forms() {
        let found = definition(Some(good())).expect("a definition");
        assert_eq!(found.settings, Settings::default());
        let mut old = good();
        old.stream_option = None;
        old.stream_identifier = Some(StreamIdentifier { stream_name: "s".into() });
        for (revision, start) in [(0, Start::First), (7, Start::At(7)), (u64::MAX, Start::End)] {
            if let Some(settings) = &mut old.settings {
                settings.revision = revision;
            }
            assert_eq!(definition(Some(old.clone())).expect("a definition").start, start);
        }
    }

    #[test]
    fn what_is_wrong_has_the_protocols_status() {
        let with = |change: fn(&mut proto::Settings)| {
            let mut options = good();
            change(options.settings.as_mut().expect("settings"));
            options
        };
        let unset = create_req::Options { stream_option: None, ..good() };
        for (options, code) in [
            (unset, Code::Unknown),
            (create_req::Options { settings: None, ..good() }, Code::Unknown),
            (with(|s| s.consumer_strategy = "Fair".to_owned()), Code::Internal),
            (with(|s| s.named_consumer_strategy = 9), Code::Internal),
            (with(|s| s.max_retry_count = -1), Code::Internal),
            (with(|s| s.live_buffer_size = -1), Code::Internal),
            (
                with(|s| s.message_timeout = Some(MessageTimeout::MessageTimeoutMs(-1))),
                Code::Internal,
            ),
        ] {
            let refused = definition(Some(options.clone())).expect_err("refused");
            assert_eq!(refused.code(), code, "{options:?}");
        }
    }
}
