"""Batches in a real PostgreSQL: exactly once, fenced, all or nothing, and back into memory as they were."""

import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from msgspec import structs

from bus.codec import encode
from bus.store import load_config
from engine import lease
from engine.batch import Batch
from engine.journal import JOURNAL_NAME, Facts, Journal, NotCommittedError, OutcomeUnknownError, connect, with_facts
from engine.lease import FencedError, HaltedError, take_over
from engine.recovery import recover
from engine.state import Prior, state_hash
from engine.step import CommandsTaken, Committed, Failure, QuotesTaken, ReportsTaken, Step, Stopping, Taken, Write
from tests import invariants
from tests.support.builders import CURRENCY_DIGITS, NOW_US, config, eurusd, group, quote
from trading.accounts import ClientClass
from trading.commands import (
    AnyCommand,
    CloseBy,
    ClosePosition,
    ClosePositions,
    CorrectDeal,
    Deposit,
    OpenAccount,
    PlaceOrder,
    ReloadConfig,
    RequestWithdrawal,
    SettleWithdrawal,
    SplitInstrument,
)
from trading.liquidity import ExecutionReport, LegStatus, ReportKind
from trading.margining.terms import Accounting, MarginPolicy
from trading.orders import OrderType, Side

Connection = psycopg.Connection[Any]
NAME = "00000000-0000-7000-8000-{:012d}"


