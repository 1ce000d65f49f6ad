//! Appends to several streams at once over gRPC: what is written, what is refused and how, and that
//! a refusal leaves nothing behind. The official clients' own view of it is in `tests/interop`.

use bytes::Bytes;
use daybook_client::{Append, AppendError, Checkpoint, FoundState, ReadStream};
use daybook_model::limits::{APPEND_SIZE_MAX, EVENT_SIZE_MAX};
use daybook_model::{EventStore as _, ExpectedRevision, Revision};
use daybook_wire::detailed::{Detailed, SERVER_ERRORS, STANDARD, STREAMS_ERRORS};
use daybook_wire::proto::rich::{BadRequest, ErrorInfo};
use daybook_wire::proto::server_errors::AccessDeniedErrorDetails;
use daybook_wire::proto::streams_v2::consistency_check::{StreamStateCheck, Type};
use daybook_wire::proto::streams_v2::errors::consistency_violation::Type as Violated;
use daybook_wire::proto::streams_v2::errors::{
    AppendConsistencyViolationErrorDetails, AppendRecordSizeExceededErrorDetails,
    AppendTransactionSizeExceededErrorDetails, StreamRevisionConflictErrorDetails,
};
use daybook_wire::proto::streams_v2::streams_service_client::StreamsServiceClient;
use daybook_wire::proto::streams_v2::{
    AppendRecord, AppendRecordsRequest, AppendRequest, ConsistencyCheck, SchemaFormat, SchemaInfo,
};
use futures_util::TryStreamExt as _;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::support::events::{event, name};
use crate::support::node::Server;

const ANY: ExpectedRevision = ExpectedRevision::Any;
const NONE: ExpectedRevision = ExpectedRevision::NoStream;

async fn calls(server: &Server) -> StreamsServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address())).expect("a URL");
    StreamsServiceClient::new(endpoint.connect().await.expect("a connection"))
}

fn record(id: u128, stream: &str) -> AppendRecord {
    AppendRecord {
        record_id: Some(Uuid::from_u128(id).to_string()),
        schema: Some(SchemaInfo {
            format: SchemaFormat::Bytes.into(),
            name: "Happened".to_owned(),
            id: None,
        }),
        data: Bytes::from_static(b"x"),
        stream: stream.to_owned(),
        ..AppendRecord::default()
    }
}

/// A request of a session.
fn part(stream: &str, expected: Option<i64>, ids: &[u128]) -> AppendRequest {
    AppendRequest {
        stream: stream.to_owned(),
        records: ids.iter().map(|id| record(*id, "")).collect(),
        expected_revision: expected,
    }
}

