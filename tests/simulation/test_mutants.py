"""The harness sees what it is there to see: the planted bugs that are caught soonest. `make mutants` has them all."""

import pytest

from tests.mutants.planted import BY_NAME
from tests.mutants.running import control, hunt

QUICK = (
    "ack before commit",
    "idempotency row missing",
    "leg sent before it is marked",
    "one side of a transfer posted",
    "money is float",
)


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_caught(name: str) -> None:
    outcome = hunt(BY_NAME[name], seeds=2, operations=100)
    assert outcome.caught_by, f"{name} went by unseen; what else was seen: {sorted(outcome.others)}"


def test_nothing_is_seen_where_nothing_was_planted() -> None:
    assert not control(1, 100).saw
