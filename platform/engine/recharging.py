"""Margin at the end of the day: positions in symbols that ask for it are charged anew, at that day's price and rates.

All others keep the rate of their opening. A position whose price is not known then keeps its charge until the next day.
"""

from msgspec.structs import replace

from engine.work import Work
from engine.worth import recharge
from trading.calendar import business_date
from trading.events import DeskChanged, PositionChanged
from trading.margining.exposures import charged
from trading.positions import Position


def recharge_all(work: Work) -> None:
    """Once per business date, the first time that is asked for on it."""
    today = business_date(work.now_us).isoformat()
    if today <= work.state.desk.recharged:
        return
    for position in list(work.state.positions.values()):
        _recharge(work, position)
    work.emit(DeskChanged(replace(work.state.desk, recharged=today)))


def _recharge(work: Work, position: Position) -> None:
    account = work.account(position.account)
    if not work.terms_for(account, position.symbol).margin.recalculate_daily:
        return
    exposure = recharge(work, position)
    if exposure is not None and exposure.margin != position.margin:
        work.emit(PositionChanged(replace(position, **charged(exposure), updated_us=work.now_us)))
