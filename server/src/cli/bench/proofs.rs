//! What it costs to ask callers who they are: the same unary appends, by nobody who is asked, by a
//! password, by an API token, by an issuer's token. And what a thousand strangers who never end
//! their requests cost those who are honest.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use daybook_client::{Client, Credentials, Settings, Token};
use daybook_model::{Clock as _, SystemClock};
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::load::{Measured, Shape, Streams, Target, measure};
use super::process::Server;
use super::report::{Goal, Row};
use super::{Bench, against};
use crate::security::dial::dial;
use crate::security::first_admin::FIRST_ADMIN;

/// The administrator's password, for as long as a measurement lasts.
const PASSWORD: &str = "bench bench bench";
/// How long a token is good for: longer than any measurement.
const LIFE_S: i64 = 24 * 60 * 60;
/// Strangers who begin a request and do not end it.
const STRANGERS: usize = 1000;
/// What each of them sends.
const HALF: &[u8] = b"GET /ping HTTP/1.1\r\nhost: 127.0.0.1\r\nx-half: ";
/// How long a server may take until it knows its administrator, and how often it is asked.
const READY_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);

/// What a server is told, and what its callers have for proof.
pub struct Proofs {
    directory: PathBuf,
    issuers: String,
}

impl Proofs {
    /// Made in `directory`.
    ///
    /// # Errors
    /// If its files cannot be written.
    #[expect(clippy::disallowed_methods, reason = "they are no store's files")]
    pub fn within(directory: PathBuf) -> anyhow::Result<Proofs> {
        let pair = KeyPair::generate_for(&PKCS_ED25519).context("cannot make a key")?;
        let key = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes())?;
        let now = SystemClock::new().now().0 / 1_000_000_000;
        let claims = json!({
            "iss": "bench", "aud": "daybook", "sub": "bench@issuer", "roles": ["$admins"],
            "nbf": now - 60, "exp": now + LIFE_S,
        });
        let issuers = encode(&Header::new(Algorithm::EdDSA), &claims, &key)?;
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("key.pem"), pair.public_key_pem())?;
        std::fs::write(directory.join("password"), PASSWORD)?;
        let settings = "issuer = 'bench'\naudience = 'daybook'\n\
                        [[keys]]\nalgorithm = 'EdDSA'\nfile = 'key.pem'\n";
        std::fs::write(directory.join("jwt.toml"), settings)?;
        Ok(Proofs { directory, issuers })
    }

    /// The flags of a server that asks for them.
    #[must_use]
    pub fn flags(&self) -> Vec<OsString> {
        let file = |name: &str| self.directory.join(name).into_os_string();
        let (jwt, password) = (file("jwt.toml"), file("password"));
        vec![
            "--auth".into(),
            "required".into(),
            "--jwt".into(),
            jwt,
            "--admin-password-file".into(),
            password,
        ]
    }

    /// What the clients of `server` are told, for each proof.
    ///
    /// # Errors
    /// If the server does not know its administrator in time.
    pub async fn settings(&self, server: &Server) -> anyhow::Result<Vec<(&'static str, Settings)>> {
        let plain = Settings::parse(&server.url())?;
        let credentials =
            Credentials { login: FIRST_ADMIN.to_owned(), password: PASSWORD.to_owned() };
        let password = Settings { credentials: Some(credentials), ..plain.clone() };
        let made = async {
            loop {
                // It listens a moment before it has created its administrator.
                match api_token(&password).await {
                    Ok(token) => return token,
                    Err(_) => tokio::time::sleep(LOOK).await,
                }
            }
        };
        let made = tokio::time::timeout(READY_TIMEOUT, made).await;
        let made = made.context("the server makes no API token")?;
        let with = |token: &str| Settings { token: Some(Token(token.to_owned())), ..plain.clone() };
        let (ours, issuers) = (with(&made), with(&self.issuers));
        Ok(vec![("a password", password), ("an API token", ours), ("an issuer's token", issuers)])
    }
}

