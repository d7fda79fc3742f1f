"""Business time: the wall clock, or a recording's time running at a chosen speed.

`TRIBOOK_CLOCK` is `wall`, or `replay:START_US:SPEED:WALL0_US`: business time was START_US when the wall clock stood at
WALL0_US and runs SPEED times as fast. Sessions, expiry and quote age use it; timeouts and tokens use the machine's clocks.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], int]
"""Business time now, in microseconds since 1970-01-01 UTC."""


def wall() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Replay:
    """Business time was `start_us` at wall time `wall_zero_us`, and runs `speed` times as fast."""

    start_us: int
    speed: float
    wall_zero_us: int

    def __call__(self) -> int:
        return self.start_us + int((wall() - self.wall_zero_us) * self.speed)


def replay(start_us: int, speed: float, wall_zero_us: int) -> Clock:
    return Replay(start_us, speed, wall_zero_us)


def after(clock: Clock, seconds: float) -> int:
    """The business time that it will be `seconds` of waiting from now."""
    speed = clock.speed if isinstance(clock, Replay) else 1.0
    return clock() + int(seconds * 1_000_000 * speed)


def clock_from(text: str) -> Clock:
    """The clock that `text` describes. Raises ValueError when it describes none."""
    if text in ("", "wall"):
        return wall
    kind, *numbers = text.split(":")
    if kind != "replay" or len(numbers) != 3:
        raise ValueError(f"TRIBOOK_CLOCK is neither 'wall' nor 'replay:START_US:SPEED:WALL0_US': {text!r}")
    start_us, speed, wall_zero_us = numbers
    return replay(int(start_us), float(speed), int(wall_zero_us))


def clock_from_environment() -> Clock:
    return clock_from(os.environ.get("TRIBOOK_CLOCK", "wall"))
