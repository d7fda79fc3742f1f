"""One seed's run as a plain function: `run_seed(seed, operations) -> Report`. Deterministic: the same seed, the same report.

    report = run_seed(7, 2_000)
    report.violations            # list[str], "CHECK: what was seen (operation N)"; empty when all held
    report.checks                # the names of the checks that saw something, e.g. {"I3 acked"}
    run_seed(7, 500, faults=frozenset({"engine.kill"}), moves=frozenset({"place", "price"}))

`faults` and `moves` switch kinds off by naming those that stay (None: all). A bug in production code that raises through the
harness is a violation too (check `raised`). `mutation` names one of tests/mutants, which is put in for the run; `focus` are
kinds of faults that strike often, instead of the seed's own; the first violation of a check in `stop_at` ends the run.
"""

import contextlib
import importlib
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.simulation.checks import Enough
from tests.simulation.clockwork import Crash
from tests.simulation.world import House, Unmodelled, quiet

OPERATIONS = 2_000


@dataclass(frozen=True)
class Report:
    seed: int
    operations: int
    crashes: int
    faults: Counter[str]
    moves: Counter[str]
    acks: int
    batches: int
    fills: int
    rebuilds: int
    digest: str
    """Of everything that was committed and told, in order."""
    violations: list[str] = field(default_factory=list)

    @property
    def checks(self) -> set[str]:
        return {violation.partition(":")[0] for violation in self.violations}


def run_seed(
    seed: int,
    operations: int = OPERATIONS,
    *,
    faults: frozenset[str] | None = None,
    moves: frozenset[str] | None = None,
    mutation: str = "",
    focus: frozenset[str] | None = None,
    stop_at: frozenset[str] = frozenset(),
) -> Report:
    with quiet(), mutated(mutation):
        house = House(seed, faults=faults, moves=moves, focus=focus)
        house.checks.stop_at = stop_at
        try:
            house.run(operations)
        except Enough:
            """Whoever asked has seen what there was to see."""
        except Unmodelled:
            raise
        except (Exception, Crash) as error:  # noqa: BLE001 - whatever escapes is what the run has found
            house.checks.violate("raised", f"{type(error).__name__}: {error}; {_where(error)}")
        return Report(
            seed=seed,
            operations=operations,
            crashes=house.crashes,
            faults=house.faults,
            moves=house.moves_done,
            acks=house.checks.acks,
            batches=len(house.server.tables.rows["engine_batch"]),
            fills=sum(len(order.fills) for provider in house.providers.values() for order in provider.orders.values()),
            rebuilds=house.checks.rebuilds,
            digest=house.digest.hexdigest(),
            violations=house.checks.violations,
        )


def mutated(name: str) -> contextlib.AbstractContextManager[object]:
    """The mutant's context, from the registry that `tests.mutants` holds: a name, and what makes the context."""
    if not name:
        return contextlib.nullcontext()
    registry: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = importlib.import_module(
        "tests.mutants"
    ).MUTANTS
    return registry[name]()


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
