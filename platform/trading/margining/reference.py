"""The same margin once more, slow and obvious: from lists, in exact fractions, case by case as the rules are told.

Nothing here is shared with `modes` or `account` but the words (terms, exposures). Tests compare both after every change,
production compares samples; a difference is a bug in one of them and halts whoever finds it.
"""

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from itertools import product
from math import floor

from trading.conversion import Rate
from trading.margining.modes import Exposure
from trading.margining.terms import (
    Accounting,
    HedgedMode,
    MarginKind,
    MarginMode,
    MarginPolicy,
    MarginRounding,
    MarginTerms,
    SymbolRule,
    TierBasis,
    Tiers,
    TierStyle,
)
from trading.orders import Side

Lines = list[Exposure]
Weight = Callable[[Exposure], Fraction]


# --- One position or order ----------------------------------------------------------------------------------------------


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
    notional_rate: Rate,
) -> Exposure:
    """What one exposure is charged."""
    terms = rule.terms
    multiplier = Fraction(getattr(terms.rates, _multiplier_name(side, kind)))
    mean = (Fraction(terms.rates.buy) + Fraction(terms.rates.sell)) / 2
    conversion = Fraction(rate.multiply) / Fraction(rate.divide)
    value = Fraction(rule.contract_size) * _price_factor(terms, price)
    per_lot = _fixed(terms, kind) if terms.initial else value
    hedged_per_lot = Fraction(terms.hedged) * (1 if terms.initial else _price_factor(terms, price))
    divisor = leverage if terms.mode.value in ("forex", "cfd_leverage", "spot_crypto") else 1
    lots = Fraction(volume)

    def money(amount: Fraction) -> Decimal:
        if rounding is MarginRounding.UP_PER_POSTING:
            return decimal(-floor(-amount * 10**digits), digits)
        return decimal(half_up(amount, 10), 10)

    tiers, nothing = terms.tiers, Decimal(0)
    caps = tiers is not None and tiers.style is TierStyle.LEVERAGE_CAPS
    valued = tiers is not None and tiers.basis is TierBasis.NOTIONAL
    covers = terms.hedged_mode is HedgedMode.BASIC and terms.hedged != 0
    worth = Fraction(rule.contract_size) * _ticks(terms, price) if terms.mode is MarginMode.FUTURES else value
    notional = lots * worth * Fraction(notional_rate.multiply) / Fraction(notional_rate.divide)
    return Exposure(
        symbol=symbol,
        side=side,
        kind=kind,
        volume=volume,
        margin=money(lots * per_lot / divisor * conversion * multiplier),
        hedged=money(lots * hedged_per_lot / divisor * conversion * mean) if covers else nothing,
        unleveraged=money(lots * per_lot * conversion * multiplier) if caps else nothing,
        notional=decimal(half_up(notional, 10), 10) if valued else nothing,
    )


def _multiplier_name(side: Side, kind: MarginKind) -> str:
    if kind is MarginKind.POSITION or kind is MarginKind.MARKET:
        return "buy" if side is Side.BUY else "sell"
    return ("buy_" if side is Side.BUY else "sell_") + kind.value


def _price_factor(terms: MarginTerms, price: Decimal) -> Fraction:
    if terms.mode is MarginMode.CFD or terms.mode is MarginMode.CFD_LEVERAGE or terms.mode is MarginMode.SPOT_CRYPTO:
        return Fraction(price)
    if terms.mode is MarginMode.CFD_INDEX:
        return _ticks(terms, price)
    return Fraction(1)


def _ticks(terms: MarginTerms, price: Decimal) -> Fraction:
    return Fraction(price) * Fraction(terms.tick_value) / Fraction(terms.tick_size)


def _fixed(terms: MarginTerms, kind: MarginKind) -> Fraction:
    if kind is MarginKind.POSITION and terms.maintenance != 0:
        return Fraction(terms.maintenance)
    return Fraction(terms.initial)


# --- A whole account ----------------------------------------------------------------------------------------------------


def account_margin(
    exposures: Iterable[Exposure], *, rules: Mapping[str, SymbolRule], policy: MarginPolicy, digits: int
) -> Decimal:
    """The margin of everything an account holds and has ordered."""
    lines = list(exposures)
    total = Decimal(0)
    pools: dict[str, list[str]] = {}
    for symbol in sorted({line.symbol for line in lines}):
        tiers = rules[symbol].terms.tiers
        if tiers is not None and tiers.style is TierStyle.RATES:
            pools.setdefault(f"pool {tiers.pool}" if tiers.pool else symbol, []).append(symbol)
        else:
            total += _plain([line for line in lines if line.symbol == symbol], rules[symbol], policy, digits)
    for symbols in pools.values():
        total += _pooled([line for line in lines if line.symbol in symbols], rules, policy, digits)
    return total


