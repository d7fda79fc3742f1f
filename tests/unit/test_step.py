"""The loop's reasoning, without threads or a database: what is written, told, thrown away and parked, and when."""

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from engine import step as step_module
from engine.batch import Batch, StreamPosition
from engine.core import Executed, Prior
from engine.core import execute as execute_command
from engine.state import KeyRecord, State, state_hash
from engine.step import (
    Ack,
    Clock,
    CommandsTaken,
    CommitFailed,
    Committed,
    CommitUnknown,
    Failure,
    Fenced,
    Finished,
    Forget,
    Halt,
    LookUp,
    Nudge,
    Output,
    Publish,
    QuotesTaken,
    Rebuild,
    Recovered,
    ReportsTaken,
    Step,
    Stopping,
    Taken,
    Unreadable,
    Write,
)
from tests.support.builders import NOW_US, config, eurusd, quote
from tests.support.replay import replayed
from trading.accounts import ClientClass
from trading.commands import AnyCommand, ApplyExecution, Deposit, OpenAccount, PlaceOrder
from trading.events import CaseOpened
from trading.liquidity import ExecutionReport, ReportKind
from trading.orders import OrderType, Side


class Shard:
    """A step and the little world it needs: what was committed, and the stream it can read again."""

    def __init__(self, *, batch_max: int = 256) -> None:
        self.step = Step(batch_max=batch_max)
        self.committed: list[Batch] = []
        self.outputs: list[Output] = []
        self.made = 0
        self.step.handle(Recovered(State(0, config()), 1, 0, StreamPosition(), NOW_US))
        self.step.handle(QuotesTaken([eurusd("1.08510"), quote("GBPUSD", "1.25000"), quote("USDJPY", "150.000")]))

    def give(self, *commands: AnyCommand, at_us: int = NOW_US) -> list[Output]:
        taken = []
        for command in commands:
            self.made += 1
            taken.append(Taken(command, f"{self.made}-0"))
        return self.hear(CommandsTaken(taken, at_us, "life"))

    def report(self, report: ExecutionReport, seq: int, prior: Prior | None = None) -> list[Output]:
        name = f"inbox:{report.lp}:{seq}"
        command = ApplyExecution(id=name, key=name, inbox_seq=seq, report=report)
        return self.hear(ReportsTaken([Taken(command, "", prior or Prior())], NOW_US))

    def hear(self, message: step_module.StepInput) -> list[Output]:
        outputs = self.step.handle(message)
        self.outputs += outputs
        return outputs

    def commit(self) -> list[Output]:
        batch = self.step.in_flight
        assert batch is not None
        self.committed.append(batch)
        return self.hear(Committed(batch.seq))

    def commit_all(self) -> None:
        while self.step.in_flight is not None:
            self.commit()

    def fail(self, failure: Failure) -> list[Output]:
        assert self.step.in_flight is not None
        return self.hear(CommitFailed(self.step.in_flight.seq, "it broke", failure))

    def recover(self) -> None:
        """As from the database: what was committed and nothing else."""
        state, _ = replayed(self.committed, config())
        state.quotes.clear()
        last = self.committed[-1] if self.committed else None
        position = last.position if last else StreamPosition()
        self.made = int(position.id.partition("-")[0])
        self.hear(Recovered(state, self.step.epoch + 1, last.seq if last else 0, position, last.at_us if last else 0))


def open_account(number: int = 1, **terms: object) -> OpenAccount:
    fields = {"group": "retail", "currency": "USD", "leverage": 30, **terms}
    return OpenAccount(id=f"open-{number}", key=f"open-{number}", account=number, reply_to="door", **fields)  # type: ignore[arg-type]


def deposit(name: str, amount: str = "10000.00", account: int = 1) -> Deposit:
    return Deposit(id=name, key=name, account=account, amount=Decimal(amount), reply_to="door")


def buy(name: str, volume: str = "0.10", account: int = 1) -> PlaceOrder:
    return PlaceOrder(
        id=name,
        key=name,
        account=account,
        symbol="EURUSD",
        side=Side.BUY,
        volume=Decimal(volume),
        reply_to="door",
    )


def kinds(outputs: list[Output]) -> list[str]:
    return [type(output).__name__ for output in outputs]


def answered(outputs: list[Output]) -> list[tuple[str, str]]:
    return [(a.command_id, a.refusal) for o in outputs if isinstance(o, Ack) for _, a in o.answers]


