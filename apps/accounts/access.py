"""Whose account is it: the one question every door asks before it reads or does anything.

Another person's account is answered exactly like one that does not exist.
"""

import time
from dataclasses import dataclass

from rest_framework.request import Request

from apps.accounts.models import Account, Profile, User
from apps.doors.parsing import Fields
from apps.doors.problems import Problem
from trading.refusals import Refusal

KEPT_S = 2.0
KEPT_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Owned:
    """An account that the caller owns."""

    account: int
    environment: str


_kept: dict[tuple[int, int], tuple[float, Owned]] = {}


def owned_account(user: User, account: int) -> Owned:
    """The caller's account of that number. Raises Problem(unknown_account). A yes is remembered for two seconds."""
    now = time.monotonic()
    kept = _kept.get((user.pk, account))
    if kept is not None and now - kept[0] < KEPT_S:
        return kept[1]
    profile = Profile.objects.filter(user_id=user.pk, account=account).values_list("environment", flat=True).first()
    if profile is None:
        raise Problem(Refusal.UNKNOWN_ACCOUNT)
    if len(_kept) >= KEPT_MAX:
        _kept.clear()
    owned = Owned(account, profile)
    _kept[user.pk, account] = (now, owned)
    return owned


def forget() -> None:
    """Ask the database anew: after an owner changed, and between tests."""
    _kept.clear()


def accounts_of(user: User) -> list[int]:
    """The numbers of all accounts of the caller."""
    return list(Profile.objects.filter(user_id=user.pk).order_by("account").values_list("account", flat=True))


def chosen_accounts(request: Request, fields: Fields) -> list[int]:
    """The account named by `account`, else all of the caller's. Raises Problem(unknown_account) for others'."""
    user = caller_of(request)
    if not fields.has("account"):
        return accounts_of(user)
    account = fields.whole("account")
    fields.done()
    return [owned_account(user, account).account]


def caller_of(request: Request) -> User:
    """The logged-in user; permissions have made sure that there is one."""
    user = request.user
    assert isinstance(user, User)
    return user


def account_row(account: int) -> Account:
    """The engine's row. Raises Problem(unknown_account) while the engine has not opened the account."""
    row = Account.objects.filter(pk=account).first()
    if row is None:
        raise Problem(Refusal.UNKNOWN_ACCOUNT)
    return row
