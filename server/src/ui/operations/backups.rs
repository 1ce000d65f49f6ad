//! The backups in the repository that the server archives to: which there are, whether one of them
//! is as it was written, and how that one is restored.

use axum::extract::Query;
use axum::response::{Redirect, Response};
use http::Method;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::security::rights::Right;
use crate::ui::api::{Sent, Trouble, segment};
use crate::ui::form::Fields;
use crate::ui::layout::token;
use crate::ui::pieces::{bytes, card, count, empty, facts, progress, state, table, text, time_of};
use crate::ui::visitor::Visit;

/// Backups on a page.
const BACKUPS_LEN: usize = 20;
/// Where the page is.
const PATH: &str = "/ui/operations/backups";
/// What the names of archives begin with: of those, the newest is meant.
const ARCHIVES: &str = "archive/";

/// Which page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Which {
    cursor: Option<String>,
}

/// `GET /ui/operations/backups`
///
/// # Errors
/// [`Trouble`], as the API says it; but what the archive does not answer is said on the page.
pub async fn show(visit: Visit, Query(which): Query<Which>) -> Result<Response, Trouble> {
    let page = visit.page("Backups").below("/ui/operations", "Upkeep");
    let verify = match visit.api().get("/admin/backup/verify").await {
        Err(off) if off.word == "archive-off" => return Ok(page.show(&archive_off())),
        verify => verify?,
    };
    // A page that looks again by itself shows how far the verification is: it asks no bucket.
    let listed = if visit.visitor().is_by_itself() {
        html! {}
    } else {
        let mut asked = format!("/admin/backup/list?limit={BACKUPS_LEN}");
        if let Some(cursor) = &which.cursor {
            asked.push_str(&format!("&cursor={}", segment(cursor)));
        }
        match visit.api().get(&asked).await {
            Ok(found) => list(&visit, &found, which.cursor.is_some()),
            Err(trouble) => html! {
                div.notice.bad role="alert" { p { (trouble.title) ". " (trouble.detail) } }
            },
        }
    };
    Ok(page.show(&html! {
        div #verification.cards data-refresh="3000" { (verification(&verify)) }
        (listed)
    }))
}

fn archive_off() -> Markup {
    empty(
        "This server archives nowhere.",
        &html! {
            code { "daybook serve --archive URL" } " keeps a repository of backups up with the \
            log; this page lists them then. " code { "daybook backup --to URL" } " takes one."
        },
    )
}

fn verification(verify: &Value) -> Markup {
    let (running, last) = (&verify["running"], &verify["last"]);
    let size = |name: &str| running[name].as_u64().unwrap_or(0);
    card(
        "Verification",
        &html! {
            p.muted {
                "Reads every object of one backup, at the pace of archiving, and compares it with \
                 what was written."
            }
            @if !running.is_null() {
                p { (state("running")) " " (name(&running["backup"])) }
                p { (progress(size("bytesRead"), size("bytes"))) }
            } @else if last.is_null() {
                p { "None since the start." }
            } @else {
                (outcome(last))
            }
        },
    )
}

