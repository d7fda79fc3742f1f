"""The prices of the simulated providers, in a process of their own: `python -m lp_adapters.simulators.feed`.

Without TICKS they are invented (FEED_SEED, FEED_HOURS=real for a market that closes at weekends). With TICKS=PATH a
recording is played along the business clock at its SPEED, and only symbols that it does not have are invented, at the
speed of the wall clock. `--describe PATH` tells in JSON what a recording holds. Prices go to Redis `lpsim:feed:{lp}`.
"""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Protocol

import msgspec
import redis

from bus import clock
from bus.health import beat
from lp_adapters.simulators.conflation import Conflator
from lp_adapters.simulators.generator import SECOND_US, Generator
from lp_adapters.simulators.profiles import INSTRUMENTS, feed_channel
from lp_adapters.simulators.recording import (
    Playback,
    RecordingRefused,
    describe,
    find_feeds,
    first_price,
)
from lp_adapters.simulators.ticks import Tick

logger = logging.getLogger("tribook.lpsim-feed")

EXIT_BAD_INPUT = 2
STEP_S = 0.05
BEAT_S = 1.0
REDIS_TIMEOUT_S = 1.0
SPEED_MAX = 1000.0


class FeedRefused(ValueError):
    """The environment does not describe a feed: says what is wrong, in a sentence."""


class Source(Protocol):
    """Where ticks come from."""

    def due(self) -> Iterator[Tick]:
        """Every tick up to now that was not handed out before."""

    def detail(self) -> dict[str, object]:
        """What to show about it."""


