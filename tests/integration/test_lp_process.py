"""A provider's processes as they really run: `python -m lp_adapters.fix` against a counterparty on a loopback socket, a real
PostgreSQL and a real Redis, killed and cut off at the worst moments."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from msgspec.structs import replace

from bus import names
from bus.codec import decode, decode_report, encode
from bus.messages import LpPrice, LpState
from tests.fakes.provider import Fields, Provider
from tests.support.builders import config, lp_settings
from tests.support.database import copied, dropped, migrated
from tests.support.legs import plant_leg
from tests.waiting import eventually
from trading.liquidity import ExecutionReport

ROOT = Path(__file__).resolve().parents[2]
STRUCK_AT = (5, 13, 20, 27)
"""Which of a process' system calls of one kind it is killed at: from its first words to after its order."""


@pytest.fixture(scope="module")
def template(postgres: str) -> Iterator[str]:
    url = migrated(postgres, f"lp_template_{os.getpid()}")
    yield url
    dropped(url)


@pytest.fixture
def database(template: str) -> Iterator[str]:
    url = copied(template, f"lp_{os.getpid()}_{time.monotonic_ns()}")
    with psycopg.connect(url, autocommit=True) as connection:
        publish(connection, config())
    yield url
    dropped(url)


@pytest.fixture
def db(database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def publish(connection: psycopg.Connection[Any], document: Any) -> None:
    connection.execute(
        "INSERT INTO config_version (version, document, published_at, published_by) VALUES (%s, %s, now(), 'test')",
        (document.version, encode(document).decode()),
    )


class House:
    """Starts processes for one provider, and asks the stores about what they did."""

    def __init__(self, database: str, redis_url: str, folder: Path, db: psycopg.Connection[Any]) -> None:
        self.environment = {
            **os.environ,
            "DATABASE_URL": database,
            "REDIS_URL": redis_url,
            "TRIBOOK_DATA": str(folder),
            "TRIBOOK_CLOCK": "wall",
            "LPSIM_PASSWORD": "open sesame",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}",
        }
        self.folder = folder
        self.db = db
        self.redis = redis.Redis.from_url(redis_url)
        self.legs = 0
        self._running: list[subprocess.Popen[bytes]] = []

    def start(
        self, session: str, provider: Provider, *, under: Sequence[str] = (), **environment: str
    ) -> "subprocess.Popen[bytes]":
        port = {"price": "LPSIM_PORT_0", "trade": "LPSIM_PORT_1"}[session]
        with (self.folder / f"{session}.log").open("ab") as log:
            process = subprocess.Popen(
                [*under, sys.executable, "-m", "lp_adapters.fix", "--lp", "YOFX1", "--session", session],
                env={**self.environment, port: str(provider.port), **environment},
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        self._running.append(process)
        return process

    def stop_all(self) -> None:
        for process in self._running:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()

    def leg(self, *, state: str = "new", valid: str = "60 s", position_id: int = 0, **more: Any) -> str:
        self.legs += 1
        cl_ord_id = plant_leg(self.db, self.legs, state=state, valid=valid, position_id=position_id, **more)
        self.redis.publish(names.nudge_lp("YOFX1"), b"")
        return cl_ord_id

    def state_of(self, cl_ord_id: str) -> str:
        found = self.db.execute("SELECT dispatch_state FROM lp_order WHERE cl_ord_id = %s", (cl_ord_id,)).fetchone()
        assert found is not None
        return str(found[0])

    def inbox(self) -> list[ExecutionReport]:
        rows = self.db.execute("SELECT seq, report::text FROM lp_inbox WHERE lp = 'YOFX1' ORDER BY seq").fetchall()
        assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1)), "the sequence has no gap"
        return [decode_report(report) for _, report in rows]

    def has_ended(self, cl_ord_id: str) -> bool:
        return any(name == cl_ord_id and kind in ("fill", "not_sent", "status") for kind, name in self.said())

    def end(self, process: "subprocess.Popen[bytes]") -> None:
        """Kill it, and whatever it traces."""
        subprocess.run(["pkill", "-KILL", "-P", str(process.pid)], check=False)
        process.kill()
        process.wait()

    def said(self) -> list[tuple[str, str]]:
        return [(report.kind.value, report.cl_ord_id) for report in self.inbox()]

    def alerts(self) -> set[str]:
        return {key for (key,) in self.db.execute("SELECT key FROM alert WHERE cleared_at IS NULL")}

    def log(self, session: str = "trade") -> str:
        log = self.folder / f"{session}.log"
        return log.read_text() if log.exists() else ""