def _plain(lines: Lines, rule: SymbolRule, policy: MarginPolicy, digits: int) -> Decimal:
    tiers = rule.terms.tiers
    dearer = {side: _cap_factor([x for x in lines if x.side is side], tiers) for side in Side}

    def add_up(parts: list[Fraction]) -> Fraction:
        if policy.rounding is MarginRounding.HALF_UP_PER_COMPONENT:
            return sum((Fraction(half_up(_guarded(part), digits), 10**digits) for part in parts), Fraction(0))
        return sum(parts, Fraction(0))

    margin = _combine(
        lines,
        rule.terms,
        policy.accounting,
        own=lambda line: Fraction(line.margin) * dearer[line.side],
        covered=lambda line: Fraction(line.hedged) * dearer[line.side],
        add_up=add_up,
    )
    return _money(margin, policy.rounding, digits)


def _cap_factor(lines: Lines, tiers: Tiers | None) -> Fraction:
    """How much dearer one side is than at the leverage it was charged at."""
    if tiers is None:
        return Fraction(1)
    charged = _sum(lines, lambda line: Fraction(line.margin))
    size = _sum(lines, _measure(tiers.basis))
    if not charged or not size:
        return Fraction(1)
    at_one = _sum(lines, lambda line: Fraction(line.unleveraged))
    used = at_one / charged
    slices = _brackets(tiers, "leverage", Fraction(0), size)
    return _plain_sum([part * max(Fraction(1), used / cap) for cap, part in slices]) / size


def _pooled(lines: Lines, rules: Mapping[str, SymbolRule], policy: MarginPolicy, digits: int) -> Decimal:
    tiers = rules[lines[0].symbol].terms.tiers
    assert tiers is not None
    measure = _measure(tiers.basis)
    margin = held = size = Fraction(0)
    for symbol in {line.symbol for line in lines}:
        terms, own_lines = rules[symbol].terms, [line for line in lines if line.symbol == symbol]
        share = _covered_share(rules[symbol])

        def combine(some: Lines, own: Weight, covered: Weight, terms: MarginTerms = terms) -> Fraction:
            return _combine(some, terms, policy.accounting, own=own, covered=covered, add_up=_plain_sum)

        def covered_size(line: Exposure, share: Fraction = share) -> Fraction:
            return measure(line) * share

        margin += combine(own_lines, lambda line: Fraction(line.margin), lambda line: Fraction(line.hedged))
        size += combine(own_lines, measure, covered_size)
        held += combine([line for line in own_lines if line.kind is MarginKind.POSITION], measure, covered_size)
    if size:
        filled = [*_brackets(tiers, "maintenance", Fraction(0), held), *_brackets(tiers, "initial", held, size)]
        margin = margin * _plain_sum([rate * part for rate, part in filled]) / size
    return _money(margin, policy.rounding, digits)


def _covered_share(rule: SymbolRule) -> Fraction:
    terms = rule.terms
    if terms.hedged_mode is not HedgedMode.BASIC:
        return Fraction(0)
    if terms.initial:
        return Fraction(terms.hedged) / Fraction(terms.maintenance or terms.initial)
    return Fraction(terms.hedged) / Fraction(rule.contract_size)


def _measure(basis: TierBasis) -> Weight:
    if basis is TierBasis.VOLUME:
        return lambda line: Fraction(line.volume)
    return lambda line: Fraction(line.notional)


def _brackets(tiers: Tiers, field: str, start: Fraction, end: Fraction) -> list[tuple[Fraction, Fraction]]:
    """(the tier's number, how much of start..end lies in it), as a tax table."""
    bounds = [Fraction(0), *(Fraction(tier.to) for tier in tiers.steps[:-1] if tier.to is not None), max(start, end)]
    result = []
    for index, tier in enumerate(tiers.steps):
        low, high = max(bounds[index], start), min(bounds[index + 1], end)
        if index == len(tiers.steps) - 1:
            high = end
        if high > low:
            result.append((Fraction(getattr(tier, field)), high - low))
    return result


# --- Hedging and netting ------------------------------------------------------------------------------------------------


def _combine(
    lines: Lines,
    terms: MarginTerms,
    accounting: Accounting,
    *,
    own: Weight,
    covered: Weight,
    add_up: Callable[[list[Fraction]], Fraction],
) -> Fraction:
    if accounting is Accounting.NETTING:
        return _netting(lines, own, add_up)
    if terms.hedged_mode is HedgedMode.LARGER_LEG:
        legs = [[line for line in lines if line.side is side] for side in Side]
        return max(add_up(_kinds(leg, own)) for leg in legs)
    pending = [
        _sum([line for line in lines if line.side is side and line.kind is kind], own)
        for side in Side
        for kind in (MarginKind.LIMIT, MarginKind.STOP, MarginKind.STOP_LIMIT)
    ]
    positions = [line for line in lines if line.kind is MarginKind.POSITION]
    started = {side: [x for x in lines if x.kind is MarginKind.MARKET and x.side is side] for side in Side}
    is_basic = terms.hedged_mode is HedgedMode.BASIC
    if not is_basic:
        covered = _weightless
    if terms.initial:
        orders = [part for side in Side for part in _fixed_order(positions, started[side], side, own, covered)]
        return add_up(_hedge(positions, own, covered)) + add_up(orders) + add_up(pending)
    buys, sells = started[Side.BUY], started[Side.SELL]
    outcomes = [
        add_up(_hedge([*positions, *filled_buys, *filled_sells], own, covered))
        for filled_buys, filled_sells in product([[], buys], [[], sells])
    ]
    return max(outcomes) + add_up(pending)


