//! Every HTTP route and every gRPC method × every kind of caller, from one table. A route that has
//! no line in it fails the test, as does a line that has no route.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use daybook::security::Caller;
use daybook_wire::proto::shared::{self, Empty};
use daybook_wire::proto::streams::read_req::options as read;
use daybook_wire::proto::streams::{self, delete_req, read_req, tombstone_req};
use daybook_wire::proto::{snapshots, streams_v2, transactions, users};
use http::Request;
use http_body_util::Full;
use prost::Message as _;

use super::desk::{Answer, Desk, all_framed, framed, known, machine};
use crate::support::protocol::{RawEvent, append_messages, stream_identifier};

/// The stream that routes are tried on.
const STREAM: &str = "acme.orders-1";
/// An id where a path wants one.
const ID: &str = "00000000-0000-4000-8000-000000000001";

/// The kinds of callers, in the order of the letters below.
fn callers() -> Vec<(&'static str, Caller)> {
    vec![
        ("nobody", Caller::nobody()),
        ("low", known("low", &[])),
        ("other tenant", known("mallory", &["tenant:other."])),
        ("monitor", known("prometheus", &["$monitor"])),
        ("operator", known("ops", &["$ops"])),
        ("reader", known("clerk", &["ledger-read"])),
        ("opener", known("branch", &["ledger-open"])),
        ("teller", known("teller", &["ledger-move"])),
        ("freezer", known("compliance", &["ledger-freeze"])),
        ("auditor", known("auditor", &["ledger-audit"])),
        ("admin", known("root", &["$admins"])),
        ("a machine", machine("low", &[])),
    ]
}

// What becomes of each kind: `u`, not authenticated; `f`, forbidden; `.`, let through.
const ANYONE: &str = "............";
const KNOWN: &str = "u...........";
/// What a stream's lists decide about: another tenant's caller is refused.
const STREAMS: &str = "u.f.........";
/// What spans all streams.
const LOG: &str = "ufffffffff.f";
const MONITOR: &str = "uff..fffff.f";
const OPERATE: &str = "ufff.fffff.f";
const ADMINISTER: &str = "ufffffffff.f";
/// What users may do for themselves; asked of the one called `low`.
const OWN: &str = "u.ffffffff..";
/// The same, by whom no token has: another password would outlive it.
const OWN_PASSWORD: &str = "u.ffffffff.f";
/// What only who proved to be a user may do: no machine, whose token would make others.
const DELEGATE: &str = "u..........f";
const READ_LEDGER: &str = "uffff.fff..f";
const OPEN: &str = "ufffff.fff.f";
const MOVE: &str = "uffffff.ff.f";
const FREEZE: &str = "ufffffff.f.f";
const AUDIT: &str = "uffffffff..f";

