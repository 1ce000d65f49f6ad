//! An API token as its owner has it, and what of it is known here.
//!
//! ```text
//!   dbk_ 0b1c…e9  5a31c0d2        dbk_[0-9a-f]{72}: one pattern for scanners that look for secrets
//!        secret   checksum        of what was copied: a token cut short is told from a wrong one
//!        └─ BLAKE3-256 ─> hash ─ first 64 bits ─> id
//! ```
//!
//! The hash needs no salt and may be quick: nobody guesses 256 bits.

use std::fmt::Write as _;

use daybook_model::Entropy;

/// How every API token begins, which tells it from a JSON Web Token.
pub const PREFIX: &str = "dbk_";
/// Bytes of the secret.
const SECRET_SIZE: usize = 32;
/// Bytes of the checksum.
const CHECKSUM_SIZE: usize = 4;
/// Characters of a token.
pub const TEXT_LEN: usize = PREFIX.len() + 2 * (SECRET_SIZE + CHECKSUM_SIZE);
/// Bytes of the hash that make the id: among 320,000 tokens two have the same once in 10^8 stores,
/// and the second is refused then.
const ID_SIZE: usize = 8;

/// The purposes for which the secret is hashed, so that no hash says anything of another.
const DRAWN: &str = "daybook 2026-11 API token: drawn";
const STORED: &str = "daybook 2026-11 API token: stored";
const CHECKSUM: &str = "daybook 2026-11 API token: checksum";

/// What its owner has. Not shown by `Debug`.
#[derive(Clone)]
pub struct Secret([u8; SECRET_SIZE]);

/// A text that begins as an API token does and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a whole API token: copy all of its {TEXT_LEN} characters")]
pub struct NotWhole;

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

impl Secret {
    /// A new one. Three draws, because one has 122 bits of chance.
    #[must_use]
    pub fn draw(entropy: &dyn Entropy) -> Secret {
        let mut hasher = blake3::Hasher::new_derive_key(DRAWN);
        for _ in 0..3 {
            hasher.update(&entropy.bytes());
        }
        Secret(*hasher.finalize().as_bytes())
    }

    /// Reads a token's text; none if it does not begin like one.
    ///
    /// # Errors
    /// [`NotWhole`]
    pub fn read(text: &str) -> Option<Result<Secret, NotWhole>> {
        let digits = text.strip_prefix(PREFIX)?;
        Some(Secret::of_digits(digits).ok_or(NotWhole))
    }

    fn of_digits(digits: &str) -> Option<Secret> {
        if digits.len() != TEXT_LEN - PREFIX.len() {
            return None;
        }
        let mut bytes = [0; SECRET_SIZE + CHECKSUM_SIZE];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        let (secret, said) = bytes.split_first_chunk::<SECRET_SIZE>()?;
        let secret = Secret(*secret);
        (secret.checksum() == said).then_some(secret)
    }

    /// The token, to be shown once.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(TEXT_LEN);
        text.push_str(PREFIX);
        for byte in self.0.iter().chain(&self.checksum()) {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// What is stored of it. Two of these are compared in a time that says nothing of them.
    #[must_use]
    pub fn hash(&self) -> blake3::Hash {
        blake3::Hash::from_bytes(blake3::derive_key(STORED, &self.0))
    }

    fn checksum(&self) -> [u8; CHECKSUM_SIZE] {
        let hash = blake3::derive_key(CHECKSUM, &self.0);
        let [a, b, c, d, ..] = hash;
        [a, b, c, d]
    }
}

/// A digit as [`Secret::text`] writes it: a token has one text.
fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

/// By which a token is called.
#[must_use]
pub fn id_of(hash: &blake3::Hash) -> String {
    hash.to_hex()[..2 * ID_SIZE].to_owned()
}

/// The id that `text` says, which may be the whole token: who wants to end one has that at hand.
#[must_use]
pub fn id_in(text: &str) -> String {
    match Secret::read(text) {
        Some(Ok(secret)) => id_of(&secret.hash()),
        _ => text.to_owned(),
    }
}

/// `text` without what could be a token's secret in it, for what is written down.
#[must_use]
pub fn redacted(text: &str) -> String {
    let mut parts = text.split(PREFIX);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        shown.push_str(PREFIX);
        let rest = part.trim_start_matches(|character: char| character.is_ascii_hexdigit());
        if rest.len() < part.len() {
            shown.push_str("[redacted]");
        }
        shown.push_str(rest);
    }
    shown
}

/// Whether `text` may be an id.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == 2 * ID_SIZE && text.bytes().all(|character| digit(character).is_some())
}

#[cfg(test)]
mod tests {
    use daybook_model::SystemEntropy;

    use super::*;

    #[test]
    fn a_token_says_its_id_and_is_not_written_down() {
        let secret = Secret::draw(&SystemEntropy);
        let (text, id) = (secret.text(), id_of(&secret.hash()));
        assert_eq!((id_in(&text), id_in(&id)), (id.clone(), id));
        assert_eq!(
            redacted(&format!("DELETE /v1/tokens/{text}?a=1")),
            "DELETE /v1/tokens/dbk_[redacted]?a=1"
        );
        assert_eq!(redacted(&format!("{} {text}", &text[..20])), "dbk_[redacted] dbk_[redacted]");
        assert_eq!(redacted("GET /v1/streams/dbk_"), "GET /v1/streams/dbk_");
    }

    #[test]
    fn a_token_is_read_whole_or_not_at_all() {
        let secret = Secret::draw(&SystemEntropy);
        let text = secret.text();
        let read = |text: &str| Secret::read(text).map(|read| read.map(|secret| secret.hash()));
        assert_eq!(read(&text), Some(Ok(secret.hash())));
        assert_eq!((text.len(), is_id(&id_of(&secret.hash()))), (TEXT_LEN, true));
        for end in PREFIX.len()..TEXT_LEN {
            assert_eq!(read(&text[..end]), Some(Err(NotWhole)), "cut after {end}");
        }
        for at in PREFIX.len()..TEXT_LEN {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'0' { b'1' } else { b'0' };
            let other = String::from_utf8(other).expect("ASCII");
            assert_eq!(read(&other), Some(Err(NotWhole)), "another digit at {at}");
        }
        for wrong in [format!("{text}0"), text.to_uppercase().replacen("DBK", "dbk", 1)] {
            assert_eq!(read(&wrong), Some(Err(NotWhole)), "{wrong}");
        }
        for other in ["", "a.b.c", "dbk", "DBK_"] {
            assert_eq!(read(other), None, "{other}");
        }
        assert!(!format!("{secret:?}").contains(&text[4..12]));
    }

    #[test]
    fn no_two_are_the_same() {
        let drawn: Vec<String> = (0..100).map(|_| Secret::draw(&SystemEntropy).text()).collect();
        let different: std::collections::BTreeSet<_> = drawn.iter().collect();
        assert_eq!(different.len(), drawn.len());
        assert_ne!(id_of(&blake3::hash(b"a")), id_of(&blake3::hash(b"b")));
        for text in ["", "0011223344556677x", "001122334455667G", "00112233445566"] {
            assert!(!is_id(text), "{text}");
        }
    }
}