class Shard:
    """A step and a journal on one database, driven by hand."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.step = Step()
        self.journal = Journal(url)
        self.made = 0
        self.recover()

    def recover(self) -> None:
        with connect(self.url, name="test") as connection:
            self.step.handle(recover(connection, 0))
        self.step.handle(QuotesTaken([eurusd("1.08510"), quote("GBPUSD", "1.25000"), quote("USDJPY", "150.000")]))

    def decide(self, *commands: AnyCommand) -> Batch:
        taken = []
        for command in commands:
            self.made += 1
            taken.append(Taken(command, f"{self.made}-0"))
        (write,) = self.step.handle(CommandsTaken(taken, NOW_US + self.made, "life"))
        assert isinstance(write, Write)
        return write.batch

    def settle(self, batch: Batch) -> None:
        self.journal.write(batch)
        self.step.handle(Committed(batch.seq))

    def do(self, *commands: AnyCommand) -> Batch:
        batch = self.decide(*commands)
        self.settle(batch)
        return batch

    def take_inbox(self, facts: Facts) -> int:
        """Apply what the providers said since; how many rows that were."""
        reports = facts.reports({lp: self.step.state.inbox_cursors.get(lp, 0) for lp in facts.inbox_lps()}, 256)
        ready = with_facts(reports, facts, self.step)
        outputs = self.step.handle(ReportsTaken(ready, NOW_US + self.made))
        for output in outputs:
            assert isinstance(output, Write)
            self.settle(output.batch)
        return len(reports)


@pytest.fixture
def connection(house_database: str) -> Iterator[Connection]:
    with psycopg.connect(house_database, autocommit=True) as connection:
        connection.execute("INSERT INTO config_version VALUES (1, %s, now(), 'test')", (encode(config()).decode(),))
        yield connection


@pytest.fixture
def shard(house_database: str, connection: Connection) -> Iterator[Shard]:
    """Configured, with a retail account 1 and a professional account 2, both funded."""
    shard = Shard(house_database)
    reload = ReloadConfig(id="config:1", key="config:1", version=1, config=load_config(connection))
    shard.do(reload, *opened(1), *opened(2, group="pro", client_class=ClientClass.PROFESSIONAL))
    yield shard
    shard.journal.close()


def opened(number: int, **terms: object) -> tuple[AnyCommand, AnyCommand]:
    fields = {"group": "retail", "currency": "USD", "leverage": 30, **terms}
    return (
        OpenAccount(id=f"open-{number}", key=f"open-{number}", account=number, **fields),  # type: ignore[arg-type]
        deposit(f"deposit-{number}", number),
    )


def deposit(name: str, account: int = 1, amount: str = "100000.00") -> Deposit:
    return Deposit(id=name, key=name, account=account, amount=Decimal(amount), reference="wire \\ 1\t2")


def buy(number: int, *, account: int = 1, volume: str = "0.10", side: Side = Side.BUY) -> PlaceOrder:
    name = f"00000000-0000-7000-8000-{number:012d}"
    return PlaceOrder(
        id=name, key=name, account=account, symbol="EURUSD", side=side, volume=Decimal(volume), comment="a\tb\\c\nd"
    )


def close(number: int, position_id: int, volume: str | None = None, *, account: int = 1) -> ClosePosition:
    name = f"00000000-0000-7000-8000-{number:012d}"
    lots = None if volume is None else Decimal(volume)
    return ClosePosition(id=name, key=name, account=account, position_id=position_id, volume=lots)


def one(connection: Connection, query: str, *parameters: object) -> Any:
    row = connection.execute(query.encode(), parameters).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def check(connection: Connection) -> None:
    assert invariants.violations(connection) == []
    assert invariants.money_has_its_currencys_digits(connection, CURRENCY_DIGITS) == []


def say(connection: Connection, report: ExecutionReport, seq: int) -> None:
    connection.execute(
        "INSERT INTO lp_inbox (lp, seq, kind, cl_ord_id, exec_id, trade_date, report, raw, received_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, '', now())",
        (report.lp, seq, report.kind, report.cl_ord_id, report.exec_id, report.trade_date, encode(report).decode()),
    )


def fill_of(shard: Shard, exec_id: str, price: str, quantity: Decimal | None = None) -> ExecutionReport:
    (leg,) = shard.step.state.legs.values()
    return ExecutionReport(
        lp=leg.lp,
        kind=ReportKind.FILL,
        cl_ord_id=leg.cl_ord_id,
        exec_id=exec_id,
        trade_date="20231114",
        side=leg.side,
        lp_symbol=leg.lp_symbol,
        last_qty=leg.quantity if quantity is None else quantity,
        last_px=Decimal(price),
    )


# --- Rows ---------------------------------------------------------------------------------------------------------------


def test_a_house_fill_is_stored_whole_and_text_survives_as_it_was(shard: Shard, connection: Connection) -> None:
    shard.do(buy(1))
    assert one(connection, "SELECT status, comment, book, filled_volume FROM trade_order") == (
        "filled",
        "a\tb\\c\nd",
        "B",
        Decimal("0.1"),
    )
    assert one(connection, "SELECT price, profit, commission FROM deal") == (Decimal("1.08522"), 0, Decimal("0.35"))
    assert one(connection, "SELECT reference FROM ledger_transfer WHERE kind = 'deposit' LIMIT 1") == "wire \\ 1\t2"
    assert one(connection, "SELECT decision ->> 'rule_name' FROM routing_decision") == "everyone else"
    assert one(connection, "SELECT count(*) FROM engine_key") == 6
    check(connection)


def test_open_partial_close_and_close_over_several_batches(shard: Shard, connection: Connection) -> None:
    shard.do(buy(1), buy(2, side=Side.SELL))
    shard.do(close(3, 1, "0.04"))
    shard.do(close(4, 1), close(5, 2))
    assert one(connection, "SELECT count(*) FILTER (WHERE volume = 0), sum(margin) FROM position") == (2, 0)
    assert one(connection, "SELECT sum(profit) < 0, sum(commission) FROM deal") == (True, Decimal("1.40"))
    check(connection)


def test_an_a_order_becomes_a_leg_for_its_provider_and_its_fill_a_deal(shard: Shard, connection: Connection) -> None:
    shard.do(buy(1, account=2))
    assert one(connection, "SELECT status, dispatch_state, epoch, quantity FROM lp_order") == (
        "working",
        "new",
        1,
        10000,
    )
    say(connection, fill_of(shard, "E1", "1.08520"), 1)
    facts = Facts(shard.url)
    assert shard.take_inbox(facts) == 1
    assert one(connection, "SELECT status, exec_ids FROM lp_order") == ("filled", ["20231114/E1"])
    assert one(connection, "SELECT status FROM trade_order") == "filled"
    assert one(connection, "SELECT lp, exec_id, lp_price, book FROM deal") == ("YOFX1", "E1", Decimal("1.08520"), "A")
    assert shard.take_inbox(facts) == 0
    facts.close()
    check(connection)


def test_a_limit_that_comes_back_from_its_provider_is_routed_again(shard: Shard, connection: Connection) -> None:
    shard.do(structs.replace(buy(1, account=2), type=OrderType.LIMIT, price=Decimal("1.08600")))
    canceled = structs.replace(fill_of(shard, "C1", "0"), kind=ReportKind.CANCELED)
    say(connection, canceled, 1)
    facts = Facts(shard.url)
    assert shard.take_inbox(facts) == 1
    facts.close()
    assert one(connection, "SELECT status FROM trade_order") == "new"
    (write,) = shard.step.handle(QuotesTaken([eurusd("1.08500")], NOW_US + shard.made))
    assert isinstance(write, Write)
    shard.settle(write.batch)
    assert one(connection, "SELECT count(*) FROM lp_order") == 2
    assert one(connection, "SELECT count(*) FROM routing_decision") == 1
    check(connection)


def test_a_pair_closed_by_each_other_a_reversal_and_orders_that_cancel_each_other_are_stored(
    shard: Shard, connection: Connection
) -> None:
    """With a netting account beside them; and what is half done when the memory is lost goes on as it was."""
    groups = {**config().groups, "net": group("net", margin=MarginPolicy(accounting=Accounting.NETTING))}
    second = config(version=2, groups=groups)
    connection.execute("INSERT INTO config_version VALUES (2, %s, now(), 'test')", (encode(second).decode(),))
    shard.do(
        ReloadConfig(id="config:2", key="config:2", version=2, config=load_config(connection)),
        *opened(3, group="net", client_class=ClientClass.PROFESSIONAL),
    )
    shard.do(buy(1), buy(2, side=Side.SELL, volume="0.07"))
    shard.do(CloseBy(id=NAME.format(3), key="pair", account=1, position_id=1, by_position_id=2))
    assert one(connection, "SELECT array_agg(entry ORDER BY id), sum(commission) FROM deal WHERE order_id > 2") == (
        ["out_by", "out_by"],
        0,
    )
    far = {"type": OrderType.LIMIT, "price": Decimal("1.00000"), "oco_group": "either"}
    shard.do(structs.replace(buy(4), **far), structs.replace(buy(5), oco_group="either"))
    assert one(connection, "SELECT status, detail FROM trade_order WHERE oco_group <> '' ORDER BY id LIMIT 1") == (
        "canceled",
        "order 6 of the group either was dealt",
    )
    shard.do(buy(6, account=3))
    facts = Facts(shard.url)
    say(connection, fill_of(shard, "E1", "1.08520"), 1)
    shard.take_inbox(facts)
    shard.do(buy(7, account=3, side=Side.SELL, volume="0.25"))
    say(connection, fill_of(shard, "E2", "1.08510", Decimal(4000)), 2)
    shard.take_inbox(facts)
    live = state_hash(shard.step.state)
    shard.recover()
    assert state_hash(shard.step.state) == live
    assert shard.step.state.nets.dealing == {(3, "EURUSD"): {8}}
    say(connection, fill_of(shard, "E3", "1.08510", Decimal(6000)), 3)
    shard.take_inbox(facts)
    say(connection, fill_of(shard, "E4", "1.08500"), 4)
    shard.take_inbox(facts)
    assert one(connection, "SELECT side, volume, lp FROM position WHERE account = 3 AND volume > 0") == (
        "sell",
        Decimal("0.15"),
        "YOFX1",
    )
    assert one(connection, "SELECT status, netted, closes FROM trade_order WHERE id = 8") == (
        "filled",
        Decimal("0.10"),
        False,
    )
    shard.do(ClosePositions(id=NAME.format(8), key="out", account=1))
    assert one(connection, "SELECT count(*) FROM position WHERE account = 1 AND volume > 0") == 0
    check(connection)
    facts.close()


def test_rows_of_the_inbox_after_a_gap_wait(shard: Shard, connection: Connection) -> None:
    shard.do(buy(1, account=2))
    say(connection, fill_of(shard, "E1", "1.08520"), 2)
    facts = Facts(shard.url)
    assert shard.take_inbox(facts) == 0
    assert [(gap.lp, gap.wanted, gap.found) for gap in facts.gaps] == [("YOFX1", 1, 2)]
    facts.close()


def test_facts_know_old_keys_and_ended_legs(shard: Shard, connection: Connection) -> None:
    shard.do(buy(1, account=2))
    report = fill_of(shard, "E1", "1.08520")
    say(connection, report, 1)
    facts = Facts(shard.url)
    shard.take_inbox(facts)
    keys = facts.keys([(2, buy(1).key), (2, "never used"), (1, "deposit-1")])
    assert {key: record.kind for key, record in keys.items()} == {
        (2, buy(1).key): "PlaceOrder",
        (1, "deposit-1"): "Deposit",
    }
    legs = facts.legs([report.cl_ord_id, "unknown"])
    assert [(leg.status, leg.exec_ids, leg.created_us) for leg in legs.values()] == [
        (LegStatus.FILLED, ("20231114/E1",), NOW_US + 6)
    ]
    assert facts.newest_version() == 1
    facts.close()


# --- All or nothing -----------------------------------------------------------------------------------------------------


def test_an_older_epoch_finds_no_row_and_leaves_nothing(shard: Shard, connection: Connection) -> None:
    batch = shard.decide(buy(1))
    take_over(connection, 0, owned=None)
    with pytest.raises(NotCommittedError) as caught:
        shard.journal.write(batch)
    assert caught.value.failure is Failure.FENCED
    assert one(connection, "SELECT count(*) FROM trade_order") == 0
    check(connection)


def test_a_halted_shard_takes_no_batch_until_it_is_cleared(shard: Shard, connection: Connection) -> None:
    batch = shard.decide(buy(1))
    connection.execute("UPDATE shard SET halted = 'the books do not add up'")
    with pytest.raises(NotCommittedError, match="the books do not add up") as caught:
        shard.journal.write(batch)
    assert caught.value.failure is Failure.HALTED
    assert one(connection, "SELECT count(*) FROM trade_order") == 0
    connection.execute("UPDATE shard SET halted = ''")
    shard.journal.write(batch)
    check(connection)


def test_a_shard_that_is_somebody_elses_is_not_ours_to_halt(shard: Shard, connection: Connection) -> None:
    take_over(connection, 0, owned=1)
    assert not shard.journal.halt("a reason", epoch=1)
    assert one(connection, "SELECT halted FROM shard") == ""


def test_every_batch_renews_the_lease(shard: Shard, connection: Connection) -> None:
    connection.execute("UPDATE shard SET lease_until = now()")
    shard.do(buy(1))
    assert one(connection, "SELECT lease_until > now() + interval '4 seconds' FROM shard")


def test_a_batch_is_not_written_twice(shard: Shard) -> None:
    batch = shard.do(buy(1))
    with pytest.raises(NotCommittedError) as caught:
        shard.journal.write(batch)
    assert caught.value.failure is Failure.FENCED


def test_rows_that_postgresql_refuses_take_the_whole_batch_with_them(shard: Shard, connection: Connection) -> None:
    good, bad = buy(1), PlaceOrder(**{**fields_of(buy(2)), "comment": "nul \0"})
    batch = shard.decide(good, bad)
    with pytest.raises(NotCommittedError) as caught:
        shard.journal.write(batch)
    assert caught.value.failure is Failure.REFUSED
    assert one(connection, "SELECT count(*) FROM trade_order") == 0
    assert one(connection, "SELECT seq FROM shard") == 1


def fields_of(command: AnyCommand) -> dict[str, Any]:
    return {name: getattr(command, name) for name in command.__struct_fields__}


def test_a_row_that_should_exist_and_does_not_is_a_contradiction(shard: Shard, connection: Connection) -> None:
    shard.do(buy(1))
    connection.execute("DELETE FROM position")
    batch = shard.decide(close(2, 1))
    with pytest.raises(NotCommittedError) as caught:
        shard.journal.write(batch)
    assert caught.value.failure is Failure.DIVERGED


def test_a_lock_that_somebody_holds_is_lost_time_and_not_a_refusal(shard: Shard, connection: Connection) -> None:
    shard.journal.write(batch := shard.decide(buy(1)))
    shard.step.handle(Committed(batch.seq))
    batch = shard.decide(buy(2))
    shard.journal._open().execute("SET lock_timeout = '50ms'")
    with connection.transaction():
        connection.execute("LOCK TABLE deal IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(NotCommittedError) as caught:
            shard.journal.write(batch)
    assert caught.value.failure is Failure.LOST
    shard.journal.write(batch)
    check(connection)


def test_a_connection_killed_between_batches_is_replaced(shard: Shard, connection: Connection) -> None:
    shard.do(buy(1))
    pid = shard.journal._open().info.backend_pid
    connection.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    batch = shard.decide(buy(2))
    with pytest.raises(NotCommittedError) as caught:
        shard.journal.write(batch)
    assert caught.value.failure is Failure.LOST
    shard.journal.write(batch)


class CutAtCommit:
    """The journal's own connection, losing its server at the moment COMMIT is said: after it was done, or instead."""

    def __init__(self, real: Any, killer: Connection, *, after: bool) -> None:
        self._real, self._killer, self._after = real, killer, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def execute(self, query: Any, *parameters: Any, **options: Any) -> Any:
        if query == "COMMIT":
            if self._after:
                self._real.execute(query)
            self._killer.execute("SELECT pg_terminate_backend(%s, 5000)", (self._real.info.backend_pid,))
        return self._real.execute(query, *parameters, **options)


