"""Rows as PostgreSQL's COPY reads them: one per entity, escaped, with the last value that the batch gave it."""

import zlib
from decimal import Decimal

import msgspec
import pytest

from engine.batch import Batch, Parked, StreamPosition
from engine.core import AccountEvent
from engine.rows import Rows, change_statement, copy_statement, rows_of
from engine.state import Counters
from engine.tables import ACCOUNT, DEAL, LP_ORDER, ORDER, POSITION, TRANSFER
from tests.support.builders import NOW_US, account, position
from trading.desk import Desk
from trading.events import (
    AccountChanged,
    AccountOpened,
    ChildOrderRouted,
    ChildOrderUpdated,
    CommandKeyed,
    DealMade,
    LedgerPosted,
    OrderFilled,
    OrderPartiallyFilled,
    PositionChanged,
    PositionOpened,
)
from trading.ledger import TransactionKind, Transfer
from trading.liquidity import LegStatus, LpOrder
from trading.orders import Book, Deal, DealEntry, Order, OrderStatus, OrderType, Side


def batch_of(*events: object, **overrides: object) -> Batch:
    fields: dict[str, object] = {
        "shard": 0,
        "epoch": 3,
        "seq": 8,
        "at_us": NOW_US,
        "position": StreamPosition("life", "17-0"),
        "inbox_cursors": {"YOFX1": 4},
        "config_version": 1,
        "new_from": Counters(order=100, position=100, leg=100),
        "counters": Counters(order=101),
        "outbox_seq": 5,
        "desk": Desk(),
        "commands": 1,
        "inputs": [],
        "events": list(events),
        "told": [],
        "parked": [],
        "balances": {},
        "answers": [],
        "nudges": [],
        **overrides,
    }
    return Batch(**fields)  # type: ignore[arg-type]


def order(number: int = 100, **overrides: object) -> Order:
    fields: dict[str, object] = {
        "uuid": "0190aaaa-0000-7000-8000-000000000001",
        "account": 1,
        "client_order_id": "mine",
        "symbol": "EURUSD",
        "side": Side.BUY,
        "type": OrderType.MARKET,
        "volume": Decimal("0.10"),
        "status": OrderStatus.FILLED,
        "created_us": NOW_US,
        "updated_us": NOW_US + 1,
        **overrides,
    }
    return Order(id=number, **fields)  # type: ignore[arg-type]


def leg(number: int = 100, **overrides: object) -> LpOrder:
    fields: dict[str, object] = {
        "order_id": 100,
        "account": 1,
        "lp": "YOFX1",
        "cl_ord_id": f"T0-{number}",
        "symbol": "EURUSD",
        "lp_symbol": "EUR/USD",
        "side": Side.BUY,
        "volume": Decimal("0.10"),
        "quantity": Decimal(10000),
        "position_id": 0,
        "status": LegStatus.WORKING,
        "created_us": NOW_US,
        "updated_us": NOW_US,
        "expires_us": NOW_US + 5_000_000,
        **overrides,
    }
    return LpOrder(id=number, **fields)  # type: ignore[arg-type]


def appended(rows: Rows, table: object) -> list[dict[str, str]]:
    """The COPY text of a table, taken apart as PostgreSQL would."""
    found = next((append for append in rows.appends if append.table is table), None)
    if found is None:
        return []
    lines = found.data.decode().removesuffix("\n").split("\n")
    assert len(lines) == found.rows
    assert all(line.count("\t") == len(found.table.columns) - 1 for line in lines)
    return [dict(zip(found.table.columns, line.split("\t"), strict=True)) for line in lines]


def changed(rows: Rows, table: object) -> list[dict[str, str | None]]:
    return [
        dict(zip((change.key, *change.columns), values, strict=True))
        for change in rows.changes
        if change.table is table
        for values in change.values
    ]


def test_an_entity_is_written_once_as_it_is_at_the_end() -> None:
    events = [OrderPartiallyFilled(order(filled_volume=Decimal(n))) for n in (1, 2)]
    (row,) = appended(rows_of(batch_of(*events, OrderFilled(order(filled_volume=Decimal(3))))), ORDER)
    assert (row["filled_volume"], row["status"]) == ("3", "filled")


def test_an_id_from_before_the_batch_is_updated_and_a_new_one_inserted() -> None:
    rows = rows_of(batch_of(OrderFilled(order(99)), OrderFilled(order(100))))
    assert [row["id"] for row in appended(rows, ORDER)] == ["100"]
    assert [row["id"] for row in changed(rows, ORDER)] == ["99"]


def test_a_position_opened_and_changed_in_one_batch_is_one_new_row() -> None:
    rows = rows_of(batch_of(PositionOpened(position(id=100)), PositionChanged(position("0.40", id=100))))
    assert [row["volume"] for row in appended(rows, POSITION)] == ["0.40"]
    assert changed(rows, POSITION) == []


