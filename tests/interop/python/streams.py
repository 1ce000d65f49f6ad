"""Appending, reading, deleting and describing streams with the Python client."""

from __future__ import annotations

import json
import threading
import time
from datetime import datetime, timedelta, timezone
from uuid import uuid4

from cases import (
    NewEvent,
    OLD,
    StreamState,
    case,
    connect,
    equal,
    error,
    event,
    events,
    ids,
    raises,
    stream,
)

NO_STREAM, ANY, EXISTS = StreamState.NO_STREAM, StreamState.ANY, StreamState.EXISTS
# Bytes of one event that the server takes, and of one message that it takes.
EVENT_SIZE_MAX = 16 * 1024 * 1024
MIB = 1024 * 1024


@case
def an_event_comes_back_as_it_was_sent(client):
    name = stream("account")
    sent = NewEvent(
        type="Opened", data=b'{"owner":"Ada"}', metadata=b'{"$correlationId":"c1"}', id=uuid4()
    )
    binary = NewEvent(type="Blob", data=bytes(range(256)), content_type="application/octet-stream")
    before = datetime.now(timezone.utc) - timedelta(seconds=2)
    position = client.append_to_stream(name, current_version=NO_STREAM, events=[sent, binary])
    first, second = client.get_stream(name)
    for found, wanted, revision in [(first, sent, 0), (second, binary, 1)]:
        equal(found.id, wanted.id)
        equal(found.type, wanted.type)
        equal(found.data, wanted.data)
        equal(found.metadata, wanted.metadata)
        equal(found.content_type, wanted.content_type)
        equal(found.stream_name, name)
        equal(found.stream_position, revision)
        assert before < found.recorded_at < before + timedelta(seconds=30), found.recorded_at
    equal(second.commit_position, position, "the position that the append answered")
    assert first.commit_position < second.commit_position


@case
def right_expected_versions_are_appended_at(client):
    for append in (one, many):
        name = stream()
        append(client, name, NO_STREAM)
        append(client, name, 0)
        append(client, name, ANY)
        append(client, name, EXISTS)
        equal(client.get_current_version(name), 3)


@case
def wrong_expected_versions_are_refused_with_the_right_one(client):
    for append in (one, many):
        name = stream()
        for wanted in (0, 5, EXISTS):
            wrong = raises("WrongCurrentVersion", append, client, name, wanted)
            equal(getattr(wrong, "actual_version", NO_STREAM), NO_STREAM)
        append(client, name, NO_STREAM)
        append(client, name, 0)
        for wanted in (NO_STREAM, 0, 2, 100):
            wrong = raises("WrongCurrentVersion", append, client, name, wanted)
            equal(getattr(wrong, "actual_version", 1), 1)
            equal(getattr(wrong, "expected_version", wanted), wanted)
        equal(client.get_current_version(name), 1)


def one(client, name, version):
    return client.append_to_stream(name, current_version=version, events=event())


def many(client, name, version):
    return client.append_to_stream(name, current_version=version, events=[event()])


@case
def a_retry_answers_what_the_first_try_did(client):
    for batched in (False, True):
        def append(name, version, sent, client=client, batched=batched):
            sent = sent if batched or len(sent) > 1 else sent[0]
            return client.append_to_stream(name, current_version=version, events=sent)

        name = stream()
        sent = [events(1) for _ in range(3)]
        positions = [append(name, NO_STREAM, sent[0]), append(name, 0, sent[1])]
        positions.append(append(name, ANY, sent[2]))
        equal(append(name, NO_STREAM, sent[0]), positions[0], "the position of a retry")
        equal(append(name, 0, sent[1]), positions[1], "the position of a retry")
        equal(append(name, ANY, sent[2]), positions[2], "the position of a retry")
        equal(append(name, ANY, sent[0]), positions[0], "the position of a retry with any")
        equal(append(name, EXISTS, sent[1]), positions[1], "the position of a retry with exists")
        equal(len(client.get_stream(name)), 3, "the stream's length")
        # To another stream they are new.
        other = stream()
        append(other, NO_STREAM, sent[0])
        equal(ids(client.get_stream(other)), ids(sent[0]))


