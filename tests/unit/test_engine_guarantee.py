"""Guaranteed stop losses: offered or not, paid for once, only ever nearer, and dealt at exactly their price."""

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from tests.support.world import World, leg_of, order_of, refusal_of, world_on
from trading.accounts import ClientClass
from trading.commands import ReloadConfig
from trading.guarantee import GuaranteeTerms
from trading.ledger import HOUSE_FEES, TransactionKind
from trading.liquidity import ReportKind
from trading.orders import OrderReason, OrderStatus, OrderType, Side
from trading.overrides import Override
from trading.protection import ProtectionTerms, StopTriggerMethod

OFFERED = GuaranteeTerms(fee_points=Decimal("2.5"), distance_min_points=50)


def price(text: str) -> Decimal:
    return Decimal(text)


@pytest.fixture
def world() -> World:
    """A guarantee costs 2.5 points and stands 50 points away at least: on 0.10 lots of EURUSD 0.25 USD."""
    return world_on(guarantee=OFFERED)


def guaranteed(world: World, stop_loss: str = "1.09900", account: int = 1, **terms: Any) -> int:
    """A long of 0.10 lots, opened at 1.10010."""
    protection = ProtectionTerms(stop_loss=price(stop_loss), is_guaranteed=True, **terms)
    done = world.place(account, "EURUSD", Side.BUY, "0.10", protection=protection)
    if account == 2:
        world.fill(leg_of(done), "1.10010")
    return world.positions(account)[0].id


def fees(world: World) -> list[Decimal]:
    return [t.amount for t in world.transfers() if t.kind is TransactionKind.GUARANTEE_FEE]


# --- asking for it ------------------------------------------------------------------------------------------------------


def test_a_symbol_without_guarantees_refuses_them() -> None:
    world = world_on()
    asked = ProtectionTerms(stop_loss=price("1.09900"), is_guaranteed=True)
    assert refusal_of(world.place(1, "EURUSD", Side.BUY, "0.10", protection=asked)) == "no_guarantee"
    world.place(1, "EURUSD", Side.BUY, "0.10")
    position = world.positions(1)[0].id
    assert refusal_of(world.protect(1, position, stop_loss=price("1.09900"), is_guaranteed=True)) == "no_guarantee"
    assert fees(world) == []


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({}, "invalid_stops"),  # nothing to guarantee
        ({"take_profit": price("1.11000")}, "invalid_stops"),
        ({"trailing_points": 100}, "invalid_stops"),
        ({"stop_loss": price("1.09951")}, "invalid_stops"),  # 49 points below the bid
        ({"stop_loss": price("1.09950")}, ""),
        ({"stop_loss_points": 59}, "invalid_stops"),  # counted from 1.10010
        ({"stop_loss_points": 60}, ""),
        ({"stop_loss": price("1.09900"), "trailing_points": 49}, "invalid_stops"),
        ({"stop_loss": price("1.09900"), "trailing_points": 50}, ""),
        ({"stop_loss": price("1.09900"), "break_even_points": 59, "break_even_offset": 10}, "invalid_stops"),
        ({"stop_loss": price("1.09900"), "break_even_points": 60, "break_even_offset": 10}, ""),
    ],
)
def test_a_guarantee_needs_a_stop_at_its_distance(world: World, terms: dict[str, Any], code: str) -> None:
    protection = ProtectionTerms(is_guaranteed=True, **terms)
    assert refusal_of(world.place(1, "EURUSD", Side.BUY, "0.10", protection=protection)) == code
    assert fees(world) == ([] if code else [price("0.25")])


# --- what it costs ------------------------------------------------------------------------------------------------------


def test_the_fee_goes_from_the_client_to_the_house_when_the_position_opens(world: World) -> None:
    position = guaranteed(world)
    assert fees(world) == [price("0.25")]
    assert world.balance(1) == price("9999.50")  # and 0.25 of commission
    assert world.state.balances[HOUSE_FEES, "USD"] == price("0.25")
    (deal,) = world.deals()
    assert deal.fee == price("0.25")
    (transfer,) = [t for t in world.transfers() if t.kind is TransactionKind.GUARANTEE_FEE]
    assert (transfer.position_id, transfer.deal_id, transfer.order_id) == (position, deal.id, deal.order_id)


