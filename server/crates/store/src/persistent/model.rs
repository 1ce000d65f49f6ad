//! Random histories of a group, watched by a naive model that keeps all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::{Just, ProptestConfig, any, prop_assert, prop_oneof, proptest};
use proptest::strategy::Strategy as _;
use uuid::Uuid;

use super::*;

const STREAMS: u64 = 6;
const MAX_CHECKPOINT: u32 = 8;

#[derive(Clone, Debug)]
enum Op {
    Push(u64),
    Join(usize),
    Leave(usize),
    Ack(usize),
    Nack(usize, u8),
    Tick(u64),
    Written(bool),
    GiveBack(usize),
}

fn op() -> impl proptest::strategy::Strategy<Value = Op> {
    prop_oneof![
        4 => (0..STREAMS).prop_map(Op::Push),
        1 => (1..4_usize).prop_map(Op::Join),
        1 => (0..4_usize).prop_map(Op::Leave),
        4 => (0..16_usize).prop_map(Op::Ack),
        2 => (0..16_usize, 0..3_u8).prop_map(|(which, what)| Op::Nack(which, what)),
        1 => (1..60_u64).prop_map(Op::Tick),
        3 => any::<bool>().prop_map(Op::Written),
        1 => (0..8_usize).prop_map(Op::GiveBack),
    ]
}

/// What was seen of the group.
struct Seen {
    group: Group<u64>,
    strategy: Strategy,
    now: Duration,
    pushed: u64,
    streams: BTreeMap<u64, u64>,
    unsettled: BTreeSet<u64>,
    in_flight: BTreeMap<u64, ConsumerId>,
    buffers: BTreeMap<ConsumerId, usize>,
    parking: Vec<(Ticket, u64)>,
    saving: Option<u64>,
    saved: Option<u64>,
    save_again: Duration,
    consumers: u64,
}

impl Seen {
    fn new(strategy: Strategy) -> Seen {
        let settings = Settings {
            strategy,
            message_timeout: Some(Duration::from_millis(50)),
            max_retry_count: 2,
            checkpoint_after: Some(Duration::from_millis(20)),
            min_checkpoint_count: 2,
            max_checkpoint_count: MAX_CHECKPOINT,
            ..Settings::default()
        };
        Seen {
            group: Group::new(settings, None, 0, Duration::ZERO),
            strategy,
            now: Duration::ZERO,
            pushed: 0,
            streams: BTreeMap::new(),
            unsettled: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            buffers: BTreeMap::new(),
            parking: Vec::new(),
            saving: None,
            saved: None,
            save_again: Duration::ZERO,
            consumers: 0,
        }
    }

    fn bucket(stream: u64) -> Bucket {
        Bucket::of(&format!("stream-{stream}"))
    }

