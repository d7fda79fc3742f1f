"""The supervisor with real processes: what is killed comes back, and what is stopped leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from broker.embedded.postgres import create_database, postgres_service
from tests.waiting import eventually


class TinyHouse:
    """A running tests.fakes.tiny_house and what can be seen of it from outside."""

    def __init__(self, data: Path, *arguments: str) -> None:
        self.data = data
        self._log = data / f"said.{len(list(data.glob('said.*')))}"
        with self._log.open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.fakes.tiny_house", str(data), *arguments],
                stdout=said,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        return self._log.read_text()

    def pid(self, name: str) -> int | None:
        try:
            return int((self.data / "run" / f"{name}.pid").read_text())
        except (OSError, ValueError):
            return None

    def ready(self, within_s: float = 30.0) -> "TinyHouse":
        eventually(lambda: self.said().endswith("ready\n"), within_s=within_s)
        return self

    def row(self, name: str) -> dict[str, Any] | None:
        try:
            rows = json.loads((self.data / "table.json").read_text())
        except (OSError, ValueError):
            return None
        return next((row for row in rows if row["name"] == name), None)

    def up_with_restarts(self, name: str, restarts: int) -> dict[str, Any] | None:
        row = self.row(name)
        return row if row and row["restarts"] == restarts and row["state"] == "up" else None

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def start(data_folder: Path) -> Iterator[Any]:
    with ExitStack() as ends:

        def begin(*arguments: str) -> TinyHouse:
            house = TinyHouse(data_folder, *arguments)
            ends.callback(_end_at_last, house)
            return house

        yield begin


def _end_at_last(house: TinyHouse) -> None:
    if house.process.poll() is None:
        house.process.terminate()
        house.process.wait(30)


def test_a_killed_child_comes_back_and_the_table_says_so(start: Any) -> None:
    house = start().ready()
    old = house.pid("first")
    os.kill(old, signal.SIGKILL)
    row = eventually(lambda: house.up_with_restarts("first", 1))
    assert row["pid"] not in (None, old)
    assert row["last_exit"] == "was killed by SIGKILL"
    assert row["pid"] == house.pid("first")
    assert "first was killed by SIGKILL" in house.said()
    assert house.row("second")["restarts"] == 0


def test_a_child_starts_only_after_those_it_needs(start: Any) -> None:
    house = start().ready()
    first, second = (house.data / f"{name}.ready" for name in ("first", "second"))
    assert first.stat().st_mtime_ns < second.stat().st_mtime_ns


def test_what_a_killed_child_had_started_is_killed_with_it(start: Any) -> None:
    house = start("--with", "parent").ready()
    grandchild = int(
        eventually(lambda: (house.data / "grandchild.pid").exists() and (house.data / "grandchild.pid").read_text())
    )
    os.kill(house.pid("parent"), signal.SIGKILL)
    eventually(lambda: not is_alive(grandchild))


def test_children_die_with_a_killed_supervisor(start: Any) -> None:
    house = start("--redis", "--postgres").ready()
    pids = [house.pid(name) for name in ("first", "second", "redis", "postgres")]
    assert all(is_alive(pid) for pid in pids)
    assert house.end(signal.SIGKILL) == -signal.SIGKILL
    eventually(lambda: not any(is_alive(pid) for pid in pids))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_all_in_order_and_leaves_nothing(start: Any, number: signal.Signals) -> None:
    house = start().ready()
    pids = [house.pid(name) for name in ("first", "second")]
    assert house.end(number) == 0
    assert not any(is_alive(pid) for pid in pids)
    assert (house.data / "stopped.txt").read_text().split() == ["second", "first"]
    assert not list((house.data / "run").glob("*.pid"))


def test_a_child_that_does_not_stop_is_killed_in_the_end(start: Any) -> None:
    house = start("--with", "stubborn").ready()
    pid = eventually(lambda: house.pid("stubborn"))
    assert house.end() == 0
    assert not is_alive(pid)
    assert "stubborn does not stop within 1 s and is killed" in house.said()


def test_the_same_data_folder_runs_only_once(start: Any) -> None:
    house = start().ready()
    second = start()
    assert second.process.wait(60) == 1
    assert f"already running on {house.data} (process {house.process.pid})" in second.said()
    assert is_alive(house.pid("first"))


def test_a_killed_supervisor_does_not_keep_the_next_one_from_starting(start: Any) -> None:
    start().ready().end(signal.SIGKILL)
    assert start().ready().end() == 0


def test_a_process_that_keeps_dying_is_tried_again_and_named_when_it_is_not_ready(start: Any) -> None:
    house = start("--with", "dying", "--ready-within", "1.5")
    assert house.process.wait(60) == 1
    said = house.said()
    assert "restart 1 in 0.2 s" in said
    assert "restart 2 in 0.4 s" in said
    assert "not ready in time: dying" in said


def test_a_process_whose_fix_callback_fails_ends_at_once_and_is_started_again(start: Any) -> None:
    house = start("--with", "raising")
    eventually(lambda: house.up_with_restarts("raising", 1), within_s=30)
    assert "raising ended with status 70" in house.said()


def test_a_command_runs_to_its_end_and_gives_its_status(start: Any) -> None:
    house = start("--run", "print('hello'); raise SystemExit(5)")
    assert house.process.wait(60) == 5
    assert "hello" in house.said()


def test_a_killed_store_comes_back_with_what_was_committed(start: Any) -> None:
    house = start("--postgres").ready()
    url = postgres_service(house.data).url
    create_database(url)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    os.kill(house.pid("postgres"), signal.SIGKILL)
    eventually(lambda: house.up_with_restarts("postgres", 1), within_s=30)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(1,)]


def test_a_second_run_after_a_killed_first_one_finds_the_same_data(start: Any) -> None:
    house = start("--postgres").ready()
    url = postgres_service(house.data).url
    create_database(url)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 2 AS n")
    house.end(signal.SIGKILL)
    start("--postgres").ready()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchall() == [(2,)]
