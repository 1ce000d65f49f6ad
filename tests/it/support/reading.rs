//! Reads as the protocol has them: every message of the answer, shown as a line.

use std::net::SocketAddr;

use daybook_wire::proto::shared::Empty;
use daybook_wire::proto::streams::read_req::options::{
    AllOptions, ControlOption, CountOption, FilterOption, FilterOptions, ReadDirection,
    StreamOption, StreamOptions, SubscriptionOptions, UuidOption, all_options,
    filter_options::{self, Expression},
    stream_options, uuid_option,
};
use daybook_wire::proto::streams::read_req::{Options, options};
use daybook_wire::proto::streams::read_resp::{Content, ReadEvent, read_event::RecordedEvent};
use daybook_wire::proto::streams::{ReadReq, ReadResp};
use tonic::Status;

use super::protocol::{raw_client, stream_identifier};
use super::soon;

/// A Read that can be changed.
#[derive(Clone, Debug)]
pub struct Ask(pub Options);

impl Ask {
    /// All of a stream, forwards.
    pub fn stream(name: &str) -> Ask {
        Ask::of(StreamOption::Stream(StreamOptions {
            stream_identifier: Some(stream_identifier(name.as_bytes())),
            revision_option: Some(stream_options::RevisionOption::Start(Empty {})),
        }))
    }

    /// All of the log, forwards.
    pub fn all() -> Ask {
        let start = Some(all_options::AllOption::Start(Empty {}));
        Ask::of(StreamOption::All(AllOptions { all_option: start }))
    }

    fn of(target: StreamOption) -> Ask {
        let content = Some(uuid_option::Content::String(Empty {}));
        Ask(Options {
            stream_option: Some(target),
            read_direction: ReadDirection::Forwards as i32,
            count_option: Some(CountOption::Count(u64::MAX)),
            filter_option: Some(FilterOption::NoFilter(Empty {})),
            uuid_option: Some(UuidOption { content }),
            ..Options::default()
        })
    }

    /// From a revision, or a wire position of the log, on.
    pub fn from(mut self, number: u64) -> Ask {
        match self.0.stream_option.as_mut().expect("a target") {
            StreamOption::Stream(stream) => {
                stream.revision_option = Some(stream_options::RevisionOption::Revision(number));
            }
            StreamOption::All(all) => {
                let (commit_position, prepare_position) = (number, number);
                let place = options::Position { commit_position, prepare_position };
                all.all_option = Some(all_options::AllOption::Position(place));
            }
        }
        self
    }

    /// From the end on.
    pub fn at_the_end(mut self) -> Ask {
        match self.0.stream_option.as_mut().expect("a target") {
            StreamOption::Stream(stream) => {
                stream.revision_option = Some(stream_options::RevisionOption::End(Empty {}));
            }
            StreamOption::All(all) => {
                all.all_option = Some(all_options::AllOption::End(Empty {}));
            }
        }
        self
    }

    /// From newer to older.
    pub fn backwards(mut self) -> Ask {
        self.0.read_direction = ReadDirection::Backwards as i32;
        self
    }

    /// At most so many events.
    pub fn count(mut self, count: u64) -> Ask {
        self.0.count_option = Some(CountOption::Count(count));
        self
    }

    /// For as long as the client wants.
    pub fn follow(mut self) -> Ask {
        self.0.count_option = Some(CountOption::Subscription(SubscriptionOptions {}));
        self
    }

    /// With links followed.
    pub fn resolved(mut self) -> Ask {
        self.0.resolve_links = true;
        self
    }

    /// And tell where the stream begins and ends.
    pub fn told(mut self) -> Ask {
        self.0.control_option = Some(ControlOption { compatibility: 1 });
        self
    }

    /// Only streams that begin so; a checkpoint each `interval` events.
    pub fn streams(self, prefix: &str, interval: u32) -> Ask {
        let expression = Expression { regex: String::new(), prefix: vec![prefix.to_owned()] };
        self.filtered(filter_options::Filter::StreamIdentifier(expression), interval)
    }

