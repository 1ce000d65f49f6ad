//! The ledger over HTTP, end to end: accounts, holds, transfers, history, statements, restarts.

use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::assert_says;
use crate::support::daemon::Daemon;
use crate::support::http::{call, get};
use crate::support::ledger::{Ledger, OWNER, id, payment, word};
use crate::support::node::Server;

async fn server(data: &TempDir) -> (Server, Ledger) {
    let server = Server::start(data.path()).await;
    let ledger = Ledger { address: server.address() };
    (server, ledger)
}

fn directory() -> TempDir {
    TempDir::new().expect("a directory")
}

fn usd(amount: &str) -> Value {
    json!({ "amount": amount, "currency": "USD" })
}

#[tokio::test(flavor = "multi_thread")]
async fn money_goes_in_and_out_by_the_rules() {
    let data = directory();
    let (server, ledger) = server(&data).await;
    let account = id(1);
    let opened = ledger.open(account, "1000.00").await;
    assert_eq!((&opened["balance"], &opened["available"]), (&json!("1000.00"), &json!("1500.00")));
    let path = |what: &str| format!("/v1/accounts/{account}/{what}");
    let reason = json!({ "reason": "lost card", "frozen_by": "support" });
    let unfrozen = json!({ "unfrozen_by": "support" });
    let closed = json!({ "closed_by": "support" });
    let limits = json!({ "overdraft_limit": "0", "daily_withdrawal_limit": "9000",
        "changed_by": "support", "reason": "asked for" });
    // Each line: what is asked, the word of its refusal or none, and the balance after it.
    let story: [(&str, &str, Value, &str, &str); 17] = [
        ("POST", "deposits", usd("250.50"), "", "1250.50"),
        ("POST", "withdrawals", usd("50.50"), "", "1200.00"),
        ("POST", "fees", usd("1.00"), "", "1199.00"),
        ("POST", "withdrawals", usd("1699.01"), "insufficient-funds", "1199.00"),
        (
            "POST",
            "deposits",
            json!({ "amount": "1", "currency": "JPY" }),
            "currency-mismatch",
            "1199.00",
        ),
        ("POST", "freeze", reason.clone(), "", "1199.00"),
        ("POST", "freeze", reason.clone(), "already-frozen", "1199.00"),
        ("POST", "withdrawals", usd("1"), "account-frozen", "1199.00"),
        ("POST", "deposits", usd("1"), "", "1200.00"),
        ("POST", "unfreeze", unfrozen.clone(), "", "1200.00"),
        ("POST", "unfreeze", unfrozen, "not-frozen", "1200.00"),
        ("PUT", "limits", limits, "", "1200.00"),
        ("POST", "withdrawals", usd("1200.01"), "insufficient-funds", "1200.00"),
        ("POST", "close", closed.clone(), "balance-not-zero", "1200.00"),
        ("POST", "withdrawals", usd("1200"), "", "0.00"),
        ("POST", "close", closed, "", "0.00"),
        ("POST", "deposits", usd("1"), "account-closed", "0.00"),
    ];
    for (number, (method, what, body, refused, balance)) in (100..).zip(story) {
        let answer = ledger.command(method, &path(what), id(number), &body).await;
        if refused.is_empty() {
            assert_eq!(answer.status, 201, "{number} {what}: {answer:?}");
            assert_eq!(answer.json()["account"]["balance"], balance, "{number} {what}");
        } else {
            assert_eq!((answer.status, word(&answer).as_str()), (422, refused), "{number} {what}");
        }
        assert_eq!(ledger.balance(account).await, balance, "{number} {what}");
    }
    assert_eq!(ledger.account(account).await["status"], "closed");
    let nowhere = format!("/v1/accounts/{}/deposits", id(9));
    let unknown = ledger.command("POST", &nowhere, id(900), &usd("1")).await;
    assert_eq!((unknown.status, word(&unknown).as_str()), (404, "account-not-found"));
    ledger.trial_balance().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn savings_and_credit_accounts_open_by_their_own_rules() {
    let data = directory();
    let (server, ledger) = server(&data).await;
    let cases = [
        (json!({ "account_type": "savings" }), "initial-deposit-too-small"),
        (
            json!({ "account_type": "savings", "initial_deposit": "99.99" }),
            "initial-deposit-too-small",
        ),
        (json!({ "account_type": "savings", "initial_deposit": "100" }), ""),
        (json!({ "account_type": "credit" }), "credit-limit-required"),
        (json!({ "account_type": "credit", "credit_limit": "2000" }), ""),
        (json!({ "account_type": "checking", "credit_limit": "1" }), "credit-limit-not-allowed"),
        (json!({ "account_type": "checking", "overdraft_limit": "0" }), ""),
    ];
    for (number, (mut body, refused)) in (1..).zip(cases) {
        body["currency"] = json!("USD");
        body["owner_id"] = json!(OWNER);
        let answer = ledger.command("POST", "/v1/accounts", id(number), &body).await;
        if refused.is_empty() {
            assert_eq!(answer.status, 201, "{body}: {answer:?}");
            let location = format!("/v1/accounts/{}", id(number));
            assert_eq!(answer.header("location"), Some(location.as_str()));
        } else {
            assert_eq!((answer.status, word(&answer).as_str()), (422, refused), "{body}");
            assert_eq!(
                get(ledger.address, &format!("/v1/accounts/{}", id(number))).await.status,
                404
            );
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_happens_once_also_across_a_restart() {
    let data = directory();
    let (server, ledger) = server(&data).await;
    let (account, other) = (id(1), id(2));
    let opened = ledger.open(account, "10.00").await;
    ledger.open(other, "10.00").await;
    let path = format!("/v1/accounts/{account}/deposits");
    let first = ledger.post(&path, id(100), &usd("5.00")).await;
    ledger.post(&path, id(101), &usd("1.00")).await;
    let paid = ledger.pay(id(300), account, other, "2.00").await;
    server.stop().await;

    let server = Server::start(data.path()).await;
    let ledger = Ledger { address: server.address() };
    let before = server.store().committed();
    let again = ledger.command("POST", &path, id(100), &usd("5.00")).await;
    assert_eq!((again.status, again.json()), (201, first), "the first answer");
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    let body = json!({ "account_type": "checking", "currency": "USD", "owner_id": OWNER,
        "initial_deposit": "10.00" });
    assert_eq!(ledger.post("/v1/accounts", account, &body).await, opened);
    assert_eq!(ledger.pay(id(300), account, other, "2.00").await, paid);
    let other_amount = ledger.command("POST", &path, id(100), &usd("5.01")).await;
    let other_verb = format!("/v1/accounts/{account}/withdrawals");
    let other_verb = ledger.command("POST", &other_verb, id(100), &usd("5.00")).await;
    let other_transfer = ledger.ask_transfer(id(300), &payment(account, other, "3.00"), 60).await;
    for refused in [other_amount, other_verb, other_transfer] {
        assert_eq!((refused.status, word(&refused).as_str()), (409, "idempotency-key-reused"));
    }
    assert_eq!(server.store().committed(), before, "nothing was written");
    // A key is the account's: another account may have the same.
    let elsewhere = format!("/v1/accounts/{other}/deposits");
    ledger.post(&elsewhere, id(100), &usd("7.00")).await;
    assert_eq!(ledger.balance(account).await, "14.00");
    assert_eq!(ledger.balance(other).await, "19.00");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_is_captured_in_part_and_the_rest_released() {
    let data = directory();
    let (server, ledger) = server(&data).await;
    let (account, hold) = (id(1), id(50));
    ledger.open(account, "100.00").await;
    let holds = format!("/v1/accounts/{account}/holds");
    let placed = ledger.post(&holds, hold, &usd("80.00")).await;
    let held = &placed["account"];
    assert_eq!((&held["balance"], &held["held"]), (&json!("100.00"), &json!("80.00")));
    assert_eq!((&held["available"], &held["withdrawn_today"]), (&json!("520.00"), &json!("80.00")));
    assert_eq!(held["holds"][0]["hold_id"], json!(hold));
    let capture = format!("{holds}/{hold}/capture");
    let captured = ledger.post(&capture, id(60), &json!({ "amount": "30.00" })).await;
    assert_eq!(captured["account"]["balance"], "70.00");
    assert_eq!(captured["account"]["holds"][0]["remaining"], "50.00");
    let more = ledger.command("POST", &capture, id(61), &json!({ "amount": "50.01" })).await;
    assert_eq!((more.status, word(&more).as_str()), (422, "capture-exceeds-hold"));
    let wrong = ledger.command("POST", &capture, id(62), &json!({ "amount": "1.001" })).await;
    assert_eq!((wrong.status, &wrong.json()["field"]), (400, &json!("amount")));
    let released = ledger.post(&format!("{holds}/{hold}/release"), id(63), &json!({})).await;
    assert_eq!(released["account"]["held"], "0.00");
    let gone = ledger.command("POST", &capture, id(64), &json!({})).await;
    assert_eq!((gone.status, word(&gone).as_str()), (404, "hold-not-found"));
    let past = json!({ "amount": "1", "currency": "USD", "expires_at": "2001-01-01T00:00:00Z" });
    let past = ledger.command("POST", &holds, id(65), &past).await;
    assert_eq!((past.status, &past.json()["field"]), (422, &json!("expires_at")));
    ledger.trial_balance().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_completes_or_leaves_everything_as_it_was() {
    let data = directory();
    let (server, ledger) = server(&data).await;
    let (rich, poor, frozen, yen) = (id(1), id(2), id(3), id(4));
    for (account, deposit) in [(rich, "1000.00"), (poor, "0.00"), (frozen, "10.00")] {
        ledger.open(account, deposit).await;
    }
    let body = json!({ "account_type": "checking", "currency": "JPY", "owner_id": OWNER });
    ledger.post("/v1/accounts", yen, &body).await;
    let freeze = json!({ "reason": "odd", "frozen_by": "support" });
    ledger.post(&format!("/v1/accounts/{frozen}/freeze"), id(20), &freeze).await;
    let flag = json!({ "reason": "seen before", "flagged_by": "risk" });
    let flag_path = format!("/v1/risk/accounts/{poor}/flag");

    let done = ledger.pay(id(100), rich, poor, "25.00").await;
    assert_eq!((&done["state"], &done["credited_amount"]), (&json!("completed"), &json!("25.00")));
    let names: Vec<&str> = done["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .filter_map(|step| step["step"].as_str())
        .collect();
    assert_eq!(names, ["debit_sender", "check_risk", "credit_receiver"]);
    let flagged = ledger.command("PUT", &flag_path, id(21), &flag).await;
    assert_eq!(flagged.json()["account"]["flagged"]["reason"], "seen before");

    let quote = |rate: &str| json!({ "rate": rate, "currency": "JPY", "rounding": "half_even" });
    let mut exchange = payment(rich, yen, "10.01");
    exchange["fx"] = quote("149.55");
    let cases = [
        (payment(rich, poor, "1.00"), "risk_check_failed", 2),
        (payment(poor, rich, "600.00"), "insufficient_funds", 1),
        (payment(frozen, rich, "1.00"), "account_frozen", 1),
        (payment(rich, id(99), "1.00"), "receiver_not_found", 2),
        (payment(rich, yen, "1.00"), "currency_mismatch", 2),
        (payment(id(99), rich, "1.00"), "sender_not_found", 1),
    ];
    for (number, (body, reason, least)) in (101..).zip(cases) {
        let answer = ledger.ask_transfer(id(number), &body, 60).await;
        let transfer = answer.json();
        assert_eq!((answer.status, &transfer["state"]), (200, &json!("compensated")), "{answer:?}");
        assert_says(transfer["reason"].as_str().expect("a reason"), &[reason]);
        assert!(transfer["steps"].as_array().expect("steps").len() >= least, "{transfer}");
        assert_eq!(transfer.get("credited_amount"), None);
        assert_eq!(ledger.transfer(id(number)).await, transfer);
        assert_eq!(ledger.balance(rich).await, "975.00", "{body}");
    }
    let exchanged = ledger.ask_transfer(id(200), &exchange, 60).await.json();
    assert_eq!(exchanged["state"], "completed", "{exchanged}");
    // 10.01 × 149.55 = 1496.9955
    assert_eq!(
        (&exchanged["credited_amount"], &exchanged["fx"]["amount"]),
        (&json!("1497"), &json!("1497"))
    );
    assert_eq!(ledger.balance(yen).await, "1497");
    assert_eq!(ledger.balance(rich).await, "964.99");
    let trial = ledger.trial_balance().await;
    let of = |code: &str| {
        let all = trial["currencies"].as_array().expect("currencies");
        all.iter().find(|sums| sums["currency"] == code).cloned().expect("a currency")
    };
    assert_eq!(
        (&of("USD")["fx_position"], &of("JPY")["fx_position"]),
        (&json!("10.01"), &json!("-1497"))
    );
    assert_eq!(of("USD")["clearing"], "0.00");
    assert_eq!(ledger.get("/v1/sagas").await["sagas"], json!([]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_can_be_seen_as_it_was() {
    let data = directory();
    let (server, ledger) = server(&data).await;
    let account = id(1);
    ledger.open(account, "100.00").await;
    let deposits = format!("/v1/accounts/{account}/deposits");
    let mut states = vec![ledger.account(account).await];
    for number in 0..6_u128 {
        states
            .push(ledger.post(&deposits, id(100 + number), &usd("1.00")).await["account"].clone());
    }
    for (revision, state) in states.iter().enumerate() {
        let path = format!("/v1/accounts/{account}?revision={revision}");
        assert_eq!(&ledger.get(&path).await, state);
        let at = state["updated_at"].as_str().expect("a time");
        assert_eq!(&ledger.get(&format!("/v1/accounts/{account}?at={at}")).await, state, "{at}");
    }
    for (query, status, word_of) in [
        ("revision=7", 400, "invalid-request"),
        ("revision=x", 400, "invalid-request"),
        ("at=yesterday", 400, "invalid-request"),
        ("at=2200-01-01T00:00:00Z", 400, "invalid-request"),
        ("at=2001-01-01T00:00:00Z", 404, "account-not-found"),
        ("at=2001-01-01T00:00:00Z&revision=1", 400, "invalid-request"),
        ("when=now", 400, "invalid-request"),
    ] {
        let answer = get(ledger.address, &format!("/v1/accounts/{account}?{query}")).await;
        assert_eq!((answer.status, word(&answer).as_str()), (status, word_of), "{query}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_read_page_by_page_and_adds_up() {
    let data = directory();
    let (server, ledger) = server(&data).await;
    let (account, other) = (id(1), id(2));
    ledger.open(account, "100.00").await;
    ledger.open(other, "0.00").await;
    let hold = json!({ "amount": "5.00", "currency": "USD", "description": "=a \"card\", 1" });
    ledger.post(&format!("/v1/accounts/{account}/deposits"), id(10), &usd("11.00")).await;
    ledger.post(&format!("/v1/accounts/{account}/holds"), id(11), &hold).await;
    ledger
        .post(&format!("/v1/accounts/{account}/holds/{}/capture", id(11)), id(12), &hold_text())
        .await;
    ledger.pay(id(13), account, other, "20.00").await;
    let mut seen = Vec::new();
    let mut path = format!("/v1/accounts/{account}/transactions?limit=2");
    loop {
        let page = ledger.get(&path).await;
        let entries = page["transactions"].as_array().expect("a page").clone();
        assert!((1..=2).contains(&entries.len()), "{page}");
        seen.extend(entries);
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/accounts/{account}/transactions?limit=2&cursor={next}");
    }
    let of = |entry: &Value, field: &str| entry[field].as_str().unwrap_or("null").to_owned();
    let shown: Vec<[String; 3]> = seen
        .iter()
        .map(|entry| [of(entry, "type"), of(entry, "amount"), of(entry, "balance")])
        .collect();
    let expected = [
        ["AccountOpened", "100.00", "100.00"],
        ["MoneyDeposited", "11.00", "111.00"],
        ["HoldPlaced", "0.00", "null"],
        ["HoldCaptured", "-5.00", "106.00"],
        ["TransferDebited", "-20.00", "86.00"],
    ];
    assert_eq!(shown, expected.map(|line| line.map(str::to_owned)));
    assert_eq!(seen[4]["transfer_id"], json!(id(13)));
    assert_eq!(seen[4]["counterparty_id"], json!(other));

    let statement = ledger.get(&format!("/v1/accounts/{account}/statement")).await;
    assert_eq!(
        (&statement["opening_balance"], &statement["closing_balance"]),
        (&json!("0.00"), &json!("86.00"))
    );
    assert_eq!(statement["entries"].as_array().map(Vec::len), Some(4), "a hold moves no money");
    // From after the deposit up to before the transfer: the capture alone.
    let (from, to) = (of(&seen[2], "occurred_at"), of(&seen[4], "occurred_at"));
    let path = format!("/v1/accounts/{account}/statement?from={from}&to={to}");
    let part = ledger.get(&path).await;
    assert_eq!(
        (&part["opening_balance"], &part["closing_balance"]),
        (&json!("111.00"), &json!("106.00"))
    );
    assert_eq!(part["entries"], json!([seen[3]]));
    let csv = call(ledger.address, "GET", &path, &[("accept", "text/csv")], "").await;
    assert_says(
        &csv.body,
        &[
            "revision,occurred_at,type,description,amount,balance",
            "OpeningBalance,,,111.00,USD",
            "HoldCaptured,\"'=a \"\"card\"\", 1\",-5.00,106.00,USD",
            "ClosingBalance,,,106.00,USD",
        ],
    );
    let early = format!("/v1/accounts/{account}/statement?from=2001-01-01&to=2001-12-31");
    let early = ledger.get(&early).await;
    assert_eq!((&early["closing_balance"], &early["entries"]), (&json!("0.00"), &json!([])));
    for (query, field) in [
        ("from=2026-13-01", "from"),
        ("to=soon", "to"),
        ("from=2002-01-01&to=2001-01-01", "from"),
        ("until=2001-01-01", "until"),
    ] {
        let path = format!("/v1/accounts/{account}/statement?{query}");
        let answer = get(ledger.address, &path).await;
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
        assert_says(&answer.body, &[field]);
    }
    server.stop().await;
}

fn hold_text() -> Value {
    json!({ "description": "=a \"card\", 1" })
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_on_one_account_lose_and_double_nothing() {
    const PAYERS: u128 = 40;
    const EACH: u128 = 5;
    let data = directory();
    let (server, ledger) = server(&data).await;
    let merchant = id(1);
    ledger.open(merchant, "0.00").await;
    let payers = (0..PAYERS).map(|payer| {
        tokio::spawn(async move {
            let account = id(1000 + payer);
            ledger.open(account, "100.00").await;
            for n in 0..EACH {
                let transfer = id(10_000 + payer * EACH + n);
                let paid = ledger.pay(transfer, account, merchant, "1.25").await;
                assert_eq!(paid["state"], "completed", "{paid}");
            }
            account
        })
    });
    let payers: Vec<_> = payers.collect();
    for payer in payers {
        let account = payer.await.expect("no panic");
        assert_eq!(ledger.balance(account).await, "93.75");
    }
    assert_eq!(ledger.balance(merchant).await, "250.00");
    let trial = ledger.trial_balance().await;
    assert_eq!(trial["currencies"][0]["customers"], "4000.00");
    assert_eq!(trial["verified"]["accounts"], json!(PAYERS + 1));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_goes_on_with_every_transfer() {
    let data = directory();
    // Nobody answers there: every transfer waits for its risk check, its sender debited.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", nobody.local_addr().expect("an address"));
    drop(nobody);
    let mut command = crate::support::daemon::daybook(&["serve", "--listen", "127.0.0.1:0"]);
    command.arg("--data").arg(data.path()).args(["--risk-url", &url]);
    let daemon = Daemon::spawn(command, crate::support::PATIENCE).expect("a server");
    let ledger = Ledger { address: daemon.address };
    ledger.open(id(1), "1000.00").await;
    ledger.open(id(2), "0.00").await;
    let transfers: Vec<Uuid> = (100..120).map(id).collect();
    for transfer in &transfers {
        let answer = ledger.ask_transfer(*transfer, &payment(id(1), id(2), "10.00"), 0).await;
        assert_eq!((answer.status, &answer.json()["state"]), (202, &json!("running")));
    }
    assert_eq!(ledger.balance(id(1)).await, "800.00");
    assert_eq!(ledger.trial_balance().await["currencies"][0]["clearing"], "200.00");
    let running = ledger.get("/v1/sagas?state=running&limit=7").await;
    assert_eq!(running["sagas"].as_array().map(Vec::len), Some(7));
    assert_eq!(running["next"], running["sagas"][6]["id"]);
    daemon.kill();

    let daemon = Daemon::start(data.path());
    let ledger = Ledger { address: daemon.address };
    for transfer in &transfers {
        // The same request again, as a client does that heard nothing.
        let done = ledger.pay(*transfer, id(1), id(2), "10.00").await;
        assert_eq!(done["state"], "completed", "{done}");
    }
    assert_eq!(ledger.balance(id(2)).await, "200.00");
    assert_eq!(ledger.trial_balance().await["currencies"][0]["clearing"], "0.00");
    assert_eq!(ledger.get("/v1/sagas").await["sagas"], json!([]));
    let (status, said) = daemon.terminate();
    assert!(status.success(), "{said}");
}
