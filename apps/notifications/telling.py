"""Events into sentences, for those that an owner should not miss. Pure; the events are `trading.views` as JSON."""

from decimal import Decimal
from enum import StrEnum

import msgspec
from msgspec import Struct

from apps.shapes import trimmed
from trading.ledger import TransactionKind
from trading.orders import OrderReason, OrderType
from trading.views import BalanceView, MarginCallView

MONEY_DIGITS = 2
"""At least; money that has more is shown with all it has."""


class Kind(StrEnum):
    """What a notification is about."""

    MARGIN_CALL = "margin_call"
    MARGIN_RESTORED = "margin_restored"
    STOP_OUT = "stop_out"
    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    ORDER_FILLED = "order_filled"
    """An order that had waited."""
    NEGATIVE_BALANCE = "negative_balance"
    DEPOSIT = "deposit"
    WITHDRAWAL_REQUESTED = "withdrawal_requested"
    WITHDRAWAL_PAID = "withdrawal_paid"
    WITHDRAWAL_RETURNED = "withdrawal_returned"


class Told(Struct, frozen=True):
    kind: Kind
    text: str


class _Order(Struct, frozen=True):
    """As much of an order as a sentence needs."""

    symbol: str
    side: str
    type: str
    filled_volume: Decimal
    avg_price: Decimal | None
    reason: str
    ticket: int
    status: str


class _OrderMessage(Struct, frozen=True):
    order: _Order


def told_of(kind: str, payload: bytes) -> Told | None:
    """The sentence for this event; None for one that needs none. Raises msgspec.DecodeError for what is no such event."""
    if kind == "margin.call":
        return Told(Kind.MARGIN_CALL, _margin("Margin call", _view(payload)))
    if kind == "margin.restored":
        return Told(Kind.MARGIN_RESTORED, _margin("Above the margin call again", _view(payload)))
    if kind == "account.balance":
        return _of_money(msgspec.json.decode(payload, type=BalanceView))
    if kind in ("order.filled", "order.partially_filled"):
        return _of_order(msgspec.json.decode(payload, type=_OrderMessage).order)
    return None


def _view(payload: bytes) -> MarginCallView:
    return msgspec.json.decode(payload, type=MarginCallView)


def _margin(what: str, view: MarginCallView) -> str:
    level = "" if view.level is None else f" Margin level {trimmed(view.level, 0)} %."
    worth = f" Equity {_money(view.equity, view.currency)}, used margin {_money(view.margin, view.currency)}."
    return f"{what} ({view.rule}).{level}{worth}"


def _of_money(view: BalanceView) -> Told | None:
    amount, balance = _money(abs(view.amount), view.currency), _money(view.balance, view.currency)
    match view.kind:
        case TransactionKind.DEPOSIT:
            return Told(Kind.DEPOSIT, f"Deposit of {amount} received. Balance {balance}.")
        case TransactionKind.WITHDRAWAL_REQUESTED:
            return Told(
                Kind.WITHDRAWAL_REQUESTED, f"Withdrawal of {amount} requested; it is being checked. Balance {balance}."
            )
        case TransactionKind.WITHDRAWAL:
            return Told(Kind.WITHDRAWAL_PAID, f"Your withdrawal was paid out. Balance {balance}.")
        case TransactionKind.WITHDRAWAL_RETURNED:
            return Told(Kind.WITHDRAWAL_RETURNED, f"Withdrawal of {amount} was not paid out. Balance {balance}.")
        case TransactionKind.NEGATIVE_BALANCE if view.amount > 0:
            return Told(
                Kind.NEGATIVE_BALANCE, f"Your account was below zero: we paid {amount} for you. Balance {balance}."
            )
    return None


_REASONS = {
    OrderReason.STOP_OUT: (Kind.STOP_OUT, "Stop-out"),
    OrderReason.CLOSE_OUT: (Kind.STOP_OUT, "Margin close-out"),
    OrderReason.STOP_LOSS: (Kind.STOP_LOSS, "Stop loss"),
    OrderReason.TAKE_PROFIT: (Kind.TAKE_PROFIT, "Take profit"),
}


def _of_order(order: _Order) -> Told | None:
    """A client's own market order is not worth one: its sender has the answer already."""
    if order.reason == OrderReason.CLIENT and order.type != OrderType.MARKET:
        kind, what = Kind.ORDER_FILLED, f"Your {order.type.replace('_', '-')} order {order.ticket}"
    elif order.reason in _REASONS:
        kind, what = _REASONS[OrderReason(order.reason)]
    else:
        return None
    done = "bought" if order.side == "buy" else "sold"
    price = "" if order.avg_price is None else f" at {trimmed(order.avg_price, 0)}"
    rest = "" if order.status == "filled" else " so far"
    return Told(kind, f"{what}: {done} {trimmed(order.filled_volume, 0)} lots of {order.symbol}{price}{rest}.")


def _money(amount: Decimal, currency: str) -> str:
    return f"{trimmed(amount, MONEY_DIGITS)} {currency}"
