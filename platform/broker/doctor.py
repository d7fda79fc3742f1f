"""`make doctor`: every thing the house needs, where it was found, which version, and how to get what is missing.

Like the bootstrap it runs by path with nothing but the standard library, because it must work where nothing else does.
What only the environment's own Python can tell, it asks that Python.
"""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
FREE_BYTES_MIN = 2 * 1024**3
ASK_SERVERS = """
import json
from pathlib import Path
from broker.embedded import postgres, redis
from broker.embedded.service import ServiceError, default_data_folder
import os
found = {"postgres": [[str(p.bin), p.major] for p in postgres.installations()]}
data = default_data_folder(os.environ)
found["cluster"] = postgres.major_of(data / "postgres")
try:
    found["redis"] = str(redis.find_program())
except ServiceError:
    found["redis"] = None
print(json.dumps(found))
"""
NEEDED, OPTIONAL = "needed", "optional"


@dataclass(frozen=True)
class Finding:
    """One thing looked for. `where` is empty when it is missing, and then `fix` says what to do."""

    name: str
    where: str
    version: str = ""
    need: str = NEEDED
    fix: str = ""

    @property
    def is_fatal(self) -> bool:
        return not self.where and self.need == NEEDED


def main() -> int:
    findings = list(examine(_bootstrap()))
    for finding in findings:
        sys.stdout.write(line(finding) + "\n")
    missing = [finding.name for finding in findings if finding.is_fatal]
    sys.stdout.write(f"missing: {', '.join(missing)}\n" if missing else "everything that is needed is here\n")
    return 1 if missing else 0


def line(finding: Finding) -> str:
    mark = "ok      " if finding.where else "MISSING " if finding.is_fatal else "absent  "
    told = f"{mark}{finding.name:<14} {finding.version:<12} {finding.where}"
    return told.rstrip() if finding.where else f"{told.rstrip()}  ({finding.need}) {finding.fix}"


def examine(bootstrap: ModuleType) -> Iterator[Finding]:
    place = bootstrap.place_from(os.environ)
    yield from machine(bootstrap, place)
    yield from environment(bootstrap, place)
    yield from servers(bootstrap, place)
    yield from surroundings()


def machine(bootstrap: ModuleType, place: object) -> Iterator[Finding]:
    """Python, make, and the compiler where QuickFIX is not compiled yet."""
    try:
        python = bootstrap.find_interpreter()
    except bootstrap.SetupError as error:
        yield Finding("python", "", fix=str(error))
        return
    yield Finding("python", python, version(python, "--version"))
    yield tool("make", need=NEEDED)
    wheel = bootstrap.find_wheel(place, bootstrap.LOCK.read_text(), python)
    yield Finding(
        "quickfix wheel",
        str(wheel or ""),
        need=OPTIONAL,
        fix="`make setup` compiles it once (three to six minutes)",
    )
    for package in bootstrap.missing_packages(python, compiling=wheel is None):
        yield Finding(package, "", fix=f"sudo apt-get install -y --no-install-recommends {package}")


def environment(bootstrap: ModuleType, place: object) -> Iterator[Finding]:
    """The virtual environment, and a few of its packages by the versions really there."""
    python = bootstrap.place_from(os.environ).python
    current = bootstrap.is_current(place)
    yield Finding("environment", str(python.parent.parent) if current else "", fix="make setup")
    if not current:
        return
    for name in ("django", "psycopg", "redis", "quickfix", "celery", "channels", "granian", "uvicorn"):
        found = bootstrap.ask(str(python), f"from importlib.metadata import version; print(version({name!r}))")
        yield Finding(name, "in the environment" if found else "", found, fix="make setup")


