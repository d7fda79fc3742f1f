"""The auditor on a real PostgreSQL: quiet while all is sound, believed only when it sees a thing twice, and then it halts."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
import redis

from apps.operations.chain import Seals
from broker.audit import CHECKS, NICENESS, REST, WHOLE_AGAIN_S, WHOLE_EVERY_S, Audit, Heart, invariant_of
from broker.invariants import Auditor, legs_are_attended
from broker.processes import ROOT, python
from bus import names
from bus.alerts import raise_alert
from bus.codec import decode
from engine.journal import NotCommittedError, connect
from engine.lease import HaltedError
from engine.recovery import recover
from engine.step import Failure
from tests.integration.test_invariants import traded
from tests.integration.test_journal import Shard, buy, connection, say, shard
from tests.support.builders import NOW_US
from tests.waiting import eventually
from trading.breaker import Breaker
from trading.commands import SetSwitch, SwitchScope
from trading.liquidity import ExecutionReport, ReportKind

Connection = psycopg.Connection[Any]

__all__ = ["connection", "shard", "traded"]


class Watch:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Desk:
    """An auditor, its clocks, and what it has left in the database."""

    def __init__(self, shard: Shard, connection: Connection) -> None:
        self.shard, self.connection = shard, connection
        self.watch = Watch()
        self.now_us = NOW_US + 1000
        self.audit = self.auditor()

    def auditor(self, **given: Any) -> Audit:
        return Audit(self.shard.url, lambda: self.now_us, monotonic=self.watch, **given)

    def look(self, times: int = 1, *, after_s: float = 1.0) -> "Desk":
        for _ in range(times):
            self.watch.now_s += after_s
            self.audit.step()
            assert self.audit.problem == ""
        return self

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self.connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def halted(self) -> str:
        return str(self.sql("SELECT halted FROM shard")[0][0])

    def alerts(self) -> dict[str, str]:
        return dict(self.sql("SELECT key, text FROM alert WHERE cleared_at IS NULL"))

    def found(self, name: str) -> dict[str, Any]:
        return dict(self.audit.figures()["invariants"][name])


@pytest.fixture
def desk(shard: Shard, traded: Connection) -> Iterator[Desk]:
    traded.execute("ALTER TABLE shard DISABLE TRIGGER ALL")
    desk = Desk(shard, traded)
    yield desk
    desk.audit.close()


HURT = "UPDATE account SET balance = balance + 1 WHERE id = 1"
HEAL = "UPDATE account SET balance = balance - 1 WHERE id = 1"


def test_a_sound_house_is_looked_at_again_and_again_and_nothing_is_said(desk: Desk) -> None:
    desk.look(3)
    desk.shard.do(buy(10))
    desk.look(2)
    desk.look(after_s=WHOLE_EVERY_S)
    assert (desk.halted(), desk.alerts()) == ("", {})
    for name in CHECKS:
        assert desk.found(name)["looked_at"] > 1_700_000_000, name
        assert desk.found(name)["took_s"] > 0, name
        assert desk.found(name)["violations"] == 0, name


def test_what_is_seen_twice_halts_the_shard_and_says_why(desk: Desk) -> None:
    desk.look()
    desk.sql(HURT)
    desk.look()
    assert (desk.halted(), desk.alerts()) == ("", {}), "seen once"
    desk.look()
    assert desk.halted().startswith("I2: account 1 shows ")
    assert desk.alerts() == {"invariant:I2": desk.halted()}
    assert desk.found("I2")["violations"] == 1
    assert desk.found("I2")["stands"] is True
    assert desk.look().alerts() == {"invariant:I2": desk.halted(), "shard_halted:0": desk.halted()}


def test_the_second_look_looks_at_the_same_rows_again_though_nothing_has_touched_them(desk: Desk) -> None:
    """An incremental look tells a changed order once; the look after it must not take silence for health."""
    desk.look()
    desk.sql("UPDATE trade_order SET filled_volume = 0, updated_at = updated_at + interval '1 hour' WHERE id = 1")
    desk.look(2)
    assert desk.halted().startswith("I5: order 1 over 0.1")


def test_what_the_second_look_does_not_find_halts_nothing(desk: Desk) -> None:
    """A look that errs, as a bug in its sums would make it: the whole audit starts from nothing."""
    asked: list[int] = []

    def erring(auditor: Auditor, connection: Connection) -> list[str]:
        asked.append(1)
        return [*auditor.look(connection), *(["I2: a phantom"] if len(asked) == 1 else [])]

    desk.audit.close()
    desk.audit = desk.auditor(look=erring)
    desk.look(5)
    assert len(asked) >= 2
    assert (desk.halted(), desk.alerts()) == ("", {})
    assert desk.found("I2")["violations"] == 0


def test_what_heals_between_two_looks_halts_nothing(desk: Desk) -> None:
    desk.look()
    desk.sql(HURT)
    desk.look()
    desk.sql(HEAL)
    desk.look(3)
    assert desk.halted() == ""


def test_a_violation_from_before_the_start_is_found_by_the_first_two_looks(desk: Desk) -> None:
    desk.sql("UPDATE deal SET lp = 'X', exec_id = 'E1'")
    desk.look(2)
    assert "I4: fill X E1" in desk.halted()


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("DELETE FROM outbox WHERE shard_seq = 3", "I6"),
        ("DELETE FROM engine_batch WHERE seq = 2", "I9"),
        ("UPDATE deal SET profit = profit + 3 WHERE entry = 'out'", "I7"),
        ("UPDATE trade_order SET margin_reserved = 7 WHERE id = 1", "I11"),
    ],
)
def test_every_kind_halts(statement: str, name: str, desk: Desk) -> None:
    desk.sql(statement)
    desk.look(2)
    assert f"{name}:" in desk.halted()
    assert f"invariant:{name}" in desk.alerts()


def test_a_halted_shard_is_taken_by_no_engine_until_an_operator_clears_it(desk: Desk) -> None:
    desk.sql(HURT)
    desk.look(2)
    with connect(desk.shard.url, name="test") as connection, pytest.raises(HaltedError, match="I"):
        recover(connection, 0)
    desk.sql(HEAL)
    desk.sql("UPDATE shard SET halted = ''")
    with connect(desk.shard.url, name="test") as connection:
        recover(connection, 0)


@pytest.mark.skipif(not hasattr(Failure, "HALTED"), reason="the fence of a batch does not look at `halted` here")
def test_an_engine_that_runs_is_stopped_at_its_next_batch(desk: Desk) -> None:
    desk.shard.do(buy(20))
    desk.sql(HURT)
    desk.look(2)
    with pytest.raises(NotCommittedError, match="I2: account 1 shows "):
        desk.shard.do(buy(21))
    assert desk.sql("SELECT count(*) FROM engine_key WHERE key LIKE '%%21'") == [(0,)]


def test_the_first_reason_stays(desk: Desk) -> None:
    desk.sql("UPDATE shard SET halted = 'an operator looks into something'")
    desk.sql(HURT)
    desk.look(2)
    assert desk.halted() == "an operator looks into something"
    assert "invariant:I2" in desk.alerts()


def test_a_standing_violation_does_not_halt_twice_and_a_cleared_alert_arms_it_again(desk: Desk) -> None:
    desk.sql(HURT)
    desk.look(2)
    assert desk.halted()
    desk.sql("UPDATE shard SET halted = ''")
    desk.look(5)
    desk.look(2, after_s=WHOLE_AGAIN_S)
    assert desk.halted() == "", "the operator has decided to go on with it"
    desk.sql("UPDATE alert SET cleared_at = now()")
    desk.look(2, after_s=WHOLE_AGAIN_S)
    assert desk.halted()


def test_another_process_knows_what_the_one_before_has_told(desk: Desk) -> None:
    desk.sql(HURT)
    desk.look(2)
    desk.sql("UPDATE shard SET halted = ''")
    desk.audit.close()
    desk.audit = desk.auditor()
    desk.look(3)
    assert desk.halted() == ""


def test_a_whole_audit_that_finds_it_gone_takes_the_alert_back(desk: Desk) -> None:
    desk.sql(HURT)
    desk.look(2)
    desk.sql(HEAL)
    desk.sql("UPDATE shard SET halted = ''")
    desk.look(after_s=WHOLE_AGAIN_S)
    assert desk.alerts() == {}
    assert desk.found("I2")["stands"] is False
    assert desk.found("I2")["violations"] == 1


# --- the audit entries ---

ENTRY = """
INSERT INTO operations_auditentry (at, actor, action, request_id, address, detail)
SELECT now(), 'staff:1', 'settle_case', 'r', '', '{}' FROM generate_series(1, %s)
"""


@pytest.fixture
def sealing(desk: Desk, tmp_path: Path) -> Iterator[tuple[Desk, Seals]]:
    """An auditor that seals three entries, and then their end is in anybody's hands."""
    seals = Seals(tmp_path / "audit")
    desk.audit.close()
    desk.audit = desk.auditor(seals=seals)
    desk.sql("ALTER TABLE operations_auditentry DISABLE TRIGGER append_only")
    desk.sql(ENTRY, 3)
    yield desk.look(), seals
    desk.sql("TRUNCATE operations_auditentry")
    desk.sql("ALTER TABLE operations_auditentry ENABLE TRIGGER append_only")


