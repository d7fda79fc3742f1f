"""`python -m broker.audit`: holds the stored data against the invariants for as long as the house runs, and halts the shard.

About every second it looks at what is new, at the start and every ten minutes at everything. What is wrong is never believed
at once: the next look is a whole audit from an empty memory in a new snapshot, so it looks again at the same rows and shares
nothing with the look that found it. What that finds too is confirmed: an alert is raised and, in the same transaction, the
shard is halted with the reason; a batch that is committed after that is refused by the fence. What merely waits too long
(I8) is told and does not halt: only a running engine can bring it to an end. While an invariant's alert stands, the shard is
not halted for it a second time, so that an operator can resume before everything is mended.

The head of the audit entries' chain is signed whenever it has grown, and kept outside of the database, in `audit` in the data
folder (`apps/operations/chain.py`): so the newest entries cannot vanish either.

It never writes to what it reads, takes a sixth of a core at most, and can be killed at any time.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import redis
import structlog

from apps.operations.chain import FOLDER, NOTHING, SealError, Seals
from broker.invariants import (
    EXPIRED_FOR_MAX,
    Auditor,
    Connection,
    fills_are_unique,
    legs_are_attended,
    money_has_its_currencys_digits,
    numbers_are_finite,
    snapshot,
)
from broker.watched import Watched
from bus import names
from bus.alerts import Severity, alert_key, clear_alert, raise_alert
from bus.clock import Clock, Replay, clock_from_environment
from bus.codec import encode
from bus.health import Pulse, beat
from bus.store import load_config

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
REST = 5
"""After a look it rests at least so many times as long as that took: it must never be the load that it watches."""
WHOLE_EVERY_S = 600.0
WHOLE_AGAIN_S = 60.0
"""Between whole audits while something is wrong."""
WHOLE_REST = 20
SILENT_FOR_MAX = timedelta(seconds=60)
RETRY_S = 1.0
TELL_TTL_S = 60
TEXTS_MAX = 20
"""Violations that are told of one invariant at a time."""
NICENESS = 10
SESSION = "SET statement_timeout = '120s'; SET lock_timeout = '5s'; SET timezone = 'UTC'"

INVARIANT = "invariant"
"""Kind of the alert; its subject is the invariant's name."""
CHECKS: dict[str, tuple[str, ...]] = {
    "I1": ("ledger",),
    "I2": ("balances",),
    "I4": ("fills",),
    "I5": ("orders",),
    "I6": ("outbox",),
    "I7": ("results", "deals", "positions"),
    "I8": ("waiting", "expiry", "legs"),
    "I9": ("batches",),
    "I10": ("numbers", "digits"),
    "I11": ("orders", "positions"),
    "I13": ("entries", "seals"),
}
"""Which checks look after each invariant."""
ONLY_TOLD = frozenset({"I8"})
"""Something waits too long: halting would make it wait for ever."""


def main() -> int:
    os.nice(NICENESS)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopping.set())
    seals = Seals(Path(os.environ["TRIBOOK_DATA"]) / FOLDER)
    audit = Audit(os.environ["DATABASE_URL"], clock_from_environment(), seals=seals)
    heart = Heart(os.environ["REDIS_URL"], audit)
    heart.start()
    try:
        audit.run(stopping)
    finally:
        heart.stop()
        audit.close()
    return 0


def invariant_of(violation: str) -> str:
    """`I2: account 1 …` is about I2; what a check says without a number is about results, which I7 promises."""
    name = violation.partition(":")[0]
    return name if name in CHECKS else "I7"


