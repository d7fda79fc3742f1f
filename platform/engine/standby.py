"""A hot standby's eyes: it loads the shard once, without owning it, and then reads every batch that is committed.

What it decides from the batches' inputs is nobody's truth: it is checked against each batch row, and against the tables
when the shard is taken over. Any difference, a row that is not there, or too many at once, and the memory is thrown away
and loaded again; at a take-over the shard is then loaded in the ordinary way.
"""

import time
import zlib
from collections.abc import Callable

import msgspec
import psycopg
import structlog

from engine.batch import QUOTES_EVERY, Input, StreamPosition
from engine.follow import Record, apply_inputs, begin_epoch, difference, take_quotes, totals
from engine.journal import Connecting, Connection
from engine.recovery import ContradictionError, load
from engine.state import State
from engine.step import Recovered
from engine.stored import LAST_BATCH_COLUMNS, last_batch_from
from trading.liquidity import LIVE_LEGS
from trading.orders import LIVE_ORDERS

log = structlog.get_logger()

BATCHES_MAX = 32
"""Read and decided in one go; then the loop looks whether it is to stop."""
BEHIND_MAX = 4096
"""Batches; further behind, loading is quicker than following."""
FINISH_MAX = 512
"""Batches to be applied at a take-over; with more the lease might run out meanwhile."""
RELOAD_S = 10.0
"""Between two loads."""
SNAPSHOT = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = '60s'; "
    "SET LOCAL statement_timeout = '60s'"
)
RECORD_QUERY = (
    f"SELECT seq, epoch, inputs, {LAST_BATCH_COLUMNS} "  # noqa: S608
    "FROM engine_batch WHERE shard = %s AND seq > %s ORDER BY seq LIMIT %s"
)
INPUTS_QUERY = "SELECT inputs FROM engine_batch WHERE shard = %s AND seq > %s AND seq <= %s AND epoch = %s ORDER BY seq"

_inputs: msgspec.json.Decoder[list[Input]] = msgspec.json.Decoder(list[Input])


class DivergedError(Exception):
    """The memory is not what the owner's batches left."""

    def __init__(self, reason: str, *, was_exact: bool) -> None:
        super().__init__(reason)
        self.was_exact = was_exact
        """It had followed since the beginning of an epoch: there is no innocent explanation."""


