"""Cases for the dealing desk, and what is remembered of a provider's executions, so that each counts once."""

from decimal import Decimal

from engine.state import Prior
from engine.work import Work
from trading.events import CaseOpened, ExecutionKept
from trading.liquidity import Case, CaseKind, Execution, ExecutionReport, LpOrder, Owner, names_in, related
from trading.numbers import ZERO
from trading.orders import Side

Known = dict[tuple[str, str, str], Execution]
"""Executions by provider, ExecID and trade date."""


def open_case(work: Work, kind: CaseKind, report: ExecutionReport, leg: LpOrder | None) -> None:
    case = Case(
        id=work.state.counters.case,
        kind=kind,
        lp=report.lp,
        lp_order_id=leg.id if leg else 0,
        report=report,
        opened_us=work.now_us,
    )
    work.emit(CaseOpened(case))


def known_executions(work: Work, report: ExecutionReport, prior: Prior) -> Known:
    """What memory and the database know about a report's executions."""

    def under(name: str) -> list[Execution]:
        stored = [x for x in prior.executions if name in (x.exec_id, x.ref)]
        return [*stored, *work.state.executions.get((report.lp, name), ())]

    return related(names_in(report), under)


def keep_execution(
    work: Work,
    report: ExecutionReport,
    owner: Owner,
    *,
    side: Side | None,
    symbol: str = "",
    volume: Decimal = ZERO,
    ref: str = "",
) -> None:
    """Remember a keyed report as dealt with."""
    execution = Execution(
        lp=report.lp,
        exec_id=report.exec_id,
        trade_date=report.trade_date,
        kind=report.kind,
        content=report.content,
        cl_ord_id=report.cl_ord_id,
        owner=owner,
        at_us=work.now_us,
        symbol=symbol,
        side=side,
        volume=volume,
        price=report.last_px,
        ref=ref,
    )
    work.emit(ExecutionKept(execution))
