"""Ways of closing: two positions against each other, many at once, and a reversal as one order. Told as a dealer would."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.core import Executed
from tests.support.builders import config as demo_config
from tests.support.builders import policy, rule
from tests.support.world import World, leg_of, order_of, refusal_of
from trading.accounts import ClientClass, Rights
from trading.commands import ChangeAccount, CloseBy, ClosePositions, ReversePosition, Which
from trading.configuration import Config
from trading.events import ChildOrderRouted, OrderRouted
from trading.instruments import TradeMode
from trading.liquidity import LpOrder, ReportKind
from trading.orders import Book, Deal, DealEntry, Order, OrderReason, OrderStatus, Side
from trading.protection import ProtectionTerms


def price(text: str) -> Decimal:
    return Decimal(text)


def new_world(config: Config | None = None) -> World:
    """Group `pro` sees the raw prices and pays 2.50 a lot; account 1 is dealt by the house, account 2 goes to the market."""
    world = World(config)
    world.open_account(1, group="pro", deposit="10000", leverage=100)
    world.open_account(2, group="pro", deposit="100000", leverage=100, client_class=ClientClass.PROFESSIONAL)
    world.price("EURUSD", "1.10000", "1.10010")
    world.price("GBPUSD", "1.30000", "1.30010")
    return world


@pytest.fixture
def world() -> World:
    return new_world()


def halted(symbol: str, **terms: Any) -> Config:
    config = demo_config()
    instrument = replace(config.instruments[symbol], **terms)
    return replace(config, instruments={**config.instruments, symbol: instrument})


def opened(world: World, account: int, side: Side, volume: str, *, symbol: str = "EURUSD", at: str = "") -> int:
    """A new position's ticket; an A part is filled at `at`."""
    known = {position.id for position in world.positions(account)}
    done = world.place(account, symbol, side, volume)
    if at:
        world.fill(leg_of(done), at)
    (ticket,) = {position.id for position in world.positions(account)} - known
    return ticket


def close_by(world: World, account: int, position: int, by: int, *, key: str = "") -> Executed:
    name = world.request()
    return world.run(
        CloseBy(id=name, key=key or name, account=account, position_id=position, by_position_id=by, reply_to="test")
    )


def close_many(world: World, account: int, which: Which = Which.ALL, *, key: str = "", symbol: str = "") -> Executed:
    name = world.request()
    return world.run(
        ClosePositions(id=name, key=key or name, account=account, which=which, symbol=symbol, reply_to="test")
    )


def reverse(world: World, account: int, position: int) -> Executed:
    name = world.request()
    return world.run(ReversePosition(id=name, key=name, account=account, position_id=position, reply_to="test"))


def orders_of(done: Executed) -> list[Order]:
    """The last image of every order that the command was about, by ticket."""
    last = {event.order.id: event.order for event in done.events if hasattr(event, "order")}
    return [last[number] for number in sorted(last)]


def deals_of(done: Executed) -> list[Deal]:
    return [event.deal for event in done.events if hasattr(event, "deal")]


def legs_of(done: Executed) -> list[LpOrder]:
    return [event.leg for event in done.events if isinstance(event, ChildOrderRouted)]


# --- close by -----------------------------------------------------------------------------------------------------------


def test_two_opposite_positions_close_against_each_other_without_spread_or_commission(world: World) -> None:
    long = opened(world, 1, Side.BUY, "0.30")  # at 1.10010
    world.price("EURUSD", "1.10500", "1.10510")
    short = opened(world, 1, Side.SELL, "0.30")  # at 1.10500
    balance = world.balance(1)
    done = close_by(world, 1, long, short)
    assert world.balance(1) - balance == Decimal("147.00")  # (1.10500 - 1.10010) x 30,000
    assert world.positions(1) == []
    assert world.state.margin_used(1) == 0
    assert [(d.position_id, d.side, d.entry, d.price, d.profit, d.commission) for d in deals_of(done)] == [
        (long, Side.SELL, DealEntry.OUT_BY, price("1.10500"), Decimal("147.00"), Decimal(0)),
        (short, Side.BUY, DealEntry.OUT_BY, price("1.10500"), Decimal(0), Decimal(0)),
    ]


