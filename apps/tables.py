"""Column types and constraints shared by all tables that the engine writes.

Those tables have no foreign keys (they cost the engine its throughput) but bounded CHECKs: a plain `> 0` would accept NaN,
which PostgreSQL sorts above every number, so each check has an upper bound too.
"""

from decimal import Decimal
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

MONEY_MAX = Decimal(10) ** 20
VOLUME_MAX = Decimal(10) ** 12


class JsonColumn(models.JSONField):
    """JSON kept as the text that was written (`json`, not `jsonb`): cheaper to store, and digits stay as they were."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str:  # noqa: ARG002
        return "json"

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:  # noqa: ARG002
        """The driver has decoded it already, which it does not do for `jsonb`."""
        return value


def money_column(**options: Any) -> "models.DecimalField[Any, Any]":
    return models.DecimalField(max_digits=28, decimal_places=8, **options)


def price_column(**options: Any) -> "models.DecimalField[Any, Any]":
    return models.DecimalField(max_digits=28, decimal_places=10, **options)


def volume_column(**options: Any) -> "models.DecimalField[Any, Any]":
    return models.DecimalField(max_digits=28, decimal_places=8, **options)


def cost_column(**options: Any) -> "models.DecimalField[Any, Any]":
    """Price x volume, unrounded."""
    return models.DecimalField(max_digits=38, decimal_places=18, **options)


def exact_column(**options: Any) -> "models.DecimalField[Any, Any]":
    """Money with fractions of a cent."""
    return models.DecimalField(max_digits=32, decimal_places=10, **options)


def between_volumes(table: str, *columns: str) -> models.CheckConstraint:
    """0 <= each column <= 10^12."""
    condition = models.Q()
    for column in columns:
        condition &= models.Q(**{f"{column}__gte": 0, f"{column}__lte": VOLUME_MAX})
    return models.CheckConstraint(condition=condition, name=f"{table}_volumes")


def bounded_prices(table: str, *columns: str) -> models.CheckConstraint:
    """Each column NULL, or from 0 to 10^12."""
    condition = models.Q()
    for column in columns:
        within = models.Q(**{f"{column}__gte": 0, f"{column}__lte": VOLUME_MAX})
        condition &= models.Q(**{f"{column}__isnull": True}) | within
    return models.CheckConstraint(condition=condition, name=f"{table}_bounded_prices")


def finite(table: str, *columns: str, name: str = "finite") -> models.CheckConstraint:
    """Each column strictly between -10^20 and 10^20."""
    condition = models.Q()
    for column in columns:
        condition &= models.Q(**{f"{column}__gt": -MONEY_MAX, f"{column}__lt": MONEY_MAX})
    return models.CheckConstraint(condition=condition, name=f"{table}_{name}")


def one_of(table: str, column: str, values: list[str]) -> models.CheckConstraint:
    return models.CheckConstraint(condition=models.Q(**{f"{column}__in": values}), name=f"{table}_{column}")
