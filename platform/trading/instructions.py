"""Whether an order's instruction makes sense: type, prices, time in force, expiry and protection together.

The shape is checked first, without the market; then, where a fresh price is known, on which side of it the order stands.
"""

from decimal import Decimal
from typing import Any

from trading.checks import Refused
from trading.commands import PlaceOrder, is_plain_market
from trading.instruments import Instrument
from trading.levels import (
    check_offer,
    check_pending_distance,
    check_protection_levels,
    closing_after,
    stop_loss_method,
    stop_order_method,
)
from trading.numbers import ZERO, is_plain, plain, point
from trading.orders import Order, OrderType, Side, TimeInForce
from trading.protection import (
    NOTHING_ASKED,
    POINTS_MAX,
    UNPROTECTED,
    Protection,
    ProtectionTerms,
    StopTriggerMethod,
    resolved,
)
from trading.quotes import ClientQuote
from trading.refusals import Refusal
from trading.trailing import trailing_problems, trailing_terms

IMMEDIATE = frozenset({TimeInForce.IOC, TimeInForce.FOK})
ALLOWED: dict[OrderType, frozenset[TimeInForce]] = {
    OrderType.MARKET: IMMEDIATE,
    OrderType.LIMIT: frozenset(TimeInForce),
    OrderType.STOP: frozenset(TimeInForce) - IMMEDIATE,
    OrderType.STOP_LIMIT: frozenset(TimeInForce) - IMMEDIATE,
}
"""Which times in force an order type can have."""
PRICE_LIMIT = Decimal(10) ** 9
EXPIRY_LIMIT_US = 4_102_444_800_000_000
"""The year 2100."""
OCO_NAME_MAX = 32
"""Characters in the name of a group of orders that cancel each other."""
NEEDS_PRICE = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT})
NEEDS_STOP = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})


def usual_time_in_force(order_type: OrderType) -> TimeInForce:
    return TimeInForce.IOC if order_type is OrderType.MARKET else TimeInForce.GTC


def check_shape(command: PlaceOrder, instrument: Instrument, now_us: int) -> Refused | None:
    """Everything that is wrong with the instruction by itself."""
    if is_plain_market(command):
        return None
    return (
        _check_oco(command)
        or _check_prices(command, instrument)
        or _check_life(command, now_us)
        or _check_protection(command.protection, instrument)
    )


def _check_protection(asked: ProtectionTerms, instrument: Instrument) -> Refused | None:
    if asked is NOTHING_ASKED or asked == NOTHING_ASKED:
        return None
    return check_protection_terms(asked, instrument) or check_protection_offer(asked, instrument)


def _check_oco(command: PlaceOrder) -> Refused | None:
    if len(command.oco_group) > OCO_NAME_MAX:
        return Refused(Refusal.INVALID_REQUEST, f"the name of an OCO group has at most {OCO_NAME_MAX} characters")
    return None


def _check_prices(command: PlaceOrder, instrument: Instrument) -> Refused | None:
    for name, price, needed in (
        ("price", command.price, command.type in NEEDS_PRICE),
        ("stop price", command.stop_price, command.type in NEEDS_STOP),
    ):
        if price is None and needed:
            return Refused(Refusal.INVALID_PRICE, f"a {command.type.value} order needs a {name}")
        refused = None if price is None else check_price_grid(price, instrument)
        if refused:
            return refused
    if command.stop_price is not None and command.type not in NEEDS_STOP:
        return Refused(Refusal.INVALID_PRICE, f"a {command.type.value} order has no stop price")
    if command.type is OrderType.STOP and command.price is not None:
        return Refused(Refusal.INVALID_PRICE, "a stop order has a stop price, no price")
    if command.stop_trigger is not None and command.type not in NEEDS_STOP:
        return Refused(Refusal.INVALID_REQUEST, f"a {command.type.value} order has no stop price to watch")
    return _check_slippage(command)


