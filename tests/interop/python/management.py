"""Projections: those that every server of this protocol has, and those that users write."""

from __future__ import annotations

import time

import cases
from cases import OLD, Skipped, case, equal, raises, stream

BUILT_IN = [
    "$by_category", "$by_correlation_id", "$by_event_type", "$stream_by_category", "$streams",
]


def needs_projections():
    """The calls of this part have other names and arguments in older clients."""
    if OLD:
        raise Skipped(f"{cases.PACKAGE} has other calls for projections")


@case
def the_system_s_projections_are_listed(client):
    needs_projections()
    found = client.list_all_projection_statistics()
    equal(sorted(each.name for each in found), BUILT_IN)
    continuous = client.list_continuous_projection_statistics()
    equal(sorted(each.name for each in continuous), BUILT_IN)
    for each in found:
        equal((each.mode, each.progress, each.effective_name), ("Continuous", 100.0, each.name))
        assert each.position.startswith("C:"), each


@case
def a_system_s_projection_is_stopped_and_started(client):
    needs_projections()
    name = "$by_correlation_id"

    def status():
        return client.get_projection_statistics(name).status

    equal(status(), "Running")
    client.disable_projection(name)
    equal(status(), "Stopped")
    client.abort_projection(name)
    equal(status(), "Aborted/Stopped")
    client.enable_projection(name)
    equal(status(), "Running")
    client.reset_projection(name)
    equal(status(), "Running")
    equal(client.get_projection_state(name).value, {})
    client.restart_projections_subsystem()


@case
def a_projection_that_is_not_there_is_not_found(client):
    needs_projections()
    name = stream()
    for call in (
        client.get_projection_statistics,
        client.disable_projection,
        client.abort_projection,
        client.enable_projection,
        client.reset_projection,
        client.delete_projection,
        client.get_projection_state,
    ):
        raises("NotFound", call, name)
    raises("NotFound", client.update_projection, name, query="fromAll().when({})")


@case
def what_a_projection_cannot_be_asked_is_refused(client):
    needs_projections()
    raises("FailedPrecondition", client.delete_projection, "$by_category")
    raises("AlreadyExists", client.create_projection, name="$by_category", query="fromAll()")
    raises(
        "ExceptionThrownByHandler",
        client.create_projection,
        name=stream(),
        query="fromAll()",
        emit_enabled=False,
        track_emitted_streams=True,
    )


def eventually(wanted, read):
    """Waits until `read` answers `wanted`."""
    until = time.monotonic() + 30
    while (found := read()) != wanted:
        assert time.monotonic() < until, f"it is {found!r}, not {wanted!r}"


@case
def a_projection_that_a_user_wrote_counts_and_writes(client):
    needs_projections()
    name, source, copies = stream("count"), stream("source"), stream("copies")
    query = f"""
        fromStream('{source}')
          .when({{
            $init: function () {{ return {{ count: 0 }} }},
            Happened: function (s, e) {{ s.count += 1; linkTo('{copies}', e); }},
          }})
          .outputState()
    """
    client.create_projection(
        name=name, query=query, emit_enabled=True, track_emitted_streams=True
    )
    client.append_to_stream(
        source, current_version=cases.StreamState.NO_STREAM, events=cases.events(3)
    )

    def count():
        return client.get_projection_state(name).value.get("count")

    eventually(3, count)
    eventually(3, lambda: len(read(client, copies)))
    equal([each.data for each in read(client, copies, resolve_links=True)],
          [each.data for each in read(client, source)])
    results = read(client, f"$projections-{name}-result")
    equal([(each.type, each.data) for each in results][-1], ("Result", b'{"count":3}'))
    found = client.get_projection_statistics(name)
    equal((found.name, found.mode, found.status), (name, "Continuous", "Running"))
    assert name in [each.name for each in client.list_all_projection_statistics()]

    client.disable_projection(name)
    equal(client.get_projection_statistics(name).status, "Stopped")
    client.append_to_stream(
        source, current_version=cases.StreamState.ANY, events=cases.events(2)
    )
    equal(count(), 3)
    client.update_projection(name, query=query.replace("+= 1", "+= 10"), emit_enabled=True)
    client.enable_projection(name)
    eventually(23, count)
    client.reset_projection(name)
    eventually(50, count)
    raises("FailedPrecondition", client.delete_projection, name)
    client.abort_projection(name)
    client.delete_projection(
        name,
        delete_emitted_streams=True,
        delete_state_stream=True,
        delete_checkpoint_stream=True,
    )
    raises("NotFound", client.get_projection_statistics, name)
    raises("NotFound", read, client, copies)


@case
def a_projection_that_fails_says_why(client):
    needs_projections()
    name, source = stream("fails"), stream("source")
    query = f"fromStream('{source}').when({{ Happened() {{ throw new Error('not today') }} }})"
    client.create_projection(name=name, query=query)
    client.append_to_stream(
        source, current_version=cases.StreamState.NO_STREAM, events=cases.event()
    )
    eventually("Faulted", lambda: client.get_projection_statistics(name).status)
    reason = client.get_projection_statistics(name).state_reason
    assert "not today" in reason and f"0@{source}" in reason, reason
    client.disable_projection(name)
    client.delete_projection(name)


def read(client, name, resolve_links=False):
    return list(client.get_stream(name, resolve_links=resolve_links))


@case
def the_server_s_own_streams_are_not_written(client):
    for name in ("$users", "$user-ada", "$projections-$by_category"):
        # The older client has no class of its own for this.
        refused = raises(
            "Grpc" if OLD else "AccessDenied",
            client.append_to_stream,
            name,
            current_version=cases.StreamState.ANY,
            events=cases.event(),
        )
        assert name in str(refused), refused
