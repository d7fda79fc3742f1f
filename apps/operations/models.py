"""The engine's own records, and the published configuration.

The database's keys of batches, keys and the outbox are composite; the models name one column because the admin cannot show
composite keys, and nothing here is looked up by model key.
"""

from django.db import models
from django.db.models import Value

from apps.proposals import Proposal, two_people
from apps.tables import JsonColumn, one_of, price_column
from bus.alerts import Severity


class Shard(models.Model):
    """Who may write: a new owner raises the epoch, and a batch of an older epoch finds no row to update."""

    shard = models.IntegerField(primary_key=True)
    epoch = models.BigIntegerField(db_default=0)
    seq = models.BigIntegerField(db_default=0)
    halted = models.TextField(blank=True, db_default="")
    owner = models.TextField(blank=True, db_default="")
    lease_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "shard"

    def __str__(self) -> str:
        return str(self.shard)


class Batch(models.Model):
    """One group commit. Key: shard and seq."""

    shard = models.IntegerField()
    seq = models.BigIntegerField(primary_key=True)
    epoch = models.BigIntegerField()
    stream_incarnation = models.TextField(blank=True)
    stream_id = models.TextField(blank=True)
    inbox_cursors = models.JSONField()
    config_version = models.IntegerField()
    counters = models.JSONField()
    outbox_seq = models.BigIntegerField()
    desk = models.JSONField(db_default=Value({}, models.JSONField()))
    commands = models.IntegerField()
    inputs = models.BinaryField()
    state_hash = models.TextField(blank=True)
    at = models.DateTimeField()

    class Meta:
        db_table = "engine_batch"
        verbose_name_plural = "batches"

    def __str__(self) -> str:
        return f"{self.shard}/{self.seq}"


class CommandKey(models.Model):
    """An idempotency key that was used up. Key: account and key."""

    account = models.BigIntegerField()
    key = models.TextField(primary_key=True)
    body_hash = models.TextField()
    kind = models.TextField()
    reference = models.BigIntegerField()
    refusal = models.TextField(blank=True)
    at = models.DateTimeField()

    class Meta:
        db_table = "engine_key"

    def __str__(self) -> str:
        return f"{self.account}/{self.key}"


class Outbox(models.Model):
    """One event that somebody outside is told. Key: shard and shard_seq; per account numbered without gaps."""

    shard = models.IntegerField()
    shard_seq = models.BigIntegerField(primary_key=True)
    account = models.BigIntegerField()
    account_seq = models.BigIntegerField()
    kind = models.TextField()
    payload = JsonColumn()
    at = models.DateTimeField()

    class Meta:
        db_table = "outbox"
        verbose_name_plural = "outbox"
        constraints = [
            models.UniqueConstraint(
                fields=["account", "account_seq"], condition=~models.Q(account=0), name="outbox_account_seq"
            )
        ]

    def __str__(self) -> str:
        return f"{self.shard}/{self.shard_seq}"


class ParkedCommand(models.Model):
    """A command that made the engine raise twice, alone. A person must look."""

    command_id = models.TextField(primary_key=True)
    account = models.BigIntegerField()
    command = JsonColumn()
    error = models.TextField()
    at = models.DateTimeField()

    class Meta:
        db_table = "parked_command"

    def __str__(self) -> str:
        return self.command_id


class Alert(models.Model):
    """Something that a person must know of. One row per key: raised again it counts up, cleared it stays as history."""

    key = models.TextField(primary_key=True)
    kind = models.TextField()
    severity = models.TextField()
    text = models.TextField()
    raised_at = models.DateTimeField()
    last_at = models.DateTimeField()
    count = models.IntegerField()
    cleared_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "alert"
        constraints = [one_of("alert", "severity", [severity.value for severity in Severity])]

    def __str__(self) -> str:
        return f"{self.severity} {self.key}"


class RelayCursor(models.Model):
    """Up to where the message broker has confirmed the shard's outbox."""

    shard = models.IntegerField(primary_key=True)
    published_seq = models.BigIntegerField(db_default=0)

    class Meta:
        db_table = "relay_cursor"

    def __str__(self) -> str:
        return f"{self.shard}/{self.published_seq}"


class TaskEffect(models.Model):
    """A consumer has had this event's effect, in the same transaction. Key: consumer and key."""

    consumer = models.TextField()
    key = models.TextField(primary_key=True)
    at = models.DateTimeField()

    class Meta:
        db_table = "task_effect"

    def __str__(self) -> str:
        return f"{self.consumer} {self.key}"


class ConfigVersion(models.Model):
    """One published configuration: immutable, named by every decision made under it."""

    version = models.IntegerField(primary_key=True)
    document = JsonColumn()
    published_at = models.DateTimeField()
    published_by = models.TextField()

    class Meta:
        db_table = "config_version"

    def __str__(self) -> str:
        return f"version {self.version}"


class FirmSettings(models.Model):
    """What holds for the whole firm. One row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    stp_only = models.BooleanField(
        default=False, help_text="The firm takes no risk of its own: every order goes to the market."
    )
    regulation = models.JSONField(
        default=list,
        blank=True,
        help_text="What the law says per jurisdiction and client class, each rule from its date on. Empty: the seeded rules "
        "of ESMA, the FCA and ASIC.",
    )
    breaker = models.JSONField(
        default=dict,
        blank=True,
        help_text="When a provider that rejects gets no new risk for a while: window_us, outcomes_min, reject_percent, "
        "pause_us, pause_us_max. Empty: 50 % of at least 5 in 10 s, for 30 s, doubled up to 5 min.",
    )

    class Meta:
        verbose_name_plural = "firm settings"
        permissions = [
            ("move_money", "Can settle withdrawals, adjust balances, grant credit and bonus"),
            ("manage_accounts", "Can change accounts' terms"),
            ("stop_trading", "Can use the kill switches"),
            ("carry_out_events", "Can carry out dividends, splits and expiries"),
            ("correct_deals", "Can propose and decide corrections of deals"),
        ]
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="firm_settings_single")]

    def __str__(self) -> str:
        return "the firm"


class DealCorrection(Proposal):
    """A correction of a deal."""

    deal_id = models.BigIntegerField(db_index=True)
    account = models.BigIntegerField()
    price = price_column(null=True, blank=True, help_text="The right price; empty undoes the deal.")

    class Meta:
        constraints = [two_people("deal_correction_two_people")]

    def __str__(self) -> str:
        return f"deal {self.deal_id}: {self.status}"


class AuditEntry(models.Model):
    """What a member of staff did. Kept for ever, as a chain (`chain.py`): the database gives number and hash."""

    number = models.BigIntegerField(unique=True, editable=False, db_default=0)
    hash = models.TextField(editable=False, db_default="")
    at = models.DateTimeField(auto_now_add=True)
    actor = models.CharField(max_length=200)
    action = models.CharField(max_length=100)
    request_id = models.CharField(max_length=64)
    address = models.CharField(max_length=64, blank=True)
    detail = models.JSONField()

    class Meta:
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor} {self.action}"
