//! The phase in which the server hangs: it is stopped (SIGSTOP) while everybody is at it, and goes
//! on (SIGCONT) some seconds later. Its users go through one circuit breaker.
//!
//! ```text
//!   users   ─────── all answered ───────┤ wait in vain, then are refused at once ├─── answered ───
//!   server  ─── runs ───┤ stopped                            ├─── runs
//!   breaker ─── closed ────────┤ open │half│ open │half│ open │half├─── closed
//!                                 └ a few probes each time      └── time to heal
//! ```
//!
//! A stopped server is worse than one that has ended: its connections stay open, and the kernel
//! takes new ones. Only a timeout tells. What is sent in vain is carried out when the server goes
//! on, and sent again under the same id, so the checks afterwards must find every transfer whole.
//!
//! INVARIANT: a user's request is sent only with the breaker's permit; it is refused without a
//! connection, a byte or a wait for the server.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daybook_client::resilience::{
    BreakerSettings, CircuitBreaker, Permit, State, StateChanged, Subscription, Told, Verdict,
    Window, Wiring,
};
use daybook_model::Timestamp;
use serde_json::{Value, json};

use super::audit::Findings;
use super::http::{Answer, Connection, HttpError, Request};
use super::verdict::Check;

/// How long a user waits for an answer: many times what the slowest takes at full load.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// When a user asks again who was refused while probes are out.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// The breaker's open times.
const OPEN_FIRST: Duration = Duration::from_millis(250);
const OPEN_MAX: Duration = Duration::from_secs(1);
/// Calls that probe the server at a time, and successes that close the breaker.
const PROBES_MAX: u32 = 3;
const SUCCESSES_TO_CLOSE: u32 = 3;
/// The time in which calls that come together are counted.
const HERD_WINDOW: Duration = Duration::from_millis(100);
/// Probes whose times are kept; a pause of an hour has fewer.
const PROBES_KEPT_MAX: usize = 100_000;

/// How the users reach the server: straight, or through a circuit breaker.
#[derive(Debug)]
pub enum Way {
    /// As it comes.
    Straight,
    /// Through a breaker that they share.
    Guarded(Box<Guarded>),
}

/// The users' breaker and what it does.
#[derive(Debug)]
pub struct Guarded {
    breaker: CircuitBreaker,
    wiring: Wiring,
    changes: Mutex<Subscription>,
    rejected: AtomicU64,
    waited: AtomicU64,
    probes: Mutex<Vec<Duration>>,
}

impl Way {
    /// Through a breaker.
    ///
    /// # Errors
    /// Its settings make no sense: a mistake in this program.
    pub fn guarded() -> anyhow::Result<Way> {
        let settings = BreakerSettings {
            // Transfers differ, and an overload is not what is looked for here: only silence is.
            slow_percent: None,
            window: Window::Time { length: Duration::from_secs(10), parts: 10 },
            probes_max: PROBES_MAX,
            successes_to_close: SUCCESSES_TO_CLOSE,
            open_first: OPEN_FIRST,
            open_max: OPEN_MAX,
            ..BreakerSettings::default()
        };
        let wiring = Wiring::system();
        let changes = Mutex::new(wiring.changes.subscribe());
        let breaker = CircuitBreaker::new("server", settings, wiring.clone())?;
        let (rejected, waited, probes) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::default());
        Ok(Way::Guarded(Box::new(Guarded { breaker, wiring, changes, rejected, waited, probes })))
    }

    /// Sends `request` over `connection`, when the breaker lets it.
    ///
    /// # Errors
    /// [`HttpError`]
    pub async fn send<'c>(
        &self,
        connection: &'c mut Connection,
        request: Request<'_>,
    ) -> Result<Answer<'c>, HttpError> {
        let Way::Guarded(guarded) = self else { return connection.send(request).await };
        let permit = guarded.permit().await;
        let answer = tokio::time::timeout(CALL_TIMEOUT, connection.send(request)).await;
        let answer = answer.unwrap_or_else(|_| {
            guarded.waited.fetch_add(1, Ordering::Relaxed);
            Err(HttpError::TimedOut(CALL_TIMEOUT))
        });
        let works = answer.as_ref().is_ok_and(|answer| answer.status < 500);
        permit.finish(if works { Verdict::Success } else { Verdict::Failure });
        answer
    }
}

impl Guarded {
    /// Asks until it is let through.
    async fn permit(&self) -> Permit {
        loop {
            match self.breaker.admit() {
                Ok(permit) => {
                    if permit.is_probe() {
                        self.note_probe();
                    }
                    return permit;
                }
                Err(refusal) => {
                    self.rejected.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(refusal.retry_after.unwrap_or(ASK_AGAIN)).await;
                }
            }
        }
    }

