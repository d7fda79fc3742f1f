"""Processes that are killed, and processes that stand still and then go on as if nothing had been."""

import os
import random
import signal
from collections.abc import Iterable, Sequence

from broker.children import spawn
from broker.processes import LPS
from tests.soak.house import SoakHouse
from tests.soak.nemesis import Fault, Injection, NotPossible

STANDS_STILL_S = (5.0, 10.0)
PAIRS = {
    "engine+trade": ("engine", *(f"lp-{lp}-trade" for lp in LPS)),
    "lpsim+trade": ("lpsim", f"lp-{LPS[0]}-trade"),
    "redis+engine+web": ("redis", "engine", "web"),
    "postgres+redis": ("postgres", "redis"),
    "engine+redis": ("engine", "redis"),
}
"""Killed in the same instant."""
LATE_S = 20.0
KEEPER = """
seconds=$1; shift
trap 'kill -CONT "$@" 2>/dev/null; kill $! ; exit' TERM
kill -STOP "$@" 2>/dev/null
sleep "$seconds" & wait $!
kill -CONT "$@" 2>/dev/null
"""
POSTGRES = "postgres"


def faults(names: Iterable[str]) -> list[Fault]:
    """For the processes that the house has."""
    names = [name for name in names if name != "crowd"]
    return [
        *(Fault(f"kill:{name}", killing(name)) for name in names),
        *(Fault(f"kill:{name}", killing(*pair)) for name, pair in PAIRS.items()),
        *(Fault(f"stop:{name}", standing_still(name)) for name in names),
        Fault("kill:owner", kill_the_owner),
        Fault("stop:owner", stop_the_owner),
    ]


def killing(*names: str) -> Injection:
    def inject(house: SoakHouse, _rng: random.Random) -> str:
        pids = {name: house.pid(name) for name in names}
        if not all(pids.values()):
            raise NotPossible(f"{', '.join(name for name, pid in pids.items() if not pid)} does not run")
        for pid in pids.values():
            kill(pid, signal.SIGKILL)
        return f"SIGKILL to {pids}"

    return inject


def standing_still(name: str) -> Injection:
    def inject(house: SoakHouse, rng: random.Random) -> str:
        pids = house.postgres_servers() if name == POSTGRES else session_of(house.pid(name))
        if not pids:
            raise NotPossible(f"{name} does not run")
        seconds = rng.uniform(*STANDS_STILL_S)
        stand_still(pids, seconds)
        return f"SIGSTOP for {seconds:.1f} s"

    return inject


def kill_the_owner(house: SoakHouse, _rng: random.Random) -> str:
    """Whichever engine has the shard: with a standby that need not be the one that is named so."""
    pid = _owner(house)
    kill(pid, signal.SIGKILL)
    return f"SIGKILL to {pid}, which had the shard"


def stop_the_owner(house: SoakHouse, rng: random.Random) -> str:
    """Longer than its lease, where there are leases: it wakes up and believes that it still has the shard."""
    pid = _owner(house)
    seconds = rng.uniform(*STANDS_STILL_S)
    stand_still([pid], seconds)
    return f"SIGSTOP to {pid}, which had the shard, for {seconds:.1f} s"


def _owner(house: SoakHouse) -> int:
    pid = house.owner()
    if not pid:
        raise NotPossible("nobody says that it has the shard")
    return pid


def stand_still(pids: Sequence[int], seconds: float) -> None:
    """Stop them for so long. A keeper does it, which lets them go at once when we end before, even by SIGKILL."""
    keeper = spawn(
        ["sh", "-c", KEEPER, "sh", f"{seconds:.3f}", *map(str, pids)], output=None, death_signal=signal.SIGTERM
    )
    try:
        keeper.wait(seconds + LATE_S)
    finally:
        keeper.terminate()
        keeper.wait()


def session_of(leader: int) -> list[int]:
    """A supervised process and what it started: each has a session of its own."""
    if not leader:
        return []
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are all that is wanted
        if name.isdigit():
            try:
                if os.getsid(int(name)) == leader:
                    found.append(int(name))
            except ProcessLookupError:
                continue
    return found


def kill(pid: int, number: signal.Signals) -> None:
    """A process that has ended meanwhile needs no signal."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
