"""Is it well, what does it do, does it keep its promises."""

from panels import (
    BLUE,
    GREEN,
    GREY,
    HALF,
    LATENCY,
    QUARTER,
    RED,
    YELLOW,
    lines,
    mapped,
    number,
    of,
    quantile,
    rate,
    steps,
)

HTTP_WRITES = 'method="POST", route=~"/v1/(streams|accounts).*"'
BUDGET_LEFT = (
    "1 - sum(avg_over_time("
    + of("instance:daybook_requests_failed:rate5m")
    + "[30d])) / sum(avg_over_time("
    + of("instance:daybook_requests:rate5m")
    + "[30d])) / 0.001"
)
FIRING = 'count(ALERTS{alertname=~"Daybook.+", alertstate="firing"}) or vector(0)'


def slowest(metric, by):
    """The ten of which one call in a hundred takes longest; those without calls left out."""
    return f"topk(10, {quantile(0.99, metric, by)} >= 0)"


RED_UNLESS_WRITABLE = {
    "matcher": {"id": "byRegexp", "options": "^(?!writable).*"},
    "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": RED}}],
}

ROWS = {
    "How it is": [
        number(
            "Ready",
            "Whether every chosen server answers /health/ready with 200.",
            (f"min({of('daybook_ready')})", ""),
            mappings=mapped({0: ("not ready", RED), 1: ("ready", GREEN)}),
            graph="none",
            color_mode="background",
        ),
        number(
            "Store",
            "Whether appends are taken, and if not, why.",
            (f"{of('daybook_store_state')} == 1", "{{state}}"),
            text="name",
            graph="none",
            overrides=[RED_UNLESS_WRITABLE],
        ),
        number(
            "Alerts",
            "Alerts that fire now. What to do about each stands in docs/operations.md.",
            (FIRING, ""),
            thresholds=steps(GREEN, (1, RED)),
            graph="none",
            color_mode="background",
        ),
        number(
            "Error budget left",
            "Of 0.1 % of the requests in 30 days, what has not failed yet.",
            (BUDGET_LEFT, ""),
            "percentunit",
            max=1,
            thresholds=steps(RED, (0, YELLOW), (0.5, GREEN)),
        ),
        number(
            "Up for",
            "Since the youngest of the chosen servers was started.",
            (f"min(time() - {of('daybook_start_time_seconds')})", ""),
            "s",
            graph="none",
            thresholds=steps(GREY),
        ),
        number(
            "Version",
            "What runs here.",
            (of("daybook_build_info"), "{{version}}"),
            text="name",
            graph="none",
            thresholds=steps(GREY),
        ),
        number(
            "Requests",
            "HTTP and gRPC, of the last five minutes.",
            (f"sum({of('instance:daybook_requests:rate5m')})", ""),
            "reqps",
            thresholds=steps(BLUE),
        ),
        number(
            "Failed",
            "Share of the requests that failed because of the server, of the last five minutes.",
            (f"max({of('instance:daybook_requests_failed:ratio_rate5m')})", ""),
            "percentunit",
            thresholds=steps(GREEN, (0.001, YELLOW), (0.01, RED)),
        ),
        number(
            "Writes, p99",
            "From a write's arrival to its answer, transfers left out. The objective is 100 ms.",
            (f"max({of('instance:daybook_write_duration_seconds:p99_5m')})", ""),
            "s",
            thresholds=LATENCY,
        ),
        number(
            "Events",
            "Events in the log.",
            (f"sum({of('daybook_committed_position')})", ""),
            thresholds=steps(BLUE),
        ),
        number(
            "Disk free",
            "On the volume of the data; the least of the chosen servers.",
            (f"min({of('daybook_disk_free_bytes')})", ""),
            "bytes",
            thresholds=steps(RED, (2 * 2**30, YELLOW), (20 * 2**30, GREEN)),
        ),
        number(
            "Connections",
            "Open now.",
            (f"sum({of('daybook_connections')})", ""),
            thresholds=steps(BLUE),
        ),
    ],
    "Requests": [
        lines(
            "Requests by outcome",
            "HTTP by status, gRPC by status. `abandoned` is a client that left before its answer.",
            [
                (rate("daybook_http_requests_total", "status"), "HTTP {{status}}"),
                (rate("daybook_grpc_calls_total", "status"), "gRPC {{status}}"),
            ],
            "reqps",
            stacked=True,
        ),
        lines(
            "Share that fails",
            "HTTP 5xx and the gRPC statuses that are the server's fault, against the objective of"
            " 99.9 %.",
            [
                (of("instance:daybook_requests_failed:ratio_rate5m"), "{{instance}}, 5 m"),
                (of("instance:daybook_requests_failed:ratio_rate1h"), "{{instance}}, 1 h"),
            ],
            "percentunit",
            thresholds=steps(GREEN, (0.001, RED)),
        ),
        lines(
            "Writes",
            "From a write's arrival to its answer: half of them, and all but one in a hundred.",
            [
                (of("instance:daybook_write_duration_seconds:p99_5m"), "{{instance}}, p99"),
                (
                    quantile(0.5, "daybook_http_request_duration_seconds", where=HTTP_WRITES),
                    "HTTP, p50",
                ),
            ],
            "s",
            thresholds=LATENCY,
        ),
        lines(
            "Slowest HTTP routes, p99",
            "The ten slowest. Subscriptions are left out; a transfer waits for its end.",
            [
                (
                    slowest("daybook_http_request_duration_seconds", "method, route"),
                    "{{method}} {{route}}",
                )
            ],
            "s",
            size=HALF,
        ),
        lines(
            "Slowest gRPC methods, p99",
            "The ten slowest. A subscription counts when it ends, so it may be long.",
            [
                (
                    slowest("daybook_grpc_call_duration_seconds", "method"),
                    "{{method}}",
                )
            ],
            "s",
            size=HALF,
        ),
    ],
    "The process": [
        lines(
            "Processor",
            "Processors that the process uses, and how many of its serving threads are busy.",
            [
                (rate("process_cpu_seconds_total"), "{{instance}}, used"),
                (rate("daybook_runtime_busy_seconds_total"), "{{instance}}, busy threads"),
                (of("daybook_runtime_workers"), "{{instance}}, serving threads"),
            ],
            size=QUARTER,
        ),
        lines(
            "Memory",
            "Resident, and as much as it may take.",
            [
                (of("process_resident_memory_bytes"), "{{instance}}"),
                (of("daybook_memory_limit_bytes"), "{{instance}}, at most"),
            ],
            "bytes",
            size=QUARTER,
        ),
        lines(
            "Files and connections",
            "Open files, and connections among them, against what may be open.",
            [
                (of("process_open_fds"), "{{instance}}, files"),
                (of("daybook_connections"), "{{instance}}, connections"),
                (of("process_max_fds"), "{{instance}}, at most"),
            ],
            size=QUARTER,
        ),
        lines(
            "Work in hand",
            "Requests and calls in progress, those without an end, and tasks that wait for a"
            " thread.",
            [
                (of("daybook_calls_open"), "{{instance}}, open"),
                (of("daybook_endless_calls"), "{{instance}}, without an end"),
                (of("daybook_runtime_queue_depth"), "{{instance}}, tasks that wait"),
            ],
            size=QUARTER,
        ),
    ],
}
