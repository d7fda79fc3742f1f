"""An early pytest plugin (`-p tests.services`): every test process gets its own private PostgreSQL and Redis.

Django's settings are read before any conftest, so the addresses must stand in the environment by then. Only the
addresses: a server is started when the first test asks for it (the fixtures in `tests/conftest.py`). Where DATABASE_URL
and REDIS_URL name real servers, those are used and nothing is started.
"""

import atexit
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.embedded.postgres import postgres_service
from broker.embedded.redis import redis_service
from broker.embedded.service import kept_secret

FOLDER = "TRIBOOK_TEST_FOLDER"
POSTGRES_SETTINGS = {"shared_buffers": "64MB", "min_wal_size": "80MB", "max_wal_size": "512MB"}


@dataclass(frozen=True)
class TestPlace:
    """The data folder of one test process, and the environment that points there."""

    __test__ = False
    folder: Path

    def environment(self) -> dict[str, str]:
        return {
            FOLDER: str(self.folder),
            "DATABASE_URL": postgres_service(self.folder, settings=POSTGRES_SETTINGS).url,
            "REDIS_URL": redis_service(self.folder).url,
            "TRIBOOK_DATA": str(self.folder),
            "TRIBOOK_SECRET_KEY": kept_secret(self.folder / "secrets" / "secret-key"),
            "TRIBOOK_CLOCK": "wall",
        }


def new_folder() -> Path:
    """A folder whose path is short enough for sockets and open enough for servers that must not run as root."""
    folder = Path(tempfile.mkdtemp(prefix="tribook-test-", dir="/tmp"))
    folder.chmod(0o755)
    return folder


def _place_of_this_process() -> TestPlace | None:
    if FOLDER in os.environ:
        return TestPlace(Path(os.environ[FOLDER]))
    if "DATABASE_URL" in os.environ:
        return None
    place = TestPlace(new_folder())
    made_here.append(place)
    os.environ.update(place.environment())
    return place


made_here: list[TestPlace] = []
"""Folders that this process removes at its end: its own, and with xdist those of its workers."""
place = _place_of_this_process()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[object]) -> None:
    """Workers inherit our environment and read their settings before plugins, so each is handed its own addresses."""
    for spec in specs if place else []:
        made_here.append(TestPlace(new_folder()))
        spec.env.update(made_here[-1].environment())  # type: ignore[attr-defined]


@atexit.register
def _remove_folders() -> None:
    for old in made_here:
        shutil.rmtree(old.folder, ignore_errors=True)
