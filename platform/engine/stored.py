"""Positions, deals and transfers as PostgreSQL gives them: the queries' columns, and rows back into values."""

from collections.abc import Sequence
from typing import Any

import msgspec

from engine.batch import LastBatch, StreamPosition
from engine.state import Counters
from trading.desk import Desk
from trading.ledger import TransactionKind, Transfer
from trading.liquidity import Execution, Owner, ReportKind
from trading.orders import Book, Deal, DealEntry, Side
from trading.positions import Position
from trading.protection import UNPROTECTED, Protection, StopTriggerMethod

POSITION_QUERY = (
    "SELECT id, account, symbol, side, volume_opened, volume, cost, margin, lp, volume_a_opened, volume_a, cost_a, "
    "locked, (extract(epoch FROM opened_at) * 1000000)::bigint, (extract(epoch FROM updated_at) * 1000000)::bigint, "
    "hedged, unleveraged, notional, swap, (extract(epoch FROM rolled_at) * 1000000)::bigint, "
    "stop_loss, take_profit, trailing_points, trailing_step, trailing_activation, break_even_points, break_even_offset, "
    "is_guaranteed, sl_trigger "
    "FROM position"
)
DEAL_QUERY = (
    "SELECT id, order_id, position_id, account, symbol, side, entry, volume, price, profit, commission, "
    "(extract(epoch FROM at) * 1000000)::bigint, book, lp, exec_id, lp_price, swap, fee FROM deal"
)
TRANSFER_QUERY = (
    "SELECT t.transaction_id, t.line, t.kind, t.source, t.target, t.currency, t.amount, "
    "(extract(epoch FROM t.at) * 1000000)::bigint, t.order_id, t.deal_id, t.position_id, t.reference FROM ledger_transfer t"
)

EXECUTION_COLUMNS = (
    "x.lp, x.exec_id, x.trade_date, x.kind, x.content, x.cl_ord_id, x.owner, "
    "(extract(epoch FROM x.at) * 1000000)::bigint, x.symbol, x.side, x.volume, x.price, x.ref"
)

LAST_BATCH_COLUMNS = (
    "stream_incarnation, stream_id, inbox_cursors::text, config_version, counters::text, outbox_seq, "
    "desk::text, coalesce(state_hash, ''), (extract(epoch FROM at) * 1000000)::bigint"
)

STANDING = Protection.__struct_fields__
NOTHING_STANDS = list(msgspec.structs.astuple(UNPROTECTED))
SIDES = {side.value: side for side in Side}


def position_from(row: Sequence[Any]) -> Position:
    """One row of POSITION_QUERY."""
    number, account, symbol, side, opened, volume, cost, margin, lp, *rest = row
    a_opened, a, cost_a, locked, at, updated, hedged, unleveraged, notional, swap, rolled, *protection = rest
    protection[-1] = method_from(protection[-1])
    return Position(
        id=number,
        account=account,
        symbol=symbol,
        side=SIDES[side],
        opened_us=at,
        updated_us=updated,
        volume_opened=opened,
        volume=volume,
        cost=cost,
        margin=margin,
        lp=lp,
        volume_a_opened=a_opened,
        volume_a=a,
        cost_a=cost_a,
        locked=locked,
        hedged=hedged,
        unleveraged=unleveraged,
        notional=notional,
        swap=swap,
        rolled_us=rolled,
        protection=UNPROTECTED
        if protection == NOTHING_STANDS
        else Protection(**dict(zip(STANDING, protection, strict=True))),
    )


def method_from(text: Any) -> StopTriggerMethod | None:
    return StopTriggerMethod(str(text)) if text else None


def deal_from(row: Sequence[Any]) -> Deal:
    """One row of DEAL_QUERY."""
    values = dict(zip(Deal.__struct_fields__, row, strict=True))
    values["side"] = SIDES[values["side"]]
    values["entry"] = DealEntry(values["entry"])
    values["book"] = Book(values["book"])
    return Deal(**values)


def execution_from(row: Sequence[Any]) -> Execution:
    """One row of EXECUTION_COLUMNS."""
    values = dict(zip(Execution.__struct_fields__, row, strict=True))
    values["kind"] = ReportKind(values["kind"])
    values["owner"] = Owner(values["owner"])
    values["side"] = SIDES[values["side"]] if values["side"] else None
    return Execution(**values)


def last_batch_from(row: Sequence[object]) -> LastBatch:
    """One row of LAST_BATCH_COLUMNS."""
    incarnation, stream_id, cursors, version, counters, outbox_seq, desk, hashed, at_us = (str(value) for value in row)
    return LastBatch(
        position=StreamPosition(incarnation, stream_id),
        inbox_cursors=msgspec.json.decode(cursors, type=dict[str, int]),
        config_version=int(version),
        counters=msgspec.json.decode(counters, type=Counters),
        outbox_seq=int(outbox_seq),
        desk=msgspec.json.decode(desk, type=Desk),
        state_hash=hashed,
        at_us=int(at_us),
    )


def transfer_from(row: Sequence[Any]) -> Transfer:
    """One row of TRANSFER_QUERY."""
    values = dict(zip(Transfer.__struct_fields__, row, strict=True))
    values["kind"] = TransactionKind(values["kind"])
    return Transfer(**values)