@pytest.mark.parametrize("after", [True, False])
def test_an_unknown_commit_is_settled_by_the_batch_row(shard: Shard, connection: Connection, after: bool) -> None:
    batch = shard.decide(buy(1))
    shard.journal._connection = CutAtCommit(shard.journal._open(), connection, after=after)  # type: ignore[assignment]
    with pytest.raises(OutcomeUnknownError):
        shard.journal.write(batch)
    assert shard.journal.look_up(epoch=batch.epoch, seq=batch.seq) is after
    assert shard.journal.look_up(epoch=batch.epoch + 1, seq=batch.seq) is False
    assert one(connection, "SELECT count(*) FROM trade_order") == int(after)
    check(connection)


def test_the_look_up_waits_for_the_transaction_it_asks_about(shard: Shard, house_database: str) -> None:
    """A backend that still works on the COMMIT holds the shard's row: until it ends, there is no answer to give."""
    batch = shard.decide(buy(1))
    answers: list[bool] = []
    with psycopg.connect(house_database) as slow:
        slow.execute("UPDATE shard SET seq = %s", (batch.seq,))
        slow.execute(
            "INSERT INTO engine_batch SELECT shard, %s, epoch, stream_incarnation, stream_id, inbox_cursors, "
            "config_version, counters, outbox_seq, commands, inputs, state_hash, at FROM engine_batch",
            (batch.seq,),
        )
        asking = threading.Thread(
            target=lambda: answers.append(shard.journal.look_up(epoch=batch.epoch, seq=batch.seq))
        )
        asking.start()
        with psycopg.connect(house_database, autocommit=True) as watch:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not one(watch, waiting):
                assert asking.is_alive()
        assert answers == []
        slow.commit()
    asking.join(60)
    assert answers == [True]


