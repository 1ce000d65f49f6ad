//! Where a certificate, a key, a list or a password comes from: a file, or a secret in Vault. Whoever
//! takes one of them takes a [`Source`], and does not know which it is.
//!
//! ```text
//!   --tls-key server.key                    a file, read whenever somebody asks
//!   --tls-key vault:secret/daybook/tls#key  what the keeper (`vault::keeper`) fetched last
//! ```
//!
//! INVARIANT: reading asks nobody over the network, so that it can neither hang nor fail for that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{self, FileError};
use super::vault::{Held, SecretName};

/// A file, or something that is kept of Vault.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// A secret, or a certificate that is issued.
    Vault(Arc<Held>),
}

impl Source {
    /// What `place` names, which the setting `what` was given: a file, unless it begins as names of
    /// secrets in Vault do.
    ///
    /// # Errors
    /// [`FileError`] if it is meant to name a secret, and does not.
    pub fn given(what: &'static str, place: &Path) -> Result<Source, FileError> {
        match place.to_str().and_then(SecretName::meant) {
            None => Ok(Source::File(place.to_owned())),
            Some(Ok(name)) => Ok(Source::Vault(Arc::new(Held::secret(name)))),
            Some(Err(reason)) => Err(FileError::new(what, place, reason)),
        }
    }

    /// What is kept of Vault, if it is not a file.
    #[must_use]
    pub fn held(&self) -> Option<&Arc<Held>> {
        match self {
            Source::File(_) => None,
            Source::Vault(held) => Some(held),
        }
    }

    /// The file, or the name, for messages.
    #[must_use]
    pub fn place(&self) -> &Path {
        match self {
            Source::File(path) => path,
            Source::Vault(held) => held.place(),
        }
    }

    /// Its bytes, as they are now.
    ///
    /// # Errors
    /// [`FileError`] if there are none, or more than such files have.
    pub fn read(&self, what: &'static str) -> Result<Vec<u8>, FileError> {
        match self {
            Source::File(path) => files::read(what, path),
            Source::Vault(held) => match held.get() {
                Some(bytes) => Ok(bytes.to_vec()),
                None => Err(FileError::new(what, held.place(), "it was not fetched")),
            },
        }
    }

    /// Its first line: a password, or a token.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be read, or the line is empty or no text.
    pub fn read_secret(&self, what: &'static str) -> Result<String, FileError> {
        files::first_line(what, self.place(), self.read(what)?)
    }
}

impl From<PathBuf> for Source {
    /// A file, whatever its name.
    fn from(path: PathBuf) -> Source {
        Source::File(path)
    }
}

impl PartialEq for Source {
    /// Whether both name the same; two that are kept of Vault may differ in what was fetched when.
    fn eq(&self, other: &Source) -> bool {
        self.held().is_some() == other.held().is_some() && self.place() == other.place()
    }
}

impl Eq for Source {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_vault_is_given_wherever_a_file_is() {
        let given = |place: &str| Source::given("--file", Path::new(place));
        let file = given("server.key").expect("a file");
        assert_eq!(file, Source::from(PathBuf::from("server.key")));
        let secret = given("vault:secret/daybook/tls#key").expect("a secret");
        let unread = secret.read("--file").expect_err("nobody fetched it").to_string();
        assert!(unread.contains("--file 'vault:secret/daybook/tls#key'"), "{unread}");
        secret.held().expect("kept").put(b"hush\nmore".to_vec());
        assert_eq!(secret.read_secret("--file").expect("a line"), "hush");
        assert!(!format!("{secret:?}").contains("hush"), "{secret:?}");
        let wrong = given("vault:secret/daybook").expect_err("no field").to_string();
        assert!(wrong.contains("vault:MOUNT/PATH#FIELD"), "{wrong}");
    }
}
