//! Who is believed; the first administrator; what protects a server.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use daybook::node::{Config, Node};
use daybook::security::{Asks, Settings};
use daybook::users::{NewUser, Standing};
use daybook_client::{
    CallError, Client, Delivery, ExpectedRevision, Links, SubscribeFrom, SubscribeStream,
};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};

use crate::support::daemon::{Daemon, daybook, run, said};
use crate::support::events::{event, name};
use crate::support::http::{Answer, call, get};
use crate::support::pki::write;
use crate::support::{PATIENCE, assert_says, soon, until};

pub const PASSWORD: &str = "analytical engine";

/// A server that asks everyone, and knows Ada, an administrator.
pub async fn server(directory: &Path) -> Node {
    let security = Settings { asks: Asks::Everyone, ..Settings::default() };
    let config = Config { security, ..Config::in_directory(directory) };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let node = Node::start(config, listener).await.expect("a server");
    let ada = NewUser {
        login: "ada".to_owned(),
        full_name: "Ada".to_owned(),
        groups: vec!["$admins".to_owned()],
        password: PASSWORD.to_owned(),
    };
    node.context().users().create(ada).await.expect("created");
    node
}

/// `GET /ping` with what stands in `Authorization`.
async fn ping(address: SocketAddr, authorization: &[&str]) -> Answer {
    let headers: Vec<_> = authorization.iter().map(|value| ("authorization", *value)).collect();
    call(address, "GET", "/ping", &headers, "").await
}

/// Credentials as clients send them.
pub fn basic(login: &str, password: &str) -> String {
    let text = format!("http://{login}:{password}@localhost");
    let text = text.replace(' ', "%20");
    let settings = daybook_client::Settings::parse(&text).expect("a URL");
    settings.authorization().expect("credentials")
}

pub fn client(address: SocketAddr, login: &str, password: &str) -> Client {
    let password = password.replace(' ', "%20");
    let string = format!("daybook://{login}:{password}@{address}?tls=false");
    Client::new(&string).expect("a client")
}

