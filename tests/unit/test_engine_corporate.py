"""Dividends, splits and the end of a contract: every position at once, and money as it should be."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.books import trigger_of
from engine.core import Executed
from engine.state import state_hash
from tests.support.builders import config, instrument, policy, rule
from tests.support.laws import reborn
from tests.support.world import World, leg_of, refusal_of
from trading.accounts import ClientClass
from trading.commands import ExpireInstrument, PayDividend, SplitInstrument
from trading.configuration import Config
from trading.ledger import TransactionKind
from trading.liquidity import ReportKind
from trading.orders import Book, OrderReason, OrderStatus, OrderType, Side
from trading.protection import ProtectionTerms


def shares(**terms: Any) -> Config:
    """EURUSD as a share of 10 dollars or so: a lot is one of them, dealt in whole ones, in cents."""
    share = instrument(
        "EURUSD", digits=2, contract_size=Decimal(1), volume_min=Decimal(1), volume_step=Decimal(1),
        volume_max=Decimal(1000), **terms,
    )  # fmt: skip
    usual = config()
    return config(instruments={**usual.instruments, "EURUSD": share}, policy=policy(rule("shared", action="C")))


@pytest.fixture
def world() -> World:
    """A retail client in dollars; everything is dealt 60 to 40 with a provider."""
    return start(shares())


def start(terms: Config) -> World:
    world = World(terms)
    world.open_account(1, currency="USD", group="pro", deposit="10000", leverage=100)
    world.price("EURUSD", "100.00", "100.10")
    return world


def buy(world: World, volume: str = "10", *, account: int = 1, side: Side = Side.BUY, **terms: Any) -> int:
    """Dealt at the provider at 100.10 or 100.00; the position's number."""
    leg = leg_of(world.place(account, "EURUSD", side, volume, **terms))
    world.fill(leg, "100.10" if side is Side.BUY else "100.00", str(leg.quantity))
    return world.positions(account)[-1].id


def rest(world: World, kind: OrderType, side: Side, **terms: Any) -> int:
    done = world.place(1, "EURUSD", side, "10", type=kind, **terms)
    assert refusal_of(done) == ""
    return done.answers[0][1].reference


def say(world: World, kind: Any, *, key: str = "", **terms: Any) -> Executed:
    request = world.request()
    return world.run(kind(id=request, key=key or request, symbol="EURUSD", reply_to="test", **terms))


def held(world: World, name: str, currency: str = "USD") -> Decimal:
    return world.state.balances.get((name, currency), Decimal(0))


def check(world: World) -> None:
    assert set(world.ledger_sums().values()) <= {Decimal(0)}
    assert world.state.accounts[1].balance == held(world, "client:1")
    assert state_hash(reborn(world.state)) == state_hash(world.state)


# --- dividends ----------------------------------------------------------------------------------------------------------


def dividend(world: World, long: str, short: str, ex_us: int | None = None, **terms: Any) -> Executed:
    ex_us = world.now_us if ex_us is None else ex_us
    return say(
        world, PayDividend, long_per_unit=Decimal(long), short_per_unit=Decimal(short), ex_us=ex_us, **terms
    )  # fmt: skip


def test_longs_get_the_dividend_shorts_pay_it_and_the_provider_mirrors_its_part(world: World) -> None:
    buy(world, "10")
    buy(world, "5", side=Side.SELL)
    before = world.balance(1)
    at_lp = held(world, "lp:YOFX1")
    world.wait(1)
    done = dividend(world, "0.85", "-1.00", reference="2023 final")
    assert done.answers[0][1].reference == 2
    assert world.balance(1) - before == Decimal("3.50")  # 10 x 0.85 - 5 x 1.00
    # 6 of the 10 and 3 of the 5 stand at the provider
    assert held(world, "lp:YOFX1") - at_lp == Decimal("-2.10")
    assert held(world, "house:dividends") == Decimal("-1.40")  # on the house's own 4 and 2: -3.40 + 2.00
    long, mirrored, *_ = world.transfers()[-4:]
    assert (long.kind, long.reference, long.transaction_id) == (
        TransactionKind.DIVIDEND,
        "2023 final",
        mirrored.transaction_id,
    )
    check(world)


