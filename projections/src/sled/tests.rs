//! What follows when sled fails while it is in use.

use std::sync::Arc;

use daybook_cache::Fault;
use daybook_client::Checkpoint;
use daybook_model::{Epoch, EventView, Position};
use tempfile::TempDir;
use uuid::Uuid;

use super::SledBackend;
use crate::build::Build;
use crate::change::{ChangeSet, Changes};
use crate::consumer::{ConsumeError, Consumer as _, Taken};
use crate::feed::{Batch, Interest};
use crate::runner::Seams;
use crate::store::{CommitError, Writer as _};
use crate::table::{Column, Kind, Table, Value};
use crate::{ApplyError, Backend as _, Projection, QueryError};

const TABLES: &[Table] = &[Table {
    name: "things",
    columns: &[Column { name: "name", kind: Kind::Text }],
    key_len: 1,
    indexes: &[],
}];

struct Things;

impl Projection for Things {
    fn name(&self) -> &'static str {
        "things"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [Table] {
        TABLES
    }

    fn interest(&self) -> Interest {
        Interest::default()
    }

    fn apply(&self, _: EventView<'_>, _: &mut Changes<'_>) -> Result<(), ApplyError> {
        Ok(())
    }
}

fn place(position: u64) -> Checkpoint {
    Checkpoint::at(Position(position), Epoch(0))
}

#[tokio::test]
async fn what_failed_in_use_is_set_aside_and_must_be_built_again() {
    let directory = TempDir::new().unwrap();
    let backend = SledBackend::open(directory.path(), Uuid::from_u128(7));
    for turn in 1..=3 {
        let number = backend.create(&Things).await.unwrap();
        let mut build =
            Build::new(backend.clone(), Arc::new(Things), number, Seams::system().clock);
        build.begin().await.unwrap();
        let mut writer = backend.write(&Things, number).await.unwrap();
        let mut set = ChangeSet::new(TABLES);
        set.over(&mut writer).put(&TABLES[0], vec![Value::from("a")]).unwrap();
        writer.commit(&set, &[], place(5)).unwrap();
        backend.wait("things", Position(5)).await.unwrap();

        let planted = backend.ask(String::new, |_| Err::<(), _>(Fault("planted".to_owned())));
        assert!(planted.unwrap_err().transient, "the next one may serve");
        assert_eq!(backend.notes().len(), turn);
        assert!(backend.notes()[turn - 1].contains("planted"));
        assert_eq!(backend.generations("things").await.unwrap(), []);
        let reached = backend.reached("things").await;
        assert!(matches!(reached, Err(QueryError::NotReady { .. })), "{reached:?}");

        // Whoever wrote it writes nothing into the new one, and learns that all must be built anew.
        let done = writer.commit(&set, &[], place(6));
        assert!(matches!(done, Err(CommitError::Store(_))), "{done:?}");
        let begun = build.begin().await;
        assert!(matches!(begun, Err(ConsumeError::Lost { .. })), "{begun:?}");
        assert_eq!(backend.generations("things").await.unwrap(), []);
    }
    // One too many: it is off, and says so.
    let planted = backend.ask(String::new, |_| Err::<(), _>(Fault("again".to_owned())));
    assert!(planted.is_err());
    let error = backend.create(&Things).await.unwrap_err();
    assert!(!error.transient && error.reason.contains("off: again"), "{error}");
}

#[tokio::test]
async fn a_row_that_is_damaged_is_never_served() {
    let directory = TempDir::new().unwrap();
    let backend = SledBackend::open(directory.path(), Uuid::from_u128(7));
    let number = backend.create(&Things).await.unwrap();
    let mut writer = backend.write(&Things, number).await.unwrap();
    let mut set = ChangeSet::new(TABLES);
    set.over(&mut writer).put(&TABLES[0], vec![Value::from("a")]).unwrap();
    writer.commit(&set, &[], place(5)).unwrap();
    backend
        .ask(String::new, |live| {
            let built = live.serving("things").unwrap();
            let (key, value) = built.tree.last().unwrap().unwrap();
            let mut damaged = value.to_vec();
            *damaged.last_mut().unwrap() ^= 1;
            built.tree.insert(key, damaged).unwrap();
            Ok(())
        })
        .unwrap();
    let query = crate::Query {
        projection: "things",
        table: &TABLES[0],
        index: None,
        prefix: Vec::new(),
        filters: Vec::new(),
        order: crate::query::Order::Ascending,
        after: None,
        limit: 10,
    };
    assert!(backend.query(&query).await.is_err());
    assert!(backend.notes()[0].contains("checksum"), "{:?}", backend.notes());
    assert_eq!(backend.generations("things").await.unwrap(), []);
}

#[tokio::test]
async fn a_place_that_only_passes_is_known_at_once_and_kept_now_and_then() {
    let directory = TempDir::new().unwrap();
    let backend = SledBackend::open(directory.path(), Uuid::from_u128(7));
    let number = backend.create(&Things).await.unwrap();
    let stored =
        async |backend: &SledBackend| backend.generations("things").await.unwrap()[0].checkpoint;
    let mut writer = backend.write(&Things, number).await.unwrap();
    let mut set = ChangeSet::new(TABLES);
    set.over(&mut writer).put(&TABLES[0], vec![Value::from("a")]).unwrap();
    assert!(!writer.pass(place(3)), "nothing of it was ever kept");
    writer.commit(&set, &[], place(5)).unwrap();
    assert!(writer.pass(place(9)));
    backend.wait("things", Position(9)).await.unwrap();
    assert_eq!((writer.checkpoint(), stored(&backend).await), (Some(place(9)), Some(place(9))));
    assert!(writer.pass(place(7)) && writer.checkpoint() == Some(place(9)), "never back");
    assert!(!writer.pass(place(5 + super::writer::PASSED_MAX)), "too much to look at again");

    // Another one takes over: where this one was, and this one says nothing more.
    let mut other = backend.write(&Things, number).await.unwrap();
    assert_eq!(other.checkpoint(), Some(place(9)));
    assert!(!writer.pass(place(10)));
    assert!(matches!(writer.commit(&set, &[], place(10)), Err(CommitError::Fenced { .. })));
    set.clear();
    other.commit(&set, &[], place(20)).unwrap();
    assert!(other.pass(place(30)));
    drop((writer, other));
    backend.close();

    // A restart looks again at what was only passed.
    let backend = SledBackend::open(directory.path(), Uuid::from_u128(7));
    assert_eq!(stored(&backend).await, Some(place(20)));
}

#[tokio::test]
async fn a_batch_without_events_moves_the_place_and_writes_nothing() {
    let directory = TempDir::new().unwrap();
    let backend = SledBackend::open(directory.path(), Uuid::from_u128(7));
    let number = backend.create(&Things).await.unwrap();
    let clock = Seams::system().clock;
    let mut build = Build::new(backend.clone(), Arc::new(Things), number, clock);
    build.begin().await.unwrap();
    for position in 1..=50 {
        let batch = Batch { events: Vec::new(), through: Some(place(position)), caught_up: true };
        assert_eq!(build.take(batch).await.unwrap(), Taken::default());
        backend.wait("things", Position(position)).await.unwrap();
    }
    drop(build);
    backend.close();
    let backend = SledBackend::open(directory.path(), Uuid::from_u128(7));
    let kept = backend.generations("things").await.unwrap()[0].checkpoint;
    assert_eq!(kept, Some(place(1)), "the first was written, the others only noted");
}
