//! API tokens: by which a machine calls as a user, kept beside the users.
//!
//! ```text
//!   $user-$tokens-ada    $TokenCreated · $TokenRevoked …   each says all that are left; the last counts
//!   $user-$token-<id>    $TokenOf ada                      whose it is
//! ```
//!
//! No login begins with `$`, so these are no user's own streams; they are read and written as users'
//! are. A token is worth what its user is: it does what the user may, or less; a user who is
//! disabled, deleted or in other groups is so for all tokens at once. One that is revoked is gone at
//! once, also for what it follows. When a token was last used is not stored: that would be a write
//! for every read.
//!
//! INVARIANTS: a token's secret is here while it is made or compared, and nowhere else; its hash is
//! only in the stream of its user. Whatever a token leaves out of its user's groups, it has all
//! those that confine the user to a tenant: less is never more.

pub mod secret;

use std::collections::BTreeSet;
use std::time::Duration;

use daybook_model::metadata::METADATA_EVENT_TYPE;
use daybook_model::stream::USER_PREFIX;
use daybook_model::{ContentType, ExpectedRevision, Revision, StreamName, Timestamp};
use daybook_store::{Append, Direction, From, ReadError, ReadStream};
use serde::{Deserialize, Serialize};

use super::error::UsersError;
use super::{ATTEMPTS_MAX, STREAM_METADATA, User, Users, missing, name, record, stream_of};
use crate::security::rights::TENANT_PREFIX;
use secret::{Secret, id_of, is_id};

/// Tokens that one user has at a time, those that have ended not counted: one for each of its
/// machines, and as many again while they are replaced.
pub const TOKENS_PER_USER_MAX: usize = 32;
/// How long a token is good for, unless it is said.
pub const LIFE_DEFAULT: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// The longest: what nobody replaces ends by itself within a year.
pub const LIFE_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// Bytes of a token's name.
pub const NAME_SIZE_MAX: usize = 256;

/// The types of the events, whose data says all tokens that are left.
const CREATED_EVENT_TYPE: &str = "$TokenCreated";
const REVOKED_EVENT_TYPE: &str = "$TokenRevoked";
/// The type of the event whose data is a login.
const OF_EVENT_TYPE: &str = "$TokenOf";

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// By which it is called; no secret.
    pub id: String,
    /// Whose it is.
    pub login: String,
    /// What it is for, for people.
    pub name: String,
    /// Which of the user's groups it has; all, whatever they are, if nothing is said.
    pub groups: Option<Vec<String>>,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it, if that is known.
    pub created_by: Option<String>,
    /// When it ends.
    pub expires: Timestamp,
}

/// A token to be.
#[derive(Clone, Debug)]
pub struct NewApiToken {
    /// Whose it will be.
    pub login: String,
    /// What it is for.
    pub name: String,
    /// Which of the user's groups it has; all if nothing is said.
    pub groups: Option<Vec<String>>,
    /// Who makes it.
    pub created_by: Option<String>,
    /// When it ends; [`LIFE_DEFAULT`] from now if nothing is said.
    pub expires: Option<Timestamp>,
}

/// Whom a secret stands for.
#[derive(Clone, Debug)]
pub enum Bearer {
    /// This user, in these groups, by this token.
    Good(User, Box<ApiToken>),
    /// Its token has ended.
    Expired,
    /// Nobody who may call.
    Nobody,
}

/// A token as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    id: String,
    name: String,
    groups: Option<Vec<String>>,
    /// In nanoseconds since 1970, as `expires_ns`.
    created_ns: i64,
    created_by: Option<String>,
    expires_ns: i64,
    /// Of the secret, in hex.
    hash: String,
}

/// The data of an event.
#[derive(Debug, Default, Serialize, Deserialize)]
struct All {
    tokens: Vec<Stored>,
}

impl All {
    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and numbers are JSON")
    }
}

/// The tokens of a user, and the revision that said so.
struct Kept {
    revision: Option<Revision>,
    all: All,
}

impl Stored {
    fn shown(&self, login: &str) -> ApiToken {
        ApiToken {
            id: self.id.clone(),
            login: login.to_owned(),
            name: self.name.clone(),
            groups: self.groups.clone(),
            created: Timestamp(self.created_ns),
            created_by: self.created_by.clone(),
            expires: Timestamp(self.expires_ns),
        }
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.expires_ns <= now.0
    }

    /// The time it takes says nothing of where the two differ.
    fn is_of(&self, hash: &blake3::Hash) -> bool {
        blake3::Hash::from_hex(&self.hash).is_ok_and(|own| own == *hash)
    }
}

