"""Numbers from outside, and every rounding that money meets.

One parser guards every door: `Decimal("1E1000000")`, Arabic digits or `NaN` never get past it. Roundings are named for
what they do; each caller says in whose favour it rounds.
"""

import re
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal

ZERO = Decimal(0)
ONE = Decimal(1)

_PLAIN_DECIMAL = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,10})?", re.ASCII)
_STEPS = tuple(Decimal(1).scaleb(-digits) for digits in range(13))


class NumberRefused(ValueError):
    """The text is not a plain ASCII decimal of at most 18 digits before and 10 after the point."""


def parse_decimal(text: str) -> Decimal:
    """The Decimal that `text` spells: ASCII digits, optional sign and point, nothing else.

    Raises NumberRefused for exponents, NaN, infinities, spaces, underscores, other scripts' digits and over-long text.
    """
    if not isinstance(text, str) or not _PLAIN_DECIMAL.fullmatch(text):
        raise NumberRefused("not a plain decimal number")
    return Decimal(text)


def is_plain(value: Decimal) -> bool:
    """True for a finite number within the bounds that the database accepts (18 digits before, 10 after the point)."""
    if not value.is_finite():
        return False
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= -10 and value.adjusted() < 18


def plain(value: Decimal) -> str:
    """`value` as JSON and FIX show it: no exponent, trailing zeros kept."""
    return format(value, "f")


def point(digits: int) -> Decimal:
    """The smallest step of a number with `digits` decimals: point(5) is 0.00001."""
    return _STEPS[digits]


def round_half_up(value: Decimal, digits: int) -> Decimal:
    """To `digits` decimals, halves away from zero: the posting rule for money."""
    return value.quantize(_STEPS[digits], rounding=ROUND_HALF_UP)


def round_up(value: Decimal, digits: int) -> Decimal:
    """To `digits` decimals towards plus infinity: margin, which must never be understated."""
    return value.quantize(_STEPS[digits], rounding=ROUND_CEILING)


def round_to_step(value: Decimal, step: Decimal) -> Decimal:
    """The multiple of `step` nearest to a non-negative `value`, halves up."""
    return (value / step).quantize(ONE, rounding=ROUND_HALF_UP) * step


def floor_to_step(value: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of `step` not above a non-negative `value`."""
    return (value / step).quantize(ONE, rounding=ROUND_FLOOR) * step


def is_on_step(value: Decimal, step: Decimal) -> bool:
    """True when `value` is a whole number of steps."""
    return value % step == 0
