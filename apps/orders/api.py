"""Orders over REST: parse, one service call, answer. How the fields are read is in `apps.orders.reading`."""

from decimal import Decimal
from typing import ClassVar

from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.access import accounts_of, caller_of, chosen_accounts, owned_account
from apps.accounts.models import Account
from apps.doors.idempotency import command_key, key_of, once
from apps.doors.limits import take
from apps.doors.middleware import request_id_of
from apps.doors.paging import PAGE_FIELDS, page_of, paged
from apps.doors.parsing import CLIENT_ORDER_ID, SYMBOL, Fields
from apps.doors.problems import CONTENT_TYPE, Problem, problem_body
from apps.doors.schema import (
    CANCELED,
    DEAL_PAGE,
    IDEMPOTENCY_KEY,
    ORDER,
    ORDER_CHANGES,
    ORDER_PAGE,
    ORDER_REQUEST,
    PAGE_PARAMETERS,
    PREFER,
    PROBLEMS,
    SYMBOL_TO_CANCEL,
    WHOSE_ORDERS,
    query,
)
from apps.doors.views import DoorView, wait_s
from apps.orders.models import Deal
from apps.orders.queries import CLOSED, order_by_reference, orders_of
from apps.orders.reading import CHANGE_FIELDS, INSTRUCTION_FIELDS, changes_of, instruction_of, volume_field
from apps.orders.rows import deal_value, order_value
from apps.orders.services import Placed, cancel_all, cancel_order, is_refused, modify_order, place_order
from apps.published import current_config
from apps.shapes import deal_shape, order_shape
from trading.configuration import Config
from trading.orders import LIVE_ORDERS, Order, OrderType, Side
from trading.refusals import Refusal

ORDER_FIELDS = ("account", "symbol", "side", "volume", "quantity", "client_order_id", "comment", *INSTRUCTION_FIELDS)


