"""What a door's process keeps open: one Redis pool, one engine client, the business clock. Made at first use."""

import threading
from functools import lru_cache

import redis
from django.conf import settings

from bus.client import Client
from bus.clock import Clock, clock_from_environment

_lock = threading.Lock()


@lru_cache(maxsize=1)
def redis_connection() -> redis.Redis:
    """Thread-safe; answers are bytes."""
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=5, health_check_interval=30
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
