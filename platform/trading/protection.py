"""Stop loss, take profit and trailing stop: as asked for with an order, and as they stand on a position.

They may be asked for as prices or as distances in points; distances are counted from the price that the position was opened
at. A stop loss only ever limits a loss where it is set: the server keeps and fires it, whatever the client's terminal does.
"""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from trading.numbers import ZERO


class StopTriggerMethod(StrEnum):
    """How stop orders, stop-limits and stop losses watch the price. Limits and take profits always watch their own side."""

    TRADE = "trade"
    """The side that the resulting deal is made at."""
    OPPOSITE = "opposite"
    """The other side, so that a widening spread alone triggers nothing."""
    DOUBLE_TRADE = "double_trade"
    """As TRADE, on two consecutive ticks."""
    DOUBLE_OPPOSITE = "double_opposite"
    """As OPPOSITE, on two consecutive ticks."""

    @property
    def is_opposite(self) -> bool:
        return self in (StopTriggerMethod.OPPOSITE, StopTriggerMethod.DOUBLE_OPPOSITE)

    @property
    def is_double(self) -> bool:
        return self in (StopTriggerMethod.DOUBLE_TRADE, StopTriggerMethod.DOUBLE_OPPOSITE)


class ProtectionTerms(Struct, frozen=True, kw_only=True):
    """What was asked for. A price and a distance for the same thing exclude each other; None and 0 ask for nothing."""

    stop_loss: Decimal | None = None
    stop_loss_points: int = 0
    take_profit: Decimal | None = None
    take_profit_points: int = 0
    trailing_points: int = 0
    """Distance at which a stop loss follows the best price."""
    trailing_step: int = 0
    """How far the price must have gone before the stop follows again."""
    trailing_activation: int | None = None
    """Profit in points from which on the stop follows; None for the distance itself, 0 from the first price on."""
    break_even_points: int = 0
    """Profit in points at which the stop loss moves to the open price; 0 never moves it there."""
    break_even_offset: int = 0
    """Points beyond the open price that the move to break-even secures."""
    is_guaranteed: bool = False
    """The stop loss is dealt at exactly its price, whatever the market does; costs a fee."""
    stop_trigger: StopTriggerMethod | None = None
    """How the stop loss watches the price; None for the symbol's way."""

    @property
    def is_consistent(self) -> bool:
        twice = (self.stop_loss is not None and self.stop_loss_points) or (
            self.take_profit is not None and self.take_profit_points
        )
        points = (
            self.stop_loss_points,
            self.take_profit_points,
            self.trailing_points,
            self.trailing_step,
            self.trailing_activation or 0,
            self.break_even_points,
            self.break_even_offset,
        )
        return not twice and all(0 <= distance <= POINTS_MAX for distance in points)


POINTS_MAX = 10_000_000
NOTHING_ASKED = ProtectionTerms()


class Protection(Struct, frozen=True, kw_only=True):
    """What stands on a position."""

    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    trailing_points: int = 0
    trailing_step: int = 0
    trailing_activation: int | None = None
    break_even_points: int = 0
    break_even_offset: int = 0
    is_guaranteed: bool = False
    stop_trigger: StopTriggerMethod | None = None

    @property
    def follows_price(self) -> bool:
        """The stop loss moves by itself: it trails, or goes to break-even."""
        return bool(self.trailing_points or self.break_even_points)


UNPROTECTED = Protection()


def resolved(terms: ProtectionTerms, *, sign: int, open_price: Decimal, point: Decimal) -> Protection:
    """The terms as prices, for a position of `sign` (+1 long, -1 short) opened at `open_price`.

    An average open price may lie between two points: levels are then rounded away from it, never nearer than asked. A
    distance that would lead to a price of zero or less asks for nothing that could ever happen, and is left out.
    """
    down, up = (ROUND_FLOOR, ROUND_CEILING) if sign > 0 else (ROUND_CEILING, ROUND_FLOOR)
    stop_loss = terms.stop_loss
    if terms.stop_loss_points:
        stop_loss = (open_price - sign * terms.stop_loss_points * point).quantize(point, rounding=down)
    take_profit = terms.take_profit
    if terms.take_profit_points:
        take_profit = (open_price + sign * terms.take_profit_points * point).quantize(point, rounding=up)
    return Protection(
        stop_loss=stop_loss if stop_loss is not None and stop_loss > ZERO else None,
        take_profit=take_profit if take_profit is not None and take_profit > ZERO else None,
        trailing_points=terms.trailing_points,
        trailing_step=terms.trailing_step,
        trailing_activation=terms.trailing_activation,
        break_even_points=terms.break_even_points,
        break_even_offset=terms.break_even_offset,
        is_guaranteed=terms.is_guaranteed,
        stop_trigger=terms.stop_trigger,
    )


PARTS = {
    "stop_loss": ("stop_loss",),
    "take_profit": ("take_profit",),
    "trailing_stop": ("trailing_points", "trailing_step", "trailing_activation"),
    "break_even": ("break_even_points", "break_even_offset"),
    "guaranteed": ("is_guaranteed",),
    "stop_trigger": ("stop_trigger",),
}
"""What protection is made of, as clients name it."""


def keeping(changed: Protection, present: Protection, parts: tuple[str, ...]) -> Protection:
    """`changed`, but for the named parts, which stay as they are."""
    kept = {field: getattr(present, field) for part in parts for field in PARTS[part]}
    return replace(changed, **kept) if kept else changed


def wrong_side(protection: Protection, *, sign: int, closing_price: Decimal, watched_price: Decimal) -> str:
    """Why the protection would fire at once; empty when it would not. The take profit watches `closing_price` (bid for a
    long, ask for a short), the stop loss `watched_price`, which its trigger method names."""
    stop_loss, take_profit = protection.stop_loss, protection.take_profit
    if stop_loss is not None and sign * (watched_price - stop_loss) <= 0:
        return "the stop loss lies on the wrong side of the price"
    if take_profit is not None and sign * (take_profit - closing_price) <= 0:
        return "the take profit lies on the wrong side of the price"
    return ""
