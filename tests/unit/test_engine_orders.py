"""Orders that wait for their price: placed, triggered, changed, taken back, expired. Told as a dealer would."""

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from engine.core import Executed
from tests.support.builders import condition, policy, rule
from tests.support.builders import config as demo_config
from tests.support.world import World, leg_of, order_of, refusal_of
from trading.accounts import ClientClass
from trading.calendar import SessionTerms, weekly
from trading.commands import CancelAll, CancelOrder, ExpireOrders, ModifyOrder
from trading.liquidity import ReportKind
from trading.orders import OrderStatus, OrderType, Side, TimeInForce
from trading.protection import ProtectionTerms


def price(text: str) -> Decimal:
    return Decimal(text)


@pytest.fixture
def world() -> World:
    """Group `pro` sees the raw prices; account 1 is dealt by the house, account 2 goes to the market."""
    world = World()
    world.open_account(1, group="pro", deposit="10000", leverage=100)
    world.open_account(2, group="pro", deposit="100000", leverage=100, client_class=ClientClass.PROFESSIONAL)
    world.price("EURUSD", "1.10000", "1.10010")
    return world


def limit(world: World, side: Side, at: str, *, account: int = 1, volume: str = "0.10", **more: Any) -> Executed:
    return world.place(account, "EURUSD", side, volume, type=OrderType.LIMIT, price=price(at), **more)


def stop(world: World, side: Side, at: str, *, account: int = 1, **more: Any) -> Executed:
    return world.place(account, "EURUSD", side, "0.10", type=OrderType.STOP, stop_price=price(at), **more)


def modify(world: World, order_id: int, **terms: Any) -> Executed:
    name = world.request()
    return world.run(ModifyOrder(id=name, key=name, account=1, order_id=order_id, reply_to="test", **terms))


def cancel(world: World, order_id: int, account: int = 1) -> Executed:
    name = world.request()
    return world.run(CancelOrder(id=name, key=name, account=account, order_id=order_id, reply_to="test"))


def expire(world: World) -> Executed:
    name = world.request()
    return world.run(ExpireOrders(id=name, key=name, reply_to="test"))


# --- which price triggers which order -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "at", "quiet", "firing", "dealt_at"),
    [
        (Side.BUY, "1.09950", ("1.09941", "1.09951"), ("1.09940", "1.09950"), "1.09950"),
        (Side.BUY, "1.09950", ("1.09941", "1.09951"), ("1.09900", "1.09910"), "1.09910"),  # a gap: the better price
        (Side.SELL, "1.10050", ("1.10049", "1.10059"), ("1.10050", "1.10060"), "1.10050"),
        (Side.SELL, "1.10050", ("1.10049", "1.10059"), ("1.10080", "1.10090"), "1.10080"),
    ],
)
def test_a_limit_waits_for_its_price_and_never_deals_worse(
    world: World, side: Side, at: str, quiet: tuple[str, str], firing: tuple[str, str], dealt_at: str
) -> None:
    order = order_of(limit(world, side, at))
    assert order.status is OrderStatus.NEW
    assert world.price("EURUSD", *quiet) is None
    done = world.price("EURUSD", *firing)
    assert done is not None
    assert order_of(done).status is OrderStatus.FILLED
    assert world.deals()[-1].price == price(dealt_at)


@pytest.mark.parametrize(
    ("side", "at", "quiet", "firing", "dealt_at"),
    [
        (Side.BUY, "1.10050", ("1.10039", "1.10049"), ("1.10040", "1.10050"), "1.10050"),
        (Side.BUY, "1.10050", ("1.10039", "1.10049"), ("1.10100", "1.10110"), "1.10110"),  # a gap: the first price
        (Side.SELL, "1.09950", ("1.09951", "1.09961"), ("1.09950", "1.09960"), "1.09950"),
        (Side.SELL, "1.09950", ("1.09951", "1.09961"), ("1.09900", "1.09910"), "1.09900"),
    ],
)
def test_a_stop_becomes_a_market_order_at_its_price(
    world: World, side: Side, at: str, quiet: tuple[str, str], firing: tuple[str, str], dealt_at: str
) -> None:
    assert order_of(stop(world, side, at)).status is OrderStatus.NEW
    assert world.price("EURUSD", *quiet) is None
    done = world.price("EURUSD", *firing)
    assert done is not None
    assert order_of(done).status is OrderStatus.FILLED
    assert world.deals()[-1].price == price(dealt_at)


