//! Who is believed, on users in memory.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use daybook_log::disk::sim::SimDisk;
use daybook_model::{SystemClock, SystemEntropy, Timestamp};
use daybook_store::{Environment, Options, Store};

use super::*;
use crate::security::Proof;
use crate::security::lockout::{ADDRESS_MAX, PAIR_MAX};
use crate::telemetry::metrics::Metrics;
use crate::users::api_tokens::NewApiToken;
use crate::users::api_tokens::secret::Secret;
use crate::users::{NewUser, Standing};

const PASSWORD: &str = "analytical engine";

async fn ada() -> (Authentication, Users) {
    let environment = Environment {
        disk: Arc::new(SimDisk::new(7)),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
    };
    let store = Store::open(environment, Options::default()).expect("a store");
    let users = Users::new(store, Arc::new(SystemEntropy));
    let ada = NewUser {
        login: "ada".to_owned(),
        full_name: "Ada Lovelace".to_owned(),
        groups: vec!["$ops".to_owned()],
        password: PASSWORD.to_owned(),
    };
    users.create(ada).await.expect("created");
    let metrics = Metrics::new().security;
    let clock = Arc::new(SystemClock::new());
    (Authentication::new(users.clone(), None, clock, &SystemEntropy, metrics), users)
}

fn with(pair: &str) -> Asked {
    let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
    Asked {
        authorization: Some(HeaderValue::from_str(&value).expect("a header")),
        peer: "10.0.0.1".parse().expect("an address"),
        certificate: None,
    }
}

fn shown(common_name: Option<&str>, not_after: Timestamp) -> Asked {
    let certificate = ClientCertificate {
        common_name: common_name.map(str::to_owned),
        fingerprint: "00".to_owned(),
        not_after,
    };
    Asked {
        authorization: None,
        peer: "10.0.0.1".parse().expect("an address"),
        certificate: Some(Arc::new(certificate)),
    }
}

const FAR: Timestamp = Timestamp(i64::MAX);

