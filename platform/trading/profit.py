"""The realised result of a closing, by the symbol's calculation mode, and where it is rounded.

Open and close enter as costs (sum of price x lots), because positions keep costs and not average prices. Unrealised results
are never rounded per position and stay in `margin`.
"""

from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from trading.numbers import ONE, round_half_up
from trading.orders import Side


class ProfitMode(StrEnum):
    """How prices become money (V lots, C contract size, Po and Pc open and close price)."""

    FOREX = "forex"
    """V x C x Pc - V x C x Po: two amounts of money, each of them a component."""
    CFD = "cfd"
    """(Pc - Po) x V x C: one component."""
    INDEX = "index"
    """As CFD: tick value and size enter an index's margin, not its result."""
    FUTURES = "futures"
    """(Pc - Po) x V x C x tick value / tick size."""


class RoundingSetting(StrEnum):
    """Where a calculated amount meets its currency's decimals, always half up."""

    PER_POSTING = "per_posting"
    """Full precision until money is posted; then once."""
    PER_COMPONENT = "per_component"
    """Each component (an amount of money in the profit currency, a point's worth in the account's) first. As MT5's examples."""
    PER_STEP = "per_step"
    """One lot's amount after every step, in each currency on the way; then times the lots."""


class ProfitTerms(Struct, frozen=True, kw_only=True):
    """One symbol's result. The tick settings are for FUTURES; `tick_value` is per unit of the contract size."""

    mode: ProfitMode = ProfitMode.FOREX
    rounding: RoundingSetting = RoundingSetting.PER_POSTING
    tick_size: Decimal = ONE
    tick_value: Decimal = ONE


class ProfitTermsRefused(ValueError):
    """The terms cannot be used: says what is wrong, in a sentence."""


def check_profit_terms(symbol: str, terms: ProfitTerms) -> None:
    """Raise ProfitTermsRefused unless every number can be used."""
    if any(not tick.is_finite() or tick <= 0 for tick in (terms.tick_size, terms.tick_value)):
        raise ProfitTermsRefused(f"{symbol}: tick size and tick value must be positive")


class Closing(Struct, frozen=True, kw_only=True):
    """What is closed: `side` is the position's, costs are price x lots of the closed volume alone."""

    side: Side
    volume: Decimal
    contract_size: Decimal
    open_cost: Decimal
    close_cost: Decimal


Convert = Callable[[Decimal], Decimal | None]
"""From the profit currency into the account's, unrounded; None when it cannot be done now."""


def gross_result(terms: ProfitTerms, closing: Closing, *, digits: int) -> Decimal:
    """The result in the profit currency, which has `digits` decimals; unrounded with PER_POSTING."""
    if terms.rounding is RoundingSetting.PER_COMPONENT:
        return _by_component(terms, closing, digits)
    return closing.side.sign * _money(terms, closing, closing.close_cost - closing.open_cost)


def realised_result(
    terms: ProfitTerms, closing: Closing, *, convert: Convert, profit_digits: int, account_digits: int
) -> Decimal | None:
    """The result to post, in the account's currency, half up; None when it cannot be converted now."""
    gross = gross_result(terms, closing, digits=profit_digits)
    if terms.rounding is RoundingSetting.PER_STEP:
        return _by_step(gross, closing.volume, convert, profit_digits, account_digits)
    converted = convert(gross)
    return None if converted is None else round_half_up(converted, account_digits)


def _money(terms: ProfitTerms, closing: Closing, cost: Decimal) -> Decimal:
    money = cost * closing.contract_size
    return money * terms.tick_value / terms.tick_size if terms.mode is ProfitMode.FUTURES else money


def _by_component(terms: ProfitTerms, closing: Closing, digits: int) -> Decimal:
    if terms.mode is ProfitMode.FOREX:
        closed, opened = (
            round_half_up(_money(terms, closing, c), digits) for c in (closing.close_cost, closing.open_cost)
        )
        return closing.side.sign * (closed - opened)
    return closing.side.sign * round_half_up(_money(terms, closing, closing.close_cost - closing.open_cost), digits)


def _by_step(
    gross: Decimal, volume: Decimal, convert: Convert, profit_digits: int, account_digits: int
) -> Decimal | None:
    converted = convert(round_half_up(gross / volume, profit_digits))
    return (
        None if converted is None else round_half_up(round_half_up(converted, account_digits) * volume, account_digits)
    )
