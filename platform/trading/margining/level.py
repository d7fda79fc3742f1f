"""Equity, free margin, margin level and the tests made of them. Comparisons are exact: nothing is divided before one.

Margin is rounded up, equity down, so that a test on the border never flatters the account.
"""

from decimal import ROUND_FLOOR, Decimal

from msgspec import Struct

from trading.margining.terms import FreeMarginPolicy
from trading.numbers import ZERO, point

HUNDRED = Decimal(100)


class Worth(Struct, frozen=True, kw_only=True):
    """What an account is made of, in its currency. Unrealised amounts may be unrounded."""

    balance: Decimal
    credit: Decimal = ZERO
    profit: Decimal = ZERO
    """Unrealised result of all open positions; losses are negative."""
    swap: Decimal = ZERO
    """Swaps charged on open positions and not yet in the balance."""
    commission_blocked: Decimal = ZERO
    """Commission already earned by the house and not yet taken from the balance; not negative."""


def equity(worth: Worth, digits: int) -> Decimal:
    """Balance + credit + unrealised result + swap - blocked commission, rounded down."""
    return _down(
        worth.balance + worth.credit + worth.profit + worth.swap - worth.commission_blocked,
        digits,
    )


def regulatory_equity(worth: Worth, digits: int) -> Decimal:
    """Equity for the regulatory close-out: credit and bonus are not the client's money."""
    return _down(worth.balance + worth.profit + worth.swap - worth.commission_blocked, digits)


def free_margin(worth: Worth, margin: Decimal, policy: FreeMarginPolicy, digits: int) -> Decimal:
    """What is left to open with: equity, as far as the policy counts the unrealised result, less the margin."""
    counted = _counted(worth.profit + worth.swap, policy)
    return _down(worth.balance + worth.credit + counted - worth.commission_blocked - margin, digits)


def _counted(floating: Decimal, policy: FreeMarginPolicy) -> Decimal:
    if policy is FreeMarginPolicy.USE_PROFIT_AND_LOSS:
        return floating
    if policy is FreeMarginPolicy.PROFIT_ONLY:
        return max(floating, ZERO)
    return min(floating, ZERO) if policy is FreeMarginPolicy.LOSS_ONLY else ZERO


def margin_level(equity: Decimal, margin: Decimal) -> Decimal | None:
    """Equity as a percentage of the margin, unrounded, for showing; None without margin. Tests use the exact ones below."""
    return equity * HUNDRED / margin if margin else None


def is_level_at_or_below(equity: Decimal, margin: Decimal, percent: Decimal) -> bool:
    """Margin call and the broker's own stop-out: equity / margin <= percent / 100. Never without margin."""
    return margin > 0 and equity * HUNDRED <= margin * percent


def equity_at_level(margin: Decimal, percent: Decimal) -> Decimal:
    """The equity at which the level is exactly `percent`: from here a safe distance is measured."""
    return margin * percent / HUNDRED


def must_close_out(equity: Decimal, initial_margin: Decimal) -> bool:
    """The regulatory close-out: equity below (not at) half of the initial margin of all open positions."""
    return equity * 2 < initial_margin


def _down(amount: Decimal, digits: int) -> Decimal:
    return amount.quantize(point(digits), rounding=ROUND_FLOOR)
