"""Spread limits: what is shown is dealt, at the house and at a provider, and a limit is never dealt worse than its price."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.world import World, leg_of, order_of, refusal_of, world_on
from trading.configuration import Markup
from trading.events import ChildOrderRouted
from trading.liquidity import LpOrder, ReportKind
from trading.numbers import is_on_step
from trading.orders import Book, OrderStatus, OrderType, Side
from trading.overrides import Override
from trading.pricing import client_quote
from trading.protection import ProtectionTerms, StopTriggerMethod
from trading.quotes import ClientQuote
from trading.spreads import SpreadTerms, TooWide

POINT = Decimal("0.00001")
WIDENED = SpreadTerms(min_points=21)
"""The market's 10 points become 21: the bid falls by 5, the ask rises by 6."""
NARROWED = SpreadTerms(max_points=5)
"""The market's 10 points become 5: the bid rises by 2, the ask falls by 3."""
REFUSED = SpreadTerms(max_points=20, too_wide=TooWide.REFUSE)


def price(text: str) -> Decimal:
    return Decimal(text)


def shown(world: World) -> ClientQuote:
    """What the two accounts' group sees."""
    terms = world.state.terms.of("pro", "EURUSD")
    assert terms is not None
    return client_quote(world.state.quotes["EURUSD"], world.config.groups["pro"], terms)


# --- with the house -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spread", "bought", "sold"),
    [(WIDENED, "1.10016", "1.09995"), (NARROWED, "1.10007", "1.10002"), (SpreadTerms(), "1.10010", "1.10000")],
)
def test_the_house_deals_at_the_price_within_the_limits(spread: SpreadTerms, bought: str, sold: str) -> None:
    world = world_on(spread=spread)
    assert (shown(world).ask, shown(world).bid) == (price(bought), price(sold))
    world.place(1, "EURUSD", Side.BUY, "0.10")
    world.place(1, "EURUSD", Side.SELL, "0.10")
    world.close(1, world.positions(1)[0].id)
    assert [deal.price for deal in world.deals()] == [price(bought), price(sold), price(sold)]


def test_the_markup_comes_first() -> None:
    world = world_on(markup=Markup(bid=3, ask=3), spread=SpreadTerms(max_points=10))  # 16 points, clipped by 6
    world.place(1, "EURUSD", Side.BUY, "0.10")
    assert world.deals()[-1].price == price("1.10010")


def test_a_group_has_its_own_limits_and_is_triggered_by_its_own_price() -> None:
    rule = Override(name="wide", symbols="EURUSD", changes={"spread.min_points": 30})
    world = world_on(overrides=(rule,))
    world.open_account(3, group="vip", leverage=100)
    for account in (1, 3):
        done = world.place(account, "EURUSD", Side.BUY, "0.10", type=OrderType.LIMIT, price=price("1.09950"))
        assert order_of(done).status is OrderStatus.NEW
    world.price("EURUSD", "1.09939", "1.09949")  # vip sees 1.09950, pro 1.09959
    assert [len(world.positions(account)) for account in (1, 3)] == [0, 1]
    world.price("EURUSD", "1.09930", "1.09940")
    assert world.positions(1)[0].open_price == price("1.09950")


def test_crossed_providers_are_uncrossed() -> None:
    world = world_on(spread=SpreadTerms(min_points=0))
    world.price("EURUSD", "1.10010", "1.10000")
    assert (shown(world).bid, shown(world).ask) == (price("1.10005"), price("1.10005"))


# --- too wide to deal on ------------------------------------------------------------------------------------------------


def wide(world: World) -> None:
    world.price("EURUSD", "1.09900", "1.10100")


def test_a_spread_that_is_too_wide_is_shown_and_not_dealt() -> None:
    world = world_on(spread=REFUSED)
    world.place(1, "EURUSD", Side.BUY, "0.10")
    position = world.positions(1)[0].id
    wide(world)
    assert (shown(world).bid, shown(world).ask) == (price("1.09900"), price("1.10100"))
    opening, closing = world.place(1, "EURUSD", Side.BUY, "0.10"), world.close(1, position)
    for done in (opening, closing):
        assert refusal_of(done) == "no_quotes"
        assert done.answers[0][1].detail == "the spread of EURUSD is too wide to deal on"
    assert refusal_of(world.place(2, "EURUSD", Side.BUY, "0.50")) == "no_quotes"
    world.price("EURUSD", "1.10000", "1.10020")
    assert refusal_of(world.close(1, position)) == ""


