//! What people see of the consumers of groups.

use std::net::SocketAddr;

use daybook_client::Client;
use daybook_client::persistent::{Group, GroupSettings, GroupStart};
use tempfile::TempDir;

use crate::support::events::name;
use crate::support::http::get;
use crate::support::node::Server;

#[tokio::test]
async fn consumers_are_shown_by_their_login_and_their_address() {
    let directory = TempDir::new().expect("a directory");
    let server = Server::start(directory.path()).await;
    let address = server.address();
    let group = Group::of_stream(name("s"), "g");
    let groups = server.client.persistent();
    let settings = GroupSettings::default();
    groups.create(&group, &settings, GroupStart::Start).await.expect("a group");
    // Nobody asks for the password yet.
    let mut consumers = Vec::new();
    for url in [
        format!("daybook://ada:a%20secret@{address}?tls=false&connectionName=mailer"),
        format!("daybook://{address}?tls=false"),
    ] {
        let groups = Client::new(&url).expect("a client").persistent();
        consumers.push(groups.consume(&group, 10).await.expect("a consumer"));
    }
    let info = get(address, "/subscriptions/s/g/info").await.json();
    let shown = info["connections"].as_array().expect("connections");
    let [ada, nobody] = &shown[..] else { panic!("{info}") };
    assert_eq!((&ada["username"], &ada["connectionName"]), (&"ada".into(), &"mailer".into()));
    assert_eq!(nobody["username"], "anonymous");
    let from = |one: &serde_json::Value| {
        let text = one["from"].as_str().expect("text");
        text.parse::<SocketAddr>().unwrap_or_else(|_| panic!("'{text}' is no address"))
    };
    assert!(from(ada).ip().is_loopback() && from(ada) != from(nobody), "{info}");
    assert!(!info.to_string().contains("secret"));
    drop(consumers);
    server.stop().await;
}
