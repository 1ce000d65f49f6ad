//! Categories and event types, with how many events each has.
//!
//! Categories are found by leaps through the names of streams: from one name to the first that begins
//! otherwise. So a page takes a bounded number of looks, however many streams there are. Types are
//! listed by the store.

use axum::extract::Query;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use crate::ui::api::{Trouble, segment};
use crate::ui::pieces::{empty, number, table};
use crate::ui::visitor::Visit;

/// Categories on a page.
const CATEGORIES_LEN: usize = 40;
/// Looks at the list of names for one page: names without a category take one each.
const LOOKS_MAX: usize = 120;
/// Types on a page.
const TYPES_LEN: usize = 60;
/// All types of the server's own come before it.
const OWN_TYPES_END: &str = "$\u{10ffff}";

/// Where to go on.
#[derive(Debug, Default, Deserialize)]
pub struct Which {
    /// Categories after this.
    after: Option<String>,
    /// Types after this.
    type_after: Option<String>,
}

impl Which {
    /// This page, but for where one of its lists goes on.
    fn path(after: Option<&str>, type_after: Option<&str>) -> String {
        let said = [("after", after), ("type_after", type_after)];
        let said = said
            .iter()
            .filter_map(|(name, value)| value.map(|value| format!("{name}={}", segment(value))));
        format!("/ui/categories?{}", said.collect::<Vec<_>>().join("&"))
    }
}

/// `GET /ui/categories`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(visit: Visit, Query(which): Query<Which>) -> Result<Response, Trouble> {
    let (categories, next) = categories(&visit, which.after.clone()).await?;
    let types = types(&visit, which.type_after.as_deref()).await?;
    let (here, types_here) = (which.after.as_deref(), which.type_after.as_deref());
    let row = |kind: &'static str, name: &str, count: u64| {
        let stream = if kind == "category" { "$ce-" } else { "$et-" };
        html! { tr {
            td {
                a.mono href=(format!("/ui/streams/{}", segment(&format!("{stream}{name}")))) {
                    (name)
                }
            }
            td.right { (number(count)) }
            @if kind == "category" {
                td { a href=(format!("/ui/streams?prefix={}-", segment(name))) { "its streams" } }
            }
        } }
    };
    let shown: Vec<Markup> =
        categories.iter().map(|(n, count)| row("category", n, *count)).collect();
    let typed: Vec<Markup> =
        types.counted.iter().map(|(n, count)| row("type", n, *count)).collect();
    Ok(visit.page("Categories and types").show(&html! {
        h2 { "Categories" }
        @if shown.is_empty() {
            (empty("There is no category.", &html! {
                "A stream's category is what stands before the first “-” of its name."
            }))
        } @else {
            (table("Categories", &["Category", ">Events", "Streams"], &shown))
        }
        @if let Some(next) = next {
            nav.pager { a href=(Which::path(Some(&next), types_here)) { "Next »" } }
        }
        h2 { "Event types" }
        p.muted { "By name, and how many events of the log have been of each." }
        @if typed.is_empty() { (empty("There is no event.", &html! { "Append one." })) }
        @else { (table("Event types", &["Type", ">Events"], &typed)) }
        @if let Some(next) = types.next {
            nav.pager aria-label="Event types" {
                a href=(Which::path(here, Some(&next))) { "Next types »" }
            }
        }
        @if types.cut { p.notice.warn { "The log may have more types than are looked for." } }
    }))
}

type Counted = Vec<(String, u64)>;

/// Categories after `after`, and where to go on.
async fn categories(
    visit: &Visit,
    after: Option<String>,
) -> Result<(Counted, Option<String>), Trouble> {
    let (mut found, mut after) = (Vec::new(), after.unwrap_or_default());
    for _ in 0..LOOKS_MAX {
        let path = format!("/v1/streams?limit=1&after={}", segment(&after));
        let listed = visit.api().get(&path).await?;
        let Some(name) = listed["streams"][0].as_str() else { return Ok((found, None)) };
        match name.split_once('-') {
            Some((category, _)) if !category.starts_with('$') && !category.is_empty() => {
                if found.len() >= CATEGORIES_LEN {
                    return Ok((found, Some(after)));
                }
                let count = count(visit, "category", category).await?;
                found.push((category.to_owned(), count));
                // The first name that no name of the category comes after.
                after = format!("{category}-\u{10ffff}");
            }
            // All of the server's own begin so.
            _ if name.starts_with('$') => after = "$\u{10ffff}".to_owned(),
            _ => after = name.to_owned(),
        }
    }
    Ok((found, Some(after)))
}

/// A page of the types.
struct Types {
    counted: Counted,
    next: Option<String>,
    cut: bool,
}

async fn types(visit: &Visit, after: Option<&str>) -> Result<Types, Trouble> {
    let after = after.unwrap_or(OWN_TYPES_END);
    let path = format!("/v1/event-types?limit={TYPES_LEN}&after={}", segment(after));
    let listed = visit.api().get(&path).await?;
    let counted = listed["types"].as_array().into_iter().flatten().map(|one| {
        (one["name"].as_str().unwrap_or_default().to_owned(), one["events"].as_u64().unwrap_or(0))
    });
    Ok(Types {
        counted: counted.collect(),
        next: listed["next"].as_str().map(str::to_owned),
        cut: listed["cut"] == true,
    })
}

/// How many events have been of a kind: the number of its last one, and one more.
async fn count(visit: &Visit, kind: &str, name: &str) -> Result<u64, Trouble> {
    let path = format!("/v1/index/{kind}/{}?direction=backwards&limit=1", segment(name));
    let page = visit.api().get(&path).await?;
    if page["events"].as_array().is_none_or(Vec::is_empty) {
        return Ok(0);
    }
    // `next` is the number before it; null if it is the first.
    Ok(page["next"].as_u64().map_or(1, |before| before + 2))
}