def _check_slippage(command: PlaceOrder) -> Refused | None:
    is_market = command.type is OrderType.MARKET
    if command.max_slippage is None:
        if is_market and command.price is not None:
            return Refused(Refusal.INVALID_PRICE, "a market order has a price only together with max_slippage")
        return None
    if not is_market or command.price is None or not 0 <= command.max_slippage <= POINTS_MAX:
        return Refused(
            Refusal.INVALID_REQUEST, "max_slippage goes with a market order that names the price it was seen at"
        )
    return None


def check_price_grid(price: Decimal, instrument: Instrument) -> Refused | None:
    """A positive plain number with no more decimals than the symbol has."""
    if not is_plain(price) or not 0 < price < PRICE_LIMIT or price % point(instrument.digits) != 0:
        return Refused(
            Refusal.INVALID_PRICE, f"a price of {instrument.symbol} is positive, with {instrument.digits} decimals"
        )
    return None


def _check_life(command: PlaceOrder, now_us: int) -> Refused | None:
    if command.time_in_force is not None and command.time_in_force not in ALLOWED[command.type]:
        allowed = ", ".join(sorted(one.value for one in ALLOWED[command.type]))
        return Refused(Refusal.INVALID_FILL, f"a {command.type.value} order can be {allowed}")
    return check_expiry(command.time_in_force, command.expires_us, now_us)


def check_expiry(time_in_force: TimeInForce | None, expires_us: int, now_us: int) -> Refused | None:
    """An expiry belongs to gtd, and gtd to an expiry that is still to come."""
    is_dated = time_in_force is TimeInForce.GTD
    if is_dated != bool(expires_us):
        return Refused(Refusal.INVALID_EXPIRATION, "an expiry goes with time_in_force gtd, and gtd with an expiry")
    if is_dated and not now_us < expires_us < EXPIRY_LIMIT_US:
        return Refused(Refusal.INVALID_EXPIRATION, "the expiry has passed already, or lies beyond all plans")
    return None


def check_protection_terms(terms: ProtectionTerms, instrument: Instrument) -> Refused | None:
    if not terms.is_consistent:
        return Refused(Refusal.INVALID_STOPS, "a stop loss or take profit is a price or a distance, not both")
    for price in (terms.stop_loss, terms.take_profit):
        if price is not None and check_price_grid(price, instrument):
            return Refused(
                Refusal.INVALID_STOPS, f"stop loss and take profit are prices with {instrument.digits} decimals"
            )
    for problem in trailing_problems(trailing_terms(terms, point(instrument.digits))):
        return Refused(Refusal.INVALID_STOPS, problem)
    return None


def check_protection_offer(terms: ProtectionTerms, instrument: Instrument) -> Refused | None:
    """What the symbol does not offer of an order's protection."""
    has_stop = terms.stop_loss is not None or terms.stop_loss_points > 0
    return check_offer(terms, has_stop=has_stop, present=UNPROTECTED, terms=instrument)


def storable_terms(command: PlaceOrder) -> dict[str, Any]:
    """The instruction's terms where a record can hold them; nonsense, which is refused, is left out of the record."""
    slippage, expires_us, asked = command.max_slippage, command.expires_us, command.protection
    prices = (asked.stop_loss, asked.take_profit)
    is_whole = asked.is_consistent and all(price is None or _is_storable(price) for price in prices)
    return {
        "price": command.price if command.price is not None and _is_storable(command.price) else None,
        "stop_price": command.stop_price
        if command.stop_price is not None and _is_storable(command.stop_price)
        else None,
        "max_slippage": slippage if slippage is not None and 0 <= slippage <= POINTS_MAX else None,
        "expires_us": expires_us if 0 <= expires_us < EXPIRY_LIMIT_US else 0,
        "protection": asked if is_whole else NOTHING_ASKED,
        "stop_trigger": command.stop_trigger,
    }


def _is_storable(price: Decimal) -> bool:
    return is_plain(price) and 0 <= price < PRICE_LIMIT


# --- against the market -------------------------------------------------------------------------------------------------


