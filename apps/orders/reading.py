"""What a request says about an order and its protection, field by field.

Only the form is judged here: plain numbers that the tables can hold, times, one of a price and a distance. Whether it all
makes sense together, for this symbol at this price, is the engine's to say.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from apps.doors.parsing import CLIENT_ORDER_ID, Fields
from apps.orders.services import Changes, Instruction
from apps.times import micros
from trading.orders import Order, OrderType, TimeInForce
from trading.protection import NOTHING_ASKED, POINTS_MAX, ProtectionTerms, StopTriggerMethod
from trading.refusals import Refusal

VOLUME_MAX = Decimal(10) ** 9
"""No instrument allows more lots, and every product of it fits the database's columns."""
PRICE_MAX = Decimal(10) ** 9
"""Beyond any instrument's price, and within the database's columns."""
PROTECTION_FIELDS = ("stop_loss", "take_profit", "trailing_stop", "break_even")
INSTRUCTION_FIELDS = (
    "type", "price", "stop_price", "time_in_force", "expires_at", "max_slippage", "oco_group", "stop_trigger",
    *PROTECTION_FIELDS,
)  # fmt: skip
CHANGE_FIELDS = ("volume", "price", "stop_price", "expires_at", *PROTECTION_FIELDS)


def instruction_of(fields: Fields, types: Sequence[OrderType]) -> Instruction:
    """How the order is to be dealt; what is absent or null is not asked for."""
    lives = [life.value for life in TimeInForce]
    return Instruction(
        type=OrderType(fields.choice("type", [one.value for one in types], default=OrderType.MARKET.value)),
        price=price_field(fields, "price") if fields.has("price") else None,
        stop_price=price_field(fields, "stop_price") if fields.has("stop_price") else None,
        time_in_force=TimeInForce(fields.choice("time_in_force", lives)) if fields.has("time_in_force") else None,
        expires_us=expiry_field(fields) if fields.has("expires_at") else 0,
        max_slippage=fields.whole("max_slippage", most=POINTS_MAX) if fields.has("max_slippage") else None,
        protection=protection_of(fields, NOTHING_ASKED),
        oco_group=_oco_group(fields),
        stop_trigger=_trigger(fields, "stop_trigger"),
    )


def changes_of(fields: Fields, order: Order) -> Changes:
    """New terms for `order`. Absent keeps; null takes away an expiry or a part of the protection, and nothing else."""
    expires_us = None
    if fields.given("expires_at"):
        expires_us = expiry_field(fields) if fields.has("expires_at") else 0
    touches_protection = any(fields.given(name) for name in PROTECTION_FIELDS)
    return Changes(
        volume=volume_field(fields, "volume") if fields.given("volume") else None,
        price=price_field(fields, "price") if fields.given("price") else None,
        stop_price=price_field(fields, "stop_price") if fields.given("stop_price") else None,
        expires_us=expires_us,
        protection=protection_of(fields, order.protection) if touches_protection else None,
    )


def protection_of(fields: Fields, present: ProtectionTerms) -> ProtectionTerms:
    """Stop loss, take profit, trailing stop and break-even as asked for. Absent keeps what `present` has; null removes it.

    A stop loss that is moved keeps its guarantee and its way of watching the price unless it says otherwise.
    """
    asked = {**_stop_loss(fields, present), **_take_profit(fields), **_trailing(fields), **_break_even(fields)}
    return replace(present, **asked)


def kept_parts(fields: Fields) -> tuple[str, ...]:
    """The parts of a position's protection that a change leaves as they stand, as `trading.protection.PARTS` names them."""
    parts = [name for name in PROTECTION_FIELDS if not fields.given(name)]
    stop_loss = fields.raw("stop_loss")
    said = stop_loss if isinstance(stop_loss, dict) else {}
    is_kept = not fields.given("stop_loss") or stop_loss is not None
    return (
        *parts,
        *(["guaranteed"] if is_kept and "guaranteed" not in said else []),
        *(["stop_trigger"] if is_kept and "trigger" not in said else []),
    )


