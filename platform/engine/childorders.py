"""What a leg's fills and its end mean to the client's order that it was sent for: the deal, the house's part, the next
provider, or the order's end.

A fill is passed on at the provider's price with the markup; what the house deals alongside follows in proportion.
"""

from decimal import Decimal

from msgspec.structs import replace

from engine.fills import Fill, book_fill
from engine.following import unlock
from engine.netting import as_opening, opening_route
from engine.oco import cancel_siblings
from engine.orders import carry_out, is_dealable, is_expired
from engine.routes import price_from_provider, routing_facts, send_leg
from engine.work import Work
from routing.engine import route
from routing.providers import next_provider
from trading.answers import Answer
from trading.checks import Refused, check_price, check_spread
from trading.decisions import Decision
from trading.events import OrderAccepted, OrderCanceled, OrderFilled, OrderPartiallyFilled, OrderRejected
from trading.instructions import IMMEDIATE
from trading.instruments import TradeMode
from trading.liquidity import ExecutionReport, LpOrder
from trading.margining.exposures import NOTHING_RESERVED
from trading.numbers import ZERO, plain, round_to_step
from trading.orders import Book, Order, OrderStatus, OrderType
from trading.pricing import client_quote
from trading.refusals import Refusal


def book_client_fill(work: Work, leg: LpOrder, report: ExecutionReport, volume: Decimal) -> None:
    """The client's fill from the provider's: its price as the client gets it; the house's part follows in proportion."""
    order = work.state.orders[leg.order_id]
    price = price_from_provider(work, order, leg, report.last_px)
    house = _house_part(work, order, leg, volume)
    fill = Fill(
        book=Book.A,
        volume=volume,
        price=price,
        lp=leg.lp,
        exec_id=report.exec_id,
        lp_price=report.last_px,
        dealable_us=leg.created_us,
    )
    order = book_fill(work, order, fill)
    if house:
        order = book_fill(work, order, Fill(book=Book.B, volume=house, price=price, dealable_us=leg.created_us))
    if order.filled_volume == order.volume:
        _finish(work, OrderFilled(replace(order, status=OrderStatus.FILLED, **NOTHING_RESERVED)))
    else:
        order = replace(order, status=OrderStatus.PARTIALLY_FILLED)
        work.emit(OrderPartiallyFilled(order))
        if order.netted == order.filled_volume:
            _open_rest(work, order)
    if order.oco_group:
        cancel_siblings(work, order)


def _house_part(work: Work, order: Order, leg: LpOrder, volume: Decimal) -> Decimal:
    """What the house deals alongside: its share of the A part filled so far, less what it dealt before; all at the end.

    A reversal's closing lots and its opening ones are counted apart.
    """
    is_rest = ZERO < order.netted <= order.filled_volume
    before, before_a = (order.netted, order.filled_a - leg.filled_volume) if is_rest else (ZERO, ZERO)
    whole = (order.netted if order.netted > order.filled_volume else order.volume) - before
    volume_a, filled_a = order.volume_a - before_a, order.filled_a - before_a
    volume_b, done = whole - volume_a, order.filled_volume - before - filled_a
    if filled_a + volume == volume_a:
        return volume_b - done
    step = work.instrument(order.symbol).volume_step
    return max(min(round_to_step(volume_b * (filled_a + volume) / volume_a, step), volume_b) - done, ZERO)


def _open_rest(work: Work, order: Order) -> None:
    """A reversal's close has filled: the rest opens the other way now, or never. A limit may wait for its price again."""
    order = replace(order, attempts=(), updated_us=work.now_us)
    decision, refused = _opening_now(work, order)
    if refused is None and decision is not None:
        carried = carry_out(work, order, decision, decision.quote)
        if carried.is_terminal:
            _answer_waiter(work, carried)
    elif _waits_on(order, work.now_us):
        _rest_again(work, order)
    else:
        _cancel_rest(work, order, refused)


def _opening_now(work: Work, order: Order) -> tuple[Decision | None, Refused | None]:
    account = work.account(order.account)
    instrument, quote = work.terms_for(account, order.symbol), work.quote(order.symbol)
    if instrument.trade_mode is TradeMode.HALTED:
        return None, Refused(Refusal.MARKET_CLOSED, f"{instrument.symbol} is halted")
    refused = check_price(instrument, quote, work.now_us)
    if refused is not None or quote is None:
        return None, refused
    if not is_dealable(order, client_quote(quote, work.group_of(account), instrument)):
        return None, Refused(Refusal.PRICE_CHANGED, "the price was not there any more")
    decision = opening_route(work, order, order.open_volume, quote)
    lacking = Refused(Refusal.NO_CONNECTION, "no liquidity provider can take the rest now")
    return decision, lacking if decision.lacks_provider else None


