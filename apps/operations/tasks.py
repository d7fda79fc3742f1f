"""Housekeeping that nobody waits for."""

import structlog
from celery import shared_task

from apps.accounts import tokens
from apps.doors import idempotency
from apps.doors.connections import engine
from apps.doors.ids import uuid7
from bus.client import AnswerTimeout, Busy
from trading.commands import ExpireOrders

EXPIRE_WAIT_S = 5.0
_log = structlog.get_logger("operations")


@shared_task
def prune() -> dict[str, int]:
    """Forget stored answers older than a day and refresh tokens that have expired."""
    pruned = {"responses": idempotency.prune(), "refresh_tokens": tokens.prune()}
    _log.info("pruned", **pruned)
    return pruned


@shared_task
def expire_orders() -> int:
    """Have the engine end the orders whose time has come; how many that were.

    Nothing is lost when it cannot be reached: the next round asks again, and asking twice ends nothing twice.
    """
    request_id = str(uuid7())
    try:
        answer = engine().submit(
            ExpireOrders(id=request_id, key=f"expire/{request_id}", actor="system:beat"), EXPIRE_WAIT_S
        )
    except (AnswerTimeout, Busy):
        return 0
    if answer.reference:
        _log.info("orders_expired", orders=answer.reference)
    return answer.reference
