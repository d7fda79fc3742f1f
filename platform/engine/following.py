"""A close follows its opening: where closing volume goes, what is on its way already, and how it is handed over.

Closing orders, the first lots of a reversal and what reduces a netting account's position all go this one way.
"""

from decimal import Decimal

from msgspec.structs import replace

from engine.costs import can_charge
from engine.rollover import can_roll
from engine.routes import routing_facts, send_leg
from engine.work import Work
from routing.close import close_decision
from trading.checks import Refused
from trading.decisions import Decision
from trading.events import PositionChanged
from trading.numbers import ONE, ZERO
from trading.orders import Order
from trading.positions import Position
from trading.quotes import Quote
from trading.refusals import Refusal


def close_route(work: Work, order: Order, position: Position, quote: Quote) -> Decision:
    """Where the order's closing volume goes: to the book and provider that hold the position."""
    facts = routing_facts(work, order, quote)
    if order.netted:
        facts = replace(facts, volume=order.closing_volume)
    return close_decision(
        facts,
        position,
        policy_version=work.config.policy.version,
        locked_a=locked_at_provider(work, position),
    )


def can_be_dealt(decision: Decision) -> bool:
    """False while the provider that holds the position cannot be reached."""
    return not decision.lp or decision.candidates[0].eligible


def locked_at_provider(work: Work, position: Position) -> Decimal:
    """The provider's part of the closes in flight."""
    if not position.locked:
        return ZERO
    closes = (o for o in work.state.orders.values() if o.position_id == position.id and o.is_closing)
    return sum((order.volume_a - order.filled_a for order in closes), ZERO)


def check_conversion(work: Work, position: Position) -> Refused | None:
    """A result must be worth something in the account's currency."""
    account = work.account(position.account)
    if work.convert(ONE, work.instrument(position.symbol).quote, account.currency) is None:
        return Refused(Refusal.NO_QUOTES, f"a price that converts the result to {account.currency} is missing")
    if not can_roll(work, position) or not can_charge(work, account, position.symbol):
        return Refused(Refusal.NO_QUOTES, f"a price that converts swap or costs to {account.currency} is missing")
    return None


def send_close(work: Work, order: Order, position: Position, lp: str, *, price: Decimal | None = None) -> Order:
    """Lock the closing volume and hand the provider its part; the client is dealt at `price` where it is given. Returns the
    order with the attempt on it."""
    locked = position.locked + order.closing_volume
    work.emit(PositionChanged(replace(position, locked=locked, updated_us=work.now_us)))
    return send_leg(work, order, lp, price=price)


def unlock(work: Work, order: Order) -> None:
    """Give back what the order had locked and did not close."""
    position, unfilled = work.state.positions.get(order.position_id), order.closing_volume
    if position is not None and unfilled:
        work.emit(PositionChanged(replace(position, locked=position.locked - unfilled, updated_us=work.now_us)))
