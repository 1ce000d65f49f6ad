//! Appending to several streams at once, and checking others: all of it or nothing.
//!
//! ```text
//!   Append::to_streams([(stream, expected, events), …])   what is written
//!         .and_check(stream, expected)                    what must hold beside it
//!   client.append_to_streams(append) ──> AppendRecords ──> revisions, checkpoint
//! ```
//!
//! This call knows records, not events: an event's metadata must be a JSON object, and is given the
//! schema's name and format (`$schema.name`, `$schema.format`) beside its own keys.

use std::collections::BTreeMap;

use daybook_model::append::{Append, FailedCheck, FoundState};
use daybook_model::limits::{EVENT_SIZE_MAX, RECORDS_MESSAGE_SIZE_MAX};
use daybook_model::{ExpectedRevision, Revision, StreamName, TraceContext};
use daybook_wire::detailed::{Detailed, STREAMS_ERRORS};
use daybook_wire::proto::streams_v2::consistency_check::{StreamStateCheck, Type};
use daybook_wire::proto::streams_v2::errors as details;
use daybook_wire::proto::streams_v2::errors::consistency_violation::Type as Violated;
use daybook_wire::proto::streams_v2::streams_service_client::StreamsServiceClient;
use daybook_wire::proto::streams_v2::{
    AppendRecordsRequest, AppendRecordsResponse, ConsistencyCheck,
};
use daybook_wire::record;
use prost::Message;
use tonic::{Code, Status};

use crate::connection::Client;
use crate::error::{AppendError, CallError, reason};
use crate::event::Checkpoint;
use crate::within::traced;

/// A durable append to several streams. For a retry that was recognised by its ids: the first one's
/// answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendedToStreams {
    /// The revision of the last event of each stream that was written.
    pub revisions: BTreeMap<StreamName, Revision>,
    /// The place in `$all` of the last event written.
    pub checkpoint: Checkpoint,
}

impl Client {
    /// Appends to several streams if each of them, and each that is only checked, is where it is
    /// expected; all events or none.
    ///
    /// ```no_run
    /// use daybook_client::{Append, Client, ExpectedRevision, NewEvent, Revision, StreamName};
    /// use uuid::Uuid;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::new("daybook://127.0.0.1:2113")?;
    /// let [order, stock, prices] = ["order-7", "stock-3", "prices-1"].map(StreamName::new);
    /// let placed = NewEvent::json(Uuid::new_v4(), "OrderPlaced", r#"{"item":3}"#);
    /// let reserved = NewEvent::json(Uuid::new_v4(), "ItemReserved", r#"{"order":7}"#);
    /// let append = Append::to_streams([
    ///     (order?, ExpectedRevision::NoStream, vec![placed]),
    ///     (stock?, ExpectedRevision::Exact(Revision(41)), vec![reserved]),
    /// ])
    /// .and_check(prices?, ExpectedRevision::Exact(Revision(12)));
    /// let appended = client.append_to_streams(append).await?;
    /// println!("{:?}", appended.revisions);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AppendError`]; only after [`AppendError::Unknown`] something may have been written.
    /// [`AppendError::ChecksFailed`] names all streams that are not where they were expected.
    /// [`CallError::Unsupported`] from a server that does not know this call.
    pub async fn append_to_streams(
        &self,
        append: Append,
    ) -> Result<AppendedToStreams, AppendError> {
        self.append_to_streams_traced(append, None).await
    }

    /// As [`Client::append_to_streams`], as a part of `trace`.
    pub(crate) async fn append_to_streams_traced(
        &self,
        append: Append,
        trace: Option<&TraceContext>,
    ) -> Result<AppendedToStreams, AppendError> {
        let (request, checked) = request(append)?;
        let mut calls =
            StreamsServiceClient::new(self.channel()).max_encoding_message_size(usize::MAX);
        match calls.append_records(traced(self.call(request), trace)).await {
            Ok(answer) => read_answer(answer.into_inner()),
            Err(status) => Err(refused(&status, self.server(), &checked)),
        }
    }
}

/// What is asked of the server, and of each of its checks: the index of its stream in the append,
/// and the stream.
type Checked = Vec<(usize, StreamName)>;

