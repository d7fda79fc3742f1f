"""The house's fills: the price that the client sees, or a refusal; the same in both directions."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbook.dealing import HouseFill, fill
from tests.support.builders import NOW_US, SECOND_US, eurusd, group, instrument, lots, quote
from trading.checks import Refused
from trading.configuration import Markup
from trading.orders import Side
from trading.pricing import client_quote
from trading.quotes import Quote
from trading.refusals import Refusal


def dealt(side: Side, quote: Quote, *, name: str = "retail", symbol: str = "EURUSD") -> HouseFill:
    done = fill(quote=quote, side=side, group=group(name), instrument=instrument(symbol), now_us=NOW_US)
    assert isinstance(done, HouseFill)
    return done


@pytest.mark.parametrize(
    ("side", "name", "price"),
    [
        (Side.BUY, "retail", "1.08514"),
        (Side.SELL, "retail", "1.08508"),
        (Side.BUY, "pro", "1.08512"),
        (Side.SELL, "pro", "1.08510"),
        (Side.BUY, "vip", "1.08513"),
        (Side.SELL, "vip", "1.08509"),
    ],
)
def test_the_house_deals_at_the_clients_quote(side: Side, name: str, price: str) -> None:
    assert dealt(side, eurusd("1.08510", "1.08512"), name=name).price == lots(price)


def test_a_yen_point_is_a_thousandth() -> None:
    assert dealt(Side.BUY, quote("USDJPY", "151.200", "151.204"), symbol="USDJPY").price == lots("151.206")


def test_the_fill_reads_aloud() -> None:
    buy, sell = dealt(Side.BUY, eurusd("1.08510", "1.08512")), dealt(Side.SELL, eurusd("1.08510", "1.08512"))
    assert buy.reason == "The house sells at 1.08514: the ask 1.08512 and 0.00002 of markup."
    assert sell.reason == "The house buys at 1.08508: the bid 1.08510 and 0.00002 of markup."


@pytest.mark.parametrize(
    ("quote", "detail"),
    [
        (None, "no price for EURUSD yet"),
        (eurusd("1.08510", at_us=NOW_US - 3 * SECOND_US - 1), "the last price of EURUSD is 3000 ms old"),
        (eurusd("1.08510", at_us=NOW_US - 10 * SECOND_US), "the last price of EURUSD is 10000 ms old"),
    ],
)
def test_no_price_or_an_old_one_is_refused(quote: Quote | None, detail: str) -> None:
    done = fill(quote=quote, side=Side.BUY, group=group(), instrument=instrument(), now_us=NOW_US)
    assert done == Refused(Refusal.NO_QUOTES, detail)


def test_a_price_of_exactly_the_greatest_age_is_dealt_on() -> None:
    assert dealt(Side.BUY, eurusd("1.08510", "1.08512", at_us=NOW_US - 3 * SECOND_US)).price == lots("1.08514")


@given(
    bid=st.integers(min_value=100_000, max_value=120_000),
    spread=st.integers(min_value=0, max_value=100),
    markup=st.integers(min_value=0, max_value=50),
)
def test_both_directions_are_the_shown_price_and_lie_equally_far_from_the_middle(
    bid: int, spread: int, markup: int
) -> None:
    seen = eurusd(str(Decimal(bid).scaleb(-5)), str(Decimal(bid + spread).scaleb(-5)))
    terms, symbol = group(markup=Markup(bid=markup, ask=markup)), instrument()
    shown = client_quote(seen, terms, symbol)
    buy = fill(quote=seen, side=Side.BUY, group=terms, instrument=symbol, now_us=NOW_US)
    sell = fill(quote=seen, side=Side.SELL, group=terms, instrument=symbol, now_us=NOW_US)
    assert isinstance(buy, HouseFill)
    assert isinstance(sell, HouseFill)
    assert (buy.price, sell.price) == (shown.ask, shown.bid)
    middle = (seen.bid + seen.ask) / 2
    assert buy.price - middle == middle - sell.price