class Audit:
    """Looks, suspects, confirms, halts. One thread calls `run` or `step`; `figures` may be asked from any."""

    def __init__(
        self,
        url: str,
        clock: Clock,
        *,
        shard: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
        seals: Seals | None = None,
        look: Callable[[Auditor, Connection], list[str]] | None = None,
    ) -> None:
        """`seals`: where the head of the audit entries is kept, signed. `look` is for tests: what an incremental look finds."""
        self._url, self._clock, self._shard, self._monotonic = url, clock, shard, monotonic
        self._seals = seals
        self._look_with = look or Auditor.look
        self._speed = clock.speed if isinstance(clock, Replay) else 1.0
        self._expired_for_max = EXPIRED_FOR_MAX * max(self._speed, 1.0)
        self._silent_for_max = SILENT_FOR_MAX * max(self._speed, 1.0)
        self._connection: Connection | None = None
        self._auditor = Auditor(expired_for_max=self._expired_for_max)
        self._watched = Watched(clock, shard=shard)
        self._suspected: frozenset[str] = frozenset()
        self._standing: set[str] = set()
        """Invariants whose violation was confirmed and not found gone since."""
        self._whole_at = monotonic()
        self._whole_took_s = 0.0
        self._looked_at: dict[str, float] = {}
        self._took_s: dict[str, float] = {}
        self._violations = dict.fromkeys(CHECKS, 0)
        self.failures = 0
        """Looks that could not be made."""
        self.problem = "starting"

    def run(self, stopping: threading.Event) -> None:
        """Until told to stop. The database may go and come back."""
        while not stopping.is_set():
            stopping.wait(self.step())

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def step(self) -> float:
        """One look and what follows from it; how long to rest. Trouble with the database is not an error of the data."""
        began = self._monotonic()
        try:
            self.problem = self._look_once(self._opened())
        except psycopg.Error as error:
            self._failed(error)
            return RETRY_S
        return max(LOOK_EVERY_S, REST * (self._monotonic() - began))

    def figures(self) -> Mapping[str, Any]:
        """For the metrics: per invariant when all its checks last looked (wall seconds), how long they took, what was found."""
        looked_at, took_s = dict(self._looked_at), dict(self._took_s)
        return {
            "invariants": {
                name: {
                    "looked_at": min((looked_at.get(check, 0.0) for check in checks), default=0.0),
                    "took_s": round(sum(took_s.get(check, 0.0) for check in checks), 6),
                    "violations": self._violations[name],
                    "stands": name in self._standing,
                }
                for name, checks in CHECKS.items()
            },
            "failures": self.failures,
        }

    # ---------------------------------------------------------------------------------------------------------- looking

    def _opened(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._url, autocommit=True, connect_timeout=5, application_name="tribook auditor"
            )
            self._connection.execute(SESSION)
        return self._connection

    def _failed(self, error: psycopg.Error) -> None:
        """A look that was broken off may have taken in half of what is new: the next begins with an empty memory."""
        self.failures += 1
        text = str(error).strip()
        if text != self.problem:
            log.warning("audit_failed", error=text)
        self.problem = text
        self._whole_at = self._monotonic()
        if self._connection is not None and (self._connection.broken or self._connection.closed):
            self.close()

    def _look_once(self, connection: Connection) -> str:
        """What stands in its way afterwards; empty when nothing does."""
        is_whole = bool(self._suspected) or self._monotonic() >= self._whole_at
        with snapshot(connection):
            found = self._whole(connection) if is_whole else self._new(connection)
            watched = self._watched.look(connection)
        by_name = _grouped(found)
        new = frozenset(by_name) - self._standing
        if new:
            log.critical(
                "violation", confirmed=sorted(new & self._suspected), found=[by_name[name][:5] for name in new]
            )
        if is_whole:
            self._take_back(connection, by_name)
        for name, texts in by_name.items():
            if name in self._suspected or (is_whole and name in self._standing):
                self._confirm(connection, name, texts)
        self._suspected = new - self._standing
        if is_whole:
            self._plan_next_whole()
        watched.tell(connection)
        return "" if "I13" in self._suspected | self._standing else self._seal()

    def _new(self, connection: Connection) -> list[str]:
        found = self._look_with(self._auditor, connection)
        self._note(self._auditor)
        return found + self._legs(connection) + self._sealed(connection)

    def _whole(self, connection: Connection) -> list[str]:
        """From an empty memory, with the checks that must see everything; that memory goes on from here."""
        began = self._monotonic()
        self._auditor = Auditor(expired_for_max=self._expired_for_max)
        found = self._auditor.look(connection)
        self._note(self._auditor)
        found += self._legs(connection) + self._sealed(connection)
        found += self._timed("fills", lambda: fills_are_unique(connection))
        found += self._timed("numbers", lambda: numbers_are_finite(connection))
        found += self._timed("digits", lambda: _digits(connection))
        self._whole_took_s = self._monotonic() - began
        return found

    def _legs(self, connection: Connection) -> list[str]:
        now_at = datetime.fromtimestamp(self._clock() / 1e6, UTC)
        return self._timed("legs", lambda: legs_are_attended(connection, now_at, silent_for_max=self._silent_for_max))

    def _sealed(self, connection: Connection) -> list[str]:
        """What was sealed once is still there."""
        return self._timed("seals", lambda: self._seals.contradicted(connection) if self._seals else [])

    def _seal(self) -> str:
        """The chain was followed and is sound: from now on none of it can be taken out. What hinders that, if anything."""
        head = self._auditor.entries
        if self._seals is None or head == NOTHING:
            return ""
        try:
            last = self._seals.last()
            if last is None or last.number < head.number:
                self._seals.add(head, datetime.fromtimestamp(self._clock() / 1e6, UTC).isoformat())
        except (SealError, OSError) as error:
            log.warning("not_sealed", entry=head.number, error=str(error))
            return f"audit entries are not sealed: {error}"
        return ""

    def _timed(self, check: str, question: Callable[[], list[str]]) -> list[str]:
        began = time.perf_counter()
        found = question()
        self._took_s[check] = time.perf_counter() - began
        self._looked_at[check] = time.time()
        return found

    def _note(self, auditor: Auditor) -> None:
        now_s = time.time()
        for check, seconds in auditor.last_s.items():
            self._took_s[check] = seconds
            self._looked_at[check] = now_s

    def _plan_next_whole(self) -> None:
        every_s = WHOLE_AGAIN_S if self._standing or self._suspected else WHOLE_EVERY_S
        self._whole_at = self._monotonic() + max(every_s, WHOLE_REST * self._whole_took_s)

    # --------------------------------------------------------------------------------------------------------- judging

    def _confirm(self, connection: Connection, name: str, texts: list[str]) -> None:
        """Tell a person; and halt, unless it only waits too long or is known already. Both or neither."""
        self._violations[name] += len(texts)
        told = "; ".join(texts[:TEXTS_MAX])
        with connection.transaction():
            is_known = _stands(connection, name)
            raise_alert(connection, kind=INVARIANT, subject=name, text=told, severity=Severity.CRITICAL)
            if name not in ONLY_TOLD and not is_known and self._halt(connection, told):
                log.critical("shard_halted", invariant=name, reason=told)
        self._standing.add(name)

    def _halt(self, connection: Connection, reason: str) -> bool:
        """The first reason stays. A batch that is being committed is waited for; the next one finds the shard halted."""
        halting = "UPDATE shard SET halted = %s WHERE shard = %s AND halted = ''"
        return connection.execute(halting, (reason[:2000], self._shard)).rowcount == 1

    def _take_back(self, connection: Connection, by_name: Mapping[str, list[str]]) -> None:
        """A whole audit that does not find it is the proof that it is gone, also for an alert of a former process."""
        for name in CHECKS:
            if name not in by_name:
                clear_alert(connection, kind=INVARIANT, subject=name)
                self._standing.discard(name)


