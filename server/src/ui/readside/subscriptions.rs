//! Groups of consumers: how far each is, who its consumers are, and what is parked.

use axum::extract::Path;
use axum::response::{Redirect, Response};
use daybook_model::{Act, StreamName};
use http::Method;
use maud::{Markup, html};
use serde_json::Value;

use super::lag;
use crate::http::problem::Problem;
use crate::persistent::key::{GroupKey, Source};
use crate::security::rights::Right;
use crate::ui::api::{Sent, Trouble, segment};
use crate::ui::form::Fields;
use crate::ui::lags::Behind;
use crate::ui::pieces::{
    action, card, count, empty, facts, seconds, state, stream, stream_path, table, text, time_of,
};
use crate::ui::streams::shown::{Events, Shown};
use crate::ui::visitor::Visit;

/// Groups on the page: a server has some dozens.
const GROUPS_MAX: usize = 200;
/// Parked messages on a group's page.
const PARKED_LEN: usize = 50;

/// `GET /ui/subscriptions`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(visit: Visit) -> Result<Response, Trouble> {
    let groups = visit.api().get("/subscriptions").await?;
    let groups = groups.as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<Markup> = groups.iter().take(GROUPS_MAX).map(row).collect();
    Ok(visit.page("Subscriptions").show(&html! {
        p.muted {
            "Groups of consumers, whose places the server keeps. Followers without a group keep \
             their own."
        }
        div #groups.stack data-refresh="3000" {
            @if rows.is_empty() {
                (empty("There is no group.", &html! {
                    "A client makes one with " code { "CreatePersistentSubscription" } "."
                }))
            } @else { (table("Groups", COLUMNS, &rows)) }
            @if groups.len() > GROUPS_MAX { p.muted { "These are the first " (GROUPS_MAX) "." } }
        }
    }))
}

const COLUMNS: &[&str] =
    &["Stream", "Group", "State", ">Consumers", ">Behind", "Oldest", ">In flight", ">Parked"];

fn names(group: &Value) -> (&str, &str) {
    let text = |name: &str| group[name].as_str().unwrap_or_default();
    (text("eventStreamId"), text("groupName"))
}

fn path(stream: &str, group: &str) -> String {
    format!("/ui/subscriptions/{}/{}", segment(stream), segment(group))
}

fn row(group: &Value) -> Markup {
    let (stream, name) = names(group);
    html! { tr {
        td.mono { (stream) }
        td { a href=(path(stream, name)) { (name) } }
        td { (state(group["status"].as_str().unwrap_or_default())) }
        td.right { (count(&group["connectionCount"])) }
        td.right { (count(&group["lagEvents"])) }
        td { (seconds(&group["oldestUnacknowledgedSeconds"])) }
        td.right { (count(&group["totalInFlightMessages"])) }
        td.right { (count(&group["parkedMessageCount"])) }
    } }
}

/// `GET /ui/subscriptions/{stream}/{group}`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn one(
    visit: Visit,
    Path((source, name)): Path<(String, String)>,
) -> Result<Response, Trouble> {
    let asked = format!("/subscriptions/{}/{}/info", segment(&source), segment(&name));
    let group = visit.api().get(&asked).await?;
    let parked = key(&source, &name)?.parked_stream();
    let messages = parked_messages(&visit, &parked).await?;
    let here = path(&source, &name);
    let has_parked = group["parkedMessageCount"].as_u64().unwrap_or(0) > 0;
    let page = visit.page(name.clone()).below("/ui/subscriptions", "Subscriptions");
    Ok(page.with(state(group["status"].as_str().unwrap_or_default())).show(&html! {
        div #now.stack data-refresh="3000" {
            @if let Some(trouble) = group["trouble"].as_str() { p.notice.bad { (trouble) } }
            div.cards { (how_far(&group)) (consumers(&group)) (settings(&group)) }
            (lag(&visit, Behind::Group, &[("stream", &source), ("group", &name)]))
        }
        h2 { "Parked messages" }
        p.muted {
            (count(&group["parkedMessageCount"])) " are parked: no consumer could deal with them. \
             They stand in " a.mono href=(stream_path(parked.as_str())) { (parked.as_str()) } "."
        }
        @if has_parked && visit.may(Right::Operate) {
            div.toolbar {
                (action(visit.visitor(), &format!("{here}/replay"), "Replay them", None))
                (action(visit.visitor(), &format!("{here}/discard"), "Discard them",
                    Some("Discard all parked messages of this group?")))
            }
        }
        @if has_parked && !messages.is_empty() {
            (table("Parked messages", PARKED_COLUMNS, &messages))
        }
    }))
}

const PARKED_COLUMNS: &[&str] = &["Event", "Why", "Parked"];

