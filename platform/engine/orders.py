"""The life of an opening order: placed, resting, triggered, dealt, changed, taken back, expired.

All checks come before the first event. A resting order holds its margin; when its turn comes the margin is looked at again,
with what it holds counted as free, and an order that no longer fits is rejected then.
"""

from decimal import Decimal

from msgspec.structs import replace

from bbook.dealing import HouseFill
from bbook.dealing import fill as deal_with_house
from engine.costs import expected_costs
from engine.errors import flatten_all
from engine.fills import Fill, book_fill
from engine.following import check_conversion, send_close
from engine.frozen import check_order_frozen
from engine.gaps import look_for_gaps
from engine.gates import check_gates, remember_order
from engine.guarantees import guarantee_fee
from engine.netting import (
    Ways,
    check_free,
    check_reducing,
    closed_exposure,
    is_busy,
    is_netting,
    netted,
    reduces,
    ways_of,
)
from engine.oco import cancel_siblings
from engine.replies import Asked, late, refuse, reject, tell, tell_working, use_key
from engine.routes import routing_facts, send_leg
from engine.work import Work
from engine.worth import order_charge, worth_of
from routing.engine import route
from trading.accounts import Account
from trading.answers import Answer
from trading.calendar import day_end
from trading.checks import Refused, check_opening, check_price, check_side, check_spread
from trading.commands import CancelAll, CancelOrder, ExpireOrders, ModifyOrder, PlaceOrder, is_plain_market
from trading.decisions import Decision
from trading.events import (
    OrderAccepted,
    OrderCanceled,
    OrderExpired,
    OrderFilled,
    OrderModified,
    OrderPartiallyFilled,
    OrderRejected,
    OrderRouted,
    OrderTriggered,
)
from trading.instructions import (
    IMMEDIATE,
    OCO_NAME_MAX,
    check_against_market,
    check_expiry,
    check_price_grid,
    check_protection_offer,
    check_protection_terms,
    check_shape,
    expected_price,
    is_marketable,
    storable_terms,
    usual_time_in_force,
)
from trading.instruments import Instrument
from trading.margining.account import Intent
from trading.margining.exposures import NOTHING_RESERVED, order_exposure, reserved
from trading.margining.level import free_margin
from trading.margining.modes import Exposure
from trading.numbers import ONE, ZERO, is_plain, plain, point
from trading.orders import Book, Order, OrderStatus, OrderType, TimeInForce
from trading.pricing import client_quote
from trading.quotes import ClientQuote, Quote
from trading.refusals import Refusal

VOLUME_LIMIT = Decimal(10) ** 12
"""Lots that a stored order may name."""


# --- placing ------------------------------------------------------------------------------------------------------------


def place_order(work: Work, command: PlaceOrder, asked: Asked) -> None:
    account = work.state.accounts.get(command.account)
    if account is None:
        refuse(work, asked, Refused(Refusal.UNKNOWN_ACCOUNT, "there is no such account"))
        return
    instrument = work.state.terms.of(account.group, command.symbol)
    order = _asked_for(work, command)
    if is_netting(work, account) and reduces(work, order):
        refused = late(work, command) or check_reducing(instrument, command.volume)
    else:
        refused = late(work, command) or check_opening(
            account=account, instrument=instrument, side=command.side, volume=command.volume
        )
    if refused is not None or instrument is None:
        reject(work, asked, order, refused or Refused(Refusal.UNKNOWN_SYMBOL, "the symbol is not offered"))
        return
    if not order.volume.same_quantum(instrument.volume_step):
        order = replace(order, volume=on_grid(order.volume, instrument.volume_step))
    if order.time_in_force is TimeInForce.DAY:
        order = replace(order, expires_us=day_end(instrument.sessions, work.now_us) or work.now_us)
    quote = work.quote(command.symbol)
    seen = _seen(work, account, instrument, quote)
    refused = check_shape(command, instrument, work.now_us) or _check_market(work, order, instrument, quote, seen)
    if refused is None and is_netting(work, account) and seen is not None and is_dealable(order, seen):
        order, refused = netted(work, order), check_free(work, account.id, order.symbol)
    if refused is None and not order.closes:
        refused = check_gates(work, account, order, seen)
    exposure = None
    if refused is None:
        exposure, refused = _margin_for(work, account, order, seen)
    if refused is not None:
        reject(work, asked, order, refused)
        return
    remember_order(work, order)
    if quote is not None and seen is not None and is_dealable(order, seen):
        _deal_new(work, asked, replace(order, **reserved(exposure)), quote)
    elif order.time_in_force in IMMEDIATE:
        _cancel_new(work, asked, order)
    else:
        resting = replace(order, status=OrderStatus.NEW, **reserved(exposure))
        use_key(work, asked, order.id)
        work.emit(OrderAccepted(resting))
        tell(work, asked, resting)


