"""Rate limits: exact moving windows in Redis, one bucket per kind of request, told in headers on every answer.

A limiter that cannot be asked, or does not answer the question, lets nothing through: the caller is told that the platform is
busy, and nothing was done. Commands need the same Redis, so nobody is kept from closing by it.

Orders and closes have buckets of their own, per account, so that a client at its limit can always flatten. The caller's
address is the socket's peer: a forwarded-for header is never believed.
"""

import math
import time
from functools import lru_cache
from typing import Any

import redis as redis_errors
import structlog
from django.conf import settings
from limits import RateLimitItem, parse
from redis.commands.core import Script
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from apps.doors.connections import redis_connection
from apps.doors.problems import Problem
from trading.refusals import Refusal

_log = structlog.get_logger("doors")

_TAKE = """
local key, now_us, limit, window_us = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local oldest = redis.call('LINDEX', key, -1)
while oldest and tonumber(oldest) <= now_us - window_us do
    redis.call('RPOP', key)
    oldest = redis.call('LINDEX', key, -1)
end
local free = limit - redis.call('LLEN', key)
if free > 0 then
    redis.call('LPUSH', key, ARGV[1])
    redis.call('PEXPIRE', key, window_us / 1000)
end
return {free, tonumber(oldest or now_us) + window_us - now_us, key}
"""
"""Forget what has left the window, count what is in it, and add this request if there is room: one step, one round trip.

Answers how many requests were free before this one, the microseconds until the oldest of them leaves the window, and whose
window it was: an answer to somebody else's question counts for nobody.
"""


@lru_cache(maxsize=1)
def _take_script() -> Script:
    return redis_connection().register_script(_TAKE)


@lru_cache(maxsize=64)
def _item(bucket: str) -> RateLimitItem:
    return parse(settings.RATE_LIMITS[bucket])


def take(request: Request, bucket: str, who: str) -> None:
    """Count one request; raise Problem: rate_limited when the window is full, busy when it cannot be counted. The headers come
    from `headers_for`."""
    item = _item(bucket)
    key, now_us, window_us = f"limit:{bucket}:{who}", time.time_ns() // 1000, item.get_expiry() * 1_000_000
    free, reset_us = _counted(key, now_us, item.amount, window_us)
    headers = _headers(bucket, item, free - 1, reset_us / 1e6)
    request._request.rate_limit_headers = headers  # type: ignore[attr-defined]  # noqa: SLF001
    if free <= 0:
        raise Problem(Refusal.RATE_LIMITED, headers=headers, retry_after_ms=max(reset_us // 1000, 1))


def _counted(key: str, now_us: int, amount: int, window_us: int) -> tuple[int, int]:
    try:
        answer: Any = _take_script()(keys=[key], args=[now_us, amount, window_us])
        free, reset_us, counted = answer
    except (redis_errors.RedisError, TypeError, ValueError) as error:
        raise _uncounted(type(error).__name__) from None
    if counted != key.encode():
        redis_connection().connection_pool.disconnect()
        raise _uncounted("another question's answer")
    return int(free), int(reset_us)


def _uncounted(why: str) -> Problem:
    _log.warning("limiter_unreachable", error=why)
    return Problem(Refusal.BUSY, retry_after_ms=1000)


def _headers(bucket: str, item: RateLimitItem, remaining: int, reset_s: float) -> dict[str, str]:
    reset = max(1, math.ceil(reset_s))
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
