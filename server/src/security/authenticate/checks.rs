//! What is looked up of users: passwords, API tokens, the names of certificates.
//!
//! ```text
//!   what was sent ─> right a moment ago? ─ no ─> somebody looks already? ─ no ─> a task of its own:
//!                      └ yes: Caller               └ yes: wait for it            locked out? look
//! ```
//!
//! INVARIANT: what is looked at is looked at to its end, whether or not the request that brought it
//! is waited for. So a right password counts as right, though its request was cut meanwhile, and
//! nobody escapes the count of guesses by leaving.

use std::net::IpAddr;
use std::sync::Arc;

use daybook_model::{Clock, Entropy};

use super::Refusal;
use super::standing::{TokenStanding, UserStanding};
use crate::security::caller::{Caller, Proof};
use crate::security::lockout::Lockout;
use crate::security::tls::ClientCertificate;
use crate::security::verified::{Fingerprint, Known, Role, Verified};
use crate::users::api_tokens::Bearer;
use crate::users::api_tokens::secret::Secret;
use crate::users::password::PasswordStamp;
use crate::users::{User, Users, UsersError};

/// Looks users up, remembers who was right, and counts who was not.
pub struct Checks {
    users: Users,
    verified: Verified,
    lockout: Lockout,
    clock: Arc<dyn Clock>,
}

impl Checks {
    /// Of these users, of whom nobody has called yet.
    pub fn new(users: Users, clock: Arc<dyn Clock>, entropy: &dyn Entropy) -> Checks {
        let (verified, lockout) = (Verified::new(entropy), Lockout::new(entropy));
        Checks { users, verified, lockout, clock }
    }

    /// The user of that login and password. The hash of a password is slow on purpose, and each
    /// request carries one: what was right a moment ago is right still, and what many requests ask
    /// at a time is found out once.
    ///
    /// # Errors
    /// [`Refusal`]
    pub async fn by_password(
        self: &Arc<Self>,
        login: String,
        password: String,
        peer: IpAddr,
    ) -> Result<Caller, Refusal> {
        let of = self.verified.fingerprint("password", &[&login, &password]);
        self.once(of, move |checks| {
            let (login, password) = (login.clone(), password.clone());
            async move { checks.password(&of, &login, password, peer).await }
        })
        .await
    }

    /// The user whose API token it is; `login`, if that is said.
    ///
    /// # Errors
    /// [`Refusal`]
    pub async fn by_api_token(
        self: &Arc<Self>,
        login: Option<String>,
        secret: &Secret,
    ) -> Result<Caller, Refusal> {
        let hash = secret.hash();
        let of = self.verified.fingerprint("api token", &[hash.to_hex().as_str()]);
        let caller = self.once(of, move |checks| async move { checks.api_token(hash).await });
        let caller = caller.await?;
        let is_its_own = login.is_none_or(|login| caller.login() == Some(login.as_str()));
        if is_its_own { Ok(caller) } else { Err(Refusal::Wrong) }
    }

