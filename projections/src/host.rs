//! Keeps a list of projections up to date over one backend: builds, swaps, pauses, and answers for
//! them.
//!
//! ```text
//!   generation 3, version 1   serves ──────────────── as it is ──────────────┐ removed
//!   generation 4, version 2   is built: catching up ─────────── live ── swap ┴> serves
//! ```
//!
//! A rebuild of the same version keeps the old generation advancing while the new one is built. One
//! of another version cannot be advanced by this program, and serves as it is, with its `as_of`.
//! What has been built of a history that the store has lost is dropped and built again, by whichever
//! version it was: until that has begun, or, of another version, has caught up, nothing serves.
//!
//! INVARIANTS: one task per projection decides about it, and nobody else does. A generation is
//! removed only after its runner has ended. That a projection is paused survives the process.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::backend::Backend;
use crate::feed::Source;
use crate::projection::Projection;
use crate::runner::Seams;
use crate::status::{BuildStatus, ProjectionStatus};
use crate::store::StoreError;

mod run;
mod supervisor;

use run::Shown;
use supervisor::Supervisor;

/// Orders to one projection that wait at most: people give them.
const ORDERS_MAX: usize = 16;

/// What a projection can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// To wait, also after a restart, until it is resumed.
    Pause,
    /// To go on: also after it has stopped for a reason that is mended.
    Resume,
    /// To drop everything and build it again; nothing complete serves meanwhile.
    Reset,
    /// To build it again beside what serves, and swap when it has caught up.
    Rebuild,
    /// To park the event at which it has stopped, and go on.
    Skip,
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is no such projection.
    #[error("there is no projection called '{name}'")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// It makes no sense now.
    #[error("projection {name} cannot {order}: {reason}")]
    Refused {
        /// The projection.
        name: String,
        /// What it was told.
        order: &'static str,
        /// Why, and what to do.
        reason: String,
    },
    /// The tables could not be changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The read side is stopping.
    #[error("the projections are stopping")]
    Stopping,
}

/// The projections of this process. A clone is another handle; when the last one is dropped, they
/// stop.
#[derive(Clone)]
pub struct Host {
    hosted: Arc<BTreeMap<&'static str, Hosted>>,
}

struct Hosted {
    orders: mpsc::Sender<Asked>,
    shown: Arc<RwLock<Shown>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Something a projection is told, and to whom it answers.
enum Asked {
    Do(Order, oneshot::Sender<Result<(), OrderError>>),
    Stop,
}

impl Host {
    /// Starts to keep `projections` in `backend`, fed by `source`. Needs a tokio runtime; what
    /// cannot be reached now is tried again.
    #[must_use]
    pub fn start<S: Source, B: Backend>(
        source: &S,
        backend: &B,
        projections: Vec<Arc<dyn Projection>>,
        seams: &Seams,
    ) -> Host {
        let mut hosted = BTreeMap::new();
        for projection in projections {
            let name = projection.name();
            let shown = Arc::new(RwLock::new(Shown::default()));
            let (orders, asked) = mpsc::channel(ORDERS_MAX);
            let supervisor = Supervisor::new(
                (source.clone(), backend.clone()),
                projection.clone(),
                seams.clone(),
                shown.clone(),
            );
            let task = Mutex::new(Some(tokio::spawn(supervisor.run(asked))));
            hosted.insert(name, Hosted { orders, shown, task });
            shown_version(&hosted[name], projection.version());
        }
        Host { hosted: Arc::new(hosted) }
    }

    /// The names of the projections, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.hosted.keys().copied()
    }

    /// How far a projection is; none if there is none of this name.
    #[must_use]
    pub fn status(&self, name: &str) -> Option<ProjectionStatus> {
        let (name, hosted) = self.hosted.get_key_value(name)?;
        let shown = hosted.shown.read();
        let building = shown.building.as_ref().map(|build| build.status(None));
        let head = building.as_ref().and_then(|build: &BuildStatus| build.status.head);
        let serving = shown.serving.as_ref().map(|build| build.status(head));
        Some(ProjectionStatus {
            name,
            version: shown.version,
            paused: shown.paused,
            serving,
            building,
            note: shown.note.clone(),
        })
    }

    /// How far all projections are.
    #[must_use]
    pub fn statuses(&self) -> Vec<ProjectionStatus> {
        self.names().filter_map(|name| self.status(name)).collect()
    }

    /// Tells a projection something; returns when it is done (a rebuild: when it has begun).
    ///
    /// # Errors
    /// [`OrderError`].
    pub async fn order(&self, name: &str, order: Order) -> Result<(), OrderError> {
        let Some(hosted) = self.hosted.get(name) else {
            return Err(OrderError::Unknown { name: name.to_owned() });
        };
        let (answer, answered) = oneshot::channel();
        let asked = Asked::Do(order, answer);
        hosted.orders.send(asked).await.map_err(|_| OrderError::Stopping)?;
        answered.await.map_err(|_| OrderError::Stopping)?
    }

    /// Stops all projections, each once the batch in hand is committed. Then nothing uses the
    /// source or the backend any more.
    pub async fn stop(&self) {
        for hosted in self.hosted.values() {
            // An error: it has ended already.
            let _ = hosted.orders.send(Asked::Stop).await;
        }
        for (name, hosted) in self.hosted.iter() {
            let task = hosted.task.lock().take();
            if let Some(task) = task
                && let Err(error) = task.await
            {
                tracing::error!(projection = name, "its task failed: {error}");
            }
        }
    }
}

fn shown_version(hosted: &Hosted, version: u32) {
    hosted.shown.write().version = version;
}

impl Order {
    /// The word for it, as in "cannot …".
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Order::Pause => "pause",
            Order::Resume => "resume",
            Order::Reset => "reset",
            Order::Rebuild => "rebuild",
            Order::Skip => "skip",
        }
    }
}
