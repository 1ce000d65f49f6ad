//! Reading a stream, or `$all`, in either direction.
//!
//! A read is one call whose answer streams in as fast as its reader takes it: what is not yet taken
//! waits at the server, not here. Reads have no deadline of their own, because a scan of a large
//! log is as long as the log; wrap one in a timeout if it needs one.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use daybook_model::{FilterTarget, Revision, StreamName, TraceContext};
use daybook_wire::proto::shared::Empty;
use daybook_wire::proto::streams::ReadReq;
use daybook_wire::proto::streams::read_req::options::{
    AllOptions, ControlOption, CountOption, FilterOption, FilterOptions, ReadDirection,
    StreamOption, StreamOptions, UuidOption, all_options, filter_options, stream_options,
    uuid_option,
};
use daybook_wire::proto::streams::read_req::{Options, options::Position as WirePosition};
use futures_util::Stream;
use http::uri::PathAndQuery;
use tonic::Streaming;

use crate::connection::{ANSWER_SIZE_MAX, Client};
use crate::decode::{Message, ReadCodec};
use crate::error::{CallError, ReadError};
use crate::event::{Checkpoint, ResolvedEvent};
use crate::within::traced;

/// The path of the call.
const PATH: &str = "/event_store.client.streams.Streams/Read";
/// Events considered between two checkpoints, times a subscription's interval: KurrentDB's own.
pub(crate) const WINDOW: u32 = 32;

/// Which way a read goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// From older to newer.
    #[default]
    Forwards,
    /// From newer to older.
    Backwards,
}

/// Where in a stream a read begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamFrom {
    /// At the first event.
    #[default]
    Start,
    /// At the last event (backwards), or after it (forwards).
    End,
    /// At this revision, itself included.
    Revision(Revision),
}

/// Where in `$all` a read begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllFrom {
    /// At the first event.
    #[default]
    Start,
    /// At the last event (backwards), or after it (forwards).
    End,
    /// Forwards: at this place, itself included. Backwards: before it.
    At(Checkpoint),
}

/// Whether a link is delivered as it is, or followed to the event it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Links {
    /// A link is an event like any other.
    #[default]
    Keep,
    /// The event it names is delivered, and the link beside it.
    Resolve,
}

/// Which events of `$all` a reader wants. The server decides; it refuses what it cannot use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFilter {
    /// What of an event is looked at.
    pub target: FilterTarget,
    /// What it must look like.
    pub pattern: Pattern,
}

/// What a name must look like to be wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// It begins with one of these.
    Prefixes(Vec<String>),
    /// This regular expression matches somewhere in it.
    Regex(String),
}

/// A read of one stream: all of it, forwards, unless told otherwise.
#[derive(Clone, Debug)]
pub struct ReadStream {
    /// The stream.
    pub stream: StreamName,
    /// Where it begins.
    pub from: StreamFrom,
    /// Which way it goes.
    pub direction: Direction,
    /// At most so many events.
    pub count: u64,
    /// What becomes of links.
    pub links: Links,
}

impl ReadStream {
    /// A read of all of `stream`, forwards.
    #[must_use]
    pub fn new(stream: StreamName) -> ReadStream {
        ReadStream {
            stream,
            from: StreamFrom::Start,
            direction: Direction::Forwards,
            count: u64::MAX,
            links: Links::Keep,
        }
    }
}

/// A read of `$all`: all of it, forwards, unless told otherwise.
#[derive(Clone, Debug)]
pub struct ReadAll {
    /// Where it begins.
    pub from: AllFrom,
    /// Which way it goes.
    pub direction: Direction,
    /// At most so many events that the filter wants.
    pub count: u64,
    /// Which events it wants; all if none.
    pub filter: Option<EventFilter>,
    /// What becomes of links.
    pub links: Links,
}

impl Default for ReadAll {
    fn default() -> ReadAll {
        ReadAll {
            from: AllFrom::Start,
            direction: Direction::Forwards,
            count: u64::MAX,
            filter: None,
            links: Links::Keep,
        }
    }
}

impl Client {
    /// Reads a stream.
    ///
    /// ```no_run
    /// use daybook_client::{Client, ReadStream, StreamName};
    /// use futures_util::TryStreamExt as _;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::new("daybook://127.0.0.1:2113")?;
    /// let mut events = client.read_stream(ReadStream::new(StreamName::new("account-1")?)).await?;
    /// while let Some(resolved) = events.try_next().await? {
    ///     println!("{:?}", resolved.event);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ReadError`] if the call could not be begun. That the stream does not exist is the first
    /// thing that the answer itself says.
    pub async fn read_stream(&self, query: ReadStream) -> Result<Events, ReadError> {
        self.read_stream_traced(query, None).await
    }

    /// As [`Client::read_stream`], as a part of `trace`.
    pub(crate) async fn read_stream_traced(
        &self,
        query: ReadStream,
        trace: Option<&TraceContext>,
    ) -> Result<Events, ReadError> {
        let options = Options {
            stream_option: Some(stream_option(&query.stream, query.from)),
            read_direction: direction(query.direction),
            resolve_links: query.links == Links::Resolve,
            count_option: Some(CountOption::Count(query.count)),
            // From 1 on the server tells the stream's last revision.
            control_option: Some(ControlOption { compatibility: 1 }),
            ..plain_options()
        };
        let stream = Some(query.stream);
        let messages = self.read_traced(options, stream.as_ref(), trace).await?;
        Ok(Events { client: self.clone(), stream, messages: Some(messages), last_revision: None })
    }

    /// Reads `$all`.
    ///
    /// # Errors
    /// [`ReadError`] if the call could not be begun.
    pub async fn read_all(&self, query: ReadAll) -> Result<Events, ReadError> {
        self.read_all_traced(query, None).await
    }

