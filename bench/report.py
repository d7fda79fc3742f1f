"""How benchmarks speak: the machine, the inputs, `name=value`."""

import os
import platform
import sys
from pathlib import Path


def machine() -> None:
    """What the figures were measured on."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    memory_kb = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    print(
        f"machine: {cpu}, {len(os.sched_getaffinity(0))} cores, {memory_kb // 1024 // 1024} GiB, {platform.platform()}"
    )
    print(f"python: {sys.version.split()[0]} ({platform.python_implementation()})")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def section(name: str, module: str) -> None:
    print(f"\n== {name} ({module})", flush=True)


def inputs(text: str) -> None:
    print(f"inputs: {text}", flush=True)


def figure(name: str, value: float, digits: int = 1) -> None:
    print(f"{name}={value:.{digits}f}", flush=True)


def percentile(values: list[float], part: float) -> float:
    """The value below which `part` of them lie. Raises IndexError for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