def _stop_loss(fields: Fields, present: ProtectionTerms) -> dict[str, Any]:
    if not fields.given("stop_loss"):
        return {}
    inner = fields.inner("stop_loss", known=("price", "distance", "guaranteed", "trigger"))
    if inner is None:
        return {"stop_loss": None, "stop_loss_points": 0, "is_guaranteed": False, "stop_trigger": None}
    price, points = _level(fields, "stop_loss", inner)
    return {
        "stop_loss": price,
        "stop_loss_points": points,
        "is_guaranteed": inner.flag("guaranteed", default=present.is_guaranteed),
        "stop_trigger": _trigger(inner, "trigger") if inner.given("trigger") else present.stop_trigger,
    }


def _take_profit(fields: Fields) -> dict[str, Any]:
    if not fields.given("take_profit"):
        return {}
    inner = fields.inner("take_profit", known=("price", "distance"))
    price, points = (None, 0) if inner is None else _level(fields, "take_profit", inner)
    return {"take_profit": price, "take_profit_points": points}


def _level(fields: Fields, name: str, level: Fields) -> tuple[Decimal | None, int]:
    """A price, or a distance in points; one of them."""
    if level.has("price") == level.has("distance"):
        fields.error(name, "Give a price or a distance, one of them.", Refusal.INVALID_STOPS)
        return None, 0
    if level.has("price"):
        return price_field(level, "price", Refusal.INVALID_STOPS), 0
    return None, level.whole("distance", least=1, most=POINTS_MAX, code=Refusal.INVALID_STOPS)


def _trailing(fields: Fields) -> dict[str, Any]:
    if not fields.given("trailing_stop"):
        return {}
    trailing = fields.inner("trailing_stop", known=("distance", "step", "activation"))
    if trailing is None:
        return {"trailing_points": 0, "trailing_step": 0, "trailing_activation": None}
    return {
        "trailing_points": _points(trailing, "distance", least=1),
        "trailing_step": _points(trailing, "step", default=0),
        "trailing_activation": _points(trailing, "activation") if trailing.has("activation") else None,
    }


def _break_even(fields: Fields) -> dict[str, Any]:
    if not fields.given("break_even"):
        return {}
    inner = fields.inner("break_even", known=("distance", "offset"))
    if inner is None:
        return {"break_even_points": 0, "break_even_offset": 0}
    return {
        "break_even_points": _points(inner, "distance", least=1),
        "break_even_offset": _points(inner, "offset", default=0),
    }


def _points(fields: Fields, name: str, *, default: int | None = None, least: int = 0) -> int:
    return fields.whole(name, default=default, least=least, most=POINTS_MAX, code=Refusal.INVALID_STOPS)


def _trigger(fields: Fields, name: str) -> StopTriggerMethod | None:
    """How a stop watches the price; absent or null for the symbol's way."""
    if not fields.has(name):
        return None
    return StopTriggerMethod(fields.choice(name, [method.value for method in StopTriggerMethod]))


def _oco_group(fields: Fields) -> str:
    return fields.text("oco_group", pattern=CLIENT_ORDER_ID, length_max=48) if fields.has("oco_group") else ""


def volume_field(fields: Fields, name: str) -> Decimal:
    """A positive volume that the tables can hold; the engine checks it against the instrument."""
    volume = fields.decimal(name, Refusal.INVALID_VOLUME)
    if not 0 < volume <= VOLUME_MAX:
        fields.error(name, "Must be positive and at most a billion.", Refusal.INVALID_VOLUME)
    return volume


def price_field(fields: Fields, name: str, code: Refusal = Refusal.INVALID_PRICE) -> Decimal:
    """A positive price that the tables can hold; the engine checks it against the instrument."""
    price = fields.decimal(name, code)
    if not 0 < price <= PRICE_MAX:
        fields.error(name, "Must be positive and at most a billion.", code)
    return price


def expiry_field(fields: Fields) -> int:
    return micros(fields.moment("expires_at", Refusal.INVALID_EXPIRATION))
