"""What two members of staff must agree on before it is carried out: the columns of such a proposal."""

from django.db import models
from django.db.models import F, Q


class ProposalStatus(models.TextChoices):
    PROPOSED = "proposed", "Proposed"
    APPROVED = "approved", "Approved and carried out"
    REJECTED = "rejected", "Rejected by a person"
    REFUSED = "refused", "Refused by the engine"


class Proposal(models.Model):
    """On its way through two people. Who proposes one cannot approve it: see `two_people`."""

    reason = models.CharField(max_length=200)
    status = models.CharField(max_length=10, choices=ProposalStatus, default=ProposalStatus.PROPOSED)
    refusal = models.CharField(max_length=50, blank=True)
    proposed_by = models.ForeignKey("accounts.User", on_delete=models.PROTECT, related_name="+")
    proposed_at = models.DateTimeField(auto_now_add=True)
    decided_by = models.ForeignKey("accounts.User", on_delete=models.PROTECT, related_name="+", null=True, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True


def two_people(name: str) -> models.CheckConstraint:
    """Approved by somebody else than whoever proposed it."""
    return models.CheckConstraint(
        condition=~Q(status=ProposalStatus.APPROVED) | (Q(decided_by__isnull=False) & ~Q(decided_by=F("proposed_by"))),
        name=name,
    )
