"""Logging in and out over the API."""

import structlog
from django.contrib.auth import authenticate
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts import tokens
from apps.accounts.access import caller_of
from apps.accounts.models import User
from apps.doors.limits import take
from apps.doors.parsing import Fields
from apps.doors.problems import Problem
from apps.doors.schema import LOGIN, LOGOUT, PROBLEMS, REFRESH, TOKENS
from apps.doors.views import DoorView
from trading.refusals import Refusal

_log = structlog.get_logger("accounts")


class _LoginView(DoorView):
    permission_classes = (AllowAny,)
    authentication_classes = ()
    bucket = "login"


class TokenView(_LoginView):
    """Log in."""

    @extend_schema(operation_id="log_in", request=LOGIN, responses={200: TOKENS, **PROBLEMS})
    def post(self, request: Request) -> Response:
        fields = Fields(request.data, known=("username", "password"))
        username = fields.text("username", length_max=150)
        password = fields.raw("password")
        if not isinstance(password, str) or not 1 <= len(password) <= 1024:
            fields.error("password", "Required text.")
        fields.done()
        take(request, "login", f"name:{username}")
        user = authenticate(request._request, username=username, password=password)  # noqa: SLF001
        if not isinstance(user, User):
            _log.info("login_failed", username=username)
            raise Problem(Refusal.NOT_AUTHENTICATED)
        _log.info("logged_in", user_id=user.pk)
        return Response(_shown(tokens.issue(user)))


class RefreshView(_LoginView):
    """New tokens for a refresh token, which is used up."""

    bucket = "other"

    @extend_schema(operation_id="refresh_tokens", request=REFRESH, responses={200: TOKENS, **PROBLEMS})
    def post(self, request: Request) -> Response:
        fields = Fields(request.data, known=("refresh",))
        token = fields.text("refresh", length_max=tokens.TOKEN_LENGTH_MAX)
        fields.done()
        try:
            return Response(_shown(tokens.refresh(token)))
        except tokens.Refused as refused:
            raise Problem(refused.code) from None


class LogoutView(DoorView):
    """Log out everywhere: every token of the caller is refused from now on."""

    @extend_schema(operation_id="log_out", request=LOGOUT, responses={204: None, **PROBLEMS})
    def post(self, request: Request) -> Response:
        tokens.revoke_all(caller_of(request))
        return Response(status=204)


def _shown(pair: tokens.TokenPair) -> dict[str, object]:
    return {
        "access": pair.access,
        "refresh": pair.refresh,
        "token_type": "Bearer",
        "expires_in": pair.expires_in_s,
    }
