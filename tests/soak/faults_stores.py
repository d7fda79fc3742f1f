"""PostgreSQL and Redis: killed in every way, shut down in every way, emptied, locked, cut off."""

import random
import signal
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg

from tests.soak.faults_processes import kill
from tests.soak.house import SoakHouse
from tests.soak.nemesis import Fault, Injection, NotPossible

Found = TypeVar("Found")
LOCKED_S = (3.0, 9.0)
ENGINE, TRADE = "tribook engine", "lp-"
"""How the backends' clients name themselves."""
LOCKED_TABLES = ("trade_order", "engine_batch", "lp_inbox", "lp_order", "outbox")


def faults() -> list[Fault]:
    return [
        Fault("store:redis-flushall", flush),
        Fault("store:postgres-kill-tree", kill_tree),
        Fault("store:postgres-kill-engine-backend", killing_backend(ENGINE)),
        Fault("store:postgres-kill-trade-backend", killing_backend(TRADE)),
        Fault("store:postgres-terminate-all", terminate_all),
        Fault("store:postgres-shutdown-fast", shutting_down(signal.SIGINT)),
        Fault("store:postgres-shutdown-immediate", shutting_down(signal.SIGQUIT)),
        Fault("store:postgres-locked", lock_a_table),
    ]


def flush(house: SoakHouse, _rng: random.Random) -> str:
    house.redis().flushall()
    return "FLUSHALL"


def kill_tree(house: SoakHouse, _rng: random.Random) -> str:
    pids = house.postgres_servers()
    for pid in pids:
        kill(pid, signal.SIGKILL)
    return f"SIGKILL to the server and {len(pids) - 1} backends"


def killing_backend(application: str) -> Injection:
    def inject(house: SoakHouse, rng: random.Random) -> str:
        pid = _one_of(house, application, rng)
        kill(pid, signal.SIGKILL)
        return f"SIGKILL to backend {pid}: the server restarts all"

    return inject


def _one_of(house: SoakHouse, application: str, rng: random.Random) -> int:
    found = _asked(lambda: house.backends_of(application))
    if not found:
        raise NotPossible(f"no backend serves {application}")
    return rng.choice(sorted(found))


def terminate_all(house: SoakHouse, _rng: random.Random) -> str:
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IS NOT NULL"
    )
    return f"{len(_asked(lambda: house.sql(query)))} backends terminated"


def shutting_down(number: signal.Signals) -> Injection:
    def inject(house: SoakHouse, _rng: random.Random) -> str:
        pid = house.pid("postgres")
        kill(pid, number)
        return f"{number.name} to {pid}"

    return inject


def lock_a_table(house: SoakHouse, rng: random.Random) -> str:
    """An administrator's session that holds what everybody needs."""
    table, seconds = rng.choice(LOCKED_TABLES), rng.uniform(*LOCKED_S)

    def hold() -> None:
        with psycopg.connect(house.database_url, options="-c lock_timeout=5000") as connection:
            connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
            time.sleep(seconds)

    _asked(hold)
    return f"{table} locked for {seconds:.1f} s"


def _asked(work: Callable[[], Found]) -> Found:
    try:
        return work()
    except psycopg.Error as error:
        raise NotPossible(f"PostgreSQL does not answer: {str(error).strip()[:80]}") from error
