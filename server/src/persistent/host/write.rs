//! What a group writes: parked messages and checkpoints, and the last of both.

use std::time::Duration;

use daybook_store::persistent::Origin;
use futures_util::stream::StreamExt as _;

use super::super::consumer::Ending;
use super::super::journal::{Journal, JournalError};
use super::super::key::GroupKey;
use super::replay::{Cut, Whose};
use super::{Command, Done, Host};

/// Messages that are being parked at a time; others wait in memory, unsettled.
const PARKS_MAX: usize = 32;
/// How long a group that stops waits for its last writes. What they miss is delivered again.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(5);

impl Host {
    pub(super) fn park(&mut self) {
        while self.parks_under_way < PARKS_MAX
            && let Some((ticket, parking)) = self.parks.pop_front()
        {
            self.parks_under_way += 1;
            let (journal, key) = (self.journal.clone(), self.definition.key.clone());
            self.work.push(Box::pin(async move {
                let result = journal.park(&key, parking.clone()).await.map(|_| ());
                Done::Parked { ticket, parking, result }
            }));
        }
    }

    pub(super) fn checkpoint(&mut self, origin: Origin, number: u64) {
        if origin == Origin::Parked {
            return self.cuts.push(Cut { first: number + 1, whose: Whose::Group });
        }
        let (journal, key) = (self.journal.clone(), self.definition.key.clone());
        let is_first = self.group.checkpoint_number().is_none();
        self.work.push(Box::pin(async move {
            Done::Checkpoint(write_checkpoint(&journal, &key, number, is_first).await)
        }));
    }

    /// What was going on beside has ended.
    pub(super) fn done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Parked { ticket, parking, result } => {
                self.parks_under_way -= 1;
                if self.noted(&result, &format!("cannot park {}", parking.link)) {
                    self.parked.next += 1;
                    self.parking_ids.remove(&ticket);
                }
                self.group.parked(ticket, result.is_ok(), now);
            }
            Done::Checkpoint(result) => {
                self.noted(&result, "cannot write a checkpoint");
                self.group.checkpointed(Origin::Source, result.is_ok(), now);
            }
            Done::Replayed { next, messages, failed } => self.replayed(next, messages, failed),
            Done::Cut { first, cuts, result } => self.cut_done(first, cuts, result),
        }
    }

    /// Lets go of the consumers, and writes what is settled. `last` are commands that it received and
    /// did not come to.
    pub(super) async fn finish(mut self, ending: Ending, last: Vec<Command>) {
        let clients = std::mem::take(&mut self.clients);
        let ids: Vec<_> = clients.keys().copied().collect();
        for client in clients.into_values() {
            // Told before the mailbox closes, so that who meets it closed knows why. A consumer may
            // have gone by itself.
            let _ = client.ended.send(ending);
        }
        self.mailbox.close();
        for command in last {
            self.obey_last(command, ending);
        }
        while let Some(command) = self.mailbox.recv().await {
            self.obey_last(command, ending);
        }
        ids.into_iter().for_each(|id| self.group.leave(id));
        if tokio::time::timeout(FLUSH_WAIT_MAX, self.write_last(ending)).await.is_err() {
            tracing::warn!(group = %self.definition.key, "a group's last writes were not waited for");
        }
    }

    async fn write_last(&mut self, ending: Ending) {
        if ending == Ending::Deleted {
            // What is being written must have been before it is forgotten.
            while self.work.next().await.is_some() {}
            return;
        }
        let now = self.now();
        // First what consumers said last, then how far that is.
        for _ in 0..2 {
            let actions: Vec<_> = self.group.actions(now).collect();
            self.carry_out(actions);
            loop {
                self.park();
                self.cut();
                let Some(done) = self.work.next().await else { break };
                self.done(done);
            }
            self.group.flush();
        }
    }

    /// Notes whether something could be written; logs when that changes.
    pub(super) fn noted(&mut self, result: &Result<(), JournalError>, what: &str) -> bool {
        match result {
            Ok(()) => {
                if self.write_trouble.take().is_some() {
                    tracing::info!(group = %self.definition.key, "the group can write again");
                }
                true
            }
            Err(error) => {
                if self.write_trouble.is_none() {
                    let group = &self.definition.key;
                    tracing::warn!(%group, %error, "{what}; it stays unsettled and is tried again");
                }
                self.write_trouble = Some(format!("{what}: {error}"));
                false
            }
        }
    }
}

/// Writes a checkpoint; before the first sees to the stream it is written to.
async fn write_checkpoint(
    journal: &Journal,
    key: &GroupKey,
    number: u64,
    is_first: bool,
) -> Result<(), JournalError> {
    if is_first {
        journal.prepare_checkpoints(key).await?;
    }
    journal.put_checkpoint(key, number).await
}
