"""What a simulated provider can be told to do wrong, per symbol, size and order. Pure.

The order is JSON: one object, or a list of which the first that fits an order counts, for example
`[{"symbol": "EURUSD", "quantity_min": "100000", "partial": "0.5", "delay_ms": 300}, {"slippage_points": 3}]`.
`every` picks orders by the number at the end of their ClOrdID(11), so the same orders are picked in every run.

| wanted | ordered by |
| --- | --- |
| a storm of rejections, or half of all orders | `{"reject": true}`, `{"reject": true, "every": 2}` |
| a last look of n ms at the price of then | `{"delay_ms": n}` |
| a partial fill, the rest cancelled | `{"partial": "0.5"}` |
| silence: dealt all the same, or never heard of | `{"no_answer": "filled"}`, `{"no_answer": "lost"}` |
| silence to OrderStatusRequest(35=H), together with any other | `{"silent_to_status": true}` |
| a fill n ms after the order was told to be cancelled | `{"late_fill_ms": n}` |
| the same ExecID(17) twice: same content, other price | `{"duplicate_report": true}`, `{"conflicting_report": true}` |
| reports in the opposite order: the end, the fills, 150=0 | `{"out_of_order": true}` |
| one report, the last fill's, is never said | `{"lose_fill": true}` |
| dealt for more than was ordered | `{"overfill": true}` |
| fills that tell the other side | `{"wrong_side": true}` |
| a bust (150=H) of the last fill n ms later | `{"bust_after_ms": n}` |
| that bust twice; a bust of a fill that never was | `{"bust_after_ms": n, "bust_times": 2}`, `{..., "bust_reference": "X"}` |
| a correction (150=G) of the last fill's price n ms later | `{"correct_after_ms": n, "correct_points": 7}` |
| a fill about an order that nobody sent | `{"orphan_report": true}` |

What the provider itself holds (its journal, its positions) follows what it dealt: late, lost and excess fills count, a bust
takes back, a wrong side, a conflict and an orphan are only said.
"""

import re
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

DELAY_MS_MAX = 600_000
POINTS_MAX = 100_000
NUMBER_AT_END = re.compile(r"[0-9]{1,18}\Z")


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
    every: Annotated[int, Meta(ge=1)] = 1
    """Only orders whose ClOrdID(11) ends in a multiple of it."""
    silent_to_status: bool = False
    """Do not answer OrderStatusRequest(35=H)."""
    late_fill_ms: Annotated[int, Meta(ge=0, le=DELAY_MS_MAX)] = 0
    """Tell at once that it is cancelled, and fill it later all the same."""
    conflicting_report: bool = False
    """Send every fill a second time, with the same ExecID(17) and another LastPx(31)."""
    out_of_order: bool = False
    """Send all reports of an order in the opposite order, also after a last look."""
    lose_fill: bool = False
    """Never send the report of the last fill."""
    overfill: bool = False
    """Deal one more step than was ordered."""
    wrong_side: bool = False
    """Tell the opposite Side(54) in fills."""
    bust_after_ms: Annotated[int, Meta(ge=0, le=DELAY_MS_MAX)] = 0
    """Take the last fill back later: 150=H with its ExecID as ExecRefID(19)."""
    bust_times: Annotated[int, Meta(ge=1, le=10)] = 1
    """Say so many times, each with an ExecID of its own, that it is taken back."""
    bust_reference: Annotated[str, Meta(max_length=60)] = ""
    """ExecRefID(19) of the bust instead of the fill's own; then nothing is taken back."""
    correct_after_ms: Annotated[int, Meta(ge=0, le=DELAY_MS_MAX)] = 0
    """Correct the last fill's price later: 150=G with its ExecID as ExecRefID(19)."""
    correct_points: Annotated[int, Meta(ge=-POINTS_MAX, le=POINTS_MAX)] = 1
    """How much worse the corrected price is, in points."""
    orphan_report: bool = False
    """Send a fill about an order that nobody sent as well."""

    def fits(self, symbol: str, quantity: Decimal, cl_ord_id: str = "") -> bool:
        return (
            self.symbol in ("", symbol)
            and (self.every == 1 or number_of(cl_ord_id) % self.every == 0)
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
        if one.bust_after_ms and one.correct_after_ms:
            raise ControlRefused("a fill is busted or corrected, not both")
        if one.partial is not None and not (one.partial.is_finite() and 0 < one.partial < 1):
            raise ControlRefused("partial is a fraction above 0 and below 1")
    return ordered


def for_order(ordered: tuple[Misbehaviour, ...], symbol: str, quantity: Decimal, cl_ord_id: str = "") -> Misbehaviour:
    """The first that fits, or none."""
    return next((one for one in ordered if one.fits(symbol, quantity, cl_ord_id)), NONE)


def number_of(cl_ord_id: str) -> int:
    """The number that a ClOrdID ends in; 1 for one without, which is a multiple of nothing."""
    digits = NUMBER_AT_END.search(cl_ord_id)
    return int(digits[0]) if digits else 1