def _asked_for(work: Work, command: PlaceOrder) -> Order:
    return Order(
        id=work.state.counters.order,
        uuid=command.id,
        account=command.account,
        client_order_id=command.key,
        symbol=command.symbol,
        side=command.side,
        type=command.type,
        volume=storable(command.volume, VOLUME_LIMIT),
        status=OrderStatus.PENDING_NEW,
        created_us=work.now_us,
        updated_us=work.now_us,
        comment=command.comment,
        oco_group=command.oco_group[:OCO_NAME_MAX],
        time_in_force=command.time_in_force or usual_time_in_force(command.type),
        **({} if is_plain_market(command) else storable_terms(command)),
    )


def storable(number: Decimal, limit: Decimal) -> Decimal:
    """A number as asked for where the record can hold it: nonsense is refused, and kept as zero."""
    return number if is_plain(number) and 0 <= number < limit else ZERO


def on_grid(volume: Decimal, step: Decimal) -> Decimal:
    """The same volume written with the step's decimals: one spelling per value, wherever it came from."""
    return volume.quantize(step)


def _seen(work: Work, account: Account, instrument: Instrument, quote: Quote | None) -> ClientQuote | None:
    """What the account's group sees, while the symbol trades and the price is fresh."""
    if quote is None or check_price(instrument, quote, work.now_us) is not None:
        return None
    return work.seen_by(account, instrument.symbol)


def _check_market(
    work: Work, order: Order, instrument: Instrument, quote: Quote | None, seen: ClientQuote | None
) -> Refused | None:
    """Market orders need a fresh price that is dealt on; others are held against it where there is one."""
    if order.type is OrderType.MARKET:
        if seen is None:
            return check_price(instrument, quote, work.now_us)
        if not seen.is_dealable:
            return check_spread(instrument, work.group_of(work.account(order.account)), quote)
    return None if seen is None else check_against_market(order, instrument, seen)


def is_dealable(order: Order, seen: ClientQuote) -> bool:
    """The order can be dealt at this price."""
    if not seen.is_dealable:
        return False
    if order.type is OrderType.MARKET or (order.type is OrderType.STOP and order.is_triggered):
        return True
    is_limit = order.type is OrderType.LIMIT or (order.type is OrderType.STOP_LIMIT and order.is_triggered)
    return is_limit and order.price is not None and is_marketable(order.price, order.side, seen)


def _deal_new(work: Work, asked: Asked, order: Order, quote: Quote) -> None:
    if order.closes or order.netted:
        _deal_netted(work, asked, order, quote)
        return
    decision = route(routing_facts(work, order, quote), work.config.policy)
    if decision.lacks_provider:
        refused = Refused(Refusal.NO_CONNECTION, "no liquidity provider can take the order now")
        reject(work, asked, replace(order, **NOTHING_RESERVED), refused, decision)
        return
    use_key(work, asked, order.id)
    _tell_dealt(work, asked, carry_out(work, order, decision, quote))


