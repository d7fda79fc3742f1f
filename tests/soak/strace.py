"""Faults at a system call of a running process, by strace: the process itself is not changed.

strace counts the calls of each thread by itself, so "the 40th" is some thread's 40th since we attached.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from broker.children import spawn

FAILED = 1
"""strace's own exit status; the death of what it traces is not its failure."""
ATTACHES_WITHIN_S = 10.0
DETACHES_WITHIN_S = 5.0


def why_not() -> str:
    """Why strace cannot be used here; empty when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if os.geteuid() and scope.exists() and scope.read_text().strip() != "0":
        return "this user may not trace processes that it did not start"
    return ""


@contextmanager
def attached(pids: Sequence[int], inject: str) -> "Iterator[subprocess.Popen[bytes]]":
    """While in here, `inject` (as `sendto:signal=SIGKILL:when=3`) holds for these processes and what they start.

    Raises OSError when strace cannot attach.
    """
    call = inject.partition(":")[0]
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={inject}"]
    tracer = spawn([*command, *(part for pid in pids for part in ("-p", str(pid)))], output=None)
    try:
        _until_traced(pids, tracer)
        yield tracer
    finally:
        tracer.send_signal(signal.SIGTERM)
        try:
            tracer.wait(DETACHES_WITHIN_S)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()


def _until_traced(pids: Sequence[int], tracer: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + ATTACHES_WITHIN_S
    while time.monotonic() < deadline and tracer.poll() is None:
        if all(_tracer_of(pid) in (tracer.pid, None) for pid in pids):
            return
        time.sleep(0.02)
    if tracer.poll() == FAILED:
        raise OSError(f"strace does not attach to {list(pids)}")


def _tracer_of(pid: int) -> int | None:
    """0 for nobody; None for a process that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("TracerPid:")), 0)
