//! The task that decides about one projection.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::mpsc;
use tokio::task::JoinError;

use super::run::{Run, Shown, ShownBuild, caught_up, ended};
use super::{Asked, Order, OrderError};
use crate::backend::Backend;
use crate::build::Build;
use crate::feed::{FeedError, Source};
use crate::projection::Projection;
use crate::query::QueryError;
use crate::runner::{End, Runner, Seams};
use crate::store::{Generation, StoreError};

/// The wait before another attempt when the tables cannot be reached or a runner failed.
const RETRY_WAIT: Duration = Duration::from_secs(2);

/// How long the source may take to say whether a place is of its history.
const PLACE_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long a swap waits for the new generation to be where the old one was.
const SWAP_WAIT_MAX: Duration = Duration::from_secs(10);

pub(super) struct Supervisor<S, B> {
    source: S,
    backend: B,
    projection: Arc<dyn Projection>,
    seams: Seams,
    shown: Arc<RwLock<Shown>>,
    paused: bool,
    /// What serves, if it is of this version.
    serving: Option<Run>,
    /// What serves, if it is of another version.
    outdated: Option<Generation>,
    building: Option<Run>,
}

/// What came up.
enum Turn {
    Asked(Option<Asked>),
    Ended(u32, Result<End, JoinError>),
    CaughtUp,
}

