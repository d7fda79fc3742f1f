"""Results by calculation mode, and what each rounding setting makes of the same closing."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.numbers import round_half_up
from trading.orders import Side
from trading.profit import (
    Closing,
    ProfitMode,
    ProfitTerms,
    ProfitTermsRefused,
    RoundingSetting,
    check_profit_terms,
    gross_result,
    realised_result,
)

POSTING, COMPONENT, STEP = RoundingSetting.PER_POSTING, RoundingSetting.PER_COMPONENT, RoundingSetting.PER_STEP
PRICES = st.decimals(min_value="0.5", max_value="2", places=5)
LOTS = st.decimals(min_value="0.01", max_value="50", places=2)


def d(text: str) -> Decimal:
    return Decimal(text)


def closing(opened: str, closed: str, lots: str = "1", size: str = "100000", side: Side = Side.BUY) -> Closing:
    volume = d(lots)
    return Closing(
        side=side,
        volume=volume,
        contract_size=d(size),
        open_cost=d(opened) * volume,
        close_cost=d(closed) * volume,
    )


def realised(terms: ProfitTerms, closed: Closing, rate: str = "1", profit_digits: int = 2) -> Decimal | None:
    return realised_result(
        terms, closed, convert=lambda amount: amount / d(rate), profit_digits=profit_digits, account_digits=2
    )


@pytest.mark.parametrize(
    ("mode", "closed", "fields", "expected"),
    [
        (ProfitMode.FOREX, closing("1.2000", "1.2050"), {}, "500.00"),
        (ProfitMode.FOREX, closing("1.2000", "1.2050", side=Side.SELL), {}, "-500.00"),
        (ProfitMode.CFD, closing("13198.2", "13150", "10", "1", Side.SELL), {}, "482.00"),
        (ProfitMode.INDEX, closing("15000.5", "15010.25", "2", "10"), {}, "195.00"),
        # crude, 1000 barrels a lot: a tick of 0.01 is worth 0.01 a barrel; the second one is quoted in cents
        (
            ProfitMode.FUTURES,
            closing("70.10", "70.25", "3", "1000"),
            {"tick_size": "0.01", "tick_value": "0.01"},
            "450.00",
        ),
        (
            ProfitMode.FUTURES,
            closing("512.25", "514.75", "1", "5000"),
            {"tick_size": "0.25", "tick_value": "0.0025"},
            "125.00",
        ),
    ],
)
def test_each_mode_makes_money_of_prices(
    mode: ProfitMode, closed: Closing, fields: dict[str, str], expected: str
) -> None:
    ticks: dict[str, Any] = {name: d(text) for name, text in fields.items()}
    terms = ProfitTerms(mode=mode, **ticks)
    assert realised(terms, closed) == d(expected)


@pytest.mark.parametrize(
    ("mode", "rounding", "expected"),
    [
        (ProfitMode.FOREX, POSTING, "0.03"),  # 0.034
        (ProfitMode.FOREX, COMPONENT, "0.04"),  # 1.14 - 1.10: 1.136 and 1.102 each rounded first
        (ProfitMode.CFD, COMPONENT, "0.03"),  # one component
    ],
)
def test_forex_has_two_components_and_a_cfd_has_one(mode: ProfitMode, rounding: RoundingSetting, expected: str) -> None:
    assert realised(ProfitTerms(mode=mode, rounding=rounding), closing("1.102", "1.136", "1", "1")) == d(expected)


def test_five_lots_of_usdjpy_by_posting_and_by_step() -> None:
    """500,000 yen at 104.30 are 4793.86 dollars; one lot's 958.77 five times is a cent less."""
    closed = closing("105.3", "104.3", "5", side=Side.SELL)
    assert realised(ProfitTerms(), closed, "104.3", profit_digits=0) == d("4793.86")
    assert realised(ProfitTerms(rounding=STEP), closed, "104.3", profit_digits=0) == d("4793.85")


def test_a_result_that_cannot_be_converted_is_none_by_every_rounding() -> None:
    for rounding in RoundingSetting:
        terms = ProfitTerms(rounding=rounding)
        result = realised_result(
            terms, closing("1", "2"), convert=lambda amount: None, profit_digits=2, account_digits=2
        )
        assert result is None


@pytest.mark.parametrize("fields", [{"tick_size": "0"}, {"tick_value": "-1"}, {"tick_size": "NaN"}])
def test_terms_with_useless_ticks_are_refused(fields: dict[str, str]) -> None:
    changes: dict[str, Any] = {name: d(text) for name, text in fields.items()}
    with pytest.raises(ProfitTermsRefused):
        check_profit_terms("CL", ProfitTerms(**changes))
    check_profit_terms("CL", ProfitTerms())


@given(opened=PRICES, closed=PRICES, lots=LOTS, rate=PRICES, side=st.sampled_from(list(Side)))
def test_the_default_is_what_results_always_were(
    opened: Decimal, closed: Decimal, lots: Decimal, rate: Decimal, side: Side
) -> None:
    one = closing(str(opened), str(closed), str(lots), side=side)
    always = side.sign * (closed * lots - opened * lots) * d("100000")
    assert gross_result(ProfitTerms(), one, digits=2) == always
    assert realised(ProfitTerms(), one, str(rate)) == round_half_up(always / rate, 2)


@given(
    opened=PRICES,
    closed=PRICES,
    lots=LOTS,
    mode=st.sampled_from(list(ProfitMode)),
    rounding=st.sampled_from(list(RoundingSetting)),
)
def test_what_a_buyer_wins_a_seller_loses(
    opened: Decimal, closed: Decimal, lots: Decimal, mode: ProfitMode, rounding: RoundingSetting
) -> None:
    terms = ProfitTerms(mode=mode, rounding=rounding)
    bought, sold = (
        realised(terms, closing(str(opened), str(closed), str(lots), side=side), "1.1")
        for side in (Side.BUY, Side.SELL)
    )
    assert bought is not None
    assert bought + (sold or 0) == 0


@given(opened=PRICES, closed=PRICES, lots=LOTS)
def test_settings_differ_by_their_own_halves_only(opened: Decimal, closed: Decimal, lots: Decimal) -> None:
    one = closing(str(opened), str(closed), str(lots))
    posting, component, step = (realised(ProfitTerms(rounding=r), one) for r in (POSTING, COMPONENT, STEP))
    assert posting is not None
    assert abs(posting - (component or 0)) <= d("0.01")
    assert abs(posting - (step or 0)) <= d("0.01") * lots + d("0.01")
