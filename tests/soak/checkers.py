"""What must be true of histories and stored data when all is over. Pure: each takes values and returns what is wrong.

After Jepsen's workloads: bank, a register per order, an append-only journal per account, a queue of which nothing is lost,
unique ids; and the broker's own: what was acknowledged is stored as it was told, and the providers' files agree with ours.
"""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from tests.soak.history import Kind, Op, Outcome, Told
from trading.orders import TERMINAL, TRANSITIONS, OrderStatus

State = TypeVar("State", bound=Hashable)


class Wrong(StrEnum):
    LOST = "lost"
    DUPLICATED = "duplicated"
    UNRESOLVED = "unresolved"
    VIOLATED = "violated"


@dataclass(frozen=True, slots=True)
class Finding:
    kind: Wrong
    text: str
    key: str = ""
    """The operation that it is about, to tell during which fault it happened."""


# ------------------------------------------------------------------------------------------------- acknowledged orders


@dataclass(frozen=True, slots=True)
class Stored:
    """A trade_order row."""

    account: int
    client_order_id: str
    ticket: int
    status: str
    filled: Decimal = Decimal(0)


def acknowledged_is_stored(ops: Iterable[Op], rows: Iterable[Stored]) -> list[Finding]:
    """Every acknowledged order is stored once, as it was told or as what may have become of it; and nothing unasked is."""
    rows = list(rows)
    orders = [op for op in ops if op.kind in (Kind.PLACE, Kind.CLOSE)]
    times = Counter((row.account, row.client_order_id) for row in rows)
    stored = {(row.account, row.client_order_id): row for row in rows}
    asked = {(op.account, op.key) for op in orders}
    found = [
        Finding(Wrong.DUPLICATED, f"{name} is stored {count} times", key=name[1])
        for name, count in times.items()
        if count > 1
    ]
    found += [Finding(Wrong.VIOLATED, f"{name} was never asked for") for name in stored.keys() - asked]
    for op in orders:
        found += _order_is_stored(op, stored.get((op.account, op.key)))
    return found


def reads_are_stored(ops: Iterable[Op], rows: Iterable[Stored]) -> list[Finding]:
    """Whatever was read of an order is what is stored, or what became of it."""
    stored = {(row.account, row.client_order_id): row for row in rows}
    found = []
    for op in ops:
        if op.kind in (Kind.READ, Kind.CANCEL, Kind.MODIFY) and op.outcome is Outcome.OK:
            row = stored.get((op.account, op.about))
            if row is None:
                found.append(Finding(Wrong.LOST, f"{op.about} was shown and is not stored", key=op.key))
            elif op.told is not None and not follows(op.told, row):
                found.append(Finding(Wrong.VIOLATED, f"{op.about} was shown as {op.told} and is {row}", key=op.key))
    return found


def _order_is_stored(op: Op, row: Stored | None) -> list[Finding]:
    if op.outcome is Outcome.INFO:
        return [Finding(Wrong.UNRESOLVED, f"{op.key} was never answered ({op.code}); stored: {row}", key=op.key)]
    if op.told is not None:
        if row is None:
            return [Finding(Wrong.LOST, f"{op.key} was acknowledged as {op.told} and is lost", key=op.key)]
        if not follows(op.told, row):
            return [Finding(Wrong.VIOLATED, f"{op.key} was told {op.told} and is {row}", key=op.key)]
    elif row is not None and row.status != OrderStatus.REJECTED:
        return [Finding(Wrong.VIOLATED, f"{op.key} was refused ({op.code}) and is {row}", key=op.key)]
    return []


def follows(told: Told, row: Stored) -> bool:
    """What is stored is what was told, or what may legally have become of it."""
    then, now = OrderStatus(told.status), OrderStatus(row.status)
    if row.ticket != told.ticket or row.filled < told.filled:
        return False
    if then is not now:
        return now in reachable(then)
    return then not in TERMINAL or row.filled == told.filled


def reachable(status: OrderStatus) -> frozenset[OrderStatus]:
    found: frozenset[OrderStatus] = frozenset()
    new = TRANSITIONS[status]
    while new - found:
        found |= new
        new = frozenset(later for one in found for later in TRANSITIONS[one])
    return found


def nothing_is_pending(rows: Iterable[Stored], resting: Collection[str] = ()) -> list[Finding]:
    """Every order has ended, but for those that are meant to rest."""
    return [
        Finding(Wrong.UNRESOLVED, f"{row.client_order_id} is still {row.status}", key=row.client_order_id)
        for row in rows
        if OrderStatus(row.status) not in TERMINAL and row.client_order_id not in resting
    ]


# ---------------------------------------------------------------------------------------------------------------- bank


@dataclass(frozen=True, slots=True)
class Balances:
    """One snapshot: what each party holds per currency, what was paid in, and the clients below zero."""

    parties: Mapping[str, Mapping[str, Decimal]]
    """Currency to party to amount."""
    paid_in: Mapping[str, Decimal]
    """Deposits less withdrawals per currency."""
    below_zero: Mapping[int, Decimal]
    """Accounts with less than nothing, that are flat and are owed protection: nobody is left to be waited for."""


