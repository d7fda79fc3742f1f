"""A leg as the provider's process sees it, and what is to become of those taken. Values only, and how a row becomes one."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from msgspec import Struct

from trading.liquidity import ExecutionReport
from trading.orders import Side

LEG_COLUMNS = (
    "id, order_id, cl_ord_id, symbol, lp_symbol, side, volume, quantity, limit_price, all_or_none, position_id, "
    "expires_at, lp_order_id, dispatch_state, dispatched_at, epoch"
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Leg(Struct, frozen=True, kw_only=True):
    """What the dispatcher needs of one lp_order row."""

    id: int
    order_id: int = 0
    """The client's order that it is a part of."""
    cl_ord_id: str
    symbol: str = ""
    lp_symbol: str
    side: Side
    volume: Decimal = Decimal(0)
    """Lots."""
    quantity: Decimal
    """Units of base."""
    limit_price: Decimal | None = None
    all_or_none: bool = False
    closes: bool
    """It closes a position, which no other provider could do."""
    expires_us: int
    lp_order_id: str
    dispatch_state: str
    dispatched_us: int
    """Business time; 0 when it was never taken."""
    epoch: int = 0
    """The engine's, when it made the leg."""


class Plan(Struct, frozen=True, kw_only=True):
    """What to do with new legs. Those in neither list stay new."""

    send: tuple[Leg, ...] = ()
    give_up: tuple[tuple[Leg, ExecutionReport], ...] = ()
    stop: str = ""
    """Why nothing must be sent to this provider any more."""


def leg_from(row: tuple[Any, ...]) -> Leg:
    """One row of LEG_COLUMNS."""
    number, order_id, cl_ord_id, symbol, lp_symbol, side, volume, quantity, limit_price, all_or_none, *rest = row
    position_id, expires_at, lp_order_id, state, dispatched_at, epoch = rest
    return Leg(
        id=number,
        order_id=order_id,
        cl_ord_id=cl_ord_id,
        symbol=symbol,
        lp_symbol=lp_symbol,
        side=Side(side),
        volume=volume,
        quantity=quantity,
        limit_price=limit_price,
        all_or_none=all_or_none,
        closes=position_id != 0,
        expires_us=microseconds(expires_at),
        lp_order_id=lp_order_id,
        dispatch_state=state,
        dispatched_us=microseconds(dispatched_at) if dispatched_at else 0,
        epoch=epoch,
    )


def moment(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)


def microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
