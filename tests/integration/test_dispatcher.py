"""The dispatcher over a real PostgreSQL and a wire that only remembers, in a time that the test turns forward."""

import os
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from bus.clock import wall
from bus.codec import decode_report, encode
from fix_gateway.initiator import Sending
from fix_gateway.wire.message import Outgoing
from lp_adapters.dispatch import BELIEVED_AFTER_S, HELD_FOR_S, SENT_WITHIN_S, Dispatcher
from lp_adapters.inbox import Inbox, InboxRow, LockLost
from lp_adapters.resolver import UNRESOLVED_AFTER_S
from tests.support.builders import config
from tests.support.database import copied, dropped, migrated
from tests.support.legs import plant_leg
from trading.liquidity import ExecutionReport, ReportKind


@pytest.fixture(scope="module")
def template(postgres: str) -> Iterator[str]:
    url = migrated(postgres, f"dispatcher_template_{os.getpid()}")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO config_version (version, document, published_at, published_by) VALUES (1, %s, now(), 'test')",
            (encode(config()).decode(),),
        )
    yield url
    dropped(url)


@pytest.fixture
def db(template: str) -> Iterator[psycopg.Connection[Any]]:
    url = copied(template, f"dispatcher_{os.getpid()}_{time.monotonic_ns()}")
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection
    dropped(url)


class Wire:
    """A session that is up or not. What is sent is remembered; `before_sending` happens in between."""

    def __init__(self) -> None:
        self.is_up = True
        self.sent: list[tuple[str, str]] = []
        self.before_sending: Callable[[], None] = lambda: None

    def send(self, message: Outgoing, may_leave: Callable[[], bool]) -> Sending:
        if not self.is_up:
            return Sending.NOT_LOGGED_ON
        self.before_sending()
        if not may_leave():
            return Sending.TOO_LATE
        self.sent.append((message.msg_type, dict(message.fields)[11]))
        return Sending.SENT

    def names(self, kind: str) -> list[str]:
        return [name for one, name in self.sent if one == kind]


class Process:
    """One process for the provider YOFX1, driven by hand. Its seconds start where the last process' ended."""

    def __init__(self, db: psycopg.Connection[Any], now_s: float = 1000.0) -> None:
        self.db = db
        self.now_s = now_s
        self.inbox = Inbox(_url(db), "YOFX1", wall, sleep=self.sleep, monotonic=lambda: self.now_s)
        self.inbox.acquire()
        self.wire = Wire()
        self.dispatcher = Dispatcher(
            "YOFX1", self.inbox, self.wire.send, lambda: self.wire.is_up, wall, monotonic=lambda: self.now_s
        )

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def log_on(self) -> "Process":
        self.wire.is_up = True
        self.dispatcher.logged_on()
        return self.after(0)

    def log_out(self) -> "Process":
        self.wire.is_up = False
        self.dispatcher.logged_out()
        return self.after(0)

    def after(self, seconds: float) -> "Process":
        """The dispatcher looks several times in these seconds."""
        until_s = self.now_s + seconds
        self.dispatcher.step()
        while self.now_s < until_s:
            self.now_s = min(self.now_s + 0.25, until_s)
            self.dispatcher.step()
        return self

    def knows(self, name: str) -> None:
        """The provider answers the question: it has the order."""
        question = self.dispatcher.question_about(name)
        assert question is not None
        self.dispatcher.spoken_of(name)
        self.dispatcher.answered(question)

    def believes_a_denial_of(self, name: str) -> bool:
        question = self.dispatcher.question_about(name)
        assert question is not None
        return self.dispatcher.may_believe_denial(question)

    def dies(self) -> float:
        self.inbox._open_connection().close()
        return self.now_s


@pytest.fixture
def process(db: psycopg.Connection[Any]) -> Iterator[Process]:
    process = Process(db)
    yield process
    process.dies()


def _url(db: psycopg.Connection[Any]) -> str:
    return psycopg.conninfo.make_conninfo(db.info.dsn, password=db.info.password)


