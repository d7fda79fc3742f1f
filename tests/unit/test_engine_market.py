"""Orders with a part at a provider: A and C books, partial fills, rejects, silence, and what never reaches a client."""

from decimal import Decimal

import pytest

from tests.support.world import World, leg_of, order_of, refusal_of
from trading.accounts import ClientClass
from trading.events import CaseOpened
from trading.liquidity import CaseKind, ReportKind
from trading.orders import Book, OrderStatus, Side


@pytest.fixture
def world() -> World:
    world = World()
    world.open_account(1, group="retail", deposit="100000", leverage=30)
    world.open_account(2, group="pro", deposit="100000", leverage=200, client_class=ClientClass.PROFESSIONAL)
    world.price("EURUSD", "1.10000", "1.10010")
    return world


def cases(world: World) -> list[CaseKind]:
    return [e.case.kind for done in world.executed for e in done.events if isinstance(e, CaseOpened)]


def test_a_professionals_order_goes_to_the_market_and_waits(world: World) -> None:
    done = world.place(2, "EURUSD", Side.BUY, "0.50")
    order, leg = order_of(done), leg_of(done)
    assert (order.status, order.book) == (OrderStatus.PENDING_NEW, Book.A)
    assert (leg.quantity, leg.side, leg.position_id) == (Decimal("50000.00"), Side.BUY, 0)
    assert not done.answers[0][1].final
    assert world.positions(2) == []


def test_the_fill_is_told_as_the_final_answer_at_the_providers_price_and_markup(world: World) -> None:
    leg = leg_of(world.place(1, "EURUSD", Side.BUY, "1.00"))
    done = world.fill(leg, "1.10011")
    ((_, answer),) = done.answers
    assert answer.final
    assert answer.order is not None
    assert answer.order.status is OrderStatus.FILLED
    assert {deal.price for deal in world.deals()} == {Decimal("1.10013")}


def test_a_shared_order_is_dealt_in_both_books_in_proportion(world: World) -> None:
    leg = leg_of(world.place(1, "EURUSD", Side.BUY, "1.00"))  # rule: 60 % to the market from one lot
    assert leg.volume == Decimal("0.60")
    world.fill(leg, "1.10010", "30000")
    assert {(d.book, d.volume) for d in world.deals()} == {(Book.A, Decimal("0.3")), (Book.B, Decimal("0.20"))}
    world.fill(leg, "1.10012", "30000")
    (position,) = world.positions(1)
    assert (position.volume, position.volume_a, position.lp) == (Decimal("1.00"), Decimal("0.60"), leg.lp)
    assert order_of(world.executed[-1]).status is OrderStatus.FILLED


def test_margin_is_held_while_the_order_is_in_flight(world: World) -> None:
    done = world.place(2, "EURUSD", Side.BUY, "0.50")
    held = world.state.margin_used(2)
    assert held > 0
    world.report(leg_of(done), ReportKind.REJECTED, text="no")
    leg = next(iter(world.state.legs.values()))
    world.report(leg, ReportKind.REJECTED, text="no")
    assert world.state.margin_used(2) == 0


def test_a_rejection_is_taken_to_the_next_provider_and_then_to_the_client(world: World) -> None:
    first = world.place(2, "EURUSD", Side.BUY, "0.50")
    second = world.report(leg_of(first), ReportKind.REJECTED, text="last look")
    assert {leg_of(first).lp, leg_of(second).lp} == {"YOFX1", "PRIMEXM"}
    last = world.report(leg_of(second), ReportKind.REJECTED, text="last look")
    order = order_of(last)
    assert (order.status, order.refusal) == (OrderStatus.REJECTED, "rejected_by_lp")
    assert world.positions(2) == []


def test_what_was_never_sent_is_tried_elsewhere_too(world: World) -> None:
    first = world.place(2, "EURUSD", Side.BUY, "0.50")
    second = world.report(leg_of(first), ReportKind.NOT_SENT, exec_id="", text="no session")
    assert leg_of(second).lp != leg_of(first).lp


def test_a_partly_filled_order_ends_cancelled_with_what_it_got(world: World) -> None:
    leg = leg_of(world.place(2, "EURUSD", Side.BUY, "0.50"))
    world.fill(leg, "1.10010", "20000")
    order = order_of(world.report(leg, ReportKind.CANCELED))
    assert (order.status, order.filled_volume) == (OrderStatus.CANCELED, Decimal("0.2"))
    assert world.positions(2)[0].volume == Decimal("0.2")
    assert world.state.margin_used(1) == 0


def test_without_a_provider_the_order_is_refused_before_anything_is_booked(world: World) -> None:
    world.price("EURUSD", "1.10000", "1.10010", lps=())
    done = world.place(2, "EURUSD", Side.BUY, "0.50")
    assert refusal_of(done) == "no_connection"
    assert world.state.legs == {}


def test_a_close_goes_back_to_the_provider_that_opened_it_whatever_the_policy_says(world: World) -> None:
    leg = leg_of(world.place(2, "EURUSD", Side.BUY, "0.50"))
    world.fill(leg, "1.10010")
    world.price("EURUSD", "1.10100", "1.10110")
    position = world.positions(2)[0]
    partial = leg_of(world.close(2, position.id, "0.20"))
    assert (partial.lp, partial.side, partial.position_id) == (leg.lp, Side.SELL, position.id)
    world.fill(partial, "1.10100")
    world.fill(leg_of(world.close(2, position.id)), "1.10100")
    assert world.positions(2) == []
    assert set(world.lp_net().values()) == {Decimal(0)}


