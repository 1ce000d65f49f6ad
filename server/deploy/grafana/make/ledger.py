"""Transfers, accounts, the books, and the services they wait for."""

from panels import (
    AT,
    BLUE,
    GREEN,
    RED,
    YELLOW,
    ago,
    heat,
    lines,
    mapped,
    number,
    of,
    quantile,
    quantiles,
    rate,
    share,
    states,
    steps,
)

CALLED = "Those that it calls: the risk service, and what connectors relay to"
STATE_COLOURS = mapped(
    {
        0: ("closed", GREEN),
        1: ("open", RED),
        2: ("half-open", YELLOW),
        3: ("forced open", RED),
        4: ("forced closed", BLUE),
    }
)

ROWS = {
    "How it is": [
        number(
            "Under way",
            "Transfers that are not over; near the rate times the latency.",
            (f"sum({of('daybook_transfers_unfinished')})", ""),
            thresholds=steps(BLUE),
            size=(5, 4),
        ),
        number(
            "Oldest under way",
            "More than 15 minutes is stuck.",
            (f"max({of('daybook_transfer_oldest_unfinished_seconds')})", ""),
            "s",
            thresholds=steps(GREEN, (300, YELLOW), (900, RED)),
            size=(5, 4),
        ),
        number(
            "Failed",
            "Transfers that wait for a person.",
            (f"sum({of('daybook_transfers_failed')})", ""),
            thresholds=steps(GREEN, (1, RED)),
            color_mode="background",
            size=(5, 4),
        ),
        number(
            "Books",
            "Whether the last trial balance was zero and what the accounts have.",
            (f"max({of('daybook_trial_balance_off')})", ""),
            mappings=mapped({0: ("balance", GREEN), 1: ("off", RED)}),
            graph="none",
            color_mode="background",
            size=(5, 4),
        ),
        number(
            "Books compared",
            "How long ago with every account; once a night is right.",
            (ago("daybook_trial_balance_verified_timestamp_seconds"), ""),
            "s",
            no_value="never",
            thresholds=steps(GREEN, (26 * 3600, YELLOW)),
            graph="none",
        ),
    ],
    "Transfers": [
        lines(
            "Transfers",
            "Begun, and ended by state. A jump of `compensated` is a rule, a client or a risk"
            " service that changed.",
            [
                (rate("daybook_transfers_started_total"), "{{instance}}, begun"),
                (rate("daybook_transfers_ended_total", "state"), "{{state}}"),
            ],
            "ops",
        ),
        lines(
            "From request to end",
            "Time that a transfer waits for the risk service included. The objective is 1 s.",
            quantiles("daybook_transfer_duration_seconds", 0.5, 0.9, 0.99)
            + [
                (
                    of("instance:daybook_transfer_duration_seconds:p99_5m"),
                    "{{instance}}, p99 of 5 m",
                )
            ],
            "s",
            thresholds=steps(GREEN, (1, RED)),
        ),
        heat(
            "How often how long",
            "From request to end.",
            "sum by (le)"
            f" (increase(daybook_transfer_duration_seconds_bucket{{{AT}}}[$__rate_interval]))",
        ),
        lines(
            "Steps, mean",
            "One attempt at each step: taken (action), or taken back (compensation).",
            [
                (
                    share(
                        rate("daybook_transfer_step_seconds_sum", "step, direction"),
                        rate("daybook_transfer_step_seconds_count", "step, direction"),
                    ),
                    "{{step}}, {{direction}}",
                )
            ],
            "s",
        ),
        lines(
            "Attempts at steps",
            "As many of each as there are transfers, if nothing is repeated.",
            [
                (
                    rate("daybook_transfer_step_seconds_count", "step, direction"),
                    "{{step}}, {{direction}}",
                )
            ],
            "ops",
        ),
        lines(
            "Repeated",
            "Attempts that failed and were made once more: the risk service or the store fails.",
            [(rate("daybook_transfer_retries_total"), "{{instance}}")],
            "ops",
        ),
    ],
    "Accounts": [
        lines(
            "Commands",
            "On accounts, those of transfers included, and the appends that they were done in.",
            [
                (rate("daybook_account_commands_total"), "{{instance}}, commands"),
                (rate("daybook_account_batches_total"), "{{instance}}, appends"),
            ],
            "ops",
        ),
        lines(
            "Repetitions and races",
            "Commands known by their id, and batches decided anew because another wrote the"
            " account: that stays at 0 with one server.",
            [
                (rate("daybook_account_repeats_total"), "{{instance}}, repeated"),
                (rate("daybook_account_conflicts_total"), "{{instance}}, races lost"),
            ],
            "ops",
        ),
        lines(
            "States of accounts",
            "Where they were found. `log` near `memory`: more accounts are in use than are kept.",
            [(rate("daybook_account_states_total", "found"), "{{found}}")],
            "ops",
            stacked=True,
        ),
    ],
    CALLED: [
        states(
            "Circuit breakers",
            "Open: calls are not even tried.",
            (of("daybook_breaker_state"), "{{endpoint}}"),
            STATE_COLOURS,
        ),
        lines(
            "Calls",
            "By how they ended, and those that were not tried: breaker open, bulkhead full, rate"
            " limited.",
            [
                (
                    rate("daybook_guarded_calls_total", "endpoint, outcome"),
                    "{{endpoint}}, {{outcome}}",
                ),
                (
                    rate("daybook_guarded_calls_rejected_total", "endpoint, reason"),
                    "{{endpoint}}, not tried: {{reason}}",
                ),
            ],
            "ops",
        ),
        lines(
            "Time of calls, p99",
            "Of those that were tried, however they ended.",
            [(quantile(0.99, "daybook_guarded_call_duration_seconds", "endpoint"), "{{endpoint}}")],
            "s",
        ),
    ],
}
