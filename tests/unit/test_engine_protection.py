"""Stop loss, take profit and trailing stop: set with the order or later, and fired by the right side of the price."""

from decimal import Decimal
from typing import Any

import pytest

from engine.core import Executed
from tests.support.world import World, leg_of, order_of, refusal_of
from trading.accounts import ClientClass
from trading.commands import ModifyProtection
from trading.liquidity import ReportKind
from trading.orders import OrderReason, OrderStatus, OrderType, Side
from trading.protection import ProtectionTerms


def price(text: str) -> Decimal:
    return Decimal(text)


@pytest.fixture
def world() -> World:
    world = World()
    world.open_account(1, group="pro", deposit="10000", leverage=100)
    world.open_account(2, group="pro", deposit="100000", leverage=100, client_class=ClientClass.PROFESSIONAL)
    world.price("EURUSD", "1.10000", "1.10010")
    return world


def opened(world: World, side: Side, account: int = 1, **terms: Any) -> int:
    world.place(account, "EURUSD", side, "0.10", protection=ProtectionTerms(**terms))
    return world.positions(account)[0].id


def protect(world: World, position_id: int, account: int = 1, **terms: Any) -> Executed:
    name = world.request()
    return world.run(
        ModifyProtection(
            id=name,
            key=name,
            account=account,
            position_id=position_id,
            reply_to="test",
            protection=ProtectionTerms(**terms),
        )
    )


@pytest.mark.parametrize(
    ("side", "terms", "quiet", "firing", "dealt_at", "reason"),
    [
        (Side.BUY, {"stop_loss": "1.09900"}, ("1.09901", "1.09911"), ("1.09900", "1.09910"), "1.09900", "stop_loss"),
        (Side.BUY, {"stop_loss": "1.09900"}, ("1.09901", "1.09911"), ("1.09500", "1.09510"), "1.09500", "stop_loss"),
        (
            Side.BUY,
            {"take_profit": "1.10100"},
            ("1.10099", "1.10109"),
            ("1.10100", "1.10110"),
            "1.10100",
            "take_profit",
        ),
        (
            Side.BUY,
            {"take_profit": "1.10100"},
            ("1.10099", "1.10109"),
            ("1.10150", "1.10160"),
            "1.10150",
            "take_profit",
        ),
        (Side.SELL, {"stop_loss": "1.10100"}, ("1.10089", "1.10099"), ("1.10090", "1.10100"), "1.10100", "stop_loss"),
        (
            Side.SELL,
            {"take_profit": "1.09900"},
            ("1.09891", "1.09901"),
            ("1.09890", "1.09900"),
            "1.09900",
            "take_profit",
        ),
    ],
)
def test_longs_are_watched_at_the_bid_and_shorts_at_the_ask(
    world: World,
    side: Side,
    terms: dict[str, str],
    quiet: tuple[str, str],
    firing: tuple[str, str],
    dealt_at: str,
    reason: str,
) -> None:
    levels: dict[str, Any] = {name: price(level) for name, level in terms.items()}
    opened(world, side, **levels)
    assert world.price("EURUSD", *quiet) is None
    done = world.price("EURUSD", *firing)
    assert done is not None
    assert order_of(done).reason is OrderReason(reason)
    assert world.deals()[-1].price == price(dealt_at)
    assert world.positions(1) == []
    assert world.price("EURUSD", *firing) is None


def test_distances_are_counted_from_the_opening_price(world: World) -> None:
    position = opened(world, Side.BUY, stop_loss_points=100, take_profit_points=200)
    protection = world.state.positions[position].protection
    assert (protection.stop_loss, protection.take_profit) == (price("1.09910"), price("1.10210"))


def test_a_waiting_orders_protection_stands_when_it_is_dealt(world: World) -> None:
    world.place(
        1,
        "EURUSD",
        Side.BUY,
        "0.10",
        type=OrderType.LIMIT,
        price=price("1.09950"),
        protection=ProtectionTerms(stop_loss_points=50),
    )
    world.price("EURUSD", "1.09935", "1.09945")
    assert world.positions(1)[0].protection.stop_loss == price("1.09895")


def test_one_price_that_passes_order_and_stop_opens_and_the_next_closes(world: World) -> None:
    world.place(
        1,
        "EURUSD",
        Side.BUY,
        "0.10",
        type=OrderType.LIMIT,
        price=price("1.09950"),
        protection=ProtectionTerms(stop_loss=price("1.09900")),
    )
    world.price("EURUSD", "1.09700", "1.09710")
    assert world.positions(1)[0].open_price == price("1.09710")
    done = world.price("EURUSD", "1.09699", "1.09709")
    assert done is not None
    assert world.positions(1) == []


