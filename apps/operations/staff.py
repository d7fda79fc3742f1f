"""What staff do to accounts, symbols and deals over the API: each is one command, with audit entries before and after it.

The first entry is written before the command is sent, so that nothing is done without a record of who asked.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, ClassVar

import msgspec
from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.access import account_row, caller_of
from apps.doors.commands import carried_out
from apps.doors.idempotency import command_key, key_of, once
from apps.doors.ids import uuid7
from apps.doors.parsing import SYMBOL, WHOLE, Fields
from apps.doors.problems import Problem
from apps.doors.schema import (
    ACCOUNT_CHANGES,
    ALERTS,
    CORRECTION,
    CORRECTION_REQUEST,
    CORRECTIONS,
    DIVIDEND_REQUEST,
    DONE,
    EFFECTIVE_TERMS,
    EXPIRY_REQUEST,
    IDEMPOTENCY_KEY,
    IDEMPOTENCY_KEY_REQUIRED,
    MOVEMENT_REQUEST,
    PROBLEMS,
    SETTLEMENT_REQUEST,
    SPLIT_REQUEST,
    SWITCH_REQUEST,
    SWITCHES,
    WITHDRAWALS,
    query,
)
from apps.ledger.queries import open_withdrawals
from apps.operations import corrections
from apps.operations.alerts import standing_alerts
from apps.operations.api import StaffView, record
from apps.operations.effective import Question, effective_terms
from apps.operations.queries import newest_desk
from apps.published import current_config
from apps.times import micros
from trading.accounts import ClientClass, Rights
from trading.commands import (
    Adjust,
    AnyCommand,
    ChangeAccount,
    ExpireInstrument,
    GrantBonus,
    GrantCredit,
    PayDividend,
    SetSwitch,
    SettleWithdrawal,
    SplitInstrument,
    SwitchScope,
)
from trading.numbers import plain
from trading.refusals import Refusal

UNSURE = "Send the same request with the same Idempotency-Key: it is carried out only once."
SHARD = 0
Post = Callable[..., HttpResponseBase]
AMOUNT_MAX = Decimal(10) ** 9
RATIO_MAX = 10_000
LEVERAGE_MAX = 1000


class CommandView(StaffView):
    """A view whose POST is one command under an Idempotency-Key."""

    bucket: ClassVar[str | None] = "other"

    def carry_out(
        self, request: Request, make: Callable[[dict[str, Any]], AnyCommand], *, keyed: bool
    ) -> HttpResponseBase:
        """Make the command of what every command has in common, send it, answer what came of it."""
        key = key_of(request, required=keyed)
        request_id = str(uuid7())
        shared = {
            "id": request_id,
            "key": f"staff/{command_key(request, key) if key else request_id}",
            "actor": f"staff:{caller_of(request).pk}",
        }
        return once(request, lambda: self._done(request, make(shared)), required=keyed)

    def _done(self, request: Request, command: AnyCommand) -> Response:
        asked = _asked(command)
        record(request, self.action, asked)
        try:
            answer = carried_out(command, unsure=UNSURE)
        except Problem as problem:
            record(request, f"{self.action}:{_outcome(problem)}", {**asked, "code": problem.code.value})
            raise
        changed = not answer.refusal
        record(request, f"{self.action}:done", {**asked, "reference": answer.reference, "changed": changed})
        return Response({"reference": answer.reference, "changed": changed})


def _outcome(problem: Problem) -> str:
    return "unknown" if problem.code is Refusal.TIMEOUT_UNKNOWN else "refused"


def _asked(command: AnyCommand) -> dict[str, Any]:
    """The command's own fields, as an audit entry keeps them."""
    skipped = {"id", "reply_to", "valid_until_us", "actor"}
    said = {name: getattr(command, name) for name in command.__struct_fields__ if name not in skipped}
    return {
        name: plain(value) if isinstance(value, Decimal) else value for name, value in said.items() if value is not None
    }