def states(db: psycopg.Connection[Any]) -> dict[str, str]:
    return dict(db.execute("SELECT cl_ord_id, dispatch_state FROM lp_order ORDER BY id").fetchall())


def inbox_rows(db: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    return db.execute("SELECT kind, cl_ord_id FROM lp_inbox ORDER BY seq").fetchall()


def reasons(db: psycopg.Connection[Any]) -> list[str]:
    return [decode_report(text).text for (text,) in db.execute("SELECT report::text FROM lp_inbox ORDER BY seq")]


def alerts(db: psycopg.Connection[Any]) -> set[str]:
    return {key for (key,) in db.execute("SELECT key FROM alert WHERE cleared_at IS NULL")}


# -------------------------------------------------------------------------------------------------- doubts before orders


def test_new_legs_wait_for_the_answers_about_earlier_ones(process: Process, db: psycopg.Connection[Any]) -> None:
    maybe, new = plant_leg(db, 1, state="dispatching"), plant_leg(db, 2)
    process.log_on().after(3)
    assert process.wire.sent == [("H", maybe)] * 3
    process.knows(maybe)
    process.after(0.25)
    assert process.wire.sent[3:] == [("D", new)]
    assert states(db) == {maybe: "sent", new: "sent"}
    assert alerts(db) == set()


def test_what_was_surely_sent_is_asked_about_first_but_holds_nothing_up(
    process: Process, db: psycopg.Connection[Any]
) -> None:
    sent, new = plant_leg(db, 1, state="sent"), plant_leg(db, 2)
    process.log_on()
    assert process.wire.sent == [("H", sent), ("D", new)]


def test_a_silent_provider_holds_new_legs_up_for_a_bounded_time(process: Process, db: psycopg.Connection[Any]) -> None:
    maybe, opening = plant_leg(db, 1, state="dispatching"), plant_leg(db, 2)
    closing = plant_leg(db, 3, position_id=7)
    process.log_on().after(HELD_FOR_S - 0.25)
    assert process.wire.names("D") == []
    process.after(0.25)
    assert process.wire.names("D") == [opening, closing]
    assert alerts(db) == {"lp_silent:YOFX1"}
    process.after(10)
    process.knows(maybe)
    process.after(0.25)
    assert alerts(db) == set()


def test_a_leg_that_waits_too_long_is_given_up(process: Process, db: psycopg.Connection[Any]) -> None:
    plant_leg(db, 1, state="dispatching")
    old = plant_leg(db, 2, valid="-1 s", position_id=7)
    process.log_on()
    assert (inbox_rows(db), process.wire.names("D")) == ([("not_sent", old)], [])


def test_every_session_asks_anew_before_it_sends(process: Process, db: psycopg.Connection[Any]) -> None:
    process.log_on()
    first = plant_leg(db, 1)
    process.after(0.25).log_out()
    second = plant_leg(db, 2, position_id=7)
    process.after(1).log_on()
    assert process.wire.sent == [("D", first), ("H", first), ("D", second)]


def test_a_session_that_was_not_told_of_yet_sends_nothing(process: Process, db: psycopg.Connection[Any]) -> None:
    process.log_on().log_out()
    process.wire.is_up = True
    process.dispatcher._look_again_s = 0.0
    maybe, new = plant_leg(db, 1, state="dispatching"), plant_leg(db, 2)
    process.after(1)
    assert new not in process.wire.names("D")
    assert maybe in process.wire.names("H")


# ---------------------------------------------------------------------------------------------------------- unresolved


def test_a_person_and_the_engine_are_told_once_of_an_order_that_stays_unknown(db: psycopg.Connection[Any]) -> None:
    maybe = plant_leg(db, 1, state="dispatching")
    first = Process(db).log_on().after(UNRESOLVED_AFTER_S - 1)
    assert (inbox_rows(db), alerts(db)) == ([], {"lp_silent:YOFX1"})
    first.after(1)
    assert (inbox_rows(db), alerts(db)) == ([("unresolved", maybe)], {"lp_silent:YOFX1", f"leg_unknown:{maybe}"})
    second = Process(db, first.dies()).log_on().after(2 * UNRESOLVED_AFTER_S)
    assert inbox_rows(db) == [("unresolved", maybe)]
    assert f"leg_unknown:{maybe}" in alerts(db)
    assert second.wire.names("D") == [], "asked, never sent again"
    second.knows(maybe)
    second.after(0.25)
    assert alerts(db) == set()
    assert inbox_rows(db) == [("unresolved", maybe)]
    second.dies()


def test_a_provider_without_a_session_is_told_of_too(process: Process, db: psycopg.Connection[Any]) -> None:
    sent = plant_leg(db, 1, state="sent")
    process.log_out().after(UNRESOLVED_AFTER_S + 11)
    assert (inbox_rows(db), alerts(db)) == ([("unresolved", sent)], {f"leg_unknown:{sent}"})


def test_an_order_that_the_engine_ends_is_not_in_doubt_any_more(process: Process, db: psycopg.Connection[Any]) -> None:
    sent = plant_leg(db, 1, state="sent")
    process.log_on().after(UNRESOLVED_AFTER_S + 1)
    assert alerts(db) == {f"leg_unknown:{sent}"}
    db.execute("UPDATE lp_order SET status = 'canceled' WHERE id = 1")
    process.after(11)
    assert alerts(db) == set()


# ------------------------------------------------------------------------------------------------------ sending in time


def test_a_process_that_stood_still_between_marking_and_sending_does_not_send(
    process: Process, db: psycopg.Connection[Any]
) -> None:
    process.log_on()

    def stand_still() -> None:
        process.now_s += SENT_WITHIN_S

    process.wire.before_sending = stand_still
    name = plant_leg(db, 1)
    process.after(0.25)
    assert process.wire.sent == []
    assert (states(db), inbox_rows(db)) == ({name: "not_sent"}, [("not_sent", name)])


def test_a_process_that_was_replaced_while_it_stood_still_neither_sends_nor_says_so(
    db: psycopg.Connection[Any],
) -> None:
    old = Process(db).log_on()
    name = plant_leg(db, 1)
    successors: list[Process] = []

    def stand_still() -> None:
        old.inbox._open_connection().close()
        successors.append(Process(db, old.now_s))
        old.now_s += SENT_WITHIN_S

    old.wire.before_sending = stand_still
    with pytest.raises(LockLost) as lost:
        old.after(0.25)
    assert "YOFX1" in str(lost.value)
    new = successors.pop()
    new.log_on()
    assert new.wire.sent == [("H", name)]
    assert not new.believes_a_denial_of(name)
    new.after(BELIEVED_AFTER_S)
    assert new.believes_a_denial_of(name)
    assert (old.wire.sent, states(db), inbox_rows(db)) == ([], {name: "dispatching"}, [])
    new.dies()


def test_time_that_passes_in_the_commit_counts(process: Process, db: psycopg.Connection[Any]) -> None:
    process.log_on()
    name = plant_leg(db, 1)
    mark = process.inbox._mark

    def slowly(connection: Any, state: str, ids: list[int]) -> None:
        mark(connection, state, ids)
        process.now_s += SENT_WITHIN_S if state == "dispatching" else 0

    process.inbox._mark = slowly  # type: ignore[method-assign]
    process.after(0)
    assert (process.wire.sent, states(db)) == ([], {name: "not_sent"})


# --------------------------------------------------------------------------------------------------- halted, conservation


def test_nothing_leaves_a_halted_shard(process: Process, db: psycopg.Connection[Any]) -> None:
    opening, closing = plant_leg(db, 1), plant_leg(db, 2, position_id=7)
    db.execute("UPDATE shard SET halted = 'a law was broken'")
    process.log_on().after(5)
    assert (process.wire.sent, states(db)) == ([], {opening: "new", closing: "new"})
    db.execute("UPDATE lp_order SET expires_at = now() - interval '1 s' WHERE id = 2")
    process.after(0.25)
    assert states(db) == {opening: "new", closing: "not_sent"}
    db.execute("UPDATE shard SET halted = ''")
    process.after(0.25)
    assert process.wire.names("D") == [opening]


def test_a_leg_of_an_epoch_that_no_engine_has_stays_new(process: Process, db: psycopg.Connection[Any]) -> None:
    ahead, ours = plant_leg(db, 1, epoch=2), plant_leg(db, 2, epoch=1)
    process.log_on()
    assert (process.wire.names("D"), states(db)[ahead]) == ([ours], "new")
    db.execute("UPDATE shard SET epoch = 2")
    assert process.after(0.25).wire.names("D") == [ours, ahead]


@pytest.mark.parametrize(
    ("planted", "why"),
    [
        ({"volume": "9", "asked": "0.1"}, "its order asked for 0.10000000 lots and stands for 9.00000000 at providers"),
        ({"quantity": Decimal(1_000_000)}, "units are not"),
        ({"order_id": 1, "volume": "0.1"}, "stands for 0.20000000"),
    ],
)
def test_a_leg_that_is_too_large_stops_the_provider_until_an_operator_acts(
    db: psycopg.Connection[Any], planted: dict[str, Any], why: str
) -> None:
    first = Process(db).log_on()
    good = plant_leg(db, 1)
    first.after(0.25)
    bad = plant_leg(db, 2, **planted)
    closing = plant_leg(db, 3, position_id=7)
    first.after(0.25)
    assert first.wire.names("D") == [good]
    assert states(db) == {good: "sent", bad: "not_sent", closing: "new"}
    (reason,) = reasons(db)
    assert reason.startswith("conservation: ")
    assert why in reason
    assert alerts(db) == {"lp_stopped:YOFX1"}
    second = Process(db, first.dies()).log_on()
    opening = plant_leg(db, 4)
    second.after(2)
    assert second.wire.names("D") == [], "a restart alone frees nothing"
    assert states(db) == {good: "sent", bad: "not_sent", closing: "new", opening: "not_sent"}
    db.execute("UPDATE lp_lease SET stopped = '' WHERE lp = 'YOFX1'")
    second.after(0.25)
    assert second.wire.names("D") == [closing]
    second.dies()


def test_a_leg_whose_predecessor_the_provider_never_ended_is_not_sent(
    process: Process, db: psycopg.Connection[Any]
) -> None:
    """The engine says that the first leg was rejected; the provider never said so."""
    process.log_on()
    plant_leg(db, 1)
    process.after(0.25)
    db.execute("UPDATE lp_order SET status = 'rejected' WHERE id = 1")
    again = plant_leg(db, 2, order_id=1)
    process.after(0.25)
    assert states(db)[again] == "not_sent"
    assert "would stand for" in reasons(db)[0]


def test_a_leg_after_one_that_the_provider_ended_is_sent(process: Process, db: psycopg.Connection[Any]) -> None:
    process.log_on()
    plant_leg(db, 1)
    process.after(0.25)
    rejected = ExecutionReport(lp="YOFX1", kind=ReportKind.REJECTED, cl_ord_id="T0-1", received_us=wall())
    process.inbox.append([InboxRow(report=rejected)])
    db.execute("UPDATE lp_order SET status = 'rejected' WHERE id = 1")
    again = plant_leg(db, 2, order_id=1)
    assert process.after(0.25).wire.names("D") == ["T0-1", again]


def test_legs_of_the_houses_own_are_sent(process: Process, db: psycopg.Connection[Any]) -> None:
    process.log_on()
    first, second = plant_leg(db, 1, is_house=True), plant_leg(db, 2, is_house=True)
    assert process.after(0.25).wire.names("D") == [first, second]


def test_a_row_set_back_to_new_is_not_sent_a_second_time(db: psycopg.Connection[Any]) -> None:
    process = Process(db).log_on()
    name = plant_leg(db, 1)
    process.after(0.25)
    db.execute("UPDATE lp_order SET dispatch_state = 'new'")
    process.after(0.25)
    assert (process.wire.names("D"), states(db)) == ([name], {name: "not_sent"})
    assert reasons(db) == ["conservation: it was sent before"]
    process.dies()
