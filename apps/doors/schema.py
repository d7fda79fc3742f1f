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
WHOSE_TERMS = OpenApiParameter("account", OpenApiTypes.INT64, description="terms as this account's group has them")
PAGE_PARAMETERS_ALONE = [
    OpenApiParameter("limit", OpenApiTypes.INT, description="rows per page, 100 by default, 500 at most"),
    query("cursor", "next_cursor of the page before"),
]
PAGE_PARAMETERS = [ACCOUNT_PARAMETER, *PAGE_PARAMETERS_ALONE]
UNREAD_ONLY = query("unread", "true: only what was not marked as read", enum=["true", "false"])


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


TRIGGERS = "trade, opposite, double_trade or double_opposite; null: the symbol's way"


class StopLossShape(LevelShape):
    guaranteed = serializers.BooleanField(required=False, help_text="dealt at exactly its price, for a fee")
    trigger = serializers.CharField(required=False, allow_null=True, help_text=TRIGGERS)


class TrailingShape(_Shape):
    distance = serializers.IntegerField(help_text="points between the best price and the stop loss")
    step = serializers.IntegerField(required=False, help_text="points that the price must gain before the stop follows")
    activation = serializers.IntegerField(
        required=False, allow_null=True, help_text="points of profit from which on it follows; null: the distance"
    )


class BreakEvenShape(_Shape):
    distance = serializers.IntegerField(help_text="points of profit at which the stop loss moves to the open price")
    offset = serializers.IntegerField(required=False, help_text="points beyond the open price that are secured")


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
    oco_group = serializers.CharField(
        required=False, allow_null=True, max_length=48, help_text="orders under one name cancel each other"
    )
    stop_trigger = serializers.CharField(required=False, allow_null=True, help_text=TRIGGERS)
    stop_loss = StopLossShape(required=False, allow_null=True)
    take_profit = LevelShape(required=False, allow_null=True)
    trailing_stop = TrailingShape(required=False, allow_null=True)
    break_even = BreakEvenShape(required=False, allow_null=True)
    client_order_id = serializers.CharField(required=False, max_length=48)
    comment = serializers.CharField(required=False, max_length=64)


class ORDER_CHANGES(_Shape):  # noqa: N801
    volume = _number(required=False)
    price = _number(required=False)
    stop_price = _number(required=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, help_text="null: never")
    stop_loss = StopLossShape(required=False, allow_null=True, help_text="null: none")
    take_profit = LevelShape(required=False, allow_null=True, help_text="null: none")
    trailing_stop = TrailingShape(required=False, allow_null=True, help_text="null: none")
    break_even = BreakEvenShape(required=False, allow_null=True, help_text="null: none")


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
    stop_loss = StopLossShape(allow_null=True)
    take_profit = LevelShape(allow_null=True)
    trailing_stop = TrailingShape(allow_null=True)
    break_even = BreakEvenShape(allow_null=True)
    oco_group = serializers.CharField(allow_null=True)
    stop_trigger = serializers.CharField(allow_null=True)
    status = serializers.CharField()
    reason = serializers.CharField(
        help_text="client, stop_loss, take_profit, stop_out, close_out, dealer, rollover, expiry, corporate or close_by"
    )
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
    entry = serializers.CharField(help_text="in, out, inout or out_by")
    volume = _number()
    price = _number()
    profit = _number()
    commission = _number()
    swap = _number()
    fee = _number()
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
    stop_loss = StopLossShape(allow_null=True)
    take_profit = LevelShape(allow_null=True)
    trailing_stop = TrailingShape(allow_null=True)
    break_even = BreakEvenShape(allow_null=True)
    margin = _number()
    swap = _number(help_text="accrued, posted when it is closed")
    locked_volume = _number()
    opened_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class PROTECTION_REQUEST(_Shape):  # noqa: N801
    stop_loss = StopLossShape(required=False, allow_null=True, help_text="null: none")
    take_profit = LevelShape(required=False, allow_null=True, help_text="null: none")
    trailing_stop = TrailingShape(required=False, allow_null=True, help_text="null: none")
    break_even = BreakEvenShape(required=False, allow_null=True, help_text="null: none")


class CLOSE_REQUEST(_Shape):  # noqa: N801
    volume = _number(required=False)
    client_order_id = serializers.CharField(required=False, max_length=48)
    comment = serializers.CharField(required=False, max_length=64)


