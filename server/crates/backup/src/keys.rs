//! Encryption: to recipients, of whom each can read what is written; by `age`, so that its tools
//! can, too.
//!
//! Who takes backups needs the recipients only, so that a stolen server cannot read its own
//! backups.

use std::fmt;
use std::io::{Read as _, Write as _};

use age::secrecy::ExposeSecret as _;
use age::x25519::{Identity, Recipient};

use crate::error::RepositoryError;

/// Whom backups are encrypted to; nobody means that they are not encrypted.
#[derive(Clone, Default)]
pub struct Recipients(Vec<Recipient>);

/// Keys that can read backups.
#[derive(Clone, Default)]
pub struct Identities(Vec<Identity>);

/// What a repository is opened with.
#[derive(Clone, Default)]
pub struct Keys {
    /// Whom it is written for.
    pub recipients: Recipients,
    /// What it is read with.
    pub identities: Identities,
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Recipients {
    /// Adds those in `text`, one a line: `age1…`; lines that begin with `#` are comments.
    ///
    /// # Errors
    /// [`RepositoryError::BadKey`] names the line.
    pub fn add(&mut self, text: &str) -> Result<(), RepositoryError> {
        for (number, line) in lines(text) {
            self.0.push(line.parse().map_err(|reason: &str| RepositoryError::BadKey {
                what: format!("line {number} of the recipients"),
                reason: format!("{reason}; it begins with age1"),
            })?);
        }
        Ok(())
    }

    /// Whether nothing is to be encrypted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        names.sort_unstable();
        names
    }

    /// `plain`, encrypted.
    pub(crate) fn encrypt(&self, plain: &[u8]) -> Result<Vec<u8>, RepositoryError> {
        let failed = |reason: String| RepositoryError::BadKey {
            what: "the set of recipients".to_owned(),
            reason,
        };
        let recipients = self.0.iter().map(|each| each as &dyn age::Recipient);
        let encryptor =
            age::Encryptor::with_recipients(recipients).map_err(|e| failed(e.to_string()))?;
        let mut stored = Vec::with_capacity(plain.len() + plain.len() / 1024 + 1024);
        let written = encryptor.wrap_output(&mut stored).and_then(|mut writer| {
            writer.write_all(plain)?;
            writer.finish().map(|_| ())
        });
        written.map_err(|e| failed(e.to_string()))?;
        Ok(stored)
    }
}

impl Identities {
    /// Adds those in `text`, as `age-keygen` writes them: `AGE-SECRET-KEY-1…`, one a line; lines
    /// that begin with `#` are comments.
    ///
    /// # Errors
    /// [`RepositoryError::BadKey`] names the line, and not what it says.
    pub fn add(&mut self, text: &str) -> Result<(), RepositoryError> {
        for (number, line) in lines(text) {
            self.0.push(line.parse().map_err(|reason: &str| RepositoryError::BadKey {
                what: format!("line {number} of the identities"),
                reason: format!("{reason}; it begins with AGE-SECRET-KEY-1"),
            })?);
        }
        Ok(())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What `stored` says; or why it cannot be read.
    pub(crate) fn decrypt(&self, stored: &[u8]) -> Result<Vec<u8>, String> {
        if self.0.is_empty() {
            return Err("it is encrypted; give the key with --identity".to_owned());
        }
        let decryptor = age::Decryptor::new(stored).map_err(|e| e.to_string())?;
        let identities = self.0.iter().map(|each| each as &dyn age::Identity);
        let mut reader = decryptor.decrypt(identities).map_err(|e| e.to_string())?;
        let mut plain = Vec::with_capacity(stored.len());
        reader.read_to_end(&mut plain).map_err(|e| e.to_string())?;
        Ok(plain)
    }
}

/// A new key: its file, as `age-keygen` writes one, and the recipient's name.
#[must_use]
pub fn generate() -> (String, String) {
    let identity = Identity::generate();
    let recipient = identity.to_public().to_string();
    let secret = identity.to_string();
    (format!("# public key: {recipient}\n{}\n", secret.expose_secret()), recipient)
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_it_was_written_for_can_read_it() {
        let (ours, others) = (Identity::generate(), Identity::generate());
        let mut recipients = Recipients::default();
        recipients.add(&format!("# ours\n{}\n", ours.to_public())).expect("a recipient");
        let stored = recipients.encrypt(b"plain").expect("encrypted");
        assert!(!stored.windows(5).any(|window| window == b"plain"));
        assert_eq!(Identities(vec![ours]).decrypt(&stored).as_deref(), Ok(&b"plain"[..]));
        assert!(Identities(vec![others]).decrypt(&stored).is_err());
        assert!(Identities::default().decrypt(&stored).is_err());
    }

    #[test]
    fn a_generated_key_reads_what_is_written_for_it() {
        let (file, recipient) = generate();
        let mut keys = Keys::default();
        keys.recipients.add(&recipient).expect("a recipient");
        keys.identities.add(&file).expect("an identity");
        let stored = keys.recipients.encrypt(b"plain").expect("encrypted");
        assert_eq!(keys.identities.decrypt(&stored).as_deref(), Ok(&b"plain"[..]));
    }

    #[test]
    fn a_line_that_is_no_key_is_named_and_a_secret_is_not_repeated() {
        let refused = Recipients::default().add("# one\nage1nonsense").expect_err("no key");
        assert!(refused.to_string().contains("line 2"), "{refused}");
        let secret = "AGE-SECRET-KEY-1NOTAKEY";
        let refused = Identities::default().add(secret).expect_err("no key");
        assert!(!refused.to_string().contains("NOTAKEY"), "{refused}");
    }
}
