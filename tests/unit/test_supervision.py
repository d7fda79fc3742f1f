"""The supervisor's small decisions, without any process."""

from pathlib import Path

import pytest

from broker.supervisor import RESTART_MAX_S, bound_log, describe_exit, restart_delay_s


@pytest.mark.parametrize(
    ("previous_s", "lived_s", "expected_s"),
    [
        (0.0, 0.1, 0.2),  # the first death
        (0.2, 0.1, 0.4),  # and again at once
        (0.4, 29.9, 0.8),
        (8.0, 1.0, RESTART_MAX_S),
        (RESTART_MAX_S, 1.0, RESTART_MAX_S),
        (RESTART_MAX_S, 30.0, 0.2),  # it had been well
    ],
)
def test_restarts_slow_down_while_a_process_dies_young(previous_s: float, lived_s: float, expected_s: float) -> None:
    assert restart_delay_s(previous_s=previous_s, lived_s=lived_s) == pytest.approx(expected_s)


def test_an_exit_is_said_in_words() -> None:
    assert describe_exit(3) == "ended with status 3"
    assert describe_exit(-9) == "was killed by SIGKILL"


def test_a_log_is_moved_aside_when_it_outgrows_its_bound(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    with log.open("ab") as writer:
        writer.write(b"x" * 10)
        writer.flush()
        bound_log(log, 10)
        assert log.stat().st_size == 10
        writer.write(b"y")
        writer.flush()
        bound_log(log, 10)
        assert (tmp_path / "web.log.1").read_bytes() == b"x" * 10 + b"y"
        writer.write(b"z")
        writer.flush()
    assert log.read_bytes() == b"z"