@case
def a_list_is_appended_whole_or_not_at_all(client):
    name = stream()
    sent = events(100)
    position = client.append_to_stream(name, current_version=NO_STREAM, events=sent)
    equal(ids(client.get_stream(name)), ids(sent))
    again = client.append_to_stream(name, current_version=NO_STREAM, events=sent)
    equal(again, position, "the position of a retry")
    # Some known, others not: neither a retry nor an append.
    mixed = [*sent[50:], *events(5)]
    raises("WrongCurrentVersion", client.append_to_stream, name, current_version=49, events=mixed)
    raises("WrongCurrentVersion", client.append_to_stream, name, current_version=ANY, events=mixed)
    raises("WrongCurrentVersion", many, client, name, 7)
    equal(len(client.get_stream(name)), 100)


@case
def an_append_of_nothing_writes_nothing(client):
    name = stream()
    client.append_to_stream(name, current_version=ANY, events=[])
    raises("NotFound", client.get_stream, name)
    raises("WrongCurrentVersion", client.append_to_stream, name, current_version=3, events=[])


@case
def a_stream_is_read_both_ways_from_anywhere(client):
    name = stream()
    sent = ids(batch := events(50))
    client.append_to_stream(name, current_version=NO_STREAM, events=batch)

    def read(**options):
        return ids(client.get_stream(name, **options))

    equal(read(), sent)
    equal(read(limit=10), sent[:10])
    equal(read(limit=0), [])
    equal(read(stream_position=20), sent[20:])
    equal(read(stream_position=20, limit=5), sent[20:25])
    equal(read(stream_position=49), sent[49:])
    equal(read(stream_position=50), [])
    equal(read(stream_position=5000), [])
    equal(read(backwards=True), sent[::-1])
    equal(read(backwards=True, limit=1), [sent[-1]])
    equal(read(backwards=True, stream_position=20, limit=3), [sent[20], sent[19], sent[18]])
    equal(read(backwards=True, stream_position=0), [sent[0]])
    equal(read(backwards=True, stream_position=5000, limit=2), [sent[49], sent[48]])


@case
def all_is_read_both_ways_from_anywhere(client):
    first = next(iter(client.read_all(filter_exclude=[], limit=1)))
    assert first.type.startswith("$"), f"the first record of $all is a {first.type}"
    name = stream()
    batch = events(10)
    client.append_to_stream(name, current_version=NO_STREAM, events=batch)
    recorded = client.get_stream(name)
    start, end = recorded[0].commit_position, recorded[-1].commit_position

    def read(**options):
        return ids(client.read_all(filter_exclude=[], **options))

    # What others commit meanwhile stands behind it.
    equal(read(commit_position=start)[:10], ids(batch), "forwards from a position, inclusive")
    equal(read(commit_position=start, limit=3), ids(batch)[:3])
    latest = [each for each in read(backwards=True, limit=1000) if each in ids(batch)]
    equal(latest, ids(batch)[::-1], "backwards from the end")
    below = read(backwards=True, commit_position=end, limit=9)
    equal(below, ids(batch)[-2::-1], "backwards from a position, exclusive")
    everything = [each for each in client.read_all(filter_exclude=[]) if each.commit_position <= end]
    positions = [each.commit_position for each in everything]
    equal(positions, sorted(set(positions)), "the positions, which rise strictly")
    reverse = [each.commit_position for each in client.read_all(filter_exclude=[], backwards=True)]
    equal([each for each in reverse if each <= end], positions[::-1])
    assert client.get_commit_position() >= end
    by_stream = {each.id: each.commit_position for each in recorded}
    by_all = {each.id: each.commit_position for each in everything if each.stream_name == name}
    equal(by_all, by_stream, "positions in $all, by those in the stream")
    for each in everything:
        equal(each.prepare_position if not OLD else each.commit_position, each.commit_position)


