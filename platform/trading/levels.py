"""How near to the market a price may be set, how the market reaches it, and when it is too near to be changed.

One place for three distances in points: the stops level and a guarantee's minimum, which bind when a price is set, and the
freeze level, within which it can no longer be changed. Every distance is counted from the price that the order or
protection watches: a stop's trigger method may name the other side of the spread.
"""

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

from trading.checks import Refused
from trading.instruments import Instrument
from trading.numbers import point
from trading.orders import Order, OrderType, Side
from trading.protection import Protection, ProtectionTerms, StopTriggerMethod, wrong_side
from trading.quotes import ClientQuote
from trading.refusals import Refusal
from trading.triggers import Direction, PriceSide, Trigger


def stop_order_method(order: Order, terms: Instrument) -> StopTriggerMethod:
    """How the order's stop price watches the market."""
    return terms.stop_trigger if order.stop_trigger is None else order.stop_trigger


def stop_loss_method(protection: Protection | ProtectionTerms, terms: Instrument) -> StopTriggerMethod:
    """How the stop loss watches the market. A guaranteed one is dealt at its price, so it fires as soon as that is reached."""
    if protection.is_guaranteed:
        return StopTriggerMethod.TRADE
    return terms.stop_trigger if protection.stop_trigger is None else protection.stop_trigger


# --- the price that is watched ---


class Closing(Struct, frozen=True):
    """Where a position closes, and the price that its stop loss watches."""

    price: Decimal
    watched: Decimal


def closing_now(side: Side, quote: ClientQuote, method: StopTriggerMethod) -> Closing:
    """Of an open position on `side`."""
    here, there = (quote.bid, quote.ask) if side is Side.BUY else (quote.ask, quote.bid)
    return Closing(here, there if method.is_opposite else here)


def closing_after(side: Side, quote: ClientQuote, opened: Decimal, method: StopTriggerMethod) -> Closing:
    """Of a position right after it was opened at `opened`: the other side of the same spread."""
    here = opened - side.sign * (quote.ask - quote.bid)
    return Closing(here, opened if method.is_opposite else here)


# --- setting ---


def check_pending_distance(
    order: Order, terms: Instrument, quote: ClientQuote, before: Order | None = None
) -> Refused | None:
    """The price that a waiting order waits for keeps the stops level, unless it stood there `before`.

    A limit that can be dealt at once waits for nothing. Of a stop-limit the stop price counts: its limit comes later.
    """
    if not terms.stops_level:
        return None
    level, is_moved = _pending_level(order, before)
    distance = None if level is None or not is_moved else _way(order, level, terms, quote)
    if distance is None or distance >= terms.stops_level * point(terms.digits):
        return None
    return Refused(Refusal.INVALID_PRICE, f"the price must keep {terms.stops_level} points from the market")


def _pending_level(order: Order, before: Order | None) -> tuple[Decimal | None, bool]:
    if order.stop_price is not None:
        return order.stop_price, before is None or before.stop_price != order.stop_price
    level = order.price if order.type is OrderType.LIMIT else None
    return level, before is None or before.price != order.price


def _way(order: Order, level: Decimal, terms: Instrument, quote: ClientQuote) -> Decimal | None:
    """How far the watched price has to go; None for a limit that is there already."""
    here, there = (quote.ask, quote.bid) if order.side is Side.BUY else (quote.bid, quote.ask)
    if order.stop_price is None:
        way = order.side.sign * (here - level)
        return way if way > 0 else None
    watched = there if stop_order_method(order, terms).is_opposite else here
    return order.side.sign * (level - watched)


def check_protection_levels(
    protection: Protection, present: Protection, *, side: Side, closing: Closing, terms: Instrument
) -> Refused | None:
    """Protection would not fire at once, and what is new in it keeps its distance from the market."""
    wrong = wrong_side(protection, sign=side.sign, closing_price=closing.price, watched_price=closing.watched)
    if wrong:
        return Refused(Refusal.INVALID_STOPS, wrong)
    if not terms.stops_level and not protection.is_guaranteed:
        return None
    return _check_stop_distance(protection, present, side, closing, terms) or _check_profit_distance(
        protection, present, side, closing, terms
    )


