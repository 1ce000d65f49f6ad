//! Read models in a real PostgreSQL: pages, fences, generations, restarts and kills.
//!
//! `DAYBOOK_TEST_POSTGRES` names the server (its user may create schemas), and
//! `DAYBOOK_TEST_POSTGRES_RESTART` a program that restarts it; without them the tests are skipped
//! and say so. `tests/readside/run postgres` provides both. Each test has a schema of its own.

mod support;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use daybook_client::Checkpoint;
use daybook_model::{
    ContentType, Epoch, EventView, Position, RecordedEvent, Revision, StreamName, SystemClock,
    Timestamp,
};
use daybook_projections::build::Build;
use daybook_projections::feed::Head;
use daybook_projections::postgres::{Postgres, PostgresWriter, Server};
use daybook_projections::query::{Comparison, Filter, Order};
use daybook_projections::runner::{Runner, Seams};
use daybook_projections::{
    ApplyError, Backend, Batch, ChangeSet, Changes, Column, CommitError, Feed, FeedError,
    FeedEvent, Index, Interest, Kind, Page, Parked, Projection, Query, QueryError, Row, Source,
    Table, Value, Writer,
};
use rust_decimal::Decimal;
use uuid::Uuid;

const SERVER: &str = "DAYBOOK_TEST_POSTGRES";
const RESTART: &str = "DAYBOOK_TEST_POSTGRES_RESTART";
/// Tells a child process which schema it works on.
const CHILD: &str = "DAYBOOK_TEST_POSTGRES_CHILD";
/// What a test waits for at most before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

// ------------------------------------------------------------------------------------ the server

fn server(test: &str) -> Option<Server> {
    let Ok(url) = std::env::var(SERVER) else {
        println!("skipped: {test}: {SERVER} names no PostgreSQL; see tests/readside/run");
        return None;
    };
    Some(Server::parse(&url).expect("a connection string"))
}

/// A schema of its own for `test`.
fn home(test: &str) -> Option<(Postgres, String)> {
    let schema = format!("daybook_{test}_{}", std::process::id());
    let postgres = Postgres::new(server(test)?, &schema, Some(Uuid::from_u128(7)));
    Some((postgres.expect("a schema"), schema))
}

async fn psql(sql: &str) -> Vec<tokio_postgres::Row> {
    let url = std::env::var(SERVER).expect("a server");
    let (client, connection) =
        tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
}

async fn drop_schema(schema: &str) {
    psql(&format!("DROP SCHEMA \"{schema}\" CASCADE")).await;
}

fn at(position: u64) -> Checkpoint {
    Checkpoint::at(Position(position), Epoch(3))
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_a_backend() {
    let Some((postgres, schema)) = home("conformance") else { return };
    support::conformance::conformance(postgres).await;
    drop_schema(&schema).await;
}

// --------------------------------------------------------------------------- rows of every kind

static SAMPLES: Table = Table {
    name: "samples",
    columns: &[
        Column { name: "order", kind: Kind::Text },
        Column { name: "number", kind: Kind::Integer },
        Column { name: "text", kind: Kind::Text },
        Column { name: "amount", kind: Kind::Decimal },
        Column { name: "uid", kind: Kind::Uuid },
        Column { name: "at", kind: Kind::Time },
        Column { name: "flag", kind: Kind::Flag },
    ],
    key_len: 2,
    indexes: &[
        Index { name: "by_text", columns: &[2] },
        Index { name: "by_amount_and_flag", columns: &[3, 6] },
        Index { name: "by_time", columns: &[5] },
        Index { name: "by_uid_and_number", columns: &[4, 1] },
    ],
};

/// Keeps rows that tests put themselves.
struct Samples(u32);

impl Projection for Samples {
    fn name(&self) -> &'static str {
        "samples"
    }

    fn version(&self) -> u32 {
        self.0
    }

    fn tables(&self) -> &'static [Table] {
        std::slice::from_ref(&SAMPLES)
    }

    fn interest(&self) -> Interest {
        Interest::default()
    }

    fn apply(&self, _: EventView<'_>, _: &mut Changes<'_>) -> Result<(), ApplyError> {
        Ok(())
    }
}

/// Numbers of a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn or_null(&mut self, value: impl Into<Value>) -> Value {
        if self.below(4) == 0 { Value::Null } else { value.into() }
    }
}