def test_a_stop_limit_waits_twice(world: World) -> None:
    done = world.place(
        1, "EURUSD", Side.BUY, "0.10", type=OrderType.STOP_LIMIT, stop_price=price("1.10050"), price=price("1.10040")
    )
    assert order_of(done).status is OrderStatus.NEW
    done_at_stop = world.price("EURUSD", "1.10045", "1.10055")
    assert done_at_stop is not None
    assert order_of(done_at_stop).is_triggered
    assert order_of(done_at_stop).status is OrderStatus.NEW
    done_at_limit = world.price("EURUSD", "1.10030", "1.10040")
    assert done_at_limit is not None
    assert order_of(done_at_limit).status is OrderStatus.FILLED


def test_groups_are_triggered_by_the_price_that_they_see() -> None:
    world = World()
    world.open_account(1, group="retail")  # 2 points of markup
    world.open_account(2, group="pro")
    world.price("EURUSD", "1.10000", "1.10010")
    limit(world, Side.BUY, "1.09950", account=1)
    limit(world, Side.BUY, "1.09950", account=2)
    done = world.price("EURUSD", "1.09940", "1.09950")
    assert done is not None
    assert [deal.account for deal in world.deals()] == [2]
    world.price("EURUSD", "1.09938", "1.09948")
    assert [deal.account for deal in world.deals()] == [2, 1]


def test_a_marketable_limit_is_dealt_at_once_at_the_better_price(world: World) -> None:
    assert order_of(limit(world, Side.BUY, "1.10500")).status is OrderStatus.FILLED
    assert world.deals()[-1].price == price("1.10010")


@pytest.mark.parametrize("life", [TimeInForce.IOC, TimeInForce.FOK])
def test_an_immediate_limit_that_finds_no_price_is_cancelled(world: World, life: TimeInForce) -> None:
    order = order_of(limit(world, Side.BUY, "1.09000", time_in_force=life))
    assert order.status is OrderStatus.CANCELED
    assert world.state.orders == {}
    assert world.state.margin_used(1) == 0


# --- margin -------------------------------------------------------------------------------------------------------------


def test_a_resting_order_holds_its_margin_until_it_is_taken_back(world: World) -> None:
    order = order_of(limit(world, Side.BUY, "1.09950"))
    assert world.state.margin_used(1) == Decimal("109.95")
    cancel(world, order.id)
    assert world.state.margin_used(1) == 0


def test_too_little_margin_refuses_a_resting_order_when_it_is_placed(world: World) -> None:
    assert refusal_of(limit(world, Side.BUY, "1.09950", volume="9.99")) == "insufficient_margin"


def test_what_an_order_holds_is_not_counted_twice_when_its_turn_comes() -> None:
    world = World()
    world.open_account(1, group="pro", deposit="1200", leverage=100)
    world.price("EURUSD", "1.10000", "1.10010")
    limit(world, Side.BUY, "1.09950", volume="0.99")
    assert world.state.margin_used(1) == Decimal("1088.51")
    done = world.price("EURUSD", "1.09940", "1.09950")
    assert done is not None
    assert order_of(done).status is OrderStatus.FILLED


