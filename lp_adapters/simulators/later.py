"""Calls that wait for their time: one thread, one heap. Used for a provider's last look."""

import heapq
import itertools
import threading
import time
from collections.abc import Callable

WAITING_MAX = 10_000


class Later:
    """Runs calls in the order of their time. `run` belongs to one thread; `call` may be used from any."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._changed = threading.Condition()
        self._order = itertools.count()

    def call(self, delay_s: float, action: Callable[[], None]) -> None:
        """Call `action` after `delay_s`. Raises OverflowError when WAITING_MAX calls wait already."""
        with self._changed:
            if len(self._waiting) >= WAITING_MAX:
                raise OverflowError(f"{WAITING_MAX} calls are waiting")
            heapq.heappush(self._waiting, (time.monotonic() + delay_s, next(self._order), action))
            self._changed.notify()

    def run(self) -> None:
        """For ever: wait for the next call's time, then make it."""
        while True:
            self._next()()

    def _next(self) -> Callable[[], None]:
        with self._changed:
            while True:
                due_in = self._waiting[0][0] - time.monotonic() if self._waiting else None
                if due_in is not None and due_in <= 0:
                    return heapq.heappop(self._waiting)[2]
                self._changed.wait(due_in)
