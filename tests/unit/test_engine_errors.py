"""What goes wrong at a provider: each cell of the reactions' table, the house's error account, and what the desk can do."""

from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from msgspec import structs

from engine.core import Executed
from engine.errors import held
from engine.state import state_hash
from tests.support.builders import config
from tests.support.laws import reborn
from tests.support.world import START_US, World, leg_of, order_of, refusal_of
from trading.accounts import ClientClass
from trading.commands import ExpireInstrument, ExpireOrders, LiftHalt, SettleLeg, SplitInstrument
from trading.configuration import Config
from trading.controls import SymbolControls
from trading.events import CaseOpened, ChildOrderRouted, ErrorBooked
from trading.ledger import HOUSE_ERROR, TransactionKind
from trading.liquidity import REACTIONS, CaseKind, LegStatus, LpOrder, ReportKind, Settlement
from trading.orders import OrderStatus, Side

K, S, C = ReportKind, LegStatus, CaseKind
CLIENT = 2
ZERO = Decimal(0)


def market(settings: Config | None = None) -> World:
    world = World(settings)
    world.open_account(CLIENT, group="pro", deposit="100000", leverage=200, client_class=ClientClass.PROFESSIONAL)
    world.price("EURUSD", "1.10000", "1.10010")
    world.price("GBPUSD", "1.30000", "1.30010")
    return world


@pytest.fixture
def world() -> World:
    return market()


@pytest.fixture
def leg(world: World) -> LpOrder:
    return buy(world)


def buy(world: World, volume: str = "0.50") -> LpOrder:
    return leg_of(world.place(CLIENT, "EURUSD", Side.BUY, volume))


def cases(world: World) -> list[CaseKind]:
    return [e.case.kind for done in world.executed for e in done.events if isinstance(e, CaseOpened)]


def holding(world: World, leg: LpOrder) -> Decimal:
    return held(world.state.desk, leg.lp, leg.symbol).volume


def own_legs(world: World) -> list[LpOrder]:
    """The house's, of its error account."""
    return [leg for leg in world.state.legs.values() if not leg.order_id]


def own_leg(world: World) -> LpOrder:
    (leg,) = own_legs(world)
    return leg


def volume(world: World) -> Decimal:
    return sum((position.volume for position in world.positions(CLIENT)), Decimal(0))


def error_result(world: World, currency: str = "USD") -> Decimal:
    return world.state.balances.get((HOUSE_ERROR, currency), Decimal(0))


def expire(world: World) -> Executed:
    name = world.request()
    return world.run(ExpireOrders(id=name, key=name))


def books_agree(world: World) -> None:
    """Money adds up, the books are what a new process would load, and every lot at a provider is a client's or the house's."""
    assert set(world.ledger_sums().values()) <= {Decimal(0)}
    assert state_hash(reborn(world.state)) == state_hash(world.state)


# --- Every cell ---------------------------------------------------------------------------------------------------------


class Comes(NamedTuple):
    """What a report leads to."""

    case: CaseKind | None
    client: str
    """Lots that the client holds afterwards."""
    house: str
    """Lots in the error account afterwards, before anything is flattened."""
    is_live: bool
    """The leg is still open."""


