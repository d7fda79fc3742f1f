"""The processes of the house on one screen: what each is started with, what it waits for, and when it is stopped.

All of them run in the checkout's root and get the same environment (`environment`), which is also what a container would
give them: DATABASE_URL, REDIS_URL, AMQP_URL where there is RabbitMQ, TRIBOOK_DATA, TRIBOOK_CLOCK, TRIBOOK_SECRET_KEY,
the ports, and the simulated LPs' password.
"""

import http.client
import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import redis

from broker.supervisor import Spec
from bus import names
from engine.lease import OWNER, STANDBY

ROOT = Path(__file__).resolve().parents[2]
LPS = ("YOFX1", "PRIMEXM")
WEB_WORKERS = 2
BLOCKING_THREADS = 16
LPSIM_PORTS = 4
WEBSOCKET_BYTES_MAX = 131_072
"""What the server reads of one message; the protocol's own limit is half of it and answers with a close code."""

DOORS, COUNTERPARTIES, ENGINE, REDIS, POSTGRES = range(5)
"""The order in which everything is stopped: nothing new comes in before what it needs goes away."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The addresses and folders of one run."""

    data: Path
    database_url: str
    redis_url: str
    secret_key: str
    clock: str
    http_port: int
    stream_port: int
    lpsim_port_base: int
    lpsim_password: str
    ticks: Path | None = None
    speed: str = "1"
    amqp_url: str = ""
    """Where the events go; empty: Redis streams."""


PORT_END = 65_536


def environment(layout: Layout, inherited: Mapping[str, str]) -> dict[str, str]:
    """What every process of the house gets."""
    own = {
        "DATABASE_URL": layout.database_url,
        "REDIS_URL": layout.redis_url,
        "TRIBOOK_DATA": str(layout.data),
        "TRIBOOK_CLOCK": layout.clock,
        "TRIBOOK_SECRET_KEY": layout.secret_key,
        "TRIBOOK_HTTP_PORT": str(layout.http_port),
        "TRIBOOK_STREAM_PORT": str(layout.stream_port),
        "LPSIM_PORT_BASE": str(layout.lpsim_port_base),
        "LPSIM_PASSWORD": layout.lpsim_password,
        "SPEED": layout.speed,
        "DJANGO_SETTINGS_MODULE": "broker.settings",
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "platform"))),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
    }
    kept = {name: value for name, value in inherited.items() if name not in ("TICKS", "AMQP_URL")}
    given = {"TICKS": str(layout.ticks) if layout.ticks else "", "AMQP_URL": layout.amqp_url}
    return {**kept, **own, **{name: value for name, value in given.items() if value}}


def house(layout: Layout) -> list[Spec]:
    """Every process but the two stores, in the order they start."""
    beating = heartbeat_of(layout.redis_url)
    return [
        engine(beating),
        engine_standby(beating),
        Spec("lpsim", python("lp_adapters.simulators.lpsim"), stop_rank=COUNTERPARTIES, is_ready=beating("lpsim")),
        Spec(
            "lpsim-feed",
            python("lp_adapters.simulators.feed"),
            after=("lpsim",),
            stop_rank=COUNTERPARTIES,
            is_ready=beating("lpsim-feed"),
        ),
        *(lp_session(lp, session, beating) for lp in LPS for session in ("price", "trade")),
        Spec("quotes", python("lp_adapters.manager"), stop_rank=COUNTERPARTIES, is_ready=beating("quotes")),
        Spec("auditor", python("broker.audit"), after=("engine",), stop_rank=DOORS, is_ready=beating("auditor")),
        Spec("web", web(layout.http_port), after=("engine",), stop_rank=DOORS, is_ready=answers_on(layout.http_port)),
        Spec("stream", stream(layout.stream_port), stop_rank=DOORS, is_ready=answers_on(layout.stream_port)),
        Spec("relay", python("bus.relay"), after=("engine",), stop_rank=COUNTERPARTIES, is_ready=beating("relay")),
        Spec("notifier", python("apps.notifications"), stop_rank=COUNTERPARTIES, is_ready=beating("notifier")),
        Spec("worker", celery("worker", "--pool", "threads", "--concurrency", "2"), stop_rank=DOORS),
        Spec("beat", celery("beat", "--schedule", str(layout.data / "run" / "beat-schedule")), stop_rank=DOORS),
    ]


def engine(beating: "Beating") -> Spec:
    """Ready as soon as it says anything: as the owner, or as one that stands by while its standby is at work."""
    is_owner, stands_by = beating(names.OWNER), beating(names.engine(OWNER))
    return Spec(
        "engine",
        python("engine"),
        stop_rank=ENGINE,
        is_ready=lambda pid: is_owner(pid) or stands_by(pid),
        stop_within_s=15.0,
    )