def test_a_loss_elsewhere_can_cost_a_resting_order_its_turn() -> None:
    world = World()
    world.open_account(1, group="pro", deposit="1000", leverage=100)
    world.price("EURUSD", "1.10000", "1.10010")
    world.price("GBPUSD", "1.30000", "1.30010")
    world.place(1, "GBPUSD", Side.BUY, "0.30")
    limit(world, Side.BUY, "1.09950", volume="0.50")
    world.price("GBPUSD", "1.28500", "1.28510")
    done = world.price("EURUSD", "1.09940", "1.09950")
    assert done is not None
    assert (order_of(done).status, order_of(done).refusal) == (OrderStatus.REJECTED, "insufficient_margin")
    assert world.state.margin_used(1) == Decimal("390.03"), "only the position is charged"


# --- nonsense -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"type": OrderType.LIMIT}, "invalid_price"),
        ({"type": OrderType.LIMIT, "price": price("0")}, "invalid_price"),
        ({"type": OrderType.LIMIT, "price": price("-1")}, "invalid_price"),
        ({"type": OrderType.LIMIT, "price": price("1.123456")}, "invalid_price"),
        ({"type": OrderType.LIMIT, "price": price("NaN")}, "invalid_price"),
        ({"type": OrderType.LIMIT, "price": price("1.05"), "stop_price": price("1.05")}, "invalid_price"),
        ({"type": OrderType.STOP}, "invalid_price"),
        ({"type": OrderType.STOP, "stop_price": price("1.05")}, "invalid_price"),  # a buy stop below the market
        ({"type": OrderType.STOP, "stop_price": price("1.15"), "price": price("1.15")}, "invalid_price"),
        ({"type": OrderType.STOP, "stop_price": price("1.15"), "time_in_force": TimeInForce.IOC}, "invalid_fill"),
        ({"time_in_force": TimeInForce.GTC}, "invalid_fill"),
        ({"price": price("1.10010")}, "invalid_price"),
        ({"max_slippage": 5}, "invalid_request"),
        ({"price": price("1.10005"), "max_slippage": 4}, "price_changed"),
        ({"price": price("1.10015"), "max_slippage": 4}, "price_changed"),  # also when it moved in the client's favour
        ({"type": OrderType.LIMIT, "price": price("1.05"), "expires_us": 5}, "invalid_expiration"),
        ({"type": OrderType.LIMIT, "price": price("1.05"), "time_in_force": TimeInForce.GTD}, "invalid_expiration"),
        (
            {"type": OrderType.LIMIT, "price": price("1.05"), "time_in_force": TimeInForce.GTD, "expires_us": 5},
            "invalid_expiration",
        ),
        ({"type": OrderType.LIMIT, "price": price("10000000000000")}, "invalid_price"),
        ({"price": price("1.1"), "max_slippage": 10**12}, "invalid_request"),
        (
            {"type": OrderType.LIMIT, "price": price("1.05"), "time_in_force": TimeInForce.GTD, "expires_us": 10**18},
            "invalid_expiration",
        ),
        ({"type": OrderType.LIMIT, "price": price("1.05"), "expires_us": -(10**18)}, "invalid_expiration"),
        ({"protection": ProtectionTerms(take_profit=price("100000000000000000"))}, "invalid_stops"),
        ({"protection": ProtectionTerms(stop_loss_points=10**12)}, "invalid_stops"),
        ({"protection": ProtectionTerms(stop_loss=price("-5"))}, "invalid_stops"),
        ({"protection": ProtectionTerms(stop_loss=price("1.10005"))}, "invalid_stops"),
        ({"protection": ProtectionTerms(take_profit=price("1.09990"))}, "invalid_stops"),
        ({"protection": ProtectionTerms(stop_loss=price("1.09"), stop_loss_points=5)}, "invalid_stops"),
        ({"protection": ProtectionTerms(stop_loss=price("1.0900001"))}, "invalid_stops"),
        ({"protection": ProtectionTerms(stop_loss_points=-5)}, "invalid_stops"),
    ],
)
def test_instructions_that_make_no_sense_are_refused_by_name(world: World, terms: dict[str, Any], code: str) -> None:
    done = world.place(1, "EURUSD", Side.BUY, "0.10", **terms)
    assert refusal_of(done) == code
    kept = order_of(done)
    assert 0 <= kept.expires_us < 10**16
    assert 0 <= (kept.price or 0) < 10**12
    assert 0 <= (kept.protection.take_profit or 0) < 10**12
    assert kept.protection.stop_loss_points < 10**9
    assert world.state.orders == {}
    assert world.positions(1) == []


