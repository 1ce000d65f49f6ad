//! One pass over the store, one step a call, so that a simulation can crash, read or write between
//! any two.
//!
//! What is not sound ends no pass: it is noted, and left as it is, and the next segment is looked at.

use std::collections::VecDeque;
use std::sync::Arc;

use daybook_log::planted::{self, Bug};
use daybook_log::rewrite::{self, Draft, Pace, Plan, RewriteError};
use daybook_model::{Position, Timestamp};
use uuid::Uuid;

use super::generation;
use super::judge::{ByRules, Rules};
use super::memory::Memory;
use super::room;
use super::status::{Progress, ScavengeError};
use super::survey::{self, Basis, Cursor, Share, Survey};
use crate::core::Core;
use crate::index::View;
use crate::index::key::IdentityState;
use crate::index::sealed::Sealed;

/// A segment is rewritten by itself if that gives back so many percent of it.
const GAIN_PERCENT_MIN: u64 = 5;
/// Or so many bytes: of a large segment less than that share is worth it, too.
const GAIN_SIZE_MIN: u64 = 8 * 1024 * 1024;

/// What a pass did in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It looked at the settings of streams.
    Surveyed,
    /// It read a segment, and leaves it as it is.
    Left,
    /// A segment, or what was made of it, is not what it should be: it leaves it as it is.
    GaveUp,
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

/// A pass.
pub(crate) struct Pass {
    thoroughness: Thoroughness,
    now: Timestamp,
    stage: Stage,
    next: Cursor,
    round: u64,
    rules: Rules,
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

impl Work {
    fn first(&self) -> Position {
        self.old.segment.header.first
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
            rules: Rules::with_hasher(IdentityState),
            waiting: VecDeque::new(),
            progress,
        }
    }

