"""What a provider said, applied: once, to whom it belongs, and never dropped in silence.

`trading.liquidity.REACTIONS` says what a report means where its leg stands; here is how each reaction is done. A fill belongs
to the client until a terminal state was told to the client; what comes late, in excess or about something unknown is a case for
the dealer and lots in the house's error account. Status answers are compared, never booked.

Reports may come in any order. A leg that is told to have ended waits for the fills that its provider counts; so what is left in
the end is the same whichever came first.
"""

from collections.abc import Callable
from decimal import Decimal

from msgspec.structs import replace

from engine import errors
from engine.busts import re_price, reverse, was_taken_back
from engine.cases import Known, keep_execution, known_executions, open_case
from engine.childorders import book_client_fill, end_client_order, give_up_client_order
from engine.costs import can_charge
from engine.gaps import gap_after, tell_of_gap
from engine.rollover import can_roll
from engine.routes import lots
from engine.state import Prior
from engine.work import Work
from trading.checks import check_price
from trading.commands import ApplyExecution
from trading.desk import ErrorReason
from trading.events import ChildOrderUpdated
from trading.liquidity import (
    KEYED,
    REACTIONS,
    CaseKind,
    ExecutionReport,
    LegStatus,
    LpOrder,
    Owner,
    Reaction,
    ReportKind,
    is_settled,
)
from trading.numbers import ONE

TEXT_MAX = 200
ENDS = {"4": LegStatus.CANCELED, "C": LegStatus.CANCELED, "3": LegStatus.CANCELED, "8": LegStatus.REJECTED}
"""OrdStatus(39) of an order that is over: canceled, expired, done for the day, rejected."""


def apply_execution(work: Work, command: ApplyExecution, prior: Prior) -> None:
    """Apply one inbox row. `prior` has the leg when it is no longer live, and what is stored about the report's executions."""
    report = command.report
    cursors = work.state.inbox_cursors
    assert command.inbox_seq == cursors.get(report.lp, 0) + 1, "inbox rows are applied in order, without a gap"
    cursors[report.lp] = command.inbox_seq
    live = work.state.legs.get(report.cl_ord_id)
    leg = prior.leg if live is None else live
    if leg is not None and leg.lp != report.lp:
        leg = None  # somebody else's order: to this provider it is unknown
    known: Known = {}
    if report.kind in KEYED:
        known = known_executions(work, report, prior)
        if _was_heard(work, leg, report, known):
            return
    _HANDLERS[REACTIONS[_status(leg, is_live=live is not None)][report.kind]](work, leg, report, known)


def is_valuable(work: Work, report: ExecutionReport) -> bool:
    """False for a fill that cannot be valued yet because a conversion price was not seen since the start."""
    leg = work.state.legs.get(report.cl_ord_id)
    return report.kind is not ReportKind.FILL or leg is None or not leg.order_id or can_book(work, leg)


def can_book(work: Work, leg: LpOrder) -> bool:
    """Whether a fill of a client's leg can be valued now."""
    instrument, account = work.instrument(leg.symbol), work.account(leg.account)
    if any(work.convert(ONE, currency, account.currency) is None for currency in (instrument.base, instrument.quote)):
        return False
    order = work.state.orders[leg.order_id]
    position = work.state.positions.get(order.position_id)
    return can_charge(work, account, leg.symbol) and (position is None or can_roll(work, position))


def _status(leg: LpOrder | None, *, is_live: bool) -> LegStatus | None:
    if leg is None or is_live or leg.status.is_terminal:
        return leg.status if leg else None
    return LegStatus.CANCELED


def _was_heard(work: Work, leg: LpOrder | None, report: ExecutionReport, known: Known) -> bool:
    """True for a repetition, which is quiet, and for another thing under an ExecID that was used: that one is a case."""
    same = known.get((report.lp, report.exec_id, report.trade_date))
    if same is None:  # fills that were dealt before executions were kept are known to their legs only
        return report.kind is ReportKind.FILL and leg is not None and report.fill_key in leg.exec_ids
    if same.content != report.content:
        open_case(work, CaseKind.CONFLICTING_FILL, report, leg)
    return True


