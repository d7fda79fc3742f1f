"""`python -m broker.crowd_watch`: looks every second whether the stored data is sound while the crowd trades, and sums up.

It reads and never writes. The first violation is told at once and ends the watch; otherwise it waits for the crowd to be done
and for everything in flight to settle, audits all there is once more, and tells what came of the day. Exit status 0 only when
every look found nothing.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
import psycopg
import redis

from broker.crowd_summary import Mark, counted, lines, mark
from broker.invariants import (
    EXPIRED_FOR_MAX,
    Auditor,
    Connection,
    in_flight,
    money_has_its_currencys_digits,
    nothing_is_parked,
    snapshot,
    violations,
)
from bus import names
from bus.clock import Clock, Replay, clock_from_environment
from bus.store import LONG_LOOKS, load_config
from trading.views import rfc3339

LOOK_EVERY_S = 1.0
SETTLED_WITHIN_S = 60.0
"""After the crowd is done: what is still in flight by then is stuck."""
DONE_WITHIN_S = 60.0
"""After the day's end, for a crowd that was interrupted and has to come back to say that it is done."""
AWAY_MAX_S = 60.0
"""How long the database may be away before the watch gives up."""
RETRY_S = 0.2
VIOLATIONS_SHOWN_MAX = 50

Found = TypeVar("Found")


class WatchFailed(Exception):
    """The watch cannot be finished; the text says why."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="crowd_watch", description="Watch the crowd, and sum up.")
    parser.add_argument("--until-us", type=int, required=True, help="business time at which the crowd stops")
    given = parser.parse_args()
    clock = clock_from_environment()
    with Database(os.environ["DATABASE_URL"]) as database:
        watch = Watch(database, redis.Redis.from_url(os.environ["REDIS_URL"], socket_timeout=2), clock)
        try:
            watch.run(given.until_us)
        except WatchFailed as failure:
            watch.violations.append(str(failure))
            say(f"VIOLATION {failure}")
        watch.sum_up()
        say(verdict(watch.auditor.looks, watch.violations))
    return 1 if watch.violations else 0


def verdict(checks: int, violations: list[str]) -> str:
    """The last line, for scripts."""
    return f"invariants={'violated' if violations else 'ok'} checks={checks} violations={len(violations)}"


class Database:
    """A connection that comes back: what is read is read again in a new snapshot."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: Connection | None = None

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def read(self, question: Callable[[Connection], Found]) -> Found:
        """The answer from one snapshot. Raises WatchFailed when the database stays away."""
        deadline = time.monotonic() + AWAY_MAX_S
        while True:
            try:
                with self._opened() as connection, snapshot(connection):
                    return question(connection)
            except psycopg.OperationalError as error:
                self._connection = None
                if time.monotonic() > deadline:
                    raise WatchFailed(f"the database stayed away: {error}") from None
                time.sleep(RETRY_S)

    @contextmanager
    def _opened(self) -> Iterator[Connection]:
        if self._connection is None:
            self._connection = psycopg.connect(self._url, autocommit=True, connect_timeout=5, options=LONG_LOOKS)
        yield self._connection


class Watch:
    """One watch: looks, what they found, and the figures at the end."""

    def __init__(self, database: Database, bus: "redis.Redis", clock: Clock) -> None:
        self.violations: list[str] = []
        self._database, self._bus, self._clock = database, bus, clock
        self._speed = clock.speed if isinstance(clock, Replay) else 1.0
        self._expired_for_max = EXPIRED_FOR_MAX * max(self._speed, 1.0)
        self.auditor = Auditor(expired_for_max=self._expired_for_max)
        self._since: Mark = database.read(mark)
        self._began_us = clock()
        self._last_audit_s = 0.0

    def run(self, until_us: int) -> None:
        """Until all is settled, or something is wrong. Raises WatchFailed."""
        if self._look_until(lambda: self._crowd().get("state") == "done", self._seconds_to(until_us) + DONE_WITHIN_S):
            raise WatchFailed("the crowd did not get done")
        if not self.violations and self._look_until(self._is_settled, SETTLED_WITHIN_S):
            raise WatchFailed("still in flight: " + "; ".join(self._database.read(in_flight)[:5]))
        if not self.violations:
            started = time.monotonic()
            self._note(self._database.read(self._whole_audit))
            self._last_audit_s = time.monotonic() - started

    def _look_until(self, is_reached: Callable[[], bool], within_s: float) -> bool:
        """Look every second until it is reached or something is wrong; whether the time ran out before."""
        deadline, due_s = time.monotonic() + within_s, time.monotonic()
        while not self.violations:
            self._note(self._database.read(self._look))
            if self.violations or is_reached():
                return False
            if time.monotonic() > deadline:
                return True
            due_s = max(due_s + LOOK_EVERY_S, time.monotonic())
            time.sleep(max(due_s - time.monotonic(), 0))
        return False

    def _whole_audit(self, connection: Connection) -> list[str]:
        """Everything from nothing, also what only a look at all rows can tell."""
        digits = load_config(connection).currency_digits
        found = violations(connection, expired_for_max=self._expired_for_max)
        return found + money_has_its_currencys_digits(connection, digits)

    def _look(self, connection: Connection) -> list[str]:
        return self.auditor.look(connection) + nothing_is_parked(connection)

    def _note(self, found: list[str]) -> None:
        """Said at once."""
        self.violations += found
        for violation in found[:VIOLATIONS_SHOWN_MAX]:
            say(f"VIOLATION {violation}")

    def _is_settled(self) -> bool:
        return not self._database.read(in_flight)

    def _crowd(self) -> dict[str, str]:
        with suppress(redis.RedisError):
            found: Any = self._bus.hgetall(names.health("crowd"))
            return {name.decode(): value.decode() for name, value in found.items()}
        return {}

    def _seconds_to(self, until_us: int) -> float:
        return max(until_us - self._clock(), 0) / 1_000_000 / self._speed

    # ----------------------------------------------------------------------------------------------------- summing up

    def sum_up(self) -> None:
        say("what came of the crowd's day")
        say(f"  {'business time':<20} {rfc3339(self._began_us)} to {rfc3339(self._clock())}")
        detail = msgspec.json.decode(self._crowd().get("detail", "{}"))
        for label, name in (("commands", "sent"), ("protection asked", "shields"), ("refusals", "refused")):
            for line in counted(label, detail.get(name, {})):
                say(line)
        say(f"  {'without an answer':<20} {detail.get('unanswered', 'unknown')}")
        with suppress(WatchFailed):
            for line in self._database.read(self._figures):
                say(line)
        longest = self.auditor.longest_s
        checks = ", ".join(f"{name} {took * 1000:.0f}" for name, took in longest.items() if name != "look")
        look_ms = longest.get("look", 0) * 1000
        say(
            f"  {'invariants':<20} looked {self.auditor.looks} times, at most {look_ms:.0f} ms ({checks});"
            f" whole audit {self._last_audit_s * 1000:.0f} ms"
        )

    def _figures(self, connection: Connection) -> list[str]:
        began_at = "epoch", timedelta(microseconds=self._began_us)
        row = connection.execute("SELECT %s::timestamptz + %s", began_at).fetchone()
        assert row is not None
        return list(lines(connection, self._since, row[0]))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
