"""Lines between processes, through their proxies."""

import random
import time
from collections.abc import Iterable

from tests.soak.house import SoakHouse
from tests.soak.nemesis import Fault, Injection
from tests.soak.proxy import DOWN, UP, Trouble

LASTS_S = (3.0, 8.0)
TORN_AFTER_BYTES = (0, 4000)
WAITS_FOR_BYTES_S = 4.0


def faults(lines: Iterable[str]) -> list[Fault]:
    found = []
    for line in lines:
        found += [
            Fault(f"line:{line}:reset", resetting(line)),
            Fault(f"line:{line}:hold", troubled(line, Trouble(hold=True))),
            Fault(f"line:{line}:swallow", troubled(line, Trouble(swallow=True))),
            Fault(f"line:{line}:refuse", refusing(line)),
            Fault(f"line:{line}:delay", troubled(line, Trouble(delay_s=0.3))),
            Fault(f"line:{line}:split", troubled(line, Trouble(split_bytes=1))),
            Fault(f"line:{line}:half-close", half_closing(line)),
            Fault(f"line:{line}:torn-request", tearing(line, UP)),
            Fault(f"line:{line}:torn-answer", tearing(line, DOWN)),
        ]
    return found


def resetting(line: str) -> Injection:
    def inject(house: SoakHouse, _rng: random.Random) -> str:
        return f"{house.lines[line].reset()} connections reset"

    return inject


def troubled(line: str, trouble: Trouble) -> Injection:
    """In one direction or in both, drawn."""

    def inject(house: SoakHouse, rng: random.Random) -> str:
        directions = rng.choice(((UP,), (DOWN,), (UP, DOWN)))
        seconds = rng.uniform(*LASTS_S)
        proxy = house.lines[line]
        try:
            for direction in directions:
                proxy.trouble(direction, trouble)
            time.sleep(seconds)
        finally:
            proxy.heal()
        return f"{' and '.join(directions)} for {seconds:.1f} s"

    return inject


def refusing(line: str) -> Injection:
    def inject(house: SoakHouse, rng: random.Random) -> str:
        seconds = rng.uniform(*LASTS_S)
        proxy = house.lines[line]
        try:
            proxy.refuse()
            count = proxy.reset()
            time.sleep(seconds)
        finally:
            proxy.heal()
        return f"{count} connections reset and none taken for {seconds:.1f} s"

    return inject


def half_closing(line: str) -> Injection:
    def inject(house: SoakHouse, rng: random.Random) -> str:
        direction = rng.choice((UP, DOWN))
        return f"end of file {direction} on {house.lines[line].half_close(direction)} connections"

    return inject


def tearing(line: str, direction: str) -> Injection:
    """Somewhere in the middle of what passes, a message or an answer to COMMIT included."""

    def inject(house: SoakHouse, rng: random.Random) -> str:
        count = rng.randint(*TORN_AFTER_BYTES)
        proxy = house.lines[line]
        try:
            proxy.trouble(direction, Trouble(reset_after_bytes=count))
            time.sleep(WAITS_FOR_BYTES_S)
        finally:
            proxy.heal()
        return f"torn after {count} bytes {direction}"

    return inject
