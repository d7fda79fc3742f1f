"""From one currency into another: the side each rule takes, over direct, inverse and two-step paths, and the fee."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import config, eurusd, quote
from tests.support.plain_margin import initial_margin
from trading.conversion import ConversionRule, ConversionTerms, Converter, Traded, conversion_fee
from trading.numbers import round_half_up
from trading.orders import Side
from trading.pricing import convert
from trading.quotes import Quote

R = ConversionRule
QUOTES: dict[str, Quote] = {
    "EURUSD": eurusd("1.10000", "1.10020"),
    "USDJPY": quote("USDJPY", "107.190", "107.240"),
    "GBPUSD": quote("GBPUSD", "1.25000", "1.25040"),
}
CONVERTER = Converter(config().conversions, QUOTES)
BOUGHT = Traded(side=Side.BUY)
SOLD = Traded(side=Side.SELL)
AMOUNTS = st.decimals(min_value=-(10**9), max_value=10**9, places=5)
PRICES = st.decimals(min_value="0.5", max_value="200", places=5)


def d(text: str) -> Decimal:
    return Decimal(text)


@pytest.mark.parametrize(
    ("rule", "amount", "traded", "rate"),
    [
        (R.MARKET_WORST, "100", BOUGHT, "1.10000"),  # an asset is sold at the bid
        (R.MARKET_WORST, "-100", BOUGHT, "1.10020"),  # a debt is bought at the ask
        (R.BY_DEAL, "100", BOUGHT, "1.10020"),
        (R.BY_DEAL, "-100", BOUGHT, "1.10020"),
        (R.BY_DEAL, "100", SOLD, "1.10000"),
        (R.MID, "100", SOLD, "1.10010"),
        (R.BID, "-100", BOUGHT, "1.10000"),
        (R.ASK, "100", SOLD, "1.10020"),
    ],
)
def test_each_rule_takes_its_side_of_the_direct_pair(rule: R, amount: str, traded: Traded, rate: str) -> None:
    assert CONVERTER.convert(d(amount), "EUR", "USD", rule=rule, traded=traded) == d(amount) * d(rate)


@pytest.mark.parametrize(
    ("rule", "amount", "traded", "price"),
    [
        (R.MARKET_WORST, "236000", BOUGHT, "107.240"),  # yen buy dollars at the dollar's ask
        (R.MARKET_WORST, "-236000", BOUGHT, "107.190"),
        (R.BY_DEAL, "236000", BOUGHT, "107.190"),  # the ask of JPYUSD is 1 / the bid of USDJPY
        (R.BY_DEAL, "236000", SOLD, "107.240"),
        (R.MID, "236000", BOUGHT, "107.215"),
        (R.BID, "236000", BOUGHT, "107.240"),
        (R.ASK, "236000", BOUGHT, "107.190"),
    ],
)
def test_an_inverse_pair_takes_the_other_side_and_divides(rule: R, amount: str, traded: Traded, price: str) -> None:
    assert CONVERTER.convert(d(amount), "JPY", "USD", rule=rule, traded=traded) == d(amount) / d(price)


def test_two_steps_take_the_worst_side_at_each() -> None:
    profit = CONVERTER.convert(d("1000"), "EUR", "GBP", rule=R.MARKET_WORST, traded=BOUGHT)
    loss = CONVERTER.convert(d("-1000"), "EUR", "GBP", rule=R.MARKET_WORST, traded=BOUGHT)
    direct = Converter({"EUR/GBP": config().conversions["EUR/USD"] + config().conversions["USD/GBP"]}, QUOTES)
    assert profit is None, "the demo broker's path goes over EURGBP, which has no quote"
    assert loss is None
    profit = direct.convert(d("1000"), "EUR", "GBP", rule=R.MARKET_WORST, traded=BOUGHT)
    loss = direct.convert(d("-1000"), "EUR", "GBP", rule=R.MARKET_WORST, traded=BOUGHT)
    assert profit == d("1000") * d("1.10000") / d("1.25040")
    assert loss == d("-1000") * d("1.10020") / d("1.25000")


def test_by_deal_the_traded_pair_converts_at_its_deal_price() -> None:
    """A dollar account closes USDJPY at 114.45: the yen become dollars at 114.45, whatever the market says now."""
    closed = Traded(side=Side.BUY, symbol="USDJPY", price=d("114.45"))
    result = CONVERTER.convert(d("-6000"), "JPY", "USD", rule=R.BY_DEAL, traded=closed)
    assert result is not None
    assert round_half_up(result, 2) == d("-52.42")
    at_market = CONVERTER.convert(d("-6000"), "JPY", "USD", rule=R.MARKET_WORST, traded=closed)
    assert at_market == d("-6000") / d("107.190")


def test_without_a_path_or_a_quote_there_is_no_answer() -> None:
    assert CONVERTER.convert(d("1"), "EUR", "TRY", rule=R.MID, traded=BOUGHT) is None
    assert CONVERTER.convert(d("1"), "AUD", "USD", rule=R.MID, traded=BOUGHT) is None
    assert CONVERTER.rate("AUD", "USD", rule=R.MID, traded=BOUGHT) is None
    assert CONVERTER.convert(d("1"), "TRY", "TRY", rule=R.MID, traded=BOUGHT) == d("1")


def test_a_cost_is_bought_and_a_rebate_is_sold() -> None:
    assert CONVERTER.cost(d("3.50"), "EUR", "USD", traded=BOUGHT) == d("3.50") * d("1.10020")
    assert CONVERTER.cost(d("-3.50"), "EUR", "USD", traded=BOUGHT) == d("-3.50") * d("1.10000")


@pytest.mark.parametrize(
    ("result", "fee", "source", "charged"),
    [
        ("1000.00", "50", "JPY", "5.00"),  # 0.50 %
        ("-1000.00", "50", "JPY", "5.00"),  # a loss costs as much
        ("1000.00", "1", "JPY", "0.10"),  # 1 is 0.01 %
        ("0.49", "100", "JPY", "0.00"),
        ("0.50", "100", "JPY", "0.01"),  # half up
        ("1000.00", "50", "USD", "0.00"),  # nothing was converted
        ("1000.00", "0", "JPY", "0.00"),
    ],
)
def test_the_conversion_fee_is_a_part_of_the_realised_result(result: str, fee: str, source: str, charged: str) -> None:
    terms = ConversionTerms(fee=d(fee))
    assert conversion_fee(d(result), terms=terms, source=source, target="USD", digits=2) == d(charged)


@given(amount=AMOUNTS, source=st.sampled_from(["EUR", "USD", "JPY", "GBP"]), target=st.sampled_from(["EUR", "USD"]))
def test_the_default_is_what_results_were_always_converted_with(amount: Decimal, source: str, target: str) -> None:
    ours = CONVERTER.convert(amount, source, target, rule=ConversionTerms().result, traded=BOUGHT)
    assert ours == convert(amount, source, target, config(), QUOTES)


@given(
    side=st.sampled_from(list(Side)),
    lots=st.decimals(min_value="0.01", max_value=100, places=2),
    price=PRICES,
    symbol=st.sampled_from(["EURUSD", "USDJPY", "GBPUSD", "EURJPY"]),
    currency=st.sampled_from(["EUR", "USD"]),
)
def test_the_default_is_what_margins_were_always_converted_with(
    side: Side, lots: Decimal, price: Decimal, symbol: str, currency: str
) -> None:
    instrument = config().instruments[symbol]
    traded = Traded(side=side, symbol=symbol, price=price)
    rate = CONVERTER.rate(instrument.base, currency, rule=ConversionTerms().margin, traded=traded)
    always = initial_margin(
        instrument=instrument,
        side=side,
        volume=lots,
        price=price,
        leverage=30,
        currency=currency,
        config=config(),
        quotes=QUOTES,
    )
    if rate is None or always is None:
        assert rate is None
        assert always is None, "the demo broker's path from GBP to EUR goes over EURGBP, which has no quote"
        return
    ours = lots * instrument.contract_size * rate.multiply / (rate.divide * 30)
    division_noise = d("1E-15")
    assert always - d("0.01") < ours + division_noise
    assert ours - division_noise <= always


@given(amount=AMOUNTS, rule=st.sampled_from(list(R)), side=st.sampled_from(list(Side)))
def test_no_rule_is_worse_for_the_holder_than_the_markets_worst_side(amount: Decimal, rule: R, side: Side) -> None:
    for source in ("EUR", "JPY"):
        ours = CONVERTER.convert(amount, source, "USD", rule=rule, traded=Traded(side=side))
        worst = CONVERTER.convert(amount, source, "USD", rule=R.MARKET_WORST, traded=Traded(side=side))
        assert ours is not None
        assert worst is not None
        assert ours >= worst
