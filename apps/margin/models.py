"""What the engine noted about margin: every call, and every step of a stop-out, with what it was decided on."""

from django.db import models

from apps.tables import finite, money_column, one_of
from trading.desk import MarginNoteKind


class MarginNote(models.Model):
    """One step. Append-only."""

    id = models.BigIntegerField(primary_key=True)
    account = models.BigIntegerField()
    kind = models.TextField()
    rule = models.TextField(blank=True)
    equity = money_column()
    margin = money_column()
    level = models.DecimalField(max_digits=32, decimal_places=2, null=True, blank=True)
    order_id = models.BigIntegerField()
    position_id = models.BigIntegerField()
    detail = models.TextField(blank=True)
    prices = models.JSONField()
    at = models.DateTimeField()

    class Meta:
        db_table = "margin_note"
        constraints = [
            finite("margin_note", "equity", "margin"),
            one_of("margin_note", "kind", [kind.value for kind in MarginNoteKind]),
        ]
        indexes = [models.Index(fields=["account", "id"], name="margin_note_account")]

    def __str__(self) -> str:
        return f"{self.account} {self.kind}"
