//! Scavenges at the level users see: what is read is the same before and after, the files are not.

use std::sync::Arc;

use bytes::Bytes;
use daybook_log::disk::Disk;
use daybook_log::disk::sim::{CrashMode, Fault, Operation, Repeat, SimDisk};
use daybook_model::{
    Clock, ContentType, Entropy, ExpectedRevision, NewEvent, Position, Revision, StreamName,
    Timestamp,
};
use daybook_store::scavenge::{Step, Thoroughness};
use daybook_store::{
    AllFrom, Append, AppendError, Appended, Direction, Engine, Environment, From, IndexKey,
    ReadAll, ReadStream, Sizes, StreamState, SubscribeFrom,
};
use parking_lot::Mutex;
use uuid::Uuid;

const SIZES: Sizes = Sizes { first: 8192, max: 8192 };
const ANY: ExpectedRevision = ExpectedRevision::Any;
const SECOND: i64 = 1_000_000_000;

#[derive(Debug, Default)]
struct TestClock(Mutex<i64>);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(*self.0.lock())
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.lock().cast_unsigned())
    }
}

#[derive(Debug, Default)]
struct TestEntropy(Mutex<u64>);

impl Entropy for TestEntropy {
    fn bytes(&self) -> [u8; 16] {
        let mut n = self.0.lock();
        *n += 1;
        Uuid::from_u64_pair(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), *n).into_bytes()
    }
}

struct Store {
    disk: SimDisk,
    clock: Arc<TestClock>,
    entropy: Arc<TestEntropy>,
    engine: Option<Engine>,
    ids: u128,
}

fn name(text: &str) -> StreamName {
    StreamName::new(text).expect("a valid name")
}

impl Store {
    fn new() -> Store {
        let (disk, clock, entropy) = (SimDisk::new(1), Arc::default(), Arc::default());
        let mut store = Store { disk, clock, entropy, engine: None, ids: 0 };
        store.restart();
        store
    }

    fn restart(&mut self) {
        self.engine = None;
        self.disk = self.disk.restart();
        let environment = Environment {
            disk: Arc::new(self.disk.clone()),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
        };
        self.engine = Some(Engine::open(environment, SIZES).expect("it opens"));
    }

    fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().expect("open")
    }

    fn answer(&mut self, ticket: daybook_store::engine::Ticket) -> Result<Appended, AppendError> {
        let mut ticket = Some(ticket);
        loop {
            self.engine().run();
            let (answer, again) = self.engine().poll(ticket.take().expect("a ticket"));
            match answer {
                Some(answer) => return answer,
                None => ticket = again,
            }
        }
    }

    fn append_as(
        &mut self,
        id: u128,
        stream: &str,
        expected: ExpectedRevision,
        data: &[u8],
    ) -> Result<Appended, AppendError> {
        *self.clock.0.lock() += SECOND;
        let event = NewEvent {
            id: Uuid::from_u128(id),
            event_type: if stream.starts_with("$$") { "$metadata" } else { "Paid" }.to_owned(),
            content_type: ContentType::Json,
            metadata: Bytes::from_static(b"{\"$correlationId\":\"c\"}"),
            data: Bytes::copy_from_slice(data),
        };
        let ticket = self.engine().submit(&Append::to_stream(name(stream), expected, [event]));
        self.answer(ticket)
    }

    fn append(&mut self, stream: &str, data: &[u8]) {
        self.ids += 1;
        self.append_as(self.ids, stream, ANY, data).expect("appended");
    }

    fn fill(&mut self, stream: &str, count: usize) {
        for _ in 0..count {
            self.append(stream, &[b'x'; 400]);
        }
    }

    fn maintain(&mut self) {
        while self.engine().maintain().expect("maintenance") {}
    }

    fn scavenge(&mut self) -> Vec<Step> {
        self.maintain();
        let mut steps = Vec::new();
        loop {
            let step = self.engine().scavenge(Thoroughness::Everything).expect("a step");
            steps.push(step);
            if step == Step::Done {
                return steps;
            }
        }
    }

    fn stream(&mut self, stream: &str) -> Vec<u64> {
        let query = ReadStream {
            stream: name(stream),
            from: From::Start,
            direction: Direction::Forwards,
            count: u64::MAX,
        };
        let Ok(mut reader) = self.engine().read_stream(&query) else { return Vec::new() };
        let mut out = Vec::new();
        while let Some(page) = reader.next_page().expect("a page") {
            out.extend(page.events().map(|event| event.revision.0));
        }
        out
    }

    fn all(&mut self, direction: Direction, count: u64) -> Vec<u64> {
        let from = if direction == Direction::Forwards { AllFrom::Start } else { AllFrom::End };
        let mut reader = self.engine().read_all(ReadAll { from, direction, count, filter: None });
        let mut out = Vec::new();
        while let Some(page) = reader.next_page().expect("a page") {
            out.extend(page.events().map(|event| event.position.0));
        }
        out
    }

    fn category(&mut self, category: &str, count: u64) -> Vec<(u64, u64)> {
        let key = IndexKey::Category(category.to_owned());
        let mut reader = self.engine().read_index(&key, 0, Direction::Forwards, count);
        let mut out = Vec::new();
        while let Some(page) = reader.next_page().expect("a page") {
            out.extend(page.numbered().map(|(number, event)| (number, event.position.0)));
        }
        out
    }

    fn log_bytes(&self) -> u64 {
        let names = self.disk.names();
        let logs = names.iter().filter(|name| name.ends_with(".log"));
        logs.map(|name| self.disk.read_all(name).expect("readable").len() as u64).sum()
    }

    fn verify(&mut self) -> u64 {
        self.engine = None;
        let disk: Arc<dyn Disk> = Arc::new(self.disk.restart());
        let report = daybook_store::verify::verify(&disk, &mut |_| {}).expect("sound");
        assert_eq!(report.bad_index_files, Vec::<String>::new());
        drop(disk);
        self.restart();
        report.removed
    }
}

