"""Tasks that make the engine charge: delivered twice, at once, half, by two beats, they charge once."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
import redis

from apps.doors import connections
from apps.doors.ids import uuid7
from apps.operations.tasks import BEAT, roll_over, settle_commission
from broker.celery import REDELIVERED_AFTER_S, TIME_LIMIT_S, app, broker_url
from broker.embedded.rabbitmq import RunningRabbit
from bus import names
from bus.clock import Clock, clock_from
from bus.codec import encode
from tests.support.builders import config, group, instrument, policy, quote, rule
from tests.support.running import ROOT, RunningEngine
from tests.waiting import eventually
from trading.charges.swap import SwapMode, SwapTerms
from trading.commands import Deposit, OpenAccount, PlaceOrder, RollOver
from trading.orders import Side

NOON = datetime(2026, 11, 24, 12, tzinfo=ZoneInfo("America/New_York"))
"""A Tuesday: the next swap instant is five hours later."""
DAY_US = 86_400_000_000


def test_money_tasks_are_acknowledged_late_and_put_back_when_their_worker_dies() -> None:
    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost
    assert app.conf.worker_prefetch_multiplier == 1
    assert app.conf.broker_transport_options["visibility_timeout"] == REDELIVERED_AFTER_S > TIME_LIMIT_S
    assert app.conf.accept_content == ["json"]


def test_tasks_go_over_rabbitmq_where_there_is_one() -> None:
    redis_url = "unix:///data/redis.sock?db=0"
    assert broker_url({"REDIS_URL": redis_url, "AMQP_URL": "amqp://there"}) == "amqp://there"
    assert broker_url({"REDIS_URL": redis_url, "AMQP_URL": ""}) == "redis+socket:///data/redis.sock?virtual_host=0"


class House:
    """An engine whose business time can be moved on by starting it anew, and prices that follow it."""

    def __init__(self, database_url: str, redis_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._database, self._url, self._folder, self._patch = database_url, redis_url, folder, monkeypatch
        self._redis: redis.Redis = redis.Redis.from_url(redis_url)
        self._stopped = threading.Event()
        self._engine: RunningEngine | None = None
        self._clock: Clock | None = None
        self._prices = threading.Thread(target=self._price)

    def at(self, business_us: int) -> None:
        if self._engine is not None:
            assert self._engine.stop() == 0
        text = f"replay:{business_us}:1:{time.time_ns() // 1000}"
        self._patch.setenv("TRIBOOK_CLOCK", text)
        self._clock = clock_from(text)
        connections._engine.cache_clear()
        connections.clock.cache_clear()
        self._engine = RunningEngine(self._database, self._url, self._folder / "engine.log", clock=text)
        self._engine.until("up")
        if not self._prices.is_alive():
            self._prices.start()

    def stand_still(self, *, until_told: bool) -> None:
        assert self._engine is not None
        self._engine.process.send_signal(signal.SIGSTOP if until_told else signal.SIGCONT)

    def close(self) -> None:
        self._stopped.set()
        if self._prices.is_alive():
            self._prices.join()
        if self._engine is not None:
            self._engine.kill()
        connections.engine().close()
        connections._engine.cache_clear()
        connections.clock.cache_clear()

    def _price(self) -> None:
        while not self._stopped.wait(0.1):
            assert self._clock is not None
            made = encode(quote("EURUSD", "1.08510", at_us=self._clock()))
            self._redis.hset(names.quote("EURUSD"), mapping={"quote": made})
            self._redis.publish(names.QUOTES, made)


@pytest.fixture
def house(house_database: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    redis.Redis.from_url(redis_url).flushall()
    terms = config(groups={"pro": group("pro", commission_per_lot=Decimal(0))}, policy=policy(rule(id=1)))
    swap = SwapTerms(mode=SwapMode.POINTS, long=Decimal("-6.5"), short=Decimal("2.5"))
    terms.instruments["EURUSD"] = instrument("EURUSD", swap=swap)
    with psycopg.connect(house_database, autocommit=True) as connection:
        document = encode(terms).decode()
        connection.execute("INSERT INTO config_version VALUES (1, %s, now(), 'test')", (document,))
    house = House(house_database, redis_url, tmp_path, monkeypatch)
    yield house
    house.close()


def submit(command: Any) -> Any:
    return connections.engine().submit(command, 10)


def open_a_position() -> None:
    fields = {"group": "pro", "currency": "USD", "leverage": 30}
    submit(OpenAccount(id="open", key="open", account=1, **fields))  # type: ignore[arg-type]
    assert submit(Deposit(id="fund", key="fund", account=1, amount=Decimal("100000.00"))).refusal == ""
    tries = iter(range(1000))

    def bought() -> bool:
        """Again under another key while no fresh price is there."""
        name = f"00000000-0000-7000-8000-{next(tries):012d}"
        order = {"id": name, "key": name, "account": 1, "symbol": "EURUSD", "side": Side.BUY}
        return bool(submit(PlaceOrder(volume=Decimal("1.00"), **order)).refusal == "")  # type: ignore[arg-type]

    eventually(bought)


def charged(url: str) -> list[tuple[Decimal, int]]:
    """The swap of every open position, and how many accruals made it."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT p.swap, (SELECT count(*) FROM swap_accrual a WHERE a.position_id = p.id) FROM position p"
        ).fetchall()