# --- Money and corrections ----------------------------------------------------------------------------------------------


def test_withdrawals_that_wait_are_found_in_the_ledger(shard: Shard, connection: Connection) -> None:
    shard.do(*(RequestWithdrawal(id=f"w{n}", key=f"w{n}", account=1, amount=Decimal(100 + n)) for n in range(3)))
    paid, returned, waiting = shard.step.state.withdrawals
    shard.do(
        SettleWithdrawal(id="s1", key="s1", transaction_id=paid, is_paid=True, reference="wire 9"),
        SettleWithdrawal(id="s2", key="s2", account=1, transaction_id=returned, is_paid=False),
    )
    with connect(shard.url, name="test") as fresh:
        recovered = recover(fresh, 0)
    assert list(recovered.state.withdrawals) == [waiting]
    assert state_hash(recovered.state) == state_hash(shard.step.state)
    check(connection)


def correct(number: int, deal: int, price: str | None = None) -> CorrectDeal:
    return CorrectDeal(
        id=f"correct-{number}",
        key=f"correct-{number}",
        deal_id=deal,
        price=None if price is None else Decimal(price),
        actor="staff:1",
        approved_by="staff:2",
    )


def test_a_closing_is_undone_from_what_the_database_remembers(shard: Shard, connection: Connection) -> None:
    shard.do(buy(1), close(2, 1, "0.03"), close(3, 1))
    with connect(shard.url, name="test") as fresh:
        shard.step.handle(recover(fresh, 0))  # memory knows nothing of it any more
    facts = Facts(shard.url)
    deals, position = facts.history(3)
    facts.close()
    assert [deal.id for deal in deals] == [1, 2, 3]
    shard.step.handle(QuotesTaken([eurusd("1.08510")]))
    taken = Taken(correct(4, 3), "90-0", Prior(deals=deals, position=position))
    (write,) = shard.step.handle(CommandsTaken([taken], NOW_US + 90, "life"))
    assert isinstance(write, Write)
    shard.settle(write.batch)
    assert one(connection, "SELECT volume, volume_opened FROM position") == (Decimal("0.07"), Decimal("0.10"))
    check(connection)
    with connect(shard.url, name="test") as fresh:
        assert state_hash(recover(fresh, 0).state) == state_hash(shard.step.state)


