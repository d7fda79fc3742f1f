"""Durable, acknowledged orders through the engine, next to a bare COPY of the very same rows.

The engine: decide, group commit with the fence, the batch row and the outbox, acknowledged after COMMIT, commands from a
generator in the same process that keeps a fixed number of orders unanswered. The floor: the rows that the engine wrote,
ready-made as COPY text, into the same tables with the same constraints, in the same batches with as many COMMITs, and
nothing else.
"""

import sys
import time
from collections import deque
from collections.abc import Sequence
from random import Random
from typing import NamedTuple
from uuid import UUID

import psycopg
from msgspec.structs import replace

from bench.decide import eurusd, order
from bench.report import figure, inputs, percentile
from bench.services import copy_of, migrated_database, server_version
from bus.clock import wall
from bus.codec import encode
from engine.batch import Batch, StreamPosition
from engine.driver import SWITCH_INTERVAL_S, Arrived, Driver, Told
from engine.journal import Journal
from engine.rows import Append, copy_statement, rows_of
from engine.step import BATCH_MAX, Ack, Step, Taken
from tests.support.builders import config
from trading.commands import AnyCommand, Deposit, OpenAccount, PlaceOrder
from trading.numbers import parse_decimal
from trading.quotes import Quote

ORDERS = 20_000
OUTSTANDING = (64, 512)
ACCOUNTS = 50
QUOTE_EVERY_S = 0.5


class Generator:
    """Commands from memory, at most `outstanding` unanswered at a time; also the ear that hears the answers.

    A command counts as sent when an answer made room for it, however long the engine then lets it wait to be taken.
    """

    def __init__(self, commands: Sequence[AnyCommand], outstanding: int) -> None:
        self.commands = commands
        self.free_since = deque([time.perf_counter()] * outstanding)
        self.sent_at: dict[str, float] = {}
        self.latencies_ms: list[float] = []
        self.refused = 0
        self.next = 0
        self._quote_at = 0.0

    @property
    def is_done(self) -> bool:
        return len(self.latencies_ms) == len(self.commands)

    def seek(self, position: StreamPosition) -> None:
        self.next = int(position.id.partition("-")[0])

    def take(self, limit: int) -> Arrived:
        count = min(limit, len(self.free_since), len(self.commands) - self.next)
        taken = []
        for number in range(self.next, self.next + count):
            command = self.commands[number]
            self.sent_at[command.id] = self.free_since.popleft()
            taken.append(Taken(command, f"{number + 1}-0"))
        self.next += count
        return Arrived(taken, "bench")

    def quotes(self) -> Sequence[Quote]:
        now = time.monotonic()
        if now - self._quote_at < QUOTE_EVERY_S:
            return ()
        self._quote_at = now
        return (eurusd(wall()),)

    def tell(self, told: Sequence[Told]) -> None:
        now = time.perf_counter()
        for message in told:
            if isinstance(message, Ack):
                for _, answer in message.answers:
                    self.refused += bool(answer.refusal)
                    self.latencies_ms.append((now - self.sent_at.pop(answer.command_id)) * 1000)
                    self.free_since.append(now)


class RecordingJournal(Journal):
    """Keeps the batches, so that the floor can write the same rows."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.batches: list[Batch] = []

    def write(self, batch: Batch) -> None:
        super().write(batch)
        self.batches.append(batch)


def main() -> None:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with migrated_database() as url:
        publish(url)
        inputs(
            f"PostgreSQL {server_version(url)}, fsync and synchronous_commit on; {ORDERS} market orders of 0.10 EURUSD, "
            f"B-book, {ACCOUNTS} accounts, batches of at most 256"
        )
        for outstanding in OUTSTANDING:
            _compare(url, outstanding)


def publish(url: str) -> None:
    """The demo configuration as version 1, as the back office stores it."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO config_version (version, document, published_at, published_by) VALUES (1, %s, now(), 'bench')",
            (encode(config(version=1)).decode(),),
        )


