//! A large store: how fast it fills, what it costs in memory and on the disk, how long it takes to
//! open. Filled twice, a stream's events together and scattered.
//!
//! ```text
//!   fill ──> close ──> open ──> look ──> SIGKILL under load ──> open ──> close
//!                                             ──> remove the index ──> open
//! ```
//!
//! The page cache is as the filling leaves it: what is measured is our work, not the disk's.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::block_in_place;

use super::Bench;
use super::report::{Goal, Row};
use super::subject::{Done, Layout, Order, Subject};

/// How file names of the index end.
const INDEX_SUFFIXES: [&str; 3] = [".idx", ".ids", ".dir"];
/// Appends of one event, for the log's overhead.
const SINGLES: u64 = 20_000;
/// Appends under which the process is killed: more than it can do until then.
const SINGLES_UNTIL_KILLED: u64 = 1_000_000_000;
/// How long it is loaded until it is killed.
const LOAD_UNTIL_KILLED: Duration = Duration::from_secs(2);
/// Lookups of streams before memory at rest is read a second time: the caches are full then.
const LOOKUPS: u64 = 100_000;
/// How often is looked whether work in the background has ended, and how often in a row it must
/// look so.
const SETTLE_LOOK: Duration = Duration::from_millis(500);
const SETTLE_LOOKS: u32 = 4;
/// Bytes of a MiB.
const MIB: f64 = 1024.0 * 1024.0;

impl Bench {
    pub(super) fn large(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        for layout in [Layout::Clustered, Layout::Spread] {
            let directory = self.scratch.join(&format!("large-{layout:?}"));
            block_in_place(|| Large { bench: self, layout, directory: &directory, rows }.run())?;
            let _ = std::fs::remove_dir_all(&directory);
        }
        Ok(())
    }
}

struct Large<'a> {
    bench: &'a Bench,
    layout: Layout,
    directory: &'a Path,
    rows: &'a mut Vec<Row>,
}

