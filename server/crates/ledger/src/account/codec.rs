//! Events of accounts as JSON, and back. The layout is in `docs/ledger-events.md`.
//!
//! INVARIANT: what was written once is read for ever. Fields that a newer version added are
//! ignored; an amount that this crate could not have written is refused, not repaired.

use bytes::Bytes;
use daybook_model::Undecodable;
use rust_decimal::Decimal;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::AccountEvent;
use super::event::each;
use crate::books::Leg;
use crate::currency::Currency;
use crate::money::is_exact;

/// Bytes of most events; longer texts make the buffer grow.
const EVENT_SIZE_USUAL: usize = 512;

/// An event's type and data.
pub(super) fn encode(event: &AccountEvent) -> (&'static str, Bytes) {
    (event.event_type(), each!(event, inner => to_json(inner)))
}

/// A value as JSON, written into one buffer.
pub(crate) fn to_json(value: &impl Serialize) -> Bytes {
    let mut json = Vec::with_capacity(EVENT_SIZE_USUAL);
    serde_json::to_writer(&mut json, value).expect("structs of texts and numbers, into memory");
    Bytes::from(json)
}

/// An event from how it is stored.
pub(super) fn decode(event_type: &str, data: &[u8]) -> Result<AccountEvent, Undecodable> {
    let undecodable = |reason: String| Undecodable { event_type: event_type.to_owned(), reason };
    let event = parse(event_type, data).map_err(undecodable)?;
    if let Some((amount, currency)) = amounts(&event).find(|(a, c)| !is_exact(*a, *c)) {
        return Err(undecodable(format!("'{amount}' is not an amount as {currency} has them")));
    }
    let balance = event.balance().zip(event.legs());
    if let Some((balance, [Leg { currency, .. }, _])) = balance
        && balance.scale() != currency.minor_units()
    {
        return Err(undecodable(format!("'{balance}' is not a balance as {currency} has them")));
    }
    Ok(event)
}

fn parse(event_type: &str, data: &[u8]) -> Result<AccountEvent, String> {
    Ok(match event_type {
        "AccountOpened" => AccountEvent::AccountOpened(json(data)?),
        "MoneyDeposited" => AccountEvent::MoneyDeposited(json(data)?),
        "MoneyWithdrawn" => AccountEvent::MoneyWithdrawn(json(data)?),
        "FeeCharged" => AccountEvent::FeeCharged(json(data)?),
        "TransferDebited" => AccountEvent::TransferDebited(json(data)?),
        "TransferCredited" => AccountEvent::TransferCredited(json(data)?),
        "TransferRefunded" => AccountEvent::TransferRefunded(json(data)?),
        "HoldPlaced" => AccountEvent::HoldPlaced(json(data)?),
        "HoldCaptured" => AccountEvent::HoldCaptured(json(data)?),
        "HoldReleased" => AccountEvent::HoldReleased(json(data)?),
        "HoldExpired" => AccountEvent::HoldExpired(json(data)?),
        "AccountFrozen" => AccountEvent::AccountFrozen(json(data)?),
        "AccountUnfrozen" => AccountEvent::AccountUnfrozen(json(data)?),
        "AccountClosed" => AccountEvent::AccountClosed(json(data)?),
        "LimitsChanged" => AccountEvent::LimitsChanged(json(data)?),
        "AccountFlagged" => AccountEvent::AccountFlagged(json(data)?),
        "AccountUnflagged" => AccountEvent::AccountUnflagged(json(data)?),
        _ => return Err("it is no event of an account".to_owned()),
    })
}

fn json<T: DeserializeOwned>(data: &[u8]) -> Result<T, String> {
    serde_json::from_slice(data).map_err(|e| e.to_string())
}

/// Every amount an event has.
fn amounts(event: &AccountEvent) -> impl Iterator<Item = (Decimal, Currency)> {
    let (currency, amounts) = match event {
        AccountEvent::AccountOpened(e) => (
            Some(e.currency),
            [Some(e.initial_balance), Some(e.overdraft_limit), Some(e.daily_withdrawal_limit)],
        ),
        AccountEvent::MoneyDeposited(e)
        | AccountEvent::MoneyWithdrawn(e)
        | AccountEvent::FeeCharged(e) => (Some(e.currency), [Some(e.amount), None, None]),
        AccountEvent::TransferDebited(e) | AccountEvent::TransferCredited(e) => {
            (Some(e.currency), [Some(e.amount), None, None])
        }
        AccountEvent::TransferRefunded(e) => (Some(e.currency), [Some(e.amount), None, None]),
        AccountEvent::HoldPlaced(e) => (Some(e.currency), [Some(e.amount), None, None]),
        AccountEvent::HoldCaptured(e) => {
            (Some(e.currency), [Some(e.amount), Some(e.remaining), None])
        }
        AccountEvent::HoldReleased(e) => (Some(e.currency), [Some(e.amount), None, None]),
        AccountEvent::HoldExpired(e) => (Some(e.currency), [Some(e.amount), None, None]),
        AccountEvent::LimitsChanged(e) => {
            (Some(e.currency), [Some(e.overdraft_limit), Some(e.daily_withdrawal_limit), None])
        }
        AccountEvent::AccountFrozen(_)
        | AccountEvent::AccountUnfrozen(_)
        | AccountEvent::AccountClosed(_)
        | AccountEvent::AccountFlagged(_)
        | AccountEvent::AccountUnflagged(_) => (None, [None, None, None]),
    };
    amounts.into_iter().flatten().zip(currency.into_iter().cycle())
}
