"""The loop's reasoning without its I/O: what to decide, write, tell and throw away, given what happened.

Inputs come in, outputs go out; threads, sockets and the database are somebody else's, so a simulation drives the very
same step as production. While batch N commits, batch N+1 is decided; nothing is told before its batch is committed. The
memory is never repaired: when a decision raises or a commit fails, it is thrown away and rebuilt from PostgreSQL, and the
driver reads its sources again from the position that the last committed batch names.

A command that made a decision raise, or a batch that PostgreSQL refused, puts its commands under suspicion: from the
rebuilt state on, commands run one to a batch until every suspect has passed, or has failed again, alone, and is parked.
"""

import copy
from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Literal

from msgspec import Struct

from bus.codec import encode
from engine.batch import QUOTES_EVERY, Batch, CommandInput, Input, Parked, ParkedInput, QuoteInput, StreamPosition
from engine.core import AccountEvent, Prior, execute, is_ready, take_quote
from engine.corrections import history_with
from engine.selfcheck import Sampler
from engine.state import Counters, State, state_hash
from trading.answers import Answer
from trading.commands import AnyCommand, ApplyExecution, CorrectDeal
from trading.events import ChildOrderRouted, ChildOrderUpdated, Event, LedgerPosted
from trading.liquidity import LpOrder, ReportKind
from trading.quotes import Quote
from trading.refusals import Refusal

BATCH_MAX = 256
"""Commands per batch."""
ENDED_LEGS_MAX = 4096
"""Legs that ended lately: PostgreSQL may not show their end yet when a repetition of their last report is looked up."""
SAMPLE_EVERY = 16
"""Batches between two looks at one account's margin."""
STRIKES_MAX = 2
"""The second failure, alone, parks a command."""


# --------------------------------------------------------------------------------------------------------------- inputs


class Taken(Struct, frozen=True):
    """A command from the stream (with its entry's id), from a provider's inbox or from the loop itself (without)."""

    command: AnyCommand
    stream_id: str = ""
    prior: Prior = Prior()


class Unreadable(Struct, frozen=True, kw_only=True):
    """A stream entry or an inbox row that is no command. It is parked, because it will never become one."""

    command_id: str
    raw: bytes
    """JSON, or a JSON string of whatever it was."""
    error: str
    stream_id: str = ""
    reply_to: str = ""
    lp: str = ""
    inbox_seq: int = 0


class CommandsTaken(Struct, frozen=True):
    """At most `Step.room` commands, in stream order. `incarnation` names the stream's life."""

    commands: Sequence[Taken | Unreadable]
    now_us: int
    incarnation: str = ""


class ReportsTaken(Struct, frozen=True):
    """At most `Step.room` rows of the providers' inboxes, each provider's contiguous from its cursor on."""

    reports: Sequence[Taken | Unreadable]
    now_us: int


class QuotesTaken(Struct, frozen=True):
    """Prices, while the step has room: one that sets off resting orders is decided like a command."""

    quotes: Sequence[Quote]
    now_us: int = 0


class Committed(Struct, frozen=True):
    seq: int


class Failure(StrEnum):
    """Why a batch is not durable."""

    LOST = "lost"
    """The database could not be reached, or was busy: the same batch may well succeed."""
    REFUSED = "refused"
    """PostgreSQL will never take these rows."""
    FENCED = "fenced"
    """Another process owns the shard now."""
    HALTED = "halted"
    """An operator, or a check of the stored data, has halted the shard."""
    DIVERGED = "diverged"
    """A row that must exist does not: memory and database contradict each other."""
    VIOLATED = "violated"
    """Two calculations of the same thing disagree."""


class CommitFailed(Struct, frozen=True):
    """Nothing of the batch is durable."""

    seq: int
    reason: str
    failure: Failure


class CommitUnknown(Struct, frozen=True):
    """The connection broke inside COMMIT."""

    seq: int
    reason: str


class Fenced(Struct, frozen=True):
    """Nothing is being written, and another process owns the shard now."""

    reason: str


class Clock(Struct, frozen=True):
    now_us: int


class Recovered(Struct, frozen=True):
    """A state fresh from PostgreSQL, owned under a new epoch."""

    state: State
    epoch: int
    seq: int
    position: StreamPosition
    at_us: int


