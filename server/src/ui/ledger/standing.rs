//! What may be done about an account: frozen, flagged, and both taken back.

use axum::extract::Path;
use axum::response::Redirect;
use http::Method;
use maud::{Markup, html};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{by, key};
use crate::ui::api::{Sent, Trouble};
use crate::ui::form::Fields;
use crate::ui::layout::token;
use crate::ui::pieces::card;
use crate::ui::visitor::Visit;

/// The forms for an account as it is now.
#[must_use]
pub fn actions(visit: &Visit, account_id: &str, now: &Value) -> Markup {
    let form = |verb: &str, label: &str, reason: bool| {
        html! {
            form.stacked method="post" action=(format!("/ui/accounts/{account_id}/{verb}")) {
                (token(visit.visitor()))
                input type="hidden" name="key" value=(visit.node().new_id());
                @if reason {
                    label for=(format!("{verb}-reason")) { "Why" }
                    input id=(format!("{verb}-reason")) name="reason" required maxlength="500";
                }
                button.danger[reason] type="submit" { (label) }
            }
        }
    };
    html! {
        div.cards {
            @match now["status"].as_str() {
                Some("active") => {
                    (card("Freeze", &html! {
                        p.muted { "Money goes in, and not out." }
                        (form("freeze", "Freeze the account", true))
                    }))
                }
                Some("frozen") => {
                    (card("Frozen", &form("unfreeze", "Unfreeze the account", false)))
                }
                _ => {}
            }
            @if now["flagged"].is_null() {
                (card("Flag", &html! {
                    p.muted { "Marks it as suspect; the rules of risk say what follows." }
                    (form("flag", "Flag the account", true))
                }))
            } @else {
                (card("Flagged", &form("unflag", "Take the flag away", false)))
            }
        }
    }
}

/// `POST /ui/accounts/{account_id}/freeze`
///
/// # Errors
/// [`Trouble`]: the form cannot be used, or what the API says.
pub async fn freeze(visit: Visit, id: Path<Uuid>, fields: Fields) -> Result<Redirect, Trouble> {
    let body = json!({ "reason": fields.needed("reason")?, "frozen_by": by(&visit) });
    let path = format!("/v1/accounts/{}/freeze", *id);
    act(&visit, (Method::POST, &path), (body, key(&fields)?), *id).await
}

/// `POST /ui/accounts/{account_id}/unfreeze`
///
/// # Errors
/// As [`freeze`].
pub async fn unfreeze(visit: Visit, id: Path<Uuid>, fields: Fields) -> Result<Redirect, Trouble> {
    let body = json!({ "unfrozen_by": by(&visit) });
    let path = format!("/v1/accounts/{}/unfreeze", *id);
    act(&visit, (Method::POST, &path), (body, key(&fields)?), *id).await
}

/// `POST /ui/accounts/{account_id}/flag`
///
/// # Errors
/// As [`freeze`].
pub async fn flag(visit: Visit, id: Path<Uuid>, fields: Fields) -> Result<Redirect, Trouble> {
    let body = json!({ "reason": fields.needed("reason")?, "flagged_by": by(&visit) });
    let path = format!("/v1/risk/accounts/{}/flag", *id);
    act(&visit, (Method::PUT, &path), (body, key(&fields)?), *id).await
}

/// `POST /ui/accounts/{account_id}/unflag`
///
/// # Errors
/// As [`freeze`].
pub async fn unflag(visit: Visit, id: Path<Uuid>, fields: Fields) -> Result<Redirect, Trouble> {
    let body = json!({ "unflagged_by": by(&visit) });
    let path = format!("/v1/risk/accounts/{}/flag", *id);
    act(&visit, (Method::DELETE, &path), (body, key(&fields)?), *id).await
}

async fn act(
    visit: &Visit,
    (method, path): (Method, &str),
    (body, key): (Value, Uuid),
    id: Uuid,
) -> Result<Redirect, Trouble> {
    visit.api().send(method, path, Sent::Once(body, key)).await?;
    Ok(Redirect::to(&format!("/ui/accounts/{id}?done=done")))
}
