"""From a batch's events to rows: lines for COPY where a row is new, columns for UPDATE .. FROM unnest where it is not.

Pure, and the hot path: a market order makes about nine rows. An entity that several events touched is written once, as
it is after the last one. New and old are told apart by id: ids only grow, and the batch knows where it began to count.
"""

import functools
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from bus.codec import encode
from engine.batch import Batch, Parked
from engine.core import AccountEvent
from engine.tables import (
    ACCOUNT,
    BALANCE,
    BATCH,
    CASE,
    COMMISSION_BLOCK,
    COMMISSION_DAY,
    DEAL,
    DECISION,
    ERROR_FILL,
    EXECUTION,
    KEY,
    LP_ORDER,
    MARGIN_NOTE,
    ORDER,
    OUTBOX,
    PARKED,
    POSITION,
    SWAP_ACCRUAL,
    TRANSFER,
    WRITTEN,
    Table,
)
from trading import events as e
from trading.accounts import Account
from trading.desk import CommissionBlock, CommissionDay, Desk, ErrorFill, MarginNote, SwapAccrual
from trading.events import Event
from trading.ledger import Transfer
from trading.liquidity import Execution, LpOrder
from trading.orders import Deal, Order
from trading.positions import Position
from trading.protection import NOTHING_ASKED, UNPROTECTED, Protection, ProtectionTerms

NULL = "\\N"
INPUTS_COMPRESSION = 1
_TIMES_MAX = 4096
_TYPES = {table.name: table.columns for table in WRITTEN}


class Append(Struct, frozen=True):
    """New rows of one table, in COPY's text format."""

    table: Table
    rows: int
    data: bytes


class Change(Struct, frozen=True):
    """Rows that exist: for each of them the key first, then the new values of `columns`, as text arrays."""

    table: Table
    key: str
    columns: tuple[str, ...]
    values: Sequence[tuple[str | None, ...]]


class Rows(Struct, frozen=True):
    """All that a batch writes, besides the fence. `balances` are put in place whether or not they had a row."""

    appends: list[Append]
    changes: list[Change]
    balances: list[tuple[str, ...]]
    parked: list[tuple[str, ...]]


ACCOUNT_CHANGES = (
    "group", "leverage", "client_class", "rights", "balance", "credit", "version", "seq", "jurisdiction", "stp_only", "alarm",
    "commission_blocked", "day_trades", "turnover",
)  # fmt: skip
ORDER_CHANGES = (
    "status", "filled_volume", "filled_cost", "position_id", "refusal", "detail", "book", "volume_a", "filled_a",
    "margin_reserved", "attempts", "volume", "price", "stop_price", "time_in_force", "expires_at", "stop_loss",
    "stop_loss_points", "take_profit", "take_profit_points", "trailing_points", "trailing_step", "trailing_activation",
    "break_even_points", "break_even_offset", "is_guaranteed", "sl_trigger", "is_triggered", "hedged_reserved",
    "unleveraged_reserved", "notional_reserved", "oco_group", "netted", "closes", "commissions", "updated_at",
)  # fmt: skip
POSITION_CHANGES = (
    "volume_opened", "volume", "cost", "margin", "lp", "volume_a_opened", "volume_a", "cost_a", "locked",
    "stop_loss", "take_profit", "trailing_points", "trailing_step", "trailing_activation", "break_even_points",
    "break_even_offset", "is_guaranteed", "sl_trigger", "hedged", "unleveraged", "notional", "swap", "rolled_at",
    "updated_at",
)  # fmt: skip
LEG_CHANGES = (
    "status", "filled_volume", "filled_cost", "lp_order_id", "exec_ids", "text", "told_cum", "told_end", "gap_at", "is_in_case",
    "updated_at",
)  # fmt: skip


