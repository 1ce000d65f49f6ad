//! Processes without a store: how they protect themselves, and ask who calls.

use std::net::SocketAddr;
use std::path::Path;

use daybook::front::{Front, Reception};
use daybook::memory::Memory;
use daybook::node::{Config, Node};
use daybook::query;
use daybook::security::tls::{ClientsSettings, Demand, TlsSettings, Version};
use daybook::security::{Asks, Settings};
use daybook::users::NewUser;
use daybook_projections::postgres::{Postgres, SCHEMA_DEFAULT, Server as Database};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::daemon::{daybook, run, said};
use crate::support::pki::{Authority, Holds, write};
use crate::support::secure::Visitor;
use crate::support::{PATIENCE, soon};

/// Nothing listens there.
const NO_DATABASE: &str = "postgres://front@127.0.0.1:1/daybook";

fn tls(directory: &Path, ours: &Authority, clients: bool) -> TlsSettings {
    let leaf = ours.server(1);
    let clients = clients.then(|| ClientsSettings {
        authorities: write(directory, "clients.crt", ours.pem()).into(),
        demand: Demand::Optional,
        revoked: None,
    });
    TlsSettings {
        certificate: write(directory, "server.crt", &leaf.certificate).into(),
        key: write(directory, "server.key", &leaf.key).into(),
        clients,
        oldest: Version::V13,
    }
}

