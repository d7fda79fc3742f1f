"""The ledger in the admin: to read."""

from django.contrib import admin

from apps.ledger.models import Balance, CommissionBlock, CommissionDay, Posting, Transfer
from apps.readonly import ReadOnlyAdmin


@admin.register(Transfer)
class TransferAdmin(ReadOnlyAdmin):
    key = ("transaction_id", "line")
    list_display = ("transaction_id", "line", "kind", "source", "target", "amount", "currency", "deal_id", "at")
    list_filter = ("kind", "currency")
    search_fields = ("=transaction_id", "=source", "=target", "=deal_id")
    ordering = ("-transaction_id", "line")


@admin.register(Posting)
class PostingAdmin(ReadOnlyAdmin):
    key = ("transaction_id", "line", "account")
    list_display = ("transaction_id", "line", "kind", "account", "amount", "currency", "at")
    list_filter = ("kind", "currency")
    search_fields = ("=transaction_id", "=account")
    ordering = ("-transaction_id", "line", "amount")


@admin.register(Balance)
class BalanceAdmin(ReadOnlyAdmin):
    key = ("account", "currency")
    list_display = ("account", "currency", "balance")
    list_filter = ("currency",)
    search_fields = ("=account",)
    ordering = ("account", "currency")


@admin.register(CommissionBlock)
class CommissionBlockAdmin(ReadOnlyAdmin):
    key = ("account", "rule", "key")
    list_display = ("account", "rule", "date", "key", "units", "volume")
    list_filter = ("rule",)
    search_fields = ("=account", "=key")
    ordering = ("-date", "account")


@admin.register(CommissionDay)
class CommissionDayAdmin(ReadOnlyAdmin):
    key = ("account", "rule", "date")
    list_display = ("account", "rule", "date", "amount", "lots", "money", "transaction_id")
    list_filter = ("rule",)
    search_fields = ("=account", "=transaction_id")
    ordering = ("-date", "account")
