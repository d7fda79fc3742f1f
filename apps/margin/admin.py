"""Margin calls and stop-outs in the admin: to read."""

from django.contrib import admin

from apps.margin.models import MarginNote
from apps.readonly import ReadOnlyAdmin


@admin.register(MarginNote)
class MarginNoteAdmin(ReadOnlyAdmin):
    list_display = ("id", "at", "account", "kind", "rule", "equity", "margin", "level", "position_id", "detail")
    list_filter = ("kind",)
    search_fields = ("=account", "=position_id", "=order_id")
    ordering = ("-id",)
