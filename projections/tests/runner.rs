//! What becomes of a projection, whatever happens to its feed, its events and its orders.

#![allow(clippy::unwrap_used, reason = "a test that fails shows where")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use daybook_client::Checkpoint;
use daybook_model::Position;
use daybook_projections::build::Build;
use daybook_projections::consumer::{ConsumeError, Consumer, Taken};
use daybook_projections::sled::SledBackend;
use daybook_projections::{
    Backend, Batch, End, Host, Interest, OnPoison, Order, OrderError, ProjectionStatus, QueryError,
    Row, Runner, Seams, State,
};
use support::source::MemoryLog;
use support::tally::{ACCOUNTS, NAME, OWNERS, Tally, moved};
use support::{TOO_LONG, dump, until};
use tempfile::TempDir;
use tokio::sync::Notify;
use uuid::Uuid;

struct World {
    directory: TempDir,
    log: MemoryLog,
    backend: SledBackend,
}

impl World {
    fn new(events: u64) -> World {
        let directory = TempDir::new().unwrap();
        let backend = SledBackend::open(directory.path(), Uuid::from_u128(7));
        let log = MemoryLog::new(7);
        let world = World { directory, log, backend };
        world.append(0..events);
        world
    }

    fn append(&self, numbers: std::ops::Range<u64>) {
        let datas: Vec<String> = numbers.map(|n| moved(n, 20)).collect();
        self.log.append(datas.into_iter().map(|data| ("account-x", "Moved", data)));
    }

    fn one(&self, event_type: &str, data: &str) {
        self.log.append([("account-x", event_type, data.to_owned())]);
    }

    fn host(&self, projection: Tally) -> Host {
        Host::start(&self.log, &self.backend, vec![Arc::new(projection)], &Seams::system())
    }

    async fn rows(&self) -> (Vec<Row>, Vec<Row>) {
        let accounts = dump(&self.backend, NAME, ACCOUNTS).await.0;
        (accounts, dump(&self.backend, NAME, OWNERS).await.0)
    }

    /// Waits until all of the log has had its effect.
    async fn caught_up(&self) {
        let wait = self.backend.wait(NAME, self.log.last());
        tokio::time::timeout(TOO_LONG, wait).await.unwrap().unwrap();
    }

    /// What the log comes to when nothing disturbs.
    async fn clean(&self) -> (Vec<Row>, Vec<Row>) {
        let other = World::new(0);
        let backend = other.backend.clone();
        let host = Host::start(&self.log, &backend, vec![Arc::new(park())], &Seams::system());
        tokio::time::timeout(TOO_LONG, backend.wait(NAME, self.log.last())).await.unwrap().unwrap();
        host.stop().await;
        other.rows().await
    }

    async fn as_of(&self) -> Option<Position> {
        self.backend.reached(NAME).await.unwrap().map(|at| at.position())
    }
}

fn park() -> Tally {
    Tally { on_poison: OnPoison::Park, ..Tally::new() }
}

fn state(status: &ProjectionStatus) -> Option<&State> {
    status.serving.as_ref().map(|build| &build.status.state)
}

fn is_stopped(status: &ProjectionStatus) -> bool {
    matches!(state(status), Some(State::Stopped { .. }))
}

#[tokio::test]
async fn history_and_what_comes_after_it_have_their_effect_once() {
    let world = World::new(500);
    world.log.append([("other", "Moved", "not of interest".to_owned())]);
    let host = world.host(Tally::new());
    until(&host, NAME, |s| state(s) == Some(&State::Live)).await;
    for turn in 0..20 {
        world.append(500 + turn * 10..510 + turn * 10);
        world.caught_up().await;
    }
    world.log.append([("account-x", "Other", String::new())]);
    world.caught_up().await;
    assert_eq!(world.as_of().await, Some(world.log.last()), "also of what is not wanted");
    let status = until(&host, NAME, |s| {
        s.serving.as_ref().is_some_and(|build| build.status.lag_events() == 0)
    })
    .await;
    let status = status.serving.unwrap().status;
    assert_eq!((status.events, status.parked, status.state), (700, 0, State::Live));
    assert_eq!(world.rows().await, world.clean().await);
    host.stop().await;
}

