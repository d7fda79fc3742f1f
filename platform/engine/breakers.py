"""The providers' circuit breakers in the shard's state: fed by what becomes of each leg. `trading.breaker` holds the rules."""

from msgspec.structs import replace

from engine.work import Work
from trading.breaker import Breakers, after_outcome, after_sending
from trading.events import ChildOrderUpdated, DeskChanged
from trading.liquidity import LegStatus, LpOrder


def note_sent(work: Work, lp: str, cl_ord_id: str) -> None:
    """A leg is on its way; where the breaker is half open it is the probe."""
    if work.state.desk.breakers:
        _keep(work, after_sending(work.state.desk.breakers, lp, cl_ord_id, work.now_us))


def judge_provider(work: Work, before: LpOrder | None) -> None:
    """After a report was applied. `before` is its leg as it was then, None for no live one: a leg has one outcome only."""
    if before is None or before.filled_volume:
        return
    after = _leg_now(work, before)
    if not after.filled_volume and not after.status.is_terminal:
        return
    _keep(
        work,
        after_outcome(
            work.state.desk.breakers,
            before.lp,
            before.cl_ord_id,
            is_rejected=after.status is LegStatus.REJECTED,
            now_us=work.now_us,
            terms=work.config.breaker,
        ),
    )


def _leg_now(work: Work, before: LpOrder) -> LpOrder:
    """As the report has left it; a leg that has ended is no longer in the state."""
    changed = (
        event.leg
        for event in reversed(work.events)
        if type(event) is ChildOrderUpdated and event.leg.cl_ord_id == before.cl_ord_id
    )
    return next(changed, before)


def _keep(work: Work, breakers: Breakers) -> None:
    desk = work.state.desk
    if breakers != desk.breakers:
        work.emit(DeskChanged(replace(desk, breakers=breakers)))
