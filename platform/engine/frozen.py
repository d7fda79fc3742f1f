"""What stands so near to its price that its client may no longer change it: orders, and the protection of a position.

Closing a position is always possible, however near its stop.
"""

from collections.abc import Iterable

from engine.books import trigger_of, triggers_of
from engine.work import Work
from trading.checks import Refused, check_price
from trading.instruments import Instrument
from trading.levels import check_frozen
from trading.orders import Order
from trading.positions import Position
from trading.pricing import client_quote
from trading.triggers import Trigger


def check_order_frozen(work: Work, order: Order) -> Refused | None:
    """Whether the order may be changed or taken back at this price."""
    terms = work.terms_for(work.account(order.account), order.symbol)
    if not terms.freeze_level:
        return None
    trigger = trigger_of(order, terms)
    return None if trigger is None else _frozen(work, order, terms, (trigger,))


def check_protection_frozen(work: Work, position: Position) -> Refused | None:
    """Whether the position's protection may be changed at this price: all of it, or nothing."""
    terms = work.terms_for(work.account(position.account), position.symbol)
    if not terms.freeze_level:
        return None
    return _frozen(work, position, terms, triggers_of(position, terms))


def _frozen(work: Work, owner: Order | Position, terms: Instrument, triggers: Iterable[Trigger]) -> Refused | None:
    """Without a price that is dealt on, nothing is near it."""
    quote = work.quote(owner.symbol)
    if quote is None or check_price(terms, quote, work.now_us) is not None:
        return None
    return check_frozen(triggers, terms, client_quote(quote, work.group_of(work.account(owner.account)), terms))
