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
//! - The streams in [`spec`] are written here alone, and here nothing is written to streams that are
//!   another part's.
//! - No projection waits for another, nor a request for a program: each runs on a thread of its own
//!   for as long as a batch takes.

pub mod error;
pub mod figures;
pub mod host;
mod journal;
pub mod metrics;
mod place;
mod source;
pub mod spec;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;

use daybook_model::{Clock, Entropy};
use daybook_script::Script;
use daybook_store::Store;
use tokio::sync::Mutex;
use uuid::Uuid;

use error::ProjectionError;
use figures::{Figures, Shared, Status};
use host::{Halt, Running, Show};
use journal::Journal;
use spec::{Mode, Spec};

/// Projections of one node. Each that runs may need the heap of a program, and a thread.
pub const PROJECTIONS_MAX: usize = 100;

/// The projections of a node. A clone is another handle.
#[derive(Clone)]
pub struct Scripted {
    inner: Arc<Inner>,
}

struct Inner {
    journal: Journal,
    /// Held by who changes or asks.
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    by_name: BTreeMap<String, Projection>,
    stopped: bool,
}

struct Projection {
    spec: Spec,
    figures: Shared,
    running: Option<Running>,
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
                    let projection = projection(&journal, spec);
                    all.by_name.insert(projection.spec.name.clone(), projection);
                }
            }
            Err(error) => tracing::error!(%error, "projections cannot be loaded"),
        }
        Scripted { inner: Arc::new(Inner { journal, all: Mutex::new(all) }) }
    }

    /// Makes a projection, and starts it.
    ///
    /// # Errors
    /// [`ProjectionError::Exists`], [`ProjectionError::Invalid`], or why its program cannot be run.
    pub async fn create(&self, mut spec: Spec) -> Result<String, ProjectionError> {
        if spec.name.is_empty() && spec.mode != Mode::Continuous {
            spec.name = self.inner.journal.new_id().to_string();
        }
        spec::check_name(&spec.name)?;
        compiled(&spec.query).await?;
        let mut all = self.open().await?;
        if all.by_name.contains_key(&spec.name) {
            return Err(ProjectionError::Exists { name: spec.name });
        }
        if all.by_name.len() >= PROJECTIONS_MAX {
            return Err(ProjectionError::TooMany);
        }
        spec.run = self.inner.journal.new_id();
        if spec.mode == Mode::Continuous {
            self.inner.journal.create(&spec).await?;
        }
        let name = spec.name.clone();
        all.by_name.insert(name.clone(), projection(&self.inner.journal, spec));
        Ok(name)
    }

    /// Gives a projection another program. It goes on from where it is.
    ///
    /// # Errors
    /// [`ProjectionError::NotFound`], or why the program cannot be run.
    pub async fn update(&self, name: &str, change: Change) -> Result<(), ProjectionError> {
        compiled(&change.query).await?;
        self.changed(name, Halt::Save, |spec| {
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
        {
            let all = self.open().await?;
            let projection = all.by_name.get(name).ok_or_else(|| missing(name))?;
            if projection.running.is_some() && projection.figures.lock().status.goes_on() {
                return Ok(());
            }
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
        self.changed(name, Halt::Drop, |spec| {
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
        let mut all = self.open().await?;
        let found = all.by_name.get_mut(name).ok_or_else(|| missing(name))?;
        if found.spec.enabled && found.figures.lock().status == Status::Running {
            return Err(ProjectionError::Runs { name: name.to_owned() });
        }
        halt(found, Halt::Save).await;
        if found.spec.mode == Mode::Continuous {
            let script = compiled(&found.spec.query).await.ok();
            let definition = script.as_ref().map(Script::definition);
            self.inner.journal.delete(&found.spec, definition, leavings).await?;
        }
        all.by_name.remove(name);
        Ok(())
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
        let (spec, asker) = {
            let all = self.open().await?;
            let found = all.by_name.get(name).ok_or_else(|| missing(name))?;
            (found.spec.clone(), found.running.as_ref().map(Running::asker))
        };
        if let Some(asker) = asker
            && let Some(shown) = asker.show(partition, show).await
        {
            return shown;
        }
        if spec.mode != Mode::Continuous {
            return Ok(None);
        }
        self.inner.journal.clone().show(spec, partition.to_owned(), show).await
    }

    /// How the projection called `name` stands.
    ///
    /// # Errors
    /// [`ProjectionError::NotFound`]
    pub async fn figures(&self, name: &str) -> Result<(Spec, Figures), ProjectionError> {
        let all = self.inner.all.lock().await;
        let found = all.by_name.get(name).ok_or_else(|| missing(name))?;
        Ok((found.spec.clone(), found.figures.lock().clone()))
    }

    /// How all stand, by name.
    pub async fn list(&self) -> Vec<(Spec, Figures)> {
        let all = self.inner.all.lock().await;
        let each = all.by_name.values();
        each.map(|found| (found.spec.clone(), found.figures.lock().clone())).collect()
    }

    /// Stops all and starts them again.
    ///
    /// # Errors
    /// [`ProjectionError::Stopping`]
    pub async fn restart(&self) -> Result<(), ProjectionError> {
        let mut all = self.open().await?;
        for found in all.by_name.values_mut() {
            halt(found, Halt::Save).await;
            *found = projection(&self.inner.journal, found.spec.clone());
        }
        Ok(())
    }

    /// Saves where all are and stops them.
    pub async fn stop(&self) {
        let mut all = self.inner.all.lock().await;
        all.stopped = true;
        for found in all.by_name.values_mut() {
            halt(found, Halt::Save).await;
        }
    }

    /// Stops the projection called `name`, changes it, and starts it again if it is enabled.
    async fn changed(
        &self,
        name: &str,
        how: Halt,
        change: impl FnOnce(&mut Spec),
    ) -> Result<(), ProjectionError> {
        let mut all = self.open().await?;
        let found = all.by_name.get_mut(name).ok_or_else(|| missing(name))?;
        halt(found, how).await;
        let before = found.spec.clone();
        change(&mut found.spec);
        let kept = if found.spec.mode == Mode::Continuous && found.spec != before {
            self.inner.journal.put(&found.spec).await
        } else {
            Ok(())
        };
        if kept.is_err() {
            found.spec = before;
        }
        let aborted = kept.is_ok() && !found.spec.enabled && how == Halt::Drop;
        let reason = found.figures.lock().reason.clone();
        let faulted = found.figures.lock().status == Status::Faulted && !found.spec.enabled;
        *found = projection(&self.inner.journal, found.spec.clone());
        if aborted {
            found.figures.lock().status = Status::Aborted;
        }
        if faulted {
            // Why it stopped is still what an operator wants to read.
            found.figures.lock().reason = reason;
        }
        kept.map_err(Into::into)
    }

    async fn open(&self) -> Result<tokio::sync::MutexGuard<'_, All>, ProjectionError> {
        let all = self.inner.all.lock().await;
        if all.stopped { Err(ProjectionError::Stopping) } else { Ok(all) }
    }
}

/// What `spec` describes, running if it is enabled.
fn projection(journal: &Journal, spec: Spec) -> Projection {
    let figures = Shared::default();
    let running = if spec.enabled {
        Some(host::start(journal.clone(), spec.clone(), figures.clone()))
    } else {
        figures.lock().status = Status::Stopped;
        None
    };
    Projection { spec, figures, running }
}

async fn halt(found: &mut Projection, how: Halt) {
    if let Some(running) = found.running.take() {
        running.halt(how).await;
    }
}

/// Compiles `query`, off the runtime's own threads.
async fn compiled(query: &str) -> Result<Script, ProjectionError> {
    let query = query.to_owned();
    let compiled = tokio::task::spawn_blocking(move || Script::compile(&query)).await;
    let compiled = compiled.map_err(|error| ProjectionError::Panicked(error.to_string()))?;
    Ok(compiled?)
}

fn missing(name: &str) -> ProjectionError {
    ProjectionError::NotFound { name: name.to_owned() }
}

/// An id for a run of a projection.
type Run = Uuid;
