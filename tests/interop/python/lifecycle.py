"""A stop and a restart of the server under a connected Python client.

Starts servers of its own: DAYBOOK_BIN is the binary, the first argument a directory for its data.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cases
from cases import StreamState, case, connect, equal, error, event, events, ids, raises, stream, take

DATA = Path(sys.argv[1])
BINARY = os.environ["DAYBOOK_BIN"]
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 30
# gRPC waits 1 s after the first connection that was refused, and longer after each further one.
CONNECT_SECONDS_MAX = 30


class Server:
    """A running `daybook serve`; its log is beside its data."""

    def __init__(self, listen: str = "127.0.0.1:0"):
        log = DATA / "log"
        begin = log.stat().st_size if log.exists() else 0
        self.process = subprocess.Popen(
            [BINARY, "serve", "--data", DATA / "data", "--listen", listen],
            stdout=subprocess.DEVNULL,
            stderr=log.open("ab"),
        )
        until = time.monotonic() + START_SECONDS_MAX
        while True:
            assert self.process.poll() is None, f"the server ended; see {log}"
            assert time.monotonic() < until, f"the server is not ready; see {log}"
            for line in log.read_bytes()[begin:].splitlines():
                said = json.loads(line) if line.startswith(b"{") and line.endswith(b"}") else {}
                if said.get("message") == "ready":
                    self.address = said["address"]
                    return
            time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_args):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> float:
        """Stops it as an operator does; how long that took, in seconds."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        equal(self.process.wait(STOP_SECONDS_MAX), 0, "the exit code")
        return time.monotonic() - began


def when_available(call, *args):
    """What the call returns as soon as the client has a connection again."""
    unavailable = error("ServiceUnavailable"), error("DiscoveryFailed")
    until = time.monotonic() + CONNECT_SECONDS_MAX
    while True:
        try:
            return call(*args)
        except unavailable:
            assert time.monotonic() < until, f"no connection in {CONNECT_SECONDS_MAX} s"
            time.sleep(0.05)


@case
def a_client_lives_through_a_restart(_client):
    name, sent = stream(), events(3)
    with Server() as server, connect(address=server.address) as client:
        positions = [
            client.append_to_stream(name, current_version=StreamState.ANY, events=[each])
            for each in sent
        ]
        following = client.subscribe_to_stream(name)
        everything = client.subscribe_to_all(filter_exclude=[])
        take(following, 3)
        before = [(each.id, each.commit_position) for each in client.read_all(filter_exclude=[])]
        took = server.stop()
        assert took < 5, f"a stop with idle subscribers took {took:.1f} s"
        # They hear that the server is going, not silence.
        raises("ServiceUnavailable", list, following)
        raises("ServiceUnavailable", list, everything)
        raises("ServiceUnavailable", client.get_stream, name)
        with Server(server.address) as again:
            # The client connects anew by itself, once gRPC's pause after a refused connection is over.
            equal(ids(when_available(client.get_stream, name)), ids(sent))
            found = [(each.id, each.commit_position) for each in client.read_all(filter_exclude=[])]
            equal(found, before, "the log after a restart")
            # What was appended with "any" is still known.
            for each, position in zip(sent, positions, strict=True):
                any_version = StreamState.ANY
                repeated = client.append_to_stream(name, current_version=any_version, events=[each])
                equal(repeated, position, "the position of a retry")
            equal(len(client.get_stream(name)), 3)
            with client.subscribe_to_all(commit_position=positions[1]) as resumed:
                equal(ids(take(resumed, 1)), [sent[2].id])
            again.stop()


@case
def a_killed_server_keeps_what_it_acknowledged(_client):
    name = stream()
    acknowledged = []
    with Server() as server, connect(address=server.address) as client:
        for _ in range(50):
            sent = event()
            client.append_to_stream(name, current_version=StreamState.ANY, events=sent)
            acknowledged.append(sent.id)
        server.process.kill()
        server.process.wait()
        failed = error("Grpc"), error("ServiceUnavailable"), error("DiscoveryFailed")
        raises(failed, client.append_to_stream, name,
               current_version=StreamState.ANY, events=event())
    with Server() as server, connect(address=server.address) as client:
        equal(ids(client.get_stream(name)), acknowledged)
        server.stop()


sys.exit(cases.main())
