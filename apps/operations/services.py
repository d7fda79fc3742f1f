"""Publishing the configuration: what the admin edited becomes one immutable, numbered document.

Gather the rows, check the document, store it, then tell: a message to all processes and a command to the engine, which
decides by the new version only once it has confirmed that.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from django.db import connection, transaction
from django.utils import timezone
from redis.exceptions import RedisError

from apps import published
from apps.accounts.models import Account, Group
from apps.doors.connections import engine, redis_connection
from apps.doors.ids import uuid7
from apps.instruments.models import Currency, Instrument
from apps.liquidity.models import LiquidityProvider
from apps.operations.models import AuditEntry, ConfigVersion, FirmSettings
from apps.operations.terms import breaker_value, clock_speed, group_value, instrument_value, regulation_value, short
from apps.orders.models import Order
from apps.positions.models import Position
from apps.routing_rules.models import Rule
from apps.routing_rules.services import RuleRefused, rule_of
from bus import codec, names
from bus.client import AnswerTimeout, Busy
from routing.policy import check_policy
from trading import configuration
from trading.commands import ReloadConfig
from trading.configuration import (
    Config,
    ConfigurationRefused,
    LpInstrument,
    LpSettings,
    Policy,
    check_config,
    resolve_conversions,
)
from trading.orders import LIVE_ORDERS

RELOAD_WAIT_S = 5.0
COMMAND_VALID_US_MAX = 30_000_000
LEG_VALID_US = 5_000_000
_PUBLISHING = 7301
"""The advisory lock that lets one publisher number a version at a time."""
_log = structlog.get_logger("operations")


@dataclass(frozen=True, slots=True)
class Published:
    config: Config
    changed: bool
    active: bool
    """The engine has confirmed that it decides by it."""


def publish_config(by: str, *, tell: bool = True) -> Published:
    """Publish what is configured now. Raises ConfigurationRefused; nothing is stored then.

    An unchanged configuration keeps its number. With `tell` the processes hear of it and the engine is asked to confirm.
    """
    with transaction.atomic():
        config, changed = store_config(by)
    published.forget()
    active = tell_config(config, by) if tell else False
    _log.info("configuration_published", version=config.version, by=by, changed=changed, active=active)
    return Published(config, changed, active)


def store_config(by: str) -> tuple[Config, bool]:
    """The configuration as a stored version, and whether it is a new one. For use inside a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_PUBLISHING])
    before = _newest()
    config = build_config(before)
    check_config(config)
    check_policy(config.policy)
    _check_in_use(config)
    if before is not None and msgspec.structs.replace(config, version=before.version) == before:
        return before, False
    ConfigVersion.objects.create(
        version=config.version,
        document=msgspec.json.decode(codec.encode(config)),
        published_at=timezone.now(),
        published_by=by,
    )
    return config, True


def tell_config(config: Config, by: str) -> bool:
    """Tell every process, and ask the engine to decide by it; whether it confirmed. Not reaching it is no failure: the
    engine reads the newest version when it starts, and the version can be published again.
    """
    with suppress(RedisError):  # every process looks for a newer version by itself too
        redis_connection().publish(names.CONFIG, str(config.version))
    command = ReloadConfig(id=str(uuid7()), key=f"config/{config.version}", actor=by, version=config.version)
    try:
        answer = engine().submit(command, RELOAD_WAIT_S)
    except (AnswerTimeout, Busy):
        return False
    return not answer.refusal


def build_config(before: Config | None) -> Config:
    """The document that the rows describe, numbered after `before`. Raises ConfigurationRefused."""
    digits = {row.code: row.digits for row in Currency.objects.order_by("code")}
    symbols = {row.symbol: instrument_value(row) for row in Instrument.objects.order_by("symbol")}
    firm = FirmSettings.objects.first()
    if not symbols:
        raise ConfigurationRefused("there are no instruments")
    return Config(
        version=before.version + 1 if before else 1,
        instruments=symbols,
        groups={row.name: group_value(row) for row in Group.objects.order_by("name")},
        lps={row.name: _lp(row) for row in LiquidityProvider.objects.prefetch_related("instruments").order_by("name")},
        policy=_policy(before),
        currency_digits=digits,
        conversions=resolve_conversions(symbols, set(digits)),
        command_valid_us_max=int(COMMAND_VALID_US_MAX * clock_speed()),
        leg_valid_us=int(LEG_VALID_US * clock_speed()),
        regulation=regulation_value(firm),
        breaker=breaker_value(firm),
        stp_only=firm is not None and firm.stp_only,
    )


def _check_in_use(config: Config) -> None:
    """What accounts, positions and orders refer to must stay: no client loses protection, and no position its terms."""
    used = {
        "group": (set(Account.objects.values_list("group", flat=True).distinct()), set(config.groups)),
        "jurisdiction": (
            set(Account.objects.exclude(jurisdiction="").values_list("jurisdiction", flat=True).distinct()),
            {rule.jurisdiction for rule in config.regulation},
        ),
        "symbol": (_symbols_in_use(), set(config.instruments)),
    }
    for kind, (wanted, known) in used.items():
        if wanted - known:
            raise ConfigurationRefused(f"{kind} in use is missing: {', '.join(sorted(wanted - known))}")


def _symbols_in_use() -> set[str]:
    held = Position.objects.filter(volume__gt=0).values_list("symbol", flat=True).distinct()
    ordered = Order.objects.filter(status__in=LIVE_ORDERS).values_list("symbol", flat=True).distinct()
    return {*held, *ordered}


def _newest() -> Config | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT document::text FROM config_version ORDER BY version DESC LIMIT 1")
        row = cursor.fetchone()
    return codec.decode_config(row[0]) if row else None


def _lp(row: LiquidityProvider) -> LpSettings:
    traded = {
        listed.symbol_id: LpInstrument(
            lp_symbol=listed.lp_symbol, volume_min=short(listed.volume_min), volume_step=short(listed.volume_step)
        )
        for listed in sorted(row.instruments.all(), key=lambda listed: listed.symbol_id)
    }
    return LpSettings(name=row.name, enabled=row.enabled, priority=row.priority, instruments=traded)


def _policy(before: Config | None) -> Policy:
    """The rules, under the number they had while they stay the same."""
    try:
        rules = tuple(_short_share(rule_of(row)) for row in Rule.objects.order_by("order"))
    except RuleRefused as error:
        raise ConfigurationRefused(str(error)) from None
    if before is None:
        return Policy(version=1, rules=rules)
    return Policy(version=before.policy.version + (rules != before.policy.rules), rules=rules)


def _short_share(rule: configuration.Rule) -> configuration.Rule:
    return msgspec.structs.replace(rule, a_share=short(rule.a_share))


def audit(*, actor: str, action: str, request_id: str, address: str, detail: dict[str, Any]) -> None:
    """Record what a member of staff did or asked."""
    AuditEntry.objects.create(actor=actor, action=action, request_id=request_id, address=address, detail=detail)
    _log.info("audit", actor=actor, action=action)
