"""Accounts that hold one position per symbol: adding, reducing, reversing, and what waits for its price meanwhile."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.core import Executed, execute
from engine.corrections import history_with
from engine.nets import Nets
from engine.state import Prior
from tests.support.builders import config as demo_config
from tests.support.builders import group, instrument, policy, rule
from tests.support.world import World, leg_of, order_of, refusal_of
from trading.accounts import ClientClass, Rights
from trading.commands import CancelAll, ChangeAccount, CorrectDeal, ReloadConfig, ReversePosition
from trading.configuration import Config, Markup
from trading.events import ChildOrderRouted
from trading.instruments import TradeMode
from trading.liquidity import LpOrder, ReportKind
from trading.margining.terms import Accounting, MarginPolicy
from trading.orders import Deal, DealEntry, OrderStatus, OrderType, Side
from trading.positions import Position
from trading.protection import ProtectionTerms
from trading.stopout import StopOutTerms

NETTING = MarginPolicy(accounting=Accounting.NETTING)


def netting_config(**overrides: Any) -> Config:
    """Groups `net` and `pro` see raw prices; `net` nets, `pro` hedges."""
    plain = {"commission_per_lot": Decimal("2.50"), "leverage_max": 200, "markup": Markup()}
    patient = StopOutTerms(margin_calls=(), level=None)
    groups = {
        "net": group("net", margin=NETTING, stop_out=patient, **plain),
        "pro": group("pro"),
        "retail": group("retail"),
    }
    return demo_config(**{"groups": groups, **overrides})


def new_world(config: Config | None = None) -> World:
    """Account 1 is dealt by the house up to a lot, account 2 at the market; both net."""
    world = World(config or netting_config())
    world.open_account(1, group="net", deposit="100000", leverage=100)
    world.open_account(2, group="net", deposit="100000", leverage=100, client_class=ClientClass.PROFESSIONAL)
    at(world, "1.10000", "1.10010")
    return world


@pytest.fixture
def world() -> World:
    return new_world()


@pytest.fixture
def house() -> World:
    return new_world(netting_config(policy=policy(rule("house"))))


def at(world: World, bid: str, ask: str) -> Executed | None:
    return world.price("EURUSD", bid, ask)


def trade(world: World, side: Side, volume: str, *, account: int = 1, **more: Any) -> Executed:
    return world.place(account, "EURUSD", side, volume, **more)


def limit(world: World, side: Side, price: str, volume: str, *, account: int = 1, **more: Any) -> Executed:
    return trade(world, side, volume, account=account, type=OrderType.LIMIT, price=Decimal(price), **more)


def held(world: World, account: int = 1) -> Position:
    (position,) = world.positions(account)
    return position


def standing(world: World, account: int = 1) -> list[tuple[Side, Decimal]]:
    return [(position.side, position.volume) for position in world.positions(account)]


def deals_of(done: Executed | None) -> list[Deal]:
    assert done is not None
    return [event.deal for event in done.events if hasattr(event, "deal")]


def legs_of(done: Executed) -> list[LpOrder]:
    return [event.leg for event in done.events if isinstance(event, ChildOrderRouted)]


def change(world: World, account: int, **terms: Any) -> Executed:
    name = world.request()
    return world.run(ChangeAccount(id=name, key=name, account=account, reply_to="test", **terms))


# --- adding, reducing, reversing ----------------------------------------------------------------------------------------


def test_the_published_example_adds_up_to_the_cent(house: World) -> None:
    at(house, "1.09990", "1.10000")
    trade(house, Side.BUY, "2")
    ticket = held(house).id
    at(house, "1.10290", "1.10300")
    trade(house, Side.BUY, "1")
    assert (held(house).id, held(house).volume, held(house).open_price) == (ticket, Decimal(3), Decimal("1.1010"))
    at(house, "1.10200", "1.10210")
    done = trade(house, Side.SELL, "5")
    assert [(d.entry, d.volume, d.profit, d.commission) for d in deals_of(done)] == [
        (DealEntry.OUT, Decimal(3), Decimal("300.00"), Decimal("7.50")),
        (DealEntry.INOUT, Decimal(2), Decimal(0), Decimal("5.00")),
    ]
    assert (held(house).side, held(house).volume, held(house).open_price) == (Side.SELL, Decimal(2), Decimal("1.1020"))
    assert held(house).id != ticket


def test_an_opposite_order_within_the_position_is_its_close(world: World) -> None:
    trade(world, Side.BUY, "0.50")
    ticket = held(world).id
    done = trade(world, Side.SELL, "0.20")
    order = order_of(done)
    assert (order.closes, order.position_id, order.status) == (True, ticket, OrderStatus.FILLED)
    assert [deal.entry for deal in deals_of(done)] == [DealEntry.OUT]
    assert (held(world).volume, held(world).locked) == (Decimal("0.30"), Decimal(0))
    trade(world, Side.SELL, "0.30")
    assert world.positions(1) == []
    assert world.state.margin_used(1) == 0


def test_hedging_accounts_keep_both_sides(world: World) -> None:
    world.open_account(3, group="pro")
    trade(world, Side.BUY, "0.50", account=3)
    trade(world, Side.SELL, "0.20", account=3)
    assert standing(world, 3) == [(Side.BUY, Decimal("0.50")), (Side.SELL, Decimal("0.20"))]
    assert world.state.nets.positions == {}


def test_symbols_and_accounts_are_netted_apart(world: World) -> None:
    world.price("GBPUSD", "1.30000", "1.30010")
    trade(world, Side.BUY, "0.50")
    world.place(1, "GBPUSD", Side.SELL, "0.20")
    world.fill(leg_of(trade(world, Side.SELL, "0.50", account=2)), "1.10000")
    assert [len(world.positions(account)) for account in (1, 2)] == [2, 1]


def test_a_close_needs_neither_minimum_nor_rights_nor_margin_but_its_step() -> None:
    wide = replace(instrument("EURUSD"), volume_min=Decimal("0.10"))
    world = new_world(netting_config(instruments={**demo_config().instruments, "EURUSD": wide}))
    trade(world, Side.BUY, "0.50")
    change(world, 1, rights=Rights.CLOSE_ONLY)
    assert refusal_of(trade(world, Side.SELL, "0.05")) == ""
    assert refusal_of(trade(world, Side.SELL, "0.055")) == "invalid_volume"
    assert refusal_of(trade(world, Side.SELL, "0.46")) == "close_only"  # 0.01 of it would open
    assert refusal_of(trade(world, Side.BUY, "0.10")) == "close_only"
    halted = {**world.config.instruments, "EURUSD": replace(wide, trade_mode=TradeMode.HALTED)}
    world.state.use_config(replace(world.config, instruments=halted))
    assert refusal_of(trade(world, Side.SELL, "0.10")) == "market_closed"


def test_reducing_is_never_refused_for_margin(house: World) -> None:
    trade(house, Side.BUY, "80")
    at(house, "1.08900", "1.08910")  # 88,000 held, 11,000 left
    assert refusal_of(trade(house, Side.BUY, "1")) == "insufficient_margin"
    assert refusal_of(trade(house, Side.SELL, "81")) == ""  # the old margin is free again: only one lot opens
    assert standing(house) == [(Side.SELL, Decimal(1))]


def test_a_reversal_that_the_equity_does_not_carry_is_refused_whole(house: World) -> None:
    trade(house, Side.BUY, "80")
    at(house, "1.08900", "1.08910")  # 11,000 left: ten lots would fit
    done = trade(house, Side.SELL, "100")
    assert refusal_of(done) == "insufficient_margin"
    assert deals_of(done) == []
    assert standing(house) == [(Side.BUY, Decimal(80))]


# --- protection ---------------------------------------------------------------------------------------------------------


def test_an_addition_replaces_the_protection_only_where_it_asks_for_some(world: World) -> None:
    trade(world, Side.BUY, "0.50", protection=ProtectionTerms(stop_loss=Decimal("1.09000")))
    trade(world, Side.BUY, "0.50")
    assert held(world).protection.stop_loss == Decimal("1.09000")
    at(world, "1.10200", "1.10210")
    trade(world, Side.BUY, "0.50", protection=ProtectionTerms(take_profit_points=100))
    # average of 1.10010, 1.10010 and 1.10210 is 1.100766…: 100 points above it, rounded away
    assert (held(world).protection.stop_loss, held(world).protection.take_profit) == (None, Decimal("1.10177"))


def test_reducing_leaves_the_protection_and_reversing_ends_it(world: World) -> None:
    asked = ProtectionTerms(stop_loss_points=200)
    trade(world, Side.BUY, "0.50", protection=asked)
    trade(world, Side.SELL, "0.20", protection=ProtectionTerms(take_profit_points=50))
    assert held(world).protection.stop_loss == Decimal("1.09810")
    assert held(world).protection.take_profit is None
    trade(world, Side.SELL, "0.50")
    assert held(world).protection.stop_loss is None
    trade(world, Side.BUY, "0.50", protection=asked)
    assert (held(world).side, held(world).protection.stop_loss) == (Side.BUY, Decimal("1.09810"))


def test_a_stop_loss_closes_what_was_added_too(world: World) -> None:
    trade(world, Side.BUY, "0.50", protection=ProtectionTerms(stop_loss=Decimal("1.09900")))
    trade(world, Side.BUY, "0.30")
    done = at(world, "1.09890", "1.09900")
    assert [(deal.entry, deal.volume) for deal in deals_of(done)] == [(DealEntry.OUT, Decimal("0.80"))]
    assert world.positions(1) == []


# --- at a provider ------------------------------------------------------------------------------------------------------


def test_an_addition_goes_to_the_provider_that_holds_the_position(world: World) -> None:
    first = leg_of(trade(world, Side.BUY, "1.00", account=2))
    world.fill(first, "1.10010")
    other = "PRIMEXM" if first.lp == "YOFX1" else "YOFX1"
    world.price("EURUSD", "1.10000", "1.10010", lps=(other,))
    assert refusal_of(trade(world, Side.BUY, "1.00", account=2)) == "no_connection"
    world.price("EURUSD", "1.10000", "1.10010", lps=(first.lp, other))
    second = leg_of(trade(world, Side.BUY, "1.00", account=2))
    assert (second.lp, second.position_id) == (first.lp, 0)
    world.fill(second, "1.10030")
    assert (held(world, 2).volume, held(world, 2).volume_a) == (Decimal("2.00"), Decimal("2.00"))
    assert held(world, 2).open_price == Decimal("1.10020")


def test_a_reduction_follows_its_opening_and_locks_what_is_on_its_way(world: World) -> None:
    world.fill(leg_of(trade(world, Side.BUY, "1.00", account=2)), "1.10010")
    leg = leg_of(trade(world, Side.SELL, "0.40", account=2))
    assert (leg.position_id, held(world, 2).locked) == (held(world, 2).id, Decimal("0.40"))
    world.fill(leg, "1.10000", "10000")
    done = world.report(leg, ReportKind.CANCELED)
    assert (order_of(done).status, order_of(done).filled_volume) == (OrderStatus.CANCELED, Decimal("0.10"))
    assert (held(world, 2).volume, held(world, 2).locked) == (Decimal("0.90"), Decimal(0))


def test_while_an_order_is_being_dealt_the_next_one_is_asked_to_wait(world: World) -> None:
    """What the first leaves is not known yet: two openings at once could end as two positions."""
    leg = leg_of(trade(world, Side.BUY, "1.00", account=2))
    assert refusal_of(trade(world, Side.SELL, "1.00", account=2)) == "order_locked"
    assert refusal_of(trade(world, Side.BUY, "1.00", account=2)) == "order_locked"
    world.price("GBPUSD", "1.30000", "1.30010")
    assert leg_of(world.place(2, "GBPUSD", Side.SELL, "1.00")).symbol == "GBPUSD"
    world.fill(leg, "1.10010")
    assert refusal_of(trade(world, Side.BUY, "1.00", account=2)) == ""


def test_closing_is_possible_while_an_addition_is_being_dealt(world: World) -> None:
    world.fill(leg_of(trade(world, Side.BUY, "1.00", account=2)), "1.10010")
    addition = leg_of(trade(world, Side.BUY, "0.50", account=2))
    close = leg_of(world.close(2, held(world, 2).id))
    world.fill(close, "1.10000")
    world.fill(addition, "1.10010")
    assert standing(world, 2) == [(Side.BUY, Decimal("0.50"))]
    assert world.lp_net()[addition.lp, "EURUSD"] == Decimal("0.50")


def test_a_reversal_at_a_provider_closes_then_opens(world: World) -> None:
    world.fill(leg_of(trade(world, Side.BUY, "1.00", account=2)), "1.10010")
    close = leg_of(trade(world, Side.SELL, "1.50", account=2))
    assert (close.volume, close.position_id) == (Decimal("1.00"), held(world, 2).id)
    opening = leg_of(world.fill(close, "1.10000"))
    assert (opening.volume, opening.position_id) == (Decimal("0.50"), 0)
    done = world.fill(opening, "1.10000")
    assert (order_of(done).status, order_of(done).filled_volume) == (OrderStatus.FILLED, Decimal("1.50"))
    assert standing(world, 2) == [(Side.SELL, Decimal("0.50"))]
    assert world.state.nets.dealing == {}


def test_a_reverse_command_waits_for_what_is_being_dealt(world: World) -> None:
    world.fill(leg_of(trade(world, Side.BUY, "1.00", account=2)), "1.10010")
    ticket = held(world, 2).id
    addition = leg_of(trade(world, Side.BUY, "0.50", account=2))

    def reverse() -> Executed:
        name = world.request()
        return world.run(ReversePosition(id=name, key=name, account=2, position_id=ticket, reply_to="test"))

    assert refusal_of(reverse()) == "order_locked"
    world.fill(addition, "1.10010")
    close = leg_of(reverse())
    world.fill(leg_of(world.fill(close, "1.10000")), "1.10000")
    assert standing(world, 2) == [(Side.SELL, Decimal("1.50"))]


def test_a_closing_is_not_undone_while_its_reversal_is_being_dealt(world: World) -> None:
    """The account would hold both sides: what was closed, and what the provider deals next."""
    trade(world, Side.BUY, "0.50")
    opening = leg_of(trade(world, Side.SELL, "2.50"))
    (closing,) = [deal for deal in world.deals() if deal.entry is DealEntry.OUT]

    def undo() -> Executed:
        name = world.request()
        people: dict[str, Any] = {"actor": "staff:1", "approved_by": "staff:2", "reason": "slip", "reply_to": "test"}
        command = CorrectDeal(id=name, key=name, deal_id=closing.id, **people)
        prior = history_with(Prior(), closing.id, [event for done in world.executed for event in done.events])
        return execute(world.state, command, world.now_us, prior)

    assert refusal_of(undo()) == "order_locked"
    second = leg_of(world.report(opening, ReportKind.REJECTED))
    world.report(second, ReportKind.REJECTED)
    assert refusal_of(undo()) == ""
    assert standing(world) == [(Side.BUY, Decimal("0.50"))]


# --- orders that wait ---------------------------------------------------------------------------------------------------


def test_a_limit_decides_when_it_is_dealt_what_it_closes(world: World) -> None:
    order = order_of(limit(world, Side.SELL, "1.10500", "0.50"))
    assert (order.status, order.closes, order.netted) == (OrderStatus.NEW, False, Decimal(0))
    trade(world, Side.BUY, "0.20")
    done = at(world, "1.10500", "1.10510")
    assert [(deal.entry, deal.volume, deal.price) for deal in deals_of(done)] == [
        (DealEntry.OUT, Decimal("0.20"), Decimal("1.10500")),
        (DealEntry.INOUT, Decimal("0.30"), Decimal("1.10500")),
    ]
    assert standing(world) == [(Side.SELL, Decimal("0.30"))]
    assert world.reserved() == {}


def test_a_stop_of_the_same_side_adds(world: World) -> None:
    trade(world, Side.BUY, "0.20", type=OrderType.STOP, stop_price=Decimal("1.10500"))
    trade(world, Side.BUY, "0.20")
    at(world, "1.10490", "1.10500")
    assert (held(world).volume, held(world).open_price) == (Decimal("0.40"), Decimal("1.10255"))


def test_a_limit_that_its_provider_did_not_take_waits_again_and_locks_nothing(world: World) -> None:
    world.fill(leg_of(trade(world, Side.BUY, "1.00", account=2)), "1.10010")
    limit(world, Side.SELL, "1.10500", "1.00", account=2)
    done = at(world, "1.10500", "1.10510")
    assert done is not None
    leg = leg_of(done)
    assert (leg.position_id, held(world, 2).locked) == (held(world, 2).id, Decimal("1.00"))
    world.fill(leg, "1.10500", "40000")
    order = order_of(world.report(leg, ReportKind.CANCELED))
    assert (order.is_resting, order.closes, order.filled_volume) == (True, False, Decimal("0.40"))
    assert held(world, 2).locked == 0
    done = at(world, "1.10510", "1.10520")
    assert done is not None
    world.fill(leg_of(done), "1.10510")
    assert world.positions(2) == []
    assert world.state.orders == {}


def test_the_opening_part_of_a_limit_waits_again_when_the_price_has_gone(world: World) -> None:
    world.fill(leg_of(trade(world, Side.BUY, "1.00", account=2)), "1.10010")
    limit(world, Side.SELL, "1.10500", "1.50", account=2)
    done = at(world, "1.10500", "1.10510")
    assert done is not None
    at(world, "1.10400", "1.10410")
    order = order_of(world.fill(leg_of(done), "1.10500"))
    assert (order.is_resting, order.open_volume, order.netted) == (True, Decimal("0.50"), Decimal(0))
    assert world.positions(2) == []
    done = at(world, "1.10500", "1.10510")
    assert done is not None
    world.fill(leg_of(done), "1.10500")
    assert standing(world, 2) == [(Side.SELL, Decimal("0.50"))]
    assert world.deals()[-1].entry is DealEntry.IN


def test_what_triggers_while_another_order_is_being_dealt_waits_for_the_next_price(world: World) -> None:
    limit(world, Side.SELL, "1.10500", "0.50", account=2)
    leg = leg_of(trade(world, Side.BUY, "1.00", account=2))
    done = at(world, "1.10500", "1.10510")
    assert done is not None
    assert legs_of(done) == []
    world.fill(leg, "1.10010")
    done = at(world, "1.10501", "1.10511")
    assert done is not None
    world.fill(leg_of(done), "1.10501")
    assert standing(world, 2) == [(Side.BUY, Decimal("0.50"))]


# --- accounting is not changed under open positions ---------------------------------------------------------------------


def test_an_account_with_positions_cannot_go_to_a_group_of_other_accounting(world: World) -> None:
    trade(world, Side.BUY, "0.10")
    done = change(world, 1, group="pro")
    assert refusal_of(done) == "invalid_request"
    assert world.state.accounts[1].group == "net"
    trade(world, Side.SELL, "0.10")
    assert refusal_of(change(world, 1, group="pro")) == ""
    trade(world, Side.BUY, "0.10")
    assert refusal_of(change(world, 1, group="retail")) == ""  # both hedge


def test_an_account_whose_order_is_being_dealt_cannot_either(world: World) -> None:
    leg = leg_of(trade(world, Side.BUY, "1.00", account=2))
    assert refusal_of(change(world, 2, group="pro")) == "invalid_request"
    world.report(leg, ReportKind.NOT_SENT)
    world.report(leg_of(world.executed[-1]), ReportKind.NOT_SENT)
    assert refusal_of(change(world, 2, group="pro")) == ""


def test_a_configuration_cannot_change_the_accounting_of_what_is_held(world: World) -> None:
    trade(world, Side.BUY, "0.10")
    hedging = replace(world.config.groups["net"], margin=MarginPolicy())
    changed = replace(world.config, version=2, groups={**world.config.groups, "net": hedging})

    def reload() -> Executed:
        name = world.request()
        return world.run(ReloadConfig(id=name, key=name, version=2, config=changed, reply_to="test"))

    done = reload()
    assert (refusal_of(done), done.events) == ("invalid_request", [])
    assert world.state.config is not None
    assert world.state.config.version == 1
    trade(world, Side.SELL, "0.10")
    assert refusal_of(reload()) == ""
    assert world.state.nets.groups == frozenset()


# --- whatever is traded -------------------------------------------------------------------------------------------------


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Side)), st.integers(1, 30), st.integers(109_000, 111_000)),
        min_size=1,
        max_size=12,
    )
)
def test_what_is_held_is_the_sum_of_what_was_traded(trades: list[tuple[Side, int, int]]) -> None:
    """One position at most; and closing it leaves what buying and selling those lots at those prices leaves."""
    world = new_world(netting_config(policy=policy(rule("house"))))
    net, spent = Decimal(0), Decimal(0)
    for side, hundredths, points in trades:
        raw, volume = Decimal(points) / 100_000, Decimal(hundredths) / 100
        at(world, f"{raw:.5f}", f"{raw:.5f}")
        assert refusal_of(trade(world, side, f"{volume:.2f}")) == ""
        net += side.sign * volume
        spent += side.sign * volume * points  # a point of a lot is one dollar
        assert sum(p.side.sign * p.volume for p in world.positions(1)) == net
        assert len(world.positions(1)) == (1 if net else 0)
    at(world, "1.10000", "1.10000")
    for position in world.positions(1):
        world.close(1, position.id)
    booked = sum((deal.profit for deal in world.deals()), Decimal(0))
    # averages of uneven lots leave at most half a cent per closing deal
    assert abs(booked - (net * 110_000 - spent)) <= Decimal("0.01") * len(world.deals())
    assert world.state.margin_used(1) == 0


def test_the_index_is_what_a_new_one_would_be(world: World) -> None:
    trade(world, Side.BUY, "0.10")
    leg_of(trade(world, Side.BUY, "1.00", account=2))
    limit(world, Side.SELL, "1.20000", "0.10")
    fresh = Nets()
    fresh.renew(world.state)
    assert (fresh.positions, fresh.dealing) == (world.state.nets.positions, world.state.nets.dealing)
    assert set(fresh.positions) == {(1, "EURUSD")}
    assert set(fresh.dealing) == {(2, "EURUSD")}
    name = world.request()
    world.run(CancelAll(id=name, key=name, account=1))
