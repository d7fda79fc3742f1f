"""The tables as migrated are the tables as the engine writes them: COPY names every column and skips Python's defaults."""

from typing import Any

import psycopg
import pytest
from django.db import connection

from engine import tables

ALL = (*tables.WRITTEN, tables.SHARD, tables.LP_INBOX, tables.CONFIG)
OWNED_BY_OTHERS = {
    "lp_order": {"dispatch_state", "dispatched_at"},
    "lp_case": {"is_settled", "settled_by", "settled_at", "note"},
}
"""Columns that the engine never writes; each must be nullable or have a default."""

pytestmark = pytest.mark.django_db

COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull AND NOT a.atthasdef
FROM pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""
KEY = """
SELECT array_agg(a.attname::text ORDER BY k.place)
FROM pg_index i CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k(number, place)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
WHERE i.indrelid = %s::regclass AND i.indisprimary
"""


def rows(sql: str, *parameters: Any) -> list[tuple[object, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, list(parameters))
        return list(cursor.fetchall())


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_columns_and_types_are_the_engines(table: tables.Table) -> None:
    short = {"timestamp with time zone": "timestamptz"}
    found = {str(name): (short.get(str(kind), str(kind)), needed) for name, kind, needed in rows(COLUMNS, table.name)}
    others = OWNED_BY_OTHERS.get(table.name, set())
    assert {name: kind for name, (kind, _) in found.items() if name not in others} == table.columns
    assert not any(found[name][1] for name in others)


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_keys_are_the_engines(table: tables.Table) -> None:
    assert rows(KEY, table.name) == [(list(table.key),)]


def test_no_engine_table_has_a_foreign_key() -> None:
    names = [table.name for table in ALL]
    assert (
        rows("SELECT conname FROM pg_constraint WHERE contype = 'f' AND conrelid::regclass::text = ANY(%s)", names)
        == []
    )


TRANSFER = "INSERT INTO ledger_transfer VALUES (%s, 1, 'deposit', 'bank', 'client:1', 'EUR', %s, 0, 0, 0, '', now())"
BALANCE = "INSERT INTO ledger_balance VALUES ('client:1', 'EUR', %s)"


@pytest.mark.parametrize("amount", ["NaN", "0", "-1", "100000000000000000000"])
def test_a_transfer_needs_a_positive_bounded_amount(amount: str) -> None:
    with pytest.raises(Exception, match=r"ledger_transfer_amount|numeric field overflow"):
        rows(TRANSFER + " RETURNING line", 1, amount)


@pytest.mark.parametrize("balance", ["NaN"])
def test_a_balance_is_a_number(balance: str) -> None:
    with pytest.raises(Exception, match="ledger_balance_finite"):
        rows(BALANCE + " RETURNING 1", balance)


@pytest.mark.parametrize("infinity", ["Infinity", "-Infinity"])
@pytest.mark.parametrize("statement", ["balance", "transfer"])
def test_infinity_has_no_place(infinity: str, statement: str) -> None:
    with pytest.raises(Exception, match=r"numeric field overflow|ledger_"):
        rows(BALANCE + " RETURNING 1", infinity) if statement == "balance" else rows(TRANSFER, 1, infinity)


def test_a_posting_is_shown_on_both_sides_and_sums_to_zero() -> None:
    rows(TRANSFER + " RETURNING line", 1, "12.34")
    postings = rows("SELECT account, amount::text FROM ledger_posting ORDER BY account")
    assert postings == [("bank", "-12.34000000"), ("client:1", "12.34000000")]


@pytest.mark.parametrize(
    "table",
    ["ledger_transfer", "deal", "lp_inbox", "lp_execution", "error_fill", "config_version", "operations_auditentry"],
)
@pytest.mark.parametrize("change", ["DELETE FROM {}", "UPDATE {} SET {} = {}"])
def test_history_cannot_be_changed(table: str, change: str) -> None:
    column = {
        "ledger_transfer": "line",
        "deal": "id",
        "lp_inbox": "seq",
        "lp_execution": "volume",
        "config_version": "version",
    }.get(table, "id")
    with pytest.raises(Exception, match=f"{table} is append-only") as refusal:
        rows(change.format(table, column, column))
    assert isinstance(refusal.value.__cause__, psycopg.errors.InsufficientPrivilege)


def test_the_models_and_the_migrations_agree() -> None:
    from django.core.management import call_command

    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
