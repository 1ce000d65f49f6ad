//! Subscribers and what they may be told.

use daybook_model::{StreamName, Timestamp};
use daybook_store::{Delivery, Engine, ReadError, SubscribeFrom, Subscription, SubscriptionFilter};

use super::model::{Fact, Model};
use super::reads::{Wanted, same};

/// What a subscriber follows.
#[derive(Clone, Debug)]
pub enum Source {
    /// A stream.
    Stream(String),
    /// The log, or what the filter wants of it; how many events between checkpoints.
    All(Option<Wanted>, u64),
}

/// A subscriber.
pub struct Watch {
    /// What it follows.
    pub source: Source,
    /// The revision or position it may be told next.
    pub next: u64,
    caught_up: bool,
    /// Whether what was hidden by age may have been passed over.
    uncertain: bool,
    checkpoint: Option<u64>,
    subscription: Subscription,
}

/// What a look at a subscription brought.
pub enum Looked {
    /// Deliveries, as they should be, in words.
    Fine(String),
    /// It ended, as it should.
    Ended,
    /// It could not be read.
    Failed(ReadError),
}

impl Watch {
    /// Subscribes; `next` is where `from` must lead.
    pub fn new(engine: &Engine, source: Source, from: SubscribeFrom, next: u64) -> Watch {
        let subscription = match &source {
            Source::Stream(name) => {
                let name = StreamName::new(name).expect("a valid name");
                engine.subscribe_stream(&name, from)
            }
            Source::All(wanted, interval) => {
                let filter = wanted.as_ref().map(|wanted| SubscriptionFilter {
                    filter: wanted.filter(),
                    checkpoint_interval: *interval,
                });
                engine.subscribe_all(from, filter)
            }
        };
        let (caught_up, uncertain, checkpoint) = (false, false, None);
        Watch { source, next, caught_up, uncertain, checkpoint, subscription }
    }

    /// What may be told now, in order.
    fn expected(&self, model: &Model, now: Timestamp) -> Vec<u64> {
        match &self.source {
            Source::Stream(name) => model
                .visible(name, now)
                .into_iter()
                .filter(|p| model.events[*p as usize].revision >= self.next && model.is_there(*p))
                .collect(),
            Source::All(wanted, _) => (self.next..model.len())
                .filter(|p| model.is_there(*p))
                .filter(|p| wanted.as_ref().is_none_or(|w| w.wants(&model.events[*p as usize])))
                .collect(),
        }
    }

    /// Takes up to `count` deliveries.
    ///
    /// # Errors
    /// Which promise a delivery breaks.
    pub fn look(&mut self, model: &Model, now: Timestamp, count: u64) -> Result<Looked, String> {
        let mut told = String::new();
        for _ in 0..count {
            let delivery = match self.subscription.try_next() {
                Ok(delivery) => delivery,
                Err(ReadError::StreamDeleted { stream }) => {
                    return if model.ended(stream.as_str()) {
                        Ok(Looked::Ended)
                    } else {
                        Err(format!("the feed of {stream} ended, but it has no tombstone"))
                    };
                }
                Err(e) => return Ok(Looked::Failed(e)),
            };
            if let Source::Stream(name) = &self.source
                && model.ended(name)
            {
                return Err(format!("the feed of {name} goes on after its tombstone"));
            }
            match delivery {
                None => {
                    self.nothing_left(model, now)?;
                    self.considered(model);
                    if !self.caught_up {
                        return Err("a feed waits that never said it caught up".to_owned());
                    }
                    break;
                }
                Some(delivery) => told.push_str(&self.take(delivery, model, now)?),
            }
        }
        Ok(Looked::Fine(told))
    }

    fn nothing_left(&self, model: &Model, now: Timestamp) -> Result<(), String> {
        match self.expected(model, now).first() {
            Some(position) if !self.lenient(model) => {
                let brief = model.events[*position as usize].brief();
                Err(format!("the feed of {:?} did not deliver {brief}", self.source))
            }
            _ => Ok(()),
        }
    }

    /// All there is was considered: what is hidden now will not be told later.
    fn considered(&mut self, model: &Model) {
        self.uncertain = false;
        self.next = match &self.source {
            Source::Stream(name) => model.head(name).map_or(0, |head| head + 1).max(self.next),
            Source::All(..) => model.len(),
        };
    }

    /// What is hidden by age comes back when the clock goes back: such feeds are only held to
    /// their order.
    fn lenient(&self, model: &Model) -> bool {
        let aged = |name: &str| model.settings(name).max_age.is_some();
        self.uncertain || matches!(&self.source, Source::Stream(name) if aged(name))
    }

    fn take(
        &mut self,
        delivery: Delivery,
        model: &Model,
        now: Timestamp,
    ) -> Result<String, String> {
        match delivery {
            Delivery::Events(page) => {
                let facts: Vec<Fact> = page.events().map(|event| Fact::of(&event)).collect();
                let mut expected = self.expected(model, now);
                // What was read before a scavenge removed it may be delivered after.
                let gone = facts.iter().map(|fact| fact.position).filter(|p| !model.is_there(*p));
                expected.extend(gone);
                expected.sort_unstable();
                self.uncertain = self.lenient(model);
                if self.uncertain {
                    expected.retain(|p| facts.iter().any(|fact| fact.position == *p));
                }
                let what = format!("the feed of {:?} from {}", self.source, self.next);
                same(&what, &facts, &expected, model, true)?;
                let last = facts.last().ok_or("a feed delivered a page without events")?;
                self.next = match &self.source {
                    Source::Stream(_) => last.revision + 1,
                    Source::All(..) => last.position + 1,
                };
                Ok(format!(" {}..{}", facts[0].position, last.position))
            }
            Delivery::Checkpoint { position, .. } => {
                let position = position.0;
                let early = self.expected(model, now).first().is_some_and(|p| *p <= position);
                if early || position >= model.len() || self.checkpoint >= Some(position) {
                    return Err(format!("a checkpoint at {position} comes at a wrong time"));
                }
                self.checkpoint = Some(position);
                self.next = self.next.max(position + 1);
                Ok(format!(" checkpoint {position}"))
            }
            Delivery::CaughtUp { at, .. } => {
                self.nothing_left(model, now)?;
                if self.caught_up {
                    return Err("a feed caught up twice".to_owned());
                }
                self.caught_up = true;
                self.considered(model);
                Ok(format!(" caught up at {at:?}"))
            }
        }
    }
}
