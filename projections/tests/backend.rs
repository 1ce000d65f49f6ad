//! What must hold of the tables in sled, whatever happens to their files.

#![allow(clippy::unwrap_used, reason = "a test that fails shows where")]
#![expect(clippy::disallowed_methods, reason = "these tests damage sled's files")]

mod support;

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use daybook_model::Position;
use daybook_projections::sled::SledBackend;
use daybook_projections::{Backend, Host, Seams, State};
use support::source::MemoryLog;
use support::tally::{ACCOUNTS, NAME, Tally, moved};
use support::{conformance, dump, until};
use tempfile::TempDir;
use uuid::Uuid;

const STORE: Uuid = Uuid::from_u128(7);

#[tokio::test]
async fn sled_is_a_backend() {
    let directory = TempDir::new().unwrap();
    let backend = SledBackend::open(directory.path(), STORE);
    conformance::conformance(backend.clone()).await;
    assert_eq!(backend.notes(), Vec::<String>::new());
}

fn log(events: u64) -> MemoryLog {
    let log = MemoryLog::new(100);
    let datas: Vec<String> = (0..events).map(|n| moved(n, 40)).collect();
    log.append(datas.into_iter().map(|data| ("account-x", "Moved", data)));
    log
}

/// Builds the tally of `log` in `directory` and says what came of it.
async fn built(directory: &Path, log: &MemoryLog, store: Uuid) -> (Vec<String>, String) {
    let directory = directory.to_owned();
    let backend = SledBackend::open(&directory, store);
    let host = Host::start(log, &backend, vec![Arc::new(Tally::new())], &Seams::system());
    tokio::time::timeout(support::TOO_LONG, backend.wait(NAME, log.last())).await.unwrap().unwrap();
    until(&host, NAME, |s| s.serving.as_ref().is_some_and(|b| b.status.state == State::Live)).await;
    let (rows, page) = dump(&backend, NAME, ACCOUNTS).await;
    assert_eq!(page.as_of.map(|at| at.position()), Some(log.last()));
    host.stop().await;
    let notes = backend.notes();
    backend.close();
    (notes, format!("{rows:?}"))
}

#[tokio::test]
async fn what_is_closed_goes_on_where_it_was() {
    let directory = TempDir::new().unwrap();
    let log = log(1000);
    let (notes, before) = built(directory.path(), &log, STORE).await;
    assert_eq!(notes, Vec::<String>::new());
    let backend = SledBackend::open(directory.path(), STORE);
    let at = backend.reached(NAME).await.unwrap().unwrap();
    assert_eq!(at.position(), Position(999));
    backend.wait(NAME, Position(999)).await.unwrap();
    assert_eq!(format!("{:?}", dump(&backend, NAME, ACCOUNTS).await.0), before);
    assert_eq!(backend.notes(), Vec::<String>::new());
}

#[tokio::test]
async fn tables_of_another_store_are_set_aside() {
    let directory = TempDir::new().unwrap();
    let log = log(300);
    let (_, before) = built(directory.path(), &log, STORE).await;
    let (notes, after) = built(directory.path(), &log, Uuid::from_u128(8)).await;
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("it is of the store"), "{notes:?}");
    assert_eq!(before, after);
    assert!(directory.path().join("bad-1").exists());
}

#[tokio::test]
async fn damaged_files_are_never_believed() {
    let log = log(500);
    let clean = built(TempDir::new().unwrap().path(), &log, STORE).await.1;
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for writes in [1, 4, 16, 64, 256] {
        let directory = TempDir::new().unwrap();
        built(directory.path(), &log, STORE).await;
        let path = directory.path().join("live-1").join("db");
        let size = std::fs::metadata(&path).unwrap().len();
        let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        for _ in 0..writes {
            file.seek(SeekFrom::Start(random() % size)).unwrap();
            file.write_all(&random().to_le_bytes()).unwrap();
        }
        drop(file);
        assert_eq!(built(directory.path(), &log, STORE).await.1, clean, "{writes} writes");
    }
}

#[tokio::test]
async fn a_missing_or_cut_file_is_no_obstacle() {
    let log = log(500);
    let clean = built(TempDir::new().unwrap().path(), &log, STORE).await.1;
    for keep in [None, Some(0), Some(5000), Some(200_000)] {
        let directory = TempDir::new().unwrap();
        built(directory.path(), &log, STORE).await;
        let path = directory.path().join("live-1").join("db");
        match keep {
            None => std::fs::remove_file(path).unwrap(),
            Some(keep) => {
                let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(keep).unwrap();
            }
        }
        assert_eq!(built(directory.path(), &log, STORE).await.1, clean, "{keep:?}");
    }
}
