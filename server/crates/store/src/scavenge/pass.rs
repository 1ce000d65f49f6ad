//! One pass over the store, one step a call, so that a simulation can crash, read or write between
//! any two.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use daybook_log::disk::Disk;
use daybook_log::frame::Record;
use daybook_log::planted::{self, Bug};
use daybook_log::rewrite::{self, Draft, Judge, Plan, RewriteError};
use daybook_model::{Position, Timestamp};
use uuid::Uuid;

use super::decide::Rule;
use super::status::{Progress, ScavengeError};
use super::survey::{self, Basis, Cursor, Share, Survey};
use super::trace;
use crate::core::Core;
use crate::index::key::{IdentityState, KeyMap};
use crate::index::sealed::{self, Sealed};
use crate::index::{Inner, Key, KeyHasher, KeyKind, View};
use crate::record;
use crate::status::Health;

/// A segment is rewritten by itself if that gives back so many percent of it.
const GAIN_PERCENT_MIN: u64 = 5;
/// Or so many bytes: of a large segment less than that share is worth it, too.
const GAIN_SIZE_MIN: u64 = 8 * 1024 * 1024;
/// Bytes an index file of a rewritten segment may take beside its log, for each of its events: what
/// it takes if every event is of a stream of its own.
const INDEX_EVENT_SIZE: u64 = 64;

/// What a pass did in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It looked at the settings of streams.
    Surveyed,
    /// It read a segment, and leaves it as it is.
    Left,
    /// It read a segment, and will rewrite it.
    Judged,
    /// It wrote the segment's next generation under a temporary name.
    Written,
    /// It read that back, and found it right.
    ReadBack,
    /// It wrote its index.
    Indexed,
    /// The new generation has its name: it counts at the next start.
    Installed,
    /// Readers find it.
    Swapped,
    /// The old generation is removed.
    Removed,
    /// There is no more to do.
    Done,
}

/// What is worth a rewrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thoroughness {
    /// What gives back a share of a segment.
    Worthwhile,
    /// Whatever goes.
    Everything,
}

/// What was found in vain, so that it is not read again: for each round and segment its share.
pub(crate) type Looked = BTreeMap<(u64, Position), Share>;

/// A pass.
pub(crate) struct Pass {
    thoroughness: Thoroughness,
    now: Timestamp,
    stage: Stage,
    next: Cursor,
    round: u64,
    rules: KeyMap<Key, (Rule, Basis)>,
    waiting: VecDeque<(Position, Share)>,
    pub progress: Progress,
}

enum Stage {
    Survey,
    Choose,
    Write(Work),
    ReadBack(Work, Draft),
    Index(Work, Draft),
    Install(Work, Draft),
    Swap(Work, Draft),
    Remove(Work),
    Done,
}

/// A segment that is being rewritten.
struct Work {
    old: Arc<Sealed>,
    plan: Plan,
    /// What share of the round it is, to be remembered when it is done.
    share: Share,
    /// What the rules rest on by which its events go.
    bases: Vec<Basis>,
}

/// Judges by the rules of a round.
struct ByRules<'a> {
    core: &'a Core,
    hasher: &'a KeyHasher,
    rules: &'a KeyMap<Key, (Rule, Basis)>,
    /// Of each stream met that has a rule whether what it rests on still holds: a setting that was
    /// put right since the survey is obeyed.
    holds: KeyMap<Key, bool>,
}

impl<'a> ByRules<'a> {
    fn new(core: &'a Core, rules: &'a KeyMap<Key, (Rule, Basis)>) -> ByRules<'a> {
        let holds = KeyMap::with_hasher(IdentityState);
        ByRules { core, hasher: &core.hasher, rules, holds }
    }

    /// What the rules that were applied rest on.
    fn bases(&self) -> Vec<Basis> {
        let applied = self.holds.iter().filter(|(_, holds)| **holds);
        applied.filter_map(|(key, _)| self.rules.get(key)).map(|(_, basis)| *basis).collect()
    }
}

