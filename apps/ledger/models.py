"""Money: balanced transfers and running balances, the engine's rows. `ledger_posting` shows each transfer as two signed rows.

The database's keys are (transaction, line) and (account, currency); the models name one column each because the admin
cannot show composite keys, and nothing here is looked up by model key.
"""

from django.contrib.postgres.indexes import BrinIndex
from django.db import models

from apps.tables import MONEY_MAX, finite, money_column, one_of, price_column, volume_column
from trading.ledger import TransactionKind


class Transfer(models.Model):
    """`amount` of `currency` from `source` to `target`. Append-only: a trigger refuses UPDATE and DELETE."""

    transaction_id = models.BigIntegerField(primary_key=True)
    line = models.IntegerField()
    kind = models.TextField()
    source = models.TextField()
    target = models.TextField()
    currency = models.TextField()
    amount = money_column()
    order_id = models.BigIntegerField()
    deal_id = models.BigIntegerField()
    position_id = models.BigIntegerField()
    reference = models.TextField(blank=True)
    at = models.DateTimeField()

    class Meta:
        db_table = "ledger_transfer"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(amount__gt=0, amount__lt=MONEY_MAX), name="ledger_transfer_amount"
            ),
            models.CheckConstraint(condition=~models.Q(source=models.F("target")), name="ledger_transfer_two_sides"),
            one_of("ledger_transfer", "kind", [kind.value for kind in TransactionKind]),
        ]
        indexes = [
            # Rows come in nearly the order of their orders: a block range finds them and costs next to nothing.
            BrinIndex(fields=["order_id"], name="ledger_transfer_order", autosummarize=True),
            # A client's statement. Partial, because the house's few accounts are on nearly every row: a transfer costs
            # one entry for its client side and none for the house's.
            models.Index(
                fields=["source", "transaction_id"],
                name="ledger_transfer_client_out",
                condition=models.Q(source__gte="client:", source__lt="client;"),
            ),
            models.Index(
                fields=["target", "transaction_id"],
                name="ledger_transfer_client_in",
                condition=models.Q(target__gte="client:", target__lt="client;"),
            ),
            # Withdrawals that wait for their end, for recovery and for the desk: few rows among many.
            models.Index(
                fields=["kind", "transaction_id"],
                name="ledger_transfer_withdrawals",
                condition=models.Q(kind__in=["withdrawal_requested", "withdrawal", "withdrawal_returned"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.transaction_id}/{self.line}"


class Posting(models.Model):
    """One side of a transfer, money in is plus. A view: the sum per currency is zero by construction."""

    transaction_id = models.BigIntegerField(primary_key=True)
    line = models.IntegerField()
    kind = models.TextField()
    account = models.TextField()
    currency = models.TextField()
    amount = money_column()
    order_id = models.BigIntegerField()
    deal_id = models.BigIntegerField()
    position_id = models.BigIntegerField()
    reference = models.TextField(blank=True)
    at = models.DateTimeField()

    class Meta:
        managed = False
        db_table = "ledger_posting"

    def __str__(self) -> str:
        return f"{self.transaction_id}/{self.line} {self.account}"


class Balance(models.Model):
    """The running sum of a ledger account in one currency."""

    account = models.TextField(primary_key=True)
    currency = models.TextField()
    balance = money_column()

    class Meta:
        db_table = "ledger_balance"
        constraints = [finite("ledger_balance", "balance")]

    def __str__(self) -> str:
        return f"{self.account} {self.currency}"


class CommissionBlock(models.Model):
    """One deal's daily commission, counted. Key: account, rule and key. Append-only."""

    account = models.BigIntegerField(primary_key=True)
    rule = models.TextField()
    date = models.DateField()
    key = models.TextField()
    units = price_column()
    volume = volume_column()
    money = price_column()

    class Meta:
        db_table = "commission_block"
        constraints = [finite("commission_block", "units", "volume", "money")]

    def __str__(self) -> str:
        return f"{self.account} {self.rule} {self.key}"


class CommissionDay(models.Model):
    """One account's daily commission of one date under one rule, posted. Key: account, rule and date. Append-only."""

    account = models.BigIntegerField(primary_key=True)
    rule = models.TextField()
    date = models.DateField()
    amount = money_column()
    lots = volume_column()
    money = price_column()
    transaction_id = models.BigIntegerField()

    class Meta:
        db_table = "commission_day"
        constraints = [finite("commission_day", "amount", "lots", "money")]

    def __str__(self) -> str:
        return f"{self.account} {self.rule} {self.date}"
