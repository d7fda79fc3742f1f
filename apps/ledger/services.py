"""Money in and out, as commands to the engine."""

from decimal import Decimal

from apps.doors.commands import carried_out
from apps.doors.ids import uuid7
from apps.ledger.queries import deposit_of
from trading.commands import Deposit, RequestWithdrawal

UNSURE = "Send the same request with the same Idempotency-Key: the money can be moved only once."


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
    answer = carried_out(command, unsure=UNSURE)
    assert deposit_of(answer.reference, account) is not None, "acknowledged before it was committed"
    return answer.reference


def request_withdrawal(*, account: int, amount: Decimal, reference: str, key: str, actor: str) -> int:
    """Take the money out of the client's cash until staff have settled it, once per key; the request's number.

    Raises Problem.
    """
    command = RequestWithdrawal(
        id=str(uuid7()), key=key, account=account, actor=actor, amount=amount, reference=reference
    )
    return carried_out(command, unsure=UNSURE).reference
