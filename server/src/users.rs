//! Who may call: users, their groups and passwords, kept as events so that they are backed up,
//! restored and replicated with everything else.
//!
//! ```text
//!   $users            $User ada · $User bob …             who there is, in the order of creation
//!   $user-ada         $UserCreated · $PasswordChanged …   each says all of it; the last one counts
//!   $$$user-ada       $maxCount 1                         so that a scavenge removes old passwords
//!   $user-$tokens-…   $user-$token-…                      API tokens: see [`api_tokens`]
//! ```
//!
//! A call reads the last event and writes the next one at its revision; if somebody else was faster
//! it begins again. There is no user until someone creates one, and no password that anybody could
//! know beforehand.
//!
//! [`Users::verify`] tells whether a password is right; [`crate::security::authenticate`] asks it.
//!
//! INVARIANTS: a password is in memory while it is hashed or compared, and nowhere else; its hash
//! is only in the stream of its user. These streams are written here alone: the doors refuse them.

pub mod api_tokens;
pub mod error;
pub mod password;
pub mod record;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daybook_model::metadata::METADATA_EVENT_TYPE;
use daybook_model::stream::{USER_PREFIX, USERS_STREAM};
use daybook_model::{
    ContentType, Entropy, EventView, ExpectedRevision, NewEvent, Revision, StreamName, Timestamp,
};
use daybook_store::{Append, AppendError, Direction, From, ReadError, ReadStream, Store};
use uuid::Uuid;

pub use error::UsersError;
use password::{PASSWORD_SIZE_MAX, PasswordStamp, Passwords};
use record::{Kind, Record};

/// Users that may ever be created. Bounds the list, and what one call for all of them reads.
pub const USERS_MAX: u64 = 10_000;
/// Times a change is begun again because somebody else changed the same user meanwhile.
const ATTEMPTS_MAX: usize = 5;
/// The type of the events of [`USERS_STREAM`].
const LISTED_EVENT_TYPE: &str = "$User";
/// What is asked of the store for a user's stream: the newest record is enough, and only
/// administrators are to read it.
const STREAM_METADATA: &str = concat!(
    r#"{"$maxCount":1,"$acl":{"$r":"$admins","$w":"$admins","$d":"$admins","#,
    r#""$mr":"$admins","$mw":"$admins"}}"#
);

/// A user, without the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// By which it calls.
    pub login: String,
    /// For people.
    pub full_name: String,
    /// What it belongs to: `$admins`, `$ops`, and others.
    pub groups: Vec<String>,
    /// Whether it may not call just now.
    pub disabled: bool,
    /// When any of this was last changed.
    pub updated: Timestamp,
}

/// A user to be. Its `Debug` form does not show the password.
#[derive(Clone)]
pub struct NewUser {
    /// By which it will call.
    pub login: String,
    /// For people.
    pub full_name: String,
    /// What it belongs to.
    pub groups: Vec<String>,
    /// Its password.
    pub password: String,
}

impl std::fmt::Debug for NewUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewUser").field("login", &self.login).finish_non_exhaustive()
    }
}

/// Whether a user may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Enabled,
    /// It may not, until it is enabled again.
    Disabled,
}

/// The users of one store. A clone is another handle.
#[derive(Clone)]
pub struct Users {
    store: Store,
    entropy: Arc<dyn Entropy>,
    passwords: Passwords,
    generation: Arc<AtomicU64>,
}

/// What the stream of a user says.
struct Found {
    /// Of its last event; none if it has none.
    revision: Option<Revision>,
    /// None if there never was such a user, or it was deleted.
    record: Option<Record>,
    time: Timestamp,
}

impl Users {
    /// The users in `store`.
    #[must_use]
    pub fn new(store: Store, entropy: Arc<dyn Entropy>) -> Users {
        let generation = Arc::new(AtomicU64::new(0));
        Users { store, entropy, passwords: Passwords::new(), generation }
    }