# --- money ---------------------------------------------------------------------------------------------------------------


class OpenWithdrawalsView(StaffView):
    """Withdrawals that wait to be paid or given back, oldest first."""

    action = "read_withdrawals"

    @extend_schema(operation_id="staff_list_withdrawals", responses={200: WITHDRAWALS, **PROBLEMS})
    def get(self, request: Request) -> Response:
        record(request, self.action, {})
        return Response({"data": open_withdrawals(current_config())})


class SettleWithdrawalView(CommandView):
    """Say that a withdrawal was paid, or give the money back."""

    action = "settle_withdrawal"
    right = "operations.move_money"

    @extend_schema(
        operation_id="staff_settle_withdrawal",
        request=SETTLEMENT_REQUEST,
        parameters=[IDEMPOTENCY_KEY_REQUIRED],
        responses={200: DONE, **PROBLEMS},
    )
    def post(self, request: Request, account: str, transaction: str) -> HttpResponseBase:
        fields = Fields(request.data, known=("is_paid", "reference"))
        is_paid = fields.flag("is_paid")
        reference = fields.text("reference", default="")
        fields.done()
        number = _number(transaction, Refusal.WITHDRAWAL_NOT_FOUND)
        whose = _account(account)
        return self.carry_out(
            request,
            lambda shared: SettleWithdrawal(
                **shared, account=whose, transaction_id=number, is_paid=is_paid, reference=reference
            ),
            keyed=True,
        )


class MovementView(CommandView):
    """An amount on one account, with a reason."""

    right = "operations.move_money"
    command: ClassVar[type[Adjust | GrantCredit | GrantBonus]]

    def move(self, request: Request, account: str) -> HttpResponseBase:
        fields = Fields(request.data, known=("amount", "reference"))
        amount = fields.decimal("amount", Refusal.INVALID_AMOUNT)
        if not 0 < abs(amount) <= AMOUNT_MAX or (amount < 0 and self.command is GrantBonus):
            fields.error("amount", "An amount other than zero; a bonus is above it.", Refusal.INVALID_AMOUNT)
        is_explained = self.command is Adjust
        reference = fields.text("reference", default=None if is_explained else "")
        if is_explained and not reference.strip():
            fields.error("reference", "Say why.")
        fields.done()
        whose = _account(account)
        return self.carry_out(
            request,
            lambda shared: self.command(**shared, account=whose, amount=amount, reference=reference),
            keyed=True,
        )


def _movement(operation_id: str) -> Callable[[Post], Post]:
    """The documentation that the movements share."""
    documented: Callable[[Post], Post] = extend_schema(
        operation_id=operation_id,
        request=MOVEMENT_REQUEST,
        parameters=[IDEMPOTENCY_KEY_REQUIRED],
        responses={200: DONE, **PROBLEMS},
    )
    return documented


class AdjustView(MovementView):
    """Correct a client's cash, up or down. The reference says why."""

    action = "adjust"
    command = Adjust

    @_movement("staff_adjust")
    def post(self, request: Request, account: str) -> HttpResponseBase:
        return self.move(request, account)


class CreditView(MovementView):
    """Give credit, or take it back with an amount below zero."""

    action = "grant_credit"
    command = GrantCredit

    @_movement("staff_grant_credit")
    def post(self, request: Request, account: str) -> HttpResponseBase:
        return self.move(request, account)


class BonusView(MovementView):
    """Give money of the house's into the client's cash."""

    action = "grant_bonus"
    command = GrantBonus

    @_movement("staff_grant_bonus")
    def post(self, request: Request, account: str) -> HttpResponseBase:
        return self.move(request, account)


# --- accounts and switches -----------------------------------------------------------------------------------------------