def test_close_by_is_one_order_per_position_and_answers_with_the_first(world: World) -> None:
    long, short = opened(world, 1, Side.BUY, "0.30"), opened(world, 1, Side.SELL, "0.30")
    done = close_by(world, 1, long, short, key="pair")
    first, second = orders_of(done)
    assert [order.client_order_id for order in (first, second)] == ["pair", f"pair/{short}"]
    assert {(o.status, o.reason, o.closes, o.book) for o in (first, second)} == {
        (OrderStatus.FILLED, OrderReason.CLOSE_BY, True, Book.B)
    }
    assert (first.position_id, second.position_id) == (long, short)
    ((_, answer),) = done.answers
    assert (answer.reference, answer.refusal, answer.final) == (first.id, "", True)
    again = close_by(world, 1, long, short, key="pair")
    ((_, answer),) = again.answers
    assert (answer.reference, answer.replayed, again.events) == (first.id, True, [])


def test_only_the_smaller_volume_is_closed(world: World) -> None:
    long, short = opened(world, 1, Side.BUY, "0.30"), opened(world, 1, Side.SELL, "0.10")
    close_by(world, 1, long, short)
    (left,) = world.positions(1)
    assert (left.id, left.volume) == (long, Decimal("0.20"))
    assert left.open_price == price("1.10010")


def test_the_named_position_may_be_the_losing_or_the_winning_one(world: World) -> None:
    """Whichever is named first, the pair is worth the same."""
    results = []
    for swap in (False, True):
        world = new_world()
        pair = [opened(world, 1, Side.BUY, "0.30"), opened(world, 1, Side.SELL, "0.20")]
        balance = world.balance(1)
        close_by(world, 1, *(reversed(pair) if swap else pair))
        results.append(world.balance(1) - balance)
    assert results == [Decimal("-2.00")] * 2  # (1.10000 - 1.10010) x 20,000


def test_at_one_provider_the_pair_is_closed_without_a_leg_and_its_own_result_is_booked(world: World) -> None:
    long = opened(world, 2, Side.BUY, "1.00", at="1.10010")
    world.price("EURUSD", "1.10500", "1.10510")
    short = opened(world, 2, Side.SELL, "1.00", at="1.10490")
    net = world.lp_net()
    done = close_by(world, 2, long, short)
    assert legs_of(done) == []
    assert world.lp_net() == net
    assert sum((deal.profit for deal in deals_of(done)), Decimal(0)) == Decimal("480.00")
    assert world.state.balances["lp:YOFX1", "USD"] == Decimal("-480.00")
    assert world.state.balances["house:pnl:A", "USD"] == 0  # what the provider owes is what the client gets
    assert set(world.ledger_sums().values()) == {Decimal(0)}


def test_a_pair_that_is_shared_alike_is_closed_in_both_books() -> None:
    world = new_world(demo_config(policy=policy(rule("shared", action="C"))))
    long = opened(world, 2, Side.BUY, "1.00", at="1.10012")
    short = opened(world, 2, Side.SELL, "0.50", at="1.09998")
    done = close_by(world, 2, long, short)
    assert [(d.book, d.volume, d.lp) for d in deals_of(done)] == [
        (Book.A, Decimal("0.30"), "YOFX1"),
        (Book.B, Decimal("0.20"), ""),
    ] * 2
    (left,) = world.positions(2)
    assert (left.volume, left.volume_a) == (Decimal("0.50"), Decimal("0.30"))


def test_what_stands_with_different_counterparties_is_refused(world: World) -> None:
    at_yofx = opened(world, 2, Side.BUY, "1.00", at="1.10010")
    world.price("EURUSD", "1.10000", "1.10010", lps=("PRIMEXM",))
    at_primexm = opened(world, 2, Side.SELL, "1.00", at="1.10000")
    done = close_by(world, 2, at_yofx, at_primexm)
    assert refusal_of(done) == "invalid_close_by"
    assert order_of(done).status is OrderStatus.REJECTED
    assert "counterparties" in order_of(done).detail
    assert len(world.positions(2)) == 2


