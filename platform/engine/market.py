"""What a price sets off: resting orders and protection whose moment has come.

Groups see different prices, so each price stream (symbol and markup) has its own trigger book. What the quote triggers is
dealt at that same quote: closes before openings, the level that was passed first before later ones, then the older ticket.
A trigger whose order cannot be dealt now (its provider is away) stands, and the next price tries again.
"""

from msgspec.structs import replace

from engine.closes import protect
from engine.orders import is_expired, trigger
from engine.work import Work
from trading.checks import check_price
from trading.events import PositionChanged
from trading.instruments import TradeMode
from trading.orders import OrderReason
from trading.pricing import marked_up
from trading.quotes import Quote
from trading.trailing import StopMove
from trading.triggers import Trigger, TriggerKind

REASONS = {TriggerKind.STOP_LOSS: OrderReason.STOP_LOSS, TriggerKind.TAKE_PROFIT: OrderReason.TAKE_PROFIT}


def on_quote(work: Work, quote: Quote) -> None:
    """Everything that `quote` sets off, in its promised order: first what fires with the stops as they were, then the stops
    that follow the price."""
    instrument = work.config.instruments.get(quote.symbol)
    if not quote.tops:
        return  # the last price again, with no provider behind it any more
    if instrument is None or instrument.trade_mode is TradeMode.HALTED or check_price(instrument, quote, work.now_us):
        return
    work.quote(quote.symbol)
    for markup, stream in work.state.books.of_symbol(quote.symbol):
        seen = marked_up(quote, markup, instrument)
        stream.seq += 1
        for hit in stream.triggers.hits(stream.seq, seen.bid, seen.ask):
            _fire(work, hit, quote)
        for move in stream.trails.moves(stream.seq, seen.bid, seen.ask):
            _trail(work, move)


def _fire(work: Work, hit: Trigger, quote: Quote) -> None:
    """An earlier hit of the same price may have ended this one's owner, or dealt it."""
    reason = REASONS.get(hit.kind)
    if reason is not None:
        position = work.state.positions.get(hit.owner)
        if position is not None:
            protect(work, position, reason, quote)
        return
    order = work.state.orders.get(hit.owner)
    if order is not None and order.is_resting and not is_expired(order, work.now_us):
        trigger(work, order, quote)


def _trail(work: Work, move: StopMove) -> None:
    position = work.state.positions.get(move.position)
    if position is not None:
        protection = replace(position.protection, stop_loss=move.after)
        work.emit(PositionChanged(replace(position, protection=protection, updated_us=work.now_us)))
