//! What the parts do together.

use std::sync::atomic::{AtomicU32, Ordering};

use daybook_model::Clock as _;
use prometheus::{Registry, TextEncoder};
use tokio::sync::{Semaphore, mpsc};

use super::super::testing::Manual;
use super::super::*;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn settings() -> BreakerSettings {
    BreakerSettings { failures_in_a_row: Some(3), jitter_percent: 0, ..BreakerSettings::default() }
}

fn breaker(manual: &Manual) -> CircuitBreaker {
    CircuitBreaker::new("risk", settings(), manual.wiring()).expect("valid")
}

fn retry(attempts_max: u32) -> Retry {
    Retry::new(RetrySettings { attempts_max, ..RetrySettings::default() }).expect("valid")
}

fn bulkhead(inside_max: u32, waiting_max: u32, manual: &Manual) -> Bulkhead {
    let settings = BulkheadSettings { inside_max, waiting_max, wait_max: SECOND };
    Bulkhead::new(settings, Arc::new(manual.clone())).expect("valid")
}

async fn until(so: impl Fn() -> bool) {
    while !so() {
        tokio::task::yield_now().await;
    }
}

/// An operation that fails `failures` times and then says how often it was asked.
fn fails(failures: u32) -> impl FnMut() -> std::future::Ready<Result<u32, &'static str>> {
    let mut asked = 0;
    move || {
        asked += 1;
        std::future::ready(if asked > failures { Ok(asked) } else { Err("broken") })
    }
}

#[tokio::test]
async fn only_what_may_be_tried_again_is_and_an_open_breaker_ends_it() {
    let yes = |error: &GuardError<&str>| {
        assert!(!error.is_rejection(), "what was refused is never tried again: {error}");
        true
    };
    let manual = Manual::new();
    let guard = || Guard::new(breaker(&manual));
    assert_eq!(guard().call(fails(1)).await, Err(GuardError::Inner("broken")));
    assert_eq!(guard().retry(retry(3), yes).call(fails(2)).await, Ok(3));
    let no = guard().retry(retry(3), |_| false);
    assert_eq!(no.call(fails(2)).await, Err(GuardError::Inner("broken")));
    let two = guard().retry(retry(2), yes);
    assert_eq!(two.call(fails(2)).await, Err(GuardError::Inner("broken")));
    // The third failure opens the breaker; there are attempts left, but they would be refused.
    let many = guard().retry(retry(10), yes);
    let found = many.call(fails(u32::MAX)).await;
    assert!(matches!(found, Err(GuardError::Open(_))), "{found:?}");
    assert_eq!(found.expect_err("open").retry_after(), Some(5 * SECOND));
    assert!(manual.slept() > Duration::ZERO, "retries wait");
}

#[tokio::test]
async fn retries_stop_when_their_budget_is_used_up() {
    let manual = Manual::new();
    let retry = RetrySettings { budget_reserve: 4, budget_percent: 0, ..RetrySettings::default() };
    let guard = Guard::new(breaker(&manual))
        .classify(|_| Verdict::Ignored)
        .retry(Retry::new(retry).expect("valid"), |_| true);
    let asked = AtomicU32::new(0);
    for _ in 0..10 {
        let ask = || {
            asked.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Err::<(), _>("broken"))
        };
        assert_eq!(guard.call(ask).await, Err(GuardError::Inner("broken")));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 10 + 4);
}

#[tokio::test]
async fn an_error_counts_as_it_is_classified() {
    let manual = Manual::new();
    for (verdict, expected) in [
        (Verdict::Failure, State::Open),
        (Verdict::Success, State::Closed),
        (Verdict::Ignored, State::Closed),
    ] {
        let guard = Guard::new(breaker(&manual)).classify(move |_| verdict);
        for _ in 0..3 {
            assert!(guard.call(fails(1)).await.is_err());
        }
        assert_eq!(guard.breaker().status().state, expected, "{verdict:?}");
    }
}

