//! What only KurrentDB's Rust client calls, against the server at DAYBOOK_URL: users, operations,
//! statistics; and what it does in its own way: projections, structured ids, features on connect.
//!
//! The last line says how many cases passed and failed.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use futures::TryStreamExt as _;
use kurrentdb::operations::{Client as Operations, ScavengeStatus, StatsOptions};
use kurrentdb::{
    AppendToStreamOptions, Client, ClientSettings, Error, EventData, ProjectionClient,
    ReadStreamOptions, StreamState,
};
use uuid::Uuid;

type Done = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// A hanging call is a failure, not a hanging build.
const CASE_TIME_MAX: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> ExitCode {
    // Two providers of cryptography are compiled in by what this client depends on.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut outcome = Outcome { passed: 0, failed: 0 };
    outcome.case("events are appended and read", events()).await;
    outcome.case("users are managed", users()).await;
    outcome.case("a user that is not there is not found", no_user()).await;
    outcome.case("operations do what one node can", operations()).await;
    outcome.case("statistics come each period", statistics()).await;
    outcome.case("the system's projections are managed", projections()).await;
    println!("{} passed, {} failed", outcome.passed, outcome.failed);
    if outcome.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Outcome {
    passed: u32,
    failed: u32,
}

impl Outcome {
    async fn case(&mut self, name: &str, case: impl Future<Output = Done>) {
        match tokio::time::timeout(CASE_TIME_MAX, case).await {
            Ok(Ok(())) => {
                self.passed += 1;
                println!("ok      kurrentdb (Rust): {name}");
            }
            Ok(Err(error)) => {
                self.failed += 1;
                println!("FAILED  kurrentdb (Rust): {name}: {error}");
            }
            Err(_) => {
                self.failed += 1;
                println!("FAILED  kurrentdb (Rust): {name}: took longer than {CASE_TIME_MAX:?}");
            }
        }
    }
}

fn settings() -> Result<ClientSettings, Box<dyn std::error::Error + Send + Sync>> {
    let url = std::env::var("DAYBOOK_URL").unwrap_or_else(|_| "http://127.0.0.1:2113".to_owned());
    let address = url.trim_start_matches("http://");
    Ok(format!("kurrentdb://admin:changeit@{address}?tls=false").parse()?)
}

fn connect() -> Result<Operations, Box<dyn std::error::Error + Send + Sync>> {
    Ok(Operations::new(settings()?)?)
}

fn ensure(holds: bool, what: impl Into<String>) -> Done {
    if holds { Ok(()) } else { Err(what.into().into()) }
}

async fn events() -> Done {
    let client = Client::new(settings()?)?;
    let stream = format!("rust-{}", Uuid::new_v4());
    let sent: Vec<EventData> = (0..3)
        .map(|n| EventData::json("Happened", &serde_json::json!({ "n": n })))
        .collect::<Result<_, _>>()?;
    let options = AppendToStreamOptions::default().stream_state(StreamState::NoStream);
    let written = client.append_to_stream(stream.as_str(), &options, sent).await?;
    ensure(written.next_expected_version == 2, format!("{written:?}"))?;
    let mut read = client.read_stream(stream.as_str(), &ReadStreamOptions::default()).await?;
    let mut found = 0;
    while let Some(event) = read.next().await? {
        ensure(event.get_original_event().revision == found, format!("{event:?}"))?;
        found += 1;
    }
    ensure(found == 3, format!("{found} events"))
}

async fn users() -> Done {
    let client = connect()?;
    let login = format!("user-{}", Uuid::new_v4());
    let other = Default::default();
    client.create_user(&login, "one", "Ada", vec!["$ops".to_owned()], &other).await?;
    let again = client.create_user(&login, "one", "Ada", Vec::new(), &other).await;
    ensure(again.is_err(), "created twice")?;
    client.update_user(&login, "one", "Countess", vec!["engine".to_owned()], &other).await?;
    client.disable_user(&login, &other).await?;
    let found = details(&client, &login).await?;
    ensure(found == (login.clone(), "Countess".to_owned(), true), format!("{found:?}"))?;
    client.enable_user(&login, &other).await?;
    let wrong = client.change_user_password(&login, "wrong", "two", &other).await;
    ensure(matches!(wrong, Err(Error::AccessDenied)), format!("{wrong:?}"))?;
    client.change_user_password(&login, "one", "two", &other).await?;
    client.reset_user_password(&login, "three", &other).await?;
    client.change_user_password(&login, "three", "four", &other).await?;
    client.delete_user(&login, &other).await?;
    ensure(details(&client, &login).await.is_err(), "deleted, and still there")
}

async fn details(
    client: &Operations,
    login: &str,
) -> Result<(String, String, bool), Box<dyn std::error::Error + Send + Sync>> {
    let mut found = client.user_details(login, &Default::default()).await?;
    let user = found.next().await?.ok_or("no user")?;
    Ok((user.login, user.full_name, user.disabled))
}

async fn no_user() -> Done {
    let client = connect()?;
    let login = format!("user-{}", Uuid::new_v4());
    let other = Default::default();
    for refused in [
        client.delete_user(&login, &other).await,
        client.enable_user(&login, &other).await,
        client.disable_user(&login, &other).await,
        client.reset_user_password(&login, "one", &other).await,
    ] {
        ensure(matches!(refused, Err(Error::ResourceNotFound)), format!("{refused:?}"))?;
    }
    Ok(())
}

async fn operations() -> Done {
    let client = connect()?;
    let other = Default::default();
    let begun = client.start_scavenge(1, 0, &other).await?;
    let status = begun.status();
    ensure(
        matches!(status, ScavengeStatus::Started | ScavengeStatus::InProgress),
        format!("{begun:?}"),
    )?;
    let unknown = client.stop_scavenge(Uuid::new_v4().to_string(), &other).await;
    ensure(matches!(unknown, Err(Error::ResourceNotFound)), format!("{unknown:?}"))?;
    client.merge_indexes(&other).await?;
    client.resign_node(&other).await?;
    client.set_node_priority(1, &other).await?;
    client.restart_persistent_subscriptions(&other).await?;
    Ok(())
}

async fn statistics() -> Done {
    let client = connect()?;
    let options = StatsOptions::default().refresh_time(Duration::from_millis(200));
    let mut numbers = client.stats(&options).await?;
    for _ in 0..2 {
        let told = numbers.next().await?;
        ensure(told.0.contains_key("proc-mem"), format!("{told:?}"))?;
    }
    Ok(())
}

async fn projections() -> Done {
    let client = ProjectionClient::new(settings()?)?;
    let (name, other) = ("$by_event_type", Default::default());
    let listed: Vec<_> = client.list(&other).await?.try_collect().await?;
    ensure(listed.len() == 5, format!("{listed:?}"))?;
    client.disable(name, &other).await?;
    ensure(status(&client, name).await? == "Stopped", "not stopped")?;
    client.abort(name, &other).await?;
    ensure(status(&client, name).await? == "Aborted/Stopped", "not aborted")?;
    client.enable(name, &other).await?;
    ensure(status(&client, name).await? == "Running", "not running")?;
    client.reset(name, &other).await?;
    client.restart_subsystem(&other).await?;
    let missing = client.get_status("nothing", &other).await;
    ensure(matches!(missing, Err(Error::ResourceNotFound)), format!("{:?}", missing.err()))
}

async fn status(
    client: &ProjectionClient,
    name: &str,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let status = client.get_status(name, &Default::default()).await?.ok_or("no status")?;
    Ok(status.status)
}
