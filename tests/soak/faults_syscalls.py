"""Death and failure at a system call: between a message's parts, before a commit, in the middle of a write to the disk."""

import random
import time

from broker.processes import LPS
from tests.soak import strace
from tests.soak.faults_stores import ENGINE
from tests.soak.house import SoakHouse
from tests.soak.nemesis import Fault, Injection, NotPossible
from tests.support.whole_house import is_alive

CALLS = ("sendto", "recvfrom")
KILLED_AT = (1, 120)
KILLED_WITHIN_S = 8.0
SLOW_DISK_US = 500_000
SLOW_S = (3.0, 6.0)


def faults() -> list[Fault]:
    trade = f"lp-{LPS[0]}-trade"
    kills = [("engine", call) for call in CALLS] + [(trade, call) for call in (*CALLS, "write")] + [("lpsim", "write")]
    return [
        *(
            Fault(f"syscall:{name}:{call}", killed_at(name, call), needs=lambda _house: strace.why_not())
            for name, call in kills
        ),
        Fault("disk:fdatasync-error", failing_sync, needs=lambda _house: strace.why_not()),
        Fault("disk:fdatasync-slow", slow_sync, needs=lambda _house: strace.why_not()),
    ]


def killed_at(name: str, call: str) -> Injection:
    def inject(house: SoakHouse, rng: random.Random) -> str:
        pid = house.pid(name)
        if not pid or not is_alive(pid):
            raise NotPossible(f"{name} does not run")
        number = rng.randint(*KILLED_AT)
        with strace.attached([pid], f"{call}:signal=SIGKILL:when={number}"):
            deadline = time.monotonic() + KILLED_WITHIN_S
            while is_alive(pid) and time.monotonic() < deadline:
                time.sleep(0.02)
        if is_alive(pid):
            return f"{name} lives: it made fewer than {number} calls of {call}"
        return f"{name} killed at {call} {number}"

    return inject


def failing_sync(house: SoakHouse, rng: random.Random) -> str:
    """EIO when the engine's batch goes to the disk: PostgreSQL panics, and nobody can say what was committed."""
    backends = _backends(house)
    number = rng.randint(1, 10)
    with strace.attached(backends, f"fdatasync:error=EIO:when={number}"):
        deadline = time.monotonic() + KILLED_WITHIN_S
        while all(is_alive(pid) for pid in backends) and time.monotonic() < deadline:
            time.sleep(0.02)
    return f"EIO at the engine's fdatasync {number}"


def slow_sync(house: SoakHouse, rng: random.Random) -> str:
    seconds = rng.uniform(*SLOW_S)
    with strace.attached(_backends(house), f"fdatasync:delay_enter={SLOW_DISK_US}"):
        time.sleep(seconds)
    return f"every fdatasync of the engine takes {SLOW_DISK_US // 1000} ms for {seconds:.1f} s"


def _backends(house: SoakHouse) -> list[int]:
    found = house.backends_of(ENGINE) if house.database_answers() else []
    if not found:
        raise NotPossible("no backend serves the engine")
    return found