class CLOSE_BY_REQUEST(_Shape):  # noqa: N801
    by_position_id = serializers.IntegerField(help_text="the opposite position of the same symbol")
    client_order_id = serializers.CharField(required=False, max_length=48)
    comment = serializers.CharField(required=False, max_length=64)


class REVERSE_REQUEST(_Shape):  # noqa: N801
    client_order_id = serializers.CharField(required=False, max_length=48)
    comment = serializers.CharField(required=False, max_length=64)


class CLOSE_MANY_REQUEST(_Shape):  # noqa: N801
    account = serializers.IntegerField()
    which = serializers.CharField(required=False, help_text="all (default), winners or losers")
    symbol = serializers.CharField(required=False)
    comment = serializers.CharField(required=False, max_length=64)


class CLOSING(_Shape):
    closing = serializers.IntegerField(help_text="how many closes began")


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


class WITHDRAWAL_REQUEST(_Shape):  # noqa: N801
    amount = _number()
    reference = serializers.CharField(required=False, max_length=64)


class WITHDRAWAL(_Shape):
    transaction_id = serializers.IntegerField()
    account = serializers.IntegerField()
    currency = serializers.CharField()
    amount = _number()
    status = serializers.CharField(help_text="requested, paid or returned")
    reference = serializers.CharField()
    requested_at = serializers.DateTimeField()
    settled_at = serializers.DateTimeField(allow_null=True)


class WITHDRAWALS(_Shape):
    data = WITHDRAWAL(many=True)  # type: ignore[assignment]


class MARGIN_NOTE(_Shape):  # noqa: N801
    id = serializers.IntegerField()
    account = serializers.IntegerField()
    kind = serializers.CharField()
    rule = serializers.CharField(help_text="what decided: a margin call, a stop-out level, a regulator's rule")
    equity = _number()
    margin = _number()
    level = _number(allow_null=True)
    order_ticket = serializers.IntegerField(allow_null=True)
    position_id = serializers.IntegerField(allow_null=True)
    detail = serializers.CharField()
    prices = serializers.JSONField(help_text="bid and ask per symbol, as the account saw them")
    at = serializers.DateTimeField()


class MARGIN_CALL(_Shape):  # noqa: N801
    reached = _number(allow_null=True, help_text="the deepest level that the account stands at or below")
    levels = serializers.ListField(child=serializers.CharField())
    stop_out = _number(allow_null=True)


class REGULATION(_Shape):
    rule = serializers.CharField()
    source = serializers.CharField()  # type: ignore[assignment]
    close_out_share = _number(allow_null=True)
    negative_balance_protection = serializers.BooleanField()
    leverage_caps = serializers.JSONField()
    banned = serializers.ListField(child=serializers.CharField())


class ACCOUNT(_Shape):
    id = serializers.IntegerField()
    name = serializers.CharField()
    environment = serializers.CharField()
    currency = serializers.CharField()
    leverage = serializers.IntegerField()
    rights = serializers.CharField()
    balance = _number()
    credit = _number()
    swap = _number(help_text="accrued on open positions")
    commission_blocked = _number(help_text="of the day, taken at its end")
    equity = _number(allow_null=True)
    margin = _number()
    free_margin = _number(allow_null=True)
    margin_level = _number(allow_null=True)
    withdrawable = _number(allow_null=True)
    buying_power = _number(help_text="cash for instruments that are bought in full")
    margin_call = MARGIN_CALL()
    client_class = serializers.CharField()
    jurisdiction = serializers.CharField()
    regulation = REGULATION(allow_null=True)
    unpriced = serializers.ListField(child=serializers.CharField())


class ACCOUNT_REQUEST(_Shape):  # noqa: N801
    currency = serializers.CharField()
    leverage = serializers.IntegerField(required=False)
    name = serializers.CharField(required=False)


class ACCOUNTS(_Shape):
    data = ACCOUNT(many=True)  # type: ignore[assignment]


class SwapShape(_Shape):
    mode = serializers.CharField()
    long = _number()
    short = _number()
    multipliers = serializers.ListField(child=serializers.CharField(), help_text="Monday first")


class GuaranteeShape(_Shape):
    fee_points = _number()
    distance_min_points = serializers.IntegerField()


