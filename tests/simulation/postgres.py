"""PostgreSQL as the engine and the providers' processes see it: connections, transactions, locks, and everything that breaks.

Committed rows lie in dictionaries by their keys; a transaction's writes lie over them until COMMIT. What each statement does is
in `statements`, which knows exactly those that production code issues: an unknown one raises, so drift is noticed. A batch's
COPY is kept as text and taken apart only where somebody reads it. The model is held against a real server by
tests/integration/test_simulated_postgres.py.

Faults strike at statements of the process that owns the connection: see `Connection.run`. Transactions interleave because a
fault may run other processes inside a statement; whoever then wants a row that is locked is timed out.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import psycopg
from psycopg.pq import TransactionStatus

from tests.simulation.clockwork import Crash, Process, Time
from tests.simulation.columns import Row
from tests.simulation.statements import Statements
from tests.simulation.tables import Key, Tables

RECOVERY_NAME = "tribook engine recovery"


class Transaction:
    __slots__ = ("failed", "locks", "started_s", "writes")

    def __init__(self, started_s: float) -> None:
        self.writes: dict[str, dict[Key, Row]] = {}
        self.locks: list[tuple[str, Key]] = []
        self.started_s = started_s
        self.failed = False


class Server:
    """One database."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.tables = Tables()
        self.statements = Statements(self)
        self.connections: list[Connection] = []
        self.locks: dict[tuple[str, Key], Connection] = {}
        self.advisory: dict[Any, Connection] = {}
        self.down_until_s = 0.0
        self.on_commit: Callable[[Transaction], None] = lambda _: None
        self.stall: Callable[[Process], None] = lambda _: None
        """Runs other processes while this one stands still inside a statement."""
        self.executed = 0

    @property
    def is_up(self) -> bool:
        return self.time.monotonic() >= self.down_until_s

    def connect(self, process: Process, name: str) -> "Connection":
        """Raises psycopg.OperationalError while the server is away."""
        if not process.alive:
            raise Crash(process)
        if process.armed and process.strike("connect"):
            raise psycopg.OperationalError("connection refused")
        if not self.is_up:
            raise psycopg.OperationalError("connection refused: the server is away")
        connection = Connection(self, process, name)
        self.connections.append(connection)
        return connection

    def restart(self, away_s: float) -> None:
        """Every connection is cut, every open transaction rolled back; nobody gets in for a while."""
        self.down_until_s = self.time.monotonic() + away_s
        for connection in list(self.connections):
            connection.drop()

    def kill(self, process: Process) -> None:
        """The process is gone, and its sockets with it."""
        for connection in [c for c in self.connections if c.process is process]:
            connection.drop()

    def commit(self, transaction: Transaction) -> None:
        self.tables.merge(transaction.writes)
        self.on_commit(transaction)

    def lock(self, connection: "Connection", table: str, key: Key, *, skip: bool = False) -> bool:
        """Hold a row until the transaction ends. False when it is to be skipped; raises when another transaction has it."""
        holder = self.locks.get((table, key))
        if holder is connection:
            return True
        if holder is not None:
            if skip:
                return False
            raise psycopg.errors.LockNotAvailable("canceling statement due to lock timeout")
        assert connection.transaction_now is not None
        self.locks[table, key] = connection
        connection.transaction_now.locks.append((table, key))
        return True


class Info:
    """As much of psycopg's ConnectionInfo as is asked for."""

    __slots__ = ("_connection",)

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    @property
    def transaction_status(self) -> TransactionStatus:
        transaction = self._connection.transaction_now
        if self._connection.closed:
            return TransactionStatus.UNKNOWN
        if transaction is None:
            return TransactionStatus.IDLE
        return TransactionStatus.INERROR if transaction.failed else TransactionStatus.INTRANS


class Cursor:
    """What a statement came to; also the cursor on which statements are executed."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self.rows: list[tuple[Any, ...]] = []
        self.rowcount = -1
        self.statusmessage = ""
        self._taken = 0

    def execute(
        self, query: str | bytes, parameters: Sequence[Any] | None = None, *, prepare: bool | None = None
    ) -> Self:
        self._connection.run(query, parameters, self)
        return self

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.rows

    def fetchone(self) -> tuple[Any, ...] | None:
        self._taken += 1
        return self.rows[self._taken - 1] if self._taken <= len(self.rows) else None

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def nextset(self) -> bool:
        return True

    @contextmanager
    def copy(self, statement: str) -> Iterator["Copy"]:
        copy = Copy()
        yield copy
        self._connection.run(statement, (b"".join(copy.parts),), self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to give back."""


class Copy:
    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.parts.append(data)


