//! Credentials that were right a moment ago, those that were wrong, and those that are being looked
//! at.
//!
//! ```text
//!   login, password ─ BLAKE3, keyed with chance of this process ─> Fingerprint ─> Caller
//!                                      valid: same generation of users, younger than a minute;
//!                                      else: has the user that password still? No hash needed
//! ```
//!
//! INVARIANTS: no password is kept, nor anything by which one could be guessed outside of this
//! process. An entry that is no longer valid lets nobody in by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daybook_model::{Entropy, Timestamp};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::authenticate::Refusal;
use super::caller::Caller;
use crate::users::password::PasswordStamp;

/// How long credentials count as right without being looked at again. Changes of users end that at
/// once; this bounds what a change that passed by us may take, as by another process.
pub const AGE_MAX: Duration = Duration::from_secs(60);
/// Credentials that are remembered: some 200 bytes each. More services than one server has.
pub const VERIFIED_MAX: usize = 4096;
/// Wrong credentials that are remembered: some 100 bytes each. As many programs as may go on with an
/// old password.
pub const WRONG_MAX: usize = 1024;

/// Credentials, as they are remembered. Drawn with a key of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

/// What came of looking.
type Found = Result<Caller, Refusal>;

/// See the module.
pub struct Verified {
    key: [u8; 32],
    entries: RwLock<BTreeMap<Fingerprint, Entry>>,
    /// Of which generation of users they were wrong, and when they were found so.
    wrong: Mutex<BTreeMap<Fingerprint, (u64, Duration)>>,
    searches: Arc<Mutex<BTreeMap<Fingerprint, watch::Receiver<Option<Found>>>>>,
}

struct Entry {
    found: Known,
    generation: u64,
    at: Duration,
}

/// Whose credentials were found right.
#[derive(Clone)]
pub struct Known {
    /// Theirs.
    pub caller: Caller,
    /// Which password it was, if it was one.
    pub stamp: Option<PasswordStamp>,
}

/// Who looks and who waits, of those who ask the same at a time.
pub enum Role {
    /// Has to look.
    Finder(Finder),
    /// Is told.
    Waiter(Waiter),
}

/// Has to look, and to tell the others. If it is dropped before it has, one of them is next.
pub struct Finder {
    fingerprint: Fingerprint,
    tell: watch::Sender<Option<Found>>,
    searches: Arc<Mutex<BTreeMap<Fingerprint, watch::Receiver<Option<Found>>>>>,
}

/// Waits for a finder.
pub struct Waiter(watch::Receiver<Option<Found>>);

impl Verified {
    /// Of nobody yet.
    #[must_use]
    pub fn new(entropy: &dyn Entropy) -> Verified {
        Verified {
            key: key(entropy),
            entries: RwLock::new(BTreeMap::new()),
            wrong: Mutex::default(),
            searches: Arc::default(),
        }
    }

    /// The fingerprint of `parts`, which are of this kind.
    #[must_use]
    pub fn fingerprint(&self, kind: &str, parts: &[&str]) -> Fingerprint {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for part in std::iter::once(&kind).chain(parts) {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        Fingerprint(*hasher.finalize().as_bytes())
    }

    /// Whose these are, if they were right a moment ago, are not over at the time `at`, and no user
    /// was changed since.
    #[must_use]
    pub fn get(
        &self,
        of: &Fingerprint,
        generation: u64,
        (now, at): (Duration, Timestamp),
    ) -> Option<Caller> {
        let entries = self.entries.read();
        let entry = entries.get(of)?;
        let is_over = entry.found.caller.until().is_some_and(|until| until <= at);
        let valid = entry.generation == generation && now.saturating_sub(entry.at) < AGE_MAX;
        (valid && !is_over).then(|| entry.found.caller.clone())
    }

    /// Whether these were wrong, and no user was changed since: then they are wrong still.
    #[must_use]
    pub fn is_wrong(&self, of: &Fingerprint, generation: u64) -> bool {
        self.wrong.lock().get(of).is_some_and(|(known, _)| *known == generation)
    }

    /// These were wrong at `at`, when the users were of this generation. The oldest is forgotten if
    /// there are too many.
    pub fn put_wrong(&self, of: Fingerprint, generation: u64, at: Duration) {
        let mut wrong = self.wrong.lock();
        if wrong.len() >= WRONG_MAX && !wrong.contains_key(&of) {
            let oldest = wrong.iter().min_by_key(|(_, (_, at))| *at).map(|(of, _)| *of);
            if let Some(oldest) = oldest {
                wrong.remove(&oldest);
            }
        }
        wrong.insert(of, (generation, at));
    }

    /// Which password it was, if these were right once, as far as is remembered.
    #[must_use]
    pub fn stamp(&self, of: &Fingerprint) -> Option<PasswordStamp> {
        self.entries.read().get(of)?.found.stamp
    }

    /// These were right at `at`, when the users were of this generation. The oldest is forgotten if
    /// there are too many.
    pub fn put(&self, of: Fingerprint, found: Known, generation: u64, at: Duration) {
        let mut entries = self.entries.write();
        if entries.len() >= VERIFIED_MAX && !entries.contains_key(&of) {
            // Whoever comes here has paid for a hash, beside which this is nothing.
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.at).map(|(of, _)| *of);
            if let Some(oldest) = oldest {
                entries.remove(&oldest);
            }
        }
        entries.insert(of, Entry { found, generation, at });
    }

    /// These are wrong now.
    pub fn forget(&self, of: &Fingerprint) {
        self.entries.write().remove(of);
    }

