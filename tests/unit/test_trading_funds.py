"""What may be taken out, what can be bought with, and when a trade in shares settles."""

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.calendar import MONDAY_TO_FRIDAY
from trading.funds import buying_power, request_of, settles, withdrawable
from trading.margining.level import Worth, free_margin
from trading.margining.terms import FreeMarginPolicy
from trading.settlement import EU, RULES, UK, US, SettlementUnknown, cycle, settlement_date

MONEY = st.decimals(-100_000, 100_000, places=2)
GIFT = st.decimals(0, 100_000, places=2)
FINE = st.decimals(-100_000, 100_000, places=6)


@pytest.mark.parametrize(
    ("balance", "credit", "profit", "swap", "blocked", "margin", "most"),
    [
        ("1000", "0", "0", "0", "0", "0", "1000.00"),
        ("1000", "0", "300", "0", "0", "200", "800.00"),  # profit is not money yet
        ("1000", "0", "-300", "0", "0", "200", "500.00"),  # a loss is
        ("1000", "500", "0", "0", "0", "200", "1000.00"),  # the margin rests on the credit
        ("1000", "500", "-300", "0", "0", "0", "700.00"),  # the loss does not
        ("1000", "0", "0", "-1.239", "0", "0", "998.76"),  # rounded down
        ("1000", "0", "0", "0", "40", "0", "960.00"),
        ("1000", "0", "0", "0", "0", "1200", "0"),
        ("-5", "500", "0", "0", "0", "0", "0"),
    ],
)
def test_withdrawable(balance: str, credit: str, profit: str, swap: str, blocked: str, margin: str, most: str) -> None:
    worth = Worth(
        balance=Decimal(balance), credit=Decimal(credit), profit=Decimal(profit), swap=Decimal(swap),
        commission_blocked=Decimal(blocked),
    )  # fmt: skip
    assert withdrawable(worth, Decimal(margin), 2) == Decimal(most)


@given(balance=MONEY, credit=GIFT, profit=FINE, swap=FINE, blocked=GIFT, margin=GIFT)
def test_what_is_withdrawn_is_own_money_and_leaves_the_margin_covered(
    balance: Decimal, credit: Decimal, profit: Decimal, swap: Decimal, blocked: Decimal, margin: Decimal
) -> None:
    worth = Worth(balance=balance, credit=credit, profit=profit, swap=swap, commission_blocked=blocked)
    most = withdrawable(worth, margin, 2)
    assert 0 <= most <= max(balance, Decimal(0))
    if most:
        left = Worth(balance=balance - most, credit=credit, profit=profit, swap=swap, commission_blocked=blocked)
        assert free_margin(left, margin, FreeMarginPolicy.LOSS_ONLY, 2) >= 0
        assert withdrawable(left, margin, 2) == 0
        assert left.balance + min(profit + swap, Decimal(0)) - blocked >= 0  # what is lost is paid from own money


@given(balance=MONEY, reserved=GIFT)
def test_buying_power_is_free_cash_and_never_negative(balance: Decimal, reserved: Decimal) -> None:
    power = buying_power(balance=balance, reserved=reserved)
    assert power >= 0
    assert power in (balance - reserved, 0)


@given(request=st.integers(1, 2**63 - 1), reference=st.text(max_size=30))
def test_a_settlement_names_its_request(request: int, reference: str) -> None:
    assert request_of(settles(request, reference)) == request


@pytest.mark.parametrize("reference", ["", "request:", "request:x", "wire 17", "17", "request:١"])
def test_other_references_name_none(reference: str) -> None:
    assert request_of(reference) == 0


# --- settlement ---------------------------------------------------------------------------------------------------------

LABOR_DAY = date(2017, 9, 4)
MEMORIAL_DAY = date(2024, 5, 27)


@pytest.mark.parametrize(
    ("market", "traded", "settles_on"),
    [
        (US, "2024-05-22", "2024-05-24"),  # T+2
        (US, "2024-05-24", "2024-05-29"),  # the last trades of T+2, over Memorial Day
        (US, "2024-05-28", "2024-05-29"),  # the first of T+1 settle on the same day
        (US, "2024-05-31", "2024-06-03"),
        (US, "2017-09-01", "2017-09-07"),  # T+3, over Labor Day
        (EU, "2024-05-28", "2024-05-30"),
        (EU, "2027-10-08", "2027-10-12"),
        (EU, "2027-10-11", "2027-10-12"),
        (UK, "2027-10-11", "2027-10-12"),
    ],
)
def test_shares_settle_by_the_markets_cycle_of_the_trade_date(market: str, traded: str, settles_on: str) -> None:
    found = settlement_date(market, date.fromisoformat(traded), {LABOR_DAY, MEMORIAL_DAY})
    assert found == date.fromisoformat(settles_on)


def test_what_no_rule_speaks_about_is_said() -> None:
    with pytest.raises(SettlementUnknown, match="MARS"):
        cycle("MARS", date(2024, 1, 2))
    with pytest.raises(SettlementUnknown, match="1990"):
        cycle(US, date(1990, 1, 2))
    every_day = {date(2024, 1, 1) + timedelta(days=n) for n in range(400)}
    with pytest.raises(SettlementUnknown, match="no business day"):
        settlement_date(US, date(2024, 1, 2), every_day)


@given(
    market=st.sampled_from([US, EU, UK]),
    traded=st.dates(date(2015, 1, 1), date(2040, 1, 1)),
    holidays=st.sets(st.integers(1, 12), max_size=4),
)
def test_a_settlement_is_a_business_day_with_the_cycles_days_before_it(
    market: str, traded: date, holidays: set[int]
) -> None:
    shut = {traded + timedelta(days=n) for n in holidays}
    found = settlement_date(market, traded, shut)
    days = [traded + timedelta(days=n + 1) for n in range((found - traded).days)]
    business = [day for day in days if day.weekday() in MONDAY_TO_FRIDAY and day not in shut]
    assert business[-1] == found
    assert len(business) == cycle(market, traded).days


def test_a_markets_cycles_get_shorter_in_order() -> None:
    for market in (US, EU, UK):
        rules = [rule for rule in RULES if rule.market == market]
        assert rules == sorted(rules, key=lambda rule: rule.valid_from)
        assert [rule.days for rule in rules] == sorted({rule.days for rule in rules}, reverse=True)