fn is(caller: Result<Caller, Refusal>, login: Option<&str>) -> bool {
    caller.is_ok_and(|caller| caller.login() == login)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_believed_until_it_is_another_or_its_user_may_not_call() {
    let (asks, users) = ada().await;
    let right = || with("ada:analytical engine");
    for _ in 0..3 {
        let caller = asks.identify(right()).await.expect("ada");
        assert_eq!((caller.login(), caller.is_in("$ops")), (Some("ada"), true));
        assert_eq!((caller.proof(), caller.until()), (Proof::Password, None));
    }
    for wrong in ["ada:other", "ada:", ":", "bob:analytical engine", "$ada:x", ":x"] {
        assert_eq!(asks.identify(with(wrong)).await.err(), Some(Refusal::Wrong), "{wrong}");
    }
    users.update("ada", "Ada", &["$admins".to_owned()]).await.expect("updated");
    assert!(asks.identify(right()).await.expect("ada").is_admin(), "groups count at once");
    users.set_standing("ada", Standing::Disabled).await.expect("disabled");
    assert_eq!(asks.identify(right()).await.err(), Some(Refusal::Wrong));
    users.set_standing("ada", Standing::Enabled).await.expect("enabled");
    assert!(is(asks.identify(right()).await, Some("ada")));
    users.reset_password("ada", "difference engine".to_owned()).await.expect("changed");
    assert_eq!(asks.identify(right()).await.err(), Some(Refusal::Wrong));
    assert!(is(asks.identify(with("ada:difference engine")).await, Some("ada")));
    users.delete("ada").await.expect("deleted");
    assert_eq!(asks.identify(with("ada:difference engine")).await.err(), Some(Refusal::Wrong));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_with_the_same_credentials_are_looked_at_once() {
    let (asks, _users) = ada().await;
    let asks = Arc::new(asks);
    // More than may wait for a hash: each would be refused if each were looked at.
    let many: Vec<_> = (0..500)
        .map(|_| {
            let asks = asks.clone();
            tokio::spawn(async move { asks.identify(with("ada:analytical engine")).await })
        })
        .collect();
    for one in many {
        assert!(is(one.await.expect("no panic"), Some("ada")));
    }
    let many: Vec<_> = (0..500)
        .map(|_| {
            let asks = asks.clone();
            tokio::spawn(async move { asks.identify(with("ada:wrong")).await })
        })
        .collect();
    for one in many {
        let refused = one.await.expect("no panic").expect_err("wrong");
        assert!(matches!(refused, Refusal::Wrong | Refusal::LockedOut { .. }), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_refused_and_does_not_keep_out_who_is_known() {
    let (asks, users) = ada().await;
    let right = || with("ada:analytical engine");
    assert!(is(asks.identify(right()).await, Some("ada")));
    for number in 0..PAIR_MAX {
        let guess = asks.identify(with(&format!("ada:{number}"))).await;
        assert_eq!(guess.err(), Some(Refusal::Wrong));
    }
    let locked = asks.identify(with("ada:another")).await.expect_err("locked out");
    assert!(matches!(locked, Refusal::LockedOut { .. }), "{locked}");
    assert!(is(asks.identify(right()).await, Some("ada")), "from the same address");
    // A change of users takes no hash of what was right, and no attempt.
    users.update("ada", "Ada", &[]).await.expect("updated");
    assert!(is(asks.identify(right()).await, Some("ada")));
    let elsewhere = Asked { peer: "10.0.0.2".parse().expect("an address"), ..with("ada:guess") };
    assert_eq!(asks.identify(elsewhere).await.err(), Some(Refusal::Wrong), "another address");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_stands_for_the_user_of_its_name() {
    let (asks, users) = ada().await;
    let caller = asks.identify(shown(Some("ada"), FAR)).await.expect("ada");
    assert_eq!((caller.proof(), caller.until()), (Proof::Certificate, Some(FAR)));
    for nobody in [None, Some("bob"), Some(""), Some("$users")] {
        let refused = asks.identify(shown(nobody, FAR)).await.err();
        assert_eq!(refused, Some(Refusal::CertificateUnknown), "{nobody:?}");
    }
    let expired = asks.identify(shown(Some("ada"), Timestamp(1))).await.err();
    assert_eq!(expired, Some(Refusal::CertificateExpired));
    // Credentials outrank it, and are believed by themselves alone.
    let both = |pair| Asked { certificate: shown(Some("bob"), FAR).certificate, ..with(pair) };
    assert!(is(asks.identify(both("ada:analytical engine")).await, Some("ada")));
    let wrong = Asked { certificate: shown(Some("ada"), FAR).certificate, ..with("ada:wrong") };
    assert_eq!(asks.identify(wrong).await.err(), Some(Refusal::Wrong));
    users.set_standing("ada", Standing::Disabled).await.expect("disabled");
    let disabled = asks.identify(shown(Some("ada"), FAR)).await.err();
    assert_eq!(disabled, Some(Refusal::CertificateUnknown));
}

#[tokio::test]
async fn who_says_nothing_is_nobody() {
    let (asks, _users) = ada().await;
    let nobody = Asked { authorization: None, ..with("") };
    let caller = asks.identify(nobody).await.expect("nobody");
    assert_eq!((caller.login(), caller.proof()), (None, Proof::None));
    let token = Asked { authorization: Some(HeaderValue::from_static("Bearer a.b.c")), ..with("") };
    assert_eq!(asks.identify(token).await.err(), Some(Refusal::TokensOff));
}

fn bearer(token: &str) -> Asked {
    let value = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header");
    Asked { authorization: Some(value), ..with("") }
}

/// A token of Ada's, by its id and text.
async fn token(users: &Users) -> (String, String) {
    let new = NewApiToken {
        login: "ada".to_owned(),
        name: "ci".to_owned(),
        groups: None,
        created_by: None,
        expires: None,
    };
    let (token, secret) = users.create_token(new, SystemClock::new().now()).await.expect("made");
    (token.id, secret.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_token_stands_for_its_user_until_it_is_revoked() {
    let (asks, users) = ada().await;
    let (id, text) = token(&users).await;
    let caller = asks.identify(bearer(&text)).await.expect("ada");
    assert_eq!((caller.login(), caller.proof()), (Some("ada"), Proof::ApiToken));
    assert_eq!((caller.token(), caller.is_in("$ops")), (Some(id.as_str()), true));
    assert!(caller.until().is_some(), "what it follows ends with it");
    assert!(is(asks.identify(with(&format!("ada:{text}"))).await, Some("ada")), "as a password");
    let other = asks.identify(with(&format!("bob:{text}"))).await;
    assert_eq!(other.err(), Some(Refusal::Wrong), "of another");
    let cut = asks.identify(bearer(&text[..text.len() - 2])).await.err();
    assert_eq!(cut, Some(Refusal::ApiTokenNotWhole));

    let standing = caller.standing().expect("a user's").clone();
    let before = standing.now();
    assert!(standing.holds().await);
    users.revoke_token(&id).await.expect("revoked");
    assert!(standing.now() != before && !standing.holds().await);
    assert_eq!(asks.identify(bearer(&text)).await.err(), Some(Refusal::ApiToken));

    let (_, text) = token(&users).await;
    let caller = asks.identify(bearer(&text)).await.expect("ada");
    users.set_standing("ada", Standing::Disabled).await.expect("disabled");
    assert_eq!(asks.identify(bearer(&text)).await.err(), Some(Refusal::ApiToken));
    assert!(!caller.standing().expect("a user's").holds().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_goes_on_with_what_was_revoked_keeps_nobody_out() {
    let (asks, users) = ada().await;
    let revoked = Secret::draw(&SystemEntropy).text();
    for _ in 0..3 * ADDRESS_MAX {
        assert_eq!(asks.identify(bearer(&revoked)).await.err(), Some(Refusal::ApiToken));
        assert_eq!(asks.identify(with("ada:an old one")).await.err(), Some(Refusal::Wrong));
    }
    let (_, fresh) = token(&users).await;
    assert!(is(asks.identify(bearer(&fresh)).await, Some("ada")));
    assert!(is(asks.identify(with("ada:analytical engine")).await, Some("ada")));
    // What was wrong is looked at again when users have changed.
    users.reset_password("ada", "an old one".to_owned()).await.expect("changed");
    assert!(is(asks.identify(with("ada:an old one")).await, Some("ada")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_password_whose_request_is_cut_is_no_guess() {
    let (asks, _users) = ada().await;
    for _ in 0..PAIR_MAX + 5 {
        let mut asking = Box::pin(asks.identify(with("ada:analytical engine")));
        // It is looked at from here on; nobody waits for it.
        if let std::task::Poll::Ready(found) = futures_util::poll!(asking.as_mut()) {
            assert!(is(found, Some("ada")));
        }
    }
    assert!(is(asks.identify(with("ada:analytical engine")).await, Some("ada")));
    for number in 0..PAIR_MAX {
        let guess = asks.identify(with(&format!("ada:{number}"))).await;
        assert_eq!(guess.err(), Some(Refusal::Wrong));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_changes_a_password_guesses_at_the_one_there_is() {
    let (asks, users) = ada().await;
    let (here, there) = ("10.0.0.1", "10.0.0.2");
    let change = async |peer: &str, current: &str| {
        let passwords = (current.to_owned(), "difference engine".to_owned());
        asks.change_password("ada", peer.parse().expect("an address"), passwords).await
    };
    for _ in 0..PAIR_MAX {
        let wrong = change(here, "wrong").await.expect("looked at");
        assert!(matches!(wrong, Err(UsersError::WrongPassword { .. })), "{wrong:?}");
    }
    let locked = change(here, PASSWORD).await.expect_err("locked out");
    assert!(matches!(locked, Refusal::LockedOut { .. }), "{locked}");
    let at_the_door = asks.identify(with("ada:analytical engine")).await.expect_err("locked out");
    assert!(matches!(at_the_door, Refusal::LockedOut { .. }), "the same limit");
    change(there, PASSWORD).await.expect("looked at").expect("changed");
    assert!(users.verify("ada", "difference engine".to_owned()).await.expect("read").is_some());
}
