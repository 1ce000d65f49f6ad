//! Keys that an issuer shows at a URL, as they are now.
//!
//! INVARIANTS: what is asked has a limit in bytes and time, and is asked at most every so often,
//! however many tokens name keys that nobody knows. Keys that cannot be renewed stay, for a day:
//! an issuer that is away stops nobody, and who keeps us from asking it does not keep a key in use
//! for ever that it has taken back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use daybook_client::Tls;
use daybook_model::Clock;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::keys::{self, Key};
use crate::security::dial::dial;

/// How old keys may grow before they are asked for again: one that the issuer takes back is believed
/// no longer than this while it answers.
pub const AGE_MAX: Duration = Duration::from_secs(300);
/// How old they may grow while it does not: a night, and time to look at what is wrong.
pub const UNRENEWED_MAX: Duration = Duration::from_secs(24 * 3600);
/// How soon it may be asked again, for a key that is not known.
pub const INTERVAL_MIN: Duration = Duration::from_secs(10);
/// How long it may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of its answer: a hundred keys with their certificates.
const ANSWER_SIZE_MAX: usize = 512 * 1024;

/// Where keys are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksUrl {
    text: String,
    host: String,
    port: u16,
    path: String,
    tls: Option<Tls>,
}

impl JwksUrl {
    /// Reads a URL; `ca_file` has who may vouch for its server.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, ca_file: Option<PathBuf>) -> Result<JwksUrl, String> {
        let uri: Uri = text.parse().map_err(|error| format!("'{text}' is no URL: {error}"))?;
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(format!("'{text}' is no URL; give https://HOST/PATH"));
        };
        let local = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
        let (tls, port) = match scheme {
            "https" => (Some(Tls { ca_file, ..Tls::default() }), 443),
            // Whoever could change what is read there could make tokens.
            "http" if local => (None, 80),
            _ => return Err(format!("'{text}' is not secure; give https://HOST/PATH")),
        };
        Ok(JwksUrl {
            text: text.to_owned(),
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(port),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            tls,
        })
    }
}

/// An issuer's keys, as it showed them last.
pub struct Source {
    url: JwksUrl,
    keys: ArcSwap<Vec<Key>>,
    asked: Mutex<Asked>,
    /// One asks at a time.
    turn: Semaphore,
    clock: Arc<dyn Clock>,
}

/// When it was asked, on the monotonic clock.
#[derive(Clone, Copy, Default)]
struct Asked {
    last: Option<Duration>,
    answered: Option<Duration>,
}

impl Source {
    /// Nobody has asked yet.
    pub fn new(url: JwksUrl, clock: Arc<dyn Clock>) -> Source {
        Source {
            url,
            keys: ArcSwap::from_pointee(Vec::new()),
            asked: Mutex::default(),
            turn: Semaphore::new(1),
            clock,
        }
    }

    /// Where they are shown.
    pub fn url(&self) -> &JwksUrl {
        &self.url
    }

    /// What was shown last, unless that is too long ago.
    pub fn keys(&self) -> Arc<Vec<Key>> {
        let (asked, now) = (*self.asked.lock(), self.clock.monotonic());
        if asked.answered.is_some_and(|at| now.saturating_sub(at) >= UNRENEWED_MAX) {
            return Arc::default();
        }
        self.keys.load_full()
    }

    /// Asks if the keys have grown old.
    ///
    /// # Errors
    /// Why there are no newer ones.
    pub async fn renew(&self) -> Result<(), String> {
        let old = |asked: Asked, now: Duration| {
            asked.answered.is_none_or(|at| now.saturating_sub(at) >= AGE_MAX)
        };
        self.ask_if(old).await
    }

    /// Asks because a token names a key that is not known, unless that was just done.
    pub async fn ask_again(&self) {
        if let Err(reason) = self.ask_if(|_, _| true).await {
            tracing::warn!(reason, "the keys of tokens' issuer cannot be renewed");
        }
    }

    async fn ask_if(&self, wanted: impl Fn(Asked, Duration) -> bool) -> Result<(), String> {
        let Ok(_turn) = self.turn.acquire().await else { return Ok(()) };
        let now = self.clock.monotonic();
        let asked = *self.asked.lock();
        let soon = asked.last.is_some_and(|at| now.saturating_sub(at) < INTERVAL_MIN);
        if soon || !wanted(asked, now) {
            return Ok(());
        }
        self.asked.lock().last = Some(now);
        let answer = tokio::time::timeout(TIMEOUT, self.fetch()).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")));
        let keys = answer.and_then(|body| keys::from_jwks(&body));
        let keys = keys.map_err(|reason| format!("{}: {reason}", self.url.text))?;
        self.keys.store(Arc::new(keys));
        self.asked.lock().answered = Some(now);
        Ok(())
    }

    async fn fetch(&self) -> Result<Bytes, String> {
        let JwksUrl { host, port, path, tls, .. } = &self.url;
        let dialled = dial(host, *port, tls.as_ref()).await;
        let mut sender = dialled.map_err(|error| error.to_string())?;
        let request = Request::get(path.as_str())
            .header(header::HOST, format!("{host}:{port}"))
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::new()))
            .map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if answer.status() != StatusCode::OK {
            return Err(format!("it answers {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), ANSWER_SIZE_MAX).collect().await;
        Ok(body.map_err(|error| error.to_string())?.to_bytes())
    }
}