def test_the_end_of_the_entries_is_sealed_when_there_are_more(sealing: tuple[Desk, Seals]) -> None:
    desk, seals = sealing
    desk.look(3)
    assert [seal.number for seal in seals.all()] == [3]
    desk.sql(ENTRY, 2)
    desk.look(2)
    assert [seal.number for seal in seals.all()] == [3, 5]
    assert seals.all_contradicted(desk.connection) == []
    desk.audit.close()
    desk.audit = desk.auditor(seals=seals)
    desk.look(2)
    assert [seal.number for seal in seals.all()] == [3, 5], "the next process knows of them"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE operations_auditentry SET detail = '{\"a\": 1}' WHERE number = 2", "entry 2 is not what was recorded"),
        ("DELETE FROM operations_auditentry WHERE number = 2", "entry 2 is missing"),
        ("DELETE FROM operations_auditentry WHERE number = 3", "entry 3, sealed at "),
        ("TRUNCATE operations_auditentry", "entry 3, sealed at "),
    ],
)
def test_an_audit_trail_that_was_changed_halts_the_shard(sealing: tuple[Desk, Seals], change: str, reason: str) -> None:
    desk, seals = sealing
    desk.sql(change)
    desk.look(2, after_s=WHOLE_EVERY_S)
    assert desk.halted().startswith("I13: audit entry")
    assert reason in desk.alerts()["invariant:I13"]
    desk.sql(ENTRY, 5)
    desk.look(3)
    assert [seal.number for seal in seals.all()] == [3], "what is wrong is not sealed"


