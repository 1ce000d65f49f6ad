//! One projection that runs: a task that has its program step, writes what comes of it, and answers.
//!
//! INVARIANT: obeys between two steps, so that a program that is busy keeps nobody waiting for long;
//! the program itself is on a thread of its own while it steps.

use std::ops::ControlFlow;
use std::time::Duration;

use daybook_model::Position;
use daybook_store::AppendError;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::error::ProjectionError;
use super::figures::{Shared, Status};
use super::journal::{Draft, Journal};
use super::spec::{Mode, Spec};
use super::work::{Fault, Kind, Pace, Step, Work, unread};

/// Events after which a place is saved, if nothing else is to be written. As in KurrentDB.
pub const SAVE_EVENTS: u64 = 4_000;
/// Time after which one is saved, if any event was handled.
pub const SAVE_AFTER: Duration = Duration::from_secs(5);
/// Bytes of states a second that are written at most, unless much waits to be written: a large state
/// that changes with each event must not become a flood.
const STATES_RATE: u64 = 8 * 1024 * 1024;
/// Events of the log passed over after which a place is saved: they are not looked through again.
const SAVE_PASSED: u64 = 100_000;
/// Between two attempts to write to a store that takes nothing now.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Commands that may wait.
const MAILBOX_SIZE: usize = 64;
/// How long a program that is stepping may keep somebody who stops it waiting. Far beyond what one
/// event may take; there are loops inside of the engine that it cannot interrupt.
const HALT_WAIT_MAX: Duration = Duration::from_secs(5);

/// What is to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// The state.
    State,
    /// What the program makes of it.
    Result,
}

/// How a projection stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Where it is, which is saved.
    Save,
    /// Where it was saved last.
    Drop,
}

type Shown = Result<Option<String>, ProjectionError>;

enum Command {
    Show { partition: String, show: Show, answer: oneshot::Sender<Shown> },
    Halt(Halt),
}

/// A projection that runs.
pub struct Running {
    mailbox: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

/// Asks a projection that runs.
#[derive(Clone)]
pub struct Asker {
    mailbox: mpsc::Sender<Command>,
}

impl Running {
    /// Who asks it.
    #[must_use]
    pub fn asker(&self) -> Asker {
        Asker { mailbox: self.mailbox.clone() }
    }

    /// Stops it and waits until it has, or for `HALT_WAIT_MAX`.
    pub async fn halt(self, how: Halt) {
        let halted = async {
            // One that ended by itself has no mailbox any more.
            let _ = self.mailbox.send(Command::Halt(how)).await;
            self.task.await
        };
        match tokio::time::timeout(HALT_WAIT_MAX, halted).await {
            Ok(Ok(())) => {}
            Ok(Err(failed)) => tracing::error!(error = %failed, "a projection ended badly"),
            // Should it write once more, who came after it finds another checkpoint and begins again.
            Err(_) => tracing::error!("a projection's program does not stop; it is left alone"),
        }
    }
}

impl Asker {
    /// What it shows; none if it ended, or is about to begin again.
    pub async fn show(&self, partition: &str, show: Show) -> Option<Shown> {
        let (answer, shown) = oneshot::channel();
        let partition = partition.to_owned();
        self.mailbox.send(Command::Show { partition, show, answer }).await.ok()?;
        shown.await.ok()
    }
}

/// Starts the projection `spec`; how it stands is told to `figures`.
pub fn start(journal: Journal, spec: Spec, figures: Shared) -> Running {
    let (mailbox, commands) = mpsc::channel(MAILBOX_SIZE);
    let (saved_at, rests_until) = (Duration::ZERO, Duration::ZERO);
    let host = Host { journal, spec, figures, commands, work: None, saved_at, rests_until };
    Running { mailbox, task: tokio::spawn(host.run()) }
}

struct Host {
    journal: Journal,
    spec: Spec,
    figures: Shared,
    commands: mpsc::Receiver<Command>,
    /// None while it steps, and between two attempts.
    work: Option<Box<Work>>,
    saved_at: Duration,
    /// Until then what waits to be written may wait for more.
    rests_until: Duration,
}

/// How far to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// On and on.
    Freely,
    /// Event by event until past this place: one of those before it is not taken.
    Singly(Position),
    /// Up to before this place.
    Before(Position),
}

