//! Transfers from the table of all of them.

use daybook_projections::models::ReadModels;
use daybook_projections::query::{Comparison, Filter, Order};
use daybook_projections::views::transfers::{
    BY_RECEIVER, BY_SENDER, BY_STATE, BY_TIME, TRANSFERS, transfer,
};
use daybook_projections::{Index, Query, Row, Value};
use daybook_store::Direction;
use uuid::Uuid;

use super::{Asked, Found};
use crate::http::problem::Problem;
use crate::http::readside::answer::{as_of, next, page};
use crate::http::readside::cursor;

impl Asked {
    /// From the table of all transfers.
    pub(super) async fn in_table(&self, models: &ReadModels) -> Result<Found, Problem> {
        let Some(account) = self.account else {
            let (index, prefix) = match self.state {
                Some(state) => (&BY_STATE, vec![Value::from(state)]),
                None => (&BY_TIME, Vec::new()),
            };
            let query = self.query(index, prefix)?;
            let at = query.prefix.len();
            let page = self.ended(page(models, &query, self.at_least).await?, at);
            let (next, as_of) = (next(&self.order(index.name), &page), as_of(&page));
            return Ok(Found { rows: page.rows, next, as_of });
        };
        let backwards = self.direction == Direction::Backwards;
        // Two orders of one shape, merged: who pays, and who is paid.
        let mut pages = Vec::with_capacity(2);
        for index in [&BY_SENDER, &BY_RECEIVER] {
            let query = self.query(index, vec![account.into()])?;
            let page = page(models, &query, self.at_least).await?;
            pages.push(self.ended(page, query.prefix.len()));
        }
        let as_of = pages.iter().map(as_of).min().flatten();
        let place = |row: &Row| {
            vec![
                account.into(),
                row[transfer::INITIATED_AT].clone(),
                row[transfer::TRANSFER_ID].clone(),
            ]
        };
        // What lies beyond the end of either page is not known to be next.
        let ends = pages.iter().filter_map(|page| page.next.clone());
        let end = if backwards { ends.max() } else { ends.min() };
        let rows = pages.into_iter().flat_map(|page| page.rows);
        let mut rows: Vec<(Vec<Value>, Row)> = rows.map(|row| (place(&row), row)).collect();
        rows.sort();
        if backwards {
            rows.reverse();
        }
        rows.dedup_by(|a, b| a.0 == b.0);
        let known = |(place, _): &(Vec<Value>, Row)| match &end {
            None => true,
            Some(end) if backwards => place >= end,
            Some(end) => place <= end,
        };
        rows.retain(known);
        let cut = rows.len() > self.limit;
        rows.truncate(self.limit);
        let last = rows.last().map(|(place, _)| place.clone());
        let next = if cut { last } else { end };
        let next = next.map(|place| cursor::encode(&self.order("account"), &place));
        Ok(Found { rows: rows.into_iter().map(|(_, row)| row).collect(), next, as_of })
    }

    fn query(&self, index: &'static Index, prefix: Vec<Value>) -> Result<Query, Problem> {
        let by_account = self.account.is_some();
        let time_column = index.columns[prefix.len()];
        let compare = |column, is, value| Filter { column, is, value };
        let mut filters = Vec::new();
        if by_account && let Some(state) = self.state {
            filters.push(compare(transfer::STATE, Comparison::Equal, state.into()));
        }
        if let Some(to) = self.to {
            filters.push(compare(time_column, Comparison::Below, to.into()));
        }
        if let Some(from) = self.from.filter(|_| self.direction == Direction::Backwards) {
            filters.push(compare(time_column, Comparison::AtLeast, from.into()));
        }
        let order = self.order(if by_account { "account" } else { index.name });
        let after = self.cursor.as_deref();
        let after = after.map(|text| cursor::decode(text, &order, TRANSFERS, Some(index)));
        let after = match (after.transpose()?, self.from, self.direction) {
            (Some(place), ..) => Some(place),
            (None, None, _) | (None, _, Direction::Backwards) => None,
            (None, Some(from), Direction::Forwards) => {
                // Before all of that time: no transfer has this id.
                let mut place = prefix.clone();
                place.extend([from.into(), Uuid::nil().into()]);
                Some(place)
            }
        };
        Ok(Query {
            projection: "transfers",
            table: TRANSFERS,
            index: Some(index),
            prefix,
            filters,
            order: match self.direction {
                Direction::Forwards => Order::Ascending,
                Direction::Backwards => Order::Descending,
            },
            after,
            limit: self.limit,
        })
    }
}
