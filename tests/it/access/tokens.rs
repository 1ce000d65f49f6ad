//! API tokens: made, used over HTTP and gRPC, ended.

use std::net::SocketAddr;

use daybook::node::Node;
use daybook::users::{NewUser, Standing};
use daybook_client::{Client, Delivery, Links, SubscribeFrom, SubscribeStream};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::desk::{Desk, admin, known, machine};
use crate::authentication::{PASSWORD, append, basic, client, server};
use crate::support::daemon::{daybook, said};
use crate::support::events::name;
use crate::support::http::{Answer, call};
use crate::support::pki::write;
use crate::support::{PATIENCE, assert_says, soon};

/// A server with Ada, who is an administrator, and Bob, who is in `staff`.
async fn with_bob(directory: &TempDir) -> Node {
    let node = server(directory.path()).await;
    let bob = NewUser {
        login: "bob".to_owned(),
        full_name: "Bob".to_owned(),
        groups: vec!["staff".to_owned()],
        password: PASSWORD.to_owned(),
    };
    node.context().users().create(bob).await.expect("created");
    node
}

async fn ask(at: SocketAddr, route: &str, proof: &str, body: Value) -> Answer {
    let (method, path) = route.split_once(' ').expect("a method and a path");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    call(at, method, path, &[("authorization", proof)], body).await
}