def engine_standby(beating: "Beating") -> Spec:
    """Ready when it could take over; it may find the shard free and be at work already, or halted."""
    name = names.engine(STANDBY)
    return Spec(
        name,
        python("engine", "--standby"),
        after=("engine",),
        stop_rank=ENGINE,
        is_ready=beating(name, states=frozenset({"standby", "up", "halted"})),
        stop_within_s=15.0,
    )


def crowd(redis_url: str, *, clients: int, seed: int, until_us: int) -> Spec:
    """Simulated clients who trade until the business time comes."""
    beating = heartbeat_of(redis_url)
    terms = {"--clients": clients, "--seed": seed, "--until-us": until_us}
    command = python("broker.crowd", *(str(part) for term in terms.items() for part in term))
    return Spec("crowd", command, after=("engine", "quotes"), stop_rank=DOORS, is_ready=beating("crowd"))


def lp_session(lp: str, session: str, beating: "Beating") -> Spec:
    name = f"lp-{lp}-{session}"
    return Spec(
        name,
        python("lp_adapters.fix", "--lp", lp, "--session", session),
        after=("lpsim", "engine"),
        stop_rank=COUNTERPARTIES,
        is_ready=beating(name),
    )


def python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)


def web(port: int) -> tuple[str, ...]:
    """REST, the admin and the pages: WSGI, a worker per core of the smallest machine, a thread per request in flight."""
    return (
        *python("granian", "broker.web_worker:application", "--interface", "wsgi", "--host", "127.0.0.1"),
        *("--port", str(port), "--workers", str(WEB_WORKERS), "--blocking-threads", str(BLOCKING_THREADS)),
        *("--workers-kill-timeout", "4", "--no-ws", "--log-level", "warning"),
    )


def stream(port: int) -> tuple[str, ...]:
    """The WebSockets: ASGI, one process."""
    return (
        *python("uvicorn", "broker.asgi:application", "--lifespan", "off", "--host", "127.0.0.1"),
        *("--port", str(port), "--timeout-graceful-shutdown", "3", "--log-level", "warning"),
        *("--ws-max-size", str(WEBSOCKET_BYTES_MAX), "--ws-per-message-deflate", "false"),
    )


def celery(*arguments: str) -> tuple[str, ...]:
    return python("celery", "-A", "broker", *arguments, "--loglevel", "warning")


# --------------------------------------------------------------------------------------------------- how one is ready


class Beating(Protocol):
    """Makes the question whether a process has said in Redis that it is alive, and in one of these states if any are named."""

    def __call__(self, name: str, states: frozenset[str] = ...) -> Callable[[int], bool]: ...


def heartbeat_of(redis_url: str) -> Beating:
    """Makes, per process, the question whether it has said in Redis that it is alive.

    The heartbeat must come from the process now running, not from a predecessor whose last word has not expired yet:
    its number has to be one of the child's own session.
    """
    client = redis.Redis.from_url(redis_url, socket_timeout=2, decode_responses=True)

    def beating(name: str, states: frozenset[str] = frozenset()) -> Callable[[int], bool]:
        def is_ready(pid: int) -> bool:
            with suppress(redis.RedisError, OSError, ValueError, TypeError):
                said, state = client.hmget(names.health(name), "pid", "state")
                return os.getsid(int(str(said))) == pid and (not states or state in states)
            return False

        return is_ready

    return beating


def answers_on(port: int) -> Callable[[int], bool]:
    """Asks a web server on loopback; any answer at all means that it serves."""

    def is_ready(_pid: int) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", "/healthz")
            connection.getresponse()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True

    return is_ready


# -------------------------------------------------------------------------------------------------------------- ports


def free_port(preferred: int = 0, taken: tuple[int, ...] = ()) -> int:
    """The preferred loopback port, or one the kernel picks when there is no preference or somebody has it."""
    if preferred and preferred not in taken and is_free(preferred) and claim(preferred):
        return preferred
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in taken and claim(port):
            return port


def free_port_range(preferred: int, count: int) -> int:
    """The first of `count` neighbouring free loopback ports, from the preferred one upwards."""
    for base in range(preferred, PORT_END, count):
        if all(is_free(base + offset) and claim(base + offset) for offset in range(count)):
            return base
    raise OSError(f"no {count} neighbouring free ports above {preferred}")


def claim(port: int) -> bool:
    """Whether no other house has chosen this port. It lies unused for the seconds until its server listens, and a second
    house that is started meanwhile would be answered by the first. Held until this process ends, however it ends: the
    kernel lets a name in its abstract namespace be bound once.
    """
    if port in _claims:
        return True
    held = socket.socket(socket.AF_UNIX)
    try:
        held.bind(f"\0tribook-port-{port}")
    except OSError:
        held.close()
        return False
    _claims[port] = held
    return True


_claims: dict[int, socket.socket] = {}


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