def _kinds(leg: Lines, own: Weight) -> list[Fraction]:
    dealt = (MarginKind.POSITION, MarginKind.MARKET)
    pending = (MarginKind.LIMIT, MarginKind.STOP, MarginKind.STOP_LIMIT)
    return [
        _sum([line for line in leg if line.kind in dealt], own),
        *(_sum([line for line in leg if line.kind is kind], own) for kind in pending),
    ]


def _hedge(lines: Lines, own: Weight, covered: Weight) -> list[Fraction]:
    """Uncovered lots at the larger leg's average; covered lots at the average of all."""
    longs, shorts = ([line for line in lines if line.side is side] for side in Side)
    long_lots, short_lots = _sum(longs, _lots), _sum(shorts, _lots)
    uncovered_lots, covered_lots = abs(long_lots - short_lots), min(long_lots, short_lots)
    larger = longs if long_lots >= short_lots else shorts
    uncovered = _sum(larger, own) / _sum(larger, _lots) * uncovered_lots if uncovered_lots else Fraction(0)
    both = _sum(lines, covered) / _sum(lines, _lots) * covered_lots if covered_lots else Fraction(0)
    return [uncovered, both]


def _fixed_order(positions: Lines, orders: Lines, side: Side, own: Weight, covered: Weight) -> list[Fraction]:
    """With fixed amounts: hedged lots of an order cost the hedged amount, the rest the initial one."""
    lots = _sum(orders, _lots)
    if not lots:
        return []
    opposite = _sum([line for line in positions if line.side is not side], _lots)
    same = _sum([line for line in positions if line.side is side], _lots)
    hedging = min(lots, max(opposite - same, Fraction(0)))
    return [_sum(orders, covered) / lots * hedging, _sum(orders, own) / lots * (lots - hedging)]


def _netting(lines: Lines, own: Weight, add_up: Callable[[list[Fraction]], Fraction]) -> Fraction:
    """The cases of a netting account, one after the other."""
    position = [line for line in lines if line.kind is MarginKind.POSITION]
    assert len({line.side for line in position}) <= 1, "a netting account holds one side"
    stops = [
        _sum([line for line in lines if line.kind is kind and line.side is side], own)
        for side in Side
        for kind in (MarginKind.STOP, MarginKind.STOP_LIMIT)
    ]
    orders = [line for line in lines if line.kind in (MarginKind.MARKET, MarginKind.LIMIT)]
    if not position:
        buys = _dealt_and_limits([line for line in orders if line.side is Side.BUY], own)
        sells = _dealt_and_limits([line for line in orders if line.side is Side.SELL], own)
        return max(add_up(buys), add_up(sells)) + add_up(stops)
    same = [line for line in orders if line.side is position[0].side]
    opposite = [line for line in orders if line.side is not position[0].side]
    with_position = add_up(_dealt_and_limits(position + same, own))
    if _sum(opposite, _lots) <= _sum(position, _lots):
        return with_position + add_up(stops)
    return max(with_position, add_up(_dealt_and_limits(opposite, own))) + add_up(stops)


def _dealt_and_limits(lines: Lines, own: Weight) -> list[Fraction]:
    limits = [line for line in lines if line.kind is MarginKind.LIMIT]
    return [_sum([line for line in lines if line.kind is not MarginKind.LIMIT], own), _sum(limits, own)]


# --- Exact numbers ------------------------------------------------------------------------------------------------------


def _sum(lines: Lines, weigh: Weight) -> Fraction:
    return sum((weigh(line) for line in lines), Fraction(0))


def _plain_sum(parts: list[Fraction]) -> Fraction:
    return sum(parts, Fraction(0))


def _weightless(_line: Exposure) -> Fraction:
    return Fraction(0)


def _lots(line: Exposure) -> Fraction:
    return Fraction(line.volume)


def half_up(amount: Fraction, digits: int) -> int:
    """In units of the last decimal; amounts here are never negative."""
    units: int = floor(amount * 10**digits + Fraction(1, 2))
    return units


def decimal(units: int, digits: int) -> Decimal:
    return Decimal(units).scaleb(-digits)


def _guarded(amount: Fraction) -> Fraction:
    """To 12 decimals, half to even: what both implementations look at before rounding to money."""
    return Fraction(round(amount * 10**12), 10**12)


def _money(amount: Fraction, rounding: MarginRounding, digits: int) -> Decimal:
    exact = _guarded(amount)
    if rounding is MarginRounding.UP_PER_POSTING:
        return decimal(-floor(-exact * 10**digits), digits)
    return decimal(half_up(exact, digits), digits)
