"""What the law says about a client: leverage caps, close-out, negative balance protection, bans. Data first, a lookup after.

A rule belongs to one jurisdiction and some client classes and holds from a date on; the newest that has begun decides, so
a change never rewrites history. Which regime a country falls under, and whether a broker may serve it, is the compliance
department's table; the rules here are seeded with the figures of ESMA, the FCA and ASIC, and a published document may
carry others.

A right never lapses by itself: where a regulator's order runs out on a day, the rule keeps holding and names that day in
`review_by`, so that somebody decides.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from enum import StrEnum
from itertools import combinations

from msgspec import Struct
from msgspec.structs import replace

from trading.accounts import ClientClass
from trading.numbers import is_plain

NONE = ""
"""No jurisdiction: no rule holds, whatever the client class."""
EU = "EU"
UK = "UK"
AU = "AU"


class AssetKind(StrEnum):
    """Classes that caps and bans are written for."""

    FX_MAJOR = "fx_major"
    FX_MINOR = "fx_minor"
    GOLD = "gold"
    COMMODITY = "commodity"
    """Every commodity but gold, silver too."""
    INDEX_MAJOR = "index_major"
    INDEX_MINOR = "index_minor"
    SHARE = "share"
    CRYPTO = "crypto"
    OTHER = "other"


class Asset(Struct, frozen=True, kw_only=True):
    """What a symbol is, as far as a regulator asks. `asset_class` is the instrument's: fx, metal, index, share, crypto…"""

    asset_class: str
    base: str
    quote: str
    is_major_index: bool = False
    """On the regulators' list: FTSE 100, CAC 40, DAX, Dow, S&P 500, NASDAQ, Nikkei 225, ASX 200, EURO STOXX 50."""


class RegulatoryRule(Struct, frozen=True, kw_only=True):
    """What one regime prescribes for some client classes from a date on."""

    name: str
    """Shown with every value it decides: `FCA COBS 22.5`."""
    jurisdiction: str
    client_classes: tuple[ClientClass, ...]
    valid_from: str
    """ISO date, inclusive, until the next rule of the same regime and class begins."""
    source: str
    review_by: str = ""
    """ISO date at which the regulator's order runs out unless extended; the rule holds on."""
    leverage_caps: dict[AssetKind, int] = {}
    """Kinds that are missing have no cap; a rule caps all of them or none."""
    major_currencies: tuple[str, ...] = ()
    """A pair of two of these is a major."""
    banned: tuple[AssetKind, ...] = ()
    """May not be sold to these clients: no opening, closing as ever."""
    bonus_banned: bool = False
    close_out_share: Decimal | None = None
    """Positions are closed when equity falls below this share of the initial margin of all of them."""
    negative_balance_protection: bool = False
    stp_only: bool = False
    """The house may not take the other side."""


class RegulatoryTerms(Struct, frozen=True, kw_only=True):
    """What holds for one client, asset and date. The default is a client whom no rule protects."""

    rule: str = "no rule"
    leverage_max: int | None = None
    is_banned: bool = False
    bonus_banned: bool = False
    close_out_share: Decimal | None = None
    negative_balance_protection: bool = False
    stp_only: bool = False


class JurisdictionUnknown(LookupError):
    """No rule was ever written for the jurisdiction. Accounts may only name known ones, or none."""


# --- questions ---


def terms_for(
    jurisdiction: str,
    client_class: ClientClass,
    asset: Asset,
    at_date: date,
    rules: Sequence[RegulatoryRule] | None = None,
) -> RegulatoryTerms:
    """What holds for such a client in such an asset on that date, by `rules` (None: the seeded ones).

    Raises JurisdictionUnknown for one that no rule speaks about: nobody loses protection by a typing error.
    """
    known = SEEDED if rules is None else rules
    rule = rule_for(jurisdiction, client_class, at_date, known)
    if rule is None:
        return RegulatoryTerms()
    kind = asset_kind(asset, rule.major_currencies)
    return RegulatoryTerms(
        rule=rule.name,
        leverage_max=rule.leverage_caps.get(kind),
        is_banned=kind in rule.banned,
        bonus_banned=rule.bonus_banned,
        close_out_share=rule.close_out_share,
        negative_balance_protection=rule.negative_balance_protection,
        stp_only=rule.stp_only,
    )


def rule_for(
    jurisdiction: str, client_class: ClientClass, at_date: date, rules: Sequence[RegulatoryRule]
) -> RegulatoryRule | None:
    """The newest rule that has begun; None where none has, and for accounts without jurisdiction."""
    if jurisdiction == NONE:
        return None
    ours = [rule for rule in rules if rule.jurisdiction == jurisdiction]
    if not ours:
        raise JurisdictionUnknown(jurisdiction)
    begun = [r for r in ours if client_class in r.client_classes and date.fromisoformat(r.valid_from) <= at_date]
    return max(begun, key=lambda rule: rule.valid_from, default=None)


def asset_kind(asset: Asset, major_currencies: tuple[str, ...]) -> AssetKind:
    """The class of an asset under a regime's list of major currencies; an asset class that has no row is OTHER."""
    if asset.asset_class == "fx":
        is_major = asset.base in major_currencies and asset.quote in major_currencies
        return AssetKind.FX_MAJOR if is_major else AssetKind.FX_MINOR
    if asset.asset_class == "metal":
        return AssetKind.GOLD if asset.base == "XAU" else AssetKind.COMMODITY
    if asset.asset_class == "index":
        return AssetKind.INDEX_MAJOR if asset.is_major_index else AssetKind.INDEX_MINOR
    return _PLAIN_KINDS.get(asset.asset_class, AssetKind.OTHER)