    fn note_probe(&self) {
        let now = self.wiring.clock.monotonic();
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        if probes.len() < PROBES_KEPT_MAX {
            probes.push(now);
        }
    }

    /// The time on the clock that changes of state are told by.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.wiring.clock.now()
    }

    /// What came of the phase that `times` are of.
    #[must_use]
    pub fn paused(&self, times: Times) -> Paused {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut transitions, mut missed) = (Vec::new(), 0);
        while let Some(told) = changes.try_next() {
            match told {
                Told::Changed(change) => transitions.push(change),
                Told::Missed(count) => missed += count,
            }
        }
        let probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        Paused {
            times,
            transitions,
            missed,
            rejected: self.rejected.load(Ordering::Relaxed),
            waited: self.waited.load(Ordering::Relaxed),
            probes: probes.len(),
            probes_at_once: most_within(&probes, HERD_WINDOW),
        }
    }
}

/// The largest number of `times`, which ascend, that lie within `window`.
fn most_within(times: &[Duration], window: Duration) -> usize {
    let mut first = 0;
    let within = times.iter().enumerate().map(|(last, time)| {
        while *time - times[first] >= window {
            first += 1;
        }
        last - first + 1
    });
    within.max().unwrap_or(0)
}

/// When the phase began and ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When transfers began to be measured.
    pub begun: Timestamp,
    /// When the server was stopped.
    pub stopped: Timestamp,
    /// When it went on.
    pub resumed: Timestamp,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paused {
    /// When it was.
    pub times: Times,
    /// The breaker's changes of state, in order.
    pub transitions: Vec<StateChanged>,
    /// Changes that were not heard in time.
    pub missed: u64,
    /// Calls that were refused at once instead of waiting.
    pub rejected: u64,
    /// Calls that waited in vain.
    pub waited: u64,
    /// Calls let through while it was half-open.
    pub probes: usize,
    /// The most of them in 100 ms.
    pub probes_at_once: usize,
}

impl Paused {
    /// Seconds from the stop until the breaker opened.
    #[must_use]
    pub fn opened_s(&self) -> Option<f64> {
        let after = |change: &&StateChanged| change.at >= self.times.stopped;
        let mut opened = self.transitions.iter().filter(after).filter(|c| c.to == State::Open);
        opened.next().map(|change| seconds(self.times.stopped, change.at))
    }

    /// Seconds from when the server went on until the breaker closed for good.
    #[must_use]
    pub fn healed_s(&self) -> Option<f64> {
        let last = self.transitions.last().filter(|change| change.to == State::Closed)?;
        Some(seconds(self.times.resumed, last.at))
    }

    /// Whether the breaker did what it is for.
    #[must_use]
    pub fn check(&self) -> Check {
        let mut findings = Findings::default();
        if self.opened_s().is_none() {
            findings.add(|| "it did not open while the server was stopped".to_owned());
        }
        if self.healed_s().is_none() {
            findings.add(|| "it was not closed at the end".to_owned());
        }
        // One half-open time needs at most so many, and two are further apart than 100 ms.
        let most = (PROBES_MAX + SUCCESSES_TO_CLOSE) as usize;
        if self.probes_at_once > most {
            let found = self.probes_at_once;
            findings.add(|| format!("{found} calls in 100 ms while half-open, at most {most} may"));
        }
        let about = "opened when the server stopped, let a few probes through, closed when it \
                     went on";
        Check { name: "breaker", about: about.to_owned(), findings }
    }

    /// It in words: names and values.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let Times { begun, stopped, resumed } = self.times;
        let or_never = |seconds: Option<f64>, text: &str| match seconds {
            Some(seconds) => format!("{text} {seconds:.2} s after"),
            None => format!("never {text} after"),
        };
        let mut facts = vec![
            (
                "pause",
                format!(
                    "the server was stopped for {:.1} s at {:.1} s",
                    seconds(stopped, resumed),
                    seconds(begun, stopped)
                ),
            ),
            (
                "breaker",
                format!(
                    "{} the stop, {} the server went on",
                    or_never(self.opened_s(), "opened"),
                    or_never(self.healed_s(), "closed")
                ),
            ),
            (
                "calls",
                format!(
                    "{} refused at once instead of waiting, to ask again; {} waited {} s in vain",
                    self.rejected,
                    self.waited,
                    CALL_TIMEOUT.as_secs()
                ),
            ),
            (
                "probes",
                format!("{} in all, at most {} in 100 ms", self.probes, self.probes_at_once),
            ),
        ];
        if self.missed > 0 {
            facts.push(("transitions", format!("{} more, not heard in time", self.missed)));
        }
        facts.extend(self.transitions.iter().map(|change| ("transition", self.say(change))));
        facts
    }

    fn say(&self, change: &StateChanged) -> String {
        let open_for = change
            .open_for
            .map_or(String::new(), |time| format!(", for {:.2} s", time.as_secs_f64()));
        format!(
            "{:7.2} s  {} -> {} ({}{open_for})",
            seconds(self.times.begun, change.at),
            change.from.as_str(),
            change.to.as_str(),
            change.reason.as_str()
        )
    }

    /// It for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let Times { begun, stopped, resumed } = self.times;
        let transitions = self.transitions.iter().map(|change| {
            json!({
                "at_s": seconds(begun, change.at),
                "from": change.from.as_str(),
                "to": change.to.as_str(),
                "reason": change.reason.as_str(),
                "open_for_s": change.open_for.map(|time| time.as_secs_f64()),
            })
        });
        json!({
            "stopped_at_s": seconds(begun, stopped),
            "paused_s": seconds(stopped, resumed),
            "opened_after_s": self.opened_s(),
            "healed_after_s": self.healed_s(),
            "calls_rejected": self.rejected,
            "calls_waited": self.waited,
            "probes": self.probes,
            "probes_per_100ms_max": self.probes_at_once,
            "transitions": transitions.collect::<Vec<_>>(),
            "transitions_missed": self.missed,
        })
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.0.saturating_sub(from.0) as f64 / 1e9
}