# --- Of a live leg ------------------------------------------------------------------------------------------------------


def _learned(work: Work, leg: LpOrder, report: ExecutionReport) -> LpOrder:
    """The leg with what the report tells besides its fill: the provider's number, and how much it counts."""
    told = max(leg.told_cum, lots(work, leg.symbol, report.cum_qty))
    return gap_after(replace(leg, told_cum=told, lp_order_id=report.lp_order_id or leg.lp_order_id), work.now_us)


def _keep(work: Work, before: LpOrder, after: LpOrder) -> None:
    if after != before:
        work.emit(ChildOrderUpdated(replace(after, updated_us=work.now_us)))


def _acknowledge(work: Work, leg: LpOrder, report: ExecutionReport, _known: Known) -> None:
    _keep(work, leg, tell_of_gap(work, _learned(work, leg, report), report))


def _deal(work: Work, leg: LpOrder, report: ExecutionReport, known: Known) -> None:
    if was_taken_back(report, known):
        _set_aside(work, CaseKind.CONFLICTING_FILL, leg, report)
    elif _is_other(leg, report):
        _to_house(work, leg, report, CaseKind.MISMATCHED_FILL, ErrorReason.MISMATCHED_FILL)
    elif _is_far(work, leg, report.last_px):
        _set_aside(work, CaseKind.PRICE_OUT_OF_RANGE, leg, report)
        _keep(work, leg, replace(_learned(work, leg, report), is_in_case=True))
    else:
        deal_leg(work, leg, report)


def _is_far(work: Work, leg: LpOrder, price: Decimal) -> bool:
    """Farther from the middle of a fresh market than the symbol, else the firm, allows."""
    instrument = work.instrument(leg.symbol)
    limit = instrument.controls.fill_deviation_percent
    limit = work.config.fill_deviation_percent if limit is None else limit
    quote = work.quote(leg.symbol) if limit is not None else None
    if limit is None or quote is None or check_price(instrument, quote, work.now_us) is not None:
        return False
    middle = (quote.bid + quote.ask) / 2
    return abs(price - middle) * 100 > middle * limit


def deal_leg(work: Work, leg: LpOrder, report: ExecutionReport) -> None:
    """Book a fill of a live leg: to its client as far as the leg goes, beyond it to the house."""
    offered = lots(work, leg.symbol, report.last_qty)
    volume = min(offered, leg.volume - leg.filled_volume)
    filled = leg.filled_volume + volume
    after = replace(
        leg,
        filled_volume=filled,
        filled_cost=leg.filled_cost + report.last_px * volume,
        status=LegStatus.FILLED if filled == leg.volume else LegStatus.PARTIALLY_FILLED,
        exec_ids=(*leg.exec_ids, report.fill_key),
    )
    after = tell_of_gap(work, _learned(work, after, report), report)
    _keep(work, leg, after)
    keep_execution(
        work, report, Owner.CLIENT if leg.order_id else Owner.HOUSE, symbol=leg.symbol, volume=offered, side=leg.side
    )
    if leg.order_id:
        book_client_fill(work, leg, report, volume)
    else:
        _book_house(work, leg, report, volume, ErrorReason.FLATTENED)
    if offered > volume:
        open_case(work, CaseKind.EXCESS_FILL, report, leg)
        errors.halt(work, leg.lp, leg.symbol)
        _book_house(work, leg, report, offered - volume, ErrorReason.EXCESS_FILL)
    if after.status is LegStatus.FILLED:
        errors.after_leg(work, after)
    elif after.told_end is not None and not after.missing:
        end_leg(work, after)


def _book_house(work: Work, leg: LpOrder, report: ExecutionReport, volume: Decimal, reason: ErrorReason) -> None:
    errors.take(work, report, symbol=leg.symbol, volume=leg.side.sign * volume, price=report.last_px, reason=reason)


