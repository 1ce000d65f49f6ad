//! Append: options, then events, then the client's half-close, which commits. Protocol 5.5.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use daybook_model::{ExpectedRevision, Revision};
use daybook_store::{Append, AppendError, Appended};
use daybook_wire::proto::shared::Empty;
use daybook_wire::proto::streams::AppendResp;
use daybook_wire::proto::streams::append_resp::{
    Position, Result as Outcome, Success, WrongExpectedVersion, success, wrong_expected_version,
};
use daybook_wire::{AppendPart, append_part};
use tonic::Status;

use super::budget::Refused;
use super::{Room, shown_position};
use crate::grpc::call::{self, Messages};
use crate::grpc::status;
use crate::node::door::Works;

/// Answers Append.
pub async fn append(room: Room, request: Request<Body>) -> Response<Body> {
    let deadline = call::end(request.headers());
    let mut messages = Messages::new(request);
    call::answered(call::within(deadline, run(&room, &mut messages)).await)
}

async fn run(room: &Room, messages: &mut Messages) -> Result<AppendResp, Status> {
    let Some(first) = messages.next().await? else {
        return Err(Status::invalid_argument("the call has no message; send options first"));
    };
    let AppendPart::Options { stream, expected } = part(&first)? else {
        return Err(Status::invalid_argument("the first message has no options; send them first"));
    };
    let mut held = room.budget.begin();
    let mut events = Vec::with_capacity(1);
    while let Some(message) = messages.next().await? {
        let AppendPart::Event(event) = part(&message)? else {
            return Err(Status::invalid_argument("only the first message may have options"));
        };
        held.hold(&event).map_err(|refused| match refused {
            Refused::Append(failed) => status::append(failed),
            Refused::Busy => status::too_busy(),
        })?;
        events.push(event);
    }
    let store = room.node.door();
    let result = match store.append(Append::to_stream(stream, expected, events)).await {
        Ok(appended) => Outcome::Success(success(store, &appended)),
        Err(AppendError::WrongExpectedRevision { expected, actual, .. }) => {
            Outcome::WrongExpectedVersion(wrong_expected_version(expected, actual))
        }
        Err(failed) => return Err(status::append(failed)),
    };
    Ok(AppendResp { result: Some(result) })
}

fn part(message: &bytes::Bytes) -> Result<AppendPart, Status> {
    append_part(message).map_err(|error| status::invalid(&error))
}

fn success(store: &Works, appended: &Appended) -> Success {
    use success::{CurrentRevisionOption as Current, PositionOption};
    let revision = appended.revisions.first().copied().flatten();
    let position = appended.position.map_or(PositionOption::NoPosition(Empty {}), |position| {
        let number = shown_position(store, position);
        PositionOption::Position(Position { commit_position: number, prepare_position: number })
    });
    Success {
        current_revision_option: Some(
            revision.map_or(Current::NoStream(Empty {}), |r| Current::CurrentRevision(r.0)),
        ),
        position_option: Some(position),
    }
}

/// Says it twice: clients of version 20.6 know only the first two fields, in which "no stream
/// expected" is the largest revision.
fn wrong_expected_version(
    expected: ExpectedRevision,
    actual: Option<Revision>,
) -> WrongExpectedVersion {
    use wrong_expected_version::{
        CurrentRevisionOption as Current, CurrentRevisionOption2060 as OldCurrent,
        ExpectedRevisionOption as Expected, ExpectedRevisionOption2060 as OldExpected,
    };
    let (current, old_current) = match actual {
        Some(revision) => {
            (Current::CurrentRevision(revision.0), OldCurrent::CurrentRevision2060(revision.0))
        }
        None => (Current::CurrentNoStream(Empty {}), OldCurrent::NoStream2060(Empty {})),
    };
    let (expected, old_expected) = match expected {
        ExpectedRevision::Any => (Expected::ExpectedAny(Empty {}), OldExpected::Any2060(Empty {})),
        ExpectedRevision::NoStream => {
            (Expected::ExpectedNoStream(Empty {}), OldExpected::ExpectedRevision2060(u64::MAX))
        }
        ExpectedRevision::StreamExists => {
            (Expected::ExpectedStreamExists(Empty {}), OldExpected::StreamExists2060(Empty {}))
        }
        ExpectedRevision::Exact(revision) => {
            (Expected::ExpectedRevision(revision.0), OldExpected::ExpectedRevision2060(revision.0))
        }
    };
    WrongExpectedVersion {
        current_revision_option_20_6_0: Some(old_current),
        expected_revision_option_20_6_0: Some(old_expected),
        current_revision_option: Some(current),
        expected_revision_option: Some(expected),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_wrong_version_is_said_in_both_sets_of_fields() {
        let bytes = wrong_expected_version(ExpectedRevision::NoStream, Some(Revision(2)));
        let old_expected = [0x18, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        let mut expected = vec![0x08, 2];
        expected.extend_from_slice(&old_expected);
        expected.extend_from_slice(&[0x30, 2, 0x5a, 0]);
        assert_eq!(bytes.encode_to_vec(), expected);
        let bytes = wrong_expected_version(ExpectedRevision::Any, None);
        assert_eq!(bytes.encode_to_vec(), [0x12, 0, 0x22, 0, 0x3a, 0, 0x4a, 0]);
    }
}
