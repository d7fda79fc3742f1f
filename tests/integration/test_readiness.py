"""How the supervisor knows that a process is ready: its own word in Redis, or its answer over HTTP."""

import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import redis

from broker.processes import answers_on, free_port, heartbeat_of
from bus import names


def test_a_heartbeat_counts_only_from_the_process_now_running(redis_url: str) -> None:
    is_ready = heartbeat_of(redis_url)("engine")
    waits = [sys.executable, "-c", "import signal; signal.pause()"]
    with (
        redis.Redis.from_url(redis_url) as client,
        subprocess.Popen(waits, start_new_session=True) as now,
        subprocess.Popen(waits, start_new_session=True) as before,
    ):
        client.delete(names.health("engine"))
        assert not is_ready(now.pid)
        client.hset(names.health("engine"), mapping={"pid": before.pid, "state": "up"})
        assert not is_ready(now.pid)
        client.hset(names.health("engine"), mapping={"pid": now.pid, "state": "up"})
        assert is_ready(now.pid)
        now.kill()
        before.kill()
    assert not is_ready(now.pid)


def test_a_heartbeat_may_have_to_be_of_a_certain_state(redis_url: str) -> None:
    is_ready = heartbeat_of(redis_url)("engine-standby", frozenset({"standby"}))
    pid = os.getsid(0)
    with redis.Redis.from_url(redis_url) as client:
        client.hset(names.health("engine-standby"), mapping={"pid": pid, "state": "waiting"})
        assert not is_ready(pid)
        client.hset(names.health("engine-standby"), mapping={"pid": pid, "state": "standby"})
        assert is_ready(pid)


def test_a_heartbeat_of_nonsense_or_no_redis_is_simply_not_ready(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.hset(names.health("quotes"), mapping={"pid": "what"})
    assert not heartbeat_of(redis_url)("quotes")(os.getpid())
    assert not heartbeat_of("unix:///nonexistent.sock")("quotes")(os.getpid())


def test_a_web_server_is_ready_when_it_gives_any_answer() -> None:
    port = free_port()
    assert not answers_on(port)(os.getpid())
    with HTTPServer(("127.0.0.1", port), BaseHTTPRequestHandler) as server:  # answers 501 to everything
        Thread(target=server.handle_request, daemon=True).start()
        assert answers_on(port)(os.getpid())