impl Users {
    /// Makes a token, and lets go of those of the user that have ended. The secret is shown once.
    ///
    /// # Errors
    /// [`UsersError::NotFound`], [`UsersError::Invalid`], [`UsersError::TooManyTokens`]
    pub async fn create_token(
        &self,
        new: NewApiToken,
        now: Timestamp,
    ) -> Result<(ApiToken, Secret), UsersError> {
        record::check(&new.login, "", &[])?;
        check_name(&new.name)?;
        let expires = ends(new.expires, now)?;
        let secret = Secret::draw(&*self.entropy);
        let stored = Stored {
            id: id_of(&secret.hash()),
            name: new.name,
            groups: new.groups,
            created_ns: now.0,
            created_by: new.created_by,
            expires_ns: expires.0,
            hash: secret.hash().to_hex().to_string(),
        };
        for _ in 0..ATTEMPTS_MAX {
            let user = self.find(&new.login).await?;
            let (Some(record), Some(at)) = (user.record, user.revision) else {
                return Err(missing(&new.login));
            };
            check_groups(stored.groups.as_deref(), &record.groups)?;
            let Kept { revision, mut all } = self.kept(&new.login).await?;
            all.tokens.retain(|token| !token.is_over(now));
            if all.tokens.len() >= TOKENS_PER_USER_MAX {
                return Err(UsersError::TooManyTokens { login: new.login });
            }
            all.tokens.push(stored.clone());
            let list = self.event(CREATED_EVENT_TYPE, ContentType::Json, all.to_json());
            let of = self.event(OF_EVENT_TYPE, ContentType::Binary, new.login.clone());
            let tokens = tokens_of(&new.login)?;
            let mut parts = vec![
                (tokens.clone(), expected(revision), vec![list]),
                (owner_of(&stored.id)?, ExpectedRevision::NoStream, vec![of]),
            ];
            if revision.is_none() {
                let json = ContentType::Json;
                let settings = self.event(METADATA_EVENT_TYPE, json, STREAM_METADATA.to_owned());
                parts.push((tokens.metastream(), ExpectedRevision::Any, vec![settings]));
            }
            let append = Append::to_streams(parts);
            // Of this user as it is, so that a token never outlives one that is deleted meanwhile.
            let append = append.and_check(stream_of(&new.login)?, ExpectedRevision::Exact(at));
            match self.append(append).await {
                Err(failed) if failed.is_race() => {}
                Err(failed) => return Err(failed),
                Ok(()) => return Ok((stored.shown(&new.login), secret)),
            }
        }
        Err(UsersError::TryAgain { login: new.login })
    }

    /// The tokens of a user, the oldest first, those that have ended included; none if there is no
    /// such user.
    ///
    /// # Errors
    /// [`UsersError::Read`]
    pub async fn tokens(&self, login: &str) -> Result<Vec<ApiToken>, UsersError> {
        record::check(login, "", &[])?;
        if self.find(login).await?.record.is_none() {
            return Ok(Vec::new());
        }
        let kept = self.kept(login).await?;
        Ok(kept.all.tokens.iter().map(|token| token.shown(login)).collect())
    }