def _check_stop_distance(
    protection: Protection, present: Protection, side: Side, closing: Closing, terms: Instrument
) -> Refused | None:
    is_old = (protection.stop_loss, protection.is_guaranteed) == (present.stop_loss, present.is_guaranteed)
    points = stop_distance_min(terms, is_guaranteed=protection.is_guaranteed)
    if protection.stop_loss is None or is_old:
        return None
    if side.sign * (closing.watched - protection.stop_loss) >= points * point(terms.digits):
        return None
    return Refused(Refusal.INVALID_STOPS, f"the stop loss must keep {points} points from the price")


def _check_profit_distance(
    protection: Protection, present: Protection, side: Side, closing: Closing, terms: Instrument
) -> Refused | None:
    if protection.take_profit is None or protection.take_profit == present.take_profit:
        return None
    if side.sign * (protection.take_profit - closing.price) >= terms.stops_level * point(terms.digits):
        return None
    return Refused(Refusal.INVALID_STOPS, f"the take profit must keep {terms.stops_level} points from the price")


def stop_distance_min(terms: Instrument, *, is_guaranteed: bool) -> int:
    """Points that a stop loss must keep from the market when it is set, or follow it at."""
    if not is_guaranteed or terms.guarantee is None:
        return terms.stops_level
    return max(terms.stops_level, terms.guarantee.distance_min_points)


def check_offer(
    asked: Protection | ProtectionTerms, *, has_stop: bool, present: Protection, terms: Instrument
) -> Refused | None:
    """Whether the symbol offers what is asked for: a guarantee that begins now, and a stop that follows at this distance."""
    if asked.is_guaranteed and not has_stop:
        return Refused(Refusal.INVALID_STOPS, "a guarantee needs a stop loss")
    if asked.is_guaranteed and not present.is_guaranteed and terms.guarantee is None:
        return Refused(Refusal.NO_GUARANTEE, f"{terms.symbol} has no guaranteed stops")
    least = stop_distance_min(terms, is_guaranteed=asked.is_guaranteed)
    if not least or _following(asked) == _following(present):
        return None
    if asked.trailing_points and asked.trailing_points < least:
        return Refused(Refusal.INVALID_STOPS, f"a stop loss follows at {least} points at least")
    if asked.break_even_points and asked.break_even_points - asked.break_even_offset < least:
        return Refused(Refusal.INVALID_STOPS, f"a stop loss goes to break-even from {least} points away at least")
    return None


def _following(asked: Protection | ProtectionTerms) -> tuple[int, int, int, bool]:
    return asked.trailing_points, asked.break_even_points, asked.break_even_offset, asked.is_guaranteed


def check_guarantee_kept(protection: Protection, present: Protection, *, side: Side) -> Refused | None:
    """A guaranteed stop only ever moves nearer, and its guarantee lasts as long as the position."""
    if not present.is_guaranteed or present.stop_loss is None:
        return None
    if not protection.is_guaranteed or protection.stop_loss is None:
        return Refused(Refusal.WORSE_GUARANTEE, "a guaranteed stop stays as long as the position is open")
    if side.sign * (protection.stop_loss - present.stop_loss) < 0:
        return Refused(Refusal.WORSE_GUARANTEE, "a guaranteed stop may only move nearer to the price")
    return None


# --- changing ---


def check_frozen(triggers: Iterable[Trigger], terms: Instrument, quote: ClientQuote) -> Refused | None:
    """None of the levels is so near to its price that it can no longer be changed."""
    reach = terms.freeze_level * point(terms.digits)
    if any(_left(trigger, quote) <= reach for trigger in triggers):
        return Refused(Refusal.FROZEN, f"the price is within {terms.freeze_level} points of its level")
    return None


def _left(trigger: Trigger, quote: ClientQuote) -> Decimal:
    """How far the watched price still has to go; zero or less when it is there."""
    price = quote.bid if trigger.price_side is PriceSide.BID else quote.ask
    return trigger.level - price if trigger.direction is Direction.AT_OR_ABOVE else price - trigger.level