#[test]
fn bytes_go_and_reads_stay_the_same() {
    let mut store = Store::new();
    store.append("$$acct-1", b"{\"$maxCount\":3}");
    store.fill("acct-1", 200);
    store.fill("acct-2", 40);
    store.maintain();
    let before = (store.stream("acct-1"), store.stream("acct-2"), store.log_bytes());
    let steps = store.scavenge();
    assert!(steps.contains(&Step::Removed), "{steps:?}");
    for _ in 0..2 {
        assert_eq!(store.stream("acct-1"), before.0);
        assert_eq!(store.stream("acct-1"), [197, 198, 199]);
        assert_eq!(store.stream("acct-2"), before.1);
        let info = store.engine().stream_info(&name("acct-1")).expect("known");
        assert_eq!((info.head, info.first), (Some(Revision(199)), Revision(197)));
        let all = store.all(Direction::Forwards, u64::MAX);
        let mut back = store.all(Direction::Backwards, u64::MAX);
        back.reverse();
        assert_eq!(all, back);
        assert!(all.len() < 70 && all.first() == Some(&0), "{all:?}");
        assert_eq!(store.all(Direction::Forwards, 4), all[..4]);
        let category = store.category("acct", u64::MAX);
        assert!(category.iter().all(|(number, position)| number + 2 == *position), "{category:?}");
        assert_eq!(store.category("acct", 2), category[..2]);
        assert_eq!(store.engine().streams("", None, 10).expect("names").len(), 4);
        assert!(store.verify() > 180);
    }
    assert!(store.log_bytes() * 2 < before.2, "{} of {}", store.log_bytes(), before.2);
    // Nothing is left to do, and the next revision is the one that follows.
    let steps = store.scavenge();
    assert!(!steps.contains(&Step::Judged), "{steps:?}");
    let next = store.append_as(9_999, "acct-1", ExpectedRevision::Exact(Revision(199)), b"{}");
    assert_eq!(next.expect("appended").revisions.as_slice(), [Some(Revision(200))]);
}

