//! Who is believed, on users in memory.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use daybook_log::disk::sim::SimDisk;
use daybook_model::{SystemClock, SystemEntropy, Timestamp};
use daybook_store::{Environment, Options, Store};

use super::*;
use crate::security::lockout::PAIR_MAX;
use crate::telemetry::metrics::Metrics;
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