def test_a_price_that_is_not_dealt_fires_nothing() -> None:
    world = world_on(spread=REFUSED)
    protection = ProtectionTerms(stop_loss=price("1.09950"), trailing_points=30, trailing_activation=0)
    world.place(1, "EURUSD", Side.BUY, "0.10", protection=protection)
    world.place(1, "EURUSD", Side.BUY, "0.10", type=OrderType.STOP, stop_price=price("1.10050"))
    assert world.price("EURUSD", "1.09900", "1.10100") is None
    assert world.price("EURUSD", "1.10030", "1.10100") is None  # a trailing stop would follow
    assert world.positions(1)[0].protection.stop_loss == price("1.09950")
    world.price("EURUSD", "1.10040", "1.10060")
    assert world.deals()[-1].price == price("1.10060")


def test_a_limit_that_could_be_dealt_at_a_refused_price_waits() -> None:
    world = world_on(spread=REFUSED)
    wide(world)
    resting = world.place(1, "EURUSD", Side.BUY, "0.10", type=OrderType.LIMIT, price=price("1.10200"))
    assert order_of(resting).status is OrderStatus.NEW
    world.price("EURUSD", "1.10100", "1.10110")
    assert world.deals()[-1].price == price("1.10110")


def test_no_other_provider_is_tried_while_the_spread_is_too_wide() -> None:
    world = world_on(spread=REFUSED)
    leg = leg_of(world.place(2, "EURUSD", Side.BUY, "0.50"))
    wide(world)
    done = world.report(leg, ReportKind.REJECTED, text="last look")
    assert order_of(done).status is OrderStatus.REJECTED
    assert world.state.legs == {}


def test_what_left_at_a_dealt_price_is_filled_whatever_the_spread_became() -> None:
    world = world_on(spread=REFUSED)
    leg = leg_of(world.place(2, "EURUSD", Side.BUY, "0.50"))
    wide(world)
    world.fill(leg, "1.10010")
    assert world.positions(2)[0].open_price == price("1.10010")


# --- at a provider ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spread", "side", "shift"),
    [
        (WIDENED, Side.BUY, "0.00006"),
        (WIDENED, Side.SELL, "-0.00005"),
        (NARROWED, Side.BUY, "-0.00003"),
        (NARROWED, Side.SELL, "0.00002"),
    ],
)
@pytest.mark.parametrize("slipped", [-7, 0, 7])
def test_the_clients_price_is_the_providers_and_the_markup_and_the_shift_that_was_shown(
    spread: SpreadTerms, side: Side, shift: str, slipped: int
) -> None:
    world = world_on(spread=spread, markup=Markup())
    leg = leg_of(world.place(2, "EURUSD", side, "0.50"))
    assert leg.price_shift == price(shift)
    world.price("EURUSD", "1.10000", "1.10050")  # another shift now: that of the order stays
    dealt = (price("1.10010") if side is Side.BUY else price("1.10000")) + slipped * POINT
    world.fill(leg, str(dealt))
    assert world.deals()[-1].price == dealt + price(shift)


def test_a_close_has_a_shift_of_its_own_and_the_house_keeps_what_was_shown() -> None:
    world = world_on(spread=WIDENED)
    leg = leg_of(world.place(2, "EURUSD", Side.BUY, "1.00"))
    world.fill(leg, "1.10010")  # client 1.10016
    close = leg_of(world.close(2, world.positions(2)[0].id))
    world.fill(close, "1.10000")  # client 1.09995
    assert [deal.price for deal in world.deals()] == [price("1.10016"), price("1.09995")]
    assert world.state.balances["lp:" + leg.lp, "USD"] == price("10.00")
    assert world.state.balances["house:pnl:A", "USD"] == price("11.00")


def test_the_providers_limit_holds_the_clients_limit() -> None:
    world = world_on(spread=WIDENED, markup=Markup(bid=1, ask=1))  # 12 points become 21: 4 and 5
    world.place(2, "EURUSD", Side.BUY, "0.50", type=OrderType.LIMIT, price=price("1.09956"))
    done = world.price("EURUSD", "1.09940", "1.09950")
    assert done is not None
    leg = leg_of(done)
    assert (leg.limit_price, leg.price_shift) == (price("1.09950"), price("0.00005"))
    world.fill(leg, "1.09948")
    assert world.deals()[-1].price == price("1.09954")


def test_a_limit_that_its_provider_deals_worse_is_still_the_clients_limit() -> None:
    world = world_on()
    done = world.place(2, "EURUSD", Side.BUY, "0.50", type=OrderType.LIMIT, price=price("1.10010"))
    world.fill(leg_of(done), "1.10015")
    assert world.deals()[-1].price == price("1.10010")


# --- properties ---------------------------------------------------------------------------------------------------------

