"""A node that keeps its read models in PostgreSQL, and two query fronts over them.

DAYBOOK_BIN is the binary, POSTGRES_URL the database for the node, FRONT_URL the same as who may only
read what the node has made, POSTGRES_RESTART a program that restarts it,
SCRATCH a directory. The last line says how many checks passed and failed.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from decimal import Decimal

BIN = os.environ["DAYBOOK_BIN"]
POSTGRES = os.environ["POSTGRES_URL"]
FRONT = os.environ["FRONT_URL"]
RESTART = os.environ["POSTGRES_RESTART"]
SCRATCH = os.environ["SCRATCH"]
# Seconds a server may take to start, stop, or come back; and one request.
PATIENCE = 30
REQUEST = 15
ACCOUNTS = 25
# What the URL has for a password; PostgreSQL asks for none here.
PASSWORD = "never-to-be-shown"

passed = failed = 0


def check(name, wanted, found):
    global passed, failed
    if wanted == found:
        passed += 1
        print(f"ok      front: {name}")
    else:
        failed += 1
        print(f"FAILED  front: {name}\n        wanted {wanted!r}\n        found  {found!r}")


class Server:
    """A server of ours, and what it logs."""

    def __init__(self, name, *args):
        self.name, self.log = name, os.path.join(SCRATCH, f"{name}.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [BIN, *args, "--listen", "127.0.0.1:0"], stdout=subprocess.DEVNULL, stderr=log
            )
        self.url = eventually(f"{name} is ready", self._url)

    def _url(self):
        if self.process.poll() is not None:
            sys.exit(f"{self.name} ended early:\n{self.logged()}")
        lines = [json.loads(line) for line in self.logged().splitlines() if line.startswith("{")]
        return next((line["url"] for line in lines if line.get("message") == "ready"), None)

    def logged(self):
        with open(self.log, encoding="utf-8") as log:
            return log.read()

    def ask(self, path, method="GET", body=None, headers=()):
        """The status and the JSON of an answer."""
        request = urllib.request.Request(self.url + path, method=method, headers=dict(headers))
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
            request.add_header("Idempotency-Key", str(uuid.uuid4()))
        try:
            with OPENER.open(request, timeout=REQUEST) as answer:
                return answer.status, parsed(answer.read())
        except urllib.error.HTTPError as answer:
            return answer.code, parsed(answer.read())

    def end(self):
        """Asks it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


# A proxy of the environment is not for the loopback.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def parsed(body):
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()


def eventually(what, look):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.05)
    sys.exit(f"not within {PATIENCE} s: {what}")


def every_page(server, path):
    """All accounts of a list, page by page, and the places they are of."""
    accounts, places, cursor = [], [], ""
    while True:
        status, page = server.ask(f"{path}&limit=7{cursor}")
        if status != 200:
            return (status, page), []
        accounts += page["accounts"]
        places.append(page["as_of"])
        if page["next"] is None:
            return accounts, places
        cursor = "&cursor=" + urllib.parse.quote(page["next"])


def opened(node, owner, amount="100.00"):
    body = {
        "account_type": "checking",
        "currency": "USD",
        "owner_id": owner,
        "initial_deposit": amount,
    }
    status, answer = node.ask("/v1/accounts", "POST", body)
    if status != 201:
        sys.exit(f"an account is not opened: {status} {answer}")
    return answer["account_id"]


def deposit(node, account, amount):
    body = {"amount": amount, "currency": "USD"}
    status, answer = node.ask(f"/v1/accounts/{account}/deposits", "POST", body)
    if status != 201:
        sys.exit(f"a deposit is not taken: {status} {answer}")
    return answer["position"]


def lists(node, fronts):
    owner = str(uuid.uuid4())
    ids = [opened(node, owner) for _ in range(ACCOUNTS)]
    last = deposit(node, ids[-1], "1.00")
    path = f"/v1/accounts?owner={owner}&min_position={last}"
    for front in fronts:
        found, places = every_page(front, path)
        check(f"{front.name} lists all accounts", set(ids), {a["account_id"] for a in found})
        check(f"{front.name} is as fresh as asked", True, all(place >= last for place in places))
    check("fronts and node list alike", every_page(fronts[0], path)[0], every_page(node, path)[0])
    return ids, owner


def own_writes(node, fronts, account, owner):
    """What was written is read at once, through any front."""
    seen = []
    for turn in range(40):
        position = deposit(node, account, "1.00")
        header = {"Daybook-Min-Position": str(position)}
        front = fronts[turn % len(fronts)]
        status, page = front.ask(f"/v1/accounts?owner={owner}&limit=100", headers=header)
        balances = {a["account_id"]: a["balance"] for a in page.get("accounts", [])}
        seen.append(status == 200 and Decimal(balances[account]))
    check("own writes are read", [Decimal(101 + turn) for turn in range(40)], seen)


def transfers(node, front, sender, receiver):
    body = {
        "sender_account_id": sender,
        "receiver_account_id": receiver,
        "amount": "5.00",
        "currency": "USD",
    }
    status, _ = node.ask("/v1/transfers", "POST", body, headers={"Prefer": "wait=10"})
    check("a transfer completes", 200, status)
    position = deposit(node, receiver, "1.00")
    path = f"/v1/transfers?state=completed&account={sender}&min_position={position}"
    status, page = front.ask(path)
    amounts = [t["amount"] for t in page.get("transfers", [])]
    check("the front lists it", (200, ["5.00"]), (status, amounts))
    for what in ("transactions", "statements"):
        status, _ = front.ask(f"/v1/accounts/{sender}/{what}?min_position={position}")
        check(f"the front lists {what}", 200, status)