    /// As [`Client::read_all`], as a part of `trace`.
    pub(crate) async fn read_all_traced(
        &self,
        query: ReadAll,
        trace: Option<&TraceContext>,
    ) -> Result<Events, ReadError> {
        let options = Options {
            stream_option: Some(all_option(query.from)),
            read_direction: direction(query.direction),
            resolve_links: query.links == Links::Resolve,
            count_option: Some(CountOption::Count(query.count)),
            filter_option: Some(filter_option(query.filter.as_ref(), 1)),
            ..plain_options()
        };
        let messages = self.read_traced(options, None, trace).await?;
        let (client, stream) = (self.clone(), None);
        Ok(Events { client, stream, messages: Some(messages), last_revision: None })
    }

    /// Begins the call that all reads and subscriptions are.
    pub(crate) async fn read(
        &self,
        options: Options,
        stream: Option<&StreamName>,
    ) -> Result<Streaming<Message>, ReadError> {
        self.read_traced(options, stream, None).await
    }

    /// As [`Client::read`], as a part of `trace`.
    async fn read_traced(
        &self,
        options: Options,
        stream: Option<&StreamName>,
        trace: Option<&TraceContext>,
    ) -> Result<Streaming<Message>, ReadError> {
        let mut grpc =
            tonic::client::Grpc::new(self.channel()).max_decoding_message_size(ANSWER_SIZE_MAX);
        grpc.ready().await.map_err(|error| {
            let reason = error.to_string();
            CallError::Unreachable { server: self.server().to_owned(), reason }
        })?;
        let request = traced(self.endless_call(ReadReq { options: Some(options) }), trace);
        let path = PathAndQuery::from_static(PATH);
        match grpc.server_streaming(request, path, ReadCodec).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(ReadError::from_status(&status, self.server(), stream)),
        }
    }
}

/// The events of a read, in reading order. After an error it ends.
#[derive(Debug)]
pub struct Events {
    client: Client,
    stream: Option<StreamName>,
    /// None once it has ended.
    messages: Option<Streaming<Message>>,
    last_revision: Option<Revision>,
}

impl Events {
    /// The revision of the stream's last event, once the read has come so far that the server said
    /// it.
    #[must_use]
    pub fn last_revision(&self) -> Option<Revision> {
        self.last_revision
    }
}

impl Stream for Events {
    type Item = Result<ResolvedEvent, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(messages) = self.messages.as_mut() else { return Poll::Ready(None) };
            let error = match ready!(Pin::new(messages).poll_next(cx)) {
                Some(Ok(Message::Event(event))) => return Poll::Ready(Some(Ok(event))),
                Some(Ok(Message::StreamNotFound)) => {
                    self.stream.clone().map(|stream| ReadError::StreamNotFound { stream })
                }
                Some(Ok(Message::LastRevision(revision))) => {
                    self.last_revision = Some(revision);
                    continue;
                }
                Some(Ok(_)) => continue,
                Some(Err(status)) => Some(ReadError::from_status(
                    &status,
                    self.client.server(),
                    self.stream.as_ref(),
                )),
                None => None,
            };
            self.messages = None;
            return Poll::Ready(error.map(Err));
        }
    }
}

/// What all reads have in common.
pub(crate) fn plain_options() -> Options {
    Options {
        filter_option: Some(FilterOption::NoFilter(Empty {})),
        uuid_option: Some(UuidOption { content: Some(uuid_option::Content::Structured(Empty {})) }),
        ..Options::default()
    }
}

fn direction(direction: Direction) -> i32 {
    match direction {
        Direction::Forwards => ReadDirection::Forwards.into(),
        Direction::Backwards => ReadDirection::Backwards.into(),
    }
}

pub(crate) fn stream_option(stream: &StreamName, from: StreamFrom) -> StreamOption {
    use stream_options::RevisionOption as From;
    StreamOption::Stream(StreamOptions {
        stream_identifier: Some(daybook_wire::stream::to_proto(stream)),
        revision_option: Some(match from {
            StreamFrom::Start => From::Start(Empty {}),
            StreamFrom::End => From::End(Empty {}),
            StreamFrom::Revision(revision) => From::Revision(revision.0),
        }),
    })
}

pub(crate) fn all_option(from: AllFrom) -> StreamOption {
    use all_options::AllOption as From;
    StreamOption::All(AllOptions {
        all_option: Some(match from {
            AllFrom::Start => From::Start(Empty {}),
            AllFrom::End => From::End(Empty {}),
            AllFrom::At(Checkpoint(number)) => {
                From::Position(WirePosition { commit_position: number, prepare_position: number })
            }
        }),
    })
}

/// `filter`, with a checkpoint each time `interval` windows of events were considered.
pub(crate) fn filter_option(filter: Option<&EventFilter>, interval: u32) -> FilterOption {
    let Some(filter) = filter else { return FilterOption::NoFilter(Empty {}) };
    let expression = match &filter.pattern {
        Pattern::Prefixes(prefixes) => {
            filter_options::Expression { regex: String::new(), prefix: prefixes.clone() }
        }
        Pattern::Regex(regex) => {
            filter_options::Expression { regex: regex.clone(), prefix: Vec::new() }
        }
    };
    FilterOption::Filter(FilterOptions {
        filter: Some(match filter.target {
            FilterTarget::StreamName => filter_options::Filter::StreamIdentifier(expression),
            FilterTarget::EventType => filter_options::Filter::EventType(expression),
        }),
        window: Some(filter_options::Window::Max(WINDOW)),
        checkpoint_interval_multiplier: interval,
    })
}
