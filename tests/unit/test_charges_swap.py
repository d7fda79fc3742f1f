"""Nights that are paid for: weekday factors, holidays, every mode, periods, swap-free accounts."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.charges.accrual import realised_share
from trading.charges.swap import (
    CRYPTO_WEEK,
    FOREX_WEEK,
    NEXT_DAY_WEEK,
    HolidayRule,
    SwapCharge,
    SwapFreeTerms,
    SwapMode,
    SwapPosition,
    SwapTerms,
    SwapTermsRefused,
    check_swap_free_terms,
    check_swap_terms,
    day_factor,
    nights_held,
    reopening,
    swap_charge,
    swap_free_charge,
    swap_instants,
)
from trading.conversion import ConversionStep, Converter
from trading.numbers import round_half_up
from trading.orders import Side
from trading.profit import ProfitMode, RoundingSetting
from trading.quotes import ClientQuote

MON, TUE, WED, THU, FRI, SAT, SUN = (date(2024, 1, day) for day in range(1, 8))
ALL_WEEK = (MON, TUE, WED, THU, FRI, SAT, SUN)
EVERY_DAY = (0, 1, 2, 3, 4, 5, 6)


def d(text: str) -> Decimal:
    return Decimal(text)


def shown(symbol: str, bid: str, ask: str) -> ClientQuote:
    return ClientQuote(symbol=symbol, bid=d(bid), ask=d(ask), at_us=0)


CONVERTER = Converter(
    {
        "TRY/USD": (ConversionStep(symbol="TRYUSD", inverse=False),),
        "EUR/USD": (ConversionStep(symbol="EURUSD", inverse=False),),
        "USD/EUR": (ConversionStep(symbol="EURUSD", inverse=True),),
    },
    {"TRYUSD": shown("TRYUSD", "0.2274587", "0.2274587"), "EURUSD": shown("EURUSD", "1.08000", "1.10000")},
)


def position(**fields: Any) -> SwapPosition:
    """One lot of EURUSD bought at 1.09 in a dollar account."""
    values: dict[str, Any] = {
        "side": Side.BUY,
        "symbol": "EURUSD",
        "volume": d("1"),
        "open_price": d("1.09"),
        "bid": d("1.08000"),
        "ask": d("1.10000"),
        "contract_size": d("100000"),
        "digits": 5,
        "base": "EUR",
        "profit_currency": "USD",
        "margin_currency": "EUR",
        "account_currency": "USD",
        "account_digits": 2,
        **fields,
    }
    return SwapPosition(**values)


def terms(mode: SwapMode = SwapMode.POINTS, long: str = "-5", short: str = "2", **fields: Any) -> SwapTerms:
    return SwapTerms(mode=mode, long=d(long), short=d(short), **fields)


def night(swap: SwapTerms, held: SwapPosition | None = None, day: date = MON, **fields: Any) -> SwapCharge:
    charged = swap_charge(swap, held or position(), day, converter=CONVERTER, **fields)
    assert charged is not None
    return charged


# --- days ---


@pytest.mark.parametrize(
    ("week", "expected"),
    [(FOREX_WEEK, "1131100"), (NEXT_DAY_WEEK, "1113100"), (CRYPTO_WEEK, "1111111")],
)
def test_presets_count_seven_nights_a_week(week: Any, expected: str) -> None:
    factors = [day_factor(SwapTerms(multipliers=week), day).factor for day in ALL_WEEK]
    assert factors == [d(digit) for digit in expected]
    assert sum(factors) == 7


@pytest.mark.parametrize(
    ("closed", "expected"),
    [
        ((WED,), {TUE: "4", WED: "0", THU: "1"}),  # the worked example: Tuesday 1 + Wednesday 3
        ((WED, THU), {TUE: "5", WED: "0", THU: "0", FRI: "1"}),
        ((MON + timedelta(days=7),), {FRI: "2", SAT: "0", SUN: "0"}),  # Monday's night moves over the weekend
        ((MON,), {MON: "0", TUE: "1"}),
        ((SAT,), {FRI: "1", SAT: "0"}),  # nothing to move
    ],
)
def test_a_closed_days_nights_count_on_the_open_day_before(closed: tuple[date, ...], expected: dict[date, str]) -> None:
    assert {day: day_factor(SwapTerms(), day, closed).factor for day in expected} == {
        day: d(factor) for day, factor in expected.items()
    }


def test_the_factor_says_how_it_came_about() -> None:
    assert day_factor(SwapTerms(), TUE, {WED}).why == "Tuesday counts 1, closed Wednesday adds 3"
    assert day_factor(SwapTerms(), WED, {WED}).why == "Wednesday is closed: its 3 counted on the open day before"
    assert day_factor(SwapTerms(holidays=HolidayRule.IGNORE), WED, {WED}).factor == 3


@given(
    closed=st.sets(st.integers(min_value=5, max_value=60).map(lambda n: MON + timedelta(days=n)), max_size=12),
    week=st.sampled_from([FOREX_WEEK, NEXT_DAY_WEEK, CRYPTO_WEEK]),
    weekdays=st.sampled_from([(0, 1, 2, 3, 4), EVERY_DAY]),
)
def test_holidays_move_nights_and_lose_none(closed: set[date], week: Any, weekdays: tuple[int, ...]) -> None:
    swap = SwapTerms(multipliers=week, open_weekdays=weekdays)
    days = [MON + timedelta(days=n) for n in range(70)]
    assert sum(day_factor(swap, day, closed).factor for day in days) == sum(week) * 10


# --- amounts ---


@pytest.mark.parametrize(
    ("swap", "held", "amount"),
    [
        (terms(), position(), "-5"),  # a point of one lot is a dollar
        (terms(), position(side=Side.SELL), "2"),
        (terms(SwapMode.PROFIT, "-7.5"), position(volume=d("2")), "-15"),
        (terms(SwapMode.ACCOUNT, "-7.5"), position(), "-7.5"),
        (terms(SwapMode.BASE, "-10"), position(), "-11"),  # ten euros of debt bought at the ask
        (terms(SwapMode.BASE, "10"), position(), "10.8"),  # ten euros of credit sold at the bid
        (terms(SwapMode.MARGIN, "10"), position(), "10.8"),
        (terms(SwapMode.PROFIT, "11"), position(account_currency="EUR"), "10"),
        # forex in per cent: 100,000 euros, whatever the price, at the bid for buys and at the ask for sells
        (terms(SwapMode.PERCENT_CURRENT, "-3.6"), position(), "-10.8"),
        (terms(SwapMode.PERCENT_OPEN, "-3.6"), position(), "-10.8"),
        (terms(SwapMode.PERCENT_OPEN, "0", "-3.6"), position(side=Side.SELL), "-11"),
        # a CFD in per cent: its value at the open price, or at what it would be closed at now
        (terms(SwapMode.PERCENT_OPEN, "-3.6", value=ProfitMode.CFD), position(), "-10.9"),
        (terms(SwapMode.PERCENT_CURRENT, "-3.6", value=ProfitMode.CFD), position(), "-10.8"),
        (terms(SwapMode.PERCENT_CURRENT, "0", "-3.6", value=ProfitMode.CFD), position(side=Side.SELL), "-11"),
        (terms(SwapMode.PERCENT_OPEN, "-3.65", value=ProfitMode.CFD, year_days=365), position(), "-10.9"),
        (
            terms(SwapMode.PERCENT_OPEN, "-3.6", value=ProfitMode.FUTURES, tick_size=d("0.5"), tick_value=d("2")),
            position(),
            "-43.6",
        ),
        (SwapTerms(), position(), "0"),
    ],
)
def test_one_monday_night(swap: SwapTerms, held: SwapPosition, amount: str) -> None:
    assert night(swap, held).amount == d(amount)


def test_wednesday_is_three_nights_and_the_row_says_so() -> None:
    charged = night(terms(), day=WED)
    assert charged == SwapCharge(
        date="2024-01-03", factor=d("3"), rate=d("-5"), amount=d("-15"), why="Wednesday counts 3"
    )


@pytest.mark.parametrize(
    ("rounding", "amount"),
    [
        (RoundingSetting.PER_POSTING, "-12.9083"),  # 1.1372935 x 11.35, fractions of a cent kept
        (RoundingSetting.PER_COMPONENT, "-12.94"),  # 1.14 x 11.35
        (RoundingSetting.PER_STEP, "-13.05"),  # one lot's point is 0.23, its night 2.61
    ],
)
def test_five_lots_of_usdtry_by_each_rounding(rounding: RoundingSetting, amount: str) -> None:
    held = position(symbol="USDTRY", volume=d("5"), base="USD", profit_currency="TRY", margin_currency="USD")
    charged = night(terms(SwapMode.POINTS, "-11.35", rounding=rounding), held)
    assert round_half_up(charged.amount, 4) == d(amount)


def test_without_a_rate_on_the_way_there_is_no_charge() -> None:
    held = position(profit_currency="JPY")
    assert swap_charge(terms(), held, MON, converter=CONVERTER) is None
    assert night(terms(), held, SAT).amount == 0, "a night that counts nothing needs no rate"
    fee = SwapFreeTerms(fee_per_lot=d("1"), currency="CHF")
    assert swap_free_charge(fee, terms(), held, MON, nights_held=0, converter=CONVERTER) is None


@given(
    rate=st.decimals(min_value="-50", max_value="50", places=4),
    lots=st.decimals(min_value="0.01", max_value="50", places=2),
    periods=st.integers(min_value=1, max_value=24),
    rounding=st.sampled_from(list(RoundingSetting)),
)
def test_the_periods_of_a_day_add_up_to_the_day(
    rate: Decimal, lots: Decimal, periods: int, rounding: RoundingSetting
) -> None:
    held = position(volume=lots)
    swap = terms(SwapMode.BASE, str(rate), multipliers=CRYPTO_WEEK, rounding=rounding, periods_per_day=periods)
    whole = terms(SwapMode.BASE, str(rate), multipliers=CRYPTO_WEEK, rounding=rounding)
    parts = [night(swap, held, SUN, period=n).amount for n in range(1, periods + 1)]
    assert sum(parts) == night(whole, held, SUN).amount


def test_every_eight_hours_is_named() -> None:
    swap = terms(SwapMode.ACCOUNT, "-9", multipliers=CRYPTO_WEEK, open_weekdays=EVERY_DAY, periods_per_day=3)
    charged = night(swap, day=SUN, period=2)
    assert (charged.amount, charged.period, charged.why) == (d("-3"), 2, "Sunday counts 1, period 2 of 3")


@pytest.mark.parametrize(
    ("day", "hours"),
    [
        (date(2024, 1, 3), ["06:00", "14:00", "22:00"]),  # 17:00 New York in winter
        (date(2024, 7, 3), ["05:00", "13:00", "21:00"]),
        (date(2024, 3, 10), ["05:40", "13:20", "21:00"]),  # 23 hours: the clocks go forward
    ],
)
def test_periods_end_with_the_business_date(day: date, hours: list[str]) -> None:
    instants = swap_instants(SwapTerms(periods_per_day=3), day)
    assert [datetime.fromtimestamp(us / 1_000_000, UTC).strftime("%H:%M") for us in instants] == hours
    assert swap_instants(SwapTerms(), day) == instants[-1:]


def test_nights_are_counted_from_the_business_date_of_the_opening() -> None:
    (rollover,) = swap_instants(SwapTerms(), MON)
    assert nights_held(rollover - 1, MON) == 0
    assert nights_held(rollover, TUE) == 0, "opened at the rollover, it belongs to Tuesday"
    assert nights_held(rollover - 1, THU) == 3


# --- swap-free ---


def test_a_swap_free_account_pays_a_fee_after_its_free_nights() -> None:
    """Five dollars a lot from the fourth night on, tripled on Wednesday; the symbol's own rates never count."""
    fee = SwapFreeTerms(free_nights=3, fee_per_lot=d("5"))
    held = position(volume=d("2"), account_currency="EUR")

    def charged(day: date, nights: int) -> SwapCharge:
        one = swap_free_charge(fee, terms(), held, day, nights_held=nights, converter=CONVERTER)
        assert one is not None
        return one

    assert charged(TUE, 2).amount == 0
    assert charged(TUE, 2).why == "night 3 of 3 without fee"
    assert round_half_up(charged(WED, 3).amount, 2) == d("-27.78")  # 30 dollars bought at the bid of EURUSD
    assert round_half_up(charged(THU, 4).amount, 2) == d("-9.26")
    assert charged(SAT, 6).amount == 0


