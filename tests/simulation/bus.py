"""Redis and the event bus in the model: a command stream that can lose everything, and a relay that says things twice.

Nothing here is authoritative. Commands travel as bytes, through the real codec, so every engine reads objects of its own.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bus.codec import encode
from engine.batch import StreamPosition
from engine.driver import Arrived, Told
from engine.loop import read_entry
from engine.step import Ack, Forget, Nudge
from tests.simulation.clockwork import Crash, Process, Time
from trading.answers import Answer
from trading.commands import AnyCommand
from trading.quotes import Quote

if TYPE_CHECKING:
    from tests.simulation.postgres import Server


class Redis:
    """One command stream with its life's name, and the newest quote of every symbol."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.lives = 1
        self.entries: dict[int, bytes] = {}
        self.added = 0
        self.quotes: dict[str, Quote] = {}
        self.down_until_s = 0.0
        self.readers: list[Source] = []

    @property
    def is_up(self) -> bool:
        return self.time.monotonic() >= self.down_until_s

    @property
    def incarnation(self) -> str:
        return f"life{self.lives}"

    def flush(self) -> None:
        """Everything is gone; ids begin anew."""
        self.lives += 1
        self.entries.clear()
        self.added = 0
        self.quotes.clear()

    def add(self, command: AnyCommand) -> bool:
        if not self.is_up:
            return False
        self.added += 1
        self.entries[self.added] = encode(command)
        return True

    def publish(self, quote: Quote) -> None:
        if self.is_up:
            self.quotes[quote.symbol] = quote
            for reader in self.readers:
                reader.fresh[quote.symbol] = quote

    def trim(self, position: StreamPosition) -> None:
        if self.is_up:
            last = int(position.id.partition("-")[0])
            for number in [number for number in self.entries if number <= last]:
                del self.entries[number]


class Source:
    """`engine.driver.Source`: what one engine has read of the stream."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._position = StreamPosition()
        self.fresh: dict[str, Quote] = dict(redis.quotes)
        redis.readers.append(self)

    def seek(self, position: StreamPosition) -> None:
        self._position = position

    def take(self, limit: int) -> Arrived:
        redis = self._redis
        if not redis.is_up or not redis.entries:
            return Arrived(())
        if self._position.incarnation != redis.incarnation:
            self._position = StreamPosition(redis.incarnation, "0-0")
        after = int(self._position.id.partition("-")[0])
        numbers = [number for number in redis.entries if number > after][:limit]
        if not numbers:
            return Arrived(())
        self._position = StreamPosition(redis.incarnation, f"{numbers[-1]}-0")
        taken = [read_entry(f"{n}-0", {b"c": redis.entries[n]}, redis.incarnation) for n in numbers]
        return Arrived(taken, redis.incarnation)

    def quotes(self) -> Sequence[Quote]:
        if not self.fresh:
            return ()
        found = list(self.fresh.values())
        self.fresh.clear()
        return found

    def close(self) -> None:
        self._redis.readers.remove(self)


class Tell:
    """`engine.driver.Tell`: what one engine says after its commits. It may be killed between two words."""

    def __init__(
        self, redis: Redis, process: Process, *, said: Callable[[Answer], None], heard: Callable[[Answer], None],
        nudge: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._redis = redis
        self._process = process
        self._said = said
        self._heard = heard
        self._nudge = nudge

    def tell(self, told: Sequence[Told]) -> None:
        for one in told:
            if self._process.armed and self._process.strike("output"):
                raise Crash(self._process)
            match one:
                case Ack():
                    for _, answer in one.answers:
                        self._said(answer)
                        if self._redis.is_up:
                            self._heard(answer)
                case Nudge():
                    for lp in one.lps if self._redis.is_up else ():
                        self._nudge(lp)
                case Forget():
                    if one.position.incarnation:
                        self._redis.trim(one.position)


class Relay:
    """Outbox rows to the broker, in order and without a gap, at least once; and a consumer that does each once."""

    def __init__(self, server: "Server", counts: Counter[str]) -> None:
        self._server = server
        self._counts = counts
        self.published_seq = 0
        """Durable: noted after the broker confirmed."""
        self.done: dict[int, Any] = {}
        self.repeated = 0
        self.forgets_next = False

    def turn(self) -> None:
        if not self._server.is_up:
            return
        outbox, seq = self._server.tables.rows["outbox"], self.published_seq
        while (row := outbox.get((0, seq + 1))) is not None:
            seq += 1
            if seq in self.done:
                self.repeated += 1
            else:
                self.done[seq] = row
        if self.forgets_next and seq > self.published_seq:
            self.forgets_next = False
            self._counts["relay.crash"] += 1
            return
        self.published_seq = seq
