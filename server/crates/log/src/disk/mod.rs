//! The seam to the disk: everything the store's heart does to files goes through these two traits.
//!
//! A [`Disk`] is one flat directory, locked by its owner. [`os`] is the machine's; [`sim`] is the
//! simulation's, which forgets, reorders and tears what was not synced, and fails on request.
//!
//! What the heart relies on, and nothing more:
//! - bytes written and then synced by [`DiskFile::sync`] survive a power cut;
//! - a name created, renamed or removed survives it after [`Disk::sync_names`];
//! - a write never damages synced bytes that share a sector with it;
//! - everything else may be lost, in any order, in part.

pub mod os;
pub mod sim;

use std::fmt;
use std::io;
use std::sync::Arc;

/// One directory of files.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens the file `name`, which exists.
    ///
    /// # Errors
    /// [`DiskError`] names the file and the reason; `NotFound` if it does not exist.
    fn open(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError>;

    /// Creates the file `name`, empty; replaces one of that name.
    ///
    /// # Errors
    /// [`DiskError`] names the file and the reason.
    fn create(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError>;

    /// Gives the file `from` the name `to`, replacing a file of that name.
    ///
    /// # Errors
    /// [`DiskError`] names the file and the reason.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;

    /// Removes the file `name`.
    ///
    /// # Errors
    /// [`DiskError`] names the file and the reason.
    fn remove(&self, name: &str) -> Result<(), DiskError>;

    /// The names of all files (not directories), sorted.
    ///
    /// # Errors
    /// [`DiskError`] names the directory and the reason.
    fn list(&self) -> Result<Vec<String>, DiskError>;

    /// Makes all creations, renames and removals so far survive a power cut.
    ///
    /// # Errors
    /// [`DiskError`] names the directory and the reason.
    fn sync_names(&self) -> Result<(), DiskError>;

    /// Bytes that can still be written to this directory's volume.
    ///
    /// # Errors
    /// [`DiskError`] names the directory and the reason.
    fn free_space(&self) -> Result<u64, DiskError>;

    /// The directory as an operator knows it, for messages.
    fn location(&self) -> String;
}

/// One open file. Closed when dropped.
#[expect(
    clippy::len_without_is_empty,
    reason = "a file is asked for its length, and can fail to say"
)]
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Fills `buffer` from `offset`; bytes beyond the end of the file are an `UnexpectedEof` error.
    ///
    /// # Errors
    /// [`DiskError`] names the file and the reason.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), DiskError>;

    /// Writes all of `bytes` at `offset`, extending the file if need be.
    ///
    /// # Errors
    /// [`DiskError`] names the file and the reason. Any part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError>;

    /// Makes all writes to this file so far survive a power cut (`fdatasync`).
    ///
    /// # Errors
    /// [`DiskError`]. After one, nothing is known of unsynced writes, and a later success proves
    /// nothing: the caller must never try again.
    fn sync(&self) -> Result<(), DiskError>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// [`DiskError`] names the file and the reason.
    fn len(&self) -> Result<u64, DiskError>;
}

/// A failed operation on a file or directory.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {source}")]
pub struct DiskError {
    /// What was tried: "open", "write to", "sync" …
    pub action: &'static str,
    /// The file or directory.
    pub path: String,
    /// The reason.
    #[source]
    pub source: io::Error,
}

impl DiskError {
    /// Whether the volume is full or the quota used up, which passes when space is made.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether the file does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Refuses a name that is no plain file name: the directory is flat, and hidden files are not ours.
pub(crate) fn check_name(name: &str) -> io::Result<()> {
    let reason = match name {
        "" => "a file needs a name",
        _ if name.starts_with('.') => "a file's name may not begin with a dot",
        _ if name.contains(['/', '\0']) => "a file's name may not contain a slash or NUL",
        _ => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}
