"""Engines as processes, one of them in charge: what happens when it is killed, stopped, continued, told to end, or halted."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import redis

from bus import names
from bus.client import Client
from tests.integration.conftest import Start
from tests.support.running import ROOT, RunningEngine
from tests.support.trading import Connection, Load, ask_again, check, filled, one
from tests.waiting import SHARED_S, eventually

LEASE_S = 5.0
TAKE_OVER_S = max(3.0, SHARED_S)
"""What a standby may need beyond the lease."""


@pytest.fixture
def standby(trading: RunningEngine, start: Start, house_database: str) -> RunningEngine:
    """Follows the engine that trades."""
    engine = start(house_database, "--standby")
    engine.until("standby", "engine has it")
    return engine


def owner(database: Connection) -> tuple[str, int]:
    found: tuple[str, int] = one(database, "SELECT owner, epoch FROM shard")
    return found


def taken_by(database: Connection, name: str, *, within_s: float) -> int:
    """The epoch in which the engine of this name has the shard."""

    def look() -> int | None:
        found, epoch = owner(database)
        return epoch if found == name else None

    return eventually(look, within_s=within_s)


def health_of(bus: Any, process: str) -> tuple[int, str]:
    found = bus.hgetall(names.health(process))
    return int(found[b"pid"]), found[b"state"].decode()


def test_a_stopped_owner_that_is_continued_changes_nothing_and_stands_by(
    load: Load, trading: RunningEngine, standby: RunningEngine, database: Connection, bus: "redis.Redis"
) -> None:
    load.until(50)
    old_epoch = owner(database)[1]
    trading.process.send_signal(signal.SIGSTOP)
    stopped_s = time.monotonic()
    new_epoch = taken_by(database, "standby", within_s=LEASE_S + TAKE_OVER_S)
    load.until(20)
    assert time.monotonic() - stopped_s < LEASE_S + 2 * TAKE_OVER_S
    assert "followed=True" in standby.log.read_text()
    eventually(lambda: health_of(bus, names.OWNER) == (standby.process.pid, "up"))
    last_of_old = one(database, f"SELECT max(seq) FROM engine_batch WHERE epoch = {old_epoch}")
    trading.process.send_signal(signal.SIGCONT)
    trading.until("standby", "standby has it")
    load.until(50)
    assert one(database, f"SELECT max(seq) FROM engine_batch WHERE epoch = {old_epoch}") == last_of_old
    assert owner(database) == ("standby", new_epoch)
    assert health_of(bus, names.OWNER) == (standby.process.pid, "up")
    assert health_of(bus, names.engine("engine")) == (trading.process.pid, "standby")

    standby.kill()
    assert taken_by(database, "engine", within_s=LEASE_S + TAKE_OVER_S) > new_epoch
    load.until(50)
    load.stop()
    check(database, load)
    assert trading.process.poll() is None
    assert ordered_once(database)


def ordered_once(database: Connection) -> bool:
    """Every order of the load once, filled at most once: right after a take-over there may be no fresh price."""
    deals = Counter(row[0] for row in database.execute("SELECT order_id FROM deal").fetchall())
    asked = one(database, "SELECT count(*) - count(DISTINCT client_order_id) FROM trade_order")
    return max(deals.values()) == 1 and asked == 0


def test_a_killed_owner_is_followed_within_its_lease(
    load: Load, trading: RunningEngine, standby: RunningEngine, database: Connection, door: Client
) -> None:
    load.until(50)
    trading.kill()
    killed_s = time.monotonic()
    load.until(1)
    assert time.monotonic() - killed_s < LEASE_S + TAKE_OVER_S
    load.stop()
    ask_again(door, load)
    check(database, load)
    assert "followed=True" in standby.log.read_text()


def test_an_owner_that_is_told_to_end_is_followed_at_once(
    trading: RunningEngine, standby: RunningEngine, database: Connection, door: Client
) -> None:
    ticket = filled(door, 1)
    assert trading.stop() == 0
    taken_by(database, "standby", within_s=1.5)
    assert filled(door, 1) == ticket
    filled(door, 2)
    assert one(database, "SELECT count(*) FROM engine_batch WHERE state_hash <> ''") == 1
    assert "followed=True" in standby.log.read_text()


def test_a_restarted_engine_need_not_wait_for_its_own_lease(
    trading: RunningEngine, standby: RunningEngine, start: Start, database: Connection, door: Client
) -> None:
    filled(door, 1)
    epoch = owner(database)[1]
    trading.kill()
    database.execute("UPDATE shard SET lease_until = now() + interval '45 seconds'")
    engine = start()
    engine.until("up")
    assert owner(database) == ("engine", epoch + 1)
    filled(door, 2)
    assert standby.health()[0] == "standby"


def test_of_two_standbys_one_takes_over_and_the_other_follows_it(
    load: Load, trading: RunningEngine, standby: RunningEngine, start: Start, house_database: str, database: Connection
) -> None:
    second = start(house_database, "--standby", "--name", "second")
    second.until("standby")
    load.until(50)
    trading.kill()
    load.until(20)
    first_owner = owner(database)[0]
    assert first_owner in {"standby", "second"}
    heir, other = (standby, second) if first_owner == "standby" else (second, standby)
    other.until("standby", f"{first_owner} has it")
    heir.kill()
    load.until(20)
    assert owner(database)[0] not in {"engine", first_owner}
    load.stop()
    check(database, load)


def test_a_standby_waits_at_a_halted_shard(
    trading: RunningEngine, standby: RunningEngine, database: Connection, door: Client
) -> None:
    filled(door, 1)
    seq = one(database, "SELECT seq FROM shard")
    database.execute("UPDATE shard SET halted = 'the books do not add up'")
    trading.kill()
    standby.until("halted", "the books do not add up")
    database.execute("UPDATE shard SET lease_until = now()")
    standby.until("halted", "an operator clears")
    assert owner(database)[0] == "engine"
    assert one(database, "SELECT seq FROM shard") == seq
    database.execute("UPDATE shard SET halted = ''")
    standby.until("up")
    filled(door, 2)


def test_a_halted_owner_writes_nothing_until_an_operator_clears_it(
    load: Load, trading: RunningEngine, database: Connection
) -> None:
    load.until(20)
    database.execute("UPDATE shard SET halted = 'a difference was found'")
    trading.until("halted", "a difference was found")
    seq = one(database, "SELECT seq FROM shard")
    told = len(load.acknowledged)
    assert one(database, "SELECT halted FROM shard") == "a difference was found"
    eventually(lambda: len(load.unknown) > 8, within_s=20)
    assert (one(database, "SELECT seq FROM shard"), len(load.acknowledged) - told) == (seq, 0)
    database.execute("UPDATE shard SET halted = ''")
    load.until(20)
    load.stop()
    check(database, load)


def test_an_idle_owner_keeps_its_lease_and_a_standby_costs_little(
    trading: RunningEngine, standby: RunningEngine, database: Connection, prices: None
) -> None:
    epoch = owner(database)[1]
    began, used = time.monotonic(), cpu_s(standby)
    renewals: set[object] = set()

    def is_renewed_often() -> bool:
        renewals.add(one(database, "SELECT lease_until FROM shard"))
        return len(renewals) >= 7

    eventually(is_renewed_often, within_s=20)
    elapsed = time.monotonic() - began
    assert elapsed > LEASE_S
    assert owner(database)[1] == epoch
    assert (cpu_s(standby) - used) / elapsed < 0.15


def cpu_s(engine: RunningEngine) -> float:
    fields = Path(f"/proc/{engine.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_managepy_starts_an_engine_without_django(
    trading: RunningEngine, bus: "redis.Redis", house_database: str, redis_url: str
) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "DATABASE_URL": house_database,
        "REDIS_URL": redis_url,
    }
    command = [sys.executable, str(ROOT / "manage.py"), "engine", "--standby", "--name", "third"]
    with subprocess.Popen(
        command, env=environment, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            eventually(lambda: bool(bus.exists(names.health("engine-third"))), within_s=20)
            assert health_of(bus, "engine-third")[0] == process.pid
            assert "/django/" not in Path(f"/proc/{process.pid}/maps").read_text()
            assert Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")[1:3] == [b"-m", b"engine"]
        finally:
            process.kill()
