"""`make mutants`, or `python -m tests.mutants [NAME ...] [--workers 2]`: plant every known bug, and see that it is caught.

Prints a row for each; exits with 1 when one goes by unseen, or when anything is seen where nothing was planted.
"""

import argparse
import gc
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.mutants.planted import BY_NAME, PLANTED
from tests.mutants.running import SEEDS, Outcome, control, hunt, real_control

CONTROL_SEEDS = 24
CONTROL_OPERATIONS = 400
ROW = "{:<38} {:<7} {:<14} {:>5} {:>7} {:>7}"


def main() -> int:
    options = _options()
    unknown = [name for name in options.names if name not in BY_NAME]
    if unknown:
        print(f"no such mutant: {', '.join(unknown)}; there are: {', '.join(BY_NAME)}", file=sys.stderr)
        return 2
    started = time.perf_counter()
    mutants = [BY_NAME[name] for name in options.names] or list(PLANTED)
    print(ROW.format("planted", "caught", "by", "seed", "ops", "s"))
    failures = 0
    with ProcessPoolExecutor(options.workers) as pool:
        hunts = [pool.submit(_hunt, mutant.name, options.seeds) for mutant in mutants]
        controls = [pool.submit(_control, seed) for seed in range(1, CONTROL_SEEDS + 1)]
        for done in hunts:
            outcome = done.result()
            failures += not outcome.caught_by
            _print(outcome, "yes" if outcome.caught_by else "NO")
        reals = [pool.submit(_real_control, mutant.name) for mutant in mutants if mutant.check is not None]
        clean = [job.result() for job in (*controls, *reals)]
    alarms = [outcome for outcome in clean if outcome.caught_by]
    for outcome in alarms:
        _print(outcome, "ALARM")
        print(f"    {outcome.saw[:500]}")
    print(
        f"{len(mutants)} planted, {len(mutants) - failures} caught; {len(clean)} runs without a bug, {len(alarms)} alarms; "
        f"{time.perf_counter() - started:.0f} s"
    )
    return 1 if failures or alarms else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.mutants")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="histories per bug, at most")
    return parser.parse_args()


def _hunt(name: str, seeds: int) -> Outcome:
    gc.collect()
    return hunt(BY_NAME[name], seeds=seeds)


def _control(seed: int) -> Outcome:
    gc.collect()
    return control(seed, CONTROL_OPERATIONS)


def _real_control(name: str) -> Outcome:
    return real_control(BY_NAME[name])


def _print(outcome: Outcome, caught: str) -> None:
    by = outcome.caught_by or "-"
    print(ROW.format(outcome.name, caught, by, outcome.seed, outcome.operations, f"{outcome.seconds:.1f}"), flush=True)
    if outcome.others:
        print(f"    also: {', '.join(sorted(outcome.others))}")


if __name__ == "__main__":
    sys.exit(main())
