"""Staff work through cases, propose and approve what became of orders at providers, and lift halts."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.test import Client as Browser

from apps.accounts.models import User
from apps.doors.schema import CASE, ERROR_ACCOUNT, LEG_SETTLEMENT
from apps.liquidity.models import ErrorFill, LegSettlement, LpCase, LpOrder
from apps.operations.models import AuditEntry, Batch
from tests.fakes.engine import EngineOnPaper
from tests.integration.test_doors_rules import carla, engine, member, send, told
from trading.answers import Answer
from trading.commands import LiftHalt, SettleLeg
from trading.liquidity import Settlement

__all__ = ["carla", "engine"]

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
RIGHT = "settle_orders"
FILLED = {
    "outcome": "filled",
    "quantity": "5000",
    "price": "1.0852",
    "reference": "mail of 12:00",
    "reason": "no answer",
}


@pytest.fixture
def leg(carla: Browser) -> LpOrder:
    return LpOrder.objects.create(
        id=5, order_id=9, account=1, lp="YOFX1", cl_ord_id="T0-5", symbol="EURUSD", lp_symbol="EUR/USD", side="buy",
        volume=Decimal("0.1"), quantity=Decimal(10000), position_id=0, status="working", filled_volume=0, filled_cost=0,
        lp_order_id="", exec_ids=[], text="", epoch=1, expires_at=NOW, created_at=NOW, updated_at=NOW,
    )  # fmt: skip


def case_row(**fields: Any) -> LpCase:
    report = {"cl_ord_id": "T0-5", "kind": "fill"}
    terms = {
        "id": 1,
        "kind": "late_fill",
        "lp": "YOFX1",
        "lp_order_id": 5,
        "report": report,
        "opened_at": NOW,
        **fields,
    }
    return LpCase.objects.create(**terms)


def proposed(browser: Browser, **body: Any) -> dict[str, Any]:
    answer = send(browser, "POST", "staff/provider-orders/T0-5/settlements", {**FILLED, **body})
    assert answer.status_code == 201, answer.content
    return told(answer)


def test_a_case_is_settled_once_with_a_note(leg: LpOrder, carla: Browser) -> None:
    case_row()
    case_row(id=2, kind="unmatched_bust", lp_order_id=0)
    desk = member("desk", RIGHT)
    both = told(send(desk, "GET", "staff/cases"))["data"]
    assert [(case["id"], case["order_ticket"]) for case in both] == [(2, None), (1, leg.order_id)]
    assert set(both[0]) == set(CASE().fields)
    done = told(send(desk, "POST", "staff/cases/1/settle", {"note": "dealt away"}))
    assert (done["is_settled"], done["settled_by"], done["note"]) == (True, "desk", "dealt away")
    assert told(send(desk, "POST", "staff/cases/1/settle", {"note": "again"}))["code"] == "not_found"
    assert [case["id"] for case in told(send(desk, "GET", "staff/cases?settled=false"))["data"]] == [2]
    assert [case["id"] for case in told(send(desk, "GET", "staff/cases?settled=true"))["data"]] == [1]
    assert told(send(desk, "POST", "staff/cases/2/settle", {"note": " "}))["code"] == "invalid_request"
    assert told(send(carla, "GET", "staff/cases"))["code"] == "forbidden"
    assert AuditEntry.objects.filter(action="settle_case").count() == 2


def test_an_order_is_settled_by_two_people(engine: EngineOnPaper, leg: LpOrder) -> None:
    first, second = member("first", RIGHT), member("second", RIGHT)
    leg.filled_volume = Decimal("0.05")
    leg.save()
    asked = proposed(first)
    assert set(asked) == set(LEG_SETTLEMENT().fields)
    assert (asked["status"], asked["quantity"], asked["price"]) == ("proposed", "5000", "1.0852")
    assert asked["filled_volume"] == "0.05"
    leg.filled_volume = Decimal("0.1")
    leg.save()
    alone = send(first, "POST", f"staff/settlements/{asked['id']}/approve")
    assert (alone.status_code, told(alone)["code"]) == (422, "second_person_required")
    assert engine.commands == []
    done = told(send(second, "POST", f"staff/settlements/{asked['id']}/approve"))
    assert (done["status"], done["decided_by"]) == ("approved", "second")
    command = engine.last
    assert isinstance(command, SettleLeg)
    people = [f"staff:{User.objects.get(username=name).pk}" for name in ("first", "second")]
    assert [command.actor, command.approved_by] == people
    said = (command.cl_ord_id, command.outcome, command.quantity, command.price, command.reference)
    assert said == (leg.cl_ord_id, Settlement.FILLED, Decimal(5000), Decimal("1.0852"), "mail of 12:00")
    assert command.filled_volume == Decimal("0.05"), "the engine decides by what the people saw"
    assert told(send(second, "POST", f"staff/settlements/{asked['id']}/approve"))["code"] == "not_found"
    assert told(send(second, "GET", "staff/settlements"))["data"] == [done]


def test_a_settlement_can_be_tried_again_until_the_engine_has_answered(engine: EngineOnPaper, leg: LpOrder) -> None:
    first, second = member("first", RIGHT), member("second", RIGHT)
    number = proposed(first)["id"]
    engine.answers = [None, Answer(command_id="", refusal="order_not_found", detail="it has ended")]
    assert told(send(second, "POST", f"staff/settlements/{number}/approve"))["code"] == "timeout_unknown"
    assert LegSettlement.objects.get().status == "proposed"
    assert told(send(second, "POST", f"staff/settlements/{number}/approve"))["code"] == "order_not_found"
    assert {command.key for command in engine.commands} == {f"settlement/{number}"}
    assert (LegSettlement.objects.get().status, LegSettlement.objects.get().refusal) == ("refused", "order_not_found")


def test_what_was_not_filled_has_no_price_and_a_proposal_can_be_dropped(engine: EngineOnPaper, leg: LpOrder) -> None:
    first = member("first", RIGHT)
    address = "staff/provider-orders/T0-5/settlements"
    asked = told(send(first, "POST", address, {"outcome": "not_filled", "reason": "they say so"}))
    assert (asked["outcome"], asked["quantity"], asked["price"]) == ("not_filled", None, None)
    assert told(send(first, "POST", f"staff/settlements/{asked['id']}/reject"))["status"] == "rejected"
    assert told(send(first, "POST", f"staff/settlements/{asked['id']}/reject"))["code"] == "not_found"
    for wrong in (
        {**FILLED, "outcome": "not_filled"},
        {**FILLED, "quantity": "0"},
        {**FILLED, "price": "NaN"},
        {**FILLED, "reason": " "},
        {**FILLED, "outcome": "perhaps"},
        {"outcome": "filled", "reason": "x"},
    ):
        assert send(first, "POST", address, wrong).status_code == 422, wrong
    leg.status = "filled"
    leg.save()
    assert told(send(first, "POST", address, FILLED))["code"] == "order_not_found"
    assert engine.commands == []


def test_who_lacks_the_right_settles_nothing(engine: EngineOnPaper, leg: LpOrder) -> None:
    clerk = member("clerk")
    for address, body in (
        ("staff/cases/1/settle", {"note": "x"}),
        ("staff/provider-orders/T0-5/settlements", FILLED),
        ("staff/settlements/1/approve", None),
        ("staff/settlements/1/reject", None),
        ("staff/halts/lift", {"lp": "YOFX1", "symbol": "EURUSD"}),
    ):
        assert told(send(clerk, "POST", address, body))["code"] == "forbidden", address
    assert engine.commands == []


def test_the_error_account_is_shown_and_a_halt_lifted(engine: EngineOnPaper, carla: Browser) -> None:
    holding = {"lp": "YOFX1", "symbol": "EURUSD", "volume": "-0.30", "cost": "-0.325", "failures": 2, "retry_us": 5}
    Batch.objects.update(desk={"errors": [holding], "halts": [["YOFX1", "EURUSD"]]})
    if not Batch.objects.exists():
        Batch.objects.create(
            shard=0, seq=1, epoch=1, stream_incarnation="", stream_id="0-0", inbox_cursors={}, config_version=1, counters={},
            outbox_seq=0, desk={"errors": [holding], "halts": [["YOFX1", "EURUSD"]]}, commands=0, inputs=b"", state_hash="",
            at=NOW,
        )  # fmt: skip
    desk = member("desk", RIGHT)
    shown = told(send(desk, "GET", "staff/error-account"))
    assert set(shown) == set(ERROR_ACCOUNT().fields)
    assert shown["holdings"] == [{"lp": "YOFX1", "symbol": "EURUSD", "volume": "-0.30", "cost": "-0.325"}]
    assert shown["halts"] == [{"lp": "YOFX1", "symbol": "EURUSD"}]
    engine.answers = [Answer(command_id="")]
    assert send(desk, "POST", "staff/halts/lift", {"lp": "YOFX1", "symbol": "EURUSD"}).status_code == 200
    command = engine.last
    assert isinstance(command, LiftHalt)
    assert (command.lp, command.symbol) == ("YOFX1", "EURUSD")


def test_the_database_wants_two_people_and_whole_facts(leg: LpOrder) -> None:
    one = User.objects.create_user("one", is_staff=True)
    terms = {"cl_ord_id": leg.cl_ord_id, "proposed_by": one, "reason": "x"}
    for wrong in (
        {"outcome": "not_filled", "status": "approved", "decided_by": one},
        {"outcome": "filled"},
        {"outcome": "filled", "quantity": Decimal(0), "price": Decimal(1)},
        {"outcome": "not_filled", "price": Decimal(1)},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            LegSettlement.objects.create(**terms, **wrong)


def test_the_houses_errors_reconcile_with_what_providers_dealt(leg: LpOrder) -> None:
    """Half a lot came late; 0.3 of it is dealt away by a leg of the house's own."""
    terms = {
        "lp": "YOFX1",
        "symbol": "EURUSD",
        "price": Decimal("1.1"),
        "result": 0,
        "currency": "USD",
        "cost_after": 0,
    }
    for number, side, lots, reason in ((1, "buy", "0.5", "late_fill"), (2, "sell", "0.3", "flattened")):
        ErrorFill.objects.create(
            id=number, side=side, volume=Decimal(lots), reason=reason, volume_after=0, at=NOW, **terms
        )
    leg.order_id, leg.side, leg.filled_volume = 0, "sell", Decimal("0.3")
    leg.save()
    desk = member("desk", RIGHT)
    shown = told(send(desk, "GET", "admin/reconciliation"))
    line = shown["symbols"]["EURUSD"]
    assert (line["errors_at_lps"], line["our_fills_at_lps"]) == ({"YOFX1": "0.20"}, {"YOFX1": "0.20"})
    assert (shown["reconciled"], shown["flat"]) == (True, False)
    ErrorFill.objects.create(id=3, side="buy", volume=Decimal(1), reason="flattened", volume_after=0, at=NOW, **terms)
    assert told(send(desk, "GET", "admin/reconciliation"))["reconciled"] is False
