"""What a soak says in the end: a line per fault, the findings, and a verdict."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.soak.checkers import Finding, Wrong
from tests.soak.history import Op, Outcome

SHOWN_MAX = 40
CALM = "(calm)"
"""Where operations belong that began before the first fault."""


@dataclass
class Injected:
    """One fault as it was injected; monotonic seconds."""

    name: str
    began_s: float
    ended_s: float = 0.0
    recovered_s: float = 0.0
    what: str = ""

    @property
    def recovery_s(self) -> float:
        return self.recovered_s - self.ended_s


@dataclass
class Line:
    times: int = 0
    acknowledged: int = 0
    lost: int = 0
    duplicated: int = 0
    unresolved: int = 0
    recovery_s: float = 0.0


def table(injected: Sequence[Injected], ops: Iterable[Op], findings: Iterable[Finding]) -> dict[str, Line]:
    """Operations and findings belong to the fault that was the last one to begin before them."""
    lines: dict[str, Line] = {}
    for one in injected:
        line = lines.setdefault(one.name, Line())
        line.times += 1
        line.recovery_s = max(line.recovery_s, one.recovery_s)
    began: dict[str, float] = {}
    for op in ops:
        began.setdefault(op.key, op.began_s)
        if op.outcome is Outcome.OK:
            lines.setdefault(during(injected, op.began_s), Line()).acknowledged += 1
    for finding in findings:
        line = lines.setdefault(during(injected, began.get(finding.key, 0.0)), Line())
        line.lost += finding.kind is Wrong.LOST
        line.duplicated += finding.kind is Wrong.DUPLICATED
        line.unresolved += finding.kind is Wrong.UNRESOLVED
    return lines


def during(injected: Sequence[Injected], at_s: float) -> str:
    return next((one.name for one in reversed(injected) if one.began_s <= at_s), CALM)


def shown(lines: dict[str, Line]) -> str:
    head = f"{'fault':36} {'times':>5} {'acked':>7} {'lost':>5} {'dupl.':>5} {'unres.':>6} {'recovery':>9}"
    rows = [
        f"{name:36} {line.times:5} {line.acknowledged:7} {line.lost:5} {line.duplicated:5} {line.unresolved:6}"
        f" {line.recovery_s:7.1f} s"
        for name, line in sorted(lines.items())
    ]
    total = Line(
        times=sum(line.times for line in lines.values()),
        acknowledged=sum(line.acknowledged for line in lines.values()),
        lost=sum(line.lost for line in lines.values()),
        duplicated=sum(line.duplicated for line in lines.values()),
        unresolved=sum(line.unresolved for line in lines.values()),
        recovery_s=max((line.recovery_s for line in lines.values()), default=0.0),
    )
    last = (
        f"{'all':36} {total.times:5} {total.acknowledged:7} {total.lost:5} {total.duplicated:5} {total.unresolved:6}"
        f" {total.recovery_s:7.1f} s"
    )
    return "\n".join([head, "-" * len(head), *rows, "-" * len(head), last])


def verdict(findings: Sequence[Finding]) -> str:
    if not findings:
        return "soak=ok lost=0 duplicated=0 unresolved=0 violated=0"
    counts = {kind: sum(finding.kind is kind for finding in findings) for kind in Wrong}
    return "soak=FAILED " + " ".join(f"{kind.value}={count}" for kind, count in counts.items())