def _end(work: Work, leg: LpOrder, report: ExecutionReport, _known: Known) -> None:
    """A provider that denies an order which left us is believed, since it is never sent again; a dealer hears of it, and a
    fill that comes after all is the house's."""
    if report.denies_order:
        open_case(work, CaseKind.STATUS_MISMATCH, report, leg)
    _told_end(work, leg, report, LegStatus.CANCELED if report.kind is ReportKind.CANCELED else LegStatus.REJECTED)


def _end_in_doubt(work: Work, leg: LpOrder, report: ExecutionReport, known: Known) -> None:
    open_case(work, CaseKind.STATUS_MISMATCH, report, leg)
    _end(work, leg, report, known)


def _told_end(work: Work, leg: LpOrder, report: ExecutionReport, status: LegStatus) -> None:
    after = _learned(work, replace(leg, told_end=status, text=report.text[:TEXT_MAX]), report)
    if after.missing:
        _keep(work, leg, tell_of_gap(work, after, report))
    else:
        end_leg(work, after)


def end_leg(work: Work, leg: LpOrder) -> None:
    """Nothing more comes, and everything that was dealt is booked."""
    ended = _ended(work, leg)
    if leg.order_id:
        end_client_order(work, ended)
    errors.after_leg(work, ended)


def give_up_leg(work: Work, leg: LpOrder) -> None:
    """The same by a dealer's word, however much the provider counts; the order goes nowhere else."""
    ended = _ended(work, leg)
    if leg.order_id:
        give_up_client_order(work, ended)
    errors.after_leg(work, ended)


def _ended(work: Work, leg: LpOrder) -> LpOrder:
    status = LegStatus.CANCELED if leg.filled_volume else leg.told_end or LegStatus.CANCELED
    ended = replace(leg, status=status, gap_us=0, updated_us=work.now_us)
    work.emit(ChildOrderUpdated(ended))
    return ended


def _compare(work: Work, leg: LpOrder, report: ExecutionReport, _known: Known) -> None:
    """The provider's own view of a live leg. One that ended with less than was dealt contradicts itself: it is not believed."""
    status = ENDS.get(report.ord_status)
    if status is None:
        _keep(work, leg, tell_of_gap(work, _learned(work, leg, report), report))
    elif lots(work, leg.symbol, report.cum_qty) >= leg.filled_volume:
        _told_end(work, leg, report, status)
    elif not leg.is_in_case:
        open_case(work, CaseKind.STATUS_MISMATCH, report, leg)
        _keep(work, leg, replace(leg, is_in_case=True))


def _ask_dealer(work: Work, leg: LpOrder, report: ExecutionReport, _known: Known) -> None:
    if not leg.is_in_case:
        open_case(work, CaseKind.UNRESOLVED_ORDER, report, leg)
        _keep(work, leg, replace(leg, is_in_case=True))


# --- Of no live leg -----------------------------------------------------------------------------------------------------


def _take_late(work: Work, leg: LpOrder, report: ExecutionReport, known: Known) -> None:
    if was_taken_back(report, known) or _may_be_settled(leg, report):
        _set_aside(work, CaseKind.CONFLICTING_FILL, leg, report)
    else:
        _to_house(work, leg, report, CaseKind.LATE_FILL, ErrorReason.LATE_FILL)


def _take_excess(work: Work, leg: LpOrder, report: ExecutionReport, known: Known) -> None:
    if was_taken_back(report, known) or _may_be_settled(leg, report):
        _set_aside(work, CaseKind.CONFLICTING_FILL, leg, report)
    else:
        errors.halt(work, leg.lp, leg.symbol)
        _to_house(work, leg, report, CaseKind.EXCESS_FILL, ErrorReason.EXCESS_FILL)


def _may_be_settled(leg: LpOrder, report: ExecutionReport) -> bool:
    """Whether the desk may have booked this fill already. What it settled was of the order's own side and symbol."""
    return is_settled(leg) and not _is_other(leg, report)