def end_client_order(work: Work, leg: LpOrder) -> None:
    """The rest of the leg will not be filled: try the next provider when nothing was, else the order ends here; a limit may
    wait again."""
    order = work.state.orders[leg.order_id]
    if _waits_on(order, work.now_us):
        _rest_again(work, order)
    elif leg.filled_volume or not _try_next(work, order):
        _end_order(work, order, leg.text)


def give_up_client_order(work: Work, leg: LpOrder) -> None:
    """The same without another provider: the order is too old for a new price."""
    order = work.state.orders[leg.order_id]
    if _waits_on(order, work.now_us):
        _rest_again(work, order)
    else:
        _end_order(work, order, leg.text)


def _end_order(work: Work, order: Order, text: str) -> None:
    if order.filled_volume:
        _cancel_rest(work, order)
    else:
        _reject(work, order, text)


def _waits_on(order: Order, now_us: int) -> bool:
    """A limit order that its provider did not fill goes back to waiting for its price, until its time is over."""
    is_limit = order.type in {OrderType.LIMIT, OrderType.STOP_LIMIT}
    return is_limit and order.time_in_force not in IMMEDIATE and not is_expired(order, now_us)


def _rest_again(work: Work, order: Order) -> None:
    """The A part is what was filled of it; the next price decides anew where the rest goes, and what it closes."""
    if order.is_closing:
        unlock(work, order)
    order = as_opening(order)
    status = OrderStatus.PARTIALLY_FILLED if order.filled_volume else OrderStatus.NEW
    resting = replace(order, status=status, volume_a=order.filled_a, attempts=(), updated_us=work.now_us)
    work.emit(OrderPartiallyFilled(resting) if order.filled_volume else OrderAccepted(resting))
    _answer_waiter(work, resting)


def _try_next(work: Work, order: Order) -> bool:
    """Another provider for an opening order, best first, each tried once. A close goes nowhere but where it was opened."""
    quote = work.quote(order.symbol)
    if order.is_closing or quote is None or len(order.attempts) >= work.config.lp_attempts_max:
        return False
    account = work.account(order.account)
    if check_spread(work.terms_for(account, order.symbol), work.group_of(account), quote) is not None:
        return False
    facts = routing_facts(work, order, quote)
    candidate = next_provider(facts, route(facts, work.config.policy), order.attempts)
    if candidate is None:
        return False
    send_leg(work, order, candidate.lp)
    return True


def _reject(work: Work, order: Order, text: str) -> None:
    detail = text or "the provider gave no reason"
    if order.is_closing:
        unlock(work, order)
    rejected = replace(
        order,
        status=OrderStatus.REJECTED,
        refusal=Refusal.REJECTED_BY_LP.value,
        detail=detail,
        **NOTHING_RESERVED,
        updated_us=work.now_us,
    )
    _finish(work, OrderRejected(rejected))


def _cancel_rest(work: Work, order: Order, refused: Refused | None = None) -> None:
    if order.is_closing:
        unlock(work, order)
    refused = refused or Refused(Refusal.REJECTED_BY_LP, f"{plain(order.open_volume)} lots found no liquidity")
    canceled = replace(
        order,
        status=OrderStatus.CANCELED,
        refusal=refused.code.value,
        detail=refused.detail,
        **NOTHING_RESERVED,
        updated_us=work.now_us,
    )
    _finish(work, OrderCanceled(canceled))


def _finish(work: Work, event: OrderFilled | OrderRejected | OrderCanceled) -> None:
    work.emit(event)
    _answer_waiter(work, event.order)


def _answer_waiter(work: Work, order: Order) -> None:
    """The final answer that was owed."""
    waiter = work.state.waiters.pop(order.id, None)
    if waiter is not None:
        answer = Answer(
            command_id=waiter.command_id, refusal=order.refusal, detail=order.detail, reference=order.id, order=order
        )
        work.answer(waiter.reply_to, answer)
