"""Closing positions: as the client asks, or as stop loss and take profit demand. A close follows its opening.

Closing is exempt from everything but a halted market, a missing price and its own arithmetic.
"""

import hashlib
from decimal import Decimal

from msgspec.structs import replace

from engine.fills import book_fill
from engine.orders import VOLUME_LIMIT, house_fill, on_grid, storable
from engine.replies import Asked, late, refuse, reject, tell, tell_working, use_key
from engine.routes import routing_facts, send_leg
from engine.work import Work
from routing.close import close_decision
from trading.answers import Answer
from trading.checks import Refused, check_closing
from trading.commands import ClosePosition, ModifyProtection
from trading.decisions import Decision
from trading.events import OrderAccepted, OrderFilled, OrderRouted, PositionChanged
from trading.instructions import check_protection_terms
from trading.numbers import ONE, ZERO, point
from trading.orders import Order, OrderReason, OrderStatus, OrderType, TimeInForce
from trading.positions import Position
from trading.pricing import client_quote, is_fresh
from trading.protection import PARTS, Protection, keeping, resolved, wrong_side
from trading.quotes import Quote
from trading.refusals import Refusal


def close_position(work: Work, command: ClosePosition, asked: Asked) -> None:
    if command.account not in work.state.accounts:
        refuse(work, asked, Refused(Refusal.UNKNOWN_ACCOUNT, "there is no such account"))
        return
    position = work.state.positions.get(command.position_id)
    if position is None or position.account != command.account:
        refuse(work, asked, Refused(Refusal.POSITION_CLOSED, "the account has no such open position"))
        return
    volume = position.volume if command.volume is None else command.volume
    instrument = work.state.terms.of(work.account(position.account).group, position.symbol)
    quote = work.quote(position.symbol)
    order = replace(
        closing_order(work, position, volume), uuid=command.id, client_order_id=command.key, comment=command.comment
    )
    refused = (
        late(work, command)
        or check_closing(
            position=position,
            account=command.account,
            instrument=instrument,
            volume=volume,
            quote=quote,
            now_us=work.now_us,
        )
        or _check_conversion(work, position)
    )
    if refused is not None or instrument is None or quote is None:
        reject(work, asked, order, refused or Refused(Refusal.NO_QUOTES, "no price yet"))
        return
    order = replace(order, volume=on_grid(volume, instrument.volume_step))
    decision = _decision(work, order, position, quote)
    if not _can_be_dealt(decision):
        refused = Refused(Refusal.NO_CONNECTION, "the provider that holds the position cannot be reached now")
        reject(work, asked, order, refused, decision)
        return
    use_key(work, asked, order.id)
    dealt = _carry_out(work, order, position, decision, quote)
    if dealt.is_terminal:
        tell(work, asked, dealt)
    else:
        tell_working(work, asked, dealt)


def protect(work: Work, position: Position, reason: OrderReason, quote: Quote) -> bool:
    """Stop loss or take profit: close what is free of the position at this price. False when it cannot be dealt now; the
    trigger stands, and the next price tries again."""
    volume = position.volume - position.locked
    if volume <= 0 or _check_conversion(work, position) is not None:
        return False
    number = work.state.counters.order
    order = replace(
        closing_order(work, position, volume),
        uuid=uuid_of(work.state.shard, number),
        client_order_id=f"{reason.value}/{position.id}/{number}",
        reason=reason,
    )
    if reason is OrderReason.TAKE_PROFIT:
        order = replace(order, type=OrderType.LIMIT, price=position.protection.take_profit)
    decision = _decision(work, order, position, quote)
    if not _can_be_dealt(decision):
        return False
    _carry_out(work, order, position, decision, quote)
    return True


def modify_protection(work: Work, command: ModifyProtection, asked: Asked) -> None:
    position = work.state.positions.get(command.position_id)
    if position is None or position.account != command.account:
        refuse(work, asked, Refused(Refusal.POSITION_CLOSED, "the account has no such open position"))
        return
    refused = late(work, command) or _check_protection(work, command, position)
    if refused is not None:
        refuse(work, asked, refused)
        return
    protection = _protection_after(work, command, position)
    use_key(work, asked, position.id)
    work.emit(PositionChanged(replace(position, protection=protection, updated_us=work.now_us)))
    work.answer(command.reply_to, Answer(command_id=command.id, reference=position.id))


