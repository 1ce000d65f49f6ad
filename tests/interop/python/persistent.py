"""Persistent subscriptions with the Python client: every call, and what its own tests rely on."""

from __future__ import annotations

import json
import threading
import time
from uuid import uuid4

from cases import OLD, StreamState, case, connect, equal, event, events, ids, raises, stream

NO_STREAM, ANY = StreamState.NO_STREAM, StreamState.ANY
# Seconds after which a state that was waited for is a failure.
PATIENCE = 30


def group() -> str:
    return f"group-{uuid4()}"


def links(on: bool) -> dict:
    return {"resolve_links": on}


def until(what: str, reached):
    """What `reached` answers once it answers something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := reached():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited too long: {what}")


def take(subscription, count: int, ack: bool = True) -> list:
    """The next `count` messages."""
    found = []
    for each in subscription:
        found.append(each)
        if ack:
            subscription.ack(each)
        if len(found) == count:
            break
    return found


@case
def a_group_of_a_stream_delivers_its_history_and_what_comes(client):
    name, reader = stream(), group()
    sent = events(5)
    client.append_to_stream(name, current_version=NO_STREAM, events=sent)
    client.create_subscription_to_stream(reader, name)
    subscription = client.read_subscription_to_stream(reader, name)
    equal(subscription.subscription_id, f"{name}::{reader}")
    found = take(subscription, 5)
    equal(ids(found), ids(sent))
    equal([each.retry_count for each in found], [0] * 5)
    later = events(3)
    client.append_to_stream(name, current_version=4, events=later)
    equal(ids(take(subscription, 3)), ids(later))
    subscription.stop()


@case
def a_group_begins_where_it_was_told(client):
    name = stream()
    sent = events(4)
    client.append_to_stream(name, current_version=NO_STREAM, events=sent)
    middle, end = group(), group()
    client.create_subscription_to_stream(middle, name, stream_position=2)
    client.create_subscription_to_stream(end, name, from_end=True)
    later = events(2)
    client.append_to_stream(name, current_version=3, events=later)
    for reader, wanted in ((middle, sent[2:] + later), (end, later)):
        subscription = client.read_subscription_to_stream(reader, name)
        equal(ids(take(subscription, len(wanted))), ids(wanted))
        subscription.stop()


@case
def a_group_of_all_has_a_filter(client):
    kind = f"Kind{uuid4().hex}"
    position = client.get_commit_position()
    sent = [event(kind), event(kind)]
    for each in sent:
        client.append_to_stream(stream(), current_version=NO_STREAM, events=[event(), each])
    reader = group()
    client.create_subscription_to_all(
        reader, commit_position=position, filter_include=[kind], filter_exclude=[]
    )
    subscription = client.read_subscription_to_all(reader)
    equal(subscription.subscription_id, f"$all::{reader}")
    found = take(subscription, 2)
    equal(ids(found), ids(sent))
    assert all(each.commit_position is not None for each in found)
    later = event(kind)
    client.append_to_stream(stream(), current_version=NO_STREAM, events=later)
    equal(ids(take(subscription, 1)), [later.id])
    subscription.stop()


@case
def a_consumer_has_no_more_than_its_buffer(client):
    name, reader = stream(), group()
    sent = events(3)
    client.append_to_stream(name, current_version=NO_STREAM, events=sent)
    client.create_subscription_to_stream(reader, name)
    subscription = client.read_subscription_to_stream(reader, name, event_buffer_size=1)
    first = take(subscription, 1, ack=False)[0]
    info = client.get_subscription_info(reader, name)
    equal(info.total_in_flight_messages, 1)
    if not OLD:
        equal(info.connections[0].available_slots, 0)
    subscription.ack(first)
    equal(ids(take(subscription, 2)), ids(sent)[1:])
    subscription.stop()


@case
def what_times_out_comes_again_so_often_and_is_parked(client):
    name, reader = stream(), group()
    sent = events(2)
    client.append_to_stream(name, current_version=NO_STREAM, events=sent)
    client.create_subscription_to_stream(reader, name, message_timeout=0.1, max_retry_count=3)
    subscription = client.read_subscription_to_stream(reader, name, event_buffer_size=1)
    found = take(subscription, 4, ack=False)
    equal(ids(found), [sent[0].id] * 4)
    equal([each.retry_count for each in found], [0, 1, 2, 3])
    equal(ids(take(subscription, 1)), [sent[1].id])
    subscription.stop()
    parked = f"$persistentsubscription-{name}::{reader}-parked"
    link = until("it is parked", lambda: parked_of(client, parked))[0]
    equal((link.type, link.data), ("$>", f"0@{name}".encode()))
    metadata = json.loads(link.metadata)
    equal(metadata["reason"], "Reached retry count of 3")
    equal(metadata["subscriptionEventNumber"], 0)
    assert "added" in metadata
    equal(client.get_subscription_info(reader, name).parked_message_count, 1)


def parked_of(client, parked: str) -> list:
    try:
        return list(client.get_stream(parked))
    except Exception:  # it is not there yet
        return []


@case
def each_answer_has_its_effect(client):
    name, reader = stream(), group()
    sent = events(4)
    client.append_to_stream(name, current_version=NO_STREAM, events=sent)
    client.create_subscription_to_stream(reader, name, max_retry_count=10)
    subscription = client.read_subscription_to_stream(reader, name, event_buffer_size=1)
    (retry,) = take(subscription, 1, ack=False)
    subscription.nack(retry, "retry")
    (again,) = take(subscription, 1, ack=False)
    equal((again.id, again.retry_count), (retry.id, 1))
    subscription.nack(again, "unknown")
    (again,) = take(subscription, 1, ack=False)
    equal((again.id, again.retry_count), (retry.id, 2))
    subscription.nack(again, "skip")
    (stopped,) = take(subscription, 1, ack=False)
    equal(stopped.id, sent[1].id)
    subscription.nack(stopped, "stop")
    (park,) = take(subscription, 1, ack=False)
    equal(park.id, sent[2].id)
    subscription.nack(park, "park")
    equal(ids(take(subscription, 1)), [sent[3].id])
    info = until(
        "it is parked",
        lambda: (found := client.get_subscription_info(reader, name)).parked_message_count and found,
    )
    equal(info.parked_message_count, 1)
    client.replay_parked_events(reader, name)
    (replayed,) = take(subscription, 1, ack=False)
    equal(replayed.id, sent[2].id)
    subscription.ack(replayed)
    until(
        "nothing is parked",
        lambda: client.get_subscription_info(reader, name).parked_message_count == 0,
    )
    subscription.stop()


@case
def what_a_consumer_had_goes_to_the_next_uncounted(client):
    name, reader = stream(), group()
    sent = events(3)
    client.append_to_stream(name, current_version=NO_STREAM, events=sent)
    client.create_subscription_to_stream(reader, name)
    first = client.read_subscription_to_stream(reader, name)
    equal(ids(take(first, 3, ack=False)), ids(sent))
    first.stop()
    second = client.read_subscription_to_stream(reader, name)
    found = take(second, 3)
    equal(ids(found), ids(sent))
    equal([each.retry_count for each in found], [0, 0, 0])
    second.stop()


@case
def consumers_get_messages_strictly_in_turn(client):
    name, reader = stream(), group()
    client.create_subscription_to_stream(reader, name, consumer_strategy="RoundRobin")
    with connect() as another:
        first = client.read_subscription_to_stream(reader, name)
        second = another.read_subscription_to_stream(reader, name)
        sent = events(6)
        client.append_to_stream(name, current_version=NO_STREAM, events=sent)
        equal(ids(take(first, 3)), ids(sent)[0::2])
        equal(ids(take(second, 3)), ids(sent)[1::2])
        first.stop()
        second.stop()


@case
def a_group_has_so_many_consumers_and_no_more(client):
    name, reader = stream(), group()
    client.create_subscription_to_stream(reader, name, max_subscriber_count=1)
    subscription = client.read_subscription_to_stream(reader, name)
    raises("MaximumSubscriptionsReached", client.read_subscription_to_stream, reader, name)
    subscription.stop()


@case
def groups_are_found_listed_and_deleted(client):
    name, reader = stream(), group()
    raises("NotFound", client.get_subscription_info, reader, name)
    equal(client.list_subscriptions_to_stream(name), [])
    raises("NotFound", client.read_subscription_to_stream, reader, name)
    raises("NotFound", client.replay_parked_events, reader, name)
    raises("NotFound", client.delete_subscription, reader, name)
    client.create_subscription_to_stream(reader, name, consumer_strategy="Pinned")
    raises("AlreadyExists", client.create_subscription_to_stream, reader, name)
    info = client.get_subscription_info(reader, name)
    equal((info.event_source, info.group_name), (name, reader))
    equal((info.consumer_strategy, info.start_from), ("Pinned", "0"))
    equal(info.last_checkpointed_event_position, "")
    equal([each.group_name for each in client.list_subscriptions_to_stream(name)], [reader])
    assert reader in [each.group_name for each in client.list_subscriptions()]
    client.delete_subscription(reader, name)
    raises("NotFound", client.get_subscription_info, reader, name)


@case
def a_deleted_group_ends_its_consumers(client):
    name, reader = stream(), group()
    client.create_subscription_to_stream(reader, name)
    subscription = client.read_subscription_to_stream(reader, name)
    with connect() as another:
        timer = threading.Timer(0.2, another.delete_subscription, (reader, name))
        timer.start()
        raises("NotFound", next, subscription)
        timer.join()


@case
def bad_settings_are_refused(client):
    for wrong in ({"history_buffer_size": 20, "read_batch_size": 20}, {"live_buffer_size": -1}):
        raises(Exception, client.create_subscription_to_stream, group(), stream(), **wrong)


@case
def an_update_keeps_the_place_and_drops_consumers(client):
    name, reader = stream(), group()
    sent = events(4)
    client.append_to_stream(name, current_version=NO_STREAM, events=sent)
    client.create_subscription_to_stream(reader, name, min_checkpoint_count=1)
    subscription = client.read_subscription_to_stream(reader, name, event_buffer_size=2)
    take(subscription, 2)
    until(
        "they are acknowledged",
        lambda: client.get_subscription_info(reader, name).total_items == 2,
    )
    with connect() as another:
        another.update_subscription_to_stream(reader, name, max_retry_count=7)
    raises(Exception, take, subscription, 4)
    subscription.stop()
    info = client.get_subscription_info(reader, name)
    equal((info.max_retry_count, info.last_checkpointed_event_position), (7, "1"))
    second = client.read_subscription_to_stream(reader, name)
    equal(ids(take(second, 2)), ids(sent)[2:])
    second.stop()
    raises("NotFound", client.update_subscription_to_stream, group(), name)


@case
def a_group_of_a_category_has_its_links_followed(client):
    category, reader = f"cat{uuid4().hex}", group()
    sent = [event(), event()]
    for number, each in enumerate(sent):
        client.append_to_stream(f"{category}-{number}", current_version=NO_STREAM, events=each)
    client.create_subscription_to_stream(reader, f"$ce-{category}", resolve_links=True)
    subscription = client.read_subscription_to_stream(reader, f"$ce-{category}")
    found = take(subscription, 2, ack=False)
    equal(ids(found), ids(sent))
    equal([each.stream_name for each in found], [f"{category}-0", f"{category}-1"])
    for each in found:
        subscription.ack(each)
    until(
        "both are done",
        lambda: client.get_subscription_info(reader, f"$ce-{category}").total_items == 2,
    )
    subscription.stop()


@case
def ten_thousand_events_reach_three_consumers_of_which_one_goes(client):
    name, reader, count = stream(), group(), 10_000
    sent = events(count)
    for start in range(0, count, 2000):
        client.append_to_stream(name, current_version=ANY, events=sent[start : start + 2000])
    client.create_subscription_to_stream(reader, name, consumer_strategy="RoundRobin")
    seen, lock = set(), threading.Lock()
    done = threading.Event()

    def consume(limit: int | None):
        with connect() as own:
            subscription = own.read_subscription_to_stream(reader, name)
            taken = 0
            for each in subscription:
                subscription.ack(each)
                taken += 1
                with lock:
                    seen.add(each.id)
                    if len(seen) == count:
                        done.set()
                if done.is_set() or taken == limit:
                    break
            subscription.stop()

    workers = [threading.Thread(target=consume, args=(n,), daemon=True) for n in (None, None, 500)]
    for worker in workers:
        worker.start()
    assert done.wait(50), f"only {len(seen)} of {count}"


if not OLD:

    @case
    def statistics_are_measured(client):
        name, reader = stream(), group()
        client.append_to_stream(name, current_version=NO_STREAM, events=events(5))
        client.create_subscription_to_stream(reader, name, extra_statistics=True)
        subscription = client.read_subscription_to_stream(reader, name)
        take(subscription, 5)
        info = until(
            "they are acknowledged",
            lambda: (found := client.get_subscription_info(reader, name)).total_items == 5 and found,
        )
        (connection,) = info.connections
        keys = [each.key for each in connection.observed_measurements]
        equal(keys[:3], ["Mean", "Median", "Fastest"])
        equal((connection.username, connection.total_items), ("anonymous", 5))
        subscription.stop()