#[tokio::test]
async fn an_interrupted_feed_is_followed_again() {
    let world = World::new(300);
    world.log.interrupt(2);
    let host = world.host(Tally::new());
    until(&host, NAME, |s| matches!(state(s), Some(State::Retrying { .. }))).await;
    world.caught_up().await;
    world.log.interrupt(1);
    world.append(300..400);
    world.caught_up().await;
    assert_eq!(world.rows().await, world.clean().await);
    host.stop().await;
}

#[tokio::test]
async fn an_event_that_cannot_be_taken_in_stops_it_and_nothing_of_it_stays() {
    for bad in ["Bad", "Worse"] {
        let world = World::new(100);
        world.one(bad, "a1 owner1 1000000");
        world.append(101..200);
        let host = world.host(Tally::new());
        let status = until(&host, NAME, is_stopped).await;
        let status = status.serving.unwrap().status;
        assert_eq!(status.poisoned, Some(Position(100)));
        assert_eq!(status.checkpoint.map(|at| at.position()), Some(Position(99)), "{bad}");
        let State::Stopped { reason } = status.state else { panic!() };
        assert!(reason.contains("event 100") && reason.contains("account-x"), "{reason}");
        assert_eq!(world.as_of().await, Some(Position(99)));

        // As it stands, it stops there again.
        host.order(NAME, Order::Resume).await.unwrap();
        until(&host, NAME, is_stopped).await;
        assert_eq!(world.as_of().await, Some(Position(99)));

        // Told to skip it, it parks it and goes on.
        host.order(NAME, Order::Skip).await.unwrap();
        world.caught_up().await;
        let parked = world.backend.parked(NAME, None, 10).await.unwrap();
        assert_eq!(parked.len(), 1);
        assert_eq!((parked[0].position, parked[0].event_type.as_str()), (Position(100), bad));
        assert!(parked[0].reason.contains(if bad == "Bad" { "it is bad" } else { "it is worse" }));
        assert_eq!(world.rows().await, world.clean().await);
        let skip = host.order(NAME, Order::Skip).await;
        assert!(matches!(skip, Err(OrderError::Refused { .. })), "{skip:?}");
        host.stop().await;
    }
}

#[tokio::test]
async fn a_mended_cause_lets_the_event_in() {
    let world = World::new(10);
    world.one("Bad", "a1 owner1 5");
    world.append(11..30);
    let tally = Arc::new(Tally::new());
    let host = Host::start(&world.log, &world.backend, vec![tally.clone()], &Seams::system());
    until(&host, NAME, is_stopped).await;
    tally.mended.store(true, Ordering::SeqCst);
    host.order(NAME, Order::Resume).await.unwrap();
    world.caught_up().await;
    assert_eq!(world.backend.parked(NAME, None, 10).await.unwrap(), []);
    host.stop().await;
}

#[tokio::test]
async fn what_may_be_parked_is_parked_and_the_rest_goes_on() {
    let world = World::new(50);
    for _ in 0..150 {
        world.one("Bad", "a1 owner1 1");
        world.one("Worse", "a1 owner1 1");
        world.one("Moved", "a1 owner1 0.5");
    }
    let host = world.host(park());
    world.caught_up().await;
    let parked = world.backend.parked(NAME, None, 1000).await.unwrap();
    assert_eq!(parked.len(), 300);
    assert_eq!(parked.iter().map(|p| p.position.0).min(), Some(50));
    let rows = world.rows().await.0;
    let row = rows.iter().find(|row| row[0] == "a1".into()).unwrap();
    assert!(format!("{:?}", row[2]).contains("15"), "{row:?}");
    let status = host.status(NAME).unwrap().serving.unwrap().status;
    assert_eq!(status.parked, 300);
    host.stop().await;
}

