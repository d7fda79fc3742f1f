"""A storage that fills up while clients trade: nothing new is opened, closing goes on, and room opens the doors again."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from bus.client import Client
from bus.clock import wall
from engine.diskguard import DiskGuard
from engine.driver import Driver
from engine.step import Step
from tests import invariants
from tests.integration.conftest import Start
from tests.support.builders import eurusd
from tests.support.memory import Ear, MemoryStream
from tests.support.trading import Connection, buy, fund, one, publish_config
from tests.unit.test_diskguard import Blocks
from tests.waiting import eventually
from trading.answers import Answer
from trading.commands import ClosePosition, Deposit, OpenAccount


class Storage:
    """A disk whose room the test decides on."""

    def __init__(self) -> None:
        self.free_percent = 50

    def __call__(self, folder: str) -> Blocks:
        return Blocks(100, self.free_percent)


class Desk:
    """An engine in this process, turned until what was asked is answered."""

    def __init__(self, url: str, storage: Storage, monotonic: list[float]) -> None:
        self.stream, self.ear, self.monotonic = MemoryStream(), Ear(), monotonic
        self.driver = Driver(
            step=Step(),
            url=url,
            source=self.stream,
            tell=self.ear,
            clock=wall,
            monotonic=lambda: monotonic[0],
            disk=DiskGuard(["/data"], statvfs=storage),
        )
        self.driver.run(until=lambda: True)

    def ask(self, command: object) -> Answer:
        self.stream.fresh_quotes["EURUSD"] = eurusd("1.08510", at_us=wall())
        self.stream.add(command)  # type: ignore[arg-type]
        wanted = len(self.ear.answers) + 1
        eventually(lambda: self.driver.turn(0.0) is None or len(self.ear.answers) >= wanted)
        return self.ear.answers[-1]

    def later(self) -> None:
        """A look at the storage is due."""
        self.monotonic[0] += 2.0


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
def desk(house_database: str, database: Connection, storage: Storage) -> Iterator[Desk]:
    publish_config(database)
    desk = Desk(house_database, storage, [100.0])
    desk.ask(OpenAccount(id="o", key="o", account=1, group="retail", currency="USD", leverage=30, reply_to="t"))
    desk.ask(Deposit(id="d", key="d", account=1, amount=Decimal("100000.00"), reply_to="t"))
    yield desk
    desk.driver.close()


def alert_of(database: Connection) -> object:
    return one(database, "SELECT severity, cleared_at IS NULL FROM alert WHERE key = 'disk_space_low'")


def close(number: int, position_id: int) -> ClosePosition:
    name = f"00000000-0000-7000-8000-{number:012d}"
    return ClosePosition(id=name, key=name, account=1, position_id=position_id, reply_to="t")


def test_a_disk_that_fills_up_leaves_only_closing_until_there_is_room(
    desk: Desk, database: Connection, storage: Storage
) -> None:
    assert desk.ask(buy(1, reply_to="t")).refusal == ""
    storage.free_percent = 9
    desk.later()
    desk.ask(buy(2, reply_to="t"))
    refused = desk.ask(buy(3, reply_to="t"))
    assert (refused.refusal, "storage" in refused.detail) == ("close_only", True)
    assert alert_of(database) == ("critical", True)
    assert desk.ask(close(4, 1)).refusal == ""
    storage.free_percent = 11
    desk.later()
    assert desk.ask(buy(5, reply_to="t")).refusal == "close_only"
    storage.free_percent = 12
    desk.later()
    desk.ask(buy(6, reply_to="t"))
    assert desk.ask(buy(7, reply_to="t")).refusal == ""
    assert alert_of(database) == ("critical", False)
    assert invariants.violations(database) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_real_disk_that_is_filled_and_emptied(
    small_disk: Path, start: Start, house_database: str, database: Connection, door: Client, prices: None
) -> None:
    publish_config(database)
    start(house_database, TRIBOOK_DISK_PATHS=str(small_disk)).until("up")
    fund(door, 1)
    numbers = iter(range(1, 10_000))

    def answered(refusal: str) -> bool:
        return door.submit(buy(next(numbers)), 5).refusal == refusal

    eventually(lambda: answered(""))
    (small_disk / "ballast").write_bytes(b"x" * 1_000_000)
    eventually(lambda: answered("close_only"), within_s=20)
    (small_disk / "ballast").unlink()
    eventually(lambda: answered(""), within_s=20)
    assert invariants.violations(database) == []