#[test]
fn a_retry_of_what_was_removed_is_known() {
    let mut store = Store::new();
    store.append("$$acct-1", b"{\"$maxCount\":1}");
    for id in 1000..1060 {
        store.append_as(id, "acct-1", ANY, &[b'x'; 400]).expect("appended");
    }
    store.fill("acct-2", 30);
    store.scavenge();
    for restarted in [false, true] {
        if restarted {
            store.restart();
        }
        let committed = store.engine().committed();
        let at = |revision| ExpectedRevision::Exact(Revision(revision));
        for expected in [ANY, ExpectedRevision::StreamExists, at(6)] {
            let again = store.append_as(1007, "acct-1", expected, &[b'x'; 400]);
            let again = again.expect("the first answer");
            assert_eq!(again.revisions.as_slice(), [Some(Revision(7))], "{expected:?}");
        }
        assert_eq!(store.engine().committed(), committed, "nothing was written");
        let other = store.append_as(5, "acct-1", at(6), b"{}");
        assert!(matches!(other, Err(AppendError::WrongExpectedRevision { .. })), "{other:?}");
    }
}

#[test]
fn deleted_streams_are_gone_but_for_what_says_so() {
    let mut store = Store::new();
    for stream in ["soft-1", "ended-1", "kept-1"] {
        store.append(&format!("$${stream}"), b"{\"$maxAge\":100000}");
        store.fill(stream, 20);
    }
    let ticket = store.engine().soft_delete(&name("soft-1"), ANY);
    store.answer(ticket).expect("deleted");
    let ticket = store.engine().tombstone(&name("ended-1"), ANY);
    store.answer(ticket).expect("ended");
    store.fill("kept-1", 40);
    store.scavenge();
    store.restart();
    let state = |store: &mut Store, stream: &str| {
        store.engine().stream_info(&name(stream)).expect("known").state
    };
    assert_eq!(state(&mut store, "soft-1"), StreamState::SoftDeleted);
    assert_eq!(state(&mut store, "ended-1"), StreamState::Tombstoned);
    assert_eq!(store.stream("kept-1").len(), 60);
    assert_eq!(store.category("soft", u64::MAX).len(), 1, "what deleted it");
    assert_eq!(store.category("ended", u64::MAX).len(), 1, "its tombstone");
    // 20 and 20 events; metadata of both, one of which was replaced and the other of no use.
    assert_eq!(store.verify(), 42);
    store.append("soft-1", b"{}");
    assert_eq!(store.stream("soft-1"), [20], "revisions go on");
    let refused = store.append_as(77, "ended-1", ANY, b"{}");
    assert!(matches!(refused, Err(AppendError::StreamDeleted { .. })), "{refused:?}");
    // What was written to the stream that was opened again stays.
    store.fill("soft-1", 30);
    store.scavenge();
    assert_eq!(store.stream("soft-1").len(), 31);
}

#[test]
fn what_is_too_old_goes_and_the_head_stays() {
    let mut store = Store::new();
    store.append("$$acct-1", b"{\"$maxAge\":60}");
    store.fill("acct-1", 50);
    store.fill("acct-2", 40);
    store.scavenge();
    // At one event a second: those of the last minute, of which 40 are the other stream's.
    let visible = store.stream("acct-1");
    assert!((15..25).contains(&visible.len()), "{visible:?}");
    *store.clock.0.lock() += 1000 * SECOND;
    store.restart();
    store.fill("acct-2", 40);
    store.scavenge();
    assert_eq!(store.stream("acct-1"), Vec::<u64>::new());
    let info = store.engine().stream_info(&name("acct-1")).expect("known");
    assert_eq!((info.state, info.head), (StreamState::Live, Some(Revision(49))));
    assert_eq!(store.verify(), 50);
    let next = store.append_as(9_999, "acct-1", ExpectedRevision::Exact(Revision(49)), b"{}");
    assert_eq!(next.expect("appended").revisions.as_slice(), [Some(Revision(50))]);
}

#[test]
fn subscriptions_and_held_readers_step_over_what_went() {
    let mut store = Store::new();
    store.append("$$acct-1", b"{\"$maxCount\":2}");
    store.fill("acct-1", 60);
    store.fill("acct-2", 30);
    store.maintain();
    let query = ReadAll {
        from: AllFrom::Start,
        direction: Direction::Forwards,
        count: u64::MAX,
        filter: None,
    };
    let held = store.engine().read_all(query);
    let mut feed = store.engine().subscribe_all(SubscribeFrom::After(5), None);
    store.scavenge();
    let there = store.all(Direction::Forwards, u64::MAX);
    let mut reader = held;
    let mut read = Vec::new();
    while let Some(page) = reader.next_page().expect("a page") {
        read.extend(page.events().map(|event| event.position.0));
    }
    assert_eq!(read, there);
    let mut delivered = Vec::new();
    while let Some(delivery) = feed.try_next().expect("a delivery") {
        if let daybook_store::Delivery::Events(page) = delivery {
            delivered.extend(page.events().map(|event| event.position.0));
        }
    }
    let wanted: Vec<u64> = there.iter().copied().filter(|position| *position > 5).collect();
    assert_eq!(delivered, wanted);
    let middle = store.engine().read_all(ReadAll {
        from: AllFrom::Position(Position(20)),
        direction: Direction::Forwards,
        count: 1,
        filter: None,
    });
    let mut middle = middle;
    let page = middle.next_page().expect("a page").expect("an event");
    assert_eq!(page.len(), 1);
    assert!(page.events().all(|event| event.position.0 > 20));
}

