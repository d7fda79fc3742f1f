"""Orders that close first and open with the rest: reversals, and every order of a netting account.

A netting account holds one position per symbol. What is dealt on its side adds to it, what is dealt against it reduces it,
and what goes beyond reverses: the closing lots follow their opening, the rest is routed by the policy as a new position.
Which of these an order is, is decided when it is dealt; so one order per symbol is dealt at a time.
"""

from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from engine.following import can_be_dealt, close_route
from engine.routes import routing_facts
from engine.work import Work
from routing.engine import route
from routing.split import book_of
from trading.accounts import Account
from trading.checks import Refused, check_volume
from trading.configuration import Group
from trading.decisions import Decision
from trading.instruments import Instrument, TradeMode
from trading.margining.exposures import position_exposure
from trading.margining.modes import Exposure, split
from trading.numbers import ZERO, plain
from trading.orders import Order, OrderType
from trading.positions import Position
from trading.quotes import Quote
from trading.refusals import Refusal


def net_position(work: Work, account: int, symbol: str) -> Position | None:
    """The one position of a netting account in the symbol."""
    return work.state.positions.get(work.state.nets.positions.get((account, symbol), 0))


def is_netting(work: Work, account: Account) -> bool:
    return account.group in work.state.nets.groups


def is_busy(work: Work, account: int, symbol: str) -> bool:
    """An order of a netting account in this symbol is in a provider's hands: what it leaves is not known yet."""
    return (account, symbol) in work.state.nets.dealing


def check_free(work: Work, account: int, symbol: str) -> Refused | None:
    if is_busy(work, account, symbol):
        return Refused(
            Refusal.ORDER_LOCKED, f"an order in {symbol} is being dealt; a netting account deals one at a time"
        )
    return None


def netted(work: Work, order: Order) -> Order:
    """The order as it would be dealt now: as an opening, as a close, or as both."""
    plain_order = as_opening(order)
    position = net_position(work, order.account, order.symbol)
    if position is None or position.side is order.side:
        return plain_order
    closing = min(order.open_volume, position.volume - position.locked)
    if closing == order.open_volume:
        return replace(plain_order, closes=True, position_id=position.id)
    return replace(plain_order, netted=order.filled_volume + closing, position_id=position.id)


def as_opening(order: Order) -> Order:
    """The order as it waits, before it is known what it closes."""
    if not order.closes and not order.netted:
        return order
    return replace(order, closes=False, netted=ZERO, position_id=order.position_id if order.filled_volume else 0)


def reduces(work: Work, order: Order) -> bool:
    """A market order that does nothing but close: it is judged as a close."""
    position = net_position(work, order.account, order.symbol)
    is_against = position is not None and position.side is not order.side and order.type is OrderType.MARKET
    return is_against and position is not None and ZERO < order.volume <= position.volume


def check_reducing(instrument: Instrument | None, volume: Decimal) -> Refused | None:
    """Minimum, rights and the symbol's trade mode do not bind; the order's own step does."""
    if instrument is None:
        return Refused(Refusal.UNKNOWN_SYMBOL, "the symbol is not offered")
    if instrument.trade_mode is TradeMode.HALTED:
        return Refused(Refusal.MARKET_CLOSED, f"{instrument.symbol} is halted")
    return check_volume(instrument, volume)


def closed_exposure(work: Work, order: Order) -> Exposure:
    """What an order that closes first takes away of its position's margin."""
    position, account = work.state.positions[order.position_id], work.account(order.account)
    rounding, digits = work.group_of(account).margin.rounding, work.config.currency_digits[account.currency]
    return split(position_exposure(position), order.closing_volume, rounding=rounding, digits=digits)[0]


# --- where it goes ------------------------------------------------------------------------------------------------------


class Ways(Struct, frozen=True, kw_only=True):
    """Where an order goes that closes first. `opening` is None where nothing opens, or not before the close is answered."""

    close: Decision
    opening: Decision | None
    recorded: Decision
    """The one decision that is kept with the order."""
    refused: Refused | None
    """Why it cannot be dealt now."""


def ways_of(work: Work, order: Order, quote: Quote) -> Ways:
    position = work.state.positions[order.position_id]
    close = close_route(work, order, position, quote)
    rest = order.open_volume - order.closing_volume
    if not can_be_dealt(close):
        refused = Refused(Refusal.NO_CONNECTION, "the provider that holds the position cannot be reached now")
        return Ways(close=close, opening=None, recorded=close, refused=refused)
    if not rest:
        return Ways(close=close, opening=None, recorded=close, refused=None)
    if close.volume_a:
        later = f"The other {plain(rest)} lots open a new position: they are routed when the close has filled."
        return Ways(close=close, opening=None, recorded=_said(close, later), refused=None)
    opening = opening_route(work, order, rest, quote)
    lacking = Refused(Refusal.NO_CONNECTION, "no liquidity provider can take the order now")
    return Ways(
        close=close,
        opening=opening,
        recorded=_together(close, opening, rest),
        refused=lacking if opening.lacks_provider else None,
    )


def opening_route(work: Work, order: Order, volume: Decimal, quote: Quote) -> Decision:
    """Where the opening part goes: as the policy says."""
    return route(replace(routing_facts(work, order, quote), volume=volume), work.config.policy)


def _said(decision: Decision, sentence: str) -> Decision:
    return replace(decision, reasons=(*decision.reasons, sentence))


def _together(close: Decision, opening: Decision, rest: Decimal) -> Decision:
    """Both parts in one record: the policy's decision, after what was said of the close."""
    volume_b = close.volume_b + opening.volume_b
    return replace(
        opening,
        book=book_of(opening.volume_a, volume_b),
        volume_b=volume_b,
        reasons=(*close.reasons, f"The other {plain(rest)} lots open a new position.", *opening.reasons),
    )


# --- changes of accounting ----------------------------------------------------------------------------------------------


def check_accounting(work: Work, account: Account, before: Group | None, after: Group | None) -> Refused | None:
    """An account that holds positions, or waits for a provider, cannot go over to another way of holding them."""
    if before is None or after is None or before.margin.accounting is after.margin.accounting:
        return None
    in_flight = any(o.account == account.id and not o.is_resting for o in work.state.orders.values())
    if not in_flight and not work.state.holdings.get(account.id):
        return None
    ways = f"from {before.margin.accounting.value} to {after.margin.accounting.value}"
    return Refused(Refusal.INVALID_REQUEST, f"account {account.id} holds positions: its group cannot go {ways}")
