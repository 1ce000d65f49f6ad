//! Projections: the built-in views, and how far each is.

use axum::extract::Path;
use axum::response::{Redirect, Response};
use http::Method;
use maud::{Markup, html};
use serde_json::Value;

use super::{lag, programs};
use crate::security::rights::Right;
use crate::ui::api::{Sent, Trouble, segment};
use crate::ui::form::Fields;
use crate::ui::lags::Behind;
use crate::ui::pieces::{
    action, card, count, empty, facts, number, seconds, state, stream, table, text, time_of,
};
use crate::ui::visitor::Visit;

/// `GET /ui/projections`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(visit: Visit) -> Result<Response, Trouble> {
    let found = match visit.api().get("/v1/projections").await {
        Ok(found) => found,
        Err(trouble) if trouble.word == "read-models-off" => Value::Null,
        Err(trouble) => return Err(trouble),
    };
    let rows: Vec<Markup> =
        found["projections"].as_array().into_iter().flatten().map(|p| row(&visit, p)).collect();
    Ok(visit.page("Projections").show(&html! {
        div #projections.stack data-refresh="3000" {
            @if rows.is_empty() {
                (empty("This server keeps no read models.", &html! {
                    "Start it with " code { "--read-models sled" } " to have lists."
                }))
            } @else { (table("Built-in projections", COLUMNS, &rows)) }
        }
        h2 { "Written by users" }
        (programs::list(&visit))
    }))
}

const COLUMNS: &[&str] =
    &["Projection", "State", ">Position", ">Behind", "Behind for", ">Events/s", "Left", ""];

fn row(visit: &Visit, projection: &Value) -> Markup {
    let name = projection["name"].as_str().unwrap_or_default();
    let serving = &projection["serving"];
    html! { tr {
        td {
            @if visit.may(Right::Inspect) {
                a href=(format!("/ui/projections/{}", segment(name))) { (name) }
            }
            @else { (name) }
        }
        td {
            (state(serving["state"].as_str().unwrap_or("starting")))
            @if !projection["building"].is_null() { " " span.badge { "being rebuilt" } }
            @if let Some(reason) = serving["reason"].as_str() { div.muted { (reason) } }
        }
        td.right { (count(&serving["as_of"])) }
        td.right { (count(&serving["lag_events"])) }
        td { (seconds(&serving["lag_seconds"])) }
        td.right { (serving["rate"].as_f64().map_or("–".to_owned(), crate::ui::chart::short)) }
        td { (seconds(&serving["remaining_seconds"])) }
        td { (orders(visit, projection)) }
    } }
}

fn orders(visit: &Visit, projection: &Value) -> Markup {
    let name = projection["name"].as_str().unwrap_or_default();
    let path = |order: &str| format!("/ui/projections/{}/{order}", segment(name));
    let word = projection["serving"]["state"].as_str().unwrap_or_default();
    let rests = projection["paused"] == true || word == "stopped";
    let rebuild = format!("Build {name} again beside what serves?");
    html! {
        @if visit.may(Right::Operate) {
            div.actions {
                @if rests { (action(visit.visitor(), &path("resume"), "Resume", None)) }
                @else { (action(visit.visitor(), &path("pause"), "Pause", None)) }
                @if !projection["serving"]["poisoned"].is_null() {
                    @let sure = Some("Park the event it stopped at?");
                    (action(visit.visitor(), &path("skip"), "Skip the event", sure))
                }
                (action(visit.visitor(), &path("rebuild"), "Rebuild", Some(&rebuild)))
            }
        }
    }
}

/// `GET /ui/projections/{name}`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn one(visit: Visit, Path(name): Path<String>) -> Result<Response, Trouble> {
    let path = format!("/v1/projections/{}", segment(&name));
    let projection = visit.api().get(&path).await?;
    let parked = visit.api().get(&format!("{path}/parked?limit=50")).await?;
    let rows: Vec<Markup> = parked["parked"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|event| {
            html! { tr {
                td.right { (count(&event["position"])) }
                td { (stream(event["stream"].as_str().unwrap_or_default())) }
                td { (text(&event["type"])) }
                td { (text(&event["reason"])) }
                td.when { (time_of(&event["at"])) }
            } }
        })
        .collect();
    let page = visit.page(name.clone()).below("/ui/projections", "Projections");
    Ok(page.with(orders(&visit, &projection)).show(&html! {
        div #now.stack data-refresh="3000" {
            @if let Some(note) = projection["note"].as_str() { p.notice { (note) } }
            div.cards.two {
                (build("What serves", &projection["serving"]))
                @if !projection["building"].is_null() {
                    (build("Being built", &projection["building"]))
                }
                (lag(&visit, Behind::Projection, &[("projection", &name)]))
            }
        }
        h2 { "Parked events" }
        @if rows.is_empty() {
            (empty("No event is parked.", &html! { "What serves leaves nothing out." }))
        }
        @else { (table("Parked events", &[">Position", "Stream", "Type", "Why", "Parked"], &rows)) }
    }))
}

fn build(title: &str, build: &Value) -> Markup {
    let (done, all) = (build["as_of"].as_u64().unwrap_or(0), build["head"].as_u64().unwrap_or(0));
    card(
        title,
        &facts(&[
            ("State", state(build["state"].as_str().unwrap_or("starting"))),
            ("Why", text(&build["reason"])),
            (
                "Progress",
                html! {
                    progress max=(all.max(1)) value=(done) aria-label="Progress" {}
                    " " (number(done)) " of " (number(all))
                },
            ),
            (
                "Behind",
                html! {
                    (count(&build["lag_events"])) " events, " (seconds(&build["lag_seconds"]))
                },
            ),
            ("Left", seconds(&build["remaining_seconds"])),
            ("Generation", text(&build["generation"])),
            ("Version", text(&build["version"])),
            ("Events since the start", count(&build["events"])),
            ("Parked since the start", count(&build["parked"])),
        ]),
    )
}

/// `POST /ui/projections/{name}/{order}`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn order(
    visit: Visit,
    Path((name, order)): Path<(String, String)>,
    _own: Fields,
) -> Result<Redirect, Trouble> {
    visit.node().is_about(&name);
    let path = format!("/v1/projections/{}/{}", segment(&name), segment(&order));
    visit.api().send(Method::POST, &path, Sent::Nothing).await?;
    Ok(Redirect::to("/ui/projections?done=done"))
}
