"""What staff see and do about alerts, and how a halted shard is let trade again: both leave audit entries."""

from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.accounts.models import User
from apps.operations.models import Alert, Shard
from apps.operations.services import audit
from apps.times import micros
from bus.alerts import Severity
from trading.views import rfc3339

ALERTS_MAX = 100


class NotResumed(Exception):
    """The shard stays as it is; the text says why."""


def standing_alerts() -> list[dict[str, Any]]:
    """Raised and not taken back: the worst first, then the newest."""
    worst_first = [severity.value for severity in reversed(Severity)]
    rows = Alert.objects.filter(cleared_at=None).order_by("-raised_at", "key")[:ALERTS_MAX]
    return [
        {
            "key": row.key,
            "kind": row.kind,
            "severity": row.severity,
            "text": row.text,
            "raised_at": rfc3339(micros(row.raised_at)),
            "last_at": rfc3339(micros(row.last_at)),
            "count": row.count,
        }
        for row in sorted(rows, key=lambda row: worst_first.index(row.severity))
    ]


def clear_alerts(keys: list[str], *, actor: str, request_id: str, address: str) -> int:
    """Take these alerts back; how many stood. Each leaves an audit entry with what it said."""
    with transaction.atomic():
        standing = list(Alert.objects.select_for_update().filter(key__in=keys, cleared_at=None).order_by("key"))
        for alert in standing:
            detail = {"key": alert.key, "text": alert.text, "raised_at": alert.raised_at.isoformat()}
            audit(actor=actor, action="clear_alert", request_id=request_id, address=address, detail=detail)
        Alert.objects.filter(pk__in=[alert.pk for alert in standing]).update(cleared_at=timezone.now())
    return len(standing)


def resume_shard(shard: int, *, by: str, reason: str) -> str:
    """Let engines take a halted shard again; why it was halted. `by` is the name of a member of staff who may stop trading.

    Raises NotResumed; nothing is changed then.
    """
    person = User.objects.filter(username=by, is_active=True, is_staff=True).first()
    if person is None or not person.has_perm("operations.stop_trading"):
        raise NotResumed(f"{by} is no member of staff who may stop and resume trading")
    if not reason.strip():
        raise NotResumed("say why the shard may trade again")
    with transaction.atomic():
        row = Shard.objects.select_for_update().filter(shard=shard).first()
        if row is None or not row.halted:
            raise NotResumed(f"shard {shard} is not halted")
        halted = row.halted
        detail = {"shard": shard, "halted": halted, "reason": reason.strip()[:1000]}
        audit(actor=f"staff:{person.pk}", action="resume_shard", request_id="", address="", detail=detail)
        Shard.objects.filter(pk=row.pk).update(halted="")
    return halted
