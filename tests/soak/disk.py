"""PostgreSQL's log on a small file system of its own, which a ballast file can fill up.

The file system is mounted in a mount namespace of this process and its children: it is gone with the last of them, even when
we are killed.
"""

import contextlib
import ctypes
import os
import random
import shutil
import subprocess
import time
from pathlib import Path

import psycopg

from broker.embedded.postgres import start_postgres
from tests.soak.house import SoakHouse, is_root
from tests.soak.nemesis import Fault

CLONE_NEWNS = 0x00020000
SIZE_MB = 1024
LEFT_BYTES = 256 * 1024
FULL_S = 6.0
SWITCH_LOG = "SELECT pg_logical_emit_message(true, 'soak', repeat('x', 100000)), pg_switch_wal()"


def prepare(data: Path, mount: Path) -> str:
    """Make the cluster with its log on a file system of its own; why not, or empty. Before anything else is started."""
    if not is_root():
        return "only root may mount"
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        return f"no mount namespace: {os.strerror(ctypes.get_errno())}"
    mount.mkdir(parents=True)
    options = f"size={SIZE_MB}m,mode=0755"
    for command in (["mount", "--make-rprivate", "/"], ["mount", "-t", "tmpfs", "-o", options, "soak-wal", str(mount)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip()
    start_postgres(data).stop()
    log = data / "postgres" / "pg_wal"
    owner = log.stat()
    moved = mount / "pg_wal"
    shutil.copytree(log, moved)
    for place in (moved, *moved.rglob("*")):
        os.chown(place, owner.st_uid, owner.st_gid)
        if place.is_dir():
            place.chmod(0o700)
    shutil.rmtree(log)
    log.symlink_to(moved)
    return ""


def faults(mount: Path | None, why_not: str) -> list[Fault]:
    def fill(house: SoakHouse, _rng: random.Random) -> str:
        assert mount is not None
        return filled(house, mount)

    return [Fault("disk:full", fill, needs=lambda _house: why_not)]


def filled(house: SoakHouse, mount: Path) -> str:
    """Nothing can be written until the ballast is thrown off again."""
    ballast = mount / "ballast"
    died = False
    try:
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(_free_bytes(mount) - LEFT_BYTES, 1))
        deadline = time.monotonic() + FULL_S
        while time.monotonic() < deadline:
            with contextlib.suppress(psycopg.Error), psycopg.connect(house.database_url, connect_timeout=2) as c:
                c.execute(SWITCH_LOG)  # the segments that are there already would last for a while
            died = died or not house.database_answers()
            time.sleep(0.2)
    finally:
        ballast.unlink(missing_ok=True)
    return f"the log's disk was full for {FULL_S:.0f} s, and PostgreSQL {'went down' if died else 'stayed up'}"


def _free_bytes(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize
