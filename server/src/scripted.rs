//! Projections that users write: programs in JavaScript that follow streams or the log, fold what
//! they see into states, and may write events of their own.
//!
//! ```text
//!   gRPC, HTTP ── create, update, enable, … ──> Scripted ── specs ──────────────> journal
//!                                                  │ one task a projection
//!      the log ──> source ──> work (the program) ──┴─ host ── writes, results, ──> journal
//!                  in the     states in memory                states, place:
//!                  log's order                                ONE append
//! ```
//!
//! What a program writes, the results and states that it changed, and the place up to which it has
//! come are one atomic append to the log. So after a crash nothing is written twice, nothing is
//! missing, and nothing has to be found out; a restored backup goes on where it stands. The price is
//! that the changed states are written with each batch of writes: a program without writes of its own
//! notes its place each [`host::SAVE_EVENTS`] events or [`host::SAVE_AFTER`] instead.
//!
//! A program that throws, takes too long or too much memory stops with a reason that names the event;
//! what it did before that event counts. A store that takes no appends stops nothing: they are tried
//! again until it does.
//!
//! INVARIANTS
//! - A change is made whole although its client goes away in the middle of it.
//! - The streams in [`spec`] are written here alone, and here nothing is written to streams that are
//!   another part's.
//! - No projection waits for another, nor a request for a program: each runs on a thread of its own
//!   for as long as a batch takes.

pub mod error;
pub mod figures;
pub mod host;
mod journal;
pub mod metrics;
mod partitions;
mod place;
mod source;
pub mod spec;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use daybook_model::{Clock, Entropy};
use daybook_script::{Partitioning, Script};
use daybook_store::Store;
use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;
use uuid::Uuid;

use error::ProjectionError;
use figures::{Figures, Shared, Status};
use host::{Halt, Running, Show};
use journal::Journal;
use spec::{Mode, Spec};

/// Projections of one node. Each that runs may need the heap of a program, and a thread.
pub const PROJECTIONS_MAX: usize = 100;
/// Programs that are compiled at a time for those who ask; each may need a heap.
const COMPILING_MAX: usize = 2;

/// The projections of a node. A clone is another handle.
#[derive(Clone)]
pub struct Scripted {
    inner: Arc<Inner>,
}

struct Inner {
    journal: Journal,
    /// Held for moments alone: who changes a projection holds that one's own lock.
    all: RwLock<All>,
    /// Held by who makes or deletes one.
    listing: tokio::sync::Mutex<()>,
    compiling: Semaphore,
}

#[derive(Default)]
struct All {
    by_name: BTreeMap<String, Arc<Projection>>,
    /// Why they are not known, if they could not be loaded.
    fault: Option<String>,
    stopped: bool,
}

struct Projection {
    spec: Mutex<Spec>,
    figures: Mutex<Shared>,
    /// Held by who changes it.
    running: tokio::sync::Mutex<Option<Running>>,
    asker: Mutex<Option<host::Asker>>,
}

/// What is to be changed of a projection.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its program.
    pub query: String,
    /// Whether it may write, if that is to change.
    pub emit_enabled: Option<bool>,
}

/// What goes with a projection that is deleted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leavings {
    /// The streams it wrote to, if they were tracked.
    pub emitted_streams: bool,
    /// Its results.
    pub results: bool,
    /// Its states and its place.
    pub checkpoints: bool,
}

