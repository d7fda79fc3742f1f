"""Positions: the engine's rows, read here and never written."""

from django.db import models
from django.db.models.functions import Now

from apps.tables import (
    between_volumes,
    bounded_prices,
    cost_column,
    exact_column,
    finite,
    one_of,
    price_column,
    volume_column,
)
from trading.orders import Side
from trading.protection import StopTriggerMethod


class Position(models.Model):
    """One position of a hedging account; closed once `volume` is 0."""

    id = models.BigIntegerField(primary_key=True)
    account = models.BigIntegerField()
    symbol = models.TextField()
    side = models.TextField()
    volume_opened = volume_column()
    volume = volume_column()
    cost = cost_column()
    margin = exact_column()
    lp = models.TextField(blank=True)
    volume_a_opened = volume_column()
    volume_a = volume_column()
    cost_a = cost_column()
    locked = volume_column()
    stop_loss = price_column(null=True, blank=True)
    take_profit = price_column(null=True, blank=True)
    trailing_points = models.IntegerField(db_default=0)
    trailing_step = models.IntegerField(db_default=0)
    trailing_activation = models.IntegerField(null=True, blank=True)
    break_even_points = models.IntegerField(db_default=0)
    break_even_offset = models.IntegerField(db_default=0)
    is_guaranteed = models.BooleanField(db_default=False)
    sl_trigger = models.TextField(blank=True, db_default="")
    hedged = exact_column(db_default=0)
    unleveraged = exact_column(db_default=0)
    notional = exact_column(db_default=0)
    swap = exact_column(db_default=0)
    rolled_at = models.DateTimeField(db_default=Now())
    opened_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        db_table = "position"
        constraints = [
            between_volumes("position", "volume_opened", "volume", "volume_a_opened", "volume_a", "locked"),
            bounded_prices("position", "stop_loss", "take_profit"),
            finite("position", "cost", "margin", "cost_a"),
            finite("position", "hedged", "unleveraged", "notional", "swap", name="charges"),
            one_of("position", "sl_trigger", ["", *(method.value for method in StopTriggerMethod)]),
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


class SwapAccrual(models.Model):
    """One position's charge for one swap instant. Key: position, date and period. Append-only."""

    position_id = models.BigIntegerField(primary_key=True)
    account = models.BigIntegerField()
    symbol = models.TextField()
    date = models.DateField()
    period = models.IntegerField()
    due_at = models.DateTimeField()
    at = models.DateTimeField()
    factor = price_column()
    rate = price_column()
    amount = exact_column()
    why = models.TextField(blank=True)

    class Meta:
        db_table = "swap_accrual"
        constraints = [finite("swap_accrual", "factor", "rate", "amount")]
        indexes = [models.Index(fields=["account", "date"], name="swap_accrual_account")]

    def __str__(self) -> str:
        return f"{self.position_id} {self.date} {self.amount}"
