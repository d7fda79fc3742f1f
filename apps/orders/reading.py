"""What a request says about an order and its protection, field by field.

Only the form is judged here: plain numbers that the tables can hold, times, one of a price and a distance. Whether it all
makes sense together, for this symbol at this price, is the engine's to say.
"""

from collections.abc import Sequence
from decimal import Decimal

from apps.doors.parsing import Fields
from apps.orders.services import Changes, Instruction
from apps.times import micros
from trading.orders import Order, OrderType, TimeInForce
from trading.protection import NOTHING_ASKED, POINTS_MAX, ProtectionTerms
from trading.refusals import Refusal

VOLUME_MAX = Decimal(10) ** 9
"""No instrument allows more lots, and every product of it fits the database's columns."""
PRICE_MAX = Decimal(10) ** 9
"""Beyond any instrument's price, and within the database's columns."""
PROTECTION_FIELDS = ("stop_loss", "take_profit", "trailing_stop")
INSTRUCTION_FIELDS = (
    "type", "price", "stop_price", "time_in_force", "expires_at", "max_slippage", *PROTECTION_FIELDS,
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
    """Stop loss, take profit and trailing stop as asked for. Absent keeps what `present` has; null removes it."""
    stop_loss, stop_loss_points = _level(fields, "stop_loss", (present.stop_loss, present.stop_loss_points))
    take_profit, take_profit_points = _level(fields, "take_profit", (present.take_profit, present.take_profit_points))
    trailing_points, trailing_step = _trailing(fields, (present.trailing_points, present.trailing_step))
    return ProtectionTerms(
        stop_loss=stop_loss,
        stop_loss_points=stop_loss_points,
        take_profit=take_profit,
        take_profit_points=take_profit_points,
        trailing_points=trailing_points,
        trailing_step=trailing_step,
    )


def _level(fields: Fields, name: str, present: tuple[Decimal | None, int]) -> tuple[Decimal | None, int]:
    """A price, or a distance in points; one of them."""
    if not fields.given(name):
        return present
    level = fields.inner(name, known=("price", "distance"))
    if level is None:
        return None, 0
    if level.has("price") == level.has("distance"):
        fields.error(name, "Give a price or a distance, one of them.", Refusal.INVALID_STOPS)
        return None, 0
    if level.has("price"):
        return price_field(level, "price", Refusal.INVALID_STOPS), 0
    return None, level.whole("distance", least=1, most=POINTS_MAX, code=Refusal.INVALID_STOPS)


def _trailing(fields: Fields, present: tuple[int, int]) -> tuple[int, int]:
    if not fields.given("trailing_stop"):
        return present
    trailing = fields.inner("trailing_stop", known=("distance", "step"))
    if trailing is None:
        return 0, 0
    distance = trailing.whole("distance", least=1, most=POINTS_MAX, code=Refusal.INVALID_STOPS)
    step = trailing.whole("step", default=0, most=POINTS_MAX, code=Refusal.INVALID_STOPS)
    return distance, step


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
