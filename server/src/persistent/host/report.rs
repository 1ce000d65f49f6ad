//! How a group stands.

use std::time::Duration;

use daybook_store::persistent::Origin;

use super::super::info::{ConsumerInfo, GroupInfo, Status};
use super::super::measure::{Rate, Rated, Times};
use super::{Asker, Host};

impl Host {
    pub(super) fn info(&mut self, by: Asker) -> GroupInfo {
        let now = self.now();
        let counters = self.group.counters();
        let ask = |rate: &mut Rate, total| match by {
            Asker::Client => rate.ask(total, now),
            Asker::Collector => Rated::default(),
        };
        let consumers = self.group.consumers().iter().filter_map(|consumer| {
            let client = self.clients.get_mut(&consumer.id)?;
            Some(ConsumerInfo {
                visitor: client.visitor.clone(),
                rated: ask(&mut client.rate, consumer.settled),
                total: consumer.settled,
                observed: client.times.as_ref().map(Times::observed).unwrap_or_default(),
                free: consumer.free(),
                in_flight: consumer.in_flight,
            })
        });
        let consumers = consumers.collect();
        let troubles = [&self.write_trouble, &self.read_trouble, &self.replay_trouble];
        let trouble = troubles.into_iter().flatten().next().cloned();
        let replaying = self.replay.is_some() || self.group.unsettled(Origin::Parked) > 0;
        let oldest = self.group.oldest().map_or(Duration::ZERO, |at| now.saturating_sub(at));
        GroupInfo {
            definition: self.definition.clone(),
            status: Status { live: self.live, replaying, reading: self.room() > 0, trouble },
            consumers,
            rated: ask(&mut self.rate, counters.settled),
            counters,
            checkpoint: None,
            checkpoint_number: self.group.checkpoint_number(),
            considered: self.group.considered(Origin::Source),
            end: 0,
            last_known: None,
            waiting_new: self.group.waiting_new(),
            waiting_again: self.group.waiting_again(),
            in_flight: self.group.in_flight(),
            parking: self.group.parking(),
            unsettled: self.group.unsettled(Origin::Source) + self.group.unsettled(Origin::Parked),
            parked: self.parked.count(),
            oldest_seconds: oldest.as_secs_f64(),
        }
    }
}
