"""One mutant against the harness: until something sees it, or too long."""

import re
import time
from dataclasses import dataclass

from tests.mutants.mutant import Mutant
from tests.simulation.run import run_seed

SEEDS = 40
"""So many histories at most: a bug that none of them shows has gone by unseen."""
_AT = re.compile(r"\(operation (\d+)\)")


@dataclass(frozen=True)
class Outcome:
    name: str
    caught_by: str
    """The check, empty for none; of a control run, whatever raised an alarm."""
    seed: int
    operations: int
    """Until it was caught, over all seeds."""
    seconds: float
    saw: str = ""
    others: frozenset[str] = frozenset()
    """Checks that raised an alarm and were not meant to."""


def hunt(mutant: Mutant, *, seeds: int = SEEDS, operations: int | None = None) -> Outcome:
    """Run the mutant until a check that is meant to sees it, in histories of so many operations."""
    started = time.perf_counter()
    if mutant.check is not None:
        with mutant.plant():
            saw = mutant.check()
        by = saw[0].partition(":")[0] if saw else ""
        return Outcome(mutant.name, by, 0, 0, time.perf_counter() - started, saw[0] if saw else "")
    each, done = operations or mutant.operations, 0
    others: set[str] = set()
    for seed in range(1, seeds + 1):
        report = run_seed(seed, each, focus=mutant.faults, mutation=mutant.name, stop_at=mutant.seen_by)
        for violation in report.violations:
            check = violation.partition(":")[0]
            if check in mutant.seen_by:
                found = _AT.search(violation[-40:])
                done += int(found[1]) if found else each
                took = time.perf_counter() - started
                return Outcome(mutant.name, check, seed, done, took, violation, frozenset(others))
            others.add(check)
        done += each
    return Outcome(mutant.name, "", 0, done, time.perf_counter() - started, others=frozenset(others))


def control(seed: int, operations: int) -> Outcome:
    """The same history without any bug planted: nothing may be seen."""
    started = time.perf_counter()
    violations = run_seed(seed, operations).violations
    saw = violations[0] if violations else ""
    return Outcome("no bug", saw.partition(":")[0], seed, operations, time.perf_counter() - started, saw)


def real_control(mutant: Mutant) -> Outcome:
    """A check of the real thing, with nothing planted."""
    assert mutant.check is not None
    started = time.perf_counter()
    saw = mutant.check()
    by = saw[0].partition(":")[0] if saw else ""
    return Outcome(f"no bug: {mutant.check.__name__}", by, 0, 0, time.perf_counter() - started, "".join(saw[:1]))
