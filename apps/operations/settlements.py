"""What the desk does about providers: cases are settled with a note, and what became of an order that a provider does not
explain is proposed by one member of staff and carried out when another approves.
"""

from decimal import Decimal
from typing import Any

from django.utils import timezone

from apps.accounts.models import User
from apps.doors.ids import uuid7
from apps.doors.problems import Problem
from apps.liquidity.models import LegSettlement, LpCase, LpOrder
from apps.operations.queries import newest_desk
from apps.operations.two_people import (
    SHOWN_MAX,
    carry_out,
    check_second_person,
    decide,
    decision_shape,
    newest_of,
    waiting,
)
from apps.proposals import ProposalStatus
from apps.shapes import trimmed
from apps.times import micros
from trading.commands import SettleLeg
from trading.liquidity import LIVE_LEGS, Settlement
from trading.refusals import Refusal
from trading.views import rfc3339

WHAT = "settlement"


# --- cases ---------------------------------------------------------------------------------------------------------------


def newest_cases(*, is_settled: bool | None) -> list[dict[str, Any]]:
    """The last cases, newest first: all of them, or only the settled or the open ones."""
    rows = LpCase.objects.order_by("-id")
    if is_settled is not None:
        rows = rows.filter(is_settled=is_settled)
    return [case_shape(row) for row in rows[:SHOWN_MAX]]


def settle_case(*, number: int, note: str, by: User) -> dict[str, Any]:
    """Close a case with a note. Raises Problem when it is not there or settled already."""
    settled = LpCase.objects.filter(pk=number, is_settled=False).update(
        is_settled=True, settled_by=by.get_username(), settled_at=timezone.now(), note=note
    )
    if not settled:
        raise Problem(Refusal.NOT_FOUND, "There is no such case open.")
    return case_shape(LpCase.objects.get(pk=number))


def case_shape(row: LpCase) -> dict[str, Any]:
    leg = LpOrder.objects.filter(pk=row.lp_order_id).first() if row.lp_order_id else None
    return {
        "id": row.pk,
        "kind": row.kind,
        "lp": row.lp,
        "cl_ord_id": row.report.get("cl_ord_id", ""),
        "order_ticket": leg.order_id if leg and leg.order_id else None,
        "report": row.report,
        "opened_at": rfc3339(micros(row.opened_at)),
        "is_settled": row.is_settled,
        "settled_by": row.settled_by,
        "settled_at": None if row.settled_at is None else rfc3339(micros(row.settled_at)),
        "note": row.note,
    }


# --- the error account ---------------------------------------------------------------------------------------------------


def error_account(shard: int) -> dict[str, Any]:
    """What the house holds by mistake, and where nothing is opened until a dealer lifts the halt."""
    desk = newest_desk(shard)
    return {
        "holdings": [
            {"lp": one.lp, "symbol": one.symbol, "volume": trimmed(one.volume, 2), "cost": trimmed(one.cost, 0)}
            for one in desk.errors
        ],
        "halts": [{"lp": lp, "symbol": symbol} for lp, symbol in desk.halts],
    }


# --- orders at providers -------------------------------------------------------------------------------------------------


def propose(
    *,
    cl_ord_id: str,
    outcome: Settlement,
    quantity: Decimal | None,
    price: Decimal | None,
    reference: str,
    reason: str,
    by: User,
) -> LegSettlement:
    """Say what became of an order; nothing happens yet. Raises Problem for one that is not open at a provider."""
    leg = LpOrder.objects.filter(cl_ord_id=cl_ord_id, status__in=LIVE_LEGS).first()
    if leg is None:
        raise Problem(Refusal.ORDER_NOT_FOUND)
    return LegSettlement.objects.create(
        cl_ord_id=cl_ord_id,
        outcome=outcome.value,
        quantity=quantity,
        price=price,
        filled_volume=leg.filled_volume,
        reference=reference,
        reason=reason,
        proposed_by=by,
    )


def approve(*, number: int, by: User) -> LegSettlement:
    """Carry a proposal out. Raises Problem: not found, the same person, or what the engine refuses.

    The command's key is the proposal's number, so approving twice settles once. A refusal ends the proposal, unless it only
    says 'not now'.
    """
    row = waiting(LegSettlement, number, what=WHAT)
    check_second_person(row, by)
    command = SettleLeg(
        id=str(uuid7()),
        key=f"settlement/{row.pk}",
        actor=f"staff:{row.proposed_by_id}",
        cl_ord_id=row.cl_ord_id,
        outcome=Settlement(row.outcome),
        quantity=row.quantity or Decimal(0),
        price=row.price or Decimal(0),
        filled_volume=row.filled_volume,
        reference=row.reference,
        approved_by=f"staff:{by.pk}",
        reason=row.reason,
    )
    return carry_out(row, command, by)


def reject(*, number: int, by: User) -> LegSettlement:
    """Drop a proposal; who made it may do so too. Raises Problem when it is not there any more."""
    return decide(waiting(LegSettlement, number, what=WHAT), ProposalStatus.REJECTED, by)


def newest() -> list[dict[str, Any]]:
    """The last proposals, newest first."""
    return [settlement_shape(row) for row in newest_of(LegSettlement)]


def settlement_shape(row: LegSettlement) -> dict[str, Any]:
    return {
        "id": row.pk,
        "cl_ord_id": row.cl_ord_id,
        "outcome": row.outcome,
        "quantity": None if row.quantity is None else trimmed(row.quantity, 0),
        "price": None if row.price is None else trimmed(row.price, 0),
        "filled_volume": trimmed(row.filled_volume, 2),
        "reference": row.reference,
        **decision_shape(row),
    }
