"""Batches into PostgreSQL, and the facts that decisions need back out of it.

A batch is one transaction on a connection of its own: fence, rows, COMMIT. Only a COMMIT that the server answers with
COMMIT counts; after a swallowed error it would answer ROLLBACK. An error inside COMMIT is a third outcome, unknown, and
is settled by looking the batch row up by its key: never by transaction id, and not before the old transaction is over.
"""

from collections.abc import Callable, Sequence

import psycopg
from msgspec import Struct
from psycopg import pq

from bus import database
from bus.codec import DecodeError, decode_report, encode
from bus.store import load_config
from engine.batch import Batch
from engine.corrections import DEALS_MAX
from engine.rows import Rows, balances_statement, change_statement, copy_statement, parked_statement, rows_of
from engine.state import KeyRecord, Prior
from engine.step import Failure, Step, Taken, Unreadable
from engine.stored import (
    DEAL_QUERY,
    EXECUTION_COLUMNS,
    POSITION_QUERY,
    deal_from,
    execution_from,
    position_from,
)
from trading.commands import AnyCommand, ApplyExecution, ReloadConfig
from trading.liquidity import Execution, ExecutionReport, LegStatus, LpOrder, ReportKind, names_in, related
from trading.orders import Deal, Side
from trading.positions import Position

Connection = psycopg.Connection[tuple[object, ...]]
Connecting = Callable[[str], Connection]
"""Opens a connection under this application name. Raises psycopg.OperationalError."""

SESSION = (
    "SET statement_timeout = '15s'; SET lock_timeout = '3s'; SET idle_in_transaction_session_timeout = '5s'; "
    "SET synchronous_commit = on; SET timezone = 'UTC'"
)
"""A stopped engine loses its transaction, and with it the shard's row, after five seconds: a new owner waits no longer.
An owner that waits for a lock gives up before its lease runs out, and tries again as the owner that it is."""
LEASE = "5 seconds"
"""How long nobody else takes the shard after its owner has written or renewed."""
JOURNAL_NAME = "tribook engine journal"
"""How the writing connection calls itself: a new owner finds an old one's by it."""
INBOX_ROWS_MAX = 256
HISTORY_ROWS_MAX = DEALS_MAX + 1


class NotCommittedError(Exception):
    """Nothing of the batch is durable."""

    def __init__(self, failure: Failure, reason: str) -> None:
        super().__init__(reason)
        self.failure = failure


class OutcomeUnknownError(Exception):
    """The connection broke inside COMMIT."""


def connect(url: str, *, name: str) -> Connection:
    """A connection in manual transaction mode that notices a dead server. Raises psycopg.OperationalError."""
    return database.connect(url, name=name, session=SESSION)


class Journal:
    """The write side. Used by one thread; reconnects by itself."""

    def __init__(self, url: str, *, shard: int = 0, connecting: Connecting | None = None) -> None:
        self._connecting = connecting or (lambda name: connect(url, name=name))
        self._shard = shard
        self._connection: Connection | None = None

    def write(self, batch: Batch) -> None:
        """Make the batch durable. Raises NotCommittedError or OutcomeUnknownError."""
        try:
            rows = rows_of(batch)
        except ValueError as error:
            raise NotCommittedError(Failure.REFUSED, f"{type(error).__name__}: {error}") from error
        try:
            connection = self._open()
            _fence(connection, batch)
            _write_rows(connection, rows)
        except NotCommittedError:
            self.close()
            raise
        except psycopg.Error as error:
            self.close()
            raise NotCommittedError(_failure_of(error), _said(error)) from error
        self._commit(connection)

    def _commit(self, connection: Connection) -> None:
        assert connection.info.transaction_status == pq.TransactionStatus.INTRANS
        try:
            status = connection.execute("COMMIT").statusmessage
        except psycopg.Error as error:
            self.close()
            raise OutcomeUnknownError(_said(error)) from error
        if status != "COMMIT":
            self.close()
            raise NotCommittedError(Failure.LOST, f"the server answered {status} to COMMIT")

    def look_up(self, *, epoch: int, seq: int) -> bool:
        """Whether the batch is durable. The shard's row is locked first: its old transaction holds it until its end.

        Raises psycopg.Error while the database cannot say.
        """
        connection = self._open()
        try:
            with connection.transaction():
                connection.execute("SELECT 1 FROM shard WHERE shard = %s FOR UPDATE", (self._shard,))
                found = connection.execute(
                    "SELECT 1 FROM engine_batch WHERE shard = %s AND seq = %s AND epoch = %s", (self._shard, seq, epoch)
                ).fetchone()
        except psycopg.Error:
            self.close()
            raise
        return found is not None

    def halt(self, reason: str, *, epoch: int) -> bool:
        """Leave word for the operator: no engine takes the shard until `halted` is emptied. False, and nothing is written,
        when the shard is another epoch's: it is not ours to halt.
        """
        halting = "UPDATE shard SET halted = %s WHERE shard = %s AND epoch = %s"
        return self._open().execute(halting, (reason, self._shard, epoch)).rowcount == 1

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._connecting(JOURNAL_NAME)
        return self._connection


