"""From a bare Debian to a working virtual environment: the first thing `make run`, `make test` and `make setup` do.

Only the standard library may be imported here, because nothing else exists yet. Run it by path and isolated, as
`python3 -I platform/broker/bootstrap.py`: then neither this folder nor the checkout comes before the standard library.

The one slow part is QuickFIX, which PyPI has as C++ source only: it is compiled once into a wheel that is kept outside
the checkout, and the compiler works in the background while everything else is installed.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
PYTHONS = ((3, 11), (3, 12))
COMPILED = "quickfix"
COMPILER_FLAGS = "-O1 -g0"
STAMP = ".tribook-stamp"
STAMP_FORMAT = "1"
REPORT_EVERY_S = 15.0
RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
POLICY = Path("/usr/sbin/policy-rc.d")
IMPORT_CHECK = (
    "import platform, uuid, django, psycopg, redis, quickfix\n"
    "assert platform.__file__.endswith('platform.py'), platform.__file__\n"
)


class SetupError(Exception):
    """Setting up cannot go on; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where this checkout keeps its virtual environment and its compiled wheels."""

    venv: Path
    wheels: Path

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def stamp(self) -> Path:
        return self.venv / STAMP

    @property
    def setup_lock(self) -> Path:
        """Beside the wheels and not in the environment, which may be cleared while the lock is held."""
        return self.wheels.parent / f"setup-{hashlib.sha256(bytes(self.venv)).hexdigest()[:16]}.lock"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make the virtual environment of this checkout.")
    parser.add_argument("--for-tests", action="store_true", help="also install what only the tests need from Debian")
    options = parser.parse_args(arguments)
    try:
        set_up(for_tests=options.for_tests)
    except SetupError as error:
        say(f"setup failed: {error}")
        return 1
    return 0


def set_up(*, for_tests: bool = False) -> Path:
    """Bring the virtual environment to the locked versions and return its Python. Quick when nothing changed."""
    place = place_from(os.environ)
    if for_tests:
        install_browser()
        install_rabbitmq()
    if is_current(place):
        return place.python
    interpreter = str(place.python) if runs(str(place.python), "import pip") else find_interpreter()
    with only_one(place.setup_lock, "another setup of the same environment"):
        if not is_current(place):
            build(place, interpreter)
    return place.python


def place_from(environment: Mapping[str, str]) -> Place:
    venv = Path(environment.get("TRIBOOK_VENV") or ROOT / ".venv")
    return Place(venv=(ROOT / venv).absolute(), wheels=cache_folder(environment) / "wheels")


def cache_folder(environment: Mapping[str, str]) -> Path:
    if os.geteuid() == 0:
        return Path("/var/cache/tribook")
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tribook"


def is_current(place: Place) -> bool:
    try:
        return place.stamp.read_text() == stamp_for(place) and place.python.exists()
    except OSError:
        return False


def stamp_for(place: Place) -> str:
    """What the environment was made from: the lock, and where the checkout and the environment stand."""
    made_of = hashlib.sha256(STAMP_FORMAT.encode())
    for part in (LOCK.read_bytes(), bytes(ROOT), bytes(place.venv)):
        made_of.update(hashlib.sha256(part).digest())
    return made_of.hexdigest()


# ------------------------------------------------------------------------------------------ what must be on the machine


def find_interpreter() -> str:
    """A Python this house runs on: the one in use, else one on PATH."""
    if sys.version_info[:2] in PYTHONS:
        return sys.executable
    for major, minor in PYTHONS:
        found = shutil.which(f"python{major}.{minor}")
        if found:
            return found
    wanted = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
    raise SetupError(f"Python {wanted} is needed, this is {sys.version.split()[0]} and no other is on PATH.")


def missing_packages(interpreter: str, *, compiling: bool) -> list[str]:
    """Debian packages without which the environment cannot be made with this interpreter."""
    missing = []
    if not runs(interpreter, "import venv, ensurepip"):
        missing.append("python3-venv")
    if compiling and not header_file(interpreter).exists():
        missing.append("python3-dev")
    if compiling and shutil.which("g++") is None:
        missing.append("g++")
    return missing


def header_file(interpreter: str) -> Path:
    return Path(
        ask(interpreter, "import sysconfig; print(sysconfig.get_path('include'))") or "/nonexistent", "Python.h"
    )


def install_packages(packages: Sequence[str], *, why: str) -> None:
    """Install Debian packages when this is root; else raise SetupError with the one line that does it."""
    if not packages:
        return
    line = f"apt-get install -y --no-install-recommends {' '.join(packages)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupError(f"{why} needs Debian's {' '.join(packages)}. Run once:  sudo {line}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    log = Path(tempfile.gettempdir()) / f"tribook-apt-{os.getpid()}.log"
    run_logged(["apt-get", "update"], log=log, waiting_for="Debian's package lists", environment=quiet)
    run_logged(line.split(), log=log, waiting_for=f"Debian's {' '.join(packages)}", environment=quiet)
    log.unlink(missing_ok=True)


def install_browser() -> None:
    """Chromium for the browser tests. Where it cannot be installed those tests say so themselves."""
    if shutil.which("chromium"):
        return
    try:
        install_packages(["chromium"], why="The browser tests")
    except SetupError as error:
        say(str(error))


def install_rabbitmq() -> None:
    """RabbitMQ's program for the tests of the event bus, which run nodes of their own. Without it they say so themselves."""
    if RABBITMQ.exists():
        return
    try:
        with no_service_started(POLICY):
            install_packages(["rabbitmq-server"], why="The event bus's tests")
    except SetupError as error:
        say(str(error))


