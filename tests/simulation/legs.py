"""Statements about legs and inboxes: what the providers' processes issue, and what the engine reads of them."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tests.simulation.columns import PLACES, Row, selected
from tests.simulation.tables import LEG_LP, LEG_STATE, LEG_STATUS, Key, get, put

if TYPE_CHECKING:
    from tests.simulation.postgres import Connection, Cursor

Handler = Callable[["Connection", Sequence[Any], "Cursor"], None]
LEG_ORDER = PLACES["lp_order"]["order_id"]
_INBOX_NAME, _INBOX_KIND = PLACES["lp_inbox"]["cl_ord_id"], PLACES["lp_inbox"]["kind"]


def select_legs(what: str, where: str, limit: int, locking: str) -> Handler:
    project = selected("lp_order", what)
    assert locking in {"", "FOR UPDATE SKIP LOCKED"}, locking

    def choose(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
        lp, *_ = parameters
        tables = connection.server.tables
        if where == "dispatch_state = 'new' AND status = 'working'":
            keys: Iterable[Key] = tables.new_legs
            states, statuses = {"new"}, {"working"}
        else:
            assert where == "dispatch_state IN ('dispatching', 'sent') AND status = ANY(%s)", where
            keys, states, statuses = tables.live_legs, {"dispatching", "sent"}, set(parameters[1])
        for key in sorted(keys):
            row = get(connection, "lp_order", key)
            assert row is not None
            if row[LEG_LP] != lp or row[LEG_STATE] not in states or row[LEG_STATUS] not in statuses:
                continue
            if locking and not connection.server.lock(connection, "lp_order", key, skip=True):
                continue
            cursor.rows.append(project(row))
            if len(cursor.rows) == limit:
                break
        cursor.rowcount = len(cursor.rows)

    return choose


def _set_state(connection: "Connection", key: Key, row: Row, state: str, *more: Any) -> None:
    changed = list(row)
    changed[LEG_STATE] = state
    if more:
        (changed[LEG_STATE + 1],) = more
    put(connection, "lp_order", key, changed)


def _mark(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    state, at, ids = parameters
    cursor.rowcount = 0
    for number in ids:
        row = get(connection, "lp_order", (number,))
        if row is not None:
            connection.server.lock(connection, "lp_order", (number,))
            _set_state(connection, (number,), row, state, at)
            cursor.rowcount += 1


def _mark_sent(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    cursor.rowcount = 0
    for number in sorted(parameters[0]):
        row = get(connection, "lp_order", (number,))
        if row is None or row[LEG_STATE] != "dispatching":
            continue
        if connection.server.lock(connection, "lp_order", (number,), skip=True):
            _set_state(connection, (number,), row, "sent")
            cursor.rowcount += 1


def _move(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    lp, cl_ord_id = parameters
    key = connection.server.tables.leg_of.get(cl_ord_id)
    row = get(connection, "lp_order", key) if key is not None else None
    cursor.rowcount = 0
    if key is not None and row is not None and row[LEG_LP] == lp and row[LEG_STATE] == "dispatching":
        connection.server.lock(connection, "lp_order", key)
        _set_state(connection, key, row, "not_sent")
        cursor.rowcount = 1


def _still_dispatching(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    rows = ((number, get(connection, "lp_order", (number,))) for number in parameters[0])
    cursor.rows = [(number,) for number, row in rows if row is not None and row[LEG_STATE] == "dispatching"]


def _any_moved(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    rows = (get(connection, "lp_order", (number,)) for number in parameters[0])
    cursor.rows = [(1,) for row in rows if row is not None and row[LEG_STATE] != "new"]


def _inbox(connection: "Connection", lp: str) -> list[Row]:
    """The provider's rows as this transaction sees them: sequences have no gaps, so they are a list."""
    rows = connection.server.tables.inbox.get(lp, [])
    transaction = connection.transaction_now
    own = transaction.writes.get("lp_inbox", {}) if transaction is not None else {}
    return rows + [row for key, row in own.items() if key[0] == lp] if own else rows


