//! Who is logged in.
//!
//! ```text
//!   cookie: 256 bits of chance ─ BLAKE3, keyed with chance of this process ─> Mark ─> Session
//! ```
//!
//! A session is a caller who proved who it is, kept for a while. It ends when it is idle or old,
//! at a logout, when its user would not be let in any more, and with the process.
//!
//! INVARIANTS: no cookie's value is kept; whoever reads this memory cannot log in by it. The table
//! is bounded, and so is what one user has of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use daybook_model::{Clock, Entropy};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use crate::security::Caller;
use crate::security::verified::key;

/// Sessions of all users at a time, some 500 bytes each.
pub const SESSIONS_MAX: usize = 1_000;
/// Sessions of one user at a time: a person has a few browsers.
pub const SESSIONS_OF_USER_MAX: usize = 10;
/// Time after its last request when a session ends: a desk that was left.
pub const IDLE_MAX: Duration = Duration::from_secs(30 * 60);
/// Time after its login when a session ends in any case: a working day.
pub const AGE_MAX: Duration = Duration::from_secs(12 * 3600);
/// Feeds that one session has open at a time; more tabs than that wait for a reload.
pub const FEEDS_OF_SESSION_MAX: usize = 8;

/// Who makes a request of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A person: the session is not idle.
    Person,
    /// A page by itself, which somebody may have left open.
    Page,
}

/// What a session is known by.
type Mark = [u8; 32];

/// A caller who logged in.
pub struct Session {
    mark: Mark,
    caller: Caller,
    began: Duration,
    used: Mutex<Duration>,
    /// How far the users had changed when it was last asked whether the caller still stands.
    seen: Mutex<u64>,
    feeds: Arc<Semaphore>,
    over: watch::Sender<bool>,
}

impl Session {
    /// Who it is.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Room for its feeds.
    #[must_use]
    pub fn feeds(&self) -> &Arc<Semaphore> {
        &self.feeds
    }

    /// Resolves when it is over.
    pub async fn ended(&self) {
        let mut over = self.over.subscribe();
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = over.wait_for(|over| *over).await;
    }

    fn is_current(&self, now: Duration) -> bool {
        now.saturating_sub(self.began) < AGE_MAX && now.saturating_sub(*self.used.lock()) < IDLE_MAX
    }
}

/// See the module.
pub struct Sessions {
    key: [u8; 32],
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    table: Mutex<BTreeMap<Mark, Arc<Session>>>,
}

impl Sessions {
    /// None yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Sessions {
        Sessions { key: key(&*entropy), clock, entropy, table: Mutex::default() }
    }

    /// Begins a session of `caller`, and says what its cookie is. The user's oldest makes room, then
    /// the one that was used least lately.
    #[must_use]
    pub fn begin(&self, caller: Caller) -> String {
        let id = [self.entropy.bytes(), self.entropy.bytes()].concat();
        let id = BASE64_URL_SAFE_NO_PAD.encode(id);
        let now = self.clock.monotonic();
        let mark = self.mark(&id);
        let login = caller.login().map(str::to_owned);
        let seen = caller.standing().map_or(0, |standing| standing.at());
        let session = Arc::new(Session {
            mark,
            caller,
            began: now,
            used: Mutex::new(now),
            seen: Mutex::new(seen),
            feeds: Arc::new(Semaphore::new(FEEDS_OF_SESSION_MAX)),
            over: watch::channel(false).0,
        });
        self.forget_old();
        let mut table = self.table.lock();
        let own = |session: &&Arc<Session>| session.caller.login() == login.as_deref();
        if table.values().filter(own).count() >= SESSIONS_OF_USER_MAX {
            let oldest = table.values().filter(own).min_by_key(|session| session.began).cloned();
            drop_from(&mut table, oldest);
        }
        if table.len() >= SESSIONS_MAX {
            let unused = table.values().min_by_key(|session| *session.used.lock()).cloned();
            drop_from(&mut table, unused);
        }
        table.insert(mark, session);
        id
    }

    /// The session of a cookie; none if it is over. Whether it counts as used now, `by` says.
    pub async fn find(&self, id: &str, by: Use) -> Option<Arc<Session>> {
        let now = self.clock.monotonic();
        let session = self.table.lock().get(&self.mark(id)).cloned()?;
        if !session.is_current(now) || !stands(&session).await {
            self.end(&session);
            return None;
        }
        if by == Use::Person {
            *session.used.lock() = now;
        }
        Some(session)
    }

    /// Ends `session`, and what it follows.
    pub fn end(&self, session: &Arc<Session>) {
        drop_from(&mut self.table.lock(), Some(session.clone()));
    }

    /// Ends those that are idle or old.
    pub fn forget_old(&self) {
        let now = self.clock.monotonic();
        self.table.lock().retain(|_, session| {
            let keeps = session.is_current(now);
            if !keeps {
                session.over.send_replace(true);
            }
            keeps
        });
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.table.lock().len()
    }

    /// The token that forms of `session` carry; without one, those of `name`'s.
    #[must_use]
    pub fn token(&self, session: Option<&Session>, name: &str) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        match session {
            Some(session) => hasher.update(b"form of session\0").update(&session.mark),
            None => hasher.update(b"form of name\0").update(name.as_bytes()),
        };
        hasher.finalize()
    }

    fn mark(&self, id: &str) -> Mark {
        *blake3::keyed_hash(&self.key, id.as_bytes()).as_bytes()
    }
}