def test_house_and_market_are_not_closed_against_each_other() -> None:
    world = new_world()
    with_house = opened(world, 1, Side.BUY, "0.10")
    name = world.request()
    world.run(ChangeAccount(id=name, key=name, account=1, client_class=ClientClass.PROFESSIONAL))
    at_provider = opened(world, 1, Side.SELL, "0.10", at="1.10000")
    assert refusal_of(close_by(world, 1, with_house, at_provider)) == "invalid_close_by"


@pytest.mark.parametrize(
    ("side", "symbol"), [(Side.BUY, "EURUSD"), (Side.SELL, "GBPUSD")], ids=["same side", "other symbol"]
)
def test_only_opposite_positions_of_one_symbol_make_a_pair(world: World, side: Side, symbol: str) -> None:
    long, other = opened(world, 1, Side.BUY, "0.10"), opened(world, 1, side, "0.10", symbol=symbol)
    assert refusal_of(close_by(world, 1, long, other)) == "invalid_close_by"


def test_a_position_is_no_pair_with_itself_or_with_another_accounts(world: World) -> None:
    mine = opened(world, 1, Side.BUY, "0.10")
    theirs = opened(world, 2, Side.SELL, "0.10", at="1.10000")
    assert refusal_of(close_by(world, 1, mine, mine)) == "invalid_close_by"
    assert refusal_of(close_by(world, 1, mine, theirs)) == "position_closed"
    assert refusal_of(close_by(world, 1, mine, 999)) == "position_closed"


def test_what_is_being_closed_already_cannot_be_closed_by_another(world: World) -> None:
    long = opened(world, 2, Side.BUY, "1.00", at="1.10010")
    short = opened(world, 2, Side.SELL, "1.00", at="1.10000")
    leg = leg_of(world.close(2, long, "0.60"))
    close_by(world, 2, long, short)  # the 0.40 that are free
    assert [(p.volume, p.locked) for p in world.positions(2)] == [
        (Decimal("0.60"), Decimal("0.60")),
        (Decimal("0.60"), Decimal(0)),
    ]
    again = close_by(world, 2, long, short)
    assert refusal_of(again) == "close_order_exists"
    assert order_of(again).volume == Decimal("0.60"), "what was asked for, though nothing of it is free"
    world.fill(leg, "1.10000")
    assert [p.id for p in world.positions(2)] == [short]


def test_close_by_needs_no_market_price_but_no_halt(world: World) -> None:
    long, short = opened(world, 1, Side.BUY, "0.10"), opened(world, 1, Side.SELL, "0.10")
    world.wait(60)
    assert refusal_of(world.close(1, long)) == "no_quotes"
    world.state.use_config(halted("EURUSD", trade_mode=TradeMode.HALTED))
    assert refusal_of(close_by(world, 1, long, short)) == "market_closed"
    world.state.use_config(halted("EURUSD", trade_mode=TradeMode.CLOSE_ONLY))
    assert refusal_of(close_by(world, 1, long, short)) == ""
    assert world.positions(1) == []


@given(
    prices=st.lists(st.integers(108_000, 112_000), min_size=2, max_size=2),
    lots=st.lists(st.integers(1, 40), min_size=2, max_size=2),
    parts=st.lists(st.integers(1, 40), max_size=4),
)
def test_a_pair_is_worth_the_difference_of_its_open_prices(
    prices: list[int], lots: list[int], parts: list[int]
) -> None:
    """However the first is cut before; what is left of either is worth what it was."""
    world = new_world()
    tickets = []
    for side, at, hundredths in zip((Side.BUY, Side.SELL), prices, lots, strict=True):
        raw = Decimal(at) / 100_000
        world.price("EURUSD", f"{raw:.5f}", f"{raw:.5f}")
        tickets.append(opened(world, 1, side, f"{Decimal(hundredths) / 100:.2f}"))
    for hundredths in parts:
        part = Decimal(hundredths) / 100
        if part < world.state.positions[tickets[0]].volume:
            world.close(1, tickets[0], f"{part:.2f}")
    long, short = (world.state.positions[ticket] for ticket in tickets)
    volume, balance = min(long.volume, short.volume), world.balance(1)
    done = close_by(world, 1, *tickets)
    assert world.balance(1) - balance == (prices[1] - prices[0]) * volume  # a point of a lot is one dollar
    assert sum((deal.profit for deal in deals_of(done)), Decimal(0)) == (prices[1] - prices[0]) * volume
    for before in (long, short):
        after = world.state.positions.get(before.id)
        assert after is None or after.open_price == before.open_price
        assert (after is None) == (before.volume == volume)