impl Scripted {
    /// Loads the projections that are kept in `store` and starts those that are enabled. What is
    /// wrong with one is said and stops no other.
    pub async fn start(store: Store, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Scripted {
        let journal = Journal::new(store, clock, entropy);
        let mut all = All::default();
        match journal.specs().await {
            Ok(specs) => {
                for spec in specs {
                    let (name, projection) = match spec {
                        Ok(spec) => (spec.name.clone(), Projection::of(&journal, spec)),
                        Err((name, reason)) => (name.clone(), Projection::unreadable(name, reason)),
                    };
                    all.by_name.insert(name, Arc::new(projection));
                }
            }
            Err(error) => {
                tracing::error!(%error, "projections cannot be loaded");
                all.fault = Some(error.to_string());
            }
        }
        let inner = Inner {
            journal,
            all: RwLock::new(all),
            listing: tokio::sync::Mutex::new(()),
            compiling: Semaphore::new(COMPILING_MAX),
        };
        Scripted { inner: Arc::new(inner) }
    }

    /// Makes a projection, and starts it if it is enabled. Answers its name.
    ///
    /// # Errors
    /// [`ProjectionError::Exists`], [`ProjectionError::Invalid`], or why its program cannot be run.
    pub async fn create(&self, mut spec: Spec) -> Result<String, ProjectionError> {
        let this = self.clone();
        unhurt(async move {
            if spec.name.is_empty() && spec.mode != Mode::Continuous {
                spec.name = this.inner.journal.new_id().to_string();
            }
            spec::check_name(&spec.name)?;
            this.checked(&spec.name, &spec.query).await?;
            let _listing = this.inner.listing.lock().await;
            this.check_room(&spec.name)?;
            spec.run = this.inner.journal.new_id();
            if spec.mode == Mode::Continuous {
                this.inner.journal.create(&spec).await?;
            }
            let name = spec.name.clone();
            let projection = Arc::new(Projection::of(&this.inner.journal, spec));
            this.inner.all.write().by_name.insert(name.clone(), projection);
            Ok(name)
        })
        .await
    }

    fn check_room(&self, name: &str) -> Result<(), ProjectionError> {
        let all = self.inner.all.read();
        if all.stopped {
            return Err(ProjectionError::Stopping);
        }
        if let Some(reason) = &all.fault {
            let reason =
                format!("the projections could not be loaded: {reason}; restart the server");
            return Err(ProjectionError::Invalid { reason });
        }
        if all.by_name.contains_key(name) {
            return Err(ProjectionError::Exists { name: name.to_owned() });
        }
        if all.by_name.len() >= PROJECTIONS_MAX {
            return Err(ProjectionError::TooMany);
        }
        Ok(())
    }

    /// Gives a projection another program. It goes on from where it is.
    ///
    /// # Errors
    /// [`ProjectionError::NotFound`], or why the program cannot be run.
    pub async fn update(&self, name: &str, change: Change) -> Result<(), ProjectionError> {
        self.found(name)?;
        self.checked(name, &change.query).await?;
        self.changed(name, Halt::Save, move |spec| {
            spec.query = change.query;
            spec.emit_enabled = change.emit_enabled.unwrap_or(spec.emit_enabled);
            spec.version += 1;
        })
        .await
    }

    /// Starts a projection, if it does not run. One that stopped for a reason tries again.
    ///
    /// # Errors
    /// [`ProjectionError::NotFound`]
    pub async fn enable(&self, name: &str) -> Result<(), ProjectionError> {
        let found = self.found(name)?;
        if found.spec.lock().enabled && found.figures().status.goes_on() {
            return Ok(());
        }
        self.changed(name, Halt::Save, |spec| spec.enabled = true).await
    }

    /// Stops a projection: where it is, or where it was saved last.
    ///
    /// # Errors
    /// [`ProjectionError::NotFound`]
    pub async fn disable(&self, name: &str, halt: Halt) -> Result<(), ProjectionError> {
        self.changed(name, halt, |spec| spec.enabled = false).await
    }

    /// Has a projection begin anew, with the first event.
    ///
    /// # Errors
    /// [`ProjectionError::NotFound`]
    pub async fn reset(&self, name: &str) -> Result<(), ProjectionError> {
        let run = self.inner.journal.new_id();
        self.changed(name, Halt::Drop, move |spec| {
            spec.run = run;
            spec.epoch += 1;
        })
        .await
    }

    /// Deletes a projection that does not run.
    ///
    /// # Errors
    /// [`ProjectionError::NotFound`], [`ProjectionError::Runs`]
    pub async fn delete(&self, name: &str, leavings: Leavings) -> Result<(), ProjectionError> {
        let (this, name) = (self.clone(), name.to_owned());
        unhurt(async move {
            let found = this.found(&name)?;
            let mut running = found.running.lock().await;
            this.still(&name, &found)?;
            let spec = found.spec.lock().clone();
            if spec.enabled && found.figures().status == Status::Running {
                return Err(ProjectionError::Runs { name });
            }
            found.halt(&mut running, Halt::Save).await;
            if spec.mode == Mode::Continuous {
                let script = this.compiled(&spec.query).await.ok();
                let definition = script.as_ref().map(Script::definition);
                let _listing = this.inner.listing.lock().await;
                this.inner.journal.delete(&spec, definition, leavings).await?;
            }
            this.inner.all.write().by_name.remove(&name);
            Ok(())
        })
        .await
    }

    /// The state of a partition, or what the program makes of it: JSON; none if there is none.
    ///
    /// # Errors
    /// [`ProjectionError::NotFound`], or why it cannot be told.
    pub async fn show(
        &self,
        name: &str,
        partition: &str,
        show: Show,
    ) -> Result<Option<String>, ProjectionError> {
        let found = self.found(name)?;
        let asker = found.asker.lock().clone();
        if let Some(asker) = asker
            && let Some(shown) = asker.show(partition, show).await
        {
            return shown;
        }
        let spec = found.spec.lock().clone();
        if spec.mode != Mode::Continuous {
            return Ok(None);
        }
        let saved = self.inner.journal.saved_state(&spec, partition).await?;
        let (Some(state), Show::Result) = (&saved, show) else { return Ok(saved) };
        let mut script = self.compiled(&spec.query).await?;
        if partition.is_empty() && script.definition().partitioning != Partitioning::None {
            return Ok(saved);
        }
        let (partition, state) = (partition.to_owned(), state.clone());
        let shown = tokio::task::spawn_blocking(move || {
            script.load(&partition, Some(&state))?;
            script.result(&partition)
        });
        let shown = shown.await.map_err(|error| ProjectionError::Panicked(error.to_string()))?;
        Ok(shown?)
    }

    /// How the projection called `name` stands.
    ///
    /// # Errors
    /// [`ProjectionError::NotFound`]
    pub fn figures(&self, name: &str) -> Result<(Spec, Figures), ProjectionError> {
        let found = self.found(name)?;
        let spec = found.spec.lock().clone();
        Ok((spec, found.figures()))
    }

    /// How all stand, by name.
    #[must_use]
    pub fn list(&self) -> Vec<(Spec, Figures)> {
        let all: Vec<_> = self.inner.all.read().by_name.values().cloned().collect();
        all.iter().map(|found| (found.spec.lock().clone(), found.figures())).collect()
    }

    /// Stops all and starts them again.
    ///
    /// # Errors
    /// [`ProjectionError::Stopping`]
    pub async fn restart(&self) -> Result<(), ProjectionError> {
        let names: Vec<String> = self.inner.all.read().by_name.keys().cloned().collect();
        for name in names {
            match self.changed(&name, Halt::Save, |_| {}).await {
                // Somebody deleted it meanwhile; or it cannot be read, and says so already.
                Ok(())
                | Err(ProjectionError::NotFound { .. } | ProjectionError::Invalid { .. }) => {}
                Err(failed) => return Err(failed),
            }
        }
        Ok(())
    }

    /// Saves where all are and stops them.
    pub async fn stop(&self) {
        let all: Vec<_> = {
            let mut all = self.inner.all.write();
            all.stopped = true;
            all.by_name.values().cloned().collect()
        };
        join_all(all.iter().map(|found| async {
            let mut running = found.running.lock().await;
            found.halt(&mut running, Halt::Save).await;
        }))
        .await;
    }

    /// Stops the projection called `name`, changes it, and starts it again if it is enabled.
    async fn changed(
        &self,
        name: &str,
        how: Halt,
        change: impl FnOnce(&mut Spec) + Send + 'static,
    ) -> Result<(), ProjectionError> {
        let (this, found, name) = (self.clone(), self.found(name)?, name.to_owned());
        unhurt(async move {
            let mut running = found.running.lock().await;
            this.still(&name, &found)?;
            // What is kept of it cannot be read: nothing may be written in its place.
            if found.spec.lock().run.is_nil() {
                return Err(ProjectionError::Invalid { reason: found.figures().reason });
            }
            found.halt(&mut running, how).await;
            let before = found.spec.lock().clone();
            let mut after = before.clone();
            change(&mut after);
            let kept = if after.mode == Mode::Continuous && after != before {
                this.inner.journal.put(&after).await
            } else {
                Ok(())
            };
            let spec = if kept.is_ok() { after } else { before };
            if this.inner.all.read().stopped {
                return Err(ProjectionError::Stopping);
            }
            found.begin(&mut running, &this.inner.journal, spec, how);
            Ok(kept?)
        })
        .await
    }

    fn found(&self, name: &str) -> Result<Arc<Projection>, ProjectionError> {
        let all = self.inner.all.read();
        if all.stopped {
            return Err(ProjectionError::Stopping);
        }
        let found = all.by_name.get(name).cloned();
        found.ok_or_else(|| ProjectionError::NotFound { name: name.to_owned() })
    }

    /// Refuses if `found` was deleted while somebody waited for it: it must not begin again.
    fn still(&self, name: &str, found: &Arc<Projection>) -> Result<(), ProjectionError> {
        let listed = self.found(name)?;
        if Arc::ptr_eq(&listed, found) {
            return Ok(());
        }
        Err(ProjectionError::NotFound { name: name.to_owned() })
    }

    /// Compiles the program of the projection called `name`, and checks what it says of itself.
    async fn checked(&self, name: &str, query: &str) -> Result<(), ProjectionError> {
        let script = self.compiled(query).await?;
        spec::check_definition(name, script.definition())
    }

    /// Compiles `query`, off the runtime's own threads.
    async fn compiled(&self, query: &str) -> Result<Script, ProjectionError> {
        let _one_of_few = self.inner.compiling.acquire().await;
        let query = query.to_owned();
        let compiled = tokio::task::spawn_blocking(move || Script::compile(&query)).await;
        let compiled = compiled.map_err(|error| ProjectionError::Panicked(error.to_string()))?;
        Ok(compiled?)
    }
}

impl Projection {
    /// What `spec` describes, running if it is enabled.
    fn of(journal: &Journal, spec: Spec) -> Projection {
        let projection = Projection {
            spec: Mutex::new(spec.clone()),
            figures: Mutex::default(),
            running: tokio::sync::Mutex::new(None),
            asker: Mutex::new(None),
        };
        let mut running = None;
        projection.begin(&mut running, journal, spec, Halt::Save);
        Projection { running: tokio::sync::Mutex::new(running), ..projection }
    }