def test_the_fee_is_in_the_accounts_currency_at_the_clients_worse_side(world: World) -> None:
    world.open_account(3, group="pro", currency="EUR", deposit="10000", leverage=100)
    guaranteed(world, account=3)
    assert fees(world) == [price("0.23")]  # 0.25 USD bought with EUR at the bid 1.10000: 0.2273


def test_each_part_of_an_order_pays_for_itself(world: World) -> None:
    protection = ProtectionTerms(stop_loss=price("1.09900"), is_guaranteed=True)
    leg = leg_of(world.place(2, "EURUSD", Side.BUY, "1.00", protection=protection))
    world.fill(leg, "1.10010", "40000")
    world.fill(leg, "1.10012", "60000")
    assert fees(world) == [price("1.00"), price("1.50")]
    assert sum(deal.fee for deal in world.deals()) == price("2.50")


def test_a_guarantee_that_begins_later_is_paid_for_all_that_is_open(world: World) -> None:
    world.place(1, "EURUSD", Side.BUY, "0.10")
    position = world.positions(1)[0].id
    world.close(1, position, "0.04")
    before = world.balance(1)
    assert refusal_of(world.protect(1, position, stop_loss=price("1.09900"), is_guaranteed=True)) == ""
    assert before - world.balance(1) == price("0.15")
    assert refusal_of(world.protect(1, position, stop_loss=price("1.09920"), is_guaranteed=True)) == ""
    assert fees(world) == [price("0.15")]
    assert set(world.ledger_sums().values()) == {Decimal(0)}


def test_what_joins_a_position_that_was_guaranteed_meanwhile_pays_too(world: World) -> None:
    leg = leg_of(world.place(2, "EURUSD", Side.BUY, "1.00"))
    world.fill(leg, "1.10010", "40000")
    assert fees(world) == []
    world.protect(2, world.positions(2)[0].id, stop_loss=price("1.09900"), is_guaranteed=True)
    world.fill(leg, "1.10010", "60000")
    assert fees(world) == [price("1.00"), price("1.50")]


def test_a_guarantee_is_not_lent_and_the_stop_alone_is_free(world: World) -> None:
    poor = world.open_account(3, group="pro", deposit="110.30", leverage=100)  # margin 110.01, commission 0.25
    refused = world.place(poor, "EURUSD", Side.BUY, "0.10", protection=asked("1.09900"))
    assert refusal_of(refused) == "insufficient_margin"
    assert refusal_of(world.place(poor, "EURUSD", Side.BUY, "0.10")) == ""
    position = world.positions(poor)[0].id
    refused = world.protect(poor, position, stop_loss=price("1.09900"), is_guaranteed=True)
    assert refusal_of(refused) == "insufficient_margin"
    assert refusal_of(world.protect(poor, position, stop_loss=price("1.09900"))) == ""


def asked(stop_loss: str) -> ProtectionTerms:
    return ProtectionTerms(stop_loss=price(stop_loss), is_guaranteed=True)


# --- what may become of it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({"stop_loss": price("1.09899"), "is_guaranteed": True}, "worse_guarantee"),
        ({"stop_loss": price("1.09900")}, "worse_guarantee"),
        ({"stop_loss": price("1.09920")}, "worse_guarantee"),
        ({}, "worse_guarantee"),
        ({"is_guaranteed": True}, "worse_guarantee"),
        ({"stop_loss": price("1.09901"), "is_guaranteed": True}, ""),
        ({"stop_loss": price("1.09951"), "is_guaranteed": True}, "invalid_stops"),
        ({"stop_loss": price("1.09900"), "is_guaranteed": True, "take_profit": price("1.10500")}, ""),
        ({"stop_loss": price("1.09900"), "is_guaranteed": True}, "no_changes"),
    ],
)
def test_a_guaranteed_stop_only_moves_nearer(world: World, terms: dict[str, Any], code: str) -> None:
    position = guaranteed(world)
    assert refusal_of(world.protect(1, position, **terms)) == code


def test_a_shorts_guaranteed_stop_only_moves_down(world: World) -> None:
    protection = ProtectionTerms(stop_loss=price("1.10110"), is_guaranteed=True)
    world.place(1, "EURUSD", Side.SELL, "0.10", protection=protection)
    position = world.positions(1)[0].id
    assert refusal_of(world.protect(1, position, stop_loss=price("1.10111"), is_guaranteed=True)) == "worse_guarantee"
    assert refusal_of(world.protect(1, position, stop_loss=price("1.10109"), is_guaranteed=True)) == ""