def rows_of(batch: Batch) -> Rows:
    """Every row of the batch. Raises ValueError for text that no encoding can carry."""
    gathered = _Gathered()
    for event in batch.events:
        gathered.add[type(event)](event)
    new = batch.new_from
    orders, old_orders = _split(gathered.orders, new.order)
    positions, old_positions = _split(gathered.positions, new.position)
    legs, old_legs = _split(gathered.legs, new.leg)
    old_accounts = [account for account in gathered.accounts.values() if account.id not in gathered.opened]
    new_accounts = [gathered.accounts[number] for number in gathered.opened]
    appends = [
        _append(BATCH, [_batch_line(batch)]),
        _append(KEY, [_key_line(event, at=batch.at_us) for event in gathered.keys]),
        _append(OUTBOX, [_outbox_line(told, batch.shard) for told in batch.told]),
        _append(ACCOUNT, [_account_line(account, batch.shard) for account in new_accounts]),
        _append(ORDER, [_order_line(order) for order in orders]),
        _append(DEAL, [_deal_line(deal) for deal in gathered.deals]),
        _append(POSITION, [_position_line(position) for position in positions]),
        _append(TRANSFER, [_transfer_line(transfer) for transfer in gathered.transfers]),
        _append(DECISION, [_decision_line(event, gathered.orders[event.order_id], batch) for event in gathered.routed]),
        _append(LP_ORDER, [_leg_line(leg, batch.epoch) for leg in legs]),
        _append(CASE, [_case_line(event) for event in gathered.cases]),
        _append(EXECUTION, [_execution_line(event.execution) for event in gathered.executions]),
        _append(ERROR_FILL, [_error_line(event.fill) for event in gathered.errors]),
        _append(MARGIN_NOTE, [_note_line(event.note) for event in gathered.notes]),
        _append(SWAP_ACCRUAL, [_accrual_line(event.accrual) for event in gathered.accruals]),
        _append(COMMISSION_BLOCK, [_block_line(event.block) for event in gathered.blocks]),
        _append(COMMISSION_DAY, [_day_line(event.day) for event in gathered.days]),
    ]
    changes = [
        Change(ACCOUNT, "id", ACCOUNT_CHANGES, [_account_change(account) for account in old_accounts]),
        Change(ORDER, "id", ORDER_CHANGES, [_order_change(order) for order in old_orders]),
        Change(POSITION, "id", POSITION_CHANGES, [_position_change(position) for position in old_positions]),
        Change(LP_ORDER, "id", LEG_CHANGES, [_leg_change(leg) for leg in old_legs]),
    ]
    return Rows(
        appends=[append for append in appends if append.rows],
        changes=[change for change in changes if change.values],
        balances=[(account, currency, str(value)) for (account, currency), value in batch.balances.items()],
        parked=[_parked_row(parked) for parked in batch.parked],
    )


def change_statement(change: Change) -> str:
    """UPDATE .. FROM unnest, one array of text per column."""
    return _update(change.table.name, change.key, change.columns)


@functools.cache
def _update(table: str, key: str, columns: tuple[str, ...]) -> str:
    types = _TYPES[table]
    placeholders = ", ".join(["%s::text[]"] * (1 + len(columns)))
    names = ", ".join(f"c{index}" for index in range(1 + len(columns)))
    targets = ", ".join(f'"{column}" = u.c{index}::{types[column]}' for index, column in enumerate(columns, start=1))
    return (  # the names are this module's own
        f'UPDATE "{table}" t SET {targets} FROM unnest({placeholders}) AS u({names}) '  # noqa: S608
        f'WHERE t."{key}" = u.c0::{types[key]}'
    )


def copy_statement(table: Table) -> str:
    return _copy(table.name)


@functools.cache
def _copy(table: str) -> str:
    columns = ", ".join(f'"{column}"' for column in _TYPES[table])
    return f'COPY "{table}" ({columns}) FROM STDIN'


