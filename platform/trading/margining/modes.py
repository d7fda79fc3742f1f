"""What one position or order ties up: basic margin by mode, converted, multiplied by its order type's rate.

A charge is made once, at the deal's (or order's) price and rates, and stays with the position until it is closed; only a
symbol with `recalculate_daily` is charged anew. Everything after it (hedges, netting, tiers) works on sums of charges and
lives in `account`.
"""

from collections.abc import Mapping
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from trading.conversion import SAME_CURRENCY, ConversionStep, Rate
from trading.margining.terms import (
    LEVERAGED,
    PRICED,
    HedgedMode,
    MarginKind,
    MarginMode,
    MarginRounding,
    MarginTerms,
    SymbolRule,
    TierBasis,
    TierStyle,
)
from trading.numbers import ONE, ZERO, round_half_up, round_up
from trading.orders import Side
from trading.quotes import Quote

CHARGE_DIGITS = 10
"""Decimals that a charge keeps where it is not rounded to money: what the database keeps."""


class Exposure(Struct, frozen=True, kw_only=True):
    """A position's or order's part in the margin. Amounts are in the account's currency and may be stored as they are."""

    symbol: str
    side: Side
    kind: MarginKind
    volume: Decimal
    """Lots."""
    margin: Decimal
    """What it is charged on its own, at its order type's rate."""
    hedged: Decimal = ZERO
    """What it would be charged if all of it were covered by the opposite side; kept only where that can happen."""
    unleveraged: Decimal = ZERO
    """`margin` at a leverage of 1; kept only for leverage caps."""
    notional: Decimal = ZERO
    """Contract value in the tiers' currency; kept only for tiers that run by value."""


def conversion_rate(
    path: tuple[ConversionStep, ...], *, traded: str, price: Decimal, side: Side, quotes: Mapping[str, Quote]
) -> Rate | None:
    """The margin currency's rate for a deal in `traded` at `price`; None when a quote on the path was never seen.

    Where the traded pair itself converts, its deal price is the rate; otherwise the market's ask for buys, bid for sells
    (of the margin currency: an inverse pair takes its other side).
    """
    multiply, divide = ONE, ONE
    for step in path:
        if step.symbol == traded:
            rate = price
        else:
            quote = quotes.get(step.symbol)
            if quote is None:
                return None
            rate = quote.ask if (side is Side.BUY) is not step.inverse else quote.bid
        if step.inverse:
            divide *= rate
        else:
            multiply *= rate
    return Rate(multiply, divide)


def basic_margin(
    rule: SymbolRule, *, kind: MarginKind, volume: Decimal, price: Decimal, leverage: int
) -> tuple[Decimal, int]:
    """Margin before conversion as (amount, divisor), in the margin currency: the leverage is divided by last."""
    terms = rule.terms
    divisor = leverage if terms.mode in LEVERAGED else 1
    if terms.is_fixed:
        return volume * (terms.held if kind is MarginKind.POSITION else terms.initial), divisor
    return volume * _contract_value(terms, rule.contract_size, price), divisor


def charge(
    rule: SymbolRule,
    *,
    symbol: str,
    side: Side,
    kind: MarginKind,
    volume: Decimal,
    price: Decimal,
    leverage: int,
    rate: Rate,
    rounding: MarginRounding,
    digits: int,
    notional_rate: Rate = SAME_CURRENCY,
) -> Exposure:
    """Charge `volume` lots at `price`: the pipeline's basic, convert, multiply.

    `rate` turns the margin currency into the account's, `digits` are the account currency's decimals, `notional_rate`
    turns the margin currency (priced modes: the price's currency, which they take for it) into the tiers' currency.
    """
    if rule.is_simple:
        amount = volume * rule.contract_size * rate.multiply / (rate.divide * leverage)
        return Exposure(symbol=symbol, side=side, kind=kind, volume=volume, margin=_rounded(amount, rounding, digits))
    terms = rule.terms
    amount, divisor = basic_margin(rule, kind=kind, volume=volume, price=price, leverage=leverage)
    converted = amount * rate.multiply * terms.rates.of(side, kind)
    return Exposure(
        symbol=symbol,
        side=side,
        kind=kind,
        volume=volume,
        margin=_rounded(converted / (rate.divide * divisor), rounding, digits),
        hedged=_hedged(rule, volume, price, rate, divisor, rounding, digits) if _counts_covered(terms) else ZERO,
        unleveraged=_rounded(converted / rate.divide, rounding, digits) if _has_caps(terms) else ZERO,
        notional=_notional(rule, volume, price, notional_rate) if _runs_by_value(terms) else ZERO,
    )


