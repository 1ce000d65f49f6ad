//! AppendRecords: records of any streams in any order, and checks, also of streams that are not
//! written; all in one message.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use daybook_model::ExpectedRevision;
use daybook_model::limits::{APPEND_STREAMS_MAX, RECORDS_MESSAGE_SIZE_MAX};
use daybook_store::{Append, EndedState, StreamCondition};
use daybook_wire::proto::streams_v2::consistency_check::{StreamStateCheck, Type};
use daybook_wire::proto::streams_v2::{
    AppendRecord, AppendRecordsRequest, AppendRecordsResponse, ConsistencyCheck, StreamRevision,
};
use daybook_wire::record::count::Shape;
use daybook_wire::record::{self, Expected, Violation};
use tonic::Status;

use super::{decoded, event, position, refusal};
use crate::grpc::call::{self, Messages};
use crate::grpc::streams::Room;

/// Answers AppendRecords.
pub async fn append(room: Room, request: Request<Body>) -> Response<Body> {
    let deadline = call::end(request.headers());
    let mut messages = Messages::up_to(RECORDS_MESSAGE_SIZE_MAX, request);
    let answer = call::within(deadline, async { run(&room, messages.only().await?).await });
    call::answered(answer.await)
}

async fn run(room: &Room, message: Bytes) -> Result<AppendRecordsResponse, Status> {
    let request: AppendRecordsRequest = decoded(message, Shape::Records)?;
    let mut held = room.budget.begin();
    let mut draft = Draft::default();
    if request.records.is_empty() {
        return Err(refuse(Violation::new("records", "give at least one")));
    }
    for (at, record) in request.records.into_iter().enumerate() {
        let field = format!("records[{at}]");
        let stream = draft.written(&record, &field)?;
        let name = draft.append.streams[stream as usize].stream.clone();
        let event = event(room, &mut held, record, name.as_str(), &field)?;
        draft.append.events.push((stream, event));
    }
    let written = draft.append.streams.len();
    for (at, check) in request.checks.into_iter().enumerate() {
        draft.check(at, check)?;
    }
    let Draft { append, ended, checks, .. } = draft;
    let streams: Vec<_> = append.streams.iter().map(|s| s.stream.clone()).collect();
    let appended = room.node.door().append_checked(append, ended).await;
    let appended = appended.map_err(|failed| refusal::records(failed, &streams, &checks))?;
    let revisions = streams.iter().zip(&appended.revisions).take(written);
    Ok(AppendRecordsResponse {
        revisions: revisions
            .filter_map(|(stream, revision)| {
                let stream = stream.as_str().to_owned();
                Some(StreamRevision { stream, revision: (*revision)?.0.cast_signed() })
            })
            .collect(),
        position: position(room, &appended),
    })
}

/// A check as the request has it: its place there, and the number of what it expects.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Its index among the request's checks.
    pub index: usize,
    /// What it expects.
    pub expected: i64,
}

/// An append in the making.
struct Draft {
    append: Append,
    ended: Vec<(u32, EndedState)>,
    /// The streams' indices in `append`.
    streams: BTreeMap<String, u32>,
    /// By index of the stream.
    checks: BTreeMap<usize, Check>,
}

impl Default for Draft {
    fn default() -> Draft {
        Draft {
            append: Append { streams: Default::default(), events: Vec::new() },
            ended: Vec::new(),
            streams: BTreeMap::new(),
            checks: BTreeMap::new(),
        }
    }
}

impl Draft {
    /// The index of the stream that `record` is for.
    fn written(&mut self, record: &AppendRecord, field: &str) -> Result<u32, Status> {
        self.stream(&record.stream, || format!("{field}.stream"))
    }

    fn stream(&mut self, name: &str, field: impl Fn() -> String) -> Result<u32, Status> {
        if let Some(index) = self.streams.get(name) {
            return Ok(*index);
        }
        let stream = record::stream(name, "")
            .map_err(|violation| refuse(Violation { field: field(), ..violation }))?;
        let index = self.append.streams.len();
        if index == APPEND_STREAMS_MAX {
            let reason = format!("an append may name {APPEND_STREAMS_MAX} streams; split it");
            return Err(refuse(Violation::new(field(), reason)));
        }
        // There are at most so many streams as an index can count.
        let index = index as u32;
        self.append.streams.push(StreamCondition { stream, expected: ExpectedRevision::Any });
        self.streams.insert(name.to_owned(), index);
        Ok(index)
    }

    fn check(&mut self, at: usize, check: ConsistencyCheck) -> Result<(), Status> {
        let field = |part: &str| format!("checks[{at}].{part}");
        let Some(Type::StreamState(StreamStateCheck { stream, expected_state })) = check.r#type
        else {
            return Err(refuse(Violation::new(field("type"), "set it")));
        };
        let index = self.stream(&stream, || field("stream_state.stream"))?;
        let checked = Check { index: at, expected: expected_state };
        if self.checks.insert(index as usize, checked).is_some() {
            let reason = format!("'{stream}' is checked twice; check it once");
            return Err(refuse(Violation::new(field("stream_state.stream"), reason)));
        }
        match record::expected(expected_state) {
            Some(Expected::Revision(ExpectedRevision::Any)) | None => {
                let reason = "give a revision, or -1 no stream, -4 exists, -5 deleted, \
                              -6 tombstoned";
                return Err(refuse(Violation::new(field("stream_state.expected_state"), reason)));
            }
            Some(Expected::Revision(expected)) => {
                self.append.streams[index as usize].expected = expected;
            }
            Some(Expected::Ended(state)) => self.ended.push((index, state)),
        }
        Ok(())
    }
}

fn refuse(violation: Violation) -> Status {
    refusal::bad_request(&violation)
}
