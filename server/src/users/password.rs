//! Passwords: hashed with argon2id, slowly on purpose, on threads that may block.
//!
//! ```text
//!   password ─> a place in the queue ─> a place at work ─> a blocking thread: argon2id ─> hash
//! ```
//!
//! INVARIANT: at most [`WORKING_MAX`] are hashed at a time, so that logins cannot take the memory
//! or the processors from everything else.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::error::UsersError;

/// KiB of memory that one hash takes: OWASP's recommendation for argon2id with two passes.
const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over that memory.
const PASSES: u32 = 2;
/// Lanes that could be worked on at once. One: others wait for the processors, too.
const LANES: u32 = 1;
/// Bytes of a hash.
const HASH_SIZE: usize = 32;
/// Bytes of a salt: 122 bits of chance.
const SALT_SIZE: usize = 16;
/// The most that a stored hash may ask for, so that what stands in the log cannot stop the server.
const MEMORY_KIB_MAX: u32 = 256 * 1024;
/// As [`MEMORY_KIB_MAX`], in passes.
const PASSES_MAX: u32 = 16;
/// Bytes of the shortest password that is taken. The protocol's server has no rule, and clients
/// rely on that: how good a password must be is for whoever creates the user to say.
pub const PASSWORD_SIZE_MIN: usize = 1;
/// Bytes of the longest: enough for any phrase, and hashing it costs nothing beside the rest.
pub const PASSWORD_SIZE_MAX: usize = 1024;
/// Passwords that are hashed at a time.
pub const WORKING_MAX: usize = 2;
/// Passwords that wait for it, those at work included. At some 20 hashes a second a place, the last
/// one waits for two seconds.
pub const WAITING_MAX: usize = 64;
/// How this kind of hash is called in a record.
const ALGORITHM: &str = "argon2id";

const _: () = assert!(MEMORY_KIB <= MEMORY_KIB_MAX && PASSES <= PASSES_MAX);
const _: () = assert!(WORKING_MAX <= WAITING_MAX);

/// A hashed password, and how it was hashed. Its `Debug` form shows neither hash nor salt.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PasswordHash {
    algorithm: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    /// In base64.
    salt: String,
    /// In base64.
    hash: String,
}

/// Tells one password of a user from another, by its hash and that hash's salt; and says nothing
/// else of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordStamp(blake3::Hash);

/// Where passwords are hashed. A clone is another handle of the same places.
#[derive(Clone)]
pub struct Passwords {
    waiting: Arc<Semaphore>,
    working: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Passwords {
        Passwords::new()
    }
}

impl Passwords {
    /// With all places free.
    #[must_use]
    pub fn new() -> Passwords {
        Passwords {
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            working: Arc::new(Semaphore::new(WORKING_MAX)),
        }
    }

    /// Hashes a password with the chance of `salt`.
    ///
    /// # Errors
    /// [`UsersError::Invalid`] if it is too short or too long; [`UsersError::Busy`].
    pub async fn hash(
        &self,
        password: String,
        salt: [u8; SALT_SIZE],
    ) -> Result<PasswordHash, UsersError> {
        check(&password)?;
        self.work(move || {
            let hash = argon2id(&password, &salt, (MEMORY_KIB, PASSES, LANES))
                .expect("our own parameters are within argon2's");
            PasswordHash {
                algorithm: ALGORITHM.to_owned(),
                memory_kib: MEMORY_KIB,
                passes: PASSES,
                lanes: LANES,
                salt: BASE64_STANDARD_NO_PAD.encode(salt),
                hash: BASE64_STANDARD_NO_PAD.encode(hash),
            }
        })
        .await
    }

    /// Whether `password` is the one that was hashed. How long it takes says nothing of where the
    /// two differ.
    ///
    /// # Errors
    /// [`UsersError::Busy`]
    pub async fn matches(&self, password: String, known: PasswordHash) -> Result<bool, UsersError> {
        if password.len() > PASSWORD_SIZE_MAX {
            return Ok(false);
        }
        self.work(move || known.is_of(&password)).await
    }

    /// Takes as long as a comparison with a password that exists.
    ///
    /// # Errors
    /// [`UsersError::Busy`]
    pub async fn waste(&self, password: String) -> Result<(), UsersError> {
        let salt = [0; SALT_SIZE];
        let cost = (MEMORY_KIB, PASSES, LANES);
        self.work(move || argon2id(&password, &salt, cost)).await.map(|_| ())
    }

    /// From now on there is no place for anybody.
    #[cfg(test)]
    pub fn refuse_all(&self) {
        self.waiting.close();
    }

    /// Does `work` on a thread that may block, when it has a place there.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, UsersError> {
        let queued = self.waiting.clone().try_acquire_owned().map_err(|_| UsersError::Busy)?;
        let place = self.working.clone().acquire_owned().await;
        let place = place.map_err(|_closed| UsersError::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            // Given back when the work is done, whether or not its caller still waits.
            let _held = (queued, place);
            work()
        });
        done.await.map_err(|_stopping| UsersError::Busy)
    }
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordHash").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl PasswordHash {
    /// Which password it is.
    #[must_use]
    pub fn stamp(&self) -> PasswordStamp {
        let mut hasher = blake3::Hasher::new();
        for part in [&self.algorithm, &self.salt, &self.hash] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        PasswordStamp(hasher.finalize())
    }

    fn is_of(&self, password: &str) -> bool {
        let sound = self.algorithm == ALGORITHM
            && self.memory_kib <= MEMORY_KIB_MAX
            && self.passes <= PASSES_MAX
            && self.lanes == LANES;
        let decoded = |text: &str| BASE64_STANDARD_NO_PAD.decode(text).ok();
        let (Some(salt), Some(hash), true) = (decoded(&self.salt), decoded(&self.hash), sound)
        else {
            return false;
        };
        let cost = (self.memory_kib, self.passes, self.lanes);
        // Hashes of the hashes are compared: this comparison looks at all bytes, always.
        argon2id(password, &salt, cost)
            .is_some_and(|found| blake3::hash(&found) == blake3::hash(&hash))
    }
}

/// None if the parameters are beyond what argon2 knows.
fn argon2id(
    password: &str,
    salt: &[u8],
    (memory_kib, passes, lanes): (u32, u32, u32),
) -> Option<[u8; HASH_SIZE]> {
    let params = Params::new(memory_kib, passes, lanes, Some(HASH_SIZE)).ok()?;
    let mut hash = [0; HASH_SIZE];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password.as_bytes(), salt, &mut hash)
        .ok()?;
    Some(hash)
}

/// Checks a password to be.
///
/// # Errors
/// [`UsersError::Invalid`] says how long it must be.
pub fn check(password: &str) -> Result<(), UsersError> {
    let size = password.len();
    if (PASSWORD_SIZE_MIN..=PASSWORD_SIZE_MAX).contains(&size) {
        return Ok(());
    }
    let reason =
        format!("has {size} bytes; give {PASSWORD_SIZE_MIN} to {PASSWORD_SIZE_MAX} of them");
    Err(UsersError::Invalid { what: "password", reason })
}
