"""Time and misfortune of a simulated world: one virtual clock, and faults that strike at a counted point of a process.

A fault is armed with a countdown: "at the third statement from now, lose the connection". Points are counted by the models as
the process passes them (`statement`, `commit`, `output`, `callback`, `send`), so any step of the real code can be the one.
"""

from collections import Counter
from dataclasses import dataclass, field

START_US = 1_700_000_000_000_000
SECOND_US = 1_000_000


class Crash(BaseException):
    """The process is killed here and now. No handler of the code under test may see it as an error."""

    def __init__(self, process: "Process") -> None:
        super().__init__(process.name)
        self.process = process


class Unmodelled(BaseException):
    """A statement that the model does not know. No handler of the code under test may take it for an outage."""


class Time:
    """Real time runs forward; business time is what the machine's clock shows, which may jump."""

    def __init__(self) -> None:
        self.now_us = START_US
        self.offset_us = 0

    def monotonic(self) -> float:
        return (self.now_us - START_US) / SECOND_US

    def business(self) -> int:
        return self.now_us + self.offset_us

    def advance_us(self, by_us: int) -> None:
        self.now_us += by_us


@dataclass
class Armed:
    countdown: int
    action: str


@dataclass
class Process:
    """Something that can be killed: its connections go with it."""

    name: str
    counts: Counter[str]
    """Faults that struck, by kind."""
    alive: bool = True
    armed: dict[str, Armed] = field(default_factory=dict)

    def arm(self, point: str, action: str, countdown: int) -> None:
        self.armed[point] = Armed(countdown, action)

    def strike(self, point: str) -> str:
        """What strikes at this point, empty for nothing. Passing a point counts."""
        armed = self.armed.get(point)
        if armed is None:
            return ""
        if armed.countdown > 0:
            armed.countdown -= 1
            return ""
        del self.armed[point]
        self.counts[f"{self.name.partition(':')[0]}.{armed.action}"] += 1
        return armed.action