spreads = st.builds(
    lambda least, more, too_wide: SpreadTerms(
        min_points=least, max_points=None if more is None else (least or 0) + more, too_wide=too_wide
    ),
    st.none() | st.integers(0, 30),
    st.none() | st.integers(1, 30),
    st.sampled_from(TooWide),
)
markups = st.builds(lambda bid, ask: Markup(bid=bid, ask=ask), st.integers(0, 20), st.integers(0, 20))
ticks = st.tuples(st.integers(-150, 150), st.integers(-5, 40))
distances = st.integers(1, 120)


class Desk:
    """Both accounts wait for prices all around the market; every deal is held against what was shown and asked for."""

    def __init__(self, choose: st.DataObject) -> None:
        self.choose = choose
        self.world = world_on(
            markup=choose.draw(markups),
            spread=choose.draw(spreads),
            stop_trigger=choose.draw(st.sampled_from(StopTriggerMethod)),
        )
        self.checked = 0

    def place(self) -> None:
        for account in (1, 2):
            for side in Side:
                away = self.choose.draw(distances) * POINT * side.sign
                self.rest(account, side, OrderType.LIMIT, price=price("1.10005") - away)
                self.rest(
                    account, side, OrderType.STOP_LIMIT, stop_price=price("1.10005") + away, price=price("1.10005")
                )

    def rest(self, account: int, side: Side, kind: OrderType, **prices: Any) -> None:
        points = self.choose.draw(distances)
        protection = ProtectionTerms(take_profit_points=points, stop_loss_points=200)
        self.world.place(account, "EURUSD", side, "0.10", type=kind, protection=protection, **prices)

    def tick(self, bid: int, spread: int) -> None:
        low = price("1.10000") + bid * POINT
        self.world.price("EURUSD", str(low), str(low + spread * POINT))
        self.check(shown(self.world))
        for leg in list(self.world.state.legs.values()):
            self.answer(leg)
        self.check(None)

    def answer(self, leg: LpOrder) -> None:
        """At the limit or better; a market order anywhere near. Sometimes a part, sometimes worse than was agreed."""
        slip = self.choose.draw(st.integers(-10, 10)) * POINT
        at = leg.limit_price - leg.side.sign * slip if leg.limit_price is not None else price("1.10000") + slip
        part = self.choose.draw(st.sampled_from([1, 2]))
        self.world.fill(leg, str(at), str(leg.quantity / part))
        if leg.cl_ord_id in self.world.state.legs:
            self.world.report(leg, ReportKind.CANCELED)

    def check(self, seen: ClientQuote | None) -> None:
        """`seen` where the house has dealt by itself, at the price that was shown."""
        done = self.world.executed[self.checked :]
        self.checked = len(self.world.executed)
        orders = {e.order.id: e.order for one in done for e in one.events if hasattr(e, "order")}
        for deal in (e.deal for one in done for e in one.events if hasattr(e, "deal")):
            order = orders[deal.order_id]
            if order.type in {OrderType.LIMIT, OrderType.STOP_LIMIT}:
                assert order.side.sign * (order.price - deal.price) >= 0, (order, deal)
            if seen is not None:
                assert deal.book is Book.B
                assert deal.price == (seen.ask if deal.side is Side.BUY else seen.bid)
                assert seen.is_dealable
            assert is_on_step(deal.price, POINT)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(ticks, min_size=1, max_size=12))
def test_what_is_shown_is_dealt_and_a_limit_or_take_profit_never_worse(
    choose: st.DataObject, walk: list[tuple[int, int]]
) -> None:
    desk = Desk(choose)
    desk.place()
    desk.check(None)
    for bid, spread in walk:
        desk.tick(bid, spread)
    assert set(desk.world.ledger_sums().values()) == {Decimal(0)}


@given(markups, spreads, ticks, st.integers(-20, 20), st.sampled_from(Side))
@settings(max_examples=100, deadline=None)
def test_at_a_provider_the_house_keeps_or_bears_exactly_what_was_shown(
    markup: Markup, spread: SpreadTerms, tick: tuple[int, int], slipped: int, side: Side
) -> None:
    world = world_on(markup=markup, spread=spread)
    low = price("1.10000") + tick[0] * POINT
    world.price("EURUSD", str(low), str(low + tick[1] * POINT))
    done = world.place(2, "EURUSD", side, "0.10")
    if refusal_of(done):
        assert not shown(world).is_dealable
        return
    raw, seen = world.state.quotes["EURUSD"], shown(world)
    best, price_shown = (raw.ask, seen.ask) if side is Side.BUY else (raw.bid, seen.bid)
    legs = [e.leg for e in done.events if isinstance(e, ChildOrderRouted)]
    world.fill(legs[-1], str(best + slipped * POINT))
    assert world.deals()[-1].price == price_shown + slipped * POINT
