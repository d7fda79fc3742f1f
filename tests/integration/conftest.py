"""Databases and engines of a test's own."""

import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import psycopg
import pytest
import redis

from bus import names
from bus.client import Client
from bus.clock import wall
from bus.codec import encode
from tests.support.builders import quote
from tests.support.buses import Bus, emptied
from tests.support.database import copied, dropped, migrated
from tests.support.running import RunningEngine
from tests.support.trading import Connection, Load, fund, publish_config
from trading.accounts import ClientClass

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def house_template(postgres: str) -> str:
    """The address of a migrated, empty database to copy."""
    return migrated(postgres, f"house_{os.getpid()}")


@pytest.fixture
def house_database(house_template: str) -> Iterator[str]:
    """The address of a migrated, empty database of this test's own: what is committed stays in it."""
    address = copied(house_template, f"house_{os.getpid()}_{next(_numbers)}")
    yield address
    dropped(address)


class Start(Protocol):
    """Starts an engine with these arguments and environment."""

    def __call__(self, address: str = ..., *arguments: str, **environment: str) -> RunningEngine: ...


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

    def begin(address: str = house_database, *arguments: str, **environment: str) -> RunningEngine:
        log = tmp_path / f"engine{len(engines)}.log"
        engines.append(RunningEngine(address, redis_url, log, *arguments, **environment))
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


@pytest.fixture
def load(trading: RunningEngine, redis_url: str) -> Iterator[Load]:
    load = Load(redis_url)
    yield load
    load.stop()


@pytest.fixture(params=["amqp", "redis"])
def event_bus(request: pytest.FixtureRequest) -> Bus:
    """Each message broker in turn, with nothing of the bus in it."""
    if request.param == "amqp":
        environment = {"AMQP_URL": request.getfixturevalue("rabbitmq").url}
    else:
        environment = {"REDIS_URL": request.getfixturevalue("redis_url")}
    emptied(environment)
    return Bus(request.param, environment)