def test_a_deal_that_is_not_committed_yet_can_be_corrected_once(shard: Shard, connection: Connection) -> None:
    """The database knows neither the deal nor its first correction; the batch that is being made does."""
    first, again = correct(2, 1, "1.08622"), correct(3, 1)
    batch = shard.decide(buy(1), first, again)
    shard.settle(batch)
    assert one(connection, "SELECT cost FROM position") == Decimal("0.108622")
    assert one(connection, "SELECT count(*) FROM engine_key WHERE kind = 'CorrectDeal'") == 1
    check(connection)


def test_deals_before_a_split_are_in_other_units(shard: Shard, connection: Connection) -> None:
    shard.do(buy(1))
    shard.do(SplitInstrument(id="split", key="split", symbol="EURUSD", new=2, old=1))
    assert one(connection, "SELECT volume, volume_opened FROM position") == (Decimal("0.2"), Decimal("0.2"))
    check(connection)
    with connect(shard.url, name="test") as fresh:
        recovered = recover(fresh, 0)
    assert recovered.state.desk == shard.step.state.desk
    assert state_hash(recovered.state) == state_hash(shard.step.state)


# --- Back into memory ---------------------------------------------------------------------------------------------------


def test_the_rebuilt_state_hashes_as_the_live_one(shard: Shard, connection: Connection) -> None:
    shard.do(buy(1), buy(2, side=Side.SELL, volume="0.37"), buy(3, account=2), buy(4, volume="2.50"))
    shard.do(close(5, 1, "0.03"))
    live = state_hash(shard.step.state)
    assert len(shard.step.state.legs) == 2
    with connect(shard.url, name="test") as fresh:
        recovered = recover(fresh, 0)
    assert invariants.rebuilt_equals_live(state_hash(recovered.state), live) == []
    assert (recovered.epoch, recovered.seq, recovered.position.id) == (2, 3, f"{shard.made}-0")
    assert recovered.at_us == shard.step.now_us


