//! Consistency, from the outside: after a run, everything the API can be asked is compared with
//! what the users did and were told, and with itself.
//!
//! ```text
//!   quiet          no saga of the run is left running or failed         /v1/sagas
//!   transfers      every transfer's legs and end, beside what was told  /v1/index/type/…
//!   accounts       a replay of an account's history gives its balance   /v1/accounts/…
//!                  and so does what was paid and received
//!   deposits       what was paid in is there, per currency
//!   trial balance  all legs sum to zero; an independent fold agrees     /v1/trial-balance?verify
//! ```
//!
//! INVARIANT: a check that could not be made has not passed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use uuid::Uuid;

use super::amount;
use super::audit::{Audit, Audited, End, Findings, Leg, Sent, Side};
use super::http::{Address, Connection, Request};
use super::plan::{Currency, Plan};
use super::user::{DEPOSITED, OPENED_WITH};
use super::verdict::{Account, Check, Row, check_deposits, check_trial_balance, replay};

/// Events of a page, rows of a page: the most the API gives.
const PAGE_SIZE: u32 = 1000;
/// Accounts whose whole history is read. Others' balances are still compared.
const REPLAYS_MAX: u32 = 1000;
/// How long the last sagas may take. A step is retried for less.
const QUIET_TIMEOUT: Duration = Duration::from_secs(90);
/// Pause between two looks at them.
const QUIET_LOOK: Duration = Duration::from_millis(100);

/// The event types that say what became of money on its way.
const EVENT_TYPES: [(&str, Fact); 5] = [
    ("TransferDebited", Fact::Leg(Side::Debit)),
    ("TransferCredited", Fact::Leg(Side::Credit)),
    ("TransferRefunded", Fact::Leg(Side::Refund)),
    ("PaymentCompleted", Fact::End(End::Completed)),
    ("PaymentRejected", Fact::End(End::Rejected)),
];

#[derive(Clone, Copy, Debug)]
enum Fact {
    Leg(Side),
    End(End),
}

/// Where the log's ends were before the run, by event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks([u64; EVENT_TYPES.len()]);

/// What all checks came to.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Each of them.
    pub checks: Vec<Check>,
    /// The comparison of the transfers.
    pub audited: Audited,
}

/// Who checks.
pub struct Checker {
    plan: Plan,
    connection: Connection,
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    events: Vec<Event<'a>>,
    next: Option<u64>,
    #[serde(rename = "atEnd")]
    at_end: bool,
}

#[derive(Deserialize)]
struct Event<'a> {
    stream: &'a str,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    transfer_id: Uuid,
    account_id: Option<Uuid>,
    counterparty_id: Option<Uuid>,
    amount: Option<&'a str>,
    currency: Option<&'a str>,
    contra: Option<&'a str>,
    credited_amount: Option<&'a str>,
    credited_currency: Option<&'a str>,
}

#[derive(Deserialize)]
struct Transactions {
    transactions: Vec<Row>,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Sagas {
    sagas: Vec<Saga>,
}

#[derive(Deserialize)]
struct Saga {
    id: Uuid,
    state: String,
    reason: Option<String>,
}

impl Checker {
    /// A checker of a run of `plan` on the server at `address`.
    #[must_use]
    pub fn new(plan: Plan, address: Address) -> Checker {
        Checker { plan, connection: Connection::new(address) }
    }

    /// Where the log ends now, so that a check need not read what was there before.
    ///
    /// # Errors
    /// If the server does not tell.
    pub async fn marks(&mut self) -> anyhow::Result<Marks> {
        let mut marks = [0; EVENT_TYPES.len()];
        for (mark, (event_type, _)) in marks.iter_mut().zip(EVENT_TYPES) {
            let path = format!("/v1/index/type/{event_type}?direction=backwards&limit=1");
            let page: Page<'_> = get(&mut self.connection, &path).await?;
            *mark = match (page.events.len(), page.next) {
                (0, _) => 0,
                // Backwards, the next is the one before the last.
                (_, next) => next.map_or(1, |before| before + 2),
            };
        }
        Ok(Marks(marks))
    }

