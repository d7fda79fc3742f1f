"""From PostgreSQL back into memory: take the shard over, load what is live, and check it against its last word.

Taking over (`engine.lease`) raises the epoch, and waits for whatever transaction its former owner has open: after that
nobody else can commit, so plain reads see one consistent picture. A hash is compared only where the last batch left one.
"""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import msgspec

from bus.store import load_config
from engine.batch import LastBatch
from engine.journal import LEG_QUERY, Connection, leg_from
from engine.lease import HaltedError, end_stuck_owner, take_over
from engine.state import is_same_state, rebuild, state_hash
from engine.step import Recovered
from engine.stored import (
    LAST_BATCH_COLUMNS,
    POSITION_QUERY,
    TRANSFER_QUERY,
    last_batch_from,
    method_from,
    position_from,
    transfer_from,
)
from trading.accounts import Account, ClientClass, DayTurnover, Rights
from trading.charges.commission import Units
from trading.desk import CommissionBlock, CommissionDay
from trading.ledger import Transfer
from trading.liquidity import LpOrder
from trading.orders import (
    LIVE_ORDERS,
    Book,
    Order,
    OrderCommission,
    OrderReason,
    OrderStatus,
    OrderType,
    Side,
    TimeInForce,
)
from trading.positions import Position
from trading.protection import ProtectionTerms


class ContradictionError(HaltedError):
    """What the shard left behind contradicts itself."""


def recover(connection: Connection, shard: int) -> Recovered:
    """Own the shard, whoever had it before, and load it. Raises as `take_over` and `load` do."""
    end_stuck_owner(connection)
    epoch, seq = take_over(connection, shard, owned=None)
    return load(connection, shard, epoch=epoch, seq=seq)


def load(connection: Connection, shard: int, *, epoch: int, seq: int) -> Recovered:
    """The state after batch `seq`. Raises ContradictionError, LookupError for a missing configuration, psycopg.Error."""
    last = _last_batch(connection, shard, seq)
    config = load_config(connection, last.config_version) if last.config_version else None
    state = rebuild(
        shard=shard,
        config=config,
        counters=last.counters,
        accounts=_accounts(connection, shard),
        orders=_live_orders(connection),
        positions=_open_positions(connection),
        legs=_live_legs(connection),
        balances=_balances(connection),
        inbox_cursors=last.inbox_cursors,
        outbox_seq=last.outbox_seq,
        desk=last.desk,
        blocks=_open_blocks(connection),
        days=_last_days(connection),
        withdrawals=_open_withdrawals(connection),
    )
    if last.state_hash and is_same_state(last.state_hash, state_hash(state)) is False:
        raise ContradictionError(f"the state loaded from the database does not hash as batch {seq} left it")
    return Recovered(state=state, epoch=epoch, seq=seq, position=last.position, at_us=last.at_us)


def _last_batch(connection: Connection, shard: int, seq: int) -> LastBatch:
    if seq == 0:
        return LastBatch()
    query = f"SELECT {LAST_BATCH_COLUMNS} FROM engine_batch WHERE shard = %s AND seq = %s"  # noqa: S608
    row = connection.execute(query.encode(), (shard, seq)).fetchone()
    if row is None:
        raise ContradictionError(f"batch {seq}, the last one, has no row")
    return last_batch_from(row)


def _accounts(connection: Connection, shard: int) -> Iterator[Account]:
    rows = connection.execute(
        'SELECT id, "group", currency, leverage, client_class, rights, balance, credit, version, seq, jurisdiction, '
        "stp_only, alarm, commission_blocked, day_trades, turnover::text "
        "FROM account WHERE shard = %s ORDER BY id",
        (shard,),
    )
    for number, group, currency, leverage, client_class, rights, balance, credit, version, seq, *more in _typed(rows):
        jurisdiction, stp_only, alarm, blocked, day_trades, turnover = more
        yield Account(
            id=number,
            group=group,
            currency=currency,
            leverage=leverage,
            client_class=ClientClass(client_class),
            rights=Rights(rights),
            balance=balance,
            credit=credit,
            version=version,
            seq=seq,
            jurisdiction=jurisdiction,
            stp_only=stp_only,
            alarm=alarm,
            commission_blocked=blocked,
            day_trades=tuple(day_trades),
            turnover=msgspec.json.decode(turnover, type=tuple[DayTurnover, ...]),
        )


