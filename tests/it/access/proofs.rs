//! Every HTTP route and every gRPC method × every proof that must not be believed, over TLS as
//! clients come: each is refused, whatever the route is for, and nothing is done.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use daybook::node::{Config, Node};
use daybook::security::tls::{ClientsSettings, Demand, TlsSettings, Version};
use daybook::security::{Asks, Settings};
use daybook::users::api_tokens::NewApiToken;
use daybook::users::{NewUser, Standing};
use daybook_model::{Clock as _, Position, SystemClock, Timestamp};
use daybook_store::{AllFrom, Direction, ReadAll};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::matrix::{GRPC, HTTP, called, message_of, request_of};
use crate::support::pki::{Authority, Holds, Leaf, write};
use crate::support::secure::Visitor;
use crate::support::{PATIENCE, soon, until};

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;
/// Rows that are asked from one address: below what locks it out.
const ROWS_PER_ADDRESS: usize = 80;

/// An issuer of tokens that the server believes, if they are good.
struct Issuer {
    pair: KeyPair,
}

impl Issuer {
    fn key(&self) -> EncodingKey {
        EncodingKey::from_ed_pem(self.pair.serialize_pem().as_bytes()).expect("a key")
    }

    fn sign(&self, claims: &Value) -> String {
        sign(Algorithm::EdDSA, claims, &self.key())
    }
}

fn sign(algorithm: Algorithm, claims: &Value, key: &EncodingKey) -> String {
    let header = Header { kid: Some("one".to_owned()), ..Header::new(algorithm) };
    encode(&header, claims, key).expect("a token")
}

/// The claims of a good token, with one that is another.
fn claims(name: &str, value: Value) -> Value {
    let now = SystemClock::new().now().0 / 1_000_000_000;
    let mut claims = json!({
        "iss": "bank", "aud": "daybook", "sub": "root@bank", "exp": now + DAY, "nbf": now - DAY,
        "roles": ["$admins"],
    });
    claims[name] = value;
    claims
}

/// The faults of tokens, each with one that has it.
fn faulty(issuer: &Issuer) -> Vec<(&'static str, String)> {
    let now = SystemClock::new().now().0 / 1_000_000_000;
    let good = issuer.sign(&claims("sub", "root@bank".into()));
    let (_, rest) = good.split_once('.').expect("three parts");
    let (body, _) = rest.split_once('.').expect("three parts");
    let none = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT","kid":"one"}"#);
    let public = issuer.pair.public_key_pem();
    let secret = EncodingKey::from_secret(public.as_bytes());
    let other = Issuer { pair: KeyPair::generate_for(&PKCS_ED25519).expect("a key") };
    let all = claims("sub", "root@bank".into());
    vec![
        ("garbage", "garbage".to_owned()),
        ("expired", issuer.sign(&claims("exp", (now - 60).into()))),
        ("not valid yet", issuer.sign(&claims("nbf", (now + 60).into()))),
        ("another issuer", issuer.sign(&claims("iss", "another".into()))),
        ("another audience", issuer.sign(&claims("aud", "another".into()))),
        ("another key", other.sign(&all)),
        ("no algorithm", format!("{none}.{body}.")),
        ("the public key as a secret", sign(Algorithm::HS256, &all, &secret)),
    ]
}

/// A server that believes `issuer`, `authority` and its users.
async fn server(directory: &TempDir, issuer: &Issuer, authority: &Authority) -> Node {
    let path = directory.path();
    let leaf = authority.server(1);
    write(path, "one.pem", &issuer.pair.public_key_pem());
    let tokens = "issuer = 'bank'\naudience = 'daybook'\n\
                  [[keys]]\nkid = 'one'\nalgorithm = 'EdDSA'\nfile = 'one.pem'\n";
    let clients = ClientsSettings {
        authorities: write(path, "clients.crt", authority.pem()).into(),
        demand: Demand::Optional,
        revoked: None,
    };
    let tls = TlsSettings {
        certificate: write(path, "server.crt", &leaf.certificate).into(),
        key: write(path, "server.key", &leaf.key).into(),
        clients: Some(clients),
        oldest: Version::V13,
    };
    let security = Settings {
        tls: Some(tls),
        asks: Asks::Everyone,
        tokens: Some(write(path, "jwt.toml", tokens).into()),
    };
    let config = Config { security, ..Config::in_directory(path.join("data")) };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    Node::start(config, listener).await.expect("a server")
}

