"""Swaps as clients meet them: who pays for which night, once, however late the engine is told; and what a close posts."""

from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine.rollover
from engine.core import Executed
from engine.state import state_hash
from engine.work import Work
from engine.worth import equity_of
from tests.support.builders import condition, group, instrument, policy, rule
from tests.support.builders import config as demo_config
from tests.support.laws import reborn
from tests.support.world import World, leg_of, refusal_of
from trading.accounts import ClientClass
from trading.calendar import Holiday, SessionTerms
from trading.charges.swap import CRYPTO_WEEK, SwapFreeTerms, SwapMode, SwapTerms
from trading.commands import ReloadConfig, RollOver
from trading.configuration import Config
from trading.desk import SwapAccrual
from trading.events import SwapAccrued
from trading.ledger import TransactionKind
from trading.margin import holdings_of
from trading.orders import DealEntry, Side
from trading.overrides import Override
from trading.positions import Position

NEW_YORK = ZoneInfo("America/New_York")
POINTS = SwapTerms(mode=SwapMode.POINTS, long=Decimal("-6.5"), short=Decimal("2.5"))
"""One lot of EURUSD: a long pays 6.50 dollars a night, a short gets 2.50."""


def d(text: str) -> Decimal:
    return Decimal(text)


def us(text: str) -> int:
    """A New York wall time: `2024-01-02 17:00:00`."""
    moment = datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)
    return round(moment.timestamp() * 1_000_000)


class Desk:
    """A world with a clock on New York's wall; group `pro` pays no plain commission and sees raw prices."""

    def __init__(self, swap: SwapTerms = POINTS, *, group_terms: dict[str, Any] | None = None, **symbol: Any) -> None:
        self.world = World(config_with(swap, group_terms, **symbol))
        self.world.now_us = us("2024-01-02 09:00:00")  # a Tuesday
        self.world.open_account(1, group="pro", deposit="100000", leverage=100)
        self.world.open_account(2, group="pro", deposit="100000", leverage=100, client_class=ClientClass.PROFESSIONAL)
        self.price()

    def at(self, wall: str) -> None:
        assert us(wall) >= self.world.now_us, "time goes on"
        self.world.now_us = us(wall)
        self.price()

    def price(self, bid: str = "1.10000", ask: str = "1.10010") -> None:
        self.world.price("EURUSD", bid, ask)

    def buy(self, volume: str = "1.00", **more: Any) -> Position:
        self.world.place(1, "EURUSD", Side.BUY, volume, **more)
        return self.world.positions(1)[-1]

    def sell(self, volume: str = "1.00") -> Position:
        self.world.place(1, "EURUSD", Side.SELL, volume)
        return self.world.positions(1)[-1]

    def roll(self, at: str = "") -> int:
        if at:
            self.at(at)
        name = self.world.request()
        ((_, answer),) = self.world.run(RollOver(id=name, key=name, reply_to="test")).answers
        return answer.reference

    def close(self, position: Position, volume: str | None = None) -> Executed:
        return self.world.close(position.account, position.id, volume)

    def position(self, number: int = 1) -> Position:
        return self.world.state.positions[number]

    def accruals(self) -> list[SwapAccrual]:
        events = (event for done in self.world.executed for event in done.events)
        return [event.accrual for event in events if isinstance(event, SwapAccrued)]

    def swaps(self) -> list[tuple[str, Decimal]]:
        """(date, amount) of every charge."""
        return [(accrual.date, accrual.amount) for accrual in self.accruals()]

    def posted(self) -> list[Decimal]:
        """What closes posted, from the client's side."""
        moved = [t for t in self.world.transfers() if t.kind is TransactionKind.SWAP]
        return [t.amount if t.source == "house:swap" else -t.amount for t in moved]


def config_with(swap: SwapTerms, group_terms: dict[str, Any] | None = None, **symbol: Any) -> Config:
    plain = {"commission_per_lot": d("0"), **(group_terms or {})}
    market = rule("professionals to the market", condition("client_class", "=", "professional"), action="A", id=1)
    shared = rule("three lots shared", condition("volume", "=", "3"), action="C", id=2)
    demo = demo_config(groups={"pro": group("pro", **plain)}, policy=policy(market, shared, rule(id=3)))
    demo.instruments["EURUSD"] = instrument("EURUSD", swap=swap, **symbol)
    return demo


