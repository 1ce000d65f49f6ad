//! Connectors of a server, and in a process of their own: what they deliver through pauses, kills
//! and restarts, and what a person sees of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::daemon::{Daemon, daybook, run, said};
use crate::support::http::{get, post};
use crate::support::{PATIENCE, assert_says, until};

/// A directory with a store's data, a configuration, and the file that a connector writes.
struct Place {
    directory: TempDir,
}

impl Place {
    /// With a connector that writes `more` of its table.
    fn with(more: &str) -> Place {
        let place = Place { directory: TempDir::new().expect("a directory") };
        let file = place.path("books.jsonl");
        let text = format!(
            "[[connector]]\nname = 'books'\nkind = 'file'\npath = '{}'\n{more}",
            file.display()
        );
        std::fs::write(place.path("connectors.toml"), text).expect("a file");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A server with the connectors in it.
    fn serve(&self) -> Daemon {
        let mut command = daybook(&["serve", "--listen", "127.0.0.1:0", "--data"]);
        command.arg(self.path("data")).arg("--connectors").arg(self.path("connectors.toml"));
        Daemon::spawn(command, PATIENCE).unwrap_or_else(|said| panic!("no server: {said}"))
    }

    /// The connectors in a process of their own.
    fn run_alone(&self, server: SocketAddr) -> Daemon {
        let url = format!("http://{server}");
        let mut command =
            daybook(&["connectors", "run", "--url", &url, "--listen", "127.0.0.1:0", "--config"]);
        command.arg(self.path("connectors.toml"));
        Daemon::spawn(command, PATIENCE).unwrap_or_else(|said| panic!("no process: {said}"))
    }

    /// The numbers in the lines of the file, in order.
    fn numbers(&self) -> Vec<u64> {
        let Ok(text) = std::fs::read_to_string(self.path("books.jsonl")) else { return Vec::new() };
        // Who reads while it is written may see a part of the last line; one that was torn and gone on
        // from would not be JSON.
        let text = text.rfind('\n').map_or("", |end| &text[..end]);
        let number = |line: &str| {
            let value: Value = serde_json::from_str(line).expect("a line of JSON");
            value["data"]["n"].as_u64().expect("a number")
        };
        text.lines().map(number).collect()
    }
}

/// Appends events with these numbers, to three streams in turn.
async fn fill(server: SocketAddr, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let body = json!({ "type": "Placed", "data": { "n": n } }).to_string();
        let appended = post(server, &format!("/v1/streams/order-{}", n % 3), body).await;
        assert_eq!(appended.status, 200, "{appended:?}");
    }
}

async fn books(at: SocketAddr) -> Value {
    get(at, "/v1/connectors/books").await.json()
}

