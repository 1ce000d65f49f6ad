//! A saga: named steps that run in order, and are undone in reverse when one of them fails for
//! good.
//!
//! ```text
//!                    every step done
//!   running ─────────────────────────────────────> completed
//!      │  a step fails for good, or time is up
//!      v             every write undone
//!   compensating ────────────────────────────────> compensated
//!      │  ^          a step cannot be undone
//!      │  └ resumed ── failed ── abandoned ──────> abandoned
//!      └───────────────^
//! ```
//!
//! A [`Definition`] says what the steps are. A [`Progress`] is the fold of one saga's [`Record`]s,
//! and [`Progress::next`] says what is to be done now. Nothing else is remembered, so that whoever
//! reads the records after a crash goes on where they end.
//!
//! A step is a write or a query. A write and its record are one atomic commit: it is recorded if
//! and only if it happened, so a write that failed for good left nothing to undo. A query changes
//! nothing; its record may travel with the commit of the next write, and is asked again if that
//! never came.
//!
//! Time: the whole saga has a deadline, which is recorded when it starts. An attempt at a step
//! begins when the record before it was written (or when its pause after a failure is over) and
//! fails when it has taken longer than the step's timeout. Both are reckoned from recorded times,
//! so a restart neither forgets nor extends them. A query is cut when its time is up. A write that
//! was handed to the store is not: it is one commit, and only its answer tells whether it happened;
//! its time is looked at before it begins. Compensations have no deadline: what was taken is given
//! back, however late.
//!
//! INVARIANT: knows no IO, clock or chance; `now` and `jitter` are arguments.
//!
//! Left out: steps side by side, and sagas within sagas. Nothing here needs them.

use std::time::Duration;

use daybook_model::Timestamp;

/// What all sagas of one kind have in common.
#[derive(Debug)]
pub struct Definition {
    /// Its name, as its records and lists show it.
    pub name: &'static str,
    /// How long a saga may run before it is undone.
    pub timeout: Duration,
    /// Its steps, in order.
    pub steps: &'static [Step],
}

/// One step.
#[derive(Debug)]
pub struct Step {
    /// Its name, as records show it.
    pub name: &'static str,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// What happens after a failure that is not final.
    pub retry: Retry,
    /// Whether it changes anything.
    pub effect: Effect,
}

/// How often and when a failed attempt is repeated.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Attempts in all; the last one's failure is final.
    pub attempts_max: u32,
    /// The pause after the first failure; each later one is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

/// Whether a step changes anything, and so must be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It writes; its compensation takes that back.
    Write,
    /// It asks; there is nothing to undo.
    Query,
}

/// Whether a step is taken or taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Taken.
    Action,
    /// Taken back.
    Compensation,
}

impl Direction {
    /// Its name, as records show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::Action => "action",
            Direction::Compensation => "compensation",
        }
    }
}

/// Where a saga stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It was never started.
    #[default]
    Absent,
    /// Its steps are being taken.
    Running,
    /// All of them were.
    Completed,
    /// Its steps are being taken back.
    Compensating,
    /// All of them were: it is as if it had not been.
    Compensated,
    /// A step could not be taken back; somebody must look.
    Failed,
    /// Somebody looked, and ended it.
    Abandoned,
}

impl State {
    /// Its name, as answers show it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Absent => "absent",
            State::Running => "running",
            State::Completed => "completed",
            State::Compensating => "compensating",
            State::Compensated => "compensated",
            State::Failed => "failed",
            State::Abandoned => "abandoned",
        }
    }

    /// Whether the orchestrator has something to do.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, State::Running | State::Compensating)
    }

    /// Whether nothing will ever happen to it again.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, State::Completed | State::Compensated | State::Abandoned)
    }
}

/// What is recorded of a saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// It began, and will be undone if it is not done at `deadline`.
    Started {
        /// When time is up.
        deadline: Timestamp,
    },
    /// A step was taken or taken back.
    StepCompleted {
        /// Its place in the definition.
        step: usize,
        /// Which.
        direction: Direction,
    },
    /// An attempt failed.
    StepFailed {
        /// The step's place in the definition.
        step: usize,
        /// Taking it or taking it back.
        direction: Direction,
        /// When to try again; none: the failure is final.
        retry_at: Option<Timestamp>,
    },
    /// All steps were taken.
    Completed,
    /// All that was taken was taken back.
    Rejected,
    /// Something could not be taken back.
    Failed,
    /// Somebody wants it tried again.
    Resumed,
    /// Somebody ended it.
    Abandoned,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Take a step, or take it back.
    Act {
        /// Its place in the definition.
        step: usize,
        /// Which.
        direction: Direction,
        /// 1 for the first attempt.
        attempt: u32,
        /// When the attempt has failed for taking too long.
        until: Timestamp,
    },
    /// Record that an attempt took too long.
    Expired {
        /// The step's place in the definition.
        step: usize,
        /// The attempt.
        attempt: u32,
        /// Whether the whole saga's time is up: then the failure is final.
        is_final: bool,
    },
    /// Nothing until then.
    Wait {
        /// When to ask again.
        until: Timestamp,
    },
    /// Record that all steps were taken.
    Complete,
    /// Record that all that was taken was taken back.
    Reject,
    /// Record that something could not be taken back.
    Fail,
    /// Nothing any more, unless somebody resumes it.
    Finished,
}

