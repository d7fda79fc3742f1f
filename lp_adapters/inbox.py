"""One provider's rows in PostgreSQL: legs on their way out, and the inbox of everything the provider said.

One connection holds the provider's advisory lock and does all the writing, so whoever writes is the one writer, and the
inbox's sequence has no gaps. The lock dies with its connection, so it is not enough: who takes it first also raises the
epoch of the provider's lease, and whatever an older epoch wants to write finds no lease and ends its process. Every method
returns only when its work is committed, and waits through outages for it. An error in COMMIT is a third outcome: the rows
themselves are looked up before anything is done again.

Legs are also rows that the engine updates, many at a time. We never wait for more than one of them while holding another
(SKIP LOCKED), so the two can never lock each other out.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from msgspec import Struct
from psycopg.pq import TransactionStatus

from bus.alerts import Severity, alert_key, clear_alert, raise_alert
from bus.clock import Clock
from bus.codec import encode
from lp_adapters.conservation import Facts
from lp_adapters.facts import FactsReader
from lp_adapters.legs import LEG_COLUMNS, Leg, Plan, leg_from, moment
from trading.liquidity import LIVE_LEGS, ExecutionReport, ReportKind

logger = logging.getLogger("tribook.lp")

T = TypeVar("T")
Connection = psycopg.Connection[Any]

LOCK_CLASS = 0x4C50
"""First half of the advisory lock's key; the second is the provider's name, hashed by PostgreSQL."""
TAKEN_AT_ONCE_MAX = 100
IN_DOUBT_MAX = 1_000
BACK_OFF_MAX_S = 1.0
LOCK_BACK_WITHIN_S = 15.0
OPTIONS = "-c statement_timeout=15000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=30000"

LEG_UNKNOWN = "leg_unknown"
"""Kind of the alert about an order that a provider does not speak of."""
PROVIDER_STOPPED = "lp_stopped"


class LockLost(Exception):
    """Another process writes for this provider now: this one must end."""


class InboxRow(Struct, frozen=True, kw_only=True):
    """One report, and the raw message that it was read from (empty for our own)."""

    report: ExecutionReport
    raw: str = ""


class Inbox:
    """The one writer of one provider's rows. Safe to call from several threads; calls take turns."""

    def __init__(
        self,
        database_url: str,
        lp: str,
        clock: Clock,
        *,
        connecting: Callable[[], Connection] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """The last three are for a simulated world, which has its own database and time."""
        self._connecting = connecting or (lambda: connect(database_url, lp))
        self._sleep = sleep
        self._monotonic = monotonic
        self._lp = lp
        self._clock = clock
        self._turn = threading.Lock()
        self._connection: Connection | None = None
        self._next_seq = 0
        self._epoch = 0
        self._facts = FactsReader(lp)
        self.acquired_s = 0.0
        """When this process became the one writer: an earlier one marks no leg after that."""

    def acquire(self, waiting: Callable[[], None] = lambda: None) -> None:
        """Become the provider's one writer; waits as long as another is, calling `waiting` about every second."""
        is_told = False
        while True:
            try:
                if self._connect():
                    return
                if not is_told:
                    logger.info("waiting_for_another_process lp=%s", self._lp)
                    is_told = True
            except psycopg.OperationalError as error:
                logger.warning("database_away lp=%s error=%s", self._lp, str(error).strip())
            waiting()
            self._sleep(1.0)

    # ------------------------------------------------------------------------------------------------- what is said

    def append(self, rows: Sequence[InboxRow]) -> None:
        """Commit `rows` as the next ones of the inbox, in their order."""

        def work(connection: Connection) -> int:
            self._own(connection)
            return self._insert(connection, rows)

        with self._turn:
            self._durably(work, landed=lambda c: len(rows) if self._holds(c, rows) else None)
            self._next_seq += len(rows)

    def resolve_unknown(self, row: InboxRow, not_sent: ExecutionReport) -> bool:
        """The provider does not know the order of `row`. True: it was never sent, and `not_sent` says so in the inbox.

        An order that we know to have sent is a contradiction: `row` itself goes into the inbox, for a dealer.
        """
        given_up = InboxRow(report=not_sent, raw=row.raw)

        def work(connection: Connection) -> bool:
            self._own(connection)
            was_never_sent = self._move(connection, row.report.cl_ord_id)
            self._insert(connection, [given_up if was_never_sent else row])
            return was_never_sent

        def landed(connection: Connection) -> bool | None:
            if self._holds(connection, [given_up]):
                return True
            return False if self._holds(connection, [row]) else None

        with self._turn:
            was_never_sent = self._durably(work, landed=landed)
            self._next_seq += 1
            return was_never_sent

    # ------------------------------------------------------------------------------------------------- what is sent

    def take(
        self,
        plan: Callable[[Sequence[Leg]], Plan],
        judged: Callable[[Plan, Facts], Plan],
        named: Callable[[Sequence[Leg]], Sequence[str]] = lambda _legs: (),
    ) -> tuple[Leg, ...]:
        """Hand the new legs to `plan`, and what it wants to send to `judged` with the facts, in one transaction; commit
        those to send as DISPATCHING and return them, and those given up as NOT_SENT. With a `stop` the provider is stopped
        in the same commit. `named` are further ClOrdIDs whose reports are among the facts."""
        latest = Plan()

        def work(connection: Connection) -> Plan:
            nonlocal latest
            latest = Plan()
            new = self._legs(
                connection, "dispatch_state = 'new' AND status = 'working'", TAKEN_AT_ONCE_MAX, "FOR UPDATE SKIP LOCKED"
            )
            latest = plan(new) if new else latest
            if not (latest.send or latest.give_up):
                return latest
            stopped = self._own(connection)
            if latest.send:
                facts = self._facts.gathered(connection, latest.send, stopped, named(latest.send))
                latest = judged(latest, facts)
            self._mark(connection, "dispatching", [leg.id for leg in latest.send])
            self._mark(connection, "not_sent", [leg.id for leg, _ in latest.give_up])
            self._insert(connection, [InboxRow(report=report) for _, report in latest.give_up])
            if latest.stop:
                self._stop(connection, latest.stop)
            return latest

        def landed(connection: Connection) -> Plan | None:
            """Only we move a leg away from 'new': one that has moved tells that all of them have."""
            ids = [leg.id for leg in (*latest.send, *(leg for leg, _ in latest.give_up))]
            moved = connection.execute("SELECT 1 FROM lp_order WHERE id = ANY(%s) AND dispatch_state <> 'new'", (ids,))
            return latest if moved.fetchone() else None

        with self._turn:
            planned = self._durably(work, landed=landed)
            self._next_seq += len(planned.give_up)
            return planned.send

    def give_up(self, leg: Leg, report: ExecutionReport) -> None:
        """A leg that was taken and then never left: commit it as NOT_SENT, with its row in the inbox."""
        row = InboxRow(report=report)

        def work(connection: Connection) -> int:
            self._own(connection)
            if not self._move(connection, leg.cl_ord_id):
                return 0
            self._insert(connection, [row])
            return 1

        with self._turn:
            self._next_seq += self._durably(work, landed=lambda c: 1 if self._holds(c, [row]) else None)

    def mark_sent(self, ids: Sequence[int]) -> set[int]:
        """Commit DISPATCHING legs as SENT. Returns those to try again, because the engine is just writing them."""

        def work(connection: Connection) -> set[int]:
            self._own(connection)
            busy_or_done = connection.execute(
                "UPDATE lp_order SET dispatch_state = 'sent' WHERE id IN (SELECT id FROM lp_order WHERE id = ANY(%s) "
                "AND dispatch_state = 'dispatching' ORDER BY id FOR UPDATE SKIP LOCKED)",
                (list(ids),),
            )
            if busy_or_done.rowcount == len(ids):
                return set()
            left = connection.execute(
                "SELECT id FROM lp_order WHERE id = ANY(%s) AND dispatch_state = 'dispatching'", (list(ids),)
            )
            return {number for (number,) in left}

        with self._turn:
            return self._durably(work, landed=lambda _: None) if ids else set()

    def in_doubt(self) -> list[Leg]:
        """Legs that the provider may hold and that have not ended."""
        where = "dispatch_state IN ('dispatching', 'sent') AND status = ANY(%s)"
        with self._turn:
            return self._durably(lambda c: self._legs(c, where, IN_DOUBT_MAX, "", (LIVE_LEGS,)), landed=lambda _: None)

    # ----------------------------------------------------------------------------------------------- a person is called

    def unresolved(self, report: ExecutionReport, text: str) -> None:
        """Call a person about an order in doubt, and tell the engine: one row for each leg, whatever was restarted."""
        row = InboxRow(report=report)

        def work(connection: Connection) -> int:
            self._own(connection)
            raise_alert(connection, kind=LEG_UNKNOWN, subject=report.cl_ord_id, text=text, severity=Severity.CRITICAL)
            told = connection.execute(
                "SELECT 1 FROM lp_inbox WHERE lp = %s AND cl_ord_id = %s AND kind = %s LIMIT 1",
                (self._lp, report.cl_ord_id, ReportKind.UNRESOLVED.value),
            )
            return 0 if told.fetchone() else self._insert(connection, [row])

        with self._turn:
            self._next_seq += self._durably(work, landed=lambda c: 1 if self._holds(c, [row]) else None)

    def called_about(self) -> list[str]:
        """ClOrdIDs of this provider that a person was called about and need look at still."""
        about = len(alert_key(LEG_UNKNOWN, "x"))

        def work(connection: Connection) -> list[str]:
            found = connection.execute(
                "SELECT cl_ord_id FROM lp_order WHERE lp = %s AND cl_ord_id IN "
                "(SELECT substr(key, %s) FROM alert WHERE kind = %s AND cleared_at IS NULL)",
                (self._lp, about, LEG_UNKNOWN),
            )
            return [name for (name,) in found]

        with self._turn:
            return self._durably(work, landed=lambda _: None)

    def alert(self, *, kind: str, subject: str, text: str, severity: Severity = Severity.CRITICAL) -> None:
        """Raise an alert that is about the whole provider."""

        def work(connection: Connection) -> None:
            self._own(connection)
            raise_alert(connection, kind=kind, subject=subject, text=text, severity=severity)

        with self._turn:
            self._durably(work, landed=lambda _: None)

    def clear(self, *, kind: str, subjects: Sequence[str]) -> None:
        """What these alerts were about is over."""

        def work(connection: Connection) -> None:
            self._own(connection)
            for subject in subjects:
                clear_alert(connection, kind=kind, subject=subject)

        with self._turn:
            self._durably(work, landed=lambda _: None)

    # ---------------------------------------------------------------------------------------------------- statements

    def _legs(
        self,
        connection: Connection,
        where: str,
        limit: int,
        locking: str,
        parameters: tuple[object, ...] = (),
    ) -> list[Leg]:
        query = f"SELECT {LEG_COLUMNS} FROM lp_order WHERE lp = %s AND {where} ORDER BY id LIMIT {limit} {locking}"  # noqa: S608
        return [leg_from(row) for row in connection.execute(query.encode(), (self._lp, *parameters))]

    def _own(self, connection: Connection) -> str:
        """Make sure, until the end of this transaction, that this process is the one writer. Returns why the provider is
        stopped, if it is. Raises LockLost. Locking the row shared keeps it as it is, where an UPDATE would copy it."""
        query = "SELECT stopped FROM lp_lease WHERE lp = %s AND epoch = %s FOR SHARE"
        found = connection.execute(query, (self._lp, self._epoch)).fetchone()
        if found is None:
            raise LockLost(f"another process took over {self._lp}")
        return str(found[0])

    def _stop(self, connection: Connection, why: str) -> None:
        """Nothing is sent any more, by this process or another, until an operator empties the column."""
        connection.execute("UPDATE lp_lease SET stopped = %s WHERE lp = %s", (why, self._lp))
        text = f"nothing is sent to {self._lp} any more until lp_lease.stopped is emptied: {why}"
        raise_alert(connection, kind=PROVIDER_STOPPED, subject=self._lp, text=text, severity=Severity.CRITICAL)

    def _mark(self, connection: Connection, state: str, ids: list[int]) -> None:
        if ids:
            connection.execute(
                "UPDATE lp_order SET dispatch_state = %s, dispatched_at = %s WHERE id = ANY(%s)",
                (state, moment(self._clock()), ids),
            )

    def _move(self, connection: Connection, cl_ord_id: str) -> bool:
        """From DISPATCHING to NOT_SENT; False when the leg was not DISPATCHING."""
        moved = connection.execute(
            "UPDATE lp_order SET dispatch_state = 'not_sent' "
            "WHERE lp = %s AND cl_ord_id = %s AND dispatch_state = 'dispatching'",
            (self._lp, cl_ord_id),
        )
        return moved.rowcount == 1

    def _insert(self, connection: Connection, rows: Sequence[InboxRow]) -> int:
        for seq, row in enumerate(rows, start=self._next_seq):
            connection.execute(
                "INSERT INTO lp_inbox (lp, seq, kind, cl_ord_id, exec_id, trade_date, report, raw, received_at) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s::json, %s, %s)",
                self._line(seq, row),
            )
        return len(rows)

    def _line(self, seq: int, row: InboxRow) -> tuple[object, ...]:
        report = row.report
        return (
            self._lp,
            seq,
            report.kind.value,
            report.cl_ord_id,
            report.exec_id,
            report.trade_date,
            encode(report).decode(),
            row.raw,
            moment(report.received_us),
        )

    def _holds(self, connection: Connection, rows: Sequence[InboxRow]) -> bool:
        """True when exactly these rows already stand where the next ones belong."""
        found = connection.execute(
            "SELECT report::text, raw FROM lp_inbox WHERE lp = %s AND seq >= %s ORDER BY seq LIMIT %s",
            (self._lp, self._next_seq, len(rows)),
        ).fetchall()
        return [tuple(line) for line in found] == [(encode(row.report).decode(), row.raw) for row in rows]

    def _seq_after(self, connection: Connection) -> int:
        """The inbox never forgets its last row, so the next sequence is always one above it."""
        found = connection.execute(
            "SELECT coalesce(max(seq), 0) + 1 FROM lp_inbox WHERE lp = %s", (self._lp,)
        ).fetchone()
        assert found is not None
        return int(found[0])

    # -------------------------------------------------------------------------------------------------- transactions

    def _durably(
        self,
        work: Callable[[Connection], T],
        *,
        landed: Callable[[Connection], T | None],
    ) -> T:
        """Do `work` in a transaction until it is committed. After an unknown outcome `landed` says what it had led to,
        or None if it must be done (again)."""
        wait_s = 0.05
        while True:
            try:
                return _transaction(self._open_connection(), work)
            except psycopg.OperationalError as error:
                logger.warning("database_away lp=%s error=%s", self._lp, str(error).strip())
            self._sleep(wait_s)
            wait_s = min(wait_s * 2, BACK_OFF_MAX_S)
            done = self._look_up(landed)
            if done is not None:
                return done

    def _look_up(self, landed: Callable[[Connection], T | None]) -> T | None:
        while True:
            try:
                connection = self._recovered()
                done = landed(connection)
                if done is None:
                    self._next_seq = self._seq_after(connection)
                return done
            except psycopg.OperationalError:
                self._sleep(BACK_OFF_MAX_S / 4)

    def _recovered(self) -> Connection:
        """A connection that holds the lock: the old one rolled back if it still works, else a new one."""
        connection = self._connection
        if connection is not None and not connection.closed:
            if connection.info.transaction_status is not TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
            return connection
        deadline = self._monotonic() + LOCK_BACK_WITHIN_S
        while not self._connect():
            if self._monotonic() > deadline:
                raise LockLost(f"another process writes for {self._lp}")
            self._sleep(0.1)
        return self._open_connection()

    def _open_connection(self) -> Connection:
        assert self._connection is not None, "acquire() comes first"
        return self._connection

    def _connect(self) -> bool:
        """Connect and take the lock; False when another holds it. A connection that is not kept is closed: it may hold it."""
        connection = self._connecting()
        try:
            query = "SELECT pg_try_advisory_lock(%s, hashtext(%s))"
            found = connection.execute(query, (LOCK_CLASS, self._lp)).fetchone()
            if found is not None and found[0]:
                if self._epoch == 0:
                    epoch = self._raised_epoch(connection)
                    self._next_seq = self._seq_after(connection)
                    self._epoch, self.acquired_s = epoch, self._monotonic()
                self._connection = connection
        finally:
            if self._connection is not connection:
                connection.close()
        return self._connection is connection

    def _raised_epoch(self, connection: Connection) -> int:
        """Waits for a transaction of the predecessor that is still being written; after this it can write none."""
        query = (
            "INSERT INTO lp_lease (lp, epoch) VALUES (%s, 1) "
            "ON CONFLICT (lp) DO UPDATE SET epoch = lp_lease.epoch + 1 RETURNING epoch"
        )
        found = connection.execute(query, (self._lp,)).fetchone()
        assert found is not None
        return int(found[0])


def connect(url: str, lp: str) -> Connection:
    """A connection in manual transaction mode that notices a dead server. Raises psycopg.OperationalError."""
    return psycopg.connect(
        url,
        autocommit=True,
        connect_timeout=5,
        options=OPTIONS,
        application_name=f"lp-{lp}-trade",
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
    )


class CommitRefused(Exception):
    """PostgreSQL answered COMMIT with something else: the transaction was rolled back. A bug, not an outage."""


def _transaction(connection: Connection, work: Callable[[Connection], T]) -> T:
    connection.execute("BEGIN")
    result = work(connection)
    assert connection.info.transaction_status is TransactionStatus.INTRANS
    outcome = connection.execute("COMMIT").statusmessage
    if outcome != "COMMIT":
        raise CommitRefused(f"COMMIT was answered {outcome}")
    return result