class Connection:
    """In manual transaction mode, as all of ours are."""

    def __init__(self, server: Server, process: Process, name: str) -> None:
        self.server = server
        self.process = process
        self.name = name
        self.transaction_now: Transaction | None = None
        self.closed = False
        self.broken = False
        self.info = Info(self)

    def execute(
        self, query: str | bytes, parameters: Sequence[Any] | None = None, *, prepare: bool | None = None
    ) -> Cursor:
        cursor = Cursor(self)
        self.run(query, parameters, cursor)
        return cursor

    def cursor(self) -> Cursor:
        return Cursor(self)

    def close(self) -> None:
        """What is open is rolled back. Closing twice is fine."""
        self._end()
        self.closed = True

    def drop(self) -> None:
        """The other side is gone: the next use says so."""
        self._end()
        self.broken = True

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.execute("BEGIN")
        try:
            yield
        except Crash:
            raise
        except BaseException:
            if not self.broken and not self.closed:
                self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    # ------------------------------------------------------------------------------------------------ one statement

    def run(self, query: str | bytes, parameters: Sequence[Any] | None, cursor: Cursor) -> None:
        """Execute a statement, unless something happens before, in or after it."""
        process, server = self.process, self.server
        if not process.alive:
            raise Crash(process)
        if self.broken or self.closed:
            self.closed = True
            raise psycopg.OperationalError("the connection is closed")
        server.executed += 1
        text = query.decode() if isinstance(query, bytes) else query
        fault = process.strike("statement") if process.armed else ""
        if fault:
            self._before(fault)
        if text == "COMMIT":
            self._commit(cursor)
        elif text == "ROLLBACK":
            self._forget()
            cursor.statusmessage = "ROLLBACK"
        else:
            self._statement(text, parameters, cursor)
        if fault:
            self._after(fault)

    def _before(self, fault: str) -> None:
        if fault == "crash_before":
            raise Crash(self.process)
        if fault == "connection_lost":
            self._lose()
        if fault == "statement_timeout":
            self._fail()
            raise psycopg.errors.QueryCanceled("canceling statement due to statement timeout")
        if fault == "stall":
            self.server.stall(self.process)
            if self.broken:
                self.closed = True
                raise psycopg.errors.AdminShutdown("terminating connection due to administrator command")

    def _after(self, fault: str) -> None:
        if fault == "crash_after":
            raise Crash(self.process)
        if fault == "answer_lost":
            self._lose()

    def _statement(self, text: str, parameters: Sequence[Any] | None, cursor: Cursor) -> None:
        if text.startswith("BEGIN"):
            assert self.transaction_now is None, "a transaction is open already"
            self.transaction_now = Transaction(self.server.time.monotonic())
            _, _, text = text.partition("; ")
            if not text:
                cursor.statusmessage = "BEGIN"
                return
        transaction = self.transaction_now
        if transaction is None:
            self.transaction_now = Transaction(self.server.time.monotonic())
        elif transaction.failed:
            raise psycopg.errors.InFailedSqlTransaction("current transaction is aborted")
        try:
            self.server.statements.run(self, text, parameters or (), cursor)
        except psycopg.Error:
            self._fail()
            if transaction is None:
                self._forget()
            raise
        if transaction is None:
            assert self.transaction_now is not None
            self.server.commit(self.transaction_now)
            self._forget()

    def _commit(self, cursor: Cursor) -> None:
        transaction = self.transaction_now
        assert transaction is not None, "no transaction is open"
        fault = self.process.strike("commit") if self.process.armed else ""
        if fault == "crash_before_commit":
            raise Crash(self.process)
        if fault == "commit_lost":
            self._lose()
        # A server answers ROLLBACK after a statement that failed; recovery lets no failure pass, so it has none.
        may_have_failed = self.name != RECOVERY_NAME
        if transaction.failed or (fault == "commit_rolled_back" and may_have_failed):
            self._forget()
            cursor.statusmessage = "ROLLBACK"
            return
        self.server.commit(transaction)
        self._forget()
        cursor.statusmessage = "COMMIT"
        if fault == "crash_after_commit":
            raise Crash(self.process)
        if fault == "commit_unanswered":
            self._lose()
        if fault == "commit_and_restart":
            self.server.restart(3.0)
            self._lose()

    def _lose(self) -> None:
        self.drop()
        self.closed = True
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    def _fail(self) -> None:
        if self.transaction_now is not None:
            self.transaction_now.failed = True

    def _forget(self) -> None:
        transaction, self.transaction_now = self.transaction_now, None
        if transaction is not None:
            for lock in transaction.locks:
                self.server.locks.pop(lock, None)

    def _end(self) -> None:
        self._forget()
        if self in self.server.connections:
            self.server.connections.remove(self)
        for key in [key for key, holder in self.server.advisory.items() if holder is self]:
            del self.server.advisory[key]