/// Why a host ends.
enum End {
    Halted,
    /// It came to where it was to stop.
    Reached,
    Faulted(Fault),
}

impl Host {
    /// Follows until it is stopped, or until there is an event that it cannot get past.
    async fn run(mut self) {
        let mut how = How::Freely;
        let mut verdict: Option<Fault> = None;
        let mut out_of_memory_at = None;
        loop {
            self.work = None;
            let end = match self.followed(how).await {
                Ok(end) => end,
                Err(fault) => End::Faulted(fault),
            };
            let fault = match end {
                End::Halted => return,
                End::Reached => break,
                End::Faulted(fault) => fault,
            };
            let saved = self.work.as_ref().map_or(Position(u64::MAX), |work| work.saved);
            match (fault.kind, fault.at, how) {
                (Kind::Store, ..) => {
                    self.figures.lock().reason = format!("tries again: {}", fault.reason);
                    if self.rest().await.is_break() {
                        return;
                    }
                }
                // The states of many partitions fill the heap; begun again it has those it needs.
                (Kind::Memory, at, _) if out_of_memory_at != Some(at) => {
                    out_of_memory_at = Some(at);
                }
                (Kind::Refused, Some(at), How::Freely) => how = How::Singly(at),
                // Another one, far behind the first.
                (Kind::Refused, Some(at), How::Singly(past)) if at > past => how = How::Singly(at),
                // What was done before the event counts: it is done again and saved.
                (Kind::Program | Kind::Memory, Some(at), How::Freely | How::Singly(_))
                    if self.spec.mode == Mode::Continuous && saved < at =>
                {
                    verdict = Some(fault);
                    how = How::Before(at);
                }
                _ => {
                    verdict.get_or_insert(fault);
                    break;
                }
            }
        }
        let reason = verdict.map(|fault| fault.reason).unwrap_or_default();
        tracing::error!(projection = self.spec.name, reason, "a projection stopped");
        let mut figures = self.figures.lock();
        figures.status = Status::Faulted;
        figures.reason = reason;
    }

    /// Opens the program and has it follow what it follows.
    async fn followed(&mut self, how: How) -> Result<End, Fault> {
        let (journal, spec) = (self.journal.clone(), self.spec.clone());
        let opened = tokio::task::spawn_blocking(move || Work::open(journal, spec)).await;
        let opened = opened.map_err(|error| panicked(&error))?;
        let mut work = opened.map_err(|error| not_opened(&error))?;
        match how {
            How::Freely => {}
            How::Singly(_) => work.go(Pace::Singly),
            How::Before(position) => work.stop_before(position),
        }
        self.work = Some(Box::new(work));
        self.saved_at = self.journal.clock().monotonic();
        loop {
            while let Ok(command) = self.commands.try_recv() {
                if self.obey(command).await?.is_break() {
                    return Ok(End::Halted);
                }
            }
            let step = self.with(Work::step).await??;
            self.tell(step);
            let past = self.singly(how);
            if (past.is_some() || self.is_due(step)) && self.save().await?.is_break() {
                return Ok(End::Halted);
            }
            if step == Step::More {
                continue;
            }
            if let How::Before(_) = how {
                let saved = self.save().await?;
                return Ok(if saved.is_break() { End::Halted } else { End::Reached });
            }
            if self.spec.mode == Mode::OneTime {
                self.figures.lock().status = Status::Completed;
                return self.answer().await;
            }
            if self.wait().await?.is_break() {
                return Ok(End::Halted);
            }
        }
    }

