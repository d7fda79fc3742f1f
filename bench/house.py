"""As much of the house as a benchmark needs: private durable stores, chosen processes of the real table, nothing else.

A small desk publishes fresh prices instead of the simulated providers, so that the cores belong to what is measured.
Everything is on a data folder of its own, and is stopped and removed at the end.
"""

import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import redis

from bench.decide import eurusd
from bench.services import data_folder
from broker.embedded.postgres import create_database, postgres_service
from broker.embedded.redis import redis_service
from broker.embedded.service import kept_secret
from broker.processes import POSTGRES, REDIS, ROOT, Layout, environment, free_port, house, python
from broker.supervisor import Supervisor, spec_of
from bus import names
from bus.clock import wall
from bus.codec import decode, encode
from trading.configuration import Config

WITHIN_S = 90.0
QUOTED_EVERY_S = 0.5


@dataclass(frozen=True)
class House:
    """Where it is, and the process number of each of its processes."""

    layout: Layout
    environment: Mapping[str, str]
    pids: Mapping[str, int]


@contextmanager
def open_house(processes: Sequence[str], config: Config) -> Iterator[House]:
    """PostgreSQL, Redis and the named processes, migrated and with this configuration published."""
    with data_folder() as data, Supervisor(data, folder=ROOT, environment=dict(os.environ), say=_silent) as supervisor:
        postgres, private_redis = postgres_service(data), redis_service(data)
        supervisor.add([spec_of(postgres, stop_rank=POSTGRES), spec_of(private_redis, stop_rank=REDIS)])
        supervisor.wait_ready(within_s=WITHIN_S)
        create_database(postgres.url)
        layout = _layout(data, postgres.url, private_redis.url)
        given = environment(layout, os.environ)
        supervisor.add((), given)
        if supervisor.run_to_end("migrate", python("django", "migrate", "--verbosity=0")):
            raise SystemExit(f"the database cannot be migrated:\n{supervisor.tail('migrate')}")
        _publish(layout.database_url, config)
        supervisor.add(spec for spec in house(layout) if spec.name in processes)
        supervisor.wait_ready(within_s=WITHIN_S)
        yield House(layout, given, {str(row["name"]): int(str(row["pid"])) for row in supervisor.table()})


def _layout(data: Path, database_url: str, redis_url: str) -> Layout:
    http_port = free_port()
    return Layout(
        data=data,
        database_url=database_url,
        redis_url=redis_url,
        secret_key=kept_secret(data / "secrets" / "secret-key"),
        clock="wall",
        http_port=http_port,
        stream_port=free_port(taken=(http_port,)),
        lpsim_port_base=0,
        lpsim_password="",
    )


def _publish(url: str, config: Config) -> None:
    """The configuration as version 1, as the back office stores it."""
    with psycopg.connect(url) as connection:
        connection.execute(
            "INSERT INTO config_version (version, document, published_at, published_by) VALUES (1, %s, now(), 'bench')",
            (encode(config).decode(),),
        )


def _silent(_text: str) -> None:
    """The supervisor's remarks are not a benchmark's output; what fails is raised."""


def logged_in(place: House, count: int) -> dict[int, str]:
    """So many users, each with an account of the same number and a token: account -> token."""
    made = subprocess.run(
        python("bench.clients", str(count)),
        env=dict(place.environment),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    return decode(made.stdout, dict[int, str])


@contextmanager
def quoting(redis_url: str) -> Iterator[None]:
    """A fresh EURUSD twice a second, until the block ends."""
    ended = threading.Event()
    desk = threading.Thread(target=_quote, args=(redis_url, ended), daemon=True)
    desk.start()
    try:
        yield
    finally:
        ended.set()
        desk.join()


def _quote(redis_url: str, ended: threading.Event) -> None:
    with redis.Redis.from_url(redis_url) as client:
        while not ended.is_set():
            client.publish(names.QUOTES, encode(eurusd(wall())))
            ended.wait(QUOTED_EVERY_S)


# --------------------------------------------------------------------------------------------------------------- cores

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Seconds of processor time that a process and its descendants have used, the ended and reaped ones too."""
    rows = {int(entry.name): _stat(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    family = {pid}
    while grown := {child for child, (parent, _) in rows.items() if parent in family} - family:
        family |= grown
    return sum(rows[member][1] for member in family if member in rows)


def _stat(entry: Path) -> tuple[int, float]:
    """Parent, and seconds of its own and of its reaped children; (0, 0) for a process that has just gone."""
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0.0
    return int(fields[1]), sum(int(field) for field in fields[11:15]) / TICKS_PER_S