/// API tokens of an administrator that are good no more.
async fn ended(node: &Node) -> Vec<(&'static str, String)> {
    let users = node.context().users();
    let user = |login: &str| NewUser {
        login: login.to_owned(),
        full_name: String::new(),
        groups: vec!["$admins".to_owned()],
        password: "analytical engine".to_owned(),
    };
    let new = |login: &str| NewApiToken {
        login: login.to_owned(),
        name: "ci".to_owned(),
        groups: None,
        created_by: None,
        expires: None,
    };
    for login in ["ada", "bob"] {
        users.create(user(login)).await.expect("created");
    }
    let now = node.context().clock().now();
    let long_ago = Timestamp(now.0 - 100 * DAY * 1_000_000_000);
    let (revoked, secret) = users.create_token(new("ada"), now).await.expect("made");
    users.revoke_token(&revoked.id).await.expect("revoked");
    let (_, expired) = users.create_token(new("ada"), long_ago).await.expect("made");
    let (_, disabled) = users.create_token(new("bob"), now).await.expect("made");
    users.set_standing("bob", Standing::Disabled).await.expect("disabled");
    let cut = expired.text();
    vec![
        ("a revoked API token", secret.text()),
        ("an expired API token", expired.text()),
        ("the API token of a disabled user", disabled.text()),
        ("a truncated API token", cut[..cut.len() - 1].to_owned()),
    ]
}

