"""The day-trade limit: how many positions an account with little equity may open and close on the same business date.

A rule that a group switches on. A day trade is a position closed (in whole or part) on the business date it was opened on;
the account remembers the dates that still count. Closing is never refused: the limit refuses the next opening.
"""

from datetime import date, timedelta
from decimal import Decimal

from msgspec import Struct

from trading.calendar import MONDAY_TO_FRIDAY


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