fn check(stream: &str, expected_state: i64) -> ConsistencyCheck {
    let state = StreamStateCheck { stream: stream.to_owned(), expected_state };
    ConsistencyCheck { r#type: Some(Type::StreamState(state)) }
}

/// What a session's answer says: streams with their revisions.
async fn session(server: &Server, parts: Vec<AppendRequest>) -> Result<Vec<(String, i64)>, Status> {
    let parts = futures_util::stream::iter(parts);
    let answer = calls(server).await.append_session(parts).await?.into_inner();
    let last = answer.output.last().and_then(|last| last.position);
    assert_eq!(last, Some(answer.position), "the last stream's last event is the last");
    Ok(answer.output.into_iter().map(|each| (each.stream, each.stream_revision)).collect())
}

async fn records(
    server: &Server,
    records: Vec<AppendRecord>,
    checks: Vec<ConsistencyCheck>,
) -> Result<Vec<(String, i64)>, Status> {
    let request = AppendRecordsRequest { records, checks };
    let answer = calls(server).await.append_records(request).await?.into_inner();
    let position = Checkpoint(answer.position.cast_unsigned()).position();
    assert!(position < server.store().committed());
    Ok(answer.revisions.into_iter().map(|each| (each.stream, each.revision)).collect())
}

/// The reason of a refusal; its inner code and text must be the outer ones.
#[track_caller]
fn reason(status: &Status) -> String {
    let info: ErrorInfo =
        Detailed::find(status.details(), STANDARD, "ErrorInfo").expect("a reason");
    info.reason
}

/// The streams a, b at revision 1; `soft` deleted after 1, `ended` tombstoned.
async fn prepared(server: &Server) {
    for (n, stream) in (0u128..).zip(["a-1", "b-1", "soft-1", "ended-1"]) {
        let events = vec![event(100 + 2 * n), event(101 + 2 * n)];
        server.client.append(&name(stream), NONE, events).await.expect("an append");
    }
    server.client.delete(&name("soft-1"), ANY).await.expect("deleted");
    server.client.tombstone(&name("ended-1"), ANY).await.expect("ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_writes_all_of_its_streams_or_none() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    prepared(&server).await;
    let parts = || vec![part("a-1", Some(1), &[1, 2]), part("new-1", Some(-1), &[3])];
    let told = [("a-1".to_owned(), 3), ("new-1".to_owned(), 0)];
    assert_eq!(session(&server, parts()).await.expect("written"), told);
    let end = server.store().committed();
    assert_eq!(session(&server, parts()).await.expect("a repetition"), told);
    assert_eq!(server.store().committed(), end, "a repetition writes nothing");

    let cases: [(&str, Vec<AppendRequest>, Code, &str); 15] = [
        ("nothing", vec![], Code::FailedPrecondition, "APPEND_SESSION_NO_REQUESTS"),
        (
            "one of two is elsewhere",
            vec![part("b-1", Some(1), &[11]), part("a-1", Some(1), &[12])],
            Code::FailedPrecondition,
            "STREAM_REVISION_CONFLICT",
        ),
        (
            "tombstoned",
            vec![part("b-1", Some(1), &[11]), part("ended-1", None, &[12])],
            Code::FailedPrecondition,
            "STREAM_TOMBSTONED",
        ),
        (
            "soft-deleted, expected to exist",
            vec![part("soft-1", Some(-4), &[11])],
            Code::FailedPrecondition,
            "STREAM_DELETED",
        ),
        (
            "the same stream twice, but for its case",
            vec![part("b-1", None, &[11]), part("B-1", None, &[12])],
            Code::Aborted,
            "STREAM_ALREADY_IN_APPEND_SESSION",
        ),
        ("a stream without name", vec![part("", None, &[11])], BAD, "BAD_REQUEST"),
        ("the metadata of no stream", vec![part("$$", None, &[11])], BAD, "BAD_REQUEST"),
        ("the whole log", vec![part("$all", None, &[11])], BAD, "BAD_REQUEST"),
        ("no records", vec![part("b-1", None, &[])], BAD, "BAD_REQUEST"),
        ("an unknown expectation", vec![part("b-1", Some(-3), &[11])], BAD, "BAD_REQUEST"),
        ("deleted", vec![part("soft-1", Some(-5), &[11])], BAD, "BAD_REQUEST"),
        ("the nil id", vec![part("b-1", None, &[0])], BAD, "BAD_REQUEST"),
        ("no schema", vec![spoilt(|record| record.schema = None)], BAD, "BAD_REQUEST"),
        (
            "no format",
            vec![spoilt(|record| record.schema.as_mut().expect("one").format = 0)],
            BAD,
            "BAD_REQUEST",
        ),
        (
            "the ledger's",
            vec![part("b-1", None, &[11]), part("ledger.account-1", None, &[12])],
            Code::PermissionDenied,
            "ACCESS_DENIED",
        ),
    ];
    for (case, parts, code, word) in cases {
        let refused = session(&server, parts).await.expect_err(case);
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, word), "{case}: {refused}");
        assert_eq!(server.store().committed(), end, "{case}: nothing was written");
    }
    let opened = vec![part("soft-1", Some(-1), &[21]), part("b-1", None, &[22])];
    let told = session(&server, opened).await.expect("soft-deleted is writable");
    assert_eq!(told, [("soft-1".to_owned(), 2), ("b-1".to_owned(), 2)]);
    server.stop().await;
}

