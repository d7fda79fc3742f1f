"""Values for tests, written as a dealer writes them: `usd("10.00")`, `eurusd("1.08512")`, `lots("0.10")`.

Everything comes from one demo universe, `config()`; keywords replace what a test is about. Texts become Decimals here,
so that a test's table stays a table.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from trading.accounts import Account, ClientClass
from trading.configuration import (
    Condition,
    Config,
    Field,
    Group,
    LpInstrument,
    LpSettings,
    Markup,
    Operator,
    Policy,
    Rule,
    resolve_conversions,
)
from trading.decisions import RoutingFacts
from trading.instruments import AssetClass, Instrument
from trading.numbers import parse_decimal, point, round_half_up
from trading.orders import Book, Side
from trading.positions import Position
from trading.quotes import LpTop, Quote

NOW_US = 1_700_000_000_000_000
"""The instant at which unit tests happen."""

SECOND_US = 1_000_000
CURRENCY_DIGITS = {"USD": 2, "EUR": 2, "GBP": 2, "JPY": 0, "CHF": 2, "AUD": 2, "NZD": 2, "XAU": 2}
SYMBOLS = ("EURUSD", "GBPUSD", "USDJPY", "USDCHF", "AUDUSD", "NZDUSD", "EURGBP", "EURJPY", "XAUUSD")


# --- amounts ---


def lots(text: str) -> Decimal:
    return parse_decimal(text)


def usd(text: str) -> Decimal:
    return money(text, "USD")


def eur(text: str) -> Decimal:
    return money(text, "EUR")


def jpy(text: str) -> Decimal:
    return money(text, "JPY")


def money(text: str, currency: str) -> Decimal:
    """An amount that the currency can be posted in; `usd("1.005")` is a slip of the test."""
    amount = parse_decimal(text)
    assert amount == round_half_up(amount, CURRENCY_DIGITS[currency]), f"{text} has too many decimals for {currency}"
    return amount


# --- quotes ---


def eurusd(bid: str, ask: str | None = None, **overrides: Any) -> Quote:
    """A fresh EURUSD; without `ask`, one pip above the bid."""
    return quote("EURUSD", bid, ask, **overrides)


def quote(
    symbol: str, bid: str, ask: str | None = None, *, tops: Iterable[LpTop] | None = None, **overrides: Any
) -> Quote:
    """A fresh aggregate. Without `tops`, YOFX1 stands behind the price and PRIMEXM one point worse, 5 lots each."""
    step = point(instrument(symbol).digits)
    low = parse_decimal(bid)
    high = low + 10 * step if ask is None else parse_decimal(ask)
    fields: dict[str, Any] = {"symbol": symbol, "seq": 1, "bid": low, "ask": high, "at_us": NOW_US, **overrides}
    if tops is None:
        tops = (
            lp_top("YOFX1", bid=str(low), ask=str(high), at_us=fields["at_us"]),
            lp_top("PRIMEXM", bid=str(low - step), ask=str(high + step), at_us=fields["at_us"]),
        )
    return Quote(**fields, tops=tuple(tops))


def lp_top(
    lp: str = "YOFX1",
    *,
    bid: str = "1.08510",
    ask: str = "1.08512",
    bid_size: str = "5.00",
    ask_size: str = "5.00",
    **overrides: Any,
) -> LpTop:
    """One provider's best bid and offer, fresh and tradable."""
    fields: dict[str, Any] = {"quote_id": f"{lp}-1", "at_us": NOW_US, "tradable": True, **overrides}
    return LpTop(
        lp=lp, bid=Decimal(bid), ask=Decimal(ask), bid_size=Decimal(bid_size), ask_size=Decimal(ask_size), **fields
    )


# --- configuration ---


def instrument(symbol: str = "EURUSD", **overrides: Any) -> Instrument:
    """A demo symbol's terms."""
    is_metal, is_yen = symbol == "XAUUSD", symbol.endswith("JPY")
    fields: dict[str, Any] = {
        "description": f"{symbol[:3]} against {symbol[3:]}",
        "base": symbol[:3],
        "quote": symbol[3:],
        "digits": 2 if is_metal else 3 if is_yen else 5,
        "contract_size": Decimal(100 if is_metal else 100_000),
        "volume_min": Decimal("0.01"),
        "volume_max": Decimal(100),
        "volume_step": Decimal("0.01"),
        "quote_age_max_us": 3 * SECOND_US,
        "asset_class": AssetClass.METAL if is_metal else AssetClass.FX,
        **overrides,
    }
    return Instrument(symbol=symbol, **fields)