def deal_reversal(work: Work, asked: Asked, account: Account, order: Order, quote: Quote) -> None:
    """A reversal that can be dealt at this price: the margin of the whole intent, then the close and the opening."""
    seen = client_quote(quote, work.group_of(account), work.terms_for(account, order.symbol))
    exposure, refused = _margin_for(work, account, order, seen)
    if refused is not None:
        reject(work, asked, order, refused)
    else:
        _deal_netted(work, asked, replace(order, **reserved(exposure)), quote)


def _deal_netted(work: Work, asked: Asked, order: Order, quote: Quote) -> None:
    """A new order that closes first, and opens with the rest if there is any."""
    ways = ways_of(work, order, quote)
    if ways.refused is not None:
        reject(work, asked, replace(order, **NOTHING_RESERVED), ways.refused, ways.recorded)
        return
    use_key(work, asked, order.id)
    _tell_dealt(work, asked, close_and_open(work, order, ways, quote))


def _tell_dealt(work: Work, asked: Asked, dealt: Order) -> None:
    if dealt.oco_group:
        cancel_siblings(work, dealt)
    if dealt.is_terminal:
        tell(work, asked, dealt)
    else:
        tell_working(work, asked, dealt)


def _cancel_new(work: Work, asked: Asked, order: Order) -> None:
    """An immediate order whose price is not there: nothing is dealt, and nothing waits."""
    canceled = replace(
        order, status=OrderStatus.CANCELED, refusal=Refusal.PRICE_CHANGED.value, detail="the price was not there"
    )
    use_key(work, asked, order.id)
    work.emit(OrderCanceled(canceled))
    tell(work, asked, canceled)


# --- dealing ------------------------------------------------------------------------------------------------------------


def carry_out(work: Work, order: Order, decision: Decision, quote: Quote) -> Order:
    """Deal with the house at once, or hand the A part to its provider and wait. Returns the order after it."""
    volume_a = order.filled_a + decision.volume_a
    if order.book is None:  # the record holds one decision per order: the first
        work.emit(OrderRouted(order.id, decision))
    order = replace(order, book=decision.book, volume_a=volume_a)
    if decision.volume_a:
        if not order.filled_volume:
            order = replace(order, status=OrderStatus.PENDING_NEW)
            work.emit(OrderAccepted(order))
        return send_leg(work, order, decision.lp)
    filled = book_fill(work, order, house_fill(work, order, quote))
    filled = replace(filled, status=OrderStatus.FILLED, **NOTHING_RESERVED)
    work.emit(OrderFilled(filled))
    return filled


def close_and_open(work: Work, order: Order, ways: Ways, quote: Quote) -> Order:
    """The closing lots first: the house deals them at once and the rest follows, a provider's answer is waited for."""
    position = work.state.positions[order.position_id]
    if order.book is None:
        work.emit(OrderRouted(order.id, ways.recorded))
    order = replace(order, book=ways.close.book, volume_a=order.filled_a + ways.close.volume_a)
    if ways.close.volume_a:
        return send_close(work, _accepted(work, order), position, ways.close.lp)
    if ways.opening is not None and ways.opening.volume_a:
        order = _accepted(work, order)
    order = book_fill(work, order, replace(house_fill(work, order, quote), volume=order.closing_volume))
    if ways.opening is not None:
        return _open_rest(work, order, ways.opening, quote)
    filled = replace(order, status=OrderStatus.FILLED, **NOTHING_RESERVED)
    work.emit(OrderFilled(filled))
    return filled


def _accepted(work: Work, order: Order) -> Order:
    """Handed to a provider for the first time."""
    if order.filled_volume:
        return order
    order = replace(order, status=OrderStatus.PENDING_NEW)
    work.emit(OrderAccepted(order))
    return order


