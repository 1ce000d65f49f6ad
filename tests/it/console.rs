//! The web console: who gets in and how, what its answers carry, what ends.

use std::net::SocketAddr;
use std::path::Path;

use daybook::node::{Config, Node};
use daybook::users::api_tokens::NewApiToken;
use daybook::users::{NewUser, Standing};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::authentication::{PASSWORD, server};
use crate::support::http::{Answer, call};
use crate::support::{PATIENCE, soon, until};

const PAGE: (&str, &str) = ("accept", "text/html");

/// A browser that has logged in.
struct Browser {
    at: SocketAddr,
    cookie: String,
}

impl Browser {
    async fn log_in(at: SocketAddr, login: &str) -> Browser {
        let fields = form(&[("login", login), ("password", PASSWORD)]);
        let answer = post(at, "/ui/login", "", &fields).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        let cookie = answer.header("set-cookie").expect("a cookie");
        Browser { at, cookie: cookie.split(';').next().expect("a pair").to_owned() }
    }

    async fn get(&self, path: &str) -> Answer {
        call(self.at, "GET", path, &[PAGE, ("cookie", &self.cookie)], "").await
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        post(self.at, path, &self.cookie, &form(fields)).await
    }

    /// The token of its pages.
    async fn token(&self) -> String {
        let page = self.get("/ui/").await.body;
        let (_, rest) = page.split_once("name=\"token\" value=\"").expect("a form");
        rest.split('"').next().expect("its end").to_owned()
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| text.replace('%', "%25").replace('&', "%26").replace(' ', "+");
    let pairs = fields.iter().map(|(name, value)| format!("{name}={}", encode(value)));
    pairs.collect::<Vec<_>>().join("&")
}

async fn post(at: SocketAddr, path: &str, cookie: &str, body: &str) -> Answer {
    call(at, "POST", path, &[PAGE, ("cookie", cookie)], body.to_owned()).await
}

async fn add(node: &Node, login: &str, groups: &[&str]) {
    let user = NewUser {
        login: login.to_owned(),
        full_name: login.to_owned(),
        groups: groups.iter().map(|&group| group.to_owned()).collect(),
        password: PASSWORD.to_owned(),
    };
    node.context().users().create(user).await.expect("created");
}

/// A server that asks nobody.
async fn open_server(directory: &Path) -> Node {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    Node::start(Config::in_directory(directory), listener).await.expect("a server")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_logs_in_and_out() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    let at = node.address();
    let stranger = call(at, "GET", "/ui/streams?prefix=a", &[PAGE], "").await;
    assert_eq!(stranger.status, 303);
    let login = "/ui/login?next=%2Fui%2Fstreams%3Fprefix%3Da";
    assert_eq!(stranger.header("location"), Some(login));
    let page = call(at, "GET", login, &[PAGE], "").await;
    assert!(page.body.contains("value=\"/ui/streams?prefix=a\""), "{}", page.body);
    for (login, password) in [("ada", "wrong"), ("eve", PASSWORD), ("", ""), ("a:da", PASSWORD)] {
        let fields = form(&[("login", login), ("password", password)]);
        let refused = post(at, "/ui/login", "", &fields).await;
        assert_eq!(refused.status, 403, "{login}");
        assert!(refused.body.contains("role=\"alert\""), "{}", refused.body);
        assert_eq!(refused.header("set-cookie"), None, "{login}");
        assert_eq!(refused.header("www-authenticate"), None, "a browser would ask by itself");
    }
    let fields = [("login", "ada"), ("password", PASSWORD), ("next", "/ui/streams?prefix=a")];
    let entered = post(at, "/ui/login", "", &form(&fields)).await;
    assert_eq!((entered.status, entered.header("location")), (303, Some("/ui/streams?prefix=a")));
    let cookie = entered.header("set-cookie").expect("a cookie");
    let (pair, rest) = cookie.split_once("; ").expect("attributes");
    assert_eq!(rest, "Path=/ui; HttpOnly; SameSite=Strict");
    assert_eq!(pair.len(), "daybook-console=".len() + 43, "256 bits: {pair}");
    let browser = Browser { at, cookie: pair.to_owned() };
    let page = browser.get("/ui/").await;
    assert!(page.status == 200 && page.body.contains("Log out"), "{}", page.body);
    // The cookie means nothing to the API.
    for path in ["/v1/streams", "/metrics", "/admin/scavenge"] {
        assert_eq!(browser.get(path).await.status, 401, "{path}");
    }
    let token = browser.token().await;
    let left = browser.post("/ui/logout", &[("token", &token)]).await;
    assert_eq!((left.status, left.header("location")), (303, Some("/ui/login")));
    assert!(left.header("set-cookie").is_some_and(|cookie| cookie.contains("Max-Age=0")));
    assert_eq!(browser.get("/ui/").await.status, 303, "it is over");
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_leads_nowhere_else() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    for next in ["https://evil.example/", "//evil.example", "/ui//evil.example", "/v1/streams", ""]
    {
        let fields = form(&[("login", "ada"), ("password", PASSWORD), ("next", next)]);
        let entered = post(node.address(), "/ui/login", "", &fields).await;
        assert_eq!(entered.header("location"), Some("/ui/"), "{next}");
    }
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_is_of_its_own_session_and_page() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    let (one, two) = (
        Browser::log_in(node.address(), "ada").await,
        Browser::log_in(node.address(), "ada").await,
    );
    let (own, others) = (one.token().await, two.token().await);
    assert_ne!(own, others);
    let rows = daybook::ui::rights(node.context());
    let forms = rows.iter().filter(|row| row.method != "GET" && row.path != "/ui/login");
    let mut count = 0;
    for row in forms {
        // Each part of a path as something that could be one.
        let path = row
            .path
            .replace("{position}", "1")
            .replace("{account_id}", "00000000-0000-4000-8000-000000000001")
            .replace("{transfer_id}", "00000000-0000-4000-8000-000000000001")
            .replace("{hold_id}", "00000000-0000-4000-8000-000000000001")
            .replace(['{', '}'], "");
        for token in ["", "0", &others] {
            let refused = one.post(&path, &[("token", token)]).await;
            assert_eq!(refused.status, 400, "{} with '{token}'", row.path);
            assert!(refused.body.contains("not of this session"), "{}: {}", row.path, refused.body);
        }
        let evil = [PAGE, ("cookie", one.cookie.as_str()), ("origin", "https://evil.example")];
        let fields = form(&[("token", &own)]);
        let refused = call(node.address(), "POST", &path, &evil, fields).await;
        assert_eq!(refused.status, 403, "{}", row.path);
        count += 1;
    }
    assert!(count > 20, "all forms were tried: {count}");
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_says_what_pages_may_use() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    let browser = Browser::log_in(node.address(), "ada").await;
    let paths =
        ["/ui/", "/ui/login", "/ui/streams", "/ui/nothing", "/ui/users", "/ui/assets/app.js"];
    for path in paths {
        let answer = browser.get(path).await;
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"));
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        let kept = answer.header("cache-control").expect("said");
        assert_eq!(kept != "no-store", path.contains("assets"), "{path}: {kept}");
        if !path.contains("assets") && answer.status == 200 {
            // What the policy would not let run.
            for inline in ["style=\"", "<style", "onclick=", "onload=", "javascript:"] {
                assert!(!answer.body.contains(inline), "{path} has {inline}");
            }
        }
    }
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_offer_and_do_what_their_visitor_may() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    for (login, groups) in
        [("bob", &[][..]), ("ops", &["$ops"]), ("clerk", &["ledger-read"]), ("mon", &["$monitor"])]
    {
        add(&node, login, groups).await;
    }
    let pages = ["/ui/users", "/ui/operations", "/ui/accounts", "/ui/subscriptions", "/ui/books"];
    for (login, allowed) in [
        ("ada", [true, true, true, true, true]),
        ("bob", [false, false, false, false, false]),
        ("ops", [false, true, false, true, false]),
        ("clerk", [false, false, true, false, false]),
        ("mon", [false, true, false, false, false]),
    ] {
        let browser = Browser::log_in(node.address(), login).await;
        let first = browser.get("/ui/").await;
        assert_eq!(first.status, 200, "{login}");
        for (path, may) in pages.iter().zip(allowed) {
            let offered = first.body.contains(&format!("href=\"{path}\""));
            assert_eq!(offered, may, "{login} is offered {path}");
            let answer = browser.get(path).await;
            assert_eq!(answer.status, if may { 200 } else { 403 }, "{login} asks for {path}");
            assert!(answer.body.starts_with("<!DOCTYPE html>"), "{login} {path}");
        }
    }
    // Who may only look is offered no button, and refused without one.
    let monitor = Browser::log_in(node.address(), "mon").await;
    let page = monitor.get("/ui/operations").await.body;
    assert!(!page.contains("/ui/operations/scavenge"), "{page}");
    let token = monitor.token().await;
    let refused = monitor.post("/ui/operations/scavenge", &[("token", &token)]).await;
    assert_eq!(refused.status, 403);
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_call_no_more_has_no_session_and_follows_nothing() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    let (at, context) = (node.address(), node.context().clone());
    add(&node, "mon", &["$monitor"]).await;
    for end in ["disabled", "other groups", "logged out"] {
        let browser = Browser::log_in(at, "mon").await;
        let token = browser.token().await;
        let cookie = browser.cookie.clone();
        let feed = tokio::spawn(async move {
            let headers = [("accept", "text/event-stream"), ("cookie", cookie.as_str())];
            call(at, "GET", "/ui/live", &headers, "").await
        });
        until("the feed is open", || {
            let is_open = context.endless_calls() == 1;
            async move { is_open }
        })
        .await;
        match end {
            "disabled" => {
                context.users().set_standing("mon", Standing::Disabled).await.expect("disabled");
            }
            "other groups" => {
                let groups = ["$ops".to_owned()];
                context.users().update("mon", "Mon", &groups).await.expect("updated");
            }
            _ => assert_eq!(browser.post("/ui/logout", &[("token", &token)]).await.status, 303),
        }
        let heard = soon("the feed's end", feed).await.expect("no panic");
        assert_eq!(heard.status, 200, "{end}");
        assert_eq!(browser.get("/ui/").await.status, 303, "{end}: the session is over");
        context.users().set_standing("mon", Standing::Enabled).await.expect("enabled");
    }
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_no_session_and_ends_with_the_password_if_the_page_is_told_so() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    add(&node, "eve", &[]).await;
    let users = node.context().users();
    let new = NewApiToken {
        login: "eve".to_owned(),
        name: "a job".to_owned(),
        groups: None,
        created_by: None,
        expires: None,
    };
    let (_, secret) = users.create_token(new, node.context().clock().now()).await.expect("made");
    let fields = form(&[("login", "eve"), ("password", &secret.text())]);
    let refused = post(node.address(), "/ui/login", "", &fields).await;
    assert_eq!((refused.status, refused.header("set-cookie")), (403, None));
    assert!(refused.body.contains("for machines"), "{}", refused.body);

    let browser = Browser::log_in(node.address(), "ada").await;
    let token = browser.token().await;
    assert!(browser.get("/ui/users/eve").await.body.contains("Revoke API tokens: 1"));
    let reset = [("token", token.as_str()), ("password", "another password")];
    assert_eq!(browser.post("/ui/users/eve/password", &reset).await.status, 303);
    assert_eq!(users.tokens("eve").await.expect("a list").len(), 1, "it was not asked for");
    let reset = [&reset[..], &[("revoke", "yes")]].concat();
    assert_eq!(browser.post("/ui/users/eve/password", &reset).await.status, 303);
    assert!(users.tokens("eve").await.expect("a list").is_empty());
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_of_a_page_is_recorded_once() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    assert_eq!(call(node.address(), "GET", "/ui/users", &[PAGE], "").await.status, 303);
    let browser = Browser::log_in(node.address(), "ada").await;
    let token = browser.token().await;
    let done = browser.post("/ui/operations/verify", &[("token", &token)]).await;
    assert_eq!((done.status, done.header("location")), (303, Some("/ui/operations?done=started")));
    let made = [("token", token.as_str()), ("login", "bob"), ("password", PASSWORD)];
    assert_eq!(browser.post("/ui/users", &made).await.status, 303);
    node.context().audit().flush().await;
    let page = browser.get("/ui/audit").await.body;
    assert!(!page.contains("badge bad"), "who has yet to log in tried nothing: {page}");
    let count = |text: &str| page.matches(text).count();
    assert_eq!(count("POST /ui/operations/verify"), 2, "begun and ended: {page}");
    assert_eq!(count("POST /admin/verify"), 0, "{page}");
    assert_eq!(count("log in to the console"), 1, "{page}");
    assert_eq!((count("POST /ui/users"), count(">bob: no groups<")), (2, 1), "{page}");
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_nobody_says_so_and_still_wants_its_own_forms() {
    let directory = TempDir::new().expect("a directory");
    let node = open_server(directory.path()).await;
    let browser = Browser { at: node.address(), cookie: "none=1".to_owned() };
    let page = browser.get("/ui/").await;
    assert!(page.status == 200 && page.body.contains("asks nobody who they are"), "{}", page.body);
    assert_eq!(browser.get("/ui/login").await.status, 303, "there is nothing to log in to");
    let missing = browser.get("/ui/streams/orders-1").await;
    assert!(missing.body.contains("There is no such stream"), "{}", missing.body);
    let (_, rest) = missing.body.split_once("name=\"token\" value=\"").expect("a form");
    let token = rest.split('"').next().expect("its end");
    let fields = [("type", "Ordered"), ("data", "{\"n\":12345678901234567890.10}")];
    let event = [&fields[..], &[("expected", "no_stream"), ("token", token)]].concat();
    assert_eq!(browser.post("/ui/streams/orders-1/append", &fields).await.status, 400);
    assert_eq!(browser.post("/ui/streams/orders-1/append", &event).await.status, 303);
    assert_eq!(
        browser.post("/ui/streams/orders-1/append", &event).await.status,
        409,
        "it is there"
    );
    let shown = browser.get("/ui/streams/orders-1/0").await.body;
    assert!(shown.contains("12345678901234567890.10"), "as it was typed: {shown}");
    let raw = browser.get("/ui/streams/orders-1/0/data").await;
    assert_eq!(raw.body, "{\"n\":12345678901234567890.10}");
    assert_eq!(raw.header("content-type"), Some("application/octet-stream"));
    let wrong = [("confirm", "orders-2"), ("token", token)];
    assert_eq!(browser.post("/ui/streams/orders-1/delete", &wrong).await.status, 400);
    let right = [("confirm", "orders-1"), ("token", token)];
    assert_eq!(browser.post("/ui/streams/orders-1/delete", &right).await.status, 303);
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_offered_to_whom_its_list_names() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    add(&node, "audrey", &["auditors"]).await;
    add(&node, "bob", &["$ops"]).await;
    let [ada, audrey, bob] = [
        Browser::log_in(node.address(), "ada").await,
        Browser::log_in(node.address(), "audrey").await,
        Browser::log_in(node.address(), "bob").await,
    ];
    let offered =
        async |browser: &Browser| browser.get("/ui/").await.body.contains("href=\"/ui/audit\"");
    let to = [offered(&ada).await, offered(&audrey).await, offered(&bob).await];
    assert_eq!(to, [true, false, false]);
    let proof = crate::authentication::basic("ada", PASSWORD);
    let headers = [("authorization", proof.as_str()), ("content-type", "application/json")];
    let (path, lists) = ("/v1/streams/$audit/metadata", r#"{"$acl":{"$r":"auditors"}}"#);
    assert_eq!(call(node.address(), "PUT", path, &headers, lists).await.status, 200);
    let to = [offered(&ada).await, offered(&audrey).await, offered(&bob).await];
    assert_eq!(to, [true, true, false]);
    assert_eq!(audrey.get("/ui/audit").await.status, 200);
    let token = audrey.token().await;
    assert_eq!(audrey.post("/ui/logout", &[("token", &token)]).await.status, 303);
    let told = || async { ada.get("/ui/audit").await.body.contains("log out of the console") };
    until("it is told that she left", told).await;
    node.stop(PATIENCE).await;
}