@pytest.fixture
def house(database: str, redis_url: str, data_folder: Path, db: psycopg.Connection[Any]) -> Iterator[House]:
    house = House(database, redis_url, data_folder, db)
    house.redis.flushall()
    yield house
    house.stop_all()
    for session in ("price", "trade"):
        print(house.log(session))


@pytest.fixture
def trade() -> Iterator[Provider]:
    provider = Provider("YOFX1-TRADE", "TRIBOOK-TRADE")
    provider.on_order = filled
    provider.on_status = unknown
    yield provider
    provider.close()


@pytest.fixture
def price() -> Iterator[Provider]:
    provider = Provider("YOFX1-QUOTE", "TRIBOOK-QUOTE")
    provider.on_prices = lambda request: [snapshot(request[55], "1.08500", "1.08512")] if request[263] == "1" else []
    yield provider
    provider.close()


def report(order: Fields, kind: str, status: str, rest: str = "") -> str:
    return (
        f"35=8|37=L{order[11]}|11={order[11]}|17={order[11]}-{kind}|150={kind}|39={status}|55={order[55]}|54={order[54]}|"
        f"60=20240103-10:00:00|6=0|{rest}"
    )


def filled(order: Fields) -> list[str]:
    quantity = order[38]
    return [
        report(order, "0", "0", f"14=0|151={quantity}|"),
        report(order, "F", "2", f"32={quantity}|31=1.08512|14={quantity}|151=0|"),
    ]


def unknown(request: Fields) -> list[str]:
    return [report(request, "I", "8", "103=5|14=0|151=0|58=unknown order|")]


def snapshot(symbol: str, bid: str, ask: str) -> str:
    return f"35=W|55={symbol}|268=2|269=0|270={bid}|271=1000000|269=1|270={ask}|271=1000000|"


# ---------------------------------------------------------------------------------------------------------------- orders


def test_a_leg_is_sent_once_and_everything_said_about_it_is_kept(house: House, trade: Provider) -> None:
    with house.redis.pubsub(ignore_subscribe_messages=True) as nudges:  # type: ignore[no-untyped-call]
        nudges.subscribe(names.NUDGE_ENGINE)
        house.start("trade", trade)
        cl_ord_id = house.leg()
        eventually(lambda: len(house.inbox()) == 2)
        eventually(lambda: (nudges.get_message() or {}).get("data") == b"YOFX1")
    assert house.said() == [("acknowledged", cl_ord_id), ("fill", cl_ord_id)]
    (order,) = trade.of_type("D")
    assert {tag: order[tag] for tag in (11, 55, 54, 38, 40, 59)} == {
        11: cl_ord_id, 55: "EUR/USD", 54: "1", 38: "10000", 40: "1", 59: "3"
    }  # fmt: skip
    assert (trade.logons[0][553], trade.logons[0][554]) == ("tribook", "open sesame")
    eventually(lambda: house.state_of(cl_ord_id) == "sent")
    assert "open sesame" not in house.log()
    (raw,) = house.db.execute("SELECT raw FROM lp_inbox WHERE kind = 'fill'").fetchone() or ("",)
    assert "|31=1.08512|" in raw


