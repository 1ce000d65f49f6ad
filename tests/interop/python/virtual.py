"""Streams that the index serves, as KurrentDB's system projections would have written them."""

from __future__ import annotations

import json
from uuid import uuid4

from cases import (
    OLD,
    NewEvent,
    Skipped,
    StreamState,
    case,
    equal,
    error,
    event,
    events,
    exceptions,
    ids,
    raises,
    stream,
    take,
)

NO_STREAM, ANY = StreamState.NO_STREAM, StreamState.ANY


def category() -> str:
    return f"cat{uuid4().hex}"


@case
def a_category_lists_its_streams_in_the_order_of_the_log(client):
    name = category()
    first, second = f"{name}-1", f"{name}-2"
    sent = events(3)
    client.append_to_stream(first, current_version=NO_STREAM, events=sent[:1])
    client.append_to_stream(second, current_version=NO_STREAM, events=sent[1:2])
    client.append_to_stream(first, current_version=0, events=sent[2:])
    links = client.get_stream(f"$ce-{name}")
    equal([each.type for each in links], ["$>"] * 3)
    equal([each.data.decode() for each in links], [f"0@{first}", f"0@{second}", f"1@{first}"])
    equal([each.stream_position for each in links], [0, 1, 2])
    equal(json.loads(links[0].metadata)["$o"], first)
    resolved = client.get_stream(f"$ce-{name}", resolve_links=True)
    equal(ids(resolved), ids(sent))
    equal([each.link.stream_position for each in resolved], [0, 1, 2])
    equal([each.link.id for each in resolved], ids(links))
    equal([each.commit_position for each in resolved], [each.commit_position for each in links])
    last = client.get_stream(f"$ce-{name}", resolve_links=True, backwards=True, limit=1)
    equal(ids(last), ids(sent[2:]))
    raises("NotFound", client.get_stream, f"$ce-{category()}")


@case
def types_correlations_and_streams_are_listed_too(client):
    name, kind, correlation = category(), f"K{uuid4().hex}", str(uuid4())
    metadata = json.dumps({"$correlationId": correlation}).encode()
    sent = NewEvent(type=kind, data=b"{}", metadata=metadata)
    client.append_to_stream(f"{name}-1", current_version=NO_STREAM, events=sent)
    for virtual in (f"$et-{kind}", f"$bc-{correlation}"):
        equal(ids(client.get_stream(virtual, resolve_links=True)), [sent.id], virtual)
    streams = client.get_stream(f"$category-{name}")
    equal([(each.type, each.data.decode()) for each in streams], [("$@", f"{name}-1")])
    newest = client.get_stream("$streams", backwards=True, limit=1)[0]
    equal(newest.data.decode(), f"0@{name}-1")


@case
def what_a_deleted_stream_held_is_a_link_without_its_event(client):
    name = category()
    sent = events(2)
    client.append_to_stream(f"{name}-1", current_version=NO_STREAM, events=sent[0])
    client.append_to_stream(f"{name}-2", current_version=NO_STREAM, events=sent[1])
    client.delete_stream(f"{name}-1", current_version=0)
    found = client.get_stream(f"$ce-{name}", resolve_links=True)
    assert sent[0].id not in ids(found)
    assert sent[1].id in ids(found)
    equal(len(client.get_stream(f"$ce-{name}")), 3)


@case
def a_subscriber_of_a_category_gets_what_comes(client):
    name = category()
    sent = events(4)
    client.append_to_stream(f"{name}-1", current_version=NO_STREAM, events=sent[:2])
    with client.subscribe_to_stream(f"$ce-{name}", resolve_links=True) as all_of_it:
        equal(ids(take(all_of_it, 2)), ids(sent[:2]))
        with client.subscribe_to_stream(
            f"$ce-{name}", stream_position=0, resolve_links=True
        ) as later:
            client.append_to_stream(f"{name}-2", current_version=NO_STREAM, events=sent[2:])
            equal(ids(take(all_of_it, 2)), ids(sent[2:]))
            equal(ids(take(later, 3)), ids(sent[1:]))


@case
def nobody_writes_them(client):
    name = f"$ce-{category()}"
    # The older client tells no refusal from another.
    refused = exceptions.GrpcError if OLD else error("AccessDenied")
    raises(refused, client.append_to_stream, name, current_version=ANY, events=event())
    raises(error("AccessDenied"), client.append_to_stream, name, current_version=ANY, events=events(2))
    raises(refused, client.delete_stream, name, current_version=ANY)
    raises(refused, client.tombstone_stream, name, current_version=ANY)


@case
def links_can_be_truncated_by_metadata(client):
    name = category()
    sent = events(3)
    client.append_to_stream(f"{name}-1", current_version=NO_STREAM, events=sent)
    virtual = f"$ce-{name}"
    client.set_stream_metadata(virtual, metadata={"$tb": 2}, current_version=ANY)
    equal(ids(client.get_stream(virtual, resolve_links=True)), ids(sent[2:]))


@case
def a_secondary_index_is_read_and_followed(client):
    if not hasattr(client, "read_index"):
        raise Skipped("it has no calls for secondary indexes")
    name, kind = category(), f"K{uuid4().hex}"
    sent = events(3, kind)
    client.append_to_stream(f"{name}-1", current_version=NO_STREAM, events=sent)
    for index in (f"ce-{name}", f"$idx-et-{kind}"):
        found = list(client.read_index(index))
        equal(ids(found), ids(sent), index)
        equal([each.link for each in found], [None] * 3)
        rest = list(client.read_index(index, commit_position=found[1].commit_position))
        equal(ids(rest), ids(sent[1:]), index)
    with client.subscribe_to_index(f"ce-{name}") as subscription:
        equal(ids(take(subscription, 3)), ids(sent))
        more = event(kind)
        client.append_to_stream(f"{name}-2", current_version=NO_STREAM, events=more)
        equal(ids(take(subscription, 1)), [more.id])
    raises("NotFound", lambda: list(client.read_index(f"user-{uuid4()}")))