def _inbox_from(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    lp, seq, limit = parameters
    cursor.rows = [(row[6], row[7]) for row in _inbox(connection, lp)[max(seq - 1, 0) :][:limit]]


def _seq_after(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    cursor.rows = [(len(_inbox(connection, parameters[0])) + 1,)]


def _advisory(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    holder = connection.server.advisory.setdefault(tuple(parameters), connection)
    cursor.rows = [(holder is connection,)]


def _reports(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    lps, seqs, limit = parameters
    for lp, seq in zip(lps, seqs, strict=True):
        rows = connection.server.tables.inbox.get(lp)
        if rows is not None and len(rows) > seq:
            cursor.rows += [(lp, row[1], row[6]) for row in rows[seq:][:limit]]


def _inbox_lps(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    cursor.rows = [(lp,) for lp in sorted(connection.server.tables.inbox)]


_SIBLING = selected("lp_order", "order_id, cl_ord_id, lp, volume, quantity, filled_volume")


def _siblings(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    """All legs of these orders. An index of the real table; here few enough are looked at."""
    live, orders = parameters
    wanted = set(orders)
    for key in connection.server.tables.legs_of(wanted):
        row = get(connection, "lp_order", key)
        assert row is not None
        cursor.rows.append((*_SIBLING(row), row[LEG_STATUS] in live, row[LEG_STATE]))


def _said_of(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    lp, names = parameters
    wanted = set(names)
    cursor.rows = [(row[_INBOX_NAME], row[6]) for row in _inbox(connection, lp) if row[_INBOX_NAME] in wanted]


def _was_told(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    lp, name, kind = parameters
    told = [row for row in _inbox(connection, lp) if row[_INBOX_NAME] == name and row[_INBOX_KIND] == kind]
    cursor.rows = [(1,) for _ in told[:1]]


def _called_about(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    lp, about, kind = parameters
    alerts = connection.server.tables.rows["alert"].values()
    names = {row[0][about - 1 :] for row in alerts if row[1] == kind and row[6] is None}
    legs = connection.server.tables.leg_of
    rows = ((name, get(connection, "lp_order", legs[name])) for name in sorted(names) if name in legs)
    cursor.rows = [(name,) for name, row in rows if row is not None and row[LEG_LP] == lp]


_EXECUTIONS = re.compile(
    r"SELECT u\.lp, u\.name, (?P<what>.+?) FROM unnest\(%s::text\[\], %s::text\[\]\) AS u\(lp, name\) JOIN lp_execution x "
    r"ON x\.lp = u\.lp AND x\.exec_id = u\.name UNION ALL .+ JOIN lp_execution x ON x\.lp = u\.lp AND x\.ref = u\.name "
    r"AND x\.ref <> ''"
)


def executions(text: str) -> Handler | None:
    """Executions under their own names and under those that they refer to; None when the text asks for something else."""
    match = _EXECUTIONS.fullmatch(text)
    if match is None:
        return None
    project = selected("lp_execution", match["what"])

    def select(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
        tables = connection.server.tables
        lps, names, *_ = parameters
        for index in (tables.executions, tables.referring):
            for lp, name in zip(lps, names, strict=True):
                cursor.rows += [(lp, name, *project(row)) for row in index.get((lp, name), ())]

    return select


WHOLE: dict[str, Handler] = {
    "SELECT c.lp, i.seq, i.report::text FROM unnest(%s::text[], %s::bigint[]) WITH ORDINALITY AS c(lp, seq, turn) CROSS JOIN "
    "LATERAL (SELECT seq, report FROM lp_inbox WHERE lp = c.lp AND seq > c.seq ORDER BY seq LIMIT %s) i "
    "ORDER BY c.turn, i.seq": _reports,
    "WITH RECURSIVE t AS (SELECT min(lp) AS lp FROM lp_inbox UNION ALL SELECT (SELECT min(lp) FROM lp_inbox "
    "WHERE lp > t.lp) FROM t WHERE t.lp IS NOT NULL) SELECT lp FROM t WHERE lp IS NOT NULL": _inbox_lps,
    "UPDATE lp_order SET dispatch_state = %s, dispatched_at = %s WHERE id = ANY(%s)": _mark,
    "UPDATE lp_order SET dispatch_state = 'sent' WHERE id IN (SELECT id FROM lp_order WHERE id = ANY(%s) "
    "AND dispatch_state = 'dispatching' ORDER BY id FOR UPDATE SKIP LOCKED)": _mark_sent,
    "UPDATE lp_order SET dispatch_state = 'not_sent' WHERE lp = %s AND cl_ord_id = %s "
    "AND dispatch_state = 'dispatching'": _move,
    "SELECT id FROM lp_order WHERE id = ANY(%s) AND dispatch_state = 'dispatching'": _still_dispatching,
    "SELECT 1 FROM lp_order WHERE id = ANY(%s) AND dispatch_state <> 'new'": _any_moved,
    "SELECT report::text, raw FROM lp_inbox WHERE lp = %s AND seq >= %s ORDER BY seq LIMIT %s": _inbox_from,
    "SELECT coalesce(max(seq), 0) + 1 FROM lp_inbox WHERE lp = %s": _seq_after,
    "SELECT pg_try_advisory_lock(%s, hashtext(%s))": _advisory,
    "SELECT order_id, cl_ord_id, lp, volume, quantity, filled_volume, status = ANY(%s), dispatch_state FROM lp_order "
    "WHERE order_id = ANY(%s) ORDER BY id": _siblings,
    "SELECT cl_ord_id, report::text FROM lp_inbox WHERE lp = %s AND cl_ord_id = ANY(%s) ORDER BY seq": _said_of,
    "SELECT 1 FROM lp_inbox WHERE lp = %s AND cl_ord_id = %s AND kind = %s LIMIT 1": _was_told,
    "SELECT cl_ord_id FROM lp_order WHERE lp = %s AND cl_ord_id IN (SELECT substr(key, %s) FROM alert WHERE kind = %s "
    "AND cleared_at IS NULL)": _called_about,
}
