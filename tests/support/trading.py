"""What trades with a real engine process: a configuration, funded accounts, orders, and doors under load."""

import threading
from decimal import Decimal
from typing import Any

import psycopg

from bus.client import AnswerTimeout, Busy, Client
from bus.clock import wall
from bus.codec import encode
from tests import invariants
from tests.support.builders import config
from tests.waiting import eventually
from trading.answers import Answer
from trading.commands import Deposit, OpenAccount, PlaceOrder
from trading.orders import Side
from trading.refusals import Refusal

Connection = psycopg.Connection[Any]


def publish_config(database: Connection, version: int = 1) -> None:
    document = encode(config(version=version)).decode()
    database.execute("INSERT INTO config_version VALUES (%s, %s, now(), 'test')", (version, document))


def fund(door: Client, account: int, **terms: Any) -> None:
    fields = {"group": "retail", "currency": "USD", "leverage": 30, **terms}
    door.submit(OpenAccount(id=f"open-{account}", key=f"open-{account}", account=account, **fields), 10)
    money = Deposit(id=f"fund-{account}", key=f"fund-{account}", account=account, amount=Decimal("1000000.00"))
    assert door.submit(money, 10).refusal == ""


def buy(number: int, *, account: int = 1, volume: str = "0.01", **fields: Any) -> PlaceOrder:
    name = f"00000000-0000-7000-8000-{number:012d}"
    given = {"id": name, "key": name, "account": account, "symbol": "EURUSD", "side": Side.BUY, **fields}
    return PlaceOrder(volume=Decimal(volume), **given)


def answered(door: Client, number: int, **fields: Any) -> Answer:
    """What becomes of an order: asked again with its key until an answer comes."""

    def ask() -> Answer | None:
        try:
            return door.submit(buy(number, **fields), 5)
        except (AnswerTimeout, Busy):
            return None

    return eventually(ask, within_s=30)


def filled(door: Client, number: int, **fields: Any) -> int:
    """The ticket of an order that must be filled; asked again as long as it is not priced."""

    def ask() -> int | None:
        answer = answered(door, number, **fields)
        if answer.refusal == Refusal.NO_QUOTES:
            return None
        assert answer.refusal == "", answer
        return answer.reference

    return eventually(ask, within_s=30)


def ask_again(door: Client, load: "Load") -> None:
    """What was sent and not answered: it was dealt, or came too late, or nothing was priced."""
    ends = {"", Refusal.COMMAND_EXPIRED, Refusal.NO_QUOTES}
    assert [answer for answer in (answered(door, n) for n in load.unknown) if answer.refusal not in ends] == []


def subscriber(bus: Any) -> Any:
    return bus.pubsub(ignore_subscribe_messages=True)


def one(database: Connection, query: str) -> Any:
    row = database.execute(query.encode()).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


class Load:
    """Doors that place orders as fast as they are answered, and remember what was acknowledged."""

    def __init__(self, redis_url: str, *, threads: int = 4) -> None:
        self._client = Client(redis_url, wall)
        self._stopped = threading.Event()
        self.acknowledged: list[tuple[int, str, int]] = []
        self.unknown: list[int] = []
        self._threads = [threading.Thread(target=self._place, args=(n,)) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def _place(self, thread: int) -> None:
        number = (thread + 1) * 1_000_000
        while not self._stopped.is_set():
            number += 1
            order = buy(number)
            try:
                answer = self._client.submit(order, 1.0)
            except (AnswerTimeout, Busy):
                self.unknown.append(number)
                continue
            self.acknowledged.append((1, order.key, answer.reference))

    def until(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        wanted = len(self.acknowledged) + count
        eventually(lambda: len(self.acknowledged) >= wanted, within_s=30)

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._client.close()


def check(database: Connection, load: Load) -> None:
    """Nothing acknowledged is missing, nothing was done twice, and everything adds up."""
    assert invariants.violations(database) == []
    assert invariants.acknowledged_is_durable(database, load.acknowledged) == []
