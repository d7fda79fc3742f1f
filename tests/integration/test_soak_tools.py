"""What the soak does to processes, done to processes of no importance."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.soak import strace
from tests.soak.faults_processes import session_of, stand_still
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def victim() -> Iterator["subprocess.Popen[bytes]"]:
    """Writes a byte a hundred times a second."""
    loop = "import os, time\nwhile True: os.write(1, b'.'); time.sleep(0.01)"
    process = subprocess.Popen([sys.executable, "-c", loop], stdout=subprocess.DEVNULL, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_process_stands_still_and_goes_on(victim: "subprocess.Popen[bytes]") -> None:
    assert session_of(victim.pid) == [victim.pid]
    began = time.monotonic()
    stand_still([victim.pid], 0.3)
    assert time.monotonic() - began >= 0.3
    eventually(lambda: state_of(victim.pid) != "T")


def test_it_goes_on_even_when_whoever_stopped_it_is_killed(victim: "subprocess.Popen[bytes]") -> None:
    code = f"from tests.soak.faults_processes import stand_still; stand_still([{victim.pid}], 60)"
    path = {"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"}
    stopper = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **path}, cwd=ROOT)
    eventually(lambda: state_of(victim.pid) == "T", within_s=30)
    stopper.kill()
    stopper.wait()
    eventually(lambda: state_of(victim.pid) != "T")


@pytest.mark.skipif(bool(strace.why_not()), reason=strace.why_not())
def test_a_process_is_killed_at_a_system_call(victim: "subprocess.Popen[bytes]") -> None:
    with strace.attached([victim.pid], "write:signal=SIGKILL:when=5"):
        assert victim.wait(60) == -signal.SIGKILL


@pytest.mark.skipif(bool(strace.why_not()), reason=strace.why_not())
def test_a_process_that_does_not_get_so_far_lives_on_untraced(victim: "subprocess.Popen[bytes]") -> None:
    with strace.attached([victim.pid], "write:signal=SIGKILL:when=65000"):
        assert "TracerPid:\t0" not in Path(f"/proc/{victim.pid}/status").read_text()
    assert victim.poll() is None
    assert "TracerPid:\t0" in Path(f"/proc/{victim.pid}/status").read_text()


@pytest.mark.skipif(bool(strace.why_not()), reason=strace.why_not())
def test_a_fault_that_strace_does_not_understand_is_no_fault_at_all(victim: "subprocess.Popen[bytes]") -> None:
    with pytest.raises(OSError, match="does not attach"), strace.attached([victim.pid], "write:signal=SIGKILL:when=0"):
        pytest.fail("nothing was traced")
