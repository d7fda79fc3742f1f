"""The deciding half reads no clock, makes no random numbers and depends on no hash order."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IO = {"__init__", "__main__", "committer", "diskguard", "driver", "journal", "lease", "loop", "recovery", "standby"}
"""The engine's modules that fetch and store; every other one decides."""
DECIDING = [
    *sorted((ROOT / "platform" / "trading").rglob("*.py")),
    *sorted((ROOT / "routing").glob("*.py")),
    *sorted((ROOT / "bbook").glob("*.py")),
    *sorted(path for path in (ROOT / "platform" / "engine").glob("*.py") if path.stem not in IO),
]
FORBIDDEN_MODULES = {"time", "random", "secrets", "uuid", "os", "socket", "threading", "asyncio"}
FORBIDDEN_CALLS = {"now", "utcnow", "today", "time", "monotonic", "uuid4", "random"}

STORY = """
import hashlib, sys
sys.path[:0] = ["{root}", "{root}/platform"]
from tests.simulation.test_histories import History
print(hashlib.sha256(History(11).run(300).encode()).hexdigest())
"""


@pytest.mark.parametrize("path", DECIDING, ids=lambda path: str(path.relative_to(ROOT)))
def test_deciding_modules_ask_the_world_nothing(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not FORBIDDEN_MODULES & {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.module.partition(".")[0] not in FORBIDDEN_MODULES
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr not in FORBIDDEN_CALLS, f"{path}:{node.lineno}"


def test_hash_order_changes_nothing() -> None:
    def told(seed: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", STORY.format(root=ROOT)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    first = told("0")
    assert len(first.strip()) == 64
    assert told("1") == first
    assert told("2") == first
