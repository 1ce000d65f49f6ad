//! API tokens on a store in memory.

use std::sync::Arc;

use daybook_log::disk::sim::SimDisk;
use daybook_model::{SystemClock, SystemEntropy};
use daybook_store::{Environment, Options, Store};

use super::*;
use crate::users::{NewUser, Standing};

const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);
const DAY: i64 = 24 * 60 * 60 * 1_000_000_000;

async fn ada(groups: &[&str]) -> Users {
    let environment = Environment {
        disk: Arc::new(SimDisk::new(7)),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
    };
    let store = Store::open(environment, Options::default()).expect("a store");
    let users = Users::new(store, Arc::new(SystemEntropy));
    users.create(new_ada(groups)).await.expect("created");
    users
}

fn new_ada(groups: &[&str]) -> NewUser {
    NewUser {
        login: "ada".to_owned(),
        full_name: "Ada".to_owned(),
        groups: texts(groups),
        password: "analytical engine".to_owned(),
    }
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|&text| text.to_owned()).collect()
}

fn new(groups: Option<&[&str]>) -> NewApiToken {
    NewApiToken {
        login: "ada".to_owned(),
        name: "ci".to_owned(),
        groups: groups.map(texts),
        created_by: Some("root".to_owned()),
        expires: None,
    }
}

