//! The first page: how the server does, as it goes on.

use std::time::Duration;

use axum::response::Response;
use daybook_model::Timestamp;
use futures_util::stream;
use maud::{Markup, html};
use serde_json::Value;

use super::Ui;
use super::api::Trouble;
use super::chart::{Chart, Line, POINTS_MAX};
use super::console::SAMPLE_INTERVAL;
use super::feed;
use super::pieces::{self, card, facts, none, number, state, time_of};
use super::samples::{Ring, Sample, Took, quantile, rate};
use super::visitor::Visit;
use crate::node::Context;
use crate::security::gate::{Gate, Routes};
use crate::security::rights::Right;

/// The routes of this file.
pub fn routes(gate: &Gate) -> Routes<Ui> {
    Routes::new(gate).get("/ui/", Right::Known, show).get("/ui/live", Right::Monitor, live)
}

async fn show(visit: Visit) -> Result<Response, Trouble> {
    let monitors = visit.may(Right::Monitor);
    let context: &Context = visit.node();
    let page = visit.page("Overview").with(html! {
        @if monitors { p.pulse data-feed="/ui/live" aria-live="polite" { "as of this moment" } }
    });
    let info = visit.api().get("/info").await?;
    let rest = if monitors { Some(rest(&visit).await?) } else { None };
    Ok(page.show(&html! {
        @if monitors { (alerts(context)) (figures(context)) (charts(context)) }
        @else { (welcome(&visit)) }
        div.cards {
            @if monitors { (health(&visit.api().get("/health/ready").await)) }
            @if let Some(rest) = &rest { (rest) }
            (card("This server", &facts(&[
                ("Version", pieces::text(&info["version"])),
                ("Store", html! { @if let Some(id) = info["store"].as_str() { (pieces::id(id)) } }),
                ("Epoch", pieces::text(&info["epoch"])),
                ("Events in the log", pieces::count(&info["committed"])),
                ("Started", time_of(&info["started"])),
                ("Callers are asked", pieces::text(&info["authentication"])),
            ])))
        }
    }))
}

fn welcome(visit: &Visit) -> Markup {
    html! {
        p.notice {
            "You are in none of the groups that see how the server does (" code { "$monitor" }
            "). What you may use is in the menu"
            @if visit.visitor().caller().groups().is_empty() {
                ": an administrator can add you to groups"
            }
            "."
        }
    }
}

/// `GET /ui/live`: what changes on the page, each time a sample was taken.
async fn live(visit: Visit) -> Result<Response, Trouble> {
    let room = feed::room(&visit)?;
    let context: Context = (**visit.node()).clone();
    let mut interval = tokio::time::interval(SAMPLE_INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let messages = stream::unfold((interval, context), async |(mut interval, context)| {
        interval.tick().await;
        let markup = html! { (alerts(&context)) (figures(&context)) (charts(&context)) };
        Some((feed::message("swap", &markup), (interval, context)))
    });
    Ok(feed::answer(&visit, room, messages))
}

fn alerts(context: &Context) -> Markup {
    let firing = context.console().alerts();
    html! {
        section #alerts.alerts aria-live="polite" aria-label="Alerts" {
            @if firing.is_empty() {
                p.notice.good { "No alert is firing." }
            }
            @for alert in &firing {
                div.notice.(if alert.severity.as_str() == "critical" { "bad" } else { "warn" }) {
                    p {
                        (state(alert.severity.as_str())) " "
                        strong { (alert.summary) }
                        @if !alert.about.is_empty() { " " code { (alert.about) } }
                    }
                    p { (alert.todo) " " a href=(alert.page) { "Look at it" } }
                }
            }
        }
    }
}

fn figures(context: &Context) -> Markup {
    let stats = context.works().stats();
    // Of the last ten seconds: a number that stands still long enough to be read.
    const LATELY: usize = 5;
    let (events, reads, full, pace) = context.console().samples(|ring| {
        let lately = lately(ring, LATELY);
        let rate_of = |count: fn(&Sample) -> u64| lately.as_ref().map(|span| rate(span, count));
        (rate_of(|s| s.events), rate_of(|s| s.reads), ring.disk_full_in(), ring.disk_pace())
    });
    let per_second = |rate: Option<f64>| rate.map_or("–".to_owned(), super::chart::short);
    let tile = |name: &str, value: String, note: Markup| {
        html! { div.tile { dt { (name) } dd { strong { (value) } span.muted { (note) } } } }
    };
    html! {
        dl #figures.tiles {
            (tile("Events written", per_second(events), html! { "a second" }))
            (tile("Events read", per_second(reads), html! { "a second" }))
            (tile("In the log", number(stats.committed), html! {
                (pieces::bytes(stats.log_bytes))
            }))
            (tile("Waiting appends", number(stats.queue_depth), html! { "in the queue" }))
            (tile("Subscriptions", number(stats.subscriptions), html! { "open" }))
            (tile("Disk free", pieces::bytes(stats.disk_free), html! {
                @match full {
                    Some(left) => { "full in " (pieces::duration(left)) }
                    None => { "not filling" }
                }
                @if let Some(pace) = pace { " · " (pieces::bytes(pace as u64)) "/s" }
            }))
        }
    }
}

