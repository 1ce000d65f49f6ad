"""The write path, the disk, reads, backups."""

from panels import (
    AT,
    GREEN,
    GREY,
    LATENCY,
    RED,
    YELLOW,
    ago,
    heat,
    lines,
    number,
    of,
    quantile,
    quantiles,
    rate,
    share,
    steps,
)

BROKEN_OFF = of("daybook_backups_total", 'outcome="broken_off"')

ROWS = {
    "Appends": [
        lines(
            "Appends by outcome",
            "`rejected`: a condition did not hold. `duplicate`: a client retried. `overloaded` and"
            " `failed`: look at the disk.",
            [(rate("daybook_appends_total", "outcome"), "{{outcome}}")],
            "ops",
            stacked=True,
        ),
        lines(
            "Written",
            "Events made durable, and the syncs that did it.",
            [
                (rate("daybook_events_written_total"), "{{instance}}, events"),
                (rate("daybook_batches_total"), "{{instance}}, syncs"),
            ],
            "ops",
        ),
        lines(
            "Bytes written",
            "To the log; the disk carries about twice as much.",
            [(rate("daybook_bytes_written_total"), "{{instance}}")],
            "Bps",
        ),
        lines(
            "Size of a group",
            "Appends that one sync made durable: near 1 is an idle store, hundreds a busy one.",
            [
                (of("instance:daybook_batch_appends:mean5m"), "{{instance}}, mean"),
                *quantiles("daybook_batch_appends", 0.5, 0.99),
            ],
        ),
        lines(
            "Queue",
            "Appends that wait for the writer; 65,536 may.",
            [(of("daybook_queue_depth"), "{{instance}}")],
        ),
        lines(
            "Wait in the queue",
            "From an append's queueing to its group being written.",
            quantiles("daybook_append_wait_seconds", 0.5, 0.99),
            "s",
        ),
    ],
    "Where a write's time goes": [
        lines(
            "Steps of a group, p99",
            "Deciding, writing, fdatasync, indexing: each step of the write path.",
            [
                (quantile(0.99, f"daybook_{step}_seconds"), name)
                for step, name in [
                    ("decide", "decide"),
                    ("write", "write"),
                    ("sync", "fdatasync"),
                    ("index", "index"),
                ]
            ],
            "s",
        ),
        lines(
            "fdatasync",
            "Every append waits for it. 100 ms is too long.",
            [
                *quantiles("daybook_sync_seconds", 0.5, 0.99),
                (of("instance:daybook_sync_seconds:p99_5m"), "{{instance}}, p99 of 5 m"),
            ],
            "s",
            thresholds=LATENCY,
        ),
        heat(
            "fdatasync, how often how long",
            "A drive that is shared, or ill, shows a second band.",
            f"sum by (le) (increase(daybook_sync_seconds_bucket{{{AT}}}[$__rate_interval]))",
        ),
    ],
    "Space": [
        lines(
            "Disk",
            "Free now, and in four hours at the pace of the last one.",
            [
                (of("daybook_disk_free_bytes"), "{{instance}}, free"),
                (
                    f"predict_linear({of('daybook_disk_free_bytes')}[1h], 4 * 3600)",
                    "{{instance}}, in 4 h",
                ),
            ],
            "bytes",
            thresholds=steps(RED, (2 * 2**30, GREEN)),
        ),
        lines(
            "Log and index",
            "What the segments and their index files take.",
            [
                (of("daybook_log_bytes"), "{{instance}}, log"),
                (of("daybook_index_bytes"), "{{instance}}, index"),
            ],
            "bytes",
        ),
        lines(
            "Segments and keys",
            "Segments of the log, and keys of the active one's index, in memory.",
            [
                (of("daybook_segments"), "{{instance}}, segments"),
                (of("daybook_index_active_keys"), "{{instance}}, keys in memory"),
            ],
        ),
        lines(
            "Scavenge",
            "What scavenges gave back, and what the one at work is still to read.",
            [
                (of("daybook_scavenge_bytes_total"), "{{instance}}, given back"),
                (of("daybook_scavenge_left_bytes"), "{{instance}}, left to read"),
            ],
            "bytes",
        ),
        lines(
            "Scavenges",
            "Those that ended, those that failed, and whether one is at work.",
            [
                (of("daybook_scavenges_total"), "{{instance}}, ended"),
                (of("daybook_scavenge_failures_total"), "{{instance}}, failed"),
                (of("daybook_scavenge_running"), "{{instance}}, at work"),
            ],
        ),
        lines(
            "Removed",
            "Events that scavenges removed, and segments that they rewrote.",
            [
                (of("daybook_scavenge_events_total"), "{{instance}}, events"),
                (of("daybook_scavenge_segments_total"), "{{instance}}, segments"),
            ],
        ),
    ],
    "Reads": [
        lines(
            "Events read",
            "By where they were found: the newest part of the log is in memory.",
            [(rate("daybook_events_read_total", "from"), "{{from}}")],
            "ops",
            stacked=True,
        ),
        lines(
            "Found in memory",
            "Share of the events read. Low: consumers are far behind, or read history.",
            [
                (
                    share(
                        rate("daybook_events_read_total", where='from="memory"'),
                        rate("daybook_events_read_total"),
                    ),
                    "{{instance}}",
                )
            ],
            "percentunit",
            max=1,
        ),
        lines(
            "Subscriptions",
            "Open subscriptions, over HTTP, gRPC and inside.",
            [(of("daybook_subscriptions"), "{{instance}}")],
        ),
    ],
    "Backups and starts": [
        number(
            "Last backup",
            "How long ago the last whole backup was fetched; 26 hours is too long.",
            (ago("daybook_backup_last_success_timestamp_seconds"), ""),
            "s",
            no_value="none known",
            thresholds=steps(GREEN, (26 * 3600, RED)),
            graph="none",
            size=(6, 5),
        ),
        number(
            "Backups broken off",
            "Within a day.",
            (f"sum(increase({BROKEN_OFF}[1d]))", ""),
            thresholds=steps(GREEN, (1, YELLOW)),
            graph="none",
            decimals=0,
            size=(6, 5),
        ),
        number(
            "The last start took",
            "Opening the store, recovery included.",
            (f"max({of('daybook_open_duration_seconds')})", ""),
            "s",
            thresholds=steps(GREY),
            graph="none",
            size=(6, 5),
        ),
        number(
            "Index files rebuilt",
            "When the store was opened: a crash leaves one; more were missing or damaged.",
            (f"max({of('daybook_index_rebuilt')})", ""),
            thresholds=steps(GREEN, (2, YELLOW)),
            graph="none",
            size=(6, 5),
        ),
    ],
}
