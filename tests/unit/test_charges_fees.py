"""Maker and taker fees by turnover."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.charges.fees import FeeSchedule, FeeScheduleRefused, FeeTier, check_fee_schedule, maker_fee, taker_fee


def d(text: str) -> Decimal:
    return Decimal(text)


def tier(at_least: str, maker: str, taker: str) -> FeeTier:
    return FeeTier(at_least=d(at_least), maker=d(maker), taker=d(taker))


SEEDED = FeeSchedule()
VOLUME = FeeSchedule(
    tiers=(tier("0", "0.10", "0.15"), tier("1000000", "0.05", "0.10"), tier("5000000", "-0.01", "0.08"))
)


@pytest.mark.parametrize(
    ("schedule", "turnover", "maker", "taker"),
    [
        (SEEDED, "0", "60.00", "90.00"),  # 0.10 % and 0.15 % of 60,000
        (SEEDED, "900000000", "60.00", "90.00"),
        (VOLUME, "999999.99", "60.00", "90.00"),
        (VOLUME, "1000000", "30.00", "60.00"),
        (VOLUME, "5000000", "-6.00", "48.00"),  # a rebate
    ],
)
def test_one_bitcoin_at_sixty_thousand(schedule: FeeSchedule, turnover: str, maker: str, taker: str) -> None:
    value, reached = d("60000"), d(turnover)
    assert maker_fee(schedule, value=value, turnover_usd=reached, digits=2) == d(maker)
    assert taker_fee(schedule, value=value, turnover_usd=reached, digits=2) == d(taker)


def test_a_fee_is_rounded_half_up_in_its_own_currency() -> None:
    assert taker_fee(SEEDED, value=d("3.3333"), turnover_usd=d("0"), digits=2) == d("0.00")
    assert taker_fee(SEEDED, value=d("3.3334"), turnover_usd=d("0"), digits=2) == d("0.01")
    assert taker_fee(SEEDED, value=d("0.00012345"), turnover_usd=d("0"), digits=8) == d("0.00000019")


@pytest.mark.parametrize(
    "tiers",
    [
        (),
        (tier("1", "0", "0"),),
        (tier("0", "0", "0"), tier("0", "0", "0")),
        (tier("0", "-0.2", "0.1"),),
        (tier("0", "NaN", "1"),),
    ],
)
def test_schedules_with_a_gap_or_a_loss_are_refused(tiers: tuple[FeeTier, ...]) -> None:
    with pytest.raises(FeeScheduleRefused):
        check_fee_schedule("spot", FeeSchedule(tiers=tiers))
    check_fee_schedule("spot", SEEDED)


@given(
    value=st.decimals(min_value="0.01", max_value="10000000", places=2),
    turnover=st.decimals(min_value="0", max_value="10000000", places=2),
)
def test_between_maker_and_taker_the_house_never_pays(value: Decimal, turnover: Decimal) -> None:
    taken = taker_fee(VOLUME, value=value, turnover_usd=turnover, digits=2)
    assert taken + maker_fee(VOLUME, value=value, turnover_usd=turnover, digits=2) >= 0
