//! What consumers make of messages, and what becomes of them then.

use std::time::Duration;

use uuid::Uuid;

use super::super::settings::TRY_AGAIN;
use super::{Action, Group, ParkCause, State, Ticket};
use crate::persistent::{ConsumerId, NackAction};

impl<P: Clone> Group<P> {
    /// A consumer is done with a message; how long it had it. Also counts if the message has been
    /// taken from it meanwhile: the work is done. None if there is no such message.
    pub fn ack(&mut self, consumer: ConsumerId, id: Uuid, now: Duration) -> Option<Duration> {
        let ticket = *self.by_id.get(&id)?;
        let entry = self.entries.get(&ticket)?;
        let took = match &entry.state {
            State::InFlight { since, .. } => now.saturating_sub(*since),
            State::Waiting { .. } => Duration::ZERO,
            State::Parking { .. } => return None,
        };
        self.settle(ticket);
        if let Some(consumer) = self.consumer(consumer) {
            consumer.settled += 1;
        }
        Some(took)
    }

    /// A consumer is not done with a message that it has; answers whether it has it.
    pub fn nack(&mut self, consumer: ConsumerId, id: Uuid, what: NackAction) -> bool {
        let Some(ticket) = self.by_id.get(&id).copied() else { return false };
        if self.holder(ticket) != Some(consumer) {
            return false;
        }
        match what {
            NackAction::Retry => self.again(ticket),
            NackAction::Skip => {
                self.settle(ticket);
                if let Some(consumer) = self.consumer(consumer) {
                    consumer.settled += 1;
                }
            }
            NackAction::Park(reason) => {
                let reason = format!("Client explicitly NAK'ed message.\n{reason}");
                self.park(ticket, reason, ParkCause::ClientNak);
            }
        }
        true
    }

    /// A message was parked, or could not be and will be tried again.
    pub fn parked(&mut self, ticket: Ticket, is_durable: bool, now: Duration) {
        let Some(entry) = self.entries.get_mut(&ticket.0) else { return };
        let State::Parking { cause, again_at, .. } = &mut entry.state else { return };
        if !is_durable {
            let at = now + TRY_AGAIN;
            *again_at = Some(at);
            self.park_again.insert((at, ticket.0));
            return;
        }
        match cause {
            ParkCause::ClientNak => self.counters.parked_by_client += 1,
            ParkCause::MaxRetries => self.counters.parked_by_retries += 1,
        }
        self.settle(ticket.0);
    }

    /// Sends a message again, unless that was done as often as it may.
    pub(super) fn again(&mut self, ticket: u64) {
        let most = self.settings.max_retry_count;
        let Some(entry) = self.entries.get_mut(&ticket) else { return };
        if entry.retries >= most {
            let reason = format!("Reached retry count of {most}");
            return self.park(ticket, reason, ParkCause::MaxRetries);
        }
        entry.retries += 1;
        self.counters.retried += 1;
        self.take_back(ticket);
    }

    fn park(&mut self, ticket: u64, reason: String, cause: ParkCause) {
        self.leave_flight(ticket);
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.state = State::Parking { reason, cause, again_at: None };
            self.request_parking(ticket);
        }
    }

    pub(super) fn request_parking(&mut self, ticket: u64) {
        let Some(entry) = self.entries.get(&ticket) else { return };
        let State::Parking { reason, cause, .. } = &entry.state else { return };
        let (reason, cause) = (reason.clone(), *cause);
        let payload = entry.message.payload.clone();
        self.actions.push_back(Action::Park { ticket: Ticket(ticket), payload, reason, cause });
    }
}
