//! The backups in the archive, as the server and its console show them; one of them verified.

use std::path::{Path, PathBuf};
use std::time::Duration;

use daybook::backup::ArchiveSettings;
use daybook::node::{Config, Node};
use daybook::security::{Asks, Settings};
use daybook::users::NewUser;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::authentication::{PASSWORD, basic};
use crate::backup::{Place, append, done, until_archived};
use crate::support::daemon::run;
use crate::support::directory::names;
use crate::support::http::{Answer, call, get, post};
use crate::support::node::Server;
use crate::support::{PATIENCE, assert_says, until};

const LIST: &str = "/admin/backup/list";
const VERIFY: &str = "/admin/backup/verify";
const PAGE: &str = "/ui/operations/backups";

/// What the last verification found, when it has ended.
async fn verified(server: &Server) -> Value {
    let status = || async { get(server.address(), VERIFY).await.json() };
    let ended = || async { status().await["running"].is_null() };
    until("the verification to end", ended).await;
    status().await["last"].clone()
}

/// Begins to verify, and answers with what was found.
async fn verify(server: &Server, wanted: &str) -> Value {
    let begun = post(server.address(), VERIFY, wanted).await;
    assert_eq!((begun.status, &begun.json()["result"]), (202, &"started".into()), "{begun:?}");
    let last = verified(server).await;
    assert_eq!(last["backup"], begun.json()["backup"]);
    last
}

/// A problem's word, and what it says.
fn problem(answer: &Answer) -> (u16, String, String) {
    let problem = answer.json();
    let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    let word = text("type").trim_start_matches("urn:daybook:problem:").to_owned();
    (answer.status, word, text("detail"))
}

/// A number that the server shows.
async fn metric(server: &Server, name: &str) -> u64 {
    let metrics = get(server.address(), "/metrics").await.body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.expect("the metric").parse().expect("a number")
}

/// The files in the directories of `place`'s archive that are under `prefix`.
fn objects(place: &Place, prefix: &str) -> Vec<PathBuf> {
    let top = Path::new(&place.text("archive")).join(prefix);
    let within = top.read_dir().expect("a directory").map(|sub| sub.expect("one").path());
    let mut found: Vec<PathBuf> =
        within.flat_map(|sub| names(&sub).into_iter().map(move |name| sub.join(name))).collect();
    found.sort();
    found
}