def test_a_leg_carries_the_epoch_and_its_changes_leave_the_dispatch_alone() -> None:
    update = ChildOrderUpdated(leg(99, status=LegStatus.FILLED, exec_ids=("20260105/E1",)))
    rows = rows_of(batch_of(ChildOrderRouted(leg()), update))
    (new,), (old,) = appended(rows, LP_ORDER), changed(rows, LP_ORDER)
    assert (new["epoch"], new["exec_ids"], new["expires_at"]) == ("3", "{}", "2023-11-14 22:13:25.000000+00")
    assert (old["status"], old["exec_ids"]) == ("filled", '{"20260105/E1"}')
    assert "dispatch_state" not in {*new, *old}


def test_an_account_is_new_when_it_was_opened_and_else_updated() -> None:
    opened = [AccountOpened(account(5)), AccountChanged(account(5, balance=Decimal("7.00")))]
    rows = rows_of(batch_of(*opened, AccountChanged(account(6, leverage=20))))
    assert [(row["id"], row["balance"]) for row in appended(rows, ACCOUNT)] == [("5", "7.00")]
    assert [(row["id"], row["leverage"]) for row in changed(rows, ACCOUNT)] == [("6", "20")]


def test_a_posting_writes_its_transfers_and_the_account_after_them() -> None:
    move = Transfer(
        transaction_id=9,
        line=1,
        kind=TransactionKind.DEPOSIT,
        source="bank",
        target="client:6",
        currency="EUR",
        amount=Decimal("5.00"),
        at_us=NOW_US,
    )
    rows = rows_of(batch_of(LedgerPosted((move,), account(6, balance=Decimal("5.00")))))
    assert [(row["source"], row["target"], row["amount"]) for row in appended(rows, TRANSFER)] == [
        ("bank", "client:6", "5.00")
    ]
    assert [row["balance"] for row in changed(rows, ACCOUNT)] == ["5.00"]


def test_a_deal_with_the_house_has_no_provider_price() -> None:
    deal = Deal(
        id=1,
        order_id=100,
        position_id=100,
        account=1,
        symbol="EURUSD",
        side=Side.BUY,
        entry=DealEntry.IN,
        volume=Decimal("0.10"),
        price=Decimal("1.08512"),
        profit=Decimal(0),
        commission=Decimal("0.35"),
        at_us=NOW_US,
        book=Book.B,
    )
    (row,) = appended(rows_of(batch_of(DealMade(deal))), DEAL)
    assert (row["price"], row["lp_price"], row["at"]) == ("1.08512", "\\N", "2023-11-14 22:13:20.000000+00")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain", "plain"),
        ("", ""),
        ("a\tb", "a\\tb"),
        ("a\nb\rc", "a\\nb\\rc"),
        ("\\N", "\\\\N"),
        ("\\.", "\\\\."),
        ("Müller 測試", "Müller 測試"),
    ],
)
def test_text_cannot_break_out_of_its_field(text: str, written: str) -> None:
    (row,) = appended(rows_of(batch_of(OrderFilled(order(comment=text)))), ORDER)
    assert row["comment"] == written


def test_array_elements_are_quoted_for_the_array_and_then_for_copy() -> None:
    (row,) = appended(rows_of(batch_of(OrderFilled(order(attempts=('a"b', "c\\d"))))), ORDER)
    assert row["attempts"] == '{"a\\\\"b","c\\\\\\\\d"}'


def test_json_keeps_its_own_escapes() -> None:
    told = AccountEvent(1, 1, "order.filled", b'{"comment":"a\\nb"}', 1, NOW_US)
    rows = rows_of(batch_of(told=[told]))
    (outbox,) = [append.data.decode() for append in rows.appends if append.table.name == "outbox"]
    assert '{"comment":"a\\\\nb"}' in outbox


def test_the_batch_row_says_how_to_go_on_and_what_went_in() -> None:
    rows = rows_of(batch_of(CommandKeyed(1, "k", "hash", "Deposit", 9, "")))
    (line,) = [append.data.decode() for append in rows.appends if append.table.name == "engine_batch"]
    fields = line.rstrip("\n").split("\t")
    assert fields[:7] == ["0", "8", "3", "life", "17-0", '{"YOFX1":4}', "1"]
    assert msgspec.json.decode(fields[7])["order"] == 101
    assert zlib.decompress(bytes.fromhex(fields[11].removeprefix("\\\\x"))) == b"[]"


def test_what_cannot_be_text_at_all_is_taken_out_of_the_record_of_a_bad_command() -> None:
    command = b'"\0 a\\u0000b \\\\u0000 c"'
    parked = Parked(command_id="x\0", account=0, command=command, error="\0?", at_us=NOW_US)
    at = "2023-11-14 22:13:20.000000+00"
    assert rows_of(batch_of(parked=[parked])).parked == [("x", "0", '" ab \\\\u0000 c"', "?", at)]


def test_statements_name_every_column() -> None:
    assert copy_statement(TRANSFER).startswith('COPY "ledger_transfer" ("transaction_id", "line", "kind"')
    (change,) = rows_of(batch_of(AccountChanged(account(6)))).changes
    statement = change_statement(change)
    assert '"group" = u.c1::text' in statement
    assert 'WHERE t."id" = u.c0::bigint' in statement
    assert statement.count("%s::text[]") == 1 + len(change.columns)