class FeeTierShape(_Shape):
    at_least = _number(help_text="turnover in USD")
    maker = _number(help_text="per cent of the value")
    taker = _number()


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
    stops_level = serializers.IntegerField()
    freeze_level = serializers.IntegerField()
    stop_trigger = serializers.CharField()
    margin_mode = serializers.CharField()
    swap = SwapShape()
    guarantee = GuaranteeShape(allow_null=True)
    fees = FeeTierShape(many=True, allow_null=True)
    is_cash = serializers.BooleanField()
    expires_at = serializers.DateTimeField(allow_null=True)


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


class EFFECTIVE_TERM(_Shape):  # noqa: N801
    field = serializers.CharField()
    value = serializers.CharField()
    rule = serializers.CharField(help_text="the override that set it, or symbol")


class EFFECTIVE_TERMS(_Shape):  # noqa: N801
    config_version = serializers.IntegerField()
    published_at = serializers.DateTimeField()
    at = serializers.DateTimeField()
    group = serializers.CharField()
    symbol = serializers.CharField()
    terms = EFFECTIVE_TERM(many=True)
    group_terms = serializers.JSONField()
    regulation = serializers.JSONField()
    leverage_max = serializers.IntegerField()


class DONE(_Shape):
    reference = serializers.IntegerField(help_text="the transaction, account or count that came of it; 0 for none")
    changed = serializers.BooleanField(help_text="false where nothing had to be done")


class MOVEMENT_REQUEST(_Shape):  # noqa: N801
    amount = _number(help_text="below zero takes away, where that is possible")
    reference = serializers.CharField(required=False, max_length=64, help_text="why; required for an adjustment")


class SETTLEMENT_REQUEST(_Shape):  # noqa: N801
    is_paid = serializers.BooleanField(help_text="false gives the money back to the client")
    reference = serializers.CharField(required=False, max_length=64)


class ACCOUNT_CHANGES(_Shape):  # noqa: N801
    group = serializers.CharField(required=False)
    leverage = serializers.IntegerField(required=False)
    rights = serializers.CharField(required=False)
    client_class = serializers.CharField(required=False)
    jurisdiction = serializers.CharField(required=False, allow_blank=True, help_text="empty for none")
    stp_only = serializers.BooleanField(required=False)


class SWITCH_REQUEST(_Shape):  # noqa: N801
    scope = serializers.CharField(help_text="firm, symbol, account or lp")
    target = serializers.CharField(required=False, help_text="the symbol, the account's number, or the provider's name")
    stops = serializers.BooleanField()


class ALERT(_Shape):
    key = serializers.CharField(help_text="the kind, and after a colon what it is about")
    kind = serializers.CharField()
    severity = serializers.CharField(help_text="info, warning or critical")
    text = serializers.CharField()
    raised_at = serializers.CharField()
    last_at = serializers.CharField(help_text="when it was raised last")
    count = serializers.IntegerField(help_text="how often it was raised since")


class ALERTS(_Shape):
    data = ALERT(many=True)  # type: ignore[assignment]


class SWITCHES(_Shape):
    firm = serializers.BooleanField()
    symbols = serializers.ListField(child=serializers.CharField())
    accounts = serializers.ListField(child=serializers.IntegerField())
    lps = serializers.ListField(child=serializers.CharField())
    is_disk_low = serializers.BooleanField(
        help_text="set by the engine: nothing is opened while the disk is nearly full"
    )


class DIVIDEND_REQUEST(_Shape):  # noqa: N801
    symbol = serializers.CharField()
    long_per_unit = _number(help_text="of the quote currency; credited to longs")
    short_per_unit = _number(help_text="usually below zero")
    ex_at = serializers.DateTimeField(help_text="positions opened before it count; UTC")
    reference = serializers.CharField(required=False, max_length=64)


class SPLIT_REQUEST(_Shape):  # noqa: N801
    symbol = serializers.CharField()
    new = serializers.IntegerField()
    old = serializers.IntegerField()
    reference = serializers.CharField(required=False, max_length=64)


class EXPIRY_REQUEST(_Shape):  # noqa: N801
    symbol = serializers.CharField()
    price = _number(help_text="the settlement price")
    reference = serializers.CharField(required=False, max_length=64)


class CORRECTION_REQUEST(_Shape):  # noqa: N801
    price = _number(required=False, allow_null=True, help_text="the right price; null undoes the deal")
    reason = serializers.CharField(max_length=200)


