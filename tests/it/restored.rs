//! A restored store answers every read as the original did at that position.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use daybook::node::Config;
use daybook_store::Options;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::daemon::{run, said, verify};
use crate::support::http::{call, get};
use crate::support::node::{SMALL, Server};

/// Streams, events, money: what there is before the backup, and again after it.
async fn live(server: &Server, turn: u32) {
    let address = server.address();
    for number in 0..30 {
        let stream = format!("order-{}", number % 4);
        let event = json!({
            "type": format!("Order{}", number % 3),
            "data": { "turn": turn, "number": number },
            "metadata": { "$correlationId": format!("chain-{}", number % 5) },
        });
        written(address, "POST", &format!("/v1/streams/{stream}"), &event).await;
        written(address, "POST", &format!("/v1/streams/left-{turn}-{}", number % 2), &event).await;
    }
    written(address, "PUT", "/v1/streams/order-3/metadata", &json!({ "$maxCount": 2 })).await;
    written(address, "DELETE", &format!("/v1/streams/left-{turn}-0"), &json!({})).await;
    written(address, "DELETE", &format!("/v1/streams/left-{turn}-1?hard=true"), &json!({})).await;
    let url = format!("http://{address}");
    let demo = tokio::task::spawn_blocking(move || run(&["demo", "--url", &url]));
    let demo = demo.await.expect("no panic");
    assert!(demo.status.success(), "{}", said(&demo));
}

async fn written(address: SocketAddr, method: &str, path: &str, body: &Value) {
    let answer = call(address, method, path, &[], body.to_string()).await;
    assert!((200..300).contains(&answer.status), "{path}: {} {}", answer.status, answer.body);
}

/// What readers can ask of what is there up to `last`, each question with its answer.
async fn answers(address: SocketAddr, last: u64) -> BTreeMap<String, (u16, String)> {
    let mut asked = BTreeMap::new();
    let all = ask(&mut asked, address, "/v1/all?limit=1000".to_owned()).await;
    let events = all["events"].as_array().expect("events").clone();
    assert!(events.len() < 1000, "one page has them all");
    let mut paths = BTreeSet::new();
    let mut add = |path: String| {
        paths.insert(path);
    };
    add("/v1/all?limit=1000&direction=backwards".to_owned());
    add("/v1/all?limit=1000&type_prefix=Order".to_owned());
    add("/v1/all?limit=1000&stream_regex=^order-[12]$".to_owned());
    add("/v1/streams?limit=1000".to_owned());
    for event in &events {
        let stream = event["stream"].as_str().expect("a stream");
        let (kind, id) = (event["type"].as_str().expect("a type"), stream.split_once('-'));
        for query in ["", "?direction=backwards", "?from=1&limit=3"] {
            add(format!("/v1/streams/{stream}{query}"));
        }
        add(format!("/v1/streams/{stream}/metadata"));
        add(format!("/v1/index/type/{kind}?limit=1000"));
        add(format!("/v1/streams/$et-{kind}?limit=1000"));
        add(format!("/v1/events?type={kind}&min_position={last}"));
        if let Some((category, id)) = id {
            add(format!("/v1/index/category/{category}?limit=1000"));
            add(format!("/v1/streams/$ce-{category}?limit=1000"));
            if category == "account" && id.parse::<Uuid>().is_ok() {
                for more in ["", "?revision=0", "/statement"] {
                    add(format!("/v1/accounts/{id}{more}"));
                }
                add(format!("/v1/accounts/{id}/transactions?min_position={last}"));
            }
            if category == "transfer" && id.parse::<Uuid>().is_ok() {
                add(format!("/v1/transfers/{id}"));
                add(format!("/v1/sagas/{id}"));
            }
        }
        if let Some(chain) = event["metadata"]["$correlationId"].as_str() {
            add(format!("/v1/index/correlation/{chain}?limit=1000"));
            add(format!("/v1/streams/$bc-{chain}?limit=1000"));
        }
    }
    for list in ["accounts", "transfers", "payments/daily", "sagas/overview"] {
        add(format!("/v1/{list}?min_position={last}"));
    }
    add("/v1/sagas".to_owned());
    add("/v1/risk/rules".to_owned());
    add("/v1/trial-balance?verify=true".to_owned());
    for path in paths {
        ask(&mut asked, address, path).await;
    }
    asked
}

async fn ask(
    asked: &mut BTreeMap<String, (u16, String)>,
    address: SocketAddr,
    path: String,
) -> Value {
    let answer = get(address, &path).await;
    let value = serde_json::from_str(&answer.body).unwrap_or_default();
    asked.insert(path, (answer.status, answer.body));
    value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_answers_every_read_as_the_original_did_at_that_position() {
    let place = TempDir::new().expect("a directory");
    let text = |name: &str| place.path().join(name).display().to_string();
    let config = Config {
        options: Options { sizes: SMALL, ..Options::default() },
        ..Config::in_directory(text("data"))
    };
    let server = Server::start_with(config).await;
    live(&server, 1).await;
    let end = server.store().committed().0;
    let original = answers(server.address(), end - 1).await;
    assert_eq!(server.store().committed().0, end, "reads write nothing");
    live(&server, 2).await;
    assert!(server.store().committed().0 > end + 60, "the backup has more than is restored");

    let (url, repository) = (format!("http://{}", server.address()), text("repository"));
    // The last event that is to be there.
    let position = (end - 1).to_string();
    let restored = text("restored");
    let done = tokio::task::spawn_blocking({
        let restored = restored.clone();
        move || {
            let taken = run(&["backup", "--url", &url, "--to", &repository]);
            assert!(taken.status.success(), "{}", said(&taken));
            let to = ["restore", "--data", &restored, "--from", &repository];
            let done = run(&[&to[..], &["--to-position", &position]].concat());
            assert!(done.status.success(), "{}", said(&done));
            verify(Path::new(&restored));
        }
    });
    done.await.expect("no panic");
    server.stop().await;

    let server = Server::start(Path::new(&restored)).await;
    let found = answers(server.address(), end - 1).await;
    server.stop().await;
    let good = original.values().filter(|(status, _)| *status == 200).count();
    assert!(original.len() > 100 && good > original.len() / 2, "{good} of {}", original.len());
    let other = original.iter().filter(|(path, answer)| found.get(*path) != Some(*answer));
    let other: Vec<_> = other.map(|(path, answer)| (path, answer, found.get(path))).collect();
    assert!(other.is_empty(), "{other:#?}");
    assert_eq!(found.len(), original.len());
}
