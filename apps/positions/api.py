"""Positions over REST: list, read, protect, close, reverse."""

from decimal import Decimal

from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.access import accounts_of, caller_of, chosen_accounts, owned_account
from apps.doors.idempotency import command_key, key_of, once
from apps.doors.limits import take
from apps.doors.paging import PAGE_FIELDS, page_of, paged
from apps.doors.parsing import CLIENT_ORDER_ID, SYMBOL, WHOLE, Fields
from apps.doors.problems import Problem
from apps.doors.schema import (
    CLOSE_BY_REQUEST,
    CLOSE_MANY_REQUEST,
    CLOSE_REQUEST,
    CLOSING,
    IDEMPOTENCY_KEY,
    ORDER,
    PAGE_PARAMETERS,
    POSITION,
    POSITION_PAGE,
    PREFER,
    PROBLEMS,
    PROTECTION_REQUEST,
    REVERSE_REQUEST,
    query,
)
from apps.doors.views import DoorView, wait_s
from apps.orders.api import money_digits, placed_response
from apps.orders.reading import PROTECTION_FIELDS, kept_parts, protection_of, volume_field
from apps.orders.services import (
    close_by,
    close_position,
    close_positions,
    modify_protection,
    reverse_position,
)
from apps.positions.models import Position
from apps.positions.rows import position_value
from apps.published import current_config
from apps.shapes import position_shape
from trading.commands import Which
from trading.protection import NOTHING_ASKED
from trading.refusals import Refusal