def bank(snapshots: Iterable[Balances]) -> list[Finding]:
    """Money moves between parties and neither appears nor vanishes; nobody who is protected owes."""
    found = []
    for number, snapshot in enumerate(snapshots):
        for currency in snapshot.parties.keys() | snapshot.paid_in.keys():
            total = sum(snapshot.parties.get(currency, {}).values(), Decimal(0))
            if total != (paid := snapshot.paid_in.get(currency, Decimal(0))):
                found.append(f"snapshot {number}: {currency} sums to {total}, and {paid} was paid in")
        found += [
            f"snapshot {number}: account {account} is at {balance}" for account, balance in snapshot.below_zero.items()
        ]
    return [Finding(Wrong.VIOLATED, f"bank: {text}") for text in found]


def deposits_are_booked(ops: Iterable[Op], booked: Mapping[int, Decimal]) -> list[Finding]:
    """Each acknowledged deposit is one transaction of that amount, and there are no others."""
    deposits = [op for op in ops if op.kind is Kind.DEPOSIT]
    found = [
        Finding(Wrong.UNRESOLVED, f"deposit {op.key} was never answered ({op.code})", key=op.key)
        for op in deposits
        if op.outcome is Outcome.INFO
    ]
    told = {op.told.ticket: op for op in deposits if op.told is not None}
    for number, op in told.items():
        if number not in booked:
            found.append(Finding(Wrong.LOST, f"deposit {op.key} was acknowledged as {number} and is lost", key=op.key))
        elif booked[number] != Decimal(op.about):
            found.append(Finding(Wrong.VIOLATED, f"deposit {op.key} of {op.about} is {booked[number]}", key=op.key))
    if not any(op.outcome is Outcome.INFO for op in deposits):
        found += [
            Finding(Wrong.DUPLICATED, f"transaction {number} of {booked[number]} was never acknowledged")
            for number in booked.keys() - told.keys()
        ]
    return found + unique("deposits", [op.told.ticket for op in deposits if op.told is not None])


# ---------------------------------------------------------------------------------------------- a register per order


@dataclass(frozen=True, slots=True)
class Resting:
    """An order as a register: its status and price. None before it is placed."""

    status: str
    price: Decimal | None


HISTORY_MAX = 40
"""Operations of one order that the search takes on: it is exponential in those that overlap."""
WITHOUT_EFFECT = frozenset({"command_expired", "busy", "rate_limited"})
"""Refusals that say nothing of the order's state."""


def order_register(state: Resting | None, op: Op) -> tuple[Resting | None, ...]:
    """The states that may be there after `op`; none when its answer contradicts `state`.

    A repeated change is answered with the order as it is by then, so what a change was told is not held against it.
    """
    is_refused = op.outcome is Outcome.FAIL
    if op.kind is Kind.READ:
        seen = None if op.told is None else Resting(op.told.status, op.told.price)
        return (state,) if seen == state else ()
    if op.kind is Kind.PLACE:
        return (state,) if is_refused else (Resting("new", op.price),) if state is None else ()
    if state is None:
        return ()
    if op.kind is Kind.CANCEL:
        return () if is_refused else (Resting("canceled", state.price),)
    if is_refused:
        return (state,) if state.status == "canceled" else ()
    return (Resting("new", op.price),) if state.status == "new" else ()


def registers(ops: Iterable[Op]) -> list[Finding]:
    """Each order that was placed to rest, which is one that its placing names, by itself."""
    ops = list(ops)
    histories: dict[str, list[Op]] = {op.about: [] for op in ops if op.kind is Kind.PLACE and op.about}
    for op in ops:
        if op.about in histories:
            histories[op.about].append(op)
    found = []
    for name, history in histories.items():
        counting = [op for op in history if op.code not in WITHOUT_EFFECT or op.outcome is not Outcome.FAIL]
        if len(counting) > HISTORY_MAX:
            found.append(Finding(Wrong.VIOLATED, f"the history of {name} is too long to be searched: {len(history)}"))
        elif not linearizable(counting, None, order_register):
            told = "; ".join(describe(op) for op in sorted(counting, key=lambda op: op.began_s))
            found.append(Finding(Wrong.VIOLATED, f"{name} is not linearizable: {told}"))
    return found


def describe(op: Op) -> str:
    told = "" if op.told is None else f" {op.told.status}@{op.told.price}"
    return f"[{op.began_s:.3f} {op.ended_s:.3f}] {op.client} {op.kind} {op.price or ''} {op.outcome}{told} {op.code}"


