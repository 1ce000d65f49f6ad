//! The API, as `/openapi.json` describes it.

use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use crate::ui::api::Trouble;
use crate::ui::pieces::table;
use crate::ui::visitor::Visit;

/// Levels of a schema that are shown within one another.
const DEPTH_MAX: usize = 4;

/// `GET /ui/api`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(visit: Visit) -> Result<Response, Trouble> {
    let api = visit.api().get("/openapi.json").await?;
    let described = api["tags"].as_array().map_or(&[][..], Vec::as_slice);
    let title = api["info"]["title"].as_str().unwrap_or("API").to_owned();
    let page = visit.page("API").with(html! { a.button href="/openapi.json" { "openapi.json" } });
    Ok(page.show(&html! {
        p { strong { (title) } " " (api["info"]["version"].as_str().unwrap_or_default()) }
        p.muted { (api["info"]["description"].as_str().unwrap_or_default()) }
        @for tag in described {
            @let name = tag["name"].as_str().unwrap_or_default();
            @let found = operations(&api, name);
            @if !found.is_empty() {
                section.stack {
                    h2 {
                        (name) " " small.muted { (tag["description"].as_str().unwrap_or_default()) }
                    }
                    @for (method, path, operation) in found {
                        (shown(&api, method, path, operation))
                    }
                }
            }
        }
    }))
}

type Operation<'a> = (&'a str, &'a str, &'a Value);

fn operations<'a>(api: &'a Value, tag: &str) -> Vec<Operation<'a>> {
    let paths = api["paths"].as_object().into_iter().flatten();
    let all = paths.flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        methods.map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
    });
    all.filter(|(.., operation)| operation["tags"][0] == tag).collect()
}

fn shown(api: &Value, method: &str, path: &str, operation: &Value) -> Markup {
    let said = operation["summary"].as_str().or(operation["description"].as_str());
    let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<Markup> = parameters
        .iter()
        .map(|parameter| {
            html! { tr {
                td { code { (parameter["name"].as_str().unwrap_or_default()) } }
                td { (parameter["in"].as_str().unwrap_or_default()) }
                td { @if parameter["required"] == true { "required" } }
                td.wide { (parameter["description"].as_str().unwrap_or_default()) }
            } }
        })
        .collect();
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    let responses = operation["responses"].as_object();
    html! {
        details.card {
            summary {
                span.badge { (method.to_uppercase()) } " " code { (path) }
                " " span.muted { (said.unwrap_or_default()) }
            }
            @if !rows.is_empty() { (table("Parameters", &["Name", "In", "", "What it is"], &rows)) }
            @if !body.is_null() { h2 { "Body" } (schema(api, body, 0)) }
            h2 { "Answers" }
            ul.answers {
                @for (status, answer) in responses.into_iter().flatten().filter(|it| !refuses(it.0)) {
                    li {
                        span.badge { (status) }
                        " " (answer["description"].as_str().unwrap_or_default())
                        @let content = &answer["content"]["application/json"]["schema"];
                        @if !content.is_null() { (schema(api, content, 0)) }
                    }
                }
                // What each is stands in openapi.json: of all operations it is too much for a page.
                @let refusals = responses.into_iter().flatten().map(|it| it.0);
                li.muted { "refused with" @for status in refusals.filter(|it| refuses(it)) {
                    " " span.badge { (status) }
                } }
            }
        }
    }
}

/// Whether an answer of this status is a problem.
fn refuses(status: &str) -> bool {
    status.starts_with(['4', '5'])
}

/// A schema: what it refers to in its place.
fn schema(api: &Value, schema: &Value, depth: usize) -> Markup {
    let named = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
    let own = named.map_or(schema, |name| &api["components"]["schemas"][name]);
    if depth >= DEPTH_MAX {
        return html! { span.muted { (named.unwrap_or("…")) } };
    }
    let required = |name: &str| {
        own["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name))
    };
    if let Some(properties) = own["properties"].as_object() {
        return html! { ul.schema { @for (name, property) in properties {
            li {
                code { (name) } @if required(name) { span.muted { " *" } } " "
                (schema_line(api, property, depth))
                @if let Some(said) = property["description"].as_str() { " " span.muted { (said) } }
            }
        } } };
    }
    schema_line(api, own, depth)
}

fn schema_line(api: &Value, property: &Value, depth: usize) -> Markup {
    let kind = match &property["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or ")
        }
        _ => String::new(),
    };
    let choices = property["enum"].as_array().map_or(&[][..], Vec::as_slice);
    let inner = [&property["items"], &property["allOf"][0], &property["oneOf"][1], property];
    let inner = inner.into_iter().find(|inner| inner["$ref"].is_string());
    html! {
        @if !kind.is_empty() { span.badge { (kind) @if kind == "array" { " of" } } }
        @if !choices.is_empty() {
            " " @for choice in choices { code { (choice.as_str().unwrap_or_default()) } " " }
        }
        @if let Some(inner) = inner { (schema(api, inner, depth + 1)) }
    }
}
