"""Positions in the admin: to read."""

from django.contrib import admin

from apps.positions.models import Position
from apps.readonly import ReadOnlyAdmin


@admin.register(Position)
class PositionAdmin(ReadOnlyAdmin):
    list_display = ("id", "account", "symbol", "side", "volume", "volume_a", "lp", "margin", "locked", "opened_at")
    list_filter = ("symbol", "side", "lp")
    search_fields = ("=id", "=account")
    ordering = ("-id",)
