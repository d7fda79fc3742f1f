"""The whole product in a data folder of its own, as `make run` starts it, and what can be seen of it from outside.

The house inherits nothing of the test's own servers. Its addresses are read from the environment of its engine, since it
chooses its ports itself. Clients speak HTTP; staff, PostgreSQL and Redis are asked only to compare.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psycopg
import redis

from broker import processes
from broker.children import spawn
from broker.launch import TABLE_KEY
from tests.waiting import eventually

OURS = ("DATABASE_URL", "REDIS_URL", "AMQP_URL", "TICKS", "SPEED")
RANKS = {
    processes.DOORS: ("web", "stream", "worker", "beat", "auditor"),
    processes.COUNTERPARTIES: (
        "lpsim", "lpsim-feed", "quotes", "lp-YOFX1-price", "lp-YOFX1-trade", "lp-PRIMEXM-price", "lp-PRIMEXM-trade",
        "relay", "notifier",
    ),
    processes.ENGINE: ("engine", "engine-standby"),
    processes.REDIS: ("redis",),
    processes.POSTGRES: ("postgres",),
}  # fmt: skip
"""Every process that the house must have, in the order in which they are stopped."""
PROCESSES = tuple(name for rank in sorted(RANKS) for name in RANKS[rank])
LOG_TAIL = 4000

logging.getLogger("httpx").setLevel(logging.WARNING)  # a line per request would bury what a failure says


class WholeHouse:
    """A running `python -m broker.launch`, in a session of its own like a program in the foreground of a terminal.

    It ends with the thread that started it, even when that is killed.
    """

    module = "broker.launch"

    def __init__(self, data: Path, *arguments: str, **environment: str) -> None:
        self.data = data
        self.began_s = time.monotonic()
        self._log = data.parent / f"{data.name}.said.{len(list(data.parent.glob(f'{data.name}.said.*')))}"
        self._tokens: dict[str, str] = {}
        with self._log.open("wb") as said:
            self.process = spawn(
                [sys.executable, "-m", self.module, "--data", str(data), *arguments],
                output=said,
                environment={**_clean_environment(), "TRIBOOK_DATA": str(data), **environment},
                folder=processes.ROOT,
                death_signal=signal.SIGTERM,
            )

    # --------------------------------------------------------------------------------------------------- its own words

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def until_it_says(self, text: str, *, within_s: float) -> "WholeHouse":
        """Wait for a line of its output. A house that ends before is an error that shows what it said."""

        def look() -> bool:
            ended = self.process.poll() is not None
            if text in self.said():
                return True
            assert not ended, f"the house ended with status {self.process.returncode}\n{self.tail()}"
            return False

        try:
            eventually(look, within_s=within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; waited for {text!r} of\n{self.tail()}") from None
        return self

    def up(self, *, within_s: float = 180) -> "WholeHouse":
        """Every process is ready and the demo accounts are there. A tour, if one was asked for, begins only now."""
        return self.until_it_says("everything is up after", within_s=within_s)

    def tail(self) -> str:
        return self.said()[-LOG_TAIL:]

    def log(self, name: str) -> str:
        return (self.data / "logs" / f"{name}.log").read_text(errors="replace")[-LOG_TAIL:]

    # ------------------------------------------------------------------------------------------------------- stopping

    def interrupt(self) -> None:
        """Ctrl-C: the terminal sends SIGINT to every process of the foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end_at_last(self) -> None:
        """For the end of a test, however it went."""
        if self.process.poll() is None:
            self.interrupt()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    # ------------------------------------------------------------------------------------------------------ processes

    def pid(self, name: str) -> int:
        """As the supervisor wrote it down; 0 when there is none."""
        try:
            return int((self.data / "run" / f"{name}.pid").read_text())
        except (OSError, ValueError):
            return 0

    def pids(self) -> dict[str, int]:
        return {name: self.pid(name) for name in PROCESSES}

    def row(self, name: str) -> dict[str, Any]:
        """What the supervisor's table says of a process; empty while it cannot be read."""
        return next((row for row in self.table() if row["name"] == name), {})

    def table(self) -> list[dict[str, Any]]:
        try:
            found = self.redis().get(TABLE_KEY)
        except redis.RedisError:
            return []
        return list(json.loads(found)) if found else []

    def is_back(self, name: str, old_pid: int) -> bool:
        """Another process than the old one runs, and the supervisor has seen that it is ready."""
        row = self.row(name)
        return bool(row) and row["state"] == "up" and row["pid"] not in (None, old_pid)

    # ------------------------------------------------------------------------------------------------------ addresses

    def environment(self) -> dict[str, str]:
        """What the engine was started with."""
        raw = Path(f"/proc/{self.pid('engine')}/environ").read_bytes()
        return dict(pair.split("=", 1) for pair in raw.decode().split("\0") if "=" in pair)

    def remember_addresses(self) -> "WholeHouse":
        """Read them once, while the engine runs: afterwards it may be dead whenever somebody asks."""
        found = self.environment()
        self.url = f"http://127.0.0.1:{found['TRIBOOK_HTTP_PORT']}"
        self.database_url, self.redis_url = found["DATABASE_URL"], found["REDIS_URL"]
        lpsim = int(found["LPSIM_PORT_BASE"])
        web_ports = [int(found["TRIBOOK_HTTP_PORT"]), int(found["TRIBOOK_STREAM_PORT"])]
        self.ports = [*web_ports, *range(lpsim, lpsim + processes.LPSIM_PORTS)]
        return self

    def redis(self) -> "redis.Redis":
        """Made anew each time: connections do not outlive a Redis."""
        client: redis.Redis = redis.Redis.from_url(
            self.redis_url, socket_timeout=2, socket_connect_timeout=2, decode_responses=True
        )
        return client

    @contextmanager
    def database(self) -> Iterator["psycopg.Connection[Any]"]:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            yield connection

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self.database() as connection:
            return list(connection.execute(statement.encode(), parameters).fetchall())

    # ---------------------------------------------------------------------------------------------------------- clients

    def client(self, username: str) -> httpx.Client:
        """A logged-in client. One login per user: they are limited."""
        if username not in self._tokens:
            self._tokens[username] = self._log_in(username)
        return httpx.Client(
            base_url=self.url, timeout=60, headers={"Authorization": f"Bearer {self._tokens[username]}"}
        )

    def _log_in(self, username: str) -> str:
        logins = json.loads((self.data / "secrets" / "demo-logins.json").read_text())
        body = {"username": username, "password": logins[username]}
        answer = httpx.post(f"{self.url}/v1/auth/token", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access"])

    def reconciliation(self) -> dict[str, Any]:
        with self.client("dealer") as dealer:
            answer = dealer.get("/v1/admin/reconciliation")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@contextmanager
def whole_house(data: Path, *arguments: str, **environment: str) -> Iterator[WholeHouse]:
    """A house that is up, with its addresses known; stopped at the end, whatever happens."""
    house = WholeHouse(data, *arguments, **environment)
    try:
        yield house.up().remember_addresses()
    finally:
        house.end_at_last()


def _clean_environment() -> dict[str, str]:
    """Ours without anything that would lead the house to the test's own servers."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in OURS and not name.startswith(("TRIBOOK_", "LPSIM_", "PYTEST_"))
    }


# ------------------------------------------------------------------------------------------------- seen from the kernel


def processes_of(data: Path) -> dict[int, str]:
    """Every live process that belongs to this data folder, with its command line.

    PostgreSQL and Redis overwrite the place of their environment with a title, so working folder and command line count too.
    """
    needle = bytes(data)
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) != os.getpid() and is_alive(int(folder.name)) and needle in _traces(folder):
            found[int(folder.name)] = _read(folder / "cmdline").replace(b"\0", b" ").decode(errors="replace")[:200]
    return found


def descendants_of(pid: int) -> set[int]:
    """Every live process below this one."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if is_alive(int(folder.name)):
            children.setdefault(parent_of(int(folder.name)), []).append(int(folder.name))
    below: set[int] = set()
    waiting = [pid]
    while waiting:
        new = children.get(waiting.pop(), [])
        below.update(new)
        waiting.extend(new)
    return below


def is_alive(pid: int) -> bool:
    """Running in any way; a process that only waits to be reaped is not."""
    return _stat(pid)[:1] not in ([], ["Z"], ["X"])


def parent_of(pid: int) -> int:
    return int((_stat(pid)[1:2] or ["0"])[0])


def _stat(pid: int) -> list[str]:
    """From the state on: what stands before it may hold blanks."""
    return _read(Path(f"/proc/{pid}/stat")).decode(errors="replace").rpartition(")")[2].split()


def _traces(folder: Path) -> bytes:
    try:
        place = bytes((folder / "cwd").readlink())
    except OSError:
        place = b""
    return b"\n".join((place, _read(folder / "cmdline"), _read(folder / "environ")))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


# ------------------------------------------------------------------------------------------------------ simulated providers


def provider_images(data: Path) -> Iterator[dict[str, Any]]:
    """Every image of an order in the simulated providers' own files, in each file the oldest first."""
    for file in sorted((data / "fix" / "lpsim").glob("*.orders.jsonl")):
        for line in file.read_text().splitlines()[1:]:
            image: dict[str, Any] = json.loads(line)
            if "cl_ord_id" in image:
                yield image


def held_by_providers(data: Path) -> dict[str, tuple[str, Decimal]]:
    """What the simulated providers' own files say: status and filled units of every ClOrdID."""
    return {image["cl_ord_id"]: (image["status"], Decimal(image["cum"])) for image in provider_images(data)}


def deaths_in_order(pids: Mapping[str, int], *, within_s: float) -> dict[str, int]:
    """Watch until all are dead; for each the number of the look that found it dead.

    Looks go from the last to be stopped to the first, so that what died earlier is never found dead in a later look.
    """
    seen: dict[str, int] = {}
    looks = 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        for name in reversed(PROCESSES):
            if name not in seen and not is_alive(pids[name]):
                seen[name] = looks
        return len(seen) == len(pids)

    eventually(look, within_s=within_s)
    return seen


def describe(house: WholeHouse, *parts: object) -> str:
    """For a failure's message: what the test says, then what the house said last."""
    return "\n".join([*map(str, parts), house.tail()])