    /// One of which only its name is known.
    fn unreadable(name: String, reason: String) -> Projection {
        tracing::error!(name, reason, "a projection cannot be loaded");
        let spec = Spec::new(name, Mode::Continuous, String::new());
        let figures = Figures { status: Status::Faulted, reason, ..Figures::default() };
        Projection {
            spec: Mutex::new(spec),
            figures: Mutex::new(Arc::new(Mutex::new(figures))),
            running: tokio::sync::Mutex::new(None),
            asker: Mutex::new(None),
        }
    }

    fn figures(&self) -> Figures {
        let shared = self.figures.lock().clone();
        let figures = shared.lock();
        figures.clone()
    }

    async fn halt(&self, running: &mut Option<Running>, how: Halt) {
        *self.asker.lock() = None;
        if let Some(running) = running.take() {
            running.halt(how).await;
        }
    }

    /// Takes up `spec`, and starts it if it is enabled; it was stopped as `how` says.
    fn begin(&self, running: &mut Option<Running>, journal: &Journal, spec: Spec, how: Halt) {
        let before = self.figures();
        let figures = Shared::default();
        if spec.enabled {
            let started = host::start(journal.clone(), spec.clone(), figures.clone());
            *self.asker.lock() = Some(started.asker());
            *running = Some(started);
        } else {
            let mut stopped = figures.lock();
            stopped.status = if how == Halt::Drop { Status::Aborted } else { Status::Stopped };
            // Why it had stopped is still what an operator wants to read.
            stopped.reason = before.reason;
            stopped.place = before.saved;
            stopped.saved = before.saved;
        }
        *self.spec.lock() = spec;
        *self.figures.lock() = figures;
    }
}

/// Does `work` to its end, also when who asked for it has gone: a change that was cut in two would be
/// kept and not done, or done and not kept.
async fn unhurt<T: Send + 'static>(
    work: impl Future<Output = Result<T, ProjectionError>> + Send + 'static,
) -> Result<T, ProjectionError> {
    let done = tokio::spawn(work).await;
    done.map_err(|error| ProjectionError::Panicked(error.to_string()))?
}

/// An id for a run of a projection.
type Run = Uuid;
