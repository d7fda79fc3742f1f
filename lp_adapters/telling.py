"""A provider process's two threads to Redis: one that tells, one that listens. Neither may ever hold up a FIX callback.

Redis is never the truth: what cannot be told is dropped (prices grow stale, nudges are replaced by polling), and both
threads keep trying to come back.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import redis

logger = logging.getLogger("tribook.lp")

QUEUE_MAX = 20_000
AT_ONCE_MAX = 500
REPORT_EVERY_S = 1.0
TIMEOUT_S = 2.0
BACK_OFF_MAX_S = 2.0

Report = Callable[["redis.Redis"], None]


def connect(redis_url: str) -> "redis.Redis":
    """A client that gives up soon."""
    return redis.Redis.from_url(redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S)


class Teller:
    """Publishes what it is handed, in order, and calls `report` about every second and whenever `report_now` was called."""

    def __init__(self, redis_url: str, report: Report) -> None:
        self._redis = connect(redis_url)
        self._report = report
        self._queue: deque[tuple[str, bytes]] = deque(maxlen=QUEUE_MAX)
        self._wake = threading.Event()
        self._report_due_s = 0.0
        self._away = False
        self._thread = threading.Thread(target=self._run, name="teller", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def tell(self, channel: str, payload: bytes) -> None:
        """Never waits. When the queue is full the oldest message goes: for prices and nudges the newest counts."""
        self._queue.append((channel, payload))
        self._wake.set()

    def report_now(self) -> None:
        self._report_due_s = 0.0
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait(max(0.0, self._report_due_s - time.monotonic()) if not self._queue else 0.0)
            self._wake.clear()
            try:
                self._publish()
                self._report_if_due()
                self._away = False
            except (redis.RedisError, OSError) as error:
                self._redis_is_away(error)

    def _publish(self) -> None:
        while self._queue:
            with self._redis.pipeline(transaction=False) as pipeline:
                for _ in range(min(len(self._queue), AT_ONCE_MAX)):
                    pipeline.publish(*self._queue.popleft())
                pipeline.execute()

    def _report_if_due(self) -> None:
        if time.monotonic() >= self._report_due_s:
            self._report_due_s = time.monotonic() + REPORT_EVERY_S
            self._report(self._redis)

    def _redis_is_away(self, error: Exception) -> None:
        if not self._away:
            logger.warning("redis_away error=%s", error)
        self._away = True
        self._queue.clear()
        self._report_due_s = time.monotonic() + REPORT_EVERY_S
        time.sleep(REPORT_EVERY_S / 4)


class Listener:
    """Calls `heard(channel, payload)` for every message on some channels."""

    def __init__(self, redis_url: str, channels: tuple[str, ...], heard: Callable[[str, bytes], None]) -> None:
        self._redis = redis.Redis.from_url(redis_url, socket_connect_timeout=TIMEOUT_S, health_check_interval=5)
        self._channels = channels
        self._heard = heard
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        wait_s = 0.05
        while True:
            with suppress(redis.RedisError, OSError), self._pubsub() as pubsub:
                pubsub.subscribe(*self._channels)
                wait_s = 0.05
                self._listen(pubsub)
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, BACK_OFF_MAX_S)

    def _pubsub(self) -> "redis.client.PubSub":
        return self._redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call, no-any-return]

    def _listen(self, pubsub: "redis.client.PubSub") -> None:
        while True:
            message = pubsub.get_message(timeout=1.0)
            if message is not None:
                self._heard(message["channel"].decode(), message["data"])
