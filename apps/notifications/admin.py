"""Notifications in the admin: to read."""

from django.contrib import admin

from apps.notifications.models import Notification
from apps.readonly import ReadOnlyAdmin


@admin.register(Notification)
class NotificationAdmin(ReadOnlyAdmin):
    list_display = ("id", "at", "account", "kind", "text", "read_at")
    list_filter = ("kind",)
    search_fields = ("=account", "=event")
    ordering = ("-id",)