class StaffAccountView(CommandView):
    """New terms for an account; what is absent stays."""

    action = "change_account"
    right = "operations.manage_accounts"

    @extend_schema(
        operation_id="staff_change_account",
        request=ACCOUNT_CHANGES,
        parameters=[IDEMPOTENCY_KEY],
        responses={200: DONE, **PROBLEMS},
    )
    def patch(self, request: Request, account: str) -> HttpResponseBase:
        changes = _account_changes(request)
        whose = _account(account)
        return self.carry_out(request, lambda shared: ChangeAccount(**shared, account=whose, **changes), keyed=False)


def _account_changes(request: Request) -> dict[str, Any]:
    names = ("group", "leverage", "rights", "client_class", "jurisdiction", "stp_only")
    fields = Fields(request.data, known=names)
    readers: dict[str, Callable[[], Any]] = {
        "group": lambda: fields.text("group", length_max=50),
        "leverage": lambda: fields.whole("leverage", least=1, most=LEVERAGE_MAX),
        "rights": lambda: Rights(fields.choice("rights", [one.value for one in Rights])),
        "client_class": lambda: ClientClass(fields.choice("client_class", [one.value for one in ClientClass])),
        "jurisdiction": lambda: _jurisdiction(fields),
        "stp_only": lambda: fields.flag("stp_only"),
    }
    changes = {name: read() for name, read in readers.items() if fields.given(name)}
    fields.done()
    if not changes:
        raise Problem(Refusal.INVALID_REQUEST, "Say what is to be different.")
    return changes


def _jurisdiction(fields: Fields) -> str:
    """One that a rule was written for, or none: nobody loses protection by a typing error."""
    named = fields.text("jurisdiction", length_max=20)
    known = {rule.jurisdiction for rule in current_config().regulation}
    if named and named not in known:
        fields.error("jurisdiction", f"One of: {', '.join(sorted(known))}; or empty.")
    return named


class SwitchesView(CommandView):
    """Where new risk is stopped: of everybody, in one symbol, of one account, at one provider. Closing is always possible."""

    action = "set_switch"
    right = "operations.stop_trading"

    @extend_schema(operation_id="staff_get_switches", responses={200: SWITCHES, **PROBLEMS})
    def get(self, request: Request) -> Response:
        record(request, "read_switches", {})
        return Response(msgspec.structs.asdict(newest_desk(SHARD).switches))

    @extend_schema(
        operation_id="staff_set_switch",
        request=SWITCH_REQUEST,
        parameters=[IDEMPOTENCY_KEY],
        responses={200: DONE, **PROBLEMS},
    )
    def post(self, request: Request) -> HttpResponseBase:
        fields = Fields(request.data, known=("scope", "target", "stops"))
        scope = SwitchScope(fields.choice("scope", [one.value for one in SwitchScope]))
        target = fields.text("target", length_max=20, default="")
        stops = fields.flag("stops")
        if (scope is SwitchScope.FIRM) is bool(target):
            fields.error("target", "A symbol, an account's number or a provider; nothing for the firm.")
        if scope is SwitchScope.ACCOUNT and target and not WHOLE.fullmatch(target):
            fields.error("target", "An account's number.")
        fields.done()
        return self.carry_out(
            request, lambda shared: SetSwitch(**shared, scope=scope, target=target, stops=stops), keyed=False
        )


class AlertsView(StaffView):
    """What a person should know of now, the worst first."""

    action = "read_alerts"

    @extend_schema(operation_id="staff_list_alerts", responses={200: ALERTS, **PROBLEMS})
    def get(self, request: Request) -> Response:
        record(request, self.action, {})
        return Response({"data": standing_alerts()})


# --- corporate events ----------------------------------------------------------------------------------------------------


class EventView(CommandView):
    right = "operations.carry_out_events"