@case
def filters_choose_by_name_and_type(client):
    mark = uuid4().hex
    names = [f"left{mark}-1", f"left{mark}-2", f"right{mark}-1"]
    for name in names:
        sent = [event(f"Opened{mark}"), event(f"Closed{mark}"), event(f"$system{mark}")]
        client.append_to_stream(name, current_version=NO_STREAM, events=sent)
    start = client.get_stream(names[0])[0].commit_position

    def read(**options):
        found = client.read_all(commit_position=start, **options)
        return [(each.stream_name, each.type.removesuffix(mark)) for each in found]

    everything = [(name, kind) for name in names for kind in ("Opened", "Closed", "$system")]
    equal(read(filter_exclude=[]), everything)
    # The client's default: a negative look-ahead that leaves system events out.
    equal(read(), [each for each in everything if each[1] != "$system"])
    equal(read(filter_include=[f"Opened{mark}"]), [(name, "Opened") for name in names])
    equal(read(filter_include=["Opened.*", "Closed.*"]), read())
    equal(read(filter_exclude=["Opened.*", r"\$.*"]), [(name, "Closed") for name in names])
    by_name = {"filter_by_stream_name": True}
    equal(read(filter_include=[f"right{mark}.*"], **by_name), everything[6:])
    equal(read(filter_exclude=[f"left{mark}-1", f"right.*"], **by_name), everything[3:6])
    equal(read(filter_include=[names[1]], limit=2, **by_name), everything[3:5])
    backwards = client.read_all(
        filter_include=[f"left{mark}-.*"], backwards=True, limit=4, **by_name
    )
    wanted = [*everything[3:6][::-1], everything[2]]
    equal([(each.stream_name, each.type.removesuffix(mark)) for each in backwards], wanted)
    if OLD:
        return
    prefix = {"filter_by_prefix": True, "filter_include": [f"left{mark}", "no-such"]}
    equal(read(**by_name, **prefix), everything[:6])
    prefix = {"filter_by_prefix": True, "filter_include": ["Op", "$sys"]}
    equal(read(**prefix), [each for each in everything if each[1] != "Closed"])


@case
def a_position_that_is_not_of_this_log_is_refused(client):
    end = client.get_commit_position(filter_exclude=[])
    for impossible in (end + 1, end * 1000 + 256_000_000):
        found = client.read_all(commit_position=impossible)
        # The older client has no class for this.
        raises("Unknown" if OLD else "InvalidCommitPosition", list, found)
        found = client.read_all(commit_position=impossible, filter_exclude=[])
        raises("Unknown", list, found)
        refused = raises("Grpc", client.subscribe_to_all, commit_position=impossible)
        assert "INVALID_ARGUMENT" in str(refused), refused


@case
def links_are_resolved_when_asked(client):
    target, links = stream("target"), stream("links")
    sent = events(2)
    client.append_to_stream(target, current_version=NO_STREAM, events=sent)
    client.append_to_stream(
        links,
        current_version=NO_STREAM,
        events=[
            NewEvent(type="$>", data=f"1@{target}".encode()),
            NewEvent(type="$>", data=f"0@{stream('gone')}".encode()),
            event("Plain"),
        ],
    )
    bare = client.get_stream(links)
    equal([each.type for each in bare], ["$>", "$>", "Plain"])
    equal([each.link for each in bare], [None] * 3)
    resolved = client.get_stream(links, resolve_links=True)
    equal(resolved[0].id, sent[1].id)
    equal(resolved[0].stream_name, target)
    equal(resolved[0].stream_position, 1)
    equal(resolved[0].link.stream_name, links)
    equal(resolved[0].link.stream_position, 0)
    assert resolved[0].is_resolved_event
    equal(resolved[-1].type, "Plain")
    equal(resolved[-1].link, None)
    by_all = list(client.read_all(
        commit_position=bare[0].commit_position, filter_exclude=[], resolve_links=True, limit=1
    ))
    equal(by_all[0].id, sent[1].id)


@case
def what_is_not_there_is_not_found(client):
    name = stream()
    raises("NotFound", client.get_stream, name)
    raises("NotFound", client.get_stream, name, backwards=True, limit=1)
    raises("NotFound", lambda: list(client.read_stream(name)))
    equal(client.get_current_version(name), NO_STREAM)
    equal(client.get_stream_metadata(name), ({}, NO_STREAM))
    raises("NotFound", client.delete_stream, name, current_version=ANY)
    raises("NotFound", client.delete_stream, name, current_version=EXISTS)
    raises("NotFound", client.delete_stream, name, current_version=3)
    raises("NotFound", client.tombstone_stream, name, current_version=EXISTS)