class OrdersView(DoorView):
    """Place an order, list orders, and take back all that rest."""

    bucket = None
    types: ClassVar[tuple[OrderType, ...]] = tuple(OrderType)

    @extend_schema(
        operation_id="place_order",
        request=ORDER_REQUEST,
        parameters=[PREFER, IDEMPOTENCY_KEY],
        responses={200: ORDER, 201: ORDER, 202: ORDER, **PROBLEMS},
    )
    def post(self, request: Request) -> HttpResponseBase:
        key = key_of(request, required=False)
        return once(request, lambda: _place(request, key, self.types))

    @extend_schema(
        operation_id="list_orders",
        parameters=[
            *PAGE_PARAMETERS,
            query("status", "open or closed", enum=["open", "closed"]),
            query("symbol", "one symbol"),
            query("client_order_id", "the order placed under this id"),
        ],
        responses={200: ORDER_PAGE, **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        take(request, "history", f"user:{caller_of(request).pk}")
        fields = Fields(request.query_params, known=("account", "status", "symbol", "client_order_id", *PAGE_FIELDS))
        page = page_of(fields)
        rows = orders_of(chosen_accounts(request, fields))
        if fields.has("status"):
            rows = rows.filter(
                status__in=LIVE_ORDERS if fields.choice("status", ("open", "closed")) == "open" else CLOSED
            )
        if fields.has("symbol"):
            rows = rows.filter(symbol=fields.text("symbol", pattern=SYMBOL, length_max=20))
        if fields.has("client_order_id"):
            wanted = fields.text("client_order_id", pattern=CLIENT_ORDER_ID, length_max=48)
            rows = rows.filter(client_order_id=wanted)
        fields.done()
        config = current_config()
        return paged(request, rows, page, number="id", show=lambda row: order_shape(order_value(row), config))

    @extend_schema(
        operation_id="cancel_orders",
        parameters=[WHOSE_ORDERS, SYMBOL_TO_CANCEL, IDEMPOTENCY_KEY],
        responses={200: CANCELED, **PROBLEMS},
    )
    def delete(self, request: Request) -> HttpResponseBase:
        key = key_of(request, required=False)
        return once(request, lambda: _cancel_all(request, key))


class MarketOrderAliasView(OrdersView):
    """The same under the short address, for market orders only."""

    http_method_names = ["post"]
    types = (OrderType.MARKET,)

    @extend_schema(
        operation_id="place_market_order",
        request=ORDER_REQUEST,
        parameters=[PREFER, IDEMPOTENCY_KEY],
        responses={200: ORDER, 201: ORDER, 202: ORDER, **PROBLEMS},
    )
    def post(self, request: Request) -> HttpResponseBase:
        return super().post(request)


class OrderView(DoorView):
    """One order, by its id, its ticket, or `client:` and its client_order_id: read, change, take back."""

    bucket = None

    @extend_schema(operation_id="get_order", responses={200: ORDER, **PROBLEMS})
    def get(self, request: Request, reference: str) -> Response:
        take(request, "other", f"user:{caller_of(request).pk}")
        return Response(order_shape(_owned(request, reference), current_config()))

    @extend_schema(
        operation_id="modify_order",
        request=ORDER_CHANGES,
        parameters=[IDEMPOTENCY_KEY],
        responses={200: ORDER, **PROBLEMS},
    )
    def patch(self, request: Request, reference: str) -> HttpResponseBase:
        key = key_of(request, required=False)
        return once(request, lambda: _modify(request, reference, key))

    @extend_schema(operation_id="cancel_order", parameters=[IDEMPOTENCY_KEY], responses={200: ORDER, **PROBLEMS})
    def delete(self, request: Request, reference: str) -> HttpResponseBase:
        key = key_of(request, required=False)
        return once(request, lambda: _cancel(request, reference, key))


class DealsView(DoorView):
    """Executions, newest first."""

    bucket = "history"

    @extend_schema(
        operation_id="list_deals",
        parameters=[
            *PAGE_PARAMETERS,
            query("symbol", "one symbol"),
            query("position_id", "deals of one position"),
            query("order_ticket", "deals of one order"),
        ],
        responses={200: DEAL_PAGE, **PROBLEMS},
    )
    def get(self, request: Request) -> Response:
        fields = Fields(request.query_params, known=("account", "symbol", "position_id", "order_ticket", *PAGE_FIELDS))
        page = page_of(fields)
        accounts = chosen_accounts(request, fields)
        rows = Deal.objects.filter(account__in=accounts)
        if fields.has("symbol"):
            rows = rows.filter(symbol=fields.text("symbol", pattern=SYMBOL, length_max=20))
        if fields.has("position_id"):
            rows = rows.filter(position_id=fields.whole("position_id"))
        if fields.has("order_ticket"):
            rows = rows.filter(order_id=fields.whole("order_ticket"))
        fields.done()
        config = current_config()
        digits = money_digits(accounts, config)
        return paged(
            request, rows, page, number="id", show=lambda row: deal_shape(deal_value(row), config, digits[row.account])
        )


def money_digits(accounts: list[int], config: Config) -> dict[int, int]:
    """Decimals of each account's currency."""
    rows = Account.objects.filter(id__in=accounts).values_list("id", "currency")
    return {account: config.currency_digits.get(currency, 2) for account, currency in rows}


def _place(request: Request, idempotency_key: str, types: tuple[OrderType, ...]) -> Response:
    user = caller_of(request)
    config = current_config()
    fields = Fields(request.data, known=ORDER_FIELDS)
    account = fields.whole("account")
    symbol = fields.text("symbol", length_max=20)
    side = fields.choice("side", ("buy", "sell"))
    instruction = instruction_of(fields, types)
    volume = _volume(fields, symbol, config)
    key = fields.text("client_order_id", pattern=CLIENT_ORDER_ID, length_max=48, default="")
    comment = fields.text("comment", default="")
    fields.done()
    owned = owned_account(user, account)
    take(request, "orders", f"account:{account}")
    if symbol not in config.instruments:
        raise Problem(Refusal.UNKNOWN_SYMBOL)
    if idempotency_key and not key:
        key = command_key(request, idempotency_key)
    placed = place_order(
        account=owned.account,
        symbol=symbol,
        side=Side(side),
        volume=volume,
        instruction=instruction,
        comment=comment,
        key=key,
        actor=f"user:{user.pk}",
        wait_s=wait_s(request),
    )
    return placed_response(request, placed)


def _volume(fields: Fields, symbol: str, config: Config) -> Decimal:
    """Lots, from `volume` or from `quantity` in units of base."""
    if fields.has("quantity") and fields.has("volume"):
        fields.error("quantity", "Give volume or quantity, not both.", Refusal.INVALID_VOLUME)
    if not fields.has("quantity"):
        return volume_field(fields, "volume")
    quantity = volume_field(fields, "quantity")
    instrument = config.instruments.get(symbol)
    if instrument is None:
        return quantity
    lots = quantity / instrument.contract_size
    if lots * instrument.contract_size != quantity or lots % instrument.volume_step:
        fields.error("quantity", "Not a whole number of volume steps.", Refusal.INVALID_VOLUME)
    return lots


def placed_response(request: Request, placed: Placed) -> Response:
    """201 dealt or resting, 202 working, 200 repeated; a refused order is a problem that embeds the order as it was stored."""
    shown = order_shape(placed.order, current_config())
    headers = {"Location": f"/v1/orders/{placed.order.uuid}"}
    if not is_refused(placed.order):
        return Response(shown, status=placed.outcome.value, headers=headers)
    code = Refusal(placed.order.refusal)
    problem = Problem(code, placed.order.detail, status=422, extra={"order": shown})
    body = problem_body(problem, instance=request.path, request_id=request_id_of(request._request))  # noqa: SLF001
    return Response(body, status=422, content_type=CONTENT_TYPE, headers=headers)


# --- changing and taking back -------------------------------------------------------------------------------------------


def _modify(request: Request, reference: str, idempotency_key: str) -> Response:
    order = _owned(request, reference)
    fields = Fields(request.data, known=CHANGE_FIELDS)
    changes = changes_of(fields, order)
    fields.done()
    take(request, "orders", f"account:{order.account}")
    changed = modify_order(
        order=order, changes=changes, key=_own_key(request, idempotency_key), actor=f"user:{request.user.pk}"
    )
    return Response(order_shape(changed, current_config()))


def _cancel(request: Request, reference: str, idempotency_key: str) -> Response:
    order = _owned(request, reference)
    take(request, "closes", f"account:{order.account}")
    Fields(request.data, known=()).done()
    canceled = cancel_order(order=order, key=_own_key(request, idempotency_key), actor=f"user:{request.user.pk}")
    return Response(order_shape(canceled, current_config()))


def _cancel_all(request: Request, idempotency_key: str) -> Response:
    user = caller_of(request)
    Fields(request.data, known=()).done()
    fields = Fields(request.query_params, known=("account", "symbol"))
    account = fields.whole("account")
    symbol = fields.text("symbol", pattern=SYMBOL, length_max=20, default="")
    fields.done()
    owned = owned_account(user, account)
    take(request, "closes", f"account:{account}")
    if symbol and symbol not in current_config().instruments:
        raise Problem(Refusal.UNKNOWN_SYMBOL)
    canceled = cancel_all(
        account=owned.account, symbol=symbol, key=_own_key(request, idempotency_key), actor=f"user:{user.pk}"
    )
    return Response({"canceled": canceled})


def _owned(request: Request, reference: str) -> Order:
    """The caller's order of that name. Others' are answered like those that do not exist."""
    order = order_by_reference(accounts_of(caller_of(request)), reference)
    if order is None:
        raise Problem(Refusal.ORDER_NOT_FOUND)
    return order


def _own_key(request: Request, idempotency_key: str) -> str:
    return command_key(request, idempotency_key) if idempotency_key else ""
