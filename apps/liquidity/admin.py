"""Our orders at providers, and what providers said: to read."""

from django.contrib import admin

from apps.liquidity.models import ErrorFill, LegSettlement, LpCase, LpExecution, LpInbox, LpLease, LpOrder
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
    list_display = ("id", "kind", "lp", "lp_order_id", "opened_at", "is_settled", "settled_by", "note")
    list_filter = ("is_settled", "kind", "lp")
    ordering = ("is_settled", "-id")


@admin.register(LpExecution)
class LpExecutionAdmin(ReadOnlyAdmin):
    key = ("lp", "exec_id", "trade_date")
    list_display = ("lp", "trade_date", "exec_id", "kind", "owner", "symbol", "side", "volume", "price", "ref", "at")
    list_filter = ("lp", "kind", "owner")
    search_fields = ("=exec_id", "=cl_ord_id", "=ref")
    ordering = ("-at",)


@admin.register(ErrorFill)
class ErrorFillAdmin(ReadOnlyAdmin):
    list_display = (
        "id",
        "lp",
        "symbol",
        "side",
        "volume",
        "price",
        "reason",
        "result",
        "currency",
        "volume_after",
        "at",
    )
    list_filter = ("lp", "reason", "symbol")
    search_fields = ("=cl_ord_id", "=exec_id")
    ordering = ("-id",)


@admin.register(LegSettlement)
class LegSettlementAdmin(ReadOnlyAdmin):
    list_display = ("id", "cl_ord_id", "outcome", "quantity", "price", "status", "proposed_by", "decided_by", "reason")
    list_filter = ("status", "outcome")
    search_fields = ("=cl_ord_id",)
    ordering = ("-id",)


@admin.register(LpLease)
class LpLeaseAdmin(ReadOnlyAdmin):
    list_display = ("lp", "epoch", "stopped")
