"""Who may write: the shard's lease, and one engine's claim to it. All times are PostgreSQL's.

The lease only says when another engine may take the shard; what protects the books is the epoch. Taking over raises it,
and every batch of an older epoch finds no row to update. So a lease that ran out too early, or a clock that jumped, costs
a change of owner and nothing else. An owner that could not renew its lease goes on deciding until a commit tells it that
it is fenced: that is safe, because nothing is answered, sent or told before its own batch is committed.

A lease is renewed by every batch, and about every second while nothing is written. It is released by an orderly end.
"""

import math
from collections.abc import Callable

import psycopg
import structlog
from msgspec import Struct

from engine.journal import JOURNAL_NAME, LEASE, Connecting, Connection

log = structlog.get_logger()

OWNER = "engine"
"""How an engine calls itself unless it is told otherwise."""
STANDBY = "standby"
RENEW_S = 1.0
POLL_S = 0.25
"""Between two looks at somebody else's lease."""
LOADING_LEASE = "30 seconds"
"""From taking the shard to having loaded it; loading is one long read in which nothing can be renewed."""
LEASE_MAX = "1 minute"
"""A lease that runs longer was granted by a clock that has gone back since: it counts as run out."""
PATIENCE_S = 5.0
"""How long a standby leaves a free shard to the engine whose place it is, before it has ever seen an owner."""
STUCK_AFTER = "2 seconds"


class HaltedError(Exception):
    """The shard must not be run before an operator has looked."""


class FencedError(Exception):
    """Another process has taken the shard since it was ours."""


class Standing(Struct, frozen=True):
    """The shard's row as it was read."""

    epoch: int
    seq: int
    owner: str
    halted: str
    is_held: bool
    """The lease has not run out."""


class LeaseHeldError(Exception):
    """The shard is somebody else's. Whoever wants it waits."""

    def __init__(self, standing: Standing) -> None:
        super().__init__(f"{standing.owner or 'nobody'} has it in epoch {standing.epoch}")
        self.standing = standing


class Lease:
    """One engine's claim to one shard. Used by the deciding thread; reconnects by itself."""

    def __init__(
        self,
        connecting: Connecting,
        *,
        shard: int,
        name: str = OWNER,
        monotonic: Callable[[], float],
        patience_s: float = 0.0,
    ) -> None:
        """`name` is the place that this engine fills: a successor of the same name need not wait, its predecessor is dead."""
        self.name = name
        self.owned: int | None = None
        """The epoch under which this process last took the shard."""
        self._connecting = connecting
        self._shard = shard
        self._monotonic = monotonic
        self._connection: Connection | None = None
        self._was_fenced = False
        self._patient_until = monotonic() + patience_s if patience_s else -math.inf
        self._renew_at = 0.0

    # ------------------------------------------------------------------------------------------------------- not owning

    def look(self) -> Standing | None:
        """The shard's row; None while it has none. Raises psycopg.Error."""
        rows = self._ask(STANDING_QUERY, (LEASE_MAX, self._shard))
        if not rows:
            return None
        epoch, seq, owner, halted, is_held = rows[0]
        return Standing(int(str(epoch)), int(str(seq)), str(owner), str(halted), bool(is_held))

    def claim(self) -> Standing | None:
        """Whether the shard may be taken now, by what it returns: the row as it was seen, None while there is none.

        Raises LeaseHeldError, HaltedError for a shard that nobody may take, FencedError once when it was lost since, and
        psycopg.Error.
        """
        seen = self.look()
        if seen is None:
            return None
        if self.owned is not None and seen.epoch != self.owned:
            raise FencedError(f"shard {self._shard} was ours in epoch {self.owned} and is somebody's in {seen.epoch}")
        if self.owned is None and self._must_wait(seen):
            raise LeaseHeldError(seen)
        if seen.halted:
            raise HaltedError(seen.halted)
        return seen

    def _must_wait(self, seen: Standing) -> bool:
        """After having been fenced, one's own name may be that of whoever fenced."""
        if seen.is_held:
            self._patient_until = -math.inf
            return self._was_fenced or seen.owner != self.name
        return self._monotonic() < self._patient_until and seen.owner != self.name

    def taken(self, epoch: int) -> None:
        """The shard is ours, under this epoch."""
        self.owned, self._was_fenced = epoch, False
        self._patient_until = -math.inf
        self._renew_at = 0.0

    def is_doubtful(self) -> None:
        """A connection broke while the shard was being taken: whether it is ours, its row will say."""
        self.owned = None

    def lost(self) -> None:
        """Somebody else has it. From now on only a lease that has run out is taken."""
        self.owned, self._was_fenced = None, True

    # ----------------------------------------------------------------------------------------------------------- owning

    def renewed(self) -> None:
        """A batch was committed, and the lease with it."""
        self._renew_at = self._monotonic() + RENEW_S

    @property
    def is_due(self) -> bool:
        return self._monotonic() >= self._renew_at

    def renew(self) -> bool:
        """False when the shard is not ours any more. Raises psycopg.Error."""
        assert self.owned is not None, "only an owner renews"
        found = self._ask(RENEW, (LEASE, self._shard, self.owned))
        self.renewed()
        return bool(found)

    def release(self) -> None:
        """Let a standby take the shard at once. What cannot be said is not needed: the lease runs out."""
        if self.owned is None:
            return
        try:
            self._ask(RELEASE, (self._shard, self.owned))
        except psycopg.Error as error:
            log.warning("lease_not_released", error=str(error).strip())
        self.owned = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, query: str, parameters: tuple[object, ...]) -> list[tuple[object, ...]]:
        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._connecting("tribook engine lease")
            return self._connection.execute(query.encode(), parameters).fetchall()
        except psycopg.Error:
            self.close()
            raise


