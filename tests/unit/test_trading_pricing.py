"""Markup, freshness and conversion: what a group sees, and what an amount is worth in another currency."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import NOW_US, SECOND_US, config, eurusd, group, instrument, lots, quote, usd
from trading.configuration import Markup
from trading.orders import Side
from trading.pricing import client_price, client_quote, conversion_key, convert, is_fresh, raw_price
from trading.quotes import Quote

CONFIG = config()
QUOTES = {
    "EURUSD": quote("EURUSD", "1.10000", "1.10010"),
    "USDJPY": quote("USDJPY", "150.000", "150.010"),
    "GBPUSD": quote("GBPUSD", "1.25000", "1.25020"),
    "USDCHF": quote("USDCHF", "0.90000", "0.90010"),
    "EURJPY": quote("EURJPY", "165.000", "165.020"),
}


@pytest.mark.parametrize(
    ("name", "bid", "ask"),
    [("retail", "1.08508", "1.08514"), ("pro", "1.08510", "1.08512"), ("vip", "1.08509", "1.08513")],
)
def test_a_group_sees_the_aggregate_with_its_markup(name: str, bid: str, ask: str) -> None:
    seen = client_quote(eurusd("1.08510", "1.08512"), group(name), instrument())
    assert (seen.symbol, seen.bid, seen.ask, seen.at_us) == ("EURUSD", lots(bid), lots(ask), NOW_US)


def test_a_symbols_own_markup_replaces_the_groups() -> None:
    special = group(symbol_markups={"XAUUSD": Markup(bid=10, ask=30)})
    gold = client_quote(quote("XAUUSD", "2400.00", "2400.30"), special, instrument("XAUUSD"))
    assert (gold.bid, gold.ask) == (lots("2399.90"), lots("2400.60"))
    euro = client_quote(eurusd("1.08510", "1.08512"), special, instrument())
    assert (euro.bid, euro.ask) == (lots("1.08508"), lots("1.08514"))


@given(bid=st.integers(min_value=1, max_value=10**6), markup=st.integers(min_value=0, max_value=100))
def test_a_client_deals_at_the_price_it_sees(bid: int, markup: int) -> None:
    raw = eurusd(str(Decimal(bid).scaleb(-5) + 1))
    terms, symbol = group(markup=Markup(bid=markup, ask=markup + 1)), instrument()
    seen = client_quote(raw, terms, symbol)
    assert client_price(raw_price(raw, Side.BUY), Side.BUY, terms, symbol) == seen.ask
    assert client_price(raw_price(raw, Side.SELL), Side.SELL, terms, symbol) == seen.bid


@pytest.mark.parametrize(("age_us", "fresh"), [(0, True), (3 * SECOND_US, True), (3 * SECOND_US + 1, False)])
def test_a_quote_is_dealt_on_up_to_its_greatest_age(age_us: int, fresh: bool) -> None:
    assert is_fresh(eurusd("1.08510"), instrument(), NOW_US + age_us) is fresh


@pytest.mark.parametrize(
    ("amount", "source", "target", "worth"),
    [
        ("100", "USD", "USD", "100"),
        ("100", "EUR", "USD", "110.00000"),  # sold at the bid
        ("-100", "EUR", "USD", "-110.01000"),  # a debt is bought at the ask
        ("110.01", "USD", "EUR", "100"),  # dollars buy euros at the ask
        ("-110", "USD", "EUR", "-100"),
        ("15001", "JPY", "USD", "100"),
        ("-15000", "JPY", "USD", "-100"),
        ("165.02", "JPY", "EUR", "1"),  # the direct pair, not over the dollar
        ("0", "JPY", "EUR", "0"),
    ],
)
def test_an_amount_is_converted_at_the_worse_side(amount: str, source: str, target: str, worth: str) -> None:
    assert convert(Decimal(amount), source, target, CONFIG, QUOTES) == Decimal(worth)


def test_without_a_direct_pair_the_way_leads_over_the_dollar_at_the_worse_side_of_both() -> None:
    # 90.01 CHF buy 100 USD at the ask, which buy GBP at the ask
    worth = convert(Decimal("90.01"), "CHF", "GBP", CONFIG, QUOTES)
    assert worth == Decimal(100) / Decimal("1.25020")


@pytest.mark.parametrize(
    ("source", "target", "missing"), [("EUR", "USD", "EURUSD"), ("CHF", "GBP", "GBPUSD"), ("CHF", "GBP", "USDCHF")]
)
def test_a_price_never_seen_refuses_instead_of_guessing(source: str, target: str, missing: str) -> None:
    seen = {symbol: price for symbol, price in QUOTES.items() if symbol != missing}
    assert convert(usd("1.00"), source, target, CONFIG, seen) is None


def test_a_pair_without_a_path_refuses_instead_of_guessing() -> None:
    assert conversion_key("SEK", "USD") not in CONFIG.conversions
    assert convert(usd("1.00"), "SEK", "USD", CONFIG, QUOTES) is None


@given(
    amount=st.decimals(min_value=-(10**6), max_value=10**6, places=2),
    pair=st.sampled_from([("EUR", "USD"), ("USD", "EUR"), ("JPY", "GBP"), ("CHF", "EUR"), ("GBP", "JPY")]),
)
def test_converting_there_and_back_never_gains(amount: Decimal, pair: tuple[str, str]) -> None:
    source, target = pair
    quotes: dict[str, Quote] = {**QUOTES, "EURGBP": quote("EURGBP", "0.88000", "0.88010")}
    there = convert(amount, source, target, CONFIG, quotes)
    assert there is not None
    back = convert(there, target, source, CONFIG, quotes)
    assert back is not None
    assert back <= amount + Decimal("1E-15")
