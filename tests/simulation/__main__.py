"""`python -m tests.simulation --seeds N [--seed S] [--operations 2000] [--workers 2] [--mutation NAME]`: many seeds, or one.

Prints what happened in all of them together, every violation with the smallest reproduction that was found, and exits with 1
when there was one.
"""

import argparse
import gc
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.run import OPERATIONS, Report, run_seed
from tests.simulation.shrink import command_of, shrunk

COLLECT_EVERY = 10
SHRUNK_MAX = 3
SHOWN_MAX = 10


def main() -> int:
    options = _options()
    first = options.seed if options.seed is not None else options.first
    seeds = [first] if options.seed is not None else list(range(first, first + options.seeds))
    started = time.perf_counter()
    totals: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    failed: list[Report] = []
    for report in _reports(seeds, options):
        faults += report.faults
        totals.update(operations=report.operations, crashes=report.crashes, acks=report.acks, batches=report.batches,
                      fills=report.fills, rebuilds=report.rebuilds)  # fmt: skip
        if report.violations:
            failed.append(report)
            print(f"seed {report.seed}: {len(report.violations)} violations", flush=True)
        if options.seed is not None:
            print(f"seed {report.seed}, history {report.digest[:16]}")
    took = time.perf_counter() - started
    print(f"{len(seeds)} seeds in {took:.0f} s ({took / len(seeds):.2f} s each): " + _counted(totals))
    print("faults: " + _counted(faults))
    print(f"violations: {sum(len(report.violations) for report in failed)} in {len(failed)} seeds")
    _explain(failed, options)
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.simulation")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=1, help="the first of the seeds")
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--operations", type=int, default=OPERATIONS)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--mutation", default="", help="a planted bug of tests/mutants")
    parser.add_argument("--faults", help="only these kinds, with commas; empty for none")
    parser.add_argument("--moves", help="only these kinds")
    parser.add_argument("--no-shrink", action="store_true")
    return parser.parse_args()


def _kinds(text: str | None) -> frozenset[str] | None:
    return None if text is None else frozenset(part for part in text.split(",") if part)


def _reports(seeds: list[int], options: argparse.Namespace) -> Iterator[Report]:
    faults, moves = _kinds(options.faults), _kinds(options.moves)
    jobs = [(seed, options.operations, faults, moves, options.mutation) for seed in seeds]
    if len(jobs) == 1 or options.workers == 1:
        yield from map(_one, jobs)
        return
    with ProcessPoolExecutor(options.workers, initializer=_begin) as pool:
        yield from pool.map(_one, jobs, chunksize=4)


def _begin() -> None:
    """A worker collects what its houses leave now and then, and never looks at what was there before them."""
    gc.collect()
    gc.freeze()
    gc.disable()


Job = tuple[int, int, frozenset[str] | None, frozenset[str] | None, str]


def _one(job: Job) -> Report:
    seed, operations, faults, moves, mutation = job
    report = run_seed(seed, operations, faults=faults, moves=moves, mutation=mutation)
    if seed % COLLECT_EVERY == 0:
        gc.collect()
    return report


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def _explain(failed: list[Report], options: argparse.Namespace) -> None:
    for place, report in enumerate(failed[:SHOWN_MAX]):
        print(f"\nseed {report.seed}:")
        for violation in report.violations[:5]:
            print(f"  {violation[:1000]}")
        if options.no_shrink or place >= SHRUNK_MAX:
            print(f"  python -m tests.simulation --seed {report.seed} --operations {report.operations}")
            continue
        small = shrunk(report, faults=_kinds(options.faults), moves=_kinds(options.moves), mutation=options.mutation)
        print(f"  again, small: {command_of(small)}")
        print(f"  {small.report.violations[0][:1000]}")


if __name__ == "__main__":
    sys.exit(main())