# --- many at once -------------------------------------------------------------------------------------------------------


def test_all_positions_are_closed_each_by_an_order_of_its_own(world: World) -> None:
    tickets = [opened(world, 1, Side.BUY, "0.10"), opened(world, 1, Side.SELL, "0.20", symbol="GBPUSD")]
    opened(world, 2, Side.BUY, "0.10", at="1.10010")
    done = close_many(world, 1, key="all out")
    assert [(o.client_order_id, o.status, o.position_id) for o in orders_of(done)] == [
        (f"all out/{ticket}", OrderStatus.FILLED, ticket) for ticket in tickets
    ]
    assert len({order.uuid for order in orders_of(done)}) == 2
    ((_, answer),) = done.answers
    assert (answer.reference, answer.refusal) == (2, "")
    assert world.positions(1) == []
    assert len(world.positions(2)) == 1


def test_asking_again_answers_the_same_and_closes_nothing_more(world: World) -> None:
    opened(world, 1, Side.BUY, "0.10")
    close_many(world, 1, key="once")
    opened(world, 1, Side.BUY, "0.10")
    ((_, answer),) = close_many(world, 1, key="once").answers
    assert (answer.replayed, answer.reference) == (True, 1)
    assert len(world.positions(1)) == 1


def test_one_refusal_is_kept_and_stops_no_other(world: World) -> None:
    stale = opened(world, 1, Side.BUY, "0.10", symbol="GBPUSD")
    fresh = opened(world, 1, Side.BUY, "0.10")
    world.wait(60)
    world.price("EURUSD", "1.10000", "1.10010")
    done = close_many(world, 1)
    assert [(o.position_id, o.status, o.refusal) for o in orders_of(done)] == [
        (stale, OrderStatus.REJECTED, "no_quotes"),
        (fresh, OrderStatus.FILLED, ""),
    ]
    ((_, answer),) = done.answers
    assert answer.reference == 1
    assert [p.id for p in world.positions(1)] == [stale]


@pytest.mark.parametrize(
    ("which", "left"), [(Which.WINNERS, {"loser", "even", "stale"}), (Which.LOSERS, {"winner", "even", "stale"})]
)
def test_winners_and_losers_are_told_by_the_clients_own_closing_price(
    world: World, which: Which, left: set[str]
) -> None:
    world.price("USDCHF", "0.90000", "0.90010")
    world.price("AUDUSD", "0.65000", "0.65000")
    tickets = {
        "stale": opened(world, 1, Side.BUY, "0.10", symbol="GBPUSD"),
        "even": opened(world, 1, Side.BUY, "0.10", symbol="AUDUSD"),
        "winner": opened(world, 1, Side.SELL, "0.10"),
        "loser": opened(world, 1, Side.BUY, "0.10"),
    }
    world.price("GBPUSD", "1.50000", "1.50010")
    world.wait(60)
    world.price("EURUSD", "1.09900", "1.09910")
    world.price("AUDUSD", "0.65000", "0.65010")
    close_many(world, 1, which)
    assert {name for name, ticket in tickets.items() if ticket in world.state.positions} == left


def test_a_mass_close_can_be_kept_to_one_symbol(world: World) -> None:
    opened(world, 1, Side.BUY, "0.10")
    kept = opened(world, 1, Side.BUY, "0.10", symbol="GBPUSD")
    close_many(world, 1, symbol="EURUSD")
    assert [p.id for p in world.positions(1)] == [kept]


def test_closes_at_providers_begin_and_are_answered_later(world: World) -> None:
    opened(world, 2, Side.BUY, "1.00", at="1.10010")
    opened(world, 2, Side.SELL, "0.50", at="1.10000")
    done = close_many(world, 2)
    assert [order.status for order in orders_of(done)] == [OrderStatus.PENDING_NEW] * 2
    assert [p.locked for p in world.positions(2)] == [Decimal("1.00"), Decimal("0.50")]
    again = close_many(world, 2)
    assert {order.refusal for order in orders_of(again)} == {"close_order_exists"}
    for leg in legs_of(done):
        world.fill(leg, "1.10000")
    assert world.positions(2) == []
    assert set(world.lp_net().values()) == {Decimal(0)}


