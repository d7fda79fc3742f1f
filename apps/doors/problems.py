"""Refusals as RFC 9457 problem+json, all from the one registry. Nothing of the inside ever reaches the text.

Anything unexpected is logged with the request id and answered as `internal`, without a word about what it was.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from redis.exceptions import RedisError
from rest_framework import exceptions
from rest_framework.response import Response

from apps.doors.middleware import request_id_of
from bus import codec
from trading.refusals import REGISTRY, Refusal

CONTENT_TYPE = "application/problem+json"
_log = structlog.get_logger("doors")


class FieldError(dict[str, str]):
    """One wrong field: a JSON pointer, a code and a sentence."""

    def __init__(self, pointer: str, code: Refusal, detail: str) -> None:
        super().__init__(pointer=pointer, code=code.value, detail=detail)


class Problem(Exception):
    """A refusal on its way out of a door."""

    def __init__(
        self,
        code: Refusal,
        detail: str = "",
        *,
        status: int | None = None,
        errors: Sequence[FieldError] = (),
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(code.value)
        self.code = code
        self.detail = detail or REGISTRY[code].remedy
        self.status = status or REGISTRY[code].http
        self.errors = tuple(errors)
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})
        self.retry_after_ms = retry_after_ms


def problem_body(problem: Problem, *, instance: str, request_id: str) -> dict[str, Any]:
    """The members of the answer. `errors` and `retry_after_ms` only where there is something to say."""
    terms = REGISTRY[problem.code]
    body: dict[str, Any] = {
        "type": f"/v1/errors/{problem.code.value}",
        "title": terms.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": instance,
        "code": problem.code.value,
        "request_id": request_id,
        "retryable": terms.retryable,
        "mt_retcode": terms.mt,
        "ord_rej_reason": terms.fix,
    }
    if problem.retry_after_ms is not None:
        body["retry_after_ms"] = problem.retry_after_ms
    if problem.errors:
        body["errors"] = list(problem.errors)
    return {**body, **problem.extra}


def problem_response(problem: Problem, request: HttpRequest) -> Response:
    """The DRF answer for a problem."""
    body = problem_body(problem, instance=request.path, request_id=request_id_of(request))
    response = Response(body, status=problem.status, content_type=CONTENT_TYPE, headers=problem.headers)
    if problem.retry_after_ms is not None:
        response["Retry-After"] = str(-(-problem.retry_after_ms // 1000))
    return response


def plain_problem(code: Refusal, request: HttpRequest, *, status: int | None = None) -> HttpResponse:
    """The same, for places outside of DRF."""
    problem = Problem(code, status=status)
    body = problem_body(problem, instance=request.path, request_id=request_id_of(request))
    return HttpResponse(codec.encode(body), status=problem.status, content_type=CONTENT_TYPE)


SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_BY_EXCEPTION: tuple[tuple[type[Exception], Refusal], ...] = (
    (exceptions.NotAuthenticated, Refusal.NOT_AUTHENTICATED),
    (exceptions.AuthenticationFailed, Refusal.NOT_AUTHENTICATED),
    (exceptions.PermissionDenied, Refusal.FORBIDDEN),
    (DjangoPermissionDenied, Refusal.FORBIDDEN),
    (exceptions.MethodNotAllowed, Refusal.METHOD_NOT_ALLOWED),
    (exceptions.UnsupportedMediaType, Refusal.UNSUPPORTED_MEDIA_TYPE),
    (exceptions.ParseError, Refusal.MALFORMED_JSON),
    (exceptions.NotFound, Refusal.NOT_FOUND),
    (Http404, Refusal.NOT_FOUND),
    (RequestDataTooBig, Refusal.REQUEST_TOO_LARGE),
)


def problem_from_exception(exc: Exception, context: Mapping[str, Any]) -> Response:
    """DRF's exception handler: every exception becomes a problem."""
    request = context["request"]
    problem = _problem_of(exc, str(request.method))
    if problem.code is Refusal.INTERNAL:
        _log.error("request_failed", path=request.path, exc_info=exc)
    return problem_response(problem, request)


def _problem_of(exc: Exception, method: str) -> Problem:
    if isinstance(exc, Problem):
        return exc
    if isinstance(exc, OperationalError | InterfaceError | RedisError):
        return _without_a_store(method)
    for kind, code in _BY_EXCEPTION:
        if isinstance(exc, kind):
            return Problem(code, headers=_headers_of(exc))
    return Problem(Refusal.INTERNAL)


def _without_a_store(method: str) -> Problem:
    """PostgreSQL or Redis was away for a moment. Reading can simply be done again; what was to change may have been done."""
    code = Refusal.BUSY if method in SAFE_METHODS else Refusal.TIMEOUT_UNKNOWN
    return Problem(code, retry_after_ms=1000)


def _headers_of(exc: Exception) -> dict[str, str]:
    challenge = getattr(exc, "auth_header", None)
    return {"WWW-Authenticate": challenge} if challenge else {}


def is_api(request: HttpRequest) -> bool:
    return request.path.startswith(("/v1/", "/api/"))
