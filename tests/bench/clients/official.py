"""How fast KurrentDB's official Python client is against a running server.

    python official.py URI SECONDS

Prints one JSON object: for each scenario events a second, and for those of one call after another the
median and the 99th percentile in milliseconds. What bounds most of it is the client itself.
"""

import json
import statistics
import sys
import threading
import time
import uuid

from kurrentdbclient import KurrentDBClient, NewEvent, StreamState

EVENT_SIZE = 256
BATCH = 100
STREAM_LEN = 10_000


def event():
    return NewEvent(type="Measured", data=b"x" * EVENT_SIZE, content_type="application/octet-stream")


def unary(uri, seconds, out):
    """One append after another, each with the exact revision."""
    client = KurrentDBClient(uri=uri)
    stream, current, took = f"py-{uuid.uuid4()}", StreamState.NO_STREAM, []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        new = event()
        begun = time.perf_counter()
        client.append_event(stream, current_version=current, event=new)
        took.append(time.perf_counter() - begun)
        current = len(took) - 1
    client.close()
    out.extend(took)


def rate(took, seconds):
    percentiles = statistics.quantiles(took, n=100)
    return {
        "per_second": len(took) / seconds,
        "p50_ms": 1000 * percentiles[49],
        "p99_ms": 1000 * percentiles[98],
    }


def writers(uri, seconds, count):
    took = []
    threads = [threading.Thread(target=unary, args=(uri, seconds, took)) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return rate(took, seconds)


def batches(client, seconds):
    stream, current, count = f"py-{uuid.uuid4()}", StreamState.NO_STREAM, 0
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        client.append_events(stream, current_version=current, events=[event() for _ in range(BATCH)])
        count += BATCH
        current = count - 1
    return {"per_second": count / (time.monotonic() - begun)}


def reading(client):
    stream = f"py-{uuid.uuid4()}"
    for first in range(0, STREAM_LEN, 1000):
        current = StreamState.NO_STREAM if first == 0 else first - 1
        client.append_events(stream, current_version=current, events=[event() for _ in range(1000)])
    begun = time.perf_counter()
    read = len(client.get_stream(stream))
    assert read == STREAM_LEN, read
    return {"per_second": read / (time.perf_counter() - begun)}


def following(client):
    begun, count = time.perf_counter(), 0
    with client.subscribe_to_all(include_caught_up=True) as subscription:
        for each in subscription:
            if type(each).__name__ == "CaughtUp":
                break
            count += 1
    return {"per_second": count / (time.perf_counter() - begun)}


def main():
    uri, seconds = sys.argv[1], float(sys.argv[2])
    client = KurrentDBClient(uri=uri)
    figures = {
        "append, 1 writer": writers(uri, seconds, 1),
        "append, 16 writers": writers(uri, seconds, 16),
        f"append of {BATCH} events": batches(client, seconds),
        f"read a stream of {STREAM_LEN}": reading(client),
        "follow $all from its start": following(client),
    }
    client.close()
    print(json.dumps(figures))


main()