# --- who pays -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opened", "closed", "paid"),
    [
        ("2024-01-02 16:59:59", "2024-01-02 17:00:01", "-6.50"),
        ("2024-01-02 16:59:58", "2024-01-02 16:59:59", "0"),
        ("2024-01-02 17:00:00", "2024-01-02 17:00:01", "0"),
        ("2024-01-02 17:00:01", "2024-01-03 16:59:59", "0"),
    ],
)
@pytest.mark.parametrize("is_late", [False, True])
def test_a_position_pays_when_it_was_held_over_seventeen_hours_whenever_the_command_comes(
    opened: str, closed: str, paid: str, is_late: bool
) -> None:
    desk = Desk()
    desk.at(opened)
    position = desk.buy()
    desk.at(closed)
    if not is_late:
        desk.roll()
    desk.close(position)
    desk.roll("2024-01-04 16:00:00")
    assert sum(desk.posted(), Decimal(0)) == d(paid)
    assert set(desk.world.ledger_sums().values()) == {Decimal(0)}


def test_wednesday_counts_three_nights_and_the_weekend_none() -> None:
    desk = Desk()
    desk.buy()
    for day in range(2, 9):
        desk.roll(f"2024-01-0{day} 17:00:00")
    assert desk.swaps() == [
        ("2024-01-02", d("-6.50")),
        ("2024-01-03", d("-19.50")),
        ("2024-01-04", d("-6.50")),
        ("2024-01-05", d("-6.50")),
        ("2024-01-06", d("0")),
        ("2024-01-07", d("0")),
        ("2024-01-08", d("-6.50")),
    ]
    assert desk.position().swap == d("-45.50")
    assert desk.accruals()[1].why == "Wednesday counts 3"


def test_a_closed_wednesday_is_paid_on_tuesday() -> None:
    sessions = SessionTerms(
        holidays=(Holiday(name="fair", month=1, day=3), Holiday(name="eve", month=1, day=4, end=3600))
    )
    desk = Desk(sessions=sessions)
    desk.buy()
    for day in (2, 3, 4):
        desk.world.now_us = us(f"2024-01-0{day} 17:00:00")
        desk.roll()
    assert desk.swaps() == [("2024-01-02", d("-26.00")), ("2024-01-03", d("0")), ("2024-01-04", d("-6.50"))]


def test_a_short_is_credited() -> None:
    desk = Desk()
    position = desk.sell()
    desk.roll("2024-01-02 17:00:00")
    desk.close(position)
    assert desk.posted() == [d("2.50")]
    assert desk.world.state.balances["house:swap", "USD"] == d("-2.50")


@pytest.mark.parametrize(
    ("opened", "asked", "days", "hours"),
    [
        ("2024-03-08 12:00:00", "2024-03-12 12:00:00", ("03-08", "03-09", "03-10", "03-11"), [24, 23, 24]),
        ("2024-11-01 12:00:00", "2024-11-05 12:00:00", ("11-01", "11-02", "11-03", "11-04"), [24, 25, 24]),
    ],
)
def test_the_rollover_follows_the_clocks_of_new_york_through_both_changes(
    opened: str, asked: str, days: tuple[str, ...], hours: list[int]
) -> None:
    """Clocks go forward on 10 March and back on 3 November 2024: 17:00 is 22:00 UTC in winter, 21:00 in summer."""
    desk = Desk(SwapTerms(mode=SwapMode.POINTS, long=d("-1"), multipliers=CRYPTO_WEEK))
    desk.at(opened)
    desk.buy()
    desk.roll(asked)
    due = [accrual.due_us for accrual in desk.accruals()]
    assert due == [us(f"2024-{day} 17:00:00") for day in days]
    assert [(later - earlier) // 3_600_000_000 for earlier, later in pairwise(due)] == hours
    assert desk.position().swap == d("-4")


def test_three_missed_days_are_caught_up_by_one_command() -> None:
    desk = Desk()
    desk.buy()
    assert desk.roll("2024-01-05 12:00:00") == 0
    assert desk.swaps() == [("2024-01-02", d("-6.50")), ("2024-01-03", d("-19.50")), ("2024-01-04", d("-6.50"))]
    assert desk.position().rolled_us == us("2024-01-04 17:00:00")


def test_a_repeated_command_charges_nothing_and_changes_nothing() -> None:
    desk = Desk()
    desk.buy()
    desk.roll("2024-01-02 17:00:00")
    before = state_hash(desk.world.state)
    desk.world.wait(3600)
    assert desk.roll() == 0
    assert desk.world.executed[-1].events == []
    assert state_hash(desk.world.state) == before


def test_a_lost_memory_charges_nothing_twice() -> None:
    desk = Desk()
    desk.buy()
    desk.roll("2024-01-02 17:00:00")
    quotes, before = desk.world.state.quotes, state_hash(desk.world.state)
    desk.world.state = reborn(desk.world.state)
    desk.world.state.quotes = quotes
    assert state_hash(desk.world.state) == before
    assert desk.roll() == 0
    assert desk.roll("2024-01-03 17:00:00") == 0
    assert desk.position().swap == d("-26.00")


def test_many_positions_take_several_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.rollover, "ROLL_MAX", 2)
    desk = Desk()
    for _ in range(5):
        desk.buy("0.10")
    desk.at("2024-01-02 17:00:00")
    assert [desk.roll(), desk.roll()] == [3, 1]
    assert desk.world.state.desk.rolled_us == 0, "not everybody is charged yet"
    assert desk.roll() == 0
    assert [accrual.position_id for accrual in desk.accruals()] == [1, 2, 3, 4, 5]
    assert desk.world.state.desk.rolled_us == us("2024-01-02 17:00:00")


