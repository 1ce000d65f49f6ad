//! Appends: to one stream, or atomically to several.

use axum::Json;
use daybook_model::{ExpectedRevision, NewEvent, StreamName};
use daybook_store::{Append, Appended, StreamCondition};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::body::{APPEND_BODY_SIZE_MAX, Held};
use super::event::{self, Proposed};
use super::problem::Problem;
use super::query::{Expected, Name, Params, parsed};
use super::shapes::{NotWritten, ProposedEventsShape, SeveralShape};
use crate::node::{Admitted, Context};
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The routes of this file. What may be done with a stream, its lists say: see `node::door`.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::Known, routes!(one_stream))
        .routes(Right::Known, routes!(many_streams))
}

/// The parameters of an append or deletion.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExpectedParams {
    /// The revision of the last event, or any, no_stream, stream_exists; any if absent.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>)]
    expected: Option<Expected>,
}

impl ExpectedParams {
    /// What is expected of the stream: nothing, unless the request says otherwise.
    #[must_use]
    pub fn expected(&self) -> ExpectedRevision {
        self.expected.map_or(ExpectedRevision::Any, |expected| expected.0)
    }
}

/// What was appended to one stream.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Appended)]
pub struct Done {
    stream: String,
    /// The revision of the stream's last event.
    revision: Option<u64>,
    /// The position of the append's last event.
    position: Option<u64>,
}

/// Appends one event or several to a stream: all or none, once for each event's id.
#[utoipa::path(
    post, path = "/v1/streams/{name}", tag = "streams",
    operation_id = "append",
    params(("name" = String, Path, description = "The stream"), ExpectedParams),
    request_body = ProposedEventsShape,
    responses((status = 200, description = "They are durable", body = Done), NotWritten)
)]
async fn one_stream(
    context: Admitted,
    Name(stream): Name,
    Params(params): Params<ExpectedParams>,
    body: Held<APPEND_BODY_SIZE_MAX>,
) -> Result<Json<Done>, Problem> {
    let events = event::read_one_or_many(&body.bytes, || context.new_id())?;
    // Its room is in use as long as the events are; the bytes themselves are not.
    drop(body.bytes);
    append_to(&context, stream, params.expected(), events).await.map(Json)
}

/// Appends `events` to one stream and says what was done.
///
/// # Errors
/// [`Problem`]: why the append was not done.
pub async fn append_to(
    context: &Admitted,
    stream: StreamName,
    expected: ExpectedRevision,
    events: Vec<NewEvent>,
) -> Result<Done, Problem> {
    let name = stream.as_str().to_owned();
    let appended = context.door().append(Append::to_stream(stream, expected, events)).await?;
    Ok(Done { stream: name, revision: revision(&appended, 0), position: position(&appended) })
}

fn revision(appended: &Appended, index: usize) -> Option<u64> {
    appended.revisions.get(index).copied().flatten().map(|revision| revision.0)
}

fn position(appended: &Appended) -> Option<u64> {
    appended.position.map(|position| position.0)
}

/// An append to several streams.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Several<'a> {
    #[serde(borrow)]
    streams: Vec<Part<'a>>,
}

/// What it does to one of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part<'a> {
    stream: String,
    /// A word or a number; see [`Expected`].
    #[serde(borrow)]
    expected: Option<&'a RawValue>,
    /// None only checks the stream.
    #[serde(borrow, default)]
    events: Vec<Proposed<'a>>,
}

/// What was appended to several streams.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AllAppended)]
pub struct AllDone {
    /// The position of the append's last event.
    position: Option<u64>,
    streams: Vec<Revised>,
}

/// What was appended to one of several streams.
#[derive(Debug, Serialize, ToSchema)]
pub struct Revised {
    stream: String,
    /// The revision of the stream's last event.
    revision: Option<u64>,
}

/// Appends to several streams, all or nothing, if all of them are as expected.
#[utoipa::path(
    post, path = "/v1/append", tag = "streams",
    operation_id = "append_to_several",
    request_body = SeveralShape,
    responses((status = 200, description = "They are durable", body = AllDone), NotWritten)
)]
async fn many_streams(
    context: Admitted,
    body: Held<APPEND_BODY_SIZE_MAX>,
) -> Result<Json<AllDone>, Problem> {
    let append = read_several(&body.bytes, || context.new_id())?;
    drop(body.bytes);
    let names: Vec<String> =
        append.streams.iter().map(|part| part.stream.as_str().to_owned()).collect();
    let appended = context.door().append(append).await?;
    let streams = names.into_iter().enumerate();
    let streams = streams
        .map(|(index, stream)| Revised { stream, revision: revision(&appended, index) })
        .collect();
    Ok(Json(AllDone { position: position(&appended), streams }))
}

fn read_several(body: &[u8], mut new_id: impl FnMut() -> uuid::Uuid) -> Result<Append, Problem> {
    let several: Several<'_> = event::parse(body)?;
    let mut append = Append { streams: Default::default(), events: Vec::new() };
    for (index, part) in several.streams.into_iter().enumerate() {
        let number = u32::try_from(index).map_err(|_| Problem::field("streams", "are too many"))?;
        let stream = StreamName::new(&part.stream)?;
        let expected = expected(part.expected)?;
        append.streams.push(StreamCondition { stream, expected });
        for event in part.events {
            append.events.push((number, event.into_event(&mut new_id)?));
        }
    }
    Ok(append)
}

fn expected(raw: Option<&RawValue>) -> Result<ExpectedRevision, Problem> {
    let Some(raw) = raw else { return Ok(ExpectedRevision::Any) };
    let text = raw.get().trim_matches('"');
    text.parse::<Expected>().map(|e| e.0).map_err(|e| Problem::field("expected", e))
}

#[cfg(test)]
mod tests {
    use daybook_model::Revision;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn several_streams_in_one_append() {
        let body = br#"{"streams":[
            {"stream":"a","expected":3,"events":[{"type":"A","data":1},{"type":"B","data":2}]},
            {"stream":"b","expected":"no_stream","events":[{"type":"C","data":3}]},
            {"stream":"c"}]}"#;
        let append = read_several(body, Uuid::nil).expect("valid");
        let expected: Vec<ExpectedRevision> = append.streams.iter().map(|s| s.expected).collect();
        assert_eq!(
            expected,
            [
                ExpectedRevision::Exact(Revision(3)),
                ExpectedRevision::NoStream,
                ExpectedRevision::Any
            ]
        );
        let streams: Vec<u32> = append.events.iter().map(|(stream, _)| *stream).collect();
        assert_eq!(streams, [0, 0, 1]);
    }

    #[test]
    fn mistakes_are_named() {
        for (body, word) in [
            (&br#"{"streams":[{"stream":""}]}"#[..], "stream"),
            (br#"{"streams":[{"stream":"a","expected":-1}]}"#, "expected"),
            (br#"{"streams":[{"stream":"a","expect":1}]}"#, "`expect`"),
            (br#"{}"#, "`streams`"),
        ] {
            let problem = read_several(body, Uuid::nil).expect_err("a mistake").to_json();
            assert!(problem.contains(word), "{problem}");
        }
    }
}