    /// Whether it still goes event by event; once it is past where that is needed, no more.
    fn singly(&mut self, how: How) -> Option<()> {
        let How::Singly(past) = how else { return None };
        let work = self.work.as_mut().expect("no step is under way");
        if work.place().position() > past {
            work.go(Pace::Freely);
            return None;
        }
        Some(())
    }

    /// Waits a little before it tries again.
    async fn rest(&mut self) -> ControlFlow<()> {
        let again = tokio::time::sleep(RETRY_AFTER);
        tokio::pin!(again);
        loop {
            tokio::select! {
                () = &mut again => return ControlFlow::Continue(()),
                command = self.commands.recv() => match command {
                    Some(Command::Halt(how)) => {
                        self.halted(how);
                        return ControlFlow::Break(());
                    }
                    // What was saved is shown instead.
                    Some(Command::Show { .. }) => {}
                    None => return ControlFlow::Break(()),
                },
            }
        }
    }

    /// Waits for a command, for events, or for the time to save.
    async fn wait(&mut self) -> Result<ControlFlow<()>, Fault> {
        let now = self.journal.clock().monotonic();
        let work = self.work.as_mut().expect("no step is under way");
        let owes = self.spec.mode == Mode::Continuous && work.unsaved > 0;
        let due = if work.unwritten() > 0 { self.rests_until } else { self.saved_at + SAVE_AFTER };
        let left = due.saturating_sub(now);
        let command = tokio::select! {
            command = self.commands.recv() => command,
            waited = work.source().wait() => {
                waited.map_err(|failed| unread(&failed))?;
                return Ok(ControlFlow::Continue(()));
            }
            () = tokio::time::sleep(left), if owes => return self.save().await,
        };
        match command {
            Some(command) => self.obey(command).await,
            None => Ok(ControlFlow::Break(())),
        }
    }

    /// Answers until it is stopped.
    async fn answer(&mut self) -> Result<End, Fault> {
        while let Some(command) = self.commands.recv().await {
            if self.obey(command).await?.is_break() {
                break;
            }
        }
        Ok(End::Halted)
    }

    async fn obey(&mut self, command: Command) -> Result<ControlFlow<()>, Fault> {
        match command {
            Command::Show { partition, show, answer } => {
                let shown = self
                    .with(move |work| match show {
                        Show::State => work.state(&partition),
                        Show::Result => work.result(&partition),
                    })
                    .await?;
                // Who asked may have gone.
                let _ = answer.send(shown);
                Ok(ControlFlow::Continue(()))
            }
            Command::Halt(how) => {
                if how == Halt::Save {
                    self.save_once().await?;
                }
                self.halted(how);
                Ok(ControlFlow::Break(()))
            }
        }
    }

    fn halted(&self, how: Halt) {
        self.figures.lock().status =
            if how == Halt::Save { Status::Stopped } else { Status::Aborted };
    }

    fn is_due(&self, step: Step) -> bool {
        let work = self.work.as_ref().expect("no step is under way");
        if self.spec.mode != Mode::Continuous {
            return false;
        }
        let now = self.journal.clock().monotonic();
        let waits = now.saturating_sub(self.saved_at) >= SAVE_AFTER;
        work.is_full()
            || (step == Step::CaughtUp && work.unwritten() > 0 && now >= self.rests_until)
            || work.unsaved >= SAVE_EVENTS
            || work.place().position().0 - work.saved.0 >= SAVE_PASSED
            || (waits && work.unsaved > 0)
    }