fn drop_from(table: &mut BTreeMap<Mark, Arc<Session>>, session: Option<Arc<Session>>) {
    if let Some(session) = session {
        table.remove(&session.mark);
        session.over.send_replace(true);
    }
}

/// Whether its user would still be let in as the same: asked only if users have changed since.
async fn stands(session: &Session) -> bool {
    let Some(standing) = session.caller.standing() else { return true };
    let now = standing.now();
    if *session.seen.lock() == now {
        return true;
    }
    let holds = standing.holds().await;
    if holds {
        *session.seen.lock() = now;
    }
    holds
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use daybook_model::{SystemEntropy, Timestamp};
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::security::Proof;
    use crate::security::caller::Standing;

    #[derive(Debug, Default)]
    struct Hands(AtomicU64);

    impl Hands {
        fn turn(&self, by: Duration) {
            self.0.fetch_add(by.as_secs(), Ordering::Relaxed);
        }
    }

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            Timestamp(0)
        }
        fn monotonic(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    fn sessions() -> (Sessions, Arc<Hands>) {
        let clock = Arc::new(Hands::default());
        (Sessions::new(clock.clone(), Arc::new(SystemEntropy)), clock)
    }

    fn user(login: &str) -> Caller {
        Caller::known(login.to_owned(), Vec::new(), Proof::Password, None)
    }

    #[tokio::test]
    async fn a_session_ends_idle_old_or_when_told() {
        let (sessions, clock) = sessions();
        let id = sessions.begin(user("ada"));
        assert_eq!(id.len(), 43, "256 bits");
        assert!(sessions.find(&id, Use::Person).await.is_some());
        assert!(sessions.find("", Use::Person).await.is_none());
        assert!(sessions.find(&id.to_lowercase(), Use::Person).await.is_none());
        // Used again and again it lives on, and not for ever.
        let mut lived = Duration::ZERO;
        while sessions.find(&id, Use::Person).await.is_some() {
            clock.turn(IDLE_MAX / 2);
            lived += IDLE_MAX / 2;
        }
        assert_eq!(lived, AGE_MAX);
        let id = sessions.begin(user("ada"));
        clock.turn(IDLE_MAX / 2);
        assert!(sessions.find(&id, Use::Page).await.is_some(), "a page looks by itself");
        clock.turn(IDLE_MAX / 2);
        assert!(sessions.find(&id, Use::Page).await.is_none(), "and nobody sits there");
        let id = sessions.begin(user("ada"));
        let session = sessions.find(&id, Use::Person).await.expect("it began");
        clock.turn(IDLE_MAX);
        sessions.forget_old();
        session.ended().await;
        assert!(sessions.find(&id, Use::Person).await.is_none());
        let id = sessions.begin(user("ada"));
        let session = sessions.find(&id, Use::Person).await.expect("it began");
        sessions.end(&session);
        session.ended().await;
        assert_eq!(sessions.count(), 0);
    }

    #[tokio::test]
    async fn the_table_is_bounded_for_each_and_for_all() {
        let (sessions, clock) = sessions();
        let first = sessions.begin(user("ada"));
        clock.turn(Duration::from_secs(1));
        for _ in 1..SESSIONS_OF_USER_MAX {
            let _ = sessions.begin(user("ada"));
        }
        assert!(sessions.find(&first, Use::Person).await.is_some());
        let _ = sessions.begin(user("ada"));
        assert!(sessions.find(&first, Use::Person).await.is_none(), "the oldest made room");
        assert_eq!(sessions.count(), SESSIONS_OF_USER_MAX);
        for number in 0..SESSIONS_MAX {
            let _ = sessions.begin(user(&format!("user {number}")));
        }
        assert_eq!(sessions.count(), SESSIONS_MAX);
    }

    #[tokio::test]
    async fn tokens_are_of_one_session() {
        let (sessions, _) = sessions();
        let (one, two) = (sessions.begin(user("ada")), sessions.begin(user("ada")));
        let one = sessions.find(&one, Use::Person).await.expect("it began");
        let two = sessions.find(&two, Use::Person).await.expect("it began");
        let token = |session: &Arc<Session>| sessions.token(Some(session), "ada");
        assert_eq!(token(&one), token(&one));
        assert_ne!(token(&one), token(&two));
        assert_ne!(token(&one), sessions.token(None, "ada"));
    }

    #[derive(Debug, Default)]
    struct Stands {
        changes: AtomicU64,
        fallen: AtomicBool,
    }

    #[derive(Debug)]
    struct Asked(Arc<Stands>);

    impl Standing for Asked {
        fn at(&self) -> u64 {
            0
        }
        fn now(&self) -> u64 {
            self.0.changes.load(Ordering::Relaxed)
        }
        fn holds(&self) -> BoxFuture<'static, bool> {
            let holds = !self.0.fallen.load(Ordering::Relaxed);
            Box::pin(async move { holds })
        }
    }

    #[tokio::test]
    async fn a_user_who_would_not_be_let_in_has_no_session() {
        let (sessions, _) = sessions();
        let stands = Arc::new(Stands::default());
        let id = sessions.begin(user("ada").standing_by(Arc::new(Asked(stands.clone()))));
        stands.changes.store(1, Ordering::Relaxed);
        let session = sessions.find(&id, Use::Person).await.expect("somebody else changed");
        stands.fallen.store(true, Ordering::Relaxed);
        assert!(sessions.find(&id, Use::Person).await.is_some(), "no user changed since");
        stands.changes.store(2, Ordering::Relaxed);
        assert!(sessions.find(&id, Use::Person).await.is_none());
        session.ended().await;
    }
}