class Invented:
    """The generator along a clock. What could not be sent while the process slept is not sent late."""

    def __init__(self, generator: Generator, now: clock.Clock) -> None:
        self._generator = generator
        self._now = now
        self._ticks: list[tuple[int, Tick]] = []
        self._second = now() // SECOND_US - 1

    def due(self) -> Iterator[Tick]:
        now_us = self._now()
        while self._second < now_us // SECOND_US:
            self._second = max(self._second + 1, now_us // SECOND_US - 1)
            self._ticks.extend(self._generator.ticks(self._second))
        place = next((i for i, (at_us, _) in enumerate(self._ticks) if at_us > now_us), len(self._ticks))
        ready, self._ticks = self._ticks[:place], self._ticks[place:]
        return (tick for _, tick in ready)

    def detail(self) -> dict[str, object]:
        return {}


class Recorded:
    """A recording along the business clock, from where the clock stood when the recording began."""

    def __init__(self, playback: Playback, now: clock.Clock, start_us: int) -> None:
        self._playback = playback
        self._now = now
        self._start_us = start_us

    def due(self) -> Iterator[Tick]:
        return self._playback.due(self._now() - self._start_us)

    def detail(self) -> dict[str, object]:
        played = self._playback
        return {"recorded_us": played.recorded_us, "cut_us": played.cut_us, "rounds": played.rounds}


def main(arguments: list[str] | None = None) -> int:
    """Run until told to stop, or describe a recording."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    parser = argparse.ArgumentParser(prog="python -m lp_adapters.simulators.feed", description="Prices for lpsim.")
    parser.add_argument("--describe", type=Path, metavar="PATH", help="tell in JSON what a recording holds, and end")
    given = parser.parse_args(arguments)
    try:
        if given.describe is not None:
            sys.stdout.write(msgspec.json.encode(describe(find_feeds(given.describe))).decode() + "\n")
            return 0
        sources = sources_for(os.environ)
        connection = _redis(os.environ.get("REDIS_URL", ""))
        _run(sources, connection, _stopped_by_signal())
    except (RecordingRefused, FeedRefused) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_BAD_INPUT
    return 0


def sources_for(environment: Mapping[str, str]) -> list[Source]:
    """What the environment asks for. Raises FeedRefused or RecordingRefused."""
    seed = int(_number(environment, "FEED_SEED", int))
    real_hours = environment.get("FEED_HOURS", "") == "real"
    ticks = environment.get("TICKS", "")
    if not ticks:
        return [Invented(Generator(seed, real_hours=real_hours), _business_clock(environment))]
    feeds = find_feeds(Path(ticks))
    start_us = describe(feeds).start_us
    now, wall_paced = _replay_clocks(environment, start_us)
    anchors: dict[str, Decimal] = {feed.symbol: first_price(feed) for feed in feeds}
    missing = tuple(symbol for symbol in INSTRUMENTS if symbol not in anchors)
    generator = Generator(seed, missing, anchors=anchors, real_hours=real_hours)
    return [Recorded(Playback(feeds, start_us), now, start_us), Invented(generator, wall_paced)]


def _business_clock(environment: Mapping[str, str]) -> clock.Clock:
    try:
        return clock.clock_from(environment.get("TRIBOOK_CLOCK", "wall"))
    except ValueError as error:
        raise FeedRefused(str(error)) from error


def _replay_clocks(environment: Mapping[str, str], start_us: int) -> tuple[clock.Clock, clock.Clock]:
    """The business clock, and one that started with it but runs as fast as the wall.

    Where the house's clock is the wall, the recording starts with this process.
    """
    given = environment.get("TRIBOOK_CLOCK", "wall")
    if given in ("", "wall"):
        speed = _number(environment, "SPEED", float)
        if not 0 < speed <= SPEED_MAX:
            raise FeedRefused(f"SPEED is above 0 and at most {SPEED_MAX:g}")
        begun_us = clock.wall()
        return clock.replay(start_us, speed, begun_us), clock.replay(start_us, 1.0, begun_us)
    now = _business_clock(environment)
    begun_us = int(given.rpartition(":")[2])
    return now, clock.replay(start_us, 1.0, begun_us)


def _number(environment: Mapping[str, str], name: str, kind: Callable[[str], float]) -> float:
    """A number from the environment; 1 when it is not there."""
    try:
        return kind(environment.get(name) or "1")
    except ValueError as error:
        raise FeedRefused(f"{name} is not a number: {environment[name]!r}") from error


def _redis(url: str) -> "redis.Redis":
    if not url:
        raise FeedRefused("REDIS_URL is not set: prices go out through Redis")
    try:
        return redis.Redis.from_url(url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S)
    except ValueError as error:
        raise FeedRefused(f"REDIS_URL cannot be used: {error}") from error


def _stopped_by_signal() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _run(sources: list[Source], connection: "redis.Redis", stop: threading.Event) -> None:
    """Until stopped: send what is due, and say every second that we are alive. Redis may come and go."""
    conflator = Conflator()
    beat_at = 0.0
    while not stop.is_set():
        for source in sources:
            for tick in source.due():
                conflator.offer(tick)
        now_s = time.monotonic()
        try:
            _send(connection, conflator.take(now_s))
            if now_s >= beat_at:
                beat_at = now_s + BEAT_S
                beat(connection, "lpsim-feed", detail=_detail(conflator, sources))
        except redis.RedisError as error:
            logger.warning("redis_away error=%s", error)
            stop.wait(REDIS_TIMEOUT_S)
        stop.wait(STEP_S)


def _send(connection: "redis.Redis", ticks: list[Tick]) -> None:
    by_lp: dict[str, list[Tick]] = {}
    for tick in ticks:
        by_lp.setdefault(tick.lp, []).append(tick)
    if not by_lp:
        return
    with connection.pipeline(transaction=False) as pipeline:
        for lp, its_ticks in by_lp.items():
            pipeline.publish(feed_channel(lp), msgspec.json.encode(its_ticks))
        pipeline.execute()


def _detail(conflator: Conflator, sources: list[Source]) -> dict[str, object]:
    sent = {"sent": conflator.taken, "conflated": conflator.conflated, "crossed": conflator.crossed}
    return sent | {name: value for source in sources for name, value in source.detail().items()}


if __name__ == "__main__":
    sys.exit(main())
