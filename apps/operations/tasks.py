"""Housekeeping that nobody waits for."""

import structlog
from celery import shared_task

from apps.accounts import tokens
from apps.doors import idempotency

_log = structlog.get_logger("operations")


@shared_task
def prune() -> dict[str, int]:
    """Forget stored answers older than a day and refresh tokens that have expired."""
    pruned = {"responses": idempotency.prune(), "refresh_tokens": tokens.prune()}
    _log.info("pruned", **pruned)
    return pruned
