"""One batch: everything that is committed together, and the inputs it was made from.

The inputs, in order and with their stamped time, are the input journal: given the state before, they make the same
events again, byte for byte. A quote is among them once per epoch and per `QUOTES_EVERY` batches, before the first command
that used it; replay starts each epoch without quotes, and who joins in the middle of one looks back no further than that.
"""

from decimal import Decimal

from msgspec import Struct, field

from engine.core import AccountEvent
from engine.state import Counters, Prior
from trading.answers import Answer
from trading.commands import AnyCommand
from trading.desk import Desk
from trading.events import Event
from trading.quotes import Quote

NOTHING_PRIOR = Prior()
QUOTES_EVERY = 256
"""After each batch whose number this divides, every quote that is used is journaled anew."""


class StreamPosition(Struct, frozen=True):
    """The last entry taken from the command stream. Ids mean something only within one life of the stream."""

    incarnation: str = ""
    id: str = "0-0"


class LastBatch(Struct, frozen=True, kw_only=True):
    """What a committed batch says about the whole."""

    position: StreamPosition = StreamPosition()
    inbox_cursors: dict[str, int] = {}
    config_version: int = 0
    counters: Counters = field(default_factory=Counters)
    outbox_seq: int = 0
    desk: Desk = Desk()
    state_hash: str = ""
    at_us: int = 0


class QuoteInput(Struct, frozen=True, tag_field="input", tag="quote"):
    """From here on this is the symbol's quote."""

    quote: Quote


class CommandInput(Struct, frozen=True, omit_defaults=True, tag_field="input", tag="command"):
    """One command as it was executed."""

    at_us: int
    command: AnyCommand
    prior: Prior = NOTHING_PRIOR


class ParkedInput(Struct, frozen=True, tag_field="input", tag="parked"):
    """A command that was set aside; for a provider's report, its place in the inbox counts as taken."""

    at_us: int
    command_id: str
    lp: str = ""
    inbox_seq: int = 0


Input = QuoteInput | CommandInput | ParkedInput


class Parked(Struct, frozen=True, kw_only=True):
    """A command that cannot be executed, kept for an operator."""

    command_id: str
    account: int
    command: bytes
    """JSON as it was received, or a JSON string of it when it was not JSON."""
    error: str
    at_us: int


class Batch(Struct, kw_only=True):
    """What one COMMIT makes durable, and what may be told after it."""

    shard: int
    epoch: int
    seq: int
    at_us: int
    position: StreamPosition
    inbox_cursors: dict[str, int]
    config_version: int
    new_from: Counters
    """The counters before the batch: an order, position or leg with a smaller id has a row already."""
    counters: Counters
    outbox_seq: int
    desk: Desk
    commands: int
    inputs: list[Input]
    events: list[Event]
    told: list[AccountEvent]
    parked: list[Parked]
    balances: dict[tuple[str, str], Decimal]
    """The ledger balances that the batch moved, as they are after it."""
    answers: list[tuple[str, Answer]]
    """Bus client and answer."""
    nudges: list[str]
    """Providers that have new legs."""
    state_hash: str = ""
    """Only of a batch that was sealed to stop: hashing everything takes longer than a batch."""
