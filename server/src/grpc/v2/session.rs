//! AppendSession: each message writes to a stream of its own, and the client's half-close commits
//! all of them.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use daybook_model::limits::{APPEND_STREAMS_MAX, RECORDS_MESSAGE_SIZE_MAX};
use daybook_model::{ExpectedRevision, Revision, StreamName};
use daybook_store::{Append, Appended, StreamCondition};
use daybook_wire::proto::streams_v2::{AppendRequest, AppendResponse, AppendSessionResponse};
use daybook_wire::record::count::Shape;
use daybook_wire::record::{self, Expected, Violation};
use tonic::Status;

use super::{decoded, event, position, refusal};
use crate::grpc::call::{self, Messages};
use crate::grpc::streams::budget::Held;
use crate::grpc::streams::{Room, shown_position};

/// Answers AppendSession.
pub async fn append(room: Room, request: Request<Body>) -> Response<Body> {
    let deadline = call::end(request.headers());
    let mut messages = Messages::up_to(RECORDS_MESSAGE_SIZE_MAX, request);
    call::answered(call::within(deadline, run(&room, &mut messages)).await)
}

async fn run(room: &Room, messages: &mut Messages) -> Result<AppendSessionResponse, Status> {
    let mut session = Session {
        room,
        held: room.budget.begin(),
        append: Append { streams: Default::default(), events: Vec::new() },
        named: BTreeSet::new(),
    };
    while let Some(message) = messages.next().await? {
        session.take(decoded(message, Shape::Session)?)?;
    }
    let Session { append, held, .. } = session;
    if append.streams.is_empty() {
        return Err(refusal::no_requests());
    }
    let streams: Vec<StreamName> = append.streams.iter().map(|s| s.stream.clone()).collect();
    let appended = room.node.door().append(append).await;
    let appended = appended.map_err(|failed| refusal::append(failed, &streams))?;
    drop(held);
    answer(room, &streams, &appended).await
}

/// What was received so far.
struct Session<'a> {
    room: &'a Room,
    held: Held,
    append: Append,
    /// The streams, in lower case: the protocol compares them so.
    named: BTreeSet<String>,
}

impl Session<'_> {
    fn take(&mut self, request: AppendRequest) -> Result<(), Status> {
        let refuse = |violation: Violation| refusal::bad_request(&violation);
        let stream = record::stream(&request.stream, "stream").map_err(refuse)?;
        if !self.named.insert(stream.as_str().to_lowercase()) {
            return Err(refusal::stream_named_twice(&stream));
        }
        let index = self.append.streams.len();
        if index == APPEND_STREAMS_MAX {
            let reason = format!("a session may write to {APPEND_STREAMS_MAX} streams; split it");
            return Err(refuse(Violation::new("stream", reason)));
        }
        let expected = match request.expected_revision.map(record::expected) {
            None => ExpectedRevision::Any,
            Some(Some(Expected::Revision(expected))) => expected,
            Some(_) => {
                let reason = "give a revision, or -1 no stream, -2 any, -4 exists";
                return Err(refuse(Violation::new("expected_revision", reason)));
            }
        };
        if request.records.is_empty() {
            return Err(refuse(Violation::new("records", "give at least one")));
        }
        for (at, record) in request.records.into_iter().enumerate() {
            let field = format!("records[{at}]");
            let event = event(self.room, &mut self.held, record, stream.as_str(), &field)?;
            // There are at most so many streams as an index can count.
            self.append.events.push((index as u32, event));
        }
        self.append.streams.push(StreamCondition { stream, expected });
        Ok(())
    }
}

async fn answer(
    room: &Room,
    streams: &[StreamName],
    appended: &Appended,
) -> Result<AppendSessionResponse, Status> {
    let mut output = Vec::with_capacity(streams.len());
    for (stream, revision) in streams.iter().zip(&appended.revisions) {
        let Some(revision) = *revision else { continue };
        output.push(AppendResponse {
            stream: stream.as_str().to_owned(),
            stream_revision: revision.0.cast_signed(),
            position: position_of(room, stream, revision).await,
        });
    }
    Ok(AppendSessionResponse { output, position: position(room, appended) })
}

/// The number of the position of an event that was just written; none if it is hidden already.
async fn position_of(room: &Room, stream: &StreamName, revision: Revision) -> Option<i64> {
    // The caller has just written it; whether it may read is not asked.
    let store = room.node.own_door();
    let page = store.read_event(stream, revision).await.ok().flatten()?;
    Some(shown_position(&store, page.last()?.position).cast_signed())
}