pub(super) const HTTP: &[(&str, &str)] = &[
    ("GET /health/live", ANYONE),
    ("GET /health/ready", ANYONE),
    ("GET /info", ANYONE),
    ("GET /ping", ANYONE),
    ("GET /gossip", ANYONE),
    ("GET /stats", MONITOR),
    ("GET /metrics", MONITOR),
    ("GET /openapi.json", KNOWN),
    ("GET /v1/streams", LOG),
    ("GET /v1/event-types", LOG),
    ("GET /v1/streams/{name}", STREAMS),
    ("POST /v1/streams/{name}", STREAMS),
    ("GET /v1/streams/{name}/subscribe", STREAMS),
    ("GET /v1/streams/{name}/metadata", STREAMS),
    ("PUT /v1/streams/{name}/metadata", STREAMS),
    ("POST /v1/append", STREAMS),
    ("GET /v1/all", LOG),
    ("GET /v1/all/subscribe", LOG),
    ("GET /v1/index/{kind}/{key}", LOG),
    ("GET /v1/events", LOG),
    ("GET /v1/snapshots/{name}", STREAMS),
    ("PUT /v1/snapshots/{name}", STREAMS),
    ("DELETE /v1/snapshots/{name}", STREAMS),
    ("DELETE /v1/streams/{name}", STREAMS),
    ("GET /v1/tokens", KNOWN),
    ("POST /v1/tokens", DELEGATE),
    ("DELETE /v1/tokens/{id}", DELEGATE),
    ("GET /admin/audit", LOG),
    ("POST /admin/clock/accept", OPERATE),
    ("GET /admin/scavenge", MONITOR),
    ("POST /admin/scavenge", OPERATE),
    ("DELETE /admin/scavenge/{id}", OPERATE),
    ("GET /admin/verify", MONITOR),
    ("POST /admin/verify", OPERATE),
    ("GET /admin/log", OPERATE),
    ("PUT /admin/log", OPERATE),
    ("POST /admin/reload", OPERATE),
    ("POST /admin/shutdown", OPERATE),
    ("GET /admin/config", OPERATE),
    ("GET /admin/streams", LOG),
    ("GET /admin/subscriptions", OPERATE),
    ("GET /admin/projections", MONITOR),
    ("GET /admin/sagas", OPERATE),
    ("GET /admin/backup", ADMINISTER),
    ("POST /admin/backup", OPERATE),
    ("GET /admin/backup/segments", ADMINISTER),
    ("GET /admin/backup/segments/{name}", ADMINISTER),
    ("GET /admin/backup/status", MONITOR),
    ("POST /admin/backup/status", OPERATE),
    ("GET /admin/backup/list", MONITOR),
    ("GET /admin/backup/verify", MONITOR),
    ("POST /admin/backup/verify", OPERATE),
    ("POST /projections/continuous", ADMINISTER),
    ("GET /subscriptions", OPERATE),
    ("POST /subscriptions/restart", OPERATE),
    ("GET /subscriptions/{stream}", OPERATE),
    ("GET /subscriptions/{stream}/{group}/info", OPERATE),
    ("POST /subscriptions/{stream}/{group}/replayParked", OPERATE),
    ("GET /v1/projections", MONITOR),
    ("GET /v1/projections/{name}", MONITOR),
    ("POST /v1/projections/{name}/{order}", OPERATE),
    ("GET /v1/projections/{name}/parked", OPERATE),
    ("GET /v1/connectors", MONITOR),
    ("GET /v1/connectors/{name}", MONITOR),
    ("POST /v1/connectors/{name}/{order}", OPERATE),
    ("GET /v1/connectors/{name}/parked", OPERATE),
    ("POST /v1/connectors/{name}/parked/retry", OPERATE),
    ("POST /v1/connectors/{name}/parked/{position}/retry", OPERATE),
    ("POST /v1/connectors/{name}/parked/{position}/discard", OPERATE),
    ("GET /v1/accounts", READ_LEDGER),
    ("POST /v1/accounts", OPEN),
    ("GET /v1/accounts/{account_id}", READ_LEDGER),
    ("GET /v1/accounts/{account_id}/transactions", READ_LEDGER),
    ("GET /v1/accounts/{account_id}/statement", READ_LEDGER),
    ("POST /v1/accounts/{account_id}/deposits", MOVE),
    ("POST /v1/accounts/{account_id}/withdrawals", MOVE),
    ("POST /v1/accounts/{account_id}/fees", MOVE),
    ("POST /v1/accounts/{account_id}/freeze", FREEZE),
    ("POST /v1/accounts/{account_id}/unfreeze", FREEZE),
    ("POST /v1/accounts/{account_id}/close", OPEN),
    ("PUT /v1/accounts/{account_id}/limits", OPEN),
    ("POST /v1/accounts/{account_id}/holds", MOVE),
    ("POST /v1/accounts/{account_id}/holds/{hold_id}/capture", MOVE),
    ("POST /v1/accounts/{account_id}/holds/{hold_id}/release", MOVE),
    ("GET /v1/transfers", READ_LEDGER),
    ("POST /v1/transfers", MOVE),
    ("GET /v1/transfers/{transfer_id}", READ_LEDGER),
    ("GET /v1/payments/daily", READ_LEDGER),
    ("GET /v1/sagas", READ_LEDGER),
    ("GET /v1/sagas/overview", READ_LEDGER),
    ("GET /v1/sagas/{transfer_id}", READ_LEDGER),
    ("POST /v1/sagas/{transfer_id}/resume", MOVE),
    ("POST /v1/sagas/{transfer_id}/abandon", MOVE),
    ("PUT /v1/risk/accounts/{account_id}/flag", FREEZE),
    ("DELETE /v1/risk/accounts/{account_id}/flag", FREEZE),
    ("GET /v1/risk/rules", READ_LEDGER),
    ("PUT /v1/risk/rules", FREEZE),
    ("GET /v1/trial-balance", AUDIT),
    // The console: what a page asks the API for is checked there once more.
    ("GET /ui", ANYONE),
    ("GET /ui/assets/{name}", ANYONE),
    ("GET /ui/login", ANYONE),
    ("POST /ui/login", ANYONE),
    ("POST /ui/logout", KNOWN),
    ("GET /ui/{*rest}", KNOWN),
    ("GET /ui/", KNOWN),
    ("GET /ui/live", MONITOR),
    ("GET /ui/streams", LOG),
    ("GET /ui/streams/", KNOWN),
    ("GET /ui/categories", LOG),
    ("GET /ui/streams/{name}", STREAMS),
    ("GET /ui/streams/{name}/{revision}", STREAMS),
    ("GET /ui/streams/{name}/{revision}/{part}", STREAMS),
    ("GET /ui/chain/{correlation}", LOG),
    ("GET /ui/tail", KNOWN),
    ("GET /ui/tail/feed", LOG),
    // Without the form's token, so far: 400.
    ("POST /ui/streams/{name}/append", KNOWN),
    ("POST /ui/streams/{name}/metadata", KNOWN),
    ("POST /ui/streams/{name}/delete", KNOWN),
    ("GET /ui/accounts", READ_LEDGER),
    ("GET /ui/accounts/{account_id}", READ_LEDGER),
    ("POST /ui/accounts/{account_id}/freeze", FREEZE),
    ("POST /ui/accounts/{account_id}/unfreeze", FREEZE),
    ("POST /ui/accounts/{account_id}/flag", FREEZE),
    ("POST /ui/accounts/{account_id}/unflag", FREEZE),
    ("POST /ui/accounts/{account_id}/holds/{hold_id}/release", MOVE),
    ("GET /ui/transfers", READ_LEDGER),
    ("GET /ui/transfers/{transfer_id}", READ_LEDGER),
    ("POST /ui/transfers/{transfer_id}/resume", MOVE),
    ("POST /ui/transfers/{transfer_id}/abandon", MOVE),
    ("GET /ui/books", AUDIT),
    ("GET /ui/risk", READ_LEDGER),
    ("POST /ui/risk", FREEZE),
    ("GET /ui/projections", MONITOR),
    ("GET /ui/projections/{name}", OPERATE),
    ("POST /ui/projections/{name}/{order}", OPERATE),
    ("GET /ui/programs/{name}", OPERATE),
    ("POST /ui/programs/{name}/{order}", OPERATE),
    ("GET /ui/subscriptions", OPERATE),
    ("GET /ui/subscriptions/{stream}/{group}", OPERATE),
    ("POST /ui/subscriptions/{stream}/{group}/replay", OPERATE),
    ("POST /ui/subscriptions/{stream}/{group}/discard", OPERATE),
    ("GET /ui/connectors", MONITOR),
    ("GET /ui/connectors/{name}", OPERATE),
    ("POST /ui/connectors/{name}/{order}", OPERATE),
    ("POST /ui/connectors/{name}/parked/retry", OPERATE),
    ("POST /ui/connectors/{name}/parked/{position}/retry", OPERATE),
    ("POST /ui/connectors/{name}/parked/{position}/discard", OPERATE),
    ("GET /ui/operations", MONITOR),
    ("POST /ui/operations/backup", OPERATE),
    ("GET /ui/operations/backups", MONITOR),
    ("POST /ui/operations/backups/verify", OPERATE),
    ("POST /ui/operations/scavenge", OPERATE),
    ("POST /ui/operations/scavenge/stop", OPERATE),
    ("POST /ui/operations/verify", OPERATE),
    ("POST /ui/operations/reload", OPERATE),
    ("POST /ui/operations/clock", OPERATE),
    ("GET /ui/users", ADMINISTER),
    ("POST /ui/users", ADMINISTER),
    ("GET /ui/users/{login}", ADMINISTER),
    ("POST /ui/users/{login}/enable", ADMINISTER),
    ("POST /ui/users/{login}/disable", ADMINISTER),
    ("POST /ui/users/{login}/password", ADMINISTER),
    ("POST /ui/users/{login}/groups", ADMINISTER),
    ("POST /ui/users/{login}/delete", ADMINISTER),
    ("GET /ui/tokens", KNOWN),
    ("POST /ui/tokens", DELEGATE),
    ("POST /ui/tokens/{id}/revoke", DELEGATE),
    ("GET /ui/password", KNOWN),
    ("POST /ui/password", KNOWN),
    ("GET /ui/audit", LOG),
    ("GET /ui/config", OPERATE),
    ("POST /ui/config/log", OPERATE),
    ("GET /ui/api", KNOWN),
];

