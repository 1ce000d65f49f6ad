//! How much memory this process may take, and who may have how much of it.
//!
//! ```text
//!   /proc/self/cgroup, mountinfo ─> the control group and those above it ─┐
//!   the machine's memory ─────────────────────────────────────────────────┴─ the least ─> Limit
//!
//!   Limit ─> Budgets    in proportion, between a least and what a machine of 4 GiB gives
//! ```
//!
//! Budgets are of what grows with load and can be done without: caches, and what requests hold.
//! What a server needs whatever the load (the index of the active segment, the duplicate window,
//! threads) is not among them, and is why a server with a store refuses a limit below [`LIMIT_MIN`]. Nor is what each
//! projection in JavaScript may take.
//!
//! INVARIANT: with [`FULL`] or more, or a limit that nobody says, budgets are what they always are.

mod limit;

use daybook_model::repository::CACHE_LEN_DEFAULT;
use daybook_projections::sled;
use daybook_store::snapshot::limits::CACHE_SIZE as SNAPSHOT_CACHE_SIZE;
use daybook_store::{Memory as StoreMemory, Options, Sizes};

pub use limit::{By, Limit};

use crate::grpc::call;
use crate::grpc::streams::budget as appends;
use crate::http::body;
use crate::node::answers;
use crate::persistent::budget as groups;

const MIB: u64 = 1024 * 1024;
/// Bytes with which nothing is scaled down. All budgets filled at a time, with what sled takes
/// beside its caches and the copies that appends are written from, come to about 3 GiB.
pub const FULL: u64 = 4096 * MIB;
/// The least to run in: an idle server takes some 60 MiB; one append of the largest size is in
/// memory three times over while it is written, and one body of HTTP beside it.
pub const LIMIT_MIN: u64 = 448 * MIB;
/// Bytes of a segment at least, if there is little memory: with smaller ones a large log is too
/// many files. The index of the active segment takes up to 40 % of its size.
const SEGMENT_MIN: u64 = 128 * MIB;
/// Bytes of the newest commits at least: one batch of the usual size.
const TAIL_MIN: u64 = 4 * MIB;
/// Bytes of any other cache at least.
const CACHE_MIN: u64 = 4 * MIB;
/// Bytes of messages that groups of consumers may hold at least: some for each of a few groups.
const GROUPS_MIN: u64 = 16 * MIB;
/// Bytes of an account whose state is kept.
const ACCOUNT_SIZE: u64 = 1024;
/// Memory for each thread that builds missing index files when a store is opened; each takes up to
/// 100 MiB.
const BUILD_THREAD_SHARE: u64 = 512 * MIB;

/// How much memory there is, and who may have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// As much as the process may take; none if nobody says.
    pub limit: Option<Limit>,
    /// Who may have it.
    pub budgets: Budgets,
}

/// Bytes, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budgets {
    /// Of appends over gRPC, from when they are received until they are answered.
    pub appends: usize,
    /// Of requests over HTTP that are held whole.
    pub bodies: usize,
    /// Of answers that are held until they are read.
    pub answers: usize,
    /// Of messages over gRPC that are not whole.
    pub messages: usize,
    /// Of messages that groups of consumers hold.
    pub groups: usize,
    /// Of index blocks.
    pub blocks: u64,
    /// Of the newest commits.
    pub tail: usize,
    /// Of sled's cache of snapshots; it takes up to four times this.
    pub snapshots: u64,
    /// Of sled's cache of read models; likewise.
    pub read_models: u64,
    /// Of rows that each view keeps decoded.
    pub rows: usize,
    /// Of accounts whose state is kept.
    pub account_states: u64,
    /// Of a new segment of the log, whose index is in memory until the next one is begun.
    pub segment: u64,
    /// Threads that build missing index files.
    pub build_threads: usize,
}

/// Why the process cannot run in the memory it has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} MiB of memory are too little (limited by {}): give at least {} MiB, and 1024 MiB for \
     anything but trying it out",
    .0.bytes / MIB, .0.by, LIMIT_MIN / MIB
)]
pub struct TooLittle(pub Limit);