def test_a_take_profit_may_change_where_the_stop_has_come_near(world: World) -> None:
    position = guaranteed(world)
    world.price("EURUSD", "1.09910", "1.09920")  # 10 points from the stop
    kept: dict[str, Any] = {"stop_loss": price("1.09900"), "is_guaranteed": True}
    assert refusal_of(world.protect(1, position, take_profit=price("1.10500"), **kept)) == ""


def test_a_guarantee_neither_begins_nor_moves_without_a_fresh_price(world: World) -> None:
    """Who knows where the market will open cannot lock in where it has closed."""
    position = guaranteed(world)
    world.place(1, "EURUSD", Side.BUY, "0.10")
    other = world.positions(1)[1].id
    world.wait(60)
    assert refusal_of(world.protect(1, position, stop_loss=price("1.09940"), is_guaranteed=True)) == "no_quotes"
    assert refusal_of(world.protect(1, other, stop_loss=price("1.09900"), is_guaranteed=True)) == "no_quotes"
    kept: dict[str, Any] = {"stop_loss": price("1.09900"), "is_guaranteed": True}
    assert refusal_of(world.protect(1, position, take_profit=price("1.10500"), **kept)) == ""


def test_a_guaranteed_stop_that_trails_keeps_its_guarantee(world: World) -> None:
    position = guaranteed(world, trailing_points=100)
    world.price("EURUSD", "1.10300", "1.10310")
    protection = world.state.positions[position].protection
    assert (protection.stop_loss, protection.is_guaranteed) == (price("1.10200"), True)
    world.price("EURUSD", "1.09000", "1.09010")
    assert world.deals()[-1].price == price("1.10200")
    assert fees(world) == [price("0.25")]


# --- when it fires ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [("1.09900", "1.09910"), ("1.09000", "1.09010"), ("1.00000", "1.20000")])
def test_with_the_house_it_is_dealt_at_exactly_its_price(world: World, gap: tuple[str, str]) -> None:
    guaranteed(world)
    assert world.price("EURUSD", "1.09901", "1.09911") is None
    done = world.price("EURUSD", *gap)
    assert done is not None
    assert order_of(done).reason is OrderReason.STOP_LOSS
    deal = world.deals()[-1]
    assert (deal.price, deal.profit) == (price("1.09900"), price("-11.00"))
    assert world.positions(1) == []


def test_without_the_guarantee_the_same_gap_is_the_clients(world: World) -> None:
    world.place(1, "EURUSD", Side.BUY, "0.10", protection=ProtectionTerms(stop_loss=price("1.09900")))
    world.price("EURUSD", "1.09000", "1.09010")
    assert world.deals()[-1].price == price("1.09000")


def test_at_a_provider_the_leg_goes_to_the_market_and_the_house_bears_the_gap(world: World) -> None:
    guaranteed(world, account=2)
    done = world.price("EURUSD", "1.09000", "1.09010")
    assert done is not None
    leg = leg_of(done)
    assert (leg.limit_price, leg.client_price) == (None, price("1.09900"))
    world.fill(leg, "1.08990")
    deal = world.deals()[-1]
    assert (deal.price, deal.lp_price, deal.profit) == (price("1.09900"), price("1.08990"), price("-11.00"))
    # We lost 102 points at the provider and took 11 from the client: 91 points on 10,000 EUR are the house's.
    assert world.state.balances["lp:" + leg.lp, "USD"] == price("102.00")
    assert world.state.balances["house:pnl:A", "USD"] == price("-91.00")
    assert world.positions(2) == []
    assert set(world.lp_net().values()) == {Decimal(0)}
    assert set(world.ledger_sums().values()) == {Decimal(0)}


def test_a_guaranteed_stop_that_its_provider_rejects_is_tried_again_at_the_same_price(world: World) -> None:
    guaranteed(world, account=2)
    first = world.price("EURUSD", "1.09000", "1.09010")
    assert first is not None
    world.report(leg_of(first), ReportKind.REJECTED, text="last look")
    second = world.price("EURUSD", "1.08900", "1.08910")
    assert second is not None
    world.fill(leg_of(second), "1.08900")
    assert world.deals()[-1].price == price("1.09900")