def _stands(connection: Connection, name: str) -> bool:
    query = "SELECT 1 FROM alert WHERE key = %s AND cleared_at IS NULL"
    return connection.execute(query, (alert_key(INVARIANT, name),)).fetchone() is not None


def _digits(connection: Connection) -> list[str]:
    """Nothing is posted before a configuration is published."""
    try:
        digits = load_config(connection).currency_digits
    except LookupError:
        return []
    return money_has_its_currencys_digits(connection, digits)


def _grouped(violations: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for violation in violations:
        found.setdefault(invariant_of(violation), []).append(violation)
    return found


class Heart(Pulse):
    """Shows how the process is and what it found, also during a long look."""

    def __init__(self, url: str, audit: Audit) -> None:
        super().__init__(url, self._tell, timeout_s=5.0)
        self._audit = audit

    def _tell(self, client: "redis.Redis") -> None:
        figures, problem = self._audit.figures(), self._audit.problem
        stands = [name for name, found in figures["invariants"].items() if found["stands"]]
        detail = {"problem": problem, "violated": ", ".join(stands), "failures": figures["failures"]}
        beat(client, "auditor", "waiting" if problem else "up", detail)
        client.set(names.AUDIT, encode(figures), ex=TELL_TTL_S)


if __name__ == "__main__":
    sys.exit(main())
