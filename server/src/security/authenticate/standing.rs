//! Whether a caller is still who it was, while what it began lasts.

use std::sync::Arc;

use daybook_model::Clock;
use futures_util::future::BoxFuture;

use crate::security::caller::Standing;
use crate::users::api_tokens::Bearer;
use crate::users::password::PasswordStamp;
use crate::users::{User, Users};

/// A user who called, to be looked at again.
pub(super) struct UserStanding {
    users: Users,
    login: String,
    groups: Vec<String>,
    /// Of the password, if that was the proof.
    stamp: Option<PasswordStamp>,
    at: u64,
}

impl UserStanding {
    /// Of a user who was looked at after the users had changed `at` times.
    pub fn of(
        users: &Users,
        user: &User,
        stamp: Option<PasswordStamp>,
        at: u64,
    ) -> Arc<dyn Standing> {
        let (login, groups) = (user.login.clone(), user.groups.clone());
        let users = users.clone();
        Arc::new(UserStanding { users, login, groups, stamp, at })
    }
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

/// A user who called by an API token; both are looked at again.
pub(super) struct TokenStanding {
    pub users: Users,
    pub clock: Arc<dyn Clock>,
    /// Of the token.
    pub hash: blake3::Hash,
    /// What it left the user.
    pub groups: Vec<String>,
    pub at: u64,
}

impl std::fmt::Debug for TokenStanding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenStanding").finish_non_exhaustive()
    }
}

impl Standing for TokenStanding {
    fn at(&self) -> u64 {
        self.at
    }

    fn now(&self) -> u64 {
        self.users.generation()
    }

    fn holds(&self) -> BoxFuture<'static, bool> {
        let (users, hash, groups) = (self.users.clone(), self.hash, self.groups.clone());
        let now = self.clock.now();
        Box::pin(async move {
            let bearer = users.bearer(&hash, now).await;
            matches!(bearer, Ok(Bearer::Good(user, _)) if user.groups == groups)
        })
    }
}
