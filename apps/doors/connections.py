"""What a door's process keeps open: one Redis pool, one engine client, the business clock. Made at first use."""

import threading
from functools import lru_cache

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from bus.client import Client
from bus.clock import Clock, clock_from_environment

ANSWERS_WITHIN_S = 2.0
_lock = threading.Lock()


@lru_cache(maxsize=1)
def redis_connection() -> redis.Redis:
    """Thread-safe; answers are bytes. A connection that broke while it lay in the pool is replaced once; a Redis that does not
    answer is given up soon, since a thread of the door waits for it.
    """
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=ANSWERS_WITHIN_S,
        socket_connect_timeout=ANSWERS_WITHIN_S,
        health_check_interval=30,
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )


@lru_cache(maxsize=1)
def clock() -> Clock:
    return clock_from_environment()


@lru_cache(maxsize=1)
def _engine() -> Client:
    return Client(settings.REDIS_URL, clock())


def engine() -> Client:
    """The process's one client of the engine: thread-safe, with one reader thread."""
    with _lock:
        return _engine()