@pytest.mark.parametrize("seen", ["1.10006", "1.10010", "1.10014"])
def test_slippage_within_the_limit_is_dealt_at_the_markets_price_either_way(world: World, seen: str) -> None:
    order = order_of(world.place(1, "EURUSD", Side.BUY, "0.10", price=price(seen), max_slippage=4))
    assert order.status is OrderStatus.FILLED
    assert world.deals()[-1].price == price("1.10010")


# --- changing, taking back, expiring ------------------------------------------------------------------------------------


def test_a_changed_price_is_what_triggers(world: World) -> None:
    order = order_of(limit(world, Side.BUY, "1.09950"))
    assert refusal_of(modify(world, order.id, price=price("1.09900"))) == ""
    assert world.price("EURUSD", "1.09940", "1.09950") is None
    assert world.price("EURUSD", "1.09890", "1.09900") is not None


def test_a_change_to_a_dealable_price_deals(world: World) -> None:
    order = order_of(limit(world, Side.BUY, "1.09950"))
    done = modify(world, order.id, price=price("1.10010"))
    assert order_of(done).status is OrderStatus.FILLED


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({}, "no_changes"),
        ({"price": price("1.09950")}, "no_changes"),
        ({"stop_price": price("1.2")}, "invalid_price"),
        ({"price": price("-1")}, "invalid_price"),
        ({"volume": price("0.005")}, "invalid_volume"),
        ({"volume": price("9.99")}, "insufficient_margin"),
        ({"expires_us": 1}, "invalid_expiration"),
        ({"protection": ProtectionTerms(stop_loss=price("1.2"))}, "invalid_stops"),
    ],
)
def test_changes_that_make_no_sense_leave_the_order_as_it_was(world: World, terms: dict[str, Any], code: str) -> None:
    order = order_of(limit(world, Side.BUY, "1.09950"))
    assert refusal_of(modify(world, order.id, **terms)) == code
    assert world.state.orders[order.id] == order


def test_nobody_touches_somebody_elses_order(world: World) -> None:
    order = order_of(limit(world, Side.BUY, "1.09950", account=2))
    assert refusal_of(modify(world, order.id, price=price("1.09900"))) == "order_not_found"
    assert refusal_of(cancel(world, order.id)) == "order_not_found"


def test_a_cancelled_order_triggers_nothing(world: World) -> None:
    order = order_of(limit(world, Side.BUY, "1.09950"))
    assert order_of(cancel(world, order.id)).status is OrderStatus.CANCELED
    assert refusal_of(cancel(world, order.id)) == "order_not_found"
    assert world.price("EURUSD", "1.09000", "1.09010") is None


def test_all_orders_of_a_symbol_are_taken_back(world: World) -> None:
    world.price("GBPUSD", "1.30000", "1.30010")
    limit(world, Side.BUY, "1.09950")
    limit(world, Side.BUY, "1.09940")
    world.place(1, "GBPUSD", Side.BUY, "0.10", type=OrderType.LIMIT, price=price("1.29000"))
    done = world.run(CancelAll(id="all", key="all", account=1, symbol="EURUSD", reply_to="test"))
    assert done.answers[0][1].reference == 2
    assert [order.symbol for order in world.state.orders.values()] == ["GBPUSD"]