@case
def a_deleted_stream_is_gone_and_can_go_on(client):
    name = stream()
    client.append_to_stream(name, current_version=NO_STREAM, events=events(3))
    wrong = raises("WrongCurrentVersion", client.delete_stream, name, current_version=7)
    equal(getattr(wrong, "actual_version", 2), 2)
    raises("WrongCurrentVersion", client.delete_stream, name, current_version=NO_STREAM)
    client.delete_stream(name, current_version=2)
    raises("NotFound", client.get_stream, name)
    client.delete_stream(name, current_version=2)
    equal(client.get_stream_metadata(name)[0]["$tb"], 2**63 - 1)
    raises("StreamIsDeleted", many, client, name, EXISTS)
    is_deleted(raises("FailedPrecondition", one, client, name, EXISTS))
    client.append_to_stream(name, current_version=NO_STREAM, events=(again := event()))
    found = client.get_stream(name)
    equal([(each.id, each.stream_position) for each in found], [(again.id, 3)])
    equal(client.get_stream_metadata(name)[0]["$tb"], 3)
    client.append_to_stream(name, current_version=3, events=event())
    client.delete_stream(name, current_version=EXISTS)
    client.append_to_stream(name, current_version=ANY, events=event())
    equal([each.stream_position for each in client.get_stream(name)], [5])
    client.delete_stream(name, current_version=ANY)
    client.append_to_stream(name, current_version=5, events=event())
    equal(client.get_current_version(name), 6)


def is_deleted(refused):
    """The client has no class of its own for this when one event is appended by itself."""
    assert str(refused).endswith("is deleted."), refused


@case
def a_tombstone_is_for_ever(client):
    name, never = stream(), stream()
    client.append_to_stream(name, current_version=NO_STREAM, events=events(2))
    raises("WrongCurrentVersion", client.tombstone_stream, name, current_version=0)
    client.tombstone_stream(name, current_version=1)
    client.tombstone_stream(never, current_version=ANY)
    for gone in (name, never):
        raises("StreamIsDeleted", client.get_stream, gone)
        raises("StreamIsDeleted", client.get_current_version, gone)
        raises("StreamIsDeleted", client.tombstone_stream, gone, current_version=ANY)
        raises("StreamIsDeleted", client.delete_stream, gone, current_version=ANY)
        for version in (ANY, NO_STREAM, EXISTS, 1):
            raises("StreamIsDeleted", many, client, gone, version)
            is_deleted(raises("FailedPrecondition", one, client, gone, version))
        raises("StreamIsDeleted", client.get_stream_metadata, gone)
        # Metadata is still written, though nobody can read it and it opens nothing.
        client.set_stream_metadata(gone, metadata={"no": "more"}, current_version=ANY)
        raises("StreamIsDeleted", client.get_stream_metadata, gone)
        raises("StreamIsDeleted", client.get_stream, gone)
        raises("StreamIsDeleted", many, client, gone, ANY)


@case
def metadata_hides_what_it_says(client):
    name = stream()
    client.append_to_stream(name, current_version=NO_STREAM, events=events(10))

    def revisions():
        return [each.stream_position for each in client.get_stream(name)]

    client.set_stream_metadata(name, metadata={"$maxCount": 3}, current_version=NO_STREAM)
    equal(revisions(), [7, 8, 9])
    equal(client.get_stream_metadata(name), ({"$maxCount": 3}, 0))
    wrong = {"metadata": {}, "current_version": NO_STREAM}
    raises("WrongCurrentVersion", client.set_stream_metadata, name, **wrong)
    client.set_stream_metadata(name, metadata={"$tb": 4, "mine": [1, "ä"]}, current_version=0)
    equal(revisions(), [4, 5, 6, 7, 8, 9])
    equal(client.get_stream_metadata(name), ({"$tb": 4, "mine": [1, "ä"]}, 1))
    equal([e.stream_position for e in client.get_stream(name, stream_position=2, limit=2)], [4, 5])
    backwards = client.get_stream(name, backwards=True, stream_position=5)
    equal([each.stream_position for each in backwards], [5, 4])
    client.set_stream_metadata(name, metadata={"$tb": 100})
    equal(revisions(), [])
    client.set_stream_metadata(name, metadata={"$maxAge": 3600})
    equal(revisions(), list(range(10)))
    client.set_stream_metadata(name, metadata={"$maxAge": 1})
    until = time.monotonic() + 10
    while revisions() and time.monotonic() < until:
        time.sleep(0.05)
    equal(revisions(), [], "what is older than $maxAge")
    last = json.loads(client.get_stream(f"$${name}", backwards=True, limit=1)[0].data)
    equal(last, {"$maxAge": 1})


