"""When a broker closes for its client: margin call thresholds, the stop-out level, negative balance protection.

The settings of a group, and nothing else: the loop that closes is the engine's, the tests of levels are `margining.level`'s,
and what the law demands besides is `regulation`'s.
"""

from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from trading.numbers import is_plain


class StopOutStrategy(StrEnum):
    """Which position goes first."""

    LARGEST_LOSS = "largest_loss"
    """The largest loss, else the smallest profit; swaps and commissions do not count."""
    MOST_MARGIN = "most_margin"
    """The one that ties up most margin."""


class StopOutTerms(Struct, frozen=True, kw_only=True):
    """A group's thresholds. Levels are per cent: equity / margin x 100."""

    margin_calls: tuple[Decimal, ...] = (Decimal(100), Decimal(80), Decimal(60))
    """Falling; each is told once when the level comes down to it, and again only after it has been above it. Up to three."""
    level: Decimal | None = Decimal(50)
    """Positions are closed at or below it; None for no stop-out by level."""
    equity: Decimal | None = None
    """Positions are closed while equity is at or below this amount of the account's currency."""
    strategy: StopOutStrategy = StopOutStrategy.LARGEST_LOSS
    is_partial: bool = False
    """Of a position only so much is closed as brings the level above the stop-out, on the symbol's volume step."""
    closes_hedged: bool = False
    """A fully hedged account without margin and with negative equity is closed too: its level alone would never do it."""
    counts_credit: bool = True
    """Credit counts as equity for the broker's own level. For the regulatory close-out it never does."""


MARGIN_CALLS_MAX = 3


def stop_out_problems(group: str, terms: StopOutTerms) -> tuple[str, ...]:
    """What is wrong with these terms, as sentences; empty when they can be published."""
    return tuple(f"group {group}: {problem}" for problem in _problems(terms))


def _problems(terms: StopOutTerms) -> Iterator[str]:
    calls = list(terms.margin_calls)
    if len(calls) > MARGIN_CALLS_MAX or any(not is_plain(c) or c <= 0 for c in calls):
        yield f"there are up to {MARGIN_CALLS_MAX} margin call levels, each above zero"
    elif calls != sorted(set(calls), reverse=True):
        yield "the margin call levels must fall"
    if terms.level is not None and not (is_plain(terms.level) and terms.level > 0):
        yield "the stop-out level must be above zero, or not set"
    elif terms.level is not None and calls and calls[-1] <= terms.level:
        yield "the last margin call must come before the stop-out"
