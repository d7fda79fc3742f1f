"""Which prices of a stream are too far from the one before, and how often they must come again before they count.

Bid and ask are measured each for itself, in points from the last price that counted. Beyond the soft level a price is
withheld, until so many in a row have been; beyond the hard level it takes the hard and the soft count together; beyond
the discard level it is dropped however often it comes. Only both sides together make a price: it counts when neither side
is held back. What is dropped leaves no trace; what is withheld is only counted.

The reference is handed in, since it is whatever the reader of the stream believes. Without one (the first price after a
break) there is nothing to measure from, and only the spread is looked at.
"""

from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from trading.numbers import point

Sides = tuple[Decimal, Decimal]
"""A bid and an ask."""


class FilterTerms(Struct, frozen=True, kw_only=True):
    """One symbol's filter, in points and numbers of prices. The default filters nothing."""

    soft_points: int | None = None
    soft_count: int = 0
    """Prices in a row beyond the soft level that are withheld before the next one counts."""
    hard_points: int | None = None
    hard_count: int = 0
    """The same for the hard level, on top of `soft_count`."""
    discard_points: int | None = None
    spread_min_points: int | None = None
    spread_max_points: int | None = None


NO_FILTER = FilterTerms()


class Judgement(StrEnum):
    """What becomes of a price. All but PASSED are reasons for leaving it out."""

    PASSED = "passed"
    ZERO = "zero"
    """A side is zero or negative."""
    SPREAD_OUTSIDE = "spread_outside"
    """Narrower than the minimum spread, or wider than the maximum."""
    DISCARDED = "discarded"
    WITHHELD_HARD = "withheld_hard"
    WITHHELD_SOFT = "withheld_soft"


class Run(Struct, frozen=True):
    """One side's prices in a row beyond the levels."""

    soft: int = 0
    """Beyond any level."""
    hard: int = 0
    """Beyond the hard level."""


NO_RUN = Run()


class QuoteFilter(Struct):
    """What one stream's prices have been like since its reference last moved."""

    reference: Sides | None = None
    bid: Run = NO_RUN
    ask: Run = NO_RUN

    def judge(self, price: Sides, *, reference: Sides | None, terms: FilterTerms, digits: int) -> Judgement:
        """What becomes of the stream's next price, measured from `reference`: the last one that counted, None after a
        break. A price that has passed becomes the reference only by being handed in as one.
        """
        if reference != self.reference:
            self.reference, self.bid, self.ask = reference, NO_RUN, NO_RUN
        step = point(digits)
        if min(price) <= 0:
            return Judgement.ZERO
        if not _spread_fits(price, terms, step):
            return Judgement.SPREAD_OUTSIDE
        if reference is None:
            return Judgement.PASSED
        moved = (abs(price[0] - reference[0]), abs(price[1] - reference[1]))
        if _is_beyond(max(moved), terms.discard_points, step):
            return Judgement.DISCARDED
        return self._held_back(moved, terms, step)

    def _held_back(self, moved: Sides, terms: FilterTerms, step: Decimal) -> Judgement:
        """Count both sides on, and tell the worse of what they come to."""
        before = (self.bid, self.ask)
        self.bid, self.ask = (_counted(run, distance, terms, step) for run, distance in zip(before, moved, strict=True))
        after = (self.bid, self.ask)
        if any(0 < run.hard <= terms.hard_count + terms.soft_count for run in after):
            return Judgement.WITHHELD_HARD
        if any(0 < run.soft <= terms.soft_count and not run.hard for run in after):
            return Judgement.WITHHELD_SOFT
        return Judgement.PASSED


def _spread_fits(price: Sides, terms: FilterTerms, step: Decimal) -> bool:
    spread = price[1] - price[0]
    is_narrow = terms.spread_min_points is not None and spread < terms.spread_min_points * step
    return not is_narrow and not _is_beyond(spread, terms.spread_max_points, step)


def _is_beyond(distance: Decimal, points: int | None, step: Decimal) -> bool:
    return points is not None and distance > points * step


def _counted(run: Run, distance: Decimal, terms: FilterTerms, step: Decimal) -> Run:
    """One more beyond the levels that `distance` exceeds; a level that it keeps to begins anew."""
    if _is_beyond(distance, terms.hard_points, step):
        return Run(run.soft + 1, run.hard + 1)
    if _is_beyond(distance, terms.soft_points, step):
        return Run(run.soft + 1)
    return NO_RUN


# --- what may be published ---


def filter_problems(symbol: str, terms: FilterTerms) -> tuple[str, ...]:
    """What is wrong with this filter, as sentences; empty when it can be published."""
    problems = (*_level_problems(terms), *_spread_problems(terms))
    return tuple(f"{symbol}: {problem}" for problem in problems)


def _level_problems(terms: FilterTerms) -> Iterator[str]:
    levels = [p for p in (terms.soft_points, terms.hard_points, terms.discard_points) if p is not None]
    if any(points < 1 for points in levels):
        yield "a quote filter's levels must be at least one point"
    if sorted(set(levels)) != levels:
        yield "a quote filter's levels must rise from soft to hard to discard"
    for name, points, count in (
        ("soft", terms.soft_points, terms.soft_count),
        ("hard", terms.hard_points, terms.hard_count),
    ):
        if points is not None and count < 1:
            yield f"a quote filter with a {name} level needs a {name} count of at least one"
        if points is None and count != 0:
            yield f"a quote filter's {name} count needs a {name} level"


def _spread_problems(terms: FilterTerms) -> Iterator[str]:
    low, high = terms.spread_min_points, terms.spread_max_points
    if low is not None and low < 0:
        yield "a quote filter's minimum spread cannot be below zero"
    if high is not None and high < 1:
        yield "a quote filter's maximum spread must be at least one point"
    if low is not None and high is not None and low > high:
        yield "a quote filter's minimum spread is above its maximum"