    /// Who looks at these, and who waits for it.
    #[must_use]
    pub fn begin(&self, of: Fingerprint) -> Role {
        let mut searches = self.searches.lock();
        if let Some(search) = searches.get(&of) {
            return Role::Waiter(Waiter(search.clone()));
        }
        let (tell, told) = watch::channel(None);
        searches.insert(of, told);
        Role::Finder(Finder { fingerprint: of, tell, searches: self.searches.clone() })
    }
}

impl Finder {
    /// Tells the others.
    pub fn found(self, found: Found) {
        // Nobody may wait.
        let _ = self.tell.send(Some(found));
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        self.searches.lock().remove(&self.fingerprint);
    }
}

impl Waiter {
    /// What was found; nothing if nobody looks any more.
    pub async fn wait(mut self) -> Option<Found> {
        let found = self.0.wait_for(Option::is_some).await.ok()?;
        found.clone()
    }
}

/// 244 bits of chance, spread over a key.
#[must_use]
pub fn key(entropy: &dyn Entropy) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&entropy.bytes()).update(&entropy.bytes());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use daybook_model::SystemEntropy;

    use super::*;
    use crate::security::caller::Proof;

    fn ada() -> Known {
        let caller = Caller::known("ada".to_owned(), Vec::new(), Proof::Password, None);
        Known { caller, stamp: None }
    }

    #[test]
    fn what_was_right_is_right_for_a_minute_and_until_a_user_is_changed() {
        let verified = Verified::new(&SystemEntropy);
        let of = verified.fingerprint("password", &["ada", "secret"]);
        let at = Duration::from_secs(100);
        verified.put(of, ada(), 7, at);
        let rows = [(7, 0, true), (7, 59, true), (7, 60, false), (8, 0, false), (6, 0, false)];
        for (generation, seconds, valid) in rows {
            let now = (at + Duration::from_secs(seconds), Timestamp(i64::MAX));
            let found = verified.get(&of, generation, now);
            assert_eq!(found.is_some(), valid, "generation {generation}, {seconds} s later");
        }
        verified.forget(&of);
        assert!(verified.get(&of, 7, (at, Timestamp(0))).is_none());
    }

    #[test]
    fn what_ends_by_itself_is_right_until_then() {
        let verified = Verified::new(&SystemEntropy);
        let of = verified.fingerprint("api token", &["a hash"]);
        let until = Some(Timestamp(1000));
        let caller = Caller::known("ada".to_owned(), Vec::new(), Proof::Token, until);
        verified.put(of, Known { caller, stamp: None }, 7, Duration::ZERO);
        for (now, valid) in [(0, true), (999, true), (1000, false)] {
            let found = verified.get(&of, 7, (Duration::ZERO, Timestamp(now)));
            assert_eq!(found.is_some(), valid, "at {now}");
        }
    }

    #[test]
    fn what_was_wrong_is_wrong_until_a_user_is_changed() {
        let verified = Verified::new(&SystemEntropy);
        let of = |number: usize| verified.fingerprint("password", &[&number.to_string(), ""]);
        verified.put_wrong(of(0), 7, Duration::ZERO);
        assert!(verified.is_wrong(&of(0), 7) && !verified.is_wrong(&of(0), 8));
        for number in 1..=WRONG_MAX {
            verified.put_wrong(of(number), 7, Duration::from_secs(number as u64));
        }
        for (number, kept) in [(0, false), (1, true), (WRONG_MAX, true)] {
            assert_eq!(verified.is_wrong(&of(number), 7), kept, "{number}");
        }
    }

    #[test]
    fn other_credentials_are_others() {
        let verified = Verified::new(&SystemEntropy);
        let one = verified.fingerprint("password", &["ada", "secret"]);
        for (kind, parts) in [
            ("password", ["ada", "Secret"]),
            ("password", ["adas", "ecret"]),
            ("certificate", ["ada", "secret"]),
        ] {
            assert_ne!(one, verified.fingerprint(kind, &parts), "{kind} {parts:?}");
        }
        let other = Verified::new(&SystemEntropy).fingerprint("password", &["ada", "secret"]);
        assert_ne!(one, other, "each process has a key of its own");
    }

    #[test]
    fn the_oldest_makes_room() {
        let verified = Verified::new(&SystemEntropy);
        let of = |number: usize| verified.fingerprint("password", &[&number.to_string(), ""]);
        for number in 0..=VERIFIED_MAX {
            verified.put(of(number), ada(), 0, Duration::from_secs(number as u64));
        }
        for (number, kept) in [(0, false), (1, true), (VERIFIED_MAX, true)] {
            let at = (Duration::from_secs(number as u64), Timestamp(0));
            assert_eq!(verified.get(&of(number), 0, at).is_some(), kept, "{number}");
        }
    }

    #[tokio::test]
    async fn one_looks_and_the_others_are_told() {
        let verified = Verified::new(&SystemEntropy);
        let of = verified.fingerprint("password", &["ada", "secret"]);
        let Role::Finder(finder) = verified.begin(of) else { panic!("nobody looks yet") };
        let Role::Waiter(waiter) = verified.begin(of) else { panic!("somebody looks") };
        finder.found(Err(Refusal::Wrong));
        assert!(matches!(waiter.wait().await, Some(Err(Refusal::Wrong))));
        let Role::Finder(gone) = verified.begin(of) else { panic!("nobody looks any more") };
        let Role::Waiter(waiter) = verified.begin(of) else { panic!("somebody looks") };
        drop(gone);
        assert!(waiter.wait().await.is_none());
        assert!(matches!(verified.begin(of), Role::Finder(_)));
    }
}
