//! What must hold of every place where read models are kept.

#![allow(clippy::unwrap_used, reason = "a test that fails shows where")]

use std::time::Duration;

use daybook_client::Checkpoint;
use daybook_model::{Epoch, EventView, Position, Timestamp};
use daybook_projections::query::{Comparison, Filter, Order};
use daybook_projections::{
    ApplyError, Backend, ChangeSet, Changes, Column, CommitError, Index, Interest, Kind, Parked,
    Projection, Query, QueryError, Row, Table, Value, Writer,
};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::{TOO_LONG, all_of, dump};

const THINGS: &Table = &TABLES[0];
const BY_MOOD: &Index = &THINGS.indexes[0];
const BY_PLACE: &Index = &THINGS.indexes[1];

const COLUMNS: &[Column] = &[
    Column { name: "name", kind: Kind::Text },
    Column { name: "number", kind: Kind::Integer },
    Column { name: "mood", kind: Kind::Text },
    Column { name: "amount", kind: Kind::Decimal },
    Column { name: "id", kind: Kind::Uuid },
    Column { name: "at", kind: Kind::Time },
    Column { name: "open", kind: Kind::Flag },
    Column { name: "place", kind: Kind::Integer },
];

const TABLES: &[Table] = &[
    Table {
        name: "things",
        columns: COLUMNS,
        key_len: 2,
        indexes: &[
            Index { name: "by_mood", columns: &[2, 3] },
            Index { name: "by_place", columns: &[7] },
        ],
    },
    Table { name: "totals", columns: &[COLUMNS[0], COLUMNS[3]], key_len: 1, indexes: &[] },
];

const OTHER_TABLES: &[Table] =
    &[Table { name: "things", columns: &[COLUMNS[0], COLUMNS[1]], key_len: 1, indexes: &[] }];

/// A projection that is only a name and tables: the checks write the rows themselves.
struct Shape {
    name: &'static str,
    version: u32,
    tables: &'static [Table],
}

impl Projection for Shape {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn tables(&self) -> &'static [Table] {
        self.tables
    }

    fn interest(&self) -> Interest {
        Interest::default()
    }

    fn apply(&self, _: EventView<'_>, _: &mut Changes<'_>) -> Result<(), ApplyError> {
        Ok(())
    }
}

fn shape(name: &'static str) -> Shape {
    Shape { name, version: 1, tables: TABLES }
}

fn place(position: u64) -> Checkpoint {
    Checkpoint::at(Position(position), Epoch(3))
}

