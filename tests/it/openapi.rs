//! What the API says of itself: each route is described, as it is, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::http::{call, get};
use crate::support::node::Server;

/// What is for people, and is not described.
const FOR_PEOPLE: &str = "/ui";

#[tokio::test(flavor = "multi_thread")]
async fn every_route_is_described_with_its_right() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let api = document(&server).await;
    assert!(api["openapi"].as_str().is_some_and(|v| v.starts_with("3.1.")), "{}", api["openapi"]);
    assert!(api["info"]["title"].is_string() && api["info"]["version"].is_string());
    let described: BTreeMap<String, Value> = operations(&api).collect();
    let rights = daybook::http::rights(server.context());
    let rights = rights.iter().filter(|row| !row.path.starts_with(FOR_PEOPLE));
    let served: BTreeMap<String, String> = rights
        .map(|row| (format!("{} {}", row.method, row.path), format!("{:?}", row.right)))
        .collect();
    let names = |of: Vec<&String>| of.into_iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(
        names(described.keys().collect()),
        names(served.keys().collect()),
        "what is described, and what there is: see `http::openapi`"
    );
    for (route, right) in &served {
        let operation = &described[route];
        assert_eq!(operation["x-right"]["name"], right.as_str(), "{route}");
        let open = right == "Anyone";
        assert_eq!(operation["responses"]["403"].is_null(), open, "{route}");
        assert_eq!(operation["security"] == serde_json::json!([{}]), open, "{route}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_sound() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let api = document(&server).await;
    let tags: BTreeSet<&str> = api["tags"]
        .as_array()
        .expect("tags")
        .iter()
        .filter_map(|tag| tag["name"].as_str())
        .collect();
    let mut ids = BTreeSet::new();
    for (route, operation) in operations(&api) {
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{route}: no id"));
        assert!(ids.insert(id.to_owned()), "{route}: '{id}' names two operations");
        assert!(operation["summary"].is_string(), "{route}: no summary");
        let tag = operation["tags"][0].as_str().unwrap_or_default();
        assert!(tags.contains(tag), "{route}: no tag '{tag}' is explained");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for name in route.split('{').skip(1).filter_map(|part| part.split_once('}')) {
            let known = |p: &&Value| p["name"] == name.0 && p["in"] == "path";
            assert!(parameters.iter().any(|p| known(&p)), "{route}: {} is not described", name.0);
        }
        for parameter in parameters {
            let name = &parameter["name"];
            assert!(parameter["description"].is_string(), "{route}: {name} is for what?");
        }
        let responses = operation["responses"].as_object().expect("responses");
        assert!(responses.keys().any(|status| status.starts_with('2')), "{route}: no good answer");
        for (status, response) in responses.iter().filter(|(status, _)| status.starts_with('4')) {
            let problem = &response["content"]["application/problem+json"];
            assert!(problem.is_object(), "{route}: {status} is no problem");
        }
        reached(&server, &route).await;
    }
    let mut references = Vec::new();
    collect_references(&api, &mut references);
    assert!(references.len() > 50, "{} references", references.len());
    for reference in references {
        let pointer = reference.trim_start_matches('#');
        assert!(api.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    server.stop().await;
}

/// Asks for what is described, whatever the answer says: it exists.
async fn reached(server: &Server, route: &str) {
    // One has no end, one ends the process, one takes all of the log along.
    let told_apart = ["subscribe", "/admin/shutdown", "GET /admin/backup"];
    if told_apart.iter().any(|part| route.contains(part)) {
        return;
    }
    let (method, path) = route.split_once(' ').expect("a method and a path");
    let path = path.replace("{order}", "pause").replace("{position}", "1");
    let mut asked = path.replace("{kind}", "type");
    while let Some((before, rest)) = asked.split_once('{') {
        let after = rest.split_once('}').expect("it ends").1;
        asked = format!("{before}x{after}");
    }
    let answer = call(server.address(), method, &asked, &[], "{}").await;
    let problem: Option<Value> = serde_json::from_str(&answer.body).ok();
    let word = problem.as_ref().and_then(|problem| problem["type"].as_str()).unwrap_or_default();
    let word = word.trim_start_matches("urn:daybook:problem:");
    assert!(!matches!(word, "no-such-route" | "no-such-method"), "{route}: {word}");
}

async fn document(server: &Server) -> Value {
    let answer = get(server.address(), "/openapi.json").await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// `METHOD path`, and what is said of it.
fn operations(api: &Value) -> impl Iterator<Item = (String, Value)> {
    let paths = api["paths"].as_object().expect("paths");
    paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().expect("a path");
        item.iter().map(move |(method, operation)| {
            (format!("{} {path}", method.to_uppercase()), operation.clone())
        })
    })
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                found.push(reference.to_owned());
            }
            map.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_references(value, found)),
        _ => {}
    }
}
