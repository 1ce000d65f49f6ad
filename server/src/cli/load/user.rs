//! One user: opens an account, then pays others, one transfer after the other, until time is up.
//!
//! ```text
//!   settle   POST /v1/accounts, POST …/deposits, for some PUT /v1/risk/accounts/…/flag
//!   trade    POST /v1/transfers, Prefer: wait ──> the final state;  some also read
//! ```
//!
//! A closed loop without think time, over a connection of the user's own. A request that fails in
//! doubt is sent again under the same id, as a good client does; what stays in doubt is noted as
//! that, and the audit accepts either outcome, but only a whole one.
//!
//! INVARIANT: the only sleeps are after a failure, after a refusal by the breaker ([`super::pause`])
//! and between two looks at an unfinished transfer.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use daybook_model::{Clock as _, SystemClock};
use serde::Deserialize;
use uuid::Uuid;

use super::amount;
use super::audit::{Sent, Told};
use super::http::{Address, Answer, Connection, HttpError, Request};
use super::pause::Way;
use super::plan::{Kind, Plan, Random};
use super::stats::{Operation, Recorder};

/// Minor units an account is opened with: more than the least that any type asks for.
pub const OPENED_WITH: u32 = 100_000;
/// Minor units paid in then: hundreds of the largest transfers.
pub const DEPOSITED: u32 = 900_000;
/// The daily limit of the users' accounts, in minor units, out of the way of any run.
const DAILY_LIMIT: u64 = 1_000_000_000_000;
/// Seconds a transfer's request waits for its final state.
const WAIT_S: u32 = 30;
/// How often a request is sent before it is given up.
const TRIES_MAX: u32 = 5;
/// Pause after a failure: a server in trouble is not helped by a thousand users that spin.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);
/// Pause between two looks at a transfer whose request came back before its end.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Rows of a page that a reader reads.
const READER_ROWS: u32 = 20;

/// What the users of a run have in common.
pub struct Shared {
    /// Who they are.
    pub plan: Plan,
    /// Where the server is.
    pub address: Address,
    /// How they reach it.
    pub way: Way,
    /// Where they note what they see.
    pub recorder: Recorder,
    /// What time it is.
    pub clock: SystemClock,
    /// Whether time is up.
    pub over: AtomicBool,
}

/// What a transfer's answer is read for.
#[derive(Deserialize)]
struct Transfer<'a> {
    state: &'a str,
}

/// One user.
pub struct User {
    index: u32,
    shared: Arc<Shared>,
    connection: Connection,
    random: Random,
    path: String,
    body: String,
    commands: u32,
    sent: Vec<Sent>,
}

impl User {
    /// A user of this index.
    #[must_use]
    pub fn new(index: u32, seed: u64, shared: Arc<Shared>) -> User {
        let connection = Connection::new(shared.address.clone());
        let random = Random::new(seed ^ (u64::from(index) << 32));
        let (path, body) = (String::new(), String::new());
        User { index, shared, connection, random, path, body, commands: 0, sent: Vec::new() }
    }

    /// What it has sent, in order.
    #[must_use]
    pub fn into_sent(self) -> Vec<Sent> {
        self.sent
    }

