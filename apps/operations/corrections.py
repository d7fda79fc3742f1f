"""Corrections of deals: proposed by one member of staff, carried out when another approves."""

from decimal import Decimal
from typing import Any

from django.utils import timezone

from apps.accounts.models import User
from apps.doors.commands import carried_out
from apps.doors.ids import uuid7
from apps.doors.problems import Problem
from apps.operations.models import CorrectionStatus, DealCorrection
from apps.orders.models import Deal
from apps.shapes import trimmed
from apps.times import micros
from trading.commands import CorrectDeal
from trading.refusals import REGISTRY, Refusal
from trading.views import rfc3339

UNSURE = "Approve it again: it is carried out only once."
UNDECIDED = frozenset({Refusal.TIMEOUT_UNKNOWN, Refusal.INTERNAL})
"""Answers that say nothing about the correction itself."""


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
    correction = _proposed(number)
    if correction.proposed_by_id == by.pk:
        raise Problem(Refusal.SECOND_PERSON_REQUIRED)
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
    try:
        carried_out(command, unsure=UNSURE)
    except Problem as problem:
        if not (REGISTRY[problem.code].retryable or problem.code in UNDECIDED):
            _decide(correction, CorrectionStatus.REFUSED, by, refusal=problem.code.value)
        raise
    return _decide(correction, CorrectionStatus.APPROVED, by)


def reject(*, number: int, by: User) -> DealCorrection:
    """Drop a proposed correction; who proposed it may do so too. Raises Problem when it is not there any more."""
    return _decide(_proposed(number), CorrectionStatus.REJECTED, by)


def newest() -> list[dict[str, Any]]:
    """The last corrections, newest first."""
    rows = DealCorrection.objects.select_related("proposed_by", "decided_by").order_by("-id")
    return [correction_shape(row) for row in rows[:SHOWN_MAX]]


SHOWN_MAX = 200


def correction_shape(row: DealCorrection) -> dict[str, Any]:
    return {
        "id": row.pk,
        "deal_id": row.deal_id,
        "account": row.account,
        "price": None if row.price is None else trimmed(row.price, 0),
        "reason": row.reason,
        "status": row.status,
        "refusal": row.refusal,
        "proposed_by": row.proposed_by.get_username(),
        "proposed_at": rfc3339(micros(row.proposed_at)),
        "decided_by": "" if row.decided_by is None else row.decided_by.get_username(),
        "decided_at": None if row.decided_at is None else rfc3339(micros(row.decided_at)),
    }


def _proposed(number: int) -> DealCorrection:
    row = DealCorrection.objects.filter(pk=number, status=CorrectionStatus.PROPOSED).first()
    if row is None:
        raise Problem(Refusal.NOT_FOUND, "There is no such correction waiting.")
    return row


def _decide(row: DealCorrection, status: CorrectionStatus, by: User, *, refusal: str = "") -> DealCorrection:
    row.status, row.refusal, row.decided_by, row.decided_at = status, refusal, by, timezone.now()
    row.save(update_fields=["status", "refusal", "decided_by", "decided_at"])
    return row