def test_a_mass_close_takes_what_is_free_of_each(world: World) -> None:
    opened(world, 2, Side.BUY, "1.00", at="1.10010")
    world.close(2, world.positions(2)[0].id, "0.40")
    done = close_many(world, 2)
    assert order_of(done).volume == Decimal("0.60")


def test_nothing_to_close_is_an_answer_and_no_account_a_refusal(world: World) -> None:
    ((_, answer),) = close_many(world, 1).answers
    assert (answer.reference, answer.refusal) == (0, "")
    assert refusal_of(close_many(world, 77)) == "unknown_account"


# --- reversal -----------------------------------------------------------------------------------------------------------


def test_the_house_reverses_at_once_as_one_order(world: World) -> None:
    long = opened(world, 1, Side.BUY, "0.30")
    world.price("EURUSD", "1.10500", "1.10510")
    done = reverse(world, 1, long)
    order = order_of(done)
    assert (order.volume, order.netted, order.status, order.side) == (
        Decimal("0.60"), Decimal("0.30"), OrderStatus.FILLED, Side.SELL,
    )  # fmt: skip
    assert [(d.entry, d.volume, d.price, d.profit, d.commission) for d in deals_of(done)] == [
        (DealEntry.OUT, Decimal("0.30"), price("1.10500"), Decimal("147.00"), Decimal("0.75")),
        (DealEntry.INOUT, Decimal("0.30"), price("1.10500"), Decimal(0), Decimal("0.75")),
    ]
    (short,) = world.positions(1)
    assert (short.side, short.volume, short.open_price) == (Side.SELL, Decimal("0.30"), price("1.10500"))
    assert short.id != long
    assert order.position_id == short.id
    assert world.reserved() == {}


def test_protection_ends_with_the_old_position(world: World) -> None:
    world.place(1, "EURUSD", Side.BUY, "0.10", protection=ProtectionTerms(stop_loss_points=200))
    reverse(world, 1, world.positions(1)[0].id)
    (short,) = world.positions(1)
    assert short.protection.stop_loss is None


def test_at_a_provider_the_opening_waits_for_the_whole_close(world: World) -> None:
    long = opened(world, 2, Side.BUY, "1.00", at="1.10010")
    done = reverse(world, 2, long)
    (leg,) = legs_of(done)
    assert (leg.side, leg.volume, leg.position_id) == (Side.SELL, Decimal("1.00"), long)
    assert world.positions(2)[0].locked == Decimal("1.00")
    half = world.fill(leg, "1.10000", "50000")
    assert legs_of(half) == []
    assert (order_of(half).status, world.positions(2)[0].locked) == (OrderStatus.PARTIALLY_FILLED, Decimal("0.50"))
    rest = world.fill(leg, "1.10000", "50000")
    (opening,) = legs_of(rest)
    assert (opening.side, opening.volume, opening.position_id) == (Side.SELL, Decimal("1.00"), 0)
    assert world.positions(2) == []
    done = world.fill(opening, "1.09990")
    (short,) = world.positions(2)
    assert (short.side, short.volume, short.lp) == (Side.SELL, Decimal("1.00"), opening.lp)
    assert order_of(done).status is OrderStatus.FILLED
    assert [deal.entry for deal in world.deals()][-3:] == [DealEntry.OUT, DealEntry.OUT, DealEntry.INOUT]
    ((_, answer),) = done.answers  # the caller was told `working`, and is told the end
    assert (answer.final, answer.refusal) == (True, "")
    assert world.reserved() == {}


def test_a_close_that_the_provider_refuses_ends_the_reversal_and_unlocks(world: World) -> None:
    long = opened(world, 2, Side.BUY, "1.00", at="1.10010")
    leg = leg_of(reverse(world, 2, long))
    done = world.report(leg, ReportKind.REJECTED, text="no")
    assert legs_of(done) == []
    assert (order_of(done).status, order_of(done).refusal) == (OrderStatus.REJECTED, "rejected_by_lp")
    (position,) = world.positions(2)
    assert (position.id, position.volume, position.locked) == (long, Decimal("1.00"), Decimal(0))
    assert world.reserved() == {}


