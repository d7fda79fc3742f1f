"""Planted in the engine's writing and loading: what is durable, who may write, what a restart finds."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import psycopg

from engine import journal, recovery, replies, rows
from engine.journal import Facts, Journal, NotCommittedError, OutcomeUnknownError
from engine.state import Counters
from engine.step import Ack, Failure, Rebuild, Step, Write
from engine.tables import TRANSFER
from tests.mutants.mutant import Mutant, everywhere, instead, replaced, together
from trading.answers import Answer
from trading.orders import Order
from trading.refusals import Refusal

Plant = AbstractContextManager[object]


def ack_before_commit() -> Plant:
    def make(original: Any) -> Any:
        def written(self: Step) -> list[Any]:
            outputs: list[Any] = []
            for output in original(self):
                if isinstance(output, Write) and output.batch.answers:
                    outputs.append(Ack(list(output.batch.answers)))
                outputs.append(output)
            return outputs

        return written

    return replaced(Step, "_write_when_free", make)


def fence_not_checked() -> Plant:
    def make(original: Any) -> Any:
        def fence(connection: Any, batch: Any) -> None:
            try:
                original(connection, batch)
            except NotCommittedError:
                """Somebody else owns the shard: so what."""

        return fence

    return replaced(journal, "_fence", make)


def error_swallowed() -> Plant:
    """The finding that the journal is built on: COMMIT of a failed transaction is answered ROLLBACK, and raises nothing."""

    def swallowing(original: Any) -> Any:
        def write(connection: Any, written: Any) -> None:
            try:
                original(connection, written)
            except psycopg.Error:
                """One bad row must not stop the others."""

        return write

    return together(replaced(journal, "_write_rows", swallowing), tag_not_checked())


def tag_not_checked() -> Plant:
    def commit(self: Journal, connection: Any) -> None:
        try:
            connection.execute("COMMIT")
        except psycopg.Error as error:
            self.close()
            raise OutcomeUnknownError(str(error)) from error

    return replaced(Journal, "_commit", lambda _original: commit)


def unknown_is_failure() -> Plant:
    """An error at COMMIT is taken for "nothing was committed": the callers are told so, and the batch is forgotten."""

    def unknown(self: Step, message: Any) -> list[Any]:
        batch = self._landed(message.seq)
        self.mode = "waiting"
        refused = [
            (to, Answer(command_id=answer.command_id, refusal=Refusal.NO_CONNECTION, detail="it failed"))
            for to, answer in batch.answers
        ]
        return [Ack(refused), Rebuild("the batch failed")]

    return replaced(Step, "_commit_unknown", lambda _original: unknown)


def rows_written_twice() -> Plant:
    """The journal writes the transfers of a batch a second time: the tables refuse it, and somebody must hear of that."""

    def make(original: Any) -> Any:
        def of(batch: Any) -> Any:
            made = original(batch)
            again = [append for append in made.appends if append.table is TRANSFER]
            return rows.Rows([*made.appends, *again], made.changes, made.balances, made.parked)

        return of

    return everywhere(rows.rows_of, make)


def of_the_batch(change: Any) -> Plant:
    """What is sealed is not what was decided: `change(step, batch)`, before it is written."""

    def make(original: Any) -> Any:
        def seal(self: Step, *args: Any) -> Any:
            batch = original(self, *args)
            change(self, batch)
            return batch

        return seal

    return replaced(Step, "_seal", make)


def cursor_not_stored() -> Plant:
    """The inbox cursors of the batch before: what was applied since is applied again after a restart."""
    last: dict[int, dict[str, int]] = {}

    def change(step: Step, batch: Any) -> None:
        now = dict(batch.inbox_cursors)
        batch.inbox_cursors = last.get(id(step), now)
        last[id(step)] = now

    return of_the_batch(change)


def version_not_stored() -> Plant:
    def change(_step: Step, batch: Any) -> None:
        batch.config_version = 0

    return of_the_batch(change)


def counters_not_stored() -> Plant:
    """Ids are given twice after a restart."""

    def change(_step: Step, batch: Any) -> None:
        batch.counters = Counters()

    return of_the_batch(change)


def message_not_stored() -> Plant:
    """One event of a batch has no outbox row."""

    def change(_step: Step, batch: Any) -> None:
        if len(batch.told) > 3:
            del batch.told[1]

    return of_the_batch(change)


def transfers_not_stored() -> Plant:
    """Balances move, and the ledger has no rows for it."""

    def make(original: Any) -> Any:
        def of(batch: Any) -> Any:
            made = original(batch)
            appends = [append for append in made.appends if append.table is not TRANSFER]
            return rows.Rows(appends, made.changes, made.balances, made.parked)

        return of

    return everywhere(rows.rows_of, make)


def key_not_stored() -> Plant:
    return everywhere(replies.use_key, instead(None))


def keys_not_looked_up() -> Plant:
    """A key that memory no longer has is taken for a new one."""
    return replaced(Facts, "keys", lambda _original: lambda _self, _keys: {})


def resting_orders_dropped() -> Plant:
    def make(original: Any) -> Any:
        def live(connection: Any, *args: Any) -> Iterator[Order]:
            return (order for order in original(connection, *args) if not order.is_resting)

        return live

    return replaced(recovery, "_live_orders", make)


def zombie_tells() -> Plant:
    """An engine that was replaced answers all the same."""

    def make(original: Any) -> Any:
        def failed(self: Step, message: Any) -> list[Any]:
            batch = self.in_flight
            outputs: list[Any] = original(self, message)
            if message.failure is Failure.FENCED and batch is not None and batch.answers:
                return [Ack(list(batch.answers)), *outputs]
            return outputs

        return failed

    return replaced(Step, "_commit_failed", make)


def lost_batch_acked() -> Plant:
    """The batch was not committed; its answers go out, and it is not decided again."""

    def make(original: Any) -> Any:
        def failed(self: Step, message: Any) -> list[Any]:
            batch = self.in_flight
            outputs: list[Any] = original(self, message)
            return [Ack(list(batch.answers)), *outputs] if batch is not None and batch.answers else outputs

        return failed

    return replaced(Step, "_commit_failed", make)


def _names(*names: str) -> frozenset[str]:
    return frozenset(names)


STORAGE = (
    Mutant("ack before commit", "an acknowledged order is durable", ack_before_commit, _names("I3 acked")),
    Mutant("fence not checked", "one writer per shard", fence_not_checked, _names("fencing", "I9 batches"),
           faults=_names("engine.zombie", "engine.statement")),
    Mutant("SQL error swallowed", "COMMIT counts by its tag", error_swallowed, _names("I3 acked", "I9 batches"),
           faults=_names("engine.statement", "engine.commit")),
    Mutant("COMMIT's tag not read", "COMMIT counts by its tag", tag_not_checked, _names("I3 acked", "I9 batches"),
           faults=_names("engine.commit")),
    Mutant("UNKNOWN is a success", "an unknown outcome is looked up", lambda: replaced(Journal, "look_up", instead(True)),
           _names("I3 acked", "I9 batches", "I14 rebuild"), faults=_names("engine.commit")),
    Mutant("UNKNOWN is a failure", "an unknown outcome is looked up", unknown_is_failure,
           _names("answers"), faults=_names("engine.commit")),
    Mutant("transfers written twice", "a batch is written once", rows_written_twice, _names("parked", "halted", "answers")),
    Mutant("cursor not with the batch", "a report is applied once", cursor_not_stored, _names("I14 rebuild", "fills")),
    Mutant("configuration's version not stored", "decisions name their rules", version_not_stored,
           _names("I14 rebuild", "halted"), faults=_names("engine.kill", "engine.restart")),
    Mutant("counters not stored", "an id is never given twice", counters_not_stored,
           _names("I14 rebuild", "halted"), faults=_names("engine.kill", "engine.restart")),
    Mutant("event without an outbox row", "every event is told", message_not_stored, _names("I6 outbox")),
    Mutant("transfers not stored", "a balance is the sum of its postings", transfers_not_stored, _names("I2 rows")),
    Mutant("idempotency row missing", "one request, one order", key_not_stored, _names("I3 acked", "answers")),
    Mutant("keys not looked up", "one request, one order", keys_not_looked_up, _names("answers", "parked", "I3 acked")),
    Mutant("restart drops resting orders", "a restart changes nothing", resting_orders_dropped,
           _names("I14 rebuild"), faults=_names("engine.kill", "engine.restart")),
    Mutant("zombie answers after a takeover", "only the owner answers", zombie_tells, _names("I3 acked"),
           faults=_names("engine.zombie", "engine.statement")),
    Mutant("lost batch acknowledged", "an acknowledged order is durable", lost_batch_acked, _names("I3 acked")),
)  # fmt: skip
