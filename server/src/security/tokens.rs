//! Bearer tokens: JSON Web Tokens (RFC 7519) that an issuer signs, which this server believes.
//!
//! ```text
//!   token ─ header: alg, kid ─> the one key of that id and algorithm ─> signature
//!             │                   └─ none: ask the issuer's URL, at most every ten seconds
//!             └─ anything but EdDSA, ES256, RS256: refused
//!         ─ claims ─> iss, aud, exp, nbf (all required) ─> login, groups ─> Caller, until exp
//! ```
//!
//! INVARIANTS: a key is for one algorithm, which stands beside the key and never in the token: a
//! token that is signed with a public key as if it were a secret, or not at all, finds no key. What
//! a token says counts only after its signature was found right. Time is our clock's.

mod fetch;
mod keys;
mod settings;

use std::sync::Arc;

use arc_swap::ArcSwap;
use daybook_model::{Clock, Timestamp};
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::authenticate::Refusal;
use super::caller::{Caller, Proof};
use super::files::FileError;
use super::source::Source as Place;
use crate::telemetry::security::SecurityMetrics;
use crate::users::record;
use fetch::Source;
use keys::Key;
use settings::Issuer;

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;
/// Claims that every token must have.
const REQUIRED: [&str; 4] = ["iss", "aud", "exp", "nbf"];

/// Whose tokens are believed.
pub struct Tokens {
    place: Place,
    current: ArcSwap<Issuer>,
    /// What was wrong with the files when they were last looked at.
    wrong: Mutex<Option<String>>,
    source: Option<Arc<Source>>,
    clock: Arc<dyn Clock>,
    metrics: SecurityMetrics,
}

impl Tokens {
    /// Reads the file that describes the issuer, and those that it names.
    ///
    /// # Errors
    /// [`FileError`] names the file and what is wrong with it.
    pub fn load(
        place: Place,
        clock: Arc<dyn Clock>,
        metrics: SecurityMetrics,
    ) -> Result<Tokens, FileError> {
        let issuer = settings::load(&place)?;
        let source = issuer.source.clone().map(|url| Arc::new(Source::new(url, clock.clone())));
        let current = ArcSwap::from_pointee(issuer);
        Ok(Tokens { place, current, wrong: Mutex::new(None), source, clock, metrics })
    }

    /// Takes up what has changed in the files, and asks the issuer for its keys when it is time to.
    ///
    /// # Errors
    /// What is wrong. What was in use stays in use.
    pub async fn look(&self) -> Result<(), String> {
        let place = self.place.clone();
        let read = tokio::task::spawn_blocking(move || settings::load(&place)).await;
        let read = read.unwrap_or_else(|failed| {
            Err(FileError::new(settings::WHAT, self.place.place(), failed.to_string()))
        });
        let url = self.source.as_deref().map(Source::url);
        let found = read.map_err(|error| error.to_string()).and_then(|issuer| {
            if issuer.source.as_ref() != url {
                return Err("the URL of an issuer's keys is changed by a restart only".to_owned());
            }
            self.current.store(Arc::new(issuer));
            Ok(())
        });
        let fetched = match &self.source {
            Some(source) => source.renew().await,
            None => Ok(()),
        };
        let found = found.and(fetched);
        let mut wrong = self.wrong.lock();
        if let Err(reason) = &found
            && wrong.as_ref() != Some(reason)
        {
            self.metrics.reload_failed();
        }
        *wrong = found.clone().err();
        found
    }

    /// Whom a token stands for.
    ///
    /// # Errors
    /// [`Refusal::Token`] says what is wrong with it.
    pub async fn verify(&self, token: &str) -> Result<Caller, Refusal> {
        let header = decode_header(token).map_err(|_| refused("it is no signed JSON Web Token"))?;
        if !keys::ALGORITHMS.contains(&header.alg) {
            return Err(refused("it is signed by another algorithm than EdDSA, ES256 and RS256"));
        }
        let issuer = self.current.load_full();
        let kid = header.kid.as_deref();
        let key = self.key(&issuer, kid, header.alg).await?;
        let mut validation = Validation::new(key.algorithm);
        // Below, by our own clock and leeway.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        validation.set_issuer(&[&issuer.name]);
        validation.set_audience(&[&issuer.audience]);
        validation.set_required_spec_claims(&REQUIRED);
        let decoded = decode::<Map<String, Value>>(token, &key.key, &validation);
        let claims = decoded.map_err(|error| refused(reason(&error)))?.claims;
        // A list of issuers that has ours is no token of ours.
        if claims.get("iss").and_then(Value::as_str) != Some(&issuer.name) {
            return Err(refused("it has another issuer"));
        }
        caller(&issuer, &claims, self.clock.now())
    }

