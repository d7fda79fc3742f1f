"""`make run`: the stores, the schema, the demo broker, every process, the tour; then everything stays up until Ctrl-C.

The steps stand in `run` in the order they happen. Nothing here trades: the tour does, through the public doors, and the crowd
through the bus.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import redis

from broker.embedded.postgres import create_database, postgres_service
from broker.embedded.rabbitmq import rabbitmq_services
from broker.embedded.redis import redis_service
from broker.embedded.service import Service, ServiceError, default_data_folder, kept_secret
from broker.processes import (
    LPSIM_PORTS,
    POSTGRES,
    REDIS,
    ROOT,
    Layout,
    crowd,
    environment,
    free_port,
    free_port_range,
    house,
    python,
)
from broker.supervisor import AlreadyRunningError, InterruptedByUserError, NotReadyError, Supervisor, spec_of
from bus.clock import after, clock_from
from bus.store import SHORT_QUESTIONS

STORES_WITHIN_S = 90.0
HOUSE_WITHIN_S = 120.0
TABLE_KEY = "supervisor:processes"
TABLE_TTL_S = 10
INTERRUPTED = 130
CLIENTS_MAX = 2000
DAY_S = 86_400
CROWD_S = 60.0
"""How long the crowd trades where no recorded day is replayed."""


class LaunchError(Exception):
    """The house cannot be started; the text says why."""


@dataclass(frozen=True, slots=True)
class Options:
    data: Path
    ticks: Path | None
    speed: float
    tour: bool
    exit_after_tour: bool
    clients: int = 0
    """How many simulated clients trade; 0 for none."""
    seed: int | None = None
    trade_for_s: float | None = None
    then_stop: bool = False

    @property
    def stays_up(self) -> bool:
        return not (self.exit_after_tour or self.then_stop)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 1 when the house could not be started or the crowd's data was unsound; else the tour's with
    --exit-after-tour, and 0 after Ctrl-C."""
    try:
        options = parse(arguments)
        options.data.mkdir(mode=0o755, parents=True, exist_ok=True)
        return run(options)
    except (AlreadyRunningError, LaunchError, NotReadyError, ServiceError) as error:
        say(str(error))
        return 1