impl Judge for ByRules<'_> {
    fn goes(&mut self, position: Position, found: &Record<'_>) -> bool {
        let Some(event) = record::view(position, found.payload) else { return false };
        if record::is_gone(found.payload) {
            return false;
        }
        let key = self.hasher.key(KeyKind::Stream, event.stream);
        let Some((rule, basis)) = self.rules.get(&key) else { return false };
        rule.removes(&event) && *self.holds.entry(key).or_insert_with(|| basis.holds(self.core))
    }

    fn trace(&mut self, position: Position, found: &Record<'_>, out: &mut Vec<u8>) {
        if let Some(event) = record::view(position, found.payload) {
            trace::encode(out, self.hasher, &event);
        }
    }
}

impl Pass {
    /// A pass that takes `now` for the time.
    pub fn new(id: Uuid, thoroughness: Thoroughness, now: Timestamp) -> Pass {
        let progress = Progress { id, started: Some(now), ..Progress::default() };
        Pass {
            thoroughness,
            now,
            stage: Stage::Survey,
            next: Cursor::Start,
            round: 0,
            rules: KeyMap::with_hasher(IdentityState),
            waiting: VecDeque::new(),
            progress,
        }
    }

    /// Does the next step. After an error the pass is over.
    pub fn step(
        &mut self,
        core: &Core,
        looked: &mut Looked,
        pace: &mut rewrite::Pace<'_>,
    ) -> Result<Step, ScavengeError> {
        let disk = &*core.environment.disk;
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Survey => self.survey(core, looked, pace),
            Stage::Choose => self.choose(core, looked, pace),
            Stage::Write(work) => {
                let salt = core.environment.entropy.bytes();
                let mut judge = ByRules::new(core, &self.rules);
                let segment = &work.old.segment;
                let draft = rewrite::write(disk, segment, &work.plan, salt, &mut judge, pace)?;
                self.stage = Stage::ReadBack(work, draft);
                Ok(Step::Written)
            }
            Stage::ReadBack(work, draft) => {
                let read = rewrite::read_back(&work.old.segment, &draft, &work.plan, pace);
                kept(disk, &draft, read.map_err(ScavengeError::from))?;
                self.stage = Stage::Index(work, draft);
                Ok(Step::ReadBack)
            }
            Stage::Index(work, draft) => {
                kept(disk, &draft, index(core, &work.old, &draft))?;
                self.stage = Stage::Install(work, draft);
                Ok(Step::Indexed)
            }
            // Somebody has put a setting right meanwhile: what it shows again must stay.
            Stage::Install(work, draft) if !work.bases.iter().all(|basis| basis.holds(core)) => {
                draft.discard(disk);
                self.stage = Stage::Choose;
                Ok(Step::Left)
            }
            Stage::Install(work, draft) => {
                draft.install(disk)?;
                self.stage = Stage::Swap(work, draft);
                Ok(Step::Installed)
            }
            Stage::Swap(work, draft) => {
                swap(core, &work.old, &draft)?;
                self.stage = Stage::Remove(work);
                Ok(Step::Swapped)
            }
            Stage::Remove(work) => {
                remove(core, &work.old)?;
                self.count(&work.plan);
                // Only now: a segment that could not be rewritten is tried again.
                looked.insert((self.round, work.old.segment.header.first), work.share);
                self.stage = Stage::Choose;
                Ok(Step::Removed)
            }
            Stage::Done => Ok(Step::Done),
        }
    }

    fn count(&mut self, plan: &Plan) {
        self.progress.rewritten += 1;
        self.progress.events += plan.removed;
        self.progress.bytes_before += plan.size;
        self.progress.bytes_after += plan.size_after;
    }

    fn survey(
        &mut self,
        core: &Core,
        looked: &Looked,
        pace: &mut rewrite::Pace<'_>,
    ) -> Result<Step, ScavengeError> {
        let cursor = std::mem::take(&mut self.next);
        let surveyed = survey::survey(core, cursor, self.now, pace)?;
        let Survey { rules, shares, next } = surveyed.ok_or(RewriteError::Stopped)?;
        (self.rules, self.next) = (rules, next);
        self.round += 1;
        let round = self.round;
        let everything = self.thoroughness == Thoroughness::Everything;
        let unknown = |(first, share): &(Position, Share)| {
            everything || looked.get(&(round, *first)) != Some(share)
        };
        self.waiting = shares.into_iter().filter(unknown).collect();
        self.progress.segments += self.waiting.len() as u64;
        let view = core.view.load();
        let sizes = self.waiting.iter().map(|(first, _)| size_of(&view, *first));
        self.progress.bytes_left = sizes.sum();
        self.stage = Stage::Choose;
        Ok(Step::Surveyed)
    }

    /// Reads the next segment that waits, and decides whether it is worth a rewrite.
    fn choose(
        &mut self,
        core: &Core,
        looked: &mut Looked,
        pace: &mut rewrite::Pace<'_>,
    ) -> Result<Step, ScavengeError> {
        let Some((first, share)) = self.waiting.pop_front() else {
            self.progress.current = None;
            let more = self.next != Cursor::End;
            self.stage = if more { Stage::Survey } else { Stage::Done };
            return Ok(if more { Step::Left } else { Step::Done });
        };
        let view = core.view.load_full();
        let Some(old) = view.sealed.iter().find(|each| each.segment.header.first == first) else {
            self.stage = Stage::Choose;
            return Ok(Step::Left);
        };
        self.progress.current = Some(old.segment.name.clone());
        let mut judge = ByRules::new(core, &self.rules);
        let plan = rewrite::plan(&old.segment, &mut judge, pace)?;
        let bases = judge.bases();
        self.progress.read += 1;
        let size = old.segment.header.size;
        self.progress.bytes_left = self.progress.bytes_left.saturating_sub(size);
        self.progress.bytes_done += size;
        let worth = self.is_worth(&plan);
        if !worth || !has_room(core, old, &plan)? {
            if worth {
                self.progress.without_room += 1;
            } else {
                looked.insert((self.round, first), share);
            }
            self.stage = Stage::Choose;
            return Ok(Step::Left);
        }
        self.stage = Stage::Write(Work { old: old.clone(), plan, share, bases });
        Ok(Step::Judged)
    }

    fn is_worth(&self, plan: &Plan) -> bool {
        let gain = plan.gain();
        plan.removed > 0
            && match self.thoroughness {
                Thoroughness::Everything => true,
                Thoroughness::Worthwhile => {
                    gain * 100 >= plan.size * GAIN_PERCENT_MIN || gain >= GAIN_SIZE_MIN
                }
            }
    }

    /// Takes back what is not installed, when the pass ends early.
    pub fn abandon(self, core: &Core) {
        let (Stage::ReadBack(_, draft) | Stage::Index(_, draft) | Stage::Install(_, draft)) =
            &self.stage
        else {
            return;
        };
        draft.discard(&*core.environment.disk);
    }
}

