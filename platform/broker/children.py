"""How the house starts a process that cannot outlive it.

Every child gets a session of its own, so that Ctrl-C reaches only the supervisor, which then stops all in its order.
Every child asks the kernel for a signal when its parent dies, so that even a killed supervisor leaves nothing behind.
The kernel counts the starting thread as the parent: start children from a thread that lives as long as they should.
"""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged system user that a server runs as when we are root."""

    name: str
    uid: int
    gid: int


def spawn(
    command: Sequence[str],
    *,
    output: IO[bytes] | None,
    account: Account | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> "subprocess.Popen[bytes]":
    """Start a process that gets `death_signal` when we die. Without `output` it writes where we write."""
    return subprocess.Popen(
        command,
        cwd=folder or "/",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        start_new_session=True,
        preexec_fn=_dying_with(os.getpid(), death_signal),  # noqa: PLW1509 - two system calls that take no Python lock
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def die_with_parent(death_signal: signal.Signals = signal.SIGKILL) -> None:
    """For a process that other code starts, such as a web server's worker: from now on it dies with its parent."""
    _libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)


def has_exited(pid: int) -> bool:
    """Whether our child has ended. It is left unreaped, so its number still belongs to it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None


def kill_group(pid: int) -> None:
    """Kill what the child itself started and left behind. Call it before the child is reaped."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _dying_with(parent: int, death_signal: signal.Signals) -> Callable[[], None]:
    def arrange() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return arrange
