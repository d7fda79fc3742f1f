"""Placing, changing and taking back orders, closing and protecting positions, through the engine: gather, decide, record, tell.

The engine decides and records; here the command is made and its answer understood. A lost answer is never a failure: the
order is looked up under its key, and only when it is not there (yet) is the outcome called unknown.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from apps.doors.commands import BUSY_RETRY_MS, carried_out, refused
from apps.doors.connections import engine
from apps.doors.ids import uuid7
from apps.doors.problems import Problem
from apps.orders.queries import order_by_key, order_by_ticket
from bus.client import AnswerTimeout, Busy
from trading.answers import Answer
from trading.commands import (
    CancelAll,
    CancelOrder,
    CloseBy,
    ClosePosition,
    ClosePositions,
    ModifyOrder,
    ModifyProtection,
    PlaceOrder,
    ReversePosition,
    Which,
)
from trading.orders import Order, OrderStatus, OrderType, Side, TimeInForce
from trading.protection import NOTHING_ASKED, ProtectionTerms, StopTriggerMethod
from trading.refusals import Refusal

OrderMaking = PlaceOrder | ClosePosition | CloseBy | ReversePosition
"""Commands that leave an order behind, under their key as its client_order_id."""
FIRST_ANSWER_S = 5.0
"""How long to wait for any answer at all when the caller does not want to wait for the end."""
UNSURE = "Look at the order or position in a moment, before sending the request again."


class Outcome(Enum):
    """What became of the request, as HTTP tells it."""

    FINAL = 201
    WORKING = 202
    REPEATED = 200


@dataclass(frozen=True, slots=True)
class Placed:
    order: Order
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """How an order is to be dealt: its type, prices, life and protection. The default is a plain market order."""

    type: OrderType = OrderType.MARKET
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce | None = None
    expires_us: int = 0
    max_slippage: int | None = None
    protection: ProtectionTerms = NOTHING_ASKED
    oco_group: str = ""
    stop_trigger: StopTriggerMethod | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """New terms for a resting order; None leaves a term as it is, `expires_us` 0 is never."""

    volume: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    expires_us: int | None = None
    protection: ProtectionTerms | None = None


# --- placing and closing ------------------------------------------------------------------------------------------------


def place_order(
    *,
    account: int,
    symbol: str,
    side: Side,
    volume: Decimal,
    instruction: Instruction,
    comment: str,
    key: str,
    actor: str,
    wait_s: float,
) -> Placed:
    """Place an order and wait until it is dealt or rests. `key` is the client_order_id; empty to use the request's own id.

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
        type=instruction.type,
        price=instruction.price,
        stop_price=instruction.stop_price,
        time_in_force=instruction.time_in_force,
        expires_us=instruction.expires_us,
        max_slippage=instruction.max_slippage,
        protection=instruction.protection,
        oco_group=instruction.oco_group,
        stop_trigger=instruction.stop_trigger,
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


def close_by(
    *, account: int, position_id: int, by_position_id: int, comment: str, key: str, actor: str, wait_s: float
) -> Placed:
    """Close a position against an opposite one. Raises Problem as `place_order` does."""
    request_id = str(uuid7())
    command = CloseBy(
        id=request_id,
        key=key or request_id,
        account=account,
        actor=actor,
        position_id=position_id,
        by_position_id=by_position_id,
        comment=comment,
    )
    return _carried_out(command, wait_s)


def reverse_position(*, account: int, position_id: int, comment: str, key: str, actor: str, wait_s: float) -> Placed:
    """Close a position and open as much the other way. Raises Problem as `place_order` does."""
    request_id = str(uuid7())
    command = ReversePosition(
        id=request_id, key=key or request_id, account=account, actor=actor, position_id=position_id, comment=comment
    )
    return _carried_out(command, wait_s)


def close_positions(*, account: int, which: Which, symbol: str, comment: str, key: str, actor: str) -> int:
    """Begin to close every such position; how many closes began. Raises Problem."""
    request_id = str(uuid7())
    command = ClosePositions(
        id=request_id,
        key=key or request_id,
        account=account,
        actor=actor,
        which=which,
        symbol=symbol,
        comment=comment,
    )
    return carried_out(command, unsure=UNSURE).reference


def _carried_out(command: OrderMaking, wait_s: float) -> Placed:
    try:
        answer = engine().submit_and_follow(command, wait_s) if wait_s else engine().submit(command, FIRST_ANSWER_S)
    except Busy:
        raise Problem(Refusal.BUSY, retry_after_ms=BUSY_RETRY_MS) from None
    except AnswerTimeout:
        return _found(command)
    return _understood(command, answer)


