"""Who must be acted on at a price, without valuing everybody: an account that is safe gets bounds for every price that it
depends on, and is looked at again when one of them is passed.

The bounds are a fraction: no bid lower, no ask higher than so much from here. The proof that the account is safe within
them is the valuing itself, done at the worst corner: every bid at its lowest and every ask at its highest at once, for its
symbols and for the conversions of their results. Worth never falls when a bid rises or an ask falls, so nothing within is
worse; margin does not move with the price. An account that has had a margin call is proved not to leave it upwards in the same
way, at the best corner. The fraction starts from slack over exposure and shrinks until the proof holds.
"""

from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from msgspec.structs import replace

from engine.standing import Look, Seen, Unpriced, look_at, profit_at
from engine.state import State
from engine.stopout import STUCK, is_due
from engine.watch import Bound
from engine.work import Work
from trading.margin import unrealised
from trading.numbers import ONE, ZERO, point
from trading.pricing import conversion_key, convert
from trading.quotes import ClientQuote, Quote
from trading.triggers import PRICE_DECIMALS

FRACTION_MAX = Decimal("0.5")
"""Bounds need not be wider: a price that halves is worth a look."""
SHRINK = tuple(Decimal(part) for part in ("0.9999", "0.98", "0.9", "0.6", "0.3", "0.1", "0.01"))
"""Parts of the first estimate that are tried, one after the other."""
LEAST = Decimal("1E-9")
"""A fraction below this is no distance."""
STEP = point(PRICE_DECIMALS)


def accounts_to_act(state: State, quote: Quote) -> tuple[int, ...]:
    """The accounts that stand at a threshold now that this price is in the state; all others are watched."""
    if state.config is None or not quote.tops:
        return ()
    candidates = state.watches.candidates(state, quote)
    if not candidates:
        return ()
    work = Work(state, state.config, quote.at_us)
    return tuple(number for number in candidates if _must_act(work, number))


def _must_act(work: Work, number: int) -> bool:
    """Value one account. Who must act stays in doubt, so that the next price looks at what came of it."""
    state, watches = work.state, work.state.watches
    account = state.accounts[number]
    portfolio = state.portfolios.get(number)
    is_idle = (portfolio is None or portfolio.is_empty) and not account.alarm
    look = None if is_idle else look_at(work, account)
    if look is None:
        watches.drop(number)
        return False
    if isinstance(look, Unpriced):
        watches.await_price(number, look.symbol)
        return False
    if is_due(work, look):
        watches.touch(number)
        return True
    watches.watch(number, bounds_of(work, look))
    return False


def bounds_of(work: Work, look: Look) -> list[Bound]:
    """Within these the account has nothing to do."""
    if not look.seen.shown:
        return []
    is_stuck = look.account.alarm == STUCK + len(look.limits.terms.margin_calls)
    first = ZERO if is_stuck else _estimate(work, look)
    for part in SHRINK:
        fraction = first * part
        if fraction < LEAST:
            break
        worst, best = _corners(look.seen, fraction)
        if _is_safe(work, look, worst, best):
            return list(_bounds(work, look, worst))
    return [replace(bound, is_urgent=True) for bound in _bounds(work, look, look.seen)]


def _estimate(work: Work, look: Look) -> Decimal:
    """Slack to the next threshold over what the account has at stake."""
    standing, alarm = look.standing, look.account.alarm
    floors = look.limits.floors(standing, alarm)
    ceiling = look.limits.ceiling(standing, alarm)
    slacks = [standing.equity - floor for floor in floors]
    if ceiling is not None:
        slacks.append(ceiling - standing.equity)
    if not slacks:
        return FRACTION_MAX
    at_stake = _at_stake(work, look)
    return min(min(slacks) / at_stake, FRACTION_MAX) if at_stake else FRACTION_MAX


def _at_stake(work: Work, look: Look) -> Decimal:
    """What all prices together move: contract values, and results as often as they are converted."""
    account, total = look.account, ZERO
    for symbol, holding in work.state.holdings[account.id].items():
        instrument, seen = work.terms_for(account, symbol), look.seen.shown[symbol]
        value = (seen.bid * holding.long.volume + seen.ask * holding.short.volume) * instrument.lot_value
        result = abs(unrealised(holding, seen, instrument.lot_value))
        steps = len(work.config.conversions[conversion_key(instrument.quote, account.currency)])
        converted = convert(-value - result * steps, instrument.quote, account.currency, work.config, look.seen.raw)
        assert converted is not None, "every price was seen"
        total -= converted
    return total


def _corners(seen: Seen, fraction: Decimal) -> tuple[Seen, Seen]:
    """The worst and the best prices within the fraction: both sides of every price at its lower, or its upper, bound."""
    worst, best = Seen({}, {}), Seen({}, {})
    for symbol, shown in seen.shown.items():
        low, high = _span(shown.bid, shown.ask, fraction)
        worst.shown[symbol] = ClientQuote(symbol=symbol, bid=low, ask=high, at_us=shown.at_us)
        best.shown[symbol] = ClientQuote(symbol=symbol, bid=high, ask=low, at_us=shown.at_us)
    for symbol, raw in seen.raw.items():
        low, high = _span(raw.bid, raw.ask, fraction)
        worst.raw[symbol] = replace(raw, bid=low, ask=high)
        best.raw[symbol] = replace(raw, bid=high, ask=low)
    return worst, best


def _span(bid: Decimal, ask: Decimal, fraction: Decimal) -> tuple[Decimal, Decimal]:
    """A price may be crossed: the lower of both sides and the higher one are what is watched."""
    low, high = min(bid, ask) * (ONE - fraction), max(bid, ask) * (ONE + fraction)
    return low.quantize(STEP, rounding=ROUND_CEILING), high.quantize(STEP, rounding=ROUND_FLOOR)


def _is_safe(work: Work, look: Look, worst: Seen, best: Seen) -> bool:
    """Nothing would happen at the worst corner, nor at the best one where the account waits to leave a margin call."""
    alarm, limits = look.account.alarm, look.limits
    lowest = look.at(profit_at(work, look.account, worst))
    if limits.calls(lowest) != alarm or limits.breach(lowest) is not None:
        return False
    return not alarm or limits.calls(look.at(profit_at(work, look.account, best))) == alarm


def _bounds(work: Work, look: Look, worst: Seen) -> Iterator[Bound]:
    """A bound on each side that the proof made use of."""
    account, watches = look.account, work.state.watches
    sides: dict[str, set[str]] = {symbol: set() for symbol in look.seen.raw}
    for symbol, holding in work.state.holdings[account.id].items():
        low = worst.shown[symbol].bid if holding.long.volume or account.alarm else None
        high = worst.shown[symbol].ask if holding.short.volume or account.alarm else None
        yield Bound(watches.shown(work.state, account.group, symbol), low, high)
        instrument = work.terms_for(account, symbol)
        result = unrealised(holding, worst.shown[symbol], instrument.lot_value)
        for step in work.config.conversions[conversion_key(instrument.quote, account.currency)]:
            is_low = (result >= 0) is not step.inverse
            sides[step.symbol] |= {"low", "high"} if account.alarm else {"low" if is_low else "high"}
    for symbol, used in sides.items():
        raw: Quote = worst.raw[symbol]
        low = raw.bid if "low" in used else None
        high = raw.ask if "high" in used else None
        yield Bound(watches.raw(symbol), low, high)
