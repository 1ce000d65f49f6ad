//! When a place is to be made durable: by count at once, by age if that is worth it.

use std::time::Duration;

use super::super::settings::TRY_AGAIN;
use super::{Action, Group, Origin};

impl<P: Clone> Group<P> {
    /// Makes all that is settled durable, however little it is.
    pub fn flush(&mut self) {
        for origin in [Origin::Source, Origin::Parked] {
            if self.progress(origin).is_ahead() {
                self.save(origin);
            }
        }
    }

    /// When [`Group::tick`] has something to do next, if nothing else happens.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        let timeout = self.deadlines.first().map(|(at, _)| *at);
        let parking = self.park_again.first().map(|(at, _)| *at);
        let enough = u64::from(self.settings.min_checkpoint_count.max(1));
        let due = self.source.is_ahead() && self.source.uncovered() >= enough;
        let aged = self.settings.checkpoint_after.filter(|_| due);
        let full = self.source.uncovered() >= u64::from(self.settings.max_checkpoint_count.max(1));
        let full = (full && self.source.is_ahead()).then_some(self.save_again);
        let aged = aged.map(|after| self.checkpointed + after);
        let checkpoint = full.or(aged).map(|at| at.max(self.save_again));
        let replay = self.replay.is_ahead().then(|| self.checkpointed + TRY_AGAIN);
        [timeout, parking, checkpoint, replay].into_iter().flatten().min()
    }

    /// A place was made durable, or could not be. That one is tried again after a while.
    pub fn checkpointed(&mut self, origin: Origin, is_durable: bool, now: Duration) {
        self.progress(origin).end_saving(is_durable);
        self.checkpointed = now;
        if !is_durable {
            self.save_again = now + TRY_AGAIN;
        }
    }

    /// Writes checkpoints that are due: by count at once, by age if there are enough.
    pub(super) fn checkpoint(&mut self, now: Duration) {
        if now < self.save_again {
            return;
        }
        let age = now.saturating_sub(self.checkpointed);
        if self.source.is_ahead() {
            let count = self.source.uncovered();
            let full = count >= u64::from(self.settings.max_checkpoint_count.max(1));
            let enough = count >= u64::from(self.settings.min_checkpoint_count.max(1));
            let aged = self.settings.checkpoint_after.is_some_and(|after| age >= after);
            if full || (enough && aged) {
                self.save(Origin::Source);
            }
        }
        if self.replay.is_ahead() && (age >= TRY_AGAIN || self.replay.len() == 0) {
            self.save(Origin::Parked);
        }
    }

    fn save(&mut self, origin: Origin) {
        if let Some(number) = self.progress(origin).begin_saving() {
            self.actions.push_back(Action::Checkpoint { origin, number });
        }
    }
}