/// The groups of whom a secret stands for.
async fn groups(users: &Users, secret: &Secret, now: Timestamp) -> Option<Vec<String>> {
    match users.bearer(&secret.hash(), now).await.expect("an answer") {
        Bearer::Good(user, token) => {
            assert_eq!((user.login.as_str(), token.login.as_str()), ("ada", "ada"));
            Some(user.groups)
        }
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_its_users_as_long_as_both_may_call() {
    let users = ada(&["$ops", "sales"]).await;
    let (shown, secret) = users.create_token(new(None), NOW).await.expect("made");
    assert_eq!(users.tokens("ada").await.expect("a list"), std::slice::from_ref(&shown));
    assert_eq!(shown.expires.0 - NOW.0, 90 * DAY);
    let all = Some(texts(&["$ops", "sales"]));
    assert_eq!(groups(&users, &secret, NOW).await, all);
    assert_eq!(groups(&users, &Secret::draw(&SystemEntropy), NOW).await, None, "another");

    users.update("ada", "Ada", &texts(&["sales"])).await.expect("updated");
    assert_eq!(groups(&users, &secret, NOW).await, Some(texts(&["sales"])), "as the user is");
    users.set_standing("ada", Standing::Disabled).await.expect("disabled");
    assert_eq!(groups(&users, &secret, NOW).await, None);
    users.set_standing("ada", Standing::Enabled).await.expect("enabled");
    assert!(groups(&users, &secret, NOW).await.is_some());

    let end = Timestamp(NOW.0 + 90 * DAY);
    assert!(groups(&users, &secret, Timestamp(end.0 - 1)).await.is_some());
    let over = users.bearer(&secret.hash(), end).await.expect("an answer");
    assert!(matches!(over, Bearer::Expired), "{over:?}");

    let before = users.generation();
    assert_eq!(users.revoke_token(&shown.id).await.expect("revoked").id, shown.id);
    assert_ne!(users.generation(), before, "whoever follows something is asked again");
    assert_eq!(groups(&users, &secret, NOW).await, None);
    let again = users.revoke_token(&shown.id).await;
    assert!(matches!(again, Err(UsersError::TokenNotFound { .. })), "{again:?}");
    assert_eq!(users.tokens("ada").await.expect("a list"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_user_of_the_same_login_has_none_of_its_tokens() {
    let users = ada(&[]).await;
    let (_, secret) = users.create_token(new(None), NOW).await.expect("made");
    users.delete("ada").await.expect("deleted");
    assert_eq!(groups(&users, &secret, NOW).await, None);
    assert_eq!(users.tokens("ada").await.expect("a list"), []);
    let missing = users.create_token(new(None), NOW).await.map(|_| ());
    assert!(matches!(missing, Err(UsersError::NotFound { .. })), "{missing:?}");
    users.create(new_ada(&["$admins"])).await.expect("another one");
    assert_eq!(groups(&users, &secret, NOW).await, None);
    assert_eq!(users.tokens("ada").await.expect("a list"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_have_fewer_groups_and_is_never_less_confined() {
    let users = ada(&["$ops", "sales", "tenant:acme."]).await;
    for (named, has) in [
        (None, &["$ops", "sales", "tenant:acme."][..]),
        (Some(&["sales"][..]), &["sales", "tenant:acme."]),
        (Some(&[]), &["tenant:acme."]),
    ] {
        let (_, secret) = users.create_token(new(named), NOW).await.expect("made");
        assert_eq!(groups(&users, &secret, NOW).await, Some(texts(has)), "{named:?}");
    }
    let (_, secret) = users.create_token(new(Some(&["$ops"])), NOW).await.expect("made");
    users.update("ada", "Ada", &texts(&["sales", "tenant:b."])).await.expect("updated");
    assert_eq!(groups(&users, &secret, NOW).await, Some(texts(&["tenant:b."])));
    for wrong in ["$admins", "tenant:b."] {
        let refused = users.create_token(new(Some(&[wrong])), NOW).await.map(|_| ());
        assert!(matches!(refused, Err(UsersError::Invalid { what: "groups", .. })), "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_so_many_and_each_so_long() {
    let users = ada(&[]).await;
    for _ in 0..TOKENS_PER_USER_MAX {
        users.create_token(new(None), NOW).await.expect("made");
    }
    let refused = users.create_token(new(None), NOW).await.map(|_| ());
    assert!(matches!(refused, Err(UsersError::TooManyTokens { .. })), "{refused:?}");
    let later = Timestamp(NOW.0 + 91 * DAY);
    users.create_token(new(None), later).await.expect("those that have ended make room");
    assert_eq!(users.tokens("ada").await.expect("a list").len(), 1);
    for (days, good) in [(-1, false), (0, false), (1, true), (366, true), (367, false)] {
        let expires = Some(Timestamp(NOW.0 + days * DAY));
        let made = users.create_token(NewApiToken { expires, ..new(None) }, NOW).await;
        assert_eq!(made.is_ok(), good, "{days} days");
    }
    for name in [String::new(), "x".repeat(NAME_SIZE_MAX + 1), "a\nb".to_owned()] {
        let refused = users.create_token(NewApiToken { name, ..new(None) }, NOW).await;
        assert!(matches!(refused, Err(UsersError::Invalid { what: "name", .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_log_and_what_is_there_is_the_users() {
    let users = ada(&[]).await;
    let (shown, secret) = users.create_token(new(None), NOW).await.expect("made");
    let text = secret.text();
    for stream in [format!("$user-$token-{}", shown.id), "$user-$tokens-ada".to_owned()] {
        let stream = name(&stream).expect("a name");
        assert_eq!(stream.owner(), Some(daybook_model::Owner::Users), "nobody else writes it");
        let event = users.last_event(stream).await.expect("read").expect("an event");
        let data = String::from_utf8(event.data).expect("text");
        assert!(!data.contains(&text[4..68]), "{data}");
        assert!(data.contains(&secret.hash().to_hex()[..]) || data == "ada", "{data}");
    }
    assert_eq!(users.token(&shown.id).await.expect("read"), Some(shown));
    for id in ["", "0000000000000000", "../../admin"] {
        assert_eq!(users.token(id).await.expect("read"), None, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_listed_user_by_user() {
    let users = ada(&[]).await;
    for login in ["bob", "eve"] {
        users.create(NewUser { login: login.to_owned(), ..new_ada(&[]) }).await.expect("created");
        let new = NewApiToken { login: login.to_owned(), ..new(None) };
        users.create_token(new, NOW).await.expect("made");
    }
    users.create_token(new(None), NOW).await.expect("made");
    users.create_token(new(None), NOW).await.expect("made");
    let logins = |tokens: Vec<ApiToken>| {
        tokens.into_iter().map(|token| token.login).collect::<Vec<_>>().join(" ")
    };
    let page = async |after, limit| logins(users.all_tokens(after, limit).await.expect("a page"));
    assert_eq!(page(None, 100).await, "ada ada bob eve");
    assert_eq!(page(None, 1).await, "ada ada", "whole users");
    assert_eq!(page(Some("ada"), 1).await, "bob");
    assert_eq!(page(Some("eve"), 1).await, "");
}
