//! Transfers whose risk check goes wrong: a service that rejects, is silent, comes back; sagas that
//! cannot be undone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daybook::ledger::Options;
use daybook::node::Config;
use daybook_ledger::risk::OnUnreachable;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::http::{Answer, call, get};
use crate::support::ledger::{Ledger, id, payment, word};
use crate::support::node::Server;
use crate::support::{assert_says, until};

/// What a risk service says, if it says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Nothing,
    Approve,
    Reject,
}

/// A risk service that says what it is told to.
struct Service {
    address: SocketAddr,
    says: Arc<watch::Sender<Says>>,
    asked: watch::Receiver<usize>,
}

impl Service {
    async fn start(says: Says) -> Service {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let says = Arc::new(watch::Sender::new(says));
        let (count, asked) = watch::channel(0);
        let heard = says.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut says = heard.subscribe();
                count.send_modify(|asked| *asked += 1);
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    let _ = stream.read(&mut bytes).await;
                    // Silent until it is told to speak, or the asker hangs up.
                    let Ok(decision) =
                        says.wait_for(|says| *says != Says::Nothing).await.map(|s| *s)
                    else {
                        return;
                    };
                    let body = match decision {
                        Says::Reject => r#"{"decision":"reject","reason":"odd hours"}"#,
                        _ => r#"{"decision":"approve"}"#,
                    };
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                    let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                });
            }
        });
        Service { address, says, asked }
    }

    fn say(&self, says: Says) {
        self.says.send_replace(says);
    }
}

