"""From one currency into another along a resolved path: which side of each quote is taken, and what it costs.

The paths are resolved when configuration is published; here they are only walked. Brokers differ in the side they take, so
the side is a named rule. Sides are those of the rate source -> target: an inverse pair's bid is 1 / its ask.
Nothing is rounded here but the fee; how equity is valued at every tick stays in `pricing`.
"""

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

from trading.numbers import ONE, ZERO, is_plain, round_half_up
from trading.orders import Side

FEE_UNITS = Decimal(10_000)
"""A conversion fee of 1 is one part of ten thousand: 0.01 %."""


class ConversionStep(Struct, frozen=True, kw_only=True):
    """Multiply by the symbol's rate, or divide when `inverse`."""

    symbol: str
    inverse: bool


class Rate(Struct, frozen=True):
    """A conversion as a ratio, so that an inverse pair divides exactly: amount x multiply / divide."""

    multiply: Decimal = ONE
    divide: Decimal = ONE


SAME_CURRENCY = Rate()


class ConversionRule(StrEnum):
    """Which side of the market an amount is converted at."""

    MARKET_WORST = "market_worst"
    """An asset is sold at the bid, a debt is bought at the ask: the worse for whoever holds the amount."""
    BY_DEAL = "by_deal"
    """Ask for buy positions, bid for sell positions; where the traded pair itself converts, its deal price."""
    MID = "mid"
    """Half-way between bid and ask."""
    BID = "bid"
    ASK = "ask"


class ConversionTerms(Struct, frozen=True, kw_only=True):
    """How a group's results and margins become the account's currency."""

    result: ConversionRule = ConversionRule.MARKET_WORST
    margin: ConversionRule = ConversionRule.BY_DEAL
    """MARKET_WORST counts a margin as a debt: always the ask."""
    fee: Decimal = ZERO
    """Of every realised result in another currency than the account's: 1 is 0.01 % of it, for profits and losses alike."""


def conversion_problems(group: str, terms: ConversionTerms) -> tuple[str, ...]:
    """What is wrong with these terms, as sentences; empty when they can be published."""
    if is_plain(terms.fee) and 0 <= terms.fee <= FEE_UNITS:
        return ()
    return (f"group {group}: the conversion fee must lie between 0 and {FEE_UNITS} parts of ten thousand",)


class TwoSided(Protocol):
    """A quote, as shown to clients or raw."""

    @property
    def bid(self) -> Decimal: ...

    @property
    def ask(self) -> Decimal: ...


class Traded(Struct, frozen=True, kw_only=True):
    """The deal behind an amount. `side` is the position's: closing a buy is still BUY."""

    side: Side
    symbol: str = ""
    price: Decimal = ZERO


class Converter(Struct, frozen=True):
    """The published paths and the quotes of this moment."""

    paths: Mapping[str, tuple[ConversionStep, ...]]
    """Key `FROM/TO`, as configuration has them."""
    quotes: Mapping[str, TwoSided]

    def convert(
        self, amount: Decimal, source: str, target: str, *, rule: ConversionRule, traded: Traded
    ) -> Decimal | None:
        """`amount` (a debt when negative) in `target`, unrounded; None without a path or with a quote never seen."""
        steps = self._steps(source, target, rule=rule, traded=traded, is_debt=amount < 0)
        if steps is None:
            return None
        for price, inverse in steps:
            amount = amount / price if inverse else amount * price
        return amount

    def cost(self, amount: Decimal, source: str, target: str, *, traded: Traded) -> Decimal | None:
        """A charge of `amount` in `target`, at the worse side for who pays it; what is negative is given."""
        converted = self.convert(-amount, source, target, rule=ConversionRule.MARKET_WORST, traded=traded)
        return None if converted is None else -converted

    def rate(
        self, source: str, target: str, *, rule: ConversionRule, traded: Traded, is_debt: bool = True
    ) -> Rate | None:
        """The rate as an exact ratio, for amounts that are multiplied further, such as a margin; None as `convert`."""
        steps = self._steps(source, target, rule=rule, traded=traded, is_debt=is_debt)
        if steps is None:
            return None
        multiply, divide = ONE, ONE
        for price, inverse in steps:
            if inverse:
                divide *= price
            else:
                multiply *= price
        return Rate(multiply, divide)

    def _steps(
        self, source: str, target: str, *, rule: ConversionRule, traded: Traded, is_debt: bool
    ) -> list[tuple[Decimal, bool]] | None:
        """Each step's price, and whether it divides."""
        if source == target:
            return []
        path = self.paths.get(f"{source}/{target}")
        if path is None:
            return None
        steps = []
        for step in path:
            price = self._price(step, rule, traded, is_debt=is_debt)
            if price is None:
                return None
            steps.append((price, step.inverse))
        return steps

    def _price(self, step: ConversionStep, rule: ConversionRule, traded: Traded, *, is_debt: bool) -> Decimal | None:
        if rule is ConversionRule.BY_DEAL and step.symbol == traded.symbol:
            return traded.price
        quote = self.quotes.get(step.symbol)
        if quote is None:
            return None
        if rule is ConversionRule.MID:
            return (quote.bid + quote.ask) / 2
        return quote.ask if _takes_ask(rule, traded.side, is_debt=is_debt) is not step.inverse else quote.bid


def _takes_ask(rule: ConversionRule, side: Side, *, is_debt: bool) -> bool:
    if rule is ConversionRule.MARKET_WORST:
        return is_debt
    if rule is ConversionRule.BY_DEAL:
        return side is Side.BUY
    return rule is ConversionRule.ASK


def conversion_fee(result: Decimal, *, terms: ConversionTerms, source: str, target: str, digits: int) -> Decimal:
    """What converting a realised gross result costs, never negative, in the account's currency (`result` is in it too).

    Rounded half up to the currency's decimals. Nothing when the result was made in the account's own currency.
    """
    if source == target:
        return ZERO
    return round_half_up(abs(result) * terms.fee / FEE_UNITS, digits)
