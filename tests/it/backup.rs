//! Backups of a real server, and what comes back of them.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daybook::backup::ArchiveSettings;
use daybook::node::Config;
use daybook_model::ExpectedRevision;
use daybook_store::{Append, Options};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::daemon::{Daemon, daybook, run, said, verify};
use crate::support::directory::{Stored, names, read_log};
use crate::support::events::{name, sized};
use crate::support::http::{get, post};
use crate::support::node::{SMALL, Server, client};
use crate::support::{assert_says, until};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Directories of one test.
pub struct Place(TempDir);

impl Place {
    /// None of them is there yet.
    pub fn new() -> Place {
        Place(TempDir::new().expect("a directory"))
    }

    /// Where one of this name is.
    pub fn text(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// Archiving to one of them.
    pub fn archive(&self) -> ArchiveSettings {
        ArchiveSettings {
            url: self.text("archive"),
            every: Duration::from_millis(20),
            recipients: Default::default(),
            rate: None,
            keys: None,
        }
    }

    /// A server on one of them.
    pub async fn server(&self, archive: Option<ArchiveSettings>) -> Server {
        let config = Config {
            options: Options { sizes: SMALL, ..Options::default() },
            archive,
            ..Config::in_directory(self.text("data"))
        };
        Server::start_with(config).await
    }
}

/// Appends `count` events, the first with the id `from`, to five streams.
pub async fn append(server: &Server, from: u128, count: u128) {
    for id in from..from + count {
        let stream = name(&format!("s-{}", id % 5));
        let append = Append::to_stream(stream, ExpectedRevision::Any, [sized(id, 500)]);
        server.store().append(append).await.expect("appended");
    }
}

/// The answer of a command that must succeed.
pub fn done(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", said(output));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// What a command says that must fail.
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    said(output)
}

/// Restores with these arguments to a new directory. Answers with what it holds.
async fn restored(place: &Place, target: &str, arguments: &[&str]) -> Vec<Stored> {
    let data = place.text(target);
    let mut all = vec!["restore", "--json", "--data", &data];
    all.extend(arguments);
    done(&run(&all));
    verify(Path::new(&data));
    let server = Server::start(Path::new(&data)).await;
    let log = read_log(server.store()).await;
    // It is a store like any other.
    append(&server, 1 << 100, 3).await;
    server.stop().await;
    log
}

async fn archived(server: &Server) -> u64 {
    let status = get(server.address(), "/admin/backup/status").await.json();
    status["archive"]["position"].as_u64().unwrap_or(0)
}

/// Waits until everything is archived.
pub async fn until_archived(server: &Server) {
    let committed = server.store().committed().0;
    until("the archive to have it all", || async { archived(server).await >= committed }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_gives_back_the_log_as_it_was_at_any_position_and_time() {
    let place = Place::new();
    let server = place.server(Some(place.archive())).await;
    append(&server, 1, 60).await;
    until_archived(&server).await;
    append(&server, 100, 200).await;
    until_archived(&server).await;
    let original = read_log(server.store()).await;
    server.stop().await;
    // Begun again, it goes on.
    let server = place.server(Some(place.archive())).await;
    append(&server, 1000, 40).await;
    let whole = read_log(server.store()).await;
    server.stop().await;
    assert_eq!(whole[..original.len()], original);
    let from = place.text("archive");
    assert_eq!(restored(&place, "all", &["--from", &from]).await, whole, "the stop archives");
    for position in [1, 2, 61, 200, 299] {
        let (target, text) = (format!("at-{position}"), position.to_string());
        let log = restored(&place, &target, &["--from", &from, "--to-position", &text]).await;
        assert_eq!(log, whole[..position], "position {position}");
    }
    let event = &whole[149];
    let time = daybook::http::event::rfc3339(daybook_model::Timestamp(event.time));
    let log = restored(&place, "then", &["--from", &from, "--to-time", &time]).await;
    let until = whole.iter().filter(|other| other.time <= event.time).count();
    assert_eq!(log, whole[..until], "{time}");
    let checked = done(&run(&["backup", "verify", "--json", "--from", &from]));
    assert_eq!((&checked["sound"], &checked["problems"]), (&true.into(), &Value::from(vec![0; 0])));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_fails_stops_no_append_and_catches_up() {
    let place = Place::new();
    // Where a directory should be there is a file.
    let archive = place.text("archive");
    std::fs::write(&archive, "not a directory").expect("a file");
    let server = place.server(Some(place.archive())).await;
    append(&server, 1, 20).await;
    let status = || async { get(server.address(), "/admin/backup/status").await.json() };
    until("it to fail", || async { status().await["archive"]["failures"].as_u64() > Some(1) })
        .await;
    let shown = status().await;
    assert_says(shown["archive"]["error"].as_str().expect("an error"), &[&archive]);
    assert_eq!(shown["archive"]["lastSuccess"], Value::Null);
    let metrics = get(server.address(), "/metrics").await.body;
    assert!(metrics.contains("\ndaybook_archive_last_success_timestamp_seconds 0"), "{metrics}");
    append(&server, 100, 20).await;
    std::fs::remove_file(&archive).expect("removed");
    until_archived(&server).await;
    assert_eq!(status().await["archive"]["error"], Value::Null);
    let whole = read_log(server.store()).await;
    server.stop().await;
    assert_eq!(restored(&place, "all", &["--from", &archive]).await, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_archived_survives_a_server_that_is_killed_under_load() {
    let place = Place::new();
    let archive = place.text("archive");
    let mut command = daybook(&["serve", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(place.text("data")).args(["--archive", &archive, "--archive-every", "1s"]);
    let daemon = Daemon::spawn(command, PATIENCE).unwrap_or_else(|said| panic!("{said}"));
    let address = daemon.address;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (client, stop) = (client(address), stop.clone());
            tokio::spawn(async move {
                let stream = name(&format!("writer-{writer}"));
                for n in 0u128.. {
                    let event = sized(writer << 64 | n, 300);
                    let any = ExpectedRevision::Any;
                    let appended = client.append(&stream, any, vec![event]).await;
                    if appended.is_err() || stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            })
        })
        .collect();
    let position = || async {
        let status = get(address, "/admin/backup/status").await.json();
        status["archive"]["position"].as_u64().unwrap_or(0)
    };
    until("some to be archived", || async { position().await > 200 }).await;
    let first = position().await;
    until("more to be archived", || async { position().await > first }).await;
    let promised = position().await;
    tokio::task::spawn_blocking(|| daemon.kill()).await.expect("no panic");
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no panic");
    }
    let back = restored(&place, "back", &["--from", &archive]).await;
    assert!(back.len() as u64 + 1 >= promised, "{} of {promised}", back.len() + 1);
    // It is the beginning of what the killed server had.
    let server = Server::start(Path::new(&place.text("data"))).await;
    let whole = read_log(server.store()).await;
    assert_eq!(back, whole[..back.len()]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_of_a_running_server_share_what_they_have_in_common() {
    let place = Place::new();
    let server = place.server(None).await;
    append(&server, 1, 200).await;
    let (url, to) = (format!("http://{}", server.address()), place.text("repository"));
    let take = ["backup", "--json", "--to", &to, "--url", &url];
    let first = done(&run(&take));
    append(&server, 500, 5).await;
    let second = done(&run(&take));
    let number = |value: &Value, key: &str| value[key].as_u64().expect("a number");
    assert!(number(&second, "bytesReused") > 0 && number(&first, "bytesReused") == 0);
    assert!(number(&second, "bytesWritten") < number(&first, "bytesWritten") / 2, "{second}");
    let status = get(server.address(), "/admin/backup/status").await.json();
    assert!(status["lastBackup"].is_string(), "{status}");
    let whole = read_log(server.store()).await;
    server.stop().await;
    // A stopped store's goes there, too.
    let third = done(&run(&["backup", "--json", "--to", &to, "--data", &place.text("data")]));
    assert_eq!(third["manifest"]["end"], second["manifest"]["end"]);

    let listed = done(&run(&["backup", "list", "--json", "--from", &to]));
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(3), "{listed}");
    assert_eq!(restored(&place, "all", &["--from", &to]).await, whole);
    let first_name = first["backup"].as_str().expect("a name");
    let old = restored(&place, "old", &["--from", &to, "--backup", first_name]).await;
    assert_eq!(old, whole[..200]);

    // A dry run says what it would do, and makes nothing.
    let dry = place.text("dry");
    let arguments = ["restore", "--json", "--from", &to, "--data", &dry, "--dry-run"];
    let plan = done(&run(&[&arguments[..], &["--to-position", "77"]].concat()));
    assert_eq!((plan["end"].as_u64(), &plan["epoch"]), (Some(78), &Value::Null));
    assert!(!Path::new(&dry).exists());

    let prune = ["backup", "prune", "--json", "--from", &to, "--keep-last", "1", "--grace", "0s"];
    assert_eq!(done(&run(&prune))["removed"].as_array().map(Vec::len), Some(2));
    assert_eq!(done(&run(&[&prune[..], &["--delete"]].concat()))["deleted"], true);
    let listed = done(&run(&["backup", "list", "--json", "--from", &to]));
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(restored(&place, "pruned", &["--from", &to]).await, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_killed_is_none_and_the_next_one_is_whole() {
    let place = Place::new();
    let server = place.server(None).await;
    append(&server, 1, 2000).await;
    let whole = read_log(server.store()).await;
    server.stop().await;
    let (data, to) = (place.text("data"), place.text("repository"));
    let take = ["backup", "--json", "--to", &to, "--data", &data];
    // So slowly that it is still at work when it is killed.
    let mut slow = daybook(&[&take[..], &["--rate", "1"]].concat()).spawn().expect("it runs");
    let begun = || async { Path::new(&to).join("segments").exists() };
    until("its first object", begun).await;
    slow.kill().expect("killed");
    slow.wait().expect("ended");
    let listed = done(&run(&["backup", "list", "--json", "--from", &to]));
    assert_eq!(listed["backups"], Value::Array(Vec::new()));
    let checked = run(&["backup", "verify", "--from", &to]);
    assert_says(&refused(&checked), &["no such backup"]);
    done(&run(&take));
    assert_eq!(restored(&place, "back", &["--from", &to]).await, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_restored_says_why_and_touches_nothing() {
    let place = Place::new();
    let server = place.server(None).await;
    append(&server, 1, 100).await;
    server.stop().await;
    let (data, to, target) = (place.text("data"), place.text("repository"), place.text("target"));
    done(&run(&["backup", "--json", "--to", &to, "--data", &data]));
    let restore = |more: &[&str]| {
        let said = refused(&run(&[&["restore", "--from", &to, "--data", &target], more].concat()));
        assert!(!Path::new(&target).exists(), "{said}");
        said
    };
    assert_says(&restore(&["--to-position", "5000"]), &["before position 101"]);
    assert_says(&restore(&["--to-time", "2001-01-01T00:00:00Z"]), &["no backup"]);
    assert_says(&restore(&["--to-time", "2200-01-01T00:00:00Z"]), &["taken before that time"]);
    assert_says(&restore(&["--backup", "backups/nonsense"]), &["backups/nonsense"]);

    // Another store's increment.
    let other = Server::start(Path::new(&place.text("other"))).await;
    append(&other, 1, 1).await;
    other.stop().await;
    let before = names(Path::new(&to).join("backups").as_path());
    let said = refused(&run(&["backup", "--to", &to, "--data", &place.text("other")]));
    assert_says(&said, &["holds the backups of store", &to]);
    assert_eq!(names(Path::new(&to).join("backups").as_path()), before);

    // A target that is in use.
    let used = run(&["restore", "--from", &to, "--data", &data]);
    assert_says(&refused(&used), &["is not empty"]);

    // Damage.
    let segment = Path::new(&to).join("segments");
    let segment = segment.read_dir().expect("segments").next().expect("one").expect("one").path();
    let piece = segment.join(&names(&segment)[0]);
    let mut bytes = std::fs::read(&piece).expect("a piece");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&piece, bytes).expect("written");
    let file = piece.file_name().expect("a name").to_string_lossy().into_owned();
    assert_says(&restore(&[]), &["is damaged", &file]);
    let checked = run(&["backup", "verify", "--json", "--from", &to]);
    refused(&checked);
    assert_says(&String::from_utf8_lossy(&checked.stdout), &["\"sound\": false", &file]);
    assert_says(&refused(&run(&["backup", "list", "--from", &data])), &["holds no backups"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_backup_is_read_with_its_key_alone() {
    let place = Place::new();
    let server = place.server(None).await;
    append(&server, 1, 50).await;
    let whole = read_log(server.store()).await;
    server.stop().await;
    let (data, to) = (place.text("data"), place.text("repository"));
    let (key, other) = (place.text("key"), place.text("other-key"));
    let made = done(&run(&["backup", "keygen", "--json", "--to", &key]));
    done(&run(&["backup", "keygen", "--json", "--to", &other]));
    refused(&run(&["backup", "keygen", "--to", &key]));
    let recipient = made["recipient"].as_str().expect("a recipient");
    let taken = run(&["backup", "--json", "--to", &to, "--data", &data, "--recipient", recipient]);
    assert_eq!(done(&taken)["manifest"]["recipients"][0], recipient);
    // Whoever forgets the recipient does not leave it all there in clear.
    let forgotten = ["backup", "--to", &to, "--data", &data];
    assert_says(&refused(&run(&forgotten)), &["encrypted", "--recipient", "--plain"]);
    let listed = done(&run(&["backup", "list", "--json", "--from", &to]));
    assert_eq!(listed["backups"].as_array().map(Vec::len), Some(1), "{listed}");
    let target = place.text("target");
    for identity in [None, Some(&other)] {
        let mut arguments = vec!["restore", "--from", &to, "--data", &target];
        arguments.extend(identity.iter().flat_map(|file| ["--identity", file.as_str()]));
        assert_says(&refused(&run(&arguments)), &["decrypted"]);
        assert!(!Path::new(&target).exists());
    }
    let checked = done(&run(&["backup", "verify", "--json", "--from", &to]));
    assert_eq!((&checked["sound"], &checked["decrypted"]), (&true.into(), &false.into()));
    assert_eq!(restored(&place, "back", &["--from", &to, "--identity", &key]).await, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_segments_are_served_within_their_bounds() {
    let place = Place::new();
    let server = place.server(None).await;
    append(&server, 1, 3).await;
    let listed = get(server.address(), "/admin/backup/segments").await.json();
    let name = listed["segments"][0]["name"].as_str().expect("a name");
    let path = |name: &str, from: u64, size: u64| {
        format!("/admin/backup/segments/{name}?from={from}&size={size}")
    };
    let size = SMALL.first;
    for (path, status) in [
        (path(name, 0, 128), 200),
        (path(name, size - 1, 1), 200),
        (path(name, size, 0), 200),
        (path(name, size, 1), 400),
        (path(name, u64::MAX, 2), 400),
        (path(name, 0, 1 << 40), 400),
        (path("00000000000000000000-7.log", 0, 1), 404),
        (path("..%2Flock", 0, 1), 404),
    ] {
        assert_eq!(get(server.address(), &path).await.status, status, "{path}");
    }
    let told = post(server.address(), "/admin/backup/status", r#"{"outcome":"lost"}"#).await;
    assert_eq!((told.status, &told.json()["field"]), (400, &"outcome".into()));
    server.stop().await;
}