def test_a_close_that_fills_in_part_opens_nothing(world: World) -> None:
    long = opened(world, 2, Side.BUY, "1.00", at="1.10010")
    leg = leg_of(reverse(world, 2, long))
    world.fill(leg, "1.10000", "40000")
    done = world.report(leg, ReportKind.CANCELED)
    assert (order_of(done).status, order_of(done).filled_volume) == (OrderStatus.CANCELED, Decimal("0.40"))
    (position,) = world.positions(2)
    assert (position.side, position.volume, position.locked) == (Side.BUY, Decimal("0.60"), Decimal(0))


def test_an_opening_part_that_a_provider_refuses_goes_to_the_next_one(world: World) -> None:
    long = opened(world, 2, Side.BUY, "1.00", at="1.10010")
    opening = leg_of(world.fill(leg_of(reverse(world, 2, long)), "1.10000"))
    other = leg_of(world.report(opening, ReportKind.REJECTED))
    assert {opening.lp, other.lp} == {"YOFX1", "PRIMEXM"}
    done = world.report(other, ReportKind.REJECTED)
    assert (order_of(done).status, order_of(done).filled_volume) == (OrderStatus.CANCELED, Decimal("1.00"))
    assert world.positions(2) == []
    assert world.reserved() == {}


def test_without_a_price_for_the_rest_only_the_close_is_done(world: World) -> None:
    long = opened(world, 2, Side.BUY, "1.00", at="1.10010")
    leg = leg_of(reverse(world, 2, long))
    world.wait(60)
    done = world.fill(leg, "1.10000")
    assert (order_of(done).status, order_of(done).refusal) == (OrderStatus.CANCELED, "no_quotes")
    assert world.positions(2) == []


def test_a_symbol_that_was_halted_meanwhile_opens_nothing(world: World) -> None:
    long = opened(world, 2, Side.BUY, "1.00", at="1.10010")
    leg = leg_of(reverse(world, 2, long))
    world.state.use_config(halted("EURUSD", trade_mode=TradeMode.HALTED))
    done = world.fill(leg, "1.10000")
    assert (order_of(done).status, order_of(done).refusal) == (OrderStatus.CANCELED, "market_closed")
    assert (world.positions(2), world.reserved()) == ([], {})


def test_what_the_house_closes_may_open_at_a_provider() -> None:
    world = new_world()
    long = opened(world, 1, Side.BUY, "0.30")
    name = world.request()
    world.run(ChangeAccount(id=name, key=name, account=1, client_class=ClientClass.PROFESSIONAL))
    done = reverse(world, 1, long)
    (leg,) = legs_of(done)
    order = order_of(done)
    assert (order.status, order.filled_volume, leg.volume) == (
        OrderStatus.PARTIALLY_FILLED, Decimal("0.30"), Decimal("0.30"),
    )  # fmt: skip
    assert world.positions(1) == []
    world.fill(leg, "1.10000")
    (short,) = world.positions(1)
    assert (short.side, short.volume_a) == (Side.SELL, Decimal("0.30"))
    routed = [event.decision for event in done.events if isinstance(event, OrderRouted)]
    assert [(d.book, d.volume_a, d.volume_b) for d in routed] == [(Book.C, Decimal("0.30"), Decimal("0.30"))]


def test_a_shared_position_is_reversed_in_its_own_shares() -> None:
    world = new_world(demo_config(policy=policy(rule("shared", action="C"))))
    long = opened(world, 2, Side.BUY, "1.00", at="1.10010")
    leg = leg_of(reverse(world, 2, long))
    assert leg.volume == Decimal("0.60")
    world.fill(leg, "1.10000", "30000")
    assert world.positions(2)[0].volume == Decimal("0.50")
    opening = leg_of(world.fill(leg, "1.10000", "30000"))
    assert opening.volume == Decimal("0.60")
    world.fill(opening, "1.10000", "20000")
    assert [(p.volume, p.volume_a) for p in world.positions(2)] == [(Decimal("0.33"), Decimal("0.20"))]
    world.fill(opening, "1.10000", "40000")
    assert [(p.volume, p.volume_a) for p in world.positions(2)] == [(Decimal("1.00"), Decimal("0.60"))]