/// What a commit changes.
#[derive(Clone, Debug)]
enum Step {
    Put(&'static Table, Row),
    Delete(&'static Table, Row),
}

/// Has `writer` commit `steps`, in a thread that may block.
async fn commit<W: Writer>(
    mut writer: W,
    steps: Vec<Step>,
    parked: Vec<Parked>,
    through: u64,
) -> (W, Result<(), CommitError>) {
    let task = tokio::task::spawn_blocking(move || {
        let mut set = ChangeSet::new(TABLES);
        for step in steps {
            let mut changes = set.over(&mut writer);
            match step {
                Step::Put(table, row) => changes.put(table, row).unwrap(),
                Step::Delete(table, key) => changes.delete(table, &key).unwrap(),
            }
        }
        let done = writer.commit(&set, &parked, place(through));
        (writer, done)
    });
    task.await.unwrap()
}

async fn committed<W: Writer>(writer: W, steps: Vec<Step>, through: u64) -> W {
    let (writer, done) = commit(writer, steps, Vec::new(), through).await;
    done.unwrap();
    writer
}

/// Checks everything. `backend` is empty and nobody else's.
pub async fn conformance<B: Backend>(backend: B) {
    nothing_is_there_at_first(&backend).await;
    generations_come_serve_and_go(&backend).await;
    rows_of_all_kinds_are_found(&backend).await;
    rows_move_within_indexes_and_go(&backend).await;
    only_the_last_writer_writes(&backend).await;
    a_pause_is_remembered(&backend).await;
    what_is_parked_is_listed(&backend).await;
    who_waits_is_woken(&backend).await;
    another_layout_is_not_read(&backend).await;
}

async fn nothing_is_there_at_first<B: Backend>(backend: &B) {
    assert_eq!(backend.generations("nothing").await.unwrap(), []);
    let query = backend.query(&all_of("nothing", THINGS, None)).await;
    assert!(matches!(query, Err(QueryError::NotReady { .. })), "{query:?}");
    let reached = backend.reached("nothing").await;
    assert!(matches!(reached, Err(QueryError::NotReady { .. })), "{reached:?}");
    let none = shape("nothing");
    assert!(backend.write(&none, 1).await.is_err());
    assert!(backend.serve("nothing", 1).await.is_err());
    backend.remove("nothing", 1).await.unwrap();
}

async fn generations_come_serve_and_go<B: Backend>(backend: &B) {
    let one = shape("generations");
    let two = Shape { version: 2, ..shape("generations") };
    let (name, row) = ("generations", |n: i64| vec![Value::from("t"), Decimal::from(n).into()]);
    let totals = &TABLES[1];
    assert_eq!(backend.create(&one).await.unwrap(), 1);
    assert_eq!(backend.reached(name).await.unwrap(), None);
    assert_eq!(dump(backend, name, totals).await.1.as_of, None);
    let writer = backend.write(&one, 1).await.unwrap();
    assert_eq!(writer.checkpoint(), None);
    let writer = committed(writer, vec![Step::Put(totals, row(1))], 10).await;
    assert_eq!(writer.checkpoint(), Some(place(10)));

    // The second is built beside it: its own rows, its own place.
    assert_eq!(backend.create(&two).await.unwrap(), 2);
    let other = backend.write(&two, 2).await.unwrap();
    let other = committed(other, vec![Step::Put(totals, row(2))], 7).await;
    let seen: Vec<_> = backend
        .generations(name)
        .await
        .unwrap()
        .into_iter()
        .map(|g| (g.number, g.version, g.serving, g.checkpoint))
        .collect();
    assert_eq!(seen, [(1, 1, true, Some(place(10))), (2, 2, false, Some(place(7)))]);
    assert_eq!(dump(backend, name, totals).await.0, [row(1)]);
    assert_eq!(backend.reached(name).await.unwrap(), Some(place(10)));

    backend.serve(name, 2).await.unwrap();
    let seen = backend.generations(name).await.unwrap();
    assert_eq!(seen.iter().map(|g| (g.number, g.serving)).collect::<Vec<_>>(), [(2, true)]);
    let (rows, page) = dump(backend, name, totals).await;
    assert_eq!((rows, page.as_of), (vec![row(2)], Some(place(7))));

    // The writer of what was removed changes nothing; the other one goes on.
    let (_, done) = commit(writer, vec![Step::Put(totals, row(9))], Vec::new(), 11).await;
    assert!(done.is_err());
    committed(other, vec![Step::Put(totals, row(3))], 12).await;
    assert_eq!(dump(backend, name, totals).await.0, [row(3)]);

    assert_eq!(backend.create(&one).await.unwrap(), 3);
    backend.remove(name, 3).await.unwrap();
    backend.remove(name, 2).await.unwrap();
    assert_eq!(backend.generations(name).await.unwrap(), []);
    assert!(backend.query(&all_of(name, totals, None)).await.is_err());
    // Nothing of the former ones is in a new one, which serves because none does.
    let number = backend.create(&one).await.unwrap();
    let seen = backend.generations(name).await.unwrap();
    assert_eq!(seen.iter().map(|g| (g.number, g.serving)).collect::<Vec<_>>(), [(number, true)]);
    assert_eq!(dump(backend, name, totals).await.0, Vec::<Row>::new());
}

/// Rows with every kind, its edges, and nulls.
fn things() -> Vec<Row> {
    let texts = ["", "a", "ab", "b", "ä", "Z", "z", "\u{10FFFF}", "a'b\"c\\d", "line\nend"];
    let decimals =
        ["-79228162514264337593543950335", "-1.50", "-1.5", "0", "0.00", "0.01", "1", "1.0", "10"];
    let mut rows = Vec::new();
    for (at, text) in (0i64..).zip(texts) {
        for number in [i64::MIN, -1, 0, 1 << 40, i64::MAX] {
            let n = at * 5 + number.rem_euclid(7);
            let some = |every: i64| n % every != 0;
            rows.push(vec![
                Value::from(text),
                number.into(),
                some(3).then(|| texts[usize::try_from(n).unwrap() % 4]).into(),
                some(4)
                    .then(|| decimals[usize::try_from(n).unwrap() % 9].parse::<Decimal>().unwrap())
                    .into(),
                some(5).then(|| Uuid::from_u128(u128::MAX / 100 * n.unsigned_abs() as u128)).into(),
                some(6).then(|| Timestamp(number.wrapping_add(n))).into(),
                some(2).then_some(n % 3 == 0).into(),
                Value::from(Some(n % 4)),
            ]);
        }
    }
    rows
}

/// What a query is to answer, as a model of it says.
fn expected(rows: &[Row], query: &Query) -> Vec<Row> {
    let columns = query.index.map_or(&[][..], |index| index.columns);
    let order = |row: &Row| -> Vec<Value> {
        columns.iter().map(|c| row[*c].clone()).chain(row[..2].iter().cloned()).collect()
    };
    let mut rows: Vec<Row> = rows
        .iter()
        .filter(|row| order(row).starts_with(&query.prefix))
        .filter(|row| query.filters.iter().all(|f| f.is.fits(&row[f.column], &f.value)))
        .cloned()
        .collect();
    rows.sort_by_key(order);
    if query.order == Order::Descending {
        rows.reverse();
    }
    rows
}

/// All pages of a query.
async fn pages<B: Backend>(backend: &B, mut query: Query) -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        let page = backend.query(&query).await.unwrap();
        assert!(page.rows.len() <= query.limit);
        rows.extend(page.rows);
        let Some(next) = page.next else { return rows };
        query.after = Some(next);
    }
}

