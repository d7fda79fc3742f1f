"""What is too much or too slow is said at once or waited for, and never becomes a second order."""

import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from bus.client import AnswerTimeout, Busy, Client
from bus.clock import wall
from engine.driver import Driver
from engine.journal import Connection, Facts, Journal, connect
from engine.step import Step
from tests import invariants
from tests.support.builders import eurusd
from tests.support.memory import Ear, MemoryStream
from tests.support.running import RunningEngine
from tests.support.trading import Load, buy, check, filled, one, publish_config
from tests.waiting import eventually
from trading.commands import Deposit, OpenAccount

# --- The engine does not take ------------------------------------------------------------------------------------------


def test_a_full_stream_says_busy_at_once_and_what_was_taken_is_done_once(
    trading: RunningEngine, door: Client, database: psycopg.Connection[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(door, 1)
    monkeypatch.setattr("bus.client.WAITING_MAX", 20)
    trading.process.send_signal(signal.SIGSTOP)
    outcomes: dict[int, tuple[str, float]] = {}

    def ask(number: int) -> None:
        began = time.monotonic()
        try:
            door.submit(buy(number), 3)
            outcomes[number] = "answered", time.monotonic() - began
        except Busy:
            outcomes[number] = "busy", time.monotonic() - began
        except AnswerTimeout:
            outcomes[number] = "unknown", time.monotonic() - began

    with ThreadPoolExecutor(60) as doors:
        list(doors.map(ask, range(100, 160)))
    busy = {number for number, (outcome, _) in outcomes.items() if outcome == "busy"}
    assert len(busy) == 40
    assert statistics.median(outcomes[number][1] for number in busy) < 3, "it need not wait to be told"
    trading.process.send_signal(signal.SIGCONT)
    taken = set(outcomes) - busy
    eventually(lambda: one(database, "SELECT count(*) FROM trade_order") == 1 + len(taken), within_s=30)
    stored = {row[0] for row in database.execute("SELECT client_order_id FROM trade_order").fetchall()}
    assert stored == {buy(number).key for number in {1} | taken}
    assert invariants.violations(database) == []


# --- The database does not take ----------------------------------------------------------------------------------------


class Desk:
    """An engine in this process that gives a lock up after a tenth of a second. Its business time stands still, so that no
    price grows old while it waits."""

    def __init__(self, url: str) -> None:
        self.stream, self.ear = MemoryStream(), Ear()
        self.now_us = wall()

        def impatient(name: str) -> Connection:
            connection = connect(url, name=name)
            connection.execute("SET lock_timeout = '100ms'")
            return connection

        self.driver = Driver(
            step=Step(),
            url=url,
            source=self.stream,
            tell=self.ear,
            clock=lambda: self.now_us,
            connecting=impatient,
            journal=Journal(url, connecting=impatient),
            facts=Facts(url, connecting=impatient),
        )
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=lambda: self.driver.run(until=self._stopped.is_set))
        self._thread.start()

    def until_answered(self, count: int) -> None:
        eventually(lambda: len(self.ear.answers) >= count, within_s=20)

    def price(self) -> None:
        self.stream.fresh_quotes["EURUSD"] = eurusd("1.08510", at_us=self.now_us)

    def close(self) -> None:
        self._stopped.set()
        self._thread.join()
        self.driver.close()


@pytest.fixture
def desk(house_database: str, database: psycopg.Connection[tuple[Any, ...]]) -> Iterator[Desk]:
    publish_config(database)
    desk = Desk(house_database)
    desk.stream.add(OpenAccount(id="o", key="o", account=1, group="retail", currency="USD", leverage=30, reply_to="t"))
    desk.stream.add(Deposit(id="d", key="d", account=1, amount=Decimal("100000.00"), reply_to="t"))
    desk.until_answered(2)
    yield desk
    desk.close()


@pytest.mark.parametrize("table", ["deal", "position", "engine_batch", "account", "shard"])
def test_a_table_that_somebody_holds_costs_time_and_no_order(
    desk: Desk, database: psycopg.Connection[tuple[Any, ...]], house_database: str, table: str
) -> None:
    """As when a person at a prompt alters a table: the same commands are decided again under the same numbers."""
    before = one(database, "SELECT epoch FROM shard")
    with psycopg.connect(house_database) as admin:
        admin.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        desk.price()
        for number in range(1, 11):
            desk.stream.add(buy(number, reply_to="t"))
        eventually(lambda: "waiting" in desk.driver.problem or desk.driver.step.epoch > before + 1, within_s=20)
        assert len(desk.ear.answers) == 2, "nothing is told that is not durable"
    desk.price()
    desk.until_answered(12)
    told = desk.ear.answers[2:]
    assert [answer.command_id for answer in told] == [buy(number).id for number in range(1, 11)]
    assert [answer.reference for answer in told] == list(range(1, 11)), "no number was lost, none was given twice"
    assert one(database, "SELECT count(*) FROM trade_order") == 10
    assert invariants.violations(database) == []


@pytest.fixture
def slow_commits(load: Load, database: psycopg.Connection[tuple[Any, ...]]) -> Iterator[None]:
    """Every flush of the engine's own backend takes a third of a second longer."""
    load.until(20)
    backend = one(
        database,
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'tribook engine journal' AND datname = current_database()",
    )
    delay = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=300000"]
    with subprocess.Popen(["strace", "-qq", "-o", "/dev/null", *delay, "-p", str(backend)]) as tracer:
        yield
        tracer.terminate()


def test_a_slow_disk_makes_orders_slow_and_not_double(
    load: Load, slow_commits: None, trading: RunningEngine, database: psycopg.Connection[tuple[Any, ...]]
) -> None:
    eventually(lambda: trading.health()[1]["batch_ms_p99"] > 300, within_s=30)
    load.until(10)
    load.stop()
    check(database, load)
    asked = one(database, "SELECT count(*), count(DISTINCT client_order_id) FROM trade_order")
    assert asked[0] == asked[1]
    assert one(database, "SELECT max(epoch) FROM engine_batch") == 1, "slow is not dead"
