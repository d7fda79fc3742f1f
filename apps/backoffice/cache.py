"""The overview as JSON, made at most twice a second however many screens show it."""

import threading
import time
from collections.abc import Callable
from decimal import Decimal

from apps.backoffice.queries import overview
from bus.codec import encode
from trading.numbers import plain

KEPT_S = 0.5


class Kept:
    """One value that is made anew when it is older than `kept_s`. Who comes while it is made waits for it."""

    def __init__(self, make: Callable[[], bytes], *, kept_s: float, now: Callable[[], float]) -> None:
        self._make = make
        self._kept_s = kept_s
        self._now = now
        self._lock = threading.Lock()
        self._value = b""
        self._made_at = float("-inf")

    def get(self) -> bytes:
        with self._lock:
            if self._now() - self._made_at >= self._kept_s:
                self._value = self._make()
                self._made_at = self._now()
            return self._value

    def forget(self) -> None:
        with self._lock:
            self._made_at = float("-inf")


def plainly(value: object) -> object:
    """The same with every Decimal spelt without an exponent: the database's zero would otherwise read 0E-8."""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, dict):
        return {name: plainly(part) for name, part in value.items()}
    return [plainly(part) for part in value] if isinstance(value, list) else value


kept = Kept(lambda: encode(plainly(overview())), kept_s=KEPT_S, now=time.monotonic)


def newest_overview() -> bytes:
    """The overview's JSON, at most half a second old."""
    return kept.get()