#[tokio::test]
async fn a_timeout_is_a_failure_and_a_call_that_is_dropped_is_not() {
    let manual = Manual::waiting();
    let guard: Guard<()> = Guard::new(breaker(&manual)).timeout(SECOND);
    for call in 0..5 {
        let running = guard.clone();
        let silent =
            tokio::spawn(async move { running.call(std::future::pending::<Result<(), ()>>).await });
        let slept = manual.slept();
        until(|| manual.slept() > slept).await;
        if call < 2 {
            silent.abort();
            assert!(silent.await.expect_err("it was cancelled").is_cancelled());
        } else {
            manual.pass(SECOND);
            let found = silent.await.expect("no panic");
            assert_eq!(found, Err(GuardError::TimedOut { after: SECOND }));
        }
        let open = guard.breaker().status().state == State::Open;
        assert_eq!(open, call == 4, "call {call}");
    }
}

#[tokio::test]
async fn an_open_breaker_refuses_before_anything_is_waited_for() {
    let manual = Manual::waiting();
    let rate = RateSettings { calls: 1, per: SECOND, burst: 2, wait_max: 10 * SECOND };
    let breaker = breaker(&manual);
    let limit = RateLimit::new(rate, breaker.wiring()).expect("valid");
    let guard = Guard::new(breaker).rate_limit(limit).bulkhead(bulkhead(1, 10, &manual));
    // One call holds the only place, and the quota is used up.
    let gate = Arc::new(Semaphore::new(0));
    let (running, ending) = (guard.clone(), gate.clone());
    let inside = tokio::spawn(async move {
        let through = || async {
            ending.acquire().await.expect("it is never closed").forget();
            Ok::<_, ()>(())
        };
        running.call(through).await
    });
    until(|| guard.bulkhead.as_ref().is_some_and(|b| b.inside() == 1)).await;
    let queued = guard.clone();
    let queued = tokio::spawn(async move { queued.call(|| std::future::ready(Ok(()))).await });
    until(|| guard.bulkhead.as_ref().is_some_and(|b| b.waiting() == 1)).await;
    guard.breaker().force_open();
    // Neither for a turn nor for a place: the clock stands still, so waiting would be for ever.
    let refused = guard.call(|| std::future::ready(Ok(()))).await;
    assert!(matches!(refused, Err(GuardError::Open(_))), "{refused:?}");
    gate.add_permits(1);
    assert_eq!(inside.await.expect("no panic"), Ok(()));
    let refused = queued.await.expect("no panic");
    assert!(matches!(refused, Err(GuardError::Open(_))), "who waits is told, too: {refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_the_endpoint_is_healed_only_the_probes_go_through() {
    const CALLERS: u32 = 500;
    let manual = Manual::waiting();
    let guard: Guard<&str> = Guard::new(breaker(&manual));
    for _ in 0..3 {
        let failed = guard.call(|| std::future::ready(Err::<(), _>("down"))).await;
        assert!(!failed.expect_err("down").is_rejection());
    }
    manual.pass(5 * SECOND);
    // All come back in the same moment, and each answer takes its time.
    let asked = Arc::new(AtomicU32::new(0));
    let (tell, mut told) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    for _ in 0..CALLERS {
        let (guard, tell, asked, gate) = (guard.clone(), tell.clone(), asked.clone(), gate.clone());
        tokio::spawn(async move {
            let found = guard
                .call(|| async {
                    asked.fetch_add(1, Ordering::Relaxed);
                    gate.acquire().await.expect("it is never closed").forget();
                    Ok(())
                })
                .await;
            tell.send(found).expect("somebody counts");
        });
    }
    // Each is let through or refused before any answer comes.
    let let_through = || asked.load(Ordering::Relaxed);
    let mut refused = 0;
    while refused + let_through() < CALLERS {
        while let Ok(found) = told.try_recv() {
            let expected = Refusal { state: State::HalfOpen, retry_after: None };
            assert_eq!(found, Err(GuardError::Open(expected)));
            refused += 1;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(let_through(), 3);
    assert_eq!(guard.breaker().status().state, State::HalfOpen);
    gate.add_permits(3);
    for _ in 0..3 {
        assert_eq!(told.recv().await, Some(Ok(())));
    }
    assert_eq!(guard.breaker().status().state, State::Closed);
}

#[tokio::test]
async fn metrics_say_what_happened() {
    let manual = Manual::new();
    let wiring = manual.wiring();
    let registry = Registry::new();
    wiring.metrics.register(&registry).expect("new names");
    let breaker = CircuitBreaker::new("risk", settings(), wiring).expect("valid");
    let guard = Guard::new(breaker.clone())
        .bulkhead(bulkhead(1, 0, &manual))
        .retry(retry(2), |error| matches!(error, GuardError::Inner("again")));
    let _ = guard.call(|| std::future::ready(Ok(()))).await;
    let _ = guard.call(|| std::future::ready(Err::<(), _>("again"))).await;
    let nested = guard.clone();
    let _ = guard
        .call(|| async {
            let inner = nested.call(|| std::future::ready(Ok::<(), &str>(()))).await;
            assert!(matches!(inner, Err(GuardError::Full(_))), "{inner:?}");
            manual.pass(3 * SECOND);
            Err::<(), _>("down")
        })
        .await;
    let late = breaker.clone();
    breaker.release();
    breaker.force_closed();
    let permit = late.admit().expect("forced closed");
    breaker.release();
    drop(permit);
    breaker.force_open();
    let _ = guard.call(|| std::future::ready(Ok(()))).await;
    let text = TextEncoder::new().encode_to_string(&registry.gather()).expect("text");
    for line in [
        r#"daybook_breaker_state{endpoint="risk"} 3"#,
        r#"daybook_guarded_calls_total{endpoint="risk",outcome="success"} 1"#,
        r#"daybook_guarded_calls_total{endpoint="risk",outcome="failure"} 3"#,
        r#"daybook_guarded_calls_total{endpoint="risk",outcome="cancelled"} 1"#,
        r#"daybook_guarded_calls_total{endpoint="risk",outcome="ignored"} 0"#,
        r#"daybook_guarded_calls_rejected_total{endpoint="risk",reason="open"} 1"#,
        r#"daybook_guarded_calls_rejected_total{endpoint="risk",reason="full"} 1"#,
        r#"daybook_guarded_calls_rejected_total{endpoint="risk",reason="limited"} 0"#,
        r#"daybook_guarded_calls_slow_total{endpoint="risk"} 1"#,
        r#"daybook_breaker_late_outcomes_total{endpoint="risk"} 1"#,
        r#"daybook_breaker_transitions_total{endpoint="risk",from="closed",to="open"} 1"#,
        r#"daybook_breaker_transitions_total{endpoint="risk",from="open",to="forced_closed"} 1"#,
        r#"daybook_guarded_call_duration_seconds_count{endpoint="risk"} 5"#,
        r#"daybook_bulkhead_inside{endpoint="risk"} 0"#,
        r#"daybook_retries_total{endpoint="risk"} 1"#,
        r#"daybook_retries_unpaid_total{endpoint="risk"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[tokio::test]
async fn changes_are_told_with_their_time_and_each_with_an_id_of_its_own() {
    let manual = Manual::new();
    let breaker = breaker(&manual);
    let mut changes = breaker.wiring().changes.subscribe();
    let guard = Guard::new(breaker);
    manual.pass(SECOND);
    for _ in 0..3 {
        let _ = guard.call(fails(1)).await;
    }
    manual.pass(5 * SECOND);
    for _ in 0..2 {
        guard.call(fails(0)).await.expect("it is healed");
    }
    let mut told = Vec::new();
    while let Some(Told::Changed(change)) = changes.try_next() {
        told.push((change.event_type(), change.at.0 / 1_000_000_000, change.id));
    }
    let words: Vec<_> = told.iter().map(|(word, at, _)| (*word, *at)).collect();
    assert_eq!(words, [("CircuitOpened", 1), ("CircuitHalfOpened", 6), ("CircuitClosed", 6)]);
    assert!(told[0].2 != told[1].2 && told[1].2 != told[2].2);
    assert_eq!(manual.monotonic(), 6 * SECOND);
}
