//! Who calls a process without a store, and so without users: the query front, and connectors that
//! run by themselves.
//!
//! ```text
//!   Authorization: Bearer ─> tokens: signature, issuer, audience, times ──> Caller
//!   no such header ─ client certificate? ─> its common name, the groups that were set ──> Caller
//!                 └─ nothing ─> nobody
//! ```
//!
//! INVARIANTS: wrong credentials are refused whatever the request is for. A password is refused:
//! there is nobody here whose it could be.

use std::sync::Arc;

use daybook_model::Clock;

use super::Authentication;
use super::authenticate::credentials::{self, Credentials};
use super::authenticate::{Asked, Refusal};
use super::caller::{Caller, Proof};
use super::tls::ClientCertificate;
use super::tokens::Tokens;
use crate::telemetry::security::{Outcome, SecurityMetrics};
use crate::users::record;

/// Finds out who makes a request, whatever a process knows of callers. A clone is another handle.
#[derive(Clone)]
pub enum Asker {
    /// It has users.
    Users(Arc<Authentication>),
    /// It has none.
    Visitors(Arc<Visitors>),
}

impl Asker {
    /// Who asks.
    ///
    /// # Errors
    /// [`Refusal`] if it is not who it says it is, or that cannot be found out.
    pub async fn identify(&self, asked: Asked) -> Result<Caller, Refusal> {
        match self {
            Asker::Users(users) => users.identify(asked).await,
            Asker::Visitors(visitors) => visitors.identify(asked).await,
        }
    }

    /// Whose tokens are believed, if anybody's are.
    #[must_use]
    pub fn tokens(&self) -> Option<&Tokens> {
        match self {
            Asker::Users(users) => users.tokens(),
            Asker::Visitors(visitors) => visitors.tokens.as_ref(),
        }
    }
}

/// Finds out who makes a request, without users.
pub struct Visitors {
    tokens: Option<Tokens>,
    /// What everyone belongs to who shows a certificate.
    groups: Vec<String>,
    nobody: Caller,
    clock: Arc<dyn Clock>,
    metrics: SecurityMetrics,
}

impl Visitors {
    /// By tokens if any are believed, and by certificates, which give these groups.
    #[must_use]
    pub fn new(
        tokens: Option<Tokens>,
        groups: Vec<String>,
        clock: Arc<dyn Clock>,
        metrics: SecurityMetrics,
    ) -> Visitors {
        Visitors { tokens, groups, nobody: Caller::nobody(), clock, metrics }
    }

    async fn identify(&self, asked: Asked) -> Result<Caller, Refusal> {
        let proof = match (&asked.authorization, &asked.certificate) {
            (Some(value), _) => credentials::proof(value),
            (None, Some(_)) => "certificate",
            (None, None) => return Ok(self.nobody.clone()),
        };
        let found = self.caller(asked).await;
        let outcome = match &found {
            Ok(_) => Outcome::Accepted,
            Err(Refusal::Unavailable { .. }) => Outcome::Unavailable,
            Err(_) => Outcome::Wrong,
        };
        self.metrics.authenticated(proof, outcome);
        found
    }

    async fn caller(&self, asked: Asked) -> Result<Caller, Refusal> {
        let Asked { authorization, certificate, .. } = asked;
        if let Some(certificate) = &certificate
            && certificate.not_after <= self.clock.now()
        {
            return Err(Refusal::CertificateExpired);
        }
        match (authorization, certificate) {
            (Some(value), _) => match credentials::read(&value)? {
                Credentials::Token(token) => match &self.tokens {
                    Some(tokens) => tokens.verify(&token).await,
                    None => Err(Refusal::NoUsers),
                },
                Credentials::Password { .. } => Err(Refusal::NoUsers),
            },
            (None, Some(certificate)) => self.by_certificate(&certificate),
            (None, None) => Ok(self.nobody.clone()),
        }
    }

    fn by_certificate(&self, certificate: &ClientCertificate) -> Result<Caller, Refusal> {
        let login = certificate.common_name.clone().ok_or(Refusal::CertificateNameless)?;
        // A login such as `$admins` would be taken for a group by some rule.
        record::check(&login, "", &self.groups).map_err(|_| Refusal::CertificateNameless)?;
        let until = Some(certificate.not_after);
        Ok(Caller::known(login, self.groups.clone(), Proof::Certificate, until))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use daybook_model::{SystemClock, Timestamp};
    use http::HeaderValue;

    use super::*;
    use crate::telemetry::metrics::Metrics;

    fn asked(authorization: Option<&'static str>, name: Option<&str>, ends: i64) -> Asked {
        let certificate = name.map(|name| ClientCertificate {
            common_name: (!name.is_empty()).then(|| name.to_owned()),
            fingerprint: "00".to_owned(),
            not_after: Timestamp(ends),
        });
        let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let authorization = authorization.map(HeaderValue::from_static);
        Asked { authorization, peer, certificate: certificate.map(Arc::new) }
    }

    #[tokio::test]
    async fn without_users_only_tokens_and_certificates_prove_something() {
        let metrics = Metrics::new().security.clone();
        let groups = vec!["ledger-read".to_owned()];
        let clock = Arc::new(SystemClock::new());
        let visitors = Asker::Visitors(Arc::new(Visitors::new(None, groups, clock, metrics)));
        let (password, token) = (Some("Basic YWRhOnBhc3M="), Some("Bearer e30.e30.e30"));
        for (what, asked, expected) in [
            ("nothing", asked(None, None, 0), Ok((None, Proof::None))),
            (
                "a certificate",
                asked(None, Some("ada"), i64::MAX),
                Ok((Some("ada"), Proof::Certificate)),
            ),
            ("an ended one", asked(None, Some("ada"), 1), Err(Refusal::CertificateExpired)),
            (
                "one without a name",
                asked(None, Some(""), i64::MAX),
                Err(Refusal::CertificateNameless),
            ),
            (
                "a group's",
                asked(None, Some("$admins"), i64::MAX),
                Err(Refusal::CertificateNameless),
            ),
            ("a password", asked(password, None, 0), Err(Refusal::NoUsers)),
            (
                "one and a certificate",
                asked(password, Some("ada"), i64::MAX),
                Err(Refusal::NoUsers),
            ),
            ("a token of nobody", asked(token, None, 0), Err(Refusal::NoUsers)),
        ] {
            let found = visitors.identify(asked).await;
            let found = found.as_ref().map(|caller| (caller.login(), caller.proof()));
            assert_eq!(found, expected.as_ref().map(|found| *found), "{what}");
        }
        let known =
            visitors.identify(asked(None, Some("ada"), 7 + i64::MAX / 2)).await.expect("known");
        assert_eq!(known.groups(), ["ledger-read"]);
        assert_eq!(
            known.until(),
            Some(Timestamp(7 + i64::MAX / 2)),
            "it ends with the certificate"
        );
    }
}
