//! What the orchestrator promises when things fail: services, stores, callers, processes, people.

mod support;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use daybook_ledger::account::{AccountCommand, FreezeAccount};
use daybook_ledger::orchestrator::{ControlError, Options, Orchestrator, StartError, WaitError};
use daybook_ledger::risk::{
    Assessing, Assessment, OnUnreachable, RiskRequest, RiskService, Unreachable,
};
use daybook_ledger::saga::State;
use daybook_ledger::transfer::{PAYMENT_TRANSFER, transfer_stream};
use daybook_model::append::{Append, AppendError};
use daybook_model::memory::{Fate, MemoryStore};
use daybook_model::{
    Clock, EventStore, ExpectedRevision, NewEvent, Revision, Snapshot, StreamName,
};
use futures_util::FutureExt;
use futures_util::future::join_all;
use support::{Bank, account, dollars, transfer};
use uuid::Uuid;

/// A risk service that is there or not, and counts who asks.
#[derive(Default)]
struct Switch {
    there: AtomicBool,
    /// Whether it hangs instead of failing.
    hangs: AtomicBool,
    asked: AtomicU64,
}

impl RiskService for Switch {
    fn assess<'a>(&'a self, _: &'a RiskRequest) -> Assessing<'a> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {
            if self.there.load(Ordering::Relaxed) {
                return Ok(Assessment::Approved);
            }
            if self.hangs.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            Err(Unreachable { reason: "no route to host".to_owned() })
        })
    }
}

/// A bank with two accounts, whose risk service is away.
async fn without_risk(on_unreachable: OnUnreachable) -> (Bank, Arc<Switch>) {
    let switch = Arc::new(Switch::default());
    let options = Options { on_unreachable, ..Options::default() };
    let bank = Bank::with_risk(switch.clone(), options);
    bank.open(1, "1000", "USD").await;
    bank.open(2, "0", "USD").await;
    (bank, switch)
}

async fn bank() -> Bank {
    let bank = Bank::new();
    bank.open(1, "1000", "USD").await;
    bank.open(2, "0", "USD").await;
    bank
}

fn has(append: &Append, event_type: &str) -> bool {
    append.events.iter().any(|(_, event)| event.event_type == event_type)
}

fn overloaded() -> AppendError {
    AppendError::Overloaded { waiting: 7 }
}

/// Lets `fate` befall the `n`-th append from now on, and none other.
fn at_append(store: &MemoryStore, n: usize, fate: Fate) {
    let mut seen = 0;
    store.judge(move |_| {
        seen += 1;
        if seen == n { fate.clone() } else { Fate::Done }
    });
}

#[tokio::test]
async fn a_host_can_spawn_what_it_drives() {
    let bank = bank().await;
    let orchestrator: Orchestrator<MemoryStore> = bank.orchestrator.clone();
    let request = dollars(1, 1, 2, "100");
    let started = orchestrator.start(&request).await.expect("it starts");
    assert!(started.first);
    assert_eq!(started.known.state(), State::Running);
    let waiting = tokio::spawn({
        let orchestrator = orchestrator.clone();
        async move { orchestrator.finished(transfer(1)).await }
    });
    tokio::task::yield_now().await;
    let driving = tokio::spawn(async move { orchestrator.drive(transfer(1)).await });
    driving.await.expect("it does not panic");
    let known = waiting.await.expect("it does not panic").expect("it was driven");
    assert_eq!(known.expect("it exists").state(), State::Completed);
    let unknown = bank.orchestrator.finished(transfer(9)).await.expect("readable");
    assert!(unknown.is_none());
    bank.orchestrator.drive(transfer(9)).await;
    assert!(bank.orchestrator.unfinished().is_empty());
}

#[tokio::test]
async fn a_parked_transfer_asks_again_and_goes_on_when_risk_is_back() {
    let (bank, switch) = without_risk(OnUnreachable::Park).await;
    let request = dollars(1, 1, 2, "100");
    bank.orchestrator.start(&request).await.expect("it starts");
    let mut driving = pin!(bank.orchestrator.drive(request.transfer_id));
    for _ in 0..20 {
        assert!(driving.as_mut().now_or_never().is_none(), "it is parked");
        bank.time.advance(Duration::from_secs(5));
    }
    let asked = switch.asked.load(Ordering::Relaxed);
    assert!((5..20).contains(&asked), "asked {asked} times in 100 s, less and less often");
    let listed = bank.orchestrator.unfinished();
    assert_eq!(listed.len(), 1);
    let last = listed[0].transfer.steps.last().and_then(|step| step.failure.clone());
    assert_eq!(last.as_deref(), Some("risk_unreachable: no route to host"));
    assert_eq!(listed[0].state(), State::Running);
    switch.there.store(true, Ordering::Relaxed);
    bank.run(driving).await;
    assert_eq!(bank.known(request.transfer_id).await.state(), State::Completed);
    let retries = bank.orchestrator.counters().retries.load(Ordering::Relaxed);
    assert_eq!(retries, asked, "each was recorded");
    assert!(bank.orchestrator.unfinished().is_empty());
    bank.settled();
}

