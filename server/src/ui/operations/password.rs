//! One's own password.

use axum::response::{Redirect, Response};
use http::StatusCode;
use maud::html;

use crate::node::listener::Peer;
use crate::ui::api::Trouble;
use crate::ui::form::Fields;
use crate::ui::layout::token;
use crate::ui::login::From;
use crate::ui::pieces::card;
use crate::ui::visitor::Visit;

/// `GET /ui/password`
///
/// # Errors
/// [`Trouble`] if the visitor has none.
pub async fn show(visit: Visit) -> Result<Response, Trouble> {
    own(&visit)?;
    Ok(visit.page("Your password").show(&card(
        "Change it",
        &html! {
            form.stacked method="post" action="/ui/password" {
                (token(visit.visitor()))
                p.muted { "You log in again afterwards, here and everywhere else." }
                label for="current" { "The one you have" }
                input #current name="current" type="password" required
                    autocomplete="current-password";
                label for="new" { "The new one" }
                input #new name="new" type="password" required autocomplete="new-password";
                label for="again" { "The new one again" }
                input #again name="again" type="password" required autocomplete="new-password";
                button type="submit" { "Change" }
            }
        },
    )))
}

/// `POST /ui/password`: as gRPC's `ChangePassword`, with the same lock-out.
///
/// # Errors
/// [`Trouble`]: the form cannot be used, or why it was not changed.
pub async fn change(
    visit: Visit,
    From(Peer(peer)): From,
    fields: Fields,
) -> Result<Redirect, Trouble> {
    let login = own(&visit)?.to_owned();
    let (current, new) = (fields.exact("current").to_owned(), fields.exact("new").to_owned());
    if new != fields.exact("again") {
        return Err(Trouble::bad("the new password was typed in two ways; nothing was changed"));
    }
    let asks = visit.node().security().authentication().ok_or_else(none)?;
    let changed = asks.change_password(&login, peer.ip(), (current, new)).await;
    let not_changed = |why: &dyn std::fmt::Display| {
        let title = "The password was not changed";
        Trouble::of(StatusCode::FORBIDDEN, title, &why.to_string())
    };
    changed.map_err(|why| not_changed(&why))?.map_err(|why| not_changed(&why))?;
    Ok(Redirect::to("/ui/login"))
}

fn own(visit: &Visit) -> Result<&str, Trouble> {
    let login = visit.visitor().caller().login();
    login.filter(|_| visit.visitor().session().is_some()).ok_or_else(none)
}

fn none() -> Trouble {
    Trouble::not_found("only who logged in with a password can change it here")
}
