"""The inbox and the legs in a real PostgreSQL, when nobody knows whether a COMMIT was one."""

import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest

from bus.clock import wall
from bus.codec import decode_report
from lp_adapters import inbox as module
from lp_adapters.conservation import Facts
from lp_adapters.dispatch import not_sent, plan_new_legs, unresolved
from lp_adapters.inbox import Inbox, InboxRow, LockLost
from lp_adapters.legs import Leg, Plan
from tests.support.database import copied, dropped, migrated
from tests.support.legs import plant_leg
from tests.waiting import eventually
from trading.liquidity import ExecutionReport, ReportKind


@pytest.fixture(scope="module")
def template(postgres: str) -> Iterator[str]:
    url = migrated(postgres, f"inbox_template_{os.getpid()}")
    yield url
    dropped(url)


@pytest.fixture
def database(template: str) -> Iterator[str]:
    url = copied(template, f"inbox_{os.getpid()}_{time.monotonic_ns()}")
    yield url
    dropped(url)


@pytest.fixture
def db(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


@pytest.fixture
def inbox(database: str) -> Iterator[Inbox]:
    inbox = Inbox(database, "YOFX1", wall)
    inbox.acquire()
    yield inbox
    inbox._open_connection().close()


@pytest.fixture(params=["committed", "rolled back"])
def unknown_outcome(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next COMMIT is answered with a broken line; whether it happened is the parameter."""
    real = module._transaction
    broken: list[bool] = []

    def once(connection: Any, work: Any) -> Any:
        if broken:
            return real(connection, work)
        broken.append(True)
        if request.param == "committed":
            real(connection, work)
        else:
            connection.execute("BEGIN")
            work(connection)
        connection.close()
        raise psycopg.OperationalError("the line broke in COMMIT")

    monkeypatch.setattr(module, "_transaction", once)


def said(exec_id: str, cl_ord_id: str = "T0-1", kind: ReportKind = ReportKind.FILL) -> InboxRow:
    report = ExecutionReport(lp="YOFX1", kind=kind, cl_ord_id=cl_ord_id, exec_id=exec_id, received_us=wall())
    return InboxRow(report=report, raw=f"35=8|17={exec_id}|")


def rows(db: psycopg.Connection[Any]) -> list[tuple[int, str, str]]:
    found = db.execute("SELECT seq, kind, report::text FROM lp_inbox ORDER BY seq").fetchall()
    return [(seq, kind, decode_report(report).exec_id) for seq, kind, report in found]


def states(db: psycopg.Connection[Any]) -> list[str]:
    return [state for (state,) in db.execute("SELECT dispatch_state FROM lp_order ORDER BY id")]


def send_all(legs: Sequence[Leg]) -> Plan:
    return plan_new_legs(legs, lp="YOFX1", is_logged_on=True, may_come_up=False, now_us=wall())


def as_planned(plan: Plan, _facts: Facts) -> Plan:
    return plan


def give_all_up(legs: Sequence[Leg]) -> Plan:
    return plan_new_legs(legs, lp="YOFX1", is_logged_on=False, may_come_up=False, now_us=wall())


@pytest.mark.usefixtures("unknown_outcome")
def test_a_report_is_kept_once(inbox: Inbox, db: psycopg.Connection[Any]) -> None:
    inbox.append([said("E1"), said("E2")])
    inbox.append([said("E3")])
    assert rows(db) == [(1, "fill", "E1"), (2, "fill", "E2"), (3, "fill", "E3")]


@pytest.mark.usefixtures("unknown_outcome")
def test_the_same_words_twice_are_two_rows(inbox: Inbox, db: psycopg.Connection[Any]) -> None:
    again = said("E1")
    inbox.append([again])
    inbox.append([again])
    assert rows(db) == [(1, "fill", "E1"), (2, "fill", "E1")]


@pytest.mark.usefixtures("unknown_outcome")
def test_taken_legs_are_handed_out_exactly_once(inbox: Inbox, db: psycopg.Connection[Any]) -> None:
    for number in (1, 2):
        plant_leg(db, number)
    assert [leg.cl_ord_id for leg in inbox.take(send_all, as_planned)] == ["T0-1", "T0-2"]
    assert inbox.take(send_all, as_planned) == ()
    assert states(db) == ["dispatching", "dispatching"]


@pytest.mark.usefixtures("unknown_outcome")
def test_legs_given_up_are_told_of_exactly_once(inbox: Inbox, db: psycopg.Connection[Any]) -> None:
    plant_leg(db, 1)
    assert inbox.take(give_all_up, as_planned) == ()
    inbox.append([said("E1")])
    assert [(seq, kind) for seq, kind, _ in rows(db)] == [(1, "not_sent"), (2, "fill")]
    assert states(db) == ["not_sent"]


@pytest.mark.usefixtures("unknown_outcome")
def test_a_leg_that_never_left_is_told_of_exactly_once(inbox: Inbox, db: psycopg.Connection[Any]) -> None:
    plant_leg(db, 1, state="dispatching")
    (leg,) = inbox.in_doubt()
    inbox.give_up(leg, not_sent("YOFX1", leg, "no session", wall()))
    inbox.give_up(leg, not_sent("YOFX1", leg, "no session", wall()))
    inbox.append([said("E1")])
    assert [(seq, kind) for seq, kind, _ in rows(db)] == [(1, "not_sent"), (2, "fill")]


@pytest.mark.usefixtures("unknown_outcome")
@pytest.mark.parametrize(("state", "kind"), [("dispatching", "not_sent"), ("sent", "other")])
def test_an_unknown_order_is_settled_exactly_once(
    inbox: Inbox, db: psycopg.Connection[Any], state: str, kind: str
) -> None:
    plant_leg(db, 1, state=state)
    (leg,) = inbox.in_doubt()
    never_sent = inbox.resolve_unknown(said("0", kind=ReportKind.OTHER), not_sent("YOFX1", leg, "never had it", wall()))
    assert never_sent is (kind == "not_sent")
    inbox.append([said("E1")])
    assert [(seq, name) for seq, name, _ in rows(db)] == [(1, kind), (2, "fill")]


@pytest.mark.usefixtures("unknown_outcome")
def test_sent_legs_are_marked(inbox: Inbox, db: psycopg.Connection[Any]) -> None:
    plant_leg(db, 1, state="dispatching")
    assert inbox.mark_sent([1]) == set()
    assert states(db) == ["sent"]


def test_whoever_lost_the_lock_to_another_writes_nothing(
    database: str, inbox: Inbox, db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_BACK_WITHIN_S", 0.3)
    inbox._open_connection().close()
    successor = Inbox(database, "YOFX1", wall)
    successor.acquire()
    with pytest.raises(LockLost):
        inbox.append([said("E1")])
    successor.append([said("E2")])
    assert rows(db) == [(1, "fill", "E2")]
    successor._open_connection().close()


def test_whoever_was_replaced_writes_nothing_even_if_the_successor_is_gone(
    database: str, inbox: Inbox, db: psycopg.Connection[Any]
) -> None:
    plant_leg(db, 1)
    plant_leg(db, 2, state="dispatching")
    inbox._open_connection().close()
    successor = Inbox(database, "YOFX1", wall)
    successor.acquire()
    successor.append([said("E1")])
    successor._open_connection().close()
    (leg,) = inbox.in_doubt()
    given_up = not_sent("YOFX1", leg, "no session", wall())
    for write in (
        lambda: inbox.append([said("E2")]),
        lambda: inbox.take(send_all, as_planned),
        lambda: inbox.take(give_all_up, as_planned),
        lambda: inbox.give_up(leg, given_up),
        lambda: inbox.mark_sent([2]),
        lambda: inbox.resolve_unknown(said("0", cl_ord_id="T0-2", kind=ReportKind.OTHER), given_up),
        lambda: inbox.unresolved(given_up, "silent"),
        lambda: inbox.alert(kind="lp_silent", subject="YOFX1", text="silent"),
        lambda: inbox.clear(kind="lp_silent", subjects=["YOFX1"]),
    ):
        with pytest.raises(LockLost):
            write()
        inbox._open_connection().rollback()
    assert rows(db) == [(1, "fill", "E1")]
    assert states(db) == ["new", "dispatching"]
    assert alerts(db) == {}


def test_a_broken_line_alone_replaces_nobody(inbox: Inbox, db: psycopg.Connection[Any]) -> None:
    inbox.append([said("E1")])
    inbox._open_connection().close()
    inbox.append([said("E2")])
    assert rows(db) == [(1, "fill", "E1"), (2, "fill", "E2")]


def test_every_process_raises_the_epoch_once(database: str, inbox: Inbox, db: psycopg.Connection[Any]) -> None:
    assert lease(db) == (1, "")
    inbox._open_connection().close()
    inbox.append([said("E1")])
    assert lease(db) == (1, "")
    inbox._open_connection().close()
    successor = Inbox(database, "YOFX1", wall)
    successor.acquire()
    assert lease(db) == (2, "")
    successor._open_connection().close()


@pytest.mark.parametrize("step", ["_raised_epoch", "_seq_after"])
def test_a_start_that_fails_half_way_leaves_no_lock_and_is_made_whole_by_the_next(
    database: str, db: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    made: list[psycopg.Connection[Any]] = []
    """Kept, so that nothing is closed because nobody refers to it."""

    def connecting() -> psycopg.Connection[Any]:
        made.append(module.connect(database, "YOFX1"))
        return made[-1]

    real, failures = getattr(Inbox, step), [psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")]

    def failing_once(self: Inbox, connection: Any) -> int:
        if failures:
            raise failures.pop()
        return int(real(self, connection))

    first = Inbox(database, "YOFX1", wall)
    first.acquire()
    first.append([said("E1")])
    first._open_connection().close()
    monkeypatch.setattr(Inbox, step, failing_once)
    waited: list[int] = []
    inbox = Inbox("", "YOFX1", wall, connecting=connecting, sleep=lambda _: None)
    inbox.acquire(waiting=lambda: waited.append(1) if len(waited) < 5 else pytest.fail("the lock is held by nobody"))
    inbox.append([said("E2")])
    assert (len(waited), [connection.closed for connection in made]) == (1, [True, False])
    assert [seq for seq, *_ in rows(db)] == [1, 2]
    made[-1].close()


def test_a_successor_waits_for_what_its_predecessor_is_just_writing(
    database: str, inbox: Inbox, db: psycopg.Connection[Any]
) -> None:
    writing = inbox._open_connection()
    writing.execute("BEGIN")
    inbox._own(writing)
    with psycopg.connect(database, autocommit=True, options="-c lock_timeout=200") as line:
        with pytest.raises(psycopg.errors.LockNotAvailable):
            line.execute("UPDATE lp_lease SET epoch = epoch + 1 WHERE lp = 'YOFX1'")
        writing.execute("COMMIT")
        line.execute("UPDATE lp_lease SET epoch = epoch + 1 WHERE lp = 'YOFX1'")
    with pytest.raises(LockLost):
        inbox.append([said("E1")])


def test_nothing_is_written_while_there_is_nothing_to_do(inbox: Inbox, db: psycopg.Connection[Any]) -> None:
    """The dispatcher looks four times a second: an idle look must not cost a commit record."""

    def looks_without_a_trace() -> bool:
        before = db.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
        assert inbox.take(send_all, as_planned) == ()
        assert inbox.in_doubt() == []
        return db.execute("SELECT pg_current_wal_insert_lsn()").fetchone() == before

    eventually(looks_without_a_trace)  # others may write to the same server, but not always


@pytest.mark.usefixtures("unknown_outcome")
def test_an_unresolved_leg_is_told_of_once_whatever_is_restarted(
    database: str, inbox: Inbox, db: psycopg.Connection[Any]
) -> None:
    plant_leg(db, 1, state="sent")
    (leg,) = inbox.in_doubt()
    inbox.unresolved(unresolved("YOFX1", leg, "silent", wall()), "T0-1: silent")
    assert [(seq, kind) for seq, kind, _ in rows(db)] == [(1, "unresolved")]
    inbox._open_connection().close()
    successor = Inbox(database, "YOFX1", wall)
    successor.acquire()
    assert successor.called_about() == ["T0-1"]
    successor.unresolved(unresolved("YOFX1", leg, "silent", wall()), "T0-1: silent")
    successor.append([said("E1")])
    assert [(seq, kind) for seq, kind, _ in rows(db)] == [(1, "unresolved"), (2, "fill")]
    assert alerts(db) == {"leg_unknown:T0-1": "critical"}
    successor.clear(kind="leg_unknown", subjects=["T0-1"])
    assert (alerts(db), successor.called_about()) == ({}, [])
    successor._open_connection().close()


def lease(db: psycopg.Connection[Any]) -> tuple[int, str]:
    found = db.execute("SELECT epoch, stopped FROM lp_lease WHERE lp = 'YOFX1'").fetchone()
    assert found is not None
    return found[0], found[1]


def alerts(db: psycopg.Connection[Any]) -> dict[str, str]:
    return dict(db.execute("SELECT key, severity FROM alert WHERE cleared_at IS NULL").fetchall())


def test_an_engine_that_is_writing_a_leg_is_not_waited_for(
    database: str, inbox: Inbox, db: psycopg.Connection[Any]
) -> None:
    for number in (1, 2):
        plant_leg(db, number)
    with psycopg.connect(database) as engine:
        engine.execute("UPDATE lp_order SET text = 'x' WHERE id = 1")
        assert [leg.id for leg in inbox.take(send_all, as_planned)] == [2]
        engine.execute("UPDATE lp_order SET text = 'x' WHERE id = 2")
        assert inbox.mark_sent([2]) == {2}
    assert [leg.id for leg in inbox.take(send_all, as_planned)] == [1]
    assert inbox.mark_sent([1, 2]) == set()
    assert states(db) == ["sent", "sent"]