    /// Does the next step. After an error the pass is over.
    pub fn step(
        &mut self,
        core: &Core,
        memory: &mut Memory,
        pace: &mut Pace<'_>,
    ) -> Result<Step, ScavengeError> {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Survey => self.survey(core, memory, pace),
            Stage::Choose => self.choose(core, memory, pace),
            Stage::Write(work) => self.write(core, work, pace),
            Stage::ReadBack(work, draft) => self.read_back(core, work, draft, pace),
            Stage::Index(work, draft) => self.index(core, work, draft, pace),
            Stage::Install(work, draft) => self.install(core, memory, work, draft),
            Stage::Swap(work, draft) => self.swap(core, memory, work, draft),
            Stage::Remove(work) => self.remove(core, memory, &work),
            Stage::Done => Ok(Step::Done),
        }
    }

    fn survey(
        &mut self,
        core: &Core,
        memory: &Memory,
        pace: &mut Pace<'_>,
    ) -> Result<Step, ScavengeError> {
        let cursor = std::mem::take(&mut self.next);
        let surveyed = survey::survey(core, cursor, self.now, pace)?;
        let Survey { rules, shares, damage, next } = surveyed.ok_or(RewriteError::Stopped)?;
        if let Some((streams, first)) = damage {
            self.progress.left(streams, &first);
        }
        (self.rules, self.next) = (rules, next);
        self.round += 1;
        let round = self.round;
        let everything = self.thoroughness == Thoroughness::Everything;
        let unknown =
            |(first, share): &(Position, Share)| everything || !memory.knows(round, *first, share);
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
        memory: &mut Memory,
        pace: &mut Pace<'_>,
    ) -> Result<Step, ScavengeError> {
        let Some((first, share)) = self.waiting.pop_front() else {
            self.progress.current = None;
            let more = self.next != Cursor::End;
            self.stage = if more { Stage::Survey } else { Stage::Done };
            return Ok(if more { Step::Left } else { Step::Done });
        };
        self.stage = Stage::Choose;
        let view = core.view.load_full();
        let Some(old) = view.sealed.iter().find(|each| each.segment.header.first == first) else {
            return Ok(Step::Left);
        };
        if memory.is_unsettled(first) {
            let file = &old.segment.name;
            self.progress.left(1, &format!("{file} is rewritten, but not used; restart to use it"));
            return Ok(Step::Left);
        }
        self.progress.current = Some(old.segment.name.clone());
        let mut judge = ByRules::new(core, &self.rules);
        let planned = rewrite::plan(&old.segment, &mut judge, pace);
        let bases = judge.bases();
        self.progress.read += 1;
        let size = old.segment.header.size;
        self.progress.bytes_left = self.progress.bytes_left.saturating_sub(size);
        self.progress.bytes_done += size;
        let plan = match planned {
            Ok(plan) => plan,
            Err(e) => return self.give_up(e.into()),
        };
        if !self.is_worth(&plan) {
            memory.note(self.round, first, share);
            return Ok(Step::Left);
        }
        if !room::is_there(core, old, &plan)? {
            return self.give_up(ScavengeError::NoRoom);
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

    fn write(
        &mut self,
        core: &Core,
        work: Work,
        pace: &mut Pace<'_>,
    ) -> Result<Step, ScavengeError> {
        let (disk, salt) = (&*core.environment.disk, core.environment.entropy.bytes());
        let mut judge = ByRules::new(core, &self.rules);
        let mut room = room::Watch::new(core);
        let mut pace = |bytes| room.goes_on(bytes) && pace(bytes);
        let segment = &work.old.segment;
        match rewrite::write(disk, segment, &work.plan, salt, &mut judge, &mut pace) {
            Ok(draft) => {
                self.stage = Stage::ReadBack(work, draft);
                Ok(Step::Written)
            }
            Err(e) => self.give_up(room.explain(e.into())),
        }
    }

    fn read_back(
        &mut self,
        core: &Core,
        work: Work,
        draft: Draft,
        pace: &mut Pace<'_>,
    ) -> Result<Step, ScavengeError> {
        match rewrite::read_back(&work.old.segment, &draft, &work.plan, pace) {
            Ok(()) => {
                self.stage = Stage::Index(work, draft);
                Ok(Step::ReadBack)
            }
            Err(e) => {
                draft.discard(&*core.environment.disk);
                self.give_up(e.into())
            }
        }
    }

    fn index(
        &mut self,
        core: &Core,
        work: Work,
        draft: Draft,
        pace: &mut Pace<'_>,
    ) -> Result<Step, ScavengeError> {
        let mut room = room::Watch::new(core);
        let mut pace = |bytes| room.goes_on(bytes) && pace(bytes);
        match generation::index(core, &work.old, &draft, &mut pace) {
            Ok(()) => {
                self.stage = Stage::Install(work, draft);
                Ok(Step::Indexed)
            }
            Err(e) => {
                draft.discard(&*core.environment.disk);
                self.give_up(room.explain(e))
            }
        }
    }

    fn install(
        &mut self,
        core: &Core,
        memory: &mut Memory,
        work: Work,
        draft: Draft,
    ) -> Result<Step, ScavengeError> {
        let disk = &*core.environment.disk;
        if !work.bases.iter().all(|basis| basis.holds(core)) {
            // Somebody has put a setting right meanwhile: what it shows again must stay.
            draft.discard(disk);
            self.stage = Stage::Choose;
            return Ok(Step::Left);
        }
        memory.unsettle(work.first());
        match draft.install(disk) {
            Ok(()) => {
                self.stage = Stage::Swap(work, draft);
                Ok(Step::Installed)
            }
            Err(e) => {
                memory.take_back(core, &draft);
                self.give_up(e.into())
            }
        }
    }

    fn swap(
        &mut self,
        core: &Core,
        memory: &mut Memory,
        work: Work,
        draft: Draft,
    ) -> Result<Step, ScavengeError> {
        match generation::swap(core, &work.old, &draft) {
            Ok(()) => {
                memory.settle(work.first());
                self.stage = Stage::Remove(work);
                Ok(Step::Swapped)
            }
            Err(e) => {
                memory.take_back(core, &draft);
                self.give_up(e)
            }
        }
    }

    fn remove(
        &mut self,
        core: &Core,
        memory: &mut Memory,
        work: &Work,
    ) -> Result<Step, ScavengeError> {
        generation::remove(core, &work.old)?;
        self.progress.rewritten += 1;
        self.progress.events += work.plan.removed;
        self.progress.bytes_before += work.plan.size;
        self.progress.bytes_after += work.plan.size_after;
        // Only now: a segment that could not be rewritten is tried again.
        memory.note(self.round, work.first(), work.share);
        self.stage = Stage::Choose;
        Ok(Step::Removed)
    }

    /// Leaves a segment as it is because of `error`. The pass goes on with the next one if that may
    /// fare better.
    fn give_up(&mut self, error: ScavengeError) -> Result<Step, ScavengeError> {
        let step = if error.is_full() {
            self.progress.without_room += 1;
            Step::Left
        } else if error.is_damage() && !planted::is(Bug::DamageEndsScavenge) {
            self.progress.left(1, &error);
            Step::GaveUp
        } else {
            self.stage = Stage::Done;
            return Err(error);
        };
        self.stage = Stage::Choose;
        Ok(step)
    }

    /// Takes back what readers do not find, when the pass ends early; removes what they do not
    /// find any more.
    pub fn abandon(&mut self, core: &Core, memory: &mut Memory) {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::ReadBack(_, draft) | Stage::Index(_, draft) | Stage::Install(_, draft) => {
                draft.discard(&*core.environment.disk);
            }
            Stage::Swap(_, draft) => memory.take_back(core, &draft),
            Stage::Remove(work) if core.stop_reason().is_none() => {
                if let Err(e) = self.remove(core, memory, &work) {
                    let file = &work.old.segment.name;
                    tracing::warn!(file, error = %e, "cannot remove it; the next start will");
                }
            }
            Stage::Survey | Stage::Choose | Stage::Write(_) | Stage::Remove(_) | Stage::Done => {}
        }
    }
}

fn size_of(view: &View, first: Position) -> u64 {
    let sealed = view.sealed.iter().find(|each| each.segment.header.first == first);
    sealed.map_or(0, |sealed| sealed.segment.header.size)
}
