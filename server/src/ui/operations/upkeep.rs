//! Backups, scavenges, verification, certificates: what was done, what is under way, what to begin.

use axum::response::{Redirect, Response};
use daybook_store::Health;
use http::Method;
use maud::{Markup, html};
use serde_json::Value;

use crate::node::context::describe;
use crate::security::rights::Right;
use crate::ui::api::{Sent, Trouble};
use crate::ui::form::Fields;
use crate::ui::pieces::{
    action, bytes, card, count, empty, facts, moment, none, number, progress, seconds, state,
    table, text, time_of,
};
use crate::ui::visitor::Visit;

/// `GET /ui/operations`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(visit: Visit) -> Result<Response, Trouble> {
    let backup = visit.api().get("/admin/backup/status").await?;
    let scavenge = visit.api().get("/admin/scavenge").await?;
    let verify = visit.api().get("/admin/verify").await?;
    Ok(visit.page("Upkeep").show(&html! {
        (clock(&visit))
        div #upkeep.cards data-refresh="3000" {
            (backups(&visit, &backup))
            (verification(&visit, &verify))
            (scavenges(&visit, &scavenge))
            (certificate(&visit))
        }
        h2 { "Scavenges" }
        (history(&scavenge))
    }))
}

/// Only if the clock leapt: then appends wait for somebody to say that it is right.
fn clock(visit: &Visit) -> Markup {
    let health = visit.node().works().health();
    if !matches!(health, Health::ClockLeapt { .. }) {
        return html! {};
    }
    let sure = "Is the machine's clock right? Times of events never go back.";
    html! {
        div.notice.bad role="alert" {
            p { (describe(&health)) }
            @if visit.may(Right::Rescue) {
                (action(visit.visitor(), "/ui/operations/clock", "The clock is right", Some(sure)))
            }
        }
    }
}

fn backups(visit: &Visit, backup: &Value) -> Markup {
    let archive = &backup["archive"];
    card(
        "Backups",
        &html! {
            (facts(&[
                ("Last whole backup", match &backup["lastBackup"] {
                    Value::Null => html! { "none since the start" },
                    at => time_of(at),
                }),
                ("Archive", match archive {
                    Value::Null => html! {
                        span.muted { "off; " code { "--archive" } " turns it on" }
                    },
                    archive => text(&archive["to"]),
                }),
            ]))
            @if !archive.is_null() {
                (facts(&[
                    ("Archived to position", html! {
                        (count(&archive["position"])) " of " (count(&backup["committed"]))
                    }),
                    ("Last round", time_of(&archive["lastSuccess"])),
                    ("Failed rounds", count(&archive["failures"])),
                    ("What is wrong", text(&archive["error"])),
                ]))
            }
            @if !archive.is_null() && visit.may(Right::Operate) {
                (action(visit.visitor(), "/ui/operations/backup", "Archive now", None))
            }
            @if !archive.is_null() {
                p { a href="/ui/operations/backups" { "All backups: verify one, restore one" } }
            }
            details.after {
                summary { "How to take one, and how to restore" }
                pre.body tabindex="0" {
                    "daybook backup --to backups\n\
                     daybook backup verify --from backups\n\
                     daybook restore --from backups --data restored"
                }
            }
        },
    )
}

fn verification(visit: &Visit, verify: &Value) -> Markup {
    let (running, last) = (&verify["running"], &verify["last"]);
    let size = |name: &str| running[name].as_u64().unwrap_or(0);
    card(
        "Verification",
        &html! {
            p.muted { "Reads the log from its beginning: every checksum, and the hash chain." }
            @if running.is_null() {
                (facts(&[
                    ("Last one", match last {
                        Value::Null => html! { "none since the start" },
                        last => html! {
                            (state(last["result"].as_str().unwrap_or_default())) " "
                            (time_of(&last["ended"]))
                        },
                    }),
                    ("It read", last["bytesRead"].as_u64().map_or_else(none, |n| html! {
                        (bytes(n))
                    })),
                    ("Damage", text(&last["damage"])),
                ]))
                @if visit.may(Right::Operate) {
                    (action(visit.visitor(), "/ui/operations/verify", "Verify the log", None))
                }
            } @else {
                p { (state("running")) " " (text(&running["file"])) }
                p { (progress(size("bytesRead"), size("bytes"))) }
            }
        },
    )
}

