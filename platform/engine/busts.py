"""Executions that a provider takes back (150=H) or changes (150=G).

The house's side follows at once, through the error account: it gets the opposite of what was taken back, at that price, and for
a correction what was dealt instead. What the client was dealt stands; a case tells two people to decide about it.
"""

from engine import errors
from engine.cases import Known, keep_execution, open_case
from engine.routes import lots
from engine.work import Work
from trading.desk import ErrorReason
from trading.liquidity import CaseKind, Execution, ExecutionReport, LpOrder, Owner, ReportKind


def was_taken_back(fill: ExecutionReport, known: Known) -> bool:
    """Whether a bust of this fill was here before the fill itself."""
    return any(
        x.kind is ReportKind.BUST and (x.ref, x.trade_date) == (fill.exec_id, fill.trade_date) for x in known.values()
    )


def reverse(work: Work, leg: LpOrder | None, report: ExecutionReport, known: Known) -> None:
    """Take back the execution that the report names, if it counts."""
    fill, standing = _countable(work, report, known)
    ref = fill.exec_id if fill else report.exec_ref_id
    if standing is None:
        open_case(work, CaseKind.UNMATCHED_BUST, report, leg)
        keep_execution(work, report, Owner.NOBODY, ref=ref, side=report.side)
        return
    open_case(work, CaseKind.BUSTED_FILL, report, leg)
    keep_execution(work, report, standing.owner, symbol=standing.symbol, ref=ref, side=standing.side)
    if standing.owner is not Owner.NOBODY:
        _undo(work, report, standing, ErrorReason.BUST)
        errors.flatten(work, report.lp, standing.symbol)


def re_price(work: Work, leg: LpOrder | None, report: ExecutionReport, known: Known) -> None:
    """Give the execution that the report names another quantity or price."""
    fill, standing = _countable(work, report, known)
    ref = fill.exec_id if fill else report.exec_ref_id
    if standing is None or report.side not in (None, standing.side):
        open_case(work, CaseKind.UNMATCHED_BUST, report, leg)
        keep_execution(work, report, Owner.NOBODY, ref=ref, side=report.side)
        return
    open_case(work, CaseKind.CORRECTED_FILL, report, leg)
    if standing.owner is Owner.NOBODY or standing.side is None:
        keep_execution(work, report, Owner.NOBODY, ref=ref, side=standing.side)
        return
    volume = lots(work, standing.symbol, report.last_qty)
    keep_execution(work, report, standing.owner, symbol=standing.symbol, volume=volume, ref=ref, side=standing.side)
    _undo(work, report, standing, ErrorReason.CORRECTION)
    if volume:
        errors.take(
            work,
            report,
            symbol=standing.symbol,
            volume=standing.side.sign * volume,
            price=report.last_px,
            reason=ErrorReason.CORRECTION,
        )
    errors.flatten(work, report.lp, standing.symbol)


def _undo(work: Work, report: ExecutionReport, standing: Execution, reason: ErrorReason) -> None:
    if standing.volume:
        errors.take(
            work,
            report,
            symbol=standing.symbol,
            volume=-standing.signed_volume,
            price=standing.price,
            reason=reason,
        )


def _countable(work: Work, report: ExecutionReport, known: Known) -> tuple[Execution | None, Execution | None]:
    """As `_named`; lots of before a split of the symbol are in other units, and those of a symbol that is not offered any more
    cannot be valued, so nothing is booked about them either."""
    fill, standing = _named(report, known)
    if standing is None or not standing.symbol:
        return fill, standing
    is_split = work.state.desk.split_us(standing.symbol) >= standing.at_us
    return fill, None if is_split or standing.symbol not in work.config.instruments else standing


def _named(report: ExecutionReport, known: Known) -> tuple[Execution | None, Execution | None]:
    """(the fill that the report is about, what of it counts now: itself or its last correction; None once it was taken back)

    A provider may name the fill or a correction of it. ExecIDs may begin anew each day: the newest of that name is meant.
    """
    by_time = sorted(known.values(), key=lambda x: x.at_us)
    named = [x for x in by_time if x.exec_id == report.exec_ref_id and x.kind is not ReportKind.BUST]
    if not named:
        return None, None
    root = named[-1].ref or named[-1].exec_id
    fills = [x for x in by_time if x.exec_id == root and x.kind is ReportKind.FILL]
    if not fills:
        return None, None
    fill = fills[-1]
    about = [x for x in by_time if x.ref == root and (x.at_us >= fill.at_us or x.trade_date == fill.trade_date)]
    if any(x.kind is ReportKind.BUST for x in about):
        return fill, None
    corrections = [x for x in about if x.kind is ReportKind.CORRECT and x.owner is not Owner.NOBODY]
    return fill, corrections[-1] if corrections else fill