STORIES: dict[tuple[LegStatus | None, ReportKind], Comes] = {
    (S.WORKING, K.ACKNOWLEDGED): Comes(None, "0", "0", True),
    (S.WORKING, K.FILL): Comes(None, "0.1", "0", True),
    (S.WORKING, K.CANCELED): Comes(None, "0", "0", False),
    (S.WORKING, K.REJECTED): Comes(None, "0", "0", False),
    (S.WORKING, K.STATUS): Comes(None, "0", "0", True),
    (S.WORKING, K.NOT_SENT): Comes(None, "0", "0", False),
    (S.WORKING, K.UNRESOLVED): Comes(C.UNRESOLVED_ORDER, "0", "0", True),
    (S.WORKING, K.BUST): Comes(C.UNMATCHED_BUST, "0", "0", True),
    (S.WORKING, K.CORRECT): Comes(C.UNMATCHED_BUST, "0", "0", True),
    (S.WORKING, K.OTHER): Comes(C.UNHANDLED_REPORT, "0", "0", True),
    (S.PARTIALLY_FILLED, K.ACKNOWLEDGED): Comes(None, "0.2", "0", True),
    (S.PARTIALLY_FILLED, K.FILL): Comes(None, "0.3", "0", True),
    (S.PARTIALLY_FILLED, K.CANCELED): Comes(None, "0.2", "0", False),
    (S.PARTIALLY_FILLED, K.REJECTED): Comes(None, "0.2", "0", False),
    (S.PARTIALLY_FILLED, K.STATUS): Comes(None, "0.2", "0", True),
    (S.PARTIALLY_FILLED, K.NOT_SENT): Comes(C.STATUS_MISMATCH, "0.2", "0", False),
    (S.PARTIALLY_FILLED, K.UNRESOLVED): Comes(C.UNRESOLVED_ORDER, "0.2", "0", True),
    (S.PARTIALLY_FILLED, K.BUST): Comes(C.BUSTED_FILL, "0.2", "-0.2", True),
    (S.PARTIALLY_FILLED, K.CORRECT): Comes(C.CORRECTED_FILL, "0.2", "-0.1", True),
    (S.PARTIALLY_FILLED, K.OTHER): Comes(C.UNHANDLED_REPORT, "0.2", "0", True),
    (S.FILLED, K.ACKNOWLEDGED): Comes(None, "0.5", "0", False),
    (S.FILLED, K.FILL): Comes(C.EXCESS_FILL, "0.5", "0.1", False),
    (S.FILLED, K.CANCELED): Comes(None, "0.5", "0", False),
    (S.FILLED, K.REJECTED): Comes(None, "0.5", "0", False),
    (S.FILLED, K.STATUS): Comes(None, "0.5", "0", False),
    (S.FILLED, K.NOT_SENT): Comes(None, "0.5", "0", False),
    (S.FILLED, K.UNRESOLVED): Comes(None, "0.5", "0", False),
    (S.FILLED, K.BUST): Comes(C.BUSTED_FILL, "0.5", "-0.5", False),
    (S.FILLED, K.CORRECT): Comes(C.CORRECTED_FILL, "0.5", "-0.4", False),
    (S.FILLED, K.OTHER): Comes(C.UNHANDLED_REPORT, "0.5", "0", False),
    (S.CANCELED, K.ACKNOWLEDGED): Comes(None, "0.2", "0", False),
    (S.CANCELED, K.FILL): Comes(C.LATE_FILL, "0.2", "0.1", False),
    (S.CANCELED, K.CANCELED): Comes(None, "0.2", "0", False),
    (S.CANCELED, K.REJECTED): Comes(None, "0.2", "0", False),
    (S.CANCELED, K.STATUS): Comes(None, "0.2", "0", False),
    (S.CANCELED, K.NOT_SENT): Comes(None, "0.2", "0", False),
    (S.CANCELED, K.UNRESOLVED): Comes(None, "0.2", "0", False),
    (S.CANCELED, K.BUST): Comes(C.BUSTED_FILL, "0.2", "-0.2", False),
    (S.CANCELED, K.CORRECT): Comes(C.CORRECTED_FILL, "0.2", "-0.1", False),
    (S.CANCELED, K.OTHER): Comes(C.UNHANDLED_REPORT, "0.2", "0", False),
    (S.REJECTED, K.ACKNOWLEDGED): Comes(None, "0", "0", False),
    (S.REJECTED, K.FILL): Comes(C.LATE_FILL, "0", "0.1", False),
    (S.REJECTED, K.CANCELED): Comes(None, "0", "0", False),
    (S.REJECTED, K.REJECTED): Comes(None, "0", "0", False),
    (S.REJECTED, K.STATUS): Comes(None, "0", "0", False),
    (S.REJECTED, K.NOT_SENT): Comes(None, "0", "0", False),
    (S.REJECTED, K.UNRESOLVED): Comes(None, "0", "0", False),
    (S.REJECTED, K.BUST): Comes(C.UNMATCHED_BUST, "0", "0", False),
    (S.REJECTED, K.CORRECT): Comes(C.UNMATCHED_BUST, "0", "0", False),
    (S.REJECTED, K.OTHER): Comes(C.UNHANDLED_REPORT, "0", "0", False),
    (None, K.ACKNOWLEDGED): Comes(C.ORPHAN_REPORT, "0", "0", False),
    (None, K.FILL): Comes(C.ORPHAN_REPORT, "0", "0.1", False),
    (None, K.CANCELED): Comes(C.ORPHAN_REPORT, "0", "0", False),
    (None, K.REJECTED): Comes(C.ORPHAN_REPORT, "0", "0", False),
    (None, K.STATUS): Comes(C.ORPHAN_REPORT, "0", "0", False),
    (None, K.NOT_SENT): Comes(C.ORPHAN_REPORT, "0", "0", False),
    (None, K.UNRESOLVED): Comes(C.ORPHAN_REPORT, "0", "0", False),
    (None, K.BUST): Comes(C.UNMATCHED_BUST, "0", "0", False),
    (None, K.CORRECT): Comes(C.UNMATCHED_BUST, "0", "0", False),
    (None, K.OTHER): Comes(C.ORPHAN_REPORT, "0", "0", False),
}


