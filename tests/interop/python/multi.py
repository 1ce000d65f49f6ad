"""Appends to several streams at once, and checks of others."""

from __future__ import annotations

import json
from uuid import uuid4

import cases
from cases import OLD, Skipped, StreamState, case, client_package, equal, error, event, events, ids
from cases import raises, stream

ANY, NO_STREAM, EXISTS = StreamState.ANY, StreamState.NO_STREAM, StreamState.EXISTS


def needs_multi():
    """The classes of this part; older clients have none."""
    if OLD or not hasattr(client_package, "NewRecord"):
        raise Skipped(f"{cases.PACKAGE} appends to one stream at a time")
    return client_package.NewEvents, client_package.NewRecord, client_package.StreamStateCheck


def record(name: str, kind: str = "Happened", **others):
    return client_package.NewRecord(stream_name=name, type=kind, data=b'{"a":1}', **others)


def new_events(name: str, version, appended):
    return client_package.NewEvents(name, appended, current_version=version)


@case
def a_session_appends_to_many_streams_or_none(client):
    needs_multi()
    first, second, third = stream(), stream(), stream()
    sent = [events(3), events(2), [event("Opened", metadata=b'{"who":"ada"}')]]
    asked = [
        new_events(first, NO_STREAM, sent[0]),
        new_events(second, ANY, sent[1]),
        new_events(third, NO_STREAM, sent[2]),
    ]
    position = client.multi_append_to_stream(asked)
    for name, wanted in zip((first, second, third), sent, strict=True):
        equal(ids(client.get_stream(name)), ids(wanted))
    found = client.get_stream(third)[0]
    equal((found.type, found.content_type), ("Opened", "application/json"))
    equal(json.loads(found.metadata)["who"], "ada")
    equal(json.loads(found.metadata)["$schema.name"], "Opened")
    equal(json.loads(found.metadata)["$schema.format"], "Json")
    equal(found.commit_position, position)
    equal(client.multi_append_to_stream(asked), position, "a repetition's position")
    equal(client.get_current_version(first), 2)

    refused = raises(
        "WrongCurrentVersion",
        client.multi_append_to_stream,
        [new_events(second, 1, [event()]), new_events(first, 7, [event()])],
    )
    equal((refused.stream_name, refused.actual_version, refused.expected_version), (first, 2, 7))
    # The client has its own words for a revision, in some places.
    assert "conflict on stream" in str(refused) and "7" in str(refused), refused
    equal(client.get_current_version(second), 1, "what was refused left nothing")


@case
def a_session_tells_what_is_wrong_with_it(client):
    needs_multi()
    name, gone = stream(), stream()
    client.append_to_stream(gone, current_version=NO_STREAM, events=event())
    client.tombstone_stream(gone, current_version=ANY)
    tombstoned = raises(
        "StreamTombstoned", client.multi_append_to_stream, [new_events(gone, ANY, [event()])]
    )
    equal(tombstoned.stream_name, gone)
    twice = [new_events(name, ANY, [event()]), new_events(name, ANY, [event()])]
    equal(raises("MultiAppendToSameStream", client.multi_append_to_stream, twice).stream_name, name)
    large = event(data=b"x" * (16 * 1024 * 1024), content_type="application/octet-stream")
    refused = raises(
        "RecordMaxSizeExceeded", client.multi_append_to_stream, [new_events(name, ANY, [large])]
    )
    equal((refused.stream_name, refused.event_id, refused.max_size), (name, large.id, 1 << 24))
    many = [
        new_events(
            stream(), ANY, [event(data=b"x" * (15 << 20), content_type="application/octet-stream")]
        )
        for _ in range(5)
    ]
    equal(
        raises("TransactionMaxSizeExceeded", client.multi_append_to_stream, many).max_size, 1 << 26
    )
    raises("NotFound", client.get_stream, name)
    raises("KurrentDBClient", client.multi_append_to_stream, [new_events(name, ANY, [])])


@case
def records_interleave_and_keep_their_order(client):
    needs_multi()
    left, right = stream(), stream()
    sent = [record(name) for name in (left, right, left, right, right)]
    result = client.append_records(sent)
    revisions = {each.stream_name: each.stream_position for each in result.stream_positions}
    equal(revisions, {left: 1, right: 2})
    last = client.get_stream(right)[-1]
    equal(last.commit_position, result.commit_position)
    wanted = {each.id for each in sent}
    log = [e.id for e in client.read_all(filter_exclude=[]) if e.id in wanted]
    equal(log, [each.id for each in sent])
    again = client.append_records(sent)
    equal(again, result, "a repetition's result")
    equal(client.append_records(record(left)).stream_positions[0].stream_position, 2)


@case
def checks_cover_streams_that_are_not_written(client):
    _, _, check = needs_multi()
    written, seen, never, soft, gone = (stream() for _ in range(5))
    for name in (written, seen, soft, gone):
        client.append_to_stream(name, current_version=NO_STREAM, events=events(2))
    client.delete_stream(soft, current_version=ANY)
    client.tombstone_stream(gone, current_version=ANY)
    holding = [check(seen, 1), check(never, NO_STREAM), check(soft, NO_STREAM), check(soft, 1)]
    for each in holding:
        client.append_records(record(written), checks=each)
    client.append_records(record(written), checks=[check(written, EXISTS), check(gone, NO_STREAM)])

    def fails(checks, wanted):
        refused = raises("ConsistencyChecksFailed", client.append_records, record(written), checks)
        found = [
            (each.check_index, each.stream_state_failure.stream_name,
             each.stream_state_failure.actual_state)
            for each in refused.failures
        ]
        equal(found, wanted, "what fails")

    version = client.get_current_version(written)
    fails([check(seen, 0)], [(0, seen, 1)])
    fails([check(seen, 5)], [(0, seen, 1)])
    fails(
        [check(never, EXISTS), check(seen, 1), check(soft, EXISTS), check(gone, EXISTS)],
        [(0, never, -1), (2, soft, -5), (3, gone, -6)],
    )
    equal(client.get_current_version(written), version, "what was refused left nothing")
    tombstoned = raises("StreamTombstoned", client.append_records, record(gone))
    equal(tombstoned.stream_name, gone)
    raises("KurrentDBClient", client.append_records, record(written), [check(seen, ANY)])
    raises("KurrentDBClient", client.append_records, record(written, kind="no good name"))


@case
def the_ledger_s_streams_are_not_written_with_others(client):
    needs_multi()
    name = stream()
    refused = raises(
        error("KurrentDBClient"),
        client.append_records,
        [record(name), record(f"ledger.account-{uuid4()}")],
    )
    assert "Access Denied" in str(refused), refused
    raises("NotFound", client.get_stream, name)