    /// The one key that a token may be signed with.
    async fn key(
        &self,
        issuer: &Issuer,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Key, Refusal> {
        let unknown = || refused("it is signed with a key that is not known");
        if let Some(key) = keys::find(&issuer.keys, kid, algorithm) {
            return Ok(key);
        }
        let Some(source) = &self.source else { return Err(unknown()) };
        if let Some(key) = keys::find(&source.keys(), kid, algorithm) {
            return Ok(key);
        }
        // To its end, whatever becomes of the request: a caller who leaves must not take the turn of
        // those who stay.
        let asking = source.clone();
        let _ = tokio::spawn(async move { asking.ask_again().await }).await;
        keys::find(&source.keys(), kid, algorithm).ok_or_else(unknown)
    }
}

/// What the claims of a token that was signed right say.
fn caller(issuer: &Issuer, claims: &Map<String, Value>, now: Timestamp) -> Result<Caller, Refusal> {
    let until = time(claims, "exp")?;
    let leeway = issuer.leeway;
    if until.0.saturating_add(leeway) <= now.0 {
        return Err(refused("it has expired"));
    }
    if time(claims, "nbf")?.0 > now.0.saturating_add(leeway) {
        return Err(refused("it is not valid yet"));
    }
    let login = claims.get(&issuer.login_claim).and_then(Value::as_str);
    let login = login.ok_or_else(|| refused("it does not say the login (login_claim)"))?;
    let groups = groups(issuer, claims);
    // A login such as `$admins` would be taken for a group by some rule.
    record::check(login, "", &groups)
        .map_err(|_| refused("its login or one of its groups breaks the rules for users"))?;
    let until = Timestamp(until.0.saturating_add(leeway));
    Ok(Caller::known(login.to_owned(), groups, Proof::Token, Some(until)))
}

fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Timestamp, Refusal> {
    // Fractions of seconds are allowed, and cut off.
    #[expect(clippy::cast_possible_truncation, reason = "what is beyond saturates")]
    let seconds = |value: &Value| value.as_i64().or_else(|| value.as_f64().map(|s| s as i64));
    let seconds = claims.get(name).and_then(seconds);
    let seconds = seconds.ok_or_else(|| refused("one of its times is no number"))?;
    Ok(Timestamp(seconds.saturating_mul(SECOND)))
}

/// The groups, as our own: a list of texts, or one text with spaces, wherever the path leads.
fn groups(issuer: &Issuer, claims: &Map<String, Value>) -> Vec<String> {
    let mut steps = issuer.roles_claim.split('.');
    let first = steps.next().and_then(|step| claims.get(step));
    // A claim may have dots in its name.
    let whole = claims.get(&issuer.roles_claim);
    let found = whole.or_else(|| steps.fold(first, |value, step| value?.get(step)));
    let roles: Vec<&str> = match found {
        Some(Value::Array(roles)) => roles.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(roles)) => roles.split_whitespace().collect(),
        _ => Vec::new(),
    };
    let ours = |role: &str| issuer.groups.get(role).map_or(role, String::as_str).to_owned();
    roles.into_iter().map(ours).collect()
}

fn refused(reason: &'static str) -> Refusal {
    Refusal::Token { reason }
}

fn reason(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind as E;
    match error.kind() {
        E::InvalidSignature => "its signature is wrong",
        E::InvalidAlgorithm => "it is signed by another algorithm than its key is for",
        E::InvalidIssuer => "it has another issuer",
        E::InvalidAudience => "it is for another audience",
        E::MissingRequiredClaim(_) => "it has not all of iss, aud, exp and nbf",
        _ => "it cannot be read",
    }
}

#[cfg(test)]
mod tests;
