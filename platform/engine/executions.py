"""What a provider said, applied: once, to whom it belongs, and never dropped in silence.

A fill belongs to the client until a terminal state was told to the client; what comes late, in excess or about something
unknown becomes a case for the dealer, and the house's, not the client's. Status answers are compared, never booked.
"""

from decimal import Decimal

from msgspec.structs import replace

from engine.costs import can_charge
from engine.fills import Fill, book_fill
from engine.following import unlock
from engine.netting import as_opening, opening_route
from engine.oco import cancel_siblings
from engine.orders import carry_out, is_dealable, is_expired
from engine.rollover import can_roll
from engine.routes import lots, price_from_provider, routing_facts, send_leg
from engine.work import Work
from routing.engine import route
from routing.providers import next_provider
from trading.answers import Answer
from trading.checks import Refused, check_price, check_spread
from trading.commands import ApplyExecution
from trading.decisions import Decision
from trading.events import (
    CaseOpened,
    ChildOrderUpdated,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderPartiallyFilled,
    OrderRejected,
)
from trading.instructions import IMMEDIATE
from trading.instruments import TradeMode
from trading.liquidity import Case, CaseKind, ExecutionReport, LegStatus, LpOrder, ReportKind
from trading.margining.exposures import NOTHING_RESERVED
from trading.numbers import ONE, ZERO, plain, round_to_step
from trading.orders import Book, Order, OrderStatus, OrderType
from trading.pricing import client_quote
from trading.refusals import Refusal


def apply_execution(work: Work, command: ApplyExecution, finished_leg: LpOrder | None) -> None:
    """Apply one inbox row. `finished_leg` is the leg from the database when it is no longer live."""
    report = command.report
    cursors = work.state.inbox_cursors
    assert command.inbox_seq == cursors.get(report.lp, 0) + 1, "inbox rows are applied in order, without a gap"
    cursors[report.lp] = command.inbox_seq
    leg = work.state.legs.get(report.cl_ord_id)
    if leg is None:
        _about_no_live_leg(work, report, finished_leg)
        return
    match report.kind:
        case ReportKind.FILL:
            _fill(work, leg, report)
        case ReportKind.CANCELED:
            _end_leg(work, leg, LegStatus.CANCELED, report)
        case ReportKind.REJECTED | ReportKind.NOT_SENT:
            _end_leg(work, leg, LegStatus.REJECTED, report)
        case ReportKind.ACKNOWLEDGED:
            _acknowledge(work, leg, report)
        case ReportKind.STATUS:
            _compare_status(work, leg, report)
        case ReportKind.OTHER:
            _open_case(work, CaseKind.UNHANDLED_REPORT, report, leg)


def is_valuable(work: Work, report: ExecutionReport) -> bool:
    """False for a fill that cannot be valued yet because a conversion price was not seen since the start."""
    leg = work.state.legs.get(report.cl_ord_id)
    if report.kind is not ReportKind.FILL or leg is None:
        return True
    instrument, account = work.instrument(leg.symbol), work.account(leg.account)
    if any(work.convert(ONE, currency, account.currency) is None for currency in (instrument.base, instrument.quote)):
        return False
    order = work.state.orders[leg.order_id]
    position = work.state.positions.get(order.position_id)
    return can_charge(work, account, leg.symbol) and (position is None or can_roll(work, position))


def _about_no_live_leg(work: Work, report: ExecutionReport, finished: LpOrder | None) -> None:
    """Repetitions about a finished leg are quiet; a new fill, or anything about an unknown order, is a case."""
    if finished is None:
        _open_case(work, CaseKind.ORPHAN_REPORT, report, None)
    elif report.kind is ReportKind.FILL and report.fill_key not in finished.exec_ids:
        _open_case(work, CaseKind.LATE_FILL, report, finished)
    elif report.denies_order or _tells_another_quantity(work, report, finished):
        _open_case(work, CaseKind.STATUS_MISMATCH, report, finished)
    elif report.kind is ReportKind.OTHER:
        _open_case(work, CaseKind.UNHANDLED_REPORT, report, finished)


