"""Corrections of deals: proposed by one member of staff, carried out when another approves."""

from decimal import Decimal
from typing import Any

from apps.accounts.models import User
from apps.doors.ids import uuid7
from apps.doors.problems import Problem
from apps.operations.models import DealCorrection
from apps.operations.two_people import carry_out, check_second_person, decide, decision_shape, newest_of, waiting
from apps.orders.models import Deal
from apps.proposals import ProposalStatus
from apps.shapes import trimmed
from trading.commands import CorrectDeal
from trading.refusals import Refusal

WHAT = "correction"


def propose(*, deal_id: int, price: Decimal | None, reason: str, by: User) -> DealCorrection:
    """Ask for a correction; nothing happens to the deal yet. Raises Problem for a deal that does not exist."""
    deal = Deal.objects.filter(id=deal_id).first()
    if deal is None:
        raise Problem(Refusal.DEAL_NOT_FOUND)
    return DealCorrection.objects.create(
        deal_id=deal_id, account=deal.account, price=price, reason=reason, proposed_by=by
    )


def approve(*, number: int, by: User) -> DealCorrection:
    """Carry a proposed correction out. Raises Problem: not found, the same person, or what the engine refuses.

    The command's key is the correction's number, so approving twice corrects once. A refusal ends the correction, unless it
    only says 'not now'.
    """
    correction = waiting(DealCorrection, number, what=WHAT)
    check_second_person(correction, by)
    command = CorrectDeal(
        id=str(uuid7()),
        key=f"correction/{correction.pk}",
        account=correction.account,
        actor=f"staff:{correction.proposed_by_id}",
        deal_id=correction.deal_id,
        price=correction.price,
        approved_by=f"staff:{by.pk}",
        reason=correction.reason,
    )
    return carry_out(correction, command, by)


def reject(*, number: int, by: User) -> DealCorrection:
    """Drop a proposed correction; who proposed it may do so too. Raises Problem when it is not there any more."""
    return decide(waiting(DealCorrection, number, what=WHAT), ProposalStatus.REJECTED, by)


def newest() -> list[dict[str, Any]]:
    """The last corrections, newest first."""
    return [correction_shape(row) for row in newest_of(DealCorrection)]


def correction_shape(row: DealCorrection) -> dict[str, Any]:
    return {
        "id": row.pk,
        "deal_id": row.deal_id,
        "account": row.account,
        "price": None if row.price is None else trimmed(row.price, 0),
        **decision_shape(row),
    }
