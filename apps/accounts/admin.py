"""Logins and whose accounts are whose; the engine's account rows to read. Money and terms change by commands only."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from apps.accounts import tokens
from apps.accounts.models import Account, Profile, RefreshToken, User
from apps.readonly import ReadOnlyAdmin


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    actions = ("end_sessions",)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        """Logins are disabled, not deleted: records name them."""
        return False

    @admin.action(description="End all API sessions")
    def end_sessions(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset:
            tokens.revoke_all(user)
        self.message_user(request, "Their tokens are refused from now on.")


@admin.register(Profile)
class ProfileAdmin(ModelAdmin):
    list_display = ("account", "user", "name", "environment", "created_at")
    list_filter = ("environment",)
    search_fields = ("=account", "user__username")
    autocomplete_fields = ("user",)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:  # noqa: ARG002
        """An account's number and kind stay what they were when it was opened."""
        return ("account", "environment") if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    list_display = ("id", "group", "currency", "balance", "credit", "leverage", "client_class", "rights")
    list_filter = ("group", "currency", "client_class", "rights")
    search_fields = ("=id",)
    ordering = ("id",)


@admin.register(RefreshToken)
class RefreshTokenAdmin(ReadOnlyAdmin):
    list_display = ("user", "family", "issued_at", "expires_at", "used_at", "revoked_at")
    ordering = ("-issued_at",)
