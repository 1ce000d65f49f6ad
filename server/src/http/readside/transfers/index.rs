//! Transfers from the store's own index, without a table of them.

use daybook_ledger::transfer::{transfer_of_stream, transfer_stream};
use daybook_projections::models::ReadModels;
use daybook_projections::query::{Comparison, Filter, Order};
use daybook_projections::views::payments::{BY_STATE, SAGAS, saga};
use daybook_projections::views::read;
use daybook_projections::views::transfers::{take_in, transfer};
use daybook_projections::{Row, Value};
use daybook_store::{Direction, From, IndexKey, ReadStream};
use serde::Deserialize;
use uuid::Uuid;

use super::{Asked, Found};
use crate::http::problem::{Kind, Problem};
use crate::http::readside::answer::{as_of, bad_row, models_are_off, next, page};
use crate::http::readside::cursor;
use crate::http::readside::log::log_at;
use crate::http::readside::payments::open_sagas;
use crate::node::door::Door;
use crate::readside::postings::first_at;

/// Events of the index that are looked at for one page.
const EXAMINED_MAX: u64 = 2000;
/// What a cursor into the store's index calls its order.
const POSTINGS: &str = "postings";

/// The event that brings a transfer to a state for good, or to its beginning; none of a state that
/// it leaves again.
fn event_of(state: Option<&str>) -> Option<&'static str> {
    match state {
        None => Some("PaymentInitiated"),
        Some("completed") => Some("PaymentCompleted"),
        Some("compensated") => Some("PaymentRejected"),
        Some("abandoned") => Some("PaymentAbandoned"),
        Some(_) => None,
    }
}

impl Asked {
    /// From the store's index, or, those that are not over, from the table of sagas.
    pub(super) async fn in_store(
        &self,
        store: &Door,
        models: Option<&ReadModels>,
    ) -> Result<Found, Problem> {
        match event_of(self.state) {
            Some(event_type) => self.in_postings(store, event_type).await,
            None => self.in_sagas(store, models.ok_or_else(models_are_off)?).await,
        }
    }

    async fn in_postings(&self, store: &Door, event_type: &str) -> Result<Found, Problem> {
        let as_of = log_at(store, self.at_least).await?;
        let key = IndexKey::EventType(event_type.to_owned());
        let order = self.order(POSTINGS);
        let cursor = self.cursor.as_deref().map(|text| cursor::decode_number(text, &order));
        let low = match self.from {
            Some(from) => first_at(store, &key, from).await?,
            None => 0,
        };
        let end = match self.to {
            Some(to) => first_at(store, &key, to).await?,
            None => u64::MAX,
        };
        let first = match (cursor.transpose()?, self.direction) {
            (Some(number), _) => number,
            (None, Direction::Forwards) => low,
            (None, Direction::Backwards) => end.saturating_sub(1),
        };
        let period = low..end;
        if !period.contains(&first) {
            return Ok(Found { rows: Vec::new(), next: None, as_of });
        }
        let count = match self.direction {
            Direction::Forwards => EXAMINED_MAX.min(end - first),
            Direction::Backwards => EXAMINED_MAX.min((first - low).saturating_add(1)),
        };
        let mut reader = store.read_index(&key, first, self.direction, count).await?;
        let (mut rows, mut examined, mut next) = (Vec::new(), 0, None);
        while rows.len() < self.limit
            && let Some(events) = reader.next().await?
        {
            for (number, event) in events.numbered().filter(|(n, _)| period.contains(n)) {
                if rows.len() == self.limit {
                    break;
                }
                examined += 1;
                next = match self.direction {
                    Direction::Forwards => Some(number + 1),
                    Direction::Backwards => number.checked_sub(1),
                };
                let id = transfer_of_stream(event.stream);
                if let Some(id) = id.filter(|_| self.may_want(event.data))
                    && let Some(row) = row_of(store, id).await?
                    && self.wants(&row)
                {
                    rows.push(row);
                }
            }
        }
        // Short of both limits, the reader came to the end of what there is.
        let more = rows.len() == self.limit || examined == EXAMINED_MAX;
        let next = next
            .filter(|next| more && period.contains(next))
            .map(|next| cursor::encode(&order, &[Value::Integer(next.cast_signed())]));
        Ok(Found { rows, next, as_of })
    }