/// A token of whoever `proof` proves to be: its id, and itself.
async fn made(at: SocketAddr, proof: &str, body: Value) -> (String, String) {
    let answer = ask(at, "POST /v1/tokens", proof, body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let text = |name: &str| answer.json()[name].as_str().expect("a text").to_owned();
    (text("id"), text("token"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_calls_by_a_token_over_http_and_grpc_until_it_is_revoked() {
    let directory = TempDir::new().expect("a directory");
    let node = with_bob(&directory).await;
    let (at, bob) = (node.address(), basic("bob", PASSWORD));
    let (id, token) = made(at, &bob, json!({ "name": "ci" })).await;
    let bearer = format!("Bearer {token}");
    let stream = "/v1/streams/orders-1";
    let event = json!({ "type": "Ordered", "data": 1 });
    let sent = ask(at, &format!("POST {stream}"), &bearer, event).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    // KurrentDB's clients know logins and passwords only.
    append(&client(at, "bob", &token), 1).await.expect("appended");
    let ours = Client::with(daybook_client::Settings {
        token: Some(daybook_client::Token(token.clone())),
        ..daybook_client::Settings::parse(&format!("http://{at}")).expect("a URL")
    });
    append(&ours.expect("a client"), 2).await.expect("appended");

    let listed = ask(at, "GET /v1/tokens", &bob, Value::Null).await.json();
    assert_eq!(listed["tokens"][0]["id"], id.as_str(), "{listed}");
    assert!(!listed.to_string().contains(&token[4..]), "it is shown once: {listed}");
    let more = ask(at, "POST /v1/tokens", &bearer, json!({ "name": "another" })).await;
    assert_eq!(more.status, 403, "a token makes no tokens: {more:?}");

    let (from, links) = (SubscribeFrom::Start, Links::Keep);
    let asked = SubscribeStream { stream: name("orders-1"), from, links };
    let follower = client(at, "bob", &token);
    let mut follows = follower.subscribe_stream(asked).await.expect("a subscription");
    while !matches!(soon("it is live", follows.next()).await, Ok(Delivery::CaughtUp)) {}
    let route = format!("DELETE /v1/tokens/{id}");
    assert_eq!(ask(at, &route, &bob, Value::Null).await.status, 200);
    let ended = loop {
        match soon("the end", follows.next()).await {
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    assert_says(&ended, &["does not accept"]);
    let refused = ask(at, &format!("GET {stream}"), &bearer, Value::Null).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    assert_says(&refused.body, &["API token", "revoked"]);
    assert_eq!(ask(at, &route, &bob, Value::Null).await.status, 404, "there is none any more");
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_its_users_own_and_an_administrators() {
    let directory = TempDir::new().expect("a directory");
    let node = with_bob(&directory).await;
    let (at, ada, bob) = (node.address(), basic("ada", PASSWORD), basic("bob", PASSWORD));
    let (id, token) = made(at, &ada, json!({ "name": "ci", "user": "bob", "groups": [] })).await;
    let (own, _) = made(at, &ada, json!({ "name": "own" })).await;
    let all = ask(at, "GET /v1/tokens", &ada, Value::Null).await.json();
    let ids: Vec<&str> =
        all["tokens"].as_array().expect("tokens").iter().filter_map(|t| t["id"].as_str()).collect();
    assert_eq!(ids, [own.as_str(), id.as_str()], "an administrator's list has all");
    assert_eq!(all["tokens"][1]["created_by"], "ada");
    for (route, body, status) in [
        ("POST /v1/tokens", json!({ "name": "x", "user": "ada" }), 403),
        ("GET /v1/tokens?user=ada", Value::Null, 403),
        (&format!("DELETE /v1/tokens/{own}"), Value::Null, 404),
        ("POST /v1/tokens", json!({ "name": "x", "groups": ["$admins"] }), 400),
        ("POST /v1/tokens", json!({ "name": "x", "expires": "2020-01-01T00:00:00Z" }), 400),
        ("POST /v1/tokens", json!({ "name": "" }), 400),
        ("POST /v1/tokens", json!({ "name": "x", "login": "ada" }), 400),
        ("GET /v1/tokens?limit=0", Value::Null, 400),
    ] {
        let answer = ask(at, route, &bob, body).await;
        assert_eq!(answer.status, status, "{route}: {answer:?}");
    }
    let unknown = ask(at, "POST /v1/tokens", &ada, json!({ "name": "x", "user": "eve" })).await;
    assert_eq!(unknown.json()["type"], "urn:daybook:problem:user-not-found");
    let list = ask(at, "GET /v1/tokens?user=bob", &ada, Value::Null).await.json();
    assert_eq!(list["tokens"].as_array().map(Vec::len), Some(1));
    // What is not whole, and a user who may not call.
    let cut = format!("Bearer {}", &token[..40]);
    let refused = ask(at, "GET /ping", &cut, Value::Null).await;
    assert_eq!(refused.status, 401);
    assert_says(&refused.body, &["not a whole API token", "76"]);
    let ping = async || ask(at, "GET /ping", &format!("Bearer {token}"), Value::Null).await.status;
    assert_eq!(ping().await, 200);
    node.context().users().set_standing("bob", Standing::Disabled).await.expect("disabled");
    assert_eq!(ping().await, 401);
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_says_who_made_a_token_and_which_one_called() {
    let desk = Desk::new().await;
    let bob = known("bob", &[]);
    let new = NewUser {
        login: "bob".to_owned(),
        full_name: String::new(),
        groups: vec!["$ops".to_owned()],
        password: PASSWORD.to_owned(),
    };
    desk.server.context().users().create(new).await.expect("created");
    let made = desk.http(&bob, "POST /v1/tokens", r#"{"name":"ci"}"#).await.json().await;
    let (id, token) = (made["id"].as_str().expect("an id"), made["token"].as_str().expect("it"));
    let scavenge = desk.http(&machine("bob", &["$ops"]), "POST /admin/scavenge", "").await;
    assert_eq!(scavenge.status, 200);
    // Who has the token has not its id at hand.
    assert_eq!(desk.http(&bob, &format!("DELETE /v1/tokens/{token}"), "").await.status, 200);
    let events = desk.audit().await;
    let ended: Vec<&Value> =
        events.iter().filter(|event| event["type"] == "$ActionEnded").collect();
    let about = format!("token {id} of bob: ci");
    let said = |at: usize, member: &str| ended[at]["data"][member].clone();
    assert_eq!(
        (said(0, "what"), said(0, "about")),
        ("POST /v1/tokens".into(), about.clone().into())
    );
    assert_eq!(
        (said(1, "proof"), said(1, "token")),
        ("api_token".into(), "0011223344556677".into())
    );
    assert_eq!((said(2, "about"), said(2, "outcome")), (about.into(), "200".into()));
    assert!(!Value::from(events).to_string().contains(&token[4..]), "no secret is in it");
    let log = desk.http(&admin(), "GET /v1/all?limit=1000", "").await.text().await;
    assert!(!log.contains(&token[4..68]) && log.contains("$TokenCreated"), "nor in the log");
    // No list opens what holds its hash.
    desk.set_metadata("$settings", "{}").await;
    let settings = r#"{"type":"s","data":{"$systemStreamAcl":{"$r":"$all"}}}"#;
    desk.append("$settings", settings).await;
    for stream in ["$user-$tokens-bob".to_owned(), format!("$user-$token-{id}")] {
        let read = format!("GET /v1/streams/{stream}");
        assert_eq!(desk.http(&known("eve", &["$ops"]), &read, "").await.status, 403, "{stream}");
        let forged = r#"{"type":"$TokenCreated","data":{"tokens":[]}}"#;
        let write = desk.http(&admin(), &format!("POST /v1/streams/{stream}"), forged).await;
        assert_eq!(write.status, 403, "{stream}");
    }
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_makes_shows_and_ends_tokens() {
    let directory = TempDir::new().expect("a directory");
    let node = with_bob(&directory).await;
    let url = format!("http://{}", node.address());
    let run = |arguments: Vec<String>, more: &[(&str, &str)]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut command = daybook(&arguments);
        command.env("DAYBOOK_URL", &url).envs(more.iter().copied());
        tokio::task::spawn_blocking(move || command.output().expect("the binary runs"))
    };
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let ada = [("DAYBOOK_USER", "ada"), ("DAYBOOK_PASSWORD", PASSWORD)];
    let create = words("tokens --json create nightly --for bob --group staff --expires-in 30d");
    let made = run(create, &ada).await.expect("no panic");
    assert!(made.status.success(), "{}", said(&made));
    let made: Value = serde_json::from_slice(&made.stdout).expect("JSON");
    let (id, token) = (made["id"].as_str().expect("an id"), made["token"].as_str().expect("it"));
    let file = write(directory.path(), "token", token).display().to_string();
    let as_machine = [("DAYBOOK_TOKEN_FILE", file.as_str())];
    let appended = run(words("append orders-1 Ordered {}"), &as_machine).await.expect("no panic");
    assert!(appended.status.success(), "{}", said(&appended));
    let listed = run(words("tokens"), &ada).await.expect("no panic");
    assert_says(&String::from_utf8_lossy(&listed.stdout), &[id, "bob", "nightly", "staff"]);
    let revoked = run(words(&format!("tokens revoke {token}")), &ada).await.expect("no panic");
    assert!(revoked.status.success(), "{}", said(&revoked));
    let refused = run(words("read orders-1"), &as_machine).await.expect("no panic");
    assert!(!refused.status.success());
    let audit = words("audit --who ada --what /v1/tokens --outcome 20 --since 1h");
    let audit = run(audit, &ada).await.expect("no panic");
    let shown = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert_says(&shown, &["POST /v1/tokens", &format!("DELETE /v1/tokens/{id}"), "nightly", "201"]);
    assert!(!shown.contains(&token[4..]), "{shown}");
    node.stop(PATIENCE).await;
}
