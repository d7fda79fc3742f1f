"""The quotes process as it really runs, between a real Redis and a real PostgreSQL: prices in, quotes out."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from msgspec.structs import replace

from bus import names
from bus.codec import decode_quote, encode
from bus.messages import LpPrice, LpState
from tests.support.builders import config, lp_settings
from tests.waiting import eventually
from trading.quotes import Quote

ROOT = Path(__file__).resolve().parents[2]
TABLE = """
CREATE TABLE config_version (version integer PRIMARY KEY, document json, published_at timestamptz, published_by text)
"""


class Market:
    """What providers' processes would say, and what the quotes process makes of it."""

    def __init__(self, database: str, redis_url: str) -> None:
        self.redis = redis.Redis.from_url(redis_url)
        self.redis.flushall()
        self.db: psycopg.Connection[Any] = psycopg.connect(database, autocommit=True)
        self.db.execute(TABLE)
        self._pubsub = self.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._pubsub.subscribe(names.QUOTES)
        self.quotes: list[Quote] = []
        environment = {
            **os.environ,
            "DATABASE_URL": database,
            "REDIS_URL": redis_url,
            "TRIBOOK_CLOCK": "wall",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}",
        }
        self.process = subprocess.Popen([sys.executable, "-m", "lp_adapters.manager"], env=environment, cwd=ROOT)

    def publish_config(self, document: Any) -> None:
        self.db.execute(
            "INSERT INTO config_version VALUES (%s, %s, now(), 'test')", (document.version, encode(document).decode())
        )
        self.redis.publish(names.CONFIG, str(document.version))

    def tick(self, lp: str, bid: str, ask: str, *, symbol: str = "EURUSD") -> None:
        price = LpPrice(
            lp=lp,
            symbol=symbol,
            bid=Decimal(bid),
            ask=Decimal(ask),
            bid_size=Decimal(1_000_000),
            ask_size=Decimal(1_000_000),
            quote_id="q",
            at_us=time.time_ns() // 1000,
        )
        self.redis.publish(names.lp_quotes(lp), encode(price))

    def state(self, lp: str, session: str, *, up: bool = True) -> None:
        self.redis.publish(names.LP_STATE, encode(LpState(lp=lp, session=session, up=up, at_us=time.time_ns() // 1000)))

    def heard(self) -> list[Quote]:
        while (message := self._pubsub.get_message()) is not None:
            self.quotes.append(decode_quote(message["data"]))
        return self.quotes

    def last(self) -> Quote | None:
        return self.heard()[-1] if self.heard() else None

    def is_state(self, state: bytes) -> bool:
        return self.redis.hget(names.health("quotes"), "state") == state

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.db.close()


@pytest.fixture
def market(empty_database: str, redis_url: str) -> Iterator[Market]:
    market = Market(empty_database, redis_url)
    market.publish_config(config())
    eventually(lambda: market.is_state(b"up"))
    yield market
    market.close()


def test_prices_become_one_quote(market: Market) -> None:
    market.state("YOFX1", "trade")
    market.tick("YOFX1", "1.08500", "1.08512")
    market.tick("PRIMEXM", "1.08502", "1.08514")
    quote = eventually(market.last)
    assert (str(quote.bid), str(quote.ask), quote.seq) == ("1.08502", "1.08512", 1)
    assert [(top.lp, top.tradable) for top in quote.tops] == [("YOFX1", True), ("PRIMEXM", False)]
    kept = market.redis.hgetall(names.quote("EURUSD"))
    assert decode_quote(kept[b"quote"]) == quote
    assert (kept[b"bid"], kept[b"ask"], kept[b"seq"]) == (b"1.08502", b"1.08512", b"1")
    assert 50 < int(market.redis.ttl(names.quote("EURUSD"))) <= names.QUOTE_TTL_S


def test_a_session_that_comes_up_or_falls_silent_is_seen_in_the_quote(market: Market) -> None:
    for _ in range(2):
        market.tick("YOFX1", "1.08500", "1.08512")
    eventually(lambda: (quote := market.last()) and not quote.tops[0].tradable)
    market.state("YOFX1", "trade")
    eventually(lambda: (quote := market.last()) and quote.tops and quote.tops[0].tradable)

    def lapsed() -> bool:
        market.tick("YOFX1", "1.08500", "1.08512")
        quote = market.last()
        return quote is not None and not quote.tops[0].tradable

    eventually(lapsed, within_s=15.0)


def test_dropped_ticks_are_counted_by_reason(market: Market) -> None:
    for _ in range(2):
        market.tick("YOFX1", "1.08500", "1.08512")
    for bid, ask in (("1.08513", "1.08512"), ("1.08512", "1.08512"), ("0", "1"), ("1.5", "1.6")):
        market.tick("YOFX1", bid, ask)
    market.redis.publish(names.lp_quotes("YOFX1"), b'{"lp": "YOFX1"')
    expected = {
        b"received": b"6",
        b"unconfirmed": b"1",
        b"crossed": b"1",
        b"locked": b"1",
        b"zero": b"1",
        b"spike": b"1",
    }
    eventually(lambda: market.redis.hgetall(names.lp_counters("YOFX1")) == expected)


def test_a_burst_is_conflated_without_a_gap_and_ends_with_the_newest(market: Market) -> None:
    for number in range(2_000):
        market.tick("YOFX1", f"1.08{number % 100 + 100}", f"1.08{number % 100 + 110}")
    market.tick("YOFX1", "1.08400", "1.08444")
    eventually(lambda: (quote := market.last()) and str(quote.ask) == "1.08444")
    assert [quote.seq for quote in market.heard()] == list(range(1, len(market.quotes) + 1))
    assert len(market.quotes) < 500


def test_a_new_configuration_is_taken(market: Market) -> None:
    for _ in range(2):
        market.tick("YOFX1", "1.08500", "1.08512")
    eventually(lambda: (quote := market.last()) and quote.tops)
    market.publish_config(replace(config(), version=2, lps={"PRIMEXM": lp_settings("PRIMEXM")}))
    eventually(lambda: (quote := market.last()) and quote.tops == ())


def test_lost_connections_are_made_again(market: Market) -> None:
    market.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")  # type: ignore[no-untyped-call]
    market.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]

    def quoted() -> bool:
        market.tick("YOFX1", "1.08500", "1.08512")
        return bool(market.redis.exists(names.quote("EURUSD")))

    eventually(quoted)


def test_it_stops_when_told(market: Market) -> None:
    market.process.send_signal(signal.SIGTERM)
    assert market.process.wait(60) == 0
