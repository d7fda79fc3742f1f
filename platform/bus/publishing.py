"""Events out of the house: what a message is, which queues get it, and how a run of them is published.

The outbox is the truth; a relay copies it to a message broker in the shard's order. There are two brokers behind one
interface: RabbitMQ (`bus.amqp`) where AMQP_URL names one, else Redis streams (`bus.redis_streams`). Names are the same:

| name | what it is |
| --- | --- |
| `tribook.events` | topic exchange; the routing key is the event's kind |
| `events` | the replayable log of everything, kept by age and size |
| `orders`, `executions`, `notifications` | work queues: each message is for one of the queue's consumers |
| `orders.dead`, ... | what a queue's consumers could not take |

Every message may come more than once and is known by its id `shard:shard_seq`. A broker whose queue overflows drops its
oldest: whoever fell so far behind reads the log, or the outbox.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

EXCHANGE = "tribook.events"
DEAD_EXCHANGE = "tribook.dead"
LOG = "events"
QUEUES: Mapping[str, tuple[str, ...]] = {
    "orders": ("order.*",),
    "executions": ("order.filled", "order.partially_filled", "position.*"),
    "notifications": ("order.filled", "order.partially_filled", "margin.*", "account.balance"),
}
"""Queue by queue the kinds it gets: `order.*` stands for every kind that begins with `order.`."""
DELIVERIES_MAX = 5
"""How often a message is tried that its handler cannot take, before it is a dead letter."""
CRASHES_MAX = 20
"""How often it is delivered at all: a message that kills its consumer, or a consumer that is killed again and again."""


class NotPublished(Exception):
    """Not all of the run is known to be with the broker: publish it again. Messages may come twice for it."""


class Unroutable(NotPublished):
    """The broker had no queue for a message and gave it back."""


class Unreadable(Exception):
    """What came is none of our messages; no further try can help."""


class Message(Struct, frozen=True, kw_only=True):
    """One row of the outbox on its way."""

    shard: int
    shard_seq: int
    account: int
    account_seq: int
    kind: str
    payload: bytes
    """JSON, as it was stored."""
    at_us: int

    @property
    def id(self) -> str:
        """The same for ever: consumers know by it what they have had."""
        return f"{self.shard}:{self.shard_seq}"

    @property
    def headers(self) -> dict[str, int | str]:
        return {"account": self.account, "account_seq": self.account_seq, "kind": self.kind, "at": self.at_us}


def message_from(identity: str, headers: Mapping[str, object], payload: bytes) -> Message:
    """The message again, as a consumer gets it. Raises Unreadable."""
    shard, _, seq = identity.partition(":")
    try:
        return Message(
            shard=int(shard),
            shard_seq=int(seq),
            account=int(str(headers["account"])),
            account_seq=int(str(headers["account_seq"])),
            kind=str(headers["kind"]),
            payload=payload,
            at_us=int(str(headers["at"])),
        )
    except (KeyError, ValueError) as error:
        raise Unreadable(f"message {identity[:80]!r} is not one of ours: {error!r}") from error


class Publisher(Protocol):
    """Used by one thread. Reconnects by itself at the next `publish`."""

    def publish(self, messages: Sequence[Message]) -> None:
        """Returns when the broker has confirmed every one of them, in this order. Raises NotPublished."""

    def remembers(self) -> bool:
        """Whether the broker still has what it confirmed since `remember`. Raises NotPublished when it cannot say."""

    def remember(self) -> None:
        """From now on the broker holds all that is published. Raises NotPublished."""

    def idle(self, seconds: float) -> None:
        """Wait, and keep the connection alive meanwhile."""

    def close(self) -> None: ...


def queues_of(kind: str) -> list[str]:
    """The work queues that get this kind."""
    return [queue for queue, patterns in QUEUES.items() if any(fits(pattern, kind) for pattern in patterns)]


def fits(pattern: str, kind: str) -> bool:
    first, star, _ = pattern.partition("*")
    return kind.startswith(first) if star else kind == pattern


def dead(queue: str) -> str:
    """The name of what holds a queue's dead letters."""
    return f"{queue}.dead"


class Depth(Struct, frozen=True):
    """How many messages wait in a queue, and how many are its dead letters."""

    queue: str
    waiting: int
    dead: int


class Broker(Protocol):
    """What operators ask: `manage.py bus`. Raises NotPublished when the broker cannot be reached."""

    def depths(self) -> list[Depth]: ...

    def log_from(self, shard_seq: int) -> Iterable[Message]:
        """All that the log still holds, as it is now, less what is numbered below."""

    def dead_letters(self, queue: str, limit: int) -> list[tuple[str, str]]:
        """Id and content of the oldest dead letters."""

    def requeue(self, queue: str, limit: int) -> int:
        """Back to their queue, oldest first; how many."""

    def close(self) -> None: ...
