"""A process shows that it is alive and how it is: one hash with a short life, renewed about every second."""

import os
import time
from collections.abc import Mapping
from typing import Any

import redis

from bus import names
from bus.codec import encode


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