    /// Makes all checks of a run in which `sent` was sent. `say` is told what is being done.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub async fn check(
        &mut self,
        marks: Marks,
        sent: &[Vec<Sent>],
        say: &dyn Fn(&str),
    ) -> anyhow::Result<Checked> {
        say("waiting for the last transfers to end");
        let quiet = self.quiet().await?;
        say("reading the legs and ends of all transfers");
        let audited = self.audit(marks, sent).await?;
        let transfers = Check {
            name: "transfers",
            about: format!(
                "{} transfers against {} legs and ends in the log: {} completed, {} compensated, \
                 {} never begun",
                audited.transfers,
                audited.facts,
                audited.completed,
                audited.compensated,
                audited.never_begun
            ),
            findings: audited.findings.clone(),
        };
        say("replaying accounts");
        let (accounts, deposits) = self.accounts(&audited).await?;
        say("checking the trial balance");
        let path = "/v1/trial-balance?verify=true";
        let trial_balance = check_trial_balance(&get(&mut self.connection, path).await?);
        let checks = vec![quiet, transfers, accounts, deposits, trial_balance];
        Ok(Checked { checks, audited })
    }

    async fn quiet(&mut self) -> anyhow::Result<Check> {
        let mut findings = Findings::default();
        for state in ["running", "compensating"] {
            let left = async {
                while self.sagas(state).await?.iter().any(|saga| self.is_ours(saga)) {
                    tokio::time::sleep(QUIET_LOOK).await;
                }
                anyhow::Ok(())
            };
            if let Ok(left) = tokio::time::timeout(QUIET_TIMEOUT, left).await {
                left?;
            }
        }
        for state in ["running", "compensating", "failed"] {
            for saga in self.sagas(state).await?.iter().filter(|saga| self.is_ours(saga)) {
                let reason = saga.reason.as_deref().unwrap_or("no reason given");
                findings.add(|| format!("{} is {}: {reason}", saga.id, saga.state));
            }
        }
        let about = "no saga of the run is left running or failed".to_owned();
        Ok(Check { name: "quiet", about, findings })
    }

    async fn sagas(&mut self, state: &str) -> anyhow::Result<Vec<Saga>> {
        let path = format!("/v1/sagas?state={state}");
        Ok(get::<Sagas>(&mut self.connection, &path).await?.sagas)
    }

    fn is_ours(&self, saga: &Saga) -> bool {
        self.plan.named(saga.id).is_some()
    }

    async fn audit(&mut self, marks: Marks, sent: &[Vec<Sent>]) -> anyhow::Result<Audited> {
        let mut audit = Audit::new(self.plan, sent);
        for ((event_type, fact), mark) in EVENT_TYPES.into_iter().zip(marks.0) {
            let mut from = mark;
            loop {
                let path = format!("/v1/index/type/{event_type}?from={from}&limit={PAGE_SIZE}");
                let page: Page<'_> = get(&mut self.connection, &path).await?;
                for event in &page.events {
                    take(&mut audit, fact, event)
                        .with_context(|| format!("{event_type} in {}", event.stream))?;
                }
                match page.next {
                    Some(next) if !page.at_end && next > from => from = next,
                    _ if page.at_end => break,
                    _ => bail!("{path} names no next page and is not the last"),
                }
            }
        }
        Ok(audit.finish())
    }

    /// Compares every account's balance with what was paid and received, and replays the histories
    /// of as many as may be, the merchants' first.
    async fn accounts(&mut self, audited: &Audited) -> anyhow::Result<(Check, Check)> {
        let mut findings = Findings::default();
        let mut rows = 0;
        let mut sums: BTreeMap<Currency, (i128, i128)> = BTreeMap::new();
        let plan = self.plan;
        for (nth, account) in (0..plan.accounts()).rev().enumerate() {
            let (id, currency) = (plan.account_id(account), plan.currency(account));
            let found: Account = get(&mut self.connection, &format!("/v1/accounts/{id}")).await?;
            let deposited = deposited(&plan, account);
            let expected = deposited + audited.net[account as usize];
            let balance = amount::parse(&found.balance, currency.digits());
            if balance != Some(expected) || found.currency != currency.code() {
                let wanted = amount::text(expected, currency);
                findings.add(|| {
                    let (balance, code) = (&found.balance, &found.currency);
                    format!("account {id} has {balance} {code}, by its transfers {wanted}")
                });
            }
            let sum = sums.entry(currency).or_default();
            *sum = (sum.0 + deposited, sum.1 + balance.unwrap_or_default());
            if nth < REPLAYS_MAX as usize {
                let history = self.history(id).await?;
                rows += history.len();
                if let Err(wrong) = replay(&history, &found, currency) {
                    findings.add(|| format!("account {id}: {wrong}"));
                }
            }
        }
        let replayed = plan.accounts().min(REPLAYS_MAX);
        let about = format!(
            "{} balances against what was paid and received, {replayed} of them (the merchants' \
             among them) against a replay of {rows} rows of their histories",
            plan.accounts()
        );
        Ok((Check { name: "accounts", about, findings }, check_deposits(&sums)))
    }