def test_who_bought_at_or_after_the_ex_instant_gets_nothing(world: World) -> None:
    buy(world)
    ex_us = world.now_us
    before = world.balance(1)
    assert dividend(world, "1", "-1", ex_us).answers[0][1].reference == 0
    assert dividend(world, "1", "-1", ex_us + 1).answers[0][1].refusal == "invalid_request"  # still to come
    world.wait(1)
    assert dividend(world, "1", "-1", ex_us + 1).answers[0][1].reference == 1
    assert world.balance(1) - before == 10


def test_a_dividend_is_converted_at_the_worse_side(world: World) -> None:
    world.open_account(2, currency="EUR", group="pro", client_class=ClientClass.RETAIL, leverage=100)
    buy(world, "100", account=2)
    world.wait(1)
    before = world.balance(2)
    dividend(world, "1", "-1")
    # 100 dollars, for which euros are bought at 100.10 each
    assert world.balance(2) - before == Decimal("1.00")
    check(world)


def test_a_dividend_said_twice_is_paid_once(world: World) -> None:
    buy(world)
    world.wait(1)
    before = world.balance(1)
    for _ in range(2):
        dividend(world, "1", "-1", world.now_us, key="final-2023")
    assert world.balance(1) - before == 10


@pytest.mark.parametrize(
    ("long", "refusal"), [("NaN", "invalid_amount"), ("1E+17", "invalid_amount"), ("999999999999", "invalid_amount")]
)
def test_a_dividend_nobody_pays_is_refused(world: World, long: str, refusal: str) -> None:
    buy(world)
    world.wait(1)
    before = world.balance(1)
    assert refusal_of(dividend(world, long, "0")) == refusal
    assert world.balance(1) == before


# --- splits -------------------------------------------------------------------------------------------------------------


def split(world: World, new: int, old: int) -> Executed:
    return say(world, SplitInstrument, new=new, old=old)


def test_a_split_multiplies_volumes_and_leaves_money_as_it_was(world: World) -> None:
    number = buy(world, "10")
    leg = leg_of(world.close(1, number, "5"))
    world.fill(leg, "100.00")
    before = world.state.positions[number]
    balance, margin = world.balance(1), world.state.margin_used(1)
    assert split(world, 3, 1).answers[0][1].reference == 1
    after = world.state.positions[number]
    assert (after.volume_opened, after.volume, after.volume_a_opened, after.volume_a) == tuple(
        3 * volume for volume in (before.volume_opened, before.volume, before.volume_a_opened, before.volume_a)
    )
    assert (after.cost, after.cost_a, after.margin) == (before.cost, before.cost_a, before.margin)
    assert after.open_price * 3 == before.open_price
    assert (world.balance(1), world.state.margin_used(1)) == (balance, margin)
    check(world)


def test_closing_after_a_split_earns_what_it_would_have_earned(world: World) -> None:
    number = buy(world, "10")
    split(world, 2, 1)
    world.price("EURUSD", "55.00", "55.10")  # 110.00 in old units
    leg = leg_of(world.close(1, number))
    world.fill(leg, "55.00")
    assert sum(deal.profit for deal in world.deals()) == Decimal("99.00")  # 10 x (110.00 - 100.10)
    assert world.positions(1) == []
    check(world)


