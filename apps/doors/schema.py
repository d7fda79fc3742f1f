"""What the API's documentation shows. Nothing is parsed or rendered by these classes: the doors do that themselves, and a
test compares the fields below with what the doors really answer.
"""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers


class DoorSchema(AutoSchema):
    """Adds which rate limit counts an operation."""

    def get_extensions(self) -> dict[str, Any]:
        return {"x-rate-limit-bucket": getattr(self.view, "bucket", None) or "per account"}


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "apps.accounts.authentication.BearerAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:  # noqa: ARG002
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class BrowserScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "apps.accounts.authentication.BrowserAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:  # noqa: ARG002
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}


def query(name: str, description: str, *, enum: list[str] | None = None, required: bool = False) -> OpenApiParameter:
    return OpenApiParameter(name, OpenApiTypes.STR, description=description, enum=enum, required=required)


def header(name: str, description: str, *, required: bool = False) -> OpenApiParameter:
    return OpenApiParameter(name, OpenApiTypes.STR, OpenApiParameter.HEADER, description=description, required=required)


PREFER = header("Prefer", "wait=n: seconds to wait for a final state, 2 by default, 10 at most")
IDEMPOTENCY_KEY = header("Idempotency-Key", "the same request under the same key gets the same bytes for 24 hours")
IDEMPOTENCY_KEY_REQUIRED = header("Idempotency-Key", "required: a new one for each movement of money", required=True)
ACCOUNT_PARAMETER = OpenApiParameter("account", OpenApiTypes.INT64, description="one of your accounts; all without it")
WHOSE_ORDERS = OpenApiParameter(
    "account", OpenApiTypes.INT64, description="the account whose resting orders are taken back", required=True
)
SYMBOL_TO_CANCEL = query("symbol", "only orders in this symbol")
PAGE_PARAMETERS = [
    ACCOUNT_PARAMETER,
    OpenApiParameter("limit", OpenApiTypes.INT, description="rows per page, 100 by default, 500 at most"),
    query("cursor", "next_cursor of the page before"),
]


def _number(**options: Any) -> serializers.DecimalField:
    """A decimal as a string."""
    return serializers.DecimalField(max_digits=28, decimal_places=10, **options)


class _Shape(serializers.Serializer[Any]):
    """Documentation only."""


class FieldProblem(_Shape):
    pointer = serializers.CharField()
    code = serializers.CharField()
    detail = serializers.CharField()


class ProblemShape(_Shape):
    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    instance = serializers.CharField()
    code = serializers.CharField()
    request_id = serializers.CharField()
    retryable = serializers.BooleanField()
    retry_after_ms = serializers.IntegerField(required=False)
    mt_retcode = serializers.IntegerField()
    ord_rej_reason = serializers.IntegerField(allow_null=True)
    errors = FieldProblem(many=True, required=False)  # type: ignore[assignment]


PROBLEMS: dict[Any, Any] = {
    (status, "application/problem+json"): ProblemShape for status in (400, 401, 403, 404, 409, 422, 429, 503)
}


class LOGIN(_Shape):
    username = serializers.CharField()
    password = serializers.CharField()


class REFRESH(_Shape):
    refresh = serializers.CharField()


LOGOUT = None


class TOKENS(_Shape):
    access = serializers.CharField()
    refresh = serializers.CharField()
    token_type = serializers.CharField()
    expires_in = serializers.IntegerField()


class RejectShape(_Shape):
    code = serializers.CharField()
    reason = serializers.CharField()
    mt_retcode = serializers.IntegerField()
    ord_rej_reason = serializers.IntegerField(allow_null=True)


class LinkShape(_Shape):
    rel = serializers.CharField()
    href = serializers.CharField()


class LevelShape(_Shape):
    price = _number(required=False, allow_null=True)
    distance = serializers.IntegerField(required=False, allow_null=True, help_text="points from the opening price")


class TrailingShape(_Shape):
    distance = serializers.IntegerField(help_text="points between the best price and the stop loss")
    step = serializers.IntegerField(required=False, help_text="points that the price must gain before the stop follows")