/// What is parked, newest first, if the visitor may read where it stands.
async fn parked_messages(visit: &Visit, parked: &StreamName) -> Result<Vec<Markup>, Trouble> {
    if !visit.node().door().may(Act::Read, parked).await.unwrap_or(false) {
        return Ok(Vec::new());
    }
    let path = format!("/v1/streams/{}", segment(parked.as_str()));
    let asked = format!("{path}?direction=backwards&limit={PARKED_LEN}");
    let bytes = match visit.api().bytes(&asked).await {
        Ok(bytes) => bytes,
        Err(trouble) if trouble.word == "stream-not-found" => return Ok(Vec::new()),
        Err(trouble) => return Err(trouble),
    };
    Ok(Events::read(&bytes)?.events.iter().map(parked_row).collect())
}

/// A parked message: a link to its event, and why.
fn parked_row(message: &Shown<'_>) -> Markup {
    let content = message.content();
    let link = String::from_utf8_lossy(content.bytes());
    let metadata = message.metadata.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let metadata = metadata.unwrap_or(Value::Null);
    html! { tr {
        td { @match link.split_once('@') {
            Some((revision, name)) => {
                a.mono href=(format!("{}/{}", stream_path(name), segment(revision))) {
                    (name) " · " (revision)
                }
            }
            None => { code { (link) } }
        } }
        td { (text(&metadata["reason"])) }
        td.when { (time_of(&metadata["added"])) }
    } }
}

fn how_far(group: &Value) -> Markup {
    card(
        "How far it is",
        &facts(&[
            ("Follows", stream(names(group).0)),
            ("Checkpoint", text(&group["lastCheckpointedEventPosition"])),
            ("Last known event", text(&group["lastKnownEventPosition"])),
            ("Behind", html! { (count(&group["lagEvents"])) " events" }),
            ("Oldest message", seconds(&group["oldestUnacknowledgedSeconds"])),
            ("In flight", count(&group["totalInFlightMessages"])),
            ("To be sent again", count(&group["retryBufferCount"])),
            ("Settled", count(&group["totalItemsProcessed"])),
        ]),
    )
}

fn consumers(group: &Value) -> Markup {
    let consumers = group["connections"].as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<Markup> = consumers
        .iter()
        .map(|consumer| {
            html! { tr {
                td { (text(&consumer["connectionName"])) }
                td { (text(&consumer["username"])) }
                td { (text(&consumer["from"])) }
                td.right { (count(&consumer["inFlightMessages"])) }
                td.right { (count(&consumer["totalItemsProcessed"])) }
            } }
        })
        .collect();
    card(
        "Consumers",
        &html! {
            @if rows.is_empty() { p.notice.warn { "No consumer is connected: messages wait." } }
            @else {
                (table("Consumers", &["Name", "User", "From", ">In flight", ">Settled"], &rows))
            }
        },
    )
}

fn settings(group: &Value) -> Markup {
    let config = &group["config"];
    card(
        "Settings",
        &facts(&[
            ("Strategy", text(&config["namedConsumerStrategy"])),
            ("Starts from", text(&config["startPosition"])),
            ("Time for a message", html! { (text(&config["messageTimeoutMilliseconds"])) " ms" }),
            ("Retries", text(&config["maxRetryCount"])),
            ("Follows links", text(&config["resolveLinktos"])),
        ]),
    )
}

fn key(source: &str, group: &str) -> Result<GroupKey, Trouble> {
    let source = Source::named(source)
        .ok_or_else(|| Trouble::not_found(&format!("'{source}' is not a stream's name")))?;
    Ok(GroupKey { source, group: group.to_owned() })
}

/// `POST /ui/subscriptions/{stream}/{group}/replay`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn replay(
    visit: Visit,
    Path((source, group)): Path<(String, String)>,
    _own: Fields,
) -> Result<Redirect, Trouble> {
    visit.node().is_about(&group);
    let asked = format!("/subscriptions/{}/{}/replayParked", segment(&source), segment(&group));
    visit.api().send(Method::POST, &asked, Sent::Nothing).await?;
    Ok(Redirect::to(&format!("{}?done=started", path(&source, &group))))
}

/// `POST /ui/subscriptions/{stream}/{group}/discard`: as gRPC's `TruncateParked` does.
///
/// # Errors
/// [`Trouble`] if there is no such group.
pub async fn discard(
    visit: Visit,
    Path((source, group)): Path<(String, String)>,
    _own: Fields,
) -> Result<Redirect, Trouble> {
    visit.node().is_about(&group);
    let truncated = visit.node().persistent().truncate(&key(&source, &group)?, None).await;
    truncated.map_err(Problem::from)?;
    Ok(Redirect::to(&format!("{}?done=done", path(&source, &group))))
}
