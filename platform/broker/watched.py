"""What the auditor tells people besides broken invariants: breakers that are not closed, a halted shard, parked commands."""

from collections.abc import Callable
from contextlib import suppress

import msgspec
from msgspec import Struct

from broker.invariants import Connection, nothing_is_parked
from bus.alerts import Severity, clear_alert, raise_alert
from bus.clock import Clock
from trading.breaker import BreakerState, breaker_of, state_of
from trading.desk import Desk

BREAKER = "lp_breaker"
KILLED = "lp_killed"
HALTED = "shard_halted"
PARKED = "command_parked"

NEWEST_DESK = """
SELECT s.halted, b.desk::text FROM shard s LEFT JOIN engine_batch b ON b.shard = s.shard AND b.seq = s.seq WHERE s.shard = %s
"""


class Standing(Struct, frozen=True):
    """One thing that a person should know of now."""

    kind: str
    subject: str
    text: str
    severity: Severity


class Changes(Struct, frozen=True):
    """What to tell, outside of the snapshot that it was seen in."""

    raised: tuple[Standing, ...]
    cleared: tuple[tuple[str, str], ...]
    done: Callable[[], None]

    def tell(self, connection: Connection) -> None:
        """Raises psycopg.Error; then it is told at the next look."""
        for one in self.raised:
            raise_alert(connection, kind=one.kind, subject=one.subject, text=one.text, severity=one.severity)
        for kind, subject in self.cleared:
            clear_alert(connection, kind=kind, subject=subject)
        self.done()


class Watched:
    """Raises each alert once, and takes it back when it is over. What a former process raised is taken over at first."""

    def __init__(self, clock: Clock, *, shard: int) -> None:
        self._clock, self._shard = clock, shard
        self._told: dict[tuple[str, str], Standing] | None = None

    def look(self, connection: Connection) -> Changes:
        now = {(one.kind, one.subject): one for one in self._standing(connection)}
        told = self._raised_before(connection) if self._told is None else self._told
        raised = tuple(one for place, one in now.items() if told.get(place) != one)
        cleared = tuple(place for place in told if place not in now)
        return Changes(raised, cleared, lambda: self._remember(now))

    def _remember(self, now: dict[tuple[str, str], Standing]) -> None:
        self._told = now

    def _raised_before(self, connection: Connection) -> dict[tuple[str, str], Standing]:
        rows = connection.execute(
            "SELECT kind, key, text, severity FROM alert WHERE kind = ANY(%s) AND cleared_at IS NULL",
            ([BREAKER, KILLED, HALTED, PARKED],),
        )
        return {
            (kind, key.partition(":")[2]): Standing(kind, key.partition(":")[2], text, Severity(severity))
            for kind, key, text, severity in rows
        }

    def _standing(self, connection: Connection) -> list[Standing]:
        found = connection.execute(NEWEST_DESK, (self._shard,)).fetchone()
        halted, stored = found or ("", None)
        desk = Desk()
        with suppress(msgspec.MsgspecError):
            desk = msgspec.json.decode(stored, type=Desk) if stored else desk
        parked = nothing_is_parked(connection)
        return [
            *(Standing(HALTED, str(self._shard), text, Severity.CRITICAL) for text in [halted] if text),
            *(Standing(KILLED, lp, f"{lp} was stopped by the desk", Severity.INFO) for lp in desk.switches.lps),
            *self._breakers(desk),
            *(
                Standing(PARKED, "", f"{len(parked)} commands; {parked[-1]}"[:500], Severity.CRITICAL)
                for _ in parked[:1]
            ),
        ]

    def _breakers(self, desk: Desk) -> list[Standing]:
        now_us = self._clock()
        return [
            Standing(
                BREAKER, one.lp, f"{one.lp} gets no new risk, {breaker_of(desk.breakers, one.lp).why}", Severity.WARNING
            )
            for one in desk.breakers
            if state_of(desk.breakers, (), one.lp, now_us) is not BreakerState.CLOSED
        ]
