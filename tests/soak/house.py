"""The whole house with a proxy on every line that a fault may be put on, and what "it has recovered" means."""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import redis

from broker.embedded.postgres import PORT, servers_of
from broker.processes import LPS
from bus import names
from lp_adapters.simulators.profiles import control_key
from tests.soak.launcher import ENGINE_LINE, SOCKETS, TRADE_LINE, socket_of
from tests.soak.proxy import Address, Proxy
from tests.support.whole_house import WholeHouse

LP_LINES = tuple(f"{lp}-{session}" for lp in LPS for session in ("price", "trade"))
"""In the order of the simulator's ports."""
POSTGRES_LINES = (ENGINE_LINE, TRADE_LINE)
STARTS_WITHIN_S = 400.0


class SoakHouse(WholeHouse):
    """A house whose LP sessions, engine and trade processes, and clients all go through proxies."""

    module = "tests.soak.launcher"

    def __init__(self, data: Path, *arguments: str, **environment: str) -> None:
        data.mkdir(parents=True, exist_ok=True)
        sockets = data.parent / f"{data.name}-lines"
        self._seen: dict[str, dict[str, str]] = {}
        self.lines: dict[str, Proxy] = {
            name: Proxy(self._port_of("lpsim", "LPSIM_PORT_BASE", offset)) for offset, name in enumerate(LP_LINES)
        }
        for name in POSTGRES_LINES:
            (sockets / name).mkdir(parents=True)
            self.lines[name] = Proxy(self._postgres_socket, listen=str(sockets / name / f".s.PGSQL.{PORT}"))
        self.lines["web"] = Proxy(self._port_of("web", "TRIBOOK_HTTP_PORT"))
        self.lines["stream"] = Proxy(self._port_of("stream", "TRIBOOK_STREAM_PORT"))
        for proxy in self.lines.values():
            proxy.start()
        ports = {f"LPSIM_PORT_{offset}": str(self.lines[name].port) for offset, name in enumerate(LP_LINES)}
        super().__init__(data, *arguments, **{SOCKETS: str(sockets), **ports, **environment})

    def up(self, *, within_s: float = STARTS_WITHIN_S) -> "SoakHouse":
        super().up(within_s=within_s)
        return self

    def remember_addresses(self) -> "SoakHouse":
        super().remember_addresses()
        self.database_url = self.environment_of("web")["DATABASE_URL"]
        self.url = f"http://127.0.0.1:{self.lines['web'].port}"
        self.stream_url = f"ws://127.0.0.1:{self.lines['stream'].port}/v1/stream"
        return self

    def end_at_last(self) -> None:
        super().end_at_last()
        for proxy in self.lines.values():
            proxy.stop()

    # ------------------------------------------------------------------------------------------------------- its lines

    def environment_of(self, process: str) -> dict[str, str]:
        """What a process was started with; remembered, since addresses outlive processes."""
        if process not in self._seen:
            raw = Path(f"/proc/{self.pid(process)}/environ").read_bytes()
            pairs = (pair.split("=", 1) for pair in raw.decode().split("\0") if "=" in pair)
            self._seen[process] = dict(pairs)
        return self._seen[process]

    def _port_of(self, process: str, name: str, offset: int = 0) -> Callable[[], Address | None]:
        def address() -> Address | None:
            try:
                return "127.0.0.1", int(self.environment_of(process)[name]) + offset
            except (OSError, KeyError):
                return None

        return address

    def _postgres_socket(self) -> Address | None:
        try:
            folder, port = socket_of(self.environment_of("web" if self.pid("web") else "lpsim")["DATABASE_URL"])
        except (OSError, KeyError):
            return None
        return f"{folder}/.s.PGSQL.{port}"

    # ------------------------------------------------------------------------------------------------------ its state

    def names(self) -> list[str]:
        """Every supervised process."""
        return [str(row["name"]) for row in self.table()]

    def owner(self) -> int:
        """The engine that says it has the shard; 0 while none does."""
        try:
            found: Any = self.redis().hget(names.health("engine"), "pid")
        except redis.RedisError:
            return 0
        return int(found or 0)

    def postgres_servers(self) -> list[int]:
        """The server and all its backends."""
        return servers_of(self.data / "postgres")

    def backends_of(self, application: str) -> list[int]:
        """The backends that serve a process, by the beginning of its application name."""
        query = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s"
        return [pid for (pid,) in self.sql(query, application + "%")]

    def order_providers(self, misbehaviour: dict[str, Any]) -> None:
        """Tell both simulated providers what to do wrong."""
        with suppress(redis.RedisError):
            for lp in LPS:
                self.redis().set(control_key(lp), json.dumps(misbehaviour))

    def what_is_missing(self) -> list[str]:
        """Which processes or sessions are not up; empty when the house is whole."""
        table = self.table()
        if not table:
            return ["the supervisor's table"]
        missing = [f"{row['name']} is {row['state']}" for row in table if row["state"] != "up"]
        try:
            states: dict[str, Any] = {lp: self.redis().hgetall(names.lp_state(lp)) for lp in LPS}
            engine: Any = self.redis().hget(names.health("engine"), "state")
        except redis.RedisError:
            return [*missing, "redis does not answer"]
        missing += [f"{lp} {part}" for lp in LPS for part in ("price", "trade") if states[lp].get(part) != "up"]
        return missing if engine == "up" else [*missing, f"the engine says {engine}"]

    def table(self) -> list[dict[str, Any]]:
        with suppress(OSError):
            return super().table()
        return []

    def database_answers(self) -> bool:
        try:
            self.sql("SELECT 1")
        except psycopg.Error:
            return False
        return True


def wait_until_whole(house: SoakHouse, *, within_s: float) -> list[str]:
    """Empty as soon as nothing is missing; else what still was when the time was up."""
    deadline = time.monotonic() + within_s
    while missing := house.what_is_missing():
        if time.monotonic() > deadline or house.process.poll() is not None:
            return missing
        time.sleep(0.1)
    return []


def is_root() -> bool:
    return os.geteuid() == 0
