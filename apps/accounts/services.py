"""Opening demo accounts: a number is taken here, the account itself is the engine's."""

from django.db import IntegrityError, transaction
from django.db.models import Max

from apps.accounts.models import Environment, Profile, User
from apps.doors.connections import engine
from apps.doors.ids import uuid7
from apps.doors.problems import Problem
from bus.client import AnswerTimeout, Busy
from trading.accounts import ClientClass
from trading.commands import OpenAccount
from trading.refusals import Refusal

ACCOUNTS_MAX = 10
FIRST_NUMBER = 20_001
NUMBER_TRIES = 5
WAIT_S = 5.0
DEMO_GROUP = "retail"


def open_demo_account(*, user: User, currency: str, leverage: int, name: str, actor: str) -> Profile:
    """A new demo account of the caller. Raises Problem; then no number is taken, unless the outcome is unknown."""
    if Profile.objects.filter(user=user).count() >= ACCOUNTS_MAX:
        raise Problem(Refusal.FORBIDDEN, f"At most {ACCOUNTS_MAX} accounts.")
    profile = _numbered(user, name)
    try:
        open_in_engine(account=profile.account, group=DEMO_GROUP, currency=currency, leverage=leverage, actor=actor)
    except Problem as problem:
        if problem.code is not Refusal.TIMEOUT_UNKNOWN:
            profile.delete()
        raise
    return profile


def open_in_engine(
    *,
    account: int,
    group: str,
    currency: str,
    leverage: int,
    actor: str,
    client_class: ClientClass = ClientClass.RETAIL,
    jurisdiction: str = "",
    wait_s: float = WAIT_S,
) -> None:
    """The OpenAccount command; its key is the account's own number, so that asking twice opens once."""
    command = OpenAccount(
        id=str(uuid7()),
        key=f"open/{account}",
        account=account,
        actor=actor,
        group=group,
        currency=currency,
        leverage=leverage,
        client_class=client_class,
        jurisdiction=jurisdiction,
    )
    try:
        answer = engine().submit(command, wait_s)
    except Busy:
        raise Problem(Refusal.BUSY, retry_after_ms=500) from None
    except AnswerTimeout:
        raise Problem(Refusal.TIMEOUT_UNKNOWN, "List your accounts in a moment.") from None
    if answer.refusal:
        raise Problem(Refusal(answer.refusal), answer.detail)


def _numbered(user: User, name: str) -> Profile:
    """A profile under the next free number. Two callers may want the same one: the unique key decides."""
    for _ in range(NUMBER_TRIES):
        highest = Profile.objects.aggregate(highest=Max("account"))["highest"] or 0
        number = max(highest + 1, FIRST_NUMBER)
        try:
            with transaction.atomic():
                return Profile.objects.create(user=user, account=number, name=name, environment=Environment.DEMO)
        except IntegrityError:
            continue
    raise Problem(Refusal.BUSY, retry_after_ms=500)
