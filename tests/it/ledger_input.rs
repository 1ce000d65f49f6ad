//! What no good client sends to the ledger: refused with the field's name, and nothing is written.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::http::{call, get};
use crate::support::ledger::{Ledger, OWNER, id, word};
use crate::support::node::Server;

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_names_its_field_and_writes_nothing() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let ledger = Ledger { address: server.address() };
    let (account, other) = (id(1), id(2));
    ledger.open(account, "100.00").await;
    ledger.open(other, "0.00").await;
    let before = server.store().committed();

    let deposit = |field: &str, value: Value| {
        let mut body = json!({ "amount": "1.00", "currency": "USD" });
        body[field] = value;
        body.to_string()
    };
    let transfer = |field: &str, value: Value| {
        let mut body = json!({ "sender_account_id": account, "receiver_account_id": other,
            "amount": "1.00", "currency": "USD" });
        body[field] = value;
        body.to_string()
    };
    let open = |field: &str, value: Value| {
        let mut body = json!({ "account_type": "checking", "currency": "USD", "owner_id": OWNER });
        body[field] = value;
        body.to_string()
    };
    let fx = |rate: Value, currency: &str, rounding: &str| {
        transfer("fx", json!({ "rate": rate, "currency": currency, "rounding": rounding }))
    };
    let deposits = format!("/v1/accounts/{account}/deposits");
    let holds = format!("/v1/accounts/{account}/holds");
    let (accounts, transfers) = ("/v1/accounts".to_owned(), "/v1/transfers".to_owned());
    let long = "x".repeat(1_000_000);
    let cases: Vec<(&str, String, &str)> = vec![
        (&deposits, deposit("amount", json!("-1.00")), "amount"),
        (&deposits, deposit("amount", json!("0")), "amount"),
        (&deposits, deposit("amount", json!("NaN")), "amount"),
        (&deposits, deposit("amount", json!("Infinity")), "amount"),
        (&deposits, deposit("amount", json!("1e3")), "amount"),
        (&deposits, deposit("amount", json!(" 1")), "amount"),
        (&deposits, deposit("amount", json!("")), "amount"),
        (&deposits, deposit("amount", json!("10.001")), "amount"),
        (&deposits, deposit("amount", json!("12345678901234567890123456789")), "amount"),
        (&deposits, deposit("amount", json!(1.5)), "amount"),
        (&deposits, deposit("amount", json!(null)), "amount"),
        (&deposits, deposit("amount", json!({ "value": "1.00" })), "amount"),
        (&deposits, deposit("currency", json!("usd")), "currency"),
        (&deposits, deposit("currency", json!("XAU")), "currency"),
        (&deposits, deposit("currency", json!("EUR")), "currency"),
        (&deposits, deposit("description", json!("x".repeat(1_001))), "description"),
        (&deposits, deposit("description", json!(long)), "description"),
        (&deposits, deposit("description", json!("a\nb")), "description"),
        (&deposits, deposit("note", json!("x")), "note"),
        (&deposits, r#"{"currency":"USD"}"#.to_owned(), "amount"),
        (&deposits, r#"{"amount":NaN,"currency":"USD"}"#.to_owned(), "amount"),
        (&deposits, "{".to_owned(), "body"),
        (&deposits, "[]".to_owned(), "body"),
        (&deposits, String::new(), "amount"),
        (&holds, deposit("expires_at", json!("tomorrow")), "expires_at"),
        (&accounts, open("owner_id", json!("me")), "owner_id"),
        (&accounts, open("account_type", json!("gold")), "account_type"),
        (&accounts, open("initial_deposit", json!("1.005")), "initial_deposit"),
        (&accounts, open("overdraft_limit", json!("-1")), "overdraft_limit"),
        (&accounts, open("balance", json!("1")), "balance"),
        (&transfers, transfer("sender_account_id", json!("1")), "sender_account_id"),
        (&transfers, transfer("receiver_account_id", json!(account)), "receiver_account_id"),
        (&transfers, transfer("amount", json!("1.005")), "amount"),
        (&transfers, transfer("amount", json!("0.00")), "amount"),
        (&transfers, transfer("description", json!("x".repeat(1_001))), "description"),
        (&transfers, transfer("speed", json!("fast")), "speed"),
        (&transfers, fx(json!("0"), "EUR", "down"), "fx.rate"),
        (&transfers, fx(json!("-1"), "EUR", "down"), "fx.rate"),
        (&transfers, fx(json!(0.9), "EUR", "down"), "fx.rate"),
        (&transfers, fx(json!("0.0001"), "EUR", "down"), "fx.rate"),
        (&transfers, fx(json!("0.9"), "USD", "down"), "fx.currency"),
        (&transfers, fx(json!("0.9"), "EUR", "sideways"), "fx.rounding"),
    ];
    for (number, (path, body, field)) in (500..).zip(cases) {
        let key = id(number).to_string();
        let headers = [("idempotency-key", key.as_str())];
        let answer = call(server.address(), "POST", path, &headers, body.clone()).await;
        let shown: String = body.chars().take(200).collect();
        assert!((400..500).contains(&answer.status), "{path} {shown}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{shown}");
        assert_eq!(answer.json()["field"], field, "{path} {shown}: {answer:?}");
        assert!(answer.body.len() < 2_000, "an answer repeats little: {answer:?}");
    }
    let good = json!({ "amount": "1.00", "currency": "USD" }).to_string();
    for headers in [&[][..], &[("idempotency-key", "7")], &[("idempotency-key", "")]] {
        let answer = call(server.address(), "POST", &deposits, headers, good.clone()).await;
        assert_eq!((answer.status, &answer.json()["field"]), (400, &json!("Idempotency-Key")));
    }
    let too_large = "x".repeat(3_000_000);
    let key = id(900).to_string();
    let headers = [("idempotency-key", key.as_str())];
    let answer = call(server.address(), "POST", &deposits, &headers, too_large).await;
    assert_eq!((answer.status, word(&answer).as_str()), (413, "too-large"));
    assert_eq!(server.store().committed(), before, "nothing was written");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_paths_and_queries_name_their_field() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let ledger = Ledger { address: server.address() };
    ledger.open(id(1), "100.00").await;
    let of = |rest: &str| format!("/v1/accounts/{}/{rest}", id(1));
    for (path, status, field) in [
        ("/v1/accounts/1".to_owned(), 400, "account_id"),
        ("/v1/accounts/1/transactions".to_owned(), 400, "account_id"),
        ("/v1/transfers/abc".to_owned(), 400, "transfer_id"),
        ("/v1/sagas/abc".to_owned(), 400, "transfer_id"),
        (of("transactions?cursor=x"), 400, "cursor"),
        (of("transactions?cursor=1"), 400, "cursor"),
        (of("transactions?cursor=-1"), 400, "cursor"),
        (of("transactions?limit=0"), 400, "limit"),
        (of("transactions?limit=1001"), 400, "limit"),
        ("/v1/sagas?state=done".to_owned(), 400, "state"),
        ("/v1/sagas?cursor=x".to_owned(), 400, "cursor"),
        ("/v1/sagas?limit=x".to_owned(), 400, "limit"),
        ("/v1/trial-balance?verify=maybe".to_owned(), 400, "verify"),
    ] {
        let answer = get(server.address(), &path).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        assert_eq!(answer.json()["field"], field, "{path}");
    }
    for (path, expected) in [
        (format!("/v1/accounts/{}", id(7)), "account-not-found"),
        (format!("/v1/accounts/{}/statement", id(7)), "account-not-found"),
        (format!("/v1/transfers/{}", id(7)), "transfer-not-found"),
        (format!("/v1/sagas/{}", id(7)), "transfer-not-found"),
    ] {
        let answer = get(server.address(), &path).await;
        assert_eq!((answer.status, word(&answer).as_str()), (404, expected), "{path}");
    }
    server.stop().await;
}