def linearizable(
    ops: Sequence[Op], initial: State | None, step: Callable[[State | None, Op], tuple[State | None, ...]]
) -> bool:
    """Whether the operations can be put in an order that their times allow and in which every answer is right.

    Wing and Gong's search, remembering (what is left, state). An unanswered operation may take effect any time or never.
    """
    history = sorted(ops, key=lambda op: op.began_s)
    answered = sum(1 << place for place, op in enumerate(history) if op.outcome is not Outcome.INFO)
    waiting: list[tuple[int, State | None]] = [((1 << len(history)) - 1, initial)]
    seen = set(waiting)
    while waiting:
        left, state = waiting.pop()
        if not left & answered:
            return True
        for place in _may_be_next(history, left):
            for after in step(state, history[place]):
                following = (left & ~(1 << place), after)
                if following not in seen:
                    seen.add(following)
                    waiting.append(following)
    return False


def _may_be_next(history: Sequence[Op], left: int) -> list[int]:
    """Of what is left, those that began before any other had ended."""
    there = [place for place in range(len(history)) if left >> place & 1]
    first_end = min(history[place].ended_s for place in there)
    return [place for place in there if history[place].began_s <= first_end]


# ------------------------------------------------------------------------------------------------- journals and queues


def append_only(name: str, reads: Iterable[Sequence[Hashable]], final: Sequence[Hashable]) -> list[Finding]:
    """Every reading of a journal is the beginning of what it is in the end."""
    return [
        Finding(Wrong.VIOLATED, f"{name}: reading {number} differs from the journal at place {place}")
        for number, read in enumerate(reads)
        if (place := _first_difference(read, final)) is not None
    ]


def _first_difference(read: Sequence[Hashable], final: Sequence[Hashable]) -> int | None:
    for place, item in enumerate(read):
        if place >= len(final) or final[place] != item:
            return place
    return None


def followed(
    name: str, received: Sequence[tuple[int, str]], journal: Sequence[tuple[int, str]], *, since: int
) -> list[Finding]:
    """A follower that resumed by number was told every event after `since` once and in order. Both are (number, kind)."""
    expected = [event for event in journal if event[0] > since]
    if list(received) == expected:
        return []
    counted = Counter(received)
    found = [Finding(Wrong.DUPLICATED, f"{name}: {event} was told {n} times") for event, n in counted.items() if n > 1]
    found += [Finding(Wrong.LOST, f"{name}: {event} was never told") for event in expected if event not in counted]
    known = set(expected)
    found += [Finding(Wrong.VIOLATED, f"{name}: {event} never happened") for event in counted if event not in known]
    return found or [Finding(Wrong.VIOLATED, f"{name}: events were told out of order")]


def total_queue(
    name: str, put: Iterable[Hashable], taken: Iterable[Hashable], *, may_repeat: bool = False
) -> list[Finding]:
    """What was put in came out; nothing else did; and, where it counts, once."""
    put, counted = set(put), Counter(taken)
    found = [Finding(Wrong.LOST, f"{name}: {one} went in and never came out") for one in put - counted.keys()]
    found += [Finding(Wrong.VIOLATED, f"{name}: {one} came out and never went in") for one in counted.keys() - put]
    if not may_repeat:
        found += [
            Finding(Wrong.DUPLICATED, f"{name}: {one} came out {count} times")
            for one, count in counted.items()
            if count > 1
        ]
    return found


def unique(name: str, ids: Iterable[Hashable]) -> list[Finding]:
    return [
        Finding(Wrong.DUPLICATED, f"{name}: {one} was given {count} times")
        for one, count in Counter(ids).items()
        if count > 1
    ]


# ----------------------------------------------------------------------------------------------------------- providers


@dataclass(frozen=True, slots=True)
class Leg:
    """An lp_order row: units that we booked for the client, and those that went into a case or the error account."""

    cl_ord_id: str
    filled: Decimal
    in_cases: Decimal = Decimal(0)
    is_settled: bool = True


def providers_agree(held: Iterable[tuple[str, str, Decimal]], legs: Iterable[Leg]) -> list[Finding]:
    """`held` are the providers' own orders: ClOrdID, their own number, units filled, the newest of each.

    Each ClOrdID was an order there at most once; what they filled is what we booked, for the client or in a case.
    """
    held, legs = list(held), list(legs)
    found = [
        Finding(Wrong.DUPLICATED, f"the provider has {count} orders under {name}")
        for name, count in Counter(name for name, _, _ in held).items()
        if count > 1
    ]
    theirs = {name: filled for name, _, filled in held}
    ours = {leg.cl_ord_id: leg.filled + leg.in_cases for leg in legs}
    found += [
        Finding(Wrong.VIOLATED, f"{name}: they filled {theirs.get(name, 0)}, we booked {ours.get(name, 0)}")
        for name in theirs.keys() | ours.keys()
        if theirs.get(name, Decimal(0)) != ours.get(name, Decimal(0))
    ]
    found += [Finding(Wrong.UNRESOLVED, f"leg {leg.cl_ord_id} is still out") for leg in legs if not leg.is_settled]
    return found