def _compare(url: str, outstanding: int) -> None:
    with copy_of(url, f"engine_{outstanding}") as address:
        run = engine_run(address, orders=ORDERS, outstanding=outstanding)
    with copy_of(url, f"floor_{outstanding}") as address:
        copy_s = floor_run(address, run.batches)
    suffix = f"_{outstanding}_outstanding"
    figure("orders_per_commit" + suffix, ORDERS / len(run.batches))
    figure("rows_per_order" + suffix, rows_in(run.batches) / ORDERS)
    figure("engine_durable_orders_per_s" + suffix, ORDERS / run.seconds, 0)
    figure("engine_ack_ms_p50" + suffix, percentile(run.latencies_ms, 0.5))
    figure("engine_ack_ms_p99" + suffix, percentile(run.latencies_ms, 0.99))
    figure("copy_orders_per_s" + suffix, ORDERS / copy_s, 0)
    figure("engine_share_of_copy" + suffix, copy_s / run.seconds, 2)


class EngineRun(NamedTuple):
    """What a number of orders took, and the batches that they were stored in."""

    seconds: float
    latencies_ms: list[float]
    batches: list[Batch]


def engine_run(url: str, *, orders: int, outstanding: int, batch_max: int = BATCH_MAX) -> EngineRun:
    """So many market orders through a whole engine, at most `outstanding` unanswered at a time."""
    random = Random(orders)
    setup: list[AnyCommand] = []
    for number in range(1, ACCOUNTS + 1):
        setup.append(
            OpenAccount(
                id=f"a{number}",
                key=f"a{number}",
                account=number,
                group="retail",
                currency="USD",
                leverage=30,
                reply_to="b",
            )
        )
        money = parse_decimal("99999999999")
        setup.append(Deposit(id=f"d{number}", key=f"d{number}", account=number, amount=money, reply_to="b"))
    placed = [_named(order(number, account=1 + number % ACCOUNTS), random) for number in range(orders)]
    generator = Generator(setup, outstanding)
    journal = RecordingJournal(url)
    step = Step(0, batch_max=batch_max)
    shard = Driver(step=step, url=url, source=generator, tell=generator, clock=wall, journal=journal)
    started = [0.0]

    def measured() -> bool:
        """The accounts first; then the orders, timed from their first moment."""
        if generator.commands is setup and generator.is_done:
            generator.commands = [*setup, *placed]
            generator.latencies_ms.clear()
            journal.batches.clear()
            started[0] = time.perf_counter()
            generator.free_since = deque([started[0]] * outstanding)
        return generator.commands is not setup and len(generator.latencies_ms) == orders

    shard.run(until=measured)
    elapsed = time.perf_counter() - started[0]
    shard.close()
    if generator.refused:
        raise SystemExit(f"{generator.refused} orders were refused: the figures would mean nothing")
    return EngineRun(elapsed, list(generator.latencies_ms), list(journal.batches))


def _named(placed: PlaceOrder, random: Random) -> PlaceOrder:
    """With an id as clients make them: what is stored of it does not compress."""
    name = str(UUID(int=random.getrandbits(128), version=4))
    return replace(placed, id=name, key=name)


def rows_in(batches: list[Batch]) -> int:
    """How many new rows they hold."""
    return sum(append.rows for batch in batches for append in rows_of(batch).appends)


def floor_run(url: str, batches: list[Batch]) -> float:
    """Seconds for the same new rows, ready-made, with as many COMMITs."""
    ready = [[_whole(append) for append in rows_of(batch).appends] for batch in batches]
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        started = time.perf_counter()
        for appends in ready:
            cursor.execute("BEGIN")
            for statement, data in appends:
                with cursor.copy(statement) as copy:
                    copy.write(data)
            cursor.execute("COMMIT")
        return time.perf_counter() - started


def _whole(append: Append) -> tuple[str, bytes]:
    return copy_statement(append.table), bytes(append.data)
