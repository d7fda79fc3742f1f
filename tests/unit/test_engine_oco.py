"""Orders that cancel each other: the first that is dealt takes the others back."""

from decimal import Decimal
from typing import Any

import pytest

from engine.core import Executed
from tests.support.world import World, leg_of, order_of, refusal_of
from trading.accounts import ClientClass
from trading.commands import CancelOrder, ModifyOrder
from trading.events import OrderCanceled
from trading.liquidity import ReportKind
from trading.orders import Order, OrderStatus, OrderType, Side, TimeInForce


@pytest.fixture
def world() -> World:
    """Group `pro` sees the raw prices; account 1 is dealt by the house, account 2 goes to the market."""
    world = World()
    world.open_account(1, group="pro", deposit="10000", leverage=100)
    world.open_account(2, group="pro", deposit="100000", leverage=100, client_class=ClientClass.PROFESSIONAL)
    world.price("EURUSD", "1.10000", "1.10010")
    return world


def limit(world: World, side: Side, at: str, group: str, *, account: int = 1, **more: Any) -> Order:
    done = world.place(
        account, "EURUSD", side, "0.10", type=OrderType.LIMIT, price=Decimal(at), oco_group=group, **more
    )
    return order_of(done)


def stop(world: World, side: Side, at: str, group: str, *, account: int = 1) -> Order:
    done = world.place(account, "EURUSD", side, "0.10", type=OrderType.STOP, stop_price=Decimal(at), oco_group=group)
    return order_of(done)


def canceled(done: Executed | None) -> dict[int, str]:
    """Ticket to reason of what was taken back."""
    assert done is not None
    orders = [event.order for event in done.events if isinstance(event, OrderCanceled)]
    assert all(order.status is OrderStatus.CANCELED and not order.refusal for order in orders)
    return {order.id: order.detail for order in orders}


def test_the_breakout_that_comes_first_takes_the_other_back(world: World) -> None:
    up = stop(world, Side.BUY, "1.10100", "news")
    down = stop(world, Side.SELL, "1.09900", "news")
    done = world.price("EURUSD", "1.09890", "1.09900")
    assert canceled(done) == {up.id: f"order {down.id} of the group news was dealt"}
    assert [position.side for position in world.positions(1)] == [Side.SELL]
    assert (world.state.orders, world.reserved(), world.state.oco) == ({}, {}, {})


def test_of_two_that_the_same_price_sets_off_only_the_first_is_dealt(world: World) -> None:
    first = limit(world, Side.BUY, "1.09950", "either")
    second = limit(world, Side.BUY, "1.09940", "either")
    done = world.price("EURUSD", "1.09900", "1.09910")
    assert canceled(done) == {second.id: f"order {first.id} of the group either was dealt"}
    assert len(world.deals()) == 1


def test_other_names_other_accounts_and_no_name_are_left_alone(world: World) -> None:
    limit(world, Side.BUY, "1.09950", "mine")
    others = [
        limit(world, Side.BUY, "1.09000", "other"),
        limit(world, Side.BUY, "1.09000", "", account=1),
        limit(world, Side.BUY, "1.09000", "mine", account=2),
    ]
    assert canceled(world.price("EURUSD", "1.09900", "1.09910")) == {}
    assert set(world.state.orders) == {order.id for order in others}


def test_an_order_that_is_dealt_at_once_takes_its_siblings_back(world: World) -> None:
    waiting = limit(world, Side.BUY, "1.09000", "pair")
    done = world.place(1, "EURUSD", Side.BUY, "0.10", oco_group="pair")
    assert order_of(done).id == waiting.id
    assert set(canceled(done)) == {waiting.id}
    ((_, answer),) = done.answers
    assert answer.order is not None
    assert (answer.order.status, answer.reference) == (OrderStatus.FILLED, waiting.id + 1)


def test_an_order_that_finds_no_price_or_is_refused_takes_nobody_back(world: World) -> None:
    limit(world, Side.BUY, "1.09000", "pair")
    limit(world, Side.BUY, "1.09500", "pair", time_in_force=TimeInForce.IOC)
    assert refusal_of(world.place(1, "EURUSD", Side.BUY, "90", oco_group="pair")) == "insufficient_margin"
    assert len(world.state.orders) == 1


def test_sent_to_a_provider_counts_as_dealt(world: World) -> None:
    limit(world, Side.BUY, "1.09950", "pair", account=2)
    other = limit(world, Side.SELL, "1.10500", "pair", account=2)
    done = world.price("EURUSD", "1.09940", "1.09950")
    assert set(canceled(done)) == {other.id}
    assert done is not None
    world.report(leg_of(done), ReportKind.REJECTED)
    assert list(world.state.orders) == [other.id - 1]  # waits again, alone


def test_a_fill_takes_back_what_was_placed_meanwhile(world: World) -> None:
    leg = leg_of(world.place(2, "EURUSD", Side.BUY, "0.10", oco_group="pair"))
    late = limit(world, Side.SELL, "1.10500", "pair", account=2)
    assert late.status is OrderStatus.NEW
    assert set(canceled(world.fill(leg, "1.10010", "4000"))) == {late.id}


def test_a_modified_order_stays_in_its_group(world: World) -> None:
    order = limit(world, Side.BUY, "1.09000", "pair")
    other = limit(world, Side.SELL, "1.10500", "pair")
    name = world.request()
    done = world.run(ModifyOrder(id=name, key=name, account=1, order_id=order.id, price=Decimal("1.10050")))
    assert set(canceled(done)) == {other.id}  # marketable now
    assert len(world.positions(1)) == 1


def test_taking_one_back_leaves_the_other(world: World) -> None:
    order, other = limit(world, Side.BUY, "1.09000", "pair"), limit(world, Side.SELL, "1.10500", "pair")
    name = world.request()
    world.run(CancelOrder(id=name, key=name, account=1, order_id=order.id))
    assert world.state.oco == {(1, "pair"): {other.id}}


@pytest.mark.parametrize(("length", "code"), [(32, ""), (33, "invalid_request")])
def test_a_group_has_a_short_name(world: World, length: int, code: str) -> None:
    done = world.place(1, "EURUSD", Side.BUY, "0.10", oco_group="x" * length)
    assert refusal_of(done) == code
    assert len(order_of(done).oco_group) <= 32


def test_the_same_key_with_another_group_is_another_request(world: World) -> None:
    world.place(1, "EURUSD", Side.BUY, "0.10", key="one", oco_group="a")
    assert refusal_of(world.place(1, "EURUSD", Side.BUY, "0.10", key="one", oco_group="b")) == "client_order_id_reused"
