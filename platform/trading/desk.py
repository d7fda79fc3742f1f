"""What the desk has set for the whole shard, and the records of the day: switches, cursors, notes about margin, swaps, blocks.

State that belongs to no single account. It is committed with every batch that changes it.
"""

from decimal import Decimal
from enum import StrEnum

from msgspec import Struct

from trading.breaker import Breakers
from trading.charges.commission import Units
from trading.controls import KillSwitches
from trading.numbers import ZERO
from trading.orders import Side


class ErrorHolding(Struct, frozen=True, kw_only=True):
    """What the house holds at a provider in a symbol because something went wrong, and how its flattening goes."""

    lp: str
    symbol: str
    volume: Decimal
    """Lots; below zero is short."""
    cost: Decimal
    """Sum of price x lots with the volume's sign."""
    failures: int = 0
    """Attempts in a row that dealt nothing."""
    retry_us: int = 0
    """Not tried again before this business time."""


class Desk(Struct, frozen=True, kw_only=True):
    """Switches, and up to where the day's work is done."""

    switches: KillSwitches = KillSwitches()
    rolled_us: int = 0
    """Every position's swaps are charged up to this instant; 0 before the first rollover."""
    recharged: str = ""
    """The last business date (ISO) on which margins that ask for it were charged anew."""
    settled: str = ""
    """The last business date (ISO) whose daily commission is posted."""
    splits: tuple[tuple[str, int], ...] = ()
    """When each symbol's units were last split, by symbol: volumes of deals before it are in the old units."""
    breakers: Breakers = ()
    """How each provider has been answering, and which of them gets no new risk for now."""

    errors: tuple[ErrorHolding, ...] = ()
    """The error account: one holding per provider and symbol, sorted by them; none without lots."""
    halts: tuple[tuple[str, str], ...] = ()
    """(provider, symbol) where nothing is opened until a dealer has looked, sorted."""

    def split_us(self, symbol: str) -> int:
        """0 for a symbol that was never split."""
        return dict(self.splits).get(symbol, 0)


class ErrorReason(StrEnum):
    """What brought lots into the house's error account, or out of it."""

    LATE_FILL = "late_fill"
    EXCESS_FILL = "excess_fill"
    ORPHAN_FILL = "orphan_fill"
    MISMATCHED_FILL = "mismatched_fill"
    BUST = "bust"
    CORRECTION = "correction"
    EXPIRED = "expired"
    """The contract ended, at its settlement price."""
    FLATTENED = "flattened"
    """Dealt to bring the holding back to nothing."""


class ErrorFill(Struct, frozen=True, kw_only=True):
    """One booking in the house's error account."""

    id: int
    lp: str
    symbol: str
    side: Side
    volume: Decimal
    price: Decimal
    reason: ErrorReason
    cl_ord_id: str
    exec_id: str
    """Of the report that led to it."""
    result: Decimal
    """Realised by it, in `currency`: plus is won from the provider."""
    currency: str
    volume_after: Decimal
    """The holding's, with its sign."""
    cost_after: Decimal
    at_us: int


class MarginNoteKind(StrEnum):
    MARGIN_CALL = "margin_call"
    MARGIN_RESTORED = "margin_restored"
    """Back above the thresholds."""
    ORDER_CANCELED = "order_canceled"
    """A stop-out took a waiting order back for its margin."""
    POSITION_CLOSED = "position_closed"
    """A stop-out or close-out closes a position, or a part of it."""
    NOTHING_LEFT = "nothing_left"
    """Below the level, and nothing that could be closed now: a dealer must look."""
    NEGATIVE_BALANCE = "negative_balance"
    """The house paid what the client would owe."""


class MarginNote(Struct, frozen=True, kw_only=True):
    """One step of a margin call or stop-out, with everything that it was decided on: so that it can be explained."""

    id: int
    account: int
    kind: MarginNoteKind
    rule: str
    """`margin call 80`, `stop-out 50`, `ESMA CFD measures`…"""
    equity: Decimal
    margin: Decimal
    level: Decimal | None
    """Per cent, rounded to two decimals; None without margin."""
    at_us: int
    order_id: int = 0
    position_id: int = 0
    detail: str = ""
    """A sentence."""
    prices: dict[str, tuple[Decimal, Decimal]] = {}
    """Symbol to (bid, ask) as the client sees them."""


class SwapAccrual(Struct, frozen=True, kw_only=True):
    """One position's charge for one swap instant: at most one per position, date and period."""

    position_id: int
    account: int
    symbol: str
    date: str
    period: int
    due_us: int
    """The instant that it is for."""
    at_us: int
    """When it was charged."""
    factor: Decimal
    rate: Decimal
    amount: Decimal
    why: str


class CommissionBlock(Struct, frozen=True, kw_only=True):
    """Commission of one deal under one daily rule, blocked until the day's end."""

    account: int
    rule: str
    date: str
    key: str
    """`deal:17`; once per account and rule."""
    counted: Units


class CommissionDay(Struct, frozen=True, kw_only=True):
    """One account's daily commission of one date under one rule, posted."""

    account: int
    rule: str
    date: str
    amount: Decimal
    lots: Decimal = ZERO
    """Turnover of the tiers' period up to and with this date."""
    money: Decimal = ZERO
    transaction_id: int = 0