def test_the_session_is_told_of_and_says_goodbye(house: House, trade: Provider) -> None:
    with house.redis.pubsub(ignore_subscribe_messages=True) as states:  # type: ignore[no-untyped-call]
        states.subscribe(names.LP_STATE)
        process = house.start("trade", trade)
        eventually(lambda: _state(states, up=True))
        assert house.redis.hget(names.lp_state("YOFX1"), "trade") == b"up"
        eventually(lambda: house.redis.hget(names.health("lp-YOFX1-trade"), "pid") == str(process.pid).encode())
        process.send_signal(signal.SIGTERM)
        eventually(lambda: _state(states, up=False))
    assert process.wait(60) == 0
    assert trade.logouts == 1


def _state(pubsub: Any, *, up: bool) -> bool:
    message = pubsub.get_message()
    return message is not None and decode(message["data"], LpState).up is up


def test_an_old_leg_is_never_sent(house: House, trade: Provider) -> None:
    old = house.leg(valid="-1 s")
    fresh = house.leg()
    house.start("trade", trade)
    eventually(lambda: ("fill", fresh) in house.said())
    assert ("not_sent", old) in house.said()
    assert [order[11] for order in trade.of_type("D")] == [fresh]
    assert house.state_of(old) == "not_sent"


def test_without_a_session_an_opening_goes_elsewhere_and_a_close_waits(house: House, trade: Provider) -> None:
    house.start("trade", trade)
    eventually(lambda: trade.is_logged_on)
    port = trade.port
    trade.close()
    eventually(lambda: house.redis.hget(names.lp_state("YOFX1"), "trade") == b"down")
    opening = house.leg()
    eventually(lambda: house.said() == [("not_sent", opening)])
    closing = house.leg(position_id=7)
    expiring = house.leg(position_id=8, valid="0.3 s")
    eventually(lambda: house.said() == [("not_sent", opening), ("not_sent", expiring)])
    assert house.state_of(closing) == "new"
    back = Provider("YOFX1-TRADE", "TRIBOOK-TRADE", port=port)
    back.on_order, back._next_in, back._sent = filled, trade._next_in, trade._sent
    try:
        eventually(lambda: ("fill", closing) in house.said())
        assert [order[11] for order in back.of_type("D")] == [closing]
    finally:
        back.close()


def test_a_leg_that_may_have_been_sent_is_asked_about_and_never_sent_again(house: House, trade: Provider) -> None:
    maybe, certain, known = house.leg(state="dispatching"), house.leg(state="sent"), house.leg(state="dispatching")

    def status(request: Fields) -> list[str]:
        return [report(request, "I", "0", "14=0|151=10000|")] if request[11] == known else unknown(request)

    trade.on_status = status
    house.start("trade", trade)
    eventually(lambda: len(house.inbox()) == 3)
    assert sorted(house.said()) == [("not_sent", maybe), ("rejected", certain), ("status", known)]
    eventually(lambda: house.state_of(known) == "sent")
    assert (house.state_of(maybe), house.state_of(certain)) == ("not_sent", "sent")
    assert trade.of_type("D") == []


def test_an_order_lost_on_the_way_is_not_delivered_later(house: House, trade: Provider) -> None:
    house.start("trade", trade)
    eventually(lambda: trade.is_logged_on)
    trade.drops_at = "D"
    lost = house.leg()
    eventually(lambda: house.said() == [("rejected", lost)])
    assert trade.of_type("D") == [], "a resend became a gap fill"
    assert [request[11] for request in trade.of_type("H")] == [lost]
    assert len(trade.logons) == 2


def test_a_report_that_was_not_committed_is_said_again_after_a_kill(
    house: House, trade: Provider, database: str
) -> None:
    process = house.start("trade", trade)
    eventually(lambda: trade.is_logged_on)
    with psycopg.connect(database) as blocking:
        blocking.execute("LOCK TABLE lp_inbox IN EXCLUSIVE MODE")
        cl_ord_id = house.leg()
        eventually(lambda: _someone_waits(house.db, "INSERT INTO lp_inbox%"))
        process.kill()
        process.wait()
        eventually(lambda: not _someone_waits(house.db, "INSERT INTO lp_inbox%") or _cancel_waiting(house.db))
    assert house.inbox() == []
    house.start("trade", trade)
    eventually(lambda: house.said()[:2] == [("acknowledged", cl_ord_id), ("fill", cl_ord_id)])
    assert len(trade.of_type("D")) == 1