_GROUPS = {
    "retail": {"commission_per_lot": Decimal("3.50"), "leverage_max": 30, "markup": Markup(bid=2, ask=2)},
    "pro": {"commission_per_lot": Decimal("2.50"), "leverage_max": 200, "markup": Markup()},
    "vip": {"commission_per_lot": Decimal("3.00"), "leverage_max": 100, "markup": Markup(bid=1, ask=1)},
}


def group(name: str = "retail", **overrides: Any) -> Group:
    """A demo group's terms; an unknown name has retail's."""
    fields: dict[str, Any] = {**_GROUPS.get(name, _GROUPS["retail"]), **overrides}
    return Group(name=name, **fields)


def lp_settings(
    name: str = "YOFX1",
    *,
    symbols: Iterable[str] = SYMBOLS,
    volume_min: str = "0.01",
    volume_step: str = "0.01",
    **overrides: Any,
) -> LpSettings:
    """A provider that trades `symbols`, all with the same minimum and step."""
    slash = "/" if name == "YOFX1" else ""
    traded = {
        symbol: LpInstrument(
            lp_symbol=f"{symbol[:3]}{slash}{symbol[3:]}",
            volume_min=Decimal(volume_min),
            volume_step=Decimal(volume_step),
        )
        for symbol in symbols
    }
    fields: dict[str, Any] = {
        "enabled": True,
        "priority": 2 if name == "PRIMEXM" else 1,
        "instruments": traded,
        **overrides,
    }
    return LpSettings(name=name, **fields)


def condition(field: str, operator: str, *values: str) -> Condition:
    return Condition(field=Field(field), operator=Operator(operator), values=values)


def rule(
    name: str = "everyone else", *conditions: Condition, action: str = "B", a_share: str | None = None, **overrides: Any
) -> Rule:
    """A rule; the A share follows from the action, 0.6 for C, unless it is given."""
    share = Decimal(a_share if a_share is not None else {"A": "1", "B": "0", "C": "0.6"}[action])
    fields: dict[str, Any] = {"id": 1, **overrides}
    return Rule(name=name, conditions=conditions, action=Book(action), a_share=share, **fields)


def policy(*rules: Rule, version: int = 1) -> Policy:
    """These rules, or the demo's three."""
    return Policy(version=version, rules=rules or DEMO_RULES)


DEMO_RULES = (
    rule("professionals to the market", condition("client_class", "=", "professional"), action="A", id=1),
    rule("large tickets shared", condition("volume", ">=", "1"), action="C", id=2),
    rule("everyone else", id=3),
)


def config(**overrides: Any) -> Config:
    """The demo broker's published document."""
    instruments = {symbol: instrument(symbol) for symbol in SYMBOLS}
    fields: dict[str, Any] = {
        "version": 1,
        "instruments": instruments,
        "groups": {name: group(name) for name in _GROUPS},
        "lps": {name: lp_settings(name) for name in ("YOFX1", "PRIMEXM")},
        "policy": policy(),
        "currency_digits": dict(CURRENCY_DIGITS),
        "conversions": resolve_conversions(instruments, {"USD", "EUR", "GBP"}),
        **overrides,
    }
    return Config(**fields)


# --- accounts, positions, facts ---


def account(number: int = 10001, **overrides: Any) -> Account:
    fields: dict[str, Any] = {"group": "retail", "currency": "EUR", "leverage": 30, **overrides}
    return Account(id=number, **fields)


def position(volume: str = "1.00", volume_a: str = "0.00", *, price: str = "1.08512", **overrides: Any) -> Position:
    """An untouched EURUSD long of account 10001, `volume_a` of it at YOFX1."""
    opened, opened_a = Decimal(volume), Decimal(volume_a)
    fields: dict[str, Any] = {
        "id": 7,
        "account": 10001,
        "symbol": "EURUSD",
        "side": Side.BUY,
        "opened_us": NOW_US,
        "updated_us": NOW_US,
        "volume_opened": opened,
        "volume": opened,
        "cost": opened * Decimal(price),
        "margin": Decimal(0),
        "lp": "YOFX1" if opened_a else "",
        "volume_a_opened": opened_a,
        "volume_a": opened_a,
        "cost_a": opened_a * Decimal(price),
        **overrides,
    }
    return Position(**fields)


def facts(volume: str = "0.10", **overrides: Any) -> RoutingFacts:
    """A retail client's EURUSD buy, with both providers at hand."""
    fields: dict[str, Any] = {
        "account": 10001,
        "group": "retail",
        "client_class": ClientClass.RETAIL,
        "instrument": instrument(),
        "side": Side.BUY,
        "quote": eurusd("1.08510", "1.08512"),
        "lps": {name: lp_settings(name) for name in ("YOFX1", "PRIMEXM")},
        "config_version": 1,
        "now_us": NOW_US,
        **overrides,
    }
    return RoutingFacts(volume=Decimal(volume), **fields)