    /// A number that is another one after each change of any user: what was found out before a
    /// change does not count after it.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Creates a user.
    ///
    /// # Errors
    /// [`UsersError::Conflict`] if there is one of that login.
    pub async fn create(&self, new: NewUser) -> Result<(), UsersError> {
        let NewUser { login, full_name, groups, password } = new;
        record::check(&login, &full_name, &groups)?;
        let password = self.passwords.hash(password, self.entropy.bytes()).await?;
        let record =
            Record { login_name: login.clone(), full_name, groups, disabled: false, password };
        for _ in 0..ATTEMPTS_MAX {
            let found = self.find(&login).await?;
            if found.record.is_some() {
                return Err(UsersError::Conflict { login });
            }
            match self.write_first(&record, found.revision).await {
                Err(failed) if failed.is_race() => {}
                done => return done,
            }
        }
        Err(UsersError::TryAgain { login })
    }

    /// Gives a user another name and other groups.
    ///
    /// # Errors
    /// [`UsersError::NotFound`]
    pub async fn update(
        &self,
        login: &str,
        full_name: &str,
        groups: &[String],
    ) -> Result<(), UsersError> {
        record::check(login, full_name, groups)?;
        self.change(login, Kind::Updated, |record| {
            full_name.clone_into(&mut record.full_name);
            groups.clone_into(&mut record.groups);
            Ok(())
        })
        .await
    }

    /// Lets a user call, or no more.
    ///
    /// # Errors
    /// [`UsersError::NotFound`]
    pub async fn set_standing(&self, login: &str, standing: Standing) -> Result<(), UsersError> {
        let disabled = standing == Standing::Disabled;
        let kind = if disabled { Kind::Disabled } else { Kind::Enabled };
        let change = |record: &mut Record| {
            record.disabled = disabled;
            Ok(())
        };
        self.change(login, kind, change).await
    }

    /// Gives a user another password, if `current` is the one it has.
    ///
    /// # Errors
    /// [`UsersError::WrongPassword`]; [`UsersError::NotFound`]
    pub async fn change_password(
        &self,
        login: &str,
        current: String,
        new: String,
    ) -> Result<(), UsersError> {
        password::check(&new)?;
        let known = self.existing(login).await?.password;
        let stamp = known.stamp();
        let wrong = || UsersError::WrongPassword { login: login.to_owned() };
        if !self.passwords.matches(current, known).await? {
            return Err(wrong());
        }
        let hash = self.passwords.hash(new, self.entropy.bytes()).await?;
        // Hashing took a while: what somebody else has set meanwhile, because the one who is here
        // should not get in any more, is not overwritten.
        self.change(login, Kind::PasswordChanged, |record| {
            if record.password.stamp() != stamp || record.disabled {
                return Err(wrong());
            }
            record.password = hash.clone();
            Ok(())
        })
        .await
    }

    /// Gives a user another password, whatever it was.
    ///
    /// # Errors
    /// [`UsersError::NotFound`]
    pub async fn reset_password(&self, login: &str, new: String) -> Result<(), UsersError> {
        self.existing(login).await?;
        let hash = self.passwords.hash(new, self.entropy.bytes()).await?;
        let change = |record: &mut Record| {
            record.password = hash.clone();
            Ok(())
        };
        self.change(login, Kind::PasswordChanged, change).await
    }

    /// Ends a user. Another one may be created by the same login.
    ///
    /// # Errors
    /// [`UsersError::NotFound`]
    pub async fn delete(&self, login: &str) -> Result<(), UsersError> {
        self.change(login, Kind::Deleted, |_| Ok(())).await
    }

    /// One user.
    ///
    /// # Errors
    /// [`UsersError::NotFound`]
    pub async fn user(&self, login: &str) -> Result<User, UsersError> {
        let found = self.find(login).await?;
        let time = found.time;
        let record = found.record.ok_or_else(|| missing(login))?;
        Ok(record.shown(time))
    }

