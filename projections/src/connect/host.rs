//! All connectors of a configuration, each in a task of its own.
//!
//! ```text
//!   start ──> a task a connector:  runner ──> relay ──> sink
//!                                  and the place is written when it is time to
//!   stop  ──> what is under way is finished, the places are written, the tasks end
//! ```

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daybook_client::resilience::Wiring;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::config::ConnectorSettings;
use super::control::{ConnectorStatus, Control};
use super::relay::{Relay, Shared};
use super::sink::{AnySink, SinkStopped};
use super::streams::Streams;
use crate::feed::Source;
use crate::runner::{End, Runner, Seams};

/// The wait before a connector begins anew whose place is not of the store's history.
const LOST_WAIT: Duration = Duration::from_secs(1);

/// Why connectors were not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connector {name} cannot be started: {reason}")]
pub struct StartError {
    /// The connector.
    pub name: String,
    /// Why, and what to do.
    pub reason: String,
}

/// Connectors that run until they are stopped. A clone is another handle.
pub struct Connectors<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    controls: Vec<Control<T>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    stopping: Arc<AtomicBool>,
}

impl<T> Clone for Connectors<T> {
    fn clone(&self) -> Connectors<T> {
        Connectors { inner: self.inner.clone() }
    }
}

impl<T: Streams> Connectors<T> {
    /// Starts a task for each of `settings`, which follows `source` and keeps its place in
    /// `streams`, of the same store. Must be called within a runtime.
    ///
    /// # Errors
    /// [`StartError`]; then none was started.
    pub fn start<F: Source>(
        settings: Vec<ConnectorSettings>,
        source: F,
        streams: T,
        wiring: &Wiring,
    ) -> Result<Connectors<T>, StartError> {
        let mut controls = Vec::with_capacity(settings.len());
        for one in settings {
            let sink = AnySink::new(&one.name, &one.sink, wiring);
            let sink = sink
                .map_err(|SinkStopped { reason }| StartError { name: one.name.clone(), reason })?;
            let breaker = sink.breaker();
            let shared = Arc::new(Shared::new(one, streams.clone(), sink, wiring.clone()));
            controls.push(Control { shared, breaker });
        }
        let stopping = Arc::new(AtomicBool::new(false));
        let tasks = controls.iter().map(|control| {
            let (shared, source) = (control.shared.clone(), source.clone());
            tokio::spawn(run(shared, source, stopping.clone()))
        });
        let tasks = Mutex::new(tasks.collect());
        Ok(Connectors { inner: Arc::new(Inner { controls, tasks, stopping }) })
    }

    /// The connector called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Control<T>> {
        self.inner.controls.iter().find(|control| control.name() == name)
    }

    /// All of them, in the order of the configuration.
    #[must_use]
    pub fn all(&self) -> &[Control<T>] {
        &self.inner.controls
    }

    /// How far each is.
    #[must_use]
    pub fn status(&self) -> Vec<ConnectorStatus> {
        self.inner.controls.iter().map(Control::status).collect()
    }

    /// Stops all of them: what is under way is finished, if it does not take too long, and the
    /// places are written.
    pub async fn stop(&self) {
        self.inner.stopping.store(true, Ordering::SeqCst);
        for control in &self.inner.controls {
            if let Some(handle) = &*control.shared.handle.lock() {
                handle.stop();
            }
        }
        let tasks = std::mem::take(&mut *self.inner.tasks.lock());
        for task in tasks {
            if let Err(failed) = task.await {
                tracing::error!(error = %failed, "a connector ended badly");
            }
        }
    }
}

/// Runs one connector until it is told to stop or the store closes.
async fn run<F: Source, T: Streams>(
    shared: Arc<Shared<T, AnySink>>,
    source: F,
    stopping: Arc<AtomicBool>,
) {
    let name = shared.settings.name.clone();
    loop {
        let relay = Relay::new(shared.clone(), source.clone());
        let wiring = &shared.wiring;
        let seams = Seams {
            clock: wiring.clock.clone(),
            timer: wiring.timer.clone(),
            entropy: wiring.entropy.clone(),
        };
        let (runner, handle) =
            Runner::new(&format!("connector {name}"), source.clone(), relay, seams);
        *shared.handle.lock() = Some(handle.clone());
        if stopping.load(Ordering::SeqCst) {
            handle.stop();
        }
        let mut running = pin!(runner.run());
        let end = loop {
            tokio::select! {
                end = &mut running => break end,
                () = wiring.timer.sleep(shared.settings.checkpoint.after) => shared.tick().await,
            }
        };
        match end {
            End::Told | End::Closed => break,
            End::Lost { reason } => {
                tracing::warn!(connector = name, reason, "begins anew from the store's own place");
                shared.place.lock().await.forget();
                wiring.timer.sleep(LOST_WAIT).await;
            }
        }
    }
    shared.flush().await;
}
