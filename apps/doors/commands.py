"""One command through the bus, and its answer in a door's words."""

from apps.doors.connections import engine
from apps.doors.problems import Problem
from bus.client import AnswerTimeout, Busy
from trading.answers import Answer
from trading.commands import AnyCommand
from trading.refusals import Refusal

BUSY_RETRY_MS = 500
WAIT_S = 5.0


def carried_out(command: AnyCommand, *, unsure: str, wait_s: float = WAIT_S) -> Answer:
    """The engine's answer to a command under an Idempotency-Key; that nothing had to change is an answer too.

    Raises Problem: the refusal, nothing sent (busy), or an outcome that is not known, when `unsure` says what to do.
    """
    try:
        answer = engine().submit(command, wait_s)
    except Busy:
        raise Problem(Refusal.BUSY, retry_after_ms=BUSY_RETRY_MS) from None
    except AnswerTimeout:
        raise Problem(Refusal.TIMEOUT_UNKNOWN, unsure) from None
    if answer.refusal and answer.refusal != Refusal.NO_CHANGES:
        raise refused(answer)
    return answer


def refused(answer: Answer) -> Problem:
    """The key of these commands is an Idempotency-Key or the request's own id, never a client_order_id."""
    code = Refusal(answer.refusal or Refusal.INTERNAL)
    if code is Refusal.CLIENT_ORDER_ID_REUSED:
        return Problem(Refusal.IDEMPOTENCY_KEY_REUSED)
    return Problem(code, answer.detail)