async fn server(
    data: &TempDir,
    service: &Service,
    on_unreachable: OnUnreachable,
) -> (Server, Ledger) {
    let url = format!("http://{}/check", service.address).parse().expect("a URL");
    let ledger = Options {
        risk: Some(url),
        // Silence is noticed soon; a service that speaks here does so at once.
        risk_timeout: Duration::from_millis(200),
        on_unreachable,
        ..Options::default()
    };
    let server = Server::start_with(Config { ledger, ..Config::in_directory(data.path()) }).await;
    let ledger = Ledger { address: server.address() };
    (server, ledger)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_decides_after_the_rules() {
    let data = TempDir::new().expect("a directory");
    let service = Service::start(Says::Approve).await;
    let (server, ledger) = server(&data, &service, OnUnreachable::Park).await;
    ledger.open(id(1), "100.00").await;
    ledger.open(id(2), "0.00").await;
    assert_eq!(ledger.pay(id(10), id(1), id(2), "1.00").await["state"], "completed");
    service.say(Says::Reject);
    let rejected = ledger.pay(id(11), id(1), id(2), "1.00").await;
    assert_eq!(rejected["state"], "compensated");
    let reason = rejected["reason"].as_str().expect("a reason");
    assert_says(reason, &["risk_check_failed", "risk_service", "odd hours"]);
    let asked = *service.asked.borrow();
    let rules = json!({ "maximum_amount": { "USD": "5.00" }, "reject_flagged": true,
        "changed_by": "risk officer" });
    let set = ledger.command("PUT", "/v1/risk/rules", id(20), &rules).await;
    assert_eq!(
        (set.status, &set.json()["maximum_amount"]["USD"]),
        (200, &json!("5.00")),
        "{set:?}"
    );
    assert_eq!(ledger.get("/v1/risk/rules").await, set.json());
    let too_much = ledger.pay(id(12), id(1), id(2), "5.01").await;
    assert_says(too_much["reason"].as_str().expect("a reason"), &["risk_check_failed", "5.00"]);
    assert_eq!(*service.asked.borrow(), asked, "what the rules reject is not asked about");
    assert_eq!(ledger.balance(id(1)).await, "99.00");
    for (field, value) in [
        ("maximum_amount", json!({ "USD": "1.001" })),
        ("maximum_amount", json!({ "usd": "1" })),
        ("transfers_per_hour", json!(0)),
        ("transfers_per_day", json!(-1)),
        ("changed_by", json!("")),
        ("limit", json!(1)),
    ] {
        let mut bad = rules.clone();
        bad[field] = value;
        let refused = ledger.command("PUT", "/v1/risk/rules", id(21), &bad).await;
        let named = refused.json()["field"].as_str().unwrap_or_default().to_owned();
        assert!(refused.status == 400 && named.starts_with(field), "{bad}: {refused:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_undoes_a_transfer_or_parks_it() {
    let data = TempDir::new().expect("a directory");
    let service = Service::start(Says::Nothing).await;
    let (server, ledger) = server(&data, &service, OnUnreachable::Reject).await;
    ledger.open(id(1), "100.00").await;
    ledger.open(id(2), "0.00").await;
    let undone = ledger.pay(id(10), id(1), id(2), "1.00").await;
    assert_eq!(undone["state"], "compensated");
    assert_says(undone["reason"].as_str().expect("a reason"), &["risk_unreachable"]);
    assert_eq!(ledger.balance(id(1)).await, "100.00");
    server.stop().await;

    let (server, ledger) = self::server(&data, &service, OnUnreachable::Park).await;
    let parked = ledger.ask_transfer(id(11), &payment(id(1), id(2), "1.00"), 0).await;
    assert_eq!((parked.status, &parked.json()["state"]), (202, &json!("running")));
    let path = format!("/v1/sagas/{}", id(11));
    until("a second attempt", || async { ledger.get(&path).await["attempt"] == 2 }).await;
    let saga = ledger.get("/v1/sagas").await["sagas"][0].clone();
    assert_eq!((&saga["id"], &saga["step"]), (&json!(id(11)), &json!("check_risk")));
    let path = format!("/v1/accounts/{}/close", id(1));
    let body = json!({ "closed_by": "ops" });
    let strands = ledger.command("POST", &path, id(30), &body).await;
    let kind = strands.json()["type"].as_str().unwrap_or_default().to_owned();
    assert!(strands.status == 422 && kind.ends_with(":transfers-under-way"), "{strands:?}");
    // Others wait too, and are served by the same end.
    let waiting = tokio::spawn(async move { ledger.pay(id(11), id(1), id(2), "1.00").await });
    service.say(Says::Approve);
    assert_eq!(waiting.await.expect("no panic")["state"], "completed");
    assert_eq!(ledger.balance(id(2)).await, "1.00");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_service_is_not_waited_for_any_more_until_it_speaks() {
    let data = TempDir::new().expect("a directory");
    let service = Service::start(Says::Nothing).await;
    let (server, ledger) = server(&data, &service, OnUnreachable::Reject).await;
    ledger.open(id(1), "100.00").await;
    ledger.open(id(2), "0.00").await;
    let (mut waited, mut refused) = (0, 0);
    for transfer in 100..130 {
        let undone = ledger.pay(id(transfer), id(1), id(2), "1.00").await;
        assert_eq!(undone["state"], "compensated");
        let reason = undone["reason"].as_str().expect("a reason");
        assert_says(reason, &["risk_unreachable"]);
        if reason.contains("did not answer within") {
            waited += 1;
        } else {
            assert_says(reason, &["it was not asked", "circuit breaker is"]);
            refused += 1;
        }
    }
    assert!(waited >= 5 && refused > 0, "{waited} waited, {refused} were refused");
    assert_eq!(*service.asked.borrow(), waited, "who is refused does not ask");
    let metrics = get(ledger.address, "/metrics").await.body;
    let rejected = r#"daybook_guarded_calls_rejected_total{endpoint="risk",reason="open"}"#;
    let failures = r#"daybook_guarded_calls_total{endpoint="risk",outcome="failure"}"#;
    assert_says(&metrics, &[&format!("{rejected} {refused}"), &format!("{failures} {waited}")]);

    service.say(Says::Approve);
    let closed = r#"daybook_breaker_state{endpoint="risk"} 0"#;
    let transfer = std::cell::Cell::new(1_000);
    let pay = || {
        transfer.set(transfer.get() + 1);
        ledger.pay(id(transfer.get()), id(1), id(2), "1.00")
    };
    until("the breaker to close", || async {
        pay().await;
        get(ledger.address, "/metrics").await.body.contains(closed)
    })
    .await;
    assert_eq!(pay().await["state"], "completed");
    server.stop().await;
}

/// Fills the account `id(1)`, which is empty, with the largest balance there may be, so that no
/// money can be given back to it.
async fn fill(ledger: Ledger) {
    const LARGEST_AMOUNT: &str = "1000000000000000";
    let path = format!("/v1/accounts/{}/deposits", id(1));
    let body = json!({ "amount": LARGEST_AMOUNT, "currency": "USD" });
    let payers = (0..8).map(|payer| {
        let (path, body) = (path.clone(), body.clone());
        tokio::spawn(async move {
            for number in 0..125 {
                ledger.post(&path, id(1000 + payer * 125 + number), &body).await;
            }
        })
    });
    let payers: Vec<_> = payers.collect();
    for payer in payers {
        payer.await.expect("no panic");
    }
    assert_eq!(ledger.balance(id(1)).await, "1000000000000000000.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_cannot_be_undone_waits_for_somebody() {
    let data = TempDir::new().expect("a directory");
    let service = Service::start(Says::Nothing).await;
    let (server, ledger) = server(&data, &service, OnUnreachable::Park).await;
    ledger.open(id(1), "150.00").await;
    ledger.open(id(2), "0.00").await;
    for (transfer, amount) in [(10, "100.00"), (11, "50.00")] {
        let body = payment(id(1), id(2), amount);
        let begun = ledger.ask_transfer(id(transfer), &body, 0).await;
        assert_eq!(begun.json()["state"], "running", "{begun:?}");
    }
    let by = json!({ "resumed_by": "ops" });
    let not_failed = control(&ledger, 10, "resume", &by).await;
    assert_eq!((not_failed.status, word(&not_failed).as_str()), (422, "saga-not-failed"));
    fill(ledger).await;
    service.say(Says::Reject);
    for (transfer, amount) in [(10, "100.00"), (11, "50.00")] {
        let failed = ledger.pay(id(transfer), id(1), id(2), amount).await;
        assert_eq!(failed["state"], "failed", "{failed}");
        assert_says(failed["reason"].as_str().expect("a reason"), &["balance_limit_exceeded"]);
    }
    let listed = ledger.get("/v1/sagas?state=failed").await;
    let ids: Vec<_> = listed["sagas"].as_array().expect("sagas").iter().map(|s| &s["id"]).collect();
    assert_eq!(ids, [&json!(id(10)), &json!(id(11))]);
    let metrics = get(ledger.address, "/metrics").await.body;
    assert_says(&metrics, &["daybook_transfers_failed 2", "daybook_transfers_unfinished 0"]);
    // The money is on its way, and accounted for.
    assert_eq!(ledger.trial_balance().await["currencies"][0]["clearing"], "150.00");

    // Somebody makes room for one of them, and it is undone.
    let body = json!({ "amount": "100.00", "currency": "USD" });
    ledger.post(&format!("/v1/accounts/{}/withdrawals", id(1)), id(30), &body).await;
    let nameless = control(&ledger, 10, "resume", &json!({ "resumed_by": "" })).await;
    assert_eq!((nameless.status, &nameless.json()["field"]), (400, &json!("resumed_by")));
    let resumed = control(&ledger, 10, "resume", &by).await;
    assert_eq!(resumed.status, 200, "{resumed:?}");
    let undone = ledger.pay(id(10), id(1), id(2), "100.00").await;
    assert_eq!(undone["state"], "compensated", "{undone}");
    // The other is paid out by hand.
    let abandon = json!({ "reason": "paid out by hand", "abandoned_by": "ops" });
    let abandoned = control(&ledger, 11, "abandon", &abandon).await;
    assert_eq!(abandoned.json()["state"], "abandoned", "{abandoned:?}");
    assert_eq!(ledger.get("/v1/sagas").await["sagas"], json!([]));
    assert_eq!(ledger.trial_balance().await["currencies"][0]["clearing"], "50.00");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_go_of_a_transfer_and_tells_who_waits_for_it() {
    let data = TempDir::new().expect("a directory");
    let service = Service::start(Says::Nothing).await;
    let (server, ledger) = server(&data, &service, OnUnreachable::Park).await;
    ledger.open(id(1), "100.00").await;
    ledger.open(id(2), "0.00").await;
    let body = payment(id(1), id(2), "1.00");
    let waiting = tokio::spawn(async move { ledger.ask_transfer(id(10), &body, 60).await });
    let unfinished = || async { ledger.get("/v1/sagas").await["sagas"] != json!([]) };
    until("the transfer to be under way", unfinished).await;
    server.stop().await;
    let told = waiting.await.expect("no panic");
    assert_eq!((told.status, &told.json()["state"]), (202, &json!("running")), "{told:?}");

    service.say(Says::Approve);
    let (server, ledger) = self::server(&data, &service, OnUnreachable::Park).await;
    let path = format!("/v1/transfers/{}", id(10));
    // Nobody asks for it: it goes on by itself.
    until("its end", || async { ledger.get(&path).await["state"] == "completed" }).await;
    assert_eq!(ledger.balance(id(2)).await, "1.00");
    server.stop().await;
}

async fn control(ledger: &Ledger, saga: u128, verb: &str, body: &Value) -> Answer {
    let path = format!("/v1/sagas/{}/{verb}", id(saga));
    call(ledger.address, "POST", &path, &[], body.to_string()).await
}