def test_a_report_that_was_committed_and_not_counted_is_said_again_and_kept_again(
    house: House, trade: Provider
) -> None:
    """Killed between the commit and the callback's return: two rows, one ExecID, for the engine to apply once."""
    process = house.start("trade", trade)
    eventually(lambda: trade.is_logged_on)
    slow_commit(house.db, "INSERT ON lp_inbox", "NEW.kind = 'fill'")
    cl_ord_id = house.leg()
    eventually(lambda: _someone_sleeps(house.db))
    process.kill()
    process.wait()
    eventually(lambda: ("fill", cl_ord_id) in house.said())
    house.db.execute("DROP TRIGGER slow_commit ON lp_inbox")
    house.start("trade", trade)
    eventually(lambda: house.said().count(("fill", cl_ord_id)) == 2)
    fills = [report for report in house.inbox() if report.kind == "fill"]
    assert len({report.fill_key for report in fills}) == 1
    assert len(trade.of_type("D")) == 1


def test_a_process_killed_when_the_provider_has_its_order_asks_and_does_not_send_again(
    house: House, trade: Provider
) -> None:
    processes: list[subprocess.Popen[bytes]] = []

    def kill(_order: Fields) -> list[str]:
        processes[0].kill()
        return []

    trade.on_order = kill
    trade.on_status = lambda request: [report(request, "I", "2", "14=10000|151=0|")]
    processes.append(house.start("trade", trade))
    cl_ord_id = house.leg()
    eventually(lambda: processes[0].poll() is not None)
    assert (house.state_of(cl_ord_id), house.said()) == ("dispatching", [])
    house.start("trade", trade)
    eventually(lambda: house.said() == [("status", cl_ord_id)])
    eventually(lambda: house.state_of(cl_ord_id) == "sent")
    assert [order[11] for order in trade.of_type("D")] == [cl_ord_id]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace kills at a chosen system call")
def test_killed_at_any_sending_to_anybody_an_order_is_there_once_or_never(house: House, trade: Provider) -> None:
    """Each round dies entering its n-th sendto: to PostgreSQL, to the provider or to Redis, before it or between two.
    What the provider then knows is what the inbox says in the end."""
    known: dict[str, Fields] = {}

    def keep(order: Fields) -> list[str]:
        known[order[11]] = order
        return filled(order)

    def status(request: Fields) -> list[str]:
        order = known.get(request[11])
        return [report(order, "I", "2", "14=10000|151=0|")] if order else unknown(request)

    trade.on_order, trade.on_status = keep, status
    died = [number for number in STRUCK_AT if _struck_round(house, trade, known, number)]
    assert died, "the strikes hit nobody"
    assert known, "no order ever got there"


def _struck_round(house: House, trade: Provider, known: dict[str, Fields], number: int) -> bool:
    """One order whose process is killed entering its `number`-th sendto, and a second process that ends it; True if it was."""
    cl_ord_id = house.leg()
    under = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto")
    struck = house.start("trade", trade, under=(*under, "-e", f"inject=sendto:signal=SIGKILL:when={number}"))
    eventually(lambda: struck.poll() is not None or house.has_ended(cl_ord_id), within_s=40)
    has_died = struck.poll() is not None
    house.end(struck)
    again = house.start("trade", trade)
    eventually(lambda: house.has_ended(cl_ord_id), within_s=40)
    house.end(again)
    assert [order[11] for order in trade.of_type("D")].count(cl_ord_id) == (1 if cl_ord_id in known else 0)
    kinds = {kind for kind, name in house.said() if name == cl_ord_id}
    assert ("not_sent" in kinds) is (cl_ord_id not in known), (number, kinds)
    return has_died