def at_once(*runs: Any) -> None:
    threads = [threading.Thread(target=run) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_swap_is_charged_once_however_often_and_however_half_its_task_comes(
    house: House, house_database: str
) -> None:
    noon_us = int(NOON.timestamp() * 1_000_000)
    house.at(noon_us)
    open_a_position()
    roll_over.apply(task_id="too early")
    assert charged(house_database) == [(Decimal(0), 0)]
    house.at(noon_us + DAY_US)
    killed = "died after its first round"
    first_half = RollOver(id=str(uuid7()), key=f"roll/{killed}/0", actor=BEAT)
    at_once(
        lambda: roll_over.apply(task_id="delivered twice"),
        lambda: roll_over.apply(task_id="delivered twice"),
        lambda: roll_over.apply(task_id="another beat's"),
        lambda: submit(first_half),
    )
    roll_over.apply(task_id=killed)
    at_once(*(lambda: settle_commission.apply(task_id="delivered twice") for _ in range(2)))
    assert charged(house_database) == [(Decimal("-6.50"), 1)]


@pytest.fixture
def start_worker(house_database: str, redis_url: str, rabbitmq: RunningRabbit, tmp_path: Path) -> Iterator[Any]:
    """Starts a real worker over RabbitMQ; its process and the file that it writes its log to."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> tuple[subprocess.Popen[bytes], Path]:
        log = tmp_path / f"worker-{len(started)}.log"
        own = {"DATABASE_URL": house_database, "REDIS_URL": redis_url, "AMQP_URL": rabbitmq.url}
        command = ("celery", "-A", "broker", "worker", "--pool", "threads", "--concurrency", "1", "--loglevel", "info")
        with log.open("wb") as output:
            worker = subprocess.Popen(
                [sys.executable, "-m", *command],
                env={**os.environ, **own, "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"},
                cwd=ROOT,
                stdout=output,
                stderr=output,
            )
        started.append(worker)
        return worker, log

    yield start
    for worker in started:
        worker.kill()
        worker.wait()


def test_a_worker_that_is_killed_in_the_middle_of_a_money_task_has_charged_once(
    house: House, house_database: str, redis_url: str, rabbitmq: RunningRabbit, start_worker: Any
) -> None:
    """It has asked the engine to charge, and dies before it hears of it: RabbitMQ gives the same task to the next worker."""
    noon_us = int(NOON.timestamp() * 1_000_000)
    house.at(noon_us)
    open_a_position()
    house.at(noon_us + DAY_US)
    stream: redis.Redis = redis.Redis.from_url(redis_url)

    def newest() -> Any:
        return stream.xinfo_stream(names.commands(0))["last-generated-id"]

    house.stand_still(until_told=True)
    asked_before = newest()
    worker, _ = start_worker()
    with app.connection_for_write(rabbitmq.url) as line:
        roll_over.apply_async(task_id="its worker dies", connection=line)
    eventually(lambda: newest() != asked_before)
    worker.kill()
    worker.wait()
    assert charged(house_database) == [(Decimal(0), 0)], "the engine has not even read it"
    _, log = start_worker()
    eventually(lambda: "Task apps.operations.tasks.roll_over[its worker dies] received" in log.read_text())
    house.stand_still(until_told=False)
    eventually(lambda: "roll_over[its worker dies] succeeded" in log.read_text())
    assert charged(house_database) == [(Decimal("-6.50"), 1)]
