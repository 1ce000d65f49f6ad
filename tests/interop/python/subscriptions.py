"""Catch-up subscriptions with the Python client."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from uuid import uuid4

from cases import (
    ADDRESS,
    CaughtUp,
    Checkpoint,
    OLD,
    StreamState,
    case,
    connect,
    equal,
    event,
    events,
    ids,
    raises,
    stream,
    take,
    take_until,
)

NO_STREAM, ANY = StreamState.NO_STREAM, StreamState.ANY


@case
def a_stream_is_followed_from_its_start_a_revision_and_its_end(client):
    name = stream()
    sent = events(5)
    client.append_to_stream(name, current_version=NO_STREAM, events=sent)
    with client.subscribe_to_stream(name) as start, client.subscribe_to_stream(
        name, stream_position=2
    ) as middle, client.subscribe_to_stream(name, from_end=True) as end:
        equal(ids(take(start, 5)), ids(sent))
        equal(ids(take(middle, 2)), ids(sent)[3:])
        later = events(3)
        client.append_to_stream(name, current_version=4, events=later)
        for subscription in (start, middle, end):
            equal(ids(take(subscription, 3)), ids(later))


@case
def a_stream_that_is_not_there_yet_can_be_followed(client):
    name = stream()
    with client.subscribe_to_stream(name, include_caught_up=True) as subscription:
        assert isinstance(take(subscription, 1)[0], CaughtUp)
        client.append_to_stream(name, current_version=NO_STREAM, events=(sent := event()))
        found = take(subscription, 1)[0]
        equal((found.id, found.stream_position), (sent.id, 0))


@case
def history_comes_first_then_caught_up_then_what_is_new(client):
    name = stream()
    sent = events(40)
    client.append_to_stream(name, current_version=NO_STREAM, events=sent)
    with client.subscribe_to_stream(name, include_caught_up=True) as subscription:
        found = take(subscription, 41)
        equal(ids(found[:40]), ids(sent))
        assert isinstance(found[40], CaughtUp), found[40]
        if not OLD:
            equal(found[40].stream_position, 39)
            assert found[40].recorded_at is not None
        client.append_to_stream(name, current_version=39, events=(later := event()))
        equal(take(subscription, 1)[0].id, later.id)
    start = client.get_commit_position(filter_exclude=[])
    with client.subscribe_to_all(
        commit_position=start, filter_exclude=[], include_caught_up=True
    ) as subscription:
        caught_up = take(subscription, 1)[0]
        assert isinstance(caught_up, CaughtUp), caught_up
        if not OLD:
            equal(caught_up.commit_position, start)
        client.append_to_stream(name, current_version=40, events=(later := event()))
        equal(take(subscription, 1)[0].id, later.id)


@case
def all_is_followed_from_its_start_a_position_and_its_end(client):
    name = stream()
    sent = events(4)
    client.append_to_stream(name, current_version=NO_STREAM, events=sent)
    recorded = client.get_stream(name)
    with client.subscribe_to_all(filter_exclude=[]) as start, client.subscribe_to_all(
        filter_exclude=[], commit_position=recorded[1].commit_position
    ) as middle, client.subscribe_to_all(filter_exclude=[], from_end=True) as end:
        everything = take_until(start, lambda each: each.id == sent[-1].id)
        assert everything[0].type.startswith("$"), everything[0]
        equal(ids(everything), ids(client.read_all(filter_exclude=[])))
        equal(ids(take(middle, 2)), ids(sent)[2:])
        client.append_to_stream(name, current_version=3, events=(later := event()))
        for subscription in (start, middle, end):
            found = take(subscription, 1)[0]
            equal(found.id, later.id)
            equal(found.commit_position, client.get_stream(name)[-1].commit_position)


@case
def filters_choose_and_checkpoints_tell_how_far(client):
    mark = uuid4().hex
    start = client.get_commit_position(filter_exclude=[])
    wanted = []
    for n in range(30):
        kind = f"Wanted{mark}" if n % 10 == 9 else f"Other{mark}"
        sent = event(kind)
        if kind.startswith("Wanted"):
            wanted.append(sent.id)
        client.append_to_stream(stream(), current_version=NO_STREAM, events=sent)
    positions = [
        each.commit_position
        for each in client.read_all(commit_position=start, filter_exclude=[])
    ][1:]
    equal(len(positions), 30)
    with client.subscribe_to_all(
        commit_position=start,
        filter_include=[f"Wanted{mark}"],
        include_checkpoints=True,
        include_caught_up=True,
        window_size=2,
        checkpoint_interval_multiplier=2,
    ) as subscription:
        found = take_until(subscription, lambda each: isinstance(each, CaughtUp))
        check_order(found[:-1])
        got = [each.id for each in found[:-1] if not isinstance(each, Checkpoint)]
        equal(got, wanted)
        checkpoints = [each.commit_position for each in found if isinstance(each, Checkpoint)]
        # One each time four events were considered, and one at the end.
        equal(checkpoints, [*positions[3::4], positions[-1]])
        # Live: events that are left out move the checkpoint, too.
        for _ in range(4):
            client.append_to_stream(stream(), current_version=NO_STREAM, events=event("Other"))
        checkpoint = take(subscription, 1)[0]
        assert isinstance(checkpoint, Checkpoint), checkpoint
        assert checkpoint.commit_position > checkpoints[-1]
        end = client.get_commit_position(filter_exclude=[])
        assert checkpoint.commit_position <= end
    # From a checkpoint nothing comes that was considered before it.
    with client.subscribe_to_all(
        commit_position=checkpoints[4], filter_include=[f"Wanted{mark}"]
    ) as subscription:
        equal(ids(take(subscription, 1)), wanted[2:])


def check_order(found):
    """A checkpoint is not below what came before it; what comes later is above it."""
    last, checkpoint = -1, -1
    for each in found:
        if isinstance(each, Checkpoint):
            assert each.commit_position > checkpoint and each.commit_position >= last
            checkpoint = each.commit_position
        else:
            assert each.commit_position > max(last, checkpoint)
            last = each.commit_position


@case
def a_large_interval_gives_no_checkpoint_beyond_the_end(client):
    client.append_to_stream(stream(), current_version=NO_STREAM, events=events(3))
    with client.subscribe_to_all(
        include_checkpoints=True,
        window_size=10000,
        checkpoint_interval_multiplier=500,
        timeout=3,
    ) as subscription:
        found = []
        try:
            for each in subscription:
                found.append(each)
        except Exception as ended:
            assert "Deadline" in type(ended).__name__, ended
    end = client.get_commit_position(filter_exclude=[])
    assert all(each.commit_position <= end for each in found)
    equal(len([each for each in found if isinstance(each, Checkpoint)]), 1)


@case
def a_filter_that_leaves_everything_out_still_gives_checkpoints(client):
    client.append_to_stream(stream(), current_version=NO_STREAM, events=events(3))
    with client.subscribe_to_all(
        filter_exclude=".*",
        include_checkpoints=True,
        window_size=1,
        checkpoint_interval_multiplier=1,
    ) as subscription:
        found = take(subscription, 3)
        assert all(isinstance(each, Checkpoint) for each in found)
        check_order(found)


@case
def writers_at_work_are_followed_without_gap_or_repeat(client):
    mark = uuid4().hex
    writers, each_writes = 4, 50
    names = [f"work{mark}-{n}" for n in range(writers)]
    subscription = client.subscribe_to_all(
        from_end=True, filter_include=[f"work{mark}-.*"], filter_by_stream_name=True
    )
    everything = client.subscribe_to_all(from_end=True, filter_exclude=[])
    one = client.subscribe_to_stream(names[0])

    def write(name):
        with connect() as own:
            for n in range(each_writes):
                version = NO_STREAM if n == 0 else n - 1
                own.append_to_stream(name, current_version=version, events=event())

    threads = [threading.Thread(target=write, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    total = writers * each_writes
    with subscription, everything, one:
        found = take(subscription, total)
        also = take(everything, total)
        equal([each.stream_position for each in take(one, each_writes)], list(range(each_writes)))
    for thread in threads:
        thread.join()
    equal(ids(found), ids(also))
    positions = [each.commit_position for each in found]
    equal(positions, sorted(set(positions)), "positions, which rise")
    for name in names:
        revisions = [each.stream_position for each in found if each.stream_name == name]
        equal(revisions, list(range(each_writes)), f"revisions of {name}")


@case
def links_are_resolved_in_a_subscription(client):
    target, links = stream("target"), stream("links")
    client.append_to_stream(target, current_version=NO_STREAM, events=(sent := event()))
    with client.subscribe_to_stream(links, resolve_links=True) as subscription:
        link = event("$>", f"0@{target}".encode())
        client.append_to_stream(links, current_version=NO_STREAM, events=link)
        found = take(subscription, 1)[0]
        equal((found.id, found.link.id), (sent.id, link.id))


@case
def a_deleted_stream_goes_on_and_a_tombstone_ends_the_subscription(client):
    name = stream()
    client.append_to_stream(name, current_version=NO_STREAM, events=events(2))
    with client.subscribe_to_stream(name) as subscription:
        take(subscription, 2)
        client.delete_stream(name, current_version=1)
        client.append_to_stream(name, current_version=NO_STREAM, events=(again := event()))
        found = take(subscription, 1)[0]
        equal((found.id, found.stream_position), (again.id, 2))
        client.tombstone_stream(name, current_version=ANY)
        raises("StreamIsDeleted", list, subscription)
    # The error comes with the first answer or the first event, as the client asks.
    raises("StreamIsDeleted", lambda: list(client.subscribe_to_stream(name)))


@case
def pings_are_welcome(_client):
    # A server that takes them for an attack closes the connection.
    with connect("&keepAliveInterval=100&keepAliveTimeout=2000") as client:
        name = stream()
        with client.subscribe_to_stream(name) as subscription:
            time.sleep(2)
            client.append_to_stream(name, current_version=NO_STREAM, events=(sent := event()))
            equal(ids(take(subscription, 1)), [sent.id])


@case
def a_stopped_subscription_frees_the_server(client):
    before = open_subscriptions()
    many = [client.subscribe_to_all(from_end=True) for _ in range(20)]
    equal(open_subscriptions(), before + 20)
    for subscription in many:
        subscription.stop()
        equal(list(subscription), [])
    wait_for(lambda: open_subscriptions() == before)
    # A client that goes without a word.
    with connect() as other:
        other.subscribe_to_all(from_end=True)
        other.subscribe_to_stream(stream())
    wait_for(lambda: open_subscriptions() == before)


def open_subscriptions() -> int:
    with urllib.request.urlopen(f"http://{ADDRESS}/stats", timeout=5) as answer:
        return json.load(answer)["subscriptions"]


def wait_for(holds):
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.02)
