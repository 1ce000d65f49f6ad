//! Who calls, how they prove it, and what they may do.
//!
//! ```text
//!   socket ─> TLS ─> node::entrance ─ identify ─> Caller ─> route's right ─> door: stream's rights
//!                                      └─ 401                └─ 401, 403      └─ 403
//!
//!   caller   who makes a request                rights   what a route asks for, and who has it
//!   gate     the check in front of a route      acl      what a stream's lists let a caller do
//!   lapse    the end of what a proof let in     rules    the same, for a node
//!   audit    what was done, and denied          source   a file, or what is kept of Vault
//! ```

pub mod acl;
pub mod audit;
pub mod authenticate;
pub mod caller;
pub mod development;
pub mod dial;
pub mod files;
pub mod first_admin;
pub mod gate;
pub mod lapse;
pub mod lockout;
pub mod rights;
pub mod rules;
pub mod settings;
pub mod source;
pub mod tls;
pub mod tokens;
pub mod vault;
pub mod verified;
pub mod visitors;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

pub use authenticate::Authentication;
pub use caller::{Caller, Proof};
pub use settings::{Asks, Settings};
pub use tls::Tls;
pub use tokens::Tokens;
pub use visitors::{Asker, Visitors};

use crate::node::{Life, Phase};

/// How often the files of certificates and keys are looked at.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// What a node, or a process without a store, asks of those who connect. A clone is another handle.
#[derive(Clone, Default)]
pub struct Security {
    tls: Option<Tls>,
    asker: Option<Asker>,
}

impl Security {
    /// Of these parts.
    #[must_use]
    pub fn new(tls: Option<Tls>, authentication: Option<Arc<Authentication>>) -> Security {
        Security { tls, asker: authentication.map(Asker::Users) }
    }

    /// That of a process that has no users.
    #[must_use]
    pub fn without_users(tls: Option<Tls>, visitors: Option<Arc<Visitors>>) -> Security {
        Security { tls, asker: visitors.map(Asker::Visitors) }
    }

    /// How connections are encrypted, if they are.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Who asks callers for who they are, if anybody does.
    #[must_use]
    pub fn asker(&self) -> Option<&Asker> {
        self.asker.as_ref()
    }

    /// Who asks users for who they are, if anybody does.
    #[must_use]
    pub fn authentication(&self) -> Option<&Arc<Authentication>> {
        match &self.asker {
            Some(Asker::Users(users)) => Some(users),
            Some(Asker::Visitors(_)) | None => None,
        }
    }

    /// Whether callers are asked who they are, in a word.
    #[must_use]
    pub fn said(&self) -> &'static str {
        if self.asker.is_some() { "required" } else { "none" }
    }

    /// Takes up what has changed in the files of certificates and keys; connections that are open
    /// stay as they are.
    ///
    /// # Errors
    /// What is wrong with the new files, each named. What was in use stays in use.
    pub async fn reload(&self) -> Result<(), String> {
        let mut wrong = Vec::new();
        if let Some(tls) = &self.tls
            && let Err(error) = tls.look().await
        {
            wrong.push(error);
        }
        if let Some(tokens) = self.asker.as_ref().and_then(Asker::tokens)
            && let Err(error) = tokens.look().await
        {
            wrong.push(error);
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    /// Looks at the files again and again until the node stops. Logs what is wrong with them once.
    pub async fn watch(self, life: Life) {
        if self.tls.is_none() && self.asker.is_none() {
            return;
        }
        let mut told = None;
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                () = life.reached(Phase::Draining) => return,
            }
            let wrong = self.reload().await.err();
            if wrong != told
                && let Some(wrong) = &wrong
            {
                tracing::error!(
                    reason = wrong,
                    "changed files of certificates or keys cannot be used; the ones before stay"
                );
            }
            told = wrong;
        }
    }
}