def test_a_line_lost_in_the_middle_of_an_order_rejects_nothing(house: House, trade: Provider) -> None:
    """The provider goes away with our order. Nothing is said of it until the provider says it."""

    def gone(order: Fields) -> list[str]:
        trade.hang_up()
        return filled(order)

    trade.on_order = gone
    trade.on_status = lambda request: [report(request, "I", "2", "14=10000|151=0|")]
    house.start("trade", trade)
    eventually(lambda: trade.is_logged_on)
    cl_ord_id = house.leg()
    eventually(lambda: house.state_of(cl_ord_id) == "sent")
    assert {kind for kind, _ in house.said()} <= {"acknowledged", "fill"}
    eventually(lambda: ("fill", cl_ord_id) in house.said())
    eventually(lambda: ("status", cl_ord_id) in house.said())
    assert {kind for kind, _ in house.said()} == {"acknowledged", "fill", "status"}
    assert len(trade.of_type("D")) == 1


@pytest.mark.parametrize("stopped", ["before it sends", "after it sent"])
def test_a_process_that_stands_still_is_replaced_and_sends_nothing_when_it_goes_on(
    house: House, trade: Provider, data_folder: Path, stopped: str
) -> None:
    """SIGSTOP between the commit that marks a leg and its sending, or between its sending and the next mark; the line to
    PostgreSQL dies meanwhile, a second process takes over at the provider's other address, and the first goes on."""
    times: Counter[str] = Counter()
    stands_still = threading.Event()
    standby = Provider("YOFX1-TRADE", "TRIBOOK-TRADE")
    processes: list[subprocess.Popen[bytes]] = []

    def count(order: Fields) -> list[str]:
        times[order[11]] += 1
        if stopped == "after it sent" and len(times) == 1:
            processes[0].send_signal(signal.SIGSTOP)
            stands_still.set()
            return []
        return filled(order)

    def status(request: Fields) -> list[str]:
        return [report(request, "I", "0", "14=0|151=10000|")] if times[request[11]] else unknown(request)

    trade.on_order = standby.on_order = count
    trade.on_status = standby.on_status = status
    try:
        processes.append(house.start("trade", trade))
        eventually(lambda: trade.is_logged_on)
        if stopped == "before it sends":
            slow_commit(house.db, "UPDATE ON lp_order", "NEW.dispatch_state = 'dispatching'")
        else:
            stuck_update(house.db, "lp_order", "NEW.dispatch_state = 'sent'")
        doubtful = house.leg()
        if stopped == "before it sends":
            eventually(lambda: _someone_sleeps(house.db))
            processes[0].send_signal(signal.SIGSTOP)
            eventually(lambda: not _someone_sleeps(house.db))
        else:
            assert stands_still.wait(60)
        assert house.state_of(doubtful) == "dispatching"
        _cancel_waiting(house.db)
        house.db.execute("DROP TRIGGER IF EXISTS slow_commit ON lp_order")
        house.db.execute("DROP TRIGGER IF EXISTS stuck ON lp_order")
        elsewhere = data_folder / "elsewhere"
        elsewhere.mkdir()
        house.start("trade", standby, TRIBOOK_DATA=str(elsewhere))
        eventually(lambda: doubtful in [request[11] for request in standby.of_type("H")])
        processes[0].send_signal(signal.SIGCONT)
        assert processes[0].wait(30) == 70
        fresh = house.leg()
        eventually(lambda: ("fill", fresh) in house.said(), within_s=20)
        sent = {"before it sends": {fresh: 1}, "after it sent": {doubtful: 1, fresh: 1}}[stopped]
        assert dict(+times) == sent
        expected = {"before it sends": ("not_sent", doubtful), "after it sent": ("status", doubtful)}[stopped]
        assert [said for said in house.said() if said[1] == doubtful][:1] == [expected]
        assert "another process" in house.log()
    finally:
        standby.close()


