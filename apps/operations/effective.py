"""What a group's accounts deal on in one symbol at one time, and where each value comes from: for staff."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from apps.doors.problems import Problem
from apps.operations.models import ConfigVersion
from apps.times import micros
from bus import codec
from trading.accounts import ClientClass
from trading.configuration import Config, Group
from trading.instruments import Instrument
from trading.masks import mask
from trading.numbers import plain
from trading.overrides import as_of, effective, sourced
from trading.refusals import Refusal
from trading.regulation import Asset, JurisdictionUnknown, RegulatoryTerms, terms_for
from trading.views import rfc3339


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Whose terms, in what, when. Without jurisdiction no regulatory rule holds."""

    group: str
    symbol: str
    at: datetime
    jurisdiction: str = ""
    client_class: ClientClass = ClientClass.RETAIL


def effective_terms(question: Question) -> dict[str, Any]:
    """The answer under the version that was the newest at that time. Raises Problem for what is not known there."""
    version, config = _version_at(question.at)
    group = config.groups.get(question.group)
    own = config.instruments.get(question.symbol)
    if group is None:
        raise Problem(Refusal.UNKNOWN_GROUP)
    if own is None:
        raise Problem(Refusal.UNKNOWN_SYMBOL)
    terms, provenance = effective(own, group.overrides, symbol=own.symbol)
    law = _law(question, config, terms)
    return {
        "config_version": version.version,
        "published_at": rfc3339(micros(version.published_at)),
        "at": rfc3339(micros(question.at)),
        "group": group.name,
        "symbol": own.symbol,
        "terms": [{"field": field, "value": value, "rule": rule} for field, value, rule in sourced(terms, provenance)],
        "group_terms": _group_terms(group, own.symbol, firm_stp_only=config.stp_only),
        "regulation": _law_shape(question, law),
        "leverage_max": min(group.leverage_max, law.leverage_max or group.leverage_max),
    }


def _version_at(at: datetime) -> tuple[ConfigVersion, Config]:
    published = ConfigVersion.objects.order_by("version").values_list("published_at", "version")
    number = as_of([(micros(published_at), version) for published_at, version in published], micros(at))
    if number is None:
        raise Problem(Refusal.NOT_FOUND, "No configuration was published by then.")
    row = ConfigVersion.objects.get(version=number)
    return row, codec.decode_config(codec.encode(row.document))


def _law(question: Question, config: Config, terms: Instrument) -> RegulatoryTerms:
    asset = Asset(
        asset_class=terms.asset_class.value, base=terms.base, quote=terms.quote, is_major_index=terms.is_major_index
    )
    day = question.at.astimezone(UTC).date()
    try:
        return terms_for(question.jurisdiction, question.client_class, asset, day, config.regulation)
    except JurisdictionUnknown:
        raise Problem(Refusal.INVALID_REQUEST, "No rule was ever written for this jurisdiction.") from None


def _law_shape(question: Question, law: RegulatoryTerms) -> dict[str, Any]:
    share = law.close_out_share
    return {
        "jurisdiction": question.jurisdiction,
        "client_class": question.client_class.value,
        **msgspec.structs.asdict(law),
        "close_out_share": None if share is None else plain(share),
    }


def _group_terms(group: Group, symbol: str, *, firm_stp_only: bool) -> dict[str, Any]:
    """The group's terms that are not the symbol's: markup, charges, margin policy, stop-out, limits."""
    markup = group.markup_for(symbol)
    shown: dict[str, Any] = {
        "leverage_max": group.leverage_max,
        "markup": {"bid": markup.bid, "ask": markup.ask},
        "markup_rule": "symbol markups" if symbol in group.symbol_markups else "group",
        "commission_per_lot": plain(group.commission_per_lot),
        "commissions": [rule for rule in group.commissions if mask(rule.symbols)(symbol)],
        "margin": group.margin,
        "conversion": group.conversion,
        "swap_free": group.swap_free,
        "stop_out": group.stop_out,
        "negative_balance_protection": group.negative_balance_protection,
        "controls": group.controls,
        "day_trades": group.day_trades,
        "stp_only": firm_stp_only or group.stp_only,
    }
    plain_json: dict[str, Any] = msgspec.json.decode(codec.encode(shown))
    return plain_json


def told(terms: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested terms as a page shows them: a dotted path and a text for each."""
    lines: dict[str, str] = {}
    for name, value in terms.items():
        if isinstance(value, dict):
            lines |= told(value, f"{prefix}{name}.")
        else:
            lines[f"{prefix}{name}"] = _told(value)
    return lines


def _told(value: object) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "; ".join(_told_part(part) for part in value) or "none"
    return str(value)


def _told_part(part: object) -> str:
    if not isinstance(part, dict):
        return _told(part)
    return ", ".join(f"{name} {value}" for name, value in told(part).items())
