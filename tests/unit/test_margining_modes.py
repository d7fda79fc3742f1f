"""One position's or order's charge: each mode's formula, conversion, multipliers, splitting, and the terms that are refused."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import config, instrument, quote
from tests.support.plain_margin import initial_margin
from trading.conversion import SAME_CURRENCY, Rate
from trading.margining.modes import Exposure, charge, conversion_rate, merged, recharged, split
from trading.margining.terms import (
    MarginKind,
    MarginMode,
    MarginRates,
    MarginRounding,
    MarginTerms,
    MarginTermsRefused,
    SymbolRule,
    Tier,
    TierBasis,
    Tiers,
    TierStyle,
    check_pools,
    check_terms,
)
from trading.orders import Side
from trading.pricing import conversion_key

UP = MarginRounding.UP_PER_POSTING
CONFIG = config()
QUOTES = {
    "EURUSD": quote("EURUSD", "1.10000", "1.10010"),
    "USDJPY": quote("USDJPY", "150.000", "150.010"),
    "GBPUSD": quote("GBPUSD", "1.25000", "1.25020"),
    "EURGBP": quote("EURGBP", "0.88000", "0.88010"),
}
VOLUMES = st.decimals(min_value="0.01", max_value="100", places=2)


def d(text: str) -> Decimal:
    return Decimal(text)


def charged(terms: MarginTerms, contract_size: str = "100", **fields: Any) -> Exposure:
    """Two lots bought at 50 with a leverage of 20, in the account's own currency."""
    values: dict[str, Any] = {
        "symbol": "GER40",
        "side": Side.BUY,
        "kind": MarginKind.POSITION,
        "volume": d("2"),
        "price": d("50"),
        "leverage": 20,
        "rate": SAME_CURRENCY,
        "rounding": UP,
        "digits": 2,
        **fields,
    }
    return charge(SymbolRule(terms, d(contract_size)), **values)


@pytest.mark.parametrize(
    ("mode", "formula", "fixed"),
    [
        (MarginMode.FOREX, "10", "15"),
        (MarginMode.FOREX_NO_LEVERAGE, "200", "300"),
        (MarginMode.CFD, "10000", "300"),
        (MarginMode.CFD_LEVERAGE, "500", "15"),
        (MarginMode.CFD_INDEX, "25000", "300"),
        (MarginMode.FUTURES, None, "300"),
        (MarginMode.SPOT_CRYPTO, "500", "15"),
    ],
)
def test_each_mode_has_its_formula_and_a_fixed_amount_replaces_it(
    mode: MarginMode, formula: str | None, fixed: str
) -> None:
    tick: dict[str, Any] = {"tick_size": d("0.2"), "tick_value": d("0.5")}
    if formula is not None:
        assert charged(MarginTerms(mode=mode, **tick)).margin == d(formula)
    assert charged(MarginTerms(mode=mode, initial=d("150"), **tick)).margin == d(fixed)


@pytest.mark.parametrize(
    ("kind", "maintenance", "expected"),
    [("position", "60", "120"), ("position", "0", "300"), ("market", "60", "300"), ("stop", "60", "300")],
)
def test_orders_are_charged_the_initial_amount_and_positions_the_maintenance(
    kind: str, maintenance: str, expected: str
) -> None:
    terms = MarginTerms(mode=MarginMode.FUTURES, initial=d("150"), maintenance=d(maintenance))
    assert charged(terms, kind=MarginKind(kind)).margin == d(expected)


