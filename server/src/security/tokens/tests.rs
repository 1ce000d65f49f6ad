//! Tokens with every fault, before a server that believes one issuer.

use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::telemetry::metrics::Metrics;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 24 * 3600;

/// A clock that stands until it is moved, in seconds.
#[derive(Debug)]
struct Stopped(AtomicI64);

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        Timestamp((NOW + self.0.load(Ordering::Relaxed)) * SECOND)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed).unsigned_abs())
    }
}

/// An issuer, with a key of each kind.
struct Signer {
    algorithm: Algorithm,
    pair: KeyPair,
}

impl Signer {
    fn new(algorithm: Algorithm) -> Signer {
        let kind: &'static SignatureAlgorithm = match algorithm {
            Algorithm::EdDSA => &PKCS_ED25519,
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            _ => &PKCS_RSA_SHA256,
        };
        Signer { algorithm, pair: KeyPair::generate_for(kind).expect("a key") }
    }

    fn key(&self) -> EncodingKey {
        let pem = self.pair.serialize_pem();
        let key = match self.algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        key.expect("a key to sign with")
    }

    fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(self.algorithm) };
        encode(&header, claims, &self.key()).expect("a token")
    }

    fn jwk(&self, kid: &str) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key(), self.algorithm).expect("a JWK");
        jwk.common.key_id = Some(kid.to_owned());
        serde_json::to_value(jwk).expect("JSON")
    }
}

#[expect(clippy::disallowed_methods, reason = "a test arranges files")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file");
}

/// A server that believes these keys, which are named by their algorithms.
fn believer(directory: &TempDir, signers: &[&Signer]) -> Tokens {
    let mut text =
        "issuer = 'bank'\naudience = 'daybook'\nroles_claim = 'access.roles'\n".to_owned();
    for signer in signers {
        let name = format!("{:?}", signer.algorithm);
        write(&directory.path().join(&name), &signer.pair.public_key_pem());
        text.push_str(&format!(
            "[[keys]]\nkid = '{name}'\nalgorithm = '{name}'\nfile = '{name}'\n"
        ));
    }
    text.push_str("[groups]\nbosses = '$admins'\n");
    load(directory, &text, Arc::new(Stopped(AtomicI64::new(0)))).expect("settings")
}

fn load(directory: &TempDir, text: &str, clock: Arc<dyn Clock>) -> Result<Tokens, FileError> {
    let path = directory.path().join("jwt.toml");
    write(&path, text);
    Tokens::load(path.into(), clock, Metrics::new().security)
}

fn claims() -> Value {
    json!({
        "iss": "bank", "aud": "daybook", "sub": "ada", "exp": NOW + 60, "nbf": NOW - 60,
        "access": { "roles": ["bosses", "ledger"] },
    })
}

fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[tokio::test]
async fn a_token_that_is_signed_right_says_who_calls() {
    let directory = TempDir::new().expect("a directory");
    let signers = keys::ALGORITHMS.map(Signer::new);
    let tokens = believer(&directory, &signers.each_ref());
    for signer in &signers {
        let kid = format!("{:?}", signer.algorithm);
        for kid in [Some(kid.as_str()), None] {
            let caller = tokens.verify(&signer.sign(kid, &claims())).await;
            let caller = caller.unwrap_or_else(|refused| panic!("{kid:?}: {refused}"));
            assert_eq!((caller.login(), caller.proof()), (Some("ada"), Proof::Token));
            assert_eq!(caller.groups(), ["$admins", "ledger"]);
            // With the leeway in which it is believed.
            assert_eq!(caller.until(), Some(Timestamp((NOW + 60 + 10) * SECOND)));
        }
    }
    let many = claims_with("aud", json!(["other", "daybook"]));
    assert!(tokens.verify(&signers[0].sign(None, &many)).await.is_ok(), "one of its audiences");
    let text = claims_with("access", json!({ "roles": "a b" }));
    let caller = tokens.verify(&signers[0].sign(None, &text)).await.expect("ada");
    assert_eq!(caller.groups(), ["a", "b"]);
}