/// How a message names an object.
fn named(place: &Place, object: &Path) -> String {
    let archive = place.text("archive");
    object.strip_prefix(archive).expect("within").display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_of_the_archive_are_listed_as_the_command_lists_them_and_found_sound() {
    let place = Place::new();
    let server = place.server(Some(place.archive())).await;
    let (at, archive) = (server.address(), place.text("archive"));
    let url = format!("http://{at}");
    for id in [1, 100, 200] {
        append(&server, id, 60).await;
        done(&run(&["backup", "--json", "--to", &archive, "--url", &url]));
    }
    until_archived(&server).await;
    let mut expected = done(&run(&["backup", "list", "--json", "--from", &archive]));
    let expected = expected["backups"].as_array_mut().expect("backups");
    expected.reverse();
    assert!(expected.len() >= 4, "{expected:?}");
    let listed = get(at, LIST).await.json();
    assert_eq!((&listed["backups"], &listed["next"]), (&json!(expected), &Value::Null));
    assert_eq!((&listed["from"], &listed["problems"]), (&json!(archive), &json!([])));
    let info = get(at, "/info").await.json();
    assert_eq!((&listed["epoch"], info["epoch"].is_null()), (&info["epoch"], false), "{info}");
    let (mut found, mut path) = (Vec::new(), format!("{LIST}?limit=1"));
    loop {
        let page = get(at, &path).await.json();
        found.extend(page["backups"].as_array().expect("backups").clone());
        let Some(next) = page["next"].as_str() else { break };
        path = format!("{LIST}?limit=1&cursor={next}");
    }
    assert_eq!(&found, expected, "one at a time");
    for (query, field) in [("limit=0", "limit"), ("limit=101", "limit"), ("cursor=x", "cursor")] {
        let refused = get(at, &format!("{LIST}?{query}")).await;
        assert_eq!((refused.status, &refused.json()["field"]), (400, &field.into()), "{query}");
    }

    assert_eq!(get(at, VERIFY).await.json(), json!({ "running": null, "last": null }));
    let newest = verify(&server, "").await;
    assert_eq!((&newest["result"], &newest["reason"]), (&"sound".into(), &Value::Null));
    assert_eq!(newest["backup"], expected[0]["name"]);
    for begins in ["backups/", "archive/"] {
        let wanted = json!({ "backup": begins }).to_string();
        let taken = verify(&server, &wanted).await;
        let is_so =
            |one: &&Value| one["name"].as_str().is_some_and(|name| name.starts_with(begins));
        let first = expected.iter().find(is_so).expect("one");
        assert_eq!((&taken["result"], &taken["backup"]), (&"sound".into(), &first["name"]));
    }
    let read = |verified: &Value| verified["found"]["bytesRead"].as_u64().expect("a number");
    assert_eq!(json!(read(&newest)), expected[0]["manifest"]["size"]);
    assert_says(newest["found"]["checked"].as_str().expect("words"), &["every object", "BLAKE3"]);
    assert_says(newest["found"]["notChecked"].as_str().expect("words"), &["event by event"]);
    assert_eq!(metric(&server, "daybook_backup_damaged").await, 0);
    assert!(metric(&server, "daybook_backup_verified_timestamp_seconds").await > 0);

    let none = post(at, VERIFY, r#"{"backup":"backups/9"}"#).await;
    let (status, word, detail) = problem(&none);
    assert_eq!((status, word.as_str()), (404, "backup-not-found"));
    assert_says(&detail, &["none is named backups/9", LIST]);
    let odd = post(at, VERIFY, r#"{"backup":7}"#).await;
    assert_eq!((odd.status, &odd.json()["field"]), (400, &"backup".into()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_names_the_object_that_is_damaged_and_the_one_that_is_missing() {
    let place = Place::new();
    let server = place.server(Some(place.archive())).await;
    append(&server, 1, 200).await;
    until_archived(&server).await;
    let segments = objects(&place, "segments");
    let (first, last) = (&segments[0], &segments[segments.len() - 1]);
    assert_ne!(first, last);
    let whole = std::fs::read(first).expect("a piece");
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 1;
    std::fs::write(first, bytes).expect("written");
    let problems = |verified: &Value| -> Vec<String> {
        assert_eq!(
            (&verified["result"], &verified["found"]["moreProblems"]),
            (&"damaged".into(), &0.into()),
            "{verified}"
        );
        serde_json::from_value(verified["found"]["problems"].clone()).expect("texts")
    };
    let found = problems(&verify(&server, "").await);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_says(&found[0], &[&named(&place, first), "is damaged", "not those that were written"]);
    assert_eq!(metric(&server, "daybook_backup_damaged").await, 1);
    std::fs::remove_file(last).expect("removed");
    let found = problems(&verify(&server, "").await);
    assert_eq!(found.len(), 2, "{found:?}");
    let missing = found.iter().find(|line| line.contains("is missing")).expect("it is said");
    assert_says(missing, &[&named(&place, last)]);
    // The page says it, and the log goes on.
    let page = get(server.address(), PAGE).await.body;
    assert_says(&page, &["damaged", &named(&place, first), &named(&place, last)]);
    append(&server, 1000, 1).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_archives_nowhere_names_the_flag() {
    let place = Place::new();
    let server = place.server(None).await;
    let at = server.address();
    for answer in [get(at, LIST).await, get(at, VERIFY).await, post(at, VERIFY, "").await] {
        let (status, word, detail) = problem(&answer);
        assert_eq!((status, word.as_str()), (404, "archive-off"));
        assert_says(&detail, &["--archive"]);
    }
    let page = get(at, PAGE).await;
    assert_eq!(page.status, 200);
    assert_says(&page.body, &["archives nowhere", "--archive"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_backup_is_verified_at_a_time_and_a_stop_does_not_wait_for_it() {
    let place = Place::new();
    let server = place.server(Some(place.archive())).await;
    append(&server, 1, 60).await;
    server.stop().await;
    // So slowly that it would take hours.
    let slow = ArchiveSettings { rate: Some(1), ..place.archive() };
    let server = place.server(Some(slow)).await;
    let at = server.address();
    let begun = post(at, VERIFY, "{}").await;
    assert_eq!(begun.status, 202, "{begun:?}");
    let second = post(at, VERIFY, r#"{"backup":"backups/"}"#).await;
    let (status, word, detail) = problem(&second);
    assert_eq!((status, word.as_str()), (409, "verification-running"));
    let name = begun.json()["backup"].clone();
    assert_says(&detail, &[name.as_str().expect("a name"), "one is at a time"]);
    assert_eq!(second.json()["backup"], name);
    let running = || async { get(at, VERIFY).await.json()["running"].clone() };
    let known = || async { running().await["bytes"].as_u64() > Some(0) };
    until("it to know how much there is", known).await;
    let page = get(at, PAGE).await.body;
    assert_says(&page, &["<progress", "running"]);
    // The list can be asked for meanwhile.
    assert_eq!(get(at, LIST).await.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_encrypted_backup_is_said_what_was_not_checked() {
    let place = Place::new();
    let key = place.text("key");
    let made = done(&run(&["backup", "keygen", "--json", "--to", &key]));
    let mut archive = place.archive();
    archive.recipients.add(made["recipient"].as_str().expect("words")).expect("a recipient");
    let server = place.server(Some(archive)).await;
    append(&server, 1, 60).await;
    until_archived(&server).await;
    let listed = get(server.address(), LIST).await.json();
    assert_eq!(listed["backups"][0]["manifest"]["recipients"][0], made["recipient"]);
    let last = verify(&server, "").await;
    assert_eq!(last["result"], "sound");
    assert_says(
        last["found"]["checked"].as_str().expect("words"),
        &["encrypted as they are stored"],
    );
    assert_says(last["found"]["notChecked"].as_str().expect("words"), &["--identity"]);
    assert_says(&get(server.address(), PAGE).await.body, &["--identity backup.key"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_lists_verifies_says_how_to_restore_and_asks_no_archive_by_itself() {
    let place = Place::new();
    let server = place.server(Some(place.archive())).await;
    let (at, archive) = (server.address(), place.text("archive"));
    append(&server, 1, 60).await;
    done(&run(&["backup", "--json", "--to", &archive, "--url", &format!("http://{at}")]));
    until_archived(&server).await;
    let listed = get(at, LIST).await.json();
    let page = get(at, PAGE).await.body;
    let names: Vec<&str> = listed["backups"]
        .as_array()
        .expect("backups")
        .iter()
        .map(|backup| backup["name"].as_str().expect("a name"))
        .collect();
    assert!(names.len() > 1, "{listed}");
    assert_says(&page, &names);
    let taken = names.iter().find(|name| name.starts_with("backups/")).expect("one");
    assert_says(&page, &[&format!("daybook restore --from {archive} \\\n  --backup {taken} \\\n")]);
    let last = listed["backups"][0]["manifest"]["end"].as_u64().expect("a number") - 1;
    assert_says(&page, &[&format!("--to-position {last} \\\n")]);

    let (_, rest) = page.split_once("name=\"token\" value=\"").expect("a form");
    let token = rest.split('"').next().expect("its end");
    let verify = format!("{PAGE}/verify");
    assert_eq!(post(at, &verify, format!("backup={taken}")).await.status, 400, "no token");
    let sent = post(at, &verify, format!("token={token}&backup={taken}")).await;
    assert_eq!(sent.header("location"), Some("/ui/operations/backups?done=started"));
    assert_eq!(verified(&server).await["backup"], **taken);
    assert_says(&get(at, PAGE).await.body, &["sound", "event by event"]);

    // The archive goes away: the page still says what is known, and what is wrong.
    std::fs::rename(&archive, place.text("elsewhere")).expect("renamed");
    std::fs::write(&archive, "not a directory").expect("a file");
    let (status, word, detail) = problem(&get(at, LIST).await);
    assert_eq!((status, word.as_str()), (502, "archive-unread"));
    assert_says(&detail, &[&archive]);
    assert_says(
        &get(at, PAGE).await.body,
        &["role=\"alert\"", "The archive does not answer", "sound"],
    );
    // Nobody did anything: no question is asked.
    let again = call(at, "GET", PAGE, &[("daybook-by-itself", "1")], "").await.body;
    assert!(again.contains("id=\"verification\"") && !again.contains("does not answer"), "{again}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_is_recorded_and_who_may_only_look_is_offered_none() {
    let place = Place::new();
    let config = Config {
        security: Settings { asks: Asks::Everyone, ..Settings::default() },
        archive: Some(ArchiveSettings { every: Duration::from_millis(20), ..place.archive() }),
        ..Config::in_directory(place.text("data"))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let node = Node::start(config, listener).await.expect("a server");
    let at = node.address();
    for (login, group) in [("ops", "$ops"), ("mon", "$monitor"), ("ada", "$admins")] {
        let user = NewUser {
            login: login.to_owned(),
            full_name: login.to_owned(),
            groups: vec![group.to_owned()],
            password: PASSWORD.to_owned(),
        };
        node.context().users().create(user).await.expect("created");
    }
    let asked = async |login: &str, method: &str, path: &str| {
        let who = basic(login, PASSWORD);
        call(at, method, path, &[("authorization", who.as_str())], "").await
    };
    let there = async || !asked("mon", "GET", LIST).await.json()["backups"][0].is_null();
    until("a backup to be there", there).await;
    let page = asked("mon", "GET", PAGE).await.body;
    assert!(page.contains("archive/") && !page.contains("backups/verify"), "{page}");
    assert_eq!(asked("mon", "POST", VERIFY).await.status, 403);
    let begun = asked("ops", "POST", VERIFY).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    node.context().audit().flush().await;
    let records = asked("ada", "GET", "/admin/audit?what=/admin/backup/verify").await.json();
    let told =
        |at: usize| ["who", "outcome", "about"].map(|name| records["records"][at][name].clone());
    assert_eq!(told(0), [json!("ops"), json!("202"), begun.json()["backup"].clone()], "{records}");
    assert_eq!(told(1)[..2], [json!("ops"), json!("begun")]);
    assert_eq!(told(2)[..2], [json!("mon"), json!("denied")]);
    node.stop(PATIENCE).await;
}
