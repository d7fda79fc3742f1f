"""The engine as a process: what it waits for, what it answers, and what survives when it, Redis or PostgreSQL is hit."""

import re
import signal
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from bus import names
from bus.client import AnswerTimeout, Busy, Client
from bus.clock import wall
from bus.codec import decode, encode
from tests import invariants
from tests.support.builders import config, quote
from tests.support.running import RunningEngine
from tests.waiting import eventually
from trading.accounts import ClientClass
from trading.commands import Deposit, OpenAccount, PlaceOrder
from trading.liquidity import ExecutionReport, ReportKind
from trading.orders import OrderStatus, Side

Connection = psycopg.Connection[Any]
Start = Callable[..., RunningEngine]


@pytest.fixture
def bus(redis_url: str) -> Iterator["redis.Redis"]:
    client: redis.Redis = redis.Redis.from_url(redis_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def database(house_database: str) -> Iterator[Connection]:
    with psycopg.connect(house_database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def start(house_database: str, redis_url: str, bus: "redis.Redis", tmp_path: Path) -> Iterator[Start]:
    """Starts an engine, on another database if it is named; all are killed at the end."""
    engines: list[RunningEngine] = []

    def begin(address: str = house_database) -> RunningEngine:
        engines.append(RunningEngine(address, redis_url, tmp_path / f"engine{len(engines)}.log"))
        return engines[-1]

    yield begin
    for engine in engines:
        engine.kill()


@pytest.fixture
def door(redis_url: str, bus: "redis.Redis") -> Iterator[Client]:
    client = Client(redis_url, wall)
    yield client
    client.close()


@pytest.fixture
def prices(redis_url: str, bus: "redis.Redis") -> Iterator[None]:
    """Fresh quotes for as long as the test runs, as the LP manager publishes them."""
    stopped = threading.Event()
    client: redis.Redis = redis.Redis.from_url(redis_url)

    def publish() -> None:
        while not stopped.is_set():
            for symbol, bid in {"EURUSD": "1.08510", "GBPUSD": "1.25000"}.items():
                made = encode(quote(symbol, bid, at_us=wall()))
                client.hset(names.quote(symbol), mapping={"quote": made})
                client.publish(names.QUOTES, made)
            stopped.wait(0.1)

    thread = threading.Thread(target=publish)
    thread.start()
    yield
    stopped.set()
    thread.join()
    client.close()


@pytest.fixture
def trading(start: Start, database: Connection, door: Client, prices: None) -> RunningEngine:
    """An engine that is up, with account 1 (retail) and 2 (professional) funded."""
    publish_config(database)
    engine = start()
    engine.until("up")
    fund(door, 1)
    fund(door, 2, group="pro", client_class=ClientClass.PROFESSIONAL)
    return engine


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


def filled(door: Client, number: int, **fields: Any) -> int:
    """The ticket of an order that must be filled; asks again with its key as long as it is not known or not priced."""

    def ask() -> int | None:
        try:
            answer = door.submit(buy(number, **fields), 2)
        except (AnswerTimeout, Busy):
            return None
        assert answer.refusal == "", answer
        return answer.reference

    return eventually(ask, within_s=30)


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


@pytest.fixture
def load(trading: RunningEngine, redis_url: str) -> Iterator[Load]:
    load = Load(redis_url)
    yield load
    load.stop()


def check(database: Connection, load: Load) -> None:
    """Nothing acknowledged is missing, nothing was done twice, and everything adds up."""
    assert invariants.violations(database) == []
    assert invariants.acknowledged_is_durable(database, load.acknowledged) == []


# --- Starting and stopping ----------------------------------------------------------------------------------------------


def test_without_tables_it_says_what_it_waits_for_and_can_be_stopped(start: Start, empty_database: str) -> None:
    engine = start(empty_database)
    engine.until("waiting", "the database is migrated")
    assert engine.stop() == 0


def test_it_waits_for_a_configuration_and_takes_it_when_it_is_published(
    start: Start, database: Connection, bus: "redis.Redis"
) -> None:
    engine = start()
    engine.until("waiting", "published configuration")
    publish_config(database)
    bus.publish(names.CONFIG, b"1")
    engine.until("up")
    assert one(database, "SELECT config_version FROM engine_batch ORDER BY seq DESC LIMIT 1") == 1


def test_a_newer_configuration_is_decided_by_without_a_restart(
    trading: RunningEngine, database: Connection, bus: "redis.Redis", door: Client
) -> None:
    publish_config(database, version=2)
    bus.publish(names.CONFIG, b"2")
    eventually(lambda: one(database, "SELECT max(config_version) FROM engine_batch") == 2)
    filled(door, 1)
    assert one(database, "SELECT decision ->> 'config_version' FROM routing_decision") == "2"


def test_sigterm_leaves_a_hash_that_the_next_start_agrees_with(
    trading: RunningEngine, start: Start, database: Connection, door: Client
) -> None:
    filled(door, 1)
    assert trading.stop() == 0
    assert re.fullmatch(
        "[0-9a-f]{8}:[0-9a-f]{64}", one(database, "SELECT state_hash FROM engine_batch ORDER BY seq DESC LIMIT 1")
    )
    assert start().until("up")["positions"] == 1
    filled(door, 2)
    assert invariants.violations(database) == []


# --- Answers and events -------------------------------------------------------------------------------------------------


def test_an_order_is_filled_told_and_forgotten_by_the_stream(
    trading: RunningEngine, database: Connection, bus: "redis.Redis", door: Client
) -> None:
    listener: Any = subscriber(bus)
    listener.subscribe(names.events(0))
    listener.get_message(timeout=1.0)
    answer = door.submit(buy(1), 5)
    assert answer.order is not None
    assert answer.order.status is OrderStatus.FILLED
    heard: Any = eventually(lambda: listener.get_message(timeout=0.1))
    events = decode(heard["data"], list[dict[str, Any]])
    assert [event["kind"] for event in events] == ["position.opened", "account.balance", "order.filled"]
    assert [event["seq"] for event in events] == list(range(events[0]["seq"], events[0]["seq"] + 3))
    assert events[2]["payload"]["order"]["status"] == "filled"
    eventually(lambda: bus.xlen(names.commands(0)) == 0)
    listener.close()
    state, detail = trading.health()
    assert state == "up"
    assert detail["batch_ms_p50"] > 0


def test_the_same_key_is_answered_again_after_a_restart(
    trading: RunningEngine, start: Start, door: Client, database: Connection
) -> None:
    ticket = filled(door, 1)
    trading.kill()
    start().until("up")
    again = door.submit(buy(1), 5)
    other = door.submit(buy(1, volume="0.02"), 5)
    assert (again.replayed, again.reference) == (True, ticket)
    assert other.refusal == "client_order_id_reused"
    assert one(database, "SELECT count(*) FROM trade_order") == 1


def test_a_command_that_waited_too_long_is_refused(trading: RunningEngine, door: Client) -> None:
    assert door.submit(buy(1, valid_until_us=wall() - 1), 5).refusal == "command_expired"


def test_what_is_no_command_is_parked_and_the_rest_goes_on(
    trading: RunningEngine, database: Connection, bus: "redis.Redis", door: Client
) -> None:
    for raw in (b"{", b'{"command":"Rob","id":"x1"}', b"\xff"):
        bus.xadd(names.commands(0), {"c": raw})
    filled(door, 1)
    assert one(database, "SELECT count(*) FROM parked_command") == 3


def test_text_that_no_database_takes_is_parked_and_answered(
    trading: RunningEngine, database: Connection, door: Client
) -> None:
    assert door.submit(buy(1, comment="nul \0"), 10).refusal == "internal"
    filled(door, 2)
    assert one(database, "SELECT count(*) FROM trade_order") == 1
    assert one(database, "SELECT command ->> 'comment' IS NOT NULL FROM parked_command")


def test_a_providers_fill_reaches_the_door_that_waits(
    trading: RunningEngine, database: Connection, bus: "redis.Redis", door: Client
) -> None:
    listener: Any = subscriber(bus)
    listener.subscribe(names.nudge_lp("YOFX1"))
    listener.get_message(timeout=1.0)
    answers: list[Any] = []
    following = threading.Thread(target=lambda: answers.append(door.submit_and_follow(buy(1, account=2), 10)))
    following.start()
    eventually(lambda: listener.get_message(timeout=0.1))
    cl_ord_id, quantity = one(database, "SELECT cl_ord_id, quantity FROM lp_order")
    report = ExecutionReport(
        lp="YOFX1",
        kind=ReportKind.FILL,
        cl_ord_id=cl_ord_id,
        exec_id="E1",
        trade_date="20261121",
        side=Side.BUY,
        lp_symbol="EUR/USD",
        last_qty=quantity,
        last_px=Decimal("1.08520"),
    )
    database.execute(
        "INSERT INTO lp_inbox (lp, seq, kind, cl_ord_id, exec_id, trade_date, report, raw, received_at) "
        "VALUES ('YOFX1', 1, 'fill', %s, 'E1', '20261121', %s, '', now())",
        (cl_ord_id, encode(report).decode()),
    )
    bus.publish(names.NUDGE_ENGINE, b"YOFX1")
    following.join()
    listener.close()
    (answer,) = answers
    assert answer.final
    assert answer.order.status is OrderStatus.FILLED
    assert invariants.violations(database) == []


# --- Faults -------------------------------------------------------------------------------------------------------------


def test_a_killed_engine_loses_nothing_that_was_acknowledged(
    load: Load, trading: RunningEngine, start: Start, database: Connection, door: Client
) -> None:
    load.until(200)
    trading.kill()
    engine = start()
    load.until(200)
    engine.kill()
    start()
    load.until(100)
    load.stop()
    for number in load.unknown:
        filled(door, number)
    check(database, load)


def test_connections_of_postgresql_that_are_cut_again_and_again(
    load: Load, trading: RunningEngine, database: Connection, door: Client
) -> None:
    cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'tribook engine%'"
    for _ in range(5):
        load.until(50)
        assert one(database, cut) >= 1
    load.until(50)
    load.stop()
    check(database, load)
    assert one(database, "SELECT max(epoch) FROM engine_batch") > 1


def test_redis_that_forgets_everything_moves_no_money_and_trading_goes_on(
    load: Load, trading: RunningEngine, database: Connection, bus: "redis.Redis"
) -> None:
    for _ in range(3):
        load.until(50)
        bus.flushall()
    load.until(50)
    load.stop()
    check(database, load)


def test_a_stream_that_begins_again_with_smaller_ids_is_read_from_its_beginning(
    trading: RunningEngine, database: Connection, bus: "redis.Redis", door: Client
) -> None:
    filled(door, 1)
    bus.flushall()
    bus.xadd(names.commands(0), {"c": encode(buy(2))}, id="1-1")
    eventually(lambda: one(database, "SELECT count(*) FROM trade_order") == 2)
    assert one(database, "SELECT stream_id FROM engine_batch ORDER BY seq DESC LIMIT 1") == "1-1"


def test_an_older_owner_that_wakes_up_writes_nothing(
    load: Load, trading: RunningEngine, start: Start, database: Connection
) -> None:
    load.until(50)
    trading.process.send_signal(signal.SIGSTOP)
    start()
    load.until(50)
    trading.process.send_signal(signal.SIGCONT)
    assert "fenced" in eventually(lambda: fenced_line(trading), within_s=20)
    load.until(50)
    load.stop()
    check(database, load)
    assert trading.process.poll() is None


def test_a_state_that_does_not_hash_as_it_was_left_halts_the_shard_for_everybody(
    trading: RunningEngine, start: Start, database: Connection
) -> None:
    assert trading.stop() == 0
    database.execute("UPDATE account SET leverage = 29 WHERE id = 1")
    start().until("halted", "does not hash")
    assert "does not hash" in one(database, "SELECT halted FROM shard")


def fenced_line(engine: RunningEngine) -> str | None:
    return next((line for line in engine.log.read_text().splitlines() if "halted" in line), None)


def test_a_halted_shard_says_so_and_goes_on_when_an_operator_has_looked(
    trading: RunningEngine, start: Start, database: Connection, door: Client
) -> None:
    trading.kill()
    database.execute("UPDATE shard SET halted = 'the books do not add up'")
    engine = start()
    engine.until("halted", "the books do not add up")
    database.execute("UPDATE shard SET halted = ''")
    engine.until("up")
    filled(door, 1)
