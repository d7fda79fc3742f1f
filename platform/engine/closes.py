"""Closing positions: as the client asks, or as stop loss and take profit demand. A close follows its opening.

Closing is exempt from everything but a halted market, a missing price and its own arithmetic.
"""

import hashlib
from decimal import Decimal

from msgspec.structs import replace

from engine.fills import book_fill
from engine.following import can_be_dealt, check_conversion, close_route, send_close
from engine.frozen import check_protection_frozen
from engine.guarantees import charge_guarantee, guarantee_fee
from engine.orders import VOLUME_LIMIT, house_fill, on_grid, storable
from engine.replies import Asked, late, refuse, reject, tell, tell_working, use_key
from engine.work import Work
from engine.worth import equity_of
from trading.accounts import Account
from trading.answers import Answer
from trading.checks import Refused, check_closing, check_price, check_spread
from trading.commands import ClosePosition, ModifyProtection
from trading.decisions import Decision
from trading.events import OrderAccepted, OrderFilled, OrderRouted, PositionChanged
from trading.instructions import check_protection_terms
from trading.instruments import Instrument
from trading.levels import check_guarantee_kept, check_offer, check_protection_levels, closing_now, stop_loss_method
from trading.numbers import ZERO, plain, point
from trading.orders import Order, OrderReason, OrderStatus, OrderType, TimeInForce
from trading.positions import Position
from trading.pricing import client_quote, is_fresh
from trading.protection import PARTS, Protection, keeping, resolved
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
    account = work.account(command.account)
    instrument = work.state.terms.of(account.group, position.symbol)
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
        or (None if instrument is None else check_spread(instrument, work.group_of(account), quote))
        or check_conversion(work, position)
    )
    if refused is not None or instrument is None or quote is None:
        reject(work, asked, order, refused or Refused(Refusal.NO_QUOTES, "no price yet"))
        return
    order = replace(order, volume=on_grid(volume, instrument.volume_step))
    decision = close_route(work, order, position, quote)
    if not can_be_dealt(decision):
        refused = Refused(Refusal.NO_CONNECTION, "the provider that holds the position cannot be reached now")
        reject(work, asked, order, refused, decision)
        return
    use_key(work, asked, order.id)
    dealt = deal_close(work, order, position, decision, quote)
    if dealt.is_terminal:
        tell(work, asked, dealt)
    else:
        tell_working(work, asked, dealt)


def protect(work: Work, position: Position, reason: OrderReason, quote: Quote) -> bool:
    """Stop loss or take profit: close what is free of the position at this price, of a guaranteed stop at its own. False when
    it cannot be dealt now; the trigger stands, and the next price tries again."""
    volume = position.volume - position.locked
    if volume <= 0 or check_conversion(work, position) is not None:
        return False
    terms: dict[str, object] = {}
    if reason is OrderReason.TAKE_PROFIT:
        terms = {"type": OrderType.LIMIT, "price": position.protection.take_profit}
    return force_close(work, position, volume, quote, reason=reason, **terms) is not None


def force_close(
    work: Work, position: Position, volume: Decimal, quote: Quote, *, reason: OrderReason, **terms: object
) -> Order | None:
    """Close `volume` lots at this price without being asked: the order as it is then. None when whoever holds the position
    cannot deal now; nothing is done then."""
    number = work.state.counters.order
    order = replace(
        closing_order(work, position, volume),
        uuid=uuid_of(work.state.shard, number),
        client_order_id=f"{reason.value}/{position.id}/{number}",
        reason=reason,
        **terms,
    )
    decision = close_route(work, order, position, quote)
    if not can_be_dealt(decision):
        return None
    is_guaranteed = position.protection.is_guaranteed and reason is OrderReason.STOP_LOSS
    price = position.protection.stop_loss if is_guaranteed else None
    return deal_close(work, order, position, decision, quote, price=price)


