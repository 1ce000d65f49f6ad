//! Groups of consumers show nobody what it may not read.

use daybook::users::NewUser;
use daybook_client::persistent::{Group, GroupError, GroupSettings, GroupStart};
use daybook_client::{Client, ExpectedRevision, NewEvent};
use tempfile::TempDir;
use uuid::Uuid;

use crate::authentication::{PASSWORD, client, server};
use crate::support::events::name;
use crate::support::{PATIENCE, soon};

/// Whom the metadata of a stream lets read it.
async fn let_read(client: &Client, stream: &str, whom: &str) {
    let metadata = format!("{{\"$acl\":{{\"$r\":\"{whom}\"}}}}");
    let event = NewEvent::json(Uuid::new_v4(), "$metadata", metadata.into_bytes());
    let stream = name(&format!("$${stream}"));
    client.append(&stream, ExpectedRevision::Any, vec![event]).await.expect("set");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_somebody_wrote_opens_nothing_also_through_an_index() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    let bob = NewUser {
        login: "bob".to_owned(),
        full_name: "Bob".to_owned(),
        groups: Vec::new(),
        password: PASSWORD.to_owned(),
    };
    node.context().users().create(bob).await.expect("created");
    let (ada, bob) =
        (client(node.address(), "ada", PASSWORD), client(node.address(), "bob", PASSWORD));
    let_read(&ada, "$ce-mail", "bob").await;
    let_read(&ada, "secret-1", "ada").await;
    let settings = GroupSettings { resolve_links: true, ..GroupSettings::default() };
    let group = Group::of_stream(name("$ce-mail"), "readers");
    ada.persistent().create(&group, &settings, GroupStart::Start).await.expect("a group");
    let secret = NewEvent::json(Uuid::new_v4(), "Secret", b"\"hidden\"".to_vec());
    ada.append(&name("secret-1"), ExpectedRevision::Any, vec![secret]).await.expect("appended");
    let written: [(&str, &[u8]); 4] =
        [("$>", b"0@$user-ada"), ("$>", b"0@secret-1"), ("$>", b"0@$audit"), ("Told", b"\"open\"")];
    let events = written.map(|(kind, data)| NewEvent::json(Uuid::new_v4(), kind, data.to_vec()));
    bob.append(&name("mail-1"), ExpectedRevision::Any, events.into()).await.expect("appended");
    let mut consumer = bob.persistent().consume(&group, 10).await.expect("a consumer");
    let mut told = String::new();
    while !told.contains("open") {
        let message = soon("a message", consumer.next()).await.expect("a message");
        message.ack().await.expect("told");
        told.push_str(&format!("{:?}\n", message.resolved));
    }
    for secret in ["argon2", "hidden", "$ActionBegun", "$UserCreated"] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_on_the_whole_log_is_the_administrators() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    let bob = NewUser {
        login: "bob".to_owned(),
        full_name: "Bob".to_owned(),
        groups: vec!["$ops".to_owned()],
        password: PASSWORD.to_owned(),
    };
    node.context().users().create(bob).await.expect("created");
    let (ada, bob) =
        (client(node.address(), "ada", PASSWORD), client(node.address(), "bob", PASSWORD));
    let_read(&ada, "$all", "bob").await;
    let group = Group::of_all("everything");
    let settings = GroupSettings::default();
    bob.persistent().create(&group, &settings, GroupStart::Start).await.expect("an operator may");
    let refused = match bob.persistent().consume(&group, 10).await {
        Err(error) => error,
        Ok(mut consumer) => {
            let next = soon("an answer", consumer.next()).await;
            next.map(|message| message.resolved).expect_err("refused")
        }
    };
    let text = match refused {
        GroupError::Call(error) => error.to_string(),
        other => other.to_string(),
    };
    assert!(text.contains("Access Denied") || text.contains("$admins"), "{text}");
    let mut consumer = ada.persistent().consume(&group, 10).await.expect("a consumer");
    soon("a message", consumer.next()).await.expect("a message");
    node.stop(PATIENCE).await;
}