def test_a_shared_position_is_closed_at_its_price_in_both_books() -> None:
    world = world_on(guarantee=OFFERED)
    world.open_account(3, group="pro", deposit="100000", leverage=100)
    order = world.place(3, "EURUSD", Side.BUY, "1.00", protection=asked("1.09900"))  # 60 % to the market
    world.fill(leg_of(order), "1.10010")
    done = world.price("EURUSD", "1.09000", "1.09010")
    assert done is not None
    world.fill(leg_of(done), "1.09000")
    assert {(deal.book, deal.price) for deal in world.deals()[-2:]} == {
        ("A", price("1.09900")),
        ("B", price("1.09900")),
    }


def test_the_client_may_close_before_it_fires_at_the_markets_price(world: World) -> None:
    position = guaranteed(world)
    world.price("EURUSD", "1.09950", "1.09960")
    assert refusal_of(world.close(1, position)) == ""
    assert world.deals()[-1].price == price("1.09950")


def test_it_fires_at_the_first_tick_whatever_way_other_stops_watch() -> None:
    world = world_on(guarantee=OFFERED, stop_trigger=StopTriggerMethod.DOUBLE_OPPOSITE)
    guaranteed(world, stop_trigger=StopTriggerMethod.DOUBLE_TRADE)
    world.price("EURUSD", "1.09900", "1.09990")
    assert world.positions(1) == []


# --- waiting orders -----------------------------------------------------------------------------------------------------


def rest(world: World, at: str, stop_loss: str, account: int = 1) -> int:
    done = world.place(
        account, "EURUSD", Side.BUY, "0.10", type=OrderType.LIMIT, price=price(at), protection=asked(stop_loss)
    )
    assert refusal_of(done) == ""
    return order_of(done).id


def test_a_waiting_orders_guarantee_is_paid_when_it_is_dealt(world: World) -> None:
    rest(world, "1.09900", "1.09800")
    assert fees(world) == []
    world.price("EURUSD", "1.09890", "1.09900")
    assert fees(world) == [price("0.25")]
    assert world.positions(1)[0].protection.is_guaranteed


def test_a_price_that_jumps_over_order_and_stop_leaves_nothing_to_guarantee(world: World) -> None:
    """Dealt at its own price, the stop would pay the client a profit of 90 points."""
    rest(world, "1.09900", "1.09800")
    world.price("EURUSD", "1.09700", "1.09710")
    (position,) = world.positions(1)
    assert (position.open_price, position.protection.is_guaranteed) == (price("1.09710"), False)
    assert fees(world) == []
    world.price("EURUSD", "1.09695", "1.09705")
    assert world.deals()[-1].price == price("1.09695")


def test_a_guarantee_that_is_no_longer_offered_ends_the_order_not_the_position(world: World) -> None:
    position = guaranteed(world)
    waiting = rest(world, "1.09950", "1.09800")
    without = replace(world.config.instruments["EURUSD"], guarantee=None)
    config = replace(world.config, version=2, instruments={**world.config.instruments, "EURUSD": without})
    world.run(ReloadConfig(id="config", key="config", version=2, config=config))
    done = world.price("EURUSD", "1.09940", "1.09950")
    assert done is not None
    order = order_of(done)
    assert (order.id, order.status, order.refusal) == (waiting, OrderStatus.REJECTED, "no_guarantee")
    assert refusal_of(world.protect(1, position, stop_loss=price("1.09910"), is_guaranteed=True)) == ""
    world.price("EURUSD", "1.09000", "1.09010")
    assert world.deals()[-1].price == price("1.09910")


def test_a_group_may_have_its_own_fee() -> None:

    dear = Override(name="dear", symbols="EUR*", changes={"guarantee.fee_points": "10"})
    world = world_on(guarantee=OFFERED, overrides=(dear,))
    guaranteed(world)
    assert fees(world) == [price("1.00")]


def test_somebody_elses_guarantee_is_not_touched(world: World) -> None:
    position = guaranteed(world)
    world.open_account(5, group="pro", client_class=ClientClass.RETAIL)
    assert refusal_of(world.protect(5, position)) == "position_closed"
