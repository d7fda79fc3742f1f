"""The broker's hand on an account that runs out of margin: margin calls are told, then orders and positions are taken away
until it is above its limits again, or nothing is left that could be closed now.

One step at a time, each looked at anew: first the resting order that holds most margin, then the position that the group's
strategy names. A step that raises the margin or leaves less free margin than before is never taken; of a hedge whose legs
only help together, both are closed. What the house holds closes at once, what stands at a provider when it answers: until
then it counts as closed, and is not closed twice. Every step leaves a note with all that it was decided on.
"""

from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from engine.closes import force_close, is_closable
from engine.costs import commission
from engine.orders import take_back
from engine.standing import Breach, Look, Standing, Unpriced, look_at, standing_with
from engine.state import Portfolio
from engine.work import Work
from trading.checks import check_price
from trading.desk import MarginNote, MarginNoteKind
from trading.events import AccountChanged, MarginNoted
from trading.instruments import TradeMode
from trading.margin import Holding, unrealised
from trading.margining.terms import Accounting
from trading.numbers import ZERO, floor_to_step, plain
from trading.orders import Order, Side
from trading.positions import Position
from trading.stopout import StopOutStrategy

STUCK = 1
"""An alarm of so many above the number of margin calls: below a limit, and nothing left that could be closed now."""

STEPS_PER_HOLDING = 20
"""A stop-out that takes more steps than that has a bug, and must not hold the shard for ever."""


class Closing(Struct, frozen=True):
    """Lots of one position to close."""

    position: Position
    volume: Decimal


class TakeAway(Struct, frozen=True):
    """One step: an order to take back, or closings that belong together."""

    why: str
    order: Order | None = None
    closings: tuple[Closing, ...] = ()


def supervise(work: Work, number: int) -> None:
    """Tell margin calls and close what must be closed of one account. Harmless where nothing is due."""
    look = _look(work, number)
    if look is None:
        return
    calls = look.limits.calls(look.standing)
    if calls > look.account.alarm:
        _ring(work, look, calls)
    look = _close_out(work, number)
    if look is not None:
        _ring(work, look, alarm_of(work, look))


def is_due(work: Work, look: Look) -> bool:
    """Whether `supervise` has something to do."""
    breach = look.limits.breach(look.standing)
    if breach is not None and next_step(work, look) is not None:
        return True
    calls = look.limits.calls(look.standing)
    alarm = calls if breach is None else STUCK + len(look.limits.terms.margin_calls)
    return alarm != look.account.alarm


def alarm_of(work: Work, look: Look) -> int:
    """The alarm that belongs to this standing."""
    breach = look.limits.breach(look.standing)
    if breach is None or next_step(work, look) is not None:
        return look.limits.calls(look.standing)
    return STUCK + len(look.limits.terms.margin_calls)


def _look(work: Work, number: int) -> Look | None:
    account = work.state.accounts.get(number)
    look = None if account is None else look_at(work, account)
    return None if isinstance(look, Unpriced) else look


# --- margin calls -------------------------------------------------------------------------------------------------------


def _ring(work: Work, look: Look, alarm: int) -> None:
    """Set the alarm, and say what that means: each threshold that was reached, or that it is left behind."""
    before, calls = look.account.alarm, look.limits.terms.margin_calls
    if alarm == before:
        return
    work.emit(AccountChanged(replace(look.account, alarm=alarm)))
    for call in calls[before:alarm]:
        _note(work, look, MarginNoteKind.MARGIN_CALL, f"margin call {plain(call)}")
    if alarm > len(calls):
        rule = look.limits.breach(look.standing)
        detail = "nothing is left that could be closed now"
        _note(work, look, MarginNoteKind.NOTHING_LEFT, rule.rule if rule else "", detail=detail)
    elif alarm < min(before, len(calls)):
        _note(work, look, MarginNoteKind.MARGIN_RESTORED, f"margin call {plain(calls[alarm])}")


def _note(work: Work, look: Look, kind: MarginNoteKind, rule: str, **about: object) -> None:
    note = MarginNote(
        id=work.state.counters.note,
        account=look.account.id,
        kind=kind,
        rule=rule,
        equity=look.standing.equity,
        margin=look.standing.margin,
        level=look.standing.level,
        at_us=work.now_us,
        prices={symbol: (seen.bid, seen.ask) for symbol, seen in look.seen.shown.items()},
        **about,  # type: ignore[arg-type]
    )
    work.emit(MarginNoted(note))


