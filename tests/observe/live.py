"""A real Prometheus scrapes a server that works; every query of every dashboard and rule is asked.

DAYBOOK_BIN is the server, DEPLOY the directory server/deploy, SCRATCH a directory. A query that
comes back with an error, or without a number, fails; there are no exceptions. The last line says
how many checks passed and failed.
"""

import contextlib
import http.server
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path

BIN = os.environ["DAYBOOK_BIN"]
DEPLOY, SCRATCH = Path(os.environ["DEPLOY"]), Path(os.environ["SCRATCH"])
# Seconds a server may take to start or stop, a state to be reached, and one request.
PATIENCE, REQUEST = 60, 30
# What stands for Grafana's variables: with a scrape a second, rates over many of them.
VARIABLES = {"$__rate_interval": "20s", "$__interval": "1s", "$__range": "1m", "$instance": ".+"}
# Metrics that a page has only after what this program makes happen: none of them may be missing.
RARE = [
    "daybook_breaker_transitions_total",
    "daybook_connector_delivered_total",
    "daybook_persistent_parked",
]

passed = failed = 0
# Nothing goes by way of a proxy.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def check(name, wrong):
    """A check that passes if there is nothing wrong."""
    global passed, failed
    if not wrong:
        passed += 1
        print(f"ok      live: {name}")
    else:
        failed += 1
        print(f"FAILED  live: {name}")
        for each in wrong if isinstance(wrong, list) else [wrong]:
            print(f"        {each}")