# --- reopening ---


@pytest.mark.parametrize(
    ("mode", "side", "day", "closes", "opens"),
    [
        (SwapMode.REOPEN_CLOSE, Side.BUY, MON, "1.08000", "1.08005"),  # -5 points: dearer for the buyer
        (SwapMode.REOPEN_CLOSE, Side.SELL, MON, "1.10000", "1.10002"),  # +2 points: better for the seller
        (SwapMode.REOPEN_BID, Side.SELL, MON, "1.08000", "1.08002"),
        (SwapMode.REOPEN_BID, Side.BUY, WED, "1.08000", "1.08015"),
    ],
)
def test_a_position_is_reopened_away_from_the_price(
    mode: SwapMode, side: Side, day: date, closes: str, opens: str
) -> None:
    change = reopening(terms(mode), position(side=side), day)
    assert (change.close_price, change.open_price) == (d(closes), d(opens))


@given(rate=st.integers(min_value=-500, max_value=500), side=st.sampled_from(list(Side)), day=st.sampled_from(ALL_WEEK))
def test_reopening_is_worth_what_the_same_points_are_in_money(rate: int, side: Side, day: date) -> None:
    held = position(side=side)
    change = reopening(terms(SwapMode.REOPEN_CLOSE, str(rate), str(rate)), held, day)
    worth = side.sign * (change.close_price - change.open_price) * held.contract_size * held.volume
    assert worth == night(terms(SwapMode.POINTS, str(rate), str(rate)), held, day).amount


