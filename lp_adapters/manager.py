"""`python -m lp_adapters.manager`: the quotes process. Prices and session states in, one aggregated quote per symbol out.

What to believe is `aggregation`'s; here are the sockets, the timers and the writing. At most one quote per symbol leaves in
PUBLISH_EVERY_S, the newest; nothing is published that no provider has said.
"""

import logging
import os
import signal
import sys
import threading
import time
from typing import Any

import psycopg
import redis

from bus import names
from bus.clock import Clock, clock_from_environment
from bus.codec import DecodeError, decode, encode
from bus.health import beat
from bus.messages import LpPrice, LpState
from bus.store import SHORT_QUESTIONS, load_config
from lp_adapters.aggregation import Aggregator
from trading.configuration import Config
from trading.numbers import plain
from trading.quotes import Quote

logger = logging.getLogger("tribook.quotes")

PUBLISH_EVERY_S = 0.02
EXPIRE_EVERY_S = 0.05
REPORT_EVERY_S = 1.0
CONFIG_EVERY_S = 5.0
SESSION_SILENT_MAX_S = 5.0
"""A provider's process says every second how its session is; after this long without a word the session counts as down."""
BACK_OFF_MAX_S = 2.0
PRICES = names.lp_quotes("")


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())
    manager = Manager(os.environ["DATABASE_URL"], os.environ["REDIS_URL"], clock_from_environment())
    manager.run(stopping)


class Manager:
    """The process, around an Aggregator."""

    def __init__(self, database_url: str, redis_url: str, clock: Clock) -> None:
        self._database_url = database_url
        self._redis = redis.Redis.from_url(redis_url, socket_timeout=5, socket_connect_timeout=5)
        self._clock = clock
        self._aggregator: Aggregator | None = None
        self._heard_s: dict[tuple[str, str], float] = {}
        self._published_s: dict[str, float] = {}
        self._config_looked_s = float("-inf")
        self._config_is_due = True
        self._expired_s = self._reported_s = 0.0
        self._quotes = 0

    def run(self, stopping: threading.Event) -> None:
        """Until told to stop; through every outage of Redis and PostgreSQL."""
        wait_s = 0.1
        while not stopping.is_set():
            try:
                with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]
                    pubsub.psubscribe(f"{PRICES}*")
                    pubsub.subscribe(names.LP_STATE, names.CONFIG)
                    while not stopping.is_set():
                        self._turn(pubsub)
                        wait_s = 0.1
            except (redis.RedisError, OSError) as error:
                logger.warning("redis_away error=%s", error)
                stopping.wait(wait_s)
                wait_s = min(wait_s * 2, BACK_OFF_MAX_S)

    def _turn(self, pubsub: "redis.client.PubSub") -> None:
        """Hear what there is, then do what is due."""
        message = pubsub.get_message(timeout=PUBLISH_EVERY_S)
        until_s = time.monotonic() + PUBLISH_EVERY_S / 2
        while message is not None:
            self._hear(message)
            message = pubsub.get_message(timeout=0.0) if time.monotonic() < until_s else None
        now_s = time.monotonic()
        self._look_at_config_if_due(now_s)
        if now_s >= self._expired_s + EXPIRE_EVERY_S:
            self._expired_s = now_s
            self._expire(now_s)
        self._publish(now_s)
        if now_s >= self._reported_s + REPORT_EVERY_S:
            self._reported_s = now_s
            self._report()

    # ------------------------------------------------------------------------------------------------------- hearing

    def _hear(self, message: dict[str, Any]) -> None:
        channel, data = message["channel"].decode(), message["data"]
        if channel == names.CONFIG:
            self._config_is_due = True
        if self._aggregator is None:
            return
        try:
            if channel.startswith(PRICES):
                self._aggregator.take(decode(data, LpPrice), self._clock())
            elif channel == names.LP_STATE:
                self._session_is(decode(data, LpState))
        except DecodeError as error:
            logger.error("unreadable_message channel=%s error=%s", channel, error)

    def _session_is(self, state: LpState) -> None:
        assert self._aggregator is not None
        self._heard_s[state.lp, state.session] = time.monotonic()
        self._aggregator.session(state.lp, state.session, is_up=state.up)

    def _expire(self, now_s: float) -> None:
        if self._aggregator is None:
            return
        for (lp, session), heard_s in self._heard_s.items():
            if now_s > heard_s + SESSION_SILENT_MAX_S:
                self._aggregator.session(lp, session, is_up=False)
        self._aggregator.expire(self._clock())

    # ----------------------------------------------------------------------------------------------------- publishing

    def _publish(self, now_s: float) -> None:
        """Every changed symbol that has not been published just now; the others wait and lose nothing but time."""
        aggregator = self._aggregator
        if aggregator is None or not aggregator.changed:
            return
        due = [s for s in aggregator.changed if now_s >= self._published_s.get(s, 0.0) + PUBLISH_EVERY_S]
        quotes = []
        for symbol in due:
            del aggregator.changed[symbol]
            quote = aggregator.quote(symbol)
            if quote is not None:
                self._published_s[symbol] = now_s
                quotes.append(quote)
        self._send(quotes)

    def _send(self, quotes: list[Quote]) -> None:
        if not quotes:
            return
        self._quotes += len(quotes)
        with self._redis.pipeline(transaction=False) as pipeline:
            for quote in quotes:
                document = encode(quote)
                key = names.quote(quote.symbol)
                pipeline.hset(
                    key,
                    mapping={
                        "bid": plain(quote.bid),
                        "ask": plain(quote.ask),
                        "at_us": quote.at_us,
                        "seq": quote.seq,
                        "quote": document,
                    },
                )
                pipeline.expire(key, names.QUOTE_TTL_S)
                pipeline.publish(names.QUOTES, document)
            pipeline.execute()

    def _report(self) -> None:
        """Counters of the last second, and that we are alive."""
        aggregator = self._aggregator
        with self._redis.pipeline(transaction=False) as pipeline:
            for lp, counter in aggregator.counters.items() if aggregator else ():
                for reason, count in counter.items():
                    pipeline.hincrby(names.lp_counters(lp), reason, count)
            pipeline.execute()
        if aggregator:
            aggregator.counters.clear()
        detail = {"quotes": self._quotes, "crossings": aggregator.crossings if aggregator else 0}
        beat(self._redis, "quotes", "up" if aggregator else "waiting for a configuration", detail)

    # -------------------------------------------------------------------------------------------------- configuration

    def _look_at_config_if_due(self, now_s: float) -> None:
        if not self._config_is_due and now_s < self._config_looked_s + CONFIG_EVERY_S:
            return
        self._config_is_due, self._config_looked_s = False, now_s
        try:
            config = self._new_config()
        except (psycopg.Error, LookupError, DecodeError) as error:
            logger.warning("no_configuration error=%s", str(error).strip())
            return
        if config is not None and self._aggregator is None:
            self._aggregator = Aggregator(config)
        elif config is not None and self._aggregator is not None:
            self._aggregator.reconfigure(config)

    def _new_config(self) -> Config | None:
        """The newest configuration, or None when it is the one already used."""
        with psycopg.connect(
            self._database_url, connect_timeout=2, autocommit=True, options=SHORT_QUESTIONS
        ) as connection:
            found = connection.execute("SELECT coalesce(max(version), 0) FROM config_version").fetchone()
            newest = int(found[0]) if found else 0
            known = self._aggregator.config.version if self._aggregator else None
            return None if newest == known else load_config(connection)


if __name__ == "__main__":
    main()