def test_an_auditor_that_cannot_seal_says_so_and_looks_on(sealing: tuple[Desk, Seals], tmp_path: Path) -> None:
    desk, seals = sealing
    (tmp_path / "audit" / "key.pem").rename(tmp_path / "kept")
    desk.sql(ENTRY, 1)
    desk.audit.step()
    assert "the key that seals audit entries is gone" in desk.audit.problem
    desk.sql(HURT)
    desk.audit.step()
    desk.audit.step()
    assert desk.halted().startswith("I2: ")
    (tmp_path / "kept").rename(tmp_path / "audit" / "key.pem")
    desk.look()
    assert [seal.number for seal in seals.all()] == [3, 4]


# --- what only waits ---


def legs(desk: Desk, *, after_s: float) -> list[str]:
    now_at = datetime.fromtimestamp(NOW_US / 1e6, UTC) + timedelta(seconds=after_s)
    return legs_are_attended(desk.connection, now_at, silent_for_max=timedelta(seconds=60))


def leg_of(desk: Desk) -> str:
    return str(desk.sql("SELECT cl_ord_id FROM lp_order WHERE status = 'working'")[0][0])


def test_a_leg_without_a_word_for_a_minute_is_told_and_does_not_halt(desk: Desk) -> None:
    desk.look()
    desk.now_us += 61_000_000
    desk.look(2)
    assert desk.halted() == ""
    assert f"I8: leg {leg_of(desk)} at " in desk.alerts()["invariant:I8"]
    desk.sql("UPDATE lp_order SET status = 'canceled' WHERE status = 'working'")
    desk.sql("UPDATE trade_order SET status = 'canceled', margin_reserved = 0 WHERE status = 'pending_new'")
    desk.look(after_s=WHOLE_AGAIN_S)
    assert "invariant:I8" not in desk.alerts()


def test_a_word_is_a_dispatch_a_report_or_the_resolver_having_called_a_person(desk: Desk) -> None:
    assert legs(desk, after_s=59) == []
    assert len(legs(desk, after_s=61)) == 1
    desk.sql("UPDATE lp_order SET dispatched_at = %s", datetime.fromtimestamp(NOW_US / 1e6 + 30, UTC))
    assert legs(desk, after_s=61) == []
    assert len(legs(desk, after_s=91)) == 1
    report = ExecutionReport(lp="YOFX1", kind=ReportKind.ACKNOWLEDGED, cl_ord_id=leg_of(desk))
    said_at = datetime.fromtimestamp(NOW_US / 1e6 + 60, UTC)
    desk.sql("ALTER TABLE lp_inbox DISABLE TRIGGER ALL")
    say(desk.connection, report, 1)
    desk.sql("UPDATE lp_inbox SET lp = (SELECT lp FROM lp_order LIMIT 1), received_at = %s", said_at)
    assert legs(desk, after_s=91) == []
    assert len(legs(desk, after_s=121)) == 1
    raise_alert(desk.connection, kind="leg_unknown", subject=leg_of(desk), text="no answer")
    assert legs(desk, after_s=1000) == []