# --- what may be published ---


@pytest.mark.parametrize(
    "fields",
    [
        {"year_days": 252},
        {"periods_per_day": 0},
        {"open_weekdays": ()},
        {"open_weekdays": (7,)},
        {"multipliers": (d("-1"), *CRYPTO_WEEK[1:])},
        {"long": d("NaN")},
        {"tick_size": d("0")},
        {"mode": SwapMode.REOPEN_BID, "periods_per_day": 3},
    ],
)
def test_terms_that_cannot_be_used_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(SwapTermsRefused):
        check_swap_terms("EURUSD", SwapTerms(**fields))


def test_the_defaults_can_be_published() -> None:
    check_swap_terms("EURUSD", SwapTerms())
    check_swap_free_terms("islamic", SwapFreeTerms())
    with pytest.raises(SwapTermsRefused):
        check_swap_free_terms("islamic", SwapFreeTerms(fee_per_lot=d("-1")))


# --- what has built up reaches the balance ---


def test_a_partial_close_posts_its_share_and_leaves_the_fraction() -> None:
    """10.005 dollars charged on 3 lots: one lot pays 3.34 (3.335), the other two what is left, 6.67 (6.665)."""
    posted, left = realised_share(d("-10.005"), closed=d("1"), open_volume=d("3"), digits=2)
    assert (posted, left) == (d("-3.34"), d("-6.665"))
    assert realised_share(left, closed=d("2"), open_volume=d("2"), digits=2) == (d("-6.67"), d("0"))


@given(
    accrued=st.decimals(min_value="-1000", max_value="1000", places=10),
    parts=st.lists(st.integers(min_value=1, max_value=500), min_size=1, max_size=20),
)
def test_closings_together_post_the_whole_accrual_rounded_once(accrued: Decimal, parts: list[int]) -> None:
    open_volume, left, total = sum(parts), accrued, d("0")
    for part in parts:
        posted, left = realised_share(
            left, closed=Decimal(part) / 100, open_volume=Decimal(open_volume) / 100, digits=2
        )
        open_volume, total = open_volume - part, total + posted
    assert left == 0
    assert abs(total - accrued) <= d("0.005")
