"""What a fault is, and the plan: which faults come in which order, by seed.

A fault does its harm and heals it before it returns, so that "the fault's end" is a moment. It never leaves anything stopped,
mounted or attached behind, however it ends.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.soak.house import SoakHouse

Thing = TypeVar("Thing")
Injection = Callable[[SoakHouse, random.Random], str]
"""Does and heals the harm; what exactly was done, in a few words. Raises NotPossible when it cannot be done just now."""

GAP_S = (5.0, 20.0)
"""From one fault's beginning to the next one's, unless the house needs longer to recover."""


class NotPossible(Exception):
    """The fault needs something that is not here now; the text says what."""


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    inject: Injection
    needs: Callable[[SoakHouse], str] = lambda _house: ""
    """Why it cannot be done on this machine or house; empty when it can."""


def chosen(faults: Sequence[Fault], wanted: Iterable[str]) -> list[Fault]:
    """The faults whose name or whose name's beginning is wanted; all when nothing is. Raises ValueError for an unknown one."""
    wanted = list(wanted)
    for name in wanted:
        if not any(fits(fault.name, name) for fault in faults):
            raise ValueError(f"there is no fault {name!r}; there are {', '.join(fault.name for fault in faults)}")
    return [fault for fault in faults if not wanted or any(fits(fault.name, name) for name in wanted)]


def fits(fault: str, wanted: str) -> bool:
    """`kill` is every `kill:...`, `kill:engine` that one."""
    return fault == wanted or fault.startswith(wanted + ":")


class Plan:
    """An endless order of faults, by turns from every family (what stands before the first colon), so that a short soak has
    some of each; within a family every one once, shuffled, then again in another order. Same seed, same plan.
    """

    def __init__(self, faults: Sequence[Fault], seed: str) -> None:
        assert faults, "nothing is to be injected"
        self._families = families(faults)
        self._random = random.Random(f"{seed}/plan")
        self._turns: list[str] = []
        self._left: dict[str, list[Fault]] = {}

    def next(self) -> tuple[Fault, random.Random, float]:
        """The fault, its own random numbers, and how long after its beginning the next one may begin."""
        if not self._turns:
            self._turns = self._shuffled(list(self._families))
        family = self._turns.pop()
        if not self._left.get(family):
            self._left[family] = self._shuffled(self._families[family])
        return self._left[family].pop(), random.Random(self._random.random()), self._random.uniform(*GAP_S)

    def _shuffled(self, things: list[Thing]) -> list[Thing]:
        return self._random.sample(things, len(things))


def families(faults: Iterable[Fault]) -> dict[str, list[Fault]]:
    found: dict[str, list[Fault]] = {}
    for fault in faults:
        found.setdefault(fault.name.partition(":")[0], []).append(fault)
    return found
