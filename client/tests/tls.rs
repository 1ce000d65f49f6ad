//! A client before a server with TLS: whom it believes, and how it says so when it does not.

mod support;

use std::sync::Arc;

use daybook_client::{AppendError, CallError, Client, ConnectError};
use support::node::{Board, Node, State};
use support::pki::{Authority, Clients, Leaf, write};
use support::{append, assert_says, client};
use tempfile::TempDir;

/// A server that shows `leaf`.
async fn server(leaf: &Leaf, clients: Clients<'_>) -> Node {
    server_on(&Arc::new(Board::default()), leaf, clients).await
}

async fn server_on(board: &Arc<Board>, leaf: &Leaf, clients: Clients<'_>) -> Node {
    Node::start(board, State::Leader, Some(leaf.acceptor(clients))).await
}

fn string(host: &str, node: &Node, options: &str) -> String {
    format!("esdb://{host}:{}?{options}", node.address.port())
}

/// Fails unless an append is refused for want of security, for a reason that has all these words.
async fn assert_insecure(client: &Client, words: &[&str]) {
    let error = append(client).await.expect_err("it is refused");
    assert!(matches!(error, AppendError::Call(CallError::Insecure { .. })), "{error:?}");
    assert_says(&error.to_string(), words);
}

#[tokio::test]
async fn a_server_is_believed_if_an_authority_vouches_for_it_under_its_name() {
    let directory = TempDir::new().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let node = server(&ours.vouch_for("localhost"), Clients::Anybody).await;
    let trust = |file: &str, authority: &Authority| {
        format!("tlsCaFile={}", authority.file(&directory, file).display())
    };
    let right = trust("ours.pem", &ours);
    let name = format!("localhost:{}", node.address.port());

    let believer = client(&string("localhost", &node, &right));
    assert_eq!(append(&believer).await, Ok(0));
    // Over and over the same connection, also to a cluster.
    assert_eq!(append(&believer).await, Ok(0));
    let seeds = format!("esdb+discover://{name}?{right}");
    assert_eq!(append(&client(&seeds)).await, Ok(0));

    let stranger = client(&string("localhost", &node, &trust("theirs.pem", &theirs)));
    let words = [name.as_str(), "UnknownIssuer", "tlsCaFile"];
    assert_insecure(&stranger, &words).await;
    let elsewhere = client(&string("127.0.0.1", &node, &right));
    let words = ["certificate", "127.0.0.1", "localhost", "other names"];
    assert_insecure(&elsewhere, &words).await;
    let old = server(&ours.vouched_once_for("localhost"), Clients::Anybody).await;
    assert_insecure(&client(&string("localhost", &old, &right)), &["expired", "renew"]).await;
}

#[tokio::test]
async fn a_server_that_speaks_something_else_within_tls_is_refused() {
    let directory = TempDir::new().unwrap();
    let ours = Authority::new("ours");
    let trust = format!("tlsCaFile={}", ours.file(&directory, "ca.pem").display());
    let leaf = ours.vouch_for("localhost");
    for protocols in [&[b"http/1.1".as_slice()][..], &[]] {
        let acceptor = leaf.acceptor_within(protocols, Clients::Anybody);
        let node = Node::start(&Arc::default(), State::Leader, Some(acceptor)).await;
        assert_insecure(&client(&string("localhost", &node, &trust)), &["HTTP/2"]).await;
    }
}

#[tokio::test]
async fn whoever_answers_is_believed_if_verification_is_off() {
    let node = server(&Authority::new("any").vouch_for("elsewhere"), Clients::Anybody).await;
    let client = client(&string("127.0.0.1", &node, "tlsVerifyCert=false"));
    assert_eq!(append(&client).await, Ok(0));
}

#[tokio::test]
async fn a_server_that_asks_for_it_is_shown_who_we_are() {
    let directory = TempDir::new().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let board = Arc::new(Board::default());
    let node = server_on(&board, &ours.vouch_for("localhost"), Clients::VouchedForBy(&ours)).await;
    let trust = format!("tlsCaFile={}", ours.file(&directory, "ca.pem").display());
    let as_user = |name: &str, leaf: Leaf| {
        let (certificate, key) = leaf.files(&directory, name);
        let (certificate, key) = (certificate.display(), key.display());
        let identity = format!("userCertFile={certificate}&userKeyFile={key}");
        client(&string("localhost", &node, &format!("{trust}&{identity}")))
    };
    let known = as_user("known", ours.vouch_for("user"));
    assert_eq!(append(&known).await, Ok(0));
    assert_eq!(board.appends(), 1);
    let nobody = client(&string("localhost", &node, &trust));
    let unknown = as_user("unknown", theirs.vouch_for("user"));
    for stranger in [nobody, unknown] {
        let error = append(&stranger).await.unwrap_err();
        // The network decides whether the server's reason arrives before the end of the connection.
        match error {
            AppendError::Call(CallError::Insecure { reason }) => {
                assert_says(&reason, &["userCertFile", "userKeyFile"]);
            }
            AppendError::Unknown { .. } | AppendError::Call(CallError::Unreachable { .. }) => {}
            error => panic!("{error:?}"),
        }
    }
    assert_eq!(board.appends(), 1, "what a stranger says is not listened to");
}

#[tokio::test]
async fn a_server_without_tls_is_told_apart_from_one_that_is_not_there() {
    let directory = TempDir::new().unwrap();
    let trust = Authority::new("any").file(&directory, "ca.pem");
    let trust = format!("tlsCaFile={}", trust.display());
    let (_, mut nodes) = support::node::cluster(&[State::Leader]).await;
    let client = client(&string("127.0.0.1", &nodes[0], &trust));
    assert_insecure(&client, &["tls=false"]).await;
    nodes.remove(0).kill().await;
    let error = append(&client).await.unwrap_err();
    assert!(matches!(error, AppendError::Call(CallError::Unreachable { .. })), "{error:?}");
    assert_says(&error.to_string(), &["refused"]);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_when_the_client_is_made() {
    let directory = TempDir::new().unwrap();
    let ours = Authority::new("ours");
    let ca = ours.file(&directory, "ca.pem");
    let (certificate, key) = ours.vouch_for("user").files(&directory, "user");
    let (_, other_key) = ours.vouch_for("user").files(&directory, "other");
    let missing = directory.path().join("missing.pem");
    let junk = write(directory.path(), "junk.pem", "this is no certificate");
    let cases = [
        (format!("tlsCaFile={}", missing.display()), "tlsCaFile", &missing),
        (format!("tlsCaFile={}", junk.display()), "tlsCaFile", &junk),
        (
            format!("userCertFile={}&userKeyFile={}", junk.display(), key.display()),
            "userCertFile",
            &junk,
        ),
        (
            format!("userCertFile={}&userKeyFile={}", certificate.display(), junk.display()),
            "userKeyFile",
            &junk,
        ),
        (
            format!("userCertFile={}&userKeyFile={}", certificate.display(), other_key.display()),
            "userKeyFile",
            &other_key,
        ),
    ];
    for (options, option, path) in cases {
        let trust = if option == "tlsCaFile" {
            String::new()
        } else {
            format!("&tlsCaFile={}", ca.display())
        };
        let error = Client::new(&format!("esdb://localhost?{options}{trust}")).unwrap_err();
        assert!(matches!(error, ConnectError::BadFile { .. }), "{error:?}");
        assert_says(&error.to_string(), &[option, &path.display().to_string(), "must hold"]);
    }
}