def _tells_another_quantity(work: Work, report: ExecutionReport, leg: LpOrder) -> bool:
    return report.kind is ReportKind.STATUS and lots(work, leg.symbol, report.cum_qty) != leg.filled_volume


def _open_case(work: Work, kind: CaseKind, report: ExecutionReport, leg: LpOrder | None) -> None:
    case = Case(
        id=work.state.counters.case,
        kind=kind,
        lp=report.lp,
        lp_order_id=leg.id if leg else 0,
        report=report,
        opened_us=work.now_us,
    )
    work.emit(CaseOpened(case))


def _acknowledge(work: Work, leg: LpOrder, report: ExecutionReport) -> None:
    if report.lp_order_id and report.lp_order_id != leg.lp_order_id:
        work.emit(ChildOrderUpdated(replace(leg, lp_order_id=report.lp_order_id, updated_us=work.now_us)))


def _compare_status(work: Work, leg: LpOrder, report: ExecutionReport) -> None:
    """The provider's own view of a live leg: if it ended there without our hearing of it, believe a matching quantity only."""
    if _tells_another_quantity(work, report, leg):
        _open_case(work, CaseKind.STATUS_MISMATCH, report, leg)
    elif report.ord_status in {"4", "C"}:
        _end_leg(work, leg, LegStatus.CANCELED, report)
    elif report.ord_status == "8":
        _end_leg(work, leg, LegStatus.REJECTED, report)


# --- Fills --------------------------------------------------------------------------------------------------------------


def _fill(work: Work, leg: LpOrder, report: ExecutionReport) -> None:
    if report.fill_key in leg.exec_ids:
        return
    if report.side is not leg.side or report.lp_symbol not in ("", leg.lp_symbol) or report.last_qty <= 0:
        _open_case(work, CaseKind.MISMATCHED_FILL, report, leg)
        return
    offered = lots(work, leg.symbol, report.last_qty)
    volume = min(offered, leg.volume - leg.filled_volume)
    if offered > volume:
        _open_case(work, CaseKind.EXCESS_FILL, report, leg)
    after = _leg_after(work, leg, report, volume)
    work.emit(ChildOrderUpdated(after))
    _book(work, leg, report, volume)


def _leg_after(work: Work, leg: LpOrder, report: ExecutionReport, volume: Decimal) -> LpOrder:
    filled = leg.filled_volume + volume
    return replace(
        leg,
        filled_volume=filled,
        filled_cost=leg.filled_cost + report.last_px * volume,
        status=LegStatus.FILLED if filled == leg.volume else LegStatus.PARTIALLY_FILLED,
        exec_ids=(*leg.exec_ids, report.fill_key),
        lp_order_id=report.lp_order_id or leg.lp_order_id,
        updated_us=work.now_us,
    )


def _book(work: Work, leg: LpOrder, report: ExecutionReport, volume: Decimal) -> None:
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


# --- Ends ---------------------------------------------------------------------------------------------------------------


def _end_leg(work: Work, leg: LpOrder, status: LegStatus, report: ExecutionReport) -> None:
    """The rest of the leg will not be filled: try the next provider when nothing was, else the order ends here.

    A provider that denies an order which left us is believed, since it is never sent again; a dealer hears of it, and a
    fill that comes after all is the house's.
    """
    if report.denies_order:
        _open_case(work, CaseKind.STATUS_MISMATCH, report, leg)
    ended = replace(
        leg,
        status=LegStatus.CANCELED if leg.filled_volume else status,
        lp_order_id=report.lp_order_id or leg.lp_order_id,
        text=report.text[:200],
        updated_us=work.now_us,
    )
    work.emit(ChildOrderUpdated(ended))
    order = work.state.orders[leg.order_id]
    if _waits_on(order, work.now_us):
        _rest_again(work, order)
    elif leg.filled_volume or not _try_next(work, order):
        _end_order(work, order, report)


def _end_order(work: Work, order: Order, report: ExecutionReport) -> None:
    if order.filled_volume:
        _cancel_rest(work, order)
    else:
        _reject(work, order, report)


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


def _reject(work: Work, order: Order, report: ExecutionReport) -> None:
    detail = report.text[:200] or "the provider gave no reason"
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