class CORRECTION(_Shape):
    id = serializers.IntegerField()
    deal_id = serializers.IntegerField()
    account = serializers.IntegerField()
    price = _number(allow_null=True)
    reason = serializers.CharField()
    status = serializers.CharField(help_text="proposed, approved or refused")
    refusal = serializers.CharField()
    proposed_by = serializers.CharField()
    proposed_at = serializers.DateTimeField()
    decided_by = serializers.CharField()
    decided_at = serializers.DateTimeField(allow_null=True)


class CORRECTIONS(_Shape):
    data = CORRECTION(many=True)  # type: ignore[assignment]


class CASE_REQUEST(_Shape):  # noqa: N801
    note = serializers.CharField(max_length=500, help_text="what was done about it")


class CASE(_Shape):
    id = serializers.IntegerField()
    kind = serializers.CharField()
    lp = serializers.CharField()
    cl_ord_id = serializers.CharField()
    order_ticket = serializers.IntegerField(allow_null=True)
    report = serializers.JSONField(help_text="what the provider said")
    opened_at = serializers.DateTimeField()
    is_settled = serializers.BooleanField()
    settled_by = serializers.CharField()
    settled_at = serializers.DateTimeField(allow_null=True)
    note = serializers.CharField()


class CASES(_Shape):
    data = CASE(many=True)  # type: ignore[assignment]


class ERROR_HOLDING(_Shape):  # noqa: N801
    lp = serializers.CharField()
    symbol = serializers.CharField()
    volume = _number(help_text="lots; below zero is short")
    cost = _number(help_text="sum of price x lots")


class HALT(_Shape):
    lp = serializers.CharField()
    symbol = serializers.CharField()


class ERROR_ACCOUNT(_Shape):  # noqa: N801
    holdings = ERROR_HOLDING(many=True)
    halts = HALT(many=True)


LIFT_REQUEST = HALT


class LEG_SETTLEMENT_REQUEST(_Shape):  # noqa: N801
    outcome = serializers.ChoiceField(["not_filled", "filled"])
    quantity = _number(
        required=False, allow_null=True, help_text="units of base, besides what is booked; of what was filled"
    )
    price = _number(required=False, allow_null=True)
    reference = serializers.CharField(required=False, max_length=100, help_text="where the provider confirmed it")
    reason = serializers.CharField(max_length=200)


class LEG_SETTLEMENT(_Shape):  # noqa: N801
    id = serializers.IntegerField()
    cl_ord_id = serializers.CharField()
    outcome = serializers.CharField()
    quantity = _number(allow_null=True)
    price = _number(allow_null=True)
    filled_volume = _number(
        help_text="lots that were booked when it was proposed; approving is refused when it is more"
    )
    reference = serializers.CharField()
    reason = serializers.CharField()
    status = serializers.CharField(help_text="proposed, approved, rejected or refused")
    refusal = serializers.CharField()
    proposed_by = serializers.CharField()
    proposed_at = serializers.DateTimeField()
    decided_by = serializers.CharField()
    decided_at = serializers.DateTimeField(allow_null=True)


class LEG_SETTLEMENTS(_Shape):  # noqa: N801
    data = LEG_SETTLEMENT(many=True)  # type: ignore[assignment]


class NOTIFICATION(_Shape):
    id = serializers.IntegerField()
    account = serializers.IntegerField()
    kind = serializers.CharField()
    text = serializers.CharField(help_text="English")
    at = serializers.DateTimeField()
    read_at = serializers.DateTimeField(allow_null=True)


def _page(name: str, item: type[_Shape]) -> type[_Shape]:
    fields: dict[str, Any] = {"data": item(many=True), "next_cursor": serializers.CharField(allow_null=True)}
    return type(name, (_Shape,), fields)


ORDER_PAGE = _page("OrderPage", ORDER)
DEAL_PAGE = _page("DealPage", DEAL)
POSITION_PAGE = _page("PositionPage", POSITION)
ENTRY_PAGE = _page("EntryPage", ENTRY)
WITHDRAWAL_PAGE = _page("WithdrawalPage", WITHDRAWAL)
MARGIN_NOTE_PAGE = _page("MarginNotePage", MARGIN_NOTE)
NOTIFICATION_PAGE = _page("NotificationPage", NOTIFICATION)
