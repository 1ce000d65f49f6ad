//! Read: events of a stream or of the log, so many or for as long as the client wants.
//! Protocol sections 5.2 to 5.4.
//!
//! The answer is produced when HTTP/2 has room for it and not before: a slow client holds one page
//! and its own place in the log, nothing else. A client that goes away drops the answer, and with
//! it the reader or subscription.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use daybook_model::StreamName;
use daybook_store::{
    AllReader, Delivery, Direction, From, ReadAll, ReadError, ReadStream, StreamReader,
    Subscription,
};
use daybook_wire::proto::streams::ReadReq;
use daybook_wire::proto::streams::read_resp::{
    CaughtUp, Checkpoint, Content, Position, StreamNotFound, SubscriptionConfirmation,
};
use daybook_wire::{stream, time};
use futures_util::stream::{once, try_unfold};
use prost::Message as _;
use tonic::Status;

use super::plan::{Plan, Query, plan};
use super::show::{Show, message};
use super::{Room, shown_position};
use crate::grpc::call::{self, Messages};
use crate::grpc::status;
use crate::node::{Admitted, Context, Endless};

/// Answers Read.
pub async fn read(room: Room, request: Request<Body>) -> Response<Body> {
    let deadline = call::deadline(request.headers());
    let mut messages = Messages::new(request);
    let planned = call::within(deadline, async {
        let request = ReadReq::decode(messages.only().await?)
            .map_err(|error| status::invalid(&error.into()))?;
        begin(&room.node, request).await
    });
    match planned.await {
        Ok(Reading::Stream(scan)) => call::streamed(
            deadline,
            try_unfold(scan, |mut scan| async move {
                Ok(scan.next().await?.map(|messages| (messages, scan)))
            }),
        ),
        Ok(Reading::All(scan)) => call::streamed(
            deadline,
            try_unfold(scan, |mut scan| async move {
                Ok(scan.next().await?.map(|messages| (messages, scan)))
            }),
        ),
        Ok(Reading::Follow(follow)) => call::streamed(
            deadline,
            try_unfold(
                follow,
                |mut follow| async move { Ok(Some((follow.next().await?, follow))) },
            ),
        ),
        Ok(Reading::Nothing) => call::streamed(deadline, futures_util::stream::empty()),
        Ok(Reading::NotFound(stream)) => {
            call::streamed(deadline, once(async move { Ok(not_found(&stream)) }))
        }
        Err(status) => call::refused(&status),
    }
}

/// A Read that has begun. Boxed, because an answer's state is moved from frame to frame.
enum Reading {
    Stream(Box<StreamScan>),
    All(Box<AllScan>),
    Follow(Box<Follow>),
    Nothing,
    NotFound(StreamName),
}

async fn begin(context: &Admitted, request: ReadReq) -> Result<Reading, Status> {
    let store = context.door();
    let Plan { query, form, resolve_links } = plan(store, request)?;
    let show = Show::new(store.clone(), form, resolve_links);
    Ok(match query {
        Query::Stream { query: ReadStream { count: 0, .. }, .. } => Reading::Nothing,
        Query::Stream { query, ends_told } => {
            let ends = ends_told.then(|| Ends::asked(&query));
            match store.read_stream(query).await {
                Ok(reader) => {
                    let reader = if resolve_links { reader.following() } else { reader };
                    Reading::Stream(Box::new(StreamScan { reader, show, ends }))
                }
                Err(ReadError::StreamNotFound { stream }) => Reading::NotFound(stream),
                Err(failed) => return Err(status::read(failed)),
            }
        }
        Query::All { query: ReadAll { count: 0, .. }, .. } => Reading::Nothing,
        Query::All { query, key } => {
            let reader = match key {
                Some(key) => {
                    store.read_all_of(&key, query.from, query.direction, query.count).await
                }
                None => store.read_all(query).await,
            };
            let reader = reader.map_err(status::read)?;
            Reading::All(Box::new(AllScan { reader, show }))
        }
        Query::FollowStream { stream, from } => {
            let subscription = store.subscribe_stream(&stream, from).await;
            let subscription = subscription.map_err(status::read)?;
            let subscription = if resolve_links { subscription.following() } else { subscription };
            Reading::Follow(Box::new(Follow::new(context, subscription, show, Of::Stream)))
        }
        Query::FollowIndexed { key, from, checkpoint_interval } => {
            let subscription = store.subscribe_all_of(&key, from, checkpoint_interval).await;
            let subscription = subscription.map_err(status::read)?;
            Reading::Follow(Box::new(Follow::new(context, subscription, show, Of::All)))
        }
        Query::FollowAll { from, filter } => {
            let subscription = store.subscribe_all(from, filter).await;
            let subscription = subscription.map_err(status::read)?;
            Reading::Follow(Box::new(Follow::new(context, subscription, show, Of::All)))
        }
    })
}