def test_every_cell_has_a_reaction_and_a_story() -> None:
    cells = {(status, kind) for status, row in REACTIONS.items() for kind in row}
    assert cells == {(status, kind) for status in (None, *LegStatus) for kind in ReportKind}
    assert set(STORIES) == cells


def brought_to(world: World, leg: LpOrder, status: LegStatus | None) -> tuple[LpOrder, str]:
    """The leg where the story begins, and how much of it is dealt."""
    dealt = {S.PARTIALLY_FILLED: "20000", S.CANCELED: "20000", S.FILLED: "50000"}
    if status in dealt:
        world.fill(leg, "1.10010", dealt[status], exec_id="P1")
    if status is S.CANCELED:
        world.report(leg, K.CANCELED, cum_qty=Decimal(20000))
    if status is S.REJECTED:
        world.report(leg, K.REJECTED, text="no")
    if status is None:
        return structs.replace(leg, cl_ord_id="T0-99"), "0"
    return leg, dealt.get(status, "0")


@pytest.mark.parametrize(("cell", "comes"), STORIES.items(), ids=lambda value: "/".join(map(str, value)))
def test_a_report_does_what_its_cell_says(cell: tuple[LegStatus | None, ReportKind], comes: Comes) -> None:
    world = market(config(flattens_errors=False))
    status, kind = cell
    leg, dealt = brought_to(world, buy(world), status)
    assert world.legs.get(leg.cl_ord_id, leg).status is (status or S.WORKING)
    said: dict[str, Any] = {"cum_qty": Decimal(dealt), "lp_order_id": "O7"}
    if kind in (K.FILL, K.CORRECT):
        said |= {"last_qty": Decimal(10000), "last_px": Decimal("1.10010")}
    if kind in (K.BUST, K.CORRECT):
        said["exec_ref_id"] = "P1"
    if kind is K.STATUS:
        said["ord_status"] = {None: "1", S.WORKING: "0", S.PARTIALLY_FILLED: "1", S.FILLED: "2", S.CANCELED: "4"}.get(
            status, "8"
        )
    world.report(leg, kind, **said)
    assert cases(world) == ([comes.case] if comes.case else [])
    assert (volume(world), holding(world, leg)) == (Decimal(comes.client), Decimal(comes.house))
    assert (leg.cl_ord_id in world.state.legs) is comes.is_live
    books_agree(world)


# --- The error account --------------------------------------------------------------------------------------------------


def test_a_late_fill_is_the_houses_and_is_dealt_away(world: World, leg: LpOrder) -> None:
    world.report(leg, K.CANCELED)
    before = world.state.accounts[CLIENT]
    world.fill(leg, "1.10010")
    assert (volume(world), world.state.accounts[CLIENT]) == (ZERO, before)
    assert holding(world, leg) == Decimal("0.5")
    away = own_leg(world)
    assert (away.account, away.lp, away.side, away.volume) == (0, leg.lp, Side.SELL, Decimal("0.5"))
    world.fill(away, "1.10000")
    assert (world.state.desk.errors, own_legs(world)) == ((), [])
    assert error_result(world) == Decimal("-5.00")
    assert world.state.balances["lp:" + leg.lp, "USD"] == Decimal("5.00")
    assert [t.kind for t in world.transfers()][-1] is TransactionKind.ERROR_PNL
    books_agree(world)