def written(outputs: list[Output]) -> Batch:
    (batch,) = [output.batch for output in outputs if isinstance(output, Write)]
    return batch


@pytest.fixture
def shard() -> Shard:
    """With account 1 funded and committed."""
    shard = Shard()
    shard.give(open_account(), deposit("d1"))
    shard.commit_all()
    return shard


def raise_on(monkeypatch: pytest.MonkeyPatch, *names: str, times: int = 1000) -> list[str]:
    """Deciding these commands breaks something and raises, as often as `times`."""
    real = execute_command
    raised: list[str] = []

    def execute(state: State, command: AnyCommand, now_us: int, prior: Prior) -> Executed:
        if command.id in names and raised.count(command.id) < times:
            raised.append(command.id)
            state.counters.order += 77
            raise ZeroDivisionError("a bug")
        return real(state, command, now_us, prior)

    monkeypatch.setattr(step_module, "execute", execute)
    return raised


# --- Writing and telling ------------------------------------------------------------------------------------------------


def test_nothing_is_told_before_the_commit(shard: Shard) -> None:
    assert kinds(shard.give(buy("o1"))) == ["Write"]


def test_after_the_commit_answer_events_and_position_are_told(shard: Shard) -> None:
    shard.give(buy("o1"))
    outputs = shard.commit()
    assert kinds(outputs) == ["Ack", "Publish", "Forget"]
    assert answered(outputs) == [("o1", "")]
    assert outputs[-1] == Forget(StreamPosition("life", "3-0"))


def test_while_one_batch_commits_the_next_is_decided_and_waits(shard: Shard) -> None:
    assert kinds(shard.give(buy("o1"))) == ["Write"]
    assert shard.give(buy("o2")) == []
    assert shard.give(buy("o3")) == []
    outputs = shard.commit()
    assert answered(outputs) == [("o1", "")]
    assert written(outputs).commands == 2
    assert answered(shard.commit()) == [("o2", ""), ("o3", "")]


def test_a_batch_is_bounded(shard: Shard) -> None:
    shard.step.batch_max = 4
    shard.give(buy("o1"))
    shard.give(*(buy(f"p{n}") for n in range(4)))
    assert shard.step.room == 0
    shard.commit()
    assert shard.step.room == 4


def test_what_prices_set_off_may_overfill_a_batch_and_then_there_is_no_room(shard: Shard) -> None:
    """A price is not asked for again, so it is taken even where a full batch waits behind the one that is being written."""
    shard.give(buy("o1"))
    limits: dict[str, Any] = {"type": OrderType.LIMIT, "price": Decimal("1.08000")}
    shard.give(*(replace(buy(f"p{n}"), **limits) for n in range(4)))
    shard.step.batch_max = 4
    assert shard.step.room == 0
    for price in ("1.07990", "1.07980"):
        shard.hear(QuotesTaken([eurusd(price)]))
    assert shard.step.in_flight is not None
    assert shard.step._open.commands > 4
    assert shard.step.room == 0, "nothing is read, and not less than nothing"
    assert written(shard.commit()).commands > 4
    assert shard.step.room == 4


def test_more_than_the_room_is_a_bug_of_the_driver(shard: Shard) -> None:
    with pytest.raises(AssertionError, match="room"):
        shard.give(*(buy(f"p{n}") for n in range(257)))


def test_batches_are_numbered_without_a_gap_and_name_the_last_command_taken(shard: Shard) -> None:
    for name in ("o1", "o2"):
        shard.give(buy(name))
        shard.commit()
    assert [(batch.seq, batch.position.id) for batch in shard.committed[-2:]] == [(2, "3-0"), (3, "4-0")]


def test_a_batch_carries_the_ledger_balances_it_moved_as_they_are_after_it(shard: Shard) -> None:
    batch = written(shard.give(deposit("d2", "5.00")))
    shard.give(deposit("d3", "1.00"))
    assert batch.balances == {("bank", "USD"): Decimal("-10005.00"), ("client:1", "USD"): Decimal("10005.00")}


def test_a_leg_nudges_its_provider_after_the_commit() -> None:
    shard = Shard()
    shard.give(open_account(group="pro", client_class=ClientClass.PROFESSIONAL), deposit("d1"))
    shard.commit()
    assert kinds(shard.give(buy("o1"))) == ["Write"]
    assert [o.lps for o in shard.commit() if isinstance(o, Nudge)] == [["YOFX1"]]


