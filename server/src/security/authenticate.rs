//! Who makes a request, by what it came with.
//!
//! ```text
//!   Authorization ── Basic ──> known a moment ago? ── no ─> locked out? ─> users (argon2id) ──> Caller
//!                 └─ Bearer ─> tokens: signature, issuer, audience, times ─────────────────────> Caller
//!   no such header ─ client certificate? ─> the user of its common name ───────────────────────> Caller
//!                 └─ nothing ──────────────────────────────────────────────────────────────────> nobody
//! ```
//!
//! Credentials in a request outrank the certificate of its connection, as many users may share one
//! connection of a proxy; the certificate must be valid all the same.
//!
//! INVARIANTS: wrong credentials are refused here, whatever the request is for: a caller that
//! believes to be somebody is never served as nobody. A refusal does not tell whether there is such
//! a user. Nothing that a caller sends is logged.

pub mod credentials;
mod refusal;

use std::net::IpAddr;
use std::sync::Arc;

use daybook_model::{Clock, Entropy};
use futures_util::future::BoxFuture;
use http::HeaderValue;

use super::caller::{Caller, Proof, Standing};
use super::lockout::Lockout;
use super::tls::ClientCertificate;
use super::tokens::Tokens;
use super::verified::{Fingerprint, Known, Role, Verified};
use crate::telemetry::security::{Outcome, SecurityMetrics};
use crate::users::password::PasswordStamp;
use crate::users::{User, Users, UsersError};
use credentials::Credentials;
pub use refusal::Refusal;

/// What a request came with.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its header `Authorization`, if it had one.
    pub authorization: Option<HeaderValue>,
    /// From where.
    pub peer: IpAddr,
    /// The certificate of its connection.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// Finds out who makes a request.
pub struct Authentication {
    users: Users,
    verified: Verified,
    lockout: Lockout,
    tokens: Option<Tokens>,
    nobody: Caller,
    clock: Arc<dyn Clock>,
    metrics: SecurityMetrics,
}

impl Authentication {
    /// By these users, and by tokens if any are believed.
    #[must_use]
    pub fn new(
        users: Users,
        tokens: Option<Tokens>,
        clock: Arc<dyn Clock>,
        entropy: &dyn Entropy,
        metrics: SecurityMetrics,
    ) -> Authentication {
        Authentication {
            users,
            verified: Verified::new(entropy),
            lockout: Lockout::new(entropy),
            tokens,
            nobody: Caller::nobody(),
            clock,
            metrics,
        }
    }

    /// Whose tokens are believed, if anybody's are.
    #[must_use]
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// Who asks.
    ///
    /// # Errors
    /// [`Refusal`] if it is not who it says it is, or that cannot be found out.
    pub async fn identify(&self, asked: Asked) -> Result<Caller, Refusal> {
        let proof = match (&asked.authorization, &asked.certificate) {
            (Some(value), _) => credentials::proof(value),
            (None, Some(_)) => "certificate",
            (None, None) => return Ok(self.nobody.clone()),
        };
        let found = self.caller(asked).await;
        let outcome = match &found {
            Ok(_) => Outcome::Accepted,
            Err(Refusal::LockedOut { .. }) => Outcome::LockedOut,
            Err(Refusal::Unavailable { .. }) => Outcome::Unavailable,
            Err(_) => Outcome::Wrong,
        };
        self.metrics.authenticated(proof, outcome);
        found
    }

    async fn caller(&self, asked: Asked) -> Result<Caller, Refusal> {
        let Asked { authorization, peer, certificate } = asked;
        if let Some(certificate) = &certificate
            && certificate.not_after <= self.clock.now()
        {
            return Err(Refusal::CertificateExpired);
        }
        match (authorization, certificate) {
            (Some(value), _) => match credentials::read(&value)? {
                Credentials::Password { login, password } => {
                    self.by_password(login, password, peer).await
                }
                Credentials::Token(token) => match &self.tokens {
                    Some(tokens) => tokens.verify(&token).await,
                    None => Err(Refusal::TokensOff),
                },
            },
            (None, Some(certificate)) => self.by_certificate(&certificate).await,
            (None, None) => Ok(self.nobody.clone()),
        }
    }

    /// The user of that login and password. The hash of a password is slow on purpose, and each
    /// request carries one: what was right a moment ago is right still, and what many requests ask
    /// at a time is found out once.
    async fn by_password(
        &self,
        login: String,
        password: String,
        peer: IpAddr,
    ) -> Result<Caller, Refusal> {
        let fingerprint = self.verified.fingerprint("password", &[&login, &password]);
        loop {
            let now = self.clock.monotonic();
            let generation = self.users.generation();
            if let Some(caller) = self.verified.get(&fingerprint, generation, now) {
                return Ok(caller);
            }
            match self.verified.begin(fingerprint) {
                Role::Finder(finder) => {
                    let known = self.find_out(&fingerprint, &login, password, peer).await;
                    let found = known.map(|known| {
                        self.verified.put(fingerprint, known.clone(), generation, now);
                        known.caller
                    });
                    finder.found(found.clone());
                    return found;
                }
                Role::Waiter(found) => match found.wait().await {
                    Some(Err(refused)) if self.users.generation() == generation => {
                        return Err(refused);
                    }
                    // It is among the verified now; or whoever was to find out has gone, or the
                    // users have changed: once more.
                    _ => {}
                },
            }
        }
    }