    async fn in_sagas(&self, store: &Door, models: &ReadModels) -> Result<Found, Problem> {
        let limit = Some(self.limit as u64);
        let mut query = open_sagas(self.state, None, limit)?;
        let order = self.order(BY_STATE.name);
        let after = self.cursor.as_deref();
        let after = after.map(|text| cursor::decode(text, &order, SAGAS, Some(&BY_STATE)));
        query.after = after.transpose()?;
        if self.direction == Direction::Backwards {
            query.order = Order::Descending;
        }
        if let Some(from) = self.from {
            let (column, is) = (saga::SINCE, Comparison::AtLeast);
            query.filters.push(Filter { column, is, value: from.into() });
        }
        if let Some(to) = self.to {
            let (column, is) = (saga::SINCE, Comparison::Below);
            query.filters.push(Filter { column, is, value: to.into() });
        }
        let at = query.prefix.len();
        let page = self.ended(page(models, &query, self.at_least).await?, at);
        let mut rows = Vec::with_capacity(page.rows.len());
        for open in &page.rows {
            let id = read::uuid(open, saga::TRANSFER_ID).ok_or_else(bad_row)?;
            // It may have come further since: then it is not in this state any more.
            if let Some(row) = row_of(store, id).await?
                && self.wants(&row)
            {
                rows.push(row);
            }
        }
        Ok(Found { rows, next: next(&order, &page), as_of: as_of(&page) })
    }

    /// Whether an event that brought a transfer to its state may be of one that is wanted: some say
    /// whose transfer it is.
    fn may_want(&self, data: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Ends {
            sender_account_id: Option<Uuid>,
            receiver_account_id: Option<Uuid>,
        }
        let Some(account) = self.account else { return true };
        match serde_json::from_slice(data) {
            Ok(Ends { sender_account_id: None, receiver_account_id: None }) | Err(_) => true,
            Ok(Ends { sender_account_id, receiver_account_id }) => {
                [sender_account_id, receiver_account_id].contains(&Some(account))
            }
        }
    }

    fn wants(&self, row: &Row) -> bool {
        let is_in = |state| read::text(row, transfer::STATE) == Some(state);
        let is_of = |account| {
            let ends = [transfer::SENDER, transfer::RECEIVER];
            ends.iter().any(|end| read::uuid(row, *end) == Some(account))
        };
        self.state.is_none_or(is_in) && self.account.is_none_or(is_of)
    }
}

/// The row of a transfer, folded from its stream.
async fn row_of(store: &Door, id: Uuid) -> Result<Option<Row>, Problem> {
    let (from, direction) = (From::Start, Direction::Forwards);
    let query = ReadStream { stream: transfer_stream(id), from, direction, count: u64::MAX };
    let mut reader = store.read_stream(query).await?;
    let mut row = None;
    while let Some(page) = reader.next().await? {
        for event in page.events() {
            row = take_in(row, event)
                .map_err(|error| Problem::new(Kind::Damaged, format!("transfer {id}: {error}")))?;
        }
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_found_by_the_event_that_ends_in_it_or_among_the_open_ones() {
        for (text, event) in [
            ("completed", Some("PaymentCompleted")),
            ("compensated", Some("PaymentRejected")),
            ("abandoned", Some("PaymentAbandoned")),
            ("running", None),
            ("compensating", None),
            ("failed", None),
        ] {
            let state = super::super::state(text).expect("a state");
            assert_eq!(event_of(Some(state)), event, "{text}");
            assert_eq!(event.is_none(), open_sagas(Some(state), None, None).is_ok(), "{text}");
        }
        assert_eq!(event_of(None), Some("PaymentInitiated"));
        assert!(super::super::state("done").is_err());
    }
}