# --- breakers, halts, parked commands ---


def test_breakers_kills_and_parked_commands_are_told_once_and_taken_back(desk: Desk) -> None:
    name = "00000000-0000-7000-8000-000000000077"
    desk.shard.do(SetSwitch(id=name, key=name, scope=SwitchScope.LP, target="YOFX1", stops=True, account=0))
    opened = Breaker(lp="PRIMEXM", pause_us=30_000_000, opened_us=NOW_US, why="breaker open: 7 of 10 rejected in 10 s")
    desk.sql(
        "UPDATE engine_batch SET desk = jsonb_set(desk, '{breakers}', %s::jsonb) WHERE seq = (SELECT seq FROM shard)",
        f"[{encoded(opened)}]",
    )
    desk.sql("INSERT INTO parked_command VALUES ('c', 1, '{}', 'KeyError: 1', now())")
    desk.look(3)
    assert desk.alerts() == {
        "lp_breaker:PRIMEXM": "PRIMEXM gets no new risk, breaker open: 7 of 10 rejected in 10 s",
        "lp_killed:YOFX1": "YOFX1 was stopped by the desk",
        "command_parked": "1 commands; command c was put aside: KeyError: 1",
    }
    assert desk.sql("SELECT DISTINCT count FROM alert") == [(1,)]
    desk.sql("DELETE FROM parked_command")
    desk.audit.close()
    desk.audit = desk.auditor()
    desk.shard.do(buy(30))
    desk.look()
    assert set(desk.alerts()) == {"lp_killed:YOFX1"}, "the engine's own desk knows of no breaker"


def encoded(breaker: Breaker) -> str:
    return msgspec.json.encode(breaker).decode()


# --- when something goes away ---


def test_a_database_that_goes_away_is_no_violation_and_is_looked_at_whole_when_it_is_back(desk: Desk) -> None:
    desk.look()
    desk.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tribook auditor'")
    desk.audit.step()
    assert desk.audit.problem
    assert desk.audit.failures == 1
    desk.sql(HURT)
    desk.look(2)
    assert desk.halted()


def test_a_long_look_is_followed_by_a_longer_rest(desk: Desk) -> None:
    def slow(auditor: Auditor, connection: Connection) -> list[str]:
        desk.watch.now_s += 3
        return auditor.look(connection)

    desk.audit.close()
    desk.audit = desk.auditor(look=slow)
    desk.look()
    assert desk.audit.step() >= 3 * REST


def test_the_heart_tells_what_was_found_and_stops(desk: Desk, redis_url: str) -> None:
    desk.look()
    server = redis.Redis.from_url(redis_url)
    heart = Heart(redis_url, desk.audit)
    heart.start()
    eventually(lambda: server.exists(names.AUDIT), within_s=5)
    heart.stop()
    told = decode(server.get(names.AUDIT) or b"", dict[str, Any])
    assert set(told["invariants"]) == set(CHECKS)
    assert server.hget(names.health("auditor"), "state") == b"up"


def test_it_runs_until_it_is_told_to_stop(desk: Desk) -> None:
    stopping = threading.Event()
    thread = threading.Thread(target=desk.audit.run, args=(stopping,))
    thread.start()
    eventually(lambda: desk.audit.problem == "", within_s=10)
    stopping.set()
    thread.join(60)
    assert not thread.is_alive()


def test_the_process_lives_at_low_priority_and_ends_when_it_is_told_to(desk: Desk, redis_url: str) -> None:
    server = redis.Redis.from_url(redis_url)
    server.delete(names.health("auditor"))
    environment = {**os.environ, "DATABASE_URL": desk.shard.url, "REDIS_URL": redis_url, "TRIBOOK_CLOCK": "wall"}
    process = subprocess.Popen(python("broker.audit"), env=environment, cwd=ROOT)
    try:
        eventually(lambda: server.hget(names.health("auditor"), "state") == b"up", within_s=60)
        assert server.hget(names.health("auditor"), "pid") == str(process.pid).encode()
        assert os.getpriority(os.PRIO_PROCESS, process.pid) >= NICENESS
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_violations_are_named_by_their_invariant() -> None:
    told: Callable[[str], str] = invariant_of
    assert told("I10: deal.price has 1 values that are no numbers") == "I10"
    assert told("results: in USD not all that is won is lost by somebody") == "I7"
