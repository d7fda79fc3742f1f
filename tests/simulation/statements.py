"""The statements that production code issues, each by its text, and what they do to the modelled tables.

To add one: a SELECT of plain columns needs its part after FROM in `_SOURCES`; anything else its whole text in `_WHOLE`, or a
recogniser in `Statements._compiled` where the text is made of parts. White space is not significant.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg

from engine.tables import BALANCE, PARKED
from tests.simulation import leases, legs
from tests.simulation.clockwork import Unmodelled
from tests.simulation.columns import COLUMNS, PLACES, Row, fields_of, selected, taken_apart
from tests.simulation.tables import (
    KEYS,
    LEG_NAME,
    LEG_STATE,
    ONE_OF,
    check,
    get,
    insert,
    key_reader,
    put,
    scan,
)

if TYPE_CHECKING:
    from tests.simulation.postgres import Connection, Cursor, Server

UPDATED = {"account", "trade_order", "position", "lp_order"}
"""Written again after their COPY: these are taken apart when they come."""
STUCK_AFTER_S = 2.0

Handler = Callable[["Connection", Sequence[Any], "Cursor"], None]

_UPDATE_MANY = re.compile(
    r'UPDATE "(?P<table>\w+)" t SET (?P<sets>.+) FROM unnest\(.+\) AS u\(.+\) WHERE t\."id" = u\.c0::bigint'
)
_SET_MANY = re.compile(r'"(\w+)" = u\.c\d+::')
_COPY = re.compile(r'COPY "(?P<table>\w+)" \(.+\) FROM STDIN')
_FENCE = re.compile(
    r"UPDATE shard SET seq = (\d+)(?:, lease_until = now\(\) \+ interval '(?P<lease>[^']+)')? "
    r"WHERE shard = (\d+) AND epoch = (\d+) AND seq = (\d+)(?P<halted> AND halted = '')?"
)
_LEGS = re.compile(
    r"SELECT (?P<what>.+) FROM lp_order WHERE lp = %s AND (?P<where>.+) ORDER BY id LIMIT (?P<limit>\d+) ?(?P<locking>.*)"
)


class Statements:
    """Compiles each text once."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._known: dict[str, Handler] = {}

    def run(self, connection: "Connection", text: str, parameters: Sequence[Any], cursor: "Cursor") -> None:
        if text.startswith("UPDATE shard SET seq ="):
            self._fence(connection, text, cursor)
            return
        handler = self._known.get(text)
        if handler is None:
            handler = self._known[text] = self._compiled(" ".join(text.split()))
        handler(connection, parameters, cursor)

    def _compiled(self, text: str) -> Handler:
        whole = _WHOLE.get(text)
        if whole is not None:
            return whole
        found = legs.executions(text)
        if found is not None:
            return found
        many = _UPDATE_MANY.fullmatch(text)
        if many:
            return _update_many(many["table"], _SET_MANY.findall(many["sets"]))
        copied = _COPY.fullmatch(text)
        if copied:
            return _copy(copied["table"])
        chosen = _LEGS.fullmatch(text)
        if chosen:
            return legs.select_legs(chosen["what"], chosen["where"], int(chosen["limit"]), chosen["locking"])
        for source, (table, rows) in _SOURCES.items():
            if text.startswith("SELECT ") and text.endswith(f" FROM {source}"):
                return _select(table, text.removeprefix("SELECT ").removesuffix(f" FROM {source}"), rows)
        raise Unmodelled(f"the model does not know: {text}")

    def _fence(self, connection: "Connection", text: str, cursor: "Cursor") -> None:
        match = _FENCE.fullmatch(text)
        assert match is not None, text
        seq, shard, epoch, before = (int(match[place]) for place in (1, 3, 4, 5))
        self._server.lock(connection, "shard", (shard,))
        row = get(connection, "shard", (shard,))
        cursor.rowcount = 0
        if row is not None and (row[1], row[2]) == (epoch, before) and not (match["halted"] and row[3]):
            until = leases.after(connection, match["lease"]) if match["lease"] else row[5]
            put(connection, "shard", (shard,), [*row[:2], seq, *row[3:5], until])
            cursor.rowcount = 1


# ------------------------------------------------------------------------------------------------------------- writing


