"""Fixtures that every level may use. The addresses come from `tests.services`; here the servers behind them start."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from broker.embedded.postgres import start_postgres
from broker.embedded.rabbitmq import RunningRabbit, find_program, start_rabbitmq
from broker.embedded.redis import start_redis
from broker.embedded.service import ServiceError
from tests import services

# How long an example takes says how busy the machine is, and nothing about the rule that it tries.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


WHOLE_HOUSES = frozenset({"test_crowd.py", "test_house.py", "test_kills.py"})
"""Each starts all processes there are: one after the other, in one worker, or they starve each other."""


class TogetherScheduling(LoadScopeScheduling):
    """A file's tests share what they have started, so they stay in one worker."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "houses" if path.rpartition("/")[2] in WHOLE_HOUSES else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TogetherScheduling:
    return TogetherScheduling(config, log)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A connection URI of this test process's own PostgreSQL, as in DATABASE_URL."""
    if services.place is None:
        yield os.environ["DATABASE_URL"]
        return
    running = start_postgres(services.place.folder, settings=services.POSTGRES_SETTINGS)
    yield running.url
    running.stop()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of this test process's own Redis, as in REDIS_URL."""
    if services.place is None:
        yield os.environ["REDIS_URL"]
        return
    running = start_redis(services.place.folder)
    yield running.url
    running.stop()


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RunningRabbit]:
    """This test process's own RabbitMQ, started when the first test asks for it. `make test` installs it where it can."""
    try:
        find_program()
    except ServiceError as error:
        if os.environ.get("CI") or os.environ.get("TRIBOOK_MUST_HAVE_RABBITMQ"):
            pytest.fail(str(error))
        pytest.skip(str(error))
    folder = services.new_folder()
    running = start_rabbitmq(folder)
    yield running
    running.kill()
    running.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def _forgetful_redis() -> Iterator[None]:
    """What one test file leaves in this process's Redis, the next one does not find."""
    yield
    if services.place is not None:
        with contextlib.suppress(redis.ConnectionError):
            redis.Redis.from_url(os.environ["REDIS_URL"]).flushall()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None, postgres: str) -> None:
    """pytest-django makes its test database on our server."""


@pytest.fixture
def empty_database(postgres: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A connection URI of a database of this test's own, with nothing in it."""
    name = f"test_{os.getpid()}_{abs(hash(request.node.nodeid)) % 10**12}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield urlsplit(postgres)._replace(path=f"/{name}").geturl()
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def data_folder() -> Iterator[Path]:
    """An empty data folder where private servers can live."""
    folder = services.new_folder()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, object]:
    """Debian's own Chromium, quiet: its background services would only look for hosts that tests must not reach."""
    return {
        "executable_path": shutil.which("chromium"),
        "args": [
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ],
    }
