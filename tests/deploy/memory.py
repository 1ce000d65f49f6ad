"""A server in a control group of little memory: it reads the limit, keeps below it under loads that
would take more if it did not, and refuses one that is too small.

    SCRATCH=DIR DAYBOOK_BIN=FILE memory.py

Needs root and control groups, of version 1 or 2; says `skipped: memory: …` where it finds none.
"""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

MIB = 1024 * 1024
# A small pod's, and what is refused.
LIMIT, TOO_LITTLE = 512 * MIB, 256 * MIB
# Near the largest event, and events of an append near the largest.
EVENT_SIZE, APPEND_EVENTS = 15 * MIB, 4
# Callers that each append so often, all at a time.
CALLERS, APPENDS = 6, 4
# Seconds.
START_MAX, CALL_MAX, APPEND_MAX = 60, 120, 200

SCRATCH = Path(os.environ["SCRATCH"])
BINARY = os.environ["DAYBOOK_BIN"]
passed = failed = 0


def outcome(name, good, said=""):
    """Counts a check."""
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"{'ok' if good else 'FAILED'}: memory: {name}{'' if good else f': {said}'}")


class Group:
    """A control group of so many bytes; removed at its end."""

    def __init__(self, limit):
        root = Path("/sys/fs/cgroup")
        self.is_unified = (root / "cgroup.controllers").exists()
        top = root if self.is_unified else root / "memory"
        self.path = top / f"daybook-memory-{os.getpid()}"
        self.file = self.path / ("memory.max" if self.is_unified else "memory.limit_in_bytes")
        self.path.mkdir()
        try:
            self.file.write_text(str(limit))
            swap = self.path / "memory.swap.max"
            if swap.exists():
                swap.write_text("0")
        except OSError:
            self.path.rmdir()
            raise

    def kills(self):
        """How often the kernel killed somebody for want of memory."""
        name = "memory.events" if self.is_unified else "memory.oom_control"
        words = (self.path / name).read_text().split()
        return int(words[words.index("oom_kill") + 1])

    def start(self, arguments, log):
        """Runs the server within it."""
        join = 'echo $$ > "$0"; exec "$@"'
        procs = str(self.path / "cgroup.procs")
        command = ["/bin/sh", "-c", join, procs, BINARY, *arguments]
        return subprocess.Popen(command, stdout=log, stderr=log)

    def close(self):
        """Removes it. Whoever ended is gone from it a moment later."""
        for _ in range(50):
            try:
                return self.path.rmdir()
            except OSError:
                time.sleep(0.1)
        raise OSError(f"{self.path} is still in use")


def call(url, body=None):
    """The answer's status and JSON."""
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=CALL_MAX) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()
    except urllib.error.URLError as broken:
        # Refused before it was sent: this client does not read the answer then.
        if isinstance(broken.reason, (BrokenPipeError, ConnectionResetError)):
            return 503, b""
        raise


def started(log, process):
    """The URL at which the server says it is ready."""
    until = time.monotonic() + START_MAX
    while time.monotonic() < until and process.poll() is None:
        for line in log.read_text().splitlines():
            if '"message":"ready"' in line:
                return json.loads(line)["url"]
        time.sleep(0.05)
    raise RuntimeError(f"the server does not start: {log.read_text()}")


def append_much(url, caller, done, wrong):
    """Appends, and again if there was no room."""
    event = {"type": "Large", "data": "x" * EVENT_SIZE}
    body = json.dumps([event] * APPEND_EVENTS).encode()
    until = time.monotonic() + APPEND_MAX
    while done[caller] < APPENDS and time.monotonic() < until:
        try:
            status, said = call(f"{url}/v1/streams/large-{caller}", body)
        except OSError as error:
            wrong.append(str(error))
            return
        if status == 200:
            done[caller] += 1
        elif status == 503:
            time.sleep(0.1)
        else:
            wrong.append(f"{status} {said[:200]}")
            return


def under_load(url):
    """Large appends over HTTP and gRPC at a time, by whoever finds room."""
    done, wrong = [0] * CALLERS, []
    args = ((url, caller, done, wrong) for caller in range(CALLERS))
    callers = [threading.Thread(target=append_much, args=each) for each in args]
    lines = SCRATCH / "large.jsonl"
    event = json.dumps({"type": "Large", "data": "y" * EVENT_SIZE})
    lines.write_text(f"{event}\n" * (2 * APPEND_EVENTS))
    command = [BINARY, "append", "large-grpc", "--file", str(lines), "--url", url]
    for each in callers:
        each.start()
    several = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    for each in callers:
        each.join()
    for each in several:
        each.wait(APPEND_MAX)
    return done, wrong


def tried(group, log):
    """The checks of a server that runs."""
    with open(log, "wb") as out:
        arguments = ["serve", "--data", str(SCRATCH / "data"), "--listen", "127.0.0.1:0"]
        server = group.start(arguments, out)
    try:
        url = started(log, server)
        memory = json.loads(call(f"{url}/admin/config")[1])["memory"]
        outcome("it reads the limit of its group", memory["limitBytes"] == LIMIT, memory)
        outcome("and says whose it is", memory["limitedBy"] == str(group.file), memory)
        metrics = call(f"{url}/metrics")[1].decode()
        line = f"daybook_memory_limit_bytes {LIMIT}"
        outcome("and shows it as a metric", line in metrics.splitlines(), "another, or none")
        done, wrong = under_load(url)
        outcome("it takes large appends, one after the other", min(done) == APPENDS, (done, wrong))
        alive = server.poll() is None and group.kills() == 0
        outcome("and is not killed", alive, f"{group.kills()} kills")
        status, body = call(f"{url}/v1/streams/large-0?direction=backwards&limit=1")
        outcome("and reads what it wrote", status == 200 and len(body) > EVENT_SIZE, status)
    finally:
        server.terminate()
        server.wait(START_MAX)


def main():
    """All checks."""
    try:
        group = Group(LIMIT)
    except OSError as error:
        print(f"skipped: memory: no control group can be made here: {error}")
        print("0 passed, 0 failed")
        return 0
    try:
        tried(group, SCRATCH / "memory.log")
        group.file.write_text(str(TOO_LITTLE))
        refused = SCRATCH / "refused.log"
        with open(refused, "wb") as out:
            server = group.start(["serve", "--data", str(SCRATCH / "none")], out)
        code = server.wait(START_MAX)
        said = refused.read_text()
        is_told = code == 1 and "at least 448 MiB" in said
        outcome("a limit that is too small is refused", is_told, said)
    finally:
        group.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
