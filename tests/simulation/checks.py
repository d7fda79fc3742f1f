"""What must hold of the simulated house: after every step, every hundred steps and after each crash, and in the end.

A broken promise is noted with the check that saw it, not raised: the run goes on, and the report has them all.
"""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from engine.batch import Batch
from engine.state import State, state_hash
from tests.simulation.agreement import disagreements
from tests.simulation.clients import UNKEYED
from tests.simulation.columns import PLACES, taken_apart
from tests.simulation.postgres import Transaction
from tests.simulation.promises import Promises
from tests.support import laws
from trading import events as e
from trading.answers import Answer
from trading.numbers import ZERO

if TYPE_CHECKING:
    from tests.simulation.processes import Engine
    from tests.simulation.world import House

VIOLATIONS_MAX = 20
_EPOCH = PLACES["engine_batch"]["epoch"]
_STATUS = PLACES["trade_order"]["status"]


class _Held:
    """As much of a world as `tests.support.laws` looks at."""

    def __init__(self, state: State) -> None:
        self.state = state

    def ledger_sums(self) -> dict[str, Decimal]:
        sums: dict[str, Decimal] = {}
        for (_, currency), balance in self.state.balances.items():
            sums[currency] = sums.get(currency, ZERO) + balance
        return sums


class Enough(BaseException):
    """A violation that the run was to stop at. No handler of the code under test may take it for an error of its own."""