fn lately(ring: &Ring, samples: usize) -> Option<(Sample, Sample)> {
    let spans = ring.spans(usize::MAX);
    let from = spans.len().saturating_sub(samples);
    Some((spans.get(from)?.0, spans.last()?.1))
}

fn charts(context: &Context) -> Markup {
    let (spans, now) = context
        .console()
        .samples(|ring| (ring.spans(POINTS_MAX), ring.last().map(|sample| sample.at)));
    let now = now.unwrap_or_default();
    let labels: Vec<String> = spans.iter().map(|(_, to)| ago(now.saturating_sub(to.at))).collect();
    let line = |name, value: &dyn Fn(&(Sample, Sample)) -> Option<f64>| Line {
        name,
        values: spans.iter().map(value).collect(),
    };
    let took = |name, took, q: f64| line(name, &move |span| quantile(span, took, q));
    let chart = |title, unit, lines| Chart { title, unit, lines, labels: labels.clone() }.draw();
    html! {
        div #charts.charts {
            (chart("Throughput", "/s", vec![
                line("events written", &|span| Some(rate(span, |s| s.events))),
                line("events read", &|span| Some(rate(span, |s| s.reads))),
            ]))
            (chart("Time of a write", "ms", vec![
                took("p50", Took::Append, 0.5),
                took("p99", Took::Append, 0.99),
            ]))
            (chart("Time of fdatasync", "ms", vec![
                took("p50", Took::Sync, 0.5),
                took("p99", Took::Sync, 0.99),
            ]))
        }
    }
}

fn ago(ago: Duration) -> String {
    match ago.as_secs() {
        0 => "now".to_owned(),
        seconds @ 1..60 => format!("{seconds} s ago"),
        seconds => format!("{}:{:02} min ago", seconds / 60, seconds % 60),
    }
}

fn health(ready: &Result<Value, Trouble>) -> Markup {
    let parts = ready.as_ref().ok().and_then(|ready| ready["parts"].as_object());
    card(
        "Health",
        &html! {
            @match ready {
                Ok(_) => { p { (state("ready")) " Appends and reads are served." } }
                Err(_) => { p { (state("not ready")) " See the alerts above." } }
            }
            @if let Some(parts) = parts {
                dl.facts {
                    @for (part, said) in parts { div { dt { (part) } dd { (pieces::text(said)) } } }
                }
            }
        },
    )
}

async fn read_side(visit: &Visit) -> Result<Markup, Trouble> {
    let found = match visit.api().get("/v1/projections").await {
        Ok(found) => found,
        Err(trouble) if trouble.word == "read-models-off" => Value::Null,
        Err(trouble) => return Err(trouble),
    };
    let connectors = visit.api().get("/v1/connectors").await?;
    let projections = found["projections"].as_array().map_or(&[][..], Vec::as_slice);
    let connectors = connectors["connectors"].as_array().map_or(&[][..], Vec::as_slice);
    let line = |name: &Value, how: &Value| {
        html! { div {
            dt { (pieces::text(name)) }
            dd {
                (state(how["state"].as_str().unwrap_or("starting")))
                " " (pieces::count(&how["lag_events"])) " behind"
            }
        } }
    };
    Ok(card(
        "Read side",
        &html! {
            @if projections.is_empty() && connectors.is_empty() {
                p.muted { "Nothing follows the log." }
            }
            dl.facts {
                @for projection in projections {
                    (line(&projection["name"], &projection["serving"]))
                }
                @for connector in connectors { (line(&connector["name"], connector)) }
            }
        },
    ))
}

/// What says nothing each second: backups, verification, the read side.
async fn rest(visit: &Visit) -> Result<Markup, Trouble> {
    let context: &Context = visit.node();
    let backup = visit.api().get("/admin/backup/status").await?;
    let verify = visit.api().get("/admin/verify").await?;
    let last = &verify["last"];
    let not_after = context.metrics().security.not_after();
    let safe = card(
        "Safety",
        &facts(&[
            (
                "Last backup",
                match &backup["lastBackup"] {
                    Value::Null => html! { "none since the start" },
                    at => time_of(at),
                },
            ),
            (
                "Archive",
                match &backup["archive"] {
                    Value::Null => html! { span.muted { "off" } },
                    archive => html! { "position " (pieces::count(&archive["position"])) },
                },
            ),
            (
                "Last verification",
                match last {
                    Value::Null => html! { "none since the start" },
                    last => html! {
                        (state(last["result"].as_str().unwrap_or_default())) " "
                        (time_of(&last["ended"]))
                    },
                },
            ),
            ("Certificate ends", not_after.map_or_else(none, |at: Timestamp| pieces::moment(at))),
        ]),
    );
    Ok(html! { (safe) (read_side(visit).await?) })
}