def test_each_booking_is_a_record_with_what_it_left(world: World, leg: LpOrder) -> None:
    world.report(leg, K.CANCELED)
    world.fill(leg, "1.10010", exec_id="L1")
    world.fill(own_leg(world), "1.10000", "20000")
    first, second = (e.fill for done in world.executed for e in done.events if isinstance(e, ErrorBooked))
    assert (first.reason.value, first.exec_id, first.volume_after, first.result) == (
        "late_fill",
        "L1",
        Decimal("0.5"),
        ZERO,
    )
    assert (second.side, second.volume_after, second.result) == (Side.SELL, Decimal("0.3"), Decimal("-2.00"))
    assert second.cost_after == Decimal("0.3") * Decimal("1.10010")


def test_an_excess_is_the_houses_and_nothing_more_is_opened_there(world: World, leg: LpOrder) -> None:
    world.fill(leg, "1.10010", "70000")
    assert volume(world) == Decimal("0.5")
    assert own_leg(world).volume == Decimal("0.2")
    assert world.state.desk.halts == ((leg.lp, "EURUSD"),)
    assert buy(world).lp != leg.lp
    close = leg_of(world.close(CLIENT, world.positions(CLIENT)[0].id))
    assert close.lp == leg.lp, "a close can go nowhere else"
    lift = LiftHalt(id="l", key="l", lp=leg.lp, symbol="EURUSD", reply_to="test")
    assert refusal_of(world.run(lift)) == ""
    assert buy(world).lp == leg.lp
    assert refusal_of(world.run(structs.replace(lift, id="m", key="m"))) == "no_changes"
    books_agree(world)


def test_an_orphan_fill_is_booked_under_its_own_symbol(world: World, leg: LpOrder) -> None:
    name = "GBP/USD" if leg.lp == "YOFX1" else "GBPUSD"
    world.fill(leg, "1.30010", "10000", cl_ord_id="X", lp_symbol=name, side=Side.SELL)
    assert held(world.state.desk, leg.lp, "GBPUSD").volume == Decimal("-0.1")
    assert (own_leg(world).symbol, own_leg(world).side) == ("GBPUSD", Side.BUY)


@pytest.mark.parametrize("lacks", [{"lp_symbol": "UNKNOWN"}, {"side": None}, {"last_qty": Decimal(0)}])
def test_what_cannot_be_told_is_a_case_only(world: World, leg: LpOrder, lacks: dict[str, Any]) -> None:
    said = {"cl_ord_id": "X", "last_px": Decimal("1.1"), "last_qty": Decimal(10000), **lacks}
    world.report(leg, K.FILL, **said)
    assert cases(world) == [C.ORPHAN_REPORT]
    assert world.state.desk.errors == ()


@pytest.mark.parametrize(("wrong", "symbol", "lots"), [("side", "EURUSD", "-0.1"), ("symbol", "GBPUSD", "0.1")])
def test_a_fill_of_something_else_is_the_houses_and_the_leg_goes_on(
    world: World, leg: LpOrder, wrong: str, symbol: str, lots: str
) -> None:
    other: dict[str, Any] = {"lp_symbol": "GBP/USD" if leg.lp == "YOFX1" else "GBPUSD"}
    if wrong == "side":
        other = {"side": Side.SELL}
    world.fill(leg, "1.10010", "10000", **other)
    assert held(world.state.desk, leg.lp, symbol).volume == Decimal(lots)
    assert (cases(world), volume(world)) == ([C.MISMATCHED_FILL], ZERO)
    world.fill(leg, "1.10010")
    assert volume(world) == Decimal("0.5")
    books_agree(world)


# --- Flattening ---------------------------------------------------------------------------------------------------------


def late_fill(world: World) -> LpOrder:
    leg = buy(world)
    world.report(leg, K.CANCELED)
    world.fill(leg, "1.10010")
    return leg