def _open_rest(work: Work, order: Order, decision: Decision, quote: Quote) -> Order:
    order = carry_out(work, order, decision, quote)
    if not order.is_terminal:
        order = replace(order, status=OrderStatus.PARTIALLY_FILLED)
        work.emit(OrderPartiallyFilled(order))
    return order


def house_fill(work: Work, order: Order, quote: Quote) -> Fill:
    """The house deals what is open of the order at the price its client sees."""
    account = work.account(order.account)
    dealt = deal_with_house(
        quote=quote,
        side=order.side,
        group=work.group_of(account),
        instrument=work.terms_for(account, order.symbol),
        now_us=work.now_us,
    )
    assert isinstance(dealt, HouseFill), "the price was checked before"
    return Fill(book=Book.B, volume=order.open_volume, price=dealt.price)


def trigger(work: Work, order: Order, quote: Quote) -> None:
    """The market has come to a resting order: its stop was reached, or its limit can be dealt."""
    account = work.account(order.account)
    seen = client_quote(quote, work.group_of(account), work.terms_for(account, order.symbol))
    if order.stop_price is not None and not order.is_triggered:
        order = replace(order, is_triggered=True, updated_us=work.now_us)
        work.emit(OrderTriggered(order))
    if is_dealable(order, seen):
        deal_resting(work, account, order, quote, seen)


def deal_resting(work: Work, account: Account, order: Order, quote: Quote, seen: ClientQuote) -> None:
    """Look at the margin once more, route, and deal. Without a provider the order waits on for the next price."""
    resting = order
    if is_netting(work, account):
        if is_busy(work, account.id, order.symbol):
            return
        order = netted(work, order)
    refused = None if order.closes else _check_turn(work, account, order)
    exposure = None
    if refused is None:
        exposure, refused = _margin_for(work, account, order, seen)
    if refused is not None:
        rejected = replace(
            resting,
            status=OrderStatus.CANCELED if order.filled_volume else OrderStatus.REJECTED,
            refusal=refused.code.value,
            detail=refused.detail,
            **NOTHING_RESERVED,
            updated_us=work.now_us,
        )
        work.emit(OrderCanceled(rejected) if order.filled_volume else OrderRejected(rejected))
        return
    _deal_waiting(work, replace(order, **reserved(exposure), updated_us=work.now_us), quote)


def _deal_waiting(work: Work, order: Order, quote: Quote) -> None:
    if order.closes or order.netted:
        ways = ways_of(work, order, quote)
        is_dealt = ways.refused is None
        if is_dealt:
            close_and_open(work, order, ways, quote)
    else:
        decision = route(routing_facts(work, order, quote), work.config.policy)
        is_dealt = not decision.lacks_provider
        if is_dealt:
            carry_out(work, order, decision, quote)
    if is_dealt and order.oco_group:
        cancel_siblings(work, order)


def _check_turn(work: Work, account: Account, order: Order) -> Refused | None:
    """What the order was placed under may have changed while it waited: the sides that may be opened, the guarantee."""
    terms, protection = work.terms_for(account, order.symbol), order.protection
    if protection.is_guaranteed and terms.guarantee is None:
        return Refused(Refusal.NO_GUARANTEE, f"{terms.symbol} has no guaranteed stops any more")
    return check_side(terms, order.side)


# --- margin -------------------------------------------------------------------------------------------------------------


def _margin_for(
    work: Work, account: Account, order: Order, seen: ClientQuote | None
) -> tuple[Exposure | None, Refused | None]:
    """What the order ties up at its expected price, or why it cannot have it."""
    if order.closes:
        return None, check_conversion(work, work.state.positions[order.position_id])
    price = order.price or order.stop_price
    if seen is not None:
        price = expected_price(order, seen) if not order.is_triggered else price or expected_price(order, seen)
    if price is None:
        return None, Refused(Refusal.NO_QUOTES, f"no price for {order.symbol} yet")
    exposure = order_charge(work, order, order.open_volume - order.closing_volume, price)
    return exposure, check_margin(work, account, order, exposure)


