"""Orders and deals in the admin: to read."""

from django.contrib import admin

from apps.orders.models import Deal, Order
from apps.readonly import ReadOnlyAdmin


@admin.register(Order)
class OrderAdmin(ReadOnlyAdmin):
    list_display = ("id", "account", "symbol", "side", "volume", "status", "book", "refusal", "created_at")
    list_filter = ("status", "book", "symbol", "side")
    search_fields = ("=id", "=account", "=client_order_id", "=uuid")
    ordering = ("-id",)


@admin.register(Deal)
class DealAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "order_id",
        "account",
        "symbol",
        "side",
        "entry",
        "volume",
        "price",
        "profit",
        "book",
        "lp",
        "at",
    )
    list_filter = ("book", "entry", "symbol", "lp")
    search_fields = ("=id", "=order_id", "=account", "=exec_id")
    ordering = ("-id",)