    /// The tokens of all users whose logins come after `after`: whole users, until there are `limit`
    /// or more.
    ///
    /// # Errors
    /// [`UsersError::Read`]
    pub async fn all_tokens(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ApiToken>, UsersError> {
        let logins: BTreeSet<String> = self.logins().await?;
        let mut tokens = Vec::new();
        for login in logins.iter().filter(|login| after.is_none_or(|after| login.as_str() > after))
        {
            if tokens.len() >= limit {
                break;
            }
            tokens.extend(self.tokens(login).await?);
        }
        Ok(tokens)
    }

    /// Whose the token of this id is; none if there is none.
    ///
    /// # Errors
    /// [`UsersError::Read`]
    pub async fn token(&self, id: &str) -> Result<Option<ApiToken>, UsersError> {
        let Some(login) = self.token_login(id).await? else { return Ok(None) };
        let tokens = self.tokens(&login).await?;
        Ok(tokens.into_iter().find(|token| token.id == id))
    }

    /// Ends a token, from now on.
    ///
    /// # Errors
    /// [`UsersError::TokenNotFound`]
    pub async fn revoke_token(&self, id: &str) -> Result<ApiToken, UsersError> {
        let unknown = || UsersError::TokenNotFound { id: id.to_owned() };
        let login = self.token_login(id).await?.ok_or_else(unknown)?;
        for _ in 0..ATTEMPTS_MAX {
            let Kept { revision, mut all } = self.kept(&login).await?;
            let at = all.tokens.iter().position(|token| token.id == id).ok_or_else(unknown)?;
            let ended = all.tokens.remove(at);
            let event = self.event(REVOKED_EVENT_TYPE, ContentType::Json, all.to_json());
            let append = Append::to_stream(tokens_of(&login)?, expected(revision), [event]);
            match self.append(append).await {
                Err(failed) if failed.is_race() => {}
                Err(failed) => return Err(failed),
                Ok(()) => return Ok(ended.shown(&login)),
            }
        }
        Err(UsersError::TryAgain { login })
    }

    /// Whom the secret of this hash stands for. The user has the groups that the token leaves it.
    ///
    /// # Errors
    /// [`UsersError::Read`]
    pub async fn bearer(&self, hash: &blake3::Hash, now: Timestamp) -> Result<Bearer, UsersError> {
        let Some(login) = self.token_login(&id_of(hash)).await? else { return Ok(Bearer::Nobody) };
        let found = self.find(&login).await?;
        let Some(record) = found.record.filter(|record| !record.disabled) else {
            return Ok(Bearer::Nobody);
        };
        let kept = self.kept(&login).await?;
        let Some(token) = kept.all.tokens.iter().find(|token| token.is_of(hash)) else {
            return Ok(Bearer::Nobody);
        };
        if token.is_over(now) {
            return Ok(Bearer::Expired);
        }
        let mut user = record.shown(found.time);
        user.groups = effective(user.groups, token.groups.as_deref());
        Ok(Bearer::Good(user, Box::new(token.shown(&login))))
    }

    /// The event that leaves a user no tokens, if there are any of one of the same login: a new user
    /// has nothing of the one before it.
    pub(super) async fn none_left(
        &self,
        login: &str,
    ) -> Result<Option<(StreamName, ExpectedRevision, Vec<daybook_model::NewEvent>)>, UsersError>
    {
        let Kept { revision, all } = self.kept(login).await?;
        if all.tokens.is_empty() {
            return Ok(None);
        }
        let none = All::default().to_json();
        let event = self.event(REVOKED_EVENT_TYPE, ContentType::Json, none);
        Ok(Some((tokens_of(login)?, expected(revision), vec![event])))
    }

    async fn kept(&self, login: &str) -> Result<Kept, UsersError> {
        let Some(event) = self.last_event(tokens_of(login)?).await? else {
            return Ok(Kept { revision: None, all: All::default() });
        };
        let all = serde_json::from_slice(&event.data).map_err(|error| UsersError::Damaged {
            login: login.to_owned(),
            reason: format!("its tokens: {error}"),
        })?;
        Ok(Kept { revision: Some(event.revision), all })
    }

    async fn token_login(&self, id: &str) -> Result<Option<String>, UsersError> {
        if !is_id(id) {
            return Ok(None);
        }
        let event = self.last_event(owner_of(id)?).await?;
        Ok(event.and_then(|event| String::from_utf8(event.data).ok()))
    }

    async fn last_event(&self, stream: StreamName) -> Result<Option<Last>, UsersError> {
        let (from, direction) = (From::End, Direction::Backwards);
        let query = ReadStream { stream, from, direction, count: 1 };
        let mut reader = match self.store.read_stream(query).await {
            Ok(reader) => reader,
            Err(ReadError::StreamNotFound { .. }) => return Ok(None),
            Err(failed) => return Err(failed.into()),
        };
        let page = reader.next().await?;
        let last = page.as_ref().and_then(|page| page.last());
        Ok(last.map(|event| Last { revision: event.revision, data: event.data.to_vec() }))
    }
}

/// The last event of a stream.
struct Last {
    revision: Revision,
    data: Vec<u8>,
}

/// What of a user's groups a token has that names these.
fn effective(own: Vec<String>, named: Option<&[String]>) -> Vec<String> {
    let Some(named) = named else { return own };
    let kept = |group: &String| named.contains(group) || group.starts_with(TENANT_PREFIX);
    own.into_iter().filter(kept).collect()
}

fn ends(asked: Option<Timestamp>, now: Timestamp) -> Result<Timestamp, UsersError> {
    let after = |life: Duration| {
        Timestamp(now.0.saturating_add(i64::try_from(life.as_nanos()).unwrap_or(i64::MAX)))
    };
    let expires = asked.unwrap_or_else(|| after(LIFE_DEFAULT));
    if expires <= now || expires > after(LIFE_MAX) {
        let days = LIFE_MAX.as_secs() / (24 * 60 * 60);
        let reason = format!("must be later than now, and at most {days} days from now");
        return Err(UsersError::Invalid { what: "expires", reason });
    }
    Ok(expires)
}

fn check_name(name: &str) -> Result<(), UsersError> {
    if (1..=NAME_SIZE_MAX).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    let reason = format!("is no text of 1 to {NAME_SIZE_MAX} bytes; say what the token is for");
    Err(UsersError::Invalid { what: "name", reason })
}

fn check_groups(named: Option<&[String]>, own: &[String]) -> Result<(), UsersError> {
    let invalid = |reason| Err(UsersError::Invalid { what: "groups", reason });
    let named = named.unwrap_or_default();
    let mut seen = BTreeSet::new();
    if let Some(twice) = named.iter().find(|group| !seen.insert(*group)) {
        return invalid(format!("has '{twice}' twice; name it once"));
    }
    if let Some(group) = named.iter().find(|group| group.starts_with(TENANT_PREFIX)) {
        return invalid(format!("has '{group}': what confines a user goes with all its tokens"));
    }
    match named.iter().find(|group| !own.contains(group)) {
        Some(group) => invalid(format!("has '{group}', which the user is not in; leave it out")),
        None => Ok(()),
    }
}

fn expected(revision: Option<Revision>) -> ExpectedRevision {
    revision.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact)
}

fn tokens_of(login: &str) -> Result<StreamName, UsersError> {
    name(&format!("{USER_PREFIX}$tokens-{login}"))
}

fn owner_of(id: &str) -> Result<StreamName, UsersError> {
    name(&format!("{USER_PREFIX}$token-{id}"))
}

#[cfg(test)]
mod tests;
