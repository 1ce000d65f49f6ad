//! What these tests stand on: servers in this process and real ones, disks that misbehave, a clock
//! that leaps, and a wait for a state.
//!
//! INVARIANT: nothing here asserts anything about Daybook; that is the tests' part.

pub mod clock;
pub mod daemon;
pub mod directory;
pub mod events;
pub mod gate;
pub mod http;
pub mod ledger;
pub mod node;
pub mod pki;
pub mod protocol;
pub mod reading;
pub mod secure;
pub mod traces;

use std::future::Future;
use std::io::Write as _;
use std::time::Duration;

/// Longer than anything here takes, also on a busy machine; what takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a state is looked at that nobody announces.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Waits until `reached` says so, and fails as `what` if it never does.
pub async fn until<F: Future<Output = bool>>(what: &str, mut reached: impl FnMut() -> F) {
    let look = async {
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        while !reached().await {
            interval.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, look)
        .await
        .unwrap_or_else(|_| panic!("waited too long: {what}"));
}

/// `future`'s result; fails as `what` if there is none in time.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited too long: {what}"))
}

/// Fails unless `text` has all of `words`.
#[track_caller]
pub fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "'{word}' is missing in: {text}");
    }
}

/// Whether this process may do what only root may.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says that a test, or a part of one, cannot be done on this machine. The CI script shows these
/// lines, so they go around the capture of a passing test's output.
pub fn skipped(what: &str, reason: &str) {
    let line = format!("\nskipped: {what}: {reason}\n");
    // Nobody reads it: nothing to do about that.
    let _ = std::io::stdout().write_all(line.as_bytes());
}