def test_protection_is_set_changed_and_removed_later(world: World) -> None:
    position = opened(world, Side.BUY)
    assert refusal_of(protect(world, position, stop_loss=price("1.09900"))) == ""
    assert refusal_of(protect(world, position, stop_loss=price("1.09800"))) == ""
    assert world.price("EURUSD", "1.09900", "1.09910") is None
    assert refusal_of(protect(world, position)) == ""
    assert world.price("EURUSD", "1.09800", "1.09810") is None
    assert world.positions(1) != []


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"stop_loss": price("1.10000")}, "invalid_stops"),
        ({"stop_loss": price("1.10500")}, "invalid_stops"),
        ({"take_profit": price("1.10000")}, "invalid_stops"),
        ({"take_profit": price("1.2"), "take_profit_points": 5}, "invalid_stops"),
        ({"stop_loss": price("NaN")}, "invalid_stops"),
        ({}, "no_changes"),
    ],
)
def test_protection_that_makes_no_sense_is_refused(world: World, terms: dict[str, Any], code: str) -> None:
    position = opened(world, Side.BUY)
    assert refusal_of(protect(world, position, **terms)) == code


def test_nobody_protects_somebody_elses_position(world: World) -> None:
    position = opened(world, Side.BUY)
    assert refusal_of(protect(world, position, account=2, stop_loss=price("1.09"))) == "position_closed"


def test_a_trailing_stop_follows_the_best_price_and_never_goes_back(world: World) -> None:
    position = opened(world, Side.BUY, trailing_points=100)  # opened at 1.10010
    assert world.price("EURUSD", "1.10109", "1.10119") is None
    world.price("EURUSD", "1.10110", "1.10120")
    assert world.state.positions[position].protection.stop_loss == price("1.10010")
    world.price("EURUSD", "1.10300", "1.10310")
    assert world.state.positions[position].protection.stop_loss == price("1.10200")
    assert world.price("EURUSD", "1.10250", "1.10260") is None
    done = world.price("EURUSD", "1.10200", "1.10210")
    assert done is not None
    assert order_of(done).reason is OrderReason.STOP_LOSS
    assert world.positions(1) == []


def test_a_provider_that_is_away_does_not_cost_the_client_the_stop(world: World) -> None:
    world.fill(leg_of(world.place(2, "EURUSD", Side.BUY, "0.50")), "1.10010")
    position = world.positions(2)[0].id
    protect(world, position, account=2, stop_loss=price("1.09900"))
    other = "PRIMEXM" if world.positions(2)[0].lp == "YOFX1" else "YOFX1"
    away = world.price("EURUSD", "1.09900", "1.09910", lps=(other,))
    assert away is not None
    assert away.events == []
    done = world.price("EURUSD", "1.09890", "1.09900")
    assert done is not None
    leg = leg_of(done)
    assert leg.limit_price is None
    assert world.state.positions[position].locked == Decimal("0.50")
    world.fill(leg, "1.09890")
    assert world.positions(2) == []


def test_a_stop_that_its_provider_rejects_is_tried_again_at_the_next_price(world: World) -> None:
    world.fill(leg_of(world.place(2, "EURUSD", Side.BUY, "0.50")), "1.10010")
    protect(world, world.positions(2)[0].id, account=2, stop_loss=price("1.09900"))
    first = world.price("EURUSD", "1.09900", "1.09910")
    assert first is not None
    assert order_of(world.report(leg_of(first), ReportKind.REJECTED)).status is OrderStatus.REJECTED
    second = world.price("EURUSD", "1.09890", "1.09900")
    assert second is not None
    world.fill(leg_of(second), "1.09890")
    assert world.positions(2) == []


def test_a_take_profit_at_a_provider_carries_its_limit(world: World) -> None:
    world.fill(leg_of(world.place(2, "EURUSD", Side.BUY, "0.50")), "1.10010")
    protect(world, world.positions(2)[0].id, account=2, take_profit=price("1.10100"))
    done = world.price("EURUSD", "1.10120", "1.10130")
    assert done is not None
    assert leg_of(done).limit_price == price("1.10100")


def test_a_price_that_nobody_stands_behind_fires_nothing(world: World) -> None:
    opened(world, Side.BUY, stop_loss=price("1.09900"))
    assert world.price("EURUSD", "1.09500", "1.09510", lps=()) is None
    assert world.positions(1) != []


def test_what_is_kept_stays_as_it_stands_when_the_change_is_made(world: World) -> None:
    position = opened(world, Side.BUY, trailing_points=100)
    world.price("EURUSD", "1.10300", "1.10310")
    name = world.request()
    changed = ModifyProtection(
        id=name,
        key=name,
        account=1,
        position_id=position,
        reply_to="test",
        keep=("stop_loss", "trailing_stop"),
        protection=ProtectionTerms(take_profit=price("1.20000")),
    )
    assert refusal_of(world.run(changed)) == ""
    protection = world.state.positions[position].protection
    assert (protection.stop_loss, protection.take_profit) == (price("1.10200"), price("1.20000"))
    assert protection.trailing_points == 100
