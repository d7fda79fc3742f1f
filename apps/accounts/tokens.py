"""Tokens for API and mobile clients: an access token of 10 minutes, and a refresh token that is used once.

Every token carries its user's `token_version`; raising that number refuses all of them from the next request on. A refresh
token that comes twice was stolen or copied: its whole family and every access token of the user end. The algorithm and key
are ours alone; what a token's header proposes is never looked at.
"""

import hashlib
import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken

from apps.accounts.models import RefreshToken, User
from trading.refusals import Refusal

AUDIENCE = "tribook-api"
ISSUER = "tribook"
ACCESS = "access"
REFRESH = "refresh"
TOKEN_LENGTH_MAX = 2048
_SUBJECT = re.compile(r"[0-9]{1,18}", re.ASCII)


class Refused(Exception):
    """The token does not prove anything: `code` is NOT_AUTHENTICATED or TOKEN_EXPIRED."""

    def __init__(self, code: Refusal) -> None:
        super().__init__(code.value)
        self.code = code


@dataclass(frozen=True, slots=True)
class TokenPair:
    access: str
    refresh: str
    expires_in_s: int


def issue(user: User) -> TokenPair:
    """A new login: tokens of a new family."""
    return _pair(user, family=uuid4(), now=timezone.now())


def user_from_access_token(token: str) -> User:
    """The user that an access token proves, looked up now. Raises Refused."""
    claims = _claims(token, ACCESS)
    user = _user(int(claims["sub"]))
    _require_valid(user, claims)
    assert user is not None
    return user


def _user(pk: int) -> User | None:
    """The user's row as it is now. Written out, because every request of every client comes through here."""
    with connection.cursor() as cursor:
        cursor.execute(_USER_BY_ID, [pk])
        row = cursor.fetchone()
    return User.from_db("default", _USER_COLUMNS, row) if row else None


_USER_COLUMNS = [field.attname for field in User._meta.concrete_fields]  # noqa: SLF001 - Django's own way to a model's columns
_USER_BY_ID = f"SELECT {', '.join(_USER_COLUMNS)} FROM accounts_user WHERE id = %s"  # noqa: S608 - names of our own columns


def refresh(token: str) -> TokenPair:
    """New tokens for a refresh token, which is used up. Raises Refused; a second use revokes its family."""
    claims = _claims(token, REFRESH)
    now = timezone.now()
    with transaction.atomic():
        row = RefreshToken.objects.select_for_update().select_related("user").filter(pk=claims["jti"]).first()
        was_used = row is not None and row.used_at is not None
        if row is not None and not was_used and row.revoked_at is None:
            _require_valid(row.user, claims)
            row.used_at = now
            row.save(update_fields=["used_at"])
            return _pair(row.user, family=row.family, now=now)
    if was_used and row is not None:
        revoke_family(row.family)
        row.user.revoke_tokens()
    raise Refused(Refusal.TOKEN_EXPIRED)


def revoke_all(user: User) -> None:
    """Log out everywhere: every token of the user is refused from now on."""
    RefreshToken.objects.filter(user=user, revoked_at=None).update(revoked_at=timezone.now())
    user.revoke_tokens()


def revoke_family(family: UUID) -> None:
    RefreshToken.objects.filter(family=family, revoked_at=None).update(revoked_at=timezone.now())


def prune() -> int:
    """Forget refresh tokens that have expired; how many those were."""
    deleted, _ = RefreshToken.objects.filter(expires_at__lt=timezone.now()).delete()
    return deleted


def _pair(user: User, *, family: UUID, now: datetime) -> TokenPair:
    jti = uuid4()
    RefreshToken.objects.create(
        jti=jti, family=family, user=user, issued_at=now, expires_at=now + settings.REFRESH_TOKEN_LIFETIME
    )
    return TokenPair(
        access=_encode(user, ACCESS, now, settings.ACCESS_TOKEN_LIFETIME, {}),
        refresh=_encode(user, REFRESH, now, settings.REFRESH_TOKEN_LIFETIME, {"jti": str(jti)}),
        expires_in_s=int(settings.ACCESS_TOKEN_LIFETIME.total_seconds()),
    )


def _encode(user: User, kind: str, now: datetime, lifetime: timedelta, more: dict[str, Any]) -> str:
    at = int(now.timestamp())
    claims = {
        "sub": str(user.pk),
        "ver": user.token_version,
        "typ": kind,
        "iat": at,
        "exp": at + int(lifetime.total_seconds()),
        **more,
    }
    return str(_backend().encode(claims))


def _claims(token: str, kind: str) -> dict[str, Any]:
    """The claims of a token of ours of that kind, with the shapes that the rest of this page relies on."""
    if not isinstance(token, str) or len(token) > TOKEN_LENGTH_MAX:
        raise Refused(Refusal.NOT_AUTHENTICATED)
    try:
        claims = _signed_claims(token)
    except TokenBackendExpiredToken:
        raise Refused(Refusal.TOKEN_EXPIRED) from None
    except (TokenBackendError, ValueError, TypeError):
        raise Refused(Refusal.NOT_AUTHENTICATED) from None
    subject = str(claims.get("sub", ""))
    numbers = isinstance(claims.get("ver"), int) and isinstance(claims.get("exp"), int)
    whole = bool(_SUBJECT.fullmatch(subject)) and numbers
    if whole and claims["exp"] <= time.time():
        raise Refused(Refusal.TOKEN_EXPIRED)
    if claims.get("typ") != kind or not whole or (kind == REFRESH and "jti" not in claims):
        raise Refused(Refusal.NOT_AUTHENTICATED)
    return claims


@lru_cache(maxsize=4096)
def _signed_claims(token: str) -> dict[str, Any]:
    """The claims of a token whose signature, audience and issuer are ours. Kept, because a signature stays valid: what
    changes with time (expiry, the user) is looked at on every use. Refusals are not kept.
    """
    return dict(_backend().decode(token))  # type: ignore[arg-type]


def _require_valid(user: User | None, claims: dict[str, Any]) -> None:
    if user is None or not user.is_active or user.token_version != claims["ver"]:
        raise Refused(Refusal.TOKEN_EXPIRED)


def _backend() -> TokenBackend:
    """HS256 with a key that signs nothing else; decoding accepts no other algorithm."""
    key = hashlib.sha256(b"tribook access tokens\0" + settings.SECRET_KEY.encode()).hexdigest()
    return TokenBackend("HS256", signing_key=key, audience=AUDIENCE, issuer=ISSUER)
