"""Commission: what the house takes for a deal, now or at the end of the day.

Every mode is a rate times a number of units (lots, millions, one per cent of the value ...), and the units are counted in the
account's currency when the deal is made. So a tier that is crossed later changes the rate and nothing else.
A group may have several terms; each is charged on its own. Amounts are costs: positive is paid by the client.
"""

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from trading.conversion import Converter, Traded
from trading.numbers import ONE, ZERO, point, round_half_up
from trading.orders import DealEntry, OrderCommission, Side

UNIT_DIGITS = 10
"""Decimals that units keep: what the database keeps."""

MILLION = Decimal(1_000_000)
PERCENT = Decimal("0.01")


class CommissionMode(StrEnum):
    """What the rate is per. Money modes are in the terms' currency, all others in the account's."""

    MONEY_PER_LOT = "money_per_lot"
    MONEY_PER_DEAL = "money_per_deal"
    MONEY_PER_MILLION_USD = "money_per_million_usd"
    """USD for each million USD of contract value."""
    PERCENT_OF_VALUE = "percent_of_value"
    """Of volume x contract size x price."""
    POINTS = "points"
    """Points of the price, worth what they are worth in a result."""
    PERCENT_OF_PROFIT = "percent_of_profit"
    """Of the realised result: a loss credits the client."""


class ChargeCurrency(StrEnum):
    """In which currency an amount per lot or deal is stated."""

    ACCOUNT = "account"
    BASE = "base"
    PROFIT = "profit"
    MARGIN = "margin"
    NAMED = "named"


class CommissionEntry(StrEnum):
    """Which part of a deal is charged: what it opens, what it closes, or both."""

    IN = "in"
    OUT = "out"
    BOTH = "both"


class CommissionPosting(StrEnum):
    INSTANT = "instant"
    """With the deal."""
    DAILY = "daily"
    """Blocked during the business date, taken at its end as one posting."""


class CommissionBasis(StrEnum):
    """What rounding, the minimum, tiers by volume and money per deal look at."""

    EACH_DEAL = "each_deal"
    WHOLE_ORDER = "whole_order"
    """Each fill adds what is missing for all fills so far: fills of one order never cost more than one fill of it all."""


class CommissionTierBasis(StrEnum):
    """What reaches a tier."""

    VOLUME = "volume"
    """Lots of the deal (or of the order so far, by the basis)."""
    TURNOVER_LOTS = "turnover_lots"
    TURNOVER_MONEY = "turnover_money"
    """Contract value in the account's currency. Turnover is what came before, and all that is blocked now."""


class CommissionTier(Struct, frozen=True, kw_only=True):
    """From `at_least` on, everything counts at `rate`."""

    at_least: Decimal
    rate: Decimal


class CommissionTerms(Struct, frozen=True, kw_only=True):
    """One rule of commission. The default is money per lot on every deal, in the account's currency, half up per deal."""

    mode: CommissionMode = CommissionMode.MONEY_PER_LOT
    rate: Decimal = ZERO
    """Per unit of the mode and side; percentages as 0.10 for 0.10 %."""
    currency: ChargeCurrency = ChargeCurrency.ACCOUNT
    currency_name: str = ""
    """With NAMED."""
    entry: CommissionEntry = CommissionEntry.BOTH
    side: Side | None = None
    """Only deals of this side."""
    reasons: tuple[str, ...] = ()
    """Only deals of orders with these reasons; empty for all."""
    posting: CommissionPosting = CommissionPosting.INSTANT
    basis: CommissionBasis = CommissionBasis.EACH_DEAL
    minimum: Decimal = ZERO
    """In the account's currency, for whatever is charged at all. A credit has none."""
    tier_basis: CommissionTierBasis = CommissionTierBasis.VOLUME
    tiers: tuple[CommissionTier, ...] = ()
    """Rising bounds; below the first, `rate` holds."""


