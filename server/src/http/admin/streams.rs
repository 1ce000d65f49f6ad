//! `/admin/streams`: streams by the beginning of their names, with how far each is.
//!
//! INVARIANT: names are read through the caller's door. An operator has no right in streams of its
//! own: it sees those here that it may list elsewhere.

use axum::Json;
use daybook_model::StreamName;
use daybook_projections::Value;
use daybook_store::{ReadError, StreamInfo, StreamState};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::http::page::limit;
use crate::http::problem::Problem;
use crate::http::query::{Params, parsed};
use crate::http::readside::cursor;
use crate::http::shapes::NotRead;
use crate::node::{Admitted, Context};
use crate::security::gate::Described;
use crate::security::rights::Right;

/// What its cursors are good for.
const ORDER: &str = "streams";

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new().routes(Right::Inspect, routes!(list))
}

/// Which streams.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// What their names begin with.
    #[serde(default)]
    prefix: String,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// How many, up to 1000; 100 if nothing is said.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    limit: Option<u64>,
}

/// A stream, and how far it is. Of one that the caller may list and not read there is the name.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StreamEntry)]
pub struct Entry {
    name: String,
    /// live, softDeleted, tombstoned, or missing if it has metadata and no events.
    state: Option<&'static str>,
    /// The first revision that can be read, as its settings have it.
    first: Option<u64>,
    /// The revision of its last event; null if it never had one.
    head: Option<u64>,
    /// How many events that is, at most: a scavenge may have left fewer.
    events: Option<u64>,
    /// Whether settings were ever written for it; null if it is deleted for ever.
    has_metadata: Option<bool>,
}

/// Some streams, in ascending order of their names.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamEntries)]
pub struct Entries {
    streams: Vec<Entry>,
    /// Give it as `cursor` to go on; null at the end.
    next: Option<String>,
}

impl Entry {
    fn new(name: String, info: Option<&StreamInfo>) -> Entry {
        let live = info.filter(|info| info.state == StreamState::Live);
        let count =
            |info: &StreamInfo| info.head.map(|head| (head.0 + 1).saturating_sub(info.first.0));
        Entry {
            name,
            state: info.map(|info| word(info.state)),
            first: live.map(|info| info.first.0),
            head: info.and_then(|info| info.head).map(|head| head.0),
            events: info.map(|info| live.and(count(info)).unwrap_or(0)),
            has_metadata: info
                .filter(|info| info.state != StreamState::Tombstoned)
                .map(|info| info.has_metadata),
        }
    }
}

fn word(state: StreamState) -> &'static str {
    match state {
        StreamState::Missing => "missing",
        StreamState::Live => "live",
        StreamState::SoftDeleted => "softDeleted",
        StreamState::Tombstoned => "tombstoned",
    }
}

/// Streams whose names begin with a text, with how far each is.
#[utoipa::path(
    get, path = "/admin/streams", tag = "admin",
    operation_id = "list_stream_entries", params(ListParams),
    responses((status = 200, description = "A page", body = Entries), NotRead)
)]
async fn list(
    context: Admitted,
    Params(params): Params<ListParams>,
) -> Result<Json<Entries>, Problem> {
    let rows = limit(params.limit)?;
    let after = params.cursor.map(|cursor| cursor::decode_text(&cursor, ORDER)).transpose()?;
    let names = context.door().streams(&params.prefix, after.as_deref(), rows).await?;
    let last = names.last().filter(|_| names.len() == rows);
    let next = last.map(|name| cursor::encode(ORDER, &[Value::from(name.as_str())]));
    let mut streams = Vec::with_capacity(names.len());
    for name in names {
        let info = match StreamName::new(&name) {
            Ok(stream) => match context.door().stream_info(&stream).await {
                Ok(info) => Some(info),
                Err(ReadError::Denied(_)) => None,
                Err(error) => return Err(error.into()),
            },
            // Of an older version, perhaps, that took other names.
            Err(_) => None,
        };
        streams.push(Entry::new(name, info.as_ref()));
    }
    Ok(Json(Entries { streams, next }))
}