def histories(node, front, owner, ids):
    """A front tells an account's history in the node's words: rows, pages, and what is wrong."""
    busy, quiet, unknown = opened(node, owner), opened(node, owner, "0.00"), str(uuid.uuid4())
    position = deposit(node, busy, "7.50")
    steps = [
        (busy, "holds", {"amount": "2.00", "currency": "USD", "description": "a hotel"}),
        (busy, "freeze", {"reason": "lost card", "frozen_by": "a test"}),
        (quiet, "freeze", {"reason": "lost card", "frozen_by": "a test"}),
        (quiet, "unfreeze", {"unfrozen_by": "a test"}),
    ]
    for account, what, body in steps:
        status, answer = node.ask(f"/v1/accounts/{account}/{what}", "POST", body)
        if status not in (200, 201):
            sys.exit(f"{what} is not done: {status} {answer}")
        position = max(position, answer["position"])
    for account in (busy, quiet, *ids[:3]):
        path = f"/v1/accounts/{account}/transactions?min_position={position}"
        told = [history(server, path) for server in (node, front)]
        check(f"the history of {account}", *told)
        check("it has entries", True, len(told[0]) >= 1)
    for path in (
        f"{unknown}/transactions",
        f"{unknown}/transactions?cursor=1",
        f"{unknown}/transactions?cursor=x",
        f"{busy}/transactions?cursor=x",
        f"{busy}/transactions?cursor=-1",
        f"{busy}/transactions?cursor=5",
        f"{busy}/transactions?cursor=18446744073709551615",
        f"{busy}/transactions?limit=0",
        f"{busy}/transactions?limit=1001",
        f"{busy}/transactions?colour=red",
        "me/transactions",
    ):
        told = [server.ask(f"/v1/accounts/{path}") for server in (node, front)]
        check(f"what is wrong with {path}", *told)
        check("it is wrong", True, told[0][0] in (400, 404))


def history(server, path):
    """All of it, two by two; and each page alone."""
    entries, cursor = [], ""
    while True:
        status, page = server.ask(f"{path}&limit=2{cursor}")
        if status != 200 or page.pop("as_of") is None:
            return status, page
        entries.append(page)
        if page["next"] is None:
            return entries
        cursor = f"&cursor={page['next']}"


def manners(front):
    status, answer = front.ask("/v1/accounts?min_position=1000000000")
    check("a place that is far", (504, True), (status, "not-there-yet" in str(answer)))
    check("a mistake", 400, front.ask("/v1/accounts?limit=0")[0])
    check("a path that is not there", 404, front.ask("/v1/streams")[0])
    check("a page of elsewhere", 403, front.ask("/v1/accounts", headers={"Origin": "http://x"})[0])
    check("it changes nothing", 405, front.ask("/v1/accounts", "POST", {})[0])
    check("live", 204, front.ask("/health/live")[0])
    check("ready", 200, front.ask("/health/ready")[0])
    check("metrics", True, "daybook_postgres_connections" in front.ask("/metrics")[1])
    check("description", True, "/v1/accounts" in front.ask("/openapi.json")[1]["paths"])


def restart(node, front, account, owner):
    subprocess.run([RESTART], check=True, stdin=subprocess.DEVNULL)
    position = deposit(node, account, "1.00")
    path = f"/v1/accounts?owner={owner}&limit=100&min_position={position}"
    eventually("the front answers after a restart", lambda: front.ask(path)[0] == 200)
    check("ready after PostgreSQL's restart", 200, front.ask("/health/ready")[0])


def main():
    node = Server("node", "serve", "--data", f"{SCRATCH}/data", "--read-models", POSTGRES)
    front = lambda n: Server(f"front {n}", "query", "serve", "--postgres", FRONT)
    fronts = [front(1), front(2)]
    eventually("the views are there", lambda: fronts[0].ask("/health/ready")[0] == 200)
    accounts, owner = lists(node, fronts)
    own_writes(node, fronts, accounts[0], owner)
    transfers(node, fronts[0], accounts[1], accounts[2])
    histories(node, fronts[0], owner, accounts)
    manners(fronts[0])
    fronts[1].process.kill()
    fronts[1].process.wait()
    restart(node, fronts[0], accounts[0], owner)
    fronts.append(front(3))
    check("a new front answers alike", *(every_page(f, f"/v1/accounts?owner={owner}") for f in fronts[::2]))
    check("SIGTERM ends the node with 0", 0, node.end())
    check("a front needs no node", 200, fronts[0].ask(f"/v1/accounts?owner={owner}")[0])
    for server in fronts[::2]:
        check(f"SIGTERM ends {server.name} with 0", 0, server.end())
    logs = "".join(server.logged() for server in (node, *fronts))
    check("no password in a log", False, PASSWORD in logs)
    check("no panic in a log", False, "panicked" in logs)
    refused = subprocess.run(
        [BIN, "query", "serve", "--postgres", f"postgres://u:{PASSWORD}@h:x/d"],
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )
    check("nor in a refusal", (1, False), (refused.returncode, PASSWORD in refused.stderr))
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(f"FAILED  front: {ended.code}\n{passed} passed, {failed + 1} failed")
            sys.exit(1)
        raise
