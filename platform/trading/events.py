"""What happened, in the past tense. Events carry the whole new value of what they changed, so that applying one is a
plain assignment, and a row is written from the last event that touched it.
"""

from msgspec import Struct

from trading.accounts import Account
from trading.decisions import Decision
from trading.desk import CommissionBlock, CommissionDay, Desk, ErrorFill, MarginNote, SwapAccrual
from trading.ledger import Transfer
from trading.liquidity import Case, Execution, LpOrder
from trading.orders import Deal, Order
from trading.positions import Position


class Event(Struct, frozen=True, tag_field="event", tag=True):
    """What all events have in common: nothing but their tag."""


class AccountOpened(Event, frozen=True):
    account: Account


class AccountChanged(Event, frozen=True):
    """New terms."""

    account: Account


class OrderAccepted(Event, frozen=True):
    """The order is ours to work: PENDING_NEW or resting, its margin reserved."""

    order: Order


class OrderRejected(Event, frozen=True):
    """Refused by us before routing, or by every provider that was tried."""

    order: Order


class OrderRouted(Event, frozen=True):
    """The routing decision of an order, for its record."""

    order_id: int
    decision: Decision


class OrderUpdated(Event, frozen=True):
    """Still working, with something new: another provider is being tried."""

    order: Order


class OrderTriggered(Event, frozen=True):
    """A stop's price was reached."""

    order: Order


class OrderModified(Event, frozen=True):
    """Resting, on new terms."""

    order: Order


class OrderExpired(Event, frozen=True):
    """Its time ran out; what was filled stays filled."""

    order: Order


class OrderPartiallyFilled(Event, frozen=True):
    order: Order


class OrderFilled(Event, frozen=True):
    order: Order


class OrderCanceled(Event, frozen=True):
    """The unfilled rest will not be filled."""

    order: Order


class DealMade(Event, frozen=True):
    deal: Deal


class PositionOpened(Event, frozen=True):
    position: Position


class PositionChanged(Event, frozen=True):
    """Added to, reduced, locked or unlocked."""

    position: Position


class PositionClosed(Event, frozen=True):
    """Nothing is open under this ticket any more."""

    position: Position


class LedgerPosted(Event, frozen=True):
    """Balanced transfers of one transaction, and the client's account after them (None when no client is concerned)."""

    transfers: tuple[Transfer, ...]
    account: Account | None


class ChildOrderRouted(Event, frozen=True):
    """A leg to be sent to a provider once this is committed."""

    leg: LpOrder


class ChildOrderUpdated(Event, frozen=True):
    """What a provider's report made of a leg."""

    leg: LpOrder


class CaseOpened(Event, frozen=True):
    case: Case


class ExecutionKept(Event, frozen=True):
    """A provider's fill, bust or correction was dealt with: it will not be so again."""

    execution: Execution


class ErrorBooked(Event, frozen=True):
    """A record of its own; what it made of the holding is a DeskChanged."""

    fill: ErrorFill


class DeskChanged(Event, frozen=True):
    """Switches or cursors of the shard."""

    desk: Desk


class MarginNoted(Event, frozen=True):
    """A margin call, or a step of a stop-out."""

    note: MarginNote


class SwapAccrued(Event, frozen=True):
    """A record of its own; what it made of the position is a PositionChanged."""

    accrual: SwapAccrual


class CommissionBlocked(Event, frozen=True):
    block: CommissionBlock


class CommissionSettled(Event, frozen=True):
    day: CommissionDay


class ConfigLoaded(Event, frozen=True):
    version: int


class AccountNumbered(Event, frozen=True):
    """The account after its events of one command were numbered: its `seq` is the last of them."""

    account: Account


class CommandKeyed(Event, frozen=True):
    """An (account, key) was used up by a command: what it said, and what came of it."""

    account: int
    key: str
    body_hash: str
    kind: str
    reference: int
    """The order, transaction or version that the command made; 0 for none."""
    refusal: str


AnyEvent = (
    AccountOpened
    | AccountChanged
    | OrderAccepted
    | OrderRejected
    | OrderRouted
    | OrderUpdated
    | OrderTriggered
    | OrderModified
    | OrderExpired
    | OrderPartiallyFilled
    | OrderFilled
    | OrderCanceled
    | DealMade
    | PositionOpened
    | PositionChanged
    | PositionClosed
    | LedgerPosted
    | ChildOrderRouted
    | ChildOrderUpdated
    | CaseOpened
    | ExecutionKept
    | ErrorBooked
    | DeskChanged
    | MarginNoted
    | SwapAccrued
    | CommissionBlocked
    | CommissionSettled
    | ConfigLoaded
    | AccountNumbered
    | CommandKeyed
)