def test_an_attempt_that_deals_nothing_is_repeated_ever_later(world: World) -> None:
    late_fill(world)
    for wait_s in (5, 10, 20, 40, 80, 160, 320, 320):
        world.report(own_leg(world), K.REJECTED, text="no")
        world.wait(wait_s - 1)
        world.price("EURUSD", "1.10000", "1.10010")
        expire(world)
        assert own_legs(world) == []
        world.wait(1)
        world.price("EURUSD", "1.10000", "1.10010")
        expire(world)
        assert own_leg(world).volume == Decimal("0.5")


def test_after_a_part_the_rest_follows_at_once(world: World) -> None:
    late_fill(world)
    first = own_leg(world)
    world.fill(first, "1.10000", "20000", cum_qty=Decimal(20000))
    world.report(first, K.CANCELED, cum_qty=Decimal(20000))
    assert own_leg(world).volume == Decimal("0.3")


def test_there_is_one_leg_at_a_time_and_never_for_more_than_is_held(world: World) -> None:
    one = late_fill(world)
    two = buy(world)
    assert two.lp == one.lp
    world.report(two, K.CANCELED)
    world.fill(two, "1.10010")
    assert own_leg(world).volume == Decimal("0.5")
    world.fill(own_leg(world), "1.10000")
    assert (own_leg(world).volume, holding(world, one)) == (Decimal("0.5"), Decimal("0.5"))


@pytest.mark.parametrize("lps", [(), ("NOBODY",)])
def test_without_a_price_there_it_waits(world: World, lps: tuple[str, ...]) -> None:
    leg = buy(world)
    world.report(leg, K.CANCELED)
    world.price("EURUSD", "1.10000", "1.10010", lps=lps)
    world.fill(leg, "1.10010")
    assert own_legs(world) == []
    world.price("EURUSD", "1.10000", "1.10010")
    expire(world)
    assert own_leg(world).volume == Decimal("0.5")


def test_it_can_be_switched_off() -> None:
    world = market(config(flattens_errors=False))
    late_fill(world)
    expire(world)
    assert own_legs(world) == []


def test_what_is_dealt_beyond_the_holding_comes_back(world: World) -> None:
    leg = late_fill(world)
    world.fill(own_leg(world), "1.10000", "70000")
    assert holding(world, leg) == Decimal("-0.2")
    assert (own_leg(world).side, own_leg(world).volume) == (Side.BUY, Decimal("0.2"))
    assert world.state.desk.halts == ((leg.lp, "EURUSD"),)
    books_agree(world)


def test_a_holding_below_the_providers_minimum_stays(world: World, leg: LpOrder) -> None:
    world.report(leg, K.CANCELED)
    world.fill(leg, "1.10010", "500")
    assert (holding(world, leg), own_legs(world)) == (Decimal("0.005"), [])


def test_a_contract_that_ends_settles_what_is_held_of_it_and_a_split_waits_for_it() -> None:
    plain = config()
    future = structs.replace(plain.instruments["EURUSD"], expires_us=START_US + 1)
    world = market(config(instruments={**plain.instruments, "EURUSD": future}, flattens_errors=False))
    leg = late_fill(world)
    split = SplitInstrument(id="s", key="s", symbol="EURUSD", new=2, old=1, reply_to="test")
    world.report(next(iter(world.state.legs.values())), K.REJECTED, text="no")
    assert refusal_of(world.run(split)) == "invalid_request"
    world.wait(1)
    end = ExpireInstrument(id="e", key="e", symbol="EURUSD", price=Decimal("1.10110"), reply_to="test")
    assert refusal_of(world.run(end)) == ""
    assert (holding(world, leg), error_result(world)) == (ZERO, Decimal("50.00"))
    books_agree(world)


def test_reports_about_a_symbol_that_is_gone_are_cases_only(world: World, leg: LpOrder) -> None:
    world.fill(leg, "1.10010", exec_id="F1")
    gone = {name: terms for name, terms in world.config.instruments.items() if name != "EURUSD"}
    lps = {
        name: structs.replace(lp, instruments={symbol: t for symbol, t in lp.instruments.items() if symbol in gone})
        for name, lp in world.config.lps.items()
    }
    world.state.positions.clear()
    world.state.config = structs.replace(world.config, instruments=gone, lps=lps)
    bust(world, leg, "F1")
    world.fill(leg, "1.10010", exec_id="F2")
    world.report(leg, K.STATUS, exec_id="0", cum_qty=Decimal(70000), ord_status="2")
    assert cases(world) == [C.UNMATCHED_BUST, C.EXCESS_FILL, C.UNHANDLED_REPORT]
    assert world.state.desk.errors == ()