    /// Only types that match; a checkpoint each `interval` events.
    pub fn types(self, regex: &str, interval: u32) -> Ask {
        let expression = Expression { regex: regex.to_owned(), prefix: Vec::new() };
        self.filtered(filter_options::Filter::EventType(expression), interval)
    }

    fn filtered(mut self, filter: filter_options::Filter, interval: u32) -> Ask {
        self.0.filter_option = Some(FilterOption::Filter(FilterOptions {
            filter: Some(filter),
            window: Some(filter_options::Window::Max(1)),
            checkpoint_interval_multiplier: interval,
        }));
        self
    }

    /// The answer up to its end, or to the first message that `last` accepts.
    pub async fn until(
        self,
        address: SocketAddr,
        last: impl Fn(&Content) -> bool,
    ) -> Result<Vec<Content>, Status> {
        let request = ReadReq { options: Some(self.0) };
        let asking = async {
            let mut answer = raw_client(address).await.read(request).await?.into_inner();
            let mut all = Vec::new();
            while let Some(ReadResp { content }) = answer.message().await? {
                let content = content.expect("a content");
                let over = last(&content);
                all.push(content);
                if over {
                    break;
                }
            }
            Ok(all)
        };
        soon("the answer to a Read", asking).await
    }

    /// The whole answer.
    pub async fn answer(self, address: SocketAddr) -> Result<Vec<Content>, Status> {
        self.until(address, |_| false).await
    }

    /// The whole answer as lines.
    pub async fn lines(self, address: SocketAddr) -> Vec<String> {
        self.answer(address).await.expect("an answer").iter().map(line).collect()
    }

    /// What a subscription brings until it has caught up, as lines.
    pub async fn caught_up(self, address: SocketAddr) -> Vec<String> {
        let answer = self.follow().until(address, |c| matches!(c, Content::CaughtUp(_))).await;
        answer.expect("an answer").iter().map(line).collect()
    }

    /// Why it is refused.
    pub async fn refused(self, address: SocketAddr) -> Status {
        self.answer(address).await.expect_err("a refusal")
    }
}

/// A message as a line: an event is `<revision>@<stream> <type>`, and its link stands behind `<-`.
pub fn line(content: &Content) -> String {
    match content {
        Content::Event(ReadEvent { event, link, .. }) => match (event, link) {
            (Some(event), None) => shown(event),
            (event, Some(link)) => {
                let event = event.as_ref().map_or_else(|| "gone".to_owned(), shown);
                format!("{event} <- {}", shown(link))
            }
            (None, None) => "nothing".to_owned(),
        },
        Content::Confirmation(_) => "confirmed".to_owned(),
        Content::Checkpoint(checkpoint) => format!("checkpoint {}", checkpoint.commit_position),
        Content::StreamNotFound(_) => "not found".to_owned(),
        Content::FirstStreamPosition(first) => format!("first {first}"),
        Content::LastStreamPosition(last) => format!("last {last}"),
        Content::LastAllStreamPosition(_) => "last of all".to_owned(),
        Content::CaughtUp(at) => match (at.stream_revision, &at.position) {
            (Some(revision), None) => format!("caught up at revision {revision}"),
            (None, Some(place)) => format!("caught up at position {}", place.commit_position),
            (None, None) => "caught up".to_owned(),
            both => format!("caught up {both:?}"),
        },
        Content::FellBehind(_) => "fell behind".to_owned(),
    }
}

fn shown(event: &RecordedEvent) -> String {
    let name = event.stream_identifier.as_ref().expect("a stream").stream_name.clone();
    let name = String::from_utf8(name.into()).expect("text");
    let kind = &event.metadata["type"];
    let text = if kind == "$>" || kind == "$@" {
        format!(" {}", String::from_utf8_lossy(&event.data))
    } else {
        String::new()
    };
    format!("{}@{name} {kind}{text}", event.stream_revision)
}
