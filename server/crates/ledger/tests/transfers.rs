//! Transfers from one end to the other: what becomes of the money, and what is recorded.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use daybook_ledger::account::account_stream;
use daybook_ledger::orchestrator::StartError;
use daybook_ledger::risk::{Rules, RulesCommand};
use daybook_ledger::saga::State;
use daybook_ledger::transfer::{FxRequest, Rounding, TransferRequest, transfer_stream};
use daybook_model::repository::{Task, Transaction};
use futures_util::future::join_all;
use support::{Bank, account, currency, decimal, dollars, transfer};
use uuid::Uuid;

#[tokio::test]
async fn a_payment_that_goes_well_takes_two_commits_and_is_recorded_step_by_step() {
    let bank = Bank::new();
    bank.open(1, "1000", "USD").await;
    bank.open(2, "0", "USD").await;
    let before = bank.store.appends();
    let known = bank.pay(&dollars(1, 1, 2, "100")).await;
    assert_eq!(known.state(), State::Completed);
    assert_eq!(bank.store.appends() - before, 2);
    assert_eq!((bank.balance(1).await, bank.balance(2).await), ("900.00".into(), "100.00".into()));
    assert_eq!(
        bank.types(transfer_stream(transfer(1)).as_str()),
        [
            "PaymentInitiated",
            "SagaStepCompleted",
            "SagaStepCompleted",
            "SagaStepCompleted",
            "PaymentCompleted",
        ]
    );
    assert_eq!(
        bank.types(account_stream(account(1)).as_str()),
        ["AccountOpened", "TransferDebited"]
    );
    assert_eq!(
        bank.types(account_stream(account(2)).as_str()),
        ["AccountOpened", "TransferCredited"]
    );
    let steps: Vec<_> = known.transfer.steps.iter().map(|s| (s.step, s.failure.clone())).collect();
    assert_eq!(steps, [("debit_sender", None), ("check_risk", None), ("credit_receiver", None)]);
    let log = bank.store.log();
    let completed = log.iter().find(|event| event.event_type == "PaymentCompleted");
    let data = completed.map(|event| String::from_utf8_lossy(&event.data).into_owned());
    assert!(data.is_some_and(|data| data.contains(r#""amount":"100.00""#)));
    // All that belongs to the transfer has its id as correlation id.
    let correlated = format!(r#""$correlationId":"{}""#, transfer(1));
    let of_transfer = log.iter().filter(|event| {
        std::str::from_utf8(&event.metadata).is_ok_and(|text| text.contains(&correlated))
    });
    assert_eq!(of_transfer.count(), 7);
    bank.settled();
}

#[tokio::test]
async fn what_goes_wrong_is_undone_and_says_why() {
    let bank = Bank::new();
    bank.open(1, "10000", "USD").await;
    bank.open(2, "0", "USD").await;
    bank.open(3, "10000", "USD").await;
    bank.flag(3, "suspicious_activity").await;
    bank.open(4, "0", "EUR").await;
    bank.open(5, "0", "USD").await;
    bank.close(5).await;
    bank.open(6, "10000", "USD").await;
    bank.freeze(6).await;
    bank.open(7, "0", "USD").await;
    bank.flag(7, "mule").await;
    let euros = TransferRequest { currency: currency("EUR"), ..dollars(9, 1, 2, "1") };
    let nobody = 99;
    // Whose fault it is, the words the reason begins with, and the commits it takes.
    let cases = [
        (dollars(1, 3, nobody, "5000"), "risk_check_failed: sender_flagged: account", 2),
        (dollars(2, 1, 7, "1"), "risk_check_failed: receiver_flagged: account", 2),
        (dollars(3, 1, nobody, "1"), "receiver_not_found: ", 3),
        (dollars(4, 1, 4, "1"), "currency_mismatch: ", 3),
        (dollars(5, 1, 5, "1"), "account_closed: ", 3),
        (dollars(6, nobody, 2, "1"), "sender_not_found: ", 1),
        (dollars(7, 1, 2, "10000.01"), "insufficient_funds: ", 1),
        (dollars(8, 6, 2, "1"), "account_frozen: ", 1),
        (euros, "currency_mismatch: ", 1),
        (dollars(10, 5, 2, "1"), "account_closed: ", 1),
    ];
    let opened = bank.settled();
    for (request, reason, commits) in cases {
        let before = bank.store.appends();
        let known = bank.pay(&request).await;
        let found = known.transfer.reason.clone().unwrap_or_default();
        assert!(found.starts_with(reason), "{reason}: {found}");
        assert_eq!(known.state(), State::Compensated, "{reason}");
        assert_eq!(bank.store.appends() - before, commits, "{reason}");
        let types = bank.types(transfer_stream(request.transfer_id).as_str());
        assert_eq!(types.last().map(String::as_str), Some("PaymentRejected"), "{reason}");
        assert_eq!(bank.settled(), opened, "{reason}");
    }
    assert_eq!(bank.balance(3).await, "10000.00");
    assert_eq!(bank.count("PaymentRejected"), 10);
    assert_eq!(bank.count("PaymentCompleted"), 0);
    // A frozen account takes money in.
    assert_eq!(bank.pay(&dollars(11, 1, 6, "1")).await.state(), State::Completed);
    let counters = bank.orchestrator.counters();
    assert_eq!(counters.started.load(Ordering::Relaxed), 11);
    assert_eq!(counters.compensated.load(Ordering::Relaxed), 10);
    assert_eq!(counters.completed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_refund_gives_back_the_daily_limit() {
    let bank = Bank::new();
    bank.open(1, "2000000", "USD").await;
    bank.pay(&dollars(1, 1, 99, "1000000")).await;
    assert_eq!(bank.balance(1).await, "2000000.00");
    bank.open(2, "0", "USD").await;
    assert_eq!(bank.pay(&dollars(2, 1, 2, "1000000")).await.state(), State::Completed);
    let third = bank.pay(&dollars(3, 1, 2, "0.01")).await;
    assert!(third.transfer.reason.is_some_and(|r| r.starts_with("daily_limit_exceeded: ")));
}

#[tokio::test]
async fn a_transfer_between_currencies_balances_in_each() {
    let bank = Bank::new();
    bank.open(1, "1000", "USD").await;
    bank.open(2, "0", "EUR").await;
    bank.open(3, "0", "JPY").await;
    let converting = |n, receiver, rate, code, rounding| TransferRequest {
        fx: Some(FxRequest { rate: decimal(rate), currency: currency(code), rounding }),
        ..dollars(n, 1, receiver, "100.10")
    };
    let known = bank.pay(&converting(1, 2, "0.9213", "EUR", Rounding::HalfEven)).await;
    assert_eq!(known.state(), State::Completed);
    assert_eq!(bank.balance(2).await, "92.22");
    let refused = bank.pay(&converting(2, 3, "0.9213", "EUR", Rounding::HalfEven)).await;
    assert!(refused.transfer.reason.is_some_and(|r| r.starts_with("currency_mismatch: ")));
    bank.pay(&converting(3, 3, "155.5", "JPY", Rounding::Down)).await;
    assert_eq!(bank.balance(3).await, "15565");
    assert_eq!(bank.balance(1).await, "799.80");
    let books = bank.settled();
    let fx = |code| books.sums(currency(code)).map(|sums| sums.fx_position.to_string());
    assert_eq!(fx("USD").as_deref(), Some("200.20"));
    assert_eq!(fx("EUR").as_deref(), Some("-92.22"));
    assert_eq!(fx("JPY").as_deref(), Some("-15565"));
}

#[tokio::test]
async fn rules_hold_from_the_next_transfer_on() {
    let bank = Bank::new();
    bank.open(1, "1000", "USD").await;
    bank.open(2, "0", "USD").await;
    let rules = |maximum: &str, hour| Rules {
        maximum_amount: [(currency("USD"), decimal(maximum))].into(),
        transfers_per_hour: Some(hour),
        ..Rules::default()
    };
    let change = async |n: u128, rules| {
        let transaction = Transaction { id: Uuid::from_u128(n), digest: [0; 16] };
        let command = RulesCommand { rules, changed_by: "ops".to_owned() };
        let task = Task { command, transaction, context: None, record: None };
        bank.engine.change(task).await.expect("good rules");
    };
    let reason = async |n: u128, amount: &str| {
        let known = bank.pay(&dollars(n, 1, 2, amount)).await;
        known.transfer.reason.unwrap_or_else(|| "completed".to_owned())
    };
    assert_eq!(reason(1, "100").await, "completed");
    change(1, rules("50", 3)).await;
    let maximum = "risk_check_failed: maximum_amount: 100.00 USD is more than 50.00";
    assert_eq!(reason(2, "100").await, maximum);
    assert_eq!(reason(3, "50").await, "completed");
    let hour = "risk_check_failed: transfers_per_hour: this is transfer 4 of at most 3";
    assert_eq!(reason(4, "1").await, hour);
    change(2, rules("50", 100)).await;
    assert_eq!(reason(5, "1").await, "completed");
    bank.settled();
}

#[tokio::test]
async fn the_same_request_is_the_same_transfer_for_ever() {
    let bank = Bank::new();
    bank.open(1, "1000", "USD").await;
    bank.open(2, "0", "USD").await;
    let request = dollars(1, 1, 2, "100");
    let first = bank.pay(&request).await;
    let refused = dollars(2, 1, 2, "5000");
    bank.pay(&refused).await;
    for bank in [bank.clone(), bank.restarted()] {
        let events = bank.store.log().len();
        let again = bank.orchestrator.start(&request).await.expect("the same");
        assert!(!again.first);
        assert_eq!(*again.known, first);
        let again = bank.orchestrator.start(&refused).await.expect("the same");
        assert_eq!((again.first, again.known.state()), (false, State::Compensated));
        for other in [
            dollars(1, 1, 2, "100.01"),
            dollars(1, 2, 1, "100"),
            dollars(1, 99, 2, "100"),
            TransferRequest { description: String::new(), ..dollars(2, 1, 2, "5000") },
        ] {
            let reused = bank.orchestrator.start(&other).await;
            assert!(matches!(reused, Err(StartError::Reused { .. })), "{reused:?}");
        }
        assert_eq!(bank.store.log().len(), events, "nothing was written");
        assert!(bank.orchestrator.unfinished().is_empty());
    }
    assert_eq!(bank.balance(2).await, "100.00");
}

#[tokio::test]
async fn one_request_sent_many_times_at_once_moves_money_once() {
    let bank = Bank::new();
    bank.open(1, "1000", "USD").await;
    bank.open(2, "0", "USD").await;
    let request = dollars(1, 1, 2, "100");
    bank.store.hold(true);
    let starts = join_all((0..50).map(|_| bank.orchestrator.start(&request)));
    let release = async {
        tokio::task::yield_now().await;
        bank.store.hold(false);
    };
    let (started, ()) = tokio::join!(starts, release);
    let first = started.into_iter().filter(|s| s.as_ref().expect("the same").first).count();
    assert_eq!(first, 1);
    bank.run(join_all((0..5).map(|_| bank.orchestrator.drive(request.transfer_id)))).await;
    assert_eq!(bank.balance(2).await, "100.00");
    assert_eq!(bank.count("PaymentCompleted"), 1);
    bank.settled();
}

#[tokio::test]
async fn nothing_is_written_of_a_request_that_makes_no_sense() {
    let bank = Bank::new();
    let request = dollars(1, 1, 1, "100");
    let refused = bank.orchestrator.start(&request).await;
    assert!(matches!(refused, Err(StartError::Invalid(_))), "{refused:?}");
    assert!(bank.store.log().is_empty());
}

#[tokio::test]
async fn payments_on_the_same_accounts_at_once_lose_no_cent() {
    let bank = Bank::new();
    for n in 1..=10 {
        bank.open(n, "1000", "USD").await;
    }
    // 1 is a merchant whom all others pay, and who pays some of them back.
    let pays = async |n: u128| {
        let (sender, receiver) = match n % 5 {
            0 => (1, 2 + n % 9),
            _ => (2 + n % 9, 1),
        };
        let request = dollars(n, sender, receiver, "40");
        let started = bank.orchestrator.start(&request).await.expect("it starts");
        if started.first && started.known.state().is_active() {
            bank.orchestrator.drive(request.transfer_id).await;
        }
        let known = bank.orchestrator.finished(request.transfer_id).await.expect("driven");
        known.expect("it exists").state()
    };
    let before = bank.store.appends();
    bank.store.hold(true);
    let all = join_all((1..=1_000).map(pays));
    let release = async {
        tokio::task::yield_now().await;
        bank.store.hold(false);
    };
    let (states, ()) = tokio::join!(all, release);
    let completed = states.iter().filter(|state| **state == State::Completed).count();
    assert!(completed > 200, "{completed} of 1,000");
    assert!(states.iter().all(|state| state.is_over()));
    let appends = bank.store.appends() - before;
    assert!(appends < 400, "1,000 transfers shared {appends} appends");
    let books = bank.settled();
    let customers = books.sums(currency("USD")).map(|sums| sums.customers.to_string());
    assert_eq!(customers.as_deref(), Some("10000.00"));
    for n in 1..=10 {
        assert!(!bank.balance(n).await.starts_with('-'), "account {n} is overdrawn");
    }
    assert!(bank.orchestrator.unfinished().is_empty());
}

#[tokio::test]
async fn how_many_transfers_a_sender_made_is_counted_when_it_is_debited() {
    let bank = Bank::new();
    bank.open(1, "1000", "USD").await;
    bank.open(2, "0", "USD").await;
    let rules = Rules { transfers_per_hour: Some(5), ..Rules::default() };
    let transaction = Transaction { id: Uuid::from_u128(1), digest: [0; 16] };
    let command = RulesCommand { rules, changed_by: "ops".to_owned() };
    let task = Task { command, transaction, context: None, record: None };
    bank.engine.change(task).await.expect("good rules");
    // A second before 23:00 ten are debited before the first is checked, and an eleventh after it.
    bank.time.advance(Duration::from_secs(46 * 60 + 39));
    for n in 1..=11 {
        if n == 11 {
            bank.time.advance(Duration::from_secs(2));
        }
        bank.orchestrator.start(&dollars(n, 1, 2, "1")).await.expect("it starts");
    }
    for n in 1..=11 {
        bank.run(bank.orchestrator.drive(transfer(n))).await;
    }
    let mut completed = Vec::new();
    for n in 1..=11 {
        if bank.known(transfer(n)).await.state() == State::Completed {
            completed.push(n);
        }
    }
    assert_eq!(completed, [1, 2, 3, 4, 5, 11]);
    bank.settled();
}
