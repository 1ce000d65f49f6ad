//! The rules by which transfers are let through.

use axum::response::{Redirect, Response};
use http::Method;
use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::{by, key};
use crate::security::rights::Right;
use crate::ui::api::{Sent, Trouble};
use crate::ui::form::Fields;
use crate::ui::layout::token;
use crate::ui::pieces::{amount, card, facts, none, text, time_of};
use crate::ui::visitor::Visit;

/// `GET /ui/risk`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(visit: Visit) -> Result<Response, Trouble> {
    let rules = visit.api().get("/v1/risk/rules").await?;
    let limits = rules["maximum_amount"].as_object();
    let number = |name: &str| match &rules[name] {
        Value::Null => html! { "any number" },
        number => text(number),
    };
    Ok(visit.page("Rules of risk").show(&html! {
        (card("What holds now", &facts(&[
            ("Largest transfer", html! {
                @match limits.filter(|limits| !limits.is_empty()) {
                    Some(limits) => {
                        @for (currency, most) in limits {
                            div { (amount(most, &Value::from(currency.as_str()))) }
                        }
                    }
                    None => { "any amount" }
                }
            }),
            ("Transfers of an account in an hour", number("transfers_per_hour")),
            ("Transfers of an account on a day", number("transfers_per_day")),
            ("Flagged accounts", html! {
                @if rules["reject_flagged"] == true { "transfers are rejected" }
                @else { "no matter" }
            }),
            ("Set by", match &rules["changed_by"] { Value::Null => none(), who => text(who) }),
            ("Set", time_of(&rules["changed_at"])),
        ])))
        p.muted {
            "A flag is put on an account on its page: " a href="/ui/accounts" { "accounts" } "."
        }
        @if visit.may(Right::FreezeAccounts) { (form(&visit, &rules)) }
    }))
}

fn form(visit: &Visit, rules: &Value) -> Markup {
    let limits = rules["maximum_amount"].as_object().map(|limits| {
        let line = |(currency, most): (&String, &Value)| {
            format!("{currency} {}\n", most.as_str().unwrap_or_default())
        };
        limits.iter().map(line).collect::<String>()
    });
    let number = |name: &str| rules[name].as_u64().map(|number| number.to_string());
    html! {
        details.card {
            summary { "Change the rules" }
            form.stacked method="post" action="/ui/risk" {
                (token(visit.visitor()))
                input type="hidden" name="key" value=(visit.node().new_id());
                label for="limits" { "Largest transfer: a currency and an amount on each line" }
                textarea #limits name="maximum_amount" rows="3" spellcheck="false" {
                    (limits.unwrap_or_default())
                }
                label for="hour" { "Transfers of an account in an hour (empty: any number)" }
                input #hour name="transfers_per_hour" inputmode="numeric"
                    value=[number("transfers_per_hour")];
                label for="day" { "Transfers of an account on a day (empty: any number)" }
                input #day name="transfers_per_day" inputmode="numeric"
                    value=[number("transfers_per_day")];
                label.check {
                    input type="checkbox" name="reject_flagged" value="yes"
                        checked[rules["reject_flagged"] == true];
                    " Reject transfers from and to flagged accounts"
                }
                button type="submit" { "Set the rules" }
            }
        }
    }
}

/// `POST /ui/risk`
///
/// # Errors
/// [`Trouble`]: the form cannot be used, or what the API says.
pub async fn set(visit: Visit, fields: Fields) -> Result<Redirect, Trouble> {
    let mut limits = Map::new();
    for line in fields.exact("maximum_amount").lines().filter(|line| !line.trim().is_empty()) {
        let pair = line.trim().split_once(char::is_whitespace);
        let (currency, most) =
            pair.ok_or_else(|| Trouble::bad("give a currency and an amount on each line"))?;
        limits.insert(currency.to_owned(), most.trim().into());
    }
    let number = |name: &str| match fields.text(name) {
        "" => Ok(Value::Null),
        text => match text.parse::<u32>() {
            Ok(number) => Ok(number.into()),
            Err(_) => Err(Trouble::bad(&format!("{name}: give a whole number, or nothing"))),
        },
    };
    let body = json!({
        "maximum_amount": limits,
        "transfers_per_hour": number("transfers_per_hour")?,
        "transfers_per_day": number("transfers_per_day")?,
        "reject_flagged": fields.ticked("reject_flagged"),
        "changed_by": by(&visit),
    });
    visit.api().send(Method::PUT, "/v1/risk/rules", Sent::Once(body, key(&fields)?)).await?;
    Ok(Redirect::to("/ui/risk?done=done"))
}