def test_each_order_type_has_its_own_multiplier_and_zero_charges_nothing() -> None:
    names = MarginRates.__struct_fields__
    rates = MarginRates(**{name: Decimal(number) for number, name in enumerate(names)})
    terms = MarginTerms(mode=MarginMode.CFD, rates=rates)
    found = {}
    for side in Side:
        for kind in MarginKind:
            found[side, kind] = charged(terms, side=side, kind=kind).margin / 10000
    assert found[Side.BUY, MarginKind.POSITION] == found[Side.BUY, MarginKind.MARKET] == 0
    assert found[Side.SELL, MarginKind.POSITION] == found[Side.SELL, MarginKind.MARKET] == 1
    pending = ("limit", "stop", "stop_limit")
    assert [found[s, MarginKind(k)] for k in pending for s in (Side.BUY, Side.SELL)] == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("traded", "side", "source", "target", "worth"),
    [
        ("EURUSD", Side.BUY, "EUR", "EUR", "1"),
        ("EURUSD", Side.BUY, "EUR", "USD", "1.2"),  # the traded pair itself: its deal price
        ("GBPUSD", Side.BUY, "EUR", "USD", "1.10010"),  # ask for buys
        ("GBPUSD", Side.SELL, "EUR", "USD", "1.10000"),  # bid for sells
        ("GBPUSD", Side.BUY, "USD", "EUR", None),  # 1 / bid
        ("EURUSD", Side.BUY, "CHF", "USD", "missing"),
    ],
)
def test_the_margin_currency_is_converted_at_the_deal_or_the_sides_market_price(
    traded: str, side: Side, source: str, target: str, worth: str | None
) -> None:
    path = CONFIG.conversions[conversion_key(source, target)]
    rate = conversion_rate(path, traded=traded, price=d("1.2"), side=side, quotes=QUOTES)
    if worth == "missing":
        assert rate is None
    else:
        assert rate == (Rate(d("1"), d("1.10000")) if worth is None else Rate(d(worth)))


@given(
    symbol=st.sampled_from(["EURUSD", "USDJPY", "EURGBP", "GBPUSD"]),
    side=st.sampled_from(Side),
    volume=VOLUMES,
    leverage=st.sampled_from([1, 20, 50, 100, 200, 500]),
    currency=st.sampled_from(["EUR", "USD", "GBP"]),
)
def test_the_defaults_are_the_plain_forex_account(
    symbol: str, side: Side, volume: Decimal, leverage: int, currency: str
) -> None:
    terms, price = instrument(symbol), QUOTES[symbol].ask
    before = initial_margin(
        instrument=terms,
        side=side,
        volume=volume,
        price=price,
        leverage=leverage,
        currency=currency,
        config=CONFIG,
        quotes=QUOTES,
    )
    path = CONFIG.conversions[conversion_key(terms.base, currency)]
    rate = conversion_rate(path, traded=symbol, price=price, side=side, quotes=QUOTES)
    assert rate is not None
    rule = SymbolRule(MarginTerms(), terms.contract_size)
    now = charge(
        rule,
        symbol=symbol,
        side=side,
        kind=MarginKind.POSITION,
        volume=volume,
        price=price,
        leverage=leverage,
        rate=rate,
        rounding=UP,
        digits=2,
    )
    assert now == Exposure(symbol=symbol, side=side, kind=MarginKind.POSITION, volume=volume, margin=before or d("0"))


def test_an_exact_amount_is_not_rounded_up_because_of_a_third() -> None:
    """20000 / 30 x 3 is 2000, although 666.66… x 3 in 28 digits is not."""
    terms = MarginTerms(mode=MarginMode.FOREX)
    assert charged(terms, "10000", leverage=30, rate=Rate(d("3"))).margin == d("2000.00")


@pytest.mark.parametrize(("daily", "expected"), [(False, "10"), (True, "11.50")])
def test_only_symbols_that_are_recalculated_daily_lose_their_openings_rate(expected: str, *, daily: bool) -> None:
    terms = MarginTerms(recalculate_daily=daily)
    opened = charged(terms)
    rate = Rate(d("1.15"))
    rule = SymbolRule(terms, d("100"))
    now = recharged(opened, rule, price=d("50"), leverage=20, rate=rate, rounding=UP, digits=2)
    assert now.margin == d(expected)