#[cfg(test)]
pub(super) mod tests {
    use daybook_client::resilience::Reason;
    use uuid::Uuid;

    use super::*;

    fn change(at_ms: i64, from: State, to: State, reason: Reason) -> StateChanged {
        StateChanged {
            id: Uuid::nil(),
            endpoint: "server".into(),
            from,
            to,
            reason,
            at: Timestamp(at_ms * 1_000_000),
            open_for: (to == State::Open).then_some(OPEN_FIRST),
            trips: 1,
        }
    }

    /// A server that was stopped from 10 s to 15 s.
    #[must_use]
    pub fn sample() -> Paused {
        let second = 1_000_000_000;
        let (begun, stopped, resumed) = (0, 10 * second, 15 * second);
        let [begun, stopped, resumed] = [begun, stopped, resumed].map(Timestamp);
        Paused {
            times: Times { begun, stopped, resumed },
            transitions: vec![
                change(12_000, State::Closed, State::Open, Reason::FailuresInARow(5)),
                change(12_250, State::Open, State::HalfOpen, Reason::OpenTimeOver),
                change(14_250, State::HalfOpen, State::Open, Reason::ProbeFailed),
                change(15_250, State::Open, State::HalfOpen, Reason::OpenTimeOver),
                change(15_500, State::HalfOpen, State::Closed, Reason::ProbesSucceeded(3)),
            ],
            missed: 0,
            rejected: 4_321,
            waited: 99,
            probes: 6,
            probes_at_once: 3,
        }
    }

    #[test]
    fn what_happened_is_said_in_words_and_figures() {
        let paused = sample();
        assert!(paused.check().passed());
        let text: String = paused.facts().into_iter().map(|(_, value)| value + "\n").collect();
        for part in [
            "stopped for 5.0 s at 10.0 s",
            "opened 2.00 s after the stop, closed 0.50 s after",
            "4321 refused at once instead of waiting, to ask again; 99 waited 2 s",
            "6 in all, at most 3 in 100 ms",
            "12.00 s  closed -> open (failures_in_a_row, for 0.25 s)",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        let value = paused.to_json();
        assert_eq!(
            (&value["opened_after_s"], &value["healed_after_s"]),
            (&json!(2.0), &json!(0.5))
        );
        assert_eq!(value["transitions"][3]["to"], "half_open");
    }

    #[test]
    fn a_breaker_that_does_not_do_its_work_is_found() {
        type Change = fn(&mut Paused);
        let changes: [(&str, Change); 4] = [
            ("never open", |paused| paused.transitions.clear()),
            ("open before the stop only", |paused| paused.transitions.truncate(0)),
            ("not healed", |paused| paused.transitions.truncate(4)),
            ("a herd", |paused| paused.probes_at_once = 7),
        ];
        for (name, change) in changes {
            let mut paused = sample();
            change(&mut paused);
            assert!(!paused.check().passed(), "{name}");
        }
    }

    #[test]
    fn the_most_within_a_time_are_counted_wherever_it_begins() {
        for (times, expected) in [
            (&[][..], 0),
            (&[5], 1),
            (&[0, 99, 100], 2),
            (&[0, 50, 99, 149, 150, 151], 4),
            (&[0, 100, 200, 300], 1),
        ] {
            let times: Vec<_> = times.iter().map(|ms| Duration::from_millis(*ms)).collect();
            assert_eq!(most_within(&times, HERD_WINDOW), expected, "{times:?}");
        }
    }
}
