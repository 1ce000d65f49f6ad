//! Statements: what moved an account's money in a period, with the balance before and after.
//!
//! A statement is written as it is read, a page of events at a time: neither a long period nor a
//! slow client holds more than that in memory.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use daybook_ledger::account::account_stream;
use daybook_ledger::currency::Currency;
use daybook_ledger::money::major;
use daybook_ledger::time::{Rfc3339, rfc3339};
use daybook_model::repository::LoadError;
use daybook_model::{Revision, Timestamp};
use futures_util::stream::try_unfold;
use http::{HeaderMap, header};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use super::history::TransactionView;
use super::request::InAccount;
use super::schema::{self, Refusals};
use crate::http::problem::Problem;
use crate::http::query::Params;
use crate::ledger::Ledger;
use crate::ledger::history::{Entry, Walk};
use crate::node::Context;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// Events of one piece of a statement: it is in memory until its reader has taken it, some 60 KiB.
const PIECE_LEN_MAX: usize = 200;

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new().routes(Right::ReadLedger, routes!(statement))
}

/// Which period, and how it is written.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StatementParams {
    /// Where it begins: a time, or a date for the beginning of that day in UTC; the account's
    /// opening if absent.
    from: Option<String>,
    /// Where it ends: a time that is not part of it, or a date for the end of that day in UTC; now
    /// if absent.
    to: Option<String>,
}

/// A statement; it is written as it is read. As CSV: a head, the opening balance, the entries, the
/// closing balance.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Statement)]
pub struct StatementView {
    account_id: Uuid,
    #[schema(value_type = schema::CurrencyCode)]
    currency: Currency,
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    from: Timestamp,
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    to: Timestamp,
    #[schema(value_type = schema::SignedAmount)]
    opening_balance: Decimal,
    /// What moved money.
    entries: Vec<TransactionView>,
    #[schema(value_type = schema::SignedAmount)]
    closing_balance: Decimal,
}

/// What moved an account's money in a period, with the balance before and after.
#[utoipa::path(
    get, path = "/v1/accounts/{account_id}/statement", tag = "accounts",
    operation_id = "get_statement",
    params(
        ("account_id" = Uuid, Path), StatementParams,
        ("Accept" = Option<String>, Header, description = "application/json or text/csv"),
    ),
    responses(
        (status = 200, description = "The statement", content(
            (StatementView = "application/json"), (String = "text/csv"),
        )),
        Refusals,
    )
)]
async fn statement(
    State(context): State<Context>,
    InAccount(id): InAccount,
    Params(params): Params<StatementParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let ledger = context.ledger().clone();
    let (account, last) = ledger.account(id).await?.ok_or_else(Problem::account_not_found)?;
    let state = account.state().ok_or_else(Problem::account_not_found)?;
    let from = params.from.map(|text| moment("from", &text, Bound::From)).transpose()?;
    let to = params.to.map(|text| moment("to", &text, Bound::To)).transpose()?;
    let (from, to) = (from.unwrap_or(state.opened_at), to.unwrap_or(Timestamp(i64::MAX)));
    // What happens from now on is not part of it.
    let to = to.min(ledger.now().max(Timestamp(state.updated_at.0.saturating_add(1))));
    if from > to {
        return Err(Problem::field("from", "is after the end of the period"));
    }
    let stream = account_stream(id);
    let before = |at: Timestamp| Timestamp(at.0.saturating_sub(1));
    let first = ledger.revision_at(&stream, before(from), last).await?;
    let first = first.map_or(Revision::FIRST, Revision::next);
    let end = ledger.revision_at(&stream, before(to), last).await?;
    let end = end.map_or(Revision::FIRST, Revision::next);
    let currency = state.currency;
    let opening = match first.0.checked_sub(1) {
        Some(last) => ledger.balance_at(&stream, Revision(last)).await?,
        None => major(0, currency),
    };
    let walk = Walk::new(stream, first, end);
    let head = Head { account_id: id, currency, from, to, opening };
    let (kind, form) = match wants_csv(&headers) {
        true => ("text/csv; charset=utf-8; header=present", Form::Csv),
        false => ("application/json", Form::Json),
    };
    let writing = Writing { ledger, walk, head, balance: opening, form, part: Part::Head };
    let body = Body::from_stream(try_unfold(writing, Writing::next));
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    From,
    To,
}

/// A time, or the beginning or end of a day.
fn moment(field: &str, text: &str, bound: Bound) -> Result<Timestamp, Problem> {
    let Ok(date) = text.parse::<jiff::civil::Date>() else {
        let time = daybook_ledger::time::parse(text);
        return time.map_err(|error| Problem::field(field, format!("{error}, or as 2026-01-31")));
    };
    // A text that is both has more than a date.
    if text.len() > "2026-01-31".len() {
        return super::request::time(field, text);
    }
    let date = if bound == Bound::To { date.tomorrow().ok() } else { Some(date) };
    let midnight = date.and_then(|date| date.to_zoned(jiff::tz::TimeZone::UTC).ok());
    let ns = midnight.and_then(|at| i64::try_from(at.timestamp().as_nanosecond()).ok());
    ns.map(Timestamp).ok_or_else(|| Problem::field(field, "is too far away"))
}

fn wants_csv(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let first = accept.split(',').map(|kind| kind.split(';').next().unwrap_or("").trim());
    first.into_iter().find(|kind| matches!(*kind, "text/csv" | "application/json"))
        == Some("text/csv")
}