def _fence(connection: Connection, batch: Batch) -> None:
    """Begin, make sure that the shard is still ours and not halted, and renew the lease. One round trip carries both
    statements: numbers only."""
    cursor = connection.execute(
        f"BEGIN; UPDATE shard SET seq = {batch.seq:d}, lease_until = now() + interval '{LEASE}' "  # noqa: S608
        f"WHERE shard = {batch.shard:d} AND epoch = {batch.epoch:d} AND seq = {batch.seq - 1:d} AND halted = ''".encode()
    )
    cursor.nextset()
    if cursor.rowcount != 1:
        raise _fenced(connection, batch)


def _fenced(connection: Connection, batch: Batch) -> NotCommittedError:
    """Why the shard's row did not let the batch through."""
    found = connection.execute("SELECT epoch, seq, halted FROM shard WHERE shard = %s", (batch.shard,)).fetchone()
    epoch, seq, halted = found or (0, 0, "")
    if (epoch, seq) == (batch.epoch, batch.seq - 1):
        failure = Failure.HALTED if halted else Failure.LOST
        return NotCommittedError(failure, str(halted) or "the shard was halted for a moment")
    owner = f"epoch {batch.epoch} at batch {batch.seq - 1}"
    return NotCommittedError(Failure.FENCED, f"{owner} does not own shard {batch.shard} any more")


def _write_rows(connection: Connection, rows: Rows) -> None:
    with connection.cursor() as cursor:
        for append in rows.appends:
            with cursor.copy(copy_statement(append.table)) as copy:
                copy.write(append.data)
            _expect(cursor.rowcount, append.rows, append.table.name)
        for change in rows.changes:
            cursor.execute(change_statement(change), _columns(change.values), prepare=True)
            _expect(cursor.rowcount, len(change.values), change.table.name)
        if rows.balances:
            cursor.execute(balances_statement(), _columns(rows.balances), prepare=True)
        for parked in rows.parked:
            cursor.execute(parked_statement(), parked)


def _expect(written: int, wanted: int, table: str) -> None:
    if written != wanted:
        raise NotCommittedError(Failure.DIVERGED, f"{wanted} rows of {table} were to be written, {written} were")


def _columns(rows: Sequence[tuple[str | None, ...]]) -> list[list[str | None]]:
    return [list(column) for column in zip(*rows, strict=True)]


_OURS = (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError)
"""What the rows themselves are to blame for. Anything else (lost connection, lock or statement timeout) may pass."""


def _failure_of(error: psycopg.Error) -> Failure:
    return Failure.REFUSED if isinstance(error, _OURS) else Failure.LOST


def _said(error: psycopg.Error) -> str:
    return f"{type(error).__name__}: {str(error).strip()}"


# ----------------------------------------------------------------------------------------------------------- read side


class InboxGap(Struct, frozen=True):
    """A row is missing from a provider's inbox: what follows it must wait."""

    lp: str
    wanted: int
    found: int


