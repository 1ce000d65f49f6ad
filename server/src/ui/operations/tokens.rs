//! API tokens: by which machines call as a user. Listed, issued, revoked, by the API's own routes.
//!
//! INVARIANT: a token's secret is on the page that answers its making, and on no other.

use std::time::Duration;

use axum::extract::{Path, Query};
use axum::response::{Redirect, Response};
use http::Method;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use super::users::listed;
use crate::http::tokens::end_of;
use crate::security::rights::Right;
use crate::ui::api::{Sent, Trouble, segment};
use crate::ui::form::Fields;
use crate::ui::layout::token;
use crate::ui::pieces::{action, card, empty, facts, field, id, table, text, time_of};
use crate::ui::visitor::Visit;

/// Tokens on a page.
const TOKENS_LEN: usize = 100;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Days that a token may be made for; the first is what is offered.
const LIVES: [u32; 5] = [90, 1, 30, 180, 365];

/// Which tokens.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Which {
    user: String,
    cursor: Option<String>,
}

/// `GET /ui/tokens`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(visit: Visit, Query(which): Query<Which>) -> Result<Response, Trouble> {
    let user = which.user.trim();
    let mut asked = format!("/v1/tokens?limit={TOKENS_LEN}");
    let cursor = which.cursor.as_deref().unwrap_or_default();
    for (name, value) in [("user", user), ("cursor", cursor)] {
        if !value.is_empty() {
            asked.push_str(&format!("&{name}={}", segment(value)));
        }
    }
    let found = visit.api().get(&asked).await?;
    let rows = found["tokens"].as_array().into_iter().flatten().map(|token| row(&visit, token));
    let rows: Vec<Markup> = rows.collect();
    let is_admin = visit.may(Right::Administer);
    Ok(visit.page("API tokens").show(&html! {
        p.muted {
            "A machine calls with " code { "Authorization: Bearer TOKEN" } ", and may do what its \
             user may, or less. A token ends with its user."
        }
        @if is_admin {
            form.filters method="get" action="/ui/tokens" role="search" {
                (field("of", "Of the user", &html! {
                    input #of name="user" value=(user) autocomplete="off" spellcheck="false";
                }))
                button type="submit" { "Search" }
            }
        }
        @if rows.is_empty() { (empty("There is no token.", &html! { "Issue one below." })) }
        @else { (table("API tokens", COLUMNS, &rows)) }
        nav.pager aria-label="Pages of the list" {
            @if which.cursor.is_some() { a href="/ui/tokens" { "« First" } }
            @if let Some(next) = found["next"].as_str() {
                a href=(format!("/ui/tokens?cursor={}", segment(next))) rel="next" { "Next »" }
            }
        }
        @if visit.may(Right::Delegate) { (issue_form(&visit, user)) }
        @else { p.notice { "Log in with a password to issue or revoke tokens: tokens make none." } }
    }))
}

const COLUMNS: &[&str] = &["Name", "User", "Groups", "Made", "By", "Ends", "Id", ""];

fn row(visit: &Visit, token: &Value) -> Markup {
    let name = token["name"].as_str().unwrap_or_default();
    let own = token["id"].as_str().unwrap_or_default();
    let ask = format!("Revoke the token {name}? Who calls with it is refused at once.");
    html! { tr {
        th scope="row" { (name) }
        td { (text(&token["user"])) }
        td { @match token["groups"].as_array() {
            None => { span.muted { "all of its user" } }
            Some(groups) if groups.is_empty() => { span.muted { "none" } }
            Some(groups) => { @for group in groups { span.badge { (text(group)) } " " } }
        } }
        td.when { (time_of(&token["created"])) }
        td { (text(&token["created_by"])) }
        td.when { (time_of(&token["expires"])) }
        td { code { (own) } }
        td { @if visit.may(Right::Delegate) {
            div.actions {
                (action(visit.visitor(),
                    &format!("/ui/tokens/{}/revoke", segment(own)), "Revoke", Some(&ask)))
            }
        } }
    } }
}

fn issue_form(visit: &Visit, user: &str) -> Markup {
    let own = visit.visitor().caller().login().unwrap_or_default();
    let user = if user.is_empty() { own } else { user };
    html! {
        details.card {
            summary { "Issue a token" }
            form.stacked method="post" action="/ui/tokens" autocomplete="off" {
                (token(visit.visitor()))
                label for="name" { "What it is for" }
                input #name name="name" required maxlength="256" placeholder="payments-worker"
                    autocomplete="off";
                @if visit.may(Right::Administer) {
                    label for="user" { "Whose it will be" }
                    input #user name="user" value=(user) required autocomplete="off"
                        spellcheck="false";
                }
                label for="groups" { "Groups it has of them, apart by commas (empty: all)" }
                input #groups name="groups" autocomplete="off" spellcheck="false";
                label for="days" { "For how long" }
                select #days name="days" {
                    @for days in LIVES {
                        option value=(days) { (days) @if days == 1 { " day" } @else { " days" } }
                    }
                }
                button type="submit" { "Issue" }
            }
        }
    }
}

/// `POST /ui/tokens`: answers with the token's secret, this once.
///
/// # Errors
/// [`Trouble`]: the form cannot be used, or what the API says.
pub async fn issue(visit: Visit, fields: Fields) -> Result<Response, Trouble> {
    let days: u32 = fields
        .needed("days")?
        .parse()
        .ok()
        .filter(|d| LIVES.contains(d))
        .ok_or_else(|| Trouble::bad("choose one of the lives that are offered"))?;
    let groups = listed(fields.text("groups"));
    let mut body = json!({
        "name": fields.needed("name")?,
        "expires": end_of(visit.node().clock().now(), DAY * days),
    });
    if !groups.is_empty() {
        body["groups"] = groups.into();
    }
    if !fields.text("user").is_empty() {
        body["user"] = fields.text("user").into();
    }
    let sent = Sent::Json(body.to_string());
    let made = visit.api().send(Method::POST, "/v1/tokens", sent).await?;
    let secret = made["token"].as_str().unwrap_or_default();
    let page = visit.page("The token was issued").below("/ui/tokens", "API tokens");
    Ok(page.show(&html! {
        p.notice.warn role="status" {
            "Copy it now: it is shown this once, and nobody can find it out later."
        }
        (card("The token", &html! {
            p.secret { (id(secret)) }
            (facts(&[
                ("For", text(&made["name"])),
                ("User", text(&made["user"])),
                ("Ends", time_of(&made["expires"])),
                ("Id", text(&made["id"])),
            ]))
        }))
        p { a.button href="/ui/tokens" { "I have it" } }
    }))
}

/// `POST /ui/tokens/{id}/revoke`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn revoke(
    visit: Visit,
    Path(own): Path<String>,
    _own: Fields,
) -> Result<Redirect, Trouble> {
    let path = format!("/v1/tokens/{}", segment(&own));
    visit.api().send(Method::DELETE, &path, Sent::Nothing).await?;
    Ok(Redirect::to("/ui/tokens?done=revoked"))
}