def is_closable(work: Work, position: Position, volume: Decimal, quote: Quote) -> bool:
    """Whoever holds the position can deal now, at a price that clients are dealt at, and the result can be converted."""
    account = work.account(position.account)
    terms = work.terms_for(account, position.symbol)
    if check_spread(terms, work.group_of(account), quote) is not None or check_conversion(work, position) is not None:
        return False
    if not position.volume_a:
        return True
    return can_be_dealt(close_route(work, closing_order(work, position, volume), position, quote))


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
    fee = _fee_for(work, position, protection)
    use_key(work, asked, position.id)
    work.emit(PositionChanged(replace(position, protection=protection, updated_us=work.now_us)))
    charge_guarantee(work, position.account, fee, position_id=position.id)
    work.answer(command.reply_to, Answer(command_id=command.id, reference=position.id))


def _check_protection(work: Work, command: ModifyProtection, position: Position) -> Refused | None:
    account = work.account(position.account)
    terms = work.terms_for(account, position.symbol)
    if any(part not in PARTS for part in command.keep):
        return Refused(Refusal.INVALID_REQUEST, f"the parts of protection are {', '.join(PARTS)}")
    refused = check_protection_terms(command.protection, terms)
    if refused is not None:
        return refused
    protection, present = _protection_after(work, command, position), position.protection
    if protection == present:
        return Refused(Refusal.NO_CHANGES, "nothing would change")
    return (
        check_guarantee_kept(protection, present, side=position.side)
        or check_offer(protection, has_stop=protection.stop_loss is not None, present=present, terms=terms)
        or check_protection_frozen(work, position)
        or _check_levels(work, position, protection, terms)
        or _check_fee(work, account, position, protection)
    )


def _check_levels(work: Work, position: Position, protection: Protection, terms: Instrument) -> Refused | None:
    """Against the price, where there is a fresh one. A guarantee neither begins nor moves without: who knows where the market
    will open could otherwise lock in where it has closed."""
    quote, present = work.quote(position.symbol), position.protection
    if protection.is_guaranteed and not (present.is_guaranteed and present.stop_loss == protection.stop_loss):
        refused = check_price(terms, quote, work.now_us)
        if refused is not None:
            return refused
    if quote is None or not is_fresh(quote, terms, work.now_us):
        return None
    seen = client_quote(quote, work.group_of(work.account(position.account)), terms)
    closing = closing_now(position.side, seen, stop_loss_method(protection, terms))
    return check_protection_levels(protection, present, side=position.side, closing=closing, terms=terms)


def _check_fee(work: Work, account: Account, position: Position, protection: Protection) -> Refused | None:
    """A guarantee that begins is paid for at once. The stop loss itself can always be set."""
    if not protection.is_guaranteed or position.protection.is_guaranteed:
        return None
    refused = check_conversion(work, position)
    if refused is not None:
        return refused
    fee, equity = _fee_for(work, position, protection), equity_of(work, account)
    if equity is None or equity - work.state.margin_used(account.id) < fee:
        return Refused(Refusal.INSUFFICIENT_MARGIN, f"the guarantee costs {plain(fee)} {account.currency}")
    return None


def _fee_for(work: Work, position: Position, protection: Protection) -> Decimal:
    """What the change costs: the fee on all that is open when a guarantee begins."""
    if not protection.is_guaranteed or position.protection.is_guaranteed:
        return ZERO
    return guarantee_fee(work, work.account(position.account), position.symbol, position.volume)


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


def deal_close(
    work: Work, order: Order, position: Position, decision: Decision, quote: Quote, *, price: Decimal | None = None
) -> Order:
    """Deal with the house at once, or lock the volume and hand the A part to its provider; at `price` where it is given."""
    order = replace(order, book=decision.book, volume_a=decision.volume_a)
    work.emit(OrderRouted(order.id, decision))
    if order.volume_a:
        work.emit(OrderAccepted(order))
        return send_close(work, order, position, decision.lp, price=price)
    fill = house_fill(work, order, quote)
    if price is not None:
        fill = replace(fill, price=price)
    filled = replace(book_fill(work, order, fill), status=OrderStatus.FILLED)
    work.emit(OrderFilled(filled))
    return filled
