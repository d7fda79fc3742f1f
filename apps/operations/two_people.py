"""The way of a proposal: one member of staff makes it, another has it carried out or drops it."""

from typing import Any, TypeVar

from django.utils import timezone

from apps.accounts.models import User
from apps.doors.commands import carried_out
from apps.doors.problems import Problem
from apps.proposals import Proposal, ProposalStatus
from apps.times import micros
from trading.commands import AnyCommand
from trading.refusals import REGISTRY, Refusal
from trading.views import rfc3339

P = TypeVar("P", bound=Proposal)

SHOWN_MAX = 200
UNSURE = "Approve it again: it is carried out only once."
UNDECIDED = frozenset({Refusal.TIMEOUT_UNKNOWN, Refusal.INTERNAL})
"""Answers that say nothing about the proposal itself."""


def waiting(model: type[P], number: int, *, what: str) -> P:
    """The proposal that nobody has decided yet. Raises Problem when there is none."""
    row = model._default_manager.filter(pk=number, status=ProposalStatus.PROPOSED).first()  # noqa: SLF001
    if row is None:
        raise Problem(Refusal.NOT_FOUND, f"There is no such {what} waiting.")
    return row


def check_second_person(row: Proposal, by: User) -> None:
    """Raises Problem for whoever proposed it."""
    if row.proposed_by_id == by.pk:
        raise Problem(Refusal.SECOND_PERSON_REQUIRED)


def carry_out(row: P, command: AnyCommand, by: User) -> P:
    """Approved: have the engine do it. A refusal ends the proposal, unless it only says 'not now'. Raises Problem."""
    try:
        carried_out(command, unsure=UNSURE)
    except Problem as problem:
        if not (REGISTRY[problem.code].retryable or problem.code in UNDECIDED):
            decide(row, ProposalStatus.REFUSED, by, refusal=problem.code.value)
        raise
    return decide(row, ProposalStatus.APPROVED, by)


def decide(row: P, status: ProposalStatus, by: User, *, refusal: str = "") -> P:
    row.status, row.refusal, row.decided_by, row.decided_at = status, refusal, by, timezone.now()
    row.save(update_fields=["status", "refusal", "decided_by", "decided_at"])
    return row


def newest_of(model: type[P]) -> list[P]:
    """The last proposals, newest first."""
    return list(
        model._default_manager.select_related("proposed_by", "decided_by").order_by("-id")[:SHOWN_MAX]  # noqa: SLF001
    )


def decision_shape(row: Proposal) -> dict[str, Any]:
    """Why it was proposed, by whom, and what became of it."""
    return {
        "reason": row.reason,
        "status": row.status,
        "refusal": row.refusal,
        "proposed_by": row.proposed_by.get_username(),
        "proposed_at": rfc3339(micros(row.proposed_at)),
        "decided_by": "" if row.decided_by is None else row.decided_by.get_username(),
        "decided_at": None if row.decided_at is None else rfc3339(micros(row.decided_at)),
    }
