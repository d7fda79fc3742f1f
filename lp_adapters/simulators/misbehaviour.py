"""What a simulated provider can be told to do wrong, per symbol and size. Pure.

The order is JSON: one object, or a list of which the first that fits an order counts, for example
`[{"symbol": "EURUSD", "quantity_min": "100000", "partial": "0.5", "delay_ms": 300}, {"slippage_points": 3}]`.
"""

from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

DELAY_MS_MAX = 600_000
POINTS_MAX = 100_000


class Misbehaviour(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is wrong with an order's handling; the default is nothing."""

    symbol: str = ""
    """Our symbol; empty for all."""
    quantity_min: Decimal | None = None
    """Units of base, inclusive."""
    quantity_max: Decimal | None = None
    reject: bool = False
    """Refuse: 39=8, 103=99."""
    delay_ms: Annotated[int, Meta(ge=0, le=DELAY_MS_MAX)] = 0
    """Acknowledge at once, decide and answer later, at the price of then (a last look)."""
    partial: Decimal | None = None
    """Fill this fraction only and cancel the rest."""
    no_answer: Literal["", "filled", "lost"] = ""
    """Say nothing: `filled` deals all the same, `lost` never heard of the order."""
    duplicate_report: bool = False
    """Send every fill twice, with the same ExecID(17)."""
    slippage_points: Annotated[int, Meta(ge=-POINTS_MAX, le=POINTS_MAX)] = 0
    """Fill so many points worse than shown."""

    def fits(self, symbol: str, quantity: Decimal) -> bool:
        return (
            self.symbol in ("", symbol)
            and (self.quantity_min is None or quantity >= self.quantity_min)
            and (self.quantity_max is None or quantity <= self.quantity_max)
        )


NONE = Misbehaviour()


class ControlRefused(ValueError):
    """The text does not describe misbehaviour: says why."""


def parse(text: bytes | str | None) -> tuple[Misbehaviour, ...]:
    """The misbehaviour that `text` orders; none for none. Raises ControlRefused."""
    if not text:
        return ()
    try:
        given = msgspec.json.decode(text, type=Misbehaviour | list[Misbehaviour])
    except msgspec.MsgspecError as error:
        raise ControlRefused(str(error)) from error
    ordered = tuple(given) if isinstance(given, list) else (given,)
    for one in ordered:
        if one.partial is not None and not (one.partial.is_finite() and 0 < one.partial < 1):
            raise ControlRefused("partial is a fraction above 0 and below 1")
    return ordered


def for_order(ordered: tuple[Misbehaviour, ...], symbol: str, quantity: Decimal) -> Misbehaviour:
    """The first that fits, or none."""
    return next((one for one in ordered if one.fits(symbol, quantity)), NONE)
