"""How an order is shared between the market and the house. The parts are always the whole.

The market's part is rounded half up to the provider's step, so it may differ a little from one provider to another.
"""

from decimal import Decimal

from trading.configuration import BelowLpMinimum, LpInstrument, Rule
from trading.numbers import ZERO, floor_to_step, plain, round_to_step
from trading.orders import Book


def rounded_part(volume: Decimal, a_share: Decimal, step: Decimal) -> Decimal:
    """The A part on `step`: nearest, halves up, but never more than the order, whose own step may be finer."""
    part = round_to_step(a_share * volume, step)
    return part if part <= volume else floor_to_step(volume, step)


def market_part(volume: Decimal, rule: Rule, terms: LpInstrument) -> Decimal:
    """What a provider with these terms would be sent; 0 where the rule leaves it all with the house."""
    part = rounded_part(volume, rule.a_share, terms.volume_step)
    if part >= terms.volume_min:
        return part
    if rule.below_lp_minimum is BelowLpMinimum.ROUND_UP and terms.volume_min <= volume:
        return terms.volume_min
    return ZERO


def book_of(volume_a: Decimal, volume_b: Decimal) -> Book:
    """Which book a split really is: a shared order with one empty part is not shared."""
    if not volume_a:
        return Book.B
    return Book.C if volume_b else Book.A


def house_part(volume: Decimal, volume_a: Decimal) -> Decimal:
    """The rest, for the house."""
    volume_b = volume - volume_a
    assert volume_a >= 0, "a part is never negative"
    assert volume_b >= 0, "the market never gets more than the order"
    assert volume_a + volume_b == volume, "the parts are the whole"
    return volume_b


def split_sentence(volume: Decimal, a_share: Decimal, volume_a: Decimal, volume_b: Decimal) -> str:
    """The split as a dealer says it, with the reason where the parts are not the exact share."""
    if not volume_a:
        return f"All {plain(volume)} lots stay with the house."
    if a_share == 1 and not volume_b:
        return f"All {plain(volume)} lots go to the market."
    exact = volume_a == a_share * volume
    to_size = "" if exact else " in a size that the market deals"
    parts = f"{plain(volume_a)} to the market, {plain(volume_b)} to the house"
    return f"{percent(a_share)} % of {plain(volume)} lots{to_size} is {parts}."


def percent(share: Decimal) -> str:
    """0.6 as `60`, 0.125 as `12.5`."""
    return plain((share * 100).normalize())
