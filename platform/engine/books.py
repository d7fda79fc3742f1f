"""Everything in one shard that waits for a price: per price stream a trigger book and a trail book.

A price stream is a symbol as one markup shows it; groups with the same markup share it. Derived, like all running sums: made
anew from orders and positions at a start, when the configuration changes, and when an account changes its group.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from trading.configuration import Config, Markup
from trading.numbers import point
from trading.orders import Order, OrderType
from trading.positions import Position
from trading.pricing import marked_up
from trading.protection import UNPROTECTED
from trading.quotes import Quote
from trading.trailing import Trail, TrailBook, TrailingTerms
from trading.triggers import Trigger, TriggerBook, TriggerKind, trigger_for

if TYPE_CHECKING:
    from engine.state import State

ORDER_KINDS = {
    OrderType.LIMIT: TriggerKind.LIMIT,
    OrderType.STOP: TriggerKind.STOP,
    OrderType.STOP_LIMIT: TriggerKind.STOP_LIMIT,
}


class Stream:
    """What waits in one price stream."""

    __slots__ = ("seq", "trails", "triggers")

    def __init__(self, digits: int) -> None:
        self.triggers = TriggerBook()
        self.trails = TrailBook(digits)
        self.seq = 0
        """Prices shown to these books; a provider's own numbers may start anew."""


class Books:
    """All price streams of a shard."""

    __slots__ = ("_orders", "_positions", "_streams")

    def __init__(self) -> None:
        self._streams: dict[str, dict[Markup, Stream]] = {}
        self._orders: dict[int, tuple[Stream, TriggerKind]] = {}
        self._positions: dict[int, Stream] = {}

    def of_symbol(self, symbol: str) -> Iterator[tuple[Markup, Stream]]:
        """The streams of a symbol, in a fixed order."""
        streams = self._streams.get(symbol)
        if not streams:
            return iter(())
        return iter(sorted(streams.items(), key=lambda one: (one[0].bid, one[0].ask)))

    def is_set_off(self, quote: Quote, config: Config) -> bool:
        """Whether this price may set anything off: a look at the nearest levels."""
        streams = self._streams.get(quote.symbol)
        instrument = config.instruments.get(quote.symbol)
        if not streams or instrument is None or not quote.tops:
            return False
        for markup, stream in streams.items():
            seen = marked_up(quote, markup, instrument)
            if stream.triggers.is_passed(seen.bid, seen.ask) or stream.trails.is_passed(seen.bid, seen.ask):
                return True
        return False

    def set_order(self, state: "State", order: Order) -> None:
        """The order as it is now: a trigger while it rests, none otherwise."""
        held = self._orders.pop(order.id, None)
        if held is not None:
            held[0].triggers.remove(held[1], order.id)
        trigger = trigger_of(order)
        if trigger is not None:
            stream = self._stream(state, order.account, order.symbol)
            stream.triggers.add(trigger)
            self._orders[order.id] = stream, trigger.kind

    def set_position(self, state: "State", position: Position) -> None:
        """The position's protection as it is now; none once it is closed."""
        held = self._positions.pop(position.id, None)
        if held is not None:
            held.triggers.remove(TriggerKind.STOP_LOSS, position.id)
            held.triggers.remove(TriggerKind.TAKE_PROFIT, position.id)
            held.trails.remove(position.id)
        if not position.volume or position.protection == UNPROTECTED:
            return
        stream = self._stream(state, position.account, position.symbol)
        self._positions[position.id] = stream
        for trigger in triggers_of(position):
            stream.triggers.add(trigger)
        if position.protection.trailing_points and state.config is not None:
            stream.trails.add(trail_of(position, point(state.config.instruments[position.symbol].digits)))

    def renew(self, state: "State") -> None:
        """All of it anew: groups or markups may have changed."""
        self._streams, self._orders, self._positions = {}, {}, {}
        if state.config is None:
            return
        for order in state.orders.values():
            self.set_order(state, order)
        for position in state.positions.values():
            if position.protection is not UNPROTECTED:
                self.set_position(state, position)

    def _stream(self, state: "State", account: int, symbol: str) -> Stream:
        assert state.config is not None, "nothing rests without a configuration"
        markup = state.config.groups[state.accounts[account].group].markup_for(symbol)
        streams = self._streams.setdefault(symbol, {})
        stream = streams.get(markup)
        if stream is None:
            stream = streams[markup] = Stream(state.config.instruments[symbol].digits)
        return stream


def trigger_of(order: Order) -> Trigger | None:
    """What a resting order waits for: its stop price first, then its limit."""
    if not order.is_resting or order.closes:
        return None
    if order.stop_price is not None and not order.is_triggered:
        return trigger_for(ORDER_KINDS[order.type], order.id, side=order.side, level=order.stop_price)
    if order.price is not None:
        return trigger_for(TriggerKind.LIMIT, order.id, side=order.side, level=order.price)
    assert order.stop_price is not None, order
    return trigger_for(ORDER_KINDS[order.type], order.id, side=order.side, level=order.stop_price)


def triggers_of(position: Position) -> Iterator[Trigger]:
    protection = position.protection
    if protection.stop_loss is not None:
        yield trigger_for(TriggerKind.STOP_LOSS, position.id, side=position.side, level=protection.stop_loss)
    if protection.take_profit is not None:
        yield trigger_for(TriggerKind.TAKE_PROFIT, position.id, side=position.side, level=protection.take_profit)


def trail_of(position: Position, step: Decimal) -> Trail:
    """The position's trailing stop in price units; `step` is one point."""
    protection = position.protection
    return Trail(
        position=position.id,
        side=position.side,
        open_price=position.open_price,
        stop_loss=protection.stop_loss,
        terms=TrailingTerms(distance=protection.trailing_points * step, step=protection.trailing_step * step),
    )