def test_events_are_numbered_per_account_and_shard_without_a_gap(shard: Shard) -> None:
    shard.give(buy("o1"))
    shard.give(buy("o2"))
    shard.commit_all()
    told = [event for output in shard.outputs if isinstance(output, Publish) for event in output.events]
    assert [event.seq for event in told] == list(range(1, len(told) + 1))
    assert [event.shard_seq for event in told] == list(range(1, len(told) + 1))


# --- Time and the input journal -----------------------------------------------------------------------------------------


def test_business_time_never_runs_backwards(shard: Shard) -> None:
    shard.hear(Clock(NOW_US + 50))
    batch = written(shard.give(deposit("d2"), at_us=NOW_US + 10))
    assert batch.at_us == NOW_US + 50


def test_business_time_begins_where_the_last_batch_stood() -> None:
    step = Step()
    step.handle(Recovered(State(0, config()), 1, 9, StreamPosition(), NOW_US))
    step.handle(Clock(NOW_US - 1))
    assert step.now_us == NOW_US


def test_a_quote_is_journaled_once_before_its_first_use_and_again_when_it_changed(shard: Shard) -> None:
    names = []
    for name in ("o1", "o2"):
        names.append([type(item).__name__ for item in written(shard.give(buy(name))).inputs])
        shard.commit()
    shard.hear(QuotesTaken([eurusd("1.08600")]))
    names.append([type(item).__name__ for item in written(shard.give(buy("o3"))).inputs])
    assert names == [["QuoteInput", "CommandInput"], ["CommandInput"], ["QuoteInput", "CommandInput"]]


def test_the_inputs_make_the_same_events_and_the_same_state_again(shard: Shard) -> None:
    for number in range(20):
        shard.hear(QuotesTaken([eurusd(f"1.0851{number % 10}")]))
        shard.give(buy(f"o{number}"), deposit(f"e{number}", "0.01"), at_us=NOW_US + number)
    shard.commit_all()
    state, events = replayed(shard.committed, config())
    assert events == [event for batch in shard.committed for event in batch.events]
    assert state_hash(state) == state_hash(shard.step.state)


# --- When the commit fails ----------------------------------------------------------------------------------------------


def test_a_lost_commit_throws_the_memory_away_and_tells_nobody(shard: Shard) -> None:
    shard.give(buy("o1"))
    shard.give(buy("o2"))
    outputs = shard.fail(Failure.LOST)
    assert kinds(outputs) == ["Rebuild"]
    assert shard.step.room == 0
    shard.recover()
    shard.give(buy("o1"), buy("o2"))
    assert answered(shard.commit()) == [("o1", ""), ("o2", "")]
    assert [batch.epoch for batch in shard.committed] == [1, 2]


def test_an_unknown_commit_freezes_the_shard_until_the_database_has_spoken(shard: Shard) -> None:
    shard.give(buy("o1"))
    assert shard.hear(CommitUnknown(2, "connection lost")) == [LookUp(1, 2)]
    assert shard.step.room == 0
    assert answered(shard.commit()) == [("o1", "")]
    assert shard.step.room == 256


def test_an_unknown_commit_that_was_none_is_rebuilt(shard: Shard) -> None:
    shard.give(buy("o1"))
    shard.hear(CommitUnknown(2, "connection lost"))
    assert kinds(shard.fail(Failure.LOST)) == ["Rebuild"]


def test_another_owner_makes_it_stand_down_and_forget(shard: Shard) -> None:
    shard.give(buy("o1"))
    shard.give(buy("o2"))
    assert kinds(shard.fail(Failure.FENCED)) == ["StandDown"]
    assert (shard.step.mode, shard.step.room, shard.step.state.accounts) == ("waiting", 0, {})
    assert shard.hear(QuotesTaken([eurusd("1.08600", at_us=NOW_US + 1)])) == []


def test_another_owner_that_is_noticed_while_nothing_is_written_makes_it_stand_down(shard: Shard) -> None:
    assert kinds(shard.hear(Fenced("somebody else"))) == ["StandDown"]
    assert shard.step.room == 0
    shard.recover()
    shard.give(buy("o1"))
    assert answered(shard.commit()) == [("o1", "")]


def test_being_fenced_at_the_very_end_ends(shard: Shard) -> None:
    shard.give(buy("o1"))
    shard.hear(Stopping(NOW_US))
    assert kinds(shard.fail(Failure.FENCED)) == ["Finished"]