fn scavenges(visit: &Visit, scavenge: &Value) -> Markup {
    let running = &scavenge["running"];
    let size = |name: &str| running[name].as_u64().unwrap_or(0);
    card(
        "Scavenge",
        &html! {
            p.muted { "Gives back the room of what retention hides and of deleted streams." }
            (facts(&[
                ("By itself", html! { @if scavenge["automatic"] == true { "yes" } @else { "no" } }),
                ("Given back since the start", html! {
                    (bytes(scavenge["bytesGivenBack"].as_u64().unwrap_or(0)))
                }),
            ]))
            @if running.is_null() {
                @if visit.may(Right::Operate) {
                    (action(visit.visitor(), "/ui/operations/scavenge", "Start a scavenge", None))
                }
            } @else {
                p {
                    (state("running")) " "
                    (progress(size("bytesRead"), size("bytesRead") + size("bytesLeft")))
                }
                p { "left: " (seconds(&running["remainingSeconds"])) }
                @if visit.may(Right::Rescue) {
                    (action(visit.visitor(), "/ui/operations/scavenge/stop", "Stop it", None))
                }
            }
        },
    )
}

fn certificate(visit: &Visit) -> Markup {
    let not_after = visit.node().metrics().security.not_after();
    let left = not_after.map(|at| at.0.saturating_sub(visit.node().clock().now().0));
    card(
        "Certificate",
        &html! {
            @match (not_after, left) {
                (Some(at), Some(left)) => {
                    (facts(&[
                        ("Ends", moment(at)),
                        ("Days left", html! {
                            (number(u64::try_from(left / 86_400_000_000_000).unwrap_or(0)))
                        }),
                    ]))
                    p.muted { "A new one is taken up within ten seconds of its files' change." }
                    @if visit.may(Right::Rescue) {
                        @let path = "/ui/operations/reload";
                        (action(visit.visitor(), path, "Look at the files now", None))
                    }
                }
                _ => {
                    p.muted {
                        "This server speaks without TLS; " code { "--tls-cert" }
                        " gives it a certificate."
                    }
                }
            }
        },
    )
}

fn history(scavenge: &Value) -> Markup {
    let rows: Vec<Markup> = scavenge["history"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            html! { tr {
                td.when { (time_of(&one["started"])) }
                td { (state(one["outcome"].as_str().unwrap_or_default()))
                    @if let Some(reason) = one["reason"].as_str() { div.muted { (reason) } } }
                td.right { (count(&one["segmentsRewritten"])) " of " (count(&one["segments"])) }
                td.right { (count(&one["eventsRemoved"])) }
                td.right { (bytes(one["bytesBefore"].as_u64().unwrap_or(0)
                    .saturating_sub(one["bytesAfter"].as_u64().unwrap_or(0)))) }
                td.right { (seconds(&one["elapsedSeconds"])) }
            } }
        })
        .collect();
    if rows.is_empty() {
        return empty(
            "No scavenge has ended since the start.",
            &html! { "They run by themselves when it is worth it." },
        );
    }
    table(
        "Scavenges",
        &["Began", "Outcome", ">Segments", ">Events removed", ">Given back", ">Took"],
        &rows,
    )
}

/// `POST /ui/operations/scavenge`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn scavenge(visit: Visit, _own: Fields) -> Result<Redirect, Trouble> {
    let said = visit.api().send(Method::POST, "/admin/scavenge", Sent::Nothing).await?;
    Ok(begun(&said))
}

/// `POST /ui/operations/backup`: archives at once what is not archived yet.
///
/// # Errors
/// As [`scavenge`].
pub async fn back_up(visit: Visit, _own: Fields) -> Result<Redirect, Trouble> {
    visit.api().send(Method::POST, "/admin/backup", Sent::Nothing).await?;
    Ok(Redirect::to("/ui/operations?done=started"))
}

/// `POST /ui/operations/scavenge/stop`
///
/// # Errors
/// As [`scavenge`].
pub async fn stop_scavenge(visit: Visit, _own: Fields) -> Result<Redirect, Trouble> {
    visit.api().send(Method::DELETE, "/admin/scavenge/current", Sent::Nothing).await?;
    Ok(Redirect::to("/ui/operations?done=stopped"))
}

/// `POST /ui/operations/verify`
///
/// # Errors
/// As [`scavenge`].
pub async fn verify(visit: Visit, _own: Fields) -> Result<Redirect, Trouble> {
    let said = visit.api().send(Method::POST, "/admin/verify", Sent::Nothing).await?;
    Ok(begun(&said))
}

/// `POST /ui/operations/reload`
///
/// # Errors
/// As [`scavenge`].
pub async fn reload(visit: Visit, _own: Fields) -> Result<Redirect, Trouble> {
    visit.api().send(Method::POST, "/admin/reload", Sent::Nothing).await?;
    Ok(Redirect::to("/ui/operations?done=done"))
}

/// `POST /ui/operations/clock`
///
/// # Errors
/// As [`scavenge`].
pub async fn accept_clock(visit: Visit, _own: Fields) -> Result<Redirect, Trouble> {
    visit.api().send(Method::POST, "/admin/clock/accept", Sent::Nothing).await?;
    Ok(Redirect::to("/ui/operations?done=done"))
}

fn begun(said: &Value) -> Redirect {
    let word = if said["result"] == "inProgress" { "running" } else { "started" };
    Redirect::to(&format!("/ui/operations?done={word}"))
}
