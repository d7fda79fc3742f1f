"""The configuration in the admin, with the buttons that publish it and show what it comes to; the engine's own records."""

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import action

from apps.accounts.models import Group
from apps.doors.middleware import request_id_of
from apps.doors.problems import Problem
from apps.instruments.models import Currency, Instrument
from apps.liquidity.models import LiquidityProvider, LpInstrument
from apps.operations.alerts import clear_alerts
from apps.operations.effective import Question, effective_terms, told
from apps.operations.forms import FirmSettingsForm, GroupForm, InstrumentForm
from apps.operations.models import (
    Alert,
    AuditEntry,
    Batch,
    CommandKey,
    ConfigVersion,
    DealCorrection,
    FirmSettings,
    Outbox,
    ParkedCommand,
    RelayCursor,
    Shard,
    TaskEffect,
)
from apps.operations.services import audit, publish_config
from apps.readonly import ReadOnlyAdmin
from apps.routing_rules.models import Rule
from apps.routing_rules.services import RuleRefused, conditions_from
from trading.accounts import ClientClass
from trading.configuration import ConfigurationRefused


class EffectiveForm(forms.Form):
    """What is asked of the effective settings. Groups and symbols as they are configured now."""

    group = forms.ModelChoiceField(Group.objects.order_by("name"), to_field_name="name")
    symbol = forms.ModelChoiceField(Instrument.objects.order_by("symbol"))
    at = forms.DateTimeField(required=False, help_text="UTC, like 2026-01-31 12:00; empty for now.")
    jurisdiction = forms.CharField(
        required=False, max_length=20, help_text="As on the account: EU, UK, AU; empty for none."
    )
    client_class = forms.ChoiceField(choices=[(kind.value, kind.value) for kind in ClientClass], required=False)

    def question(self) -> Question:
        data = self.cleaned_data
        return Question(
            group=data["group"].name,
            symbol=data["symbol"].symbol,
            at=data["at"] or datetime.now(tz=UTC),
            jurisdiction=data["jurisdiction"],
            client_class=ClientClass(data["client_class"] or ClientClass.RETAIL),
        )


class PublishingAdmin(ModelAdmin):
    """Configuration: what is saved here takes effect only when it is published, all of it together."""

    actions_list = ("publish", "effective")

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

    def has_effective_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return request.user.has_perm("operations.view_configversion")

    @action(description="Effective settings", url_path="effective", permissions=["effective"])
    def effective(self, request: HttpRequest) -> HttpResponse:
        """One group, one symbol, one time: every value, and the rule that it came from."""
        form = EffectiveForm(request.GET or None)
        context = {**self.admin_site.each_context(request), "title": "Effective settings", "form": form}
        if form.is_valid():
            try:
                context["found"] = found = effective_terms(form.question())
                context |= {"group_terms": told(found["group_terms"]), "regulation": told(found["regulation"])}
            except Problem as problem:
                form.add_error(None, problem.detail)
        return TemplateResponse(request, "operations/effective.html", context)

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
    form = InstrumentForm
    list_display = ("symbol", "description", "digits", "contract_size", "volume_min", "volume_max", "trade_mode")
    list_filter = ("asset_class", "trade_mode")
    search_fields = ("symbol", "description")
    fieldsets = (
        (
            "What it is",
            {
                "description": "The same for every group.",
                "fields": (
                    "symbol", "description", "asset_class", "base", "quote", "digits", "contract_size",
                    "is_major_index", "is_cash", "expires_at", "quote_filter",
                ),
            },
        ),
        (
            "Trading",
            {
                "description": "Groups may override everything from here on.",
                "fields": (
                    "trade_mode", "sessions", "volume_min", "volume_max", "volume_step", "quote_age_max_ms", "spread",
                    "stop_trigger", "stops_level", "freeze_level", "guarantee",
                ),
            },
        ),
        ("Margin and result", {"fields": ("margin", "margin_currency", "profit")}),
        ("Costs", {"fields": ("swap", "fees")}),
        ("Controls before new risk", {"fields": ("controls",)}),
    )  # fmt: skip


@admin.register(Group)
class GroupAdmin(PublishingAdmin):
    form = GroupForm
    list_display = ("name", "commission_per_lot", "leverage_max", "markup_bid", "markup_ask", "stp_only")
    ordering = ("name",)
    fieldsets = (
        (None, {"fields": ("name", "leverage_max", "stp_only")}),
        ("Prices", {"fields": ("markup_bid", "markup_ask", "symbol_markups")}),
        (
            "Overrides",
            {
                "description": "The button Effective settings shows what they come to, and which rule set what.",
                "fields": ("overrides",),
            },
        ),
        ("Costs", {"fields": ("commission_per_lot", "commissions", "conversion", "swap_free")}),
        (
            "Margin and stop-out",
            {
                "description": "What the law demands besides is in the firm settings.",
                "fields": ("margin", "stop_out", "negative_balance_protection"),
            },
        ),
        ("Controls before new risk", {"fields": ("controls", "day_trades")}),
    )


@admin.register(FirmSettings)
class FirmSettingsAdmin(PublishingAdmin):
    form = FirmSettingsForm
    list_display = ("__str__", "stp_only")
    fieldsets = (
        ("Risk", {"fields": ("stp_only",)}),
        ("Regulation", {"fields": ("regulation",)}),
        ("Circuit breakers of liquidity providers", {"fields": ("breaker",)}),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(super().has_add_permission(request)) and not FirmSettings.objects.exists()

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:  # noqa: ARG002
        return False


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
    list_display = ("number", "at", "actor", "action", "address", "request_id")
    list_filter = ("action",)
    search_fields = ("actor", "=request_id")
    ordering = ("-number",)


@admin.register(Alert)
class AlertAdmin(ReadOnlyAdmin):
    """Alerts are raised and taken back by the processes; a person may take one back that is known or dealt with."""

    list_display = ("key", "severity", "text", "raised_at", "last_at", "count", "cleared_at")
    list_filter = (("cleared_at", admin.EmptyFieldListFilter), "severity", "kind")
    search_fields = ("key", "text")
    ordering = ("-raised_at",)
    actions = ("clear",)

    def has_clear_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("operations.change_alert")

    @admin.action(description="Clear: known, or dealt with", permissions=["clear"])
    def clear(self, request: HttpRequest, chosen: QuerySet[Alert]) -> None:
        """Raised again, it stands again; for an invariant this also lets it halt the shard again."""
        cleared = clear_alerts(
            [alert.key for alert in chosen],
            actor=f"staff:{request.user.pk}",
            request_id=request_id_of(request),
            address=str(request.META.get("REMOTE_ADDR", "")),
        )
        self.message_user(request, f"{cleared} alerts were cleared.")


@admin.register(DealCorrection)
class DealCorrectionAdmin(ReadOnlyAdmin):
    list_display = ("id", "deal_id", "account", "price", "status", "proposed_by", "decided_by", "reason")
    list_filter = ("status",)
    search_fields = ("=deal_id", "=account")
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


@admin.register(RelayCursor)
class RelayCursorAdmin(ReadOnlyAdmin):
    list_display = ("shard", "published_seq")


@admin.register(TaskEffect)
class TaskEffectAdmin(ReadOnlyAdmin):
    key = ("consumer", "key")
    list_display = ("consumer", "key", "at")
    list_filter = ("consumer",)
    search_fields = ("=key",)
    ordering = ("-at",)


@admin.register(ParkedCommand)
class ParkedCommandAdmin(ReadOnlyAdmin):
    list_display = ("command_id", "account", "error", "at")
    ordering = ("-at",)
