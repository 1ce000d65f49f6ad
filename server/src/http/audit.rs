//! The audit log as a list: who did what, and what was denied to whom.
//!
//! ```text
//!   GET /admin/audit?who=&what=&outcome=&since=&until=&cursor=&limit=      newest first
//! ```
//!
//! Shown to whom the stream `$audit` may be read by; see [`crate::security::audit`] for what is in
//! it.

use axum::Json;
use daybook_model::stream::AUDIT_STREAM;
use daybook_model::{EventView, Revision, StreamName, Timestamp};
use daybook_store::{Direction, From, ReadError, ReadStream};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::event::rfc3339;
use super::ledger::request::time;
use super::ledger::schema::Time;
use super::page::limit;
use super::problem::Problem;
use super::query::{Params, parsed};
use super::shapes::NotRead;
use crate::node::{Admitted, Context};
use crate::security::gate::Described;
use crate::security::rights::Right;

/// Records that one request looks at. A filter that finds few of many ends a page early, and its
/// cursor goes on.
pub const LOOK_MAX: u64 = 20_000;

/// The routes of this file. Who may read the log, its list says: see `node::door`.
pub fn routes() -> Described<Context> {
    Described::new().routes(Right::ReadAudit, routes!(list))
}

/// Which records.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Of this login.
    who: Option<String>,
    /// With this in what was done, or in what it was about.
    what: Option<String>,
    /// Whose outcome begins so: `begun`, `denied`, `refused`, `2`, `grpc-status`.
    outcome: Option<String>,
    /// From this time on.
    #[param(value_type = Option<Time>)]
    since: Option<String>,
    /// Before this time.
    #[param(value_type = Option<Time>)]
    until: Option<String>,
    /// The `next` of the page before.
    #[serde(default, deserialize_with = "parsed")]
    cursor: Option<u64>,
    /// How many.
    #[serde(default, deserialize_with = "parsed")]
    limit: Option<u64>,
}

/// The same, understood.
struct Wanted {
    who: Option<String>,
    what: Option<String>,
    outcome: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// What the bytes of a wanted record have in them somewhere.
    has: Vec<String>,
}

impl Wanted {
    /// The same, with what to look for before a record is read.
    fn prepared(self) -> Wanted {
        let who = self.who.iter().map(|who| in_json(who));
        // A part of a text: without the quotes around it.
        let what = self.what.iter().map(|what| {
            let what = in_json(what);
            what[1..what.len() - 1].to_owned()
        });
        let has = who.chain(what).collect();
        Wanted { has, ..self }
    }

    /// Whether a record may be wanted: found out without reading it, as most of the log is not.
    fn may_want(&self, event: &EventView<'_>) -> bool {
        let outcome = self.outcome.as_deref().zip(outcome_of(event.event_type));
        if outcome.is_some_and(|(begins, outcome)| !outcome.starts_with(begins)) {
            return false;
        }
        std::str::from_utf8(event.data)
            .is_ok_and(|text| self.has.iter().all(|part| text.contains(part.as_str())))
    }
}

/// A text as the records have it.
fn in_json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The outcome of records of a kind, if it is the same for all.
fn outcome_of(event_type: &str) -> Option<&'static str> {
    match event_type {
        "$ActionBegun" => Some("begun"),
        "$Denied" => Some("denied"),
        "$LoginRefused" => Some("refused"),
        "$DenialsLeftOut" => Some("left out"),
        _ => None,
    }
}

/// One record. What its kind does not have is left out.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = AuditRecord)]
pub struct Record {
    /// Its number in the log.
    number: u64,
    #[schema(value_type = Time)]
    time: String,
    /// `begun`, `denied`, `refused` (a login), `left out`, or how an action came out: an HTTP status,
    /// `grpc-status N`, `done`.
    outcome: String,
    who: Option<String>,
    proof: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    peer: Option<String>,
    what: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// What the beginning and the end of an action have in common.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// How many denials or refused logins were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    /// Of how many callers of whom others are in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    callers: Option<u64>,
}

impl Record {
    /// What an event of the stream says. One that cannot be read is shown all the same.
    fn read(event: &EventView<'_>) -> Record {
        let read: Record = serde_json::from_slice(event.data).unwrap_or_default();
        let outcome = outcome_of(event.event_type).map_or(read.outcome, str::to_owned);
        Record { number: event.revision.0, time: rfc3339(event.time), outcome, ..read }
    }

    fn is_wanted(&self, wanted: &Wanted) -> bool {
        let Wanted { who, what, outcome, .. } = wanted;
        let has = |own: &Option<String>, part: &String| {
            own.as_ref().is_some_and(|own| own.contains(part.as_str()))
        };
        who.as_ref().is_none_or(|_| self.who == *who)
            && what.as_ref().is_none_or(|part| has(&self.what, part) || has(&self.about, part))
            && outcome.as_ref().is_none_or(|begins| self.outcome.starts_with(begins.as_str()))
    }
}

/// A part of the log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditRecords)]
pub struct Listed {
    records: Vec<Record>,
    /// Give it as `cursor` to go on; null at the end. A page may have fewer than were asked for
    /// though there are more.
    next: Option<String>,
}

/// The audit log, newest first.
#[utoipa::path(
    get, path = "/admin/audit", tag = "access", operation_id = "list_audit_log",
    params(ListParams),
    responses((status = 200, description = "A page", body = Listed), NotRead)
)]
async fn list(
    context: Admitted,
    Params(params): Params<ListParams>,
) -> Result<Json<Listed>, Problem> {
    let limit = limit(params.limit)?;
    let at = |field, text: Option<String>| text.map(|text| time(field, &text)).transpose();
    let wanted = Wanted {
        since: at("since", params.since)?,
        until: at("until", params.until)?,
        who: params.who,
        what: params.what,
        outcome: params.outcome,
        has: Vec::new(),
    }
    .prepared();
    let query = ReadStream {
        stream: StreamName::new(AUDIT_STREAM).expect("the name is valid"),
        from: params.cursor.map_or(From::End, |cursor| From::Revision(Revision(cursor))),
        direction: Direction::Backwards,
        count: LOOK_MAX,
    };
    let mut records = Vec::new();
    let mut reader = match context.door().read_stream(query).await {
        Ok(reader) => reader,
        Err(ReadError::StreamNotFound { .. }) => return Ok(Json(Listed { records, next: None })),
        Err(error) => return Err(error.into()),
    };
    let (mut last, mut looked) = (None, 0);
    while let Some(page) = reader.next().await? {
        for event in page.events() {
            if wanted.since.is_some_and(|since| event.time < since) {
                return Ok(Json(Listed { records, next: None }));
            }
            if records.len() == limit {
                let next = Some(event.revision.0.to_string());
                return Ok(Json(Listed { records, next }));
            }
            (last, looked) = (Some(event.revision), looked + 1);
            if wanted.until.is_some_and(|until| event.time >= until) {
                continue;
            }
            if wanted.may_want(&event) {
                records
                    .extend(Some(Record::read(&event)).filter(|record| record.is_wanted(&wanted)));
            }
        }
    }
    // It looked at as many as it may, and did not come to the first of all.
    let next = last.filter(|_| looked == LOOK_MAX).and_then(|last| last.0.checked_sub(1));
    Ok(Json(Listed { records, next: next.map(|number| number.to_string()) }))
}