class ORDER_REQUEST(_Shape):  # noqa: N801 - named like the other shapes that views refer to
    account = serializers.IntegerField()
    symbol = serializers.CharField()
    side = serializers.CharField(help_text="buy or sell")
    type = serializers.CharField(required=False, help_text="market (default), limit, stop or stop_limit")
    volume = _number(required=False, help_text="lots; or quantity")
    quantity = _number(required=False, help_text="units of the base currency")
    price = _number(required=False, allow_null=True, help_text="limit and stop_limit; market: the price that was seen")
    stop_price = _number(required=False, allow_null=True, help_text="stop and stop_limit")
    time_in_force = serializers.CharField(required=False, allow_null=True, help_text="gtc, day, gtd, ioc or fok")
    expires_at = serializers.DateTimeField(required=False, allow_null=True, help_text="with gtd; UTC")
    max_slippage = serializers.IntegerField(required=False, allow_null=True, help_text="points from price; market only")
    stop_loss = LevelShape(required=False, allow_null=True)
    take_profit = LevelShape(required=False, allow_null=True)
    trailing_stop = TrailingShape(required=False, allow_null=True)
    client_order_id = serializers.CharField(required=False, max_length=48)
    comment = serializers.CharField(required=False, max_length=64)


class ORDER_CHANGES(_Shape):  # noqa: N801
    volume = _number(required=False)
    price = _number(required=False)
    stop_price = _number(required=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, help_text="null: never")
    stop_loss = LevelShape(required=False, allow_null=True, help_text="null: none")
    take_profit = LevelShape(required=False, allow_null=True, help_text="null: none")
    trailing_stop = TrailingShape(required=False, allow_null=True, help_text="null: none")


class CANCELED(_Shape):
    canceled = serializers.IntegerField(help_text="how many orders were taken back")