    /// All users, in the order of their logins.
    ///
    /// # Errors
    /// [`UsersError::Read`]
    pub async fn all(&self) -> Result<Vec<User>, UsersError> {
        let logins = self.logins().await?;
        let mut users = Vec::with_capacity(logins.len());
        for login in logins {
            let found = self.find(&login).await?;
            users.extend(found.record.map(|record| record.shown(found.time)));
        }
        Ok(users)
    }

    /// The logins that were ever given, those of users that are deleted included.
    async fn logins(&self) -> Result<BTreeSet<String>, UsersError> {
        let mut logins = BTreeSet::new();
        let query = ReadStream {
            stream: name(USERS_STREAM)?,
            from: From::Start,
            direction: Direction::Forwards,
            count: USERS_MAX,
        };
        let mut reader = match self.store.read_stream(query).await {
            Ok(reader) => reader,
            Err(ReadError::StreamNotFound { .. }) => return Ok(logins),
            Err(failed) => return Err(failed.into()),
        };
        while let Some(page) = reader.next().await? {
            let listed = page.events().filter_map(|event| std::str::from_utf8(event.data).ok());
            logins.extend(listed.map(ToOwned::to_owned));
        }
        Ok(logins)
    }

    /// The user who has this login and password, if there is one who may call, and which password
    /// that is. Takes as long for a login that does not exist, so that nobody can find out by
    /// asking.
    ///
    /// # Errors
    /// [`UsersError::Busy`]; [`UsersError::Read`]
    pub async fn verify(
        &self,
        login: &str,
        password: String,
    ) -> Result<Option<(User, PasswordStamp)>, UsersError> {
        if password.len() > PASSWORD_SIZE_MAX {
            // Nobody has it: said at once whoever is asked for.
            return Ok(None);
        }
        let found = match record::check(login, "", &[]) {
            Ok(()) => self.find(login).await?,
            Err(_) => Found { revision: None, record: None, time: Timestamp(0) },
        };
        let Some(record) = found.record else {
            self.passwords.waste(password).await?;
            return Ok(None);
        };
        let matches = self.passwords.matches(password, record.password.clone()).await?;
        let stamp = record.password.stamp();
        Ok((matches && !record.disabled).then(|| (record.shown(found.time), stamp)))
    }

    /// The user, if it may call and has the password still that [`Users::verify`] found right. Costs
    /// a look at the user's record, and no hash.
    ///
    /// # Errors
    /// [`UsersError::Read`]
    pub async fn still(
        &self,
        login: &str,
        stamp: PasswordStamp,
    ) -> Result<Option<User>, UsersError> {
        let found = self.find(login).await?;
        let same = |record: &Record| !record.disabled && record.password.stamp() == stamp;
        Ok(found.record.filter(same).map(|record| record.shown(found.time)))
    }

    async fn existing(&self, login: &str) -> Result<Record, UsersError> {
        self.find(login).await?.record.ok_or_else(|| missing(login))
    }

    /// Writes what `change` makes of a user that exists, unless it refuses; again if somebody else
    /// was faster.
    async fn change(
        &self,
        login: &str,
        kind: Kind,
        change: impl Fn(&mut Record) -> Result<(), UsersError>,
    ) -> Result<(), UsersError> {
        for _ in 0..ATTEMPTS_MAX {
            let found = self.find(login).await?;
            let before = found.record.ok_or_else(|| missing(login))?;
            let mut record = before.clone();
            change(&mut record)?;
            if record == before && kind != Kind::Deleted {
                return Ok(());
            }
            let expected =
                found.revision.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
            let data = match kind {
                Kind::Deleted => record.to_json_of_deleted(),
                _ => record.to_json(),
            };
            let event = self.event(kind.event_type(), ContentType::Json, data);
            let append = Append::to_stream(stream_of(login)?, expected, [event]);
            match self.append(append).await {
                Err(failed) if failed.is_race() => {}
                done => return done,
            }
        }
        Err(UsersError::TryAgain { login: login.to_owned() })
    }