@pytest.mark.parametrize("how", ["their numbers are too low", "they began to count anew", "our numbers are too low"])
def test_numbers_that_disagree_are_never_set_back_in_silence(house: House, trade: Provider, how: str) -> None:
    house.start("trade", trade)
    eventually(lambda: trade.is_logged_on)
    first = house.leg()
    eventually(lambda: ("fill", first) in house.said())
    kept, expected = dict(trade._sent), trade._next_in
    if how == "our numbers are too low":
        trade.refuses_with = "MsgSeqNum too low, expecting 99 but received 7"
    elif how == "they began to count anew":
        trade.resets_itself = True
    else:
        trade._sent = {}
    trade.hang_up()
    eventually(lambda: house.alerts() == {"fix_numbers:YOFX1"})
    assert house.redis.hget(names.lp_state("YOFX1"), "trade") != b"up"
    waiting = house.leg(position_id=7)
    assert house.state_of(waiting) == "new"
    trade.resets_itself, trade.refuses_with = False, ""
    with trade._lock:
        if how != "our numbers are too low":
            trade._sent, trade._next_in = kept, expected
    trade.send(report({11: "T0-9", 55: "EUR/USD", 54: "1"}, "F", "2", "32=1|31=1|14=1|151=0|"))
    eventually(lambda: ("fill", "T0-9") in house.said())
    eventually(lambda: ("fill", waiting) in house.said())
    eventually(lambda: house.alerts() == set())


def slow_commit(db: psycopg.Connection[Any], what: str, when: str) -> None:
    """Whoever commits this waits a second in COMMIT, and is committed even if its client is gone by then."""
    db.execute(
        "CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$"
    )
    db.execute(
        f"CREATE CONSTRAINT TRIGGER slow_commit AFTER {what} DEFERRABLE INITIALLY DEFERRED "
        f"FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION slow()".encode()
    )


def stuck_update(db: psycopg.Connection[Any], table: str, when: str) -> None:
    """Whoever makes this update gets no answer, until its connection is ended and the update undone."""
    db.execute(
        "CREATE OR REPLACE FUNCTION stuck() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(120); RETURN NEW; END $$"
    )
    db.execute(
        f"CREATE TRIGGER stuck BEFORE UPDATE ON {table} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION stuck()".encode()
    )


def _someone_sleeps(db: psycopg.Connection[Any]) -> bool:
    return db.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'").fetchone() is not None


def _someone_waits(db: psycopg.Connection[Any], like: str) -> bool:
    query = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
    return db.execute(query, (like,)).fetchone() is not None


def _cancel_waiting(db: psycopg.Connection[Any]) -> bool:
    """PostgreSQL notices a client's death only when it talks to it: end its backend, as its keepalives would."""
    db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'lp-%%'")
    return False


def test_a_lost_database_connection_costs_time_and_nothing_else(house: House, trade: Provider) -> None:
    house.start("trade", trade)
    eventually(lambda: trade.is_logged_on)
    sent = []
    for _ in range(5):
        sent.append(house.leg())
        _cancel_waiting(house.db)
        eventually(lambda: ("fill", sent[-1]) in house.said())
    assert [order[11] for order in trade.of_type("D")] == sent
    assert [cl_ord_id for kind, cl_ord_id in house.said() if kind == "fill"] == sent


def test_orders_go_out_without_redis(house: House, trade: Provider, tmp_path: Path) -> None:
    house.start("trade", trade, REDIS_URL=f"unix://{tmp_path}/nobody-listens.sock")
    cl_ord_id = house.leg()
    eventually(lambda: house.said() == [("acknowledged", cl_ord_id), ("fill", cl_ord_id)])


