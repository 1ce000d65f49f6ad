//! Data directories as bytes, and the whole log as a list.

use std::collections::BTreeMap;
use std::path::Path;

use daybook_store::{AllFrom, Direction, ReadAll, Store};
use uuid::Uuid;

/// Bytes of the frame with which a log that fell quiet ends: it says that all before it is durable,
/// and only itself is rewritten by the next start.
pub const MARK_SIZE: u64 = daybook_log::frame::frame_size_of_seal() as u64;

/// What is known of a stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its position.
    pub position: u64,
    /// Its stream.
    pub stream: String,
    /// Its revision.
    pub revision: u64,
    /// Its id.
    pub id: Uuid,
    /// Its time in nanoseconds.
    pub time: i64,
    /// Its data.
    pub data: Vec<u8>,
}

/// The whole log, in order, but for the store's own first event; its positions are checked.
pub async fn read_log(store: &Store) -> Vec<Stored> {
    let (from, direction) = (AllFrom::Start, Direction::Forwards);
    let mut reader = store.read_all(ReadAll { from, direction, count: u64::MAX, filter: None });
    let mut log = Vec::new();
    while let Some(page) = reader.next().await.expect("a page") {
        log.extend(page.events().map(|event| Stored {
            position: event.position.0,
            stream: event.stream.to_owned(),
            revision: event.revision.0,
            id: event.id,
            time: event.time.0,
            data: event.data.to_vec(),
        }));
    }
    assert!(log.iter().enumerate().all(|(i, event)| event.position == i as u64), "gapless");
    log.remove(0);
    log
}

/// The names of all files in `directory` (not below it), sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.file_type().expect("a type").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

/// The names of all segments in `directory`, oldest first.
pub fn segments(directory: &Path) -> Vec<String> {
    names(directory).into_iter().filter(|name| name.ends_with(".log")).collect()
}

/// Every byte of every file of `directory`, but for the lock, which names who opened it last.
pub fn bytes(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    names(directory)
        .into_iter()
        .filter(|name| name != "lock")
        .map(|name| {
            let bytes = std::fs::read(directory.join(&name)).expect("a file");
            (name, bytes)
        })
        .collect()
}

/// Copies all files of `from` into `to`, which is made.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for name in names(from) {
        std::fs::copy(from.join(&name), to.join(&name)).expect("a copy");
    }
}