class DealFacts(Struct, frozen=True, kw_only=True):
    """One deal, as a commission sees it. A reversal has both volumes: it closes one and opens the other."""

    side: Side
    symbol: str
    price: Decimal
    contract_size: Decimal
    digits: int
    base: str
    profit_currency: str
    margin_currency: str
    account_currency: str
    volume_in: Decimal = ZERO
    """Lots that it opens."""
    volume_out: Decimal = ZERO
    """Lots that it closes."""
    profit: Decimal = ZERO
    """Realised result in the account's currency."""
    reason: str = ""


class Turnover(Struct, frozen=True, kw_only=True):
    """What an account has traded in the tiers' period before now."""

    lots: Decimal = ZERO
    money: Decimal = ZERO


class Units(Struct, frozen=True, kw_only=True):
    """One deal counted: `units` x rate is its commission in the account's currency."""

    units: Decimal
    volume: Decimal
    """Lots charged."""
    money: Decimal = ZERO
    """Their value in the account's currency; counted only for tiers by money."""


class CommissionTermsRefused(ValueError):
    """The terms contradict each other: says what is wrong, in a sentence."""


def check_commission_terms(name: str, terms: CommissionTerms) -> None:
    """Raise CommissionTermsRefused unless every number can be used and the currency is clear."""
    numbers = (terms.rate, terms.minimum, *(n for tier in terms.tiers for n in (tier.at_least, tier.rate)))
    if any(not number.is_finite() for number in numbers):
        raise CommissionTermsRefused(f"{name}: rates, bounds and minimum must be numbers")
    if terms.minimum < 0:
        raise CommissionTermsRefused(f"{name}: a minimum commission must not be negative")
    bounds = [tier.at_least for tier in terms.tiers]
    if any(bound <= 0 for bound in bounds) or bounds != sorted(set(bounds)):
        raise CommissionTermsRefused(f"{name}: commission tiers need positive, rising bounds")
    if (terms.currency is ChargeCurrency.NAMED) is not bool(terms.currency_name):
        raise CommissionTermsRefused(f"{name}: a named currency needs its name, and no other has one")
    if terms.mode is CommissionMode.PERCENT_OF_PROFIT and terms.entry is CommissionEntry.IN:
        raise CommissionTermsRefused(f"{name}: an opening deal has no profit to take a part of")
    if terms.posting is CommissionPosting.DAILY and terms.basis is CommissionBasis.WHOLE_ORDER:
        raise CommissionTermsRefused(f"{name}: daily commission is rounded once a day and counts deals, not orders")


def volumes(entry: DealEntry, volume: Decimal) -> dict[str, Decimal]:
    """The two volumes of a deal that only opens or only closes, as DealFacts names them."""
    return {"volume_in": volume} if entry.opens else {"volume_out": volume}


# --- with the deal ---


def commission(
    terms: CommissionTerms,
    facts: DealFacts,
    *,
    converter: Converter,
    digits: int,
    before: OrderCommission = OrderCommission(),  # noqa: B008  an immutable value
    turnover: Turnover = Turnover(),  # noqa: B008
) -> tuple[Decimal, OrderCommission] | None:
    """(what this deal pays now, the order's commission after it), with `digits` decimals; None when it cannot be converted.

    Negative is a credit. A rule that does not apply to the deal charges 0.
    """
    counted = units_of(terms, facts, converter)
    if counted is None:
        return None
    if terms.basis is CommissionBasis.EACH_DEAL:
        due = _amount(terms, counted.units, counted.volume, turnover, digits)
        after = OrderCommission(
            units=before.units + counted.units, volume=before.volume + counted.volume, charged=before.charged + due
        )
        return due, after
    units, volume = _joined(terms, before, counted), before.volume + counted.volume
    whole = _amount(terms, units, volume, turnover, digits)
    return whole - before.charged, OrderCommission(units=units, volume=volume, charged=whole)


