"""Orders and deals: the engine's rows, read here and never written."""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Value

from apps.tables import (
    between_volumes,
    bounded_prices,
    cost_column,
    exact_column,
    finite,
    money_column,
    one_of,
    price_column,
    volume_column,
)
from trading.orders import Book, DealEntry, OrderReason, OrderStatus, OrderType, Side, TimeInForce
from trading.protection import StopTriggerMethod


class Order(models.Model):
    """A client's order."""

    id = models.BigIntegerField(primary_key=True)
    uuid = models.UUIDField()
    account = models.BigIntegerField()
    client_order_id = models.TextField()
    symbol = models.TextField()
    side = models.TextField()
    type = models.TextField()
    volume = volume_column()
    status = models.TextField()
    filled_volume = volume_column()
    filled_cost = cost_column()
    position_id = models.BigIntegerField()
    closes = models.BooleanField()
    refusal = models.TextField(blank=True)
    detail = models.TextField(blank=True)
    comment = models.TextField(blank=True)
    book = models.TextField(null=True, blank=True)  # noqa: DJ001 - an order refused before routing has no book
    volume_a = volume_column()
    filled_a = volume_column()
    margin_reserved = exact_column()
    attempts = ArrayField(models.TextField(), blank=True)
    price = price_column(null=True, blank=True)
    stop_price = price_column(null=True, blank=True)
    time_in_force = models.TextField(db_default=TimeInForce.IOC.value)
    expires_at = models.DateTimeField(null=True, blank=True)
    max_slippage = models.IntegerField(null=True, blank=True)
    stop_loss = price_column(null=True, blank=True)
    stop_loss_points = models.IntegerField(db_default=0)
    take_profit = price_column(null=True, blank=True)
    take_profit_points = models.IntegerField(db_default=0)
    trailing_points = models.IntegerField(db_default=0)
    trailing_step = models.IntegerField(db_default=0)
    trailing_activation = models.IntegerField(null=True, blank=True)
    break_even_points = models.IntegerField(db_default=0)
    break_even_offset = models.IntegerField(db_default=0)
    is_guaranteed = models.BooleanField(db_default=False)
    sl_trigger = models.TextField(blank=True, db_default="")
    is_triggered = models.BooleanField(db_default=False)
    reason = models.TextField(db_default=OrderReason.CLIENT.value)
    hedged_reserved = exact_column(db_default=0)
    unleveraged_reserved = exact_column(db_default=0)
    notional_reserved = exact_column(db_default=0)
    oco_group = models.TextField(blank=True, db_default="")
    netted = volume_column(db_default=0)
    stop_trigger = models.TextField(blank=True, db_default="")
    commissions = models.JSONField(db_default=Value([], models.JSONField()), blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "trade_order"
        constraints = [
            models.UniqueConstraint(fields=["account", "client_order_id"], name="trade_order_client_order_id"),
            between_volumes("trade_order", "volume", "filled_volume", "volume_a", "filled_a", "netted"),
            finite("trade_order", "filled_cost", "margin_reserved"),
            finite("trade_order", "hedged_reserved", "unleveraged_reserved", "notional_reserved", name="charges"),
            one_of("trade_order", "stop_trigger", ["", *(method.value for method in StopTriggerMethod)]),
            one_of("trade_order", "sl_trigger", ["", *(method.value for method in StopTriggerMethod)]),
            one_of("trade_order", "side", [side.value for side in Side]),
            one_of("trade_order", "type", [kind.value for kind in OrderType]),
            one_of("trade_order", "time_in_force", [one.value for one in TimeInForce]),
            one_of("trade_order", "reason", [reason.value for reason in OrderReason]),
            bounded_prices("trade_order", "price", "stop_price", "stop_loss", "take_profit"),
            one_of("trade_order", "status", [status.value for status in OrderStatus]),
            models.CheckConstraint(
                condition=models.Q(book__isnull=True) | models.Q(book__in=["", *(book.value for book in Book)]),
                name="trade_order_book",
            ),
        ]
        indexes = [
            # A client's history by ticket; the order that a request made (UUIDv7, so the index grows at its end only);
            # and what is in flight, for recovery and for `status=open`.
            models.Index(fields=["account", "id"], name="trade_order_account"),
            models.Index(fields=["uuid"], name="trade_order_uuid"),
            models.Index(
                fields=["id"],
                name="trade_order_live",
                condition=models.Q(status__in=["pending_new", "new", "partially_filled"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.side} {self.volume} {self.symbol}"


class Deal(models.Model):
    """One execution. Append-only: a trigger refuses UPDATE and DELETE."""

    id = models.BigIntegerField(primary_key=True)
    order_id = models.BigIntegerField()
    position_id = models.BigIntegerField()
    account = models.BigIntegerField()
    symbol = models.TextField()
    side = models.TextField()
    entry = models.TextField()
    volume = volume_column()
    price = price_column()
    profit = money_column()
    commission = money_column()
    book = models.TextField()
    lp = models.TextField(blank=True)
    exec_id = models.TextField(blank=True)
    lp_price = price_column(null=True, blank=True)
    swap = money_column(db_default=0)
    fee = money_column(db_default=0)
    at = models.DateTimeField()

    class Meta:
        db_table = "deal"
        constraints = [
            between_volumes("deal", "volume"),
            models.CheckConstraint(
                condition=models.Q(price__gt=0, price__lte=10**12)
                & (models.Q(lp_price__isnull=True) | models.Q(lp_price__gte=0, lp_price__lte=10**12)),
                name="deal_prices",
            ),
            finite("deal", "profit", "commission", "swap", "fee"),
            one_of("deal", "side", [side.value for side in Side]),
            one_of("deal", "entry", [entry.value for entry in DealEntry]),
            one_of("deal", "book", [Book.A.value, Book.B.value]),
        ]
        indexes = [
            models.Index(fields=["account", "id"], name="deal_account"),
            BrinIndex(fields=["order_id"], name="deal_order", autosummarize=True),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.side} {self.volume} {self.symbol}"