class DividendView(EventView):
    """A dividend (or interest) adjustment on every position of a symbol."""

    action = "pay_dividend"

    @extend_schema(
        operation_id="staff_pay_dividend",
        request=DIVIDEND_REQUEST,
        parameters=[IDEMPOTENCY_KEY_REQUIRED],
        responses={200: DONE, **PROBLEMS},
    )
    def post(self, request: Request) -> HttpResponseBase:
        fields = Fields(request.data, known=("symbol", "long_per_unit", "short_per_unit", "ex_at", "reference"))
        said: dict[str, Any] = {
            "symbol": _symbol(fields),
            "long_per_unit": fields.decimal("long_per_unit", Refusal.INVALID_AMOUNT),
            "short_per_unit": fields.decimal("short_per_unit", Refusal.INVALID_AMOUNT),
            "ex_us": micros(fields.moment("ex_at", Refusal.INVALID_REQUEST)),
            "reference": fields.text("reference", default=""),
        }
        fields.done()
        return self.carry_out(request, lambda shared: PayDividend(**shared, **said), keyed=True)


class SplitView(EventView):
    """`new` units for `old` ones."""

    action = "split_instrument"

    @extend_schema(
        operation_id="staff_split_instrument",
        request=SPLIT_REQUEST,
        parameters=[IDEMPOTENCY_KEY_REQUIRED],
        responses={200: DONE, **PROBLEMS},
    )
    def post(self, request: Request) -> HttpResponseBase:
        fields = Fields(request.data, known=("symbol", "new", "old", "reference"))
        said: dict[str, Any] = {
            "symbol": _symbol(fields),
            "new": fields.whole("new", least=1, most=RATIO_MAX),
            "old": fields.whole("old", least=1, most=RATIO_MAX),
            "reference": fields.text("reference", default=""),
        }
        fields.done()
        return self.carry_out(request, lambda shared: SplitInstrument(**shared, **said), keyed=True)


class ExpiryView(EventView):
    """The contract has ended: orders are cancelled, positions closed at the settlement price."""

    action = "expire_instrument"

    @extend_schema(
        operation_id="staff_expire_instrument",
        request=EXPIRY_REQUEST,
        parameters=[IDEMPOTENCY_KEY_REQUIRED],
        responses={200: DONE, **PROBLEMS},
    )
    def post(self, request: Request) -> HttpResponseBase:
        fields = Fields(request.data, known=("symbol", "price", "reference"))
        said: dict[str, Any] = {
            "symbol": _symbol(fields),
            "price": _price(fields),
            "reference": fields.text("reference", default=""),
        }
        fields.done()
        return self.carry_out(request, lambda shared: ExpireInstrument(**shared, **said), keyed=True)


# --- corrections of deals ------------------------------------------------------------------------------------------------


class CorrectionsView(StaffView):
    """Corrections of deals that were proposed, and what became of them."""

    action = "read_corrections"

    @extend_schema(operation_id="staff_list_corrections", responses={200: CORRECTIONS, **PROBLEMS})
    def get(self, request: Request) -> Response:
        record(request, self.action, {})
        return Response({"data": corrections.newest()})


class ProposeCorrectionView(StaffView):
    """Propose to undo a deal or to give it another price. Somebody else approves it."""

    action = "propose_correction"
    right = "operations.correct_deals"

    @extend_schema(
        operation_id="staff_propose_correction",
        request=CORRECTION_REQUEST,
        parameters=[IDEMPOTENCY_KEY],
        responses={201: CORRECTION, **PROBLEMS},
    )
    def post(self, request: Request, deal: str) -> HttpResponseBase:
        return once(request, lambda: self._proposed(request, deal))

    def _proposed(self, request: Request, deal: str) -> Response:
        fields = Fields(request.data, known=("price", "reason"))
        price = _price(fields) if fields.has("price") else None
        reason = fields.text("reason", length_max=200)
        if not reason.strip():
            fields.error("reason", "Say why.")
        fields.done()
        number = _number(deal, Refusal.DEAL_NOT_FOUND)
        asked = {"deal_id": number, "price": None if price is None else plain(price), "reason": reason}
        record(request, self.action, asked)
        row = corrections.propose(deal_id=number, price=price, reason=reason, by=caller_of(request))
        return Response(corrections.correction_shape(row), status=201)