pub async fn append(client: &Client, id: u128) -> Result<(), CallError> {
    let done = client.append(&name("orders-1"), ExpectedRevision::Any, vec![event(id)]).await;
    done.map(|_| ()).map_err(|error| match error {
        daybook_client::AppendError::Call(error) => error,
        error => panic!("{error}"),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_believed_or_refused_at_the_door() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    let at = node.address();
    assert_eq!(get(at, "/ping").await.status, 200, "nobody is nobody");
    let right = basic("ada", PASSWORD);
    assert_eq!(ping(at, &[&right]).await.status, 200);
    let wrong = [basic("ada", "wrong"), basic("bob", PASSWORD), "Bearer a.b.c".to_owned()];
    let unreadable = ["Basic !", "Basic", "Digest x"].map(str::to_owned);
    for value in wrong.iter().chain(&unreadable) {
        let answer = ping(at, &[value]).await;
        assert_eq!(answer.status, 401, "{value}: {answer:?}");
        let ways = answer.header("www-authenticate");
        assert_eq!(ways, Some("Basic realm=\"daybook\", Bearer"), "{value}");
        assert_eq!(answer.json()["type"], "urn:daybook:problem:unauthenticated", "{value}");
    }
    assert_eq!(ping(at, &[&right, &right]).await.status, 401, "twice");
    append(&client(at, "ada", PASSWORD), 1).await.expect("appended");
    let refused = append(&client(at, "ada", "wrong"), 1).await;
    assert_eq!(refused, Err(CallError::Unauthenticated));
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_of_a_user_counts_at_once() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    let (at, users) = (node.address(), node.context().users());
    let (old, new) = (basic("ada", PASSWORD), basic("ada", "difference engine"));
    let status = async |value: &str| ping(at, &[value]).await.status;
    assert_eq!((status(&old).await, status(&new).await), (200, 401));
    users.reset_password("ada", "difference engine".to_owned()).await.expect("changed");
    assert_eq!((status(&old).await, status(&new).await), (401, 200));
    users.set_standing("ada", Standing::Disabled).await.expect("disabled");
    assert_eq!(status(&new).await, 401);
    users.set_standing("ada", Standing::Enabled).await.expect("enabled");
    assert_eq!(status(&new).await, 200);
    users.delete("ada").await.expect("deleted");
    assert_eq!(status(&new).await, 401);
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_follows_ends_when_the_user_may_call_no_more() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    let (at, users) = (node.address(), node.context().users());
    let bob = NewUser {
        login: "bob".to_owned(),
        full_name: "Bob".to_owned(),
        groups: vec!["staff".to_owned()],
        password: PASSWORD.to_owned(),
    };
    users.create(bob).await.expect("created");
    append(&client(at, "ada", PASSWORD), 1).await.expect("appended");
    let bob = client(at, "bob", PASSWORD);
    let (from, links) = (SubscribeFrom::Start, Links::Keep);
    let asked = SubscribeStream { stream: name("orders-1"), from, links };
    let mut follows = bob.subscribe_stream(asked).await.expect("a subscription");
    while !matches!(soon("it is live", follows.next()).await, Ok(Delivery::CaughtUp)) {}
    // What changes nothing of Bob ends nothing.
    users.set_standing("ada", Standing::Enabled).await.expect("enabled");
    users.update("bob", "Robert", &["staff".to_owned()]).await.expect("another name");
    append(&client(at, "ada", PASSWORD), 2).await.expect("appended");
    let next = soon("the next event", follows.next()).await;
    assert!(matches!(next, Ok(Delivery::Event(_))), "{next:?}");
    users.set_standing("bob", Standing::Disabled).await.expect("disabled");
    let ended = async { while follows.next().await.is_ok() {} };
    soon("it ends", ended).await;
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_is_locked_out_and_who_is_known_is_not() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    let at = node.address();
    let right = basic("ada", PASSWORD);
    assert_eq!(ping(at, &[&right]).await.status, 200);
    for number in 0..10 {
        let guess = basic("ada", &number.to_string());
        assert_eq!(ping(at, &[&guess]).await.status, 401, "{number}");
    }
    let locked = ping(at, &[&basic("ada", "one more")]).await;
    assert_eq!(locked.status, 429, "{locked:?}");
    let wait: u64 = locked.header("retry-after").expect("a time").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    let refused = append(&client(at, "ada", "another"), 1).await;
    assert!(matches!(refused, Err(CallError::Overloaded { .. })), "{refused:?}");
    assert_eq!(ping(at, &[&right]).await.status, 200, "who is known goes on");
    let page = call(at, "GET", "/metrics", &[("authorization", &right)], "").await.body;
    for line in [
        "daybook_authentications_total{outcome=\"locked_out\",proof=\"password\"} 2",
        "daybook_authentications_total{outcome=\"wrong\",proof=\"password\"} 10",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
    node.stop(PATIENCE).await;
}

/// `daybook serve` on `data`, with more arguments.
fn serve(data: &Path, more: &[&str]) -> Command {
    let mut command = daybook(&["serve", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(data).args(more);
    command
}

/// `daybook …` as a user of `address`.
fn as_user(address: &str, password: &str, arguments: &[&str]) -> Output {
    let mut command = daybook(arguments);
    command.env("DAYBOOK_URL", address).env("DAYBOOK_USER", "admin");
    command.env("DAYBOOK_PASSWORD", password);
    command.output().expect("the binary runs")
}

/// The password that a server has shown.
fn shown(said: &str) -> Option<String> {
    let mut lines = said.lines().filter_map(|line| line.strip_prefix("  password   "));
    lines.next().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_administrator_has_a_password_that_is_shown_once() {
    let directory = TempDir::new().expect("a directory");
    let data = directory.path().join("data");
    let server = Daemon::spawn(serve(&data, &["--auth", "required"]), PATIENCE).expect("a server");
    let url = format!("http://{}", server.address);
    let (_, first) = server.terminate();
    let password = shown(&first).expect("a password");
    assert!(password.len() >= 32, "{password}");
    assert_eq!(first.matches(&password).count(), 1, "{first}");

    let server = Daemon::spawn(serve(&data, &["--auth", "required"]), PATIENCE).expect("a server");
    assert_ne!(url, format!("http://{}", server.address));
    let url = format!("http://{}", server.address);
    let listed = as_user(&url, &password, &["users", "--json"]);
    assert_says(&String::from_utf8_lossy(&listed.stdout), &["\"admin\"", "$admins"]);
    let refused = as_user(&url, "changeit", &["users"]);
    assert!(!refused.status.success() && refused.stdout.is_empty());
    let (_, second) = server.terminate();
    assert_eq!(shown(&second), None, "{second}");
    assert!(!second.contains(&password));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_that_is_ready_lets_its_administrator_in() {
    let directory = TempDir::new().expect("a directory");
    let data = directory.path().join("data");
    let file = write(directory.path(), "password", "given to it").display().to_string();
    let address = free_address();
    let mut command = daybook(&["serve", "--listen", &address.to_string(), "--data"]);
    command.arg(&data).args(["--auth", "required", "--admin-password-file", &file]);
    let starting = tokio::task::spawn_blocking(move || Daemon::spawn(command, PATIENCE));
    until("the socket", async || TcpStream::connect(address).await.is_ok()).await;
    // Asked before it says that it is ready: the first answer there is.
    assert_eq!(get(address, "/health/ready").await.status, 200);
    let admitted = ping(address, &[&basic("admin", "given to it")]).await;
    assert_eq!(admitted.status, 200, "{}", admitted.body);
    starting.await.expect("no panic").expect("a server").terminate();
}

/// An address that nobody listens at.
fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_given_is_not_shown() {
    let directory = TempDir::new().expect("a directory");
    let data = directory.path().join("data");
    let file = write(directory.path(), "password", "given to it\n");
    let file = file.display().to_string();
    let more = ["--auth", "required", "--admin-password-file", &file];
    let server = Daemon::spawn(serve(&data, &more), PATIENCE).expect("a server");
    let url = format!("http://{}", server.address);
    let created = write(directory.path(), "bob", "secret of bob");
    let created = created.display().to_string();
    let create = ["users", "create", "bob", "--group", "$ops", "--new-password-file", &created];
    for (arguments, word) in [
        (&create[..], "$ops"),
        (&["users", "groups", "bob", "a", "b"], "a, b"),
        (&["users", "disable", "bob"], "no"),
        (&["users", "enable", "bob"], "yes"),
        (&["users", "passwd", "bob", "--new-password-file", &created], "changed"),
        (&["users", "delete", "bob"], "deleted"),
    ] {
        let done = as_user(&url, "given to it", arguments);
        assert!(done.status.success(), "{arguments:?}: {}", said(&done));
        assert_says(&String::from_utf8_lossy(&done.stdout), &[word]);
    }
    let (_, text) = server.terminate();
    assert!(!text.contains("given to it") && !text.contains("secret of bob"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn to_develop_with_everything_is_made_on_the_spot() {
    let directory = TempDir::new().expect("a directory");
    let data = directory.path().join("data");
    let server = Daemon::spawn(serve(&data, &["--dev"]), PATIENCE).expect("a server");
    let url = format!("https://localhost:{}", server.address.port());
    let ca = data.join("dev/ca.crt").display().to_string();
    let file = data.join("dev/admin-password").display().to_string();
    let trust = ["--url", &url, "--ca", &ca];
    let user = ["--user", "admin", "--password-file", &file];
    let with = |first: &[&str], more: &[&str]| run(&[first, &trust, more].concat());
    let health = with(&["health"], &[]);
    assert!(health.status.success(), "{}", said(&health));
    let appended = with(&["append", "a-1", "Opened", "{}"], &user);
    assert!(appended.status.success(), "{}", said(&appended));
    let (certificate, key) = (data.join("dev/client.crt"), data.join("dev/client.key"));
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let proof = ["--client-cert", &certificate, "--client-key", &key];
    let read = with(&["read", "a-1"], &proof);
    assert_says(&String::from_utf8_lossy(&read.stdout), &["Opened"]);
    let strange = run(&["health", "--url", &url]);
    assert!(!strange.status.success(), "nobody vouches for it to this machine");
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_machines_are_served_with_protection_or_when_it_is_spelled_out() {
    let directory = TempDir::new().expect("a directory");
    let certs = directory.path().join("certs").display().to_string();
    let made = run(&["certs", "dev", "--dir", &certs]);
    assert!(made.status.success(), "{}", said(&made));
    let (certificate, key) = (format!("{certs}/server.crt"), format!("{certs}/server.key"));
    let tls = ["--tls-cert", certificate.as_str(), "--tls-key", key.as_str()];
    let data = directory.path().join("data");
    let exposed = |more: &[&str]| {
        let mut command = daybook(&["serve", "--listen", "0.0.0.0:0", "--data"]);
        command.arg(&data).args(more);
        Daemon::spawn(command, PATIENCE)
    };
    let without_asking = [&tls[..], &["--auth", "off"]].concat();
    for refused in [&[][..], &["--auth", "required"], &without_asking] {
        let said = exposed(refused).map(Daemon::kill).expect_err("exposed");
        assert_says(&said, &["refusing to listen", "--tls-cert", "--insecure"]);
    }
    let protected = exposed(&tls).expect("a server");
    let (_, text) = protected.terminate();
    assert!(!text.contains("--insecure"), "{text}");
    let open = exposed(&["--insecure"]).expect("a server");
    open.wait_for("--insecure: other machines").expect("a warning");
    let address = SocketAddr::from(([127, 0, 0, 1], open.address.port()));
    assert_says(&get(address, "/metrics").await.body, &["\ndaybook_insecure 1\n"]);
    open.terminate();
}
