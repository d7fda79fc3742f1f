"""The house as clients meet it over REST: a migrated database, the demo broker, the real engine and the real web server.

No provider runs here: a desk publishes prices the way the LP manager does, and where a test needs a provider's word it
writes the inbox row that the provider's process would have written.
"""

import math
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import redis

from broker import processes
from broker.embedded.redis import start_redis
from bus import codec, names
from bus.clock import wall
from tests import services
from tests.waiting import eventually
from trading.quotes import LpTop, Quote

PRICES = {
    "EURUSD": ("1.08500", "1.08510"),
    "GBPUSD": ("1.26500", "1.26512"),
    "USDJPY": ("150.100", "150.112"),
    "USDCHF": ("0.88000", "0.88012"),
    "AUDUSD": ("0.65500", "0.65512"),
    "NZDUSD": ("0.60500", "0.60515"),
    "EURGBP": ("0.85700", "0.85712"),
    "EURJPY": ("162.800", "162.820"),
    "XAUUSD": ("2030.10", "2030.40"),
}
QUOTED_EVERY_S = 0.2


class Desk:
    """Publishes a fresh price of every symbol several times a second, except of those that a test has silenced.

    Prices stand still until a test moves one.
    """

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._lock = threading.Lock()
        self._seq = 0
        self._prices = dict(PRICES)
        self.silent: set[str] = set()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def move(self, symbol: str, bid: str, ask: str) -> None:
        """The market goes there, and stays."""
        with self._lock:
            self._prices[symbol] = (bid, ask)
            self._publish(symbol)

    def settle(self) -> None:
        """Back to where every test begins."""
        for symbol, (bid, ask) in PRICES.items():
            if self._prices[symbol] != (bid, ask):
                self.move(symbol, bid, ask)

    def _run(self) -> None:
        while not self._stop.wait(QUOTED_EVERY_S):
            with self._lock, suppress(redis.RedisError):  # a server that is slow for once must not end the market
                for symbol in PRICES.keys() - self.silent:
                    self._publish(symbol)

    def _publish(self, symbol: str) -> None:
        self._seq += 1
        bid, ask = (Decimal(text) for text in self._prices[symbol])
        at_us = wall()
        top = LpTop(
            lp="YOFX1",
            bid=bid,
            ask=ask,
            bid_size=Decimal(50),
            ask_size=Decimal(50),
            quote_id="q",
            at_us=at_us,
            tradable=True,
        )
        quote = Quote(symbol=symbol, seq=self._seq, bid=bid, ask=ask, at_us=at_us, tops=(top,))
        text = codec.encode(quote)
        fields = {"bid": str(bid), "ask": str(ask), "at_us": at_us, "seq": self._seq, "quote": text}
        self._redis.hset(names.quote(symbol), mapping=fields)  # type: ignore[arg-type]
        self._redis.expire(names.quote(symbol), names.QUOTE_TTL_S)
        self._redis.publish(names.QUOTES, text)


TOKEN_USED_S = 300.0


@dataclass
class House:
    """Where everything is."""

    url: str
    database_url: str
    redis: "redis.Redis"
    passwords: dict[str, str]
    desk: Desk
    engine: "subprocess.Popen[bytes]"
    environment: dict[str, str]
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict)
    """Each user's, and when it was given."""

    def anonymous(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60.0)

    def client(self, username: str) -> httpx.Client:
        """A logged-in client. Users log in seldom, since hashing a password takes its time; tokens live for ten minutes."""
        token, given_s = self._tokens.get(username, ("", -math.inf))
        if time.monotonic() > given_s + TOKEN_USED_S:
            token, given_s = self.log_in(username)["access"], time.monotonic()
            self._tokens[username] = token, given_s
        client = self.anonymous()
        client.headers["Authorization"] = f"Bearer {token}"
        return client

    def log_in(self, username: str) -> dict[str, Any]:
        with self.anonymous() as client:
            answer = client.post("/v1/auth/token", json={"username": username, "password": self.passwords[username]})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def manage(self, *arguments: str) -> str:
        """What a management command prints."""
        return _manage(self.environment, *arguments)

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return list(cursor.fetchall()) if cursor.description else []


@pytest.fixture(scope="session")
def house(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One house per test process. Its Redis is its own: an engine and a desk are at work in it all the time."""
    database_url = _database(postgres)
    data = services.new_folder()
    own_redis = start_redis(data)
    redis_url = own_redis.url
    port = _free_port()
    layout = processes.Layout(
        data=data,
        database_url=database_url,
        redis_url=redis_url,
        secret_key="functional-tests-functional-tests-functional-tests",
        clock="wall",
        http_port=port,
        stream_port=0,
        lpsim_port_base=0,
        lpsim_password="functional-tests",
    )
    environment = {**processes.environment(layout, os.environ), "TRIBOOK_LIMIT_LOGIN": "1000/minute"}
    environment |= {"TRIBOOK_LIMIT_OTHER": "1000/second", "TRIBOOK_LIMIT_HISTORY": "1000/second"}
    environment |= {"TRIBOOK_LIMIT_MONEY": "1000/minute"}
    for command in ("migrate", "seed_demo"):
        _manage(environment, command)
    logs = tmp_path_factory.mktemp("house")
    engine = _start(processes.python("engine"), environment, logs / "engine.log")
    web = _start(processes.web(port), environment, logs / "web.log")
    desk = Desk(redis_url)
    desk.start()
    try:
        _manage(environment, "seed_accounts")
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: _answers(url), within_s=30)
        passwords = codec.decode((data / "secrets" / "demo-logins.json").read_bytes(), dict[str, str])
        yield House(url, database_url, redis.Redis.from_url(redis_url), passwords, desk, engine, environment)
    finally:
        desk.stop()
        for process in (web, engine):
            process.terminate()
            process.wait(timeout=60)
        own_redis.stop()
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture
def anna(house: House) -> Iterator[httpx.Client]:
    """A retail client with account 10001 in EUR; the rules send her to the house."""
    with house.client("anna") as client:
        yield client


@pytest.fixture
def ben(house: House) -> Iterator[httpx.Client]:
    """A professional client with account 10002 in USD; the rules send him to the market."""
    with house.client("ben") as client:
        yield client


@pytest.fixture
def dealer(house: House) -> Iterator[httpx.Client]:
    with house.client("dealer") as client:
        yield client


ANNA, BEN = 10001, 10002


def market_order(**changes: Any) -> dict[str, Any]:
    """The body of a small order of anna's."""
    return {"account": ANNA, "symbol": "EURUSD", "side": "buy", "volume": "0.10", **changes}


def fresh_id(prefix: str = "t") -> str:
    return f"{prefix}-{uuid4().hex[:12]}"


def _database(postgres: str) -> str:
    """A database of its own on this process's server, so that no other test's clean-up reaches it."""
    name = f"functional_{os.getpid()}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    parts = psycopg.conninfo.conninfo_to_dict(postgres)
    return processes_address(postgres, str(parts["dbname"]), name)


def processes_address(url: str, old: str, new: str) -> str:
    """The same address with another database's name."""
    before, mark, after = url.partition("?")
    assert before.endswith(f"/{old}"), url
    return f"{before[: -len(old)]}{new}{mark}{after}"


def _manage(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=processes.ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _start(command: tuple[str, ...], environment: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as file:
        return subprocess.Popen(command, cwd=processes.ROOT, env=environment, stdout=file, stderr=file)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/time", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
