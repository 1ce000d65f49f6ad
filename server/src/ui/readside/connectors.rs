//! Connectors: what is relayed to elsewhere, and what elsewhere would not take.

use axum::extract::{Path, Query};
use axum::response::{Redirect, Response};
use http::Method;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use super::lag;
use crate::security::rights::Right;
use crate::ui::api::{Sent, Trouble, segment};
use crate::ui::form::Fields;
use crate::ui::lags::Behind;
use crate::ui::layout::token;
use crate::ui::pieces::{
    action, card, count, empty, facts, seconds, state, stream, table, text, time_of,
};
use crate::ui::visitor::Visit;

/// Parked messages on a page.
const PARKED_LEN: usize = 50;

/// `GET /ui/connectors`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(visit: Visit) -> Result<Response, Trouble> {
    let found = visit.api().get("/v1/connectors").await?;
    let rows: Vec<Markup> =
        found["connectors"].as_array().into_iter().flatten().map(|c| row(&visit, c)).collect();
    Ok(visit.page("Connectors").show(&html! {
        div #connectors.stack data-refresh="3000" {
            @if rows.is_empty() {
                (empty("No connector runs here.", &html! {
                    "Name some in a file and start the server with " code { "--connectors" } "."
                }))
            } @else { (table("Connectors", COLUMNS, &rows)) }
        }
    }))
}

const COLUMNS: &[&str] = &[
    "Connector",
    "Kind",
    "State",
    "Breaker",
    ">Behind",
    "Behind for",
    ">Delivered",
    ">Parked",
    "",
];

fn row(visit: &Visit, connector: &Value) -> Markup {
    let name = connector["name"].as_str().unwrap_or_default();
    html! { tr {
        td {
            @if visit.may(Right::Inspect) {
                a href=(format!("/ui/connectors/{}", segment(name))) { (name) }
            }
            @else { (name) }
        }
        td { (text(&connector["kind"])) }
        td { (state(connector["state"].as_str().unwrap_or_default()))
            @if let Some(reason) = connector["reason"].as_str() { div.muted { (reason) } } }
        td { @if let Some(breaker) = connector["breaker"].as_str() { (state(breaker)) } }
        td.right { (count(&connector["lag_events"])) }
        td { (seconds(&connector["lag_seconds"])) }
        td.right { (count(&connector["delivered"])) }
        td.right { (count(&connector["parked"])) }
        td { (orders(visit, connector)) }
    } }
}

fn orders(visit: &Visit, connector: &Value) -> Markup {
    let name = connector["name"].as_str().unwrap_or_default();
    let path = |order: &str| format!("/ui/connectors/{}/{order}", segment(name));
    let rests = matches!(connector["state"].as_str(), Some("paused" | "stopped"));
    html! {
        @if visit.may(Right::Operate) {
            div.actions {
                @if rests { (action(visit.visitor(), &path("resume"), "Resume", None)) }
                @else { (action(visit.visitor(), &path("pause"), "Pause", None)) }
            }
        }
    }
}

/// Which parked messages.
#[derive(Debug, Default, Deserialize)]
pub struct Which {
    cursor: Option<String>,
}

/// `GET /ui/connectors/{name}`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn one(
    visit: Visit,
    Path(name): Path<String>,
    Query(which): Query<Which>,
) -> Result<Response, Trouble> {
    let path = format!("/v1/connectors/{}", segment(&name));
    let connector = visit.api().get(&path).await?;
    let cursor = which.cursor.as_deref().map(|cursor| format!("&cursor={}", segment(cursor)));
    let asked = format!("{path}/parked?limit={PARKED_LEN}{}", cursor.unwrap_or_default());
    let parked = visit.api().get(&asked).await?;
    let here = format!("/ui/connectors/{}", segment(&name));
    let rows: Vec<Markup> = parked["parked"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|message| parked_row(&visit, &here, message))
        .collect();
    let page = visit.page(name.clone()).below("/ui/connectors", "Connectors");
    Ok(page.with(orders(&visit, &connector)).show(&html! {
        div #now.stack data-refresh="3000" {
            div.cards.two { (card("How far it is", &facts(&[
                ("State", state(connector["state"].as_str().unwrap_or_default())),
                ("Why", text(&connector["reason"])),
                ("Kind", text(&connector["kind"])),
                ("Position", count(&connector["position"])),
                ("Behind", html! {
                    (count(&connector["lag_events"])) " events, "
                    (seconds(&connector["lag_seconds"]))
                }),
                ("Delivered since the start", count(&connector["delivered"])),
                ("Sent again since the start", count(&connector["retries"])),
                ("Last error", text(&connector["last_error"])),
            ])))
            (lag(&visit, Behind::Connector, &[("connector", &name)])) }
        }
        h2 { "Parked messages" }
        @if rows.is_empty() {
            (empty("No message is parked.", &html! { "The receiver took all of them." }))
        }
        @else {
            @if visit.may(Right::Operate) {
                div.toolbar {
                    (action(visit.visitor(), &format!("{here}/parked/retry"), "Retry all", None))
                }
            }
            (table("Parked messages", PARKED_COLUMNS, &rows))
        }
        nav.pager { @if let Some(next) = parked["next"].as_str() {
            a href=(format!("{here}?cursor={}", segment(next))) rel="next" { "Next »" }
        } }
    }))
}

