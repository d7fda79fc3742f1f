"""Money in, as a command to the engine."""

from decimal import Decimal

from apps.doors.connections import engine
from apps.doors.ids import uuid7
from apps.doors.problems import Problem
from apps.ledger.queries import deposit_of
from bus.client import AnswerTimeout, Busy
from trading.commands import Deposit
from trading.refusals import Refusal

WAIT_S = 5.0


def deposit(*, account: int, amount: Decimal, reference: str, key: str, actor: str) -> int:
    """Credit the account once per key; the transaction's number. Raises Problem."""
    command = Deposit(
        id=str(uuid7()),
        key=key,
        account=account,
        actor=actor,
        amount=amount,
        reference=reference,
    )
    try:
        answer = engine().submit(command, WAIT_S)
    except Busy:
        raise Problem(Refusal.BUSY, retry_after_ms=500) from None
    except AnswerTimeout:
        detail = "Send the same request with the same Idempotency-Key: it can be credited only once."
        raise Problem(Refusal.TIMEOUT_UNKNOWN, detail) from None
    if answer.refusal:
        code = Refusal(answer.refusal)
        reused = code is Refusal.CLIENT_ORDER_ID_REUSED
        raise Problem(Refusal.IDEMPOTENCY_KEY_REUSED if reused else code, "" if reused else answer.detail)
    assert deposit_of(answer.reference, account) is not None, "acknowledged before it was committed"
    return answer.reference
