"""The configuration in the admin, with the button that publishes it; the engine's own records, to read."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action

from apps.accounts.models import Group
from apps.instruments.models import Currency, Instrument
from apps.liquidity.models import LiquidityProvider, LpInstrument
from apps.operations.models import (
    AuditEntry,
    Batch,
    CommandKey,
    ConfigVersion,
    Outbox,
    ParkedCommand,
    Shard,
)
from apps.operations.services import audit, publish_config
from apps.readonly import ReadOnlyAdmin
from apps.routing_rules.models import Rule
from apps.routing_rules.services import RuleRefused, conditions_from
from trading.configuration import ConfigurationRefused


class PublishingAdmin(ModelAdmin):
    """Configuration: what is saved here takes effect only when it is published, all of it together."""

    actions_list = ("publish",)

    def has_publish_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return request.user.has_perm("operations.add_configversion")

    @action(description="Publish configuration", url_path="publish", permissions=["publish"])
    def publish(self, request: HttpRequest) -> HttpResponse:
        """Ask first, publish on POST: a link alone changes nothing."""
        if request.method != "POST":
            context = {**self.admin_site.each_context(request), "title": "Publish configuration"}
            return TemplateResponse(request, "operations/publish.html", context)
        self._publish(request)
        meta = self.model._meta  # noqa: SLF001 - Django's own way to a model's name
        return HttpResponseRedirect(reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist"))

    def _publish(self, request: HttpRequest) -> None:
        by = f"staff:{request.user.pk}"
        try:
            done = publish_config(by)
        except ConfigurationRefused as refused:
            messages.error(request, f"Not published: {refused}.")
            return
        audit(
            actor=f"user:{request.user.pk} {request.user.get_username()}",
            action="publish_configuration",
            request_id=str(getattr(request, "request_id", "")),
            address=str(request.META.get("REMOTE_ADDR", "")),
            detail={"config_version": done.config.version, "changed": done.changed},
        )
        if done.active:
            messages.success(request, f"Version {done.config.version} is published, and the engine decides by it.")
        else:
            messages.warning(
                request, f"Version {done.config.version} is published; the engine has not confirmed it. Publish again."
            )


@admin.register(Currency)
class CurrencyAdmin(PublishingAdmin):
    list_display = ("code", "digits")
    ordering = ("code",)


@admin.register(Instrument)
class InstrumentAdmin(PublishingAdmin):
    list_display = ("symbol", "description", "digits", "contract_size", "volume_min", "volume_max", "trade_mode")
    list_filter = ("asset_class", "trade_mode")
    search_fields = ("symbol", "description")


@admin.register(Group)
class GroupAdmin(PublishingAdmin):
    list_display = ("name", "commission_per_lot", "leverage_max", "markup_bid", "markup_ask")
    ordering = ("name",)


class LpInstrumentInline(TabularInline):
    model = LpInstrument
    extra = 0


@admin.register(LiquidityProvider)
class LiquidityProviderAdmin(PublishingAdmin):
    list_display = ("name", "enabled", "priority")
    inlines = (LpInstrumentInline,)


class RuleForm(forms.ModelForm):  # type: ignore[type-arg]
    """Conditions are checked as they are typed in, not when the router meets them."""

    class Meta:
        model = Rule
        fields = ("order", "name", "conditions", "action", "a_share", "lps", "below_lp_minimum")

    def clean_conditions(self) -> Any:
        data = self.cleaned_data["conditions"]
        try:
            conditions_from(data)
        except RuleRefused as refused:
            raise forms.ValidationError(str(refused)) from None
        return data

    def clean_lps(self) -> Any:
        data = self.cleaned_data["lps"]
        if not isinstance(data, list) or not all(isinstance(name, str) for name in data):
            raise forms.ValidationError("A list of providers' names.")
        return data


@admin.register(Rule)
class RuleAdmin(PublishingAdmin):
    form = RuleForm
    list_display = ("order", "name", "action", "a_share", "below_lp_minimum")
    list_display_links = ("order", "name")
    ordering = ("order",)


@admin.register(ConfigVersion)
class ConfigVersionAdmin(ReadOnlyAdmin, PublishingAdmin):
    list_display = ("version", "published_at", "published_by")
    ordering = ("-version",)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("at", "actor", "action", "address", "request_id")
    list_filter = ("action",)
    search_fields = ("actor", "=request_id")
    ordering = ("-id",)


@admin.register(Shard)
class ShardAdmin(ReadOnlyAdmin):
    list_display = ("shard", "epoch", "seq", "halted")


@admin.register(Batch)
class BatchAdmin(ReadOnlyAdmin):
    key = ("shard", "seq")
    list_display = ("shard", "seq", "epoch", "commands", "config_version", "stream_id", "at")
    exclude = ("inputs",)
    ordering = ("-seq",)


@admin.register(CommandKey)
class CommandKeyAdmin(ReadOnlyAdmin):
    key = ("account", "key")
    list_display = ("account", "key", "kind", "reference", "refusal", "at")
    list_filter = ("kind",)
    search_fields = ("=account", "=key")
    ordering = ("-at",)


@admin.register(Outbox)
class OutboxAdmin(ReadOnlyAdmin):
    key = ("shard", "shard_seq")
    list_display = ("shard_seq", "account", "account_seq", "kind", "at")
    list_filter = ("kind",)
    search_fields = ("=account",)
    ordering = ("-shard_seq",)


@admin.register(ParkedCommand)
class ParkedCommandAdmin(ReadOnlyAdmin):
    list_display = ("command_id", "account", "error", "at")
    ordering = ("-at",)