def check_margin(work: Work, account: Account, order: Order, exposure: Exposure | None) -> Refused | None:
    """Free margin after the whole order, what it costs included, not below zero."""
    worth = worth_of(work, account)
    result = work.convert(ONE, work.instrument(order.symbol).quote, account.currency)
    costs = expected_costs(work, account, order)
    if exposure is None or worth is None or result is None or costs is None:
        return Refused(Refusal.NO_QUOTES, f"a price that values the account in {account.currency} is missing")
    if order.protection.is_guaranteed:
        costs += guarantee_fee(work, account, order.symbol, order.open_volume)
    gone = _gone_with(work, order)
    after = work.state.margin_of(account.id).margin_if(Intent(closes=gone, opens=(exposure,)))
    policy, digits = work.group_of(account).margin.free_margin, work.config.currency_digits[account.currency]
    if free_margin(worth, after, policy, digits) < costs:
        used = work.state.margin_used(account.id) - sum((exposure.margin for exposure in gone), ZERO)
        need, have = plain(after - used), plain(free_margin(worth, used, policy, digits))
        return Refused(
            Refusal.INSUFFICIENT_MARGIN, f"the order needs {need} {account.currency} of margin, free is {have}"
        )
    return None


def _gone_with(work: Work, order: Order) -> tuple[Exposure, ...]:
    """What the order sets free as it is dealt: what it holds itself, and the position that a reversal closes."""
    before = work.state.orders.get(order.id)
    held = None if before is None else order_exposure(before)
    gone = () if held is None else (held,)
    return (*gone, closed_exposure(work, order)) if order.netted else gone


def money_point(work: Work, account: Account) -> Decimal:
    return point(work.config.currency_digits[account.currency])


# --- changing, taking back, expiring ------------------------------------------------------------------------------------


def modify_order(work: Work, command: ModifyOrder, asked: Asked) -> None:
    order = work.state.orders.get(command.order_id)
    refused = late(work, command) or _check_changeable(order, command.account)
    if refused is not None or order is None:
        refuse(work, asked, refused or Refused(Refusal.ORDER_NOT_FOUND, "the account has no such working order"))
        return
    account = work.account(order.account)
    instrument = work.terms_for(account, order.symbol)
    changed = _changed(work, order, command)
    refused = _check_change(work, command, order, changed, instrument)
    quote = work.quote(order.symbol)
    seen = _seen(work, account, instrument, quote)
    exposure = None
    if refused is None and seen is not None and not order.is_triggered:
        refused = check_against_market(changed, instrument, seen, before=order)
    if refused is None:
        exposure, refused = _margin_for(work, account, changed, seen)
    if refused is not None:
        refuse(work, asked, refused)
        return
    changed = replace(changed, volume=on_grid(changed.volume, instrument.volume_step), **reserved(exposure))
    use_key(work, asked, order.id)
    work.emit(OrderModified(changed))
    if quote is not None and seen is not None and is_dealable(changed, seen):
        deal_resting(work, account, changed, quote, seen)
    tell(work, asked, work.last_order(changed))


def _check_changeable(order: Order | None, account: int) -> Refused | None:
    if order is None or order.account != account or order.closes:
        return Refused(Refusal.ORDER_NOT_FOUND, "the account has no such working order")
    if not order.is_resting:
        return Refused(Refusal.ORDER_LOCKED, "a provider is dealing the order")
    return None


def _changed(work: Work, order: Order, command: ModifyOrder) -> Order:
    """The order on its new terms. What the command leaves out stays; an expiry makes it good till then, 0 good for ever."""
    named = ("volume", "price", "stop_price", "expires_us", "protection")
    terms: dict[str, object] = {name: getattr(command, name) for name in named if getattr(command, name) is not None}
    if command.expires_us is not None:
        terms["time_in_force"] = TimeInForce.GTD if command.expires_us else TimeInForce.GTC
    return replace(order, updated_us=work.now_us, **terms)


