//! What a Read asks for, checked: the combinations the protocol allows, positions that are of this
//! store's history. Protocol sections 5.1, 5.3 and 5.4.

use std::sync::Arc;

use daybook_model::{Filter, FilterTarget, Position, Revision, StreamName};
use daybook_store::{
    AllFrom, Direction, From, IndexKey, ReadAll, ReadStream, SubscribeFrom, SubscriptionFilter,
};
use daybook_wire::filter::{self, RequestedFilter, SecondaryIndex};
use daybook_wire::position::{self, WirePosition};
use daybook_wire::proto::streams::ReadReq;
use daybook_wire::proto::streams::read_req::Options;
use daybook_wire::proto::streams::read_req::options::{
    AllOptions, CountOption, FilterOption, ReadDirection, StreamOption, StreamOptions,
    all_options::AllOption, stream_options::RevisionOption, uuid_option::Content,
};
use daybook_wire::{InvalidRequest, UuidForm, stream};
use tonic::Status;

use crate::grpc::status;
use crate::node::door::Door;

/// A Read that can be carried out.
#[derive(Debug)]
pub struct Plan {
    /// What is read.
    pub query: Query,
    /// The form in which ids go out.
    pub form: UuidForm,
    /// Whether links are followed to the events they name.
    pub resolve_links: bool,
}

/// What is read.
#[derive(Debug)]
pub enum Query {
    /// Events of one stream.
    Stream {
        /// Which.
        query: ReadStream,
        /// Whether the client wants to know the stream's first and last revision.
        ends_told: bool,
    },
    /// Events of the log.
    All {
        /// Which.
        query: ReadAll,
        /// If only those of a key are wanted.
        key: Option<IndexKey>,
    },
    /// A stream, for as long as the client wants.
    FollowStream {
        /// The stream, which need not exist yet.
        stream: StreamName,
        /// Where it begins.
        from: SubscribeFrom,
    },
    /// The log, for as long as the client wants.
    FollowAll {
        /// Where it begins.
        from: SubscribeFrom,
        /// Which events the client wants, if not all.
        filter: Option<SubscriptionFilter>,
    },
    /// The log's events of a key, for as long as the client wants.
    FollowIndexed {
        /// The key.
        key: IndexKey,
        /// Where it begins.
        from: SubscribeFrom,
        /// Events considered between two checkpoints.
        checkpoint_interval: u64,
    },
}

/// Checks what `request` asks of `store`.
///
/// # Errors
/// The status that the protocol has for what is wrong.
pub fn plan(store: &Door, request: ReadReq) -> Result<Plan, Status> {
    let mut options = request.options.ok_or_else(|| missing("options"))?;
    let form = match options.uuid_option.and_then(|option| option.content) {
        Some(Content::Structured(_)) => UuidForm::Structured,
        Some(Content::String(_)) => UuidForm::Text,
        None => return Err(missing("uuid_option")),
    };
    let target = options.stream_option.take().ok_or_else(|| missing("stream_option"))?;
    let query = match target {
        StreamOption::Stream(target) => stream_query(&target, &options)?,
        StreamOption::All(target) => all_query(store, target, &options)?,
    };
    Ok(Plan { query, form, resolve_links: options.resolve_links })
}

fn stream_query(target: &StreamOptions, options: &Options) -> Result<Query, Status> {
    let stream = stream::from_proto(target.stream_identifier.as_ref()).map_err(refuse)?;
    let from = target.revision_option.ok_or_else(|| missing("revision_option"))?;
    if requested_filter(options)?.is_some() {
        return Err(combination("stream, filter"));
    }
    match count(options)? {
        Some(count) => {
            let from = match from {
                RevisionOption::Start(_) => From::Start,
                RevisionOption::End(_) | RevisionOption::Revision(u64::MAX) => From::End,
                RevisionOption::Revision(revision) => From::Revision(Revision(revision)),
            };
            let compatibility = options.control_option.map_or(0, |c| c.compatibility);
            let query = ReadStream { stream, from, direction: direction(options)?, count };
            Ok(Query::Stream { query, ends_told: compatibility >= 1 })
        }
        None if direction(options)? == Direction::Backwards => {
            Err(combination("stream, subscription, backwards"))
        }
        None => {
            let from = match from {
                RevisionOption::Start(_) => SubscribeFrom::Start,
                RevisionOption::End(_) | RevisionOption::Revision(u64::MAX) => SubscribeFrom::End,
                RevisionOption::Revision(revision) => SubscribeFrom::After(revision),
            };
            Ok(Query::FollowStream { stream, from })
        }
    }
}