# --- the loop -----------------------------------------------------------------------------------------------------------


def _close_out(work: Work, number: int) -> Look | None:
    """Step by step, until no limit is breached or no step is left. It ends: each step takes an order or lots away, or puts
    lots into a close in flight, and none comes back within one command. A bug in that raises, instead of going on for ever."""
    results: dict[tuple[int, Decimal], Decimal] = {}
    had = work.state.portfolios.get(number) or Portfolio()
    for _ in range(STEPS_PER_HOLDING * (1 + len(had.orders) + len(had.positions))):
        look = _look(work, number)
        if look is None:
            return None
        look = replace(look, results=results)
        breach = look.limits.breach(look.standing)
        step = None if breach is None else next_step(work, look)
        if breach is None or step is None:
            return look
        _carry_out(work, look, breach, step)
    raise AssertionError(f"the stop-out of account {number} takes nothing away any more and goes on")


def _carry_out(work: Work, look: Look, breach: Breach, step: TakeAway) -> None:
    tag = _tag(look)
    if step.order is not None:
        _note(work, look, MarginNoteKind.ORDER_CANCELED, breach.rule, order_id=step.order.id, detail=step.why)
        take_back(work, step.order, detail=tag)
    for closing in step.closings:
        position = work.state.positions[closing.position.id]
        quote = work.quote(position.symbol)
        assert quote is not None, "the price was checked before"
        _note(
            work,
            look,
            MarginNoteKind.POSITION_CLOSED,
            breach.rule,
            order_id=work.state.counters.order,
            position_id=position.id,
            detail=f"{step.why}; {plain(closing.volume)} of {plain(position.volume)} lots are closed",
        )
        order = force_close(work, position, closing.volume, quote, reason=breach.reason, comment=tag)
        assert order is not None, "the provider was looked for before"


def _tag(look: Look) -> str:
    """What an order's owner reads: the level, or without margin the equity, that it was closed at."""
    level = look.standing.level
    return f"[so {plain(look.standing.equity)} {look.account.currency}]" if level is None else f"[so {plain(level)}%]"


# --- choosing -----------------------------------------------------------------------------------------------------------


def next_step(work: Work, look: Look) -> TakeAway | None:
    """What goes first; None when nothing can be taken away now."""
    order = _largest_reserve(work, look)
    if order is not None:
        return TakeAway(f"most margin reserved: {plain(order.margin_reserved)} {look.account.currency}", order=order)
    in_turn = _in_turn(work, look)
    for position in in_turn:
        volume = _volume(work, look, position) if _is_tradable(work, look, position) else ZERO
        if volume:
            return TakeAway(_why(look), closings=(Closing(position, volume),))
    return _hedge(work, look, [position for position in in_turn if _is_tradable(work, look, position)])


def _portfolio(work: Work, look: Look) -> Portfolio:
    return work.state.portfolios.get(look.account.id) or Portfolio()


def _largest_reserve(work: Work, look: Look) -> Order | None:
    """Orders that a provider is dealing are left to it."""
    orders = (work.state.orders[number] for number in _portfolio(work, look).orders)
    waiting = [order for order in orders if order.is_resting and not order.closes and order.margin_reserved]
    return max(waiting, key=lambda order: order.margin_reserved, default=None)


def _in_turn(work: Work, look: Look) -> list[Position]:
    """The positions without a close in flight, as the strategy has them; the older one first where it does not tell."""
    held = (work.state.positions[number] for number in _portfolio(work, look).positions)
    free = [position for position in held if not position.locked]
    if look.limits.terms.strategy is StopOutStrategy.MOST_MARGIN:
        return sorted(free, key=lambda position: -position.margin)
    return sorted(free, key=lambda position: _result(work, look, position))


def _why(look: Look) -> str:
    is_margin = look.limits.terms.strategy is StopOutStrategy.MOST_MARGIN
    return "most margin first" if is_margin else "largest loss first"


def _result(work: Work, look: Look, position: Position) -> Decimal:
    """Unrealised, without swap and commission, in the account's currency; remembered, since every step asks for all of them."""
    known = look.results.get((position.id, position.volume))
    if known is not None:
        return known
    instrument = work.terms_for(look.account, position.symbol)
    holding = Holding()
    holding.side(position.side).add(position)
    result = unrealised(holding, look.seen.shown[position.symbol], instrument.lot_value)
    converted = work.convert(result, instrument.quote, look.account.currency)
    assert converted is not None, "the account was valued"
    look.results[position.id, position.volume] = converted
    return converted


