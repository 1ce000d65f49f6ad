//! Parked messages: delivered again, or forgotten.
//!
//! INVARIANT: the place before which parked messages are forgotten never goes back, however many want
//! to move it: one write at a time, each with the furthest place that is wanted by then.

use std::sync::Arc;

use daybook_store::ReadError;
use daybook_store::persistent::settings::TRY_AGAIN;
use daybook_store::persistent::{Message, Origin};

use super::super::error::GroupError;
use super::super::feed::{Item, Shaping};
use super::super::journal::JournalError;
use super::{Answer, Done, Host};

/// Parked messages that are read at a time.
const REPLAY_BATCH: usize = 50;

/// A place before which parked messages are to be forgotten.
pub(super) struct Cut {
    pub first: u64,
    pub whose: Whose,
}

/// Who wants it.
pub(super) enum Whose {
    /// The group: what it delivered again is settled.
    Group,
    /// A client, who waits for it.
    Client(Answer),
}

impl Host {
    /// Reads parked messages, if some are to be replayed and there is room.
    pub(super) fn read_parked(&mut self) {
        let now = self.now();
        self.replay_again = self.replay_again.filter(|at| *at > now);
        let Some((next, end)) = self.replay else { return };
        if next >= end {
            (self.replay, self.replay_trouble) = (None, None);
            return;
        }
        let room = self.room_within(self.group.settings().history_buffer_size);
        if self.replay_is_read || self.replay_again.is_some() || room == 0 {
            return;
        }
        self.replay_is_read = true;
        let (journal, key) = (self.journal.clone(), self.definition.key.clone());
        let strategy = self.definition.settings.strategy;
        self.work.push(Box::pin(async move {
            let count = room.min(REPLAY_BATCH) as u64;
            let mut messages = Vec::new();
            let events = match journal.read_parked(&key, (next, end), count).await {
                Ok(events) => events,
                Err(failed) => return Done::Replayed { next, messages, failed: Some(failed) },
            };
            let after = events.last().map_or(end, |event| event.revision.0 + 1);
            let shaping = Shaping { store: journal.store(), resolve_links: true, strategy };
            for event in events {
                let (link, number) = (shaping.placed(&event.view()), event.revision.0);
                match shaping.replayed(link, number).await {
                    Ok(message) => messages.push(message),
                    Err(failed) => {
                        let failed = Some(failed.into());
                        return Done::Replayed { next: number, messages, failed };
                    }
                }
            }
            Done::Replayed { next: after, messages, failed: None }
        }));
    }

    /// Parked messages were read, up to the one before `next`.
    pub(super) fn replayed(
        &mut self,
        next: u64,
        messages: Vec<Message<Arc<Item>>>,
        failed: Option<JournalError>,
    ) {
        let now = self.now();
        self.replay_is_read = false;
        self.replay = self.replay.map(|(_, end)| (next, end));
        for message in messages {
            self.group.push(Origin::Parked, message, now);
        }
        match failed {
            None => self.replay_trouble = None,
            // The stop that closed the store also stops this.
            Some(JournalError::Read(ReadError::Closed)) => self.replay = None,
            Some(error) => {
                if self.replay_trouble.is_none() {
                    let group = &self.definition.key;
                    tracing::warn!(%group, %error, "cannot replay on; it is tried again");
                }
                self.replay_trouble =
                    Some(format!("cannot replay parked message {next}: {error}; it tries again"));
                self.replay_again = Some(now + TRY_AGAIN);
            }
        }
    }

    /// Delivers parked messages again, at most `limit` beside those that are under way.
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
        let end = end.min(self.parked.next);
        // Who asked before is not given less than was said.
        let end = self.replay.map_or(end, |(_, before)| end.max(before));
        self.replay = Some((first, end));
    }

    pub(super) fn truncate(&mut self, limit: Option<u64>, answer: Answer) {
        let first = self.parked.first;
        let first = limit.map_or(self.parked.next, |limit| first.saturating_add(limit));
        let first = first.min(self.parked.next);
        self.cuts.push(Cut { first, whose: Whose::Client(answer) });
    }

    /// Begins to forget what is wanted, unless that is being done.
    pub(super) fn cut(&mut self) {
        if self.is_cutting || self.cuts.is_empty() {
            return;
        }
        self.is_cutting = true;
        let cuts = std::mem::take(&mut self.cuts);
        let wanted = cuts.iter().map(|cut| cut.first).max().unwrap_or_default();
        let (before, first) = (self.parked.first, wanted.max(self.parked.first));
        let (journal, key) = (self.journal.clone(), self.definition.key.clone());
        self.work.push(Box::pin(async move {
            let result = match first > before {
                true => journal.truncate_parked(&key, first).await,
                false => Ok(()),
            };
            Done::Cut { first, cuts, result }
        }));
    }

    pub(super) fn cut_done(
        &mut self,
        first: u64,
        cuts: Vec<Cut>,
        result: Result<(), JournalError>,
    ) {
        let (now, is_durable) = (self.now(), result.is_ok());
        self.is_cutting = false;
        if self.noted(&result, "cannot forget parked messages") {
            self.parked.first = first;
        }
        for Cut { whose, .. } in cuts {
            match whose {
                Whose::Group => self.group.checkpointed(Origin::Parked, is_durable, now),
                // Nobody may be waiting any more.
                Whose::Client(answer) => {
                    let key = &self.definition.key;
                    let result = result.clone().map_err(|error| GroupError::failed(key, error));
                    let _ = answer.send(result);
                }
            }
        }
    }
}
