"""Rate limits: exact moving windows in Redis, one bucket per kind of request, told in headers on every answer.

Orders and closes have buckets of their own, per account, so that a client at its limit can always flatten. The caller's
address is the socket's peer: a forwarded-for header is never believed.
"""

import time
from functools import lru_cache
from typing import Any

import redis as redis_errors
import structlog
from django.conf import settings
from limits import RateLimitItem, parse
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from apps.doors.connections import redis_connection
from apps.doors.problems import Problem
from trading.refusals import Refusal

_log = structlog.get_logger("doors")


@lru_cache(maxsize=1)
def _limiter() -> MovingWindowRateLimiter:
    pool: Any = redis_connection().connection_pool
    return MovingWindowRateLimiter(RedisStorage("redis://", connection_pool=pool, key_prefix="limit"))


@lru_cache(maxsize=64)
def _item(bucket: str) -> RateLimitItem:
    return parse(settings.RATE_LIMITS[bucket])


def take(request: Request, bucket: str, who: str) -> None:
    """Count one request; raise Problem(rate_limited) when the window is full. The headers come from `headers_for`."""
    item = _item(bucket)
    try:
        allowed = _limiter().hit(item, bucket, who)
        stats = _limiter().get_window_stats(item, bucket, who)
    except redis_errors.RedisError as error:
        # A limiter that is away must not stop a client from closing; orders cannot get through without Redis anyway.
        _log.warning("limiter_unreachable", error=type(error).__name__)
        return
    reset_s = max(stats.reset_time - time.time(), 0.0)
    headers = _headers(bucket, item, stats.remaining, reset_s)
    request._request.rate_limit_headers = headers  # type: ignore[attr-defined]  # noqa: SLF001
    if not allowed:
        raise Problem(Refusal.RATE_LIMITED, headers=headers, retry_after_ms=max(int(reset_s * 1000), 1))


def _headers(bucket: str, item: RateLimitItem, remaining: int, reset_s: float) -> dict[str, str]:
    reset = max(1, -int(-reset_s // 1))
    return {
        "RateLimit-Policy": f'"{bucket}";q={item.amount};w={item.get_expiry()}',
        "RateLimit": f'"{bucket}";r={max(remaining, 0)};t={reset}',
        "X-RateLimit-Limit": str(item.amount),
        "X-RateLimit-Remaining": str(max(remaining, 0)),
        "X-RateLimit-Reset": str(reset),
    }


def headers_for(request: Request) -> dict[str, str]:
    return dict(getattr(request._request, "rate_limit_headers", {}))  # noqa: SLF001


def caller(request: Request) -> str:
    """Who is counted: the user, else the peer's address."""
    user = request.user
    if user is not None and user.is_authenticated:
        return f"user:{user.pk}"
    return f"address:{request.META.get('REMOTE_ADDR', '')}"


class BucketThrottle(BaseThrottle):
    """Counts every request in its view's `bucket`; None when the view itself counts, per account."""

    def allow_request(self, request: Request, view: Any) -> bool:
        bucket = getattr(view, "bucket", "other")
        if bucket is not None:
            take(request, bucket, caller(request))
        return True