#[test]
fn a_setting_that_is_put_right_meanwhile_is_obeyed() {
    for until in [Step::Surveyed, Step::Judged, Step::Written, Step::ReadBack, Step::Indexed] {
        let mut store = Store::new();
        store.append("$$acct-1", b"{\"$maxCount\":3}");
        store.fill("acct-1", 200);
        store.maintain();
        while store.engine().scavenge(Thoroughness::Everything).expect("a step") != until {}
        store.append("$$acct-1", b"{\"$maxCount\":1000}");
        store.maintain();
        while store.engine().scavenge(Thoroughness::Everything).expect("a step") != Step::Done {}
        assert_eq!(store.stream("acct-1"), (0..200).collect::<Vec<_>>(), "after {until:?}");
        // The old metadata itself goes, by the next pass.
        store.scavenge();
        assert_eq!(store.stream("acct-1").len(), 200, "after {until:?}");
        store.verify();
    }
}

/// Steps of a scavenge until `until` was done.
fn scavenge_until(store: &mut Store, until: Step) {
    store.maintain();
    loop {
        match store.engine().scavenge(Thoroughness::Everything).expect("a step") {
            step if step == until => return,
            step => assert_ne!(step, Step::Done, "it ended before {until:?}"),
        }
    }
}

/// All that can be read of the streams of a test.
fn read(store: &mut Store) -> (Vec<u64>, Vec<u64>, usize) {
    let (one, two) = (store.stream("acct-1"), store.stream("acct-2"));
    (one, two, store.category("acct", u64::MAX).len())
}

#[test]
fn an_index_never_meets_the_log_of_an_earlier_attempt() {
    let generation = |disk: &SimDisk| disk.names().iter().any(|name| name.ends_with("-1.log"));
    // What fails beside it, and whether the new generation has its name afterwards.
    type Case = (&'static str, Step, Option<(Operation, Option<&'static str>, u64)>, bool);
    let cases: [Case; 4] = [
        ("it could not be opened", Step::Installed, None, false),
        ("its name was not durable", Step::Indexed, Some((Operation::SyncNames, None, 1)), false),
        (
            // The first one is of its temporary name.
            "its name could not be taken back",
            Step::Installed,
            Some((Operation::Remove, Some("-1.log"), 2)),
            true,
        ),
        (
            "that it was taken back was not durable",
            Step::Installed,
            Some((Operation::SyncNames, None, 1)),
            false,
        ),
    ];
    for (name, after, failure, there) in cases {
        let mut store = Store::new();
        store.append("$$acct-1", b"{\"$maxCount\":20}");
        for _ in 0..15 {
            store.fill("acct-1", 2);
            store.fill("acct-2", 2);
        }
        scavenge_until(&mut store, after);
        if after == Step::Installed {
            store.disk.fail_after(Operation::Open, Some("-1.idx"), 1, Fault::Eio, Repeat::Once);
        }
        if let Some((operation, file, nth)) = failure {
            store.disk.fail_after(operation, file, nth, Fault::Eio, Repeat::Once);
        }
        store.engine().scavenge(Thoroughness::Everything).expect_err(name);
        assert_eq!(generation(&store.disk), there, "{name}");
        // Now another share of the same segment goes.
        store.append("$$acct-1", b"{\"$maxCount\":2}");
        store.maintain();
        let mut steps = Vec::new();
        while !matches!(steps.last(), Some(Step::Indexed | Step::Done)) {
            steps.push(store.engine().scavenge(Thoroughness::Everything).expect("a step"));
        }
        let before = read(&mut store);
        assert_eq!((before.0.len(), before.1.len()), (2, 30), "{name}");
        store.disk.crash(CrashMode::KeepAll);
        store.restart();
        assert_eq!(read(&mut store).1, before.1, "{name}: {steps:?}");
        assert_eq!(store.stream("acct-1"), before.0, "{name}: {steps:?}");
        store.scavenge();
        assert_eq!(read(&mut store).0, before.0, "{name}");
        store.verify();
    }
}