impl Default for Budgets {
    fn default() -> Budgets {
        Budgets::within(FULL)
    }
}

impl Budgets {
    /// The budgets of a process that may take `limit` bytes.
    #[must_use]
    pub fn within(limit: u64) -> Budgets {
        let share = |full: u64, least: u64| {
            let part = u128::from(full) * u128::from(limit.min(FULL)) / u128::from(FULL);
            u64::try_from(part).expect("no more than all of it").clamp(least.min(full), full)
        };
        let size = |full: usize, least: usize| {
            usize::try_from(share(full as u64, least as u64)).expect("no more than all of it")
        };
        let (store, views) = (StoreMemory::default(), sled::Memory::default());
        let threads = usize::try_from(limit / BUILD_THREAD_SHARE).unwrap_or(usize::MAX);
        Budgets {
            appends: size(appends::HELD_SIZE_MAX, appends::HELD_SIZE_MIN),
            bodies: size(body::BODIES_SIZE_MAX, body::APPEND_BODY_SIZE_MAX),
            answers: size(answers::ANSWERS_SIZE_MAX, answers::ANSWER_SIZE_MAX),
            messages: size(call::PARTIAL_SIZE_MAX, call::PARTIAL_SIZE_MIN),
            groups: size(groups::HELD_SIZE_MAX, GROUPS_MIN as usize),
            blocks: share(store.blocks, CACHE_MIN),
            tail: size(store.tail, TAIL_MIN as usize),
            snapshots: share(SNAPSHOT_CACHE_SIZE, CACHE_MIN),
            read_models: share(views.cache, CACHE_MIN),
            rows: size(views.recent, CACHE_MIN as usize),
            account_states: share(CACHE_LEN_DEFAULT as u64 * ACCOUNT_SIZE, CACHE_MIN),
            segment: share(Sizes::default().max, SEGMENT_MIN),
            build_threads: threads.clamp(1, store.build_threads),
        }
    }

    /// `options` of a store, within these.
    #[must_use]
    pub fn of_store(&self, options: Options) -> Options {
        let Budgets { blocks, tail, build_threads, .. } = *self;
        let sizes = Sizes { max: options.sizes.max.min(self.segment), ..options.sizes };
        Options { sizes, memory: StoreMemory { blocks, tail, build_threads } }
    }

    /// What views in sled may take.
    #[must_use]
    pub fn of_views(&self) -> sled::Memory {
        sled::Memory { cache: self.read_models, recent: self.rows }
    }

    /// Has requests and answers of this process keep within them.
    pub fn bound_requests(&self) {
        body::bound(self.bodies);
        answers::bound(self.answers);
        call::bound(self.messages);
    }

    /// How many accounts' states are kept.
    #[must_use]
    pub fn accounts(&self) -> usize {
        usize::try_from(self.account_states / ACCOUNT_SIZE).unwrap_or(usize::MAX)
    }

    /// Each in bytes, with a name for people.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 12] {
        [
            ("appends", self.appends as u64),
            ("bodies", self.bodies as u64),
            ("answers", self.answers as u64),
            ("messages", self.messages as u64),
            ("consumerGroups", self.groups as u64),
            ("indexBlocks", self.blocks),
            ("tail", self.tail as u64),
            ("snapshots", self.snapshots),
            ("readModels", self.read_models),
            ("rows", self.rows as u64),
            ("accountStates", self.account_states),
            ("segment", self.segment),
        ]
    }
}

impl Memory {
    /// What this process may take.
    #[must_use]
    pub fn of_this_process() -> Memory {
        Memory::within(limit::of_this_process())
    }

    /// What a process with this limit may take.
    fn within(limit: Option<Limit>) -> Memory {
        let budgets = limit.as_ref().map_or_else(Budgets::default, |l| Budgets::within(l.bytes));
        Memory { limit, budgets }
    }

