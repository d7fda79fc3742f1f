"""Stored answers in the admin: to read."""

from django.contrib import admin

from apps.doors.models import IdempotentResponse
from apps.readonly import ReadOnlyAdmin


@admin.register(IdempotentResponse)
class IdempotentResponseAdmin(ReadOnlyAdmin):
    list_display = ("user_id", "key", "status", "created_at")
    search_fields = ("=key", "=user_id")
    exclude = ("body",)
    ordering = ("-created_at",)