@contextlib.contextmanager
def no_service_started(policy: Path) -> Iterator[None]:
    """Debian starts what it installs, on every address; while this file says 101 it does not. One that is there stays."""
    if os.geteuid() != 0 or policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


# ----------------------------------------------------------------------------------------------------- the environment


def build(place: Place, interpreter: str) -> None:
    started = time.monotonic()
    place.venv.mkdir(parents=True, exist_ok=True)
    lock = LOCK.read_text()
    wheel = find_wheel(place, lock, interpreter)
    install_packages(missing_packages(interpreter, compiling=wheel is None), why="Setting up")
    make_venv(place, interpreter)
    compiling = None if wheel else Compilation(place, lock)
    with tempfile.TemporaryDirectory(prefix="tribook-setup-") as folder:
        install_locked(place, lock, Path(folder))
    built = compiling.wheel() if compiling else wheel
    install_without_dependencies(place, str(built), waiting_for="QuickFIX")
    install_without_dependencies(place, "--no-build-isolation", "-e", str(ROOT), waiting_for="the house itself")
    if not runs(str(place.python), IMPORT_CHECK):
        raise SetupError(f"{place.venv} was made but does not work; delete it and run again.")
    place.stamp.write_text(stamp_for(place))
    say(f"environment ready in {place.venv} after {time.monotonic() - started:.0f} s")


def make_venv(place: Place, interpreter: str) -> None:
    if runs(str(place.python), "import pip"):
        return
    log = place.venv / "venv.log"
    run_logged([interpreter, "-Im", "venv", "--clear", str(place.venv)], log=log, waiting_for="the virtual environment")


def install_locked(place: Place, lock: str, folder: Path) -> None:
    """All but QuickFIX, each file checked against its hash: with uv, or with pip where uv does not get through."""
    wanted, uv = folder / "wanted.txt", folder / "uv.txt"
    wanted.write_text(without(lock, COMPILED))
    uv.write_text(only(lock, "uv"))
    log = place.venv / "install.log"
    pip = [str(place.python), "-Im", "pip", "--disable-pip-version-check", "--no-input", "install", "--use-pep517"]
    try:
        run_logged([*pip, "--require-hashes", "-r", str(uv)], log=log, waiting_for="uv, the fast installer")
        fast = [str(place.venv / "bin" / "uv"), "pip", "install", "--python", str(place.python), "--require-hashes"]
        settings = uv_settings(place)
        run_logged([*fast, "-r", str(wanted)], log=log, waiting_for="the locked packages", environment=settings)
    except SetupError:
        say("uv did not get through; installing with pip")
        run_logged([*pip, "--require-hashes", "-r", str(wanted)], log=log, waiting_for="the locked packages, with pip")


def install_without_dependencies(place: Place, *what: str, waiting_for: str) -> None:
    pip = [str(place.python), "-Im", "pip", "--disable-pip-version-check", "--no-input", "install"]
    run_logged([*pip, "--no-deps", "--no-index", *what], log=place.venv / "install.log", waiting_for=waiting_for)


def uv_settings(place: Place) -> dict[str, str]:
    """uv does not read pip's configuration, so it is told the index and the certificates that pip was told."""
    environment = {**os.environ, "UV_NO_PROGRESS": "1"}
    for setting, variable in (("index-url", "UV_DEFAULT_INDEX"), ("cert", "SSL_CERT_FILE")):
        told = pip_setting(place, setting)
        if told and variable not in environment:
            environment[variable] = told
    return environment