fn sample(dice: &mut Dice) -> Row {
    let text = ["", "a", "A", "ä", "ab", "\u{10ffff}"][dice.below(6) as usize];
    let amount = Decimal::new(dice.below(7) as i64 - 3, dice.below(3) as u32);
    let uid = Uuid::from_u128(u128::from(dice.below(3)) << 120);
    let time = Timestamp(dice.below(3) as i64 - 1);
    vec![
        ["x", "X", "y"][dice.below(3) as usize].into(),
        (dice.below(200) as i64 - 100).into(),
        dice.or_null(text),
        dice.or_null(amount),
        dice.or_null(uid),
        dice.or_null(time),
        { dice.below(2) == 1 }.into(),
    ]
}

/// Commits on a thread that may block.
async fn commit(
    mut writer: PostgresWriter,
    put: Vec<Row>,
    delete: Vec<Row>,
    through: Checkpoint,
) -> (PostgresWriter, Result<(), CommitError>) {
    let task = tokio::task::spawn_blocking(move || {
        let mut set = ChangeSet::new(std::slice::from_ref(&SAMPLES));
        let mut changes = set.over(&mut writer);
        for row in put {
            changes.put(&SAMPLES, row).expect("put");
        }
        for row in delete {
            changes.delete(&SAMPLES, SAMPLES.key(&row)).expect("delete");
        }
        let done = writer.commit(&set, &[], through);
        (writer, done)
    });
    task.await.expect("no panic")
}

fn query(index: Option<&'static Index>) -> Query {
    Query {
        projection: "samples",
        table: &SAMPLES,
        index,
        prefix: Vec::new(),
        filters: Vec::new(),
        order: Order::Ascending,
        after: None,
        limit: 7,
    }
}

/// All rows of a query, page by page.
async fn walk(postgres: &Postgres, mut query: Query) -> Vec<Row> {
    let mut rows = Vec::new();
    loop {
        let page: Page = postgres.query(&query).await.expect("a page");
        assert!(page.rows.len() <= query.limit, "{query:?}");
        rows.extend(page.rows);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return rows,
        }
    }
}

