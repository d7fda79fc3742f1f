"""Which faults strike a seed's house, and when. Each seed has a choice of kinds of its own, and its own rate.

A fault either happens at once (a kill between two steps, a flush) or is armed, to strike some steps on, inside the real code.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.clockwork import Process
    from tests.simulation.world import House

STATEMENT = ("crash_before", "crash_after", "connection_lost", "answer_lost", "statement_timeout", "stall")
COMMIT = (
    "crash_before_commit", "crash_after_commit", "commit_unanswered", "commit_unanswered", "commit_lost", "commit_lost",
    "commit_rolled_back", "commit_rolled_back", "commit_and_restart",
)  # fmt: skip
SEND = (
    "crash_before_send", "crash_after_send", "line_lost_before_send", "line_lost_after_send", "send_unknown",
)  # fmt: skip
KINDS = (
    "engine.kill", "engine.statement", "engine.commit", "engine.output", "engine.zombie", "engine.restart", "engine.slow",
    "lp.kill", "lp.statement", "lp.commit", "lp.callback", "lp.send", "line.cut", "pg.restart", "redis.flush", "redis.down",
    "clock.jump", "relay.crash",
    "say.delay", "say.drop", "say.duplicate", "say.reorder", "say.late_fill", "say.silent", "say.excess", "say.stray",
    "say.bust", "say.correct",
)  # fmt: skip
"""All of them; those of `say` are the providers' manners, the others happen."""
EVENTS = [kind for kind in KINDS if not kind.startswith("say.")] + [
    "engine.commit",
    "engine.commit",
    "lp.commit",
    "lp.send",
]
"""Where outcomes are unknown, most can go wrong."""


FOCUSED_RATE = 0.1
"""Per operation, where somebody wants certain kinds to strike."""


class Misfortune:
    def __init__(
        self,
        house: "House",
        rng: random.Random,
        allowed: frozenset[str] | None,
        focus: frozenset[str] | None = None,
    ) -> None:
        """`allowed` are the kinds that stay of a seed's own choice; `focus` has these instead of any other, and often."""
        self.house = house
        self.random = rng
        self.rate = rng.choice((0.01, 0.02, 0.04))
        drawn = [kind for kind in KINDS if rng.random() < 0.7]
        self.kinds = frozenset(kind for kind in drawn if allowed is None or kind in allowed)
        events = [kind for kind in EVENTS if kind in drawn]
        self.favourites = [rng.choice(events), rng.choice(events)] if events else []
        """What this seed does most of the time: many of one kind find what a few of each do not."""
        self.events = EVENTS
        if focus:
            self.rate, self.kinds, self.favourites = FOCUSED_RATE, focus, []
            self.events = [kind for kind in EVENTS if kind in focus]
        self.is_over = False
        self._at_once: dict[str, Callable[[str, float], None]] = {
            "engine.kill": lambda _lp, _choice: house.kill_engine(),
            "engine.zombie": lambda _lp, _choice: house.make_zombie(),
            "engine.restart": lambda _lp, _choice: house.restart_engine(),
            "engine.slow": self._stop_commits,
            "lp.kill": lambda lp, _choice: house.kill_lp(lp),
            "line.cut": self._cut_line,
            "pg.restart": lambda _lp, choice: house.server.restart(_some_us(choice) / 1e6),
            "redis.flush": lambda _lp, _choice: house.redis.flush(),
            "redis.down": self._redis_down,
            "clock.jump": self._jump_clock,
            "relay.crash": self._forget_published,
        }

    def manners(self) -> frozenset[str]:
        return frozenset(kind.partition(".")[2] for kind in self.kinds if kind.startswith("say."))

    def maybe(self) -> None:
        if self.is_over or self.random.random() >= self.rate:
            return
        kind = self.random.choice(self.favourites if self.favourites and self.random.random() < 0.5 else self.events)
        soon, choice, lp = self.random.randint(0, 12), self.random.random(), self.random.choice(list(self.house.lps))
        if kind in self.kinds:
            self.happen(kind, soon, choice, lp)

    def happen(self, kind: str, soon: int, choice: float, lp: str) -> None:
        house = self.house
        who, _, what = kind.partition(".")
        if who in {"engine", "lp"} and what in {"statement", "commit", "output", "callback", "send"}:
            process = house.engine if who == "engine" else house.lps[lp]
            if process is not None:
                self._arm(process, what, soon, choice)
            return
        house.faults[kind] += 1
        self._at_once[kind](lp, choice)

    def _stop_commits(self, _lp: str, choice: float) -> None:
        self.house.slow_until_us = self.house.time.now_us + _some_us(choice)

    def _cut_line(self, lp: str, choice: float) -> None:
        self.house.providers[lp].cut(keep=choice < 0.5, away_us=int(choice * 4_000_000))

    def _redis_down(self, _lp: str, choice: float) -> None:
        self.house.redis.down_until_s = self.house.time.monotonic() + _some_us(choice) / 1e6

    def _jump_clock(self, _lp: str, choice: float) -> None:
        """Some seconds either way, now and then half an hour, until somebody sets it right. Engine time never runs back, so
        a jump ahead stops trading for as long as it was."""
        most_us = 1_800_000_000 if 0.45 < choice < 0.55 else 4_000_000
        self.house.time.offset_us = most_us if choice < 0.5 else -most_us
        self.house.clock_right_us = self.house.time.now_us + _some_us(choice)

    def _forget_published(self, _lp: str, _choice: float) -> None:
        self.house.relay.forgets_next = True

    def _arm(self, process: "Process", what: str, soon: int, choice: float) -> None:
        if what == "statement":
            process.arm("statement", STATEMENT[int(choice * len(STATEMENT))], soon)
        elif what == "commit":
            process.arm("commit", COMMIT[int(choice * len(COMMIT))], soon % 3)
        elif what == "send":
            process.arm("send", SEND[int(choice * len(SEND))], 0)
        elif what == "callback":
            process.arm("callback" if choice < 0.5 else "after_callback", "crash_in_callback", soon % 3)
        else:
            process.arm("output", "crash_between_outputs", soon % 4)


def _some_us(choice: float) -> int:
    """From a third of a second to six."""
    return 300_000 + int(choice * 6_000_000)
