//! What is kept of Vault while the server runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::certificate::CertificateWish;
use super::name::SecretName;

/// A text that no message shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// What it is, for whoever must send it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// What is wanted of Vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A field of a secret.
    Secret(SecretName),
    /// A certificate with its key.
    Certificate(CertificateWish),
}

/// What is wanted, and what came of it last.
pub struct Held {
    wish: Wish,
    place: PathBuf,
    value: ArcSwapOption<Vec<u8>>,
}

impl Held {
    /// A secret that nobody has fetched yet.
    #[must_use]
    pub fn secret(name: SecretName) -> Held {
        let place = PathBuf::from(name.to_string());
        Held { wish: Wish::Secret(name), place, value: ArcSwapOption::empty() }
    }

    /// A certificate that is not issued yet. Its bytes are PEM: the key, the certificate, those
    /// above it.
    #[must_use]
    pub fn certificate(wish: CertificateWish) -> Held {
        let place = PathBuf::from(format!("vault:{}", wish.url_path()));
        Held { wish: Wish::Certificate(wish), place, value: ArcSwapOption::empty() }
    }

    /// What is wanted.
    #[must_use]
    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    /// Its name, where others have a file's.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// What was fetched last, if anything was.
    #[must_use]
    pub fn get(&self) -> Option<Arc<Vec<u8>>> {
        self.value.load_full()
    }

    /// Keeps `bytes` from now on. Says whether they are others than before.
    pub fn put(&self, bytes: Vec<u8>) -> bool {
        let other = self.value.load().as_deref() != Some(&bytes);
        if other {
            self.value.store(Some(Arc::new(bytes)));
        }
        other
    }
}

impl fmt::Debug for Held {
    /// Without what it holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place.display())
    }
}