class PositionsView(DoorView):
    """Positions, newest first; the open ones unless asked otherwise."""

    bucket = "history"

    @extend_schema(
        operation_id="list_positions",
        parameters=[
            *PAGE_PARAMETERS,
            query("status", "open (default) or closed", enum=["open", "closed"]),
            query("symbol", "one symbol"),
        ],
        responses={200: POSITION_PAGE, **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        fields = Fields(request.query_params, known=("account", "status", "symbol", *PAGE_FIELDS))
        page = page_of(fields)
        accounts = chosen_accounts(request, fields)
        wants_open = fields.choice("status", ("open", "closed"), default="open") == "open"
        rows = Position.objects.filter(account__in=accounts)
        rows = rows.filter(volume__gt=0) if wants_open else rows.filter(volume=0)
        if fields.has("symbol"):
            rows = rows.filter(symbol=fields.text("symbol", pattern=SYMBOL, length_max=20))
        fields.done()
        config = current_config()
        digits = money_digits(accounts, config)
        return paged(
            request,
            rows,
            page,
            number="id",
            show=lambda row: position_shape(position_value(row), config, digits[row.account]),
        )


class PositionView(DoorView):
    """One position: read, and protect."""

    bucket = None

    @extend_schema(operation_id="get_position", responses={200: POSITION, **PROBLEMS})
    def get(self, request: Request, position: str) -> Response:
        take(request, "other", f"user:{caller_of(request).pk}")
        return _shown(_owned(request, position))

    @extend_schema(
        operation_id="protect_position",
        request=PROTECTION_REQUEST,
        parameters=[IDEMPOTENCY_KEY],
        responses={200: POSITION, **PROBLEMS},
    )
    def patch(self, request: Request, position: str) -> HttpResponseBase:
        key = key_of(request, required=False)
        return once(request, lambda: _protect(request, position, key))


class ClosePositionView(DoorView):
    """Close a position, or `volume` lots of it. Answers with the closing order."""

    bucket = None

    @extend_schema(
        operation_id="close_position",
        request=CLOSE_REQUEST,
        parameters=[PREFER, IDEMPOTENCY_KEY],
        responses={200: ORDER, 201: ORDER, 202: ORDER, **PROBLEMS},
    )
    def post(self, request: Request, position: str) -> HttpResponseBase:
        key = key_of(request, required=False)
        return once(request, lambda: _close(request, position, key))


class CloseByView(DoorView):
    """Close a position against an opposite one of the same symbol, as far as the smaller goes."""

    bucket = None

    @extend_schema(
        operation_id="close_position_by",
        request=CLOSE_BY_REQUEST,
        parameters=[PREFER, IDEMPOTENCY_KEY],
        responses={200: ORDER, 201: ORDER, 202: ORDER, **PROBLEMS},
    )
    def post(self, request: Request, position: str) -> HttpResponseBase:
        key = key_of(request, required=False)
        return once(request, lambda: _close_by(request, position, key))


class ReverseView(DoorView):
    """Close a position and open as much the other way."""

    bucket = None

    @extend_schema(
        operation_id="reverse_position",
        request=REVERSE_REQUEST,
        parameters=[PREFER, IDEMPOTENCY_KEY],
        responses={200: ORDER, 201: ORDER, 202: ORDER, **PROBLEMS},
    )
    def post(self, request: Request, position: str) -> HttpResponseBase:
        key = key_of(request, required=False)
        return once(request, lambda: _reverse(request, position, key))


class ClosePositionsView(DoorView):
    """Close all positions of an account, the winners or the losers, in one symbol or in every one."""

    bucket = None

    @extend_schema(
        operation_id="close_positions",
        request=CLOSE_MANY_REQUEST,
        parameters=[IDEMPOTENCY_KEY],
        responses={202: CLOSING, **PROBLEMS},
    )
    def post(self, request: Request) -> HttpResponseBase:
        key = key_of(request, required=False)
        return once(request, lambda: _close_many(request, key))


def _shown(row: Position) -> Response:
    config = current_config()
    digits = money_digits([row.account], config)
    return Response(position_shape(position_value(row), config, digits[row.account]))


def _protect(request: Request, position: str, idempotency_key: str) -> Response:
    row = _owned(request, position)
    fields = Fields(request.data, known=PROTECTION_FIELDS)
    protection = protection_of(fields, NOTHING_ASKED)
    keep = kept_parts(fields)
    fields.done()
    take(request, "closes", f"account:{row.account}")
    modify_protection(
        account=row.account,
        position_id=row.id,
        protection=protection,
        keep=keep,
        key=command_key(request, idempotency_key) if idempotency_key else "",
        actor=f"user:{request.user.pk}",
    )
    return _shown(_owned(request, position))


def _close(request: Request, position: str, idempotency_key: str) -> Response:
    row = _owned(request, position)
    take(request, "closes", f"account:{row.account}")
    fields = Fields(request.data, known=("volume", "client_order_id", "comment"))
    volume: Decimal | None = volume_field(fields, "volume") if fields.has("volume") else None
    key, comment = _named(request, fields, idempotency_key)
    fields.done()
    placed = close_position(
        account=row.account,
        position_id=row.id,
        volume=volume,
        comment=comment,
        key=key,
        actor=f"user:{request.user.pk}",
        wait_s=wait_s(request),
    )
    return placed_response(request, placed)


def _close_by(request: Request, position: str, idempotency_key: str) -> Response:
    row = _owned(request, position)
    take(request, "closes", f"account:{row.account}")
    fields = Fields(request.data, known=("by_position_id", "client_order_id", "comment"))
    by_position_id = fields.whole("by_position_id", least=1)
    key, comment = _named(request, fields, idempotency_key)
    fields.done()
    placed = close_by(
        account=row.account,
        position_id=row.id,
        by_position_id=by_position_id,
        comment=comment,
        key=key,
        actor=f"user:{request.user.pk}",
        wait_s=wait_s(request),
    )
    return placed_response(request, placed)


def _reverse(request: Request, position: str, idempotency_key: str) -> Response:
    """Counted as an order: it opens as much as it closes."""
    row = _owned(request, position)
    take(request, "orders", f"account:{row.account}")
    fields = Fields(request.data, known=("client_order_id", "comment"))
    key, comment = _named(request, fields, idempotency_key)
    fields.done()
    placed = reverse_position(
        account=row.account,
        position_id=row.id,
        comment=comment,
        key=key,
        actor=f"user:{request.user.pk}",
        wait_s=wait_s(request),
    )
    return placed_response(request, placed)


def _close_many(request: Request, idempotency_key: str) -> Response:
    fields = Fields(request.data, known=("account", "which", "symbol", "comment"))
    account = fields.whole("account")
    which = Which(fields.choice("which", [one.value for one in Which], default=Which.ALL.value))
    symbol = fields.text("symbol", pattern=SYMBOL, length_max=20, default="")
    comment = fields.text("comment", default="")
    fields.done()
    owned = owned_account(caller_of(request), account)
    take(request, "closes", f"account:{account}")
    if symbol and symbol not in current_config().instruments:
        raise Problem(Refusal.UNKNOWN_SYMBOL)
    closing = close_positions(
        account=owned.account,
        which=which,
        symbol=symbol,
        comment=comment,
        key=command_key(request, idempotency_key) if idempotency_key else "",
        actor=f"user:{request.user.pk}",
    )
    return Response({"closing": closing}, status=202)


def _named(request: Request, fields: Fields, idempotency_key: str) -> tuple[str, str]:
    """The client_order_id, else the key that the Idempotency-Key stands for, and the comment."""
    key = fields.text("client_order_id", pattern=CLIENT_ORDER_ID, length_max=48, default="")
    comment = fields.text("comment", default="")
    return key or (command_key(request, idempotency_key) if idempotency_key else ""), comment


def _owned(request: Request, position: str) -> Position:
    """The caller's position of that number. Others' are answered like those that do not exist."""
    row = None
    if WHOLE.fullmatch(position):
        row = Position.objects.filter(id=int(position), account__in=accounts_of(caller_of(request))).first()
    if row is None:
        raise Problem(Refusal.NOT_FOUND)
    return row