def parse(arguments: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(
        prog="make run", description="Start the whole house and trade a round trip each way."
    )
    parser.add_argument("--ticks", type=Path, help="recorded ticks for the simulated LPs to replay")
    parser.add_argument("--speed", type=float, default=1.0, help="how fast business time runs when replaying")
    parser.add_argument(
        "--data", type=Path, help="the data folder (default: TRIBOOK_DATA, else the system's usual place)"
    )
    parser.add_argument("--no-tour", action="store_true", help="start everything and do not trade")
    parser.add_argument("--exit-after-tour", action="store_true", help="stop everything after the tour")
    parser.add_argument("--clients", type=int, default=0, help="let so many simulated clients trade for a day, watched")
    parser.add_argument("--seed", type=int, help="what the simulated clients do; drawn when it is not given")
    parser.add_argument("--trade-for", type=float, metavar="SECONDS", help="how long they trade, instead of a day")
    parser.add_argument("--then-stop", action="store_true", help="stop everything after the clients' summary")
    given = parser.parse_args(arguments)
    if not 0 < given.speed <= 1000:
        parser.error("--speed must be above 0 and at most 1000")
    if given.ticks and not given.ticks.exists():
        parser.error(f"there is nothing at {given.ticks}")
    if given.speed != 1 and not given.ticks:
        parser.error("--speed is how fast a recording is replayed: give --ticks too")
    if not 0 <= given.clients <= CLIENTS_MAX:
        parser.error(f"--clients is at most {CLIENTS_MAX}")
    if not given.clients and (given.then_stop or given.trade_for is not None or given.seed is not None):
        parser.error("--seed, --trade-for and --then-stop are about simulated clients: give --clients too")
    if given.trade_for is not None and not 0 < given.trade_for <= DAY_S:
        parser.error("--trade-for must be above 0 and at most a day")
    return Options(
        data=(given.data or default_data_folder(os.environ)).absolute(),
        ticks=given.ticks.absolute() if given.ticks else None,
        speed=given.speed,
        tour=not given.no_tour,
        exit_after_tour=given.exit_after_tour,
        clients=given.clients,
        seed=given.seed,
        trade_for_s=given.trade_for,
        then_stop=given.then_stop,
    )


def run(options: Options) -> int:
    started = time.monotonic()
    crowd_status = 0
    publisher = Publisher()
    with Supervisor(options.data, folder=ROOT, environment=dict(os.environ), say=say, publish=publisher) as supervisor:
        try:
            layout = start_stores(supervisor, options)
            publisher.connect(layout.redis_url)
            prepare_database(supervisor)
            layout = with_clock(layout, options)
            say("starting the processes")
            supervisor.add(house(layout), environment(layout, os.environ))
            supervisor.wait_ready(within_s=HOUSE_WITHIN_S)
            seed_accounts(supervisor)
            say(f"everything is up after {time.monotonic() - started:.1f} s")
            status = tour(supervisor) if options.tour else 0
            crowd_status = trade(supervisor, layout, options) if options.clients else 0
            if options.stays_up:
                show_addresses(supervisor, layout)
                supervisor.run_forever()
        except InterruptedByUserError:
            status = INTERRUPTED
        finally:
            say("stopping everything")
    say("stopped")
    if crowd_status or options.stays_up:
        return crowd_status
    return status if options.exit_after_tour or status == INTERRUPTED else 0


# ------------------------------------------------------------------------------------------------------------ the steps


def start_stores(supervisor: Supervisor, options: Options) -> Layout:
    """PostgreSQL and Redis: the real ones that the environment names, else private ones. RabbitMQ only when asked for."""
    database_url, redis_url = os.environ.get("DATABASE_URL"), os.environ.get("REDIS_URL")
    services: list[tuple[Service, int]] = []
    if not database_url:
        say("starting PostgreSQL")
        postgres = postgres_service(options.data)
        services.append((postgres, POSTGRES))
        database_url = postgres.url
    if not redis_url:
        say("starting Redis")
        private = redis_service(options.data)
        services.append((private, REDIS))
        redis_url = private.url
    supervisor.add(spec_of(service, stop_rank=rank) for service, rank in services)
    amqp_url = os.environ.get("AMQP_URL", "")
    if not amqp_url and os.environ.get("TRIBOOK_RABBITMQ") == "1":
        amqp_url = start_rabbitmq(supervisor, options.data)
    supervisor.wait_ready(within_s=STORES_WITHIN_S)
    if not os.environ.get("DATABASE_URL"):
        create_database(database_url)
    http_port = free_port(8000)
    layout = Layout(
        data=options.data,
        database_url=database_url,
        redis_url=redis_url,
        secret_key=os.environ.get("TRIBOOK_SECRET_KEY") or kept_secret(options.data / "secrets" / "secret-key"),
        clock="wall",
        http_port=http_port,
        stream_port=free_port(8001, taken=(http_port,)),
        lpsim_port_base=free_port_range(19880, LPSIM_PORTS),
        lpsim_password=os.environ.get("LPSIM_PASSWORD") or kept_secret(options.data / "secrets" / "lpsim-password"),
        ticks=options.ticks,
        speed=f"{options.speed:g}",
        amqp_url=amqp_url,
    )
    supervisor.add((), environment(layout, os.environ))
    return layout


def start_rabbitmq(supervisor: Supervisor, data: Path) -> str:
    """A private node; its address. It finds its epmd running and starts none, and is stopped before it."""
    say("starting RabbitMQ")
    epmd, node = rabbitmq_services(data)
    supervisor.add([spec_of(epmd, stop_rank=POSTGRES), replace(spec_of(node, stop_rank=REDIS), after=("epmd",))])
    return node.url


def prepare_database(supervisor: Supervisor) -> None:
    for name, text in (("migrate", "migrating the database"), ("seed_demo", "seeding the demo broker")):
        say(text)
        arguments = ("--no-input",) if name == "migrate" else ()
        if supervisor.run_to_end(name, manage(name, *arguments)):
            raise LaunchError(f"`manage.py {name}` failed:\n{supervisor.tail(name)}")


def seed_accounts(supervisor: Supervisor) -> None:
    """The demo clients' accounts are opened and funded by the engine, so only once it runs; again does nothing."""
    if supervisor.run_to_end("seed_accounts", manage("seed_accounts")):
        raise LaunchError(f"`manage.py seed_accounts` failed:\n{supervisor.tail('seed_accounts')}")


def with_clock(layout: Layout, options: Options) -> Layout:
    """Business time follows the recording when there is one, else the wall; on data that is ahead it goes on where that stops.

    Time never runs backwards, so a recording that starts before the last committed batch is played from then on: its
    first tick falls on that moment. And data that a fast replay has taken into the future stays ahead of the wall.
    """
    last_us, wall_us = last_business_us(layout.database_url), time.time_ns() // 1000
    if options.ticks is not None:
        start_us = max(recording_start_us(options.ticks, environment(layout, os.environ)), last_us + 1)
    elif last_us > wall_us:
        start_us = last_us + 1
        say(f"this data was replayed into the future: business time goes on {(last_us - wall_us) / 1e6:.0f} s ahead")
    else:
        return layout
    return replace(layout, clock=f"replay:{start_us}:{options.speed:g}:{time.time_ns() // 1000}")


def recording_start_us(ticks: Path, given: Mapping[str, str]) -> int:
    """When the recording starts, as its reader says. Raises LaunchError when it cannot be read."""
    say(f"reading {ticks}")
    command = [sys.executable, "-m", "lp_adapters.simulators.feed", "--describe", str(ticks)]
    told = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(given), cwd=ROOT)
    if told.returncode:
        raise LaunchError(f"the recording cannot be read:\n{told.stderr[-2000:]}")
    return int(json.loads(told.stdout)["start_us"])