def dealing_price(quote: ClientQuote, side: Side) -> Decimal:
    """What the side is dealt at now: a buy at the ask, a sell at the bid."""
    return quote.ask if side is Side.BUY else quote.bid


def is_marketable(limit: Decimal, side: Side, quote: ClientQuote) -> bool:
    """A limit order at this price can be dealt now: buys when the ask has come down to it, sells when the bid is up to it."""
    return quote.ask <= limit if side is Side.BUY else quote.bid >= limit


def is_past_stop(stop_price: Decimal, side: Side, quote: ClientQuote, method: StopTriggerMethod) -> bool:
    """A stop at this price fires now: buys when the watched price (the ask, unless the method is opposite) has risen to it,
    sells when theirs (the bid) has fallen to it."""
    if side is Side.BUY:
        return (quote.bid if method.is_opposite else quote.ask) >= stop_price
    return (quote.ask if method.is_opposite else quote.bid) <= stop_price


def check_against_market(
    order: Order, instrument: Instrument, quote: ClientQuote, before: Order | None = None
) -> Refused | None:
    """What is wrong with the instruction at this price. `before` is the order that is being changed: what stays as it was
    may have come nearer to the market than it could be set."""
    if order.stop_price is not None:
        method = stop_order_method(order, instrument)
        if is_past_stop(order.stop_price, order.side, quote, method):
            return Refused(Refusal.INVALID_PRICE, "the market is past the stop price already")
    refused = check_slippage_at(order, instrument, quote)
    if refused is None and order.time_in_force not in IMMEDIATE:
        refused = check_pending_distance(order, instrument, quote, before)
    if refused is not None or order.protection == NOTHING_ASKED:
        return refused
    return _check_protection_at(order, instrument, quote, before)


def check_slippage_at(order: Order, instrument: Instrument, quote: ClientQuote) -> Refused | None:
    """The market may have moved at most `max_slippage` points from the price that was seen, in either direction."""
    if order.max_slippage is None or order.price is None:
        return None
    now = dealing_price(quote, order.side)
    if abs(now - order.price) > order.max_slippage * point(instrument.digits):
        return Refused(Refusal.PRICE_CHANGED, f"the price is {plain(now)}, more than {order.max_slippage} points away")
    return None


def expected_price(order: Order, quote: ClientQuote) -> Decimal:
    """The price that the order would open at: its own where it waits for one, else the market's."""
    if order.type is OrderType.STOP and order.stop_price is not None:
        return order.stop_price
    if order.type in NEEDS_PRICE and order.price is not None:
        at_once = order.type is OrderType.LIMIT and is_marketable(order.price, order.side, quote)
        return dealing_price(quote, order.side) if at_once else order.price
    return dealing_price(quote, order.side)


def _check_protection_at(
    order: Order, instrument: Instrument, quote: ClientQuote, before: Order | None
) -> Refused | None:
    """Protection that would fire at once, or stands too near, is a mistake."""
    opened = expected_price(order, quote)
    protection: Protection = resolved(
        order.protection, sign=order.side.sign, open_price=opened, point=point(instrument.digits)
    )
    is_as_before = before is not None and _levels_of(before) == _levels_of(order)
    return check_protection_levels(
        protection,
        protection if is_as_before else UNPROTECTED,
        side=order.side,
        closing=closing_after(order.side, quote, opened, stop_loss_method(protection, instrument)),
        terms=instrument,
    )


def _levels_of(order: Order) -> tuple[Decimal, Decimal, ProtectionTerms]:
    """What an order's protection is counted from, and itself."""
    return order.price or ZERO, order.stop_price or ZERO, order.protection


def better_of(price: Decimal, order: Order) -> Decimal:
    """The price, or the order's limit where that is better for its client: a limit is never dealt worse."""
    limit = order.price if order.type in NEEDS_PRICE else None
    if limit is None:
        return price
    return min(price, limit) if order.side is Side.BUY else max(price, limit)
