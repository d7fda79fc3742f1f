"""An engine that is killed at its Nth system call, and a PostgreSQL whose backend is, for many N, under a small load.

Between any two calls is a place where a crash may fall: before the commit, in it, after it and before the answer, in the
middle of telling. Each time: nothing acknowledged is lost, what was committed unacknowledged is answered when it is asked for
again, and the outbox has every event.
"""

import json
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import redis

from broker.embedded.postgres import start_postgres
from broker.embedded.redis import start_redis
from broker.invariants import violations
from bus import names
from bus.client import AnswerTimeout, Busy, Client
from bus.clock import wall
from bus.codec import encode
from tests.soak import strace
from tests.soak.checkers import Finding, Wrong
from tests.support.builders import config, quote
from tests.support.database import migrated
from tests.support.running import RunningEngine
from tests.support.whole_house import is_alive
from tests.waiting import eventually
from trading.answers import Answer
from trading.commands import Deposit, OpenAccount, PlaceOrder
from trading.orders import OrderType, Side

ENGINE_CALLS = ("sendto", "recvfrom", "write", "futex")
BACKEND_CALLS = ("sendto", "recvfrom", "pwrite64", "fdatasync")
CALLS_MAX = {"fdatasync": 12, "pwrite64": 25, "futex": 400}
CALLS_MAX_ELSE = 120
ORDERS = 24
HANDS = 4
ANSWER_S = 2.0
ANSWERED_WITHIN_S = 40
ACCOUNT = 1

BACKENDS = """
SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'tribook engine%' AND datname = current_database()
"""
STORED = "SELECT client_order_id, id FROM trade_order WHERE client_order_id LIKE %s"
UNTOLD = """
SELECT id FROM trade_order o WHERE NOT EXISTS (
    SELECT 1 FROM outbox WHERE account = o.account AND (payload #>> '{order,ticket}')::bigint = o.id
)
"""


@dataclass(frozen=True, slots=True)
class Strike:
    """What is killed where."""

    victim: str
    call: str
    number: int

    def __str__(self) -> str:
        return f"{self.victim} at {self.call} {self.number}"


@dataclass
class Struck:
    strike: Strike
    killed: bool
    acknowledged: int
    committed_unacknowledged: int
    findings: list[Finding] = field(default_factory=list)


def strikes(count: int, seed: str) -> list[Strike]:
    """So many, evenly over both victims and all their calls."""
    rng = random.Random(f"{seed}/sweep")
    kinds = [("engine", call) for call in ENGINE_CALLS] + [("backend", call) for call in BACKEND_CALLS]
    return [
        Strike(victim, call, rng.randint(1, CALLS_MAX.get(call, CALLS_MAX_ELSE)))
        for victim, call in (kinds[place % len(kinds)] for place in range(count))
    ]


