//! The trial balance of a stopped store, from the events themselves: every currency sums to zero,
//! each event leaves its account with the balance that it says, and the accounts' balances are
//! together what the books say of customers.

use std::collections::BTreeMap;

use daybook_ledger::account::{ACCOUNT_CATEGORY, Account};
use daybook_ledger::books::Books;
use daybook_ledger::currency::Currency;
use daybook_model::{Aggregate as _, EventView};
use rust_decimal::Decimal;
use serde_json::{Value, json};

/// The books, as far as they were read. Holds a balance for each account that moved money.
#[derive(Debug, Default)]
pub struct Trial {
    books: Books,
    accounts: BTreeMap<String, (Currency, Decimal)>,
    /// The first thing that is wrong.
    wrong: Option<String>,
}

impl Trial {
    /// Enters an event, if it is an account's.
    pub fn enter(&mut self, event: EventView<'_>) {
        let account = event.stream.strip_prefix(ACCOUNT_CATEGORY).and_then(|n| n.strip_prefix('-'));
        let Some(account) = account else { return };
        let position = event.position;
        if let Err(reason) = self.entered(account, event) {
            self.wrong.get_or_insert_with(|| format!("position {position}: {reason}"));
        }
    }

    fn entered(&mut self, account: &str, event: EventView<'_>) -> Result<(), String> {
        let event = Account::read(event).map_err(|error| error.to_string())?;
        self.books.apply_event(&event).map_err(|error| error.to_string())?;
        let Some([leg, _]) = event.legs() else { return Ok(()) };
        let start = (leg.currency, Decimal::ZERO);
        let (currency, balance) = self.accounts.entry(account.to_owned()).or_insert(start);
        *balance += leg.amount;
        if *currency != leg.currency {
            return Err(format!("the account {account} has {currency}, not {}", leg.currency));
        }
        match event.balance() {
            Some(said) if said != *balance => {
                Err(format!("the account {account} has {balance}, and its event says {said}"))
            }
            _ => Ok(()),
        }
    }

    /// What is wrong, if anything is.
    #[must_use]
    pub fn off(&self) -> Option<String> {
        if self.wrong.is_some() {
            return self.wrong.clone();
        }
        let mut customers: BTreeMap<Currency, Decimal> = BTreeMap::new();
        for (currency, balance) in self.accounts.values() {
            *customers.entry(*currency).or_default() += balance;
        }
        self.books.currencies().find_map(|(currency, sums)| {
            let accounts = customers.get(&currency).copied().unwrap_or_default();
            let (total, books) = (sums.total(), sums.customers);
            if !total.is_zero() {
                Some(format!("{currency} sums to {total}, not to zero"))
            } else if accounts != books {
                Some(format!("the accounts have {accounts} {currency}, the books {books}"))
            } else {
                None
            }
        })
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let off = self.off();
        json!({
            "balanced": off.is_none(),
            "accounts": self.accounts.len(),
            "books": self.books,
            "wrong": off,
        })
    }

    /// For people; nothing if no money was ever moved.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows: Vec<(&'static str, String)> = self
            .books
            .currencies()
            .map(|(currency, sums)| ("customers", format!("{} {currency}", sums.customers)))
            .collect();
        if let Some(wrong) = self.off() {
            rows.push(("books", format!("NOT BALANCED: {wrong}")));
        } else if !rows.is_empty() {
            rows.push(("books", format!("balanced, {} accounts", self.accounts.len())));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use daybook_model::{ContentType, Position, Revision, Timestamp};
    use uuid::Uuid;

    use super::*;

    fn enter(trial: &mut Trial, position: u64, account: u8, (event_type, data): (&str, &str)) {
        let stream = format!("{ACCOUNT_CATEGORY}-{account}");
        trial.enter(EventView {
            position: Position(position),
            revision: Revision(position),
            time: Timestamp(0),
            id: Uuid::from_u128(u128::from(position)),
            stream: &stream,
            event_type,
            content_type: ContentType::Json,
            tombstone: false,
            metadata: b"{}",
            data: data.as_bytes(),
        });
    }

    fn deposited(amount: &str, balance: &str) -> String {
        format!(
            r#"{{"account_id":"00000000-0000-0000-0000-000000000001","amount":"{amount}",
                 "currency":"EUR","contra":"cash","balance":"{balance}",
                 "transaction_id":"00000000-0000-0000-0000-000000000002","description":"",
                 "occurred_at":"2026-07-01T12:00:00Z"}}"#
        )
    }

    #[test]
    fn a_balance_that_an_event_gets_wrong_is_named_with_its_place() {
        let mut trial = Trial::default();
        enter(&mut trial, 7, 1, ("MoneyDeposited", &deposited("10.00", "10.00")));
        enter(&mut trial, 8, 2, ("MoneyDeposited", &deposited("5.00", "5.00")));
        assert_eq!(trial.off(), None, "{trial:?}");
        assert_eq!(trial.to_json()["books"]["EUR"]["customers"], "15.00");
        enter(&mut trial, 9, 1, ("MoneyDeposited", &deposited("10.00", "21.00")));
        let off = trial.off().expect("10 and 10 is not 21");
        assert!(off.contains("position 9") && off.contains("20.00"), "{off}");
    }

    #[test]
    fn what_cannot_be_read_is_off_and_what_is_no_accounts_is_nothing() {
        let mut trial = Trial::default();
        assert!(trial.rows().is_empty());
        enter(&mut trial, 3, 1, ("MoneyDeposited", "nonsense"));
        assert!(trial.off().expect("unreadable").contains("position 3"));
    }
}