STANDING_QUERY = (
    "SELECT epoch, seq, owner, halted, "
    "coalesce(lease_until > now() AND lease_until <= now() + %s::interval, false) FROM shard WHERE shard = %s"
)
RENEW = "UPDATE shard SET lease_until = now() + %s::interval WHERE shard = %s AND epoch = %s RETURNING epoch"
RELEASE = "UPDATE shard SET lease_until = now() WHERE shard = %s AND epoch = %s RETURNING epoch"


def end_stuck_owner(connection: Connection) -> int:
    """End the transaction of an owner that has stood still in it, stopped or cut off: it holds the shard's row, and in the
    middle of a COPY no idle time-out of the server reaches it. Its batch is rolled back, or was committed. How many ended.
    """
    ended = connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s "
        "AND datname = current_database() AND pid <> pg_backend_pid() AND xact_start < now() - %s::interval",
        (JOURNAL_NAME, STUCK_AFTER),
    ).fetchall()
    return len(ended)


def take_over(connection: Connection, shard: int, *, owned: int | None, name: str = OWNER) -> tuple[int, int]:
    """Raise the shard's epoch, making its row where there is none; the epoch now ours, and the last batch's number.

    `owned` is the epoch in which the shard was ours, or was seen to be free: it is taken from that one only. Raises
    FencedError when somebody else has it by now, HaltedError when nobody may have it.
    """
    with connection.transaction():
        connection.execute(
            "INSERT INTO shard (shard, epoch, seq, halted) VALUES (%s, 0, 0, '') ON CONFLICT (shard) DO NOTHING",
            (shard,),
        )
        ((halted, epoch),) = connection.execute(
            "SELECT coalesce(halted, ''), epoch FROM shard WHERE shard = %s FOR UPDATE", (shard,)
        ).fetchall()
        if owned is not None and epoch != owned:
            raise FencedError(f"shard {shard} was seen in epoch {owned} and is somebody's in epoch {epoch}")
        if halted:
            raise HaltedError(str(halted))
        ((epoch, seq),) = connection.execute(
            "UPDATE shard SET epoch = epoch + 1, owner = %s, lease_until = now() + %s::interval WHERE shard = %s "
            "RETURNING epoch, seq",
            (name, LOADING_LEASE, shard),
        ).fetchall()
    return int(str(epoch)), int(str(seq))