#[tokio::test]
async fn a_parked_transfer_is_undone_at_its_deadline_also_across_restarts() {
    for restarts in [false, true] {
        for hangs in [false, true] {
            let (mut bank, switch) = without_risk(OnUnreachable::Park).await;
            switch.hangs.store(hangs, Ordering::Relaxed);
            let request = dollars(1, 1, 2, "100");
            let started = bank.orchestrator.start(&request).await.expect("it starts");
            let deadline = started.known.transfer.initiated().deadline;
            if restarts {
                {
                    let mut driving = pin!(bank.orchestrator.drive(request.transfer_id));
                    for _ in 0..5 {
                        assert!(driving.as_mut().now_or_never().is_none());
                        bank.time.advance(Duration::from_secs(20));
                    }
                }
                bank.time.advance(Duration::from_secs(180));
                bank = Bank::over(
                    bank.time.clone(),
                    bank.store.clone(),
                    Some(switch.clone()),
                    Options::default(),
                );
                let ids = bank.orchestrator.recover().await.expect("readable");
                assert_eq!(ids, [request.transfer_id]);
            }
            bank.run(bank.orchestrator.drive(request.transfer_id)).await;
            let known = bank.known(request.transfer_id).await;
            assert_eq!(known.state(), State::Compensated);
            let reason = known.transfer.reason.clone().unwrap_or_default();
            assert_eq!(reason, "timeout: the transfer took too long");
            let ended = known.transfer.ended_at.expect("it ended");
            assert!(ended >= deadline && ended.0 < deadline.0 + 1_000_000_000, "{ended:?}");
            assert_eq!(bank.balance(1).await, "1000.00");
            bank.settled();
        }
    }
}