    /// Writes what waits to be written; tries until the store takes it.
    async fn save(&mut self) -> Result<ControlFlow<()>, Fault> {
        let Some(draft) = self.draft().await? else { return Ok(ControlFlow::Continue(())) };
        loop {
            match self.journal.commit(&self.spec, &draft).await {
                Ok(revision) => {
                    self.saved_at = self.journal.clock().monotonic();
                    let rest = draft.states_size() as u64 * 1_000_000 / STATES_RATE;
                    self.rests_until = self.saved_at + Duration::from_micros(rest);
                    self.with(move |work| work.saved(&draft, revision)).await??;
                    self.tell_saved();
                    return Ok(ControlFlow::Continue(()));
                }
                Err(failed) if may_pass(&failed) => {
                    self.figures.lock().reason = format!("waits to write: {failed}");
                    // What cannot be written now is done again later.
                    if self.rest().await.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                Err(failed) => return Err(self.unwritten(&failed)),
            }
        }
    }

    /// As [`Host::save`], at the end: one attempt.
    async fn save_once(&mut self) -> Result<(), Fault> {
        let Some(draft) = self.draft().await? else { return Ok(()) };
        match self.journal.commit(&self.spec, &draft).await {
            Ok(revision) => {
                self.with(move |work| work.saved(&draft, revision)).await??;
                self.tell_saved();
            }
            Err(failed) => {
                let projection = self.spec.name.as_str();
                tracing::warn!(projection, %failed, "a projection could not save its place");
            }
        }
        Ok(())
    }

    async fn draft(&mut self) -> Result<Option<Draft>, Fault> {
        let work = self.work.as_ref().expect("no step is under way");
        let moved = work.place().position() > work.saved;
        if self.spec.mode != Mode::Continuous || (work.unsaved == 0 && !moved) {
            return Ok(None);
        }
        self.with(Work::draft).await?.map(Some)
    }

    /// Does `what` with the program, on a thread that may wait.
    async fn with<T: Send + 'static>(
        &mut self,
        what: impl FnOnce(&mut Work) -> T + Send + 'static,
    ) -> Result<T, Fault> {
        let mut work = self.work.take().expect("no step is under way");
        let done = tokio::task::spawn_blocking(move || {
            let done = what(&mut work);
            (work, done)
        });
        let (work, done) = done.await.map_err(|error| panicked(&error))?;
        self.work = Some(work);
        Ok(done)
    }

    fn tell(&mut self, step: Step) {
        let work = self.work.as_mut().expect("no step is under way");
        let mut figures = self.figures.lock();
        figures.place = work.place().position;
        figures.caught_up = step == Step::CaughtUp;
        figures.handled = work.handled;
        figures.partitions = work.partitions();
        figures.buffered = work.source().buffered();
        figures.unwritten = work.unwritten();
        figures.reason.clear();
    }

    fn tell_saved(&self) {
        let work = self.work.as_ref().expect("no step is under way");
        let mut figures = self.figures.lock();
        figures.saved = work.saved.0;
        figures.written = work.written;
        figures.unwritten = 0;
        figures.reason.clear();
    }

    /// What the store will not take, whenever it is asked.
    fn unwritten(&self, failed: &AppendError) -> Fault {
        let work = self.work.as_ref().expect("no step is under way");
        let kind = match failed {
            AppendError::Read { .. }
            | AppendError::Closed { .. }
            | AppendError::Unknown { .. }
            | AppendError::WrongExpectedRevision { .. } => Kind::Store,
            _ => Kind::Refused,
        };
        let reason = work.of_last(&format!("what it writes is not taken: {failed}"));
        Fault { kind, at: Some(work.place().position()), reason }
    }
}

/// Whether a store that refused may take the same later.
fn may_pass(failed: &AppendError) -> bool {
    matches!(
        failed,
        AppendError::Overloaded { .. }
            | AppendError::DiskFull { .. }
            | AppendError::ClockLeapt { .. }
    )
}

fn not_opened(error: &ProjectionError) -> Fault {
    let kind = match error {
        ProjectionError::Read(_) => Kind::Store,
        _ => Kind::Program,
    };
    Fault { kind, at: None, reason: error.to_string() }
}

fn panicked(error: &tokio::task::JoinError) -> Fault {
    let reason = ProjectionError::Panicked(error.to_string()).to_string();
    Fault { kind: Kind::Program, at: None, reason }
}