def recharged(
    exposure: Exposure,
    rule: SymbolRule,
    *,
    price: Decimal,
    leverage: int,
    rate: Rate,
    rounding: MarginRounding,
    digits: int,
    notional_rate: Rate = SAME_CURRENCY,
) -> Exposure:
    """The position at the end of the day: at that day's price and rates where its terms say so, else as it is."""
    if not rule.terms.recalculate_daily:
        return exposure
    return charge(
        rule,
        symbol=exposure.symbol,
        side=exposure.side,
        kind=exposure.kind,
        volume=exposure.volume,
        price=price,
        leverage=leverage,
        rate=rate,
        rounding=rounding,
        digits=digits,
        notional_rate=notional_rate,
    )


def merged(first: Exposure, second: Exposure) -> Exposure:
    """One position after a further fill: charges of the same symbol and side add up."""
    assert (first.symbol, first.side, first.kind) == (second.symbol, second.side, second.kind)
    return replace(
        first,
        volume=first.volume + second.volume,
        margin=first.margin + second.margin,
        hedged=first.hedged + second.hedged,
        unleveraged=first.unleveraged + second.unleveraged,
        notional=first.notional + second.notional,
    )


def split(exposure: Exposure, volume: Decimal, *, rounding: MarginRounding, digits: int) -> tuple[Exposure, Exposure]:
    """(taken, left): `volume` lots' share of every amount, half up, and the remainder. They add up to the whole."""
    assert 0 <= volume <= exposure.volume
    places = digits if rounding is MarginRounding.UP_PER_POSTING else CHARGE_DIGITS

    def share(whole: Decimal, decimals: int) -> Decimal:
        if volume == exposure.volume:
            return whole
        return round_half_up(whole * volume / exposure.volume, decimals) if whole else ZERO

    taken = replace(
        exposure,
        volume=volume,
        margin=share(exposure.margin, places),
        hedged=share(exposure.hedged, places),
        unleveraged=share(exposure.unleveraged, places),
        notional=share(exposure.notional, CHARGE_DIGITS),
    )
    left = replace(
        exposure,
        volume=exposure.volume - volume,
        margin=exposure.margin - taken.margin,
        hedged=exposure.hedged - taken.hedged,
        unleveraged=exposure.unleveraged - taken.unleveraged,
        notional=exposure.notional - taken.notional,
    )
    return taken, left


def _contract_value(terms: MarginTerms, contract_size: Decimal, price: Decimal) -> Decimal:
    """One lot's basic margin without leverage, by formula."""
    if terms.mode not in PRICED:
        return contract_size
    value = contract_size * price
    return value * terms.tick_value / terms.tick_size if terms.mode is MarginMode.CFD_INDEX else value


def _hedged(
    rule: SymbolRule,
    volume: Decimal,
    price: Decimal,
    rate: Rate,
    divisor: int,
    rounding: MarginRounding,
    digits: int,
) -> Decimal:
    """The hedged value stands in the contract size's place, or is itself the fixed amount; at the sides' mean rate."""
    terms = rule.terms
    per_lot = terms.hedged if terms.is_fixed else _contract_value(terms, terms.hedged, price)
    return _rounded(volume * per_lot * rate.multiply * terms.rates.mean / (rate.divide * divisor), rounding, digits)


def _notional(rule: SymbolRule, volume: Decimal, price: Decimal, rate: Rate) -> Decimal:
    """Contract value: units of base for forex (their currency is converted), units x price for everything else.

    Indices and futures are worth their tick value per tick size.
    """
    terms = rule.terms
    value = rule.contract_size
    if terms.mode not in (MarginMode.FOREX, MarginMode.FOREX_NO_LEVERAGE):
        value = value * price
    if terms.mode in (MarginMode.CFD_INDEX, MarginMode.FUTURES):
        value = value * terms.tick_value / terms.tick_size
    return round_half_up(volume * value * rate.multiply / rate.divide, CHARGE_DIGITS)


def _counts_covered(terms: MarginTerms) -> bool:
    return terms.hedged_mode is HedgedMode.BASIC and terms.hedged != 0


def _has_caps(terms: MarginTerms) -> bool:
    return terms.tiers is not None and terms.tiers.style is TierStyle.LEVERAGE_CAPS


def _runs_by_value(terms: MarginTerms) -> bool:
    return terms.tiers is not None and terms.tiers.basis is TierBasis.NOTIONAL


def _rounded(amount: Decimal, rounding: MarginRounding, digits: int) -> Decimal:
    if rounding is MarginRounding.UP_PER_POSTING:
        return round_up(amount, digits)
    return round_half_up(amount, CHARGE_DIGITS)
