"""When a trade in shares settles: so many business days after the trade, by market and by the date of the trade.

A change of cycle never rewrites history: the rule that had begun on the trade date decides. Which days a market is shut is
the caller's to know.
"""

from collections.abc import Collection, Sequence
from datetime import date, timedelta

from msgspec import Struct

from trading.calendar import MONDAY_TO_FRIDAY

US = "US"
EU = "EU"
UK = "UK"

SEARCH_DAYS_MAX = 60
"""No market is shut for so long that a settlement lies further ahead."""


class SettlementRule(Struct, frozen=True, kw_only=True):
    """Trades made from `valid_from` on (ISO date, inclusive) settle `days` business days later, until the next rule."""

    market: str
    valid_from: str
    days: int
    source: str
    is_planned: bool = False
    """Announced for a day to come: it holds from then on unless somebody changes it here."""


RULES: tuple[SettlementRule, ...] = (
    SettlementRule(market=US, valid_from="1995-06-07", days=3, source="SEC rule 15c6-1"),
    SettlementRule(market=US, valid_from="2017-09-05", days=2, source="SEC rule 15c6-1 as amended in 2017"),
    SettlementRule(market=US, valid_from="2024-05-28", days=1, source="SEC rule 15c6-1 as amended in 2023"),
    SettlementRule(market=EU, valid_from="2014-10-06", days=2, source="Regulation (EU) 909/2014, article 5"),
    SettlementRule(
        market=EU, valid_from="2027-10-11", days=1, source="Regulation (EU) 909/2014 as amended", is_planned=True
    ),
    SettlementRule(market=UK, valid_from="2014-10-06", days=2, source="UK CSDR, article 5"),
    SettlementRule(
        market=UK, valid_from="2027-10-11", days=1, source="UK Accelerated Settlement Taskforce", is_planned=True
    ),
)


class SettlementUnknown(LookupError):
    """No rule says when a trade of that market and date settles."""


def cycle(market: str, trade_date: date, rules: Sequence[SettlementRule] = RULES) -> SettlementRule:
    """The newest rule of the market that had begun on the trade date. Raises SettlementUnknown without one."""
    begun = [r for r in rules if r.market == market and date.fromisoformat(r.valid_from) <= trade_date]
    if not begun:
        raise SettlementUnknown(f"no settlement rule for {market!r} on {trade_date}")
    return max(begun, key=lambda rule: rule.valid_from)


def settlement_date(
    market: str, trade_date: date, holidays: Collection[date], rules: Sequence[SettlementRule] = RULES
) -> date:
    """The day on which shares and money change hands: weekends and `holidays` do not count.

    Raises SettlementUnknown as `cycle`, and where the holidays leave no day within SEARCH_DAYS_MAX.
    """
    left = cycle(market, trade_date, rules).days
    day = trade_date
    for _ in range(SEARCH_DAYS_MAX):
        day += timedelta(days=1)
        if day.weekday() in MONDAY_TO_FRIDAY and day not in holidays:
            left -= 1
            if not left:
                return day
    raise SettlementUnknown(f"{market!r} has no business day to settle on after {trade_date}")