fn size_of(view: &View, first: Position) -> u64 {
    let sealed = view.sealed.iter().find(|each| each.segment.header.first == first);
    sealed.map_or(0, |sealed| sealed.segment.header.size)
}

/// Removes `draft` if what was done with it failed.
fn kept<T>(
    disk: &dyn Disk,
    draft: &Draft,
    result: Result<T, ScavengeError>,
) -> Result<T, ScavengeError> {
    if result.is_err() {
        draft.discard(disk);
    }
    result
}

/// Whether both generations have room beside what appends may need next. A disk that refuses
/// appends already can only gain.
fn has_room(core: &Core, old: &Sealed, plan: &Plan) -> Result<bool, ScavengeError> {
    let events = old.end.0 - old.segment.header.first.0;
    let needed = plan.size_after + old.table.size.min(events * INDEX_EVENT_SIZE) + events * 8;
    let reserve = match *core.health.lock() {
        Health::DiskFull => 0,
        _ => core.spares.wanted() + core.spares.reserve(),
    };
    Ok(core.environment.disk.free_space()? >= needed + reserve)
}

/// Writes the index of `draft`, which must say what the old one's says.
fn index(core: &Core, old: &Sealed, draft: &Draft) -> Result<(), ScavengeError> {
    let memtable = sealed::rebuild(&draft.segment, &core.hasher)?;
    let same = memtable.next() == old.end && is_same(old, &memtable.inner.read())?;
    if !same && !planted::is(Bug::RemovedKeysForgotten) {
        return Err(ScavengeError::AnotherIndex { file: draft.segment.name.clone() });
    }
    sealed::write(&core.environment.disk, &memtable)?;
    // Before the log has its name: it must never meet the index of an earlier attempt.
    Ok(core.environment.disk.sync_names()?)
}

