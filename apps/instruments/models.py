"""Currencies and symbols as configured. The engine reads the published document, never these rows.

Terms with parts (margin, swap, spread…) are JSON in the shape of the structs of the same name in `trading`; what is left
out has its default there, and an empty object is all defaults. Decimals are written as texts.
"""

from typing import Any

from django.core.validators import RegexValidator
from django.db import models

from apps.tables import volume_column
from trading.instruments import AssetClass, TradeMode
from trading.protection import StopTriggerMethod

CODE = RegexValidator(r"\A[A-Z0-9]{2,10}\Z", "Two to ten capital letters or digits.")
SYMBOL = RegexValidator(r"\A[A-Z0-9._]{2,20}\Z", "Two to twenty capital letters, digits, points or underscores.")


class Currency(models.Model):
    """Money, or a metal counted like it."""

    code = models.CharField(max_length=10, primary_key=True, validators=[CODE])
    digits = models.PositiveSmallIntegerField(help_text="Decimals in which amounts are posted.")

    class Meta:
        verbose_name_plural = "currencies"
        constraints = [models.CheckConstraint(condition=models.Q(digits__lte=8), name="currency_digits")]

    def __str__(self) -> str:
        return self.code


def terms_column(help_text: str, *, offered: bool = False) -> "models.JSONField[Any, Any]":
    """JSON terms; with `offered` they may be missing as a whole."""
    if offered:
        return models.JSONField(null=True, blank=True, help_text=help_text)
    return models.JSONField(default=dict, blank=True, help_text=help_text)


class Instrument(models.Model):
    """One symbol's terms. Volumes are lots of `contract_size` units of base."""

    symbol = models.CharField(max_length=20, primary_key=True, validators=[SYMBOL])
    description = models.CharField(max_length=100)
    base = models.ForeignKey(Currency, on_delete=models.PROTECT, related_name="+")
    quote = models.ForeignKey(Currency, on_delete=models.PROTECT, related_name="+")
    digits = models.PositiveSmallIntegerField(help_text="Decimals of a price.")
    contract_size = volume_column()
    volume_min = volume_column()
    volume_max = volume_column()
    volume_step = volume_column()
    quote_age_max_ms = models.PositiveIntegerField(default=3000, help_text="An older quote is not dealt on.")
    asset_class = models.CharField(max_length=10, choices=[(c.value, c.value) for c in AssetClass], default="fx")
    trade_mode = models.CharField(max_length=24, choices=[(m.value, m.value) for m in TradeMode], default="full")

    sessions = models.JSONField(
        default=dict,
        blank=True,
        help_text="When it trades: time_zone, trade and quote sessions (seconds since Sunday 00:00), holidays. Empty: always.",
    )
    margin = terms_column(
        'What a position ties up: {"mode": "forex"}, with rates per order type, hedged_mode, tiers, recalculate_daily. '
        "Empty: volume x contract size / leverage."
    )
    margin_currency = models.CharField(
        max_length=10, blank=True, help_text="Of margin amounts. Empty: the base, or the quote in modes by price."
    )
    profit = terms_column('How prices become money: {"mode": "forex", "rounding": "per_posting"}.')
    swap = terms_column(
        'What a night costs or earns: {"mode": "points", "long": "-6.5", "short": "2.1", "multipliers": [...]}, Monday '
        "first. Empty: nothing."
    )
    spread = terms_column(
        'Limits of the shown spread in points: {"min_points": 2, "max_points": 50, "too_wide": "absorb"}.'
    )
    quote_filter = terms_column(
        "Which prices of a provider to hold back, by points from the one before, and how many in a row: "
        '{"soft_points": 30, "soft_count": 2, "hard_points": 100, "hard_count": 3, "discard_points": 500, '
        '"spread_min_points": 0, "spread_max_points": 100}. Empty: none.'
    )
    controls = terms_column(
        'Limits before new risk: {"collar_points": 500, "order_volume_max": "50", "order_value_max": "5000000", '
        '"volume_limit": "200"}. Empty: none.'
    )
    guarantee = terms_column(
        'Guaranteed stop losses: {"fee_points": "5", "distance_min_points": 100}. Empty: not offered.', offered=True
    )
    fees = terms_column(
        'Maker and taker fees in per cent of the value, by turnover in USD: {"tiers": [{"at_least": "0", "maker": "0.10", '
        '"taker": "0.15"}]}; {} is 0.10 and 0.15. Empty: none.',
        offered=True,
    )
    stop_trigger = models.CharField(
        max_length=20,
        choices=[(m.value, m.value) for m in StopTriggerMethod],
        default=StopTriggerMethod.TRADE.value,
        help_text="How stop orders and stop losses watch the price, unless they say otherwise.",
    )
    stops_level = models.PositiveIntegerField(
        default=0, help_text="Points that pending prices and protection must keep from the market when they are set."
    )
    freeze_level = models.PositiveIntegerField(
        default=0, help_text="Within this many points of its trigger an order or protection cannot be changed."
    )
    is_major_index = models.BooleanField(default=False, help_text="On the regulators' list of major indices.")
    is_cash = models.BooleanField(default=False, help_text="Bought with cash in full and owned, not traded on margin.")
    expires_at = models.DateTimeField(null=True, blank=True, help_text="When the contract ends; empty for never.")

    class Meta:
        ordering = ["symbol"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(
                    contract_size__gt=0,
                    contract_size__lte=10**9,
                    volume_step__gt=0,
                    volume_step__lte=models.F("volume_min"),
                    volume_min__lte=models.F("volume_max"),
                    volume_max__lte=10**9,
                ),
                name="instrument_volumes",
            ),
            models.CheckConstraint(condition=models.Q(digits__lte=10), name="instrument_digits"),
        ]

    def __str__(self) -> str:
        return self.symbol
