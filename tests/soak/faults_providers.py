"""Providers that misbehave for a while. The simulator's words are its own; those that it does not know are left out."""

import random
import time
from typing import Any

import msgspec

from lp_adapters.simulators.misbehaviour import Misbehaviour
from tests.soak.house import SoakHouse
from tests.soak.nemesis import Fault, Injection

LASTS_S = (4.0, 8.0)
LAST_LOOK_MS = 80
USUAL: dict[str, Any] = {"delay_ms": LAST_LOOK_MS}
"""How providers behave when nothing is wrong: orders are on their way whenever a fault comes."""
WAYS: dict[str, dict[str, Any]] = {
    "reject": {"reject": True},
    "slow": {"delay_ms": 3000},
    "partial": {"partial": "0.5", **USUAL},
    "silent-lost": {"no_answer": "lost"},
    "silent-to-status": {"silent_to_status": True, "every": 2, **USUAL},
    "duplicate": {"duplicate_report": True, **USUAL},
    "conflict": {"conflicting_report": True, **USUAL},
    "slippage": {"slippage_points": 5, **USUAL},
    "late-fill": {"late_fill_ms": 1500, "every": 2},
    "out-of-order": {"out_of_order": True, **USUAL},
}
FOR_A_DEALER: dict[str, dict[str, Any]] = {
    "silent-filled": {"no_answer": "filled"},
    "lost-fill": {"lose_fill": True, **USUAL},
    "overfill": {"overfill": True, "every": 3, **USUAL},
    "orphan": {"orphan_report": True, "every": 3, **USUAL},
    "wrong-side": {"wrong_side": True, "every": 3, **USUAL},
    "bust": {"bust_after_ms": 500, "every": 3},
    "correct": {"correct_after_ms": 500, "correct_points": 7, "every": 3},
}
"""What leaves orders, books or halted symbols that only a person can put right, so that no soak can end well: only where it
is named.
"""


def known(way: dict[str, Any]) -> bool:
    return set(way) <= set(msgspec.structs.asdict(Misbehaviour()))


def faults() -> list[Fault]:
    return [Fault(f"provider:{name}", misbehaving(way)) for name, way in WAYS.items() if known(way)]


def faults_for_a_dealer() -> list[Fault]:
    return [Fault(f"dealer:{name}", misbehaving(way)) for name, way in FOR_A_DEALER.items() if known(way)]


def misbehaving(way: dict[str, Any]) -> Injection:
    def inject(house: SoakHouse, rng: random.Random) -> str:
        seconds = rng.uniform(*LASTS_S)
        try:
            house.order_providers(way)
            time.sleep(seconds)
        finally:
            house.order_providers(USUAL)
        return f"both providers for {seconds:.1f} s"

    return inject
