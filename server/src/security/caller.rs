//! Who makes a request.

use std::sync::Arc;

use daybook_model::{Context, Timestamp};
use futures_util::future::BoxFuture;

/// The group whose members may do everything, as in KurrentDB.
pub const ADMINS: &str = "$admins";
/// The group whose members may do what keeps a server running, as in KurrentDB.
pub const OPERATORS: &str = "$ops";

/// Whether a caller is still who it was: users change while their calls last.
pub trait Standing: std::fmt::Debug + Send + Sync {
    /// When the caller was found to be who it is, as [`Standing::now`] counts.
    fn at(&self) -> u64;
    /// How often users have changed so far.
    fn now(&self) -> u64;
    /// Whether the caller may call still, as the same.
    fn holds(&self) -> BoxFuture<'static, bool>;
}

/// How a caller proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The server asks nobody.
    Unasked,
    /// It gave none.
    None,
    /// By a login and its password.
    Password,
    /// By a token that an issuer signed.
    Token,
    /// By an API token of a user, which this server made.
    ApiToken,
    /// By a client certificate.
    Certificate,
}

/// Who makes a request. Every request has one among its extensions; a clone is another handle.
#[derive(Clone, Debug)]
pub struct Caller {
    identity: Arc<Identity>,
}

#[derive(Debug)]
struct Identity {
    login: Option<String>,
    groups: Vec<String>,
    proof: Proof,
    until: Option<Timestamp>,
    /// The id of its API token, if that is its proof.
    token: Option<String>,
    standing: Option<Arc<dyn Standing>>,
}

impl Proof {
    /// It in a word, for records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Proof::Unasked => "unasked",
            Proof::None => "none",
            Proof::Password => "password",
            Proof::Token => "token",
            Proof::ApiToken => "api_token",
            Proof::Certificate => "certificate",
        }
    }
}

impl Caller {
    /// Of a server that asks nobody who they are: it may do everything.
    #[must_use]
    pub fn unasked() -> Caller {
        Caller::of(None, vec![ADMINS.to_owned()], Proof::Unasked, None)
    }

    /// One that gave no proof.
    #[must_use]
    pub fn nobody() -> Caller {
        Caller::of(None, Vec::new(), Proof::None, None)
    }

    /// One that proved to be `login`, which belongs to `groups`; the proof holds until `until`, if
    /// it ever ends.
    #[must_use]
    pub fn known(
        login: String,
        groups: Vec<String>,
        proof: Proof,
        until: Option<Timestamp>,
    ) -> Caller {
        Caller::of(Some(login), groups, proof, until)
    }

    fn of(
        login: Option<String>,
        groups: Vec<String>,
        proof: Proof,
        until: Option<Timestamp>,
    ) -> Caller {
        let (token, standing) = (None, None);
        Caller { identity: Arc::new(Identity { login, groups, proof, until, token, standing }) }
    }

    /// One that proved to be `login` by its API token of this id, which ends at `until`.
    #[must_use]
    pub fn by_api_token(
        login: String,
        groups: Vec<String>,
        token: String,
        until: Timestamp,
    ) -> Caller {
        let (login, token, until) = (Some(login), Some(token), Some(until));
        let (proof, standing) = (Proof::ApiToken, None);
        Caller { identity: Arc::new(Identity { login, groups, proof, until, token, standing }) }
    }

    /// The same, who may be asked for while what it began lasts.
    #[must_use]
    pub fn standing_by(&self, standing: Arc<dyn Standing>) -> Caller {
        let Identity { login, groups, proof, until, token, .. } = &*self.identity;
        let (login, groups, token) = (login.clone(), groups.clone(), token.clone());
        let (proof, until, standing) = (*proof, *until, Some(standing));
        Caller { identity: Arc::new(Identity { login, groups, proof, until, token, standing }) }
    }

    /// Its name, if it said and proved one.
    #[must_use]
    pub fn login(&self) -> Option<&str> {
        self.identity.login.as_deref()
    }

    /// What it belongs to.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        &self.identity.groups
    }

    /// How it proved who it is.
    #[must_use]
    pub fn proof(&self) -> Proof {
        self.identity.proof
    }

    /// The id of its API token, if that is its proof.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.identity.token.as_deref()
    }

    /// What the events say of it that it brings about, if it has a name.
    #[must_use]
    pub fn context(&self) -> Option<Context> {
        let actor = self.login()?.to_owned();
        Some(Context { actor: Some(actor), ..Context::default() })
    }

    /// When its proof ends, if it does: what it was allowed to follow ends then, too.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        self.identity.until
    }

    /// Whom to ask whether it is still who it was; nobody if that cannot change before
    /// [`Caller::until`].
    #[must_use]
    pub fn standing(&self) -> Option<&Arc<dyn Standing>> {
        self.identity.standing.as_ref()
    }

    /// Whether it belongs to `group`.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.identity.groups.iter().any(|own| own == group)
    }

    /// Whether it may do everything.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.is_in(ADMINS)
    }
}
