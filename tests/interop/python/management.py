"""The projections that every server of this protocol has."""

from __future__ import annotations

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