def _is_tradable(work: Work, look: Look, position: Position) -> bool:
    """The symbol trades, has a fresh price with somebody behind it, and whoever holds the position can be reached."""
    terms = work.terms_for(look.account, position.symbol)
    quote = work.quote(position.symbol)
    if quote is None or not quote.tops or terms.trade_mode is TradeMode.HALTED:
        return False
    return check_price(terms, quote, work.now_us) is None and is_closable(work, position, position.volume, quote)


def _volume(work: Work, look: Look, position: Position) -> Decimal:
    """How much of the position to close: all, or what is not covered by the other side where closing all would not help;
    no more than needed where the group closes in parts. Zero when closing it helps nothing."""
    terms = work.terms_for(look.account, position.symbol)
    whole = position.volume
    if work.group_of(look.account).margin.accounting is Accounting.NETTING and whole > terms.volume_max:
        whole = _on_step(terms.volume_max, terms.volume_step)
    uncovered = _uncovered(work, look, position)
    for volume in (whole, _on_step(min(whole, uncovered), terms.volume_step)):
        if volume > 0 and _helps(work, look, {position.id: volume}, is_risk=volume <= uncovered):
            return _part(work, look, position, volume, uncovered) if look.limits.terms.is_partial else volume
    return ZERO


def _on_step(volume: Decimal, step: Decimal) -> Decimal:
    return floor_to_step(volume, step).quantize(step) if volume > 0 else ZERO


def _uncovered(work: Work, look: Look, position: Position) -> Decimal:
    """How much larger the position's side of its symbol is than the other one, closes in flight counted as filled."""
    holding = work.state.holdings[position.account][position.symbol]
    sides = {side: holding.side(side).volume for side in Side}
    for number, lots in look.cuts.items():
        closing = work.state.positions[number]
        if closing.symbol == position.symbol:
            sides[closing.side] -= lots
    return sides[position.side] - sides[position.side.opposite]


def _part(work: Work, look: Look, position: Position, whole: Decimal, uncovered: Decimal) -> Decimal:
    """The smallest volume on the symbol's step that brings the account above its limits, or the whole."""
    step = work.terms_for(look.account, position.symbol).volume_step
    low, high = 0, int(whole / step)  # in steps; `low` are too few
    while high - low > 1:
        middle = (low + high) // 2
        if look.limits.breach(_after(work, look, {position.id: middle * step})) is None:
            high = middle
        else:
            low = middle
    part = high * step
    if not 0 < part < whole or look.limits.breach(_after(work, look, {position.id: part})) is not None:
        return whole
    return part if _helps(work, look, {position.id: part}, is_risk=part <= uncovered) else whole


def _hedge(work: Work, look: Look, free: list[Position]) -> TakeAway | None:
    """Both sides of one symbol, where neither alone would help."""
    for symbol in dict.fromkeys(position.symbol for position in free):
        legs = [position for position in free if position.symbol == symbol]
        closed = {leg.id: leg.volume for leg in legs}
        if len({leg.side for leg in legs}) == len(Side) and _helps(work, look, closed, is_risk=True):
            return TakeAway("both sides of a hedge", closings=tuple(Closing(leg, leg.volume) for leg in legs))
    return None


def _helps(work: Work, look: Look, closed: dict[int, Decimal], *, is_risk: bool) -> bool:
    """Closing never raises the margin. Where it takes open risk away, that is help enough; a leg of a hedge must set free
    more margin than its closing costs."""
    before, after = look.standing, _after(work, look, closed)
    if is_risk or after.margin > before.margin:
        return after.margin <= before.margin
    return after.margin < before.margin and after.equity - after.margin >= before.equity - before.margin


def _after(work: Work, look: Look, closed: dict[int, Decimal]) -> Standing:
    """The standing once these lots are closed as well, and paid for."""
    cost = sum((commission(work, look.account.id, volume) for volume in closed.values()), ZERO)
    worth = replace(look.worth, balance=look.worth.balance - cost)
    return standing_with(work, look.account, look.limits, worth, {**look.cuts, **closed})