def test_volume_in_a_pending_close_cannot_be_closed_twice(world: World) -> None:
    world.fill(leg_of(world.place(2, "EURUSD", Side.BUY, "0.50")), "1.10010")
    position = world.positions(2)[0].id
    pending = leg_of(world.close(2, position, "0.40"))
    assert refusal_of(world.close(2, position, "0.20")) == "close_order_exists"
    world.report(pending, ReportKind.REJECTED, text="no")
    assert world.positions(2)[0].locked == 0
    assert refusal_of(world.close(2, position, "0.50")) == ""


def test_a_close_that_its_provider_rejects_goes_nowhere_else(world: World) -> None:
    world.fill(leg_of(world.place(2, "EURUSD", Side.BUY, "0.50")), "1.10010")
    pending = leg_of(world.close(2, world.positions(2)[0].id))
    done = world.report(pending, ReportKind.REJECTED, text="no")
    assert order_of(done).status is OrderStatus.REJECTED
    assert world.state.legs == {}
    assert world.positions(2)[0].volume == Decimal("0.50")


def test_the_house_keeps_the_markup_and_the_lp_account_the_markets_result(world: World) -> None:
    leg = leg_of(world.place(1, "EURUSD", Side.BUY, "1.00"))
    world.fill(leg, "1.10010")  # client 1.10012
    world.price("EURUSD", "1.10100", "1.10110")
    world.fill(leg_of(world.close(1, world.positions(1)[0].id)), "1.10100")  # client 1.10098
    # The client won 86 points on 0.60 lots in book A, we won 90 from the provider: the house keeps 4.
    assert world.state.balances["lp:" + leg.lp, "USD"] == Decimal("-54.00")
    assert world.state.balances["house:pnl:A", "USD"] == Decimal("2.40")
    assert set(world.ledger_sums().values()) == {Decimal(0)}


def test_the_same_fill_is_booked_once(world: World) -> None:
    leg = leg_of(world.place(2, "EURUSD", Side.BUY, "0.50"))
    world.fill(leg, "1.10010", "20000", exec_id="X1")
    again = world.fill(leg, "1.10010", "20000", exec_id="X1")
    assert again.events == []
    assert world.positions(2)[0].volume == Decimal("0.2")


def test_excess_beyond_the_order_is_the_houses_case_not_the_clients(world: World) -> None:
    leg = leg_of(world.place(2, "EURUSD", Side.BUY, "0.50"))
    world.fill(leg, "1.10010", "70000")
    assert world.positions(2)[0].volume == Decimal("0.50")
    assert cases(world) == [CaseKind.EXCESS_FILL]


@pytest.mark.parametrize("wrong", [{"side": Side.SELL}, {"lp_symbol": "GBP/USD"}, {"last_qty": Decimal(-1)}])
def test_a_fill_of_something_else_is_not_booked(world: World, wrong: dict[str, object]) -> None:
    leg = leg_of(world.place(2, "EURUSD", Side.BUY, "0.50"))
    world.report(leg, ReportKind.FILL, **{"last_px": Decimal("1.1"), "last_qty": Decimal(1000), **wrong})
    assert world.positions(2) == []
    assert cases(world) == [CaseKind.MISMATCHED_FILL]


def test_reports_about_unknown_orders_become_cases(world: World) -> None:
    leg = leg_of(world.place(2, "EURUSD", Side.BUY, "0.50"))
    world.fill(leg, "1.10010", cl_ord_id="T0-999")
    assert cases(world) == [CaseKind.ORPHAN_REPORT]
    assert world.positions(2) == []


def test_a_status_answer_is_compared_and_never_booked(world: World) -> None:
    leg = leg_of(world.place(2, "EURUSD", Side.BUY, "0.50"))
    world.report(leg, ReportKind.STATUS, exec_id="0", cum_qty=Decimal(20000), ord_status="1")
    world.report(leg, ReportKind.STATUS, exec_id="0", ord_status="0")
    assert world.positions(2) == []
    assert leg.cl_ord_id in world.state.legs


def test_a_denied_order_ends_and_a_dealer_hears_of_it(world: World) -> None:
    leg = leg_of(world.place(2, "EURUSD", Side.BUY, "0.50"))
    denied = world.report(leg, ReportKind.REJECTED, exec_id="0", ord_rej_reason="5", text="never had it")
    assert leg_of(denied).lp != leg.lp
    assert cases(world) == [CaseKind.STATUS_MISMATCH]
    world.fill(leg, "1.10010")
    assert world.positions(2) == []
    assert cases(world)[1:] == [CaseKind.LATE_FILL]


def test_silence_is_not_a_rejection(world: World) -> None:
    leg = leg_of(world.place(2, "EURUSD", Side.BUY, "0.50"))
    world.wait(3600)
    world.price("EURUSD", "1.15000", "1.15010")
    world.fill(leg, "1.10010")
    assert world.positions(2)[0].open_price == Decimal("1.10010")
