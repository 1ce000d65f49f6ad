//! The read side of a node: lists that its views answer, how fresh they are, and what becomes of
//! them when they are paused, built again, deleted or damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::http::{Answer, call, get, post};
use crate::support::ledger::{Ledger, OWNER, id, payment, word};
use crate::support::node::Server;
use crate::support::until;

/// Who owns every other account.
const OTHER: &str = "00000000-0000-4000-8000-0000000000ee";

async fn server(data: &TempDir) -> (Server, Ledger) {
    let server = Server::start(data.path()).await;
    let ledger = Ledger { address: server.address() };
    (server, ledger)
}

fn directory() -> TempDir {
    TempDir::new().expect("a directory")
}

/// Opens account `n`; the position of that.
async fn open(ledger: &Ledger, n: u128, owner: &str, currency: &str, deposit: &str) -> u64 {
    let body = json!({
        "account_type": "checking", "currency": currency, "owner_id": owner,
        "initial_deposit": deposit,
    });
    let answer = ledger.command("POST", "/v1/accounts", id(n), &body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let position = answer.header("daybook-position").and_then(|text| text.parse().ok());
    position.expect("a position")
}

/// The end of the log.
async fn committed(ledger: &Ledger) -> u64 {
    ledger.get("/info").await["committed"].as_u64().expect("a position")
}

/// What is at `path`, as fresh as all that was written so far.
async fn fresh(ledger: &Ledger, path: &str) -> Value {
    let last = committed(ledger).await - 1;
    let and = if path.contains('?') { '&' } else { '?' };
    let found = ledger.get(&format!("{path}{and}min_position={last}")).await;
    assert!(found["as_of"].as_u64() >= Some(last), "{path}: {found}");
    found
}

/// Every page of the list `path`, in `limit`s; the rows under `name`.
async fn pages(ledger: &Ledger, path: &str, name: &str, limit: usize) -> Vec<Value> {
    let and = if path.contains('?') { '&' } else { '?' };
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ledger.get(&format!("{path}{and}limit={limit}{cursor}")).await;
        let found = page[name].as_array().expect("rows");
        assert!(found.len() <= limit, "{page}");
        rows.extend(found.iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

fn ids(rows: &[Value], name: &str) -> Vec<String> {
    rows.iter().map(|row| row[name].as_str().expect("an id").to_owned()).collect()
}

fn texts(numbers: &[u128]) -> Vec<String> {
    numbers.iter().map(|n| id(*n).to_string()).collect()
}

/// Five accounts: 1, 3 and 5 of one owner, 2 and 4 of another; 4 and 5 in EUR, 5 frozen.
async fn open_five(ledger: &Ledger) {
    for (n, owner, currency, deposit) in [
        (1, OWNER, "USD", "1000.00"),
        (2, OTHER, "USD", "10.00"),
        (3, OWNER, "USD", "0.00"),
        (4, OTHER, "EUR", "10.00"),
        (5, OWNER, "EUR", "5.00"),
    ] {
        let position = open(ledger, n, owner, currency, deposit).await;
        let path = format!("/v1/accounts?min_position={position}");
        let listed = ids(&pages(ledger, &path, "accounts", 1000).await, "account_id");
        assert!(listed.contains(&id(n).to_string()), "{n} is not seen by who opened it");
    }
    let freeze = json!({ "reason": "lost card", "frozen_by": "support" });
    let path = format!("/v1/accounts/{}/freeze", id(5));
    ledger.command("POST", &path, id(50), &freeze).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_found_by_owner_status_currency_and_balance() {
    let data = directory();
    let (server, ledger) = server(&data).await;
    open_five(&ledger).await;
    ledger.pay(id(60), id(1), id(3), "250.00").await;
    fresh(&ledger, "/v1/accounts").await;
    let cases: [(String, &[u128]); 12] = [
        (String::new(), &[1, 2, 3, 4, 5]),
        (format!("owner={OWNER}"), &[1, 3, 5]),
        (format!("owner={OTHER}&currency=EUR"), &[4]),
        (format!("owner={}", id(77)), &[]),
        ("status=frozen".to_owned(), &[5]),
        ("status=active".to_owned(), &[1, 2, 3, 4]),
        ("currency=USD".to_owned(), &[1, 2, 3]),
        ("currency=EUR&status=active".to_owned(), &[4]),
        ("currency=USD&min_balance=250.00".to_owned(), &[1, 3]),
        ("currency=USD&max_balance=250.00".to_owned(), &[2, 3]),
        ("currency=USD&max_balance=249.99".to_owned(), &[2]),
        ("currency=USD&min_balance=-1&max_balance=10".to_owned(), &[2]),
    ];
    for (query, expected) in cases {
        for limit in [1, 2, 1000] {
            let path = format!("/v1/accounts?{query}");
            let found = pages(&ledger, &path, "accounts", limit).await;
            assert_eq!(ids(&found, "account_id"), texts(expected), "{query} by {limit}");
        }
    }
    // A row says what the account says.
    for row in pages(&ledger, "/v1/accounts", "accounts", 3).await {
        let account = ledger
            .get(&format!("/v1/accounts/{}", row["account_id"].as_str().expect("an id")))
            .await;
        for (name, value) in row.as_object().expect("a row") {
            let expected = if name == "flagged" {
                json!(!account[name].is_null())
            } else {
                account[name].clone()
            };
            assert_eq!(value, &expected, "{name} of {row}");
        }
    }
    for (query, field) in [
        ("cursor=aaaa", "cursor"),
        ("limit=1001", "limit"),
        ("min_balance=1", "currency"),
        ("status=open", "status"),
        ("min_position=x", "min_position"),
    ] {
        let answer = get(ledger.address, &format!("/v1/accounts?{query}")).await;
        assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some(field)), "{query}");
    }
    let own = ledger.get(&format!("/v1/accounts?owner={OWNER}&limit=1")).await;
    let stolen =
        format!("/v1/accounts?status=active&cursor={}", own["next"].as_str().expect("more"));
    assert_eq!(get(ledger.address, &stolen).await.status, 400, "a cursor of another list");
    server.stop().await;
}

/// Transfers of each kind: 61 to 65 completed, 66 refused, 67 failed. Their ids by state.
async fn transfer_some(ledger: &Ledger) {
    for n in 61..66 {
        assert_eq!(ledger.pay(id(n), id(1), id(3), "10.00").await["state"], "completed");
    }
    let refused = ledger.pay(id(66), id(3), id(2), "99999.00").await;
    assert_eq!(refused["state"], "compensated");
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_are_found_by_state_period_and_account() {
    let data = directory();
    let (server, ledger) = server(&data).await;
    open_five(&ledger).await;
    transfer_some(&ledger).await;
    fresh(&ledger, "/v1/sagas/overview").await;
    let initiated = ledger.get("/v1/events?type=PaymentInitiated").await;
    let time = |n: usize| initiated["events"][n]["time"].as_str().expect("a time").to_owned();
    let account = |n: u128| format!("account={}", id(n));
    let cases: [(String, &[u128]); 12] = [
        (String::new(), &[61, 62, 63, 64, 65, 66]),
        ("state=completed".to_owned(), &[61, 62, 63, 64, 65]),
        ("state=compensated".to_owned(), &[66]),
        ("state=failed".to_owned(), &[]),
        ("state=running".to_owned(), &[]),
        ("state=abandoned".to_owned(), &[]),
        (account(1), &[61, 62, 63, 64, 65]),
        (account(2), &[66]),
        (format!("{}&state=compensated", account(3)), &[66]),
        (format!("from={}", time(2)), &[63, 64, 65, 66]),
        (format!("to={}", time(2)), &[61, 62]),
        (format!("from={}&to={}&{}", time(1), time(5), account(3)), &[62, 63, 64, 65]),
    ];
    for (query, expected) in cases {
        for limit in [1, 2, 1000] {
            let path = format!("/v1/transfers?{query}");
            let found = pages(&ledger, &path, "transfers", limit).await;
            assert_eq!(ids(&found, "transfer_id"), texts(expected), "{query} by {limit}");
            let path = format!("{path}&direction=backwards");
            let mut found = pages(&ledger, &path, "transfers", limit).await;
            found.reverse();
            assert_eq!(ids(&found, "transfer_id"), texts(expected), "{query} back by {limit}");
        }
    }
    for row in pages(&ledger, "/v1/transfers", "transfers", 1000).await {
        let id: Uuid = row["transfer_id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        let transfer = ledger.transfer(id).await;
        for name in [
            "state",
            "sender_account_id",
            "receiver_account_id",
            "amount",
            "currency",
            "description",
        ] {
            assert_eq!(row[name], transfer[name], "{name} of {row}");
        }
        assert_eq!(row["reason"].as_str(), transfer["reason"].as_str());
    }
    for (query, field) in [
        ("state=done", "state"),
        ("from=yesterday", "from"),
        ("account=me", "account"),
        ("cursor=zzzz", "cursor"),
        ("state=failed&cursor=zzzz", "cursor"),
    ] {
        let answer = get(ledger.address, &format!("/v1/transfers?{query}")).await;
        assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some(field)), "{query}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_are_counted_by_day_and_state_and_events_found_by_type() {
    let data = directory();
    let (server, ledger) = server(&data).await;
    open_five(&ledger).await;
    transfer_some(&ledger).await;
    let overview = fresh(&ledger, "/v1/sagas/overview").await;
    let states: BTreeMap<&str, i64> = overview["states"]
        .as_array()
        .expect("states")
        .iter()
        .map(|row| {
            (row["state"].as_str().expect("a state"), row["transfers"].as_i64().expect("a count"))
        })
        .filter(|(_, transfers)| *transfers != 0)
        .collect();
    assert_eq!(states, BTreeMap::from([("compensated", 1), ("completed", 5)]));
    assert_eq!(overview["sagas"], json!([]));
    // The test may run over midnight: the days are summed up.
    let mut counted = BTreeMap::<String, (i64, f64)>::new();
    for row in pages(&ledger, "/v1/payments/daily?currency=USD", "days", 1).await {
        let sum =
            counted.entry(row["outcome"].as_str().expect("an outcome").to_owned()).or_default();
        sum.0 += row["payments"].as_i64().expect("a count");
        sum.1 += row["amount"].as_str().and_then(|sum| sum.parse::<f64>().ok()).expect("a sum");
    }
    let expected = [("completed", 5, 50.0), ("initiated", 6, 100_049.0), ("rejected", 1, 99_999.0)];
    let expected = expected.map(|(name, count, sum)| (name.to_owned(), (count, sum)));
    assert_eq!(counted, BTreeMap::from(expected));
    assert_eq!(ledger.get("/v1/payments/daily?to=2020-01-01").await["days"], json!([]));
    assert_eq!(ledger.get("/v1/payments/daily?from=2200-01-01").await["days"], json!([]));
    assert_eq!(ledger.get("/v1/payments/daily?currency=EUR").await["days"], json!([]));
    // From the index, not from a view.
    let completed = pages(&ledger, "/v1/events?type=PaymentCompleted", "events", 2).await;
    let of: Vec<String> = completed
        .iter()
        .map(|event| event["data"]["transfer_id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(of, texts(&[61, 62, 63, 64, 65]));
    let after = completed[3]["time"].as_str().expect("a time");
    let late =
        pages(&ledger, &format!("/v1/events?type=PaymentCompleted&from={after}"), "events", 1)
            .await;
    assert_eq!(late, completed[3..]);
    let early =
        pages(&ledger, &format!("/v1/events?type=PaymentCompleted&to={after}"), "events", 1).await;
    assert_eq!(early, completed[..3]);
    let none = ledger.get("/v1/events?type=NeverHappened").await;
    assert_eq!((&none["events"], &none["next"]), (&json!([]), &Value::Null));
    server.stop().await;
}

async fn order(ledger: &Ledger, name: &str, order: &str) -> Answer {
    post(ledger.address, &format!("/v1/projections/{name}/{order}"), "").await
}

async fn projection(ledger: &Ledger, name: &str) -> Value {
    ledger.get(&format!("/v1/projections/{name}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_view_stays_where_it_is_and_says_so() {
    let data = directory();
    let (server, ledger) = server(&data).await;
    open(&ledger, 1, OWNER, "USD", "1.00").await;
    let before = fresh(&ledger, "/v1/accounts").await;
    assert_eq!(order(&ledger, "accounts", "pause").await.json()["paused"], true);
    until("it pauses", || async {
        projection(&ledger, "accounts").await["serving"]["state"] == "paused"
    })
    .await;
    let missed = open(&ledger, 2, OWNER, "USD", "2.00").await;
    let still = ledger.get("/v1/accounts").await;
    assert_eq!((&still["accounts"], &still["as_of"]), (&before["accounts"], &before["as_of"]));
    let header = [("daybook-min-position", missed.to_string())];
    let headers = [(header[0].0, header[0].1.as_str())];
    let late = call(ledger.address, "GET", "/v1/accounts", &headers, Vec::new()).await;
    assert_eq!((late.status, word(&late).as_str()), (504, "not-there-yet"));
    let reached = late.json()["reached"].clone();
    assert_eq!(
        (reached, late.json()["min_position"].as_u64()),
        (before["as_of"].clone(), Some(missed))
    );
    // The other view goes on.
    fresh(&ledger, "/v1/payments/daily").await;
    // A pause survives a restart.
    server.stop().await;
    let (server, ledger) = self::server(&data).await;
    until("it is paused again", || async {
        projection(&ledger, "accounts").await["serving"]["state"] == "paused"
    })
    .await;
    assert_eq!(ledger.get("/v1/accounts").await["as_of"], before["as_of"]);
    assert_eq!(order(&ledger, "accounts", "resume").await.json()["paused"], false);
    let found = ledger.get(&format!("/v1/accounts?min_position={missed}")).await;
    assert_eq!(ids(found["accounts"].as_array().expect("rows"), "account_id"), texts(&[1, 2]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_from_the_log_itself_waits_for_what_is_not_written_yet() {
    let data = directory();
    let (server, ledger) = server(&data).await;
    open_five(&ledger).await;
    transfer_some(&ledger).await;
    let paths = [
        "/v1/transfers?".to_owned(),
        "/v1/events?type=PaymentCompleted&".to_owned(),
        format!("/v1/accounts/{}/transactions?limit=1&", id(1)),
    ];
    let last = committed(&ledger).await - 1;
    for path in &paths {
        let found = ledger.get(&format!("{path}min_position={last}")).await;
        assert!(found["as_of"].as_u64() >= Some(last), "{found}");
        // What will be written next.
        let (address, next) = (ledger.address, committed(&ledger).await);
        let asked = format!("{path}min_position={next}");
        let asking = tokio::spawn(async move { get(address, &asked).await });
        open(&ledger, u128::from(next) + 1000, OWNER, "USD", "1.00").await;
        let answer = asking.await.expect("no panic");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.json()["as_of"].as_u64() >= Some(next), "{answer:?}");
    }
    let last = committed(&ledger).await - 1;
    let header = [("daybook-min-position", "1000000")];
    let ask = |path: &str| {
        let (address, path) = (ledger.address, path.to_owned());
        tokio::spawn(async move { call(address, "GET", &path, &header, Vec::new()).await })
    };
    for asked in paths.each_ref().map(|path| ask(path)) {
        let late = asked.await.expect("no panic");
        assert_eq!((late.status, word(&late).as_str()), (504, "not-there-yet"), "{late:?}");
        let said = late.json();
        assert_eq!(said["min_position"], 1_000_000);
        assert!(said["reached"].as_u64() >= Some(last), "{said}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_built_again_beside_the_one_that_serves() {
    let data = directory();
    let (server, ledger) = server(&data).await;
    open_five(&ledger).await;
    transfer_some(&ledger).await;
    let before = fresh(&ledger, "/v1/accounts").await;
    let paying = tokio::spawn(async move {
        for n in 100..140 {
            ledger.pay(id(n), id(1), id(3), "1.00").await;
        }
    });
    let first = projection(&ledger, "accounts").await["serving"]["generation"].clone();
    let answer = order(&ledger, "accounts", "rebuild").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    until("the new one serves", || async {
        let now = projection(&ledger, "accounts").await;
        // Whoever asks meanwhile is answered.
        assert_eq!(ledger.get("/v1/accounts").await["accounts"].as_array().map(Vec::len), Some(5));
        now["building"].is_null() && now["serving"]["generation"] != first
    })
    .await;
    paying.await.expect("no panic");
    let after = fresh(&ledger, "/v1/accounts").await;
    let expected = ["910.00", "10.00", "90.00", "10.00", "5.00"];
    for (n, balance) in expected.iter().enumerate() {
        assert_eq!(after["accounts"][n]["balance"], *balance, "{after}");
        assert_eq!(after["accounts"][n]["account_id"], before["accounts"][n]["account_id"]);
    }
    // From nothing, nothing serving meanwhile.
    let answer = order(&ledger, "accounts", "reset").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let again = async || {
        let answer = get(ledger.address, "/v1/accounts").await;
        answer.status == 200 && answer.json()["accounts"] == after["accounts"]
    };
    until("it is there again", again).await;
    for (name, order_, status, refused) in [
        ("accounts", "skip", 409, "projection-state"),
        ("nothing", "pause", 404, "projection-not-found"),
        ("accounts", "explode", 404, "no-such-route"),
    ] {
        let answer = order(&ledger, name, order_).await;
        assert_eq!((answer.status, word(&answer).as_str()), (status, refused), "{name} {order_}");
    }
    let parked = ledger.get("/v1/projections/accounts/parked").await;
    assert_eq!(parked, json!({ "parked": [], "next": null }));
    server.stop().await;
}

/// All that the views answer.
async fn answers(ledger: &Ledger) -> Vec<Value> {
    let mut found = Vec::new();
    for (path, name) in [
        ("/v1/accounts", "accounts"),
        ("/v1/payments/daily", "days"),
        ("/v1/sagas/overview", "states"),
    ] {
        found.push(fresh(ledger, path).await[name].clone());
    }
    found
}

/// Files under `directory`.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    entries
        .flat_map(|entry| {
            let path = entry.expect("an entry").path();
            if path.is_dir() { files(&path) } else { vec![path] }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_and_what_is_gone_or_damaged_is_built_again() {
    let data = directory();
    let (server, ledger) = server(&data).await;
    open_five(&ledger).await;
    transfer_some(&ledger).await;
    let before = answers(&ledger).await;
    server.stop().await;
    let read_models = data.path().join("readmodels");
    // As it was: nothing is taken in again.
    let (server, ledger) = self::server(&data).await;
    assert_eq!(answers(&ledger).await, before);
    let status = projection(&ledger, "accounts").await;
    assert_eq!(status["serving"]["events"], 0, "{status}");
    server.stop().await;
    // Gone.
    std::fs::remove_dir_all(&read_models).expect("it is there");
    let (server, ledger) = self::server(&data).await;
    assert_eq!(answers(&ledger).await, before);
    server.stop().await;
    // Damaged.
    for file in files(&read_models) {
        let mut bytes = std::fs::read(&file).expect("a file");
        bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(1));
        std::fs::write(&file, bytes).expect("a file");
    }
    let (server, ledger) = self::server(&data).await;
    assert_eq!(answers(&ledger).await, before);
    let names: Vec<String> = std::fs::read_dir(&read_models)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert!(names.iter().any(|name| name.starts_with("bad-")), "nothing was set aside: {names:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_read_models_says_so_and_answers_the_rest() {
    let data = directory();
    let config = daybook::node::Config {
        read_models: daybook::readside::Place::Off,
        ..daybook::node::Config::in_directory(data.path())
    };
    let server = Server::start_with(config).await;
    let ledger = Ledger { address: server.address() };
    ledger.open(id(1), "100.00").await;
    ledger.open(id(2), "0.00").await;
    ledger.pay(id(61), id(1), id(2), "1.00").await;
    for path in ["/v1/accounts", "/v1/projections", "/v1/transfers?state=failed"] {
        let answer = get(ledger.address, path).await;
        assert_eq!((answer.status, word(&answer).as_str()), (404, "read-models-off"), "{path}");
    }
    let found = pages(&ledger, "/v1/transfers?state=completed", "transfers", 10).await;
    assert_eq!(ids(&found, "transfer_id"), texts(&[61]));
    let refused = ledger.ask_transfer(id(62), &payment(id(1), id(2), "1.00"), 60).await;
    assert!(refused.header("daybook-position").is_some(), "{refused:?}");
    assert!(!data.path().join("readmodels").exists());
    server.stop().await;
}
