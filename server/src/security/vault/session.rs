//! The token that Vault knows this server by.
//!
//! ```text
//!   token file   read at each round; another one in it is taken up ── renewed at 2/3 of its life
//!   Kubernetes   log in with the service account's token ── renewed at 2/3, or logged in again
//! ```
//!
//! INVARIANT: a token that cannot be renewed is used to its end; that it ends is told before.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::call::{Granted, Line, Question, malformed};
use super::fault::{Fault, VaultError};
use super::held::Secret;
use super::settings::Auth;
use crate::security::files;
use crate::telemetry::vault::Asked;

const RENEW: &str = "auth/token/renew-self";
const LOOK_UP: &str = "auth/token/lookup-self";
/// The settings, as messages name them.
const TOKEN_FILE: &str = "--vault-token-file";
const ACCOUNT_FILE: &str = "--vault-kubernetes-token-file";
/// How old a token must be before a refusal makes us doubt it, and log in again: each login leaves
/// one in Vault until it ends.
const DOUBT_AGE_MIN: Duration = Duration::from_secs(300);

/// How this server is known to Vault.
pub struct Session {
    auth: Auth,
    token: Option<Token>,
    /// Whether another token may do where this one was refused; until there is one, it stays.
    is_doubted: bool,
}

struct Token {
    text: Secret,
    since: Duration,
    /// None if it holds for ever, or Vault does not say.
    life: Option<Life>,
}

/// How long a token holds, on the monotonic clock.
struct Life {
    until: Duration,
    /// When it is time to do something about it.
    due: Duration,
    /// What it was given at first.
    full: Duration,
    renewable: bool,
}

/// What Vault says of a token.
#[derive(Deserialize)]
struct About {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

impl Life {
    /// From `now` on, for so many seconds; none if that is for ever.
    fn begin(now: Duration, seconds: u64, renewable: bool) -> Option<Life> {
        let full = Duration::from_secs(seconds);
        let (until, due) = (now.saturating_add(full), now.saturating_add(full * 2 / 3));
        (seconds > 0).then_some(Life { until, due, full, renewable })
    }
}

impl Session {
    /// Nobody has logged in yet.
    pub fn new(auth: Auth) -> Session {
        Session { auth, token: None, is_doubted: false }
    }

    /// The token, once there is one.
    pub fn token(&self) -> Option<&Secret> {
        self.token.as_ref().map(|token| &token.text)
    }

    /// When it is time to look after it, if it ends.
    pub fn due(&self) -> Option<Duration> {
        self.token.as_ref()?.life.as_ref().map(|life| life.due)
    }

    /// Sees to it that there is a token, and that it holds.
    ///
    /// # Errors
    /// Why there is none, or why it cannot be made to hold; the one before may still do.
    pub async fn tend(&mut self, line: &Line, now: Duration) -> Result<(), VaultError> {
        match &self.auth {
            Auth::TokenFile(path) => {
                let read = files::read_secret(TOKEN_FILE, path);
                let text = Secret::new(read.map_err(|error| line.failed(LOOK_UP, error))?);
                if self.token().is_none_or(|token| *token != text) {
                    return self.adopt(line, text, now).await;
                }
            }
            Auth::Kubernetes { .. } if self.token.is_none() || self.is_doubted => {
                return self.log_in(line, now).await;
            }
            Auth::Kubernetes { .. } => {}
        }
        let Some(token) = &self.token else { return Ok(()) };
        let Some(life) = token.life.as_ref().filter(|life| life.due <= now) else { return Ok(()) };
        let left = life.until.saturating_sub(now);
        if life.renewable && !left.is_zero() {
            let renewed = self.renew(line, now).await;
            let may_pass = renewed.as_ref().is_err_and(|error| error.fault.may_pass());
            if renewed.is_ok() || may_pass {
                return renewed;
            }
        }
        match &self.auth {
            Auth::Kubernetes { .. } => self.log_in(line, now).await,
            Auth::TokenFile(_) => Err(line.failed(RENEW, Fault::TokenEnds(left.as_secs()))),
        }
    }

    /// That Vault refused what was asked: a token may have been taken back, and another may do.
    pub fn doubt(&mut self, now: Duration) {
        let old = |token: &Token| now.saturating_sub(token.since) >= DOUBT_AGE_MIN;
        if matches!(self.auth, Auth::Kubernetes { .. }) && self.token.as_ref().is_some_and(old) {
            self.is_doubted = true;
        }
    }

    /// Takes up a token of a file, and asks how long it holds.
    async fn adopt(&mut self, line: &Line, text: Secret, now: Duration) -> Result<(), VaultError> {
        let question =
            Question { asked: Asked::Token, path: LOOK_UP, body: None, token: Some(&text) };
        let about = match line.ask(question).await {
            Ok(answer) => serde_json::from_value::<About>(answer.data)
                .map_err(|error| line.failed(LOOK_UP, malformed(&error)))?,
            // A policy may keep it from asking about itself. If it is no token at all, what is
            // asked next says so.
            Err(error) if matches!(error.fault, Fault::Denied(_)) => {
                About { ttl: 0, renewable: false }
            }
            Err(error) => return Err(error),
        };
        let life = Life::begin(now, about.ttl, about.renewable);
        self.token = Some(Token { text, since: now, life });
        Ok(())
    }

    async fn renew(&mut self, line: &Line, now: Duration) -> Result<(), VaultError> {
        let Some(token) = &mut self.token else { return Ok(()) };
        let (body, asked) = (Some(json!({})), Asked::Token);
        let question = Question { asked, path: RENEW, body, token: Some(&token.text) };
        let granted = granted(line, line.ask(question).await?.auth, RENEW)?;
        let full = token.life.as_ref().map_or(Duration::ZERO, |life| life.full);
        // Less each time: it comes to an end that nothing puts off.
        let waning = Duration::from_secs(granted.lease_duration) * 2 < full;
        let life = Life::begin(now, granted.lease_duration, granted.renewable && !waning);
        token.life = life.map(|life| Life { full, ..life });
        Ok(())
    }

    async fn log_in(&mut self, line: &Line, now: Duration) -> Result<(), VaultError> {
        let Auth::Kubernetes { mount, role, token_file } = &self.auth else { return Ok(()) };
        let path = format!("auth/{mount}/login");
        // Read each time: Kubernetes replaces it every hour or so.
        let account = files::read_secret(ACCOUNT_FILE, token_file);
        let account = account.map_err(|error| line.failed(&path, error))?;
        let body = Some(json!({ "role": role, "jwt": account }));
        let question = Question { asked: Asked::Login, path: &path, body, token: None };
        let granted = granted(line, line.ask(question).await?.auth, &path)?;
        let life = Life::begin(now, granted.lease_duration, granted.renewable);
        let text = Secret::new(granted.client_token);
        self.token = Some(Token { text, since: now, life });
        self.is_doubted = false;
        Ok(())
    }
}

fn granted(line: &Line, auth: Option<Granted>, path: &str) -> Result<Granted, VaultError> {
    let none = || line.failed(path, Fault::Malformed("it gives no token".to_owned()));
    auth.ok_or_else(none)
}
