//! Users: who may call, what they belong to.

use axum::extract::Path;
use axum::response::{Redirect, Response};
use http::StatusCode;
use maud::{Markup, html};

use crate::security::audit::user_in;
use crate::ui::api::{Trouble, segment};
use crate::ui::form::Fields;
use crate::ui::layout::token;
use crate::ui::pieces::{action, card, empty, facts, moment, state, table, wide};
use crate::ui::visitor::Visit;
use crate::users::{NewUser, Standing, User, UsersError};

/// Users on the page.
const SHOWN_MAX: usize = 500;
/// The groups that mean something to the server.
const GROUPS: &str = "$admins, $ops, $monitor, ledger-read, ledger-open, ledger-move, \
                      ledger-freeze, ledger-audit, tenant:PREFIX";

/// `GET /ui/users`
///
/// # Errors
/// [`Trouble`] if they cannot be read.
pub async fn show(visit: Visit) -> Result<Response, Trouble> {
    let users = visit.node().users().all().await?;
    let rows: Vec<Markup> = users.iter().take(SHOWN_MAX).map(row).collect();
    Ok(visit.page("Users").show(&html! {
        @if !visit.visitor().is_asked() {
            p.notice.warn { "This server asks nobody who they are: users matter once it does." }
        }
        @if rows.is_empty() { (empty("There is no user.", &html! { "Create one below." })) }
        @else { (table("Users", &["User", "Name", "Groups", "State", "Changed"], &rows)) }
        @if users.len() > SHOWN_MAX { p.muted { "These are the first " (SHOWN_MAX) "." } }
        details.card open[rows.is_empty()] {
            summary { "Create a user" }
            form.stacked method="post" action="/ui/users" autocomplete="off" {
                (token(visit.visitor()))
                label for="login" { "User" }
                input #login name="login" required autocomplete="off" spellcheck="false";
                label for="full_name" { "Full name" }
                input #full_name name="full_name" autocomplete="off";
                (groups_field(""))
                label for="password" { "Password" }
                input #password name="password" type="password" required
                    autocomplete="new-password";
                button type="submit" { "Create" }
            }
        }
    }))
}

fn groups_field(groups: &str) -> Markup {
    html! {
        label for="groups" { "Groups, apart by commas" }
        input #groups name="groups" value=(groups) autocomplete="off" spellcheck="false"
            aria-describedby="groups-hint";
        p #groups-hint.muted { "These mean something to the server: " (GROUPS) "." }
    }
}

fn standing(user: &User) -> Markup {
    state(if user.disabled { "disabled" } else { "enabled" })
}

fn row(user: &User) -> Markup {
    html! { tr {
        td { a href=(format!("/ui/users/{}", segment(&user.login))) { (user.login) } }
        td { (user.full_name) }
        td { @for group in &user.groups { span.badge { (group) } " " } }
        td { (standing(user)) }
        td.when { (moment(user.updated)) }
    } }
}

/// `GET /ui/users/{login}`
///
/// # Errors
/// [`Trouble`] if there is no such user.
pub async fn one(visit: Visit, Path(login): Path<String>) -> Result<Response, Trouble> {
    let user = visit.node().users().user(&login).await?;
    let tokens = visit.node().users().tokens(&login).await?.len();
    let path = |verb: &str| format!("/ui/users/{}/{verb}", segment(&login));
    let page = visit.page(user.login.clone()).below("/ui/users", "Users").with(standing(&user));
    let disable = format!("Disable {login}? Sessions, tokens and live pages end at once.");
    Ok(page.show(&html! {
        (wide(&facts(&[
            ("Full name", html! { (user.full_name) }),
            ("Groups", html! { @for group in &user.groups { span.badge { (group) } " " } }),
            ("Changed", moment(user.updated)),
        ])))
        div.cards {
            (card("Name and groups", &html! { form.stacked method="post" action=(path("groups")) {
                (token(visit.visitor()))
                label for="full_name" { "Full name" }
                input #full_name name="full_name" value=(user.full_name) autocomplete="off";
                (groups_field(&user.groups.join(", ")))
                button type="submit" { "Save" }
            } }))
            (card("Password", &html! { form.stacked method="post" action=(path("password")) {
                (token(visit.visitor()))
                p.muted {
                    "Sessions and live pages of this user end at once; API tokens go on unless "
                    "they are revoked."
                }
                label for="password" { "New password" }
                input #password name="password" type="password" required
                    autocomplete="new-password";
                @if tokens > 0 {
                    // Who knew the old password may have made one.
                    label.check {
                        input type="checkbox" name="revoke" value="yes" checked;
                        " Revoke API tokens: " (tokens)
                    }
                }
                button type="submit" { "Reset" }
            } }))
            (card("Access", &html! {
                @if user.disabled {
                    (action(visit.visitor(), &path("enable"), "Enable the user", None))
                }
                @else {
                    (action(visit.visitor(), &path("disable"), "Disable the user", Some(&disable)))
                }
                p.after { a href=(format!("/ui/tokens?user={}", segment(&login))) { "API tokens" } }
                details.after {
                    summary { "Delete " (login) }
                    (delete_form(&visit, &login))
                }
            }))
        }
    }))
}

