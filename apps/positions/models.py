"""Positions: the engine's rows, read here and never written."""

from django.db import models

from apps.tables import (
    between_volumes,
    bounded_prices,
    cost_column,
    finite,
    money_column,
    one_of,
    price_column,
    volume_column,
)
from trading.orders import Side


class Position(models.Model):
    """One position of a hedging account; closed once `volume` is 0."""

    id = models.BigIntegerField(primary_key=True)
    account = models.BigIntegerField()
    symbol = models.TextField()
    side = models.TextField()
    volume_opened = volume_column()
    volume = volume_column()
    cost = cost_column()
    margin = money_column()
    lp = models.TextField(blank=True)
    volume_a_opened = volume_column()
    volume_a = volume_column()
    cost_a = cost_column()
    locked = volume_column()
    stop_loss = price_column(null=True, blank=True)
    take_profit = price_column(null=True, blank=True)
    trailing_points = models.IntegerField(db_default=0)
    trailing_step = models.IntegerField(db_default=0)
    opened_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "position"
        constraints = [
            between_volumes("position", "volume_opened", "volume", "volume_a_opened", "volume_a", "locked"),
            bounded_prices("position", "stop_loss", "take_profit"),
            finite("position", "cost", "margin", "cost_a"),
            models.CheckConstraint(
                condition=models.Q(
                    volume__lte=models.F("volume_opened"),
                    volume_a__lte=models.F("volume"),
                    locked__lte=models.F("volume"),
                ),
                name="position_parts",
            ),
            one_of("position", "side", [side.value for side in Side]),
        ]
        indexes = [
            # Only what is open is listed by account; closed positions leave the index, so it stays small.
            models.Index(fields=["account", "id"], name="position_open", condition=models.Q(volume__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.side} {self.volume} {self.symbol}"