/// A connection from one of this machine's addresses.
async fn connection(
    at: SocketAddr,
    from: u8,
    (authority, leaf): (&Authority, Option<&Leaf>),
) -> SendRequest<Full<Bytes>> {
    let visitor = Visitor { shows: leaf, ..Visitor::believing(authority) };
    let from = Ipv4Addr::new(127, 0, 1, from);
    let stream = visitor.connect_from(from, at).await.expect("a secure connection").into_stream();
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// What is asked: its name, and a request that is good but for its proof.
fn rows() -> Vec<(String, http::Request<Full<Bytes>>)> {
    let http = HTTP.iter().map(|(route, _)| {
        let (path, body) = request_of(route);
        let (method, path) = path.split_once(' ').expect("a method and a path");
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .header("content-type", "application/json")
            .header("idempotency-key", "00000000-0000-4000-8000-000000000002")
            .body(Full::from(body));
        ((*route).to_owned(), request.expect("a request"))
    });
    let grpc = GRPC.iter().map(|(method, _)| {
        let path = method.replace("{*method}", called(method));
        let request = http::Request::post(format!("https://localhost/{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(message_of(method)));
        ((*method).to_owned(), request.expect("a request"))
    });
    http.chain(grpc).collect()
}

/// Asks all of it with `proof`, and fails unless all of it is refused.
async fn all_refused(
    at: SocketAddr,
    (what, proof): (&str, Option<&str>),
    seen: (&Authority, Option<&Leaf>),
    addresses: &mut impl Iterator<Item = u8>,
) {
    for rows in rows().chunks(ROWS_PER_ADDRESS) {
        let mut sender = connection(at, addresses.next().expect("an address"), seen).await;
        for (row, request) in rows {
            let mut asked = request.clone();
            if let Some(proof) = proof {
                let value = format!("Bearer {proof}").parse().expect("a header");
                asked.headers_mut().insert("authorization", value);
            }
            soon("a turn", sender.ready()).await.expect("an open connection");
            let answer = soon("an answer", sender.send_request(asked)).await.expect("an answer");
            let status = answer.status().as_u16();
            if row.starts_with(|c: char| c.is_ascii_uppercase()) {
                assert_eq!(status, 401, "{row} with {what}");
                assert!(answer.headers().contains_key("www-authenticate"), "{row} with {what}");
                let body = answer.into_body().collect().await.expect("a body").to_bytes();
                let problem: Value = serde_json::from_slice(&body).expect("a problem");
                assert_eq!(problem["type"], "urn:daybook:problem:unauthenticated", "{row}");
            } else {
                let code = answer.headers().get("grpc-status").map(|code| code.as_bytes());
                assert_eq!((status, code), (200, Some(&b"16"[..])), "{row} with {what}");
            }
        }
    }
}

/// The streams that were written from `position` on.
async fn written_since(node: &Node, position: Position) -> BTreeSet<String> {
    until("the refusals are recorded", || async { node.store().committed() > position }).await;
    let (from, direction) = (AllFrom::Position(position), Direction::Forwards);
    let query = ReadAll { from, direction, count: u64::MAX, filter: None };
    let (mut reader, mut streams) = (node.store().read_all(query), BTreeSet::new());
    while let Some(page) = reader.next().await.expect("a page") {
        streams.extend(page.events().map(|event| event.stream.to_string()));
    }
    streams
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_prove_anything_opens_nothing_and_does_nothing() {
    let directory = TempDir::new().expect("a directory");
    let issuer = Issuer { pair: KeyPair::generate_for(&PKCS_ED25519).expect("a key") };
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let node = server(&directory, &issuer, &ours).await;
    let at = node.address();
    let ended = ended(&node).await;
    // That a good one is believed: else what follows would prove nothing.
    let good = issuer.sign(&claims("sub", "root@bank".into()));
    let mut sender = connection(at, 1, (&ours, None)).await;
    let metrics = http::Request::get("https://localhost/metrics")
        .header("authorization", format!("Bearer {good}"))
        .body(Full::default());
    let answer = sender.send_request(metrics.expect("a request")).await.expect("an answer");
    assert_eq!(answer.status(), 200);

    let before = node.store().committed();
    let mut addresses = 2u8..;
    for (fault, token) in faulty(&issuer).iter().chain(&ended) {
        all_refused(at, (fault, Some(token)), (&ours, None), &mut addresses).await;
    }
    // A certificate that is believed, of nobody; and a good one does not help a bad token.
    let nobody = ours.client("nobody", 10, Holds::Now);
    let seen = (&ours, Some(&nobody));
    all_refused(at, ("a certificate of nobody", None), seen, &mut addresses).await;
    let ada = ours.client("ada", 11, Holds::Now);
    all_refused(at, ("garbage", Some("a.b.c")), (&ours, Some(&ada)), &mut addresses).await;
    let written = written_since(&node, before).await;
    assert_eq!(written, ["$audit".to_owned()].into(), "nothing else was done");
    // Those that are not believed do not get so far.
    for leaf in [ours.client("ada", 12, Holds::Once), theirs.client("ada", 13, Holds::Now)] {
        let visitor = Visitor::believing(&ours).showing(&leaf);
        assert!(visitor.get(at, "/ping").await.is_err());
    }
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_does_nothing_whatever_is_asked_over_http() {
    let directory = TempDir::new().expect("a directory");
    let node = crate::authentication::server(directory.path()).await;
    let before = node.store().committed();
    let wrong = crate::authentication::basic("ada", "wrong");
    for route in ["GET /ping", "GET /metrics", "POST /v1/streams/a", "POST /admin/shutdown"] {
        let (method, path) = route.split_once(' ').expect("a method and a path");
        let headers = [("authorization", wrong.as_str())];
        let answer = crate::support::http::call(node.address(), method, path, &headers, "").await;
        assert_eq!(answer.status, 401, "{route}");
    }
    let written = written_since(&node, before).await;
    assert_eq!(written, ["$audit".to_owned()].into(), "nothing else was done");
    assert_eq!(node.context().phase(), daybook::node::Phase::Running);
    node.stop(PATIENCE).await;
}