#[tokio::test]
async fn a_second_runner_fences_the_first_which_never_tries_again() {
    let world = World::new(100);
    let host = world.host(Tally::new());
    world.caught_up().await;
    let build = Build::new(world.backend.clone(), Arc::new(Tally::new()), 1, Seams::system().clock);
    let (runner, handle) = Runner::new("second", world.log.clone(), build, Seams::system());
    let running = tokio::spawn(runner.run());
    handle.watch().wait_for(|status| status.state == State::Live).await.unwrap();
    world.append(100..200);
    let status = until(&host, NAME, is_stopped).await;
    let State::Stopped { reason } = status.serving.unwrap().status.state else { panic!() };
    assert!(reason.contains("another runner"), "{reason}");
    world.caught_up().await;
    assert_eq!(world.rows().await, world.clean().await);
    assert_eq!(handle.status().state, State::Live, "it was not fenced in turn");
    handle.stop();
    assert_eq!(running.await.unwrap(), End::Told);
    host.stop().await;
}

#[tokio::test]
async fn a_pause_holds_also_after_a_restart_until_it_is_resumed() {
    let world = World::new(100);
    let host = world.host(Tally::new());
    world.caught_up().await;
    host.order(NAME, Order::Pause).await.unwrap();
    until(&host, NAME, |s| s.paused && state(s) == Some(&State::Paused)).await;
    world.append(100..150);
    until(&host, NAME, |s| s.serving.as_ref().is_some_and(|b| b.status.lag_events() == 50)).await;
    assert_eq!(world.as_of().await, Some(Position(99)));
    host.stop().await;

    let host = world.host(Tally::new());
    let behind = |s: &ProjectionStatus| {
        let status = s.serving.as_ref().map(|build| &build.status);
        status.is_some_and(|status| status.lag_events() == 50 && status.event_time.is_some())
    };
    let status = until(&host, NAME, |s| s.paused && behind(s)).await.serving.unwrap().status;
    assert_eq!(status.checkpoint.map(|at| at.position()), Some(Position(99)));
    let then = daybook_model::Timestamp(1_700_000_000_000_000_099);
    assert_eq!(status.event_time, Some(then), "when the last event it has was committed");
    assert_eq!(world.as_of().await, Some(Position(99)));
    host.order(NAME, Order::Resume).await.unwrap();
    world.caught_up().await;
    assert!(!host.status(NAME).unwrap().paused);
    assert_eq!(world.rows().await, world.clean().await);
    host.stop().await;
}

#[tokio::test]
async fn a_reset_builds_everything_again() {
    let world = World::new(200);
    let host = world.host(Tally::new());
    world.caught_up().await;
    let before = world.rows().await;
    host.order(NAME, Order::Reset).await.unwrap();
    until(&host, NAME, |s| state(s) == Some(&State::Live)).await;
    world.caught_up().await;
    assert_eq!(world.rows().await, before);
    let status = host.status(NAME).unwrap().serving.unwrap();
    assert_eq!((status.generation, status.status.events), (2, 200));
    host.stop().await;
}

#[tokio::test]
async fn a_rebuild_serves_the_old_until_the_new_has_caught_up() {
    let world = World::new(2000);
    let host = world.host(Tally::new());
    world.caught_up().await;
    host.order(NAME, Order::Rebuild).await.unwrap();
    let again = host.order(NAME, Order::Rebuild).await;
    let refused = matches!(again, Err(OrderError::Refused { .. }));
    assert!(refused || again.is_ok(), "{again:?}");
    // Both advance; queries never see fewer events than before.
    let mut seen = world.as_of().await;
    for turn in 0..50 {
        world.append(2000 + turn * 5..2005 + turn * 5);
        let now = world.as_of().await;
        assert!(now >= seen, "{now:?} after {seen:?}");
        seen = now;
    }
    until(&host, NAME, |s| s.building.is_none() && state(s) == Some(&State::Live)).await;
    world.caught_up().await;
    assert!(host.status(NAME).unwrap().serving.unwrap().generation >= 2);
    assert_eq!(world.backend.generations(NAME).await.unwrap().len(), 1);
    assert_eq!(world.rows().await, world.clean().await);
    host.stop().await;
}

