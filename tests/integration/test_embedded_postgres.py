"""The private PostgreSQL: durable, private, and able to start after any end."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from broker.embedded import postgres
from broker.embedded.postgres import installations, postgres_service, servers_of, start_postgres
from broker.embedded.service import Running, ServiceError
from tests.waiting import eventually

SMALL = {"shared_buffers": "16MB", "min_wal_size": "80MB"}


class Runner:
    """Starts the server of one data folder as often as a test wants, and ends what is left."""

    def __init__(self, data: Path, ends: ExitStack) -> None:
        self.data, self._ends = data, ends

    def start(self, *, port: int | None = None) -> Running:
        running = start_postgres(self.data, port=port, settings=SMALL)
        self._ends.callback(running.stop)
        return running


@pytest.fixture
def runner(data_folder: Path) -> Iterator[Runner]:
    with ExitStack() as ends:
        yield Runner(data_folder, ends)


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def run(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement.encode())


def test_it_commits_durably_and_listens_on_its_socket_alone(runner: Runner) -> None:
    url = runner.start().url
    settings = dict(
        rows(
            url,
            "SELECT name, setting FROM pg_settings WHERE name IN"
            " ('fsync', 'synchronous_commit', 'full_page_writes', 'listen_addresses', 'max_connections', 'TimeZone')",
        )
    )
    assert settings == {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
        "max_connections": "100",
        "TimeZone": "UTC",
    }


def test_the_address_is_understood_by_urllib_and_names_the_database(runner: Runner) -> None:
    parts = urllib.parse.urlsplit(postgres_service(runner.data).url)
    query = urllib.parse.parse_qs(parts.query)
    assert (parts.username, parts.path) == ("broker", "/tribook")
    assert query["host"][0].endswith("/postgres")


def test_a_wrong_password_is_refused(runner: Runner) -> None:
    url = runner.start().url
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(psycopg.conninfo.make_conninfo(url, password="guess"))


def test_nobody_else_can_read_the_password_or_the_cluster(runner: Runner) -> None:
    runner.start()
    assert stat.S_IMODE((runner.data / "secrets" / "postgres-password").stat().st_mode) == 0o600
    assert stat.S_IMODE((runner.data / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((runner.data / "postgres").stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_it_does_not_run_as_root(runner: Runner) -> None:
    assert Path(f"/proc/{runner.start().pid}").stat().st_uid != 0


def test_it_listens_on_loopback_when_a_port_is_given(runner: Runner) -> None:
    from broker.processes import free_port

    port = free_port(54321)
    url = runner.start(port=port).url
    over_tcp = psycopg.conninfo.make_conninfo(url, host="127.0.0.1")
    assert rows(over_tcp, "SELECT inet_server_addr()::text")[0][0] == "127.0.0.1/32"


def test_a_second_start_has_the_same_data_and_password(runner: Runner) -> None:
    first = runner.start()
    run(first.url, "CREATE TABLE kept AS SELECT 1 AS n")
    first.stop()
    second = runner.start()
    assert second.url == first.url
    assert rows(second.url, "SELECT n FROM kept") == [(1,)]


def test_it_starts_after_it_was_killed(runner: Runner) -> None:
    first = runner.start()
    run(first.url, "CREATE TABLE kept AS SELECT 1 AS n")
    os.kill(first.pid, signal.SIGKILL)
    first.process.wait()
    assert rows(runner.start().url, "SELECT n FROM kept") == [(1,)]


def test_it_starts_although_a_stale_lock_names_a_living_process(runner: Runner) -> None:
    """After a crash the number in the lock may belong to anything; PostgreSQL alone would refuse to start."""
    first = runner.start()
    lock = runner.data / "postgres" / "postmaster.pid"
    left = lock.read_text()
    first.stop()
    with subprocess.Popen(["sleep", "60"]) as other:
        lock.write_text(left.replace(str(first.pid), str(other.pid), 1))
        assert rows(runner.start().url, "SELECT 1") == [(1,)]
        assert other.poll() is None
        other.kill()


def test_it_ends_a_server_that_outlived_its_supervisor_before_it_starts(runner: Runner) -> None:
    orphan = runner.start()
    successor = runner.start()
    assert orphan.process.wait(60) == 0
    assert successor.pid in servers_of(runner.data / "postgres")
    assert rows(successor.url, "SELECT 1") == [(1,)]


def test_it_dies_with_the_process_that_started_it(runner: Runner) -> None:
    code = (
        "import pathlib, signal, sys; from broker.embedded.postgres import start_postgres\n"
        "print(start_postgres(pathlib.Path(sys.argv[1])).pid, flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(runner.data)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert int(parent.stdout.readline()) > 0
        assert servers_of(runner.data / "postgres")
        parent.kill()
    eventually(lambda: not servers_of(runner.data / "postgres"))


def test_a_half_made_cluster_is_not_taken_for_a_whole_one(runner: Runner) -> None:
    half = runner.data / "postgres.1.part" / "cluster"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("15\n")
    assert rows(runner.start().url, "SELECT 1") == [(1,)]


def test_a_very_long_data_folder_still_has_a_socket(data_folder: Path) -> None:
    deep = data_folder / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    running = start_postgres(deep, settings=SMALL)
    sockets = Path(urllib.parse.parse_qs(urllib.parse.urlsplit(running.url).query)["host"][0])
    try:
        assert not sockets.is_relative_to(deep)
        assert rows(running.url, "SELECT 1") == [(1,)]
    finally:
        running.stop()
        shutil.rmtree(sockets.parent)


def test_every_installation_found_here_works(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(installations())
    assert any(programs.wheel for programs in found), "the locked wheel is always there"
    for number, programs in enumerate(found):
        monkeypatch.setattr(postgres, "installations", lambda only=programs: iter([only]))
        folder = data_folder / str(number)
        running = start_postgres(folder, settings=SMALL)
        version = rows(running.url, "SHOW server_version")[0][0]
        running.stop()
        assert str(version).startswith(f"{programs.major}.")


def test_a_cluster_of_another_version_is_named_and_left_alone(runner: Runner) -> None:
    cluster = runner.data / "postgres"
    cluster.mkdir()
    (cluster / "PG_VERSION").write_text("9\n")
    with pytest.raises(ServiceError, match="made by PostgreSQL 9, and only"):
        runner.start()
    assert [path.name for path in cluster.iterdir()] == ["PG_VERSION"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_a_data_folder_in_a_private_home_is_refused_with_advice(data_folder: Path) -> None:
    home = data_folder / "home"
    home.mkdir(mode=0o700)
    with pytest.raises(ServiceError, match="outside private homes"):
        start_postgres(home / "data")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
