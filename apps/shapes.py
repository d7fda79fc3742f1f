"""What REST adds to the shared views of `trading.views`: units beside lots, decimals trimmed to the instrument, links.

Allow-lists by construction, like the views they extend. One spelling of a number whichever way it came: from the engine's
memory or from a column with more decimals.
"""

from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from trading.configuration import Config
from trading.numbers import plain
from trading.orders import Deal, Order
from trading.positions import Position
from trading.refusals import REGISTRY, Refusal
from trading.views import (
    BreakEvenView,
    LevelView,
    OrderView,
    PositionView,
    StopLossView,
    TrailingView,
    deal_view,
    order_view,
    position_view,
)

DIGITS_UNKNOWN = 5
"""For an order that was refused because nobody knows its symbol."""


def trimmed(value: Decimal, digits: int) -> str:
    """`value` with at least `digits` decimals and no zeros beyond them; nothing is rounded away."""
    text = plain(value)
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0").ljust(digits, "0")
    return f"{whole}.{fraction}" if fraction else whole


def order_shape(order: Order, config: Config) -> dict[str, Any]:
    instrument = config.instruments.get(order.symbol)
    digits = instrument.digits if instrument else DIGITS_UNKNOWN
    view = order_view(order, digits)
    contract_size = instrument.contract_size if instrument else None
    step = _decimals(instrument.volume_step) if instrument else 0
    return {
        **msgspec.structs.asdict(view),
        "volume": trimmed(order.volume, step),
        "filled_volume": trimmed(order.filled_volume, step),
        "quantity": None if contract_size is None else trimmed(order.volume * contract_size, 0),
        "filled_quantity": None if contract_size is None else trimmed(order.filled_volume * contract_size, 0),
        "price": _trimmed_or_null(view.price, digits),
        "stop_price": _trimmed_or_null(view.stop_price, digits),
        **_protection(view, digits),
        "reject": _reject(order),
        "links": _links(order),
    }


def _trimmed_or_null(value: Decimal | None, digits: int) -> str | None:
    return None if value is None else trimmed(value, digits)


def _protection(view: OrderView | PositionView, digits: int) -> dict[str, Any]:
    return {
        "stop_loss": _level(view.stop_loss, digits),
        "take_profit": _level(view.take_profit, digits),
        "trailing_stop": _parts(view.trailing_stop),
        "break_even": _parts(view.break_even),
    }


def _level(level: LevelView | StopLossView | None, digits: int) -> dict[str, Any] | None:
    if level is None:
        return None
    return {**msgspec.structs.asdict(level), "price": _trimmed_or_null(level.price, digits)}


def _parts(view: TrailingView | BreakEvenView | None) -> dict[str, Any] | None:
    return None if view is None else msgspec.structs.asdict(view)


def _reject(order: Order) -> dict[str, Any] | None:
    if not order.refusal:
        return None
    terms = REGISTRY[Refusal(order.refusal)]
    return {"code": order.refusal, "reason": order.detail, "mt_retcode": terms.mt, "ord_rej_reason": terms.fix}


def _links(order: Order) -> list[dict[str, str]]:
    links = [{"rel": "self", "href": f"/v1/orders/{order.uuid}"}]
    if order.position_id:
        links.append({"rel": "position", "href": f"/v1/positions/{order.position_id}"})
    return links


def deal_shape(deal: Deal, config: Config, money_digits: int) -> dict[str, Any]:
    instrument = config.instruments.get(deal.symbol)
    return {
        **msgspec.structs.asdict(deal_view(deal)),
        "volume": trimmed(deal.volume, _decimals(instrument.volume_step) if instrument else 0),
        "price": trimmed(deal.price, instrument.digits if instrument else 0),
        "profit": trimmed(deal.profit, money_digits),
        "commission": trimmed(deal.commission, money_digits),
        "swap": trimmed(deal.swap, money_digits),
        "fee": trimmed(deal.fee, money_digits),
    }


def position_shape(position: Position, config: Config, money_digits: int) -> dict[str, Any]:
    instrument = config.instruments.get(position.symbol)
    step = _decimals(instrument.volume_step) if instrument else 0
    digits = instrument.digits if instrument else DIGITS_UNKNOWN
    view = position_view(position, digits)
    return {
        **msgspec.structs.asdict(view),
        **_protection(view, digits),
        "volume": trimmed(position.volume, step),
        "volume_opened": trimmed(position.volume_opened, step),
        "locked_volume": trimmed(position.locked, step),
        "margin": trimmed(position.margin, money_digits),
        "swap": trimmed(position.swap, money_digits),
        "status": "open" if position.volume else "closed",
    }


@lru_cache(maxsize=1024)
def _decimals(step: Decimal) -> int:
    """Decimals of a volume step: 0.01 has two."""
    exponent = step.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)
