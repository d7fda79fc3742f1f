"""The demo broker: what is traded, on which terms, with whom, and three clients and a dealer.

Seeding adds what is missing and changes nothing that is there, so that a dealer's edits survive the next start.
"""

import json
import os
import secrets
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.db import transaction

from apps.accounts.models import Environment, Group, Profile, User
from apps.instruments.models import Currency, Instrument
from apps.liquidity.models import LiquidityProvider, LpInstrument
from apps.routing_rules.models import Rule
from trading.accounts import ClientClass
from trading.regulation import EU

CURRENCIES = {"USD": 2, "EUR": 2, "GBP": 2, "JPY": 0, "CHF": 2, "AUD": 2, "NZD": 2, "XAU": 2}
NAMES = {
    "USD": "US dollar",
    "EUR": "Euro",
    "GBP": "Pound sterling",
    "JPY": "Yen",
    "CHF": "Swiss franc",
    "AUD": "Australian dollar",
    "NZD": "New Zealand dollar",
    "XAU": "Gold (ounce)",
}
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "USDCHF", "AUDUSD", "NZDUSD", "EURGBP", "EURJPY", "XAUUSD")
SWAPS = {
    "EURUSD": ("-7.2", "3.1"),
    "GBPUSD": ("-2.8", "-1.9"),
    "USDJPY": ("12.4", "-19.8"),
    "USDCHF": ("6.9", "-11.2"),
    "AUDUSD": ("-3.4", "0.6"),
    "NZDUSD": ("-1.6", "-0.9"),
    "EURGBP": ("-6.1", "2.3"),
    "EURJPY": ("9.8", "-15.9"),
    "XAUUSD": ("-38.5", "19.6"),
}
"""Points per night, long and short; Wednesday's counts three times."""
STOP_OUT = {"margin_calls": ["100", "80", "60"], "level": "50"}
GROUPS: dict[str, dict[str, Any]] = {
    "retail": {
        "commission_per_lot": Decimal("3.50"),
        "leverage_max": 30,
        "markup_bid": 2,
        "markup_ask": 2,
        "stop_out": STOP_OUT,
    },
    "pro": {"commission_per_lot": Decimal("2.50"), "leverage_max": 200, "stop_out": STOP_OUT},
    "vip": {
        "commission_per_lot": Decimal("3.00"),
        "leverage_max": 100,
        "markup_bid": 1,
        "markup_ask": 1,
        "stop_out": STOP_OUT,
        "overrides": [{"name": "VIP metals", "symbols": "XAUUSD", "changes": {"volume_max": "20"}}],
    },
    "net": {
        "commission_per_lot": Decimal("0.00"),
        "leverage_max": 100,
        "markup_bid": 1,
        "markup_ask": 1,
        "stop_out": STOP_OUT,
        "margin": {"accounting": "netting"},
        "commissions": [
            {
                "name": "daily",
                "terms": {
                    "rate": "3.00",
                    "posting": "daily",
                    "tier_basis": "turnover_lots",
                    "tiers": [{"at_least": "50", "rate": "2.50"}],
                },
            }
        ],
        "conversion": {"fee": "5"},
    },
}
GUARANTEED = ("EURUSD", "USDJPY")
"""Symbols whose stop losses can be guaranteed."""
RULES: tuple[dict[str, Any], ...] = (
    {
        "name": "professionals to the market",
        "conditions": [{"field": "client_class", "operator": "=", "values": ["professional"]}],
        "action": "A",
        "a_share": Decimal(1),
    },
    {
        "name": "large tickets shared",
        "conditions": [{"field": "volume", "operator": ">=", "values": ["1"]}],
        "action": "C",
        "a_share": Decimal("0.6"),
    },
    {"name": "everyone else", "conditions": [], "action": "B", "a_share": Decimal(0)},
)
DEPOSIT = Decimal("10000.00")


@dataclass(frozen=True, slots=True)
class Client:
    """A demo client: login, account, terms."""

    username: str
    name: str
    account: int
    currency: str
    group: str
    leverage: int
    client_class: ClientClass
    jurisdiction: str = ""