def test_waiting_prices_move_away_from_the_market(world: World) -> None:
    """In thirds nothing divides evenly: what is below the market goes down to the grid, what is above goes up."""
    terms = ProtectionTerms(
        stop_loss=Decimal("90.01"), take_profit=Decimal("110.01"), trailing_points=100, trailing_step=1
    )
    number = buy(world, "3", protection=terms)
    short = buy(
        world,
        "3",
        side=Side.SELL,
        protection=ProtectionTerms(stop_loss=Decimal("110.01"), take_profit=Decimal("90.01")),
    )
    limit = rest(
        world, OrderType.LIMIT, Side.BUY, price=Decimal("95.00"), protection=ProtectionTerms(stop_loss_points=50)
    )
    stop = rest(world, OrderType.STOP, Side.BUY, stop_price=Decimal("105.00"))
    sell = rest(world, OrderType.LIMIT, Side.SELL, price=Decimal("105.01"))
    done = split(world, 3, 1)
    assert done.answers[0][1].detail == ""
    protection = world.state.positions[number].protection
    assert (protection.stop_loss, protection.take_profit) == (Decimal("30.00"), Decimal("36.67"))
    assert (protection.trailing_points, protection.trailing_step) == (34, 1)
    protection = world.state.positions[short].protection
    assert (protection.stop_loss, protection.take_profit) == (Decimal("36.67"), Decimal("30.00"))
    orders = world.state.orders
    assert (orders[limit].price, orders[limit].volume) == (Decimal("31.66"), Decimal(30))
    assert orders[limit].protection.stop_loss_points == 17
    assert orders[stop].stop_price == Decimal("35.00")
    assert orders[sell].price == Decimal("35.01")
    triggers = [trigger_of(order, world.config.instruments[order.symbol]) for order in orders.values()]
    waiting = {trigger.owner: trigger.level for trigger in triggers if trigger}
    assert waiting == {limit: Decimal("31.66"), stop: Decimal("35.00"), sell: Decimal("35.01")}
    check(world)


def test_the_old_price_is_forgotten_so_that_nothing_is_valued_by_it(world: World) -> None:
    buy(world, "10")
    split(world, 10, 1)
    assert refusal_of(world.place(1, "EURUSD", Side.BUY, "1")) == "no_quotes"
    world.price("EURUSD", "10.00", "10.01")
    assert refusal_of(world.place(1, "EURUSD", Side.BUY, "1")) == ""


def test_a_reverse_split_there_and_back(world: World) -> None:
    number = buy(world, "100")
    before = world.state.positions[number]
    split(world, 1, 10)
    assert world.state.positions[number].volume == 10
    split(world, 10, 1)
    after = world.state.positions[number]
    assert (after.volume, after.volume_a, after.cost) == (before.volume, before.volume_a, before.cost)


def test_a_split_that_leaves_the_grid_is_refused_whole(world: World) -> None:
    buy(world, "100")
    odd = buy(world, "5")
    done = split(world, 1, 10)
    assert refusal_of(done) == "invalid_request"
    assert f"position {odd}" in done.answers[0][1].detail
    assert world.positions(1)[0].volume == 100
    assert world.state.desk.splits == ()


@pytest.mark.parametrize(("new", "old"), [(0, 1), (1, 0), (-2, 1), (2, 2), (10_001, 1)])
def test_a_split_is_of_two_different_numbers(world: World, new: int, old: int) -> None:
    assert refusal_of(split(world, new, old)) == "invalid_request"


def test_nothing_is_split_or_ended_while_a_provider_deals_in_it(world: World) -> None:
    number = buy(world, "10")
    leg = leg_of(world.close(1, number, "5"))
    assert refusal_of(split(world, 2, 1)) == "invalid_request"
    assert refusal_of(end(world, "100")) == "invalid_request"
    world.report(leg, ReportKind.REJECTED)
    assert refusal_of(split(world, 2, 1)) == ""


def test_a_split_needs_prices_that_can_be_prices(world: World) -> None:
    rest(world, OrderType.LIMIT, Side.BUY, price=Decimal("0.01"))
    assert refusal_of(split(world, 3, 1)) == "invalid_request"


