"""What orders and positions bring into an account's margin: the stored charges, as the running sums understand them.

A closing order brings nothing: the position it closes is charged until it is gone. Of a reversal only what opens is charged.
"""

from decimal import Decimal
from typing import Any

from trading.margining.modes import Exposure, split
from trading.margining.terms import MarginKind, MarginRounding
from trading.numbers import ZERO
from trading.orders import Order, OrderType
from trading.positions import Position

KINDS = {
    OrderType.MARKET: MarginKind.MARKET,
    OrderType.LIMIT: MarginKind.LIMIT,
    OrderType.STOP: MarginKind.STOP,
    OrderType.STOP_LIMIT: MarginKind.STOP_LIMIT,
}


def position_exposure(position: Position) -> Exposure:
    return Exposure(
        symbol=position.symbol,
        side=position.side,
        kind=MarginKind.POSITION,
        volume=position.volume,
        margin=position.margin,
        hedged=position.hedged,
        unleveraged=position.unleveraged,
        notional=position.notional,
    )


def order_exposure(order: Order) -> Exposure | None:
    """The live order's part; None where it opens nothing any more."""
    volume = opening_volume(order)
    if not volume or order.is_terminal:
        return None
    return Exposure(
        symbol=order.symbol,
        side=order.side,
        kind=KINDS[order.type],
        volume=volume,
        margin=order.margin_reserved,
        hedged=order.hedged_reserved,
        unleveraged=order.unleveraged_reserved,
        notional=order.notional_reserved,
    )


def opening_volume(order: Order) -> Decimal:
    """What is still to be filled of the order and opens risk."""
    return order.open_volume - order.closing_volume


def reserved(exposure: Exposure | None) -> dict[str, Any]:
    """The exposure as an order keeps it; nothing reserved for None."""
    if exposure is None:
        return NOTHING_RESERVED
    return {
        "margin_reserved": exposure.margin,
        "hedged_reserved": exposure.hedged,
        "unleveraged_reserved": exposure.unleveraged,
        "notional_reserved": exposure.notional,
    }


NOTHING_RESERVED: dict[str, Any] = {
    "margin_reserved": ZERO,
    "hedged_reserved": ZERO,
    "unleveraged_reserved": ZERO,
    "notional_reserved": ZERO,
}


def charged(exposure: Exposure) -> dict[str, Any]:
    """The exposure as a position keeps it."""
    return {
        "margin": exposure.margin,
        "hedged": exposure.hedged,
        "unleveraged": exposure.unleveraged,
        "notional": exposure.notional,
    }


def left_reserved(order: Order, filled: Decimal, *, rounding: MarginRounding, digits: int) -> dict[str, Any]:
    """What an order still reserves after `filled` lots of it were opened."""
    exposure = order_exposure(order)
    if exposure is None or filled >= exposure.volume:
        return NOTHING_RESERVED
    return reserved(split(exposure, filled, rounding=rounding, digits=digits)[1])


def left_charged(position: Position, closed: Decimal, *, rounding: MarginRounding, digits: int) -> dict[str, Any]:
    """What a position is still charged after `closed` lots of it were closed."""
    return charged(split(position_exposure(position), closed, rounding=rounding, digits=digits)[1])