def _check_change(
    work: Work, command: ModifyOrder, order: Order, changed: Order, instrument: Instrument
) -> Refused | None:
    if (command.price is not None and order.price is None) or (
        command.stop_price is not None and order.stop_price is None
    ):
        return Refused(Refusal.INVALID_PRICE, f"a {order.type.value} order has no such price")
    if replace(changed, updated_us=order.updated_us) == order:
        return Refused(Refusal.NO_CHANGES, "nothing would change")
    if changed.volume <= order.filled_volume:
        return Refused(Refusal.INVALID_VOLUME, f"{plain(order.filled_volume)} lots are filled already")
    for price in (command.price, command.stop_price):
        refused = None if price is None else check_price_grid(price, instrument)
        if refused:
            return refused
    return (
        check_opening(
            account=work.account(order.account), instrument=instrument, side=order.side, volume=changed.volume
        )
        or _check_new_expiry(command, changed, work.now_us)
        or check_protection_terms(changed.protection, instrument)
        or (None if command.protection is None else check_protection_offer(changed.protection, instrument))
        or check_order_frozen(work, order)
    )


def _check_new_expiry(command: ModifyOrder, changed: Order, now_us: int) -> Refused | None:
    return None if command.expires_us is None else check_expiry(changed.time_in_force, changed.expires_us, now_us)


def cancel_order(work: Work, command: CancelOrder, asked: Asked) -> None:
    order = work.state.orders.get(command.order_id)
    refused = _check_changeable(order, command.account)
    if refused is None and order is not None:
        refused = check_order_frozen(work, order)
    if refused is not None or order is None:
        refuse(work, asked, refused or Refused(Refusal.ORDER_NOT_FOUND, "the account has no such working order"))
        return
    use_key(work, asked, order.id)
    tell(work, asked, take_back(work, order))


def cancel_all(work: Work, command: CancelAll, asked: Asked) -> None:
    """Those that a provider is dealing, and those too near their price, are left to their outcome. The answer's reference is
    how many were taken back."""
    if command.account not in work.state.accounts:
        refuse(work, asked, Refused(Refusal.UNKNOWN_ACCOUNT, "there is no such account"))
        return
    resting = [
        order
        for order in work.state.orders.values()
        if order.account == command.account
        and order.is_resting
        and command.symbol in ("", order.symbol)
        and check_order_frozen(work, order) is None
    ]
    use_key(work, asked, len(resting))
    for order in resting:
        take_back(work, order)
    answer = Answer(command_id=asked.command.id, reference=len(resting))
    work.answer(asked.command.reply_to, answer)


def take_back(work: Work, order: Order, detail: str = "") -> Order:
    """Cancel a resting order; `detail` says why, where its owner did not ask for it."""
    why = detail or order.detail
    canceled = replace(order, status=OrderStatus.CANCELED, **NOTHING_RESERVED, updated_us=work.now_us, detail=why)
    work.emit(OrderCanceled(canceled))
    return canceled


def expire_orders(work: Work, command: ExpireOrders, asked: Asked) -> None:
    """Every resting order whose time has come, and what else waits for time to pass: fills that are missing for too long,
    and error holdings. Asking again finds nothing more to do."""
    ended = [o for o in work.state.orders.values() if o.is_resting and is_expired(o, work.now_us)]
    for order in ended:
        work.emit(OrderExpired(replace(order, status=OrderStatus.EXPIRED, **NOTHING_RESERVED, updated_us=work.now_us)))
    look_for_gaps(work)
    flatten_all(work)
    answer = Answer(command_id=command.id, reference=len(ended))
    work.answer(asked.command.reply_to, answer)


def is_expired(order: Order, now_us: int) -> bool:
    return bool(order.expires_us) and now_us >= order.expires_us
