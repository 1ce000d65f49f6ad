//! What the tests of the network stand on: nodes that are not event stores but answer like some,
//! certificates, and a network that misbehaves.
//!
//! INVARIANT: nothing here asserts anything about the client; that is the tests' part.
#![allow(dead_code, reason = "each test uses a part")]

pub mod node;
pub mod pki;
pub mod proxy;

use std::future::Future;
use std::time::Duration;

use daybook_client::{
    AppendError, Client, ContentType, ExpectedRevision, NewEvent, Settings, StreamName,
};

/// Longer than anything here takes, also on a busy machine; what takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a state is looked at that nobody announces.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// `future`'s result; fails as `what` if there is none in time.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited too long: {what}"))
}

/// Waits until `reached` says so, and fails as `what` if it never does.
pub async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let look = async {
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        while !reached() {
            interval.tick().await;
        }
    };
    soon(what, look).await;
}

/// A client by a connection string.
pub fn client(connection_string: &str) -> Client {
    Client::with(Settings::parse(connection_string).expect("settings")).expect("a client")
}

/// Appends an event over `client`: the number of the node that took it.
pub async fn append(client: &Client) -> Result<u64, AppendError> {
    let event = NewEvent {
        id: uuid::Uuid::nil(),
        event_type: "T".to_owned(),
        content_type: ContentType::Binary,
        metadata: "".into(),
        data: "".into(),
    };
    let stream = StreamName::new("s").expect("a name");
    let appended = client.append(&stream, ExpectedRevision::Any, vec![event]);
    let appended = soon("an append", appended).await?;
    Ok(appended.checkpoint.expect("the node's number").0)
}

/// Fails unless `text` has all of `words`.
#[track_caller]
pub fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "'{word}' is missing in: {text}");
    }
}
