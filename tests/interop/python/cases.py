"""What all cases share: the client under test, names of their own, and a runner.

The cases run against the PyPI package named in DAYBOOK_CLIENT, unmodified: `kurrentdbclient`, or
its ancestor `esdbclient`, whose names differ a little. DAYBOOK_URL is the server's HTTP address.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
import traceback
from uuid import uuid4

PACKAGE = os.environ.get("DAYBOOK_CLIENT", "kurrentdbclient")
client_package = importlib.import_module(PACKAGE)
exceptions = importlib.import_module(f"{PACKAGE}.exceptions")
Client = getattr(client_package, "KurrentDBClient", None) or client_package.EventStoreDBClient
NewEvent = client_package.NewEvent
Checkpoint = client_package.Checkpoint
CaughtUp = client_package.CaughtUp
StreamState = client_package.StreamState
OLD = PACKAGE == "esdbclient"

# Seconds a case may take; a hanging call is a failure, not a hanging build.
CASE_SECONDS_MAX = 60
ADDRESS = os.environ.get("DAYBOOK_URL", "http://127.0.0.1:2113").removeprefix("http://")

_cases = []


class Skipped(Exception):
    """The client under test has nothing to test here."""


def case(function):
    """Registers a case. It is given a connected client, closed afterwards."""
    _cases.append(function)
    return function


def uri(options: str = "", scheme: str = "esdb", address: str | None = None) -> str:
    return f"{scheme}://{address or ADDRESS}?tls=false{options}"


def connect(options: str = "", **others):
    return Client(uri(options, **others))


def error(name: str):
    """The client's exception class: 1.3 ends their names in 'Error', older ones do not."""
    found = getattr(exceptions, f"{name}Error", None) or getattr(exceptions, name, None)
    if found is None:
        raise Skipped(f"{PACKAGE} has no {name}")
    return found


def stream(label: str = "s") -> str:
    return f"{label}-{uuid4()}"


def event(kind: str = "Happened", data: bytes = b'{"a":1}', **others):
    return NewEvent(type=kind, data=data, **others)


def events(count: int, kind: str = "Happened"):
    return [event(kind, b'{"n":%d}' % n) for n in range(count)]


def raises(wanted, call, *args, **kwargs):
    """The exception of class `wanted` that the call raises."""
    if isinstance(wanted, str):
        wanted = error(wanted)
    try:
        result = call(*args, **kwargs)
    except wanted as raised:
        return raised
    raise AssertionError(f"{wanted} was not raised; the result is {result!r}")


def equal(found, wanted, what: str = ""):
    if found != wanted:
        raise AssertionError(f"{what or 'it'} is {found!r}, not {wanted!r}")


def ids(recorded) -> list:
    return [each.id for each in recorded]


def take(subscription, count: int) -> list:
    """The next `count` deliveries."""
    found = []
    for each in subscription:
        found.append(each)
        if len(found) == count:
            break
    return found


def take_until(subscription, wanted) -> list:
    """Deliveries up to the first for which `wanted` holds."""
    found = []
    for each in subscription:
        found.append(each)
        if wanted(each):
            return found
    raise AssertionError(f"the subscription ended after {len(found)} deliveries")


def _too_long(_signal, _frame):
    raise TimeoutError(f"took longer than {CASE_SECONDS_MAX} s")


def main() -> int:
    signal.signal(signal.SIGALRM, _too_long)
    passed = failed = 0
    for function in _cases:
        began = time.monotonic()
        name = function.__name__
        signal.alarm(CASE_SECONDS_MAX)
        try:
            with connect() as client:
                function(client)
        except Skipped as skipped:
            print(f"skipped: {PACKAGE}: {name}: {skipped}")
        except Exception:  # a case may fail in any way
            failed += 1
            print(f"FAILED  {PACKAGE}: {name}\n{traceback.format_exc()}")
        else:
            passed += 1
            print(f"ok      {PACKAGE}: {name} ({time.monotonic() - began:.2f} s)")
        finally:
            signal.alarm(0)
        sys.stdout.flush()
    left = [thread.name for thread in threading.enumerate() if not thread.daemon]
    equal(left, ["MainThread"], "what still runs")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
