"""Waiting for a condition instead of for time to pass."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

SHARED_S = 60.0 if "PYTEST_XDIST_WORKER" in os.environ else 0.0
"""Beside other tests nobody's time is promised: what comes at all may take a minute, however soon it comes to a lone run."""


def eventually(look: Callable[[], Found | None], *, within_s: float = 10.0) -> Found:
    """The first thing that is not None or False. Fails with the name of what was looked for when the time is up."""
    within_s = max(within_s, SHARED_S)
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = look()
        if found is not None and found is not False:
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {within_s} s: {getattr(look, '__qualname__', look)}")
