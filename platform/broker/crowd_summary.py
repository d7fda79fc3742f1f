"""What came of the crowd's day, read from the database: orders, refusals, fills, what was charged, and who won what.

Everything is counted from a mark on, which is set before the crowd begins, so that an older data folder or the tour does not
count. Amounts are told per currency and never added across.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import psycopg
from msgspec import Struct

from trading.numbers import plain

Connection = psycopg.Connection[Any]
LABEL_WIDTH = 20


class Mark(Struct, frozen=True):
    """Where the numbers stood."""

    order: int
    deal: int
    transaction: int
    note: int
    case: int


MARK = """
SELECT (SELECT coalesce(max(id), 0) FROM trade_order), (SELECT coalesce(max(id), 0) FROM deal),
    (SELECT coalesce(max(transaction_id), 0) FROM ledger_transfer), (SELECT coalesce(max(id), 0) FROM margin_note),
    (SELECT coalesce(max(id), 0) FROM lp_case)
"""
ORDERS = """
SELECT type, status, count(*) FROM trade_order WHERE id > %s AND NOT closes GROUP BY 1, 2 ORDER BY 1, 2
"""
CLOSING_ORDERS = "SELECT status, count(*) FROM trade_order WHERE id > %s AND closes GROUP BY 1 ORDER BY 1"
LIVES = "SELECT time_in_force, count(*) FROM trade_order WHERE id > %s AND NOT closes GROUP BY 1 ORDER BY 1"
REFUSALS = """
SELECT refusal, count(*) FROM trade_order WHERE id > %s AND refusal <> '' GROUP BY 1 ORDER BY 2 DESC, 1
"""
FILLS = """
SELECT o.reason || CASE d.entry WHEN 'in' THEN '' WHEN 'out' THEN ' close' ELSE ' ' || d.entry END, count(*)
FROM deal d JOIN trade_order o ON o.id = d.order_id WHERE d.id > %s GROUP BY 1 ORDER BY 2 DESC, 1
"""
BOOKS = "SELECT book, count(*) FROM deal WHERE id > %s GROUP BY 1 ORDER BY 1"
NOTES = "SELECT kind, count(*), count(DISTINCT account) FROM margin_note WHERE id > %s GROUP BY 1 ORDER BY 1"
STOP_OUTS = """
SELECT o.reason, count(DISTINCT o.id), count(DISTINCT o.account) FROM trade_order o
WHERE o.id > %s AND o.reason IN ('stop_out', 'close_out') GROUP BY 1 ORDER BY 1
"""
SWAPS = """
SELECT a.currency, count(*), sum(s.amount) FROM swap_accrual s JOIN account a ON a.id = s.account
WHERE s.at >= %s GROUP BY 1 ORDER BY 1
"""
MOVED = """
SELECT kind, currency, sum(CASE WHEN source LIKE 'client:%%' THEN -amount ELSE amount END) FROM ledger_transfer
WHERE transaction_id > %s AND (source LIKE 'client:%%' OR target LIKE 'client:%%') GROUP BY 1, 2 ORDER BY 1, 2
"""
WON = """
SELECT account, currency, sum(amount) FROM ledger_posting
WHERE transaction_id > %s AND (account LIKE 'house:%%' OR account LIKE 'lp:%%') GROUP BY 1, 2 ORDER BY 1, 2
"""
MONEY = {
    "swaps posted": ("swap",),
    "commissions": ("commission",),
    "fees": ("fee", "guarantee_fee", "conversion_fee"),
    "negative balances": ("negative_balance",),
    "deposits": ("deposit",),
    "withdrawals asked": ("withdrawal_requested",),
    "withdrawals back": ("withdrawal_returned",),
}
"""What moved on clients' accounts: the label, and the kinds of transfers that it counts."""


def mark(connection: Connection) -> Mark:
    row = connection.execute(MARK.encode()).fetchone()
    assert row is not None
    return Mark(*row)


def lines(connection: Connection, since: Mark, began_at: object) -> Iterator[str]:
    """The summary's lines, from the first order to the last cent."""
    yield from _told("orders", _by_first(_rows(connection, ORDERS, since.order)))
    yield from _told("closing orders", [_counts(_rows(connection, CLOSING_ORDERS, since.order))])
    yield from _told("times in force", [_counts(_rows(connection, LIVES, since.order))])
    yield from _told("refused orders", [_counts(_rows(connection, REFUSALS, since.order))])
    yield from _told("fills by reason", [_counts(_rows(connection, FILLS, since.deal))])
    yield from _told("fills by book", [_counts(_rows(connection, BOOKS, since.deal))])
    yield from _told("margin", _of_accounts(_rows(connection, NOTES, since.note)))
    yield from _told("stop-outs", _of_accounts(_rows(connection, STOP_OUTS, since.order)))
    yield from _told("swaps charged", _swaps(_rows(connection, SWAPS, began_at)))
    moved = _rows(connection, MOVED, since.transaction)
    for label, kinds in MONEY.items():
        yield from _told(label, [_amounts([(money, by) for kind, money, by in moved if kind in kinds])])
    yield from _winnings(_rows(connection, WON, since.transaction))
    cases = _rows(connection, "SELECT kind, count(*) FROM lp_case WHERE id > %s GROUP BY 1 ORDER BY 1", since.case)
    yield from _told("cases for dealers", [_counts(cases)])


def counted(label: str, counts: Mapping[str, int]) -> Iterator[str]:
    """One line of names and numbers, the frequent ones first."""
    yield from _told(label, [_counts(sorted(counts.items(), key=lambda one: (-one[1], one[0])))])


def _winnings(rows: list[tuple[Any, ...]]) -> Iterator[str]:
    """House and providers, an account a line; signs are theirs."""
    accounts: dict[str, list[tuple[str, Decimal]]] = {}
    for account, currency, amount in rows:
        accounts.setdefault(account, []).append((currency, amount))
    yield from _told("house and providers", [f"{account} {_amounts(won)}" for account, won in accounts.items()])


def _by_first(rows: list[tuple[Any, ...]]) -> list[str]:
    groups: dict[str, list[tuple[str, int]]] = {}
    for first, second, number in rows:
        groups.setdefault(first, []).append((second, number))
    return [f"{first}: {_counts(counts)}" for first, counts in groups.items()]


def _of_accounts(rows: list[tuple[Any, ...]]) -> list[str]:
    return [f"{kind} {number} on {accounts} accounts" for kind, number, accounts in rows]


def _swaps(rows: list[tuple[Any, ...]]) -> list[str]:
    return [f"{number} positions, {plain(amount.normalize())} {currency}" for currency, number, amount in rows]


def _counts(rows: Any) -> str:
    return ", ".join(f"{name} {number}" for name, number in rows)


def _amounts(sums: list[tuple[str, Decimal]]) -> str:
    totals: dict[str, Decimal] = {}
    for currency, amount in sums:
        totals[currency] = totals.get(currency, Decimal(0)) + amount
    return ", ".join(f"{amount:.2f} {currency}" for currency, amount in totals.items())


def _told(label: str, parts: list[str]) -> Iterator[str]:
    """A label and what there is to tell, a part a line; `none` where there is nothing."""
    for place, part in enumerate([part for part in parts if part] or ["none"]):
        yield f"  {label if place == 0 else '':<{LABEL_WIDTH}} {part}"


def _rows(connection: Connection, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    return connection.execute(query.encode(), parameters).fetchall()
