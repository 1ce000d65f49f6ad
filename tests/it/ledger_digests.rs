//! What a command is recognised by: the digests of requests, pinned. They stand in the log, and a
//! retry must be known by the next version of the server as by the one that answered first.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::ledger::{Ledger, OWNER, id};
use crate::support::node::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_s_digest_is_the_same_in_every_version() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let ledger = Ledger { address: server.address() };
    let (account, hold) = (id(1), id(10));
    let on = |what: &str| format!("/v1/accounts/{account}/{what}");
    let on_hold = |what: &str| format!("/v1/accounts/{account}/holds/{hold}/{what}");
    let usd = |amount: &str| json!({ "amount": amount, "currency": "USD", "description": "why" });
    let flag = format!("/v1/risk/accounts/{account}/flag");
    let open = json!({ "account_type": "checking", "currency": "USD", "owner_id": OWNER,
        "initial_deposit": "100.00", "overdraft_limit": "50.00",
        "daily_withdrawal_limit": "900.00" });
    let limits = json!({ "overdraft_limit": "0.00", "daily_withdrawal_limit": "800.00",
        "changed_by": "a", "reason": "b" });
    let held = json!({ "amount": "10.00", "currency": "USD", "description": "why",
        "expires_at": "2199-01-01T00:00:00Z" });
    // Each line: what is asked with every field that it may have, and its digest.
    let commands: [(&str, String, Value, &str); 13] = [
        ("POST", "/v1/accounts".to_owned(), open, "187d9c1fbe15345e9d2e905b0ff42ac2"),
        ("POST", on("deposits"), usd("5.00"), "125f6512a33eabf23a593c56fdb9dc24"),
        ("POST", on("withdrawals"), usd("4.00"), "001c03396d147fd33da98c5fb9f3b1bc"),
        ("POST", on("fees"), usd("1.00"), "1aa5897f37dfbc4982a750e8702f4142"),
        ("POST", on("holds"), held, "758edff5d8cea5695ea1eec5eef4e049"),
        (
            "POST",
            on_hold("capture"),
            json!({ "amount": "4.00", "description": "why" }),
            "43bf355454b2851aae33a4aa57c27947",
        ),
        (
            "POST",
            on_hold("release"),
            json!({ "reason": "why" }),
            "823b8f44e127ae95949c2f2f4414ac2a",
        ),
        ("PUT", on("limits"), limits, "be332a3dbcb73078b9865e830be12f7e"),
        (
            "PUT",
            flag.clone(),
            json!({ "reason": "why", "flagged_by": "a" }),
            "08c66a300d046cf5f71cb6056497e8b4",
        ),
        ("DELETE", flag, json!({ "unflagged_by": "a" }), "361b009ca8290a8c9a87386cdf6c4c4f"),
        (
            "POST",
            on("freeze"),
            json!({ "reason": "why", "frozen_by": "a" }),
            "282b1f136ab28bf800c56c6912eb6a20",
        ),
        ("POST", on("unfreeze"), json!({ "unfrozen_by": "a" }), "de25910fc8bd813a29af74f861b9fb50"),
        ("POST", on("withdrawals"), usd("96.00"), "e603e2f0e76835bca0ed3aee55833d32"),
    ];
    for (n, (method, path, body, _)) in (0..).zip(&commands) {
        // What is created has its key as its id.
        let key = match path.as_str() {
            "/v1/accounts" => account,
            path if path.ends_with("/holds") => hold,
            _ => id(100 + n),
        };
        let answer = ledger.command(method, path, key, body).await;
        assert!(matches!(answer.status, 200 | 201), "{method} {path}: {answer:?}");
    }
    let close_digest = "f0428ca558e88a917416cfba867829b4";
    let close = json!({ "reason": "why", "closed_by": "a" });
    ledger.post(&on("close"), id(200), &close).await;
    let stream = ledger.get(&format!("/v1/streams/ledger.account-{account}?limit=100")).await;
    let events = stream["events"].as_array().expect("events");
    let digests: Vec<&str> =
        events.iter().filter_map(|event| event["metadata"]["request"].as_str()).collect();
    let expected: Vec<&str> =
        commands.iter().map(|command| command.3).chain([close_digest]).collect();
    assert_eq!(digests, expected);
    server.stop().await;
}
