//! What no good client sends to the ledger: refused with the field's name, and nothing is written.
//! And what the API says of itself.

use std::collections::BTreeSet;

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

/// All routes that are described, as their users know them.
const ROUTES: [(&str, &str); 41] = [
    ("post", "/v1/accounts"),
    ("get", "/v1/accounts/{account_id}"),
    ("post", "/v1/accounts/{account_id}/deposits"),
    ("post", "/v1/accounts/{account_id}/withdrawals"),
    ("post", "/v1/accounts/{account_id}/fees"),
    ("post", "/v1/accounts/{account_id}/freeze"),
    ("post", "/v1/accounts/{account_id}/unfreeze"),
    ("post", "/v1/accounts/{account_id}/close"),
    ("put", "/v1/accounts/{account_id}/limits"),
    ("post", "/v1/accounts/{account_id}/holds"),
    ("post", "/v1/accounts/{account_id}/holds/{hold_id}/capture"),
    ("post", "/v1/accounts/{account_id}/holds/{hold_id}/release"),
    ("get", "/v1/accounts/{account_id}/transactions"),
    ("get", "/v1/accounts/{account_id}/statement"),
    ("post", "/v1/transfers"),
    ("get", "/v1/transfers/{transfer_id}"),
    ("get", "/v1/sagas"),
    ("get", "/v1/sagas/{transfer_id}"),
    ("post", "/v1/sagas/{transfer_id}/resume"),
    ("post", "/v1/sagas/{transfer_id}/abandon"),
    ("put", "/v1/risk/accounts/{account_id}/flag"),
    ("delete", "/v1/risk/accounts/{account_id}/flag"),
    ("get", "/v1/risk/rules"),
    ("put", "/v1/risk/rules"),
    ("get", "/v1/trial-balance"),
    ("get", "/v1/accounts"),
    ("get", "/v1/transfers"),
    ("get", "/v1/payments/daily"),
    ("get", "/v1/sagas/overview"),
    ("get", "/v1/events"),
    ("get", "/v1/projections"),
    ("get", "/v1/projections/{name}"),
    ("get", "/v1/projections/{name}/parked"),
    ("post", "/v1/projections/{name}/{order}"),
    ("get", "/v1/connectors"),
    ("get", "/v1/connectors/{name}"),
    ("get", "/v1/connectors/{name}/parked"),
    ("post", "/v1/connectors/{name}/{order}"),
    ("post", "/v1/connectors/{name}/parked/retry"),
    ("post", "/v1/connectors/{name}/parked/{position}/retry"),
    ("post", "/v1/connectors/{name}/parked/{position}/discard"),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_described_and_the_description_is_sound() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let answer = get(server.address(), "/openapi.json").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let api = answer.json();
    assert!(api["openapi"].as_str().is_some_and(|v| v.starts_with("3.1.")), "{}", api["openapi"]);
    assert!(api["info"]["title"].is_string() && api["info"]["version"].is_string());
    let described: BTreeSet<(String, String)> = api["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().expect("a path").keys().map(|method| (method.clone(), path.clone()))
        })
        .collect();
    let routes = ROUTES.map(|(method, path)| (method.to_owned(), path.to_owned())).into();
    assert_eq!(described, routes);
    let mut ids = BTreeSet::new();
    for (method, path) in &described {
        let operation = &api["paths"][path][method];
        let at = format!("{method} {path}");
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{at}: no id"));
        assert!(ids.insert(id.to_owned()), "{at}: '{id}' names two operations");
        assert!(operation["summary"].is_string(), "{at}: no summary");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for name in path.split('{').skip(1).filter_map(|part| part.split_once('}')) {
            let known = |p: &&Value| p["name"] == name.0 && p["in"] == "path";
            assert!(parameters.iter().any(|p| known(&p)), "{at}: {} is not described", name.0);
        }
        let responses = operation["responses"].as_object().expect("responses");
        assert!(responses.keys().any(|status| status.starts_with('2')), "{at}: no good answer");
        assert!(responses["503"]["content"]["application/problem+json"].is_object(), "{at}");
        // Reached, whatever it says: a route that is described exists.
        let asked = path.replace("{account_id}", "x").replace("{hold_id}", "x");
        let asked = asked.replace("{transfer_id}", "x").replace("{name}", "x");
        let asked = asked.replace("{order}", "pause").replace("{position}", "1");
        let reached = call(server.address(), &method.to_uppercase(), &asked, &[], "{}").await;
        assert!(
            !matches!(
                word_or_none(&reached.body).as_deref(),
                Some("no-such-route" | "no-such-method")
            ),
            "{at}"
        );
    }
    let mut references = Vec::new();
    collect_references(&api, &mut references);
    assert!(references.len() > 50, "{} references", references.len());
    for reference in references {
        let pointer = reference.trim_start_matches('#');
        assert!(api.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    server.stop().await;
}

fn word_or_none(body: &str) -> Option<String> {
    let problem: Value = serde_json::from_str(body).ok()?;
    let kind = problem["type"].as_str()?;
    Some(kind.trim_start_matches("urn:daybook:problem:").to_owned())
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                found.push(reference.to_owned());
            }
            map.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_references(value, found)),
        _ => {}
    }
}
