"""The private Redis: on its socket alone, keeping nothing, and able to start after any end."""

import os
import signal
import stat
from pathlib import Path

import pytest
import redis

from broker.embedded.redis import redis_service, start_redis


def test_it_speaks_what_the_bus_needs_and_keeps_nothing(data_folder: Path) -> None:
    running = start_redis(data_folder)
    with redis.Redis.from_url(running.url, decode_responses=True) as client:
        client.xadd("cmd:0", {"c": "{}"})
        client.xgroup_create("cmd:0", "engine", id="0")
        assert len(client.xreadgroup("engine", "one", {"cmd:0": ">"})[0][1]) == 1
        for name, value in (("save", ""), ("appendonly", "no"), ("port", "0")):
            assert client.config_get(name) == {name: value}
    running.stop()
    again = start_redis(data_folder)
    with redis.Redis.from_url(again.url) as client:
        assert client.dbsize() == 0
    again.stop()


def test_it_starts_after_it_was_killed(data_folder: Path) -> None:
    first = start_redis(data_folder)
    os.kill(first.pid, signal.SIGKILL)
    first.process.wait()
    second = start_redis(data_folder)
    with redis.Redis.from_url(second.url) as client:
        assert client.ping()
    second.stop()


def test_only_its_own_user_gets_at_the_socket(data_folder: Path) -> None:
    running = start_redis(data_folder)
    socket = Path(running.url.removeprefix("unix://").partition("?")[0])
    assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    running.stop()
    assert redis_service(data_folder).url == running.url


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_it_does_not_run_as_root(data_folder: Path) -> None:
    running = start_redis(data_folder)
    assert Path(f"/proc/{running.pid}").stat().st_uid != 0
    running.stop()
