"""Everything in one shard that waits for a price: per price stream a trigger book and a trail book.

A price stream is a symbol as one shade (markup and spread limits) shows it; groups with the same shade share it. Derived, like
all running sums: made anew from orders and positions at a start, when the configuration changes, and when an account changes
its group.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from trading.configuration import Config
from trading.instruments import Instrument
from trading.levels import stop_loss_method, stop_order_method
from trading.numbers import point
from trading.orders import Order, OrderType
from trading.positions import Position
from trading.pricing import Shade, shade_of, shaded
from trading.protection import UNPROTECTED
from trading.quotes import Quote
from trading.trailing import Trail, TrailBook, trailing_terms
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

    __slots__ = ("groups", "seq", "trails", "triggers")

    def __init__(self, digits: int) -> None:
        self.groups: dict[str, None] = {}
        """Whose orders and positions have stood here, in the order of their coming."""
        self.triggers = TriggerBook()
        self.trails = TrailBook(digits)
        self.seq = 0
        """Prices shown to these books; a provider's own numbers may start anew."""


class Books:
    """All price streams of a shard."""

    __slots__ = ("_orders", "_positions", "_streams")

    def __init__(self) -> None:
        self._streams: dict[str, dict[Shade, Stream]] = {}
        self._orders: dict[int, tuple[Stream, TriggerKind]] = {}
        self._positions: dict[int, Stream] = {}

    def of_symbol(self, symbol: str) -> Iterator[tuple[Shade, Stream]]:
        """The streams of a symbol, in a fixed order."""
        streams = self._streams.get(symbol)
        return iter(sorted(streams.items(), key=_in_order)) if streams else iter(())

    def is_set_off(self, quote: Quote, config: Config) -> bool:
        """Whether this price may set anything off, or comes right after one that half did: a look at the nearest levels."""
        streams = self._streams.get(quote.symbol)
        instrument = config.instruments.get(quote.symbol)
        if not streams or instrument is None:
            return False
        for shade, stream in streams.items():
            if stream.triggers.is_half_passed():
                return True
            seen = shaded(quote, shade, instrument.digits)
            if not quote.tops or not seen.is_dealable:
                continue
            if stream.triggers.is_passed(seen.bid, seen.ask) or stream.trails.is_passed(seen.bid, seen.ask):
                return True
        return False

    def set_order(self, state: "State", order: Order) -> None:
        """The order as it is now: a trigger while it rests, none otherwise."""
        held = self._orders.pop(order.id, None)
        if held is not None:
            held[0].triggers.remove(held[1], order.id)
        if state.config is None or not order.is_resting:
            return
        trigger = trigger_of(order, _terms(state, order))
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
        if not position.volume or position.protection == UNPROTECTED or state.config is None:
            return
        terms = _terms(state, position)
        stream = self._stream(state, position.account, position.symbol)
        self._positions[position.id] = stream
        for trigger in triggers_of(position, terms):
            stream.triggers.add(trigger)
        if position.protection.follows_price:
            stream.trails.add(trail_of(position, point(terms.digits)))

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
        group = state.accounts[account].group
        terms = state.terms.of(group, symbol)
        assert terms is not None, f"{symbol} is not offered"
        shade = shade_of(state.config.groups[group], terms)
        streams = self._streams.setdefault(symbol, {})
        stream = streams.get(shade)
        if stream is None:
            stream = streams[shade] = Stream(terms.digits)
        stream.groups[group] = None
        return stream


def _in_order(one: tuple[Shade, Stream]) -> tuple[int, int, int, int, str]:
    """The same order of streams whatever was set first."""
    markup, spread = one[0].markup, one[0].spread
    least, most = (-1 if points is None else points for points in (spread.min_points, spread.max_points))
    return markup.bid, markup.ask, least, most, spread.too_wide


def _terms(state: "State", owner: Order | Position) -> Instrument:
    """The symbol as the owner's group has it."""
    terms = state.terms.of(state.accounts[owner.account].group, owner.symbol)
    assert terms is not None, f"{owner.symbol} is not offered"
    return terms


def trigger_of(order: Order, terms: Instrument) -> Trigger | None:
    """What a resting order waits for: its stop price first, then its limit. A stop that was reached and could not be dealt
    is a market order: it watches the side that it is dealt at."""
    if not order.is_resting or order.closes:
        return None
    if order.stop_price is not None and not order.is_triggered:
        method = stop_order_method(order, terms)
        return trigger_for(ORDER_KINDS[order.type], order.id, side=order.side, level=order.stop_price, method=method)
    if order.price is not None:
        return trigger_for(TriggerKind.LIMIT, order.id, side=order.side, level=order.price)
    assert order.stop_price is not None, order
    return trigger_for(ORDER_KINDS[order.type], order.id, side=order.side, level=order.stop_price)


def triggers_of(position: Position, terms: Instrument) -> Iterator[Trigger]:
    protection = position.protection
    if protection.stop_loss is not None:
        method = stop_loss_method(protection, terms)
        yield trigger_for(
            TriggerKind.STOP_LOSS, position.id, side=position.side, level=protection.stop_loss, method=method
        )
    if protection.take_profit is not None:
        yield trigger_for(TriggerKind.TAKE_PROFIT, position.id, side=position.side, level=protection.take_profit)


def trail_of(position: Position, step: Decimal) -> Trail:
    """How the position's stop loss follows the price; `step` is one point."""
    return Trail(
        position=position.id,
        side=position.side,
        open_price=position.open_price,
        stop_loss=position.protection.stop_loss,
        terms=trailing_terms(position.protection, step),
    )