async fn rows_of_all_kinds_are_found<B: Backend>(backend: &B) {
    let name = "kinds";
    let projection = shape(name);
    let number = backend.create(&projection).await.unwrap();
    let writer = backend.write(&projection, number).await.unwrap();
    let rows = things();
    let (first, rest) = rows.split_at(20);
    let put = |rows: &[Row]| rows.iter().map(|row| Step::Put(THINGS, row.clone())).collect();
    let writer = committed(writer, put(first), 20).await;
    drop(committed(writer, put(rest), 50).await);

    let all = all_of(name, THINGS, None);
    let filter = |column, is, value| Filter { column, is, value };
    let amount = |text: &str| Value::Decimal(text.parse().unwrap());
    let filters = [
        vec![],
        vec![filter(3, Comparison::Equal, amount("1.00"))],
        vec![filter(3, Comparison::AtLeast, amount("0"))],
        vec![filter(3, Comparison::Below, amount("0.010"))],
        vec![filter(6, Comparison::Equal, true.into()), filter(1, Comparison::AtLeast, 0.into())],
        vec![filter(0, Comparison::Below, "b".into())],
        vec![filter(4, Comparison::AtLeast, Uuid::from_u128(1 << 120).into())],
        vec![filter(5, Comparison::Below, Timestamp(0).into())],
        vec![filter(2, Comparison::Equal, "nowhere".into())],
    ];
    let orders = [
        (None, vec![]),
        (None, vec![Value::from("a")]),
        (None, vec!["ab".into(), 0.into()]),
        (Some(BY_MOOD), vec![]),
        (Some(BY_MOOD), vec!["a".into()]),
        (Some(BY_MOOD), vec![Value::Null]),
        (Some(BY_MOOD), vec!["ab".into(), Value::Null]),
        (Some(BY_PLACE), vec![]),
        (Some(BY_PLACE), vec![3.into()]),
        (Some(BY_PLACE), vec![9.into()]),
    ];
    for (index, prefix) in &orders {
        for filters in &filters {
            for (order, limit) in [(Order::Ascending, 7), (Order::Descending, 1000)] {
                let (prefix, filters) = (prefix.clone(), filters.clone());
                let query = Query { index: *index, prefix, filters, order, limit, ..all.clone() };
                let found = pages(backend, query.clone()).await;
                assert_eq!(found, expected(&rows, &query), "{query:?}");
            }
        }
    }
    // A page of one, backwards: a cursor in the middle of rows that are alike.
    let one = Query { index: Some(BY_PLACE), order: Order::Descending, limit: 1, ..all.clone() };
    assert_eq!(pages(backend, one.clone()).await, expected(&rows, &one));
    // A cursor outside of the prefix reads nothing else.
    let outside = Query {
        index: Some(BY_PLACE),
        prefix: vec![1.into()],
        after: Some(vec![3.into(), "z".into(), 0.into()]),
        ..all
    };
    assert_eq!(backend.query(&outside).await.unwrap().rows, Vec::<Row>::new());

    // Scales come back as they were put.
    let mut writer = backend.write(&projection, number).await.unwrap();
    assert_eq!(writer.checkpoint(), Some(place(50)));
    let key = rows[7][..2].to_vec();
    let load = move || writer.load(THINGS, &key).unwrap();
    let row = tokio::task::spawn_blocking(load).await.unwrap();
    assert_eq!(row.as_deref(), Some(&rows[7]));
}

