"""Currencies and symbols as configured. The engine reads the published document, never these rows."""

from django.core.validators import RegexValidator
from django.db import models

from apps.tables import volume_column
from trading.instruments import AssetClass, TradeMode

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
