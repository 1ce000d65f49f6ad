//! The books: what every event did to whom, summed up by currency and class of account.
//!
//! ```text
//!   deposit 10.00 USD          customers +10.00   cash     -10.00
//!   withdrawal, captured hold  customers -10.00   cash     +10.00
//!   fee                        customers  -1.00   fees      +1.00
//!   transfer, first half       customers  -5.00   clearing  +5.00
//!   transfer, second half      customers  +5.00   clearing  -5.00      clearing: on its way
//!   transfer USD to EUR        customers  -5.00 USD   fx_position +5.00 USD
//!                              customers  +4.61 EUR   fx_position -4.61 EUR
//! ```
//!
//! A customer's leg has the sign of what it does to the balance; the other leg has the opposite
//! one, so every event sums to zero in its currency, and so do all books, at every position. The
//! ledger's own accounts have no stream of their own that every event would have to pass through.
//!
//! INVARIANT: nothing is added that cannot be taken from an event; sums are checked.

use std::collections::BTreeMap;

use daybook_model::{Aggregate, EventView, Undecodable};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::account::{Account, AccountEvent};
use crate::currency::Currency;
use crate::money::major;

/// Whose money it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountClass {
    /// All accounts with a stream.
    Customers,
    /// What was paid in and out; below zero by what was paid in.
    Cash,
    /// On its way from one account to another.
    Clearing,
    /// Earned.
    Fees,
    /// Bought and sold for other currencies.
    FxPosition,
}

/// The other leg of an account's event: one of the ledger's own accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContraAccount {
    /// See [`AccountClass::Cash`].
    Cash,
    /// See [`AccountClass::Clearing`].
    Clearing,
    /// See [`AccountClass::Fees`].
    Fees,
    /// See [`AccountClass::FxPosition`].
    FxPosition,
}

impl ContraAccount {
    /// The class it belongs to.
    #[must_use]
    pub fn class(self) -> AccountClass {
        match self {
            ContraAccount::Cash => AccountClass::Cash,
            ContraAccount::Clearing => AccountClass::Clearing,
            ContraAccount::Fees => AccountClass::Fees,
            ContraAccount::FxPosition => AccountClass::FxPosition,
        }
    }

    /// Its name in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ContraAccount::Cash => "cash",
            ContraAccount::Clearing => "clearing",
            ContraAccount::Fees => "fees",
            ContraAccount::FxPosition => "fx_position",
        }
    }
}

/// One side of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Whose money it is.
    pub class: AccountClass,
    /// Of which currency.
    pub currency: Currency,
    /// What it gains; below zero, what it loses.
    pub amount: Decimal,
}

/// The sums of one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// See [`AccountClass::Customers`].
    pub customers: Decimal,
    /// See [`AccountClass::Cash`].
    pub cash: Decimal,
    /// See [`AccountClass::Clearing`].
    pub clearing: Decimal,
    /// See [`AccountClass::Fees`].
    pub fees: Decimal,
    /// See [`AccountClass::FxPosition`].
    pub fx_position: Decimal,
}

/// The sums of all legs so far, by currency. Serialises as an object with the currencies' codes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Books {
    currencies: BTreeMap<Currency, Sums>,
}

/// Why an event could not be entered into the books. They are as they were before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BooksError {
    /// It cannot be read.
    #[error(transparent)]
    Undecodable(#[from] Undecodable),
    /// A sum would have more digits than can be counted.
    #[error("the books of {currency} overflow: {sum} {amount:+} has more than 28 digits")]
    Overflow {
        /// The currency.
        currency: Currency,
        /// The sum before.
        sum: Decimal,
        /// What was to be added.
        amount: Decimal,
    },
}

impl Sums {
    fn zero(currency: Currency) -> Sums {
        let zero = major(0, currency);
        Sums { customers: zero, cash: zero, clearing: zero, fees: zero, fx_position: zero }
    }

    /// The sum of `class`.
    #[must_use]
    pub fn of(&self, class: AccountClass) -> Decimal {
        match class {
            AccountClass::Customers => self.customers,
            AccountClass::Cash => self.cash,
            AccountClass::Clearing => self.clearing,
            AccountClass::Fees => self.fees,
            AccountClass::FxPosition => self.fx_position,
        }
    }

    fn of_mut(&mut self, class: AccountClass) -> &mut Decimal {
        match class {
            AccountClass::Customers => &mut self.customers,
            AccountClass::Cash => &mut self.cash,
            AccountClass::Clearing => &mut self.clearing,
            AccountClass::Fees => &mut self.fees,
            AccountClass::FxPosition => &mut self.fx_position,
        }
    }

    /// All classes together: zero, or money was made or lost.
    #[must_use]
    pub fn total(&self) -> Decimal {
        self.customers + self.cash + self.clearing + self.fees + self.fx_position
    }
}

impl Books {
    /// Enters what an account's event did, as it is stored.
    ///
    /// # Errors
    /// [`BooksError`]; the books are as they were before.
    pub fn apply(&mut self, event: EventView<'_>) -> Result<(), BooksError> {
        self.apply_event(&Account::read(event)?)
    }

    /// Enters what an account's event did.
    ///
    /// # Errors
    /// [`BooksError::Overflow`]; the books are as they were before.
    pub fn apply_event(&mut self, event: &AccountEvent) -> Result<(), BooksError> {
        let Some(legs) = event.legs() else { return Ok(()) };
        self.post(legs)
    }

    /// Enters two legs of one currency, or none of them.
    fn post(&mut self, legs: [Leg; 2]) -> Result<(), BooksError> {
        let [first, second] = legs;
        let currency = first.currency;
        let sums = self.currencies.entry(currency).or_insert_with(|| Sums::zero(currency));
        let first_sum = added(sums.of(first.class), first)?;
        let second_sum = added(sums.of(second.class), second)?;
        *sums.of_mut(first.class) = first_sum;
        *sums.of_mut(second.class) = second_sum;
        Ok(())
    }

    /// The sums, in the order of the currencies' codes.
    pub fn currencies(&self) -> impl Iterator<Item = (Currency, &Sums)> {
        self.currencies.iter().map(|(currency, sums)| (*currency, sums))
    }

    /// The sums of `currency`, if anything was entered in it.
    #[must_use]
    pub fn sums(&self, currency: Currency) -> Option<&Sums> {
        self.currencies.get(&currency)
    }

    /// Whether every currency sums to zero.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.currencies.values().all(|sums| sums.total().is_zero())
    }
}

fn added(sum: Decimal, leg: Leg) -> Result<Decimal, BooksError> {
    let Leg { currency, amount, .. } = leg;
    // A sum with too many digits loses some after the point before it fails altogether.
    sum.checked_add(amount)
        .filter(|added| added.scale() == currency.minor_units())
        .ok_or(BooksError::Overflow { currency, sum, amount })
}
