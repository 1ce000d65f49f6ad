//! Parked messages: delivered again, or forgotten.

use daybook_store::persistent::Origin;

use super::super::error::GroupError;
use super::super::feed::Shaping;
use super::{Answer, Done, Host, REPLAY_BATCH};

impl Host {
    /// Reads parked messages, if some are to be replayed and there is room.
    pub(super) fn read_parked(&mut self) {
        let Some((next, end)) = self.replay else { return };
        if next >= end {
            self.replay = None;
            return;
        }
        let room = self.group.room(self.group.settings().history_buffer_size);
        if self.replay_is_read || room == 0 {
            return;
        }
        self.replay_is_read = true;
        let (journal, key) = (self.journal.clone(), self.definition.key.clone());
        let strategy = self.definition.settings.strategy;
        self.work.push(Box::pin(async move {
            let count = room.min(REPLAY_BATCH) as u64;
            let read = journal.read_parked(&key, (next, end), count).await;
            let shaping = Shaping { store: journal.store(), resolve_links: true, strategy };
            match read {
                Ok(events) if events.is_empty() => Done::Replayed { next: end, result: Ok(vec![]) },
                Ok(events) => {
                    let next = events.last().map_or(end, |event| event.revision.0 + 1);
                    let mut messages = Vec::with_capacity(events.len());
                    for event in events {
                        let link = shaping.placed(&event.view());
                        match shaping.follow(link, event.revision.0).await {
                            Ok(fed) => messages.push(fed),
                            Err(failed) => {
                                let result = Err(failed.into());
                                return Done::Replayed { next: event.revision.0, result };
                            }
                        }
                    }
                    Done::Replayed { next, result: Ok(messages) }
                }
                Err(failed) => Done::Replayed { next, result: Err(failed) },
            }
        }));
    }

    pub(super) fn replay(&mut self, limit: Option<u64>) {
        let under_way = self.group.unsettled(Origin::Parked) > 0 || self.replay.is_some();
        let first = if under_way {
            let read = self.group.considered(Origin::Parked).map_or(0, |number| number + 1);
            self.replay.map_or(read, |(next, _)| next).max(self.parked.first)
        } else {
            self.group.begin_replay(self.parked.first);
            self.parked.first
        };
        let end = limit.map_or(self.parked.next, |limit| first.saturating_add(limit));
        self.replay = Some((first, end.min(self.parked.next)));
    }

    pub(super) fn truncate(&mut self, limit: Option<u64>, answer: Answer) {
        let first = self.parked.first;
        let first = limit.map_or(self.parked.next, |limit| first.saturating_add(limit));
        let first = first.min(self.parked.next);
        let (journal, key) = (self.journal.clone(), self.definition.key.clone());
        self.work.push(Box::pin(async move {
            let result = journal.truncate_parked(&key, first).await;
            let result = result.map_err(|error| GroupError::failed(&key, error));
            Done::Truncated { first, result, answer }
        }));
    }
}