#[test]
fn a_swap_that_failed_is_tried_again_in_the_same_process() {
    let mut store = Store::new();
    store.append("$$acct-1", b"{\"$maxCount\":3}");
    store.fill("acct-1", 60);
    scavenge_until(&mut store, Step::Installed);
    store.disk.fail_after(Operation::Open, Some("-1.idx"), 1, Fault::Eio, Repeat::Once);
    store.engine().scavenge(Thoroughness::Everything).expect_err("it cannot be opened");
    assert!(!store.disk.names().iter().any(|name| name.ends_with("-1.log")));
    // It is tried again, in the same process.
    let steps = store.scavenge();
    assert!(steps.contains(&Step::Removed), "{steps:?}");
    assert_eq!(store.stream("acct-1"), [57, 58, 59]);
    store.verify();
}

#[test]
fn what_is_damaged_is_left_and_the_rest_goes() {
    for (what, part) in [("an event", 400), ("a metadata event", 60)] {
        let mut store = Store::new();
        for stream in ["acct-1", "acct-2"] {
            store.append(&format!("$${stream}"), b"{\"$maxCount\":3}");
        }
        for _ in 0..60 {
            store.fill("acct-1", 1);
            store.fill("acct-2", 1);
        }
        store.maintain();
        let names = store.disk.names();
        let logs: Vec<_> = names.iter().filter(|name| name.ends_with(".log")).cloned().collect();
        // In the first segment, which holds the metadata, or in one between others.
        let (log, at) = match part {
            60 => {
                let bytes = store.disk.read_all(&logs[0]).expect("readable");
                let found = bytes.windows(9).position(|part| part == b"$maxCount");
                (&logs[0], found.expect("metadata") as u64)
            }
            _ => (&logs[3], 1000),
        };
        store.disk.flip_bit(log, at, 3).expect("flipped");
        let before = store.log_bytes();
        let mut steps = Vec::new();
        while steps.last() != Some(&Step::Done) {
            steps
                .push(store.engine().scavenge(Thoroughness::Everything).expect("no error ends it"));
        }
        let gave_up = steps.iter().filter(|step| **step == Step::GaveUp).count();
        let removed = steps.iter().filter(|step| **step == Step::Removed).count();
        assert_eq!(gave_up, 1, "{what}: {steps:?}");
        assert!(removed > 4, "{what}: {steps:?}");
        assert!(store.log_bytes() * 3 < before * 2, "{what}");
        assert!(store.disk.names().contains(log), "{what}: what is damaged stays");
        assert_eq!(store.stream("acct-2"), [57, 58, 59], "{what}");
    }
}

#[test]
fn a_disk_that_fills_up_meanwhile_is_left_to_appends() {
    for after in [Step::Judged, Step::ReadBack] {
        let mut store = Store::new();
        store.append("$$acct-1", b"{\"$maxCount\":3}");
        store.fill("acct-1", 60);
        scavenge_until(&mut store, after);
        // Room for the new generation, but not for what appends may need beside it.
        let used: usize = {
            let names = store.disk.names();
            names.iter().map(|name| store.disk.read_all(name).expect("readable").len()).sum()
        };
        store.disk.set_capacity(Some(used as u64 + 6000));
        let step = store.engine().scavenge(Thoroughness::Everything).expect("no error");
        assert_eq!(step, Step::Left, "after {after:?}");
        assert!(!store.disk.names().iter().any(|name| name.ends_with(".log.tmp")), "{after:?}");
        store.disk.set_capacity(None);
        let steps = store.scavenge();
        assert!(steps.contains(&Step::Removed), "after {after:?}: {steps:?}");
        assert_eq!(store.stream("acct-1"), [57, 58, 59]);
        store.verify();
    }
}