#[tokio::test]
async fn a_token_with_any_fault_is_refused() {
    let directory = TempDir::new().expect("a directory");
    let signer = Signer::new(Algorithm::EdDSA);
    let tokens = believer(&directory, &[&signer]);
    let signed = |claims: Value| signer.sign(Some("EdDSA"), &claims);
    let without = |name: &str| {
        let mut claims = claims();
        claims.as_object_mut().expect("an object").remove(name);
        signed(claims)
    };
    let good = signed(claims());
    let (head, rest) = good.split_once('.').expect("three parts");
    let (body, signature) = rest.split_once('.').expect("three parts");
    let none = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let other = BASE64_URL_SAFE_NO_PAD.encode(claims_with("sub", json!("eve")).to_string());
    let public = signer.pair.public_key_pem();
    let hmac = |algorithm| {
        let header = Header { kid: Some("EdDSA".to_owned()), ..Header::new(algorithm) };
        let key = EncodingKey::from_secret(public.as_bytes());
        encode(&header, &claims(), &key).expect("a token")
    };
    let mut flipped = signature.to_owned();
    flipped.replace_range(0..1, if flipped.starts_with('A') { "B" } else { "A" });
    let cases = [
        ("garbage", "garbage".to_owned()),
        ("nothing", String::new()),
        ("two parts", format!("{head}.{body}")),
        ("no algorithm", format!("{none}.{body}.")),
        ("no algorithm, with a signature", format!("{none}.{body}.{signature}")),
        ("the public key as a secret", hmac(Algorithm::HS256)),
        ("the public key as a longer secret", hmac(Algorithm::HS512)),
        ("a changed signature", format!("{head}.{body}.{flipped}")),
        ("changed claims", format!("{head}.{other}.{signature}")),
        ("another key", Signer::new(Algorithm::EdDSA).sign(Some("EdDSA"), &claims())),
        ("another algorithm", Signer::new(Algorithm::ES256).sign(Some("EdDSA"), &claims())),
        ("an unknown key", signer.sign(Some("other"), &claims())),
        ("expired", signed(claims_with("exp", json!(NOW - 10)))),
        ("not valid yet", signed(claims_with("nbf", json!(NOW + 11)))),
        ("another issuer", signed(claims_with("iss", json!("bank2")))),
        ("a list of issuers", signed(claims_with("iss", json!(["bank"])))),
        ("another audience", signed(claims_with("aud", json!("other")))),
        ("other audiences", signed(claims_with("aud", json!(["a", "b"])))),
        ("a time in words", signed(claims_with("exp", json!("tomorrow")))),
        ("no end", without("exp")),
        ("no beginning", without("nbf")),
        ("no issuer", without("iss")),
        ("no audience", without("aud")),
        ("no login", without("sub")),
        ("the login of a group", signed(claims_with("sub", json!("$admins")))),
    ];
    for (fault, token) in cases {
        let refused = tokens.verify(&token).await;
        assert!(matches!(refused, Err(Refusal::Token { .. })), "{fault}: {refused:?}");
    }
    // Clocks may differ a little.
    for (name, seconds) in [("exp", NOW - 9), ("nbf", NOW + 10)] {
        let token = signed(claims_with(name, json!(seconds)));
        assert!(tokens.verify(&token).await.is_ok(), "{name}");
    }
}

#[test]
fn settings_that_would_believe_too_much_are_refused() {
    let directory = TempDir::new().expect("a directory");
    write(&directory.path().join("key"), &Signer::new(Algorithm::EdDSA).pair.public_key_pem());
    let start = "issuer = 'bank'\naudience = 'daybook'\n";
    let key = "[[keys]]\nalgorithm = 'EdDSA'\nfile = 'key'\n";
    let clock: Arc<dyn Clock> = Arc::new(Stopped(AtomicI64::new(0)));
    let read = |text: String| load(&directory, &text, clock.clone());
    assert!(read(format!("{start}{key}")).is_ok());
    for (text, said) in [
        (start.to_owned(), "no keys"),
        (format!("audience = 'a'\n{key}"), "issuer"),
        (format!("issuer = ''\naudience = ''\n{key}"), "must say"),
        (format!("{start}leeway_s = 31\n{key}"), "leeway_s"),
        (format!("{start}audiences = 'x'\n{key}"), "unknown field"),
        (format!("{start}jwks = 'http://login.example/keys'"), "not secure"),
        (format!("{start}jwks = 'missing.json'"), "missing.json"),
        (format!("{start}[[keys]]\nalgorithm = 'HS256'\nfile = 'key'\n"), "EdDSA"),
        (format!("{start}[[keys]]\nalgorithm = 'ES256'\nfile = 'key'\n"), "key"),
    ] {
        let refused = read(text.clone()).err().unwrap_or_else(|| panic!("taken: {text}"));
        assert!(refused.to_string().contains(said), "{text}: {refused}");
    }
}