const PARKED_COLUMNS: &[&str] = &[">Position", "Stream", "Type", "Why", ">Attempts", "Parked", ""];

fn parked_row(visit: &Visit, here: &str, message: &Value) -> Markup {
    let position = message["position"].as_u64().unwrap_or_default();
    let path = |verb: &str| format!("{here}/parked/{position}/{verb}");
    html! { tr {
        td.right { (count(&message["position"])) }
        td { (stream(message["stream"].as_str().unwrap_or_default())) }
        td { (text(&message["type"])) }
        td { (text(&message["error"])) }
        td.right { (count(&message["attempts"])) }
        td.when { (time_of(&message["at"])) }
        td { @if visit.may(Right::Operate) {
            div.actions {
                (action(visit.visitor(), &path("retry"), "Retry", None))
                form.inline method="post" action=(path("discard"))
                    data-confirm="Discard this message?" {
                    (token(visit.visitor()))
                    input name="reason" required placeholder="why" aria-label="Why it is discarded"
                        size="12";
                    " " button.danger type="submit" { "Discard" }
                }
            }
        } }
    } }
}

/// `POST /ui/connectors/{name}/{order}`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn order(
    visit: Visit,
    Path((name, order)): Path<(String, String)>,
    _own: Fields,
) -> Result<Redirect, Trouble> {
    let path = format!("/v1/connectors/{}/{}", segment(&name), segment(&order));
    tell(&visit, &name, &path, Sent::Nothing).await
}

/// `POST /ui/connectors/{name}/parked/retry`
///
/// # Errors
/// As [`order`].
pub async fn retry_all(
    visit: Visit,
    Path(name): Path<String>,
    _own: Fields,
) -> Result<Redirect, Trouble> {
    let path = format!("/v1/connectors/{}/parked/retry", segment(&name));
    tell(&visit, &name, &path, Sent::Nothing).await
}

/// `POST /ui/connectors/{name}/parked/{position}/retry`
///
/// # Errors
/// As [`order`].
pub async fn retry(
    visit: Visit,
    Path((name, position)): Path<(String, u64)>,
    _own: Fields,
) -> Result<Redirect, Trouble> {
    let path = format!("/v1/connectors/{}/parked/{position}/retry", segment(&name));
    tell(&visit, &name, &path, Sent::Nothing).await
}

/// `POST /ui/connectors/{name}/parked/{position}/discard`
///
/// # Errors
/// As [`order`].
pub async fn discard(
    visit: Visit,
    Path((name, position)): Path<(String, u64)>,
    fields: Fields,
) -> Result<Redirect, Trouble> {
    let path = format!("/v1/connectors/{}/parked/{position}/discard", segment(&name));
    let body = json!({ "reason": fields.needed("reason")? });
    tell(&visit, &name, &path, Sent::Json(body.to_string())).await
}

async fn tell(visit: &Visit, name: &str, path: &str, sent: Sent) -> Result<Redirect, Trouble> {
    visit.node().is_about(name);
    visit.api().send(Method::POST, path, sent).await?;
    Ok(Redirect::to(&format!("/ui/connectors/{}?done=done", segment(name))))
}
