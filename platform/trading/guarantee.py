"""Guaranteed stop losses: what they cost, and how near they may stand."""

from collections.abc import Iterator
from decimal import Decimal

from msgspec import Struct

from trading.numbers import is_plain


class GuaranteeTerms(Struct, frozen=True, kw_only=True):
    """One symbol's guarantee. The house deals at exactly the stop's price and bears the gap."""

    fee_points: Decimal
    """Points of the price on the guaranteed volume: charged when the guarantee begins, not given back."""
    distance_min_points: int = 0
    """How far from the market the stop must stand at least when it is guaranteed, or moved."""


def guarantee_problems(symbol: str, terms: GuaranteeTerms) -> tuple[str, ...]:
    """What is wrong with these terms, as sentences; empty when they can be published."""
    return tuple(f"{symbol}: {problem}" for problem in _problems(terms))


def _problems(terms: GuaranteeTerms) -> Iterator[str]:
    if not is_plain(terms.fee_points) or terms.fee_points < 0:
        yield "a guarantee's fee must not be negative"
    if terms.distance_min_points < 0:
        yield "a guarantee's distance must not be negative"
