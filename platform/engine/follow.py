"""What a standby's memory goes through: the inputs that the owner has committed, decided once more. Pure.

The same inputs make the same state, as long as what is volatile is the same too: idempotency keys, message buckets, the
memory of recent orders and quotes. An owner begins each epoch without them, so from the first batch of an epoch on a
follower is exact. Who joined in the middle of one may differ from the owner where these decide; the batch row shows it.
"""

from collections.abc import Iterable

from msgspec import Struct

from engine.batch import CommandInput, Input, LastBatch, ParkedInput, QuoteInput
from engine.core import execute
from engine.state import State, is_same_state, state_hash
from trading.commands import QuoteArrived
from trading.events import Event


class Record(Struct, frozen=True, kw_only=True):
    """A committed batch: what it was made from, and what it left."""

    seq: int
    epoch: int
    left: LastBatch
    inputs: list[Input]


def apply_inputs(state: State, inputs: Iterable[Input]) -> list[Event]:
    """Decide again what the owner decided, and what followed. Raises what a decision raises, for a state that is not the
    owner's."""
    events: list[Event] = []
    for item in inputs:
        match item:
            case QuoteInput():
                state.quotes[item.quote.symbol] = item.quote
            case CommandInput():
                events += execute(state, item.command, item.at_us, item.prior).events
            case ParkedInput():
                if item.lp:
                    state.inbox_cursors[item.lp] = item.inbox_seq
    return events


def take_quotes(state: State, inputs: Iterable[Input]) -> None:
    """The quotes among the inputs, and nothing else."""
    for item in inputs:
        if isinstance(item, QuoteInput):
            state.quotes[item.quote.symbol] = item.quote
        elif isinstance(item, CommandInput) and isinstance(item.command, QuoteArrived):
            state.quotes[item.command.quote.symbol] = item.command.quote


def begin_epoch(state: State) -> None:
    """Forget what an owner does not bring along from the database, and make anew what follows from prices."""
    for volatile in (state.keys, state.throttles, state.recent, state.waiters, state.quotes):
        volatile.clear()
    state.books.renew(state)
    state.nets.renew(state)
    state.watches.renew(state)


def difference(state: State, record: Record) -> str:
    """In which respect the state is not the one that the batch left; empty when it is."""
    left = record.left
    found = {
        "counters": (state.counters, left.counters),
        "outbox_seq": (state.outbox_seq, left.outbox_seq),
        "inbox_cursors": (state.inbox_cursors, left.inbox_cursors),
        "config_version": (state.config.version if state.config else 0, left.config_version),
        "desk": (state.desk, left.desk),
    }
    for name, (own, stored) in found.items():
        if own != stored:
            return f"{name} of batch {record.seq} is {stored}, not {own}"
    if left.state_hash and is_same_state(left.state_hash, state_hash(state)) is False:
        return f"the state does not hash as batch {record.seq} left it"
    return ""


def totals(state: State) -> dict[str, tuple[object, ...]]:
    """Sums over what is live, to be compared with the same sums over the tables."""
    accounts, orders = state.accounts.values(), state.orders.values()
    positions, legs = state.positions.values(), state.legs.values()
    return {
        "accounts": (
            len(accounts),
            sum(a.balance for a in accounts),
            sum(a.credit for a in accounts),
            sum(a.version for a in accounts),
            sum(a.seq for a in accounts),
        ),
        "orders": (
            len(orders),
            sum(o.id for o in orders),
            sum(o.filled_volume for o in orders),
            sum(o.margin_reserved for o in orders),
        ),
        "positions": (
            len(positions),
            sum(p.id for p in positions),
            sum(p.volume for p in positions),
            sum(p.cost for p in positions),
            sum(p.locked for p in positions),
        ),
        "legs": (len(legs), sum(leg.id for leg in legs), sum(leg.filled_volume for leg in legs)),
        "balances": (len([1 for b in state.balances.values() if b]), sum(abs(b) for b in state.balances.values())),
    }
