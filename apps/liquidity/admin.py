"""Our orders at providers, and what providers said: to read."""

from django.contrib import admin

from apps.liquidity.models import LpCase, LpInbox, LpOrder
from apps.readonly import ReadOnlyAdmin


@admin.register(LpOrder)
class LpOrderAdmin(ReadOnlyAdmin):
    list_display = (
        "cl_ord_id",
        "order_id",
        "lp",
        "symbol",
        "side",
        "volume",
        "filled_volume",
        "status",
        "dispatch_state",
    )
    list_filter = ("lp", "status", "dispatch_state", "symbol")
    search_fields = ("=cl_ord_id", "=order_id", "=lp_order_id")
    ordering = ("-id",)


@admin.register(LpInbox)
class LpInboxAdmin(ReadOnlyAdmin):
    key = ("lp", "seq")
    list_display = ("lp", "seq", "kind", "cl_ord_id", "exec_id", "trade_date", "received_at")
    list_filter = ("lp", "kind")
    search_fields = ("=cl_ord_id", "=exec_id")
    ordering = ("lp", "-seq")


@admin.register(LpCase)
class LpCaseAdmin(ReadOnlyAdmin):
    list_display = ("id", "kind", "lp", "lp_order_id", "opened_at")
    list_filter = ("kind", "lp")
    ordering = ("-id",)
