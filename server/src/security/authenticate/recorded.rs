//! Credentials that were refused, as the audit log has them.
//!
//! ```text
//!   refused ─ kept of this minute? ─> a task: is there such a user? ─> $LoginRefused
//! ```
//!
//! INVARIANTS: of what the caller sent nothing is recorded but the login of a user there is, and the
//! name in a certificate: people type passwords where a login belongs. Whether there is such a user
//! is looked up after the answer, which takes as long for both.

use super::{Asked, Refusal, credentials};
use crate::security::audit::{Audit, LoginRefused};
use crate::security::authenticate::credentials::Credentials;
use crate::users::Users;

/// Where refusals are recorded.
pub struct Recorded {
    audit: Audit,
    users: Users,
}

impl Recorded {
    /// In `audit`, with the logins of `users`.
    pub fn new(audit: Audit, users: Users) -> Recorded {
        Recorded { audit, users }
    }

    /// Records that `asked` was refused, if not too much was in this minute.
    pub fn refused(&self, asked: &Asked, proof: &'static str, refusal: &Refusal) {
        let is_lock_out = matches!(refusal, Refusal::LockedOut { .. });
        if matches!(refusal, Refusal::Unavailable { .. })
            || !self.audit.keeps_refusal(asked.peer, is_lock_out)
        {
            return;
        }
        let (audit, users, asked) = (self.audit.clone(), self.users.clone(), asked.clone());
        let why = refusal.to_string();
        tokio::spawn(async move {
            let who = login(&users, &asked).await;
            audit.login_refused(LoginRefused { who, proof, peer: asked.peer, why });
        });
    }
}

/// The login that was said, if it may be repeated.
async fn login(users: &Users, asked: &Asked) -> Option<String> {
    let Some(value) = &asked.authorization else {
        // An authority of this server's signed it.
        return asked.certificate.as_ref()?.common_name.clone();
    };
    match credentials::read(value).ok()? {
        Credentials::Password { login, .. } | Credentials::ApiToken { login: Some(login), .. } => {
            users.user(&login).await.ok().map(|user| user.login)
        }
        Credentials::ApiToken { login: None, .. } | Credentials::Token(_) => None,
    }
}
