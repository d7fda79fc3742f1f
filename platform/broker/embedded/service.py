"""What both private servers share: how a server is described, started as an unprivileged user, and stopped.

A `Service` is only a description; the supervisor starts it like any other process of the house, and `start` runs it
alone (in tests).
"""

import hashlib
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from broker.children import Account, spawn

SOCKET_PATH_MAX = 100
"""Bytes; the kernel's own limit for a unix socket's path is 107."""


class ServiceError(Exception):
    """A private server cannot be found, prepared or started; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Service:
    """A server that is ready to be started: its data folder is prepared and its address is known."""

    name: str
    command: tuple[str, ...]
    url: str
    is_ready: Callable[[], bool]
    before_start: Callable[[], None] = field(default=lambda: None)
    """Clears what a killed predecessor left behind; called before every start."""
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL
    """What the kernel sends the server when the process that started it dies."""


@dataclass(slots=True)
class Running:
    """A server that answers. `url` is its address: a PostgreSQL connection URI or a Redis URL."""

    url: str
    service: Service
    process: "subprocess.Popen[bytes]"

    @property
    def dsn(self) -> str:
        return self.url

    @property
    def pid(self) -> int:
        return self.process.pid

    def stop(self, *, within_s: float = 20.0) -> None:
        """Stop in order; kill it when that takes too long. Stopping twice does nothing more."""
        if self.process.poll() is None:
            self.process.send_signal(self.service.stop_signal)
            try:
                self.process.wait(within_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


def start(service: Service, *, log: Path, within_s: float = 60.0) -> Running:
    """Start the server and wait until it answers. Raises ServiceError with the end of its log when it does not.

    Call it from a thread that lives as long as the server should: the kernel counts the starting thread as the parent.
    """
    service.before_start()
    with log.open("ab") as output:
        process = spawn(service.command, account=service.account, output=output, death_signal=service.death_signal)
    running = Running(url=service.url, service=service, process=process)
    deadline = time.monotonic() + within_s
    while process.poll() is None and time.monotonic() < deadline:
        if service.is_ready():
            return running
        time.sleep(0.01)
    running.stop()
    raise ServiceError(f"{service.name} does not answer. The end of {log}:\n{log.read_text(errors='replace')[-2000:]}")


# ---------------------------------------------------------------------------------------------------- users and folders


def unprivileged_account() -> Account | None:
    """The user that servers run as: nobody else's account is needed unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise ServiceError("This is root, and there is neither a user `postgres` nor `nobody` to run the servers as.")


def own_folder(path: Path, account: Account | None) -> Path:
    """A folder that only the server's user may enter."""
    path.mkdir(parents=True, exist_ok=True)
    if account is not None:
        os.chown(path, account.uid, account.gid)
    path.chmod(0o700)
    return path


def require_reachable(data: Path, account: Account | None) -> None:
    """Raise ServiceError when the server's user cannot get to the data folder."""
    if account is not None and not can_reach(data, account):
        raise ServiceError(
            f"The user {account.name} cannot enter {data}. As root, choose a data folder outside private homes"
            " (DATA=/var/lib/tribook, or TRIBOOK_DATA)."
        )


def can_reach(path: Path, account: Account) -> bool:
    """Whether the user may enter every folder on the way to `path`, and `path` itself if it is one."""
    path = path.resolve()
    folders = [*path.parents, path] if path.is_dir() else list(path.parents)
    return all(_may_enter(folder.stat(), account) for folder in folders)


def _may_enter(folder: os.stat_result, account: Account) -> bool:
    if folder.st_uid == account.uid:
        return bool(folder.st_mode & stat.S_IXUSR)
    if folder.st_gid == account.gid:
        return bool(folder.st_mode & stat.S_IXGRP)
    return bool(folder.st_mode & stat.S_IXOTH)


def copy_out(folder: Path, target: Path) -> None:
    """Copy programs to where the server's user can read them: whole or not at all."""
    if target.exists():
        return
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.part")
    shutil.copytree(folder, unfinished, symlinks=True)
    unfinished.replace(target)


def socket_folder(data: Path, name: str, longest_file: str, account: Account | None) -> Path:
    """A folder for a unix socket, in the data folder when its path is short enough, else a private one under /tmp."""
    usual = data / "run" / name
    if len(bytes(usual / longest_file)) <= SOCKET_PATH_MAX:
        return own_folder(usual, account)
    short = Path("/tmp") / f"tribook-{os.geteuid()}-{_fingerprint(data)}" / name  # noqa: S108 - checked below
    short.parent.mkdir(mode=0o755, exist_ok=True)
    if short.parent.is_symlink() or short.parent.stat().st_uid != os.geteuid():
        raise ServiceError(f"{short.parent} belongs to somebody else; choose a shorter data folder than {data}.")
    return own_folder(short, account)


def _fingerprint(data: Path) -> str:
    return hashlib.sha256(bytes(data.resolve())).hexdigest()[:12]


def kept_secret(path: Path) -> str:
    """The secret in this file, made on first use; nobody but its owner may read it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
        unfinished.replace(path)
    return path.read_text().strip()


def default_data_folder(environment: Mapping[str, str]) -> Path:
    """Where everything lives that must outlast a run."""
    if environment.get("TRIBOOK_DATA"):
        return Path(environment["TRIBOOK_DATA"]).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/tribook")
    return Path(environment.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "tribook"
