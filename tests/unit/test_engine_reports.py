"""Reports twice, in any order, and not at all: what is left is what the provider's executions say."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple, replace

from engine.state import State
from tests.support.world import World, leg_of, order_of
from trading.accounts import ClientClass
from trading.commands import ExpireOrders
from trading.events import CaseOpened, ErrorBooked
from trading.ledger import HOUSE_ERROR
from trading.liquidity import CaseKind, LegStatus, LpOrder, ReportKind
from trading.orders import OrderStatus, Side

FILL, CANCELED, REJECTED, STATUS = ReportKind.FILL, ReportKind.CANCELED, ReportKind.REJECTED, ReportKind.STATUS
ACKNOWLEDGED = ReportKind.ACKNOWLEDGED
Report = tuple[ReportKind, dict[str, Any]]


def market() -> World:
    world = World()
    world.open_account(2, group="pro", deposit="100000", leverage=200, client_class=ClientClass.PROFESSIONAL)
    world.price("EURUSD", "1.10000", "1.10010")
    return world


@pytest.fixture
def world() -> World:
    return market()


@pytest.fixture
def leg(world: World) -> LpOrder:
    return leg_of(world.place(2, "EURUSD", Side.BUY, "0.50"))


def cases(world: World) -> list[CaseKind]:
    return [e.case.kind for done in world.executed for e in done.events if isinstance(e, CaseOpened)]


def expire(world: World) -> None:
    name = world.request()
    world.run(ExpireOrders(id=name, key=name))


# --- The same again -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_over", [False, True], ids=["of a live leg", "of an ended one"])
def test_a_repetition_is_quiet(world: World, leg: LpOrder, is_over: bool) -> None:
    world.fill(leg, "1.10010", "50000" if is_over else "20000", exec_id="X1")
    again = world.fill(leg, "1.10010", "50000" if is_over else "20000.00", exec_id="X1")
    assert again.events == []
    assert cases(world) == []


@pytest.mark.parametrize(
    "other",
    [
        {"last_px": Decimal("1.10011")},
        {"last_qty": Decimal(30000)},
        {"side": Side.SELL},
        {"lp_symbol": "GBP/USD"},
        {"cl_ord_id": "T0-99"},
        {"kind": ReportKind.BUST, "exec_ref_id": "X1"},
    ],
    ids=lambda other: next(iter(other)),
)
@pytest.mark.parametrize("is_over", [False, True], ids=["of a live leg", "of an ended one"])
def test_another_thing_under_the_same_exec_id_is_a_conflict(
    world: World, leg: LpOrder, other: dict[str, Any], is_over: bool
) -> None:
    world.fill(leg, "1.10010", "20000", exec_id="X1")
    if is_over:
        world.report(leg, CANCELED, cum_qty=Decimal(20000))
    before = dict(world.state.balances)
    said = {"last_px": Decimal("1.10010"), "last_qty": Decimal(20000), "exec_id": "X1", **other}
    world.report(leg, said.pop("kind", FILL), **said)
    assert cases(world) == [CaseKind.CONFLICTING_FILL]
    assert world.positions(2)[0].volume == Decimal("0.2")
    assert world.state.desk.errors == ()
    assert world.state.balances == before


def test_the_next_day_the_same_exec_id_is_another_fill(world: World, leg: LpOrder) -> None:
    world.fill(leg, "1.10010", "20000", exec_id="X1")
    world.fill(leg, "1.10010", "20000", exec_id="X1", trade_date="20260106")
    assert world.positions(2)[0].volume == Decimal("0.4")


def test_another_provider_has_exec_ids_of_its_own(world: World, leg: LpOrder) -> None:
    world.fill(leg, "1.10010", exec_id="X1")
    second = leg_of(world.place(2, "EURUSD", Side.BUY, "0.50"))
    other = "PRIMEXM" if leg.lp == "YOFX1" else "YOFX1"
    world.report(second, REJECTED, text="no")
    third = next(iter(world.state.legs.values()))
    assert third.lp == other
    world.fill(third, "1.10010", exec_id="X1")
    assert sum(position.volume for position in world.positions(2)) == Decimal(1)


def test_a_provider_cannot_fill_another_providers_order(world: World, leg: LpOrder) -> None:
    other = "PRIMEXM" if leg.lp == "YOFX1" else "YOFX1"
    world.fill(replace(leg, lp=other, lp_symbol="EURUSD" if other == "PRIMEXM" else "EUR/USD"), "1.10010")
    assert world.positions(2) == []
    assert cases(world) == [CaseKind.ORPHAN_REPORT]


# --- Gaps ---------------------------------------------------------------------------------------------------------------


def test_an_end_waits_for_the_fills_that_it_counts(world: World, leg: LpOrder) -> None:
    world.report(leg, CANCELED, cum_qty=Decimal(30000), text="no more")
    waiting = world.state.legs[leg.cl_ord_id]
    assert (waiting.told_end, waiting.missing, waiting.status) == (
        LegStatus.CANCELED,
        Decimal("0.3"),
        LegStatus.WORKING,
    )
    world.fill(leg, "1.10010", "10000", cum_qty=Decimal(10000))
    assert leg.cl_ord_id in world.state.legs
    done = world.fill(leg, "1.10011", "20000", cum_qty=Decimal(30000))
    assert leg.cl_ord_id not in world.state.legs
    assert (order_of(done).status, order_of(done).filled_volume) == (OrderStatus.CANCELED, Decimal("0.3"))
    assert world.state.desk.errors == ()
    assert cases(world) == []


def test_a_gap_that_lasts_becomes_one_case(world: World, leg: LpOrder) -> None:
    world.report(leg, STATUS, exec_id="0", ord_status="1", cum_qty=Decimal(20000))
    world.wait(59)
    expire(world)
    assert cases(world) == []
    world.wait(1)
    expire(world)
    world.report(leg, STATUS, exec_id="0", ord_status="1", cum_qty=Decimal(20000))
    expire(world)
    assert cases(world) == [CaseKind.MISSED_FILL]
    assert leg.cl_ord_id in world.state.legs


def test_a_later_report_notices_the_gap_too(world: World, leg: LpOrder) -> None:
    world.report(leg, CANCELED, cum_qty=Decimal(20000))
    world.wait(61)
    world.report(leg, STATUS, exec_id="0", ord_status="4", cum_qty=Decimal(20000))
    assert cases(world) == [CaseKind.MISSED_FILL]


def test_a_gap_that_closes_is_forgotten(world: World, leg: LpOrder) -> None:
    world.report(leg, STATUS, exec_id="0", ord_status="1", cum_qty=Decimal(20000))
    world.wait(30)
    world.fill(leg, "1.10010", "20000")
    world.wait(40)
    expire(world)
    assert cases(world) == []
    assert world.state.legs[leg.cl_ord_id].gap_us == 0


def test_a_status_that_tells_of_an_end_with_less_than_was_dealt_is_not_believed(world: World, leg: LpOrder) -> None:
    world.fill(leg, "1.10010", "20000")
    for _ in range(2):
        world.report(leg, STATUS, exec_id="0", ord_status="4", cum_qty=Decimal(10000))
    assert cases(world) == [CaseKind.STATUS_MISMATCH]
    assert leg.cl_ord_id in world.state.legs


# --- Any order ----------------------------------------------------------------------------------------------------------


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Report], list[Report], bool]:
    """(what a provider says about one order, the same shuffled, whether the order closes a position). At most six reports."""
    parts = draw(st.lists(st.sampled_from([5_000, 10_000, 13_000, 16_000]), max_size=3))
    is_whole = draw(st.booleans()) and bool(parts)
    if is_whole:
        parts[-1] += 50_000 - sum(parts)
    said: list[Report] = []
    cum = 0
    for number, part in enumerate(parts):
        cum += part
        price = Decimal("1.10010") + Decimal(draw(st.integers(-30, 30))) / 100_000
        said.append(
            (FILL, {"exec_id": f"F{number}", "last_qty": Decimal(part), "last_px": price, "cum_qty": Decimal(cum)})
        )
    if not is_whole:
        kind, status = draw(
            st.sampled_from([(CANCELED, "4"), (STATUS, "4"), (STATUS, "C")] if parts else [(REJECTED, "8")])
        )
        said.append((kind, {"exec_id": "0", "ord_status": status, "cum_qty": Decimal(cum), "text": "over"}))
    extra: list[Report] = [(ACKNOWLEDGED, {"exec_id": "A"})]
    if parts:
        extra.append(draw(st.sampled_from(said)))
        some = said[draw(st.integers(0, len(parts) - 1))][1]["cum_qty"]
        extra.append((STATUS, {"exec_id": "0", "ord_status": "1", "cum_qty": some}))
    said = [*draw(st.permutations(extra))[: 6 - len(said)], *said]
    return said, draw(st.permutations(said)), draw(st.booleans())


def play(reports: list[Report], *, closes: bool) -> World:
    world = market()
    if closes:
        world.fill(leg_of(world.place(2, "EURUSD", Side.SELL, "0.50")), "1.10000", exec_id="opened")
        leg = leg_of(world.close(2, world.positions(2)[0].id))
    else:
        leg = leg_of(world.place(2, "EURUSD", Side.BUY, "0.50"))
    for kind, fields in reports:
        world.report(leg, kind, **{"lp_order_id": "O1", **fields})
    return world


def outcome(world: World) -> dict[str, object]:
    """Everything that is left, without the times and numbers that tell the order of arrival."""
    state: State = world.state
    legs = [replace(leg, updated_us=0, gap_us=0, exec_ids=tuple(sorted(leg.exec_ids))) for leg in world.legs.values()]
    orders = {
        e.order.id: replace(e.order, updated_us=0)
        for done in world.executed
        for e in done.events
        if hasattr(e, "order")
    }
    return {
        "legs": [astuple(leg) for leg in legs],
        "orders": [astuple(order) for order in orders.values()],
        "positions": [astuple(replace(p, updated_us=0, opened_us=0, rolled_us=0)) for p in state.positions.values()],
        "balances": {place: amount for place, amount in state.balances.items() if amount},
        "errors": state.desk.errors,
        "margin": state.margin_used(2),
    }


@settings(max_examples=150, deadline=None)
@given(story=stories())
def test_the_same_reports_in_any_order_leave_the_same(story: tuple[list[Report], list[Report], bool]) -> None:
    straight, shuffled, closes = story
    expected = outcome(play(straight, closes=closes))
    assert outcome(play(shuffled, closes=closes)) == expected
    assert expected["errors"] == ()
    assert not any(isinstance(e, ErrorBooked) for done in play(shuffled, closes=closes).executed for e in done.events)
    assert not any(account == HOUSE_ERROR for account, _ in play(straight, closes=closes).state.balances)