fn delete_form(visit: &Visit, login: &str) -> Markup {
    html! {
        form.stacked method="post" action=(format!("/ui/users/{}/delete", segment(login))) {
            (token(visit.visitor()))
            p.muted { "Sessions and tokens end at once. What was done stays in the audit log." }
            label for="confirm" { "Type the user's name: " code { (login) } }
            input #confirm name="confirm" required autocomplete="off" spellcheck="false";
            button.danger type="submit" { "Delete the user" }
        }
    }
}

/// `POST /ui/users`
///
/// # Errors
/// [`Trouble`]: the form cannot be used, or why the user was not created.
pub async fn create(visit: Visit, fields: Fields) -> Result<Redirect, Trouble> {
    let login = fields.needed("login")?.to_owned();
    visit.node().is_about(&user_in(&login, &listed(fields.text("groups"))));
    let user = NewUser {
        login: login.clone(),
        full_name: fields.text("full_name").to_owned(),
        groups: listed(fields.text("groups")),
        password: fields.exact("password").to_owned(),
    };
    visit.node().users().create(user).await?;
    Ok(Redirect::to(&format!("/ui/users/{}?done=done", segment(&login))))
}

/// `POST /ui/users/{login}/enable`
///
/// # Errors
/// As [`create`].
pub async fn enable(
    visit: Visit,
    Path(login): Path<String>,
    _own: Fields,
) -> Result<Redirect, Trouble> {
    visit.node().is_about(&login);
    visit.node().users().set_standing(&login, Standing::Enabled).await?;
    Ok(back(&login))
}

/// `POST /ui/users/{login}/disable`
///
/// # Errors
/// As [`create`].
pub async fn disable(
    visit: Visit,
    Path(login): Path<String>,
    _own: Fields,
) -> Result<Redirect, Trouble> {
    visit.node().is_about(&login);
    visit.node().users().set_standing(&login, Standing::Disabled).await?;
    Ok(back(&login))
}

/// `POST /ui/users/{login}/password`
///
/// # Errors
/// As [`create`].
pub async fn reset_password(
    visit: Visit,
    Path(login): Path<String>,
    fields: Fields,
) -> Result<Redirect, Trouble> {
    visit.node().is_about(&login);
    let password = fields.exact("password").to_owned();
    let users = visit.node().users();
    users.reset_password(&login, password).await?;
    if fields.text("revoke") == "yes" {
        for token in users.tokens(&login).await? {
            users.revoke_token(&token.id).await?;
        }
    }
    Ok(back(&login))
}

/// `POST /ui/users/{login}/groups`
///
/// # Errors
/// As [`create`].
pub async fn set_groups(
    visit: Visit,
    Path(login): Path<String>,
    fields: Fields,
) -> Result<Redirect, Trouble> {
    let groups = listed(fields.text("groups"));
    visit.node().is_about(&user_in(&login, &groups));
    visit.node().users().update(&login, fields.text("full_name"), &groups).await?;
    Ok(back(&login))
}

/// `POST /ui/users/{login}/delete`
///
/// # Errors
/// As [`create`]; nothing happens unless the login was typed.
pub async fn delete(
    visit: Visit,
    Path(login): Path<String>,
    fields: Fields,
) -> Result<Redirect, Trouble> {
    visit.node().is_about(&login);
    if fields.text("confirm") != login {
        return Err(Trouble::bad("that is not the user's name; nobody was deleted"));
    }
    visit.node().users().delete(&login).await?;
    Ok(Redirect::to("/ui/users?done=done"))
}

/// What stands between commas.
#[must_use]
pub fn listed(text: &str) -> Vec<String> {
    let parts = text.split(',').map(str::trim);
    parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn back(login: &str) -> Redirect {
    Redirect::to(&format!("/ui/users/{}?done=done", segment(login)))
}

impl From<UsersError> for Trouble {
    fn from(error: UsersError) -> Trouble {
        let status = match &error {
            UsersError::NotFound { .. } => StatusCode::NOT_FOUND,
            UsersError::Invalid { .. } => StatusCode::BAD_REQUEST,
            UsersError::Busy => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::CONFLICT,
        };
        Trouble::of(status, "The user was not changed", &error.to_string())
    }
}