def pip_setting(place: Place, name: str) -> str | None:
    listed = subprocess.run(
        [str(place.python), "-Im", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    found = re.findall(rf"^(?:global|install|:env:)\.{re.escape(name)}='(.*)'$", listed, flags=re.MULTILINE)
    return found[-1] if found else None


# ------------------------------------------------------------------------------------------------------------ the lock


def blocks(lock: str) -> list[str]:
    """The lock cut into one text per package, its hashes included."""
    return [block for block in re.split(r"(?m)^(?=[A-Za-z0-9])", lock) if block.strip()]


def without(lock: str, name: str) -> str:
    return "".join(block for block in blocks(lock) if not block.startswith(f"{name}=="))


def only(lock: str, name: str) -> str:
    found = [block for block in blocks(lock) if block.startswith(f"{name}==")]
    if len(found) != 1:
        raise SetupError(f"{LOCK.name} names {name} {len(found)} times instead of once.")
    return found[0]


def locked_version(lock: str, name: str) -> str:
    return only(lock, name).removeprefix(f"{name}==").split()[0]


# ------------------------------------------------------------------------------------------------------------ QuickFIX


def find_wheel(place: Place, lock: str, interpreter: str) -> Path | None:
    """A compiled QuickFIX for this interpreter: one that came with the checkout in `wheels/`, else one built before."""
    tag = abi_tag(interpreter)
    pattern = f"{COMPILED}-{locked_version(lock, COMPILED)}-{tag}-{tag}-*.whl"
    for folder in (ROOT / "wheels", place.wheels):
        found = sorted(folder.glob(pattern))
        if found:
            return found[-1]
    return None


def abi_tag(interpreter: str) -> str:
    return ask(interpreter, "import sys; print('cp%d%d' % sys.version_info[:2])")


class Compilation:
    """QuickFIX being compiled in the background, by whoever holds the cache's lock first."""

    def __init__(self, place: Place, lock: str) -> None:
        self._place, self._lock = place, lock
        self._outcome: Path | SetupError | None = None
        self._thread = threading.Thread(target=self._compile, name="quickfix", daemon=True)
        self._started = time.monotonic()
        say("compiling QuickFIX in the background (three to six minutes, only this once)")
        self._thread.start()

    def wheel(self) -> Path:
        """Wait for the wheel. Raises SetupError with the place of the compiler's output when there is none."""
        while self._thread.is_alive():
            self._thread.join(REPORT_EVERY_S)
            if self._thread.is_alive():
                say(f"waiting for the QuickFIX compiler, {time.monotonic() - self._started:.0f} s")
        if isinstance(self._outcome, Path):
            return self._outcome
        raise self._outcome or SetupError("the QuickFIX compiler ended without a word")

    def _compile(self) -> None:
        try:
            self._outcome = self._build()
        except SetupError as error:
            self._outcome = error
        except OSError as error:
            self._outcome = SetupError(f"QuickFIX could not be compiled: {error}")

    def _build(self) -> Path:
        with only_one(self._place.wheels / ".lock", "another setup that compiles QuickFIX"):
            found = find_wheel(self._place, self._lock, str(self._place.python))
            return found or self._build_alone()

    def _build_alone(self) -> Path:
        log = self._place.wheels / "quickfix.log"
        flags = {**os.environ, "CFLAGS": COMPILER_FLAGS, "CXXFLAGS": COMPILER_FLAGS}
        with tempfile.TemporaryDirectory(prefix="building-", dir=self._place.wheels) as name:
            folder = Path(name)
            wanted = folder / "wanted.txt"
            wanted.write_text(only(self._lock, COMPILED))
            command = [str(self._place.python), "-Im", "pip", "--disable-pip-version-check", "--no-input", "wheel"]
            run_logged(
                [*command, "--use-pep517", "--no-deps", "--require-hashes", "-r", str(wanted), "-w", str(folder)],
                log=log,
                environment=flags,
            )
            built = next(folder.glob("*.whl"))
            return built.replace(self._place.wheels / built.name)


# ------------------------------------------------------------------------------------------------------------- helpers


def runs(python: str, code: str) -> bool:
    """Whether this Python exists and gets through this code."""
    try:
        return subprocess.run([python, "-Ic", code], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def ask(python: str, code: str) -> str:
    """What this Python prints when it runs this code; nothing when it cannot."""
    try:
        return subprocess.run([python, "-Ic", code], capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def run_logged(
    command: Sequence[str],
    *,
    log: Path,
    waiting_for: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a command with its output in `log`, saying now and then what is waited for. Raises SetupError if it fails."""
    started = time.monotonic()
    if waiting_for:
        say(f"waiting for {waiting_for}")
    try:
        with log.open("ab") as output:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
            )
            status = wait_reporting(child, waiting_for, started)
    except OSError as error:
        raise SetupError(f"{command[0]} cannot be run: {error}") from error
    if status:
        raise SetupError(f"`{' '.join(command)}` ended with status {status}. The end of {log}:\n{tail(log)}")


def wait_reporting(child: "subprocess.Popen[bytes]", waiting_for: str | None, started: float) -> int:
    try:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.wait(REPORT_EVERY_S)
            if waiting_for:
                say(f"still waiting for {waiting_for}, {time.monotonic() - started:.0f} s")
    except BaseException:
        child.kill()
        child.wait()
        raise


def tail(path: Path, lines: int = 15) -> str:
    return "\n".join("    " + line for line in path.read_text(errors="replace").splitlines()[-lines:])


@contextlib.contextmanager
def only_one(path: Path, who: str) -> Iterator[None]:
    """Hold the file's lock, waiting for whoever holds it now. The kernel lets go of it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for {who}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(text: str) -> None:
    sys.stdout.write(f"[setup] {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
