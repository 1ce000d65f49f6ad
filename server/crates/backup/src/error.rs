//! Why something about a repository did not work: which object, where, and what to do.

use daybook_log::OpenError;
use daybook_log::backup::BackupError;
use uuid::Uuid;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The place of a repository is not one.
    #[error(
        "{url} cannot hold backups: {reason}; give a directory, s3://BUCKET/PREFIX, \
         gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
    )]
    BadUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The place refused, or was not there.
    #[error("cannot {action} {object} in {location}: {source}")]
    Object {
        /// What was tried: "read", "write" …
        action: &'static str,
        /// The object.
        object: String,
        /// The repository.
        location: String,
        /// The reason.
        #[source]
        source: Box<object_store::Error>,
    },
    /// There is no repository.
    #[error("{location} holds no backups: it has no repository.json; take one with daybook backup")]
    NotARepository {
        /// The place.
        location: String,
    },
    /// The repository is another store's.
    #[error(
        "{location} holds the backups of store {found}, and this is store {expected}; nothing was \
         written. Give each store a place of its own"
    )]
    AnotherStore {
        /// The repository.
        location: String,
        /// Whose it is.
        found: Uuid,
        /// Who asked.
        expected: Uuid,
    },
    /// A newer version wrote it.
    #[error(
        "{object} in {location} is of version {version}, which is not known here; use a newer \
         daybook"
    )]
    Version {
        /// The object.
        object: String,
        /// The repository.
        location: String,
        /// Its version.
        version: u32,
    },
    /// An object is not what was written.
    #[error(
        "{object} in {location} is damaged: {reason}; use another backup, or another copy of it"
    )]
    Damaged {
        /// The object.
        object: String,
        /// The repository.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An object that a manifest names is not there.
    #[error("{object} is missing in {location}; use another backup, or another copy of it")]
    Missing {
        /// The object.
        object: String,
        /// The repository.
        location: String,
    },
    /// A key is none.
    #[error("{what} is not a key: {reason}")]
    BadKey {
        /// Which.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An object cannot be decrypted.
    #[error("{object} in {location} cannot be decrypted: {reason}")]
    Locked {
        /// The object.
        object: String,
        /// The repository.
        location: String,
        /// Why not.
        reason: String,
    },
    /// No backup holds what is wanted.
    #[error("no backup in {location} can be used: {reason}")]
    NoSuchBackup {
        /// The repository.
        location: String,
        /// What is there instead.
        reason: String,
    },
    /// The store is not the one that was archived so far.
    #[error(
        "{location} holds another history of this store than the data directory: {reason}. The \
         directory went back without daybook restore; archive to another place, or restore"
    )]
    Diverged {
        /// The repository.
        location: String,
        /// How that is known.
        reason: String,
    },
    /// Somebody told it to stop.
    #[error("it was told to stop")]
    Halted,
    /// The store's log is not sound.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The target of a restore refused.
    #[error(transparent)]
    Restore(#[from] BackupError),
}
