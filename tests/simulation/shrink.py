"""A broken run made small: fewer operations, then fewer kinds of faults and moves, while the same check complains."""

from dataclasses import dataclass

from tests.simulation.misfortune import KINDS
from tests.simulation.run import Report, run_seed

MOVES = frozenset({
    "price", "gap", "place", "rest", "close", "protect", "modify", "cancel", "cancel_all", "expire", "wait", "close_by",
    "reverse", "close_many", "pair", "money", "top_up", "risk", "roll_over", "switch", "correct", "dividend", "repeat", "idle",
    "lift", "settle",
})  # fmt: skip
RUNS_MAX = 120


@dataclass(frozen=True)
class Small:
    """What still breaks, and how it was run."""

    report: Report
    faults: frozenset[str]
    moves: frozenset[str]
    mutation: str = ""


def shrunk(
    report: Report,
    *,
    faults: frozenset[str] | None = None,
    moves: frozenset[str] | None = None,
    mutation: str = "",
    runs_max: int = RUNS_MAX,
) -> Small:
    """The smallest run found that breaks one of the checks that `report` broke."""
    best = Small(report, frozenset(KINDS) if faults is None else faults, MOVES if moves is None else moves, mutation)
    shrinker = _Shrinker(report, runs_max)
    best = shrinker.fewer_operations(best)
    for field in ("faults", "moves"):
        best = shrinker.fewer_kinds(best, field)
    return shrinker.fewer_operations(best)


def command_of(small: Small) -> str:
    """The command that runs it again."""
    words = ["python -m tests.simulation", f"--seed {small.report.seed}", f"--operations {small.report.operations}"]
    if small.faults != frozenset(KINDS):
        words.append(f"--faults '{','.join(sorted(small.faults))}'")
    if small.moves != MOVES:
        words.append(f"--moves '{','.join(sorted(small.moves))}'")
    if small.mutation:
        words.append(f"--mutation {small.mutation}")
    return " ".join(words)


class _Shrinker:
    def __init__(self, report: Report, runs_left: int) -> None:
        self._checks = report.checks
        self._runs_left = runs_left

    def fewer_operations(self, best: Small) -> Small:
        """Bisect: a shorter run of the same seed is the same story, ended earlier."""
        fails, passes = best.report.operations, 0
        while fails - passes > max(1, fails // 50):
            middle = (fails + passes) // 2
            smaller = self._tried(best, operations=middle)
            if smaller is None:
                passes = middle
            else:
                best, fails = smaller, middle
        return best

    def fewer_kinds(self, best: Small, field: str) -> Small:
        """Switch kinds off, half of them at once first, then one by one."""
        kinds: frozenset[str] = getattr(best, field)
        ordered, size = sorted(kinds), max(1, len(kinds) // 2)
        while size:
            for start in range(0, len(ordered), size):
                kept = getattr(best, field) - set(ordered[start : start + size])
                if kept != getattr(best, field):
                    best = self._tried(best, **{field: kept}) or best
            size //= 2
        return best

    def _tried(
        self,
        best: Small,
        *,
        operations: int | None = None,
        faults: frozenset[str] | None = None,
        moves: frozenset[str] | None = None,
    ) -> Small | None:
        if self._runs_left <= 0:
            return None
        self._runs_left -= 1
        faults = best.faults if faults is None else faults
        moves = best.moves if moves is None else moves
        operations = best.report.operations if operations is None else operations
        report = run_seed(best.report.seed, operations, faults=faults, moves=moves, mutation=best.mutation)
        return Small(report, faults, moves, best.mutation) if report.checks & self._checks else None
