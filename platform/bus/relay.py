"""`python -m bus.relay`: the outbox to the message broker, in the shard's order, until SIGTERM.

The cursor moves only after the broker has confirmed, so a relay that dies in between publishes twice and never not at all.
One relay works at a time: it holds an advisory lock, and moves the cursor only from where it believes it to be. A number
that is missing in the outbox stops it: the engine commits them one after the other, so a gap is damage and not delay. A
broker that is away stops it too, and nothing else.
"""

import argparse
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import psycopg
import structlog
from msgspec import Struct

from bus.alerts import Severity, clear_alert, raise_alert
from bus.brokers import publisher_from
from bus.consuming import DbConnection, connect_database
from bus.health import Pulse, beat
from bus.publishing import Message, NotPublished, Publisher

log = structlog.get_logger()

RUN_MAX = 500
"""Messages that are on their way to the broker at once."""
IDLE_S = 0.05
STANDBY_S = 1.0
RETRY_S = 0.2
RETRY_S_MAX = 5.0
BEHIND_S = 30.0
LOOK_S = 1.0
ALERT_EVERY_S = 30.0
REWIND = 10_000
"""Messages published again after a broker lost its memory."""
LOCK = 0x7472_6962
"""Of the advisory lock; the shard is its second key."""


class Gap(Exception):
    """Numbers are missing in the outbox."""


class Lag(Struct, frozen=True):
    """How far the broker is behind the outbox: rows, and seconds since the oldest of them was first seen waiting."""

    rows: int = 0
    seconds: float = 0.0


class Relay:
    """Used by one thread; `condition` may be asked by others."""

    def __init__(
        self,
        *,
        shard: int,
        publisher: Publisher,
        connecting: Callable[[], DbConnection],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problem = "starting"
        self.published = 0
        self.lag = Lag()
        self._shard = shard
        self._publisher = publisher
        self._connecting = connecting
        self._monotonic = monotonic
        self._connection: DbConnection | None = None
        self._again_from: int | None = None
        self._has_lock = False
        self._looks: deque[tuple[float, int]] = deque()
        self._alerted: dict[str, float | None] = {}
        """When each alert was raised last; None once it is cleared."""
        self._stopped = threading.Event()

    def run(self) -> None:
        """Until `stop`. Whatever cannot be reached is tried again, ever more rarely."""
        wait_s = RETRY_S
        while not self._stopped.is_set():
            try:
                moved = self.step()
                wait_s = RETRY_S
                if not moved:
                    self._publisher.idle(IDLE_S)
            except (NotPublished, Gap, psycopg.Error) as error:
                self._failed(error)
                self._stopped.wait(wait_s)
                wait_s = min(wait_s * 2, RETRY_S_MAX)

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self._publisher.close()
        self._disconnect()

    def condition(self) -> tuple[str, Mapping[str, object]]:
        detail = {"published_seq": self.published, "lag": self.lag.rows, "lag_s": round(self.lag.seconds, 1)}
        return "waiting" if self.problem else "up", {**detail, "problem": self.problem}

    def step(self) -> bool:
        """Publish the next run; whether there was one. Raises NotPublished, Gap or psycopg.Error."""
        try:
            connection = self._connect()
            if connection is None:
                self.problem = "another relay is at work"
                self._stopped.wait(STANDBY_S)
                return True
            return self._relay(connection)
        except psycopg.Error:
            self._disconnect()
            raise

    def _relay(self, connection: DbConnection) -> bool:
        self.published = cursor = read_cursor(connection, self._shard)
        self._measure(connection, cursor)
        if self._again_from is None and not self._publisher.remembers():
            self._again_from = max(cursor - REWIND, 0)
            if cursor:
                log.warning("broker_lost_its_memory", published_again_after=self._again_from)
        after = cursor if self._again_from is None else self._again_from
        messages = outbox_after(connection, self._shard, after, RUN_MAX)
        run = contiguous(messages, after)
        if run:
            self._publisher.publish(run)
            self._advance(connection, cursor, run[-1].shard_seq)
        if len(run) < len(messages):
            raise Gap(
                f"shard {self._shard}: row {after + len(run) + 1} is missing, {messages[len(run)].shard_seq} is there"
            )
        if self._again_from is not None and self._again_from >= cursor:
            self._publisher.remember()
            self._again_from = None
        self.problem = ""
        self._settled(connection, "outbox_gap")
        return bool(run)

    def _advance(self, connection: DbConnection, cursor: int, to: int) -> None:
        """Only forwards, and only from where it was: another relay may have taken over meanwhile."""
        if self._again_from is not None:
            self._again_from = to
        if to <= cursor:
            return
        moved = connection.execute(
            "UPDATE relay_cursor SET published_seq = %s WHERE shard = %s AND published_seq = %s",
            (to, self._shard, cursor),
        ).rowcount
        if moved:
            self.published = to
        else:
            log.warning("cursor_moved_by_another", shard=self._shard, believed=cursor)

    # ------------------------------------------------------------------------------------------------- telling people

    def _measure(self, connection: DbConnection, cursor: int) -> None:
        """Looks at the outbox's end are kept, one a second, until all that they saw is published."""
        row = connection.execute("SELECT max(shard_seq) FROM outbox WHERE shard = %s", (self._shard,)).fetchone()
        newest = int(row[0]) if row and row[0] is not None else 0
        now, looks = self._monotonic(), self._looks
        while looks and looks[0][1] <= cursor:
            looks.popleft()
        if newest > cursor and (not looks or now - looks[-1][0] >= LOOK_S):
            looks.append((now, newest))
        self.lag = Lag(max(newest - cursor, 0), now - looks[0][0] if looks else 0.0)
        if self.lag.seconds >= BEHIND_S:
            text = (
                f"{self.lag.rows} events wait, since {self.lag.seconds:.0f} s: {self.problem or 'publishing is slow'}"
            )
            self._alert(connection, "relay_behind", text, Severity.WARNING)
        else:
            self._settled(connection, "relay_behind")

    def _failed(self, error: Exception) -> None:
        """Once per problem in the log; a gap is for a person to look at."""
        problem = f"{type(error).__name__}: {str(error).strip()[:300]}"
        if problem != self.problem:
            log.warning("relay_waits", problem=problem)
        self.problem = problem
        if isinstance(error, Gap) and self._connection is not None:
            with suppress(psycopg.Error):
                self._alert(self._connection, "outbox_gap", str(error), Severity.CRITICAL)

    def _alert(self, connection: DbConnection, kind: str, text: str, severity: Severity) -> None:
        """Raised anew now and then while it stands."""
        now = self._monotonic()
        if (before := self._alerted.get(kind)) is None or now - before >= ALERT_EVERY_S:
            raise_alert(connection, kind=kind, subject=str(self._shard), text=text, severity=severity)
            self._alerted[kind] = now

    def _settled(self, connection: DbConnection, kind: str) -> None:
        """Once after a start, for what a predecessor raised, and after every alert of our own."""
        if self._alerted.get(kind, 0.0) is not None:
            clear_alert(connection, kind=kind, subject=str(self._shard))
            self._alerted[kind] = None

    # ----------------------------------------------------------------------------------------------------- connection

    def _connect(self) -> DbConnection | None:
        """The connection that holds the lock; None while another relay holds it."""
        if self._connection is None or self._connection.closed:
            self._connection = self._connecting()
            self._has_lock = False
        if not self._has_lock:
            row = self._connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (LOCK, self._shard)).fetchone()
            self._has_lock = bool(row and row[0])
            if not self._has_lock:
                return None
            self._connection.execute(
                "INSERT INTO relay_cursor (shard, published_seq) VALUES (%s, 0) ON CONFLICT DO NOTHING", (self._shard,)
            )
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def read_cursor(connection: DbConnection, shard: int) -> int:
    """Up to where the broker has confirmed; 0 when nothing was ever published."""
    row = connection.execute("SELECT published_seq FROM relay_cursor WHERE shard = %s", (shard,)).fetchone()
    return int(row[0]) if row else 0


