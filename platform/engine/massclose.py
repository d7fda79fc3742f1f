"""Closing many positions at once: every one by an order of its own, so that one that cannot be closed keeps no other.

All are looked at before the first is dealt; closes follow their openings, so none of them changes what another is allowed.
"""

from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from engine.closes import closing_order, deal_close, uuid_of
from engine.following import can_be_dealt, check_conversion, close_route
from engine.replies import Asked, late, refuse, use_key
from engine.work import Work
from trading.answers import Answer
from trading.checks import Refused, check_closing, check_price
from trading.commands import ClosePositions, Which
from trading.decisions import Decision
from trading.events import OrderRejected, OrderRouted
from trading.numbers import ZERO
from trading.orders import Order, OrderStatus
from trading.positions import Position
from trading.pricing import client_quote
from trading.refusals import Refusal


class _Close(Struct, frozen=True):
    """One position's close, decided: its order without a ticket yet, and either its way or its refusal."""

    order: Order
    position: Position
    decision: Decision | None
    refused: Refused | None


def close_positions(work: Work, command: ClosePositions, asked: Asked) -> None:
    """The answer's reference is how many closes began."""
    refused = late(work, command)
    if command.account not in work.state.accounts:
        refused = Refused(Refusal.UNKNOWN_ACCOUNT, "there is no such account")
    if refused is not None:
        refuse(work, asked, refused)
        return
    closes = [_look_at(work, command, position) for position in _chosen(work, command)]
    begun = sum(close.refused is None for close in closes)
    use_key(work, asked, begun)
    for close in closes:
        _carry_out(work, close)
    work.answer(command.reply_to, Answer(command_id=command.id, reference=begun))


def _chosen(work: Work, command: ClosePositions) -> list[Position]:
    """By ticket."""
    own = (p for p in work.state.positions.values() if p.account == command.account)
    chosen = [p for p in own if command.symbol in ("", p.symbol) and _is_meant(work, command.which, p)]
    return sorted(chosen, key=lambda position: position.id)


def _is_meant(work: Work, which: Which, position: Position) -> bool:
    if which is Which.ALL:
        return True
    profit = _profit_now(work, position)
    return profit > 0 if which is Which.WINNERS else profit < 0


def _profit_now(work: Work, position: Position) -> Decimal:
    """At the client's closing price, in price x lots; zero without a fresh price: neither a winner nor a loser."""
    account = work.account(position.account)
    instrument, quote = work.state.terms.of(account.group, position.symbol), work.quote(position.symbol)
    if instrument is None or quote is None or check_price(instrument, quote, work.now_us) is not None:
        return ZERO
    seen = client_quote(quote, work.group_of(account), instrument)
    closing = seen.bid if position.side.sign > 0 else seen.ask
    return position.side.sign * (closing * position.volume - position.cost)


def _look_at(work: Work, command: ClosePositions, position: Position) -> _Close:
    """All that is free of the position; one that is wholly being closed already is refused."""
    volume = position.volume - position.locked or position.volume
    order = replace(
        closing_order(work, position, volume),
        client_order_id=f"{command.key}/{position.id}",
        comment=command.comment,
    )
    account, quote = work.account(position.account), work.quote(position.symbol)
    refused = check_closing(
        position=position,
        account=command.account,
        instrument=work.state.terms.of(account.group, position.symbol),
        volume=volume,
        quote=quote,
        now_us=work.now_us,
    ) or check_conversion(work, position)
    if refused is not None or quote is None:
        return _Close(order, position, None, refused)
    decision = close_route(work, order, position, quote)
    if not can_be_dealt(decision):
        refused = Refused(Refusal.NO_CONNECTION, "the provider that holds the position cannot be reached now")
    return _Close(order, position, decision, refused)


def _carry_out(work: Work, close: _Close) -> None:
    ticket = work.state.counters.order
    order = replace(close.order, id=ticket, uuid=uuid_of(work.state.shard, ticket))
    if close.refused is None and close.decision is not None:
        deal_close(work, order, close.position, close.decision, close.decision.quote)
        return
    if close.decision is not None:
        work.emit(OrderRouted(order.id, close.decision))
    assert close.refused is not None
    code, detail = close.refused.code.value, close.refused.detail
    work.emit(OrderRejected(replace(order, status=OrderStatus.REJECTED, refusal=code, detail=detail)))