def servers(bootstrap: ModuleType, place: object) -> Iterator[Finding]:
    """PostgreSQL and Redis: the ones named by the environment, else what can be run here."""
    found = ask_servers(place)
    yield store("DATABASE_URL", "postgres", *chosen_postgres(found), fix="make setup, or Debian's postgresql")
    redis = str(found.get("redis") or "")
    yield store("REDIS_URL", "redis", redis, version(redis, "--version"), fix="make setup, or Debian's redis-server")
    yield Finding(
        "rabbitmq-server",
        str(bootstrap.RABBITMQ) if bootstrap.RABBITMQ.exists() else "",
        need=OPTIONAL,
        fix="events go over Redis; set AMQP_URL, or install Debian's and set TRIBOOK_RABBITMQ=1",
    )
    yield timescale(found)


def store(variable: str, name: str, where: str, told: str, *, fix: str) -> Finding:
    if os.environ.get(variable):
        return Finding(name, f"the server named by {variable}")
    return Finding(name, where, told, fix=fix)


def chosen_postgres(found: dict[str, object]) -> tuple[str, str]:
    """The installation that would be used: the preferred one, or the one that fits the cluster that is there."""
    installations, cluster = found.get("postgres"), found.get("cluster")
    for folder, major in installations if isinstance(installations, list) else []:
        if cluster in (None, major):
            return str(folder), str(major)
    return "", ""


def timescale(found: dict[str, object]) -> Finding:
    folder, major = chosen_postgres(found)
    places = [Path(folder).parent / "share" / "extension", Path(f"/usr/share/postgresql/{major}/extension")]
    control = next((place for place in places if (place / "timescaledb.control").exists()), None)
    return Finding(
        "timescaledb", str(control or ""), need=OPTIONAL, fix="plain tables are used; Debian itself does not have it"
    )


def ask_servers(place: object) -> dict[str, object]:
    python = str(getattr(place, "python", ""))
    root = HERE.parents[1]
    paths = {**os.environ, "PYTHONPATH": f"{root}:{root / 'platform'}"}
    try:
        told = subprocess.run([python, "-c", ASK_SERVERS], capture_output=True, text=True, check=False, env=paths)
        answer = json.loads(told.stdout)
    except (OSError, ValueError):
        return {}
    return answer if isinstance(answer, dict) else {}


def surroundings() -> Iterator[Finding]:
    """What the house stands on: a folder it may write, room on the disk, free ports, the browser for tests."""
    data = data_folder()
    existing = next(folder for folder in (data, *data.parents) if folder.exists())
    writable = os.access(existing, os.W_OK)
    yield Finding("data folder", str(data) if writable else "", fix=f"{existing} is not writable; make run DATA=PATH")
    free = shutil.disk_usage(existing).free
    told = f"{free / 1024**3:.1f} GiB"
    yield Finding("room on disk", str(existing) if free > FREE_BYTES_MIN else "", told, fix="free 2 GiB")
    for port in (8000, 8001):
        yield Finding(f"port {port}", "free" if is_free(port) else "", need=OPTIONAL, fix="another one will be picked")
    yield tool("chromium", need=OPTIONAL, fix="only for browser tests: sudo apt-get install -y chromium")


def data_folder() -> Path:
    """As the launcher chooses it (`broker.embedded.service.default_data_folder`)."""
    if os.environ.get("TRIBOOK_DATA"):
        return Path(os.environ["TRIBOOK_DATA"]).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/tribook")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "tribook"


def tool(name: str, *, need: str, fix: str = "") -> Finding:
    where = shutil.which(name) or ""
    told = version(where, "--version") if name in ("make", "chromium") else ""
    return Finding(name, where, told, need=need, fix=fix or f"sudo apt-get install -y {name}")


def version(program: str, option: str) -> str:
    """The first word of a program's own answer that looks like a version."""
    if not program:
        return ""
    try:
        told = subprocess.run([program, option], capture_output=True, text=True, check=False, timeout=20).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
    words = [word.removeprefix("v=") for word in told.split()]
    return next((word for word in words if word[:1].isdigit()), "")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _bootstrap() -> ModuleType:
    """The bootstrap beside this file, loaded by path: no folder of the house may come before the standard library."""
    spec = importlib.util.spec_from_file_location("tribook_bootstrap", HERE / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