def test_a_second_process_waits_until_the_first_is_gone(house: House, trade: Provider, data_folder: Path) -> None:
    first = house.start("trade", trade)
    eventually(lambda: trade.is_logged_on)
    standby = Provider("YOFX1-TRADE", "TRIBOOK-TRADE")
    standby.on_order, standby.on_status = filled, unknown
    try:
        elsewhere = data_folder / "elsewhere"
        elsewhere.mkdir()
        house.start("trade", standby, TRIBOOK_DATA=str(elsewhere))
        eventually(lambda: "waiting_for_another_process" in house.log())
        one = house.leg()
        eventually(lambda: ("fill", one) in house.said())
        assert standby.logons == []
        assert house.redis.hget(names.lp_state("YOFX1"), "trade") == b"up"
        first.kill()
        two = house.leg()
        eventually(lambda: ("fill", two) in house.said())
        assert [order[11] for order in trade.of_type("D")] == [one]
        assert [order[11] for order in standby.of_type("D")] == [two]
    finally:
        standby.close()


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        ("35=3|45={34}|372=D|373=5|58=bad value|", "rejected", "bad value"),
        ("35=j|45={34}|372=D|380=4|58=closed|", "rejected", "closed"),
        ("35=8|37=1|11={11}|17=X|150=8|39=8|55=EUR/USD|54=1|103=3|14=0|151=0|6=0|58=no\x07margin|", "rejected", "no?margin"),
        ("35=8|37=1|11={11}|17=X|150=F|39=2|55=EUR/USD|54=1|32=1E4|31=1.1|14=0|151=0|6=0|", "other", "unreadable"),
        ("35=8|37=1|11={11}|17=X|150=F|39=2|55=EUR/USD|54=1|5001=own tag|32=1|31=0|60=20240101-00:00:00|", "other", "LastPx"),
        ("35=8|37=1|11={11}|17=\udcff\udcfe|150=0|39=0|55=EUR/USD|54=1|14=0|151=0|6=0|", "other", "17"),
        ("35=9|37=1|11={11}|41=x|39=2|434=1|102=0|", "other", "35=9"),
    ],
)  # fmt: skip
def test_whatever_a_provider_says_is_kept(house: House, trade: Provider, answer: str, kind: str, text: str) -> None:
    def once(order: Fields) -> list[str]:
        return [answer.replace("{34}", order[34]).replace("{11}", order[11])]

    trade.on_order = once
    house.start("trade", trade)
    cl_ord_id = house.leg()
    eventually(lambda: len(house.inbox()) == 1)
    (kept,) = house.inbox()
    assert (kept.kind, kept.cl_ord_id) == (kind, cl_ord_id)
    assert text in kept.text
    assert trade.is_logged_on, "the session outlives it"


def test_a_busy_leg_is_marked_when_the_engine_lets_go(house: House, trade: Provider, database: str) -> None:
    house.start("trade", trade)
    eventually(lambda: trade.is_logged_on)
    release: list[psycopg.Connection[Any]] = []

    def hold(order: Fields) -> list[str]:
        engine = psycopg.connect(database)
        engine.execute("SELECT 1 FROM lp_order WHERE cl_ord_id = %s FOR UPDATE", (order[11],))
        release.append(engine)
        return filled(order)

    trade.on_order = hold
    cl_ord_id = house.leg()
    eventually(lambda: len(house.inbox()) == 2)
    second = house.leg()
    eventually(lambda: ("fill", second) in house.said())
    for engine in release:
        engine.rollback()
        engine.close()
    eventually(lambda: house.state_of(cl_ord_id) == "sent")
    assert house.said().count(("fill", cl_ord_id)) == 1


def test_missing_password_is_told_and_nothing_starts(house: House, trade: Provider) -> None:
    process = house.start("trade", trade, LPSIM_PASSWORD="")
    assert process.wait(60) == 1
    assert "LPSIM_PASSWORD" in house.log()
    assert trade.logons == []


# ---------------------------------------------------------------------------------------------------------------- prices


class Prices:
    """What was published for the LP manager."""

    def __init__(self, connection: redis.Redis) -> None:
        self._pubsub = connection.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        self._pubsub.subscribe(names.lp_quotes("YOFX1"))
        eventually(lambda: self._pubsub.subscribed)
        self.seen: list[LpPrice] = []

    def hear(self) -> list[LpPrice]:
        while (message := self._pubsub.get_message()) is not None:
            self.seen.append(decode(message["data"], LpPrice))
        return self.seen

    def of(self, symbol: str) -> list[tuple[str, str]]:
        return [(str(price.bid), str(price.ask)) for price in self.hear() if price.symbol == symbol]


