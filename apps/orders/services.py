"""Placing orders and closing positions through the engine: gather, decide, record, tell.

The engine decides and records; here the command is made and its answer understood. A lost answer is never a failure: the
order is looked up under its key, and only when it is not there (yet) is the outcome called unknown.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from apps.doors.connections import engine
from apps.doors.ids import uuid7
from apps.doors.problems import Problem
from apps.orders.queries import order_by_key, order_by_ticket
from bus.client import AnswerTimeout, Busy
from trading.answers import Answer
from trading.commands import ClosePosition, PlaceOrder
from trading.orders import Order, OrderStatus, Side
from trading.refusals import Refusal

BUSY_RETRY_MS = 500
FIRST_ANSWER_S = 5.0
"""How long to wait for any answer at all when the caller does not want to wait for the end."""


class Outcome(Enum):
    """What became of the request, as HTTP tells it."""

    FINAL = 201
    WORKING = 202
    REPEATED = 200


@dataclass(frozen=True, slots=True)
class Placed:
    order: Order
    outcome: Outcome


def place_order(
    *, account: int, symbol: str, side: Side, volume: Decimal, comment: str, key: str, actor: str, wait_s: float
) -> Placed:
    """Place a market order and wait for its end. `key` is the client_order_id; empty to use the request's own id.

    Raises Problem for what left no order behind, and for an outcome that is not known.
    """
    request_id = str(uuid7())
    command = PlaceOrder(
        id=request_id,
        key=key or request_id,
        account=account,
        actor=actor,
        symbol=symbol,
        side=side,
        volume=volume,
        comment=comment,
    )
    return _carried_out(command, wait_s)


def close_position(
    *, account: int, position_id: int, volume: Decimal | None, comment: str, key: str, actor: str, wait_s: float
) -> Placed:
    """Close a position or a part of it, and wait for the end. Raises Problem as `place_order` does."""
    request_id = str(uuid7())
    command = ClosePosition(
        id=request_id,
        key=key or request_id,
        account=account,
        actor=actor,
        position_id=position_id,
        volume=volume,
        comment=comment,
    )
    return _carried_out(command, wait_s)


def _carried_out(command: PlaceOrder | ClosePosition, wait_s: float) -> Placed:
    try:
        answer = engine().submit_and_follow(command, wait_s) if wait_s else engine().submit(command, FIRST_ANSWER_S)
    except Busy:
        raise Problem(Refusal.BUSY, retry_after_ms=BUSY_RETRY_MS) from None
    except AnswerTimeout:
        return _found(command)
    return _understood(command, answer)


def _found(command: PlaceOrder | ClosePosition) -> Placed:
    """Nothing was heard in time: what the database knows, else the honest 'unknown'."""
    order = order_by_key(command.account, command.key)
    if order is None:
        raise Problem(Refusal.TIMEOUT_UNKNOWN, extra={"client_order_id": command.key})
    if order.uuid != command.id:
        return Placed(order, Outcome.REPEATED)
    return Placed(order, Outcome.FINAL if order.is_terminal else Outcome.WORKING)


def _understood(command: PlaceOrder | ClosePosition, answer: Answer) -> Placed:
    if answer.replayed:
        return Placed(_repeated(command, answer), Outcome.REPEATED)
    if answer.order is None:
        raise Problem(Refusal(answer.refusal or Refusal.INTERNAL), answer.detail)
    return Placed(answer.order, Outcome.FINAL if answer.order.is_terminal else Outcome.WORKING)


def _repeated(command: PlaceOrder | ClosePosition, answer: Answer) -> Order:
    """The order that the key made the first time, as it is now."""
    order = order_by_ticket(command.account, answer.reference)
    if order is None:
        raise Problem(Refusal.CLIENT_ORDER_ID_REUSED)
    return order


def is_refused(order: Order) -> bool:
    return order.status is OrderStatus.REJECTED