class Facts:
    """The read side: what is no longer, or not yet, in memory. Used by the deciding thread; reconnects by itself."""

    def __init__(self, url: str, *, connecting: Connecting | None = None) -> None:
        self._connecting = connecting or (lambda name: connect(url, name=name))
        self._connection: Connection | None = None
        self.gaps: list[InboxGap] = []

    def keys(self, keys: list[tuple[int, str]]) -> dict[tuple[int, str], KeyRecord]:
        """What these (account, key) were used for, as far as they were."""
        if not keys:
            return {}
        rows = self._ask(
            "SELECT k.account, k.key, k.body_hash, k.kind, k.reference, k.refusal FROM engine_key k "
            "JOIN unnest(%s::bigint[], %s::text[]) AS u(account, key) ON k.account = u.account AND k.key = u.key",
            ([account for account, _ in keys], [key for _, key in keys]),
        )
        return {
            (int(str(account)), str(key)): KeyRecord(str(digest), str(kind), int(str(reference)), str(refusal))
            for account, key, digest, kind, reference, refusal in rows
        }

    def legs(self, cl_ord_ids: list[str]) -> dict[str, LpOrder]:
        """The legs of these ClOrdIDs, as far as they exist."""
        if not cl_ord_ids:
            return {}
        rows = self._ask(f"{LEG_QUERY} WHERE cl_ord_id = ANY(%s)", (cl_ord_ids,))
        legs = [leg_from(row) for row in rows]
        return {leg.cl_ord_id: leg for leg in legs}

    def executions(self, named: list[tuple[str, str]]) -> dict[tuple[str, str], list[Execution]]:
        """Per (provider, ExecID) the executions under that name and those that refer to it, as far as there are any; of a
        correction also those about the fill that it corrects."""
        found = self._executions(named)
        corrected = {(x.lp, x.ref) for of in found.values() for x in of if x.kind is ReportKind.CORRECT}
        return {**found, **self._executions(sorted(corrected - set(named)))}

    def _executions(self, named: list[tuple[str, str]]) -> dict[tuple[str, str], list[Execution]]:
        if not named:
            return {}
        columns = [lp for lp, _ in named], [name for _, name in named]
        rows = self._ask(EXECUTIONS_NAMED, (*columns, *columns))
        found: dict[tuple[str, str], list[Execution]] = {}
        for lp, name, *row in rows:
            found.setdefault((str(lp), str(name)), []).append(execution_from(row))
        return found

    def history(self, deal_id: int) -> tuple[tuple[Deal, ...], Position | None]:
        """All deals of the position that this deal belongs to, oldest first, and the position; nothing for no such deal."""
        found = self._ask(f"{DEAL_QUERY} WHERE id = %s", (deal_id,))
        if not found:
            return (), None
        deal = deal_from(found[0])
        of_position = f"{DEAL_QUERY} WHERE account = %s AND position_id = %s ORDER BY id LIMIT %s"
        rows = self._ask(of_position, (deal.account, deal.position_id, HISTORY_ROWS_MAX))
        positions = self._ask(f"{POSITION_QUERY} WHERE id = %s", (deal.position_id,))
        return tuple(deal_from(row) for row in rows), position_from(positions[0]) if positions else None

    def reports(self, cursors: dict[str, int], limit: int) -> list[Taken | Unreadable]:
        """Up to `limit` rows after the providers' cursors, in the cursors' order, contiguous.

        A gap is kept in `gaps` and ends its provider's rows.
        """
        self.gaps = []
        found = self._ask(
            "SELECT c.lp, i.seq, i.report::text FROM unnest(%s::text[], %s::bigint[]) WITH ORDINALITY AS c(lp, seq, turn) "
            "CROSS JOIN LATERAL "
            "(SELECT seq, report FROM lp_inbox WHERE lp = c.lp AND seq > c.seq ORDER BY seq LIMIT %s) i ORDER BY c.turn, i.seq",
            (list(cursors), list(cursors.values()), min(limit, INBOX_ROWS_MAX)),
        )
        expected = {lp: seq + 1 for lp, seq in cursors.items()}
        taken: list[Taken | Unreadable] = []
        for row in found:
            lp, seq, report = str(row[0]), int(str(row[1])), str(row[2])
            if seq == expected[lp]:
                expected[lp] = seq + 1
                taken.append(_report(lp, seq, report))
            elif all(gap.lp != lp for gap in self.gaps):
                self.gaps.append(InboxGap(lp, expected[lp], seq))
        return taken[:limit]

    def inbox_lps(self) -> list[str]:
        """Every provider that ever wrote into its inbox, whether or not the configuration still knows it."""
        return [
            str(lp)
            for (lp,) in self._ask(
                "WITH RECURSIVE t AS (SELECT min(lp) AS lp FROM lp_inbox "
                "UNION ALL SELECT (SELECT min(lp) FROM lp_inbox WHERE lp > t.lp) FROM t WHERE t.lp IS NOT NULL) "
                "SELECT lp FROM t WHERE lp IS NOT NULL",
                (),
            )
        ]

    def hydrated(self, command: AnyCommand) -> AnyCommand:
        """A ReloadConfig with its document; other commands as they are. One that names no version is left without."""
        if not isinstance(command, ReloadConfig) or command.config is not None:
            return command
        try:
            config = load_config(self._open(), command.version)
        except LookupError:
            return command
        return ReloadConfig(
            id=command.id,
            key=command.key,
            account=command.account,
            valid_until_us=command.valid_until_us,
            reply_to=command.reply_to,
            actor=command.actor,
            version=command.version,
            config=config,
        )

    def newest_version(self) -> int:
        """The newest configuration's number, 0 when none was ever published."""
        ((version,),) = self._ask("SELECT coalesce(max(version), 0) FROM config_version", ())
        return int(str(version))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, query: str, parameters: Sequence[object]) -> list[tuple[object, ...]]:
        try:
            return self._open().execute(query.encode(), parameters, prepare=True).fetchall()
        except psycopg.Error:
            self.close()
            raise

    def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._connecting("tribook engine facts")
        return self._connection


