"""From a configured row to the value that is published: strict, and told in a sentence that names the row and the field.

JSON columns are read as the struct of their name. What msgspec would let pass is refused here: misspelt fields at any
depth, numbers that are not plain digits, floats.
"""

from decimal import Decimal
from os import environ
from typing import Any

import msgspec
from django.db.models import Model

from apps.accounts.models import Group
from apps.instruments.models import Instrument
from apps.operations.models import FirmSettings
from apps.times import micros
from trading import configuration, instruments
from trading.breaker import BreakerTerms
from trading.calendar import SessionTerms
from trading.charges.fees import FeeSchedule
from trading.charges.swap import SwapFreeTerms, SwapTerms
from trading.configuration import CommissionRule, ConfigurationRefused, Markup
from trading.controls import AccountControls, SymbolControls
from trading.conversion import ConversionTerms
from trading.daytrading import DayTradeTerms
from trading.guarantee import GuaranteeTerms
from trading.margining.terms import MarginPolicy, MarginTerms
from trading.overrides import Override, value_problem
from trading.profit import ProfitTerms
from trading.protection import StopTriggerMethod
from trading.quotefilter import FilterTerms
from trading.regulation import SEEDED, RegulatoryRule
from trading.spreads import SpreadTerms
from trading.stopout import StopOutTerms

INSTRUMENT_TERMS: dict[str, Any] = {
    "sessions": SessionTerms,
    "margin": MarginTerms,
    "profit": ProfitTerms,
    "swap": SwapTerms,
    "spread": SpreadTerms,
    "quote_filter": FilterTerms,
    "controls": SymbolControls,
    "guarantee": GuaranteeTerms | None,
    "fees": FeeSchedule | None,
}
GROUP_TERMS: dict[str, Any] = {
    "symbol_markups": dict[str, Markup],
    "overrides": tuple[Override, ...],
    "margin": MarginPolicy,
    "commissions": tuple[CommissionRule, ...],
    "conversion": ConversionTerms,
    "swap_free": SwapFreeTerms | None,
    "stop_out": StopOutTerms,
    "controls": AccountControls,
    "day_trades": DayTradeTerms | None,
}
FIRM_TERMS: dict[str, Any] = {"regulation": tuple[RegulatoryRule, ...], "breaker": BreakerTerms}
"""Columns that hold JSON, and what they hold."""


def instrument_value(row: Instrument) -> instruments.Instrument:
    """One symbol's terms. Raises ConfigurationRefused."""
    return instruments.Instrument(
        symbol=row.symbol,
        description=row.description,
        base=row.base_id,
        quote=row.quote_id,
        digits=row.digits,
        contract_size=short(row.contract_size),
        volume_min=short(row.volume_min),
        volume_max=short(row.volume_max),
        volume_step=short(row.volume_step),
        quote_age_max_us=int(row.quote_age_max_ms * 1000 * clock_speed()),
        asset_class=instruments.AssetClass(row.asset_class),
        trade_mode=instruments.TradeMode(row.trade_mode),
        margin_currency=row.margin_currency,
        stop_trigger=StopTriggerMethod(row.stop_trigger),
        stops_level=row.stops_level,
        freeze_level=row.freeze_level,
        is_major_index=row.is_major_index,
        is_cash=row.is_cash,
        expires_us=micros(row.expires_at) if row.expires_at else 0,
        **_converted(row, INSTRUMENT_TERMS, row.symbol),
    )


def group_value(row: Group) -> configuration.Group:
    """One group's terms. Raises ConfigurationRefused."""
    return configuration.Group(
        name=row.name,
        commission_per_lot=short(row.commission_per_lot, decimals=2),
        leverage_max=row.leverage_max,
        markup=Markup(bid=row.markup_bid, ask=row.markup_ask),
        negative_balance_protection=row.negative_balance_protection,
        stp_only=row.stp_only,
        **_converted(row, GROUP_TERMS, f"group {row.name}"),
    )


def regulation_value(row: FirmSettings | None) -> tuple[RegulatoryRule, ...]:
    """The firm's regulatory rules; the seeded ones where it has none of its own. Raises ConfigurationRefused."""
    if row is None or not row.regulation:
        return SEEDED
    found: tuple[RegulatoryRule, ...] = _converted(row, FIRM_TERMS, "the firm")["regulation"]
    return found


def breaker_value(row: FirmSettings | None) -> BreakerTerms:
    """When a provider's circuit breaker opens, its times stretched to the clock's speed. Raises ConfigurationRefused."""
    terms: BreakerTerms = BreakerTerms() if row is None else _converted(row, FIRM_TERMS, "the firm")["breaker"]
    speed = clock_speed()
    return msgspec.structs.replace(
        terms,
        window_us=int(terms.window_us * speed),
        pause_us=int(terms.pause_us * speed),
        pause_us_max=int(terms.pause_us_max * speed),
    )


def _converted(row: Model, kinds: dict[str, Any], where: str) -> dict[str, Any]:
    found = {}
    for field, kind in kinds.items():
        value = getattr(row, field)
        problem = value_problem(field, value, kind)
        if problem:
            raise ConfigurationRefused(f"{where}: {problem}")
        found[field] = msgspec.convert(value, type=kind)
    return found


def clock_speed() -> Decimal:
    """How much faster than the wall a replay's clock runs: business time limits stretch with it. 1 for the wall clock."""
    return max(Decimal(environ.get("SPEED") or "1"), Decimal(1))


def short(value: Decimal, *, decimals: int = 0) -> Decimal:
    """Without the column's trailing zeros, but with at least `decimals` decimals and never an exponent."""
    normal = value.normalize()
    exponent = normal.as_tuple().exponent
    assert isinstance(exponent, int)
    return normal.quantize(Decimal(1).scaleb(min(exponent, -decimals)))