impl Large<'_> {
    fn run(mut self) -> anyhow::Result<()> {
        self.fill()?;
        self.open_after_clean_stop()?;
        self.open_after_kill()?;
        self.rebuild()
    }

    fn name(&self, what: &str) -> String {
        match self.layout {
            Layout::Clustered => format!("large, clustered: {what}"),
            Layout::Spread => format!("large, spread: {what}"),
        }
    }

    fn row(&mut self, what: &str, figure: f64, unit: &'static str, goal: Option<Goal>) {
        self.rows.push(Row::with_goal(self.name(what), figure, unit, goal));
    }

    fn say(&self, what: &str) {
        self.bench.say(&self.name(what));
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        let args = &self.bench.args;
        let (events, streams, size) = (args.large_events, args.large_streams, args.size);
        self.say(&format!("filling {streams} streams with {events} events"));
        let (mut store, _) = Subject::open(self.directory)?;
        let order = Order::Fill { events, streams, layout: self.layout, size };
        let filled = store.order(&order)?;
        let peak = store.memory()?.peak_bytes as f64 / MIB;
        self.row("filling", events as f64 / seconds(&filled), "events/s", None);
        self.row("memory while filling, peak", peak, "MiB", None);
        let each = |done: &Done, events| (done.log_bytes - done.own_bytes) as f64 / events as f64;
        self.row("log overhead, 1,000 an append", each(&filled, events), "bytes/event", None);
        let single = store.order(&Order::Singly { events: SINGLES, size })?;
        let goal = Some(Goal::AtMost(128.0));
        self.row("log overhead, one an append", each(&single, SINGLES), "bytes/event", goal);
        self.say("index files");
        self.settle()?;
        let most = match self.layout {
            Layout::Clustered => 16.0,
            Layout::Spread => 28.0,
        };
        let index =
            INDEX_SUFFIXES.iter().map(|suffix| self.size(suffix)).sum::<anyhow::Result<u64>>();
        let index = index? as f64 / events as f64;
        self.row("index", index, "bytes/event", Some(Goal::AtMost(most)));
        store.close()
    }

    fn open_after_clean_stop(&mut self) -> anyhow::Result<()> {
        self.say("opening after a clean stop");
        let (mut store, opened) = Subject::open(self.directory)?;
        self.row("open after a clean stop", millis(&opened), "ms", Some(Goal::AtMost(1000.0)));
        let goal = Some(Goal::AtMost(400.0));
        self.row("memory after opening", store.memory()?.bytes as f64 / MIB, "MiB", goal);
        self.say("looking streams up");
        let streams = self.bench.args.large_streams;
        let looked = store.order(&Order::Look { lookups: LOOKUPS, streams })?;
        let rate = LOOKUPS as f64 / seconds(&looked);
        self.row("lookups of streams, one by one", rate, "lookups/s", None);
        let memory = store.memory()?.bytes as f64 / MIB;
        self.row("memory after the lookups", memory, "MiB", goal);
        store.close()
    }

    fn open_after_kill(&mut self) -> anyhow::Result<()> {
        self.say("killing it under load");
        let (mut store, _) = Subject::open(self.directory)?;
        let size = self.bench.args.size;
        store.begin(&Order::Singly { events: SINGLES_UNTIL_KILLED, size })?;
        wait(LOAD_UNTIL_KILLED);
        drop(store);
        let (store, opened) = Subject::open(self.directory)?;
        self.row("open after kill -9", millis(&opened), "ms", Some(Goal::AtMost(3000.0)));
        let active = opened.committed.saturating_sub(self.active_segment()?);
        self.row("  of it in the active segment", active as f64, "events", None);
        store.close()
    }

    fn rebuild(&mut self) -> anyhow::Result<()> {
        self.say("building the index anew");
        for suffix in INDEX_SUFFIXES {
            for path in self.files(suffix)? {
                #[expect(clippy::disallowed_methods, reason = "the store is another process'")]
                let removed = std::fs::remove_file(&path);
                removed.with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        let (store, opened) = Subject::open(self.directory)?;
        let rate = opened.committed as f64 / seconds(&opened);
        self.row("index from the log", rate, "events/s", Some(Goal::AtLeast(1e6)));
        let peak = store.memory()?.peak_bytes as f64 / MIB;
        self.row("memory meanwhile, peak", peak, "MiB", None);
        store.close()
    }

    /// Waits until every sealed segment has its index and nothing changes any more.
    fn settle(&self) -> anyhow::Result<()> {
        let (mut before, mut looks) = (Vec::new(), 0);
        while looks < SETTLE_LOOKS {
            wait(SETTLE_LOOK);
            let now = self.files("")?;
            let complete = self.files(".idx")?.len() + 1 == self.files(".log")?.len();
            looks = if complete && now == before { looks + 1 } else { 0 };
            before = now;
        }
        Ok(())
    }

    /// The files whose name ends with `suffix`, ascending.
    fn files(&self, suffix: &str) -> anyhow::Result<Vec<std::path::PathBuf>> {
        #[expect(clippy::disallowed_methods, reason = "the store is another process'")]
        let entries = std::fs::read_dir(self.directory).context("cannot list the store's files")?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(suffix) {
                paths.push(path);
            }
        }
        paths.sort_unstable();
        Ok(paths)
    }

    fn size(&self, suffix: &str) -> anyhow::Result<u64> {
        let sizes = self.files(suffix)?.into_iter().map(|path| {
            let metadata = std::fs::metadata(&path);
            Ok(metadata.with_context(|| format!("cannot read {}", path.display()))?.len())
        });
        sizes.sum()
    }

    /// The position of the active segment's first event: what its name begins with.
    fn active_segment(&self) -> anyhow::Result<u64> {
        let files = self.files(".log")?;
        let name = files.last().and_then(|path| path.file_name()).context("there is no segment")?;
        let name = name.to_string_lossy();
        let (first, _) = name.split_once('-').context("a segment's name has another form")?;
        first.parse().context("a segment's name has another form")
    }
}

#[expect(clippy::disallowed_methods, reason = "it is another process")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}

fn seconds(done: &Done) -> f64 {
    done.elapsed_us as f64 / 1e6
}

fn millis(done: &Done) -> f64 {
    done.elapsed_us as f64 / 1e3
}
