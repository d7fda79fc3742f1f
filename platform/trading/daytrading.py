"""The day-trade limit: how many positions an account with little equity may open and close on the same business date.

A rule that a group switches on. A day trade is a position closed (in whole or part) on the business date it was opened on;
the account remembers the dates that still count. Closing is never refused: the limit refuses the next opening.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal

from msgspec import Struct

from trading.calendar import MONDAY_TO_FRIDAY
from trading.numbers import is_plain

DAYS_MAX = 30
"""How far back day trades may count."""


class DayTradeTerms(Struct, frozen=True, kw_only=True):
    """Not more than `count_max` day trades in `days` rolling business days while equity is below `equity_min`."""

    equity_min: Decimal = Decimal(25_000)
    """In the account's currency."""
    count_max: int = 3
    days: int = 5


def still_counting(day_trades: tuple[str, ...], today: date, days: int) -> tuple[str, ...]:
    """The day trades within the `days` business days that end with `today`."""
    first = today
    for _ in range(days - 1):
        first = _business_day_before(first)
    return tuple(one for one in day_trades if date.fromisoformat(one) >= first)


def is_limit_reached(terms: DayTradeTerms, day_trades: tuple[str, ...], *, equity: Decimal, today: date) -> bool:
    """No further opening: every one could become a day trade."""
    return equity < terms.equity_min and len(still_counting(day_trades, today, terms.days)) >= terms.count_max


def _business_day_before(day: date) -> date:
    earlier = day - timedelta(days=1)
    while earlier.weekday() not in MONDAY_TO_FRIDAY:
        earlier -= timedelta(days=1)
    return earlier


# --- what may be published ---


def day_trade_problems(group: str, terms: DayTradeTerms) -> tuple[str, ...]:
    """What is wrong with this limit, as sentences; empty when it can be published."""
    return tuple(f"group {group}: {problem}" for problem in _problems(terms))


def _problems(terms: DayTradeTerms) -> Iterator[str]:
    if not is_plain(terms.equity_min) or terms.equity_min < 0:
        yield "the equity that frees from the day-trade limit must not be negative"
    if terms.count_max < 0:
        yield "the number of day trades must not be negative"
    if not 1 <= terms.days <= DAYS_MAX:
        yield f"day trades count over 1 to {DAYS_MAX} business days"
