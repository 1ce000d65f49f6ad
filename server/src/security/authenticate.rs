//! Who makes a request, by what it came with.
//!
//! ```text
//!   Authorization ── Basic ──> known a moment ago? ── no ─> locked out? ─> users (argon2id) ──> Caller
//!                 ├─ Bearer dbk_… ─> likewise, by the hash of the token ───────────────────────> Caller
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
//! a user. Nothing that a caller sends is logged, nor recorded but for the login of a user.

mod checks;
pub mod credentials;
mod recorded;
mod refusal;
mod standing;

use std::net::IpAddr;
use std::sync::Arc;

use daybook_model::{Clock, Entropy};
use http::HeaderValue;

use super::audit::Audit;
use super::caller::Caller;
use super::tls::ClientCertificate;
use super::tokens::Tokens;
use crate::telemetry::security::{Outcome, SecurityMetrics};
use crate::users::{Users, UsersError};
use checks::Checks;
use credentials::Credentials;
use recorded::Recorded;
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
    checks: Arc<Checks>,
    tokens: Option<Tokens>,
    nobody: Caller,
    clock: Arc<dyn Clock>,
    metrics: SecurityMetrics,
    recorded: Option<Recorded>,
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
        let checks = Arc::new(Checks::new(users, clock.clone(), entropy));
        let (nobody, recorded) = (Caller::nobody(), None);
        Authentication { checks, tokens, nobody, clock, metrics, recorded }
    }

    /// The same, whose refusals are recorded in `audit`, with the logins of `users`.
    #[must_use]
    pub fn recorded(self, audit: Audit, users: Users) -> Authentication {
        Authentication { recorded: Some(Recorded::new(audit, users)), ..self }
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
        let found = self.caller(&asked).await;
        if let (Err(refusal), Some(recorded)) = (&found, &self.recorded) {
            recorded.refused(&asked, proof, refusal);
        }
        let outcome = match &found {
            Ok(_) => Outcome::Accepted,
            Err(Refusal::LockedOut { .. }) => Outcome::LockedOut,
            Err(Refusal::Unavailable { .. }) => Outcome::Unavailable,
            Err(_) => Outcome::Wrong,
        };
        self.metrics.authenticated(proof, outcome);
        found
    }

    async fn caller(&self, asked: &Asked) -> Result<Caller, Refusal> {
        let Asked { authorization, peer, certificate } = asked;
        let peer = *peer;
        if let Some(certificate) = certificate
            && certificate.not_after <= self.clock.now()
        {
            return Err(Refusal::CertificateExpired);
        }
        match (authorization, certificate) {
            (Some(value), _) => match credentials::read(value)? {
                Credentials::Password { login, password } => {
                    self.checks.by_password(login, password, peer).await
                }
                Credentials::ApiToken { login, secret } => {
                    self.checks.by_api_token(login, &secret).await
                }
                Credentials::Token(token) => match &self.tokens {
                    Some(tokens) => tokens.verify(&token).await,
                    None => Err(Refusal::TokensOff),
                },
            },
            (None, Some(certificate)) => self.checks.by_certificate(certificate).await,
            (None, None) => Ok(self.nobody.clone()),
        }
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
        self.checks.change_password(login.to_owned(), peer, (current, new)).await
    }
}

#[cfg(test)]
mod tests;