const BAD: Code = Code::InvalidArgument;

fn spoilt(change: fn(&mut AppendRecord)) -> AppendRequest {
    let mut part = part("b-1", None, &[11]);
    change(&mut part.records[0]);
    part
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_says_in_detail_what_clients_look_for() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    prepared(&server).await;
    let refused = session(&server, vec![part("a-1", Some(7), &[1])]).await.expect_err("wrong");
    assert_eq!(
        refused.message(),
        "Append failed due to a revision conflict on stream 'a-1'. Expected revision: 7. Actual \
         revision: 1."
    );
    let detail: StreamRevisionConflictErrorDetails = found(&refused, STREAMS_ERRORS);
    assert_eq!((detail.expected_revision, detail.actual_revision), (7, 1));
    let missing = session(&server, vec![part("none-1", Some(0), &[1])]).await.expect_err("wrong");
    let detail: StreamRevisionConflictErrorDetails = found(&missing, STREAMS_ERRORS);
    assert_eq!((detail.stream.as_str(), detail.actual_revision), ("none-1", -1));

    let refused = session(&server, vec![spoilt(|r| r.record_id = Some("no id".to_owned()))]).await;
    let detail: BadRequest = found(&refused.expect_err("bad"), STANDARD);
    assert_eq!(detail.field_violations[0].field, "records[0].record_id");

    let reserved = session(&server, vec![part("ledger.a-1", None, &[1])]).await.expect_err("no");
    let detail: AccessDeniedErrorDetails = found(&reserved, SERVER_ERRORS);
    assert_eq!(detail.operation, "append");
    assert_eq!(reserved.metadata().get("exception").expect("a trailer"), "access-denied");
    server.stop().await;
}

