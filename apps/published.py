"""The configuration that was published last, as every door reads it: decoded once per version, checked for news each second."""

import threading
import time
from collections.abc import Callable

from django.db import connection

from bus.codec import decode_config
from trading.configuration import Config
from trading.effective import EffectiveTerms

CHECK_EVERY_S = 1.0


class NothingPublished(LookupError):
    """No configuration was published yet."""


class _Newest:
    """The newest version, kept. Threads may race to renew it; the last one wins with the same value."""

    def __init__(self, read: Callable[[int], tuple[int, str] | None], now: Callable[[], float]) -> None:
        self._read = read
        self._now = now
        self._lock = threading.Lock()
        self._config: Config | None = None
        self._checked = float("-inf")

    def get(self) -> Config:
        with self._lock:
            if self._config is None or self._now() - self._checked >= CHECK_EVERY_S:
                self._renew()
            if self._config is None:
                raise NothingPublished("no configuration is published yet")
            return self._config

    def forget(self) -> None:
        with self._lock:
            self._config = None

    def _renew(self) -> None:
        self._checked = self._now()
        newer = self._read(self._config.version if self._config else 0)
        if newer is not None:
            self._config = decode_config(newer[1])


def _newer_than(version: int) -> tuple[int, str] | None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT version, document::text FROM config_version WHERE version > %s ORDER BY version DESC LIMIT 1",
            [version],
        )
        row = cursor.fetchone()
    return (int(row[0]), str(row[1])) if row else None


_newest = _Newest(_newer_than, time.monotonic)


def current_config() -> Config:
    """The newest published configuration, at most a second old. Raises NothingPublished."""
    return _newest.get()


_effective: tuple[Config, EffectiveTerms] | None = None


def effective_terms(config: Config) -> EffectiveTerms:
    """Symbols as groups have them under this document; remembered for the document that was asked for last."""
    global _effective  # noqa: PLW0603 - one value per process; threads may race to make it, with the same result
    known = _effective
    if known is None or known[0] is not config:
        _effective = known = (config, EffectiveTerms(config))
    return known[1]


def forget() -> None:
    """Read it anew next time: after publishing, and between tests."""
    _newest.forget()