#[tokio::test]
async fn a_new_version_is_built_beside_the_old_one_which_serves_as_it_is() {
    let world = World::new(300);
    let host = world.host(Tally::new());
    world.caught_up().await;
    let old = world.rows().await;
    host.stop().await;

    // The new version stops at an event, so that there is something to look at.
    world.one("Bad", "a1 owner1 5");
    world.append(301..400);
    let host = world.host(Tally { version: 2, ..Tally::new() });
    let stopped = |s: &ProjectionStatus| {
        let build = s.building.as_ref();
        build.is_some_and(|build| matches!(build.status.state, State::Stopped { .. }))
    };
    let status = until(&host, NAME, stopped).await;
    let serving = status.serving.as_ref().unwrap();
    assert_eq!((serving.version, serving.generation), (1, 1));
    assert_eq!(serving.status.state, State::Outdated);
    assert_eq!(status.building.unwrap().version, 2);
    assert_eq!(world.as_of().await, Some(Position(299)));
    assert_eq!(world.rows().await, old);

    // A restart goes on with the build that was begun.
    host.stop().await;
    let host = world.host(Tally { version: 2, ..Tally::new() });
    let status = until(&host, NAME, stopped).await;
    assert_eq!(status.building.unwrap().generation, 2);
    host.order(NAME, Order::Skip).await.unwrap();
    until(&host, NAME, |s| s.building.is_none() && state(s) == Some(&State::Live)).await;
    world.caught_up().await;
    let serving = host.status(NAME).unwrap().serving.unwrap();
    assert_eq!((serving.version, serving.generation), (2, 2));
    assert_eq!(world.rows().await, world.clean().await);
    assert_eq!(world.backend.generations(NAME).await.unwrap().len(), 1);
    host.stop().await;
}

#[tokio::test]
async fn a_history_that_was_lost_is_not_kept() {
    let world = World::new(300);
    let host = world.host(Tally::new());
    world.caught_up().await;
    host.stop().await;
    // The same length again, with other events in the new epoch.
    world.log.rewind(250);
    world.append(1000..1050);
    let host = world.host(Tally::new());
    let status = until(&host, NAME, |s| {
        s.note.is_some() && s.serving.as_ref().is_some_and(|b| b.generation == 2)
    })
    .await;
    assert!(status.note.unwrap().contains("not of the store's history"));
    world.caught_up().await;
    until(&host, NAME, |s| state(s) == Some(&State::Live)).await;
    assert_eq!(world.rows().await, world.clean().await);
    host.stop().await;

    // A restore to a state after the place that was reached loses nothing.
    world.log.rewind(300);
    world.append(300..320);
    let host = world.host(Tally::new());
    world.caught_up().await;
    assert_eq!(host.status(NAME).unwrap().serving.unwrap().generation, 2);
    assert_eq!(world.rows().await, world.clean().await);
    host.stop().await;
}

#[tokio::test]
async fn a_closing_store_and_a_dropped_host_end_it() {
    let world = World::new(100);
    let host = world.host(Tally::new());
    world.caught_up().await;
    world.log.close();
    tokio::time::timeout(TOO_LONG, host.stop()).await.unwrap();
    let gone = host.order(NAME, Order::Pause).await;
    assert_eq!(gone, Err(OrderError::Stopping));
    let unknown = host.order("unknown", Order::Pause).await;
    assert!(matches!(unknown, Err(OrderError::Unknown { .. })));
    assert!(matches!(world.backend.reached("unknown").await, Err(QueryError::NotReady { .. })));
    assert!(world.directory.path().exists());
}