def eventually(what, reached):
    """What `reached` answers, as soon as that is something."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found = reached()
        if found:
            return found
        time.sleep(0.1)
    sys.exit(f"waited too long: {what}")


def ask(url, method="GET", body=None, headers=()):
    """The status and the text of an answer; 0 if there was none."""
    request = urllib.request.Request(url, method=method, headers=dict(headers))
    if body is not None:
        text = body if isinstance(body, str) else json.dumps(body)
        request.data = text.encode()
        request.add_header("Content-Type", "application/json")
    try:
        with OPENER.open(request, timeout=REQUEST) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.read().decode()
    except OSError:
        return 0, ""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Risk(http.server.BaseHTTPRequestHandler):
    """A risk service that approves of everything, or answers nothing of use."""

    protocol_version = "HTTP/1.1"
    well = True

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"decision":"approve"}'
        self.send_response(200 if Risk.well else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Process:
    """A program of ours, ended with this one."""

    def __init__(self, name, *command, env=None):
        self.log = SCRATCH / f"{name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        self.process.kill()

    def says(self):
        if self.process.poll() is not None:
            sys.exit(f"it ended early:\n{self.log.read_text()}")
        return self.log.read_text()


def daybook(*arguments):
    """Runs `daybook …` to its end; what was wrong, if anything."""
    command = [BIN, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    return None if ran.returncode == 0 else f"daybook {' '.join(arguments)}: {ran.stderr[-800:]}"


def serve():
    """A server that asks a risk service and relays to a file."""
    risk = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Risk)
    threading.Thread(target=risk.serve_forever, daemon=True).start()
    connectors = SCRATCH / "connectors.toml"
    connectors.write_text(
        '[[connector]]\nname = "payments"\nkind = "file"\nfrom = "start"\n'
        f'path = "{SCRATCH}/relayed.jsonl"\n[connector.select]\ntypes = ["PaymentCompleted"]\n'
    )
    arguments = ["--data", str(SCRATCH / "data"), "--listen", "127.0.0.1:0"]
    arguments += ["--risk-url", f"http://127.0.0.1:{risk.server_port}/check"]
    return Process("serve", BIN, "serve", *arguments, "--connectors", str(connectors))


def where(server):
    """The address of a server that is ready."""
    found = re.search(r'"message":"ready".*?"url":"([^"]+)"', server.says())
    return found and found[1]


def transfer(url, sender, receiver):
    body = {"sender_account_id": sender, "receiver_account_id": receiver}
    body |= {"amount": "1.00", "currency": "USD"}
    ask(f"{url}/v1/transfers", "POST", body, [("Idempotency-Key", str(uuid.uuid4()))])


def break_the_risk_service(url):
    """Long enough for its breaker to open, and to close again."""
    accounts = [str(uuid.uuid4()) for _ in range(2)]
    for account in accounts:
        body = {"account_type": "checking", "currency": "USD", "owner_id": account}
        body |= {"initial_deposit": "1000.00"}
        ask(f"{url}/v1/accounts", "POST", body, [("Idempotency-Key", account)])

    def state(wanted):
        return f'daybook_breaker_state{{endpoint="risk"}} {wanted}\n' in ask(f"{url}/metrics")[1]

    Risk.well = False
    for _ in range(10):
        transfer(url, *accounts)
    eventually("the breaker to open", lambda: state(1))
    Risk.well = True
    eventually("the breaker to close", lambda: state(0))


def work(url, once):
    """What makes numbers; `once`: also what is not repeated while queries are asked."""
    wrong = [
        daybook("demo", "--url", url),
        daybook("load", "--users", "20", "--seconds", "1", "--url", url),
        daybook("append", "orders-1", "OrderPlaced", "{}", "--url", url),
        daybook("read", "orders-1", "--url", url),
    ]
    if once:
        wrong += [
            daybook("subscriptions", "create", "orders-1", "mail", "--url", url),
            daybook("scavenge", "start", "--url", url),
            daybook("backup", "--to", str(SCRATCH / "backup"), "--url", url),
            break_the_risk_service(url),
        ]
        program = "fromAll().when({ $init: () => ({}), OrderPlaced: (state) => state })"
        status, answer = ask(f"{url}/projections/continuous?name=orders&type=js", "POST", program)
        wrong.append(None if status == 201 else answer)
        status, answer = ask(f"{url}/v1/trial-balance?verify=true")
        wrong.append(None if status == 200 and json.loads(answer)["verified"]["equal"] else answer)
    return [each for each in wrong if each]


class Busy:
    """Keeps a server at work while queries are asked."""

    def __init__(self, url):
        self.url, self.over, self.wrong = url, threading.Event(), []
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.is_set():
            self.wrong += work(self.url, once=False)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def page_is_right(url):
    """The page of a server that has done everything."""
    status, text = ask(f"{url}/metrics")
    command = ["promtool", "check", "metrics"]
    told = subprocess.run(command, input=text, capture_output=True, text=True)
    check("promtool finds nothing to say of /metrics", told.stderr.strip() or told.stdout.strip())
    families = set(re.findall(r"(?m)^# TYPE (\S+) ", text))
    check("every kind of number is on the page", [name for name in RARE if name not in families])
    return families


def numbers(prometheus, query):
    """The numbers that a query comes back with, and what is wrong with it."""
    parameters = urllib.parse.urlencode({"query": query})
    status, answer = ask(f"{prometheus}/api/v1/query?{parameters}")
    if status != 200:
        return [], f"{status} {answer[:300]}"
    result = json.loads(answer)["data"]["result"]
    found = [float(each["value"][1]) for each in result]
    return [number for number in found if math.isfinite(number)], None


def substituted(text):
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    return text


def queries_of(dashboard):
    """Every query of a dashboard: where it stands, and what it asks."""
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            yield f"variable {variable['name']}", f"count by ({found[2]}) ({found[1]})"
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"{panel['title']} {target['refId']}", target["expr"]


def dashboards_have_numbers(prometheus):
    files = sorted(DEPLOY.glob("grafana/*.json"))
    check("there are dashboards", [] if len(files) >= 4 else f"only {len(files)}")
    for file in files:
        dashboard, asked, wrong = json.loads(file.read_text()), 0, []
        for place, query in queries_of(dashboard):
            asked += 1
            query = substituted(query)
            found, error = numbers(prometheus, query)
            if "$" in query or error or not found:
                wrong.append(f"{place}: {error or 'no number'}: {query}")
        check(f"{file.name}: {asked} queries, each has a number", wrong if asked else "no query")


def rules_have_numbers(prometheus):
    """Recording rules have numbers; alerts are asked without an error."""
    groups = json.loads(ask(f"{prometheus}/api/v1/rules")[1])["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    recording = [rule for rule in rules if rule["type"] == "recording"]
    alerting = [rule for rule in rules if rule["type"] == "alerting"]
    wrong = []
    for rule in recording:
        found, error = numbers(prometheus, rule["query"])
        if error or not found:
            wrong.append(f"{rule['name']}: {error or 'no number'}")
    check(f"{len(recording)} recording rules, each has a number", wrong if recording else "none")
    asked = ((rule["name"], numbers(prometheus, rule["query"])[1]) for rule in alerting)
    wrong = [f"{name}: {error}" for name, error in asked if error]
    check(f"{len(alerting)} alerts, each can be asked", wrong if alerting else "none")
    wrong = [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule["health"] == "err"]
    check("Prometheus computes every rule without an error", wrong)
    firing = [rule["name"] for rule in alerting if rule["state"] == "firing"]
    check("a server that is well has no alert", firing)


def scraped(prometheus):
    """Whether there are enough scrapes, and the rules that build on them were computed."""
    scrapes, _ = numbers(prometheus, 'count_over_time(up{job="daybook"}[5m]) >= 25')
    computed, _ = numbers(prometheus, "instance:daybook_requests_failed:ratio_rate1h")
    return scrapes and computed


def main():
    with serve() as server:
        url = eventually("the server", lambda: where(server))
        wrong = work(url, once=True)
        check("a server works: transfers, streams, a group, a scavenge, a backup", wrong)
        page_is_right(url)
        watched(url)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def watched(url):
    """The server under the eyes of a real Prometheus, started as people start it."""
    port = free_port()
    prometheus = f"http://127.0.0.1:{port}"
    env = {"PROMETHEUS_LISTEN": f"127.0.0.1:{port}", "SCRAPE_INTERVAL": "1s"}
    env["PROMETHEUS_DATA"] = str(SCRATCH / "prometheus")
    command = [str(DEPLOY / "observe"), url.removeprefix("http://")]

    def answers():
        return observe.says() and ask(f"{prometheus}/-/ready")[0] == 200

    with Process("observe", *command, env=env) as observe, Busy(url) as busy:
        eventually("Prometheus", answers)
        eventually("some scrapes", lambda: scraped(prometheus))
        # The checks below can fail.
        found, error = numbers(prometheus, "daybook_no_such_metric")
        check("what is not there has no number", found or error)
        dashboards_have_numbers(prometheus)
        rules_have_numbers(prometheus)
    check("the server worked all the while", busy.wrong)


if __name__ == "__main__":
    sys.exit(main())
