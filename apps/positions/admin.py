"""Positions in the admin: to read."""

from django.contrib import admin

from apps.positions.models import Position, SwapAccrual
from apps.readonly import ReadOnlyAdmin


@admin.register(Position)
class PositionAdmin(ReadOnlyAdmin):
    list_display = ("id", "account", "symbol", "side", "volume", "volume_a", "lp", "margin", "locked", "opened_at")
    list_filter = ("symbol", "side", "lp")
    search_fields = ("=id", "=account")
    ordering = ("-id",)


@admin.register(SwapAccrual)
class SwapAccrualAdmin(ReadOnlyAdmin):
    key = ("position_id", "date", "period")
    list_display = ("position_id", "date", "period", "account", "symbol", "factor", "rate", "amount", "why")
    list_filter = ("symbol",)
    search_fields = ("=position_id", "=account")
    ordering = ("-date", "-position_id")