impl<S: Source, B: Backend> Supervisor<S, B> {
    pub(super) fn new(
        (source, backend): (S, B),
        projection: Arc<dyn Projection>,
        seams: Seams,
        shown: Arc<RwLock<Shown>>,
    ) -> Supervisor<S, B> {
        Supervisor {
            source,
            backend,
            projection,
            seams,
            shown,
            paused: false,
            serving: None,
            outdated: None,
            building: None,
        }
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(mut self, mut asked: mpsc::Receiver<Asked>) {
        let mut ready = false;
        loop {
            if !ready {
                ready = match self.set_up().await {
                    Ok(()) => true,
                    Err(error) => {
                        self.note(format!("waits: {error}"));
                        self.stop_runs().await;
                        false
                    }
                };
                self.show();
            }
            let retry = self.seams.timer.sleep(RETRY_WAIT);
            let building = self.building.as_ref().map(|run| run.handle.watch());
            let turn = tokio::select! {
                biased;
                asked = asked.recv() => Turn::Asked(asked),
                (number, end) = ended(&mut self.serving) => Turn::Ended(number, end),
                (number, end) = ended(&mut self.building) => Turn::Ended(number, end),
                () = caught_up(building) => Turn::CaughtUp,
                () = retry, if !ready => continue,
            };
            match turn {
                Turn::Asked(None | Some(Asked::Stop)) => return self.stop_runs().await,
                Turn::Asked(Some(Asked::Do(order, answer))) => {
                    let done = self.obey(order).await;
                    if matches!(order, Order::Reset) {
                        ready = false;
                    }
                    self.show();
                    // Whoever asked may have gone.
                    let _ = answer.send(done);
                }
                Turn::Ended(number, end) => ready = self.after(number, end).await,
                Turn::CaughtUp => {
                    if let Err(error) = self.swap().await {
                        self.note(format!("cannot swap: {error}"));
                        self.stop_runs().await;
                        ready = false;
                        self.seams.timer.sleep(RETRY_WAIT).await;
                    }
                    self.show();
                }
            }
        }
    }

    /// Finds what is there, makes what is missing, and starts to advance it.
    async fn set_up(&mut self) -> Result<(), StoreError> {
        let (name, version) = (self.projection.name(), self.projection.version());
        let mut known = self.backend.generations(name).await?;
        self.drop_lost(&mut known).await?;
        self.paused = known.iter().any(|generation| generation.paused) || self.paused;
        let serving = known.iter().rfind(|generation| generation.serving).cloned();
        let building = known.iter().rfind(|generation| {
            !generation.serving
                && generation.version == version
                && serving.as_ref().is_none_or(|serving| generation.number > serving.number)
        });
        let building = building.cloned();
        let kept = [serving.as_ref(), building.as_ref()];
        for other in &known {
            if !kept.iter().flatten().any(|kept| kept.number == other.number) {
                self.backend.remove(name, other.number).await?;
            }
        }
        match serving {
            Some(serving) if serving.version == version => {
                self.serving = Some(self.start(serving));
                self.building = building.map(|building| self.start(building));
            }
            serving => {
                let building = match building {
                    Some(building) => building,
                    None => self.create().await?,
                };
                let run = self.start(building);
                if run.generation.serving {
                    self.serving = Some(run);
                } else {
                    self.building = Some(run);
                }
                self.outdated = serving;
            }
        }
        Ok(())
    }

    /// Drops what serves by another version if its rows are of a history that the store has lost.
    /// Nobody follows the log for it, so nobody else would notice; and who asks for a position of
    /// now would be shown rows of then.
    async fn drop_lost(&mut self, known: &mut Vec<Generation>) -> Result<(), StoreError> {
        let (name, version) = (self.projection.name(), self.projection.version());
        let serving = known.iter().rfind(|generation| generation.serving);
        let Some(outdated) = serving.filter(|serving| serving.version != version) else {
            return Ok(());
        };
        let Some(place) = outdated.checkpoint else { return Ok(()) };
        let said = tokio::select! {
            biased;
            said = self.source.time_at(place) => said,
            () = self.seams.timer.sleep(PLACE_WAIT_MAX) => {
                let reason = format!("no answer within {PLACE_WAIT_MAX:?}");
                Err(FeedError::Interrupted { reason })
            }
        };
        match said {
            Err(lost @ FeedError::Rewound { .. }) => {
                let number = outdated.number;
                self.note(format!("is built again from the first event: {lost}"));
                self.backend.remove(name, number).await?;
                known.retain(|generation| generation.number != number);
                Ok(())
            }
            Err(FeedError::Interrupted { reason }) => {
                let action =
                    format!("find out whether the store still has what {name} was made of");
                Err(StoreError { action, reason, transient: true })
            }
            // Whoever follows it will say what is wrong.
            Ok(_) | Err(FeedError::Closed | FeedError::Refused { .. }) => Ok(()),
        }
    }

    /// Makes a generation of this version.
    async fn create(&mut self) -> Result<Generation, StoreError> {
        let number = self.backend.create(&*self.projection).await?;
        let known = self.backend.generations(self.projection.name()).await?;
        known.into_iter().find(|generation| generation.number == number).ok_or_else(|| StoreError {
            action: format!("find generation {number} of {}", self.projection.name()),
            reason: "it was made, and is not there".to_owned(),
            transient: true,
        })
    }

    /// Starts to advance a generation.
    fn start(&self, generation: Generation) -> Run {
        let build = Build::new(
            self.backend.clone(),
            self.projection.clone(),
            generation.number,
            self.seams.clock.clone(),
        );
        let skip = build.skip();
        let name = format!("{}/{}", self.projection.name(), generation.number);
        let (runner, handle) = Runner::new(&name, self.source.clone(), build, self.seams.clone());
        let runner = runner.at(generation.checkpoint);
        if self.paused {
            handle.pause();
        }
        let task = tokio::spawn(runner.run());
        Run { generation, handle, skip, task, ended: false }
    }

    async fn obey(&mut self, order: Order) -> Result<(), OrderError> {
        let name = self.projection.name();
        match order {
            Order::Pause | Order::Resume => {
                let paused = order == Order::Pause;
                self.backend.set_paused(name, paused).await?;
                self.paused = paused;
                for run in self.runs() {
                    if paused { run.handle.pause() } else { run.handle.resume() }
                }
            }
            Order::Reset => {
                self.stop_runs().await;
                self.remove_all().await?;
                self.note("was reset".to_owned());
            }
            Order::Rebuild => {
                if self.building.is_some() {
                    let reason = "it is being built already; wait for it, or reset it";
                    return Err(self.refused(order, reason));
                }
                if self.serving.is_none() && self.outdated.is_none() {
                    return Err(self.refused(order, "nothing of it is there yet"));
                }
                let generation = self.create().await?;
                self.building = Some(self.start(generation));
                self.note("is built again beside what serves".to_owned());
            }
            Order::Skip => {
                let at = |run: &&Run| run.handle.status().poisoned.is_some();
                let Some(run) = self.runs().find(at) else {
                    return Err(self.refused(order, "it has not stopped at an event"));
                };
                if let Some(position) = run.handle.status().poisoned {
                    run.skip.set(position);
                    run.handle.resume();
                }
            }
        }
        Ok(())
    }

    /// Lets the new generation serve; the old one is removed.
    async fn swap(&mut self) -> Result<(), StoreError> {
        let Some(building) = &self.building else { return Ok(()) };
        let number = building.generation.number;
        let mut status = building.handle.watch();
        if let Some(old) = self.serving.take() {
            old.end().await;
            // Whoever has seen the old one at some place is not shown an earlier one.
            let place = match self.backend.reached(self.projection.name()).await {
                Ok(place) => place,
                Err(QueryError::NotReady { .. }) => None,
                Err(QueryError::Store(error)) => return Err(error),
            };
            let there = status.wait_for(|status| status.checkpoint >= place);
            let behind = tokio::select! {
                biased;
                there = there => there.err().map(|_| "its runner ended before it was there"),
                () = self.seams.timer.sleep(SWAP_WAIT_MAX) => {
                    Some("it fell behind the one that serves")
                }
            };
            if let Some(reason) = behind {
                let action = format!("serve generation {number} of {}", self.projection.name());
                return Err(StoreError { action, reason: reason.to_owned(), transient: true });
            }
        }
        self.backend.serve(self.projection.name(), number).await?;
        self.outdated = None;
        if let Some(mut run) = self.building.take() {
            run.generation.serving = true;
            self.serving = Some(run);
        }
        self.note(format!("generation {number} has caught up and serves"));
        Ok(())
    }

    /// What follows when the runner of a generation has ended; whether everything is as it should
    /// be.
    async fn after(&mut self, number: u32, end: Result<End, JoinError>) -> bool {
        match end {
            Ok(End::Closed | End::Told) => {
                // The store closes: what is left is to be told to stop.
                self.show();
                true
            }
            Ok(End::Lost { reason }) => {
                self.note(format!("is built again from the first event: {reason}"));
                self.stop_runs().await;
                // Only this one: another may have been made by another process, and is sound.
                let name = self.projection.name();
                if let Err(error) = self.backend.remove(name, number).await {
                    self.note(format!("waits: {error}"));
                    self.seams.timer.sleep(RETRY_WAIT).await;
                }
                false
            }
            Err(error) => {
                self.note(format!("its runner failed: {error}"));
                self.stop_runs().await;
                self.seams.timer.sleep(RETRY_WAIT).await;
                false
            }
        }
    }

    async fn remove_all(&self) -> Result<(), StoreError> {
        let name = self.projection.name();
        for generation in self.backend.generations(name).await? {
            self.backend.remove(name, generation.number).await?;
        }
        Ok(())
    }

    async fn stop_runs(&mut self) {
        self.outdated = None;
        for run in [self.serving.take(), self.building.take()].into_iter().flatten() {
            run.end().await;
        }
        self.show();
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        self.serving.iter().chain(&self.building)
    }

    fn refused(&self, order: Order, reason: &str) -> OrderError {
        let (name, order) = (self.projection.name().to_owned(), order.as_str());
        OrderError::Refused { name, order, reason: reason.to_owned() }
    }

    fn note(&self, note: String) {
        tracing::warn!(projection = self.projection.name(), "{note}");
        self.shown.write().note = Some(note);
    }

    fn show(&self) {
        let shown = |run: &Run| ShownBuild {
            generation: run.generation.clone(),
            status: Some(run.handle.watch()),
        };
        let outdated =
            |generation: &Generation| ShownBuild { generation: generation.clone(), status: None };
        let mut all = self.shown.write();
        all.paused = self.paused;
        let serving = self.serving.as_ref().map(shown);
        all.serving = serving.or_else(|| self.outdated.as_ref().map(outdated));
        all.building = self.building.as_ref().map(shown);
    }
}