    /// Whether a server with a store can run in it.
    ///
    /// # Errors
    /// [`TooLittle`] says how much it takes.
    pub fn holds_a_store(&self) -> Result<(), TooLittle> {
        match &self.limit {
            Some(limit) if limit.bytes < LIMIT_MIN => Err(TooLittle(limit.clone())),
            _ => Ok(()),
        }
    }

    /// The limit as a metric: 0 if nobody says one.
    #[must_use]
    pub fn limit_metric(&self) -> i64 {
        self.limit.as_ref().map_or(0, |limit| i64::try_from(limit.bytes).unwrap_or(i64::MAX))
    }

    /// Says what there is, and who may have it, in the log.
    pub fn say(&self) {
        let Some(Limit { bytes, by }) = &self.limit else {
            tracing::info!("memory: nobody says a limit");
            return;
        };
        let named = self.budgets.named();
        let budgets: Vec<String> =
            named.iter().map(|(name, size)| format!("{name} {} MiB", size / MIB)).collect();
        let budgets = budgets.join(", ");
        tracing::info!(limit_mib = bytes / MIB, %by, budgets, "memory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_enough_memory_budgets_are_what_they_always_are() {
        let full = Budgets {
            appends: appends::HELD_SIZE_MAX,
            bodies: body::BODIES_SIZE_MAX,
            answers: answers::ANSWERS_SIZE_MAX,
            messages: call::PARTIAL_SIZE_MAX,
            groups: groups::HELD_SIZE_MAX,
            blocks: StoreMemory::default().blocks,
            tail: StoreMemory::default().tail,
            snapshots: SNAPSHOT_CACHE_SIZE,
            read_models: sled::CACHE_SIZE,
            rows: sled::RECENT_SIZE_MAX,
            account_states: CACHE_LEN_DEFAULT as u64 * ACCOUNT_SIZE,
            segment: Sizes::default().max,
            build_threads: StoreMemory::default().build_threads,
        };
        for limit in [FULL, FULL + 1, u64::MAX] {
            assert_eq!(Budgets::within(limit), full, "{limit}");
        }
        assert_eq!(Memory::within(None), Memory { limit: None, budgets: full });
        assert_eq!(full.of_store(Options::default()).sizes, Sizes::default());
        assert_eq!(full.accounts(), CACHE_LEN_DEFAULT);
    }

    #[test]
    fn budgets_fit_the_limit_and_leave_room_for_the_largest_request() {
        for limit in [LIMIT_MIN, 512 * MIB, 700 * MIB, 1024 * MIB, 2048 * MIB] {
            let budgets = Budgets::within(limit);
            // What sled takes of its caches; an append is written from a copy; two views.
            let weight = |name: &str| match name {
                "snapshots" | "readModels" => 4,
                "appends" | "rows" => 2,
                // Its index.
                "segment" => 0,
                _ => 1,
            };
            let all: u64 =
                budgets.named().iter().map(|(name, size)| weight(name) * size).sum::<u64>();
            let all = all + budgets.segment * 2 / 5;
            assert!(all <= limit + limit / 16, "{} of {} MiB", all / MIB, limit / MIB);
            assert!(budgets.appends >= appends::HELD_SIZE_MIN);
            assert!(budgets.bodies >= body::APPEND_BODY_SIZE_MAX);
            assert!(budgets.build_threads as u64 * 100 * MIB < limit);
        }
    }

    #[test]
    fn too_little_is_refused_with_the_least() {
        let within = |bytes| Memory::within(Some(Limit { bytes, by: By::Machine }));
        assert_eq!(within(LIMIT_MIN).holds_a_store(), Ok(()));
        assert_eq!(Memory::default().holds_a_store(), Ok(()));
        let refused = within(LIMIT_MIN - 1).holds_a_store().expect_err("too little");
        let said = refused.to_string();
        assert!(said.contains("447 MiB") && said.contains("at least 448 MiB"), "{said}");
    }
}
