"""What the server is, asked of the binary itself: commands, flags, variables, routes, metrics."""

import contextlib
import functools
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

BIN = os.environ["DAYBOOK_BIN"]
ROOT = Path(__file__).resolve().parents[2]
# Seconds that a server may take to start or stop, and one request.
PATIENCE, REQUEST = 60, 10
# Nothing goes by way of a proxy.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(url):
    """The status and the text of an answer; 0 if there was none."""
    try:
        with OPENER.open(url, timeout=REQUEST) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()
    except OSError:
        return 0, ""


def eventually(what, reached):
    """What `reached` answers, as soon as that is something."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found = reached()
        if found:
            return found
        time.sleep(0.1)
    sys.exit(f"waited too long: {what}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@functools.cache
def help_of(command):
    """What `daybook COMMAND --help` says, None if there is no such command."""
    ran = subprocess.run([BIN, *command, "--help"], capture_output=True, text=True)
    return ran.stdout if ran.returncode == 0 else None


def subcommands(command):
    """The commands that a command has."""
    said = help_of(command) or ""
    # After the heading, one a line, two spaces ahead; the first page has headings of its own.
    return set(re.findall(r"(?m)^  ([a-z][a-z-]*) {2,}\S", said)) - {"help"}


def flags(command):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", help_of(command) or ""))


def variables(command):
    """The environment that a command reads."""
    return set(re.findall(r"\bDAYBOOK_[A-Z_]+", help_of(command) or ""))


def settings_fault(text, command, environment):
    """What is wrong with a settings file for a command in an environment, None if nothing."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        line = [BIN, "--settings", file.name, "config", "show", *command]
        ran = subprocess.run(line, capture_output=True, text=True, env=environment)
    return None if ran.returncode == 0 else ran.stderr.strip()


@contextlib.contextmanager
def running(*arguments):
    """A server, ended at the end."""
    process = subprocess.Popen([BIN, *arguments], stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


class Server:
    """What one kind of server answers: which paths it has, and the names of its numbers."""

    def __init__(self, url):
        self.url = url
        self.page = ask(f"{url}/metrics")[1]

    def has(self, path):
        return ask(f"{self.url}{path}")[0] not in (0, 404)

    @property
    def metrics(self):
        names = set()
        for name, kind in re.findall(r"(?m)^# TYPE (\S+) (\w+)", self.page):
            names.add(name)
            if kind in ("histogram", "summary"):
                names |= {f"{name}_{part}" for part in ("bucket", "count", "sum")}
        return names


@contextlib.contextmanager
def servers():
    """A node and a query front (without its database), as {command: Server}."""
    with tempfile.TemporaryDirectory() as scratch:
        node, front = (f"127.0.0.1:{free_port()}" for _ in range(2))
        connectors = Path(scratch, "connectors.toml")
        connectors.write_text(
            '[[connector]]\nname = "a"\nkind = "file"\nfrom = "start"\n'
            f'path = "{scratch}/relayed"\n[connector.select]\ntypes = ["A"]\n'
        )
        # What has numbers only where it is in use: connectors, an archive, a risk service, a group.
        serve = ["serve", f"--data={scratch}/data", f"--listen={node}"]
        serve += [f"--connectors={connectors}", f"--archive={scratch}/archive"]
        serve += ["--risk-url=http://127.0.0.1:9/check"]
        query = ["query", "serve", f"--listen={front}"]
        query += ["--postgres=postgres://nobody:nothing@127.0.0.1:9/none"]
        with running(*serve), running(*query):
            for where, path in ((node, "/health/ready"), (front, "/health/live")):
                eventually(f"{where}{path}", lambda: ask(f"http://{where}{path}")[0] in (200, 204))
            at = ["--url", f"http://{node}"]
            for line in (
                ["append", "a-1", "A", "{}", *at],
                ["subscriptions", "create", "a-1", "group", *at],
            ):
                subprocess.run([BIN, *line], check=True, capture_output=True)
            program = "fromAll().when({ $init: () => ({}), A: (state) => state })"
            url = f"http://{node}/projections/continuous?name=a&type=js"
            OPENER.open(
                urllib.request.Request(url, program.encode(), method="POST"), timeout=REQUEST
            )
            yield {
                ("serve",): Server(f"http://{node}"),
                ("query", "serve"): Server(f"http://{front}"),
            }
