//! A generation that is advanced, and what is told of it.

use daybook_client::Checkpoint;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

use crate::build::Skip;
use crate::runner::{End, Handle};
use crate::status::{BuildStatus, State, Status};
use crate::store::Generation;

/// What is told of a projection.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) version: u32,
    pub(super) paused: bool,
    pub(super) serving: Option<ShownBuild>,
    pub(super) building: Option<ShownBuild>,
    pub(super) note: Option<String>,
}

/// What is told of a generation.
#[derive(Debug)]
pub(super) struct ShownBuild {
    pub(super) generation: Generation,
    /// None if it is not advanced.
    pub(super) status: Option<watch::Receiver<Status>>,
}

impl ShownBuild {
    /// Its status; `head` is what is known of the log's end if it does not know itself.
    pub(super) fn status(&self, head: Option<Checkpoint>) -> BuildStatus {
        let status = match &self.status {
            Some(status) => status.borrow().clone(),
            None => Status {
                state: State::Outdated,
                checkpoint: self.generation.checkpoint,
                head,
                ..Status::starting()
            },
        };
        let (generation, version) = (self.generation.number, self.generation.version);
        BuildStatus { generation, version, status }
    }
}

/// A generation that is advanced.
pub(super) struct Run {
    pub(super) generation: Generation,
    pub(super) handle: Handle,
    pub(super) skip: Skip,
    pub(super) task: JoinHandle<End>,
    /// Whether it was seen that the task has ended.
    pub(super) ended: bool,
}

impl Run {
    /// Has it end, and waits for that.
    pub(super) async fn end(self) {
        self.handle.stop();
        if !self.ended
            && let Err(error) = self.task.await
        {
            tracing::error!("a runner failed: {error}");
        }
    }
}

/// Waits until a run has ended by itself: the number of its generation, and how. It stays, so that
/// its last status can be seen; waits for ever if there is none, or it has been waited for.
pub(super) async fn ended(run: &mut Option<Run>) -> (u32, Result<End, JoinError>) {
    match run {
        Some(run) if !run.ended => {
            let end = (&mut run.task).await;
            run.ended = true;
            (run.generation.number, end)
        }
        _ => std::future::pending().await,
    }
}

/// Waits until a run has caught up; for ever if there is none, or it ends before.
pub(super) async fn caught_up(run: Option<watch::Receiver<Status>>) {
    if let Some(mut status) = run
        && status.wait_for(|status| status.state == State::Live).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
