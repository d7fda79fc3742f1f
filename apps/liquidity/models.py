"""Providers as configured, our orders at them (the engine's rows), and what they said (their processes' rows)."""

from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models

from apps.tables import (
    JsonColumn,
    between_volumes,
    bounded_prices,
    cost_column,
    finite,
    one_of,
    price_column,
    volume_column,
)
from trading.liquidity import CaseKind, DispatchState, LegStatus, ReportKind
from trading.orders import Side


class LiquidityProvider(models.Model):
    """A provider's configuration."""

    name = models.CharField(max_length=30, unique=True, validators=[RegexValidator(r"\A[A-Z0-9]{2,30}\Z")])
    enabled = models.BooleanField(default=True)
    priority = models.PositiveIntegerField(default=10, help_text="Breaks ties between equal prices: lower is first.")

    class Meta:
        ordering = ["priority", "name"]

    def __str__(self) -> str:
        return self.name


class LpInstrument(models.Model):
    """A symbol at a provider. Minimum and step are lots."""

    lp = models.ForeignKey(LiquidityProvider, on_delete=models.CASCADE, related_name="instruments")
    symbol = models.ForeignKey("instruments.Instrument", on_delete=models.PROTECT, related_name="+")
    lp_symbol = models.CharField(max_length=30, validators=[RegexValidator(r"\A[A-Za-z0-9/._-]{1,30}\Z")])
    volume_min = volume_column()
    volume_step = volume_column()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["lp", "symbol"], name="lp_instrument_once"),
            models.UniqueConstraint(fields=["lp", "lp_symbol"], name="lp_symbol_once"),
            models.CheckConstraint(
                condition=models.Q(volume_step__gt=0, volume_step__lte=models.F("volume_min"), volume_min__lte=10**9),
                name="lp_instrument_volumes",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.lp.name} {self.lp_symbol}"


class LpOrder(models.Model):
    """One leg at a provider. The provider's process owns the two dispatch columns, the engine all others."""

    id = models.BigIntegerField(primary_key=True)
    order_id = models.BigIntegerField()
    account = models.BigIntegerField()
    lp = models.TextField()
    cl_ord_id = models.TextField()
    symbol = models.TextField()
    lp_symbol = models.TextField()
    side = models.TextField()
    volume = volume_column()
    quantity = volume_column()
    position_id = models.BigIntegerField()
    status = models.TextField()
    filled_volume = volume_column()
    filled_cost = cost_column()
    lp_order_id = models.TextField(blank=True)
    exec_ids = ArrayField(models.TextField(), blank=True)
    text = models.TextField(blank=True)
    price_shift = price_column(db_default=0)
    client_price = price_column(null=True, blank=True)
    epoch = models.BigIntegerField()
    limit_price = price_column(null=True, blank=True)
    all_or_none = models.BooleanField(db_default=False)
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    dispatch_state = models.TextField(db_default=DispatchState.NEW.value)
    dispatched_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "lp_order"
        verbose_name = "order at a provider"
        verbose_name_plural = "orders at providers"
        constraints = [
            models.UniqueConstraint(fields=["cl_ord_id"], name="lp_order_cl_ord_id"),
            bounded_prices("lp_order", "limit_price", "client_price"),
            between_volumes("lp_order", "volume", "quantity", "filled_volume"),
            finite("lp_order", "filled_cost", "price_shift"),
            one_of("lp_order", "side", [side.value for side in Side]),
            one_of("lp_order", "status", [status.value for status in LegStatus]),
            one_of("lp_order", "dispatch_state", [state.value for state in DispatchState]),
        ]
        indexes = [
            # What a provider's process takes, and what recovery rebuilds: both stay tiny, so they cost next to nothing.
            models.Index(fields=["lp", "id"], name="lp_order_new", condition=models.Q(dispatch_state="new")),
            # The legs of one order, which the last check before sending adds up.
            models.Index(fields=["order_id"], name="lp_order_of_order"),
            models.Index(
                fields=["id"], name="lp_order_live", condition=models.Q(status__in=["working", "partially_filled"])
            ),
        ]

    def __str__(self) -> str:
        return self.cl_ord_id


class LpInbox(models.Model):
    """Everything a provider said, committed before its FIX callback returned. Key: lp and seq."""

    lp = models.TextField()
    seq = models.BigIntegerField(primary_key=True)
    kind = models.TextField()
    cl_ord_id = models.TextField(blank=True)
    exec_id = models.TextField(blank=True)
    trade_date = models.TextField(blank=True)
    report = JsonColumn()
    raw = models.TextField(blank=True)
    received_at = models.DateTimeField()

    class Meta:
        db_table = "lp_inbox"
        verbose_name = "message of a provider"
        verbose_name_plural = "messages of providers"
        constraints = [one_of("lp_inbox", "kind", [kind.value for kind in ReportKind])]
        indexes = [models.Index(fields=["cl_ord_id"], name="lp_inbox_cl_ord_id")]

    def __str__(self) -> str:
        return f"{self.lp} {self.seq}"


class LpLease(models.Model):
    """Whose word to a provider counts: a new dispatcher raises the epoch, and an older one's writes find no row."""

    lp = models.TextField(primary_key=True)
    epoch = models.BigIntegerField(db_default=0)
    stopped = models.TextField(blank=True, db_default="")
    """Why nothing is sent to it any more, until an operator empties this."""

    class Meta:
        db_table = "lp_lease"

    def __str__(self) -> str:
        return f"{self.lp} {self.epoch}"


class LpCase(models.Model):
    """Something a provider said that a dealer must look at."""

    id = models.BigIntegerField(primary_key=True)
    kind = models.TextField()
    lp = models.TextField()
    lp_order_id = models.BigIntegerField()
    report = JsonColumn()
    opened_at = models.DateTimeField()

    class Meta:
        db_table = "lp_case"
        verbose_name = "case"
        constraints = [one_of("lp_case", "kind", [kind.value for kind in CaseKind])]

    def __str__(self) -> str:
        return f"{self.id} {self.kind}"
