//! What a group does, as its users see it.

use std::time::Duration;

use uuid::Uuid;

use super::*;

fn at(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn message(number: u64, stream: &str) -> Message<u64> {
    let id = Uuid::from_u128(u128::from(number) + 1);
    Message { id, number, bucket: Bucket::of(stream), size: 1, payload: number }
}

fn group(settings: Settings) -> Group<u64> {
    Group::new(settings, None, 0, at(0))
}

/// A group with so many messages of streams of their own, and consumers with these buffers.
fn filled(settings: Settings, messages: u64, buffers: &[usize]) -> Group<u64> {
    let mut group = group(settings);
    for (id, buffer) in buffers.iter().enumerate() {
        group.join(ConsumerId(id as u64), *buffer);
    }
    for number in 0..messages {
        group.push(Origin::Source, message(number, &format!("s-{number}")), at(0));
    }
    group
}

fn sent(group: &mut Group<u64>, now: u64) -> Vec<(u64, u64, u32)> {
    let sends = group.actions(at(now)).filter_map(|action| match action {
        Action::Send { to, payload, retries, .. } => Some((to.0, payload, retries)),
        _ => None,
    });
    sends.collect()
}

fn ack(group: &mut Group<u64>, consumer: u64, number: u64) -> bool {
    let id = Uuid::from_u128(u128::from(number) + 1);
    group.ack(ConsumerId(consumer), id, at(0)).is_some()
}

fn nack(group: &mut Group<u64>, consumer: u64, number: u64, what: NackAction) -> bool {
    group.nack(ConsumerId(consumer), Uuid::from_u128(u128::from(number) + 1), what)
}

fn checkpoints(group: &mut Group<u64>, now: u64) -> Vec<u64> {
    let found = group.actions(at(now)).filter_map(|action| match action {
        Action::Checkpoint { number, origin: Origin::Source } => Some(number),
        _ => None,
    });
    found.collect()
}

#[test]
fn in_turn_from_the_first_consumer_and_never_beyond_a_buffer() {
    let mut group = filled(Settings::default(), 7, &[2, 1, 3]);
    let found = sent(&mut group, 0);
    assert_eq!(
        found,
        [(0, 0, 0), (1, 1, 0), (2, 2, 0), (0, 3, 0), (2, 4, 0), (2, 5, 0)],
        "the second is passed over when it is full"
    );
    assert_eq!(sent(&mut group, 0), []);
    assert!(ack(&mut group, 1, 1));
    assert_eq!(sent(&mut group, 0), [(1, 6, 0)]);
}

#[test]
fn a_single_consumer_is_filled_before_the_next() {
    let settings = Settings { strategy: Strategy::DispatchToSingle, ..Settings::default() };
    let mut group = filled(settings, 4, &[2, 5]);
    assert_eq!(sent(&mut group, 0), [(0, 0, 0), (0, 1, 0), (1, 2, 0), (1, 3, 0)]);
}

#[test]
fn a_message_is_sent_at_most_once_more_than_it_may_be_retried_then_parked() {
    let settings = Settings { max_retry_count: 3, ..Settings::default() };
    let mut group = filled(settings, 2, &[1]);
    for retries in 0..=3 {
        assert_eq!(sent(&mut group, 0), [(0, 0, retries)], "before the new one");
        assert!(nack(&mut group, 0, 0, NackAction::Retry));
    }
    let actions: Vec<_> = group.actions(at(0)).collect();
    let [Action::Park { ticket, payload: 0, reason, cause }, Action::Send { payload: 1, .. }] =
        &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!((reason.as_str(), *cause), ("Reached retry count of 3", ParkCause::MaxRetries));
    group.parked(*ticket, true, at(0));
    assert_eq!(group.counters().parked_by_retries, 1);
    assert_eq!(group.unsettled(Origin::Source), 1);
}

#[test]
fn what_cannot_be_parked_stays_unsettled_and_is_tried_again() {
    let settings = Settings { min_checkpoint_count: 1, ..Settings::default() };
    let mut group = filled(settings, 1, &[1]);
    sent(&mut group, 0);
    nack(&mut group, 0, 0, NackAction::Park("why".to_owned()));
    for round in 0..3 {
        let now = at(round * 1000);
        group.tick(now);
        let actions: Vec<_> = group.actions(now).collect();
        let [Action::Park { ticket, reason, .. }] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(reason, "Client explicitly NAK'ed message.\nwhy");
        group.parked(*ticket, false, now);
        assert_eq!(group.parking(), 1);
        assert_eq!(group.wake_at(), Some(now + settings::TRY_AGAIN));
    }
    assert_eq!(checkpoints(&mut group, 9_000), [] as [u64; 0]);
}

#[test]
fn a_time_out_is_a_retry_and_a_late_answer_still_counts() {
    let settings = Settings { message_timeout: Some(at(100)), ..Settings::default() };
    let mut group = filled(settings, 1, &[1]);
    assert_eq!(sent(&mut group, 0), [(0, 0, 0)]);
    assert_eq!(group.wake_at(), Some(at(100)));
    group.tick(at(99));
    assert_eq!(sent(&mut group, 99), []);
    group.tick(at(100));
    assert!(!nack(&mut group, 0, 0, NackAction::Retry), "it is not the consumer's any more");
    assert_eq!(sent(&mut group, 100), [(0, 0, 1)]);
    group.tick(at(200));
    assert!(ack(&mut group, 0, 0), "late");
    assert_eq!(group.unsettled(Origin::Source), 0);
    assert_eq!(sent(&mut group, 300), []);
}

#[test]
fn a_consumer_that_goes_gives_back_what_it_has_and_nothing_is_counted() {
    let mut group = filled(Settings::default(), 3, &[3]);
    assert_eq!(sent(&mut group, 0).len(), 3);
    ack(&mut group, 0, 1);
    group.leave(ConsumerId(0));
    assert_eq!((group.in_flight(), group.waiting_again()), (0, 2));
    group.join(ConsumerId(1), 10);
    assert_eq!(sent(&mut group, 0), [(1, 0, 0), (1, 2, 0)]);
}

#[test]
fn skip_is_done_and_a_repeated_or_unknown_answer_is_nothing() {
    let mut group = filled(Settings::default(), 2, &[2]);
    sent(&mut group, 0);
    assert!(nack(&mut group, 0, 0, NackAction::Skip));
    assert!(!ack(&mut group, 0, 0));
    assert!(!ack(&mut group, 0, 77));
    assert!(!nack(&mut group, 5, 1, NackAction::Skip), "not its own");
    assert_eq!(group.counters().settled, 1);
}

#[test]
fn a_checkpoint_waits_for_its_age_and_count_or_for_the_most() {
    let settings = Settings {
        min_checkpoint_count: 3,
        max_checkpoint_count: 5,
        checkpoint_after: Some(at(1000)),
        ..Settings::default()
    };
    let mut group = filled(settings, 20, &[20]);
    sent(&mut group, 0);
    let settle = |group: &mut Group<u64>, numbers: std::ops::Range<u64>| {
        numbers.for_each(|number| assert!(ack(group, 0, number)));
    };
    settle(&mut group, 0..2);
    assert_eq!(checkpoints(&mut group, 2000), [] as [u64; 0], "too few");
    settle(&mut group, 2..3);
    assert_eq!(group.wake_at(), Some(at(1000)));
    assert_eq!(checkpoints(&mut group, 999), [] as [u64; 0], "too young");
    assert_eq!(checkpoints(&mut group, 1000), [2]);
    settle(&mut group, 3..9);
    assert_eq!(checkpoints(&mut group, 1001), [] as [u64; 0], "one at a time");
    group.checkpointed(Origin::Source, true, at(1001));
    assert_eq!(checkpoints(&mut group, 1001), [8], "the most at once");
    group.checkpointed(Origin::Source, true, at(1001));
    settle(&mut group, 10..20);
    assert_eq!(checkpoints(&mut group, 9000), [] as [u64; 0], "9 is not settled");
    settle(&mut group, 9..10);
    assert_eq!(checkpoints(&mut group, 9000), [19]);
}

#[test]
fn a_checkpoint_that_could_not_be_written_is_tried_again_after_a_while() {
    let settings =
        Settings { min_checkpoint_count: 1, max_checkpoint_count: 1, ..Settings::default() };
    let mut group = filled(settings, 1, &[1]);
    sent(&mut group, 0);
    ack(&mut group, 0, 0);
    assert_eq!(checkpoints(&mut group, 0), [0]);
    group.checkpointed(Origin::Source, false, at(5));
    assert_eq!(checkpoints(&mut group, 1004), [] as [u64; 0]);
    assert_eq!(group.wake_at(), Some(at(5) + settings::TRY_AGAIN));
    assert_eq!(checkpoints(&mut group, 1005), [0]);
}

#[test]
fn a_flush_says_all_that_is_settled() {
    let mut group = filled(Settings::default(), 3, &[3]);
    sent(&mut group, 0);
    ack(&mut group, 0, 0);
    group.flush();
    assert_eq!(checkpoints(&mut group, 0), [0]);
}

#[test]
fn a_second_message_of_one_id_waits_for_the_first() {
    let mut group = filled(Settings::default(), 1, &[9]);
    let second = Message { number: 1, payload: 1, ..message(0, "other") };
    group.push(Origin::Source, second, at(0));
    group.push(Origin::Source, message(2, "s"), at(0));
    assert_eq!(sent(&mut group, 0), [(0, 0, 0), (0, 2, 0)]);
    assert!(ack(&mut group, 0, 0));
    assert_eq!(sent(&mut group, 0), [(0, 1, 0)]);
}

#[test]
fn what_cannot_be_sent_waits_uncounted_until_its_consumer_takes_again() {
    let mut group = filled(Settings::default(), 2, &[2]);
    let first = group.actions(at(0)).next();
    let Some(Action::Send { to, ticket, .. }) = first else { panic!("{first:?}") };
    group.bounce(to, ticket);
    assert_eq!(sent(&mut group, 0), []);
    group.resume(to);
    assert_eq!(sent(&mut group, 0), [(0, 0, 0)]);
}

#[test]
fn replayed_messages_have_a_place_of_their_own() {
    let mut group = filled(Settings::default(), 2, &[1]);
    let parked = Message { payload: 100, ..message(50, "s") };
    group.push(Origin::Parked, Message { number: 7, ..parked }, at(0));
    assert_eq!(sent(&mut group, 0), [(0, 100, 0)], "before new ones");
    assert!(ack(&mut group, 0, 50));
    let actions: Vec<_> = group.actions(at(0)).collect();
    assert!(
        matches!(
            actions[..],
            [Action::Checkpoint { origin: Origin::Parked, number: 7 }, Action::Send { .. }]
        ),
        "{actions:?}"
    );
}

#[test]
fn a_pinned_stream_moves_only_when_nothing_of_it_is_in_flight() {
    let settings = Settings { strategy: Strategy::Pinned, ..Settings::default() };
    let mut group = group(settings);
    group.join(ConsumerId(0), 100);
    let streams: Vec<String> = (0..20).map(|n| format!("account-{n}")).collect();
    let mut number = 0;
    let mut push_all = |group: &mut Group<u64>| {
        for stream in &streams {
            group.push(Origin::Source, message(number, stream), at(0));
            number += 1;
        }
    };
    push_all(&mut group);
    assert_eq!(sent(&mut group, 0).len(), 20);
    group.join(ConsumerId(1), 100);
    push_all(&mut group);
    let second = sent(&mut group, 0);
    assert!(second.iter().all(|(to, ..)| *to == 0), "what it holds stays with the first");
    assert!((1..20).contains(&second.len()));
    for first in 0..20 {
        ack(&mut group, 0, first);
    }
    let moved = sent(&mut group, 0);
    assert_eq!(second.len() + moved.len(), 20);
    assert!(moved.iter().all(|(to, ..)| *to == 1));
    group.leave(ConsumerId(1));
    let again: Vec<u64> = sent(&mut group, 0).into_iter().map(|(_, number, _)| number).collect();
    assert_eq!(again, moved.iter().map(|(_, number, _)| *number).collect::<Vec<_>>());
}

#[test]
fn room_is_what_may_wait() {
    let mut group = filled(Settings::default(), 3, &[]);
    assert_eq!((group.room(5), group.room(2)), (2, 0));
    let large = settings::BUFFERED_SIZE_MAX;
    group.push(Origin::Source, Message { size: large, ..message(9, "s") }, at(0));
    assert_eq!(group.room(500), 0);
}

#[test]
fn the_age_is_that_of_the_oldest_unsettled_message() {
    let mut group = filled(Settings::default(), 1, &[1]);
    group.push(Origin::Source, message(1, "s"), at(700));
    assert_eq!(group.oldest(), Some(at(0)));
    sent(&mut group, 0);
    ack(&mut group, 0, 0);
    assert_eq!(group.oldest(), Some(at(700)));
}

#[test]
fn what_waits_for_a_slow_consumer_is_not_looked_at_for_each_answer_of_a_fast_one() {
    const WAITING: u64 = 10_000;
    let settings = Settings { strategy: Strategy::Pinned, ..Settings::default() };
    let mut group = filled(settings, WAITING, &[1, 1]);
    let first = sent(&mut group, 0);
    assert_eq!(first.iter().map(|(to, ..)| *to).collect::<Vec<_>>(), [0, 1]);
    // The first one never answers.
    let mut answers = 0;
    let mut flying: Vec<u64> = vec![first[1].1];
    while let Some(number) = flying.pop() {
        assert!(ack(&mut group, 1, number));
        answers += 1;
        flying.extend(sent(&mut group, 0).into_iter().map(|(_, number, _)| number));
    }
    assert!(answers > WAITING / 4, "it had {answers}");
    assert!(group.looks() <= 2 * answers + 2, "{} looks for {answers} answers", group.looks());
}

#[test]
fn what_is_given_back_comes_again_as_if_it_were_new() {
    let mut group = filled(Settings::default(), 6, &[2]);
    assert_eq!(sent(&mut group, 0), [(0, 0, 0), (0, 1, 0)]);
    assert!(nack(&mut group, 0, 1, NackAction::Retry));
    group.leave(ConsumerId(0));
    assert_eq!(group.give_back(6), None, "no more than may stay");
    assert_eq!(group.give_back(4), Some(4));
    assert_eq!((group.size(), group.considered(Origin::Source)), (4, Some(3)));
    group.push(Origin::Source, message(4, "s-4"), at(0));
    group.join(ConsumerId(1), 9);
    let found = sent(&mut group, 0);
    assert_eq!(found, [(1, 0, 0), (1, 1, 1), (1, 2, 0), (1, 3, 0), (1, 4, 0)]);
    assert!(ack(&mut group, 1, 4));
    group.leave(ConsumerId(1));
    assert_eq!(group.give_back(0), None, "4 is settled: what follows 3 must not come again");
    group.push(Origin::Source, message(5, "s-5"), at(0));
    assert_eq!(group.give_back(0), Some(5));
}

#[test]
fn what_failed_is_not_given_back() {
    let mut group = filled(Settings::default(), 2, &[2]);
    sent(&mut group, 0);
    assert!(nack(&mut group, 0, 0, NackAction::Retry));
    group.leave(ConsumerId(0));
    assert_eq!(group.give_back(0), Some(1));
    assert_eq!(group.size(), 1, "its retries count");
}