fn expected(rows: &BTreeMap<Row, Row>, query: &Query) -> Vec<Row> {
    let index = query.index.map_or(&[][..], |index| index.columns);
    let order: Vec<usize> = index.iter().copied().chain(0..SAMPLES.key_len).collect();
    let place = |row: &Row| order.iter().map(|at| row[*at].clone()).collect::<Vec<_>>();
    let mut rows: Vec<Row> = rows
        .values()
        .filter(|row| place(row).starts_with(&query.prefix))
        .filter(|row| query.filters.iter().all(|f| f.is.fits(&row[f.column], &f.value)))
        .cloned()
        .collect();
    rows.sort_by_key(place);
    if query.order == Order::Descending {
        rows.reverse();
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_those_of_rows_in_memory() {
    let Some((postgres, schema)) = home("pages") else { return };
    let generation = postgres.create(&Samples(1)).await.expect("a generation");
    let mut writer = postgres.write(&Samples(1), generation).await.expect("a writer");
    let (mut dice, mut rows) = (Dice(0x5eed), BTreeMap::new());
    for round in 1..=5 {
        let put: Vec<Row> = (0..150).map(|_| sample(&mut dice)).collect();
        rows.extend(put.iter().map(|row| (SAMPLES.key(row).to_vec(), row.clone())));
        let delete: Vec<Row> = rows.values().step_by(7).cloned().collect();
        rows.retain(|_, row| !delete.contains(row));
        let done;
        (writer, done) = commit(writer, put, delete, at(round)).await;
        done.expect("committed");
        // Half of the rounds go on with what another writer has left.
        if round % 2 == 0 {
            writer = postgres.write(&Samples(1), generation).await.expect("a writer");
        }
    }
    let mut queries = Vec::new();
    for index in SAMPLES.indexes.iter().map(Some).chain([None]) {
        queries.push(query(index));
        for _ in 0..6 {
            let row = sample(&mut dice);
            let columns: Vec<usize> = index.map_or(vec![0], |index| index.columns.to_vec());
            let prefix: Vec<Value> = columns.iter().map(|at| row[*at].clone()).collect();
            let filter = [1, 3, 5][dice.below(3) as usize];
            let is = [Comparison::AtLeast, Comparison::Below, Comparison::Equal];
            let is = is[dice.below(3) as usize];
            let filter = Filter { column: filter, is, value: row[filter].clone() };
            queries.push(Query { prefix: prefix[..1].to_vec(), ..query(index) });
            queries.push(Query { prefix, filters: vec![filter.clone()], ..query(index) });
            queries.push(Query { filters: vec![filter], ..query(index) });
        }
    }
    for query in queries {
        for order in [Order::Ascending, Order::Descending] {
            for limit in [1, 7, 1000] {
                let query = Query { order, limit, ..query.clone() };
                let found = walk(&postgres, query.clone()).await;
                assert_eq!(found, expected(&rows, &query), "{query:?}");
            }
        }
    }
    drop_schema(&schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_filters_fit_few_rows_ends_early_and_goes_on() {
    let Some((postgres, schema)) = home("examined") else { return };
    let generation = postgres.create(&Samples(1)).await.expect("a generation");
    let writer = postgres.write(&Samples(1), generation).await.expect("a writer");
    let row = |n: i64| {
        let mut row = vec!["x".into(), n.into(), Value::Null, Value::Null];
        row.extend([Value::Null, Value::Null, (n == 19_999).into()]);
        row
    };
    let (_, done) = commit(writer, (0..25_000).map(row).collect(), Vec::new(), at(1)).await;
    done.expect("committed");
    let filter = Filter { column: 6, is: Comparison::Equal, value: true.into() };
    let mut query = Query { filters: vec![filter], ..query(None) };
    let mut pages = Vec::new();
    loop {
        let page = postgres.query(&query).await.expect("a page");
        pages.push((page.rows.len(), page.next.clone()));
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    let place = |n: i64| Some(vec![Value::from("x"), n.into()]);
    assert_eq!(pages, [(0, place(9_999)), (1, place(19_999)), (0, None)]);
    drop_schema(&schema).await;
}

// ------------------------------------------------------------------------- writers, generations

#[tokio::test(flavor = "multi_thread")]
async fn who_was_taken_over_from_changes_nothing() {
    let Some((postgres, schema)) = home("fence") else { return };
    let other =
        Postgres::new(server("fence").expect("a server"), &schema, Some(Uuid::from_u128(7)));
    let other = other.expect("another process' handle");
    let generation = postgres.create(&Samples(1)).await.expect("a generation");
    let first = postgres.write(&Samples(1), generation).await.expect("a writer");
    let mut dice = Dice(1);
    let (kept, lost) = (sample(&mut dice), sample(&mut dice));
    let (first, done) = commit(first, vec![kept.clone()], Vec::new(), at(1)).await;
    done.expect("committed");
    let second = other.write(&Samples(1), generation).await.expect("a writer");
    assert_eq!(second.checkpoint(), Some(at(1)));
    let (_, done) = commit(first, vec![lost], vec![kept.clone()], at(2)).await;
    assert_eq!(done, Err(CommitError::Fenced { projection: "samples".to_owned() }));
    assert_eq!(walk(&postgres, query(None)).await, [kept]);
    let (second, done) = commit(second, Vec::new(), Vec::new(), at(2)).await;
    done.expect("the second still may");
    postgres.remove("samples", generation).await.expect("removed");
    let (_, done) = commit(second, Vec::new(), Vec::new(), at(3)).await;
    assert_eq!(done, Err(CommitError::Fenced { projection: "samples".to_owned() }));
    drop_schema(&schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_take_over_from_each_other_all_the_time_count_each_commit_once() {
    let Some((postgres, schema)) = home("takeover") else { return };
    let generation = postgres.create(&Samples(1)).await.expect("a generation");
    let counted = |count: i64| {
        let mut row = sample(&mut Dice(1));
        row[5] = Timestamp(count).into();
        row
    };
    let key = SAMPLES.key(&counted(0)).to_vec();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (postgres, key) = (postgres.clone(), key.clone());
        tasks.spawn(async move {
            let mut done = 0;
            while done < 25 {
                let mut writer = postgres.write(&Samples(1), generation).await.expect("a writer");
                for _ in 0..2 {
                    let key = key.clone();
                    let load = tokio::task::spawn_blocking(move || {
                        let row = writer.load(&SAMPLES, &key).expect("loaded");
                        (writer, row)
                    });
                    let (loaded, row) = load.await.expect("no panic");
                    let count = row.map_or(0, |row| match row[5] {
                        Value::Time(time) => time.0,
                        _ => 0,
                    });
                    let through = at(loaded.checkpoint().map_or(0, |c| c.position().0 + 1));
                    let result;
                    (writer, result) =
                        commit(loaded, vec![counted(count + 1)], Vec::new(), through).await;
                    match result {
                        Ok(()) => done += 1,
                        Err(CommitError::Fenced { .. }) => break,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            done
        });
    }
    let done: i64 = tasks.join_all().await.into_iter().sum();
    assert_eq!(walk(&postgres, query(None)).await, [counted(done)]);
    drop_schema(&schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_whole_while_generations_come_and_go() {
    let Some((postgres, schema)) = home("swap") else { return };
    // Each generation has one commit, and all of its rows carry the commit's number.
    let build = async |round: u64| {
        let generation = postgres.create(&Samples(1)).await.expect("a generation");
        let writer = postgres.write(&Samples(1), generation).await.expect("a writer");
        let row = |n: i64| {
            let mut row = sample(&mut Dice(1));
            row[1] = n.into();
            row[5] = Timestamp(round as i64).into();
            row
        };
        let (_, done) = commit(writer, (0..20).map(row).collect(), Vec::new(), at(round)).await;
        done.expect("committed");
        postgres.serve("samples", generation).await.expect("served");
    };
    build(1).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let reader = tokio::spawn({
        let postgres = postgres.clone();
        async move {
            let mut pages = 0;
            while !*stopped.borrow() {
                let page = postgres.query(&Query { limit: 100, ..query(None) }).await;
                let page = page.expect("a page");
                let round = page.as_of.expect("a place").position().0;
                assert_eq!(page.rows.len(), 20);
                let round = Value::from(Timestamp(round as i64));
                assert!(page.rows.iter().all(|row| row[5] == round), "{page:?}");
                pages += 1;
            }
            pages
        }
    });
    for round in 2..=25 {
        build(round).await;
    }
    stop.send_replace(true);
    assert!(reader.await.expect("no panic") > 0);
    let tables = format!("SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}'");
    assert_eq!(psql(&tables).await[0].get::<_, i64>(0), 5, "the catalog, and one generation");
    drop_schema(&schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn views_show_what_serves_and_keep_the_rights_given_on_them() {
    let Some((postgres, schema)) = home("views") else { return };
    let first = postgres.create(&Samples(1)).await.expect("a generation");
    let view = format!("\"{schema}\".\"samples_samples\"");
    psql(&format!("GRANT SELECT ON {view} TO PUBLIC")).await;
    let second = postgres.create(&Samples(1)).await.expect("a generation");
    let writer = postgres.write(&Samples(1), second).await.expect("a writer");
    let (_, done) = commit(writer, vec![sample(&mut Dice(1))], Vec::new(), at(1)).await;
    done.expect("committed");
    let count = format!("SELECT count(*) FROM {view}");
    assert_eq!(psql(&count).await[0].get::<_, i64>(0), 0, "the first still serves");
    postgres.serve("samples", second).await.expect("served");
    assert_eq!(psql(&count).await[0].get::<_, i64>(0), 1);
    let rights = format!("SELECT relacl::text FROM pg_class WHERE oid = '{view}'::regclass");
    let rights: Option<String> = psql(&rights).await[0].get(0);
    assert!(rights.is_some_and(|rights| rights.contains("=r/")), "PUBLIC may still read");
    let known = postgres.generations("samples").await.expect("generations");
    assert_eq!(known.iter().map(|g| (g.number, g.serving)).collect::<Vec<_>>(), [(second, true)]);
    assert!(first < second);
    postgres.remove("samples", second).await.expect("removed");
    let none = postgres.query(&query(None)).await;
    assert!(matches!(none, Err(QueryError::NotReady { .. })), "{none:?}");
    drop_schema(&schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_another_store_is_refused() {
    let Some((postgres, schema)) = home("store") else { return };
    let generation = postgres.create(&Samples(1)).await.expect("a generation");
    let other = Postgres::new(server("store").expect("a server"), &schema, Some(Uuid::nil()));
    let other = other.expect("a schema");
    let error = other.generations("samples").await.expect_err("not its own");
    assert!(!error.transient && error.reason.contains("DROP SCHEMA"), "{error}");
    other.write(&Samples(1), generation).await.err().expect("not its own");
    other.create(&Samples(1)).await.expect_err("not its own");
    let reader = Postgres::new(server("store").expect("a server"), &schema, None).expect("any");
    assert_eq!(reader.generations("samples").await.map(|known| known.len()), Ok(1));
    // Whoever drops it has it built anew.
    drop_schema(&schema).await;
    assert_eq!(other.generations("samples").await, Ok(Vec::new()));
    assert_eq!(other.create(&Samples(1)).await, Ok(1));
    drop_schema(&schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_postgresql_cannot_hold_stops_nothing() {
    let Some((postgres, schema)) = home("parked") else { return };
    let generation = postgres.create(&Samples(1)).await.expect("a generation");
    let mut writer = postgres.write(&Samples(1), generation).await.expect("a writer");
    let parked = |position: u64, reason: &str| Parked {
        position: Position(position),
        stream: "a-1".to_owned(),
        event_type: "T".to_owned(),
        reason: reason.to_owned(),
        at: Timestamp(5),
    };
    let both = [parked(1, "nul \0"), parked(2, "other")];
    let done = tokio::task::spawn_blocking(move || {
        writer.commit(&ChangeSet::new(std::slice::from_ref(&SAMPLES)), &both, at(2))
    });
    done.await.expect("no panic").expect("committed");
    let found = postgres.parked("samples", None, 1).await.expect("parked");
    assert_eq!(found, [parked(1, "nul \u{fffd}")]);
    let found = postgres.parked("samples", Some(Position(1)), 9).await.expect("parked");
    assert_eq!(found, [parked(2, "other")]);
    let writer = postgres.write(&Samples(1), generation).await.expect("a writer");
    let mut row = sample(&mut Dice(1));
    row[2] = "nul \0".into();
    let (_, done) = commit(writer, vec![row.clone()], Vec::new(), at(3)).await;
    done.expect("committed");
    row[2] = "nul \u{fffd}".into();
    assert_eq!(walk(&postgres, query(None)).await, [row]);
    let nul = Query { prefix: vec!["\0".into()], ..query(SAMPLES.index("by_text")) };
    assert_eq!(postgres.query(&nul).await.map(|page| page.rows), Ok(Vec::new()));
    drop_schema(&schema).await;
}

// -------------------------------------------------------------------------- restarts and kills

/// Events that are made as they are read: number n is at position n.
#[derive(Clone, Copy)]
struct Numbers {
    count: u64,
}

struct NumbersFeed {
    count: u64,
    next: u64,
    dice: Dice,
}

impl Source for Numbers {
    type Feed = NumbersFeed;

    async fn follow(
        &self,
        after: Option<Checkpoint>,
        _: Interest,
    ) -> Result<NumbersFeed, FeedError> {
        let next = after.map_or(0, |after| after.position().0 + 1);
        Ok(NumbersFeed { count: self.count, next, dice: Dice(next + 1) })
    }

    async fn head(&self) -> Result<Head, FeedError> {
        Ok(Head { checkpoint: Some(at(self.count - 1)), time: None })
    }

    async fn time_at(&self, _: Checkpoint) -> Result<Option<Timestamp>, FeedError> {
        Ok(None)
    }
}

impl Feed for NumbersFeed {
    async fn next(&mut self) -> Result<Batch, FeedError> {
        if self.next == self.count {
            std::future::pending::<()>().await;
        }
        let end = self.count.min(self.next + 1 + self.dice.below(40));
        let events = (self.next..end).map(number).collect();
        self.next = end;
        Ok(Batch { events, through: Some(at(end - 1)), caught_up: end == self.count })
    }
}

fn number(position: u64) -> FeedEvent {
    let event = RecordedEvent {
        position: Position(position),
        revision: Revision(position),
        time: Timestamp(0),
        id: Uuid::from_u128(u128::from(position)),
        stream: StreamName::new("numbers").expect("a name"),
        event_type: "Number".to_owned(),
        content_type: ContentType::Json,
        tombstone: false,
        metadata: bytes::Bytes::new(),
        data: bytes::Bytes::new(),
    };
    FeedEvent { checkpoint: at(position), event }
}

static SUMS: Table = Table {
    name: "sums",
    columns: &[
        Column { name: "class", kind: Kind::Integer },
        Column { name: "count", kind: Kind::Integer },
        Column { name: "total", kind: Kind::Decimal },
    ],
    key_len: 1,
    indexes: &[],
};
/// Rows that come and go.
const CLASSES: u64 = 97;

/// Sums up numbers by class; each eleventh removes a class.
struct Sums;

impl Projection for Sums {
    fn name(&self) -> &'static str {
        "sums"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [Table] {
        std::slice::from_ref(&SUMS)
    }

    fn interest(&self) -> Interest {
        Interest::default()
    }

    fn apply(&self, event: EventView<'_>, changes: &mut Changes<'_>) -> Result<(), ApplyError> {
        let number = event.position.0;
        let class = Value::from((number % CLASSES) as i64);
        if number.is_multiple_of(11) {
            return changes.delete(&SUMS, &[class]);
        }
        let row = match changes.get(&SUMS, std::slice::from_ref(&class))?.map(Vec::as_slice) {
            Some([_, Value::Integer(count), Value::Decimal(total)]) => {
                vec![class, (count + 1).into(), (total + Decimal::from(number)).into()]
            }
            _ => vec![class, 1.into(), Decimal::from(number).into()],
        };
        changes.put(&SUMS, row)
    }
}

/// The same without a store.
fn clean_fold(count: u64) -> Vec<Row> {
    let mut sums = BTreeMap::<u64, (i64, u64)>::new();
    for number in 0..count {
        if number.is_multiple_of(11) {
            sums.remove(&(number % CLASSES));
        } else {
            let (times, total) = sums.entry(number % CLASSES).or_default();
            (*times, *total) = (*times + 1, *total + number);
        }
    }
    let row = |(class, (times, total)): (u64, (i64, u64))| {
        vec![(class as i64).into(), times.into(), Decimal::from(total).into()]
    };
    sums.into_iter().map(row).collect()
}

/// Runs the projection on the generation that is there, until its process or the test ends.
fn start(postgres: Postgres, generation: u32, count: u64) -> daybook_projections::runner::Handle {
    let build = Build::new(postgres, Arc::new(Sums), generation, Arc::new(SystemClock::new()));
    let (runner, handle) = Runner::new("sums", Numbers { count }, build, Seams::system());
    tokio::spawn(runner.run());
    handle
}

async fn reach(postgres: &Postgres, position: u64) {
    // An answer may fail while the server restarts.
    let there = async {
        while postgres.wait("sums", Position(position)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let there = tokio::time::timeout(PATIENCE, there).await;
    assert!(there.is_ok(), "position {position} was not reached in time");
}

async fn check_sums(postgres: &Postgres, count: u64) {
    let query = Query {
        projection: "sums",
        table: &SUMS,
        index: None,
        prefix: Vec::new(),
        filters: Vec::new(),
        order: Order::Ascending,
        after: None,
        limit: 1000,
    };
    let page = postgres.query(&query).await.expect("a page");
    assert_eq!(page.as_of, Some(at(count - 1)));
    assert_eq!(page.rows, clean_fold(count));
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_of_the_server_lose_and_double_nothing() {
    let Some((postgres, schema)) = home("restart") else { return };
    let Ok(restart) = std::env::var(RESTART) else {
        println!("skipped: restarts: {RESTART} names no program that restarts PostgreSQL");
        return;
    };
    const COUNT: u64 = 60_000;
    let generation = postgres.create(&Sums).await.expect("a generation");
    let handle = start(postgres.clone(), generation, COUNT);
    for part in 1..=4 {
        reach(&postgres, COUNT * part / 6).await;
        let restart = Command::new(&restart).stdin(Stdio::null()).status().expect("it runs");
        assert!(restart.success(), "PostgreSQL restarts");
    }
    reach(&postgres, COUNT - 1).await;
    check_sums(&postgres, COUNT).await;
    drop(handle);
    drop_schema(&schema).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_killed_at_random_points_leaves_the_table_of_a_clean_fold() {
    const COUNT: u64 = 30_000;
    if let Ok(schema) = std::env::var(CHILD) {
        // This is the child: it runs until it is killed.
        let postgres = Postgres::new(server("kill").expect("a server"), &schema, None);
        let _handle = start(postgres.expect("a schema"), 1, COUNT);
        return std::future::pending().await;
    }
    let Some((postgres, schema)) = home("kill") else { return };
    assert_eq!(postgres.create(&Sums).await, Ok(1));
    let (mut dice, mut kills, mut target) = (Dice(0xdead), 0, 0);
    loop {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new(program)
            .args(["--exact", "a_runner_killed_at_random_points_leaves_the_table_of_a_clean_fold"])
            .env(CHILD, &schema)
            .stdout(Stdio::null())
            .spawn()
            .expect("a child");
        target = (target + 1 + dice.below(COUNT / 12)).min(COUNT - 1);
        reach(&postgres, target).await;
        child.kill().expect("killed");
        child.wait().expect("gone");
        kills += 1;
        if target == COUNT - 1 {
            break;
        }
    }
    assert!(kills >= 12, "{kills} kills");
    check_sums(&postgres, COUNT).await;
    drop_schema(&schema).await;
}
