//! The comparisons that need only an answer or two of the API, and one's own arithmetic: an account
//! with its history, what was paid in with what is there, the trial balance with zero.
//!
//! INVARIANT: pure; adds up for itself, whatever the server says the sum is.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::amount;
use super::audit::Findings;
use super::plan::Currency;

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

/// An account, as far as it is checked.
#[derive(Clone, Debug, Deserialize)]
pub struct Account {
    /// The balance.
    pub balance: String,
    /// The currency.
    pub currency: String,
    /// The number of its last event.
    pub revision: u64,
}

/// One row of an account's history.
#[derive(Clone, Debug, Deserialize)]
pub struct Row {
    /// Its number.
    pub revision: u64,
    /// What it did to the balance; nothing if no money moved.
    pub amount: Option<String>,
    /// The balance after it.
    pub balance: Option<String>,
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

/// Whether the rows of an account's history, in either order, add up to its balance, row by row.
///
/// # Errors
/// What is wrong with them.
pub fn replay(history: &[Row], account: &Account, currency: Currency) -> Result<(), String> {
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
#[must_use]
pub fn check_deposits(sums: &BTreeMap<Currency, (i128, i128)>) -> Check {
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
}