def balances_statement() -> str:
    return (
        f'INSERT INTO "{BALANCE.name}" (account, currency, balance) '  # noqa: S608
        "SELECT a, c, b::numeric FROM unnest(%s::text[], %s::text[], %s::text[]) AS u(a, c, b) "
        "ON CONFLICT (account, currency) DO UPDATE SET balance = excluded.balance"
    )


def parked_statement() -> str:
    """A command that comes again after it was parked is parked once."""
    return (
        f'INSERT INTO "{PARKED.name}" (command_id, account, command, error, at) '  # noqa: S608
        "VALUES (%s, %s::bigint, %s::json, %s, %s::timestamptz) ON CONFLICT (command_id) DO NOTHING"
    )


# ------------------------------------------------------------------------------------------------------------ gathering


class _Gathered:
    """The last value of every entity that the events touched, in the order of first touch."""

    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}
        self.opened: list[int] = []
        self.orders: dict[int, Order] = {}
        self.positions: dict[int, Position] = {}
        self.legs: dict[int, LpOrder] = {}
        self.deals: list[Deal] = []
        self.transfers: list[Transfer] = []
        self.routed: list[e.OrderRouted] = []
        self.keys: list[e.CommandKeyed] = []
        self.cases: list[e.CaseOpened] = []
        self.executions: list[e.ExecutionKept] = []
        self.errors: list[e.ErrorBooked] = []
        self.notes: list[e.MarginNoted] = []
        self.accruals: list[e.SwapAccrued] = []
        self.blocks: list[e.CommissionBlocked] = []
        self.days: list[e.CommissionSettled] = []
        order, position, leg, account = self._order, self._position, self._leg, self._account
        self.add: dict[type[Event], Callable[[Any], None]] = {
            e.AccountOpened: self._open_account,
            e.AccountChanged: account,
            e.AccountNumbered: account,
            e.OrderAccepted: order,
            e.OrderRejected: order,
            e.OrderUpdated: order,
            e.OrderPartiallyFilled: order,
            e.OrderFilled: order,
            e.OrderCanceled: order,
            e.OrderTriggered: order,
            e.OrderModified: order,
            e.OrderExpired: order,
            e.OrderRouted: self.routed.append,
            e.DealMade: self._deal,
            e.PositionOpened: position,
            e.PositionChanged: position,
            e.PositionClosed: position,
            e.LedgerPosted: self._post,
            e.ChildOrderRouted: leg,
            e.ChildOrderUpdated: leg,
            e.CaseOpened: self.cases.append,
            e.ExecutionKept: self.executions.append,
            e.ErrorBooked: self.errors.append,
            e.ConfigLoaded: _nothing,
            e.DeskChanged: _nothing,
            e.MarginNoted: self.notes.append,
            e.SwapAccrued: self.accruals.append,
            e.CommissionBlocked: self.blocks.append,
            e.CommissionSettled: self.days.append,
            e.CommandKeyed: self.keys.append,
        }

    def _open_account(self, event: e.AccountOpened) -> None:
        self.opened.append(event.account.id)
        self.accounts[event.account.id] = event.account

    def _account(self, event: e.AccountChanged) -> None:
        self.accounts[event.account.id] = event.account

    def _order(self, event: e.OrderUpdated) -> None:
        self.orders[event.order.id] = event.order

    def _deal(self, event: e.DealMade) -> None:
        self.deals.append(event.deal)

    def _position(self, event: e.PositionChanged) -> None:
        self.positions[event.position.id] = event.position

    def _leg(self, event: e.ChildOrderUpdated) -> None:
        self.legs[event.leg.id] = event.leg

    def _post(self, event: e.LedgerPosted) -> None:
        self.transfers.extend(event.transfers)
        if event.account is not None:
            self.accounts[event.account.id] = event.account


def _nothing(event: Event) -> None:
    """The batch row itself carries the configuration's version and the desk."""