    async fn history(&mut self, id: Uuid) -> anyhow::Result<Vec<Row>> {
        let first = format!("/v1/accounts/{id}/transactions?limit={PAGE_SIZE}");
        let mut path = first.clone();
        let mut rows = Vec::new();
        loop {
            let page: Transactions = get(&mut self.connection, &path).await?;
            let empty = page.transactions.is_empty();
            rows.extend(page.transactions);
            match page.next {
                Some(cursor) if !empty => path = format!("{first}&cursor={cursor}"),
                Some(_) => bail!("{path} is an empty page that names a next one"),
                None => return Ok(rows),
            }
        }
    }
}

async fn get<'a, T: Deserialize<'a>>(
    connection: &'a mut Connection,
    path: &str,
) -> anyhow::Result<T> {
    let answer = connection.send(Request::get(path)).await.with_context(|| path.to_owned())?;
    answer
        .accepted()
        .map_err(|refusal| anyhow::anyhow!("GET {path}: {} ({})", refusal.detail, refusal.word))
}

/// Gives one event of the log to the audit.
fn take(audit: &mut Audit<'_>, fact: Fact, event: &Event<'_>) -> anyhow::Result<()> {
    let data = &event.data;
    match fact {
        Fact::Leg(side) => audit.leg(&Leg {
            side,
            stream: event.stream,
            account: data.account_id.context("has no account_id")?,
            counterparty: data.counterparty_id.context("has no counterparty_id")?,
            transfer: data.transfer_id,
            amount: data.amount.context("has no amount")?,
            currency: data.currency.context("has no currency")?,
            contra: data.contra.context("has no contra")?,
        }),
        Fact::End(End::Completed) => {
            let amount = data.amount.context("has no amount")?;
            let currency = data.currency.context("has no currency")?;
            let credited = (data.credited_amount, data.credited_currency);
            if credited != (Some(amount), Some(currency)) {
                bail!("says that {amount} {currency} became {credited:?}");
            }
            audit.end(data.transfer_id, End::Completed, Some((amount, currency)));
        }
        Fact::End(End::Rejected) => audit.end(data.transfer_id, End::Rejected, None),
    }
    Ok(())
}

fn deposited(plan: &Plan, account: u32) -> i128 {
    i128::from(OPENED_WITH) + if plan.is_merchant(account) { 0 } else { i128::from(DEPOSITED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_as_the_log_has_them() {
        let plan = Plan::new([3; 16], 20);
        let [transfer, sender, receiver] = [
            plan.id(super::super::plan::Kind::Transfer, 0, 0),
            plan.account_id(0),
            plan.account_id(1),
        ];
        let sent = Sent { receiver: 1, amount: 150, told: super::super::audit::Told::Completed };
        let sent = [vec![sent]];
        let mut audit = Audit::new(plan, &sent);
        let leg = |account: Uuid, other: Uuid| {
            format!(
                r#"{{"position":1,"stream":"ledger.account-{account}","data":{{
                "account_id":"{account}","transfer_id":"{transfer}","counterparty_id":"{other}",
                "amount":"1.50","currency":"USD","contra":"clearing","description":"a \"b\""}}}}"#
            )
        };
        let end = format!(
            r#"{{"position":2,"stream":"ledger.transfer-{transfer}","data":{{
            "transfer_id":"{transfer}","sender_account_id":"{sender}",
            "receiver_account_id":"{receiver}","amount":"1.50","currency":"USD",
            "credited_amount":"1.50","credited_currency":"USD"}}}}"#
        );
        for (fact, text) in [
            (Fact::Leg(Side::Debit), leg(sender, receiver)),
            (Fact::Leg(Side::Credit), leg(receiver, sender)),
            (Fact::End(End::Completed), end.clone()),
        ] {
            let event: Event<'_> = serde_json::from_str(&text).expect("an event");
            take(&mut audit, fact, &event).expect("whole");
        }
        let audited = audit.finish();
        assert_eq!((audited.findings.count, audited.completed), (0, 1), "{audited:?}");
        let other = end.replace(r#""credited_amount":"1.50""#, r#""credited_amount":"1.40""#);
        let event: Event<'_> = serde_json::from_str(&other).expect("an event");
        let mut audit = Audit::new(plan, &sent);
        assert!(take(&mut audit, Fact::End(End::Completed), &event).is_err());
    }
}