def _found(command: OrderMaking) -> Placed:
    """Nothing was heard in time: what the database knows, else the honest 'unknown'."""
    order = order_by_key(command.account, command.key)
    if order is None:
        raise Problem(Refusal.TIMEOUT_UNKNOWN, extra={"client_order_id": command.key})
    if order.uuid != command.id:
        return Placed(order, Outcome.REPEATED)
    is_settled = order.is_terminal or order.is_resting
    return Placed(order, Outcome.FINAL if is_settled else Outcome.WORKING)


def _understood(command: OrderMaking, answer: Answer) -> Placed:
    if answer.replayed:
        return Placed(_repeated(command, answer), Outcome.REPEATED)
    if answer.order is None:
        raise Problem(Refusal(answer.refusal or Refusal.INTERNAL), answer.detail)
    return Placed(answer.order, Outcome.FINAL if answer.final else Outcome.WORKING)


def _repeated(command: OrderMaking, answer: Answer) -> Order:
    """The order that the key made the first time, as it is now."""
    order = order_by_ticket(command.account, answer.reference)
    if order is None:
        raise Problem(Refusal.CLIENT_ORDER_ID_REUSED)
    return order


def is_refused(order: Order) -> bool:
    return order.status is OrderStatus.REJECTED


# --- changing and taking back -------------------------------------------------------------------------------------------


def modify_order(*, order: Order, changes: Changes, key: str, actor: str) -> Order:
    """Give a resting order new terms; the order as it is afterwards, unchanged when there was nothing to change.

    Raises Problem: the refusal, or an outcome that is not known.
    """
    request_id = str(uuid7())
    command = ModifyOrder(
        id=request_id,
        key=key or request_id,
        account=order.account,
        actor=actor,
        order_id=order.id,
        volume=changes.volume,
        price=changes.price,
        stop_price=changes.stop_price,
        expires_us=changes.expires_us,
        protection=changes.protection,
    )
    answer = _answer_to(command)
    if answer.order is not None:
        return answer.order
    present = _present(order)
    if answer.replayed or answer.refusal == Refusal.NO_CHANGES:
        return present
    raise _refused_about(present, answer)


def cancel_order(*, order: Order, key: str, actor: str) -> Order:
    """Take a resting order back; the order as it is afterwards. An order that is canceled already is what was asked for.

    Raises Problem: the refusal, or an outcome that is not known.
    """
    if order.status is OrderStatus.CANCELED:
        return order
    request_id = str(uuid7())
    command = CancelOrder(id=request_id, key=key or request_id, account=order.account, actor=actor, order_id=order.id)
    try:
        answer = _answer_to(command)
    except Problem:
        present = _present(order)
        if present.status is OrderStatus.CANCELED:
            return present
        raise
    if answer.order is not None:
        return answer.order
    present = _present(order)
    if answer.replayed or present.status is OrderStatus.CANCELED:
        return present
    raise _refused_about(present, answer)


def cancel_all(*, account: int, symbol: str, key: str, actor: str) -> int:
    """Take back every resting order of the account, or those in `symbol`; how many that were. Raises Problem."""
    request_id = str(uuid7())
    command = CancelAll(id=request_id, key=key or request_id, account=account, actor=actor, symbol=symbol)
    answer = _answer_to(command)
    if answer.refusal:
        raise refused(answer)
    return answer.reference


def modify_protection(
    *, account: int, position_id: int, protection: ProtectionTerms, keep: tuple[str, ...], key: str, actor: str
) -> None:
    """Replace a position's stop loss, take profit and trailing stop. Raises Problem; nothing to change is no problem."""
    request_id = str(uuid7())
    command = ModifyProtection(
        id=request_id,
        key=key or request_id,
        account=account,
        actor=actor,
        position_id=position_id,
        protection=protection,
        keep=keep,
    )
    answer = _answer_to(command)
    if answer.refusal and answer.refusal != Refusal.NO_CHANGES:
        raise refused(answer)


def _answer_to(command: ModifyOrder | CancelOrder | CancelAll | ModifyProtection) -> Answer:
    try:
        return engine().submit(command, FIRST_ANSWER_S)
    except Busy:
        raise Problem(Refusal.BUSY, retry_after_ms=BUSY_RETRY_MS) from None
    except AnswerTimeout:
        raise Problem(Refusal.TIMEOUT_UNKNOWN, UNSURE) from None


def _present(order: Order) -> Order:
    """The order as it is recorded now."""
    present = order_by_ticket(order.account, order.id)
    assert present is not None, "orders are never deleted"
    return present


def _refused_about(present: Order, answer: Answer) -> Problem:
    """A refusal about an order that exists: one that has ended is said to have ended."""
    if answer.refusal == Refusal.ORDER_NOT_FOUND and present.is_terminal:
        return Problem(Refusal.ORDER_NOT_FOUND, f"The order is {present.status.value} already.")
    return refused(answer)
