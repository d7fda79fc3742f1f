"""`broker.launch` with a proxy's socket between some processes and PostgreSQL; otherwise the house as it is.

The supervisor's own means are used: a process may have an environment of its own. LP sessions need none of this, since their
ports may be named in the environment of the whole house.
"""

import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from broker import launch
from broker.supervisor import Spec

SOCKETS = "SOAK_SOCKETS"
"""Environment: the folder with one folder per line to PostgreSQL."""
ENGINE_LINE, TRADE_LINE = "engine", "trade"


def line_of(process: str) -> str | None:
    """The proxied line that a process uses to PostgreSQL; None for its own."""
    if process.startswith("engine"):
        return ENGINE_LINE
    return TRADE_LINE if process.endswith("-trade") else None


def socket_of(database_url: str) -> tuple[str, str]:
    """Folder and port of the unix socket that an address names."""
    given = dict(parse_qsl(urlsplit(database_url).query))
    return given["host"], given["port"]


def through(database_url: str, folder: Path) -> str:
    """The same database through the socket in another folder."""
    _, port = socket_of(database_url)
    query = urlencode({"host": str(folder), "port": port}, quote_via=quote)
    return urlsplit(database_url)._replace(query=query).geturl()


def proxied(specs: Iterable[Spec], database_url: str, sockets: Path) -> list[Spec]:
    return [
        replace(spec, environment={**spec.environment, "DATABASE_URL": through(database_url, sockets / line)})
        if (line := line_of(spec.name))
        else spec
        for spec in specs
    ]


def main() -> int:
    sockets = Path(os.environ[SOCKETS])
    house = launch.house  # type: ignore[attr-defined]
    launch.house = lambda layout: proxied(house(layout), layout.database_url, sockets)  # type: ignore[attr-defined]
    return launch.main()


if __name__ == "__main__":
    sys.exit(main())