@settings(max_examples=40, deadline=None)
@given(
    new=st.integers(1, 7), old=st.integers(1, 7), lots=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    close=st.integers(1, 10),
)  # fmt: skip
def test_a_split_changes_no_money_and_no_share_of_the_provider(new: int, old: int, lots: list[int], close: int) -> None:
    world = start(shares())
    numbers = [buy(world, str(volume)) for volume in lots]
    leg = open_leg(world.close(1, numbers[0], str(min(close, lots[0]))))
    if leg is not None:
        world.fill(leg, "100.00")
    before = {p.id: p for p in world.positions(1)}
    if refusal_of(split(world, new, old)):
        assert {p.id: p for p in world.positions(1)} == before
        return
    for position in world.positions(1):
        then = before[position.id]
        assert position.volume * old == then.volume * new
        assert position.volume_a * old == then.volume_a * new
        assert (position.cost, position.cost_a, position.margin) == (then.cost, then.cost_a, then.margin)
    check(world)


def open_leg(done: Executed) -> Any:
    return next((e.leg for e in done.events if hasattr(e, "leg")), None)


# --- the end of a contract ----------------------------------------------------------------------------------------------


def end(world: World, price: str) -> Executed:
    return say(world, ExpireInstrument, price=Decimal(price), reference="EDSP")


def test_an_ended_contract_settles_everybody_at_its_price(world: World) -> None:
    buy(world, "10")
    buy(world, "5", side=Side.SELL)
    waiting = rest(world, OrderType.LIMIT, Side.BUY, price=Decimal("90.00"))
    world.state.quotes.clear()  # no price is needed but the settlement's
    before = world.balance(1)
    done = end(world, "103.455")
    assert done.answers[0][1].reference == 2
    assert world.positions(1) == []
    assert waiting not in world.state.orders
    closes = [d for d in world.deals() if d.price == Decimal("103.455")]
    assert {d.lp_price for d in closes if d.book is Book.A} == {Decimal("103.455")}
    # 10 x 3.355 = 20.13 + 13.42, less 5 x 3.455 = 10.37 + 6.91; commission is 2.50 a lot
    assert sum(d.profit for d in closes) == Decimal("16.27")
    assert world.balance(1) - before == Decimal("16.27") - Decimal("37.50")
    check(world)


def test_the_house_is_flat_on_what_stood_at_the_provider(world: World) -> None:
    buy(world, "10")
    end(world, "90.00")
    assert held(world, "lp:YOFX1") == Decimal("60.60")  # 6 x 10.10, which the house owes there and has from the client
    assert held(world, "house:pnl:A") == 0
    assert held(world, "house:pnl:B") == Decimal("40.40")
    assert world.lp_net() == {("YOFX1", "EURUSD"): Decimal(0)}
    check(world)


def test_each_position_ends_by_an_order_of_its_own(world: World) -> None:
    numbers = [buy(world, "10"), buy(world, "5")]
    orders = [e.order for e in end(world, "100").events if hasattr(e, "order")]
    assert [(o.position_id, o.reason, o.status, o.book, o.comment) for o in orders] == [
        (number, OrderReason.EXPIRY, OrderStatus.FILLED, Book.C, "EDSP") for number in numbers
    ]
    assert len({o.uuid for o in orders} | {o.client_order_id for o in orders}) == 4


def test_a_contract_does_not_end_before_its_time() -> None:
    world = start(shares(expires_us=1_700_000_060_000_000))
    buy(world)
    assert refusal_of(end(world, "100")) == "invalid_request"
    world.wait(60)
    assert refusal_of(end(world, "100")) == ""


@pytest.mark.parametrize("price", ["0", "-1", "NaN", "1000000000"])
def test_a_settlement_price_is_a_price(world: World, price: str) -> None:
    buy(world)
    assert refusal_of(end(world, price)) == "invalid_price"
    assert len(world.positions(1)) == 1


def test_an_unknown_symbol_has_no_corporate_life(world: World) -> None:
    world.config.instruments.pop("NZDUSD")
    for command in (
        PayDividend(
            id="1", key="1", symbol="X", long_per_unit=Decimal(1), short_per_unit=Decimal(1), ex_us=1, reply_to="t"
        ),
        SplitInstrument(id="2", key="2", symbol="X", new=2, old=1, reply_to="t"),
        ExpireInstrument(id="3", key="3", symbol="X", price=Decimal(1), reply_to="t"),
    ):
        assert refusal_of(world.run(command)) == "unknown_symbol"