    /// Opens `account`, which is the user's own or one that nobody owns, with some money in it.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn open(&mut self, account: u32) -> anyhow::Result<()> {
        let currency = self.shared.plan.currency(account);
        let id = self.shared.plan.account_id(account);
        self.path.clear();
        self.path.push_str("/v1/accounts");
        self.body.clear();
        let (code, body) = (currency.code(), &mut self.body);
        let _ =
            write!(body, r#"{{"account_type":"checking","currency":"{code}","owner_id":"{id}""#);
        body.push_str(r#","initial_deposit":""#);
        amount::write(u64::from(OPENED_WITH), currency, body);
        body.push_str(r#"","daily_withdrawal_limit":""#);
        amount::write(DAILY_LIMIT, currency, body);
        body.push_str("\"}");
        self.act("POST", id, Some(Operation::Open)).await.context("cannot open an account")
    }

    /// Opens the user's account, pays into it, and has it flagged if the user is a risky one.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn settle(&mut self) -> anyhow::Result<()> {
        let plan = self.shared.plan;
        self.open(self.index).await?;
        let (id, currency) = (plan.account_id(self.index), plan.currency(self.index));
        self.path.clear();
        let _ = write!(self.path, "/v1/accounts/{id}/deposits");
        self.body.clear();
        self.body.push_str(r#"{"amount":""#);
        amount::write(u64::from(DEPOSITED), currency, &mut self.body);
        let _ = write!(self.body, r#"","currency":"{}"}}"#, currency.code());
        let key = self.command_id();
        self.act("POST", key, Some(Operation::Deposit)).await.context("cannot deposit")?;
        if plan.is_risky(self.index) {
            self.path.clear();
            let _ = write!(self.path, "/v1/risk/accounts/{id}/flag");
            self.body.clear();
            self.body.push_str(r#"{"reason":"load test","flagged_by":"daybook load"}"#);
            let key = self.command_id();
            self.act("PUT", key, None).await.context("cannot flag an account")?;
        }
        Ok(())
    }

    /// Pays others until time is up.
    pub async fn trade(&mut self) {
        let reads = self.shared.plan.is_reader(self.index);
        let mut turn = 0_u32;
        while !self.shared.over.load(Ordering::Relaxed) {
            self.transfer().await;
            turn = turn.wrapping_add(1);
            if reads {
                self.read(turn).await;
            }
        }
    }

    async fn transfer(&mut self) {
        let plan = self.shared.plan;
        let Ok(number) = u32::try_from(self.sent.len()) else { return };
        let id = plan.id(Kind::Transfer, self.index, number);
        let receiver = plan.receiver(self.index, &mut self.random);
        let amount = Plan::amount(&mut self.random);
        let currency = plan.currency(self.index);
        self.path.clear();
        self.path.push_str("/v1/transfers");
        self.body.clear();
        let (from, to) = (plan.account_id(self.index), plan.account_id(receiver));
        let _ = write!(
            self.body,
            r#"{{"sender_account_id":"{from}","receiver_account_id":"{to}","amount":""#
        );
        amount::write(u64::from(amount), currency, &mut self.body);
        let _ = write!(self.body, r#"","currency":"{}"}}"#, currency.code());
        let begun = self.shared.clock.monotonic();
        let told = self.told(id).await;
        match told {
            Told::Unknown => {}
            Told::Failed => self.shared.recorder.failed(self.index, "saga-failed"),
            Told::Completed | Told::Compensated => {
                let took = self.shared.clock.monotonic() - begun;
                self.shared.recorder.answered(self.index, Operation::Transfer, took);
            }
        }
        self.sent.push(Sent { receiver, amount, told });
    }

    /// Starts the transfer in `body` and waits for its end.
    async fn told(&mut self, id: Uuid) -> Told {
        for _ in 0..TRIES_MAX {
            let started = Request {
                wait_s: Some(WAIT_S),
                ..Request::act("POST", &self.path, id, &self.body)
            };
            let answer = self.shared.way.send(&mut self.connection, started).await;
            match state(answer) {
                Ok(Some(told)) => return told,
                Ok(None) => return self.look(id).await,
                Err(Doubt { name, may_help }) => {
                    self.shared.recorder.failed(self.index, &name);
                    tokio::time::sleep(FAILURE_PAUSE).await;
                    if !may_help {
                        break;
                    }
                }
            }
        }
        Told::Unknown
    }

    /// Looks at a transfer until it is final.
    async fn look(&mut self, id: Uuid) -> Told {
        self.path.clear();
        let _ = write!(self.path, "/v1/transfers/{id}");
        let mut failures = 0;
        while failures < TRIES_MAX {
            tokio::time::sleep(LOOK_PAUSE).await;
            let answer = self.shared.way.send(&mut self.connection, Request::get(&self.path)).await;
            match state(answer) {
                Ok(Some(told)) => return told,
                Ok(None) => {}
                Err(Doubt { name, .. }) => {
                    self.shared.recorder.failed(self.index, &name);
                    failures += 1;
                }
            }
        }
        Told::Unknown
    }

    async fn read(&mut self, turn: u32) {
        let id = self.shared.plan.account_id(self.index);
        self.path.clear();
        let operation = if turn.is_multiple_of(2) {
            let _ = write!(self.path, "/v1/accounts/{id}");
            Operation::Account
        } else {
            let _ = write!(self.path, "/v1/accounts/{id}/transactions?limit={READER_ROWS}");
            Operation::Transactions
        };
        let begun = self.shared.clock.monotonic();
        let failed =
            match self.shared.way.send(&mut self.connection, Request::get(&self.path)).await {
                Ok(answer) if answer.status == 200 => None,
                Ok(answer) => Some(answer.refusal().word),
                Err(error) => Some(name_of(&error)),
            };
        match failed {
            None => {
                let took = self.shared.clock.monotonic() - begun;
                self.shared.recorder.answered(self.index, operation, took);
            }
            Some(name) => {
                self.shared.recorder.failed(self.index, &name);
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    }

    /// Does what `path` and `body` say, once, however often it has to be sent.
    async fn act(
        &mut self,
        method: &'static str,
        key: Uuid,
        operation: Option<Operation>,
    ) -> anyhow::Result<()> {
        let begun = self.shared.clock.monotonic();
        let mut last = String::new();
        for _ in 0..TRIES_MAX {
            let request = Request::act(method, &self.path, key, &self.body);
            let (name, detail) = match self.shared.way.send(&mut self.connection, request).await {
                Ok(answer) if (200..300).contains(&answer.status) => {
                    let took = self.shared.clock.monotonic() - begun;
                    if let Some(operation) = operation {
                        self.shared.recorder.answered(self.index, operation, took);
                    }
                    return Ok(());
                }
                Ok(answer) if answer.status < 500 => {
                    let refusal = answer.refusal();
                    bail!("{method} {}: {} ({})", self.path, refusal.detail, refusal.word);
                }
                Ok(answer) => {
                    let refusal = answer.refusal();
                    (refusal.word, refusal.detail)
                }
                Err(error) => (name_of(&error), error.to_string()),
            };
            self.shared.recorder.failed(self.index, &name);
            last = detail;
            tokio::time::sleep(FAILURE_PAUSE).await;
        }
        bail!("{method} {}: {last}; tried {TRIES_MAX} times", self.path)
    }

    fn command_id(&mut self) -> Uuid {
        self.commands += 1;
        self.shared.plan.id(Kind::Command, self.index, self.commands)
    }
}

/// Why nothing certain is known, and whether the same request may succeed if it is sent again.
struct Doubt {
    name: String,
    may_help: bool,
}

/// What an answer says about a transfer: its final state, or that it is not final.
fn state(answer: Result<Answer<'_>, HttpError>) -> Result<Option<Told>, Doubt> {
    let answer = answer.map_err(|error| Doubt { name: name_of(&error), may_help: true })?;
    let transfer: Transfer<'_> = answer.accepted().map_err(|refusal| {
        let may_help = refusal.status >= 500 || refusal.word == "conflict";
        Doubt { name: refusal.word, may_help }
    })?;
    Ok(match transfer.state {
        "completed" => Some(Told::Completed),
        "compensated" => Some(Told::Compensated),
        "failed" | "abandoned" => Some(Told::Failed),
        _ => None,
    })
}

fn name_of(error: &HttpError) -> String {
    match error {
        HttpError::Io { action, .. } => format!("cannot {action}"),
        HttpError::TimedOut(_) => "no-answer-in-time".to_owned(),
        HttpError::Answer(_) => "unreadable-answer".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_final_state_ends_a_transfer() {
        for (status, body, expected) in [
            (200, r#"{"state":"completed"}"#, Ok(Some(Told::Completed))),
            (
                200,
                r#"{"x":"\"state\":\"failed\"","state":"compensated"}"#,
                Ok(Some(Told::Compensated)),
            ),
            (200, r#"{"state":"failed"}"#, Ok(Some(Told::Failed))),
            (202, r#"{"state":"running"}"#, Ok(None)),
            (202, r#"{"state":"compensating"}"#, Ok(None)),
            (503, r#"{"type":"urn:daybook:problem:overloaded"}"#, Err(("overloaded", true))),
            (409, r#"{"type":"urn:daybook:problem:conflict"}"#, Err(("conflict", true))),
            (
                400,
                r#"{"type":"urn:daybook:problem:invalid-request"}"#,
                Err(("invalid-request", false)),
            ),
            (200, "{}", Err(("unexpected-answer", false))),
        ] {
            let found = state(Ok(Answer { status, body: body.as_bytes() }));
            let found = found.map_err(|doubt| (doubt.name, doubt.may_help));
            let expected = expected.map_err(|(name, may_help)| (name.to_owned(), may_help));
            assert_eq!(found, expected, "{status} {body}");
        }
    }
}
