//! What of an account is reserved, and what gives it back.

use axum::extract::Path;
use axum::response::Redirect;
use http::Method;
use maud::{Markup, html};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{by, key};
use crate::security::rights::Right;
use crate::ui::api::{Sent, Trouble};
use crate::ui::form::Fields;
use crate::ui::layout::token;
use crate::ui::pieces::{amount, short_id, table, time_of};
use crate::ui::visitor::Visit;

/// The holds of an account, if it has any; as it is now, each can be released.
#[must_use]
pub fn listed(visit: &Visit, account: &Value, is_now: bool) -> Markup {
    let holds = account["holds"].as_array().map_or(&[][..], Vec::as_slice);
    let may_release = is_now && visit.may(Right::MoveMoney);
    let rows: Vec<Markup> =
        holds.iter().map(|hold| row(visit, account, hold, may_release)).collect();
    let columns = ["Hold", ">Remaining", "Placed", "Expires", ""];
    let columns = if may_release { &columns[..] } else { &columns[..4] };
    html! {
        @if !rows.is_empty() { h2 { "Holds" } (table("Holds", columns, &rows)) }
    }
}

fn row(visit: &Visit, account: &Value, hold: &Value, may_release: bool) -> Markup {
    let id = hold["hold_id"].as_str().unwrap_or_default();
    let account_id = account["account_id"].as_str().unwrap_or_default();
    html! { tr {
        td { (short_id(id)) }
        td.right { (amount(&hold["remaining"], &account["currency"])) }
        td.when { (time_of(&hold["placed_at"])) }
        td.when { (time_of(&hold["expires_at"])) }
        @if may_release { td {
            form.actions method="post"
                action=(format!("/ui/accounts/{account_id}/holds/{id}/release"))
                data-confirm="Release this hold? Its money is available at once." {
                (token(visit.visitor()))
                input type="hidden" name="key" value=(visit.node().new_id());
                input name="reason" required maxlength="500" placeholder="why" size="12"
                    aria-label=(format!("Why the hold {id} is released"));
                button.danger type="submit" { "Release" }
            }
        } }
    } }
}

/// `POST /ui/accounts/{account_id}/holds/{hold_id}/release`
///
/// # Errors
/// [`Trouble`]: the form cannot be used, or what the API says.
pub async fn release(
    visit: Visit,
    Path((account, hold)): Path<(Uuid, Uuid)>,
    fields: Fields,
) -> Result<Redirect, Trouble> {
    // The ledger keeps why, and has no field for who.
    let reason = format!("{} ({})", fields.needed("reason")?, by(&visit));
    let sent = Sent::Once(json!({ "reason": reason }), key(&fields)?);
    let path = format!("/v1/accounts/{account}/holds/{hold}/release");
    visit.api().send(Method::POST, &path, sent).await?;
    Ok(Redirect::to(&format!("/ui/accounts/{account}?done=released")))
}