@given(volume=VOLUMES, part=st.decimals(min_value=0, max_value=1, places=2), rounding=st.sampled_from(MarginRounding))
def test_the_parts_of_a_split_give_back_the_whole(volume: Decimal, part: Decimal, rounding: MarginRounding) -> None:
    steps = (Tier(to=d("1000"), leverage=100), Tier(leverage=7))
    tiers = Tiers(style=TierStyle.LEVERAGE_CAPS, basis=TierBasis.NOTIONAL, steps=steps)
    terms = MarginTerms(hedged=d("70"), tiers=tiers)
    whole = charged(terms, "100000", volume=volume, rounding=rounding, leverage=30, rate=Rate(d("1.23457")))
    taken, left = split(whole, volume * part, rounding=rounding, digits=2)
    if left.volume:
        assert merged(taken, left) == whole
    else:
        assert taken == whole
        assert not any((left.margin, left.hedged, left.unleveraged, left.notional))
    assert taken.margin >= 0
    assert left.margin >= 0


TIERED = MarginTerms(
    tiers=Tiers(style=TierStyle.RATES, basis=TierBasis.VOLUME, steps=(Tier(to=d("10")), Tier(initial=d("2")))),
)


def tiered(style: TierStyle = TierStyle.RATES, mode: MarginMode = MarginMode.FOREX, *steps: Tier) -> MarginTerms:
    return MarginTerms(mode=mode, tiers=Tiers(style=style, basis=TierBasis.VOLUME, steps=steps))


RATES, CAPS = TierStyle.RATES, TierStyle.LEVERAGE_CAPS
FOREX, CFD = MarginMode.FOREX, MarginMode.CFD


@pytest.mark.parametrize(
    ("terms", "complaint"),
    [
        (MarginTerms(initial=d("-1")), "must not be negative"),
        (MarginTerms(rates=MarginRates(sell_stop=d("NaN"))), "must not be negative"),
        (MarginTerms(tick_size=d("0")), "tick size"),
        (MarginTerms(mode=MarginMode.FUTURES), "initial margin per lot"),
        (MarginTerms(maintenance=d("5")), "needs an initial"),
        (tiered(), "positive bound"),
        (tiered(RATES, FOREX, Tier(), Tier()), "positive bound"),
        (tiered(RATES, FOREX, Tier(to=d("2")), Tier(to=d("2"))), "must rise"),
        (tiered(RATES, FOREX, Tier(to=d("2"), initial=d("2")), Tier()), "must not fall"),
        (tiered(RATES, FOREX, Tier(maintenance=d("2"))), "less of orders"),
        (tiered(CAPS, FOREX, Tier(to=d("2"))), "at least 1"),
        (tiered(CAPS, FOREX, Tier(to=d("2"), leverage=10), Tier(leverage=20)), "must not rise"),
        (tiered(CAPS, CFD, Tier(leverage=10)), "uses leverage"),
    ],
)
def test_terms_that_contradict_themselves_are_refused(terms: MarginTerms, complaint: str) -> None:
    with pytest.raises(MarginTermsRefused, match=complaint):
        check_terms("EURUSD", terms)


def test_good_terms_pass_and_a_pool_has_one_table() -> None:
    check_terms("EURUSD", MarginTerms())
    check_terms("EURUSD", TIERED)
    check_terms("EURUSD", tiered(CAPS, FOREX, Tier(to=d("2"), leverage=20), Tier(leverage=10)))
    assert TIERED.tiers is not None
    first = MarginTerms(tiers=Tiers(style=RATES, basis=TierBasis.VOLUME, steps=TIERED.tiers.steps, pool="majors"))
    other = MarginTerms(tiers=Tiers(style=RATES, basis=TierBasis.VOLUME, steps=(Tier(),), pool="majors"))
    check_pools({"EURUSD": first, "GBPUSD": first})
    with pytest.raises(MarginTermsRefused, match="majors"):
        check_pools({"EURUSD": first, "GBPUSD": other})
