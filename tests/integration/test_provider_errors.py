"""What goes wrong at a provider, in a real PostgreSQL: booked once, kept, recovered as it was, and audited."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from msgspec import structs

from broker.invariants import violations
from engine.journal import Facts, NotCommittedError, with_facts
from engine.state import state_hash
from engine.step import Committed, Failure, ReportsTaken, Write
from tests.integration.test_journal import Shard, buy, check, connection, fill_of, one, say, shard
from trading.commands import ExpireOrders, LiftHalt, SettleLeg
from trading.liquidity import ExecutionReport, ReportKind, Settlement

Connection = psycopg.Connection[Any]

__all__ = ["connection", "shard"]


class Provider:
    """Says things about one order, each durable and applied before the next."""

    def __init__(self, shard: Shard, connection: Connection) -> None:
        self.shard, self.connection = shard, connection
        self.facts = Facts(shard.url)
        shard.do(buy(1, account=2))
        self.order = fill_of(shard, "E1", "1.08520")
        self.said = 0

    def say(self, **fields: Any) -> ExecutionReport:
        self.said += 1
        report = structs.replace(self.order, **fields)
        say(self.connection, report, self.said)
        assert self.shard.take_inbox(self.facts) == 1
        return report

    def say_anew(self, **fields: Any) -> ExecutionReport:
        """As after a restart: whatever was in memory comes from the database."""
        before = state_hash(self.shard.step.state)
        self.shard.recover()
        assert state_hash(self.shard.step.state) == before
        return self.say(**fields)


@pytest.fixture
def provider(shard: Shard, connection: Connection) -> Iterator[Provider]:
    provider = Provider(shard, connection)
    yield provider
    provider.facts.close()


def cases(connection: Connection) -> list[str]:
    return [kind for (kind,) in connection.execute("SELECT kind FROM lp_case ORDER BY id")]


def test_a_repetition_is_known_after_a_restart_by_the_database(provider: Provider, connection: Connection) -> None:
    provider.say()
    provider.say_anew()
    assert cases(connection) == []
    provider.say_anew(last_px=Decimal("1.08530"))
    provider.say_anew(cl_ord_id="T0-77")
    assert cases(connection) == ["conflicting_fill"] * 2
    assert one(connection, "SELECT count(*), sum(volume) FROM deal WHERE book = 'A'") == (1, Decimal("0.1"))
    check(connection)


def test_the_database_itself_holds_an_execution_once(provider: Provider, shard: Shard, connection: Connection) -> None:
    provider.say()
    connection.execute("UPDATE lp_order SET status = 'working'")
    found = list(connection.execute("SELECT * FROM lp_execution"))
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("INSERT INTO lp_execution SELECT * FROM lp_execution")
    assert len(found) == 1
    forgetful = shard.step.state.executions
    forgetful.clear()
    say(connection, structs.replace(provider.order, cl_ord_id="T0-77"), 2)
    (taken,) = provider.facts.reports({"YOFX1": 1}, 10)
    (write,) = shard.step.handle(ReportsTaken([taken], shard.step.now_us))
    assert isinstance(write, Write)
    with pytest.raises(NotCommittedError, match="lp_execution_pkey") as caught:
        shard.journal.write(write.batch)
    assert caught.value.failure is Failure.REFUSED


def test_the_error_account_survives_and_is_flattened(provider: Provider, shard: Shard, connection: Connection) -> None:
    provider.say(kind=ReportKind.CANCELED, exec_id="C1", last_qty=Decimal(0), last_px=Decimal(0))
    provider.say_anew(exec_id="L1")
    assert cases(connection) == ["late_fill"]
    own = "SELECT cl_ord_id, side, volume FROM lp_order WHERE order_id = 0 ORDER BY id DESC LIMIT 1"
    name, side, volume = one(connection, own)
    assert (side, volume) == ("sell", Decimal("0.1"))
    holding = shard.step.state.desk.errors[0]
    assert (holding.lp, holding.volume) == ("YOFX1", Decimal("0.1"))
    check(connection)
    provider.say_anew(exec_id="S1", cl_ord_id=name, side="sell", last_px=Decimal("1.08500"))
    assert shard.step.state.desk.errors == ()
    assert one(connection, "SELECT balance FROM ledger_balance WHERE account = 'house:error'") == Decimal(-2)
    reasons = "SELECT array_agg(reason ORDER BY id), array_agg(volume_after ORDER BY id) FROM error_fill"
    assert one(connection, reasons) == (["late_fill", "flattened"], [Decimal("0.1"), Decimal(0)])
    check(connection)


def test_excess_gap_and_halt_are_recovered(provider: Provider, shard: Shard, connection: Connection) -> None:
    provider.say(kind=ReportKind.STATUS, exec_id="0", cum_qty=Decimal(4000), ord_status="1", last_qty=Decimal(0))
    assert one(connection, "SELECT told_cum, gap_at IS NOT NULL, is_in_case FROM lp_order") == (
        Decimal("0.04"),
        True,
        False,
    )
    shard.made += 61_000_000
    shard.recover()
    shard.do(ExpireOrders(id="x", key="x"))
    assert cases(connection) == ["missed_fill"]
    provider.say_anew(last_qty=Decimal(15000))
    assert cases(connection) == ["missed_fill", "excess_fill"]
    assert one(connection, "SELECT status, gap_at, is_in_case FROM lp_order ORDER BY id LIMIT 1") == (
        "filled",
        None,
        False,
    )
    shard.recover()
    assert list(shard.step.state.desk.halts) == [("YOFX1", "EURUSD")]
    shard.do(LiftHalt(id="l", key="l", lp="YOFX1", symbol="EURUSD"))
    shard.recover()
    assert list(shard.step.state.desk.halts) == []
    check(connection)


def test_an_end_that_waits_is_recovered(provider: Provider, shard: Shard, connection: Connection) -> None:
    provider.say(kind=ReportKind.CANCELED, exec_id="C", cum_qty=Decimal(4000), last_qty=Decimal(0), text="over")
    provider.say_anew(last_qty=Decimal(4000), cum_qty=Decimal(4000))
    assert one(connection, "SELECT status, told_end, text FROM lp_order") == ("canceled", "canceled", "over")
    assert one(connection, "SELECT status, filled_volume FROM trade_order") == ("canceled", Decimal("0.04"))
    check(connection)


def test_busts_and_corrections_find_their_fill_in_the_database(
    provider: Provider, shard: Shard, connection: Connection
) -> None:
    provider.say()
    provider.say_anew(kind=ReportKind.CORRECT, exec_id="G1", exec_ref_id="E1", last_px=Decimal("1.08540"))
    provider.say_anew(kind=ReportKind.BUST, exec_id="B1", exec_ref_id="G1")
    provider.say_anew(kind=ReportKind.BUST, exec_id="B2", exec_ref_id="E1")
    provider.say_anew(kind=ReportKind.BUST, exec_id="B3", exec_ref_id="unknown")
    assert cases(connection) == ["corrected_fill", "busted_fill", "unmatched_bust", "unmatched_bust"]
    assert [(holding.volume, holding.cost) for holding in shard.step.state.desk.errors] == [
        (Decimal("-0.1"), Decimal("-0.1") * Decimal("1.08540"))
    ]
    check(connection)


CORRECTED: dict[str, Any] = {
    "kind": ReportKind.CORRECT,
    "exec_id": "G1",
    "exec_ref_id": "E1",
    "last_px": Decimal("1.08540"),
}
AGAIN: dict[str, Any] = {
    "kind": ReportKind.CORRECT,
    "exec_id": "G2",
    "exec_ref_id": "G1",
    "last_px": Decimal("1.08560"),
}
TAKEN_BACK: dict[str, Any] = {"kind": ReportKind.BUST, "exec_id": "B1", "exec_ref_id": "G2"}


def test_a_bust_of_a_correction_that_came_with_it_finds_the_fill_of_long_ago(
    provider: Provider, shard: Shard, connection: Connection
) -> None:
    """The correction is not stored yet, so nothing in the database leads from the bust to the fill, nor is it in memory."""
    provider.say()
    shard.recover()
    for number, said in enumerate((CORRECTED, AGAIN, TAKEN_BACK), start=2):
        say(connection, structs.replace(provider.order, **said), number)
    assert shard.take_inbox(provider.facts) == 3
    assert cases(connection) == ["corrected_fill", "corrected_fill", "busted_fill"]
    assert [holding.volume for holding in shard.step.state.desk.errors] == [Decimal("-0.1")]
    check(connection)


def test_a_bust_of_a_correction_that_is_being_stored_finds_the_fill_of_long_ago(
    provider: Provider, shard: Shard, connection: Connection
) -> None:
    provider.say()
    shard.recover()
    for number, said in enumerate((CORRECTED, AGAIN), start=2):
        say(connection, structs.replace(provider.order, **said), number)
    first = with_facts(provider.facts.reports({"YOFX1": 1}, 10), provider.facts, shard.step)
    (write,) = shard.step.handle(ReportsTaken(first, shard.step.now_us))
    say(connection, structs.replace(provider.order, **TAKEN_BACK), 4)
    second = with_facts(provider.facts.reports({"YOFX1": 3}, 10), provider.facts, shard.step)
    assert shard.step.handle(ReportsTaken(second, shard.step.now_us)) == [], "the first batch is not durable yet"
    assert isinstance(write, Write)
    shard.journal.write(write.batch)
    *_, next_write = shard.step.handle(Committed(write.batch.seq))
    assert isinstance(next_write, Write)
    shard.settle(next_write.batch)
    assert cases(connection) == ["corrected_fill", "corrected_fill", "busted_fill"]
    check(connection)


def test_what_the_desk_settles_is_a_fill_like_any_other(
    provider: Provider, shard: Shard, connection: Connection
) -> None:
    provider.say(kind=ReportKind.UNRESOLVED, exec_id="")
    people: dict[str, Any] = {"actor": "staff:1", "approved_by": "staff:2", "reference": "mail"}
    shard.do(
        SettleLeg(
            id="s", key="s", cl_ord_id=provider.order.cl_ord_id, outcome=Settlement.FILLED, quantity=Decimal(10000),
            price=Decimal("1.08520"), **people,
        )
    )  # fmt: skip
    assert one(connection, "SELECT status FROM trade_order") == "filled"
    provider.say_anew()
    assert cases(connection) == ["unresolved_order", "conflicting_fill"]
    assert shard.step.state.desk.errors == ()
    check(connection)


def test_a_fill_of_an_order_whose_settlement_is_being_stored_is_not_booked_again(
    provider: Provider, shard: Shard, connection: Connection
) -> None:
    """The database still shows the order at work; that it was settled is known to memory alone."""
    provider.say(kind=ReportKind.UNRESOLVED, exec_id="")
    batch = shard.decide(
        SettleLeg(
            id="s", key="s", cl_ord_id=provider.order.cl_ord_id, outcome=Settlement.FILLED, quantity=Decimal(6000),
            price=Decimal("1.08520"), reference="mail", actor="staff:1", approved_by="staff:2",
        )
    )  # fmt: skip
    say(connection, structs.replace(provider.order, last_qty=Decimal(6000)), 2)
    late = with_facts(provider.facts.reports({"YOFX1": 1}, 10), provider.facts, shard.step)
    assert shard.step.handle(ReportsTaken(late, shard.step.now_us)) == [], "the settlement is not durable yet"
    shard.journal.write(batch)
    *_, write = shard.step.handle(Committed(batch.seq))
    assert isinstance(write, Write)
    shard.settle(write.batch)
    assert cases(connection) == ["unresolved_order", "conflicting_fill"]
    assert shard.step.state.desk.errors == ()
    assert one(connection, "SELECT sum(volume) FROM deal WHERE book = 'A'") == Decimal("0.06")
    check(connection)


HURTS = {
    "a holding from nowhere": ("DELETE FROM error_fill", "I7: the house holds"),
    "a loss that was not booked": (
        "UPDATE error_fill SET result = result - 1 WHERE reason = 'flattened'",
        "I7: the error",
    ),
    "a fill of nobody": ("DELETE FROM error_fill WHERE reason = 'late_fill'", "I5: YOFX1 fill L1 over"),
    "a fill that counts more": (
        "UPDATE lp_execution SET volume = volume + 1 WHERE exec_id = 'L1'",
        "I5: YOFX1 fill L1",
    ),
}


@pytest.mark.parametrize("name", HURTS)
def test_a_hurt_is_found_and_named(provider: Provider, connection: Connection, name: str) -> None:
    provider.say(kind=ReportKind.CANCELED, exec_id="C1", last_qty=Decimal(0), last_px=Decimal(0))
    provider.say(exec_id="L1")
    (own,) = connection.execute("SELECT cl_ord_id FROM lp_order WHERE order_id = 0").fetchone() or ("",)
    provider.say(exec_id="S1", cl_ord_id=own, side="sell", last_px=Decimal("1.08500"), last_qty=Decimal(4000))
    assert violations(connection) == []
    for table in ("lp_execution", "error_fill"):
        connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
    statement, told = HURTS[name]
    assert connection.execute(statement.encode()).rowcount > 0
    assert told in "\n".join(violations(connection))