def _is_other(leg: LpOrder, report: ExecutionReport) -> bool:
    """Not what the leg ordered."""
    return report.side is not leg.side or report.lp_symbol not in ("", leg.lp_symbol) or report.last_qty <= 0


def _take_orphan(work: Work, leg: LpOrder | None, report: ExecutionReport, known: Known) -> None:
    if was_taken_back(report, known):
        _set_aside(work, CaseKind.CONFLICTING_FILL, leg, report)
    else:
        _to_house(work, leg, report, CaseKind.ORPHAN_REPORT, ErrorReason.ORPHAN_FILL)


def _to_house(work: Work, leg: LpOrder | None, report: ExecutionReport, kind: CaseKind, reason: ErrorReason) -> None:
    """Into the error account under the report's own symbol and side; only a case where these cannot be told."""
    symbol = _symbol_of(work, leg, report)
    if not symbol or report.side is None or report.last_qty <= 0:
        _set_aside(work, kind, leg, report)
        return
    volume = lots(work, symbol, report.last_qty)
    open_case(work, kind, report, leg)
    keep_execution(work, report, Owner.HOUSE, symbol=symbol, volume=volume, side=report.side)
    errors.take(work, report, symbol=symbol, volume=report.side.sign * volume, price=report.last_px, reason=reason)
    errors.flatten(work, report.lp, symbol)


def _symbol_of(work: Work, leg: LpOrder | None, report: ExecutionReport) -> str:
    """Our name of what was dealt; empty where it cannot be told."""
    if leg is not None and report.lp_symbol in ("", leg.lp_symbol):
        return leg.symbol if leg.symbol in work.config.instruments else ""
    provider = work.config.lps.get(report.lp)
    traded = provider.instruments.items() if provider else ()
    return next((symbol for symbol, terms in traded if terms.lp_symbol == report.lp_symbol), "")


def _set_aside(work: Work, kind: CaseKind, leg: LpOrder | None, report: ExecutionReport) -> None:
    """A case, and nothing else: but a repetition is known as one."""
    open_case(work, kind, report, leg)
    keep_execution(work, report, Owner.NOBODY, side=report.side)


def _compare_ended(work: Work, leg: LpOrder, report: ExecutionReport, _known: Known) -> None:
    """More than was dealt, or an end with less: a lesser quantity alone may be old news."""
    if leg.symbol not in work.config.instruments:
        open_case(work, CaseKind.UNHANDLED_REPORT, report, leg)
        return
    told = lots(work, leg.symbol, report.cum_qty)
    is_other = told > leg.filled_volume or (report.ord_status in ENDS and told < leg.filled_volume)
    if report.denies_order or is_other:
        open_case(work, CaseKind.STATUS_MISMATCH, report, leg)


def _show_dealer(work: Work, leg: LpOrder, report: ExecutionReport, _known: Known) -> None:
    open_case(work, CaseKind.UNHANDLED_REPORT, report, leg)


def _show_orphan(work: Work, leg: LpOrder | None, report: ExecutionReport, _known: Known) -> None:
    open_case(work, CaseKind.ORPHAN_REPORT, report, leg)


def _quiet(work: Work, leg: LpOrder, report: ExecutionReport, _known: Known) -> None:
    """Known already."""


_HANDLERS: dict[Reaction, Callable[..., None]] = {
    Reaction.ACKNOWLEDGE: _acknowledge,
    Reaction.DEAL: _deal,
    Reaction.END: _end,
    Reaction.END_IN_DOUBT: _end_in_doubt,
    Reaction.COMPARE: _compare,
    Reaction.ASK_DEALER: _ask_dealer,
    Reaction.REVERSE: reverse,
    Reaction.RE_PRICE: re_price,
    Reaction.SHOW_DEALER: _show_dealer,
    Reaction.TAKE_LATE: _take_late,
    Reaction.TAKE_EXCESS: _take_excess,
    Reaction.TAKE_ORPHAN: _take_orphan,
    Reaction.SHOW_ORPHAN: _show_orphan,
    Reaction.COMPARE_ENDED: _compare_ended,
    Reaction.QUIET: _quiet,
}
