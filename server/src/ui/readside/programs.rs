//! Projections that users wrote: how far each is, its program, and what it can be told.

use axum::extract::Path;
use axum::response::{Redirect, Response};
use maud::{Markup, html};

use super::lag;
use crate::http::problem::Problem;
use crate::scripted::figures::Figures;
use crate::scripted::host::Halt;
use crate::scripted::spec::Spec;
use crate::security::rights::Right;
use crate::ui::api::{Trouble, segment};
use crate::ui::form::Fields;
use crate::ui::lags::Behind;
use crate::ui::pieces::{action, card, empty, excerpt, facts, number, state, table};
use crate::ui::visitor::Visit;

/// Bytes of a program that a page shows: far more than anybody reads there, and a light page.
const QUERY_SHOWN_MAX: usize = 32 * 1024;

const COLUMNS: &[&str] = &["Name", "State", ">Position", ">Behind", ">Handled", ">Written", ""];

/// All of them, as a part of the page of projections.
pub fn list(visit: &Visit) -> Markup {
    let committed = visit.node().works().stats().committed;
    let all = visit.node().scripted().list();
    let rows: Vec<Markup> = all
        .iter()
        .map(|(spec, figures)| {
            html! { tr {
                td {
                    @if visit.may(Right::Inspect) { a href=(path(&spec.name)) { (spec.name) } }
                    @else { (spec.name) }
                }
                td {
                    (state(figures.status.as_str()))
                    @if !figures.reason.is_empty() { div.muted { (figures.reason) } }
                }
                td.right { (number(figures.place)) }
                td.right { (number(figures.lag(committed))) }
                td.right { (number(figures.handled)) }
                td.right { (number(figures.written)) }
                td { (orders(visit, &spec.name, figures)) }
            } }
        })
        .collect();
    html! {
        @if rows.is_empty() {
            (empty("Nobody has written one.", &html! {
                "An administrator makes them with a KurrentDB client, in JavaScript."
            }))
        } @else {
            div #programs.stack data-refresh="3000" {
                (table("Projections written by users", COLUMNS, &rows))
            }
        }
    }
}

fn path(name: &str) -> String {
    format!("/ui/programs/{}", segment(name))
}

fn orders(visit: &Visit, name: &str, figures: &Figures) -> Markup {
    let path = |order: &str| format!("{}/{order}", path(name));
    let reset = format!("Begin {name} again from the start of what it follows?");
    html! {
        @if visit.may(Right::Operate) {
            div.actions {
                @if figures.status.goes_on() {
                    (action(visit.visitor(), &path("disable"), "Pause", None))
                } @else { (action(visit.visitor(), &path("enable"), "Resume", None)) }
                (action(visit.visitor(), &path("reset"), "Reset", Some(&reset)))
            }
        }
    }
}

/// `GET /ui/programs/{name}`
///
/// # Errors
/// [`Trouble`] if there is no such projection.
pub async fn one(visit: Visit, Path(name): Path<String>) -> Result<Response, Trouble> {
    let (spec, figures) = visit.node().scripted().figures(&name).map_err(Problem::from)?;
    let shown = excerpt(&spec.query, QUERY_SHOWN_MAX);
    let page = visit.page(name.clone()).below("/ui/projections", "Projections");
    Ok(page.with(orders(&visit, &name, &figures)).show(&html! {
        div #now.stack data-refresh="3000" {
            @if !figures.reason.is_empty() { p.notice { (figures.reason) } }
            div.cards.two {
                (how_far(&visit, &spec, &figures))
                (lag(&visit, Behind::Program, &[("projection", &name)]))
            }
        }
        h2 { "Its program" }
        pre.body tabindex="0" role="region" aria-label="Its program" { (shown) }
        @if shown.len() < spec.query.len() {
            p.muted { "Its first " (number(shown.len() as u64)) " of "
                (number(spec.query.len() as u64)) " bytes." }
        }
    }))
}

fn how_far(visit: &Visit, spec: &Spec, figures: &Figures) -> Markup {
    let committed = visit.node().works().stats().committed;
    let said = |is_so: bool| html! { (if is_so { "yes" } else { "no" }) };
    card(
        "How far",
        &facts(&[
            ("State", state(figures.status.as_str())),
            ("Mode", html! { (spec.mode.as_str()) }),
            ("Position", html! { (number(figures.place)) " of " (number(committed)) }),
            ("Saved at", html! { (number(figures.saved)) }),
            ("Behind", html! { (number(figures.lag(committed))) " events" }),
            ("Handled since it began", html! { (number(figures.handled)) }),
            ("Written since it began", html! { (number(figures.written)) }),
            ("Partitions in memory", html! { (number(figures.partitions as u64)) }),
            ("May write", said(spec.emit_enabled)),
            ("Version", html! { (spec.version) }),
        ]),
    )
}

/// `POST /ui/programs/{name}/{order}`: as gRPC's `Projections` does.
///
/// # Errors
/// [`Trouble`] if there is no such projection, or it cannot do that now.
pub async fn order(
    visit: Visit,
    Path((name, order)): Path<(String, String)>,
    _own: Fields,
) -> Result<Redirect, Trouble> {
    visit.node().is_about(&name);
    let scripted = visit.node().scripted();
    let done = match order.as_str() {
        "enable" => scripted.enable(&name).await,
        "disable" => scripted.disable(&name, Halt::Save).await,
        "reset" => scripted.reset(&name).await,
        _ => {
            return Err(Trouble::not_found("a projection can be told to enable, disable or reset"));
        }
    };
    done.map_err(Problem::from)?;
    Ok(Redirect::to("/ui/projections?done=done"))
}
