"""What a person must know of: one row per key in `alert`, raised by any process, shown to staff and counted as a metric.

Raising is an upsert that commits by itself or with the caller's transaction; it never decides anything.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import psycopg
import structlog

log = structlog.get_logger()

Connection = psycopg.Connection[Any]


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"
    """Money or orders are at stake, or the shard stands."""


TEXT_MAX = 2000


def raise_alert(
    connection: Connection, *, kind: str, text: str, severity: Severity = Severity.WARNING, subject: str = ""
) -> None:
    """Raise the alert `kind` about `subject`, or count it up when it stands already. Raises psycopg.Error.

    `kind` is a stable name such as `lp_breaker_open`; `subject` what it is about (a provider, an order, an invariant).
    """
    now = datetime.now(UTC)
    log.log(50 if severity is Severity.CRITICAL else 30, "alert", kind=kind, subject=subject, text=text)
    connection.execute(
        "INSERT INTO alert (key, kind, severity, text, raised_at, last_at, count) VALUES (%s, %s, %s, %s, %s, %s, 1) "
        "ON CONFLICT (key) DO UPDATE SET severity = EXCLUDED.severity, text = EXCLUDED.text, last_at = EXCLUDED.last_at, "
        "raised_at = CASE WHEN alert.cleared_at IS NULL THEN alert.raised_at ELSE EXCLUDED.raised_at END, "
        "count = CASE WHEN alert.cleared_at IS NULL THEN alert.count + 1 ELSE 1 END, cleared_at = NULL",
        (alert_key(kind, subject), kind, severity.value, text[:TEXT_MAX], now, now),
    )


def clear_alert(connection: Connection, *, kind: str, subject: str = "") -> None:
    """What it was about is over. Nothing happens when no such alert stands. Raises psycopg.Error."""
    connection.execute(
        "UPDATE alert SET cleared_at = %s WHERE key = %s AND cleared_at IS NULL",
        (datetime.now(UTC), alert_key(kind, subject)),
    )


def alert_key(kind: str, subject: str) -> str:
    return f"{kind}:{subject}" if subject else kind