/// A count read of the log.
struct AllScan {
    reader: AllReader,
    show: Show,
}

impl AllScan {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        match self.reader.next().await.map_err(status::read)? {
            Some(page) => self.show.page(&page).await.map(Some),
            None => Ok(None),
        }
    }
}

/// A count read of a stream.
struct StreamScan {
    reader: StreamReader,
    show: Show,
    /// None if the client does not want to know, or has been told.
    ends: Option<Ends>,
}

impl StreamScan {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if let Some(page) = self.reader.next().await.map_err(status::read)? {
            if let Some(ends) = &mut self.ends {
                ends.delivered += page.len() as u64;
                ends.last = page.numbered().next_back().map(|(number, _)| number);
            }
            return self.show.page(&page).await.map(Some);
        }
        let Some(ends) = self.ends.take() else { return Ok(None) };
        let first = self.reader.first_revision().map(|revision| revision.0);
        let last = self.reader.last_revision().map(|revision| revision.0);
        Ok(ends.told(first, last))
    }
}

/// What a client with compatibility 1 is told when its read of a stream is over.
struct Ends {
    /// Where it began, if it named a revision or the start.
    asked: Option<u64>,
    forwards: bool,
    count: u64,
    delivered: u64,
    last: Option<u64>,
}

impl Ends {
    fn asked(query: &ReadStream) -> Ends {
        let asked = match query.from {
            From::Start => Some(0),
            From::Revision(revision) => Some(revision.0),
            From::End => None,
        };
        let forwards = query.direction == Direction::Forwards;
        Ends { asked, forwards, count: query.count, delivered: 0, last: None }
    }

    /// The first revision that can be seen, if nothing was found where the client began; the last
    /// revision, if the stream's end was reached.
    fn told(&self, first: Option<u64>, head: Option<u64>) -> Option<Bytes> {
        let mut buf = bytes::BytesMut::new();
        let mut tell = |content| {
            let response = daybook_wire::proto::streams::ReadResp { content: Some(content) };
            daybook_wire::frame::put_message(&response, &mut buf);
        };
        if let (true, 0, Some(asked), Some(first)) =
            (self.forwards, self.delivered, self.asked, first)
            && first > asked
        {
            tell(Content::FirstStreamPosition(first));
        }
        let exhausted = self.delivered < self.count || (self.forwards && self.last == head);
        if let (true, Some(head)) = (exhausted, head) {
            tell(Content::LastStreamPosition(head));
        }
        (!buf.is_empty()).then(|| buf.freeze())
    }
}

fn not_found(name: &StreamName) -> Bytes {
    let stream_identifier = Some(stream::to_proto(name));
    message(Content::StreamNotFound(StreamNotFound { stream_identifier }))
}

/// What a subscription follows: it decides what its numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Stream,
    All,
}

/// A subscription.
struct Follow {
    context: Context,
    subscription: Subscription,
    show: Show,
    of: Of,
    confirmed: bool,
    _endless: Endless,
}

