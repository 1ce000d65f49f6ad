//! Data directories that are not what they should be: refused with file and way out named, and not
//! a byte changed.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use daybook_model::ExpectedRevision;
use daybook_store::Append;
use tempfile::TempDir;

use crate::support::daemon::{Daemon, run, said};
use crate::support::directory::{bytes, copy, names, read_log, segments};
use crate::support::events::{name, sized};
use crate::support::node::{SMALL, Server};
use crate::support::{assert_says, is_root, skipped};

/// Fills `data` with `count` events of `size` bytes, in small segments, and stops cleanly.
async fn make_store(data: &Path, count: u128, size: usize) {
    let server = Server::try_start(data, SMALL).await.expect("a server");
    for i in 0..count {
        let append = Append::to_stream(name("a-1"), ExpectedRevision::Any, [sized(i, size)]);
        server.store().append(append).await.expect("room");
    }
    server.stop().await;
}

/// Fails unless a server refuses `data` with all of `words`, and changes nothing there. `verify`
/// must say the same.
async fn assert_refused(data: &Path, words: &[&str]) {
    let before = bytes(data);
    let error = Server::try_start(data, SMALL).await.map(|_| ()).expect_err("a bad directory");
    assert_says(&error.to_string(), words);
    let directory = data.display().to_string();
    let verify = run(&["verify", "--data", &directory]);
    assert_eq!(verify.status.code(), Some(1), "{}", said(&verify));
    let text = format!("{}{}", String::from_utf8_lossy(&verify.stdout), said(&verify));
    assert_says(&text, words);
    let serve = run(&["serve", "--listen", "127.0.0.1:0", "--data", &directory]);
    assert_eq!(serve.status.code(), Some(1), "{}", said(&serve));
    assert_says(&said(&serve), words);
    assert!(bytes(data) == before, "a refused directory was changed");
}