def _check_protection(work: Work, command: ModifyProtection, position: Position) -> Refused | None:
    instrument = work.terms_for(work.account(position.account), position.symbol)
    if any(part not in PARTS for part in command.keep):
        return Refused(Refusal.INVALID_REQUEST, f"the parts of protection are {', '.join(PARTS)}")
    refused = check_protection_terms(command.protection, instrument)
    if refused is not None:
        return refused
    protection = _protection_after(work, command, position)
    if protection == position.protection:
        return Refused(Refusal.NO_CHANGES, "nothing would change")
    quote = work.quote(position.symbol)
    if quote is None or not is_fresh(quote, instrument, work.now_us):
        return None
    seen = client_quote(quote, work.group_of(work.account(position.account)), instrument)
    closing = seen.bid if position.side.sign > 0 else seen.ask
    wrong = wrong_side(protection, sign=position.side.sign, closing_price=closing)
    return Refused(Refusal.INVALID_STOPS, wrong) if wrong else None


def _protection_after(work: Work, command: ModifyProtection, position: Position) -> Protection:
    step = point(work.instrument(position.symbol).digits)
    asked_for = resolved(command.protection, sign=position.side.sign, open_price=position.open_price, point=step)
    return keeping(asked_for, position.protection, command.keep)


def closing_order(work: Work, position: Position, volume: Decimal) -> Order:
    """An order that closes so much of the position, not yet named or reasoned."""
    return Order(
        id=work.state.counters.order,
        uuid="",
        account=position.account,
        client_order_id="",
        symbol=position.symbol,
        side=position.side.opposite,
        type=OrderType.MARKET,
        volume=storable(volume, VOLUME_LIMIT),
        status=OrderStatus.PENDING_NEW,
        created_us=work.now_us,
        updated_us=work.now_us,
        closes=True,
        position_id=position.id,
        time_in_force=TimeInForce.IOC,
    )


def uuid_of(shard: int, order: int) -> str:
    """An id for an order that no door minted: made from its ticket, so that a replay makes it again."""
    raw = bytearray(hashlib.blake2b(f"tribook order {shard}/{order}".encode(), digest_size=16).digest())
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _decision(work: Work, order: Order, position: Position, quote: Quote) -> Decision:
    return close_decision(
        routing_facts(work, order, quote),
        position,
        policy_version=work.config.policy.version,
        locked_a=_locked_at_provider(work, position),
    )


def _can_be_dealt(decision: Decision) -> bool:
    return not decision.lp or decision.candidates[0].eligible


def _locked_at_provider(work: Work, position: Position) -> Decimal:
    """The provider's part of the closes in flight."""
    if not position.locked:
        return ZERO
    closes = (o for o in work.state.orders.values() if o.closes and o.position_id == position.id)
    return sum((order.volume_a - order.filled_a for order in closes), ZERO)


def _carry_out(work: Work, order: Order, position: Position, decision: Decision, quote: Quote) -> Order:
    """Deal with the house at once, or lock the volume and hand the A part to its provider."""
    order = replace(order, book=decision.book, volume_a=decision.volume_a)
    work.emit(OrderRouted(order.id, decision))
    if order.volume_a:
        work.emit(OrderAccepted(order))
        work.emit(PositionChanged(replace(position, locked=position.locked + order.volume, updated_us=work.now_us)))
        return send_leg(work, order, decision.lp)
    filled = replace(book_fill(work, order, house_fill(work, order, quote)), status=OrderStatus.FILLED)
    work.emit(OrderFilled(filled))
    return filled


def _check_conversion(work: Work, position: Position) -> Refused | None:
    account = work.account(position.account)
    if work.convert(ONE, work.instrument(position.symbol).quote, account.currency) is None:
        return Refused(Refusal.NO_QUOTES, f"a price that converts the result to {account.currency} is missing")
    return None