# --- Far from the market ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "is_booked"), [("1.15505", True), ("1.15506", False), ("1.04505", True), ("1.04504", False)]
)
def test_a_fill_far_from_the_market_waits_for_a_dealer(world: World, leg: LpOrder, price: str, is_booked: bool) -> None:
    world.fill(leg, price, exec_id="F1", cum_qty=Decimal(50000))
    assert (volume(world) == Decimal("0.5")) is is_booked
    assert cases(world) == ([] if is_booked else [C.PRICE_OUT_OF_RANGE])
    assert (leg.cl_ord_id in world.state.legs) is not is_booked
    again = world.fill(leg, price, exec_id="F1", cum_qty=Decimal(50000))
    assert again.events == []
    assert world.state.desk.errors == ()


def test_a_symbol_has_a_limit_of_its_own() -> None:
    plain = config()
    tight = structs.replace(plain.instruments["EURUSD"], controls=SymbolControls(fill_deviation_percent=Decimal("0.1")))
    world = market(config(instruments={**plain.instruments, "EURUSD": tight}))
    world.fill(buy(world), "1.10200")
    assert cases(world) == [C.PRICE_OUT_OF_RANGE]


def test_without_a_fresh_price_there_is_nothing_to_be_far_from(world: World, leg: LpOrder) -> None:
    world.wait(60)
    world.fill(leg, "2.00000")
    assert volume(world) == Decimal("0.5")


# --- Busts and corrections ----------------------------------------------------------------------------------------------


def bust(world: World, leg: LpOrder, ref: str, **said: Any) -> Executed:
    return world.report(leg, K.BUST, exec_ref_id=ref, **said)


def test_a_bust_is_the_houses_loss_and_the_client_keeps_the_deal(world: World, leg: LpOrder) -> None:
    world.fill(leg, "1.10010", exec_id="F1")
    world.price("EURUSD", "1.10110", "1.10120")
    bust(world, leg, "F1")
    assert (volume(world), cases(world)) == (Decimal("0.5"), [C.BUSTED_FILL])
    assert (own_leg(world).side, own_leg(world).volume) == (Side.BUY, Decimal("0.5")), "the hedge is bought again"
    world.fill(own_leg(world), "1.10120")
    assert (world.state.desk.errors, error_result(world)) == ((), Decimal("-55.00"))
    assert world.positions(CLIENT)[0].volume_a == Decimal("0.5")
    books_agree(world)


def test_the_second_bust_does_nothing(world: World, leg: LpOrder) -> None:
    world.fill(leg, "1.10010", exec_id="F1")
    bust(world, leg, "F1", exec_id="B1")
    errors = world.state.desk.errors
    again = bust(world, leg, "F1", exec_id="B1")
    assert again.events == []
    bust(world, leg, "F1", exec_id="B2")
    assert world.state.desk.errors == errors
    assert cases(world) == [C.BUSTED_FILL, C.UNMATCHED_BUST]


def test_a_fill_that_was_taken_back_before_it_came_is_not_booked(world: World, leg: LpOrder) -> None:
    bust(world, leg, "F1")
    world.fill(leg, "1.10010", exec_id="F1")
    assert (volume(world), world.state.desk.errors) == (ZERO, ())
    assert cases(world) == [C.UNMATCHED_BUST, C.CONFLICTING_FILL]
    assert leg.cl_ord_id in world.state.legs


def test_a_late_fill_that_is_taken_back_was_for_nothing(world: World, leg: LpOrder) -> None:
    world.report(leg, K.CANCELED)
    world.fill(leg, "1.10010", exec_id="L1")
    away = own_leg(world)
    bust(world, leg, "L1")
    assert world.state.desk.errors == ()
    world.fill(away, "1.10000")
    assert holding(world, leg) == Decimal("-0.5")
    world.fill(own_leg(world), "1.10010")
    assert (world.state.desk.errors, error_result(world)) == ((), Decimal("-5.00"))
    books_agree(world)


