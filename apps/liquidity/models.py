"""Providers as configured, our orders at them (the engine's rows), and what they said (their processes' rows)."""

from django.contrib.postgres.fields import ArrayField
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from apps.proposals import Proposal, two_people
from apps.tables import (
    VOLUME_MAX,
    JsonColumn,
    between_volumes,
    bounded_prices,
    cost_column,
    finite,
    money_column,
    one_of,
    price_column,
    volume_column,
)
from trading.desk import ErrorReason
from trading.liquidity import KEYED, CaseKind, DispatchState, LegStatus, Owner, ReportKind, Settlement
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
    told_cum = volume_column(db_default=0)
    told_end = models.TextField(blank=True, db_default="")
    gap_at = models.DateTimeField(null=True, blank=True)
    is_in_case = models.BooleanField(db_default=False)
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
            between_volumes("lp_order", "volume", "quantity", "filled_volume", "told_cum"),
            finite("lp_order", "filled_cost", "price_shift"),
            one_of("lp_order", "side", [side.value for side in Side]),
            one_of("lp_order", "status", [status.value for status in LegStatus]),
            one_of("lp_order", "told_end", ["", LegStatus.CANCELED.value, LegStatus.REJECTED.value]),
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


class LpExecution(models.Model):
    """A fill, bust or correction that was dealt with. Key: provider, ExecID and trade date, so it is dealt with once.
    Append-only."""

    lp = models.TextField()
    exec_id = models.TextField(primary_key=True)
    trade_date = models.TextField()
    kind = models.TextField()
    content = models.TextField()
    cl_ord_id = models.TextField(blank=True)
    owner = models.TextField()
    symbol = models.TextField(blank=True)
    side = models.TextField(blank=True)
    volume = volume_column()
    price = price_column()
    ref = models.TextField(blank=True)
    at = models.DateTimeField()

    class Meta:
        db_table = "lp_execution"
        verbose_name = "execution"
        constraints = [
            one_of("lp_execution", "kind", sorted(kind.value for kind in KEYED)),
            one_of("lp_execution", "owner", [owner.value for owner in Owner]),
            one_of("lp_execution", "side", ["", *(side.value for side in Side)]),
            between_volumes("lp_execution", "volume"),
            finite("lp_execution", "price"),
        ]
        indexes = [models.Index(fields=["lp", "ref"], name="lp_execution_ref", condition=~Q(ref=""))]

    def __str__(self) -> str:
        return f"{self.lp} {self.exec_id}"


class ErrorFill(models.Model):
    """One booking in the house's error account. Append-only."""

    id = models.BigIntegerField(primary_key=True)
    lp = models.TextField()
    symbol = models.TextField()
    side = models.TextField()
    volume = volume_column()
    price = price_column()
    reason = models.TextField()
    cl_ord_id = models.TextField(blank=True)
    exec_id = models.TextField(blank=True)
    result = money_column()
    currency = models.TextField()
    volume_after = volume_column()
    cost_after = cost_column()
    at = models.DateTimeField()

    class Meta:
        db_table = "error_fill"
        verbose_name = "booking in the error account"
        verbose_name_plural = "error account"
        constraints = [
            one_of("error_fill", "side", [side.value for side in Side]),
            one_of("error_fill", "reason", [reason.value for reason in ErrorReason]),
            between_volumes("error_fill", "volume"),
            finite("error_fill", "price", "result", "volume_after", "cost_after"),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.lp} {self.symbol} {self.reason}"


class LpCase(models.Model):
    """Something a provider said that a dealer must look at. The engine opens it; whether it is settled, by whom and why is the
    desk's."""

    id = models.BigIntegerField(primary_key=True)
    kind = models.TextField()
    lp = models.TextField()
    lp_order_id = models.BigIntegerField()
    report = JsonColumn()
    opened_at = models.DateTimeField()
    is_settled = models.BooleanField(db_default=False)
    settled_by = models.TextField(blank=True, db_default="")
    settled_at = models.DateTimeField(null=True, blank=True)
    note = models.TextField(blank=True, db_default="")

    class Meta:
        db_table = "lp_case"
        verbose_name = "case"
        constraints = [
            one_of("lp_case", "kind", [kind.value for kind in CaseKind]),
            models.CheckConstraint(
                condition=Q(is_settled=False) | (~Q(settled_by="") & Q(settled_at__isnull=False)),
                name="lp_case_settled_by_somebody",
            ),
        ]
        indexes = [models.Index(fields=["id"], name="lp_case_open", condition=Q(is_settled=False))]

    def __str__(self) -> str:
        return f"{self.id} {self.kind}"


class LegSettlement(Proposal):
    """What became of an order at a provider, said by the desk instead of the provider."""

    cl_ord_id = models.TextField(db_index=True)
    outcome = models.CharField(max_length=10, choices=[(one.value, one.value) for one in Settlement])
    quantity = volume_column(null=True, blank=True, help_text="Units of base that were dealt.")
    price = price_column(null=True, blank=True)
    filled_volume = volume_column(default=0, help_text="Lots that were booked when it was proposed.")
    reference = models.CharField(max_length=100, help_text="Where the provider confirmed it.")

    class Meta:
        permissions = [
            ("settle_orders", "Can settle cases, say what became of orders at providers, and lift halts there")
        ]
        constraints = [
            two_people("leg_settlement_two_people"),
            models.CheckConstraint(
                condition=Q(outcome=Settlement.NOT_FILLED.value, quantity__isnull=True, price__isnull=True)
                | Q(
                    outcome=Settlement.FILLED.value,
                    quantity__isnull=False,
                    quantity__gt=0,
                    quantity__lte=VOLUME_MAX,
                    price__isnull=False,
                    price__gt=0,
                    price__lte=VOLUME_MAX,
                ),
                name="leg_settlement_quantities",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.cl_ord_id}: {self.outcome}, {self.status}"
