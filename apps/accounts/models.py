"""Who may log in, which trading accounts are theirs, and the terms of groups. The `account` table is the engine's."""

from typing import Any

from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Value

from apps.instruments.models import terms_column
from apps.tables import finite, money_column, one_of
from trading.accounts import ClientClass, Rights


class User(AbstractUser):
    """A login. `token_version` is in every token: raising it revokes all of them at once."""

    token_version = models.IntegerField(default=0)

    def set_password(self, raw_password: str | None) -> None:
        """A new password ends every API session that the old one opened."""
        super().set_password(raw_password)
        self.token_version += 1

    def revoke_tokens(self) -> None:
        """Refuse every token made until now, from the next request on."""
        type(self).objects.filter(pk=self.pk).update(token_version=F("token_version") + 1)
        self.refresh_from_db(fields=["token_version"])


class RefreshToken(models.Model):
    """One refresh token of a family (a login). Used once; using it again revokes the family."""

    jti = models.UUIDField(primary_key=True)
    family = models.UUIDField(db_index=True)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="refresh_tokens")
    issued_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.jti} of {self.user_id}"


class Environment(models.TextChoices):
    DEMO = "demo", "Demo"
    LIVE = "live", "Live"


class Profile(models.Model):
    """A trading account seen from its owner's side: whose it is and what it is called."""

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="profiles")
    account = models.BigIntegerField(unique=True)
    name = models.CharField(max_length=100, blank=True)
    environment = models.CharField(max_length=8, choices=Environment, default=Environment.DEMO)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(account__gt=0), name="profile_account_positive"),
            one_of("profile", "environment", list(Environment.values)),
        ]

    def __str__(self) -> str:
        return f"{self.account} ({self.user.username})"


def no_markups() -> dict[str, Any]:
    return {}


class Group(models.Model):
    """Terms shared by many accounts. Takes effect when the configuration is published."""

    name = models.CharField(max_length=50, unique=True)
    commission_per_lot = money_column(help_text="Per lot and side, in the account's currency, on every deal.")
    leverage_max = models.PositiveIntegerField()
    markup_bid = models.PositiveIntegerField(default=0, help_text="Points taken off the bid.")
    markup_ask = models.PositiveIntegerField(default=0, help_text="Points added to the ask.")
    symbol_markups = models.JSONField(
        default=no_markups, blank=True, help_text='Other points for single symbols: {"EURUSD": {"bid": 1, "ask": 1}}.'
    )
    overrides = models.JSONField(
        default=list,
        blank=True,
        help_text="Changes of symbols' terms for this group, from the top down: "
        '[{"name": "VIP metals", "symbols": "XAU*", "changes": {"volume_max": "20", "swap.long": "-3"}}].',
    )
    margin = terms_column(
        'How margin counts: {"accounting": "hedging", "rounding": "up_per_posting", "free_margin": "use_profit_and_loss"}.'
    )
    commissions = models.JSONField(
        default=list,
        blank=True,
        help_text="Besides the commission per lot, each charged on its own: "
        '[{"name": "shares", "symbols": "*", "terms": {"mode": "percent_of_value", "rate": "0.10", "minimum": "1"}}].',
    )
    conversion = terms_column(
        'Into the account\'s currency: {"result": "market_worst", "margin": "by_deal", "fee": "0"}; a fee of 1 is 0.01 %.'
    )
    swap_free = terms_column(
        'A fee instead of interest: {"free_nights": 3, "fee_per_lot": "5", "currency": "USD"}. Empty: swaps are charged.',
        offered=True,
    )
    stop_out = terms_column(
        'Margin calls and stop-out in per cent: {"margin_calls": ["100", "80", "60"], "level": "50", '
        '"strategy": "largest_loss"}.'
    )
    negative_balance_protection = models.BooleanField(
        default=False, help_text="For all clients of the group; protected retail clients have it anyway."
    )
    controls = terms_column(
        'Limits per account: {"positions_max": 200, "orders_max": 200, "duplicate_window_us": 0, "messages_per_second": 0}.'
    )
    day_trades = terms_column(
        'Day-trade limit: {"equity_min": "25000", "count_max": 3, "days": 5}. Empty: none.', offered=True
    )
    stp_only = models.BooleanField(default=False, help_text="Everything of the group's goes to the market.")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(commission_per_lot__gte=0, commission_per_lot__lte=1_000_000),
                name="group_commission_bounded",
            ),
            models.CheckConstraint(
                condition=models.Q(leverage_max__gte=1, leverage_max__lte=1000), name="group_leverage_bounded"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Account(models.Model):
    """The engine's row: terms, rights and money of one trading account."""

    id = models.BigIntegerField(primary_key=True)
    shard = models.IntegerField()
    group = models.TextField()
    currency = models.TextField()
    leverage = models.IntegerField()
    client_class = models.TextField()
    rights = models.TextField()
    balance = money_column()
    credit = money_column()
    version = models.BigIntegerField()
    seq = models.BigIntegerField()
    jurisdiction = models.TextField(blank=True, db_default="")
    stp_only = models.BooleanField(db_default=False)
    alarm = models.IntegerField(db_default=0)
    commission_blocked = money_column(db_default=0)
    day_trades = ArrayField(models.TextField(), db_default=Value([], ArrayField(models.TextField())), blank=True)
    turnover = models.JSONField(db_default=Value([], models.JSONField()), blank=True)

    class Meta:
        db_table = "account"
        constraints = [
            finite("account", "balance", "credit", "commission_blocked"),
            models.CheckConstraint(condition=models.Q(leverage__gte=1, leverage__lte=1000), name="account_leverage"),
            one_of("account", "rights", [right.value for right in Rights]),
            one_of("account", "client_class", [kind.value for kind in ClientClass]),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.currency}"