def _live_orders(connection: Connection) -> Iterator[Order]:
    rows = connection.execute(
        "SELECT id, uuid::text, account, client_order_id, symbol, side, type, volume, status, "
        "(extract(epoch FROM created_at) * 1000000)::bigint, (extract(epoch FROM updated_at) * 1000000)::bigint, "
        "filled_volume, filled_cost, "
        "position_id, closes, refusal, detail, comment, book, volume_a, filled_a, margin_reserved, attempts, "
        "price, stop_price, time_in_force, coalesce((extract(epoch FROM expires_at) * 1000000)::bigint, 0), max_slippage, "
        "stop_loss, stop_loss_points, take_profit, take_profit_points, trailing_points, trailing_step, "
        "trailing_activation, break_even_points, break_even_offset, is_guaranteed, sl_trigger, "
        "is_triggered, reason, hedged_reserved, unleveraged_reserved, notional_reserved, oco_group, netted, stop_trigger, "
        "commissions::text "
        "FROM trade_order WHERE status = ANY(%s) ORDER BY id",
        (LIVE_ORDERS,),
    )
    names = ProtectionTerms.__struct_fields__
    first = Order.__struct_fields__.index("protection")
    for row in _typed(rows):
        asked = dict(zip(names, row[first : first + len(names)], strict=True))
        asked["stop_trigger"] = method_from(asked["stop_trigger"])
        fields = (*row[:first], ProtectionTerms(**asked), *row[first + len(names) :])
        values = dict(zip(Order.__struct_fields__, fields, strict=True))
        values["side"] = Side(str(values["side"]))
        values["type"] = OrderType(str(values["type"]))
        values["status"] = OrderStatus(str(values["status"]))
        values["book"] = Book(str(values["book"])) if values["book"] else None
        values["attempts"] = tuple(values["attempts"])
        values["time_in_force"] = TimeInForce(str(values["time_in_force"]))
        values["reason"] = OrderReason(str(values["reason"]))
        values["stop_trigger"] = method_from(values["stop_trigger"])
        values["commissions"] = msgspec.json.decode(values["commissions"], type=tuple[OrderCommission, ...])
        yield Order(**values)


def _open_positions(connection: Connection) -> Iterator[Position]:
    """The many: a hundred thousand of them are read in a few seconds."""
    rows = connection.execute(f"{POSITION_QUERY} WHERE volume > 0 ORDER BY id".encode())
    return (position_from(row) for row in rows)


def _live_legs(connection: Connection) -> Iterator[LpOrder]:
    rows = connection.execute(f"{LEG_QUERY} WHERE status IN ('working', 'partially_filled') ORDER BY id".encode())
    return (leg_from(row) for row in rows)


def _balances(connection: Connection) -> dict[tuple[str, str], Decimal]:
    rows = connection.execute("SELECT account, currency, balance FROM ledger_balance ORDER BY account, currency")
    return {(account, currency): balance for account, currency, balance in _typed(rows)}


UNSETTLED = (
    "WHERE t.kind = 'withdrawal_requested' AND NOT EXISTS "
    "(SELECT 1 FROM ledger_transfer s WHERE s.kind IN ('withdrawal', 'withdrawal_returned') "
    "AND split_part(s.reference, ' ', 1) = 'request:' || t.transaction_id)"
)


def _open_withdrawals(connection: Connection) -> Iterator[Transfer]:
    """Asked for, and named by no later transfer that pays it or gives it back."""
    rows = connection.execute(f"{TRANSFER_QUERY} {UNSETTLED} ORDER BY t.transaction_id".encode())
    return (transfer_from(row) for row in rows)


def _open_blocks(connection: Connection) -> Iterator[CommissionBlock]:
    """Blocked and not yet posted: younger than the rule's last settled date."""
    rows = connection.execute(
        "SELECT b.account, b.rule, b.date::text, b.key, b.units, b.volume, b.money FROM commission_block b "
        "WHERE NOT EXISTS "
        "(SELECT 1 FROM commission_day d WHERE d.account = b.account AND d.rule = b.rule AND d.date >= b.date) "
        "ORDER BY b.account, b.rule, b.date, length(b.key), b.key"
    )
    for account, rule, date, key, units, volume, money in _typed(rows):
        counted = Units(units=units, volume=volume, money=money)
        yield CommissionBlock(account=account, rule=rule, date=date, key=key, counted=counted)


def _last_days(connection: Connection) -> Iterator[CommissionDay]:
    """The newest settled day of every account and rule."""
    rows = connection.execute(
        "SELECT DISTINCT ON (account, rule) account, rule, date::text, amount, lots, money, transaction_id "
        "FROM commission_day ORDER BY account, rule, date DESC"
    )
    for account, rule, date, amount, lots, money, transaction_id in _typed(rows):
        yield CommissionDay(
            account=account,
            rule=rule,
            date=date,
            amount=amount,
            lots=lots,
            money=money,
            transaction_id=transaction_id,
        )


def _typed(rows: Iterable[tuple[object, ...]]) -> Iterator[tuple[Any, ...]]:
    """Rows come typed by the database; this is where the type checker is told so."""
    return iter(rows)