def _copy(table: str) -> Handler:
    key_of = key_reader(table)
    columns = len(COLUMNS[table])
    # A table that nobody updates is kept as text; only as much of a line is split off as its key needs.
    cut = max(PLACES[table][column] for column in KEYS[table]) + 1
    is_read_again = table in UPDATED or table == "ledger_transfer"
    extra: list[Any] = ["new", None] if table == "lp_order" else []

    def copy(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
        lines = parameters[0].decode().split("\n")
        lines.pop()
        for line in lines:
            if not is_read_again and "\\" not in line:
                parts = line.split("\t", cut)
                insert(connection, table, key_of(parts), line)
                continue
            row = fields_of(line) + extra
            assert len(row) == columns, f"{table} has {columns} columns, the line {len(row)}"
            if table == "ledger_transfer":
                _check_transfer(row)
            elif None in row or (table, "kind") in ONE_OF:
                check(table, row)
            insert(connection, table, key_of(row), row if table in UPDATED else line)
        if table in _UNIQUE:
            _UNIQUE[table](connection)
        cursor.rowcount = len(lines)

    return copy


_TRANSFER = PLACES["ledger_transfer"]


def _check_transfer(row: Row) -> None:
    amount = Decimal(row[_TRANSFER["amount"]])
    if not (0 < amount < Decimal("1e20")) or row[_TRANSFER["source"]] == row[_TRANSFER["target"]]:
        raise psycopg.errors.CheckViolation(f"no transfer: {row}")


def _unique_legs(connection: "Connection") -> None:
    assert connection.transaction_now is not None
    for row in connection.transaction_now.writes["lp_order"].values():
        if row[LEG_STATE] == "new" and row[LEG_NAME] in connection.server.tables.leg_of:
            known = connection.server.tables.leg_of[row[LEG_NAME]]
            if known != (int(row[0]),):
                raise psycopg.errors.UniqueViolation(f"lp_order_cl_ord_id: {row[LEG_NAME]}")


_UNIQUE = {"lp_order": _unique_legs}


def _update_many(table: str, columns: list[str]) -> Handler:
    places = [PLACES[table][column] for column in columns]

    def update(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
        cursor.rowcount = 0
        for values in zip(*parameters, strict=True):
            key = (int(values[0]),)
            row = get(connection, table, key)
            if row is None:
                continue
            if table == "lp_order":
                connection.server.lock(connection, table, key)
            changed = list(row)
            for place, value in zip(places, values[1:], strict=True):
                changed[place] = value
            put(connection, table, key, changed)
            cursor.rowcount += 1

    return update


def _put_balances(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    for account, currency, balance in zip(*parameters, strict=True):
        put(connection, BALANCE.name, (account, currency), [account, currency, balance])
    cursor.rowcount = len(parameters[0])


def _park(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    key = (parameters[0],)
    cursor.rowcount = 0
    if get(connection, PARKED.name, key) is None:
        insert(connection, PARKED.name, key, list(parameters))
        cursor.rowcount = 1


def _insert_inbox(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    row = list(parameters)
    check("lp_inbox", row)
    insert(connection, "lp_inbox", (row[0], row[1]), row)
    cursor.rowcount = 1


def _insert_shard(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    (shard,) = parameters
    if get(connection, "shard", (shard,)) is None:
        insert(connection, "shard", (shard,), [shard, 0, 0, "", "", None])


def _raise_epoch(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    (shard,) = parameters
    connection.server.lock(connection, "shard", (shard,))
    row = get(connection, "shard", (shard,))
    cursor.rowcount = 0
    if row is not None:
        changed = [row[0], row[1] + 1, *row[2:]]
        put(connection, "shard", (shard,), changed)
        cursor.rows, cursor.rowcount = [(changed[1], changed[2])], 1


def _halt(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    reason, shard = parameters
    connection.server.lock(connection, "shard", (shard,))
    row = get(connection, "shard", (shard,))
    if row is not None:
        put(connection, "shard", (shard,), [*row[:3], reason, *row[4:]])


def _end_stuck(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    name, _ = parameters
    server = connection.server
    for other in list(server.connections):
        open_now = other.transaction_now
        is_stuck = open_now is not None and open_now.started_s < server.time.monotonic() - STUCK_AFTER_S
        if other is not connection and other.name == name and is_stuck:
            other.drop()
            cursor.rows.append((True,))


# -------------------------------------------------------------------------------------------------------------- reading


def _select(table: str, what: str, rows: "Callable[[Connection, Sequence[Any]], Iterable[Row]]") -> Handler:
    project = selected(table, what)

    def select(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
        cursor.rows = [project(taken_apart(row)) for row in rows(connection, parameters)]
        cursor.rowcount = len(cursor.rows)

    return select


def _by_key(table: str) -> "tuple[str, Callable[[Connection, Sequence[Any]], Iterable[Row]]]":
    def rows(connection: "Connection", parameters: Sequence[Any]) -> Iterable[Row]:
        row = get(connection, table, tuple(parameters))
        return [] if row is None else [row]

    return table, rows


def _indexed(table: str, index: str) -> "tuple[str, Callable[[Connection, Sequence[Any]], Iterable[Row]]]":
    def rows(connection: "Connection", _: Sequence[Any]) -> Iterable[Row]:
        tables = connection.server.tables
        return [tables.rows[table][key] for key in sorted(getattr(tables, index))]

    return table, rows


def _everything(table: str) -> "tuple[str, Callable[[Connection, Sequence[Any]], Iterable[Row]]]":
    return table, lambda connection, _: [row for _, row in scan(connection, table)]


def _shard_locked(connection: "Connection", parameters: Sequence[Any]) -> Iterable[Row]:
    connection.server.lock(connection, "shard", tuple(parameters))
    return _by_key("shard")[1](connection, parameters)


def _orders_numbered(connection: "Connection", parameters: Sequence[Any]) -> Iterable[Row]:
    found = (get(connection, "trade_order", (number,)) for number in parameters[0])
    return [row for row in found if row is not None]


def _keys(connection: "Connection", parameters: Sequence[Any]) -> Iterable[Row]:
    found = (get(connection, "engine_key", key) for key in zip(*parameters, strict=True))
    return [row for row in found if row is not None]


def _legs_named(connection: "Connection", parameters: Sequence[Any]) -> Iterable[Row]:
    keys = (connection.server.tables.leg_of.get(name) for name in parameters[0])
    return [row for row in (get(connection, "lp_order", key) for key in keys if key is not None) if row is not None]


def _deals_of_position(connection: "Connection", parameters: Sequence[Any]) -> Iterable[Row]:
    account, position, limit = parameters
    places = PLACES["deal"]
    rows = (taken_apart(row) for _, row in scan(connection, "deal"))
    ours = [r for r in rows if (int(r[places["account"]]), int(r[places["position_id"]])) == (account, position)]
    return ours[:limit]


def _batch_row(connection: "Connection", parameters: Sequence[Any]) -> Iterable[Row]:
    shard, seq, epoch = parameters
    row = get(connection, "engine_batch", (shard, seq))
    taken = taken_apart(row) if row is not None else None
    return [taken] if taken is not None and int(taken[PLACES["engine_batch"]["epoch"]]) == epoch else []


def _open_withdrawals(connection: "Connection", _: Sequence[Any]) -> Iterable[Row]:
    places = _TRANSFER
    rows = connection.server.tables.withdrawals
    settled = {
        row[places["reference"]].split(" ", 1)[0] for row in rows if row[places["kind"]] != "withdrawal_requested"
    }
    return [
        row
        for row in rows
        if row[places["kind"]] == "withdrawal_requested" and f"request:{row[places['transaction_id']]}" not in settled
    ]


def _open_blocks(connection: "Connection", _: Sequence[Any]) -> Iterable[Row]:
    days = [taken_apart(row) for _, row in scan(connection, "commission_day")]
    last: dict[tuple[str, str], str] = {}
    for account, rule, date, *_rest in days:
        last[account, rule] = max(last.get((account, rule), ""), date)
    blocks = [taken_apart(row) for _, row in scan(connection, "commission_block")]
    unsettled = [block for block in blocks if last.get((block[0], block[1]), "") < block[2]]
    return sorted(unsettled, key=lambda block: (int(block[0]), block[1], block[2], len(block[3]), block[3]))


def _last_days(connection: "Connection", _: Sequence[Any]) -> Iterable[Row]:
    newest: dict[tuple[int, str], Row] = {}
    for _, row in scan(connection, "commission_day"):
        day = taken_apart(row)
        newest[int(day[0]), day[1]] = day
    return [newest[place] for place in sorted(newest)]


def _newest_config(connection: "Connection", _: Sequence[Any]) -> Iterable[Row]:
    rows = list(scan(connection, "config_version"))
    return [rows[-1][1]] if rows else []


def _max_version(connection: "Connection", _: Sequence[Any], cursor: "Cursor") -> None:
    cursor.rows = [(max((key[0] for key in connection.server.tables.rows["config_version"]), default=0),)]


_UNSETTLED = (
    "ledger_transfer t WHERE t.kind = 'withdrawal_requested' AND NOT EXISTS "
    "(SELECT 1 FROM ledger_transfer s WHERE s.kind IN ('withdrawal', 'withdrawal_returned') "
    "AND split_part(s.reference, ' ', 1) = 'request:' || t.transaction_id) ORDER BY t.transaction_id"
)
_BLOCKS = (
    "commission_block b WHERE NOT EXISTS (SELECT 1 FROM commission_day d WHERE d.account = b.account AND d.rule = b.rule "
    "AND d.date >= b.date) ORDER BY b.account, b.rule, b.date, length(b.key), b.key"
)
_KEYS = (
    "engine_key k JOIN unnest(%s::bigint[], %s::text[]) AS u(account, key) ON k.account = u.account AND k.key = u.key"
)

_SOURCES: "dict[str, tuple[str, Callable[[Connection, Sequence[Any]], Iterable[Row]]]]" = {
    _KEYS: ("engine_key", _keys),
    "lp_order WHERE cl_ord_id = ANY(%s)": ("lp_order", _legs_named),
    "lp_order WHERE status IN ('working', 'partially_filled') ORDER BY id": _indexed("lp_order", "live_legs"),
    "deal WHERE id = %s": _by_key("deal"),
    "deal WHERE account = %s AND position_id = %s ORDER BY id LIMIT %s": ("deal", _deals_of_position),
    "position WHERE id = %s": _by_key("position"),
    "position WHERE volume > 0 ORDER BY id": _indexed("position", "open_positions"),
    "trade_order WHERE status = ANY(%s) ORDER BY id": _indexed("trade_order", "live_orders"),
    "account WHERE shard = %s ORDER BY id": _everything("account"),
    "ledger_balance ORDER BY account, currency": _everything("ledger_balance"),
    "engine_batch WHERE shard = %s AND seq = %s": _by_key("engine_batch"),
    "engine_batch WHERE shard = %s AND seq = %s AND epoch = %s": ("engine_batch", _batch_row),
    "shard WHERE shard = %s": _by_key("shard"),
    "shard WHERE shard = %s FOR UPDATE": ("shard", _shard_locked),
    "trade_order WHERE id = ANY(%s)": ("trade_order", _orders_numbered),
    "config_version WHERE version = %s": _by_key("config_version"),
    "config_version ORDER BY version DESC LIMIT 1": ("config_version", _newest_config),
    _UNSETTLED: ("ledger_transfer", _open_withdrawals),
    _BLOCKS: ("commission_block", _open_blocks),
}
"""What stands after FROM, the table whose columns are selected, and the rows that it gives."""

_LAST_DAYS = selected("commission_day", "account, rule, date::text, amount, lots, money, transaction_id")


def _settled_days(connection: "Connection", parameters: Sequence[Any], cursor: "Cursor") -> None:
    cursor.rows = [_LAST_DAYS(row) for row in _last_days(connection, parameters)]


_WHOLE: dict[str, Handler] = {
    'INSERT INTO "ledger_balance" (account, currency, balance) SELECT a, c, b::numeric FROM unnest(%s::text[], %s::text[], '
    "%s::text[]) AS u(a, c, b) ON CONFLICT (account, currency) DO UPDATE SET balance = excluded.balance": _put_balances,
    'INSERT INTO "parked_command" (command_id, account, command, error, at) VALUES (%s, %s::bigint, %s::json, %s, '
    "%s::timestamptz) ON CONFLICT (command_id) DO NOTHING": _park,
    "INSERT INTO lp_inbox (lp, seq, kind, cl_ord_id, exec_id, trade_date, report, raw, received_at) "
    "VALUES (%s, %s, %s, %s, %s, %s, %s::json, %s, %s)": _insert_inbox,
    "INSERT INTO shard (shard, epoch, seq, halted) VALUES (%s, 0, 0, '') ON CONFLICT (shard) DO NOTHING": _insert_shard,
    "UPDATE shard SET epoch = epoch + 1 WHERE shard = %s RETURNING epoch, seq": _raise_epoch,
    "UPDATE shard SET halted = %s WHERE shard = %s": _halt,
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND datname = current_database() "
    "AND pid <> pg_backend_pid() AND xact_start < now() - %s::interval": _end_stuck,
    "SELECT coalesce(max(version), 0) FROM config_version": _max_version,
    "SELECT DISTINCT ON (account, rule) account, rule, date::text, amount, lots, money, transaction_id FROM commission_day "
    "ORDER BY account, rule, date DESC": _settled_days,
    **leases.WHOLE,
    **legs.WHOLE,
}