def test_a_bust_of_a_close_leaves_the_house_with_the_position(world: World, leg: LpOrder) -> None:
    world.fill(leg, "1.10010")
    close = leg_of(world.close(CLIENT, world.positions(CLIENT)[0].id))
    world.fill(close, "1.10000", exec_id="C1")
    bust(world, close, "C1")
    assert (volume(world), holding(world, leg)) == (ZERO, Decimal("0.5"))
    world.fill(own_leg(world), "1.09990")
    assert error_result(world) == Decimal("-5.00")
    books_agree(world)


def test_a_correction_of_the_price_is_the_houses_difference(world: World, leg: LpOrder) -> None:
    world.fill(leg, "1.10010", exec_id="F1")
    world.report(leg, K.CORRECT, exec_ref_id="F1", last_qty=Decimal(50000), last_px=Decimal("1.10030"))
    assert world.state.desk.errors == ()
    assert error_result(world) == Decimal("-10.00")
    assert world.positions(CLIENT)[0].open_price == Decimal("1.10010")
    assert (cases(world), own_legs(world)) == ([C.CORRECTED_FILL], [])
    books_agree(world)


@pytest.mark.parametrize("named", ["F1", "G1"])
def test_a_bust_after_a_correction_takes_back_what_was_corrected(world: World, leg: LpOrder, named: str) -> None:
    world.fill(leg, "1.10010", exec_id="F1")
    corrected = {"exec_ref_id": "F1", "last_qty": Decimal(40000), "last_px": Decimal("1.10030")}
    world.report(leg, K.CORRECT, exec_id="G1", **corrected)
    assert holding(world, leg) == Decimal("-0.1")
    bust(world, leg, named)
    assert holding(world, leg) == Decimal("-0.5")
    cost = Decimal("0.1") * Decimal("1.10010") + Decimal("0.4") * Decimal("1.10030")
    assert held(world.state.desk, leg.lp, "EURUSD").cost == -cost
    bust(world, leg, "F1" if named == "G1" else "G1")
    assert holding(world, leg) == Decimal("-0.5")
    assert cases(world) == [C.CORRECTED_FILL, C.BUSTED_FILL, C.UNMATCHED_BUST]


def test_a_correction_that_turns_the_side_is_not_believed(world: World, leg: LpOrder) -> None:
    world.fill(leg, "1.10010", exec_id="F1")
    world.report(leg, K.CORRECT, exec_ref_id="F1", last_qty=Decimal(50000), last_px=Decimal("1.1"), side=Side.SELL)
    assert (cases(world), world.state.desk.errors) == ([C.UNMATCHED_BUST], ())


# --- The desk settles ---------------------------------------------------------------------------------------------------


def settle(world: World, leg: LpOrder, outcome: Settlement, **said: Any) -> Executed:
    name = world.request()
    people = {"actor": "staff:1", "approved_by": "staff:2"}
    terms = {
        "id": name,
        "key": name,
        "cl_ord_id": leg.cl_ord_id,
        "outcome": outcome,
        "reply_to": "test",
        **people,
        **said,
    }
    return world.run(SettleLeg(**terms))


def test_a_leg_that_was_not_filled_ends_and_goes_nowhere_else(world: World, leg: LpOrder) -> None:
    world.report(leg, K.UNRESOLVED)
    world.wait(600)
    world.price("EURUSD", "1.20000", "1.20010")
    done = settle(world, leg, Settlement.NOT_FILLED, reason="they say so on the phone")
    order = order_of(done)
    assert (order.status, order.refusal) == (OrderStatus.REJECTED, "rejected_by_lp")
    assert "phone" in order.detail
    assert world.state.legs == {}
    assert world.state.margin_used(CLIENT) == 0


def test_a_settled_fill_is_booked_to_the_client_and_a_late_report_of_it_is_not_booked_again(
    world: World, leg: LpOrder
) -> None:
    done = settle(world, leg, Settlement.FILLED, quantity=Decimal(30000), price=Decimal("1.10010"), reference="mail")
    assert (order_of(done).status, volume(world)) == (OrderStatus.CANCELED, Decimal("0.3"))
    world.fill(leg, "1.10010", "30000", exec_id="F1")
    assert (volume(world), world.state.desk.errors) == (Decimal("0.3"), ())
    assert cases(world) == [C.CONFLICTING_FILL]
    books_agree(world)