/// The detail of a refusal that is of type `M`.
#[track_caller]
fn found<M: prost::Message + Default>(status: &Status, package: &str) -> M {
    let path = std::any::type_name::<M>();
    let name = path.rsplit("::").next().expect("a name");
    Detailed::find(status.details(), package, name).expect(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn records_keep_their_order_and_checks_cover_other_streams() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    prepared(&server).await;
    let begin = server.store().committed();
    let asked = || vec![record(1, "a-1"), record(2, "b-1"), record(3, "a-1"), record(4, "new-1")];
    let held = || vec![check("a-1", 1), check("b-1", -4), check("soft-1", 1), check("ended-1", -1)];
    let told: [(String, i64); 3] =
        [("a-1".to_owned(), 3), ("b-1".to_owned(), 2), ("new-1".to_owned(), 0)];
    assert_eq!(records(&server, asked(), held()).await.expect("written"), told);
    let end = server.store().committed();
    assert_eq!(end.0, begin.0 + 4);
    let log = crate::support::directory::read_log(server.store()).await;
    let streams: Vec<&str> = log
        .iter()
        .filter(|event| event.position >= begin.0)
        .map(|event| event.stream.as_str())
        .collect();
    assert_eq!(streams, ["a-1", "b-1", "a-1", "new-1"]);
    assert_eq!(records(&server, asked(), held()).await.expect("a repetition"), told);
    assert_eq!(server.store().committed(), end, "a repetition writes nothing");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_checks_that_fail_are_named_by_their_index() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    prepared(&server).await;
    let end = server.store().committed();
    type Case<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, i64)], &'a [(i32, i64)]);
    let cases: [Case<'_>; 8] = [
        ("one", &["a-1"], &[("a-1", 0)], &[(0, 1)]),
        ("ahead", &["a-1"], &[("a-1", 2)], &[(0, 1)]),
        (
            "all but one",
            &["a-1"],
            &[("none-1", -4), ("b-1", 1), ("none-2", 0), ("a-1", -1)],
            &[(0, -1), (2, -1), (3, 1)],
        ),
        ("soft-deleted does not exist", &["a-1"], &[("soft-1", -4)], &[(0, -5)]),
        ("soft-deleted, another revision", &["a-1"], &[("soft-1", 0)], &[(0, -5)]),
        ("ended has no revision", &["a-1"], &[("ended-1", 2)], &[(0, -6)]),
        ("ended and written", &["ended-1"], &[("ended-1", -1)], &[(0, -6)]),
        ("neither ended", &["a-1"], &[("b-1", -5), ("soft-1", -6)], &[(0, 1), (1, -5)]),
    ];
    for (case, written, checks, violated) in cases {
        let asked = (1u128..).zip(written).map(|(id, stream)| record(id, stream)).collect();
        let checks = checks.iter().map(|(stream, state)| check(stream, *state)).collect();
        let refused = records(&server, asked, checks).await.expect_err(case);
        assert_eq!(refused.code(), Code::FailedPrecondition, "{case}");
        assert_eq!(reason(&refused), "APPEND_CONSISTENCY_VIOLATION", "{case}");
        let detail: AppendConsistencyViolationErrorDetails = found(&refused, STREAMS_ERRORS);
        let states: Vec<(i32, i64)> = detail
            .violations
            .iter()
            .map(|violation| {
                let Some(Violated::StreamState(state)) = &violation.r#type else {
                    panic!("{case}")
                };
                (violation.check_index, state.actual_state)
            })
            .collect();
        assert_eq!(states, violated, "{case}");
    }
    for (case, asked, checks) in [
        ("no records", vec![], vec![check("a-1", 1)]),
        ("any", vec![record(1, "a-1")], vec![check("b-1", -2)]),
        ("twice", vec![record(1, "a-1")], vec![check("b-1", 1), check("b-1", 1)]),
        ("a check of nothing", vec![record(1, "a-1")], vec![ConsistencyCheck { r#type: None }]),
    ] {
        let refused = records(&server, asked, checks).await.expect_err(case);
        assert_eq!((refused.code(), reason(&refused).as_str()), (BAD, "BAD_REQUEST"), "{case}");
    }
    let ended = records(&server, vec![record(1, "ended-1")], vec![]).await.expect_err("ended");
    assert_eq!(reason(&ended), "STREAM_TOMBSTONED");
    assert_eq!(server.store().committed(), end, "nothing was written");
    // And what does hold, of streams that ended.
    let checks = vec![check("soft-1", -5), check("ended-1", -6)];
    records(&server, vec![record(1, "soft-1")], checks).await.expect("opened again");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_that_rest_on_the_same_state_one_is_written() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    // Each writes what the other only checks: both at once would contradict each other.
    for pair in 0..40u128 {
        let [left, right] = ["left", "right"].map(|side| format!("{side}-{pair}"));
        let (one, other) = tokio::join!(
            records(&server, vec![record(2 * pair + 1, &left)], vec![check(&right, -1)]),
            records(&server, vec![record(2 * pair + 2, &right)], vec![check(&left, -1)]),
        );
        assert!(one.is_ok() != other.is_ok(), "pair {pair}: {one:?} {other:?}");
    }
    // And of many that write it, whatever else they write.
    let gate = |n: u128| vec![record(1000 + 2 * n, "gate-1"), record(1001 + 2 * n, "done-1")];
    let all = (0..16).map(|n| records(&server, gate(n), vec![check("gate-1", -1)]));
    let outcomes = futures_util::future::join_all(all).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(reason(&refused), "APPEND_CONSISTENCY_VIOLATION");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_named_with_its_limit() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let sized = |id, size| AppendRecord { data: vec![b'x'; size].into(), ..record(id, "a-1") };
    let refused = records(&server, vec![sized(1, EVENT_SIZE_MAX)], vec![]).await;
    let refused = refused.expect_err("its metadata is too much");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let detail: AppendRecordSizeExceededErrorDetails = found(&refused, STREAMS_ERRORS);
    assert_eq!(detail.max_size as usize, EVENT_SIZE_MAX);
    assert_eq!(detail.record_id, Uuid::from_u128(1).to_string());
    assert!(detail.size > detail.max_size && detail.stream == "a-1", "{detail:?}");

    let parts = (1..=5).map(|n| AppendRequest {
        records: vec![sized(n, EVENT_SIZE_MAX - 1024)],
        ..part(&format!("a-{n}"), None, &[])
    });
    let refused = session(&server, parts.collect()).await.expect_err("too large");
    assert_eq!(refused.code(), Code::Aborted);
    let detail: AppendTransactionSizeExceededErrorDetails = found(&refused, STREAMS_ERRORS);
    assert_eq!(detail.max_size as usize, APPEND_SIZE_MAX);
    assert_eq!(server.store().committed().0, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_appends_to_several_streams() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    prepared(&server).await;
    let exact = |n| ExpectedRevision::Exact(Revision(n));
    let asked = || {
        Append::to_streams([
            (name("a-1"), exact(1), vec![event(1)]),
            (name("new-1"), NONE, vec![event(2), event(3)]),
        ])
        .and_check(name("b-1"), exact(1))
    };
    let appended = server.client.append_to_streams(asked()).await.expect("written");
    assert_eq!(appended.revisions[&name("a-1")], Revision(2));
    assert_eq!(appended.revisions[&name("new-1")], Revision(1));
    assert_eq!(appended.revisions.len(), 2);
    assert_eq!(appended.checkpoint.position().next(), server.store().committed());
    assert_eq!(server.client.append_to_streams(asked()).await, Ok(appended));
    let events: Vec<_> = server
        .client
        .read_stream(ReadStream::new(name("new-1")))
        .await
        .expect("a read")
        .try_collect()
        .await
        .expect("events");
    let metadata = &events[1].event.as_ref().expect("an event").metadata;
    assert_eq!(metadata, r#"{"$schema.format":"Bytes","$schema.name":"Happened"}"#);

    let stale =
        Append::to_streams([(name("a-1"), exact(9), vec![event(7)])]).and_check(name("b-1"), NONE);
    let refused = server.client.append_to_streams(stale.clone()).await.expect_err("stale");
    let AppendError::ChecksFailed { failed } = &refused else { panic!("{refused:?}") };
    let states: Vec<_> = failed.iter().map(|check| (check.index, check.found)).collect();
    assert_eq!(states, [(0, FoundState::At(Revision(2))), (1, FoundState::At(Revision(1)))]);

    // The same through the port of aggregates.
    let store = server.client.store();
    let done = store.append(asked()).await.expect("a repetition");
    assert_eq!(done.revisions.to_vec(), [Some(Revision(2)), Some(Revision(1)), Some(Revision(1))]);
    let refused = store.append(stale).await.expect_err("stale");
    assert!(
        matches!(
            refused,
            daybook_model::append::AppendError::WrongExpectedRevision {
                index: 0,
                actual: Some(Revision(2)),
                ..
            }
        ),
        "{refused:?}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_deleted_stream_is_opened_again_also_where_its_metadata_is_only_checked() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    prepared(&server).await;
    let checks = vec![check("$$soft-1", -4)];
    let written = records(&server, vec![record(1, "soft-1")], checks).await.expect("an append");
    assert_eq!(written, [("soft-1".to_owned(), 2)]);
    let read = server.client.read_stream(ReadStream::new(name("soft-1"))).await.expect("a read");
    let seen: Vec<_> = read.try_collect().await.expect("all events");
    let revisions: Vec<u64> =
        seen.iter().filter_map(|each| Some(each.event.as_ref()?.revision.0)).collect();
    assert_eq!(revisions, [2], "what was deleted stays hidden, what is new is there");
    server.stop().await;
}
