//! What an operator does to a running server over HTTP.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::daemon::Daemon;
use crate::support::directory::segments;
use crate::support::http::{get, post};
use crate::support::node::Server;
use crate::support::until;

/// Verifies the log of the server and waits for what it finds.
async fn verified(server: &Server) -> Value {
    let address = server.address();
    let before = get(address, "/admin/verify").await.json()["last"].clone();
    assert_eq!(post(address, "/admin/verify", "").await.status, 202);
    let ended = async || get(address, "/admin/verify").await.json()["last"] != before;
    until("the verification has ended", ended).await;
    let status = get(address, "/admin/verify").await.json();
    assert_eq!(status["running"], Value::Null, "{status}");
    status["last"].clone()
}

async fn metric(server: &Server, name: &str) -> String {
    let text = get(server.address(), "/metrics").await.body;
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.split(' ').nth(1)).unwrap_or_else(|| panic!("no {name}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_finds_damage_in_its_log() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    for number in 0..20 {
        let event = json!({ "type": "Noted", "data": { "number": number } });
        let answer = post(server.address(), "/v1/streams/notes", event.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let last = verified(&server).await;
    assert_eq!((&last["result"], &last["damage"]), (&"sound".into(), &Value::Null), "{last}");
    assert_eq!(metric(&server, "daybook_log_damaged").await, "0");
    assert_ne!(metric(&server, "daybook_log_verified_timestamp_seconds").await, "0");
    // One bit of an event in the middle.
    let name = segments(data.path()).remove(0);
    let path = data.path().join(&name);
    #[expect(clippy::disallowed_methods, reason = "a fault of the drive")]
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("the segment");
    let mut bytes = vec![0; 16 * 1024];
    let size = file.read_at(&mut bytes, 0).expect("read");
    let at = bytes[..size].windows(12).position(|found| found == b"{\"number\":7}").expect("there");
    file.write_all_at(b"8", at as u64 + 10).expect("written");
    let last = verified(&server).await;
    assert_eq!(last["result"], "damaged", "{last}");
    let damage = last["damage"].as_str().expect("words");
    assert!(damage.contains(&name), "{damage}");
    assert_eq!(metric(&server, "daybook_log_damaged").await, "1");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_stopped_over_http() {
    let data = TempDir::new().expect("a directory");
    let daemon = Daemon::start(data.path());
    assert_eq!(post(daemon.address, "/admin/shutdown", "").await.status, 202);
    let (status, log) = daemon.wait();
    assert!(status.success(), "{log}");
}