/// Runs `daybook connectors … --json` at `at`, and answers with how it ended and what it said.
async fn tell(at: SocketAddr, arguments: &[&str]) -> (bool, Value, String) {
    let url = format!("http://{at}");
    let mut all = vec!["connectors".to_owned(), "--url".to_owned(), url, "--json".to_owned()];
    all.extend(arguments.iter().map(|word| (*word).to_owned()));
    let ran = tokio::task::spawn_blocking(move || {
        run(&all.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let output = ran.await.expect("no panic");
    let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.success(), value, said(&output))
}

async fn until_live(at: SocketAddr) {
    until("the connector is live", || async {
        let books = books(at).await;
        books["state"] == "live" && books["lag_events"].as_u64() <= Some(2)
    })
    .await;
}

async fn end(daemon: Daemon) {
    let (status, said) =
        tokio::task::spawn_blocking(|| daemon.terminate()).await.expect("no panic");
    assert!(status.success(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_relays_through_pauses_restarts_and_kills() {
    let place = Place::with("[connector.select]\ncategories = ['order']");
    let server = place.serve();
    fill(server.address, 0..20).await;
    until("all are written", || async { place.numbers().len() == 20 }).await;
    until_live(server.address).await;
    let status = books(server.address).await;
    assert_eq!((&status["delivered"], &status["kind"]), (&20.into(), &"file".into()), "{status}");
    let metrics = get(server.address, "/metrics").await.body;
    assert_says(
        &metrics,
        &["daybook_connector_delivered_total{connector=\"books\"} 20", "daybook_connector_up"],
    );
    let (done, paused, said) = tell(server.address, &["pause", "books"]).await;
    assert!(done, "{said}");
    assert_eq!(paused["name"], "books");
    until("it is paused", || async { books(server.address).await["state"] == "paused" }).await;
    end(server).await;

    // A pause survives a restart; what was written before it is not written again.
    let server = place.serve();
    fill(server.address, 20..40).await;
    until("it is paused, and says how far it is behind", || async {
        let status = books(server.address).await;
        let behind = status["lag_events"].as_u64() >= Some(20);
        status["state"] == "paused" && status["position"].is_u64() && behind
    })
    .await;
    assert_eq!(place.numbers().len(), 20);
    let (done, _, said) = tell(server.address, &["resume", "books"]).await;
    assert!(done, "{said}");
    until("all are written", || async { place.numbers().len() == 40 }).await;
    assert_eq!(place.numbers(), (0..40).collect::<Vec<_>>());
    tokio::task::spawn_blocking(|| server.kill()).await.expect("no panic");

    // After a kill some may come twice, and none is missing.
    let server = place.serve();
    fill(server.address, 40..50).await;
    until("all are written", || async { place.numbers().contains(&49) }).await;
    let mut numbers = place.numbers();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..50).collect::<Vec<_>>());
    end(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connectors_run_alone_and_outlive_their_server() {
    let place = Place::with("[connector.mapping]\nfields = ['n']\n");
    let server = Daemon::start(&place.path("data"));
    fill(server.address, 0..10).await;
    let odd = post(server.address, "/v1/streams/order-9", r#"{"type":"Odd","data":[1]}"#).await;
    assert_eq!(odd.status, 200, "{odd:?}");
    let position = odd.json()["position"].as_u64().expect("a position").to_string();
    let alone = place.run_alone(server.address);
    let at = alone.address;
    until("all are written", || async { place.numbers().len() == 10 }).await;
    until("one is parked", || async { books(at).await["parked"] == 1 }).await;

    let (done, parked, said) = tell(at, &["parked", "books"]).await;
    assert!(done, "{said}");
    assert_eq!(parked["parked"][0]["position"].to_string(), position, "{parked}");
    assert_says(&parked.to_string(), &["order-9", "Odd", "no JSON object"]);
    let (done, _, said) = tell(at, &["retry", "books", &position]).await;
    assert!(!done, "it is as odd as before");
    assert_says(&said, &["502", "no JSON object"]);
    let (done, ..) = tell(at, &["retry", "books"]).await;
    assert!(!done, "it is still parked");
    let (done, left, said) = tell(at, &["discard", "books", &position, "--reason", "a test"]).await;
    assert!(done, "{said}");
    assert_eq!(left["parked"], 0, "{left}");
    let (done, _, said) = tell(at, &["discard", "books", &position, "--reason", "again"]).await;
    assert!(!done);
    assert_says(&said, &["has parked no message of position"]);
    let (done, _, said) = tell(at, &["status", "another"]).await;
    assert!(!done);
    assert_says(&said, &["404", "no connector 'another' runs here"]);
    let (done, list, said) = tell(at, &["list"]).await;
    assert!(done, "{said}");
    assert_eq!(list["connectors"][0]["name"], "books");
    assert_eq!(get(at, "/health/ready").await.status, 204);
    assert_says(
        &get(at, "/metrics").await.body,
        &["daybook_connector_parked{connector=\"books\"} 0"],
    );

    // The server goes and comes back at the same address.
    let listen = server.address;
    tokio::task::spawn_blocking(|| server.kill()).await.expect("no panic");
    let server = Daemon::start_at(&place.path("data"), listen);
    fill(server.address, 10..20).await;
    until("all are written", || async { place.numbers().contains(&19) }).await;
    let mut numbers = place.numbers();
    numbers.dedup();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
    end(alone).await;
    end(server).await;
}

#[test]
fn a_configuration_that_is_wrong_is_named_before_anything_is_started() {
    let place = Place::with("colour = 'red'");
    let config = place.path("connectors.toml");
    let config = config.to_str().expect("a path of this test's own");
    let data = place.path("data");
    let serve = run(&["serve", "--data", data.to_str().expect("a path"), "--connectors", config]);
    let check = run(&["connectors", "check", config]);
    for output in [serve, check] {
        assert_eq!(output.status.code(), Some(1));
        assert_says(&said(&output), &[config, "[[connector]] books, colour: is not known here"]);
    }
    assert!(!data.join("next.tmp").exists() && is_empty(&data), "nothing was made");
    let right = Place::with("");
    let config = right.path("connectors.toml");
    let check = run(&["connectors", "check", config.to_str().expect("a path")]);
    assert!(check.status.success(), "{}", said(&check));
    assert_says(&String::from_utf8_lossy(&check.stdout), &["right, with books"]);
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_none())
}
