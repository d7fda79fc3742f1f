"""Equity, free margin, level and the close-out tests, to the minor unit on both sides of every border."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.margining.level import (
    Worth,
    equity,
    equity_at_level,
    free_margin,
    is_level_at_or_below,
    margin_level,
    must_close_out,
    regulatory_equity,
)
from trading.margining.terms import FreeMarginPolicy

MONEY = st.decimals(min_value=-(10**7), max_value=10**7, places=2)
MARGIN = st.decimals(min_value=0, max_value=10**7, places=2)


def d(text: str) -> Decimal:
    return Decimal(text)


def worth(**amounts: str) -> Worth:
    return Worth(**{"balance": d("1000.00"), **{name: d(text) for name, text in amounts.items()}})


@pytest.mark.parametrize(
    ("amounts", "whole", "regulatory"),
    [
        ({}, "1000.00", "1000.00"),
        ({"credit": "100"}, "1100.00", "1000.00"),
        ({"profit": "25.559"}, "1025.55", "1025.55"),
        ({"profit": "-25.551"}, "974.44", "974.44"),
        ({"swap": "-1.20", "commission_blocked": "3.50"}, "995.30", "995.30"),
        ({"balance": "0", "credit": "50", "profit": "-80"}, "-30.00", "-80.00"),
    ],
)
def test_equity_is_rounded_down_and_the_regulator_does_not_count_credit(
    amounts: dict[str, str], whole: str, regulatory: str
) -> None:
    assert equity(worth(**amounts), 2) == d(whole)
    assert regulatory_equity(worth(**amounts), 2) == d(regulatory)


@pytest.mark.parametrize(
    ("policy", "in_profit", "in_loss"),
    [
        (FreeMarginPolicy.USE_PROFIT_AND_LOSS, "700.00", "500.00"),
        (FreeMarginPolicy.IGNORE, "600.00", "600.00"),
        (FreeMarginPolicy.PROFIT_ONLY, "700.00", "600.00"),
        (FreeMarginPolicy.LOSS_ONLY, "600.00", "500.00"),
    ],
)
def test_free_margin_counts_the_unrealised_result_as_the_policy_says(
    policy: FreeMarginPolicy, in_profit: str, in_loss: str
) -> None:
    assert free_margin(worth(profit="100"), d("400"), policy, 2) == d(in_profit)
    assert free_margin(worth(profit="-100"), d("400"), policy, 2) == d(in_loss)


def test_without_margin_there_is_no_level_and_no_margin_call() -> None:
    assert margin_level(d("1000"), d("0")) is None
    assert not is_level_at_or_below(d("-1"), d("0"), d("50"))


@pytest.mark.parametrize(
    ("equity_now", "margin", "at_or_below", "close_out"),
    [
        ("500.01", "1000.00", False, False),
        ("500.00", "1000.00", True, False),  # exactly half: the broker's own level is reached, the regulator's is not
        ("499.99", "1000.00", True, True),
        ("500.00", "1000.01", True, True),  # half of an odd amount lies between two minor units
        ("500.01", "1000.01", False, False),
        ("0.00", "0.01", True, True),
        ("0.01", "0.01", False, False),
        ("-0.01", "0.00", False, True),  # a full hedge without margin and below zero is closed by the regulator's test
    ],
)
def test_close_out_borders_to_the_minor_unit(
    equity_now: str, margin: str, *, at_or_below: bool, close_out: bool
) -> None:
    assert is_level_at_or_below(d(equity_now), d(margin), d("50")) is at_or_below
    assert must_close_out(d(equity_now), d(margin)) is close_out


@given(balance=MONEY, profit=st.decimals(min_value=-(10**6), max_value=10**6, places=8), margin=MARGIN)
def test_free_margin_with_profit_and_loss_is_equity_less_margin(
    balance: Decimal, profit: Decimal, margin: Decimal
) -> None:
    account = Worth(balance=balance, profit=profit)
    free = free_margin(account, margin, FreeMarginPolicy.USE_PROFIT_AND_LOSS, 2)
    assert free == equity(account, 2) - margin


@given(margin=MARGIN.filter(bool), percent=st.sampled_from([d("20"), d("50"), d("80"), d("100")]))
def test_the_equity_at_a_level_is_the_last_that_reaches_it(margin: Decimal, percent: Decimal) -> None:
    border = equity_at_level(margin, percent)
    assert is_level_at_or_below(border, margin, percent)
    assert not is_level_at_or_below(border + d("0.0001"), margin, percent)


@given(whole=MONEY, margin=MARGIN)
def test_the_regulators_test_never_fires_above_the_brokers_half(whole: Decimal, margin: Decimal) -> None:
    if margin and must_close_out(whole, margin):
        assert is_level_at_or_below(whole, margin, d("50"))