class ApproveCorrectionView(StaffView):
    """Carry a correction out that somebody else proposed."""

    action = "approve_correction"
    right = "operations.correct_deals"

    @extend_schema(operation_id="staff_approve_correction", request=None, responses={200: CORRECTION, **PROBLEMS})
    def post(self, request: Request, correction: str) -> Response:
        number = _number(correction, Refusal.NOT_FOUND)
        record(request, self.action, {"correction": number})
        try:
            row = corrections.approve(number=number, by=caller_of(request))
        except Problem as problem:
            record(request, f"{self.action}:{_outcome(problem)}", {"correction": number, "code": problem.code.value})
            raise
        record(request, f"{self.action}:done", {"correction": number, "deal_id": row.deal_id})
        return Response(corrections.correction_shape(row))


class RejectCorrectionView(StaffView):
    """Drop a correction that was proposed."""

    action = "reject_correction"
    right = "operations.correct_deals"

    @extend_schema(operation_id="staff_reject_correction", request=None, responses={200: CORRECTION, **PROBLEMS})
    def post(self, request: Request, correction: str) -> Response:
        number = _number(correction, Refusal.NOT_FOUND)
        record(request, self.action, {"correction": number})
        return Response(corrections.correction_shape(corrections.reject(number=number, by=caller_of(request))))


# --- effective terms -----------------------------------------------------------------------------------------------------


class EffectiveTermsView(StaffView):
    """What a group's accounts deal on in one symbol at one time, the rule behind every value, and what the law says."""

    action = "read_effective_terms"

    @extend_schema(
        operation_id="staff_get_effective_terms",
        parameters=[
            query("group", "the group", required=True),
            query("symbol", "the symbol", required=True),
            query("at", "a time in UTC; now without it"),
            query("jurisdiction", "as on the account; none without it"),
            query("client_class", "retail without it", enum=[one.value for one in ClientClass]),
        ],
        responses={200: EFFECTIVE_TERMS, **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        fields = Fields(request.query_params, known=("group", "symbol", "at", "jurisdiction", "client_class"))
        classes = [one.value for one in ClientClass]
        question = Question(
            group=fields.text("group", length_max=50),
            symbol=fields.text("symbol", pattern=SYMBOL, length_max=20),
            at=fields.moment("at", Refusal.INVALID_REQUEST) if fields.has("at") else datetime.now(tz=UTC),
            jurisdiction=fields.text("jurisdiction", length_max=20, default=""),
            client_class=ClientClass(fields.choice("client_class", classes, default=ClientClass.RETAIL.value)),
        )
        fields.done()
        record(
            request, self.action, {"group": question.group, "symbol": question.symbol, "at": question.at.isoformat()}
        )
        return Response(effective_terms(question))


# --- fields --------------------------------------------------------------------------------------------------------------


def _number(text: str, missing: Refusal) -> int:
    if not WHOLE.fullmatch(text):
        raise Problem(missing)
    return int(text)


def _account(text: str) -> int:
    """The number of an account that the engine knows. Raises Problem(unknown_account)."""
    return account_row(_number(text, Refusal.UNKNOWN_ACCOUNT)).pk


def _symbol(fields: Fields) -> str:
    symbol = fields.text("symbol", pattern=SYMBOL, length_max=20)
    if symbol and symbol not in current_config().instruments:
        fields.error("symbol", "There is no such symbol.", Refusal.UNKNOWN_SYMBOL)
    return symbol


def _price(fields: Fields) -> Decimal:
    price = fields.decimal("price", Refusal.INVALID_PRICE)
    if not 0 < price <= AMOUNT_MAX:
        fields.error("price", "Must be positive and at most a billion.", Refusal.INVALID_PRICE)
    return price
