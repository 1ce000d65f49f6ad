"""The `eventsourcing` framework on its KurrentDB adapter: the framework's own suites for what keeps
events, each on a server of its own.

DAYBOOK_BIN is the server, the first argument a directory for data.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import unittest
from pathlib import Path
from uuid import uuid4

from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import IntegrityError
from eventsourcing.projection import ApplicationSubscription
from eventsourcing.tests.persistence import AggregateRecorderTestCase, ApplicationRecorderTestCase
from eventsourcing_kurrentdb.recorders import (
    KurrentDBAggregateRecorder,
    KurrentDBApplicationRecorder,
)
from kurrentdbclient import KurrentDBClient

DATA = Path(sys.argv[1])
BINARY = os.environ["DAYBOOK_BIN"]
START_SECONDS_MAX = 30


class OnDaybook:
    """Starts an empty server for each test."""

    def setUp(self):
        data = DATA / str(uuid4())
        data.mkdir(parents=True)
        log = data / "log"
        with log.open("ab") as said:
            self.server = subprocess.Popen(
                [BINARY, "serve", "--data", data / "data", "--listen", "127.0.0.1:0"],
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
        until = time.monotonic() + START_SECONDS_MAX
        address = None
        while address is None:
            assert self.server.poll() is None and time.monotonic() < until, log.read_text()
            for line in log.read_bytes().splitlines():
                said = json.loads(line) if line.startswith(b"{") and line.endswith(b"}") else {}
                if said.get("message") == "ready":
                    address = said["address"]
            time.sleep(0.02)
        self.uri = f"kurrentdb://{address}?tls=false"
        os.environ["PERSISTENCE_MODULE"] = "eventsourcing_kurrentdb"
        os.environ["KURRENTDB_URI"] = self.uri
        super().setUp()

    def tearDown(self):
        super().tearDown()
        self.server.kill()
        self.server.wait()

    def client(self):
        client = KurrentDBClient(self.uri)
        self.addCleanup(client.close)
        return client


class AggregateRecorder(OnDaybook, AggregateRecorderTestCase):
    # A stream begins with 0.
    INITIAL_VERSION = 0

    def create_recorder(self):
        return KurrentDBAggregateRecorder(self.client())


class ApplicationRecorder(OnDaybook, ApplicationRecorderTestCase):
    INITIAL_VERSION = 0
    # What a server writes for itself has places, too.
    EXPECT_CONTIGUOUS_NOTIFICATION_IDS = False

    # The adapter says 0 where this case wants none, with KurrentDB, too; `Aggregates` has what it asks.
    test_insert_select = None

    def create_recorder(self):
        recorder = KurrentDBApplicationRecorder(self.client())
        recorder.validate_uuids = True
        return recorder


class Account(Aggregate):
    INITIAL_VERSION = 0

    @event("Opened")
    def __init__(self, owner: str):
        self.owner = owner
        self.balance = 0

    @event("Deposited")
    def deposit(self, amount: int):
        self.balance += amount


class Bank(Application):
    is_snapshotting_enabled = True


class Aggregates(OnDaybook, unittest.TestCase):
    def bank(self):
        """A bank whose client is closed with the test: one that is left to the garbage collector can be
        collected while gRPC holds the lock that its closing waits for."""
        bank = Bank()
        self.addCleanup(bank.close)
        self.addCleanup(bank.factory.client.close)
        return bank

    def test_two_writers_of_one_aggregate_meet(self):
        bank = self.bank()
        account = Account("ada")
        bank.save(account)
        first, second = (bank.repository.get(account.id) for _ in range(2))
        first.deposit(10)
        second.deposit(5)
        bank.save(first)
        with self.assertRaises(IntegrityError):
            bank.save(second)
        again = bank.repository.get(account.id)
        self.assertEqual((again.balance, again.version), (10, 1))
        bank.take_snapshot(account.id)
        again.deposit(1)
        bank.save(again)
        self.assertEqual(bank.repository.get(account.id).balance, 11)
        self.assertEqual(bank.repository.get(account.id, version=1).balance, 10)
        with self.assertRaises(AggregateNotFoundError):
            bank.repository.get(uuid4())

    def test_what_was_stored_is_selected_and_followed(self):
        bank = self.bank()
        begin = bank.recorder.max_notification_id()
        accounts = [Account(owner) for owner in ("ada", "bob", "eve")]
        for account in accounts:
            account.deposit(3)
            bank.save(account)
        bank.take_snapshot(accounts[0].id)
        selected = bank.notification_log.select(begin, 10, inclusive_of_start=False)
        self.assertEqual(len(selected), 6, "snapshots are not among them")
        self.assertEqual(
            [str(each.originator_id) for each in selected],
            [str(account.id) for account in accounts for _ in range(2)],
        )
        last = bank.recorder.max_notification_id()
        followed = []
        with ApplicationSubscription(bank, gt=begin) as subscription:
            for happened, tracking in subscription:
                followed.append(str(happened.originator_id))
                if tracking.notification_id == last:
                    break
        self.assertEqual(followed, [str(each.originator_id) for each in selected])


def main() -> int:
    load = unittest.defaultTestLoader.loadTestsFromTestCase
    suite = unittest.TestSuite(load(each) for each in OnDaybook.__subclasses__())
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
