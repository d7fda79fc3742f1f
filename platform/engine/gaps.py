"""What a provider counts as dealt and no fill has told us of: it is asked about again and again, and waits for a while.

The gap closes by itself when the fills come. After `MISSED_AFTER_US` a dealer hears of it, once.
"""

from msgspec.structs import replace

from engine.cases import open_case
from engine.work import Work
from trading.events import ChildOrderUpdated
from trading.liquidity import CaseKind, ExecutionReport, LpOrder, ReportKind

MISSED_AFTER_US = 60_000_000


def gap_after(leg: LpOrder, now_us: int) -> LpOrder:
    """The leg with the beginning of its gap noted, or with neither gap nor case where nothing is missing."""
    if leg.missing:
        return leg if leg.gap_us else replace(leg, gap_us=now_us)
    return replace(leg, gap_us=0, is_in_case=False) if leg.gap_us or leg.is_in_case else leg


def tell_of_gap(work: Work, leg: LpOrder, report: ExecutionReport) -> LpOrder:
    """Open a case about a gap that has lasted too long; the leg then knows of it."""
    if not leg.gap_us or leg.is_in_case or work.now_us - leg.gap_us < MISSED_AFTER_US:
        return leg
    open_case(work, CaseKind.MISSED_FILL, report, leg)
    return replace(leg, is_in_case=True)


def look_for_gaps(work: Work) -> None:
    """The same for legs whose providers have fallen silent."""
    waiting = [leg for leg in work.state.legs.values() if leg.gap_us and not leg.is_in_case]
    for leg in waiting:
        after = tell_of_gap(work, leg, _what_was_told(work, leg))
        if after is not leg:
            work.emit(ChildOrderUpdated(replace(after, updated_us=work.now_us)))


def _what_was_told(work: Work, leg: LpOrder) -> ExecutionReport:
    return ExecutionReport(
        lp=leg.lp,
        kind=ReportKind.STATUS,
        cl_ord_id=leg.cl_ord_id,
        lp_order_id=leg.lp_order_id,
        side=leg.side,
        lp_symbol=leg.lp_symbol,
        cum_qty=leg.told_cum * work.instrument(leg.symbol).contract_size,
        text="the provider has counted more than its fills say",
        received_us=work.now_us,
    )
