"""Databases and engines of a test's own."""

import itertools
import os
from collections.abc import Iterator

import pytest

from tests.support.database import copied, dropped, migrated

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def house_template(postgres: str) -> str:
    """The address of a migrated, empty database to copy."""
    return migrated(postgres, f"house_{os.getpid()}")


@pytest.fixture
def house_database(house_template: str) -> Iterator[str]:
    """The address of a migrated, empty database of this test's own: what is committed stays in it."""
    address = copied(house_template, f"house_{os.getpid()}_{next(_numbers)}")
    yield address
    dropped(address)
