//! What operators call over gRPC: users, operations, numbers. The projections of the system are
//! called by the official clients, in `tests/interop`.

use daybook_wire::proto::monitoring::StatsReq;
use daybook_wire::proto::monitoring::monitoring_client::MonitoringClient;
use daybook_wire::proto::operations::operations_client::OperationsClient;
use daybook_wire::proto::operations::scavenge_resp::ScavengeResult;
use daybook_wire::proto::operations::{
    SetNodePriorityReq, StartScavengeReq, StopScavengeReq, stop_scavenge_req,
};
use daybook_wire::proto::shared::Empty;
use daybook_wire::proto::users as proto;
use daybook_wire::proto::users::details_resp::UserDetails;
use daybook_wire::proto::users::users_client::UsersClient;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::support::daemon::Daemon;
use crate::support::node::Server;
use crate::support::{assert_says, soon};

async fn channel(address: std::net::SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
    endpoint.connect().await.expect("a connection")
}

fn login(status: &Status) -> (Code, &str, &str, &str) {
    let said = |key| status.metadata().get(key).map_or("", |value| value.to_str().expect("text"));
    (status.code(), status.message(), said("exception"), said("login-name"))
}

fn new_user(login: &str, password: &str) -> proto::CreateReq {
    let options = proto::create_req::Options {
        login_name: login.to_owned(),
        password: password.to_owned(),
        full_name: "Ada Lovelace".to_owned(),
        groups: vec!["$admins".to_owned(), "engine".to_owned()],
    };
    proto::CreateReq { options: Some(options) }
}