CLIENTS = (
    Client("anna", "Anna", 10001, "EUR", "retail", 30, ClientClass.RETAIL, EU),
    Client("ben", "Ben", 10002, "USD", "pro", 200, ClientClass.PROFESSIONAL),
    Client("carla", "Carla", 10003, "USD", "vip", 100, ClientClass.RETAIL),
)
DEALER = "dealer"


@transaction.atomic
def seed_configuration() -> None:
    """Currencies, instruments, groups, providers and rules, where they are missing."""
    for code, digits in CURRENCIES.items():
        Currency.objects.get_or_create(code=code, defaults={"digits": digits})
    for symbol in SYMBOLS:
        Instrument.objects.get_or_create(symbol=symbol, defaults=_instrument(symbol))
    for name, terms in GROUPS.items():
        Group.objects.get_or_create(name=name, defaults=terms)
    for priority, (name, separator) in enumerate((("YOFX1", "/"), ("PRIMEXM", "")), start=1):
        _seed_provider(name, separator, priority)
    if not Rule.objects.exists():
        for place, rule in enumerate(RULES, start=1):
            Rule.objects.create(order=place * 10, **rule)


def _instrument(symbol: str) -> dict[str, Any]:
    base, quote = symbol[:3], symbol[3:]
    is_gold = base == "XAU"
    return {
        "description": f"{NAMES[base]} against {NAMES[quote]}",
        "base_id": base,
        "quote_id": quote,
        "digits": 2 if is_gold else 3 if quote == "JPY" else 5,
        "contract_size": Decimal(100 if is_gold else 100_000),
        "volume_min": Decimal("0.01"),
        "volume_max": Decimal(100),
        "volume_step": Decimal("0.01"),
        "quote_age_max_ms": 3000,
        "asset_class": "metal" if is_gold else "fx",
        "guarantee": {"fee_points": "8", "distance_min_points": 50} if symbol in GUARANTEED else None,
        "swap": {"mode": "points", "long": SWAPS[symbol][0], "short": SWAPS[symbol][1]},
    }


def _seed_provider(name: str, separator: str, priority: int) -> None:
    lp, _ = LiquidityProvider.objects.get_or_create(name=name, defaults={"priority": priority})
    for symbol in SYMBOLS:
        terms = {
            "lp_symbol": f"{symbol[:3]}{separator}{symbol[3:]}",
            "volume_min": Decimal("0.01"),
            "volume_step": Decimal("0.01"),
        }
        LpInstrument.objects.get_or_create(lp=lp, symbol_id=symbol, defaults=terms)


def seed_users(passwords: dict[str, str]) -> None:
    """The logins and whose accounts are whose. A password that no longer fits is set again."""
    for client in CLIENTS:
        user = _seed_user(client.username, passwords[client.username], client.name, staff=False)
        terms = {"user": user, "name": f"{client.name} {client.currency}", "environment": Environment.DEMO}
        Profile.objects.get_or_create(account=client.account, defaults=terms)
    _seed_user(DEALER, passwords[DEALER], "Dealer", staff=True)


def _seed_user(username: str, password: str, name: str, *, staff: bool) -> User:
    rights = {"first_name": name, "is_staff": staff, "is_superuser": staff}
    user, _ = User.objects.get_or_create(username=username, defaults=rights)
    if not user.check_password(password):
        user.set_password(password)
        user.save()
    return user


def demo_passwords(data: Path) -> dict[str, str]:
    """The demo logins' passwords, made once per data folder and readable by its owner alone."""
    path = data / "secrets" / "demo-logins.json"
    if path.exists():
        kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return kept
    passwords = {username: secrets.token_urlsafe(12) for username in (*(c.username for c in CLIENTS), DEALER)}
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(passwords, file, indent=2)
    return passwords


def data_folder() -> Path:
    return Path(os.environ.get("TRIBOOK_DATA") or Path.home() / ".local" / "share" / "tribook")