def _split(entities: dict[int, Any], new_from: int) -> tuple[list[Any], list[Any]]:
    new = [entity for number, entity in entities.items() if number >= new_from]
    old = [entity for number, entity in entities.items() if number < new_from]
    return new, old


def _append(table: Table, lines: list[str]) -> Append:
    return Append(table, len(lines), "".join(lines).encode())


# --------------------------------------------------------------------------------------------------------- text format


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_JSON_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_times: dict[int, str] = {}


def _text(value: str) -> str:
    """One field of free text."""
    return value if value.isprintable() and "\\" not in value else value.translate(_ESCAPES)


def _json(data: bytes) -> str:
    """One field of JSON, whose encoder leaves only backslashes to escape."""
    text = data.decode()
    return text.replace("\\", "\\\\") if "\\" in text else text


def _array(values: Iterable[str]) -> str:
    """A text[] literal, not yet escaped for COPY."""
    return "{" + ",".join('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values) + "}"


def _at(time_us: int) -> str:
    """A timestamptz. A batch has few different times, so they are remembered."""
    text = _times.get(time_us)
    if text is None:
        if len(_times) >= _TIMES_MAX:
            _times.clear()
        seconds, micros = divmod(time_us, 1_000_000)
        text = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{micros:06d}+00"
        _times[time_us] = text
    return text


# ---------------------------------------------------------------------------------------------------------------- lines


def _batch_line(b: Batch) -> str:
    cursors, counters = _json(encode(b.inbox_cursors)), _json(encode(b.counters))
    inputs = zlib.compress(msgspec.json.Encoder(decimal_format="string").encode(b.inputs), INPUTS_COMPRESSION).hex()
    return (
        f"{b.shard}\t{b.seq}\t{b.epoch}\t{_text(b.position.incarnation)}\t{_text(b.position.id)}\t{cursors}\t"
        f"{b.config_version}\t{counters}\t{b.outbox_seq}\t{_desk(b.desk)}\t{b.commands}\t\\\\x{inputs}\t{b.state_hash}\t{_at(b.at_us)}\n"
    )


def _key_line(k: e.CommandKeyed, *, at: int) -> str:
    return f"{k.account}\t{_text(k.key)}\t{k.body_hash}\t{k.kind}\t{k.reference}\t{k.refusal!s}\t{_at(at)}\n"


def _outbox_line(told: AccountEvent, shard: int) -> str:
    return f"{shard}\t{told.shard_seq}\t{told.account}\t{told.seq}\t{told.kind}\t{_json(told.payload)}\t{_at(told.at_us)}\n"


def _account_line(a: Account, shard: int) -> str:
    return (
        f"{a.id}\t{shard}\t{_text(a.group)}\t{_text(a.currency)}\t{a.leverage}\t{a.client_class!s}\t{a.rights!s}\t"
        f"{a.balance!s}\t{a.credit!s}\t{a.version}\t{a.seq}\t{_text(a.jurisdiction)}\t{_bool(a.stp_only)}\t{a.alarm}\t"
        f"{a.commission_blocked!s}\t{_text(_array(a.day_trades))}\t{_json(encode(a.turnover))}\n"
    )


def _account_change(a: Account) -> tuple[str, ...]:
    return (
        str(a.id), a.group, str(a.leverage), a.client_class, a.rights, str(a.balance), str(a.credit), str(a.version),
        str(a.seq), a.jurisdiction, _bool(a.stp_only), str(a.alarm), str(a.commission_blocked), _array(a.day_trades),
        _turnover(a),
    )  # fmt: skip


def _order_line(o: Order) -> str:
    attempts = _text(_array(o.attempts)) if o.attempts else "{}"
    closes = "t" if o.closes else "f"
    return (
        f"{o.id}\t{_text(o.uuid)}\t{o.account}\t{_text(o.client_order_id)}\t{_text(o.symbol)}\t{o.side!s}\t{o.type!s}\t"
        f"{o.volume!s}\t{o.status!s}\t{o.filled_volume!s}\t{o.filled_cost!s}\t{o.position_id}\t{closes}\t{o.refusal!s}\t"
        f"{_text(o.detail)}\t{_text(o.comment)}\t{o.book or ''!s}\t{o.volume_a!s}\t{o.filled_a!s}\t"
        f"{o.margin_reserved!s}\t{attempts}\t{_or_null(o.price)}\t{_or_null(o.stop_price)}\t{o.time_in_force!s}\t"
        f"{_at(o.expires_us) if o.expires_us else NULL}\t{_or_null(o.max_slippage)}\t{_protection_fields(o.protection)}\t"
        f"{'t' if o.is_triggered else 'f'}\t{o.reason!s}\t{o.hedged_reserved!s}\t{o.unleveraged_reserved!s}\t"
        f"{o.notional_reserved!s}\t{_text(o.oco_group)}\t{o.netted!s}\t{o.stop_trigger or ''!s}\t{_commissions(o)}\t"
        f"{_at(o.created_us)}\t{_at(o.updated_us)}\n"
    )


def _order_change(o: Order) -> tuple[str | None, ...]:
    return (
        str(o.id), o.status, str(o.filled_volume), str(o.filled_cost), str(o.position_id), o.refusal, o.detail,
        o.book or "", str(o.volume_a), str(o.filled_a), str(o.margin_reserved), _array(o.attempts), str(o.volume),
        _maybe(o.price), _maybe(o.stop_price), o.time_in_force, _at(o.expires_us) if o.expires_us else None,
        _maybe(o.protection.stop_loss), str(o.protection.stop_loss_points), _maybe(o.protection.take_profit),
        str(o.protection.take_profit_points), str(o.protection.trailing_points), str(o.protection.trailing_step),
        *_following(o.protection), "t" if o.is_triggered else "f", str(o.hedged_reserved), str(o.unleveraged_reserved),
        str(o.notional_reserved), o.oco_group, str(o.netted), _bool(o.closes), _commissions(o), _at(o.updated_us),
    )  # fmt: skip


def _or_null(value: object | None) -> str:
    return NULL if value is None else str(value)


def _maybe(value: object | None) -> str | None:
    return None if value is None else str(value)


def _following(p: Protection | ProtectionTerms) -> tuple[str | None, ...]:
    """How a stop loss moves, what it promises and how it watches."""
    return (
        _maybe(p.trailing_activation), str(p.break_even_points), str(p.break_even_offset), _bool(p.is_guaranteed),
        p.stop_trigger or "",
    )  # fmt: skip


def _bool(value: bool) -> str:
    return "t" if value else "f"


def _commissions(o: Order) -> str:
    return encode(o.commissions).decode() if o.commissions else "[]"


def _turnover(a: Account) -> str:
    return encode(a.turnover).decode() if a.turnover else "[]"


_NOT_FOLLOWING = f"{NULL}\t0\t0\tf\t"
_UNASKED = f"{NULL}\t0\t{NULL}\t0\t0\t0\t{_NOT_FOLLOWING}"
_UNPROTECTED = f"{NULL}\t{NULL}\t0\t0\t{_NOT_FOLLOWING}"


def _protection_fields(p: ProtectionTerms) -> str:
    if p == NOTHING_ASKED:
        return _UNASKED
    return (
        f"{_or_null(p.stop_loss)}\t{p.stop_loss_points}\t{_or_null(p.take_profit)}\t{p.take_profit_points}\t"
        f"{p.trailing_points}\t{p.trailing_step}\t{_following_fields(p)}"
    )


def _following_fields(p: Protection | ProtectionTerms) -> str:
    return "\t".join(NULL if field is None else field for field in _following(p))


def _standing_fields(p: Protection) -> str:
    if p == UNPROTECTED:
        return _UNPROTECTED
    return (
        f"{_or_null(p.stop_loss)}\t{_or_null(p.take_profit)}\t{p.trailing_points}\t{p.trailing_step}\t"
        f"{_following_fields(p)}"
    )


def _deal_line(d: Deal) -> str:
    lp_price = NULL if d.lp_price is None else str(d.lp_price)
    return (
        f"{d.id}\t{d.order_id}\t{d.position_id}\t{d.account}\t{_text(d.symbol)}\t{d.side!s}\t{d.entry!s}\t{d.volume!s}\t"
        f"{d.price!s}\t{d.profit!s}\t{d.commission!s}\t{d.book!s}\t{_text(d.lp)}\t{_text(d.exec_id)}\t{lp_price}\t"
        f"{d.swap!s}\t{d.fee!s}\t{_at(d.at_us)}\n"
    )


def _position_line(p: Position) -> str:
    return (
        f"{p.id}\t{p.account}\t{_text(p.symbol)}\t{p.side!s}\t{p.volume_opened!s}\t{p.volume!s}\t{p.cost!s}\t{p.margin!s}\t"
        f"{_text(p.lp)}\t{p.volume_a_opened!s}\t{p.volume_a!s}\t{p.cost_a!s}\t{p.locked!s}\t"
        f"{_standing_fields(p.protection)}\t{p.hedged!s}\t{p.unleveraged!s}\t{p.notional!s}\t{p.swap!s}\t"
        f"{_at(p.rolled_us)}\t{_at(p.opened_us)}\t{_at(p.updated_us)}\n"
    )


def _position_change(p: Position) -> tuple[str | None, ...]:
    return (
        str(p.id), str(p.volume_opened), str(p.volume), str(p.cost), str(p.margin), p.lp, str(p.volume_a_opened),
        str(p.volume_a), str(p.cost_a), str(p.locked), _maybe(p.protection.stop_loss), _maybe(p.protection.take_profit),
        str(p.protection.trailing_points), str(p.protection.trailing_step), *_following(p.protection), str(p.hedged),
        str(p.unleveraged), str(p.notional), str(p.swap), _at(p.rolled_us), _at(p.updated_us),
    )  # fmt: skip


def _transfer_line(t: Transfer) -> str:
    return (
        f"{t.transaction_id}\t{t.line}\t{t.kind!s}\t{_text(t.source)}\t{_text(t.target)}\t{_text(t.currency)}\t{t.amount!s}\t"
        f"{t.order_id}\t{t.deal_id}\t{t.position_id}\t{_text(t.reference)}\t{_at(t.at_us)}\n"
    )


def _decision_line(routed: e.OrderRouted, order: Order, batch: Batch) -> str:
    d = routed.decision
    return (
        f"{routed.order_id}\t{order.account}\t{_text(order.symbol)}\t{d.book!s}\t{d.rule_id}\t{_text(d.rule_name)}\t"
        f"{d.policy_version}\t{_text(d.lp)}\t{_json(encode(d))}\t{_at(batch.at_us)}\n"
    )


def _leg_line(leg: LpOrder, epoch: int) -> str:
    return (
        f"{leg.id}\t{leg.order_id}\t{leg.account}\t{_text(leg.lp)}\t{_text(leg.cl_ord_id)}\t{_text(leg.symbol)}\t"
        f"{_text(leg.lp_symbol)}\t{leg.side!s}\t{leg.volume!s}\t{leg.quantity!s}\t{leg.position_id}\t{leg.status!s}\t"
        f"{leg.filled_volume!s}\t{leg.filled_cost!s}\t{_text(leg.lp_order_id)}\t{_text(_array(leg.exec_ids))}\t"
        f"{_text(leg.text)}\t{leg.price_shift!s}\t{_or_null(leg.client_price)}\t{leg.told_cum!s}\t{leg.told_end or ''!s}\t"
        f"{_at(leg.gap_us) if leg.gap_us else NULL}\t{_bool(leg.is_in_case)}\t{epoch}\t"
        f"{_or_null(leg.limit_price)}\t{'t' if leg.all_or_none else 'f'}\t"
        f"{_at(leg.expires_us)}\t{_at(leg.created_us)}\t{_at(leg.updated_us)}\n"
    )


def _leg_change(leg: LpOrder) -> tuple[str | None, ...]:
    return (
        str(leg.id), leg.status, str(leg.filled_volume), str(leg.filled_cost), leg.lp_order_id, _array(leg.exec_ids),
        leg.text, str(leg.told_cum), leg.told_end or "", _at(leg.gap_us) if leg.gap_us else None, _bool(leg.is_in_case),
        _at(leg.updated_us),
    )  # fmt: skip


def _case_line(opened: e.CaseOpened) -> str:
    c = opened.case
    report = _json(encode(c.report))
    return f"{c.id}\t{c.kind!s}\t{_text(c.lp)}\t{c.lp_order_id}\t{report}\t{_at(c.opened_us)}\n"


def _execution_line(x: Execution) -> str:
    return (
        f"{_text(x.lp)}\t{_text(x.exec_id)}\t{x.trade_date}\t{x.kind!s}\t{x.content}\t{_text(x.cl_ord_id)}\t{x.owner!s}\t"
        f"{_text(x.symbol)}\t{x.side or ''!s}\t{x.volume!s}\t{x.price!s}\t{_text(x.ref)}\t{_at(x.at_us)}\n"
    )


def _error_line(f: ErrorFill) -> str:
    return (
        f"{f.id}\t{_text(f.lp)}\t{_text(f.symbol)}\t{f.side!s}\t{f.volume!s}\t{f.price!s}\t{f.reason!s}\t"
        f"{_text(f.cl_ord_id)}\t{_text(f.exec_id)}\t{f.result!s}\t{_text(f.currency)}\t{f.volume_after!s}\t{f.cost_after!s}\t"
        f"{_at(f.at_us)}\n"
    )


def _note_line(n: MarginNote) -> str:
    return (
        f"{n.id}\t{n.account}\t{n.kind!s}\t{_text(n.rule)}\t{n.equity!s}\t{n.margin!s}\t{_or_null(n.level)}\t{n.order_id}\t"
        f"{n.position_id}\t{_text(n.detail)}\t{_json(encode(n.prices))}\t{_at(n.at_us)}\n"
    )


def _accrual_line(a: SwapAccrual) -> str:
    return (
        f"{a.position_id}\t{a.account}\t{_text(a.symbol)}\t{a.date}\t{a.period}\t{_at(a.due_us)}\t{_at(a.at_us)}\t{a.factor!s}\t"
        f"{a.rate!s}\t{a.amount!s}\t{_text(a.why)}\n"
    )


def _block_line(b: CommissionBlock) -> str:
    c = b.counted
    return f"{b.account}\t{_text(b.rule)}\t{b.date}\t{_text(b.key)}\t{c.units!s}\t{c.volume!s}\t{c.money!s}\n"


def _day_line(d: CommissionDay) -> str:
    return f"{d.account}\t{_text(d.rule)}\t{d.date}\t{d.amount!s}\t{d.lots!s}\t{d.money!s}\t{d.transaction_id}\n"


_desks: dict[Desk, str] = {}


def _desk(desk: Desk) -> str:
    """Nearly every batch has the same one."""
    text = _desks.get(desk)
    if text is None:
        _desks.clear()
        text = _desks[desk] = _json(encode(desk))
    return text


def _parked_row(parked: Parked) -> tuple[str, ...]:
    """Text that PostgreSQL refuses (NUL) must not make the record of a bad command impossible too."""
    command = _JSON_NUL.sub(r"\1", parked.command.decode(errors="replace").replace("\0", ""))
    return (
        parked.command_id.replace("\0", ""), str(parked.account), command, parked.error.replace("\0", ""),
        _at(parked.at_us),
    )  # fmt: skip
