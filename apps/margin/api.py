"""Accounts over REST: what they are worth, and opening demo accounts."""

from typing import Any

from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.access import account_row, caller_of, owned_account
from apps.accounts.models import Account, Profile
from apps.accounts.services import DEMO_GROUP, open_demo_account
from apps.doors.idempotency import once
from apps.doors.parsing import WHOLE, Fields
from apps.doors.problems import Problem
from apps.doors.schema import ACCOUNT, ACCOUNT_REQUEST, ACCOUNTS, IDEMPOTENCY_KEY, PROBLEMS
from apps.doors.views import DoorView
from apps.margin.queries import Worth, worth_of
from apps.published import current_config
from apps.shapes import trimmed
from trading.configuration import Config
from trading.refusals import Refusal

LEVERAGE_DEFAULT = 30


class AccountsView(DoorView):
    """The caller's accounts."""

    @extend_schema(operation_id="list_accounts", responses={200: ACCOUNTS, **PROBLEMS})
    def get(self, request: Request) -> Response:
        profiles = {p.account: p for p in Profile.objects.filter(user=caller_of(request))}
        rows = list(Account.objects.filter(id__in=list(profiles)).order_by("id"))
        config = current_config()
        return Response(
            {"data": [_shape(worth, profiles[worth.account.id], config) for worth in worth_of(rows, config)]}
        )

    @extend_schema(
        operation_id="open_demo_account",
        request=ACCOUNT_REQUEST,
        parameters=[IDEMPOTENCY_KEY],
        responses={201: ACCOUNT, **PROBLEMS},
    )
    def post(self, request: Request) -> HttpResponseBase:
        return once(request, lambda: _open(request))


class AccountView(DoorView):
    """One account: balance, equity, margin."""

    @extend_schema(operation_id="get_account", responses={200: ACCOUNT, **PROBLEMS})
    def get(self, request: Request, account: str) -> Response:
        if not WHOLE.fullmatch(account):
            raise Problem(Refusal.UNKNOWN_ACCOUNT)
        owned = owned_account(caller_of(request), int(account))
        return Response(_account(owned.account))


def _open(request: Request) -> Response:
    user = caller_of(request)
    config = current_config()
    fields = Fields(request.data, known=("currency", "leverage", "name"))
    currency = fields.text("currency", length_max=10)
    leverage = fields.whole("leverage", default=LEVERAGE_DEFAULT)
    name = fields.text("name", length_max=50, default="")
    most = config.groups[DEMO_GROUP].leverage_max
    if not 1 <= leverage <= most:
        fields.error("leverage", f"Between 1 and {most}.")
    fields.done()
    profile = open_demo_account(user=user, currency=currency, leverage=leverage, name=name, actor=f"user:{user.pk}")
    return Response(_account(profile.account), status=201, headers={"Location": f"/v1/accounts/{profile.account}"})


def _account(number: int) -> dict[str, Any]:
    config = current_config()
    profile = get_object_or_404(Profile, account=number)
    [worth] = worth_of([account_row(number)], config)
    return _shape(worth, profile, config)


def _shape(worth: Worth, profile: Profile, config: Config) -> dict[str, Any]:
    account = worth.account
    digits = config.currency_digits[account.currency]
    free, level = worth.free_margin, worth.margin_level
    return {
        "id": account.id,
        "name": profile.name,
        "environment": profile.environment,
        "currency": account.currency,
        "leverage": account.leverage,
        "rights": account.rights.value,
        "balance": trimmed(account.balance, digits),
        "credit": trimmed(account.credit, digits),
        "equity": None if worth.equity is None else trimmed(worth.equity, digits),
        "margin": trimmed(worth.margin, digits),
        "free_margin": None if free is None else trimmed(free, digits),
        "margin_level": None if level is None else trimmed(level, 2),
        "unpriced": list(worth.unpriced),
    }