async fn rows_move_within_indexes_and_go<B: Backend>(backend: &B) {
    let name = "moves";
    let projection = shape(name);
    let number = backend.create(&projection).await.unwrap();
    let mut writer = backend.write(&projection, number).await.unwrap();
    let mut rows = things();
    rows.truncate(12);
    let steps = rows.iter().map(|row| Step::Put(THINGS, row.clone())).collect();
    writer = committed(writer, steps, 1).await;
    for turn in 0..6u64 {
        let mut steps = Vec::new();
        for (at, row) in rows.iter_mut().enumerate() {
            if (at as u64 + turn).is_multiple_of(3) {
                row[7] = Value::from(Some(i64::try_from(turn).unwrap()));
                row[2] = if turn.is_multiple_of(2) { Value::Null } else { "moved".into() };
                steps.push(Step::Put(THINGS, row.clone()));
            }
        }
        // One goes and one comes back in the same commit; one goes for good.
        let back = rows[0].clone();
        steps.push(Step::Delete(THINGS, back[..2].to_vec()));
        steps.push(Step::Put(THINGS, back));
        let gone = rows.pop().unwrap();
        steps.push(Step::Delete(THINGS, gone[..2].to_vec()));
        steps.push(Step::Delete(THINGS, vec!["never there".into(), 0.into()]));
        writer = committed(writer, steps, 2 + turn).await;
        if turn == 3 {
            writer = backend.write(&projection, number).await.unwrap();
        }
        for index in [None, Some(BY_MOOD), Some(BY_PLACE)] {
            let query = Query { index, ..all_of(name, THINGS, None) };
            let page = backend.query(&query).await.unwrap();
            assert_eq!(page.rows, expected(&rows, &query), "turn {turn}, {index:?}");
            assert_eq!(page.as_of, Some(place(2 + turn)));
            assert_eq!(page.next, None);
        }
    }
}

async fn only_the_last_writer_writes<B: Backend>(backend: &B) {
    let name = "fence";
    let projection = shape(name);
    let number = backend.create(&projection).await.unwrap();
    let put = |n: i64| vec![Step::Put(&TABLES[1], vec![Value::from("t"), Decimal::from(n).into()])];
    let first = backend.write(&projection, number).await.unwrap();
    let first = committed(first, put(1), 1).await;
    let second = backend.write(&projection, number).await.unwrap();
    assert_eq!(second.checkpoint(), Some(place(1)));
    let parked = vec![parked(2)];
    let (first, done) = commit(first, put(100), parked, 2).await;
    assert!(matches!(done, Err(CommitError::Fenced { .. })), "{done:?}");
    let second = committed(second, put(2), 3).await;
    let (_, done) = commit(first, put(100), Vec::new(), 4).await;
    assert!(matches!(done, Err(CommitError::Fenced { .. })), "{done:?}");
    let (rows, page) = dump(backend, name, &TABLES[1]).await;
    assert_eq!(rows, [vec![Value::from("t"), Decimal::from(2).into()]]);
    assert_eq!(page.as_of, Some(place(3)));
    assert_eq!(backend.parked(name, None, 10).await.unwrap(), []);
    committed(second, put(3), 5).await;
}