def close_by_commission(
    terms: CommissionTerms,
    closed: tuple[DealFacts, DealFacts],
    *,
    converter: Converter,
    digits: int,
    turnover: Turnover = Turnover(),  # noqa: B008
) -> Decimal | None:
    """What closing two opposite positions against each other costs, written to the exit deal.

    Nothing where both entries are charged (both openings have paid, and no one deals again) or openings only; where closings
    are charged, both positions pay.
    """
    if terms.entry is not CommissionEntry.OUT:
        return ZERO
    parts = [commission(terms, facts, converter=converter, digits=digits, turnover=turnover) for facts in closed]
    return None if None in parts else sum((part[0] for part in parts if part is not None), ZERO)


def rate_for(terms: CommissionTerms, reached: Decimal) -> Decimal:
    """The rate of the highest tier that is reached."""
    rate = terms.rate
    for tier in terms.tiers:
        if reached >= tier.at_least:
            rate = tier.rate
    return rate


def units_of(terms: CommissionTerms, facts: DealFacts, converter: Converter) -> Units | None:
    """The deal counted under these terms, 0 when they do not apply to it; None when it cannot be converted now."""
    volume = _charged_volume(terms, facts)
    if not volume:
        return Units(units=ZERO, volume=ZERO)
    units = _units(terms, facts, volume, converter)
    money = ZERO
    if terms.tiers and terms.tier_basis is CommissionTierBasis.TURNOVER_MONEY:
        value = _cost(converter, facts, volume * facts.contract_size * facts.price, facts.profit_currency)
        if value is None:
            return None
        money = round_half_up(value, UNIT_DIGITS)
    return None if units is None else Units(units=round_half_up(units, UNIT_DIGITS), volume=volume, money=money)


def _charged_volume(terms: CommissionTerms, facts: DealFacts) -> Decimal:
    if terms.side not in (None, facts.side) or (terms.reasons and facts.reason not in terms.reasons):
        return ZERO
    return {
        CommissionEntry.IN: facts.volume_in,
        CommissionEntry.OUT: facts.volume_out,
        CommissionEntry.BOTH: facts.volume_in + facts.volume_out,
    }[terms.entry]


def _units(terms: CommissionTerms, facts: DealFacts, volume: Decimal, converter: Converter) -> Decimal | None:
    mode, size = terms.mode, volume * facts.contract_size
    if mode is CommissionMode.PERCENT_OF_PROFIT:
        return facts.profit * PERCENT
    if mode is CommissionMode.PERCENT_OF_VALUE:
        return _cost(converter, facts, size * facts.price * PERCENT, facts.profit_currency)
    if mode is CommissionMode.POINTS:
        return _cost(converter, facts, size * point(facts.digits), facts.profit_currency)
    if mode is CommissionMode.MONEY_PER_MILLION_USD:
        usd = _usd_value(converter, facts, size)
        return None if usd is None else _cost(converter, facts, usd / MILLION, "USD")
    per = volume if mode is CommissionMode.MONEY_PER_LOT else ONE
    return _cost(converter, facts, per, _currency(terms, facts))


def _usd_value(converter: Converter, facts: DealFacts, size: Decimal) -> Decimal | None:
    """Contract value in USD: the units themselves where USD is the base, else their price converted."""
    if facts.base == "USD":
        return size
    traded = Traded(side=facts.side)
    return converter.cost(size * facts.price, facts.profit_currency, "USD", traded=traded)


def _cost(converter: Converter, facts: DealFacts, amount: Decimal, currency: str) -> Decimal | None:
    return converter.cost(amount, currency, facts.account_currency, traded=Traded(side=facts.side))


def _currency(terms: CommissionTerms, facts: DealFacts) -> str:
    return {
        ChargeCurrency.ACCOUNT: facts.account_currency,
        ChargeCurrency.BASE: facts.base,
        ChargeCurrency.PROFIT: facts.profit_currency,
        ChargeCurrency.MARGIN: facts.margin_currency,
        ChargeCurrency.NAMED: terms.currency_name,
    }[terms.currency]


