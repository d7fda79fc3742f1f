"""What the stream reads from PostgreSQL: who a client is, what its accounts were told, the published configuration.

Synchronous; `storage.py` runs these in threads. Never called while quotes or events are being fanned out.
"""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.models import Session
from django.db.models import Max, TextField
from django.db.models.functions import Cast
from django.utils import timezone
from msgspec import Raw

from apps.accounts.models import Account, Profile, User
from apps.operations.models import ConfigVersion, Outbox
from apps.streaming.identity import AccountTerms, Credential, Identity
from apps.streaming.limits import UNTHROTTLED_PERMISSION
from apps.streaming.resume import PAGE_ROWS, AccountEvent
from bus.codec import decode_config
from trading.accounts import ClientClass
from trading.configuration import Config

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def identities(credentials: Collection[Credential]) -> dict[Credential, Identity]:
    """The identities behind those credentials that are still good; the others were revoked, disabled or logged out."""
    user_ids = {credential.user_id for credential in credentials}
    versions = dict(User.objects.filter(pk__in=user_ids, is_active=True).values_list("pk", "token_version"))
    keys = [credential.session_key for credential in credentials if credential.session_key is not None]
    sessions = _live_sessions(keys) if keys else set()
    good = [c for c in credentials if versions.get(c.user_id) == c.token_version and _session_lives(c, sessions)]
    accounts = _accounts_of({credential.user_id for credential in good})
    unthrottled = _unthrottled({credential.user_id for credential in good})
    return {
        credential: Identity(
            user_id=credential.user_id,
            accounts=accounts.get(credential.user_id, {}),
            is_unthrottled=credential.user_id in unthrottled,
        )
        for credential in good
    }


def credential_of(user: User | AnonymousUser, session_key: str | None) -> Credential | None:
    """What to look at again later; None for nobody."""
    if not isinstance(user, User) or not user.is_active:
        return None
    return Credential(user_id=user.pk, token_version=user.token_version, session_key=session_key)


def events_after(account: int, since: int) -> list[AccountEvent]:
    """The next page of an account's outbox, in order."""
    rows = (
        Outbox.objects.filter(account=account, account_seq__gt=since)
        .order_by("account_seq")
        .annotate(view=Cast("payload", TextField()))
        .values_list("account_seq", "kind", "view", "at")[:PAGE_ROWS]
    )
    return [AccountEvent(account, seq, kind, Raw(view.encode()), _microseconds(at)) for seq, kind, view, at in rows]


def newest_event(account: int) -> int:
    """The number of the last event that the account was told; 0 for none."""
    newest: int | None = Outbox.objects.filter(account=account).aggregate(newest=Max("account_seq"))["newest"]
    return newest or 0


def newest_config() -> Config | None:
    """The configuration published last; None before the first."""
    texts = ConfigVersion.objects.order_by("-version").annotate(text=Cast("document", TextField()))
    newest = texts.values_list("text", flat=True).first()
    return None if newest is None else decode_config(newest)


def _session_lives(credential: Credential, sessions: set[str]) -> bool:
    return credential.session_key is None or credential.session_key in sessions


def _live_sessions(keys: list[str]) -> set[str]:
    live = Session.objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
    return set(live.values_list("session_key", flat=True))


def _accounts_of(user_ids: Collection[int]) -> dict[int, dict[int, AccountTerms]]:
    owners = dict(Profile.objects.filter(user__in=user_ids).values_list("account", "user"))
    found: dict[int, dict[int, AccountTerms]] = {}
    for account, group, client_class in Account.objects.filter(pk__in=owners).values_list(
        "pk", "group", "client_class"
    ):
        terms = AccountTerms(group=group, client_class=ClientClass(client_class))
        found.setdefault(owners[account], {})[account] = terms
    return found


def _unthrottled(user_ids: Collection[int]) -> set[int]:
    backend = "django.contrib.auth.backends.ModelBackend"
    allowed = User.objects.with_perm(UNTHROTTLED_PERMISSION, backend=backend)
    return set(allowed.filter(pk__in=user_ids).values_list("pk", flat=True))


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