async fn a_pause_is_remembered<B: Backend>(backend: &B) {
    let projection = shape("paused");
    let paused = async || -> Vec<bool> {
        let all = backend.generations("paused").await.unwrap();
        all.iter().map(|generation| generation.paused).collect()
    };
    backend.create(&projection).await.unwrap();
    assert_eq!(paused().await, [false]);
    backend.set_paused("paused", true).await.unwrap();
    backend.create(&projection).await.unwrap();
    assert_eq!(paused().await, [true, true]);
    backend.set_paused("paused", false).await.unwrap();
    assert_eq!(paused().await, [false, false]);
}

fn parked(position: u64) -> Parked {
    Parked {
        position: Position(position),
        stream: format!("stream-{position}"),
        event_type: "Bad".to_owned(),
        reason: "it's \"bad\"\n".to_owned(),
        at: Timestamp(1_700_000_000_123_456_789),
    }
}

async fn what_is_parked_is_listed<B: Backend>(backend: &B) {
    let name = "parked";
    let projection = shape(name);
    let number = backend.create(&projection).await.unwrap();
    let writer = backend.write(&projection, number).await.unwrap();
    assert_eq!(backend.parked(name, None, 10).await.unwrap(), []);
    let (writer, done) = commit(writer, Vec::new(), vec![parked(3), parked(200)], 200).await;
    done.unwrap();
    let (_, done) = commit(writer, Vec::new(), vec![parked(70_000)], 70_001).await;
    done.unwrap();
    let all = [parked(3), parked(200), parked(70_000)];
    assert_eq!(backend.parked(name, None, 10).await.unwrap(), all);
    assert_eq!(backend.parked(name, None, 2).await.unwrap(), all[..2]);
    assert_eq!(backend.parked(name, Some(Position(3)), 10).await.unwrap(), all[1..]);
    assert_eq!(backend.parked(name, Some(Position(70_000)), 10).await.unwrap(), []);
    // Another build has not parked them.
    let number = backend.create(&projection).await.unwrap();
    backend.serve(name, number).await.unwrap();
    assert_eq!(backend.parked(name, None, 10).await.unwrap(), []);
}

async fn who_waits_is_woken<B: Backend>(backend: &B) {
    let name = "waits";
    let projection = shape(name);
    let number = backend.create(&projection).await.unwrap();
    let writer = backend.write(&projection, number).await.unwrap();
    let writer = committed(writer, Vec::new(), 5).await;
    tokio::time::timeout(TOO_LONG, backend.wait(name, Position(5))).await.unwrap().unwrap();
    let early = tokio::time::timeout(Duration::from_millis(20), backend.wait(name, Position(6)));
    assert!(early.await.is_err(), "it was not there yet");
    let waits = backend.clone();
    let waiting = tokio::spawn(async move { waits.wait(name, Position(6)).await });
    let writer = committed(writer, Vec::new(), 8).await;
    tokio::time::timeout(TOO_LONG, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(backend.reached(name).await.unwrap(), Some(place(8)));

    // Who waits is told of the next generation as well.
    let waits = backend.clone();
    let waiting = tokio::spawn(async move { waits.wait(name, Position(20)).await });
    let number = backend.create(&projection).await.unwrap();
    let next = backend.write(&projection, number).await.unwrap();
    committed(next, Vec::new(), 20).await;
    drop(committed(writer, Vec::new(), 9).await);
    backend.serve(name, number).await.unwrap();
    tokio::time::timeout(TOO_LONG, waiting).await.unwrap().unwrap().unwrap();
}

async fn another_layout_is_not_read<B: Backend>(backend: &B) {
    let name = "layouts";
    let old = shape(name);
    let new = Shape { name, version: 2, tables: OTHER_TABLES };
    backend.create(&old).await.unwrap();
    let ask = async || backend.query(&all_of(name, &OTHER_TABLES[0], None)).await;
    let answer = ask().await;
    assert!(matches!(answer, Err(QueryError::NotReady { .. })), "{answer:?}");
    let number = backend.create(&new).await.unwrap();
    assert!(ask().await.is_err(), "the old one serves");
    backend.serve(name, number).await.unwrap();
    assert_eq!(ask().await.unwrap().rows, Vec::<Row>::new());
    assert!(backend.query(&all_of(name, THINGS, None)).await.is_err(), "the old one is gone");
}
