//! Users on a store in memory.

use std::pin::pin;
use std::sync::Arc;

use daybook_log::disk::sim::SimDisk;
use daybook_model::{SystemClock, SystemEntropy};
use daybook_store::{Environment, Options};

use super::*;

fn store() -> Store {
    let environment = Environment {
        disk: Arc::new(SimDisk::new(7)),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
    };
    Store::open(environment, Options::default()).expect("a store")
}

fn ada() -> NewUser {
    NewUser {
        login: "ada".to_owned(),
        full_name: "Ada Lovelace".to_owned(),
        groups: vec!["$admins".to_owned()],
        password: "analytical engine".to_owned(),
    }
}

async fn knows(users: &Users, login: &str, password: &str) -> bool {
    users.verify(login, password.to_owned()).await.expect("an answer").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_created_changed_and_deleted() {
    let store = store();
    let users = Users::new(store.clone(), Arc::new(SystemEntropy));
    assert_eq!(users.all().await.expect("a list"), []);
    assert!(!knows(&users, "admin", "changeit").await, "nobody is there by default");
    users.create(ada()).await.expect("created");
    assert!(matches!(users.create(ada()).await, Err(UsersError::Conflict { .. })));
    assert!(knows(&users, "ada", "analytical engine").await);
    assert!(!knows(&users, "ada", "difference engine").await);

    users.update("ada", "Countess", &["$ops".to_owned()]).await.expect("updated");
    let shown = users.user("ada").await.expect("a user");
    assert_eq!(
        (shown.full_name.as_str(), shown.groups.as_slice()),
        ("Countess", &["$ops".to_owned()][..])
    );

    users.set_standing("ada", Standing::Disabled).await.expect("disabled");
    assert!(users.user("ada").await.expect("a user").disabled);
    assert!(!knows(&users, "ada", "analytical engine").await, "disabled");
    users.set_standing("ada", Standing::Enabled).await.expect("enabled");
    let before = store.committed();
    users.set_standing("ada", Standing::Enabled).await.expect("nothing to do");
    assert_eq!(store.committed(), before, "what is so already is not written");

    let wrong = users.change_password("ada", "wrong".to_owned(), "a new password".to_owned());
    assert!(matches!(wrong.await, Err(UsersError::WrongPassword { .. })));
    let right = "analytical engine".to_owned();
    users.change_password("ada", right, "a new password".to_owned()).await.expect("changed");
    assert!(knows(&users, "ada", "a new password").await);
    users.reset_password("ada", "yet another".to_owned()).await.expect("reset");
    assert!(!knows(&users, "ada", "a new password").await);

    users.delete("ada").await.expect("deleted");
    assert!(matches!(users.user("ada").await, Err(UsersError::NotFound { .. })));
    assert!(matches!(users.delete("ada").await, Err(UsersError::NotFound { .. })));
    assert!(!knows(&users, "ada", "yet another").await);
    users.create(ada()).await.expect("another one");
    users.create(NewUser { login: "bob".to_owned(), ..ada() }).await.expect("a second");
    let logins: Vec<String> =
        users.all().await.expect("a list").into_iter().map(|user| user.login).collect();
    assert_eq!(logins, ["ada", "bob"]);
    // Another process finds the same.
    let again = Users::new(store.clone(), Arc::new(SystemEntropy));
    assert!(knows(&again, "ada", "analytical engine").await);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_knows_the_old_password_does_not_overwrite_the_one_that_was_set_meanwhile() {
    let users = Users::new(store(), Arc::new(SystemEntropy));
    users.create(ada()).await.expect("created");
    let (old, of_a_thief) = ("analytical engine".to_owned(), "difference engine".to_owned());
    let mut changing = pin!(users.change_password("ada", old, of_a_thief));
    // It has read the old one, and looks whether that is right.
    assert!(futures_util::poll!(&mut changing).is_pending());
    users.reset_password("ada", "a safe one".to_owned()).await.expect("reset");
    assert!(matches!(changing.await, Err(UsersError::WrongPassword { .. })));
    assert!(knows(&users, "ada", "a safe one").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_record_can_be_read_and_no_password_is_in_it() {
    let store = store();
    let users = Users::new(store.clone(), Arc::new(SystemEntropy));
    users.create(ada()).await.expect("created");
    users.reset_password("ada", "another one".to_owned()).await.expect("reset");
    let query = ReadStream {
        stream: name("$user-ada").expect("a name"),
        from: From::Start,
        direction: Direction::Forwards,
        count: u64::MAX,
    };
    let mut reader = store.read_stream(query).await.expect("a reader");
    let page = reader.next().await.expect("a page").expect("events");
    let events: Vec<_> = page.events().collect();
    assert_eq!(events.len(), 1, "the old password is hidden, and goes with a scavenge");
    assert_eq!(events[0].event_type, "$PasswordChanged");
    let text = std::str::from_utf8(events[0].data).expect("text");
    assert!(!text.contains("another one") && text.contains("argon2id"), "{text}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_password_of_a_deleted_user_is_readable() {
    let store = store();
    let users = Users::new(store.clone(), Arc::new(SystemEntropy));
    users.create(ada()).await.expect("created");
    users.delete("ada").await.expect("deleted");
    let query = ReadStream {
        stream: name("$user-ada").expect("a name"),
        from: From::Start,
        direction: Direction::Forwards,
        count: u64::MAX,
    };
    let mut reader = store.read_stream(query).await.expect("a reader");
    let page = reader.next().await.expect("a page").expect("events");
    let events: Vec<_> = page.events().collect();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event_type, "$UserDeleted");
    let text = std::str::from_utf8(events[0].data).expect("text");
    assert!(text.contains("\"loginName\":\"ada\"") && !text.contains("argon2id"), "{text}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_nobody_can_have_costs_the_same_whoever_is_asked_for() {
    let store = store();
    let users = Users::new(store.clone(), Arc::new(SystemEntropy));
    users.create(ada()).await.expect("created");
    users.passwords.refuse_all();
    for (size, hashed) in [(PASSWORD_SIZE_MAX, true), (PASSWORD_SIZE_MAX + 1, false)] {
        for login in ["ada", "nobody"] {
            let answer = users.verify(login, "x".repeat(size)).await;
            let is_hashed = matches!(answer, Err(UsersError::Busy));
            assert_eq!(is_hashed, hashed, "{login}, {size} bytes: {answer:?}");
        }
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_create_the_same_user_do_not_both_succeed() {
    let store = store();
    let users = Users::new(store.clone(), Arc::new(SystemEntropy));
    let (one, other) = tokio::join!(users.create(ada()), users.create(ada()));
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    assert_eq!(users.all().await.expect("a list").len(), 1);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_rule_is_refused() {
    let store = store();
    let users = Users::new(store.clone(), Arc::new(SystemEntropy));
    let with = |change: fn(&mut NewUser)| {
        let mut new = ada();
        change(&mut new);
        new
    };
    for (new, part) in [
        (with(|new| new.login.clear()), "login_name"),
        (with(|new| new.login = "a:b".to_owned()), "login_name"),
        (with(|new| new.login = "$admins".to_owned()), "login_name"),
        (with(|new| new.login = "a\nb".to_owned()), "login_name"),
        (with(|new| new.login = "x".repeat(257)), "login_name"),
        (with(|new| new.full_name = "x".repeat(1025)), "full_name"),
        (with(|new| new.groups = vec![String::new()]), "groups"),
        (with(|new| new.groups = vec!["g".to_owned(); 101]), "groups"),
        (with(|new| new.password.clear()), "password"),
        (with(|new| new.password = "x".repeat(1025)), "password"),
    ] {
        let refused = users.create(new).await.expect_err(part);
        let UsersError::Invalid { what, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(what, part);
    }
    assert_eq!(users.all().await.expect("a list"), []);
    store.close().await;
}
