"""Money over REST: a client's own postings, deposits to demo accounts, withdrawals."""

from decimal import Decimal

from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.access import account_row, caller_of, chosen_accounts, owned_account
from apps.accounts.models import Environment
from apps.doors.idempotency import command_key, key_of, once
from apps.doors.limits import take
from apps.doors.paging import PAGE_FIELDS, encode_cursor, page_of, page_response, paged
from apps.doors.parsing import WHOLE, Fields
from apps.doors.problems import Problem
from apps.doors.schema import (
    DEPOSIT_REQUEST,
    DEPOSITED,
    ENTRY_PAGE,
    IDEMPOTENCY_KEY_REQUIRED,
    PAGE_PARAMETERS,
    PAGE_PARAMETERS_ALONE,
    PROBLEMS,
    WITHDRAWAL,
    WITHDRAWAL_PAGE,
    WITHDRAWAL_REQUEST,
)
from apps.doors.views import DoorView
from apps.ledger.queries import client_postings, ends_of, withdrawal_shape, withdrawals_of
from apps.ledger.services import deposit, request_withdrawal
from apps.published import current_config
from apps.shapes import trimmed
from trading.refusals import Refusal

DEMO_DEPOSIT_MAX = Decimal(1_000_000)
AMOUNT_MAX = Decimal(1_000_000_000)
"""More than any account holds; the engine says what can really be withdrawn."""


class LedgerView(DoorView):
    """The caller's own postings, newest first."""

    bucket = "history"

    @extend_schema(operation_id="list_ledger", parameters=PAGE_PARAMETERS, responses={200: ENTRY_PAGE, **PROBLEMS})
    def get(self, request: Request) -> Response:
        fields = Fields(request.query_params, known=("account", *PAGE_FIELDS))
        page = page_of(fields)
        accounts = chosen_accounts(request, fields)
        fields.done()
        rows, following = client_postings(accounts, current_config(), before=page.before, limit=page.limit)
        return page_response(request, rows, None if following is None else encode_cursor(following))


class DepositView(DoorView):
    """Pay into a demo account."""

    bucket = "money"

    @extend_schema(
        operation_id="deposit",
        request=DEPOSIT_REQUEST,
        parameters=[IDEMPOTENCY_KEY_REQUIRED],
        responses={201: DEPOSITED, **PROBLEMS},
    )
    def post(self, request: Request) -> HttpResponseBase:
        key = key_of(request, required=True)
        return once(request, lambda: _deposit(request, key), required=True)


class WithdrawalsView(DoorView):
    """Ask for money out of an account, and see what became of such requests. Staff settle them."""

    bucket = None

    @extend_schema(
        operation_id="request_withdrawal",
        request=WITHDRAWAL_REQUEST,
        parameters=[IDEMPOTENCY_KEY_REQUIRED],
        responses={201: WITHDRAWAL, **PROBLEMS},
    )
    def post(self, request: Request, account: str) -> HttpResponseBase:
        take(request, "money", f"user:{caller_of(request).pk}")
        number = _owned(request, account)
        key = key_of(request, required=True)
        return once(request, lambda: _withdraw(request, number, key), required=True)

    @extend_schema(
        operation_id="list_withdrawals",
        parameters=PAGE_PARAMETERS_ALONE,
        responses={200: WITHDRAWAL_PAGE, **PROBLEMS},
    )
    def get(self, request: Request, account: str) -> Response:
        take(request, "history", f"user:{caller_of(request).pk}")
        fields = Fields(request.query_params, known=PAGE_FIELDS)
        page = page_of(fields)
        fields.done()
        number = _owned(request, account)
        config, ended = current_config(), ends_of(number)
        return paged(
            request,
            withdrawals_of(number),
            page,
            number="transaction_id",
            show=lambda row: withdrawal_shape(row, ended.get(row.transaction_id), config),
        )


def _owned(request: Request, account: str) -> int:
    if not WHOLE.fullmatch(account):
        raise Problem(Refusal.UNKNOWN_ACCOUNT)
    return owned_account(caller_of(request), int(account)).account


def _withdraw(request: Request, number: int, key: str) -> Response:
    fields = Fields(request.data, known=("amount", "reference"))
    amount = fields.decimal("amount", Refusal.INVALID_AMOUNT)
    reference = fields.text("reference", default="")
    if not 0 < amount <= AMOUNT_MAX:
        fields.error("amount", f"Positive, and at most {AMOUNT_MAX}.", Refusal.INVALID_AMOUNT)
    fields.done()
    requested = request_withdrawal(
        account=number,
        amount=amount,
        reference=reference,
        key=f"withdrawal/{command_key(request, key)}",
        actor=f"user:{request.user.pk}",
    )
    row = withdrawals_of(number).get(transaction_id=requested)
    return Response(withdrawal_shape(row, ends_of(number).get(requested), current_config()), status=201)


def _deposit(request: Request, key: str) -> Response:
    user = caller_of(request)
    fields = Fields(request.data, known=("account", "amount", "reference"))
    account = fields.whole("account")
    amount = fields.decimal("amount", Refusal.INVALID_AMOUNT)
    reference = fields.text("reference", default="")
    if not 0 < amount <= DEMO_DEPOSIT_MAX:
        fields.error("amount", f"Positive, and at most {DEMO_DEPOSIT_MAX}.", Refusal.INVALID_AMOUNT)
    fields.done()
    if owned_account(user, account).environment != Environment.DEMO:
        raise Problem(Refusal.FORBIDDEN, "Only demo accounts are funded here.")
    transaction_id = deposit(
        account=account,
        amount=amount,
        reference=reference,
        key=f"deposit/{command_key(request, key)}",
        actor=f"user:{user.pk}",
    )
    row = account_row(account)
    digits = current_config().currency_digits[row.currency]
    body = {
        "transaction_id": transaction_id,
        "account": account,
        "currency": row.currency,
        "amount": trimmed(amount, digits),
        "balance": trimmed(row.balance, digits),
    }
    return Response(body, status=201)