async fn details(
    users: &mut UsersClient<Channel>,
    login: &str,
) -> Result<Vec<UserDetails>, Status> {
    let options = proto::details_req::Options { login_name: login.to_owned() };
    let asked = proto::DetailsReq { options: Some(options) };
    let mut answers = users.details(asked).await?.into_inner();
    let mut found = Vec::new();
    while let Some(answer) = answers.message().await? {
        found.push(answer.user_details.expect("details"));
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_managed_with_the_protocol_s_words() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let mut users = UsersClient::new(channel(server.address()).await);
    assert_eq!(details(&mut users, "").await.expect("a list"), []);
    let missing = details(&mut users, "ada").await.expect_err("nobody");
    let words = (Code::NotFound, "User 'ada' is not found.", "user-not-found", "ada");
    assert_eq!(login(&missing), words);

    users.create(new_user("ada", "analytical engine")).await.expect("created");
    let again = users.create(new_user("ada", "analytical engine")).await.expect_err("a second");
    let words = (Code::FailedPrecondition, "Conflict.", "user-conflict", "ada");
    assert_eq!(login(&again), words);
    let none = users.create(new_user("bob", "")).await.expect_err("no password");
    assert_eq!(none.code(), Code::InvalidArgument);
    let found = details(&mut users, "").await.expect("a list");
    let [ada] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((ada.full_name.as_str(), ada.disabled), ("Ada Lovelace", false));
    assert_eq!(ada.groups, ["$admins", "engine"]);
    assert!(ada.last_updated.expect("a time").ticks_since_epoch > 0);

    let named =
        |login_name: &str| proto::disable_req::Options { login_name: login_name.to_owned() };
    users.disable(proto::DisableReq { options: Some(named("ada")) }).await.expect("disabled");
    assert!(details(&mut users, "ada").await.expect("a user")[0].disabled);
    let options = proto::enable_req::Options { login_name: "ada".to_owned() };
    users.enable(proto::EnableReq { options: Some(options) }).await.expect("enabled");

    let change = |current: &str| proto::ChangePasswordReq {
        options: Some(proto::change_password_req::Options {
            login_name: "ada".to_owned(),
            current_password: current.to_owned(),
            new_password: "difference engine".to_owned(),
        }),
    };
    let denied = users.change_password(change("wrong")).await.expect_err("wrong");
    assert_eq!(login(&denied), (Code::PermissionDenied, "Access Denied", "access-denied", ""));
    users.change_password(change("analytical engine")).await.expect("changed");
    users.change_password(change("difference engine")).await.expect("the new one counts");
    let options = proto::reset_password_req::Options {
        login_name: "ada".to_owned(),
        new_password: "yet another one".to_owned(),
    };
    users.reset_password(proto::ResetPasswordReq { options: Some(options) }).await.expect("reset");
    let options = proto::update_req::Options {
        login_name: "ada".to_owned(),
        full_name: "Countess".to_owned(),
        ..Default::default()
    };
    users.update(proto::UpdateReq { options: Some(options) }).await.expect("updated");
    assert_eq!(details(&mut users, "ada").await.expect("a user")[0].full_name, "Countess");

    server.stop().await;
    let server = Server::start(data.path()).await;
    let mut users = UsersClient::new(channel(server.address()).await);
    assert_eq!(details(&mut users, "").await.expect("a list").len(), 1, "they are in the log");
    let options = proto::delete_req::Options { login_name: "ada".to_owned() };
    users.delete(proto::DeleteReq { options: Some(options) }).await.expect("deleted");
    assert_eq!(details(&mut users, "").await.expect("a list"), []);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_do_what_one_node_can() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let mut operations = OperationsClient::new(channel(server.address()).await);
    let begun = operations.start_scavenge(StartScavengeReq::default()).await.expect("begun");
    let begun = begun.into_inner();
    assert_eq!(begun.scavenge_result(), ScavengeResult::Started);
    Uuid::try_parse(&begun.scavenge_id).expect("a UUID");
    for id in [Uuid::nil().to_string(), "no id".to_owned()] {
        let options = stop_scavenge_req::Options { scavenge_id: id.clone() };
        let unknown = operations.stop_scavenge(StopScavengeReq { options: Some(options) }).await;
        let unknown = unknown.expect_err("not running");
        assert_eq!(
            (unknown.code(), unknown.message()),
            (Code::NotFound, "Scavenge id was invalid.")
        );
        assert_eq!(unknown.metadata().get("exception").expect("a trailer"), "scavenge-not-found");
        assert_eq!(unknown.metadata().get("scavenge-id").expect("a trailer"), id.as_str());
    }
    operations.merge_indexes(Empty {}).await.expect("done");
    operations.resign_node(Empty {}).await.expect("done");
    operations.set_node_priority(SetNodePriorityReq { priority: 3 }).await.expect("done");
    operations.restart_persistent_subscriptions(Empty {}).await.expect("done");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_come_at_once_and_then_each_period() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let mut monitoring = MonitoringClient::new(channel(server.address()).await);
    let asked = StatsReq { use_metadata: false, refresh_time_period_in_ms: 100 };
    let mut numbers = monitoring.stats(asked).await.expect("a call").into_inner();
    for _ in 0..2 {
        let told = soon("numbers", numbers.message()).await.expect("no error").expect("numbers");
        assert_eq!(told.stats["daybook-events"], "1");
        assert_eq!(told.stats["proc-id"], std::process::id().to_string());
    }
    let stopping = server.stop();
    let (ended, ()) = tokio::join!(
        async {
            loop {
                match numbers.message().await {
                    Ok(Some(_)) => {}
                    ended => return ended,
                }
            }
        },
        stopping
    );
    assert_eq!(ended.expect_err("the server stops").code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_ends_the_process_as_a_signal_does() {
    let data = TempDir::new().expect("a directory");
    let daemon = Daemon::start(data.path());
    let mut operations = OperationsClient::new(channel(daemon.address).await);
    operations.shutdown(Empty {}).await.expect("an answer before the end");
    drop(operations);
    let (status, said) = tokio::task::spawn_blocking(|| daemon.wait()).await.expect("no panic");
    assert_eq!(status.code(), Some(0), "{said}");
    assert_says(&said, &["Operations.Shutdown", "stopped"]);
}