    /// Whose they are: by the password's hash, unless they were right before and the user has that
    /// password still. Only the hash is worth guessing at, and counts for the lock-out.
    async fn find_out(
        &self,
        fingerprint: &Fingerprint,
        login: &str,
        password: String,
        peer: IpAddr,
    ) -> Result<Known, Refusal> {
        let at = self.users.generation();
        if let Some(stamp) = self.verified.stamp(fingerprint) {
            let still = self.users.still(login, stamp).await;
            if let Some(user) = still.map_err(|error| unavailable(&error))? {
                return Ok(self.by(user, stamp, at));
            }
            self.verified.forget(fingerprint);
        }
        let attempt = self.lockout.attempt(login, peer, self.clock.monotonic());
        let attempt = attempt.map_err(|retry_after| Refusal::LockedOut { retry_after })?;
        match self.users.verify(login, password).await {
            Ok(Some((user, stamp))) => {
                self.lockout.forgive(attempt, Some(self.clock.monotonic()));
                Ok(self.by(user, stamp, at))
            }
            Ok(None) => Err(Refusal::Wrong),
            Err(error) => {
                self.lockout.forgive(attempt, None);
                Err(unavailable(&error))
            }
        }
    }

    fn by(&self, user: User, stamp: PasswordStamp, at: u64) -> Known {
        let standing = self.standing(&user, Some(stamp), at);
        let caller = Caller::known(user.login, user.groups, Proof::Password, None);
        Known { caller: caller.standing_by(standing), stamp: Some(stamp) }
    }

    /// Of a user who was looked at after the users had changed `at` times.
    fn standing(&self, user: &User, stamp: Option<PasswordStamp>, at: u64) -> Arc<dyn Standing> {
        let (login, groups) = (user.login.clone(), user.groups.clone());
        let users = self.users.clone();
        Arc::new(UserStanding { users, login, groups, stamp, at })
    }

    /// Gives a user another password, if `current` is the one it has: a guess like any other.
    ///
    /// # Errors
    /// [`Refusal::LockedOut`], or why it was not changed.
    pub async fn change_password(
        &self,
        login: &str,
        peer: IpAddr,
        (current, new): (String, String),
    ) -> Result<Result<(), UsersError>, Refusal> {
        let attempt = self.lockout.attempt(login, peer, self.clock.monotonic());
        let attempt = attempt.map_err(|retry_after| Refusal::LockedOut { retry_after })?;
        let changed = self.users.change_password(login, current, new).await;
        match &changed {
            Ok(()) => self.lockout.forgive(attempt, Some(self.clock.monotonic())),
            // Counts, as it does at the door.
            Err(UsersError::WrongPassword { .. }) => {}
            Err(_) => self.lockout.forgive(attempt, None),
        }
        Ok(changed)
    }

    /// The user whose login is the common name of a certificate, as in KurrentDB.
    async fn by_certificate(&self, certificate: &ClientCertificate) -> Result<Caller, Refusal> {
        let Some(login) = &certificate.common_name else { return Err(Refusal::CertificateUnknown) };
        let names = [login.as_str(), certificate.fingerprint.as_str()];
        let fingerprint = self.verified.fingerprint("certificate", &names);
        let now = self.clock.monotonic();
        let generation = self.users.generation();
        if let Some(caller) = self.verified.get(&fingerprint, generation, now) {
            return Ok(caller);
        }
        let user = match self.users.user(login).await {
            Ok(user) if !user.disabled => user,
            Ok(_) | Err(UsersError::NotFound { .. } | UsersError::Invalid { .. }) => {
                return Err(Refusal::CertificateUnknown);
            }
            Err(error) => return Err(unavailable(&error)),
        };
        let until = Some(certificate.not_after);
        let standing = self.standing(&user, None, generation);
        let caller = Caller::known(user.login, user.groups, Proof::Certificate, until);
        let caller = caller.standing_by(standing);
        let known = Known { caller: caller.clone(), stamp: None };
        self.verified.put(fingerprint, known, generation, now);
        Ok(caller)
    }
}

/// A user who called, to be looked at again.
struct UserStanding {
    users: Users,
    login: String,
    groups: Vec<String>,
    /// Of the password, if that was the proof.
    stamp: Option<PasswordStamp>,
    at: u64,
}

impl std::fmt::Debug for UserStanding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserStanding").field("login", &self.login).finish_non_exhaustive()
    }
}

impl Standing for UserStanding {
    fn at(&self) -> u64 {
        self.at
    }

    fn now(&self) -> u64 {
        self.users.generation()
    }

    fn holds(&self) -> BoxFuture<'static, bool> {
        let (users, login) = (self.users.clone(), self.login.clone());
        let (groups, stamp) = (self.groups.clone(), self.stamp);
        Box::pin(async move {
            let user = match stamp {
                Some(stamp) => users.still(&login, stamp).await.ok().flatten(),
                None => users.user(&login).await.ok().filter(|user| !user.disabled),
            };
            // Who cannot be looked at is let go: it comes again, and is asked.
            user.is_some_and(|user| user.groups == groups)
        })
    }
}

fn unavailable(error: &UsersError) -> Refusal {
    if !matches!(error, UsersError::Busy) {
        tracing::error!(%error, "credentials cannot be checked");
    }
    Refusal::Unavailable { reason: error.to_string() }
}

#[cfg(test)]
mod tests;