/// Writes a segment's format number, and the checksum to match.
fn set_format(path: &Path, format: u32) {
    let mut bytes = std::fs::read(path).expect("a segment");
    bytes[8..12].copy_from_slice(&format.to_le_bytes());
    let sum = daybook_log::checksum::crc(&bytes[..124]);
    bytes[124..128].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(path, bytes).expect("a segment");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_of_an_unknown_format_is_refused_wherever_it_stands() {
    let sound = TempDir::new().expect("a directory");
    make_store(sound.path(), 40, 2000).await;
    let all = segments(sound.path());
    assert!(all.len() >= 3, "{all:?}");
    for segment in [&all[0], &all[1], all.last().expect("one")] {
        let data = TempDir::new().expect("a directory");
        copy(sound.path(), data.path());
        set_format(&data.path().join(segment), 3);
        let words =
            [segment.as_str(), "format 3", "reads up to 2", "Nothing was changed", "newer one"];
        assert_refused(data.path(), &words).await;
        set_format(&data.path().join(segment), 1);
        make_store(data.path(), 1, 10).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_store_wants_an_empty_directory() {
    let data = TempDir::new().expect("a directory");
    std::fs::write(data.path().join("thesis.tex"), "ten years of work").expect("a file");
    assert_refused(data.path(), &["thesis.tex", "not Daybook's", "empty directory"]).await;
    assert_eq!(names(data.path()), ["lock", "thesis.tex"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stray_file_beside_a_store_is_told_and_left_alone() {
    let data = TempDir::new().expect("a directory");
    make_store(data.path(), 3, 10).await;
    std::fs::write(data.path().join("notes.txt"), "mine").expect("a file");
    let daemon = Daemon::start(data.path());
    let warning = daemon.wait_for("notes.txt").expect("a warning");
    assert_says(&warning, &["WARN", "not the store's"]);
    assert!(daemon.terminate().0.success());
    let server = Server::try_start(data.path(), SMALL).await.expect("a server");
    assert_eq!(server.store().recovery().foreign_files, ["notes.txt"]);
    assert_eq!(read_log(server.store()).await.len(), 3);
    server.stop().await;
    assert_eq!(std::fs::read(data.path().join("notes.txt")).expect("a file"), b"mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_segments_name_but_not_its_contents_is_refused() {
    let data = TempDir::new().expect("a directory");
    make_store(data.path(), 3, 10).await;
    let foreign = "00000000000000000777-0.log";
    for contents in [vec![b'x'; 4096], b"log".to_vec(), Vec::new()] {
        std::fs::write(data.path().join(foreign), contents).expect("a file");
        assert_refused(data.path(), &[foreign]).await;
    }
    std::fs::write(data.path().join(foreign), vec![b'x'; 4096]).expect("a file");
    assert_refused(data.path(), &[foreign, "not Daybook's", "move it away"]).await;
    std::fs::remove_file(data.path().join(foreign)).expect("a file");
    make_store(data.path(), 1, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_of_another_store_is_refused_added_or_in_place_of_ours() {
    let (ours, theirs) = (TempDir::new().expect("ours"), TempDir::new().expect("theirs"));
    make_store(ours.path(), 20, 2000).await;
    make_store(theirs.path(), 60, 2000).await;
    let (mine, other) = (segments(ours.path()), segments(theirs.path()));
    let added = other.last().expect("one");
    assert!(!mine.contains(added), "it stands where none of ours does");
    std::fs::copy(theirs.path().join(added), ours.path().join(added)).expect("a copy");
    let words = ["belongs to store", "two stores' files", "away"];
    assert_refused(ours.path(), &[&words[..], &[added]].concat()).await;
    std::fs::remove_file(ours.path().join(added)).expect("a file");
    make_store(ours.path(), 1, 10).await;
    let swapped = &mine[0];
    std::fs::copy(theirs.path().join(swapped), ours.path().join(swapped)).expect("a copy");
    assert_refused(ours.path(), &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_is_missing_is_named() {
    let data = TempDir::new().expect("a directory");
    make_store(data.path(), 40, 2000).await;
    let all = segments(data.path());
    let kept = std::fs::read(data.path().join(&all[1])).expect("a segment");
    std::fs::remove_file(data.path().join(&all[1])).expect("a file");
    assert_refused(data.path(), &["gap before", &all[2], "is missing", "Put it back"]).await;
    std::fs::write(data.path().join(&all[1]), kept).expect("a file");
    make_store(data.path(), 1, 10).await;
}

#[test]
fn a_directory_in_use_is_refused_with_its_holder_and_the_way_out() {
    let data = TempDir::new().expect("a directory");
    let directory = data.path().display().to_string();
    let daemon = Daemon::start(data.path());
    let holder = format!("process {}", daemon.id());
    let words = [directory.as_str(), "in use by", &holder, "stop it", "--url"];
    let commands: [&[&str]; 3] = [
        &["serve", "--listen", "127.0.0.1:0", "--data", &directory],
        &["verify", "--data", &directory],
        &["stats", "--data", &directory],
    ];
    for command in commands {
        let second = run(command);
        assert_eq!(second.status.code(), Some(1), "{command:?}: {}", said(&second));
        assert_says(&said(&second), &words);
    }
    let url = format!("http://{}", daemon.address);
    let health = run(&["health", "--url", &url]);
    assert!(health.status.success(), "the first is as well as before: {}", said(&health));
    assert!(daemon.terminate().0.success());
    assert!(run(&["verify", "--data", &directory]).status.success(), "free again");
}

#[test]
fn a_killed_server_leaves_no_lock_behind() {
    let data = TempDir::new().expect("a directory");
    Daemon::start(data.path()).kill();
    assert!(Daemon::start(data.path()).terminate().0.success());
}

#[test]
fn a_path_that_is_a_file_is_refused() {
    let data = TempDir::new().expect("a directory");
    let file = data.path().join("file");
    std::fs::write(&file, "mine").expect("a file");
    for path in [file.clone(), file.join("below")] {
        let serve =
            run(&["serve", "--listen", "127.0.0.1:0", "--data", &path.display().to_string()]);
        assert_eq!(serve.status.code(), Some(1));
        assert_says(&said(&serve), &[&file.display().to_string(), "not a directory"]);
    }
    assert_eq!(std::fs::read(&file).expect("a file"), b"mine");
}

/// A directory that nobody can write to, for as long as this lives.
struct ReadOnly<'a>(&'a Path);

impl ReadOnly<'_> {
    fn new(path: &Path) -> Option<ReadOnly<'_>> {
        if !is_root() {
            std::fs::set_permissions(path, Permissions::from_mode(0o500)).expect("our own");
            return Some(ReadOnly(path));
        }
        // Modes do not hold root back; a mount does.
        let bound = Command::new("mount").arg("--bind").args([path, path]).output();
        if !bound.is_ok_and(|output| output.status.success()) {
            return None;
        }
        let read_only = ReadOnly(path);
        let remount = Command::new("mount").args(["-o", "remount,ro,bind"]).arg(path).output();
        remount.is_ok_and(|output| output.status.success()).then_some(read_only)
    }
}

impl Drop for ReadOnly<'_> {
    fn drop(&mut self) {
        if is_root() {
            let _ = Command::new("umount").arg(self.0).output();
        } else {
            let _ = std::fs::set_permissions(self.0, Permissions::from_mode(0o700));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_directory_is_refused_for_writing_and_can_be_verified() {
    let data = TempDir::new().expect("a directory");
    make_store(data.path(), 3, 10).await;
    let before = bytes(data.path());
    let Some(read_only) = ReadOnly::new(data.path()) else {
        return skipped("a read-only directory", "root may not mount here");
    };
    let directory = data.path().display().to_string();
    let serve = run(&["serve", "--listen", "127.0.0.1:0", "--data", &directory]);
    assert_eq!(serve.status.code(), Some(1));
    assert_says(&said(&serve), &[&directory, "cannot be written", "give user", "mounted"]);
    let verify = run(&["verify", "--data", &directory]);
    assert!(verify.status.success(), "{}", said(&verify));
    drop(read_only);
    assert!(bytes(data.path()) == before, "nothing was changed");
    make_store(data.path(), 1, 10).await;
}
