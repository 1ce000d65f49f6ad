//! The ledger's streams through every door but its own: nothing of them can be written or deleted.

use std::net::SocketAddr;

use daybook_model::{ExpectedRevision, NewEvent, StreamName};
use daybook_store::Append;
use daybook_wire::proto::shared::Empty;
use daybook_wire::proto::snapshots::snapshots_client::SnapshotsClient;
use daybook_wire::proto::snapshots::{DeleteSnapshotsRequest, PutSnapshotRequest, Snapshot};
use daybook_wire::proto::streams::{DeleteReq, TombstoneReq, delete_req, tombstone_req};
use serde_json::json;
use tempfile::TempDir;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::support::http::{call, get};
use crate::support::node::Server;
use crate::support::protocol::{
    RawEvent, append, append_messages, batch, batch_error, batch_messages, raw_client,
    stream_identifier,
};

/// A stream of the ledger, and the one that would hold its metadata.
const RESERVED: [&str; 2] = ["ledger.account-1", "$$ledger.account-1"];
/// gRPC's PERMISSION_DENIED inside a batch answer.
const PERMISSION_DENIED: i32 = 7;

/// A server whose ledger has written one event.
async fn server(data: &TempDir) -> Server {
    let server = Server::start(data.path()).await;
    let name = StreamName::new(RESERVED[0]).expect("a name");
    let event = NewEvent::json(Uuid::from_u128(1), "AccountOpened", "{}");
    let append = Append::to_stream(name, ExpectedRevision::NoStream, [event]);
    server.store().append(append).await.expect("the ledger may");
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn no_http_route_writes_a_stream_of_the_ledger() {
    let data = TempDir::new().expect("a directory");
    let server = server(&data).await;
    let before = server.store().committed();
    let event = json!({ "type": "MoneyDeposited", "data": { "amount": "1.00" } });
    for name in RESERVED {
        let written = json!({ "streams": [
            { "stream": "other-1", "events": [event] }, { "stream": name, "events": [event] },
        ] });
        let checked = json!({ "streams": [
            { "stream": name }, { "stream": "other-1", "events": [event] },
        ] });
        let stream = format!("/v1/streams/{name}");
        let snapshot = format!("/v1/snapshots/{name}");
        let doors = [
            ("POST", stream.clone(), event.to_string()),
            ("POST", "/v1/append".to_owned(), written.to_string()),
            ("POST", "/v1/append".to_owned(), checked.to_string()),
            ("DELETE", stream.clone(), String::new()),
            ("DELETE", format!("{stream}?hard=true"), String::new()),
            ("PUT", format!("{stream}/metadata"), json!({ "$maxCount": 1 }).to_string()),
            ("PUT", format!("{snapshot}?revision=0"), "state".to_owned()),
            ("DELETE", snapshot, String::new()),
        ];
        for (method, path, body) in doors {
            // What holds the metadata has no event that a snapshot could be of, and its own
            // metadata asks nothing of the ledger's streams.
            let harmless = path.ends_with("revision=0") || path.ends_with("/metadata");
            if name.starts_with("$$") && harmless {
                continue;
            }
            let answer = call(server.address(), method, &path, &[], body).await;
            assert_eq!(answer.status, 403, "{method} {path}: {answer:?}");
            let problem = answer.json();
            assert_eq!(problem["type"], "urn:daybook:problem:reserved-stream", "{problem}");
            let found = problem["stream"].as_str().expect("a stream");
            assert_eq!(found.trim_start_matches('$'), RESERVED[0], "{problem}");
        }
    }
    assert_eq!(server.store().committed(), before, "nothing was written");
    let read = get(server.address(), "/v1/streams/ledger.account-1").await;
    assert_eq!(read.json()["events"][0]["type"], "AccountOpened", "anyone may read: {read:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_grpc_method_writes_a_stream_of_the_ledger() {
    let data = TempDir::new().expect("a directory");
    let server = server(&data).await;
    let before = server.store().committed();
    let address = server.address();
    for name in RESERVED {
        let mut refusals = vec![
            ("Append", append(address, append_messages(name.as_bytes(), &[good()])).await),
            ("Delete", delete(address, name).await),
            ("Tombstone", tombstone(address, name).await),
            ("DeleteSnapshots", delete_snapshots(address, name).await),
        ];
        if !name.starts_with("$$") {
            refusals.push(("PutSnapshot", put_snapshot(address, name).await));
        }
        for (method, answer) in refusals {
            let refused = answer.expect_err(method);
            assert_eq!(refused.code(), Code::PermissionDenied, "{method} {name}: {refused:?}");
            let exception = refused.metadata().get("exception").expect("a trailer");
            assert_eq!(exception, "access-denied", "{method} {name}");
        }
        // Beside it, in the same call, another stream may be written.
        let mut messages = batch_messages(1, name.as_bytes(), &[good()]);
        messages.extend(batch_messages(2, b"$$other", &[RawEvent::good(9, "{}")]));
        let (answers, end) = batch(address, messages).await;
        assert!(end.is_ok() && answers.len() == 2, "{end:?} {answers:?}");
        let errors: Vec<_> = answers.iter().filter_map(batch_error).collect();
        assert_eq!(errors, [(PERMISSION_DENIED, "AccessDenied".to_owned())]);
    }
    assert_eq!(server.store().committed().0, before.0 + 1, "the one beside it, once");
    server.stop().await;
}

fn good() -> RawEvent {
    RawEvent::good(2, "{}")
}

async fn delete(address: SocketAddr, name: &str) -> Result<(), Status> {
    let options = delete_req::Options {
        stream_identifier: Some(stream_identifier(name.as_bytes())),
        expected_stream_revision: Some(delete_req::options::ExpectedStreamRevision::Any(Empty {})),
    };
    raw_client(address).await.delete(DeleteReq { options: Some(options) }).await.map(|_| ())
}

async fn tombstone(address: SocketAddr, name: &str) -> Result<(), Status> {
    let any = tombstone_req::options::ExpectedStreamRevision::Any(Empty {});
    let options = tombstone_req::Options {
        stream_identifier: Some(stream_identifier(name.as_bytes())),
        expected_stream_revision: Some(any),
    };
    raw_client(address).await.tombstone(TombstoneReq { options: Some(options) }).await.map(|_| ())
}

async fn put_snapshot(address: SocketAddr, name: &str) -> Result<(), Status> {
    let data = bytes::Bytes::from_static(b"state");
    let snapshot = Snapshot { revision: 0, schema: 1, r#type: "account".to_owned(), data };
    let request = PutSnapshotRequest { stream: name.to_owned(), snapshot: Some(snapshot) };
    snapshots(address).await.put(request).await.map(|_| ())
}

async fn delete_snapshots(address: SocketAddr, name: &str) -> Result<(), Status> {
    let request = DeleteSnapshotsRequest { stream: name.to_owned() };
    snapshots(address).await.delete(request).await.map(|_| ())
}

async fn snapshots(address: SocketAddr) -> SnapshotsClient<tonic::transport::Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    SnapshotsClient::new(endpoint.connect().await.expect("a connection"))
}