@case
def a_large_event_is_kept_and_one_over_the_limit_refused(client):
    name = stream()
    binary = {"type": "Large", "content_type": "application/octet-stream"}
    large = NewEvent(data=bytes(range(256)) * 4096, **binary)
    equal(len(large.data), MIB)
    client.append_to_stream(name, current_version=NO_STREAM, events=large)
    several = [NewEvent(data=bytes([n]) * MIB, **binary) for n in range(10)]
    client.append_to_stream(name, current_version=0, events=several)
    found = client.get_stream(name)
    equal([len(each.data) for each in found], [MIB] * 11)
    assert found[0].data == large.data
    assert all(each.data == several[n].data for n, each in enumerate(found[1:]))
    # The client sends each of these in one message.
    for too_large in (
        NewEvent(data=b" " * EVENT_SIZE_MAX, **binary),
        [NewEvent(data=b" " * (MIB - 8), **binary)] * 17,
    ):
        append = {"current_version": ANY, "events": too_large}
        refused = raises("Grpc", client.append_to_stream, name, **append)
        assert "RESOURCE_EXHAUSTED" in str(refused), refused
    equal(client.get_current_version(name), 10)


@case
def bad_requests_are_refused(client):
    for name in ("", "x" * 1025, "$all"):
        refused = raises("Grpc", one, client, name, ANY)
        assert "INVALID_ARGUMENT" in str(refused), refused
        raises("BadRequest", many, client, name, ANY)
    no_type = NewEvent(type="", data=b"{}")
    raises("Grpc", client.append_to_stream, stream(), current_version=ANY, events=no_type)
    # The connection goes on.
    one(client, stream(), NO_STREAM)


@case
def names_of_other_alphabets_work(client):
    name = f"счёт/ä ü-{uuid4()}"
    one(client, name, NO_STREAM)
    equal(client.get_stream(name)[0].stream_name, name)
    wrong = raises("WrongCurrentVersion", client.delete_stream, name, current_version=8)
    assert OLD or name in str(wrong), wrong
    client.tombstone_stream(name, current_version=ANY)
    raises("StreamIsDeleted", client.get_stream, name)


@case
def a_race_for_one_version_has_one_winner(client):
    name = stream()
    won, lost = [], []
    wrong = error("WrongCurrentVersion")

    def race(version):
        try:
            won.append(one(client, name, version))
        except wrong:
            lost.append(version)

    for version in (NO_STREAM, 0, 1):
        racers = [threading.Thread(target=race, args=(version,)) for _ in range(8)]
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join()
    equal((len(won), len(lost)), (3, 21))
    equal([each.commit_position for each in client.get_stream(name)], sorted(won))


@case
def gossip_leads_to_this_node(client):
    equal([member.state for member in client.read_gossip()], ["NODE_STATE_LEADER"])
    with connect(scheme="esdb+discover") as found:
        one(found, stream(), NO_STREAM)
        member = found.read_gossip()[0]
        equal(f"{member.address}:{member.port}", client.connection_target)
    local = client.connection_target.replace("127.0.0.1", "localhost")
    with connect(scheme="esdb+discover", address=local) as found:
        one(found, stream(), NO_STREAM)
        equal(found.read_gossip()[0].address, "localhost")
    raises("FollowerNotFound", connect, "&nodePreference=follower", scheme="esdb+discover")
    with connect("&nodePreference=random", scheme="esdb+discover") as found:
        one(found, stream(), NO_STREAM)


@case
def every_call_may_ask_for_the_leader_or_not(_client):
    for preference in ("leader", "follower"):
        with connect(f"&nodePreference={preference}") as client:
            name = stream()
            client.append_to_stream(name, current_version=NO_STREAM, events=events(3))
            equal(len(client.get_stream(name)), 3)


@case
def credentials_are_accepted_and_ignored(client):
    with connect(address=f"admin:changeit@{client.connection_target}") as other:
        one(other, stream(), NO_STREAM)


@case
def a_deadline_is_kept(client):
    name = stream()
    one(client, name, NO_STREAM)
    began = time.monotonic()
    subscription = client.subscribe_to_stream(name, timeout=1)
    raises("GrpcDeadlineExceeded", list, subscription)
    assert 0.5 < time.monotonic() - began < 10