def test_decisions_after_a_rebuild_are_the_same_bytes(shard: Shard) -> None:
    shard.do(buy(1), buy(2, account=2))
    with connect(shard.url, name="test") as fresh:
        recovered = recover(fresh, 0)
    rebuilt = Step()
    rebuilt.handle(recovered)
    rebuilt.handle(QuotesTaken(list(shard.step.state.quotes.values())))
    commands = [Taken(close(3, 1, "0.04"), "99-0"), Taken(buy(4), "100-0")]
    batches = []
    for step in (shard.step, rebuilt):
        (write,) = step.handle(CommandsTaken(commands, NOW_US + 50, "life"))
        assert isinstance(write, Write)
        batches.append(write.batch)
    assert encode(batches[0].events) == encode(batches[1].events)
    assert batches[0].told == batches[1].told


def test_the_last_batch_of_a_stop_carries_a_hash_that_recovery_checks(shard: Shard, connection: Connection) -> None:
    shard.do(buy(1))
    (write,) = shard.step.handle(Stopping(NOW_US + 100))
    assert isinstance(write, Write)
    shard.settle(write.batch)
    with connect(shard.url, name="test") as fresh:
        recover(fresh, 0)
        connection.execute("UPDATE account SET leverage = 29 WHERE id = 1")
        with pytest.raises(HaltedError, match="does not hash"):
            recover(fresh, 0)