fn request(append: Append) -> Result<(AppendRecordsRequest, Checked), AppendError> {
    let mut request = AppendRecordsRequest::default();
    let mut checked = Vec::new();
    for (index, condition) in append.streams.iter().enumerate() {
        if condition.expected == ExpectedRevision::Any {
            continue;
        }
        let check = StreamStateCheck {
            stream: condition.stream.as_str().to_owned(),
            expected_state: condition.expected.code(),
        };
        request.checks.push(ConsistencyCheck { r#type: Some(Type::StreamState(check)) });
        checked.push((index, condition.stream.clone()));
    }
    for (index, event) in append.events {
        let Some(condition) = append.streams.get(index as usize) else {
            return Err(invalid("an event is of a stream that the append does not name"));
        };
        event.check()?;
        let id = event.id;
        let record = record::from_event(event, &condition.stream)
            .map_err(|violation| invalid(&format!("event {id}: {violation}")))?;
        request.records.push(record);
    }
    let size = request.encoded_len();
    if size > RECORDS_MESSAGE_SIZE_MAX {
        let reason = format!(
            "all of it is one message of {size} bytes, and one may have {RECORDS_MESSAGE_SIZE_MAX}"
        );
        return Err(AppendError::TooLarge { reason });
    }
    Ok((request, checked))
}

fn invalid(reason: &str) -> AppendError {
    CallError::Invalid { reason: reason.to_owned() }.into()
}

fn read_answer(answer: AppendRecordsResponse) -> Result<AppendedToStreams, AppendError> {
    let bad = |reason: String| AppendError::from(CallError::BadAnswer { reason });
    let mut revisions = BTreeMap::new();
    for told in answer.revisions {
        let stream = StreamName::new(&told.stream).map_err(|e| bad(e.to_string()))?;
        let revision = u64::try_from(told.revision)
            .map_err(|_| bad(format!("revision {} of stream '{stream}'", told.revision)))?;
        revisions.insert(stream, Revision(revision));
    }
    let position =
        u64::try_from(answer.position).map_err(|_| bad(format!("position {}", answer.position)))?;
    Ok(AppendedToStreams { revisions, checkpoint: Checkpoint(position) })
}

/// What a refusal means. Its typed detail tells more than its code.
fn refused(status: &Status, server: &str, checked: &Checked) -> AppendError {
    let detail = status.details();
    if let Some(violated) = find(detail, "AppendConsistencyViolationErrorDetails") {
        return AppendError::ChecksFailed { failed: failed_checks(violated, checked) };
    }
    if let Some(conflict) = find(detail, "StreamRevisionConflictErrorDetails") {
        let conflict: details::StreamRevisionConflictErrorDetails = conflict;
        if let Ok(stream) = StreamName::new(&conflict.stream) {
            let actual = u64::try_from(conflict.actual_revision).ok().map(Revision);
            // The streams with another expectation are checked, and fail as checks.
            let expected = ExpectedRevision::Any;
            return AppendError::WrongExpectedRevision { stream, expected, actual };
        }
    }
    let tombstoned = find(detail, "StreamTombstonedErrorDetails");
    if let Some(details::StreamTombstonedErrorDetails { stream }) = tombstoned
        && let Ok(stream) = StreamName::new(&stream)
    {
        return AppendError::StreamDeleted { stream };
    }
    let too_large: [&str; 2] =
        ["AppendTransactionSizeExceededErrorDetails", "AppendRecordSizeExceededErrorDetails"];
    if too_large.iter().any(|name| find::<Anything>(detail, name).is_some()) {
        return AppendError::TooLarge { reason: reason(status) };
    }
    // An answer of the server's own about its message limit; nothing was done.
    if status.code() == Code::ResourceExhausted && status.message().contains("larger than max") {
        return AppendError::TooLarge { reason: reason(status) };
    }
    AppendError::of_status(status, server)
}

/// A message of which only its presence matters.
#[derive(Clone, PartialEq, Message)]
struct Anything {}

fn find<M: Message + Default>(detail: &[u8], name: &str) -> Option<M> {
    if detail.is_empty() {
        return None;
    }
    Detailed::find(detail, STREAMS_ERRORS, name)
}

fn failed_checks(
    violated: details::AppendConsistencyViolationErrorDetails,
    checked: &Checked,
) -> Vec<FailedCheck> {
    let of_check = |violation: details::ConsistencyViolation| {
        let at = usize::try_from(violation.check_index).ok()?;
        let (index, stream) = checked.get(at)?.clone();
        let Violated::StreamState(state) = violation.r#type?;
        let found = FoundState::of_code(state.actual_state)?;
        Some(FailedCheck { index, stream, found })
    };
    violated.violations.into_iter().filter_map(of_check).collect()
}

const _: () = assert!(EVENT_SIZE_MAX < RECORDS_MESSAGE_SIZE_MAX);

#[cfg(test)]
mod tests {
    use daybook_model::NewEvent;
    use daybook_wire::detailed::Domain;
    use tonic::metadata::MetadataMap;
    use uuid::Uuid;

    use super::*;

    fn name(text: &str) -> StreamName {
        StreamName::new(text).expect("a name")
    }

    fn append() -> Append {
        let event = |id| NewEvent::json(Uuid::from_u128(id), "Happened", "{}");
        Append::to_streams([
            (name("a-1"), ExpectedRevision::Any, vec![event(1)]),
            (name("b-1"), ExpectedRevision::NoStream, vec![event(2)]),
        ])
        .and_check(name("c-1"), ExpectedRevision::Exact(Revision(4)))
    }

    #[test]
    fn what_is_expected_becomes_a_check_and_what_is_not_does_not() {
        let (request, checked) = request(append()).expect("a request");
        assert_eq!(checked, [(1, name("b-1")), (2, name("c-1"))]);
        let expected: Vec<i64> = request
            .checks
            .iter()
            .map(|check| {
                let Some(Type::StreamState(state)) = &check.r#type else { panic!("{check:?}") };
                state.expected_state
            })
            .collect();
        assert_eq!(expected, [-1, 4]);
        let streams: Vec<&str> = request.records.iter().map(|r| r.stream.as_str()).collect();
        assert_eq!(streams, ["a-1", "b-1"]);
    }

    #[test]
    fn what_cannot_be_sent_is_refused_before_it_is() {
        let mut astray = append();
        astray.events[0].0 = 7;
        let mut listed = append();
        listed.events[0].1.metadata = "[]".into();
        for bad in [astray, listed] {
            let refused = request(bad).expect_err("refused");
            assert!(matches!(refused, AppendError::Call(CallError::Invalid { .. })), "{refused:?}");
        }
        let mut large = append();
        for (_, event) in &mut large.events {
            event.data = vec![b'x'; RECORDS_MESSAGE_SIZE_MAX / 2].into();
        }
        let refused = request(large).expect_err("refused");
        assert!(matches!(refused, AppendError::TooLarge { .. }), "{refused:?}");
    }

    #[test]
    fn refusals_are_told_apart_by_their_details() {
        let checked = vec![(1, name("b-1")), (2, name("c-1"))];
        let said = |code: Code, what: &str, detail: &dyn Fn(Detailed) -> Detailed| {
            let error = detail(Detailed::new(code.into(), what.to_owned(), Domain::Streams, what));
            Status::with_details_and_metadata(code, what, error.to_bytes(), MetadataMap::new())
        };
        let state = details::consistency_violation::StreamStateViolation {
            stream: "c-1".to_owned(),
            expected_state: 4,
            actual_state: -6,
        };
        let violation = details::ConsistencyViolation {
            check_index: 1,
            r#type: Some(Violated::StreamState(state)),
        };
        let violated =
            details::AppendConsistencyViolationErrorDetails { violations: vec![violation] };
        let status = said(Code::FailedPrecondition, "checks", &|error| {
            error.with(STREAMS_ERRORS, "AppendConsistencyViolationErrorDetails", &violated)
        });
        let failed =
            vec![FailedCheck { index: 2, stream: name("c-1"), found: FoundState::Tombstoned }];
        assert_eq!(refused(&status, "s", &checked), AppendError::ChecksFailed { failed });

        let large = details::AppendTransactionSizeExceededErrorDetails { size: 2, max_size: 1 };
        let status = said(Code::Aborted, "large", &|error| {
            error.with(STREAMS_ERRORS, "AppendTransactionSizeExceededErrorDetails", &large)
        });
        let refusal = refused(&status, "s", &checked);
        assert!(matches!(refusal, AppendError::TooLarge { .. }), "{refusal:?}");

        let refusal = refused(&Status::aborted("late"), "s", &checked);
        assert!(matches!(refusal, AppendError::Unknown { .. }), "{refusal:?}");
        let refusal = refused(&Status::unimplemented("no"), "s", &checked);
        assert!(matches!(refusal, AppendError::Call(CallError::Unsupported { .. })));
    }
}