def test_a_symbol_without_swap_costs_nothing_and_does_not_catch_up_when_it_gets_one() -> None:
    desk = Desk(SwapTerms())
    desk.buy()
    desk.roll("2024-01-04 16:00:00")
    assert desk.accruals() == []
    name = desk.world.request()
    desk.world.run(ReloadConfig(id=name, key=name, version=1, config=config_with(POINTS)))
    desk.roll("2024-01-04 16:30:00")
    desk.roll("2024-01-04 17:00:00")
    assert desk.swaps() == [("2024-01-04", d("-6.50"))]


def test_a_group_may_have_its_own_rate_and_its_own_periods() -> None:
    changes = {"swap.long": "-3", "swap.periods_per_day": 3}
    desk = Desk(group_terms={"overrides": (Override(name="vip", symbols="EUR*", changes=changes),)})
    desk.buy()
    desk.roll("2024-01-02 16:59:59")
    assert desk.swaps() == [], "opened at 09:00 sharp, when the second eight hours ended"
    desk.roll("2024-01-02 17:00:00")
    desk.roll("2024-01-03 01:00:00")
    assert desk.swaps() == [("2024-01-02", d("-1")), ("2024-01-03", d("-3"))]


def test_eight_hours_each_cost_a_third_of_the_day() -> None:
    desk = Desk(SwapTerms(mode=SwapMode.POINTS, long=d("-1"), multipliers=CRYPTO_WEEK, periods_per_day=3))
    desk.at("2024-01-02 17:30:00")
    desk.buy()
    for wall in ("2024-01-03 01:00:00", "2024-01-03 09:00:00", "2024-01-03 17:00:00"):
        desk.roll(wall)
    assert [(a.period, a.due_us) for a in desk.accruals()] == [
        (1, us("2024-01-03 01:00:00")),
        (2, us("2024-01-03 09:00:00")),
        (3, us("2024-01-03 17:00:00")),
    ]
    assert desk.position().swap == d("-1")


# --- what a close posts -------------------------------------------------------------------------------------------------


def test_a_partial_close_posts_its_share_and_the_last_one_the_rest() -> None:
    desk = Desk(SwapTerms(mode=SwapMode.POINTS, long=d("-6.53")))
    position = desk.buy("0.03")
    desk.roll("2024-01-02 17:00:00")
    assert desk.position().swap == d("-0.1959")
    for volume in ("0.01", "0.01", "0.01"):
        desk.close(position, volume)
    assert desk.posted() == [d("-0.07"), d("-0.06"), d("-0.07")]
    assert [deal.swap for deal in desk.world.deals() if deal.entry is DealEntry.OUT] == desk.posted()
    assert desk.world.balance(1) == d("100000") + sum(
        (deal.profit + deal.swap for deal in desk.world.deals()), Decimal(0)
    )


def test_a_part_closed_before_the_rollover_pays_nothing_for_it_even_when_the_command_is_late() -> None:
    desk = Desk()
    position = desk.buy()
    desk.at("2024-01-02 16:59:59")
    desk.close(position, "0.40")
    desk.at("2024-01-02 17:00:01")
    desk.close(position, "0.20")
    desk.roll("2024-01-03 12:00:00")
    desk.close(position)
    assert desk.swaps() == [("2024-01-02", d("-3.90"))], "0.60 lots were held"
    assert desk.posted() == [d("-1.30"), d("-2.60")]