class ORDER(_Shape):
    id = serializers.UUIDField()
    ticket = serializers.IntegerField()
    client_order_id = serializers.CharField()
    account = serializers.IntegerField()
    symbol = serializers.CharField()
    side = serializers.CharField()
    type = serializers.CharField()
    volume = _number()
    quantity = _number(allow_null=True)
    filled_volume = _number()
    filled_quantity = _number(allow_null=True)
    avg_price = _number(allow_null=True)
    price = _number(allow_null=True)
    stop_price = _number(allow_null=True)
    time_in_force = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)
    max_slippage = serializers.IntegerField(allow_null=True)
    stop_loss = LevelShape(allow_null=True)
    take_profit = LevelShape(allow_null=True)
    trailing_stop = TrailingShape(allow_null=True)
    status = serializers.CharField()
    reason = serializers.CharField(help_text="client, stop_loss or take_profit")
    position_id = serializers.IntegerField(allow_null=True)
    reduce_only = serializers.BooleanField()
    comment = serializers.CharField()
    reject = RejectShape(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    links = LinkShape(many=True)


class DEAL(_Shape):
    id = serializers.IntegerField()
    order_ticket = serializers.IntegerField()
    position_id = serializers.IntegerField()
    account = serializers.IntegerField()
    symbol = serializers.CharField()
    side = serializers.CharField()
    entry = serializers.CharField()
    volume = _number()
    price = _number()
    profit = _number()
    commission = _number()
    at = serializers.DateTimeField()


class POSITION(_Shape):
    id = serializers.IntegerField()
    account = serializers.IntegerField()
    symbol = serializers.CharField()
    side = serializers.CharField()
    status = serializers.CharField()
    volume = _number()
    volume_opened = _number()
    open_price = _number()
    stop_loss = LevelShape(allow_null=True)
    take_profit = LevelShape(allow_null=True)
    trailing_stop = TrailingShape(allow_null=True)
    margin = _number()
    locked_volume = _number()
    opened_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class PROTECTION_REQUEST(_Shape):  # noqa: N801
    stop_loss = LevelShape(required=False, allow_null=True, help_text="null: none")
    take_profit = LevelShape(required=False, allow_null=True, help_text="null: none")
    trailing_stop = TrailingShape(required=False, allow_null=True, help_text="null: none")


class CLOSE_REQUEST(_Shape):  # noqa: N801
    volume = _number(required=False)
    client_order_id = serializers.CharField(required=False, max_length=48)
    comment = serializers.CharField(required=False, max_length=64)


class ENTRY(_Shape):
    transaction_id = serializers.IntegerField()
    line = serializers.IntegerField()
    account = serializers.IntegerField()
    kind = serializers.CharField()
    currency = serializers.CharField()
    amount = _number()
    order_ticket = serializers.IntegerField(allow_null=True)
    deal_id = serializers.IntegerField(allow_null=True)
    position_id = serializers.IntegerField(allow_null=True)
    reference = serializers.CharField()
    at = serializers.DateTimeField()


class DEPOSIT_REQUEST(_Shape):  # noqa: N801
    account = serializers.IntegerField()
    amount = _number()
    reference = serializers.CharField(required=False, max_length=64)


class DEPOSITED(_Shape):
    transaction_id = serializers.IntegerField()
    account = serializers.IntegerField()
    currency = serializers.CharField()
    amount = _number()
    balance = _number()


class ACCOUNT(_Shape):
    id = serializers.IntegerField()
    name = serializers.CharField()
    environment = serializers.CharField()
    currency = serializers.CharField()
    leverage = serializers.IntegerField()
    rights = serializers.CharField()
    balance = _number()
    credit = _number()
    equity = _number(allow_null=True)
    margin = _number()
    free_margin = _number(allow_null=True)
    margin_level = _number(allow_null=True)
    unpriced = serializers.ListField(child=serializers.CharField())


class ACCOUNT_REQUEST(_Shape):  # noqa: N801
    currency = serializers.CharField()
    leverage = serializers.IntegerField(required=False)
    name = serializers.CharField(required=False)


class ACCOUNTS(_Shape):
    data = ACCOUNT(many=True)  # type: ignore[assignment]


class SYMBOL_SHAPE(_Shape):  # noqa: N801
    symbol = serializers.CharField()
    description = serializers.CharField()
    asset_class = serializers.CharField()
    base = serializers.CharField()
    quote = serializers.CharField()
    digits = serializers.IntegerField()
    point = _number()
    contract_size = _number()
    volume_min = _number()
    volume_max = _number()
    volume_step = _number()
    trade_mode = serializers.CharField()


class SYMBOLS(_Shape):
    data = SYMBOL_SHAPE(many=True)  # type: ignore[assignment]


class QUOTE(_Shape):
    symbol = serializers.CharField()
    bid = _number(allow_null=True)
    ask = _number(allow_null=True)
    at = serializers.DateTimeField(allow_null=True)
    age_ms = serializers.IntegerField(allow_null=True)
    error = serializers.CharField(allow_null=True)


class QUOTES(_Shape):
    data = QUOTE(many=True)  # type: ignore[assignment]


class TIME(_Shape):
    time = serializers.DateTimeField()
    business_time = serializers.DateTimeField()


class STATUS(_Shape):
    status = serializers.CharField()
    trading = serializers.BooleanField()
    quotes = serializers.BooleanField()


class ERROR_TERMS(_Shape):  # noqa: N801
    code = serializers.CharField()
    http_status = serializers.IntegerField()
    title = serializers.CharField()
    remediation = serializers.CharField()
    retryable = serializers.BooleanField()
    mt_retcode = serializers.IntegerField()
    ord_rej_reason = serializers.IntegerField(allow_null=True)


class ERRORS(_Shape):
    data = ERROR_TERMS(many=True)  # type: ignore[assignment]


class CONDITION_SHAPE(_Shape):  # noqa: N801
    field = serializers.CharField()
    operator = serializers.CharField()
    values = serializers.ListField(child=serializers.CharField())


class RULE(_Shape):
    name = serializers.CharField()
    conditions = CONDITION_SHAPE(many=True)
    action = serializers.CharField()
    a_share = _number()
    lps = serializers.ListField(child=serializers.CharField(), required=False)
    below_lp_minimum = serializers.CharField(required=False)


class POLICY_REQUEST(_Shape):  # noqa: N801
    rules = RULE(many=True)


class POLICY(_Shape):
    config_version = serializers.IntegerField()
    policy_version = serializers.IntegerField()
    active = serializers.BooleanField(help_text="the engine has confirmed that it decides by this version")
    rules = RULE(many=True)


class DECISION(_Shape):
    order_ticket = serializers.IntegerField()
    account = serializers.IntegerField()
    symbol = serializers.CharField()
    book = serializers.CharField()
    rule_name = serializers.CharField()
    policy_version = serializers.IntegerField()
    lp = serializers.CharField()
    decision = serializers.JSONField()
    legs = serializers.JSONField()
    deals = serializers.JSONField()
    transfers = serializers.JSONField()
    at = serializers.DateTimeField()


class RECONCILIATION(_Shape):
    symbols = serializers.JSONField()
    ledger = serializers.JSONField()
    balances = serializers.JSONField()
    flat = serializers.BooleanField()
    reconciled = serializers.BooleanField()


def _page(name: str, item: type[_Shape]) -> type[_Shape]:
    fields: dict[str, Any] = {"data": item(many=True), "next_cursor": serializers.CharField(allow_null=True)}
    return type(name, (_Shape,), fields)


ORDER_PAGE = _page("OrderPage", ORDER)
DEAL_PAGE = _page("DealPage", DEAL)
POSITION_PAGE = _page("PositionPage", POSITION)
ENTRY_PAGE = _page("EntryPage", ENTRY)