def outbox_after(connection: DbConnection, shard: int, after: int, limit: int) -> list[Message]:
    rows = connection.execute(
        "SELECT shard_seq, account, account_seq, kind, payload::text, (extract(epoch FROM at) * 1000000)::bigint "
        "FROM outbox WHERE shard = %s AND shard_seq > %s ORDER BY shard_seq LIMIT %s",
        (shard, after, limit),
        prepare=True,
    ).fetchall()
    return [
        Message(
            shard=shard,
            shard_seq=shard_seq,
            account=account,
            account_seq=account_seq,
            kind=kind,
            payload=payload.encode(),
            at_us=at_us,
        )
        for shard_seq, account, account_seq, kind, payload, at_us in rows
    ]


def contiguous(messages: Sequence[Message], after: int) -> list[Message]:
    """As many of them as follow `after` without a gap."""
    return [message for index, message in enumerate(messages, after + 1) if message.shard_seq == index]


def main() -> int:
    parser = argparse.ArgumentParser(prog="bus.relay", description="Publishes a shard's outbox.")
    parser.add_argument("--shard", type=int, default=0)
    shard = parser.parse_args().shard
    missing = [name for name in ("DATABASE_URL", "REDIS_URL") if not os.environ.get(name)]
    if missing:
        parser.error(f"{' and '.join(missing)} must be set")
    database = os.environ["DATABASE_URL"]
    relay = Relay(
        shard=shard,
        publisher=publisher_from(os.environ),
        connecting=lambda: connect_database(database, name="relay"),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: relay.stop())
    pulse = Pulse(os.environ["REDIS_URL"], lambda client: beat(client, "relay", *relay.condition()))
    pulse.start()
    relay.run()
    relay.close()
    pulse.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