def test_what_an_order_never_asked_for_is_the_houses_though_the_desk_has_settled_the_order(
    world: World, leg: LpOrder
) -> None:
    settle(world, leg, Settlement.FILLED, quantity=Decimal(30000), price=Decimal("1.10010"), reference="mail")
    other = Side.SELL if leg.side is Side.BUY else Side.BUY
    world.fill(leg, "1.10010", "10000", exec_id="F1", side=other)
    assert cases(world) == [C.LATE_FILL]
    assert holding(world, leg) == other.sign * Decimal("0.1")
    books_agree(world)


def test_a_settlement_may_be_whole_and_price_does_not_bind_it(world: World, leg: LpOrder) -> None:
    world.fill(leg, "1.30000", exec_id="F1", cum_qty=Decimal(50000))
    done = settle(world, leg, Settlement.FILLED, quantity=Decimal(50000), price=Decimal("1.30000"))
    assert order_of(done).status is OrderStatus.FILLED
    assert world.state.legs == {}


@pytest.mark.parametrize(
    ("said", "refusal"),
    [
        ({"approved_by": "staff:1"}, "second_person_required"),
        ({"approved_by": ""}, "second_person_required"),
        ({"cl_ord_id": "T0-99"}, "order_not_found"),
        ({"quantity": Decimal(50001)}, "invalid_volume"),
        ({"quantity": Decimal(0)}, "invalid_volume"),
        ({"price": Decimal(0)}, "invalid_price"),
        ({"price": Decimal("NaN")}, "invalid_price"),
        ({"outcome": Settlement.NOT_FILLED}, "invalid_volume"),
    ],
)
def test_what_cannot_be_settled_is_refused(world: World, leg: LpOrder, said: dict[str, Any], refusal: str) -> None:
    terms = {"quantity": Decimal(50000), "price": Decimal("1.1"), **said}
    done = settle(world, leg, terms.pop("outcome", Settlement.FILLED), **terms)
    assert refusal_of(done) == refusal
    assert done.events == []


@pytest.mark.parametrize("outcome", list(Settlement))
def test_a_fill_that_came_between_proposal_and_approval_is_not_booked_a_second_time(
    world: World, leg: LpOrder, outcome: Settlement
) -> None:
    """Two people say 0.3 of it was dealt, and before they are heard the provider reports those 0.3 after all."""
    dealt = {"quantity": Decimal(30000), "price": Decimal("1.10010")} if outcome is Settlement.FILLED else {}
    world.fill(leg, "1.10010", "30000", exec_id="F1")
    done = settle(world, leg, outcome, filled_volume=Decimal(0), **dealt)
    assert refusal_of(done) == "order_changed"
    assert (done.events, volume(world)) == ([], Decimal("0.3"))
    settle(world, leg, Settlement.NOT_FILLED, filled_volume=Decimal("0.3"))
    assert (volume(world), world.state.legs) == (Decimal("0.3"), {})
    books_agree(world)


def test_a_leg_of_the_house_is_settled_too(world: World) -> None:
    leg = late_fill(world)
    away = own_leg(world)
    settle(world, away, Settlement.FILLED, quantity=Decimal(20000), price=Decimal("1.10010"))
    assert holding(world, leg) == Decimal("0.3")
    assert own_leg(world).volume == Decimal("0.3")
    settle(world, own_leg(world), Settlement.NOT_FILLED)
    assert own_legs(world) == []
    books_agree(world)


def test_an_order_that_nobody_knows_of_stays_pending_and_is_told_once(world: World, leg: LpOrder) -> None:
    for _ in range(3):
        world.report(leg, K.UNRESOLVED, exec_id="")
    assert cases(world) == [C.UNRESOLVED_ORDER]
    assert world.state.orders[leg.order_id].status is OrderStatus.PENDING_NEW
    world.fill(leg, "1.10010")
    assert volume(world) == Decimal("0.5")


def test_nothing_is_routed_for_a_case_alone(world: World, leg: LpOrder) -> None:
    done = world.report(leg, K.OTHER, text="what?")
    assert not any(isinstance(e, ChildOrderRouted) for e in done.events)