_PLAIN_KINDS = {"commodity": AssetKind.COMMODITY, "share": AssetKind.SHARE, "crypto": AssetKind.CRYPTO}


def effective_leverage(*, account: int, group: int, cap: int | None) -> int:
    """The smallest of what the client chose, the group allows and the law caps (None: no cap)."""
    return min(account, group) if cap is None else min(account, group, cap)


def must_close_out(*, equity: Decimal, initial_margin: Decimal, terms: RegulatoryTerms) -> bool:
    """True when equity is below the protected share of the initial margin of all open positions; exactly on it is not.

    Equity here is cash and unrealised profit without credit or bonus, rounded down; margin is rounded up. An account
    whose positions need no margin is judged by its group's switch for hedged accounts, not by this rule.
    """
    if terms.close_out_share is None or initial_margin <= 0:
        return False
    return equity < initial_margin * terms.close_out_share


def is_stp_only(*, firm: bool, group: bool, account: bool, terms: RegulatoryTerms) -> bool:
    """Any of the four switches sends everything to the market, whatever the routing policy says."""
    return firm or group or account or terms.stp_only


def due_for_review(rules: Sequence[RegulatoryRule], at_date: date) -> tuple[RegulatoryRule, ...]:
    """Rules whose order has run out by that date, for somebody to look at."""
    return tuple(rule for rule in rules if rule.review_by and date.fromisoformat(rule.review_by) <= at_date)


# --- seeded rules ---

_RETAIL = (ClientClass.RETAIL,)
_MAJORS = ("USD", "EUR", "JPY", "GBP", "CAD", "CHF")
_CAPS = {
    AssetKind.FX_MAJOR: 30,
    AssetKind.FX_MINOR: 20,
    AssetKind.GOLD: 20,
    AssetKind.INDEX_MAJOR: 20,
    AssetKind.COMMODITY: 10,
    AssetKind.INDEX_MINOR: 10,
    AssetKind.SHARE: 5,
    AssetKind.OTHER: 5,
    AssetKind.CRYPTO: 2,
}

ESMA = RegulatoryRule(
    name="ESMA CFD measures",
    jurisdiction=EU,
    client_classes=_RETAIL,
    valid_from="2018-08-01",
    source="ESMA decision (EU) 2018/796, kept by the national rules that followed it",
    leverage_caps=_CAPS,
    major_currencies=_MAJORS,
    bonus_banned=True,
    close_out_share=Decimal("0.5"),
    negative_balance_protection=True,
)
ESMA_IN_UK = replace(ESMA, jurisdiction=UK)
FCA = replace(
    ESMA_IN_UK, name="FCA COBS 22.5", valid_from="2019-08-01", source="FCA COBS 22.5, policy statement PS19/18"
)
FCA_CRYPTO_BAN = replace(
    FCA,
    name="FCA COBS 22.5 and 22.6",
    valid_from="2021-01-06",
    source="FCA COBS 22.6, policy statement PS20/10: no crypto derivatives for retail clients",
    banned=(AssetKind.CRYPTO,),
)
ASIC = replace(
    ESMA,
    name="ASIC 2020/986",
    jurisdiction=AU,
    valid_from="2021-03-29",
    source="ASIC Corporations (Product Intervention Order - Contracts for Difference) Instrument 2020/986, 22-082MR",
    review_by="2027-05-23",
    major_currencies=(*_MAJORS, "AUD"),
)

SEEDED: tuple[RegulatoryRule, ...] = (ESMA, ESMA_IN_UK, FCA, FCA_CRYPTO_BAN, ASIC)


# --- what may be published ---


def regulation_problems(rules: Sequence[RegulatoryRule]) -> tuple[str, ...]:
    """What is wrong with these rules, as sentences; empty when they can be published."""
    problems = [f"rule {rule.name!r}: {problem}" for rule in rules for problem in _rule_problems(rule)]
    for earlier, later in combinations(rules, 2):
        if _same_start(earlier, later):
            problems.append(f"rules {earlier.name!r} and {later.name!r} begin on the same day for the same clients")
    return tuple(problems)


def _same_start(one: RegulatoryRule, other: RegulatoryRule) -> bool:
    same = (one.jurisdiction, one.valid_from) == (other.jurisdiction, other.valid_from)
    return same and not set(one.client_classes).isdisjoint(other.client_classes)


def _rule_problems(rule: RegulatoryRule) -> Iterator[str]:
    if rule.jurisdiction == NONE or not rule.client_classes:
        yield "it concerns nobody"
    yield from _date_problems(rule.valid_from)
    if rule.review_by:
        yield from _date_problems(rule.review_by)
    if rule.leverage_caps and set(rule.leverage_caps) != set(AssetKind):
        missing = sorted(set(AssetKind) - set(rule.leverage_caps))
        yield f"it caps some kinds of assets but not {', '.join(missing)}"
    if any(cap < 1 for cap in rule.leverage_caps.values()):
        yield "a leverage cap is below 1"
    if rule.close_out_share is not None and not (is_plain(rule.close_out_share) and 0 < rule.close_out_share <= 1):
        yield "the close-out share does not lie between 0 and 1"


def _date_problems(day: str) -> Iterator[str]:
    try:
        canonical = date.fromisoformat(day).isoformat()
    except ValueError:
        yield f"{day!r} is not a date like 2018-08-01"
        return
    if canonical != day:
        yield f"{day!r} is not a date like 2018-08-01"