class Stopping(Struct, frozen=True):
    """Take nothing more; finish."""

    now_us: int


StepInput = (
    CommandsTaken
    | ReportsTaken
    | QuotesTaken
    | Committed
    | CommitFailed
    | CommitUnknown
    | Fenced
    | Clock
    | Recovered
    | Stopping
)


# -------------------------------------------------------------------------------------------------------------- outputs


class Write(Struct, frozen=True):
    batch: Batch


class Ack(Struct, frozen=True):
    answers: list[tuple[str, Answer]]


class Nudge(Struct, frozen=True):
    lps: list[str]


class Publish(Struct, frozen=True):
    events: list[AccountEvent]


class Forget(Struct, frozen=True):
    """The stream up to this position is durable."""

    position: StreamPosition


class LookUp(Struct, frozen=True):
    """Ask the database for the batch by its key, then say Committed or CommitFailed."""

    epoch: int
    seq: int


class Rebuild(Struct, frozen=True):
    """Throw away everything that was read, take ownership anew and say Recovered."""

    reason: str


class StandDown(Struct, frozen=True):
    """Somebody else owns the shard: nothing of this memory counts any more. Say Recovered when it is ours again."""

    reason: str


class Halt(Struct, frozen=True):
    """The shard must not go on before an operator has looked."""

    reason: str
    failure: Failure


class Finished(Struct, frozen=True):
    """Everything decided is durable and told, or will be decided again by the next run."""


Output = Write | Ack | Nudge | Publish | Forget | LookUp | Rebuild | StandDown | Halt | Finished

Mode = Literal["waiting", "running", "frozen", "stopping", "finished", "halted"]