class Follower:
    """The memory of a standby. Used by the deciding thread; reconnects by itself."""

    def __init__(
        self, connecting: Connecting, *, shard: int = 0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.seq = 0
        """The last batch that was applied."""
        self._connecting = connecting
        self._shard = shard
        self._monotonic = monotonic
        self._connection: Connection | None = None
        self._state: State | None = None
        self._epoch = 0
        self._at_us = 0
        self._position = StreamPosition()
        self._is_exact = False
        self._load_at = 0.0

    @property
    def is_following(self) -> bool:
        return self._state is not None

    def follow(self, newest: int) -> bool:
        """Come nearer to batch `newest`, the last one there is; True when there is more to do at once.

        Raises DivergedError once when what was known had to be thrown away, LookupError for a missing configuration,
        psycopg.Error.
        """
        try:
            if self._state is None:
                return self._load_when_due()
            if newest != self.seq:
                self._apply(self._records(self._open()), newest)
        except DivergedError:
            self.forget()
            raise
        except psycopg.Error:
            self.close()
            raise
        return newest > self.seq

    def finish(self, connection: Connection, *, epoch: int, seq: int) -> Recovered | None:
        """The state after batch `seq`, for the owner of `epoch`; None when nothing was followed, or from too far.

        Nobody else can commit any more. Raises DivergedError, psycopg.Error.
        """
        state = self._state
        if state is None or seq - self.seq > FINISH_MAX:
            return None
        try:
            while self.seq != seq:
                self._apply(self._records(connection), seq)
            begin_epoch(state)
            self._check_totals(connection, state)
            return Recovered(state=state, epoch=epoch, seq=seq, position=self._position, at_us=self._at_us)
        finally:
            self.forget()

    def forget(self) -> None:
        self._state = None
        self._load_at = self._monotonic() + RELOAD_S

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # --------------------------------------------------------------------------------------------------------- loading

    def _load_when_due(self) -> bool:
        if self._monotonic() < self._load_at:
            return False
        started = self._load_at = self._monotonic()
        self._load_at += RELOAD_S
        connection = self._open()
        connection.execute(SNAPSHOT.encode())
        try:
            found = connection.execute("SELECT epoch, seq FROM shard WHERE shard = %s", (self._shard,)).fetchone()
            if found is not None:
                self._take(connection, int(str(found[0])), int(str(found[1])))
        except ContradictionError as error:
            raise DivergedError(str(error), was_exact=False) from error
        finally:
            if not connection.broken:
                connection.execute("COMMIT")
        if self._state is not None:
            seconds = round(self._monotonic() - started, 3)
            log.info("standby_loaded", seq=self.seq, positions=len(self._state.positions), seconds=seconds)
        return False

    def _take(self, connection: Connection, epoch: int, seq: int) -> None:
        """The shard as this snapshot shows it, with the quotes that its owner has used lately."""
        loaded = load(connection, self._shard, epoch=epoch, seq=seq)
        row = connection.execute(
            "SELECT epoch FROM engine_batch WHERE shard = %s AND seq = %s", (self._shard, seq)
        ).fetchone()
        self._epoch = int(str(row[0])) if row else 0
        self._is_exact = self._epoch != epoch
        since = seq // QUOTES_EVERY * QUOTES_EVERY
        for (inputs,) in connection.execute(INPUTS_QUERY.encode(), (self._shard, since, seq, self._epoch)):
            take_quotes(loaded.state, _decoded(inputs))
        self._state, self.seq = loaded.state, seq
        self._position, self._at_us = loaded.position, loaded.at_us

    # -------------------------------------------------------------------------------------------------------- following

    def _apply(self, records: list[Record], newest: int) -> None:
        assert self._state is not None
        if not 0 <= newest - self.seq <= BEHIND_MAX:
            raise self._diverged(f"the shard stands at batch {newest}, far from {self.seq}")
        if not records:
            raise self._diverged(f"batch {self.seq + 1} is not there")
        for record in records:
            if record.seq != self.seq + 1:
                raise self._diverged(f"batch {self.seq + 1} is not there")
            if record.epoch != self._epoch:
                begin_epoch(self._state)
                self._epoch, self._is_exact = record.epoch, True
            self._apply_one(self._state, record)

    def _apply_one(self, state: State, record: Record) -> None:
        try:
            apply_inputs(state, record.inputs)
        except Exception as error:
            raise self._diverged(f"deciding batch {record.seq} raised {type(error).__name__}: {error}") from error
        different = difference(state, record)
        if different:
            raise self._diverged(different)
        self.seq, self._position = record.seq, record.left.position
        self._at_us = max(self._at_us, record.left.at_us)

    def _diverged(self, reason: str) -> DivergedError:
        return DivergedError(reason, was_exact=self._is_exact)

    def _check_totals(self, connection: Connection, state: State) -> None:
        stored = _stored_totals(connection, self._shard)
        for name, own in totals(state).items():
            if own != stored[name]:
                raise self._diverged(f"{name} add up to {stored[name]} in the tables, to {own} in memory")

    def _records(self, connection: Connection) -> list[Record]:
        rows = connection.execute(RECORD_QUERY.encode(), (self._shard, self.seq, BATCHES_MAX)).fetchall()
        return [_record(row) for row in rows]

    def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._connecting("tribook engine standby")
        return self._connection


def _record(row: tuple[object, ...]) -> Record:
    seq, epoch, inputs, *left = row
    return Record(seq=int(str(seq)), epoch=int(str(epoch)), left=last_batch_from(left), inputs=_decoded(inputs))


def _decoded(inputs: object) -> list[Input]:
    assert isinstance(inputs, bytes)
    return _inputs.decode(zlib.decompress(inputs))


TOTALS = {
    "accounts": "SELECT count(*), coalesce(sum(balance), 0), coalesce(sum(credit), 0), coalesce(sum(version), 0), "
    "coalesce(sum(seq), 0) FROM account WHERE shard = %(shard)s",
    "orders": "SELECT count(*), coalesce(sum(id), 0), coalesce(sum(filled_volume), 0), coalesce(sum(margin_reserved), 0) "
    "FROM trade_order WHERE status = ANY(%(orders)s)",
    "positions": "SELECT count(*), coalesce(sum(id), 0), coalesce(sum(volume), 0), coalesce(sum(cost), 0), "
    "coalesce(sum(locked), 0) FROM position WHERE volume > 0",
    "legs": "SELECT count(*), coalesce(sum(id), 0), coalesce(sum(filled_volume), 0) FROM lp_order WHERE status = ANY(%(legs)s)",
    "balances": "SELECT count(*) FILTER (WHERE balance <> 0), coalesce(sum(abs(balance)), 0) FROM ledger_balance",
}


def _stored_totals(connection: Connection, shard: int) -> dict[str, tuple[object, ...]]:
    terms = {
        "shard": shard,
        "orders": LIVE_ORDERS,
        "legs": LIVE_LEGS,
    }
    return {name: connection.execute(query.encode(), terms).fetchall()[0] for name, query in TOTALS.items()}
