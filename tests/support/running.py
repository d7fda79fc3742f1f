"""A real engine process for tests, with its log kept."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import redis

from bus import names
from bus.codec import decode
from tests.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]


class RunningEngine:
    """`python -m engine` until `stop` or `kill`."""

    def __init__(
        self, database_url: str, redis_url: str, log: Path, *arguments: str, clock: str = "wall", **environment: str
    ) -> None:
        self._redis: redis.Redis = redis.Redis.from_url(redis_url)
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "engine", *arguments],
                env={
                    **os.environ,
                    "DATABASE_URL": database_url,
                    "REDIS_URL": redis_url,
                    "TRIBOOK_CLOCK": clock,
                    "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}",
                    **environment,
                },
                cwd=ROOT,
                stdout=output,
                stderr=output,
            )

    def health(self) -> tuple[str, dict[str, Any]]:
        """What this very process says of itself; nothing while it has not spoken."""
        said: list[Any] = [self._redis.hgetall(key) for key in self._redis.keys(names.health("engine*"))]
        own = [one for one in said if one and int(one[b"pid"]) == self.process.pid]
        if not own:
            return "", {}
        newest = max(own, key=lambda one: float(one[b"at"]))
        return newest[b"state"].decode(), decode(newest[b"detail"], dict[str, Any])

    def until(self, state: str, problem: str = "") -> dict[str, Any]:
        """Wait until it is in `state` and its problem contains this text."""

        def look() -> dict[str, Any] | None:
            assert self.process.poll() is None, self.log.read_text()
            found, detail = self.health()
            return detail if found == state and problem in detail["problem"] else None

        try:
            return eventually(look, within_s=20)
        except AssertionError as error:
            raise AssertionError(f"{self.health()}\n{self.log.read_text()}") from error

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
