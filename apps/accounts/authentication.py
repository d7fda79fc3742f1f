"""Who is asking: a bearer token for API and mobile clients, a session with CSRF protection for browsers."""

from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.request import Request

from apps.accounts import tokens
from apps.accounts.models import User
from apps.doors.problems import Problem
from trading.refusals import Refusal

CHALLENGE = 'Bearer realm="tribook"'


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer TOKEN`. A wrong token is refused, never treated as no token."""

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            return tokens.user_from_access_token(token.strip()), None
        except tokens.Refused as refused:
            raise Problem(refused.code, headers={"WWW-Authenticate": CHALLENGE}) from None

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002
        return CHALLENGE


class BrowserAuthentication(SessionAuthentication):
    """Django's session; every unsafe method needs the CSRF token."""


def require_staff(request: Request) -> None:
    """Raise Problem(forbidden) unless an active member of staff is asking."""
    if not (request.user.is_authenticated and request.user.is_staff):
        raise Problem(Refusal.FORBIDDEN)