@pytest.mark.parametrize("failure", [Failure.HALTED, Failure.DIVERGED])
def test_an_operator_or_a_contradiction_halts(shard: Shard, failure: Failure) -> None:
    shard.give(buy("o1"))
    (halt,) = shard.fail(failure)
    assert isinstance(halt, Halt)
    assert halt.failure is failure
    assert shard.step.room == 0


def test_quotes_outlive_a_rebuild(shard: Shard) -> None:
    shard.give(buy("o1"))
    shard.fail(Failure.LOST)
    shard.recover()
    shard.give(buy("o1"))
    assert answered(shard.commit()) == [("o1", "")]


# --- Poison -------------------------------------------------------------------------------------------------------------


def run_to_the_end(shard: Shard, commands: list[AnyCommand]) -> list[tuple[str, str]]:
    """Give everything as the driver does, again from the committed position after each rebuild."""
    first = shard.made
    for _ in range(100):
        if shard.step.in_flight is not None:
            shard.commit()
        elif shard.step.mode == "waiting":
            shard.recover()
        else:
            following = commands[shard.made - first :][: shard.step.room]
            if not following:
                return answered(shard.outputs)
            shard.give(*following)
    raise AssertionError("it never ends")


def test_a_command_that_raises_once_is_done_when_it_is_tried_again_alone(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised = raise_on(monkeypatch, "bad", times=1)
    answers = run_to_the_end(shard, [buy("o1"), buy("bad"), buy("o2")])
    assert raised == ["bad"]
    assert answers[-3:] == [("o1", ""), ("bad", ""), ("o2", "")]
    assert not any(batch.parked for batch in shard.committed)


def test_a_command_that_raises_twice_is_parked_with_an_answer_and_the_rest_goes_on(
    shard: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised = raise_on(monkeypatch, "bad")
    answers = run_to_the_end(shard, [buy("o1"), buy("bad"), buy("o2")])
    assert raised == ["bad", "bad"]
    assert answers[-3:] == [("o1", ""), ("bad", "internal"), ("o2", "")]
    ((parked,),) = [batch.parked for batch in shard.committed if batch.parked]
    assert (parked.command_id, parked.error) == ("bad", "ZeroDivisionError: a bug")
    assert shard.step.room == 256


def test_what_a_raising_command_broke_in_memory_does_not_survive(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    raise_on(monkeypatch, "bad")
    run_to_the_end(shard, [buy("bad"), buy("o2")])
    orders = [event.order.id for batch in shard.committed for event in batch.events if hasattr(event, "order")]
    assert orders == [1]


def test_the_batch_in_flight_is_settled_before_the_memory_goes(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    raise_on(monkeypatch, "bad")
    shard.give(buy("o1"))
    assert shard.give(buy("bad")) == []
    outputs = shard.commit()
    assert answered(outputs) == [("o1", "")]
    assert kinds(outputs)[-1] == "Rebuild"


def test_rows_that_postgresql_refuses_are_found_one_by_one(shard: Shard) -> None:
    commands: list[AnyCommand] = [buy("o1"), buy("bad"), buy("o2")]
    first = shard.made
    for _ in range(100):
        if shard.step.in_flight is not None:
            batch = shard.step.in_flight
            refused = any(getattr(item, "command", None) is commands[1] for item in batch.inputs)
            outputs = shard.fail(Failure.REFUSED) if refused else shard.commit()
            assert not any(isinstance(output, Halt) for output in outputs)
        elif shard.step.mode == "waiting":
            shard.recover()
        else:
            following = commands[shard.made - first :][: shard.step.room]
            if not following:
                break
            shard.give(*following)
    assert answered(shard.outputs)[-3:] == [("o1", ""), ("bad", "internal"), ("o2", "")]
    assert shard.step.room == 256


def test_a_parked_command_that_cannot_be_recorded_halts(shard: Shard) -> None:
    broken = Unreadable(command_id="x", raw=b"null", error="not a command", stream_id="3-0")
    shard.hear(CommandsTaken([broken], NOW_US, "life"))
    (halt,) = shard.fail(Failure.REFUSED)
    assert isinstance(halt, Halt)


def test_an_entry_that_is_no_command_is_parked_and_answered_where_it_says_to_whom(shard: Shard) -> None:
    broken = Unreadable(command_id="x", raw=b'"?"', error="not a command", stream_id="3-0", reply_to="door")
    batch = written(shard.hear(CommandsTaken([broken], NOW_US, "life")))
    assert [(parked.command_id, parked.command) for parked in batch.parked] == [("x", b'"?"')]
    assert batch.position == StreamPosition("life", "3-0")
    assert answered(shard.commit()) == [("x", "internal")]


# --- Keys and providers' reports ----------------------------------------------------------------------------------------


def test_a_key_known_only_to_the_database_is_answered_and_not_done_again(shard: Shard) -> None:
    order = buy("o1")
    record = KeyRecord("another body", "PlaceOrder", 4711, "")
    outputs = shard.hear(CommandsTaken([Taken(order, "3-0", Prior(key=record))], NOW_US, "life"))
    assert written(outputs).events == []
    assert answered(shard.commit()) == [("o1", "client_order_id_reused")]


def professional_shard() -> tuple[Shard, ExecutionReport]:
    """A leg of 0.10 lots is out, and the report that fills it."""
    shard = Shard()
    shard.give(open_account(group="pro", client_class=ClientClass.PROFESSIONAL), deposit("d1"), buy("o1"))
    shard.commit()
    (leg,) = shard.step.state.legs.values()
    report = ExecutionReport(
        lp=leg.lp,
        kind=ReportKind.FILL,
        cl_ord_id=leg.cl_ord_id,
        exec_id="E1",
        trade_date="20231114",
        side=Side.BUY,
        lp_symbol=leg.lp_symbol,
        last_qty=leg.quantity,
        last_px=Decimal("1.08520"),
    )
    return shard, report


def test_a_fill_is_applied_and_the_inbox_cursor_is_committed_with_it() -> None:
    shard, report = professional_shard()
    batch = written(shard.report(report, 1))
    assert batch.inbox_cursors == {report.lp: 1}
    assert answered(shard.commit())[-1] == ("o1", "")


def test_a_fill_that_is_repeated_before_its_leg_is_durable_is_applied_once() -> None:
    """The leg has left the memory and the database does not show its end yet: the step remembers it."""
    shard, report = professional_shard()
    shard.report(report, 1)
    assert shard.step.knows_leg(report.cl_ord_id)
    shard.report(report, 2)
    shard.commit_all()
    assert not any(isinstance(event, CaseOpened) for batch in shard.committed for event in batch.events)
    assert len([1 for batch in shard.committed for event in batch.events if hasattr(event, "deal")]) == 1


def test_a_fill_that_cannot_be_valued_waits_in_the_inbox() -> None:
    shard, report = professional_shard()
    shard.step.state.accounts[1] = type(shard.step.state.accounts[1])(
        id=1, group="pro", currency="CHF", leverage=30, balance=Decimal(1000), seq=shard.step.state.accounts[1].seq
    )
    assert shard.report(report, 1) == []
    assert shard.step.state.inbox_cursors == {}


def test_an_inbox_row_that_is_no_report_is_parked_and_counts_as_taken() -> None:
    shard, _ = professional_shard()
    broken = Unreadable(command_id="inbox:YOFX1:1", raw=b"{}", error="no", lp="YOFX1", inbox_seq=1)
    batch = written(shard.hear(ReportsTaken([broken], NOW_US)))
    assert batch.inbox_cursors == {"YOFX1": 1}


# --- The end ------------------------------------------------------------------------------------------------------------


def test_stopping_finishes_what_is_in_flight_and_leaves_a_hash(shard: Shard) -> None:
    shard.give(buy("o1"))
    shard.give(buy("o2"))
    assert shard.hear(Stopping(NOW_US)) == []
    outputs = shard.commit()
    last = written(outputs)
    assert last.commands == 1
    assert last.state_hash == state_hash(shard.step.state)
    assert isinstance(shard.commit()[-1], Finished)
    assert answered(shard.outputs)[-2:] == [("o1", ""), ("o2", "")]


def test_stopping_when_the_last_commit_fails_tells_nobody_and_ends(shard: Shard) -> None:
    shard.give(buy("o1"))
    shard.hear(Stopping(NOW_US))
    assert kinds(shard.fail(Failure.LOST)) == ["Finished"]


def test_stopping_before_anything_was_recovered_ends_at_once() -> None:
    assert kinds(Step().handle(Stopping(NOW_US))) == ["Finished"]


def test_a_rebuild_says_why(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    raise_on(monkeypatch, "bad")
    (rebuild,) = shard.give(buy("bad"))
    assert rebuild == Rebuild("deciding PlaceOrder bad raised ZeroDivisionError: a bug")
