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

/// One question and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What it is about.
    pub name: &'static str,
    /// What was looked at.
    pub about: String,
    /// What is wrong.
    pub findings: Findings,
}

impl Check {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.findings.count == 0
    }
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
struct Account {
    balance: String,
    currency: String,
    revision: u64,
}

#[derive(Deserialize)]
struct Transactions {
    transactions: Vec<Row>,
    next: Option<String>,
}

/// One row of an account's history.
#[derive(Clone, Debug, Deserialize)]
struct Row {
    revision: u64,
    amount: Option<String>,
    /// The balance after it.
    balance: Option<String>,
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

/// The trial balance, as far as it is checked.
#[derive(Clone, Debug, Deserialize)]
pub struct TrialBalance {
    /// The position it is of.
    pub position: u64,
    /// Whether the server says that it is balanced.
    pub balanced: bool,
    /// The sums.
    pub currencies: Vec<Sums>,
    /// What an independent fold of the accounts says, if it was asked for.
    pub verified: Option<Verified>,
}

/// The sums of one currency.
#[derive(Clone, Debug, Deserialize)]
pub struct Sums {
    /// Its code.
    pub currency: String,
    /// Of all customers.
    pub customers: String,
    /// What came from and went to the outside.
    pub cash: String,
    /// What is on its way.
    pub clearing: String,
    /// What the house has earned.
    pub fees: String,
    /// What the house holds because of conversions.
    pub fx_position: String,
    /// All of it.
    pub total: String,
}

/// What a fold of every account's stream says.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Verified {
    /// Accounts folded.
    pub accounts: u64,
    /// Events folded.
    pub events: u64,
    /// Whether it comes to the same.
    pub equal: bool,
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

/// Whether the rows of an account's history, in either order, add up to its balance, row by row.
fn replay(history: &[Row], account: &Account, currency: Currency) -> Result<(), String> {
    let newest_first = history.first().map(|row| row.revision) > history.last().map(|r| r.revision);
    let rows: Vec<&Row> =
        if newest_first { history.iter().rev().collect() } else { history.iter().collect() };
    if !rows.windows(2).all(|pair| pair[0].revision < pair[1].revision) {
        return Err("a page repeats a row, or its rows are out of order".to_owned());
    }
    let mut sum = 0;
    let minor = |text: &str| amount::parse(text, currency.digits());
    for row in rows {
        if row.revision > account.revision {
            return Err(format!("row {} is newer than the account", row.revision));
        }
        if let Some(text) = &row.amount {
            let moved = minor(text);
            sum += moved.ok_or_else(|| format!("row {} moves '{text}'", row.revision))?;
        }
        if let Some(text) = row.balance.as_deref().filter(|text| minor(text) != Some(sum)) {
            let sum = amount::text(sum, currency);
            return Err(format!("row {} says {text}, those before it {sum}", row.revision));
        }
    }
    if minor(&account.balance) != Some(sum) {
        let sum = amount::text(sum, currency);
        return Err(format!("its history adds up to {sum}, it has {}", account.balance));
    }
    Ok(())
}

/// Compares what was paid in with what is there: `sums` has both, per currency.
fn check_deposits(sums: &BTreeMap<Currency, (i128, i128)>) -> Check {
    let mut findings = Findings::default();
    let mut texts = Vec::new();
    for (currency, (deposited, balances)) in sums {
        let code = currency.code();
        let (paid_in, there) =
            (amount::text(*deposited, *currency), amount::text(*balances, *currency));
        if deposited != balances {
            findings.add(|| format!("{paid_in} {code} were paid in, {there} {code} are there"));
        }
        texts.push(format!("{paid_in} {code}"));
    }
    let about = format!("the sum of all balances is what was paid in: {}", texts.join(", "));
    Check { name: "deposits", about, findings }
}

/// Adds the trial balance up, whatever the server says of it.
#[must_use]
pub fn check_trial_balance(found: &TrialBalance) -> Check {
    let mut findings = Findings::default();
    for sums in &found.currencies {
        let parts = [&sums.customers, &sums.cash, &sums.clearing, &sums.fees, &sums.fx_position];
        let digits = sums.total.split_once('.').map_or(0, |(_, part)| part.len());
        let digits = u32::try_from(digits).unwrap_or(u32::MAX);
        let sum: Option<i128> = parts.into_iter().map(|part| amount::parse(part, digits)).sum();
        if sum != Some(0) || amount::parse(&sums.total, digits) != Some(0) {
            findings.add(|| format!("not zero: {sums:?}"));
        }
    }
    if !found.balanced {
        findings.add(|| "the server says that it is not balanced".to_owned());
    }
    let folded = match found.verified {
        Some(Verified { accounts, events, equal }) => {
            if !equal {
                findings.add(|| "a fold of every account comes to something else".to_owned());
            }
            format!("a fold of {events} events of {accounts} accounts")
        }
        None => {
            findings.add(|| "the server did not fold the accounts".to_owned());
            "no fold".to_owned()
        }
    };
    let currencies = found.currencies.len();
    let about = format!(
        "zero in {currencies} currencies at position {}, and equal to {folded}",
        found.position
    );
    Check { name: "trial balance", about, findings }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(revision: u64, amount: Option<&str>, balance: Option<&str>) -> Row {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Row { revision, amount: owned(amount), balance: owned(balance) }
    }

    #[test]
    fn a_history_adds_up_to_the_balance_or_is_found() {
        let account =
            Account { balance: "7.50".to_owned(), currency: "USD".to_owned(), revision: 3 };
        let sound = [
            row(0, Some("10.00"), Some("10.00")),
            row(1, None, Some("10.00")),
            row(2, Some("-3.00"), None),
            row(3, Some("0.50"), Some("7.50")),
        ];
        let mut backwards = sound.clone();
        backwards.reverse();
        let pick =
            |rows: &[usize]| -> Vec<Row> { rows.iter().map(|nth| sound[*nth].clone()).collect() };
        let one = |amount, balance| vec![row(0, Some(amount), Some(balance))];
        for (name, rows, is_sound) in [
            ("sound", sound.to_vec(), true),
            ("newest first", backwards.to_vec(), true),
            ("a row is missing", pick(&[0, 1, 2]), false),
            ("a row is missing within", pick(&[0, 1, 3]), false),
            ("a row twice", pick(&[0, 1, 2, 2, 3]), false),
            ("out of order", pick(&[1, 0, 2, 3]), false),
            ("newer than the account", vec![row(4, Some("7.50"), None)], false),
            ("not an amount", one("7.5", "7.50"), false),
            ("another balance on the way", one("7.50", "7.51"), false),
            ("none", Vec::new(), false),
        ] {
            let found = replay(&rows, &account, Currency::Usd);
            assert_eq!(found.is_ok(), is_sound, "{name}: {found:?}");
        }
    }

    fn trial_balance(change: impl Fn(&mut TrialBalance)) -> Check {
        let text = r#"{"position":9,"balanced":true,"currencies":[
            {"currency":"JPY","customers":"900","cash":"-1000","clearing":"100","fees":"0",
             "fx_position":"0","total":"0"},
            {"currency":"USD","customers":"9.00","cash":"-10.00","clearing":"0.00","fees":"0.50",
             "fx_position":"0.50","total":"0.00"}],
            "verified":{"accounts":2,"events":5,"equal":true}}"#;
        let mut found = serde_json::from_str(text).expect("JSON");
        change(&mut found);
        check_trial_balance(&found)
    }

    #[test]
    fn the_trial_balance_is_added_up_here() {
        assert!(trial_balance(|_| {}).passed());
        type Change = fn(&mut TrialBalance);
        let changes: [(&str, Change); 6] = [
            ("one part", |found| found.currencies[0].clearing = "99".to_owned()),
            ("total", |found| found.currencies[1].total = "0.01".to_owned()),
            ("no amount", |found| found.currencies[1].fees = "0.5".to_owned()),
            ("said", |found| found.balanced = false),
            ("fold", |found| found.verified.as_mut().expect("some").equal = false),
            ("no fold", |found| found.verified = None),
        ];
        for (name, change) in changes {
            assert!(!trial_balance(change).passed(), "{name}");
        }
    }

    #[test]
    fn money_that_is_lost_or_made_is_found() {
        let sums = |eur: i128| [(Currency::Usd, (5, 5)), (Currency::Eur, (100, eur))].into();
        assert!(check_deposits(&sums(100)).passed());
        assert!(!check_deposits(&sums(99)).passed());
        assert!(!check_deposits(&sums(101)).passed());
    }

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