class Checks:
    def __init__(self, house: "House") -> None:
        self._house = house
        self.promises = Promises(house)
        self.violations: list[str] = []
        self.stop_at: frozenset[str] = frozenset()
        self.acks = 0
        self.rebuilds = 0
        self._ledger: dict[tuple[str, str], Decimal] = {}
        """The sums of all committed postings."""
        self._seq = 0
        self._epoch = 0
        self._decided: dict[tuple[int, int], Batch] = {}
        self._looked_at = (0, 0, 0)

    def violate(self, check: str, text: str) -> None:
        if len(self.violations) < VIOLATIONS_MAX or check in self.stop_at:
            self.violations.append(f"{check}: {text} (operation {self._house.operation})")
        if check in self.stop_at:
            raise Enough

    # ------------------------------------------------------------------------------------------------- every committed batch

    def decided(self, batch: Batch) -> None:
        """Remember what is about to be written, to hold it against what is committed."""
        self._decided[batch.epoch, batch.seq] = batch

    def committed(self, transaction: Transaction) -> None:
        """Called by the model at every commit, whoever made it."""
        rows = transaction.writes.get("engine_batch")
        if not rows:
            return
        for (_, seq), line in rows.items():
            epoch = int((line.split("\t", 3) if isinstance(line, str) else line)[_EPOCH])
            shard = self._house.server.tables.rows["shard"][0,]
            if seq != self._seq + 1:
                self.violate("I9 batches", f"batch {seq} was committed after batch {self._seq}")
            if epoch < self._epoch or epoch != shard[1]:
                self.violate("fencing", f"batch {seq} of epoch {epoch} was committed in epoch {shard[1]}")
            self._seq, self._epoch = seq, epoch
            batch = self._decided.get((epoch, seq))
            self._decided = {}
            if batch is not None:
                self._batch(batch)
                self.promises.batch(batch)
                self._house.note(str(line), *map(str, transaction.writes.get("outbox", {}).values()))

    def _batch(self, batch: Batch) -> None:
        """Money adds up and volumes stay within what they belong to, in everything that the batch says."""
        ledger = self._ledger
        for event in batch.events:
            said: Any = event
            kind = type(event)
            if kind is e.LedgerPosted:
                for transfer in said.transfers:
                    source, target = (transfer.source, transfer.currency), (transfer.target, transfer.currency)
                    ledger[source] = ledger.get(source, ZERO) - transfer.amount
                    ledger[target] = ledger.get(target, ZERO) + transfer.amount
            elif kind in _POSITIONS:
                p = said.position
                if not (0 <= p.locked <= p.volume and 0 <= p.volume_a <= p.volume <= p.volume_opened):
                    self.violate("I7 positions", f"{p}")
            elif kind in _ORDERS:
                order = said.order
                if order.filled_volume > order.volume:
                    self.violate("I5 fills", f"order {order.id} over {order.volume} is filled {order.filled_volume}")
        for place, balance in batch.balances.items():
            if ledger.get(place, ZERO) != balance:
                self.violate("I2 balances", f"{place} is {balance}, its postings sum to {ledger.get(place, ZERO)}")

    # -------------------------------------------------------------------------------------------------------- every answer

    def acked(self, engine: "Engine", answer: Answer) -> None:
        """I3: what is acknowledged is durable, now."""
        self.acks += 1
        self._house.note(f"ack {answer.command_id} {answer.refusal!s} {answer.reference} {answer.final}")
        request = self._house.clients.asked.get(answer.command_id)
        if request is None or isinstance(request.command, UNKEYED):
            return
        if answer.refusal and not answer.replayed and answer.order is None:
            return
        rows = self._house.server.tables.rows
        key = rows["engine_key"].get((request.command.account, request.command.key))
        if key is None:
            self.violate(
                "I3 acked", f"{request.command} is acknowledged ({answer.reference}) and its key is not durable"
            )
            return
        reference = int(taken_apart(key)[4])
        if reference != answer.reference:
            self.violate(
                "I3 acked", f"{request.command.key} is acknowledged as {answer.reference}, stored as {reference}"
            )
        if answer.order is not None:
            row = rows["trade_order"].get((answer.order.id,))
            if row is None or (row[_STATUS] != answer.order.status and answer.order.is_terminal):
                self.violate("I3 acked", f"order {answer.order.id} is told {answer.order.status}, stored as {row}")

    # --------------------------------------------------------------------------------------------------------- every step

    def after_step(self) -> None:
        engine = self._house.engine
        if engine is None:
            return
        if engine.driver.is_halted:
            self.violate("halted", engine.driver.problem)
            self._house.stop_engine()
            return
        step = engine.step
        here = id(step.state), step.seq, step._open.commands
        if here == self._looked_at:
            return
        self._looked_at = here
        self.promises.after_step(step.state)
        sums = _Held(step.state).ledger_sums()
        if any(sums.values()):
            self.violate("I1 ledger", f"{ {k: v for k, v in sums.items() if v} }")

    def parked(self) -> None:
        for row in self._house.server.tables.all_rows("parked_command"):
            self.violate("parked", f"{row[0]}: {row[3]}")

    # --------------------------------------------------------------------------------- every hundred steps, after a crash

    def deeply(self) -> None:
        """I11: everything derived is what it would be if made anew. I14: PostgreSQL holds the same state as memory."""
        engine = self._house.engine
        if engine is None or engine.step.mode != "running" or engine.step.state.config is None:
            return
        self._derived(engine.step.state)
        if engine.is_idle:
            self.is_rebuilt_the_same(engine.step.state, "the live state")

    def after_crash(self, state: State, before: State | None) -> None:
        """What was loaded is what its predecessor knew, where all that it knew was durable."""
        if state.config is not None:
            self._derived(state)
        if before is not None:
            self._same(before, state, "the state before the crash")

    def is_rebuilt_the_same(self, state: State, whose: str) -> None:
        self._same(state, self._house.rebuilt(), whose)

    def _same(self, state: State, rebuilt: State, whose: str) -> None:
        self.rebuilds += 1
        if state_hash(rebuilt) != state_hash(state):
            self.violate("I14 rebuild", f"{whose} and what PostgreSQL holds differ in {differences(state, rebuilt)}")

    def _derived(self, state: State) -> None:
        held: Any = _Held(state)
        try:
            laws.check_conservation(held)
            laws.check_books(held)
            laws.check_nets(held)
            laws.check_margin(held)
        except AssertionError as error:
            self.violate("I11 derived", f"{error!r} {_where(error)}")

    # ---------------------------------------------------------------------------------------------------------- in the end

    def finally_(self) -> None:
        self.parked()
        self._nothing_pending()
        for check, text in disagreements(self._house):
            self.violate(check, text)
        self._everybody_was_answered()
        self._published_once()
        self.promises.finally_()

    def _nothing_pending(self) -> None:
        tables = self._house.server.tables
        places = PLACES["trade_order"]
        for key in sorted(tables.live_orders):
            row = tables.rows["trade_order"][key]
            if row[places["status"]] == "pending_new" or row[places["attempts"]] != "{}":
                self.violate("I8 unresolved", f"order {key[0]} is {row[places['status']]} at {row[places['attempts']]}")
        places = PLACES["lp_order"]
        for key in sorted(tables.live_legs):
            row = tables.rows["lp_order"][key]
            self.violate(
                "I8 unresolved",
                f"leg {row[places['cl_ord_id']]} is {row[places['status']]} and {row[places['dispatch_state']]}",
            )
        state = self._house.state
        locked = [p.id for p in state.positions.values() if p.locked]
        if locked:
            self.violate("I8 unresolved", f"positions {locked} are locked and nothing closes them")

    def _everybody_was_answered(self) -> None:
        rows = self._house.server.tables.rows["engine_key"]
        for (account, key), request in self._house.clients.requests.items():
            if request.outcome in {"waiting", "unknown"}:
                self.violate("answers", f"{key} of account {account} was never answered")
            if request.outcome == "done" and (account, key) not in rows and not isinstance(request.command, UNKEYED):
                self.violate("I3 acked", f"{key} was acknowledged and is lost")

    def _published_once(self) -> None:
        relay, outbox = self._house.relay, self._house.server.tables.rows["outbox"]
        if len(relay.done) != len(outbox) or relay.published_seq != len(outbox):
            self.violate(
                "I6 outbox", f"{len(outbox)} rows, {len(relay.done)} done once, published to {relay.published_seq}"
            )
        last: dict[str, int] = {}
        for _, row in sorted(outbox.items()):
            _, _, account, number, *_rest = row.split("\t", 4) if isinstance(row, str) else row
            if int(number) != last.get(account, 0) + 1:
                self.violate("I6 outbox", f"account {account} has message {number} after {last.get(account, 0)}")
            last[account] = int(number)


_POSITIONS = {e.PositionOpened, e.PositionChanged, e.PositionClosed}
_ORDERS = {
    e.OrderAccepted, e.OrderRejected, e.OrderUpdated, e.OrderPartiallyFilled, e.OrderFilled, e.OrderCanceled,
    e.OrderTriggered, e.OrderModified, e.OrderExpired,
}  # fmt: skip


def differences(one: State, other: State) -> str:
    """Where two states differ, in short."""
    found = []
    for part in ("accounts", "orders", "positions", "legs", "balances", "inbox_cursors", "outbox_seq", "desk", "blocks",
                 "turnovers", "withdrawals", "counters"):  # fmt: skip
        here, there = getattr(one, part), getattr(other, part)
        if here != there and isinstance(here, dict):
            keys = [key for key in {**here, **there} if here.get(key) != there.get(key)]
            found.append(f"{part}{keys[:3]}: {[(here.get(k), there.get(k)) for k in keys[:1]]}")
        elif here != there:
            found.append(f"{part}: {here} / {there}")
    return "; ".join(found) or "nothing that is listed"


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace is not None else ""
