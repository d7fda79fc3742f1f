"""Housekeeping that nobody waits for."""

from collections.abc import Callable

import structlog
from celery import shared_task

from apps.accounts import tokens
from apps.doors import idempotency
from apps.doors.connections import engine
from apps.doors.ids import uuid7
from bus.client import AnswerTimeout, Busy
from trading.commands import ExpireOrders, RollOver, SettleCommission

EXPIRE_WAIT_S = 5.0
BEAT = "system:beat"
ROUNDS_MAX = 200
"""Commands per task: each does a bounded part of the work, and the next task goes on where this one ended."""
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
        answer = engine().submit(ExpireOrders(id=request_id, key=f"expire/{request_id}", actor=BEAT), EXPIRE_WAIT_S)
    except (AnswerTimeout, Busy):
        return 0
    if answer.reference:
        _log.info("orders_expired", orders=answer.reference)
    return answer.reference


@shared_task
def roll_over() -> int:
    """Have the engine charge the swaps that are due; how many positions stay behind.

    Every instant is charged once however often this runs, and late where it did not run: the engine knows what is due.
    """
    return _repeat("rolled_over", lambda request_id: RollOver(id=request_id, key=f"roll/{request_id}", actor=BEAT))


@shared_task
def settle_commission() -> int:
    """Have the engine post the daily commission of the dates that are over; how many postings are left."""
    return _repeat(
        "commission_settled", lambda request_id: SettleCommission(id=request_id, key=f"settle/{request_id}", actor=BEAT)
    )


def _repeat(event: str, command: Callable[[str], RollOver | SettleCommission]) -> int:
    """Ask again while each answer leaves less to do than the one before."""
    left = 0
    for number in range(ROUNDS_MAX):
        before = left
        try:
            left = engine().submit(command(str(uuid7())), EXPIRE_WAIT_S).reference
        except (AnswerTimeout, Busy):
            return left
        if not left or (number and left >= before):
            break
        _log.info(event, left=left)
    return left
