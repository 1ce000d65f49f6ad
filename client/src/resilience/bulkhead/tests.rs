//! Crowds.

use std::sync::atomic::AtomicUsize;

use tokio::sync::{Barrier, mpsc, watch};

use super::super::testing::Manual;
use super::*;

fn bulkhead(inside_max: u32, waiting_max: u32, manual: &Manual) -> Bulkhead {
    let wait_max = Duration::from_secs(1);
    let settings = BulkheadSettings { inside_max, waiting_max, wait_max };
    Bulkhead::new(settings, Arc::new(manual.clone())).expect("valid")
}

/// Lets others run until `so` holds. They have all they need to get there.
async fn until(so: impl Fn() -> bool) {
    while !so() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_thousand_calls_all_are_served_or_refused_and_never_too_many_are_inside() {
    const TASKS: usize = 1_000;
    let bulkhead = bulkhead(7, 200, &Manual::waiting());
    let inside = Arc::new(AtomicUsize::new(0));
    let highest = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicUsize::new(0));
    let start = Arc::new(Barrier::new(TASKS));
    let (open, closed) = watch::channel(false);
    let (tell, mut told) = mpsc::channel(TASKS);
    for _ in 0..TASKS {
        let (bulkhead, tell) = (bulkhead.clone(), tell.clone());
        let (inside, highest) = (inside.clone(), highest.clone());
        let (refused, start, mut gate) = (refused.clone(), start.clone(), closed.clone());
        tokio::spawn(async move {
            start.wait().await;
            let Ok(place) = bulkhead.enter().await else {
                refused.fetch_add(1, Ordering::SeqCst);
                return;
            };
            highest.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            gate.wait_for(|open| *open).await.expect("it opens");
            tokio::task::yield_now().await;
            inside.fetch_sub(1, Ordering::SeqCst);
            drop(place);
            tell.send(()).await.expect("somebody counts");
        });
    }
    drop(tell);
    // Nobody leaves before the gate opens.
    let turned_away = || refused.load(Ordering::SeqCst);
    let found = || turned_away() + bulkhead.inside() as usize + bulkhead.waiting() as usize;
    until(|| found() == TASKS).await;
    assert_eq!((bulkhead.inside(), bulkhead.waiting(), turned_away()), (7, 200, TASKS - 207));
    open.send(true).expect("they wait");
    let mut served = 0;
    while told.recv().await.is_some() {
        served += 1;
    }
    assert_eq!(served, 207);
    assert_eq!(highest.load(Ordering::SeqCst), 7);
    assert_eq!((bulkhead.inside(), bulkhead.waiting()), (0, 0));
}

#[tokio::test]
async fn who_came_first_is_first_and_who_goes_away_leaves_no_gap() {
    let bulkhead = bulkhead(1, 100, &Manual::waiting());
    let held = bulkhead.enter().await.expect("it is empty");
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut waiting = Vec::new();
    for number in 0..50_u32 {
        let (entering, tell) = (bulkhead.clone(), tell.clone());
        waiting.push(tokio::spawn(async move {
            let _place = entering.enter().await.expect("nobody waits for too long");
            tell.send(number).expect("somebody listens");
        }));
        until(|| bulkhead.waiting() == number + 1).await;
    }
    for (number, task) in waiting.iter().enumerate() {
        if number % 3 == 0 {
            task.abort();
        }
    }
    until(|| bulkhead.waiting() == 33).await;
    drop((held, tell));
    let mut served = Vec::new();
    while let Some(number) = told.recv().await {
        served.push(number);
    }
    let expected: Vec<u32> = (0..50).filter(|number| number % 3 != 0).collect();
    assert_eq!(served, expected);
    assert_eq!((bulkhead.inside(), bulkhead.waiting()), (0, 0));
}

#[tokio::test]
async fn a_place_is_not_waited_for_longer_than_allowed() {
    let manual = Manual::waiting();
    let bulkhead = bulkhead(1, 1, &manual);
    let held = bulkhead.enter().await.expect("it is empty");
    let entering = bulkhead.clone();
    let waiting = tokio::spawn(async move { entering.enter().await.map(drop) });
    until(|| bulkhead.waiting() == 1).await;
    let refused = bulkhead.enter().await.map(drop);
    assert_eq!(refused, Err(Full::QueueFull { waiting: 1, inside: 1 }));
    assert_eq!(bulkhead.waiting(), 1);
    until(|| manual.slept() == Duration::from_secs(1)).await;
    manual.pass(Duration::from_secs(1));
    let waited = Full::WaitedTooLong { waited: Duration::from_secs(1), inside: 1 };
    assert_eq!(waiting.await.expect("no panic"), Err(waited));
    drop(held);
    assert_eq!((bulkhead.inside(), bulkhead.waiting()), (0, 0));
    assert!(bulkhead.enter().await.is_ok());
}

#[tokio::test]
async fn a_call_that_is_cancelled_inside_gives_its_place_back() {
    let bulkhead = bulkhead(2, 0, &Manual::waiting());
    for _ in 0..100 {
        let entering = bulkhead.clone();
        let inside = tokio::spawn(async move {
            let _place = entering.enter().await.expect("places come back");
            std::future::pending::<()>().await;
        });
        until(|| bulkhead.inside() == 1).await;
        inside.abort();
        assert!(inside.await.expect_err("it was cancelled").is_cancelled());
    }
    assert_eq!(bulkhead.inside(), 0);
    assert!(
        Bulkhead::new(
            BulkheadSettings { inside_max: 0, ..BulkheadSettings::default() },
            Arc::new(Manual::new())
        )
        .is_err()
    );
}
