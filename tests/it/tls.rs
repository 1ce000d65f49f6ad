//! Who gets a secure connection, and who does not; certificates that change while it runs.

use std::path::Path;

use daybook::node::{Config, Node};
use daybook::security::tls::{ClientsSettings, Demand, TlsSettings, Version};
use daybook::security::{Asks, Settings};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::PATIENCE;
use crate::support::http::get;
use crate::support::pki::{Authority, Holds, Leaf, write};
use crate::support::secure::{OLD, Visitor};

/// What a server is told, in files of `directory`.
fn settings(directory: &Path, leaf: &Leaf) -> TlsSettings {
    TlsSettings {
        certificate: write(directory, "server.crt", &leaf.certificate).into(),
        key: write(directory, "server.key", &leaf.key).into(),
        clients: None,
        oldest: Version::V13,
    }
}

fn clients(directory: &Path, authority: &Authority, demand: Demand) -> ClientsSettings {
    let authorities = write(directory, "clients.crt", authority.pem());
    ClientsSettings { authorities: authorities.into(), demand, revoked: None }
}

async fn server(directory: &Path, tls: TlsSettings, asks: Asks) -> Node {
    let security = Settings { tls: Some(tls), asks, tokens: None };
    let config = Config { security, ..Config::in_directory(directory.join("data")) };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    Node::start(config, listener).await.expect("a server")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_speaks_tls_1_3_and_believes_the_server_is_heard() {
    let directory = TempDir::new().expect("a directory");
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let tls = settings(directory.path(), &ours.server(1));
    let node = server(directory.path(), tls.clone(), Asks::Nobody).await;
    let at = node.address();
    let visitor = Visitor::believing(&ours);
    assert_eq!(visitor.get(at, "/ping").await.expect("an answer").0, 200);
    assert!(Visitor::believing(&theirs).get(at, "/ping").await.is_err(), "another authority");
    assert!(Visitor { version: OLD, ..visitor }.get(at, "/ping").await.is_err(), "TLS 1.2");
    let plain = get(at, "/ping").await;
    assert_eq!((plain.status, plain.body.contains("https")), (400, true), "{plain:?}");
    let (_, page) = visitor.get(at, "/metrics").await.expect("an answer");
    for line in [
        "daybook_tls_handshake_failures_total{reason=\"not_tls\"} 1",
        "daybook_tls_handshake_failures_total{reason=\"other\"} 2",
    ] {
        assert!(page.contains(line), "{line} in {page}");
    }
    node.stop(PATIENCE).await;

    let older = TempDir::new().expect("a directory");
    let tls = TlsSettings { oldest: Version::V12, ..tls };
    let node = server(older.path(), tls, Asks::Nobody).await;
    for version in [OLD, visitor.version] {
        let answer = Visitor { version, ..visitor }.get(node.address(), "/ping").await;
        assert_eq!(answer.expect("an answer").0, 200);
    }
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_must_be_one_that_is_believed() {
    let ours = Authority::new("ours");
    let theirs = Authority::new("theirs");
    let (good, revoked) = (ours.client("ada", 10, Holds::Now), ours.client("ada", 11, Holds::Now));
    let expired = ours.client("ada", 12, Holds::Once);
    let strange = theirs.client("ada", 13, Holds::Now);
    let of_a_server = ours.server(14);
    for demand in [Demand::Optional, Demand::Required] {
        let directory = TempDir::new().expect("a directory");
        let list = write(directory.path(), "crl.pem", &ours.revoking(&[&revoked]));
        let asked = clients(directory.path(), &ours, demand);
        let asked = ClientsSettings { revoked: Some(list.into()), ..asked };
        let tls = settings(directory.path(), &ours.server(1));
        let tls = TlsSettings { clients: Some(asked), ..tls };
        let node = server(directory.path(), tls, Asks::Nobody).await;
        let visitor = Visitor::believing(&ours);
        let cases = [
            ("none", visitor, demand == Demand::Optional),
            ("a good one", visitor.showing(&good), true),
            ("a revoked one", visitor.showing(&revoked), false),
            ("one that has expired", visitor.showing(&expired), false),
            ("one of others", visitor.showing(&strange), false),
            ("a server's", visitor.showing(&of_a_server), false),
        ];
        for (what, visitor, heard) in cases {
            let answer = visitor.get(node.address(), "/ping").await;
            assert_eq!(answer.is_ok(), heard, "{what}, {demand:?}: {answer:?}");
        }
        node.stop(PATIENCE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_revoked_while_the_server_runs_is_refused_from_then_on() {
    let directory = TempDir::new().expect("a directory");
    let ours = Authority::new("ours");
    let leaf = ours.client("ada", 10, Holds::Now);
    let list = write(directory.path(), "crl.pem", &ours.revoking(&[]));
    let asked = clients(directory.path(), &ours, Demand::Optional);
    let asked = ClientsSettings { revoked: Some(list.into()), ..asked };
    let tls = settings(directory.path(), &ours.server(1));
    let tls = TlsSettings { clients: Some(asked), ..tls };
    let node = server(directory.path(), tls, Asks::Nobody).await;
    let visitor = Visitor::believing(&ours).showing(&leaf);
    assert!(visitor.get(node.address(), "/ping").await.is_ok());
    write(directory.path(), "crl.pem", &ours.revoking(&[&leaf]));
    node.context().security().reload().await.expect("read again");
    assert!(visitor.get(node.address(), "/ping").await.is_err());
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_common_name_of_a_certificate_is_a_users_login() {
    let directory = TempDir::new().expect("a directory");
    let ours = Authority::new("ours");
    let asked = clients(directory.path(), &ours, Demand::Optional);
    let tls = settings(directory.path(), &ours.server(1));
    let tls = TlsSettings { clients: Some(asked), ..tls };
    let node = server(directory.path(), tls, Asks::Everyone).await;
    let users = node.context().users();
    let ada = daybook::users::NewUser {
        login: "ada".to_owned(),
        full_name: "Ada".to_owned(),
        groups: vec!["$ops".to_owned()],
        password: "analytical engine".to_owned(),
    };
    users.create(ada).await.expect("created");
    let known = ours.client("ada", 10, Holds::Now);
    let unknown = ours.client("bob", 11, Holds::Now);
    let visitor = Visitor::believing(&ours);
    let status =
        async |leaf| visitor.showing(leaf).get(node.address(), "/ping").await.expect("an answer").0;
    assert_eq!((status(&known).await, status(&unknown).await), (200, 401));
    let standing = daybook::users::Standing::Disabled;
    users.set_standing("ada", standing).await.expect("disabled");
    assert_eq!(status(&known).await, 401);
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_are_for_new_connections_and_bad_ones_for_none() {
    let directory = TempDir::new().expect("a directory");
    let ours = Authority::new("ours");
    let (first, second) = (ours.server(1), ours.server(2));
    let node = server(directory.path(), settings(directory.path(), &first), Asks::Nobody).await;
    let security = node.context().security();
    let visitor = Visitor::believing(&ours);
    let mut old = visitor.connect(node.address()).await.expect("a connection");

    // The certificate comes before its key.
    write(directory.path(), "server.crt", &second.certificate);
    let refused = security.reload().await.expect_err("not its key");
    assert!(refused.contains("--tls-key"), "{refused}");
    assert!(security.reload().await.is_err(), "as long as it is so");
    let kept = visitor.connect(node.address()).await.expect("a connection");
    assert_eq!(kept.shown(), old.shown(), "the one before stays");

    write(directory.path(), "server.key", &second.key);
    security.reload().await.expect("read again");
    let mut new = visitor.connect(node.address()).await.expect("a connection");
    assert_ne!(new.shown(), old.shown());
    assert_eq!(old.get("/ping").await.expect("an answer").0, 200, "open ones stay");

    std::fs::remove_file(directory.path().join("server.key")).expect("removed");
    assert!(security.reload().await.is_err());
    let (_, page) = new.get("/metrics").await.expect("an answer");
    let failures = "daybook_tls_reload_failures_total 2\n";
    assert!(page.contains(failures), "each is counted once: {page}");
    node.stop(PATIENCE).await;
}