def last_business_us(database_url: str) -> int:
    """The newest committed business time, in microseconds; 0 for a fresh database."""
    with psycopg.connect(database_url, connect_timeout=5, options=SHORT_QUESTIONS) as connection:
        row = connection.execute("SELECT (extract(epoch FROM max(at)) * 1000000)::bigint FROM engine_batch").fetchone()
    return int(row[0]) if row and row[0] is not None else 0


def tour(supervisor: Supervisor) -> int:
    say("the tour trades one round trip each for A, B and C")
    status = supervisor.run_to_end("tour", (sys.executable, "-m", "broker.tour"), show=True)
    say(f"the tour ended with status {status}" + ("" if status == 0 else ": something is wrong, see above"))
    return status


def trade(supervisor: Supervisor, layout: Layout, options: Options) -> int:
    """The crowd's day, watched: 0 when the stored data was sound at every look."""
    seed = secrets.randbelow(10**9) if options.seed is None else options.seed
    lasts_s = options.trade_for_s or (DAY_S / options.speed if options.ticks else CROWD_S)
    until_us = after(clock_from(layout.clock), lasts_s)
    say(
        f"{options.clients} simulated clients trade for {lasts_s:.0f} s (seed {seed}); the data is checked every second"
    )
    supervisor.add([crowd(layout.redis_url, clients=options.clients, seed=seed, until_us=until_us)])
    status = supervisor.run_to_end("crowd-watch", python("broker.crowd_watch", "--until-us", str(until_us)), show=True)
    supervisor.dismiss("crowd")
    say(f"the crowd's day ended with status {status}" + ("" if status == 0 else ": the data is unsound, see above"))
    return status


def show_addresses(supervisor: Supervisor, layout: Layout) -> None:
    say(f"overview        http://127.0.0.1:{layout.http_port}/")
    say(f"REST            http://127.0.0.1:{layout.http_port}/v1")
    say(f"admin           http://127.0.0.1:{layout.http_port}/admin/")
    say(f"WebSocket       ws://127.0.0.1:{layout.stream_port}/v1/stream")
    say(f"data and logs   {layout.data}")
    supervisor.run_to_end("demo_logins", manage("demo_logins"), show=True)
    say("Ctrl-C stops everything")


def manage(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, str(ROOT / "manage.py"), *arguments)


class Publisher:
    """Puts the supervisor's table into Redis for the overview page, where it lives only a few seconds."""

    def __init__(self) -> None:
        self._client: redis.Redis | None = None

    def connect(self, redis_url: str) -> None:
        self._client = redis.Redis.from_url(redis_url, socket_timeout=1)

    def __call__(self, table: str) -> None:
        if self._client is not None:
            with suppress(redis.RedisError, OSError):
                self._client.set(TABLE_KEY, table, ex=TABLE_TTL_S)


def say(text: str) -> None:
    sys.stdout.write(f"[house] {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
