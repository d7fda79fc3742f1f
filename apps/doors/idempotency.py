"""`Idempotency-Key`: the same request again gets the same bytes, for 24 hours; another request under the key is refused.

The stored answer is a convenience. What makes a movement of money happen once is the engine's own key, which callers derive
from this one: so a row whose process died before answering may simply be worked on again.
"""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid5

from django.http import HttpResponse, HttpResponseBase
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from apps.doors.models import IdempotentResponse
from apps.doors.problems import Problem, problem_response
from bus import codec
from trading.refusals import Refusal

KEPT = timedelta(hours=24)
ABANDONED = timedelta(seconds=30)
_KEY = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_NAMESPACE = UUID("6f1f5b0e-6f5c-4d35-9f4a-0d5c4b7c9a11")
_PASSING = frozenset({401, 409, 429})
"""Answers about this moment, not about the request: never kept."""


def key_of(request: Request, *, required: bool) -> str:
    """The header's key, empty when there is none. Raises Problem when it is required or malformed."""
    key = request.headers.get("Idempotency-Key", "")
    if not key and required:
        raise Problem(Refusal.IDEMPOTENCY_KEY_REQUIRED)
    if key and not _KEY.fullmatch(key):
        raise Problem(Refusal.INVALID_REQUEST, "An Idempotency-Key is 1 to 64 letters, digits, or any of . _ : -")
    return key


def command_key(request: Request, key: str) -> str:
    """The engine's key for this Idempotency-Key: one per user and key, and a UUID like any other client_order_id."""
    return str(uuid5(_NAMESPACE, f"{request.user.pk}/{key}"))


def once(request: Request, work: Callable[[], Response], *, required: bool = False) -> HttpResponseBase:
    """The answer of `work`, done at most once per user and key. Without a key `work` is simply done."""
    key = key_of(request, required=required)
    if not key:
        return work()
    fingerprint = _fingerprint(request)
    row, is_new = _claim(int(str(request.user.pk)), key, fingerprint)
    if not is_new:
        return _replay(row, fingerprint)
    try:
        response = _answered(request, work)
    except BaseException:
        row.delete()
        raise
    return _keep(row, response)


def _fingerprint(request: Request) -> str:
    """What makes two requests the same: method, path, query and the values of the body."""
    text = "\n".join([str(request.method), request.get_full_path(), json.dumps(request.data, sort_keys=True)])
    return hashlib.sha256(text.encode()).hexdigest()


def _claim(user_id: int, key: str, fingerprint: str) -> tuple[IdempotentResponse, bool]:
    """The row of this key, and whether the work is ours to do."""
    now = timezone.now()
    mine = IdempotentResponse.objects.filter(user_id=user_id, key=key)
    mine.filter(created_at__lt=now - KEPT).delete()
    mine.filter(status=0, request_hash=fingerprint, created_at__lt=now - ABANDONED).delete()
    return IdempotentResponse.objects.get_or_create(
        user_id=user_id, key=key, defaults={"request_hash": fingerprint, "created_at": now}
    )


def _replay(row: IdempotentResponse, fingerprint: str) -> HttpResponse:
    if row.request_hash != fingerprint:
        raise Problem(Refusal.IDEMPOTENCY_KEY_REUSED)
    if row.status == 0:
        raise Problem(Refusal.REQUEST_IN_PROGRESS, retry_after_ms=1000)
    response = _bytes(row)
    response["Idempotent-Replayed"] = "true"
    return response


def _answered(request: Request, work: Callable[[], Response]) -> Response:
    try:
        return work()
    except Problem as problem:
        return problem_response(problem, request._request)  # noqa: SLF001


def _keep(row: IdempotentResponse, response: Response) -> HttpResponseBase:
    """Store what is final; forget what only says 'not now', so that the next try is a real one."""
    if response.status_code >= 500 or response.status_code in _PASSING:
        row.delete()
        return response
    row.status = response.status_code
    row.content_type = response.content_type or "application/json"
    row.location = response.get("Location", "")
    row.body = codec.encode(response.data)
    row.save(update_fields=["status", "content_type", "location", "body"])
    return _bytes(row)


def _bytes(row: IdempotentResponse) -> HttpResponse:
    response = HttpResponse(bytes(row.body), status=row.status, content_type=row.content_type)
    if row.location:
        response["Location"] = row.location
    return response


def prune() -> int:
    """Forget what is older than 24 hours; how many rows that were."""
    deleted, _ = IdempotentResponse.objects.filter(created_at__lt=timezone.now() - KEPT).delete()
    return deleted
