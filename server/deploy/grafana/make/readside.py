"""Projections, persistent subscriptions, connectors."""

from panels import BLUE, FLAT, GREEN, GREY, RED, lines, mapped, of, rate, states, steps

YES_NO = mapped({0: ("no", GREEN), 1: ("yes", RED)})
UP_DOWN = mapped({0: ("down", RED), 1: ("up", GREEN)})

ROWS = {
    "Projections": [
        states(
            "What they do",
            "`live` is right; `stopped` waits for a person.",
            (f"{of('daybook_projection_state')} == 1", "{{projection}}: {{state}}"),
            mapped({1: ("is", BLUE)}),
        ),
        lines(
            "Behind, in time",
            "Age of the last event taken in; 0 if all of the log was.",
            [(of("daybook_projection_lag_seconds"), "{{projection}}")],
            "s",
            thresholds=steps(GREEN, (60, RED)),
        ),
        lines(
            "Behind, in events",
            "Positions of the log that the projection has not come by.",
            [(of("daybook_projection_lag_events"), "{{projection}}")],
        ),
        lines(
            "Taken in",
            "Events a second.",
            [(rate("daybook_projection_events_total", "projection"), "{{projection}}")],
            "ops",
        ),
        lines(
            "Left out",
            "Events that could not be taken in: each is missing in a view.",
            [(of("daybook_projection_parked_total"), "{{projection}}")],
            thresholds=steps(GREEN, (1, RED)),
        ),
        states(
            "Built anew",
            "Whether a new version is being built beside what serves.",
            (of("daybook_projection_building"), "{{projection}}"),
            mapped({0: ("no", GREY), 1: ("yes", BLUE)}),
        ),
    ],
    "Projections of users": [
        states(
            "Running",
            "Programs in JavaScript. Not running: stopped by somebody, or failed.",
            (of("daybook_script_running"), "{{projection}}"),
            mapped({0: ("no", GREY), 1: ("runs", GREEN)}),
        ),
        lines(
            "In need of somebody",
            "1 if the program failed, or waits for the store to take what it writes.",
            [
                (of("daybook_script_faulted"), "{{projection}}, failed"),
                (of("daybook_script_waiting"), "{{projection}}, waits"),
            ],
            thresholds=steps(GREEN, (1, RED)),
        ),
        lines(
            "Events",
            "Not looked at yet; handled and written since the projection was started.",
            [
                (of("daybook_script_lag_events"), "{{projection}}, to come"),
                (of("daybook_script_handled_events"), "{{projection}}, handled"),
                (of("daybook_script_written_events"), "{{projection}}, written"),
            ],
        ),
    ],
    "Persistent subscriptions": [
        lines(
            "Oldest message",
            "For how long the oldest message that is not settled has waited. The first 100 groups"
            " by name have lines of their own, the others are one.",
            [(of("daybook_persistent_oldest_unacknowledged_seconds"), "{{stream}} / {{group}}")],
            "s",
            thresholds=steps(GREEN, (300, RED)),
        ),
        lines(
            "Behind",
            "Events of the source that the group is not done with.",
            [(of("daybook_persistent_lag_events"), "{{stream}} / {{group}}")],
        ),
        lines(
            "Consumers",
            "Connected now. None: nobody takes the messages.",
            [(of("daybook_persistent_connections"), "{{stream}} / {{group}}")],
        ),
        lines(
            "Settled",
            "Messages a second that consumers were done with, and those that were sent once more.",
            [
                (
                    rate("daybook_persistent_processed_total", "stream, group"),
                    "{{stream}} / {{group}}",
                ),
                (
                    rate("daybook_persistent_retried_total", "stream, group"),
                    "{{stream}} / {{group}}, again",
                ),
            ],
            "ops",
        ),
        lines(
            "In flight",
            "Messages that consumers have.",
            [(of("daybook_persistent_in_flight"), "{{stream}} / {{group}}")],
        ),
        lines(
            "Parked",
            "Messages that nobody could deal with; `daybook subscriptions replay` sends them"
            " again.",
            [(of("daybook_persistent_parked"), "{{stream}} / {{group}}")],
            thresholds=steps(GREEN, (1, RED)),
        ),
        lines(
            "Parked, why",
            "By a consumer's wish, or because a message was sent as often as it may.",
            [
                (
                    rate("daybook_persistent_parked_by_client_total", "stream, group"),
                    "{{stream}} / {{group}}, asked for",
                ),
                (
                    rate("daybook_persistent_parked_by_retries_total", "stream, group"),
                    "{{stream}} / {{group}}, tried too often",
                ),
            ],
            "ops",
            size=FLAT,
        ),
        states(
            "In trouble",
            "Groups that cannot read, write or park, or could not be loaded.",
            (of("daybook_persistent_troubled"), "{{stream}} / {{group}}"),
            YES_NO,
            size=FLAT,
        ),
    ],
    "Connectors": [
        states(
            "Up",
            "Down: paused, stopped, or tries again.",
            (of("daybook_connector_up"), "{{connector}}"),
            UP_DOWN,
        ),
        lines(
            "Behind, in time",
            "Age of the last event that the connector is done with.",
            [(of("daybook_connector_lag_seconds"), "{{connector}}")],
            "s",
            thresholds=steps(GREEN, (300, RED)),
        ),
        lines(
            "Behind, in events",
            "Positions of the log that the connector is not done with.",
            [(of("daybook_connector_lag_events"), "{{connector}}")],
        ),
        lines(
            "Delivered",
            "Messages that the receiver confirmed, and those that were sent again.",
            [
                (rate("daybook_connector_delivered_total", "connector"), "{{connector}}"),
                (rate("daybook_connector_retries_total", "connector"), "{{connector}}, again"),
            ],
            "ops",
            size=FLAT,
        ),
        lines(
            "Parked",
            "Messages that the receiver refused for good.",
            [(of("daybook_connector_parked"), "{{connector}}")],
            thresholds=steps(GREEN, (1, RED)),
            size=FLAT,
        ),
    ],
    "Subscriptions": [
        lines(
            "Open",
            "Catch-up subscriptions, those of projections and connectors among them.",
            [(of("daybook_subscriptions"), "{{instance}}")],
            size=FLAT,
        ),
        lines(
            "Calls without an end",
            "Subscriptions and streams of batches that clients hold: a leak grows.",
            [(of("daybook_endless_calls"), "{{instance}}")],
            size=FLAT,
        ),
    ],
}
