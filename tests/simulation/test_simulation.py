"""The whole house, simulated: real engine and provider processes, modelled outside, faults anywhere. Nothing is lost, nothing
happens twice, nothing stays unknown.

The long run is `make simulate SEEDS=1000`; here are a few seeds, and what the harness itself promises.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.misfortune import KINDS
from tests.simulation.run import run_seed
from tests.simulation.shrink import MOVES, command_of, shrunk
from tests.simulation.world import House

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(1, 25)
OPERATIONS = 500


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_nothing_is_lost_doubled_or_left_unknown(seed: int) -> None:
    report = run_seed(seed, OPERATIONS)
    assert report.violations == [], f"python -m tests.simulation --seed {seed} --operations {OPERATIONS}"
    assert report.acks > OPERATIONS / 4, f"seed {seed} hardly traded: {report}"


def test_every_kind_of_fault_and_move_happens_somewhere() -> None:
    """Swarms: each seed has a choice of its own, and together they miss nothing."""
    kinds: set[str] = set()
    for seed in range(200):
        kinds |= House(seed).misfortune.kinds
    assert kinds == set(KINDS)
    assert set(House(1).moves.all) == MOVES


def test_the_same_seed_gives_the_same_history_byte_for_byte() -> None:
    first, second = run_seed(5, 400), run_seed(5, 400)
    assert (first.digest, first.faults, first.moves) == (second.digest, second.faults, second.moves)


@pytest.mark.parametrize("seed", [3])
def test_the_same_seed_gives_the_same_history_in_every_process(seed: int) -> None:
    """Whatever order sets and dictionaries of texts have there."""
    code = f"from tests.simulation.run import run_seed; print(run_seed({seed}, 300).digest)"
    path = os.pathsep.join((str(ROOT), str(ROOT / "platform")))
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1")
    }
    assert len(digests) == 1


def test_a_quiet_seed_without_faults_has_none() -> None:
    report = run_seed(1, 200, faults=frozenset())
    assert (report.violations, report.faults) == ([], Counter())


def test_a_broken_promise_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that says what it has not written: seen at once, and reduced to a run that a person can follow."""
    from engine.step import Committed

    monkeypatch.setattr("tests.simulation.processes.write_batch", lambda _journal, batch: Committed(batch.seq))
    report = run_seed(2, 100)
    assert "I3 acked" in report.checks
    small = shrunk(report, runs_max=12)
    assert small.report.operations < 100
    assert command_of(small).startswith("python -m tests.simulation --seed 2 --operations ")