impl Follow {
    fn new(context: &Context, subscription: Subscription, show: Show, of: Of) -> Follow {
        let endless = context.endless();
        let context = context.clone();
        Follow { context, subscription, show, of, confirmed: false, _endless: endless }
    }

    async fn next(&mut self) -> Result<Bytes, Status> {
        if !self.confirmed {
            self.confirmed = true;
            let subscription_id = self.context.new_id().to_string();
            let confirmation = SubscriptionConfirmation { subscription_id };
            return Ok(message(Content::Confirmation(confirmation)));
        }
        loop {
            match self.subscription.next().await.map_err(status::read)? {
                Delivery::Events(page) if page.is_empty() => {}
                Delivery::Events(page) => return self.show.page(&page).await,
                Delivery::Checkpoint { position, time: at } => {
                    let number = shown_position(self.context.works(), position);
                    return Ok(message(Content::Checkpoint(Checkpoint {
                        commit_position: number,
                        prepare_position: number,
                        timestamp: Some(time::to_proto(at)),
                    })));
                }
                Delivery::CaughtUp { at, time: when } => {
                    let caught_up = self.caught_up(at, time::to_proto(when));
                    return Ok(message(Content::CaughtUp(caught_up)));
                }
            }
        }
    }

    fn caught_up(&self, at: Option<u64>, timestamp: prost_types::Timestamp) -> CaughtUp {
        let mut caught_up = CaughtUp { timestamp: Some(timestamp), ..CaughtUp::default() };
        match (self.of, at) {
            (_, None) => {}
            (Of::Stream, Some(revision)) => {
                caught_up.stream_revision = Some(revision.cast_signed());
            }
            (Of::All, Some(position)) => {
                let position = daybook_model::Position(position);
                let number = shown_position(self.context.works(), position);
                let shown = Position { commit_position: number, prepare_position: number };
                caught_up.position = Some(shown);
            }
        }
        caught_up
    }
}

#[cfg(test)]
mod tests {
    use daybook_wire::frame::PREFIX_SIZE;

    use super::*;

    fn ends(from: From, direction: Direction, count: u64) -> Ends {
        let stream = StreamName::new("s").expect("a name");
        Ends::asked(&ReadStream { stream, from, direction, count })
    }

    fn told(ends: &Ends, first: u64, head: u64) -> Vec<(u8, u8)> {
        let Some(bytes) = ends.told(Some(first), Some(head)) else { return Vec::new() };
        // Each message is a prefix, a key of one byte and a number of one byte.
        bytes.chunks(PREFIX_SIZE + 2).map(|m| (m[PREFIX_SIZE] >> 3, m[PREFIX_SIZE + 1])).collect()
    }

    #[test]
    fn a_client_is_told_where_the_stream_ends_when_it_was_reached() {
        let mut all = ends(From::Start, Direction::Forwards, u64::MAX);
        all.delivered = 3;
        all.last = Some(2);
        assert_eq!(told(&all, 0, 2), [(6, 2)]);
        let mut some = ends(From::Start, Direction::Forwards, 2);
        some.delivered = 2;
        some.last = Some(1);
        assert_eq!(told(&some, 0, 2), []);
        some.last = Some(2);
        assert_eq!(told(&some, 0, 2), [(6, 2)]);
        let beyond = ends(From::Revision(daybook_model::Revision(9)), Direction::Forwards, 5);
        assert_eq!(told(&beyond, 0, 2), [(6, 2)]);
    }

    #[test]
    fn a_client_that_began_before_what_can_be_seen_is_told_where_that_begins() {
        let hidden = ends(From::Start, Direction::Forwards, 5);
        assert_eq!(told(&hidden, 3, 2), [(5, 3), (6, 2)]);
        let backwards = ends(From::End, Direction::Backwards, 5);
        assert_eq!(told(&backwards, 3, 2), [(6, 2)]);
    }
}