class Step:
    """One shard's loop. Not thread-safe; `handle` takes an input and returns what to do about it, in order."""

    def __init__(self, shard: int = 0, *, batch_max: int = BATCH_MAX) -> None:
        self.shard = shard
        self.batch_max = batch_max
        self.state = State(shard)
        self.mode: Mode = "waiting"
        self.epoch = 0
        self.now_us = 0
        self.in_flight: Batch | None = None
        self.position = StreamPosition()
        self.seq = 0
        """The last batch that was sealed."""
        self._dirty = ""
        self._in_flight_ids: list[str] = []
        self._strikes: dict[str, int] = {}
        self._errors: dict[str, str] = {}
        self._alone_left = 0
        self._ended_legs: dict[str, LpOrder] = {}
        self._journaled: dict[str, Quote] = {}
        self._open = _Open(Counters())
        self._sampler = Sampler()

    # What the driver asks before it fetches.

    @property
    def room(self) -> int:
        """How many commands may be handed over now."""
        if self.mode != "running" or self._dirty:
            return 0
        if self._strikes:
            return 0 if self.in_flight or self._open.commands else 1
        return max(self.batch_max - self._open.commands, 0)  # quotes may have set off more than that

    def knows_key(self, account: int, key: str) -> bool:
        return (account, key) in self.state.keys

    def knows_leg(self, cl_ord_id: str) -> bool:
        return cl_ord_id in self.state.legs or cl_ord_id in self._ended_legs

    def corrected_by(self, lp: str, exec_id: str) -> str:
        """The ExecID of what this execution corrected; empty when memory knows of no such correction."""
        under = self.state.executions.get((lp, exec_id), ())
        return next((x.ref for x in under if x.exec_id == exec_id and x.kind is ReportKind.CORRECT), "")

    # The one door in.

    def handle(self, message: StepInput) -> list[Output]:
        match message:
            case CommandsTaken():
                outputs = self._take_commands(message)
            case ReportsTaken():
                outputs = self._take_reports(message)
            case QuotesTaken():
                outputs = self._take_quotes(message)
            case Committed():
                outputs = self._committed(message)
            case CommitFailed():
                outputs = self._commit_failed(message)
            case CommitUnknown():
                outputs = self._commit_unknown(message)
            case Fenced():
                outputs = self._stand_down(message.reason)
            case Clock():
                self._advance(message.now_us)
                outputs = []
            case Recovered():
                outputs = self._recovered(message)
            case Stopping():
                outputs = self._stop(message)
        return outputs + self._write_when_free()

    # -------------------------------------------------------------------------------------------------------- deciding

    def _advance(self, now_us: int) -> None:
        """Business time never runs backwards, whatever the clock says."""
        self.now_us = max(self.now_us, now_us)

    def _take_commands(self, message: CommandsTaken) -> list[Output]:
        self._accept(len(message.commands), message.now_us)
        for taken in message.commands:
            if self._dirty:
                break
            if taken.stream_id:
                self.position = StreamPosition(message.incarnation, taken.stream_id)
            self._take(taken)
        return self._give_up_when_dirty()

    def _take_quotes(self, message: QuotesTaken) -> list[Output]:
        """A price is not asked for again: what one that raised would have set off waits for the next."""
        self._advance(message.now_us)
        for quote in message.quotes:
            if self._dirty:
                break
            arrived = take_quote(self.state, quote)
            if arrived is not None and self.mode == "running":
                self._decide(Taken(arrived))
        return self._give_up_when_dirty()

    def _take_reports(self, message: ReportsTaken) -> list[Output]:
        """A fill that cannot be valued yet holds back what follows it from the same provider, and nobody else."""
        self._accept(len(message.reports), message.now_us)
        waiting: set[str] = set()
        for taken in message.reports:
            if self._dirty:
                break
            lp = _lp_of(taken)
            if lp not in waiting and not self._take(taken):
                waiting.add(lp)
        return self._give_up_when_dirty()

    def _accept(self, count: int, now_us: int) -> None:
        assert count <= self.room, f"{count} commands for a room of {self.room} while {self.mode}"
        self._advance(now_us)

    def _take(self, taken: Taken | Unreadable) -> bool:
        """False when it must wait where it is."""
        if self._strikes:
            self._alone_left -= 1
        if isinstance(taken, Unreadable):
            self._park_unreadable(taken)
        elif self._is_parked(taken):
            self._park(taken)
        else:
            return self._decide(taken)
        return True

    def _decide(self, taken: Taken) -> bool:
        command, prior = taken.command, taken.prior
        try:
            if isinstance(command, ApplyExecution):
                if not is_ready(self.state, command, self.now_us):
                    return False
                prior = self._prior_leg(command, prior)
            elif isinstance(command, CorrectDeal):
                prior = self._prior_deals(command, prior)
            executed = execute(self.state, command, self.now_us, prior)
        except Exception as error:  # noqa: BLE001 - a bug of ours must not take the shard down
            self._strike(command.id, f"{type(error).__name__}: {error}")
            self._dirty = f"deciding {type(command).__name__} {command.id} raised {type(error).__name__}: {error}"
            return True
        batch = self._open
        batch.commands += 1
        batch.ids.append(command.id)
        journaled = self._journaled
        for quote in executed.quotes_used:
            if journaled.get(quote.symbol) is not quote:
                journaled[quote.symbol] = quote
                batch.inputs.append(QuoteInput(quote))
        batch.inputs.append(CommandInput(self.now_us, command, prior))
        batch.events += executed.events
        batch.told += executed.told
        batch.answers += executed.answers
        self._remember_ended(executed.events)
        return True

    def _prior_leg(self, command: ApplyExecution, prior: Prior) -> Prior:
        ended = self._ended_legs.get(command.report.cl_ord_id)
        return prior if ended is None else Prior(prior.key, ended, executions=prior.executions)

    def _prior_deals(self, command: CorrectDeal, prior: Prior) -> Prior:
        """With what is decided and not yet committed, which the database does not know."""
        in_flight = self.in_flight.events if self.in_flight is not None else []
        return history_with(prior, command.deal_id, [*in_flight, *self._open.events])

    def _remember_ended(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, ChildOrderUpdated) and event.leg.status.is_terminal:
                self._ended_legs[event.leg.cl_ord_id] = event.leg
                if len(self._ended_legs) > ENDED_LEGS_MAX:
                    del self._ended_legs[next(iter(self._ended_legs))]

    # --------------------------------------------------------------------------------------------------------- parking

    def _strike(self, command_id: str, error: str) -> None:
        self._strikes[command_id] = self._strikes.get(command_id, 0) + 1
        self._errors[command_id] = error
        self._alone_left = 2 * self.batch_max

    def _is_parked(self, taken: Taken) -> bool:
        return bool(self._strikes) and self._strikes.get(taken.command.id, 0) >= STRIKES_MAX

    def _park(self, taken: Taken) -> None:
        command = taken.command
        lp, inbox_seq = "", 0
        if isinstance(command, ApplyExecution):
            lp, inbox_seq = command.report.lp, command.inbox_seq
        error = self._errors[command.id]
        self._set_aside(command.id, command.account, encode(command), error, command.reply_to, lp, inbox_seq)

    def _park_unreadable(self, taken: Unreadable) -> None:
        self._set_aside(taken.command_id, 0, taken.raw, taken.error, taken.reply_to, taken.lp, taken.inbox_seq)

    def _set_aside(
        self, command_id: str, account: int, raw: bytes, error: str, reply_to: str, lp: str, inbox_seq: int
    ) -> None:
        if lp:
            self.state.inbox_cursors[lp] = inbox_seq
        batch = self._open
        batch.commands += 1
        batch.ids.append(command_id)
        batch.inputs.append(ParkedInput(self.now_us, command_id, lp, inbox_seq))
        batch.parked.append(Parked(command_id=command_id, account=account, command=raw, error=error, at_us=self.now_us))
        if reply_to:
            detail = "the command was set aside for an operator"
            batch.answers.append((reply_to, Answer(command_id=command_id, refusal=Refusal.INTERNAL, detail=detail)))

    # ------------------------------------------------------------------------------------------------------ committing

    def _write_when_free(self) -> list[Output]:
        if self.in_flight is not None or self._dirty:
            return []
        if self.mode == "running" and self._open.commands:
            return [Write(self._seal())]
        if self.mode == "stopping":
            self.mode = "finished"
            return [Write(self._seal(state_hash(self.state)))]
        return []

    def _seal(self, hashed: str = "") -> Batch:
        state, filled = self.state, self._open
        self.seq += 1
        self.in_flight = Batch(
            shard=self.shard,
            epoch=self.epoch,
            seq=self.seq,
            at_us=self.now_us,
            position=self.position,
            inbox_cursors=dict(state.inbox_cursors),
            config_version=state.config.version if state.config else 0,
            new_from=filled.new_from,
            counters=copy.copy(state.counters),
            outbox_seq=state.outbox_seq,
            desk=state.desk,
            commands=filled.commands,
            inputs=filled.inputs,
            events=filled.events,
            told=filled.told,
            parked=filled.parked,
            balances=_moved_balances(state, filled.events),
            answers=filled.answers,
            nudges=_nudged(filled.events),
            state_hash=hashed,
        )
        self._in_flight_ids = filled.ids
        self._open = _Open(self.in_flight.counters)
        if self.seq % QUOTES_EVERY == 0:
            self._journaled.clear()
        return self.in_flight

    def _committed(self, message: Committed) -> list[Output]:
        batch = self._landed(message.seq)
        for command_id in self._in_flight_ids:
            self._strikes.pop(command_id, None)
        if self._alone_left <= 0:
            self._strikes.clear()
        outputs: list[Output] = []
        if batch.answers:
            outputs.append(Ack(batch.answers))
        if batch.nudges:
            outputs.append(Nudge(batch.nudges))
        if batch.told:
            outputs.append(Publish(batch.told))
        outputs.append(Forget(batch.position))
        if self.mode == "frozen":
            self.mode = "running"
        if self.mode == "finished":
            outputs.append(Finished())
        problem = self._sample(batch.seq)
        if problem:
            self.mode = "halted"
            return [*outputs, Halt(problem, Failure.VIOLATED)]
        return outputs + self._give_up_when_dirty()

    def _sample(self, seq: int) -> str:
        """Every so many batches one account's margin is calculated a second time, by other means."""
        return self._sampler.next_problem(self.state) if seq % SAMPLE_EVERY == 0 and self.mode == "running" else ""

    def _commit_failed(self, message: CommitFailed) -> list[Output]:
        batch = self._landed(message.seq)
        if self.mode in {"finished", "stopping"}:
            self.mode = "finished"
            return [Finished()]
        hopeless = message.failure is Failure.REFUSED and len(batch.parked) == batch.commands
        if message.failure is Failure.FENCED:
            return self._stand_down(f"batch {batch.seq}: {message.reason}")
        if hopeless or message.failure in {Failure.HALTED, Failure.DIVERGED}:
            self.mode = "halted"
            return [Halt(f"batch {batch.seq}: {message.reason}", message.failure)]
        if message.failure is Failure.REFUSED:
            self._suspect(batch, message.reason)
        self.mode = "waiting"
        return [Rebuild(f"batch {batch.seq} was not committed: {message.reason}")]

    def _stand_down(self, reason: str) -> list[Output]:
        """What was decided and not committed is decided again by whoever owns the shard. Quotes are inputs: they stay."""
        assert self.in_flight is None, f"batch {self.seq} is still being written"
        if self.mode in {"stopping", "finished"}:
            return []
        quotes, self.state = self.state.quotes, State(self.shard)
        self.state.quotes.update(quotes)
        self._open = _Open(Counters())
        self._dirty = ""
        self.mode = "waiting"
        return [StandDown(reason)]

    def _suspect(self, batch: Batch, reason: str) -> None:
        """One command alone has failed; of several, each gets its chance alone."""
        for command_id in self._in_flight_ids:
            if batch.commands == 1 or command_id not in self._strikes:
                self._strike(command_id, reason)

    def _commit_unknown(self, message: CommitUnknown) -> list[Output]:
        """Nothing is told, sent or decided until the database has said what became of it."""
        assert self.in_flight is not None
        if self.mode == "running":
            self.mode = "frozen"
        return [LookUp(self.in_flight.epoch, message.seq)]

    def _landed(self, seq: int) -> Batch:
        batch = self.in_flight
        assert batch is not None, f"batch {seq} was never written"
        assert batch.seq == seq, f"batch {batch.seq} is in flight, not {seq}"
        self.in_flight = None
        return batch

    def _give_up_when_dirty(self) -> list[Output]:
        """A batch that is committing was decided before anything broke, so its outcome is waited for."""
        if not self._dirty or self.in_flight is not None or self.mode == "waiting":
            return []
        if self.mode in {"finished", "stopping"}:
            self.mode = "finished"
            return [Finished()]
        self.mode = "waiting"
        return [Rebuild(self._dirty)]

    # ------------------------------------------------------------------------------------------------------- beginning and end

    def _recovered(self, message: Recovered) -> list[Output]:
        """Quotes are inputs, not state: the newest ones stay. Everything else is as the database has it."""
        message.state.quotes.update(self.state.quotes)
        self.state = message.state
        self.epoch = message.epoch
        self.position = message.position
        self.seq = message.seq
        self._advance(message.at_us)
        self._dirty = ""
        self._ended_legs.clear()
        self._journaled.clear()
        self._open = _Open(copy.copy(message.state.counters))
        self.in_flight = None
        self.mode = "running"
        return []

    def _stop(self, message: Stopping) -> list[Output]:
        self._advance(message.now_us)
        if self.mode in {"waiting", "halted"}:
            self.mode = "finished"
            return [Finished()]
        if self.mode in {"running", "frozen"}:
            self.mode = "stopping"
        return self._give_up_when_dirty()


class _Open:
    """The batch that is being filled."""

    __slots__ = ("answers", "commands", "events", "ids", "inputs", "new_from", "parked", "told")

    def __init__(self, new_from: Counters) -> None:
        self.new_from = new_from
        self.commands = 0
        self.ids: list[str] = []
        self.inputs: list[Input] = []
        self.events: list[Event] = []
        self.told: list[AccountEvent] = []
        self.answers: list[tuple[str, Answer]] = []
        self.parked: list[Parked] = []


def _lp_of(taken: Taken | Unreadable) -> str:
    if isinstance(taken, Unreadable):
        return taken.lp
    assert isinstance(taken.command, ApplyExecution)
    return taken.command.report.lp


def _moved_balances(state: State, events: list[Event]) -> dict[tuple[str, str], Decimal]:
    moved = dict.fromkeys(
        place
        for event in events
        if type(event) is LedgerPosted
        for transfer in event.transfers
        for place in ((transfer.source, transfer.currency), (transfer.target, transfer.currency))
    )
    return {place: state.balances[place] for place in moved}


def _nudged(events: list[Event]) -> list[str]:
    return sorted({event.leg.lp for event in events if type(event) is ChildOrderRouted})
