//! The ledger's API, as its clients use it.

use std::net::SocketAddr;

use serde_json::{Value, json};
use uuid::Uuid;

use super::http::{Answer, call, get};

/// Whose all accounts of these tests are.
pub const OWNER: &str = "00000000-0000-4000-8000-00000000000f";

/// An id that no other number has.
pub fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x4000_8000_0000_0000_0000_u128 << 32 | number)
}

/// A client of a server's ledger.
#[derive(Clone, Copy, Debug)]
pub struct Ledger {
    /// Where the server listens.
    pub address: SocketAddr,
}

impl Ledger {
    /// Sends a command under the key `key`.
    pub async fn command(&self, method: &str, path: &str, key: Uuid, body: &Value) -> Answer {
        let key = key.to_string();
        let headers = [("idempotency-key", key.as_str())];
        call(self.address, method, path, &headers, body.to_string()).await
    }

    /// Posts a command that must be done.
    pub async fn post(&self, path: &str, key: Uuid, body: &Value) -> Value {
        let answer = self.command("POST", path, key, body).await;
        assert!(matches!(answer.status, 200..=202), "POST {path} {body}: {answer:?}");
        answer.json()
    }

    /// Opens a checking account of USD with `deposit` in it.
    pub async fn open(&self, account: Uuid, deposit: &str) -> Value {
        let body = json!({
            "account_type": "checking", "currency": "USD", "owner_id": OWNER,
            "initial_deposit": deposit,
        });
        self.post("/v1/accounts", account, &body).await
    }

    /// Answers with what is at `path`.
    pub async fn get(&self, path: &str) -> Value {
        let answer = get(self.address, path).await;
        assert_eq!(answer.status, 200, "GET {path}: {answer:?}");
        answer.json()
    }

    /// The account.
    pub async fn account(&self, account: Uuid) -> Value {
        self.get(&format!("/v1/accounts/{account}")).await
    }

    /// The account's balance.
    pub async fn balance(&self, account: Uuid) -> String {
        self.account(account).await["balance"].as_str().expect("a balance").to_owned()
    }

    /// The transfer.
    pub async fn transfer(&self, transfer: Uuid) -> Value {
        self.get(&format!("/v1/transfers/{transfer}")).await
    }

    /// Asks for a transfer, and waits for its end up to `wait` seconds.
    pub async fn ask_transfer(&self, key: Uuid, body: &Value, wait: u64) -> Answer {
        let (key, prefer) = (key.to_string(), format!("wait={wait}"));
        let headers = [("idempotency-key", key.as_str()), ("prefer", prefer.as_str())];
        call(self.address, "POST", "/v1/transfers", &headers, body.to_string()).await
    }

    /// Moves `amount` USD, and answers with the transfer at its end.
    pub async fn pay(&self, key: Uuid, from: Uuid, to: Uuid, amount: &str) -> Value {
        let answer = self.ask_transfer(key, &payment(from, to, amount), 60).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Fails unless all legs sum to zero, and counting each account by itself comes to the same.
    /// Answers with the sums.
    pub async fn trial_balance(&self) -> Value {
        let trial = self.get("/v1/trial-balance?verify=true").await;
        assert_eq!((&trial["balanced"], &trial["verified"]["equal"]), (&json!(true), &json!(true)));
        for sums in trial["currencies"].as_array().expect("currencies") {
            let total: f64 = sums["total"].as_str().and_then(|t| t.parse().ok()).expect("a total");
            assert!(total == 0.0, "{sums}");
        }
        trial
    }
}

/// What is asked of a transfer of `amount` USD.
pub fn payment(from: Uuid, to: Uuid, amount: &str) -> Value {
    json!({
        "sender_account_id": from, "receiver_account_id": to, "amount": amount, "currency": "USD",
    })
}

/// The word of a problem: the last part of its `type`.
pub fn word(answer: &Answer) -> String {
    let problem = answer.json();
    let kind = problem["type"].as_str().unwrap_or_else(|| panic!("no problem: {answer:?}"));
    kind.trim_start_matches("urn:daybook:problem:").to_owned()
}