def test_a_halted_shard_is_not_taken_over(shard: Shard, connection: Connection) -> None:
    assert shard.journal.halt("a reason", epoch=1)
    with pytest.raises(HaltedError, match="a reason"):
        take_over(connection, 0, owned=None)
    assert one(connection, "SELECT epoch FROM shard") == 1


def test_a_shard_is_taken_again_only_from_oneself(shard: Shard, connection: Connection) -> None:
    assert take_over(connection, 0, owned=1) == (2, 1)
    with pytest.raises(FencedError):
        take_over(connection, 0, owned=1)
    assert one(connection, "SELECT epoch FROM shard") == 2


def test_an_owner_that_stands_still_in_the_middle_of_a_copy_is_ended(
    shard: Shard, house_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the shard's row, and the server's idle time-outs do not count a COPY as idle."""
    monkeypatch.setattr(lease, "STUCK_AFTER", "0 seconds")
    epoch = shard.step.epoch
    stuck = connect(house_database, name=JOURNAL_NAME)
    stuck.execute("BEGIN")
    stuck.execute("UPDATE shard SET seq = seq + 1 WHERE shard = 0")
    copying = stuck.cursor().copy("COPY deal FROM STDIN")
    copying.__enter__()
    with connect(house_database, name="the next owner") as fresh:
        recovered = recover(fresh, 0)
    assert (recovered.epoch, recovered.seq) == (epoch + 1, shard.step.seq)
    with pytest.raises(psycopg.OperationalError):
        copying.__exit__(None, None, None)


def test_an_empty_database_gives_an_empty_shard(house_database: str) -> None:
    with connect(house_database, name="test") as fresh:
        recovered = recover(fresh, 0)
    assert (recovered.epoch, recovered.seq, recovered.state.config) == (1, 0, None)


def test_a_configuration_that_is_not_there_is_said(house_database: str) -> None:
    with psycopg.connect(house_database) as empty, pytest.raises(LookupError, match="published"):
        load_config(empty)