def test_an_order_ends_at_its_time_and_not_before(world: World) -> None:
    until = world.now_us + 60_000_000
    order = order_of(limit(world, Side.BUY, "1.09950", time_in_force=TimeInForce.GTD, expires_us=until))
    world.wait(59.9)
    assert expire(world).answers[0][1].reference == 0
    world.wait(0.1)
    assert world.price("EURUSD", "1.09940", "1.09950") is not None
    assert world.state.orders[order.id].is_resting, "a price does not deal what has run out"
    done = expire(world)
    assert order_of(done).status is OrderStatus.EXPIRED
    assert world.state.orders == {}
    assert expire(world).events == []


def test_a_repeated_order_is_placed_once(world: World) -> None:
    limit(world, Side.BUY, "1.09950", key="mine")
    again = limit(world, Side.BUY, "1.0995", key="mine")
    assert again.answers[0][1].replayed
    assert refusal_of(limit(world, Side.BUY, "1.09940", key="mine")) == "client_order_id_reused"
    assert len(world.state.orders) == 1


# --- at a provider ------------------------------------------------------------------------------------------------------


def test_a_limit_goes_to_its_provider_with_the_limit_less_the_markup() -> None:
    world = World()
    world.open_account(1, group="retail", deposit="100000", client_class=ClientClass.PROFESSIONAL)
    world.price("EURUSD", "1.10000", "1.10010")
    limit(world, Side.BUY, "1.09950")
    done = world.price("EURUSD", "1.09938", "1.09948")
    assert done is not None
    leg = leg_of(done)
    assert leg.limit_price == price("1.09948")
    world.fill(leg, "1.09945")
    assert world.deals()[-1].price == price("1.09947")


def test_a_limit_that_its_provider_would_not_take_waits_again(world: World) -> None:
    limit(world, Side.BUY, "1.09950", account=2)
    first = world.price("EURUSD", "1.09940", "1.09950")
    assert first is not None
    back = order_of(world.report(leg_of(first), ReportKind.CANCELED))
    assert back.status is OrderStatus.NEW
    second = world.price("EURUSD", "1.09935", "1.09945")
    assert second is not None
    world.fill(leg_of(second), "1.09945")
    assert world.positions(2)[0].volume == Decimal("0.10")
    assert world.state.orders == {}


def test_the_rest_of_a_partly_filled_limit_stays_at_its_provider(world: World) -> None:
    limit(world, Side.BUY, "1.09950", account=2, volume="0.50")
    first = world.price("EURUSD", "1.09940", "1.09950")
    assert first is not None
    leg = leg_of(first)
    world.fill(leg, "1.09950", "20000")
    order = order_of(world.report(leg, ReportKind.CANCELED))
    assert (order.status, order.is_resting) == (OrderStatus.PARTIALLY_FILLED, True)
    other = "PRIMEXM" if leg.lp == "YOFX1" else "YOFX1"
    assert world.price("EURUSD", "1.09930", "1.09940", lps=(other,)) is not None
    assert world.state.legs == {}, "the position stands at one provider"
    again = world.price("EURUSD", "1.09930", "1.09940")
    assert again is not None
    assert (leg_of(again).lp, leg_of(again).volume) == (leg.lp, Decimal("0.30"))
    world.fill(leg_of(again), "1.09940")
    (position,) = world.positions(2)
    assert (position.volume, position.volume_a) == (Decimal("0.50"), Decimal("0.50"))


def test_an_order_at_its_provider_cannot_be_changed_or_taken_back(world: World) -> None:
    order = order_of(limit(world, Side.BUY, "1.09950", account=2))
    assert world.price("EURUSD", "1.09940", "1.09950") is not None
    assert refusal_of(cancel(world, order.id, account=2)) == "order_locked"


def test_fill_or_kill_asks_its_provider_for_all_or_nothing(world: World) -> None:
    leg = leg_of(limit(world, Side.BUY, "1.10010", account=2, time_in_force=TimeInForce.FOK))
    assert leg.all_or_none
    other = leg_of(world.report(leg, ReportKind.CANCELED))
    assert other.all_or_none
    assert order_of(world.report(other, ReportKind.CANCELED)).status is OrderStatus.REJECTED