/// What stands at the head of a statement.
struct Head {
    account_id: Uuid,
    currency: Currency,
    from: Timestamp,
    to: Timestamp,
    opening: Decimal,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Csv,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    First,
    More,
    End,
}

/// A statement being written.
struct Writing {
    ledger: Ledger,
    walk: Walk,
    head: Head,
    /// After what was written so far.
    balance: Decimal,
    form: Form,
    part: Part,
}

impl Writing {
    /// The next piece of it; none at the end.
    async fn next(mut self) -> Result<Option<(Bytes, Writing)>, LoadError> {
        let mut out = Vec::new();
        if self.part == Part::Head {
            self.part = Part::First;
            self.begin(&mut out);
            return Ok(Some((out.into(), self)));
        }
        if self.part == Part::End {
            return Ok(None);
        }
        // Pages without an entry are read over: an empty piece would end nothing.
        while out.is_empty() {
            let entries = self.walk.page(&self.ledger, PIECE_LEN_MAX).await?;
            if entries.is_empty() {
                self.part = Part::End;
                self.end(&mut out);
                break;
            }
            for entry in entries.iter().filter(|entry| entry.event.legs().is_some()) {
                self.entry(entry, &mut out);
            }
        }
        Ok(Some((out.into(), self)))
    }

    fn begin(&self, out: &mut Vec<u8>) {
        let Head { account_id, currency, from, to, opening } = &self.head;
        let (from, to) = (Rfc3339(*from), Rfc3339(*to));
        match self.form {
            Form::Json => {
                let head = format!(
                    "{{\"account_id\":\"{account_id}\",\"currency\":\"{currency}\",\
                     \"from\":\"{from}\",\"to\":\"{to}\",\"opening_balance\":\"{opening}\",\
                     \"entries\":["
                );
                out.extend_from_slice(head.as_bytes());
            }
            Form::Csv => {
                row(out, CSV_HEAD);
                let (from, opening) = (from.to_string(), opening.to_string());
                row(out, ["", &from, "OpeningBalance", "", "", &opening, currency.code(), "", ""]);
            }
        }
    }

    fn entry(&mut self, entry: &Entry, out: &mut Vec<u8>) {
        self.balance = entry.event.balance().unwrap_or(self.balance);
        let view = TransactionView::new(entry, self.head.currency);
        match self.form {
            Form::Json => {
                if self.part == Part::More {
                    out.push(b',');
                }
                serde_json::to_writer(out, &view).expect("texts and numbers, into memory");
            }
            Form::Csv => {
                let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
                row(
                    out,
                    [
                        &view.revision.to_string(),
                        &Rfc3339(view.occurred_at).to_string(),
                        &view.r#type,
                        &harmless(&view.description),
                        &view.amount.to_string(),
                        &self.balance.to_string(),
                        view.currency.code(),
                        &id(view.counterparty_id),
                        &id(view.transaction_id),
                    ],
                );
            }
        }
        self.part = Part::More;
    }

    fn end(&self, out: &mut Vec<u8>) {
        let closing = self.balance;
        match self.form {
            Form::Json => {
                let end = format!("],\"closing_balance\":\"{closing}\"}}");
                out.extend_from_slice(end.as_bytes());
            }
            Form::Csv => {
                let (to, closing) = (Rfc3339(self.head.to).to_string(), closing.to_string());
                let code = self.head.currency.code();
                row(out, ["", &to, "ClosingBalance", "", "", &closing, code, "", ""]);
            }
        }
    }
}

/// The columns of a statement as CSV.
const CSV_HEAD: [&str; 9] = [
    "revision",
    "occurred_at",
    "type",
    "description",
    "amount",
    "balance",
    "currency",
    "counterparty_id",
    "transaction_id",
];

fn row(out: &mut Vec<u8>, fields: [&str; 9]) {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(out);
    writer.write_record(fields).expect("texts, into memory");
    writer.flush().expect("into memory");
}

/// A text of someone else's, so that no spreadsheet takes it for a formula.
fn harmless(text: &str) -> String {
    match text.starts_with(['=', '+', '-', '@']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_bounded_by_times_or_by_whole_days() {
        let day = 24 * 3600 * 1_000_000_000;
        for (text, bound, expected) in [
            ("1970-01-02", Bound::From, Some(day)),
            ("1970-01-02", Bound::To, Some(2 * day)),
            ("1970-01-02T00:00:00Z", Bound::To, Some(day)),
            ("1970-01-02T01:00:00+01:00", Bound::From, Some(day)),
            ("1970-01-02T00:00:00", Bound::From, None),
            ("2026-02-30", Bound::From, None),
            ("9999-12-31", Bound::To, None),
            ("yesterday", Bound::From, None),
            ("", Bound::From, None),
        ] {
            let found = moment("from", text, bound).ok().map(|at| at.0);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn csv_is_for_those_who_ask_for_it() {
        for (accept, csv) in [
            ("text/csv", true),
            ("text/csv; q=0.9, application/json", true),
            ("application/json, text/csv", false),
            ("*/*", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().expect("a header"));
            assert_eq!(wants_csv(&headers), csv, "{accept}");
        }
    }

    #[test]
    fn a_description_is_no_formula_and_breaks_no_row() {
        let mut out = Vec::new();
        let text = harmless("=HYPERLINK(\"x\", 1)");
        row(&mut out, ["1", "", "", &text, "-5.00", "", "", "", ""]);
        let out = String::from_utf8(out).expect("text");
        assert_eq!(out, "1,,,\"'=HYPERLINK(\"\"x\"\", 1)\",-5.00,,,,\r\n");
    }
}