def test_equity_counts_what_has_accrued() -> None:
    desk = Desk()
    desk.buy()
    account = desk.world.state.accounts[1]
    before = equity_of(Work(desk.world.state, desk.world.config, desk.world.now_us), account)
    desk.roll("2024-01-02 17:00:00")
    after = equity_of(Work(desk.world.state, desk.world.config, desk.world.now_us), account)
    assert before is not None
    assert after == before - d("6.50")
    held = holdings_of(desk.world.state.positions.values())[1]["EURUSD"]
    assert held.swap == desk.world.state.holdings[1]["EURUSD"].swap == d("-6.50")


def test_a_providers_fill_closes_at_the_volume_that_was_held() -> None:
    """The close was asked for before 17:00; the provider answers after: the position was held over."""
    desk = Desk()
    opening = desk.world.place(2, "EURUSD", Side.BUY, "1.00")
    desk.world.fill(leg_of(opening), "1.10010")
    (position,) = desk.world.positions(2)
    desk.at("2024-01-02 16:59:59")
    closing = desk.close(position)
    desk.at("2024-01-02 17:00:01")
    desk.world.fill(leg_of(closing), "1.10000")
    assert desk.posted() == [d("-6.50")]
    assert desk.world.positions(2) == []


def test_an_addition_by_a_later_fill_pays_only_from_then_on() -> None:
    desk = Desk()
    opening = desk.world.place(2, "EURUSD", Side.BUY, "1.00")
    desk.at("2024-01-02 16:59:59")
    desk.world.fill(leg_of(opening), "1.10010", "40000")
    desk.at("2024-01-02 17:00:01")
    desk.world.fill(leg_of(opening), "1.10010", "60000")
    desk.roll("2024-01-02 18:00:00")
    assert desk.swaps() == [("2024-01-02", d("-2.60"))]
    assert desk.position().volume == d("1.00")


# --- a price that is missing --------------------------------------------------------------------------------------------


def test_a_swap_that_cannot_be_converted_waits_and_holds_nobody_up() -> None:
    terms = SwapTerms(mode=SwapMode.BASE, long=d("-5"))
    desk = Desk(terms)
    desk.buy()
    desk.world.price("GBPUSD", "1.30000", "1.30010")
    gbp = instrument("GBPUSD", swap=terms)
    desk.world.config.instruments["GBPUSD"] = gbp
    desk.world.state.use_config(desk.world.config)
    desk.world.place(1, "GBPUSD", Side.BUY, "1.00")
    desk.at("2024-01-02 17:00:00")
    del desk.world.state.quotes["EURUSD"]
    assert desk.roll() == 1
    assert [accrual.symbol for accrual in desk.accruals()] == ["GBPUSD"]
    assert desk.roll() == 1, "asked again, still waiting"
    desk.price()
    assert desk.roll() == 0
    assert [accrual.symbol for accrual in desk.accruals()] == ["GBPUSD", "EURUSD"]


def test_a_close_is_refused_while_its_swap_cannot_be_converted() -> None:
    desk = Desk(group_terms={"swap_free": SwapFreeTerms(fee_per_lot=d("5"), currency="CHF")})
    desk.world.price("USDCHF", "0.90000", "0.90010")
    position = desk.buy()
    desk.at("2024-01-02 17:00:00")
    del desk.world.state.quotes["USDCHF"]
    assert refusal_of(desk.close(position)) == "no_quotes"
    assert desk.accruals() == []
    desk.world.price("USDCHF", "0.90000", "0.90010")
    assert refusal_of(desk.close(position)) == ""
    assert desk.posted() == [d("-5.56")], "a debt is bought dear: 5 / 0.90000"


# --- swap-free, percentages, reopening ----------------------------------------------------------------------------------


def test_a_swap_free_account_pays_its_fee_after_the_free_nights_and_no_interest() -> None:
    desk = Desk(group_terms={"swap_free": SwapFreeTerms(free_nights=2, fee_per_lot=d("4"))})
    position = desk.sell("0.50")
    for day in (2, 3, 4, 5):
        desk.roll(f"2024-01-0{day} 17:00:00")
    assert [amount for _, amount in desk.swaps()] == [d("0"), d("0"), d("-2"), d("-2")]
    desk.close(position)
    assert desk.posted() == [d("-4.00")]


def test_a_percentage_of_the_present_value_looks_at_the_clients_price() -> None:
    terms = SwapTerms(mode=SwapMode.PERCENT_CURRENT, long=d("-3.6"), year_days=360)
    desk = Desk(terms)
    desk.buy()
    desk.roll("2024-01-02 17:00:00")
    assert desk.position().swap == d("-11"), "3.6 per cent a year of 100000 EUR at the bid of 1.10000"


@pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
def test_a_reopening_realises_the_day_and_renews_the_price(side: Side) -> None:
    desk = Desk(SwapTerms(mode=SwapMode.REOPEN_CLOSE, long=d("-5"), short=d("-5")))
    desk.world.place(1, "EURUSD", side, "1.00")
    desk.world.now_us = us("2024-01-02 17:00:00")
    desk.price("1.10100", "1.10110")
    desk.roll()
    position = desk.position()
    closing, opening = desk.world.deals()[-2:]
    day = d("90.00") if side is Side.BUY else d("-110.00")
    assert (closing.entry, closing.side, closing.profit) == (DealEntry.OUT, side.opposite, day)
    assert (opening.entry, opening.side, opening.profit) == (DealEntry.IN, side, d("0"))
    assert opening.price == position.open_price == closing.price + side.sign * d("0.00005"), "five points worse"
    assert {closing.order_id, opening.order_id} == {0}
    assert desk.world.transfers()[-1].reference == "rollover"
    assert desk.world.balance(1) == d("100000") + day
    assert (position.id, position.volume, position.swap) == (1, d("1.00"), d("0"))
    desk.close(position)
    assert desk.world.balance(1) == d("100000") + day - d("5.00"), "nothing but the night is left to pay"
    assert set(desk.world.ledger_sums().values()) == {Decimal(0)}


def test_a_shared_position_is_reopened_in_both_books_and_still_ends_flat_at_the_provider() -> None:
    desk = Desk(SwapTerms(mode=SwapMode.REOPEN_BID, long=d("-5"), short=d("0")))
    opening = desk.world.place(1, "EURUSD", Side.BUY, "3.00")
    desk.world.fill(leg_of(opening), "1.10010")
    desk.roll("2024-01-02 17:00:00")
    position = desk.position()
    assert 0 < position.volume_a < position.volume
    assert [deal.book.value for deal in desk.world.deals()[-4:]] == ["A", "A", "B", "B"]
    desk.close(position, "1.05")
    desk.world.fill(next(iter(desk.world.state.legs.values())), "1.10000")
    desk.close(position)
    desk.world.fill(next(iter(desk.world.state.legs.values())), "1.10000")
    assert desk.world.state.positions == {}
    assert set(desk.world.lp_net().values()) == {Decimal(0)}
    assert set(desk.world.ledger_sums().values()) == {Decimal(0)}


# --- any order of things ------------------------------------------------------------------------------------------------

HOUR = 3600
STEPS = st.lists(
    st.tuples(st.integers(1, 30), st.sampled_from(["roll", "close", "nothing", "memory"]), st.integers(1, 40)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, periods=st.sampled_from([1, 3]), start=st.sampled_from(["2024-01-02", "2024-03-08", "2024-11-01"]))
def test_no_interleaving_of_commands_closes_and_missed_days_changes_what_is_paid(
    steps: list[tuple[int, str, int]], periods: int, start: str
) -> None:
    """Against the same story in which the command comes at every single hour."""
    terms = SwapTerms(mode=SwapMode.POINTS, long=d("-6.537"), periods_per_day=periods)
    assert told(terms, steps, start, punctual=False) == told(terms, steps, start, punctual=True)


def told(terms: SwapTerms, steps: list[tuple[int, str, int]], start: str, *, punctual: bool) -> tuple[object, ...]:
    """(what closes posted, every charge, the balance) of one position through the story, closed at its end."""
    desk = Desk(terms)
    desk.at(f"{start} 12:00:00")
    position = desk.buy("0.50")
    for hours, what, hundredths in steps:
        for _ in range(hours):
            desk.world.now_us += HOUR * 1_000_000
            if punctual:
                desk.roll()
        desk.price()
        if what == "roll" and not punctual:
            desk.roll()
        if what == "memory" and not punctual:
            quotes = desk.world.state.quotes
            desk.world.state = reborn(desk.world.state)
            desk.world.state.quotes = quotes
        free = desk.world.state.positions[position.id].volume - d("0.01")
        if what == "close" and free > 0:
            desk.close(position, str(min(free, Decimal(hundredths) / 100)))
    desk.close(position)
    assert desk.world.state.positions == {}
    assert set(desk.world.ledger_sums().values()) == {Decimal(0)}
    charges = [(a.due_us, a.period, a.amount) for a in desk.accruals()]
    total = sum((amount for _, _, amount in charges), Decimal(0))
    assert abs(sum(desk.posted(), Decimal(0)) - total) <= d("0.005"), "all closings together round once"
    return desk.posted(), charges, desk.world.balance(1)
