"""Accounts over REST: what they are worth, why they were called or stopped out, and opening demo accounts."""

from decimal import Decimal
from typing import Any

from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.access import account_row, caller_of, owned_account
from apps.accounts.models import Account, Profile
from apps.accounts.services import DEMO_GROUP, open_demo_account
from apps.doors.connections import clock
from apps.doors.idempotency import once
from apps.doors.paging import PAGE_FIELDS, page_of, paged
from apps.doors.parsing import WHOLE, Fields
from apps.doors.problems import Problem
from apps.doors.schema import (
    ACCOUNT,
    ACCOUNT_REQUEST,
    ACCOUNTS,
    IDEMPOTENCY_KEY,
    MARGIN_NOTE_PAGE,
    PAGE_PARAMETERS_ALONE,
    PROBLEMS,
)
from apps.doors.views import DoorView
from apps.margin.models import MarginNote
from apps.margin.queries import Worth, worth_of
from apps.published import current_config
from apps.shapes import trimmed
from apps.times import micros
from trading import accounts
from trading.configuration import Config
from trading.numbers import plain
from trading.refusals import Refusal
from trading.regulation import JurisdictionUnknown, RegulatoryRule, rule_for
from trading.views import moment, rfc3339

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
        return Response(_account(_owned(request, account)))


class MarginNotesView(DoorView):
    """Margin calls and every step of a stop-out, newest first, with all that each was decided on."""

    bucket = "history"

    @extend_schema(
        operation_id="list_margin_notes",
        parameters=PAGE_PARAMETERS_ALONE,
        responses={200: MARGIN_NOTE_PAGE, **PROBLEMS},
    )
    def get(self, request: Request, account: str) -> Response:
        fields = Fields(request.query_params, known=PAGE_FIELDS)
        page = page_of(fields)
        fields.done()
        number = _owned(request, account)
        digits = current_config().currency_digits[account_row(number).currency]
        rows = MarginNote.objects.filter(account=number)
        return paged(request, rows, page, number="id", show=lambda row: note_shape(row, digits))


def _owned(request: Request, account: str) -> int:
    if not WHOLE.fullmatch(account):
        raise Problem(Refusal.UNKNOWN_ACCOUNT)
    return owned_account(caller_of(request), int(account)).account


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
    level = worth.margin_level
    return {
        "id": account.id,
        "name": profile.name,
        "environment": profile.environment,
        "currency": account.currency,
        "leverage": account.leverage,
        "rights": account.rights.value,
        "balance": trimmed(account.balance, digits),
        "credit": trimmed(account.credit, digits),
        "swap": trimmed(worth.swap, digits),
        "commission_blocked": trimmed(account.commission_blocked, digits),
        "equity": _or_null(worth.equity, digits),
        "margin": trimmed(worth.margin, digits),
        "free_margin": _or_null(worth.free_margin, digits),
        "margin_level": None if level is None else trimmed(level, 2),
        "withdrawable": _or_null(worth.withdrawable, digits),
        "buying_power": trimmed(worth.buying_power, digits),
        "margin_call": margin_call_shape(account, config),
        "client_class": account.client_class.value,
        "jurisdiction": account.jurisdiction,
        "regulation": regulation_shape(account, config, clock()()),
        "unpriced": list(worth.unpriced),
    }


def _or_null(amount: Decimal | None, digits: int) -> str | None:
    return None if amount is None else trimmed(amount, digits)


def margin_call_shape(account: accounts.Account, config: Config) -> dict[str, Any]:
    """The account's thresholds in per cent, and the deepest one that it stands at or below; null above all of them."""
    terms = config.groups[account.group].stop_out
    calls = terms.margin_calls
    reached = calls[min(account.alarm, len(calls)) - 1] if account.alarm and calls else None
    return {
        "reached": None if reached is None else plain(reached),
        "levels": [plain(call) for call in calls],
        "stop_out": None if terms.level is None else plain(terms.level),
    }


def regulation_shape(account: accounts.Account, config: Config, at_us: int) -> dict[str, Any] | None:
    """What protects the client now; null where no rule does."""
    rule = _rule(account, config, at_us)
    if rule is None:
        return None
    return {
        "rule": rule.name,
        "source": rule.source,
        "close_out_share": None if rule.close_out_share is None else plain(rule.close_out_share),
        "negative_balance_protection": rule.negative_balance_protection,
        "leverage_caps": {kind.value: cap for kind, cap in rule.leverage_caps.items()},
        "banned": [kind.value for kind in rule.banned],
    }


def _rule(account: accounts.Account, config: Config, at_us: int) -> RegulatoryRule | None:
    try:
        return rule_for(account.jurisdiction, account.client_class, moment(at_us).date(), config.regulation)
    except JurisdictionUnknown:
        return None


def note_shape(row: MarginNote, digits: int) -> dict[str, Any]:
    return {
        "id": row.id,
        "account": row.account,
        "kind": row.kind,
        "rule": row.rule,
        "equity": trimmed(row.equity, digits),
        "margin": trimmed(row.margin, digits),
        "level": None if row.level is None else trimmed(row.level, 2),
        "order_ticket": row.order_id or None,
        "position_id": row.position_id or None,
        "detail": row.detail,
        "prices": {symbol: {"bid": bid, "ask": ask} for symbol, (bid, ask) in sorted(row.prices.items())},
        "at": rfc3339(micros(row.at)),
    }