fn outcome(last: &Value) -> Markup {
    let found = &last["found"];
    let problems = found["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    let more = found["moreProblems"].as_u64().unwrap_or(0);
    html! {
        (facts(&[
            ("Last one", html! {
                (state(last["result"].as_str().unwrap_or_default())) " " (time_of(&last["ended"]))
            }),
            ("Backup", name(&last["backup"])),
        ]))
        // No alert: what keeps itself up to date would say it again and again.
        @if let Some(reason) = last["reason"].as_str() { div.notice.bad { p { (reason) } } }
        @if !problems.is_empty() {
            div.notice.bad {
                @for problem in problems { p { (text(problem)) } }
                @if more > 0 { p { "And " (more) " more." } }
            }
        }
        @if !found.is_null() {
            (facts(&[
                ("It read", html! { (bytes(found["bytesRead"].as_u64().unwrap_or(0))) }),
                ("Objects", count(&found["objects"])),
                ("Checked", text(&found["checked"])),
                ("Not checked", text(&found["notChecked"])),
            ]))
        }
    }
}

const COLUMNS: &[&str] = &["Taken", "Kind", "", ">Ends before", ">Size", "Encrypted", ">Epoch"];

fn list(visit: &Visit, found: &Value, is_older: bool) -> Markup {
    let backups = found["backups"].as_array().map(Vec::as_slice).unwrap_or_default();
    let first = backups.iter().position(|one| one["manifest"]["kind"] == "archive");
    let newest = first.filter(|_| !is_older);
    let rows = backups.iter().enumerate();
    let rows: Vec<Markup> =
        rows.map(|(i, one)| row(visit, found, one, newest == Some(i))).collect();
    let problems = found["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    html! {
        h2 { "In " (name(&found["from"])) }
        @if !problems.is_empty() {
            div.notice.bad role="alert" { @for problem in problems { p { (text(problem)) } } }
        }
        @if rows.is_empty() {
            (empty("There is no backup.", &html! { "The first round of archiving makes one." }))
        } @else {
            (table("Backups", COLUMNS, &rows))
        }
        nav.pager aria-label="Pages of the list" {
            @if is_older { a href=(PATH) { "« Newest" } }
            @if let Some(next) = found["next"].as_str() {
                a href=(format!("{PATH}?cursor={}", segment(next))) rel="next" { "Older ›" }
            }
        }
    }
}

/// A backup. Archiving replaces its own within seconds: the newest archive is verified as what it is
/// by then.
fn row(visit: &Visit, found: &Value, backup: &Value, is_newest_archive: bool) -> Markup {
    let manifest = &backup["manifest"];
    let own = backup["name"].as_str().unwrap_or_default();
    html! {
        tr {
            td.when { (time_of(&manifest["taken"])) }
            td { (text(&manifest["kind"])) }
            td { @if visit.may(Right::Operate) {
                form.inline method="post" action=(format!("{PATH}/verify")) {
                    (token(visit.visitor()))
                    input type="hidden" name="backup"
                        value=(if is_newest_archive { ARCHIVES } else { own });
                    button type="submit" { "Verify" }
                }
            } }
            td.right { (count(&manifest["end"])) }
            td.right { (bytes(manifest["size"].as_u64().unwrap_or(0))) }
            td { @if is_encrypted(manifest) { "yes" } @else { "no" } }
            td.right { (count(&manifest["epoch"])) }
        }
        tr.more { td colspan=(COLUMNS.len()) {
            details {
                summary { "Its name, and how to restore it" }
                p { (name(&backup["name"])) }
                pre.body tabindex="0" { (restore(found, backup)) }
            }
        } }
    }
}

/// A name that may be long.
fn name(value: &Value) -> Markup {
    html! { span.id { code { (text(value)) } } }
}

fn is_encrypted(manifest: &Value) -> bool {
    manifest["recipients"].as_array().is_some_and(|to| !to.is_empty())
}

/// The command that restores `backup`. One of archiving is replaced by the next: by its end it is
/// found as long as there is a backup that goes as far; one of another epoch stays.
fn restore(found: &Value, backup: &Value) -> String {
    let manifest = &backup["manifest"];
    let from = quoted(found["from"].as_str().unwrap_or_default());
    let name = backup["name"].as_str().unwrap_or_default();
    let end = manifest["end"].as_u64().unwrap_or(0);
    let is_replaced = manifest["kind"] == "archive" && manifest["epoch"] == found["epoch"];
    let which = if is_replaced {
        format!("--to-position {}", end.saturating_sub(1))
    } else {
        format!("--backup {}", quoted(name))
    };
    let key = if is_encrypted(manifest) { " \\\n  --identity backup.key" } else { "" };
    format!("daybook restore --from {from} \\\n  {which}{key} \\\n  --data restored")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// `POST /ui/operations/backups/verify`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn verify(visit: Visit, fields: Fields) -> Result<Redirect, Trouble> {
    let wanted = json!({ "backup": fields.needed("backup")? }).to_string();
    visit.api().send(Method::POST, "/admin/backup/verify", Sent::Json(wanted)).await?;
    Ok(Redirect::to(&format!("{PATH}?done=started")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_restores_that_backup_whatever_archiving_does_meanwhile() {
        let found = json!({ "from": "/mnt/my backups", "epoch": 3 });
        let backup = |name: &str, kind: &str, epoch: u32, recipients: &[&str]| {
            let manifest =
                json!({ "kind": kind, "epoch": epoch, "end": 78, "recipients": recipients });
            json!({ "name": name, "manifest": manifest })
        };
        for (backup, which) in [
            (backup("archive/9-3-78-a.json", "archive", 3, &[]), "--to-position 77 \\\n"),
            (backup("archive/9-2-78-a.json", "archive", 2, &[]), "--backup archive/9-2-78-a.json"),
            (backup("backups/9-3-78-a.json", "backup", 3, &[]), "--backup backups/9-3-78-a.json"),
            (backup("archive/9-3-78-a.json", "archive", 3, &["age1x"]), "--identity backup.key"),
        ] {
            let said = restore(&found, &backup);
            assert!(said.starts_with("daybook restore --from '/mnt/my backups' \\\n"), "{said}");
            assert!(said.contains(which), "{said}");
        }
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("s3://b/p"), "s3://b/p");
    }
}