    fn id(number: u64) -> Uuid {
        Uuid::from_u128(u128::from(number) + 1)
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Push(stream) => {
                let number = self.pushed;
                let (id, bucket) = (Seen::id(number), Seen::bucket(stream));
                let message = Message { id, number, bucket, size: 1, payload: number };
                self.group.push(Origin::Source, message, self.now);
                self.pushed += 1;
                self.unsettled.insert(number);
                self.streams.insert(number, stream);
            }
            Op::Join(buffer) => {
                let id = ConsumerId(self.consumers);
                self.consumers += 1;
                self.buffers.insert(id, buffer);
                self.group.join(id, buffer);
            }
            Op::Leave(which) => {
                let Some(id) = nth(self.buffers.keys(), which) else { return };
                self.buffers.remove(&id);
                self.group.leave(id);
                self.in_flight.retain(|_, holder| *holder != id);
            }
            Op::Ack(which) => {
                let Some((number, holder)) = nth_pair(&self.in_flight, which) else { return };
                assert!(self.group.ack(holder, Seen::id(number), self.now).is_some());
                self.in_flight.remove(&number);
                assert!(self.unsettled.remove(&number), "settled twice");
            }
            Op::Nack(which, what) => self.nack(which, what),
            Op::Tick(ms) => {
                self.now += Duration::from_millis(ms);
                self.group.tick(self.now);
                // What timed out is known from what the group still counts.
                let kept: BTreeSet<u64> = self.held().collect();
                self.in_flight.retain(|number, _| kept.contains(number));
            }
            Op::Written(is_durable) => self.written(is_durable),
            Op::GiveBack(size) => self.give_back(size),
        }
        self.take_actions();
        self.check();
    }

    /// The messages that have been in flight for less than the time-out.
    fn held(&self) -> impl Iterator<Item = u64> + '_ {
        let waiting: BTreeSet<u64> = self.group.numbers_in_flight().collect();
        self.in_flight.keys().copied().filter(move |number| waiting.contains(number))
    }

    fn nack(&mut self, which: usize, what: u8) {
        let Some((number, holder)) = nth_pair(&self.in_flight, which) else { return };
        let action = match what {
            0 => NackAction::Park("no".to_owned()),
            1 => NackAction::Retry,
            _ => NackAction::Skip,
        };
        let skips = action == NackAction::Skip;
        assert!(self.group.nack(holder, Seen::id(number), action));
        self.in_flight.remove(&number);
        if skips {
            assert!(self.unsettled.remove(&number), "settled twice");
        }
    }

    fn give_back(&mut self, size: usize) {
        let Some(first) = self.group.give_back(size) else { return };
        for number in first..self.pushed {
            assert!(self.unsettled.remove(&number), "{number} would come again");
            assert!(!self.in_flight.contains_key(&number), "{number} is in flight");
        }
        self.pushed = first;
    }

    fn written(&mut self, is_durable: bool) {
        if let Some((ticket, number)) = self.parking.pop() {
            self.group.parked(ticket, is_durable, self.now);
            if is_durable {
                assert!(self.unsettled.remove(&number), "settled twice");
            }
        } else if let Some(number) = self.saving.take() {
            self.group.checkpointed(Origin::Source, is_durable, self.now);
            if is_durable {
                self.saved = Some(number);
            } else {
                self.save_again = self.now + settings::TRY_AGAIN;
            }
        }
    }

    fn take_actions(&mut self) {
        let actions: Vec<_> = self.group.actions(self.now).collect();
        for action in actions {
            match action {
                Action::Send { to, payload, .. } => self.sent(to, payload),
                Action::Park { ticket, payload, .. } => self.parking.push((ticket, payload)),
                Action::Checkpoint { number, .. } => {
                    let first = self.unsettled.first().copied().unwrap_or(self.pushed);
                    assert!(number < first, "a checkpoint covers what is not settled");
                    assert!(Some(number) > self.saved && self.saving.is_none());
                    self.saving = Some(number);
                }
            }
        }
    }

    fn sent(&mut self, to: ConsumerId, number: u64) {
        assert!(self.unsettled.contains(&number), "sent after it was settled");
        if self.strategy.pins() {
            let bucket = Seen::bucket(self.streams[&number]);
            let others = self.in_flight.iter();
            let same = others.filter(|(n, _)| Seen::bucket(self.streams[n]) == bucket);
            for (other, holder) in same {
                assert_eq!(*holder, to, "{other} and {number} of one bucket");
            }
        }
        assert!(self.in_flight.insert(number, to).is_none(), "sent twice at once");
    }

    fn check(&self) {
        for consumer in self.group.consumers() {
            let mine = self.in_flight.values().filter(|holder| **holder == consumer.id).count();
            assert_eq!(mine, consumer.in_flight);
            assert!(mine <= self.buffers[&consumer.id]);
        }
        assert_eq!(self.group.unsettled(Origin::Source), self.unsettled.len());
        let first = self.unsettled.first().copied().unwrap_or(self.pushed);
        let behind = first - self.saved.map_or(0, |number| number + 1);
        let waits = self.saving.is_some() || self.now < self.save_again;
        assert!(waits || behind < u64::from(MAX_CHECKPOINT), "{behind} behind");
        if self.strategy.pins() {
            self.check_order();
        }
    }

    /// Of a stream nobody has a message while an earlier one has never been sent.
    fn check_order(&self) {
        for number in self.in_flight.keys() {
            let stream = self.streams[number];
            let never = self
                .group
                .numbers_never_sent()
                .find(|earlier| *earlier < *number && self.streams[earlier] == stream);
            assert_eq!(never, None, "{number} was sent before it");
        }
    }
}

fn nth<'a>(
    mut keys: impl Iterator<Item = &'a ConsumerId> + Clone,
    which: usize,
) -> Option<ConsumerId> {
    let count = keys.clone().count();
    if count == 0 { None } else { keys.nth(which % count).copied() }
}

fn nth_pair(map: &BTreeMap<u64, ConsumerId>, which: usize) -> Option<(u64, ConsumerId)> {
    if map.is_empty() { None } else { map.iter().nth(which % map.len()).map(|(n, c)| (*n, *c)) }
}

fn strategies() -> impl proptest::strategy::Strategy<Value = Strategy> {
    prop_oneof![
        Just(Strategy::RoundRobin),
        Just(Strategy::DispatchToSingle),
        Just(Strategy::Pinned)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_message_is_lost_settled_twice_or_out_of_its_place(
        strategy in strategies(),
        ops in proptest::collection::vec(op(), 1..120),
    ) {
        let mut seen = Seen::new(strategy);
        for op in ops {
            seen.apply(op);
        }
        // Whoever is left settles all of it.
        seen.apply(Op::Join(3));
        for _ in 0..10_000 {
            if seen.unsettled.is_empty() {
                break;
            }
            seen.apply(Op::Written(true));
            seen.apply(Op::Ack(0));
            seen.apply(Op::Tick(1));
        }
        prop_assert!(seen.unsettled.is_empty(), "never settled: {:?}", seen.unsettled);
    }
}
