//! A ledger in memory behind the API, and what can be broken in it: so that the checks of a run can
//! be seen to find it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::Json;
use axum::routing::{get, post, put};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::amount;
use super::plan::Currency;

/// How many transfers are answered soundly before a fault strikes one.
const SOUND: usize = 7;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// A transfer is completed, and its credit is nowhere.
    CreditLost,
    /// A transfer is credited twice, in the log and in the balance.
    CreditedTwice,
    /// A transfer is answered as completed, and nothing was written.
    Forgotten,
    /// A transfer is completed and answered as compensated.
    Misreported,
    /// A transfer stays debited for ever, and no answer says how it ends.
    Stuck,
    /// Flagged accounts' transfers are completed.
    RiskIgnored,
    /// An account's balance is not what its history adds up to.
    BalanceOff,
    /// The trial balance says that all is well, and its sums are not zero.
    BooksOff,
    /// Every third request is refused for want of room before anything is done.
    Busy,
}

#[derive(Default)]
struct Account {
    currency: String,
    rows: Vec<i128>,
}

#[derive(Default)]
struct Ledger {
    requests: usize,
    accounts: BTreeMap<Uuid, Account>,
    flagged: BTreeSet<Uuid>,
    transfers: BTreeMap<Uuid, Value>,
    struck: bool,
    stuck: Option<Uuid>,
    events: BTreeMap<&'static str, Vec<Value>>,
}

#[derive(Clone)]
struct Fake {
    fault: Fault,
    ledger: Arc<Mutex<Ledger>>,
}

type Answer = Result<Json<Value>, (StatusCode, Json<Value>)>;