fn all_query(store: &Door, target: AllOptions, options: &Options) -> Result<Query, Status> {
    let from = target.all_option.ok_or_else(|| missing("all_option"))?;
    let requested = requested_filter(options)?;
    let place = place(store, from);
    match count(options)? {
        Some(count) => {
            let from = match place {
                Some(Place::Start) => AllFrom::Start,
                Some(Place::End) => AllFrom::End,
                Some(Place::Event(position)) => AllFrom::Position(position),
                None => return Err(status::invalid_read_position(requested.is_some())),
            };
            let (key, filter) = match requested {
                Some(Requested::Index { key, .. }) => (Some(key), None),
                Some(Requested::Filter(requested)) => (None, Some(Arc::new(requested.filter))),
                None => (None, None),
            };
            let query = ReadAll { from, direction: direction(options)?, count, filter };
            Ok(Query::All { query, key })
        }
        None if direction(options)? == Direction::Backwards => {
            Err(combination("$all, subscription, backwards"))
        }
        None => {
            let from = match place {
                Some(Place::Start) => SubscribeFrom::Start,
                Some(Place::End) => SubscribeFrom::End,
                Some(Place::Event(position)) => SubscribeFrom::After(position.0),
                None => return Err(status::invalid_subscription_position()),
            };
            match requested {
                Some(Requested::Index { checkpoint_interval: 0, .. }) => {
                    Err(status::invalid_checkpoint_interval())
                }
                Some(Requested::Index { key, checkpoint_interval }) => {
                    Ok(Query::FollowIndexed { key, from, checkpoint_interval })
                }
                Some(Requested::Filter(requested)) => {
                    Ok(Query::FollowAll { from, filter: Some(subscription_filter(requested)?) })
                }
                None => Ok(Query::FollowAll { from, filter: None }),
            }
        }
    }
}

fn subscription_filter(requested: RequestedFilter) -> Result<SubscriptionFilter, Status> {
    if requested.checkpoint_interval == 0 {
        return Err(status::invalid_checkpoint_interval());
    }
    Ok(SubscriptionFilter {
        filter: Arc::new(requested.filter),
        checkpoint_interval: requested.checkpoint_interval,
    })
}

/// A place in the log.
enum Place {
    Start,
    End,
    Event(Position),
}

/// The place a request names; none if this store's history has no such place: beyond its end, or
/// written by another epoch than the number says, so from a history that a restore rewound.
fn place(store: &Door, from: AllOption) -> Option<Place> {
    let (commit, prepare) = match from {
        AllOption::Start(_) => return Some(Place::Start),
        AllOption::End(_) => return Some(Place::End),
        AllOption::Position(position) => (position.commit_position, position.prepare_position),
    };
    let written_by = |position: Position, epoch: u8| {
        store.epoch_at(position).is_some_and(|writer| writer.0 & 0xff == u32::from(epoch))
    };
    match position::from_request(commit, prepare) {
        // Also the number of the first event, if epochs are counted from 0.
        WirePosition::Start if written_by(Position::FIRST, 0) => {
            Some(Place::Event(Position::FIRST))
        }
        WirePosition::Start => Some(Place::Start),
        WirePosition::End => Some(Place::End),
        WirePosition::Event(position, epoch) => {
            written_by(position, epoch).then_some(Place::Event(position))
        }
        WirePosition::Impossible => None,
    }
}

/// How many events; none for a subscription.
fn count(options: &Options) -> Result<Option<u64>, Status> {
    match options.count_option {
        Some(CountOption::Count(count)) => Ok(Some(count)),
        Some(CountOption::Subscription(_)) => Ok(None),
        None => Err(missing("count_option")),
    }
}

fn direction(options: &Options) -> Result<Direction, Status> {
    match ReadDirection::try_from(options.read_direction) {
        Ok(ReadDirection::Forwards) => Ok(Direction::Forwards),
        Ok(ReadDirection::Backwards) => Ok(Direction::Backwards),
        Err(_) => Err(combination("read_direction")),
    }
}

/// Which part of the log is wanted.
enum Requested {
    Filter(RequestedFilter),
    Index { key: IndexKey, checkpoint_interval: u64 },
}

fn requested_filter(options: &Options) -> Result<Option<Requested>, Status> {
    let wanted = match &options.filter_option {
        None => return Err(missing("filter_option")),
        Some(FilterOption::NoFilter(_)) => return Ok(None),
        Some(FilterOption::Filter(wanted)) => wanted,
    };
    let Some(name) = filter::index_name(wanted) else {
        let filter = filter::from_proto(wanted).map_err(refuse)?;
        return Ok(Some(Requested::Filter(filter)));
    };
    let checkpoint_interval = filter::checkpoint_interval(wanted).map_err(refuse)?;
    let key = match filter::secondary_index(name) {
        Some(SecondaryIndex::Category(name)) => IndexKey::Category(name.to_owned()),
        Some(SecondaryIndex::EventType(name)) => IndexKey::EventType(name.to_owned()),
        Some(SecondaryIndex::All) => {
            let filter = Filter::regex(FilterTarget::StreamName, NOT_SYSTEM);
            let filter = filter.map_err(|e| refuse(e.into()))?;
            return Ok(Some(Requested::Filter(RequestedFilter { filter, checkpoint_interval })));
        }
        None => return Err(status::index_not_found(name)),
    };
    Ok(Some(Requested::Index { key, checkpoint_interval }))
}

/// What streams are called that are not the system's.
const NOT_SYSTEM: &str = "^[^$]";

fn refuse(error: InvalidRequest) -> Status {
    status::invalid(&error)
}

fn missing(field: &'static str) -> Status {
    refuse(InvalidRequest::Missing { field })
}

fn combination(parts: &'static str) -> Status {
    refuse(InvalidRequest::Combination { parts })
}
