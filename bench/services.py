"""A private PostgreSQL for one benchmark: durable as in production, migrated as in production, gone afterwards."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from broker.embedded.postgres import start_postgres
from tests.support.database import copied, dropped, migrated


@contextmanager
def data_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="tribook-bench-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def migrated_database() -> Iterator[str]:
    """The address of an empty, migrated database on a server of its own, with fsync and synchronous_commit on."""
    with data_folder() as folder:
        running = start_postgres(folder)
        try:
            yield migrated(running.url, "tribook_bench")
        finally:
            running.stop()


@contextmanager
def copy_of(url: str, name: str) -> Iterator[str]:
    address = copied(url, name)
    try:
        yield address
    finally:
        dropped(address)


def server_version(url: str) -> str:
    with psycopg.connect(url) as connection:
        return str(connection.info.parameter_status("server_version"))
