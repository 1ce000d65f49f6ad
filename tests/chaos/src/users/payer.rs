//! Moves money to the others at a steady pace, each transfer under one id until its final state.

use std::sync::Arc;

use anyhow::bail;
use daybook_client::resilience::{GuardError, Verdict};
use daybook_log::disk::sim::Rng;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::{PAY_PACE, SETTLE_TIMEOUT, Site, pause_after};
use crate::http::{Answer, Connection, HttpError};
use crate::journal::{End, Transfer};
use crate::measure::Kind;

/// What each account is opened with, in cents: thousands of the largest transfers.
const OPENED_CENTS: i64 = 10_000_000;
/// The largest transfer, in cents.
const CENTS_MAX: u64 = 500;
/// Above what any run moves.
const DAILY_LIMIT: &str = "1000000000.00";
/// How long the server may hold an answer back until the transfer's end.
const WAIT: &str = "wait=1";

/// Why a transfer is not known to be over.
#[derive(Debug, thiserror::Error)]
pub enum PayError {
    /// No answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// It is under way.
    #[error("it is under way")]
    Running,
    /// The server does not do it now.
    #[error("refused: {0}")]
    NotNow(String),
    /// The server will never do it.
    #[error("refused for good: {0}")]
    Never(String),
}

impl PayError {
    /// What it says of the server.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            PayError::Http(_) | PayError::NotNow(_) => Verdict::Failure,
            PayError::Running | PayError::Never(_) => Verdict::Success,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            PayError::Http(HttpError::Connect(_)) => "unreachable",
            PayError::Http(HttpError::Broken(_)) => "outcome unknown",
            PayError::Running => "under way",
            PayError::NotNow(_) => "busy or not ready",
            PayError::Never(_) => "refused",
        }
    }
}

/// The account of the payer of this number.
fn account_of(site: &Site, number: u32) -> Uuid {
    Uuid::from_u128(u128::from(site.seed) << 64 | 0xacc0_0000_0000 | u128::from(number))
}

/// Opens a payer's account.
///
/// # Errors
/// If the server refuses.
pub async fn open(site: &Site, number: u32) -> anyhow::Result<()> {
    let id = account_of(site, number);
    let body = json!({
        "account_type": "checking", "currency": "USD", "owner_id": id,
        "initial_deposit": format!("{}.00", OPENED_CENTS / 100),
        "daily_withdrawal_limit": DAILY_LIMIT,
    });
    let (mut connection, key) = (Connection::new(site.address), id.to_string());
    let headers = [("idempotency-key", key.as_str())];
    let opened = connection.send("POST", "/v1/accounts", &headers, body.to_string());
    let answer = tokio::time::timeout(SETTLE_TIMEOUT, opened).await??;
    if answer.status != 201 {
        bail!("{} {}", answer.status, answer.body);
    }
    site.journal.opened(id, OPENED_CENTS);
    Ok(())
}

/// Pays until time is up.
pub async fn pay(site: Arc<Site>, number: u32, payers: u32) {
    let mut rng = Rng::new(site.seed ^ 0x9a7 ^ u64::from(number) << 32);
    let mut tick = tokio::time::interval(PAY_PACE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let connection = Mutex::new(Connection::new(site.address));
    let mut count = 0_u64;
    while !site.is_over() {
        tick.tick().await;
        let to = (number + 1 + rng.below(u64::from(payers) - 1) as u32) % payers;
        let id = u128::from(site.seed) << 64 | 0x7f << 56 | u128::from(number) << 40;
        let transfer = Transfer {
            id: Uuid::from_u128(id | u128::from(count)),
            from: number as usize,
            to: to as usize,
            cents: 1 + rng.below(CENTS_MAX) as i64,
            told: None,
        };
        count += 1;
        transfer_it(&site, &connection, transfer).await;
    }
}

async fn transfer_it(site: &Site, connection: &Mutex<Connection>, transfer: Transfer) {
    let body = json!({
        "sender_account_id": account_of(site, transfer.from as u32),
        "receiver_account_id": account_of(site, transfer.to as u32),
        "amount": format!("{}.{:02}", transfer.cents / 100, transfer.cents % 100),
        "currency": "USD",
    });
    let (body, key) = (body.to_string(), transfer.id.to_string());
    let headers = [("idempotency-key", key.as_str()), ("prefer", WAIT)];
    let number = site.journal.transferring(transfer);
    let begun = site.recorder.now();
    loop {
        // One attempt at a time; one that is given up lets go of the connection.
        let tried = site.payments.call(|| async {
            let mut connection = connection.lock().await;
            read(connection.send("POST", "/v1/transfers", &headers, body.clone()).await?)
        });
        match tried.await {
            Ok(end) => {
                site.journal.transferred(number, end);
                return site.recorder.done(Kind::Transfer, begun);
            }
            Err(GuardError::Inner(PayError::Never(why))) => {
                return site.journal.odd(|| format!("transfer {key}: {why}"));
            }
            Err(GuardError::Inner(PayError::Running)) => {}
            Err(error) => pause_after(site, &error, PayError::name).await,
        }
    }
}

fn read(answer: Answer) -> Result<End, PayError> {
    match (answer.status, answer.body["state"].as_str()) {
        (200 | 202, Some("completed")) => Ok(End::Completed),
        (200 | 202, Some("compensated")) => Ok(End::Compensated),
        (200 | 202, Some("failed")) => Err(PayError::Never("its saga failed".to_owned())),
        (200 | 202, _) => Err(PayError::Running),
        (409 | 429 | 500.., _) => Err(PayError::NotNow(answer.word())),
        (status, _) => Err(PayError::Never(format!("{status} {}", answer.word()))),
    }
}