impl Bench {
    /// What it costs to ask who calls.
    ///
    /// # Errors
    /// If a server does not start, or an append fails.
    pub(super) async fn proofs(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let proofs = Proofs::within(self.scratch.join("proofs"))?;
        let open = Server::store(&self.scratch.join("proofs-open")).await?;
        let asks = Server::with(&self.scratch.join("proofs-asks"), &proofs.flags()).await?;
        let unasked = Settings::parse(&open.url())?;
        for (proof, settings) in proofs.settings(&asks).await? {
            for clients in [1, 16] {
                let shape = Shape { streams: Streams::Own, ..self.shape(clients, 1) };
                let name = format!("unary {clients} x 1, {proof}");
                self.say(&name);
                let (mut ours, mut limit) = (None, None);
                for _ in 0..self.args.rounds {
                    ours = Some(appends(&asks, &settings, shape).await?.better(ours));
                    limit = Some(appends(&open, &unasked, shape).await?.better(limit));
                }
                let (Some(ours), Some(limit)) = (ours, limit) else { bail!("--rounds is 0") };
                rows.push(Row::of_appends(
                    name,
                    &ours,
                    Some(against("nobody asked", &limit, None)),
                ));
            }
        }
        Ok(())
    }

    /// What strangers who end nothing cost the honest.
    ///
    /// # Errors
    /// If the server does not start, or an append fails.
    pub(super) async fn strangers(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let server = Server::store(&self.scratch.join("strangers")).await?;
        let settings = Settings::parse(&server.url())?;
        for clients in [1, 16] {
            let shape = Shape { streams: Streams::Own, ..self.shape(clients, 1) };
            let name = format!("unary {clients} x 1, 1,000 strangers");
            self.say(&name);
            let (mut with, mut without) = (None, None);
            for _ in 0..self.args.rounds {
                let strangers = strangers(&server).await?;
                with = Some(appends(&server, &settings, shape).await?.better(with));
                drop(strangers);
                without = Some(appends(&server, &settings, shape).await?.better(without));
            }
            let (Some(with), Some(without)) = (with, without) else { bail!("--rounds is 0") };
            let p99 = |measured: &Measured| measured.latency_us.value_at_quantile(0.99) as f64;
            let times = p99(&with) / p99(&without).max(1.0);
            rows.push(Row::of_appends(name.clone(), &with, Some(against("none", &without, None))));
            let goal = Some(Goal::AtMost(2.0));
            rows.push(Row::with_goal(format!("{name}, p99"), times, "x without", goal));
        }
        Ok(())
    }
}

async fn api_token(settings: &Settings) -> anyhow::Result<String> {
    let mut sender = dial(&settings.host, settings.port, settings.tls.as_ref()).await?;
    let proof = settings.authorization().context("there are credentials")?;
    let request = Request::post("/v1/tokens")
        .header(header::HOST, format!("{}:{}", settings.host, settings.port))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, proof)
        .body(Full::new(Bytes::from_static(b"{\"name\":\"bench\"}")))?;
    let answer = sender.send_request(request).await?;
    let body = answer.into_body().collect().await?.to_bytes();
    let made: Value = serde_json::from_slice(&body)?;
    let token = made["token"].as_str();
    Ok(token.with_context(|| format!("the server makes no token: {made}"))?.to_owned())
}

/// Appends of clients that say what `settings` say, a connection each.
///
/// # Errors
/// The first append that failed.
pub async fn appends(
    server: &Server,
    settings: &Settings,
    shape: Shape,
) -> anyhow::Result<Measured> {
    let clients = (0..shape.clients).map(|_| Client::with(settings.clone()));
    let target = Target::Unary(clients.collect::<Result<_, _>>()?);
    measure(&target, shape, || server.cpu_us().map(Some)).await
}

/// A thousand strangers who have begun requests at the server and do not end them. It lets go of them
/// after 10 seconds.
///
/// # Errors
/// If they cannot connect.
pub async fn strangers(server: &Server) -> anyhow::Result<Vec<TcpStream>> {
    let mut open = Vec::with_capacity(STRANGERS);
    for _ in 0..STRANGERS {
        let connecting = TcpStream::connect(server.address()).await;
        let mut stream = connecting.context("a stranger cannot connect (ulimit -n?)")?;
        stream.write_all(HALF).await.context("a stranger is not heard")?;
        open.push(stream);
    }
    Ok(open)
}