    /// Whose credentials of this fingerprint are, which `look` finds out once for all who ask at a
    /// time.
    async fn once<W>(
        self: &Arc<Self>,
        of: Fingerprint,
        look: impl Fn(Arc<Checks>) -> W,
    ) -> Result<Caller, Refusal>
    where
        W: Future<Output = Result<Known, Refusal>> + Send + 'static,
    {
        loop {
            let now = self.clock.monotonic();
            let generation = self.users.generation();
            if let Some(caller) = self.verified.get(&of, generation, (now, self.clock.now())) {
                return Ok(caller);
            }
            if self.verified.is_wrong(&of, generation) {
                return Err(Refusal::Wrong);
            }
            match self.verified.begin(of) {
                Role::Finder(finder) => {
                    let (checks, looking) = (self.clone(), look(self.clone()));
                    let found = tokio::spawn(async move {
                        let found = looking.await.map(|known| {
                            checks.verified.put(of, known.clone(), generation, now);
                            known.caller
                        });
                        finder.found(found.clone());
                        found
                    });
                    return found.await.unwrap_or_else(|ended| Err(unfinished(&ended)));
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
    async fn password(
        &self,
        of: &Fingerprint,
        login: &str,
        password: String,
        peer: IpAddr,
    ) -> Result<Known, Refusal> {
        let at = self.users.generation();
        if let Some(stamp) = self.verified.stamp(of) {
            let still = self.users.still(login, stamp).await;
            if let Some(user) = still.map_err(|error| unavailable(&error))? {
                return Ok(self.by(user, stamp, at));
            }
            self.verified.forget(of);
        }
        let attempt = self.lockout.attempt(login, peer, self.clock.monotonic());
        let attempt = attempt.map_err(|retry_after| Refusal::LockedOut { retry_after })?;
        match self.users.verify(login, password).await {
            Ok(Some((user, stamp))) => {
                self.lockout.forgive(attempt, Some(self.clock.monotonic()));
                Ok(self.by(user, stamp, at))
            }
            Ok(None) => {
                self.verified.put_wrong(*of, at, self.clock.monotonic());
                Err(Refusal::Wrong)
            }
            Err(error) => {
                self.lockout.forgive(attempt, None);
                Err(unavailable(&error))
            }
        }
    }

    /// Whose API token has this hash. None of them is counted: nobody guesses one.
    async fn api_token(&self, hash: blake3::Hash) -> Result<Known, Refusal> {
        let at = self.users.generation();
        let found = self.users.bearer(&hash, self.clock.now()).await;
        let (user, token) = match found.map_err(|error| unavailable(&error))? {
            Bearer::Good(user, token) => (user, token),
            Bearer::Expired => return Err(Refusal::ApiTokenExpired),
            Bearer::Nobody => return Err(Refusal::ApiToken),
        };
        let groups = user.groups.clone();
        let standing = TokenStanding {
            users: self.users.clone(),
            clock: self.clock.clone(),
            hash,
            groups: user.groups,
            at,
        };
        let caller = Caller::by_api_token(user.login, groups, token.id, token.expires);
        Ok(Known { caller: caller.standing_by(Arc::new(standing)), stamp: None })
    }

    fn by(&self, user: User, stamp: PasswordStamp, at: u64) -> Known {
        let standing = UserStanding::of(&self.users, &user, Some(stamp), at);
        let caller = Caller::known(user.login, user.groups, Proof::Password, None);
        Known { caller: caller.standing_by(standing), stamp: Some(stamp) }
    }

    /// Gives a user another password, if `current` is the one it has: a guess like any other.
    ///
    /// # Errors
    /// [`Refusal::LockedOut`], or why it was not changed.
    pub async fn change_password(
        self: &Arc<Self>,
        login: String,
        peer: IpAddr,
        (current, new): (String, String),
    ) -> Result<Result<(), UsersError>, Refusal> {
        let attempt = self.lockout.attempt(&login, peer, self.clock.monotonic());
        let attempt = attempt.map_err(|retry_after| Refusal::LockedOut { retry_after })?;
        let checks = self.clone();
        let changing = tokio::spawn(async move {
            let changed = checks.users.change_password(&login, current, new).await;
            match &changed {
                Ok(()) => checks.lockout.forgive(attempt, Some(checks.clock.monotonic())),
                // Counts, as it does at the door.
                Err(UsersError::WrongPassword { .. }) => {}
                Err(_) => checks.lockout.forgive(attempt, None),
            }
            changed
        });
        changing.await.map_err(|ended| unfinished(&ended))
    }

    /// The user whose login is the common name of a certificate, as in KurrentDB.
    ///
    /// # Errors
    /// [`Refusal`]
    pub async fn by_certificate(&self, certificate: &ClientCertificate) -> Result<Caller, Refusal> {
        let Some(login) = &certificate.common_name else { return Err(Refusal::CertificateUnknown) };
        let names = [login.as_str(), certificate.fingerprint.as_str()];
        let fingerprint = self.verified.fingerprint("certificate", &names);
        let now = self.clock.monotonic();
        let generation = self.users.generation();
        let at = (now, self.clock.now());
        if let Some(caller) = self.verified.get(&fingerprint, generation, at) {
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
        let standing = UserStanding::of(&self.users, &user, None, generation);
        let caller = Caller::known(user.login, user.groups, Proof::Certificate, until);
        let caller = caller.standing_by(standing);
        let known = Known { caller: caller.clone(), stamp: None };
        self.verified.put(fingerprint, known, generation, now);
        Ok(caller)
    }
}

fn unavailable(error: &UsersError) -> Refusal {
    if !matches!(error, UsersError::Busy) {
        tracing::error!(%error, "credentials cannot be checked");
    }
    Refusal::Unavailable { reason: error.to_string() }
}

/// The task that looked was ended, as when the server stops.
fn unfinished(ended: &tokio::task::JoinError) -> Refusal {
    Refusal::Unavailable { reason: ended.to_string() }
}