# --- hours --------------------------------------------------------------------------------------------------------------

MONDAY_TEN = 1_700_474_400_000_000
"""20 November 2023, 10:00 UTC."""
HOUR = 3_600_000_000


@pytest.fixture
def weekday_world() -> World:
    """EURUSD trades Monday to Friday, 9:00 to 18:00 UTC; it is Monday, 10:00."""
    config = demo_config()
    hours = SessionTerms(trade=weekly((1, 2, 3, 4, 5), 9 * 3600, 18 * 3600))
    eurusd = replace(config.instruments["EURUSD"], sessions=hours)
    world = World(replace(config, instruments={**config.instruments, "EURUSD": eurusd}))
    world.now_us = MONDAY_TEN
    world.open_account(1, group="pro", leverage=100)
    world.price("EURUSD", "1.10000", "1.10010")
    return world


def test_outside_its_hours_a_symbol_is_neither_dealt_nor_triggered(weekday_world: World) -> None:
    world = weekday_world
    limit(world, Side.BUY, "1.09950")
    world.place(1, "EURUSD", Side.SELL, "0.10")
    world.now_us = MONDAY_TEN + 9 * HOUR
    world.price("EURUSD", "1.09940", "1.09950")
    assert len(world.deals()) == 1
    assert refusal_of(world.place(1, "EURUSD", Side.BUY, "0.10")) == "market_closed"
    assert refusal_of(world.close(1, world.positions(1)[0].id)) == "market_closed"
    world.now_us = MONDAY_TEN + 23 * HOUR
    world.price("EURUSD", "1.09940", "1.09950")
    assert len(world.deals()) == 2


def test_a_day_order_ends_with_the_session(weekday_world: World) -> None:
    world = weekday_world
    order = order_of(limit(world, Side.BUY, "1.09950", time_in_force=TimeInForce.DAY))
    assert order.expires_us == MONDAY_TEN + 8 * HOUR
    world.now_us = MONDAY_TEN + 8 * HOUR
    assert order_of(expire(world)).status is OrderStatus.EXPIRED


def test_where_there_are_no_hours_a_day_ends_at_five_in_new_york(world: World) -> None:
    world.now_us = MONDAY_TEN
    world.price("EURUSD", "1.10000", "1.10010")
    order = order_of(limit(world, Side.BUY, "1.09950", time_in_force=TimeInForce.DAY))
    assert order.expires_us == MONDAY_TEN + 12 * HOUR  # 17:00 in New York is 22:00 UTC in winter


def test_the_house_never_deals_less_than_nothing_of_an_order_that_is_routed_anew() -> None:
    """Shared while it is large, all to the market when what is left of it is small: the house's part is done already."""
    rules = (
        rule("large", condition("volume", ">=", "1"), action="C", id=1),
        rule("small", action="A", id=2),
    )
    world = World(demo_config(policy=policy(*rules)))
    world.open_account(2, group="pro", deposit="100000", leverage=100)
    world.price("EURUSD", "1.10000", "1.10010")
    limit(world, Side.BUY, "1.09950", account=2, volume="1.50")
    first = world.price("EURUSD", "1.09940", "1.09950")
    assert first is not None
    world.fill(leg_of(first), "1.09950", "45000")
    world.report(leg_of(first), ReportKind.CANCELED)
    second = world.price("EURUSD", "1.09930", "1.09940")
    assert second is not None
    assert leg_of(second).volume == Decimal("0.75")
    world.fill(leg_of(second), "1.09940", "10000")
    assert all(deal.volume > 0 for deal in world.deals())
    world.fill(leg_of(second), "1.09940", "65000")
    (position,) = world.positions(2)
    assert (position.volume, position.volume_a) == (Decimal("1.50"), Decimal("1.20"))