class Arena:
    """A private engine that trades, on stores of its own."""

    def __init__(self, database_url: str, redis_url: str, folder: Path) -> None:
        self.database_url, self.redis_url = database_url, redis_url
        self.folder = folder
        self.door = Client(redis_url, wall)
        self._stopped = threading.Event()
        self._prices = threading.Thread(target=self._publish_prices, daemon=True)
        self._starts = 0
        self._rounds = 0

    def open(self) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            document = encode(config()).decode()
            connection.execute("INSERT INTO config_version VALUES (1, %s, now(), 'sweep')", (document,))
        self._prices.start()
        self.engine = self.started()
        opening = OpenAccount(id="open", key="open", account=ACCOUNT, group="retail", currency="USD", leverage=30)
        self.until_answered(opening)
        money = Deposit(id="fund", key="fund", account=ACCOUNT, amount=Decimal("1000000.00"))
        self.until_answered(money)

    def close(self) -> None:
        self.engine.kill()
        self._stopped.set()
        self._prices.join()
        self.door.close()

    def started(self) -> RunningEngine:
        self._starts += 1
        engine = RunningEngine(self.database_url, self.redis_url, self.folder / f"engine{self._starts}.log")
        engine.until("up")
        return engine

    def _publish_prices(self) -> None:
        with redis.Redis.from_url(self.redis_url) as client:
            while not self._stopped.wait(0.1):
                made = encode(quote("EURUSD", "1.08510", at_us=wall()))
                client.hset(names.quote("EURUSD"), mapping={"quote": made})
                client.publish(names.QUOTES, made)

    # ------------------------------------------------------------------------------------------------------ one strike

    def strike(self, strike: Strike) -> Struck:
        self._rounds += 1
        commands = [self._order(number) for number in range(ORDERS)]
        victims = [self.engine.process.pid] if strike.victim == "engine" else self._backends()
        deadly = f"{strike.call}:signal=SIGKILL:when={strike.number}"
        with strace.attached(victims, deadly), ThreadPoolExecutor(HANDS) as hands:
            answers = list(hands.map(self._asked_while_alive, commands))
        told = {command.key: answer for command, answer in zip(commands, answers, strict=True) if answer is not None}
        killed = not all(is_alive(pid) for pid in victims)
        stored = eventually(self._stored, within_s=ANSWERED_WITHIN_S)
        if self.engine.process.poll() is not None:
            self.engine = self.started()
        self.engine.until("up")
        again = {command.key: self.until_answered(command) for command in commands}
        return Struck(
            strike,
            killed,
            acknowledged=len(told),
            committed_unacknowledged=len(stored.keys() - told.keys()),
            findings=[*_compared(told, stored, again), *self._violations(strike)],
        )

    def _order(self, number: int) -> PlaceOrder:
        """Every third one rests."""
        name = f"00000000-0000-7000-8000-{self._rounds:06d}{number:06d}"
        terms: dict[str, Any] = {"type": OrderType.LIMIT, "price": Decimal("0.90000")} if number % 3 == 2 else {}
        side = Side.BUY if number % 2 == 0 or terms else Side.SELL
        return PlaceOrder(
            id=name, key=name, account=ACCOUNT, symbol="EURUSD", side=side, volume=Decimal("0.01"), **terms
        )

    def _asked_while_alive(self, command: PlaceOrder) -> Answer | None:
        return None if self.engine.process.poll() is not None else self._asked_once(command)

    def _asked_once(self, command: PlaceOrder | OpenAccount | Deposit) -> Answer | None:
        try:
            return self.door.submit(command, ANSWER_S)
        except (AnswerTimeout, Busy):
            return None

    def until_answered(self, command: PlaceOrder | OpenAccount | Deposit) -> Answer:
        """As honest clients do: the same again until there is an answer."""

        def ask() -> Answer | None:
            return self._asked_once(command)

        return eventually(ask, within_s=ANSWERED_WITHIN_S)

    def _backends(self) -> list[int]:
        with psycopg.connect(self.database_url) as connection:
            return [pid for (pid,) in connection.execute(BACKENDS).fetchall()]

    def _stored(self) -> dict[str, int] | None:
        """What is committed of this round; None while the database is away, or a dead engine's transaction is not ended."""
        prefix = f"00000000-0000-7000-8000-{self._rounds:06d}%"
        try:
            with psycopg.connect(self.database_url, connect_timeout=2) as connection:
                if self.engine.process.poll() is not None and connection.execute(BACKENDS).fetchall():
                    return None
                return dict(connection.execute(STORED, (prefix,)).fetchall())
        except psycopg.OperationalError:
            return None

    def _violations(self, strike: Strike) -> list[Finding]:
        with psycopg.connect(self.database_url) as connection:
            found = violations(connection)
            found += [f"order {number} is in no event" for (number,) in connection.execute(UNTOLD).fetchall()]
            found += [f"parked: {row}" for row in connection.execute("SELECT * FROM parked_command").fetchall()]
        return [Finding(Wrong.VIOLATED, f"{strike}: {text}") for text in found]


def _compared(told: dict[str, Answer], stored: dict[str, int], again: dict[str, Answer]) -> list[Finding]:
    """What was answered the first time, what the database had after the crash, and what was answered the second time."""
    found = []
    for key, answer in told.items():
        if answer.refusal and key in stored and not answer.reference:
            found.append(Finding(Wrong.VIOLATED, f"{key} was refused ({answer.refusal}) and is stored"))
        if not answer.refusal and stored.get(key) != answer.reference:
            found.append(
                Finding(Wrong.LOST, f"{key} was acknowledged as {answer.reference}; stored: {stored.get(key)}")
            )
    for key, ticket in stored.items():
        if again[key].reference != ticket:
            found.append(
                Finding(Wrong.DUPLICATED, f"{key} was stored as {ticket} and is answered {again[key].reference}")
            )
    return found


@contextmanager
def arena(database_url: str, redis_url: str, folder: Path) -> Iterator[Arena]:
    made = Arena(database_url, redis_url, folder)
    made.open()
    try:
        yield made
    finally:
        made.close()


@contextmanager
def own_arena(folder: Path) -> Iterator[Arena]:
    """With a PostgreSQL and a Redis of its own, in this folder."""
    postgres, private = start_postgres(folder), start_redis(folder)
    try:
        with arena(migrated(postgres.url, "sweep"), private.url, folder) as made:
            yield made
    finally:
        private.stop()
        postgres.stop()


def told_in_a_line(struck: Struck) -> str:
    return json.dumps(
        {
            "strike": str(struck.strike),
            "killed": struck.killed,
            "acked": struck.acknowledged,
            "committed_unacked": struck.committed_unacknowledged,
            "found": len(struck.findings),
        }
    )
