"""Housekeeping that nobody waits for.

Every task here may run twice, at the same time or half. Money moves only in the engine, and the engine knows what is due: a
position carries the instant up to which its swap is charged, a commission day that it is settled, an order that it has ended,
all committed together with the money. So two beats, a task delivered twice and one that died half have one effect. The engine
keeps no keys of these commands; they are made of the delivery and the round, to be found again in journals and logs.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from celery import shared_task

from apps.accounts import tokens
from apps.doors import idempotency
from apps.doors.connections import engine
from apps.doors.ids import uuid7
from apps.operations.models import TaskEffect
from bus.client import AnswerTimeout, Busy
from trading.commands import ExpireOrders, RollOver, SettleCommission

EXPIRE_WAIT_S = 5.0
BEAT = "system:beat"
ROUNDS_MAX = 200
"""Commands per task: each does a bounded part of the work, and the next task goes on where this one ended."""
EFFECTS_KEPT = timedelta(days=90)
"""Longer than a message broker keeps its log (`bus.amqp.LOG_AGE_MAX`), from which events may be replayed."""
_log = structlog.get_logger("operations")


@shared_task
def prune() -> dict[str, int]:
    """Forget stored answers older than a day, refresh tokens that have expired, and effects that nothing repeats any more."""
    pruned = {
        "responses": idempotency.prune(),
        "refresh_tokens": tokens.prune(),
        "effects": TaskEffect.objects.filter(at__lt=datetime.now(UTC) - EFFECTS_KEPT).delete()[0],
    }
    _log.info("pruned", **pruned)
    return pruned


@shared_task(bind=True)
def expire_orders(self: Any) -> int:
    """Have the engine end the orders whose time has come; how many that were.

    Nothing is lost when it cannot be reached: the next round asks again, and asking twice ends nothing twice.
    """
    command = ExpireOrders(id=str(uuid7()), key=f"expire/{_delivery(self)}", actor=BEAT)
    try:
        answer = engine().submit(command, EXPIRE_WAIT_S)
    except (AnswerTimeout, Busy):
        return 0
    if answer.reference:
        _log.info("orders_expired", orders=answer.reference)
    return answer.reference


@shared_task(bind=True)
def roll_over(self: Any) -> int:
    """Have the engine charge the swaps that are due; how many positions stay behind.

    Every instant is charged once however often this runs, and late where it did not run: the engine knows what is due.
    """
    run = _delivery(self)
    return _repeat("rolled_over", lambda number: RollOver(id=str(uuid7()), key=f"roll/{run}/{number}", actor=BEAT))


@shared_task(bind=True)
def settle_commission(self: Any) -> int:
    """Have the engine post the daily commission of the dates that are over; how many postings are left."""
    run = _delivery(self)
    return _repeat(
        "commission_settled", lambda number: SettleCommission(id=str(uuid7()), key=f"settle/{run}/{number}", actor=BEAT)
    )


def _delivery(task: Any) -> str:
    """The same for every delivery of one message; a name of its own when it is called directly."""
    return str(task.request.id or uuid7())


def _repeat(event: str, command: Callable[[int], RollOver | SettleCommission]) -> int:
    """Ask again while each answer leaves less to do than the one before."""
    left = 0
    for number in range(ROUNDS_MAX):
        before = left
        try:
            left = engine().submit(command(number), EXPIRE_WAIT_S).reference
        except (AnswerTimeout, Busy):
            return left
        if not left or (number and left >= before):
            break
        _log.info(event, left=left)
    return left