#[tokio::test]
async fn what_another_version_made_of_a_lost_history_is_not_served() {
    let world = World::new(300);
    let host = world.host(Tally::new());
    world.caught_up().await;
    host.stop().await;
    world.log.rewind(250);
    world.one("Bad", "a1 owner1 5");
    world.append(1000..1100);
    // The new version stops early, so that nothing takes the old one's place.
    let host = world.host(Tally { version: 2, ..Tally::new() });
    let stopped = |s: &ProjectionStatus| {
        let build = s.serving.as_ref().or(s.building.as_ref());
        build.is_some_and(|build| matches!(build.status.state, State::Stopped { .. }))
    };
    let status = until(&host, NAME, stopped).await;
    assert!(status.note.unwrap().contains("not of the store's history"));
    assert_eq!(world.backend.generations(NAME).await.unwrap().len(), 1, "only the new one");
    assert_eq!(world.as_of().await, Some(Position(249)), "what is served is of this history");
    host.order(NAME, Order::Skip).await.unwrap();
    world.caught_up().await;
    assert_eq!(world.rows().await, world.clean().await);
    host.stop().await;

    // What the store still has is served until the new version has caught up.
    world.one("Bad", "a1 owner1 5");
    let host = world.host(Tally { version: 3, ..Tally::new() });
    let status = until(&host, NAME, |s| {
        s.building.as_ref().is_some_and(|build| matches!(build.status.state, State::Stopped { .. }))
    })
    .await;
    assert_eq!(status.serving.unwrap().status.state, State::Outdated);
    host.stop().await;
}

#[tokio::test]
async fn a_key_that_postgresql_cannot_hold_is_refused_everywhere() {
    let world = World::new(10);
    world.one("Moved", "a\0b owner1 5");
    let host = world.host(Tally::new());
    let status = until(&host, NAME, is_stopped).await.serving.unwrap().status;
    let State::Stopped { reason } = status.state else { panic!() };
    assert!(reason.contains("a NUL character"), "{reason}");
    assert_eq!(status.poisoned, Some(Position(10)));
    host.stop().await;
}

/// Fails with one error each time, once it was told that it may.
struct Failing {
    error: ConsumeError,
    taking: Arc<Notify>,
    fail: Arc<Notify>,
}

impl Consumer for Failing {
    fn interest(&self) -> Interest {
        Interest::default()
    }

    async fn begin(&mut self) -> Result<Option<Checkpoint>, ConsumeError> {
        Ok(None)
    }

    async fn take(&mut self, _: Batch) -> Result<Taken, ConsumeError> {
        self.taking.notify_one();
        self.fail.notified().await;
        Err(self.error.clone())
    }
}

#[tokio::test]
async fn who_is_told_while_its_batch_fails_obeys_and_does_not_rest() {
    let reason = || "planted".to_owned();
    let errors = [
        ConsumeError::Interrupted { reason: reason() },
        ConsumeError::Refused { reason: reason() },
        ConsumeError::Fenced { reason: reason() },
        ConsumeError::Poisoned {
            position: Position(0),
            stream: "account-x".to_owned(),
            event_type: "Bad".to_owned(),
            reason: reason(),
        },
    ];
    for error in errors {
        for pauses in [false, true] {
            let log = MemoryLog::new(7);
            log.append([("account-x", "Moved", moved(0, 1))]);
            let (taking, fail) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let failing =
                Failing { error: error.clone(), taking: taking.clone(), fail: fail.clone() };
            let (runner, handle) = Runner::new("failing", log, failing, Seams::system());
            let running = tokio::spawn(runner.run());
            taking.notified().await;
            if pauses {
                handle.pause()
            } else {
                handle.stop()
            }
            // It takes note before the batch fails: what runs takes turns on this one thread.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            fail.notify_one();
            let done = async {
                if pauses {
                    let mut status = handle.watch();
                    status.wait_for(|status| status.state == State::Paused).await.unwrap();
                    handle.stop();
                }
                running.await.unwrap()
            };
            let end = tokio::time::timeout(TOO_LONG, done).await;
            assert_eq!(end.expect("it obeys"), End::Told, "{error}, pauses: {pauses}");
        }
    }
}
