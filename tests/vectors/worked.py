"""The worked examples that the trading rules themselves give, each with the settings that its answer needs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from trading.charges.swap import SwapMode, SwapPosition, SwapTerms, day_factor, swap_charge
from trading.conversion import SAME_CURRENCY, ConversionStep, Converter, Rate
from trading.margining.account import account_margin
from trading.margining.modes import Exposure, charge
from trading.margining.terms import (
    HedgedMode,
    MarginKind,
    MarginMode,
    MarginPolicy,
    MarginRates,
    MarginRounding,
    MarginTerms,
    SymbolRule,
    Tier,
    TierBasis,
    Tiers,
    TierStyle,
)
from trading.numbers import ONE, plain, round_half_up
from trading.orders import Side
from trading.profit import Closing, ProfitTerms, RoundingSetting, realised_result
from trading.quotes import ClientQuote
from trading.spreads import SpreadTerms, clip_spread

LOT = Decimal(100_000)
PER_COMPONENT = MarginRounding.HALF_UP_PER_COMPONENT
PER_SYMBOL = MarginRounding.HALF_UP_PER_SYMBOL
UP = MarginRounding.UP_PER_POSTING
Order = tuple[Side, str, str, MarginKind]
"""Side, lots, price, position or order."""


@dataclass(frozen=True, slots=True)
class Vector:
    name: str
    setup: str
    expected: str
    ours: Callable[[], str]
    settings: str


def t1() -> str:
    rule = SymbolRule(MarginTerms(rates=MarginRates(buy=Decimal("1.15"))), LOT)
    return _margin(rule, [(Side.BUY, "1", "1.2790", MarginKind.POSITION)], UP, is_pair=True)


def t2() -> str:
    rule = SymbolRule(MarginTerms(mode=MarginMode.CFD_LEVERAGE), Decimal(5000))
    orders = [
        (Side.BUY, "1", "15.436", MarginKind.POSITION),
        (Side.BUY, "2", "15.432", MarginKind.POSITION),
        (Side.BUY, "1", "15.412", MarginKind.LIMIT),
    ]
    return _margin(rule, orders, UP, is_pair=False)


def t3(rounding: MarginRounding = PER_COMPONENT) -> str:
    terms = MarginTerms(hedged_mode=HedgedMode.BASIC, hedged=LOT, rates=MarginRates(buy=Decimal(2), sell=Decimal(4)))
    orders = [
        (Side.SELL, "3", "1.11943", MarginKind.POSITION),
        (Side.BUY, "2", "1.11953", MarginKind.POSITION),
    ]
    return _margin(SymbolRule(terms, LOT), orders, rounding, is_pair=True, leverage=500)


def t5() -> str:
    tiers = _tiers(TierBasis.VOLUME, ("10", "1"), ("20", "2"), (None, "3"))
    orders = [(Side.BUY, "12", "1", MarginKind.POSITION), (Side.BUY, "10", "1", MarginKind.LIMIT)]
    return _margin(SymbolRule(MarginTerms(tiers=tiers), LOT), orders, UP, is_pair=False)


def t7() -> str:
    bounds = (("200000", "0.1"), ("1000000", "0.2"), ("2000000", "0.5"), (None, "1"))
    terms = MarginTerms(hedged_mode=HedgedMode.BASIC, hedged=LOT / 2, tiers=_tiers(TierBasis.NOTIONAL, *bounds))
    orders = [
        (Side.BUY, "40", "1.08095", MarginKind.POSITION),
        (Side.SELL, "15", "1.08095", MarginKind.POSITION),
    ]
    return _margin(SymbolRule(terms, LOT), orders, PER_SYMBOL, is_pair=True, leverage=500, digits=3)


def t9(rounding: RoundingSetting = RoundingSetting.PER_COMPONENT) -> str:
    rate = Decimal("0.2274587")
    converter = Converter(
        {"TRY/USD": (ConversionStep(symbol="TRYUSD", inverse=False),)},
        {"TRYUSD": ClientQuote(symbol="TRYUSD", bid=rate, ask=rate, at_us=0)},
    )
    position = SwapPosition(
        side=Side.BUY,
        symbol="USDTRY",
        volume=Decimal(5),
        open_price=ONE,
        bid=ONE,
        ask=ONE,
        contract_size=LOT,
        digits=5,
        base="USD",
        profit_currency="TRY",
        margin_currency="USD",
        account_currency="USD",
        account_digits=2,
    )
    terms = SwapTerms(mode=SwapMode.POINTS, long=Decimal("-11.35"), rounding=rounding)
    charged = swap_charge(terms, position, MONDAY, converter=converter)
    assert charged is not None
    return plain(round_half_up(charged.amount, 2))


def t10() -> str:
    tuesday, wednesday = date(2024, 1, 2), date(2024, 1, 3)
    factors = (day_factor(SwapTerms(), day, {wednesday}).factor for day in (tuesday, wednesday))
    return ", ".join(f"{name} {plain(factor)}" for name, factor in zip(("Tue", "Wed"), factors, strict=True))


def t11() -> str:
    closing = Closing(
        side=Side.BUY, volume=ONE, contract_size=LOT, open_cost=Decimal("1.2000"), close_cost=Decimal("1.2050")
    )
    result = realised_result(ProfitTerms(), closing, convert=lambda usd: usd, profit_digits=2, account_digits=2)
    assert result is not None
    return plain(result)


def t13() -> str:
    shown = clip_spread(bid=Decimal(100), ask=Decimal(90), digits=0, terms=SpreadTerms(min_points=5))
    return f"{plain(shown.bid)} / {plain(shown.ask)}"


MONDAY = date(2024, 1, 1)

VECTORS = (
    Vector("T1", "EURUSD 1 lot, 1:100, 1.2790, buy rate 1.15", "1470.85", t1, "rounding: up_per_posting; deal price"),
    Vector("T2", "CFD leverage: buys 1 and 2, buy limit 1", "3085.60", t2, "rounding: up_per_posting"),
    Vector("T3", "basic hedge: sell 3, buy 2, rates 4 and 2", "2238.90", t3, "rounding: half_up_per_component"),
    Vector("T5", "tiers by lots: 12 open, 10 pending", "36000", t5, "rounding: up_per_posting"),
    Vector(
        "T7", "tiers by value: net 25, hedged 15 at half", "4386.175", t7, "rounding: half_up_per_symbol, 3 decimals"
    ),
    Vector("T9", "swap points: buy 5 USDTRY, -11.35", "-12.94", t9, "rounding: per_component"),
    Vector("T10", "Tue x1, Wed x3 closed", "Tue 4, Wed 0", t10, "holidays: shift"),
    Vector("T11", "EURUSD buy 1 lot, 1.2000 to 1.2050", "500", t11, "rounding: per_posting"),
    Vector("T13", "bid 100, ask 90, minimum spread 5", "93 / 98", t13, "odd point to the ask"),
)


def _tiers(basis: TierBasis, *steps: tuple[str | None, str]) -> Tiers:
    return Tiers(
        style=TierStyle.RATES,
        basis=basis,
        steps=tuple(
            Tier(to=None if to is None else Decimal(to), initial=Decimal(rate), maintenance=Decimal(rate))
            for to, rate in steps
        ),
    )


def _margin(
    rule: SymbolRule,
    orders: Iterable[Order],
    rounding: MarginRounding,
    *,
    is_pair: bool,
    leverage: int = 100,
    digits: int = 2,
) -> str:
    """The account's margin. Of a pair, base units become money at the deal's price."""
    exposures = [
        _exposure(rule, order, rounding, is_pair=is_pair, leverage=leverage, digits=digits) for order in orders
    ]
    policy = MarginPolicy(rounding=rounding)
    return plain(account_margin(exposures, rules={"EURUSD": rule}, policy=policy, digits=digits).margin)


def _exposure(
    rule: SymbolRule, order: Order, rounding: MarginRounding, *, is_pair: bool, leverage: int, digits: int
) -> Exposure:
    side, lots, price, kind = order
    rate = Rate(Decimal(price)) if is_pair else SAME_CURRENCY
    return charge(
        rule,
        symbol="EURUSD",
        side=side,
        kind=kind,
        volume=Decimal(lots),
        price=Decimal(price),
        leverage=leverage,
        rate=rate,
        rounding=rounding,
        digits=digits,
        notional_rate=rate,
    )