EXECUTIONS_NAMED = (
    f"SELECT u.lp, u.name, {EXECUTION_COLUMNS} FROM unnest(%s::text[], %s::text[]) AS u(lp, name) "  # noqa: S608
    "JOIN lp_execution x ON x.lp = u.lp AND x.exec_id = u.name UNION ALL "
    f"SELECT u.lp, u.name, {EXECUTION_COLUMNS} FROM unnest(%s::text[], %s::text[]) AS u(lp, name) "
    "JOIN lp_execution x ON x.lp = u.lp AND x.ref = u.name AND x.ref <> ''"
)

LEG_QUERY = (
    "SELECT id, order_id, account, lp, cl_ord_id, symbol, lp_symbol, side, volume, quantity, position_id, status, "
    "(extract(epoch FROM created_at) * 1000000)::bigint, (extract(epoch FROM updated_at) * 1000000)::bigint, "
    "limit_price, all_or_none, "
    "(extract(epoch FROM expires_at) * 1000000)::bigint, filled_volume, filled_cost, lp_order_id, exec_ids, text, price_shift, "
    "client_price, told_cum, told_end, coalesce((extract(epoch FROM gap_at) * 1000000)::bigint, 0), is_in_case "
    "FROM lp_order"
)


def leg_from(row: Sequence[object]) -> LpOrder:
    """One row of LEG_QUERY."""
    values = dict(zip(LpOrder.__struct_fields__, row, strict=True))
    values["side"] = Side(str(values["side"]))
    values["status"] = LegStatus(str(values["status"]))
    values["told_end"] = LegStatus(str(values["told_end"])) if values["told_end"] else None
    exec_ids = values["exec_ids"]
    assert isinstance(exec_ids, list)
    values["exec_ids"] = tuple(exec_ids)
    return LpOrder(**values)  # type: ignore[arg-type]


def _report(lp: str, seq: int, text: str) -> Taken | Unreadable:
    command_id = f"inbox:{lp}:{seq}"
    try:
        report = decode_report(text)
    except DecodeError as error:
        raw = text.encode()
        return Unreadable(command_id=command_id, raw=raw, error=f"not a report: {error}", lp=lp, inbox_seq=seq)
    if report.lp != lp:
        misplaced = f"the report names provider {report.lp!r}"
        return Unreadable(command_id=command_id, raw=encode(report), error=misplaced, lp=lp, inbox_seq=seq)
    return Taken(ApplyExecution(id=command_id, key=command_id, inbox_seq=seq, report=report))


def with_prior(taken: Taken, prior: Prior | None) -> Taken:
    """The same command with what the database knows about it."""
    return taken if prior is None else Taken(taken.command, taken.stream_id, prior)


def with_facts(reports: Sequence[Taken | Unreadable], facts: Facts, step: Step) -> list[Taken | Unreadable]:
    """The reports with what PostgreSQL knows of their legs that the step does not, and of their executions."""
    said = [t.command for t in reports if isinstance(t, Taken) and isinstance(t.command, ApplyExecution)]
    asked = sorted({command.report.cl_ord_id for command in said})
    legs = facts.legs([cl_ord_id for cl_ord_id in asked if not step.knows_leg(cl_ord_id)])
    corrections = {
        (report.lp, report.exec_id): report.exec_ref_id
        for report in (command.report for command in said)
        if report.kind is ReportKind.CORRECT
    }

    def names_of(report: ExecutionReport) -> list[str]:
        """The ExecIDs that it names; where one is a correction that is not stored yet, also what that one corrects."""
        names = list(names_in(report))
        for name in names:  # grows
            corrected = corrections.get((report.lp, name)) or step.corrected_by(report.lp, name)
            if corrected and corrected not in names:
                names.append(corrected)
        return names

    names = {command.id: names_of(command.report) for command in said}
    known = facts.executions(sorted({(command.report.lp, name) for command in said for name in names[command.id]}))
    return [
        with_prior(t, _prior_of(t.command.report, names[t.command.id], legs, known))
        if isinstance(t, Taken) and isinstance(t.command, ApplyExecution)
        else t
        for t in reports
    ]


def _prior_of(
    report: ExecutionReport,
    names: list[str],
    legs: dict[str, LpOrder],
    known: dict[tuple[str, str], list[Execution]],
) -> Prior:
    executions = related(names, lambda name: known.get((report.lp, name), ()))
    return Prior(leg=legs.get(report.cl_ord_id), executions=tuple(executions.values()))