/// A query front without its database, that gives who has a certificate these groups.
async fn front(directory: &Path, ours: &Authority, groups: &[&str]) -> Front {
    let database = Database::parse(NO_DATABASE).expect("a URL");
    let postgres = Postgres::new(database, SCHEMA_DEFAULT, None).expect("a pool");
    let security =
        Settings { tls: Some(tls(directory, ours, true)), asks: Asks::Everyone, tokens: None };
    let reception = Reception {
        listener: TcpListener::bind("127.0.0.1:0").await.expect("a port"),
        connections_max: 16,
        security,
        certificate_groups: groups.iter().map(|&group| group.to_owned()).collect(),
        host_names: Vec::new(),
    };
    query::start(postgres, &Memory::default(), reception).expect("a front")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_asks_for_a_certificate_and_its_groups_decide() {
    let directory = TempDir::new().expect("a directory");
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let ada = ours.client("ada", 10, Holds::Now);
    let strange = theirs.client("ada", 11, Holds::Now);
    let nobody = Visitor::believing(&ours);
    // Whom it lets through is told that there is no database.
    for (groups, lists, figures) in [
        (&[][..], 403, 403),
        (&["$monitor"][..], 403, 200),
        (&["ledger-read"][..], 503, 403),
        (&["$admins"][..], 503, 200),
    ] {
        let front = front(directory.path(), &ours, groups).await;
        let at = front.address();
        let status = async |visitor: Visitor<'_>, path: &str| match visitor.get(at, path).await {
            Ok((status, _)) => status,
            Err(_) => 0,
        };
        assert_eq!(status(nobody, "/health/live").await, 204);
        assert_eq!(status(nobody, "/health/ready").await, 503);
        for path in ["/v1/accounts", "/metrics", "/openapi.json"] {
            assert_eq!(status(nobody, path).await, 401, "{path}");
            assert_eq!(status(nobody.showing(&strange), path).await, 0, "{path}: of others");
        }
        let known = nobody.showing(&ada);
        assert_eq!(status(known, "/v1/accounts").await, lists, "{groups:?}");
        assert_eq!(status(known, "/metrics").await, figures, "{groups:?}");
        assert_eq!(status(known, "/openapi.json").await, 200, "{groups:?}");
        front.stop(PATIENCE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fronts_certificates_change_while_it_runs() {
    let directory = TempDir::new().expect("a directory");
    let (ours, next) = (Authority::new("ours"), Authority::new("next"));
    let front = front(directory.path(), &ours, &["$monitor"]).await;
    let ada = next.client("ada", 10, Holds::Now);
    let visitor = Visitor::believing(&next).showing(&ada);
    assert!(visitor.get(front.address(), "/metrics").await.is_err(), "not yet");
    tls(directory.path(), &next, true);
    front.security().reload().await.expect("read again");
    assert_eq!(visitor.get(front.address(), "/metrics").await.expect("an answer").0, 200);
    front.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_front_that_asks_nobody_answers_to_no_strange_name() {
    let ours = |host_names: &[&str]| {
        let host_names = host_names.iter().map(|&name| name.to_owned()).collect();
        async move {
            let database = Database::parse(NO_DATABASE).expect("a URL");
            let postgres = Postgres::new(database, SCHEMA_DEFAULT, None).expect("a pool");
            let reception = Reception {
                listener: TcpListener::bind("127.0.0.1:0").await.expect("a port"),
                connections_max: 16,
                security: Settings::default(),
                certificate_groups: Vec::new(),
                host_names,
            };
            query::start(postgres, &Memory::default(), reception).expect("a front")
        }
    };
    let strange = "evil.example:2114";
    for (host_names, host, expected) in [
        (&[][..], "127.0.0.1", 204),
        (&[], "localhost:2114", 204),
        (&[], strange, 421),
        (&["lists.internal"], "lists.internal", 204),
        (&["lists.internal"], strange, 421),
    ] {
        let front = ours(host_names).await;
        assert_eq!(named(front.address(), host).await, expected, "{host_names:?} {host}");
        front.stop(PATIENCE).await;
    }
}

/// The status of an answer to a request for a name.
async fn named(address: SocketAddr, host: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = format!("GET /health/live HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.expect("text");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

#[test]
fn a_front_is_for_this_machine_unless_it_is_protected() {
    let directory = TempDir::new().expect("a directory");
    let ours = Authority::new("ours");
    let tls = tls(directory.path(), &ours, true);
    let file = |path: &Path| path.display().to_string();
    let (certificate, key) = (file(tls.certificate.place()), file(tls.key.place()));
    let secured = ["--tls-cert", &certificate, "--tls-key", &key];
    let serve = ["query", "serve", "--postgres", NO_DATABASE, "--listen", "0.0.0.0:0"];
    for (more, words) in [
        (&[][..], "other machines could reach it"),
        (&secured[..], "nobody could prove who they are"),
        (&[&secured[..], &["--auth", "off"]].concat()[..], "other machines could reach it"),
        (&["--tls-cert", &certificate], "--tls-key"),
        (&["--auth", "required"], "--jwt"),
    ] {
        let refused = run(&[&serve[..], more].concat());
        assert_eq!(refused.status.code(), Some(1), "{more:?}: {}", said(&refused));
        assert!(said(&refused).contains(words), "{more:?}: {}", said(&refused));
    }
}

/// A server with TLS that asks everyone, and a file with its administrator's password.
async fn secured_server(directory: &Path, ours: &Authority) -> (Node, String) {
    let settings =
        Settings { tls: Some(tls(directory, ours, false)), asks: Asks::Everyone, tokens: None };
    let config = Config { security: settings, ..Config::in_directory(directory.join("data")) };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let node = Node::start(config, listener).await.expect("a server");
    let admin = NewUser {
        login: "root".to_owned(),
        full_name: "Root".to_owned(),
        groups: vec!["$admins".to_owned()],
        password: "analytical engine".to_owned(),
    };
    node.context().users().create(admin).await.expect("created");
    let password = write(directory, "password", "analytical engine");
    (node, password.display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_reach_a_server_that_is_encrypted_and_asks_who_calls() {
    let directory = TempDir::new().expect("a directory");
    let ours = Authority::new("ours");
    let (node, password) = secured_server(directory.path(), &ours).await;
    let ca = write(directory.path(), "ca.crt", ours.pem()).display().to_string();
    let address: SocketAddr = node.address();
    let url = format!("https://localhost:{}", address.port());
    let known = ["--ca", &ca, "--user", "root", "--password-file", &password];
    let commands: [&[&str]; 5] = [
        &["health", "--url", &url],
        &["stats", "--url", &url],
        &["demo", "--url", &url],
        &["load", "--url", &url, "--users", "4", "--seconds", "0.2"],
        &["projections", "list", "--url", &url],
    ];
    for command in commands {
        let arguments = [command, &known[..]].concat();
        let mut told = daybook(&arguments);
        let told = tokio::task::spawn_blocking(move || told.output().expect("it runs"));
        let told = told.await.expect("no panic");
        assert!(told.status.success(), "{command:?}: {}", said(&told));
    }
    for (lacks, command) in [("--ca", &["demo", "--url", &url, "--user", "root"][..])] {
        let mut told = daybook(command);
        told.args(["--password-file", &password]);
        let told = tokio::task::spawn_blocking(move || told.output().expect("it runs"));
        let told = told.await.expect("no panic");
        assert_eq!(told.status.code(), Some(1), "without {lacks}: {}", said(&told));
    }
    node.stop(PATIENCE).await;
}
