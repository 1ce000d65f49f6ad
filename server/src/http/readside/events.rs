//! Events of one type in a period: answered from the store's index, which has them in order already.

use axum::response::Response;
use daybook_store::{Direction, IndexKey};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::answer::{AtLeast, Late};
use super::log::log_at;
use crate::http::ledger::request::time;
use crate::http::ledger::schema::Refusals;
use crate::http::page::{PageBuilder, limit};
use crate::http::problem::Problem;
use crate::http::query::{Params, parsed};
use crate::node::{Admitted, Context};
use crate::readside::postings::first_at;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new().routes(Right::Known, routes!(list))
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Their type, as PaymentCompleted.
    r#type: String,
    /// Committed at this time or later.
    from: Option<String>,
    /// Committed before this time.
    to: Option<String>,
    /// The `next` of the page before.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>)]
    cursor: Option<u64>,
    /// How many, up to 1000; 100 if nothing is said.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    limit: Option<u64>,
    /// What the answer must reflect at least: the Daybook-Position of a write's answer.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    min_position: Option<u64>,
}

/// Events of one type, in the order of the log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Events)]
pub struct EventsView {
    /// As `/v1/streams/{name}` has them.
    events: Vec<Value>,
    /// The type.
    r#type: String,
    /// Give it as `cursor` to go on; null at the end of the period.
    next: Option<String>,
    /// The last position of the log: this leaves out nothing up to there.
    as_of: u64,
}

/// The events of one type, in the order of the log, of all streams: get_events_by_type. As fresh as
/// the log, whatever its size: `/v1/index/type/{type}` reads the same index by number.
#[utoipa::path(
    get, path = "/v1/events", tag = "events",
    operation_id = "list_events_by_type",
    params(ListParams, ("Daybook-Min-Position" = Option<u64>, Header,
        description = "As min_position")),
    responses((status = 200, description = "A page", body = EventsView), Refusals, Late)
)]
async fn list(
    context: Admitted,
    at_least: AtLeast,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let limit = limit(params.limit)? as u64;
    let at = |field, text: Option<&str>| text.map(|text| time(field, text)).transpose();
    let (from, to) = (at("from", params.from.as_deref())?, at("to", params.to.as_deref())?);
    let store = context.door();
    let as_of =
        log_at(&context.own_door(), at_least.or(params.min_position)).await?.unwrap_or_default();
    let key = IndexKey::EventType(params.r#type.clone());
    let first = match (params.cursor, from) {
        (Some(cursor), _) => cursor,
        (None, Some(from)) => first_at(store, &key, from).await?,
        (None, None) => 0,
    };
    let end = match to {
        Some(to) => first_at(store, &key, to).await?,
        None => u64::MAX,
    };
    let count = limit.min(end.saturating_sub(first));
    let mut reader = store.read_index(&key, first, Direction::Forwards, count).await?;
    let mut page = PageBuilder::new(limit);
    let mut next = first;
    while !page.is_full()
        && let Some(events) = reader.next().await?
    {
        let taken = page.take(&events) as usize;
        for (number, _) in events.numbered().take(taken) {
            next = number + 1;
        }
    }
    let mut members = Map::new();
    members.insert("type".to_owned(), params.r#type.into());
    let next = (page.is_full() && next < end).then(|| next.to_string());
    members.insert("next".to_owned(), next.into());
    members.insert("as_of".to_owned(), as_of.into());
    Ok(page.finish(&members))
}
