"""A process shows that it is alive and how it is: one hash with a short life, renewed about every second."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import redis

from bus import names
from bus.codec import encode

BEAT_S = 1.0


def beat(
    connection: "redis.Redis", process: str, state: str = "up", detail: Mapping[str, object] | None = None
) -> None:
    """Show `process` as being in `state` for the next 15 seconds. Raises redis.RedisError when Redis is away."""
    key = names.health(process)
    fields: dict[Any, Any] = {
        "pid": os.getpid(),
        "state": state,
        "at": f"{time.time():.3f}",
        "detail": encode(detail or {}),
    }
    with connection.pipeline(transaction=True) as pipeline:
        pipeline.hset(key, mapping=fields)
        pipeline.expire(key, names.STATE_TTL_S)
        pipeline.execute()


class Pulse:
    """Says about every second in Redis how a process is, from a thread of its own: long work is not death.

    A Redis that is away is passed over.
    """

    def __init__(self, redis_url: str, say: "Callable[[redis.Redis], None]", *, timeout_s: float = 2.0) -> None:
        """`timeout_s` is how long an answer is waited for."""
        self._url = redis_url
        self._timeout_s = timeout_s
        self._say = say
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="pulse", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _work(self) -> None:
        client: redis.Redis = redis.Redis.from_url(self._url, socket_timeout=self._timeout_s, socket_connect_timeout=2)
        while not self._stopped.is_set():
            with suppress(redis.RedisError, OSError):
                self._say(client)
            self._stopped.wait(BEAT_S)
        client.close()
