//! One event: what it says, as a tree, as text, and as bytes.

use std::fmt::Write as _;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use maud::{Markup, html};

use super::shown::{Content, Events, Shown};
use super::tree;
use crate::ui::api::{Trouble, segment};
use crate::ui::pieces::{self, excerpt, facts, id, number, stream, stream_path, time};
use crate::ui::visitor::Visit;

/// Bytes of a body that are shown as text; the rest can be downloaded.
pub const SHOWN_SIZE_MAX: usize = 64 * 1024;
/// Bytes of a body that are shown one by one: each takes some five in the page.
const HEX_SIZE_MAX: usize = 2 * 1024;
/// Bytes in a line of these.
const HEX_LINE: usize = 16;

/// `GET /ui/streams/{name}/{revision}`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(
    visit: Visit,
    Path((name, revision)): Path<(String, u64)>,
) -> Result<Response, Trouble> {
    let bytes = fetch(&visit, &name, revision).await?;
    let events = Events::read(&bytes)?;
    let event = found(&events, revision)?;
    let correlation = event.correlation();
    let head = events.head.unwrap_or(revision);
    let beside = |number: u64| format!("{}/{number}", stream_path(&name));
    let page = visit
        .page(event.event_type.clone())
        .below("/ui/streams", "Streams")
        .below(stream_path(&name), name.clone());
    Ok(page.with(html! { span.badge { "revision " (revision) } }).show(&html! {
        nav.pager aria-label="Events beside this one" {
            @if revision > 0 { a href=(beside(revision - 1)) rel="prev" { "‹ Older" } }
            @if revision < head { a href=(beside(revision + 1)) rel="next" { "Newer ›" } }
        }
        section.card.wide aria-label="About this event" { (facts(&[
            ("Stream", stream(&event.stream)),
            ("Position in the log", html! { (number(event.position)) }),
            ("Committed", time(&event.time)),
            ("Id", id(&event.id)),
            ("Content type", html! { (event.content_type) }),
            ("Belongs to", match &correlation {
                Some(key) => html! {
                    a.mono href=(format!("/ui/chain/{}", segment(key))) { (key) }
                },
                None => pieces::none(),
            }),
        ])) }
        (body("Data", &event.content(), &format!("{}/data", beside(revision))))
        @if let Some(about) = event.about() {
            (body("Metadata", &about, &format!("{}/metadata", beside(revision))))
        }
    }))
}

async fn fetch(visit: &Visit, name: &str, revision: u64) -> Result<Bytes, Trouble> {
    visit.api().bytes(&format!("/v1/streams/{}?from={revision}&limit=1", segment(name))).await
}

/// The event itself: a read goes on behind one that is not there.
fn found<'e, 'a>(events: &'e Events<'a>, revision: u64) -> Result<&'e Shown<'a>, Trouble> {
    let number = |event: &Shown<'_>| event.link.as_ref().map_or(event.revision, |l| l.revision);
    events.events.first().filter(|event| number(event) == revision).ok_or_else(|| {
        Trouble::not_found("the stream has no event of this revision, or retention removed it")
    })
}

fn body(title: &str, content: &Content<'_>, download: &str) -> Markup {
    let bytes = content.bytes();
    let size = pieces::bytes(bytes.len() as u64);
    html! {
        section.card {
            h2 {
                (title) " " small.muted { (size) } " " a.button href=(download) download {
                    "Download raw"
                }
            }
            @if let Content::Json(text) = content {
                @if bytes.len() <= SHOWN_SIZE_MAX { (tree::show(text)) }
            }
            details open[bytes.len() > SHOWN_SIZE_MAX] {
                summary { "As text" }
                @if bytes.len() > SHOWN_SIZE_MAX {
                    p.muted {
                        "The first " (pieces::bytes(SHOWN_SIZE_MAX as u64)) " of " (size) "."
                    }
                }
                (as_text(content))
            }
            details {
                summary { "As bytes" }
                @if bytes.len() > HEX_SIZE_MAX {
                    p.muted { "The first " (pieces::bytes(HEX_SIZE_MAX as u64)) " of " (size) "." }
                }
                pre.body tabindex="0" { (hex(bytes.get(..HEX_SIZE_MAX).unwrap_or(bytes))) }
            }
        }
    }
}

fn as_text(content: &Content<'_>) -> Markup {
    let text = match content {
        Content::Json(text) => std::borrow::Cow::from(excerpt(text, SHOWN_SIZE_MAX)),
        Content::Binary(bytes) => {
            String::from_utf8_lossy(bytes.get(..SHOWN_SIZE_MAX).unwrap_or(bytes))
        }
    };
    html! { pre.body tabindex="0" { (text) } }
}

/// Bytes as people read them: where, which, and what they would be as letters.
fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for (i, line) in bytes.chunks(HEX_LINE).enumerate() {
        let _ = write!(out, "{:06x}  ", i * HEX_LINE);
        for at in 0..HEX_LINE {
            match line.get(at) {
                Some(byte) => {
                    let _ = write!(out, "{byte:02x} ");
                }
                None => out.push_str("   "),
            }
        }
        out.push(' ');
        out.extend(line.iter().map(|byte| match byte {
            0x20..0x7f => char::from(*byte),
            _ => '.',
        }));
        out.push('\n');
    }
    out
}

/// `GET /ui/streams/{name}/{revision}/{data|metadata}`: the bytes as they were stored. Never shown by
/// the browser: they are whatever somebody appended.
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn download(
    visit: Visit,
    Path((name, revision, part)): Path<(String, u64, String)>,
) -> Result<Response, Trouble> {
    let bytes = fetch(&visit, &name, revision).await?;
    let events = Events::read(&bytes)?;
    let event = found(&events, revision)?;
    let content = match part.as_str() {
        "data" => Some(event.content()),
        "metadata" => event.about(),
        _ => None,
    };
    let content = content.ok_or_else(|| Trouble::not_found("the event has no such part"))?;
    let kind = match content {
        Content::Json(_) => "json",
        Content::Binary(_) => "bin",
    };
    let head = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"event-{}-{part}.{kind}\"", event.position),
        ),
    ];
    Ok((head, content.bytes().to_vec()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_in_lines_of_sixteen() {
        let shown = hex(b"0123456789abcdef\x00<");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(
            lines,
            [
                "000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef",
                "000010  00 3c                                            .<",
            ]
        );
    }
}