    /// The first record of a user, or of another one after the first was deleted.
    async fn write_first(
        &self,
        record: &Record,
        revision: Option<Revision>,
    ) -> Result<(), UsersError> {
        let login = record.login_name.as_str();
        let stream = stream_of(login)?;
        let created = self.event(Kind::Created.event_type(), ContentType::Json, record.to_json());
        let Some(revision) = revision else {
            let list = name(USERS_STREAM)?;
            let listed = self.store.stream_info(&list).await?.head;
            if listed.is_some_and(|head| head.0 + 1 >= USERS_MAX) {
                return Err(UsersError::TooMany);
            }
            let json = ContentType::Json;
            let settings = self.event(METADATA_EVENT_TYPE, json, STREAM_METADATA.to_owned());
            let entry = self.event(LISTED_EVENT_TYPE, ContentType::Binary, login.to_owned());
            let append = Append::to_streams([
                (stream.metastream(), ExpectedRevision::Any, vec![settings]),
                (stream, ExpectedRevision::NoStream, vec![created]),
                (list, ExpectedRevision::Any, vec![entry]),
            ]);
            return self.append(append).await;
        };
        let part = (stream, ExpectedRevision::Exact(revision), vec![created]);
        let none_left = self.none_left(login).await?;
        self.append(Append::to_streams([part].into_iter().chain(none_left))).await
    }

    /// Whatever comes of it, it may have been done: what was known of users is not any more. On a
    /// task of its own, because a caller that goes away does not end the append.
    async fn append(&self, append: Append) -> Result<(), UsersError> {
        let (store, generation) = (self.store.clone(), self.generation.clone());
        let appending = tokio::spawn(async move {
            let done = store.append(append).await;
            generation.fetch_add(1, Ordering::AcqRel);
            done
        });
        match appending.await {
            Ok(done) => Ok(done.map(|_| ())?),
            Err(failed) => Err(AppendError::Unknown { reason: failed.to_string() }.into()),
        }
    }

    fn event(&self, event_type: &str, content_type: ContentType, data: String) -> NewEvent {
        let id: Uuid = uuid::Builder::from_random_bytes(self.entropy.bytes()).into_uuid();
        NewEvent { content_type, ..NewEvent::json(id, event_type, data) }
    }

    async fn find(&self, login: &str) -> Result<Found, UsersError> {
        let query = ReadStream {
            stream: stream_of(login)?,
            from: From::End,
            direction: Direction::Backwards,
            count: 1,
        };
        let nothing = Found { revision: None, record: None, time: Timestamp(0) };
        let mut reader = match self.store.read_stream(query).await {
            Ok(reader) => reader,
            Err(ReadError::StreamNotFound { .. }) => return Ok(nothing),
            Err(failed) => return Err(failed.into()),
        };
        match reader.next().await?.as_ref().and_then(|page| page.last()) {
            Some(event) => found(login, event),
            None => Ok(nothing),
        }
    }
}

fn found(login: &str, event: EventView<'_>) -> Result<Found, UsersError> {
    let deleted = event.event_type == Kind::Deleted.event_type();
    let record = if deleted { None } else { Some(Record::from_json(login, event.data)?) };
    Ok(Found { revision: Some(event.revision), record, time: event.time })
}

fn stream_of(login: &str) -> Result<StreamName, UsersError> {
    name(&format!("{USER_PREFIX}{login}"))
}

fn name(stream: &str) -> Result<StreamName, UsersError> {
    StreamName::new(stream)
        .map_err(|invalid| UsersError::Invalid { what: "login_name", reason: invalid.to_string() })
}

fn missing(login: &str) -> UsersError {
    UsersError::NotFound { login: login.to_owned() }
}

#[cfg(test)]
mod tests;
