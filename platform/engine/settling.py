"""What the desk says in a provider's place: what became of a leg, and that a provider may be dealt with again.

A leg's settlement goes the way of a report: what was dealt is booked as a fill of it would be, then the leg ends. A fill of it
that the provider reports after all is not booked again, but shown to the desk.
"""

from datetime import UTC, datetime
from decimal import Decimal

from msgspec.structs import replace

from engine import errors
from engine.executions import TEXT_MAX, can_book, deal_leg, give_up_leg
from engine.replies import Asked, late, refuse, use_key
from engine.routes import lots
from engine.work import Work
from trading.answers import Answer
from trading.checks import Refused
from trading.commands import LiftHalt, SettleLeg
from trading.instructions import PRICE_LIMIT
from trading.liquidity import SETTLED, ExecutionReport, LegStatus, LpOrder, ReportKind, Settlement
from trading.numbers import is_plain, point
from trading.refusals import Refusal

VOLUME_STEP = point(8)
"""What a volume can be kept to."""


def settle_leg(work: Work, command: SettleLeg, asked: Asked) -> None:
    """Book what was dealt of a leg's open rest, and end it. The answer's reference is the leg's number."""
    leg = work.state.legs.get(command.cl_ord_id)
    refused = late(work, command) or _check_people(command)
    if leg is None:
        refused = refused or Refused(Refusal.ORDER_NOT_FOUND, "no such order is open at a provider")
    else:
        refused = refused or _check_outcome(work, command, leg)
    if refused is not None or leg is None:
        refuse(work, asked, refused or Refused(Refusal.ORDER_NOT_FOUND, ""))
        return
    use_key(work, asked, leg.id)
    if command.outcome is Settlement.FILLED:
        deal_leg(work, leg, _report(work, command, leg))
    open_still = work.state.legs.get(command.cl_ord_id)
    if open_still is not None:
        text = f"settled by the desk: {command.reason}"[:TEXT_MAX]
        give_up_leg(work, replace(open_still, told_end=LegStatus.CANCELED, text=text))
    work.answer(command.reply_to, Answer(command_id=command.id, reference=leg.id))


def _check_people(command: SettleLeg) -> Refused | None:
    one, other = command.actor.strip(), command.approved_by.strip()
    if not one or not other or one == other:
        return Refused(Refusal.SECOND_PERSON_REQUIRED, "an order is settled by one person and approved by another")
    return None


def _check_outcome(work: Work, command: SettleLeg, leg: LpOrder) -> Refused | None:
    if command.filled_volume not in (None, leg.filled_volume):
        detail = f"{command.filled_volume} lots were booked when this was proposed, {leg.filled_volume} are now"
        return Refused(Refusal.ORDER_CHANGED, detail)
    if command.outcome is Settlement.NOT_FILLED:
        is_silent = not command.quantity and not command.price
        return None if is_silent else Refused(Refusal.INVALID_VOLUME, "what was not dealt has no quantity and no price")
    if not is_plain(command.quantity) or not is_plain(command.price) or not 0 < command.price < PRICE_LIMIT:
        return Refused(Refusal.INVALID_PRICE, "what was dealt has a quantity and a price above zero")
    volume, rest = lots(work, leg.symbol, command.quantity), leg.volume - leg.filled_volume
    if not 0 < volume <= rest or not _can_be_kept(volume):
        return Refused(Refusal.INVALID_VOLUME, "more than nothing, and at most what is still open, can have been dealt")
    if leg.order_id and not can_book(work, leg):
        return Refused(Refusal.NO_QUOTES, "a price that values the fill is missing")
    return None


def _can_be_kept(volume: Decimal) -> bool:
    return volume == volume.quantize(VOLUME_STEP)


def _report(work: Work, command: SettleLeg, leg: LpOrder) -> ExecutionReport:
    return ExecutionReport(
        lp=leg.lp,
        kind=ReportKind.FILL,
        cl_ord_id=leg.cl_ord_id,
        exec_id=f"{SETTLED}{leg.cl_ord_id}",
        trade_date=datetime.fromtimestamp(work.now_us // 1_000_000, UTC).strftime("%Y%m%d"),
        lp_order_id=leg.lp_order_id,
        side=leg.side,
        lp_symbol=leg.lp_symbol,
        last_qty=command.quantity,
        last_px=command.price,
        text=command.reference[:TEXT_MAX],
        received_us=work.now_us,
    )


def lift_halt(work: Work, command: LiftHalt, asked: Asked) -> None:
    refused = late(work, command)
    if refused is None and (command.lp, command.symbol) not in work.state.desk.halts:
        refused = Refused(Refusal.NO_CHANGES, "nothing is halted there")
    if refused is not None:
        refuse(work, asked, refused)
        return
    use_key(work, asked, 0)
    errors.lift(work, command.lp, command.symbol)
    work.answer(command.reply_to, Answer(command_id=command.id))