pub(super) const GRPC: &[(&str, &str)] = &[
    ("grpc.health.v1.Health/Check", ANYONE),
    ("grpc.health.v1.Health/Watch", ANYONE),
    ("grpc.reflection.v1.ServerReflection/{*method}", KNOWN),
    ("grpc.reflection.v1alpha.ServerReflection/{*method}", KNOWN),
    ("event_store.client.gossip.Gossip/Read", ANYONE),
    ("event_store.client.server_features.ServerFeatures/GetSupportedMethods", ANYONE),
    ("event_store.client.monitoring.Monitoring/Stats", MONITOR),
    ("event_store.client.streams.Streams/Read", STREAMS),
    ("event_store.client.streams.Streams/Append", STREAMS),
    // Each append of it is answered for itself: see `streams`.
    ("event_store.client.streams.Streams/BatchAppend", KNOWN),
    ("kurrentdb.protocol.v2.streams.StreamsService/AppendSession", STREAMS),
    ("kurrentdb.protocol.v2.streams.StreamsService/AppendRecords", STREAMS),
    ("daybook.v1.Snapshots/Put", STREAMS),
    ("daybook.v1.Snapshots/GetLatest", STREAMS),
    ("daybook.v1.Snapshots/Delete", STREAMS),
    ("daybook.v1.Transactions/Find", STREAMS),
    ("event_store.client.streams.Streams/Delete", STREAMS),
    ("event_store.client.streams.Streams/Tombstone", STREAMS),
    ("event_store.client.persistent_subscriptions.PersistentSubscriptions/Create", OPERATE),
    ("event_store.client.persistent_subscriptions.PersistentSubscriptions/Update", OPERATE),
    ("event_store.client.persistent_subscriptions.PersistentSubscriptions/Delete", OPERATE),
    // Which stream is read, its message says: see `streams`.
    ("event_store.client.persistent_subscriptions.PersistentSubscriptions/Read", KNOWN),
    ("event_store.client.persistent_subscriptions.PersistentSubscriptions/GetInfo", OPERATE),
    ("event_store.client.persistent_subscriptions.PersistentSubscriptions/List", OPERATE),
    ("event_store.client.persistent_subscriptions.PersistentSubscriptions/ReplayParked", OPERATE),
    ("event_store.client.persistent_subscriptions.PersistentSubscriptions/TruncateParked", OPERATE),
    (
        "event_store.client.persistent_subscriptions.PersistentSubscriptions/RestartSubsystem",
        OPERATE,
    ),
    ("event_store.client.users.Users/Create", ADMINISTER),
    ("event_store.client.users.Users/Update", ADMINISTER),
    ("event_store.client.users.Users/Delete", ADMINISTER),
    ("event_store.client.users.Users/Enable", ADMINISTER),
    ("event_store.client.users.Users/Disable", ADMINISTER),
    ("event_store.client.users.Users/ChangePassword", OWN_PASSWORD),
    ("event_store.client.users.Users/ResetPassword", ADMINISTER),
    ("event_store.client.users.Users/Details", OWN),
    ("event_store.client.operations.Operations/StartScavenge", OPERATE),
    ("event_store.client.operations.Operations/StopScavenge", OPERATE),
    ("event_store.client.operations.Operations/MergeIndexes", OPERATE),
    ("event_store.client.operations.Operations/ResignNode", OPERATE),
    ("event_store.client.operations.Operations/SetNodePriority", OPERATE),
    ("event_store.client.operations.Operations/RestartPersistentSubscriptions", OPERATE),
    ("event_store.client.operations.Operations/Shutdown", OPERATE),
    ("event_store.client.projections.Projections/Create", ADMINISTER),
    ("event_store.client.projections.Projections/Update", ADMINISTER),
    ("event_store.client.projections.Projections/Delete", OPERATE),
    ("event_store.client.projections.Projections/Enable", OPERATE),
    ("event_store.client.projections.Projections/Disable", OPERATE),
    ("event_store.client.projections.Projections/Reset", OPERATE),
    ("event_store.client.projections.Projections/State", OPERATE),
    ("event_store.client.projections.Projections/Result", OPERATE),
    ("event_store.client.projections.Projections/Statistics", MONITOR),
    ("event_store.client.projections.Projections/RestartSubsystem", OPERATE),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_route_lets_through_whom_it_should() {
    let desk = Desk::new().await;
    desk.append(STREAM, r#"{"type":"Ordered","data":1}"#).await;
    let rights = daybook::http::rights(desk.server.context());
    let there: BTreeSet<String> =
        rights.iter().map(|row| format!("{} {}", row.method, row.path)).collect();
    assert_eq!(there, names(HTTP), "the table and the routes");
    assert_eq!(there.len(), rights.len(), "a route has one right");
    for (route, expected) in HTTP {
        let (path, body) = request_of(route);
        let mut found = String::new();
        for (_, caller) in callers() {
            let answer = desk.http(&caller, &path, body).await;
            found.push(http_verdict(answer).await);
        }
        assert_eq!(&found, expected, "{route}: {}", columns());
        let path = path.split_once(' ').expect("a path").1;
        let method = route.split(' ').next().expect("a method");
        let request = Request::builder().method(method).uri(path).body(Full::default());
        let unsaid = desk.http_as_it_is(request.expect("a request")).await;
        assert_eq!(http_verdict(unsaid).await, 'u', "{route}: without a word on the caller");
    }
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_lets_through_whom_it_should() {
    let desk = Desk::new().await;
    desk.append(STREAM, r#"{"type":"Ordered","data":1}"#).await;
    let rights = daybook::grpc::rights(desk.server.context());
    let there: BTreeSet<String> =
        rights.iter().map(|row| row.path.trim_start_matches('/').to_owned()).collect();
    assert_eq!(there, names(GRPC), "the table and the methods");
    assert_eq!(there.len(), rights.len(), "a method has one right");
    // gRPC's own services are in no file of ours.
    let is_own = |method: &&String| !method.starts_with("grpc.");
    let own = there.iter().filter(is_own).cloned().collect();
    assert_eq!(described(), own, "what the protocol's files have, and what is served");
    for (method, expected) in GRPC {
        let path = format!("/{}", method.replace("{*method}", called(method)));
        let mut found = String::new();
        for (_, caller) in callers() {
            let answer = desk.grpc(&caller, &path, message_of(method)).await;
            found.push(grpc_verdict(&answer));
        }
        assert_eq!(&found, expected, "{method}: {}", columns());
        let request = Request::post(&path).body(Full::new(message_of(method)));
        let unsaid = desk.grpc_as_it_is(request.expect("a request")).await;
        assert_eq!(grpc_verdict(&unsaid), 'u', "{method}: without a word on the caller");
    }
    desk.server.stop().await;
}

/// Who the letters are of.
fn columns() -> String {
    callers().iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn names(table: &[(&str, &str)]) -> BTreeSet<String> {
    let names: BTreeSet<String> = table.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names.len(), table.len(), "a line for each");
    names
}

/// A request of a route, as good as it takes to come to its check.
pub(super) fn request_of(route: &str) -> (String, &'static str) {
    let filled = BTreeMap::from([
        ("{name}", STREAM),
        ("{stream}", STREAM),
        ("{group}", "mail"),
        ("{kind}", "category"),
        ("{key}", "acme.orders"),
        ("{id}", ID),
        ("{account_id}", ID),
        ("{hold_id}", ID),
        ("{transfer_id}", ID),
        ("{order}", "pause"),
        ("{position}", "1"),
        ("{*rest}", "nothing"),
        ("{revision}", "0"),
        ("{part}", "data"),
        ("{correlation}", ID),
        ("{login}", "low"),
    ]);
    let path = filled.iter().fold(route.to_owned(), |path, (part, by)| path.replace(part, by));
    let query = match route {
        "GET /v1/events" => "?type=Ordered",
        "PUT /v1/snapshots/{name}" => "?revision=0",
        "POST /projections/continuous" => "?name=count",
        _ => "",
    };
    let body = match route {
        "POST /v1/streams/{name}" => r#"{"type":"Ordered","data":1}"#,
        "POST /v1/append" => {
            r#"{"streams":[{"stream":"acme.orders-1","events":[{"type":"Ordered","data":1}]}]}"#
        }
        "PUT /v1/streams/{name}/metadata" => "{}",
        _ => "",
    };
    (format!("{path}{query}"), body)
}

async fn http_verdict(answer: Answer) -> char {
    match answer.status {
        401 => {
            assert_eq!(answer.header("www-authenticate"), "Basic realm=\"daybook\", Bearer");
            let problem = answer.json().await;
            assert_eq!(problem["type"], "urn:daybook:problem:unauthenticated");
            'u'
        }
        403 => {
            let problem = answer.json().await;
            assert_eq!(problem["type"], "urn:daybook:problem:forbidden", "{problem}");
            'f'
        }
        _ => '.',
    }
}

fn grpc_verdict(answer: &Answer) -> char {
    assert_eq!(answer.status, 200, "gRPC has statuses of its own");
    match answer.header("grpc-status") {
        "16" => 'u',
        "7" => {
            assert_eq!(answer.header("exception"), "access-denied");
            assert!(answer.header("grpc-message").starts_with("Access%20Denied"));
            'f'
        }
        _ => '.',
    }
}

/// The methods that the protocol's files have, of the services that are served.
fn described() -> BTreeSet<String> {
    let set = prost_types::FileDescriptorSet::decode(daybook_wire::FILE_DESCRIPTOR_SET);
    let files = set.expect("descriptors").file;
    let services = files.iter().flat_map(|file| {
        let package = file.package();
        file.service.iter().map(move |service| (format!("{package}.{}", service.name()), service))
    });
    let methods = services.flat_map(|(name, service)| {
        service.method.iter().map(move |method| format!("{name}/{}", method.name()))
    });
    methods.collect()
}

/// A method of a service that is made elsewhere.
pub(super) fn called(service: &str) -> &'static str {
    if service.contains("Health") { "Check" } else { "ServerReflectionInfo" }
}

/// The messages of a call of a method, as good as it takes to come to its check.
pub(super) fn message_of(method: &str) -> Bytes {
    let stream_identifier = Some(stream_identifier(STREAM.as_bytes()));
    match method.rsplit_once('.').expect("a package").1 {
        "Streams/Read" => framed(&streams::ReadReq {
            options: Some(read_req::Options {
                read_direction: 0,
                resolve_links: false,
                uuid_option: Some(read::UuidOption {
                    content: Some(read::uuid_option::Content::String(Empty {})),
                }),
                control_option: None,
                count_option: Some(read::CountOption::Count(1)),
                stream_option: Some(read::StreamOption::Stream(read::StreamOptions {
                    stream_identifier,
                    revision_option: Some(read::stream_options::RevisionOption::Start(Empty {})),
                })),
                filter_option: Some(read::FilterOption::NoFilter(Empty {})),
            }),
        }),
        "Streams/Append" => {
            all_framed(&append_messages(STREAM.as_bytes(), &[RawEvent::good(7, "x")]))
        }
        "Streams/Delete" => framed(&streams::DeleteReq {
            options: Some(delete_req::Options {
                stream_identifier,
                expected_stream_revision: Some(delete_req::options::ExpectedStreamRevision::Any(
                    Empty {},
                )),
            }),
        }),
        "Streams/Tombstone" => framed(&streams::TombstoneReq {
            options: Some(tombstone_req::Options {
                stream_identifier,
                expected_stream_revision: Some(
                    tombstone_req::options::ExpectedStreamRevision::Any(Empty {}),
                ),
            }),
        }),
        "StreamsService/AppendSession" => framed(&streams_v2::AppendRequest {
            stream: STREAM.to_owned(),
            records: vec![record()],
            ..Default::default()
        }),
        "StreamsService/AppendRecords" => framed(&streams_v2::AppendRecordsRequest {
            records: vec![record()],
            ..Default::default()
        }),
        "Snapshots/Put" => framed(&snapshots::PutSnapshotRequest {
            stream: STREAM.to_owned(),
            snapshot: Some(snapshots::Snapshot::default()),
        }),
        "Snapshots/GetLatest" => framed(&snapshots::GetLatestSnapshotRequest {
            stream: STREAM.to_owned(),
            at_or_before: None,
        }),
        "Snapshots/Delete" => {
            framed(&snapshots::DeleteSnapshotsRequest { stream: STREAM.to_owned() })
        }
        "Transactions/Find" => framed(&transactions::FindTransactionRequest {
            stream: STREAM.to_owned(),
            transaction: ID.to_owned(),
        }),
        "Users/ChangePassword" => framed(&users::ChangePasswordReq {
            options: Some(users::change_password_req::Options {
                login_name: "low".to_owned(),
                ..Default::default()
            }),
        }),
        "Users/Details" => framed(&users::DetailsReq {
            options: Some(users::details_req::Options { login_name: "low".to_owned() }),
        }),
        _ => framed(&shared::Empty {}),
    }
}

fn record() -> streams_v2::AppendRecord {
    streams_v2::AppendRecord {
        stream: STREAM.to_owned(),
        schema: Some(streams_v2::SchemaInfo {
            format: streams_v2::SchemaFormat::Bytes.into(),
            name: "Ordered".to_owned(),
            id: None,
        }),
        ..Default::default()
    }
}
