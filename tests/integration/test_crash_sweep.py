"""The engine and its PostgreSQL killed between two system calls, a handful of places of the many that the soak tries."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.soak import strace
from tests.soak.sweep import Arena, Strike, arena

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(170),
    pytest.mark.skipif(bool(strace.why_not()), reason=strace.why_not()),
]

STRIKES = (Strike("engine", "sendto", 40), Strike("backend", "fdatasync", 3), Strike("backend", "sendto", 20))


@pytest.fixture
def place(house_database: str, redis_url: str, tmp_path: Path) -> Iterator[Arena]:
    redis.Redis.from_url(redis_url).flushall()
    with arena(house_database, redis_url, tmp_path) as made:
        yield made


def test_nothing_acknowledged_is_lost_wherever_a_crash_falls(place: Arena) -> None:
    struck = [place.strike(strike) for strike in STRIKES]
    assert [finding for one in struck for finding in one.findings] == []
    assert any(one.killed for one in struck), "no strike fell: this has shown nothing"
