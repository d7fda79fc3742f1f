"""Cases about providers, the house's error account and orders that nobody can explain, over the API, for staff."""

from decimal import Decimal
from typing import Any

from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.access import caller_of
from apps.doors.idempotency import once
from apps.doors.parsing import SYMBOL, WHOLE, Fields
from apps.doors.problems import Problem
from apps.doors.schema import (
    CASE,
    CASE_REQUEST,
    CASES,
    DONE,
    ERROR_ACCOUNT,
    IDEMPOTENCY_KEY,
    LEG_SETTLEMENT,
    LEG_SETTLEMENT_REQUEST,
    LEG_SETTLEMENTS,
    LIFT_REQUEST,
    PROBLEMS,
    query,
)
from apps.operations import settlements
from apps.operations.api import StaffView, record
from apps.operations.staff import AMOUNT_MAX, SHARD, CommandView
from trading.commands import LiftHalt
from trading.liquidity import Settlement
from trading.numbers import plain
from trading.refusals import Refusal

RIGHT = "liquidity.settle_orders"
LP_NAME_MAX = 30


class CasesView(StaffView):
    """What providers said that a dealer must look at."""

    action = "read_cases"

    @extend_schema(
        operation_id="staff_list_cases",
        parameters=[query("settled", "only these; all without it", enum=["true", "false"])],
        responses={200: CASES, **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        fields = Fields(request.query_params, known=("settled",))
        settled = fields.choice("settled", ["true", "false", ""], default="")
        fields.done()
        record(request, self.action, {"settled": settled})
        return Response({"data": settlements.newest_cases(is_settled={"true": True, "false": False}.get(settled))})


class SettleCaseView(StaffView):
    """Close a case with a note about what was done."""

    action = "settle_case"
    right = RIGHT

    @extend_schema(operation_id="staff_settle_case", request=CASE_REQUEST, responses={200: CASE, **PROBLEMS})
    def post(self, request: Request, case: str) -> Response:
        number = _number(case)
        fields = Fields(request.data, known=("note",))
        note = fields.text("note", length_max=500)
        if not note.strip():
            fields.error("note", "Say what was done.")
        fields.done()
        record(request, self.action, {"case": number, "note": note})
        return Response(settlements.settle_case(number=number, note=note, by=caller_of(request)))


class ErrorAccountView(StaffView):
    """What the house holds by mistake, and where nothing is opened."""

    action = "read_error_account"

    @extend_schema(operation_id="staff_get_error_account", responses={200: ERROR_ACCOUNT, **PROBLEMS})
    def get(self, request: Request) -> Response:
        record(request, self.action, {})
        return Response(settlements.error_account(SHARD))


class LiftHaltView(CommandView):
    """Open in a symbol at a provider again, after looking at what went wrong there."""

    action = "lift_halt"
    right = RIGHT

    @extend_schema(
        operation_id="staff_lift_halt",
        request=LIFT_REQUEST,
        parameters=[IDEMPOTENCY_KEY],
        responses={200: DONE, **PROBLEMS},
    )
    def post(self, request: Request) -> HttpResponseBase:
        fields = Fields(request.data, known=("lp", "symbol"))
        lp = fields.text("lp", length_max=LP_NAME_MAX)
        symbol = fields.text("symbol", pattern=SYMBOL, length_max=20)
        fields.done()
        return self.carry_out(request, lambda shared: LiftHalt(**shared, lp=lp, symbol=symbol), keyed=False)


class SettlementsView(StaffView):
    """What was proposed about orders at providers, and what became of it."""

    action = "read_settlements"

    @extend_schema(operation_id="staff_list_order_settlements", responses={200: LEG_SETTLEMENTS, **PROBLEMS})
    def get(self, request: Request) -> Response:
        record(request, self.action, {})
        return Response({"data": settlements.newest()})


class ProposeSettlementView(StaffView):
    """Say what became of an order that a provider does not explain. Somebody else approves it."""

    action = "propose_settlement"
    right = RIGHT

    @extend_schema(
        operation_id="staff_propose_order_settlement",
        request=LEG_SETTLEMENT_REQUEST,
        parameters=[IDEMPOTENCY_KEY],
        responses={201: LEG_SETTLEMENT, **PROBLEMS},
    )
    def post(self, request: Request, cl_ord_id: str) -> HttpResponseBase:
        return once(request, lambda: self._proposed(request, cl_ord_id))

    def _proposed(self, request: Request, cl_ord_id: str) -> Response:
        fields = Fields(request.data, known=("outcome", "quantity", "price", "reference", "reason"))
        outcome = Settlement(fields.choice("outcome", [one.value for one in Settlement]) or Settlement.NOT_FILLED.value)
        is_filled = outcome is Settlement.FILLED
        said: dict[str, Any] = {
            "quantity": _positive(fields, "quantity", Refusal.INVALID_VOLUME) if is_filled else None,
            "price": _positive(fields, "price", Refusal.INVALID_PRICE) if is_filled else None,
            "reference": fields.text("reference", length_max=100, default=None if is_filled else ""),
            "reason": fields.text("reason", length_max=200),
        }
        if not is_filled and (fields.has("quantity") or fields.has("price")):
            fields.error("quantity", "What was not filled has no quantity and no price.")
        if not said["reason"].strip():
            fields.error("reason", "Say why.")
        fields.done()
        named = cl_ord_id[:64]
        asked = {name: plain(value) if isinstance(value, Decimal) else value for name, value in said.items()}
        record(request, self.action, {"cl_ord_id": named, "outcome": outcome.value, **asked})
        row = settlements.propose(cl_ord_id=named, outcome=outcome, by=caller_of(request), **said)
        return Response(settlements.settlement_shape(row), status=201)


class ApproveSettlementView(StaffView):
    """Carry out what somebody else proposed."""

    action = "approve_settlement"
    right = RIGHT

    @extend_schema(
        operation_id="staff_approve_order_settlement", request=None, responses={200: LEG_SETTLEMENT, **PROBLEMS}
    )
    def post(self, request: Request, settlement: str) -> Response:
        number = _number(settlement)
        record(request, self.action, {"settlement": number})
        try:
            row = settlements.approve(number=number, by=caller_of(request))
        except Problem as problem:
            outcome = "unknown" if problem.code is Refusal.TIMEOUT_UNKNOWN else "refused"
            record(request, f"{self.action}:{outcome}", {"settlement": number, "code": problem.code.value})
            raise
        record(request, f"{self.action}:done", {"settlement": number, "cl_ord_id": row.cl_ord_id})
        return Response(settlements.settlement_shape(row))


class RejectSettlementView(StaffView):
    """Drop what was proposed."""

    action = "reject_settlement"
    right = RIGHT

    @extend_schema(
        operation_id="staff_reject_order_settlement", request=None, responses={200: LEG_SETTLEMENT, **PROBLEMS}
    )
    def post(self, request: Request, settlement: str) -> Response:
        number = _number(settlement)
        record(request, self.action, {"settlement": number})
        return Response(settlements.settlement_shape(settlements.reject(number=number, by=caller_of(request))))


def _number(text: str) -> int:
    if not WHOLE.fullmatch(text):
        raise Problem(Refusal.NOT_FOUND)
    return int(text)


def _positive(fields: Fields, name: str, code: Refusal) -> Decimal:
    value = fields.decimal(name, code)
    if not 0 < value <= AMOUNT_MAX:
        fields.error(name, "Must be positive and at most a billion.", code)
    return value