/// Whether the postings and names in `inner` are those of the index of `old`.
fn is_same(old: &Sealed, inner: &Inner) -> Result<bool, ScavengeError> {
    let (mut same, mut entries, mut list) = (true, 0, Vec::new());
    old.table.entries(&mut |key, number, chunk| {
        if key == Key::OFFSETS {
            return Ok(());
        }
        list.clear();
        crate::index::posting::decode(chunk, &mut list);
        let here =
            inner.keys.get(&key).and_then(|all| all.get(number as usize..)?.get(..list.len()));
        same &= here == Some(list.as_slice());
        entries += list.len();
        Ok(())
    })?;
    let all: usize = inner.keys.values().map(|list| list.len()).sum();
    let mut names: Vec<&str> = inner.names.iter().map(|name| &**name).collect();
    names.sort_unstable();
    let mut names = names.into_iter();
    for block in 0..old.table.name_block_count() {
        for name in old.table.name_block(block)? {
            same &= names.next() == Some(name.as_str());
        }
    }
    Ok(same && entries == all && names.next().is_none())
}

/// Lets readers find the new generation.
fn swap(core: &Core, old: &Sealed, draft: &Draft) -> Result<(), ScavengeError> {
    let disk = &core.environment.disk;
    let _one_at_a_time = core.maintenance.lock();
    let (segment, end) = (draft.segment.clone(), old.end);
    let opened = if planted::is(Bug::IndexOfOldGeneration) {
        Sealed::open(&**disk, old.segment.clone(), end, core.blocks.clone())?
            .map(|sealed| Sealed { segment, ..sealed })
    } else {
        Sealed::open(&**disk, segment, end, core.blocks.clone())?
    };
    // It was written a moment ago. If it is not there the next start builds it; until then the old
    // generation is read on, and stays.
    let new = Arc::new(opened.ok_or_else(|| RewriteError::Unsound {
        file: draft.segment.name.clone(),
        reason: "its index cannot be read back".to_owned(),
    })?);
    let first = new.segment.header.first;
    core.view.rcu(|view| {
        let mut view = View::clone(view);
        for each in view.sealed.iter_mut().filter(|each| each.segment.header.first == first) {
            *each = new.clone();
        }
        view
    });
    core.tail.forget_below(old.end);
    Ok(())
}

/// Removes the files of the old generation. Who holds it open reads on.
fn remove(core: &Core, old: &Sealed) -> Result<(), ScavengeError> {
    let disk = &*core.environment.disk;
    let _one_at_a_time = core.maintenance.lock();
    let beside = |suffix| sealed::beside(&old.segment, suffix);
    // The log last: a start that finds its index files alone would have to guess.
    for name in [beside(sealed::INDEX_SUFFIX), beside(sealed::IDS_SUFFIX), old.segment.name.clone()]
    {
        match disk.remove(&name) {
            Err(e) if !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
    }
    Ok(disk.sync_names()?)
}
