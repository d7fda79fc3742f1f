"""The total-queue checker: what went into the outbox against what came out as effects.

Nothing lost, nothing invented, every effect once, each account's effects in order; before the consumer's memory anything may
come twice.
"""

import itertools
import json
import threading
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from bus.consuming import Consumer, DbConnection, Subscription, connect_database
from bus.publishing import Message, Publisher
from bus.relay import Relay
from tests.waiting import eventually

ACCOUNTS = 5
EFFECTS = "CREATE TABLE IF NOT EXISTS bus_effect (n serial, key text, account bigint, account_seq bigint)"


class Writer:
    """Commits rows into the outbox as an engine does: one transaction after the other, numbered without a gap."""

    def __init__(self, url: str, *, kind: str = "order.filled") -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._kind = kind
        self._numbers = itertools.count(1)
        self._account_seqs = dict.fromkeys(range(1, ACCOUNTS + 1), 0)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.written = 0
        self._allowed = 0

    def write(self, count: int) -> None:
        rows = [self._row(next(self._numbers)) for _ in range(count)]
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO outbox (shard, shard_seq, account, account_seq, kind, payload, at) "
                "VALUES (0, %s, %s, %s, %s, %s, now())",
                rows,
            )
        self.written += count

    def start(self) -> None:
        """From now on write what `until` asks for, ten rows at a time."""
        self._thread.start()

    def until(self, more: int) -> None:
        """So many more are committed, whatever happens to the rest of the house."""
        wanted = self._allowed = self.written + more
        eventually(lambda: self.written >= wanted, within_s=20)

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while not self._stopped.wait(0.01):
            if self.written < self._allowed:
                self.write(10)

    def _row(self, number: int) -> tuple[Any, ...]:
        account = number % ACCOUNTS + 1
        self._account_seqs[account] += 1
        return number, account, self._account_seqs[account], self._kind, json.dumps({"n": number})


class Running:
    """A relay or consumer at work in a thread of this process."""

    def __init__(self, worker: Relay | Consumer) -> None:
        self.worker = worker
        self._thread = threading.Thread(target=worker.run)
        self._thread.start()

    def stop(self) -> None:
        self.worker.stop()
        self._thread.join()
        self.worker.close()


def relay_of(url: str, publisher: Publisher) -> Relay:
    return Relay(shard=0, publisher=publisher, connecting=lambda: connect_database(url, name="relay"))


def effects_of(
    url: str, subscription: Subscription, handle: Callable[[DbConnection, Message], None] | None = None
) -> Consumer:
    """A consumer whose effect is a row in a table that would take the same row twice."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(EFFECTS)
    return Consumer(
        name="counter",
        subscription=subscription,
        handle=handle or record,
        connecting=lambda: connect_database(url, name="counter"),
    )


def record(connection: DbConnection, message: Message) -> None:
    json.loads(message.payload)
    connection.execute(
        "INSERT INTO bus_effect (key, account, account_seq) VALUES (%s, %s, %s)",
        (message.id, message.account, message.account_seq),
    )


def effects(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM bus_effect").fetchone()
    return int(row[0]) if row else 0


def complaints(url: str, *, without: Sequence[str] = ()) -> list[str]:
    """What does not hold between outbox and effects; `without` are keys that were parked."""
    with psycopg.connect(url) as connection:
        sent = [f"0:{seq}" for (seq,) in connection.execute("SELECT shard_seq FROM outbox ORDER BY shard_seq")]
        had = connection.execute("SELECT key, account, account_seq FROM bus_effect ORDER BY n").fetchall()
        cursor = connection.execute("SELECT published_seq FROM relay_cursor WHERE shard = 0").fetchone()
    keys = [key for key, _, _ in had]
    found = []
    if lost := set(sent) - set(keys) - set(without):
        found.append(f"lost: {len(lost)}, like {sorted(lost)[:3]}")
    if invented := set(keys) - set(sent):
        found.append(f"invented: {sorted(invented)[:3]}")
    if len(keys) != len(set(keys)):
        found.append(f"{len(keys) - len(set(keys))} effects came twice")
    for account in range(1, ACCOUNTS + 1):
        numbers = [seq for _, whose, seq in had if whose == account]
        if numbers != sorted(numbers):
            found.append(f"account {account}'s effects are out of order")
    if cursor is None or cursor[0] != len(sent):
        found.append(f"the cursor is at {cursor}, the outbox ends at {len(sent)}")
    return found
