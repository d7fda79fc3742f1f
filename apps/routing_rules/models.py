"""The rules as the back office writes them, and the engine's record of each decision."""

from decimal import Decimal
from typing import Any

from django.db import models

from apps.tables import JsonColumn, one_of
from trading.configuration import BelowLpMinimum
from trading.orders import Book


def empty_list() -> list[Any]:
    return []


class Rule(models.Model):
    """The first rule whose conditions all hold decides; the last one has none. Live once published."""

    order = models.PositiveIntegerField(unique=True, help_text="Looked at from the smallest to the largest.")
    name = models.CharField(max_length=100)
    conditions = models.JSONField(
        default=empty_list,
        blank=True,
        help_text='A list such as [{"field": "volume", "operator": ">=", "values": ["1"]}]. Fields: symbol, group, '
        "volume, client_class, account. Operators: =, !=, in, not in, mask, >, >=, <, <=.",
    )
    action = models.CharField(max_length=1, choices=[(book.value, book.value) for book in Book])
    a_share = models.DecimalField(
        max_digits=9, decimal_places=8, default=Decimal(0), help_text="1 with A, 0 with B, strictly between with C."
    )
    lps = models.JSONField(default=empty_list, blank=True, help_text="Names of allowed providers; empty for all.")
    below_lp_minimum = models.CharField(
        max_length=10, choices=[(choice.value, choice.value) for choice in BelowLpMinimum], default="house"
    )

    class Meta:
        ordering = ["order"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(action="A", a_share=1)
                | models.Q(action="B", a_share=0)
                | models.Q(action="C", a_share__gt=0, a_share__lt=1),
                name="rule_share_fits_action",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order}. {self.name}"


class RoutingDecision(models.Model):
    """Why an order went where it went."""

    order_id = models.BigIntegerField(primary_key=True)
    account = models.BigIntegerField()
    symbol = models.TextField()
    book = models.TextField()
    rule_id = models.IntegerField()
    rule_name = models.TextField()
    policy_version = models.IntegerField()
    lp = models.TextField(blank=True)
    decision = JsonColumn()
    at = models.DateTimeField()

    class Meta:
        db_table = "routing_decision"
        constraints = [one_of("routing_decision", "book", [book.value for book in Book])]

    def __str__(self) -> str:
        return f"{self.order_id} {self.book}"
