"""Closing two opposite positions against each other: nobody deals again, so no spread is paid and no commission by the side.

The position that is named first is closed at the other's open price, and so is the other: the pair's result, the difference
of the open prices, is booked once, on the first. It is possible where both parts stand alike: the same lots with the house
and, for the rest, at the same provider, whose net stays what it was while what it owes on the pair is booked.
"""

from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from engine.closes import closing_order, uuid_of
from engine.fills import COST_DIGITS, Fill, book_fill, cost_of, lp_cost_of
from engine.following import check_conversion, locked_at_provider
from engine.replies import Asked, late, refuse, reject, tell, use_key
from engine.work import Work
from routing.close import close_split
from routing.split import book_of
from trading.checks import Refused
from trading.commands import CloseBy
from trading.events import OrderFilled
from trading.instruments import TradeMode
from trading.numbers import plain, round_half_up
from trading.orders import Book, Order, OrderReason, OrderStatus
from trading.positions import Position
from trading.refusals import Refusal


class Split(Struct, frozen=True):
    """What is closed of one position: its provider's part, and the house's."""

    volume_a: Decimal
    volume_b: Decimal


def close_by(work: Work, command: CloseBy, asked: Asked) -> None:
    if command.account not in work.state.accounts:
        refuse(work, asked, Refused(Refusal.UNKNOWN_ACCOUNT, "there is no such account"))
        return
    positions = work.state.positions
    one, other = positions.get(command.position_id), positions.get(command.by_position_id)
    if one is None or other is None or {one.account, other.account} != {command.account}:
        refuse(work, asked, Refused(Refusal.POSITION_CLOSED, "the account has no such open position"))
        return
    volume = _volume(one, other)
    asked_for = volume or min(one.volume, other.volume)  # a refused order is not one over nothing
    order = _order(work, one, asked_for, command)
    order = replace(order, uuid=command.id, client_order_id=command.key)
    refused = late(work, command) or _check_pair(work, one, other) or check_conversion(work, one)
    if refused is not None:
        reject(work, asked, order, refused)
        return
    split = _split(work, one, volume)
    fills = _fills(other, split)
    use_key(work, asked, order.id)
    closed = _close(work, order, split, fills)
    order = _order(work, other, volume, command)
    order = replace(order, uuid=uuid_of(work.state.shard, order.id), client_order_id=f"{command.key}/{other.id}")
    _close(work, order, split, fills)
    tell(work, asked, closed)


def _order(work: Work, position: Position, volume: Decimal, command: CloseBy) -> Order:
    order = closing_order(work, position, volume)
    return replace(order, reason=OrderReason.CLOSE_BY, comment=command.comment)


def _fills(other: Position, split: Split) -> list[Fill]:
    """What both positions are closed at: the open price of the second, in either book."""
    fills: list[Fill] = []
    left = other
    if split.volume_a:
        cost, lp_cost = cost_of(other, split.volume_a), lp_cost_of(other, split.volume_a)
        fills.append(
            Fill(
                book=Book.A,
                volume=split.volume_a,
                price=_average(cost, split.volume_a),
                cost=cost,
                lp=other.lp,
                lp_price=_average(lp_cost, split.volume_a),
                lp_cost=lp_cost,
            )
        )
        left = replace(other, cost=other.cost - cost, volume=other.volume - split.volume_a)
    if split.volume_b:
        cost = cost_of(left, split.volume_b)
        fills.append(Fill(book=Book.B, volume=split.volume_b, price=_average(cost, split.volume_b), cost=cost))
    return fills


def _average(cost: Decimal, volume: Decimal) -> Decimal:
    return round_half_up(cost / volume, COST_DIGITS)


def _close(work: Work, order: Order, split: Split, fills: list[Fill]) -> Order:
    order = replace(order, book=book_of(split.volume_a, split.volume_b), volume_a=split.volume_a)
    for fill in fills:
        order = book_fill(work, order, fill)
    filled = replace(order, status=OrderStatus.FILLED)
    work.emit(OrderFilled(filled))
    return filled


# --- checks -------------------------------------------------------------------------------------------------------------


def _check_pair(work: Work, one: Position, other: Position) -> Refused | None:
    if one.symbol != other.symbol or one.side is other.side:
        return Refused(Refusal.INVALID_CLOSE_BY, "only opposite positions of one symbol can be closed by each other")
    for position in (one, other):
        if position.volume == position.locked:
            return Refused(Refusal.CLOSE_ORDER_EXISTS, f"position {position.id} is being closed already")
    instrument = work.state.terms.of(work.account(one.account).group, one.symbol)
    if instrument is None:
        return Refused(Refusal.UNKNOWN_SYMBOL, "the symbol is not offered")
    if instrument.trade_mode is TradeMode.HALTED:
        return Refused(Refusal.MARKET_CLOSED, f"{one.symbol} is halted")
    return _check_standing(work, one, other)


def _check_standing(work: Work, one: Position, other: Position) -> Refused | None:
    """Both parts stand alike: otherwise a provider would have to deal, at a price that is not there."""
    volume = _volume(one, other)
    parts = [_split(work, position, volume) for position in (one, other)]
    if parts[0] == parts[1] and (not parts[0].volume_a or one.lp == other.lp):
        return None
    return Refused(
        Refusal.INVALID_CLOSE_BY, f"{plain(volume)} lots of the two positions do not stand with the same counterparties"
    )


def _volume(one: Position, other: Position) -> Decimal:
    """The smaller free volume of both."""
    return min(position.volume - position.locked for position in (one, other))


def _split(work: Work, position: Position, volume: Decimal) -> Split:
    lp = work.config.lps.get(position.lp)
    terms = lp.instruments.get(position.symbol) if lp else None
    step = terms.volume_step if terms else work.instrument(position.symbol).volume_step
    return Split(*close_split(position, volume, step, locked_a=locked_at_provider(work, position)))