/// Where one saga stands: the fold of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Its state.
    pub state: State,
    /// When it must be done.
    pub deadline: Timestamp,
    /// How many steps, from the first on, were taken and not taken back.
    pub done: usize,
    /// Failed attempts at what is to be done now.
    pub failures: u32,
    /// When the next attempt begins; none: at once.
    pub retry_at: Option<Timestamp>,
    /// When the last record was written.
    pub since: Timestamp,
    /// Whether taking back failed for good, and only the record of that is missing.
    gave_up: bool,
}

impl Default for Progress {
    fn default() -> Progress {
        let never = Timestamp(0);
        Progress {
            state: State::Absent,
            deadline: never,
            done: 0,
            failures: 0,
            retry_at: None,
            since: never,
            gave_up: false,
        }
    }
}

impl Progress {
    /// Takes in what was recorded at `at`.
    pub fn apply(&mut self, record: Record, at: Timestamp) {
        self.since = at;
        match record {
            Record::StepFailed { retry_at: Some(retry_at), .. } => {
                self.failures += 1;
                self.retry_at = Some(retry_at);
                return;
            }
            Record::StepFailed { direction: Direction::Action, .. } => {
                self.state = State::Compensating;
            }
            Record::StepFailed { direction: Direction::Compensation, .. } => self.gave_up = true,
            Record::Started { deadline } => {
                self.state = State::Running;
                self.deadline = deadline;
            }
            Record::StepCompleted { step, direction: Direction::Action } => self.done = step + 1,
            Record::StepCompleted { step, direction: Direction::Compensation } => self.done = step,
            Record::Completed => self.state = State::Completed,
            Record::Rejected => self.state = State::Compensated,
            Record::Failed => self.state = State::Failed,
            Record::Resumed => {
                self.state = State::Compensating;
                self.gave_up = false;
            }
            Record::Abandoned => self.state = State::Abandoned,
        }
        self.failures = 0;
        self.retry_at = None;
    }

    /// What is to be done at `now`.
    #[must_use]
    pub fn next(&self, definition: &Definition, now: Timestamp) -> Next {
        match self.state {
            State::Running => self.next_action(definition, now),
            State::Compensating if self.gave_up => Next::Fail,
            State::Compensating => self.next_compensation(definition, now),
            _ => Next::Finished,
        }
    }

    fn next_action(&self, definition: &Definition, now: Timestamp) -> Next {
        let step = self.done;
        let Some(description) = definition.steps.get(step) else { return Next::Complete };
        let attempt = self.failures + 1;
        if now >= self.deadline {
            return Next::Expired { step, attempt, is_final: true };
        }
        let begins = self.retry_at.unwrap_or(self.since);
        if now < begins {
            return Next::Wait { until: begins.min(self.deadline) };
        }
        let until = after(begins, description.timeout).min(self.deadline);
        if now >= until {
            return Next::Expired { step, attempt, is_final: false };
        }
        Next::Act { step, direction: Direction::Action, attempt, until }
    }

    fn next_compensation(&self, definition: &Definition, now: Timestamp) -> Next {
        let done = definition.steps.iter().enumerate().take(self.done);
        let mut writes = done.filter(|(_, step)| step.effect == Effect::Write);
        let Some((step, description)) = writes.next_back() else { return Next::Reject };
        if let Some(until) = self.retry_at.filter(|until| now < *until) {
            return Next::Wait { until };
        }
        Next::Act {
            step,
            direction: Direction::Compensation,
            attempt: self.failures + 1,
            until: after(now, description.timeout),
        }
    }

    /// When to try `step` again after an attempt failed at `now`; none if that was the last one.
    /// `jitter`, from 0 to 1, spreads those that failed together.
    #[must_use]
    pub fn retry_at(
        &self,
        definition: &Definition,
        step: usize,
        now: Timestamp,
        jitter: f64,
    ) -> Option<Timestamp> {
        let retry = definition.steps.get(step)?.retry;
        let failures = self.failures + 1;
        (failures < retry.attempts_max).then(|| after(now, retry.pause(failures, jitter)))
    }
}

impl Retry {
    /// The pause after the `failures`-th failure: between half and all of what doubling gives.
    #[must_use]
    pub fn pause(&self, failures: u32, jitter: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        let whole = self.first.saturating_mul(doubled).min(self.longest);
        whole.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

/// The moment `duration` after `at`; the last one there is, if that is later.
#[must_use]
pub fn after(at: Timestamp, duration: Duration) -> Timestamp {
    let ns = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    Timestamp(at.0.saturating_add(ns))
}

#[cfg(test)]
mod tests;
