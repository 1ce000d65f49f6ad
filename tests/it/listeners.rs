//! A listener for operators beside the one for clients.

use std::net::SocketAddr;

use bytes::Bytes;
use daybook::node::{Config, Listeners, Node};
use daybook::security::Caller;
use daybook::security::gate::Side;
use daybook::security::rights::Right;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::support::daemon::{Daemon, daybook, run, said};
use crate::support::http::{call, get, post};
use crate::support::{PATIENCE, soon, until};

const EVENT: &str = r#"{"type":"Ordered","data":1}"#;

/// What asks for nothing that a path could lack, and has an end.
const ASKED: &[(&str, Right)] = &[
    ("/health/live", Right::Anyone),
    ("/health/ready", Right::Anyone),
    ("/info", Right::Anyone),
    ("/openapi.json", Right::Known),
    ("/v1/streams", Right::Known),
    ("/v1/transfers", Right::ReadLedger),
    ("/v1/trial-balance", Right::AuditLedger),
    ("/metrics", Right::Monitor),
    ("/stats", Right::Monitor),
    ("/v1/projections", Right::Monitor),
    ("/subscriptions", Right::Inspect),
    ("/admin/scavenge", Right::Monitor),
    ("/admin/backup/segments", Right::Administer),
];

async fn listening() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

/// A node with both listeners, and where they are: clients' first.
async fn started(data: &TempDir) -> (Node, SocketAddr, SocketAddr) {
    let listeners = Listeners { clients: listening().await, operators: Some(listening().await) };
    let node = Node::start(Config::in_directory(data.path()), listeners).await.expect("a node");
    let (clients, operators) = (node.address(), node.admin_address().expect("it was asked for"));
    (node, clients, operators)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_the_server_is_answered_to_operators_alone() {
    let data = TempDir::new().expect("a directory");
    let (node, clients, operators) = started(&data).await;
    assert_eq!(post(clients, "/v1/streams/a", EVENT).await.status, 200);
    for (path, right) in ASKED {
        assert!(get(operators, path).await.status < 300, "{path}");
        let answer = get(clients, path).await;
        assert_eq!(answer.status < 300, !right.is_over_server(), "{path}: {answer:?}");
        if right.is_over_server() {
            assert_eq!(answer.json()["type"], "urn:daybook:problem:no-such-route", "{path}");
            assert!(answer.body.contains("--admin-listen"), "{answer:?}");
        }
    }
    // Every route there is: none that changes the server is left where clients are.
    for row in daybook::http::rights(node.context()) {
        assert!(row.right.is_over_server() || !row.path.starts_with("/admin"), "{row:?}");
        if row.right.is_over_server() {
            let answer = call(clients, &row.method, &row.path, &[], "").await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND.as_u16(), "{row:?}");
            // The console is whole or not there at all.
            let says = row.path.starts_with("/ui") || answer.body.contains("--admin-listen");
            assert!(says, "{row:?}: {answer:?}");
        }
    }
    let described = get(clients, "/openapi.json").await.json();
    assert!(described["paths"]["/admin/shutdown"].is_null(), "only what is answered there");
    assert!(get(operators, "/openapi.json").await.json()["paths"]["/admin/shutdown"].is_object());
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_over_the_server_are_answered_to_operators_alone() {
    let data = TempDir::new().expect("a directory");
    let (node, ..) = started(&data).await;
    for row in daybook::grpc::rights(node.context()) {
        // Services that are made elsewhere have all of their methods at one path.
        let path = row.path.replace("{*method}", "Check");
        for (side, answers) in [(Side::All, true), (Side::Clients, !row.right.is_over_server())] {
            let mut request = Request::post(&path).body(Full::<Bytes>::default()).expect("a path");
            let kind = HeaderValue::from_static("application/grpc");
            request.headers_mut().insert("content-type", kind);
            request.extensions_mut().insert(Caller::unasked());
            let routes = daybook::grpc::routes_on(node.context().clone(), side);
            let Ok(answer) = soon("an answer", routes.oneshot(request)).await;
            let message = answer.headers().get("grpc-message").cloned();
            let message = message.as_ref().and_then(|text| text.to_str().ok()).unwrap_or_default();
            assert_eq!(!message.contains("admin-listen"), answers, "{row:?}: {message}");
        }
    }
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_take_all_connections_keep_no_operator_out() {
    let data = TempDir::new().expect("a directory");
    let listeners = Listeners { clients: listening().await, operators: Some(listening().await) };
    let config = Config { connections_max: 1, ..Config::in_directory(data.path()) };
    let node = Node::start(config, listeners).await.expect("a node");
    let operators = node.admin_address().expect("it was asked for");
    let taken = tokio::net::TcpStream::connect(node.address()).await.expect("a connection");
    let open = || async {
        let text = get(operators, "/metrics").await.body;
        // The one that is taken, and the one that asks.
        text.lines().any(|line| line == "daybook_connections 2")
    };
    until("the only connection is taken", open).await;
    assert_eq!(get(operators, "/admin/scavenge").await.status, 200);
    drop(taken);
    node.stop(PATIENCE).await;
}

#[test]
fn both_addresses_are_for_this_machine_unless_protected() {
    let data = TempDir::new().expect("a directory");
    let directory = data.path().display().to_string();
    let serve = ["serve", "--data", &directory, "--listen", "127.0.0.1:0", "--admin-listen"];
    let refused = run(&[&serve[..], &["0.0.0.0:0"]].concat());
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("--admin-listen"), "{}", said(&refused));
    let mut serve = daybook(&["serve", "--data", &directory, "--listen", "127.0.0.1:0"]);
    serve.args(["--admin-listen", "127.0.0.1:0"]);
    let daemon = Daemon::spawn(serve, PATIENCE).expect("a server");
    let ready = daemon.wait_for("\"ready\"").expect("it is ready");
    let ready: serde_json::Value = serde_json::from_str(&ready).expect("JSON");
    let admin = ready["admin"].as_str().expect("where operators ask").to_owned();
    let stats = run(&["stats", "--url", &admin]);
    assert!(stats.status.success(), "{}", said(&stats));
    let elsewhere = run(&["stats", "--url", &format!("http://{}", daemon.address)]);
    assert!(said(&elsewhere).contains("--admin-listen"), "{}", said(&elsewhere));
}