#[tokio::test]
async fn a_risk_service_that_is_away_or_hangs_can_mean_no() {
    for (hangs, reason) in [
        (false, "risk_unreachable: no route to host"),
        (true, "risk_unreachable: no answer within 10000 ms"),
    ] {
        let (bank, switch) = without_risk(OnUnreachable::Reject).await;
        switch.hangs.store(hangs, Ordering::Relaxed);
        let known = bank.pay(&dollars(1, 1, 2, "100")).await;
        assert_eq!(known.state(), State::Compensated);
        assert_eq!(known.transfer.reason.as_deref(), Some(reason));
        assert_eq!(switch.asked.load(Ordering::Relaxed), 1);
        bank.settled();
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_stop_a_transfer() {
    let (bank, switch) = without_risk(OnUnreachable::Park).await;
    let request = dollars(1, 1, 2, "100");
    bank.orchestrator.start(&request).await.expect("it starts");
    let at = bank.known(request.transfer_id).await.transfer.progress.since;
    // Another machine takes over, an hour behind.
    let behind = daybook_model::memory::ManualTime::new(
        daybook_model::Timestamp(at.0 - 3_600_000_000_000),
        1,
    );
    let other = Bank::over(behind, bank.store.clone(), Some(switch.clone()), Options::default());
    let ids = other.orchestrator.recover().await.expect("readable");
    let mut driving = pin!(other.orchestrator.drive(ids[0]));
    assert!(driving.as_mut().now_or_never().is_none());
    switch.there.store(true, Ordering::Relaxed);
    other.time.advance(Duration::from_secs(1));
    assert!(driving.now_or_never().is_some(), "a second is enough");
    assert_eq!(other.known(request.transfer_id).await.state(), State::Completed);
    assert!(other.time.now() < at);
}

#[tokio::test]
async fn what_the_store_refuses_for_now_is_recorded_and_tried_again() {
    for (error, reason) in [
        (overloaded(), "overloaded: "),
        (AppendError::ClockLeapt { seconds: 9 }, "clock_leapt: "),
        (AppendError::DiskFull { location: "/".into(), reason: "full".into() }, "disk_full: "),
    ] {
        let bank = bank().await;
        let request = dollars(1, 1, 2, "100");
        bank.orchestrator.start(&request).await.expect("it starts");
        // The credit is refused, then its record, then both are taken.
        let mut refusals = 3;
        bank.store.judge(move |_| {
            refusals -= i32::from(refusals > 0);
            if refusals > 0 { Fate::Refused(error.clone()) } else { Fate::Done }
        });
        bank.run(bank.orchestrator.drive(request.transfer_id)).await;
        let known = bank.known(request.transfer_id).await;
        assert_eq!(known.state(), State::Completed, "{reason}");
        let failures: Vec<_> =
            known.transfer.steps.iter().filter_map(|step| step.failure.clone()).collect();
        assert_eq!(failures.len(), 1);
        assert!(failures[0].starts_with(reason), "{failures:?}");
        bank.settled();
    }
}

#[tokio::test]
async fn a_start_that_the_store_refuses_leaves_nothing() {
    let bank = bank().await;
    let request = dollars(1, 1, 2, "100");
    bank.store.judge(|_| Fate::Refused(overloaded()));
    let refused = bank.orchestrator.start(&request).await;
    assert!(matches!(refused, Err(StartError::Append(AppendError::Overloaded { .. }))));
    assert!(bank.orchestrator.unfinished().is_empty());
    assert!(bank.orchestrator.next_lost().now_or_never().is_none());
    bank.store.pardon();
    assert_eq!(bank.pay(&request).await.state(), State::Completed);
}

#[tokio::test]
async fn a_credit_that_never_succeeds_is_undone_after_its_attempts() {
    let bank = bank().await;
    bank.store.judge(|append| match has(append, "TransferCredited") {
        true => Fate::Refused(overloaded()),
        false => Fate::Done,
    });
    let known = bank.pay(&dollars(1, 1, 2, "100")).await;
    assert_eq!(known.state(), State::Compensated);
    assert!(known.transfer.reason.is_some_and(|reason| reason.starts_with("overloaded: ")));
    let attempts = known.transfer.steps.iter().filter(|s| s.step == "credit_receiver").count();
    assert_eq!(attempts, PAYMENT_TRANSFER.steps[2].retry.attempts_max as usize);
    assert_eq!(bank.balance(1).await, "1000.00");
    bank.settled();
}

#[tokio::test]
async fn an_unknown_outcome_is_looked_up_and_nothing_happens_twice() {
    for (n, fate) in [(1, Fate::Lost), (1, Fate::Dropped), (2, Fate::Lost), (2, Fate::Dropped)] {
        let bank = bank().await;
        let request = dollars(1, 1, 2, "100");
        at_append(&bank.store, n, fate.clone());
        let started = bank.orchestrator.start(&request).await;
        if n == 1 {
            let unknown = matches!(started, Err(StartError::Append(AppendError::Unknown { .. })));
            assert!(unknown, "{started:?}");
            let lost = bank.orchestrator.next_lost().now_or_never();
            assert_eq!(lost, Some(request.transfer_id));
        }
        bank.run(bank.orchestrator.drive(request.transfer_id)).await;
        let stored = bank.orchestrator.transfer(request.transfer_id).await.expect("readable");
        let state = stored.map(|known| known.state());
        assert_eq!(state, Some(State::Completed), "{n} {fate:?}");
        assert!(bank.orchestrator.unfinished().is_empty());
        // Whoever asked asks again.
        assert_eq!(bank.pay(&request).await.state(), State::Completed);
        assert_eq!(bank.balance(2).await, "100.00");
        bank.settled();
    }
}

#[tokio::test]
async fn a_closed_store_ends_the_driving_and_a_restart_resumes_it() {
    let bank = bank().await;
    let request = dollars(1, 1, 2, "100");
    bank.orchestrator.start(&request).await.expect("it starts");
    let waiting = bank.orchestrator.finished(request.transfer_id);
    bank.store.judge(|_| Fate::Refused(AppendError::Closed { reason: "stopping".into() }));
    let (waited, ()) = tokio::join!(waiting, bank.orchestrator.drive(request.transfer_id));
    assert!(matches!(waited, Err(WaitError::Stopped)), "{waited:?}");
    let later = bank.orchestrator.finished(request.transfer_id).now_or_never();
    assert!(matches!(later, Some(Err(WaitError::Stopped))), "{later:?}");
    assert!(bank.orchestrator.next_lost().now_or_never().is_none());
    bank.store.pardon();
    let bank = bank.restarted();
    bank.recover_and_drive().await;
    assert_eq!(bank.known(request.transfer_id).await.state(), State::Completed);
}

#[tokio::test]
async fn a_transfer_whose_caller_went_away_is_begun_once_and_driven() {
    for fate in [Fate::CrashBefore, Fate::CrashAfter] {
        let bank = bank().await;
        let request = dollars(1, 1, 2, "100");
        at_append(&bank.store, 1, fate);
        assert!(bank.orchestrator.start(&request).now_or_never().is_none());
        let lost = bank.orchestrator.next_lost().now_or_never();
        assert_eq!(lost, Some(request.transfer_id));
        bank.run(bank.orchestrator.drive(request.transfer_id)).await;
        assert_eq!(bank.known(request.transfer_id).await.state(), State::Completed);
        assert!(bank.orchestrator.next_lost().now_or_never().is_none());
        assert!(bank.orchestrator.unfinished().is_empty());
        bank.settled();
    }
}

#[tokio::test]
async fn a_drive_that_is_dropped_is_found() {
    let (bank, switch) = without_risk(OnUnreachable::Park).await;
    let request = dollars(1, 1, 2, "100");
    bank.orchestrator.start(&request).await.expect("it starts");
    drop(bank.orchestrator.drive(request.transfer_id));
    let lost = bank.orchestrator.next_lost().now_or_never().expect("never polled, it is found");
    assert!(bank.orchestrator.drive(lost).now_or_never().is_none());
    let lost = bank.orchestrator.next_lost().now_or_never().expect("it is found");
    switch.there.store(true, Ordering::Relaxed);
    bank.run(bank.orchestrator.drive(lost)).await;
    assert_eq!(bank.known(request.transfer_id).await.state(), State::Completed);
}

#[tokio::test]
async fn whoever_waits_for_a_transfer_that_nobody_drives_has_it_driven() {
    let bank = bank().await;
    let request = dollars(1, 1, 2, "100");
    bank.orchestrator.start(&request).await.expect("it starts");
    // This process knows nothing of it.
    let bank = bank.restarted();
    let mut waiting = pin!(bank.orchestrator.finished(request.transfer_id));
    assert!(waiting.as_mut().now_or_never().is_none());
    let lost = bank.orchestrator.next_lost().now_or_never().expect("it is found");
    bank.run(bank.orchestrator.drive(lost)).await;
    let known = waiting.await.expect("it was driven").expect("it exists");
    assert_eq!(known.state(), State::Completed);
}

/// A transfer that could not be undone: the sender refused the refund.
async fn failed() -> Bank {
    let bank = bank().await;
    let request = dollars(1, 1, 99, "1000");
    bank.orchestrator.start(&request).await.expect("it starts");
    bank.store.judge(|append| match has(append, "TransferRefunded") {
        true => Fate::Refused(overloaded()),
        false => Fate::Done,
    });
    bank.run(bank.orchestrator.drive(request.transfer_id)).await;
    bank.store.pardon();
    bank
}

#[tokio::test]
async fn a_transfer_that_cannot_be_undone_is_listed_until_somebody_resumes_it() {
    let bank = failed().await;
    let known = bank.orchestrator.failed();
    assert_eq!(known.len(), 1);
    let reason = known[0].transfer.reason.clone().unwrap_or_default();
    assert!(reason.starts_with("overloaded: "), "{reason}");
    let types = bank.types(transfer_stream(transfer(1)).as_str());
    assert_eq!(types.last().map(String::as_str), Some("PaymentFailed"));
    let told = bank.orchestrator.finished(transfer(1)).await.expect("it rests");
    assert_eq!(told.map(|known| known.state()), Some(State::Failed));
    // It is not driven again by itself, and survives a restart.
    let bank = bank.restarted();
    assert!(bank.orchestrator.recover().await.expect("readable").is_empty());
    assert_eq!(bank.orchestrator.failed(), known);
    bank.run(bank.orchestrator.drive(transfer(1))).await;
    assert_eq!(bank.orchestrator.failed(), known);
    bank.orchestrator.resume(transfer(1), "ops").await.expect("it failed");
    bank.run(bank.orchestrator.drive(transfer(1))).await;
    let resumed = bank.known(transfer(1)).await;
    assert_eq!(resumed.state(), State::Compensated);
    assert_eq!(bank.balance(1).await, "1000.00");
    assert!(bank.orchestrator.unfinished().is_empty());
    bank.settled();
}

#[tokio::test]
async fn a_transfer_that_cannot_be_undone_can_be_abandoned() {
    let bank = failed().await;
    let orchestrator = &bank.orchestrator;
    orchestrator.abandon(transfer(1), "paid by hand", "ops").await.expect("it failed");
    let known = bank.known(transfer(1)).await;
    assert_eq!(known.state(), State::Abandoned);
    assert_eq!(known.transfer.reason.as_deref(), Some("paid by hand"));
    assert!(orchestrator.unfinished().is_empty());
    let again = orchestrator.resume(transfer(1), "ops").await;
    let over = matches!(again, Err(ControlError::NotFailed { state: State::Abandoned, .. }));
    assert!(over, "{again:?}");
    let unknown = orchestrator.abandon(transfer(2), "r", "ops").await;
    assert!(matches!(unknown, Err(ControlError::NotFound { .. })), "{unknown:?}");
    for (reason, by, field) in [("", "ops", "reason"), ("r", "a\nb", "abandoned_by")] {
        let wrong = orchestrator.abandon(transfer(1), reason, by).await;
        assert!(matches!(wrong, Err(ControlError::Invalid { field: f }) if f == field));
    }
    bank.audited();
}

#[tokio::test]
async fn a_sender_that_was_closed_meanwhile_makes_the_transfer_fail_at_once() {
    let bank = bank().await;
    bank.orchestrator.start(&dollars(1, 1, 99, "1000")).await.expect("it starts");
    bank.close(1).await;
    bank.run(bank.orchestrator.drive(transfer(1))).await;
    let known = bank.known(transfer(1)).await;
    assert_eq!(known.state(), State::Failed);
    assert!(known.transfer.reason.is_some_and(|reason| reason.starts_with("account_closed: ")));
    let sums = bank.audited();
    let clearing = sums.sums(support::currency("USD")).map(|sums| sums.clearing.to_string());
    assert_eq!(clearing.as_deref(), Some("1000.00"));
}

#[tokio::test]
async fn a_stranger_who_took_a_step_s_transaction_id_harms_only_that_transfer() {
    let bank = bank().await;
    let taken = Uuid::new_v5(&transfer(1), b"credit_receiver/action");
    let freeze =
        FreezeAccount { reason: "x".to_owned(), frozen_by: "x".to_owned(), transaction_id: taken };
    let task = daybook_model::repository::Task {
        command: AccountCommand::Freeze(freeze),
        transaction: daybook_model::repository::Transaction { id: taken, digest: [9; 16] },
        context: None,
        record: None,
    };
    let stream = daybook_ledger::account::account_stream(account(2));
    bank.accounts.execute(&stream, task).await.expect("it is accepted");
    let known = bank.pay(&dollars(1, 1, 2, "100")).await;
    assert_eq!(known.state(), State::Compensated);
    assert!(known.transfer.reason.is_some_and(|r| r.starts_with("transaction_reused: ")));
    bank.settled();
}

/// Every append of a transfer is cut, before and after it is done; then another process takes over.
#[tokio::test]
async fn a_crash_at_any_commit_loses_and_doubles_nothing() {
    let scenarios: [(&str, u128, State); 3] = [
        ("completes", 2, State::Completed),
        ("is undone after the receiver refused", 99, State::Compensated),
        ("is undone after risk refused", 3, State::Compensated),
    ];
    for (name, receiver, expected) in scenarios {
        for cut in 1..=6 {
            for fate in [Fate::CrashBefore, Fate::CrashAfter] {
                let bank = bank().await;
                bank.open(3, "0", "USD").await;
                bank.flag(3, "mule").await;
                at_append(&bank.store, cut, fate.clone());
                let request = dollars(1, 1, receiver, "100");
                let pays = async {
                    bank.orchestrator.start(&request).await.expect("it starts");
                    bank.orchestrator.drive(request.transfer_id).await;
                };
                // It hangs at the cut, and is dropped with all it knows.
                let _ = pays.now_or_never();
                bank.audited();
                bank.store.pardon();
                let bank = bank.restarted();
                bank.recover_and_drive().await;
                let stored = bank.orchestrator.transfer(request.transfer_id).await;
                let state = stored.expect("readable").map(|known| known.state());
                let never_began = (cut, &fate) == (1, &Fate::CrashBefore);
                let expected = (!never_began).then_some(expected);
                assert_eq!(state, expected, "{name}, cut {cut} {fate:?}");
                bank.settled();
                assert!(bank.orchestrator.unfinished().is_empty());
            }
        }
    }
}

#[tokio::test]
async fn two_who_drive_the_same_transfer_do_no_harm() {
    let bank = bank().await;
    let other = bank.restarted();
    for n in 1..=20 {
        let request = dollars(n, 1, if n % 3 == 0 { 99 } else { 2 }, "10");
        bank.orchestrator.start(&request).await.expect("it starts");
        let drives =
            [&bank, &other, &bank, &other].map(|bank| bank.orchestrator.drive(request.transfer_id));
        bank.run(join_all(drives)).await;
        assert!(bank.known(request.transfer_id).await.state().is_over());
    }
    bank.settled();
    assert_eq!(bank.count("PaymentCompleted"), 14);
    assert_eq!(bank.count("PaymentRejected"), 6);
}

#[tokio::test]
async fn a_recovery_reads_from_the_checkpoint_and_needs_none() {
    let bank = bank().await;
    let stream = StreamName::new("ledger.unfinished").expect("a name");
    let ids = |bank: &Bank| -> BTreeSet<Uuid> {
        let unfinished = bank.orchestrator.unfinished();
        unfinished.iter().map(|known| known.transfer.id()).collect()
    };
    bank.orchestrator.checkpoint().await;
    assert_eq!(bank.store.last_snapshot(&stream), None, "there is nothing to say");
    // Some over, some begun before the checkpoint, one of them ended after it.
    bank.pay(&dollars(1, 1, 2, "1")).await;
    for n in [2, 3] {
        bank.orchestrator.start(&dollars(n, 1, 2, "1")).await.expect("it starts");
    }
    bank.orchestrator.checkpoint().await;
    let checkpoint = bank.store.last_snapshot(&stream).expect("it was put");
    assert_eq!(checkpoint.revision, Revision(5 + 2 + 2));
    bank.run(bank.orchestrator.drive(transfer(2))).await;
    bank.orchestrator.start(&dollars(4, 1, 2, "1")).await.expect("it starts");
    let expected = BTreeSet::from([transfer(3), transfer(4)]);
    assert_eq!(ids(&bank), expected);
    let recovered = bank.restarted();
    recovered.orchestrator.recover().await.expect("readable");
    assert_eq!(ids(&recovered), expected);
    // It is used: one that omits a transfer hides it.
    bank.store.put_snapshot(&stream, Snapshot { data: Default::default(), ..checkpoint.clone() });
    let trusting = bank.restarted();
    trusting.orchestrator.recover().await.expect("readable");
    assert_eq!(ids(&trusting), BTreeSet::from([transfer(4)]));
    // One of another layout, or another kind, is not.
    for other in [
        Snapshot { schema: 9, ..checkpoint.clone() },
        Snapshot { kind: "x".to_owned(), ..checkpoint.clone() },
        Snapshot { data: vec![0; 15].into(), ..checkpoint.clone() },
    ] {
        bank.store.put_snapshot(&stream, other);
        let ignoring = bank.restarted();
        ignoring.orchestrator.recover().await.expect("readable");
        assert_eq!(ids(&ignoring), expected);
    }
    // What is checkpointed after a recovery counts on from what that found.
    recovered.recover_and_drive().await;
    recovered.orchestrator.checkpoint().await;
    let last = recovered.store.last_snapshot(&stream).expect("it was put");
    assert_eq!((last.revision, last.data.len()), (Revision(4 * 5), 0));
}

#[tokio::test]
async fn a_transfer_that_cannot_be_read_keeps_no_other_from_going_on() {
    let bank = bank().await;
    let request = dollars(1, 1, 2, "100");
    bank.orchestrator.start(&request).await.expect("it starts");
    let alien = NewEvent::json(Uuid::from_u128(7), "PaymentInitiated", "{}");
    let alien =
        Append::to_stream(transfer_stream(transfer(2)), ExpectedRevision::NoStream, [alien]);
    bank.store.append(alien).await.expect("nothing forbids it here");
    let bank = bank.restarted();
    bank.recover_and_drive().await;
    assert_eq!(bank.known(request.transfer_id).await.state(), State::Completed);
    // A checkpoint would hide it from a version that can read it.
    bank.orchestrator.checkpoint().await;
    let name = StreamName::new("ledger.unfinished").expect("a name");
    assert_eq!(bank.store.last_snapshot(&name), None);
}