def all_with_the_house() -> World:
    return new_world(demo_config(policy=policy(rule("house"))))


def test_a_reversal_fits_where_twice_as_much_would_not() -> None:
    world = all_with_the_house()
    long = opened(world, 1, Side.BUY, "8.00")  # 8 x 1,100 of 10,000
    assert refusal_of(world.place(1, "EURUSD", Side.BUY, "8.00")) == "insufficient_margin"
    assert refusal_of(reverse(world, 1, long)) == ""


def test_the_margin_is_asked_for_the_whole_intent() -> None:
    """The old position's margin is free again: at twice the leverage the new one needs half of it."""
    world = all_with_the_house()
    long = opened(world, 1, Side.BUY, "8.00")
    world.price("EURUSD", "1.09510", "1.09520")  # 4,000 of loss: 5,980 left of 8,801 held
    assert refusal_of(reverse(world, 1, long)) == "insufficient_margin"
    name = world.request()
    world.run(ChangeAccount(id=name, key=name, account=1, leverage=200))
    assert refusal_of(reverse(world, 1, long)) == ""  # 8 x 547.55


def test_a_reversal_that_the_equity_does_not_carry_deals_nothing() -> None:
    world = all_with_the_house()
    long = opened(world, 1, Side.BUY, "8.00")
    world.price("EURUSD", "1.09800", "1.09810")  # 1,680 of loss: 8,300 left, 8,784 are needed
    done = reverse(world, 1, long)
    assert refusal_of(done) == "insufficient_margin"
    assert order_of(done).status is OrderStatus.REJECTED
    assert deals_of(done) == []
    assert refusal_of(world.close(1, long)) == ""


def test_only_what_is_free_is_reversed(world: World) -> None:
    long = opened(world, 2, Side.BUY, "1.00", at="1.10010")
    closing = leg_of(world.close(2, long, "0.40"))
    done = reverse(world, 2, long)
    assert (order_of(done).volume, order_of(done).netted) == (Decimal("1.20"), Decimal("0.60"))
    assert refusal_of(reverse(world, 2, long)) == "close_order_exists"
    opening = leg_of(world.fill(leg_of(done), "1.10000"))
    world.fill(opening, "1.10000")  # opens a position of its own while the old one still is there
    assert [(p.side, p.volume) for p in world.positions(2)] == [
        (Side.BUY, Decimal("0.40")),
        (Side.SELL, Decimal("0.60")),
    ]
    world.fill(closing, "1.10000")
    assert [p.side for p in world.positions(2)] == [Side.SELL]


def test_an_account_that_may_only_close_does_not_reverse(world: World) -> None:
    long = opened(world, 1, Side.BUY, "0.10")
    name = world.request()
    world.run(ChangeAccount(id=name, key=name, account=1, rights=Rights.CLOSE_ONLY))
    assert refusal_of(reverse(world, 1, long)) == "close_only"
    assert refusal_of(world.close(1, long)) == ""


def test_nothing_is_dealt_when_the_other_half_has_nowhere_to_go() -> None:
    world = new_world()
    long = opened(world, 1, Side.BUY, "0.30")
    name = world.request()
    world.run(ChangeAccount(id=name, key=name, account=1, client_class=ClientClass.PROFESSIONAL))
    world.price("EURUSD", "1.10000", "1.10010", lps=())
    done = reverse(world, 1, long)
    assert refusal_of(done) == "no_connection"
    assert [p.volume for p in world.positions(1)] == [Decimal("0.30")]
    assert world.reserved() == {}


def test_strangers_and_closed_positions_are_not_reversed(world: World) -> None:
    long = opened(world, 1, Side.BUY, "0.10")
    assert refusal_of(reverse(world, 2, long)) == "position_closed"
    assert refusal_of(reverse(world, 77, long)) == "unknown_account"
    world.close(1, long)
    assert refusal_of(reverse(world, 1, long)) == "position_closed"