#[test]
fn of_a_key_set_only_keys_that_sign_are_taken() {
    let signer = Signer::new(Algorithm::ES256);
    let with = |name: &str, value: &str| {
        let mut jwk = signer.jwk("one");
        jwk[name] = value.into();
        jwk
    };
    let secret = json!({ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "s" });
    for (jwk, taken) in [
        (signer.jwk("one"), true),
        (with("use", "sig"), true),
        (with("use", "enc"), false),
        (with("alg", "RS256"), false),
        (with("alg", "HS256"), false),
        (secret, false),
    ] {
        let set = json!({ "keys": [jwk] }).to_string();
        assert_eq!(keys::from_jwks(set.as_bytes()).is_ok(), taken, "{set}");
    }
    assert!(keys::from_jwks(b"<html>").is_err());
}

#[tokio::test]
async fn keys_at_a_url_are_asked_for_when_a_token_names_a_new_one_but_not_too_often() {
    let directory = TempDir::new().expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (old, new) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::ES256));
    let shown = Arc::new(Mutex::new(json!({ "keys": [old.jwk("old")] }).to_string()));
    let asked = Arc::new(AtomicUsize::new(0));
    let (answer, count) = (shown.clone(), asked.clone());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let body = answer.lock().clone();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    let clock = Arc::new(Stopped(AtomicI64::new(0)));
    let text = format!("issuer='bank'\naudience='daybook'\njwks='http://127.0.0.1:{port}/keys'");
    let tokens = load(&directory, &text, clock.clone()).expect("settings");
    let accepts = async |signer: &Signer, kid| {
        tokens.verify(&signer.sign(Some(kid), &claims())).await.is_ok()
    };
    assert!(accepts(&old, "old").await, "the first token asks");
    *shown.lock() = json!({ "keys": [new.jwk("new")] }).to_string();
    assert!(!accepts(&new, "new").await && !accepts(&new, "other").await, "just asked");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    clock.0.store(10, Ordering::Relaxed);
    assert!(accepts(&new, "new").await, "the new key is asked for");
    assert!(!accepts(&old, "old").await, "the old one is gone");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    // What cannot be read leaves the keys as they are.
    *shown.lock() = "<html>".to_owned();
    clock.0.store(20, Ordering::Relaxed);
    assert!(!accepts(&old, "old").await && accepts(&new, "new").await);
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    // Without a new key they are asked for again when they are old.
    *shown.lock() = json!({ "keys": [old.jwk("old")] }).to_string();
    tokens.look().await.expect("not old yet");
    assert!(accepts(&new, "new").await);
    clock.0.store(10 + 300, Ordering::Relaxed);
    let token =
        json!({ "iss": "bank", "aud": "daybook", "sub": "ada", "exp": NOW + 900, "nbf": NOW });
    tokens.look().await.expect("asked");
    assert!(tokens.verify(&old.sign(Some("old"), &token)).await.is_ok());
    assert!(tokens.verify(&new.sign(Some("new"), &token)).await.is_err(), "taken back");
    // Keys that cannot be renewed are believed for a day, and no longer.
    *shown.lock() = "<html>".to_owned();
    let answered = 10 + 300;
    let token =
        json!({ "iss": "bank", "aud": "daybook", "sub": "ada", "exp": NOW + 2 * DAY, "nbf": NOW });
    for (second, is_believed) in [(DAY - 1, true), (DAY, false)] {
        clock.0.store(answered + second, Ordering::Relaxed);
        let _ = tokens.look().await;
        let found = tokens.verify(&old.sign(Some("old"), &token)).await;
        assert_eq!(found.is_ok(), is_believed, "{second} s later: {found:?}");
    }
}

#[tokio::test]
async fn a_caller_who_leaves_does_not_take_the_turn_of_those_who_stay() {
    let directory = TempDir::new().expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let signer = Signer::new(Algorithm::ES256);
    let clock = Arc::new(Stopped(AtomicI64::new(0)));
    let text = format!("issuer='bank'\naudience='daybook'\njwks='http://127.0.0.1:{port}/keys'");
    let tokens = load(&directory, &text, clock).expect("settings");
    let token = signer.sign(Some("one"), &claims());
    let mut leaves = Box::pin(tokens.verify(&token));
    assert!(futures_util::poll!(leaves.as_mut()).is_pending(), "the issuer is asked");
    drop(leaves);
    let body = json!({ "keys": [signer.jwk("one")] }).to_string();
    let issuer = async {
        let (mut stream, _) = listener.accept().await.expect("it is asked all the same");
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
    };
    // Asked once in ten seconds of a clock that stands: whoever left asked for all.
    let (stays, ()) = tokio::join!(tokens.verify(&token), issuer);
    assert_eq!(stays.expect("its key is known now").login(), Some("ada"));
}