def test_every_symbol_is_subscribed_at_every_logon_and_prices_pass_through(house: House, price: Provider) -> None:
    prices = Prices(house.redis)
    before_us = time.time_ns() // 1000
    house.start("price", price)
    eventually(lambda: len({seen.symbol for seen in prices.hear()}) == 9)
    assert prices.of("EURUSD") == [("1.08500", "1.08512")]
    assert all(before_us < seen.at_us <= time.time_ns() // 1000 for seen in prices.seen)
    price.send("35=X|268=1|279=1|278=|269=1|55=EUR/USD|270=1.08514|271=500000|".replace("278=|", ""))
    price.send(snapshot("GBP/XXX", "1", "2"))
    price.send(snapshot("EUR/USD", "0", "-1"))
    eventually(lambda: prices.of("EURUSD")[1:] == [("1.08500", "1.08514"), ("0", "-1")])
    price.hang_up()
    eventually(lambda: len(price.of_type("V")) == 18)
    eventually(lambda: len(prices.of("EURUSD")) == 4)


def test_a_published_configuration_changes_what_is_subscribed(house: House, price: Provider) -> None:
    house.start("price", price)
    eventually(lambda: len(price.of_type("V")) == 9)
    fewer = replace(config(), version=2, lps={"YOFX1": lp_settings("YOFX1", symbols=("EURUSD", "GBPUSD"))})
    publish(house.db, fewer)
    house.redis.publish(names.CONFIG, b"2")
    eventually(lambda: len(price.of_type("V")) == 16)
    first, later = price.of_type("V")[:9], price.of_type("V")[9:]
    assert {request[263] for request in later} == {"2"}
    asked = {request[262]: request[55] for request in first}
    assert all(asked[request[262]] == request[55] for request in later)
    assert {"EUR/USD", "GBP/USD"}.isdisjoint(request[55] for request in later)


def test_a_price_process_stops_when_told(house: House, price: Provider) -> None:
    process = house.start("price", price)
    eventually(lambda: price.is_logged_on)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert price.logouts == 1
    assert house.redis.hget(names.lp_state("YOFX1"), "price") == b"down"


# --------------------------------------------------------------------------------------------------------------- callbacks

CALLBACK = """
import threading
from fix_gateway.initiator import guarded
@guarded
def fromApp(): raise {error}
threading.Thread(target=fromApp).start()
threading.Event().wait(20)
"""


SENDING = """
import os, sys
from fix_gateway.initiator import Initiator
from fix_gateway.settings import session_file
from fix_gateway.wire.message import Outgoing
from tests.waiting import eventually

class Silent:
    def __getattr__(self, name):
        return lambda *arguments: None

line = Initiator("test", session_file("YOFX1", "trade", os.environ), Silent())
line.start()
eventually(lambda: line.is_logged_on, within_s=30)
for name, may_leave in (("first", True), ("late", False), ("second", True)):
    fields = ((11, name), (55, "EUR/USD"), (54, "1"), (38, "1000"), (40, "1"), (59, "3"))
    print(line.send(Outgoing(msg_type="D", fields=fields), lambda: may_leave).value, flush=True)
line.log_out()
os._exit(0)
"""


def test_what_may_not_leave_any_more_is_held_back_at_the_last_moment_and_leaves_no_gap(
    house: House, trade: Provider
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SENDING],
        env={**house.environment, "LPSIM_PORT_1": str(trade.port)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answers = [line for line in done.stdout.splitlines() if line in {"sent", "too_late", "unknown", "not_logged_on"}]
    assert answers == ["sent", "too_late", "sent"]
    assert [(order[11], order[34]) for order in trade.of_type("D")] == [("first", "2"), ("second", "3")]


@pytest.mark.parametrize("error", ["ValueError('x')", "SystemExit(0)", "KeyboardInterrupt"])
def test_whatever_escapes_a_callback_ends_the_process(error: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CALLBACK.format(error=error)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 70
