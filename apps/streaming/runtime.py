"""The stream process's one hub and its tasks: started with the event loop, ended by telling every client to come back."""

import asyncio
import os
import signal
import threading
import time
from types import FrameType

import structlog
from django.conf import settings

from apps.streaming.feeds import Feeds
from apps.streaming.hub import Hub
from apps.streaming.protocol import Close
from bus.clock import Clock, clock_from_environment

GOODBYE_WITHIN_S = 1.0
log = structlog.get_logger(__name__)


def steady_us() -> int:
    """Microseconds of the monotonic clock: for throttles, limits and deadlines."""
    return time.monotonic_ns() // 1000


class Runtime:
    """What the consumers of this process share."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.now_us: Clock = steady_us
        self.business_clock: Clock = clock_from_environment()
        self.serving: set[asyncio.Task[None]] = set()
        """Every client's task; it ends when its close frame is written."""
        self._feeds: asyncio.Task[None] | None = None
        self._goodbye: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the tasks in the running event loop. Starting twice does nothing more."""
        if self._feeds is None:
            feeds = Feeds(self.hub, redis_url=settings.REDIS_URL, now_us=self.now_us)
            self._feeds = asyncio.get_running_loop().create_task(feeds.run())
            self._feeds.add_done_callback(_end_process)
            if threading.current_thread() is threading.main_thread():
                for number in (signal.SIGTERM, signal.SIGINT):
                    self._say_goodbye_before(number)

    def _say_goodbye_before(self, number: signal.Signals) -> None:
        """The server closes its sockets with a code of its own; ours, which says when to come back, must go first."""
        loop = asyncio.get_running_loop()
        server_stops = signal.getsignal(number)

        def stop(received: int, frame: FrameType | None) -> None:
            def begin() -> None:
                self._goodbye = self._goodbye or loop.create_task(self._close_all())
                self._goodbye.add_done_callback(lambda _: callable(server_stops) and server_stops(received, frame))

            loop.call_soon_threadsafe(begin)

        signal.signal(number, stop)

    async def _close_all(self) -> None:
        for client in list(self.hub.clients):
            client.finish(Close.RESTART, "restart")
        if self.serving:
            await asyncio.wait(self.serving, timeout=GOODBYE_WITHIN_S)


def _end_process(task: asyncio.Task[None]) -> None:
    """A feed died of a bug: a stream that tells nothing must not go on looking alive. The supervisor starts a new one."""
    if not task.cancelled() and task.exception() is not None:
        log.critical("feeds_failed", exc_info=task.exception())
        os._exit(70)


runtime = Runtime()
