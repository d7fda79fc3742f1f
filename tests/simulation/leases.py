"""Statements about who may write, and about alerts: leases of the shard and of the providers, and what a person must know.

A lease's time is the model's monotonic time in seconds.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tests.simulation.tables import get, put

if TYPE_CHECKING:
    from tests.simulation.postgres import Connection, Cursor

Handler = Callable[["Connection", Sequence[Any], "Cursor"], None]
_UNITS = {"second": 1.0, "minute": 60.0}


def seconds(interval: str) -> float:
    """`5 seconds`, `1 minute`."""
    number, unit = interval.split()
    return float(number) * _UNITS[unit.rstrip("s")]


def after(connection: "Connection", interval: str) -> float:
    return connection.server.time.monotonic() + seconds(interval)


def _standing(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    longest, shard = parameters
    row = get(connection, "shard", (shard,))
    if row is not None:
        _, epoch, seq, halted, owner, until = row
        now = connection.server.time.monotonic()
        cursor.rows = [(epoch, seq, owner, halted, until is not None and now < until <= now + seconds(longest))]


def _renew(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    interval, shard, epoch = parameters
    _lease_until(connection, shard, epoch, after(connection, interval), cursor)


def _release(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    shard, epoch = parameters
    _lease_until(connection, shard, epoch, connection.server.time.monotonic(), cursor)


def _lease_until(connection: "Connection", shard: int, epoch: int, until: float, cursor: "Cursor") -> None:
    connection.server.lock(connection, "shard", (shard,))
    row = get(connection, "shard", (shard,))
    cursor.rowcount = 0
    if row is not None and row[1] == epoch:
        put(connection, "shard", (shard,), [*row[:5], until])
        cursor.rows, cursor.rowcount = [(epoch,)], 1


def _take(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    name, interval, shard = parameters
    connection.server.lock(connection, "shard", (shard,))
    row = get(connection, "shard", (shard,))
    if row is not None:
        changed = [shard, row[1] + 1, row[2], row[3], name, after(connection, interval)]
        put(connection, "shard", (shard,), changed)
        cursor.rows, cursor.rowcount = [(changed[1], changed[2])], 1


def _halt_epoch(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    reason, shard, epoch = parameters
    connection.server.lock(connection, "shard", (shard,))
    row = get(connection, "shard", (shard,))
    cursor.rowcount = 0
    if row is not None and row[1] == epoch:
        put(connection, "shard", (shard,), [*row[:3], reason, *row[4:]])
        cursor.rowcount = 1


def _own_provider(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    lp, epoch = parameters
    row = get(connection, "lp_lease", (lp,))
    if row is not None and row[1] == epoch:
        connection.server.lock(connection, "lp_lease", (lp,))
        cursor.rows = [(row[2],)]


def _take_provider(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    (lp,) = parameters
    connection.server.lock(connection, "lp_lease", (lp,))
    row = get(connection, "lp_lease", (lp,)) or [lp, 0, ""]
    put(connection, "lp_lease", (lp,), [lp, row[1] + 1, row[2]])
    cursor.rows = [(row[1] + 1,)]


def _stop_provider(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    why, lp = parameters
    row = get(connection, "lp_lease", (lp,))
    if row is not None:
        connection.server.lock(connection, "lp_lease", (lp,))
        put(connection, "lp_lease", (lp,), [lp, row[1], why])


def _raise_alert(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    key, kind, severity, text, raised_at, last_at = parameters
    connection.server.lock(connection, "alert", (key,))
    row = get(connection, "alert", (key,))
    stands = row is not None and row[6] is None
    first, count = (row[4], row[7] + 1) if row is not None and stands else (raised_at, 1)
    put(connection, "alert", (key,), [key, kind, severity, text, first, last_at, None, count])


def _clear_alert(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    cleared_at, key = parameters
    row = get(connection, "alert", (key,))
    if row is not None and row[6] is None:
        connection.server.lock(connection, "alert", (key,))
        put(connection, "alert", (key,), [*row[:6], cleared_at, row[7]])


WHOLE: dict[str, Handler] = {
    "SELECT epoch, seq, owner, halted, coalesce(lease_until > now() AND lease_until <= now() + %s::interval, false) "
    "FROM shard WHERE shard = %s": _standing,
    "UPDATE shard SET lease_until = now() + %s::interval WHERE shard = %s AND epoch = %s RETURNING epoch": _renew,
    "UPDATE shard SET lease_until = now() WHERE shard = %s AND epoch = %s RETURNING epoch": _release,
    "UPDATE shard SET epoch = epoch + 1, owner = %s, lease_until = now() + %s::interval WHERE shard = %s "
    "RETURNING epoch, seq": _take,
    "UPDATE shard SET halted = %s WHERE shard = %s AND epoch = %s": _halt_epoch,
    "SELECT stopped FROM lp_lease WHERE lp = %s AND epoch = %s FOR SHARE": _own_provider,
    "INSERT INTO lp_lease (lp, epoch) VALUES (%s, 1) ON CONFLICT (lp) DO UPDATE SET epoch = lp_lease.epoch + 1 "
    "RETURNING epoch": _take_provider,
    "UPDATE lp_lease SET stopped = %s WHERE lp = %s": _stop_provider,
    "INSERT INTO alert (key, kind, severity, text, raised_at, last_at, count) VALUES (%s, %s, %s, %s, %s, %s, 1) "
    "ON CONFLICT (key) DO UPDATE SET severity = EXCLUDED.severity, text = EXCLUDED.text, last_at = EXCLUDED.last_at, "
    "raised_at = CASE WHEN alert.cleared_at IS NULL THEN alert.raised_at ELSE EXCLUDED.raised_at END, "
    "count = CASE WHEN alert.cleared_at IS NULL THEN alert.count + 1 ELSE 1 END, cleared_at = NULL": _raise_alert,
    "UPDATE alert SET cleared_at = %s WHERE key = %s AND cleared_at IS NULL": _clear_alert,
}