def _joined(terms: CommissionTerms, before: OrderCommission, counted: Units) -> Decimal:
    """Units of all fills so far. Money per deal is paid once per order: the dearest conversion of it counts."""
    if terms.mode is CommissionMode.MONEY_PER_DEAL:
        return max(before.units, counted.units)
    return before.units + counted.units


def _amount(terms: CommissionTerms, units: Decimal, volume: Decimal, turnover: Turnover, digits: int) -> Decimal:
    return round_half_up(_exact(terms, units, rate_for(terms, _reached(terms, volume, turnover))), digits)


def _reached(terms: CommissionTerms, volume: Decimal, turnover: Turnover) -> Decimal:
    return {
        CommissionTierBasis.VOLUME: volume,
        CommissionTierBasis.TURNOVER_LOTS: turnover.lots,
        CommissionTierBasis.TURNOVER_MONEY: turnover.money,
    }[terms.tier_basis]


def _exact(terms: CommissionTerms, units: Decimal, rate: Decimal) -> Decimal:
    """Rate x units, unrounded, at least the minimum where anything is to be paid."""
    amount = units * rate
    return max(amount, terms.minimum) if amount > 0 else amount


# --- at the end of the day ---


class Block(Struct, frozen=True, kw_only=True):
    """A deal (or a pending order) whose commission is blocked."""

    key: str
    """`deal:17`, `order:9`: nothing is blocked twice under one key."""
    counted: Units


class Bucket(Struct, frozen=True, kw_only=True):
    """One account's blocked commission of one business date under one rule."""

    date: str
    blocks: tuple[Block, ...] = ()
    before: Turnover = Turnover()
    """What the tiers' period had seen when the day began."""
    amount: Decimal = ZERO
    """What the day's end will post as things stand: negative is a credit."""

    @property
    def blocked(self) -> Decimal:
        """What is taken out of equity and free margin now: a credit is given only when it is posted."""
        return max(self.amount, ZERO)

    @property
    def after(self) -> Turnover:
        """What the tiers' period has seen with this day."""
        return Turnover(
            lots=sum((one.counted.volume for one in self.blocks), self.before.lots),
            money=sum((one.counted.money for one in self.blocks), self.before.money),
        )


def rated_bucket(
    date: str, blocks: tuple[Block, ...], before: Turnover, terms: CommissionTerms, *, digits: int
) -> Bucket:
    """The bucket that these blocks make, whatever order they came in."""
    return _rated(Bucket(date=date, blocks=blocks, before=before), terms, digits)


def block(bucket: Bucket, terms: CommissionTerms, key: str, counted: Units, *, digits: int) -> Bucket:
    """The bucket with one more deal; everything blocked is rated anew at the tier that is now reached.

    The same key with the same units changes nothing.
    """
    known = next((one for one in bucket.blocks if one.key == key), None)
    if known is not None:
        assert known.counted == counted, f"{key} is already blocked with other units"
        return bucket
    return _rated(replace(bucket, blocks=(*bucket.blocks, Block(key=key, counted=counted))), terms, digits)


def release(bucket: Bucket, terms: CommissionTerms, key: str, *, digits: int) -> Bucket:
    """The bucket without one block (a pending order that was cancelled or has become a deal); unknown keys change nothing."""
    return _rated(replace(bucket, blocks=tuple(one for one in bucket.blocks if one.key != key)), terms, digits)


def settled(bucket: Bucket, *, next_date: str) -> tuple[Decimal, Bucket]:
    """(the day's one posting, the next day's empty bucket). Settling an empty bucket posts 0."""
    return bucket.amount, Bucket(date=next_date, before=bucket.after)


def _rated(bucket: Bucket, terms: CommissionTerms, digits: int) -> Bucket:
    """Every block at the rate of the tier that all of them together reach; rounded once, for the one posting."""
    turnover = bucket.after
    total = ZERO
    for one in bucket.blocks:
        rate = rate_for(terms, _reached(terms, one.counted.volume, turnover))
        total += _exact(terms, one.counted.units, rate)
    return replace(bucket, amount=round_half_up(total, digits))
