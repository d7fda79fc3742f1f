"""What a price sets off: resting orders and protection whose moment has come.

Groups see different prices, so each price stream (symbol and shade) has its own trigger book. What the quote triggers is
dealt at that same quote: closes before openings, the level that was passed first before later ones, then the older ticket.
A trigger whose order cannot be dealt now (its provider is away) stands, and the next price tries again.

A price that a stream's groups are not dealt at (halted, closed, too old, its spread too wide) triggers nothing, and is a
break: what needs two ticks in a row begins to count anew.
"""

from msgspec.structs import replace

from engine.books import Stream
from engine.closes import protect
from engine.orders import is_expired, trigger
from engine.stopout import supervise
from engine.work import Work
from trading.checks import check_price
from trading.events import PositionChanged
from trading.instruments import TradeMode
from trading.orders import OrderReason
from trading.pricing import shaded
from trading.quotes import ClientQuote, Quote
from trading.trailing import StopMove
from trading.triggers import Trigger, TriggerKind

REASONS = {TriggerKind.STOP_LOSS: OrderReason.STOP_LOSS, TriggerKind.TAKE_PROFIT: OrderReason.TAKE_PROFIT}


def on_quote(work: Work, quote: Quote, accounts: tuple[int, ...] = ()) -> None:
    """What the price sets off, and then the accounts that stand at a threshold of theirs: what protects a position goes first,
    and may leave nothing to do."""
    _set_off_all(work, quote)
    for number in accounts:
        supervise(work, number)


def _set_off_all(work: Work, quote: Quote) -> None:
    """Everything that `quote` sets off, in its promised order: first what fires with the stops as they were, then the stops
    that follow the price."""
    instrument = work.config.instruments.get(quote.symbol)
    if instrument is None:
        return
    work.quote(quote.symbol)
    for shade, stream in work.state.books.of_symbol(quote.symbol):
        seen = shaded(quote, shade, instrument.digits)
        groups = _dealt_groups(work, stream, quote, seen)
        if groups:
            _set_off(work, stream, quote, seen, groups)
        else:
            stream.triggers.after_break()


def _dealt_groups(work: Work, stream: Stream, quote: Quote, seen: ClientQuote) -> frozenset[str]:
    """Of the stream's groups those that are dealt at this price. A quote without providers is the last price again."""
    if not quote.tops or not seen.is_dealable:
        return frozenset()
    return frozenset(group for group in stream.groups if _is_dealt(work, group, quote))


def _is_dealt(work: Work, group: str, quote: Quote) -> bool:
    terms = work.state.terms.of(group, quote.symbol)
    if terms is None or terms.trade_mode is TradeMode.HALTED:
        return False
    return check_price(terms, quote, work.now_us) is None


def _set_off(work: Work, stream: Stream, quote: Quote, seen: ClientQuote, groups: frozenset[str]) -> None:
    stream.seq += 1
    for hit in stream.triggers.hits(stream.seq, seen.bid, seen.ask):
        _fire(work, hit, quote, groups)
    for move in stream.trails.moves(stream.seq, seen.bid, seen.ask):
        _trail(work, move, groups)


def _fire(work: Work, hit: Trigger, quote: Quote, groups: frozenset[str]) -> None:
    """An earlier hit of the same price may have ended this one's owner, or dealt it."""
    reason = REASONS.get(hit.kind)
    if reason is not None:
        position = work.state.positions.get(hit.owner)
        if position is not None and work.account(position.account).group in groups:
            protect(work, position, reason, quote)
        return
    order = work.state.orders.get(hit.owner)
    if order is None or not order.is_resting or is_expired(order, work.now_us):
        return
    if work.account(order.account).group in groups:
        trigger(work, order, quote)


def _trail(work: Work, move: StopMove, groups: frozenset[str]) -> None:
    position = work.state.positions.get(move.position)
    if position is not None and work.account(position.account).group in groups:
        protection = replace(position.protection, stop_loss=move.after)
        work.emit(PositionChanged(replace(position, protection=protection, updated_us=work.now_us)))
