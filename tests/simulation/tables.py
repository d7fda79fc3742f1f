"""The modelled server's tables: rows by key, what a transaction sees of them, and the constraints that matter.

Committed rows and each transaction's own lie apart until COMMIT. A few indexes stand for those of the real tables.
"""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg

from engine.tables import WRITTEN
from tests.simulation.columns import COLUMNS, NULLABLE, PLACES, Row, fields_of, taken_apart
from trading.liquidity import CaseKind, DispatchState, LegStatus, ReportKind
from trading.orders import TERMINAL

if TYPE_CHECKING:
    from tests.simulation.postgres import Connection

Key = tuple[Any, ...]

KEYS: dict[str, tuple[str, ...]] = {
    **{table.name: table.key for table in WRITTEN},
    "shard": ("shard",), "lp_inbox": ("lp", "seq"), "config_version": ("version",), "alert": ("key",),
    "lp_lease": ("lp",), "relay_cursor": ("shard",),
}  # fmt: skip
INTEGERS = {"integer", "bigint"}
ONE_OF = {
    ("lp_inbox", "kind"): {kind.value for kind in ReportKind},
    ("lp_case", "kind"): {kind.value for kind in CaseKind},
    ("lp_order", "dispatch_state"): {state.value for state in DispatchState},
    ("lp_order", "status"): {status.value for status in LegStatus},
}
_ALLOWED: dict[str, list[tuple[int, set[str]]]] = {}
for (_table, _column), _values in ONE_OF.items():
    _ALLOWED.setdefault(_table, []).append((PLACES[_table][_column], {str(value) for value in _values}))
_ENDED_ORDERS = {status.value for status in TERMINAL}
_LIVE_LEGS = {status.value for status in LegStatus if not status.is_terminal}
_WITHDRAWALS = {"withdrawal_requested", "withdrawal", "withdrawal_returned"}


class Tables:
    """Committed rows by table and key, and the few indexes that reading needs."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[Key, Row]] = {name: {} for name in COLUMNS}
        self.live_orders: set[Key] = set()
        self.open_positions: set[Key] = set()
        self.live_legs: set[Key] = set()
        self.new_legs: set[Key] = set()
        self.leg_of: dict[str, Key] = {}
        self._legs_of: dict[int, list[Key]] = {}
        self.inbox: dict[str, list[Row]] = {}
        self.withdrawals: list[Row] = []
        self.executions: dict[Key, list[Row]] = {}
        self.referring: dict[Key, list[Row]] = {}
        """By provider and the name that a bust or correction refers to."""
        self._noticed: dict[str, Callable[[Key, Row], None]] = {
            "trade_order": self._order,
            "position": self._position,
            "lp_order": self._leg,
            "lp_inbox": lambda key, row: self.inbox.setdefault(key[0], []).append(row),
            "ledger_transfer": self._transfer,
            "lp_execution": self._execution,
        }

    def merge(self, writes: dict[str, dict[Key, Row]]) -> None:
        for table, rows in writes.items():
            self.rows[table].update(rows)
            notice = self._noticed.get(table)
            if notice is not None:
                for key, row in rows.items():
                    notice(key, row)

    def legs_of(self, orders: Iterable[int]) -> list[Key]:
        return sorted(key for order in orders for key in self._legs_of.get(order, ()))

    def all_rows(self, table: str) -> list[Row]:
        """Every committed row, taken apart, by its key."""
        rows = self.rows[table]
        return [taken_apart(row) for _, row in sorted(rows.items(), key=lambda item: item[0])]

    def _order(self, key: Key, row: Row) -> None:
        (self.live_orders.discard if row[ORDER_STATUS] in _ENDED_ORDERS else self.live_orders.add)(key)

    def _position(self, key: Key, row: Row) -> None:
        (self.open_positions.add if Decimal(row[POSITION_VOLUME]) else self.open_positions.discard)(key)

    def _leg(self, key: Key, row: Row) -> None:
        (self.live_legs.add if row[LEG_STATUS] in _LIVE_LEGS else self.live_legs.discard)(key)
        (self.new_legs.add if row[LEG_STATE] == "new" else self.new_legs.discard)(key)
        if self.leg_of.setdefault(row[LEG_NAME], key) is key:
            self._legs_of.setdefault(int(row[LEG_ORDER]), []).append(key)

    def _execution(self, _key: Key, row: Row) -> None:
        fields = taken_apart(row)
        places = PLACES["lp_execution"]
        self.executions.setdefault((fields[0], fields[1]), []).append(fields)
        if fields[places["ref"]]:
            self.referring.setdefault((fields[0], fields[places["ref"]]), []).append(fields)

    def _transfer(self, _key: Key, line: str) -> None:
        if line.split("\t", 3)[2] in _WITHDRAWALS:
            self.withdrawals.append(fields_of(line))


ORDER_STATUS = PLACES["trade_order"]["status"]
POSITION_VOLUME = PLACES["position"]["volume"]
LEG_STATUS, LEG_STATE = PLACES["lp_order"]["status"], PLACES["lp_order"]["dispatch_state"]
LEG_ORDER = PLACES["lp_order"]["order_id"]
LEG_NAME, LEG_LP = PLACES["lp_order"]["cl_ord_id"], PLACES["lp_order"]["lp"]


def get(connection: "Connection", table: str, key: Key) -> Row | None:
    """The row as this transaction sees it."""
    transaction = connection.transaction_now
    if transaction is not None:
        own = transaction.writes.get(table)
        if own is not None and key in own:
            return own[key]
    return connection.server.tables.rows[table].get(key)


def put(connection: "Connection", table: str, key: Key, row: Row) -> None:
    assert connection.transaction_now is not None
    connection.transaction_now.writes.setdefault(table, {})[key] = row


def insert(connection: "Connection", table: str, key: Key, row: Row) -> None:
    """Raises UniqueViolation when the key is there, NotNullViolation and CheckViolation as the table's constraints do."""
    assert connection.transaction_now is not None
    own = connection.transaction_now.writes.setdefault(table, {})
    if key in own or key in connection.server.tables.rows[table]:
        raise psycopg.errors.UniqueViolation(f"duplicate key value violates unique constraint of {table}: {key}")
    own[key] = row


def scan(connection: "Connection", table: str) -> Iterable[tuple[Key, Row]]:
    """All rows as this transaction sees them, in key order."""
    rows = connection.server.tables.rows[table]
    transaction = connection.transaction_now
    own = transaction.writes.get(table) if transaction is not None else None
    return sorted(({**rows, **own} if own else rows).items(), key=lambda item: item[0])


def check(table: str, row: Row) -> None:
    if None in row:
        for column, value in zip(COLUMNS[table], row, strict=True):
            if value is None and column not in NULLABLE:
                raise psycopg.errors.NotNullViolation(f"null value in column {column} of {table}")
    for place, allowed in _ALLOWED.get(table, ()):
        if row[place] not in allowed:
            raise psycopg.errors.CheckViolation(f"{row[place]} in column {list(COLUMNS[table])[place]} of {table}")


def key_reader(table: str) -> Callable[[Row], Key]:
    places = [(PLACES[table][column], COLUMNS[table][column] in INTEGERS) for column in KEYS[table]]
    if len(places) == 1:
        ((place, is_number),) = places
        return (lambda row: (int(row[place]),)) if is_number else (lambda row: (row[place],))
    return lambda row: tuple([int(row[place]) if is_number else row[place] for place, is_number in places])