/// Starts a ledger with this fault: its URL.
pub async fn start(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let routes = Router::new()
        .route("/info", get(async || Json(json!({ "version": "fake" }))))
        .route("/v1/accounts", post(open))
        .route("/v1/accounts/{id}", get(account))
        .route("/v1/accounts/{id}/deposits", post(deposit))
        .route("/v1/accounts/{id}/transactions", get(transactions))
        .route("/v1/risk/accounts/{id}/flag", put(flag))
        .route("/v1/transfers", post(transfer))
        .route("/v1/sagas", get(sagas))
        .route("/v1/index/type/{kind}", get(index))
        .route("/v1/trial-balance", get(trial_balance))
        .with_state(Fake { fault, ledger: Arc::default() });
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

impl Ledger {
    fn move_money(&mut self, account: Uuid, minor: i128) {
        self.accounts.get_mut(&account).expect("it was opened").rows.push(minor);
    }

    fn record(&mut self, event_type: &'static str, stream: String, data: Value) {
        self.events
            .entry(event_type)
            .or_default()
            .push(json!({ "stream": stream, "type": event_type, "data": data }));
    }

    fn leg(&mut self, event_type: &'static str, transfer: &Transfer, minor: i128) {
        let (account, other) = match event_type {
            "TransferCredited" => (transfer.receiver, transfer.sender),
            _ => (transfer.sender, transfer.receiver),
        };
        self.move_money(account, minor);
        let data = json!({
            "account_id": account, "counterparty_id": other, "transfer_id": transfer.id,
            "amount": transfer.amount, "currency": transfer.currency, "contra": "clearing",
        });
        self.record(event_type, format!("ledger.account-{account}"), data);
    }

    fn end(&mut self, event_type: &'static str, transfer: &Transfer) {
        let data = json!({
            "transfer_id": transfer.id, "amount": transfer.amount, "currency": transfer.currency,
            "credited_amount": transfer.amount, "credited_currency": transfer.currency,
        });
        self.record(event_type, format!("ledger.transfer-{}", transfer.id), data);
    }
}

struct Transfer {
    id: Uuid,
    sender: Uuid,
    receiver: Uuid,
    amount: String,
    currency: String,
}

fn currency(code: &str) -> Currency {
    let all = [Currency::Usd, Currency::Eur, Currency::Jpy];
    all.into_iter().find(|currency| currency.code() == code).expect("one of the run's")
}

fn minor(body: &Value, member: &str) -> i128 {
    let text = body[member].as_str().expect("an amount is a string");
    let code = body["currency"].as_str().expect("a currency");
    amount::parse(text, currency(code).digits()).expect("an amount")
}

fn key(headers: &HeaderMap) -> Uuid {
    let key = headers.get("idempotency-key").expect("every command has a key");
    key.to_str().expect("text").parse().expect("a UUID")
}

fn id(body: &Value, member: &str) -> Uuid {
    body[member].as_str().expect("an id").parse().expect("a UUID")
}

async fn open(State(fake): State<Fake>, headers: HeaderMap, Json(body): Json<Value>) -> Answer {
    let mut ledger = fake.ledger.lock().expect("no panic");
    let currency = body["currency"].as_str().expect("a currency").to_owned();
    let rows = vec![minor(&body, "initial_deposit")];
    ledger.accounts.insert(key(&headers), Account { currency, rows });
    Ok(Json(json!({})))
}

async fn deposit(
    State(fake): State<Fake>,
    Path(account): Path<Uuid>,
    Json(body): Json<Value>,
) -> Answer {
    fake.ledger.lock().expect("no panic").move_money(account, minor(&body, "amount"));
    Ok(Json(json!({})))
}

async fn flag(State(fake): State<Fake>, Path(account): Path<Uuid>) -> Answer {
    fake.ledger.lock().expect("no panic").flagged.insert(account);
    Ok(Json(json!({})))
}

async fn account(State(fake): State<Fake>, Path(id): Path<Uuid>) -> Answer {
    let ledger = fake.ledger.lock().expect("no panic");
    let account = &ledger.accounts[&id];
    let mut balance: i128 = account.rows.iter().sum();
    if fake.fault == Fault::BalanceOff && ledger.accounts.keys().next() == Some(&id) {
        balance += 1;
    }
    Ok(Json(json!({
        "balance": amount::text(balance, currency(&account.currency)),
        "currency": account.currency,
        "revision": account.rows.len(),
    })))
}

/// Pages of ten rows, the oldest first.
async fn transactions(
    State(fake): State<Fake>,
    Path(id): Path<Uuid>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Answer {
    let ledger = fake.ledger.lock().expect("no panic");
    let account = &ledger.accounts[&id];
    let from = query.get("cursor").map_or(0, |cursor| cursor.parse().expect("a cursor"));
    let rows = account.rows.iter().enumerate().skip(from).take(10);
    let rows = rows.map(|(nth, minor)| {
        let amount = amount::text(*minor, currency(&account.currency));
        json!({ "revision": nth, "amount": amount })
    });
    let rows: Vec<_> = rows.collect();
    let next = (from + 10 < account.rows.len()).then(|| (from + 10).to_string());
    Ok(Json(json!({ "transactions": rows, "next": next })))
}

async fn transfer(State(fake): State<Fake>, headers: HeaderMap, Json(body): Json<Value>) -> Answer {
    let mut ledger = fake.ledger.lock().expect("no panic");
    ledger.requests += 1;
    if fake.fault == Fault::Busy && ledger.requests.is_multiple_of(3) {
        let problem = json!({ "type": "urn:daybook:problem:overloaded", "detail": "busy" });
        return Err((StatusCode::SERVICE_UNAVAILABLE, Json(problem)));
    }
    let transfer = Transfer {
        id: key(&headers),
        sender: id(&body, "sender_account_id"),
        receiver: id(&body, "receiver_account_id"),
        amount: body["amount"].as_str().expect("an amount").to_owned(),
        currency: body["currency"].as_str().expect("a currency").to_owned(),
    };
    if let Some(known) = ledger.transfers.get(&transfer.id) {
        return Ok(Json(known.clone()));
    }
    let amount = minor(&body, "amount");
    let mut state = "completed";
    let flagged = [transfer.sender, transfer.receiver].map(|id| ledger.flagged.contains(&id));
    let risky = flagged.contains(&true) && fake.fault != Fault::RiskIgnored;
    // One that is to be compensated anyway would hide what is done to it.
    let strikes = !ledger.struck && !risky && ledger.transfers.len() >= SOUND;
    ledger.struck |= strikes;
    let fault = if strikes { fake.fault } else { Fault::None };
    if fault != Fault::Forgotten {
        ledger.leg("TransferDebited", &transfer, -amount);
    }
    match fault {
        Fault::Forgotten => {}
        Fault::Stuck => {
            state = "failed";
            ledger.stuck = Some(transfer.id);
        }
        _ if risky => {
            state = "compensated";
            ledger.leg("TransferRefunded", &transfer, amount);
            ledger.end("PaymentRejected", &transfer);
        }
        fault => {
            let credits = match fault {
                Fault::CreditLost => 0,
                Fault::CreditedTwice => 2,
                _ => 1,
            };
            for _ in 0..credits {
                ledger.leg("TransferCredited", &transfer, amount);
            }
            ledger.end("PaymentCompleted", &transfer);
        }
    }
    if fault == Fault::Misreported {
        state = "compensated";
    }
    let answer = json!({ "transfer_id": transfer.id, "state": state });
    ledger.transfers.insert(transfer.id, answer.clone());
    Ok(Json(answer))
}

async fn sagas(State(fake): State<Fake>, Query(query): Query<BTreeMap<String, String>>) -> Answer {
    let ledger = fake.ledger.lock().expect("no panic");
    let stuck = ledger.stuck.filter(|_| query["state"] == "failed");
    let sagas: Vec<_> = stuck.iter().map(|id| json!({ "id": id, "state": "failed" })).collect();
    Ok(Json(json!({ "sagas": sagas })))
}

async fn index(
    State(fake): State<Fake>,
    Path(kind): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Answer {
    let ledger = fake.ledger.lock().expect("no panic");
    let events = ledger.events.get(kind.as_str()).map_or(&[][..], Vec::as_slice);
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    if query.contains_key("direction") {
        let last: Vec<_> = events.last().into_iter().collect();
        let next = events.len().checked_sub(2);
        return Ok(Json(json!({ "events": last, "next": next, "atEnd": false })));
    }
    let from = number("from").unwrap_or(0);
    // Smaller pages than are asked for, so that a short run has several.
    let page: Vec<_> = events.iter().skip(from).take(10).collect();
    let next = from + page.len();
    Ok(Json(json!({ "events": page, "next": next, "atEnd": next == events.len() })))
}

async fn trial_balance(State(fake): State<Fake>) -> Answer {
    let ledger = fake.ledger.lock().expect("no panic");
    let mut sums: BTreeMap<&str, i128> = BTreeMap::new();
    for account in ledger.accounts.values() {
        *sums.entry(&account.currency).or_default() += account.rows.iter().sum::<i128>();
    }
    let off = i128::from(fake.fault == Fault::BooksOff);
    let currencies = sums.into_iter().map(|(code, customers)| {
        let text = |minor| amount::text(minor, currency(code));
        json!({
            "currency": code, "customers": text(customers), "cash": text(off - customers),
            "clearing": text(0), "fees": text(0), "fx_position": text(0), "total": text(0),
        })
    });
    let currencies: Vec<_> = currencies.collect();
    let accounts = ledger.accounts.len();
    Ok(Json(json!({
        "position": 1, "balanced": true, "currencies": currencies,
        "verified": { "accounts": accounts, "events": accounts, "equal": true },
    })))
}
