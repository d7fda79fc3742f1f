"""The soak's plan is the seed's, and its table puts every operation and finding where it belongs."""

import random
from pathlib import Path

import pytest

from broker.supervisor import Spec
from tests.soak.checkers import Finding, Wrong
from tests.soak.history import Kind, Op, Outcome
from tests.soak.house import SoakHouse
from tests.soak.launcher import proxied
from tests.soak.nemesis import GAP_S, Fault, Plan, chosen
from tests.soak.report import CALM, Injected, shown, table, verdict
from tests.soak.sweep import strikes


def nothing(_house: SoakHouse, _rng: random.Random) -> str:
    return ""


FAULTS = [Fault(name, nothing) for name in ("kill:engine", "kill:web", "line:YOFX1-trade:reset", "redis:flushall")]


def drawn(seed: str, count: int = 12) -> list[tuple[str, float, float]]:
    plan = Plan(FAULTS, seed)
    return [(fault.name, rng.random(), gap_s) for fault, rng, gap_s in (plan.next() for _ in range(count))]


def test_the_same_seed_is_the_same_plan() -> None:
    assert drawn("7") == drawn("7")
    assert drawn("7") != drawn("8")


def test_families_take_turns_and_every_fault_of_one_comes_before_any_comes_again() -> None:
    names = [name for name, _, _ in drawn("7")]
    for turn in (names[:3], names[3:6], names[6:9]):
        assert sorted(name.partition(":")[0] for name in turn) == ["kill", "line", "redis"]
    kills = [name for name in names if name.startswith("kill")]
    assert sorted(kills[:2]) == sorted(kills[2:4]) == ["kill:engine", "kill:web"]
    assert all(GAP_S[0] <= gap_s <= GAP_S[1] for _, _, gap_s in drawn("7"))


def test_faults_are_chosen_by_name_or_beginning() -> None:
    assert [fault.name for fault in chosen(FAULTS, ["kill", "line:YOFX1-trade"])] == [
        fault.name for fault in FAULTS[:3]
    ]
    assert chosen(FAULTS, []) == FAULTS
    with pytest.raises(ValueError, match="no fault 'kil'"):
        chosen(FAULTS, ["kil"])


def test_the_sweep_is_the_seeds_and_takes_every_call() -> None:
    assert strikes(24, "7") == strikes(24, "7") != strikes(24, "8")
    assert len({(strike.victim, strike.call) for strike in strikes(24, "7")}) == 8


def op(key: str, began_s: float, outcome: Outcome = Outcome.OK) -> Op:
    return Op(client="c", account=1, kind=Kind.PLACE, key=key, began_s=began_s, outcome=outcome)


def test_operations_and_findings_belong_to_the_last_fault_before_them() -> None:
    injected = [Injected("a", 10, 12, 13), Injected("b", 20, 21, 25), Injected("a", 30, 31, 33.5)]
    ops = [op("w", 5), op("x", 11), op("y", 21), op("z", 35), op("i", 22, Outcome.INFO)]
    findings = [Finding(Wrong.LOST, "", "y"), Finding(Wrong.UNRESOLVED, "", "i"), Finding(Wrong.DUPLICATED, "", "z")]
    lines = table(injected, ops, findings)
    assert (lines["a"].times, lines["a"].acknowledged, lines["a"].duplicated, lines["a"].recovery_s) == (2, 2, 1, 2.5)
    assert (lines["b"].lost, lines["b"].unresolved, lines["b"].acknowledged) == (1, 1, 1)
    assert lines[CALM].acknowledged == 1
    assert "b" in shown(lines)


def test_any_finding_is_a_failure() -> None:
    assert verdict([]) == "soak=ok lost=0 duplicated=0 unresolved=0 violated=0"
    assert verdict([Finding(Wrong.VIOLATED, "")]) == "soak=FAILED lost=0 duplicated=0 unresolved=0 violated=1"


def test_only_engines_and_trade_processes_reach_postgresql_through_a_proxy() -> None:
    url = "postgresql://broker:secret@/tribook?host=%2Freal%2Fplace&port=5432"
    specs = [Spec(name, ("x",)) for name in ("engine", "engine-standby", "lp-YOFX1-trade", "lp-YOFX1-price", "web")]
    found = {spec.name: spec.environment.get("DATABASE_URL") for spec in proxied(specs, url, Path("/lines"))}
    through = "postgresql://broker:secret@/tribook?host=%2Flines%2F{}&port=5432"
    assert found == {
        "engine": through.format("engine"),
        "engine-standby": through.format("engine"),
        "lp-YOFX1-trade": through.format("trade"),
        "lp-YOFX1-price": None,
        "web": None,
    }
